"""Operators written in Python: as the compiled ones where there are such, in graphs, files, pickles, copies and ONNX."""

import copy
import pickle

import numpy as np
import pytest

import cnncore
from cnncore.errors import DtypeError, GradientError, GraphError, ModelFileError, SettingError, ShapeError
from cnncore.operators.registry import forget

SCHEMES = tuple(cnncore.pool.schemes)


class max_twin:
    def forward(x):
        return x.max()

    def backward(x, y, dy):
        return dy * (np.arange(x.size) == x.argmax())


class auto_twin:
    """AutoPool with its learned sharpness."""

    def forward(x, alphas):
        w = np.exp(alphas * x)
        return (w * x).sum(-1, keepdims=True) / w.sum(-1, keepdims=True)

    def backward(x, alphas, y, dy):
        w = np.exp(alphas * x)
        w /= w.sum(-1, keepdims=True)
        moment = (w * x**2).sum(-1, keepdims=True) - y**2
        return dy * w * (1 + alphas * (x - y)), dy * moment


@pytest.fixture(scope="module")
def strategies():
    made = {
        "max": cnncore.pooling_strategy(max_twin),
        "auto": cnncore.pooling_strategy(auto_twin, vectorized=True, learned={"alphas": 1.0}),
    }
    yield made
    for op in made.values():
        forget(op.name)


def both(op, arrays, settings):
    y, backward = op.with_backward(*arrays, **settings)
    extras = y[1:] if isinstance(y, tuple) else ()
    y = y[0] if isinstance(y, tuple) else y
    gradients = backward(np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype))
    return [y, *extras, *(gradients if isinstance(gradients, tuple) else [gradients])]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["max", "auto"])
def test_a_strategy_in_python_is_its_compiled_twin_on_every_scheme(name, scheme, strategies):
    twin, compiled = cnncore.pool.operator(f"{name}_twin", scheme), cnncore.pool.operator(name, scheme)
    compared = 0
    cases = compiled.cases if name == "auto" or scheme not in ("roi", "s3") else compiled.cases[:1]
    for case in cases:
        for rank in case.ranks:
            for dtype, limit in ((np.float64, 1e-13), (np.float32, 2e-6)):
                arrays = case.sample(rank, dtype)
                settings = {k: v for k, v in case.settings.items() if k != "alpha" and k != "return_indices"}
                if name == "auto":  # in the twin they must be given
                    at = len(compiled.implementation.scheme.arrays) + 1
                    arrays = (*arrays[:at], np.full(1, 0.7, dtype), *arrays[at + 1 :])
                for ours, theirs in zip(both(twin, arrays, settings), both(compiled, arrays, settings), strict=True):
                    np.testing.assert_allclose(ours, theirs, rtol=limit, atol=limit)
                    compared += 1
    assert compared >= 6


def net_with(*operators, dtype="float64"):
    g = cnncore.Graph()
    h = g.conv(g.input(channels=2), 3, kernel_size=3)
    for op, settings in operators:
        h = g.apply(op, h, **settings)
    g.output(h)
    return g.build(dtype=dtype)


def scaled_backward(x, a, y, dy, *, power):
    form = (-1, *[1] * (x.ndim - 2))
    return dy * a.reshape(form) * power * x ** (power - 1), (dy * x**power).sum(axis=(0, *range(2, x.ndim)))


@pytest.fixture
def scaled():
    """y = a xᵖ with a learned by channel: arrays, settings, parameters and an ONNX form."""

    def scaled_power(x, a, *, power=3):
        return a.reshape(-1, *[1] * (x.ndim - 2)) * x**power

    return cnncore.operator(
        scaled_power,
        scaled_backward,
        parameters={"a": (("channels",), 0.5)},
        onnx=lambda w, n: w("Pow", n.x, np.float32(n.settings["power"])) * n.by_channel(n.array("a"), "a"),
    )


