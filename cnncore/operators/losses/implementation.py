"""Losses: one number from an array of predictions and an array of targets."""

from dataclasses import dataclass
from math import prod

import numpy as np

from ...errors import DtypeError, SettingError, ShapeError
from .. import geometry
from ..activation.elementwise import check_axes
from ..arrays.implementation import broadcast, spread
from ..operator import Implementation
from ..shape import reference as shape
from . import reference

__all__ = ["BinaryCrossEntropy", "MeanSquaredError", "NegativeLogLikelihood", "SoftmaxCrossEntropy"]


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Implementation):
    """Cross-entropy of classes along axis 1; targets are class indices, without that axis, or probabilities, with it."""

    saves = ("x", "target")

    def infer(self, op, shapes, dtype, settings):
        x, target, weight = shapes
        geometry.spatial(op.name, x, (0, 1, 2, 3))
        cells = (x[0], *x[2:])
        if not (fits(target, cells) or fits(target, x)):
            raise ShapeError(
                f"{op.name}: target has shape {target}; input {x} needs class indices of shape {cells} or probabilities of "
                f"shape {x}"
            )
        if weight is not None and weight != (x[1],):
            raise ShapeError(f"{op.name}: weight has shape {weight}; {x[1]} classes need shape ({x[1]},)")
        return cells if settings["reduction"] == "none" else (), None

    def forward(self, call, arrays, out=None):
        x, target, weight = arrays
        settings = call.settings
        place = call.op.name
        probabilities = target.ndim == x.ndim
        if probabilities != (target.dtype.kind == "f"):
            raise DtypeError(
                f"{place}: target of shape {target.shape} is {target.dtype}; class indices are integers of shape "
                f"{(x.shape[0], *x.shape[2:])}, probabilities are {x.dtype} of shape {x.shape}"
            )
        entropy = reference.CrossEntropy(x, target, weight, settings["label_smoothing"], settings["ignore_index"])
        check_classes(place, entropy, x, target, settings)
        y = call.empty(out)
        if settings["compat"] == "tf" and settings["reduction"] == "mean" and weight is not None and not probabilities:
            counted = max(np.count_nonzero(target != settings["ignore_index"]), 1)
            total = np.empty((), np.float64)
            entropy.forward("sum", total)
            y[...] = total / counted
            return y, (), (entropy, counted)
        entropy.forward(settings["reduction"], y)
        return y, (), (entropy, 1)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx, dtarget, _ = call.gradients(needs_gradient, out)
        entropy, counted = saved
        dy = dy if counted == 1 else np.asarray(dy, np.float64) / counted
        entropy.backward(call.settings["reduction"] == "none", dy, dx, dtarget)
        return dx, dtarget, None


def check_classes(place, entropy, x, target, settings):
    """Raise where the target holds a number that is neither a class nor ignore_index."""
    wrong = entropy.first_wrong
    if wrong >= 0:
        raise SettingError(
            f"{place}: target holds class {target.flat[wrong]}; {x.shape[1]} classes have indices 0 to "
            f"{x.shape[1] - 1}, and ignore_index={settings['ignore_index']} is ignored"
        )


@dataclass(frozen=True)
class NegativeLogLikelihood(Implementation):
    """Negative log-likelihood of class indices, given log-probabilities of the classes along axis 1."""

    saves = ("x", "target")

    def infer(self, op, shapes, dtype, settings):
        x, target, weight = shapes
        geometry.spatial(op.name, x, (0, 1, 2, 3))
        cells = (x[0], *x[2:])
        if not fits(target, cells):
            raise ShapeError(f"{op.name}: target has shape {target}; input {x} needs class indices of shape {cells}")
        if weight is not None and weight != (x[1],):
            raise ShapeError(f"{op.name}: weight has shape {weight}; {x[1]} classes need shape ({x[1]},)")
        return cells if settings["reduction"] == "none" else (), None

    def forward(self, call, arrays, out=None):
        x, target, weight = arrays
        likelihood = reference.CrossEntropy(x, target, weight, 0.0, call.settings["ignore_index"], True)
        check_classes(call.op.name, likelihood, x, target, call.settings)
        y = call.empty(out)
        likelihood.forward(call.settings["reduction"], y)
        return y, (), likelihood

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        geometry.fill_zero(dx)  # one class of each cell has a gradient
        saved.backward(call.settings["reduction"] == "none", dy, dx, None)
        return dx, None, None


