"""Normalisation: by statistics over sets of values, and by neighbouring channels."""

import math
from dataclasses import dataclass, replace

import numpy as np

from ...errors import SettingError, ShapeError
from .. import geometry
from ..operator import Implementation
from ..shape import reference as shape
from ..shape.implementation import channels_innermost
from . import reference

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm", "LocalResponseNorm", "PlaneResponseNorm", "Scale", "last_axes"]

RANKS = (0, 1, 2, 3)
MOST_AXES = 8  # where the last axes are normalised, whatever those before them are


def check_per_channel(op, shapes):
    """Raise unless every array after x holds one number per channel."""
    x, *others = shapes
    for row, given in zip(op.arrays[1:], others, strict=True):
        if given is not None and given != (x[1],):
            raise ShapeError(
                f"{op.name}: {row.name} has shape {given}; input {x} has {x[1]} channels, so {row.name} must have shape ({x[1]},)"
            )


@dataclass(frozen=True, slots=True)
class Saved:
    """What a normalisation's backward needs: x, w, the statistics, and whether they were given; those of a part of a batch also
    what merges sums with the other parts', and the number of values in all of them.
    """

    x: np.ndarray
    w: np.ndarray | None
    statistics: reference.Statistics
    constant: bool
    synchronize: object = None
    members: int = 0


class Normalization(Implementation):
    """What batch and group normalisation share: y and the gradients from the statistics of each set.

    ``call.geometry`` is the sets, an ops.norm.Normalization; None while an extent is open.
    """

    per_image = True
    saves = ("x", "w")

    def eps(self, call):
        """What is added to the variances."""
        return call.settings["eps"]

    def normalized(self, call, x, w, b, statistics, constant, out):
        """y, and what backward needs."""
        y = call.empty(out)
        call.geometry.forward(x, w, b, statistics, self.eps(call), y)
        return y, Saved(x, w, statistics, constant)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx, dw, db, *rest = call.gradients(needs_gradient, out)
        call.geometry.backward(saved.x, saved.w, saved.statistics, self.eps(call), saved.constant, dy, dx, dw, db)
        return (dx, dw, db, *rest)


@dataclass(frozen=True)
class BatchNorm(Normalization):
    """One set per channel, over all images; running statistics stand in for it outside training."""

    normalizes_batch = True

    def infer(self, op, shapes, dtype, settings):
        x = shapes[0]
        geometry.spatial(op.name, x, RANKS)
        check_per_channel(op, shapes)
        if not settings["training"] and (shapes[3] is None or shapes[4] is None):
            raise SettingError(
                f"{op.name}: training=False normalises by running_mean and running_var of shape ({x[1]},), but "
                f"{'running_mean' if shapes[3] is None else 'running_var'} is missing"
            )
        return x, None if None in x else reference.Normalization(x, x[1], True)

    def forward(self, call, arrays, out=None, synchronize=None):
        x, w, b, running_mean, running_var = arrays
        settings = call.settings
        training = settings["training"]
        sets = call.geometry
        statistics, m = sets.statistics(x) if training else sets.given(running_mean, running_var), sets.members
        if synchronize is not None:
            statistics, m = self.merged(sets, statistics, synchronize)
        y, saved = self.normalized(call, x, w, b, statistics, not training, out)
        if synchronize is not None:
            saved = replace(saved, synchronize=synchronize, members=m)
        if not settings["return_statistics"]:
            return y, (), saved
        mean, variance = sets.given(running_mean, running_var).arrays()
        if training:
            now_mean, now_variance = statistics.arrays()
            if m > 0:
                mean += settings["momentum"] * (now_mean - mean)
            if m > 1:  # one value per channel says nothing about the variance
                unbiased = m / (m - 1) if settings["compat"] is None else 1.0
                variance += settings["momentum"] * (now_variance * unbiased - variance)
        return y, (mean.astype(call.dtype), variance.astype(call.dtype)), saved

    @staticmethod
    def merged(sets, statistics, synchronize):
        """(μ and σ² of all parts of the batch, their number of values)."""
        mean, variance = statistics.arrays()
        count = np.full_like(mean, sets.members)
        count, mean, squares = synchronize("moments", np.stack([count, mean, variance * sets.members]))
        members = int(count[0]) if len(count) else 0
        return sets.given(mean, squares / max(members, 1)), members

    def backward(self, call, saved, dy, needs_gradient, out=None):
        if saved.synchronize is None:
            return super().backward(call, saved, dy, needs_gradient, out)
        # dx = w / √(σ² + ε) (dy − Σ dy / m − x̂ Σ dy x̂ / m) with sums over all parts: w dy / √(σ² + ε), as if μ and σ² were
        # constants, and an affine map of x̂. dw and db are those of this part.
        dx, dw, db, *rest = call.gradients(needs_gradient, out)
        sets, eps = call.geometry, self.eps(call)
        sums = np.zeros((2, call.shapes[0][1]))
        sets.backward(saved.x, saved.w, saved.statistics, eps, True, dy, dx, sums[1], sums[0])
        for gradient, found in ((dw, sums[1]), (db, sums[0])):
            if gradient is not None:
                gradient[...] = found
        total, weighted = saved.synchronize("sums", sums)
        if dx is not None:
            scale = -((saved.statistics.arrays()[1] + eps) ** -0.5) / max(saved.members, 1)
            if saved.w is not None:
                scale = scale * saved.w
            through_statistics = np.empty_like(dx)
            sets.forward(saved.x, scale * weighted, scale * total, saved.statistics, eps, through_statistics)
            dx += through_statistics
        return (dx, dw, db, *rest)

    def is_affine(self, call):
        return not (call.settings["training"] or call.settings["return_statistics"])

    def affine(self, call, arrays):
        _, w, b, running_mean, running_var = arrays
        scale = 1 / np.sqrt(running_var.astype(np.float64) + self.eps(call))
        if w is not None:
            scale *= w
        return scale, (0.0 if b is None else b) - running_mean * scale


