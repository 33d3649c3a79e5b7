"""Normalisation: kernels in every layout, running statistics, digits, and where the formula meets its limits."""

import numpy as np
import pytest
from support.layouts import PLAN_LAYOUTS, channels_last
from support.torch_functions import compare_with_torch

import cnncore


def passes(op, arrays, settings, layout):
    """y, extras and gradients with x, dy, y and dx in ``layout``, as the plan of a graph calls an implementation."""
    x, *rest = arrays
    arrays, call = op.bind((layout(x), *rest), settings)
    y, extras, saved = op.implementation.forward(call, arrays, layout(np.full(call.output, np.nan, call.dtype)))
    dy = layout(np.cos(np.arange(y.size, dtype=call.dtype) * 3).reshape(y.shape))
    needs_gradient = op.needs_gradient(arrays)
    out = [layout(np.full(x.shape, np.nan, call.dtype)), *(None for _ in rest)]
    gradients = op.implementation.backward(call, saved, dy, needs_gradient, out)
    return [np.array(a) for a in (y, *extras, *gradients) if a is not None]


def per_channel(channels, rng, count):
    return tuple(rng.uniform(0.5, 2, channels) for _ in range(count))


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


@pytest.mark.parametrize("name", KERNEL_CASES)
@pytest.mark.parametrize("layout", PLAN_LAYOUTS)
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
            expected = passes(op, arrays, settings, PLAN_LAYOUTS[layout])
        for target in cnncore.cpu.targets()[1:]:
            with cnncore.cpu.target(target):
                results = passes(op, arrays, settings, PLAN_LAYOUTS[layout])
            for result, right in zip(results, expected, strict=True):
                bound = 32 * np.finfo(dtype).eps * max(np.abs(right).max(), 1)
                np.testing.assert_allclose(result, right, rtol=0, atol=bound, err_msg=f"{target} {(C, H, W)}")


def test_large_planes_are_cut_into_blocks():
    """More cells than a block holds, in every layout: statistics are those of numpy."""
    x = np.random.default_rng(0).standard_normal((2, 3, 150, 151)) + 100
    for layout in PLAN_LAYOUTS.values():
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


@pytest.mark.parametrize("size", [1, 2, 5])
def test_response_norm_of_values_whose_squares_overflow(size):
    """y is what it is for smaller values, as far as k does not matter."""
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 5))
    settings = {"size": size, "alpha": 1.0, "beta": 0.5, "k": 1e-300}
    y, backward = cnncore.response_norm_within_channel.with_backward(x, **settings)
    dx = backward(x)
    for factor in (1e-100, 1e200):
        large, large_backward = cnncore.response_norm_within_channel.with_backward(factor * x, **settings)
        np.testing.assert_allclose(large, y, rtol=1e-10)
        np.testing.assert_allclose(factor * large_backward(x), dx, rtol=1e-9, atol=1e-9)
    single, _ = cnncore.response_norm_within_channel.with_backward((1e30 * x).astype("f"), **{**settings, "k": 1e-30})
    np.testing.assert_allclose(single, y, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 15, 17, 40])
@pytest.mark.parametrize("beta", [0.75, 0.6])
def test_response_norm_kernels_of_any_number_of_channels(rng, channels, beta):
    """Blocks of channels side by side, the last one with fewer; a value that overflows sends its block to the reference."""
    x = rng.standard_normal((2, channels, 5, 6)).astype("f")
    large = x.copy()
    large[1, channels - 1, 2, 3] = 1e30
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    for given in (x, last, large):

        def everything(given=given):
            settings = {"size": 4, "alpha": 2.0, "beta": beta}
            y, backward = cnncore.response_norm_within_channel.with_backward(given, **settings)
            return y, backward(given / np.abs(given).max())

        with cnncore.cpu.target("reference"):
            expected = everything()
        for target in cnncore.cpu.targets()[1:]:
            with cnncore.cpu.target(target):
                for found, right in zip(everything(), expected, strict=True):
                    np.testing.assert_allclose(found, right, rtol=2e-5, atol=1e-5 * np.abs(right).max())
