"""Graphs, nets and plans: branches and joins against the operators composed by hand, buffers, errors, threads."""

import gc
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from support.gradients import check_gradients

import cnncore
from cnncore.errors import DataError, DtypeError, GraphError, SettingError, ShapeError
from cnncore.nets import initialisers, plan
from cnncore.operators.operator import Implementation, Op
from cnncore.operators.schema import Array, Layer, Parameter, Setting

# ── Operators that only tests know ─────────────────────────────────────────────────────────────────────────────────────


ONE = (Array("x", "input"),)


def toy(name, kind, *, arrays=ONE, settings=(), layer=None):
    text = dict(summary="A toy.", formula="y", gradient="dx", paper="none", group="toys", cases=(), example="")
    return Op(name, kind, arrays=arrays, settings_list=settings, layer=layer or Layer(), **text)


class Beside(Implementation):
    """Its arrays side by side along channels; ``aliased=False`` hides from the plan that it is nothing but that."""

    def __init__(self, aliased=True):
        self.aliased = aliased

    def infer(self, op, shapes, dtype, settings):
        if len({s[2:] for s in shapes}) > 1:
            raise ShapeError(f"{op.name}: the extents of its inputs differ; they must be equal.")
        return (shapes[0][0], sum(s[1] for s in shapes), *shapes[0][2:]), None

    def slices(self, call):
        ends = np.cumsum([0, *(s[1] for s in call.shapes)]).tolist()
        return tuple((slice(None), slice(a, b)) for a, b in pairwise(ends))

    def parts(self, call):
        return self.slices(call) if self.aliased else None

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        for index, x in zip(self.slices(call), arrays, strict=True):
            y[index] = x
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        return tuple(dy[index] for index in self.slices(call))


class Total(Implementation):
    """The sum of its arrays."""

    saves = ()

    def infer(self, op, shapes, dtype, settings):
        if len(set(shapes)) > 1:
            raise ShapeError(f"{op.name}: its inputs differ in shape; they must be equal.")
        return shapes[0], None

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        y[...] = sum(arrays)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        return tuple(dy.copy() for _ in call.shapes)


class Cube(Implementation):
    """x³, which may be written over x when nobody needs x any more; backward reads x."""

    in_place = True
    saves = ("x",)

    def infer(self, op, shapes, dtype, settings):
        return shapes[0], None

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        np.power(arrays[0], 3, out=y)
        return y, (), (arrays[0],)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        return (3 * saved[0] ** 2 * dy,)


class Product(Implementation):
    """The product of two arrays, written over the first; backward writes the first gradient over dy before the second."""

    in_place = True
    saves = ("x", "z")

    def infer(self, op, shapes, dtype, settings):
        return shapes[0], None

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        y[...] = arrays[0] + 1
        y *= arrays[1]
        return y, (), tuple(arrays)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, z = saved
        gradients = []
        for i, factor in enumerate((z, x + 1)):
            gradients.append(call.gradient(i, out and out[i]))
            np.multiply(dy, factor, out=gradients[i])
        return tuple(gradients)


class Noise(Implementation):
    """x plus a number drawn from the seed in training."""

    saves = ()

    def infer(self, op, shapes, dtype, settings):
        return shapes[0], None

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        y[...] = arrays[0] + (call.settings["seed"] if call.settings["training"] else 0)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        return (dy,)


class Counted(Implementation):
    """x · scale, and a state that counts training passes."""

    def infer(self, op, shapes, dtype, settings):
        return shapes[0], None

    def forward(self, call, arrays, out=None):
        x, scale, count = arrays
        y = call.empty(out)
        y[...] = x * scale
        return y, ((count + 1,) if call.settings["training"] else ()), (x, scale)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, scale = saved
        return dy * scale, np.array([(dy * x).sum()]), None


class Fails(Implementation):
    """Raises when it meets a value above 100."""

    error = DtypeError

    def infer(self, op, shapes, dtype, settings):
        return shapes[0], None

    def forward(self, call, arrays, out=None):
        if arrays[0].size and arrays[0].max() > 100:
            raise self.error("fails: met a value above 100")
        y = call.empty(out)
        y[...] = arrays[0]
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        return (dy,)


SEVERAL = (Array("x", "values", variadic=True),)
BESIDE = toy("beside", Beside(), arrays=SEVERAL)
COPIED = toy("copied", Beside(aliased=False), arrays=SEVERAL)
TOTAL = toy("total", Total(), arrays=SEVERAL)
CUBE = toy("cube", Cube())
PRODUCT = toy("product", Product(), arrays=(Array("x", "input"), Array("z", "factor")))
RANDOM = (Setting("training", False, "whether it draws"), Setting("seed", 0, "of the draw"))
NOISE = toy("noise", Noise(), settings=RANDOM)
COUNTED = toy(
    "counted",
    Counted(),
    arrays=(Array("x", "input"), Array("scale", "a number"), Array("count", "passes", differentiable=False)),
    settings=(Setting("training", False, "whether passes count"),),
    layer=Layer(
        parameters=(
            Parameter("scale", lambda shapes, settings: (1,), "start"),
            Parameter("count", lambda shapes, settings: (1,), "zeros", update=0, decay=False),
        ),
        settings=(Setting("start", 2.0, "how scale starts"),),
    ),
)
FAILS = toy("fails", Fails())


def fill(net, seed=1):
    """Parameters without zeros, so that no activation sits on its kink."""
    rng = np.random.default_rng(seed)
    for name, array in net.parameters.items():
        net.parameters[name] = rng.standard_normal(array.shape)
    return net


def inception(g, x, join=BESIDE, name="inception"):
    with g.scope(name):
        one = g.conv(x, 3, 1, activation="relu", name="conv1x1")
        three = g.conv(g.conv(x, 2, 1, activation="tanh"), 4, 3, padding=1, activation="relu", name="conv3x3")
        pool = g.conv(g.max_pool(x, 3, stride=1, padding=1), 2, 1, activation="relu")
        return g.apply(join, one, three, pool, name="join")


def two_modules(join=BESIDE, channels=2):
    g = cnncore.Graph()
    x = g.input(channels)
    h = inception(g, inception(g, x, join, "a"), join, "b")
    g.output(g.conv(h, 3, 1, name="classes"))
    return g


def by_hand(parameters, x):
    """What :func:`two_modules` computes, from lone operators."""

    def module(x, name):
        def conv(x, layer, **settings):
            return cnncore.conv(x, parameters[f"{name}/{layer}.w"], parameters[f"{name}/{layer}.b"], **settings)

        one = cnncore.relu(conv(x, "conv1x1"))
        three = cnncore.relu(conv(cnncore.tanh(conv(x, "conv")), "conv3x3", padding=1))
        pool = cnncore.relu(conv(cnncore.max_pool(x, 3, stride=1, padding=1), "conv_2"))
        return np.concatenate([one, three, pool], axis=1)

    h = module(module(x, "a"), "b")
    return cnncore.conv(h, parameters["classes.w"], parameters["classes.b"])


# ── Values ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("join", [BESIDE, COPIED], ids=["in place", "copied"])
@pytest.mark.parametrize("shape", [(2, 2, 6, 5), (1, 2, 9, 4), (0, 2, 4, 4)])
def test_branches_equal_the_operators_by_hand(join, shape, rng):
    net = fill(two_modules(join).build(dtype="float64"))
    x = rng.standard_normal(shape)
    expected = by_hand(net.parameters, x)
    for _ in range(2):
        assert np.array_equal(net(x), expected)
    y, backward = net.with_backward(x)
    assert np.array_equal(y, expected)
    assert backward(np.ones_like(y)).shape == shape


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_any_rank(rank, rng):
    g = cnncore.Graph()
    x = g.input(2, rank=rank)
    g.output(g.global_avg_pool(g.apply(BESIDE, g.conv(x, 3, 3, padding=1, activation="relu"), x)))
    net = g.build(dtype="float64")
    x = rng.standard_normal((2, 2, *(4 + axis for axis in range(rank))))
    w, b = net.parameters["conv.w"], net.parameters["conv.b"]
    expected = np.concatenate([cnncore.relu(cnncore.conv(x, w, b, padding=1)), x], axis=1)
    assert np.allclose(net(x), expected.mean(axis=tuple(range(2, 2 + rank))), rtol=1e-12, atol=1e-14)
    check_gradients(fill(net), x)


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("join", [BESIDE, COPIED], ids=["in place", "copied"])
def test_gradients_of_branches(join, repeatable, rng):
    check_gradients(
        fill(two_modules(join).build(dtype="float64")), rng.standard_normal((2, 2, 5, 4)), repeatable=repeatable
    )


