"""The operators on arrays, as PyTorch has them."""

import torch

UNARY = [
    "reciprocal",
    "sqrt",
    "log",
    "erf",
    "floor",
    "ceil",
    "round",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
]


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


def place(name):
    def of(s, x):
        if not s["last"]:  # torch does not say which of equal ones; in the cases there are none
            return getattr(torch, name)(x, s["axis"], s["keepdims"])
        return x.shape[s["axis"]] - 1 - getattr(torch, name)(x.flip(s["axis"]), s["axis"], s["keepdims"])

    return of


def cumulative(function, start):
    def of(s, x):
        x = x.flip(s["axis"]) if s["reverse"] else x
        if s["exclusive"]:
            first = torch.full_like(x.narrow(s["axis"], 0, 1), start)
            x = torch.cat([first, x.narrow(s["axis"], 0, x.shape[s["axis"]] - 1)], s["axis"])
        y = function(x, s["axis"])
        return y.flip(s["axis"]) if s["reverse"] else y

    return of


def one_hot(s, x):
    classes = torch.arange(s["depth"])
    hot = (torch.where(x < 0, x + s["depth"], x)[..., None] == classes).movedim(-1, s["axis"])
    return torch.where(hot, s["on"], s["off"]).to(torch.float32)


TORCH_REDUCTIONS = {"add": "sum", "multiply": "prod", "maximum": "amax", "minimum": "amin"}


def from_start(indices, extent):
    return torch.where(indices < 0, indices + extent, indices)


def scatter_elements(s, x, indices, updates):
    indices = from_start(indices, x.shape[s["axis"]])
    if s["reduction"] == "none":
        return torch.scatter(x, s["axis"], indices, updates)
    return torch.scatter_reduce(x, s["axis"], indices, updates, TORCH_REDUCTIONS[s["reduction"]])


def gather_nd(s, x, indices):
    batch = [
        torch.arange(n).reshape(-1, *[1] * (indices.ndim - 2 - i)) for i, n in enumerate(x.shape[: s["batch_dims"]])
    ]
    return x[(*batch, *indices.unbind(-1))]


def scatter_nd(s, x, indices, updates):
    count = indices.shape[-1]
    at = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for axis, place_ in enumerate(indices.unbind(-1)):
        at = at * x.shape[axis] + from_start(place_, x.shape[axis])
    rows, at = x.flatten(0, count - 1).flatten(1), at.flatten()
    updates = updates.reshape(len(at), -1)
    if s["reduction"] == "none":
        return rows.index_copy(0, at, updates).reshape(x.shape)
    if s["reduction"] == "add":
        return rows.index_add(0, at, updates).reshape(x.shape)
    at = at[:, None].expand(updates.shape)
    return torch.scatter_reduce(rows, 0, at, updates, TORCH_REDUCTIONS[s["reduction"]]).reshape(x.shape)


GRID_MODES = {"linear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}


def grid_sample(s, x, grid):
    """PyTorch has it of images and volumes; a line is an image of one row."""
    if x.ndim == 3:
        grid = torch.stack([grid[..., 0], torch.zeros_like(grid[..., 0])], -1)[:, None]
        return grid_sample(s, x[:, :, None], grid)[:, :, 0]
    return torch.nn.functional.grid_sample(x, grid, GRID_MODES[s["mode"]], s["padding_mode"], s["align_corners"])


def non_max_suppression(s, boxes, scores):
    """By its definition, one box after the other, all overlaps at once."""
    a, b = boxes[..., :2], boxes[..., 2:]
    if s["box_format"] == "center":
        a, b = a - b / 2, a + b / 2
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    shared = torch.clamp(
        torch.minimum(high[:, :, None], high[:, None]) - torch.maximum(low[:, :, None], low[:, None]), min=0
    ).prod(-1)
    area = (high - low).prod(-1)
    overlap = shared / (area[:, :, None] + area[:, None] - shared)
    rows = []
    for n in range(scores.shape[0]):
        for c in range(scores.shape[1]):
            kept = []
            for box in torch.argsort(scores[n, c], descending=True, stable=True).tolist():
                good = s["score_threshold"] is None or scores[n, c, box] > s["score_threshold"]
                alone = all(overlap[n, box, other] <= s["iou_threshold"] for other in kept)
                if good and alone and len(kept) < s["max_output_boxes"]:
                    kept.append(box)
            rows += [[n, c, box] for box in kept]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)


