"""Window schemes: where the windows of a pooling lie, independent of the strategy.

A scheme is data (its settings, its arrays, its documentation) and a function that lays out a call's windows: the shape of
y, and the parts of the arrays with their tables of windows. Most schemes have one part, the whole arrays; a pyramid has one
per level, regions of interest one each. Strategies see none of this.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ...checks import choice, flag, has_length, integer, number, per_axis, seed_number
from ...errors import DataError, SettingError, ShapeError
from ...runtime import random
from .. import geometry
from ..schema import REQUIRED, Array, Setting
from . import reference

__all__ = [
    "ADAPTIVE",
    "FRACTIONAL",
    "GLOBAL",
    "KERNEL",
    "KERNEL_SIZE",
    "PADDING",
    "PYRAMID",
    "ROI",
    "S3",
    "SCHEMES",
    "STRIDE",
    "WINDOW_SETTINGS",
    "Layout",
    "Part",
    "Scheme",
]

KERNEL_SIZE = Setting("kernel_size", REQUIRED, "extent of the window: an integer, or one per axis")
STRIDE = Setting("stride", None, "stride of the window; None: kernel_size")
PADDING = Setting(
    "padding",
    0,
    "padding, which takes no part in the pooling unless said otherwise: an integer, one per axis, (low, high) pairs, or a name",
)
DILATION = Setting("dilation", 1, "spacing between the elements of a window")
CEIL_MODE = Setting(
    "ceil_mode",
    False,
    "round the output size up instead of down; every window starts in the image or in its low padding",
    flag,
)
OUTPUT_SIZE = Setting(
    "output_size", REQUIRED, "spatial extents of y: an integer, or one per axis; None keeps that of x"
)
KEEPDIMS = Setting("keepdims", False, "keep the spatial axes, with extent 1", flag)
SEED = Setting("seed", 0, "seed of the random numbers, which depend on it and on the position in y only", seed_number)
TRAINING = Setting(
    "training", False, "draw at random (True), or use the deterministic form for inference (False)", flag
)
RETURN_STATE = Setting("return_state", False, "also return what was drawn, to be passed back as state", flag)

WINDOW_SETTINGS = (KERNEL_SIZE, STRIDE, PADDING, DILATION, CEIL_MODE)

# Numbers that place windows are drawn apart from those that choose cells.
WINDOW_NUMBERS = 2**62
MOST_REGION_EXTENT = 2**30


class Part(NamedTuple):
    """Windows on a part of the arrays: an index into x and into y, and the extents that part of y has by itself."""

    windows: Any
    x_index: tuple = (...,)
    y_index: tuple = (...,)
    y_extents: tuple | None = None

    def of_x(self, x):
        """The part of an array of x's shape."""
        return x[self.x_index]

    def of_y(self, y, channels):
        """The part of an array of y's shape, as (images, channels, \\*windows): a view."""
        y = y[self.y_index]
        return y if self.y_extents is None else y.reshape(y.shape[0], channels, *self.y_extents)


class Layout(NamedTuple):
    """The windows of a call: y's shape behind (images, channels), and the parts, ready for C."""

    output: tuple
    parts: tuple | None  # None while extents are open, or where ``bind`` makes them from the call's arrays
    receptive: tuple | None = None  # (reach, stride) per axis; None: windows depend on the extents
    images: Any = None  # first extent of y where it is not that of x
    channels: int = 1  # y has this many channels for each of x
    bind: Callable | None = None  # bind(shapes, dtype, arrays by name) → (parts, state drawn)
    gaps: bool = False  # some of y may belong to no part: it is 0
    average: Any = None  # windows of an average over what the windows gave: y is that
    pieces: bool = True  # whether images may be taken one after the other, outside training
    receptive_start: tuple | None = None  # first cell of the first window per axis; None: not known


