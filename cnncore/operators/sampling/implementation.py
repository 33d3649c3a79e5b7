"""Pooling at given positions: regions of interest, unpooling, polyphase components."""

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ...checks import per_axis
from ...errors import DataError, SettingError, ShapeError
from .. import geometry
from ..operator import Implementation
from ..shape import reference as shape
from . import reference

__all__ = ["PolyphaseSelection", "PositionSensitiveBoxes", "SampledBoxes", "Unpooling"]

LARGEST_GRID = 2**16  # samples of a bin along an axis
FARTHEST = 2.0**31  # corner of a box


# ── Boxes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Boxes(Implementation):
    """What pooling of boxes shares: x, rois (R, 4) as x1 y1 x2 y2, batch_indices (R,), and y (R, channels, I, J)."""

    def infer(self, op, shapes, dtype, settings):
        x, rois, images = shapes
        geometry.spatial(op.name, x, (2,))
        if len(rois) != 2 or rois[1] != 4:
            raise ShapeError(f"{op.name}: rois has shape {rois}; expected (R, 4), one row x1, y1, x2, y2 per box")
        if len(images) != 1 or (None not in (images[0], rois[0]) and images[0] != rois[0]):
            raise ShapeError(
                f"{op.name}: batch_indices has shape {images}; {rois[0]} boxes need ({rois[0]},), the image of each"
            )
        bins = per_axis(op.name, "output_size", settings["output_size"], 2, 1)
        return (rois[0], self.channels(op, x, bins), *bins), bins

    def channels(self, op, x, bins):
        """Channels of y."""
        return x[1]

    def receptive_window(self, call):
        return None  # boxes lie anywhere

    def checked(self, call, rois, images):
        """The boxes in float64, after checking that each lies in an image there is."""
        count = call.shapes[0][0]
        wrong = (images < 0) | (images >= count)
        if wrong.any():
            r = int(np.argmax(wrong))
            raise DataError(
                f"{call.op.name}: batch_indices[{r}] is {images[r]}; the input has {count} images, 0 to N − 1"
            )
        boxes = rois.astype(np.float64)
        near = (np.abs(boxes) * max(call.settings["spatial_scale"], 1.0) < FARTHEST).all(axis=1)  # False for NaN
        if not near.all():
            r = int(np.argmin(near))
            raise DataError(
                f"{call.op.name}: rois[{r}] is {rois[r].tolist()} with spatial_scale "
                f"{call.settings['spatial_scale']}; the "
                f"corners of a box are numbers below 2³¹ in magnitude, also after scaling to pixels of x"
            )
        return boxes


@dataclass(frozen=True)
class SampledBoxes(Boxes):
    """RoI align: the mean or maximum of bilinear samples of each bin."""

    def infer(self, op, shapes, dtype, settings):
        if settings["compat"] and settings["mode"] != "max":
            raise SettingError(
                f"{op.name}: compat='onnx' is another maximum; mode={settings['mode']!r} is the same in all frameworks: leave "
                "compat out"
            )
        return super().infer(op, shapes, dtype, settings)

    def forward(self, call, arrays, out=None):
        x, rois, images = arrays
        settings = call.settings
        aligned, ratio, bins = settings["aligned"], settings["sampling_ratio"], np.array(call.geometry)
        scaled = self.checked(call, rois, images) * settings["spatial_scale"] - (0.5 if aligned else 0.0)
        first, size = scaled[:, 1::-1], scaled[:, :1:-1] - scaled[:, 1::-1]  # rows before columns
        if not aligned:
            size = np.maximum(size, 1.0)
        step = size / bins
        grid = np.full(step.shape, ratio) if ratio else np.maximum(np.ceil(step), 0)
        if grid.max(initial=0) > LARGEST_GRID:
            r = int(np.argmax(grid.max(axis=1)))
            raise DataError(
                f"{call.op.name}: rois[{r}] = {rois[r].tolist()} would take {grid[r].max():.3g} samples per bin and "
                f"axis; "
                f"give sampling_ratio, or boxes no larger than the image"
            )
        box = np.ascontiguousarray(np.concatenate([first, step], axis=1))
        counts, maximum = np.ascontiguousarray(grid.astype(np.int64)), settings["mode"] == "max"
        samples = reference.BoxSamples(images, box, counts, maximum, settings["compat"] == "onnx", max(call.geometry))
        y = call.empty(out)
        samples.forward(x, y)
        return y, (), (samples, x if settings["mode"] == "max" else None)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        samples, x = saved
        dx = call.gradient(0, out and out[0])
        samples.backward(x, dy, dx)
        return dx, None, None


