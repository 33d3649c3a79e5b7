"""Operators on arrays: what the walks over the registry cannot know. Broadcasting, open extents, constants in a net."""

import numpy as np
import pytest

import cnncore
from cnncore import SettingError, ShapeError
from cnncore.operators.activation.elementwise import Elementwise


def passes(op, *arrays, **settings):
    y, backward = op.with_backward(*arrays, **settings)
    return y, backward(np.ones_like(y))


# ── Arithmetic ─────────────────────────────────────────────────────────────────────────────────────────────────────────

NUMPY = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "power": np.power,
    "remainder": np.remainder,
    "fmod": np.fmod,
}
SHAPES = [((2, 3, 4, 5), (1, 3, 1, 1)), ((2, 3, 4, 5), (2, 1, 4, 1)), ((1, 3, 1), (2, 1, 17)), ((3, 1), (1, 40))]


@pytest.mark.parametrize("name", NUMPY)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_broadcasting(name, shapes, rng):
    """As NumPy does it, in every layout; the gradient of what was repeated is the sum over the copies."""
    op = cnncore.OPS[name]
    x, z = (rng.uniform(0.5, 2, shape).astype("f") for shape in shapes)
    expected = NUMPY[name](x, z)
    cnncore.testing.check_gradient(op, x.astype("d"), z.astype("d"))
    y, (dx, dz) = passes(op, x, z)
    assert y.dtype == np.float32 and y.shape == expected.shape
    assert np.allclose(y, expected, rtol=3e-7, atol=0)
    for layout in (lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1), np.asfortranarray):
        for target in cnncore.cpu.targets():
            with cnncore.cpu.target(target):
                found, (other_dx, other_dz) = passes(op, layout(x), layout(z))
                assert np.allclose(found, y, rtol=3e-7, atol=0)
                assert np.allclose(other_dx, dx, rtol=3e-6) and np.allclose(other_dz, dz, rtol=3e-6)


def test_shapes_that_do_not_broadcast():
    with pytest.raises(ShapeError, match=r"multiply: .*\(2, 3\) and \(2, 4\).*along axis -1 they have 3 and 4"):
        cnncore.multiply(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ShapeError, match="9 dimensions"):
        cnncore.multiply(np.ones((1,) * 9), np.ones(1))


def test_edges_of_arithmetic():
    nan, inf = np.nan, np.inf
    y, (dx, dz) = passes(cnncore.maximum, np.array([nan, 1, 2, inf]), np.array([1, nan, 2, 5.0]))
    assert np.array_equal(y, [nan, nan, 2, inf], equal_nan=True)
    assert np.array_equal(dx, [1, 0, 1, 1]) and np.array_equal(dz, [0, 1, 0, 0])
    y, (dx, dz) = passes(cnncore.power, np.array([0.0, 0.0, -2.0, 4.0]), np.array([2.0, 0.0, 3.0, 0.5]))
    assert np.array_equal(y, [0, 1, -8, 2]) and np.array_equal(dx, [0, 0, 12, 0.25])
    assert np.array_equal(dz[[0, 3]], [0, 2 * np.log(4)])


INF, NAN = np.inf, np.nan
ROOT = 2 / np.sqrt(np.pi)

