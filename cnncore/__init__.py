"""cnncore: the CPU reference engine for convolutional networks.

Operators (``cnncore.OPS``), each with its explicit backward pass::

    y = cnncore.max_pool(x, kernel_size=3, stride=2)
    y, backward = cnncore.max_pool.with_backward(x, kernel_size=3, stride=2)
    dx = backward(dy)
"""

import importlib

try:
    from . import cpu
except ImportError as error:
    from pathlib import Path

    if (Path(__file__).parent / "ops" / "dispatch.pyx").exists():
        raise ImportError(
            "this is cnncore's source tree, where it is not compiled: run from another directory to use the installed "
            "package, or compile here with `pip install -e .`"
        ) from error
    raise

from ._version import __version__
from .catalog import GRIDS, OPS, find
from .errors import (
    ArrayChangedError,
    CnnError,
    DataError,
    DtypeError,
    GradientError,
    GraphError,
    KinkError,
    KinkWarning,
    ModelFileError,
    SettingError,
    ShapeError,
)
from .threads import get_num_threads, set_num_threads, threads

globals().update(OPS | GRIDS)

# Imported when first used, which keeps `import cnncore` short: modules, and names with the module they come from.
LAZY = {
    "explain": None,
    "io": None,
    "models": None,
    "testing": None,
    "train": None,
    "Graph": "graph",
    "conv_to_linear": "conversion",
    "linear_to_conv": "conversion",
    "load": "graph",
}


def __getattr__(name):
    if name in LAZY:
        module = importlib.import_module(f"{__name__}.{LAZY[name] or name}")
        value = globals()[name] = getattr(module, name) if LAZY[name] else module
        return value
    op = find(name)  # a point of a grid: cnncore.fractional_gem_pool
    if op is not None:
        return op
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *LAZY})


__all__ = [
    "OPS",
    "ArrayChangedError",
    "CnnError",
    "DataError",
    "DtypeError",
    "GradientError",
    "Graph",
    "GraphError",
    "KinkError",
    "KinkWarning",
    "ModelFileError",
    "SettingError",
    "ShapeError",
    "__version__",
    "conv_to_linear",
    "cpu",
    "explain",
    "get_num_threads",
    "io",
    "linear_to_conv",
    "load",
    "models",
    "set_num_threads",
    "testing",
    "threads",
    "train",
    *OPS,
    *GRIDS,
]
