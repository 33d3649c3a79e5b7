"""Rows of the convolution variants."""

__all__ = ["ROWS"]

ROWS = ()
