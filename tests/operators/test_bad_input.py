"""No argument, setting or dy, however wrong, does anything but run or raise an error that says what is wrong."""

import contextlib
import inspect
import math
import re

import numpy as np
import pytest
from support.cases import as_list, both_passes, cases, first, mostly_long, operators

import cnncore
from cnncore import CnnError, DtypeError, SettingError, ShapeError
from cnncore.errors import DataError

resource = pytest.importorskip("resource", reason="memory can only be limited on POSIX")
hypothesis = pytest.importorskip("hypothesis")
given, settings, st = hypothesis.given, hypothesis.settings, hypothesis.strategies

LIMIT = 2**30


@contextlib.contextmanager
def memory_limit(extra=LIMIT):
    """Allocations beyond ``extra`` bytes more than now raise MemoryError instead of bringing the machine down."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def refused_or_right(op, arrays, given_settings):
    """Call the operator, both passes: a result whose shapes fit, CnnError, or MemoryError. Returns whether it ran."""
    try:
        with memory_limit(), np.errstate(all="ignore"):
            y, backward = op.with_backward(*arrays, **given_settings)
            y = np.asarray(first(y))
            gradients = as_list(backward(np.ones(y.shape, y.dtype)))
    except CnnError as error:
        text = str(error)
        assert op.name in text, f"the error does not name its place: {text}"
        assert 20 < len(text) < 700, text
        return False
    except MemoryError:
        return False
    floats = [a for row, a in zip(op.rows(len(arrays)), arrays, strict=False) if row.differentiable and a is not None]
    for gradient, array in zip(gradients, floats, strict=False):
        assert gradient.shape == np.shape(array)
    return True


# ── Settings ───────────────────────────────────────────────────────────────────────────────────────────────────────────

INTEGERS = [-(2**63), -1, 0, 1, 2, 3, 2**31 - 1, 2**31, 2**63 - 1, 2**64]
NUMBERS = [math.nan, math.inf, -math.inf, 1e308, -1.0, 0.0, 0.5, 5e-324]
WRONG_TYPES = [None, True, "x", "same_upper", b"1", (), [], (1, 2), [2, 2, 2], ((0, 1),), {}, object(), 1j, np.int64(2)]
WRONG_TYPES += [
    np.float32(2),
    np.array(2),
    np.array([1, 2]),
    np.array([]),
    {1},
    range(3),
    lambda: 2,
    (None,),
    ("1", "2"),
]
VALUES = [*INTEGERS, *NUMBERS, *WRONG_TYPES]


@pytest.mark.parametrize("op", operators())
def test_every_setting_with_every_odd_value(op):
    for case in (op.cases[0], op.cases[-1]):
        arrays = case.sample(case.ranks[0])
        for name in op.settings:
            for value in VALUES:
                refused_or_right(op, arrays, {**case.settings, name: value})


@pytest.mark.parametrize("op", mostly_long(operators(where=lambda op: op.settings), 3))
def test_several_odd_settings_at_once(op):
    case = op.cases[0]
    samples = {rank: case.sample(rank) for rank in case.ranks}
    values = st.sampled_from(VALUES) | st.integers(-3, 9) | st.lists(st.integers(-1, 4), max_size=3).map(tuple)

    @settings(max_examples=25)
    @given(st.sampled_from(case.ranks), st.dictionaries(st.sampled_from(list(op.settings)), values, max_size=4))
    def run(rank, odd):
        refused_or_right(op, samples[rank], {**case.settings, **odd})

    run()


# The weights of a case fit its windows alone: test_blocks.py makes weights for any.
OWN_WINDOWS = ("locally_connected_conv",)


@pytest.mark.parametrize(
    "op", mostly_long(operators(where=lambda op: "kernel_size" in op.settings and op.name not in OWN_WINDOWS), 3)
)
def test_small_windows_everywhere(op):
    """Windows around and beyond the image's extents: they run with gradients of the right shape, or say why not."""
    case = op.cases[0]
    ran = 0

    @settings(max_examples=150)
    @given(
        st.integers(0, 5),
        st.integers(1, 4),
        st.integers(1, 4),
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(1, 3),
        st.booleans(),
    )
    def run(extent, kernel, stride, low, high, dilation, ceil_mode):
        nonlocal ran
        known = {
            "kernel_size": kernel,
            "stride": stride,
            "padding": ((low, high),),
            "dilation": dilation,
            "ceil_mode": ceil_mode,
        }
        x = np.random.default_rng(0).uniform(0.1, 1, (1, case.channels, extent))
        chosen = {k: v for k, v in known.items() if k in op.settings}
        follows = (
            {"settings": chosen} if case.arrays and "settings" in inspect.signature(case.arrays).parameters else {}
        )
        rest = case.sample(1)[1:] if case.arrays is None else case.arrays(np.random.default_rng(0), x, **follows)
        ran += refused_or_right(op, (x, *rest), {**case.settings, **chosen})

    run()
    assert ran > 10


