"""PyTorch as an oracle: every row that PyTorch can express, forward and automatic derivative."""

import math

import numpy as np
import pytest
from support.cases import cases
from support.papers import ORACLES as PAPERS

import cnncore
from cnncore import CnnError

torch = pytest.importorskip("torch")

from support.torch_oracles import ORACLES, compare  # noqa: E402  imports torch

from cnncore.testing.conformance.in_torch.windows import functional  # noqa: E402

# Rows that PyTorch cannot check, and what does.
NO_ORACLE = {
    "dropout": "draws its own numbers: test_layers.py compares with the state it returns",
    "spatial_dropout": "as dropout",
    "alpha_dropout": "as dropout",
    "feature_alpha_dropout": "as dropout",
}


def test_every_row_has_an_oracle_or_a_reason():
    assert set(cnncore.OPS) <= set(ORACLES) | set(PAPERS) | set(NO_ORACLE), (
        set(cnncore.OPS) - set(ORACLES) - set(PAPERS) - set(NO_ORACLE)
    )


LIMIT = {np.float32: 3e-5, np.float64: 1e-11}


@pytest.mark.parametrize(("op", "case"), cases(where=lambda op: op.name in ORACLES))
def test_as_pytorch(op, case):
    for rank in case.ranks:
        for dtype in (np.float32, np.float64):
            compare(op, case.sample(rank, dtype), case.settings, LIMIT[dtype])


# ── Settings that nobody thought of ────────────────────────────────────────────────────────────────────────────────────

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
small = st.integers(1, 4)


@hypothesis.settings(max_examples=150)
@hypothesis.given(
    st.sampled_from(["max_pool", "avg_pool", "sum_pool", "lp_pool"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    small,
    small,
    st.integers(0, 2),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_pooling_settings_as_pytorch(name, extents, kernel, stride, padding, dilation, ceil_mode, include):
    op = cnncore.OPS[name]
    settings = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    if name == "avg_pool":
        settings["count_include_pad"] = include
    else:
        settings["dilation"] = dilation
    x = np.random.default_rng(0).permutation(np.arange(2 * 3 * math.prod(extents))).reshape(2, 3, *extents) / 7 + 0.1
    try:
        op(x, **settings)
    except CnnError as refused:
        if name != "max_pool":
            return
        # PyTorch refuses too, but for windows that see padding only: those have no maximum here.
        if "meets no pixel" not in str(refused) and "half the window's reach" not in str(refused):
            with pytest.raises(RuntimeError):
                functional("max_pool", len(extents))(torch.from_numpy(x), **settings)
        return
    compare(op, (x,), settings, 1e-11)


@hypothesis.settings(max_examples=100)
@hypothesis.given(
    st.sampled_from(["conv", "conv_transpose"]),
    st.lists(st.tuples(st.integers(1, 8), small), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(1, 3),
    st.sampled_from([1, 2, 3]),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.booleans(),
)
def test_convolution_settings_as_pytorch(
    name, axes, stride, padding, dilation, groups, inputs, outputs_, extra, biased
):
    op = cnncore.OPS[name]
    extents, kernel = zip(*axes, strict=True)
    C, K = groups * inputs, groups * outputs_
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, C, *extents))
    w = rng.standard_normal(((K, inputs) if name == "conv" else (C, outputs_)) + kernel)
    b = rng.standard_normal(K) if biased else None
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if name == "conv_transpose":
        settings["output_padding"] = extra
    arrays = (x, w, b)
    try:
        op(*arrays, **settings)
    except CnnError:
        with pytest.raises((RuntimeError, ValueError)):
            tensors = [None if a is None else torch.from_numpy(a) for a in arrays]
            ORACLES[name]({**op.settings, **settings}, *tensors)
        return
    compare(op, arrays, settings, 1e-11)


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    st.sampled_from(["adaptive_avg_pool", "adaptive_max_pool"]),
    st.lists(st.tuples(st.integers(1, 12), st.none() | st.integers(1, 14)), min_size=1, max_size=3),
)
def test_adaptive_sizes_as_pytorch(name, axes):
    extents, sizes = zip(*axes, strict=True)
    x = np.random.default_rng(0).permutation(np.arange(2 * math.prod(extents))).reshape(1, 2, *extents) / 3
    torch_sizes = tuple(H if size is None else size for H, size in axes)
    op = cnncore.OPS[name]
    y = op(x, output_size=sizes)
    assert np.allclose(y, ORACLES[name]({"output_size": torch_sizes}, torch.from_numpy(x)).numpy())
    compare(op, (x,), {"output_size": torch_sizes}, 1e-11)
