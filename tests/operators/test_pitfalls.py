"""Numerical pitfalls, by mechanism: one test per mechanism over all operators that could fall into it.

Every mechanism has its table: the operator's name → what the test needs to know about it, mostly settings. A new operator that
divides, exponentiates, sorts or draws goes into the tables it belongs to. Names in capitals are the tables.
"""

import numpy as np
import pytest
from support.cases import as_list, first

import cnncore
from cnncore.testing import check_adjoint, check_gradient, check_operator

TARGETS = cnncore.cpu.targets()
DTYPES = (np.float32, np.float64)
INF, NAN = np.inf, np.nan


def over(table):
    """One parameter per entry of a table: the operator and what the table says."""
    return pytest.mark.parametrize(
        ("op", "entry"), [pytest.param(cnncore.OPS[key.split()[0]], table[key], id=key) for key in table]
    )


on_every_target = pytest.mark.parametrize("target", TARGETS)


def learned(x, settings):
    """Settings whose arrays of real numbers have x's dtype."""
    return {k: v.astype(x.dtype) if getattr(v, "dtype", None) == np.float64 else v for k, v in settings.items()}


def both(op, *arrays, dy=None, **settings):
    """y and the gradients; dy is 1 everywhere unless given. Learned numbers among the settings get x's dtype."""
    settings = learned(arrays[0], settings)
    y, backward = op.with_backward(*arrays, **settings)
    y = first(y)
    return y, as_list(backward(np.ones_like(y) if dy is None else dy))


# ── A norm of nothing: its derivative is 0·∞ ───────────────────────────────────────────────────────────────────────────

ZERO_NORM = {
    "lp_pool": {"kernel_size": 2},
    "lp_pool p=1.5": {"kernel_size": 2, "p": 1.5},
    "lp_pool p=3 mean": {"kernel_size": 2, "p": 3.0, "mean": True},
    "lp_pool p=inf": {"kernel_size": 2, "p": INF},
    "global_lp_pool": {},
    "global_lp_pool p=1": {"p": 1.0},
    "bilinear_pool": {},
    "covariance_pool": {},
    "learned_lp_pool": {"kernel_size": 2, "rho": np.array([0.3])},
}


@on_every_target
@over(ZERO_NORM)
def test_norm_of_nothing(op, entry, target):
    """All values 0: y = 0 and no gradient; with a value beside the zeros all gradients are finite."""
    for dtype in DTYPES:
        x = np.zeros((1, 2, 4, 4), dtype)
        with cnncore.cpu.target(target):
            y, gradients = both(op, x, **entry)
            assert not np.any(y)
            assert all(not np.any(g) for g in gradients)
            x[0, 0, 0, 0] = 3
            y, gradients = both(op, x, **entry)
        assert np.all(np.isfinite(y)) and np.any(y)
        assert all(np.all(np.isfinite(g)) for g in gradients)


# ── Powers leave the range of the dtype long before their roots do ─────────────────────────────────────────────────────

POWERS = {
    "lp_pool": {"kernel_size": 2},
    "lp_pool p=5": {"kernel_size": 3, "stride": 1, "p": 5.0},
    "lp_pool p=1.5 mean": {"kernel_size": 2, "p": 1.5, "mean": True},
    "global_lp_pool": {},
    "global_lp_pool p=7": {"p": 7.0},
    "gem_pool": {"kernel_size": 2, "eps": 1e-300},
    "gem_pool p=-4": {"kernel_size": 3, "stride": 1, "p": -4.0, "eps": 1e-300},
    "global_gem_pool": {"p": 9.0, "eps": 1e-300},
    "alpha_pool": {"kernel_size": 2, "alpha": -9.0},
    "alpha_pool harmonic": {"kernel_size": 2, "alpha": 3.0},
    "alpha_pool geometric": {"kernel_size": 2, "alpha": 1.0},
}


@on_every_target
@over(POWERS)
def test_powers_that_overflow(op, entry, target, rng):
    """f(c x) = c f(x) for every c, and the gradient does not change: powers of two leave all digits as they are."""
    for dtype, exponent in ((np.float32, 100), (np.float64, 660)):
        x = rng.uniform(0.5, 1.5, (2, 3, 6, 6)).astype(dtype)
        with cnncore.cpu.target(target):
            y, (dx,) = both(op, x, **entry)
            for c in (dtype(2.0) ** exponent, dtype(2.0) ** -exponent):
                big, (same,) = both(op, x * c, **entry)
                np.testing.assert_allclose(big / c, y, rtol=8 * np.finfo(dtype).eps)
                np.testing.assert_allclose(same, dx, rtol=16 * np.finfo(dtype).eps)


# ── A negative number to a power that is no integer ────────────────────────────────────────────────────────────────────

NEGATIVE_BASE = {
    "lp_pool": {"kernel_size": 2, "p": 1.5},
    "lp_pool p=3": {"kernel_size": 2, "p": 3.0},
    "global_lp_pool": {"p": 2.5},
    "learned_lp_pool": {"kernel_size": 2, "rho": np.array([0.3])},
}


@on_every_target
@over(NEGATIVE_BASE)
def test_negative_base(op, entry, target, rng):
    """|x| is what is raised to a power: the sign of x turns the gradient around and nothing else."""
    for dtype in DTYPES:
        x = rng.uniform(0.5, 1.5, (2, 3, 4, 4)).astype(dtype)
        sign = rng.choice([-1, 1], x.shape).astype(dtype)
        with cnncore.cpu.target(target):
            y, (dx, *_) = both(op, x, **entry)
            signed, (turned, *_) = both(op, sign * x, **entry)
        np.testing.assert_array_equal(signed, y)
        np.testing.assert_array_equal(turned, sign * dx)


