"""Interpolation written from its formulas in plain loops."""

import math

import numpy as np


def weights(t, s):
    """The share of a cell at distance t."""
    t = abs(t)
    if s["mode"] == "linear":
        return max(0.0, 1 - t)
    a = s["cubic_coefficient"]
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def position(o, H, O, r, mode, region):
    if mode == "tf_crop_and_resize":
        begin, end = region
        return begin * (H - 1) + o * (end - begin) * (H - 1) / (O - 1) if O > 1 else 0.5 * (begin + end) * (H - 1)
    if mode == "asymmetric":
        return o / r
    if mode == "align_corners":
        return o * (H - 1) / (O - 1) if O > 1 else 0.0
    if mode == "pytorch_half_pixel" and O == 1:
        return 0.0
    p = (o + 0.5) / r - 0.5
    return p + (H - O / r) / 2 if mode == "half_pixel_symmetric" else p


def along(x, axis, O, r, s, region=None):
    """x (float64) with O cells along an axis."""
    H = x.shape[axis]
    x = np.moveaxis(x, axis, 0)
    y = np.zeros((O, *x.shape[1:]))
    wide = max(1.0, 1 / r) if s["antialias"] else 1.0
    for o in range(O):
        p = position(o, H, O, r, s["coordinates"], region)
        if region and not 0 <= p <= H - 1:
            continue
        if s["mode"] == "nearest":
            rounded = {
                "floor": math.floor(p),
                "ceil": math.ceil(p),
                "round_prefer_floor": math.ceil(p - 0.5),
                "round_prefer_ceil": math.floor(p + 0.5),
            }[s["rounding"]]
            y[o] = x[min(max(rounded, 0), H - 1)]
            continue
        total = 0.0
        for cell in range(math.floor(p) - 2 * math.ceil(wide) - 1, math.floor(p) + 2 * math.ceil(wide) + 3):
            outside = not 0 <= cell < H
            if outside and s["exclude_outside"]:
                continue
            share = weights((cell - p) / wide, s)
            total += share
            y[o] += share * x[min(max(cell, 0), H - 1)]
        y[o] /= total
    return np.moveaxis(y, 0, axis)


def resize(s, x, like=None):
    rank = x.ndim - 2
    y = x
    for axis in range(rank):
        H = x.shape[2 + axis]
        if like is not None:
            O = like.shape[2 + axis]
            r = O / H
        elif s["scale"] is None:
            O = s["size"][axis] if isinstance(s["size"], tuple) else s["size"]
            r = O / H
        else:
            r = s["scale"][axis] if isinstance(s["scale"], tuple) else s["scale"]
            O = math.floor(H * r)
        y = along(y, 2 + axis, O, r, s, s["region"] and s["region"][axis])
    return y


def sums_of_integers(q, w, s):
    """Σ w q over the windows of (q padded with 0), all integers, in plain loops over positions and taps."""
    rank = q.ndim - 2
    each = {
        k: v if isinstance(v, tuple) else (v,) * rank for k, v in s.items() if k in ("stride", "padding", "dilation")
    }
    pads = [p if isinstance(p, tuple) else (p, p) for p in each["padding"]]
    q = np.pad(q, [(0, 0), (0, 0), *pads])
    reach = [d * (k - 1) + 1 for k, d in zip(w.shape[2:], each["dilation"], strict=True)]
    out = [(n - r) // t + 1 for n, r, t in zip(q.shape[2:], reach, each["stride"], strict=True)]
    a, inputs, outputs = np.zeros((len(q), len(w), *out), np.int64), w.shape[1], len(w) // s["groups"]
    for at in np.ndindex(*out):
        for tap in np.ndindex(*w.shape[2:]):
            place = [o * t + i * d for o, t, i, d in zip(at, each["stride"], tap, each["dilation"], strict=True)]
            for k in range(len(w)):
                group = k // outputs
                x = q[(slice(None), slice(group * inputs, (group + 1) * inputs), *place)]
                a[(slice(None), k, *at)] += x @ w[(k, slice(None), *tap)]
    return a


def quantized_conv(s, x, w, scale, b=None):
    s = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | s
    z, product = s["x_zero_point"], s["x_scale"] * scale
    q = np.clip(np.rint(x / s["x_scale"]) + z, 0, 255).astype(np.int64) - z
    a, form = sums_of_integers(q, w.astype(np.int64), s), (-1, *[1] * (x.ndim - 2))
    if b is not None:
        a = a + np.rint(b / product).astype(np.int64).reshape(form)
    if s["y_scale"] is None:
        return a * product.reshape(form)
    q = np.clip(np.rint(a * (product / s["y_scale"]).reshape(form)) + s["y_zero_point"], 0, 255)
    return (q - s["y_zero_point"]) * s["y_scale"]


ORACLES = {"resize": resize, "quantized_conv": quantized_conv, "quantized_linear": quantized_conv}
