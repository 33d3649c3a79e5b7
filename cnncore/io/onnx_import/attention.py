"""ONNX's operators of transformers, written out: scaled dot-product attention and rotary position embeddings.

Attention is softmax(Q Kᵀ scale + mask) V of each head (Vaswani et al. 2017, arXiv:1706.03762). What a query does not see gets
the score −∞; a query that sees nothing gets the result 0.
"""

import math

import numpy as np

from .operators import common, copied, gathered, imports, is_constant, padded, pair, reduced, replaced
from .shapes import Extent

__all__ = []

HIDDEN = float("-inf")  # the score of a key that a query does not see
RAW, CAPPED, BIASED, WEIGHTS = range(4)  # what qk_matmul_output_mode asks for


def heads_apart(n, x, count, step):
    """(N, S, heads · width) as (N, heads, S, width)."""
    width = x.extents[2]
    if not isinstance(width, int) or not count or width % count:
        n.refuse(f"{count} heads of {width} numbers for each token")
    extents = (*x.extents[:2], count, width // count)
    x = n.add("reshape", x, step=f"{step}_heads", shape=(0, copied(x, 1), count, width // count), extents=extents)
    order = (0, 2, 1, 3)
    return n.add("transpose", x, step=step, axes=order, extents=tuple(extents[a] for a in order))


def heads_together(n, x):
    """(N, heads, S, width) as (N, S, heads · width)."""
    order = (0, 2, 1, 3)
    x = n.add("transpose", x, step="by_token", axes=order, extents=tuple(x.extents[a] for a in order))
    width = x.extents[2] * x.extents[3]
    return n.add("reshape", x, shape=(0, copied(x, 1), width), extents=(*x.extents[:2], width))


def with_past(n, x, place, step):
    """x behind what was kept of former tokens."""
    if not n.given(place):
        return x
    past = n.live(place)
    extents = replaced(x, 2, past.extents[2] + x.extents[2])
    return n.add("concat", past, x, step=step, axis=2, extents=extents)


def for_each_query_head(n, x, count, step):
    """Heads of keys or values repeated, so that there are ``count``: each serves several heads of queries in succession."""
    own = x.extents[1]
    if own == count:
        return x
    if not isinstance(own, int) or not isinstance(count, int) or count % own:
        n.refuse(f"{count} heads of queries for {own} heads of keys and values")
    places = tuple(np.repeat(np.arange(own), count // own).tolist())
    return n.add("gather", x, step=step, indices=places, axis=1, extents=replaced(x, 1, count))


# ── Which keys a query sees ────────────────────────────────────────────────────────────────────────────────────────────


def places(n, scores, axis, step):
    """0, 1, 2 … along the queries (−2) or keys (−1), against scores."""
    extent = scores.extents[axis]
    shape = (extent, 1) if axis == -2 else (1, extent)
    if isinstance(extent, int):
        return n.constant(np.arange(extent, dtype=np.float32).reshape(shape), step)
    line = n.add("arange_like", scores, step=step, axis=axis, extents=(extent,))
    return n.add("unsqueeze", line, step=f"{step}_placed", axes=(1,) if axis == -2 else (0,), extents=shape)


def of_each_image(n, numbers, step):
    """Numbers (N,) against scores."""
    numbers = n.importer.converted(numbers, f"{n.name}/{step}", "real")
    extents = (*numbers.extents, 1, 1, 1)
    return n.add("unsqueeze", numbers, step=step, axes=(1, 2, 3), extents=extents)


def as_number(n, size, step):
    """A size, or a number, as a value of the graph."""
    if not isinstance(size, Extent):
        return n.constant(float(size), step)
    array = np.empty((), object)
    array[()] = size
    return n.importer.live(array, f"{n.name}/{step}")


def first_key(n, scores):
    """The key that stands at the place of the first query: how many keys there are before; None: 0."""
    if n.given(6) and not n.given(4):
        counts = of_each_image(n, n.live(6, "index"), "counts")
        return pair(n, "subtract", counts, as_number(n, scores.extents[2], "queries"), step="first_key")
    return as_number(n, n.live(4).extents[2], "past") if n.given(4) else None


def visible(n, scores):
    """Masks that broadcast to scores, True where a query sees a key: all have to hold."""
    left, right = (n.attribute(name, -1) for name in ("left_window_size", "right_window_size"))
    masks = []
    if n.attribute("is_causal", 0):
        right = 0 if right < 0 else min(right, 0)
    if left >= 0 or right >= 0:
        keys, queries = places(n, scores, -1, "keys"), places(n, scores, -2, "places")
        first = first_key(n, scores)
        queries = queries if first is None else pair(n, "add", queries, first, step="queries_at")
        away = pair(n, "subtract", keys, queries, step="away")
        if right >= 0:
            masks.append(pair(n, "less_equal", away, n.constant(float(right), "right"), step="not_after"))
        if left >= 0:
            masks.append(pair(n, "greater_equal", away, n.constant(float(-left), "left"), step="not_before"))
    if n.given(6):
        counts, keys = of_each_image(n, n.live(6, "index"), "lengths"), places(n, scores, -1, "of_padding")
        masks.append(pair(n, "less", keys, counts, step="not_padding"))
    return masks


def mask_given(n, scores):
    """The mask of the node as a value of the graph, as long as the keys; None: there is none."""
    if not n.given(3):
        return None
    total, mask = scores.extents[3], n.inputs[3]
    have = mask.shape[-1] if is_constant(mask) else mask.extents[-1]
    missing = total - have if have != total and have != 1 else 0
    if isinstance(missing, Extent) or (missing and isinstance(have, Extent)):
        n.refuse(f"its mask has {have} places for {total} keys; give input_shape=")
    if is_constant(mask):
        fill = False if mask.dtype == np.bool_ else HIDDEN
        wide = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, missing)], constant_values=fill)
        return n.importer.live(wide, f"{n.name}/mask", "mask" if mask.dtype == np.bool_ else "real")
    mask = n.live(3, n.role(3) if n.role(3) == "mask" else "real")
    if not missing:
        return mask
    role = mask.role
    wide = n.importer.converted(mask, f"{n.name}/numbers", "real")
    if wide.rank == 1:
        wide = n.add("unsqueeze", wide, step="mask_row", axes=(0,), extents=(1, *wide.extents))
    wide = padded(n, wide, [(0, 0)] * (wide.rank - 1) + [(0, missing)], "constant", 0.0, "whole_mask")
    if role == "real":
        hidden = np.where(np.arange(total) < have, np.float32(0), np.float32(HIDDEN))
        return pair(n, "add", wide, n.constant(hidden, "hidden_rest"), step="mask_and_rest")
    return n.importer.converted(wide, f"{n.name}/mask", role)


def masked(n, scores):
    """(scores with −∞ where a query does not see a key, whether a query sees any: a mask against scores, None where all do)."""
    masks, mask, bias = visible(n, scores), mask_given(n, scores), None
    if mask is not None and mask.role == "mask":
        masks.append(mask)
    elif mask is not None:
        bias = mask
        scores = pair(n, "add", scores, mask, step="with_mask")
    seen = None
    for number, other in enumerate(masks):
        seen = other if seen is None else pair(n, "logical_and", seen, other, step=f"seen_{number}")
    hidden = n.constant(HIDDEN, "hidden_score")
    if seen is not None:
        extents = common(seen.extents, scores.extents)
        scores = n.add("where", seen, scores, hidden, step="seen_scores", extents=extents)
        if bias is None:
            bias = n.constant(0.0, "no_bias")
        bias = n.add("where", seen, bias, hidden, step="bias", extents=common(seen.extents, bias.extents))
    if bias is None or not (n.given(3) or n.given(6) or n.attribute("left_window_size", -1) >= 0):
        return scores, None
    axes = (bias.rank - 1,)
    most = n.add("reduce_max", bias, step="most", axes=axes, extents=reduced(bias.extents, axes, True))
    return scores, n.add("greater", most, hidden, step="sees_any", extents=most.extents)


@imports("Attention")
def attention(n):
    q, k, v = (n.live(place) for place in range(3))
    flat = q.rank == 3
    if flat:
        own, others = n.attribute("q_num_heads", 0), n.attribute("kv_num_heads", 0)
        q, k, v = (heads_apart(n, x, heads, s) for x, heads, s in ((q, own, "Q"), (k, others, "K"), (v, others, "V")))
    if q.rank != 4:
        n.refuse(f"its queries have {q.rank} axes; expected (N, S, numbers) or (N, heads, S, numbers)")
    present = k, v = with_past(n, k, 4, "present_key"), with_past(n, v, 5, "present_value")
    k, v = for_each_query_head(n, k, q.extents[1], "K_of_heads"), for_each_query_head(n, v, q.extents[1], "V_of_heads")
    if not isinstance(q.extents[3], int):
        n.refuse(f"its heads have {q.extents[3]} numbers; give input_shape=")
    factor = n.constant(math.sqrt(n.attribute("scale", q.extents[3] ** -0.5)), "root_of_scale")
    q, k = (n.add("multiply", x, factor, step=s, extents=x.extents) for x, s in ((q, "scaled_Q"), (k, "scaled_K")))
    turned = n.add(
        "transpose", k, step="K_turned", axes=(0, 1, 3, 2), extents=tuple(k.extents[a] for a in (0, 1, 3, 2))
    )
    extents = (*q.extents[:3], k.extents[2])
    scores = asked = n.add("matmul", q, turned, step="scores", extents=extents)
    mode, cap = n.attribute("qk_matmul_output_mode", RAW), n.attribute("softcap", 0.0)
    if cap > 0:
        scores = n.add("divide", scores, n.constant(cap, "cap"), step="over_cap", extents=extents)
        scores = n.add("tanh", scores, step="tanh", extents=extents)
        scores = n.add("multiply", scores, n.constant(cap, "cap_again"), step="capped", extents=extents)
    asked = scores if mode == CAPPED else asked
    scores, sees_any = masked(n, scores)
    asked = scores if mode == BIASED else asked
    if sees_any is not None:  # of −∞ alone there is no softmax
        scores = n.add("where", sees_any, scores, n.constant(0.0, "zero_score"), step="some_score", extents=extents)
    weights = n.add("softmax", scores, step="weights", axis=3, extents=extents)
    if sees_any is not None:
        weights = n.add("where", sees_any, weights, n.constant(0.0, "no_weight"), step="all_weights", extents=extents)
    asked = weights if mode == WEIGHTS else asked
    y = n.add("matmul", weights, v, step="by_head" if flat else None, extents=(*q.extents[:3], v.extents[3]))
    return heads_together(n, y) if flat else y, *present, asked


# ── Rotary position embeddings ── Su et al. 2021, arXiv:2104.09864, equation 34 ─────────────────────────────────────────


def angles(n, place, step):
    """Cosines or sines (N, 1, S, width): of each token, or of the positions that are given."""
    table = n.inputs[place]
    if n.given(3):
        positions = n.inputs[3]
        if is_constant(table) and is_constant(positions):
            table = n.importer.live(table[positions], f"{n.name}/{step}")
        else:
            table = gathered(n, n.live(place), 0, n.live(3, "index"), f"{step}_of_positions")
    else:
        table = n.live(place)
    extents = (table.extents[0], 1, *table.extents[1:])
    return n.add("unsqueeze", table, step=step, axes=(1,), extents=extents)


def halves(n, x, width, interleaved):
    """The two numbers of each pair that is turned: neighbours, or those of the first and the second half."""
    extents = (*x.extents[:3], width // 2)
    parts = ((0, width, 2), (1, width, 2)) if interleaved else ((0, width // 2, 1), (width // 2, width, 1))
    return [
        n.add("slice", x, step=f"part_{i}", start=start, stop=stop, stride=stride, axis=3, extents=extents)
        for i, (start, stop, stride) in enumerate(parts)
    ]


@imports("RotaryEmbedding")
def rotary_embedding(n):
    x, interleaved = n.live(), n.attribute("interleaved", 0)
    flat = x.rank == 3
    x = heads_apart(n, x, n.attribute("num_heads", 0), "X") if flat else x
    whole = x.extents[3]
    width = n.attribute("rotary_embedding_dim", 0) or whole
    if not isinstance(width, int) or width % 2:
        n.refuse(f"it turns pairs of {width} numbers of each head")
    cos, sin = angles(n, 1, "cos"), angles(n, 2, "sin")
    first, second = halves(n, x, width, interleaved)
    extents = first.extents
    terms = {
        f"{s}_{i}": n.add("multiply", part, angle, step=f"{s}_{i}", extents=extents)
        for i, part in enumerate((first, second))
        for s, angle in (("cos", cos), ("sin", sin))
    }
    real = n.add("subtract", terms["cos_0"], terms["sin_1"], step="real", extents=extents)
    imaginary = n.add("add", terms["sin_0"], terms["cos_1"], step="imaginary", extents=extents)
    if interleaved:
        pairs = [
            n.add("unsqueeze", v, step=f"column_{i}", axes=(4,), extents=(*extents, 1))
            for i, v in enumerate((real, imaginary))
        ]
        turned = n.add("concat", *pairs, step="columns", axis=4, extents=(*extents, 2))
        shape = (*(copied(x, a) for a in range(3)), width)
        turned = n.add("reshape", turned, step="turned", shape=shape, extents=(*x.extents[:3], width))
    else:
        turned = n.add("concat", real, imaginary, step="turned", axis=3, extents=(*x.extents[:3], width))
    if width < whole:
        rest = n.add("slice", x, step="rest", start=width, stop=None, axis=3, extents=(*x.extents[:3], whole - width))
        turned = n.add("concat", turned, rest, step="whole", axis=3, extents=x.extents)
    return heads_together(n, turned) if flat else turned