# ── Exponentials that overflow ─────────────────────────────────────────────────────────────────────────────────────────


def classes(rng, x):
    return (rng.integers(0, x.shape[1], (x.shape[0], *x.shape[2:])),)


def other_images(rng, x):
    return (rng.permuted(x, axis=0),)


def scores(rng, x):
    return (rng.standard_normal((2, x.shape[1])).astype(x.dtype), rng.standard_normal(2).astype(x.dtype))


def clusters(rng, x):
    return tuple(rng.standard_normal((2, 3, x.shape[1])).astype(x.dtype))


EXPONENTIALS = {
    "local_importance_pool": {"kernel_size": 2, "arrays": other_images},
    "attention_pool": {"arrays": scores},
    "net_vlad": {"arrays": clusters},
    "softmax": {},
    "log_softmax": {},
    "softmin": {},
    "sigmoid": {},
    "log_sigmoid": {},
    "softplus": {},
    "softplus beta": {"beta": 7.0},
    "tanh": {},
    "scaled_tanh": {},
    "tanhshrink": {},
    "elu": {},
    "celu": {"alpha": 0.5},
    "selu": {},
    "silu": {},
    "swish": {"beta": -2.0},
    "quick_gelu": {},
    "dsilu": {},
    "mish": {},
    "gelu": {},
    "gelu tanh": {"approximate": "tanh"},
    "glu": {"axis": -1},
    "sparsemax": {},
    "softmax_cross_entropy": {"arrays": classes},
    "binary_cross_entropy": {"arrays": lambda rng, x: (rng.random(x.shape).astype(x.dtype),)},
    "soft_pool": {"kernel_size": 2},
    "auto_pool": {"kernel_size": 2, "alpha": -3.0},
    "log_sum_exp_pool": {"kernel_size": 2},
    "log_sum_exp_pool mean": {"kernel_size": 3, "stride": 2, "padding": 1, "r": 7.0, "mean": True},
    "global_log_sum_exp_pool": {"r": -2.0},
}


@on_every_target
@over(EXPONENTIALS)
def test_exponentials_that_overflow(op, entry, target, rng):
    """Inputs of ±1e4, ±100 and 1e30 give finite y and finite gradients."""
    settings = dict(entry)
    make = settings.pop("arrays", lambda rng, x: ())
    for dtype in DTYPES:
        for size in (100.0, 1e4, 1e30):
            x = (size * rng.choice([-1, 0, 1], (3, 4, 5, 6))).astype(dtype)
            rest = make(rng, x)
            with cnncore.cpu.target(target):
                y, gradients = both(op, x, *rest, **settings)
            assert np.all(np.isfinite(y))
            assert all(np.all(np.isfinite(g)) for g in gradients)


# ── Windows and columns of −∞ ──────────────────────────────────────────────────────────────────────────────────────────

ALL_INFINITE = {
    "spatial_pyramid_pool": {"levels": (1, 2)},
    "max_pool": {"kernel_size": 2},
    "max_pool padded": {"kernel_size": 3, "stride": 2, "padding": 1},
    "adaptive_max_pool": {"output_size": 2},
    "global_max_pool": {},
    "max_blur_pool": {"kernel_size": 2, "stride": 2},
    "maxout": {},
    "fractional_max_pool": {"kernel_size": 2, "output_size": 3},
}


@on_every_target
@over(ALL_INFINITE)
def test_windows_of_minus_infinity(op, entry, target):
    """The maximum of nothing but −∞ is −∞, and its gradient goes to a place that exists."""
    for dtype in DTYPES:
        x = np.full((1, 4, 4, 4), -INF, dtype)
        with cnncore.cpu.target(target):
            y, (dx,) = both(op, x, **entry)
            if "return_indices" in op.settings:
                _, indices = op(x, return_indices=True, **entry)
                assert indices.min() >= 0 and indices.max() < 16
        assert np.all(y == -INF)
        assert dx.sum() == y.size or op.name == "max_blur_pool"
        assert np.all(np.isfinite(dx))


@on_every_target
@pytest.mark.parametrize("mean", [False, True])
def test_log_sum_exp_of_minus_infinity(mean, target):
    """Nothing but −∞: −∞ and no gradient; a finite cell beside it: all of the gradient. ∞ takes it all, equals alike."""
    with cnncore.cpu.target(target):
        for dtype in DTYPES:
            x = np.full((1, 20, 8), -INF, dtype)
            x[..., 3], x[..., 5:] = 1, (INF, INF, 2)
            y, (dx,) = both(cnncore.log_sum_exp_pool, x, kernel_size=2, mean=mean)
            shift = np.log(2) if mean else 0
            np.testing.assert_allclose(y[0, 7], [-INF, 1 - shift, INF, INF], rtol=1e-6)
            np.testing.assert_array_equal(dx[0, 11], [0, 0, 0, 1, 0, 1, 1, 0])
            y, (dx,) = both(cnncore.soft_pool, x, kernel_size=2)
            np.testing.assert_array_equal(y[0, 7], [-INF, 1, INF, INF])
            assert np.isfinite(dx).all()


ORDERS = {
    "gem_pool": ({"kernel_size": 2}, "p"),
    "global_gem_pool": ({}, "p"),
    "log_sum_exp_pool": ({"kernel_size": 2, "mean": True}, "r"),
    "global_log_sum_exp_pool": ({"mean": True}, "r"),
}


