"""Operators that ONNX lacks, written with those it has: the formulas of the registry, in its letters."""

import math

import numpy as np

from ...checks import per_axis
from ...operators.registry import OPS
from .nodes import EXPORTERS, REFUSED, exports, image_padded, named_pads, node
from .pooling import CELLS, STRATEGIES, KernelWindows, adaptive_windows, kernel_windows, weighted
from .writer import LEAST, TINY

__all__ = ["composed"]

MOST_DENSE_NUMBERS = 1 << 22  # of the matrix of a linear map of whole images


# ── Activations ────────────────────────────────────────────────────────────────────────────────────────────────────────


def newer(op_type, since, formula):
    """An exporter to one node, and to a formula before the version that has it."""
    one = node(op_type)

    def write(w, n):
        return one(w, n) if w.opset >= since else formula(w, n.x)

    write.__doc__ = f"{op_type}, by its formula before version {since}."
    return write


EXPORTERS["hard_swish"] = newer("HardSwish", 14, lambda w, x: x * w("HardSigmoid", x, alpha=1 / 6, beta=0.5))
EXPORTERS["mish"] = newer("Mish", 18, lambda w, x: x * w("Tanh", w("Softplus", x)))


def formula(name):
    """Register an activation by its formula of one value: f(w, x, its settings)."""

    def kept(f):
        EXPORTERS[name] = lambda w, n: f(w, n.x, n.settings)
        return f

    return kept


@formula("gelu")
def gelu(w, x, s):
    if w.opset >= 20:
        return w("Gelu", x, approximate=s["approximate"])
    if s["approximate"] == "tanh":
        u = (x + 0.044715 * x * x * x) * math.sqrt(2 / math.pi)
        return 0.5 * x * (1 + w("Tanh", u))
    return 0.5 * x * (1 + w("Erf", x / math.sqrt(2)))


@formula("quick_gelu")
def quick_gelu(w, x, s):
    return x * w("Sigmoid", 1.702 * x)


@formula("silu")
def silu(w, x, s):
    return x * w("Sigmoid", x)


@formula("dsilu")
def dsilu(w, x, s):
    return w("Sigmoid", x) * (1 + x * w("Sigmoid", -x))


@exports("swish")
def swish(w, n):
    betas = n.array("betas")
    return n.x * w("Sigmoid", n.x * (n.settings["beta"] if betas is None else n.by_channel(betas, "betas")))


@formula("log_sigmoid")
def log_sigmoid(w, x, s):
    return w("Min", x, np.float32(0)) - w("Log", 1 + w("Exp", -w("Abs", x)))


@formula("softplus")
def softplus(w, x, s):
    beta = s["beta"]
    y = w("Softplus", x) if beta == 1 else w("Softplus", x * beta) / beta
    return y if s["compat"] is None else w.where(x * beta > 20.0, x, y)


@formula("sign")
def sign(w, x, s):
    y = w("Sign", x)
    return y if s["at_zero"] == 0 else w.where(w("Equal", x, np.float32(0)), np.float32(s["at_zero"]), y)


@formula("sign_straight_through")
def sign_straight_through(w, x, s):
    return w("Sign", x)


@formula("heaviside")
def heaviside(w, x, s):
    if s["at_zero"] == 1:
        return 1 - w("Relu", w("Sign", -x))
    y = w("Relu", w("Sign", x))
    return y if s["at_zero"] == 0 else w.where(w("Equal", x, np.float32(0)), np.float32(s["at_zero"]), y)


@formula("scaled_tanh")
def scaled_tanh(w, x, s):
    return w("Tanh", x * s["steepness"]) * s["amplitude"]


@formula("tanhshrink")
def tanhshrink(w, x, s):
    return x - w("Tanh", x)


@formula("threshold")
def threshold(w, x, s):
    if s["value"] == 0:
        return w("ThresholdedRelu", x, alpha=s["threshold"])
    return w.where(x <= s["threshold"], np.float32(s["value"]), x)


