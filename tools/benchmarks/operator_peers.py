"""PyTorch's side of every operator of the registry: its operator, or the shortest composition of its operators that computes it.

Each function takes the row's arrays as tensors and the settings with which it is timed (operators.py). Both sides are
compared on small arrays before anything is timed. A row without an entry has no peer: its own time alone is reported.
"""

import importlib
import math

__all__ = ["COMPOSED", "PEERS"]


class Module:
    """A module that is imported when an attribute is first asked for: the table can be listed without PyTorch."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, name):
        return getattr(importlib.import_module(self._name), name)


torch, F = Module("torch"), Module("torch.nn.functional")


def stochastic_pool(x, kernel_size, stride):
    """At test time: every cell weighted by its probability, Σx² / Σx."""
    return F.avg_pool2d(x * x, kernel_size, stride) / F.avg_pool2d(x, kernel_size, stride)


def dsilu(x):
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def straight_through(x):
    """By the detach idiom."""
    line = x.clamp(-1, 1)
    return line + (torch.sign(x) - line).detach()


def sparsemax(x):
    """By sorting, algorithm 1 of the paper."""
    ordered, _ = x.sort(1, descending=True)
    k = torch.arange(1, x.shape[1] + 1, dtype=x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    sums = ordered.cumsum(1)
    support = (1 + k * ordered > sums).sum(1, keepdim=True)
    return (x - (sums.gather(1, support - 1) - 1) / support).clamp(min=0)


def maxout(x, pieces=2):
    return x.unflatten(1, (-1, pieces)).amax(2)


def locally_connected_conv(x, w, b, kernel_size):
    """Every window's column times its own weights."""
    return (torch.einsum("kfp,nfp->nkp", w.flatten(2), F.unfold(x, kernel_size))).unflatten(2, w.shape[2:]) + b


def deformable_conv(x, offset, w, b, mask, padding):
    """Nine times grid_sample, and a 1×1 convolution of what it read."""
    H, W = x.shape[2:]
    rows, columns = torch.arange(H, dtype=x.dtype)[:, None], torch.arange(W, dtype=x.dtype)
    offset, read = offset.unflatten(1, (9, 2)), []
    for t in range(9):
        h, v = rows + t // 3 - padding + offset[:, t, 0], columns + t % 3 - padding + offset[:, t, 1]
        grid = torch.stack([2 * v / (W - 1) - 1, 2 * h / (H - 1) - 1], -1)
        read.append(F.grid_sample(x, grid, align_corners=True) * mask[:, t, None])
    return F.conv2d(torch.cat(read, 1), w.flatten(2).transpose(1, 2).flatten(1)[:, :, None, None], b)


def partial_conv(x, mask, w, b, padding):
    count = F.conv2d(mask, torch.ones(1, 1, *w.shape[2:], dtype=x.dtype), padding=padding)
    share = torch.where(count > 0, w.shape[2] * w.shape[3] / count.clamp(min=1), 0.0)
    return F.conv2d(x * mask, w, padding=padding) * share + b[:, None, None] * (count > 0)


