"""Activations that look at several values: of neighbouring channels, along an axis, or with numbers drawn beside them."""

import math
from dataclasses import dataclass

import numpy as np

from ...checks import integer
from ...errors import SettingError, ShapeError
from ...runtime import random
from .. import geometry
from ..operator import Implementation
from . import reference
from .elementwise import check_axes

__all__ = ["BothParts", "Gated", "Hardmax", "Maxout", "RandomSlopes", "Softmax", "Sparsemax"]


class Maxout(Implementation):
    """The maximum of every ``pieces`` adjacent channels."""

    per_image = True
    saves = ("x",)

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        pieces = settings["pieces"]
        check_axes(op.name, x)
        if len(x) < 2:
            raise ShapeError(
                f"{op.name}: input has {len(x)} dimensions {x}; expected (N, C, ...) with channels at axis 1"
            )
        if x[1] is None:
            return (x[0], None, *x[2:]), None
        if x[1] == 0 or x[1] % pieces:
            raise ShapeError(
                f"{op.name}: {x[1]} channels of input {x} are not divisible by pieces={pieces}; give a divisor of {x[1]}, or "
                f"use an input of {-(-x[1] // pieces) * pieces} channels"
            )
        return (x[0], x[1] // pieces, *x[2:]), None

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        reference.maxout_forward_pass(x, y)
        return y, (), (x,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        (x,) = saved
        dx = call.gradient(0, out and out[0])
        reference.maxout_backward_pass(x, dy, dx)
        return (dx,)


def checked_axis(op, shape, settings):
    """The setting ``axis`` as a number from 0, of an input of ``shape``."""
    check_axes(op.name, shape)
    axis = integer(op.name, "axis", settings["axis"])
    if not -len(shape) <= axis < len(shape):
        raise SettingError(
            f"{op.name}: axis {axis} is not an axis of an input {shape} with {len(shape)} dimensions; use "
            f"{-len(shape)} to {len(shape) - 1}"
            if shape
            else f"{op.name}: a scalar has no axis {axis}; use x[None] with axis=0"
        )
    return axis % len(shape)


def with_extent(shape, axis, extent):
    """``shape`` with another extent along ``axis``."""
    return (*shape[:axis], extent, *shape[axis + 1 :])


def part(array, axis, number, extent):
    """The ``number``-th stretch of ``extent`` along ``axis``."""
    return array[(slice(None),) * axis + (slice(number * extent, (number + 1) * extent),)]


class AlongAxis(Implementation):
    """What columns along the setting ``axis`` become; images stay apart unless that is the axis of the images."""

    per_image = True

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        axis = checked_axis(op, x, settings)
        if x[axis] == 0:
            raise ShapeError(f"{op.name}: input {x} is empty along axis {axis}: it has no largest value")
        return x, axis

    def splits_batch(self, call):
        return super().splits_batch(call) and call.settings["axis"] % len(call.output) != 0


@dataclass(frozen=True)
class Softmax(AlongAxis):
    """Softmax along the setting ``axis``, or its logarithm, or that of −x; backward works from y."""

    logarithm: bool = False
    negative: bool = False

    in_place = True
    saves = ("y",)

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        reference.softmax_forward_pass(x, y, call.geometry, self.logarithm, self.negative)
        return y, (), (y,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        (y,) = saved
        dx = call.gradient(0, out and out[0])
        reference.softmax_backward_pass(y, dy, dx, call.geometry, self.logarithm, self.negative)
        return (dx,)


class Sparsemax(AlongAxis):
    """The projection onto the simplex, along the setting ``axis``; backward works from y."""

    saves = ("y",)

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        reference.sparsemax_forward_pass(x, y, call.geometry)
        return y, (), (y,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        (y,) = saved
        dx = call.gradient(0, out and out[0])
        reference.sparsemax_backward_pass(y, dy, dx, call.geometry)
        return (dx,)


class Hardmax(AlongAxis):
    """1 at the first maximum along the setting ``axis``, 0 elsewhere."""

    saves = ()

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        reference.hardmax_forward_pass(x, y, call.geometry)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        geometry.fill_zero(dx)
        return (dx,)


class Gated(Implementation):
    """The first half along the setting ``axis`` times the sigmoid of the second half."""

    per_image = True
    saves = ("x",)

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        axis = checked_axis(op, x, settings)
        if x[axis] is None:
            return x, (axis, None)
        if x[axis] % 2:
            raise ShapeError(
                f"{op.name}: axis {axis} of input {x} has {x[axis]} values, which cannot be split into halves; give an even "
                f"number, such as {x[axis] + 1}"
            )
        half = x[axis] // 2
        return with_extent(x, axis, half), (axis, half)

    def splits_batch(self, call):
        return super().splits_batch(call) and call.geometry[0] != 0

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        axis, half = call.geometry
        y = call.empty(out)
        reference.forward(reference.GATE, (0.0,), part(x, axis, 1, half), y, part(x, axis, 0, half), True)
        return y, (), (x,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        (x,) = saved
        axis, half = call.geometry
        dx = call.gradient(0, out and out[0])
        a, b = part(x, axis, 0, half), part(x, axis, 1, half)
        reference.backward(reference.OPENING, (), b, dy, part(dx, axis, 0, half))
        reference.backward(reference.GATE, (0.0,), b, dy, part(dx, axis, 1, half), a, True)
        return (dx,)


class BothParts(Implementation):
    """The positive and the negative part, one after the other along the setting ``axis``."""

    per_image = True
    saves = ("x",)

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        axis = checked_axis(op, x, settings)
        return with_extent(x, axis, None if x[axis] is None else 2 * x[axis]), axis

    def splits_batch(self, call):
        return super().splits_batch(call) and call.geometry != 0

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        axis = call.geometry
        y = call.empty(out)
        reference.forward(reference.RELU, (), x, part(y, axis, 0, x.shape[axis]))
        reference.forward(reference.NEGATIVE_PART, (), x, part(y, axis, 1, x.shape[axis]))
        return y, (), (x,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        (x,) = saved
        axis = call.geometry
        dx = call.gradient(0, out and out[0])
        positive, negative = (part(dy, axis, number, x.shape[axis]) for number in (0, 1))
        reference.both_parts_backward_pass(x, positive, negative, dx)
        return (dx,)


def drawn_slopes(call, first_image):
    """A slope for each value; of the images of a larger batch from number ``first_image`` on."""
    seed, low, high = (call.settings[name] for name in ("seed", "lower", "upper"))
    slopes = np.empty(call.output, call.dtype)
    if not first_image:
        random.draw_between(seed, low, high, slopes)
        return slopes
    numbers = np.empty(call.output)
    random.fill_uniform(seed, first_image * math.prod(call.output[1:]), numbers)
    for place in geometry.pieces(slopes.shape):
        slopes[place] = low + (high - low) * numbers[place]
    return slopes


class RandomSlopes(Implementation):
    """Leaky ReLU whose slope is drawn for each value in training, between two bounds, and is their mean otherwise."""

    per_image = True
    draws_per_image = True

    def infer(self, op, shapes, dtype, settings):
        x, state = shapes
        check_axes(op.name, x)
        if state is not None and state != x:
            raise ShapeError(f"{op.name}: state has shape {state}; for input {x} it must have the same shape")
        low, high = settings["lower"], settings["upper"]
        if low > high:
            raise SettingError(f"{op.name}: lower={low:g} must not be above upper={high:g}")
        return x, (low + high) / 2

    def forward(self, call, arrays, out=None, first_image=0):
        x, slopes = arrays
        settings = call.settings
        if not settings["training"]:
            slopes = None
        elif slopes is None:
            slopes = drawn_slopes(call, first_image)
        y = call.empty(out)
        reference.forward(reference.LEAKY_RELU, (call.geometry,), x, y, slopes, True)
        if not settings["return_state"]:
            return y, (), (x, slopes)
        return y, (np.full(call.output, call.geometry, call.dtype) if slopes is None else slopes,), (x, slopes)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, slopes = saved
        dx = call.gradient(0, out and out[0])
        reference.backward(reference.LEAKY_RELU, (call.geometry,), x, dy, dx, slopes, True)
        return dx, None
