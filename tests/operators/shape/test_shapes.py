"""Joining, adding and padding against NumPy, at sizes beyond blocks and in every layout; all targets give the same bits."""

import numpy as np
import pytest
from support.layouts import channel_slice, channels_last, last_axis_with_gaps

import cnncore

LAYOUTS = (np.ascontiguousarray, channels_last, last_axis_with_gaps, channel_slice, lambda a: a[::-1].copy()[::-1])


@pytest.fixture(params=cnncore.cpu.targets())
def target(request):
    with cnncore.cpu.target(request.param):
        yield request.param


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 17), (2, 4, 33, 70), (1, 3, 3, 5, 4), (0, 3, 4)])
def test_joins_and_sums(rng, target, shape, dtype):
    for axis in range(len(shape)):
        widths = (1, 4, 0, 3) if shape[axis] else (0, 0)
        parts = [rng.standard_normal((*shape[:axis], w, *shape[axis + 1 :])).astype(dtype) for w in widths]
        expected = np.concatenate(parts, axis)
        dy = rng.standard_normal(expected.shape).astype(dtype)
        for layout in LAYOUTS:
            y, backward = cnncore.concat.with_backward(*[layout(p) for p in parts], axis=axis - len(shape))
            assert np.array_equal(y, expected)
            gradients = backward(layout(dy))
            for found, right in zip(gradients, np.split(dy, np.cumsum(widths)[:-1], axis), strict=True):
                assert np.array_equal(found, right)
    terms = rng.standard_normal((6, *shape)).astype(dtype)
    coefficients = (1.0, -2.0, 0.5, 3.0, 1.0, 0.25)
    expected = sum(c * t.astype(np.float64) for c, t in zip(coefficients, terms, strict=True))
    for layout in LAYOUTS:
        y, backward = cnncore.add.with_backward(*map(layout, terms), coefficients=coefficients)
        assert np.allclose(y, expected, rtol=0, atol=4e-6 if dtype == np.float32 else 1e-14)
        mixed = cnncore.add(terms[0], layout(terms[1]))
        assert np.array_equal(mixed, terms[0] + terms[1])
        for c, found in zip(coefficients, backward(layout(terms[0])), strict=True):
            assert np.array_equal(found, dtype(c) * terms[0])


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


def test_extents_by_scale_are_those_of_the_number_that_was_written():
    """⌊scale · H⌋ in whole numbers, for every decimal with one place and every quotient of two extents; in graphs too."""
    for op in (cnncore.nearest_upsample, cnncore.linear_upsample, cnncore.resize):
        for H in (1, 3, 5, 7, 10, 28, 49, 59, 224):
            for above, below in [(t, 10) for t in (1, 3, 6, 7, 9, 11, 12, 17, 23, 33)] + [
                (n, H) for n in (1, 2, 3, 29)
            ]:
                right = H * above // below
                for scale in (above / below, np.float64(above) / below):
                    if right:
                        made = op(np.zeros((1, 1, H, 2), np.float32), scale=(scale, 1.0)).shape
                        assert made == (1, 1, right, 2), (op.name, H, above, below)


def test_positions_by_scale_are_those_of_the_number_that_was_written():
    """Every pixel of 0.6 is that of 3/5: cells whose middles meet are not decided by the last bit of 0.6."""
    x = np.arange(20.0).reshape(1, 1, 20)
    for coordinates in ("half_pixel", "asymmetric"):
        y = cnncore.resize(x, scale=0.6, mode="linear", coordinates=coordinates)[0, 0]
        places = [(o + 1 / 2) * 5 / 3 - 1 / 2 if coordinates == "half_pixel" else o * 5 / 3 for o in range(12)]
        np.testing.assert_allclose(y, places, rtol=1e-14)
    np.testing.assert_array_equal(
        cnncore.nearest_upsample(x, scale=0.4, coordinates="asymmetric", rounding="ceil")[0, 0],
        [-(-o * 5 // 2) for o in range(8)],
    )