@dataclass(frozen=True)
class PositionSensitiveBoxes(Boxes):
    """Position-sensitive RoI pooling: the mean of the pixels of each bin, in a channel of its own."""

    saves = ()

    def channels(self, op, x, bins):
        count = math.prod(bins)
        if x[1] is not None and x[1] % count:
            raise ShapeError(
                f"{op.name}: {x[1]} channels of input {x} are not a multiple of the {bins[0]}·{bins[1]} = {count} bins; "
                f"each bin "
                f"reads a channel of its own: use {-(-x[1] // count) * count} channels, or another output_size"
            )
        return None if x[1] is None else x[1] // count

    def forward(self, call, arrays, out=None):
        x, rois, images = arrays
        corners = self.checked(call, rois, images)
        scale, caffe = call.settings["spatial_scale"], call.settings["compat"] == "caffe"
        if caffe:  # whole cells of the input image, the last one included
            low, high = away_from_zero(corners[:, 1::-1]) * scale, (away_from_zero(corners[:, :1:-1]) + 1) * scale
        else:
            low, high = away_from_zero(corners[:, 1::-1] * scale), away_from_zero(corners[:, :1:-1] * scale)
        size = np.maximum(high - low, 0.1 if caffe else 1.0)
        edges = []
        for axis, (count, extent) in enumerate(zip(call.geometry, x.shape[2:], strict=True)):
            step, i = size[:, axis, None] / count, np.arange(count)
            begin, end = np.floor(i * step + low[:, axis, None]), np.ceil((i + 1) * step + low[:, axis, None])
            edges.append(np.ascontiguousarray(np.clip(np.stack([begin, end], -1), 0, extent).astype(np.int64)))
        bins = reference.BoxBins(images, *edges)
        y = call.empty(out)
        bins.forward(x, y)
        return y, (), bins

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        saved.backward(dy, dx)
        return dx, None, None


def away_from_zero(a):
    """Rounded to whole numbers as C's round() does: halves away from 0."""
    return np.trunc(a + np.copysign(0.5, a))


# ── Places that a pooling returned ─────────────────────────────────────────────────────────────────────────────────────


