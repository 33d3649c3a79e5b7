"""Dropout: the mask is the definition's bit for bit, whatever the target, the size and the number of threads."""

import numpy as np
import pytest
from support.layouts import PLAN_LAYOUTS, channels_last, every_second_row, reversed_axes

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


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_frequency(p):
    x = np.ones((50, 40, 50))
    y, mask = cnncore.dropout(x, p=p, seed=5, return_state=True)
    deviation = (p * (1 - p) / x.size) ** 0.5
    assert abs((~mask).mean() - p) < 4 * deviation
    np.testing.assert_array_equal(y, np.where(mask, 1 / (1 - p), 0))


def test_spatial_dropout_drops_whole_channels():
    x = np.ones((60, 50, 3, 4))
    y, mask = cnncore.spatial_dropout(x, p=0.3, return_state=True)
    assert mask.shape == (60, 50)
    assert abs((~mask).mean() - 0.3) < 4 * (0.21 / 3000) ** 0.5
    np.testing.assert_array_equal(y, np.broadcast_to(mask[:, :, None, None] / 0.7, x.shape))


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(0).standard_normal(400_000)
    for p in (0.1, 0.5, 0.8):
        y = cnncore.alpha_dropout(x, p=p)
        assert abs(y.mean()) < 0.01 and abs(y.var() - 1) < 0.02


@pytest.mark.parametrize("name", ["dropout", "spatial_dropout", "alpha_dropout", "feature_alpha_dropout"])
def test_dropout_replays(name):
    op = cnncore.OPS[name]
    x = np.random.default_rng(0).standard_normal((4, 6, 5, 7))
    y, mask = op(x, p=0.4, seed=3, return_state=True)
    np.testing.assert_array_equal(op(x, state=mask, p=0.4, seed=99), y)
    np.testing.assert_array_equal(op(x, p=0.4, seed=3), y)
    assert (op(x, p=0.4, seed=4) != y).any()
    for threads in (1, 2, 5):
        with cnncore.threads(threads):
            np.testing.assert_array_equal(op(x, p=0.4, seed=3), y)
    for layout in PLAN_LAYOUTS.values():
        np.testing.assert_array_equal(op(layout(x), p=0.4, seed=3), y)
    _, same = op(x.astype("float32"), p=0.4, seed=3, return_state=True)
    np.testing.assert_array_equal(same, mask)


@pytest.mark.parametrize("name", ["dropout", "spatial_dropout", "alpha_dropout", "feature_alpha_dropout"])
def test_dropout_edges(name):
    op = cnncore.OPS[name]
    x = np.random.default_rng(0).standard_normal((4, 6, 5))
    y, backward = op.with_backward(x, p=1.0)
    np.testing.assert_array_equal(y, np.zeros_like(x))
    np.testing.assert_array_equal(backward(x), np.zeros_like(x))
    y, backward = op.with_backward(x, p=0.0)
    np.testing.assert_array_equal(y, x)
    y, backward = op.with_backward(x, training=False)
    assert y is not x and not np.shares_memory(x, y)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(backward(x), x)
    with pytest.raises(cnncore.ShapeError, match="state has shape"):
        op(x, state=np.ones((4, 7), bool))
    with pytest.raises(cnncore.DtypeError, match="state is float64; expected booleans"):
        op(x, state=np.ones(x.shape))
    with pytest.raises(cnncore.SettingError, match="p must be a finite number ≥ 0 and ≤ 1"):
        op(x, p=1.5)
    dropped = np.full_like(x, np.nan)
    assert np.isfinite(op(dropped, p=1.0)).all()