# Function → x, y, ∂y/∂x where it has a pole, a jump, a limit or a value known by heart.
EDGES = {
    "negative": ([-INF, 0, 2, INF, NAN], [INF, -0.0, -2, -INF, NAN], [-1, -1, -1, -1, -1]),
    "reciprocal": ([0.0, -0.0, -2, INF, NAN], [INF, -INF, -0.5, 0, NAN], [-INF, -INF, -0.25, -0.0, NAN]),
    "sqrt": ([0, 4, INF, -1, NAN], [0, 2, INF, NAN, NAN], [INF, 0.25, 0, NAN, NAN]),
    "log": ([0, 1, INF, -1, NAN], [-INF, 0, INF, NAN, NAN], [INF, 1, 0, NAN, NAN]),
    "erf": ([0, INF, -INF, 30, NAN], [0, 1, -1, 1, NAN], [ROOT, 0, 0, 0, NAN]),
    "floor": ([-0.5, 1, 2.999, INF, NAN], [-1, 1, 2, INF, NAN], [0, 0, 0, 0, 0]),
    "ceil": ([-0.5, 1, 2.001, -INF, NAN], [-0.0, 1, 3, -INF, NAN], [0, 0, 0, 0, 0]),
    "round": ([-0.5, 0.5, 1.5, 2.5, NAN], [-0.0, 0, 2, 2, NAN], [0, 0, 0, 0, 0]),
    "sin": ([0, -0.0, INF, NAN], [0, -0.0, NAN, NAN], [1, 1, NAN, NAN]),
    "cos": ([0, -INF, NAN], [1, NAN, NAN], [-0.0, NAN, NAN]),
    "tan": ([0, INF, NAN], [0, NAN, NAN], [1, NAN, NAN]),
    "asin": ([0, 1, -1, 1.5, NAN], [0, np.pi / 2, -np.pi / 2, NAN, NAN], [1, INF, INF, NAN, NAN]),
    "acos": ([1, -1, 1.5, NAN], [0, np.pi, NAN, NAN], [-INF, -INF, NAN, NAN]),
    "atan": ([0, INF, -INF, NAN], [0, np.pi / 2, -np.pi / 2, NAN], [1, 0, 0, NAN]),
    "sinh": ([0, INF, -INF, NAN], [0, INF, -INF, NAN], [1, INF, INF, NAN]),
    "cosh": ([0, INF, -INF, NAN], [1, INF, INF, NAN], [0, INF, -INF, NAN]),
    "asinh": ([0, INF, -INF, NAN], [0, INF, -INF, NAN], [1, 0, 0, NAN]),
    "acosh": ([1, INF, 0.5, NAN], [0, INF, NAN, NAN], [INF, 0, NAN, NAN]),
    "atanh": ([0, 1, -1, 2, NAN], [0, INF, -INF, NAN, NAN], [1, INF, INF, -1 / 3, NAN]),
}


def test_every_function_has_its_edges_tested():
    functions = {
        name for name, op in cnncore.OPS.items() if op.group == "arrays" and isinstance(op.implementation, Elementwise)
    }
    assert functions == set(EDGES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EDGES)
def test_edges_of_functions(name, dtype):
    x, y, slope = (np.array(values, dtype) for values in EDGES[name])
    found, dx = passes(cnncore.OPS[name], x)
    exactly = {"rtol": 2 * np.finfo(dtype).eps, "atol": 0, "equal_nan": True}
    assert np.allclose(found, y, **exactly) and np.array_equal(np.signbit(found[y == 0]), np.signbit(y[y == 0]))
    assert np.allclose(dx, slope, **exactly)


def test_reductions_at_their_edges():
    x = np.array([[3.0, 0.0, 2.0], [0.0, 0.0, 5.0], [2.0, 2.0, 1.0]])
    y, dx = passes(cnncore.reduce_prod, x, axes=1, keepdims=False)
    assert np.array_equal(y, [0, 0, 4]) and np.array_equal(dx, [[0, 6, 0], [0, 0, 0], [2, 2, 4]])
    y, dx = passes(cnncore.reduce_max, x, axes=1)
    assert np.array_equal(dx, [[1, 0, 0], [0, 0, 1], [1, 0, 0]])  # the first of equal ones
    y, dx = passes(cnncore.reduce_l2, np.zeros((1, 3)), axes=1)
    assert y == 0 and not dx.any()
    y, dx = passes(cnncore.reduce_log_sum_exp, np.array([[-np.inf, -np.inf], [1e5, 1e5]]), axes=1, keepdims=False)
    assert np.array_equal(y, [-np.inf, 1e5 + np.log(2)]) and np.array_equal(dx[1], [0.5, 0.5])
    assert np.isnan(cnncore.reduce_min(np.array([[1.0, np.nan, 0.0]]), axes=1)[0, 0])
    assert cnncore.reduce_sum(np.ones((2, 3)), keepdims=False) == 6
    with pytest.raises(ShapeError, match="nothing to reduce"):
        cnncore.reduce_sum(np.ones((2, 0)), axes=1)


