"""The windows of a call, as PyTorch's operators take them, and their cells as tensors."""

import itertools
import math

import torch

F = torch.nn.functional


def per_axis(value, rank):
    return tuple(value) if hasattr(value, "__len__") else (value,) * rank


def pairs_of(padding, extents, kernel, stride, dilation):
    """(low, high) per axis, written independently from the formulas of the names."""
    rank = len(extents)
    if isinstance(padding, str):
        pairs = []
        for H, k, s, d in zip(extents, kernel, stride, dilation, strict=True):
            total = max((math.ceil(H / s) - 1) * s + d * (k - 1) + 1 - H, 0)
            few, many = total // 2, total - total // 2
            pairs.append({"valid": (0, 0), "same_upper": (few, many), "same_lower": (many, few)}[padding])
        return pairs
    if hasattr(padding, "__len__") and hasattr(padding[0], "__len__"):
        return list(padding)
    return [(p, p) for p in per_axis(padding, rank)]


def pad(x, pairs, value=0.0, mode="constant"):
    flat = [p for pair in reversed(pairs) for p in pair]
    return F.pad(x, flat, mode, **({"value": value} if mode == "constant" else {}))


def functional(name, rank):
    return getattr(F, f"{name}{rank}d")


def window_settings(s, x):
    rank = x.ndim - 2
    kernel = per_axis(s["kernel_size"], rank)
    stride = kernel if s["stride"] is None else per_axis(s["stride"], rank)
    dilation = per_axis(s.get("dilation", 1), rank)
    return kernel, stride, dilation, pairs_of(s["padding"], x.shape[2:], kernel, stride, dilation)


def outputs(s, x):
    """Number of windows per axis, from PyTorch's documentation of ceil_mode."""
    kernel, stride, dilation, pairs = window_settings(s, x)
    counts = []
    for H, k, step, d, (low, high) in zip(x.shape[2:], kernel, stride, dilation, pairs, strict=True):
        room = H + low + high - d * (k - 1) - 1
        count = (math.ceil if s["ceil_mode"] else math.floor)(room / step) + 1
        counts.append(count - 1 if s["ceil_mode"] and (count - 1) * step >= H + low else count)
    return counts


def unfolded(s, x, value=0.0, counts=None):
    """The cells of every window along a last axis, padding holding ``value``: (N, C, *output, cells)."""
    kernel, stride, dilation, pairs = window_settings(s, x)
    counts = counts or outputs(s, x)
    # As much at the high end as the last window needs: ceil_mode reaches beyond the padding.
    reach = [
        max(high, (n - 1) * step + d * (k - 1) + 1 - H - low)
        for n, step, d, k, H, (low, high) in zip(counts, stride, dilation, kernel, x.shape[2:], pairs, strict=True)
    ]
    x = pad(x, [(low, high) for (low, _), high in zip(pairs, reach, strict=True)], value)
    cells = []
    for tap in itertools.product(*map(range, kernel)):
        index = [slice(None), slice(None)]
        for t, d, step, n in zip(tap, dilation, stride, counts, strict=True):
            index.append(slice(t * d, t * d + (n - 1) * step + 1, step))
        cells.append(x[tuple(index)])
    return torch.stack(cells, -1)
