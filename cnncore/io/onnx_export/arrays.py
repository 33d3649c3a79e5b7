"""Operators on arrays as such in ONNX: each is a node of nearly the same name."""

import numpy as np

from ...checks import per_axis
from .nodes import exports

__all__ = ["NODES", "OF_EACH_VALUE", "REDUCTIONS"]

# Operators that are a node without attributes.
NODES = {
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "maximum": "Max",
    "minimum": "Min",
    "power": "Pow",
    "negative": "Neg",
    "reciprocal": "Reciprocal",
    "sqrt": "Sqrt",
    "log": "Log",
    "erf": "Erf",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "asin": "Asin",
    "acos": "Acos",
    "atan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "matmul": "MatMul",
}

REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_mean": "ReduceMean",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_l1": "ReduceL1",
    "reduce_l2": "ReduceL2",
    "reduce_sum_square": "ReduceSumSquare",
    "reduce_log_sum": "ReduceLogSum",
    "reduce_log_sum_exp": "ReduceLogSumExp",
}
# What reductions along no axis make of each value; the others leave it as it is.
OF_EACH_VALUE = {"ReduceL1": "Abs", "ReduceL2": "Abs", "ReduceSumSquare": "square", "ReduceLogSum": "Log"}
AXES_ARE_AN_INPUT = 18  # of all reductions; of ReduceSum in every version that is written


@exports("einsum")
def einsum(w, n):
    return w("Einsum", *n.terms, equation=n.settings["equation"])


@exports("fmod")
def fmod(w, n):
    return w("Mod", *n.terms, fmod=1)


@exports("remainder")
def remainder(w, n):
    """ONNX's Mod of real numbers has the dividend's sign: the divisor is added where the signs differ."""
    x, z = n.terms
    rest = w("Mod", x, z, fmod=1)
    return w.where(w("Less", rest * z, 0.0), rest + z, rest)


@exports(*NODES)
def node(w, n):
    return w(NODES[n.op.name], *n.terms)


@exports(*REDUCTIONS)
def reduction(w, n):
    axes, name = n.call.geometry, REDUCTIONS[n.op.name]
    keepdims = int(n.settings["keepdims"])
    if not axes:
        each = OF_EACH_VALUE.get(name, "Identity")
        return n.x * n.x if each == "square" else w(each, n.x)
    if w.opset >= AXES_ARE_AN_INPUT or name == "ReduceSum":
        return w(name, n.x, w.whole(*axes), keepdims=keepdims)
    return w(name, n.x, axes=list(axes), keepdims=keepdims)


@exports("reshape")
def reshape(w, n):
    if n.term("like") is not None:
        return w("Reshape", n.x, w("Shape", n.term("like")))
    entries, zero = n.settings["shape"], n.settings["allow_zero"]
    if not any(isinstance(entry, tuple) for entry in entries):
        return w("Reshape", n.x, w.whole(*entries), allowzero=1 if zero and 0 in entries else None)
    shape = w("Shape", n.x)
    parts = []
    for place, entry in enumerate(entries):
        if entry == 0 and not zero:
            entry = ("axis", place)
        if not isinstance(entry, tuple):
            parts.append(w.whole(entry))
            continue
        extents = [w("Gather", shape, w.whole(axis), axis=0) for axis in entry[1:]]
        product = extents[0]
        for extent in extents[1:]:
            product = w("Mul", product, extent)
        parts.append(product)
    return w("Reshape", n.x, w("Concat", *parts, axis=0))


@exports("transpose")
def transpose(w, n):
    return w("Transpose", n.x, perm=list(n.call.geometry[0]))


@exports("squeeze")
def squeeze(w, n):
    return w("Squeeze", n.x, w.whole(*n.call.geometry)) if n.call.geometry else w("Identity", n.x)


@exports("unsqueeze")
def unsqueeze(w, n):
    return w("Unsqueeze", n.x, w.whole(*n.call.geometry)) if n.call.geometry else w("Identity", n.x)


@exports("expand")
def expand(w, n):
    if n.term("like") is not None:
        return w("Expand", n.x, w("Shape", n.term("like")))
    return w("Expand", n.x, w.whole(*n.settings["shape"]))


@exports("tile")
def tile(w, n):
    return w("Tile", n.x, w.whole(*n.settings["repeats"]))


@exports("gather")
def gather(w, n):
    return w("Gather", n.x, np.array(n.settings["indices"], np.int64), axis=n.settings["axis"])


@exports("arange_like")
def arange_like(w, n):
    count = w("Gather", w("Shape", n.x), w.whole(n.call.geometry), axis=0)
    zero, one = np.array(0, np.int64), np.array(1, np.int64)
    places = w.cast(w("Range", zero, w("Squeeze", count, w.whole(0)), one))
    y = places if n.settings["step"] == 1 else places * n.settings["step"]
    return y + n.settings["start"] if n.settings["start"] else y


@exports("constant")
def constant(w, n):
    return n.named("value", n.array("value"))


@exports("resize")
def resize(w, n):
    s, rank = n.settings, len(n.spatial)
    if s["coordinates"] == "half_pixel_symmetric":
        n.needs_opset(19, "half_pixel_symmetric")
    if s["antialias"]:
        n.needs_opset(18, "antialias")
    x, flat, sizes, scales = n.x, s["mode"] == "cubic" and rank == 1, None, None
    if s["mode"] == "cubic" and rank == 3:
        n.refuse("ONNX Runtime interpolates cubically along one or two axes only", "use mode='linear'")
    if s["scale"] is None:
        ends = (w.whole(2), w.whole(2 + rank), w.whole(0))
        own = w("Slice", w("Shape", n.x), w.whole(0), w.whole(2), w.whole(0))
        like = n.term("like")
        if like is not None:
            size = w("Slice", w("Shape", like), *ends)
        else:
            size = w.whole(*per_axis(n.path, "size", s["size"], rank, minimum=1))
        sizes = w("Concat", own, w.whole(1), size, axis=0) if flat else w("Concat", own, size, axis=0)
    else:
        scale = s["scale"] if isinstance(s["scale"], tuple) else (s["scale"],) * rank
        scales = np.array([1.0, 1.0, *((1.0,) if flat else ()), *scale], np.float32)
    if flat:  # a runtime has it along two axes
        x = w("Unsqueeze", x, w.whole(2))
    cubic, region = s["mode"] == "cubic", None
    if s["region"] is not None:
        pairs = np.array([(0, 1), (0, 1), *([(0, 1)] if flat else []), *s["region"]], np.float32)
        region = pairs.T.reshape(-1)
    y = w(
        "Resize",
        x,
        region,
        scales,
        sizes,
        mode=s["mode"],
        coordinate_transformation_mode=s["coordinates"],
        nearest_mode=s["rounding"] if s["mode"] == "nearest" else None,
        cubic_coeff_a=float(s["cubic_coefficient"]) if cubic else None,
        exclude_outside=1 if s["exclude_outside"] and s["mode"] != "nearest" else None,
        antialias=1 if s["antialias"] else None,
    )
    return w("Squeeze", y, w.whole(2)) if flat else y


@exports("quantize", "fake_quantize")
def quantize(w, n):
    """As its formula stands: QuantizeLinear knows the ends of int8 and uint8 alone."""
    s, z, name = n.term("scale"), n.term("zero_point"), n.op.name
    q = w("Round", n.x / s)
    low, high = (np.float32(n.settings[end]) for end in ("low", "high"))
    q = w("Clip", q if z is None else q + z, low, high)
    if name == "quantize":
        return q
    return (q if z is None else q - z) * s
