"""The comparison of values and gradients with PyTorch, whose operators cnncore.testing.conformance has."""

import numpy as np

from cnncore.testing.conformance import adapter
from support.cases import as_list, first
from support.oracles import compared_with

TORCH = adapter("torch")
ORACLES = TORCH.operators


def compare(op, arrays, settings, limit):
    """y and all gradients of an operator against PyTorch's."""
    y, backward = op.with_backward(*arrays, **settings)
    y = np.asarray(first(y))
    bound, _ = op.bind(arrays, dict(settings))
    needs_gradient = op.needs_gradient(bound)
    differentiated = op.yields == "real" and any(needs_gradient)
    dy = np.random.default_rng(5).standard_normal(y.shape).astype(y.dtype) if differentiated else None
    expected, gradients = TORCH.compute(op.name, {**op.settings, **settings}, arrays, needs_gradient, dy)
    assert expected.shape == y.shape
    compared_with("PyTorch", op)
    if not differentiated:
        np.testing.assert_array_equal(y, expected)
        return
    for number, (a, b) in enumerate(zip([y, *as_list(backward(dy))], [expected, *gradients], strict=True)):
        difference = np.abs(a - b).max(initial=0)
        what = "y" if number == 0 else f"gradient {number - 1}"
        assert difference <= limit * max(np.abs(b).max(initial=0), 1e-3), f"{what} differs by {difference:.3g}"