def test_in_graphs_files_pickles_and_copies(strategies, scaled, tmp_path, rng):
    net = net_with(
        (strategies["max"], {"kernel_size": 2}),
        (scaled, {"power": 2}),
        (cnncore.pool.operator("auto_twin", "adaptive"), {"output_size": 2, "num_parameters": "channels"}),
    )
    x = rng.standard_normal((2, 2, 7, 8))
    assert {"scaled_power.a", "adaptive_auto_twin_pool.alphas"} <= net.parameters.keys()
    net.save(tmp_path / "net.safetensors")
    others = [cnncore.load(tmp_path / "net.safetensors"), pickle.loads(pickle.dumps(net)), copy.deepcopy(net)]
    for other in others:
        np.testing.assert_array_equal(other(x), net(x))
    assert pickle.loads(pickle.dumps(scaled)) is scaled and copy.deepcopy(scaled) is scaled
    before = net.parameters["scaled_power.a"].copy()
    cnncore.train.Trainer(net, loss="mean_squared_error").step(x, np.zeros_like(net(x)))
    assert (net.parameters["scaled_power.a"] != before).all()


def test_the_gradient_of_a_net_with_them(strategies, scaled, rng):
    net = net_with((scaled, {"power": 2}), (cnncore.pool.operator("auto_twin", "adaptive"), {"output_size": 2}))
    assert cnncore.testing.check_gradient(net, rng.standard_normal((1, 2, 5, 5)), method="projection") < 1e-8


def test_a_net_is_saved_after_its_operator_was_defined_again(strategies, tmp_path, rng):
    net = net_with((strategies["max"], {"kernel_size": 2}))
    cnncore.pooling_strategy(max_twin, check=False)  # as a notebook's cell that runs again
    net.save(tmp_path / "net.safetensors")
    x = rng.standard_normal((1, 2, 5, 5))
    np.testing.assert_array_equal(cnncore.load(tmp_path / "net.safetensors")(x), net(x))
    strategies["max"] = cnncore.max_twin_pool


def test_what_is_not_registered_is_said_where_it_is_asked_for(scaled, tmp_path):
    net = net_with((scaled, {}))
    net.save(tmp_path / "net.safetensors")
    pickled = pickle.dumps(net)
    forget("scaled_power")
    with pytest.raises(ModelFileError, match=r"'scaled_power' is written in Python .* import .*test_python_operators"):
        cnncore.load(tmp_path / "net.safetensors")
    with pytest.raises(GraphError, match="'scaled_power' is written in Python and is not registered here"):
        pickle.loads(pickled)


def test_onnx_where_a_composition_is_given(strategies, scaled, rng):
    pytest.importorskip("onnx")
    from support.onnx_runtime import assert_written

    composed = cnncore.pooling_strategy(
        max_twin, name="max_composed", check=False, onnx=lambda w, n, windows, x: windows.max(x)
    )
    net = net_with((composed, {"kernel_size": 2}), (scaled, {}), dtype="float32")
    x = rng.standard_normal((2, 2, 7, 8)).astype("f")
    assert_written(net, [x], cnncore.io.save_onnx(net))
    with pytest.raises(SettingError, match="its strategy is written in Python; say with onnx="):
        cnncore.io.save_onnx(net_with((strategies["max"], {"kernel_size": 2}), dtype="float32"))


# ── Definitions that are wrong ─────────────────────────────────────────────────────────────────────────────────────────


def sine(x):
    return np.sin(x)


def sine_backward(x, y, dy):
    return np.cos(x) * dy


def one(x, y, dy):
    return dy * (x == y)


class half_wrong:
    def forward(x):
        return x.max()

    def backward(x, y, dy):
        return 0.5 * dy * (x == y)


