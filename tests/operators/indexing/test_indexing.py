"""Positions along axes at ties, NaN and negative indices; what is put at one place several times; boxes that overlap."""

import numpy as np
import pytest
from support.layouts import LAYOUTS

import cnncore
from cnncore import SettingError, ShapeError
from cnncore.testing import check_gradient

NAN = np.nan


def test_positions_of_extremes_at_ties_and_nan():
    x = np.array([[2.0, 5, 5, 1, 1], [3, NAN, 4, NAN, 3]])
    assert cnncore.arg_max(x, keepdims=False).tolist() == [1, 1]
    assert cnncore.arg_max(x, keepdims=False, last=True).tolist() == [2, 3]
    assert cnncore.arg_min(x, keepdims=False).tolist() == [3, 1]
    assert cnncore.arg_min(x, keepdims=False, last=True).tolist() == [4, 3]
    with pytest.raises(ShapeError):
        cnncore.arg_max(np.ones((2, 0)))


@pytest.mark.parametrize("largest", [True, False])
def test_sorted_values_keep_the_order_of_equal_ones(largest, rng):
    x = rng.integers(0, 4, (3, 11, 2)).astype(float)
    for layout in LAYOUTS:
        y, indices = cnncore.top_k(layout(x), k=None, largest=largest, return_indices=True)
        right = np.argsort(-x if largest else x, axis=1, kind="stable")
        np.testing.assert_array_equal(indices, right)
        np.testing.assert_array_equal(y, np.take_along_axis(x, right, 1))
    with pytest.raises(ShapeError):
        cnncore.top_k(x, k=12)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_cumulative_sums_and_products(exclusive, reverse, rng):
    x = rng.standard_normal((2, 5, 3))
    x[0, 2, 1] = 0  # through which a product's gradient still flows
    given = x[:, ::-1] if reverse else x
    for op, accumulate, start in ((cnncore.cumulative_sum, np.cumsum, 0), (cnncore.cumulative_product, np.cumprod, 1)):
        right = accumulate(given, 1)
        if exclusive:
            right = np.concatenate([np.full((2, 1, 3), float(start)), right[:, :-1]], 1)
        right = right[:, ::-1] if reverse else right
        settings = {"exclusive": exclusive, "reverse": reverse}
        np.testing.assert_allclose(op(x, **settings), right, rtol=1e-14, atol=1e-15)
        check_gradient(op, x, **settings)


REDUCTIONS = {"add": np.add, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum}


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_updates_that_meet_are_combined_in_order(reduction, rng):
    x, updates = rng.standard_normal((2, 4)), rng.standard_normal((2, 6))
    indices = rng.integers(-4, 4, (2, 6))
    right = x.copy()
    for row in range(2):
        REDUCTIONS[reduction].at(right[row], indices[row], updates[row])
    y = cnncore.scatter_elements(x, indices, updates, axis=1, reduction=reduction)
    np.testing.assert_allclose(y, right, rtol=1e-14)
    places = np.stack([np.broadcast_to([[0], [1]], indices.shape), indices], -1)
    np.testing.assert_allclose(cnncore.scatter_nd(x, places, updates, reduction=reduction), right, rtol=1e-14)
    check_gradient(cnncore.scatter_elements, x, indices, updates, axis=1, reduction=reduction)


def test_indices_count_from_the_end_and_end_at_the_extent(rng):
    x = rng.standard_normal((3, 4))
    indices = np.array([[-1, -4], [3, 0], [2, -2]])
    np.testing.assert_array_equal(cnncore.gather_elements(x, indices, axis=1), np.take_along_axis(x, indices, 1))
    np.testing.assert_array_equal(cnncore.gather_nd(x, np.array([[-1, 0], [0, -1]])), [x[-1, 0], x[0, -1]])
    for wrong in (4, -5, 2**40):
        with pytest.raises(SettingError):
            cnncore.gather_elements(x, np.full((3, 1), wrong), axis=1)
        with pytest.raises(SettingError):
            cnncore.scatter_elements(x, np.full((3, 1), wrong), np.ones((3, 1)), axis=1)


def test_classes_out_of_range_are_nowhere():
    y = cnncore.one_hot(np.array([[0, -1, 3, -4]]), depth=3, axis=-1, on=2.0, off=-1.0)
    assert y[0].tolist() == [[2, -1, -1], [-1, -1, 2], [-1, -1, -1], [-1, -1, -1]]


@pytest.mark.parametrize("diagonal", [-9, -1, 0, 2, 9])
@pytest.mark.parametrize("upper", [True, False])
def test_triangles_as_numpy(diagonal, upper, rng):
    x = rng.standard_normal((2, 3, 5))
    right = (np.triu if upper else np.tril)(x, diagonal)
    np.testing.assert_array_equal(cnncore.triangle(x, diagonal=diagonal, upper=upper), right)


def test_boxes_are_kept_by_their_scores():
    boxes = np.array([[[0.0, 0, 4, 4], [9, 9, 5.5, 6], [0, 0, 4, 3.9], [10, 10, 12, 12], [5, 5, 5, 5]]])
    scores = np.array([[[0.9, 0.9, 0.8, NAN, 0.1]]])
    kept = cnncore.non_max_suppression(boxes, scores, max_output_boxes=10)
    assert kept[:, 2].tolist() == [0, 1, 4]  # 2 is covered by 0; 3 has no score
    assert cnncore.non_max_suppression(boxes, scores, max_output_boxes=1)[:, 2].tolist() == [0]
    assert cnncore.non_max_suppression(boxes, scores, max_output_boxes=9, score_threshold=0.5)[:, 2].tolist() == [0, 1]