@dataclass(frozen=True, eq=False)
class Scheme:
    """A window scheme.

    ``lay_out(op, x shape, settings, shapes by array)`` → :class:`Layout`. ``prefix`` begins the names of its operators;
    ``kernel(settings, rank)`` is the extents of a whole window where all windows are parts of one kernel, so that weights
    can belong to its places, else None. ``draws`` says whether windows are drawn: "always", or "training".
    """

    name: str
    prefix: str
    phrase: str
    settings: tuple
    lay_out: Callable
    shape: str
    cases: tuple
    symbols: Mapping = field(default_factory=dict)  # of its operators: letters of ``shape`` and their meanings
    edges: tuple = ()
    arrays: tuple = ()
    samples: Callable | None = None  # samples(rng, x) → the arrays of a case
    kernel: Callable | None = None
    why_no_kernel: str = ""
    pads: bool = False
    draws: str = ""
    paper: str = ""


class Windows(reference.Windows):
    """The windows of a call, ready for C; strategies written in Python read the cells of each from the same tables.

    ``axes`` has, for each of depth, height and width: where windows start, how many cells they have, the extent of the image
    and the step between cells.
    """

    def __init__(self, tables, image, kernel, step):
        super().__init__(tables, image, kernel, step)
        self.axes = tuple((table[0], table[1], extent, d) for table, extent, d in zip(tables, image, step, strict=True))

    @cached_property
    def groups(self):
        """(numbers of windows, their cells as row-major positions in the plane), for all windows with equally many cells."""
        counts = [np.unique(count) for _, count, _, _ in self.axes]
        across = [len(starts) for starts, _, _, _ in self.axes]
        extents = [extent for _, _, extent, _ in self.axes]
        groups = []
        for shape in itertools.product(*counts):
            chosen, cells = [], []
            for (starts, count, _, step), n in zip(self.axes, shape, strict=True):
                chosen.append(np.flatnonzero(count == n))
                cells.append(starts[chosen[-1], None] + step * np.arange(n))
            numbers = np.ravel_multi_index(np.meshgrid(*chosen, indexing="ij"), across).reshape(-1)
            (d, h, w), (H, W) = cells, extents[1:]
            positions = (
                (d[:, None, None, :, None, None] * H + h[None, :, None, None, :, None]) * W
                + w[None, None, :, None, None, :]
            )  # fmt: skip
            groups.append((numbers, positions.reshape(len(numbers), math.prod(shape))))
        return tuple(groups)


def whole_windows(tables, spatial):
    """Windows without padding: as many taps as the largest one has elements."""
    return Windows(tables, geometry.canonical(spatial, 1), [int(t[1].max()) for t in tables], (1, 1, 1))


def kernel_of(settings, rank):
    """The extents of the window, where kernel_size says them."""
    return per_axis("kernel_size", "kernel_size", settings["kernel_size"], rank, minimum=1)


# ── Kernel ── the windows of kernel_size, stride, padding, dilation and ceil_mode ──────────────────────────────────────


def lay_out_kernel(op, shape, settings, shapes):
    """Windows of kernel_size, stride, padding, dilation and ceil_mode."""
    w = geometry.pooling_window(
        op.name,
        geometry.spatial(op.name, shape),
        settings["kernel_size"],
        settings["stride"],
        settings["padding"],
        settings.get("dilation", 1),
        settings.get("ceil_mode", False),
        settings.get("compat") == "onnx",
    )
    reach = (d * (k - 1) + 1 for d, k in zip(w.dilation, w.kernel, strict=True))
    receptive = tuple(zip(reach, w.stride, strict=True))[-w.rank :]
    if None in w.input:
        return Layout(w.output_shape, None, receptive)
    windows = Windows(geometry.axes(op.name, w), w.input, w.kernel, w.dilation)
    start = tuple(-low for low in w.low)[-w.rank :]
    return Layout(w.output_shape, (Part(windows),), receptive, receptive_start=start)


KERNEL = Scheme(
    "kernel",
    "",
    "kernel_size, stride, padding, dilation, ceil_mode",
    WINDOW_SETTINGS,
    lay_out_kernel,
    shape="(N, C, *spatial) → (N, C, *output), output = ⌊(H + lo + hi − d(k − 1) − 1) / s⌋ + 1 per axis",
    cases=({"kernel_size": 3, "stride": 2, "padding": 1},),
    kernel=kernel_of,
    pads=True,
)


# ── Adaptive and global ────────────────────────────────────────────────────────────────────────────────────────────────


