"""Where windows lie: output sizes, padding, ceil mode, and the step from any rank to depth × height × width.

The only place that knows ranks. Arrays are (N, C, L), (N, C, H, W) or (N, C, D, H, W); everything below this module sees
three spatial axes, the missing ones with extent 1. An extent may be ``None`` where it is still open (shape inference of a
graph whose image size comes later); what follows from it is then ``None`` too.

Symbols: H input extent, k kernel_size, s stride, d dilation, lo and hi padding, e = d(k − 1) + 1 the window's reach.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..checks import has_length, integer, per_axis
from ..errors import SettingError, ShapeError

__all__ = [
    "PADDING_NAMES",
    "Window",
    "adaptive_window",
    "assign",
    "axes",
    "canonical",
    "checked_bytes",
    "contiguous",
    "fill_zero",
    "fractional_sizes",
    "fractional_starts",
    "fraction_meant",
    "global_window",
    "integer",
    "padded",
    "pieces",
    "padding_sources",
    "per_axis",
    "pooling_window",
    "region_window",
    "spatial",
    "started_window",
    "strip_picks",
    "summed",
    "transposed_window",
    "window",
]

SPATIAL_AXES = 3
PADDING_NAMES = ("valid", "same_upper", "same_lower", "same_torch")
LARGEST_ARRAY_BYTES = 2**46
LARGEST_KERNEL = 2**46  # cells
LARGEST_ADAPTIVE_OUTPUT = 2**24


def canonical(sizes, fill):
    """``sizes`` of the present spatial axes as a (D, H, W) triple: missing axes come first and get ``fill``.

    >>> canonical((5, 7), fill=1)
    (1, 5, 7)
    """
    return (fill,) * (SPATIAL_AXES - len(sizes)) + tuple(sizes)


def spatial(place, shape, ranks=(1, 2, 3)):
    """The spatial extents of an array of ``shape`` (N, C, *spatial), after checking that it is one."""
    rank = len(shape) - 2
    if rank not in ranks:
        forms = {0: "(N, C)", 1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}
        hint = " A single image? Use x[None]." if rank + 1 in ranks else ""
        raise ShapeError(
            f"{place}: input has {len(shape)} dimensions {shape}; expected {' or '.join(forms[r] for r in ranks)}.{hint}"
        )
    for axis, extent in enumerate(shape[1:], 1):
        if extent == 0:
            what = "channels" if axis == 1 else f"extent along spatial axis {axis - 2}"
            raise ShapeError(f"{place}: input {shape} has no {what}; only the number of images N may be 0")
    return tuple(shape[2:])


def padding_pairs(place, padding, extents, kernel, stride, dilation, minimum=0):
    """Padding as (low, high) per axis, from an int, one per axis, (low, high) pairs, or a name; no number below ``minimum``.

    "valid"       none
    "same_upper"  output ⌈H / s⌉, odd total: one more at the high end   (TensorFlow, ONNX SAME_UPPER)
    "same_lower"  the same, one more at the low end                     (ONNX SAME_LOWER)
    "same_torch"  total d(k − 1) whatever H, stride 1 only              (PyTorch padding="same")
    """
    rank = len(extents)
    if isinstance(padding, str):
        if padding not in PADDING_NAMES:
            raise SettingError(f"{place}: padding {padding!r} is unknown; use an int, pairs, or one of {PADDING_NAMES}")
        return tuple(
            _named_padding(place, padding, *axis) for axis in zip(extents, kernel, stride, dilation, strict=True)
        )
    if has_length(padding) and len(padding) and all(has_length(p) and not isinstance(p, str) for p in padding):
        if len(padding) != rank or any(len(p) != 2 for p in padding):
            raise SettingError(
                f"{place}: padding {padding} must hold one (low, high) pair for each of {rank} spatial axes"
            )
        return tuple(tuple(integer(place, "padding", p, minimum) for p in pair) for pair in padding)
    return tuple((p, p) for p in per_axis(place, "padding", padding, rank, minimum))


def _named_padding(place, name, H, k, s, d):
    if name == "valid":
        return (0, 0)
    if name == "same_torch":
        if s != 1:
            raise SettingError(f"{place}: padding='same_torch' needs stride 1, got {s}; use 'same_upper' or numbers")
        total = d * (k - 1)
    elif H is None:
        return (None, None)
    else:
        total = max((-(-H // s) - 1) * s + d * (k - 1) + 1 - H, 0)
    smaller, larger = total // 2, total - total // 2
    return (larger, smaller) if name == "same_lower" else (smaller, larger)


@dataclass(frozen=True, slots=True)
class Window:
    """The canonical (D, H, W) windows of one call, shared by forward and backward of convolution and pooling."""

    rank: int
    input: tuple
    output: tuple
    kernel: tuple
    stride: tuple
    dilation: tuple
    low: tuple
    high: tuple

    @property
    def output_shape(self):
        """Extents of the output along the axes that the input has."""
        return self.output[SPATIAL_AXES - self.rank :]

    @property
    def receptive(self):
        """(cells that an output sees, steps between two outputs) along the axes that the input has."""
        per_axis = zip(self.kernel, self.stride, self.dilation, strict=True)
        return tuple((d * (k - 1) + 1, s) for k, s, d in per_axis)[SPATIAL_AXES - self.rank :]


def _fits(place, extents, kernel, stride, dilation, padding, ceil_mode):
    """Output extents: ⌊(H + lo + hi − e) / s⌋ + 1, or ⌈·⌉ without windows that would start beyond image and low padding."""
    output = []
    for H, k, s, d, (lo, hi) in zip(extents, kernel, stride, dilation, padding, strict=True):
        if H is None:
            output.append(None)
            continue
        reach = d * (k - 1) + 1
        room = H + lo + hi - reach
        # With ceil_mode a window may reach beyond image and padding, by less than a step.
        if room < 0 and not (ceil_mode and room > -s):
            largest = (H + lo + hi - 1) // d + 1
            raise ShapeError(
                f"{place}: window {_by(kernel)}{f' with dilation {_by(dilation)}' if max(dilation) > 1 else ''} does not fit "
                f"input {_by(extents)} with padding {_padding_text(padding)}; the largest kernel_size is {largest}"
            )
        if ceil_mode:
            count = -(-room // s) + 1
            # PyTorch's rule: the last window must start inside the image or its low padding.
            if (count - 1) * s >= H + lo:
                count -= 1
        else:
            count = room // s + 1
        output.append(count)
    return tuple(output)


def _by(extents):
    return "×".join("?" if e is None else str(e) for e in extents)


def _padding_text(padding):
    plain = {lo for lo, hi in padding if lo == hi}
    return str(plain.pop()) if len(plain) == 1 and all(lo == hi for lo, hi in padding) else str(tuple(padding))


def window(place, extents, kernel_size, stride=1, padding=0, dilation=1, ceil_mode=False):
    """The windows of a convolution over ``extents`` (or of a pooling, see :func:`pooling_window`)."""
    rank = len(extents)
    kernel = per_axis(place, "kernel_size", kernel_size, rank, minimum=1)
    stride = per_axis(place, "stride", stride, rank, minimum=1)
    dilation = per_axis(place, "dilation", dilation, rank, minimum=1)
    pairs = padding_pairs(place, padding, extents, kernel, stride, dilation)
    output = _fits(place, extents, kernel, stride, dilation, pairs, ceil_mode)
    return Window(
        rank=rank,
        input=canonical(extents, 1),
        output=canonical(output, 1),
        kernel=canonical(kernel, 1),
        stride=canonical(stride, 1),
        dilation=canonical(dilation, 1),
        low=canonical([lo for lo, _ in pairs], 0),
        high=canonical([hi for _, hi in pairs], 0),
    )


def pooling_window(place, extents, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, wide=False):
    """The windows of a pooling: stride defaults to the kernel, padding is at most half the window's reach.

    ``wide``: padding is at most one element less than the reach, with which ONNX's windows still meet the image.
    """
    rank = len(extents)
    kernel = per_axis(place, "kernel_size", kernel_size, rank, minimum=1)
    steps = per_axis(place, "dilation", dilation, rank, minimum=1)
    if math.prod(kernel) > LARGEST_KERNEL:
        raise SettingError(
            f"{place}: kernel_size {_by(kernel)} has more elements than can be counted; use a smaller one"
        )
    if not isinstance(padding, str):
        pairs = padding_pairs(place, padding, extents, kernel, (1,) * rank, steps)
        for (lo, hi), k, d in zip(pairs, kernel, steps, strict=True):
            reach = d * (k - 1) + 1
            if wide and max(lo, hi) >= reach:
                raise SettingError(
                    f"{place}: padding {max(lo, hi)} is as long as the window's reach {reach} (kernel_size {k}, dilation {d}): "
                    f"a window could lie entirely in the padding; use at most {reach - 1}"
                )
            if max(lo, hi) > reach // 2 and not wide:
                raise SettingError(
                    f"{place}: padding {max(lo, hi)} is more than half the window's reach {reach} (kernel_size {k}, "
                    f"dilation {d}): a window could lie entirely in the padding; use at most {reach // 2}"
                )
    return window(place, extents, kernel_size, kernel_size if stride is None else stride, padding, dilation, ceil_mode)


def axes(place, windows):
    """Tables of a pooling's windows: one (4, output) int64 array per axis with rows first, count, tap, extent (calls.h).

    A window without any cell of the image (dilation can do that) has no value and is refused.
    """
    tables = []
    for H, out, k, s, d, lo, hi in zip(
        windows.input,
        windows.output,
        windows.kernel,
        windows.stride,
        windows.dilation,
        windows.low,
        windows.high,
        strict=True,
    ):
        start = np.arange(out, dtype=np.int64) * s - lo
        tap = np.maximum(-(-np.maximum(-start, 0) // d), 0)  # taps that lie before the image
        first = start + tap * d
        stop = np.minimum(start + d * (k - 1) + 1, H)
        count = np.maximum(-(-(stop - first) // d), 0)
        if out and count.min() < 1:
            o = int(np.argmin(count))
            raise ShapeError(
                f"{place}: window {o} along an axis of extent {H} lies at {int(start[o])} + {d}·(0…{k - 1}) and meets no "
                f"pixel; use a smaller dilation {d} or stride {s}, or ceil_mode=False"
            )
        extent = np.minimum(start + d * (k - 1) + 1, H + hi) - start
        tables.append(np.ascontiguousarray([first, count, tap, -(-extent // d)], dtype=np.int64))
    return tuple(tables)


def adaptive_window(place, extents, output_size):
    """Windows [⌊iH/O⌋, ⌈(i+1)H/O⌉) of adaptive pooling, as tables like those of :func:`axes`, with the output extents.

    ``output_size`` is one integer or one per axis; ``None`` keeps the input's extent.
    """
    rank = len(extents)
    sizes = tuple(output_size) if has_length(output_size) else (output_size,) * rank
    if len(sizes) != rank:
        raise SettingError(f"{place}: output_size {output_size} must hold one number for each of {rank} spatial axes")
    output = tuple(
        H if size is None else integer(place, "output_size", size, 1, LARGEST_ADAPTIVE_OUTPUT)
        for H, size in zip(extents, sizes, strict=True)
    )
    if None in extents:
        return None, output
    checked_bytes(place, output, 1)
    tables = []
    for H, O in zip(canonical(extents, 1), canonical(output, 1), strict=True):
        # i·H/O as i·⌊H/O⌋ + i·(H mod O)/O: whole numbers only, and no product exceeds 64 bits.
        i = np.arange(O + 1, dtype=np.int64)
        whole, part = i * (H // O), i * (H % O)
        first = whole[:-1] + part[:-1] // O
        count = whole[1:] - (-part[1:] // O) - first
        tables.append(np.ascontiguousarray([first, count, np.zeros_like(first), count], dtype=np.int64))
    return tuple(tables), output


def global_window(extents):
    """Tables of the one window that is the whole image."""
    if None in extents:
        return None
    return tuple(np.array([[0], [H], [0], [H]], dtype=np.int64) for H in canonical(extents, 1))


def fractional_sizes(place, extents, output_size, output_ratio, kernel_size, overlapping):
    """(output extents, window extents or None) of fractional pooling: O windows of k cells, or that share out the image.

    Without ``kernel_size``, overlapping windows reach one cell into the next step, k = ⌊H/O⌋ + 1, where the image has room.
    """
    rank = len(extents)
    if (output_size is None) == (output_ratio is None):
        raise SettingError(f"{place}: give either output_size or output_ratio")
    if output_size is not None:
        output = per_axis(place, "output_size", output_size, rank, minimum=1)
    else:
        ratios = tuple(output_ratio) if has_length(output_ratio) else (output_ratio,) * rank
        if len(ratios) != rank or not all(
            isinstance(r, (int, float, np.number)) and not isinstance(r, bool) and 0 < r <= 1 for r in ratios
        ):
            raise SettingError(
                f"{place}: output_ratio must be a number above 0 and up to 1, or {rank}, got {output_ratio!r}"
            )
        output = tuple(None if H is None else int(H * r) for H, r in zip(extents, ratios, strict=True))
    if not overlapping and kernel_size is not None:
        raise SettingError(f"{place}: disjoint windows have no kernel_size; leave it out, or use overlapping=True")
    kernel = None if kernel_size is None else per_axis(place, "kernel_size", kernel_size, rank, minimum=1)
    if None in extents:
        return output, kernel
    if overlapping and kernel is None:
        kernel = tuple(min(H // max(O, 1) + 1, H - O + 1) for H, O in zip(extents, output, strict=True))
    for axis, (H, O) in enumerate(zip(extents, output, strict=True)):
        if not 1 <= O <= H:
            raise ShapeError(
                f"{place}: spatial axis {axis} of input {_by(extents)} cannot have {O} windows; at least 1, and {H} at most"
            )
        if overlapping and kernel[axis] + O - 1 > H:
            raise ShapeError(
                f"{place}: {O} windows of {kernel[axis]} pixels do not fit spatial axis {axis} of input {_by(extents)}; "
                f"kernel_size + output_size − 1 must be {H} at most"
            )
    return output, kernel


def fractional_starts(H, O, k, numbers, random):
    """Where O windows of k cells begin along an axis of H, or (k None) where O parts of it do, with H at the end.

    ``random``: the steps, ⌊α⌋ or ⌊α⌋ + 1, in the order of ``numbers``, as many as there are steps. Else pseudorandom: window
    i begins at ⌊(i + u) α⌋ − ⌊u α⌋, u = numbers[0]. α = (H − k) / (O − 1) from window to window, or H / O from part to part.
    All in the precision of ``numbers``.

    >>> fractional_starts(9, 4, 3, np.array([0.25]), random=False)
    array([0, 2, 4, 6])
    """
    span, steps = (H, O) if k is None else (H - k, O - 1)
    starts = np.zeros(steps + 1, np.int64)
    if random and steps:
        step = np.full(steps, span // steps, np.int64)
        step[: span % steps] += 1
        starts[1:] = np.cumsum(step[np.argsort(numbers[:steps], kind="stable")])
    elif steps:
        real = numbers.dtype.type
        alpha = real(span) / real(steps)
        first = (np.arange(steps, dtype=numbers.dtype) + numbers[0]) * alpha
        starts[:-1] = first.astype(np.int64) - np.int64(numbers[0] * alpha)
    if k is not None or steps:
        starts[-1] = span
    return starts


def started_window(starts, k):
    """A table like those of :func:`axes` for windows of k cells at ``starts``, or (k None) for the parts between them."""
    starts = np.asarray(starts, np.int64)
    first = starts if k is not None else starts[:-1]
    count = np.full_like(starts, k) if k is not None else np.diff(starts)
    return np.ascontiguousarray([first, count, np.zeros_like(first), count], dtype=np.int64)


def strip_picks(H, grid, stride, numbers):
    """grid/stride cells of each strip of ``grid``, and a part of the rest, without repetition and in order: ⌊H/stride⌋.

    Cell i is among them where numbers[i] is one of the smallest of its strip.
    """
    picks = []
    for start in range(0, H, grid):
        strip = numbers[start : min(start + grid, H)]
        picks += sorted(start + int(i) for i in np.argsort(strip, kind="stable")[: len(strip) // stride])
    return np.array(picks, np.int64)


@functools.lru_cache(maxsize=1024)  # the same boxes recur: in backward, in a gradient check
def region_window(place, H, low, high, O):
    """(table, first window): the parts of adaptive pooling of cells low … high that have a cell of the image, one axis.

    Parts are [low + ⌊ih/O⌋, low + ⌈(i+1)h/O⌉) with h = high − low + 1, 1 at least; those wholly outside the image come first or
    last, and the table, like those of :func:`axes`, leaves them out.
    """
    ((_, _, table), _) = adaptive_window(place, (max(high - low + 1, 1),), O)
    first, stop = np.clip(table[0] + low, 0, H), np.clip(table[0] + table[1] + low, 0, H)
    met = np.flatnonzero(stop > first)
    if not len(met):
        return None, 0
    first, count = first[met], (stop - first)[met]
    table = np.ascontiguousarray([first, count, np.zeros_like(first), count], dtype=np.int64)
    table.flags.writeable = False
    return table, int(met[0])


def fraction_meant(number, dtype=np.float64):
    """The fraction that a float stands for: of all that round to it, the one with the smallest denominator.

    0.6 is a binary number just below 3/5, and 10 times it is less than 6; but 0.6 stands for 3/5, and the result of
    7/49 for 1/7. ``dtype`` is the precision in which the number was rounded, whatever it is stored in since.

    >>> fraction_meant(0.6), fraction_meant(1 / 49), fraction_meant(2.0), fraction_meant(0.30000001192092896, np.float32)
    (Fraction(3, 5), Fraction(1, 49), Fraction(2, 1), Fraction(3, 10))
    """
    rounded = dtype(abs(number))
    exact = Fraction(float(rounded))
    beside = (float(np.nextafter(rounded, dtype(end))) for end in (-np.inf, np.inf))
    below, above = (Fraction(n) if math.isfinite(n) else exact for n in beside)
    return (-1 if number < 0 else 1) * simplest_between((below + exact) / 2, (exact + above) / 2)


def simplest_between(low, high):
    """The fraction with the smallest denominator in [low, high], by continued fractions; 0 where that is in between."""
    whole = -(-low.numerator // low.denominator)
    if whole <= high:
        return Fraction(max(whole, 0))
    whole -= 1
    return whole + 1 / simplest_between(1 / (high - whole), 1 / (low - whole))


def transposed_window(place, extents, kernel_size, stride=1, padding=0, output_padding=0, dilation=1):
    """Windows of a transposed convolution: those of the convolution from its output to its input ``extents``.

    H_out = (H − 1)s − lo − hi + e + output_padding, or H·s for "same_upper" and "same_lower".
    """
    rank = len(extents)
    kernel = per_axis(place, "kernel_size", kernel_size, rank, minimum=1)
    stride = per_axis(place, "stride", stride, rank, minimum=1)
    dilation = per_axis(place, "dilation", dilation, rank, minimum=1)
    extra = per_axis(place, "output_padding", output_padding, rank, minimum=0)
    for e, s, d in zip(extra, stride, dilation, strict=True):
        if e >= max(s, d):
            raise SettingError(f"{place}: output_padding {e} must be smaller than stride {s} or dilation {d}")
    if isinstance(padding, str) and padding.startswith("same_") and padding != "same_torch":
        if any(extra):
            raise SettingError(
                f"{place}: output_padding {extra} cannot be combined with padding={padding!r}, which fixes the size H·s"
            )
        output = tuple(None if H is None else H * s for H, s in zip(extents, stride, strict=True))
        pairs = []
        for s, k, d in zip(stride, kernel, dilation, strict=True):
            # The padding of the convolution from H·s to H: it does not depend on H. A window shorter than its stride
            # leaves the uncovered cells at the high end.
            total = max(d * (k - 1) + 1 - s, 0)
            smaller, larger = total // 2, total - total // 2
            pairs.append((larger, smaller) if padding == "same_lower" else (smaller, larger))
        pairs = tuple(pairs)
    else:
        pairs = padding_pairs(place, padding, extents, kernel, stride, dilation)
        output = tuple(
            None if H is None else (H - 1) * s - lo - hi + d * (k - 1) + 1 + e
            for H, s, (lo, hi), d, k, e in zip(extents, stride, pairs, dilation, kernel, extra, strict=True)
        )
    for size in output:
        if size is not None and size < 1:
            raise ShapeError(
                f"{place}: input {_by(extents)} with kernel_size {_by(kernel)}, stride {_by(stride)} and padding "
                f"{_padding_text(pairs)} gives an output of {_by(output)}; use less padding"
            )
    return Window(
        rank=rank,
        input=canonical(output, 1),
        output=canonical(extents, 1),
        kernel=canonical(kernel, 1),
        stride=canonical(stride, 1),
        dilation=canonical(dilation, 1),
        low=canonical([lo for lo, _ in pairs], 0),
        high=canonical([hi for _, hi in pairs], 0),
    )


def padded(place, extents, padding, mode):
    """Padding as (low, high) per axis and the padded extents; negative padding cuts off.

    ``mode``: "constant"; "reflect" mirrors at the edge pixels and needs H > padding; "symmetric"
    mirrors at the edge itself; "replicate" repeats the edge pixel; "circular" continues at the other end.
    """
    ones = (1,) * len(extents)
    if isinstance(padding, str):
        raise SettingError(f"{place}: padding must be an integer, one per axis, or (low, high) pairs, got {padding!r}")
    pairs = padding_pairs(place, padding, extents, ones, ones, ones, minimum=None)
    output = tuple(None if H is None else H + lo + hi for H, (lo, hi) in zip(extents, pairs, strict=True))
    for axis, (H, out, pair) in enumerate(zip(extents, output, pairs, strict=True)):
        if H is None:
            continue
        if mode == "reflect" and max(pair) >= H:
            raise ShapeError(
                f"{place}: reflecting {max(pair)} pixels needs an extent above {max(pair)}; spatial axis {axis} of input "
                f"{_by(extents)} has {H}: use at most {H - 1}, or mode='symmetric'"
            )
        if out < 1:
            raise ShapeError(
                f"{place}: padding {pair} leaves {out} pixels of spatial axis {axis} of input {_by(extents)}; at least "
                f"1 must remain"
            )
    return pairs, output


def padding_sources(H, low, high, mode):
    """Which input cell each cell of an axis padded by ``low`` and ``high`` holds; −1: none, a constant.

    >>> padding_sources(4, 2, 2, "reflect")
    array([2, 1, 0, 1, 2, 3, 2, 1])
    """
    i = np.arange(-low, H + high, dtype=np.int64)
    if mode == "constant":
        return np.where((i < 0) | (i >= H), -1, i)
    if mode == "replicate":
        return np.clip(i, 0, H - 1)
    if mode == "circular":
        return i % H
    if mode == "symmetric":
        i = i % (2 * H)
        return np.where(i < H, i, 2 * H - 1 - i)
    period = max(2 * (H - 1), 1)  # reflect: 0 … H − 1 … 1, and again
    i = i % period
    return np.where(i < H, i, period - i)


def checked_bytes(place, shape, itemsize):
    """Bytes of an array of ``shape``, refused where no machine could hold it (Python integers do not overflow)."""
    total = itemsize
    for extent in shape:
        total *= extent
    largest = itemsize
    for extent in shape:
        largest *= max(extent, 1)
    if largest > LARGEST_ARRAY_BYTES:
        raise ShapeError(f"{place}: an array of shape {tuple(shape)} would take {largest:.3g} bytes; use smaller sizes")
    return total


# ── Pieces of arrays ───────────────────────────────────────────────────────────────────────────────────────────────────

PIECE = 2**20  # values that NumPy works on at once


def pieces(shape: tuple[int, ...], axis: int | None = None, most: int | None = None) -> Iterator[tuple[slice, ...]]:
    """Indices that divide an array of this shape into pieces of at most ``most`` (PIECE) values, in order; lines along ``axis``
    stay whole.

    Between two pieces Ctrl-C gets through, which waits for the end of each of NumPy's functions, and what is computed on the way
    takes the memory of a piece.
    """
    ranges, values, most = [], math.prod(shape), PIECE if most is None else most
    for other, extent in enumerate(shape):
        step = max(extent, 1)
        if other != axis and values > most:
            values //= extent
            step = max(1, most // max(values, 1))
            values *= step
        ranges.append([slice(begin, min(begin + step, extent)) for begin in range(0, extent, step)])
    return itertools.product(*ranges)


def assign(a: np.ndarray, values: np.ndarray | float) -> None:
    """``a[...] = values``, which broadcast and are converted, in pieces."""
    if a.size <= PIECE:
        a[...] = values
        return
    values = np.broadcast_to(values, a.shape)
    for place in pieces(a.shape):
        a[place] = values[place]


def fill_zero(a: np.ndarray) -> None:
    """Set an array to 0, in pieces."""
    assign(a, 0)


def contiguous(a: np.ndarray) -> np.ndarray:
    """The array itself, or a C-contiguous copy, made in pieces."""
    if a.flags.c_contiguous:
        return a
    copy = np.empty(a.shape, a.dtype)
    assign(copy, a)
    return copy


def summed(a: np.ndarray, axes: tuple[int, ...], dtype: type = np.float64) -> np.ndarray:
    """The sums of an array over some axes, which are gone, added in ``dtype`` and in pieces."""
    kept = [axis for axis in range(a.ndim) if axis not in axes]
    ordered, kept_axes = a.transpose([*kept, *axes]), len(kept)
    total: np.ndarray = np.zeros(ordered.shape[:kept_axes], dtype)
    gone = tuple(range(kept_axes, a.ndim))
    for place in pieces(total.shape):
        kept_place: Any = (*place, ...)  # a view, even of a single sum
        part = total[kept_place]
        for summands in pieces(ordered.shape[kept_axes:], most=max(PIECE // max(part.size, 1), 1)):
            part += ordered[place + summands].sum(gone, dtype)
    return total
