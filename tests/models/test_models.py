"""Networks: the counts of their papers' tables, and that they run."""

import numpy as np
import pytest
from support.gradients import check_gradients
from support.processes import TRAINING_TARGET

import cnncore
from cnncore import models
from cnncore.models.googlenet import MODULES

# Szegedy et al. 2015, table 1. Weights follow from the table's channels: C·c1 + C·r3 + 9·r3·c3 + C·r5 + 25·r5·c5 + C·cp; what
# the table prints beside them (in units of 1024 weights and in millions of multiply-adds) is up to 7 % off.
TABLE_1 = {  # input channels, image, weights, printed weights, printed multiply-adds
    "inception_3a": (192, 28, 163_328, 159, 128),
    "inception_3b": (256, 28, 388_096, 380, 304),
    "inception_4a": (480, 14, 375_552, 364, 73),
    "inception_4b": (512, 14, 448_512, 437, 88),
    "inception_4c": (512, 14, 509_440, 463, 100),
    "inception_4d": (512, 14, 604_672, 580, 119),
    "inception_4e": (528, 14, 867_328, 840, 170),
    "inception_5a": (832, 7, 1_042_432, 1072, 54),
    "inception_5b": (832, 7, 1_442_816, 1388, 71),
}


@pytest.fixture(scope="module")
def googlenet():
    return models.googlenet()


def test_googlenet_has_the_counts_of_table_1(googlenet):
    rows = googlenet.summary((1, 3, 224, 224)).rows
    weights = {name: w.size for name, w in googlenet.parameters.items() if name.endswith(".w")}
    assert list(MODULES) == list(TABLE_1)
    for module, (C, size, expected, kilo, millions) in TABLE_1.items():
        c1, r3, c3, r5, c5, cp = MODULES[module]
        assert expected == C * (c1 + r3 + r5 + cp) + 9 * r3 * c3 + 25 * r5 * c5
        assert sum(n for name, n in weights.items() if name.startswith(f"{module}/")) == expected, module
        adds = sum(r.multiply_adds for r in rows if r.path.startswith(f"{module}/"))
        assert adds == size**2 * expected, module
        assert expected / 1024 == pytest.approx(kilo, rel=0.075) and adds / 1e6 == pytest.approx(millions, rel=0.06)
    assert weights["conv_2_reduce.w"] + weights["conv_2.w"] == 112 * 1024
    # 64·3·7·7; the table prints 2.7K and 34M here, which no 7×7 convolution of a color image can have
    assert weights["conv_1.w"] == 9408
    convolutions = sum(size for name, size in weights.items() if name != "classifier.w")
    assert convolutions == 5_966_272 and weights["classifier.w"] == 1000 * 1024  # 1000K in the table
    summary = googlenet.summary((1, 3, 224, 224))
    # 5,966,272 and 7,280 biases are 5.97 M for the convolutions; 1,025,000 for the classifier
    assert summary.parameters == 5_966_272 + 7_280 + 1_025_000 and summary.state == 0
    assert summary.multiply_adds == 1_582_671_872  # 1.5 G in the text


def test_googlenet_has_the_shapes_of_table_1(googlenet):
    shapes = {r.path: r.output[1:] for r in googlenet.summary((1, 3, 224, 224)).rows}
    expected = {
        "conv_1": (64, 112, 112),
        "pool_1": (64, 56, 56),
        "conv_2": (192, 56, 56),
        "pool_2": (192, 28, 28),
        "inception_3a/concat": (256, 28, 28),
        "inception_3b/concat": (480, 28, 28),
        "pool_3": (480, 14, 14),
        "inception_4a/concat": (512, 14, 14),
        "inception_4b/concat": (512, 14, 14),
        "inception_4c/concat": (512, 14, 14),
        "inception_4d/concat": (528, 14, 14),
        "inception_4e/concat": (832, 14, 14),
        "pool_4": (832, 7, 7),
        "inception_5a/concat": (832, 7, 7),
        "inception_5b/concat": (1024, 7, 7),
        "average": (1024,),
        "classifier": (1000,),
    }
    assert {path: shapes[path] for path in expected} == expected


