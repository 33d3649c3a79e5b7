"""Poolings of every strategy on every scheme of windows, written down from the papers: see test_papers.py and test_pooling.py.

``WINDOWS`` finds the cells of every window, one scheme each; ``VALUES`` makes a number of a window's cells, one strategy each.
Both are loops over numbers that know nothing of our tables, and any of the one goes with any of the other.
"""

import itertools
import math

import numpy as np

import cnncore


def per_axis(value, rank):
    return tuple(value) if hasattr(value, "__len__") else (value,) * rank


# ── Windows ── per axis a list of windows, a window a list of pairs (cell, place in the kernel) ────────────────────────


def whole(first, stop):
    return [(i, i - first) for i in range(first, stop)]


def kernel_axis(H, k, s, d, low, high, ceil):
    """Windows begin every s cells of the padded axis; with ceil also where cells are left over, inside image or low padding."""
    windows, start = [], -low
    while True:
        reach = start + d * (k - 1)
        if reach >= H + high and not (ceil and windows and windows[-1][1] + d * (k - 1) < H + high - 1 and start < H):
            break
        windows.append(([(start + d * t, t) for t in range(k) if 0 <= start + d * t < H], start))
        start += s
    return [cells for cells, _ in windows]


def kernel_windows(s, x, arrays):
    rank = x.ndim - 2
    kernel = per_axis(s["kernel_size"], rank)
    stride = kernel if s["stride"] is None else per_axis(s["stride"], rank)
    pairs = s["padding"] if hasattr(s["padding"], "__len__") else ((s["padding"],) * 2,) * rank
    axes = zip(x.shape[2:], kernel, stride, per_axis(s["dilation"], rank), pairs, strict=True)
    return [kernel_axis(H, k, st, d, low, high, s["ceil_mode"]) for H, k, st, d, (low, high) in axes]


def shared_out(H, O):
    return [whole(math.floor(i * H / O + 1e-9), math.ceil((i + 1) * H / O - 1e-9)) for i in range(O)]


def adaptive_windows(s, x, arrays):
    sizes = per_axis(s["output_size"], x.ndim - 2)
    return [shared_out(H, H if O is None else O) for H, O in zip(x.shape[2:], sizes, strict=True)]


def global_windows(s, x, arrays):
    return [[whole(0, H)] for H in x.shape[2:]]