@on_every_target
@over(ORDERS)
def test_orders_near_zero(op, entry, target, rng):
    """A mean of an order so small that its products have few digits, or none, is that of order 0."""
    settings, name = entry
    for dtype in DTYPES:
        x = (rng.random((1, 3, 4, 4)) + 0.1).astype(dtype)
        with cnncore.cpu.target(target):
            expected, (dx, *_) = both(op, x, **settings, **{name: 0.0})
            for order in (5e-324, -1e-310, 1e-40, -1e-30):
                y, (found, *_) = both(op, x, **settings, **{name: order})
                np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps)
                np.testing.assert_allclose(found, dx, rtol=1e3 * np.finfo(dtype).eps)


NO_MAXIMUM = {"softmax": {}, "log_softmax": {}, "sparsemax": {}}


@on_every_target
@over(NO_MAXIMUM)
def test_columns_of_minus_infinity(op, entry, target):
    """Nothing but −∞ makes the column NaN, as documented, and no other column."""
    x = np.zeros((2, 3, 4))
    x[1, :, 2] = -INF
    with cnncore.cpu.target(target):
        y, (dx,) = both(op, x, **entry)
    expected = np.zeros((2, 3, 4), bool)
    expected[1, :, 2] = True
    np.testing.assert_array_equal(np.isnan(y), expected)
    np.testing.assert_array_equal(np.isnan(dx), expected)
    assert any("NaN" in edge and "−∞" in edge for edge in op.edges)


# ── 0 · ∞ in activations ───────────────────────────────────────────────────────────────────────────────────────────────

# x → y and slope at −∞ and at ∞
ZERO_TIMES_INFINITY = {
    "silu": ({}, (0, 0), (INF, 1)),
    "swish": ({"beta": 2.0}, (0, 0), (INF, 1)),
    "swish negative": ({"beta": -2.0}, (-INF, 1), (0, 0)),
    "quick_gelu": ({}, (0, 0), (INF, 1)),
    "dsilu": ({}, (0, 0), (1, 0)),
    "hard_swish": ({}, (0, 0), (INF, 1)),
    "gelu": ({}, (0, 0), (INF, 1)),
    "gelu tanh": ({"approximate": "tanh"}, (0, 0), (INF, 1)),
    "mish": ({}, (0, 0), (INF, 1)),
    "dish": ({}, (0, 0), (INF, 1)),
    "squareplus": ({}, (0, 0), (INF, 1)),
    "softsign": ({}, (-1, 0), (1, 0)),
    "sparse_plus": ({}, (0, 0), (INF, 1)),
}


@on_every_target
@over(ZERO_TIMES_INFINITY)
def test_zero_times_infinity(op, entry, target):
    """±∞ give the limits; PyTorch and ONNX Runtime return NaN for several of them."""
    settings, *limits = entry
    for dtype in DTYPES:
        with cnncore.cpu.target(target):
            y, (dx,) = both(op, np.array([-INF, INF], dtype), **settings)
        np.testing.assert_array_equal(y, [limit[0] for limit in limits])
        np.testing.assert_array_equal(dx, [limit[1] for limit in limits])


# ── Cancellation ───────────────────────────────────────────────────────────────────────────────────────────────────────

CANCELLING = {
    "sigmoid": (lambda m, x: 1 / (1 + m.exp(-x)), lambda m, x: 1 / (1 + m.exp(-x)) / (1 + m.exp(x))),
    "tanh": (lambda m, x: m.tanh(x), lambda m, x: m.sech(x) ** 2),
    "tanhshrink": (lambda m, x: x - m.tanh(x), lambda m, x: m.tanh(x) ** 2),
    "softplus": (lambda m, x: m.log1p(m.exp(x)), lambda m, x: 1 / (1 + m.exp(-x))),
    "log_sigmoid": (lambda m, x: -m.log1p(m.exp(-x)), lambda m, x: 1 / (1 + m.exp(x))),
    "elu": (lambda m, x: x if x > 0 else m.expm1(x), lambda m, x: 1 if x > 0 else m.exp(x)),
    "squareplus": (lambda m, x: (x + m.sqrt(x * x + 4)) / 2, lambda m, x: (1 + x / m.sqrt(x * x + 4)) / 2),
    "dish": (
        lambda m, x: x * (1 + x / m.sqrt(1 + x * x)) / 2,
        lambda m, x: (1 + x / m.sqrt(1 + x * x) + x / m.sqrt(1 + x * x) ** 3) / 2,
    ),
    "relu6": (lambda m, x: min(max(x, 0), 6), lambda m, x: int(0 < x < 6)),
}


@on_every_target
@over(CANCELLING)
def test_cancellation(op, entry, target):
    """At ±1e-8, ±20, ±40 and ±1e4, where 1 − y, x − tanh x or x + |x| would lose their digits."""
    mpmath = pytest.importorskip("mpmath")
    for dtype in DTYPES:
        x = np.array([1e-8, -1e-8, 1e-3, -1e-3, 20, -20, 40, -40, 1e4, -1e4], dtype)
        with cnncore.cpu.target(target), mpmath.workdps(120):
            y, (dx,) = both(op, x)
            expected = [np.array([float(f(mpmath, mpmath.mpf(float(v)))) for v in x]) for f in entry]
        for found, exact in zip((y, dx), expected, strict=True):
            unit = np.spacing(np.abs(exact.astype(dtype)))
            assert np.all(np.abs(found.astype(np.float64) - exact) <= 3 * unit.astype(np.float64))


