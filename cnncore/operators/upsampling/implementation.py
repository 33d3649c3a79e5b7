"""Upsampling, resizing and grid sampling: nearest-neighbour, linear and cubic interpolation."""

import math
from fractions import Fraction

import numpy as np

from ...checks import has_length, number, per_axis
from ...errors import SettingError, ShapeError
from ..geometry import assign, checked_bytes, contiguous, fill_zero, fraction_meant, spatial
from ..operator import Implementation
from ..transforms.implementation import Axis, Resampling
from . import reference

__all__ = ["GridSample", "LinearUpsampling", "NearestUpsampling", "Resize", "region_pairs", "scale_numbers"]

LARGEST_EXTENT = 2**24
FARTHEST = 2**20  # an end of a region, in extents of the image


def scale_numbers(place, name, value):
    """A check that scale is None, a positive number, or one per axis."""
    if value is None:
        return None
    if has_length(value) and not isinstance(value, str):
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


CROP = "tf_crop_and_resize"  # the coordinates of a region of the image


def region_pairs(place, name, value):
    """A check that region is None, or a pair of finite numbers per axis."""
    if value is None:
        return None
    pair = f"{place}: {name} must be a pair (begin, end) of numbers for each spatial axis, got {value!r}; try ((0, 1), (0, 1))"
    if not has_length(value) or isinstance(value, str):
        raise SettingError(pair)
    pairs = []
    for ends in value:
        if not has_length(ends) or isinstance(ends, str) or len(ends) != 2:
            raise SettingError(pair)
        pairs.append(tuple(number(-FARTHEST, FARTHEST)(place, name, end) for end in ends))
    return tuple(pairs)


class Upsampling(Resampling):
    """What both share: the positions of the outputs in the input, as fractions, so that no rounding moves a pixel."""

    def per_axis(self, op, rank, settings):
        size, scale = settings["size"], settings["scale"]
        if (size is None) == (scale is None):
            raise SettingError(f"{op.name}: give either size or scale, got size={size!r} and scale={scale!r}")
        if size is not None:
            return [(n, None, settings) for n in per_axis(op.name, "size", size, rank, minimum=1)]
        scales = scale if isinstance(scale, tuple) else (scale,) * rank
        if len(scales) != rank:
            raise SettingError(
                f"{op.name}: scale has {len(scales)} numbers {scales}; the input has {rank} spatial axes"
            )
        return [(None, fraction_meant(s), settings) for s in scales]

    def axis(self, op, H, settings):
        size, scale, settings = settings
        if H is None:
            return None
        outputs = math.floor(H * scale) if size is None else size
        if not 1 <= outputs <= LARGEST_EXTENT:
            raise ShapeError(f"{op.name}: {H} pixels scaled by {float(scale or 0)} are {outputs}; use a larger scale")
        step = Fraction(H, outputs) if scale is None else 1 / scale
        coordinates = settings["coordinates"]
        half = Fraction(1, 2)

        def position(o):
            if coordinates == "pytorch_half_pixel" and outputs == 1:
                return Fraction(0)
            if coordinates in ("half_pixel", "pytorch_half_pixel"):
                return (o + half) * step - half
            if coordinates == "half_pixel_symmetric":  # what a scale leaves over is cut off on both sides
                return Fraction(H, 2) * (1 - outputs * step / H) + (o + half) * step - half
            if coordinates == CROP:
                begin, end = settings["region"]
                return (begin + (Fraction(o, outputs - 1) if outputs > 1 else half) * (end - begin)) * (H - 1)
            if coordinates == "align_corners":
                return Fraction(o * (H - 1), outputs - 1) if outputs > 1 else Fraction(0)
            return o * step

        return Axis(
            H, outputs, lambda: self.entries([position(o) for o in range(outputs)], H, {**settings, "step": step})
        )

    def receptive_window(self, call):
        extents = zip(call.shapes[0][2:], call.output[2:], strict=True)
        return tuple((self.reach, 1 if None in (H, outputs) else Fraction(H, outputs)) for H, outputs in extents)


class NearestUpsampling(Upsampling):
    """Nearest-neighbour: every output is one pixel."""

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
    """Linear: every output lies between two pixels of an axis; beyond the first and the last there are no others."""

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


def linear_kernel(t):
    """1 at 0, 0 from 1 on."""
    return max(1 - abs(t), Fraction(0))


def cubic_kernel(a):
    """Keys' cubic convolution: 1 at 0, 0 at 1 and from 2 on."""

    def kernel(t):
        t = abs(t)
        if t < 1:
            return ((a + 2) * t - (a + 3)) * t * t + 1
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a if t < 2 else Fraction(0)

    return kernel


