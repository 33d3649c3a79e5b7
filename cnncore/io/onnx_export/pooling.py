"""Pooling in ONNX: how each scheme lays out windows, and what each strategy does with their cells.

A strategy asks its windows for their maximum, mean or sum, or for all of their cells side by side, (N, C, cells, \\*output). A
scheme answers with the pooling nodes of ONNX where it can, else with slices or gathered cells. So every strategy is written
once, and goes with every scheme.
"""

import itertools
import math
from functools import cached_property

import numpy as np

from ...checks import per_axis
from ...operators import geometry
from ...operators.registry import OPS
from .writer import LEAST, TINY, Term

__all__ = ["STRATEGIES", "KernelWindows", "kernel_windows", "pooled"]

CELLS = 2  # the axis along which the cells of a window lie
END = 2**31 - 1  # of a slice that goes as far as the axis


# ── Windows ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Windows:
    """Windows on images of the size of ``n.x``. ``axes``: how many axes y has behind its channels.

    ``cells(x)`` is (N, C, cells, \\*output), 0 where a cell is padding; ``mask`` is True where one is not, None where none is;
    ``size`` is how many cells a window has, padding included: a term where that depends on an image of open size.
    """

    def __init__(self, w, n, axes):
        self.w, self.n, self.axes = w, n, axes

    def only(self, cells, fill):
        """``cells``, with ``fill`` where they are padding."""
        return cells if self.mask is None else self.w.where(self.mask, cells, fill)

    def over_cells(self, what, cells, keepdims=False):
        """A reduction of all cells of each window."""
        return self.w.reduced(what, cells, (CELLS,), keepdims)

    def mean_of(self, cells):
        """The mean over the cells of each window that lie inside the image; ``cells`` are 0 elsewhere."""
        if self.mask is None:
            return self.over_cells("Mean", cells)
        return self.over_cells("Sum", cells) / self.counted(keepdims=False)

    def counted(self, keepdims=True):
        """How many cells of each window lie inside the image: a number, or a term against cells (against y)."""
        return self.size if self.mask is None else self.over_cells("Sum", self.w.cast(self.mask), keepdims)

    def against_cells(self, array, extents=(1,)):
        """Learned numbers (rows, …) in a form that goes with cells; ``extents``: of those that each row has."""
        return array.reshape(len(array), *extents, *[1] * self.axes)

    def against_y(self, array):
        """Learned numbers (rows,) in a form that goes with y."""
        return array.reshape(len(array), *[1] * self.axes)

    def ranks(self):
        """0, 1, 2, … along the axis of cells."""
        if isinstance(self.size, Term):
            count = self.w("Range", np.float32(0), self.size, np.float32(1))
            return self.w.reshaped(count, -1, *[1] * self.axes)
        return self.w.constant(np.arange(self.size, dtype=np.float32).reshape(-1, *[1] * self.axes))

    def sorted(self, x, largest=True):
        """Cells in the order of their values; padding comes last."""
        cells = self.only(self.cells(x), np.float32(-np.inf if largest else np.inf))
        count = self.size
        count = self.w.whole(count) if not isinstance(count, Term) else self.w.reshaped(self.w.cast(count, "int64"), 1)
        return self.w("TopK", cells, count, axis=CELLS, largest=int(largest), outputs=2)[0]

    def max(self, x):
        """The maximum of each window's cells inside the image."""
        return self.over_cells("Max", self.only(self.cells(x), np.float32(-np.inf)))

    def max_and_place(self, x):
        """The maximum and where it lies, row-major within its plane; (None, None) where there is no node for that."""
        return None, None

    def mean(self, x):
        """The mean of each window's cells inside the image."""
        return self.sum(x) / self.counted(keepdims=False)

    def sum(self, x):
        """The sum of each window's cells inside the image."""
        return self.over_cells("Sum", self.cells(x))

    def lp(self, x, p):
        """(Σ |x|ᵖ)^(1/p) as a node of ONNX, or None where there is none."""
        return None

    def finished(self, y):
        """y in the form that the operator has."""
        return y


