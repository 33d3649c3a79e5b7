"""Rows of millions of values: shared by all threads with the same bits, interrupted soon, and the numbers of a formula."""

import itertools
import signal
import sys
import time

import numpy as np
import pytest
from support.processes import SANITIZED, SLOW, run_python

import cnncore

PIECE = 65536  # values that one task takes: operators/arrays/reduction.pyx

# What a row of float64 gives, by NumPy in long double.
FORMULAS = {
    "reduce_sum": lambda x: x.sum(),
    "reduce_mean": lambda x: x.mean(),
    "reduce_l1": lambda x: np.abs(x).sum(),
    "reduce_l2": lambda x: np.sqrt((x * x).sum()),
    "reduce_sum_square": lambda x: (x * x).sum(),
    "reduce_log_sum": lambda x: np.log(x.sum()),
    "reduce_log_sum_exp": lambda x: x.max() + np.log(np.exp(x - x.max()).sum()),
    "reduce_prod": lambda x: x.prod(),
    "reduce_max": lambda x: x.max(),
    "reduce_min": lambda x: x.min(),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("length", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5])
def test_reductions_in_pieces(name, length, rng):
    op, x = cnncore.OPS[name], rng.uniform(0.99, 1.01, (2, length))
    y, backward = op.with_backward(x, axes=1)
    expected = np.array([FORMULAS[name](row.astype(np.longdouble)) for row in x], float).reshape(y.shape)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    dy = np.array([1.0, -2.0]).reshape(y.shape)
    dx = backward(dy)
    for i in (0, PIECE // 2, min(PIECE, length - 1), length - 1):  # the derivative along one value
        h = 1e-6
        row = x[0].astype(np.longdouble)
        up, down = row.copy(), row.copy()
        up[i] += h
        down[i] -= h
        slope = (FORMULAS[name](up) - FORMULAS[name](down)) / (2 * h)
        if name in ("reduce_max", "reduce_min"):
            slope = float(i == (row.argmax() if name == "reduce_max" else row.argmin()))
        assert abs(dx[0, i] - slope) <= 1e-6 * max(1, abs(slope))
    for threads in (1, 2, 3):
        with cnncore.threads(threads):
            again, backward = op.with_backward(x, axes=1)
            assert again.tobytes() == y.tobytes() and backward(dy).tobytes() == dx.tobytes()


@pytest.mark.parametrize("name", FORMULAS)
def test_reductions_in_pieces_along_any_axes(name, rng):
    """Pieces that begin and end within rows, in any layout, are those of the values in one row."""
    op = cnncore.OPS[name]
    x = rng.uniform(0.99, 1.01, (3, 50, 41, 61))
    for axes in ((1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2, 3)):
        rest = [axis for axis in range(4) if axis not in axes]
        rows = np.moveaxis(x, rest, range(len(rest))).reshape(-1, np.prod([x.shape[axis] for axis in axes]))
        expected, backward = op.with_backward(np.ascontiguousarray(rows), axes=1)
        drows = backward(np.ones_like(expected)).reshape(np.moveaxis(x, rest, range(len(rest))).shape)
        for given in (x, np.asfortranarray(x), np.ascontiguousarray(x[..., ::-1])[..., ::-1]):
            y, backward = op.with_backward(given, axes=axes)
            assert y.ravel().tobytes() == expected.ravel().tobytes()
            assert np.array_equal(np.moveaxis(backward(np.ones_like(y)), rest, range(len(rest))), drows)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, PIECE - 1, PIECE, 2 * PIECE + 3])
