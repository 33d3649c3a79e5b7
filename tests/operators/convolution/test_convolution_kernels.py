"""Convolution kernels: on every CPU target equal to the reference, for every geometry, layout and number of threads."""

import contextlib
import ctypes
import itertools
import mmap
import re
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from support.layouts import LAYOUTS, channel_slice, channels_last
from support.processes import ROOT, run_python

import cnncore
from cnncore import cpu
from cnncore.operators import geometry
from cnncore.operators.convolution import reference as primitives
from cnncore.operators.convolution.implementation import ALGORITHM, MEASURED_ALGORITHMS, algorithm_costs
from cnncore.runtime.dispatch import PackedWeights

TARGETS = [target for target in cpu.targets() if target != "reference"]
# Of the largest value: a sum of some hundred products, each rounded once by the kernel and not at all by the reference.
TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}


def everything(op, x, w, b, dy, settings, layouts=(np.ascontiguousarray,) * 4):
    """y, dx, dw and db of one call, with x, w, y and dy in the given layouts."""
    lay_x, lay_w, lay_y, lay_dy = layouts
    out = None
    if dy is not None:
        out = lay_y(np.full(dy.shape, np.nan, x.dtype))
    y, backward = op.with_backward(lay_x(x), lay_w(w), b, out=out, **settings)
    return [y, *(backward(np.zeros_like(y) if dy is None else lay_dy(dy)))]


def compare(op, x, w, b, settings, target, layouts=(np.ascontiguousarray,) * 4, seed=0):
    """The target's kernels against the reference implementation."""
    with cpu.target("reference"):
        shape = op(x, w, b, **settings).shape
        dy = np.random.default_rng(seed).standard_normal(shape).astype(x.dtype)
        expected = everything(op, x, w, b, dy, settings)
    with cpu.target(target):
        got = everything(op, x, w, b, dy, settings, layouts)
    for name, a, e in zip(("y", "dx", "dw", "db"), got, expected, strict=False):
        assert a.shape == e.shape
        if a.size:
            error = np.abs(a - e).max() / max(1, np.abs(e).max())
            assert error <= TOLERANCE[x.dtype], f"{name} is off by {error:.3g}"  # NaN fails too


def arrays(rng, shape, weights, dtype, outputs=None):
    return (
        rng.standard_normal(shape).astype(dtype),
        rng.standard_normal(weights).astype(dtype),
        None if outputs is None else rng.standard_normal(outputs).astype(dtype),
    )