def within_channels(x, size=5, alpha=1e-4, beta=0.75, k=1.0):
    return x * (k + alpha * F.avg_pool2d(x * x, size, 1, size // 2)) ** -beta


def mlpconv(x, w1, b1, w2, b2, w3, b3, padding, nonlinearity):
    h = F.relu(F.conv2d(x, w1, b1, padding=padding))
    return F.relu(F.conv2d(F.relu(F.conv2d(h, w2, b2)), w3, b3))


def inception(x, w1, b1, w3, b3, w5, b5, wr3, br3, wr5, br5, wp, bp):
    def f(h, w, b):
        return F.relu(F.conv2d(h, w, b, padding=w.shape[2] // 2))

    pooled = F.max_pool2d(x, 3, 1, 1)
    return torch.cat([f(x, w1, b1), f(f(x, wr3, br3), w3, b3), f(f(x, wr5, br5), w5, b5), f(pooled, wp, bp)], 1)


# ── Poolings of whole windows, composed ────────────────────────────────────────────────────────────────────────────────


def cells(x, kernel_size, stride):
    """The cells of every window, along an axis behind the channels."""
    extents = [(H - kernel_size) // stride + 1 for H in x.shape[2:]]
    return F.unfold(x, kernel_size, stride=stride).reshape(*x.shape[:2], kernel_size * kernel_size, *extents)


def per_channel(a):
    """A learned number of each channel, or one for all, beside images."""
    return a[:, None, None]


def expanded(weight, x):
    """The weights of a filter for each channel, given for each or for all of them."""
    return weight.expand(x.shape[1], -1, -1)[:, None]


def power_mean(x, p, kernel_size, stride):
    return F.avg_pool2d(x**p, kernel_size, stride) ** (1 / p)


def learned_lp_pool(x, rho, c, kernel_size, stride):
    return power_mean((x - per_channel(c)).abs(), per_channel(1 + F.softplus(rho)), kernel_size, stride)


def mixture(a, x, kernel_size, stride):
    return a * F.max_pool2d(x, kernel_size, stride) + (1 - a) * F.avg_pool2d(x, kernel_size, stride)


def random_mixed_pool(x, kernel_size, stride, frequency=0.5, training=True):
    return mixture((torch.rand(*x.shape[:2], 1, 1) < frequency).to(x.dtype), x, kernel_size, stride)


def gated_pool(x, w, b, kernel_size, stride):
    gate = F.conv2d(x, expanded(w, x), b.expand(x.shape[1]), stride, groups=x.shape[1])
    return mixture(torch.sigmoid(gate), x, kernel_size, stride)


def tree_pool(x, v, w, kernel_size, stride):
    """Two leaves and a gate."""
    C = x.shape[1]
    filters = torch.stack([v[:, 0], v[:, 1], w[:, 0].expand(C, -1, -1)], 1).flatten(0, 1)[:, None]
    left, right, gate = F.conv2d(x, filters, stride=stride, groups=C).unflatten(1, (C, 3)).unbind(2)
    return torch.lerp(right, left, torch.sigmoid(gate))


def expectation(x, alpha, kernel_size, stride):
    """Without the window's largest exponent: it overflows where cnncore does not."""
    weights = torch.exp(alpha * x)
    return F.avg_pool2d(x * weights, kernel_size, stride) / F.avg_pool2d(weights, kernel_size, stride)


def log_sum_exp_pool(x, rs, kernel_size, stride):
    r = per_channel(rs)
    return F.avg_pool2d(torch.exp(r * x), kernel_size, stride, divisor_override=1).log() / r


def ordinal_pool(x, w, kernel_size, stride):
    ordered, _ = cells(x, kernel_size, stride).sort(2, descending=True)
    return (ordered * w[:, :, None, None]).sum(2) / per_channel(w.sum(1))


def rank_weights(n, a, dtype):
    weights = a * (1 - a) ** torch.arange(n, dtype=dtype)
    return (weights / weights.sum())[:, None, None]


def rank_weighted_pool(x, kernel_size, stride, a, normalized):
    ordered, _ = cells(x, kernel_size, stride).sort(2, descending=True)
    return (ordered * rank_weights(ordered.shape[2], a, x.dtype)).sum(2)


def rank_stochastic_pool(x, kernel_size, stride, a=0.5, training=True):
    ordered, _ = cells(x, kernel_size, stride).sort(2, descending=True)
    N, C, n, H, W = ordered.shape
    drawn = torch.multinomial(rank_weights(n, a, x.dtype).flatten(), N * C * H * W, replacement=True)
    return ordered.gather(2, drawn.reshape(N, C, 1, H, W))[:, :, 0]


def max_pool_dropout(x, kernel_size, stride, q=0.5, training=True):
    kept = F.max_pool2d(x.masked_fill(torch.rand_like(x) < q, -math.inf), kernel_size, stride)
    return torch.where(kept == -math.inf, 0.0, kept)


def s3_pool(x, kernel_size, stride, training=True):
    """Maxima of step 1, then one of every ``stride`` rows and columns."""
    y = F.max_pool2d(F.pad(x, (0, kernel_size - 1) * 2, value=-math.inf), kernel_size, 1)
    rows, columns = (torch.arange(0, H, stride) + torch.randint(stride, (-(-H // stride),)) for H in x.shape[2:])
    return y[:, :, rows.clamp(max=x.shape[2] - 1)][..., columns.clamp(max=x.shape[3] - 1)]


def roi_max_pool(x, rois, output_size):
    """Every region by itself."""
    regions = []
    for image, left, top, right, bottom in rois.round().long().tolist():
        region = x[image, :, top : bottom + 1, left : right + 1]
        regions.append(F.adaptive_max_pool2d(region, output_size))
    return torch.stack(regions)


def k_max_pool(x, k):
    """The places of the largest, in their order."""
    return x.gather(-1, x.topk(k, -1).indices.sort(-1).values)


# ── Poolings that are no strategy on windows, composed ─────────────────────────────────────────────────────────────────


def blur(x, size=4, stride=2):
    """A binomial filter per channel on the reflected image."""
    taps = torch.tensor([math.comb(size - 1, k) / 2 ** (size - 1) for k in range(size)], dtype=x.dtype)
    weight = (taps[:, None] * taps).expand(x.shape[1], 1, size, size)
    low, high = (size - 1) // 2, size // 2
    return F.conv2d(F.pad(x, (low, high, low, high), "reflect"), weight, stride=stride, groups=x.shape[1])


def spectral_pool(x, output_size):
    """The low frequencies of a real transform; the pair at the highest one is halved before it is added up."""
    n, H = output_size, x.shape[2]
    bins = torch.fft.rfft2(x, norm="ortho")
    middle = (bins[:, :, n // 2 : n // 2 + 1] + bins[:, :, H - n // 2 : H - n // 2 + 1]) / 2
    rows = torch.cat([bins[:, :, : n // 2], middle, bins[:, :, H - n // 2 + 1 :]], 2)
    return torch.fft.irfft2(rows[..., : n // 2 + 1], (n, n), norm="ortho")


def attention_pool(x, v, w):
    points = x.flatten(2)
    return (points @ torch.softmax(w @ torch.tanh(v @ points), 1)[:, :, None])[:, :, 0]


def covariance_pool(x, iterations=5):
    X = x.flatten(2)
    X = X - X.mean(2, keepdim=True)
    P = X @ X.transpose(1, 2) / X.shape[2]
    eye = torch.eye(P.shape[1], dtype=P.dtype)
    trace = P.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    Y, Z = P / trace, eye
    for _ in range(iterations):
        T = (3 * eye - Z @ Y) / 2
        Y, Z = Y @ T, T @ Z
    rows, columns = torch.triu_indices(P.shape[1], P.shape[1])
    return (trace.sqrt() * Y)[:, rows, columns]


def bilinear_pool(x):
    X = x.flatten(2)
    y = (X @ X.transpose(1, 2)).flatten(1) / X.shape[2]
    return F.normalize(y.sign() * (y.abs() + 1e-10).sqrt())


def net_vlad(x, w, c, b):
    X = x.flatten(2)
    a = torch.softmax(w @ X + b[:, None], 1)
    V = a @ X.transpose(1, 2) - a.sum(2)[:, :, None] * c
    return F.normalize(F.normalize(V, dim=2).flatten(1))


def polyphase_pool(x):
    H, W = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    parts = torch.stack([x[:, :, i:H:2, j:W:2] for i in range(2) for j in range(2)], 1)
    return parts[torch.arange(len(x)), parts.flatten(2).norm(dim=2).argmax(1)]


def roi_align(x, rois, batch_indices, output_size, sampling_ratio):
    """The boxes' images, sampled on a grid, and the mean of each bin."""
    count = output_size * sampling_ratio
    steps = (torch.arange(count, dtype=x.dtype) + 0.5) / count
    first, size = rois[:, None, :2], (rois[:, 2:] - rois[:, :2]).clamp(min=1)[:, None]
    place = 2 * (first + steps[:, None] * size) / (torch.tensor([x.shape[3], x.shape[2]]) - 1) - 1
    grid = torch.stack([place[:, None, :, 0].expand(-1, count, -1), place[:, :, None, 1].expand(-1, -1, count)], -1)
    samples = F.grid_sample(x[batch_indices], grid, padding_mode="border", align_corners=True)
    return F.avg_pool2d(samples, sampling_ratio)


def local_importance_pool(x, logit, kernel_size, stride):
    """Without the window's largest logit: it overflows where cnncore does not."""
    weights = torch.exp(logit)
    return F.avg_pool2d(x * weights, kernel_size, stride) / F.avg_pool2d(weights, kernel_size, stride)


def detail_preserving_pool(x, alpha, lam, kernel_size, stride):
    shape = (*x.shape[:2], kernel_size * kernel_size, -1)
    cells = F.unfold(x, kernel_size, stride=stride).reshape(shape)
    r = (cells - cells.mean(2, keepdim=True)).square() + 1e-3
    alpha, lam = alpha.exp()[:, None, None], lam.exp()[:, None, None]
    weights = alpha + (r / r.mean(2, keepdim=True)) ** lam
    y = (weights * cells).sum(2) / weights.sum(2)
    return y.reshape(*x.shape[:2], (x.shape[2] - kernel_size) // stride + 1, -1)


# PyTorch has the operator, under this or another name.
NAMED = {
    "conv": lambda x, w, b, padding: F.conv2d(x, w, b, padding=padding),
    "conv_transpose": lambda x, w, b, padding: F.conv_transpose2d(x, w, b, padding=padding),
    "linear": lambda x, w, b: F.linear(x, w, b),
    "depthwise_conv": lambda x, w, b, padding: F.conv2d(x, w, b, padding=padding, groups=x.shape[1]),
    "pixel_shuffle": lambda x, factor: F.pixel_shuffle(x, factor),
    "pixel_unshuffle": lambda x, factor: F.pixel_unshuffle(x, factor),
    "unfold": lambda x, kernel_size, padding: F.unfold(x, kernel_size, padding=padding),
    "fold": lambda x, output_size, kernel_size, padding: F.fold(x, output_size, kernel_size, padding=padding),
    "nearest_upsample": lambda x, scale: F.interpolate(x, scale_factor=scale),
    "linear_upsample": lambda x, scale: F.interpolate(x, scale_factor=scale, mode="bilinear"),
    "nll_loss": lambda x, target: F.nll_loss(x, target),
    "binary_cross_entropy": lambda x, target: F.binary_cross_entropy_with_logits(x, target),
    "feature_alpha_dropout": lambda x: F.feature_alpha_dropout(x, training=True),
    "max_pool": lambda x, kernel_size, stride: F.max_pool2d(x, kernel_size, stride),
    "avg_pool": lambda x, kernel_size, stride: F.avg_pool2d(x, kernel_size, stride),
    "sum_pool": lambda x, kernel_size, stride: F.avg_pool2d(x, kernel_size, stride, divisor_override=1),
    "lp_pool": lambda x, kernel_size, stride: F.lp_pool2d(x, 2.0, kernel_size, stride),
    "global_avg_pool": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "global_max_pool": lambda x: F.adaptive_max_pool2d(x, 1).flatten(1),
    "global_lp_pool": lambda x: torch.linalg.vector_norm(x, dim=(2, 3)),
    "max_unpool": lambda x, indices, kernel_size, stride: F.max_unpool2d(x, indices, kernel_size, stride),
    "adaptive_avg_pool": lambda x, output_size: F.adaptive_avg_pool2d(x, output_size),
    "adaptive_max_pool": lambda x, output_size: F.adaptive_max_pool2d(x, output_size),
    "identity": lambda x: x.clone(),
    "relu": lambda x: F.relu(x),
    "leaky_relu": lambda x: F.leaky_relu(x),
    "prelu": lambda x, a: F.prelu(x, a),
    "elu": lambda x: F.elu(x),
    "celu": lambda x: F.celu(x),
    "selu": lambda x: F.selu(x),
    "sigmoid": lambda x: torch.sigmoid(x),
    "log_sigmoid": lambda x: F.logsigmoid(x),
    "tanh": lambda x: torch.tanh(x),
    "hard_sigmoid": lambda x: F.hardsigmoid(x),
    "hard_tanh": lambda x: F.hardtanh(x),
    "clipped_relu": lambda x, max_value: F.hardtanh(x, 0.0, max_value),
    "relu6": lambda x: F.relu6(x),
    "softplus": lambda x: F.softplus(x),
    "softsign": lambda x: F.softsign(x),
    "silu": lambda x: F.silu(x),
    "hard_swish": lambda x: F.hardswish(x),
    "mish": lambda x: F.mish(x),
    "gelu": lambda x: F.gelu(x),
    "sign": lambda x: torch.sign(x),
    "heaviside": lambda x: (x >= 0).to(x.dtype) + 0 * x,
    "tanhshrink": lambda x: F.tanhshrink(x),
    "softshrink": lambda x: F.softshrink(x),
    "hardshrink": lambda x: F.hardshrink(x),
    "threshold": lambda x, threshold, value: F.threshold(x, threshold, value),
    "thresholded_relu": lambda x: F.threshold(x, 1.0, 0.0),
    "exp": lambda x: torch.exp(x),
    "abs": lambda x: torch.abs(x),
    "rrelu": lambda x, training: F.rrelu(x, training=training),
    "glu": lambda x, axis: F.glu(x, axis),
    "softmin": lambda x: F.softmin(x, 1),
    "softmax": lambda x: torch.softmax(x, 1),
    "log_softmax": lambda x: torch.log_softmax(x, 1),
    "batch_norm": lambda x, w=None, b=None: F.batch_norm(x, None, None, w, b, training=True),
    "group_norm": lambda x, w=None, b=None, groups=1: F.group_norm(x, groups, w, b),
    "instance_norm": lambda x, w=None, b=None: F.instance_norm(x, weight=w, bias=b),
    "layer_norm": lambda x, w=None, b=None: F.group_norm(x, 1, w, b),
    "local_response_norm": lambda x: F.local_response_norm(x, 5),
    "dropout": lambda x: F.dropout(x),
    "spatial_dropout": lambda x: F.dropout2d(x),
    "alpha_dropout": lambda x: F.alpha_dropout(x, training=True),
    "concat": lambda *xs: torch.cat(xs, 1),
    "flatten": lambda x: torch.flatten(x, 1).clone(),
    "pad": lambda x, padding: F.pad(x, (padding,) * 4),
    "softmax_cross_entropy": lambda x, target: F.cross_entropy(x, target),
    "mean_squared_error": lambda x, target: F.mse_loss(x, target),
}


# PyTorch has no such operator; this is the shortest way to compute it there.
COMPOSED = {
    "stochastic_pool": stochastic_pool,
    "min_pool": lambda x, kernel_size, stride: -F.max_pool2d(-x, kernel_size, stride),
    "median_pool": lambda x, kernel_size, stride: cells(x, kernel_size, stride).median(2).values,
    "learned_lp_pool": learned_lp_pool,
    "mixed_pool": lambda x, a, kernel_size, stride: mixture(per_channel(a), x, kernel_size, stride),
    "random_mixed_pool": random_mixed_pool,
    "gated_pool": gated_pool,
    "tree_pool": tree_pool,
    "soft_pool": lambda x, kernel_size, stride: expectation(x, 1.0, kernel_size, stride),
    "auto_pool": lambda x, a, kernel_size, stride, alpha: expectation(x, per_channel(a), kernel_size, stride),
    "log_sum_exp_pool": log_sum_exp_pool,
    "gem_pool": lambda x, ps, kernel_size, stride: power_mean(x.clamp(min=1e-6), per_channel(ps), kernel_size, stride),
    "alpha_pool": lambda x, alphas, kernel_size, stride: power_mean(
        x, per_channel((1 - alphas) / 2), kernel_size, stride
    ),
    "ordinal_pool": ordinal_pool,
    "rank_avg_pool": lambda x, kernel_size, stride, t: cells(x, kernel_size, stride).topk(t, 2).values.mean(2),
    "rank_weighted_pool": rank_weighted_pool,
    "rank_stochastic_pool": rank_stochastic_pool,
    "max_pool_dropout": max_pool_dropout,
    "dilation_pool": lambda x, f, kernel_size, stride: (
        cells(x, kernel_size, stride) + f.flatten(1)[:, :, None, None]
    ).amax(2),
    "erosion_pool": lambda x, f, kernel_size, stride: (
        cells(x, kernel_size, stride) - f.flatten(1)[:, :, None, None]
    ).amin(2),
    "fractional_max_pool": lambda x, kernel_size, output_size: F.fractional_max_pool2d(x, kernel_size, output_size),
    "s3_pool": s3_pool,
    "spatial_pyramid_pool": lambda x, levels: torch.cat(
        [F.adaptive_max_pool2d(x, level).flatten(1) for level in levels], 1
    ),
    "roi_max_pool": roi_max_pool,
    "global_gem_pool": lambda x, ps: (x.clamp(min=1e-6) ** per_channel(ps)).mean((2, 3)) ** (1 / ps),
    "global_log_sum_exp_pool": lambda x, rs: torch.logsumexp(per_channel(rs) * x, (2, 3)) / rs,
    "k_max_pool": k_max_pool,
    "blur_pool": blur,
    "max_blur_pool": lambda x, kernel_size, stride: blur(F.max_pool2d(x, kernel_size, 1), 4, stride),
    "wavelet_pool": lambda x: 2 * F.avg_pool2d(x, 2),
    "spectral_pool": spectral_pool,
    "hartley_pool": spectral_pool,
    "attention_pool": attention_pool,
    "strip_pool": lambda x: x.mean(3, keepdim=True) + x.mean(2, keepdim=True),
    "covariance_pool": covariance_pool,
    "bilinear_pool": bilinear_pool,
    "net_vlad": net_vlad,
    "polyphase_pool": polyphase_pool,
    "roi_align": roi_align,
    "local_importance_pool": local_importance_pool,
    "detail_preserving_pool": detail_preserving_pool,
    "swish": lambda x: x * torch.sigmoid(1.0 * x),
    "dsilu": dsilu,
    "scaled_tanh": lambda x: 1.7159 * torch.tanh(2 / 3 * x),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "squareplus": lambda x: (x + torch.sqrt(x * x + 4)) / 2,
    "sparse_plus": lambda x: torch.where(x >= 1, x, (x + 1).clamp(min=0).square() / 4),
    "sparse_sigmoid": lambda x: ((x + 1) / 2).clamp(0, 1),
    "dish": lambda x: x / 2 * (x / torch.sqrt(1 + x * x) + 1),
    "sign_straight_through": straight_through,
    "crelu": lambda x: torch.cat([F.relu(x), F.relu(-x)], 1),
    "sparsemax": sparsemax,
    "hardmax": lambda x: torch.zeros_like(x).scatter(1, x.argmax(1, keepdim=True), 1.0) + 0 * x,
    "maxout": maxout,
    "causal_conv": lambda x, w, b: F.conv1d(F.pad(x, (2, 0)), w, b),
    "flipped_conv": lambda x, w, b, padding: F.conv2d(x, w.flip(2, 3), b, padding=padding),
    "linear_as_conv": lambda x, w, b, image_size: F.conv2d(x, w.reshape(len(w), x.shape[1], image_size, image_size), b),
    "separable_conv": lambda x, w, pointwise, b, padding: F.conv2d(
        F.conv2d(x, w, padding=padding, groups=x.shape[1]), pointwise, b
    ),
    "locally_connected_conv": locally_connected_conv,
    "deformable_conv": deformable_conv,
    "partial_conv": partial_conv,
    "response_norm_within_channel": within_channels,
    "mlpconv": mlpconv,
    "inception": inception,
    "scale": lambda x, w, b: x * w[:, None, None] + b[:, None, None],
    "split": lambda x: x.chunk(2, 1)[0].clone(),
    "slice": lambda x, start: x[:, start:].clone(),
    "add": lambda *xs: sum(xs[1:], xs[0]),
}

PEERS = NAMED | COMPOSED
