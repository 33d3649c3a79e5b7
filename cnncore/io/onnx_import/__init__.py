"""Nets from ONNX files: a file becomes checked plain data, its nodes those of a graph, computed sizes open extents."""

from . import array_operators, attention, quantized  # noqa: F401  they register the functions of their operators
from .load import load_onnx

__all__ = ["load_onnx"]