def test_googlenet_runs_and_trains_on_any_size(googlenet, rng):
    for size in ((64, 64), (75, 90)):
        x = rng.standard_normal((1, 3, *size), np.float32)
        y, backward = googlenet.with_backward(x, training=True)
        assert y.shape == (1, 1000) and np.isfinite(y).all()
        assert np.isfinite(backward(np.ones_like(y))).all() and len(backward.gradients) == len(googlenet.parameters)
        assert np.array_equal(googlenet(x), googlenet(x))


def test_auxiliary_classifiers(rng):
    net = models.googlenet(classes=7, aux=True)
    x = rng.standard_normal((1, 3, 224, 224), np.float32)
    ys, backward = net.with_backward(x, training=True, needs_gradient=False, repeatable=False)
    assert [y.shape for y in ys] == [(1, 7)] * 3
    backward(*(np.full_like(y, weight) for y, weight in zip(ys, (1, 0.3, 0.3), strict=True)))
    assert all(gradient.any() for name, gradient in backward.gradients.items() if name.endswith("classifier.b"))


def test_an_inception_module_is_its_four_branches(rng):
    g = cnncore.Graph()
    g.output(models.inception_module(g, g.input(3), 2, 3, 4, 1, 2, 3, name="m"))
    net = g.build(dtype="float64")
    x = rng.standard_normal((2, 3, 6, 7))

    def conv(x, name, padding=0):
        return cnncore.relu(
            cnncore.conv(x, net.parameters[f"m/{name}.w"], net.parameters[f"m/{name}.b"], padding=padding)
        )

    branches = [
        conv(x, "conv1x1"),
        conv(conv(x, "conv3x3_reduce"), "conv3x3", 1),
        conv(conv(x, "conv5x5_reduce"), "conv5x5", 2),
        conv(cnncore.max_pool(x, 3, stride=1, padding=1), "pool_project"),
    ]
    assert net(x).shape == (2, 11, 6, 7)
    np.testing.assert_allclose(net(x), np.concatenate(branches, axis=1), rtol=1e-12, atol=1e-13)


