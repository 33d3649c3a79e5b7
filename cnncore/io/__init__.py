"""Files of other programs: ONNX, safetensors, weights by name.

Each name is imported with its module when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .onnx_export import save_onnx
    from .onnx_import import load_onnx
    from .weights import WeightsReport, load_safetensors, load_weights, save_safetensors

LAZY = {
    "WeightsReport": "weights",
    "load_onnx": "onnx_import",
    "load_safetensors": "weights",
    "load_weights": "weights",
    "save_onnx": "onnx_export",
    "save_safetensors": "weights",
}


def __getattr__(name: str) -> Any:
    if name in LAZY:
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{LAZY[name]}"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY})


__all__ = ["WeightsReport", "load_onnx", "load_safetensors", "load_weights", "save_onnx", "save_safetensors"]