def lay_out_adaptive(op, shape, settings, shapes):
    """Windows that divide the image into output_size parts, as equal as integers allow."""
    spatial = geometry.spatial(op.name, shape)
    tables, output = geometry.adaptive_window(op.name, spatial, settings["output_size"])
    return Layout(output, None if tables is None else (Part(whole_windows(tables, spatial)),))


ADAPTIVE = Scheme(
    "adaptive",
    "adaptive_",
    "output_size windows that cover the image",
    (OUTPUT_SIZE,),
    lay_out_adaptive,
    shape="(N, C, *spatial) → (N, C, *output_size); window i of an axis is [⌊i·H/O⌋, ⌈(i + 1)·H/O⌉)",
    symbols={"i": "number of the window, from 0"},
    edges=("windows overlap by one element where O does not divide H", "O > H: elements are repeated"),
    cases=({"output_size": 2},),
    why_no_kernel="the windows of an adaptive pooling differ in size and depend on the image",
)


def lay_out_global(op, shape, settings, shapes):
    """One window that covers the whole image."""
    spatial = geometry.spatial(op.name, shape)
    tables = geometry.global_window(spatial)
    output = (1,) * len(spatial) if settings["keepdims"] else ()
    return Layout(output, None if tables is None else (Part(whole_windows(tables, spatial)),))


GLOBAL = Scheme(
    "global",
    "global_",
    "one window that covers the whole image",
    (KEEPDIMS,),
    lay_out_global,
    shape="(N, C, *spatial) → (N, C), with keepdims=True (N, C, 1, …)",
    cases=({},),
    why_no_kernel="the window of a global pooling is as large as the image",
)


# ── Fractional ── Graham 2014, arXiv:1412.6071 ─────────────────────────────────────────────────────────────────────────


def lay_out_fractional(op, shape, settings, shapes):
    """Windows whose mean step is α, not an integer; drawn for each call, for all images and channels at once."""
    return Fractional(op, shape, settings).layout(shapes.get(op.implementation.window_state))