def tangled(g, join):
    """Values that are used by several nodes, joined twice, joined with themselves, put out and used further."""
    x = g.input(2, name="x")
    z = g.input(2, name="z")
    a = g.conv(x, 3, 1, name="a")
    cubed = g.apply(CUBE, a)  # a is read again below: it must not be overwritten
    both = g.apply(join, a, cubed, name="both")
    twice = g.apply(join, both, a, both, name="twice")  # both lies in here at most once
    late = g.apply(CUBE, a)  # the last reader of a but for backward
    s = g.apply(TOTAL, late, cubed, late)
    t = g.apply(CUBE, g.apply(join, z, g.apply(CUBE, z)))  # a join, overwritten as a whole
    g.output(g.conv(twice, 2, 3, padding=1, activation="sigmoid"), both, s, g.apply(join, t, g.apply(CUBE, both)))
    return x, z


@pytest.mark.parametrize("join", [BESIDE, COPIED], ids=["in place", "copied"])
def test_values_with_many_readers(join, rng):
    g = cnncore.Graph()
    tangled(g, join)
    net = fill(g.build(dtype="float64"))
    x, z = rng.standard_normal((2, 2, 2, 4, 3))
    p = net.parameters
    a = cnncore.conv(x, p["a.w"], p["a.b"])
    both = np.concatenate([a, a**3], 1)
    twice = np.concatenate([both, a, both], 1)
    expected = (
        cnncore.sigmoid(cnncore.conv(twice, p["conv.w"], p["conv.b"], padding=1)),
        both,
        2 * a**3 + a**3,
        np.concatenate([np.concatenate([z, z**3], 1) ** 3, both**3], 1),
    )
    for got, want in zip(net(x, z), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    check_gradients(net, x, z)


def test_an_operator_of_two_arrays_that_writes_over_the_first(rng):
    g = cnncore.Graph()
    x, z = g.input(2), g.input(2)
    a, b = g.conv(x, 2, 1), g.conv(z, 2, 1)
    product = g.apply(PRODUCT, a, b)
    square = g.apply(PRODUCT, b, b)  # the last reader of b, but both its arrays are b
    g.output(g.apply(BESIDE, product, square))
    net = fill(g.build(dtype="float64"))
    x, z = rng.standard_normal((2, 1, 2, 3, 3))
    a, b = (cnncore.conv(v, *(net.parameters[f"{n}.{w}"] for w in "wb")) for v, n in ((x, "conv"), (z, "conv_2")))
    np.testing.assert_allclose(net(x, z), np.concatenate([(a + 1) * b, (b + 1) * b], 1), rtol=1e-12)
    check_gradients(net, x, z)
    for needs_gradient in ((True, False), (False, True)):
        y, backward = net.with_backward(x, z, needs_gradient=needs_gradient)
        y_all, backward_all = net.with_backward(x, z)
        assert np.array_equal(backward(np.ones_like(y)), backward_all(np.ones_like(y_all))[needs_gradient.index(True)])


def test_random_graphs_equal_their_copied_twins(rng):
    """Graphs at random, once with joins in place and operators over their inputs, once with a buffer for everything."""
    for trial in range(40):
        nets = []
        for join, over in (
            (BESIDE, CUBE),
            (COPIED, toy("cubed", type("Cubed", (Cube,), {"in_place": False, "saves": None})())),
        ):
            draw = np.random.default_rng(trial)
            g = cnncore.Graph()
            values = [g.input(2), g.input(1)]
            for _ in range(draw.integers(3, 14)):
                chosen = [values[i] for i in draw.integers(0, len(values), draw.integers(1, 4))]
                kind = draw.integers(4)
                if kind == 0:
                    values.append(g.apply(join, *chosen))
                elif kind == 1:
                    values.append(g.apply(over, chosen[0]))
                elif kind == 2:
                    values.append(g.conv(chosen[0], 2, 1, activation="tanh"))
                else:
                    values.append(g.apply(TOTAL, chosen[0], chosen[0]))
            used = {a for node in g._nodes for a in node.arguments}
            g.output(*(v for v in values if v.number not in used or draw.random() < 0.2))
            nets.append(fill(g.build(dtype="float64")))
        shapes = ((2, 2, 3, 2), (2, 1, 3, 2))
        xs = [np.random.default_rng(trial).uniform(-1, 1, s) for s in shapes]
        for repeatable in (True, False):
            found = []
            for net in nets:
                plain = net(*xs)
                ys, backward = net.with_backward(*xs, repeatable=repeatable)
                ys, plain = (v if isinstance(v, tuple) else (v,) for v in (ys, plain))
                dxs = backward(*(np.cos(y) for y in ys))
                found.append([*plain, *ys, *dxs, *backward.gradients.values()])
                if repeatable:
                    found[-1] += backward(*(np.cos(y) for y in ys))
            for one, other in zip(*found, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=f"graph {trial}")


def test_results_belong_to_the_caller(rng):
    net = two_modules().build()
    x = rng.standard_normal((1, 2, 5, 5), np.float32)
    before = x.copy()
    first = net(x)
    kept = first.copy()
    net(2 * x)
    assert np.array_equal(first, kept) and first.flags.c_contiguous and first.flags.owndata
    y, backward = net.with_backward(x)
    dx = backward(np.ones_like(y))
    kept = dx.copy()
    gradients = {name: g.copy() for name, g in backward.gradients.items()}
    earlier = backward.gradients
    backward(2 * np.ones_like(y))
    assert np.array_equal(dx, kept) and all(np.array_equal(earlier[n], g) for n, g in gradients.items())
    assert np.array_equal(x, before)


@pytest.mark.parametrize("form", ["negative strides", "channels last", "read only", "byte order", "every second"])
def test_inputs_of_any_layout(form, rng):
    net = two_modules().build()
    x = rng.standard_normal((2, 2, 6, 6), np.float32)
    other = {
        "negative strides": lambda: x[:, :, ::-1].copy()[:, :, ::-1],
        "channels last": lambda: np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1),
        "read only": lambda: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
        "byte order": lambda: x.astype(">f4"),
        "every second": lambda: np.repeat(x, 2, axis=3)[..., ::2],
    }[form]()
    assert np.array_equal(net(other), net(x))


@pytest.mark.parametrize("target", [t for t in cnncore.cpu.targets() if t != "reference"])
def test_targets_and_threads(target, rng):
    net = fill(two_modules(channels=5).build())
    x = rng.standard_normal((3, 5, 17, 13), np.float32)
    with cnncore.cpu.target("reference"):
        expected = net(x)
    with cnncore.cpu.target(target):
        with cnncore.threads(1):
            one, backward = net.with_backward(x)
            dx_one = backward(np.ones_like(one))
            gradients = backward.gradients
        with cnncore.threads(3):
            three, backward = net.with_backward(x)
            assert np.array_equal(one, three) and np.array_equal(dx_one, backward(np.ones_like(three)))
            assert all(np.array_equal(gradients[n], g) for n, g in backward.gradients.items())
    np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


