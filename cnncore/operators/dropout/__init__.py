"""Dropout in all its forms."""
