"""Gradients of whole nets."""

import numpy as np
import pytest


def check_gradients(net, *xs, tolerance=1e-6, **mode):
    """All gradients of a float64 net against central differences along random directions."""
    rng = np.random.default_rng(3)
    ys, backward = net.with_backward(*xs, **mode)
    ys = ys if isinstance(ys, tuple) else (ys,)
    dys = [rng.standard_normal(y.shape) for y in ys]
    dxs = backward(*dys)
    dxs = dxs if isinstance(dxs, tuple) else (dxs,)

    def loss(*xs):
        ys = net(*xs)
        return sum(np.vdot(dy, y) for dy, y in zip(dys, ys if isinstance(ys, tuple) else (ys,), strict=True))

    for i, dx in enumerate(dxs):
        v = rng.standard_normal(dx.shape)
        ends = [loss(*(x + sign * 1e-6 * v if i == j else x for j, x in enumerate(xs))) for sign in (1, -1)]
        assert np.vdot(dx, v) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=tolerance, abs=tolerance), f"input {i}"
    assert backward.gradients.keys() == net.parameters.keys()
    for name, gradient in backward.gradients.items():
        before = net.parameters[name]
        v = rng.standard_normal(before.shape)
        ends = []
        for sign in (1, -1):
            net.parameters[name] = before + sign * 1e-6 * v
            ends.append(loss(*xs))
        net.parameters[name] = before
        assert np.vdot(gradient, v) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=tolerance, abs=tolerance), name