@pytest.mark.parametrize("op", operators())
def test_unknown_settings_are_named_with_a_suggestion(op):
    case = op.cases[0]
    arrays = case.sample(case.ranks[0])
    with pytest.raises(SettingError, match="unknown setting 'no_such_setting'"):
        op(*arrays, **{**case.settings, "no_such_setting": 1})
    for name in list(op.settings)[:1]:
        with pytest.raises(SettingError, match=f"did you mean '{name}'"):
            op(*arrays, **{**case.settings, name + "z": 1})


@pytest.mark.parametrize("op", operators(where=lambda op: not op.variadic))
def test_too_many_arguments(op):
    case = op.cases[0]
    arrays = case.sample(case.ranks[0])
    rest = [None] * (len(op.arrays) - len(arrays))
    with pytest.raises(CnnError):
        op(*arrays, *rest, *[1] * (len(op.settings) + 1))
    with pytest.raises(CnnError, match=r"missing|is None"):
        op()


# ── Arrays ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

ODD_ARRAYS = [
    None,
    3,
    "array",
    object(),
    [],
    [[1, 2], [3]],
    np.float64(1),
    np.array(1.0),
    np.zeros(0),
    np.zeros((0, 0, 0)),
    np.zeros((2, 0, 3)),
    np.zeros((2, 3, 0)),
    np.zeros((1,) * 6),
    np.zeros((1,) * 20),
    np.zeros((2, 3, 4), np.float16),
    np.zeros((2, 3, 4), np.int32),
    np.zeros((2, 3, 4), bool),
    np.zeros((2, 3, 4), complex),
    np.zeros((2, 3, 4), object),
    np.zeros((2, 3, 4), "U3"),
    np.zeros((2, 3, 4), "datetime64[s]"),
    np.zeros((2, 3, 4), [("a", "f4")]),
    np.zeros((2, 3, 4), np.longdouble),
    np.ma.masked_array(np.zeros((2, 3, 4)), mask=True),
]


@pytest.mark.parametrize("op", operators())
def test_odd_arrays_in_every_place(op):
    case = op.cases[0]
    for rank in case.ranks:
        arrays = case.sample(rank)
        for i in range(len(arrays)):
            for odd in ODD_ARRAYS:
                refused_or_right(op, (*arrays[:i], odd, *arrays[i + 1 :]), case.settings)


@pytest.mark.parametrize(("op", "case"), cases())
def test_every_array_one_longer_and_one_shorter(op, case):
    """Along every axis of every array, also with an axis more or fewer."""
    for rank in case.ranks:
        arrays = case.sample(rank)
        for i, array in enumerate(arrays):
            if array is None:
                continue
            others = [np.concatenate([array, array.take([0], axis)], axis) for axis in range(array.ndim)]
            others += [array.take(range(array.shape[axis] - 1), axis) for axis in range(array.ndim)]
            others += [array[None], array[..., None], array[0] if array.ndim else array]
            for other in others:
                refused_or_right(op, (*arrays[:i], other, *arrays[i + 1 :]), case.settings)


@pytest.mark.parametrize("op", operators(where=lambda op: len(op.arrays) > 1 or op.variadic))
def test_precisions_are_not_mixed(op):
    case = op.cases[0]
    arrays = case.sample(case.ranks[0])
    for i, array in enumerate(arrays):
        floats = [a for a in arrays if a is not None and a.dtype.kind == "f"]
        if array is not None and array.dtype.kind == "f" and len(floats) > 1:
            with pytest.raises(DtypeError, match="never mixed"):
                op(*arrays[:i], array.astype(np.float32), *arrays[i + 1 :], **case.settings)


