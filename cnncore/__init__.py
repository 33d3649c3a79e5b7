"""cnncore: the CPU reference engine for convolutional networks.

Operators (``cnncore.OPS``), each with its explicit backward pass::

    y = cnncore.max_pool(x, kernel_size=3, stride=2)
    y, backward = cnncore.max_pool.with_backward(x, kernel_size=3, stride=2)
    dx = backward(dy)
"""

import importlib
import logging
import sys
import types

try:
    from .runtime import cpu
except ImportError as error:
    from pathlib import Path

    if (Path(__file__).parent / "runtime" / "dispatch.pyx").exists():
        raise ImportError(
            "this is cnncore's source tree, where it is not compiled: run from another directory to use the installed "
            "package, or compile here with `pip install -e .`"
        ) from error
    raise

from ._version import __version__
from .errors import (
    ArrayChangedError,
    CnnError,
    CnnWarning,
    DataError,
    DataWarning,
    DtypeError,
    EnvironmentWarning,
    FileReadError,
    FileWriteError,
    GradientError,
    GraphError,
    KinkError,
    KinkWarning,
    MissingFileError,
    ModelFileError,
    PrecisionWarning,
    SettingError,
    ShapeError,
)
from .operators.registry import GRIDS, OPS, find
from .runtime.threads import get_num_threads, set_num_threads, threads

globals().update(OPS | GRIDS)
logging.getLogger(__name__).addHandler(logging.NullHandler())  # programs decide what is shown, and where

# Imported when first used, which keeps `import cnncore` short: modules, and names with the module they come from.
LAZY = {
    "classify": "vision.classify",
    "distributed": None,
    "explain": "vision.explain",
    "explorers": None,
    "images": "vision.images",
    "io": None,
    "models": None,
    "preprocessing": "vision.preprocessing",
    "sklearn": None,
    "testing": None,
    "train": None,
    "Graph": "nets.build",
    "check_net": "testing.nets",
    "compare": "train.comparison",
    "conv_to_linear": "nets.conversion",
    "linear_to_conv": "nets.conversion",
    "load": "nets.build",
    "operator": "python_operators",
    "pooling_strategy": "python_operators",
    "show_versions": "runtime.versions",
}


class Moved(types.ModuleType):
    """A module under a name by which it is imported too: that of its place in the package is another."""

    def __getattr__(self, name):
        if name.startswith("__") and name != "__all__":  # what the interpreter asks of any module loads nothing
            raise AttributeError(name)
        return getattr(importlib.import_module(f"{__package__}.{LAZY[self.__name__.rpartition('.')[2]]}"), name)


for _name in ("classify", "explain", "images", "preprocessing"):
    sys.modules[f"{__name__}.{_name}"] = Moved(f"{__name__}.{_name}")
sys.modules[f"{__name__}.cpu"] = cpu


def __getattr__(name):
    if name in LAZY:
        path = LAZY[name] or name
        module = importlib.import_module(f"{__name__}.{path}")
        value = globals()[name] = module if path.rpartition(".")[2] == name else getattr(module, name)
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
    "CnnWarning",
    "DataError",
    "DataWarning",
    "EnvironmentWarning",
    "FileReadError",
    "MissingFileError",
    "FileWriteError",
    "DtypeError",
    "GradientError",
    "Graph",
    "GraphError",
    "KinkError",
    "KinkWarning",
    "ModelFileError",
    "PrecisionWarning",
    "SettingError",
    "ShapeError",
    "__version__",
    "check_net",
    "compare",
    "conv_to_linear",
    "cpu",
    "distributed",
    "explain",
    "explorers",
    "get_num_threads",
    "io",
    "linear_to_conv",
    "load",
    "models",
    "operator",
    "pooling_strategy",
    "set_num_threads",
    "show_versions",
    "testing",
    "threads",
    "train",
    *OPS,
    *GRIDS,
]
