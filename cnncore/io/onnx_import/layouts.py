"""Axes in another order: how the transposes of ONNX files go.

Files of TensorFlow and Keras hold images channels last and transpose them before and after every convolution. A net needs none
of that: a Transpose adds no node here, its result is the same value of the graph with the order in which the file has its axes.
Two that cancel leave nothing; operators that treat all axes alike, and those that name an axis, work on the value as it is,
with their numbers and axes brought into its order. Only what needs the axes of the file gets a transpose.
"""

from dataclasses import replace

import numpy as np

from ...errors import ModelFileError

__all__ = ["as_in_file", "channels_last", "composed", "in_graph", "reordered", "reorders"]

# Operators whose results do not depend on the order of axes.
ELEMENTWISE = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "Elu",
        "Celu",
        "Selu",
        "ThresholdedRelu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Tanh",
        "Mish",
    }
    | {
        "Softplus",
        "Softsign",
        "Exp",
        "Abs",
        "Sign",
        "Swish",
        "Gelu",
        "Shrink",
        "Clip",
        "PRelu",
        "Cast",
        "Identity",
        "Neg",
    }
    | {
        "Dropout",
        "Reciprocal",
        "Sqrt",
        "Log",
        "Erf",
        "Floor",
        "Ceil",
        "Round",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Mod",
    }
    | {
        "Max",
        "Min",
        "Sum",
        "Mean",
        "Equal",
        "Less",
        "LessOrEqual",
        "Greater",
        "GreaterOrEqual",
        "And",
        "Or",
        "Xor",
        "Not",
    }
    | {"Where", "IsNaN", "IsInf", "com.microsoft.QLinearAdd", "com.microsoft.QLinearMul"}
    | {"com.microsoft.QLinearSigmoid", "com.microsoft.QLinearLeakyRelu"}
)
# Those of one image and numbers that are no arrays of its axes.
OF_ONE = frozenset(("Clip", "Cast", "Dropout", "com.microsoft.QLinearSigmoid", "com.microsoft.QLinearLeakyRelu"))
QUANTIZING = frozenset(("QuantizeLinear", "DequantizeLinear"))  # with one scale for all
# Operators that name axes, which their functions bring into the order of the graph's value (Imported.axis).
NAMING_AXES = frozenset(
    {"Concat", "Softmax", "LogSoftmax", "Pad", "Slice", "Split", "Squeeze", "Resize", "Upsample"}
    | {
        f"Reduce{name}"
        for name in ("Mean", "Max", "Min", "Sum", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")
    }
)


def composed(live, perm):
    """A value transposed: with another order of its axes, which may be none."""
    order = tuple(range(live.rank)) if live.order is None else live.order
    order = tuple(order[axis] for axis in perm)
    extents = tuple(live.extents[axis] for axis in perm)
    return replace(live, extents=extents, order=None if order == tuple(range(live.rank)) else order)


def in_graph(live):
    """A value with the axes that the graph has, without the order of the file."""
    if live.order is None:
        return live
    extents = [None] * live.rank
    for axis, extent in zip(live.order, live.extents, strict=True):
        extents[axis] = extent
    return replace(live, extents=tuple(extents), order=None)


def as_in_file(live, order, gone=()):
    """A result of operators on values in the order of the graph as the file has it: without the axes of the file in ``gone``."""
    kept = [order[axis] for axis in range(len(order)) if axis not in gone] if live.rank < len(order) else list(order)
    if len(kept) != live.rank:
        raise ModelFileError(f"a result of {live.rank} axes of values with the axes {order}, without {sorted(gone)}")
    ranks = sorted(kept)
    order = tuple(ranks.index(axis) for axis in kept)
    extents = tuple(live.extents[axis] for axis in order)
    return replace(live, extents=extents, order=None if order == tuple(range(live.rank)) else order)


def reordered(array, order):
    """An array that broadcasts to a value in the order of the file, as one that does in that of the graph."""
    wide = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
    return np.ascontiguousarray(np.transpose(wide, np.argsort(order)))


def is_live(value):
    return hasattr(value, "order")


def reorders(n):
    """Give a node the values of the graph as they are, where it does not depend on the order of their axes; that order, or None.

    All values have to be in one order, or have no axes; numbers of the file that broadcast to them are brought into it.
    """
    kind, values = n.node.op_type, [v for v in n.inputs if is_live(v)]
    orders = {v.order for v in values if v.rank}
    if len(orders) != 1 or orders == {None} or kind not in ELEMENTWISE | NAMING_AXES | QUANTIZING:
        return None
    (order,) = orders
    others = [v for v in n.inputs[1:] if isinstance(v, np.ndarray)]
    if kind in QUANTIZING and any(v.size > 1 for v in others):
        return None
    if kind in ELEMENTWISE and any(v.dtype == object and v.ndim for v in others):  # sizes that are used as numbers
        return None
    if kind in ("Softmax", "LogSoftmax") and n.opset < 13:
        return None
    given, takes_arrays = list(n.inputs), kind == "Concat" or (kind in ELEMENTWISE and kind not in OF_ONE)
    for place, value in enumerate(given):
        if is_live(value):
            n.inputs[place] = in_graph(value)
        elif isinstance(value, np.ndarray) and takes_arrays and (value.size > 1 or kind == "Concat"):
            if value.ndim > len(order):
                n.inputs[:] = given
                return None
            n.inputs[place] = n.importer.reordered(value, order)
    return order


# ── The layout of inputs ───────────────────────────────────────────────────────────────────────────────────────────────

LAST, FIRST = "last", "first"
# Operators whose image is channels first, always.
OF_IMAGES = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "ConvInteger",
        "QLinearConv",
        "DeformConv",
        "MaxPool",
        "AveragePool",
        "LpPool",
        "MaxUnpool",
    }
    | {"GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN"}
    | {"DepthToSpace", "SpaceToDepth", "PRelu", "RoiAlign", "GridSample"}
)
MOST_STEPS = 64  # of nodes that are followed


