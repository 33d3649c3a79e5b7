"""Losses: one number from an array of predictions and an array of targets."""

from dataclasses import dataclass
from math import prod

import numpy as np

from .. import geometry
from ..errors import DtypeError, SettingError, ShapeError
from ..operator import Kind
from ..ops import loss

__all__ = ["MeanSquaredError", "SoftmaxCrossEntropy"]


@dataclass(frozen=True, slots=True)
class Saved:
    """What backward needs of a cross-entropy: the arrays, the weights in float64, and what the losses were divided by."""

    x: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    divisor: float


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Kind):
    """Classes are axis 1; targets are their numbers, without that axis, or probabilities, with it."""

    saves = ("x", "target")

    def describe(self, op, shapes, dtype, settings):
        x, target, weight = shapes
        geometry.spatial(op.name, x, (0, 1, 2, 3))
        cells = (x[0], *x[2:])
        if not (fits(target, cells) or fits(target, x)):
            raise ShapeError(
                f"{op.name}: target has shape {target}; input {x} needs class numbers of shape {cells} or probabilities of "
                f"shape {x}"
            )
        if weight is not None and weight != (x[1],):
            raise ShapeError(f"{op.name}: weight has shape {weight}; {x[1]} classes need shape ({x[1]},)")
        return cells if settings["reduction"] == "none" else (), None

    def forward(self, call, arrays, out=None):
        x, target, weight = arrays
        settings = call.settings
        place = call.op.name
        classes = x.shape[1]
        probabilities = target.ndim == x.ndim
        if probabilities != (target.dtype.kind == "f"):
            raise DtypeError(
                f"{place}: target of shape {target.shape} is {target.dtype}; class numbers are integers of shape "
                f"{(x.shape[0], *x.shape[2:])}, probabilities are {x.dtype} of shape {x.shape}"
            )
        exact_weight = np.ones(classes) if weight is None else np.ascontiguousarray(weight, np.float64)
        cells = (x.shape[0], 1, *x.shape[2:])
        if not probabilities:
            left_out = target == settings["ignore_index"]
            wrong = ~left_out & ((target < 0) | (target >= classes))
            if wrong.any():
                raise SettingError(
                    f"{place}: target holds class {target[wrong][0]}; {classes} classes are numbered 0 to {classes - 1}, and "
                    f"ignore_index={settings['ignore_index']} is left out"
                )
            target = np.where(left_out, -1, target).reshape(cells)
        losses = np.empty(cells)
        loss.cross_entropy(x, target, exact_weight, settings["label_smoothing"], losses)
        divisor = 1.0
        if settings["reduction"] == "mean":
            # The weights of the targets; for probabilities, which have no one target, the number of cells.
            divisor = float(losses.size) if probabilities else exact_weight[target[target >= 0]].sum()
        y = call.empty(out)
        if settings["reduction"] == "none":
            y[...] = losses.reshape(y.shape)
        else:
            y[...] = losses.sum() / divisor if divisor else 0
        return y, (), Saved(x, target, exact_weight, divisor)

    def backward(self, call, saved, dy, wanted, out=None):
        x, target = saved.x, saved.target
        dlosses = np.empty((x.shape[0], 1, *x.shape[2:]))
        dlosses[...] = dy.reshape(dlosses.shape) if call.output else float(dy) / saved.divisor if saved.divisor else 0
        dx = call.gradient(0, out and out[0]) if wanted[0] else None
        dtarget = call.gradient(1, out and out[1]) if wanted[1] else None
        loss.cross_entropy_gradient(x, target, saved.weight, call.settings["label_smoothing"], dlosses, dx, dtarget)
        return dx, dtarget, None


def fits(shape, expected):
    """Whether two shapes agree, open extents aside."""
    return len(shape) == len(expected) and all(a == b or None in (a, b) for a, b in zip(shape, expected, strict=True))


@dataclass(frozen=True)
class MeanSquaredError(Kind):
    """Σ (x − t)², over the number of values for the mean."""

    saves = ("x", "target")

    def describe(self, op, shapes, dtype, settings):
        x, target = shapes
        if not fits(target, x):
            raise ShapeError(f"{op.name}: target has shape {target}; input has {x}: they must be the same")
        return x if settings["reduction"] == "none" else (), None

    def forward(self, call, arrays, out=None):
        x, target = arrays
        y = call.empty(out)
        difference = np.subtract(x, target, dtype=np.float64)
        difference *= difference
        if call.settings["reduction"] == "none":
            y[...] = difference
        else:
            y[...] = difference.sum() * self._share(call)
        return y, (), (x, target)

    def backward(self, call, saved, dy, wanted, out=None):
        x, target = saved
        dx = np.subtract(x, target, dtype=np.float64)
        dx *= 2 * self._share(call) * dy.astype(np.float64)
        gradients = []
        for argument, sign in ((0, 1), (1, -1)):
            gradients.append(call.gradient(argument, out and out[argument]) if wanted[argument] else None)
            if wanted[argument]:
                gradients[argument][...] = sign * dx
        return tuple(gradients)

    def _share(self, call):
        """What each value counts for."""
        return 1 / max(prod(call.shapes[0]), 1) if call.settings["reduction"] == "mean" else 1.0
