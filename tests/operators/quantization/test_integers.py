"""Convolutions of 8-bit numbers against exact arithmetic of integers: the same bits from every implementation."""

import contextlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.papers import ORACLES

import cnncore
from cnncore import SettingError, ShapeError, cpu
from cnncore.operators.quantization import integers
from cnncore.operators.quantization.convolution import MOST_TERMS, IntegerConvolution, packed
from cnncore.runtime import dispatch


def expected(x, w, scale, b, given_):
    """y of float32 arrays, by exact sums of integers; the rest in float32, as the operator does."""
    s = cnncore.quantized_conv.settings | given_
    grid = np.float32(s["x_scale"])
    product = s["x_scale"] * scale.astype(np.float64)
    # On a grid of unit steps the oracle returns sums of integers.
    q = np.clip(np.rint(x / grid), -s["x_zero_point"], 255 - s["x_zero_point"]).astype(np.float64)
    unit = s | {"x_scale": 1.0, "y_scale": None}
    whole = None if b is None else np.rint(b / product)
    sums = ORACLES["quantized_conv"](unit, q, w.astype(np.float64), np.ones(len(w)), whole).astype(np.float32)
    form = (-1, *[1] * (x.ndim - 2))
    if s["y_scale"] is None:
        return sums * product.astype(np.float32).reshape(form)
    z = s["y_zero_point"]
    steps = sums * (product / s["y_scale"]).astype(np.float32).reshape(form)
    return (np.rint(np.clip(steps, -z, 255 - z)) + 0) * np.float32(s["y_scale"])  # −0 is no integer


def words_of(target):
    """The numbers of terms in the words that a target's kernels multiply on this processor; 1 without kernels."""
    with cpu.target(target):
        vectors = integers.vectors("float32")
    return (1,) if vectors is None else (2, 4) if vectors[1] == 4 else (2,)


@contextlib.contextmanager
def words_of_terms(terms):
    """Weights are packed into words of this many terms: pairs run on every processor, four bytes on those with VNNI."""
    vectors = integers.vectors
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integers, "vectors", lambda dtype: (found := vectors(dtype)) and (found[0], terms))
        yield


