"""Explanations as arrays: against automatic differentiation, by hand, and against each other; figures draw them."""

import sys

import numpy as np
import pytest

import cnncore
from cnncore import GraphError, SettingError, ShapeError, explain
from cnncore.vision import attribution

torch = pytest.importorskip("torch")


def small_net(seed=3, channels=2, classes=4, last="softmax", dtype="float64"):
    g = cnncore.Graph()
    h = g.conv(g.input(channels=channels, name="image"), 5, kernel_size=3, padding=1, activation="relu", name="first")
    h = g.conv(g.max_pool(h, 2), 6, kernel_size=3, padding=1, activation="relu", name="second")
    h = g.linear(g.global_avg_pool(h), classes, name="scores")
    g.output(getattr(g, last)(h) if last else h)
    return g.build(seed=seed, dtype=dtype)


def in_torch(net, x, targets, guided=False):
    """(scores, gradient of x, features, their gradient) by PyTorch."""
    p = {name: torch.from_numpy(array.copy()) for name, array in net.parameters.items()}

    class Rectified(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            context.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(context, dy):
            (x,) = context.saved_tensors
            return (dy.clamp(min=0) if guided else dy) * (x > 0)

    conv = torch.nn.functional.conv2d
    image = torch.from_numpy(x.copy()).requires_grad_()
    h = Rectified.apply(conv(image, p["first.w"], p["first.b"], padding=1))
    h = Rectified.apply(conv(torch.nn.functional.max_pool2d(h, 2), p["second.w"], p["second.b"], padding=1))
    h.retain_grad()
    scores = h.mean((2, 3)) @ p["scores.w"].T + p["scores.b"]
    scores[torch.arange(len(x)), torch.tensor(list(map(int, targets)))].sum().backward()
    return [t.detach().numpy() for t in (scores, image.grad, h, h.grad)]


@pytest.mark.parametrize("last", ["softmax", "log_softmax", "sigmoid", None])
@pytest.mark.parametrize("target", [None, 2, [3, 0, 1]])
def test_gradients_are_those_of_torch(rng, last, target):
    net, x = small_net(last=last), rng.standard_normal((3, 2, 10, 8))
    scores, _, _, _ = in_torch(net, x, [0, 0, 0])
    targets = scores.argmax(axis=1) if target is None else np.broadcast_to(target, 3)
    for guided in (False, True):
        _, dx, features, gradient = in_torch(net, x, targets, guided)
        found = explain.gradients(net, x, ["image", "second/relu", "scores"], target, guided)
        np.testing.assert_allclose(found["image"], dx, atol=1e-14)
        np.testing.assert_allclose(found["second/relu"], gradient, atol=1e-14)
        np.testing.assert_array_equal(found["scores"], np.eye(4)[targets])
        if guided:
            np.testing.assert_array_equal(explain.guided_backpropagation(net, x, target), found["image"])
        else:
            np.testing.assert_array_equal(explain.saliency(net, x, target), np.abs(found["image"]).max(axis=1))
            cam = np.maximum((gradient.mean((2, 3))[:, :, None, None] * features).sum(axis=1), 0)
            for node in (None, "second/relu"):
                np.testing.assert_allclose(explain.grad_cam(net, x, target, node), cam, atol=1e-14)


def test_grad_cam_of_averaged_features_is_the_class_activation_map(rng):
    """Of a net that ends in averages and a linear layer, without the bias, above 0, over the number of positions."""
    net, x = small_net(), rng.standard_normal((3, 2, 12, 12))
    for target in range(4):
        exact = explain.class_activation_map(net, x, target) - net.parameters["scores.b"][target]
        np.testing.assert_allclose(explain.grad_cam(net, x, target), np.maximum(exact, 0) / 36, atol=1e-14)


def test_guided_grad_cam_is_the_product_in_any_layout(rng):
    net, x = small_net(), rng.standard_normal((2, 2, 10, 8))
    found = explain.guided_grad_cam(net, x, 1)
    heats = explain.grad_cam(net, x, 1)
    large = np.stack([cnncore.images.resize(heat, (10, 8)) for heat in heats])[:, None]
    np.testing.assert_array_equal(found, explain.guided_backpropagation(net, x, 1) * large)
    last = net.with_layout("channels_last")
    turned = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    for function in (explain.guided_grad_cam, explain.guided_backpropagation):
        np.testing.assert_array_equal(np.moveaxis(function(last, turned, 1), -1, 1), function(net, x, 1))
    np.testing.assert_array_equal(explain.saliency(last, turned, 1), explain.saliency(net, x, 1))
    np.testing.assert_allclose(explain.occlusion(last, turned, 1), explain.occlusion(net, x, 1), atol=1e-14)


@pytest.mark.parametrize("size, stride", [(3, None), ((2, 5), (3, 2)), ((10, 8), 1)])
def test_occlusion_covers_window_by_window(rng, size, stride):
    net, x = small_net(), rng.standard_normal((2, 2, 10, 8))
    plain = net.with_outputs("scores")
    heights, widths = attribution.window_starts(size, stride, (10, 8))
    found = explain.occlusion(net, x, [3, 1], size, stride, value=0.5)
    assert found.shape == (2, len(heights), len(widths))
    h, w = (size, size) if isinstance(size, int) else size
    for n, target in enumerate([3, 1]):
        for i, top in enumerate(heights):
            for j, left in enumerate(widths):
                covered = x[n : n + 1].copy()
                covered[:, :, top : top + h, left : left + w] = 0.5
                expected = plain(x[n : n + 1])[0, target] - plain(covered)[0, target]
                np.testing.assert_allclose(found[n, i, j], expected, atol=1e-13)


def test_scores_that_are_maps_and_signals(rng):
    """The score of a map is its mean; images may have one or three axes."""
    g = cnncore.Graph()
    g.output(g.conv(g.input(channels=2, rank=1), 3, kernel_size=3, name="maps"))
    net, x = g.build(seed=0, dtype="float64"), rng.standard_normal((2, 2, 9))
    found = attribution.Scores(net, x)
    np.testing.assert_allclose(found.scores, net(x).mean(axis=2), atol=1e-15)
    w = explain.filters(net, "maps")
    reach = np.zeros((3, 2, 9))
    for k in range(7):
        reach[:, :, k : k + 3] += w / 7
    np.testing.assert_allclose(explain.saliency(net, x, 2), np.abs(reach[[2, 2]]).max(axis=1), atol=1e-15)
    assert explain.occlusion(net, x, 0, size=3, stride=2).shape == (2, 4)


def test_several_inputs_and_values_without_influence(rng):
    g = cnncore.Graph()
    a, b = g.input(channels=2, name="a"), g.input(channels=2, name="b")
    unused = g.relu(b, name="beside")
    g.output(g.global_avg_pool(g.multiply(a, a, name="square")), g.global_avg_pool(unused))
    net, x, z = g.build(dtype="float64"), *rng.standard_normal((2, 1, 2, 3, 3))
    found = explain.gradients(net, (x, z), ["a", "b", "beside", "square"], 1)
    np.testing.assert_allclose(found["a"][0, 1], 2 * x[0, 1] / 9, atol=1e-15)
    assert not found["a"][0, 0].any() and not found["b"].any() and found["beside"].shape == z.shape
    for function in (explain.saliency, explain.grad_cam, explain.occlusion, explain.guided_backpropagation):
        with pytest.raises(GraphError, match=r"the net takes 2 inputs \(a, b\)"):
            function(net, x)


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda net, x: explain.saliency(net, x, 4), SettingError, "from 0 to 3, or one for each of 2 images, got 4"),
        (lambda net, x: explain.grad_cam(net, x, 1.5), SettingError, "got 1.5"),
        (lambda net, x: explain.occlusion(net, x, [1, 2, 3]), SettingError, r"got \[1, 2, 3\]"),
        (lambda net, x: explain.occlusion(net, x, size=11), SettingError, "larger than the image"),
        (lambda net, x: explain.occlusion(net, x, size=(2, 2, 2)), SettingError, "3 numbers for 2 spatial axes"),
        (lambda net, x: explain.occlusion(net, x, size=2, stride=0), SettingError, "stride"),
        (lambda net, x: explain.saliency(net, x[:0]), ShapeError, "contains no image"),
        (lambda net, x: explain.grad_cam(net, x, node="scores"), GraphError, "not maps"),
        (lambda net, x: explain.grad_cam(net, x, node="secnod"), GraphError, "did you mean 'second'"),
        (lambda net, x: explain.gradients(net, x, ["frist"]), GraphError, "did you mean 'first'"),
        (lambda net, x: explain.filters(net, "image"), GraphError, "nodes with weights are first, second, scores"),
        (lambda net, x: explain.plot_filters(net, "scores"), ShapeError, "expected"),
        (lambda net, x: explain.plot_map(x[0]), ShapeError, "expected"),
        (lambda net, x: explain.plot_feature_maps(x), ShapeError, "expected"),
        (lambda net, x: explain.figure(net, x), ShapeError, "expected one image"),
    ],
)
def test_errors_say_what_was_expected(call, error, text):
    with pytest.raises(error, match=text):
        call(small_net(), np.zeros((2, 2, 10, 8)))


