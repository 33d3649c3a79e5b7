"""Losses: kernels against references at sizes beyond the registry's cases, and where the formula meets its limits."""

import numpy as np
import pytest
from support.cases import as_list
from support.layouts import channels_last, last_axis_with_gaps
from support.torch_functions import compare_with_torch

import cnncore
from cnncore import SettingError

CELLS = [
    (1,),
    (31,),
    (32,),
    (33,),
    (2, 31),
    (3, 45),
    (2, 5, 13),
    (2, 3, 4, 11),
]  # N and spatial extents; blocks hold 32


def both(op, arrays, settings, dy):
    y, backward = op.with_backward(*arrays, **settings)
    return [np.asarray(y), *as_list(backward(dy if y.ndim else np.asarray(0.7, y.dtype)))]


def assert_as_defined(op, arrays, settings, dtype, dy):
    with cnncore.cpu.target("reference"):
        expected = both(op, arrays, settings, dy)
    for target in cnncore.cpu.targets():
        with cnncore.cpu.target(target):
            for layout in (np.ascontiguousarray, channels_last, last_axis_with_gaps):
                x, *rest = arrays
                for e, f in zip(expected, both(op, (layout(x) if x.ndim > 1 else x, *rest), settings, dy), strict=True):
                    assert e.shape == f.shape
                    # p − q cancels: a gradient that is 0 in the reference implementation may be a rounding of dy here.
                    share = 1 if "reduction" in settings else 1 / max(dy.size, 1)
                    scale = max(np.abs(e).max(initial=0), np.abs(dy).max(initial=1) * share)
                    limit = (1e-6 if dtype == np.float32 else 1e-14) * scale
                    assert np.abs(e - f).max(initial=0) <= limit, (target, layout.__name__)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", CELLS)
@pytest.mark.parametrize(
    "settings", [{}, {"label_smoothing": 0.1}, {"reduction": "none"}, {"reduction": "sum"}], ids=str
)
def test_cross_entropy_of_many_cells(rng, shape, dtype, settings):
    for classes in (1, 2, 17, 40):
        x = (3 * rng.standard_normal((shape[0], classes, *shape[1:]))).astype(dtype)
        target = rng.integers(0, classes, shape)
        target[rng.random(shape) < 0.1] = -100
        weight = rng.uniform(0, 2, classes).astype(dtype)
        weight[0] = 0 if classes > 1 else 1
        probabilities = rng.uniform(0, 1, x.shape).astype(dtype)
        dy = rng.standard_normal(shape).astype(dtype)
        for arrays in ((x, target), (x, target, weight), (x, probabilities), (x, probabilities, weight)):
            assert_as_defined(cnncore.softmax_cross_entropy, arrays, settings, dtype, dy)


@pytest.mark.parametrize("target", cnncore.cpu.targets())
@pytest.mark.parametrize("cells", [3, 40])
def test_cross_entropy_at_its_limits(target, cells):
    inf, nan = np.inf, np.nan
    rows = [
        [0, -inf, 1],
        [-inf, -inf, -inf],
        [inf, 0, 0],
        [nan, 0, 0],
        [0, nan, 0],
        [1e30, -1e30, 0],
        [5, 5, 5],
        [-inf, 0, 0],
    ]
    x = np.array([rows[i % len(rows)] for i in range(cells)], np.float32)
    labels = np.zeros(cells, np.int64)
    with cnncore.cpu.target(target):
        loss, backward = cnncore.softmax_cross_entropy.with_backward(x, labels, reduction="none")
        dx = backward(np.ones_like(loss))
    expected = [np.log1p(np.e), nan, nan, nan, nan, 0, np.log(3), inf]
    expected = np.array([expected[i % len(rows)] for i in range(cells)], np.float32)
    assert np.allclose(loss, expected, equal_nan=True, rtol=1e-6)
    wrong = np.isnan(expected)
    assert np.isnan(dx[wrong]).any(axis=1).all() and np.isfinite(dx[~wrong]).all()
    # A cell that is left out counts nothing, whatever it holds.
    with cnncore.cpu.target(target):
        loss, backward = cnncore.softmax_cross_entropy.with_backward(x, np.full(cells, -100))
        assert loss == 0 and not backward(1.0).any()


