"""The arithmetic of one output: the numbers that it is made of, and how much it moves with each.

Nothing here knows a particular operator. The numbers are those in the receptive window; the factors are the derivatives
∂y/∂x, by the operator's own backward pass from this output alone. Where y is linear in x they are its weights, and the
products, with what does not depend on x, sum to y.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...nets.trace import Trace
from .maps import rounded

__all__ = ["cell"]

MOST_WINDOWS = 3  # windows that are shown number by number
MOST_EXTENT = 7  # of such a window
MOST_TERMS = 12  # of an output without windows
DIGITS = 3
ROUNDING = 1e-4  # relative, of a sum of float32 products


def cell(trace: Trace, number: int, index: tuple[int, ...], incoming: NDArray[Any] | None) -> dict[str, Any]:
    """What the page says about output ``index`` (channel, \\*place) of node ``number``.

    ``incoming`` is the gradient of the score with respect to the node's output, where there is one.
    """
    y = trace.values[trace.inputs + number]
    seed = np.zeros_like(y)
    seed[(0, *index)] = 1
    node = trace.structure.nodes[number]
    slopes = trace.local_gradients(number, seed)
    parts, total = [], 0.0
    for argument, (value, slope) in enumerate(zip(node.arguments, slopes, strict=True)):
        if value is None or slope is None:
            continue
        x = trace.values[value]
        products = x[0].astype(np.float64) * slope[0]
        total += float(products.sum())
        part = windows(trace, number, value, index, x[0], slope[0], products)
        parts.append({"argument": argument, "of": value, **part})
    result = float(y[(0, *index)])
    linear = linear_in(trace, number, len(parts), abs(result - total) <= ROUNDING * max(abs(result), 1e-6))
    found: dict[str, Any] = {"index": list(index), "y": rounded(result), "parts": parts, "linear": linear}
    if linear:
        found["sum"], found["rest"] = rounded(total), rounded(result - total)
    if incoming is not None:
        found["dy"] = rounded(incoming[(0, *index)])
    return found


def linear_in(trace: Trace, number: int, parts: int, exact: bool) -> bool:
    """Whether y is linear in the values that node ``number`` reads, all taken together.

    Several products must sum to y (``exact``): a product of two is linear in each, and not in both.
    """
    node = trace.structure.nodes[number]
    rows = node.op.rows(len(node.arguments))
    read = [row.name for row, value in zip(rows, node.arguments, strict=True) if value is not None]
    return parts > 0 and all(name in node.op.linear for name in read) and (parts == 1 or exact)


def windows(
    trace: Trace,
    number: int,
    value: int,
    index: tuple[int, ...],
    x: NDArray[Any],
    slope: NDArray[Any],
    products: NDArray[Any],
) -> dict[str, Any]:
    """The numbers and slopes of one array: by windows of its channels, or the largest terms where it has none."""
    box = trace.box_before(number, value, tuple((i, i) for i in index[1:])) if x.ndim == 3 and len(index) == 3 else None
    if box is None or any(high - low >= MOST_EXTENT for low, high in box):
        return terms(x, slope, products)
    (top, bottom), (left, right) = box
    inside = np.s_[:, max(top, 0) : bottom + 1, max(left, 0) : right + 1]
    sums = products[inside].sum(axis=(1, 2))
    used = np.flatnonzero(np.abs(slope[inside]).reshape(len(slope), -1).any(axis=1))
    if not len(used):  # a relu that lets nothing through
        used = np.array([index[0]]) if index[0] < len(x) else np.arange(1)
    first = used[np.argsort(-np.abs(sums[used]), kind="stable")[:MOST_WINDOWS]]
    extents = x.shape[1:]
    shown = []
    for channel in sorted(int(c) for c in first):
        rows: list[list[float | None]] = []
        factors: list[list[float | None]] = []
        for i in range(top, bottom + 1):
            there = [(i, j) if 0 <= i < extents[0] and 0 <= j < extents[1] else None for j in range(left, right + 1)]
            rows.append([None if p is None else rounded(x[(channel, *p)], DIGITS) for p in there])
            factors.append([None if p is None else rounded(slope[(channel, *p)], DIGITS) for p in there])
        shown.append({"channel": channel, "x": rows, "slope": factors, "sum": rounded(sums[channel])})
    others = np.setdiff1d(used, first)
    return {
        "windows": shown,
        "beyond": share_beyond(slope, inside),
        "others": len(others),
        "others_sum": rounded(float(sums[others].sum())),
        "corner": [top, left],
    }


def share_beyond(slope: NDArray[Any], inside: Any) -> float:
    """The part of Σ |∂y/∂x| outside a window: 0, but where a node normalises with statistics of the whole image.

    >>> share_beyond(np.array([[[3.0, 1.0]]]), np.s_[:, :, :1])
    0.25
    """
    sizes = np.abs(slope).astype(np.float64)
    share = 1 - float(sizes[inside].sum() / sizes.sum()) if sizes.any() else 0.0
    return rounded(share, 2) if share > ROUNDING else 0.0


def terms(x: NDArray[Any], slope: NDArray[Any], products: NDArray[Any]) -> dict[str, Any]:
    """The largest products of an output that is made of a whole array."""
    flat = products.ravel()
    used = np.flatnonzero(slope.ravel())
    first = used[np.argsort(-np.abs(flat[used]), kind="stable")[:MOST_TERMS]]
    shown = [
        {
            "place": [int(i) for i in np.unravel_index(place, x.shape)],
            "x": rounded(x.ravel()[place], DIGITS),
            "slope": rounded(slope.ravel()[place], DIGITS),
            "product": rounded(flat[place], DIGITS),
        }
        for place in first
    ]
    return {
        "terms": shown,
        "others": len(used) - len(first),
        "others_sum": rounded(float(flat[used].sum() - flat[first].sum())),
    }
