"""Settings that nobody thought of, for poolings that are no strategy on windows, against compositions of PyTorch's operators."""

import math

import numpy as np
import pytest

import cnncore
from cnncore import CnnError

pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

from support import papers_sampling  # noqa: E402
from support.torch_oracles import compare  # noqa: E402

small = st.integers(1, 4)
extents = st.lists(st.integers(1, 9), min_size=1, max_size=3)


@hypothesis.settings(max_examples=120)
@hypothesis.given(extents, small, small, st.integers(0, 2), st.integers(1, 2), st.booleans(), st.booleans())
def test_weighted_windows(extents, kernel, stride, padding, dilation, ceil_mode, details):
    settings = {
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": ceil_mode,
    }
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, *extents))
    if details:
        op, arrays = cnncore.detail_preserving_pool, (x, *rng.standard_normal((2, 3)) / 2)
        settings["eps"] = 0.1
    else:
        op, arrays = cnncore.local_importance_pool, (x, rng.standard_normal(x.shape))
    try:
        op(*arrays, **settings)
    except CnnError as refused:
        # As every pooling: windows that do not fit, or that could see padding only.
        words = ("does not fit", "half the window's reach", "meets no pixel")
        assert any(word in str(refused) for word in words), refused
        return
    compare(op, arrays, settings, 1e-9)


@hypothesis.settings(max_examples=80)
@hypothesis.given(extents, small, st.integers(1, 7), st.sampled_from(["reflect", "replicate", "zeros"]), st.booleans())
def test_blurring(extents, stride, size, mode, largest):
    settings = {"stride": stride, "filter_size": size, "padding_mode": mode}
    op = cnncore.max_blur_pool if largest else cnncore.blur_pool
    x = np.random.default_rng(0).permutation(np.arange(6.0 * math.prod(extents))).reshape(2, 3, *extents) / 7
    try:
        op(x, **settings)
    except CnnError as refused:
        assert "does not fit" in str(refused) or (mode == "reflect" and "extent above" in str(refused)), refused
        return
    compare(op, (x,), settings, 1e-11)


@hypothesis.settings(max_examples=80)
@hypothesis.given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3), st.booleans())
def test_spectra(axes, crop):
    output = tuple(min(pair) for pair in axes)
    x = np.random.default_rng(0).standard_normal((2, 2, *(max(pair) for pair in axes)))
    compare(cnncore.spectral_pool, (x,), {"output_size": output}, 1e-11)
    compare(cnncore.hartley_pool, (x,), {"output_size": output, "nyquist": "crop" if crop else "average"}, 1e-11)
    compare(cnncore.wavelet_pool, (x,), {"levels": len(axes)}, 1e-11)


corner = st.integers(-16, 40).map(lambda quarter: quarter / 4)


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    st.lists(st.tuples(corner, corner, corner, corner), min_size=1, max_size=3),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([("avg", None), ("max", None), ("max", "onnx")]),
    st.sampled_from([1.0, 0.5, 2.0]),
)
def test_boxes(corners, bins, ratio, aligned, reduction, scale):
    """Against the papers: corners in any order, on cells and between them, in the image and beyond."""
    rng = np.random.default_rng(0)
    x, rois, images = rng.standard_normal((2, 9, 5, 6)), np.array(corners), rng.integers(0, 2, len(corners))
    settings = {"output_size": bins, "sampling_ratio": ratio, "aligned": aligned, "spatial_scale": scale}
    settings["mode"], settings["compat"] = reduction
    y = cnncore.roi_align(x, rois, images, **settings)
    assert np.allclose(y, papers_sampling.roi_align(settings, x, rois, images), atol=1e-12)
    for compat in (None, "caffe"):
        settings = {"output_size": 3, "spatial_scale": scale, "compat": compat}
        y = cnncore.position_sensitive_roi_pool(x, rois, images, **settings)
        expected = papers_sampling.position_sensitive_roi_pool(settings, x, rois, images)
        assert np.allclose(y, expected, atol=1e-12)
