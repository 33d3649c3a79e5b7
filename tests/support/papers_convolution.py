"""Formulas of convolution's variants, written down from the papers: see test_papers.py."""

import itertools
import math

import numpy as np


def per_axis(value, rank):
    return tuple(value) if hasattr(value, "__len__") else (value,) * rank


def pixel(plane, place):
    """A pixel of an image that is 0 outside."""
    inside = all(0 <= q < H for q, H in zip(place, plane.shape, strict=True))
    return plane[place] if inside else 0.0


def windows(s, x, kernel):
    """(rank, output extents, place of cell t of window o) of a convolution with low padding and as much at the high end."""
    rank = x.ndim - 2
    stride, padding, dilation = (per_axis(s[name], rank) for name in ("stride", "padding", "dilation"))
    output = tuple(
        (H + 2 * p - d * (k - 1) - 1) // step + 1
        for H, k, step, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    )

    def place(o, t):
        return tuple(step * i + d * j - p for i, j, step, d, p in zip(o, t, stride, dilation, padding, strict=True))

    return output, place


def locally_connected_conv(s, x, w, b=None):
    """DeepFace, section 3: as a convolution, but every location has its own filters."""
    kernel = per_axis(s["kernel_size"], x.ndim - 2)
    output, place = windows(s, x, kernel)
    taps = list(itertools.product(*map(range, kernel)))
    K, G, inputs = len(w), s["groups"], x.shape[1] // s["groups"]
    y = np.zeros((len(x), K, *output))
    for n, k, *o in np.ndindex(*y.shape):
        total = 0.0 if b is None else b[k] if b.ndim == 1 else b[(k, *o)]
        for c in range(inputs):
            for number, t in enumerate(taps):
                weight = w[(k, c * len(taps) + number, *o)]
                total += weight * pixel(x[n, k // (K // G) * inputs + c], place(o, t))
        y[(n, k, *o)] = total
    return y


def deformable_conv(s, x, offset, w, b=None, mask=None):
    """Zhu et al., equation 1, with the bilinear kernel G(q, p) = g(q_h, p_h) g(q_w, p_w) of Dai et al., equation 4."""
    kernel = w.shape[2:]
    output, place = windows(s, x, kernel)
    taps = list(itertools.product(*map(range, kernel)))
    N, C, H, W = x.shape
    K, inputs, shared = len(w), w.shape[1], C // s["offset_groups"]
    y = np.zeros((N, K, *output))
    for n, k, i, j in np.ndindex(*y.shape):
        total = 0.0 if b is None else b[k]
        for c in range(inputs):
            channel = k // (K // s["groups"]) * inputs + c
            for number, t in enumerate(taps):
                plane = channel // shared * len(taps) + number
                h, v = place((i, j), t)
                h, v = h + offset[n, 2 * plane, i, j], v + offset[n, 2 * plane + 1, i, j]
                value = sum(
                    max(0, 1 - abs(a - h)) * max(0, 1 - abs(e - v)) * x[n, channel, a, e]
                    for a in range(H)
                    for e in range(W)
                )
                total += w[(k, c, *t)] * (1 if mask is None else mask[n, plane, i, j]) * value
        y[n, k, i, j] = total
    return y


def partial_conv(s, x, mask, w, b=None):
    """Liu et al., equation 1: Wᵀ(X ⊙ M) · sum(1) / sum(M) + b where sum(M) > 0, else 0."""
    output, place = windows(s, x, w.shape[2:])
    taps = list(itertools.product(*map(range, w.shape[2:])))
    K, inputs = w.shape[:2]
    mask = np.broadcast_to(mask, x.shape)
    y = np.zeros((len(x), K, *output))
    for n, k, *o in np.ndindex(*y.shape):
        total, known = 0.0, 0.0
        for c in range(inputs):
            channel = k // (K // s["groups"]) * inputs + c
            for t in taps:
                m = pixel(mask[n, channel], place(o, t))
                known += m
                total += w[(k, c, *t)] * m * pixel(x[n, channel], place(o, t))
        if known > 0:
            y[(n, k, *o)] = total * inputs * len(taps) / known + (0 if b is None else b[k])
    return y


def flipped_conv(s, x, w, b=None):
    """(f ∗ g)(p) = Σ f(p − t) g(t): the kernel runs against the image."""
    if s["padding_mode"] != "zeros":
        (p,), rank = {*per_axis(s["padding"], x.ndim - 2)}, x.ndim - 2
        x, s = np.pad(x, [(0, 0), (0, 0), *[(p, p)] * rank], mode="wrap"), {**s, "padding": 0}
    output, place = windows(s, x, w.shape[2:])
    K, inputs = w.shape[:2]
    y = np.zeros((len(x), K, *output))
    for n, k, *o in np.ndindex(*y.shape):
        total = 0.0 if b is None else b[k]
        for c in range(inputs):
            for t in itertools.product(*map(range, w.shape[2:])):
                back = tuple(e - 1 - i for e, i in zip(w.shape[2:], t, strict=True))
                total += w[(k, c, *back)] * pixel(x[n, k // (K // s["groups"]) * inputs + c], place(o, t))
        y[(n, k, *o)] = total
    return y


def causal_conv(s, x, w, b=None):
    """WaveNet, figure 3: the last tap meets the present, each one before it ``dilation`` steps of the past."""
    K, inputs, taps = w.shape
    (stride,), (dilation,) = per_axis(s["stride"], 1), per_axis(s["dilation"], 1)
    y = np.zeros((len(x), K, math.ceil(x.shape[2] / stride)))
    for n, k, o in np.ndindex(*y.shape):
        total = 0.0 if b is None else b[k]
        for c in range(inputs):
            for age in range(taps):
                past = o * stride - age * dilation
                total += w[k, c, taps - 1 - age] * pixel(x[n, k // (K // s["groups"]) * inputs + c], (past,))
        y[n, k, o] = total
    return y


def response_norm_within_channel(s, x):
    """Krizhevsky et al., section 3.3, with a box of cells in place of channels, as Caffe averages it."""
    size, rank = s["size"], x.ndim - 2
    y = np.zeros(x.shape)
    for n, c, *o in np.ndindex(*x.shape):
        squares = sum(
            pixel(x[n, c], tuple(i - size // 2 + t for i, t in zip(o, box, strict=True))) ** 2
            for box in itertools.product(range(size), repeat=rank)
        )
        y[(n, c, *o)] = x[(n, c, *o)] * (s["k"] + s["alpha"] * squares / size**rank) ** -s["beta"]
    return y


ORACLES = {
    "locally_connected_conv": locally_connected_conv,
    "deformable_conv": deformable_conv,
    "partial_conv": partial_conv,
    "flipped_conv": flipped_conv,
    "causal_conv": causal_conv,
    "response_norm_within_channel": response_norm_within_channel,
}
