"""Wherever a seed is taken, a numpy.random.Generator is: it is asked for its next number, so that nothing repeats by accident."""

import inspect

import numpy as np
import pytest
from support.documented import documented

import cnncore
from cnncore.errors import SettingError
from cnncore.models import NETWORKS
from cnncore.train import data
from cnncore.train.job import Options, network

X = np.linspace(0.1, 1, 60, dtype=np.float32).reshape(2, 2, 3, 5)
SHADES = data.Dataset(np.arange(640, dtype=np.uint8).reshape(40, 4, 4), np.arange(40) % 2, ("a", "b"), "shades")


def graph(op="identity", **settings):
    g = cnncore.Graph()
    g.output(g.global_avg_pool(g.conv(getattr(g, op)(g.input(1), **settings), 2, 3)))
    return g


NET64, X64 = graph().build(dtype="float64"), np.linspace(-1, 1, 16).reshape(1, 1, 4, 4)


def fitted(seed):
    net = graph().build()
    trainer = cnncore.train.Trainer(net)
    trainer.fit(
        np.arange(128, dtype=np.float32).reshape(8, 1, 4, 4) / 99, np.arange(8) % 2, epochs=1, batch_size=2, seed=seed
    )
    return net.parameters["conv.w"]


def rates_tried(seed):
    net = graph().build(dtype="float32")
    data = np.arange(128, dtype=np.float32).reshape(8, 1, 4, 4) / 99, np.arange(8) % 2
    found = cnncore.train.find_learning_rate(
        net, data[0], cnncore.train.SGD(), data[1], steps=4, batch_size=2, seed=seed
    )
    return np.asarray(found.losses)


def checked(function):
    """A check passes whatever the seed: what it drew is seen by the generator alone."""

    def call(seed):
        function(seed)
        return seed.integers(2**40) if isinstance(seed, np.random.Generator) else seed

    return call


# Every public name with a parameter "seed" → what a call with that seed gives.
CALLS = {
    "Graph.build": lambda seed: graph().build(seed).parameters["conv.w"],
    "Net.with_classes": lambda seed: cnncore.models.lenet().with_classes(3, seed).parameters["output.w"],
    "testing.check_gradient": checked(
        lambda seed: cnncore.testing.check_gradient(cnncore.relu, X.astype(float), seed=seed)
    ),
    **dict.fromkeys(("check_net", "testing.check_net"), checked(lambda seed: cnncore.check_net(NET64, X64, seed=seed))),
    "testing.check_adjoint": checked(
        lambda seed: cnncore.testing.check_adjoint(cnncore.avg_pool, X.astype(float), seed=seed, kernel_size=2)
    ),
    "testing.check_operator": checked(lambda seed: cnncore.testing.check_operator("negative", seed)),
    "testing.check_operators": checked(lambda seed: cnncore.testing.check_operators(["negative"], seed=seed)),
    "train.Trainer.fit": fitted,
    "train.find_learning_rate": rates_tried,
    "train.Options": lambda seed: Options(seed=seed).seed,
    "train.digits_split": lambda seed: data.digits_split(seed)[0].labels,
    "train.Dataset.split": lambda seed: SHADES.split(0.5, seed)[0].images,
    "train.network": lambda seed: network("lenet", 10, 1, seed).parameters["c1.w"],
    "models.lenet": lambda seed: cnncore.models.lenet(seed=seed).parameters["c1.w"],  # the others pass it on likewise
}
# Given on by Graph.build, or keys that the caller counts with.
ELSEWHERE = {
    "Net",
    "train.Augment",
    "train.Dataset.batches",
    "train.Augment.draws",
    "train.Augment.__call__",
    "train.Augment.shares",
}


def with_seed():
    return [path for path, thing in documented().items() if "seed" in _parameters(thing)]


def _parameters(thing):
    try:
        return inspect.signature(thing).parameters
    except (TypeError, ValueError):
        return {}


def test_no_public_name_that_takes_a_seed_is_left_out():
    known = (
        {path.rpartition(".")[2] for path in CALLS} | {path.rpartition(".")[2] for path in ELSEWHERE} | set(NETWORKS)
    )
    left = [path for path in with_seed() if path.rpartition(".")[2] not in known | {"resnet"}]
    assert not left and len(with_seed()) > 15, left


def same(a, b):
    return np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("path", CALLS)
def test_a_generator_where_a_seed_is(path):
    call = CALLS[path]
    generator = np.random.default_rng(7)
    first, second = call(generator), call(generator)
    assert not same(first, second), "the generator was not asked again"
    if not path.startswith("testing.") and path != "check_net":
        number = int(np.random.default_rng(7).integers(2**63 - 1))
        assert same(first, call(number)), "not what its next number gives"


RANDOM = [op for op in cnncore.OPS.values() if "seed" in op.settings]


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in RANDOM])
def test_operators_take_generators(op):
    case = next(c for c in op.cases if c.settings.get("training", True))
    rank = min(case.ranks, key=lambda r: abs(r - 2))
    rows = [row.name for row in op.arrays]
    arrays = [
        None if name in ("state", "window_state") else a
        for name, a in zip(rows, case.but(spatial=9).sample(rank), strict=False)
    ]
    settings = {k: v for k, v in case.settings.items() if k != "seed" and not k.startswith("return_")}
    if "training" in op.settings:
        settings["training"] = True
    number = int(np.random.default_rng(3).integers(2**63 - 1))
    generator = np.random.default_rng(3)
    first = op(*arrays, **settings, seed=generator)
    assert same(first, op(*arrays, **settings, seed=number))
    drawn = [op(*arrays, **settings, seed=generator) for _ in range(4)]
    assert any(not same(first, y) for y in drawn)


def test_a_graph_asks_once(rng):
    net = graph("dropout", p=0.5, training=True, seed=np.random.default_rng(0)).build()
    x = rng.random((2, 1, 8, 8), np.float32)
    np.testing.assert_array_equal(net(x, training=True), net(x, training=True))


@pytest.mark.parametrize("wrong", [np.random.RandomState(0), np.random.SeedSequence(1)])
def test_other_sources_of_numbers_are_told_what_to_use(wrong):
    with pytest.raises(SettingError, match=r"numpy.random.Generator, got \w+; use numpy.random.default_rng"):
        graph().build(wrong)