# ── Backward ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_large_batches_are_taken_in_pieces(rng, monkeypatch):
    """The same results, whole images only, and no more memory than a piece needs."""
    monkeypatch.setattr(cnncore.nets.plan, "CACHED_BYTES", 40_000)
    g = cnncore.Graph()
    x = g.input(channels=2)
    h = g.conv(x, 8, kernel_size=3, padding=1, activation="relu")
    g.output(g.softmax(g.linear(g.global_avg_pool(h), 5), axis=1), h)
    net = g.build(seed=0)
    images = rng.standard_normal((7, 2, 24, 20)).astype(np.float32)
    y, maps = net(images)
    pieces = {plan.shapes[0][0]: plan.pieces for plan in net._plans.values()}
    assert pieces == {7: 4, 1: 1, 2: 1}
    assert all(not plan.spare for plan in net._plans.values() if plan.pieces > 1)
    for n in range(7):
        alone, its_maps = net(images[n : n + 1])
        assert np.array_equal(alone, y[n : n + 1]) and np.array_equal(its_maps, maps[n : n + 1])
    net.parameters["conv.w"] = -net.parameters["conv.w"]
    assert not np.array_equal(net(images)[1], maps)
    again, _ = net.with_backward(images)
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(again, net(images), strict=True))

    g = cnncore.Graph()
    g.output(g.softmax(g.input(channels=2), axis=0))  # looks at all images at once
    assert np.allclose(g.build()(images).sum(axis=0), 1)


def test_several_inputs_and_outputs(rng):
    g = cnncore.Graph()
    a, b = g.input(2, name="a"), g.input(3, name="b")
    y1 = g.conv(g.apply(BESIDE, a, b), 2, 1)
    g.output(y1, g.global_avg_pool(g.relu(y1)))
    net = fill(g.build(dtype="float64"))
    xs = rng.standard_normal((1, 2, 3, 4)), rng.standard_normal((1, 3, 3, 4))
    assert [y.shape for y in net(*xs)] == [(1, 2, 3, 4), (1, 2)]
    check_gradients(net, *xs)
    ys, backward = net.with_backward(*xs)
    whole = backward(None, np.ones_like(ys[1]))
    zeros = backward(np.zeros_like(ys[0]), np.ones_like(ys[1]))
    assert all(np.array_equal(p, q) for p, q in zip(whole, zeros, strict=True))
    with pytest.raises(ShapeError, match="2 outputs"):
        backward(ys[0])
    with pytest.raises(ShapeError, match="got 1"):
        net(xs[0])


def test_only_wanted_gradients_are_computed(rng):
    asked = []

    class Spy(Cube):
        def backward(self, call, saved, dy, needs_gradient, out=None):
            asked.append(needs_gradient)
            return super().backward(call, saved, dy, needs_gradient, out)

    g = cnncore.Graph()
    x = g.input(1)
    h = g.apply(toy("spy", Spy()), x)
    g.output(g.conv(h, 1, 1))
    net = g.build(dtype="float64")
    x = rng.standard_normal((1, 1, 2, 2))
    y, backward = net.with_backward(x, needs_gradient=False)
    assert backward(np.ones_like(y)) is None and not asked
    assert set(backward.gradients) == {"conv.w", "conv.b"}
    net.frozen = {"conv.w", "conv.b"}
    y, backward = net.with_backward(x)
    assert backward(np.ones_like(y)).shape == x.shape and asked and not backward.gradients
    net.frozen = {"conv.z"}
    with pytest.raises(SettingError, match=r"unknown parameter 'conv.z'; did you mean 'conv"):
        net.with_backward(x)


def test_parameter_gradients_can_reuse_arrays(rng):
    net = two_modules().build()
    x = rng.standard_normal((1, 2, 4, 4), np.float32)
    y, backward = net.with_backward(x)
    backward(np.ones_like(y))
    expected = backward.gradients
    mine = {name: np.full_like(a, np.nan) for name, a in net.parameters.items()}
    arrays = dict(mine)
    backward(np.ones_like(y), gradients=mine)
    assert all(mine[name] is arrays[name] and np.array_equal(mine[name], expected[name]) for name in expected)


def test_a_pass_that_is_not_repeatable_runs_backward_once(rng):
    net = two_modules().build()
    x = rng.standard_normal((1, 2, 4, 4), np.float32)
    y, backward = net.with_backward(x, repeatable=False)
    backward(np.ones_like(y))
    with pytest.raises(GraphError, match="repeatable=False"):
        backward(np.ones_like(y))


def test_a_value_that_no_gradient_reaches_has_gradient_zero():
    class Blocks(Total):
        def backward(self, call, saved, dy, needs_gradient, out=None):
            return (None,) * len(call.shapes)

    blocked = (Array("x", "values", differentiable=False),)
    g = cnncore.Graph()
    x = g.input(1)
    g.output(g.apply(toy("blocks", Blocks(), arrays=blocked), g.conv(x, 1, 1)))
    net = g.build(dtype="float64")
    y, backward = net.with_backward(np.ones((1, 1, 2, 2)))
    assert np.array_equal(backward(np.ones_like(y)), np.zeros((1, 1, 2, 2)))
    assert all(not g.any() for g in backward.gradients.values()) and set(backward.gradients) == set(net.parameters)


def test_backward_checks_dy(rng):
    net = two_modules().build()
    y, backward = net.with_backward(rng.standard_normal((1, 2, 4, 4), np.float32))
    with pytest.raises(ShapeError, match=r"classes: backward got dy of shape \(3,\); the net returned \(1, 3, 4, 4\)"):
        backward(np.ones(3, np.float32))
    with pytest.raises(DtypeError, match="float64"):
        backward(np.ones(y.shape))
    backward(np.ones_like(y))


# ── Training mode ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_random_operators_follow_seed_path_and_step():
    def draws(seed, *names, **mode):
        g = cnncore.Graph()
        x = g.input(1, rank=0)
        g.output(*(g.apply(NOISE, x, name=name) for name in names))
        net = g.build(seed=seed, dtype="float64")
        return net, lambda **mode: [float(y.squeeze()) for y in np.atleast_2d(net(np.zeros((1, 1)), **mode))]

    net, run = draws(0, "a", "b")
    assert run() == [0, 0] and net.steps == 0  # inference draws nothing
    first, second = run(training=True), run(training=True)
    assert len({*first, *second}) == 4 and net.steps == 2
    net, again = draws(0, "a", "b")
    net.train()
    assert [again(), again()] == [first, second]
    _, fewer = draws(0, "b")
    assert fewer(training=True) == first[1:]  # another node's draws do not depend on it
    assert draws(1, "a", "b")[1](training=True) != first
    y, _ = net.with_backward(np.zeros((1, 1)), training=True, step=0)
    assert [float(v.squeeze()) for v in y] == first and net.steps == 2


def test_a_seed_given_in_the_graph_stays():
    g = cnncore.Graph()
    g.output(g.apply(NOISE, g.input(1, rank=0), seed=7, training=True))
    net = g.build()
    assert net(np.zeros((1, 1), np.float32)) == 7 and net(np.zeros((1, 1), np.float32), training=True) == 7


def test_state_changes_in_training_only(rng):
    g = cnncore.Graph()
    g.output(g.apply(FAILS, g.apply(COUNTED, g.input(2), name="n")))
    net = g.build(dtype="float64")
    assert list(net.parameters) == ["n.scale"] and list(net.buffers) == ["n.count"] and net.parameters["n.scale"] == 2
    assert net.decays("n.scale") and not net.decays("n.count")
    x = rng.standard_normal((1, 2, 2, 2))
    net(x)
    net.with_backward(x)
    assert net.buffers["n.count"] == 0
    y, backward = net.with_backward(x, training=True)
    backward(y)
    assert net.buffers["n.count"] == 1 and set(backward.gradients) == {"n.scale"}
    with pytest.raises(DtypeError):
        net(x + 1000, training=True)
    assert net.buffers["n.count"] == 1  # a pass that fails leaves the state as it was
    net.train()
    net(x)
    assert net.buffers["n.count"] == 2
    net.eval()
    net(x)
    assert net.buffers["n.count"] == 2


# ── Parameters ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_parameters_by_name(rng):
    net = two_modules().build()
    x = rng.standard_normal((1, 2, 4, 4), np.float32)
    before = net(x)
    net.parameters["classes.b"] += 1
    assert np.allclose(net(x), before + 1, atol=1e-6)
    mine = np.zeros(3)
    net.parameters["classes.b"] = mine
    mine[:] = 99
    assert np.allclose(net(x), before, atol=1e-6)
    with pytest.raises(ShapeError, match=r"parameters\['classes.b'\]: expected shape \(3,\), got \(4,\)"):
        net.parameters["classes.b"] = np.zeros(4)
    with pytest.raises(KeyError, match=r"did you mean 'classes\.w'"):
        net.parameters["clases.w"]
    with pytest.raises(TypeError):
        del net.parameters["classes.b"]
    assert "classes.b" in net.parameters and len(net.parameters) == 18


