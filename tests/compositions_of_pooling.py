"""Poolings that PyTorch does not have, composed of its operators: forward and automatic derivative for test_oracles.py.

``ORACLES`` holds the operator's name → a function of its settings and its arrays as tensors.
"""

import math

import numpy as np
import torch

F = torch.nn.functional


def per_axis(value, rank):
    return tuple(value) if hasattr(value, "__len__") else (value,) * rank


def functional(name, rank):
    return getattr(F, f"{name}{rank}d")


# ── Transforms ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def blur_pool(s, x):
    rank, size, C = x.ndim - 2, s["filter_size"], x.shape[1]
    taps = torch.tensor([math.comb(size - 1, k) / 2 ** (size - 1) for k in range(size)], dtype=x.dtype)
    weight = torch.ones(1, dtype=x.dtype)
    for axis in range(rank):
        weight = weight[..., None] * taps if axis else taps
    low, high = (size - 1) // 2, size - 1 - (size - 1) // 2
    mode = {"zeros": "constant"}.get(s["padding_mode"], s["padding_mode"])
    x = F.pad(x, (low, high) * rank, mode)
    return functional("conv", rank)(x, weight.expand(C, 1, *weight.shape), None, s["stride"], groups=C)


def max_blur_pool(s, x):
    return blur_pool(s, functional("max_pool", x.ndim - 2)(x, s["kernel_size"], 1, s["padding"]))


def wavelet_pool(s, x):
    for _ in range(s["levels"]):
        for axis in range(2, x.ndim):
            if x.shape[axis] % 2:
                x = torch.cat([x, x.narrow(axis, x.shape[axis] - 1, 1)], axis)
            even = torch.arange(0, x.shape[axis], 2)
            x = (x.index_select(axis, even) + x.index_select(axis, even + 1)) / math.sqrt(2)
    return x


def output_sizes(s, x):
    return [H if h is None else h for H, h in zip(x.shape[2:], per_axis(s["output_size"], x.ndim - 2), strict=True)]


def spectral_pool(s, x):
    """The whole complex spectrum, its middle, and the two bins that meet at the highest frequency made one."""
    axes = tuple(range(2, x.ndim))
    X = torch.fft.fftn(x, dim=axes, norm=s["norm"])
    for axis, h in zip(axes, output_sizes(s, x), strict=True):
        H = X.shape[axis]
        if h == H:
            continue
        bins = [k % H for k in [*range((h + 1) // 2), *range(-(h // 2), 0)]]
        Y = X.index_select(axis, torch.tensor(bins))
        if h % 2 == 0:
            middle = torch.zeros(h, dtype=x.dtype)
            middle[h // 2] = 1
            middle = middle.reshape(-1, *[1] * (X.ndim - 1 - axis))
            Y = Y * (1 - middle) + (X.narrow(axis, h // 2, 1) + X.narrow(axis, H - h // 2, 1)) / 2 * middle
        X = Y
    y = torch.fft.ifftn(X, dim=axes, norm=s["norm"])
    assert y.imag.abs().max() < 1e-5 * max(y.real.abs().max(), 1e-3)
    return y.real


def hartley_matrix(x):
    """cas(2π Σ kᵢ/H) / √(Π H) over all spatial axes at once, as a matrix on flattened planes."""
    extents = x.shape[2:]
    cells = np.array(list(np.ndindex(*extents)))
    angles = 2 * np.pi * (cells[:, None] * cells[None] / np.array(extents)).sum(-1)
    return torch.tensor((np.cos(angles) + np.sin(angles)) / math.sqrt(math.prod(extents)), dtype=x.dtype)


def hartley_pool(s, x):
    sizes = output_sizes(s, x)
    X = (x.flatten(2) @ hartley_matrix(x)).unflatten(2, x.shape[2:])
    for axis, h in enumerate(sizes, 2):
        H = X.shape[axis]
        if h == H:
            continue
        parts = [X.narrow(axis, k % H, 1) for k in [*range((h + 1) // 2), *range(-(h // 2), 0)]]
        if h % 2 == 0 and s["nyquist"] == "average":
            parts[h // 2] = (X.narrow(axis, h // 2, 1) + X.narrow(axis, H - h // 2, 1)) / 2
        X = torch.cat(parts, axis)
    return (X.flatten(2) @ hartley_matrix(X)).unflatten(2, sizes)


ORACLES = {
    "blur_pool": blur_pool,
    "max_blur_pool": max_blur_pool,
    "wavelet_pool": wavelet_pool,
    "spectral_pool": spectral_pool,
    "hartley_pool": hartley_pool,
}
