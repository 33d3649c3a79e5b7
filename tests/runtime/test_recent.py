"""Calls that are bound the short way, as calls like them were before, are those that the long way makes."""

import dataclasses
import random
import threading
import zlib

import numpy as np
import pytest
from support.cases import as_list, first, operators

import cnncore
from cnncore.errors import CnnError, DtypeError, SettingError, ShapeError
from cnncore.runtime.recent import is_ready, setting_key


def fresh(op):
    """The same operator without memory."""
    return dataclasses.replace(op)


def taken_short(op, *arguments, **settings):
    return op._recent.find(arguments, settings) is not None


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 4, 6, 6)).astype(np.float32)


def test_the_second_call_is_bound_the_short_way(x):
    op = fresh(cnncore.max_pool)
    assert not taken_short(op, x, kernel_size=2)
    first = op(x, kernel_size=2)
    assert taken_short(op, x, kernel_size=2)
    assert taken_short(op, x + 1, kernel_size=2), "other numbers in an array of the same shape and type"
    assert taken_short(op, x[..., ::-1], kernel_size=2), "other strides"
    assert np.array_equal(op(x, kernel_size=2), first)
    op(x, 2, stride=1)
    assert taken_short(op, x, 2, stride=1), "settings by position"


@pytest.mark.parametrize(
    "changed",
    [
        lambda x: x.astype(np.float64),
        lambda x: x[0],
        lambda x: x[:1],
        lambda x: x.reshape(2, 4, 36),
        lambda x: x.astype(x.dtype.newbyteorder("S")),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
        lambda x: x.astype(np.int32),
        lambda x: x.astype("S0"),
        lambda x: x.astype("datetime64[s]"),
        lambda x: x.astype(object),
        lambda x: np.ma.masked_array(x),
        lambda x: x.tolist(),
        lambda x: None,
        lambda x: ...,
    ],
)
def test_other_arrays_are_checked(x, changed):
    op = fresh(cnncore.avg_pool)
    op(x, 2)
    other = changed(x)
    assert not taken_short(op, other, 2)

    def outcome(op):
        try:
            y = op(other, 2)
        except CnnError as error:
            return str(error)
        return y.dtype, y.shape, y.tobytes()

    assert outcome(op) == outcome(fresh(cnncore.avg_pool))


def test_settings_that_look_alike_are_told_apart(x):
    op = fresh(cnncore.max_pool)
    op(x, kernel_size=2, ceil_mode=False)
    with pytest.raises(SettingError):
        op(x, kernel_size=2, ceil_mode=0)
    with pytest.raises(SettingError):
        op(x, kernel_size=2.0, ceil_mode=False)
    with pytest.raises(SettingError):
        op(x, kernel_size=2, ceil=False)
    assert not taken_short(op, x, kernel_size=2)
    assert not taken_short(op, x, ceil_mode=False, kernel_size=3)


def test_settings_that_may_change_are_read_every_time(x):
    op = fresh(cnncore.max_pool)
    size = [2, 2]
    assert op(x, kernel_size=size).shape == (2, 4, 3, 3)
    size[:] = 3, 3
    assert op(x, kernel_size=size).shape == (2, 4, 2, 2)
    assert not taken_short(op, x, kernel_size=size)


def test_an_array_whose_shape_was_changed(x):
    op = fresh(cnncore.relu)
    op(x)
    x.resize((2, 4, 3, 6), refcheck=False)
    assert op(x).shape == (2, 4, 3, 6)


