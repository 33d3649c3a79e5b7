"""Operators in ONNX: one short function each, registered by the operator's name.

A function gets the :class:`~cnncore.io.onnx_export.writer.Writer` and the node (its settings, its numbers, its values as
terms) and returns the term of y. Convolutions, normalisations, joins and shapes are here, and what stands for an operator
that ONNX has by another name; formulas of several nodes are in compositions.py, poolings in pooling.py.
"""

import math

import numpy as np

from ...checks import per_axis
from ...operators import geometry
from ...operators.normalization.implementation import each_alpha, last_axes
from ...operators.shape.implementation import part_extents

__all__ = ["EXPORTERS", "REFUSED", "exports", "flat_pads", "image_padded", "named_pads"]

EXPORTERS = {}  # operator → function(writer, node) → term
REFUSED: dict[str, str] = {}  # operator → why there is none


def exports(*names):
    """Register the function that writes the operators called ``names``."""

    def kept(function):
        for name in names:
            EXPORTERS[name] = function
        return function

    return kept


# ── Convolution ────────────────────────────────────────────────────────────────────────────────────────────────────────


def named_pads(n, padding, kernel, stride, dilation):
    """Padding as (low, high) per axis; None where it depends on a size that is open."""
    pads = geometry.padding_pairs(n.path, padding, n.spatial, kernel, stride, dilation)
    if any(None in pair for pair in pads) and max(stride) == 1:
        return geometry.padding_pairs(n.path, padding, (1,) * len(kernel), kernel, stride, dilation)
    return None if any(None in pair for pair in pads) else pads


def flat_pads(pads):
    """(low, high) pairs in the order of ONNX: all low ends, then all high ends."""
    return [low for low, _ in pads] + [high for _, high in pads]


def weight_and_bias(n, weight, bias):
    """The initialisers of w and, where there is one, b."""
    return [n.named("w", weight)] + ([] if bias is None else [n.named("b", bias)])


def convolved(w, n, weight, bias, padding, groups, mode="zeros"):
    """A Conv node with the node's stride and dilation; what stands around the image is put there before, unless it is 0."""
    rank, s, kernel = len(n.spatial), n.settings, weight.shape[2:]
    stride = per_axis(n.path, "stride", s["stride"], rank, minimum=1)
    dilation = per_axis(n.path, "dilation", s.get("dilation", 1), rank, minimum=1)
    pads, x, around = named_pads(n, padding, kernel, stride, dilation), n.x, {}
    if mode != "zeros":
        if pads is None:
            n.refuse(f"padding={padding!r} with a stride depends on the image size, which is open", "give input_shape=")
        x = image_padded(w, n, x, pads, mode)
    elif pads is not None:
        around = {"pads": flat_pads(pads)}
    elif max(dilation) > 1:
        n.refuse(
            f"padding={padding!r} of dilated windows depends on the image size, which is open", "give input_shape="
        )
    else:
        around = {"auto_pad": padding.upper()}
    return w(
        "Conv",
        x,
        *weight_and_bias(n, weight, bias),
        kernel_shape=list(kernel),
        strides=list(stride),
        dilations=list(dilation),
        group=groups,
        **around,
    )


@exports("conv")
def conv(w, n):
    s = n.settings
    return convolved(w, n, n.array("w"), n.array("b"), s["padding"], s["groups"], s["padding_mode"])


@exports("flipped_conv")
def flipped_conv(w, n):
    s, weight = n.settings, n.array("w")
    weight = weight[(..., *(slice(None, None, -1),) * (weight.ndim - 2))]
    return convolved(w, n, weight, n.array("b"), s["padding"], s["groups"], s["padding_mode"])


@exports("depthwise_conv")
def depthwise_conv(w, n):
    s = n.settings
    return convolved(w, n, n.array("w"), n.array("b"), s["padding"], n.shapes[0][1], s["padding_mode"])


@exports("causal_conv")
def causal_conv(w, n):
    s, weight = n.settings, n.array("w")
    (step,) = per_axis(n.path, "dilation", s["dilation"], 1, minimum=1)
    return convolved(w, n, weight, n.array("b"), ((step * (weight.shape[2] - 1), 0),), s["groups"])


