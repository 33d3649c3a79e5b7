"""Normalisation, losses, joins, shape and random operators: what the registry-derived tests cannot know."""

import numpy as np
import pytest
from support.layouts import channel_slice, channels_last, every_second_row, plane_slice

import cnncore
from cnncore.runtime import random

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
    "planes": np.ascontiguousarray,
    "channels last": channels_last,
    "slice of channels last": channel_slice,
    "slice of planes": plane_slice,
    "every other row": every_second_row,
}


def passes(op, arrays, settings, layout):
    """y, extras and gradients with x, dy, y and dx in ``layout``, as the plan of a graph calls a kind."""
    x, *rest = arrays
    arrays, call = op.bind((layout(x), *rest), settings)
    y, extras, saved = op.implementation.forward(call, arrays, layout(np.full(call.output, np.nan, call.dtype)))
    dy = layout(np.cos(np.arange(y.size, dtype=call.dtype) * 3).reshape(y.shape))
    needs_gradient = op.needs_gradient(arrays)
    out = [layout(np.full(x.shape, np.nan, call.dtype)), *(None for _ in rest)]
    gradients = op.implementation.backward(call, saved, dy, needs_gradient, out)
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
    for C, H, W in (
        (1, 3, 5),
        (2, 1, 1),
        (3, 8, 9),
        (5, 1, 64),
        (8, 4, 4),
        (17, 5, 13),
        (33, 3, 7),
        (70, 11, 6),
        (900, 1, 3),
    ):
        rng = np.random.default_rng(C)
        (op, rest), settings = KERNEL_CASES[name](C, rng)
        op = cnncore.OPS[op]
        arrays = [a.astype(dtype) for a in (rng.standard_normal((3, C, H, W)) + 3, *rest)]
        with cnncore.cpu.target("reference"):
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


def test_batch_norm_of_a_constant_channel():
    x = np.full((2, 1, 3), 7.0)
    y, backward = cnncore.batch_norm.with_backward(x, eps=1e-5)
    np.testing.assert_array_equal(y, np.zeros_like(x))
    assert np.abs(backward(np.arange(6.0).reshape(x.shape))).max() < 3 / 1e-5**0.5
    y, backward = cnncore.batch_norm.with_backward(x, eps=0)
    assert np.isnan(y).all() and np.isnan(backward(x)).all()


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


@pytest.mark.parametrize(
    "op", [cnncore.local_response_norm, cnncore.response_norm_within_channel], ids=lambda op: op.name
)
@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_last])
@pytest.mark.parametrize("beta", [0.5, 0.75, 1.6, 3.0])
def test_response_norms_lose_no_digits_at_any_size(op, layout, beta):
    """float32 against float64 from the formula itself, wherever y and dx are normal numbers, on every CPU target."""
    rng = np.random.default_rng(3)
    unit, dy = rng.uniform(0.5, 1, (2, 2, 5, 4, 3)).astype("float32").astype("float64")
    for size, k in [(10.0**e, 1.0) for e in range(-6, 19, 2)] + [(1e-9, 1e-12), (1e-3, 1e-30), (1e8, 1e20)]:
        x = (unit * size).astype("float32")
        right = response_norm_by_formula(op, x.astype("float64"), dy, 3, 1.0, beta, k)
        for target in cnncore.cpu.targets():
            with cnncore.cpu.target(target):
                y, backward = op.with_backward(layout(x), size=3, alpha=1.0, beta=beta, k=k)
                for have, want in zip((y, backward(layout(dy.astype("float32")))), right, strict=True):
                    largest = np.abs(want).max()
                    # A power is exact to |p log x| units in the last place (kernels/maths.h); roots are exacter.
                    limit = (5 + beta * abs(np.log(k + size * size))) * 2**-23
                    if 1e-30 < largest < 1e37:
                        np.testing.assert_allclose(have, want, rtol=0, atol=limit * largest, err_msg=f"{target} {size}")