def test_initialisers():
    def weights(initial, channels=64, kernel=3, op="conv"):
        g = cnncore.Graph()
        g.output(getattr(g, op)(g.input(32), channels, kernel, initial=initial, bias=False))
        return next(iter(g.build(seed=3).parameters.values()))

    fan_in, fan_out = 32 * 9, 64 * 9
    variance = {"he": 2 / fan_in, "glorot": 2 / (fan_in + fan_out), "lecun": 1 / fan_in}
    for name, expected in variance.items():
        normal, uniform = weights(name), weights(f"{name}_uniform")
        assert np.array_equal(normal, weights(f"{name}_normal"))
        for w in (normal, uniform):
            assert w.var() == pytest.approx(expected, rel=0.05) and abs(w.mean()) < 4 * (expected / w.size) ** 0.5
        assert np.abs(uniform).max() <= (3 * expected) ** 0.5 < np.abs(normal).max()
        assert (np.abs(uniform) > 0.99 * (3 * expected) ** 0.5).any()
    assert not weights("zeros").any() and (weights("ones") == 1).all() and (weights(0.25) == 0.25).all()
    # fan in of the transposed convolution counts its inputs, which come first in its weights
    assert weights("he", op="conv_transpose").var() == pytest.approx(variance["he"], rel=0.05)
    with pytest.raises(SettingError, match="unknown initialiser 'hee'; did you mean 'he'"):
        weights("hee")


def test_each_parameter_depends_on_its_own_name_alone():
    def build(extra, seed=0):
        g = cnncore.Graph()
        x = g.input(2)
        if extra:
            x = g.conv(x, 2, 1, name="extra")
        g.output(g.conv(x, 4, 3, name="same"))
        return g.build(seed=seed).parameters["same.w"]

    assert np.array_equal(build(False), build(True))
    assert not np.array_equal(build(False), build(False, seed=1))


def test_normal_numbers_are_normal():
    n = initialisers.normal_numbers(5, 200_001)
    assert n.size == 200_001 and np.isfinite(n).all()
    assert abs(n.mean()) < 0.01 and abs(n.var() - 1) < 0.02
    assert abs((n**3).mean()) < 0.05 and abs((n**4).mean() - 3) < 0.1


def test_precision_and_copies(rng):
    net = two_modules().build(dtype="float32")
    x = rng.standard_normal((1, 2, 4, 4))
    double = net.astype("float64")
    np.testing.assert_allclose(double(x), net(x.astype(np.float32)), rtol=1e-4, atol=1e-5)
    with pytest.raises(DtypeError, match=r"input: got float64; the net computes in float32: use x.astype\('float32'\)"):
        net(x)
    with pytest.raises(DtypeError, match="'float32' or 'float64'"):
        two_modules().build(dtype="float16")
    double.parameters["classes.b"] = np.ones(3)
    assert not net.parameters["classes.b"].any()


def test_pickled_nets_compute_the_same(rng):
    net = cnncore.Graph()
    net.output(net.conv(net.input(2), 3, 3, activation="relu"))
    net = net.build()
    x = rng.standard_normal((1, 2, 4, 4), np.float32)
    y = net(x)
    assert np.array_equal(pickle.loads(pickle.dumps(net))(x), y)


# ── Shape inference ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_open_and_fixed_extents():
    g = cnncore.Graph()
    x = g.input(3)
    h = g.conv(x, 8, 3, stride=2, padding=1)
    assert h.shape == (None, 8, None, None) and str(h) == "conv (N, 8, ?, ?)"
    assert g.global_avg_pool(h).shape == (None, 8)
    g = cnncore.Graph()
    x = g.input(3, size=(28, None))
    assert g.max_pool(x, 2).shape == (None, 3, 14, None)
    g = cnncore.Graph()
    assert g.input(3, size=28).shape == (None, 3, 28, 28)
    assert g.input(3, size=(4, 5, 6)).shape == (None, 3, 4, 5, 6)
    assert g.input(7, rank=0).shape == (None, 7)


def test_a_layer_whose_weights_depend_on_an_open_size():
    g = cnncore.Graph()
    h = g.conv(g.input(3), 8, 3)
    with pytest.raises(ShapeError, match=r"linear: w would have shape \(10, \?\).*image size.*global average pooling"):
        g.linear(h, 10)


# ── Errors carry the node's path ───────────────────────────────────────────────────────────────────────────────────────


def second_result(g, x):
    g.stochastic_pool(x, 2, return_state=True)


def wrong_channels(g, x):
    with g.scope("inception_3a"):
        g.conv(x, 4, 3, groups=2, name="conv3x3")


def unknown_setting(g, x):
    with g.scope("inception_3a"):
        g.conv(x, 4, 3, paddin=1, name="conv3x3")


def unknown_operator(g, x):
    g.max_pol(x, 2)


def unknown_activation(g, x):
    g.conv(x, 4, 3, activation="rellu")


def unequal_join(g, x):
    g.apply(BESIDE, g.conv(x, 4, 1, name="a"), g.conv(x, 4, 3, padding=2, name="b"), g.max_pool(x, 3), name="join")


def missing_setting(g, x):
    g.conv(x, kernel_size=3)


def twice_given(g, x):
    g.conv(x, 4, 3, kernel_size=3)


def bad_kernel(g, x):
    g.conv(x, 4, 0)


def bad_channels(g, x):
    g.conv(x, 4.5, 3)


def too_many(g, x):
    g.conv(x, x, 4, 3)


def array_given(g, x):
    g.conv(np.zeros((1, 3, 4, 4), np.float32), 4, 3)


def array_given_next(g, x):
    g.apply(BESIDE, x, np.zeros((1, 3, 4, 4), np.float32))


def no_value(g, x):
    g.conv(64, kernel_size=3)


def duplicate(g, x):
    g.conv(x, 4, 1, name="a")
    g.conv(x, 4, 1, name="a")


def bad_name(g, x):
    g.conv(x, 4, 1, name="a/b")


def foreign(g, x):
    other = cnncore.Graph()
    g.relu(other.input(3, name="elsewhere"))


def no_output(g, x):
    g.conv(x, 4, 1, name="a")
    g.build()


def unused(g, x):
    y = g.conv(x, 4, 1, name="a")
    g.relu(g.conv(x, 4, 1, name="lost"), name="lost_relu")
    g.output(y)
    g.build()


def unused_input(g, x):
    g.output(g.relu(g.input(2, name="second")))
    g.build()


def output_twice(g, x):
    g.output(x)
    g.output(x)


def output_array(g, x):
    g.output(np.zeros(3))


def late_input(g, x):
    g.relu(x)
    g.input(3)


def no_input(g, x):
    cnncore.Graph().build()


def window_too_large(g, x):
    g.output(g.conv(g.conv(x, 4, 3, name="first"), 4, 9, name="second"))
    g.build()(np.zeros((1, 3, 8, 8), np.float32))


def inputs_shape(g, x):
    g.output(g.relu(x))
    g.build()(np.zeros((3, 8, 8), np.float32))


def inputs_channels(g, x):
    g.output(g.relu(x))
    g.build()(np.zeros((1, 8, 8, 3), np.float32))


def empty_image(g, x):
    g.output(g.relu(x))
    g.build()(np.zeros((1, 3, 0, 8), np.float32))


def at_run_time(g, x):
    with g.scope("deep"):
        y = g.apply(FAILS, x, name="here")
    g.output(y)
    g.build()(np.full((1, 3, 2, 2), 101, np.float32))


def open_summary(g, x):
    g.output(g.relu(x))
    g.build().summary()


def unknown_value(g, x):
    g.output(g.relu(x))
    g.build().values(np.zeros((1, 3, 2, 2), np.float32), names=["reli"])


