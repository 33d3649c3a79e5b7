"""Typed Cython: the definition of every operator, forward and backward, and the call of its kernel where it has one."""