def response_norm_by_formula(op, x, dy, size, alpha, beta, k):
    """y and dx in float64 of windows of an odd size: over channels, or over the cells of a channel."""
    axes = (1,) if op is cnncore.local_response_norm else (2, 3)

    def sums(a):
        a = np.pad(a, [(size // 2,) * 2 if axis in axes else (0, 0) for axis in range(a.ndim)])
        return np.lib.stride_tricks.sliding_window_view(a, (size,) * len(axes), axes).sum(tuple(range(-len(axes), 0)))

    share = alpha / size ** len(axes)
    s = k + share * sums(x * x)
    return x * s**-beta, dy * s**-beta - 2 * share * beta * x * sums(dy * x * s**-beta / s)


def test_lrn_nan_stays_with_its_neighbours():
    for target in cnncore.cpu.targets():
        with cnncore.cpu.target(target):
            for lane in range(40):
                x = np.ones((1, 40, 3, 1), "float32")
                x[0, lane, 1] = np.nan
                nan = np.isnan(cnncore.local_response_norm(channels_last(x)))
                assert not nan[:, :, [0, 2]].any()
                np.testing.assert_array_equal(nan[0, :, 1, 0], np.abs(np.arange(40) - lane) <= 2)


# ── Dropout ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_frequency(p):
    x = np.ones((50, 40, 50))
    y, mask = cnncore.dropout(x, p=p, seed=5, return_state=True)
    deviation = (p * (1 - p) / x.size) ** 0.5
    assert abs((~mask).mean() - p) < 4 * deviation
    np.testing.assert_array_equal(y, np.where(mask, 1 / (1 - p), 0))


def test_spatial_dropout_drops_whole_channels():
    x = np.ones((60, 50, 3, 4))
    y, mask = cnncore.spatial_dropout(x, p=0.3, return_state=True)
    assert mask.shape == (60, 50)
    assert abs((~mask).mean() - 0.3) < 4 * (0.21 / 3000) ** 0.5
    np.testing.assert_array_equal(y, np.broadcast_to(mask[:, :, None, None] / 0.7, x.shape))


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(0).standard_normal(400_000)
    for p in (0.1, 0.5, 0.8):
        y = cnncore.alpha_dropout(x, p=p)
        assert abs(y.mean()) < 0.01 and abs(y.var() - 1) < 0.02


@pytest.mark.parametrize("name", ["dropout", "spatial_dropout", "alpha_dropout", "feature_alpha_dropout"])
def test_dropout_replays(name):
    op = cnncore.OPS[name]
    x = np.random.default_rng(0).standard_normal((4, 6, 5, 7))
    y, mask = op(x, p=0.4, seed=3, return_state=True)
    np.testing.assert_array_equal(op(x, state=mask, p=0.4, seed=99), y)
    np.testing.assert_array_equal(op(x, p=0.4, seed=3), y)
    assert (op(x, p=0.4, seed=4) != y).any()
    for threads in (1, 2, 5):
        with cnncore.threads(threads):
            np.testing.assert_array_equal(op(x, p=0.4, seed=3), y)
    for layout in LAYOUTS.values():
        np.testing.assert_array_equal(op(layout(x), p=0.4, seed=3), y)
    _, same = op(x.astype("float32"), p=0.4, seed=3, return_state=True)
    np.testing.assert_array_equal(same, mask)


@pytest.mark.parametrize("name", ["dropout", "spatial_dropout", "alpha_dropout", "feature_alpha_dropout"])
def test_dropout_edges(name):
    op = cnncore.OPS[name]
    x = np.random.default_rng(0).standard_normal((4, 6, 5))
    y, backward = op.with_backward(x, p=1.0)
    np.testing.assert_array_equal(y, np.zeros_like(x))
    np.testing.assert_array_equal(backward(x), np.zeros_like(x))
    y, backward = op.with_backward(x, p=0.0)
    np.testing.assert_array_equal(y, x)
    y, backward = op.with_backward(x, training=False)
    assert y is not x and not np.shares_memory(x, y)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(backward(x), x)
    with pytest.raises(cnncore.ShapeError, match="state has shape"):
        op(x, state=np.ones((4, 7), bool))
    with pytest.raises(cnncore.DtypeError, match="state is float64; expected booleans"):
        op(x, state=np.ones(x.shape))
    with pytest.raises(cnncore.SettingError, match="p must be a finite number ≥ 0 and ≤ 1"):
        op(x, p=1.5)
    dropped = np.full_like(x, np.nan)
    assert np.isfinite(op(dropped, p=1.0)).all()


# ── Joins and shape ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_concat_is_numpys(axis, layout):
    rng = np.random.default_rng(0)
    arrays = []
    for extent in (3, 1, 4):
        shape = [2, 3, 4, 5]
        shape[axis] = extent
        arrays.append(LAYOUTS[layout](rng.standard_normal(shape)))
    y, backward = cnncore.concat.with_backward(*arrays, axis=axis)
    np.testing.assert_array_equal(y, np.concatenate(arrays, axis))
    np.testing.assert_array_equal(cnncore.concat(arrays, axis=axis), y)
    dy = rng.standard_normal(y.shape)
    for gradient, part in zip(backward(LAYOUTS[layout](dy)), np.split(dy, [3, 4], axis), strict=True):
        np.testing.assert_array_equal(gradient, part)


def test_joins_name_what_differs():
    a, b = np.zeros((2, 3, 4)), np.zeros((2, 3, 5))
    with pytest.raises(
        cnncore.ShapeError, match=r"array 0 has shape \(2, 3, 4\), array 1 \(2, 3, 5\), different along axis 2"
    ):
        cnncore.concat(a, b)
    with pytest.raises(
        cnncore.ShapeError, match=r"array 0 has shape \(2, 3, 4\), array 2 \(2, 3, 5\), different along axis 2"
    ):
        cnncore.add(a, a, b)
    with pytest.raises(cnncore.ShapeError, match="different numbers of dimensions"):
        cnncore.concat(a, a[0])
    with pytest.raises(cnncore.SettingError, match="axis 3 does not exist"):
        cnncore.concat(a, a, axis=3)
    with pytest.raises(cnncore.SettingError, match="2 coefficients"):
        cnncore.add(a, a, a, coefficients=(1, 2))
    with pytest.raises(cnncore.SettingError, match="is missing"):
        cnncore.concat()
    with pytest.raises(cnncore.DtypeError):
        cnncore.concat(a, a.astype("float32"))


@pytest.mark.parametrize(
    "layouts",
    [
        ("planes", "planes"),
        ("channels last",) * 2,
        ("planes", "channels last"),
        ("every other row", "slice of channels last"),
    ],
)
def test_add_in_any_layout(layouts):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 5, 40, 33))
    right = 2 * a - 0.5 * b
    first, second = (LAYOUTS[name] for name in layouts)
    y = cnncore.add(first(a), second(b), coefficients=(2, -0.5))
    np.testing.assert_allclose(y, right, rtol=1e-14, atol=1e-15)
    for layout in LAYOUTS.values():
        out = layout(np.zeros_like(a))
        assert cnncore.add(first(a), second(b), coefficients=(2, -0.5), out=out) is out
        np.testing.assert_array_equal(out, y)
    np.testing.assert_array_equal(cnncore.add(a, np.broadcast_to(b[:1], a.shape)), a + b[:1])


def test_flatten_in_any_layout():
    x = np.random.default_rng(0).standard_normal((3, 4, 5, 6))
    for layout in LAYOUTS.values():
        for start in range(-4, 4):
            y, backward = cnncore.flatten.with_backward(layout(x), start)
            np.testing.assert_array_equal(y, x.reshape(*x.shape[: start % 4], -1))
            np.testing.assert_array_equal(backward(y), x)
        out = np.zeros((3, 240))[:, ::2]
        np.testing.assert_array_equal(cnncore.flatten(layout(x), out=out), x.reshape(3, -1))
    y = cnncore.flatten(x)
    y[...] = 0
    assert x.any()


PAD_MODES = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "symmetric": "symmetric",
    "circular": "wrap",
}


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pad_is_numpys_and_its_adjoint_is_exact(mode, layout):
    rng = np.random.default_rng(0)
    for shape, pairs in (
        ((2, 3, 5), ((4, 3),)),
        ((1, 2, 4, 6), ((1, 3), (0, 5))),
        ((2, 2, 2, 3, 4), ((1, 0), (2, 1), (0, 3))),
        ((1, 2, 3), ((2, 2),) if mode == "reflect" else ((11, 8),)),
    ):
        x = rng.standard_normal(shape)
        y, backward = cnncore.pad.with_backward(LAYOUTS[layout](x), pairs, mode)
        np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (0, 0), *pairs), PAD_MODES[mode]))
        dy = rng.standard_normal(y.shape)
        assert abs((y * dy).sum() - (x * backward(LAYOUTS[layout](dy))).sum()) < 1e-12


