"""Activations: what the registry-derived tests cannot know. Accuracy, knees, lanes, learned numbers, maxout, softmax."""

import numpy as np
import pytest
from support.exact_activations import EXACT, Reference, sweep
from support.oracles import compared_with

import cnncore
from cnncore.operators.activation.elementwise import Elementwise
from cnncore.operators.schema import REQUIRED

TARGETS = cnncore.cpu.targets()
DTYPES = (np.float32, np.float64)
MOST_LANES = 16
ELEMENTWISE = [name for name, op in cnncore.OPS.items() if isinstance(op.implementation, Elementwise)]


def needed(op):
    """Settings that have no default, from the first case."""
    return {name: value for name, value in op.cases[0].settings.items() if op.settings[name] is REQUIRED}


# Largest errors of y and of f′ in units of the last place. f′ of the later ones is a sum whose terms cancel somewhere:
# there the unit is that of the larger term. GELU is no elementary function.
LIMITS = {
    "silu": (2, 6),
    "swish": (2, 6),
    "quick_gelu": (2, 6),
    "dsilu": (6, 7),
    "mish": (3.5, 8),
    "gelu": (4, 8),
    "dish": (2, 3),
    "softplus": (2.5, 2),  # division by β
    "scaled_tanh": (2.5, 2.5),
}
ELEMENTARY = {np.float32: (2, 2), np.float64: (2, 2.1)}
# A reference implementation computes in long double and rounds once: correctly, but for a few numbers in a thousand.
WIDE = np.finfo(np.longdouble).nmant >= 63
ROUNDED_ONCE = {np.float32: (0.51, 0.51), np.float64: (0.75, 0.75)}

# ── Accuracy ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not EXACT, reason="mpmath is not installed")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
def test_against_many_digits(name, dtype, rng):
    reference = Reference(name, sweep(dtype, rng, 100))
    for target in TARGETS:
        with cnncore.cpu.target(target):
            distances = reference.distances()
        compared_with("60 digits of mpmath", reference.op)
        limits = LIMITS.get(reference.op.name, ELEMENTARY[dtype])
        if target == "reference" and (WIDE or dtype == np.float32):
            limits = ROUNDED_ONCE[dtype] if name != "gelu_tanh" else (1.3, 1.3)
        for what, far, limit in zip(("y", "slope"), distances, limits, strict=True):
            worst = far.argmax()
            assert far[worst] <= limit, f"{target}: {what} at {reference.x[worst]!r} is {far[worst]:.2f} units off"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_kernels_agree_with_the_definition(name, dtype, rng):
    op = cnncore.OPS[name]
    x = sweep(dtype, rng, 20_000)
    for case in op.cases:
        with cnncore.cpu.target("reference"):
            y, backward = op.with_backward(x, **case.settings)
            slope = backward(np.ones_like(x))
        # The definition's own error counts too. Where αx + β or f′ cancels, the unit is that of its terms, above ½. A factor
        # of x in an exponent z is rounded, which e^z magnifies |z| times.
        exponent = 0.0
        if case.settings.get("approximate") == "tanh":
            exponent = 8 * 1.6 * np.float64(x) * (1 + 0.0447 * np.float64(x) ** 2)
        y_limit, slope_limit = (
            2 * limit + np.minimum(np.abs(exponent), 1e4) for limit in LIMITS.get(name, ELEMENTARY[dtype])
        )
        summed = name in LIMITS
        for target in TARGETS[1:]:
            with cnncore.cpu.target(target):
                kernel_y, backward = op.with_backward(x, **case.settings)
                kernel_slope = backward(np.ones_like(x))
            for found, expected, limit, may_cancel in (
                (kernel_y, y, y_limit, name in ("dsilu", "hard_sigmoid")),
                (kernel_slope, slope, slope_limit, summed),
            ):
                unit = np.spacing(np.maximum(np.abs(expected), dtype(0.5) if may_cancel else dtype(0)))
                finite = np.isfinite(expected)
                assert np.array_equal(found[~finite], expected[~finite], equal_nan=True)
                # Where e^x is subnormal and long double no wider, x e^x loses digits: |x| steps of the smallest number.
                room = limit * unit + (0 if WIDE or dtype == np.float32 else 1000 * np.finfo(dtype).smallest_subnormal)
                with np.errstate(invalid="ignore"):
                    off = np.abs(found - expected)
                bad = finite & (off > room)
                assert not bad.any(), f"{target}: at {x[bad][0]!r} {found[bad][0]!r}, definition {expected[bad][0]!r}"


# ── Values that must be exact ──────────────────────────────────────────────────────────────────────────────────────────

