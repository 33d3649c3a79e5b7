"""Pooling by statistics, beyond what the walks over the registry see: limits of its iterations, layers in a graph, edges."""

import numpy as np
import pytest

import cnncore
from cnncore import ShapeError
from cnncore.testing import check_gradient


def symmetric(y, C):
    """The matrix whose upper triangle y holds."""
    S = np.zeros((C, C))
    S[np.triu_indices(C)] = y
    return S + S.T - np.diag(np.diag(S))


def test_covariance_approaches_the_root_of_the_matrix(rng):
    x = rng.standard_normal((1, 4, 5, 6)) * np.array([1, 2, 4, 8.0]).reshape(1, 4, 1, 1)
    P = np.cov(x.reshape(4, 30), bias=True)
    values, vectors = np.linalg.eigh(P)
    root = vectors * np.sqrt(values) @ vectors.T
    error = [abs(symmetric(cnncore.covariance_pool(x, iterations=n)[0], 4) - root).max() for n in (2, 4, 6, 30)]
    assert error == sorted(error, reverse=True) and error[-1] < 1e-12
    assert np.allclose(symmetric(cnncore.covariance_pool(x, iterations=0)[0], 4), P, atol=1e-14)


def test_a_covariance_without_full_rank_stays_finite(rng):
    x = rng.standard_normal((1, 8, 3)).astype("f")
    y, backward = cnncore.covariance_pool.with_backward(x, iterations=30)
    assert np.isfinite(y).all() and np.isfinite(backward(np.ones_like(y))).all()


@pytest.mark.parametrize(
    "settings", [{}, {"gated": True, "hidden": 5}, {"hidden": 3}], ids=["attention", "gated", "small"]
)
def test_attention_in_a_graph(settings, rng):
    g = cnncore.Graph()
    g.output(g.linear(g.attention_pool(g.input(channels=3), **settings, name="bag"), 2))
    net = g.build(seed=1, dtype="float64")
    assert ("bag.u" in net.parameters) == settings.get("gated", False)
    assert check_gradient(net, rng.standard_normal((2, 3, 4, 5)), method="projection") < 1e-8


@pytest.mark.parametrize(
    "build",
    [
        lambda g, h: g.net_vlad(h, clusters=3),
        lambda g, h: g.net_vlad(h, clusters=3, bias=False),
        lambda g, h: g.covariance_pool(h),
        lambda g, h: g.bilinear_pool(h),
        lambda g, h: g.bilinear_pool(h, g.conv(h, 2, kernel_size=1)),
        lambda g, h: g.global_avg_pool(g.strip_pool(h, gate=True)),
        lambda g, h: g.global_avg_pool(g.strip_pool(h, learned=False)),
        lambda g, h: g.global_avg_pool(g.wavelet_pool(g.blur_pool(g.max_blur_pool(h, stride=1), stride=1))),
        lambda g, h: g.flatten(g.hartley_pool(g.spectral_pool(h, output_size=4), output_size=2)),
    ],
    ids=[
        "vlad",
        "vlad-unbiased",
        "covariance",
        "bilinear",
        "bilinear-two",
        "strips",
        "strips-plain",
        "blur",
        "spectra",
    ],
)
def test_in_a_graph(build, rng, tmp_path):
    g = cnncore.Graph()
    x = g.input(channels=3)
    g.output(g.linear(build(g, g.conv(x, 4, kernel_size=1, activation="tanh")), 2))
    net = g.build(seed=1, dtype="float64")
    images = rng.standard_normal((2, 3, 6, 7))
    assert check_gradient(net, images, method="projection") < 1e-8
    net.save(tmp_path / "net.cnn")
    assert np.array_equal(cnncore.load(tmp_path / "net.cnn")(images), net(images))


def test_shapes_that_do_not_fit():
    x = np.ones((2, 3, 4, 5))
    for call, message in (
        (lambda: cnncore.attention_pool(x, np.ones((4, 2)), np.ones(4)), "v has shape"),
        (lambda: cnncore.attention_pool(x, np.ones((4, 3)), np.ones(3)), "w has shape"),
        (lambda: cnncore.attention_pool(x, np.ones((0, 3)), np.ones(0)), "at least one row"),
        (lambda: cnncore.bilinear_pool(x, np.ones((2, 3, 4, 4))), "the images and cells of x"),
        (lambda: cnncore.net_vlad(x, np.ones((4, 3)), np.ones((3, 3))), "that of w"),
        (lambda: cnncore.strip_pool(x, np.ones((3, 3, 2))), "it must be odd"),
    ):
        with pytest.raises(ShapeError, match=message):
            call()


def test_a_cluster_whose_cells_lie_on_its_centre():
    """Vₖ = 0: its part of y is 0, without a gradient; where all are 0 nothing has one."""
    x = np.ones((1, 2, 3))
    w = np.zeros((2, 2))
    for c, nothing in ((np.array([[1.0, 1], [0, 0]]), False), (np.ones((2, 2)), True)):
        y, backward = cnncore.net_vlad.with_backward(x, w, c)
        gradients = backward(np.array([[1.0, 2, 3, 4]]))
        assert not y[0, :2].any() and y.any() != nothing
        assert all(np.isfinite(g).all() for g in gradients)
        assert not nothing or not any(g.any() for g in gradients)
