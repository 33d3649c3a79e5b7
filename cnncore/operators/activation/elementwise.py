"""Elementwise operators: y = f(x), the same formula for every value."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import ShapeError
from ..operator import Implementation
from . import reference

__all__ = ["Elementwise", "Parametric", "check_axes", "with_few_axes"]

MOST_AXES = 8  # of arrays whose values do not meet their neighbours
MOST_LOOPED_AXES = 5  # of the loops: N, C and three spatial axes


def check_axes(place, shape, most=MOST_LOOPED_AXES):
    """Raise unless an array of ``shape`` has no more than ``most`` axes, by default those of an image with three spatial ones."""
    if len(shape) > most:
        raise ShapeError(
            f"{place}: input has {len(shape)} dimensions {shape}; expected at most {most}: use x.reshape(...)"
        )


def with_few_axes(*arrays):
    """Arrays of one shape as tuples of parts that loops over five axes take, and that together are all of them.

    Axes along which all arrays lie evenly become one; where more than five remain, each place along the first is a part.
    """
    shape = arrays[0].shape
    if len(shape) <= MOST_LOOPED_AXES:
        yield arrays
        return
    for axis in range(len(shape) - 1):
        inner = shape[axis + 1]
        if 1 in (shape[axis], inner) or all(a.strides[axis] == a.strides[axis + 1] * inner for a in arrays):
            merged = (*shape[:axis], shape[axis] * inner, *shape[axis + 2 :])
            yield from with_few_axes(*(a.reshape(merged) for a in arrays))
            return
    for place in range(shape[0]):
        yield from with_few_axes(*(a[place] for a in arrays))


@dataclass(frozen=True)
class Elementwise(Implementation):
    """``function`` on every value; ``numbers`` names the settings passed to it.

    Where a setting decides about the function, ``function`` is a callable that takes the settings and returns it. Where the
    numbers are not settings themselves, ``numbers`` is a callable that takes the operator's name and the settings, checks
    what concerns several of them, and returns the numbers. ``of_y``: f′ at y is f′ at x, so backward keeps y instead of x.
    """

    function: reference.Activation | Callable
    numbers: tuple[str, ...] | Callable = ()
    of_y: bool = False

    per_image = True
    in_place = True

    @property
    def saves(self):
        return ("y",) if self.of_y else ("x",)

    def infer(self, op, shapes, dtype, settings):
        check_axes(op.name, shapes[0], MOST_AXES)
        return shapes[0], self.choose(op, settings)

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        for part, part_y in with_few_axes(x, y):
            reference.forward(*call.geometry, part, part_y)
        return y, (), (y if self.of_y else x,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        (x,) = saved
        dx = call.gradient(0, out and out[0])
        for part in with_few_axes(x, dy, dx):
            reference.backward(*call.geometry, *part)
        return (dx,)

    def choose(self, op, settings):
        """The function of a call and its numbers."""
        function = self.function if isinstance(self.function, reference.Activation) else self.function(settings)
        if callable(self.numbers):
            return function, self.numbers(op.name, settings)
        return function, tuple(float(settings[name]) for name in self.numbers)


@dataclass(frozen=True)
class Parametric(Implementation):
    """``function`` on every value of x, its first number p learned: one for all, or one per channel (axis 1) of x.

    Arrays are x and ``parameter``; where that is optional and left out, the setting ``otherwise`` takes its place.
    """

    function: reference.Activation
    parameter: str
    otherwise: str | None = None

    per_image = True
    in_place = True

    @property
    def saves(self):
        return ("x", self.parameter)

    def infer(self, op, shapes, dtype, settings):
        x, p = shapes
        check_axes(op.name, x)
        if p is not None and p not in ((), (1,)):
            channels = x[1] if len(x) > 1 else 1
            if len(p) != 1 or (channels is not None and p[0] != channels):
                raise ShapeError(
                    f"{op.name}: {self.parameter} has shape {p}; expected one number (1,) or one per channel "
                    f"({channels},) of an input {x}"
                )
        return x, (self.function, (float(settings[self.otherwise]) if self.otherwise else 0.0,))

    def forward(self, call, arrays, out=None):
        x, p = arrays
        y = call.empty(out)
        reference.forward(*call.geometry, x, y, p)
        return y, (), (x, p)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, p = saved
        dx = call.gradient(0, out and out[0])
        if p is None or not needs_gradient[1]:
            reference.backward(*call.geometry, x, dy, dx, p)
            return dx, None
        dp = call.gradient(1, out and out[1])
        shares = reference.backward_with_parameter(*call.geometry, x, np.ascontiguousarray(p), dy, dx)
        dp[...] = shares.sum() if p.size == 1 else shares.sum(axis=0)
        return dx, dp
