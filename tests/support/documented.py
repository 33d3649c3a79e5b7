"""Every public name, as tests that walk what is documented need it."""

import importlib.util
import inspect

import cnncore
from cnncore.nets.net import Net
from cnncore.operators.registry import GRIDS

MODULES = (
    "models",
    "testing",
    "io",
    "train",
    "explain",
    "cpu",
    "distributed",
    "explorers",
    "classify",
    "preprocessing",
    "images",
    "testing.conformance",
    *(["sklearn"] if importlib.util.find_spec("sklearn") else []),
)
OPERATORS = {*cnncore.OPS, *GRIDS}  # test_registry.py reads what is made of their schemas


def exported():
    """Path and thing of every public name that is a function or a class, and of Net, which is made by others."""
    yield "Net", Net
    for module, prefix in [(cnncore, ""), *((importlib.import_module(f"cnncore.{m}"), f"{m}.") for m in MODULES)]:
        for name in module.__all__:
            thing = getattr(module, name)
            if prefix or name not in OPERATORS:
                exception = inspect.isclass(thing) and issubclass(thing, BaseException)
                if (inspect.isclass(thing) or inspect.isroutine(thing)) and not exception:
                    yield prefix + name, thing


def methods(thing):
    """Name and function of every public method that cnncore defines; properties have no parameters."""
    for name in dir(thing):
        found = inspect.getattr_static(thing, name, None)
        function = getattr(found, "__func__", found)  # of a class method or a static method
        if not name.startswith("_") and inspect.isfunction(function) and function.__module__.startswith("cnncore"):
            yield name, getattr(thing, name)


def documented():
    """Path → thing, each thing once, under its shortest path."""
    paths = {}
    for path, thing in exported():
        inner = [(f"{path}.{name}", method) for name, method in methods(thing)] if inspect.isclass(thing) else []
        for each, found in [(path, thing), *inner]:
            paths.setdefault(each, found)
    return paths