def test_small_losses_keep_their_digits():
    """p of the right class near 1: the loss is what the other classes have, not what 1 − p has left."""
    x = np.array([[20, 0, 0]], np.float32)
    assert np.isclose(cnncore.softmax_cross_entropy(x, np.array([0])), 2 * np.exp(-20), rtol=1e-6)


def test_backward_of_a_loss_may_run_twice_and_in_any_order(rng):
    x, target = rng.standard_normal((50, 7)), rng.integers(0, 7, 50)
    losses, backward = cnncore.softmax_cross_entropy.with_backward(x, target, reduction="none")
    dy = rng.standard_normal(50)
    first = backward(dy)
    other = backward(2 * dy)
    assert np.array_equal(backward(dy), first) and np.allclose(other, 2 * first)
    assert np.allclose(losses, cnncore.softmax_cross_entropy(x, target, reduction="none"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 31, 4095, 4096, 4097, 100_003])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_squared_error_of_many_values(rng, size, dtype, reduction):
    x, target, dy = rng.standard_normal((3, size)).astype(dtype)
    expected = (x.astype(np.float64) - target) ** 2
    expected = expected if reduction == "none" else expected.sum() / (max(size, 1) if reduction == "mean" else 1)
    for name in cnncore.cpu.targets():
        with cnncore.cpu.target(name):
            for order in (slice(None), slice(None, None, -1)):
                y = cnncore.mean_squared_error(x[order], target[order], reduction=reduction)
                assert np.allclose(
                    y, expected[order] if reduction == "none" else expected, rtol=1e-6 if dtype == np.float32 else 1e-12
                )
    bits = set()
    for threads in (1, 2, 3):
        with cnncore.threads(threads):
            bits.add(np.asarray(cnncore.mean_squared_error(x, target, reduction=reduction)).tobytes())
    assert len(bits) == 1
    assert_as_defined(cnncore.mean_squared_error, (x, target), {"reduction": reduction}, dtype, dy)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_of_nothing_is_zero(reduction):
    x = np.random.default_rng(0).standard_normal((3, 4))
    L, backward = cnncore.softmax_cross_entropy.with_backward(x, np.full(3, -100), reduction=reduction)
    assert L == 0
    np.testing.assert_array_equal(backward(1.0), np.zeros_like(x))
    L, backward = cnncore.softmax_cross_entropy.with_backward(x[:0], np.empty(0, int), reduction=reduction)
    assert L == 0 and backward(1.0).shape == (0, 4)


def test_cross_entropy_of_large_scores():
    x = np.array([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]])
    losses, backward = cnncore.softmax_cross_entropy.with_backward(x, np.array([2, 1]), reduction="none")
    np.testing.assert_array_equal(losses, [2e4, 0.0])
    np.testing.assert_array_equal(backward(np.ones(2)), [[1, 0, -1], [0, 0, 0]])
    L, backward = cnncore.softmax_cross_entropy.with_backward(np.array([[0.0, -np.inf, 0.0]]), np.array([0]))
    assert abs(L - np.log(2)) < 1e-15
    np.testing.assert_array_equal(backward(1.0), [[-0.5, 0, 0.5]])
    assert cnncore.softmax_cross_entropy(np.array([[0.0, -np.inf]]), np.array([1])) == np.inf