class Fractional:
    """The windows of a call of fractional pooling: overlapping or disjoint; torch's differ from plane to plane."""

    def __init__(self, op, shape, settings):
        self.place, self.state_name, self.shape = op.name, op.implementation.window_state, shape
        self.spatial = geometry.spatial(op.name, shape)
        self.rank, self.overlapping, self.compat = len(self.spatial), settings["overlapping"], settings["compat"]
        self.mode, self.seed = settings["mode"], settings["seed"]
        self.output, self.kernel = geometry.fractional_sizes(
            op.name,
            self.spatial,
            settings["output_size"],
            settings["output_ratio"],
            settings["kernel_size"],
            self.overlapping,
        )
        usual = self.mode == "pseudorandom" and self.overlapping and settings["kernel_size"] is not None
        if self.compat == "torch" and not usual:
            raise SettingError(
                f"{op.name}: compat='torch' is mode='pseudorandom' with overlapping=True and a kernel_size; PyTorch has no "
                "other"
            )

    def layout(self, state):
        """The :class:`Layout`; ``state`` is the shape of what was drawn before, or None."""
        if None in self.spatial:
            return Layout(self.output, None, pieces=self.compat is None, bind=lambda *_: None)
        expected = (self.rank, self.most_starts())
        if self.compat == "torch":
            expected = (*self.shape[:2], self.rank)
        if state is not None and None not in expected and state != expected:
            raise ShapeError(f"{self.place}: {self.state_name} has shape {state}; expected {expected}")
        if self.compat is None and state is None:
            bound = self.drawn(None)
            return Layout(self.output, bound[0], bind=lambda *_: bound)
        return Layout(self.output, None, pieces=self.compat is None, bind=self.bind)

    def bind(self, shape, dtype, arrays):
        given = arrays.get(self.state_name)
        return self.drawn_as_torch(shape, dtype, given) if self.compat == "torch" else self.drawn(given)

    def count(self, windows):
        """How many starts ``windows`` have: disjoint windows end where the next would start."""
        return windows + (not self.overlapping)

    def most_starts(self):
        return self.count(max(self.output))

    def drawn(self, given):
        """One layout of windows for the whole batch: the rows of starts are the state."""
        if given is None:
            numbers = np.empty((self.rank, max(self.output)))
            random.fill_uniform(self.seed, WINDOW_NUMBERS, numbers)
            given = self.starts(numbers)
        elif given.dtype != np.int64:
            raise DataError(f"{self.place}: {self.state_name} holds where windows start, integers; got {given.dtype}")
        self.check_starts(given)
        return (Part(self.windows(given)),), given

    def drawn_as_torch(self, shape, dtype, given):
        """Windows of their own for every plane, from u in x's precision, the last axis first in two dimensions."""
        if given is None:
            numbers = np.empty((*shape[:2], self.rank))
            random.fill_uniform(self.seed, WINDOW_NUMBERS, numbers)
            # The rounding to float32 may give 1, which is not in [0, 1).
            given = np.minimum(numbers, 1 - np.finfo(dtype).epsneg).astype(dtype)
        elif given.dtype != dtype or not ((given >= 0) & (given < 1)).all():
            raise DataError(f"{self.place}: {self.state_name} must hold numbers in [0, 1) of x's dtype {dtype}")
        samples = given[..., ::-1] if self.rank == 2 else given
        parts = []
        for n, c in np.ndindex(*shape[:2]):
            plane = (slice(n, n + 1), slice(c, c + 1))
            parts.append(Part(self.windows(self.starts(samples[n, c][:, None])), plane, plane))
        return tuple(parts), given

    def starts(self, numbers):
        """Where the windows start, a row per axis; -1 behind the last."""
        starts = np.full((self.rank, self.most_starts()), -1, np.int64)
        for axis, (H, O) in enumerate(zip(self.spatial, self.output, strict=True)):
            kernel = self.kernel[axis] if self.overlapping else None
            row = geometry.fractional_starts(H, O, kernel, numbers[axis], self.mode == "random")
            starts[axis, : len(row)] = row
        return starts

    def check_starts(self, starts):
        """Every window lies inside the image, none before the one before it."""
        for axis, (H, O) in enumerate(zip(self.spatial, self.output, strict=True)):
            row = starts[axis, : self.count(O)]
            if self.overlapping:
                inside = row[0] >= 0 and row[-1] <= H - self.kernel[axis]
            else:
                inside = row[0] == 0 and row[-1] == H
            if not inside or (np.diff(row) < (0 if self.overlapping else 1)).any():
                raise DataError(
                    f"{self.place}: {self.state_name} holds windows outside the image; pass what the same call returned with "
                    "return_state=True"
                )

    def windows(self, starts):
        """The tables of windows that start there."""
        tables = [
            geometry.started_window(row[: self.count(O)], self.kernel[axis] if self.overlapping else None)
            for axis, (row, O) in enumerate(zip(starts, self.output, strict=True))
        ]
        missing = [np.array([[0], [1], [0], [1]], np.int64)] * (3 - self.rank)
        if self.overlapping:
            extents = geometry.canonical(self.kernel, 1)
        else:
            extents = [1] * (3 - self.rank) + [int(t[1].max()) for t in tables]
        return Windows((*missing, *tables), geometry.canonical(self.spatial, 1), extents, (1, 1, 1))


def fractional_kernel(settings, rank):
    """The kernel of overlapping windows, where it is given: without it, it would follow from the image."""
    return kernel_of(settings, rank) if settings["overlapping"] and settings["kernel_size"] is not None else None


