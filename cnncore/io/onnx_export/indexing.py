"""Operators that find, take, put and sum along axes, in ONNX: each is a node of nearly the same name."""

import numpy as np

from ...operators.arrays.implementation import MOST_AXES
from .nodes import exports

__all__ = []

PLACES = {"arg_max": "ArgMax", "arg_min": "ArgMin"}
ONNX_REDUCTIONS = {"none": None, "add": "add", "multiply": "mul", "maximum": "max", "minimum": "min"}
EXTREMES_ARE_REDUCTIONS = 18  # max and min of ScatterElements and ScatterND; add and mul since 16


@exports(*PLACES)
def place(w, n):
    s = n.settings
    return w(
        PLACES[n.op.name],
        n.x,
        axis=n.call.geometry,
        keepdims=int(s["keepdims"]),
        select_last_index=1 if s["last"] else None,
    )


@exports("top_k")
def top_k(w, n):
    s = n.settings
    axis = n.call.geometry
    count = w.extents(n.x, axis, axis + 1) if s["k"] is None else w.whole(s["k"])
    y, n.indices = w("TopK", n.x, count, outputs=2, axis=n.call.geometry, largest=int(s["largest"]))
    return y


@exports("cumulative_sum")
def cumulative_sum(w, n):
    s = n.settings
    axis = np.array(n.call.geometry, np.int64)
    return w("CumSum", n.x, axis, exclusive=int(s["exclusive"]), reverse=int(s["reverse"]))


@exports("cumulative_product")
def cumulative_product(w, n):
    """CumProd is there since version 26 only: the products of x where its number along the axis counts, of 1 elsewhere."""
    s, axis, rank, x = n.settings, n.call.geometry, len(n.shapes[0]), n.x
    extent = w("Squeeze", w.extents(x, axis, axis + 1))
    if rank == MOST_AXES:  # one axis more is needed than arrays have: two others become one
        x = w.reshaped(x, -1, w.extents(x, 2)) if axis > 1 else w.reshaped(x, w.extents(x, 0, rank - 2), -1)
        rank, axis = rank - 1, axis - (axis > 1)
    numbers = w("Range", np.array(0, np.int64), extent, np.array(1, np.int64))
    after = (1,) * (rank - 1 - axis)
    of_y, of_x = w.reshaped(numbers, -1, 1, *after), w.reshaped(numbers, 1, -1, *after)
    if s["reverse"]:
        of_y, of_x = of_x, of_y
    counts = of_x < of_y if s["exclusive"] else of_x <= of_y
    y = w.reduced("Prod", w.where(counts, w.unsqueezed(x, axis), 1.0), [axis + 1])
    return y if x is n.x else w.reshaped(y, w.extents(n.x))


@exports("triangle")
def triangle(w, n):
    n.needs_opset(14, "Trilu")
    return w("Trilu", n.x, np.array(n.settings["diagonal"], np.int64), upper=int(n.settings["upper"]))


@exports("one_hot")
def one_hot(w, n):
    s = n.settings
    return w("OneHot", n.x, w.whole(s["depth"]), np.array([s["off"], s["on"]], np.float32), axis=n.call.geometry)


@exports("gather_elements")
def gather_elements(w, n):
    return w("GatherElements", *n.terms, axis=n.call.geometry)


@exports("gather_nd")
def gather_nd(w, n):
    return w("GatherND", *n.terms, batch_dims=n.settings["batch_dims"])


@exports("non_max_suppression")
def non_max_suppression(w, n):
    s = n.settings
    numbers = [None if s[name] is None else np.float32(s[name]) for name in ("iou_threshold", "score_threshold")]
    most = w.whole(s["max_output_boxes"])
    return w("NonMaxSuppression", *n.terms, most, *numbers, center_point_box=int(s["box_format"] == "center"))


def reduction(w, n):
    """The attribute for what becomes of values that meet."""
    name = ONNX_REDUCTIONS[n.settings["reduction"]]
    if name is not None:
        n.needs_opset(
            EXTREMES_ARE_REDUCTIONS if name in ("max", "min") else 16, f"reduction={n.settings['reduction']!r}"
        )
    return name


@exports("scatter_elements")
def scatter_elements(w, n):
    return w("ScatterElements", *n.terms, axis=n.call.geometry, reduction=reduction(w, n))


@exports("scatter_nd")
def scatter_nd(w, n):
    return w("ScatterND", *n.terms, reduction=reduction(w, n))
