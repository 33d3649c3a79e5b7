"""Concatenation and addition against NumPy, at sizes beyond blocks and in every layout; all targets give the same bits."""

import numpy as np
import pytest
from support.layouts import PLAN_LAYOUTS, channel_slice, channels_last, last_axis_with_gaps

import cnncore

LAYOUTS = (np.ascontiguousarray, channels_last, last_axis_with_gaps, channel_slice, lambda a: a[::-1].copy()[::-1])


@pytest.fixture(params=cnncore.cpu.targets())
def target(request):
    with cnncore.cpu.target(request.param):
        yield request.param


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 17), (2, 4, 33, 70), (1, 3, 3, 5, 4), (0, 3, 4)])
def test_joins_and_sums(rng, target, shape, dtype):
    for axis in range(len(shape)):
        widths = (1, 4, 0, 3) if shape[axis] else (0, 0)
        parts = [rng.standard_normal((*shape[:axis], w, *shape[axis + 1 :])).astype(dtype) for w in widths]
        expected = np.concatenate(parts, axis)
        dy = rng.standard_normal(expected.shape).astype(dtype)
        for layout in LAYOUTS:
            y, backward = cnncore.concat.with_backward(*[layout(p) for p in parts], axis=axis - len(shape))
            assert np.array_equal(y, expected)
            gradients = backward(layout(dy))
            for found, right in zip(gradients, np.split(dy, np.cumsum(widths)[:-1], axis), strict=True):
                assert np.array_equal(found, right)
    terms = rng.standard_normal((6, *shape)).astype(dtype)
    coefficients = (1.0, -2.0, 0.5, 3.0, 1.0, 0.25)
    expected = sum(c * t.astype(np.float64) for c, t in zip(coefficients, terms, strict=True))
    for layout in LAYOUTS:
        y, backward = cnncore.add.with_backward(*map(layout, terms), coefficients=coefficients)
        assert np.allclose(y, expected, rtol=0, atol=4e-6 if dtype == np.float32 else 1e-14)
        mixed = cnncore.add(terms[0], layout(terms[1]))
        assert np.array_equal(mixed, terms[0] + terms[1])
        for c, found in zip(coefficients, backward(layout(terms[0])), strict=True):
            assert np.array_equal(found, dtype(c) * terms[0])


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
@pytest.mark.parametrize("layout", PLAN_LAYOUTS)
def test_concat_is_numpys(axis, layout):
    rng = np.random.default_rng(0)
    arrays = []
    for extent in (3, 1, 4):
        shape = [2, 3, 4, 5]
        shape[axis] = extent
        arrays.append(PLAN_LAYOUTS[layout](rng.standard_normal(shape)))
    y, backward = cnncore.concat.with_backward(*arrays, axis=axis)
    np.testing.assert_array_equal(y, np.concatenate(arrays, axis))
    np.testing.assert_array_equal(cnncore.concat(arrays, axis=axis), y)
    dy = rng.standard_normal(y.shape)
    for gradient, part in zip(backward(PLAN_LAYOUTS[layout](dy)), np.split(dy, [3, 4], axis), strict=True):
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
    first, second = (PLAN_LAYOUTS[name] for name in layouts)
    y = cnncore.add(first(a), second(b), coefficients=(2, -0.5))
    np.testing.assert_allclose(y, right, rtol=1e-14, atol=1e-15)
    for layout in PLAN_LAYOUTS.values():
        out = layout(np.zeros_like(a))
        assert cnncore.add(first(a), second(b), coefficients=(2, -0.5), out=out) is out
        np.testing.assert_array_equal(out, y)
    np.testing.assert_array_equal(cnncore.add(a, np.broadcast_to(b[:1], a.shape)), a + b[:1])