def test_optional_and_several_arrays(x):
    op = fresh(cnncore.conv)
    w, b = np.ones((3, 4, 1, 1), np.float32), np.ones(3, np.float32)
    assert np.array_equal(op(x, w), op(x, w, None))
    with_bias = op(x, w, b)
    assert taken_short(op, x, w) and taken_short(op, x, w, None) and taken_short(op, x, w, b)
    assert np.allclose(with_bias, op(x, w) + 1)
    assert len(op.with_backward(x, w)[1](with_bias)) == 2
    assert len(op.with_backward(x, w, b)[1](with_bias)) == 3
    with pytest.raises(DtypeError):
        op(x, w, b.astype(np.float64))
    join = fresh(cnncore.concat)
    assert join(x, x).shape == (2, 8, 6, 6)
    assert join(x, x, x).shape == (2, 12, 6, 6)
    assert join([x, x]).shape == (2, 8, 6, 6)
    assert taken_short(join, x, x, x) and not taken_short(join, [x, x])
    assert join(*[x] * 20).shape == (2, 80, 6, 6)


def test_positions_that_are_not_contiguous_are_copied(x):
    op = fresh(cnncore.softmax_cross_entropy)
    logits = x[:, :, 0, 0]
    target = np.array([1, 9, 2, 9])
    expected = op(logits, np.array([1, 2]))
    assert op(logits, np.array([1, 2])) == expected
    assert op(logits, target[::2]) == expected


def test_few_calls_are_remembered(x):
    op = fresh(cnncore.relu)
    for n in range(1, 40):
        op(np.ones(n, np.float32))
    assert taken_short(op, np.ones(39, np.float32)) and not taken_short(op, np.ones(1, np.float32))


def test_dy_is_checked(x):
    y, backward = cnncore.relu.with_backward(x)
    assert is_ready(y, y.shape, y.dtype) and is_ready(y[..., ::-1], y.shape, y.dtype)
    for other in (y.astype(np.float64), y[0], y[..., :3], y.astype(">f4"), y.tolist(), None):
        assert not is_ready(other, y.shape, y.dtype)
    with pytest.raises(ShapeError):
        backward(y[..., :3])
    with pytest.raises(DtypeError):
        backward(y.astype(np.float64))
    assert np.array_equal(backward(y.astype(">f4")), backward(y))