INF, NAN = np.inf, np.nan
KNEES = {  # operator, settings: (x, y, slope) ...
    ("identity",): [(-INF, -INF, 1), (INF, INF, 1)],
    ("relu",): [(-INF, 0, 0), (-1, 0, 0), (-0.0, 0, 0), (0, 0, 0), (1e-45, 1e-45, 1), (INF, INF, 1), (NAN, NAN, 0)],
    ("leaky_relu", "negative_slope", 0.25): [
        (-INF, -INF, 0.25),
        (-4, -1, 0.25),
        (0, 0, 0.25),
        (2, 2, 1),
        (INF, INF, 1),
    ],
    ("elu", "alpha", 2.0): [(-INF, -2, 0), (0, 0, 2), (3, 3, 1), (INF, INF, 1), (NAN, NAN, NAN)],
    ("celu", "alpha", 2.0): [(-INF, -2, 0), (0, 0, 1), (3, 3, 1), (INF, INF, 1), (NAN, NAN, NAN)],
    ("sigmoid",): [(-INF, 0, 0), (0, 0.5, 0.25), (INF, 1, 0), (NAN, NAN, NAN)],
    ("log_sigmoid",): [(-INF, -INF, 1), (INF, 0, 0), (0, -np.log(2), 0.5), (NAN, NAN, NAN)],
    ("tanh",): [(-INF, -1, 0), (0, 0, 1), (INF, 1, 0), (NAN, NAN, NAN)],
    ("hard_sigmoid",): [(-INF, 0, 0), (-3, 0, 0), (0, 0.5, 1 / 6), (3, 1, 0), (INF, 1, 0), (NAN, NAN, 0)],
    ("hard_sigmoid", "alpha", 2.0): [(-0.25, 0, 0), (0.25, 1, 0), (0.3, 1, 0), (0.125, 0.75, 2)],
    ("hard_tanh",): [(-INF, -1, 0), (-1, -1, 0), (0, 0, 1), (1, 1, 0), (INF, 1, 0), (NAN, NAN, 0)],
    ("clipped_relu", "max_value", 3.0): [(-INF, 0, 0), (0, 0, 0), (1, 1, 1), (3, 3, 0), (INF, 3, 0), (NAN, NAN, 0)],
    ("relu6",): [(0, 0, 0), (1, 1, 1), (6, 6, 0), (INF, 6, 0), (NAN, NAN, 0)],
    ("softplus",): [(-INF, 0, 0), (0, np.log(2), 0.5), (INF, INF, 1), (1e4, 1e4, 1), (-1e4, 0, 0), (NAN, NAN, NAN)],
    ("softplus", "beta", 3.0): [(-INF, 0, 0), (INF, INF, 1), (NAN, NAN, NAN)],
    ("softsign",): [(-INF, -1, 0), (-1, -0.5, 0.25), (0, 0, 1), (1e30, 1, 1e-60), (INF, 1, 0), (NAN, NAN, NAN)],
    ("silu",): [(-INF, 0, 0), (-1e30, 0, 0), (-1e4, 0, 0), (0, 0, 0.5), (1e4, 1e4, 1), (INF, INF, 1), (NAN, NAN, NAN)],
    ("swish", "beta", 0.0): [(0, 0, 0.5), (4, 2, 0.5), (-4, -2, 0.5), (NAN, NAN, NAN)],
    ("swish", "beta", -1.0): [(INF, 0, 0), (0, 0, 0.5), (-INF, -INF, 1), (NAN, NAN, NAN)],
    ("dsilu",): [(-INF, 0, 0), (-1e4, 0, 0), (0, 0.5, 0.5), (1e4, 1, 0), (INF, 1, 0), (NAN, NAN, NAN)],
    ("hard_swish",): [
        (-INF, 0, 0),
        (-3, 0, 0),
        (-1.5, -0.375, 0),
        (0, 0, 0.5),
        (3, 3, 1),
        (INF, INF, 1),
        (NAN, NAN, NAN),
    ],
    ("mish",): [(-INF, 0, 0), (-1e4, 0, 0), (0, 0, 0.6), (1e4, 1e4, 1), (INF, INF, 1), (NAN, NAN, NAN)],
    ("gelu",): [(-INF, 0, 0), (-1e4, 0, 0), (0, 0, 0.5), (1e4, 1e4, 1), (INF, INF, 1), (NAN, NAN, NAN)],
    ("gelu", "approximate", "tanh"): [
        (-INF, 0, 0),
        (-1e30, 0, 0),
        (0, 0, 0.5),
        (1e30, 1e30, 1),
        (INF, INF, 1),
        (NAN, NAN, NAN),
    ],
    ("exp",): [(-INF, 0, 0), (0, 1, 1), (INF, INF, INF), (-800, 0, 0), (800, INF, INF), (NAN, NAN, NAN)],
    ("sign",): [(-INF, -1, 0), (-1e-45, -1, 0), (0, 0, 0), (-0.0, 0, 0), (1e-45, 1, 0), (INF, 1, 0), (NAN, NAN, 0)],
    ("sign", "at_zero", 1.0): [(-2, -1, 0), (0, 1, 0), (-0.0, 1, 0), (2, 1, 0)],
    ("heaviside",): [(-INF, 0, 0), (-1e-45, 0, 0), (0, 1, 0), (-0.0, 1, 0), (INF, 1, 0), (NAN, NAN, 0)],
    ("sign_straight_through",): [
        (-INF, -1, 0),
        (-1.0001, -1, 0),
        (-1, -1, 1),
        (0, 0, 1),
        (1, 1, 1),
        (1.0001, 1, 0),
        (INF, 1, 0),
        (NAN, NAN, 0),
    ],
    ("sign_straight_through", "clip", None): [(-INF, -1, 1), (0, 0, 1), (9, 1, 1), (NAN, NAN, 0)],
    ("scaled_tanh",): [(-INF, -1.7159, 0), (0, 0, 1.7159 * 2 / 3), (INF, 1.7159, 0), (NAN, NAN, NAN)],
    ("quick_gelu",): [(-INF, 0, 0), (-1e4, 0, 0), (0, 0, 0.5), (1e4, 1e4, 1), (INF, INF, 1), (NAN, NAN, NAN)],
    ("tanhshrink",): [
        (-INF, -INF, 1),
        (-1e4, -9999, 1),
        (0, 0, 0),
        (1e-8, 1e-24 / 3, 1e-16),
        (1, 0.23840584404423518, 0.5800256583859738),
        (INF, INF, 1),
        (NAN, NAN, NAN),
    ],
    ("softshrink",): [(-INF, -INF, 1), (-0.5, 0, 0), (0, 0, 0), (0.5, 0, 0), (2, 1.5, 1), (INF, INF, 1), (NAN, NAN, 0)],
    ("hardshrink",): [(-INF, -INF, 1), (-0.5, 0, 0), (0, 0, 0), (0.5, 0, 0), (2, 2, 1), (INF, INF, 1), (NAN, NAN, 0)],
    ("threshold", "threshold", 0.5, "value", 9.0): [
        (-INF, 9, 0),
        (0.5, 9, 0),
        (0.75, 0.75, 1),
        (INF, INF, 1),
        (NAN, NAN, 0),
    ],
    ("thresholded_relu",): [(-INF, 0, 0), (0.5, 0, 0), (1, 0, 0), (2, 2, 1), (INF, INF, 1), (NAN, NAN, 0)],
    ("squareplus",): [
        (-INF, 0, 0),
        (-1e30, 1e-30, 1e-60),
        (-1.5, 0.5, 0.2),
        (0, 1, 0.5),
        (1.5, 2, 0.8),
        (1e30, 1e30, 1),
        (INF, INF, 1),
        (NAN, NAN, NAN),
    ],
    ("sparse_plus",): [(-INF, 0, 0), (-1, 0, 0), (0, 0.25, 0.5), (1, 1, 1), (2, 2, 1), (INF, INF, 1), (NAN, NAN, NAN)],
    ("sparse_sigmoid",): [(-INF, 0, 0), (-1, 0, 0), (0, 0.5, 0.5), (1, 1, 0), (INF, 1, 0), (NAN, NAN, 0)],
    ("dish",): [
        (-INF, 0, 0),
        (-1e30, -0.25e-30, -0.25e-60),
        (-0.75, -0.15, 0.008),
        (0, 0, 0.5),
        (1e30, 1e30, 1),
        (INF, INF, 1),
        (NAN, NAN, NAN),
    ],
    ("softplus", "compat", "torch"): [(20.0, 20 + np.log1p(np.exp(-20.0)), 1 / (1 + np.exp(-20.0))), (20.5, 20.5, 1)],
    ("hard_sigmoid", "compat", "onnx"): [(-2.5, 0, 0), (1, 0.7, 0.2), (2.5, 1, 0)],
    ("leaky_relu", "compat", "tf"): [(-1, -0.2, 0.2), (1, 1, 1)],
    ("abs",): [(-INF, INF, -1), (-2, 2, -1), (0, 0, 0), (-0.0, 0, 0), (2, 2, 1), (INF, INF, 1), (NAN, NAN, 0)],
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("key", KNEES, ids=lambda key: "-".join(map(str, key)))
def test_knees_and_limits(key, target):
    name, *pairs = key
    settings = dict(zip(pairs[::2], pairs[1::2], strict=True))
    for dtype in DTYPES:
        x, y, slope = np.array(KNEES[key]).T.astype(dtype)
        with cnncore.cpu.target(target):
            found, backward = cnncore.OPS[name].with_backward(x, **settings)
            dx = backward(np.ones_like(x))
        np.testing.assert_allclose(found, y, rtol=2 * np.finfo(dtype).eps, atol=0, equal_nan=True)
        np.testing.assert_allclose(dx, slope, rtol=2 * np.finfo(dtype).eps, atol=0, equal_nan=True)
        assert not np.signbit(found[y == 0]).any() or name in (
            "leaky_relu",
            "elu",
            "celu",
            "silu",
            "swish",
            "mish",
            "gelu",
            "dsilu",
            "quick_gelu",
            "scaled_tanh",
            "dish",
        )


def test_every_elementwise_activation_has_its_knees_tested():
    activations = {name for name in ELEMENTWISE if cnncore.OPS[name].group == "activation"}  # others: test_arrays.py
    assert {key[0] for key in KNEES} >= activations - {"selu"}


def test_selu_keeps_mean_and_variance(rng):
    x = rng.standard_normal(2_000_000)
    y = cnncore.selu(x)
    assert abs(y.mean()) < 3e-3 and abs(y.var() - 1) < 5e-3


@pytest.mark.parametrize("target", TARGETS)
def test_no_threshold_is_taken_for_a_limit(target):
    """PyTorch's softplus is the identity from βx = 20 on: 2e-9 off there."""
    x = np.array([20.1, 30.0, 36.0])
    with cnncore.cpu.target(target):
        y = cnncore.softplus(x)
        assert np.all(y[:2] > x[:2])
        np.testing.assert_array_max_ulp(y, x + np.log1p(np.exp(-x)), 1)
        assert cnncore.sigmoid(np.array([-700.0]))[0] > 0
        slope = cnncore.tanh.with_backward(np.array([40.0]))[1](np.ones(1))
        np.testing.assert_allclose(slope, 4 * np.exp(-80.0), rtol=1e-15)


@pytest.mark.parametrize("target", TARGETS)
def test_subnormal_results(target):
    """Results below the smallest normal number are rounded once, not flushed to 0."""
    x = np.array([-88.0, -95.0, -100.0, -103.0], np.float32)
    with cnncore.cpu.target(target):
        for op in (cnncore.exp, cnncore.sigmoid, cnncore.silu, cnncore.softplus, cnncore.mish):
            factor = np.float64(x) if op.name in ("silu", "mish") else 1.0
            np.testing.assert_array_max_ulp(op(x), (factor * np.exp(np.float64(x))).astype(np.float32), 2)


# ── Lanes, tails, layouts ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_value_does_not_depend_on_where_it_lies(name, target, rng):
    """Every tail length, and a NaN or infinity in every lane, leaves all other values as they were, bit by bit."""
    op = cnncore.OPS[name]
    for dtype in DTYPES:
        x = (rng.standard_normal(3 * MOST_LANES + 1) * 4).astype(dtype)
        dy = rng.standard_normal(x.size).astype(dtype)
        with cnncore.cpu.target(target):
            y, backward = op.with_backward(x, **needed(op))
            dx = backward(dy)
            for count in range(x.size):
                part, backward = op.with_backward(x[:count], **needed(op))
                assert part.tobytes() == y[:count].tobytes()
                assert backward(dy[:count]).tobytes() == dx[:count].tobytes()
            for lane in range(x.size):
                others = np.arange(x.size) != lane
                for value in (NAN, INF, -INF):
                    special = x.copy()
                    special[lane] = value
                    found, backward = op.with_backward(special, **needed(op))
                    assert found[others].tobytes() == y[others].tobytes()
                    assert backward(dy)[others].tobytes() == dx[others].tobytes()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["relu", "gelu", "prelu", "softmax", "maxout"])
