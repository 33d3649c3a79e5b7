"""Operators that only move values: flattening and padding."""

from dataclasses import dataclass
from functools import cached_property

from .. import geometry
from ..errors import SettingError, ShapeError
from ..operator import Kind
from ..ops import shape

__all__ = ["Flatten", "Pad"]


class Flatten(Kind):
    """Axes from ``start_dim`` on become one, in row-major order."""

    per_image = True
    saves = ()

    def describe(self, op, shapes, dtype, settings):
        (x,) = shapes
        if not 1 <= len(x) <= 5:
            raise ShapeError(f"{op.name}: input has {len(x)} dimensions {x}; expected 1 to 5")
        start = geometry.integer(op.name, "start_dim", settings["start_dim"], -len(x))
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
            shape.copy(x, y.reshape(x.shape))
        else:
            shape.copy(x.reshape(y.shape), y)
        return y, (), ()

    def backward(self, call, saved, dy, wanted, out=None):
        dx = call.gradient(0, out and out[0])
        shape.copy(dy.reshape(dx.shape), dx)
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
        return shape.Padding(sources, extents, self.value)


class Pad(Kind):
    """Cells around the image, made from it or constant; negative padding cuts off."""

    per_image = True
    saves = ()

    def describe(self, op, shapes, dtype, settings):
        (x,) = shapes
        extents = geometry.spatial(op.name, x)
        pairs, output = geometry.padded(op.name, extents, settings["padding"], settings["mode"])
        return (*x[:2], *output), PaddedImage(extents, pairs, settings["mode"], settings["value"])

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        call.geometry.tables.forward(x, y)
        return y, (), ()

    def backward(self, call, saved, dy, wanted, out=None):
        dx = call.gradient(0, out and out[0])
        call.geometry.tables.backward(dy, dx)
        return (dx,)