@on_every_target
@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "instance_norm", "layer_norm"])
def test_variance_beside_a_large_mean(name, target, rng):
    """E[x²] − E[x]² would leave nothing of a variance of 1 beside a mean of 1e4 in float32, of 1e8 in float64."""
    op = cnncore.OPS[name]
    for dtype, mean in ((np.float32, 2.0**12), (np.float64, 2.0**27)):
        # Multiples of 1/256 around a power of two: nothing is rounded when the mean is added.
        x = np.round(rng.standard_normal((4, 3, 6, 5)) * 256) / 256
        settings = {"groups": 1} if name == "group_norm" else {}
        with cnncore.cpu.target(target):
            y, _ = both(op, (x + mean).astype(dtype), **settings)
            near, _ = both(op, x.astype(dtype), **settings)
        np.testing.assert_allclose(y, near, atol=2e-5 if dtype == np.float32 else 1e-7)


# ── Shortcuts beyond a threshold ───────────────────────────────────────────────────────────────────────────────────────

SHORTCUTS = {
    "softplus": (lambda m, x: m.log1p(m.exp(x)), [20.1, 25.0, 30.0, 33.0]),
    "mish": (lambda m, x: x * m.tanh(m.log1p(m.exp(x))), [-20.1, -30.0, 10.0, 16.0]),
    "gelu": (lambda m, x: x * m.erfc(-x / m.sqrt(2)) / 2, [-6.1, -8.0, -20.0, 6.1, 7.0, 8.0]),
    "sigmoid": (lambda m, x: 1 / (1 + m.exp(-x)), [-700.0, -40.0, 20.1, 30.0]),
    "tanhshrink": (lambda m, x: x - m.tanh(x), [9.1, 15.0, 18.0]),
}


@on_every_target
@over(SHORTCUTS)
def test_no_shortcut_beyond_a_threshold(op, entry, target):
    """float64 keeps its digits where peers take the limit for the value."""
    mpmath = pytest.importorskip("mpmath")
    f, places = entry
    x = np.array(places)
    with cnncore.cpu.target(target), mpmath.workdps(60):
        y = op(x)
        exact = np.array([float(f(mpmath, mpmath.mpf(v))) for v in places])
    np.testing.assert_array_max_ulp(y, exact, 3)


# ── Knees ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

# settings, then (x, slope) of every knee
AT_KNEES = {
    "relu": ({}, (0, 0)),
    "leaky_relu": ({"negative_slope": 0.25}, (0, 0.25)),
    "elu": ({"alpha": 2.0}, (0, 2)),
    "selu": ({}, (0, 1.7580993408473766)),
    "hard_sigmoid": ({}, (-3, 0), (3, 0)),
    "hard_sigmoid onnx": ({"compat": "onnx"}, (-2.5, 0), (2.5, 0)),
    "hard_tanh": ({}, (-1, 0), (1, 0)),
    "clipped_relu": ({"max_value": 20.0}, (0, 0), (20, 0)),
    "relu6": ({}, (0, 0), (6, 0)),
    "hard_swish": ({}, (-3, 0), (3, 1)),
    "softshrink": ({}, (-0.5, 0), (0.5, 0)),
    "hardshrink": ({}, (-0.5, 0), (0.5, 0)),
    "thresholded_relu": ({}, (1, 0)),
    "threshold": ({"threshold": 0.1, "value": 0.0}, (0.1, 0)),
    "sparse_sigmoid": ({}, (-1, 0), (1, 0)),
    "sign_straight_through": ({}, (-1, 1), (1, 1)),
    "rrelu": ({"lower": 0.25, "upper": 0.5}, (0, 0.375)),
    "abs": ({}, (0, 0)),
}


@on_every_target
@over(AT_KNEES)
def test_slopes_at_knees(op, entry, target):
    """The subgradient at a knee is the one that is documented, exactly, and not a mean of both sides."""
    settings, *knees = entry
    for dtype in DTYPES:
        x, slopes = np.array(knees, dtype).T
        with cnncore.cpu.target(target):
            _, (dx,) = both(op, x, **settings)
        np.testing.assert_array_equal(dx, slopes.astype(dtype))


@on_every_target
def test_slope_of_prelu_at_its_knee(target):
    with cnncore.cpu.target(target):
        _, (dx, da) = both(cnncore.prelu, np.zeros((1, 2, 3)), np.array([0.25, 0.5]))
    np.testing.assert_array_equal(dx, [[[0.25] * 3, [0.5] * 3]])
    np.testing.assert_array_equal(da, [0, 0])


# ── Ties ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

TIES = {
    "spatial_pyramid_pool": {"levels": (1, 2, 3)},
    "max_pool": {"kernel_size": 2},
    "max_pool overlapping": {"kernel_size": 3, "stride": 1},
    "max_pool padded": {"kernel_size": 3, "stride": 2, "padding": 1},
    "max_pool dilated": {"kernel_size": 2, "stride": 1, "dilation": 2},
    "adaptive_max_pool": {"output_size": 3},
    "global_max_pool": {},
    "maxout": {"pieces": 3},
    "maxout two": {"pieces": 2},
    "polyphase_pool": {},
    "polyphase_pool three": {"stride": 3},
    "min_pool": {"kernel_size": 2},
    "min_pool padded": {"kernel_size": 3, "stride": 2, "padding": 1},
    "median_pool": {"kernel_size": 3, "stride": 1},
    "median_pool even": {"kernel_size": 2},
    "fractional_max_pool": {"kernel_size": 2, "output_size": 4},
    "fractional_max_pool parts": {"output_ratio": 0.7, "overlapping": False, "mode": "random"},
    "rank_weighted_pool": {"kernel_size": 2, "a": 1.0},
    "rank_avg_pool": {"kernel_size": 2, "t": 1},
    "ordinal_pool": {"kernel_size": 2, "w": np.eye(1, 4)},
    "dilation_pool": {"kernel_size": 2, "f": np.zeros((1, 2, 2))},
    "erosion_pool": {"kernel_size": 2, "f": np.zeros((1, 2, 2))},
    "k_max_pool": {"k": 2},
}