def test_channel_slice_of_a_concatenation(name, target, rng):
    """As plans do it: y is a slice of the channels of a larger array with channels innermost; the rest is not touched."""
    op = cnncore.OPS[name]
    x = rng.standard_normal((2, 6, 5, 7)).astype(np.float32)
    rest = (np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], np.float32),) if name == "prelu" else ()
    channels = 3 if name == "maxout" else 6
    with cnncore.cpu.target(target):
        expected = op(x, *rest)
        for given in (x, np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)):
            whole = np.full((2, 5, 7, 13), 7, np.float32)
            out = whole.transpose(0, 3, 1, 2)[:, 4 : 4 + channels]
            assert op(given, *rest, out=out) is out
            np.testing.assert_allclose(out, expected, rtol=1e-6)
            assert np.all(whole[..., :4] == 7) and np.all(whole[..., 4 + channels :] == 7)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [*ELEMENTWISE, "prelu", "softmax", "log_softmax"])
def test_in_place(name, target, rng):
    """Families that say ``in_place`` keep the promise: y over x, dx over dy, in every layout."""
    op = cnncore.OPS[name]
    assert op.implementation.in_place
    for shape, axes in (((3, 40, 5), (0, 1, 2)), ((3, 5, 40), (0, 2, 1))):
        x = rng.standard_normal(shape).transpose(axes)
        rest = (rng.uniform(0.1, 0.5, x.shape[1]),) if name == "prelu" else ()
        dy = rng.standard_normal(shape).transpose(axes)
        with cnncore.cpu.target(target):
            arrays, call = op.bind((x, *rest), needed(op))
            y, _, saved = op.implementation.forward(call, arrays)
            expected = op.implementation.backward(call, saved, dy, (True,) * len(arrays))[0]
            over = dy.copy(order="K")
            op.implementation.backward(call, saved, over, (True,) * len(arrays), [over, *[None] * len(rest)])
            np.testing.assert_array_equal(over, expected)
            over = x.copy(order="K")
            op.implementation.forward(call, [over, *arrays[1:]], over)
            np.testing.assert_array_equal(over, y)


