"""ONNX operators on arrays as nodes of a graph: comparisons, logic, choices; what finds, picks, puts and sums along axes.

One short function each, as in onnx_operators.py.
"""

import numpy as np

from .onnx_operators import KEEPS_TYPE_OF, common, imports, is_constant, ranks, widened

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
