"""Kernels of strategies that take windows as a whole against their references: ties, infinities, NaN, wide ranges of values."""

import numpy as np
import pytest
from support.cases import as_list, first
from support.layouts import channels_last

import cnncore
from cnncore import cpu

TARGETS = [target for target in cpu.targets() if target != "reference"]
# Relative to the largest value of an array. Where a window's cells differ by a part e of themselves, derivatives by learned
# numbers are made of that part, which float32 knows to 1e-7 / e; the rounding of a y that windows share adds up.
LIMIT = {np.float32: 2e-5, np.float64: 2e-12}
NEARLY_CONSTANT = 1e-3


# ── Strategies, their settings and learned numbers ─────────────────────────────────────────────────────────────────────


def some(rng, value, *extents, share=0.25):
    """Random numbers of which some are ``value``."""
    return np.where(rng.random(extents) < share, value, 2 * rng.standard_normal(extents))


def filters(*counts):
    return lambda rng, C, kernel: [rng.standard_normal((C, *count, *kernel)) / 3 for count in counts]


STRATEGIES = {
    "min": ({}, None),
    "median": ({}, None),
    "median mean": ({"even": "mean"}, None),
    "learned_lp": ({}, lambda rng, C, kernel: [2 * rng.standard_normal(C), rng.standard_normal(1) / 2]),
    "mixed": ({}, lambda rng, C, kernel: [np.clip(some(rng, 1, C), 0, 1)]),
    "gated": ({}, lambda rng, C, kernel: [*filters(())(rng, C, kernel), rng.standard_normal(C)]),
    "tree": ({"levels": 3}, filters((4,), (3,))),
    "soft": ({}, None),
    "auto": ({}, lambda rng, C, kernel: [some(rng, 0, C)]),
    "log_sum_exp": ({}, lambda rng, C, kernel: [rng.choice([-2, -0.1, 0.1, 1, 3], C)]),
    "log_sum_exp mean": (
        {"mean": True},
        lambda rng, C, kernel: [some(rng, 0, C) * np.where(rng.random(C) < 0.3, 1e-6, 1)],
    ),
    "gem": ({}, lambda rng, C, kernel: [some(rng, 0, C) + 0.5]),
    "alpha": ({"eps": 0.1}, lambda rng, C, kernel: [rng.choice([-3.0, -1, 0, 1, 3], C)]),
    "ordinal": ({}, lambda rng, C, kernel: [rng.random((C, np.prod(kernel))) + 0.1]),
    "ordinal softmax": ({"softmax": True}, lambda rng, C, kernel: [some(rng, 0, C, np.prod(kernel))]),
    "rank_avg": ({"t": 3}, None),
    "rank_weighted": ({"a": 0.3}, None),
    "rank_weighted maximum": ({"a": 1.0, "normalized": True}, None),
    "dilation": ({}, filters(())),
    "erosion": ({}, filters(())),
}
GEOMETRIES = (
    {"kernel_size": (3, 3), "stride": 2, "padding": 1},
    {"kernel_size": (2, 2), "stride": 1, "dilation": 2, "ceil_mode": True},
    {"kernel_size": (4, 9), "stride": (2, 5)},  # more cells than a run of float32 sums, and than short vectors rank
    {"kernel_size": (8, 9), "stride": 3},  # more than any kernel ranks
)


GATED = ("gated_pool", "tree_pool")  # a rounding error of a large sum, times a gate's slope, would be seen


def image(style, op, rng, shape):
    x, positive = rng.standard_normal(shape), op.name == "alpha_pool"
    if positive:
        x = np.abs(x)
    where = rng.random(shape)
    if style == "ties":
        return np.round(1.5 * x) / 1.5
    if style == "zeros":
        return np.where(where < 0.7, 0.0, x)
    if style == "constant":
        return 0.75 + NEARLY_CONSTANT * (where < 0.1)
    if style == "wide":
        return x * 10.0 ** (rng.uniform(-8, 8, shape) / (8 if op.name in GATED else 1))
    if style == "infinite":
        return np.where(where < 0.04, np.inf, x if positive else np.where(where > 0.96, -np.inf, x))
    if style == "nan":
        return np.where(where < 0.03, 1 if positive else np.nan, x)
    return x


STYLES = ("plain", "ties", "zeros", "constant", "wide", "infinite", "nan")


def results(op, arrays, settings):
    y, backward = op.with_backward(*arrays, **settings)
    y = first(y)
    return [y, *as_list(backward(np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)))]


