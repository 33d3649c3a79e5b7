"""What a report of an error needs to say about the machine: versions, CPU, threads, optional packages."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import TextIO

from .._version import __version__
from . import costs, cpu
from .costs import cpu_model
from .threads import get_num_threads

__all__ = ["OPTIONAL", "show_versions", "versions"]

REQUIRED = ("numpy", "scipy")
# Packages that extras of pyproject.toml bring, and those that cnncore compares itself with.
OPTIONAL = (
    *(
        "Pillow",
        "pooch",
        "onnx",
        "onnxruntime",
        "safetensors",
        "matplotlib",
        "tqdm",
        "scikit-learn",
        "anywidget",
        "mpi4py",
    ),
    *("distributed", "pyarrow", "torch", "jax", "keras"),
)


def versions() -> dict[str, dict[str, str]]:
    """Versions, CPU, threads and optional packages, as text by name in groups.

    Returns
    -------
    dict of str to dict
        "system", "cpu" and "packages". A package that is not installed has the version "none".

    Examples
    --------
    >>> found = versions()
    >>> list(found), found["cpu"]["target"] in found["cpu"]["targets"]
    (['system', 'cpu', 'packages'], True)
    """
    free_threaded = not getattr(sys, "_is_gil_enabled", lambda: True)()
    return {
        "system": {
            "cnncore": __version__,
            "python": platform.python_version() + " free-threaded" * free_threaded,
            "implementation": platform.python_implementation(),
            "executable": sys.executable or "none",
            "platform": platform.platform(),
        },
        "cpu": {
            "model": cpu_model(),
            "cores": str(usable_cores()),
            "target": cpu.target(),
            "targets": ", ".join(cpu.targets()),
            "kernels": str(len(cpu.kernels())),
            "threads": str(get_num_threads()),
            "costs": f"{costs.in_force()} ({costs.origin()})",
            **{name: os.environ[name] for name in sorted(os.environ) if name.startswith("CNNCORE_")},
        },
        "packages": {name: installed_version(name) for name in (*REQUIRED, *OPTIONAL)},
    }


def show_versions(file: TextIO | None = None) -> None:
    """Print what a report of an error should contain: versions, CPU and targets, threads, optional packages.

    Parameters
    ----------
    file : text stream, optional
        Where to print; by default standard output.

    Examples
    --------
    >>> import io, cnncore
    >>> text = io.StringIO()
    >>> cnncore.show_versions(text)
    >>> [line.split()[0] for line in text.getvalue().splitlines() if line.startswith("cnncore")]
    ['cnncore']
    """
    for group in versions().values():
        for name, text in group.items():
            print(f"{name:<16} {text}", file=file)
        print(file=file)


def installed_version(name: str) -> str:
    """The version of a distribution, without importing it; "none" where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def usable_cores() -> int:
    """The number of logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