TAKEN = {"index": ("iu", "integers"), "mask": ("b", "booleans"), "any": ("iub", "float32 or float64")}


@pytest.mark.parametrize("op", operators())
@pytest.mark.parametrize("dtype", [np.float16, np.int64, bool, complex, object, np.longdouble])
def test_other_dtypes_are_refused_with_the_way_out(op, dtype):
    case = op.cases[0]
    arrays = case.sample(case.ranks[0])
    kinds, expected = TAKEN.get(op.arrays[0].role, ("", "float32 or float64"))
    if np.dtype(dtype).kind in kinds:
        op(arrays[0].astype(dtype), *arrays[1:], **case.settings)
        return
    if kinds == "iub" and dtype is object:  # of integers and names alike: the way out is to number the names
        expected = f"integers, {expected}: number the names"
    with pytest.raises(DtypeError, match=rf"{op.name}: {re.escape(op.arrays[0].name)}.*expected {expected}"):
        op(arrays[0].astype(dtype), *arrays[1:], **case.settings)


@pytest.mark.long
@pytest.mark.parametrize("op", operators(lambda op: op.name != "arange_like"))  # which is as long as one axis
def test_arrays_too_large_for_any_machine(op):
    """Stride 0 makes an array of any extents from one number; results of such extents are refused before any work."""
    case = op.cases[0]
    for rank in case.ranks:
        arrays = case.sample(rank)
        for extents in (
            (2**20,) * arrays[0].ndim,
            (2, 2**31, *[2**16] * rank),
            (1, arrays[0].shape[1], *[2**24] * rank),
        ):
            if len(extents) != arrays[0].ndim or math.prod(extents) < 2**36:
                continue
            try:
                huge = np.broadcast_to(np.float64(0.5), extents)
            except ValueError:  # too large for numpy itself
                continue
            with memory_limit(), pytest.raises((CnnError, MemoryError)):
                op(huge, *arrays[1:], **case.settings)


# ── dy ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("op", "case"), cases(where=lambda op: op.yields == "real"))
def test_dy_must_fit_what_forward_returned(op, case):
    for rank in case.ranks:
        arrays = case.sample(rank)
        y, backward = op.with_backward(*arrays, **case.settings)
        y = np.asarray(first(y))
        expected = as_list(backward(np.ones_like(y)))
        wrong = [np.ones((*y.shape, 1)), np.ones((1, *y.shape)), None, "dy", [], object(), np.ones(0)]
        for axis in range(y.ndim):
            longer, shorter = list(y.shape), list(y.shape)
            longer[axis] += 1
            shorter[axis] -= 1
            wrong += [np.ones(longer), np.ones(shorter)]
        if y.T.shape != y.shape:
            wrong.append(np.ones_like(y).T)
        if y.ndim:
            wrong += [np.float64(1), np.ones(y.shape[1:])]
        other = np.float32 if y.dtype != np.float32 else np.float64
        wrong += [np.ones(y.shape, d) for d in (other, np.float16, np.int64, bool, complex, object, "U1")]
        for dy in wrong:
            if y.shape == () and np.shape(dy) == () and isinstance(dy, (int, float)):
                continue
            with pytest.raises(CnnError):
                backward(dy)
        # A dy of stride 0 is an ordinary one, and backward still works after all that was refused.
        for a, b in zip(as_list(backward(np.broadcast_to(y.dtype.type(1), y.shape))), expected, strict=True):
            # Against dy, not the gradient alone: a constant dy leaves nothing of a normalisation's but rounding.
            assert np.allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(b).max(initial=1))


# ── Positions that come from data ──────────────────────────────────────────────────────────────────────────────────────


def index_arguments(op):
    return any(a.role == "index" or (a.role == "either" and not a.optional) for a in op.arrays)


# Whose integers need not name a place.
ANY_INTEGER = {"one_hot"}