class Unpooling(Implementation):
    """Max unpooling: values are written to the positions of their maxima."""

    per_image = True
    saves = ("indices",)

    def splits_batch(self, call):
        return call.settings["compat"] != "onnx"  # whose indices count through all images

    def infer(self, op, shapes, dtype, settings):
        x, indices = shapes
        extents = geometry.spatial(op.name, x)
        if indices != x and None not in x:
            raise ShapeError(f"{op.name}: indices has shape {indices}; expected that of x, {x}: one index per value")
        rank = len(extents)
        kernel = per_axis(op.name, "kernel_size", settings["kernel_size"], rank, 1)
        stride = settings["stride"]
        stride = kernel if stride is None else per_axis(op.name, "stride", stride, rank, 1)
        if isinstance(settings["padding"], str):
            raise SettingError(f"{op.name}: padding must be the numbers of the pooling, got {settings['padding']!r}")
        pairs = geometry.padding_pairs(op.name, settings["padding"], extents, kernel, stride, (1,) * rank)
        output = tuple(
            None if H is None else (H - 1) * s - lo - hi + k
            for H, s, (lo, hi), k in zip(extents, stride, pairs, kernel, strict=True)
        )
        if settings["output_size"] is not None:
            output = self.chosen(op, settings["output_size"], output, stride)
        for size in output:
            if size is not None and size < 1:
                raise ShapeError(
                    f"{op.name}: output {output} of input {x} has an extent below 1; use a smaller padding"
                )
        return (*x[:2], *output), None

    def chosen(self, op, output_size, usual, stride):
        """``output_size``, after checking that a pooling of this many cells could have given x."""
        output = per_axis(op.name, "output_size", output_size, len(usual), 1)
        for size, H, s in zip(output, usual, stride, strict=True):
            if H is not None and not H - s < size < H + s:
                raise SettingError(
                    f"{op.name}: output_size {output} is not what was pooled: an extent of {H} ± {s - 1} gives this "
                    f"input"
                )
        return output

    def forward(self, call, arrays, out=None):
        x, indices = arrays
        settings = call.settings
        y = call.empty(out)
        repeats = reference.unpool(x, indices, y, settings["duplicates"] == "add", settings["compat"] == "onnx")
        if repeats is None:
            raise DataError(
                f"{call.op.name}: indices hold positions outside the output {call.output}; pass those that max_pool "
                f"returned, with its "
                f"settings, and output_size where the pooled image was larger"
            )
        return y, (), (indices, repeats)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        settings = call.settings
        indices, repeats = saved
        reference.unpool_gradient(
            dy, indices, dx, settings["duplicates"] == "add", settings["compat"] == "onnx", repeats
        )
        return dx, None

    def receptive_window(self, call):
        rank = len(call.shapes[0]) - 2
        kernel = per_axis(call.op.name, "kernel_size", call.settings["kernel_size"], rank)
        stride = call.settings["stride"]
        stride = kernel if stride is None else per_axis(call.op.name, "stride", stride, rank)
        return tuple((-(-k // s), Fraction(1, s)) for k, s in zip(kernel, stride, strict=True))


# ── One phase of a grid ────────────────────────────────────────────────────────────────────────────────────────────────


class PolyphaseSelection(Implementation):
    """Polyphase sampling: of the s × s subsampled images, the one with the largest norm, per image."""

    per_image = True
    saves = ()

    def receptive_window(self, call):
        return tuple((s, s) for s in call.geometry)

    def infer(self, op, shapes, dtype, settings):
        extents = geometry.spatial(op.name, shapes[0])
        stride = per_axis(op.name, "stride", settings["stride"], len(extents), 1)
        output = tuple(None if H is None else H // s for H, s in zip(extents, stride, strict=True))
        if 0 in output:
            raise ShapeError(f"{op.name}: stride {stride} is larger than input {extents}; use at most {min(extents)}")
        return (*shapes[0][:2], *output), stride

    def phases(self, call, x):
        """The components, in row-major order of their offsets: views of x."""
        for offset in itertools.product(*map(range, call.geometry)):
            steps = zip(offset, call.geometry, call.output[2:], strict=True)
            yield x[(..., *(slice(o, o + s * count, s) for o, s, count in steps))]

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        components = list(self.phases(call, x))
        sizes = np.array([[magnitude(image, call.settings["p"]) for image in part] for part in components])
        # NaN is larger than any number: the first component that holds one.
        chosen = np.argmax(np.where(np.isnan(sizes), np.inf, sizes) + 0.0, axis=0) if x.shape[0] else np.zeros(0, int)
        if np.isnan(sizes).any():
            chosen = np.where(np.isnan(sizes).any(axis=0), np.argmax(np.isnan(sizes), axis=0), chosen)
        y = call.empty(out)
        for n, component in enumerate(chosen):
            shape.copy(components[component][n : n + 1], y[n : n + 1])
        return y, (chosen.astype(np.int64),) if call.settings["return_indices"] else (), chosen

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        geometry.fill_zero(dx)
        components = list(self.phases(call, dx))
        for n, component in enumerate(saved):
            shape.copy(dy[n : n + 1], components[component][n : n + 1])
        return (dx,)


def magnitude(a, p):
    """‖a‖ₚ in float64, of a divided by its largest magnitude, so that no power overflows."""
    largest = max((np.abs(a[place]).max() for place in geometry.pieces(a.shape)), key=nan_first)
    largest = np.float64(largest)
    if p == math.inf or largest == 0 or not np.isfinite(largest):
        return largest
    total = math.fsum(np.sum((np.abs(a[place], dtype=np.float64) / largest) ** p) for place in geometry.pieces(a.shape))
    return largest * total ** (1 / p)


def nan_first(value):
    """Orders numbers by size, NaN above all."""
    return math.inf if np.isnan(value) else value, bool(np.isnan(value))