def test_pad_cuts_and_mirrors_what_is_left():
    x = np.array([[[1.0, 2, 3, 4]]])
    np.testing.assert_array_equal(cnncore.pad(x, ((-1, 2),), "reflect"), [[[2, 3, 4, 3, 2]]])
    np.testing.assert_array_equal(cnncore.pad(x, ((-1, -2),)), [[[2]]])
    np.testing.assert_array_equal(cnncore.pad(x, ((1, -1),), value=9.0), [[[9, 1, 2, 3]]])
    _, backward = cnncore.pad.with_backward(x, ((-1, -2),))
    np.testing.assert_array_equal(backward(np.array([[[5.0]]])), [[[0, 5, 0, 0]]])


def test_pad_says_what_does_not_fit():
    x = np.zeros((1, 1, 4, 3))
    with pytest.raises(
        cnncore.ShapeError, match="spatial axis 1 of input 4×3 has 3: use at most 2, or mode='symmetric'"
    ):
        cnncore.pad(x, 3, mode="reflect")
    with pytest.raises(cnncore.ShapeError, match="at least 1 must remain"):
        cnncore.pad(x, ((0, 0), (-1, -2)))
    with pytest.raises(cnncore.SettingError, match="one of 'constant', 'reflect'"):
        cnncore.pad(x, 1, mode="mirror")
    with pytest.raises(cnncore.SettingError, match="padding must be an integer"):
        cnncore.pad(x, "same_upper")
    with pytest.raises(cnncore.SettingError):
        cnncore.pad(x, ((1, 1),))
    with pytest.raises(cnncore.ShapeError, match="bytes"):
        cnncore.pad(x, 2**31 - 1)
    assert cnncore.pad(np.zeros((0, 1, 4)), 2, mode="circular").shape == (0, 1, 8)