def test_cross_entropy_says_what_does_not_fit():
    x = np.zeros((2, 3, 4))
    with pytest.raises(cnncore.SettingError, match="target holds class 3; 3 classes have indices 0 to 2"):
        cnncore.softmax_cross_entropy(x, np.full((2, 4), 3))
    with pytest.raises(cnncore.SettingError, match="target holds class -1"):
        cnncore.softmax_cross_entropy(x, np.full((2, 4), -1))
    cnncore.softmax_cross_entropy(x, np.full((2, 4), -1), ignore_index=-1)
    with pytest.raises(
        cnncore.ShapeError, match=r"class indices of shape \(2, 4\) or probabilities of shape \(2, 3, 4\)"
    ):
        cnncore.softmax_cross_entropy(x, np.zeros((2, 3), int))
    with pytest.raises(cnncore.DtypeError, match="class indices are integers"):
        cnncore.softmax_cross_entropy(x, np.zeros((2, 3, 4), int))
    with pytest.raises(cnncore.DtypeError, match="class indices are integers"):
        cnncore.softmax_cross_entropy(x, np.zeros((2, 4)))
    with pytest.raises(cnncore.ShapeError, match="weight has shape"):
        cnncore.softmax_cross_entropy(x, np.zeros((2, 4), int), np.ones(4))
    with pytest.raises(cnncore.ShapeError, match="dy of shape"):
        cnncore.softmax_cross_entropy.with_backward(x, np.zeros((2, 4), int))[1](np.ones(2))


def test_losses_are_one_number_of_the_inputs_dtype():
    x = np.zeros((2, 3), "float32")
    L, backward = cnncore.softmax_cross_entropy.with_backward(x, np.array([0, 1]))
    assert L.shape == () and L.dtype == np.float32 and backward(1.0).dtype == np.float32
    np.testing.assert_array_equal(backward(np.float32(2)), 2 * backward(1))
    L, backward = cnncore.mean_squared_error.with_backward(x, x + 1)
    assert L == 1 and L.dtype == np.float32 and backward(1.0)[0].dtype == np.float32


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 6), (2, 3, 4, 5)])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_last])
def test_cross_entropy_as_torch(shape, reduction, layout):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape) * 3
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    ignored = target.copy()
    ignored.flat[::3] = 7
    soft = rng.uniform(size=shape)
    soft /= soft.sum(1, keepdims=True)
    weight = rng.uniform(0.5, 2, shape[1])
    for smoothing in (0.0, 0.3, 1.0):
        for v in (None, weight):
            for t, index in ((target, -100), (ignored, 7), (soft, -100)):
                settings = {"label_smoothing": smoothing, "reduction": reduction, "ignore_index": index}
                compare_with_torch(
                    cnncore.softmax_cross_entropy,
                    [x, t] if v is None else [x, t, v],
                    settings,
                    lambda x, t, v=None, s=settings: F.cross_entropy(x, t, v, **s),
                    layout=layout,
                    differentiable=(0, 1),
                )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mean_squared_error_as_torch(reduction):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    compare_with_torch(
        cnncore.mean_squared_error,
        [rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 4, 5))],
        {"reduction": reduction},
        lambda x, t: torch.nn.functional.mse_loss(x, t, reduction=reduction),
    )


def test_binary_cross_entropy_of_sure_answers():
    x = np.array([np.inf, -np.inf, 1e4, -1e4, np.inf, 0.0, np.nan])
    t = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.5, 1.0])
    for dtype in ("f", "d"):
        for target in cnncore.cpu.targets():
            with cnncore.cpu.target(target), np.errstate(all="ignore"):
                y, backward = cnncore.binary_cross_entropy.with_backward(
                    x.astype(dtype), t.astype(dtype), reduction="none"
                )
                np.testing.assert_allclose(y, [0, 0, 0, 0, np.inf, np.log(2), np.nan], rtol=1e-6)
                np.testing.assert_allclose(backward(np.ones_like(y))[0], [0, 0, 0, 0, 1, 0, np.nan], rtol=1e-6)


def test_nll_of_nothing():
    x = np.log(np.full((2, 3), 1 / 3))
    for reduction in ("mean", "sum"):
        y, backward = cnncore.nll_loss.with_backward(x, np.array([-100, -100]), reduction=reduction)
        assert y == 0 and not backward(1.0).any()
    with pytest.raises(SettingError, match="target holds class 3; 3 classes have indices 0 to 2"):
        cnncore.nll_loss(x, np.array([0, 3]))
    x[0, 1] = -np.inf
    assert cnncore.nll_loss(x, np.array([1, 0])) == np.inf
    assert np.isfinite(cnncore.nll_loss(x, np.array([1, 0]), weight=np.array([1.0, 0.0, 1.0])))
