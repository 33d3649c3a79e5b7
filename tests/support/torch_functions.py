"""An operator against a function of PyTorch that the test writes down."""

import numpy as np
import pytest

__all__ = ["compare_with_torch"]


def compare_with_torch(
    op, arrays, settings, function, *, layout=np.ascontiguousarray, tolerance=1e-11, differentiable=None
):
    """y and all gradients of ``op`` against those of ``function`` on torch tensors."""
    torch = pytest.importorskip("torch")
    arrays = [layout(a) if a is not None and a.ndim > 2 and a.dtype.kind == "f" else a for a in arrays]
    y, backward = op.with_backward(*arrays, **settings)
    y = y[0] if isinstance(y, tuple) else y
    floats = [a is not None and a.dtype.kind == "f" for a in arrays]
    if differentiable is not None:
        floats = [f and i in differentiable for i, f in enumerate(floats)]
    tensors = [
        None if a is None else torch.from_numpy(np.array(a)).requires_grad_(f)
        for a, f in zip(arrays, floats, strict=True)
    ]
    right = function(*tensors)
    dy = np.asarray(np.random.default_rng(9).standard_normal(y.shape), y.dtype)
    right.backward(torch.from_numpy(dy))
    gradients = backward(dy)
    gradients = list(gradients) if isinstance(gradients, tuple) else [gradients]
    rights = [t.grad.numpy() for t, f in zip(tensors, floats, strict=True) if f]
    for result, expected in zip([y, *gradients], [right.detach().numpy(), *rights], strict=True):
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
