"""Pooling: references against windows written out by hand and against PyTorch, kernels against references on every target."""

import contextlib
import ctypes
import itertools
import mmap
import sys

import numpy as np
import pytest
from support.layouts import LAYOUTS, channel_slice, channels_last

import cnncore
from cnncore import cpu

TARGETS = [target for target in cpu.targets() if target != "reference"]
# Of the window's sum of magnitudes. Kernels add float32 in runs of 32 cells, reference implementations in float64.
TOLERANCE = {np.dtype(np.float32): 3e-6, np.dtype(np.float64): 1e-14}
INF = float("inf")

# Operator and settings, and whether kernel and definition agree to the bit.
STRATEGIES = [
    pytest.param(cnncore.max_pool, {}, True, id="max"),
    pytest.param(cnncore.sum_pool, {}, False, id="sum"),
    pytest.param(cnncore.avg_pool, {}, False, id="avg"),
    pytest.param(cnncore.avg_pool, {"count_include_pad": False}, False, id="avg-inside"),
    pytest.param(cnncore.avg_pool, {"divisor_override": 3}, False, id="avg-divisor"),
    pytest.param(cnncore.lp_pool, {"p": 1.0}, False, id="l1"),
    pytest.param(cnncore.lp_pool, {"p": 2.0}, False, id="l2"),
    pytest.param(cnncore.lp_pool, {"p": 3.0}, False, id="l3"),
    pytest.param(cnncore.lp_pool, {"p": 2.5, "mean": True}, False, id="l2.5-mean"),
    pytest.param(cnncore.lp_pool, {"p": INF}, True, id="linf"),
]
SCHEMES = [
    pytest.param(cnncore.adaptive_max_pool, {"output_size": 3}, True, id="adaptive-max"),
    pytest.param(cnncore.adaptive_avg_pool, {"output_size": 4}, False, id="adaptive-avg"),
    pytest.param(cnncore.adaptive_avg_pool, {"output_size": 11}, False, id="adaptive-avg-up"),
    pytest.param(cnncore.global_max_pool, {}, True, id="global-max"),
    pytest.param(cnncore.global_avg_pool, {"keepdims": True}, False, id="global-avg"),
    pytest.param(cnncore.global_lp_pool, {"keepdims": True}, False, id="global-l2"),
]


# ── Layouts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def passes(op, x, dy, settings, lay_x=np.ascontiguousarray, lay_y=np.ascontiguousarray):
    """y and dx, with x and dx in one layout, y and dy in the other; whatever is not written stays NaN."""
    arrays, call = op.bind((lay_x(x),), settings)
    y, extras, saved = op.implementation.forward(call, arrays, lay_y(np.full(call.output, np.nan, x.dtype)))
    if dy is None:
        return y
    (dx,) = op.implementation.backward(call, saved, lay_y(dy), (True,), (lay_x(np.full(x.shape, np.nan, x.dtype)),))
    return [y, dx, *extras]


def compare(op, x, settings, targets=TARGETS, layouts=((np.ascontiguousarray,) * 2,), exact=False, seed=0):
    """Kernels against the reference implementation, for y and dx."""
    with cpu.target("reference"):
        y = passes(op, x, None, settings)
        dy = np.random.default_rng(seed).standard_normal(y.shape).astype(x.dtype)
        expected = passes(op, x, dy, settings)
    for target in targets:
        with cpu.target(target):
            for lay_x, lay_y in layouts:
                for got, e in zip(passes(op, x, dy, settings, lay_x, lay_y), expected, strict=True):
                    if exact or e.dtype == np.int64:
                        np.testing.assert_array_equal(got, e)
                    else:
                        error = np.abs(got - e).max(initial=0) / max(1, np.abs(e).max(initial=0))
                        assert error <= TOLERANCE[x.dtype], f"{target} is off by {error:.3g}"  # NaN fails too


# ── References against windows written out by hand ────────────────────────────────────────────────────────────────────


def windows_of(H, k, s, d, lo, hi, ceil):
    """Cells of each window along one axis, and cells with padding; None where some window would meet none."""
    reach = d * (k - 1) + 1
    if H + lo + hi < reach or max(lo, hi) > reach // 2:
        return None
    starts = list(range(0, H + lo + hi - reach + 1, s))
    if ceil:
        after = starts[-1] + s
        # One more window where cells are left over, if it starts inside the image or its low padding.
        if starts[-1] + reach < H + lo + hi and after < H + lo:
            starts.append(after)
    windows = [[a - lo + d * i for i in range(k) if 0 <= a - lo + d * i < H] for a in starts]
    sizes = [len([i for i in range(k) if a + d * i < H + lo + hi]) for a in starts]
    return None if not all(windows) else (windows, sizes)