class KernelWindows(Windows):
    """Windows of a kernel: the pooling nodes of ONNX, or strided slices of the padded image.

    A rounding up of sizes (``ceil_mode``) is left to a node only where all runtimes agree what it means: where no window could
    begin beyond image and low padding. Elsewhere the image is padded by as many cells as its size asks for.
    """

    def __init__(self, w, n, extents, kernel, stride, pads, dilation, ceil_mode):
        super().__init__(w, n, len(kernel))
        self.extents, self.kernel, self.stride, self.pads, self.dilation = extents, kernel, stride, pads, dilation
        self.reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        self.size = math.prod(kernel)
        self.agreed = ceil_mode and all(s <= e - high for s, e, (_, high) in zip(stride, self.reach, pads, strict=True))
        self.beyond = [self._beyond(*axis, ceil_mode) for axis in zip(extents, stride, self.reach, pads, strict=True)]

    def _beyond(self, H, s, e, pads, ceil_mode):
        """Cells beyond the padding of one axis that its last window reaches, or may reach where the size is open."""
        low, high = pads
        if not ceil_mode:
            return 0
        if H is None:
            if not self.agreed:
                self.n.refuse(
                    f"whether ceil_mode adds a window depends on the image size, which is open (stride {s}, window {e})",
                    "give input_shape=",
                )
            return s - 1
        steps = -(-(H + low + high - e) // s)
        steps -= steps * s >= H + low
        return max(steps * s + e - (H + low + high), 0)

    @property
    def by_hand(self):
        """Whether the image is padded before a pooling node, which takes less padding than its kernel is long."""
        if any(self.beyond) and not self.agreed:
            return True
        return any(max(pair) >= k for pair, k in zip(self.pads, self.kernel, strict=True))

    @property
    def every_pad(self):
        """(low, high) of padding and of what lies beyond it."""
        return [(low, high + more) for (low, high), more in zip(self.pads, self.beyond, strict=True)]

    def node(self, op_type, x, pads=(), outputs=1, **attributes):
        """A pooling node on x, which is padded already unless ``pads`` says how."""
        return self.w(
            op_type,
            x,
            outputs=outputs,
            kernel_shape=list(self.kernel),
            strides=list(self.stride),
            pads=[low for low, _ in pads] + [high for _, high in pads] if any(map(any, pads)) else None,
            dilations=list(self.dilation) if max(self.dilation) > 1 else None,
            **attributes,
        )

    def _has_node(self, since):
        """Whether the pooling node knows dilations, since a version of the operators."""
        return max(self.dilation) == 1 or self.w.opset >= since

    def slices(self, wide):
        """The cells of all windows of a padded (N, C, 1, \\*image): one strided slice for each place in the kernel."""
        w, made = self.w, []
        axes = w.whole(*(CELLS + 1 + a for a in range(self.axes)))
        for place in itertools.product(*map(range, self.kernel)):
            starts = [d * t for d, t in zip(self.dilation, place, strict=True)]
            # The cell of the last window lies as far before the end as this cell lies before the window's last one.
            stops = [start - (e - 1) or END for start, e in zip(starts, self.reach, strict=True)]
            made.append(w("Slice", wide, w.whole(*starts), w.whole(*stops), axes, w.whole(*self.stride)))
        return made[0] if len(made) == 1 else w("Concat", *made, axis=CELLS)

    def cells(self, x):
        return self.slices(self.w.unsqueezed(self.w.padded(x, self.every_pad), CELLS))

    @cached_property
    def mask(self):
        if not any(map(any, self.every_pad)):
            return None
        if None not in self.extents:
            inside = np.pad(np.ones(self.extents, bool), self.every_pad)
            parts = []
            for place in itertools.product(*map(range, self.kernel)):
                starts = (d * t for d, t in zip(self.dilation, place, strict=True))
                stops = (H - e + 1 for H, e in zip(inside.shape, self.reach, strict=True))
                cut = zip(starts, stops, self.stride, strict=True)
                parts.append(inside[tuple(slice(start, start + stop, step) for start, stop, step in cut)])
            return self.w.constant(np.stack(parts)[None, None])
        return self.slices(self.w.unsqueezed(self.w.padded(self.ones(), self.every_pad), CELLS)) > np.float32(0.5)

    def ones(self):
        """An image of ones, (1, 1, \\*size of x)."""
        w = self.w
        return w.unsqueezed(w("ConstantOfShape", w.extents(self.n.x, 2), value=np.ones(1, np.float32)), 0, 1)

    def max(self, x):
        if not self.by_hand:
            return self.node("MaxPool", x, self.pads, ceil_mode=int(self.agreed) or None)
        return self.node("MaxPool", self.w.padded(x, self.every_pad, -np.inf))

    def max_and_place(self, x):
        if self.by_hand:
            return None, None
        y, place = self.node("MaxPool", x, self.pads, ceil_mode=int(self.agreed) or None, outputs=2)
        plane = self.w("ReduceProd", self.w.extents(x, 2), keepdims=1)
        return y, self.w("Mod", place, plane)

    def mean(self, x, with_padding=False):
        """The mean over cells inside the image, or inside image and padding; what lies beyond never counts."""
        if not any(map(any, self.pads)):
            with_padding = False
        if not self._has_node(19):
            return self.sum(x) / (
                self.average_of_padded_ones() * float(self.size) if with_padding else self.counted(False)
            )
        if not self.by_hand:
            # Never together with ceil_mode: runtimes do not agree whether cells beyond the padding count.
            if with_padding and self.agreed:
                return self.node("AveragePool", self.w.padded(x, self.pads), ceil_mode=1)
            include = int(with_padding) or None
            return self.node("AveragePool", x, self.pads, ceil_mode=int(self.agreed) or None, count_include_pad=include)
        share = self.average_of_padded_ones() if with_padding else self.average(self.ones())
        return self.average(x) / share

    def average(self, x):
        """The sum of each window's cells over the size of the kernel."""
        return self.node("AveragePool", self.w.padded(x, self.every_pad))

    def average_of_padded_ones(self):
        """The share of each window that lies inside image and padding."""
        beyond = [(0, more) for more in self.beyond]
        ones = self.w.padded(self.w.padded(self.ones(), self.pads, 1.0), beyond)
        if self._has_node(19):
            return self.node("AveragePool", ones)
        return self.over_cells("Mean", self.slices(self.w.unsqueezed(ones, CELLS)))

    def sum(self, x):
        return self.average(x) * float(self.size) if self._has_node(19) else super().sum(x)

    def lp(self, x, p):
        if p != int(min(p, 99)) or not self._has_node(18):
            return None
        return self.node("LpPool", self.w.padded(x, self.every_pad), p=int(p))


class GlobalWindow(Windows):
    """One window, the whole image, of any size."""

    mask = None

    def __init__(self, w, n, keepdims):
        super().__init__(w, n, 0)
        self.keepdims, self._kept = keepdims, {}

    @cached_property
    def size(self):
        if None not in self.n.spatial:
            return math.prod(self.n.spatial)
        return self.w("ReduceProd", self.w.cast(self.w.extents(self.n.x, 2)), keepdims=0)

    def cells(self, x):
        return self.w.reshaped(x, 0, 0, -1)

    def flat(self, y):
        """A result without its axes of extent 1; ``finished`` finds it as it was."""
        made = self.w("Flatten", y)
        self._kept[made.name] = y
        return made

    def max(self, x):
        return self.flat(self.w("GlobalMaxPool", x))

    def mean(self, x):
        return self.flat(self.w("GlobalAveragePool", x))

    def lp(self, x, p):
        return self.flat(self.w("GlobalLpPool", x, p=int(p))) if p == int(min(p, 99)) else None

    def finished(self, y):
        if self.keepdims and y.name in self._kept:
            return self._kept[y.name]
        return self.w.unsqueezed(y, *range(2, 2 + len(self.n.spatial))) if self.keepdims else y


class TableWindows(Windows):
    """Windows that a table per axis lays out on images of one size: their cells are gathered, axis by axis."""

    def __init__(self, w, n, tables, kernel=None):
        super().__init__(w, n, len(tables))
        self.kernel = tuple(int(t[1].max()) for t in tables) if kernel is None else tuple(kernel)
        self.size = math.prod(self.kernel)
        self.index, mask = [], np.ones((1,) * (2 * self.axes), bool)
        self.belongs = []  # per axis (H, O): 1 where a cell belongs to a window
        for axis, ((first, count, tap, _), k) in enumerate(zip(tables, self.kernel, strict=True)):
            place = np.arange(k)[:, None] - tap  # (k, O)
            self.index.append(np.clip(first + place, first, first + count - 1).T)
            cell = np.arange(n.spatial[axis])[:, None]
            self.belongs.append(((cell >= first) & (cell < first + count)).astype(np.float32))
            form = [1] * (2 * self.axes)
            form[axis], form[self.axes + axis] = place.shape
            mask = mask & ((place >= 0) & (place < count)).reshape(form)
        self.output = tuple(len(rows) for rows in self.index)
        self.mask = None if mask.all() else w.constant(mask.reshape(1, 1, self.size, *self.output))

    def cells(self, x):
        w = self.w
        for axis in reversed(range(self.axes)):
            x = w.picked(x, self.index[axis], 2 + axis)  # (…, O, k, …)
        order = [0, 1, *(3 + 2 * a for a in range(self.axes)), *(2 + 2 * a for a in range(self.axes))]
        cells = w.reshaped(w("Transpose", x, perm=order), 0, 0, self.size, *self.output)
        return self.only(cells, np.float32(0))

    def max(self, x):
        for axis, index in enumerate(self.index, 2):  # a cell that counts twice is as large
            parts = [self.w.picked(x, places, axis) for places in index.T]
            x = parts[0] if len(parts) == 1 else self.w("Max", *parts)
        return x

    def mean(self, x):
        return self.w.times(x, [weights / weights.sum(axis=0) for weights in self.belongs])

    def sum(self, x):
        return self.w.times(x, self.belongs)


# ── Schemes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def kernel_windows(w, n, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, compat=None):
    """Windows of a kernel on the node's image; padding by name may need to know its size."""
    own = slice(3 - len(n.spatial), None)
    found = geometry.pooling_window(
        n.path, n.spatial, kernel_size, stride, padding, dilation, ceil_mode, compat == "onnx"
    )
    kernel, stride, dilation = found.kernel[own], found.stride[own], found.dilation[own]
    pads = list(zip(found.low[own], found.high[own], strict=True))
    if any(None in pair for pair in pads):
        if max(stride) > 1:
            n.refuse(f"padding={padding!r} with a stride depends on the image size, which is open", "give input_shape=")
        ones = (1,) * len(kernel)  # with stride 1 it is the same for every size
        pads = geometry.padding_pairs(n.path, padding, ones, kernel, stride, dilation)
    return KernelWindows(w, n, n.spatial, kernel, stride, list(pads), dilation, ceil_mode)


def adaptive_windows(w, n, output_size):
    """Windows that share out the image: those of a kernel where the sizes divide, the whole image for one, else by tables."""
    tables, output = geometry.adaptive_window(n.path, n.spatial, output_size)
    if all(O == 1 for O in output):
        return GlobalWindow(w, n, keepdims=True)
    if tables is None:
        n.refuse("windows that share out an image depend on its size, which is open", "give input_shape=")
    if not any(H % O for H, O in zip(n.spatial, output, strict=True)):
        kernel = [H // O for H, O in zip(n.spatial, output, strict=True)]
        return KernelWindows(w, n, n.spatial, kernel, kernel, [(0, 0)] * len(kernel), [1] * len(kernel), False)
    return TableWindows(w, n, tables[3 - len(output) :])


DRAWN = ("kernel_size", "output_size", "output_ratio", "mode", "overlapping", "seed")


def fractional_windows(w, n, s):
    """The windows of the node's seed, which inference draws for every call alike."""
    if s["compat"] is not None:
        n.refuse("compat='torch' draws other windows for every plane", "leave compat out")
    if None in n.spatial:
        n.refuse("fractional windows depend on the image size, which is open", "give input_shape=")
    blank = np.zeros((1, 1, *n.spatial), np.float32)
    _, starts = OPS["fractional_avg_pool"](blank, return_state=True, **{name: s[name] for name in DRAWN})
    kernel, parts = None, 1
    if s["overlapping"]:
        parts = 0
        sizes = (n.path, n.spatial, s["output_size"], s["output_ratio"], s["kernel_size"], True)
        kernel = geometry.fractional_sizes(*sizes)[1]
    tables = [
        geometry.started_window(starts[axis, : O + parts], kernel and kernel[axis])
        for axis, O in enumerate(n.output[2:])
    ]
    return TableWindows(w, n, tables, kernel)


def pooled(w, n):
    """A pooling of the grid: its strategy on the windows of its scheme."""
    s, implementation = n.settings, n.op.implementation
    strategy = implementation.strategy.onnx or STRATEGIES.get(implementation.strategy.name)
    if strategy is None and n.op.origin:
        n.refuse("its strategy is written in Python", "say with onnx=… what it is composed of")
    if strategy is None:
        n.refuse(
            f"its strategy {implementation.strategy.name!r} is not among those of io/onnx_export/pooling.py",
            "add it there",
        )
    if s.get("training"):
        n.refuse(
            "training=True draws at random, which ONNX cannot repeat", "leave training out: the net's mode decides"
        )

    def on(windows):
        if s.get("return_indices") and implementation.strategy.name == "max":
            y, n.indices = windows.max_and_place(n.x)
            if n.indices is not None:
                return windows.finished(y)
        return windows.finished(strategy(w, n, windows, n.x))

    if implementation.scheme.name == "kernel":
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "compat")
        return on(kernel_windows(w, n, **{name: s[name] for name in names if name in s}))
    if implementation.scheme.name == "global":
        return on(GlobalWindow(w, n, s["keepdims"]))
    if implementation.scheme.name == "adaptive":
        return on(adaptive_windows(w, n, s["output_size"]))
    if implementation.scheme.name == "fractional":
        return on(fractional_windows(w, n, s))
    if implementation.scheme.name == "pyramid":
        levels = [w("Flatten", on(adaptive_windows(w, n, level))) for level in s["levels"]]
        return w("Concat", *levels, axis=1)
    if implementation.scheme.name == "s3":
        y = on(kernel_windows(w, n, s["kernel_size"], 1, "same_upper"))
        stride = per_axis(n.path, "stride", s["stride"], len(n.spatial), minimum=1)
        return w("AveragePool", y, kernel_shape=list(stride), strides=list(stride))
    if implementation.strategy.name == "max" and len(n.spatial) == 2:  # regions of interest
        shape = per_axis(n.path, "output_size", s["output_size"], 2, minimum=1)
        return w("MaxRoiPool", n.x, n.term("rois"), pooled_shape=list(shape), spatial_scale=s["spatial_scale"])
    return n.refuse(
        "ONNX pools regions of interest by their maximum only, and in images only",
        "use strategy='max' on two spatial axes",
    )


# ── Strategies ── in the letters of the registry; each returns y before ``finished`` ────────────────────────────────────

STRATEGIES: dict = {}


def strategy(name):
    """Register what a strategy does with its windows."""

    def kept(function):
        STRATEGIES[name] = function
        return function

    return kept


@strategy("max")
def maximum(w, n, windows, x):
    return windows.max(x)


@strategy("min")
def minimum(w, n, windows, x):
    return -windows.max(-x)


@strategy("avg")
def average(w, n, windows, x):
    divisor = n.settings.get("divisor_override")
    if divisor is not None:
        return windows.sum(x) / float(divisor)
    if isinstance(windows, KernelWindows):
        return windows.mean(x, n.settings.get("count_include_pad", False))
    return windows.mean(x)


@strategy("sum")
def total(w, n, windows, x):
    return windows.sum(x)


def power_mean(windows, cells, p, mean):
    """(1/q Σ cellsᵖ)^(1/p) of cells ≥ 0, padding 0 or left out: powers are taken of shares of the largest."""
    w = windows.w
    largest = windows.over_cells("Max", cells, keepdims=True)
    shares = windows.only((cells / w("Max", largest, np.float32(TINY))) ** windows.against_cells(p), np.float32(0))
    total = windows.mean_of(shares) if mean else windows.over_cells("Sum", shares)
    return w("Squeeze", largest, w.whole(CELLS)) * total ** windows.against_y(1 / p)


def numbers(value):
    """A number as one row of a learned array."""
    return np.array([value], np.float32)


@strategy("lp")
def lp(w, n, windows, x):
    p, mean = n.settings["p"], n.settings["mean"]
    if math.isinf(p):
        return windows.max(w("Abs", x))
    y = None if mean else windows.lp(x, p)
    return power_mean(windows, windows.cells(w("Abs", x)), numbers(p), mean) if y is None else y


@strategy("learned_lp")
def learned_lp(w, n, windows, x):
    p, c = 1 + np.logaddexp(0, n.array("rho").astype(np.float64)), n.array("c")
    cells = windows.cells(x)
    if c is not None:
        cells = cells - windows.against_cells(c)
    cells = windows.only(w("Abs", cells), np.float32(0))
    return power_mean(windows, cells, p.astype(np.float32), True)


@strategy("gem")
def generalized_mean(w, n, windows, x):
    p, eps = n.array("ps"), n.settings["eps"]
    p = numbers(n.settings["p"]) if p is None else p
    return mean_of_powers(w, windows, windows.cells(w("Max", x, np.float32(eps))), p)


@strategy("alpha")
def alpha_integration(w, n, windows, x):
    alpha = n.array("alphas")
    alpha = numbers(n.settings["alpha"]) if alpha is None else alpha
    return mean_of_powers(w, windows, windows.cells(x + n.settings["eps"]), (1 - alpha) / 2)


def mean_of_powers(w, windows, cells, p):
    """(1/n Σ cellsᵖ)^(1/p) of positive cells, for any p: by logarithms for 0, for p < 0 as 1 / that of 1 / cells."""
    cells = windows.only(cells, np.float32(1))
    geometric = w("Exp", windows.mean_of(windows.only(w("Log", cells), np.float32(0))))
    if not p.any():
        return geometric
    powers = np.where(p == 0, 1, np.abs(p)).astype(np.float32)
    y = None
    for negative in (False, True):
        if ((p < 0) == negative).any():
            signed = windows.only(1 / cells if negative else cells, np.float32(0))
            part = power_mean(windows, signed, powers, True)
            part = 1 / part if negative else part
            y = part if y is None else w.where(windows.against_y(p < 0), part, y)
    return y if p.all() else w.where(windows.against_y(p == 0), geometric, y)


@strategy("stochastic")
def expected_by_size(w, n, windows, x):
    return windows.sum(x * x) / w("Max", windows.sum(x), np.float32(TINY))  # 0 where all cells are


@strategy("median")
def median(w, n, windows, x):
    ordered, ranks, count = windows.sorted(x, largest=False), windows.ranks(), windows.counted()

    def at(rank):
        if not isinstance(rank, Term):
            return windows.over_cells("Sum", w.sliced(ordered, CELLS, rank, rank + 1))
        return windows.over_cells("Sum", w.where(w("Equal", ranks, rank), ordered, np.float32(0)))

    def half(count):
        return w("Floor", count / 2.0) if isinstance(count, Term) else count // 2

    if n.settings["even"] == "lower":
        return at(half(count - 1))
    return (at(half(count - 1)) + at(half(count))) * 0.5


@strategy("mixed")
def mixed(w, n, windows, x):
    a = windows.against_y(n.array("a"))
    return a * windows.max(x) + (1 - a) * windows.mean(x)


@strategy("random_mixed")
def expected_mixed(w, n, windows, x):
    a = n.settings["frequency"]
    return a * windows.max(x) + (1 - a) * windows.mean(x)


@strategy("gated")
def gated(w, n, windows, x):
    weights, b = n.array("w"), n.array("b")
    s = windows.over_cells("Sum", windows.cells(x) * windows.against_cells(weights, (windows.size,)))
    s = w("Sigmoid", s if b is None else s + windows.against_y(b))
    mean = windows.mean(x)
    return mean + s * (windows.max(x) - mean)


@strategy("tree")
def tree(w, n, windows, x):
    cells = windows.cells(x)

    def sums(weights):
        parts = weights.reshape(len(weights), -1, windows.size)
        return [
            windows.over_cells("Sum", cells * windows.against_cells(parts[:, i], (windows.size,)))
            for i in range(parts.shape[1])
        ]

    nodes, gates = sums(n.array("v")), sums(n.array("w"))
    for gate in reversed(gates):  # row by row from the leaves, each from the right
        right, left = nodes.pop(), nodes.pop()
        nodes.insert(0, right + w("Sigmoid", gate) * (left - right))
    return nodes[0]


def weighted(w, windows, x, logits):
    """Σ wᵢ xᵢ, w the softmax of ``logits`` over each window."""
    shares = w("Softmax", windows.only(logits, np.float32(LEAST)), axis=CELLS)
    return windows.over_cells("Sum", shares * windows.cells(x))


@strategy("soft")
def soft(w, n, windows, x):
    return weighted(w, windows, x, windows.cells(x))


@strategy("auto")
def auto(w, n, windows, x):
    alphas = n.array("alphas")
    alpha = np.float32(n.settings["alpha"]) if alphas is None else windows.against_cells(alphas)
    return weighted(w, windows, x, alpha * windows.cells(x))


@strategy("log_sum_exp")
def log_sum_exp(w, n, windows, x):
    rs, mean = n.array("rs"), n.settings["mean"]
    rs = numbers(n.settings["r"]) if rs is None else rs
    if not rs.any():
        return windows.mean(x)
    if not rs.all():
        n.refuse("a learned r is 0 in some channels and not in others", "set it to a small number")
    exponents = windows.only(windows.against_cells(rs) * windows.cells(x), np.float32(-np.inf))
    largest = windows.over_cells("Max", exponents, keepdims=True)
    terms = w("Exp", exponents - largest)
    total = windows.mean_of(terms) if mean else windows.over_cells("Sum", terms)
    return (w("Squeeze", largest, w.whole(CELLS)) + w("Log", total)) / windows.against_y(rs)


def ranked(w, windows, x, weights, counting=None, normalized=True):
    """Σ vᵣ x₍ᵣ₎ over the ranks r < ``counting`` (all cells inside the image), divided by Σ vᵣ where ``normalized``."""
    ordered = windows.sorted(x)
    if counting is None and windows.mask is not None:
        counting = windows.counted()
    if counting is not None:
        taken = windows.ranks() < counting
        ordered, weights = (w.where(taken, part, np.float32(0)) for part in (ordered, weights))
    y = windows.over_cells("Sum", ordered * weights)
    if not normalized:
        return y
    total = w.reduced("Sum", weights, (-1 - windows.axes,)) if isinstance(weights, Term) else None
    if total is None:
        total = weights.sum(axis=-1 - windows.axes)
    return y / total


@strategy("ordinal")
def ordinal(w, n, windows, x):
    v = n.array("w")
    v = np.exp(v - v.max(axis=1, keepdims=True)) if n.settings["softmax"] else v
    return ranked(w, windows, x, windows.against_cells(v, (windows.size,)))


@strategy("rank_avg")
def rank_average(w, n, windows, x):
    t, count = n.settings["t"], windows.counted()
    if t is None:
        counting = w("Ceil", count / 2.0) if isinstance(count, Term) else np.float32(-(-count // 2))
    else:
        counting = w("Min", count, np.float32(t)) if isinstance(count, Term) else np.float32(min(t, count))
    ones = windows.ranks() * 0.0 + 1.0
    return ranked(w, windows, x, ones, counting)


def falling(w, n, windows, x, a, normalized):
    """Ranks weighted by a (1 − a)ʳ."""
    weights = np.float32(a) * np.float32(1 - a) ** windows.ranks()
    if a == 1:  # 0⁰ = 1
        return windows.max(x)
    return ranked(w, windows, x, weights, normalized=normalized)


@strategy("rank_weighted")
def rank_weighted(w, n, windows, x):
    return falling(w, n, windows, x, n.settings["a"], n.settings["normalized"])


@strategy("rank_stochastic")
def expected_by_rank(w, n, windows, x):
    return falling(w, n, windows, x, n.settings["a"], True)


@strategy("max_dropout")
def expected_of_kept(w, n, windows, x):
    return falling(w, n, windows, x, 1 - n.settings["q"], False)


@strategy("dilation")
def dilation(w, n, windows, x):
    moved = windows.cells(x) + windows.against_cells(n.array("f"), (windows.size,))
    return windows.over_cells("Max", windows.only(moved, np.float32(-np.inf)))


@strategy("erosion")
def erosion(w, n, windows, x):
    moved = windows.cells(x) - windows.against_cells(n.array("f"), (windows.size,))
    return windows.over_cells("Min", windows.only(moved, np.float32(np.inf)))
