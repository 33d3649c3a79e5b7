"""ONNX operators as nodes of a graph: one short function each, which gets an ``Imported`` node and returns what it makes.

What changed between versions of an operator (attributes that became inputs, other defaults) is dealt with where the operator is.
"""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ...nets.structure import INDICES
from ...operators.arrays.implementation import MOST_COMPUTED_AXES
from ..onnx_export.arrays import NODES, OF_EACH_VALUE, REDUCTIONS
from .layouts import composed
from .shapes import Extent, as_real, as_size, as_whole, folded, is_open, rounded_up, tidy, windows, written
from .sizes import counting, with_extents
from .tensors import NUMBERS

__all__ = ["KEEPS_TYPE_OF", "OPERATORS", "REASONS"]

OPERATORS: dict = {}  # ONNX operator → function(node) → Live, array of numbers, or a tuple of them

REASONS = {"SequenceMap": "sequences are not read: export without them"} | {
    name: "which values it gives depends on numbers of the image, not only on its size"
    for name in ("NonZero", "Unique", "Compress")
}

INT_MOST = 1 << 31

# ONNX operator → the input whose type its results have; what is not named makes real numbers, or says itself what it makes.
KEEPS_TYPE_OF = dict.fromkeys(
    (
        *(
            "Identity",
            "Transpose",
            "Reshape",
            "Flatten",
            "Squeeze",
            "Unsqueeze",
            "Expand",
            "Tile",
            "Concat",
            "Split",
            "Slice",
        ),
        *(
            "Gather",
            "Pad",
            "DepthToSpace",
            "SpaceToDepth",
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Pow",
            "Max",
            "Min",
            "Sum",
            "Neg",
        ),
        *("MaxPool", "Abs", "Sign", "Clip", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "MatMul"),
    ),
    0,
)


def imports(*names):
    """Register the function for ONNX operators."""

    def kept(function):
        for name in names:
            OPERATORS[name] = function
        return function

    return kept


def is_constant(v):
    return isinstance(v, np.ndarray)


# ── Windows ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def plain(values):
    """One number where all are the same, else a tuple."""
    values = tuple(values)
    return values[0] if len(set(values)) == 1 else values


def plain_pads(pairs):
    """Padding as an integer, one per axis, or pairs."""
    return plain(low for low, _ in pairs) if all(low == high for low, high in pairs) else tuple(pairs)


class NodeWindow(NamedTuple):
    """The window of a node: extents per axis, and what they are as settings of an operator."""

    kernel: list
    stride: list
    dilation: list
    pairs: object  # padding: (low, high) per axis, or "same"
    settings: dict  # stride, padding, and dilation where there is one

    @property
    def reach(self):
        """From the first cell of a window to the last, per axis."""
        return [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]

    def output(self, x, ceil_mode=False):
        """Spatial extents of what the windows make of x."""
        pads = ["same"] * len(self.kernel) if self.pairs == "same" else self.pairs
        axes = zip(x.extents[2:], self.kernel, self.stride, self.dilation, pads, strict=True)
        return [windows(*axis, ceil_mode) for axis in axes]


def window_of(n, rank, kernel=None):
    """The :class:`NodeWindow` of a node's attributes."""
    kernel = n.integers("kernel_shape", rank, kernel)
    if kernel is None:
        n.refuse("it has no kernel_shape")
    kernel = [int(k) for k in kernel]
    stride = n.integers("strides", rank, [1] * rank)
    dilation = n.integers("dilations", rank, [1] * rank)
    word = n.choice("auto_pad", "NOTSET", ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"))
    if word in ("SAME_UPPER", "SAME_LOWER"):
        padding, pairs = word.lower(), "same"
    else:
        pads = n.integers("pads", 2 * rank, [0] * 2 * rank) if word == "NOTSET" else [0] * 2 * rank
        pairs = [(pads[axis], pads[axis + rank]) for axis in range(rank)]
        padding = plain_pads(pairs)
    settings = {"stride": plain(stride), "padding": padding}
    if any(d != 1 for d in dilation):
        settings["dilation"] = plain(dilation)
    return NodeWindow(kernel, stride, dilation, pairs, settings)


def image(n, place=0):
    """An input that is an image (N, C, \\*spatial), and how many spatial axes it has."""
    x = n.live(place)
    if not 3 <= x.rank <= 5:
        n.refuse(f"its input has {x.rank} axes; expected (N, C, …) with one to three spatial axes")
    return x, x.rank - 2


# ── Convolution ────────────────────────────────────────────────────────────────────────────────────────────────────────


def channel_numbers(array, channels, rank):
    """An array that broadcasts along all axes but the channels, as one number per channel; None where it is none."""
    if array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if shape[1] not in (1, channels) or any(n != 1 for axis, n in enumerate(shape) if axis != 1):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))


def following_bias(n, channels, rank):
    """The numbers that an Add right behind adds to each channel: the bias, done together with this node; None: there is none."""
    after, place = n.reader()
    if after is None or after.op_type != "Add" or len(after.inputs) != 2:
        return None
    other = n.importer.known.get(after.inputs[place])
    if not is_constant(other) or other.dtype.kind != "f" or other.ndim > rank:
        return None
    other = other if n.order is None else n.importer.reordered(other, n.order)
    bias = channel_numbers(other, channels, rank)
    if bias is not None:
        n.take_in(after)
    return bias


def with_bias(n, made, took_in):
    """The result of a node, under the name of the Add that was done with it too."""
    if took_in:
        after, _ = n.reader()
        n.importer.known[after.outputs[0]] = n.as_in_file(made)
    return made


@imports("Conv")
def conv(n):
    return convolution(n, image(n)[0], n.array(1, "its weight"), n.array(2, "its bias"))


def convolution(n, x, w, b, step=None):
    """The convolution that a node's attributes describe; without ``b`` an Add behind it may be the bias."""
    rank = x.rank - 2
    if not 1 <= rank <= 3:
        n.refuse(f"its input has {x.rank} axes; expected (N, C, …) with one to three spatial axes")
    if w.ndim != rank + 2:
        n.refuse(f"its weight has {w.ndim} axes {w.shape}; its input has {rank + 2}")
    groups = n.attribute("group", 1)
    window = window_of(n, rank, list(w.shape[2:]))
    if tuple(window.kernel) != w.shape[2:]:
        n.refuse(f"kernel_shape {window.kernel} is not that of its weight {w.shape}")
    x, window = without_pad(n, x, window)
    took = None
    if b is None and step is None:
        took = b = following_bias(n, w.shape[0], x.rank)
    made = n.add(
        "conv",
        x,
        step=step,
        arrays={"w": w} | ({} if b is None else {"b": b}),
        extents=(x.extents[0], w.shape[0], *window.output(x)),
        channels=w.shape[0],
        kernel_size=plain(window.kernel),
        bias=b is not None,
        **window.settings,
        **({"groups": groups} if groups != 1 else {}),
    )
    return with_bias(n, made, took is not None)


def without_pad(n, x, window):
    """What a Pad with zeros was given, and the window with its padding: a convolution pads without a copy of the image."""
    inner, pairs = n.importer.zero_padded.get(x.value.number, (None, None))
    if inner is None or window.pairs == "same":
        return x, window
    pairs = [(a + low, b + high) for (a, b), (low, high) in zip(pairs, window.pairs, strict=True)]
    return inner, window._replace(pairs=pairs, settings=window.settings | {"padding": plain_pads(pairs)})


def same_with_output_padding(upper, stride, reach, more):
    """Padding that makes s·H of H with ``more`` at the high end: s (H − 1) + more + reach − s H. And what is left of ``more``."""
    pairs, left = [], []
    for s, e, m in zip(stride, reach, more, strict=True):
        total = m + e - s
        few = max(total, 0) // 2
        pairs.append((few, max(total, 0) - few) if upper else (max(total, 0) - few, few))
        left.append(m - min(total, 0))
    return pairs, left


@imports("ConvTranspose")
def conv_transpose(n):
    x, rank = image(n)
    w, b = n.array(1, "its weight"), n.array(2, "its bias")
    groups = n.attribute("group", 1)
    window = window_of(n, rank, list(w.shape[2:]))
    stride, pairs, settings, reach = window.stride, window.pairs, window.settings, window.reach
    more = n.integers("output_padding", rank, [0] * rank)
    wanted = n.integers("output_shape")
    if wanted is not None:
        wanted = wanted[-rank:]
        if any(isinstance(e, Extent) for e in x.extents[2:]):
            n.refuse("output_shape of an image whose size is open; give pads instead, or input_shape=")
        upper, pairs, more = n.attribute("auto_pad", "NOTSET") == "SAME_UPPER", [], list(more)
        for axis, (H, s, e, out) in enumerate(zip(x.extents[2:], stride, reach, wanted, strict=True)):
            total = s * (H - 1) + more[axis] + e - out
            if total < 0:
                more[axis] -= total
                total = 0
            few, many = total // 2, total - total // 2
            pairs.append((few, many) if upper else (many, few))
        settings["padding"] = plain_pads(pairs)
    elif pairs == "same" and any(more):
        pairs, more = same_with_output_padding(settings["padding"] == "same_upper", stride, reach, more)
        settings["padding"] = plain_pads(pairs)
    took = None
    if b is None:
        took = b = following_bias(n, w.shape[1] * groups, x.rank)
    sizes = [
        H * s if pairs == "same" else (H - 1) * s - sum(pairs[axis]) + reach[axis] + more[axis]
        for axis, (H, s) in enumerate(zip(x.extents[2:], stride, strict=True))
    ]
    made = n.add(
        "conv_transpose",
        x,
        arrays={"w": w} | ({} if b is None else {"b": b}),
        extents=(x.extents[0], w.shape[1] * groups, *sizes),
        channels=w.shape[1] * groups,
        kernel_size=plain(window.kernel),
        bias=b is not None,
        **settings,
        **({"output_padding": plain(more)} if any(more) and pairs != "same" else {}),
        **({"groups": groups} if groups != 1 else {}),
    )
    return with_bias(n, made, took is not None)


@imports("DeformConv")
def deformable_conv(n):
    x, rank = image(n)
    w, b = n.array(1, "its weight"), n.array(3, "its bias")
    window = window_of(n, rank, list(w.shape[2:]))
    return n.add(
        "deformable_conv",
        x,
        n.live(2),
        n.live(4) if n.given(4) else None,
        arrays={"w": w} | ({} if b is None else {"b": b}),
        extents=(x.extents[0], w.shape[0], *window.output(x)),
        channels=w.shape[0],
        kernel_size=plain(window.kernel),
        bias=b is not None,
        groups=n.attribute("group", 1),
        offset_groups=n.attribute("offset_group", 1),
        **window.settings,
    )