FRACTIONAL = Scheme(
    "fractional",
    "fractional_",
    "output_size windows, or a number by output_ratio, at random steps of two adjacent integers",
    (
        Setting("kernel_size", None, "extents of overlapping windows; None: ⌊H/O⌋ + 1, one more than the shorter step"),
        Setting("output_size", None, "spatial extents of y: an integer, or one per axis"),
        Setting(
            "output_ratio",
            None,
            "instead of output_size: spatial extents of y are ⌊ratio H⌋; a number up to 1, or one per axis",
        ),
        Setting(
            "mode",
            "pseudorandom",
            "'pseudorandom': starts ⌊(i + u)α⌋ − ⌊uα⌋; 'random': steps in random order",
            choice("pseudorandom", "random"),
        ),
        Setting("overlapping", True, "overlapping windows of kernel_size (True), or disjoint windows (False)", flag),
        SEED,
        RETURN_STATE,
        Setting(
            "compat",
            None,
            "'torch': u is drawn for every plane and axis, in x's precision; state is PyTorch's _random_samples",
            choice(None, "torch"),
        ),
    ),
    lay_out_fractional,
    shape="(N, C, *spatial) → (N, C, *output_size); α = (H − k)/(O − 1), with overlapping=False H/O",
    symbols={"α": "mean step from window to window"},
    edges=(
        "windows are drawn once per call, for all images and channels; their starts are computed in float64 whatever "
        "the dtype of x",
        "state: int64 (axes, most windows), the starts of the windows along each axis, then −1; of disjoint windows "
        "also the end of the last",
        "compat='torch': state is (N, C, axes) of x's dtype, PyTorch's _random_samples, and starts are computed in x's dtype",
        "one window along an axis: it lies at the end, as in PyTorch",
        "TensorFlow: adjacent windows share a boundary element, and u has another range, so that its windows differ",
    ),
    cases=(
        {"kernel_size": 2, "output_size": 3},
        {"output_ratio": 0.6, "overlapping": False, "mode": "random"},
    ),
    kernel=fractional_kernel,
    why_no_kernel="give kernel_size, with overlapping=True: disjoint windows differ in size",
    draws="always",
    paper="Graham 2014, arXiv:1412.6071",
)


# ── Pyramid ── He, Zhang, Ren & Sun 2015, arXiv:1406.4729 ──────────────────────────────────────────────────────────────


def levels(place, name, value):
    """A check that levels is one or more numbers of bins."""
    if not has_length(value) or isinstance(value, str) or not len(value):
        raise SettingError(f"{place}: {name} must be numbers of bins per axis, such as (1, 2, 4), got {value!r}")
    return tuple(integer(place, name, v, 1, 2**16) for v in value)


def lay_out_pyramid(op, shape, settings, shapes):
    """The parts of adaptive pooling into the bins of each level, concatenated in y."""
    spatial = geometry.spatial(op.name, shape)
    rank, channels = len(spatial), shape[1]
    bins = [(level,) * rank for level in settings["levels"]]
    cells = [level**rank for level in settings["levels"]]
    parts, first = [], 0
    for extents, count in zip(bins, cells, strict=True):
        tables, _ = geometry.adaptive_window(op.name, spatial, extents)
        if tables is not None:
            stretch = slice(first * channels, (first + count) * channels)
            parts.append(Part(whole_windows(tables, spatial), (...,), (slice(None), stretch), extents))
        first += count
    return Layout((), tuple(parts) or None, channels=first)


PYRAMID = Scheme(
    "pyramid",
    "pyramid_",
    "adaptive windows of several levels, concatenated: a fixed number of outputs for any image size",
    (Setting("levels", (1, 2, 4), "number of bins per axis, for each level, in the order of the result", levels),),
    lay_out_pyramid,
    shape="(N, C, *spatial) → (N, C · bins), level by level and within a level channel by channel, as in Caffe and "
    "Chainer",
    symbols={"bins": "bins of all levels: Σ level^(spatial axes)"},
    edges=(
        "windows of a level are those of adaptive pooling: they cover the image, and none is empty (Caffe and Chainer "
        "round kernel and padding instead)",
    ),
    cases=({"levels": (1, 2)},),
    why_no_kernel="the windows of a pyramid differ in size from level to level and depend on the image",
    paper="He, Zhang, Ren & Sun 2015, arXiv:1406.4729",
)


# ── Regions of interest ── Girshick 2015, arXiv:1504.08083 ─────────────────────────────────────────────────────────────


def lay_out_regions(op, shape, settings, shapes):
    """The parts of adaptive pooling of each region, clipped to the image."""
    spatial = geometry.spatial(op.name, shape)
    rank, rois = len(spatial), shapes["rois"]
    if len(rois) != 2 or rois[1] not in (None, 1 + 2 * rank):
        raise ShapeError(
            f"{op.name}: rois has shape {rois}; for {rank} spatial axes expected (R, {1 + 2 * rank}): image number, low "
            f"and high corner, each beginning with the last axis (x before y)"
        )
    output = per_axis(op.name, "output_size", settings["output_size"], rank, minimum=1)
    geometry.checked_bytes(op.name, output, 1)

    def bind(shape, dtype, arrays):
        return region_parts(op, shape, arrays["rois"], settings["spatial_scale"], output), None

    return Layout(output, None, images=rois, bind=bind, gaps=True)