def channels_last(name, rank, readers, shape, arrays):
    """Whether an input (N, …) of the file holds its channels in the last axis, as what the graph does with it shows.

    It is followed through operators that treat all axes alike, to a Transpose that brings the last axis to the front of the
    others (then it does), to an operator on images (then not), or to a Pad that leaves the first and last axis alone (then it
    does, unless the images that it makes are channels first after all).
    """
    if not 3 <= rank <= 5:
        return False
    first = (0, rank - 1, *range(1, rank - 1))
    waiting, seen, found = [name], set(), set()
    while waiting and len(seen) < MOST_STEPS:
        for node in readers.get(waiting.pop(), ()):
            if id(node) in seen:
                continue
            seen.add(id(node))
            kind = node.op_type
            if kind == "Transpose":
                if node.attributes.get("perm") in (first, list(first)):  # a damaged file may have anything there
                    found.add(LAST)
            elif kind in OF_IMAGES:
                found.add(FIRST)
            elif kind == "Pad" and padded_last(node, rank, arrays):
                found.add("padded")
                waiting += node.outputs
            elif kind in ELEMENTWISE or kind in QUANTIZING or kind in ("Pad", "Resize", "Slice"):
                waiting += node.outputs
    second, last = isinstance(shape[1], int), isinstance(shape[-1], int)
    if FIRST in found or (second and not last):  # channels are known: of an open extent there are no weights
        return False
    return bool(found) or (last and not second)


def padded_last(node, rank, arrays):
    """Whether a Pad adds to the axes between the first and the last alone, and to the second."""
    pads = node.attributes.get("pads")
    if pads is None and len(node.inputs) > 1 and len(node.inputs) < 4:
        pads = arrays.get(node.inputs[1])
        pads = None if pads is None else pads.ravel().tolist()
    if not isinstance(pads, list | tuple) or len(pads) != 2 * rank:
        return False
    around = [pads[axis] or pads[axis + rank] for axis in range(rank)]
    return bool(around[1]) and not around[0] and not around[-1]