GEOMETRIES = [
    g
    for g in itertools.product(range(1, 7), range(1, 5), range(1, 5), range(1, 4), range(3), range(3), (False, True))
    if windows_of(*g) is not None
]


def by_hand(op, settings, cells, size):
    """Value and gradient of one window, from its formula."""
    cells = np.asarray(cells)
    n = len(cells)
    if op is cnncore.max_pool:
        i = int(np.argmax(cells))
        return cells[i], np.eye(n)[i]
    if op is cnncore.sum_pool:
        return cells.sum(), np.ones(n)
    if op is cnncore.avg_pool:
        q = settings.get("divisor_override") or (size if settings.get("count_include_pad", True) else n)
        return cells.sum() / q, np.full(n, 1 / q)
    p, q = settings["p"], n if settings.get("mean") else 1
    if p == INF:
        i = int(np.argmax(abs(cells)))
        return abs(cells[i]), np.sign(cells) * np.eye(n)[i]
    y = ((abs(cells) ** p).sum() / q) ** (1 / p)
    return y, np.sign(cells) * (abs(cells) / y) ** (p - 1) / q


@pytest.mark.parametrize("of", [5, pytest.param(1, marks=pytest.mark.long)], ids=["one in 5", "all"])
@pytest.mark.parametrize("op, settings, exact", STRATEGIES)
def test_every_small_geometry(op, settings, exact, of, rng):
    """(H, k, s, d, lo, hi, ceil) in a box: the reference equals the formula, every kernel equals the reference."""
    assert len(GEOMETRIES) > 1500
    for H, k, s, d, lo, hi, ceil in GEOMETRIES[::of]:
        windows, sizes = windows_of(H, k, s, d, lo, hi, ceil)
        x = rng.standard_normal((1, 3, H))
        geometry = dict(settings, kernel_size=k, stride=s, dilation=d, padding=((lo, hi),), ceil_mode=ceil)
        y = np.empty((1, 3, len(windows)))
        dx = np.zeros_like(x)
        dy = np.random.default_rng(0).standard_normal(y.shape)
        for c in range(3):
            for o, (cells, size) in enumerate(zip(windows, sizes, strict=True)):
                y[0, c, o], weight = by_hand(op, settings, x[0, c, cells], size)
                dx[0, c, cells] += dy[0, c, o] * weight
        with cpu.target("reference"):
            got = passes(op, x, dy, geometry)
        np.testing.assert_allclose(got[0], y, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(got[1], dx, rtol=1e-12, atol=1e-13)
        compare(op, x, geometry, exact=exact)


def test_windows_that_meet_no_cell_are_refused():
    """Dilated windows can step over the image though they fit the padded one."""
    with pytest.raises(cnncore.ShapeError, match=r"lies at -2 \+ 4.* meets no pixel"):
        cnncore.max_pool(np.zeros((1, 1, 2)), kernel_size=2, stride=1, padding=2, dilation=4)


@pytest.mark.parametrize("H", [1, 2, 5, 7, 12, 97])
@pytest.mark.parametrize("O", [1, 2, 3, 7, 12, 20])
def test_adaptive_windows(H, O, rng):
    x = rng.standard_normal((1, 2, H))
    y = np.empty((1, 2, O))
    dx = np.zeros_like(x)
    for i in range(O):
        cells = slice(i * H // O, -(-(i + 1) * H // O))
        y[..., i] = x[..., cells].mean(-1)
        dx[..., cells] += 1 / len(x[0, 0, cells])
    got, backward = cnncore.adaptive_avg_pool.with_backward(x, O)
    np.testing.assert_allclose(got, y, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(backward(np.ones_like(y)), dx, rtol=1e-13)


def test_adaptive_windows_of_large_extents():
    """Whole numbers only: window borders equal Python's for extents whose products would overflow or round."""
    from cnncore.operators import geometry

    for H, O in ((10**5, 7), (10**5, 99_999), (2**40, 1000), (2**52 + 1, 2**20 - 1)):
        table = geometry.adaptive_window("test", (H,), O)[0][2]
        for i in {0, 1, O // 3, O // 2, O - 2, O - 1}:
            assert table[0][i] == i * H // O
            assert table[0][i] + table[1][i] == -(-(i + 1) * H // O)


# ── Kernels: layouts, channels, bands, precision ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op, settings, exact", STRATEGIES)
def test_every_number_of_channels(op, settings, exact, dtype, target, rng):
    """1 to 35 channels, in place and packed: every part of a vector."""
    for channels in range(1, 36):
        x = rng.standard_normal((2, channels, 5, 4)).astype(dtype)
        geometry = dict(settings, kernel_size=(3, 2), stride=(2, 1), padding=((1, 0), (0, 1)))
        layouts = ((np.ascontiguousarray,) * 2, (channels_last,) * 2, (channel_slice,) * 2)
        compare(op, x, geometry, [target], layouts, exact)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 20, 9), (2, 19, 7, 6), (2, 17, 4, 5, 6)], ids=str)
@pytest.mark.parametrize("op, settings, exact", STRATEGIES)
def test_every_pair_of_layouts(op, settings, exact, shape, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    for geometry in (
        dict(kernel_size=3, stride=2, padding=1),
        dict(kernel_size=2, stride=3, ceil_mode=True),
        dict(kernel_size=2, stride=1, dilation=2),
    ):
        compare(op, x, {**settings, **geometry}, layouts=itertools.product(LAYOUTS, LAYOUTS), exact=exact)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 18, 23), (3, 18, 7, 6), (1, 18, 3, 5, 8)], ids=str)