def test_threads_give_the_same_bits(rng):
    """Arrays large enough that threads do run, in both layouts."""
    x = rng.standard_normal((4, 24, 33, 35)).astype(np.float32)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    a = rng.uniform(0.1, 0.5, 24).astype(np.float32)
    for given in (x, last):
        for name, *arrays in (
            ("gelu", given),
            ("prelu", given, a),
            ("prelu", given, a[:1]),
            ("swish", given, a),
            ("maxout", given),
            ("softmax", given),
            ("log_softmax", given),
        ):
            results = []
            for threads in (1, 2, 3, 7):
                with cnncore.threads(threads):
                    y, backward = cnncore.OPS[name].with_backward(*arrays)
                    gradients = backward(y)
                    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
                    results.append([y.tobytes(), *(g.tobytes() for g in gradients)])
            assert all(r == results[0] for r in results), name


def test_more_than_eight_axes_are_refused():
    with pytest.raises(cnncore.ShapeError, match="at most 8"):
        cnncore.relu(np.zeros((1,) * 9))


def test_a_single_number():
    assert cnncore.relu(np.array(-2.0)).shape == () and cnncore.gelu(np.array(np.inf)) == np.inf


# ── Learned numbers ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["prelu", "swish"])
def test_gradient_of_learned_numbers_is_summed_in_float64(name, target, rng):
    x = (rng.standard_normal((3, 5, 41, 43)) + 100 * rng.standard_normal((3, 5, 1, 1))).astype(np.float32)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    p = rng.uniform(0.2, 0.4, 5).astype(np.float32)
    op = cnncore.OPS[name]
    with cnncore.cpu.target("reference"):
        exact_x, exact_p = op.with_backward(x.astype(np.float64), p.astype(np.float64))[1](dy.astype(np.float64))
        _, exact_one = op.with_backward(x.astype(np.float64), p[:1].astype(np.float64))[1](dy.astype(np.float64))
    terms = np.abs(dy * x).sum()
    with cnncore.cpu.target(target):
        for given in (
            x,
            np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
            x.repeat(2, -1)[..., ::2],
        ):
            dx, dp = op.with_backward(given, p)[1](dy)
            np.testing.assert_allclose(dx, exact_x, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(dp, exact_p, rtol=3e-7, atol=1e-8 * terms)
            one = op.with_backward(given, p[:1])[1](dy)[1]
            assert one.shape == (1,)
            np.testing.assert_allclose(one, exact_one, rtol=3e-7, atol=1e-8 * terms)


def test_learned_numbers_of_any_stride(rng):
    x, p = rng.standard_normal((2, 4, 3)), rng.uniform(0.1, 0.5, 8)
    dy = rng.standard_normal(x.shape)
    for a in (p[::2], p[::-2]):
        for given in (x, np.ascontiguousarray(x.transpose(0, 2, 1)).transpose(0, 2, 1)):
            y, backward = cnncore.prelu.with_backward(given, a)
            expected, plain = cnncore.prelu.with_backward(x, a.copy())
            np.testing.assert_array_equal(y, expected)
            for found, needs_gradient in zip(backward(dy), plain(dy), strict=True):
                np.testing.assert_allclose(found, needs_gradient, rtol=1e-14)


def test_wrong_number_of_learned_numbers():
    with pytest.raises(
        cnncore.ShapeError, match=r"a has shape \(3,\); expected one number \(1,\) or one per channel \(4,\)"
    ):
        cnncore.prelu(np.zeros((2, 4, 5)), np.zeros(3))
    with pytest.raises(cnncore.ShapeError, match="betas"):
        cnncore.swish(np.zeros((2, 4)), np.zeros((4, 1)))


def test_swish_of_a_beta_is_swish_of_betas(rng):
    x = rng.standard_normal((2, 3, 4))
    np.testing.assert_array_equal(cnncore.swish(x, beta=0.7), cnncore.swish(x, np.full(3, 0.7)))
    np.testing.assert_array_equal(cnncore.silu(x), cnncore.swish(x))


def test_layers_own_their_numbers():
    for parameters, count in ((1, 1), ("channels", 4)):
        g = cnncore.Graph()
        x = g.input(channels=4)
        g.output(g.swish(g.prelu(x, num_parameters=parameters), num_parameters=parameters))
        net = g.build(seed=0, dtype="float64")
        values = sorted(np.unique(a).item() for a in net.parameters.values())
        assert values == [0.25, 1.0] and all(a.shape == (count,) for a in net.parameters.values())
        image = np.arange(-8.0, 8.0).reshape(1, 4, 2, 2)
        np.testing.assert_allclose(net(image), cnncore.silu(cnncore.leaky_relu(image, negative_slope=0.25)))


# ── Maxout ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_maxout_ties_and_nan(pieces, target, rng):
    """One winner per place: the first of equal ones, the first NaN."""
    values = rng.choice([0.0, 1.0, NAN, -INF, INF], size=(2, 4 * pieces, 5, 7))
    parts = values.reshape(2, 4, pieces, 5, 7)
    first = np.where(
        np.isnan(parts).any(2), np.isnan(parts).argmax(2), np.argmax(np.nan_to_num(parts, posinf=9, neginf=-9), 2)
    )
    for dtype in DTYPES:
        x = values.astype(dtype)
        dy = rng.standard_normal((2, 4, 5, 7)).astype(dtype)
        for given in (x, np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), x[..., ::-1][..., ::-1]):
            with cnncore.cpu.target(target):
                y, backward = cnncore.maxout.with_backward(given, pieces=pieces)
                dx = backward(dy).reshape(2, 4, pieces, 5, 7)
            np.testing.assert_array_equal(y, np.take_along_axis(parts, first[:, :, None], 2)[:, :, 0].astype(dtype))
            np.testing.assert_array_equal(
                dx, np.where(np.arange(pieces)[:, None, None] == first[:, :, None], dy[:, :, None], 0)
            )