@formula("squareplus")
def squareplus(w, x, s):
    return 0.5 * (x + w("Sqrt", x * x + s["b"]))


@formula("sparse_plus")
def sparse_plus(w, x, s):
    bent = w("Clip", x + 1.0, np.float32(0), np.float32(2))
    return 0.25 * bent * bent + w("Relu", x - 1.0)


@formula("sparse_sigmoid")
def sparse_sigmoid(w, x, s):
    return w("HardSigmoid", x, alpha=0.5, beta=0.5)


@formula("dish")
def dish(w, x, s):
    return 0.5 * x * (1 + x / w("Sqrt", 1 + x * x))


@exports("crelu")
def crelu(w, n):
    return w("Concat", w("Relu", n.x), w("Relu", -n.x), axis=n.settings["axis"])


@exports("glu")
def glu(w, n):
    axis = n.axis(n.settings["axis"])
    if n.shapes[0][axis] is None:
        n.needs_opset(18, "Split of an axis of open extent")
    halves = {"num_outputs": 2} if w.opset >= 18 else {}
    a, b = w("Split", n.x, axis=axis, outputs=2, **halves)
    return a * w("Sigmoid", b)


@exports("maxout")
def maxout(w, n):
    k = n.settings["pieces"]
    return w("Max", *(w.sliced(n.x, 1, m, None, k) for m in range(k))) if k > 1 else w("Identity", n.x)


@exports("softmin")
def softmin(w, n):
    return w("Softmax", -n.x, axis=n.settings["axis"])


@exports("sparsemax")
def sparsemax(w, n):
    """τ = (x₍₁₎ + … + x₍ₖ₎ − 1) / k for the last k with x₍ₖ₎ > τ; up to it τ grows."""
    axis = n.axis(n.settings["axis"])
    away = n.x - w.reduced("Max", n.x, (axis,), keepdims=True)
    extent = w.extents(n.x, axis, axis + 1)
    ordered, _ = w("TopK", away, extent, axis=axis, outputs=2)
    last = w.cast(w("Squeeze", extent, w.whole(0))) + 1.0
    k = w.reshaped(w("Range", np.float32(1), last, np.float32(1)), -1, *[1] * (len(n.shapes[0]) - 1 - axis))
    tau = (w("CumSum", ordered, np.array(axis, np.int64)) - 1.0) / k
    tau = w.reduced("Max", w.where(ordered > tau, tau, np.float32(LEAST)), (axis,), keepdims=True)
    return w("Relu", away - tau)


# ── Blocks of convolutions ─────────────────────────────────────────────────────────────────────────────────────────────


def composed(w, n):
    """A composition of the registry: its steps, one after the other."""
    values = dict(zip((row.name for row in n.op.arrays), n.terms, strict=True))
    steps = n.op.implementation.steps(n.op, n.shapes, n.settings)
    for step, made in zip(steps, n.call.geometry, strict=True):
        rows = [row.name for row in step.op.arrays]
        given = dict(zip(rows if not step.op.variadic else [rows[-1]] * len(step.inputs), step.inputs, strict=False))
        arrays = {row: n.array(name) for row, name in given.items() if name is not None and n.array(name) is not None}
        terms = [None if name is None else values[name] for name in step.inputs]
        labels = {row: name for row, name in given.items() if row in arrays}
        values[step.name] = n.write(n.part(step.name, made.call, terms, arrays, labels))
    return values[steps[-1].name]


exports("separable_conv", "mlpconv", "inception")(composed)


# ── Windows as columns ─────────────────────────────────────────────────────────────────────────────────────────────────


@exports("unfold")
def unfold(w, n):
    s = n.settings
    windows = columns(w, n, s["kernel_size"], s)
    return w.reshaped(windows.cells(n.x), 0, n.shapes[0][1] * windows.size, -1)


