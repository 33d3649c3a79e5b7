"""What PyTorch's operators make of the arrays of ours: operator's name → a function of its settings and arrays as tensors.

Where PyTorch has no such operator, it is the shortest composition of those that it has; the derivative is PyTorch's own.
"""

import itertools
import math

import torch

from ....operators.registry import OPS
from . import arrays, poolings
from .windows import functional, outputs, pad, pairs_of, per_axis, unfolded, window_settings

F = torch.nn.functional


# ── Convolution ────────────────────────────────────────────────────────────────────────────────────────────────────────


def conv(s, x, w, b=None):
    rank = x.ndim - 2
    stride, dilation = per_axis(s["stride"], rank), per_axis(s["dilation"], rank)
    pairs = pairs_of(s["padding"], x.shape[2:], w.shape[2:], stride, dilation)
    mode = s["padding_mode"].replace("zeros", "constant")
    return functional("conv", rank)(pad(x, pairs, mode=mode), w, b, stride, 0, dilation, s["groups"])


def causal_conv(s, x, w, b=None):
    (dilation,) = per_axis(s["dilation"], 1)
    x = F.pad(x, (dilation * (w.shape[2] - 1), 0))
    return F.conv1d(x, w, b, s["stride"], 0, dilation, s["groups"])


def linear_as_conv(s, x, w, b=None):
    """Every window flattened, and a linear layer on it."""
    rank = x.ndim - 2
    size, stride = per_axis(s["image_size"], rank), per_axis(s["stride"], rank)
    for axis in range(rank):
        x = x.unfold(2 + axis, size[axis], stride[axis])
    output = x.shape[2 : 2 + rank]
    x = x.movedim(
        1, 1 + rank if s["order"] == "channels_first" else -1
    )  # (N, *output, C, *size) or (N, *output, *size, C)
    return F.linear(x.reshape(x.shape[0], *output, -1), w, b).movedim(-1, 1)


def conv_transpose(s, x, w, b=None):
    rank = x.ndim - 2
    padding, extra = s["padding"], s["output_padding"]
    if isinstance(
        padding, str
    ):  # the whole result, cut to H·s: what the convolution from H·s to H would pad is cut off
        whole = functional("conv_transpose", rank)(x, w, b, s["stride"], 0, 0, s["groups"], s["dilation"])
        for axis in range(rank):
            H, k, step, d = (
                x.shape[2 + axis],
                w.shape[2 + axis],
                per_axis(s["stride"], rank)[axis],
                per_axis(s["dilation"], rank)[axis],
            )
            ((low, _),) = pairs_of(padding, [H * step], [k], [step], [d])
            whole = whole.narrow(2 + axis, low, H * step)
        return whole
    return functional("conv_transpose", rank)(x, w, b, s["stride"], padding, extra, s["groups"], s["dilation"])


def separable_conv(s, x, w, pointwise, b=None):
    plain = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
    return conv(plain, conv({**s, "groups": x.shape[1]}, x, w), pointwise, b)


def window_slices(s, extents, kernel):
    """For every cell of the windows the index into the padded image that holds it, and the numbers of windows."""
    rank = len(kernel)
    stride, dilation = per_axis(s["stride"], rank), per_axis(s["dilation"], rank)
    pairs = pairs_of(s["padding"], extents, kernel, stride, dilation)
    counts = [
        (H + low + high - d * (k - 1) - 1) // step + 1
        for H, (low, high), k, step, d in zip(extents, pairs, kernel, stride, dilation, strict=True)
    ]
    indices = []
    for tap in itertools.product(*map(range, kernel)):
        index = [slice(None), slice(None)]
        for t, d, step, n in zip(tap, dilation, stride, counts, strict=True):
            index.append(slice(t * d, t * d + (n - 1) * step + 1, step))
        indices.append(tuple(index))
    return pairs, counts, indices


def unfold(s, x):
    rank = x.ndim - 2
    kernel = per_axis(s["kernel_size"], rank)
    if rank == 2 and isinstance(s["padding"], int):
        return F.unfold(x, kernel, s["dilation"], s["padding"], s["stride"])
    pairs, _, indices = window_slices(s, x.shape[2:], kernel)
    x = pad(x, pairs)
    return torch.stack([x[index] for index in indices], 2).flatten(3).flatten(1, 2)


