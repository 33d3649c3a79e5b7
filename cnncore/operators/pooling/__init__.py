"""Pooling: strategies on windows."""
