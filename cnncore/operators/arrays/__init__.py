"""Arithmetic, reductions and constants."""
