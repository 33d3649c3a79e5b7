"""The operators on arrays, as PyTorch has them: for test_oracles.py."""

import torch

UNARY = ("reciprocal", "sqrt", "log", "erf", "floor", "ceil", "round", "sin", "cos", "tan", "asin", "acos", "atan")
UNARY += ("sinh", "cosh", "asinh", "acosh", "atanh")


def axes_of(s, x):
    return tuple(range(x.ndim)) if s["axes"] is None else s["axes"] if isinstance(s["axes"], tuple) else (s["axes"],)


def largest(sign):
    def reduced(s, x):
        """amax shares the gradient among equal values; there are none in the cases."""
        return sign * torch.amax(sign * x, axes_of(s, x), s["keepdims"])

    return reduced


def product(s, x):
    for axis in sorted((axis % x.ndim for axis in axes_of(s, x)), reverse=True):
        x = torch.prod(x, axis, s["keepdims"])
    return x


def reduced_by(function):
    return lambda s, x: function(x, axes_of(s, x), s["keepdims"])


def reshape(s, x, like=None):
    if like is not None:
        return torch.reshape(x, like.shape)
    shape = []
    for place, entry in enumerate(s["shape"]):
        if entry == 0:
            shape.append(x.shape[place])
        elif isinstance(entry, tuple):
            shape.append(torch.tensor([x.shape[axis] for axis in entry[1:]]).prod().item())
        else:
            shape.append(entry)
    return torch.reshape(x, shape)


def unsqueeze(s, x):
    rank = x.ndim + len(s["axes"])
    for axis in sorted(axis % rank for axis in s["axes"]):
        x = torch.unsqueeze(x, axis)
    return x


def squeeze(s, x):
    return torch.squeeze(x) if s["axes"] is None else torch.squeeze(x, axes_of(s, x))


def gather(s, x):
    alone = not isinstance(s["indices"], tuple)
    places = torch.tensor([s["indices"]] if alone else s["indices"]) % x.shape[s["axis"]]
    y = torch.index_select(x, s["axis"], places)
    return y.squeeze(s["axis"]) if alone else y


def function(name):
    return lambda s, x: getattr(torch, name)(x)


ORACLES = {name: function(name) for name in UNARY}
ORACLES |= {
    "negative": lambda s, x: -x,
    "subtract": lambda s, x, z: x - z,
    "multiply": lambda s, x, z: x * z,
    "divide": lambda s, x, z: x / z,
    "maximum": lambda s, x, z: torch.maximum(x, z),
    "minimum": lambda s, x, z: torch.minimum(x, z),
    "power": lambda s, x, z: torch.pow(x, z),
    "reduce_sum": reduced_by(torch.sum),
    "reduce_mean": reduced_by(torch.mean),
    "reduce_max": largest(1),
    "reduce_min": largest(-1),
    "reduce_prod": product,
    "reduce_l1": reduced_by(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "reduce_l2": reduced_by(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "reduce_sum_square": reduced_by(lambda x, axes, keep: (x * x).sum(axes, keep)),
    "reduce_log_sum": reduced_by(lambda x, axes, keep: x.sum(axes, keep).log()),
    "reduce_log_sum_exp": reduced_by(torch.logsumexp),
    "matmul": lambda s, x, z: torch.matmul(x, z),
    "reshape": reshape,
    "transpose": lambda s, x: torch.permute(x, s["axes"] or tuple(reversed(range(x.ndim)))),
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "expand": lambda s, x, like=None: torch.broadcast_to(x, torch.broadcast_shapes(x.shape, s["shape"] or like.shape)),
    "tile": lambda s, x: torch.tile(x, s["repeats"]),
    "gather": gather,
    "constant": lambda s, value: value.clone(),
}