ERRORS = [
    (
        second_result,
        SettingError,
        "stochastic_pool: return_state requests a second result, but a node has one value; omit it",
    ),
    (
        wrong_channels,
        ShapeError,
        "inception_3a/conv3x3: 3 channels of input (N, 3, 8, 8) are not divisible by groups=2",
    ),
    (
        unknown_setting,
        SettingError,
        "inception_3a/conv3x3: unknown setting 'paddin'; did you mean 'padding'? It takes channels,",
    ),
    (unknown_operator, AttributeError, "graph: unknown operator 'max_pol'; did you mean 'max_pool'?"),
    (unknown_activation, SettingError, "conv: unknown activation 'rellu'; did you mean 'relu'?"),
    (
        unequal_join,
        ShapeError,
        "join: the extents of its inputs differ; they must be equal. "
        "Joined here: a (N, 4, 8, 8), b (N, 4, 10, 10), max_pool (N, 3, 2, 2).",
    ),
    (
        missing_setting,
        SettingError,
        "conv: setting 'channels' is missing (number of output channels); call g.conv(x, channels, kernel_size, ",
    ),
    (twice_given, SettingError, "conv: setting 'kernel_size' is given twice, by position and by name"),
    (bad_kernel, SettingError, "conv: kernel_size must be at least 1, got 0"),
    (bad_channels, SettingError, "conv: channels must be an integer, got 4.5"),
    (too_many, GraphError, "conv: takes 1 value (x), got 2"),
    (array_given, GraphError, "conv: argument 1 is an array; a graph is built from values: start with g.input(…)"),
    (array_given_next, GraphError, "beside: argument 2 is an array; a graph is built from values"),
    (no_value, GraphError, "conv: value 'x' (input) is missing; call g.conv(x, channels, "),
    (duplicate, GraphError, "a: a node of this name exists already; give another name=…, or open a scope"),
    (bad_name, GraphError, "name 'a/b': a name is a string of printable characters without / and ."),
    (foreign, GraphError, "relu: elsewhere belongs to another graph; a net is built from the values of one"),
    (no_output, GraphError, "build: the graph has no output; call g.output(…), perhaps with a"),
    (unused, GraphError, "build: unused branch: lost_relu (N, 4, 8, 8) reaches no output; join it with others"),
    (unused_input, GraphError, "build: unused branch: input (N, 3, 8, 8) reaches no output"),
    (output_twice, GraphError, "output: the outputs are already set; give all of them in one call: g.output(y1, y2)"),
    (output_array, GraphError, "output: expected values of this graph, got ndarray"),
    (late_input, GraphError, "input_2: inputs come first; call g.input before the operators"),
    (no_input, GraphError, "build: the graph has no input; call g.input(channels=…) first"),
    (inputs_shape, ShapeError, "input: input has shape (3, 8, 8); expected (N, 3, 8, 8). A single image? Use x[None]."),
    (
        inputs_channels,
        ShapeError,
        "input: input has shape (1, 8, 8, 3); expected (N, 3, 8, 8). Channels last? Use numpy.moveaxis(x, -1, 1).",
    ),
    (at_run_time, ShapeError, "input: input has shape (1, 3, 2, 2); expected (N, 3, 8, 8)."),
    (unknown_value, GraphError, "values: unknown node 'reli'; did you mean 'relu'? There are input, relu."),
]
OPEN_ERRORS = [
    (
        second_result,
        SettingError,
        "stochastic_pool: return_state requests a second result, but a node has one value; omit it",
    ),
    (
        window_too_large,
        ShapeError,
        "second: window 9×9 does not fit input 6×6 with padding 0; the largest kernel_size is 6",
    ),
    (empty_image, ShapeError, "input: input (1, 3, 0, 8) is empty; only the number of images N may be 0"),
    (at_run_time, DtypeError, "deep/here: met a value above 100"),
    (open_summary, ShapeError, "summary: input (1, 3, ?, ?) leaves the size open; call net.summary((1, 3, …))"),
]


@pytest.mark.parametrize("cause, error, text", ERRORS, ids=lambda v: getattr(v, "__name__", ""))
def test_error_text(cause, error, text):
    g = cnncore.Graph()
    with pytest.raises(error) as caught:
        cause(g, g.input(3, size=8))
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("cause, error, text", OPEN_ERRORS, ids=lambda v: getattr(v, "__name__", ""))
def test_error_text_at_an_open_size(cause, error, text):
    g = cnncore.Graph()
    with pytest.raises(error) as caught:
        cause(g, g.input(3))
    assert str(caught.value).startswith(text)


def test_a_cycle_is_named():
    rows = [
        {"name": "a", "operator": "relu", "inputs": ["c"], "settings": {}},
        {"name": "b", "operator": "relu", "inputs": ["a"], "settings": {}},
        {"name": "c", "operator": "relu", "inputs": ["b"], "settings": {}},
    ]
    inputs = [{"name": "input", "channels": 1, "size": [None, None]}]
    with pytest.raises(GraphError, match=r"the graph has a cycle: a → c → b → a; a value cannot depend on itself"):
        cnncore.Graph.from_description({"inputs": inputs, "nodes": rows, "outputs": ["c"]})


def test_descriptions_make_the_graph_again(rng):
    g = cnncore.Graph()
    x = g.input(2, size=(None, 6))
    a = g.conv(x, 3, kernel_size=(3, 1), padding=((1, 1), (0, 0)), activation="relu")
    g.output(g.global_avg_pool(g.max_pool(a, 2)), a)
    net = g.build(seed=4)
    description = net.graph.description()
    description["nodes"].reverse()  # any order will do
    again = cnncore.Graph.from_description(description).build(seed=4)
    x = rng.standard_normal((1, 2, 5, 6), np.float32)
    assert all(np.array_equal(p, q) for p, q in zip(net(x), again(x), strict=True))
    assert again.graph.description()["inputs"] == description["inputs"]


def test_scopes_names_and_help():
    g = cnncore.Graph()
    x = g.input(1)
    with g.scope("a"), g.scope("b"):
        first, second = g.relu(x), g.relu(x)
        named = g.conv(x, 1, 1, activation="relu", name="c")
    assert [v.name for v in (first, second, named)] == ["a/b/relu", "a/b/relu_2", "a/b/c/relu"]
    assert g.relu(x).name == "relu"
    assert {"conv", "max_pool", "input", "output", "scope"} <= set(dir(g))
    assert "kernel_size" in str(g.conv.__signature__) and "slides a kernel" in g.conv.__doc__
    assert not set(cnncore.OPS) & set(vars(cnncore.Graph)), "an operator hides a method of Graph"


# ── Plans ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_joins_cost_nothing_and_buffers_are_reused():
    net = two_modules().build()
    x = np.zeros((2, 2, 16, 16), np.float32)
    made = net._plan((x.shape,), plan.Mode())
    joins = [i for i, node in enumerate(net.graph.nodes) if node.op is BESIDE]
    assert not any(step.copies for step in made.forward_steps)
    assert not set(joins) & {step.node for step in made.forward_steps}
    everything = sum(np.prod(s) * 4 for s in made.shapes)
    assert made.arena_bytes < everything / 2
    once = net._plan((x.shape,), plan.Mode(backward=True, needs_gradient=(True,), repeatable=False))
    twice = net._plan((x.shape,), plan.Mode(backward=True, needs_gradient=(True,), repeatable=True))
    assert made.arena_bytes < once.arena_bytes <= twice.arena_bytes < 2 * everything
    lenet, shape = cnncore.models.lenet(), (2, 1, 32, 32)
    once, twice = (
        lenet._plan((shape,), plan.Mode(backward=True, needs_gradient=(True,), repeatable=r)) for r in (False, True)
    )
    assert once.arena_bytes < twice.arena_bytes


def test_a_value_read_by_convolutions_of_every_kind():
    """Some add to its gradient by themselves, others cannot."""
    g = cnncore.Graph()
    h = g.conv(g.input(channels=4), 8, 3, padding=1)
    branches = [
        g.conv_transpose(h, 8, 3, padding=1),
        g.conv(h, 8, 1),
        g.conv_transpose(h, 8, 1),
        g.conv(h, 8, 3, padding=1, padding_mode="reflect"),
        g.depthwise_conv(h, 3, padding=1),
        g.flipped_conv(h, 8, 3, padding=1),
        g.max_pool(h, 3, stride=1, padding=1),
    ]
    g.output(g.global_avg_pool(g.add(*branches)))
    x = np.random.default_rng(0).standard_normal((2, 4, 6, 6))
    assert cnncore.testing.check_gradient(g.build(dtype="float64"), x, method="projection") <= 1e-8


