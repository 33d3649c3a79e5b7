"""Normalisation, losses, joins, shape and random operators: what the catalogue-derived tests cannot know."""

import numpy as np
import pytest

import cnncore
from cnncore.ops import random

# ── Random numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("counter", "key", "block"),
    [  # known answers published with the Random123 library
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter, key, block):
    def words(text):
        return tuple(int(word, 16) for word in text.split())

    assert random.philox_block(words(counter), words(key)) == words(block)


def test_uniform_depends_on_seed_and_position_alone():
    whole, part = np.empty(1000), np.empty(300)
    random.fill_uniform(7, 0, whole)
    random.fill_uniform(7, 451, part)
    np.testing.assert_array_equal(part, whole[451:751])
    random.fill_uniform(8, 0, part)
    assert not np.any(part == whole[:300])
    random.fill_uniform(2**63 + 7, 2**34, part)  # neither high word is dropped
    assert not np.any(part == whole[:300])


def test_uniform_is_uniform():
    u = np.empty(200_000)
    random.fill_uniform(0, 0, u)
    assert u.min() >= 0 and u.max() < 1
    counts = np.histogram(u, bins=100, range=(0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 148.2  # χ², 99 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.01


# ── Layouts, targets, threads ──────────────────────────────────────────────────────────────────────────────────────────

LAYOUTS = {
    "planes": lambda a: np.ascontiguousarray(a),
    "channels last": lambda a: channels_last(a),
    "slice of channels last": lambda a: slice_of(channels_last, a),
    "slice of planes": lambda a: slice_of(np.ascontiguousarray, a),
    "every other row": lambda a: every_other_row(a),
}


def channels_last(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def slice_of(layout, a):
    """``a`` as the middle channels of a larger array, as a branch lies in a concatenation."""
    N, C, *spatial = a.shape
    whole = layout(np.full((N, C + 5, *spatial), np.nan, a.dtype))
    whole[:, 2 : 2 + C] = a
    return whole[:, 2 : 2 + C]


def every_other_row(a):
    """``a`` with rows that do not follow each other: its cells are no single axis."""
    whole = np.full((*a.shape[:2], 2 * a.shape[2], *a.shape[3:]), np.nan, a.dtype)
    whole[:, :, ::2] = a
    return whole[:, :, ::2]


def passes(op, arrays, settings, layout):
    """y, extras and gradients with x, dy, y and dx in ``layout``, as the plan of a graph calls a kind."""
    x, *rest = arrays
    arrays, call = op.bind((layout(x), *rest), settings)
    y, extras, saved = op.kind.forward(call, arrays, layout(np.full(call.output, np.nan, call.dtype)))
    dy = layout(np.cos(np.arange(y.size, dtype=call.dtype) * 3).reshape(y.shape))
    wanted = op.wanted(arrays)
    out = [layout(np.full(x.shape, np.nan, call.dtype)), *(None for _ in rest)]
    gradients = op.kind.backward(call, saved, dy, wanted, out)
    return [np.array(a) for a in (y, *extras, *gradients) if a is not None]


KERNEL_CASES = {
    "batch_norm": lambda C, r: (("batch_norm", per_channel(C, r, 4)), {"return_statistics": True}),
    "batch_norm outside training": lambda C, r: (("batch_norm", per_channel(C, r, 4)), {"training": False}),
    "layer_norm": lambda C, r: (("layer_norm", per_channel(C, r, 2)), {}),
    "instance_norm": lambda C, r: (("instance_norm", per_channel(C, r, 2)), {"eps": 0.1}),
    "lrn": lambda C, r: (("local_response_norm", ()), {"alpha": 0.7}),
    "lrn even": lambda C, r: (("local_response_norm", ()), {"size": 4, "alpha": 2.0, "beta": 0.5, "k": 0.3}),
    "lrn one": lambda C, r: (("local_response_norm", ()), {"size": 1, "alpha": 2.0, "beta": 1.0}),
    "lrn wide": lambda C, r: (("local_response_norm", ()), {"size": 21, "alpha": 3.0, "beta": 0.3}),
}


def per_channel(channels, rng, count):
    return tuple(rng.uniform(0.5, 2, channels) for _ in range(count))


@pytest.mark.parametrize("name", KERNEL_CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_against_definitions(name, layout, dtype):
    """Every target, every number of channels and cells around the vectors' lengths."""
    for C, H, W in ((1, 3, 5), (2, 1, 1), (3, 8, 9), (5, 1, 64), (8, 4, 4), (17, 5, 13), (33, 3, 7), (70, 11, 6)):
        rng = np.random.default_rng(C)
        (op, rest), settings = KERNEL_CASES[name](C, rng)
        op = cnncore.OPS[op]
        arrays = [a.astype(dtype) for a in (rng.standard_normal((3, C, H, W)) + 3, *rest)]
        with cnncore.cpu.target("definition"):
            expected = passes(op, arrays, settings, LAYOUTS[layout])
        for target in cnncore.cpu.targets()[1:]:
            with cnncore.cpu.target(target):
                results = passes(op, arrays, settings, LAYOUTS[layout])
            for result, right in zip(results, expected, strict=True):
                bound = 32 * np.finfo(dtype).eps * max(np.abs(right).max(), 1)
                np.testing.assert_allclose(result, right, rtol=0, atol=bound, err_msg=f"{target} {(C, H, W)}")


def test_large_planes_are_cut_into_blocks():
    """More cells than a block holds, in every layout: statistics are those of numpy."""
    x = np.random.default_rng(0).standard_normal((2, 3, 150, 151)) + 100
    for layout in LAYOUTS.values():
        y, mean, variance, *_ = passes(
            cnncore.batch_norm,
            [x, None, None, np.zeros(3), np.zeros(3)],
            {"return_statistics": True, "momentum": 1.0},
            layout,
        )
        np.testing.assert_allclose(mean, x.mean((0, 2, 3)), rtol=1e-13)
        np.testing.assert_allclose(variance, x.var((0, 2, 3), ddof=1), rtol=1e-12)
        np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-12)


@pytest.mark.parametrize("name", ["batch_norm", "lrn", "layer_norm"])
def test_bits_do_not_depend_on_threads(name):
    rng = np.random.default_rng(0)
    (op, rest), settings = KERNEL_CASES[name](40, rng)
    arrays = [a.astype("float32") for a in (rng.standard_normal((5, 40, 31, 33)), *rest)]
    for layout in (np.ascontiguousarray, channels_last):
        results = []
        for threads in (1, 2, 3, 7):
            with cnncore.threads(threads):
                results.append(passes(cnncore.OPS[op], arrays, settings, layout))
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(a, b)


# ── Normalisation ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_batch_norm_running_statistics():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3, 5)) * 2 + 1
    mean, variance = rng.standard_normal(3), rng.uniform(1, 2, 3)
    given = mean.copy(), variance.copy()
    _, new_mean, new_variance = cnncore.batch_norm(x, None, None, mean, variance, momentum=0.3, return_statistics=True)
    np.testing.assert_allclose(new_mean, 0.7 * mean + 0.3 * x.mean((0, 2)), rtol=1e-13)
    np.testing.assert_allclose(new_variance, 0.7 * variance + 0.3 * x.var((0, 2), ddof=1), rtol=1e-13)
    np.testing.assert_array_equal((mean, variance), given)
    # Left out, they are the 0 and 1 of a new layer.
    _, new_mean, new_variance = cnncore.batch_norm(x, return_statistics=True)
    np.testing.assert_allclose(new_mean, 0.1 * x.mean((0, 2)), rtol=1e-13)
    np.testing.assert_allclose(new_variance, 0.9 + 0.1 * x.var((0, 2), ddof=1), rtol=1e-13)


def test_batch_norm_of_one_value_per_channel():
    x, b = np.array([[3.0, -2.0]]), np.array([5.0, 7.0])
    y, mean, variance = cnncore.batch_norm(x, None, b, np.zeros(2), np.full(2, 4.0), return_statistics=True)
    np.testing.assert_array_equal(y, [b])
    np.testing.assert_allclose(mean, 0.1 * x[0], rtol=1e-15)
    np.testing.assert_array_equal(variance, [4.0, 4.0])


def test_batch_norm_of_no_images():
    y, backward = cnncore.batch_norm.with_backward(np.empty((0, 3, 4)), np.ones(3), np.ones(3), return_statistics=True)
    y, mean, variance = y
    assert y.shape == (0, 3, 4)
    np.testing.assert_array_equal(mean, np.zeros(3))
    np.testing.assert_array_equal(variance, np.ones(3))
    dx, dw, db = backward(np.empty((0, 3, 4)))
    assert dx.shape == (0, 3, 4)
    np.testing.assert_array_equal((dw, db), np.zeros((2, 3)))


@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_last])
def test_batch_norm_far_from_zero(layout):
    """E[x²] − E[x]² would leave nothing of a variance of 1 at 10⁴ in float32."""
    x = layout((np.random.default_rng(0).standard_normal((8, 3, 12, 12)) + 1e4).astype("float32"))
    exact = x.astype("float64")
    y, backward = cnncore.batch_norm.with_backward(x)
    right, exact_backward = cnncore.batch_norm.with_backward(exact)
    np.testing.assert_allclose(y, right, atol=2e-6)
    np.testing.assert_allclose(backward(y), exact_backward(right), atol=1e-5)


def test_batch_norm_needs_running_statistics_outside_training():
    with pytest.raises(cnncore.SettingError, match="running_var is missing"):
        cnncore.batch_norm(np.zeros((2, 3)), running_mean=np.zeros(3), training=False)
    with pytest.raises(cnncore.ShapeError, match=r"w has shape \(4,\); input \(2, 3\) has 3 channels"):
        cnncore.batch_norm(np.zeros((2, 3)), np.zeros(4))


def test_lrn_of_even_size_counts_one_more_channel_before():
    x = np.zeros((1, 6))
    x[0, 2] = 1
    s = x[0] / cnncore.local_response_norm(x + 1e-9, size=4, alpha=4.0, beta=1.0)[0]
    counted = [c for c in range(6) if abs(1e-9 / cnncore.local_response_norm(x + 1e-9, 4, 4.0, 1.0)[0, c] - 2) < 1e-6]
    assert counted == [1, 3, 4]  # channel 2 counts itself: 1 … 4 see it
    assert abs(s[2] - 2) < 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_last])