def test_maxout_refuses_channels_that_cannot_be_cut():
    with pytest.raises(cnncore.ShapeError, match=r"5 channels.*pieces=2.*use an input of 6 channels"):
        cnncore.maxout(np.zeros((1, 5, 2)))
    with pytest.raises(cnncore.ShapeError, match="axis 1"):
        cnncore.maxout(np.zeros(4))


# ── Softmax ────────────────────────────────────────────────────────────────────────────────────────────────────────────

SHAPES = [(3,), (2, 10), (3, 1), (2, 5, 7), (2, 300, 3), (2, 3, 300), (2, 17, 4, 5), (2, 3, 2, 3, 18)]


def softmax_in_long_double(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_along_every_axis_and_layout(shape, target, rng):
    for dtype in DTYPES:
        x = (rng.standard_normal(shape) * 5).astype(dtype)
        dy = rng.standard_normal(shape).astype(dtype)
        wide = x.astype(np.longdouble)
        # The reference implementation rounds x − m in float64, and e^(x − m) magnifies that; kernels give the rounding back.
        rounds = (target == "reference" and dtype == np.float64) or np.finfo(np.longdouble).nmant < 63
        eps = np.finfo(dtype).eps * (15 if rounds else 1)
        for axis in range(-len(shape), len(shape)):
            y = softmax_in_long_double(wide, axis)
            dx = y * (dy - (dy * y).sum(axis, keepdims=True))
            log_dx = dy - y * dy.sum(axis, keepdims=True, dtype=np.float64)
            for given in (x, np.asfortranarray(x), np.repeat(x, 2, -1)[..., ::2], x[..., ::-1].copy()[..., ::-1]):
                with cnncore.cpu.target(target):
                    found, backward = cnncore.softmax.with_backward(given, axis=axis)
                    np.testing.assert_allclose(found, y, rtol=(3 + shape[axis] / 100) * eps)
                    np.testing.assert_allclose(backward(dy), dx, rtol=3 * eps, atol=8 * eps * np.abs(dy).max())
                    found, backward = cnncore.log_softmax.with_backward(given, axis=axis)
                    np.testing.assert_allclose(found, np.log(y), rtol=4 * eps, atol=8 * np.finfo(np.float64).eps)
                    size = np.abs(dy).sum(axis).max()
                    np.testing.assert_allclose(backward(dy), log_dx, rtol=3 * eps, atol=4 * eps * size)


@pytest.mark.parametrize("target", TARGETS)
def test_softmax_of_distant_values(target):
    """The difference to the maximum is not rounded, and a dominated column keeps the digits of its logarithm."""
    for dtype in DTYPES:
        x = np.array([[0.1, 20.3, -60.7, 3.3]], dtype)
        exact = np.exp(x.astype(np.longdouble) - dtype(20.3))
        rest = exact[0, [0, 2, 3]].sum()
        for columns in (1, 5):
            given = np.repeat(x[:, :, None], columns, 2)
            with cnncore.cpu.target(target):
                y = cnncore.softmax(given)
                log = cnncore.log_softmax(given)
            rounds = (target == "reference" and dtype == np.float64) or np.finfo(np.longdouble).nmant < 63
            limit = {"rtol": (40 if rounds else 2.5) * np.finfo(dtype).eps, "atol": 0}
            for column in range(columns):
                np.testing.assert_allclose(y[0, :, column], (exact[0] / (1 + rest)).astype(dtype), **limit)
                np.testing.assert_allclose(log[0, 1, column], dtype(-np.log1p(rest)), **limit)


@pytest.mark.parametrize("target", TARGETS)
def test_softmax_of_special_values(target):
    rows = np.array(
        [
            [1000.0, 1000.0, -INF, -INF],
            [-INF, -INF, -INF, -INF],
            [INF, 0.0, 1.0, 2.0],
            [0.0, NAN, 1.0, 2.0],
            [NAN, 0.0, 1.0, 2.0],
            [-1e30, 1e30, 0.0, 1e30],
        ]
    )
    expected = np.full((6, 4), NAN)
    expected[0], expected[5] = [0.5, 0.5, 0, 0], [0, 0.5, 0, 0.5]
    with np.errstate(divide="ignore"):
        logarithms = np.log(expected)
    logarithms[5] = [-2e30, -np.log(2), -1e30, -np.log(2)]
    for dtype in DTYPES:
        for axis, x, y, log in ((1, rows, expected, logarithms), (0, rows.T, expected.T, logarithms.T)):
            given = np.ascontiguousarray(x, dtype)
            with cnncore.cpu.target(target):
                np.testing.assert_allclose(cnncore.softmax(given, axis=axis), y, rtol=1e-6)
                np.testing.assert_allclose(cnncore.log_softmax(given, axis=axis), log, rtol=1e-6)


def test_softmax_refuses_axes_that_are_not_there():
    with pytest.raises(cnncore.SettingError, match=r"axis 2 is not an axis.*use -2 to 1"):
        cnncore.softmax(np.zeros((2, 3)), axis=2)
    with pytest.raises(cnncore.ShapeError, match="empty along axis 1"):
        cnncore.softmax(np.zeros((2, 0)))
    with pytest.raises(cnncore.SettingError, match="a scalar has no axis"):
        cnncore.softmax(np.array(1.0))


# ── Sparsemax, hardmax, gates, both parts ──────────────────────────────────────────────────────────────────────────────


def layouts(x):
    return x, np.asfortranarray(x), np.repeat(x, 2, -1)[..., ::2], x[..., ::-1].copy()[..., ::-1]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sparsemax_is_the_nearest_point_of_the_simplex(shape, target, rng):
    """Its defining property: it sums up to 1, and x − y is one number τ on the support and not above τ elsewhere."""
    for dtype in DTYPES:
        x, dy = (rng.standard_normal(shape) * 2).astype(dtype), rng.standard_normal(shape).astype(dtype)
        eps = np.finfo(dtype).eps
        for axis in range(len(shape)):
            for given in layouts(x):
                with cnncore.cpu.target(target):
                    y, backward = cnncore.sparsemax.with_backward(given, axis=axis)
                    dx = backward(dy)
                assert np.all(y >= 0)
                np.testing.assert_allclose(y.sum(axis, dtype=np.float64), 1, rtol=8 * eps)
                support = y > 0
                tau = np.where(support, x - y, -np.inf).max(axis, keepdims=True)
                assert np.all(np.abs(np.where(support, x - y - tau, 0)) <= 8 * eps * np.abs(x).max())
                assert np.all(np.where(support, tau, x) <= tau + 8 * eps * np.abs(x).max())
                mean = np.where(support, dy, 0).sum(axis, keepdims=True) / support.sum(axis, keepdims=True)
                np.testing.assert_allclose(dx, np.where(support, dy - mean, 0), atol=8 * eps * np.abs(dy).max())


@pytest.mark.parametrize("target", TARGETS)
def test_sparsemax_and_hardmax_of_special_values(target):
    rows = np.array(
        [
            [1e30, 1e30, -INF, 0.0],
            [-INF, -INF, -INF, -INF],
            [INF, 0.0, 1.0, 2.0],
            [0.0, NAN, 1.0, 2.0],
            [1.0, 1.0, 1.0, 1.0],
            [-1e4, 1e4, 0.0, 1e4 - 1],
        ]
    )
    sparse = np.full((6, 4), NAN)
    sparse[0], sparse[4], sparse[5] = [0.5, 0.5, 0, 0], [0.25] * 4, [0, 1, 0, 0]
    hard = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [NAN] * 4, [1, 0, 0, 0], [0, 1, 0, 0]])
    for dtype in DTYPES:
        for axis, x, one, other in ((1, rows, sparse, hard), (0, rows.T, sparse.T, hard.T)):
            given = np.ascontiguousarray(x, dtype)
            with cnncore.cpu.target(target):
                y, backward = cnncore.sparsemax.with_backward(given, axis=axis)
                dx = backward(np.ones_like(y))
                np.testing.assert_array_equal(y, one)
                np.testing.assert_array_equal(dx, np.where(np.isnan(one), NAN, 0))
                np.testing.assert_array_equal(cnncore.hardmax(given, axis=axis), other)