def test_sums_of_many_single_precision_numbers_keep_their_digits():
    x = np.full((1, 1 << 22), 0.1, "f")
    assert cnncore.reduce_mean(x) == np.float32(0.1)


# ── Shapes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def described(name, x, **settings):
    op = cnncore.OPS[name]
    return op.infer((x,) + (None,) * (len(op.arrays) - 1), np.dtype("f"), settings).output


def test_open_extents():
    """What is known of the result when sizes are not."""
    assert described("reshape", (None, 8, None, None), shape=(0, 2, 4, ("axis", 2), ("axis", 3))) == (
        None,
        2,
        4,
        None,
        None,
    )
    assert described("reshape", (None, 8, 3, 3), shape=(0, -1)) == (None, 72)
    assert described("reshape", (None, 8, None, 3), shape=(0, -1)) == (None, None)
    assert described("reshape", (None, 8, None, 3), shape=(0, -1, ("axis", 2))) == (None, 24, None)
    assert described("transpose", (None, 8, None), axes=(0, 2, 1)) == (None, None, 8)
    assert described("squeeze", (None, 1, None), axes=1) == (None, None)
    assert described("expand", (None, 1, None), shape=(4, 1)) == (None, 4, None)
    assert described("tile", (None, 2, 3), repeats=(1, 2, 2)) == (None, 4, 6)
    assert described("reduce_mean", (None, 8, None, None), axes=(2, 3), keepdims=False) == (None, 8)
    assert cnncore.multiply.infer(((None, 8, None), (1, 8, 1)), np.dtype("f"), {}).output == (None, 8, None)


def test_transposed_without_axes(rng):
    x = rng.standard_normal((2, 3, 4))
    y, dx = passes(cnncore.transpose, x)
    assert np.array_equal(y, x.T) and dx.shape == x.shape


def test_more_than_five_axes(rng):
    """Pixels shuffled by hand, as some exporters write it."""
    x = rng.standard_normal((2, 8, 3, 5))
    g = cnncore.Graph()
    h = g.reshape(g.input(channels=8), shape=(0, 2, 2, 2, ("axis", 2), ("axis", 3)))
    h = g.transpose(h, axes=(0, 1, 4, 2, 5, 3))
    g.output(g.reshape(h, shape=(0, 2, 6, 10)))
    net = g.build(dtype="float64")
    assert np.array_equal(net(x), cnncore.pixel_shuffle(x, factor=2))
    y, backward = net.with_backward(x)
    assert np.array_equal(backward(y), x)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("reshape", {"shape": (0, 5)}, "6 values .* do not fit"),
        ("reshape", {"shape": (-1, -1)}, "use -1 once"),
        ("reshape", {"shape": (("axis", 7),)}, "axis 7"),
        ("reshape", {}, "give either shape or the array like"),
        ("transpose", {"axes": (0, 0)}, "twice"),
        ("transpose", {"axes": (0,)}, "name all"),
        ("squeeze", {"axes": 1}, "only an axis of extent 1 can be removed"),
        ("expand", {"shape": (2, 4)}, "only an extent of 1 can be expanded"),
        ("tile", {"repeats": (2,)}, "has 1 entries"),
        ("gather", {"indices": 3}, "index 3 is out of range for axis 1"),
        ("reduce_sum", {"axes": 2}, "axis 2 does not exist"),
    ],
)
def test_settings_that_do_not_fit(name, settings, message):
    with pytest.raises((SettingError, ShapeError), match=f"{name}: .*{message}"):
        cnncore.OPS[name](np.ones((2, 3)), **settings)


