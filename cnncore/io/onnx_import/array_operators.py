"""ONNX operators on arrays as nodes of a graph: comparisons, logic, choices; what finds, picks, puts and sums along axes.

One short function each, as in operators.py.
"""

import numpy as np

from ...operators.arrays.einsum import equation, labelled, merged
from .operators import (
    KEEPS_TYPE_OF,
    OPERATORS,
    common,
    gathered,
    image,
    imports,
    is_constant,
    ranks,
    reduced,
    replaced,
    single,
    widened,
)
from .shapes import Extent

gather_constant = OPERATORS["Gather"]


# ── Comparisons and logic ──────────────────────────────────────────────────────────────────────────────────────────────

COMPARISONS = {
    "Equal": "equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
}
LOGIC = {"And": "logical_and", "Or": "logical_or", "Xor": "logical_xor"}


def extents_of(n, *lives):
    """The extents that values have when they broadcast."""
    extents = ()
    for live in lives:
        extents = common(extents, live.extents)
    return extents


@imports(*COMPARISONS)
def comparison(n):
    rank = ranks(n)
    x, z = widened(n, 0, rank), widened(n, 1, rank)
    return n.add(COMPARISONS[n.node.op_type], x, z, extents=extents_of(n, x, z))


@imports(*LOGIC)
def logic(n):
    rank = ranks(n)
    x, z = (widened(n, place, rank, "mask") for place in range(2))
    return n.add(LOGIC[n.node.op_type], x, z, extents=extents_of(n, x, z))


@imports("Not")
def negation(n):
    x = n.live(0, "mask")
    return n.add("logical_not", x, extents=x.extents)


@imports("IsNaN")
def is_nan(n):
    x = n.live()
    return n.add("is_nan", x, extents=x.extents)


@imports("IsInf")
def is_inf(n):
    x = n.live()
    sides = {"negative": n.attribute("detect_negative", 1), "positive": n.attribute("detect_positive", 1)}
    return n.add("is_inf", x, extents=x.extents, **{side: False for side, counts in sides.items() if not counts})


@imports("Where")
def where(n):
    rank = ranks(n)
    condition, x, z = widened(n, 0, rank, "mask"), widened(n, 1, rank), widened(n, 2, rank)
    return n.add("where", condition, x, z, extents=extents_of(n, condition, x, z))


KEEPS_TYPE_OF["Where"] = 1


# ── Where the largest are, and up to each value ────────────────────────────────────────────────────────────────────────


@imports("ArgMax", "ArgMin")
def place(n):
    x, axis, keepdims = n.live(), n.attribute("axis", 0), bool(n.attribute("keepdims", 1))
    axis %= x.rank
    return n.add(
        "arg_max" if n.node.op_type == "ArgMax" else "arg_min",
        x,
        axis=axis,
        keepdims=keepdims,
        extents=reduced(x.extents, (axis,), keepdims),
        **({"last": True} if n.attribute("select_last_index", 0) else {}),
    )


@imports("TopK")
def top_k(n):
    x, axis = n.live(), n.attribute("axis", -1)
    axis %= x.rank
    if n.opset < 10:
        k = n.attribute("k", 1)
    else:
        (k,) = n.sizes(1, "k")
    if isinstance(k, Extent) and k == x.extents[axis]:
        k = None
    if isinstance(k, Extent):
        n.refuse(f"k={k} depends on the size of the image; give input_shape=")
    if k is not None and not k >= 1:
        n.refuse(f"k={k}; expected 1 at least")
    settings = {} if n.attribute("largest", 1) else {"largest": False}
    extents = x.extents if k is None else replaced(x, axis, k)
    if not n.needs(1):
        return n.add("top_k", x, k=k, axis=axis, extents=extents, **settings)
    return n.add("top_k", x, k=k, axis=axis, return_indices=True, extents=extents, **settings)


@imports("CumSum", "CumProd")
def cumulative(n):
    x, axis = n.live(), n.sizes(1, "its axis")
    settings = {name: True for name in ("exclusive", "reverse") if n.attribute(name, 0)}
    op = "cumulative_sum" if n.node.op_type == "CumSum" else "cumulative_product"
    return n.add(op, x, axis=axis[0] % x.rank, extents=x.extents, **settings)


