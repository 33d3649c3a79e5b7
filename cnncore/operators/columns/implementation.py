"""Operators that treat windows one by one: unfold, fold, locally connected, deformable and partial convolution."""

import math
from dataclasses import dataclass

import numpy as np

from ...checks import has_length, per_axis
from ...errors import SettingError, ShapeError
from .. import geometry
from ..convolution import reference as conv
from ..convolution.implementation import Convolution, check_groups, check_weights
from ..operator import Implementation
from ..shape import reference as shape
from ..shape.implementation import channels_innermost
from . import reference

__all__ = ["DeformableConvolution", "Fold", "LocallyConnected", "PartialConvolution", "Unfold"]


def described(window, groups=1, inputs=1):
    """The windows of a call, for reference.pyx; None while an extent is open."""
    return None if None in window.output or None in window.low else reference.Columns(window, groups, inputs)


class Unfold(Implementation):
    """Every window of x as a column; geometry: the windows."""

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        extents = geometry.spatial(op.name, x)
        window = geometry.window(
            op.name, extents, settings["kernel_size"], settings["stride"], settings["padding"], settings["dilation"]
        )
        count = None if None in window.output else math.prod(window.output)
        return (x[0], x[1] * math.prod(window.kernel), count), described(window)

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        call.geometry.unfold(x, y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        call.geometry.fold(dy, dx)
        return (dx,)

    def receptive_window(self, call):
        return None


class Fold(Implementation):
    """An image from its columns: every pixel is the sum of its copies."""

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        if len(x) != 3:
            raise ShapeError(f"{op.name}: input has {len(x)} dimensions {x}; expected columns (N, C · T, windows)")
        size = settings["output_size"]
        rank = len(size) if has_length(size) and not isinstance(size, str) else 2
        if not 1 <= rank <= 3:
            raise SettingError(f"{op.name}: output_size {size} has {rank} extents; expected one to three")
        extents = per_axis(op.name, "output_size", size, rank, minimum=1)
        window = geometry.window(
            op.name, extents, settings["kernel_size"], settings["stride"], settings["padding"], settings["dilation"]
        )
        taps, count = math.prod(window.kernel), math.prod(window.output)
        if x[1] % taps or x[1] == 0:
            raise ShapeError(
                f"{op.name}: input {x} has {x[1]} rows in a column; windows of {taps} pixels need a multiple of {taps}"
            )
        if x[2] not in (None, count):
            raise ShapeError(
                f"{op.name}: input {x} has {x[2]} columns; an image of {'×'.join(map(str, extents))} has {count} such windows"
            )
        return (x[0], x[1] // taps, *extents), described(window)

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        call.geometry.fold(x, y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        call.geometry.unfold(dy, dx)
        return (dx,)

    def receptive_window(self, call):
        return None


class LocallyConnected(Implementation):
    """A convolution whose weights differ from window to window: w (K, C / groups · T, \\*output)."""

    per_image = True
    saves = ("x", "w")

    def infer(self, op, shapes, dtype, settings):
        x, w, b = shapes
        extents = geometry.spatial(op.name, x)
        groups = settings["groups"]
        check_groups(op.name, x, groups)
        window = geometry.window(
            op.name, extents, settings["kernel_size"], settings["stride"], settings["padding"], settings["dilation"]
        )
        output = window.output_shape
        features = x[1] // groups * math.prod(window.kernel)
        shown = ", ".join(str(o) for o in output)
        if (
            len(w) != len(x)
            or w[0] == 0
            or w[1] != features
            or any(o not in (None, e) for o, e in zip(output, w[2:], strict=True))
        ):
            raise ShapeError(
                f"{op.name}: w has shape {w}; input {x} and kernel_size {settings['kernel_size']} need (K, {features}, {shown}): "
                "the pixels of a window in all channels of a group, for every window"
            )
        if w[0] % groups:
            raise ShapeError(f"{op.name}: {w[0]} output channels of w {w} are not divisible by groups={groups}")
        if b is not None and b != (w[0],) and b != (w[0], *w[2:]):
            raise ShapeError(
                f"{op.name}: b has shape {b}; expected ({w[0]},), or ({w[0]}, {shown}): one for every window"
            )
        return (x[0], w[0], *output), described(window, groups)

    def forward(self, call, arrays, out=None):
        x, w, b = arrays
        y = call.empty(out)
        if b is not None:
            b = b[None] if b.ndim > 1 else np.broadcast_to(b.reshape(1, -1, *(1,) * (y.ndim - 2)), (1, *y.shape[1:]))
        call.geometry.local_forward(x, w, b, y)
        return y, (), (x, w)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, w = saved
        dx, dw, db = call.gradients(needs_gradient, out)
        if dx is not None:
            call.geometry.local_backward_input(dy, w, dx)
        if dw is not None:
            call.geometry.local_backward_weight(x, dy, dw)
        if db is not None and db.ndim == 1:
            conv.backward_bias(dy, db)
        elif db is not None:
            geometry.assign(db, geometry.summed(dy, (0,)))
        return dx, dw, db

    def multiply_adds(self, call):
        return (call.shapes[0][0] or 1) * math.prod(call.shapes[1])

    def receptive_window(self, call):
        rank = len(call.shapes[0]) - 2
        kernel, stride, dilation = (
            per_axis(call.op.name, name, call.settings[name], rank) for name in ("kernel_size", "stride", "dilation")
        )
        return tuple((d * (k - 1) + 1, s) for k, s, d in zip(kernel, stride, dilation, strict=True))


MOST_COLUMNS = 2**22  # values of the columns that a deformable convolution computes at once


@dataclass(frozen=True, slots=True)
class DeformedGeometry:
    """Windows of a deformable convolution, the sums over their columns, and the shapes of these and of their weights."""

    windows: object
    sums: conv.Convolution | None
    columns: tuple
    weights: tuple
    multiply_adds: int | None


class DeformableConvolution(Implementation):
    """A convolution that samples every tap of a window at a position of its own: columns of samples, then a 1×1 convolution."""

    per_image = False  # offset and mask have images too
    saves = ("x", "offset", "w", "mask")

    def infer(self, op, shapes, dtype, settings):
        x, offset, w, b, mask = shapes
        extents = geometry.spatial(op.name, x, (2,))
        groups, shared = settings["groups"], settings["offset_groups"]
        check_weights(op.name, x, w, "(K, C / groups, kh, kw)")
        check_groups(op.name, x, groups)
        if w[1] * groups != x[1] or w[0] % groups:
            raise ShapeError(
                f"{op.name}: w {w} does not fit input {x} in {groups} groups; expected (K, {x[1] // groups}, kh, kw), K a "
                f"multiple of {groups}"
            )
        if b is not None and b != (w[0],):
            raise ShapeError(
                f"{op.name}: b has shape {b}; w {w} makes {w[0]} output channels, so b must have shape ({w[0]},)"
            )
        if x[1] % shared:
            raise ShapeError(f"{op.name}: {x[1]} channels of input {x} are not divisible by offset_groups={shared}")
        window = geometry.window(op.name, extents, w[2:], settings["stride"], settings["padding"], settings["dilation"])
        taps, output = math.prod(window.kernel), window.output_shape
        for name, array, per_tap in (("offset", offset, 2), ("mask", mask, 1)):
            expected = (x[0], per_tap * shared * taps, *output)
            if array is not None and not fits(array, expected):
                raise ShapeError(
                    f"{op.name}: {name} has shape {array}; windows of {taps} pixels in {shared} offset group{'s' * (shared > 1)} "
                    f"need {expected}"
                )
        y = (x[0], w[0], *output)
        open_ = None in y or None in window.low
        sums = conv.Convolution(groups, (1, 1, 1), (1, 1, 1), (0, 0, 0), "direct")
        return y, DeformedGeometry(
            described(window, shared, w[1]),
            None if open_ else sums,
            (x[0], x[1] * taps, *output),
            (w[0], w[1] * taps, 1, 1),
            None if open_ else math.prod(y) * w[1] * taps,
        )

    def forward(self, call, arrays, out=None):
        x, offset, w, b, mask = arrays
        y = call.empty(out)
        kernels = self.kernels(call, w)
        for n in self.image_groups(call):
            image = with_channels_innermost(x[n])
            for rows in self.bands(call):
                deformed = self.columns(call, image, rows, *of_rows(rows, offset[n], taken(mask, n)))
                call.geometry.sums.forward(deformed, kernels, b, y[n][:, :, rows])
        return y, (), (x, offset, w, mask)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, offset, w, mask = saved
        g = call.geometry
        gradients = dx, doffset, dw, db, dmask = call.gradients(needs_gradient, out)
        kernels, part, total = self.kernels(call, w), np.empty(g.weights, call.dtype), np.zeros(g.weights)
        if db is not None:
            conv.backward_bias(dy, db)
        for n in self.image_groups(call):
            image = with_channels_innermost(x[n])
            dimage = None if dx is None else ImageGradient(dx[n])
            for rows in self.bands(call):
                given = image, rows, *of_rows(rows, offset[n], taken(mask, n))
                of_band = dy[n][:, :, rows]
                if dw is not None:
                    g.sums.backward_weight(self.columns(call, *given), of_band, part)
                    total += part
                if dx is not None or doffset is not None or dmask is not None:
                    parts = of_rows(rows, taken(doffset, n), taken(dmask, n))
                    self.backward_band(call, kernels, given, of_band, dimage, *parts)
            if dimage is not None:
                dimage.finish()
        if dw is not None:
            dw[...] = np.moveaxis(total.reshape(len(w), *w.shape[2:], w.shape[1]), -1, 1)
        return gradients

    def backward_band(self, call, kernels, given, dy, dimage, doffset, dmask):
        """Write the gradients of the offsets and masks of a band, and add to that of its images."""
        g, (image, rows, offset, mask) = call.geometry, given
        windows = self.windows(call, rows)
        dcolumns = self.empty_columns(call, image, rows)
        g.sums.backward_input(dy, kernels, dcolumns)
        if dimage is not None:
            dimage.add(lambda made: windows.deform_backward_input(dcolumns, offset, mask, made))
        if doffset is not None or dmask is not None:
            windows.deform_gradient(image, offset, mask, dcolumns, doffset, dmask)

    # The columns are several times as large as the images: those of all at once would take too much memory.

    @staticmethod
    def image_groups(call):
        """Slices of the images whose columns are computed together."""
        count, *column = call.geometry.columns
        step = max(1, MOST_COLUMNS // max(math.prod(column), 1))
        return [slice(begin, begin + step) for begin in range(0, count, step)]

    @staticmethod
    def bands(call):
        """Slices of the rows of windows whose columns are computed together: all, unless those of one image are too many."""
        _, depth, height, width = call.geometry.columns
        step = max(1, MOST_COLUMNS // max(depth * width, 1))
        return [slice(begin, min(begin + step, height)) for begin in range(0, height, step)]

    @staticmethod
    def windows(call, rows):
        return call.geometry.windows.of_rows(rows.start, rows.stop - rows.start)

    @staticmethod
    def empty_columns(call, image, rows):
        _, depth, _, width = call.geometry.columns
        return innermost((len(image), depth, rows.stop - rows.start, width), call.dtype)

    def columns(self, call, image, rows, offset, mask):
        """The columns of the deformed windows of some rows: for every group of channels, taps before channels."""
        deformed = self.empty_columns(call, image, rows)
        self.windows(call, rows).deform(image, offset, mask, deformed)
        return deformed

    def kernels(self, call, w):
        """The weights in the order of the columns."""
        return geometry.contiguous(np.moveaxis(w, 1, -1)).reshape(call.geometry.weights)

    def multiply_adds(self, call):
        return call.geometry.multiply_adds

    def receptive_window(self, call):
        return None  # offsets reach anywhere


def taken(array, n):
    """Some images of an array that may be absent."""
    return None if array is None else array[n]


def of_rows(rows, *arrays):
    """Some rows of images that may be absent."""
    return tuple(None if a is None else a[:, :, rows] for a in arrays)


class ImageGradient:
    """The gradient of images, as the sum of what several bands of windows make of it, channels innermost."""

    def __init__(self, dx):
        self.dx, self.total = dx, None

    def add(self, write):
        """Add what ``write`` writes into an array of the same form."""
        if self.total is None:
            self.total = self.dx if channels_innermost(self.dx) else innermost(self.dx.shape, self.dx.dtype)
            write(self.total)
            return
        more = innermost(self.dx.shape, self.dx.dtype)
        write(more)
        shape.accumulate(more, self.total)

    def finish(self):
        if self.total is not self.dx:
            shape.copy(self.total, self.dx)


def innermost(extents, dtype):
    """A new array (N, C, \\*spatial) whose channels are innermost."""
    return np.moveaxis(np.empty((extents[0], *extents[2:], extents[1]), dtype), -1, 1)


def with_channels_innermost(x):
    """x, or a copy whose channels are innermost."""
    if channels_innermost(x):
        return x
    image = innermost(x.shape, x.dtype)
    shape.copy(x, image)
    return image


def fits(extents, expected):
    """Whether two shapes agree, open extents aside."""
    return len(extents) == len(expected) and all(
        a == b or None in (a, b) for a, b in zip(extents, expected, strict=True)
    )


def of_channels(a, place):
    """The part of a that belongs to a piece of an array, of which it may have one channel for all."""
    return place if a.shape[1] > 1 else (place[0], slice(None), *place[2:])


class PartialConvolution(Convolution):
    """A convolution of the pixels that a mask keeps, rescaled for those that are missing.

    The pixels of a window are counted by a convolution of the mask with ones, which is exact: they are integers.
    """

    per_image = False  # the mask has images too
    saves = ("x", "mask", "w")

    def infer(self, op, shapes, dtype, settings):
        x, mask, w, b = shapes
        described_ = super().infer(op, (x, w, b), dtype, {**settings, "padding_mode": "zeros"})
        one = (x[0], 1, *x[2:])
        if not (fits(mask, x) or fits(mask, one)):
            raise ShapeError(
                f"{op.name}: mask has shape {mask}; input {x} needs a mask of its shape, or of one channel {one}"
            )
        return described_

    def counted(self, call, mask):
        """(which pixels are kept, all pixels of a window over those kept: 0 where there are none), per group."""
        g = call.geometry
        kept = mask != 0
        groups = g.groups if mask.shape[1] > 1 else 1
        inputs = mask.shape[1] // groups
        window = g.window
        ones = np.ones((groups, inputs, *window.kernel[geometry.SPATIAL_AXES - window.rank :]), call.dtype)
        count = np.empty((len(mask), groups, *call.output[2:]), call.dtype)
        windows = conv.Convolution(groups, window.stride, window.dilation, window.low)
        windows.forward(kept.astype(call.dtype), ones, None, count)
        share = np.divide(inputs * math.prod(window.kernel), count, out=np.zeros_like(count), where=count > 0)
        return kept, share if groups == 1 else np.repeat(share, g.outputs // groups, axis=1)

    def forward(self, call, arrays, out=None, packed=None):
        x, mask, w, b = arrays
        y = call.empty(out)
        kept, share = self.counted(call, mask)
        known = np.empty_like(x)
        for place in geometry.pieces(x.shape):  # what is missing does not count, whatever stands there
            known[place] = np.where(kept[of_channels(kept, place)], x[place], call.dtype.type(0))
        call.geometry.primitives.forward(known, w, None, y, packed)
        for place in geometry.pieces(y.shape):
            known_share = share[of_channels(share, place)]
            np.multiply(y[place], known_share, out=y[place])
            if b is not None:
                shift = b[place[1]].reshape(1, -1, *(1,) * (y.ndim - 2))
                np.add(y[place], shift, out=y[place], where=known_share > 0)
        extras = ((share > 0).astype(call.dtype),) if call.settings["return_mask"] else ()
        return y, extras, (known, w, kept, share)

    def accumulates(self, call):
        return False  # what the primitives give is not yet dx: the mask follows

    def backward(self, call, saved, dy, needs_gradient, out=None):
        known, w, kept, share = saved
        primitives = call.geometry.primitives
        dx, _, dw, db = call.gradients(needs_gradient, out)
        scaled = np.empty_like(dy)
        for place in geometry.pieces(dy.shape):
            np.multiply(dy[place], share[of_channels(share, place)], out=scaled[place])
        if dx is not None:
            primitives.backward_input(scaled, w, dx)
            for place in geometry.pieces(dx.shape):
                np.copyto(dx[place], 0, where=~kept[of_channels(kept, place)])
        if dw is not None:
            primitives.backward_weight(known, scaled, dw)
        if db is not None:
            for place in geometry.pieces(dy.shape):
                scaled[place] = np.where(share[of_channels(share, place)] > 0, dy[place], call.dtype.type(0))
            conv.backward_bias(scaled, db)
        return dx, None, dw, db

    def fuses_activation(self, call, activation):
        return False

    def folds_affine(self, call):
        return False  # where nothing is known y is 0, with and without a bias