def columns(w, n, kernel_size, s):
    """The windows of a convolution, whose padding may have any width."""
    rank = len(n.spatial)
    kernel, stride, dilation = (
        per_axis(n.path, name, value, rank, minimum=1)
        for name, value in (("kernel_size", kernel_size), ("stride", s["stride"]), ("dilation", s["dilation"]))
    )
    pads = named_pads(n, s["padding"], kernel, stride, dilation)
    if pads is None:
        n.refuse(
            f"padding={s['padding']!r} with a stride depends on the image size, which is open", "give input_shape="
        )
    return KernelWindows(w, n, n.spatial, kernel, stride, list(pads), dilation, False)


@exports("locally_connected_conv")
def locally_connected_conv(w, n):
    """y[n,k,o] = b[k,o] + Σ w[k,i,o] · column[n,i,o], group by group: a row times a matrix at every place."""
    s, weight, bias, groups = n.settings, n.array("w"), n.array("b"), n.settings["groups"]
    windows = columns(w, n, s["kernel_size"], s)
    inputs, extents = weight.shape[1], weight.shape[2:]
    places = math.prod(extents)
    cells = w.reshaped(windows.cells(n.x), 0, groups, inputs, places)
    rows = w("Unsqueeze", w("Transpose", cells, perm=[0, 1, 3, 2]), w.whole(3))
    weight = n.named("w", weight.reshape(groups, -1, inputs, places).transpose(0, 3, 2, 1))
    y = w("Squeeze", w("MatMul", rows, weight), w.whole(3))
    y = w.reshaped(w("Transpose", y, perm=[0, 1, 3, 2]), 0, n.output[1], *extents)
    if bias is None:
        return y
    return y + n.named("b", bias.reshape(*bias.shape, *[1] * (len(n.output) - 1 - bias.ndim)))


