"""Nets as ONNX files: one short function per operator, in a registry keyed by the operator's name."""

from . import arrays, comparison, compositions, indexing, quantized  # noqa: F401  they register what they write
from .export import save_onnx

__all__ = ["save_onnx"]