def test_buffers_alive_at_the_same_time_lie_apart():
    net = two_modules(COPIED).build()
    for mode in (
        plan.Mode(),
        plan.Mode(backward=True, needs_gradient=(True,)),
        plan.Mode(backward=True, needs_gradient=(True,), repeatable=False),
    ):
        made = net._plan(((1, 2, 8, 8),), mode)
        for i, a in enumerate(made.all_buffers):
            assert a.offset % plan.ALIGNMENT == 0 and a.offset + a.bytes <= made.arena_bytes
            for b in made.all_buffers[:i]:
                alive = a.first <= b.last and b.first <= a.last
                apart = a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset
                assert apart or not alive


def test_plans_are_kept_and_bounded(monkeypatch):
    net = two_modules().build()
    net(np.zeros((1, 2, 8, 8), np.float32))
    (first,) = net._plans.values()
    net(np.ones((1, 2, 8, 8), np.float32))
    assert list(net._plans.values()) == [first]
    for size in range(4, 60):
        net(np.zeros((1, 2, size, 8), np.float32))
    assert len(net._plans) == 32 and first not in net._plans.values()
    monkeypatch.setattr("cnncore.nets.net.MOST_PLAN_BYTES", 3 * first.arena_bytes)
    for size in range(8, 20):
        net(np.zeros((1, 2, 8, size), np.float32))
    assert 1 <= len(net._plans) <= 3


