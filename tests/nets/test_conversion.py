"""Linear classifiers as convolutions and back: the same scores, in both orders of flattening."""

import itertools

import numpy as np
import pytest

import cnncore
from cnncore import DtypeError, SettingError, ShapeError

ORDERS = ("channels_first", "channels_last")
SHAPES = ((3, 5), (3, 4, 5), (2, 3, 2, 4), (1, 1, 1))


def flattened(x, order):
    """Rows of flattened images, written with loops over pixels."""
    N, C, *spatial = x.shape
    rows = []
    for n in range(N):
        row = []
        if order == "channels_first":
            for c in range(C):
                row += [x[(n, c, *p)] for p in itertools.product(*map(range, spatial))]
        else:
            for p in itertools.product(*map(range, spatial)):
                row += [x[(n, c, *p)] for c in range(C)]
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_same_scores(rng, shape, order):
    x, w, b = rng.standard_normal((2, *shape)), rng.standard_normal((4, np.prod(shape))), rng.standard_normal(4)
    expected = cnncore.linear(flattened(x, order), w, b)
    made = cnncore.linear_to_conv(w, shape, order, example=(x[0], w @ flattened(x[:1], order)[0]))
    assert made.shape == (4, *shape)
    np.testing.assert_allclose(cnncore.conv(x, made, b).reshape(2, 4), expected, rtol=1e-12)
    np.testing.assert_array_equal(cnncore.conv_to_linear(made, order), w)
    slid = cnncore.linear_as_conv(x, w, b, image_size=shape[1:], order=order)
    np.testing.assert_allclose(slid.reshape(2, 4), expected, rtol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_larger_images_give_every_window_its_scores(rng, order):
    x, w = rng.standard_normal((1, 3, 6, 7)), rng.standard_normal((5, 3 * 4 * 2))
    y = cnncore.conv(x, cnncore.linear_to_conv(w, (3, 4, 2), order))
    assert y.shape == (1, 5, 3, 6)
    for i, j in itertools.product(range(3), range(6)):
        window = flattened(x[:, :, i : i + 4, j : j + 2], order)
        np.testing.assert_allclose(y[:, :, i, j], cnncore.linear(window, w), rtol=1e-12)


def test_an_example_finds_the_wrong_order(rng):
    x, w = rng.standard_normal((3, 4, 5)), rng.standard_normal((6, 60))
    scores = w @ x.transpose(1, 2, 0).ravel()
    with pytest.raises(SettingError, match="order='channels_last' reproduces them"):
        cnncore.linear_to_conv(w, x.shape, example=(x, scores))
    with pytest.raises(SettingError, match="neither order does"):
        cnncore.linear_to_conv(w, x.shape, example=(x, scores + 1))
    with pytest.raises(ShapeError, match="expected \\(3, 4, 5\\) and \\(6,\\)"):
        cnncore.linear_to_conv(w, x.shape, example=(x[:2], scores))


def test_what_cannot_be_converted(rng):
    w = rng.standard_normal((2, 12))
    for call, error, message in (
        (lambda: cnncore.linear_to_conv(w, (3, 5)), ShapeError, "flatten to 15 features"),
        (lambda: cnncore.linear_to_conv(w, (12,)), ShapeError, "expected \\(C, L\\)"),
        (lambda: cnncore.linear_to_conv(w, (3, 0)), SettingError, "at least 1"),
        (lambda: cnncore.linear_to_conv(w, (3, 4), order="NHWC"), SettingError, "order must be one of"),
        (lambda: cnncore.linear_to_conv(w.astype(int), (3, 4)), DtypeError, "expected float32 or float64"),
        (lambda: cnncore.conv_to_linear(w), ShapeError, "one to three spatial axes"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_gradients_of_a_slid_classifier_are_those_of_the_convolution(rng):
    x, w = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((4, 3 * 3 * 2))
    y, backward = cnncore.linear_as_conv.with_backward(x, w, image_size=(3, 2), order="channels_last")
    made = cnncore.linear_to_conv(w, (3, 3, 2), "channels_last")
    plain, plain_backward = cnncore.conv.with_backward(x, made)
    np.testing.assert_array_equal(y, plain)
    dx, dw = backward(y)
    expected_dx, expected_dw = plain_backward(y)
    np.testing.assert_array_equal(dx, expected_dx)
    np.testing.assert_array_equal(dw, cnncore.conv_to_linear(expected_dw, "channels_last"))
