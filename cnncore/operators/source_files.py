"""Where the source code of an operator is, found from its schema: which files to open in order to read it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .operator import Implementation, Op

__all__ = ["source_files"]


def source_files(op: Op) -> tuple[str, ...]:
    """The files that declare and compute an operator: its schema, its implementation, the Cython modules that it calls.

    Only Cython modules of the same families count, as most implementations also copy arrays by functions of another.

    Parameters
    ----------
    op : Op
        An operator of the registry.

    Returns
    -------
    tuple of str
        Paths from the folder in which the package is.

    Examples
    --------
    >>> from cnncore.operators.registry import OPS
    >>> for file in source_files(OPS["max_pool"]):
    ...     print(file)
    cnncore/operators/pooling/schemas.py
    cnncore/operators/pooling/implementation.py
    cnncore/operators/pooling/reference.pyx
    """
    written = dict.fromkeys([declaring(op), *(type(part).__module__ for part in parts(op.implementation))])
    families = {name.rpartition(".")[0] for name in written}
    families |= {
        module_of(value).rpartition(".")[0] for part in parts(op.implementation) for value in vars(part).values()
    }
    called = dict.fromkeys(compiled_modules(op.implementation))
    near = [name for name in called if name.rpartition(".")[0] in families]
    paths = [name.replace(".", "/") for name in (*written, *(near or called))]
    return tuple(path + (".py" if number < len(written) else ".pyx") for number, path in enumerate(paths))


def declaring(op: Op) -> str:
    """The module among whose schemas the operator is; a pooling that a grid makes is declared by its strategy's module."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{__package__}.") and name.endswith(".schemas"):
            rows = [row for value in vars(module).values() if isinstance(value, tuple) for row in value]
            if any(row is op for row in rows):
                return name
    return f"{__package__}.{op.group}.schemas"


def parts(implementation: Implementation) -> Iterator[Implementation]:
    """An implementation and those that it is made of."""
    yield implementation
    for value in vars(implementation).values():
        if isinstance(value, Implementation):
            yield from parts(value)


def compiled_modules(implementation: Implementation) -> Iterator[str]:
    """The Cython modules that an implementation calls, itself or by other functions of the operators."""
    waiting: list[Any] = [implementation]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if is_compiled(module_of(value)):
            yield module_of(value)
        elif isinstance(value, Implementation):
            waiting += [type(value), *vars(value).values()]
        elif isinstance(value, type) and module_of(value).startswith(__package__) and value not in (Implementation, Op):
            waiting += [*vars(value).values(), *value.__bases__]
        elif isinstance(value, FunctionType):
            waiting += [value.__globals__[name] for name in names_in(value.__code__) if name in value.__globals__]
        else:  # of a method of a class, a property, a cached or a partial function: the function itself
            waiting += [
                getattr(value, name) for name in WRAPPED if isinstance(getattr(value, name, None), FunctionType)
            ]


WRAPPED = ("__func__", "fget", "func", "__wrapped__")


def module_of(value: Any) -> str:
    """The name of the module that a value is, or that it comes from."""
    if isinstance(value, ModuleType):
        return value.__name__
    own = getattr(value, "__module__", None)
    return own if isinstance(own, str) else ""


def names_in(code: CodeType) -> Iterator[str]:
    """The global names of a function, and of the functions in it."""
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from names_in(part)


def is_compiled(name: str) -> bool:
    """Whether a module is one of the operators' Cython modules."""
    file = getattr(sys.modules.get(name), "__file__", None) or ".py"
    return name.startswith(f"{__package__}.") and not file.endswith((".py", ".pyc"))
