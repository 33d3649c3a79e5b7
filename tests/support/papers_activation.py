"""The activations that no peer has under a name, transcribed from their papers' formulas one number at a time."""

import math

import numpy as np


def each(f):
    """A formula of one number, for every number of an array."""
    return lambda s, x: np.array([f(s, v) for v in x.ravel().tolist()]).reshape(x.shape)


def logistic(v):
    return 1 / (1 + math.exp(-v))


def columns(f):
    """A formula of the list of numbers along the setting ``axis``."""

    def whole(s, x):
        moved = np.moveaxis(x, s["axis"], -1)
        y = [f(s, column.tolist()) for column in moved.reshape(-1, moved.shape[-1])]
        return np.moveaxis(np.array(y).reshape(*moved.shape[:-1], -1), -1, s["axis"])

    return whole


def sparsemax(s, z):
    """Algorithm 1 of Martins & Astudillo: sort, find k, τ."""
    ordered = sorted(z, reverse=True)
    k = max(k for k in range(1, len(z) + 1) if 1 + k * ordered[k - 1] > sum(ordered[:k]))
    tau = (sum(ordered[:k]) - 1) / k
    return [max(v - tau, 0) for v in z]


def softmin(s, z):
    weights = [math.exp(-v) for v in z]
    return [w / math.fsum(weights) for w in weights]


def glu(s, z):
    half = len(z) // 2
    return [a * logistic(b) for a, b in zip(z[:half], z[half:], strict=True)]


def maxout(s, x):
    k = s["pieces"]
    y = np.empty((x.shape[0], x.shape[1] // k, *x.shape[2:]))
    for c in range(y.shape[1]):
        y[:, c] = x[:, c * k]
        for m in range(1, k):
            y[:, c] = np.maximum(y[:, c], x[:, c * k + m])
    return y


def swish(s, x, betas=None):
    y = np.empty_like(x)
    for place in np.ndindex(*x.shape):
        beta = s["beta"] if betas is None else betas[place[1] if len(betas) > 1 else 0]
        y[place] = x[place] * logistic(beta * x[place])
    return y


def rrelu(s, x, slopes=None):
    if slopes is None and s["training"]:  # what is drawn is judged elsewhere
        import cnncore

        slopes = cnncore.rrelu(x, **{**s, "return_state": True})[1]
    y = np.empty_like(x)
    for place in np.ndindex(*x.shape):
        a = slopes[place] if s["training"] else (s["lower"] + s["upper"]) / 2
        y[place] = x[place] if x[place] >= 0 else a * x[place]
    return y


ORACLES = {
    "sign": each(lambda s, v: math.copysign(1, v) if v else s["at_zero"]),
    "heaviside": each(lambda s, v: 1.0 if v > 0 else 0.0 if v < 0 else s["at_zero"]),
    "sign_straight_through": each(lambda s, v: math.copysign(1, v) if v else 0.0),
    "scaled_tanh": each(lambda s, v: s["amplitude"] * math.tanh(s["steepness"] * v)),
    "quick_gelu": each(lambda s, v: v * logistic(1.702 * v)),
    "dsilu": each(lambda s, v: logistic(v) * (1 + v * (1 - logistic(v)))),
    "squareplus": each(lambda s, v: (v + math.sqrt(v * v + s["b"])) / 2),
    "sparse_plus": each(lambda s, v: 0.0 if v <= -1 else v if v >= 1 else (v + 1) ** 2 / 4),
    "sparse_sigmoid": each(lambda s, v: min(max((v + 1) / 2, 0.0), 1.0)),
    "dish": each(lambda s, v: v / 2 * (v / math.sqrt(1 + v * v) + 1)),
    "hard_sigmoid": each(lambda s, v: min(max((0.2 if s["compat"] else s["alpha"]) * v + s["beta"], 0.0), 1.0)),
    "swish": swish,
    "maxout": maxout,
    "rrelu": rrelu,
    "crelu": columns(lambda s, z: [max(v, 0.0) for v in z] + [max(-v, 0.0) for v in z]),
    "glu": columns(glu),
    "softmin": columns(softmin),
    "sparsemax": columns(sparsemax),
    "hardmax": columns(lambda s, z: [float(i == z.index(max(z))) for i in range(len(z))]),
}
