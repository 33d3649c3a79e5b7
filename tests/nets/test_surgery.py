"""New nets from old ones: other ends, fresh classifiers, classifiers slid over images and back."""

import numpy as np
import pytest

import cnncore
from cnncore import GraphError, ShapeError, explain, models


def as_tuple(y):
    return y if isinstance(y, tuple) else (y,)


# ── Fully convolutional ────────────────────────────────────────────────────────────────────────────────────────────────

FLATTENING = {
    "lenet": (lambda: models.lenet(dtype="float64"), (2, 1, 32, 32), (1, 1, 40, 48), 4),
    "vgg": (lambda: models.vgg("A", classes=5, size=32), (1, 3, 32, 32), (1, 3, 64, 96), 32),
}


@pytest.mark.parametrize("name", FLATTENING)
def test_a_slid_classifier_gives_every_window_its_scores(rng, name):
    make, shape, larger, stride = FLATTENING[name]
    net = make()
    near = {"rtol": 1e-10, "atol": 1e-12} if net.dtype == np.float64 else {"rtol": 1e-4, "atol": 1e-5}
    slid = net.to_fully_convolutional()
    x = rng.standard_normal(shape).astype(net.dtype)
    assert slid(x).shape == (*net(x).shape, 1, 1)
    np.testing.assert_allclose(slid(x)[:, :, 0, 0], net(x), **near)
    image = rng.standard_normal(larger).astype(net.dtype)
    scores = slid(image)
    assert scores.shape == (1, net(x).shape[1], *((extent - 32) // stride + 1 for extent in larger[2:]))
    if name == "lenet":  # without padding, so that a window does not know that it is one
        for i, j in ((0, 0), (1, 3), (2, 4)):
            window = image[:, :, stride * i : stride * i + 32, stride * j : stride * j + 32]
            np.testing.assert_allclose(scores[:, :, i, j], net(window), **near)
        averaged = net.to_fully_convolutional(average=True)
        np.testing.assert_allclose(averaged(image), scores.mean(axis=(2, 3)), **near)
        np.testing.assert_allclose(explain.class_maps(net, image), scores, **near)


@pytest.mark.parametrize(
    "make, size",
    [
        (lambda: models.network_in_network(dtype="float64"), (37, 40)),
        (lambda: models.resnet18(classes=4, dtype="float64"), (64, 70)),
        (lambda: models.googlenet(classes=4, dtype="float64"), (64, 70)),
        (lambda: models.mobilenet_v2(classes=4, alpha=0.35, dtype="float64"), (64, 70)),
    ],
    ids=["network_in_network", "resnet18", "googlenet", "mobilenet_v2"],
)
def test_averaging_heads_give_maps_whose_mean_is_the_score(rng, make, size):
    net = make()
    x = rng.standard_normal((2, 3, *size))
    maps = net.to_fully_convolutional()(x)
    assert maps.ndim == 4 and min(maps.shape[2:]) > 1
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), net(x), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(net.to_fully_convolutional(average=True)(x), net(x), rtol=1e-10, atol=1e-12)
    chosen = explain.class_activation_map(net, x, 1)
    np.testing.assert_allclose(maps[:, 1], chosen, rtol=1e-9, atol=1e-12)


def mixed_head(operators, size=None):
    """A small net with a pooling head and layers after it, one letter each."""
    g = cnncore.Graph()
    h = g.conv(g.input(2, size=size), 6, 3, activation="relu")
    for operator in operators:
        h = operator(g, h)
    g.output(h)
    net = g.build(dtype="float64")
    for index, array in enumerate([*net.parameters.values(), *net.buffers.values()]):
        array += np.random.default_rng(index).uniform(0.1, 0.5, array.shape)
    return net


HEADS = {
    "activation after the average": (
        lambda g, h: g.global_avg_pool(h),
        lambda g, h: g.linear(h, 5, activation="tanh"),
        lambda g, h: g.linear(g.dropout(h), 3),
    ),
    "maximum": (lambda g, h: g.global_max_pool(h), lambda g, h: g.linear(h, 3)),
    "maximum that keeps the axes": (
        lambda g, h: g.global_max_pool(h, keepdims=True),
        lambda g, h: g.linear(g.flatten(h), 3),
    ),
    "learned": (lambda g, h: g.global_gem_pool(h), lambda g, h: g.softmax(g.linear(h, 3), axis=-1)),
    "flattened": (
        lambda g, h: g.linear(g.flatten(g.dropout(h)), 4, bias=False),
        lambda g, h: g.batch_norm(h),
        lambda g, h: g.concat(g.prelu(h), g.linear(h, 2, activation="sigmoid")),
        lambda g, h: g.glu(h),
        lambda g, h: g.add(g.linear(h, 3, name="l1"), g.linear(h, 3, name="l2")),
        lambda g, h: g.log_softmax(h),
    ),
    "activation between flatten and linear": (
        lambda g, h: g.elu(g.flatten(h)),
        lambda g, h: g.linear(h, 4),
        lambda g, h: g.linear(g.maxout(h), 3),
    ),
    "reshaped, as in files of other programs": (lambda g, h: g.linear(g.reshape(h, shape=(0, -1)), 3),),
    "products of features": (
        lambda g, h: g.linear(g.flatten(h), 4, name="l0"),
        lambda g, h: g.multiply(h, g.sigmoid(h)),
        lambda g, h: g.maximum(
            g.linear(h, 3, name="l1"), g.subtract(g.linear(h, 3, name="l2"), g.constant((1,), initial=0.5))
        ),
    ),
    "flattened twice": (lambda g, h: g.flatten(g.flatten(h)), lambda g, h: g.linear(h, 3)),
    "classifier that keeps the axes": (
        lambda g, h: g.global_avg_pool(h, keepdims=True),
        lambda g, h: g.flatten(g.conv(h, 3, 1)),
    ),
    "classifier that keeps them to the end": (
        lambda g, h: g.global_avg_pool(h, keepdims=True),
        lambda g, h: g.conv(h, 3, 1),
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_with_other_layers(rng, name):
    """With the size of the training: one window there, and each window's own result on a larger image."""
    net = mixed_head(HEADS[name], size=None if "average" in name or "max" in name or name == "learned" else 6)
    slid = net.to_fully_convolutional(size=6)
    x = rng.standard_normal((2, 2, 6, 6))
    y = slid(x)
    expected = net(x)
    np.testing.assert_allclose(y.mean(axis=(2, 3)).reshape(expected.shape), expected, rtol=1e-10, atol=1e-12)
    averaged = net.to_fully_convolutional(size=6, average=True)
    np.testing.assert_allclose(averaged(x), expected, rtol=1e-10, atol=1e-12)
    image = rng.standard_normal((1, 2, 7, 8))
    if not name.startswith("classifier"):  # those change places with the average
        assert y.shape[2:] == (1, 1) and slid(image).shape == (1, y.shape[1], 2, 3)
        np.testing.assert_allclose(slid(image)[:, :, 1, 2], net(image[:, :, 1:7, 2:8]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rng, rank):
    g = cnncore.Graph()
    g.output(g.linear(g.flatten(g.conv(g.input(2, size=(5,) * rank), 3, 2)), 4))
    net = g.build(dtype="float64")
    x = rng.standard_normal((2, 2, *(5,) * rank))
    slid = net.to_fully_convolutional()
    np.testing.assert_allclose(slid(x).reshape(2, 4), net(x), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(slid.to_fully_connected(size=5)(x), net(x), rtol=1e-11, atol=1e-13)


def test_auxiliary_classifiers_are_slid_as_well(rng):
    net = models.googlenet(classes=3, aux=True, size=80, dtype="float64")
    x = rng.standard_normal((1, 3, 80, 80))
    slid = net.to_fully_convolutional()
    for y, maps in zip(net(x), slid(x), strict=True):
        np.testing.assert_allclose(maps.mean(axis=(2, 3)), y, rtol=1e-9, atol=1e-12)
    shapes = [maps.shape for maps in slid(rng.standard_normal((1, 3, 144, 96)))]
    # 9×6 cells after inception_4; 5×5/3 windows of them, and one pooling more before the last map
    assert shapes == [(1, 3, 4, 3), (1, 3, 2, 1), (1, 3, 2, 1)]


def test_a_slid_net_can_be_trained_saved_and_loaded(rng, tmp_path):
    net = models.lenet(dtype="float64").to_fully_convolutional()
    x = rng.standard_normal((1, 1, 36, 36))
    y, backward = net.with_backward(x)
    assert backward(y).shape == x.shape and len(backward.gradients) == len(net.parameters)
    net.save(tmp_path / "slid.model")
    np.testing.assert_array_equal(cnncore.load(tmp_path / "slid.model")(x), y)


def test_squeeze_and_excitation_stays(rng):
    """An average whose vector is multiplied to an image is no head, even where nothing but a head follows."""
    g = cnncore.Graph()
    h = g.conv(g.input(2), 6, 3, activation="relu")
    weights = g.conv(g.conv(g.global_avg_pool(h, keepdims=True), 3, 1, activation="relu"), 6, 1, activation="sigmoid")
    h = g.conv(g.multiply(h, weights), 5, 1)
    g.output(g.linear(g.flatten(g.global_avg_pool(h, keepdims=True)), 4))
    net = g.build(dtype="float64")
    x = rng.standard_normal((2, 2, 9, 7))
    maps = net.to_fully_convolutional()(x)
    assert maps.shape == (2, 4, 7, 5)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), net(x), rtol=1e-10, atol=1e-12)


def test_what_cannot_be_slid():
    def net(*operators, size=6):
        return mixed_head(operators, size)

    for make, message in (
        (lambda: models.spp_net(classes=2, seed=None), "pyramid .* takes images of any size already"),
        (
            lambda: net(lambda g, h: g.linear(g.layer_norm(g.flatten(h), name="ln"), 2)),
            "ln .*does not act on each position of a map",
        ),
        (lambda: net(lambda g, h: g.linear(g.batch_norm(g.flatten(h), name="bn"), 2)), "bn .*works on single features"),
        (lambda: net(lambda g, h: g.softmax(g.linear(g.flatten(h), 2), axis=0)), "works along axis 0"),
        (lambda: net(lambda g, h: g.flatten(h)), "there is no classifier to slide"),
        (lambda: net(*HEADS["activation after the average"], size=None), r"to_fully_convolutional\(size=…\)"),
    ):
        with pytest.raises(GraphError, match=message):
            make().to_fully_convolutional()
    with pytest.raises(ShapeError, match="a size that fits"):
        models.lenet().to_fully_convolutional(size=28)


# ── Fully connected ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", FLATTENING)
def test_there_and_back(rng, name):
    make, shape, _, _ = FLATTENING[name]
    net = make()
    near = {"rtol": 1e-10, "atol": 1e-12} if net.dtype == np.float64 else {"rtol": 1e-4, "atol": 1e-5}
    back = net.to_fully_convolutional().to_fully_connected(size=32)
    x = rng.standard_normal(shape).astype(net.dtype)
    np.testing.assert_allclose(back(x), net(x), **near)
    linear = [node.path for node in net.graph.nodes if node.op.name == "linear"]
    assert [node.path for node in back.graph.nodes if node.op.name == "linear"][-len(linear) :] == linear
    for path in linear:
        np.testing.assert_array_equal(back.parameters[f"{path}.w"], net.parameters[f"{path}.w"])


def test_joins_of_fully_connected_layers(rng):
    g = cnncore.Graph()
    h = g.conv(g.input(2), 4, 3, activation="relu")
    whole = g.conv(h, 5, 4, activation="tanh", name="whole")
    h = g.concat(g.conv(whole, 2, 1, name="left"), g.batch_norm(g.conv(whole, 3, 1, name="right")))
    g.output(g.global_avg_pool(g.conv(g.dropout(h), 6, 1, groups=1, name="scores")))
    net = g.build(dtype="float64")
    x = rng.standard_normal((2, 2, 6, 6))
    made = net.to_fully_connected(size=6)
    np.testing.assert_allclose(made(x), net(x), rtol=1e-11, atol=1e-13)
    kinds = {node.path: node.op.name for node in made.graph.nodes}
    assert kinds["conv"] == "conv" and {kinds[name] for name in ("whole", "left", "right", "scores")} == {"linear"}
    assert "global_avg_pool" not in kinds.values()


@pytest.mark.parametrize(
    "make, size",
    [
        (lambda: models.resnet18(classes=4, dtype="float64").to_fully_convolutional(average=True), None),
        (lambda: models.googlenet(classes=4, dtype="float64").to_fully_convolutional(average=True), 64),
        (lambda: models.small_inception(dtype="float64"), None),
    ],
    ids=["resnet18", "googlenet", "small_inception"],
)
def test_maps_that_are_averaged_become_linear_layers_of_averages(rng, make, size):
    net = make()
    made = net.to_fully_connected(size)
    assert {node.op.name for node in made.graph.nodes if node.path == "classifier"} == {"linear"}
    assert made.parameters["classifier.w"].ndim == 2
    for extents in ((64, 64), (40, 52))[: 1 if size else 2]:
        x = rng.standard_normal((2, net.graph.inputs[0].channels, *extents))
        np.testing.assert_allclose(made(x), net(x), rtol=1e-9, atol=1e-11)


def test_an_average_that_others_need_as_a_map_stays(rng):
    g = cnncore.Graph()
    maps = g.conv(g.input(2), 3, 1, name="maps")
    g.output(g.global_avg_pool(maps), g.global_max_pool(maps))
    with pytest.raises(GraphError, match="give it: to_fully_connected"):
        g.build().to_fully_connected()


def test_what_is_never_one_vector(rng):
    net = models.network_in_network(seed=None)  # ReLU stands between its last convolution and the average
    with pytest.raises(GraphError, match="give it: to_fully_connected"):
        net.to_fully_connected()
    with pytest.raises(GraphError, match="nothing to convert"):
        net.to_fully_connected(size=32)


# ── Other ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_other_outputs(rng):
    net = models.googlenet(classes=3, aux=True, size=80)
    x = rng.standard_normal((1, 3, 80, 80), np.float32)
    alone = net.with_outputs("classifier")
    np.testing.assert_array_equal(alone(x), net(x)[0])
    assert not any(name.startswith("aux") for name in alone.parameters)
    features = net.with_outputs("inception_3b/concat", "average")
    kept = net.values(x, names=["inception_3b/concat", "average"])
    for y, name in zip(features(x), kept, strict=True):
        np.testing.assert_array_equal(y, kept[name])
    alone.parameters["conv_1.b"][0] = 5
    assert net.parameters["conv_1.b"][0] == 0, "the new net has arrays of its own"
    with pytest.raises(GraphError, match="did you mean 'average'"):
        net.with_outputs("averge")
    with pytest.raises(GraphError, match="no name given"):
        net.with_outputs()


def test_a_net_of_two_inputs_loses_what_nothing_needs(rng):
    g = cnncore.Graph()
    a, b = g.input(2, name="a"), g.input(2, name="b")
    left, right = g.relu(a, name="left"), g.relu(b, name="right")
    g.output(g.add(left, right))
    x = rng.standard_normal((1, 2, 3, 3), np.float32)
    np.testing.assert_array_equal(g.build().with_outputs("right")(x), np.maximum(x, 0))


def test_indices_go_along_with_the_node_that_returns_them(rng):
    g = cnncore.Graph()
    x, images = g.input(2), g.input_indices("images")
    boxes = g.input(4, rank=0, name="boxes")
    h, winners = g.max_pool(g.conv(x, 3, 3, padding=1), 2, return_indices=True, name="winners")
    back = g.max_unpool(g.relu(h), winners, 2, name="back")
    g.output(
        g.roi_align(back, boxes, images, output_size=2, name="rois"), g.linear(g.global_avg_pool(h), 4, name="scores")
    )
    net = g.build()
    x = rng.standard_normal((1, 2, 6, 6), np.float32)
    made = net.with_outputs("back")
    assert [row.name for row in made.graph.inputs] == ["input"]
    np.testing.assert_array_equal(made(x), net.values(x, *sample_boxes(), names=["back"])["back"])
    assert net.with_outputs("scores").with_classes(3)(x).shape == (1, 3)


def sample_boxes():
    """Arrays for two inputs: images, boxes."""
    return np.zeros(1, np.int64), np.array([[0, 0, 3, 3]], np.float32)


@pytest.mark.parametrize(
    "make, shape",
    [
        (models.lenet, (2, 1, 32, 32)),
        (models.network_in_network, (2, 3, 16, 16)),
        (lambda: models.googlenet(aux=True, size=80), (1, 3, 80, 80)),
    ],
    ids=["lenet", "network_in_network", "googlenet"],
)
def test_fresh_classifiers(rng, make, shape):
    net = make()
    net.metadata = {"classes": ["a", "b"], "mean": [0.5]}
    made = net.with_classes(4, seed=9)
    x = rng.standard_normal(shape, np.float32)
    assert {y.shape[1] for y in as_tuple(made(x))} == {4} and made.metadata == {"mean": [0.5]}
    changed = [name for name, array in made.parameters.items() if array.shape != net.parameters[name].shape]
    assert {name.split("/")[-1].split(".")[0] for name in changed} <= {"classifier", "output", "cccp_2"}
    for name, array in made.parameters.items():
        if name not in changed:
            np.testing.assert_array_equal(array, net.parameters[name])
    drawn = next(name for name in changed if name.endswith(".w"))
    assert made.parameters[drawn].std() > 0
    np.testing.assert_array_equal(net.with_classes(4, seed=9).parameters[drawn], made.parameters[drawn])
    assert not np.array_equal(net.with_classes(4, seed=8).parameters[drawn], made.parameters[drawn])


def test_a_fresh_classifier_can_be_trained_alone(rng):
    """It is then a linear classifier on features that stay what they are, for all batch normalisation and dropout before it."""
    net = models.mobilenet_v2(classes=4, alpha=0.35, dtype="float64")
    for name, array in net.buffers.items():
        net.buffers[name] = rng.uniform(0.5, 1.5, array.shape)
    x, labels = rng.standard_normal((6, 3, 32, 32)), np.arange(6) % 2
    made = net.with_classes(2, freeze=True)
    before = {name: array.copy() for name, array in {**made.parameters, **made.buffers}.items()}
    features, w, b = net.with_outputs("average")(x), before["classifier.w"], before["classifier.b"]
    trainer = cnncore.train.Trainer(made, cnncore.train.SGD(0.1))
    description = {row["name"]: row["settings"] for row in made.graph.description()["nodes"]}
    assert description["dropout"]["training"] is False and description["first_norm"]["training"] is False
    for _ in range(2):
        y, loss_backward = cnncore.softmax_cross_entropy.with_backward(features @ w.T + b, labels)
        assert trainer.step(x, labels) == pytest.approx(float(y), rel=1e-10)
        dy = loss_backward(np.ones(()))
        w, b = w - 0.1 * dy.T @ features, b - 0.1 * dy.sum(axis=0)
    np.testing.assert_allclose(made.parameters["classifier.w"], w, rtol=1e-9, atol=1e-12)
    for name, array in {**made.parameters, **made.buffers}.items():
        assert name.startswith("classifier") or np.array_equal(array, before[name]), name


def test_no_classifier():
    g = cnncore.Graph()
    x = g.input(3)
    g.output(g.add(g.relu(x), g.tanh(x), name="sum"))
    with pytest.raises(GraphError, match="no classifier leads to sum"):
        g.build().with_classes(2)


def test_frozen_parameters_and_modes_go_along():
    net = models.lenet()
    net.frozen, net.exact, net.steps = {"c1.w", "f6.w"}, True, 7
    made = net.with_outputs("s4")
    assert (made.frozen, made.exact, made.steps) == ({"c1.w"}, True, 7)


def test_with_frozen_parameters_stay_and_their_normalisation_runs_as_outside_training(rng):
    g = cnncore.Graph()
    x = g.input(channels=1)
    h = g.relu(g.batch_norm(g.conv(x, 4, kernel_size=3, name="a"), name="a_norm"))
    g.output(g.linear(g.global_avg_pool(g.relu(g.batch_norm(g.conv(h, 4, kernel_size=3, name="b"), name="b_norm"))), 2))
    net = g.build(seed=0)
    first = [name for name in net.parameters if name.startswith("a")]
    made = net.with_frozen(first)
    before = {name: array.copy() for name, array in {**made.parameters, **made.buffers}.items()}
    images, labels = rng.normal(2, 3, (8, 1, 9, 9)).astype(np.float32), np.arange(8) % 2
    cnncore.train.Trainer(made, cnncore.train.SGD(0.1)).step(images, labels)
    after = {**made.parameters, **made.buffers}
    assert {name for name in after if np.array_equal(after[name], before[name])} == {
        name for name in after if name.startswith("a")
    }
    assert made.frozen == set(first) and not net.frozen
    part = made.with_outputs("a_norm")
    folded = part(images, training=False)  # into the convolution's weights, which rounds differently
    np.testing.assert_allclose(part(images, training=True), folded, atol=1e-5)
    assert np.abs(net.with_outputs("a_norm")(images, training=True) - folded).max() > 0.1
    with pytest.raises(GraphError, match="there is no parameter 'nothing'"):
        net.with_frozen(["nothing"])
