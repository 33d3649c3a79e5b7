"""Comparisons, logic, choices and casts at the values where they are decided: NaN, ∞, ±0, the ends of int64."""

import numpy as np
import pytest
from support.layouts import LAYOUTS

import cnncore
from cnncore import ShapeError

NAN, INF = np.nan, np.inf
VALUES = np.array([-INF, -1.5, -0.0, 0.0, 1.0, INF, NAN])
NUMPY = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NUMPY)
def test_every_pair_of_values_as_numpy(name, dtype):
    x, z = VALUES.astype(dtype)[:, None], VALUES.astype(dtype)[None]
    if name.startswith("logical"):
        x, z = x > 0, z > 0
    for layout in LAYOUTS:
        y = cnncore.OPS[name](layout(x), layout(z))
        assert y.dtype == np.bool_
        np.testing.assert_array_equal(y, NUMPY[name](x, z))


def test_every_operator_of_two_arrays_is_compared():
    named = {
        n for n, op in cnncore.OPS.items() if type(op.implementation).__module__.endswith("comparison.implementation")
    }
    assert set(NUMPY) <= named
    assert named - set(NUMPY) == {"is_nan", "is_inf", "logical_not", "where", "as_real", "as_index", "as_mask"}


def test_nan_infinity_and_their_signs():
    np.testing.assert_array_equal(cnncore.is_nan(VALUES), np.isnan(VALUES))
    np.testing.assert_array_equal(cnncore.is_inf(VALUES), np.isinf(VALUES))
    np.testing.assert_array_equal(cnncore.is_inf(VALUES, negative=False), np.isposinf(VALUES))
    np.testing.assert_array_equal(cnncore.is_inf(VALUES, positive=False), np.isneginf(VALUES))
    assert not cnncore.is_inf(VALUES, negative=False, positive=False).any()


def test_casts_at_the_ends_of_their_range():
    ends = np.iinfo(np.int64)
    whole = cnncore.as_index(np.array([-1.9, 1.9, 1e30, -1e30, INF, -INF, NAN]))
    assert whole.dtype == np.int64
    assert whole.tolist() == [-1, 1, ends.max, ends.min, ends.max, ends.min, 0]
    assert cnncore.as_mask(np.array([-0.0, 0.0, 1e-310, NAN])).tolist() == [False, False, True, True]
    assert cnncore.as_real(np.array([True, False])).tolist() == [1.0, 0.0]
    np.testing.assert_array_equal(cnncore.logical_not(np.array([True, False])), [False, True])


def test_a_value_that_is_not_selected_has_no_influence(rng):
    """Neither on y nor on a gradient; the gradient of what was broadcast is the sum over its copies."""
    x, z = rng.standard_normal((2, 3, 4)), rng.standard_normal((3, 1))
    condition = rng.random((2, 3, 4)) < 0.5
    y, backward = cnncore.where.with_backward(condition, np.where(condition, x, NAN), z)
    np.testing.assert_array_equal(y, np.where(condition, x, z))
    dy = rng.standard_normal(y.shape)
    dx, dz = backward(dy)
    np.testing.assert_array_equal(dx, np.where(condition, dy, 0))
    np.testing.assert_allclose(dz, np.where(condition, 0, dy).sum((0, 2))[:, None], rtol=1e-14)


def test_shapes_that_do_not_broadcast():
    for name, dtype in (("equal", float), ("logical_and", bool)):
        with pytest.raises(ShapeError, match=rf"{name}: .*\(2, 3\) and \(2, 4\)"):
            cnncore.OPS[name](np.ones((2, 3), dtype), np.ones((2, 4), dtype))