# ── Losses ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_of_nothing_is_zero(reduction):
    x = np.random.default_rng(0).standard_normal((3, 4))
    L, backward = cnncore.softmax_cross_entropy.with_backward(x, np.full(3, -100), reduction=reduction)
    assert L == 0
    np.testing.assert_array_equal(backward(1.0), np.zeros_like(x))
    L, backward = cnncore.softmax_cross_entropy.with_backward(x[:0], np.empty(0, int), reduction=reduction)
    assert L == 0 and backward(1.0).shape == (0, 4)


def test_cross_entropy_of_large_scores():
    x = np.array([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]])
    losses, backward = cnncore.softmax_cross_entropy.with_backward(x, np.array([2, 1]), reduction="none")
    np.testing.assert_array_equal(losses, [2e4, 0.0])
    np.testing.assert_array_equal(backward(np.ones(2)), [[1, 0, -1], [0, 0, 0]])
    L, backward = cnncore.softmax_cross_entropy.with_backward(np.array([[0.0, -np.inf, 0.0]]), np.array([0]))
    assert abs(L - np.log(2)) < 1e-15
    np.testing.assert_array_equal(backward(1.0), [[-0.5, 0, 0.5]])
    assert cnncore.softmax_cross_entropy(np.array([[0.0, -np.inf]]), np.array([1])) == np.inf


