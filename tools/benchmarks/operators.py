"""What is timed of every operator of the registry: arrays and settings at a standard size, derived from the row's first case.

Windows become 3×3 with stride 2. SAMPLES holds what the first case does not say well at that size; NOT_TIMED what cannot be
timed, with the reason. A row in neither is timed as its first case has it.
"""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["NOT_TIMED", "SMALL", "STANDARD", "channels_last", "first", "layer_arrays", "output_gradient", "sample"]

STANDARD = (16, 64, 112, 112)
SMALL = (1, 8, 8, 8)

NOT_TIMED = {}  # name → reason


@dataclass(frozen=True)
class Sample:
    """Another shape of x (from the standard one), other settings, other arrays after x, than the row's first case has."""

    shape: object = None
    settings: object = field(default_factory=dict)  # or a function of that shape
    arrays: object = None
    without: tuple = ()  # settings that the case has and the sample has not


def weights(rng, x):
    """3×3 weights from as many channels to as many, and a bias."""
    return rng.standard_normal((x.shape[1], x.shape[1], 3, 3)) / 24, rng.standard_normal(x.shape[1])


def features(rng, x):
    return rng.standard_normal((1000, x.shape[1])) / 32, rng.standard_normal(1000)


def integer_weights(rng, x):
    """3×3 weights of 8 bits from as many channels to as many, their scales, and a bias."""
    C = x.shape[1]
    return rng.integers(-127, 128, (C, C, 3, 3)) * 1.0, np.full(C, 1 / 127 / 24), rng.standard_normal(C)


def integer_features(rng, x):
    return rng.integers(-127, 128, (1000, x.shape[1])) * 1.0, np.full(1000, 1 / 127 / 32), rng.standard_normal(1000)


def row_weights(rng, x):
    """The same along one axis."""
    return rng.standard_normal((x.shape[1], x.shape[1], 3)) / 14, rng.standard_normal(x.shape[1])


def depthwise(rng, x):
    """A 3×3 kernel for every channel, and a bias."""
    return rng.standard_normal((x.shape[1], 1, 3, 3)) / 3, rng.standard_normal(x.shape[1])


def separable(rng, x):
    return (
        depthwise(rng, x)[0],
        rng.standard_normal((x.shape[1], x.shape[1], 1, 1)) / 8,
        rng.standard_normal(x.shape[1]),
    )


def perceptrons(rng, x):
    """mlpconv: 3×3, then twice 1×1, all from as many channels to as many."""
    C = x.shape[1]
    w, b = weights(rng, x)
    return w, b, *(a for _ in range(2) for a in (rng.standard_normal((C, C, 1, 1)) / 8, rng.standard_normal(C)))


