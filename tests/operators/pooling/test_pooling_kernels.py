"""Kernels of the poolings that are no strategy on windows against their references: many channels, odd sizes, every layout."""

import numpy as np
import pytest
from support.cases import as_list
from support.layouts import channel_slice

import cnncore

TARGETS = [target for target in cnncore.cpu.targets() if target != "reference"]
LIMIT = {np.float32: 1e-5, np.float64: 1e-13}
CHANNELS = (1, 5, 16, 19, 70)  # less and more than a vector, and than the channels of a task


def logit(rng, x):
    return (3 * rng.standard_normal(x.shape),)


def details(full):
    def arrays(rng, x):
        alpha, lam = rng.standard_normal((2, x.shape[1])) / 2
        return (alpha, lam, rng.standard_normal((x.shape[1], *(3,) * (x.ndim - 2))) / 3) if full else (alpha, lam)

    return arrays


def boxes(rng, x):
    """Some in the image, some across its border, in no order of their images."""
    H, W = x.shape[2:]
    corners = rng.uniform(-3, 3, (9, 4)) + np.array([0, 0, W, H]) * rng.uniform(0.2, 1, (9, 1))
    return np.round(corners * 4) / 4, rng.integers(0, len(x), 9)


def nothing(rng, x):
    return ()


CASES = {
    "local_importance_pool": ({"kernel_size": 3, "stride": 2, "padding": 1}, logit),
    "local_importance_pool dilated": ({"kernel_size": 2, "stride": 3, "dilation": 2, "ceil_mode": True}, logit),
    "detail_preserving_pool": ({"kernel_size": 3, "stride": 2}, details(False)),
    "detail_preserving_pool full": ({"kernel_size": 3, "stride": 2, "padding": 1}, details(True)),
    "detail_preserving_pool asymmetric": ({"kernel_size": 2, "symmetric": False, "eps": 0.1}, details(True)),
    "blur_pool": ({}, nothing),
    "blur_pool thirds": ({"filter_size": 7, "stride": 3, "padding_mode": "replicate"}, nothing),
    "max_blur_pool": ({"kernel_size": 3, "filter_size": 5}, nothing),
    "wavelet_pool": ({"levels": 2}, nothing),
    "roi_align": ({"output_size": 3}, boxes),
    "roi_align max": ({"output_size": (2, 5), "mode": "max", "aligned": True}, boxes),
    "roi_align dense": ({"output_size": 2, "sampling_ratio": 5, "spatial_scale": 0.5}, boxes),
}


def results(op, arrays, settings, dy):
    y, backward = op.with_backward(*arrays, **settings)
    return [y, *as_list(backward(dy))]


@pytest.mark.parametrize("extents", [(11, 13), (23, 7)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_kernels_against_definitions(name, extents, rng):
    op, (settings, make) = cnncore.OPS[name.split()[0]], CASES[name]
    for channels in CHANNELS:
        x = rng.standard_normal((2, channels, *extents))
        arrays = [x, *make(rng, x)]
        for dtype, limit in LIMIT.items():
            given = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
            with cnncore.cpu.target("reference"):
                dy = rng.standard_normal(op(*given, **settings).shape).astype(dtype)
                expected = results(op, given, settings, dy)
            for target in TARGETS:
                with cnncore.cpu.target(target):
                    plain = results(op, given, settings, dy)
                    last = results(op, [channel_slice(a) for a in given], settings, channel_slice(dy))
                for found in (plain, last):
                    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
                        difference = np.abs(a - b).max(initial=0)
                        assert difference <= limit * np.abs(b).max(initial=1e-9), (channels, dtype, target, number)


@pytest.mark.parametrize("name", CASES)
def test_kernels_write_where_they_are_told(name, rng):
    """Into a channel slice of a wider buffer, and not beside it."""
    op, (settings, make) = cnncore.OPS[name.split()[0]], CASES[name]
    x = rng.standard_normal((2, 19, 11, 13)).astype("f")
    arrays = [a.astype("f") if a.dtype.kind == "f" else a for a in (x, *make(rng, x))]
    expected = op(*arrays, **settings)
    out = channel_slice(np.zeros_like(expected))
    beside = np.isnan(out.base)
    assert op(*[channel_slice(a) for a in arrays], out=out, **settings) is out
    assert np.allclose(out, expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(np.isnan(out.base), beside) and beside.any()


SEEN = {
    "blur_pool": {"filter_size": 4},
    "blur_pool thirds": {"filter_size": 7, "stride": 3},
    "wavelet_pool": {"levels": 2},
    "local_importance_pool": {"kernel_size": 3, "stride": 2, "dilation": 2},
    "detail_preserving_pool": {"kernel_size": 3, "stride": 2},
    "detail_preserving_pool full": {"kernel_size": 2},
    "detail_preserving_pool full dilated": {"kernel_size": 2, "stride": 2, "dilation": 3},
}


@pytest.mark.parametrize("name", SEEN)
def test_what_a_value_sees(name, rng):
    """The receptive window is the box of cells that the gradient of one value in the middle reaches."""
    op, settings = cnncore.OPS[name.split()[0]], SEEN[name]
    x = rng.standard_normal((1, 2, 20, 22))
    make = {"local_importance_pool": logit, "detail_preserving_pool": details("full" in name)}.get(op.name, nothing)
    arrays = (x, *make(rng, x))
    y, backward = op.with_backward(*arrays, **settings)
    dy = np.zeros_like(y)
    dy[(0, 0, *(H // 2 for H in y.shape[2:]))] = 1
    dx = as_list(backward(dy))[0]
    _, call = op.bind(arrays, dict(settings))
    box = tuple(int(np.ptp(places)) + 1 for places in np.nonzero(dx[0, 0]))
    assert box == tuple(reach for reach, _ in op.implementation.receptive_window(call))