@dataclass(frozen=True)
class GroupNorm(Normalization):
    """One set per image and group of channels. ``groups`` is the setting that says how many, or that number, or None:
    one group per channel.
    """

    groups: str | int | None

    def infer(self, op, shapes, dtype, settings):
        x = shapes[0]
        geometry.spatial(op.name, x, RANKS)
        check_per_channel(op, shapes)
        groups = settings[self.groups] if isinstance(self.groups, str) else self.groups or x[1]
        if x[1] is not None and x[1] % groups:
            raise ShapeError(
                f"{op.name}: {x[1]} channels of input {x} are not divisible by groups={groups}; give a divisor of {x[1]}"
            )
        return x, None if None in x else reference.Normalization(x, groups, False)

    def forward(self, call, arrays, out=None):
        x, w, b = arrays
        y, saved = self.normalized(call, x, w, b, call.geometry.statistics(x), False, out)
        return y, (), saved


def last_axes(shapes, settings):
    """The extents of the last axes over which a layer normalisation has numbers w and b per value: of ``normalized_shape``, or
    those of w or b where they are given so; None where they hold one number per channel.
    """
    if settings["normalized_shape"] is not None:
        return settings["normalized_shape"]
    return next((given for given in shapes[1:] if given is not None and len(given) > 1), None)


class LayerNorm(GroupNorm):
    """One set per image, scaled by channel or by value; or with ``normalized_shape`` one per place of all axes but the last ones,
    scaled by place within them: these are then the channels of images that have nothing else.
    """

    def infer(self, op, shapes, dtype, settings):
        last = last_axes(shapes, settings)
        if last is None:
            return super().infer(op, shapes, dtype, settings)
        x, *others = shapes
        whole = settings["normalized_shape"] is None
        if whole:
            geometry.spatial(op.name, x, RANKS)
        if (whole and len(last) != len(x) - 1) or not ends_in(x, last):
            if whole:
                fewer = (
                    f"; to normalise over the last axes alone give normalized_shape={last}" if ends_in(x, last) else ""
                )
                raise ShapeError(
                    f"{op.name}: w or b has shape {last}; images {x} need one number per channel, ({x[1]},), or one per value, "
                    f"{x[1:]}{fewer}"
                )
            raise ShapeError(
                f"{op.name}: input {x} does not end in normalized_shape {last}; it has at most {MOST_AXES} axes, the last "
                "ones of these extents"
            )
        for row, given in zip(op.arrays[1:], others, strict=True):
            if given is not None and given != last:
                needs = f"that of {op.arrays[1].name}, {last}," if whole else f"normalized_shape {last}"
                raise ShapeError(f"{op.name}: {row.name} has shape {given}; {needs} needs the same shape")
        return x, None if None in x else reference.Normalization(self.flat(x, last), 1, False)

    @staticmethod
    def flat(x, last):
        """(places, values normalised together)."""
        return math.prod(x[: len(x) - len(last)]), math.prod(last)

    def forward(self, call, arrays, out=None):
        last = last_axes(call.shapes, call.settings)
        if last is None:
            return super().forward(call, arrays, out)
        x, *learned = arrays
        x = geometry.contiguous(x).reshape(self.flat(x.shape, last))
        w, b = (None if a is None else a.reshape(-1) for a in learned)
        statistics = call.geometry.statistics(x)
        flat = np.empty(x.shape, x.dtype)
        call.geometry.forward(x, w, b, statistics, self.eps(call), flat)
        y = call.empty(out)
        geometry.assign(y, flat.reshape(y.shape))
        return y, (), Saved(x, w, statistics, False)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        if last_axes(call.shapes, call.settings) is None:
            return super().backward(call, saved, dy, needs_gradient, out)
        gradients = call.gradients(needs_gradient, out)
        flat = [
            None if g is None else np.empty(saved.x.shape if i == 0 else saved.x.shape[1:], g.dtype)
            for i, g in enumerate(gradients)
        ]
        dy = geometry.contiguous(dy).reshape(saved.x.shape)
        call.geometry.backward(saved.x, saved.w, saved.statistics, self.eps(call), saved.constant, dy, *flat)
        for gradient, found in zip(gradients, flat, strict=True):
            if gradient is not None:
                geometry.assign(gradient, found.reshape(gradient.shape))
        return gradients

    def splits_batch(self, call):
        last = last_axes(call.shapes, call.settings)
        return last is None or len(call.output) > len(last)


