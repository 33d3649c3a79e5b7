"""Operators that users wrote in Python: found again by name in files, pickles and copies, and never executed from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import DtypeError, GraphError, ShapeError
from .operator import Call, Implementation, Op
from .registry import find
from .schema import Case

__all__ = ["CustomOp", "FunctionImplementation", "GivenCase", "custom_class", "missing", "registered"]


class CustomOp(Op):
    """An operator written in Python; ``origin`` is the module that defines it."""

    def __reduce__(self) -> Any:
        return registered, (self.name, self.origin)


def custom_class(module: str) -> type[CustomOp]:
    """The class of the operators that a module defines."""
    return type("CustomOp", (CustomOp,), {"origin": module, "__doc__": vars(Op)["__doc__"]})  # each its own docstring


def missing(name: str, origin: str) -> str:
    """What to say where an operator written in Python is asked for by name and nobody has defined it."""
    where = "run the program that defines it" if origin == "__main__" else f"import {origin}, which defines it,"
    return f"operator {name!r} is written in Python and is not registered here: {where} first"


def registered(name: str, origin: str) -> Op:
    """The operator of a name, as it is defined in this process."""
    op = find(name)
    if op is None:
        raise GraphError(missing(name, origin))
    return op


class GivenCase(Case):
    """A case whose arrays all come from ``made(rng)``."""

    def __init__(self, made: Callable[[np.random.Generator], Sequence[Any]], **settings: Any) -> None:
        super().__init__(ranks=(2,), **settings)
        self.made = made

    def sample(self, rank: int, dtype: DTypeLike = np.float64, seed: int = 0) -> tuple[Any, ...]:
        arrays = [np.asarray(a) for a in self.made(np.random.default_rng(seed))]
        return tuple(a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays)


@dataclass(frozen=True)
class FunctionImplementation(Implementation):
    """An operator whose passes are ``forward(*arrays, **settings)`` and ``backward(*arrays, y, dy, **settings)``.

    ``inference(*shapes, **settings)`` gives the shape of y, ``takes`` has the names of the settings that each of forward,
    backward and inference takes.
    """

    forward_function: Callable[..., Any]
    backward_function: Callable[..., Any]
    inference: Callable[..., Any] | None
    takes: tuple[tuple[str, ...], ...]

    def _chosen(self, number: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {name: settings[name] for name in self.takes[number]}

    def infer(self, op: Op, shapes: Sequence[Any], dtype: np.dtype[Any], settings: Any) -> tuple[Any, Any]:
        if self.inference is None:
            return shapes[0], None
        try:
            shape = self.inference(*shapes, **self._chosen(2, settings))
        except TypeError as error:
            if any(None in shape for shape in shapes if shape):
                raise ShapeError(
                    f"{op.name}: infer failed with open extents, which are None, in {shapes} ({error}): let it return None "
                    "for what follows from them, or fix them with g.input(…, size=…)"
                ) from error
            raise
        if not isinstance(shape, (tuple, list)) or not all(
            e is None or (isinstance(e, (int, np.integer)) and e >= 0) for e in shape
        ):
            raise ShapeError(f"{op.name}: infer returned {shape!r}; expected the shape of y, a tuple of integers")
        return tuple(None if e is None else int(e) for e in shape), None

    def forward(self, call: Call, arrays: Sequence[Any], out: Any = None) -> tuple[Any, Any, Any]:
        found = self.forward_function(*map(_read_only, arrays), **self._chosen(0, call.settings))
        y = call.empty(out)
        y[...] = _checked(f"{call.op.name}: forward", found, call.output, "; say the shape of y with infer=")
        return y, (), (tuple(arrays), y)

    def backward(
        self, call: Call, saved: Any, dy: NDArray[Any], needs_gradient: Sequence[bool], out: Any = None
    ) -> Any:
        arrays, y = saved
        given = map(_read_only, (*arrays, y, dy))
        found = self.backward_function(*given, **self._chosen(1, call.settings))
        names = [row.name for row in call.op.arrays if row.differentiable and row.role == "real"]
        parts = (found,) if len(names) == 1 and not isinstance(found, (tuple, list)) else found
        if not isinstance(parts, (tuple, list)) or len(parts) != len(names):
            got = f"{len(parts)} values" if isinstance(parts, (tuple, list)) else type(parts).__name__
            raise ShapeError(
                f"{call.op.name}: backward must return one gradient for each of {', '.join(names)}; it returned {got}. "
                "Arrays without gradient are named in constants="
            )
        named = dict(zip(names, parts, strict=True))
        gradients: list[Any] = []
        for i, row in enumerate(call.op.arrays):
            if not needs_gradient[i]:
                gradients.append(None)
                continue
            gradient = call.gradient(i, out and out[i])
            gradient[...] = _checked(
                f"{call.op.name}: backward, gradient of {row.name},", named[row.name], gradient.shape
            )
            gradients.append(gradient)
        return tuple(gradients)

    def receptive_window(self, call: Call) -> Any:
        return None


def _read_only(array: Any) -> Any:
    """A view that cannot be written to: the arrays belong to the caller, or to other nodes of a plan."""
    view = array.view()
    view.flags.writeable = False
    return view


def _checked(place: str, found: Any, shape: tuple[int, ...], hint: str = "") -> NDArray[Any]:
    array = np.asarray(found)
    if array.dtype.kind not in "fiub":
        raise DtypeError(f"{place} returned {type(found).__name__} of {array.dtype}; expected an array of real numbers")
    if array.shape != shape:
        raise ShapeError(f"{place} returned an array of shape {array.shape}; expected {shape}{hint}")
    return array