def compare(found, expected, limit, why):
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        if b is None:
            continue
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b), err_msg=f"{why} {number}")
        finite = np.isfinite(b)
        np.testing.assert_array_equal(a[~finite], b[~finite], err_msg=f"{why} {number}")
        scale = np.abs(b[finite]).max(initial=1e-30)
        assert np.abs(a[finite] - b[finite]).max(initial=0) <= limit * scale, f"{why} {number}"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", STRATEGIES)
def test_kernels_against_definitions(name, style, rng):
    op, (settings, make) = cnncore.pool.operator(name.split()[0]), STRATEGIES[name]
    for geometry, (dtype, limit) in ((g, d) for g in GEOMETRIES for d in LIMIT.items()):
        channels = int(rng.choice([3, 16, 21]))
        x = image(style, op, rng, (2, channels, 11, 13))
        if op.name == "tree_pool" and style in ("infinite", "nan"):
            x[:, :, 4:] = 1  # its gates turn most of what is left into NaN
        learned = [] if make is None else make(rng, channels, geometry["kernel_size"])
        arrays = [a.astype(dtype) for a in (x, *learned)]
        given = {**geometry, **settings}
        with cpu.target("reference"):
            expected = results(op, arrays, given)
        if style == "constant" and dtype is np.float32:
            limit = 30 * 1e-7 / NEARLY_CONSTANT
        for target in TARGETS:
            with cpu.target(target):
                compare(results(op, arrays, given), expected, limit, (target, geometry))
                last = [channels_last(arrays[0]), *arrays[1:]]
                compare(results(op, last, given), expected, limit, (target, geometry, "channels last"))


@pytest.mark.parametrize("name", [name for name, (_, make) in STRATEGIES.items() if make is not None])
def test_gradients_of_learned_numbers_have_the_same_bits_for_any_number_of_threads(name, rng):
    op, (settings, make) = cnncore.pool.operator(name.split()[0]), STRATEGIES[name]
    x = np.abs(rng.standard_normal((3, 37, 33, 34))).astype("f")
    arrays = [x, *(a.astype("f") for a in make(rng, 37, (3, 3)))]
    for layout in (np.ascontiguousarray, channels_last):
        seen = []
        for threads in (1, 2, 3):
            with cnncore.threads(threads):
                seen.append(results(op, [layout(x), *arrays[1:]], {"kernel_size": 3, "stride": 2, **settings}))
        for other in seen[1:]:
            for a, b in zip(seen[0], other, strict=True):
                np.testing.assert_array_equal(a, b)


def test_weights_of_one_cell_among_many(rng):
    """A cell that outweighs ten thousand others together: its sum is near 1, not their number less nearly as many."""
    x = rng.uniform(-60, -45, (1, 19, 101, 103))
    x[:, :, 50, 50] = 0
    for dtype, limit in ((np.float32, 1e-6), (np.float64, 1e-13)):
        for target in cpu.targets():
            with cpu.target(target):
                for mean in (False, True):
                    y, backward = cnncore.global_log_sum_exp_pool.with_backward(x.astype(dtype), mean=mean)
                    exact = -np.log(x[0, 0].size) if mean else 0.0
                    np.testing.assert_allclose(y, exact, rtol=limit, atol=limit)
                    np.testing.assert_allclose(backward(np.ones_like(y))[:, :, 50, 50], 1, rtol=limit)


def test_small_exponents_of_log_sum_exp_keep_their_digits(rng):
    """The mean and half the variance, as r → 0, and the derivative by r in between, where it is a difference of equals."""
    x = rng.standard_normal((1, 16, 3, 3)) / 8
    for dtype, limit in ((np.float32, 1e-5), (np.float64, 1e-12)):
        for r in (0.0, 1e-30, 1e-9, 1e-4, 0.03, 0.1, 0.3, 1.0, -0.1):
            for target in cpu.targets():
                with cpu.target(target):
                    y, backward = cnncore.log_sum_exp_pool.with_backward(
                        x.astype(dtype), np.full(16, r, dtype), kernel_size=3, mean=True
                    )
                    dr = backward(np.ones_like(y))[1]
                t = np.array(r, dtype).astype(np.float64) * (x.astype(dtype) - x.mean((2, 3), keepdims=True))
                # The integral of s times the variance at exponent s r, by Gauss and Legendre: no difference of equals.
                nodes, weights = np.polynomial.legendre.leggauss(24)
                exact = 0
                for s, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
                    w = np.exp(s * t) / np.exp(s * t).sum((2, 3), keepdims=True)
                    centre = (w * x.astype(dtype)).sum((2, 3), keepdims=True)
                    exact = exact + weight * s * (w * (x.astype(dtype) - centre) ** 2).sum((2, 3))
                np.testing.assert_allclose(dr, exact[0], rtol=limit, err_msg=f"{target} {r}")


