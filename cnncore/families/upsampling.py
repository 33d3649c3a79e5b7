"""Images on a finer (or coarser) grid: the nearest pixel, or linear interpolation between pixels."""

import math
from fractions import Fraction

import numpy as np

from .. import geometry
from ..errors import SettingError, ShapeError
from .transforms import Axis, Resampling

__all__ = ["LinearUpsampling", "NearestUpsampling", "scale_numbers"]

LARGEST_EXTENT = 2**24


def scale_numbers(place, name, value):
    """A check that scale is None, a positive number, or one per axis."""
    if value is None:
        return None
    if geometry.has_length(value) and not isinstance(value, str):
        return tuple(scale_number(place, name, v) for v in value)
    return scale_number(place, name, value)


def scale_number(place, name, value):
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise SettingError(f"{place}: {name} must be a number, or one per axis, got {value!r}") from None
    if isinstance(value, (bool, str)) or not 0 < number < LARGEST_EXTENT:
        raise SettingError(f"{place}: {name} must be a positive number below {LARGEST_EXTENT}, got {value!r}; try 2")
    return number


class Upsampling(Resampling):
    """What both share: the positions of the outputs in the input, as fractions, so that no rounding moves a pixel."""

    def per_axis(self, op, rank, settings):
        size, scale = settings["size"], settings["scale"]
        if (size is None) == (scale is None):
            raise SettingError(f"{op.name}: give either size or scale, got size={size!r} and scale={scale!r}")
        if size is not None:
            return [(n, None, settings) for n in geometry.per_axis(op.name, "size", size, rank, minimum=1)]
        scales = scale if isinstance(scale, tuple) else (scale,) * rank
        if len(scales) != rank:
            raise SettingError(
                f"{op.name}: scale has {len(scales)} numbers {scales}; the input has {rank} spatial axes"
            )
        return [(None, Fraction(s), settings) for s in scales]

    def axis(self, op, H, settings):
        size, scale, settings = settings
        if H is None:
            return None
        outputs = math.floor(H * scale) if size is None else size
        if not 1 <= outputs <= LARGEST_EXTENT:
            raise ShapeError(
                f"{op.name}: {H} pixels scaled by {float(scale or 0)} are {outputs}; use a scale that leaves some"
            )
        step = Fraction(H, outputs) if scale is None else 1 / scale
        coordinates = settings["coordinates"]

        def position(o):
            if coordinates == "half_pixel":
                return (o + Fraction(1, 2)) * step - Fraction(1, 2)
            if coordinates == "align_corners":
                return Fraction(o * (H - 1), outputs - 1) if outputs > 1 else Fraction(0)
            return o * step

        return Axis(H, outputs, lambda: self.entries([position(o) for o in range(outputs)], H, settings))

    def receptive_window(self, call):
        extents = zip(call.shapes[0][2:], call.output[2:], strict=True)
        return tuple((self.reach, 1 if None in (H, outputs) else Fraction(H, outputs)) for H, outputs in extents)


class NearestUpsampling(Upsampling):
    """Every output is one pixel."""

    reach = 1

    def entries(self, positions, H, settings):
        rounding = {
            "floor": math.floor,
            "ceil": math.ceil,
            "round_prefer_floor": lambda p: math.ceil(p - Fraction(1, 2)),
            "round_prefer_ceil": lambda p: math.floor(p + Fraction(1, 2)),
        }[settings["rounding"]]
        source = np.clip([rounding(p) for p in positions], 0, H - 1)
        return np.arange(len(positions)), source, np.ones(len(positions))


class LinearUpsampling(Upsampling):
    """Every output lies between two pixels of an axis; beyond the first and the last there are no others."""

    reach = 2

    def entries(self, positions, H, settings):
        output, source, weight = [], [], []
        for o, p in enumerate(positions):
            p = min(max(p, Fraction(0)), Fraction(H - 1))
            cell = math.floor(p)
            for neighbour, part in ((cell, 1 - (p - cell)), (cell + 1, p - cell)):
                if part:  # a pixel without weight does not count, whatever it holds
                    output.append(o)
                    source.append(neighbour)
                    weight.append(float(part))
        return np.array(output), np.array(source), np.array(weight)
