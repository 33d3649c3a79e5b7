"""Dropout: the mask is the definition's bit for bit, whatever the target, the size and the number of threads."""

import numpy as np
import pytest
from support.layouts import channels_last, every_second_row, reversed_axes

import cnncore

LAYOUTS = (
    np.ascontiguousarray,
    np.asfortranarray,
    channels_last,
    reversed_axes,
    # Planes whose rows cannot be walked through as one, a single row high.
    lambda a: every_second_row(a) if a.ndim > 3 else a,
)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1 - 2**-40, 1.0])
@pytest.mark.parametrize("seed", [0, 7, 2**31 - 1])
@pytest.mark.parametrize("shape", [(1,), (3, 1), (2, 63), (1, 1, 65), (2, 3, 5, 1, 7), (3, 5, 41, 67)], ids=str)
@pytest.mark.parametrize(
    "op",
    [cnncore.dropout, cnncore.alpha_dropout, cnncore.spatial_dropout, cnncore.feature_alpha_dropout],
    ids=lambda op: op.name,
)
def test_targets_drop_the_same_values(rng, op, shape, seed, p):
    if op in (cnncore.spatial_dropout, cnncore.feature_alpha_dropout) and len(shape) < 2:
        shape = (1, 1)
    x = rng.standard_normal(shape).astype(np.float32)
    settings = {"p": p, "seed": seed, "training": True, "return_state": True}
    with cnncore.cpu.target("reference"):
        expected, mask = op(x, **settings)
        dx = op.with_backward(x, **settings)[1](x)
    assert np.array_equal(mask, np.ones_like(mask)) if p == 0 else p < 1 or not mask.any()
    for target in cnncore.cpu.targets():
        with cnncore.cpu.target(target):
            for layout in LAYOUTS:
                for threads in (1, 2, 3):
                    with cnncore.threads(threads):
                        (y, found), backward = op.with_backward(layout(x), **settings)
                    assert np.array_equal(found, mask)
                    assert np.allclose(y, expected, rtol=1e-6, atol=1e-6)
                    assert np.array_equal(backward(layout(x)), dx)
                again = op(layout(x), **{**settings, "seed": 99}, state=mask)[0]
                assert np.array_equal(again, y)