WRONG = {
    "factor": (
        lambda: cnncore.pooling_strategy(half_wrong),
        GradientError,
        r"half_wrong_pool: gradient of x is wrong at x\[",
    ),
    "array for number": (
        lambda: cnncore.pooling_strategy(lambda x: x * 2, one, name="wrong"),
        ShapeError,
        r"wrong: forward returned an array of shape \(\d,\) for a window of shape \(\d,\); expected one number",
    ),
    "not vectorized": (
        lambda: cnncore.pooling_strategy(lambda x: x.max(), one, name="wrong", vectorized=True),
        ShapeError,
        r"expected \(\d,\)",
    ),
    "text": (lambda: cnncore.pooling_strategy(lambda x: "y", one, name="wrong"), DtypeError, "forward returned str"),
    "no backward": (lambda: cnncore.pooling_strategy(sine), SettingError, "needs both forward and backward"),
    "self": (
        lambda: cnncore.pooling_strategy(type("wrong", (), {"forward": lambda self, x: 0, "backward": one})),
        SettingError,
        "take no self",
    ),
    "name taken": (lambda: cnncore.pooling_strategy(sine, one, name="max"), SettingError, "'max_pool' already"),
    "name of a module": (lambda: cnncore.operator(sine, sine_backward, name="train"), SettingError, "something else"),
    "no name": (lambda: cnncore.operator(lambda x: x, sine_backward), SettingError, "give name="),
    "setting of windows": (
        lambda: cnncore.pooling_strategy(lambda x, *, stride=1: x.max(), one, name="wrong"),
        SettingError,
        "'stride' is a setting of windows",
    ),
    "arguments": (lambda: cnncore.operator(sine, lambda x: x, name="wrong"), SettingError, r"expected \(x, y, dy\)"),
    "default": (lambda: cnncore.operator(lambda x, a=1: x, one, name="wrong"), SettingError, r"\*, a=1"),
    "shape": (
        lambda: cnncore.operator(lambda x: x.sum(1), sine_backward, name="wrong"),
        ShapeError,
        "say the shape of y with infer=",
    ),
    "inferred": (
        lambda: cnncore.operator(sine, sine_backward, name="wrong", infer=lambda x: "x"),
        ShapeError,
        "infer returned 'x'",
    ),
    "two gradients": (
        lambda: cnncore.operator(sine, lambda x, y, dy: (dy, dy), name="wrong"),
        ShapeError,
        "one gradient for each of x; it returned 2 values",
    ),
    "sign": (
        lambda: cnncore.operator(sine, lambda x, y, dy: -np.cos(x) * dy, name="wrong"),
        GradientError,
        r"wrong: gradient of x is wrong at x\[.*the sign is wrong",
    ),
    "in place": (lambda: cnncore.operator(lambda x: np.sin(x, out=x), one, name="wrong"), ValueError, "read-only"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_definition_is_refused_and_not_registered(what):
    define, error, text = WRONG[what]
    with pytest.raises(error, match=text):
        define()
    assert not any(hasattr(cnncore, name) for name in ("wrong", "wrong_pool", "half_wrong_pool"))


def test_open_extents_that_infer_cannot_take_are_named():
    halved = cnncore.operator(
        lambda x: x[:, :, ::2],
        lambda x, y, dy: np.stack([dy, 0 * dy], 3).reshape(x.shape),
        name="halved",
        infer=lambda x: (*x[:2], -(-x[2] // 2)),
        sample=lambda rng: [rng.standard_normal((1, 2, 6))],
    )
    g = cnncore.Graph()
    with pytest.raises(ShapeError, match=r"infer failed with open extents"):
        g.apply(halved, g.input(channels=1, rank=1))
    g = cnncore.Graph()
    assert g.halved(g.input(channels=1, size=(9,))).shape == (None, 1, 5)


def test_as_decorators():
    @cnncore.pooling_strategy(backward=one)
    def least(x):
        """The smallest cell.

        And more."""
        return x.min()

    @cnncore.operator(backward=lambda x, y, dy: 2 * dy)
    def doubled(x):
        return 2 * x

    assert least.summary == "The smallest cell." and least.name == "least_pool"
    assert "Parameters" in least.__doc__ and doubled(np.ones(3)).tolist() == [2, 2, 2]
    assert least.origin == __name__