@pytest.mark.parametrize("p", [1.0001, 1.5, 3.0, -2.0])
def test_small_cells_of_power_means_have_their_share(p):
    """1/n (x / y)^(p − 1), where p is near 1 also of cells far below the largest."""
    x = np.array([1e-12, 1e-6, 1.0, 1e6]).reshape(1, 1, 4)
    for target in cpu.targets():
        with cpu.target(target):
            y, backward = cnncore.gem_pool.with_backward(x, kernel_size=4, p=p, eps=1e-300)
            expected = 0.25 * (x / y) ** (p - 1)
            np.testing.assert_allclose(backward(np.ones_like(y)), expected, rtol=1e-11, err_msg=target)


# ── What is drawn ──────────────────────────────────────────────────────────────────────────────────────────────────────

DRAWING = {
    "stochastic": {},
    "rank_stochastic": {"a": 0.3},
    "max_dropout": {"q": 0.5},
    "max_dropout rarely kept": {"q": 0.97},
}


@pytest.mark.parametrize("style", ["plain", "ties", "zeros", "wide", "infinite", "nan"])
@pytest.mark.parametrize("name", DRAWING)
def test_the_same_cells_are_drawn_whatever_computes(name, style, rng):
    """On every target, in every layout, for any number of threads: y, positions and gradients have the definition's bits."""
    op, settings = cnncore.pool.operator(name.split()[0]), DRAWING[name]
    geometries = (GEOMETRIES[0], GEOMETRIES[1], {"kernel_size": (5, 4), "stride": (2, 1)})
    for number, geometry in enumerate(geometries):
        for dtype in LIMIT:
            x = image(style, op, rng, (2, (3, 16, 21)[number], 9, 75))
            if name == "stochastic":
                x = np.nan_to_num(np.maximum(x, 0), posinf=np.inf)
            x = x.astype(dtype)
            given = {**geometry, **settings, "training": True, "return_state": True, "seed": 2**40 + number}

            def drawn(x, op=op, given=given):
                (y, state), backward = op.with_backward(x, **given)
                return y, state, *as_list(backward(np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)))

            with cpu.target("reference"):
                expected = drawn(x)
            for target, threads in ((target, threads) for target in TARGETS for threads in (1, 2)):
                with cpu.target(target), cnncore.threads(threads):
                    for found in (drawn(x), drawn(channels_last(x))):
                        for a, b in zip(found, expected, strict=True):
                            if b is not None:
                                np.testing.assert_array_equal(a, b, err_msg=f"{target} {geometry}")


def test_positions_of_the_smallest(rng):
    x = np.round(2 * rng.standard_normal((2, 21, 9, 13)))
    x[0, :, 4, 4] = np.nan
    for dtype in LIMIT:
        expected = cnncore.max_pool(-x.astype(dtype), kernel_size=3, stride=2, padding=1, return_indices=True)
        for target in cpu.targets():
            with cpu.target(target):
                for layout in (np.ascontiguousarray, channels_last):
                    y, positions = cnncore.min_pool(
                        layout(x.astype(dtype)), kernel_size=3, stride=2, padding=1, return_indices=True
                    )
                    np.testing.assert_array_equal(y, -expected[0])
                    np.testing.assert_array_equal(positions, expected[1])


# ── The k largest ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", LIMIT)
def test_k_largest_of_many_equals_and_nan(dtype, rng):
    """The first in a stable order from the largest to the smallest, NaN before all others."""
    for L in (1, 2, 5, 17, 112):
        x = np.round(2 * rng.standard_normal((3, 4, 5, L))).astype(dtype)
        where = rng.random(x.shape)
        x = np.where(where < 0.05, np.nan, np.where(where < 0.1, -np.inf, np.where(where > 0.97, np.inf, x)))
        order = np.lexsort((np.broadcast_to(np.arange(L), x.shape), -np.nan_to_num(x, nan=0), ~np.isnan(x)), axis=-1)
        for k in {1, min(3, L), (L + 1) // 2, L}:
            expected = np.sort(order[..., :k], -1)
            y, indices = cnncore.k_max_pool(x, k=k, return_indices=True)
            np.testing.assert_array_equal(indices, expected)
            np.testing.assert_array_equal(y, np.take_along_axis(x, expected, -1))
