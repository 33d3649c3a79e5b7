"""Networks with another pooling, activation, downsampling or head: what is asked for is changed, and nothing else."""

import inspect
from collections import Counter

import numpy as np
import pytest

import cnncore
from cnncore.errors import SettingError
from cnncore.models.variation import Variation, varied

LARGE = {"vgg", "spp_net"}  # hundreds of megabytes of weights; their code changes in the same way
SMALL = [name for name in cnncore.models.NETWORKS if name not in LARGE]


def operators(net):
    return Counter(node.op.name for node in net.graph.nodes)


@pytest.mark.parametrize("name", cnncore.models.NETWORKS)
def test_every_network_takes_pooling_and_activation(name):
    assert list(inspect.signature(cnncore.models.NETWORKS[name]).parameters)[-2:] == ["pooling", "activation"]


@pytest.mark.parametrize("name", SMALL)
def test_poolings_and_activations_change_and_nothing_else(name):
    make = cnncore.models.NETWORKS[name]
    plain = make(seed=None)
    changed = make(seed=None, pooling="soft", activation="silu")
    before, after = operators(plain), operators(changed)
    pools = before["max_pool"] + before["avg_pool"]
    activations = before["relu"] + before["relu6"]
    assert after["soft_pool"] == pools and after["silu"] == activations + before["silu"] and activations
    assert not after["max_pool"] + after["avg_pool"] + after["relu"] + after["relu6"]
    unchanged = before.keys() - {"max_pool", "avg_pool", "relu", "relu6", "silu"}
    assert all(after[op] == before[op] for op in unchanged)
    assert {n: a.shape for n, a in plain.parameters.items()} == {n: a.shape for n, a in changed.parameters.items()}


def test_the_same_pooling_is_the_same_network(rng):
    x = rng.standard_normal((2, 1, 32, 32)).astype("f")
    np.testing.assert_array_equal(cnncore.models.lenet()(x), cnncore.models.lenet(pooling="max", activation="relu")(x))


@pytest.mark.parametrize("name", ["lenet", "small_inception", "network_in_network", "resnet18"])
def test_strides_for_poolings_keep_every_size(name, rng):
    make = cnncore.models.NETWORKS[name]
    plain = make(seed=None)
    with varied(Variation(downsampling="stride")):
        strided = make(seed=None)
    channels = plain.graph.inputs[0].channels
    shapes = [
        [row.output for row in net.summary((1, channels, 32, 32)).rows if row.output[2:]] for net in (plain, strided)
    ]
    assert dict.fromkeys(shapes[0]) == dict.fromkeys(shapes[1])
    gone = sum(
        node.op.name in ("max_pool", "avg_pool") and node.settings.get("stride") != 1 for node in plain.graph.nodes
    )
    left = operators(plain)["max_pool"] + operators(plain)["avg_pool"] - gone
    assert gone and operators(strided)["conv"] == operators(plain)["conv"] + gone
    assert operators(strided)["max_pool"] + operators(strided)["avg_pool"] == left


def test_heads():
    with varied(Variation(head="pooled")):
        assert operators(cnncore.models.lenet(seed=None))["flatten"] == 0
    with varied(Variation(head="dense", size=(28, 30))):
        net = cnncore.models.small_inception(seed=None)
    assert operators(net)["global_avg_pool"] == 0 and operators(net)["linear"] == 1
    assert net.graph.inputs[0].size == (28, 30) and net.described_outputs()[0].kind == "logits"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"pooling": "sofd"}, "did you mean 'soft'"),
        ({"activation": "relus"}, "did you mean 'relu"),
        ({"activation": "conv"}, "is a convolution operator"),
        ({"downsampling": "strided"}, "did you mean 'stride'"),
        ({"head": "flat"}, "unknown head 'flat'"),
    ],
)
def test_unknown_names(settings, text):
    with pytest.raises(SettingError, match=text):
        Variation(**settings)
