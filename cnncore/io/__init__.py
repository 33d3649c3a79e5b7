"""Files of other programs: ONNX.

Each name is imported with its module when it is first used.
"""

import importlib

LAZY = {
    "save_onnx": "onnx_export",
}


def __getattr__(name):
    if name in LAZY:
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{LAZY[name]}"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *LAZY})


__all__ = ["save_onnx"]