def fold(s, x):
    size = s["output_size"] if hasattr(s["output_size"], "__len__") else (s["output_size"],) * 2
    kernel = per_axis(s["kernel_size"], len(size))
    if len(size) == 2:
        return F.fold(x, size, kernel, s["dilation"], s["padding"], s["stride"])
    pairs, counts, indices = window_slices(s, size, kernel)
    x = x.unflatten(1, (-1, len(indices))).unflatten(3, counts)
    total = 0
    for tap, index in enumerate(indices):
        image = torch.zeros(
            *x.shape[:2], *(H + low + high for H, (low, high) in zip(size, pairs, strict=True)), dtype=x.dtype
        )
        image[index] = x[:, :, tap]
        total = total + image
    for axis, (H, (low, _)) in enumerate(zip(size, pairs, strict=True)):
        total = total.narrow(2 + axis, low, H)
    return total


def locally_connected_conv(s, x, w, b=None):
    """A product of every window's column with that window's weights."""
    groups, output = s["groups"], w.shape[2:]
    columns = unfold({**s, "padding": pairs_of(s["padding"], x.shape[2:], *[[1] * (x.ndim - 2)] * 3)}, x)
    columns = columns.unflatten(1, (groups, -1))
    kernels = w.flatten(2).unflatten(0, (groups, -1))
    y = torch.einsum("gkfo,ngfo->ngko", kernels, columns).flatten(1, 2).unflatten(2, output)
    return y if b is None else y + (b if b.ndim > 1 else per_channel(b, x))


