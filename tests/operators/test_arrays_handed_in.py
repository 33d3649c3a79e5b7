"""Arrays that callers hand in to be written, or change while a backward pass still reads them, for every operator.

``out=``, ``gradients=`` and the arrays of an optimizer pass the same checks as inputs: results are right and nothing beside the
array is written, or the call is refused.
"""

import itertools

import numpy as np
import pytest
from support.cases import as_list, first, operators

import cnncore
from cnncore.errors import ArrayChangedError, CnnError
from cnncore.io.onnx_export.export import alone
from cnncore.runtime.fingerprint import Fingerprints, layout_problem, memory_of
from cnncore.train import SGD, Adam, AdamW, Trainer, update

MARK = 0x5A


# ── Hostile arrays ─────────────────────────────────────────────────────────────────────────────────────────────────────


def in_bytes(shape, dtype, strides, before=64, after=64):
    """(array with these strides in bytes, the marked bytes that hold it, those of them that are its own)."""
    itemsize = np.dtype(dtype).itemsize
    low = sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s < 0) if 0 not in shape else 0
    high = sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s > 0) if 0 not in shape else 0
    raw = np.full(before - low + high + itemsize + after, MARK, np.uint8)
    start = before - low
    start += -(raw.ctypes.data + start) % 16
    raw = np.concatenate([raw, np.full(16, MARK, np.uint8)]) if start + high + itemsize > raw.size else raw
    array = np.ndarray(shape, dtype, raw, start, strides)
    own = np.zeros(raw.size, bool)
    for place in itertools.product(*map(range, shape)):
        at = start + sum(i * s for i, s in zip(place, strides, strict=True))
        own[at : at + itemsize] = True
    return array, raw, own


def dense(shape, step):
    """C-order strides of elements that lie ``step`` bytes apart."""
    strides = []
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def hostile(shape, dtype):
    """Name → (array, its bytes or None, which are its own) like an array of this shape and dtype, but not quite."""
    size = np.dtype(dtype).itemsize
    strides = dense(shape, size)
    found = {
        "fields of a record": in_bytes(shape, dtype, dense(shape, size + 1)),
        "fields of an aligned record": in_bytes(shape, dtype, dense(shape, 2 * size)),
        "backwards": in_bytes(shape, dtype, tuple(-s for s in strides)),
        "backwards by odd steps": in_bytes(shape, dtype, tuple(-s for s in dense(shape, size + 3))),
        "stride 0": in_bytes(shape, dtype, (0,) * len(shape)),
        "overlapping windows": in_bytes(shape, dtype, (size,) * len(shape)),
    }
    raw = np.full(max(int(np.prod(shape)), 1) * size + 65, MARK, np.uint8)
    start = -raw.ctypes.data % 16 + 1
    misaligned = np.ndarray(shape, dtype, raw, start)
    own = np.zeros(raw.size, bool)
    own[start : start + misaligned.nbytes] = True
    found["misaligned"] = (misaligned, raw, own)
    read_only = np.zeros(shape, dtype)
    read_only.flags.writeable = False
    plain = {
        "read-only": read_only,
        "one axis more": np.zeros((*shape, 1), dtype),
        "longer": np.zeros((*shape[:-1], shape[-1] + 1) if shape else (1,), dtype),
        "too small": np.zeros((0,), dtype),
        "other byte order": np.zeros(shape, np.dtype(dtype).newbyteorder("S")) if size > 1 else None,
        "masked": np.ma.masked_array(np.zeros(shape, dtype), mask=True),
        "a list": np.zeros(shape, dtype).tolist(),
        "a number": 1.0,
        "records": np.zeros(shape, [("v", dtype), ("flag", "u1")]),
    }
    for other in ("f2", "f4", "f8", "g", "i4", "i8", "u8", "?", "c8", "O", "S4", "M8[s]"):
        if np.dtype(other) != np.dtype(dtype):
            plain[f"dtype {other}"] = np.zeros(shape, other)
    return found | {name: (array, None, None) for name, array in plain.items() if array is not None}


