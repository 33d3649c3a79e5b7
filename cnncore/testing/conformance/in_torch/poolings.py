"""Poolings that PyTorch does not have, composed of its operators.

``OPERATORS`` holds the operator's name → a function of its settings and its arrays as tensors.
"""

import math

import numpy as np
import torch

from .windows import functional, outputs, per_axis, unfolded, window_settings

F = torch.nn.functional


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


# ── Statistics ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def attention_pool(s, x, v, w, u=None, mask=None):
    points = x.flatten(2).transpose(1, 2)
    t = torch.tanh(points @ v.T)
    if u is not None:
        t = t * torch.sigmoid(points @ u.T)
    score = t @ w
    if mask is not None:
        score = score.masked_fill(~mask.flatten(1), -1e300 if x.dtype == torch.float64 else -1e30)
    a = torch.softmax(score, 1)
    if mask is not None:
        a = a * mask.flatten(1)
    return torch.einsum("np,npc->nc", a, points)


def strip_pool(s, x, w_rows=None, w_columns=None):
    rows, columns = F.adaptive_avg_pool2d(x, (None, 1))[..., 0], F.adaptive_avg_pool2d(x, (1, None))[:, :, 0]
    if w_rows is not None:
        rows = F.conv1d(rows, w_rows, padding=w_rows.shape[2] // 2)
    if w_columns is not None:
        columns = F.conv1d(columns, w_columns, padding=w_columns.shape[2] // 2)
    z = rows[..., None] + columns[:, :, None]
    return x * torch.sigmoid(z) if s["gate"] else z


def covariance_pool(s, x):
    X = x.flatten(2).double()
    P = torch.stack([torch.cov(image, correction=0) for image in X])
    if s["iterations"]:
        eye = torch.eye(P.shape[1], dtype=P.dtype)
        trace = torch.stack([p.trace() for p in P])[:, None, None]
        Y, Z = P / trace, eye.expand_as(P)
        for _ in range(s["iterations"]):
            Y, Z = Y @ (3 * eye - Z @ Y) / 2, (3 * eye - Z @ Y) @ Z / 2
        P = trace.sqrt() * Y
    rows, columns = torch.triu_indices(P.shape[1], P.shape[1])
    return P[:, rows, columns].to(x.dtype)


def bilinear_pool(s, x, z=None):
    X, Z = x.flatten(2).double(), (x if z is None else z).flatten(2).double()
    y = (torch.einsum("ncp,ndp->ncd", X, Z) / X.shape[2]).flatten(1)
    if s["signed_sqrt"]:
        y = y.sign() * (y.abs() + s["eps"]).sqrt()
    return (F.normalize(y) if s["normalize"] else y).to(x.dtype)


def net_vlad(s, x, w, c, b=None):
    points = x.flatten(2).transpose(1, 2)
    a = torch.softmax(F.linear(points, w, b), 2)
    residuals = points[:, :, None] - c
    V = (a[..., None] * residuals).sum(1)
    return F.normalize(F.normalize(V, dim=2).flatten(1)) if s["normalize"] else V.flatten(1)


# ── Computed weights ───────────────────────────────────────────────────────────────────────────────────────────────────


def window_cells(s, x):
    """The cells of every window along a last axis, and which of them lie inside the image."""
    return unfolded(s, x), unfolded(s, torch.ones_like(x)) > 0


def local_importance_pool(s, x, logit):
    cells, inside = window_cells(s, x)
    weights = torch.softmax(window_cells(s, logit)[0].masked_fill(~inside, -math.inf), -1)
    return (weights * cells).sum(-1)


def around_the_middle(s, x, w):
    """The filter's value around the middle of each window: of all positions of a wide border, those that are middles."""
    rank, border = x.ndim - 2, 9
    wide = F.pad(x, (border,) * (2 * rank))
    m = functional("conv", rank)(wide, w[:, None], padding=1, groups=x.shape[1])
    kernel, stride, dilation, pairs = window_settings(s, x)
    for axis, (count, k, step, d, (low, _)) in enumerate(
        zip(outputs(s, x), kernel, stride, dilation, pairs, strict=True), 2
    ):
        m = m.index_select(axis, torch.arange(count) * step - low + d * ((k - 1) // 2) + border)
    return m


def detail_preserving_pool(s, x, alpha, lam, w=None):
    cells, inside = window_cells(s, x)
    n = inside.sum(-1, keepdim=True)
    m = (cells * inside).sum(-1, keepdim=True) / n if w is None else around_the_middle(s, x, w)[..., None]
    distance = cells - m
    r = (distance if s["symmetric"] else distance.clamp(min=0)) ** 2 + s["eps"]
    mean = (r * inside).sum(-1, keepdim=True) / n
    shape = (-1, *[1] * (cells.ndim - 2))
    weights = (torch.exp(alpha.reshape(shape)) + (r / mean) ** torch.exp(lam.reshape(shape))) * inside
    return (weights * cells).sum(-1) / weights.sum(-1)


OPERATORS = {
    "blur_pool": blur_pool,
    "max_blur_pool": max_blur_pool,
    "wavelet_pool": wavelet_pool,
    "spectral_pool": spectral_pool,
    "hartley_pool": hartley_pool,
    "attention_pool": attention_pool,
    "strip_pool": strip_pool,
    "covariance_pool": covariance_pool,
    "bilinear_pool": bilinear_pool,
    "net_vlad": net_vlad,
    "local_importance_pool": local_importance_pool,
    "detail_preserving_pool": detail_preserving_pool,
}
