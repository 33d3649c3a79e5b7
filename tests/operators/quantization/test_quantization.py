"""Quantization at the edges of its grid, and its gradients, which no numerical derivative can check."""

import numpy as np
import pytest
from support.layouts import LAYOUTS

import cnncore
from cnncore import SettingError, ShapeError

NAN, INF = np.nan, np.inf
LOW, HIGH = -8, 7
SCALE, ZERO = np.array([0.5]), np.array([2.0])
# Inside the grid, at halves, below and above.
X = np.array([[-0.3, 0.25, 0.75, 2.0], [-7.0, -4.9, 2.9, 50.0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_by_the_formula_in_any_layout(dtype, rng):
    x = rng.normal(0, 3, (2, 3, 5, 4)).astype(dtype)
    s, z = rng.uniform(0.1, 0.5, (3, 1, 1)).astype(dtype), np.array([[[-1]], [[0]], [[3]]], dtype)
    q = np.clip(np.rint(x / s) + z, LOW, HIGH)
    for layout in LAYOUTS:
        np.testing.assert_array_equal(cnncore.quantize(layout(x), s, z, low=LOW, high=HIGH), q)
        np.testing.assert_array_equal(cnncore.fake_quantize(layout(x), s, z, low=LOW, high=HIGH), (q - z) * s)


def test_halves_ends_and_nan():
    x = np.array([0.5, 1.5, 2.5, -0.5, 1e30, INF, -INF, NAN])
    np.testing.assert_array_equal(cnncore.quantize(x, np.ones(1)), [0, 2, 2, 0, 127, 127, -128, NAN])
    np.testing.assert_array_equal(
        cnncore.fake_quantize(x, np.ones(1), np.ones(1), low=0, high=255), [0, 2, 2, 0, 254, 254, -1, NAN]
    )


def test_gradients_by_the_formula():
    """Those of the straight-through estimator inside the grid; outside, those of the end that y is."""
    rounded = np.rint(X / SCALE)
    inside = (rounded + ZERO >= LOW) & (rounded + ZERO <= HIGH)
    assert 0 < inside.sum() < inside.size
    q, dy = np.clip(rounded + ZERO, LOW, HIGH), np.arange(1.0, 9).reshape(2, 4)
    expected = {
        "quantize": (inside / SCALE, np.where(inside, -X / SCALE**2, 0), inside),
        "fake_quantize": (
            inside,
            np.where(inside, rounded - X / SCALE, q - ZERO),
            np.where(inside, 0, -SCALE),
        ),
    }
    for name, slopes in expected.items():
        _, backward = cnncore.OPS[name].with_backward(X, SCALE, ZERO, low=LOW, high=HIGH)
        dx, ds, dz = backward(dy)
        np.testing.assert_allclose(dx, slopes[0] * dy, rtol=1e-14)
        np.testing.assert_allclose(ds, [(slopes[1] * dy).sum()], rtol=1e-14)
        np.testing.assert_allclose(dz, [(slopes[2] * dy).sum()], rtol=1e-14)


def test_fake_quantization_is_as_torchs(rng):
    torch = pytest.importorskip("torch")
    x, scale, zero = rng.normal(0, 3, (4, 6)).astype("f"), 0.11, 5
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    right = torch.fake_quantize_per_tensor_affine(tensor, scale, zero, 0, 31)
    right.backward(torch.from_numpy(np.cos(x)))
    y, backward = cnncore.fake_quantize.with_backward(x, np.array([scale], "f"), np.array([zero], "f"), low=0, high=31)
    np.testing.assert_allclose(y, right.detach().numpy(), rtol=1e-6)
    np.testing.assert_array_equal(backward(np.cos(x))[0], tensor.grad.numpy())


def test_grids_that_do_not_fit():
    for op in (cnncore.quantize, cnncore.fake_quantize):
        with pytest.raises(SettingError, match="low 7 must be less than high 7"):
            op(X, SCALE, low=7, high=7)
        with pytest.raises(ShapeError, match="must broadcast to input"):
            op(X, np.ones((3, 2, 4)))
