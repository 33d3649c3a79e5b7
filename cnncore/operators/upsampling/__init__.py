"""Upsampling and resizing."""
