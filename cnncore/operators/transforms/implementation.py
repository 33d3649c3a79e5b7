"""Pooling by linear transforms of the image: blurring, wavelets, and spectra of which the low frequencies stay."""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np

from ...checks import has_length, integer, per_axis
from ...errors import SettingError, ShapeError
from ...runtime import threads
from .. import geometry
from ..arrays.products import product
from ..operator import Implementation, Op
from . import reference

__all__ = ["Blur", "Haar", "Hartley", "MaxBlur", "Spectral"]


# ── Weighted sums of cells, axis by axis ───────────────────────────────────────────────────────────────────────────────


class Axis:
    """Along one axis: which inputs each output sums, and with which weights. Made when first used."""

    def __init__(self, inputs, outputs, entries):
        self.inputs = inputs
        self.outputs = outputs
        self.entries = entries  # () → output, input and weight of every tap, in the outputs' order

    @cached_property
    def forward(self):
        output, source, weight = self.entries()
        return reference.Taps(begins(output, self.outputs), source, weight, self.inputs)

    @cached_property
    def backward(self):
        output, source, weight = self.entries()
        order = np.argsort(source, kind="stable")
        return reference.Taps(begins(source, self.inputs), output[order], weight[order], self.outputs)


def begins(places, count):
    """Where the entries of each of ``count`` places begin among all, ordered by place; and their number."""
    return np.concatenate([[0], np.cumsum(np.bincount(places.astype(np.intp, copy=False), minlength=count))])


def unchanged(extent):
    """An axis whose cells stay as they are."""
    return Axis(extent, extent, lambda: (np.arange(extent), np.arange(extent), np.ones(extent)))