def ends_in(x, last):
    """Whether the last axes of x, at most MOST_AXES, have these extents; open ones have any."""
    return len(last) <= len(x) <= MOST_AXES and all(
        H in (None, want) for H, want in zip(x[len(x) - len(last) :], last, strict=True)
    )


@dataclass(frozen=True)
class Scale(Normalization):
    """w x + b per channel: normalisation by mean 0 and variance 1, with nothing added."""

    def infer(self, op, shapes, dtype, settings):
        x = shapes[0]
        geometry.spatial(op.name, x, RANKS)
        check_per_channel(op, shapes)
        return x, None if None in x else reference.Normalization(x, x[1], True)

    def eps(self, call):
        return 0.0

    def forward(self, call, arrays, out=None):
        x, w, b = arrays
        y, saved = self.normalized(call, x, w, b, call.geometry.given(None, None), True, out)
        return y, (), saved

    def is_affine(self, call):
        return True

    def affine(self, call, arrays):
        _, w, b = arrays
        channels = call.shapes[0][1]
        return (np.ones(channels) if w is None else w.astype(np.float64)), (np.zeros(channels) if b is None else b)


@dataclass(frozen=True)
class LocalResponseNorm(Implementation):
    """Each value by the squares of its neighbours in the channel direction."""

    per_image = True
    saves = ("x",)

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        geometry.spatial(op.name, x, RANKS)
        size, compat = settings["size"], settings["compat"]
        if size % 2 == 0 and compat in ("tf", "caffe"):
            raise SettingError(f"{op.name}: size is {size}; with compat={compat!r} it is odd, the same on both sides")
        before, after = size // 2, (size - 1) // 2
        if compat == "onnx":
            before, after = after, before
        return x, reference.ResponseNormalization(before, after, each_alpha(settings), settings["beta"], settings["k"])

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        call.geometry.forward(in_order_of(y, x), y)
        return y, (), (x,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        (x,) = saved
        dx = call.gradient(0, out and out[0])
        call.geometry.backward(in_order_of(dx, x), in_order_of(dx, dy), dx)
        return (dx,)


@dataclass(frozen=True)
class PlaneResponseNorm(Implementation):
    """Each value by the squares of its neighbours in the same channel."""

    per_image = True
    saves = ("x",)

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        rank = len(geometry.spatial(op.name, x))
        size = settings["size"]
        return x, reference.PlaneResponseNormalization(
            size // 2, (size - 1) // 2, settings["alpha"] / size**rank, settings["beta"], settings["k"]
        )

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        call.geometry.forward(x, y)
        return y, (), (x,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        (x,) = saved
        dx = call.gradient(0, out and out[0])
        call.geometry.backward(x, dy, dx)
        return (dx,)

    def receptive_window(self, call):
        return ((call.settings["size"], 1),) * (len(call.shapes[0]) - 2)


def each_alpha(settings):
    """What the squares of local_response_norm are multiplied by: α/n, in TensorFlow α."""
    return settings["alpha"] / (1 if settings["compat"] == "tf" else settings["size"])


def in_order_of(y, x):
    """x as it is where its channels are innermost if and only if those of y are; otherwise a copy that lies like y."""
    if x.ndim < 3 or channels_innermost(x) == channels_innermost(y):
        return x
    copy = np.empty_like(y)
    shape.copy(x, copy)
    return copy