class Resize(Upsampling):
    """Every interpolation, to a size, by a scale, or to the size of another array."""

    saves = ()

    def infer(self, op, shapes, dtype, settings):
        x, like = (*shapes, None)[:2]
        if like is not None:
            if len(like) != len(x):
                raise ShapeError(
                    f"{op.name}: like has {len(like)} dimensions {like}, x has {len(x)} {x}; expected as many"
                )
            if settings["size"] is not None or settings["scale"] is not None:
                raise SettingError(f"{op.name}: like gives the size; leave out size and scale")
            settings = {**settings, "like": tuple(like[2:])}
        self.check_region(op, settings)
        return super().infer(op, (x,), dtype, settings)

    @staticmethod
    def check_region(op, settings):
        region, crops = settings["region"], settings["coordinates"] == CROP
        if crops != (region is not None):
            raise SettingError(
                f"{op.name}: region is {region} and coordinates={settings['coordinates']!r}; a region of the image is resized "
                f"with coordinates={CROP!r}, which needs one: give both or neither"
            )
        if crops and settings["antialias"]:
            raise SettingError(f"{op.name}: antialias is not defined with coordinates={CROP!r}: leave it out")

    def per_axis(self, op, rank, settings):
        if "like" in settings:
            rows = [(n, None, settings) for n in settings["like"]]
        else:
            rows = super().per_axis(op, rank, settings)
        if settings["region"] is None:
            return rows
        if len(settings["region"]) != rank:
            raise SettingError(
                f"{op.name}: region has {len(settings['region'])} pairs {settings['region']}; the input has {rank} spatial axes"
            )
        ends = (tuple(map(fraction_meant, pair)) for pair in settings["region"])
        return [(size, scale, {**s, "region": pair}) for (size, scale, s), pair in zip(rows, ends, strict=True)]

    def axis(self, op, H, settings):
        if settings[0] is None and settings[1] is None:  # the other array's extent is open
            return None
        return super().axis(op, H, settings)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        gradients = super().backward(call, saved, dy, needs_gradient, out)
        return (*gradients, *(None,) * (len(call.shapes) - 1))

    def receptive_window(self, call):
        if call.settings["region"] is not None:
            return None  # it lies anywhere
        reach = {"nearest": 1, "linear": 2, "cubic": 4}[call.settings["mode"]]
        extents = zip(call.shapes[0][2:], call.output[2:], strict=True)
        return tuple((reach, 1 if None in (H, outputs) else Fraction(H, outputs)) for H, outputs in extents)

    def entries(self, positions, H, settings):
        if settings["region"] is None:
            return self.interpolated(positions, H, settings)
        # Positions beyond the image have no cells: y is 0 there.
        kept = np.array([o for o, p in enumerate(positions) if 0 <= p <= H - 1], np.int64)
        if not len(kept):
            return kept, kept, np.zeros(0)
        output, source, weight = self.interpolated([positions[o] for o in kept], H, settings)
        return kept[output], source, weight

    def interpolated(self, positions, H, settings):
        mode, step = settings["mode"], settings["step"]
        if mode == "nearest":
            return NearestUpsampling.entries(self, positions, H, settings)
        kernel = linear_kernel if mode == "linear" else cubic_kernel(fraction_meant(settings["cubic_coefficient"]))
        wide = max(step, Fraction(1)) if settings["antialias"] else Fraction(1)
        support = (1 if mode == "linear" else 2) * wide
        output, source, weight = [], [], []
        for o, p in enumerate(positions):
            cells = range(math.floor(p - support) + 1, math.ceil(p + support))
            parts = {}
            for cell in cells:
                inside = min(max(cell, 0), H - 1)
                if inside != cell and settings["exclude_outside"]:
                    continue
                parts[inside] = parts.get(inside, 0) + kernel((cell - p) / wide)
            total = sum(parts.values())
            for cell, part in sorted(parts.items()):
                if part:
                    output.append(o)
                    source.append(cell)
                    weight.append(float(part / total))
        return np.array(output), np.array(source), np.array(weight)


class GridSample(Implementation):
    """x at the positions of a grid (N, \\*output, axes); geometry: the number of spatial axes."""

    per_image = True
    saves = ("x", "grid")

    def infer(self, op, shapes, dtype, settings):
        x, grid = shapes
        rank = len(spatial(op.name, x))
        if len(grid) != rank + 2 or grid[-1] not in (None, rank):
            form = ", ".join(("N", *"DHW"[-rank:]))
            raise ShapeError(
                f"{op.name}: grid has shape {grid}; input {x} needs ({form}, {rank}): a position of {rank} numbers for each "
                "element of y"
            )
        if None not in (x[0], grid[0]) and x[0] != grid[0]:
            raise ShapeError(f"{op.name}: grid {grid} has {grid[0]} images, input {x} has {x[0]}; these must be equal")
        if None not in x:
            checked_bytes(op.name, x, dtype.itemsize)
        images = grid[0] if x[0] is None else x[0]
        return (images, x[1], *grid[1:-1]), rank

    @staticmethod
    def positions(call, grid):
        """The grid as (N, P, axes), in memory of its own where it is not contiguous."""
        return contiguous(grid).reshape(len(grid), math.prod(grid.shape[1:-1]), call.geometry)

    @staticmethod
    def how(call):
        return tuple(call.settings[name] for name in ("mode", "padding_mode", "align_corners"))

    def forward(self, call, arrays, out=None):
        x, grid = arrays
        y = call.empty(out)
        if y.size:
            reference.sample(x, self.positions(call, grid), y, *self.how(call))
        return y, (), (x, grid)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, grid = saved
        gradients = dx, dgrid = call.gradients(needs_gradient, out)
        at = self.positions(call, grid)
        if not dy.size:
            for gradient in gradients:
                if gradient is not None:
                    fill_zero(gradient)
            return gradients
        if dx is not None:
            reference.sample_gradient(dx, at, dy, *self.how(call))
        if dgrid is not None:
            made = np.empty(at.shape, call.dtype)
            reference.grid_gradient(x, at, dy, made, *self.how(call))
            assign(dgrid, made.reshape(dgrid.shape))
        return gradients

    def receptive_window(self, call):
        return None