@pytest.mark.parametrize("op", operators(where=lambda op: index_arguments(op) and op.name not in ANY_INTEGER))
def test_indices_out_of_range(op):
    """An index that comes from an array is checked before it is used as an address."""
    checked = 0
    for case in op.cases:
        for rank in case.ranks:
            arrays = case.sample(rank)
            for i, array in enumerate(arrays):
                if array is None or array.dtype.kind not in "iu" or not array.size:
                    continue
                for value in (-(2**63), -(2**31), -(10**6), 10**6, 2**31, 2**62, 2**63 - 1):
                    odd = np.array(array, np.int64)
                    odd.flat[odd.size // 2] = value
                    with pytest.raises((ShapeError, DataError, SettingError)):
                        both_passes(op, (*arrays[:i], odd, *arrays[i + 1 :]), case.settings)
                    checked += 1
                for dtype in (float, bool, complex):
                    refused_or_right(op, (*arrays[:i], array.astype(dtype), *arrays[i + 1 :]), case.settings)
    # The state of a random operator is optional, and no case passes one: test_state_out_of_range does.
    assert checked or "state" in {a.name for a in op.arrays}, "no case of this operator passes indices"


def test_state_out_of_range():
    """Positions that a random pooling has drawn, handed back changed."""
    op = cnncore.stochastic_pool
    x = np.random.default_rng(0).uniform(0.1, 1, (1, 2, 6))
    drawing = {"kernel_size": 2, "training": True, "return_state": True}
    _, state = op(x, **drawing)
    for value in (-(2**63), -1, 6, 2**31, 2**63 - 1):
        odd = state.copy()
        odd.flat[1] = value
        with pytest.raises(CnnError):
            op(x, odd, kernel_size=2, training=True)


# ── Masked arrays ──────────────────────────────────────────────────────────────────────────────────────────────────────


def masked(array):
    made = np.ma.array(array)
    made[(0,) * made.ndim] = np.ma.masked
    return made


@pytest.mark.parametrize("op", cnncore.OPS.values(), ids=lambda op: op.name)
def test_masked_elements_are_refused_in_every_array(op):
    """The mask would be dropped, and what lies under it computed with; an array without masked elements is like any other."""
    case = op.cases[0]
    arrays = case.sample(min(case.ranks), np.float64)
    for place, array in enumerate(arrays):
        if array is None or not np.size(array):
            continue
        wrong = [*arrays[:place], masked(array), *arrays[place + 1 :]]
        with pytest.raises(DtypeError, match=r"1 of \d+ elements of \w+ are masked.*\.filled\(value\)"):
            op(*wrong, **case.settings)
        right = [*arrays[:place], np.ma.array(array), *arrays[place + 1 :]]
        first, second = op(*right, **case.settings), op(*arrays, **case.settings)
        assert np.array_equal(first[0] if isinstance(first, tuple) else first, second[0] if isinstance(second, tuple) else second,
                              equal_nan=(second[0] if isinstance(second, tuple) else second).dtype.kind == "f")  # fmt: skip


def test_masked_elements_are_refused_wherever_arrays_come_in():
    from cnncore.train import Trainer
    from cnncore.train.data import Dataset
    from cnncore.vision import explain, images

    g = cnncore.Graph()
    g.output(g.linear(g.global_avg_pool(g.input(1)), 2))
    net, x, y = g.build(dtype="float64"), np.zeros((2, 1, 3, 3)), np.arange(2)
    pixels = np.zeros((3, 3), np.uint8)
    for call in (
        lambda: net(masked(x)),
        lambda: net.with_backward(x)[1](masked(net(x))),
        lambda: net.parameters.update({"linear.b": masked(np.zeros(2))}),
        lambda: Trainer(net).fit(masked(x), y, epochs=1),
        lambda: Trainer(net).fit(x, masked(y), epochs=1),
        lambda: Trainer(net).step(x, masked(y)),
        lambda: Dataset([masked(pixels), pixels], [0, 1], ["a", "b"]),
        lambda: Dataset(np.stack([pixels] * 2), masked(y), ["a", "b"]),
        lambda: images.resize(masked(pixels), 2),
        lambda: images.write_png(None, masked(pixels)),
        lambda: images.overlay(pixels, masked(np.zeros((3, 3)))),
        lambda: images.colormap(masked(np.zeros(3))),
        lambda: explain.class_activation_map(net, masked(x)),
    ):
        with pytest.raises(DtypeError, match="masked"):
            call()