# ── Constants ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("trained", [False, True])
def test_constants_of_a_net(trained, tmp_path, rng):
    g = cnncore.Graph()
    x = g.input(channels=3)
    shift = g.constant((1, 3, 1, 1), initial=0.5, trained=trained, name="shift")
    g.output(g.global_avg_pool(g.add(g.multiply(x, shift), g.conv(x, 3, kernel_size=1))))
    net = g.build(dtype="float64")
    owner = net.parameters if trained else net.buffers
    assert np.array_equal(owner["shift.value"], np.full((1, 3, 1, 1), 0.5))
    owner["shift.value"] = rng.standard_normal((1, 3, 1, 1))
    x = rng.standard_normal((2, 3, 4, 5))
    y, backward = net.with_backward(x)
    backward(np.ones_like(y))
    if trained:
        assert np.allclose(backward.gradients["shift.value"].ravel(), x.mean((2, 3)).sum(0))
    else:
        assert "shift.value" not in backward.gradients
    cnncore.testing.check_gradient(net.with_backward, x)
    net.save(tmp_path / "net")
    again = cnncore.load(tmp_path / "net")
    assert np.array_equal(again(x), y)
    rows = {row.path: row for row in net.summary((1, 3, 8, 8)).rows}
    assert rows["shift"].parameters == 3 * trained and rows["shift"].state == 3 * (not trained)
    assert rows["multiply"].receptive_field == (1, 1)  # a constant sees nothing, and hides nothing
    assert str(net.summary((1, 3, 8, 8))) and net.draw()


def test_images_in_pieces_give_the_same(rng):
    """A large batch is cut where nothing meets across images, and not where a batch of numbers does."""
    g = cnncore.Graph()
    x = g.input(channels=4)
    h = g.multiply(x, g.sigmoid(g.global_avg_pool(x, keepdims=True)))
    g.output(g.subtract(h, g.reduce_mean(h, axes=(0,))))
    net, x = g.build(), rng.standard_normal((64, 4, 64, 64)).astype("f")
    gate = 1 / (1 + np.exp(-x.mean((2, 3), keepdims=True)))
    expected = x * gate - (x * gate).mean(0, keepdims=True)
    assert np.allclose(net(x), expected, atol=1e-5)


# ── Many axes ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SIX = np.random.default_rng(6).standard_normal((2, 3, 2, 2, 3, 2))
OF_SIX_AXES = {
    "slice": ((SIX,), {"start": 1, "stop": None, "axis": 4}, SIX[:, :, :, :, 1:]),
    "split": ((SIX,), {"parts": 2, "axis": 2, "part": 1}, SIX[:, :, 1:]),
    "concat": ((SIX, 2 * SIX), {"axis": 3}, np.concatenate((SIX, 2 * SIX), 3)),
    "add": ((SIX, SIX[:1]), {"coefficients": (2.0, 3.0)}, 2 * SIX + 3 * SIX[:1]),
    "expand": ((SIX[:, :1],), {"shape": SIX.shape}, np.broadcast_to(SIX[:, :1], SIX.shape)),
    "reduce_sum": ((SIX,), {"axes": (0, 5), "keepdims": False}, SIX.sum((0, 5))),
    "reduce_max": ((SIX,), {"axes": (1, 4)}, SIX.max((1, 4), keepdims=True)),
    "reduce_l2": ((SIX,), {"axes": (3,)}, np.sqrt((SIX**2).sum(3, keepdims=True))),
    "top_k": ((SIX,), {"k": None, "axis": 4}, -np.sort(-SIX, 4)),
}


@pytest.mark.parametrize("name", OF_SIX_AXES)
def test_six_axes(name):
    """What files make of images on the way, such as the cells of all windows of a volume."""
    arrays, settings, right = OF_SIX_AXES[name]
    np.testing.assert_allclose(cnncore.OPS[name](*arrays, **settings), right, atol=1e-14)
    cnncore.testing.check_gradient(cnncore.OPS[name], *arrays, **settings)