# ── Products ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@imports("Einsum")
def einsum(n):
    text = equation(str(n.node), "equation", n.attribute("equation", ""))
    if all(map(is_constant, n.inputs)):
        return np.asarray(np.einsum(text, *n.inputs), n.inputs[0].dtype)
    values = [n.live(place) for place in range(len(n.inputs))]
    labels = labelled(str(n.node), text, [v.rank for v in values])

    def differs(label, pair):
        if not any(isinstance(e, Extent) for e in pair):
            n.refuse(f"equation {text!r}: axis {label!r} has the extents {pair[0]} and {pair[1]}")

    extents = merged(labels, [v.extents for v in values], differs)
    return n.add("einsum", *values, equation=text, extents=tuple(extents[label] for label in labels.output))


# ── Triangles, classes ─────────────────────────────────────────────────────────────────────────────────────────────────


@imports("Trilu")
def triangle(n):
    upper, x = bool(n.attribute("upper", 1)), n.inputs[0]
    diagonal = int(n.array(1, "k").reshape(())) if n.given(1) else 0
    if is_constant(x):
        return (np.triu if upper else np.tril)(x, diagonal)
    x = n.live()
    return n.add("triangle", x, diagonal=diagonal, upper=upper, extents=x.extents)


@imports("OneHot")
def one_hot(n):
    depth, values = int(n.array(1, "its depth").reshape(-1)[0]), n.array(2, "values")
    x = n.live(0, "index")
    axis = n.attribute("axis", -1) % (x.rank + 1)
    off, on = (float(v) for v in values.reshape(-1))
    made = n.add(
        "one_hot", x, depth=depth, axis=axis, on=on, off=off, extents=(*x.extents[:axis], depth, *x.extents[axis:])
    )
    return n.holding(made, values)


# ── Taken and put ──────────────────────────────────────────────────────────────────────────────────────────────────────


@imports("GatherElements")
def gather_elements(n):
    axis = n.attribute("axis", 0)
    x, indices = n.inputs
    if is_constant(x) and is_constant(indices):
        return np.take_along_axis(x, indices.astype(np.int64), axis)
    x, indices = n.live(0), n.live(1, "index")
    return n.add("gather_elements", x, indices, axis=axis % x.rank, extents=indices.extents)


@imports("GatherND")
def gather_nd(n):
    batch = n.attribute("batch_dims", 0)
    x, indices = n.live(0), n.live(1, "index")
    extents = (*indices.extents[:-1], *x.extents[batch + indices.extents[-1] :])
    return n.add("gather_nd", x, indices, extents=extents, **({"batch_dims": batch} if batch else {}))


PUT = {"none": "none", "add": "add", "mul": "multiply", "max": "maximum", "min": "minimum"}


@imports("ScatterElements", "Scatter")
def scatter_elements(n):
    reduction = PUT[n.choice("reduction", "none", tuple(PUT))]
    x, indices, updates = n.live(0), n.live(1, "index"), n.live(2)
    axis = n.attribute("axis", 0) % x.rank
    return n.add("scatter_elements", x, indices, updates, axis=axis, extents=x.extents, **put_as(reduction))


@imports("ScatterND")
def scatter_nd(n):
    reduction = PUT[n.choice("reduction", "none", tuple(PUT))]
    x, indices, updates = n.live(0), n.live(1, "index"), n.live(2)
    return n.add("scatter_nd", x, indices, updates, extents=x.extents, **put_as(reduction))


def put_as(reduction):
    return {} if reduction == "none" else {"reduction": reduction}


@imports("Gather")
def gather(n):
    """With indices that the graph computes: parts of x, whose axis comes first for that, at places of one axis each."""
    if is_constant(n.inputs[1]):
        return gather_constant(n)
    indices = n.live(1, "index")
    x = n.live()
    return gathered(n, x, n.attribute("axis", 0) % x.rank, indices)