COMPARED = {"equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"}


def straight_through(x):
    """The nearest integer, with the slope of x itself."""
    return x + (torch.round(x) - x).detach()


def quantize(s, x, scale, zero_point=None):
    zero_point = torch.zeros_like(scale) if zero_point is None else zero_point
    return torch.clamp(straight_through(x / scale) + zero_point, s["low"], s["high"])


def fake_quantize(s, x, scale, zero_point=None):
    zero_point = torch.zeros_like(scale) if zero_point is None else zero_point
    return (quantize(s, x, scale, zero_point) - zero_point) * scale


def function(name):
    return lambda s, x: getattr(torch, name)(x)


OPERATORS = {name: function(name) for name in UNARY}
OPERATORS |= {
    "negative": lambda s, x: -x,
    "subtract": lambda s, x, z: x - z,
    "multiply": lambda s, x, z: x * z,
    "divide": lambda s, x, z: x / z,
    "maximum": lambda s, x, z: torch.maximum(x, z),
    "minimum": lambda s, x, z: torch.minimum(x, z),
    "remainder": lambda s, x, z: torch.remainder(x, z),
    "fmod": lambda s, x, z: torch.fmod(x, z),
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
    "einsum": lambda s, *xs: torch.einsum(s["equation"], *xs),
    "reshape": reshape,
    "transpose": lambda s, x: torch.permute(x, s["axes"] or tuple(reversed(range(x.ndim)))),
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "expand": lambda s, x, like=None: torch.broadcast_to(x, torch.broadcast_shapes(x.shape, s["shape"] or like.shape)),
    "tile": lambda s, x: torch.tile(x, s["repeats"]),
    "gather": gather,
    "constant": lambda s, value: value.clone(),
    "is_nan": lambda s, x: torch.isnan(x),
    "is_inf": lambda s, x: (torch.isneginf(x) & s["negative"]) | (torch.isposinf(x) & s["positive"]),
    "logical_not": lambda s, x: ~x,
    "where": lambda s, condition, x, z: torch.where(condition, x, z),
    "as_real": lambda s, x: x if x.dtype.is_floating_point else x.to(torch.float32),
    "as_index": lambda s, x: x.to(torch.int64),
    "as_mask": lambda s, x: x.to(torch.bool),
    "arg_max": place("argmax"),
    "arg_min": place("argmin"),
    "top_k": lambda s, x: torch.topk(x, s["k"] or x.shape[s["axis"]], s["axis"], s["largest"]).values,
    "cumulative_sum": cumulative(torch.cumsum, 0.0),
    "cumulative_product": cumulative(torch.cumprod, 1.0),
    "triangle": lambda s, x: (torch.triu if s["upper"] else torch.tril)(x, s["diagonal"]),
    "one_hot": one_hot,
    "gather_elements": lambda s, x, indices: torch.gather(x, s["axis"], from_start(indices, x.shape[s["axis"]])),
    "scatter_elements": scatter_elements,
    "gather_nd": gather_nd,
    "grid_sample": grid_sample,
    "non_max_suppression": non_max_suppression,
    "scatter_nd": scatter_nd,
    "quantize": quantize,
    "fake_quantize": fake_quantize,
    "arange_like": lambda s, x: s["start"] + s["step"] * torch.arange(x.shape[s["axis"]], dtype=x.dtype),
}
OPERATORS |= {
    name: (lambda torch_name: lambda s, x, z: getattr(torch, torch_name)(x, z))(n) for name, n in COMPARED.items()
}
OPERATORS |= {
    name: (lambda torch_name: lambda s, x, z: getattr(torch, torch_name)(x, z))(name)
    for name in ("logical_and", "logical_or", "logical_xor")
}