def module(rng, x):
    """Inception (3a) of GoogLeNet, its numbers of channels divided by three for x of 64 channels."""
    C = x.shape[1]

    def convolution(outputs, inputs, size):
        return rng.standard_normal((outputs, inputs, size, size)) / size / inputs**0.5, rng.standard_normal(outputs)

    part = max(C // 64, 1) if C >= 64 else C / 64
    one, reduce3, three, reduce5, five, pool = (max(1, round(part * n)) for n in (21, 32, 43, 5, 11, 11))
    sizes = ((one, C, 1), (three, reduce3, 3), (five, reduce5, 5), (reduce3, C, 1), (reduce5, C, 1), (pool, C, 1))
    return tuple(a for size in sizes for a in convolution(*size))


def local_weights(rng, x):
    """Eight 3×3 kernels and biases for every window."""
    output = tuple(H - 2 for H in x.shape[2:])
    return rng.standard_normal((8, x.shape[1] * 9, *output)) / (3 * x.shape[1] ** 0.5), rng.standard_normal(
        (8, *output)
    )


def deformed(rng, x):
    """Offsets, weights, bias and mask of a 3×3 convolution padded by 1."""
    N, _, *output = x.shape
    offset, mask = rng.standard_normal((N, 18, *output)), rng.random((N, 9, *output))
    w, b = weights(rng, x)
    return offset, w, b, mask


def with_holes(rng, x):
    """A mask of one channel that lets three quarters through, weights and bias."""
    return (rng.random((x.shape[0], 1, *x.shape[2:])) < 0.75).astype(np.float64), *weights(rng, x)


def boxes(rng, x):
    """Four boxes per image, of a quarter to a half of its extents."""
    N, _, H, W = x.shape
    size = rng.uniform(0.25, 0.5, (4 * N, 2)) * (W, H)
    first = rng.uniform(0, 1, (4 * N, 2)) * ((W - 1, H - 1) - size)
    return np.concatenate([first, first + size], 1), np.arange(4 * N) // 4


def regions(rng, x):
    """The same as rows of image, left, top, right, bottom in whole cells."""
    corners, image = boxes(rng, x)
    return (np.concatenate([image[:, None], np.floor(corners)], 1),)


def scored(rng, x):
    """A thousand boxes per image for suppression, and the scores of two classes."""
    return (rng.permutation(np.linspace(0.1, 0.9, len(x) * 2 * x.shape[1])).reshape(len(x), 2, x.shape[1]),)


def attention(rng, x):
    return rng.standard_normal((128, x.shape[1])) / x.shape[1] ** 0.5, rng.standard_normal(128) / 11


def clusters(rng, x):
    w, c = rng.standard_normal((2, 64, x.shape[1]))
    return w / x.shape[1] ** 0.5, c, rng.standard_normal(64)


# Strategies that take a window's cells together, on windows that lie in the image: there PyTorch's compositions are shortest.
WHOLE_WINDOWS = (
    *("min_pool", "median_pool", "learned_lp_pool", "mixed_pool", "gated_pool", "tree_pool", "soft_pool", "auto_pool"),
    *("log_sum_exp_pool", "gem_pool", "alpha_pool", "ordinal_pool", "rank_avg_pool", "rank_weighted_pool"),
    *("dilation_pool", "erosion_pool"),
)

SAMPLES = {
    **{name: Sample(without=("padding",)) for name in WHOLE_WINDOWS},
    **{
        name: Sample(settings={"training": True}, without=("padding",))
        for name in ("random_mixed_pool", "rank_stochastic_pool", "max_pool_dropout")
    },
    "fractional_max_pool": Sample(settings=lambda shape: {"kernel_size": 2, "output_size": shape[2] * 7 // 10}),
    "fractional_avg_pool": Sample(settings=lambda shape: {"kernel_size": 2, "output_size": shape[2] * 7 // 10}),
    "spatial_pyramid_pool": Sample(settings={"levels": (1, 2, 4)}),
    "roi_max_pool": Sample(settings={"output_size": 7}, arrays=regions),
    "unfold": Sample(settings={"padding": 1}),
    "fold": Sample(
        shape=lambda shape: (shape[0], shape[1] // 4 * 9, 112 * 112),
        settings={"output_size": (112, 112), "kernel_size": 3, "padding": 1},
    ),
    "locally_connected_conv": Sample(
        shape=lambda shape: (shape[0], shape[1] // 4, shape[2] // 2, shape[3] // 2), arrays=local_weights
    ),
    "deformable_conv": Sample(
        shape=lambda shape: (*shape[:2], shape[2] // 2, shape[3] // 2), settings={"padding": 1}, arrays=deformed
    ),
    "nearest_upsample": Sample(shape=lambda shape: (*shape[:2], shape[2] // 2, shape[3] // 2)),
    "linear_upsample": Sample(shape=lambda shape: (*shape[:2], shape[2] // 2, shape[3] // 2)),
    "partial_conv": Sample(settings={"padding": 1}, arrays=with_holes),
    "non_max_suppression": Sample(
        shape=lambda shape: (shape[0], 1000, 4), settings={"max_output_boxes": 100}, arrays=scored
    ),
    "roi_align": Sample(settings={"output_size": 7, "sampling_ratio": 2}, arrays=boxes),
    "position_sensitive_roi_pool": Sample(arrays=boxes),
    "spectral_pool": Sample(settings=lambda shape: {"output_size": shape[2] // 4 * 2}),
    "hartley_pool": Sample(settings=lambda shape: {"output_size": shape[2] // 4 * 2}),
    "attention_pool": Sample(arrays=attention),
    "net_vlad": Sample(arrays=clusters),
    "depthwise_conv": Sample(settings={"padding": 1}, arrays=depthwise),
    "causal_conv": Sample(shape=lambda shape: (*shape[:2], shape[2] * shape[3]), arrays=row_weights),
    "flipped_conv": Sample(settings={"padding": 1}, arrays=weights),
    "linear_as_conv": Sample(
        settings={"image_size": 7},
        arrays=lambda rng, x: (rng.standard_normal((10, x.shape[1] * 49)) / 56, rng.standard_normal(10)),
    ),
    "separable_conv": Sample(settings={"padding": 1}, arrays=separable),
    "mlpconv": Sample(settings={"padding": 1, "nonlinearity": "relu"}, arrays=perceptrons),
    "inception": Sample(arrays=module),
    "squeeze": Sample(shape=lambda shape: (shape[0], 1, *shape[2:])),
    "expand": Sample(shape=lambda shape: (shape[0], 1, *shape[2:])),
    "pixel_unshuffle": Sample(settings={"factor": 2}),
    "conv": Sample(settings={"padding": 1}, arrays=weights),
    "conv_transpose": Sample(settings={"padding": 1}, arrays=weights),
    "linear": Sample(shape=lambda shape: (shape[0], 16 * shape[1]), arrays=features),
    "quantized_conv": Sample(settings={"padding": 1}, arrays=integer_weights),
    "quantized_linear": Sample(shape=lambda shape: (shape[0], 16 * shape[1]), arrays=integer_features),
    "group_norm": Sample(settings={"groups": 8}),
    "adaptive_avg_pool": Sample(settings={"output_size": 7}),
    "adaptive_max_pool": Sample(settings={"output_size": 7}),
    "clipped_relu": Sample(settings={"max_value": 6.0}),
}


ROLE_VALUES = {  # of a first array that is no real numbers
    "index": lambda x: np.floor(np.abs(x)).astype(np.int64),
    "mask": lambda x: x > 0,
}


DOMAINS = {"positive": (1, 0.05), "unit": (0.98, 0.01), "beyond one": (1, 1.05)}  # a, b of a u + b with u in [0, 1)


def values(rng, shape, domain, dtype):
    """Random numbers in the domain that a case asks for, otherwise from -2 to 2; without copies, x may be of gigabytes."""
    x = rng.random(shape, np.float32).astype(dtype, copy=False)
    factor, addend = DOMAINS.get(domain, (4, -2))
    if factor != 1:
        x *= dtype(factor)
    x += dtype(addend)
    return x


def sample(op, shape, dtype):
    """The arrays and settings with which a row is timed, x of ``shape`` where the row takes images."""
    dtype = np.dtype(dtype).type
    chosen = SAMPLES.get(op.name, Sample())
    case = next((case for case in op.cases if 2 in case.ranks), op.cases[0])
    settings = dict(case.settings)
    if op.group == "pooling" and "kernel_size" in op.settings:
        settings |= {"kernel_size": 3, "stride": 2} if "stride" in op.settings else {"kernel_size": 3}
    settings |= chosen.settings(shape) if callable(chosen.settings) else chosen.settings
    settings = {name: value for name, value in settings.items() if name not in chosen.without}
    shape = shape if chosen.shape is None else chosen.shape(shape)
    rng = np.random.default_rng(0)
    x = values(rng, shape, case.domain, dtype)
    make = chosen.arrays or case.arrays
    rest = () if make is None else make(rng, x)
    if op.name == "where":  # the condition comes first
        condition, *rest = rest
        x, rest = condition, (x, *rest)
    elif op.arrays[0].role in ROLE_VALUES:
        x = ROLE_VALUES[op.arrays[0].role](x)
    return (x, *(a.astype(dtype) if a is not None and a.dtype.kind == "f" else a for a in rest)), settings


def layer_arrays(x, w, dtype):
    """x, w, b of a convolution layer with those shapes."""
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape, np.float32).astype(dtype) for shape in (x, w, (w[0],)))


def first(y):
    """The differentiated output of an operator's result."""
    return y[0] if isinstance(y, tuple) else y


def output_gradient(y):
    """A gradient of y: 1 for a loss."""
    if y.ndim == 0:
        return np.ones((), y.dtype)
    return np.random.default_rng(1).standard_normal(y.shape, np.float32).astype(y.dtype)


def channels_last(x):
    """The same array with channels innermost in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