@pytest.mark.parametrize("op, settings, exact", SCHEMES)
def test_adaptive_and_global_layouts(op, settings, exact, shape, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    compare(op, x, settings, layouts=itertools.product(LAYOUTS, LAYOUTS), exact=exact)


@pytest.mark.parametrize(
    "shape, geometry",
    [
        ((2, 33, 70, 90), dict(kernel_size=3, stride=2)),
        ((1, 5, 70, 90), dict(kernel_size=3, stride=1, padding=1)),
        ((1, 5, 90, 70), dict(kernel_size=2, stride=(7, 1))),
        ((1, 5, 90, 70), dict(kernel_size=(1, 3), stride=(40, 2))),
        ((1, 5, 90, 70), dict(kernel_size=2, stride=1, dilation=(9, 1))),
        ((1, 3, 9000), dict(kernel_size=5, stride=3, padding=2)),
        ((1, 3, 9000), dict(kernel_size=1, stride=4000)),
        ((1, 3, 20, 18, 22), dict(kernel_size=3, stride=2, padding=1, ceil_mode=True)),
    ],
    ids=str,
)
@pytest.mark.parametrize("op, exact", [(cnncore.max_pool, True), (cnncore.avg_pool, False)], ids=["max", "avg"])
def test_planes_of_many_bands(op, exact, shape, geometry, rng):
    """Planes too large to pack whole: windows that share slices with the next band, and slices that no window meets."""
    x = rng.standard_normal(shape)
    compare(op, x, geometry, layouts=((np.ascontiguousarray,) * 2, (channels_last,) * 2), exact=exact)


@pytest.mark.parametrize("op, exact", [(cnncore.global_max_pool, True), (cnncore.global_avg_pool, False)])
@pytest.mark.parametrize("extents", [(1,), (100_000,), (1, 1), (97, 113), (600, 500), (3, 1, 2), (20, 30, 40)], ids=str)
def test_global_pooling_of_any_size(op, exact, extents, rng):
    x = rng.standard_normal((1, 2, *extents)).astype(np.float32)
    compare(op, x, {}, layouts=((np.ascontiguousarray,) * 2, (channels_last,) * 2), exact=exact)


def test_sums_of_many_cells_keep_float32_exact():
    """A naive float32 sum of 2**25 ones would stop at 2**24; the mean of many equal cells is that cell."""
    x = np.broadcast_to(np.float32(1), (1, 1, 2**25))
    assert cnncore.sum_pool(x, 2**25).item() == 2**25
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 17, 300, 301)).astype(np.float32) + 100
    exact = x.astype(np.float64).mean((2, 3))
    for target in cpu.targets():
        with cpu.target(target):
            for layout in (np.ascontiguousarray, channels_last):
                np.testing.assert_allclose(cnncore.global_avg_pool(layout(x)), exact, rtol=1.5e-7)


