"""Operators that only move values: flatten, pad, slice, split, channel and pixel shuffles."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from ...checks import integer, per_axis
from ...errors import SettingError, ShapeError
from .. import geometry
from ..operator import Implementation
from . import reference

__all__ = [
    "MOST_AXES",
    "MOST_COPIED_AXES",
    "ChannelShuffle",
    "Flatten",
    "Pad",
    "PaddedImage",
    "Part",
    "PixelShuffle",
    "Slice",
    "channels_innermost",
    "empty_image",
    "moved",
]


def channels_innermost(a):
    """Whether neighbouring channels lie side by side."""
    return a.ndim > 2 and a.shape[1] > 1 and a.strides[1] == a.itemsize


def empty_image(shape, like):
    """A new array (N, C, \\*spatial), its channels innermost if those of ``like`` are."""
    if not channels_innermost(like):
        return np.empty(shape, like.dtype)
    return np.moveaxis(np.empty((shape[0], *shape[2:], shape[1]), like.dtype), -1, 1)


class Flatten(Implementation):
    """Flattens the axes from ``start_dim`` on, in row-major order."""

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        if not 1 <= len(x) <= 5:
            raise ShapeError(f"{op.name}: input has {len(x)} dimensions {x}; expected 1 to 5")
        start = integer(op.name, "start_dim", settings["start_dim"], -len(x))
        if start >= len(x):
            raise SettingError(
                f"{op.name}: start_dim {start} does not exist in input {x}; use {-len(x)} to {len(x) - 1}"
            )
        start %= len(x)
        total = 1
        for extent in x[start:]:
            total = None if None in (total, extent) else total * extent
        return (*x[:start], total), None

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        if y.flags.c_contiguous:
            reference.copy(x, y.reshape(x.shape))
        else:
            reference.copy(x.reshape(y.shape), y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        reference.copy(dy.reshape(dx.shape), dx)
        return (dx,)


@dataclass(frozen=True)
class PaddedImage:
    """Padding of a described call; the tables are made when first used."""

    extents: tuple
    pairs: tuple
    mode: str
    value: float

    @cached_property
    def tables(self):
        extents = geometry.canonical(self.extents, 1)
        pairs = geometry.canonical(self.pairs, (0, 0))
        sources = [
            geometry.padding_sources(H, low, high, self.mode) for H, (low, high) in zip(extents, pairs, strict=True)
        ]
        return reference.Padding(sources, extents, self.value)

    def empty(self, x):
        """A new array for x with its padding, laid out like x."""
        output = (H + low + high for H, (low, high) in zip(self.extents, self.pairs, strict=True))
        return empty_image((*x.shape[:2], *output), x)

    def around(self, x):
        """x with its padding."""
        y = self.empty(x)
        self.tables.forward(x, y)
        return y


class Pad(Implementation):
    """Padding by a constant or by pixels of the image; negative padding crops."""

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        extents = geometry.spatial(op.name, x)
        pairs, output = geometry.padded(op.name, extents, settings["padding"], settings["mode"])
        return (*x[:2], *output), PaddedImage(extents, pairs, settings["mode"], settings["value"])

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        call.geometry.tables.forward(x, y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        call.geometry.tables.backward(dy, dx)
        return (dx,)

    def receptive_start(self, call):
        if call.settings["mode"] != "constant":
            return None  # pixels of the padding are others of the image
        pairs, _ = geometry.padded(call.op.name, call.shapes[0][2:], call.settings["padding"], call.settings["mode"])
        return tuple(-low for low, _ in pairs)


MOST_AXES = 8  # of arrays whose values are only moved
MOST_COPIED_AXES = 5  # of those that the reference implementation copies


def moved(x, y):
    """Write x into y, arrays of one shape."""
    if x.ndim <= MOST_COPIED_AXES:
        reference.copy(x, y)
    else:
        geometry.assign(y, x)


class Slice(Implementation):
    """Part of x along one axis, from start to stop; geometry: the axis and the index into x."""

    per_image = True
    saves = ()

    def bounds(self, op, extent, settings):
        """(start, stop, step) as range() takes them, and how many that are."""
        start, stop, step = slice(settings["start"], settings["stop"], settings["stride"]).indices(extent)
        return start, stop, step

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        if not 1 <= len(x) <= MOST_AXES:
            raise ShapeError(f"{op.name}: input has {len(x)} dimensions {x}; expected 1 to {MOST_AXES}")
        axis = integer(op.name, "axis", settings["axis"], -len(x))
        if axis >= len(x):
            raise SettingError(f"{op.name}: axis {axis} does not exist in input {x}; use {-len(x)} to {len(x) - 1}")
        axis %= len(x)
        if x[axis] is None:
            return (*x[:axis], None, *x[axis + 1 :]), None
        start, stop, step = self.bounds(op, x[axis], settings)
        count = len(range(start, stop, step))
        if count == 0 and not (axis == 0 and x[0] == 0):
            raise ShapeError(
                f"{op.name}: the slice from {start} to {stop} with step {step} of axis {axis} of input {x} is empty"
            )
        index = (*(slice(None),) * axis, slice(start, stop if stop >= 0 else None, step))
        return (*x[:axis], count, *x[axis + 1 :]), (axis, index)

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        moved(x[call.geometry[1]], y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        geometry.fill_zero(dx)
        moved(dy, dx[call.geometry[1]])
        return (dx,)

    def splits_batch(self, call):
        return call.geometry[0] > 0

    def receptive_window(self, call):
        step = abs(call.settings.get("stride", 1))
        return tuple((1, step if call.geometry[0] == axis else 1) for axis in range(2, len(call.shapes[0])))

    def receptive_start(self, call):
        axis, index = call.geometry
        first, last = index[axis].start, (call.output[axis] - 1) * index[axis].step + index[axis].start
        return tuple(min(first, last) if axis == own else 0 for own in range(2, len(call.shapes[0])))


def part_extents(extent, parts):
    """The extents of equal parts; where parts does not divide the extent, ⌈extent / parts⌉ each and the rest for the last."""
    size = -(-extent // parts)
    return tuple(max(min(size, extent - size * i), 0) for i in range(parts))


class Part(Slice):
    """One of the parts into which an axis is split."""

    def bounds(self, op, extent, settings):
        parts, part, axis = settings["parts"], settings["part"], settings["axis"]
        if isinstance(parts, int):
            if extent % parts and not settings["uneven"]:
                raise ShapeError(
                    f"{op.name}: axis {axis} of extent {extent} cannot be split into {parts} equal parts; give a divisor of "
                    f"{extent}, the extents of the parts, or uneven=True for a smaller last part"
                )
            parts = part_extents(extent, parts)
        if sum(parts) != extent:
            raise ShapeError(f"{op.name}: parts {parts} sum to {sum(parts)}; axis {axis} has extent {extent}")
        if part >= len(parts):
            raise SettingError(f"{op.name}: part {part} does not exist; {len(parts)} parts are numbered from 0")
        start = sum(parts[:part])
        return start, start + parts[part], 1


class ChannelShuffle(Implementation):
    """Interleaves the channels of the groups: (groups, C / groups) becomes (C / groups, groups)."""

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        geometry.spatial(op.name, x, (0, 1, 2, 3))
        groups = settings["groups"]
        if x[1] is not None and x[1] % groups:
            raise ShapeError(
                f"{op.name}: {x[1]} channels of input {x} are not divisible by groups={groups}; give a divisor of {x[1]}"
            )
        return x, None

    @staticmethod
    def move(x, y, groups):
        """Write x, ``groups`` of channels, into y: one image after the other, as views of six axes are one too many."""
        parts = (groups, x.shape[1] // groups)
        for image, to in zip(x, y, strict=True):
            source = image.reshape(*parts, *image.shape[1:]).swapaxes(0, 1)
            reference.copy(source, to.reshape(*parts[::-1], *to.shape[1:]))

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        self.move(arrays[0], y, call.settings["groups"])
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        self.move(dy, dx, dx.shape[1] // call.settings["groups"])
        return (dx,)


@dataclass(frozen=True)
class PixelShuffle(Implementation):
    """Rearranges channels into blocks of pixels, with ``inverse`` pixels into channels; geometry: the factors of D, H, W."""

    inverse: bool

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        extents = geometry.spatial(op.name, x)
        factor = per_axis(op.name, "factor", settings["factor"], len(extents), minimum=1)
        block = math.prod(factor)
        if self.inverse:
            for axis, (H, r) in enumerate(zip(extents, factor, strict=True)):
                if H is not None and H % r:
                    raise ShapeError(
                        f"{op.name}: spatial axis {axis} of input {x} has {H} pixels, not a multiple of factor {r}"
                    )
            C = x[1]
            output = (x[0], C * block, *(None if H is None else H // r for H, r in zip(extents, factor, strict=True)))
        else:
            if x[1] % block:
                raise ShapeError(
                    f"{op.name}: input {x} has {x[1]} channels; factor {factor} needs a multiple of {block}"
                )
            C = x[1] // block
            output = (x[0], C, *(None if H is None else H * r for H, r in zip(extents, factor, strict=True)))
        return output, geometry.canonical(factor, 1)

    def move(self, call, x, y, inverse):
        together = call.settings["mode"] == "CRD"
        if inverse:
            reference.shuffle(x, y, call.geometry, together, False)
        else:
            reference.shuffle(y, x, call.geometry, together, True)

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        self.move(call, x, y, self.inverse)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        self.move(call, dy, dx, not self.inverse)
        return (dx,)

    def receptive_window(self, call):
        factors = call.geometry[geometry.SPATIAL_AXES + 2 - len(call.shapes[0]) :]
        return tuple((r, r) if self.inverse else (1, Fraction(1, r)) for r in factors)