KEEPS_TYPE_OF |= dict.fromkeys(
    ("TopK", "CumSum", "CumProd", "Trilu", "GatherElements", "GatherND", "ScatterElements", "Scatter", "ScatterND"), 0
)


@imports("Mod")
def mod(n):
    """The remainder: of real numbers with the dividend's sign (fmod=1), of integers with the divisor's unless fmod=1."""
    rank = ranks(n)
    x, z = widened(n, 0, rank), widened(n, 1, rank)
    return n.add("fmod" if n.attribute("fmod", 0) else "remainder", x, z, extents=extents_of(n, x, z))


KEEPS_TYPE_OF["Mod"] = 0


# ── Boxes, positions ───────────────────────────────────────────────────────────────────────────────────────────────────


@imports("NonMaxSuppression")
def non_max_suppression(n):
    boxes, scores = n.live(0), n.live(1)
    numbers = [n.array(place, what) for place, what in ((2, "its number of boxes"), (3, "overlap"), (4, "score"))]
    most, overlap, score = (None if v is None else v.reshape(-1)[0].item() for v in numbers)
    settings = {} if score is None else {"score_threshold": single(score)}
    if n.attribute("center_point_box", 0):
        settings["box_format"] = "center"
    return n.add(
        "non_max_suppression",
        boxes,
        scores,
        max_output_boxes=max(most or 0, 0),
        iou_threshold=single(overlap or 0.0),
        **settings,
    )


GRID_MODES = {"linear": "linear", "bilinear": "linear", "nearest": "nearest", "cubic": "cubic", "bicubic": "cubic"}


@imports("GridSample")
def grid_sample(n):
    x, grid = image(n)[0], n.live(1)
    mode = GRID_MODES[n.choice("mode", "linear" if n.opset >= 20 else "bilinear", tuple(GRID_MODES))]
    padding = n.choice("padding_mode", "zeros", ("zeros", "border", "reflection"))
    return n.add(
        "grid_sample",
        x,
        grid,
        mode=mode,
        padding_mode=padding,
        align_corners=bool(n.attribute("align_corners", 0)),
        extents=(*x.extents[:2], *grid.extents[1:-1]),
    )


@imports("AffineGrid")
def affine_grid(n):
    """Where the centres of the pixels of an image lie after an affine map, between −1 and 1."""
    theta, size = n.live(0), n.sizes(1, "its size")[2:]
    if any(isinstance(e, Extent) for e in size):
        n.refuse(f"its size {size} depends on the image; give input_shape=")
    lines = [
        np.linspace(-1, 1, e) * (e > 1) if n.attribute("align_corners", 0) else (2 * np.arange(e) + 1) / e - 1
        for e in size
    ]
    centres = np.stack([*np.meshgrid(*lines, indexing="ij")[::-1], np.ones(size)], -1).reshape(-1, len(size) + 1)
    turned = n.add(
        "transpose", theta, step="turned", axes=(0, 2, 1), extents=tuple(theta.extents[a] for a in (0, 2, 1))
    )
    flat = (theta.extents[0], len(centres), len(size))
    at = n.add("matmul", n.constant(np.float32(centres), "centres"), turned, step="positions", extents=flat)
    return n.add("reshape", at, shape=(0, *size, len(size)), extents=(theta.extents[0], *size, len(size)))


# ── Losses ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def loss(n, op):
    """A loss of class numbers, perhaps with a weight for each class."""
    x, target = n.live(0), n.live(1, "index")
    weight = n.live(2) if n.given(2) else None
    reduction = n.choice("reduction", "mean", ("none", "mean", "sum"))
    ignored = n.node.attributes.get("ignore_index")
    settings = {} if ignored is None else {"ignore_index": ignored}
    return n.add(
        op, x, target, weight, reduction=reduction, extents=target.extents if reduction == "none" else (), **settings
    )


@imports("NegativeLogLikelihoodLoss")
def nll_loss(n):
    return loss(n, "nll_loss")


@imports("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(n):
    made = loss(n, "softmax_cross_entropy")
    if not n.needs(1):
        return made
    return made, n.add("log_softmax", n.live(0), step="log_probabilities", axis=1, extents=n.live(0).extents)