def test_cross_entropy_says_what_does_not_fit():
    x = np.zeros((2, 3, 4))
    with pytest.raises(cnncore.SettingError, match="target holds class 3; 3 classes have indices 0 to 2"):
        cnncore.softmax_cross_entropy(x, np.full((2, 4), 3))
    with pytest.raises(cnncore.SettingError, match="target holds class -1"):
        cnncore.softmax_cross_entropy(x, np.full((2, 4), -1))
    cnncore.softmax_cross_entropy(x, np.full((2, 4), -1), ignore_index=-1)
    with pytest.raises(
        cnncore.ShapeError, match=r"class indices of shape \(2, 4\) or probabilities of shape \(2, 3, 4\)"
    ):
        cnncore.softmax_cross_entropy(x, np.zeros((2, 3), int))
    with pytest.raises(cnncore.DtypeError, match="class indices are integers"):
        cnncore.softmax_cross_entropy(x, np.zeros((2, 3, 4), int))
    with pytest.raises(cnncore.DtypeError, match="class indices are integers"):
        cnncore.softmax_cross_entropy(x, np.zeros((2, 4)))
    with pytest.raises(cnncore.ShapeError, match="weight has shape"):
        cnncore.softmax_cross_entropy(x, np.zeros((2, 4), int), np.ones(4))
    with pytest.raises(cnncore.ShapeError, match="dy of shape"):
        cnncore.softmax_cross_entropy.with_backward(x, np.zeros((2, 4), int))[1](np.ones(2))


def test_losses_are_one_number_of_the_inputs_dtype():
    x = np.zeros((2, 3), "float32")
    L, backward = cnncore.softmax_cross_entropy.with_backward(x, np.array([0, 1]))
    assert L.shape == () and L.dtype == np.float32 and backward(1.0).dtype == np.float32
    np.testing.assert_array_equal(backward(np.float32(2)), 2 * backward(1))
    L, backward = cnncore.mean_squared_error.with_backward(x, x + 1)
    assert L == 1 and L.dtype == np.float32 and backward(1.0)[0].dtype == np.float32


# ── PyTorch as oracle ──────────────────────────────────────────────────────────────────────────────────────────────────