# ── Figures ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def drawn_arrays(figure):
    """The arrays of all pictures of a figure."""
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def test_figures_show_the_arrays(rng, tmp_path):
    pytest.importorskip("matplotlib")
    net, x = small_net(channels=3, dtype="float32"), rng.standard_normal((1, 3, 16, 16)).astype(np.float32)
    heat = explain.occlusion(net, x, 1)[0]
    drawn = explain.plot_map(heat, x[0], title="evidence")
    over = drawn_arrays(drawn)
    np.testing.assert_allclose(over[1], heat, atol=1e-7)
    assert over[0].shape == (16, 16, 3) and over[0].min() == 0 and over[0].max() == 1
    maps = explain.feature_maps(net, x, ["second"])["second"][0]
    for array, plane in zip(drawn_arrays(explain.plot_feature_maps(maps, most=4)), maps[:4], strict=True):
        np.testing.assert_allclose(array, plane, atol=1e-7)
    planes = drawn_arrays(explain.plot_filters(net, "first", most=3))
    np.testing.assert_allclose(np.stack(planes), explain.filters(net, "first")[0], atol=1e-7)
    figure = explain.figure(net, x, target=1, title="one image")
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["image", "saliency", "guided backpropagation", "Grad-CAM", "occlusion, windows of 4"]
    arrays = dict(zip(titles[1:3], drawn_arrays(figure)[1:3], strict=True))
    np.testing.assert_allclose(arrays["saliency"], explain.saliency(net, x, 1)[0], atol=1e-7)
    drawn.savefig(tmp_path / "figure.png", dpi=20)
    assert cnncore.images.read_image(tmp_path / "figure.png").shape[2] == 3


def test_figures_without_matplotlib_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plot_map: figures need matplotlib .*cnncore\[plot\]"):
        explain.plot_map(np.eye(3))
