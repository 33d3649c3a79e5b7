"""Joins of several arrays: concatenation and addition (arrays of extent 1 along an axis are broadcast)."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...checks import integer
from ...errors import SettingError, ShapeError
from .. import geometry
from ..activation import reference as activation
from ..arrays import arithmetic
from ..arrays.implementation import broadcast, spread, summed_to
from ..operator import Implementation
from ..shape import reference as shape
from ..shape.implementation import MOST_COPIED_AXES

__all__ = ["Concatenation", "Sum"]

LARGEST_RANK = 8


def check_rank(op, shapes):
    """Raise unless all arrays have the same number of dimensions, 1 to 8."""
    for i, other in enumerate(shapes):
        if not 1 <= len(other) <= LARGEST_RANK:
            raise ShapeError(f"{op.name}: array {i} has {len(other)} dimensions {other}; expected 1 to {LARGEST_RANK}")
        if len(other) != len(shapes[0]):
            raise ShapeError(
                f"{op.name}: arrays of different numbers of dimensions: array 0 has shape {shapes[0]}, array {i} {other}"
            )


def common_extents(op, shapes, but=None):
    """The extents that all arrays share, axis ``but`` aside; an extent open in one array follows from the others."""
    merged = list(shapes[0])
    for i, other in enumerate(shapes):
        for axis, extent in enumerate(other):
            if axis == but or extent is None:
                continue
            if merged[axis] is None:
                merged[axis] = extent
            elif merged[axis] != extent:
                away = "" if but is None else f" away from axis {but}"
                raise ShapeError(
                    f"{op.name}: arrays must agree{away}: array 0 has shape {shapes[0]}, array {i} {other}, "
                    f"different along axis {axis}"
                )
    return merged


class Concatenation(Implementation):
    """y holds the arrays one after the other along ``axis``; geometry: the index into y of each."""

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        check_rank(op, shapes)
        rank = len(shapes[0])
        axis = integer(op.name, "axis", settings["axis"], -rank)
        if axis >= rank:
            raise SettingError(
                f"{op.name}: axis {axis} does not exist in arrays of shape {shapes[0]}; use {-rank} to {rank - 1}"
            )
        axis %= rank
        output = common_extents(op, shapes, but=axis)
        extents = [s[axis] for s in shapes]
        if None in extents:
            output[axis] = None
            return tuple(output), None
        ends = np.cumsum([0, *extents]).tolist()
        output[axis] = ends[-1]
        before = (slice(None),) * axis
        return tuple(output), tuple((*before, slice(lo, hi)) for lo, hi in pairwise(ends))

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        if y.ndim <= MOST_COPIED_AXES:
            shape.join(arrays, len(call.geometry[0]) - 1, y)
        else:
            for x, index in zip(arrays, call.geometry, strict=True):
                geometry.assign(y[index], x)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        axis = len(call.geometry[0]) - 1
        gradients = call.gradients(needs_gradient, out)
        if dy.ndim > MOST_COPIED_AXES:
            for dx, index in zip(gradients, call.geometry, strict=True):
                if dx is not None:
                    geometry.assign(dx, dy[index])
            return gradients
        # Of those nobody wants the extent alone says where the next one begins.
        shape.part(dy, axis, [call.shapes[i][axis] if g is None else g for i, g in enumerate(gradients)])
        return gradients

    def parts(self, call):
        return call.geometry


@dataclass(frozen=True)
class Sum(Implementation):
    """y = Σ c_j x_j."""

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        check_rank(op, shapes)
        coefficients = settings["coefficients"]
        if coefficients is None:
            coefficients = (1.0,) * len(shapes)
        if len(coefficients) != len(shapes):
            raise SettingError(
                f"{op.name}: {len(coefficients)} coefficients {coefficients} for {len(shapes)} arrays; give one for each"
            )
        single = any(1 in (s[axis] for s in shapes) for axis in range(len(shapes[0])))
        output = broadcast(op, shapes) if single else tuple(common_extents(op, shapes))
        return output, np.array(coefficients, np.float64)

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        if y.ndim > MOST_COPIED_AXES:
            for place in geometry.pieces(y.shape):
                part = y[place]
                part[...] = 0
                for x, coefficient in zip(arrays, call.geometry, strict=True):
                    values = spread(x, y.shape)[place]
                    part += values if coefficient == 1 else values * coefficient.astype(y.dtype)
            return y, (), ()
        if len(arrays) == 2 and arrays[1].shape != y.shape == arrays[0].shape and (call.geometry == 1).all():
            activation.forward(arithmetic.ADD, (0.0,), arrays[0], y, spread(arrays[1], y.shape), True)
            return y, (), ()
        shape.add([spread(x, y.shape) for x in arrays], call.geometry, y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        gradients = call.gradients(needs_gradient, out)
        for coefficient, dx in zip(call.geometry, gradients, strict=True):
            if dx is None:
                continue
            if dx.shape == dy.shape and dy.ndim > MOST_COPIED_AXES:
                for place in geometry.pieces(dx.shape):
                    np.multiply(dy[place], coefficient.astype(dy.dtype), out=dx[place])
            elif dx.shape == dy.shape:
                shape.scale(dy, coefficient, dx)
            else:
                summed_to(dy, dx)
                dx *= coefficient
        return gradients

    def splits_batch(self, call):
        return all(s[0] == call.output[0] for s in call.shapes)
