"""Pooling at given places, beyond what the walks over the registry see: boxes at borders, repeated indices, offsets."""

import numpy as np
import pytest

import cnncore
from cnncore import SettingError, ShapeError
from cnncore.errors import DataError
from cnncore.testing import check_gradient


def box(*corners):
    return np.array([corners], float), np.array([0])


# ── RoI align ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_sample_in_the_middle_of_a_cell_is_that_cell(rng):
    x = rng.standard_normal((1, 2, 5, 6))
    y = cnncore.roi_align(x, *box(0, 0, 6, 5), output_size=(5, 6), aligned=True, sampling_ratio=1)
    assert np.array_equal(y[0], x[0])


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize(
    "corners",
    [(20, 20, 25, 25), (-30, 0, -20, 4), (0, 40, 3, 50)],
    ids=["beyond", "left", "below"],
)
def test_a_box_outside_the_image_is_nothing(corners, mode, rng):
    x = rng.standard_normal((1, 2, 5, 6))
    y, backward = cnncore.roi_align.with_backward(x, *box(*corners), output_size=2, mode=mode)
    assert not y.any() and not backward(np.ones_like(y)).any()


@pytest.mark.parametrize("corners", [(2, 2, 2, 2), (4, 4, 1, 1)], ids=["no extent", "turned round"])
def test_aligned_boxes_without_samples(corners, rng):
    x = rng.standard_normal((1, 2, 5, 6))
    for mode in ("avg", "max"):
        y, backward = cnncore.roi_align.with_backward(x, *box(*corners), output_size=2, mode=mode, aligned=True)
        assert not y.any() and not backward(np.ones_like(y)).any()
    assert cnncore.roi_align(
        x, *box(*corners), output_size=2
    ).any()  # at least one cell wide where they are not aligned


def test_no_boxes(rng):
    x = rng.standard_normal((2, 4, 5, 6))
    for op in (cnncore.roi_align, cnncore.position_sensitive_roi_pool):
        y, backward = op.with_backward(x, np.zeros((0, 4)), np.zeros(0, int), output_size=2)
        assert y.shape == (0, 4 if op is cnncore.roi_align else 1, 2, 2)
        assert not backward(y).any() and backward(y).shape == x.shape


def test_cells_without_weight_are_not_read():
    """A NaN beside a sample that falls on a cell, and NaN as the maximum."""
    x = np.ones((1, 1, 4, 4))
    x[0, 0, 2, 2] = np.nan
    y = cnncore.roi_align(x, *box(0, 0, 4, 4), output_size=4, aligned=True, sampling_ratio=1)
    assert np.array_equal(np.isnan(y[0, 0]), np.isnan(x[0, 0]))
    assert np.isnan(cnncore.roi_align(x, *box(0, 0, 4, 4), output_size=1, mode="max", sampling_ratio=4)).all()


def test_boxes_that_make_no_sense():
    x = np.ones((2, 4, 5, 6))
    for op in (cnncore.roi_align, cnncore.position_sensitive_roi_pool):
        for corners, image, message in (
            ((0, 0, np.nan, 2), 0, r"rois\[0\] is"),
            ((0, 0, np.inf, 2), 0, r"rois\[0\] is"),
            ((0, 0, 2, 2), 2, r"batch_indices\[0\] is 2; the input has 2 images"),
            ((0, 0, 2, 2), -1, r"batch_indices\[0\] is -1"),
        ):
            with pytest.raises(DataError, match=message):
                op(x, np.array([corners], float), np.array([image]), output_size=2)
        with pytest.raises(ShapeError, match="one row x1, y1, x2, y2 per box"):
            op(x, np.ones((1, 5)), np.array([0]), output_size=2)
        with pytest.raises(ShapeError, match="the image of each"):
            op(x, np.ones((2, 4)), np.array([0]), output_size=2)
    with pytest.raises(DataError, match="samples per bin and axis; give sampling_ratio"):
        cnncore.roi_align(x, *box(0, 0, 1e6, 1), output_size=2)
    with pytest.raises(ShapeError, match="each bin reads a channel of its own: use 9 channels"):
        cnncore.position_sensitive_roi_pool(x, *box(0, 0, 2, 2), output_size=3)