def fractional_windows(s, x, arrays):
    """From where they start: the drawing itself is tested by itself."""
    starts = arrays["starts"]
    rank = x.ndim - 2
    if s["output_size"] is not None:
        sizes = per_axis(s["output_size"], rank)
    else:
        sizes = [math.floor(r * H) for r, H in zip(per_axis(s["output_ratio"], rank), x.shape[2:], strict=True)]
    axes = []
    for axis, (H, O) in enumerate(zip(x.shape[2:], sizes, strict=True)):
        if s["overlapping"]:
            k = min(H // O + 1, H - O + 1) if s["kernel_size"] is None else per_axis(s["kernel_size"], rank)[axis]
            axes.append([whole(a, a + k) for a in starts[axis][:O]])
        else:
            axes.append([whole(a, b) for a, b in itertools.pairwise(starts[axis][: O + 1])])
    return axes


def s3_windows(s, x, arrays):
    """Windows of every cell, of the rows that were picked, or of all."""
    axes = []
    for axis, H in enumerate(x.shape[2:]):
        k, step = per_axis(s["kernel_size"], x.ndim - 2)[axis], per_axis(s["stride"], x.ndim - 2)[axis]
        every = kernel_axis(H, k, 1, 1, (k - 1) // 2, k - 1 - (k - 1) // 2, False)
        axes.append([every[r] for r in arrays["starts"][axis][: H // step]] if s["training"] else every)
    return axes


WINDOWS = {
    "kernel": kernel_windows,
    "adaptive": adaptive_windows,
    "global": global_windows,
    "fractional": fractional_windows,
    "s3": s3_windows,
}


# ── Values ── v: the cells; t: their places in the kernel; p: the learned arrays' rows of the channel; drawn: what was drawn ─


def sigma(z):
    return 1 / (1 + math.exp(-z))


def filtered(v, t, w):
    return sum(float(w.ravel()[place]) * cell for cell, place in zip(v, t, strict=True))


def median(s, v, t, p, drawn):
    lower, upper = sorted(v)[(len(v) - 1) // 2], sorted(v)[len(v) // 2]
    return lower if s["even"] == "lower" else (lower + upper) / 2


def learned_lp(s, v, t, p, drawn):
    exponent, centre = 1 + math.log(1 + math.exp(p["rho"])), p.get("c", 0.0)
    return np.mean(np.abs(v - centre) ** exponent) ** (1 / exponent)


def mixture(v, a):
    return a * max(v) + (1 - a) * np.mean(v)


def tree(s, v, t, p, drawn):
    """Recursively, as in the paper: a node is the root of two smaller trees."""
    inner = len(p["w"])

    def value(node):
        if node >= inner:
            return filtered(v, t, p["v"][node - inner])
        gate = sigma(filtered(v, t, p["w"][node]))
        return gate * value(2 * node + 1) + (1 - gate) * value(2 * node + 2)

    return value(0)


def softened(v, alpha):
    e = np.exp(alpha * v)
    return (e * v).sum() / e.sum()


def log_sum_exp(s, v, t, p, drawn):
    r = float(p.get("rs", s["r"]))
    total = sum(math.exp(r * cell) for cell in v)
    return math.log(total / len(v) if s["mean"] else total) / r


def power(v, q):
    return math.exp(np.mean(np.log(v))) if q == 0 else np.mean(v**q) ** (1 / q)


def ordinal(s, v, t, p, drawn):
    w = p["w"][: len(v)]
    w = np.exp(w) if s["softmax"] else w
    return (w * np.sort(v)[::-1]).sum() / w.sum()


def falling(v, a, normalized):
    weights = [a * (1 - a) ** r for r in range(len(v))]
    total = sum(w * cell for w, cell in zip(weights, sorted(v, reverse=True), strict=True))
    return total / sum(weights) if normalized else total


def drawn_or(expectation):
    """The cell that was drawn, 0 where none was, or what stands for all draws."""
    return lambda s, v, t, p, drawn: expectation(s, v) if drawn is None else drawn


def lp(s, v, t, p, drawn):
    if s["p"] == math.inf:
        return max(abs(v))
    total = sum(abs(cell) ** s["p"] for cell in v)
    return (total / len(v) if s["mean"] else total) ** (1 / s["p"])


VALUES = {
    "max": lambda s, v, t, p, drawn: max(v),
    "min": lambda s, v, t, p, drawn: min(v),
    "avg": lambda s, v, t, p, drawn: np.mean(v),  # count_include_pad: on kernel windows PyTorch is the oracle
    "sum": lambda s, v, t, p, drawn: sum(v),
    "lp": lp,
    "median": median,
    "learned_lp": learned_lp,
    "mixed": lambda s, v, t, p, drawn: mixture(v, float(p["a"])),
    "random_mixed": lambda s, v, t, p, drawn: mixture(v, s["frequency"] if drawn is None else drawn),
    "gated": lambda s, v, t, p, drawn: mixture(v, sigma(filtered(v, t, p["w"]) + float(p.get("b", 0.0)))),
    "tree": tree,
    "soft": lambda s, v, t, p, drawn: softened(v, 1.0),
    "auto": lambda s, v, t, p, drawn: softened(v, float(p.get("alphas", s["alpha"]))),
    "log_sum_exp": log_sum_exp,
    "gem": lambda s, v, t, p, drawn: power(np.maximum(v, s["eps"]), float(p.get("ps", s["p"]))),
    "alpha": lambda s, v, t, p, drawn: power(v + s["eps"], (1 - float(p.get("alphas", s["alpha"]))) / 2),
    "ordinal": ordinal,
    "rank_avg": lambda s, v, t, p, drawn: np.mean(sorted(v)[-min(s["t"] or -(-len(v) // 2), len(v)) :]),
    "rank_weighted": lambda s, v, t, p, drawn: falling(v, s["a"], s["normalized"]),
    "rank_stochastic": drawn_or(lambda s, v: falling(v, s["a"], True)),
    "stochastic": drawn_or(lambda s, v: sum(v * v) / sum(v)),
    "max_dropout": drawn_or(lambda s, v: falling(v, 1 - s["q"], False)),
    "dilation": lambda s, v, t, p, drawn: max(c + p["f"].ravel()[i] for c, i in zip(v, t, strict=True)),
    "erosion": lambda s, v, t, p, drawn: min(c - p["f"].ravel()[i] for c, i in zip(v, t, strict=True)),
}


# ── Both ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def over_windows(value, s, x, axes, arrays, planes, draws):
    """(N, C, *windows): every window's cells gathered one by one."""
    y = np.zeros((*x.shape[:2], *(len(axis) for axis in axes)))
    kernel = [1 + max(place for window in axis for _, place in window) for axis in axes]
    if "kernel_size" in s and s["kernel_size"] is not None:
        kernel = per_axis(s["kernel_size"], len(axes))
    for n, c, *o in np.ndindex(*y.shape):
        cells = list(itertools.product(*(axis[i] for axis, i in zip(axes, o, strict=True))))
        v = np.array([x[(n, c, *(cell for cell, _ in pairs))] for pairs in cells])
        t = [int(np.ravel_multi_index([place for _, place in pairs], kernel)) for pairs in cells]
        p = {name: a[c if len(a) > 1 else 0] for name, a in arrays.items() if name not in ("starts", "state", "rois")}
        drawn = None
        if draws == "cells":
            position = arrays["state"][(n, c, *o)] if planes is None else arrays["state"][planes + (n, c, *o)[1:]]
            drawn = x[n, c].ravel()[position] if position >= 0 else 0.0
        elif draws == "planes":
            drawn = arrays["state"][n if planes is None else planes[0], c]
        y[(n, c, *o)] = value(s, v, t, p, drawn)
    return y


def oracle(strategy, scheme, draws=""):
    """y of a strategy on a scheme, from a call's settings and its arrays by name."""
    value = VALUES[strategy]

    def pooled(s, x, arrays):
        drawn = draws if draws and s["training"] else ""
        if scheme == "pyramid":
            stretches, first = [], 0
            for bins in s["levels"]:
                axes, count = [shared_out(H, bins) for H in x.shape[2:]], bins ** (x.ndim - 2)
                here = dict(arrays)
                if drawn == "cells":
                    stretch = arrays["state"][:, first * x.shape[1] : (first + count) * x.shape[1]]
                    here["state"] = stretch.reshape(*x.shape[:2], *(bins,) * len(axes))
                stretches.append(over_windows(value, s, x, axes, here, None, drawn).reshape(len(x), -1))
                first += count
            return np.concatenate(stretches, 1)
        if scheme == "roi":
            sizes = per_axis(s["output_size"], x.ndim - 2)
            y = np.zeros((len(arrays["rois"]), x.shape[1], *sizes))
            for r, roi in enumerate(arrays["rois"]):
                corners = [math.copysign(math.floor(abs(v) + 0.5), v) for v in roi[1:] * s["spatial_scale"]]
                rank = x.ndim - 2
                low, high = corners[:rank][::-1], corners[rank:][::-1]
                axes = []
                for H, a, b, O in zip(x.shape[2:], low, high, sizes, strict=True):
                    bins = shared_out(max(int(b) - int(a) + 1, 1), O)
                    axes.append([[(int(a) + i, 0) for i, _ in window if 0 <= int(a) + i < H] for window in bins])
                n = int(roi[0])
                for o in np.ndindex(*sizes):
                    one = [[axis[i]] for axis, i in zip(axes, o, strict=True)]
                    if all(axis[0] for axis in one):
                        state = dict(arrays)
                        if drawn == "cells":
                            state["state"] = arrays["state"][
                                (slice(r, r + 1), slice(None), *(slice(i, i + 1) for i in o))
                            ]
                        elif drawn == "planes":
                            state["state"] = arrays["state"][r : r + 1]
                        y[(r, slice(None), *o)] = over_windows(value, s, x[n : n + 1], one, state, None, drawn).reshape(
                            -1
                        )
            return y
        if drawn == "cells" and scheme == "global":
            arrays = {**arrays, "state": arrays["state"].reshape(*x.shape[:2], *[1] * (x.ndim - 2))}
        y = over_windows(value, s, x, WINDOWS[scheme](s, x, arrays), arrays, None, drawn)
        if scheme == "global" and not s["keepdims"]:
            return y.reshape(*x.shape[:2])
        if scheme == "s3" and not s["training"]:
            for axis, step in enumerate(per_axis(s["stride"], x.ndim - 2), 2):
                y = np.stack(
                    [y.take(range(i * step, (i + 1) * step), axis).mean(axis) for i in range(y.shape[axis] // step)],
                    axis,
                )
        return y

    return pooled


def of_operator(op):
    """The oracle of a row of pooling, taking its arrays by position; windows that it draws itself are asked for."""
    strategy, scheme = op.implementation.strategy, op.implementation.scheme

    def pooled(s, x, *rest):
        arrays = {row.name: a for row, a in zip(op.arrays[1:], rest, strict=False) if a is not None}
        name = s.get("strategy", strategy.name)
        if scheme.draws and (scheme.draws == "always" or s["training"]):
            asked = op(x, *rest, **{**{k: v for k, v in s.items() if k in op.settings}, "return_state": True})
            arrays["starts"] = asked[-1]
            arrays.pop(op.implementation.window_state, None)
            if s.get("compat") == "torch":
                return fractional_as_torch(name, s, x, arrays)
        return oracle(name, scheme.name, strategy.draws)(s, x, arrays)

    return pooled


def fractional_as_torch(name, s, x, arrays):
    """Every plane has windows of its own, from its u: ⌊(i + u)α⌋ − ⌊uα⌋ and the last at the end; in 2 axes u of W comes first."""
    rank, samples = x.ndim - 2, arrays["starts"]
    kernel, sizes = per_axis(s["kernel_size"], rank), per_axis(s["output_size"], rank)
    y = np.zeros((*x.shape[:2], *sizes))
    for n, c in np.ndindex(*x.shape[:2]):
        axes = []
        for axis, (H, k, O) in enumerate(zip(x.shape[2:], kernel, sizes, strict=True)):
            u = samples[n, c, 1 - axis if rank == 2 else axis]
            alpha = (H - k) / (O - 1)
            starts = [int((i + u) * alpha) - int(u * alpha) for i in range(O - 1)] + [H - k]
            axes.append([whole(a, a + k) for a in starts])
        y[n, c] = over_windows(VALUES[name], s, x[n : n + 1, c : c + 1], axes, arrays, None, "")[0, 0]
    return y


def k_max_pool(s, x):
    k, L = s["k"], x.shape[-1]
    if s["layer"] is not None:
        k = max(k, math.ceil((s["layers"] - s["layer"]) / s["layers"] * L))
    y = np.zeros((*x.shape[:-1], k))
    for row in np.ndindex(*x.shape[:-1]):
        chosen = sorted(range(L), key=lambda i, row=row: (-x[(*row, i)], i))[:k]
        y[row] = [x[(*row, i)] for i in sorted(chosen)]
    return y


# PyTorch and ONNX Runtime check these on kernel, adaptive and global windows.
JUDGED_BY_PEERS = {
    f"{prefix}{name}_pool"
    for prefix in ("", "adaptive_", "global_")
    for name in ("max", "avg", "sum", "lp", "stochastic")
}

ORACLES = {
    name: of_operator(op)
    for name, op in cnncore.OPS.items()
    if getattr(op.implementation, "scheme", None) and name not in JUDGED_BY_PEERS
} | {"k_max_pool": k_max_pool}
