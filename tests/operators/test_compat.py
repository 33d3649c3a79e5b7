"""compat=: what other frameworks do where they differ, by their formulas, and what does not fit is refused."""

import numpy as np
import pytest

import cnncore
from cnncore import SettingError


def response_norm(x, before, after, alpha, beta, k):
    """y_c = x_c (k + α Σ x_j²)^−β over the channels j = c − before … c + after that exist."""
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        window = x[:, max(0, c - before) : c + after + 1]
        y[:, c] = x[:, c] * (k + alpha * np.square(window).sum(axis=1)) ** -beta
    return y


@pytest.mark.parametrize("target", cnncore.cpu.targets())
@pytest.mark.parametrize(
    "size, compat, before, after, divided",
    [
        (4, None, 2, 1, True),
        (4, "onnx", 1, 2, True),
        (5, "onnx", 2, 2, True),
        (5, "tf", 2, 2, False),
        (3, "caffe", 1, 1, True),
    ],
)
def test_response_normalization(rng, target, size, compat, before, after, divided):
    x = rng.standard_normal((2, 7, 3, 4))
    expected = response_norm(x, before, after, 0.3 / (size if divided else 1), 0.6, 1.5)
    settings = {"size": size, "alpha": 0.3, "beta": 0.6, "k": 1.5, "compat": compat}
    with cnncore.cpu.target(target):
        np.testing.assert_allclose(cnncore.local_response_norm(x, **settings), expected, rtol=1e-12)
        assert cnncore.testing.check_gradient(cnncore.local_response_norm, x[:1, :, :2, :2], **settings) < 1e-8


def test_running_variances(rng):
    x = rng.standard_normal((3, 2, 4))
    for compat, freedom in ((None, 1), ("tf", 0), ("onnx", 0)):
        _, mean, variance = cnncore.batch_norm(
            x, running_mean=np.zeros(2), running_var=np.ones(2), momentum=0.25, return_statistics=True, compat=compat
        )
        np.testing.assert_allclose(mean, 0.25 * x.mean((0, 2)), rtol=1e-12)
        np.testing.assert_allclose(variance, 0.75 + 0.25 * x.var((0, 2), ddof=freedom), rtol=1e-12)


def test_squared_error_of_caffe(rng):
    x, target = rng.standard_normal((2, 3, 4, 5))
    loss, backward = cnncore.mean_squared_error.with_backward(x, target, compat="caffe")
    assert loss == pytest.approx(np.square(x - target).sum() / 6)
    np.testing.assert_allclose(backward(1.0)[0], (x - target) / 3, rtol=1e-12)


def test_mean_of_the_losses_of_weighted_classes(rng):
    """Keras: Σ v ℓ over the number of targets; PyTorch: over the sum of their weights."""
    x, target, weight = rng.standard_normal((5, 3, 2)), rng.integers(0, 3, (5, 2)), np.array([0.5, 2.0, 4.0])
    target[0, 1] = target[3, 0] = -100
    log_p = x - np.log(np.exp(x).sum(1, keepdims=True))
    valid = target >= 0
    losses = -np.take_along_axis(log_p, np.maximum(target, 0)[:, None], 1)[:, 0] * weight[np.maximum(target, 0)] * valid
    for compat, counted in ((None, weight[target[valid]].sum()), ("tf", 8)):
        loss = cnncore.softmax_cross_entropy(x, target, weight, compat=compat)
        assert loss == pytest.approx(losses.sum() / counted, rel=1e-12)
    assert cnncore.testing.check_gradient(cnncore.softmax_cross_entropy, x, target, weight, compat="tf") < 1e-8
    nothing = np.full_like(target, -100)
    assert cnncore.softmax_cross_entropy(x, nothing, weight, compat="tf") == 0
    same = [cnncore.softmax_cross_entropy(x, target, compat=compat) for compat in (None, "tf")]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda x: cnncore.local_response_norm(x, size=4, compat="tf"), "compat='tf' it is odd"),
        (lambda x: cnncore.local_response_norm(x, size=2, compat="caffe"), "compat='caffe' it is odd"),
        (lambda x: cnncore.mean_squared_error(x, x, reduction="sum", compat="caffe"), "leave compat out"),
    ],
)
def test_what_does_not_fit_is_refused(call, text):
    with pytest.raises(SettingError, match=text):
        call(np.ones((1, 4, 2)))