def test_lrn_of_values_whose_squares_overflow(dtype, layout):
    large = 1e30 if dtype == "float32" else 1e200
    x = np.random.default_rng(0).standard_normal((2, 20, 9, 9))
    x[1, :, 4:] *= large  # some blocks with, some without
    x = layout(x.astype(dtype))
    y, backward = cnncore.local_response_norm.with_backward(x)
    dx = backward(np.ones_like(x))
    assert np.isfinite(y).all() and np.isfinite(dx).all()
    q = 1 / large  # (q² s)^−β q^2β = s^−β
    squares = np.pad((q * x.astype("float64")) ** 2, ((0, 0), (2, 2), (0, 0), (0, 0)))
    s = q * q + 1e-4 / 5 * sum(squares[:, i : i + 20] for i in range(5))
    right = np.where(np.abs(x).max(axis=1, keepdims=True) > 1e15, x * np.maximum(s, 1e-300) ** -0.75 * q**1.5, y)
    np.testing.assert_allclose(y, right, rtol=1e-5 if dtype == "float32" else 1e-13)


def test_lrn_nan_stays_with_its_neighbours():
    for target in cnncore.cpu.targets():
        with cnncore.cpu.target(target):
            for lane in range(40):
                x = np.ones((1, 40, 3, 1), "float32")
                x[0, lane, 1] = np.nan
                nan = np.isnan(cnncore.local_response_norm(channels_last(x)))
                assert not nan[:, :, [0, 2]].any()
                np.testing.assert_array_equal(nan[0, :, 1, 0], np.abs(np.arange(40) - lane) <= 2)