@exports("linear_as_conv")
def linear_as_conv(w, n):
    s, weight = n.settings, n.array("w")
    size = per_axis(n.path, "image_size", s["image_size"], len(n.spatial), minimum=1)
    if s["order"] == "channels_last":
        weight = np.moveaxis(weight.reshape(len(weight), *size, -1), -1, 1)
    return convolved(w, n, weight.reshape(len(weight), -1, *size), n.array("b"), 0, 1)


@exports("conv_transpose")
def conv_transpose(w, n):
    s, weight, bias, rank = n.settings, n.array("w"), n.array("b"), len(n.spatial)
    kernel = weight.shape[2:]
    stride, dilation, more = (
        per_axis(n.path, name, s[name], rank) for name in ("stride", "dilation", "output_padding")
    )
    own = slice(3 - rank, None)
    window = geometry.transposed_window(n.path, n.spatial, kernel, stride, s["padding"], more, dilation)
    pads = list(zip(window.low[own], window.high[own], strict=True))
    if isinstance(s["padding"], str) and s["padding"] in ("same_upper", "same_lower"):  # H·s outputs
        reach = (d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
        more = tuple(step - e + low + high for step, e, (low, high) in zip(stride, reach, pads, strict=True))

    def node(bias, pads, more):
        return w(
            "ConvTranspose",
            n.x,
            *weight_and_bias(n, weight, bias),
            kernel_shape=list(kernel),
            strides=list(stride),
            dilations=list(dilation),
            output_padding=list(more) if any(more) else None,
            group=s["groups"],
            pads=flat_pads(pads),
        )

    if all(extra < step for extra, step in zip(more, stride, strict=True)):
        return node(bias, pads, more)
    # Runtimes take fewer rows than a step: rows that padding would cut off stay, others have nothing but the bias.
    kept = [min(high, extra) for (_, high), extra in zip(pads, more, strict=True)]
    y = node(None, [(low, high - k) for (low, high), k in zip(pads, kept, strict=True)], (0,) * rank)
    y = w.padded(y, [(0, extra - k) for extra, k in zip(more, kept, strict=True)])
    return y if bias is None else y + n.by_channel(bias, "b")


@exports("linear")
def linear(w, n):
    weight, bias = n.array("w"), n.array("b")
    if len(n.shapes[0]) == 2:
        arrays = weight_and_bias(n, weight, bias)
        return w("Gemm", n.x, *arrays, transB=1)
    y = w("MatMul", n.x, n.named("w", weight.T))
    return y if bias is None else y + n.named("b", bias)


@exports("deformable_conv")
def deformable_conv(w, n):
    s, weight, bias = n.settings, n.array("w"), n.array("b")
    n.needs_opset(19, "DeformConv")
    stride, dilation = (per_axis(n.path, name, s[name], 2) for name in ("stride", "dilation"))
    pads = named_pads(n, s["padding"], weight.shape[2:], stride, dilation)
    if pads is None:
        n.refuse(f"padding={s['padding']!r} depends on the image size, which is open", "give input_shape=")
    return w(
        "DeformConv",
        n.x,
        n.named("w", weight),
        n.term("offset"),
        None if bias is None else n.named("b", bias),
        n.term("mask"),
        kernel_shape=list(weight.shape[2:]),
        strides=list(stride),
        dilations=list(dilation),
        pads=flat_pads(pads),
        group=s["groups"],
        offset_group=s["offset_groups"],
    )


@exports("fold")
def fold(w, n):
    s, size = n.settings, n.output[2:]
    n.needs_opset(18, "Col2Im")
    stride, dilation, kernel = (
        per_axis(n.path, name, s[name], len(size)) for name in ("stride", "dilation", "kernel_size")
    )
    pads = geometry.padding_pairs(n.path, s["padding"], size, kernel, stride, dilation)
    return w(
        "Col2Im",
        n.x,
        w.whole(*size),
        w.whole(*kernel),
        strides=list(stride),
        dilations=list(dilation),
        pads=flat_pads(pads),
    )


# ── Normalisation ──────────────────────────────────────────────────────────────────────────────────────────────────────


def scale_and_shift(n, channels):
    """w and b of a normalisation, 1 and 0 where it has none."""
    weight, bias = n.array("w"), n.array("b")
    weight = np.ones(channels, np.float32) if weight is None else weight
    return weight, np.zeros(channels, np.float32) if bias is None else bias


@exports("batch_norm")
def batch_norm(w, n):
    axes, channels, eps = len(n.shapes[0]), n.shapes[0][1], n.settings["eps"]
    weight, bias = scale_and_shift(n, channels)
    if n.settings["training"]:
        over = [0, *range(2, axes)]
        away = n.x - w.reduced("Mean", n.x, over, keepdims=True)
        variance = w.reduced("Mean", away * away, over, keepdims=True)
        return away / w("Sqrt", variance + eps) * n.by_channel(weight) + n.by_channel(bias)
    names = {"w": weight, "b": bias, "running_mean": n.array("running_mean"), "running_var": n.array("running_var")}
    arrays = [n.named(name, array) for name, array in names.items()]
    return w("BatchNormalization", n.x, *arrays, epsilon=eps)


@exports("instance_norm")
def instance_norm(w, n):
    weight, bias = scale_and_shift(n, n.shapes[0][1])
    arrays = weight_and_bias(n, weight, bias)
    return w("InstanceNormalization", n.x, *arrays, epsilon=n.settings["eps"])


def normalised(w, n, groups):
    """x with mean 0 and variance 1 in each of ``groups`` groups of channels of an image, then by channel scaled and shifted."""
    channels = n.shapes[0][1]
    rows = w.reshaped(n.x, 0, groups, -1)
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    rows = w("InstanceNormalization", rows, ones, zeros, epsilon=n.settings["eps"])
    y = w("Reshape", rows, w.extents(n.x))
    weight, bias = scale_and_shift(n, channels)
    if n.array("w") is None and n.array("b") is None:
        return y
    return y * n.by_channel(weight, "w") + n.by_channel(bias, "b")


@exports("group_norm")
def group_norm(w, n):
    if w.opset < 21 or len(n.shapes[0]) < 3:
        return normalised(w, n, n.settings["groups"])
    weight, bias = scale_and_shift(n, n.shapes[0][1])
    arrays = weight_and_bias(n, weight, bias)
    return w("GroupNormalization", n.x, *arrays, num_groups=n.settings["groups"], epsilon=n.settings["eps"])


@exports("layer_norm")
def layer_norm(w, n):
    shape = last_axes(n.shapes, n.settings)
    if shape is None:
        return normalised(w, n, 1)
    n.needs_opset(17, "LayerNormalization")
    weight, bias = n.array("w"), n.array("b")
    weight = np.ones(shape, np.float32) if weight is None else n.named("w", weight)
    bias = None if bias is None else n.named("b", bias)
    return w("LayerNormalization", n.x, weight, bias, axis=-len(shape), epsilon=n.settings["eps"])


@exports("channel_shuffle")
def channel_shuffle(w, n):
    """One image after the other has the channels (groups, C / groups), turned round."""
    groups = n.settings["groups"]
    parts = w.reshaped(n.x, 0, groups, n.shapes[0][1] // groups, -1)
    return w("Reshape", w("Transpose", parts, perm=[0, 2, 1, 3]), w.extents(n.x))


@exports("scale")
def scale(w, n):
    weight, bias, y = n.array("w"), n.array("b"), n.x
    if weight is not None:
        y = y * n.by_channel(weight, "w")
    return y if bias is None else y + n.by_channel(bias, "b")


@exports("local_response_norm")
def local_response_norm(w, n):
    s, size = n.settings, n.settings["size"]
    alpha = each_alpha(s) * size
    if size % 2:
        rank = len(n.spatial)  # runtimes take images alone
        x = w.unsqueezed(n.x, *range(2 + rank, 4)) if rank < 2 else n.x if rank == 2 else w.reshaped(n.x, 0, 0, -1, 1)
        y = w("LRN", x, size=size, alpha=alpha, beta=s["beta"], bias=s["k"])
        if rank < 2:
            return w("Squeeze", y, w.whole(*range(2 + rank, 4)))
        return y if rank == 2 else w("Reshape", y, w.extents(n.x))
    low, high = (size // 2, (size - 1) // 2) if s["compat"] is None else ((size - 1) // 2, size // 2)
    axes, channels = len(n.shapes[0]), n.shapes[0][1]
    pads = [0, low] + [0] * (axes - 2) + [0, high] + [0] * (axes - 2)
    squares = w("Pad", n.x * n.x, w.whole(*pads), np.float32(0))
    total = w("Sum", *(w.sliced(squares, 1, i, i + channels) for i in range(size)))
    return n.x / (total * (alpha / size) + s["k"]) ** s["beta"]


@exports("response_norm_within_channel")
def response_norm_within_channel(w, n):
    s, size, rank = n.settings, n.settings["size"], len(n.spatial)
    squares = w.padded(n.x * n.x, [(size // 2, (size - 1) // 2)] * rank)
    mean = w("AveragePool", squares, kernel_shape=[size] * rank)
    return n.x / (mean * s["alpha"] + s["k"]) ** s["beta"]


# ── What only training changes ─────────────────────────────────────────────────────────────────────────────────────────


@exports("dropout", "spatial_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(w, n):
    if n.settings["training"]:
        n.refuse(
            "training=True draws at random, which ONNX cannot repeat", "leave training out: the net's mode decides"
        )
    return n.x


@exports("identity")
def identity(w, n):
    return w("Identity", n.x)


# ── Joining, cutting, shapes ───────────────────────────────────────────────────────────────────────────────────────────


@exports("concat")
def concat(w, n):
    return w("Concat", *n.terms, axis=n.settings["axis"])


@exports("add")
def add(w, n):
    coefficients = n.settings["coefficients"] or (1.0,) * len(n.terms)
    parts = [x if c == 1 else x * float(c) for x, c in zip(n.terms, coefficients, strict=True)]
    return w("Add", *parts) if len(parts) == 2 else w("Sum", *parts)


@exports("split")
def split(w, n):
    s, axis = n.settings, n.axis(n.settings["axis"])
    parts, extent = s["parts"], n.shapes[0][axis]
    if isinstance(parts, int) and extent is None:
        n.needs_opset(18, "Split without the extents of the parts")
        made = w("Split", n.x, axis=axis, num_outputs=parts, outputs=parts)
        return made if parts == 1 else made[s["part"]]
    extents = part_extents(extent, parts) if isinstance(parts, int) else list(parts)
    start = sum(extents[: s["part"]])
    return w.sliced(n.x, axis, start, start + extents[s["part"]])


@exports("slice")
def slice_(w, n):
    s = n.settings
    return w.sliced(n.x, n.axis(s["axis"]), s["start"], s["stop"], s["stride"])


@exports("flatten")
def flatten(w, n):
    start = n.axis(n.settings["start_dim"])
    return w("Flatten", n.x) if start == 1 else w.reshaped(n.x, *[0] * start, -1)


def blocks(w, n):
    """(factor per axis, extents of the image as numbers or terms) of a shuffle."""
    rank = len(n.spatial)
    factor = per_axis(n.path, "factor", n.settings["factor"], rank, minimum=1)
    extents = [H if H is not None else w.extents(n.x, 2 + a, 3 + a) for a, H in enumerate(n.spatial)]
    return factor, extents


@exports("pixel_shuffle")
def pixel_shuffle(w, n):
    (factor, extents), rank, first = blocks(w, n), len(n.spatial), n.settings["mode"] == "DCR"
    channels = n.shapes[0][1] // math.prod(factor)
    if rank == 2 and factor[0] == factor[1]:
        return w("DepthToSpace", n.x, blocksize=factor[0], mode=n.settings["mode"])
    form = (*factor, channels) if first else (channels, *factor)
    cells = w.reshaped(n.x, 0, *form, *extents)
    place = 1 if first else 2  # of the first factor
    order = [0, 1 + rank if first else 1]
    for a in range(rank):
        order += [2 + rank + a, place + a]
    joined = [H * f if isinstance(H, int) else w("Mul", H, w.whole(f)) for H, f in zip(extents, factor, strict=True)]
    return w.reshaped(w("Transpose", cells, perm=order), 0, channels, *joined)


@exports("pixel_unshuffle")
def pixel_unshuffle(w, n):
    (factor, extents), rank, channels = blocks(w, n), len(n.spatial), n.shapes[0][1]
    last = n.settings["mode"] == "CRD"
    if rank == 2 and factor[0] == factor[1] and not last:
        return w("SpaceToDepth", n.x, blocksize=factor[0])
    left = [H // f if isinstance(H, int) else w("Div", H, w.whole(f)) for H, f in zip(extents, factor, strict=True)]
    form = [part for pair in zip(left, factor, strict=True) for part in pair]
    cells = w.reshaped(n.x, 0, channels, *form)
    outer, inner = [2 + 2 * a for a in range(rank)], [3 + 2 * a for a in range(rank)]
    order = [0, 1, *inner, *outer] if last else [0, *inner, 1, *outer]
    return w.reshaped(w("Transpose", cells, perm=order), 0, channels * math.prod(factor), *left)


PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def image_padded(w, n, x, pads, mode, value=0.0):
    """Cells around the image: a Pad node; where it has no such mode, gathered from an image of known size."""
    if not any(map(any, pads)):
        return x
    cut = min(map(min, pads)) < 0
    if mode == "constant" or (mode in PAD_MODES and not cut):
        return w.padded(x, pads, value, PAD_MODES[mode])
    if mode == "replicate":  # the cells that are cut off are not those repeated
        x = w.padded(x, [(min(low, 0), min(high, 0)) for low, high in pads])
        return w.padded(x, [(max(low, 0), max(high, 0)) for low, high in pads], mode="edge")
    if None in n.spatial:
        if mode == "circular" and not cut and w.opset >= 19:
            return w.padded(x, pads, mode="wrap")
        n.refuse(f"{mode} padding {tuple(pads)} of an image of open size has no node", "give input_shape=")
    for axis, (H, (low, high)) in enumerate(zip(n.spatial, pads, strict=True)):
        if low or high:
            x = w.picked(x, geometry.padding_sources(H, low, high, mode), 2 + axis)
    return x


@exports("pad")
def pad(w, n):
    s = n.settings
    pads, _ = geometry.padded(n.path, n.spatial, s["padding"], s["mode"])
    return image_padded(w, n, n.x, pads, s["mode"], s["value"]) if any(map(any, pads)) else w("Identity", n.x)


@exports("nearest_upsample", "linear_upsample")
def upsample(w, n):
    s, rank = n.settings, len(n.spatial)
    mode = {"mode": "linear", "coordinate_transformation_mode": s["coordinates"]}
    if "rounding" in s:
        mode |= {"mode": "nearest", "nearest_mode": s["rounding"]}
    scale = s["scale"] if isinstance(s["scale"], tuple) else (s["scale"],) * rank
    if None not in n.spatial and not resizes_alike(n, mode["mode"], scale):
        axes = n.call.geometry[3 - rank :]
        return along_axes(w, n.x, axes) if mode["mode"] == "linear" else picked_along_axes(w, n.x, axes)
    if s["size"] is None:
        # Rounded up, so that no extent H · scale falls below a whole number.
        rounded = np.array(scale, np.float32)
        rounded = np.where(rounded < scale, np.nextafter(rounded, np.float32(np.inf)), rounded)
        return w("Resize", n.x, None, np.array([1, 1, *rounded], np.float32), **mode)
    size = per_axis(n.path, "size", s["size"], rank, minimum=1)
    extents = w("Concat", w.extents(n.x, 0, 2), w.whole(*size), axis=0)
    return w("Resize", n.x, None, None, extents, **mode)


def resizes_alike(n, mode, scale):
    """Whether runtimes, which compute positions in float32, find the same pixels.

    The nearest pixel is surely the same where every pixel becomes several. Lines between pixels have no jumps, but a scale that
    leaves an extent as it is counts for 1 in ONNX Runtime.
    """
    extents = list(zip(n.spatial, n.output[2:], scale, strict=True))
    if mode == "nearest":
        return n.settings["coordinates"] != "align_corners" and all(
            O % H == 0 and factor in (None, O // H) for H, O, factor in extents
        )
    return all(factor in (None, 1) or O != H for H, O, factor in extents)


def along_axes(w, x, axes):
    """Weighted sums of pixels, axis by axis, as products with matrices."""
    matrices = []
    for axis in axes:
        output, source, weight = axis.entries()
        matrix = np.zeros((axis.inputs, axis.outputs))
        np.add.at(matrix, (source, output), weight)
        matrices.append(
            None if np.array_equal(matrix, np.eye(axis.inputs, axis.outputs)) else matrix.astype(np.float32)
        )
    return w.times(x, matrices) if any(m is not None for m in matrices) else w("Identity", x)


def picked_along_axes(w, x, axes):
    """Pixels by their numbers, axis by axis."""
    for axis, (_, source, _) in enumerate((a.entries() for a in axes), 2):
        x = w.picked(x, source, axis)
    return x


# ── Activations that ONNX has ──────────────────────────────────────────────────────────────────────────────────────────


def node(op_type, since=0, **renamed):
    """An exporter to one node, whose attributes are settings of ours."""

    def write(w, n):
        n.needs_opset(since, op_type)
        return w(op_type, n.x, **{theirs: n.settings[ours] for theirs, ours in renamed.items()})

    write.__doc__ = f"{op_type} of x."
    return write


PLAIN = {
    "relu": node("Relu"),
    "elu": node("Elu", alpha="alpha"),
    "celu": node("Celu", alpha="alpha"),
    "selu": node("Selu"),
    "sigmoid": node("Sigmoid"),
    "tanh": node("Tanh"),
    "softsign": node("Softsign"),
    "hardshrink": node("Shrink", lambd="lambd"),
    "softshrink": node("Shrink", lambd="lambd", bias="lambd"),
    "thresholded_relu": node("ThresholdedRelu", alpha="alpha"),
    "exp": node("Exp"),
    "abs": node("Abs"),
    "softmax": node("Softmax", axis="axis"),
    "log_softmax": node("LogSoftmax", axis="axis"),
    "hardmax": node("Hardmax", axis="axis"),
}
EXPORTERS.update(PLAIN)


def numbers_of(n):
    """What an activation's definition computes with: its settings, ``compat`` taken into account."""
    return n.call.geometry[1]


def clipped(w, n, low, high):
    return w("Clip", n.x, np.float32(low), np.float32(high))


@exports("hard_tanh")
def hard_tanh(w, n):
    return clipped(w, n, n.settings["min_val"], n.settings["max_val"])


@exports("clipped_relu")
def clipped_relu(w, n):
    return clipped(w, n, 0, n.settings["max_value"])


@exports("relu6")
def relu6(w, n):
    return clipped(w, n, 0, 6)


@exports("leaky_relu")
def leaky_relu(w, n):
    return w("LeakyRelu", n.x, alpha=numbers_of(n)[0])


@exports("hard_sigmoid")
def hard_sigmoid(w, n):
    return w("HardSigmoid", n.x, alpha=numbers_of(n)[0], beta=n.settings["beta"])


@exports("rrelu")
def rrelu(w, n):
    if n.settings["training"]:
        n.refuse(
            "training=True draws at random, which ONNX cannot repeat", "leave training out: the net's mode decides"
        )
    return w("LeakyRelu", n.x, alpha=(n.settings["lower"] + n.settings["upper"]) / 2)


@exports("prelu")
def prelu(w, n):
    return w("PRelu", n.x, n.by_channel(n.array("a"), "a"))