def test_nothing_large_is_allocated_after_the_first_call():
    import tracemalloc

    g = cnncore.Graph()
    h = g.input(4)
    for _ in range(6):
        h = g.conv(h, 16, 1, activation="relu")
    g.output(g.global_avg_pool(h))
    net = g.build()
    x = np.zeros((2, 4, 64, 64), np.float32)
    net(x)
    tracemalloc.start()
    try:
        net(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000  # one value of 16 channels takes 524,288 bytes


def test_workspaces_go_back():
    net = two_modules().build()
    x = np.zeros((1, 2, 8, 8), np.float32)
    passes = [net.with_backward(x)[1] for _ in range(3)]
    (made,) = net._plans.values()
    assert len(made.spare) == 0
    del passes
    gc.collect()
    assert len(made.spare) == 3
    y, backward = net.with_backward(x, repeatable=False)
    made = list(net._plans.values())[-1]
    backward(y)
    assert len(made.spare) == 1


def test_two_passes_at_a_time_keep_apart(rng):
    net = fill(two_modules().build(dtype="float64"))
    x1, x2 = rng.standard_normal((2, 1, 2, 5, 5))
    y1, back1 = net.with_backward(x1)
    y2, back2 = net.with_backward(x2)
    dx2, dx1 = back2(np.ones_like(y2)), back1(np.ones_like(y1))
    y, back = net.with_backward(x1)
    assert np.array_equal(back(np.ones_like(y)), dx1) and not np.array_equal(dx1, dx2)
    assert all(np.array_equal(back.gradients[n], g) for n, g in back1.gradients.items())


def test_eight_threads_on_one_net(rng):
    net = fill(two_modules().build())
    xs = [rng.standard_normal((1, 2, 6 + i % 3, 7), np.float32) for i in range(8)]

    def alone(x):
        y, backward = net.with_backward(x)
        return y, backward(np.ones_like(y)), backward.gradients

    expected = [alone(x) for x in xs]
    start = threading.Barrier(8)

    def together(i):
        start.wait()
        return [(net(xs[i]), *alone(xs[i])) for _ in range(10)]

    with ThreadPoolExecutor(8) as pool:
        for (y, dx, gradients), found in zip(expected, pool.map(together, range(8)), strict=True):
            for plain, y_, dx_, gradients_ in found:
                assert np.array_equal(y, y_) and np.array_equal(y, plain) and np.array_equal(dx, dx_)
                assert all(np.array_equal(gradients[n], gradients_[n]) for n in gradients)


@pytest.mark.parametrize("error", [DtypeError, KeyboardInterrupt, MemoryError])
def test_a_net_survives_an_error_in_the_middle(error, monkeypatch, rng):
    g = cnncore.Graph()
    g.output(g.relu(g.apply(FAILS, g.conv(g.input(1), 1, 1, initial="ones"))))
    net = g.build()
    x = rng.standard_normal((1, 1, 3, 3), np.float32)
    expected = net(x)
    monkeypatch.setattr(Fails, "error", error)
    for run in (net, net.with_backward):
        with pytest.raises(error):
            run(1000 + x)
        assert np.array_equal(net(x), expected)
    y, backward = net.with_backward(x)
    assert np.array_equal(y, expected) and backward(y).shape == x.shape
    assert all(len(p.spare) >= 1 for p in list(net._plans.values())[:1])


# ── Epilogues ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Doubling(Implementation):
    """2x, and an activation on top if the plan asks for it."""

    saves = ()

    def __init__(self):
        self.fused = []

    def infer(self, op, shapes, dtype, settings):
        return shapes[0], None

    def fuses_activation(self, call, activation):
        return activation.op.name in ("relu", "cube")

    def forward(self, call, arrays, out=None, epilogue=None):
        y = call.empty(out)
        y[...] = 2 * arrays[0]
        if epilogue is not None:
            self.fused.append(epilogue.op.name)
            epilogue.op.implementation.forward(epilogue, (y.copy(),), y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        return (2 * dy,)


class Exponential(Doubling):
    """exp x − 1, whose backward reads y."""

    saves = ("y",)

    def forward(self, call, arrays, out=None, epilogue=None):
        y, _, _ = super().forward(call, (np.expm1(arrays[0]) / 2,), out, epilogue)
        return y, (), (y,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        return ((saved[0] + 1) * dy,)


def test_an_epilogue_is_fused_where_the_producer_takes_it(rng):
    kinds = [Doubling() for _ in range(6)]
    kinds[4] = Exponential()
    assert cnncore.relu.implementation.saves == ("y",)  # or nothing below is fused
    g = cnncore.Graph()
    x = g.input(2)
    made = [g.apply(toy("doubling", kind), x) for kind in kinds]
    fused = g.relu(made[0])
    other = g.apply(CUBE, made[1])  # its backward reads x, which fusing would not keep
    read_twice = g.relu(made[2])
    put_out = g.relu(made[3])
    saved = g.relu(made[4])  # the producer's backward reads its own y: fused in inference only
    not_taken = g.tanh(made[5])
    g.output(g.apply(BESIDE, fused, other, read_twice, made[2], put_out, saved, not_taken), made[3])
    net = g.build(dtype="float64")
    x = rng.standard_normal((2, 2, 3, 3))
    s = np.maximum(2 * x, 0)
    parts = [s, (2 * x) ** 3, s, 2 * x, s, np.maximum(np.expm1(x), 0), np.tanh(2 * x)]
    found = net(x)
    np.testing.assert_allclose(found[0], np.concatenate(parts, 1), rtol=1e-12)
    np.testing.assert_allclose(found[1], 2 * x, rtol=1e-12)
    assert [kind.fused for kind in kinds] == [["relu"], [], [], [], ["relu"], []]
    check_gradients(net, x)
    net.with_backward(x)
    assert kinds[0].fused.count("relu") > kinds[4].fused.count("relu")


# ── Summaries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_summary_counts_by_hand():
    g = cnncore.Graph()
    x = g.input(3)
    h = g.conv(x, 8, 7, stride=2, padding=3, activation="relu", name="stem")
    h = g.max_pool(h, 3, stride=2, padding=1)
    one, five = g.conv(h, 4, 1, name="one"), g.conv(h, 6, 5, padding=2, bias=False, name="five")
    h = g.apply(BESIDE, one, five, name="join")
    g.output(g.linear(g.global_avg_pool(h), 10))
    summary = g.build().summary((2, 3, 32, 32))
    rows = {row.path: row for row in summary.rows}
    assert rows["stem"].output == (2, 8, 16, 16) and rows["stem"].parameters == 8 * 3 * 49 + 8
    assert rows["stem"].multiply_adds == 2 * 16 * 16 * 8 * 3 * 49
    assert rows["five"].parameters == 6 * 8 * 25 and rows["five"].multiply_adds == 2 * 8 * 8 * 6 * 8 * 25
    assert rows["linear"].parameters == 10 * 10 + 10 and rows["linear"].multiply_adds == 2 * 10 * 10
    # 7; 7 + 2·2 = 11; then one step is 4: 11 + 0 and 11 + 4·4 = 27, of which the join sees the larger
    fields = {path: row.receptive_field for path, row in rows.items()}
    assert fields["stem"] == (7, 7) and fields["max_pool"] == (11, 11)
    assert fields["one"] == (11, 11) and fields["five"] == fields["join"] == (27, 27)
    assert fields["global_avg_pool"] is None and fields["linear"] is None
    assert summary.parameters == sum(r.parameters for r in rows.values()) == 8 * 148 + 36 + 1200 + 110
    text = str(summary)
    assert "27×27" in text and "(2, 8, 16, 16)" in text and f"{summary.parameters:,}" in text and "one, five" in text


def test_receptive_field_of_a_transposed_convolution():
    g = cnncore.Graph()
    x = g.input(1, rank=1)
    g.output(g.conv(g.conv_transpose(g.conv(x, 1, 3, stride=2), 1, 2, stride=2), 1, 3))
    rows = g.build().summary((1, 1, 21)).rows
    # 3 with step 2; one of those reaches each output, which lie 1 apart; three outputs reach 3 + 2·1
    assert [r.receptive_field for r in rows] == [(3,), (3,), (5,)]


def test_a_loss_in_the_graph(rng):
    g = cnncore.Graph()
    x, target = g.input(2), g.input(3)
    g.output(g.mean_squared_error(g.conv(x, 3, 1), target))
    net = fill(g.build(dtype="float64"))
    x, target = rng.standard_normal((2, 2, 3, 3)), rng.standard_normal((2, 3, 3, 3))
    y = cnncore.conv(x, net.parameters["conv.w"], net.parameters["conv.b"])
    assert net(x, target) == pytest.approx(((y - target) ** 2).mean(), rel=1e-12)
    loss, backward = net.with_backward(x, target)
    backward(np.ones_like(loss))
    expected = 2 * (y - target).sum(axis=(0, 2, 3)) / y.size
    np.testing.assert_allclose(backward.gradients["conv.b"], expected, rtol=1e-12)


def test_values_of_inner_nodes(rng):
    net = fill(two_modules().build(dtype="float64"))
    x = rng.standard_normal((1, 2, 5, 5))
    found = net.values(x, names=["a/conv1x1", "a/conv1x1/relu", "classes", "input"])
    p = net.parameters
    one = cnncore.conv(x, p["a/conv1x1.w"], p["a/conv1x1.b"])
    assert np.array_equal(found["a/conv1x1"], one) and np.array_equal(found["a/conv1x1/relu"], cnncore.relu(one))
    assert np.array_equal(found["classes"], net(x)) and np.array_equal(found["input"], x)


# ── Packed weights ─────────────────────────────────────────────────────────────────────────────────────────────────────


def convolutions(channels=4):
    g = cnncore.Graph()
    x = g.input(channels=channels)
    h = g.conv(x, 8, kernel_size=3, padding=1, activation="relu")
    h = g.conv_transpose(h, 6, kernel_size=2, stride=2)
    g.output(g.linear(g.global_avg_pool(h), 5))
    return g


@pytest.mark.parametrize("name", ["conv.w", "conv.b", "conv_transpose.w", "linear.w", "linear.b"])
def test_a_changed_parameter_is_seen_however_it_was_changed(name):
    """Packed weights are kept between calls; every way to change a parameter must reach the next call."""
    net, x = convolutions().build(seed=1), np.random.default_rng(0).standard_normal((2, 4, 9, 8)).astype(np.float32)

    def fresh():
        return net.astype("float32")(x)

    net.parameters[name] = np.random.default_rng(1).standard_normal(net.parameters[name].shape)  # biases begin as 0
    assert np.array_equal(net(x), net(x))
    changes = [
        lambda held: net.parameters.__setitem__(name, net.parameters[name] * 2),
        lambda held: np.multiply(net.parameters[name], -1.5, out=net.parameters[name]),
        lambda held: held.__iadd__(0.25),
        lambda held: held[...].__imul__(3),
    ]
    for change in changes:
        before = net(x)
        held = net.parameters[name]
        net(x)  # while somebody holds the array
        change(held)
        assert np.array_equal(net(x), fresh())
        assert not np.array_equal(net(x), before)
        del held
        assert np.array_equal(net(x), fresh())


def test_unchanged_weights_are_packed_once(monkeypatch):
    net, x = convolutions().build(seed=1), np.ones((1, 4, 8, 8), np.float32)
    net(x)
    (plan,) = net._plans.values()
    (workspace,) = plan.spare
    assert len(workspace.packed) == 3
    refreshed = []
    workspace.packed = [
        (type("Kept", (), {"refresh": lambda self: refreshed.append(1)})(), names) for _, names in workspace.packed
    ]
    net(x)
    assert not refreshed
    net.parameters["conv.w"][0] = 0
    net(x)
    assert len(refreshed) == 1


def test_exact_computes_directly():
    g = cnncore.Graph()
    g.output(g.conv(g.input(channels=64), 64, kernel_size=3, padding=1))
    net = g.build(seed=0)
    x = np.random.default_rng(0).standard_normal((1, 64, 32, 32)).astype(np.float32)
    fast = net(x)
    net.exact = True
    exact = net(x)
    lone = cnncore.conv(x, net.parameters["conv.w"], net.parameters["conv.b"], padding=1)
    assert np.array_equal(exact, lone)
    assert np.abs(fast - exact).max() < 1e-4 * np.abs(exact).max()


# ── Batch normalisation in inference ──


def normalized_convolutions(dtype):
    g = cnncore.Graph()
    x = g.input(4)
    h = g.relu6(g.batch_norm(g.conv(x, 6, kernel_size=3, padding=1, bias=False)))
    h = g.hard_tanh(g.scale(g.batch_norm(g.depthwise_conv(h, kernel_size=3, padding=1))), max_val=0.5)
    h = g.tanh(g.batch_norm(g.conv_transpose(h, 8, kernel_size=2, stride=2, groups=2)))
    seen = g.conv(h, 5, kernel_size=1, name="seen_twice")
    h = g.concat(g.batch_norm(seen), g.batch_norm(g.max_pool(seen, 3, stride=1, padding=1)))
    g.output(g.hard_tanh(g.batch_norm(g.linear(g.global_avg_pool(h), 3)), min_val=-9, max_val=9))
    net = g.build(dtype=dtype)
    rng = np.random.default_rng(3)
    for name, array in {**net.parameters, **net.buffers}.items():
        held = net.buffers if name in net.buffers else net.parameters
        held[name] = (
            rng.uniform(0.5, 2, array.shape) if name.endswith("running_var") else rng.standard_normal(array.shape) / 2
        )
    return net


@pytest.mark.parametrize("target", cnncore.cpu.targets())
@pytest.mark.parametrize(("dtype", "limit"), [("float32", 2e-5), ("float64", 1e-13)])
def test_batch_norm_is_part_of_the_convolution_before_it_in_inference(dtype, limit, target, rng):
    net = normalized_convolutions(dtype)
    x = rng.standard_normal((2, 4, 7, 9)).astype(dtype)

    def as_it_is_written():
        net.exact = True
        y = net(x)
        net.exact = False
        return y

    with cnncore.cpu.target(target):
        expected = as_it_is_written()
        for _ in range(3):  # packed at the first call, without the folded weights from the second on
            np.testing.assert_allclose(net(x), expected, rtol=0, atol=limit * np.abs(expected).max())
        for held, name in (
            (net.buffers, "batch_norm.running_var"),
            (net.parameters, "scale.b"),
            (net.parameters, "conv.w"),
        ):
            held[name] = held[name] * 1.5
            changed = as_it_is_written()
            assert np.abs(changed - expected).max() > 1e-3 * np.abs(expected).max()
            np.testing.assert_allclose(net(x), changed, rtol=0, atol=limit * np.abs(changed).max())
            expected = changed
        rows = {row.path: row.operator for row in net.profile(x.shape, rounds=1).rows}
        (workspace,) = list(net._plans.values())[-1].spare
        packed = [kept for kept, _ in workspace.packed if isinstance(kept, plan.Folded)]
        made = [kept.made for kept in packed]
        net(x)  # nothing has changed: nothing is folded again
        assert len(packed) == 4
        for kept, before in zip(packed, made, strict=True):
            assert kept.made and all(array is before[i] for i, array in kept.made.items())
        assert all(None not in net.__dict__[held].versions().values() for held in ("parameters", "buffers"))
    assert rows["conv"] == "conv + batch_norm + relu6"
    assert rows["depthwise_conv"] == "depthwise_conv + batch_norm + scale + hard_tanh"
    assert rows["conv_transpose"] == "conv_transpose + batch_norm" and rows["tanh"] == "tanh"
    assert rows["seen_twice"] == "conv" and rows["linear"] == "linear + batch_norm + hard_tanh"


def test_passes_that_are_to_go_backward_are_computed_as_written(rng):
    net = normalized_convolutions("float64")
    x = rng.standard_normal((2, 4, 6, 5))
    y, backward = net.with_backward(x)
    net.exact = True
    assert np.array_equal(net(x), y)
    check_gradients(net, x)
    assert backward(np.ones_like(y)).shape == x.shape


# ── Indices ──


def encoder_and_decoder(g, x):
    """Two poolings that remember their winners, and the way back up through the same places."""
    h = g.conv(x, 4, kernel_size=3, padding=1, activation="relu")
    h, first = g.max_pool(h, 2, return_indices=True, name="down_1")
    h = g.conv(h, 6, kernel_size=3, padding=1)
    h, second = g.max_pool(h, 2, return_indices=True, activation="tanh", name="down_2")
    h = g.max_unpool(h, second, kernel_size=2)
    h = g.max_unpool(g.conv(h, 4, kernel_size=1), first, kernel_size=2)
    return g.conv(h, 2, kernel_size=3, padding=1)


def test_indices_are_values_of_a_graph(rng, tmp_path):
    g = cnncore.Graph()
    g.output(encoder_and_decoder(g, g.input(3)))
    net = fill(g.build(dtype="float64"))
    x = rng.permutation(np.arange(2 * 3 * 8 * 12.0)).reshape(2, 3, 8, 12) / 100
    p = net.parameters
    h = cnncore.relu(cnncore.conv(x, p["conv.w"], p["conv.b"], padding=1))
    h, first = cnncore.max_pool(h, 2, return_indices=True)
    h, second = cnncore.max_pool(cnncore.conv(h, p["conv_2.w"], p["conv_2.b"], padding=1), 2, return_indices=True)
    h = cnncore.max_unpool(cnncore.tanh(h), second, kernel_size=2)
    h = cnncore.max_unpool(cnncore.conv(h, p["conv_3.w"], p["conv_3.b"]), first, kernel_size=2)
    expected = cnncore.conv(h, p["conv_4.w"], p["conv_4.b"], padding=1)
    net.exact = True
    np.testing.assert_allclose(net(x), expected, rtol=1e-12, atol=1e-12)
    check_gradients(net, x)
    assert cnncore.testing.check_gradient(net, x) < 1e-6
    net.save(tmp_path / "net.safetensors")
    again = cnncore.load(tmp_path / "net.safetensors")
    again.exact = True
    assert np.array_equal(again(x), net(x))
    assert again.graph.description() == net.graph.description()
    assert "down_1.indices" in str(net.summary(x.shape))
    assert "down_1" in net.draw(input_shape=x.shape)
    assert {row.path for row in net.profile(x.shape, rounds=1).rows} >= {"down_1", "max_unpool"}


def test_large_batches_with_indices_are_taken_in_pieces(rng, monkeypatch):
    g = cnncore.Graph()
    g.output(encoder_and_decoder(g, g.input(3)))
    net = g.build()
    x = rng.standard_normal((7, 3, 8, 8)).astype("f")
    whole = net(x)
    monkeypatch.setattr(cnncore.nets.plan, "CACHED_BYTES", 1)
    net = g.build()
    assert np.array_equal(net(x), whole)
    assert next(iter(net._plans.values())).pieces == 7


def boxes_net(dtype="float64"):
    g = cnncore.Graph()
    x, boxes, images = g.input(3), g.input(4, rank=0, name="boxes"), g.input_indices("images")
    h = g.conv(x, 4, kernel_size=3, padding=1, activation="tanh")
    h = g.roi_align(h, boxes, images, output_size=2, sampling_ratio=2)
    g.output(g.linear(g.flatten(h), 3))
    return fill(g.build(dtype=dtype))


def test_an_input_of_indices(rng, tmp_path):
    net = boxes_net()
    x = rng.standard_normal((2, 3, 9, 11))
    boxes = np.array([[0.5, 1, 6, 7], [2, 2, 10, 8], [1, 0, 5, 5.5]])
    images = np.array([1, 0, 1], np.int32)
    p = net.parameters
    h = cnncore.tanh(cnncore.conv(x, p["conv.w"], p["conv.b"], padding=1))
    h = cnncore.roi_align(h, boxes, images, output_size=2, sampling_ratio=2)
    expected = cnncore.linear(h.reshape(3, -1), p["linear.w"], p["linear.b"])
    net.exact = True
    np.testing.assert_allclose(net(x, boxes, images), expected, rtol=1e-12, atol=1e-12)
    y, backward = net.with_backward(x, boxes, images)
    assert len(backward(np.ones_like(y))) == 2  # indices have no gradient

    def of_image(x):  # the boxes' gradient is 0 by its nature, not by the numbers
        y, backward = net.with_backward(x, boxes, images)
        return y, lambda dy: backward(dy)[0]

    assert cnncore.testing.check_gradient(of_image, x) < 1e-6
    net.save(tmp_path / "net.safetensors")
    again = cnncore.load(tmp_path / "net.safetensors")
    again.exact = True
    assert np.array_equal(again(x, boxes, images), net(x, boxes, images))
    assert net.profile(x.shape, boxes.shape, (3,), rounds=1).rows
    assert "images" in str(net.summary(x.shape, boxes.shape, (3,)))
    with pytest.raises(DtypeError, match="images: images is float64; expected integers"):
        net(x, boxes, images.astype(float))
    with pytest.raises(ShapeError, match="images: input has shape"):
        net(x, boxes, images[None])
    with pytest.raises(DataError, match="roi_align"):
        net(x, boxes, images + 5)


def test_indices_go_where_indices_belong():
    g = cnncore.Graph()
    x = g.input(2)
    y, indices = g.max_pool(x, 2, return_indices=True)
    way = r"return_indices=True, g\.input_indices\(\) or g\.as_index\(…\)"
    with pytest.raises(GraphError, match=f"max_unpool: indices takes integers; max_pool is real numbers: {way}"):
        g.max_unpool(y, y, kernel_size=2)
    with pytest.raises(GraphError, match=r"relu: x takes real numbers; max_pool\.indices is integers: g\.as_real\(…\)"):
        g.relu(indices)
    with pytest.raises(
        GraphError, match=r"max_pool\.indices are indices returned with a value; g\.output\(g\.as_index"
    ):
        g.output(indices)
    with pytest.raises(SettingError, match="return_indices requests a second result"):
        g.polyphase_pool(x, return_indices=True)
    with pytest.raises(GraphError, match="inputs come first"):
        g.input_indices()


@pytest.mark.parametrize("dtype", ["zz", "float16", "int8", 3, object])
def test_a_dtype_that_no_net_has_is_refused(dtype):
    """What numpy does not know too: np.dtype("float64") equals None."""
    g = cnncore.Graph()
    g.output(g.relu(g.input(channels=1)))
    with pytest.raises(DtypeError, match="float32"):
        g.build(dtype=dtype)
    with pytest.raises(DtypeError, match="float32"):
        g.build().astype(dtype)