@exports("partial_conv")
def partial_conv(w, n):
    """The convolution of M x, times T C / m where m > 0, m the convolution of M with ones."""
    s, weight, bias, groups = n.settings, n.array("w"), n.array("b"), n.settings["groups"]
    known = w("Abs", w("Sign", n.term("mask")))
    x = w.where(known > 0.5, n.x, np.float32(0))
    masks = n.shapes[1][1]
    alike = masks == 1
    counting = np.ones((1 if alike else groups, 1 if alike else weight.shape[1], *weight.shape[2:]), np.float32)
    plain = {**s, "padding_mode": "zeros"}
    counted = n.part("known", n.call, [known], {"w": counting}, settings={**plain, "groups": 1 if alike else groups})
    m = EXPORTERS["conv"](w, counted)
    if not alike and groups > 1:
        m = w.picked(m, np.repeat(np.arange(groups), weight.shape[0] // groups), 1)
    full = float(math.prod(weight.shape[2:]) * (1 if alike else weight.shape[1]))
    sums = EXPORTERS["conv"](w, n.part("sums", n.call, [x], {"w": weight}, {"w": "w"}, plain))
    y = sums * (full / w("Max", m, np.float32(1)))
    if bias is not None:
        y = y + n.by_channel(bias, "b")
    return w.where(m > 0.5, y, np.float32(0))


# ── Pooling beside the grid ────────────────────────────────────────────────────────────────────────────────────────────


@exports("spatial_pyramid_pool")
def spatial_pyramid_pool(w, n):
    made = []
    for level in n.settings["levels"]:
        windows = adaptive_windows(w, n, level)
        made.append(w("Flatten", windows.finished(STRATEGIES[n.settings["strategy"]](w, n, windows, n.x))))
    return w("Concat", *made, axis=1)


@exports("k_max_pool")
def k_max_pool(w, n):
    """The k largest of each row, in their own order."""
    k = n.call.geometry
    if n.shapes[0][-1] is None and n.settings["layer"] not in (None, n.settings["layers"]):
        n.refuse("dynamic k depends on the image size, which is open", "give input_shape=")
    values, places = w("TopK", n.x, w.whole(k), axis=-1, outputs=2)
    n.indices, order = w("TopK", places, w.whole(k), axis=-1, largest=0, outputs=2)
    return w("GatherElements", values, order, axis=-1)


@exports("polyphase_pool")
def polyphase_pool(w, n):
    """The component of the largest norm: the first of them where several are."""
    stride, p, rank = n.call.geometry, n.settings["p"], len(n.spatial)
    axes = w.whole(*(CELLS + a for a in range(rank)))
    x = n.x
    for a, (H, s) in enumerate(zip(n.spatial, stride, strict=True)):  # cells beyond the last whole step take no part
        if H is None:
            whole = w("Mul", w("Div", w.extents(x, 2 + a, 3 + a), w.whole(s)), w.whole(s))
            x = w("Slice", x, w.whole(0), whole, w.whole(2 + a))
        elif H % s:
            x = w.sliced(x, 2 + a, 0, H // s * s)
    parts = [
        w("Slice", x, w.whole(*offset), w.whole(*[2**31 - 1] * rank), axes, w.whole(*stride))
        for offset in np.ndindex(*stride)
    ]
    parts = w("Concat", *(w.unsqueezed(part, 1) for part in parts), axis=1)  # (N, components, C, …)
    sizes = w("Abs", parts)
    over = range(2, 3 + rank)
    if math.isinf(p):
        norms = w.reduced("Max", sizes, over)
    else:
        largest = w.reduced("Max", sizes, range(1, 3 + rank), keepdims=True)
        norms = w.reduced("Sum", (sizes / w("Max", largest, np.float32(TINY))) ** float(p), over)
    chosen = w("ArgMax", norms, axis=1, keepdims=1)
    places = w.whole(*range(math.prod(stride)))
    taken = w.reshaped(w.cast(w("Equal", chosen, places)), 0, -1, *[1] * (rank + 1))
    return w.reduced("Sum", w.where(taken > 0.5, parts, np.float32(0)), (1,))


@exports("local_importance_pool")
def local_importance_pool(w, n):
    s = n.settings
    windows = kernel_windows(w, n, *(s[k] for k in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")))
    return weighted(w, windows, n.x, windows.cells(n.term("logit")))


@exports("detail_preserving_pool")
def detail_preserving_pool(w, n):
    s = n.settings
    windows = kernel_windows(w, n, *(s[k] for k in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")))
    cells, low_pass = windows.cells(n.x), n.array("w")
    if low_pass is None:
        m = windows.mean(n.x)
    else:
        # A convolution whose middle meets the middle of each window.
        pads = []
        for (low, high), e, k, d in zip(
            windows.every_pad, windows.reach, windows.kernel, windows.dilation, strict=True
        ):
            before = low - d * ((k - 1) // 2) + 1
            pads.append((before, high + low - e + 3 - before))
        weight = n.named("w", low_pass[:, None])
        m = w("Conv", w.padded(n.x, pads), weight, strides=list(windows.stride), group=n.shapes[0][1])
    away = cells - w.unsqueezed(m, CELLS)
    away = away if s["symmetric"] else w("Relu", away)
    r = away * away + s["eps"]
    mean = windows.over_cells("Sum", windows.only(r, np.float32(0)), keepdims=True) / windows.counted()
    rho = (r / mean) ** windows.against_cells(np.exp(n.array("lam")))
    shares = windows.only(rho + windows.against_cells(np.exp(n.array("alpha"))), np.float32(0))
    return windows.over_cells("Sum", shares * cells) / windows.over_cells("Sum", shares)


# ── Linear transforms ──────────────────────────────────────────────────────────────────────────────────────────────────


def blurred(w, n, x, image):
    """blur_pool of x, an image of the extents ``image``: a depthwise convolution with binomial coefficients."""
    size, mode, channels = n.settings["filter_size"], n.settings["padding_mode"], n.shapes[0][1]
    rank = len(image)
    stride = per_axis(n.path, "stride", n.settings["stride"], rank, minimum=1)
    low = (size - 1) // 2
    pads = [(low, size - 1 - low)] * rank
    row = np.array([math.comb(size - 1, k) for k in range(size)]) / 2 ** (size - 1)
    kernel = np.ones(())
    for _ in range(rank):
        kernel = np.multiply.outer(kernel, row)
    weight = np.broadcast_to(kernel, (channels, 1, *kernel.shape)).astype(np.float32)
    around = n.on(x, image)
    x = image_padded(w, around, x, pads, "constant" if mode == "zeros" else mode)
    return w("Conv", x, weight, strides=list(stride), group=channels)


@exports("blur_pool")
def blur_pool(w, n):
    return blurred(w, n, n.x, n.spatial)


@exports("max_blur_pool")
def max_blur_pool(w, n):
    windows = kernel_windows(w, n, n.settings["kernel_size"], 1, n.settings["padding"])
    image = [
        None if H is None else H + low + high - e + 1
        for H, (low, high), e in zip(n.spatial, windows.pads, windows.reach, strict=True)
    ]
    return blurred(w, n, windows.max(n.x), image)


@exports("wavelet_pool")
def wavelet_pool(w, n):
    """√2 times the mean of each pair along every axis; the last cell of an odd extent is a pair of its own."""
    x, rank = n.x, len(n.spatial)
    for _ in range(n.settings["levels"]):
        x = w("AveragePool", x, kernel_shape=[2] * rank, strides=[2] * rank, ceil_mode=1) * 2 ** (rank / 2)
    return x


@exports("spectral_pool")
def spectral_pool(w, n):
    """A product with one matrix for each axis: what the transforms make of unit vectors."""
    known(n, "spectra")
    norm = n.settings.get("norm", "ortho")
    matrices = [
        None if h == H else OPS["spectral_pool"](np.eye(H)[None], output_size=h, norm=norm)[0].astype(np.float32)
        for H, h in zip(n.spatial, n.output[2:], strict=True)
    ]
    return w.times(n.x, matrices) if any(m is not None for m in matrices) else w("Identity", n.x)


@exports("hartley_pool")
def hartley_pool(w, n):
    """As spectral_pool; where the cut is not the same on both sides, one matrix for all axes together."""
    known(n, "spectra")
    even = any(h % 2 == 0 and h != H for H, h in zip(n.spatial, n.output[2:], strict=True))
    if n.settings["nyquist"] == "average" or not even:
        return spectral_pool(w, n)
    cells, kept = math.prod(n.spatial), math.prod(n.output[2:])
    if cells * kept > MOST_DENSE_NUMBERS:
        n.refuse(f"its matrix of {cells} × {kept} numbers is too large", "use nyquist='average' or odd extents")
    units = np.eye(cells).reshape(1, cells, *n.spatial)
    matrix = OPS["hartley_pool"](units, output_size=n.output[2:], nyquist="crop").reshape(cells, kept)
    y = w("MatMul", w.reshaped(n.x, 0, 0, -1), matrix.astype(np.float32))
    return w.reshaped(y, 0, 0, *n.output[2:])


def known(n, what):
    """Refuse images of open size."""
    if None in n.spatial:
        n.refuse(f"{what} depend on the image size, which is open", "give input_shape=")


# ── Statistics of all cells ────────────────────────────────────────────────────────────────────────────────────────────


@exports("attention_pool")
def attention_pool(w, n):
    cells, u = w.reshaped(n.x, 0, 0, -1), n.array("u")
    t = w("Tanh", w("MatMul", n.named("v", n.array("v")), cells))
    if u is not None:
        t = t * w("Sigmoid", w("MatMul", n.named("u", u), cells))
    scores, mask = w("MatMul", n.named("w", n.array("w")[None]), t), n.term("mask")  # (N, 1, cells)
    if mask is None:
        return w.reduced("Sum", cells * w("Softmax", scores, axis=2), (2,))
    mask = w.reshaped(mask, 0, 1, -1)
    a = w.where(mask, w("Softmax", w.where(mask, scores, LEAST), axis=2), 0.0)
    return w.reduced("Sum", w.where(mask, cells, 0.0) * a, (2,))


@exports("strip_pool")
def strip_pool(w, n):
    z = None
    for name, axis in (("w_rows", 3), ("w_columns", 2)):
        means, weight = w.reduced("Mean", n.x, (axis,), keepdims=True), n.array(name)
        if weight is not None:
            taps = weight.shape[2]
            form = (*weight.shape[:2], taps, 1) if axis == 3 else (*weight.shape[:2], 1, taps)
            half = [taps // 2, 0] if axis == 3 else [0, taps // 2]
            means = w("Conv", means, n.named(name, weight.reshape(form)), pads=half * 2)
        z = means if z is None else z + means
    return n.x * w("Sigmoid", z) if n.settings["gate"] else z


@exports("covariance_pool")
def covariance_pool(w, n):
    C = n.shapes[0][1]
    cells = w.reshaped(n.x, 0, 0, -1)
    cells = cells - w.reduced("Mean", cells, (2,), keepdims=True)
    P = w("MatMul", cells, w("Transpose", cells, perm=[0, 2, 1])) / count_of(w, n, cells)
    eye = np.eye(C, dtype=np.float32)
    if n.settings["iterations"]:
        trace = w.reduced("Sum", P * eye, (1, 2), keepdims=True)
        Y, Z = P / w("Max", trace, np.float32(TINY)), eye
        for _ in range(n.settings["iterations"]):
            T = 0.5 * (3 * eye - (Y if Z is eye else w("MatMul", Z, Y)))
            Y, Z = w("MatMul", Y, T), T if Z is eye else w("MatMul", T, Z)
        P = Y * w("Sqrt", trace)
    above = np.flatnonzero(np.triu(np.ones((C, C))))
    return w.picked(w.reshaped(P, 0, C * C), above, 1)


def count_of(w, n, cells):
    """How many cells (N, C, cells) has, as a number or a term."""
    return float(math.prod(n.spatial)) if None not in n.spatial else w.cast(w.extents(cells, 2, 3))


def unit_length(w, x, axis):
    """x over its length along an axis; 0 where that is 0."""
    return x / w("Max", w.reduced("L2", x, (axis,), keepdims=True), np.float32(TINY))


@exports("bilinear_pool")
def bilinear_pool(w, n):
    s, z = n.settings, n.term("z")
    cells = w.reshaped(n.x, 0, 0, -1)
    others = cells if z is None else w.reshaped(z, 0, 0, -1)
    B = w("MatMul", cells, w("Transpose", others, perm=[0, 2, 1])) / count_of(w, n, cells)
    y = w("Flatten", B)
    if s["signed_sqrt"]:
        y = w("Sign", y) * w("Sqrt", w("Abs", y) + s["eps"])
    return unit_length(w, y, 1) if s["normalize"] else y


@exports("net_vlad")
def net_vlad(w, n):
    weight, centres, bias = n.array("w"), n.array("c"), n.array("b")
    cells = w.reshaped(n.x, 0, 0, -1)
    scores = w("MatMul", n.named("w", weight), cells)
    if bias is not None:
        scores = scores + n.named("b", bias[:, None])
    a = w("Softmax", scores, axis=1)  # (N, clusters, cells)
    sums = w("MatMul", a, w("Transpose", cells, perm=[0, 2, 1]))
    V = sums - w.reduced("Sum", a, (2,), keepdims=True) * n.named("c", centres)
    if not n.settings["normalize"]:
        return w("Flatten", V)
    return unit_length(w, w("Flatten", unit_length(w, V, 2)), 1)


# ── Losses ── of targets that are values of a graph: numbers ─────────────────────────────────────────────────────────────


def reduced_loss(w, n, losses, axes):
    """Their mean, sum, or themselves, as the setting says."""
    reduction = n.settings["reduction"]
    return losses if reduction == "none" else w.reduced(reduction.title(), losses, range(axes))


@exports("mean_squared_error")
def mean_squared_error(w, n):
    away = n.x - n.term("target")
    if n.settings["compat"] == "caffe":
        of_images = w.reduced("Sum", away * away, range(1, len(n.shapes[0]))) if len(n.shapes[0]) > 1 else away * away
        return w.reduced("Mean", of_images, (0,)) * 0.5
    return reduced_loss(w, n, away * away, len(n.shapes[0]))


@exports("binary_cross_entropy")
def binary_cross_entropy(w, n):
    target, weight, pos_weight = (n.term(name) for name in ("target", "weight", "pos_weight"))
    loss = w("Relu", n.x) - n.x * target + w("Log", 1 + w("Exp", -w("Abs", n.x)))
    if pos_weight is not None:  # (p − 1) times what is lost where the answer is yes
        loss = loss + (pos_weight - 1) * target * w("Softplus", -n.x)
    return reduced_loss(w, n, loss if weight is None else loss * weight, len(n.shapes[0]))


@exports("softmax_cross_entropy")
def softmax_cross_entropy(w, n):
    """By PyTorch's mean, or Keras's, which counts targets whatever their weights."""
    s, target = n.settings, n.term("target")
    weighted = n.term("weight") is not None and len(n.shapes[1]) < len(n.shapes[0])
    if s["compat"] is None or s["reduction"] != "mean" or not weighted:
        return cross_entropy(w, n, s)
    counted = w.cast(w("Not", w("Equal", target, np.array(s["ignore_index"], np.int64))))
    counted = w.reduced("Sum", counted, range(len(n.shapes[1])))
    return cross_entropy(w, n, {**s, "reduction": "sum"}) / w("Max", counted, 1.0)


def cross_entropy(w, n, s):
    """A node for class numbers, unless they are smoothed; the sum for probabilities."""
    K = n.shapes[0][1]
    smoothing, target, weight = s["label_smoothing"], n.term("target"), n.term("weight")
    numbers = len(n.shapes[1]) < len(n.shapes[0])
    if numbers and not smoothing:
        return w(
            "SoftmaxCrossEntropyLoss",
            n.x,
            target,
            weight,
            ignore_index=s["ignore_index"],
            reduction=s["reduction"],
        )
    if numbers:
        classes, ignored = w("OneHot", target, w.whole(K), np.array([0, 1], np.float32), axis=1), s["ignore_index"]
        valid = w.cast(w("Not", w("Equal", target, np.array(ignored, np.int64))))
    else:
        classes = target
    q = classes * (1 - smoothing) + smoothing / K if smoothing else classes
    if weight is not None:
        weight = w.reshaped(weight, -1, *[1] * len(n.spatial))
        q = q * weight
    losses = -w.reduced("Sum", q * w("LogSoftmax", n.x, axis=1), (1,))
    cells = range(len(n.shapes[0]) - 1)
    if numbers and s["reduction"] == "sum":
        return w.reduced("Sum", losses * valid, cells)
    if not numbers or s["reduction"] != "mean":
        return reduced_loss(w, n, losses * valid if numbers else losses, len(cells))
    counted = valid if weight is None else valid * w.reduced("Sum", classes * weight, (1,))
    return w.reduced("Sum", losses * valid, cells) / w.reduced("Sum", counted, cells)


@exports("nll_loss")
def nll_loss(w, n):
    s, weight = n.settings, n.term("weight")
    return w(
        "NegativeLogLikelihoodLoss",
        n.x,
        n.term("target"),
        weight,
        ignore_index=s["ignore_index"],
        reduction=s["reduction"],
    )


# ── What indices point at ──────────────────────────────────────────────────────────────────────────────────────────────


@exports("max_unpool")
def max_unpool(w, n):
    """Values scattered over zeros, plane by plane; of several with one index the last one stays, or they add up."""
    s, channels = n.settings, n.shapes[0][1]
    add = s["duplicates"] == "add"
    if add:
        n.needs_opset(16, "ScatterElements that adds")
    extents = n.output[2:]
    extents = unpooled_extents(w, n) if None in extents else [w.constant(w.whole(H)) for H in extents]
    count = w("Concat", w.extents(n.x, 0, 1), w.whole(channels), *extents, axis=0)
    form, axis = (0, 0, -1), 2
    if s["compat"] == "onnx":  # indices count through all of y
        form, axis = (-1,), 0
    zeros = w.reshaped(w("ConstantOfShape", count, value=np.zeros(1, np.float32)), *form)
    parts = (w.reshaped(part, *form) for part in (n.term("indices"), n.x))
    y = w("ScatterElements", zeros, *parts, axis=axis, reduction="add" if add else None)
    return w.reshaped(y, -1, channels, *extents)


def unpooled_extents(w, n):
    """Extents of y where those of x are open: (H − 1) s − lo − hi + k per axis."""
    s, rank = n.settings, len(n.spatial)
    kernel = per_axis(n.path, "kernel_size", s["kernel_size"], rank)
    stride = kernel if s["stride"] is None else per_axis(n.path, "stride", s["stride"], rank)
    pads = named_pads(n, s["padding"], kernel, stride, (1,) * rank)
    if pads is None:
        n.refuse(f"padding={s['padding']!r} depends on the image size, which is open", "give input_shape=")
    made = []
    for a, (k, step, (low, high)) in enumerate(zip(kernel, stride, pads, strict=True)):
        scaled = w("Mul", w.extents(n.x, 2 + a, 3 + a), w.whole(step))
        made.append(w("Add", scaled, w.whole(k - step - low - high)))
    return made


ONNX_GRID_MODES = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}  # until version 20
GRIDS_OF_ANY_RANK = 20


@exports("grid_sample")
def grid_sample(w, n):
    """One node; of lines it is made as of images of one row."""
    n.needs_opset(16, "GridSample")
    s, rank = n.settings, len(n.spatial)
    if rank == 3:
        n.needs_opset(GRIDS_OF_ANY_RANK, "GridSample of volumes")
    mode = s["mode"] if w.opset >= GRIDS_OF_ANY_RANK else ONNX_GRID_MODES[s["mode"]]
    x, grid = n.x, n.term("grid")
    if rank == 1:
        x, grid = w.unsqueezed(x, 2), w.unsqueezed(w("Concat", grid, grid * 0.0, axis=2), 1)
    y = w("GridSample", x, grid, mode=mode, padding_mode=s["padding_mode"], align_corners=int(s["align_corners"]))
    return w("Squeeze", y, w.whole(2)) if rank == 1 else y


@exports("roi_align")
def roi_align(w, n):
    s = n.settings
    n.needs_opset(16, "RoiAlign with aligned boxes")
    if s["mode"] == "max" and s["compat"] is None:
        n.refuse("runtimes take the maximum of weighted cells, not of samples", "use mode='avg', or compat='onnx'")
    rows, columns = per_axis(n.path, "output_size", s["output_size"], 2, minimum=1)
    return w(
        "RoiAlign",
        n.x,
        n.term("rois"),
        n.term("batch_indices"),
        output_height=rows,
        output_width=columns,
        sampling_ratio=s["sampling_ratio"],
        spatial_scale=s["spatial_scale"],
        mode=s["mode"],
        coordinate_transformation_mode="half_pixel" if s["aligned"] else "output_half_pixel",
    )


REFUSED["position_sensitive_roi_pool"] = "ONNX has nothing that reads another channel in every bin of a box"