def region_parts(op, shape, rois, scale, output):
    """A part for each region that overlaps its image."""
    rank, parts = len(output), []
    if not np.isfinite(rois).all():
        raise DataError(f"{op.name}: rois holds values that are not finite")
    corners = rois[:, 1:].astype(np.float64) * scale
    corners = np.sign(corners) * np.floor(np.abs(corners) + 0.5)  # halves away from 0, as C rounds
    corners = np.clip(corners, -MOST_REGION_EXTENT, MOST_REGION_EXTENT).astype(np.int64)
    for r, (image, box) in enumerate(zip(rois[:, 0], corners, strict=True)):
        if image != int(image) or not 0 <= image < shape[0]:
            raise DataError(
                f"{op.name}: rois[{r}] refers to image {image:g}; the input has {shape[0]} images, counted from 0"
            )
        low, high = box[:rank][::-1], box[rank:][::-1]
        axes = [geometry.region_window(op.name, *axis) for axis in zip(shape[2:], low, high, output, strict=True)]
        if any(table is None for table, _ in axes):
            continue
        missing = [np.array([[0], [1], [0], [1]], np.int64)] * (3 - rank)
        met = tuple(slice(first, first + table.shape[1]) for table, first in axes)
        windows = whole_windows((*missing, *(table for table, _ in axes)), shape[2:])
        n = int(image)
        parts.append(Part(windows, (slice(n, n + 1),), (slice(r, r + 1), slice(None), *met)))
    return tuple(parts)