@pytest.mark.parametrize("target", TARGETS)
def test_every_small_geometry(target):
    """All (H, k, s, d, lo, hi) in a box, along one axis: windows that hang over the edges, skip pixels, miss the image."""
    rng = np.random.default_rng(0)
    count = 0
    for H, k, s, d, lo, hi in itertools.product((1, 2, 3, 5, 7), (1, 2, 3, 4), (1, 2, 3), (1, 2, 3), (0, 1, 3), (0, 2)):
        if H + lo + hi < d * (k - 1) + 1:
            continue
        x, w, b = arrays(rng, (1, 3, H), (4, 3, k), np.float64, 4)
        compare(cnncore.conv, x, w, b, dict(stride=s, dilation=d, padding=((lo, hi),)), target)
        count += 1
    assert count > 700


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_channel_tail(target, dtype):
    """Input and output channels from 1 past two vectors of the widest target: every tail of a panel."""
    rng = np.random.default_rng(1)
    for channels in (*range(1, 20), 31, 32, 33, 40):
        for layout in (np.ascontiguousarray, channels_last, channel_slice):
            for kernel in ((1, 1), (2, 3)):
                x, w, b = arrays(rng, (2, channels, 3, 5), (40 - channels + 1, channels, *kernel), dtype, 41 - channels)
                layouts = (layout, np.ascontiguousarray, layout, layout)
                compare(cnncore.conv, x, w, b, dict(padding=(0, kernel[1] // 2)), target, layouts)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "groups, inputs, outputs",
    [(2, 3, 5), (5, 1, 1), (37, 1, 1), (16, 1, 2), (3, 1, 20), (9, 2, 3), (4, 9, 1), (2, 17, 40)],
)
def test_groups_and_depthwise(target, dtype, groups, inputs, outputs):
    rng = np.random.default_rng(2)
    for layout in (np.ascontiguousarray, channels_last, channel_slice):
        for stride, dilation in ((1, 1), (2, 1), (1, 2)):
            x, w, b = arrays(rng, (2, groups * inputs, 9, 8), (groups * outputs, inputs, 3, 2), dtype, groups * outputs)
            settings = dict(stride=stride, dilation=dilation, padding=((1, 0), (0, 2)), groups=groups)
            compare(cnncore.conv, x, w, b, settings, target, (layout, np.ascontiguousarray, layout, layout))
            x, w, b = arrays(rng, (1, groups * inputs, 5, 4), (groups * inputs, outputs, 3, 2), dtype, groups * outputs)
            settings = dict(stride=stride, dilation=dilation, padding=1, groups=groups)
            compare(cnncore.conv_transpose, x, w, b, settings, target, (layout, np.ascontiguousarray, layout, layout))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_depthwise_windows_at_every_border(target, dtype):
    """Rows of every length around those of a block, padding from none to more than a window, one to three spatial axes."""
    rng = np.random.default_rng(12)
    layouts = (channels_last, np.ascontiguousarray, channels_last, channels_last)
    for taps, stride, width in itertools.product((3, 5), (1, 2), (1, 2, 3, 4, 5, 7, 8, 9, 14, 17)):
        for low, high in ((0, 0), (1, 1), (taps // 2, 0), (0, taps - 1), (taps - 1, taps), (taps + 1, taps + 2)):
            if width + low + high < taps:
                continue
            channels = 16 if width % 2 else 48
            x, w, b = arrays(rng, (2, channels, 3, width), (channels, 1, 2, taps), dtype, channels)
            settings = dict(stride=(1, stride), padding=((1, 0), (low, high)), dilation=(2 if width < 8 else 1, 1))
            compare(cnncore.depthwise_conv, x, w, b, settings, target, layouts)
    for shape, kernel in (((2, 32, 19), (5,)), ((1, 32, 4, 5, 9), (3, 3, 3))):
        x, w, b = arrays(rng, shape, (32, 1, *kernel), dtype, 32)
        compare(cnncore.depthwise_conv, x, w, b, dict(padding=1), target, layouts)


@st.composite
def convolutions(draw):
    """Any convolution of rank 1 to 3 that the reference implementation computes in reasonable time."""
    rank = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    groups, inputs, outputs = draw(
        st.one_of(
            st.tuples(st.just(1), st.integers(1, 40), st.integers(1, 40)),
            st.tuples(st.integers(2, 5), st.integers(1, 8), st.integers(1, 20)),
            st.tuples(st.integers(2, 40), st.just(1), st.integers(1, 2)),
        )
    )
    per_axis = lambda low, high: st.tuples(*(st.integers(low, high),) * rank)  # noqa: E731
    extents, kernel = draw(per_axis(1, 9)), draw(per_axis(1, 5))
    padding = tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(rank))
    settings = dict(stride=draw(per_axis(1, 3)), dilation=draw(per_axis(1, 3)), padding=padding, groups=groups)
    x = (draw(st.integers(0, 3)), groups * inputs, *extents)
    w = (groups * inputs, outputs, *kernel) if transposed else (groups * outputs, inputs, *kernel)
    return transposed, x, w, groups * outputs, settings


@pytest.mark.parametrize("target", TARGETS)
@hypothesis.settings(max_examples=150, deadline=None, suppress_health_check=[hypothesis.HealthCheck.filter_too_much])
@hypothesis.given(
    call=convolutions(),
    dtype=st.sampled_from((np.float32, np.float64)),
    layouts=st.tuples(*(st.sampled_from(LAYOUTS),) * 4),
    biased=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_geometry(target, call, dtype, layouts, biased, seed):
    transposed, shape, weights, outputs, settings = call
    op = cnncore.conv_transpose if transposed else cnncore.conv
    try:
        op.infer((shape, weights, None), np.dtype(dtype), settings)
    except cnncore.ShapeError:
        hypothesis.reject()
    rng = np.random.default_rng(seed)
    x, w, b = arrays(rng, shape, weights, dtype, outputs if biased else None)
    compare(op, x, w, b, settings, target, layouts, seed)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "shape, weights, settings",
    [
        ((1, 3, 41, 230), (20, 3, 7, 7), dict(stride=2, padding=3)),  # the first layer: several tiles along both axes
        ((3, 70, 14, 14), (70, 70, 3, 3), dict(padding=1)),  # several units, tiles with borders and tails
        ((5, 40, 7, 7), (90, 40, 1, 1), {}),  # images merged in a tile
        ((2, 24, 900), (33, 24, 5), dict(padding=2, dilation=3)),
        ((2, 16, 5, 12, 40), (18, 16, 3, 3, 3), dict(padding=1)),
        ((2, 200, 20, 20), (200, 1, 3, 3), dict(padding=1, groups=200)),
        ((1, 700, 9, 9), (16, 700, 3, 3), dict(padding=1)),  # few outputs, many terms: tasks share a unit
    ],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_calls_of_several_tiles(target, shape, weights, settings):
    rng = np.random.default_rng(3)
    x, w, b = arrays(rng, shape, weights, np.float32, weights[0])
    w /= np.sqrt(np.prod(weights[1:]))
    for layout in (np.ascontiguousarray, channels_last):
        compare(
            cnncore.conv, x, w.astype(np.float32), b, settings, target, (layout, np.ascontiguousarray, layout, layout)
        )


@pytest.mark.parametrize("target", TARGETS)
def test_linear(target):
    rng = np.random.default_rng(4)
    for rows, features, outputs in ((1, 1, 1), (1, 100, 37), (3, 17, 70), (40, 33, 10), (300, 64, 50)):
        for dtype in (np.float32, np.float64):
            x, w, b = arrays(rng, (rows, features), (outputs, features), dtype, outputs)
            compare(cnncore.linear, x, w, b, {}, target)
            compare(cnncore.linear, x.reshape(rows, 1, features), w, b, {}, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bit_identical_for_any_number_of_threads(target, dtype):
    rng = np.random.default_rng(5)
    cases = [
        (cnncore.conv, (4, 35, 30, 30), (48, 35, 3, 3), dict(padding=1)),
        (cnncore.conv, (4, 35, 30, 30), (48, 35, 1, 1), {}),
        (cnncore.conv, (3, 64, 24, 24), (64, 1, 3, 3), dict(padding=1, groups=64)),
        (cnncore.conv_transpose, (2, 32, 15, 15), (32, 24, 3, 3), dict(stride=2, padding=1)),
        (cnncore.linear, (70, 300), (200, 300), {}),
        (cnncore.conv, (3, 35, 30, 30), (70, 35, 3, 3), dict(padding=1, algorithm="winograd_4x4")),
        (cnncore.conv, (1, 35, 14, 14), (70, 35, 3, 3), dict(padding=1, algorithm="winograd_4x4")),
        (cnncore.conv, (1, 35, 14, 14), (70, 35, 3, 3), dict(padding=1, algorithm="winograd_2x2")),
        (cnncore.conv, (3, 35, 15, 15), (70, 35, 5, 5), dict(padding=2, algorithm="winograd_2x2")),
    ]
    for op, shape, weights, settings in cases:
        for layout in (np.ascontiguousarray, channels_last):
            outputs = weights[1] if op is cnncore.conv_transpose else weights[0]
            x, w, b = arrays(rng, shape, weights, dtype, outputs)
            results = []
            with cpu.target(target):
                dy = rng.standard_normal(op(x, w, b, **settings).shape).astype(dtype)
                for threads in (1, 2, 64, 3):
                    with cnncore.threads(threads):
                        results.append(
                            everything(op, x, w, b, dy, settings, (layout, np.ascontiguousarray, layout, layout))
                        )
            for again in results[1:]:
                for a, e in zip(again, results[0], strict=True):
                    assert np.array_equal(a, e)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("backward", [False, True])
def test_packed_weights_are_reused_until_refreshed(target, backward):
    rng = np.random.default_rng(6)
    x, w, b = arrays(rng, (2, 20, 9, 9), (20, 20, 3, 3), np.float32, 20)
    convolution = primitives.Convolution(1, (1, 1, 1), (1, 1, 1), (0, 1, 1))
    packed = convolution.pack(PackedWeights(), backward)
    y, first, second = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    run = (
        (lambda w, out: convolution.backward_input(x, w, out, b, packed))
        if backward
        else (lambda w, out: convolution.forward(x, w, b, out, packed))
    )
    with cpu.target(target):
        run(w, first)
        run(2 * w, second)
        assert np.array_equal(first, second)  # still the old weights
        packed.refresh()
        run(2 * w, second)
        assert not np.allclose(first, second)
        if backward:
            convolution.backward_input(x, 2 * w, y, b)
        else:
            convolution.forward(x, 2 * w, b, y)
        assert np.array_equal(second, y)
    if len(TARGETS) > 1:  # another target packs for itself
        with cpu.target(TARGETS[(TARGETS.index(target) + 1) % len(TARGETS)]):
            run(2 * w, first)
            np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", ["reference", *TARGETS])
def test_bounds_in_the_epilogue(target):
    rng = np.random.default_rng(7)
    for (weights, groups), (lower, upper) in itertools.product(
        (((40, 20, 3, 3), 1), ((20, 1, 3, 3), 20), ((40, 20, 1, 1), 1)),
        ((0, np.inf), (0, 0.75), (-0.5, 0.25), (-np.inf, 0)),
    ):
        x, w, b = arrays(rng, (2, 20, 9, 9), weights, np.float32, weights[0])
        x[0, 0, 4, 4] = np.nan
        low = (0, weights[2] // 2, weights[3] // 2)
        convolution = primitives.Convolution(groups, (1, 1, 1), (1, 1, 1), low)
        for layout in (np.ascontiguousarray, channels_last):
            plain, clipped = (layout(np.empty((2, weights[0], 9, 9), np.float32)) for _ in range(2))
            with cpu.target(target):
                convolution.forward(layout(x), w, b, plain)
                convolution.forward(layout(x), w, b, clipped, lower=lower, upper=upper)
            held = np.where(plain <= lower, np.float32(lower), np.where(plain >= upper, np.float32(upper), plain))
            assert np.array_equal(clipped, held, equal_nan=True)


@pytest.mark.parametrize("target", ["reference", *TARGETS])
def test_layouts_are_copied(target):
    rng = np.random.default_rng(8)
    for shape in ((1, 1, 1), (2, 3, 5), (2, 40, 7, 7), (1, 70, 3, 33), (2, 17, 2, 5, 18)):
        for dtype in (np.float32, np.float64):
            for source, result in itertools.product(LAYOUTS, LAYOUTS):
                a = rng.standard_normal(shape).astype(dtype)
                out = result(np.full(shape, np.nan, dtype))
                with cpu.target(target):
                    primitives.copy_layout(source(a), out)
                assert np.array_equal(out, a)


# Winograd's transforms add and subtract values of like size: of the largest output this many units in the last place.
WINOGRAD_TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 2e-14}
WINOGRAD_FORMS = tuple(  # and the size of the window, and the stride
    (name, size, stride)
    for name, row in primitives.ALGORITHMS.items()
    for size, stride in itertools.product((3, 5), (1, 2))
    if row.family == "winograd" and row.fits(geometry.window("conv", (9, 9), (size, size), stride), 1)
)
# On images like those of a net: root mean square of the error, in that of the result, where direct has 2.1e-7.
WINOGRAD_ERRORS = {
    ("winograd_4x4", 3, 1): 1.2e-6,
    ("winograd_4x2", 3, 1): 7e-7,
    ("winograd_2x2", 3, 1): 4e-7,
    ("winograd_4x4", 5, 1): 5e-6,
    ("winograd_4x2", 5, 1): 2.6e-6,
    ("winograd_2x2", 5, 1): 1.3e-6,
    ("winograd_4x4", 3, 2): 8e-7,
}


def test_every_form_of_winograd_has_its_bound():
    lacking = set(WINOGRAD_FORMS) - set(WINOGRAD_ERRORS)
    assert set(WINOGRAD_FORMS) == set(WINOGRAD_ERRORS), f"add to WINOGRAD_ERRORS, and to docs/performance.md: {lacking}"


@pytest.mark.parametrize("name", primitives.ALGORITHMS)
def test_an_algorithm_is_one_row_of_the_table(name):
    """Names, families and costs are the table's; a row computes what it says it fits, and refuses the rest."""
    rng = np.random.default_rng(13)
    offered, row = ALGORITHM, primitives.ALGORITHMS[name]
    for size, settings in itertools.product(
        (1, 3, 4, 5, 7), (dict(), dict(stride=2), dict(dilation=2), dict(groups=2))
    ):
        x, w, b = arrays(rng, (1, 6, 15, 15), (4, 6 // settings.get("groups", 1), size, size), np.float32, 4)
        window = geometry.window(
            "conv", (15, 15), (size, size), settings.get("stride", 1), 0, settings.get("dilation", 1)
        )
        costs = algorithm_costs(window, 1, 6, 4, settings.get("groups", 1))
        exact = cnncore.conv(x.astype("d"), w.astype("d"), b.astype("d"), **settings)
        fits = row.fits(window, settings.get("groups", 1))
        assert (name in costs) == (fits and name in MEASURED_ALGORITHMS), settings
        assert row.name == name and name in offered.meaning and (not row.family or row.family in offered.meaning)
        if fits:
            y = cnncore.conv(x, w, b, algorithm=name, **settings)
            assert np.abs(y - exact).max() <= 1e-5 * np.abs(exact).max(), settings
        else:
            with pytest.raises(cnncore.SettingError, match=f"{name}.* computes {re.escape(row.windows)}"):
                cnncore.conv(x, w, b, algorithm=name, **settings)


@pytest.mark.parametrize("name", [row.name for row in primitives.ALGORITHMS.values() if row.has_kernels])
@pytest.mark.parametrize("target", TARGETS)
def test_an_algorithm_on_every_window_that_it_fits(target, name):
    """y and the gradients, tiles that hang over, in both layouts and precisions, as the reference implementation has them."""
    rng, row, compared = np.random.default_rng(14), primitives.ALGORITHMS[name], 0
    for size, stride, dilation, groups in itertools.product((1, 2, 3, 5), (1, 2), (1, 2), (1, 2)):
        settings = {"stride": stride, "dilation": dilation, "groups": groups, "padding": size // 2}
        window = geometry.window("conv", (21, 38), (size, size), stride, size // 2, dilation)
        if not row.fits(window, groups):
            continue
        for dtype, layout in itertools.product((np.float32, np.float64), (np.ascontiguousarray, channels_last)):
            x, w, b = arrays(rng, (2, 6, 21, 38), (34, 6 // groups, size, size), dtype, 34)
            with cpu.target("reference"):
                dy = rng.standard_normal(cnncore.conv(x, w, b, **settings).shape).astype(dtype)
                expected = everything(cnncore.conv, x, w, b, dy, settings)
            with cpu.target(target):
                options = {**settings, "algorithm": name}
                found = everything(cnncore.conv, x, w, b, dy, options, (layout,) * 4)
            for what, a, e in zip(("y", "dx", "dw", "db"), found, expected, strict=True):
                limit = 2e-5 if dtype == np.float32 else 1e-12
                assert np.abs(a - e).max() <= limit * np.abs(e).max(), (what, settings, dtype.__name__, layout.__name__)
            compared += 1
    assert compared >= 4


def test_the_page_of_algorithms_has_every_row_and_its_bounds():
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in primitives.ALGORITHMS:
        if primitives.ALGORITHMS[name].family:
            (line,) = re.findall(rf"^\| `{name}` \| \d×\d.*$", text, re.MULTILINE)
            bounds = [float(bound) for bound in re.findall(r"\d\.?\d*e-\d+", line)]
            assert bounds == [bound for (algorithm, _, _), bound in WINOGRAD_ERRORS.items() if algorithm == name]


@pytest.mark.parametrize("target", TARGETS)
@hypothesis.settings(max_examples=80, deadline=None)
@hypothesis.given(
    form=st.sampled_from(WINOGRAD_FORMS),
    images=st.integers(0, 3),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 70)),
    extents=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    padding=st.tuples(*(st.tuples(st.integers(2, 4), st.integers(2, 4)),) * 2),
    dtype=st.sampled_from((np.float32, np.float64)),
    layouts=st.tuples(*(st.sampled_from(LAYOUTS),) * 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_winograd(target, form, images, channels, extents, padding, dtype, layouts, seed):
    """Forward and both gradients, tiles that hang over every edge, all layouts."""
    rng = np.random.default_rng(seed)
    algorithm, size, stride = form
    if size == 3:
        padding = tuple((low - 1, high - 1) for low, high in padding)
    settings = dict(padding=padding, stride=stride)
    x, w, b = arrays(rng, (images, channels[0], *extents), (channels[1], channels[0], size, size), dtype, channels[1])
    with cpu.target("reference"):
        dy = rng.standard_normal(cnncore.conv(x, w, b, **settings).shape).astype(dtype)
        expected = everything(cnncore.conv, x, w, b, dy, settings)
    with cpu.target(target):
        got = everything(cnncore.conv, x, w, b, dy, {**settings, "algorithm": algorithm}, layouts)
    tolerance = WINOGRAD_TOLERANCE[x.dtype] * (3 if algorithm == "winograd_4x4" and size == 5 else 1)
    for a, e in zip(got, expected, strict=True):
        if a.size:
            assert np.abs(a - e).max() <= tolerance * max(1, np.abs(e).max())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("form", WINOGRAD_FORMS)
def test_winograd_rounds_no_worse_than_it_must(form, target):
    algorithm, size, stride = form
    cpu.target(target)
    rng = np.random.default_rng(12)
    for extent in (28, 14, 7):  # whole tiles; whole and shorter ones
        x = rng.standard_normal((1, 96, extent * stride, extent * stride)).astype(np.float32)
        w = (rng.standard_normal((64, 96, size, size)) / size / 96**0.5).astype(np.float32)
        settings = dict(padding=size // 2, stride=stride)
        exact = cnncore.conv(x.astype(np.float64), w.astype(np.float64), **settings)
        error = cnncore.conv(x, w, algorithm=algorithm, **settings) - exact
        assert np.sqrt(np.mean(error**2)) < WINOGRAD_ERRORS[form] * np.sqrt(np.mean(exact**2)), extent


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("form", WINOGRAD_FORMS)
def test_winograd_bits_do_not_depend_on_threads(form, target):
    algorithm, size, stride = form
    cpu.target(target)
    rng = np.random.default_rng(16)
    x, w, b = arrays(rng, (3, 40, 23, 18), (70, 40, size, size), np.float32, 70)
    settings = dict(padding=size // 2, stride=stride, algorithm=algorithm)
    results = []
    for threads in (1, 2, 7, 64):
        with cnncore.threads(threads):
            dy = np.ones_like(cnncore.conv(x, w, b, **settings))
            results.append([a.tobytes() for a in everything(cnncore.conv, x, w, b, dy, settings)])
    assert all(result == results[0] for result in results)
    assert np.longdouble(3) / 2 == 1.5  # and the processor's other units are as they were


@pytest.mark.parametrize("target", TARGETS)
def test_winograd_runs_where_it_is_asked_for(target):
    """It rounds otherwise than direct convolution: equal results would mean that it did not run."""
    cpu.target(target)
    rng = np.random.default_rng(10)
    x, w, _ = arrays(rng, (1, 32, 20, 20), (32, 32, 3, 3), np.float32)
    results = {
        a: everything(cnncore.conv, x, w, None, x, dict(padding=1, algorithm=a)) for a in ("direct", "auto", "winograd")
    }
    for direct, auto, winograd in zip(*results.values(), strict=True):
        assert not np.array_equal(direct, winograd)
        assert np.array_equal(auto, winograd)  # the cost model favours it here
    five = arrays(rng, (1, 32, 20, 20), (32, 32, 5, 5), np.float32)[1]
    y = {a: cnncore.conv(x, five, padding=2, algorithm=a) for a in ("direct", "auto", "winograd", "winograd_4x4")}
    assert not np.array_equal(y["direct"], y["winograd_4x4"])
    assert np.array_equal(y["auto"], y["winograd_4x4"])
    assert np.array_equal(y["winograd"], y["winograd_4x4"])
    strided = {a: cnncore.conv(x, w, padding=1, stride=2, algorithm=a) for a in ("direct", "winograd", "winograd_4x4")}
    assert not np.array_equal(strided["direct"], strided["winograd_4x4"])
    assert np.array_equal(strided["winograd"], strided["winograd_4x4"])
    with pytest.raises(cnncore.SettingError, match=r"winograd_2x2.* computes 3×3"):
        cnncore.conv(x, w, padding=1, stride=2, algorithm="winograd_2x2")
    assert np.array_equal(cnncore.conv(x, w, padding=1), results["direct"][0])
    for settings in (dict(stride=3), dict(dilation=2), dict(groups=2)):
        weights = w[:, : 32 // settings.get("groups", 1)]
        with pytest.raises(cnncore.SettingError, match="winograd"):
            cnncore.conv(x, weights, algorithm="winograd", **settings)
        cnncore.conv(x, weights, algorithm="auto", **settings)
    with pytest.raises(cnncore.SettingError, match="winograd"):
        cnncore.conv(x, w[:, :, :2], algorithm="winograd")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_windows_of_every_width(stride, target):
    """Blocks of columns of every size, tiles that end anywhere, padding on one side alone; with bias and bounds."""
    rng = np.random.default_rng(14)
    for extent, padding in itertools.product((*range(1, 10), 14, 23, 30), ((1, 1), (0, 2), (2, 0))):
        for size in (3, 5):
            if extent + sum(padding) < size:
                continue
            x, w, b = arrays(rng, (2, 32, extent + 1, extent), (32, 1, size, size), np.float32, 32)
            settings = dict(stride=stride, padding=(padding, padding[::-1]))
            if extent + 1 + sum(padding) < size:
                continue
            with cpu.target("reference"):
                expected = cnncore.depthwise_conv(x, w, b, **settings)
            with cpu.target(target):
                for layout in (np.ascontiguousarray, channels_last):
                    out = layout(np.full(expected.shape, np.nan, np.float32))
                    y = cnncore.depthwise_conv(layout(x), w, b, out=out, **settings)
                    assert np.abs(y - expected).max() <= TOLERANCE[x.dtype] * np.abs(expected).max()


# One value that is not like the others, and where: at a corner, on an edge, inside.
STRANGE = (np.nan, np.inf, -np.inf, 1e6)
PLACES = ((0, 0), (0, 5), (11, 10), (5, 6))
WINDOWS = (
    ("conv", (8, 8, 3, 3), dict(padding=1)),
    ("conv", (8, 8, 3, 3), dict(padding=1, stride=2)),
    ("conv", (8, 8, 5, 5), dict(padding=(0, 2))),
    ("conv", (8, 4, 3, 3), dict(padding=2, dilation=2, groups=2)),
    ("conv", (8, 8, 7, 7), dict(padding=3, stride=2)),
    ("depthwise_conv", (8, 1, 3, 3), dict(padding=1)),
    ("conv_transpose", (8, 8, 3, 3), dict(padding=1, stride=2, output_padding=1)),
)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name, kernel, settings", WINDOWS)
def test_values_stay_in_the_windows_that_see_them(name, kernel, settings, target):
    """A value that is not finite, or huge, in x, w or dy: y, dx and dw are what the reference implementation says elsewhere.

    All algorithms: sums over tiles, and products with the zeros of padding, must not spread it.
    """
    rng = np.random.default_rng(15)
    op = cnncore.OPS[name]
    x, w, _ = arrays(rng, (2, 8, 12, 11), kernel, np.float32)
    plain_y = op(x, w, **settings)
    names = ["direct"]
    if name == "conv":
        given = [settings.get(key, usual) for key, usual in (("stride", 1), ("padding", 0), ("dilation", 1))]
        window = geometry.window("conv", (12, 11), kernel[2:], *given)
        rows = [row for row in primitives.ALGORITHMS.values() if row.has_kernels]
        names = [row.name for row in rows if row.fits(window, settings.get("groups", 1))]
    values = [*itertools.product(STRANGE, PLACES, ("x", "dy")), *itertools.product(STRANGE[:2], PLACES[::2], ("w",))]
    for strange, place, of in values:
        given = {"x": x.copy(), "w": w.copy(), "dy": rng.standard_normal(plain_y.shape).astype(np.float32)}
        array = given[of]
        at = (1, 3 % array.shape[1], *np.minimum(place, np.array(array.shape[2:]) - 1))
        array[at] = strange
        with cpu.target("reference"), np.errstate(all="ignore"):
            expected = everything(op, given["x"], given["w"], None, given["dy"], settings)[:3]
            array[at] = np.nan
            marked = everything(op, given["x"], given["w"], None, given["dy"], settings)[:3]
            array[at] = strange
        for algorithm, layout in itertools.product(names, (np.ascontiguousarray, channels_last)):
            with cpu.target(target), np.errstate(all="ignore"):
                options = {**settings, "algorithm": algorithm}
                found = everything(op, given["x"], given["w"], None, given["dy"], options, (layout,) * 4)[:3]
            for what, a, e, m in zip(("y", "dx", "dw"), found, expected, marked, strict=True):
                case = (what, algorithm, strange, place, of)
                assert np.array_equal(np.isfinite(a), np.isfinite(e)), case
                others = ~np.isnan(m)  # those that do not see it
                assert np.abs(a[others] - e[others]).max() <= 2e-5 * np.abs(e[others]).max(), case
                seeing = np.isfinite(e) & ~others
                assert np.abs(a[seeing] - e[seeing]).max(initial=0) <= 2e-5 * np.abs(e[seeing]).max(initial=0), case


@pytest.mark.parametrize(
    ("activation", "epilogue"),
    [("relu", True), ("relu6", True), ("clipped_relu", True), ("hard_tanh", True), ("tanh", False)],
)
def test_activation_in_a_graph(activation, epilogue):
    """The plan fuses what holds y between bounds into the convolution before it; other activations follow on their own."""
    rng = np.random.default_rng(11)
    implementation, call = (
        cnncore.conv.implementation,
        cnncore.conv.infer(((1, 3, 5, 5), (4, 3, 3, 3), None), np.dtype(np.float32), {}),
    )
    activation = cnncore.OPS[activation]
    follower = activation.infer((call.output,), call.dtype, {})
    assert implementation.fuses_activation(call, follower) == epilogue
    if epilogue:
        x, w, _ = arrays(rng, (1, 3, 5, 5), (4, 3, 3, 3), np.float32)
        y, _, saved = implementation.forward(call, (x, w, None), epilogue=follower)
        assert np.array_equal(y, activation(cnncore.conv(x, w)))
        assert len(saved) == 2


@contextlib.contextmanager
def guarded(shape, dtype, order, start):
    """An array that ends (or, with ``start``, begins) at a page that may not be touched."""
    libc = ctypes.CDLL(None, use_errno=True)
    page = mmap.PAGESIZE
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pages = -(-size // page) + 2
    memory = mmap.mmap(-1, pages * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (address, address + (pages - 1) * page):
        assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    offset = page if start else (pages - 1) * page - size
    a = np.frombuffer(memory, dtype, int(np.prod(shape)), offset)
    stored = tuple(shape[axis] for axis in order)
    yield a.reshape(stored).transpose(np.argsort(order))
    for guard in (address, address + (pages - 1) * page):
        assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 3) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects pages with mprotect")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("start", [False, True], ids=["end", "start"])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1)], ids=["nchw", "nhwc"])
def test_nothing_outside_the_arrays_is_touched(target, order, start):
    """A read or write one element outside any array ends the process."""
    cases = [
        ((1, 3, 9, 11), (5, 3, 3, 3), 5, dict(padding=1)),
        ((2, 17, 5, 5), (19, 17, 1, 1), 19, {}),
        ((1, 33, 6, 7), (35, 33, 2, 2), 35, dict(stride=2)),
        ((1, 11, 6, 7), (11, 1, 3, 3), 11, dict(padding=1, groups=11)),
        ((1, 16, 6, 7), (16, 1, 3, 3), 16, dict(groups=16)),
        ((1, 16, 6, 9), (16, 1, 3, 3), 16, dict(padding=1, groups=16)),
        ((2, 32, 5, 4), (32, 1, 5, 5), 32, dict(padding=2, groups=32, stride=2)),
        ((1, 9, 6, 7), (27, 1, 2, 3), 27, dict(groups=9, stride=2)),
        ((1, 17, 6, 7), (19, 17, 3, 3), 19, dict(padding=1, algorithm="winograd")),
        ((1, 16, 8, 10), (16, 16, 3, 3), 16, dict(algorithm="winograd_4x4")),
        ((1, 17, 6, 7), (19, 17, 3, 3), 19, dict(padding=1, algorithm="winograd_2x2")),
        ((1, 17, 6, 7), (19, 17, 5, 5), 19, dict(padding=2, algorithm="winograd_2x2")),
    ]
    plain = (0, 1, 2, 3)
    for dtype, (x_shape, w_shape, outputs, settings) in itertools.product((np.float32, np.float64), cases):
        y_shape = cnncore.conv.infer((x_shape, w_shape, None), np.dtype(dtype), settings).output
        with contextlib.ExitStack() as stack, cpu.target(target):
            place = lambda shape, order: stack.enter_context(guarded(shape, dtype, order, start))  # noqa: E731, B023
            x, w, b = place(x_shape, order), place(w_shape, plain), place((outputs,), (0,))
            dx, dw, db = place(x_shape, order), place(w_shape, plain), place((outputs,), (0,))
            y = place(y_shape, order)
            x[...], w[...], b[...] = 1, 1, 1
            call = cnncore.conv.infer((x_shape, w_shape, (outputs,)), np.dtype(dtype), settings)
            cnncore.conv.implementation.forward(call, (x, w, b), y)
            assert np.isfinite(y).all()
            cnncore.conv.implementation.backward(call, (x, w), y, (True, True, True), (dx, dw, db))
            del x, w, b, dx, dw, db, y


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
def test_as_pytorch(target, dtype, transposed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(9)
    for rank, stride, padding, dilation, groups in (
        (1, 2, 3, 2, 1),
        (2, 1, 1, 1, 1),
        (2, 3, 2, 2, 2),
        (2, 2, 1, 1, 12),
        (3, 2, 1, 1, 3),
    ):
        channels, outputs = 12, 24
        weights = (channels, outputs // groups) if transposed else (outputs, channels // groups)
        x, w, b = arrays(rng, (2, channels, *(9, 8, 7)[:rank]), (*weights, *(3, 2, 3)[:rank]), dtype, outputs)
        settings = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        tensors = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
        expected = getattr(torch.nn.functional, f"conv{'_transpose' * transposed}{rank}d")(*tensors, **settings)
        dy = rng.standard_normal(expected.shape).astype(dtype)
        expected.backward(torch.tensor(dy))
        op = cnncore.conv_transpose if transposed else cnncore.conv
        with cpu.target(target):
            got = everything(op, x, w, b, dy, settings)
        for a, e in zip(got, [expected.detach(), *(t.grad for t in tensors)], strict=True):
            np.testing.assert_allclose(a, e.numpy(), rtol=0, atol=TOLERANCE[np.dtype(dtype)] * max(1, np.abs(a).max()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linear_layers_of_few_rows(rng, dtype):
    """Below and above the number of rows from which convolution's kernels take over, in every layout."""
    for target in cnncore.cpu.targets():
        for rows, features, outputs in [(1, 1, 1), (1, 7, 33), (2, 130, 17), (6, 67, 100), (7, 67, 100), (1, 300, 300)]:
            x = rng.standard_normal((rows, features)).astype(dtype)
            w, b = rng.standard_normal((outputs, features)).astype(dtype), rng.standard_normal(outputs).astype(dtype)
            dy = rng.standard_normal((rows, outputs)).astype(dtype)
            limit = (1e-6 if dtype == np.float32 else 1e-15) * np.sqrt(max(features, outputs)) * 4
            for layout in (np.ascontiguousarray, np.asfortranarray, lambda a: a[..., ::-1].copy()[..., ::-1]):
                with cnncore.cpu.target(target):
                    y, backward = cnncore.linear.with_backward(layout(x), layout(w), layout(b))
                    dx, dw, db = backward(layout(dy))
                    for found, expected in ((y, x @ w.T + b), (dx, dy @ w), (dw, dy.T @ x), (db, dy.sum(0))):
                        assert found.shape == expected.shape
                        assert np.abs(found - expected).max() <= limit * np.abs(expected).max()
                    assert np.array_equal(cnncore.linear(layout(x)[None], w, b)[0], cnncore.linear(layout(x), w, b))
                    bits = set()
                    for threads in (1, 2, 3):
                        with cnncore.threads(threads):
                            bits.add(cnncore.linear(x, w, b).tobytes())
                    assert len(bits) == 1


# ── Gradients that are added ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("algorithm", "kernel", "settings", "adds"),
    [
        ("direct", 1, {}, True),
        ("direct", 3, {"padding": 1, "dilation": 2}, True),
        ("direct", 3, {"groups": 2}, True),
        ("winograd_4x4", 3, {"padding": 1}, True),
        ("winograd_2x2", 5, {"padding": 2}, True),
        ("direct", 3, {"stride": 2}, False),  # several parts
        ("direct", 1, {"stride": 2}, False),  # pixels that no window meets
        ("direct", 3, {"groups": 22}, None),  # by the depthwise kernels, where vectors are wide enough for them
        ("reference", 3, {}, False),
    ],
)
def test_gradients_are_added_to_what_is_there(algorithm, kernel, settings, adds, target, dtype, rng):
    groups = settings.get("groups", 1)
    x = np.zeros((2, 22, 11, 13), dtype)
    w = rng.standard_normal((44, 22 // groups, kernel, kernel)).astype(dtype)
    call = cnncore.conv.infer((x.shape, w.shape, None), x.dtype, {**settings, "algorithm": algorithm})
    dy = channels_last(rng.standard_normal(call.output).astype(dtype))
    before = rng.standard_normal(x.shape).astype(dtype)
    with cpu.target(target):
        alone = channels_last(np.empty_like(x))
        call.geometry.primitives.backward_input(dy, w, alone)
        for lay in (channels_last, channel_slice):
            dx = lay(before)
            added = bool(call.geometry.primitives.add_backward_input(dy, w, dx))
            assert adds in (None, added)
            np.testing.assert_allclose(
                dx, before + alone if added else before, rtol=0, atol=TOLERANCE[x.dtype] * np.abs(alone).max()
            )
            # The operator does it in every case.
            dx = lay(before)
            found = call.op.implementation.backward(
                call, (x, w), dy, (True, False, False), (dx, None, None), accumulate=True
            )
            assert found[0] is dx
            np.testing.assert_allclose(dx, before + alone, rtol=0, atol=TOLERANCE[x.dtype] * np.abs(alone).max())
        planes = before.copy()
        assert not call.geometry.primitives.add_backward_input(dy, w, planes)
        assert np.array_equal(planes, before)


COLLECTED = """
import gc
import numpy as np
import cnncore
from cnncore.runtime.dispatch import PackedWeights

x, w = np.ones((1, 8, 9, 9), "f"), np.ones((8, 8, 3, 3), "f")
call = cnncore.conv.infer((x.shape, w.shape, None), x.dtype, {"padding": 1})
arena = PackedWeights()
for _ in range(8):
    packed = cnncore.conv.implementation.packing(call, arena)
    cnncore.conv.implementation.forward(call, (x, w, None), packed=packed)
    circle = [packed]
    circle.append(circle)
    del packed, circle
    gc.collect()
"""


def test_packed_weights_in_a_circle_are_freed_once():
    """The collector clears an object's references before it is freed: a piece of an arena was then taken for a block."""
    run_python(COLLECTED)