def test_edges_of_a_box_on_whole_cells():
    """Bins that begin and end on cells share none; those that do not share the cell at their edge."""
    x = np.arange(4 * 16.0).reshape(1, 4, 4, 4)
    y = cnncore.position_sensitive_roi_pool(x, *box(0, 0, 4, 4), output_size=2)
    assert np.array_equal(
        y[0, 0], [[x[0, 0, :2, :2].mean(), x[0, 1, :2, 2:].mean()], [x[0, 2, 2:, :2].mean(), x[0, 3, 2:, 2:].mean()]]
    )
    y = cnncore.position_sensitive_roi_pool(x, *box(0, 0, 3, 3), output_size=2)
    assert y[0, 0, 0, 0] == x[0, 0, :2, :2].mean() and y[0, 0, 1, 1] == x[0, 3, 1:3, 1:3].mean()


# ── Max unpooling ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_values_return_to_their_places(rank, rng):
    x = np.abs(rng.standard_normal((2, 3, *(6 + axis for axis in range(rank)))))
    y, indices = cnncore.max_pool(x, kernel_size=3, stride=2, padding=1, return_indices=True)
    back = cnncore.max_unpool(y, indices, kernel_size=3, stride=2, padding=1, output_size=x.shape[2:])
    assert np.array_equal(back != 0, np.isin(x, y)) and np.array_equal(back[back != 0], x[back != 0])


def test_the_last_of_several_values_counts():
    x, indices = np.array([[[1.0, 2.0, 3.0]]]), np.array([[[4, 1, 4]]])
    y, backward = cnncore.max_unpool.with_backward(x, indices, kernel_size=2)
    assert y.tolist() == [[[0, 2, 0, 0, 3, 0]]]
    assert backward(np.arange(6.0).reshape(1, 1, 6)).tolist() == [[[0, 1, 4]]]
    y, backward = cnncore.max_unpool.with_backward(x, indices, kernel_size=2, duplicates="add")
    assert y.tolist() == [[[0, 2, 0, 0, 4, 0]]]
    assert backward(np.arange(6.0).reshape(1, 1, 6)).tolist() == [[[4, 1, 4]]]


def test_places_that_do_not_exist():
    x = np.ones((1, 2, 3))
    for index in (-1, 6, 2**40):
        with pytest.raises(DataError, match="outside the output"):
            cnncore.max_unpool(x, np.full(x.shape, index), kernel_size=2)
    with pytest.raises(DataError):  # of the other plane
        cnncore.max_unpool(x, np.zeros(x.shape, int), kernel_size=2, compat="onnx")
    with pytest.raises(SettingError, match="is not what was pooled"):
        cnncore.max_unpool(x, np.zeros(x.shape, int), kernel_size=2, output_size=8)
    with pytest.raises(ShapeError, match="one index per value"):
        cnncore.max_unpool(x, np.zeros((1, 2, 4), int), kernel_size=2)


# ── Polyphase ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_shifted_image_gives_the_same_values(rng):
    x = rng.standard_normal((2, 3, 8, 8))
    y = cnncore.polyphase_pool(x)
    for shift in np.ndindex(3, 3):
        shifted = cnncore.polyphase_pool(np.roll(x, shift, (2, 3)))
        for n in range(2):
            assert np.array_equal(np.sort(shifted[n], axis=None), np.sort(y[n], axis=None))


def test_offsets_are_returned_and_nan_is_taken():
    x = np.zeros((2, 1, 4, 4))
    x[0, 0, 1, 2] = 1
    x[1, 0, 0, 0], x[1, 0, 2, 3] = 5, np.nan
    y, offsets = cnncore.polyphase_pool(x, return_indices=True)
    assert offsets.tolist() == [2, 1] and np.isnan(y[1]).sum() == 1
    assert cnncore.polyphase_pool(np.full((1, 1, 2), 1e300), p=5.0).tolist() == [[[1e300]]]


# ── Boxes with edges anywhere ──────────────────────────────────────────────────────────────────────────────────────────


def test_gradients_of_boxes(rng):
    x = rng.standard_normal((2, 4, 6, 7))
    rois, images = np.array([[0.5, 1, 5, 4.5], [1, 0, 3, 6.0]]), np.array([1, 0])
    check_gradient(cnncore.roi_align, x, rois, images, output_size=3, aligned=True)
    check_gradient(cnncore.position_sensitive_roi_pool, x, rois, images, output_size=2)
