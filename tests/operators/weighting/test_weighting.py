"""Pooling by computed weights, beyond what the walks over the registry see: weights without bounds, layers in a graph."""

import numpy as np
import pytest

import cnncore
from cnncore.testing import check_gradient


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e4, -1e4, np.inf, -np.inf])
def test_logits_without_bounds(size, dtype):
    """One cell far above or below the others; infinities stand for the limit."""
    x = np.array([[[1, 2, 3]]], dtype)
    logit = np.array([[[0, size, 0]]], dtype)
    y, backward = cnncore.local_importance_pool.with_backward(x, logit, kernel_size=3)
    assert y == 2  # the middle cell alone, or the mean of the other two
    dx, dlogit = backward(np.ones_like(y))
    assert np.array_equal(dx[0, 0], [0, 1, 0] if size > 0 else [0.5, 0, 0.5])
    assert np.array_equal(dlogit[0, 0], [0, 0, 0] if size > 0 else [-0.5, 0, 0.5])


def test_equal_logits_are_the_average(rng):
    x = rng.standard_normal((2, 3, 7, 6))
    for logit in (0.0, 300.0, -np.inf):
        y = cnncore.local_importance_pool(x, np.full(x.shape, logit), kernel_size=3, stride=2, padding=1)
        expected = cnncore.avg_pool(x, kernel_size=3, stride=2, padding=1, count_include_pad=False)
        assert np.allclose(y, expected, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_details_of_any_size(dtype, rng):
    """No square overflows, and a constant window has equal weights and no gradient beyond them."""
    ones = np.zeros(1, dtype)
    for size in (1e-30, 1e30) if dtype == np.float32 else (1e-200, 1e200):
        x = (rng.standard_normal((1, 1, 6, 6)) * size).astype(dtype)
        y, backward = cnncore.detail_preserving_pool.with_backward(x, ones, ones, kernel_size=3)
        gradients = backward(np.ones_like(y))
        assert all(np.isfinite(a).all() for a in (y, *gradients))
        assert abs(y).max() <= abs(x).max()
    y, backward = cnncore.detail_preserving_pool.with_backward(np.full((1, 1, 4), 3, dtype), ones, ones, kernel_size=4)
    dx, dalpha, dlam = backward(np.ones_like(y))
    assert y == 3 and np.allclose(dx, 0.25) and dalpha == 0 and dlam == 0


def test_strong_exponents_take_the_farthest_cell():
    x = np.array([[[0.0, 1.0, 0.5, 9.0]]])
    y = cnncore.detail_preserving_pool(x, np.array([0.0]), np.array([9.0]), kernel_size=4)
    assert y == 9


@pytest.mark.parametrize("full", [False, True])
def test_in_a_graph(full, rng, tmp_path):
    g = cnncore.Graph()
    h = g.conv(g.input(channels=2), 3, kernel_size=1, activation="tanh")
    h = g.local_importance_pool(h, g.conv(h, 3, kernel_size=1), kernel_size=3, stride=2, padding=1)
    h = g.detail_preserving_pool(h, kernel_size=2, full=full, name="details")
    g.output(g.linear(g.global_avg_pool(h), 2))
    net = g.build(seed=1, dtype="float64")
    if full:
        assert np.array_equal(net.parameters["details.w"], np.full((3, 3, 3), 1 / 9))
    images = rng.standard_normal((2, 2, 9, 8))
    assert check_gradient(net, images, method="projection") < 1e-8
    net.save(tmp_path / "net.cnn")
    assert np.array_equal(cnncore.load(tmp_path / "net.cnn")(images), net(images))