@pytest.mark.parametrize("op, settings, exact", STRATEGIES + SCHEMES)
def test_any_number_of_threads_gives_the_same_bits(op, settings, exact, rng):
    if "kernel_size" in op.settings:
        settings = dict(settings, kernel_size=3, stride=2, padding=1)
    x = rng.standard_normal((2, 37, 33, 34)).astype(np.float32)
    for layout in (np.ascontiguousarray, channels_last):
        seen = []
        for threads in (1, 3, 64):
            with cnncore.threads(threads):
                y = passes(op, x, None, settings)
                dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
                seen.append(passes(op, x, dy, settings, layout, layout))
        for other in seen[1:]:
            for a, b in zip(seen[0], other, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_read_or_written_beyond_an_array(dtype, target):
    """Every array ends where a page without access begins."""
    libc = ctypes.CDLL(None, use_errno=True)
    page = mmap.PAGESIZE
    held = []

    def guarded(shape):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        room = -(-size // page) * page
        memory = mmap.mmap(-1, room + page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert libc.mprotect(ctypes.c_void_p(address + room), ctypes.c_size_t(page), 0) == 0
        held.append((memory, address + room))
        return np.frombuffer(memory, dtype, int(np.prod(shape)), room - size).reshape(shape)

    try:
        with cpu.target(target):
            for channels, last in itertools.product((1, 3, 5, 16, 17, 19, 35), (False, True)):
                for op, settings in (
                    (cnncore.max_pool, dict(kernel_size=3, stride=2, padding=1)),
                    (cnncore.lp_pool, dict(kernel_size=2, ceil_mode=True)),
                    (cnncore.avg_pool, dict(kernel_size=2, stride=3)),
                    (cnncore.soft_pool, dict(kernel_size=3, stride=2, padding=1)),
                    (cnncore.median_pool, dict(kernel_size=2, ceil_mode=True)),
                ):
                    shape = (2, channels, 7, 5)
                    _, call = op.bind((np.empty(shape, dtype),), settings)
                    place = (lambda s: np.moveaxis(guarded((s[0], *s[2:], s[1])), -1, 1)) if last else guarded
                    x, y, dy, dx = place(shape), place(call.output), place(call.output), place(shape)
                    x[...], dy[...] = 1, 1
                    _, _, saved = op.implementation.forward(call, [x], y)
                    op.implementation.backward(call, saved, dy, (True,), (dx,))
                    assert np.isfinite(y).all() and np.isfinite(dx).all()
    finally:
        for _, guard in held:
            libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), mmap.PROT_READ | mmap.PROT_WRITE)


# ── Edges ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "op, settings",
    [
        (cnncore.max_pool, dict(kernel_size=3, stride=2, padding=1)),
        (cnncore.adaptive_max_pool, dict(output_size=2)),
        (cnncore.global_max_pool, {}),
        (cnncore.lp_pool, dict(kernel_size=3, stride=2, padding=1, p=INF)),
    ],
    ids=["max", "adaptive", "global", "linf"],
)
def test_nan_in_every_lane(op, settings, dtype):
    """A NaN in any position of any channel is its window's maximum and takes its gradient; other channels do not notice."""
    for channels, layout in itertools.product((1, 7, 17, 33), (np.ascontiguousarray, channels_last)):
        for cell in range(9):
            for c in range(channels):
                x = np.random.default_rng(c).standard_normal((1, channels, 3, 3)).astype(dtype)
                x[0, c, cell // 3, cell % 3] = np.nan
                compare(op, x, settings, [cpu.target()], ((layout, layout),), exact=True)
                y, backward = op.with_backward(layout(x), **settings)
                assert (np.isnan(y).reshape(channels, -1).any(1) == (np.arange(channels) == c)).all()
                if settings.get("p") != INF:
                    assert backward(np.ones_like(y))[0, c, cell // 3, cell % 3] == np.isnan(y[0, c]).sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "settings", [{"kernel_size": 3, "stride": 1, "padding": 1}, {"kernel_size": (2, 5), "stride": (1, 2)}]
)
def test_maxima_of_columns_among_nan_and_infinities(settings, dtype, rng):
    """The kernel's maximum forgets NaN and its sum tells, with infinities that cancel too."""
    x = rng.standard_normal((2, 70, 9, 90)).astype(dtype)
    for value in (np.nan, np.inf, -np.inf, 0.0, -0.0):
        x[rng.random(x.shape) < 0.01] = value
    x[0, :, :4] = rng.standard_normal((70, 4, 90))  # rows without any of them
    x[1, 5] = -np.inf
    compare(
        cnncore.max_pool, x, settings, layouts=((channels_last, channels_last), (np.ascontiguousarray,) * 2), exact=True
    )


def test_ties_go_to_the_first_cell():
    for target in cpu.targets():
        with cpu.target(target):
            for layout in (np.ascontiguousarray, channels_last):
                for value in (0.0, 3.0, -INF, INF, np.nan):
                    x = layout(np.full((2, 18, 4, 6), value))
                    (y, indices), backward = cnncore.max_pool.with_backward(x, 2, return_indices=True)
                    dx = backward(np.ones_like(y))
                    np.testing.assert_array_equal(y, np.full(y.shape, value))
                    assert (indices == [[0, 2, 4], [12, 14, 16]]).all()
                    assert (dx[..., ::2, ::2] == 1).all() and dx.sum() == y.size
                signed = layout(np.array([[[0.0, -0.0], [-0.0, 0.0]]]))
                y, indices = cnncore.max_pool(signed, 2, return_indices=True)
                assert (indices == 0).all() and (np.signbit(y) == [[False], [True]]).all()


def test_every_nan_of_a_window_counts_as_the_first():
    x = np.array([[[1, np.nan, 5, np.nan]]])
    for target in cpu.targets():
        with cpu.target(target):
            (y, index), backward = cnncore.max_pool.with_backward(x, 4, return_indices=True)
            assert np.isnan(y).all() and index.item() == 1
            np.testing.assert_array_equal(backward(np.ones_like(y)), [[[0, 1, 0, 0]]])


@pytest.mark.parametrize("op, settings, exact", STRATEGIES)
def test_gradient_mass(op, settings, exact, rng):
    """Max and sum pass the whole gradient on, the average all of it but the padding's share."""
    x = rng.standard_normal((2, 5, 8, 8))
    y, backward = op.with_backward(x, kernel_size=2, **settings)
    dy = rng.standard_normal(y.shape)
    total = backward(dy).sum()
    if op is cnncore.max_pool:
        assert total == pytest.approx(dy.sum())
    elif op is cnncore.sum_pool:
        assert total == pytest.approx(4 * dy.sum())
    elif op is cnncore.avg_pool:
        assert total == pytest.approx(dy.sum() * 4 / settings.get("divisor_override", 4))
    else:  # y is homogeneous of degree 1 in x: Euler's identity
        assert np.vdot(backward(dy), x) == pytest.approx(np.vdot(dy, y))


def test_cells_that_no_window_meets_get_zero():
    x = np.ones((1, 3, 7, 7))
    for target in cpu.targets():
        with cpu.target(target):
            for layout in (np.ascontiguousarray, channels_last):
                dx = cnncore.sum_pool.with_backward(layout(x), 2, stride=3)[1](np.ones((1, 3, 2, 2)))
                met = np.isin(np.arange(7), (0, 1, 3, 4))
                np.testing.assert_array_equal(dx, np.broadcast_to(np.outer(met, met), x.shape))


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 7.0, 40.0, 300.0, 1e12, 1e300, INF])
@pytest.mark.parametrize(
    "dtype, exponents", [(np.float32, (-44, -37, -20, 0, 20, 37)), (np.float64, (-320, -200, 0, 200, 307))]
)
def test_lp_of_large_and_small_cells(p, dtype, exponents):
    """No power overflows or vanishes: f(c x) = c f(x), and gradients do not depend on c."""
    cells = np.array([3.0, -4.0, 0.0, 1.0])
    y_1 = 4.0 if p == INF else (abs(cells) ** p).sum() ** (1 / p) if p < 100 else 4.0
    for target in cpu.targets():
        with cpu.target(target):
            for exponent, layout in itertools.product(exponents, (np.ascontiguousarray, channels_last)):
                scale = 10.0**exponent
                x = layout(np.broadcast_to((cells * scale).astype(dtype), (2, 20, 4)).copy())
                with np.errstate(over="ignore"):
                    y, backward = cnncore.lp_pool.with_backward(x, 4, p=p)
                subnormal = scale < np.finfo(dtype).tiny
                tolerance = 0.2 if subnormal else 2e-5 if dtype == np.float32 else 1e-12
                if y_1 * scale < np.finfo(dtype).max:
                    np.testing.assert_allclose(y / scale, y_1, rtol=tolerance)
                dx = backward(np.ones_like(y))
                expected = np.sign(cells) * (abs(cells) == 4 if p > 100 else (abs(cells) / y_1) ** (p - 1))
                np.testing.assert_allclose(dx, np.broadcast_to(expected, dx.shape), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("p", [1.0, 2.0, 2.5, INF])
def test_lp_of_zeros_infinities_and_nan(p):
    for target in cpu.targets():
        with cpu.target(target):
            for layout in (np.ascontiguousarray, channels_last):

                def pooled(*cells, layout=layout):
                    x = layout(np.broadcast_to(cells, (1, 18, len(cells))).copy())
                    y, backward = cnncore.lp_pool.with_backward(x, len(cells), p=p)
                    dx = backward(np.ones_like(y))
                    assert (y == y[:, :1]).all() or np.isnan(y).all()
                    return y[0, 0, 0], dx[0, 17].tolist()

                assert pooled(0.0, -0.0, 0.0) == (0.0, [0.0, 0.0, 0.0])
                y, dx = pooled(1.0, -INF, 2.0)
                assert y == INF
                assert dx == ([1.0, -1.0, 1.0] if p == 1 else [0.0, -1.0, 0.0])
                y, dx = pooled(INF, 5.0, INF)
                assert y == INF
                share = 1.0 if p == INF else 2 ** (1 / p - 1) if p > 1 else 1.0
                np.testing.assert_allclose(dx, [share, float(p == 1), 0.0 if p == INF else share], rtol=1e-12)
                y, dx = pooled(1.0, np.nan, INF)
                assert np.isnan(y) and np.isnan(dx[1])


@pytest.mark.parametrize(
    "op, settings, words",
    [
        (cnncore.lp_pool, dict(kernel_size=2, p=0.5), "number ≥ 1"),
        (cnncore.lp_pool, dict(kernel_size=2, p=np.nan), "number ≥ 1"),
        (cnncore.lp_pool, dict(kernel_size=2, p="2"), None),
        (cnncore.lp_pool, dict(kernel_size=2, p=True), "number ≥ 1"),
        (cnncore.avg_pool, dict(kernel_size=2, divisor_override=0), "at least 1"),
        (cnncore.avg_pool, dict(kernel_size=2, divisor_override=1.5), "must be an integer"),
        (cnncore.max_pool, dict(kernel_size=2, padding=2), "more than half"),
        (cnncore.max_pool, dict(kernel_size=2**31 - 1, padding=2**30 - 1), "more elements than can be counted"),
        (cnncore.adaptive_avg_pool, dict(output_size=0), "at least 1"),
        (cnncore.adaptive_avg_pool, dict(output_size=2**31 - 1), "at most"),
        (cnncore.adaptive_avg_pool, dict(output_size=(2, 2, 2)), "one number for each"),
        (cnncore.stochastic_pool, dict(kernel_size=2, return_state=True), "training=True"),
        (cnncore.stochastic_pool, dict(kernel_size=2, seed=-1), "at least 0"),
    ],
)
def test_impossible_settings(op, settings, words):
    if words is None:  # numbers as text are numbers
        assert op(np.ones((1, 1, 4, 4)), **settings).shape == (1, 1, 2, 2)
        return
    with pytest.raises(cnncore.SettingError, match=words):
        op(np.ones((1, 1, 4, 4)), **settings)


# ── Stochastic pooling ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_stochastic_frequencies():
    """Cells are drawn as often as their values say: within four standard deviations over 20000 windows, 20 seeds."""
    cells = np.array([1.0, 0.0, 4.0, 3.0])
    x = np.broadcast_to(np.tile(cells, 1000), (1, 1, 4000))
    count = np.zeros(4)
    for seed in range(20):
        y, state = cnncore.stochastic_pool(x, kernel_size=4, training=True, seed=seed, return_state=True)
        np.testing.assert_array_equal(y[0, 0], x[0, 0, state[0, 0]])
        count += np.bincount(state[0, 0] % 4, minlength=4)
    n, probability = count.sum(), cells / cells.sum()
    assert count[1] == 0
    assert (abs(count - n * probability) <= 4 * np.sqrt(n * probability * (1 - probability))).all()
    mean = (probability * cells).sum()
    np.testing.assert_allclose(cnncore.stochastic_pool(x, kernel_size=4), mean, rtol=1e-14)


def test_stochastic_draws_depend_on_seed_and_place_alone(rng):
    x = rng.uniform(0, 1, (3, 5, 8, 9))
    settings = dict(kernel_size=3, stride=2, padding=1, training=True, return_state=True)
    y, state = cnncore.stochastic_pool(x, seed=5, **settings)
    for layout, threads in itertools.product(LAYOUTS, (1, 2)):
        with cnncore.threads(threads):
            again = cnncore.stochastic_pool(layout(x), seed=5, **settings)
        np.testing.assert_array_equal(again[0], y)
        np.testing.assert_array_equal(again[1], state)
    np.testing.assert_array_equal(cnncore.stochastic_pool(x.astype(np.float32), seed=5, **settings)[1], state)
    assert (cnncore.stochastic_pool(x, seed=6, **settings)[1] != state).any()
    # The first image's draws do not depend on what comes after it.
    np.testing.assert_array_equal(cnncore.stochastic_pool(x[:1], seed=5, **settings)[1], state[:1])


def test_stochastic_replay_and_gradient(rng):
    x = rng.uniform(0, 1, (2, 3, 6, 7))
    settings = dict(kernel_size=3, stride=2, training=True)
    (y, state), backward = cnncore.stochastic_pool.with_backward(x, seed=1, return_state=True, **settings)
    replayed, backward_replayed = cnncore.stochastic_pool.with_backward(x, state, seed=99, **settings)
    np.testing.assert_array_equal(replayed, y)
    dy = rng.standard_normal(y.shape)
    expected = np.zeros((2, 3, 42))
    for n, c in np.ndindex(2, 3):
        np.add.at(expected[n, c], state[n, c].ravel(), dy[n, c].ravel())
    np.testing.assert_allclose(backward(dy).reshape(2, 3, 42), expected, rtol=1e-15, atol=1e-16)
    np.testing.assert_array_equal(backward_replayed(dy), backward(dy))
    assert (cnncore.stochastic_pool(x, state=state, **settings) == y).all()


def test_stochastic_edges():
    def pool(cells, **settings):
        x = np.array([[cells]], dtype=float)
        y, backward = cnncore.stochastic_pool.with_backward(x, kernel_size=len(cells), **settings)
        return y.item(), backward(np.ones_like(y))[0, 0].tolist()

    for training in (False, True):
        assert pool([0, 0, 0], training=training) == (0.0, [0.0, 0.0, 0.0])
        assert pool([0, 7, 0], training=training)[0] == 7
        assert pool([0, 1e308, 0, 1e308], training=training)[0] == 1e308
        assert pool([0, 5e-324, 0], training=training)[0] == 5e-324
        assert pool([1, INF, 2], training=training)[0] == INF
        for bad in ([1, -1e-30, 2], [1, np.nan, 2], [-0.5, 1, 1]):
            with pytest.raises(cnncore.DataError, match=r"stochastic_pool: x .* relu"):
                pool(bad, training=training)
    assert pool([-0.0, 1])[0] == 1
    assert pool([1, INF, 2])[1] == [-1.0, 1.0, -1.0]
    with np.errstate(all="raise"):
        y, dx = pool([3, 1])
    assert y == 2.5 and dx == pytest.approx([(6 - 2.5) / 4, (2 - 2.5) / 4], rel=1e-15)


@pytest.mark.parametrize("wrong", [-1, 2, 7, 16, 2**31, 2**63 - 1, -(2**63)])
def test_stochastic_state_from_outside_is_checked(wrong):
    """Positions are data: one outside its own window must never become an address."""
    x = np.ones((1, 1, 4, 4))
    state = np.array([[[[0, 2], [8, 10]]]])
    settings = dict(kernel_size=2, training=True)
    assert cnncore.stochastic_pool(x, state, **settings).shape == (1, 1, 2, 2)
    state[0, 0, 0, 0] = wrong
    with pytest.raises(cnncore.DataError, match="outside their windows"):
        cnncore.stochastic_pool(x, state, **settings)
    with pytest.raises(cnncore.ShapeError, match="state has shape"):
        cnncore.stochastic_pool(x, state[..., :1], **settings)
    with pytest.raises(cnncore.ShapeError, match="kernel_size=2"):
        cnncore.stochastic_pool(x, np.int64(2), **settings)
    with pytest.raises(cnncore.SettingError, match="training=True"):
        cnncore.stochastic_pool(x, state, kernel_size=2)


# ── PyTorch ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def torch_arrays(x):
    torch = pytest.importorskip("torch")
    yield torch, torch.nn.functional, torch.from_numpy(x.copy()).requires_grad_(True)


def same_as_torch(op, x, settings, function, **torch_settings):
    with torch_arrays(x) as (torch, F, xt):
        result = getattr(F, function.format(rank=x.ndim - 2))(xt, **torch_settings)
        yt, extras = (result[0], result[1:]) if isinstance(result, tuple) else (result, ())
        got, backward = op.with_backward(x, **settings)
        y = got[0] if extras else got
        tolerance = dict(rtol=2e-5, atol=2e-6) if x.dtype == np.float32 else dict(rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(y, yt.detach().numpy(), **tolerance)
        dy = np.random.default_rng(0).standard_normal(y.shape).astype(x.dtype)
        yt.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(backward(dy), xt.grad.numpy(), **tolerance)
        if extras:
            np.testing.assert_array_equal(got[1], extras[0].numpy())


WINDOWS = [
    dict(kernel_size=k, stride=s, padding=p, ceil_mode=ceil)
    for k, s, p, ceil in itertools.product((1, 2, 3, 4), (1, 2, 3, 5), (0, 1, 2), (False, True))
    if p <= k // 2
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 5, 11), (2, 17, 7, 8), (1, 3, 5, 6, 7)], ids=str)
def test_as_torch_has_it(shape, dtype, rng):
    pytest.importorskip("torch")
    x = rng.standard_normal(shape).astype(dtype)
    rank = len(shape) - 2
    for window in WINDOWS:
        for d in (1, 2):
            if d * (window["kernel_size"] - 1) + 1 <= min(shape[2:]) and not (d > 1 and window["ceil_mode"]):
                settings = dict(window, dilation=d, return_indices=True)
                same_as_torch(cnncore.max_pool, x, settings, "max_pool{rank}d", **settings)
        for include in (True, False):
            settings = dict(window, count_include_pad=include)
            same_as_torch(cnncore.avg_pool, x, settings, "avg_pool{rank}d", **settings)
        if rank > 1:
            settings = dict(window, divisor_override=7)
            same_as_torch(cnncore.avg_pool, x, settings, "avg_pool{rank}d", **settings)
        if window["padding"] == 0 and not window["ceil_mode"]:
            geometry = dict(kernel_size=window["kernel_size"], stride=window["stride"])
            for p in (1.0, 2.0, 2.5):  # its powers are of x itself, without the magnitude
                settings = dict(geometry, norm_type=p)
                same_as_torch(cnncore.lp_pool, abs(x), settings, "lp_pool{rank}d", **settings)
    for size in (1, 2, 3, 5, 9, (None,) + (4,) * (rank - 1)):
        settings = dict(output_size=size)
        torch_size = (shape[2],) if size == (None,) else size
        same_as_torch(cnncore.adaptive_avg_pool, x, settings, "adaptive_avg_pool{rank}d", output_size=torch_size)
        same_as_torch(
            cnncore.adaptive_max_pool,
            x,
            dict(settings, return_indices=True),
            "adaptive_max_pool{rank}d",
            output_size=torch_size,
            return_indices=True,
        )