def refused_or_right(write, array, raw, own, expected, limit):
    """Whether ``write`` has written ``expected``, and into the array alone; False if it was refused, with nothing written."""
    before = None if raw is None else raw.copy()
    try:
        write(array)
    except CnnError:
        assert raw is None or np.array_equal(raw, before), "refused, but written"
        return False
    if raw is not None:
        assert np.array_equal(raw[~own], before[~own]), "written beside the array"
    scale = np.abs(expected).max(initial=0) if expected.dtype.kind == "f" else 0
    np.testing.assert_allclose(array, expected, rtol=limit, atol=limit * scale)
    return True


def is_good(array, own):
    """Whether every element has a place of its own, aligned, at whole steps from the others."""
    if own is None or array.dtype.names or not array.flags.writeable:
        return False
    whole = array.size < 2 or all(
        s % array.itemsize == 0 for s, n in zip(array.strides, array.shape, strict=True) if n > 1
    )
    return bool(whole and array.ctypes.data % array.itemsize == 0 and own.sum() == array.nbytes)


@pytest.mark.parametrize("op", operators())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hostile_out(op, dtype):
    case = op.cases[0]
    for rank in case.ranks:
        arrays = case.sample(rank, dtype)
        expected = np.asarray(first(op(*arrays, **case.settings)))
        for name, (array, raw, own) in hostile(expected.shape, expected.dtype).items():

            def write(out, arrays=arrays):
                op(*arrays, out=out, **case.settings)

            right = refused_or_right(write, array, raw, own, expected, 1e-4 if dtype == np.float32 else 1e-10)
            assert right == is_good(array, own), name


