"""ONNX Runtime as an oracle, of files read and of files written. Tests that need it are skipped without it."""

import numpy as np
import pytest

import cnncore

onnx = pytest.importorskip("onnx")

TOLERANCE = 1e-5  # of the largest value of y: float32 in both


def session(content):
    """ONNX Runtime on a file's bytes."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(content, *xs):
    """The outputs that ONNX Runtime computes, after the checker has accepted the file."""
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    made = session(content)
    names = [i.name for i in made.get_inputs()]
    return made.run(None, dict(zip(names, xs, strict=True)))


def as_tuple(y):
    return y if isinstance(y, tuple) else (y,)


def assert_same(content, *shapes, limit=1e-5, net=None, xs=None):
    """The net of a file gives what ONNX Runtime gives, on inputs of each of the shapes; returns the net."""
    net = cnncore.io.load_onnx(content) if net is None else net
    made = session(content)
    rng = np.random.default_rng(0)
    given = [(rng.standard_normal(shape).astype("f"),) for shape in shapes] if xs is None else xs
    for x in given:
        right = made.run(None, dict(zip((i.name for i in made.get_inputs()), x, strict=True)))
        found = net(*x)
        found = found if isinstance(found, tuple) else (found,)
        for y, r in zip(found, right, strict=True):
            assert y.shape == r.shape
            assert np.abs(y - r).max(initial=0) <= limit * max(np.abs(r).max(initial=0), 1e-3)
    return net


def assert_written(net, xs, content, tolerance=TOLERANCE):
    """Compare all outputs; return the largest error, relative to the largest value."""
    worst = 0.0
    wanted = as_tuple(net(*xs))
    found = run(content, *xs)
    for got, want in zip(found, wanted, strict=True):
        assert got.shape == want.shape and got.dtype == want.dtype
        if want.dtype.kind != "f":
            np.testing.assert_array_equal(got, want)
            continue
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
        largest = max(float(np.abs(want).max(initial=0.0)), 1e-6)
        worst = max(worst, float(np.abs(got - want).max(initial=0.0)) / largest)
    assert worst < tolerance
    return worst