def test_as_torch_has_nan_and_infinities(rng):
    """The value of windows with NaN and infinities; of several NaNs PyTorch takes the last as index, we the first."""
    pytest.importorskip("torch")
    x = rng.standard_normal((2, 19, 9, 9)).astype(np.float32)
    x[rng.uniform(size=x.shape) < 0.05] = np.nan
    x[rng.uniform(size=x.shape) < 0.2] = -INF
    x[rng.uniform(size=x.shape) < 0.05] = INF
    with torch_arrays(x) as (_, F, xt):
        for layout in (np.ascontiguousarray, channels_last):
            for settings in (dict(kernel_size=2), dict(kernel_size=3, stride=1, padding=1)):
                expected = F.max_pool2d(xt, **settings).detach().numpy()
                np.testing.assert_array_equal(cnncore.max_pool(layout(x), **settings), expected)
                expected = F.avg_pool2d(xt, **settings).detach().numpy()
                np.testing.assert_allclose(cnncore.avg_pool(layout(x), **settings), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1, 1e-30, 1e30], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 9, 9), (2, 5, 8, 11), (3, 17, 7, 7), (2, 70, 5, 6), (1, 3, 40)], ids=str)
def test_probability_weighting_on_every_target(rng, shape, scale, dtype):
    """Inference of stochastic pooling: windows of zeros, of infinite cells, of more cells than are summed in one run."""
    x = (rng.uniform(0, scale, shape) * (rng.random(shape) < 0.7)).astype(dtype)
    x[..., :3] = 0
    x[0, 0, ..., -1] = np.inf
    y_limit = 1e-6 if dtype == np.float32 else 1e-14

    def close(found, expected):
        finite = np.isfinite(expected)
        assert np.array_equal(np.where(finite, 0, expected), np.where(finite, 0, found))
        apart = np.abs(found[finite] - expected[finite]).max(initial=0)
        return apart <= y_limit * np.abs(expected[finite]).max(initial=0)

    for settings in (
        {"kernel_size": 3},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 7 if len(shape) > 3 else 35},
    ):
        if min(shape[2:]) < np.min(settings["kernel_size"]):
            continue
        with cnncore.cpu.target("reference"):
            expected, backward = cnncore.stochastic_pool.with_backward(x, **settings, training=False)
            dy = rng.standard_normal(expected.shape).astype(dtype)
            dx = backward(dy)
        for target in cnncore.cpu.targets():
            with cnncore.cpu.target(target):
                for given in (x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)):
                    y, backward = cnncore.stochastic_pool.with_backward(given, **settings, training=False)
                    assert close(y, expected) and close(backward(dy), dx)


@pytest.mark.parametrize("target", cnncore.cpu.targets())
@pytest.mark.parametrize("channels", [1, 16, 33])
@pytest.mark.parametrize("wrong", [-1e-30, np.nan, -np.inf])
def test_probability_weighting_refuses_cells_without_a_probability(target, channels, wrong):
    x = np.ones((2, channels, 6, 6), np.float32)
    with cnncore.cpu.target(target):
        assert (cnncore.stochastic_pool(x, kernel_size=2, training=False) == 1).all()
        x[1, channels - 1, 5, 4] = wrong
        for given in (x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)):
            with pytest.raises(cnncore.DataError, match="outside the operator's domain"):
                cnncore.stochastic_pool(given, kernel_size=2, training=False)