def test_threads_share_the_memory(x):
    op = fresh(cnncore.max_pool)
    wrong = []

    def calls(first):
        for n in range(300):
            size = 1 + (first + n) % 12
            if op(x[:, :, :6, :6], kernel_size=1, stride=size).shape[2] != -(-6 // size):
                wrong.append(size)

    callers = [threading.Thread(target=calls, args=(i,)) for i in range(4)]
    for t in callers:
        t.start()
    for t in callers:
        t.join()
    assert not wrong


# ── Every operator: what is remembered answers as an operator without memory ─────────────────────────────────────────────


def spellings(value):
    """The value of a setting in other types and containers, some of which are refused, and neighbours of it."""
    if isinstance(value, bool):
        return [value, not value, int(value), float(value), np.bool_(value), np.array(value)]
    if isinstance(value, int):
        others = [value, value + 1, float(value), np.int64(value), np.int32(value), np.float64(value), np.array(value)]
        others += [np.array(value + 1), np.array(float(value)), bool(value), (value,), [value], np.array([value])]
        return [*others, (value,) * 2, (float(value),) * 2, (True, value), [value, value], np.array([value, value + 1])]
    if isinstance(value, float):
        others = [value, -value, value / 2, np.float32(value), np.float64(value), np.array(value), np.array(value / 2)]
        return [*others, bool(value), 0.0, -0.0, 0, False, 1, True]
    if isinstance(value, (tuple, list)) and value:
        others = [tuple(value), list(value), value[:1]]
        if all(isinstance(v, (int, float)) for v in value):
            others += [np.array(value), np.array(value) + 1, tuple(map(float, value)), tuple(map(bool, value))]
            others += [tuple(v + 1 for v in value), [v + 1 for v in value], tuple(np.array(value))]
        return others
    return [value, None, 0, ""]


def random_call(op, choice):
    """(arguments, settings): those of a case, some settings spelled in another way, some of them by position."""
    case = choice.choice(op.cases)
    arrays = case.sample(choice.choice(case.ranks), choice.choice((np.float32, np.float64)), seed=choice.randrange(3))
    if choice.random() < 0.2:
        arrays = tuple(a if a is None or not a.ndim else a[..., ::-1] for a in arrays)
    settings = {name: case.settings.get(name, op.settings[name]) for name in op.settings}
    settings = {n: v for n, v in settings.items() if n in case.settings or choice.random() < 0.3}
    for name in list(settings):
        if choice.random() < 0.4:
            settings[name] = choice.choice(spellings(settings[name]))
    arguments = list(arrays)
    if not op.variadic and choice.random() < 0.5:
        arguments += [None] * (len(op.arrays) - len(arrays))
        for name in op.settings:
            if name not in settings:
                break
            arguments.append(settings.pop(name))
    return tuple(arguments), settings


def outcome(op, arguments, settings):
    """What a call returns, bit by bit, or what it is refused with."""
    try:
        y, backward = op.with_backward(*arguments, **settings)
        results = list(y) if isinstance(y, tuple) else [y]
        if op.yields == "real":
            results += as_list(backward(np.ones_like(np.asarray(first(y)))))
    except CnnError as error:
        return type(error).__name__, str(error)
    return [(np.asarray(a).dtype, np.shape(a), np.asarray(a).tobytes()) for a in results]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("op", operators())
def test_a_remembered_call_is_a_fresh_call(op):
    """Over a random sequence of calls, of which many look like calls before them."""
    choice = random.Random(zlib.crc32(op.name.encode()))
    remembering, made = fresh(op), []
    for _ in range(60):
        if made and choice.random() < 0.5:
            arguments, settings = choice.choice(made)
            for value in (*arguments[len(op.arrays) :], *settings.values()):  # mutable settings say something else
                if isinstance(value, np.ndarray) and value.dtype.kind in "if" and choice.random() < 0.5:
                    value += 1
                elif isinstance(value, list) and value and isinstance(value[0], int) and choice.random() < 0.5:
                    value[0] += 1
        else:
            arguments, settings = random_call(op, choice)
            made.append((arguments, settings))
        expected = outcome(fresh(op), arguments, settings)
        assert outcome(remembering, arguments, settings) == expected, (settings, arguments[len(op.arrays) :])


def sequences_of(case):
    """The settings of a case that are sequences of integers."""
    found = {n: v for n, v in case.settings.items() if isinstance(v, (tuple, list)) and v}
    return {n: v for n, v in found.items() if all(isinstance(i, int) for i in v)}


@pytest.mark.parametrize("op", operators(lambda op: any(map(sequences_of, op.cases))))
def test_a_setting_changed_between_forward_and_backward_changes_nothing(op):
    """Lists and arrays that hold settings are read when the call is made."""
    tried = 0
    for case in op.cases:
        sequences = sequences_of(case)
        if not sequences:
            continue
        arrays = case.sample(case.ranks[0])
        expected = outcome(fresh(op), arrays, case.settings)
        for make in (list, np.array):
            given = {n: make(v) for n, v in sequences.items()}
            try:
                y, backward = op.with_backward(*arrays, **{**case.settings, **given})
            except CnnError:  # arrays are not taken everywhere
                continue
            tried += 1
            for value in given.values():
                value[0] += 1
            if op.yields == "real":
                found = as_list(backward(np.ones_like(np.asarray(first(y)))))
                assert [a.tobytes() for a in found] == [bits for _, _, bits in expected[-len(found) :]]
    assert tried


def test_keys_tell_settings_apart():
    different = [
        None,
        0,
        False,
        0.0,
        -0.0,
        "0",
        1,
        True,
        1.0,
        np.float64(1),
        np.int64(1),
        np.bool_(True),
        (1,),
        [1],
        (),
    ]
    different += [(1, 1), (True, 1), (1.0, 1), ((1, 1),), (1, (1,)), [(1, 1)]]
    keys = [setting_key(value) for value in different]
    assert len(set(keys)) == len(different) and None not in keys
    endless = []
    endless.append(endless)
    for value in (np.array(1), object(), {}, np.void(b"0"), (np.zeros(1),), endless, np.ma.masked):
        assert setting_key(value) is None