def test_small_inception(rng):
    net = models.small_inception(seed=1)
    summary = net.summary((1, 1, 28, 28))
    assert 60_000 <= summary.parameters <= 90_000 and summary.multiply_adds < 5e6
    assert summary.parameters == sum(a.size for a in net.parameters.values())
    assert summary.state == 0, "it is the same function in training and after it"
    for size in ((2, 2), (28, 28), (40, 52), (200, 90)):
        x = rng.standard_normal((1, 1, *size), np.float32)
        scores = net(x)
        class_map = net.values(x, names=["classifier"])["classifier"]
        assert scores.shape == (1, 10) and class_map.shape == (1, 10, *(-(-(n // 2) // 4) for n in size))
        np.testing.assert_array_equal(scores, net(x, training=True))
        np.testing.assert_allclose(scores, class_map.mean(axis=(2, 3)), rtol=1e-4, atol=1e-5)


def test_small_inception_learns(rng):
    net = models.small_inception(classes=2)
    x = rng.standard_normal((16, 1, 12, 12), np.float32)
    target = np.arange(16) % 2
    x[target == 1, :, :, 6:] += 2
    for _ in range(40):
        y, backward = net.with_backward(x, training=True, needs_gradient=False, repeatable=False)
        loss, loss_backward = cnncore.softmax_cross_entropy.with_backward(y, target)
        backward(loss_backward(np.ones((), np.float32)))
        for name, gradient in backward.gradients.items():
            net.parameters[name] -= 0.1 * gradient
    assert loss < 0.1 and net.steps == 40
    assert (net(x).argmax(axis=1) == target).all()


def test_gradients_of_a_whole_network(rng):
    net = models.small_inception(classes=3, dtype="float64")
    for name in net.buffers:  # away from 0 and 1
        net.buffers[name] = rng.uniform(0.5, 1.5, net.buffers[name].shape)
    check_gradients(net, rng.standard_normal((2, 1, 8, 9)), tolerance=1e-5)


@pytest.mark.filterwarnings("ignore::cnncore.KinkWarning")
@pytest.mark.parametrize(
    "name, shape, seed",
    [
        ("small_inception", (2, 1, 8, 9), 0),
        pytest.param("small_inception", (1, 1, 16, 16), 1, marks=pytest.mark.long),
        ("lenet", (1, 1, 32, 32), 0),
        pytest.param("network_in_network", (1, 3, 4, 4), 1, marks=pytest.mark.long),
    ],
)
def test_check_gradient_on_whole_networks(name, shape, seed):
    """Thousands of ReLU put kinks closer than any step: that says nothing against a right gradient."""
    net = getattr(models, name)(dtype="float64", seed=seed)
    x = np.random.default_rng(seed).standard_normal(shape)
    assert cnncore.testing.check_gradient(net, x, method="projection") <= 1e-8


def test_check_gradient_finds_one_wrong_element_in_a_whole_network(rng):
    net = models.small_inception(dtype="float64")
    right = net.with_backward

    class Wrong:
        parameters, state, frozen = net.parameters, net.buffers, ()

        def with_backward(self, x):
            y, backward = right(x)

            def wrong_backward(dy):
                dx = backward(dy)
                wrong_backward.gradients = {k: g.copy() for k, g in backward.gradients.items()}
                wrong_backward.gradients["inception_2/conv3x3_norm.b"][5] *= 1.001
                return dx

            return y, wrong_backward

    with pytest.raises(cnncore.GradientError, match=r"conv3x3_norm\.b is wrong at parameter \S+\[5\]"):
        cnncore.testing.check_gradient(Wrong(), rng.standard_normal((2, 1, 8, 9)), method="projection")


@pytest.mark.parametrize(
    "net, shape, parameters",
    [
        # (5·5·1+1)·6 + (5·5·6+1)·16 + (5·5·16+1)·120 + (120+1)·84 + (84+1)·10
        (models.lenet, (2, 1, 32, 32), 61_706),
        # (25·3+1)·192+(192+1)·160+(160+1)·96 + (25·96+1)·192+2·(192+1)·192 + (9·192+1)·192+(192+1)·192+(192+1)·10
        (models.network_in_network, (2, 3, 32, 32), 966_986),
    ],
    ids=["lenet", "network_in_network"],
)
def test_other_networks(net, shape, parameters, rng, tmp_path):
    net = net()
    assert net.summary(shape).parameters == parameters
    x = rng.standard_normal(shape, np.float32)
    y, backward = net.with_backward(x, training=True)
    assert y.shape == (2, 10) and backward(y).shape == shape
    net.save(tmp_path / "net.model")
    assert np.array_equal(cnncore.load(tmp_path / "net.model")(x), net(x))


# ── Counts of the papers and of those who publish weights ──────────────────────────────────────────────────────────────

COUNTS = {  # network, image, parameters, multiply-adds of weights
    # Springenberg et al. 2015, table 1 and 2: 27·96 + 2·864·96 + 864·192 + 3·1728·192 + 192·192 + 192·10, and biases
    "all_convolutional": (lambda: models.all_convolutional(seed=None), 32, 1_369_738, 270_798_336),
    # Simonyan & Zisserman 2015, table 2: 133, 133, 134, 138 and 144 million
    "vgg-A": (lambda: models.vgg("A", seed=None), 224, 132_863_336, 7_609_090_048),
    "vgg-A-LRN": (lambda: models.vgg("A-LRN", seed=None), 224, 132_863_336, 7_609_090_048),
    "vgg-B": (lambda: models.vgg("B", seed=None), 224, 133_047_848, 11_308_466_176),
    "vgg-C": (lambda: models.vgg("C", seed=None), 224, 133_638_952, 11_770_888_192),
    "vgg-D": (lambda: models.vgg("D", seed=None), 224, 138_357_544, 15_470_264_320),
    "vgg-E": (lambda: models.vgg("E", seed=None), 224, 143_667_240, 19_632_062_464),
    # He et al. 2016, table 1: 1.8, 3.6, 3.8 (4.1 with the stride in the 3×3 convolution), 7.6 and 11.3 billion
    "resnet18": (lambda: models.resnet18(seed=None), 224, 11_689_512, 1_814_073_344),
    "resnet34": (lambda: models.resnet(34, seed=None), 224, 21_797_672, 3_663_761_408),
    "resnet50": (lambda: models.resnet50(seed=None), 224, 25_557_032, 4_089_184_256),
    "resnet152": (lambda: models.resnet(152, seed=None), 224, 60_192_808, 11_513_626_624),
    # Sandler et al. 2018, table 4: 3.4 M and 300 M; with alpha = 1.4 the authors publish 6.06 M and 582 M (table 4: 6.9 M, 585 M)
    "mobilenet_v2": (lambda: models.mobilenet_v2(seed=None), 224, 3_504_872, 300_774_272),
    "mobilenet_v2-1.4": (lambda: models.mobilenet_v2(alpha=1.4, seed=None), 224, 6_108_776, 582_195_824),
    # without biases of convolutions, with two numbers per channel of the normalisation
    "googlenet-batch": (lambda: models.googlenet(norm="batch", seed=None), 224, 7_005_832, 1_582_671_872),
    # He et al. 2014, table 1 and 50 bins: 96·147 + 256·2400 + 384·2304 + 384·3456 + 256·3456 + 4096·(12800 + 4096 + 1000)
    "spp_net": (lambda: models.spp_net(seed=None), 224, 77_037_672, 1_215_276_160),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    make, size, parameters, multiply_adds = COUNTS[name]
    summary = make().summary((1, 3, size, size))
    assert (summary.parameters, summary.multiply_adds) == (parameters, multiply_adds)


def shapes_of(net, size):
    return {row.path: row.output[1:] for row in net.summary((1, 3, size, size)).rows}


def test_sizes_of_maps_are_those_of_the_papers():
    shapes = shapes_of(models.resnet50(seed=None), 224)
    for stage, channels, size in ((2, 256, 56), (3, 512, 28), (4, 1024, 14), (5, 2048, 7)):
        assert shapes[f"conv{stage}_3/sum"] == (channels, size, size)
    shapes = shapes_of(models.mobilenet_v2(seed=None), 224)
    for place, expected in ((1, (16, 112, 112)), (3, (24, 56, 56)), (6, (32, 28, 28)), (17, (320, 7, 7))):
        assert shapes[f"bottleneck_{place}/project_norm"] == expected
    shapes = shapes_of(models.spp_net(seed=None), 224)
    assert (shapes["conv1"], shapes["pool1"]) == ((96, 110, 110), (96, 55, 55))
    assert (shapes["conv2"], shapes["conv5"]) == ((256, 27, 27), (256, 13, 13))
    assert shapes["pyramid"] == (50 * 256,)
    shapes = shapes_of(models.all_convolutional(seed=None), 32)
    assert shapes["classifier"] == (10, 6, 6)  # averaged over 6×6, table 1
    shapes = shapes_of(models.vgg(seed=None), 224)
    assert shapes["pool5"] == (512, 7, 7)


def test_the_stride_of_a_bottleneck_is_in_its_3x3_convolution():
    nodes = {node.path: node.given for node in models.resnet50(seed=None).graph.nodes}
    for stage in (3, 4, 5):
        strides = [nodes[f"conv{stage}_1/conv{i}"]["stride"] for i in (1, 2, 3)]
        assert strides == [1, 2, 1] and nodes[f"conv{stage}_1/project"]["stride"] == 2


def test_channels_of_width_multipliers():
    """Multiples of 8, never less than nine tenths; the last convolution never below 1280."""
    for alpha, first, last in ((0.35, 16, 1280), (0.5, 16, 1280), (0.75, 24, 1280), (1.4, 48, 1792)):
        shapes = shapes_of(models.mobilenet_v2(alpha=alpha, seed=None), 32)
        assert (shapes["first"][0], shapes["last"][0]) == (first, last)


def test_googlenet_with_batch_normalisation_has_no_response_normalisation():
    net = models.googlenet(norm="batch", aux=True, size=80, seed=None)
    operators = {node.op.name for node in net.graph.nodes}
    assert "batch_norm" in operators and "local_response_norm" not in operators
    convolutions = [node for node in net.graph.nodes if node.op.name == "conv"]
    assert len(convolutions) == 59 and all(len(node.owned) == 1 for node in convolutions)
    port = models.googlenet(norm="batch", largest_kernel=3, seed=None)
    assert port.parameters["inception_5b/conv5x5.w"].shape == (128, 48, 3, 3)
    with pytest.raises(cnncore.SettingError, match="norm must be"):
        models.googlenet(norm="group")


def test_a_naive_module_is_its_four_branches(rng):
    g = cnncore.Graph()
    g.output(models.naive_inception_module(g, g.input(3), 2, 4, 3, name="m"))
    net = g.build(dtype="float64")
    x = rng.standard_normal((2, 3, 6, 7))
    arrays = net.parameters
    convolved = [
        cnncore.relu(cnncore.conv(x, arrays[f"m/conv{k}x{k}.w"], arrays[f"m/conv{k}x{k}.b"], padding=k // 2))
        for k in (1, 3, 5)
    ]
    expected = np.concatenate([*convolved, cnncore.max_pool(x, 3, stride=1, padding=1)], axis=1)
    np.testing.assert_allclose(net(x), expected, rtol=1e-12, atol=1e-13)


def test_settings_of_networks_are_checked():
    for call, message in (
        (lambda: models.vgg("F"), "There are A, A-LRN"),
        (lambda: models.resnet(20), "layers must be one of 18, 34"),
        (lambda: models.mobilenet_v2(alpha=0), "alpha"),
    ):
        with pytest.raises(cnncore.SettingError, match=message):
            call()


def test_without_a_seed_weights_are_zero_and_normalisations_neutral():
    net = models.resnet18(seed=None)
    assert not net.parameters["conv1.w"].any() and (net.parameters["conv1_norm.w"] == 1).all()
    assert (net.buffers["conv1_norm.running_var"] == 1).all() and net.seed == 0


# ── Training and gradients ─────────────────────────────────────────────────────────────────────────────────────────────


def directional_errors(net, x, rng):
    """Name → how far the derivative along a random direction of that array is from its gradient, relative to both lengths.

    A ReLU whose kink lies within a step spoils that step alone: of three steps the best counts, and a wrong gradient is wrong
    with all of them.
    """
    weights = None

    def value():
        nonlocal weights
        ys = net(x)
        ys = ys if isinstance(ys, tuple) else (ys,)
        weights = weights or [rng.standard_normal(y.shape) for y in ys]
        return sum(float((w * y).sum()) for w, y in zip(weights, ys, strict=True))

    value()
    _, backward = net.with_backward(x)
    gradients = {"x": backward(*weights), **backward.gradients}
    errors = {}
    for name, array in {"x": x, **net.parameters}.items():
        gradient, direction = gradients[name], rng.standard_normal(array.shape) * (np.abs(array) + 0.1)
        given, before = float((gradient * direction).sum()), array.copy()
        size = max(np.linalg.norm(gradient) * np.linalg.norm(direction), 1e-3)
        errors[name] = np.inf
        for t in (1e-6, 1e-7, 1e-5):
            if errors[name] > DIRECTIONAL_LIMIT:
                array[...] = before + t * direction
                above = value()
                array[...] = before - t * direction
                errors[name] = min(errors[name], abs((above - value()) / (2 * t) - given) / size)
        array[...] = before
    return errors


DIRECTIONAL_LIMIT = 1e-6


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: models.all_convolutional(dtype="float64"), (1, 3, 12, 13)),
        pytest.param(lambda: models.resnet18(classes=5, dtype="float64"), (1, 3, 32, 32), marks=pytest.mark.long),
        (lambda: models.mobilenet_v2(classes=5, alpha=0.35, dtype="float64"), (1, 3, 32, 32)),
        pytest.param(
            lambda: models.googlenet(classes=5, dtype="float64", aux=True, size=80),
            (1, 3, 80, 80),
            marks=pytest.mark.long,
        ),
    ],
    ids=["all_convolutional", "resnet18", "mobilenet_v2", "googlenet with auxiliary classifiers"],
)
def test_gradients_of_published_networks(make, shape, rng):
    """The whole graph in float64: the image and every parameter."""
    net = make()
    for array in net.parameters.values():  # away from the zeros that biases start with, which are kinks
        array += 0.05 * rng.standard_normal(array.shape) * (np.abs(array).mean() + 0.1)
    for name, array in net.buffers.items():
        net.buffers[name] = rng.uniform(0.5, 1.5, array.shape)
    with cnncore.cpu.target(TRAINING_TARGET):
        errors = directional_errors(net, rng.standard_normal(shape), rng)
    assert len(errors) == len(net.parameters) + 1
    assert max(errors.values()) <= DIRECTIONAL_LIMIT, max(errors, key=errors.get)


def test_directional_errors_find_a_wrong_gradient(rng, monkeypatch):
    net = models.lenet(dtype="float64")
    x = rng.standard_normal((1, 1, 32, 32))
    assert max(directional_errors(net, x, rng).values()) <= DIRECTIONAL_LIMIT
    right = net.with_backward

    def wrong(x):
        y, backward = right(x)

        def wrong_backward(dy):
            dx = backward(dy)
            wrong_backward.gradients = {**backward.gradients, "c3.w": backward.gradients["c3.w"] * 1.0001}
            return dx

        return y, wrong_backward

    monkeypatch.setattr(net, "with_backward", wrong)
    errors = directional_errors(net, x, rng)
    assert [name for name, error in errors.items() if error > DIRECTIONAL_LIMIT] == ["c3.w"]


def test_a_trainer_of_several_outputs_adds_weighted_losses(rng):
    g = cnncore.Graph()
    x = g.input(3, size=4)
    features = g.flatten(x)
    g.output(g.linear(features, 4, name="first"), g.linear(features, 4, name="second"))
    net = g.build(dtype="float64")
    images, labels = rng.standard_normal((6, 3, 4, 4)), np.arange(6) % 4
    before = {name: array.copy() for name, array in net.parameters.items()}
    outputs = net(images)
    expected = [float(cnncore.softmax_cross_entropy(y, labels)) for y in outputs]
    with pytest.raises(cnncore.SettingError, match=r"2 outputs \(first, second\)"):
        cnncore.train.Trainer(net)
    with pytest.raises(cnncore.SettingError, match="loss_weights has 1"):
        cnncore.train.Trainer(net, loss_weights=(1,))
    trainer = cnncore.train.Trainer(net, cnncore.train.SGD(0.1), loss_weights=(1, 0.3))
    assert trainer.step(images, labels) == pytest.approx(expected[0] + 0.3 * expected[1], rel=1e-12)
    for name, y, weight in (("first", outputs[0], 1), ("second", outputs[1], 0.3)):
        _, backward = cnncore.softmax_cross_entropy.with_backward(y, labels)
        step = -0.1 * weight * backward(np.ones(())).sum(axis=0)
        np.testing.assert_allclose(net.parameters[f"{name}.b"] - before[f"{name}.b"], step, rtol=1e-9, atol=1e-12)
    assert trainer.predict(images).shape == (6, 4)
    assert trainer.evaluate(images, labels).confusion.sum() == 6
