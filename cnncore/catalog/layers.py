"""Rows of the other layers: normalisation, joins, shape, losses."""

__all__ = ["ROWS"]

ROWS = ()