@on_every_target
@over(TIES)
def test_ties_have_one_winner(op, entry, target, rng):
    """All values equal: every window hands its gradient to one place, none is lost or doubled."""
    for dtype in DTYPES:
        x = np.ones((2, 6, 6, 6), dtype)
        with cnncore.cpu.target(target):
            y = op(x, **learned(x, entry))
            dy = rng.integers(1, 9, y.shape).astype(dtype)
            _, (dx, *_) = both(op, x, dy=dy, **entry)
        assert dx.sum() == dy.sum()
        assert np.all(dx == np.round(dx))
        assert np.count_nonzero(dx) <= y.size


@on_every_target
def test_ties_of_hardmax(target):
    with cnncore.cpu.target(target):
        for axis in range(3):
            y = cnncore.hardmax(np.zeros((3, 4, 5)), axis=axis)
            assert np.all(y.sum(axis) == 1) and np.all(np.take(y, 0, axis) == 1)


# ── NaN ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

KEEPS_NAN = {
    "spatial_pyramid_pool": {"levels": (1, 2)},
    "max_pool": {"kernel_size": 2},
    "max_pool overlapping": {"kernel_size": 3, "stride": 1, "padding": 1},
    "avg_pool": {"kernel_size": 2},
    "sum_pool": {"kernel_size": 3, "stride": 2},
    "lp_pool": {"kernel_size": 2},
    "adaptive_max_pool": {"output_size": 2},
    "adaptive_avg_pool": {"output_size": 3},
    "global_max_pool": {},
    "global_avg_pool": {},
    "global_lp_pool": {},
    "max_blur_pool": {"filter_size": 3},
    "blur_pool": {},
    "wavelet_pool": {},
    "maxout": {},
    "min_pool": {"kernel_size": 2},
    "median_pool": {"kernel_size": 3, "stride": 2},
    "soft_pool": {"kernel_size": 2},
    "log_sum_exp_pool": {"kernel_size": 2},
    "mixed_pool": {"kernel_size": 2, "a": np.array([0.5])},
    "gated_pool": {"kernel_size": 2, "w": np.ones((1, 2, 2))},
    "rank_weighted_pool": {"kernel_size": 2},
    "ordinal_pool": {"kernel_size": 2, "w": np.ones((1, 4))},
    "dilation_pool": {"kernel_size": 2, "f": np.zeros((1, 2, 2))},
    "erosion_pool": {"kernel_size": 2, "f": np.zeros((1, 2, 2))},
    "fractional_max_pool": {"kernel_size": 2, "output_size": 3},
    "fractional_avg_pool": {"output_ratio": 0.7, "overlapping": False},
    "learned_lp_pool": {"kernel_size": 2, "rho": np.array([0.3])},
    "gem_pool": {"kernel_size": 2},
}


@on_every_target
@over(KEEPS_NAN)
def test_nan_in_every_place(op, entry, target, rng):
    """A NaN in any place and channel shows in all results that see it, and in no others."""
    for dtype in DTYPES:
        x = rng.standard_normal((1, 4, 5, 5)).astype(dtype)
        settings = learned(x, entry)
        with cnncore.cpu.target(target):
            plain = op(x, **settings)
            for place in np.ndindex(4, 5, 5):
                special = x.copy()
                special[(0, *place)] = NAN
                # Who sees the place is found out by making it large, and by making it small.
                sees = False
                for value in (1e4, -1e4):
                    moved = x.copy()
                    moved[(0, *place)] = value
                    sees = sees | (op(moved, **settings) != plain)
                assert np.array_equal(np.isnan(op(special, **settings)), sees), place


# ── Sentinels in place of −∞ ───────────────────────────────────────────────────────────────────────────────────────────


@on_every_target
@over(ALL_INFINITE)
def test_no_sentinel_wins(op, entry, target):
    """The smallest finite number is greater than −∞ and no maximum of anything else."""
    for dtype in DTYPES:
        smallest = -np.finfo(dtype).max
        x = np.full((1, 4, 4, 4), -INF, dtype)
        x[0, 1, 3, 3] = smallest
        with cnncore.cpu.target(target):
            y = op(x, **entry)
        if op.name != "max_blur_pool":  # which goes on and takes means
            assert np.count_nonzero(y == smallest) >= 1
        assert np.all((y == smallest) | (y == -INF))


# ── Empty windows ──────────────────────────────────────────────────────────────────────────────────────────────────────

REFUSED_WINDOWS = {
    "max_pool": {"kernel_size": 2, "padding": 1, "dilation": 6},
    "avg_pool": {"kernel_size": 9},
    "lp_pool": {"kernel_size": 7},
}


@over(REFUSED_WINDOWS)
def test_windows_without_a_pixel_are_refused(op, entry):
    """When shapes are worked out, by an error, and not by −∞ or 0/0 in a result."""
    with pytest.raises(cnncore.CnnError):
        op(np.zeros((1, 1, 4, 4)), **entry)