def sample_regions(rng, x):
    """Five regions: one inside, one of the whole image, one partly outside, one wholly outside, a malformed one."""
    extents = np.array(x.shape[2:][::-1], float)
    boxes = [(0 * extents + 1, extents - 2), (0 * extents, extents - 1), (extents // 2, 2 * extents)]
    boxes += [(3 * extents, 4 * extents), (extents // 2, 0 * extents)]
    return (np.array([[min(r, len(x) - 1) if r < 2 else 0, *low, *high] for r, (low, high) in enumerate(boxes)]),)


ROI = Scheme(
    "roi",
    "roi_",
    "output_size windows that cover each region of interest",
    (
        Setting("output_size", REQUIRED, "bins per region: an integer, or one per axis"),
        Setting(
            "spatial_scale", 1.0, "scale from the coordinates of rois to pixels of x, such as 1/16", number(above=0)
        ),
    ),
    lay_out_regions,
    arrays=(
        Array(
            "rois",
            "regions (R, 1 + 2·axes): image index, low and high corner, the last axis first: (n, x1, y1, x2, y2)",
            differentiable=False,
        ),
    ),
    samples=sample_regions,
    shape="(N, C, *spatial), (R, 1 + 2·axes) → (R, C, *output_size)",
    symbols={"axes": "number of spatial axes"},
    edges=(
        "corners × spatial_scale are rounded, halves away from 0; the high corner belongs to the region, which has at "
        "least 1 pixel",
        "bins [⌊ih/O⌋, ⌈(i + 1)h/O⌉) of integers, clipped to the image",
        "empty bins (outside the image): y = 0 and no gradient",
    ),
    cases=({"output_size": 2, "spatial_scale": 1.0},),
    why_no_kernel="the windows of regions differ in size with the regions",
    paper="Girshick 2015, ICCV, arXiv:1504.08083, section 2.1",
)


# ── Stochastic spatial sampling (S3) ── Zhai et al. 2017, arXiv:1611.05138 ─────────────────────────────────────────────


def lay_out_s3(op, shape, settings, shapes):
    """Windows with stride 1; in training some rows and columns are drawn, otherwise averages are taken."""
    spatial = geometry.spatial(op.name, shape)
    rank = len(spatial)
    stride = per_axis(op.name, "stride", settings["stride"], rank, minimum=1)
    grid = tuple(2 * s for s in stride)
    if settings["grid_size"] is not None:
        grid = per_axis(op.name, "grid_size", settings["grid_size"], rank, minimum=1)
    for g, s in zip(grid, stride, strict=True):
        if g % s:
            raise SettingError(f"{op.name}: grid_size {g} must be a multiple of stride {s}")
    w = geometry.pooling_window(op.name, spatial, settings["kernel_size"], 1, "same_upper")
    output = tuple(None if H is None else H // s for H, s in zip(spatial, stride, strict=True))
    if any(O == 0 for O in output):
        raise ShapeError(f"{op.name}: input {spatial} is smaller than stride {stride}")
    training, seed = settings["training"], settings["seed"]
    state = shapes.get(op.implementation.window_state)
    if not training and (state is not None or settings["return_state"]):
        raise SettingError(f"{op.name}: a state is what training draws; use training=True, or leave state out")
    if None in spatial:
        return Layout(output, None, bind=lambda *_: None)
    tables = geometry.axes(op.name, w)
    if not training:
        step = geometry.pooling_window(op.name, spatial, stride)
        average = Windows(geometry.axes(op.name, step), step.input, step.kernel, step.dilation)
        return Layout(output, (Part(Windows(tables, w.input, w.kernel, w.dilation)),), average=average)
    if state is not None and state != (rank, max(output)):
        raise ShapeError(
            f"{op.name}: {op.implementation.window_state} has shape {state}; expected {(rank, max(output))}"
        )

    def bind(shape, dtype, arrays):
        picks = arrays.get(op.implementation.window_state)
        if picks is None:
            picks = np.full((rank, max(output)), -1, np.int64)
            for axis, (H, g, s) in enumerate(zip(spatial, grid, stride, strict=True)):
                numbers = np.empty(H)
                random.fill_uniform(seed, WINDOW_NUMBERS + axis * 2**40, numbers)
                picks[axis, : output[axis]] = geometry.strip_picks(H, g, s, numbers)
        chosen = list(tables)
        for axis, (H, O) in enumerate(zip(spatial, output, strict=True)):
            rows = picks[axis, :O]
            if picks.dtype != np.int64 or not ((rows >= 0) & (rows < H)).all() or (np.diff(rows) < 1).any():
                raise DataError(
                    f"{op.name}: {op.implementation.window_state} must hold the rows picked along each axis, in order, as "
                    "returned with return_state=True"
                )
            place = 3 - rank + axis
            chosen[place] = np.ascontiguousarray(tables[place][:, rows])
        return (Part(Windows(chosen, w.input, w.kernel, w.dilation)),), picks

    return Layout(output, None, bind=bind)


S3 = Scheme(
    "s3",
    "s3_",
    "windows with stride 1, of which rows and columns are drawn at random (S3)",
    (
        KERNEL_SIZE,
        Setting("stride", 2, "downsampling factor: an integer, or one per axis"),
        Setting(
            "grid_size",
            None,
            "g: g/stride rows are drawn from each strip of g rows; a multiple of stride, None: twice stride",
        ),
        TRAINING,
        SEED,
        RETURN_STATE,
    ),
    lay_out_s3,
    shape="(N, C, *spatial) → (N, C, *output), output = ⌊H / stride⌋ per axis",
    edges=(
        'windows: stride 1, padding "same_upper", which takes no part in the pooling',
        "training: rows and columns are drawn once per call, for all images and channels, strip by strip",
        "a last strip of r < g rows: ⌊r / stride⌋ of them are drawn",
        "inference: averages over stride × stride windows, the expectation over the draws",
        "state: int64 (axes, most rows), the rows drawn along each axis, then −1",
    ),
    cases=({"kernel_size": 2, "training": True}, {"kernel_size": 3, "stride": 2}),
    kernel=kernel_of,
    draws="training",
    paper="Zhai, Wu, Kumar, Li, Chen, Ahuja & Feris 2017, CVPR, arXiv:1611.05138",
)

SCHEMES = {s.name: s for s in (KERNEL, ADAPTIVE, GLOBAL, FRACTIONAL, PYRAMID, ROI, S3)}