def test_one_value_that_is_not_finite(value, place):
    x = np.full((1, 2 * PIECE + 4), 0.5)
    x[0, place] = value
    for name in ("reduce_sum", "reduce_max", "reduce_min", "reduce_log_sum_exp", "reduce_prod"):
        with np.errstate(all="ignore"):
            expected = FORMULAS[name](x[0].astype(np.longdouble))
        if name in ("reduce_log_sum_exp", "reduce_prod") and value == np.inf:
            expected = np.inf  # in NumPy ∞ − ∞, or the others' product as 0
        elif name == "reduce_prod":
            expected = value
        assert np.array_equal(cnncore.OPS[name](x, axes=1).ravel(), [np.float64(expected)], equal_nan=True), name
    x[...] = value
    with np.errstate(all="ignore"):
        y = cnncore.reduce_log_sum_exp(x, axes=1).ravel()
    assert np.array_equal(y, [value], equal_nan=True)


def longest_wait(function):
    """The longest time between two signals that Python could handle while a function ran, in seconds of processor time."""
    stamps = []
    before = signal.signal(signal.SIGALRM, lambda *_: stamps.append(time.thread_time()))
    start = time.thread_time()
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        function()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    stamps = [start, *stamps, time.thread_time()]
    return max(b - a for a, b in itertools.pairwise(stamps))


@pytest.mark.skipif(SLOW or not hasattr(signal, "setitimer"), reason="measures time, by a timer of POSIX")
@pytest.mark.parametrize("name", FORMULAS)
def test_long_reductions_are_interrupted_soon(name):
    x = np.broadcast_to(np.float32(1), (1, 2**25))
    assert longest_wait(lambda: cnncore.OPS[name](x)) < 0.1


def test_a_product_overflows_only_as_a_whole():
    """Large and small factors in any order and in any pieces."""
    x = np.concatenate([np.full(70_000, 1e3), np.full(70_000, 1e-3)])[None]
    for given in (x, x[:, ::-1]):
        y, backward = cnncore.reduce_prod.with_backward(given, axes=1)
        np.testing.assert_allclose(y, 1, rtol=1e-9)
        np.testing.assert_allclose(backward(np.ones_like(y)), 1 / given, rtol=1e-9)
    assert cnncore.reduce_prod(x[:, :70_000], axes=1) == np.inf and cnncore.reduce_prod(x[:, 70_000:], axes=1) == 0


# ── Memory ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

MEASURED = """
import os, resource, sys
import numpy as np, cnncore
n = 2000
x = np.ones((1, 1, n, n), np.float32)
x[..., ::7] = 2
poolings = [op for op in cnncore.OPS.values() if op.group == "pooling"]
calls = {op.name: (op, {}) for op in poolings if op.name.startswith(("global_", "adaptive_"))}
of_kernels = ("max_pool", "avg_pool", "lp_pool", "soft_pool", "median_pool")
calls |= {name: (cnncore.OPS[name], {"kernel_size": n}) for name in of_kernels}
for name, (op, settings) in calls.items():
    if "output_size" in op.settings:
        settings = {"output_size": 1}
    for backward in (False, True):
        if not os.fork():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                if backward:
                    y, back = op.with_backward(x, **settings)
                    back(np.ones_like(y))
                else:
                    op(x, **settings)
            except cnncore.SettingError:  # it needs more than an image
                os._exit(0)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            print(name, backward, grown * 1024 / x.nbytes, flush=True)
            os._exit(0)
        os.wait()
"""


@pytest.mark.skipif(SANITIZED or not sys.platform.startswith("linux"), reason="reads the peak of this system's memory")
def test_one_large_window_takes_no_multiple_of_the_image():
    """In multiples of the image; backward has dx and the gradients of the window beside it."""
    lines = run_python(MEASURED, timeout=300, CNNCORE_NUM_THREADS="1").stdout.split("\n")
    measured = {(name, kind == "True"): float(peak) for name, kind, peak in map(str.split, filter(None, lines))}
    assert len(measured) > 20
    for (name, backward), peak in measured.items():
        own = 0.5  # cells that lie in memory as they are read are not gathered
        if "gem" in name or (backward and any(word in name for word in ("soft", "exp"))):
            own = 2.5  # a logarithm, or a weight, of 8 bytes per cell
        assert peak < own + 2 * backward + 0.5, f"{name}{' with backward' * backward}: {peak:.1f} times the image"
