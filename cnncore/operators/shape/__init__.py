"""Shapes: reshape, pad, slice, shuffle."""