def test_softmin_is_softmax_of_the_negative(rng):
    for shape in SHAPES:
        x, dy = rng.standard_normal(shape), rng.standard_normal(shape)
        for axis in range(len(shape)):
            for target in TARGETS:
                with cnncore.cpu.target(target):
                    y, backward = cnncore.softmin.with_backward(x, axis=axis)
                    expected, plain = cnncore.softmax.with_backward(-x, axis=axis)
                    np.testing.assert_array_equal(y, expected)
                    np.testing.assert_array_equal(backward(dy), -plain(dy))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["glu", "crelu"])
def test_halves_along_every_axis_and_layout(name, target, rng):
    op = cnncore.OPS[name]
    for shape in [(4,), (2, 6), (2, 4, 6), (2, 4, 6, 8), (2, 2, 4, 6, 18)]:
        x = rng.standard_normal(shape)
        for axis in range(len(shape)):
            a, b = np.split(x, 2, axis)
            if name == "glu":
                expected, p = a / (1 + np.exp(-b)), 1 / (1 + np.exp(-b))
                dy = rng.standard_normal(expected.shape)
                dx = np.concatenate([dy * p, dy * a * p * (1 - p)], axis)
            else:
                expected = np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], axis)
                dy = rng.standard_normal(expected.shape)
                first, second = np.split(dy, 2, axis)
                dx = first * (x > 0) - second * (x < 0)
            for given in layouts(x):
                with cnncore.cpu.target(target):
                    y, backward = op.with_backward(given, axis=axis)
                    np.testing.assert_allclose(y, expected, rtol=1e-14, atol=1e-15)
                    np.testing.assert_allclose(backward(dy), dx, rtol=1e-13, atol=1e-15)