def fits(shape, expected):
    """Whether two shapes agree, open extents aside."""
    return len(shape) == len(expected) and all(a == b or None in (a, b) for a, b in zip(shape, expected, strict=True))


class PairLoss(Implementation):
    """A loss of pairs (x, target), reduced to their sum or mean, or not; geometry: (whether not, the weight of a pair)."""

    saves: tuple[str, ...] | None = ("x", "target")

    def infer(self, op, shapes, dtype, settings):
        x, target = shapes[:2]
        check_axes(op.name, x)
        if not fits(target, x):
            raise ShapeError(f"{op.name}: target has shape {target}; input has {x}: they must be the same")
        each = settings["reduction"] == "none"
        # What each value counts for: open extents give no mean yet.
        share = 1 / max(prod(x), 1) if settings["reduction"] == "mean" and None not in x else 1.0
        return x if each else (), (each, share)


class MeanSquaredError(PairLoss):
    """Σ (x − t)², over the number of values for the mean."""

    def infer(self, op, shapes, dtype, settings):
        y, (each, share) = super().infer(op, shapes, dtype, settings)
        if settings["compat"] == "caffe":
            if settings["reduction"] != "mean":
                raise SettingError(
                    f"{op.name}: compat='caffe' is a mean over images; reduction={settings['reduction']!r} is the same in all "
                    "frameworks: leave compat out"
                )
            x = shapes[0]
            share = 0.5 / max(x[0], 1) if x and x[0] is not None else 0.5
        return y, (each, share)

    def forward(self, call, arrays, out=None):
        x, target = arrays
        y = call.empty(out)
        reference.squared_error(x, target, y, *call.geometry)
        return y, (), (x, target)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, target = saved
        each, share = call.geometry
        dx, dtarget = call.gradients(needs_gradient, out)
        if dx is not None:
            reference.squared_error_gradient(x, target, dy, dx, each, 2 * share)
        if dtarget is not None:
            reference.squared_error_gradient(target, x, dy, dtarget, each, 2 * share)
        return dx, dtarget


class BinaryCrossEntropy(PairLoss):
    """− t log σ(x) − (1 − t) log(1 − σ(x)), averaged or summed; with weights of values and of the positive class."""

    saves = ("x", "target", "weight", "pos_weight")

    def infer(self, op, shapes, dtype, settings):
        for row, given in zip(op.arrays[2:], shapes[2:], strict=True):
            if given is not None and broadcast(op, (shapes[0], given)) != tuple(shapes[0]):
                raise ShapeError(f"{op.name}: {row.name} has shape {given}; it must broadcast to that of x {shapes[0]}")
        return super().infer(op, shapes, dtype, settings)

    def forward(self, call, arrays, out=None):
        x, target, *weights = arrays
        y, (each, share) = call.empty(out), call.geometry
        if all(a is None for a in weights):
            reference.binary_cross_entropy(x, target, y, each, share)
            return y, (), (x, target, None)
        ones = np.ones((), call.dtype)
        weights = tuple(spread(ones if a is None else a, x.shape) for a in weights)
        losses = np.empty(x.shape, np.float64)
        reference.weighted_binary_cross_entropy(x, target, *weights, losses)
        y[...] = losses if each else losses.sum() * share
        return y, (), (x, target, weights)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, target, weights = saved
        each, share = call.geometry
        dx, dtarget, *_ = call.gradients((*needs_gradient[:2], False, False), out)
        if weights is not None:
            slope = np.empty(x.shape, np.float64)
            for gradient, function in (
                (dx, reference.weighted_binary_cross_entropy_gradient),
                (dtarget, reference.weighted_binary_cross_entropy_target_gradient),
            ):
                if gradient is not None:
                    function(x, target, *weights, slope)
                    np.multiply(slope, dy if each else share * float(dy), out=gradient, casting="same_kind")
            return dx, dtarget, None, None
        if dx is not None:
            reference.binary_cross_entropy_gradient(x, target, dy, dx, each, share)
        if dtarget is not None and each:
            np.multiply(x, -dy, out=dtarget)
        elif dtarget is not None:
            shape.scale(x, -share * float(dy), dtarget)
        return dx, dtarget, None, None
