"""Networks: the counts of their papers' tables, and that they run."""

import numpy as np
import pytest

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
    ys, backward = net.with_backward(x, training=True, wanted=False, repeatable=False)
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
        y, backward = net.with_backward(x, training=True, wanted=False, repeatable=False)
        loss, loss_backward = cnncore.softmax_cross_entropy.with_backward(y, target)
        backward(loss_backward(np.ones((), np.float32)))
        for name, gradient in backward.gradients.items():
            net.parameters[name] -= 0.1 * gradient
    assert loss < 0.1 and net.steps == 40
    assert (net(x).argmax(axis=1) == target).all()


def test_gradients_of_a_whole_network(rng):
    from test_graph import check_gradients

    net = models.small_inception(classes=3, dtype="float64")
    for name in net.state:  # away from 0 and 1
        net.state[name] = rng.uniform(0.5, 1.5, net.state[name].shape)
    check_gradients(net, rng.standard_normal((2, 1, 8, 9)), tolerance=1e-5)


@pytest.mark.filterwarnings("ignore::cnncore.KinkWarning")
@pytest.mark.parametrize(
    "name, shape, seed",
    [
        ("small_inception", (2, 1, 8, 9), 0),
        ("small_inception", (1, 1, 16, 16), 1),
        ("lenet", (1, 1, 32, 32), 0),
        ("network_in_network", (1, 3, 4, 4), 1),
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
        parameters, state, frozen = net.parameters, net.state, ()

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
