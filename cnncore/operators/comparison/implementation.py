"""Comparisons, logical operators, selection by a condition, and conversions between real numbers, integers and booleans."""

from dataclasses import dataclass

import numpy as np

from .. import geometry
from ..activation.elementwise import check_axes
from ..arrays.implementation import MOST_AXES, broadcast, spread, summed_to
from ..operator import Implementation
from . import reference

__all__ = ["Comparison", "Conversion", "Infinite", "Logic", "Negation", "NotANumber", "Where"]


class WithoutGradient(Implementation):
    """An operator whose result is boolean or integer, and therefore has no gradient."""

    per_image = True
    saves = ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        return (None,) * len(call.shapes)

    def splits_batch(self, call):
        return all(len(s) == len(call.output) and s[:1] == call.output[:1] for s in call.shapes)

    def receptive_window(self, call):
        return ((1, 1),) * max(len(call.output) - 2, 0)


class OfOneArray(WithoutGradient):
    """An elementwise operator: y has the shape of x."""

    def infer(self, op, shapes, dtype, settings):
        check_axes(op.name, shapes[0], MOST_AXES)
        return shapes[0], None


@dataclass(frozen=True)
class Comparison(WithoutGradient):
    """Compares x and z with broadcasting; ``outcomes``: y where x is (less, equal, greater, unordered)."""

    outcomes: tuple[int, int, int, int]

    def infer(self, op, shapes, dtype, settings):
        return broadcast(op, shapes), None

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        reference.compare(self.outcomes, *(spread(a, y.shape) for a in arrays), y)
        return y, (), ()


class NotANumber(OfOneArray):
    """Whether x is NaN, which is to say that it is not equal to itself."""

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        reference.compare(reference.UNORDERED, arrays[0], arrays[0], y)
        return y, (), ()


class Infinite(OfOneArray):
    """Whether x is infinite."""

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        reference.infinite(call.settings["negative"], call.settings["positive"], arrays[0], y)
        return y, (), ()


@dataclass(frozen=True)
class Logic(WithoutGradient):
    """y holds where ``both`` x and z do, or where ``one`` of them does alone."""

    both: bool
    one: bool

    def infer(self, op, shapes, dtype, settings):
        return broadcast(op, shapes), None

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        reference.logic(self.both, self.one, *(spread(a, y.shape) for a in arrays), y)
        return y, (), ()


class Negation(OfOneArray):
    """y holds where x does not: where one of x and true does."""

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        reference.logic(False, True, arrays[0], spread(np.array(True), y.shape), y)
        return y, (), ()


class Where(Implementation):
    """x where the condition is true, z elsewhere; all three broadcast."""

    per_image = True
    saves = ("condition",)

    def infer(self, op, shapes, dtype, settings):
        return broadcast(op, shapes), None

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        condition, x, z = (spread(a, y.shape) for a in arrays)
        reference.choose(condition, x, z, y)
        return y, (), (condition,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        gradients = call.gradients((False, *needs_gradient[1:]), out)
        for kept, gradient in ((True, gradients[1]), (False, gradients[2])):
            if gradient is None:
                continue
            whole = gradient if gradient.shape == call.output else np.empty(call.output, call.dtype)
            reference.choose_gradient(saved[0], kept, dy, whole)
            if whole is not gradient:
                summed_to(whole, gradient)
        return gradients

    def splits_batch(self, call):
        return all(len(s) == len(call.output) and s[:1] == call.output[:1] for s in call.shapes)

    def receptive_window(self, call):
        return ((1, 1),) * max(len(call.output) - 2, 0)


BEYOND_INTEGERS = 2.0**63  # the least float64 above every int64


class Conversion(OfOneArray):
    """The same values as real numbers, integers or booleans: what the operator yields."""

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        to_integers = y.dtype == np.int64 and x.dtype.kind == "f"
        for place in geometry.pieces(x.shape):
            part, values = y[(*place, ...)], x[place]
            if not to_integers:
                np.copyto(part, values, casting="unsafe")
                continue
            values = np.nan_to_num(values.astype(np.float64), posinf=np.inf, neginf=-np.inf)  # towards 0
            above = values >= BEYOND_INTEGERS
            np.copyto(part, np.where(above, 0, np.maximum(values, -BEYOND_INTEGERS)), casting="unsafe")
            part[above] = np.iinfo(np.int64).max
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        if not needs_gradient[0]:
            return (None,)
        dx = call.gradient(0, out and out[0])
        geometry.assign(dx, dy)
        return (dx,)