@st.composite
def calls(draw):
    """Arrays and settings: ranks 1 to 3, groups, tails of vectors, windows that hang over the edges, all weights and grids."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rank, groups = draw(st.integers(1, 3)), draw(st.sampled_from((1, 1, 2, 3, 17)))
    inputs, outputs = draw(st.integers(1, 9)), draw(st.sampled_from((1, 2, 5, 16, 17, 33)))
    if draw(st.booleans()):
        inputs = outputs = 1 if groups > 1 else inputs
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    each = {name: tuple(draw(st.integers(low, high)) for _ in range(rank)) for name, low, high in WINDOWS}
    extents = [d * (k - 1) + 1 + draw(st.integers(0, 4)) for k, d in zip(kernel, each["dilation"], strict=True)]
    x = rng.uniform(-4, 4, (draw(st.integers(1, 2)), groups * inputs, *extents)).astype(np.float32)
    w = rng.integers(-128, 128, (groups * outputs, inputs, *kernel)).astype(np.float32)
    scale = rng.uniform(0.001, 0.02, len(w)).astype(np.float32)
    b = rng.standard_normal(len(w)).astype(np.float32) if draw(st.booleans()) else None
    found = {
        "x_scale": draw(st.sampled_from((0.011, 0.031))),
        "x_zero_point": draw(st.integers(0, 255)),
        "groups": groups,
    }
    if draw(st.booleans()):
        found |= {"y_scale": draw(st.sampled_from((0.02, 0.3))), "y_zero_point": draw(st.integers(0, 255))}
    return (x, w, scale, b), found | each


WINDOWS = (("stride", 1, 2), ("padding", 0, 2), ("dilation", 1, 2))


@settings(max_examples=25, deadline=None)
@given(calls())
def test_bits_of_every_target_are_those_of_exact_sums(call):
    arrays, given_ = call
    y = expected(*arrays, given_)
    for target in cpu.targets():
        for terms in words_of(target):
            with cpu.target(target), words_of_terms(terms):
                assert cnncore.quantized_conv(*arrays, **given_).tobytes() == y.tobytes(), (target, terms)


@pytest.mark.parametrize("target", cpu.targets())
@pytest.mark.parametrize(
    "shape, outputs, kernel, groups",
    [
        ((1, 9, 9, 5), 40, 3, 1),
        ((1, 3, 9, 9), 3, 7, 1),
        ((2, 20, 5, 3), 36, 1, 1),
        ((1, 19, 9, 4), 19, 3, 19),
        ((2, 107, 5, 4), 107, 3, 107),
        ((1, 99, 1, 1), 90, 1, 1),
    ],
)
def test_bits_do_not_depend_on_threads(target, shape, outputs, kernel, groups):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    w = rng.integers(-128, 128, (outputs, shape[1] // groups, kernel, kernel)).astype(np.float32)
    arrays = x, w, rng.uniform(0.001, 0.01, outputs).astype(np.float32), None
    given_ = {"x_scale": 0.02, "x_zero_point": 128, "y_scale": 0.1, "padding": kernel // 2, "groups": groups}
    found, before = [], dispatch.set_worth_a_thread(0)
    try:
        for threads in (1, 2):
            with cpu.target(target), cnncore.threads(threads):
                found.append(cnncore.quantized_conv(*arrays, **given_))
    finally:
        dispatch.set_worth_a_thread(before)
    assert found[0].tobytes() == found[1].tobytes()
    assert np.array_equal(found[0], expected(*arrays, given_ | {"stride": 1, "dilation": 1}))


@pytest.mark.parametrize("target", cpu.targets())
@pytest.mark.parametrize("weight", [-128, 127])
def test_the_largest_sums_fit(target, weight):
    """As many terms as there may be, all as large as they can be, and the largest bias: no sum saturates or wraps."""
    x = np.full((1, MOST_TERMS), 255, np.float32)
    w = np.full((3, MOST_TERMS), weight, np.float32)
    b = np.full(3, np.sign(weight) * 2.0**30, np.float32)
    one = np.ones(3, np.float32)
    for terms, (zero, steps) in itertools.product(words_of(target), ((0, 255), (255, 0))):
        with cpu.target(target), words_of_terms(terms):
            y = cnncore.quantized_linear(x, w, one, b, x_scale=1.0, x_zero_point=zero)
            assert np.array_equal(y, np.full((1, 3), np.float32(steps * weight * MOST_TERMS + int(b[0]))))
            y = cnncore.quantized_linear(-x, w, one, b, x_scale=1.0, x_zero_point=zero)
            assert np.array_equal(y, np.full((1, 3), np.float32(-zero * weight * MOST_TERMS + int(b[0]))))


@pytest.mark.parametrize("target", cpu.targets())
def test_what_no_integer_stands_for(target):
    """NaN counts as 0, infinities are the ends of the grid."""
    x = np.array([[np.nan, np.inf, -np.inf, 1e30, 0.5, 1.5, 2.5, -0.5, -1.5] * 2], np.float32)
    with cpu.target(target):
        y = cnncore.quantized_linear(
            x, np.eye(18, dtype=np.float32), np.ones(18, np.float32), x_scale=1.0, x_zero_point=100
        )
    assert np.array_equal(y, [[0, 155, -100, 155, 0, 2, 2, 0, -2] * 2])


def test_errors_name_the_way_out():
    x, scale = np.zeros((1, MOST_TERMS + 1), np.float32), np.ones(2, np.float32)
    with pytest.raises(SettingError, match="fit into 32 bits: keep this layer in float32"):
        cnncore.quantized_linear(x, np.zeros((2, MOST_TERMS + 1), np.float32), scale, x_scale=1.0)
    with pytest.raises(ShapeError, match=r"w_scale has shape \(2,\); w makes 3 output channels"):
        cnncore.quantized_linear(x[:, :4], np.zeros((3, 4), np.float32), scale, x_scale=1.0)
    with pytest.raises(SettingError, match="x_scale must be a finite number > 0"):
        cnncore.quantized_linear(x[:, :4], np.zeros((2, 4), np.float32), scale, x_scale=0.0)
    with pytest.raises(SettingError, match="setting 'x_scale' is missing"):
        cnncore.quantized_linear(x[:, :4], np.zeros((2, 4), np.float32), scale)


def test_terms_of_four_bytes_are_packed_as_pairs_are():
    """Panels for processors that multiply four bytes at a time hold the same weights in the same order."""
    w = np.random.default_rng(0).integers(-128, 128, (2, 5, 3, 7)).astype(np.int8)
    for terms in (2, 4):
        panels, found = packed(w, 16, terms)
        words = -(-21 // terms)
        rows = panels.reshape(2, 1, words, 16, terms).transpose(0, 1, 3, 2, 4).reshape(2, 16, words * terms)
        assert found == terms and np.array_equal(rows[:, :5, :21], w.reshape(2, 5, 21)) and not rows[:, 5:].any()
        assert not rows[:, :, 21:].any() and panels.itemsize * terms == 4


def test_it_says_that_it_is_for_inference_only():
    assert "train the float32 net" in IntegerConvolution().inference_only