# ── Products of matrices ───────────────────────────────────────────────────────────────────────────────────────────────


@imports("Gemm")
def gemm(n):
    alpha, beta = n.attribute("alpha", 1.0), n.attribute("beta", 1.0)
    x, other = n.live(0), n.inputs[1]
    if n.attribute("transA", 0):
        x = n.add("transpose", x, step="transposed", axes=(1, 0), extents=x.extents[::-1])
    addend = n.inputs[2] if n.given(2) and beta else None
    if is_constant(other) and isinstance(x.extents[1], int):
        w = (other if n.attribute("transB", 0) else other.T) * np.asarray(alpha, other.dtype)
        bias = None
        if is_constant(addend) and (addend.ndim < 2 or addend.shape[0] == 1) and addend.size in (1, w.shape[0]):
            bias = np.broadcast_to(addend.reshape(-1) * np.asarray(beta, addend.dtype), (w.shape[0],))
        if addend is None or bias is not None:
            return n.add(
                "linear",
                x,
                arrays={"w": w} | ({} if bias is None else {"b": bias}),
                channels=w.shape[0],
                bias=bias is not None,
                extents=(x.extents[0], w.shape[0]),
            )
        y = n.add(
            "linear",
            x,
            step="product",
            arrays={"w": w},
            channels=w.shape[0],
            bias=False,
            extents=(x.extents[0], w.shape[0]),
        )
    else:
        z = n.live(1)
        if n.attribute("transB", 0):
            z = n.add("transpose", z, step="transposed_B", axes=(1, 0), extents=z.extents[::-1])
        y = n.add("matmul", x, z, step="product", extents=(x.extents[0], z.extents[1]))
        if alpha != 1:
            y = n.add("multiply", y, n.constant(alpha, "alpha"), step="scaled", extents=y.extents)
    if addend is None:
        return y
    c = n.live(2)
    if beta != 1:
        c = n.add("multiply", c, n.constant(beta, "beta"), step="scaled_C", extents=c.extents)
    return pair(n, "add", y, c)


@imports("MatMul")
def matmul(n):
    a, b = (v if is_constant(v) else n.live(place) for place, v in enumerate(n.inputs))
    return matrix_product(n, a, b)


def matrix_product(n, a, b, bias=None, step=None):
    """The product of two values, or arrays of the file; with a weight of the file it is a linear layer."""
    if not is_constant(a) and is_constant(b) and b.ndim == 2 and a.rank == 2:
        took = None
        if bias is None and step is None:
            took = bias = following_bias(n, b.shape[1], 2)
        made = n.add(
            "linear",
            a,
            step=step,
            arrays={"w": b.T} | ({} if bias is None else {"b": bias}),
            channels=b.shape[1],
            bias=bias is not None,
            extents=(a.extents[0], b.shape[1]),
        )
        return with_bias(n, made, took is not None)
    if bias is not None:
        y = matrix_product(n, a, b, step="product")
        return pair(n, "add", y, n.constant(bias, "bias"), step=step)
    x, z = (n.importer.live(v, f"{n.name}/{name}") for v, name in ((a, "first"), (b, "second")))
    flat_x, flat_z = x.rank == 1, z.rank == 1
    if flat_x:
        x = n.add("unsqueeze", x, step="as_row", axes=(0,), extents=(1, *x.extents))
    if flat_z:
        z = n.add("unsqueeze", z, step="as_column", axes=(1,), extents=(*z.extents, 1))
    y = n.add(
        "matmul", x, z, step=step, extents=(*common(x.extents[:-2], z.extents[:-2]), x.extents[-2], z.extents[-1])
    )
    gone = ([y.rank - 2] if flat_x else []) + ([y.rank - 1] if flat_z else [])
    if gone:
        y = n.add("squeeze", y, step="result", axes=tuple(gone))
    return y


# ── Pooling ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def pooled(n, op, wide=None, x=None, step=None, **more):
    """A pooling node over windows; ``wide``: what stands in for padding of more than half a window, as cells of the image."""
    x = image(n)[0] if x is None else x
    rank = x.rank - 2
    window = window_of(n, rank)
    pairs, settings, reach = window.pairs, window.settings, window.reach
    ceil_mode = bool(n.attribute("ceil_mode", 0)) and pairs != "same"
    extents = (*x.extents[:2], *window.output(x, ceil_mode))
    if pairs != "same" and any(2 * max(pair_) > e for pair_, e in zip(pairs, reach, strict=True)):
        if op == "avg_pool" and all(max(pair_) < e for pair_, e in zip(pairs, reach, strict=True)):
            more["compat"] = "onnx"
        elif wide is None or ceil_mode:
            n.refuse(
                f"padding {pairs} of more than half a window {reach}: what a window of nothing but padding gives is open"
            )
        else:
            x = n.add("pad", x, step="padded", padding=tuple(pairs), value=wide)  # what does not count, or counts 0
            settings["padding"] = 0
    return n.add(
        op,
        x,
        step=step,
        kernel_size=plain(window.kernel),
        extents=extents,
        **settings,
        **({"ceil_mode": True} if ceil_mode else {}),
        **more,
    )


@imports("MaxPool")
def max_pool(n):
    if n.needs(1):
        if n.attribute("storage_order", 0):
            n.refuse("indices in column-major order (storage_order=1)")
        return pooled(n, "max_pool", return_indices=True)
    return pooled(n, "max_pool", wide=float(np.finfo(np.float32).min))


@imports("AveragePool")
def average_pool(n):
    counts = bool(n.attribute("count_include_pad", 0))
    return pooled(n, "avg_pool", wide=0.0 if counts else None, count_include_pad=counts)


@imports("LpPool")
def lp_pool(n):
    return pooled(n, "lp_pool", wide=0.0, p=float(n.attribute("p", 2.0)))


@imports("GlobalAveragePool")
def global_average_pool(n):
    x, rank = image(n)
    return n.add("global_avg_pool", x, keepdims=True, extents=(*x.extents[:2], *(1,) * rank))


@imports("GlobalMaxPool")
def global_max_pool(n):
    x, rank = image(n)
    return n.add("global_max_pool", x, keepdims=True, extents=(*x.extents[:2], *(1,) * rank))


@imports("GlobalLpPool")
def global_lp_pool(n):
    x, rank = image(n)
    return n.add(
        "global_lp_pool", x, keepdims=True, p=float(n.attribute("p", 2.0)), extents=(*x.extents[:2], *(1,) * rank)
    )


@imports("MaxUnpool")
def max_unpool(n):
    x, rank = image(n)
    indices = n.live(1, "index")
    window = window_of(n, rank)
    kernel, settings = window.kernel, window.settings
    wanted = n.sizes(2, "output_shape")
    if indices.value.name.endswith(INDICES):  # those of a MaxPool of the graph count within a plane
        if wanted is not None:
            settings["output_size"] = tuple(wanted[2:])
        return n.add("max_unpool", x, indices, kernel_size=plain(kernel), **settings)
    # Others count through the result as large as the windows make it, of which a larger one is the first corner.
    y = n.add(
        "max_unpool", x, indices, step=wanted and "unpooled", kernel_size=plain(kernel), compat="onnx", **settings
    )
    if wanted is None:
        return y
    if any(isinstance(e, Extent) for e in (*y.extents[2:], *wanted[2:])):
        n.refuse(
            "its output_shape with indices that no MaxPool of the graph returns, of an open size; give input_shape="
        )
    pairs = tuple((0, new - have) for new, have in zip(wanted[2:], y.extents[2:], strict=True))
    return n.add("pad", y, padding=pairs, extents=(*y.extents[:2], *wanted[2:]))


@imports("RoiAlign")
def roi_align(n):
    x, _ = image(n)
    images = n.live(2, "index")
    coordinates = n.choice(
        "coordinate_transformation_mode",
        "half_pixel" if n.opset >= 16 else "output_half_pixel",
        ("half_pixel", "output_half_pixel"),
    )
    size = (n.attribute("output_height", 1), n.attribute("output_width", 1))
    boxes = n.live(1)
    # The maximum of weighted pixels; roi_align's own is one of interpolated values.
    maximum = {"mode": "max", "compat": "onnx"} if n.choice("mode", "avg", ("avg", "max")) == "max" else {}
    return n.add(
        "roi_align",
        x,
        boxes,
        images,
        **maximum,
        output_size=size,
        spatial_scale=n.attribute("spatial_scale", 1.0),
        sampling_ratio=n.attribute("sampling_ratio", 0),
        aligned=coordinates == "half_pixel",
        extents=(boxes.extents[0], x.extents[1], *size),
    )


@imports("MaxRoiPool")
def max_roi_pool(n):
    x, rois, size = image(n)[0], n.live(1), tuple(n.integers("pooled_shape", 2))
    return n.add(
        "roi_max_pool",
        x,
        rois,
        output_size=size,
        spatial_scale=n.attribute("spatial_scale", 1.0),
        extents=(rois.extents[0], x.extents[1], *size),
    )