def test_halves_that_do_not_exist_are_refused():
    with pytest.raises(cnncore.ShapeError, match=r"axis 1 of input \(2, 5\) has 5 values.*such as 6"):
        cnncore.glu(np.zeros((2, 5)))


# ── Random slopes ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", TARGETS)
def test_slopes_depend_on_seed_and_position_alone(target, rng):
    x = rng.standard_normal((2, 3, 7, 5))
    settings = {"training": True, "return_state": True}
    with cnncore.cpu.target("reference"):
        expected, slopes = cnncore.rrelu(x, **settings)
    for threads in (1, 3):
        with cnncore.cpu.target(target), cnncore.threads(threads):
            for given in layouts(x):
                (y, found), backward = cnncore.rrelu.with_backward(given, **settings)
                np.testing.assert_allclose(found, slopes, rtol=1e-15)
                np.testing.assert_allclose(y, expected, rtol=1e-15)
                np.testing.assert_array_equal(backward(np.ones_like(x)), np.where(x > 0, 1, found))
                again = cnncore.rrelu(given, found, seed=5, **settings)
                assert np.array_equal(again[0], y) and again[1] is found
            narrow = cnncore.rrelu(x.astype(np.float32), **settings)[1]
            np.testing.assert_allclose(narrow, slopes, rtol=1e-6)
    assert not np.array_equal(cnncore.rrelu(x, seed=1, **settings)[1], slopes)