@on_every_target
def test_a_ceil_window_never_lies_outside(target):
    """Every ceil_mode window has a pixel to divide by."""
    with cnncore.cpu.target(target):
        for size in range(3, 12):
            for kernel in (2, 3):
                for padding in range(kernel // 2 + 1):
                    for include in (False, True):
                        x = np.ones((1, 1, size, size))
                        settings = {"kernel_size": kernel, "stride": 3, "padding": padding, "ceil_mode": True}
                        y, (dx,) = both(cnncore.avg_pool, x, count_include_pad=include, **settings)
                        assert np.all(np.isfinite(y)) and np.all(np.isfinite(dx))
                        assert include or np.all(np.abs(y - 1) < 1e-15)


def test_a_loss_of_ignored_pixels_only():
    """Nothing to average: 0 and no gradient, not 0/0."""
    x = np.zeros((1, 3, 2, 2))
    target = np.full((1, 2, 2), -100)
    for op in (cnncore.softmax_cross_entropy, cnncore.nll_loss):
        loss, (dx,) = both(op, x, target)
        assert loss == 0 and not dx.any()


@on_every_target
def test_a_partial_convolution_of_nothing(target, rng):
    """No pixel of a window is known: 0 and no gradient, not the ratio of a number to 0; NaN in holes does not show."""
    x, w, b = np.full((1, 2, 4, 4), NAN), rng.standard_normal((3, 2, 2, 2)), np.ones(3)
    with cnncore.cpu.target(target):
        for mask in (np.zeros((1, 2, 4, 4)), np.zeros((1, 1, 4, 4))):
            y, gradients = both(cnncore.partial_conv, x, mask, w, b)
            assert not y.any() and not any(g.any() for g in gradients)


def test_empty_bins_of_regions():
    """Regions that miss the image, wholly or in part: 0 and no gradient, with every strategy that has no weights of places."""
    x = np.random.default_rng(0).uniform(0.5, 1.5, (1, 2, 4, 4))
    rois = np.array([[0.0, 10, 10, 12, 12], [0.0, 2, 2, 9, 9]])
    for (strategy, windows), op in cnncore.pool.pairs.items():
        if windows != "roi":
            continue
        arrays = [np.full(1, 0.5) for row in op.arrays if row.name in ("a", "rho")]
        y, gradients = both(op, x, rois, *arrays, output_size=2)
        assert not y[0].any() and not y[1, :, 1].any() and not y[1, :, :, 1].any() and y[1, :, 0, 0].all(), strategy
        assert all(np.isfinite(g).all() for g in gradients)
        assert not gradients[0][:, :, :2].any() and not gradients[0][..., :2].any()


# ── Windows between pixels ─────────────────────────────────────────────────────────────────────────────────────────────


def test_adaptive_windows_are_worked_out_in_integers():
    """⌊i H / out⌋ … ⌈(i + 1) H / out⌉ for every pair of sizes up to 60: no window is one pixel off by rounding."""
    for size in range(1, 61):
        x = np.arange(size, dtype=float)[None, None]
        for count in range(1, 61):
            y = cnncore.adaptive_max_pool(x, output_size=count)[0, 0]
            low = -cnncore.adaptive_max_pool(-x, output_size=count)[0, 0]
            assert y.tolist() == [-(-(i + 1) * size // count) - 1 for i in range(count)]
            assert low.tolist() == [i * size // count for i in range(count)]


@pytest.mark.parametrize("name", ["fractional_max_pool", "fractional_avg_pool"])
@pytest.mark.parametrize("mode", ["pseudorandom", "random"])
def test_fractional_windows_do_not_depend_on_the_dtype(name, mode):
    """Where they begin is worked out in float64 for both dtypes; the first begins at 0, the last ends at the end."""
    op = cnncore.OPS[name]
    for size in range(5, 40, 3):
        for count in {size // 2 + 1, 2 * size // 3, size - 1}:
            settings = {"output_size": count, "mode": mode, "overlapping": False, "return_state": True, "seed": size}
            x = np.arange(float(size))[None, None]
            y, starts = op(x, **settings)
            again, same = op(x.astype(np.float32), **settings)
            assert np.array_equal(starts, same) and np.allclose(y, again, rtol=1e-6)
            begin = np.ravel(starts)
            assert begin[0] == 0 and np.all(np.isin(np.diff([*begin[:count], size]), (1, 2)))
            if name == "fractional_max_pool":
                assert y[0, 0].tolist() == [*(begin[1:count] - 1), size - 1]


# ── Randomness ─────────────────────────────────────────────────────────────────────────────────────────────────────────

RANDOM = [name for name, op in cnncore.OPS.items() if "return_state" in op.settings]


@on_every_target
@pytest.mark.parametrize("name", RANDOM)
def test_random_operators_can_be_replayed(name, target):
    """One seed, one result; another seed, another; a drawn state gives the same y and the same gradient again."""
    op = cnncore.OPS[name]
    case = next(case for case in op.cases if {**op.settings, **case.settings}.get("training", True))
    rank = case.ranks[-1]
    x, *rest = case.but(spatial=case.spatial + 4, batch=4, arrays=None).sample(rank)
    settings = {**case.settings, "return_state": True}
    if "training" in op.settings:
        settings["training"] = True
    with cnncore.cpu.target(target):
        (y, state), backward = op.with_backward(x, *rest, **settings)
        dy = np.random.default_rng(1).standard_normal(y.shape)
        dx = as_list(backward(dy))[0]
        again, same = op(x, *rest, **settings)
        assert np.array_equal(y, again) and np.array_equal(state, same)
        (replayed, kept), backward = op.with_backward(x, *rest, state=state, **{**settings, "seed": 77})
        assert np.array_equal(replayed, y) and np.array_equal(kept, state)
        assert np.array_equal(as_list(backward(dy))[0], dx)
        if settings.get("p") not in (0, 1):
            assert any(not np.array_equal(op(x, *rest, **{**settings, "seed": seed})[1], state) for seed in (1, 2, 3))
        if "training" in op.settings:
            calm = {**settings, "training": False, "return_state": False}
            one, two = (op(x, *rest, **{**calm, "seed": seed}) for seed in (0, 5))
            assert np.array_equal(one, two)


def test_every_random_operator_returns_its_state():
    assert [name for name, op in cnncore.OPS.items() if "seed" in op.settings] == RANDOM


# ── Accumulation ───────────────────────────────────────────────────────────────────────────────────────────────────────


@on_every_target
def test_sums_of_many_small_numbers(target, rng):
    """2²⁰ numbers near 0.1 in float32: sums in float32 are 1e-4 off, these are rounded once."""
    x = (0.1 + 1e-3 * rng.standard_normal((1, 1, 1024, 1024))).astype(np.float32)
    exact = x.astype(np.float64).mean()
    eps = np.finfo(np.float32).eps
    with cnncore.cpu.target(target):
        assert abs(cnncore.global_avg_pool(x)[0, 0] - exact) <= eps * exact
        assert abs(cnncore.adaptive_avg_pool(x, output_size=1)[0, 0, 0, 0] - exact) <= 4 * eps * exact
        y = cnncore.batch_norm(x)
        std = x.astype(np.float64).std()
        assert abs(y.astype(np.float64).mean()) < 1e-5 and abs(y.astype(np.float64).std() - 1) < 0.5 * 1e-5 / std**2
        loss = cnncore.mean_squared_error(x, np.zeros_like(x))
        assert abs(loss - (x.astype(np.float64) ** 2).mean()) <= 2 * eps * loss


@on_every_target
def test_losses_of_many_values(target, rng):
    """The mean of 2²⁰ losses in float32 is rounded once."""
    x, t = rng.standard_normal((1, 1, 1024, 1024)).astype(np.float32), rng.random((1, 1, 1024, 1024)).astype(np.float32)
    exact = (np.logaddexp(0, x.astype(np.float64)) - x.astype(np.float64) * t).mean()
    with cnncore.cpu.target(target):
        assert abs(cnncore.binary_cross_entropy(x, t) - exact) <= 2 * np.finfo(np.float32).eps * exact


@on_every_target
def test_gradient_of_a_bias_over_many_pixels(target, rng):
    """db of a convolution is a sum over all pixels of all images, in blocks: added one after the other they are 1e-3 off."""
    x = np.zeros((2, 1, 512, 512), np.float32)
    dy = (0.1 + 1e-3 * rng.standard_normal((2, 1, 512, 512))).astype(np.float32)
    with cnncore.cpu.target(target):
        _, (_, _, db) = both(cnncore.conv, x, np.zeros((1, 1, 1, 1), np.float32), np.zeros(1, np.float32), dy=dy)
    exact = dy.astype(np.float64).sum()
    assert abs(db[0] - exact) <= 1e-5 * exact
    assert abs(np.cumsum(dy)[-1] - exact) > 1e-4 * exact


# ── Asymmetry ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def weights(out, into, size):
    return lambda rng: (rng.standard_normal((out, into, size, size)), rng.standard_normal(out))


ASYMMETRIC = {
    "conv": ({"padding": "same_upper", "stride": 2}, weights(3, 2, 4)),
    "conv lower": ({"padding": "same_lower", "stride": 3}, weights(3, 2, 2)),
    "conv pairs": ({"padding": ((0, 2), (3, 1)), "dilation": 2}, weights(3, 2, 2)),
    "conv reflected": ({"padding": ((0, 3), (2, 1)), "padding_mode": "reflect"}, weights(3, 2, 2)),
    "conv replicated": ({"padding": "same_upper", "stride": 2, "padding_mode": "replicate"}, weights(3, 2, 4)),
    "conv circular": ({"padding": ((3, 0), (1, 2)), "padding_mode": "circular", "stride": 2}, weights(3, 2, 3)),
    "conv_transpose": ({"stride": 3, "output_padding": 2, "padding": 1}, weights(2, 2, 3)),
    "depthwise_conv": ({"padding": ((2, 0), (0, 1)), "stride": 2}, weights(4, 1, 3)),
    "flipped_conv": ({"padding": ((0, 2), (3, 1)), "dilation": 2}, weights(3, 2, 2)),
    "unfold": ({"kernel_size": (2, 3), "padding": ((0, 2), (3, 1)), "stride": 2}, None),
    "linear_upsample": ({"scale": (2.5, 3)}, None),
    "linear_upsample corners": ({"size": (7, 11), "coordinates": "align_corners"}, None),
    "nearest_upsample": ({"size": (11, 13)}, None),
    "avg_pool": ({"kernel_size": 2, "stride": 3, "padding": "same_upper"}, None),
    "sum_pool": ({"kernel_size": 4, "stride": 3, "padding": "same_lower"}, None),
    "pad": ({"padding": ((1, 3), (0, 2)), "mode": "reflect"}, None),
    "pad symmetric": ({"padding": ((4, 1), (2, 3)), "mode": "symmetric"}, None),
    "pad circular": ({"padding": ((1, 4), (3, 0)), "mode": "circular"}, None),
    "pad replicate": ({"padding": ((2, 0), (0, 5)), "mode": "replicate"}, None),
    "blur_pool": ({"filter_size": 4}, None),
    "blur_pool replicate": ({"filter_size": 6, "stride": 3, "padding_mode": "replicate"}, None),
    "wavelet_pool": ({"levels": 2}, None),
    "spectral_pool": ({"output_size": (4, 3)}, None),
    "spectral_pool forward": ({"output_size": (3, 4), "norm": "forward"}, None),
    "hartley_pool": ({"output_size": (2, 4)}, None),
    "hartley_pool crop": ({"output_size": (4, 2), "nyquist": "crop"}, None),
}


@over(ASYMMETRIC)
def test_forward_and_backward_are_adjoint(op, entry, rng):
    """⟨A x, dy⟩ = ⟨x, Aᵀ dy⟩, with more at one side than at the other, for even and odd extents."""
    settings, make = entry
    for extents in ((5, 6), (6, 7), (8, 5)):
        check_adjoint(op, rng.standard_normal((2, 2, *extents)), *(make(rng) if make else ()), **settings)


@pytest.mark.parametrize("size", [2, 4, 5])
def test_even_neighbourhood_of_channels(size, rng):
    """More channels before than after: in the gradient it is the other way around."""
    for op in (cnncore.local_response_norm, cnncore.response_norm_within_channel):
        check_gradient(op, rng.standard_normal((1, 6, 3, 2)), size=size, alpha=0.7, beta=0.6)


# ── Samples on pixels ──────────────────────────────────────────────────────────────────────────────────────────────────


@on_every_target
def test_samples_that_fall_on_pixels(target, rng):
    """Bilinear samples at whole coordinates are the pixels themselves, the last ones included: no neighbour takes part."""
    x = rng.standard_normal((1, 2, 6, 6))
    with cnncore.cpu.target(target):
        # Bins of one pixel whose single sample lies in their middle, on a pixel's centre.
        y = cnncore.roi_align(
            x, np.array([[0.0, 0.0, 6.0, 6.0]]), np.array([0]), output_size=6, sampling_ratio=1, aligned=True
        )
    np.testing.assert_allclose(y[0], x[0], rtol=1e-15)


@on_every_target
def test_interpolation_and_deformed_windows_at_whole_positions(target, rng):
    """Pixels themselves, exactly; what has no weight does not show; the derivative is that of the cell to the right."""
    x, w = rng.standard_normal((1, 2, 4, 5)), np.ones((2, 1, 1, 1))
    with cnncore.cpu.target(target):
        corners = cnncore.linear_upsample(x, size=(7, 13), coordinates="align_corners")
        np.testing.assert_array_equal(corners[:, :, ::2, ::3], x)
        x[0, 0, 1, 2] = NAN
        offset = np.zeros((1, 2, 4, 5))
        offset[0, 0] = 1
        y, (_, doffset, _) = both(cnncore.deformable_conv, x, offset, w, groups=2)
    np.testing.assert_array_equal(y[:, :, :-1], x[:, :, 1:])
    assert not y[:, :, -1].any()
    below = np.concatenate([x[0, :, 2:], np.zeros((2, 1, 5))], axis=1)
    np.testing.assert_allclose(doffset[0, 0, :-1], (below - x[0, :, 1:]).sum(axis=0), rtol=1e-14)
    assert not doffset[0, 0, -1].any()


# ── Probabilities that are none ────────────────────────────────────────────────────────────────────────────────────────


@on_every_target
def test_probabilities_that_are_none(target):
    """Negative or NaN: refused. A window of zeros: 0 and no gradient. The last cell can be drawn, and none after it."""
    with cnncore.cpu.target(target):
        for bad in (-1.0, NAN):
            x = np.ones((1, 1, 4, 4))
            x[0, 0, 1, 1] = bad
            for training in (False, True):
                with pytest.raises(cnncore.CnnError):
                    cnncore.stochastic_pool(x, kernel_size=2, training=training)
        y, (dx,) = both(cnncore.stochastic_pool, np.zeros((1, 1, 4, 4)), kernel_size=2)
        assert not y.any() and not dx.any()
        x = np.zeros((1, 1, 2, 2))
        x[0, 0, 1, 1] = 1
        for seed in range(50):
            y, state = cnncore.stochastic_pool(x, kernel_size=2, training=True, seed=seed, return_state=True)
            assert y == 1 and state == 3


# ── Running statistics ─────────────────────────────────────────────────────────────────────────────────────────────────


@on_every_target
def test_statistics_of_a_single_value(target):
    """One value per channel: variance 0, y = 0; nothing is divided by m − 1 = 0."""
    for dtype in DTYPES:
        x = np.array([[3.0, -2.0]], dtype)
        with cnncore.cpu.target(target):
            y, (dx,) = both(cnncore.batch_norm, x)
        assert not y.any() and np.all(np.isfinite(dx))


# ── Estimators that are no derivatives ─────────────────────────────────────────────────────────────────────────────────


def test_straight_through_says_that_it_is_no_gradient():
    """The row says why it is not checked, its documentation says so, and the check would refuse it."""
    op = cnncore.sign_straight_through
    assert op.proof != "gradient" and "not the derivative" in op.gradient
    assert all(row.checked == op.proof for row in check_operator(op.name))
    with pytest.raises(cnncore.GradientError):
        check_gradient(op, np.array([0.3, -0.4]))