class Resampling(Implementation):
    """y = a weighted sum of cells of x, axis by axis; ``axis(op, H, settings)`` describes one of them.

    ``call.geometry`` is one Axis for each of D, H, W; None while an extent is open.
    """

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        extents = geometry.spatial(op.name, shapes[0])
        axes = [self.axis(op, H, s) for H, s in zip(extents, self.per_axis(op, len(extents), settings), strict=True)]
        output = (*shapes[0][:2], *(a if a is None else a.outputs for a in axes))
        return output, None if None in axes else geometry.canonical(tuple(axes), unchanged(1))

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        reference.apply(tuple(axis.forward for axis in call.geometry), arrays[0], y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        reference.apply(tuple(axis.backward for axis in call.geometry), dy, dx)
        return (dx,)


class Blur(Resampling):
    """A binomial filter, then every s-th cell."""

    def receptive_window(self, call):
        return tuple((size, s) for s, size, _ in self.per_axis(call.op, len(call.shapes[0]) - 2, call.settings))

    def receptive_start(self, call):
        if call.settings["filter_size"] > 3 and call.settings["padding_mode"] != "zeros":
            return None  # pixels that stand for the padding may lie beyond the window
        return (-((call.settings["filter_size"] - 1) // 2),) * (len(call.shapes[0]) - 2)

    def per_axis(self, op, rank, settings):
        strides = per_axis(op.name, "stride", settings["stride"], rank, 1)
        return [(s, settings["filter_size"], settings["padding_mode"]) for s in strides]

    def axis(self, op, H, settings):
        stride, size, mode = settings
        low = (size - 1) // 2
        high = size - 1 - low
        if H is None:
            return None
        if mode == "reflect" and high >= H:
            raise ShapeError(
                f"{op.name}: a filter of {size} taps reflects {high} pixels at an edge, which needs an extent above {high}; "
                f"the input "
                f"has {H}: use filter_size={max(2 * H - 2, 1)} or less, or padding_mode='replicate'"
            )
        outputs = (H - 1) // stride + 1

        def entries():
            sources = geometry.padding_sources(H, low, high, "constant" if mode == "zeros" else mode)
            output = np.repeat(np.arange(outputs), size)
            source = sources[output * stride + np.tile(np.arange(size), outputs)]
            weight = np.tile(binomial(size), outputs)
            inside = source >= 0
            return output[inside], source[inside], weight[inside]

        return Axis(H, outputs, entries)


def binomial(size):
    """Row ``size`` − 1 of Pascal's triangle over its sum: [1], [1 1]/2, [1 2 1]/4 …"""
    row = np.ones(1)
    for _ in range(size - 1):
        row = np.convolve(row, [0.5, 0.5])
    return row


class Haar(Resampling):
    """The low-pass band of ``levels`` Haar transforms: sums of neighbouring pairs over √2."""

    def receptive_window(self, call):
        return ((2 ** call.settings["levels"],) * 2,) * (len(call.shapes[0]) - 2)

    def per_axis(self, op, rank, settings):
        return [settings["levels"]] * rank

    def axis(self, op, H, levels):
        if H is None:
            return None
        outputs = -(-H // 2**levels)

        def entries():
            # A pair of an odd extent's last cell and its mirror image at every level; cells beyond stand for the last one.
            output, source, weight = np.arange(outputs), np.arange(outputs), np.ones(outputs)
            for level in range(levels, 0, -1):
                last = -(-H // 2 ** (level - 1)) - 1
                output, weight = np.repeat(output, 2), np.repeat(weight, 2) * 0.5**0.5
                source = np.minimum(np.repeat(2 * source, 2) + np.tile([0, 1], len(source)), last)
                place, which = np.unique(output * (last + 1) + source, return_inverse=True)
                output, source, weight = place // (last + 1), place % (last + 1), np.bincount(which, weight)
            return output, source, weight

        return Axis(H, outputs, entries)


@dataclass(frozen=True)
class MaxBlur(Implementation):
    """A maximum at every cell, then a blur: ``pooling`` and ``blurring`` are the two operators, under this one's "
    "name."""

    pooling: Op
    blurring: Op

    per_image = True
    saves = ("x",)

    def infer(self, op, shapes, dtype, settings):
        first = self.pooling.infer(
            shapes, dtype, {"kernel_size": settings["kernel_size"], "stride": 1, "padding": settings["padding"]}
        )
        names = ("stride", "filter_size", "padding_mode")
        second = self.blurring.infer((first.output,), dtype, {name: settings[name] for name in names})
        return second.output, (first, second)

    def forward(self, call, arrays, out=None):
        first, second = call.geometry
        y = call.empty(out)
        largest, _, saved = self.pooling.implementation.forward(
            first, arrays, empty_like_in_order(arrays[0], first.output)
        )
        self.blurring.implementation.forward(second, (largest,), y)
        return y, (), saved

    def backward(self, call, saved, dy, needs_gradient, out=None):
        first, second = call.geometry
        between = empty_like_in_order(dy, first.output)
        self.blurring.implementation.backward(second, (), dy, (True,), (between,))
        return self.pooling.implementation.backward(first, saved, between, (True,), out)

    def receptive_window(self, call):
        windows = (
            op.implementation.receptive_window(part)
            for op, part in zip((self.pooling, self.blurring), call.geometry, strict=True)
        )
        return tuple((reach + size - 1, s) for (reach, _), (size, s) in zip(*windows, strict=True))


def empty_like_in_order(a, shape):
    """An array of ``shape`` whose channels are innermost if and only if those of ``a`` are."""
    if a.shape[1] > 1 and a.strides[1] == a.itemsize:
        return np.moveaxis(np.empty((shape[0], *shape[2:], shape[1]), a.dtype), -1, 1)
    return np.empty(shape, a.dtype)


# ── Spectra ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def output_extents(op, extents, output_size):
    """The extents that stay: none may grow; None keeps an axis as it is."""
    sizes = tuple(output_size) if has_length(output_size) else (output_size,) * len(extents)
    if isinstance(output_size, (str, bytes)) or len(sizes) != len(extents):
        raise SettingError(
            f"{op.name}: output_size must be an integer, or one per axis of {len(extents)}, got {output_size!r}"
        )
    output = tuple(
        H if size is None else integer(op.name, "output_size", size, 1) for H, size in zip(extents, sizes, strict=True)
    )
    for H, size in zip(extents, output, strict=True):
        if H is not None and size > H:
            raise SettingError(
                f"{op.name}: output_size {output} is larger than input {extents}, whose frequencies cannot fill it; "
                f"use at most {H}"
            )
    return output


class LowFrequencies(Implementation):
    """What spectra of which the middle stays share: shapes, and axes that keep their extent."""

    per_image = True
    saves = ()

    def receptive_window(self, call):
        return None  # a frequency is made of all cells

    def infer(self, op, shapes, dtype, settings):
        extents = geometry.spatial(op.name, shapes[0])
        output = output_extents(op, extents, settings["output_size"])
        axes = [axis for axis, (H, h) in enumerate(zip(extents, output, strict=True), 2) if h != H]
        return (*shapes[0][:2], *output), axes

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        self.reduce(call, arrays[0], y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        self.extend(call, dy, dx)
        return (dx,)


def along(function, x, axis, y):
    """Write y = ``function`` of every line of x along an axis, in pieces: Ctrl-C gets through between them, and the memory that
    the function takes is that of a piece.
    """
    for place in geometry.pieces(tuple(map(max, zip(x.shape, y.shape, strict=True))), axis):
        y[place] = function(x[place])


class Spectral(LowFrequencies):
    """Along each axis: the Fourier transform, its bins up to that of half the output's extent, and back.

    Along a short axis, that is a product with one small matrix, whose columns are what the transforms make of unit vectors.
    """

    def reduce(self, call, x, y):
        self.transform(call, x, y, reversed(call.geometry), spectral_matrix, low_pass)

    def extend(self, call, dy, dx):
        self.transform(call, dy, dx, call.geometry, lambda H, h, norm: spectral_matrix(h, H, norm).T, low_pass_adjoint)

    @staticmethod
    def transform(call, x, y, axes, matrix_of, transform_of):
        """Write x into y with the extents of y along ``axes``, one after the other: by the matrix, or by the transforms."""
        norm, axes = call.settings.get("norm", "ortho"), list(axes)
        for axis in axes:
            H, h = x.shape[axis], y.shape[axis]
            if max(H, h) <= SHORT:
                change = partial(multiplied, matrix_of(H, h, norm), axis=axis)
            else:
                change = partial(transform_of, axis=axis, extent=h, norm=norm)
            if axis == axes[-1]:
                break
            if max(x.size, x.size // H * h) <= geometry.PIECE:
                x = change(x)
                continue
            made = empty_like_in_order(x, (*x.shape[:axis], h, *x.shape[axis + 1 :]))
            along(change, x, axis, made)
            x = made
        if axes:
            along(change, x, axes[-1], y)
        else:
            y[...] = x


SHORT = 256  # cells of an axis up to which a product with a matrix takes less time than Fourier transforms


def low_pass(x, axis, extent, norm):
    """The transform of ``axis``, its lowest ``extent`` frequencies, and back."""
    from scipy import fft

    bins = fft.rfft(x, axis=axis, norm=norm, workers=threads.get_num_threads())
    # Of a real result the bin at h/2 is real: irfft takes its real part, the mean of the bins at ±h/2.
    low = bins[(*(slice(None),) * axis, slice(extent // 2 + 1))]
    return fft.irfft(low, extent, axis=axis, norm=norm, workers=threads.get_num_threads())


def low_pass_adjoint(dy, axis, extent, norm):
    """The transform of ``axis``, zeros for the other frequencies of an extent, and back."""
    from scipy import fft

    H, h = extent, dy.shape[axis]
    # Adjoint of a pair scaled by 1/H forward and 1 back, or by 1/√H and 1/√h.
    norm = "ortho" if norm == "ortho" else "backward"
    bins = fft.rfft(dy, axis=axis, norm=norm, workers=threads.get_num_threads())
    if h % 2 == 0:
        bins[(*(slice(None),) * axis, h // 2)] *= 0.5
    return fft.irfft(bins, H, axis=axis, norm=norm, workers=threads.get_num_threads())


@lru_cache(maxsize=64)
def spectral_matrix(H, h, norm):
    """``low_pass`` of an axis of extent H as a matrix (h, H)."""
    return np.ascontiguousarray(low_pass(np.eye(H), 1, h, norm).T)


def multiplied(matrix, x, axis):
    """``matrix`` times every line of x along ``axis``, in the order of x's memory as far as it is one of the usual two."""
    last = x.shape[1] > 1 and x.strides[1] == x.itemsize
    if last:
        x, axis = np.moveaxis(x, 1, -1), axis - 1
    matrix = matrix.astype(x.dtype)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    lines = x.reshape(math.prod(before), x.shape[axis], math.prod(after))
    y = product(lines[:, :, 0], matrix.T) if lines.shape[2] == 1 else product(matrix, lines)
    y = y.reshape(*before, len(matrix), *after)
    return np.moveaxis(y, -1, 1) if last else y


class Hartley(Spectral):
    """The Hartley transform, its low frequencies, and back: a real transform that is its own inverse.

    Where the frequencies that stay are as many on both sides, they are those of the Fourier transform, and so is the result.
    """

    def reduce(self, call, x, y):
        if call.settings["nyquist"] == "average":
            super().reduce(call, x, y)
            return
        low = np.empty(call.output, call.dtype)
        hartley(x, low, kept)
        hartley(low, y, kept)

    def extend(self, call, dy, dx):
        if call.settings["nyquist"] == "average":
            super().extend(call, dy, dx)
            return
        spectrum = np.empty(call.output, call.dtype)
        hartley(dy, spectrum, kept)
        hartley(spectrum, dx, surrounded)


def hartley(x, y, resized):
    """Write the orthonormal Hartley transform of x over all spatial axes into y: real minus imaginary part of the Fourier
    transform. Frequencies are left out or added as y has fewer or more of them: ``resized`` (before or after the transform of an
    axis) is `kept` of the transform, or `surrounded` of what is transformed.
    """
    from scipy import fft

    for axis in range(2, x.ndim):
        extent, last = y.shape[axis], axis == x.ndim - 1

        def transform(lines, axis=axis, extent=extent, last=last):
            lines = resized(lines, axis, extent) if resized is surrounded else lines
            bins = fft.fft(lines, axis=axis, norm="ortho", workers=threads.get_num_threads())
            bins = resized(bins, axis, extent) if resized is kept else bins
            return bins.real - bins.imag if last else bins

        if last:
            along(transform, x, axis, y)
        else:
            made = np.empty((*x.shape[:axis], extent, *x.shape[axis + 1 :]), np.result_type(y.dtype, np.complex64))
            along(transform, x, axis, made)
            x = made


def kept(bins, axis, extent):
    """The lowest frequencies of an axis, as many as ``extent``."""
    before, after = -(-extent // 2), extent // 2
    low = np.moveaxis(bins, axis, 0)
    return np.moveaxis(np.concatenate([low[:before], low[len(low) - after :]]), 0, axis)


def surrounded(bins, axis, extent):
    """The same frequencies among ``extent``, with 0 for the others."""
    low = np.moveaxis(bins, axis, 0)
    before, after = -(-len(low) // 2), len(low) // 2
    whole = np.zeros((extent, *low.shape[1:]), bins.dtype)
    whole[:before], whole[extent - after :] = low[:before], low[before:]
    return np.moveaxis(whole, 0, axis)
