"""Quantized values."""