def compare_with_torch(
    op, arrays, settings, function, *, layout=np.ascontiguousarray, tolerance=1e-11, differentiable=None
):
    """y and all gradients of ``op`` against those of ``function`` on torch tensors."""
    torch = pytest.importorskip("torch")
    arrays = [layout(a) if a is not None and a.ndim > 2 and a.dtype.kind == "f" else a for a in arrays]
    y, backward = op.with_backward(*arrays, **settings)
    y = y[0] if isinstance(y, tuple) else y
    floats = [a is not None and a.dtype.kind == "f" for a in arrays]
    if differentiable is not None:
        floats = [f and i in differentiable for i, f in enumerate(floats)]
    tensors = [
        None if a is None else torch.from_numpy(np.array(a)).requires_grad_(f)
        for a, f in zip(arrays, floats, strict=True)
    ]
    right = function(*tensors)
    dy = np.asarray(np.random.default_rng(9).standard_normal(y.shape), y.dtype)
    right.backward(torch.from_numpy(dy))
    gradients = backward(dy)
    gradients = list(gradients) if isinstance(gradients, tuple) else [gradients]
    rights = [t.grad.numpy() for t, f in zip(tensors, floats, strict=True) if f]
    for result, expected in zip([y, *gradients], [right.detach().numpy(), *rights], strict=True):
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 7), (2, 20, 5, 6), (2, 4, 3, 4, 5)])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_last])
def test_normalisation_as_torch(shape, layout):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    rng = np.random.default_rng(0)
    C = shape[1]
    x = rng.standard_normal(shape)
    w, b, mean, variance = per_channel(C, rng, 4)

    def check(op, arrays, settings, function, **options):
        compare_with_torch(op, arrays, settings, function, layout=layout, **options)

    check(
        cnncore.batch_norm, [x, w, b], {"eps": 1e-3}, lambda x, w, b: F.batch_norm(x, None, None, w, b, True, eps=1e-3)
    )
    check(
        cnncore.batch_norm,
        [x, w, b, mean, variance],
        {"training": False},
        lambda x, w, b, m, v: F.batch_norm(x, m, v, w, b, False),
        differentiable=(0, 1, 2),
    )
    running = torch.from_numpy(mean.copy()), torch.from_numpy(variance.copy())
    F.batch_norm(torch.from_numpy(x), *running, training=True, momentum=0.2)
    _, *new = cnncore.batch_norm(x, None, None, mean, variance, momentum=0.2, return_statistics=True)
    for a, t in zip(new, running, strict=True):
        np.testing.assert_allclose(a, t.numpy(), rtol=1e-12)
    groups = 2 if C % 2 == 0 else C
    if len(shape) > 2:
        check(cnncore.group_norm, [x, w, b], {"groups": groups}, lambda x, w, b: F.group_norm(x, groups, w, b))
        check(cnncore.instance_norm, [x, w, b], {}, lambda x, w, b: F.instance_norm(x, weight=w, bias=b))
    check(cnncore.layer_norm, [x], {"eps": 0.1}, lambda x: F.layer_norm(x, x.shape[1:], eps=0.1))
    each = rng.standard_normal((2, *x.shape[1:]))
    check(cnncore.layer_norm, [x, *each], {}, lambda x, w, b: F.layer_norm(x, x.shape[1:], w, b))
    for size in (1, 2, 3, 4, 5, 8) if len(shape) > 2 else ():
        for beta in (0.75, 0.5, 1.0, 0.6):
            check(
                cnncore.local_response_norm,
                [x],
                {"size": size, "alpha": 0.5, "beta": beta, "k": 2.0},
                lambda x, size=size, beta=beta: F.local_response_norm(x, size, 0.5, beta, 2.0),
            )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 6), (2, 3, 4, 5)])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_last])
def test_cross_entropy_as_torch(shape, reduction, layout):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape) * 3
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    ignored = target.copy()
    ignored.flat[::3] = 7
    soft = rng.uniform(size=shape)
    soft /= soft.sum(1, keepdims=True)
    weight = rng.uniform(0.5, 2, shape[1])
    for smoothing in (0.0, 0.3, 1.0):
        for v in (None, weight):
            for t, index in ((target, -100), (ignored, 7), (soft, -100)):
                settings = {"label_smoothing": smoothing, "reduction": reduction, "ignore_index": index}
                compare_with_torch(
                    cnncore.softmax_cross_entropy,
                    [x, t] if v is None else [x, t, v],
                    settings,
                    lambda x, t, v=None, s=settings: F.cross_entropy(x, t, v, **s),
                    layout=layout,
                    differentiable=(0, 1),
                )


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad_as_torch(mode):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for shape, pairs in (
        ((2, 3, 6), ((2, 3),)),
        ((2, 3, 5, 6), ((1, 2), (3, 0))),
        ((1, 2, 4, 5, 6), ((1, 2), (2, 1), (0, 3))),
    ):
        flat = [p for pair in reversed(pairs) for p in pair]
        compare_with_torch(
            cnncore.pad,
            [rng.standard_normal(shape)],
            {"padding": pairs, "mode": mode},
            lambda x, flat=flat: torch.nn.functional.pad(x, flat, mode),
        )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mean_squared_error_as_torch(reduction):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    compare_with_torch(
        cnncore.mean_squared_error,
        [rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 4, 5))],
        {"reduction": reduction},
        lambda x, t: torch.nn.functional.mse_loss(x, t, reduction=reduction),
    )
