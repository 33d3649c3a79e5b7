"""Formulas of pooling at given places, written down from the papers: see test_papers.py."""

import itertools
import math

import numpy as np


def interpolated(plane, h, w):
    """Mask R-CNN, section 3: bilinear interpolation; nothing beyond one cell outside, the nearest cell up to there."""
    H, W = plane.shape
    if h < -1 or h > H or w < -1 or w > W:
        return 0.0
    h, w = min(max(h, 0), H - 1), min(max(w, 0), W - 1)
    total = 0.0
    for row in range(H):
        for column in range(W):
            total += plane[row, column] * max(0, 1 - abs(h - row)) * max(0, 1 - abs(w - column))
    return total


def weighted_cells(plane, h, w):
    """The four terms of it, of which ONNX Runtime takes the largest."""
    H, W = plane.shape
    if h < -1 or h > H or w < -1 or w > W:
        return [0.0]
    h, w = min(max(h, 0), H - 1), min(max(w, 0), W - 1)
    rows = [(math.floor(h), 1 - h % 1), (min(math.floor(h) + 1, H - 1), h % 1)]
    columns = [(math.floor(w), 1 - w % 1), (min(math.floor(w) + 1, W - 1), w % 1)]
    return [plane[row, column] * a * b for row, a in rows for column, b in columns]


def per_axis(value, rank):
    return tuple(value) if hasattr(value, "__len__") else (value,) * rank


def roi_align(s, x, rois, images):
    bins = per_axis(s["output_size"], 2)
    y = np.zeros((len(rois), x.shape[1], *bins))
    for r, c, i, j in np.ndindex(*y.shape):
        x1, y1, x2, y2 = rois[r] * s["spatial_scale"] - (0.5 if s["aligned"] else 0)
        height, width = (y2 - y1, x2 - x1) if s["aligned"] else (max(y2 - y1, 1), max(x2 - x1, 1))
        bin_h, bin_w = height / bins[0], width / bins[1]
        rows, columns = s["sampling_ratio"] or math.ceil(bin_h), s["sampling_ratio"] or math.ceil(bin_w)
        places = [
            (y1 + (i + (a + 0.5) / rows) * bin_h, x1 + (j + (b + 0.5) / columns) * bin_w)
            for a in range(rows)
            for b in range(columns)
        ]
        if s["compat"] == "onnx":
            samples = [term for h, w in places for term in weighted_cells(x[images[r], c], h, w)]
        else:
            samples = [interpolated(x[images[r], c], h, w) for h, w in places]
        if samples:
            y[r, c, i, j] = max(samples) if s["mode"] == "max" else sum(samples) / len(samples)
    return y


def rounded(value):
    """C's round(): halves away from 0."""
    return math.copysign(math.floor(abs(value) + 0.5), value)


def position_sensitive_roi_pool(s, x, rois, images):
    I, J = per_axis(s["output_size"], 2)
    H, W = x.shape[2:]
    y = np.zeros((len(rois), x.shape[1] // (I * J), I, J))
    scale = s["spatial_scale"]
    for r, c, i, j in np.ndindex(*y.shape):
        if s["compat"] == "caffe":
            x1, y1 = (rounded(v) * scale for v in rois[r, :2])
            x2, y2 = ((rounded(v) + 1) * scale for v in rois[r, 2:])
            height, width = max(y2 - y1, 0.1), max(x2 - x1, 0.1)
        else:
            x1, y1, x2, y2 = (rounded(v * scale) for v in rois[r])
            height, width = max(y2 - y1, 1), max(x2 - x1, 1)
        cells = [
            x[images[r], (c * I + i) * J + j, h, w]
            for h in range(H)
            for w in range(W)
            if math.floor(y1 + i * height / I) <= h < math.ceil(y1 + (i + 1) * height / I)
            and math.floor(x1 + j * width / J) <= w < math.ceil(x1 + (j + 1) * width / J)
        ]
        y[r, c, i, j] = sum(cells) / len(cells) if cells else 0
    return y


def max_unpool(s, x, indices):
    rank = x.ndim - 2
    kernel = per_axis(s["kernel_size"], rank)
    stride = kernel if s["stride"] is None else per_axis(s["stride"], rank)
    padding = per_axis(s["padding"], rank)
    sizes = [(H - 1) * step - 2 * p + k for H, step, p, k in zip(x.shape[2:], stride, padding, kernel, strict=True)]
    sizes = list(s["output_size"] or sizes)
    y = np.zeros((x.shape[0], x.shape[1], math.prod(sizes)))
    for at in np.ndindex(*x.shape):
        if s["compat"] == "onnx":
            y.flat[indices[at]] = x[at]
        elif s["duplicates"] == "add":
            y[at[0], at[1], indices[at]] += x[at]
        else:
            y[at[0], at[1], indices[at]] = x[at]
    return y.reshape(*x.shape[:2], *sizes)


def polyphase_pool(s, x):
    strides = per_axis(s["stride"], x.ndim - 2)
    sizes = [H // step for H, step in zip(x.shape[2:], strides, strict=True)]
    y = np.zeros((*x.shape[:2], *sizes))
    for n in range(len(x)):
        best = -1.0
        for offset in itertools.product(*map(range, strides)):
            part = np.zeros((x.shape[1], *sizes))
            for at in np.ndindex(*sizes):
                part[(slice(None), *at)] = x[
                    (n, slice(None), *[i * d + o for i, d, o in zip(at, strides, offset, strict=True)])
                ]
            p = s["p"]
            norm = abs(part).max() if math.isinf(p) else sum(abs(v) ** p for v in part.flat) ** (1 / p)
            if norm > best:
                best, y[n] = norm, part
    return y


ORACLES = {
    "roi_align": roi_align,
    "position_sensitive_roi_pool": position_sensitive_roi_pool,
    "max_unpool": max_unpool,
    "polyphase_pool": polyphase_pool,
}