def test_slopes_are_uniform():
    """Mean, variance and the shares of ten equal parts of 200 000 slopes, within 5 standard deviations."""
    slopes = cnncore.rrelu(np.zeros(200_000), lower=0.2, upper=0.6, training=True, return_state=True)[1]
    n = slopes.size
    assert slopes.min() >= 0.2 and slopes.max() < 0.6
    assert abs(slopes.mean() - 0.4) < 5 * 0.4 / np.sqrt(12 * n)
    assert abs(slopes.var() - 0.16 / 12) < 5 * 0.16 * np.sqrt(1 / 180 / n)
    counts = np.histogram(slopes, 10, (0.2, 0.6))[0]
    assert np.all(np.abs(counts - n / 10) < 5 * np.sqrt(n * 0.09))


def test_slopes_outside_training_and_wrong_ones(rng):
    x = rng.standard_normal((2, 3))
    y, slopes = cnncore.rrelu(x, lower=0.2, upper=0.4, return_state=True)
    np.testing.assert_allclose(y, np.where(x > 0, x, 0.3 * x))
    np.testing.assert_allclose(slopes, 0.3)
    with pytest.raises(cnncore.SettingError, match=r"lower=0\.5 must not be above upper=0\.333"):
        cnncore.rrelu(x, lower=0.5)
    with pytest.raises(cnncore.ShapeError, match="state has shape"):
        cnncore.rrelu(x, np.zeros(3))


def test_a_peers_default_beside_another_value_is_refused():
    with pytest.raises(cnncore.SettingError, match=r"compat='tf' means negative_slope=0.2, but negative_slope=0.5"):
        cnncore.leaky_relu(np.zeros(3), negative_slope=0.5, compat="tf")
    with pytest.raises(cnncore.SettingError, match=r"compat='onnx' means alpha=0.2, but alpha=0.3"):
        cnncore.hard_sigmoid(np.zeros(3), alpha=0.3, compat="onnx")
