"""Padding and flattening against NumPy, in every layout; all targets give the same bits."""

import numpy as np
import pytest
from support.layouts import PLAN_LAYOUTS, channel_slice, channels_last, last_axis_with_gaps
from support.torch_functions import compare_with_torch

import cnncore

LAYOUTS = (np.ascontiguousarray, channels_last, last_axis_with_gaps, channel_slice, lambda a: a[::-1].copy()[::-1])


@pytest.fixture(params=cnncore.cpu.targets())
def target(request):
    with cnncore.cpu.target(request.param):
        yield request.param


NUMPY_MODES = {
    "constant": "constant",
    "reflect": "reflect",
    "symmetric": "symmetric",
    "replicate": "edge",
    "circular": "wrap",
}


@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize("shape", [(2, 3, 19), (2, 5, 6, 40), (1, 2, 3, 4, 37)])
def test_padding(rng, target, shape, mode):
    x = rng.standard_normal(shape).astype(np.float32)
    for low, high in [(0, 0), (1, 2), (2, 0), (0, 1)]:
        pairs = ((low, high),) * (len(shape) - 2)
        extra = {"value": 0.5} if mode == "constant" else {}
        wide = {"constant_values": 0.5} if mode == "constant" else {}
        expected = np.pad(x, ((0, 0), (0, 0), *pairs), NUMPY_MODES[mode], **wide)
        dy = rng.standard_normal(expected.shape).astype(np.float32)
        # The gradient of a copy is the sum over its places: pad an array of positions and count.
        places = np.pad(
            np.arange(x.size).reshape(shape),
            ((0, 0), (0, 0), *pairs),
            NUMPY_MODES[mode],
            **({"constant_values": -1} if wide else {}),
        )
        kept = places >= 0
        dx = np.bincount(places[kept], dy[kept].astype(np.float64), x.size).reshape(shape)
        for layout in LAYOUTS:
            y, backward = cnncore.pad.with_backward(layout(x), padding=pairs, mode=mode, **extra)
            assert np.array_equal(y, expected)
            assert np.allclose(backward(layout(dy)), dx, rtol=1e-6, atol=1e-6)
            out = channels_last(np.full_like(expected, np.nan))
            assert np.array_equal(cnncore.pad(layout(x), padding=pairs, mode=mode, out=out, **extra), expected)


def test_padding_that_cuts_off(rng, target):
    x = rng.standard_normal((2, 3, 9, 21))
    for layout in LAYOUTS:
        y, backward = cnncore.pad.with_backward(layout(x), padding=((-2, 3), (4, -5)))
        expected = np.pad(x[:, :, 2:, :-5], ((0, 0), (0, 0), (0, 3), (4, 0)))
        assert np.array_equal(y, expected)
        dx = np.zeros_like(x)
        dx[:, :, 2:, :-5] = y[:, :, :-3, 4:]
        assert np.array_equal(backward(layout(y)), dx)


def test_flatten_in_any_layout():
    x = np.random.default_rng(0).standard_normal((3, 4, 5, 6))
    for layout in PLAN_LAYOUTS.values():
        for start in range(-4, 4):
            y, backward = cnncore.flatten.with_backward(layout(x), start)
            np.testing.assert_array_equal(y, x.reshape(*x.shape[: start % 4], -1))
            np.testing.assert_array_equal(backward(y), x)
        out = np.zeros((3, 240))[:, ::2]
        np.testing.assert_array_equal(cnncore.flatten(layout(x), out=out), x.reshape(3, -1))
    y = cnncore.flatten(x)
    y[...] = 0
    assert x.any()


PAD_MODES = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "symmetric": "symmetric",
    "circular": "wrap",
}


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("layout", PLAN_LAYOUTS)
def test_pad_is_numpys_and_its_adjoint_is_exact(mode, layout):
    rng = np.random.default_rng(0)
    for shape, pairs in (
        ((2, 3, 5), ((4, 3),)),
        ((1, 2, 4, 6), ((1, 3), (0, 5))),
        ((2, 2, 2, 3, 4), ((1, 0), (2, 1), (0, 3))),
        ((1, 2, 3), ((2, 2),) if mode == "reflect" else ((11, 8),)),
    ):
        x = rng.standard_normal(shape)
        y, backward = cnncore.pad.with_backward(PLAN_LAYOUTS[layout](x), pairs, mode)
        np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (0, 0), *pairs), PAD_MODES[mode]))
        dy = rng.standard_normal(y.shape)
        assert abs((y * dy).sum() - (x * backward(PLAN_LAYOUTS[layout](dy))).sum()) < 1e-12


def test_pad_cuts_and_mirrors_what_is_left():
    x = np.array([[[1.0, 2, 3, 4]]])
    np.testing.assert_array_equal(cnncore.pad(x, ((-1, 2),), "reflect"), [[[2, 3, 4, 3, 2]]])
    np.testing.assert_array_equal(cnncore.pad(x, ((-1, -2),)), [[[2]]])
    np.testing.assert_array_equal(cnncore.pad(x, ((1, -1),), value=9.0), [[[9, 1, 2, 3]]])
    _, backward = cnncore.pad.with_backward(x, ((-1, -2),))
    np.testing.assert_array_equal(backward(np.array([[[5.0]]])), [[[0, 5, 0, 0]]])


def test_pad_says_what_does_not_fit():
    x = np.zeros((1, 1, 4, 3))
    with pytest.raises(
        cnncore.ShapeError, match="spatial axis 1 of input 4×3 has 3: use at most 2, or mode='symmetric'"
    ):
        cnncore.pad(x, 3, mode="reflect")
    with pytest.raises(cnncore.ShapeError, match="at least 1 must remain"):
        cnncore.pad(x, ((0, 0), (-1, -2)))
    with pytest.raises(cnncore.SettingError, match="one of 'constant', 'reflect'"):
        cnncore.pad(x, 1, mode="mirror")
    with pytest.raises(cnncore.SettingError, match="padding must be an integer"):
        cnncore.pad(x, "same_upper")
    with pytest.raises(cnncore.SettingError):
        cnncore.pad(x, ((1, 1),))
    with pytest.raises(cnncore.ShapeError, match="bytes"):
        cnncore.pad(x, 2**31 - 1)
    assert cnncore.pad(np.zeros((0, 1, 4)), 2, mode="circular").shape == (0, 1, 8)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad_as_torch(mode):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for shape, pairs in (
        ((2, 3, 6), ((2, 3),)),
        ((2, 3, 5, 6), ((1, 2), (3, 0))),
        ((1, 2, 4, 5, 6), ((1, 2), (2, 1), (0, 3))),
    ):
        flat = [p for pair in reversed(pairs) for p in pair]
        compare_with_torch(
            cnncore.pad,
            [rng.standard_normal(shape)],
            {"padding": pairs, "mode": mode},
            lambda x, flat=flat: torch.nn.functional.pad(x, flat, mode),
        )