@imports("Col2Im")
def col2im(n):
    x, size, kernel = n.live(), n.sizes(1, "its image shape"), n.sizes(2, "its block shape")
    rank = len(size)
    if any(isinstance(e, Extent) for e in (*size, *kernel)):
        n.refuse(f"its image {size} or block {kernel} depends on the size of the input; give input_shape=")
    pads = n.integers("pads", 2 * rank, [0] * 2 * rank)
    return n.add(
        "fold",
        x,
        output_size=tuple(size),
        kernel_size=plain(kernel),
        stride=plain(n.integers("strides", rank, [1] * rank)),
        dilation=plain(n.integers("dilations", rank, [1] * rank)),
        padding=plain_pads([(pads[axis], pads[axis + rank]) for axis in range(rank)]),
        extents=(x.extents[0], x.extents[1] // math.prod(kernel), *size),
    )


# ── Normalisation ──────────────────────────────────────────────────────────────────────────────────────────────────────


@imports("BatchNormalization")
def batch_norm(n):
    x = n.live()
    if n.attribute("training_mode", 0) or (n.opset < 7 and not n.attribute("is_test", 0)):
        n.refuse("it is written for training: export the network for inference; here net.train() turns training on")
    if n.opset < 9 and not n.attribute("spatial", 1):
        return norm_of_cells(n, x)
    names = ("w", "b", "running_mean", "running_var")
    arrays = {name: n.array(place + 1, name) for place, name in enumerate(names)}
    if any(a is None for a in arrays.values()):
        n.refuse("it needs scale, B, mean and var")
    return n.add(
        "batch_norm",
        x,
        arrays=arrays,
        momentum=round(1 - n.attribute("momentum", 0.9), 7),
        eps=n.attribute("epsilon", 1e-5),
        extents=x.extents,
    )


def norm_of_cells(n, x):
    """Batch normalisation with numbers for every cell of an image, as it could be until version 9: in inference a line."""
    w, b, mean, variance = (np.asarray(n.array(place, "its numbers"), np.float64) for place in range(1, 5))
    factor = w / np.sqrt(variance + n.attribute("epsilon", 1e-5))
    y = n.add("multiply", x, n.constant(np.float32(factor)[None], "factor"), step="scaled", extents=x.extents)
    return pair(n, "add", y, n.constant(np.float32(b - mean * factor)[None], "shift"))


def affine(n, w, b):
    """w and b of a normalisation as arrays of the file."""
    return {"w": n.array(w, "its scale"), "b": n.array(b, "its shift")}


@imports("InstanceNormalization")
def instance_norm(n):
    x = n.live()
    return n.add("instance_norm", x, arrays=affine(n, 1, 2), eps=n.attribute("epsilon", 1e-5), extents=x.extents)


@imports("GroupNormalization")
def group_norm(n):
    x = n.live()
    groups, arrays = n.attribute("num_groups", 1), affine(n, 1, 2)
    if n.opset < 21:  # one number per group until then
        arrays = {name: np.repeat(a, x.extents[1] // groups) for name, a in arrays.items()}
    return n.add("group_norm", x, arrays=arrays, groups=groups, eps=n.attribute("epsilon", 1e-5), extents=x.extents)


def centred(n, x, axes):
    """x minus its mean over axes."""
    mean = n.add("reduce_mean", x, step="mean", axes=axes, extents=reduced(x.extents, axes, True))
    return n.add("subtract", x, mean, step="centred", extents=x.extents)


def variance_of(n, d, axes):
    square = n.add("multiply", d, d, step="square", extents=d.extents)
    return n.add("reduce_mean", square, step="variance", axes=axes, extents=reduced(d.extents, axes, True))


@imports("LayerNormalization")
def layer_norm(n):
    x = n.live()
    axis = n.attribute("axis", -1)
    axes = tuple(range(axis % x.rank, x.rank))
    d = centred(n, x, axes)
    variance = variance_of(n, d, axes)
    eps = n.add("add", variance, ranked(n, n.constant(n.attribute("epsilon", 1e-5), "eps"), x.rank), step="with_eps")
    deviation = n.add("sqrt", eps, step="deviation", extents=variance.extents)
    y = n.add("divide", d, deviation, step="normal", extents=x.extents)
    y = n.add("multiply", y, n.live(1), step="scaled" if n.given(2) else None, extents=x.extents)
    y = pair(n, "add", y, n.live(2)) if n.given(2) else y
    if not (n.needs(1) or n.needs(2)):
        return y
    mean = n.add("reduce_mean", x, step="mean_of_x", axes=axes, extents=variance.extents)
    return y, mean, n.add("reciprocal", deviation, step="inverse_deviation", extents=variance.extents)


@imports("RMSNormalization")
def rms_norm(n):
    x = n.live()
    axis = n.attribute("axis", -1)
    axes = tuple(range(axis % x.rank, x.rank))
    square = variance_of(n, x, axes)
    eps = n.add("add", square, ranked(n, n.constant(n.attribute("epsilon", 1e-5), "eps"), x.rank), step="with_eps")
    y = n.add("divide", x, n.add("sqrt", eps, step="root"), step="normal", extents=x.extents)
    return pair(n, "multiply", y, n.live(1))


@imports("MeanVarianceNormalization")
def mean_variance_norm(n):
    x = n.live()
    axes = tuple(n.integers("axes", default=[0, 2, 3]))
    d = centred(n, x, axes)
    deviation = n.add("sqrt", variance_of(n, d, axes), step="deviation")
    eps = n.add("add", deviation, ranked(n, n.constant(1e-9, "eps"), x.rank), step="with_eps")
    return n.add("divide", d, eps, extents=x.extents)


@imports("LRN")
def local_response_norm(n):
    x = n.live()
    size = n.attribute("size", 1)
    settings = {
        "size": size,
        "alpha": n.attribute("alpha", 1e-4),
        "beta": n.attribute("beta", 0.75),
        "k": n.attribute("bias", 1.0),
    }
    more = {} if size % 2 else {"compat": "onnx"}  # one channel more after than before
    return n.add("local_response_norm", x, extents=x.extents, **settings, **more)


@imports("LpNormalization")
def lp_normalization(n):
    x = n.live()
    axis, p = n.attribute("axis", -1), n.attribute("p", 2)
    if p not in (1, 2):
        n.refuse(f"p={p}; expected 1 or 2")
    length = n.add(f"reduce_l{p}", x, step="length", axes=(axis,), extents=reduced(x.extents, (axis,), True))
    smallest = float(np.finfo(np.float32).tiny)  # what has length 0 stays 0
    length = n.add("maximum", length, n.constant(smallest, "smallest"), step="not_0", extents=length.extents)
    return n.add("divide", x, length, extents=x.extents)


@imports("Dropout")
def dropout(n):
    x = n.live()
    ratio = n.attribute("ratio", 0.5)
    if n.opset >= 12:
        ratio = float(n.array(1, "ratio")) if n.given(1) else 0.5
        if ratio and n.given(2) and bool(n.array(2, "training_mode")):
            n.refuse("training_mode is true: export the network for inference; here net.train() turns training on")
    if n.opset < 7 and not n.attribute("is_test", 0):
        n.refuse("is_test=0: export the network for inference; here net.train() turns training on")
    y = n.add("dropout", x, p=ratio, extents=x.extents) if ratio else x
    if not n.needs(1):
        return y
    # In inference nothing is dropped; until version 10 the mask held numbers.
    mask = n.add("expand", n.constant(1.0, "kept"), x, step="mask", extents=x.extents)
    return y, n.importer.converted(mask, f"{n.name}/mask", "mask") if n.opset >= 10 else mask


# ── Activations ────────────────────────────────────────────────────────────────────────────────────────────────────────

# ONNX's operator → ours, and its attributes (name, default) → settings.
ACTIVATIONS = {
    "Relu": ("relu", {}),
    "LeakyRelu": ("leaky_relu", {"negative_slope": ("alpha", 0.01)}),
    "Elu": ("elu", {"alpha": ("alpha", 1.0)}),
    "Celu": ("celu", {"alpha": ("alpha", 1.0)}),
    "ThresholdedRelu": ("thresholded_relu", {"alpha": ("alpha", 1.0)}),
    "Sigmoid": ("sigmoid", {}),
    "HardSigmoid": ("hard_sigmoid", {"alpha": ("alpha", 0.2), "beta": ("beta", 0.5)}),
    "HardSwish": ("hard_swish", {}),
    "Tanh": ("tanh", {}),
    "Softplus": ("softplus", {}),
    "Softsign": ("softsign", {}),
    "Mish": ("mish", {}),
    "Exp": ("exp", {}),
    "Abs": ("abs", {}),
    "Sign": ("sign", {}),
}


@imports(*ACTIVATIONS)
def activation(n):
    op, attributes = ACTIVATIONS[n.node.op_type]
    x = n.live()
    settings = {name: single(n.attribute(*attribute)) for name, attribute in attributes.items()}
    return n.add(op, x, extents=x.extents, **settings)


def single(number):
    """A float32 number as somebody would have written it: 0.1 and not 0.10000000149."""
    return float(np.format_float_positional(np.float32(number), unique=True)) if isinstance(number, float) else number


@imports("Swish")
def swish(n):
    x, alpha = n.live(), n.attribute("alpha", 1.0)
    if alpha == 1:
        return n.add("silu", x, extents=x.extents)
    z = n.add("multiply", x, n.constant(alpha, "alpha"), step="scaled", extents=x.extents)
    return n.add("multiply", x, n.add("sigmoid", z, step="sigmoid", extents=x.extents), extents=x.extents)


@imports("Gelu")
def gelu(n):
    x = n.live()
    return n.add("gelu", x, approximate=n.choice("approximate", "none", ("none", "tanh")), extents=x.extents)


SELU_ALPHA, SELU_SCALE = 1.6732631921768188, 1.0507010221481323  # as float32 has them
OLD_SELU = 1.6732, 1.0507  # until version 6


@imports("Selu")
def selu(n):
    alpha, gamma = OLD_SELU if n.opset < 6 else (SELU_ALPHA, SELU_SCALE)
    x, alpha, gamma = n.live(), n.attribute("alpha", alpha), n.attribute("gamma", gamma)
    if math.isclose(alpha, SELU_ALPHA, rel_tol=1e-6) and math.isclose(gamma, SELU_SCALE, rel_tol=1e-6):
        return n.add("selu", x, extents=x.extents)
    y = n.add("elu", x, step="elu", alpha=single(alpha), extents=x.extents)
    return n.add("multiply", y, n.constant(gamma, "gamma"), extents=x.extents)


@imports("PRelu")
def prelu(n):
    x, slope = n.live(), n.inputs[1]
    if is_constant(slope) and x.rank > 1 and isinstance(x.extents[1], int):
        numbers = np.broadcast_to(slope, slope.shape) if slope.size == 1 else None
        if n.opset < 7 and slope.ndim == 1:  # one for each channel, which broadcasting would give to the last axis
            slope = slope.reshape(-1, *(1,) * (x.rank - 2))
        numbers = numbers.reshape(1) if numbers is not None else channel_numbers(slope, x.extents[1], x.rank)
        if numbers is not None:
            count = "channels" if numbers.size > 1 else 1
            return n.add("prelu", x, arrays={"a": numbers}, num_parameters=count, extents=x.extents)
    zero = n.constant(0.0, "zero")
    above = n.add("maximum", x, zero, step="above", extents=x.extents)
    below = n.add("minimum", x, zero, step="below", extents=x.extents)
    return pair(n, "add", above, n.add("multiply", below, n.live(1), step="scaled", extents=x.extents))


@imports("Shrink")
def shrink(n):
    x, bias, lambd = n.live(), n.attribute("bias", 0.0), n.attribute("lambd", 0.5)
    if bias not in (0.0, lambd):
        n.refuse(f"bias={bias} with lambd={lambd}; known are hard shrinkage (bias=0) and soft shrinkage (bias=lambd)")
    return n.add("softshrink" if bias else "hardshrink", x, lambd=single(lambd), extents=x.extents)


@imports("Clip")
def clip(n):
    if n.opset < 11:
        low, high = n.attribute("min", -math.inf), n.attribute("max", math.inf)
    elif any(n.given(place) and (not is_constant(n.inputs[place]) or is_open(n.inputs[place])) for place in (1, 2)):
        return clip_by_values(n)
    else:
        low, high = (
            n.array(place, what) if n.given(place) else other
            for place, what, other in ((1, "min", -math.inf), (2, "max", math.inf))
        )
    low, high = single(float(low)) if low != -math.inf else low, single(float(high)) if high != math.inf else high
    x, least = n.live(), float(np.finfo(np.float32).min)
    low, high = -math.inf if low <= least else low, math.inf if high >= -least else high
    if low >= high:
        y = n.add("minimum", x, n.constant(high, "max"), step="below", extents=x.extents)
        return n.add("maximum", y, n.constant(high, "max_again"), extents=x.extents)
    if math.isinf(low) and math.isinf(high):
        return n.add("identity", x, extents=x.extents)
    if math.isinf(high):
        return (
            n.add("relu", x, extents=x.extents)
            if low == 0
            else n.add("maximum", x, n.constant(low, "min"), extents=x.extents)
        )
    if math.isinf(low):
        return n.add("minimum", x, n.constant(high, "max"), extents=x.extents)
    if low == 0:
        return (
            n.add("relu6", x, extents=x.extents)
            if high == 6
            else n.add("clipped_relu", x, max_value=high, extents=x.extents)
        )
    return n.add("hard_tanh", x, min_val=low, max_val=high, extents=x.extents)


def clip_by_values(n):
    """With ends that are computed: from values of the graph, or from the size of an image."""
    y, rank = n.live(), n.live().rank
    for place, op in ((1, "maximum"), (2, "minimum")):
        if n.given(place):
            step = op if place == 1 and n.given(2) else None
            y = pair(n, op, y, widened(n, place, rank), step=step)
    return y


@imports("Softmax", "LogSoftmax", "Hardmax")
def softmax(n):
    op = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Hardmax": "hardmax"}[n.node.op_type]
    x = n.live()
    axis = n.axis(n.attribute("axis", -1 if n.opset >= 13 else 1), max(x.rank, 1))
    if n.opset >= 13 or all(e == 1 for e in x.extents[axis + 1 :]):
        if x.rank > MOST_COMPUTED_AXES and axis < MOST_COMPUTED_AXES - 1:  # the axes behind it as one
            extents = (*x.extents[: axis + 1], product(x.extents[axis + 1 :]))
            entries = (*(copied(x, place) for place in range(axis + 1)), -1)
            flat = n.add("reshape", x, step="fewer_axes", shape=entries, extents=extents)
            y = n.add(op, flat, step=op, axis=axis, extents=extents)
            return n.add("reshape", y, x, extents=x.extents)
        return n.add(op, x, axis=axis, extents=x.extents)
    # Until version 13 all axes from this one on were one.
    entries = [copied(x, place) for place in range(axis)]
    flat = n.add(
        "reshape", x, step="flat", shape=(*entries, -1), extents=(*x.extents[:axis], product(x.extents[axis:]))
    )
    y = n.add(op, flat, step=op, axis=axis, extents=flat.extents)
    rest = x.extents[axis:]
    if sum(isinstance(e, Extent) for e in rest) > 1:
        n.refuse(f"axis {axis} takes in several axes of open extents {rest}; give input_shape=")
    return n.add("reshape", y, shape=(*entries, *(-1 if isinstance(e, Extent) else e for e in rest)), extents=x.extents)


# ── Arithmetic ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def common(a, b):
    """The extents that two shapes have when they broadcast."""
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b)
    return tuple(z if x == 1 else x if z == 1 or not isinstance(z, int) else z for x, z in zip(a, b, strict=True))


def ranked(n, x, rank):
    """x with as many axes as ``rank``, further ones in front."""
    if x.rank == rank:
        return x
    return n.add(
        "unsqueeze", x, step="ranked", axes=tuple(range(rank - x.rank)), extents=(*(1,) * (rank - x.rank), *x.extents)
    )


def widened(n, place, rank, role="real"):
    """Input number ``place`` as a value of ``rank`` axes at least; constants are given them at once."""
    given = n.inputs[place]
    if is_constant(given) and given.ndim < rank and not is_open(given):
        kept = n.importer.constants.setdefault(
            (id(given), rank), (given.reshape((1,) * (rank - given.ndim) + given.shape), given)
        )
        return n.importer.live(kept[0], n.node.inputs[place], role)
    x = n.live(place, role)
    return ranked(n, x, rank) if role == "real" and x.rank < rank else x


def ranks(n):
    return max(v.ndim if is_constant(v) else v.rank for v in n.inputs)


def pair(n, op, x, z, step=None):
    """An operator on two values that broadcast."""
    if op == "add":
        rank = max(x.rank, z.rank)
        x, z = ranked(n, x, rank), ranked(n, z, rank)
    return n.add(op, x, z, step=step, extents=common(x.extents, z.extents))


PAIRS = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Pow": "power"}


def learned_line(n):
    """A Mul and an Add right behind it, both by numbers of the file, one for each channel or one for all: a scale layer."""
    x, factors = n.inputs if not is_constant(n.inputs[0]) else n.inputs[::-1]
    if n.node.op_type != "Mul" or not is_constant(factors) or is_constant(x):
        return None
    if not 2 <= x.rank <= 5 or not isinstance(x.extents[1], int) or factors.dtype.kind != "f":
        return None
    factors = channel_numbers(factors, x.extents[1], x.rank)
    shifts = None if factors is None else following_bias(n, x.extents[1], x.rank)
    if shifts is None:
        return None
    return with_bias(n, n.add("scale", x, arrays={"w": factors, "b": shifts}, extents=x.extents), True)


def is_number(n, node, place, number):
    """Whether the input of a node is that one number, kept in the file."""
    given = n.importer.known.get(node.inputs[place]) if place < len(node.inputs) else None
    return (
        is_constant(given) and not is_open(given) and given.size == 1 and float(given.reshape(())) == np.float32(number)
    )


def clips(n, node, low, high):
    """Whether a node holds its input between two numbers."""
    if node is None or node.op_type != "Clip":
        return False
    if len(node.inputs) == 1:
        return (node.attributes.get("min"), node.attributes.get("max")) == (low, high)
    return is_number(n, node, 1, low) and is_number(n, node, 2, high)


def hard_swish(n):
    """Add, Clip, Mul and Div as they stand for x · min(max(x + 3, 0), 6) / 6 in files older than HardSwish; else None."""
    place = 1 - is_constant(n.inputs[1]) if n.node.op_type == "Add" and len(n.inputs) == 2 else 0
    if n.node.op_type != "Add":
        return None
    place = 1 if is_constant(n.inputs[1]) else 0
    if is_constant(n.inputs[1 - place]) or not is_number(n, n.node, place, 3):
        return None
    x, taken = n.node.inputs[1 - place], [n.reader()[0]]
    if not clips(n, taken[0], 0, 6):
        return None
    found = set()
    for _ in range(2):
        node, other = n.reader(taken[-1])
        if node is None or len(node.inputs) != 2:
            return None
        if node.op_type == "Mul" and node.inputs[other] == x:
            found.add("times x")
        elif (node.op_type == "Div" and other == 1 and is_number(n, node, 1, 6)) or (
            node.op_type == "Mul" and is_number(n, node, other, 1 / 6)
        ):
            found.add("over 6")
        taken.append(node)
    if len(found) < 2:
        return None
    for node in taken:
        n.take_in(node)
    made = n.add("hard_swish", n.live(1 - place), extents=n.live(1 - place).extents)
    n.importer.known[taken[-1].outputs[0]] = n.as_in_file(made)
    return made


@imports(*PAIRS)
def arithmetic(n):
    for several in (learned_line, hard_swish):
        made = several(n)
        if made is not None:
            return made
    rank = ranks(n)
    y = pair(n, PAIRS[n.node.op_type], widened(n, 0, rank), widened(n, 1, rank))
    if n.node.op_type == "Div" and n.role() == "index":  # towards 0
        return n.add("as_index", y, step="whole", extents=y.extents)
    return y


MANY = {"Max": "maximum", "Min": "minimum", "Sum": "add", "Mean": "add"}


@imports(*MANY)
def arithmetic_of_many(n):
    rank = ranks(n)
    values = [widened(n, place, rank) for place in range(len(n.inputs))]
    op = MANY[n.node.op_type]
    if op == "add":
        if len(values) == 1:
            return n.add("identity", values[0], extents=values[0].extents)
        extents = values[0].extents
        for v in values[1:]:
            extents = common(extents, v.extents)
        shares = {} if n.node.op_type == "Sum" else {"coefficients": (1 / len(values),) * len(values)}
        return n.add("add", *values, extents=extents, **shares)
    if len(values) == 1:
        return n.add("identity", values[0], extents=values[0].extents)
    y = values[0]
    for number, z in enumerate(values[1:]):
        y = pair(n, op, y, z, step=None if number == len(values) - 2 else f"of_{number + 2}")
    return y


FUNCTIONS = {onnx: op for op, onnx in NODES.items() if onnx not in ("Sub", "Mul", "Div", "Max", "Min", "Pow", "MatMul")}


@imports(*FUNCTIONS)
def function(n):
    x = n.live()
    return n.add(FUNCTIONS[n.node.op_type], x, extents=x.extents)


@imports("Affine", "ScaledTanh", "ParametricSoftplus")
def function_of_the_first_versions(n):
    """Operators that were dropped in version 10: α x + β, α tanh(β x), α log(exp(β x) + 1)."""
    x, alpha, beta = (
        n.live(),
        n.attribute("alpha", 1.0),
        n.attribute("beta", 0.0 if n.node.op_type == "Affine" else 1.0),
    )
    if n.node.op_type == "Affine":
        y = n.add("multiply", x, n.constant(alpha, "alpha"), step="scaled", extents=x.extents)
        return pair(n, "add", y, n.constant(beta, "beta"))
    op = {"ScaledTanh": "tanh", "ParametricSoftplus": "softplus"}[n.node.op_type]
    z = n.add("multiply", x, n.constant(beta, "beta"), step="scaled", extents=x.extents)
    return n.add("multiply", n.add(op, z, step=op, extents=x.extents), n.constant(alpha, "alpha"), extents=x.extents)


@imports("ImageScaler")
def image_scaler(n):
    """scale · x + bias[c], as converters from CoreML wrote it before version 10."""
    x, scale = n.live(), n.attribute("scale", 1.0)
    bias = np.asarray(n.attribute("bias", [0.0]), np.float32)
    w = np.full(x.extents[1], scale, np.float32)
    return n.add("scale", x, arrays={"w": w, "b": np.broadcast_to(bias, w.shape)}, extents=x.extents)


# ── Reductions ─────────────────────────────────────────────────────────────────────────────────────────────────────────

REDUCED = {onnx: op for op, onnx in REDUCTIONS.items()}
OVER_IMAGES = {"ReduceMean": "global_avg_pool", "ReduceMax": "global_max_pool"}


def reduced(extents, axes, keepdims):
    """Extents without those along axes, or with 1 there."""
    axes = {axis % len(extents) for axis in axes}
    return tuple(1 if a in axes else e for a, e in enumerate(extents) if keepdims or a not in axes)


@imports(*REDUCED)
def reduction(n):
    name = n.node.op_type
    keepdims = bool(n.attribute("keepdims", 1))
    if n.opset >= 18 or (name == "ReduceSum" and n.opset >= 13):
        axes = n.sizes(1, "axes")
    else:
        axes = n.integers("axes")
    of_each = not axes and bool(n.attribute("noop_with_empty_axes", 0))
    if is_constant(n.inputs[0]):
        return constant_reduction(n, () if of_each else axes, keepdims)
    x = n.live()
    if of_each:
        each = {"Abs": "abs", "Log": "log", "square": "multiply"}.get(OF_EACH_VALUE.get(name), "identity")
        return n.add(each, *(x, x)[: 1 + (each == "multiply")], extents=x.extents)
    if not axes:
        axes = list(range(x.rank))
    n.gone = () if keepdims else {axis % x.rank for axis in axes}
    axes = tuple(n.axis(axis, x.rank) for axis in axes)
    extents = reduced(x.extents, axes, keepdims)
    if name in OVER_IMAGES and x.rank > 2 and isinstance(x.extents[1], int) and sorted(axes) == list(range(2, x.rank)):
        return n.add(OVER_IMAGES[name], x, keepdims=keepdims, extents=extents)
    return n.add(REDUCED[name], x, axes=axes, keepdims=keepdims, extents=extents)


def constant_reduction(n, axes, keepdims):
    """A reduction of numbers that the file holds, or of sizes."""
    x = n.inputs[0]
    if axes == ():
        return x
    axes = tuple(axes) if axes else None
    functions = {
        "ReduceSum": np.sum,
        "ReduceProd": np.prod,
        "ReduceMax": np.max,
        "ReduceMin": np.min,
        "ReduceMean": np.mean,
    }
    if n.node.op_type not in functions:
        n.refuse("it reduces numbers of the file; fold constants before (onnxsim, onnxruntime's offline optimisation)")
    if not x.size:
        n.refuse("it reduces an array without values")
    if is_open(x):
        return reduced_sizes(n, x, axes, keepdims)
    with np.errstate(all="ignore"):
        return np.asarray(functions[n.node.op_type](x, axis=axes, keepdims=keepdims), x.dtype)


def reduced_sizes(n, x, axes, keepdims):
    """Reduced sizes, some of them open: their sum, product, maximum or minimum."""
    pairs = {"ReduceSum": "Add", "ReduceProd": "Mul", "ReduceMax": "Max", "ReduceMin": "Min"}
    if n.node.op_type not in pairs or x.ndim > 1 or (axes is not None and set(axes) - {0, -1}):
        n.refuse(f"it reduces sizes that depend on the image, {x.tolist()}; give input_shape=")
    total = x.reshape(-1)[:1]
    for place in range(1, x.size):
        total = folded(pairs[n.node.op_type], [total, x.reshape(-1)[place : place + 1]])
    return total if keepdims and x.ndim else total.reshape(())


# ── Joins and parts ────────────────────────────────────────────────────────────────────────────────────────────────────


@imports("Concat")
def concat(n):
    axis = n.attribute("axis", 1)
    if all(map(is_constant, n.inputs)):
        n.check_size_limit((sum(v.size for v in n.inputs),))
        return np.concatenate([as_objects(v, n.inputs) for v in n.inputs], axis)
    rank = next(v.rank for v in n.inputs if not is_constant(v))
    axis = n.axis(axis, rank)
    values = [for_each_image(n, place, axis) for place in range(len(n.inputs))]
    if len(values) == 1:
        return n.add("identity", values[0], extents=values[0].extents)
    extents = list(values[0].extents)
    for v in values[1:]:
        extents[axis] = extents[axis] + v.extents[axis]
        for a, e in enumerate(v.extents):
            if a != axis and isinstance(e, int):
                extents[a] = e
    return n.add("concat", *values, axis=axis, extents=tuple(extents))


def for_each_image(n, place, axis):
    """An input to be joined with others; what is the same for each image of a batch that the file fixes, for any batch."""
    value = n.inputs[place]
    batch = next(v.extents[0] for v in n.inputs if not is_constant(v)) if axis else None
    if is_constant(value) and value.ndim and not is_open(value) and n.importer.batches.get(batch) == value.shape[0] > 1:
        if not (value[:1] == value).all():
            n.refuse(
                f"it joins numbers of its own for each of {value.shape[0]} images; a net takes any number of images"
            )
        one = n.holding(n.importer.live(value[:1], f"{n.name}/for_each_image_{place}"), value)
        return repeated(n, n.importer.converted(one, n.name, "real"), (batch, *value.shape[1:]), f"repeated_{place}")
    return n.live(place)


def as_objects(array, others):
    """An array as objects where another one holds extents."""
    return array.astype(object) if any(map(is_open, others)) else array


@imports("Split")
def split(n):
    axis = n.attribute("axis", 0)
    parts = n.sizes(1, "split") if n.opset >= 13 or n.given(1) else n.integers("split")
    x = n.inputs[0]
    axis = axis % x.ndim if is_constant(x) else n.axis(axis, x.rank)
    extent = x.shape[axis] if is_constant(x) else x.extents[axis]
    count = len(n.node.outputs)
    if parts is None:
        if isinstance(extent, Extent):
            if n.opset >= 18 and n.attribute("num_outputs", count) != count:
                n.refuse("num_outputs is not the number of its outputs")
            uneven = {"uneven": True} if n.opset >= 18 else {}
            size = (extent / count).__ceil__() if uneven else extent / count
            parts = [size] * (count - 1) + [extent - size * (count - 1)]
            return cut(n, n.live(), axis, parts, **uneven)
        size = -(-extent // count)
        parts = [min(size, extent - size * i) for i in range(count)]
    if any(isinstance(p, Extent) for p in parts):
        return cut_openly(n, n.live(), axis, parts)
    if any(p < 0 for p in parts):
        n.refuse(f"parts {parts} are not all of them extents")
    ends = np.cumsum([0, *parts]).tolist()
    if ends[-1] != extent and not isinstance(extent, Extent):
        n.refuse(f"parts {parts} have {ends[-1]} in all; axis {axis} has {extent}")
    if is_constant(x):
        return tuple(np.take(x, range(lo, hi), axis) for lo, hi in pairwise(ends))
    return tuple(
        n.add("slice", x, step=f"part_{i}", start=lo, stop=hi, axis=axis, extents=replaced(x, axis, hi - lo))
        if n.needs(i)
        else None
        for i, (lo, hi) in enumerate(pairwise(ends))
    )


def cut(n, x, axis, parts, **uneven):
    """Equal parts of x, of those that are needed; their extents along the axis are ``parts``."""
    return tuple(
        n.add(
            "split",
            x,
            step=f"part_{i}",
            parts=len(parts),
            part=i,
            axis=axis,
            extents=replaced(x, axis, e),
            **uneven,
        )
        if n.needs(i)
        else None
        for i, e in enumerate(parts)
    )


def cut_openly(n, x, axis, parts):
    """Parts of which some are as large as a size that is open: equal ones, or as many values as that."""
    size = as_size(rounded_up(x.extents[axis], len(parts)))
    if parts[:-1] == [size] * (len(parts) - 1):
        return cut(n, x, axis, parts, uneven=True)
    made, first = [], 0
    for i, e in enumerate(parts):
        made.append(taken(n, x, axis, first, e, 1, f"part_{i}") if n.needs(i) else None)
        first = first + e
    return tuple(made)


def taken(n, x, axis, first, count, stride, step):
    """``count`` values of x along an axis from ``first`` on, a size that is open: by their places."""
    if isinstance(first, Extent):
        left = x.extents[axis] - first - count  # this many are left behind the last
        if left == 0 and stride == 1 and axis > -1:
            return from_the_end(n, x, axis, count, step)
        n.refuse(f"it begins at {first}, which depends on the size of the image; give input_shape=")
    places = counting(n, count, first, stride)
    if places is None:
        n.refuse(f"it takes {count} values, and nothing of that size is known here; give input_shape=")
    return gathered(n, x, axis, n.importer.converted(places, f"{n.name}/places", "index"), step)


def from_the_end(n, x, axis, count, step):
    """The last ``count`` values of x along an axis: the first of those in reverse order, in reverse order."""
    flipped = n.add("slice", x, step=f"{step}_reversed", start=None, stop=None, stride=-1, axis=axis, extents=x.extents)
    y = taken(n, flipped, axis, 0, count, 1, f"{step}_taken")
    return n.add("slice", y, step=step, start=None, stop=None, stride=-1, axis=axis, extents=y.extents)


def gathered(n, x, axis, indices, step=None):
    """Parts of x, whose axis comes first for that, at places of one axis each."""
    if axis:
        order = (axis, *(a for a in range(x.rank) if a != axis))
        x = n.add(
            "transpose", x, step=f"{step or 'x'}_axis_first", axes=order, extents=tuple(x.extents[a] for a in order)
        )
    places = n.importer.converted(indices, n.name, "real")
    places = n.add("unsqueeze", places, step="places", axes=(indices.rank,), extents=(*indices.extents, 1))
    places = n.importer.converted(places, f"{n.name}/places", "index")
    extents = (*indices.extents, *x.extents[1:])
    y = n.add("gather_nd", x, places, step=f"{step or 'x'}_parts" if axis else step, extents=extents)
    if not axis:
        return y
    count = indices.rank
    order = (*range(count, count + axis), *range(count), *range(count + axis, y.rank))
    return n.add("transpose", y, step=step, axes=order, extents=tuple(y.extents[a] for a in order))


def replaced(x, axis, extent):
    """Extents with another one along an axis."""
    extents = list(x.extents)
    extents[axis] = extent
    return tuple(extents)


def bound(n, value, extent):
    """A start or end of a slice as an integer or None, for an axis whose extent may be open; an extent where it is neither."""
    if isinstance(value, Extent):
        from_end = value - extent  # this many from the end
        if isinstance(from_end, Extent) or from_end > 0:
            return value
        return None if from_end == 0 else from_end
    return None if abs(value) >= INT_MOST - 1 else value


@imports("Slice")
def slice_(n):
    if n.opset < 10:
        starts, ends, axes = n.integers("starts"), n.integers("ends"), n.integers("axes")
        steps = None
    else:
        starts, ends, axes, steps = (
            n.sizes(place, what) for place, what in ((1, "starts"), (2, "ends"), (3, "axes"), (4, "steps"))
        )
    if starts is None or ends is None or len(starts) != len(ends):
        n.refuse(f"starts {starts} and ends {ends} do not belong together")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if any(isinstance(v, Extent) for v in (*axes, *steps)) or not len(axes) == len(steps) == len(starts) or 0 in steps:
        n.refuse(f"axes {axes} and steps {steps}: expected an integer for each start, steps other than 0")
    x = n.inputs[0]
    if is_constant(x):
        index = [slice(None)] * x.ndim
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            extent = x.shape[axis]
            bounds = bound(n, start, extent), bound(n, end, extent)
            if any(isinstance(v, Extent) for v in bounds):
                n.refuse(f"it takes values {start} to {end} of an array, which depends on the image; give input_shape=")
            index[axis] = slice(*bounds, step)
        return x[tuple(index)]
    x, last = n.live(), len(starts) - 1
    for number, (start, end, axis, step) in enumerate(zip(starts, ends, axes, steps, strict=True)):
        axis = n.axis(axis, x.rank)
        extent = x.extents[axis]
        lo, hi = bound(n, start, extent), bound(n, end, extent)
        if isinstance(lo, Extent) or isinstance(hi, Extent):
            x = sliced_openly(n, x, axis, lo, hi, step, None if number == last else f"axis_{axis}")
            continue
        x = n.add(
            "slice",
            x,
            step=None if number == last else f"axis_{axis}",
            start=lo,
            stop=hi,
            stride=step,
            axis=axis,
            extents=replaced(x, axis, sliced(extent, lo, hi, step)),
        )
    return x


def sliced_openly(n, x, axis, lo, hi, stride, step):
    """A slice of which a bound is a size that is open."""
    extent = x.extents[axis]
    lo = 0 if lo is None else lo
    hi = extent if hi is None else hi
    lo, hi = (extent + v if isinstance(v, int) and v < 0 else v for v in (lo, hi))
    if stride < 1:
        n.refuse(
            f"it takes values {lo} to {hi} in steps of {stride}, which depend on the size of the image; give input_shape="
        )
    return taken(n, x, axis, lo, as_size(rounded_up(hi - lo, stride)), stride, step)


def sliced(extent, start, stop, step):
    """How many values a slice takes of an axis."""
    if not isinstance(extent, Extent):
        return len(range(*slice(start, stop, step).indices(extent)))
    if step == 1 and (start is None or start >= 0) and (stop is None or stop < 0):
        return extent - (start or 0) + (stop or 0)
    if step in (1, -1) and start is None and stop is None:
        return extent
    return Extent.of("slice", extent, start, stop, step)


@imports("Gather")
def gather(n):
    axis, x = n.attribute("axis", 0), n.inputs[0]
    indices = n.array(1, "indices")
    if is_constant(x):
        n.check_size_limit((indices.size, x.size // max(x.shape[axis], 1)))
        return np.asarray(np.take(x, indices.astype(np.int64), axis), x.dtype)
    x = n.live()
    axis %= x.rank
    if indices.ndim > 1:
        flat = n.add("gather", x, step="flat", indices=tuple(indices.ravel().tolist()), axis=axis)
        shape = (
            *(copied(x, a) for a in range(axis)),
            *indices.shape,
            *(copied(flat, a) for a in range(axis + 1, x.rank)),
        )
        return n.add("reshape", flat, shape=shape, extents=(*x.extents[:axis], *indices.shape, *x.extents[axis + 1 :]))
    places = int(indices) if indices.ndim == 0 else tuple(indices.tolist())
    extents = (*x.extents[:axis], *indices.shape, *x.extents[axis + 1 :])
    return n.add("gather", x, indices=places, axis=axis, extents=extents)


# ── Other shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def product(extents):
    total = 1
    for e in extents:
        total = e * total
    return total


def copied(x, axis):
    """The entry of reshape's target that keeps an extent of x."""
    e = x.extents[axis]
    return e if isinstance(e, int) else ("axis", axis)


def target(n, x, wanted, allow_zero):
    """Reshape's setting for what the file asks: integers, and extents that are those of x."""
    wanted = list(wanted)
    batch = n.importer.batches.get(x.extents[0]) if x.extents else None
    if batch is not None and wanted and all(isinstance(e, int) for e in wanted) and 0 not in wanted:
        # A batch that the file fixes stays open here where it stays in its place.
        fixed = [batch, *x.extents[1:]]
        if -1 in wanted and all(isinstance(e, int) for e in fixed):
            rest = math.prod(e for e in wanted if e != -1)
            if rest and math.prod(fixed) % rest == 0:
                wanted[wanted.index(-1)] = math.prod(fixed) // rest
        open_rest = any(isinstance(e, Extent) for e in x.extents[1:])
        keeps = not open_rest and -1 not in wanted and math.prod(wanted[1:]) == math.prod(fixed[1:])
        if wanted[0] == batch and (keeps or (open_rest and -1 in wanted[1:])):
            wanted[0] = x.extents[0]
    entries, extents = [], []
    for place, e in enumerate(wanted):
        if e == 0 and not allow_zero:
            if place >= x.rank:
                n.refuse(f"shape {wanted} keeps axis {place} of an input with {x.rank} axes")
            entries.append(0)
            extents.append(x.extents[place])
            continue
        extents.append(e)
        entries.append(entry_of(x, e, place, allow_zero) if isinstance(e, Extent) else e)
    unknown = [place for place, entry in enumerate(entries) if entry is None]
    if len(unknown) + entries.count(-1) > 1:
        n.refuse(f"the shape {wanted} depends on the size of the image in a way that is no setting; give input_shape=")
    entries = [-1 if entry is None else entry for entry in entries]
    if -1 in extents:
        known = product(e for e in extents if not (isinstance(e, int) and e == -1))
        whole = product(x.extents)
        if known != 0:
            place = extents.index(-1)
            ratio = whole / known if isinstance(whole, Extent) or isinstance(known, Extent) else whole // known
            extents[place] = ratio if isinstance(ratio, (int, Extent)) else None
    return tuple(entries), tuple(extents)


def entry_of(x, e, place, allow_zero):
    """The entry for an open extent: 0 where x has it along the same axis, the axis that has it, or two; None: unknown."""
    if place < x.rank and x.extents[place] == e:
        return ("axis", place) if allow_zero else 0
    for axis in range(x.rank):
        if x.extents[axis] == e:
            return ("axis", axis)
    for first in range(x.rank):
        for second in range(first + 1, x.rank):
            if product((x.extents[first], x.extents[second])) == e:
                return ("axis", first, second)
    return None


@imports("Reshape")
def reshape(n):
    wanted = n.integers("shape") if n.opset < 5 else n.sizes(1, "its shape")
    allow_zero = bool(n.attribute("allowzero", 0)) if n.opset >= 14 else False
    x = n.inputs[0]
    if is_constant(x):
        if any(isinstance(e, Extent) for e in wanted):
            n.refuse(f"numbers of the file get a shape {wanted} that depends on the image")
        if not allow_zero:
            wanted = [x.shape[i] if e == 0 else e for i, e in enumerate(wanted)]
        return x.reshape(wanted)
    x = n.live()
    allow_zero = allow_zero and 0 in wanted
    unknown = [isinstance(e, Extent) and entry_of(x, e, i, False) is None for i, e in enumerate(wanted)]
    if sum(unknown) + wanted.count(-1) > 1 and any(unknown):
        if not allow_zero:
            wanted = [x.extents[i] if e == 0 and i < x.rank else e for i, e in enumerate(wanted)]
        if wanted.count(-1) == 1 and 0 not in wanted:
            known, whole_ = product(e for e in wanted if e != -1), product(x.extents)
            rest = next((e for e in x.extents if known * e == whole_), None) or whole_ / known
            wanted = [rest if e == -1 else e for e in wanted]
        like = with_extents(n, wanted) if all(isinstance(e, Extent) or e > 0 for e in wanted) else None
        if like is not None:
            return n.add("reshape", x, real_like(n, like), extents=like.extents)
    entries, extents = target(n, x, wanted, allow_zero)
    if entries == (0, -1) and x.rank > 2:
        return n.add("flatten", x, extents=extents)
    return n.add("reshape", x, shape=entries, extents=extents, **({"allow_zero": True} if allow_zero else {}))


@imports("Flatten")
def flatten(n):
    axis = n.attribute("axis", 1)
    x = n.inputs[0]
    if is_constant(x):
        axis = axis % x.ndim if axis < 0 else axis
        return x.reshape(math.prod(x.shape[:axis]), -1)
    axis = axis % x.rank if axis < 0 else axis
    extents = (product(x.extents[:axis]), product(x.extents[axis:]))
    if axis == 1 and x.rank > 1:
        return n.add("flatten", x, extents=extents)
    first = ("axis", *range(axis)) if axis else 1
    return n.add("reshape", x, shape=(first, -1), extents=extents)


@imports("Transpose")
def transpose(n):
    x = n.inputs[0]
    perm = n.integers("perm")
    if is_constant(x):
        return np.transpose(x, perm)
    perm = tuple(reversed(range(x.rank))) if perm is None else tuple(perm)
    if sorted(perm) != list(range(x.rank)):
        n.refuse(f"perm {list(perm)} is no order of the {x.rank} axes of its input")
    return composed(x, perm)


def axes_given(n):
    """Axes of Squeeze and Unsqueeze: an attribute, since version 13 an input."""
    return n.integers("axes") if n.opset < 13 else n.sizes(1, "axes")


def in_graph_axes(n, x):
    """The extents of x in the order of the file."""
    return x.extents if n.order is None else tuple(x.extents[a] for a in n.order)


@imports("Squeeze")
def squeeze(n):
    axes, x = axes_given(n), n.inputs[0]
    if is_constant(x):
        return np.squeeze(x, None if axes is None else tuple(axes))
    x = n.live()
    if axes is None:
        axes = [a for a, e in enumerate(in_graph_axes(n, x)) if e == 1]
    n.gone = {a % x.rank for a in axes}
    axes = tuple(n.axis(a, x.rank) for a in axes)
    return n.add("squeeze", x, axes=axes, extents=tuple(e for a, e in enumerate(x.extents) if a not in axes))


@imports("Unsqueeze")
def unsqueeze(n):
    axes, x = axes_given(n), n.inputs[0]
    if is_constant(x):
        return np.expand_dims(x, tuple(axes))
    x = n.live()
    rank = x.rank + len(axes)
    axes = tuple(a % rank for a in axes)
    rest = iter(x.extents)
    return n.add("unsqueeze", x, axes=axes, extents=tuple(1 if a in axes else next(rest) for a in range(rank)))


@imports("Expand")
def expand(n):
    wanted, x = n.sizes(1, "its shape"), n.inputs[0]
    if is_constant(x) and all(isinstance(e, int) for e in wanted):
        shape = np.broadcast_shapes(x.shape, tuple(wanted))
        n.check_size_limit(shape)
        return np.broadcast_to(x, shape).copy()
    x = n.live()
    own = (1,) * (len(wanted) - x.rank) + x.extents
    entries = []
    for e, have in zip(wanted, own[len(own) - len(wanted) :], strict=True):
        if isinstance(e, Extent) and e != have:
            made = common(x.extents, tuple(wanted))
            like = n.of_image(made) if x.rank == len(made) > 2 else None
            if like is not None:
                return n.add("expand", x, by_image(n, real_like(n, like), made), extents=made)
            return repeated(n, x, wanted)
        entries.append(1 if e == have else e)
    return n.add("expand", x, shape=tuple(entries), extents=common(x.extents, tuple(wanted)))


def by_image(n, like, wanted):
    """A value of the extents wanted along the spatial axes, and 1 along channels where those are others."""
    if like.extents[1] in (wanted[1], 1):
        return like
    return n.add("slice", like, step="one_channel", start=0, stop=1, axis=1, extents=replaced(like, 1, 1))


@imports("Tile")
def tile(n):
    x = n.inputs[0]
    if n.opset < 6:  # this many tiles along one axis
        tiles, axis = (int(n.array(place, what).reshape(-1)[0]) for place, what in ((1, "tiles"), (2, "its axis")))
        rank = x.ndim if is_constant(x) else x.rank
        repeats = [tiles if place == axis % rank else 1 for place in range(rank)]
    else:
        repeats = n.sizes(1, "repeats")
    if any(isinstance(r, Extent) for r in repeats):
        return tiled_openly(n, n.live(), repeats)
    if is_constant(x):
        n.check_size_limit([a * b for a, b in zip(x.shape, repeats, strict=True)])
        return np.tile(x, repeats)
    return n.add(
        "tile", x, repeats=tuple(repeats), extents=tuple(e * r for e, r in zip(x.extents, repeats, strict=True))
    )


def tiled_openly(n, x, repeats):
    """x repeated, as often as a size says: only where it has one value along such an axis."""
    if any(r != 1 and e != 1 and isinstance(r, Extent) for r, e in zip(repeats, x.extents, strict=True)):
        n.refuse(f"repeats {repeats} depend on the size of the image; give input_shape=")
    known = tuple(r if isinstance(r, int) else 1 for r in repeats)
    if any(r != 1 for r in known):
        extents = tuple(e * r for e, r in zip(x.extents, known, strict=True))
        x = n.add("tile", x, step="known", repeats=known, extents=extents)
    return repeated(n, x, [r if isinstance(r, Extent) else 1 for r in repeats])


@imports("DepthToSpace", "SpaceToDepth")
def pixel_shuffle(n):
    x, _ = image(n)
    factor = n.attribute("blocksize", 1)
    mode = n.choice("mode", "DCR", ("DCR", "CRD"))
    if n.node.op_type == "DepthToSpace":
        return n.add(
            "pixel_shuffle", x, factor=factor, mode=mode, extents=(*x.extents[:2], *(e * factor for e in x.extents[2:]))
        )
    return n.add(
        "pixel_unshuffle", x, factor=factor, mode=mode, extents=(*x.extents[:2], *(e / factor for e in x.extents[2:]))
    )


@imports("Pad")
def pad(n):
    if n.opset < 11:
        pads, value = n.integers("paddings" if n.opset < 2 else "pads"), n.attribute("value", 0.0)
    else:
        pads, value = n.sizes(1, "pads"), n.array(2, "its constant")
        value = 0.0 if value is None else float(value.reshape(-1)[0])
    mode = n.choice("mode", "constant", ("constant", "reflect", "edge", "wrap"))
    mode = {"edge": "replicate", "wrap": "circular"}.get(mode, mode)
    x = n.live()
    axes = n.sizes(3, "axes") if n.opset >= 18 and n.given(3) else list(range(x.rank))
    if pads is None or len(pads) != 2 * len(axes) or any(isinstance(p, Extent) for p in (*pads, *axes)):
        n.refuse(f"pads {pads} are not two integers for each axis {axes}")
    pairs = [(0, 0)] * x.rank
    for place, axis in enumerate(axes):
        pairs[n.axis(axis, x.rank)] = (pads[place], pads[place + len(axes)])
    return padded(n, x, pairs, mode, value)


def padded(n, x, pairs, mode, value, step=None):
    """x with cells around it, (before, after) along each axis; the axes of images are the last ones, others are brought there."""
    if any(pairs[0]):
        n.refuse(f"pads {pairs[0]} along the batch: a net computes with images one by one")
    if not any(map(any, pairs)):
        return n.add("identity", x, step=step, extents=x.extents)
    extents = tuple(e + sum(p) for e, p in zip(x.extents, pairs, strict=True))
    if x.rank == 2:
        wide = n.add("unsqueeze", x, step="as_image", axes=(1,), extents=(x.extents[0], 1, x.extents[1]))
        wide = padded(n, wide, [(0, 0), (0, 0), pairs[1]], mode, value, "padded")
        return n.add("squeeze", wide, step=step, axes=(1,), extents=extents)
    if not any(pairs[1]):
        made = n.add("pad", x, step=step, padding=tuple(pairs[2:]), mode=mode, value=value, extents=extents)
        if mode == "constant" and value == 0 and min(map(min, pairs)) >= 0:
            n.importer.zero_padded[made.value.number] = x, pairs[2:]
        return made
    still = next((axis for axis in range(2, x.rank) if not any(pairs[axis])), None)
    if still is None:  # first the channels alone
        inner = [(0, 0), pairs[1], *[(0, 0)] * (x.rank - 2)]
        x = padded(n, x, inner, mode, value, "channels")
        return padded(n, x, [(0, 0), (0, 0), *pairs[2:]], mode, value, step)
    order = list(range(x.rank))
    order[1], order[still] = still, 1
    x = n.add("transpose", x, step="channels_inside", axes=tuple(order), extents=tuple(x.extents[a] for a in order))
    x = padded(n, x, [pairs[a] for a in order], mode, value, "padded")
    return n.add("transpose", x, step=step, axes=tuple(order), extents=extents)


# ── Sizes of images ────────────────────────────────────────────────────────────────────────────────────────────────────

CROP = "tf_crop_and_resize"
COORDINATES = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric", CROP)


@imports("Resize", "Upsample")
def resize(n):
    x = n.live()
    beyond = n.attribute("extrapolation_value", 0.0)
    if n.opset < 11 or not beyond or n.attribute("coordinate_transformation_mode", "half_pixel") != CROP:
        return resized(n, x)
    value = ranked(n, n.constant(beyond, "beyond"), x.rank)
    around = resized(n, n.add("subtract", x, value, step="around_beyond", extents=x.extents), "resized")
    return n.add("add", around, value, extents=around.extents)


def region_of(n, axes, rank):
    """The ends of the region that is resized, per spatial axis."""
    ends = n.array(1, "roi")
    if ends is None or ends.size != 2 * len(axes):
        n.refuse(f"roi has {0 if ends is None else ends.size} numbers; expected the begin and end of {len(axes)} axes")
    pairs = dict.fromkeys(range(rank), (0.0, 1.0))
    pairs |= zip(axes, zip(*(map(single, half) for half in np.split(ends.reshape(-1), 2)), strict=True), strict=True)
    if rank < 3 or any(pairs[a] != (0, 1) for a in (0, 1)):
        n.refuse(f"roi {ends.tolist()} is a part of the batch or the channels; only images are resized")
    return tuple(pairs[a] for a in range(2, rank))


def resized(n, x, step=None):
    """x resized as the node says, with 0 beyond the image."""
    old = n.node.op_type == "Upsample" or n.opset < 11
    scales = sizes = None
    if n.node.op_type == "Upsample" and n.opset < 7:
        scales = [1.0, 1.0, n.attribute("height_scale", 1.0), n.attribute("width_scale", 1.0)]
    elif n.node.op_type == "Upsample" and n.opset < 9:
        scales = n.attribute("scales")
    elif old:
        scales = n.array(1, "scales")
    else:
        scales, sizes = n.array(2, "scales") if not sizes_open(n, 2) else n.inputs[2], n.sizes(3, "sizes")
    scales = None if scales is None or not len(scales) else scales.tolist() if is_constant(scales) else list(scales)
    axes = n.integers("axes") if not old else None
    axes = [n.axis(a, x.rank) for a in (range(x.rank) if axes is None else axes)]
    words = ("nearest", "linear", "bilinear", "cubic")
    mode = n.choice("mode", "nearest", words).removeprefix("bi")
    settings = {"mode": mode, "coordinates": "asymmetric" if old else "half_pixel"} | ({"step": step} if step else {})
    if old and mode == "nearest":
        settings["rounding"] = "floor"
    if not old:
        settings["coordinates"] = n.choice("coordinate_transformation_mode", "half_pixel", COORDINATES)
        if settings["coordinates"] == CROP:
            settings["region"] = region_of(n, axes, x.rank)
        if mode == "nearest":
            settings["rounding"] = n.choice(
                "nearest_mode", "round_prefer_floor", ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
            )
        if mode == "cubic":
            settings["cubic_coefficient"] = single(n.attribute("cubic_coeff_a", -0.75))
        if mode != "nearest":
            settings["exclude_outside"] = bool(n.attribute("exclude_outside", 0))
            settings["antialias"] = bool(n.attribute("antialias", 0))
    if sizes is not None and len(sizes) == len(axes):
        policy = n.choice("keep_aspect_ratio_policy", "stretch", ("stretch", "not_larger", "not_smaller"))
        if policy != "stretch":
            return kept_aspect(n, x, axes, sizes, policy, settings)
        return sized(n, x, axes, sizes, settings)
    if scales is None or len(scales) != len(axes):
        n.refuse(f"it needs scales or sizes for {len(axes)} axes")
    if any(isinstance(s, Extent) for s in scales):
        return sized(n, x, axes, [whole(x.extents[a] * s) for a, s in zip(axes, scales, strict=True)], settings)
    if not all(0 < float(s) < math.inf for s in scales):
        n.refuse(f"it resizes by {[float(s) for s in scales]}; expected numbers above 0")
    full = dict.fromkeys(range(x.rank), Fraction(1)) | dict(zip(axes, map(written, map(float, scales)), strict=True))
    return scaled(n, x, full, settings)


def sizes_open(n, place):
    return n.given(place) and is_constant(n.inputs[place]) and is_open(n.inputs[place])


def whole(e):
    """The extent that a product with a scale stands for."""
    return as_whole(e)


def check_image_axes(n, x, full):
    if x.rank < 3 or any(full[a] != 1 for a in (0, 1)):
        n.refuse("it changes the batch or the channels; only images are resized")


def scaled(n, x, full, settings):
    """x resized by a factor per axis."""
    if x.rank == 2 and all(v == 1 for v in full.values()):
        return n.add("identity", x, extents=x.extents)
    check_image_axes(n, x, full)
    scale = plain(float(full[a]) for a in range(2, x.rank))
    extents = (
        *x.extents[:2],
        *(e if full[a] == 1 else math.floor(e * full[a]) for a, e in enumerate(x.extents) if a > 1),
    )
    return n.add("resize", x, None, scale=scale, extents=extents, **settings)


def sized(n, x, axes, sizes, settings):
    """x resized to sizes: integers, a factor of its own, or those of another value of the graph."""
    full = {a: x.extents[a] for a in range(x.rank)} | dict(zip(axes, sizes, strict=True))
    batch = n.importer.batches.get(x.extents[0])
    if x.rank < 3 or full[0] not in (x.extents[0], batch) or full[1] != x.extents[1]:
        n.refuse(f"it changes the batch or the channels to {full.get(0)} and {full.get(1)}; only images are resized")
    wanted = tuple(full[a] for a in range(2, x.rank))
    extents = (*x.extents[:2], *wanted)
    if all(isinstance(e, int) for e in wanted):
        return n.add("resize", x, None, size=plain(wanted), extents=extents, **settings)
    ratios = [
        1 if e == have else e / have for e, have in zip(wanted, x.extents[2:], strict=True) if isinstance(e, Extent)
    ]
    if len(ratios) == len(wanted) and not any(isinstance(r, Extent) for r in ratios):
        return n.add("resize", x, None, scale=plain(float(r) for r in ratios), extents=extents, **settings)
    like = n.of_extents(wanted, 2)
    if like is None:
        grid = with_extents(n, wanted)
        axes = None if grid is None else (1, 1, *grid.extents)
        like = None if grid is None else n.add("unsqueeze", grid, step="size", axes=(0, 1), extents=axes)
    if like is not None:
        return n.add("resize", x, real_like(n, like), extents=extents, **settings)
    n.refuse(f"its size {wanted} depends on the image in a way that is no setting; give input_shape=")
    return None


def kept_aspect(n, x, axes, sizes, policy, settings):
    """x resized by one factor for all axes, so that none is larger, or smaller, than its size."""
    extents = [x.extents[a] for a in axes]
    if any(isinstance(v, Extent) for v in (*sizes, *extents)):
        n.refuse("keep_aspect_ratio_policy of an image whose size is open; give input_shape=")
    ratios = [size / e for size, e in zip(sizes, extents, strict=True)]
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return sized(n, x, axes, [math.floor(ratio * e + 0.5) for e in extents], settings)


# ── Numbers and sizes ──────────────────────────────────────────────────────────────────────────────────────────────────


@imports("Identity")
def identity(n):
    return n.inputs[0]


@imports("Constant")
def constant(n):
    attributes = n.node.attributes
    if "value" in attributes and isinstance(attributes["value"], np.ndarray):
        return attributes["value"]
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in attributes:
            return np.asarray(attributes[name], dtype)
    return n.refuse(f"its value is of a kind that is not read: {', '.join(attributes) or 'none'}")


@imports("ConstantOfShape")
def constant_of_shape(n):
    shape = n.sizes(0, "its shape")
    value = n.node.attributes.get("value", np.zeros(1, np.float32))
    if any(isinstance(e, Extent) for e in shape):
        return repeated(n, n.holding(n.importer.live(value.reshape(-1)[:1], n.name), value), shape)
    n.check_size_limit(shape)
    return np.full(shape, value.reshape(-1)[0], value.dtype)


@imports("Shape")
def shape(n):
    x = n.inputs[0]
    extents = x.shape if is_constant(x) else x.extents
    extents = extents[n.attribute("start", 0) : n.attribute("end", len(extents))]
    made = np.empty(len(extents), object)
    made[:] = extents
    return made if any(isinstance(e, Extent) for e in extents) else made.astype(np.int64)


@imports("Size")
def size(n):
    x = n.inputs[0]
    total = product(x.shape if is_constant(x) else x.extents)
    return np.asarray(total, object if isinstance(total, Extent) else np.int64)


REAL_TYPES, WHOLE_TYPES = (
    {1: np.float32, 10: np.float32, 11: np.float64, 16: np.float32},
    {
        2: np.uint8,
        3: np.int8,
        5: np.int16,
        6: np.int32,
        7: np.int64,
        9: np.bool_,
        12: np.uint32,
        13: np.uint64,
    },
)


def as_role(n, x, role):
    """A value as real numbers, integers or booleans, as Cast makes them."""
    if x.role == role:
        return x
    if role == "real" or (role == "index" and x.role == "mask"):  # the same numbers
        return replace(n.live(), role=role)
    return n.importer.converted(x, n.name, role)


@imports("Cast")
def cast(n):
    to, x = n.node.attributes.get("to", 1), n.inputs[0]
    to = NUMBERS.get({"FLOAT": "float", "DOUBLE": "double"}.get(to, str(to).lower()), to)  # a word until version 6
    if to not in REAL_TYPES and to not in WHOLE_TYPES:
        n.refuse(f"type number {to} is not read")
    if not is_constant(x):
        if x.role == "real" and to in (1, 11):
            n.importer.casts.append((n.node, "float64" if to == 11 else "float32"))
        return as_role(n, x, "real" if to in REAL_TYPES else "mask" if to == 9 else "index")
    if is_open(x):
        return cast_sizes(x, to in REAL_TYPES)
    with np.errstate(all="ignore"):
        return x.astype(REAL_TYPES.get(to) or WHOLE_TYPES[to])


def cast_sizes(x, to_real):
    """Sizes, some of which are open, as real or whole numbers."""
    return tidy(np.asarray(np.frompyfunc(as_real if to_real else as_whole, 1, 1)(x), object))


@imports("CastLike")
def cast_like(n):
    x, like = n.inputs[:2]
    role = n.role(1)
    real_like = role == "real"
    if not is_constant(x):
        return as_role(n, x, role)
    if is_open(x):
        return cast_sizes(x, real_like)
    with np.errstate(all="ignore"):
        return x.astype(like.dtype if is_constant(like) else n.importer.dtype())


@imports("Range")
def range_(n):
    start, limit, step = (bound_of_range(n, place) for place in range(3))
    if isinstance(limit, Extent) and not isinstance(start, Extent) and not isinstance(step, Extent) and step > 0:
        return open_range(n, start, limit, step)
    if any(isinstance(v, Extent) for v in (start, limit, step)):
        n.refuse(f"it counts from {start} to {limit} in steps of {step}, which depends on the image; give input_shape=")
    if not step or not all(map(np.isfinite, (start, limit, step))):
        n.refuse(f"it counts from {start} to {limit} in steps of {step}")
    count = max(0, math.ceil((limit - start) / step))
    n.check_size_limit((count,))
    return np.asarray(start + step * np.arange(count), n.inputs[0].dtype if not is_open(n.inputs[0]) else None)


def bound_of_range(n, place):
    """A start, end or step: a number, or a size."""
    value = n.inputs[place]
    if not is_constant(value):
        n.refuse("a bound is computed from the values of an image: how many numbers it makes must not depend on them")
    return value.reshape(-1)[0]


def open_range(n, start, limit, step):
    """As many numbers as fit into a size that is open."""
    count = (limit - start) / step if step != 1 else limit - start
    count = as_whole(count.__ceil__() if isinstance(count, Extent) else math.ceil(count))
    made = counting(n, count, start, step)
    if made is None:
        n.refuse(f"it counts up to {limit}, and nothing of that size is known here; give input_shape=")
    return n.holding(made, np.zeros(0, np.int64 if not (limit.is_real or isinstance(start, float)) else np.float32))


def repeated(n, x, wanted, step=None):
    """x broadcast to a shape, some of whose extents are open."""
    made = common(x.extents, tuple(wanted))
    like = with_extents(n, made)
    if like is None:
        n.refuse(f"its shape {list(wanted)} depends on the image in a way that is not known here; give input_shape=")
    return n.add("expand", x, real_like(n, like), step=step, extents=made)


def real_like(n, like):
    """A value as real numbers, where only its shape matters."""
    return n.importer.converted(like, n.name, "real")