@pytest.mark.parametrize("op", operators())
def test_out_over_an_input(op):
    """An array that shares memory with an input, wholly or in part, is refused, and the input stays as it is."""
    case = op.cases[0]
    arrays = case.sample(case.ranks[0])
    y = np.asarray(first(op(*arrays, **case.settings)))
    for i, given in enumerate(arrays):
        if given is None or not given.size or not y.size:
            continue
        for start in (0, given.nbytes // 2 // 8 * 8):
            raw = np.zeros(given.nbytes + y.nbytes + 64, np.uint8)
            copy = np.ndarray(given.shape, given.dtype, raw)
            copy[...] = given
            out = np.ndarray(y.shape, y.dtype, raw, start)
            before = raw.copy()
            with pytest.raises(CnnError, match="out overlaps"):
                op(*arrays[:i], copy, *arrays[i + 1 :], out=out, **case.settings)
            assert np.array_equal(raw, before)


def nets_of_one_node():
    """Every operator that owns parameters, alone in a net."""
    for op in cnncore.OPS.values():
        case = op.cases[0]
        arrays = case.sample(case.ranks[0], np.float32)
        settings = {k: v for k, v in case.settings.items() if not k.startswith("return_")}
        net = alone(op, arrays, settings, "known") if op.layer.parameters and op.yields == "real" else None
        if net is not None and len(net.parameters) and not op.implementation.inference_only:
            own = {p.name for p in op.layer.parameters}
            rows = op.rows(len(arrays))
            xs = [a for row, a in zip(rows, arrays, strict=False) if a is not None and row.name not in own]
            yield pytest.param(net, xs, id=op.name)


@pytest.mark.parametrize(("net", "xs"), list(nets_of_one_node()))
def test_hostile_gradients(net, xs):
    y, backward = net.with_backward(*xs, training=True, step=0)
    backward(np.ones_like(y))
    for name, expected in backward.gradients.items():
        for kind, (array, raw, own) in hostile(expected.shape, expected.dtype).items():

            def write(array, name=name, y=y):
                net.with_backward(*xs, training=True, step=0)[1](np.ones_like(y), gradients={name: array})

            right = refused_or_right(write, array, raw, own, expected, 1e-4)
            assert right == is_good(array, own), (name, kind)
        for shared in (net.parameters[name], net.parameters[name][...]):
            before = shared.copy()
            with pytest.raises(CnnError, match="share memory"):
                backward(np.ones_like(y), gradients={name: shared})
            assert np.array_equal(shared, before)


def test_gradients_that_share_memory():
    g = cnncore.Graph()
    g.output(g.conv(g.conv(g.input(2), 2, kernel_size=1), 2, kernel_size=1))
    net = g.build(seed=0)
    y, backward = net.with_backward(np.ones((1, 2, 3, 3), np.float32))
    backward(np.ones_like(y))
    right = dict(backward.gradients)
    raw = np.zeros(16, np.float32)
    one, other = (np.ndarray((2, 2, 1, 1), np.float32, raw, 8 * i) for i in (0, 1))
    with pytest.raises(CnnError, match="share memory"):
        backward(np.ones_like(y), gradients={"conv.w": one, "conv_2.w": other})
    for wrong in ([], "conv.w", (("conv.w", one),)):
        with pytest.raises(CnnError, match="expected a dict"):
            backward(np.ones_like(y), gradients=wrong)
    columns = np.zeros((8, 2), np.float32)  # interleaved: each element has its own place
    mine = {
        "conv.w": columns[:, 0].reshape(2, 4)[:, :2].reshape(2, 2, 1, 1),
        "conv_2.w": np.ndarray((2, 2, 1, 1), np.float32, columns, 4, (16, 8, 8, 8)),
    }
    backward(np.ones_like(y), gradients=mine)
    assert all(np.array_equal(mine[name], right[name]) for name in mine)


@pytest.mark.parametrize("make", [lambda: SGD(0.5), lambda: SGD(0.5, momentum=0.9), Adam, AdamW])
def test_hostile_arrays_of_an_optimizer(make):
    start, slope = np.arange(6, dtype=np.float32).reshape(2, 3), np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    right = start.copy()
    make().update({"w": right}, {"w": slope})
    for name, (array, raw, own) in hostile((2, 3), np.float32).items():
        if (
            isinstance(array, np.ndarray)
            and array.flags.writeable
            and array.dtype.kind == "f"
            and array.shape == (2, 3)
        ):
            array[...] = start
        written = refused_or_right(
            lambda w: make().update({"w": w}, {"w": slope}),
            array,
            raw,
            own,
            right.astype(getattr(array, "dtype", "f4")) if name in ("dtype f8", "other byte order") else right,
            1e-6,
        )
        assert written == is_good(array, own) or name == "dtype f8", name  # the parameter's precision is its own
    for name, (array, raw, _) in hostile((2, 3), np.float32).items():
        fits = isinstance(array, np.ndarray) and array.shape == (2, 3) and array.dtype.kind == "f"
        if fits and array.flags.writeable:
            array[...] = slope
        w = start.copy()
        before = None if raw is None else raw.copy()
        try:
            make().update({"w": w}, {"w": array})
        except CnnError:
            assert np.array_equal(w, start), name
            assert raw is None and name not in ("other byte order", "read-only"), name
        else:
            expected = start.copy()
            make().update({"w": expected}, {"w": np.array(array, np.float32)})
            assert np.array_equal(w, expected), name
        assert raw is None or np.array_equal(raw, before)


def test_an_optimizer_changes_all_or_nothing():
    w, b = np.ones(3), np.ones(2)
    sgd = SGD(0.5, momentum=0.9)
    for gradients in ({"w": np.ones(3), "b": np.ones(3)}, {"w": np.ones(3), "c": np.ones(3)}):
        with pytest.raises(CnnError):
            sgd.update({"w": w, "b": b}, gradients)
        assert w.tolist() == [1] * 3 and not sgd.steps and not sgd.state
    with pytest.raises(CnnError, match="rate"):
        sgd.update({"w": w}, {"w": np.ones(3)}, rate=np.nan)
    sgd.update({"w": w}, {"w": w})  # its own gradient: as a copy of it
    assert w.tolist() == [0.5] * 3
    with pytest.raises(CnnError, match="velocity of 'w'"):
        sgd.update({"w": np.ones(4)}, {"w": np.ones(4)})


def test_no_kernel_is_looked_up_for_other_element_types():
    """The last line of defence: what has passed no check raises an error instead of indexing a table by −1."""
    for dtype in (np.int32, np.float16, ">f4", np.int64):
        with pytest.raises(TypeError, match="neither float32 nor float64"):
            update.sgd(np.ones(3, dtype), np.ones(3, np.float32), None, 1.0, 0.0, 0.0, False)
    with pytest.raises(ValueError, match="4 byte elements with a stride of 5 bytes"):
        update.sgd(np.zeros(3, [("v", "f4"), ("flag", "u1")])["v"], np.ones(3, np.float32), None, 1.0, 0.0, 0.0, False)


# ── Arrays changed between forward and backward ────────────────────────────────────────────────────────────────────────


def more(a):
    a += 1


def reshaped(a):
    a.shape = (a.size, 1)


def retyped(a):
    a.dtype = np.dtype((np.void, a.itemsize)) if a.dtype.kind not in "biu" else np.uint8


def resized(a):
    a.resize((max(a.size // 2, 1),), refcheck=False)


def last_number(a):
    a.flat[-1] = 10**12 if a.dtype.kind in "iu" else 7


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("op", operators(lambda op: op.yields == "real"))
@pytest.mark.parametrize("change", [more, last_number, reshaped, retyped, resized])
def test_an_array_changed_before_backward_is_named(op, change):
    """Inputs and outputs: backward gives what it would have given, or an error says which array was changed."""
    for case in op.cases:
        arrays = case.sample(case.ranks[0])
        y, backward = op.with_backward(*arrays, **case.settings)
        right = as_list(backward(np.ones_like(first(y))))
        outputs = len(y) if isinstance(y, tuple) else 1
        names = [row.name for row in op.rows(len(arrays))]
        for i in range(len(arrays) + outputs):
            given = [None if a is None else a.copy() for a in arrays]
            if i < len(arrays) and (given[i] is None or not given[i].size):
                continue
            y, backward = op.with_backward(*given, **case.settings)
            dy = np.ones_like(first(y))
            changed = given[i] if i < len(arrays) else y[i - len(arrays)] if outputs > 1 else y
            if changed.dtype == np.bool_ and change is more:
                np.logical_not(changed, out=changed)
            elif changed.size:
                change(changed)
            try:
                found = as_list(backward(dy))
            except ArrayChangedError as error:
                assert (names[i] if i < len(arrays) else ("y", "output")[i > len(arrays)]) in str(error)
                continue
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, right, strict=True))


def small_net(dtype="float64"):
    g = cnncore.Graph()
    h = g.conv(g.conv(g.input(channels=2), 4, kernel_size=3, activation="relu"), 4, kernel_size=3, activation="relu")
    g.output(g.linear(g.batch_norm(g.global_avg_pool(h)), 2))
    return g.build(seed=0).astype(dtype)


def test_a_step_between_forward_and_backward_is_noticed(rng):
    """A backward that reads parameters which have changed in place would be the gradient of no function."""
    net, x, dy = small_net(), rng.standard_normal((2, 2, 8, 8)), np.ones((2, 2))
    _, backward = net.with_backward(x)
    dx = backward(dy)
    right = dict(backward.gradients)
    for name in net.parameters:
        _, backward = net.with_backward(x)
        SGD(0.1).update(net.parameters, {name: np.ones_like(net.parameters[name])})
        if name in ("conv_2.w", "linear.w", "batch_norm.w"):
            with pytest.raises(ArrayChangedError, match=f"{name} was changed in place"):
                backward(dy)
        elif not name.endswith(".w"):
            backward(dy)
        SGD(0.1).update(net.parameters, {name: -np.ones_like(net.parameters[name])})
    net = small_net()
    held = dict(net.parameters)  # arrays that somebody holds, and may be changing
    _, backward = net.with_backward(x)
    assert np.array_equal(backward(dy), dx)
    held["linear.w"][1, 1] += 1e-9
    with pytest.raises(ArrayChangedError, match=r"linear\.w"):
        backward(dy)
    net = small_net()
    _, backward = net.with_backward(x)
    assert net.parameters["conv.w"].shape == (4, 2, 3, 3)  # to look is no change
    net.parameters["conv.w"] = 0 * net.parameters["conv.w"]  # a new array: backward has the old one
    assert np.array_equal(backward(dy), dx)
    assert all(np.array_equal(backward.gradients[name], right[name]) for name in right)


def test_training_is_not_disturbed(rng):
    net = small_net("float32")
    held = net.parameters["conv.w"]
    trainer = Trainer(net, Adam(0.01))
    x, target = rng.standard_normal((8, 2, 8, 8)).astype(np.float32), np.arange(8) % 2
    losses = [trainer.step(x, target) for _ in range(30)]
    assert losses[-1] < losses[0] and held is net.parameters["conv.w"]


def test_class_numbers_given_to_a_net_are_watched(rng):
    g = cnncore.Graph()
    scores, target = g.input(channels=3, size=()), g.input_indices("target")
    g.output(g.softmax_cross_entropy(scores, target))
    net = g.build()
    x, classes = rng.standard_normal((4, 3)).astype(np.float32), np.array([0, 1, 2, 1])
    y, backward = net.with_backward(x, classes)
    backward(np.ones_like(y))
    classes[2] = 10**9
    with pytest.raises(ArrayChangedError, match="input target"):
        backward(np.ones_like(y))


# ── Fingerprints ───────────────────────────────────────────────────────────────────────────────────────────────────────

VIEWS = {
    "whole": lambda a: a,
    "transposed": lambda a: a.T,
    "reversed": lambda a: a[::-1, :, ::-1],
    "every second": lambda a: a[..., ::2],
    "part": lambda a: a[1:, 1:, 1:],
    "moved": lambda a: np.moveaxis(a, 0, 1),
    "repeated": lambda a: np.broadcast_to(a[:, :1], a.shape),
    "one": lambda a: a[:1, :1, :1],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
def test_every_number_of_a_small_array_is_in_its_fingerprint(view, dtype):
    base = (np.arange(60).reshape(3, 4, 5) % 7).astype(dtype)
    array = view(base)
    prints = Fingerprints((None, array))
    assert prints.first_changed() == -1
    where = view(np.arange(60).reshape(3, 4, 5))
    for i in range(60):
        before = base.flat[i]
        base.flat[i] = not before if dtype == np.bool_ else before + 1
        assert prints.changed(1) == (i in where) and not prints.changed(0)
        base.flat[i] = before
    assert prints.first_changed() == -1


def test_large_arrays_are_looked_at_in_parts():
    base = np.zeros((64, 1 << 12), np.float32)
    prints = Fingerprints((base, base.T, base[:, ::2]))
    for start in range(0, base.size, 999):
        part = base.reshape(-1)[start : start + 1024 + 16]  # a page, and a line
        part += 1
        assert (prints.changed(0) and prints.changed(1)) or part.size < 1024
        part -= 1
        assert prints.first_changed() == -1
    base += 1
    assert prints.changed(2)
    places = np.zeros(100_000, np.int64)
    prints = Fingerprints((places,))
    places[12_345] = 1
    assert prints.changed(0), "integers become positions in memory: all of them count"


def test_layouts_that_cannot_be_written():
    a = np.zeros((4, 6), np.float32)
    for good in (
        a,
        a.T,
        a[::2, ::3],
        a[::-1],
        a[:0],
        a[:1],
        np.zeros(()),
        np.lib.stride_tricks.as_strided(a, (1, 6), (0, 4)),
    ):
        assert layout_problem(good) is None
    strided = np.lib.stride_tricks.as_strided
    for bad in (
        strided(a, (2, 6), (0, 4)),
        strided(a, (3, 3), (4, 4)),
        strided(a, (3, 3), (8, 4)),
        strided(a, (2,), (6,)),
    ):
        assert layout_problem(bad) is not None
    low, high = memory_of(a[::-1, ::2])
    assert low == a.ctypes.data and high == low + a.nbytes - 4
    assert len(set(memory_of(a[:0]))) == 1