def deformable_conv(s, x, offset, w, b=None, mask=None):
    """Every cell of the windows by grid_sample, whose zeros padding interpolates with zeros outside."""
    H, W = x.shape[2:]
    (sh, sw), (dh, dw), (ph, pw) = (per_axis(s[name], 2) for name in ("stride", "dilation", "padding"))
    kh, kw = w.shape[2:]
    G, (rows, columns) = s["offset_groups"], offset.shape[2:]
    offset = offset.unflatten(1, (G, kh * kw, 2))
    mask = torch.ones_like(offset[:, :, :, 0]) if mask is None else mask.unflatten(1, (G, kh * kw))
    groups = x.unflatten(1, (G, -1))
    y = 0
    for t in range(kh * kw):
        h = torch.arange(rows)[:, None] * sh - ph + t // kw * dh + offset[:, :, t, 0]
        v = torch.arange(columns) * sw - pw + t % kw * dw + offset[:, :, t, 1]
        parts = []
        for g in range(G):
            grid = torch.stack([2 * v[:, g] / (W - 1) - 1, 2 * h[:, g] / (H - 1) - 1], -1)
            sampled = F.grid_sample(groups[:, g], grid, mode="bilinear", padding_mode="zeros", align_corners=True)
            parts.append(sampled * mask[:, g, t, None])
        kernel = w[:, :, t // kw, t % kw, None, None]
        y = y + F.conv2d(torch.cat(parts, 1), kernel, groups=s["groups"])
    return y if b is None else y + per_channel(b, x)


def partial_conv(s, x, mask, w, b=None):
    mask = mask.detach().expand_as(x)
    plain = {**s, "padding_mode": "zeros"}
    count = conv(plain, mask, torch.ones_like(w))
    ratio = torch.where(count > 0, w[0].numel() / count.clamp(min=1), 0.0)
    y = conv(plain, x * mask, w) * ratio
    return y if b is None else y + per_channel(b, x) * (count > 0)


def mlpconv(s, x, w1, b1, w2, b2, w3, b3):
    f = {"relu": F.relu, "tanh": torch.tanh, "silu": F.silu}[s["nonlinearity"]]
    plain = {"dilation": 1, "groups": 1, "padding_mode": "zeros"}
    h = f(conv({**s, **plain}, x, w1, b1))
    for w, b in ((w2, b2), (w3, b3)):
        h = f(functional("conv", x.ndim - 2)(h, w, b))
    return h


def inception(s, x, w1, b1, w3, b3, w5, b5, wr3=None, br3=None, wr5=None, br5=None, wp=None, bp=None):
    def f(h, w, b):
        return F.relu(functional("conv", x.ndim - 2)(h, w, b, padding=w.shape[2] // 2))

    pooled = functional("max_pool", x.ndim - 2)(x, 3, 1, 1)
    if not s["reduction"]:
        return torch.cat([f(x, w1, b1), f(x, w3, b3), f(x, w5, b5), pooled], 1)
    return torch.cat([f(x, w1, b1), f(f(x, wr3, br3), w3, b3), f(f(x, wr5, br5), w5, b5), f(pooled, wp, bp)], 1)


# ── Pooling ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def max_pool(s, x):
    padding = s["padding"]
    # PyTorch's rule for the padding leaves out the dilation along one axis.
    if isinstance(padding, int) and 2 * padding <= min(per_axis(s["kernel_size"], x.ndim - 2)):
        return functional("max_pool", x.ndim - 2)(
            x, s["kernel_size"], s["stride"], padding, s["dilation"], s["ceil_mode"]
        )
    return unfolded(s, x, -math.inf).amax(-1)


def avg_pool(s, x):
    padding, rank = s["padding"], x.ndim - 2
    divisor = s["divisor_override"]
    if isinstance(padding, int) and s["dilation"] == 1 and rank == 2:
        return F.avg_pool2d(x, s["kernel_size"], s["stride"], padding, s["ceil_mode"], s["count_include_pad"], divisor)
    total = unfolded(s, x).sum(-1)
    if divisor:
        return total / divisor
    if s["count_include_pad"] and not s["ceil_mode"]:
        return total / math.prod(window_settings(s, x)[0])
    inside = torch.ones_like(x)
    if s["count_include_pad"]:  # padding counts; what ceil_mode needs beyond it does not
        inside = pad(inside, window_settings(s, x)[3], 1.0)
        return total / unfolded({**s, "padding": 0}, inside, counts=outputs(s, x)).sum(-1)
    return total / unfolded(s, inside).sum(-1)


def lp(cells, counts, p, mean):
    if math.isinf(p):
        return cells.abs().amax(-1)
    total = cells.abs().pow(p).sum(-1)
    return (total / counts if mean else total).pow(1 / p)


def lp_pool(s, x):
    counts = unfolded(s, torch.ones_like(x)).sum(-1)
    return lp(unfolded(s, x), counts, s["p"], s["mean"])


def stochastic_pool(s, x, state=None):
    if not s["training"]:
        cells = unfolded(s, x)
        return (cells**2).sum(-1) / cells.sum(-1)
    if state is None:  # what it draws is judged elsewhere: here, what it makes of it
        state = torch.from_numpy(OPS["stochastic_pool"](x.detach().numpy(), **{**s, "return_state": True})[1])
    return x.flatten(2).gather(2, state.flatten(2)).reshape(state.shape)


def max_unpool(s, x, indices):
    rank = x.ndim - 2
    if s["compat"] == "onnx":
        indices = indices % (indices.amax((0, 1)).numel() * 2**rank)  # through all planes: 2×… windows, stride 2
    if s["duplicates"] == "add" or len(indices.flatten(2)[0, 0].unique()) < indices[0, 0].numel():
        # PyTorch writes any of several values, and gives the gradient to all of them.
        sizes = [(H - 1) * s["stride"] + s["kernel_size"] for H in x.shape[2:]]
        i, values = indices.flatten(2), x.flatten(2)
        if s["duplicates"] == "last":
            later = (i[..., :, None] == i[..., None, :]) & torch.ones(i.shape[-1], i.shape[-1]).triu(1).bool()
            values = torch.where(later.any(-1), 0, values)
        return torch.zeros(*x.shape[:2], math.prod(sizes), dtype=x.dtype).scatter_add(2, i, values).unflatten(2, sizes)
    return functional("max_unpool", rank)(
        x, indices, s["kernel_size"], s["stride"], s["padding"], s["output_size"] and list(s["output_size"])
    )


def flat_windows(x):
    return x.flatten(2)


def keep(s, y, x):
    return y.reshape(*y.shape[:2], *[1] * (x.ndim - 2)) if s["keepdims"] else y


# Strategies that PyTorch does not have, as the shortest composition of its operators.


def cells_of(s, x, fill=0.0):
    """The cells of every window along a last axis, what lies outside the image holding ``fill``, and which lie inside."""
    if "kernel_size" not in s:
        return x.flatten(2), torch.ones_like(x.flatten(2), dtype=torch.bool)
    return unfolded(s, x, fill), unfolded(s, torch.ones_like(x)) > 0


def of_channel(p, cells):
    """Learned numbers (C or 1, …) beside the cells (N, C, *output, cells)."""
    return p.reshape(1, len(p), *[1] * (cells.ndim - 3), -1)


def pooled(function):
    """A pooling from ``function(s, cells, inside, *learned)``, cells outside the image being 0."""

    def oracle(s, x, *learned):
        cells, inside = cells_of(s, x)
        y = function(s, cells, inside, *(p if p is None else of_channel(p, cells) for p in learned))
        return keep(s, y, x) if "keepdims" in s else y

    return oracle


def mean(cells, inside):
    return cells.sum(-1) / inside.sum(-1)


def largest(cells, inside):
    return cells.masked_fill(~inside, -math.inf).amax(-1)


def median_pool(s, x):
    cells, _ = cells_of(s, x, math.nan)
    return torch.nanmedian(cells, -1).values if s["even"] == "lower" else torch.nanquantile(cells, 0.5, dim=-1)


def gated(s, cells, inside, w, b=None):
    gate = torch.sigmoid((w * cells).sum(-1) + (0 if b is None else b[..., 0]))
    return gate * largest(cells, inside) + (1 - gate) * mean(cells, inside)


def tree_pool(s, x, v, w):
    cells, _ = cells_of(s, x)
    leaves = [(of_channel(v[:, k], cells) * cells).sum(-1) for k in range(v.shape[1])]
    gates = [torch.sigmoid((of_channel(w[:, k], cells) * cells).sum(-1)) for k in range(w.shape[1])]
    values = [None] * len(gates) + leaves
    for k in reversed(range(len(gates))):
        values[k] = gates[k] * values[2 * k + 1] + (1 - gates[k]) * values[2 * k + 2]
    return values[0]


def softened(cells, inside, alpha):
    return (torch.softmax((alpha * cells).masked_fill(~inside, -math.inf), -1) * cells).sum(-1)


def log_sum_exp(s, cells, inside, rs=None):
    r = s["r"] if rs is None else rs
    total = torch.logsumexp((r * cells).masked_fill(~inside, -math.inf), -1)
    return (total - (inside.sum(-1).to(cells.dtype).log() if s["mean"] else 0)) / (r if rs is None else r[..., 0])


def power_mean(cells, inside, q):
    if not torch.is_tensor(q) and q == 0:
        return torch.exp(mean(cells.masked_fill(~inside, 1.0).log(), inside))
    powers = torch.where(inside, cells.masked_fill(~inside, 1.0).pow(q), 0)
    return mean(powers, inside).pow(1 / (q[..., 0] if torch.is_tensor(q) else q))


def learned_lp(s, cells, inside, rho, c=None):
    return power_mean((cells - (0 if c is None else c)).abs(), inside, 1 + F.softplus(rho))


def in_order(cells, inside):
    """Cells from the largest to the smallest, 0 behind, and their ranks 0, 1, …"""
    ordered = cells.masked_fill(~inside, -math.inf).sort(-1, descending=True).values
    ranks = torch.arange(cells.shape[-1])
    return torch.where(ranks < inside.sum(-1, keepdim=True), ordered, 0), ranks


def ordinal(s, cells, inside, w):
    ordered, ranks = in_order(cells, inside)
    w = torch.where(ranks < inside.sum(-1, keepdim=True), w.exp() if s["softmax"] else w, 0)
    return (w * ordered).sum(-1) / w.sum(-1)


def rank_avg(s, cells, inside):
    ordered, ranks = in_order(cells, inside)
    n = inside.sum(-1, keepdim=True)
    t = torch.minimum(n, torch.full_like(n, s["t"])) if s["t"] else (n + 1) // 2
    return (ordered * (ranks < t)).sum(-1) / t[..., 0]


def rank_weighted(a, normalized):
    def function(s, cells, inside):
        ordered, ranks = in_order(cells, inside)
        weights = a(s) * (1 - a(s)) ** ranks.to(cells.dtype) * (ranks < inside.sum(-1, keepdim=True))
        return (weights * ordered).sum(-1) / (weights.sum(-1) if normalized(s) else 1)

    return function


def selected_or(expectation):
    """The cell that the state says, 0 for −1, or outside training the expectation."""

    def oracle(s, x, state=None):
        if not s["training"]:
            return pooled(expectation)(s, x)
        values = x.flatten(2).gather(2, state.flatten(2).clamp(min=0)).reshape(state.shape)
        return torch.where(state >= 0, values, 0 * values)

    return oracle


def mixed(s, cells, inside, a):
    return a[..., 0] * largest(cells, inside) + (1 - a[..., 0]) * mean(cells, inside)


def random_mixed_pool(s, x, state=None):
    cells, inside = cells_of(s, x)
    share = s["frequency"] if state is None else state.reshape(*state.shape, *[1] * (x.ndim - 2)).to(x.dtype)
    return share * largest(cells, inside) + (1 - share) * mean(cells, inside)


def spatial_pyramid_pool(s, x):
    pool = functional(f"adaptive_{s['strategy']}_pool", x.ndim - 2)
    return torch.cat([pool(x, level).flatten(1) for level in s["levels"]], 1)


STRATEGIES = {
    "min_pool": lambda s, x: unfolded(s, x, math.inf).amin(-1),
    "median_pool": median_pool,
    "learned_lp_pool": pooled(learned_lp),
    "mixed_pool": pooled(mixed),
    "random_mixed_pool": random_mixed_pool,
    "gated_pool": pooled(gated),
    "tree_pool": tree_pool,
    "soft_pool": pooled(lambda s, cells, inside: softened(cells, inside, 1.0)),
    "auto_pool": pooled(lambda s, cells, inside, a=None: softened(cells, inside, s["alpha"] if a is None else a)),
    "log_sum_exp_pool": pooled(log_sum_exp),
    "global_log_sum_exp_pool": pooled(log_sum_exp),
    "gem_pool": pooled(
        lambda s, cells, inside, p=None: power_mean(cells.clamp(s["eps"]), inside, s["p"] if p is None else p)
    ),
    "alpha_pool": pooled(
        lambda s, cells, inside, a=None: power_mean(
            cells + s["eps"], inside, (1 - (s["alpha"] if a is None else a)) / 2
        )
    ),
    "ordinal_pool": pooled(ordinal),
    "rank_avg_pool": pooled(rank_avg),
    "rank_weighted_pool": pooled(rank_weighted(lambda s: s["a"], lambda s: s["normalized"])),
    "rank_stochastic_pool": selected_or(rank_weighted(lambda s: s["a"], lambda s: True)),
    "max_pool_dropout": selected_or(rank_weighted(lambda s: 1 - s["q"], lambda s: False)),
    "dilation_pool": lambda s, x, f: (unfolded(s, x, -math.inf) + of_channel(f, unfolded(s, x))).amax(-1),
    "erosion_pool": lambda s, x, f: (unfolded(s, x, math.inf) - of_channel(f, unfolded(s, x))).amin(-1),
    "spatial_pyramid_pool": spatial_pyramid_pool,
}
STRATEGIES["global_gem_pool"] = STRATEGIES["gem_pool"]


def adaptive(name):
    def pool(s, x):
        return functional(f"adaptive_{name}_pool", x.ndim - 2)(x, s["output_size"])

    return pool


# ── Others ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def swish(s, x, betas=None):
    beta = s["beta"] if betas is None else per_channel(betas, x)
    return x * torch.sigmoid(beta * x)


def per_channel(p, x):
    return p.reshape(-1, *[1] * (x.ndim - 2)) if p.ndim == 1 and x.ndim > 1 else p


def step(x, low, at_zero):
    """Constant pieces, and a derivative that is 0 and not missing."""
    return torch.where(x > 0, 1.0, torch.where(x < 0, low, at_zero)).to(x.dtype) + 0 * x


def straight_through(s, x):
    """torch.sign forward; backward that of the line that is cut off at ±clip, by the detach idiom."""
    line = x if s["clip"] is None else x.clamp(-s["clip"], s["clip"])
    return line + (torch.sign(x) - line).detach()


def rrelu(s, x, slopes=None):
    if not s["training"]:
        return F.rrelu(x, s["lower"], s["upper"], training=False)
    if slopes is None:  # what it draws is judged elsewhere: here, what it makes of it
        slopes = torch.from_numpy(OPS["rrelu"](x.detach().numpy(), **{**s, "return_state": True})[1])
    return torch.where(x > 0, x, slopes * x)


def sparsemax(s, x):
    """Algorithm 1 of the paper in PyTorch's operators."""
    ordered, _ = x.sort(s["axis"], descending=True)
    shape = [1] * x.ndim
    shape[s["axis"]] = -1
    k = torch.arange(1, x.shape[s["axis"]] + 1, dtype=x.dtype).reshape(shape)
    sums = ordered.cumsum(s["axis"])
    support = (1 + k * ordered > sums).sum(s["axis"], keepdim=True)
    tau = (sums.gather(s["axis"], support - 1) - 1) / support
    return (x - tau).clamp(min=0)


def dsilu(s, x):
    g = torch.sigmoid(x)
    return g * (1 + x * (1 - g))


def maxout(s, x):
    return x.unflatten(1, (-1, s["pieces"])).amax(2)


def batch_norm(s, x, w=None, b=None, mean=None, variance=None):
    if s["training"]:
        return F.batch_norm(x, None, None, w, b, True, 0.0, s["eps"])
    return F.batch_norm(x, mean.detach(), variance.detach(), w, b, False, 0.0, s["eps"])


def channel_shuffle_of_values(s, x):
    return F.channel_shuffle(x[..., None], s["groups"])[..., 0]


def layer_norm(s, x, w=None, b=None):
    if s["normalized_shape"] is not None:
        return F.layer_norm(x, s["normalized_shape"], w, b, s["eps"])
    if any(a is not None and a.ndim > 1 for a in (w, b)):
        return F.layer_norm(x, x.shape[1:], w, b, s["eps"])
    y = F.layer_norm(x, x.shape[1:], eps=s["eps"])
    return y * (1 if w is None else per_channel(w, x)) + (0 if b is None else per_channel(b, x))


def local_response_norm(s, x):
    if x.ndim == 2:
        return local_response_norm(s, x[..., None])[..., 0]
    if s["compat"] == "onnx":  # of even sizes the window lies the other way round: that of channels in reverse order
        return F.local_response_norm(x.flip(1), s["size"], s["alpha"], s["beta"], s["k"]).flip(1)
    if s["compat"] == "tf":
        s = {**s, "alpha": s["alpha"] * s["size"]}
    return F.local_response_norm(x, s["size"], s["alpha"], s["beta"], s["k"])


def response_norm_within_channel(s, x):
    n, rank = s["size"], x.ndim - 2
    squares = pad(x * x, [(n // 2, (n - 1) // 2)] * rank)
    return x * (s["k"] + s["alpha"] * functional("avg_pool", rank)(squares, n, 1)) ** -s["beta"]


def padded(s, x):
    kernel = [1] * (x.ndim - 2)
    pairs = pairs_of(s["padding"], x.shape[2:], kernel, kernel, kernel)
    if s["mode"] == "symmetric":  # not in PyTorch: by index
        for axis, (low, high) in enumerate(pairs, 2):
            H = x.shape[axis]
            index = [i % (2 * H) if i % (2 * H) < H else 2 * H - 1 - i % (2 * H) for i in range(-low, H + high)]
            x = x.index_select(axis, torch.tensor(index))
        return x
    return pad(x, pairs, s["value"], s["mode"])


def scale(s, x, w=None, b=None):
    return x * (1 if w is None else per_channel(w, x)) + (0 if b is None else per_channel(b, x))


def slice_(s, x):
    indices = range(x.shape[s["axis"]])[s["start"] : s["stop"] : s["stride"]]
    return x.index_select(s["axis"], torch.tensor(list(indices)))


def split(s, x):
    parts = s["parts"]
    return torch.split(x, -(-x.shape[s["axis"]] // parts) if isinstance(parts, int) else list(parts), s["axis"])[
        s["part"]
    ]


def resampled(x, axis, positions, weight):
    """Along one axis: Σ over pixels of weight(position − pixel) times the pixel, as a product with a matrix."""
    H = x.shape[axis]
    matrix = torch.tensor([[weight(p - i) for i in range(H)] for p in positions], dtype=x.dtype)
    return torch.tensordot(x, matrix, ([axis], [1])).movedim(-1, axis)


def upsample_positions(s, H, axis, rank):
    size = None if s["size"] is None else per_axis(s["size"], rank)[axis]
    scale = None if s["scale"] is None else per_axis(s["scale"], rank)[axis]
    O = size or math.floor(H * scale)
    r = scale or O / H
    return {
        "half_pixel": [(o + 0.5) / r - 0.5 for o in range(O)],
        "align_corners": [o * (H - 1) / max(O - 1, 1) for o in range(O)],
        "asymmetric": [o / r for o in range(O)],
    }[s["coordinates"]]


def nearest_upsample(s, x):
    if s["coordinates"] == "asymmetric" and s["rounding"] == "floor":
        return F.interpolate(x, s["size"], s["scale"], "nearest")
    if s["coordinates"] == "half_pixel" and s["rounding"] == "round_prefer_ceil":
        return F.interpolate(x, s["size"], s["scale"], "nearest-exact")
    choose = {
        "ceil": math.ceil,
        "round_prefer_floor": lambda p: math.ceil(p - 0.5),
    }[s["rounding"]]
    for axis in range(2, x.ndim):
        H = x.shape[axis]
        positions = [min(max(choose(round(p, 9)), 0), H - 1) for p in upsample_positions(s, H, axis - 2, x.ndim - 2)]
        x = x.index_select(axis, torch.tensor(positions))
    return x


def linear_upsample(s, x):
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[x.ndim - 2]
    if s["coordinates"] != "asymmetric":
        return F.interpolate(x, s["size"], s["scale"], mode, s["coordinates"] == "align_corners")
    for axis in range(2, x.ndim):
        H = x.shape[axis]
        positions = [min(max(p, 0), H - 1) for p in upsample_positions(s, H, axis - 2, x.ndim - 2)]
        x = resampled(x, axis, positions, lambda distance: max(0.0, 1 - abs(distance)))
    return x


def nll_loss(s, x, target, weight=None):
    weight = None if weight is None else weight.detach()
    return F.nll_loss(x, target, weight, ignore_index=s["ignore_index"], reduction=s["reduction"])


def pixel_shuffle(s, x):
    rank = x.ndim - 2
    factor = per_axis(s["factor"], rank)
    if s["mode"] == "CRD" and rank == 2 and len({*factor}) == 1:
        return F.pixel_shuffle(x, factor[0])
    if s["mode"] == "CRD":
        x = x.unflatten(1, (-1, *factor)).movedim(1, rank + 1)
    else:
        x = x.unflatten(1, (*factor, -1))
    # (N, *factor, C, *spatial): every factor behind its axis
    order = [0, rank + 1]
    for axis in range(rank):
        order += [rank + 2 + axis, 1 + axis]
    x = x.permute(order)
    for axis in range(rank):
        x = x.flatten(2 + axis, 3 + axis)
    return x


def pixel_unshuffle(s, x):
    rank = x.ndim - 2
    factor = per_axis(s["factor"], rank)
    if s["mode"] == "CRD" and rank == 2 and len({*factor}) == 1:
        return F.pixel_unshuffle(x, factor[0])
    for axis in range(rank):
        x = x.unflatten(2 + 2 * axis, (-1, factor[axis]))
    blocks = [3 + 2 * axis for axis in range(rank)]
    rest = [2 + 2 * axis for axis in range(rank)]
    order = [0, 1, *blocks, *rest] if s["mode"] == "CRD" else [0, *blocks, 1, *rest]
    return x.permute(order).flatten(1, 1 + rank)


def cross_entropy(s, x, target, weight=None):
    weight = None if weight is None else weight.detach()
    by_count = s["compat"] == "tf" and s["reduction"] == "mean" and weight is not None and target.ndim < x.ndim
    loss = F.cross_entropy(
        x,
        target,
        weight,
        ignore_index=s["ignore_index"],
        reduction="sum" if by_count else s["reduction"],
        label_smoothing=s["label_smoothing"],
    )
    return loss / (target != s["ignore_index"]).sum().clamp(min=1) if by_count else loss


def add(s, *xs):
    factors = s["coefficients"] or [1.0] * len(xs)
    return sum(c * x for c, x in zip(factors, xs, strict=True))


OPERATORS = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "depthwise_conv": lambda s, x, w, b=None: conv({**s, "groups": x.shape[1]}, x, w, b),
    "causal_conv": causal_conv,
    "flipped_conv": lambda s, x, w, b=None: conv(s, x, w.flip(tuple(range(2, w.ndim))), b),
    "linear_as_conv": linear_as_conv,
    "separable_conv": separable_conv,
    "unfold": unfold,
    "fold": fold,
    "locally_connected_conv": locally_connected_conv,
    "deformable_conv": deformable_conv,
    "partial_conv": partial_conv,
    "nearest_upsample": nearest_upsample,
    "linear_upsample": linear_upsample,
    "nll_loss": nll_loss,
    "binary_cross_entropy": lambda s, x, target, weight=None, pos_weight=None: F.binary_cross_entropy_with_logits(
        x, target, weight, reduction=s["reduction"], pos_weight=pos_weight
    ),
    "mlpconv": mlpconv,
    "inception": inception,
    "linear": lambda s, x, w, b=None: F.linear(x, w, b),
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "sum_pool": lambda s, x: unfolded(s, x).sum(-1),
    "lp_pool": lp_pool,
    "max_unpool": max_unpool,
    "stochastic_pool": stochastic_pool,
    "global_avg_pool": lambda s, x: keep(s, flat_windows(x).mean(-1), x),
    "global_max_pool": lambda s, x: keep(s, flat_windows(x).max(-1).values, x),
    "global_lp_pool": lambda s, x: keep(s, lp(flat_windows(x), flat_windows(x).shape[-1], s["p"], s["mean"]), x),
    "adaptive_avg_pool": adaptive("avg"),
    "adaptive_max_pool": adaptive("max"),
    "identity": lambda s, x: 1 * x,
    "relu": lambda s, x: F.relu(x),
    "leaky_relu": lambda s, x: F.leaky_relu(x, {None: s["negative_slope"], "tf": 0.2, "caffe": 0.0}[s["compat"]]),
    "prelu": lambda s, x, a: F.prelu(x, a),
    "elu": lambda s, x: F.elu(x, s["alpha"]),
    "celu": lambda s, x: F.celu(x, s["alpha"]),
    "selu": lambda s, x: F.selu(x),
    "sigmoid": lambda s, x: torch.sigmoid(x),
    "log_sigmoid": lambda s, x: F.logsigmoid(x),
    "tanh": lambda s, x: torch.tanh(x),
    "hard_sigmoid": lambda s, x: ((0.2 if s["compat"] == "onnx" else s["alpha"]) * x + s["beta"]).clamp(0, 1),
    "hard_tanh": lambda s, x: F.hardtanh(x, s["min_val"], s["max_val"]),
    "clipped_relu": lambda s, x: x.clamp(0, s["max_value"]),
    "relu6": lambda s, x: F.relu6(x),
    "softplus": lambda s, x: F.softplus(x, s["beta"], 20.0 if s["compat"] == "torch" else math.inf),
    "softsign": lambda s, x: F.softsign(x),
    "silu": lambda s, x: F.silu(x),
    "swish": swish,
    "dsilu": dsilu,
    "hard_swish": lambda s, x: F.hardswish(x),
    "mish": lambda s, x: F.mish(x),
    "gelu": lambda s, x: F.gelu(x, approximate=s["approximate"]),
    "sign": lambda s, x: step(x, -1.0, s["at_zero"]),
    "heaviside": lambda s, x: step(x, 0.0, s["at_zero"]),
    "sign_straight_through": straight_through,
    "scaled_tanh": lambda s, x: s["amplitude"] * torch.tanh(s["steepness"] * x),
    "quick_gelu": lambda s, x: x * torch.sigmoid(1.702 * x),
    "tanhshrink": lambda s, x: F.tanhshrink(x),
    "softshrink": lambda s, x: F.softshrink(x, s["lambd"]),
    "hardshrink": lambda s, x: F.hardshrink(x, s["lambd"]),
    "threshold": lambda s, x: F.threshold(x, s["threshold"], s["value"]),
    "thresholded_relu": lambda s, x: F.threshold(x, s["alpha"], 0.0),
    "squareplus": lambda s, x: (x + torch.sqrt(x * x + s["b"])) / 2,
    "sparse_plus": lambda s, x: torch.where(x <= -1, 0 * x, torch.where(x >= 1, x, (x + 1) ** 2 / 4)),
    "sparse_sigmoid": lambda s, x: ((x + 1) / 2).clamp(0, 1),
    "dish": lambda s, x: x / 2 * (x / torch.sqrt(1 + x * x) + 1),
    "exp": lambda s, x: torch.exp(x),
    "abs": lambda s, x: torch.abs(x),
    "maxout": maxout,
    "rrelu": rrelu,
    "crelu": lambda s, x: torch.cat([F.relu(x), F.relu(-x)], s["axis"]),
    "glu": lambda s, x: F.glu(x, s["axis"]),
    "softmin": lambda s, x: F.softmin(x, s["axis"]),
    "sparsemax": sparsemax,
    "hardmax": lambda s, x: torch.zeros_like(x).scatter(s["axis"], x.argmax(s["axis"], keepdim=True), 1.0) + 0 * x,
    "softmax": lambda s, x: torch.softmax(x, s["axis"]),
    "log_softmax": lambda s, x: torch.log_softmax(x, s["axis"]),
    "batch_norm": batch_norm,
    "group_norm": lambda s, x, w=None, b=None: F.group_norm(x, s["groups"], w, b, s["eps"]),
    "instance_norm": lambda s, x, w=None, b=None: F.group_norm(x, x.shape[1], w, b, s["eps"]),
    "layer_norm": layer_norm,
    "local_response_norm": local_response_norm,
    "response_norm_within_channel": response_norm_within_channel,
    "scale": scale,
    "slice": slice_,
    "split": split,
    "channel_shuffle": lambda s, x: (
        F.channel_shuffle(x, s["groups"]) if x.ndim > 2 else channel_shuffle_of_values(s, x)
    ),
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "concat": lambda s, *xs: torch.cat(xs, s["axis"]),
    "add": add,
    "flatten": lambda s, x: torch.flatten(x, s["start_dim"]),
    "pad": padded,
    "softmax_cross_entropy": cross_entropy,
    "mean_squared_error": lambda s, x, target: (
        F.mse_loss(x, target, reduction=s["reduction"])
        if s["compat"] is None
        else F.mse_loss(x, target, reduction="sum") / (2 * len(x))
    ),
}

OPERATORS |= poolings.OPERATORS | STRATEGIES
OPERATORS |= arrays.OPERATORS
