"""Training on ranks: the same bits on any number of them. Ranks are threads here; tests/distributed/test_mpi.py has processes."""

import hashlib
import threading

import numpy as np
import pytest

import cnncore
from cnncore.distributed import SerialCommunicator, run_in_threads
from cnncore.errors import SettingError
from cnncore.train import SGD, Augment, Callback, EarlyStopping, ExponentialAverage, RMSprop, Trainer
from cnncore.train.communication import TreeSum, merged_moments, reduce_along_tree, shards_of_rank
from cnncore.train.data import digits_split

TRAIN, HELD_OUT = (
    part.subset(np.arange(0, len(part), len(part) // count))
    for part, count in zip(digits_split(), (50, 20), strict=True)
)


def net(dtype="float32"):
    """Two batch normalisations, dropout, branches."""
    g = cnncore.Graph()
    x = g.input(channels=1)
    h = g.batch_norm(g.conv(x, 6, kernel_size=5, stride=2, bias=False), activation="relu")
    h = g.dropout(g.concat(g.conv(h, 4, kernel_size=1), g.max_pool(h, kernel_size=3, stride=1, padding=1)), 0.2)
    g.output(g.global_avg_pool(g.conv(g.relu(g.batch_norm(h)), 10, kernel_size=1)))
    return g.build(seed=0, dtype=dtype)


def bits(trainer):
    """Digests of weights, running statistics, and the figures of all epochs but the times."""
    digest = hashlib.sha256()
    for _, array in sorted(trainer.arrays().items()):
        digest.update(array.tobytes())
    figures = [(e.loss, e.accuracy, e.validation_loss, e.validation_accuracy) for e in trainer.history]
    return digest.hexdigest(), figures


def trained(communicator, dtype="float32", shards=4, epochs=2, path=None, **settings):
    trainer = Trainer(net(dtype), SGD(0.05, momentum=0.9), communicator=communicator, shards=shards, **settings)
    if path is not None:
        trainer.restore(path)
    trainer.fit(
        TRAIN,
        epochs=epochs,
        batch_size=16,  # 50 images: the last batch has 2 for 4 shards
        validation=HELD_OUT,
        augment=Augment(canvases=((1, 1), (1.2, 1))),
        first_epoch=len(trainer.history),
    )
    return trainer


@pytest.mark.parametrize("statistics", ["batch", "shard"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_on_any_number_of_ranks(dtype, statistics):
    expected = bits(trained(None, dtype, statistics=statistics))
    assert bits(trained(SerialCommunicator(), dtype, statistics=statistics)) == expected
    for ranks in (2, 3, 4):
        found = run_in_threads(ranks, lambda communicator: bits(trained(communicator, dtype, statistics=statistics)))
        assert found == [expected] * ranks, f"{ranks} ranks"


@pytest.mark.parametrize("resumed", [False, True])
def test_clipped_accumulated_averaged_steps_have_the_same_bits_on_any_number_of_ranks(tmp_path, resumed):
    """They follow the reduction, so that all ranks do the same; a checkpoint in the middle of an accumulation changes nothing."""
    file = tmp_path / "state.safetensors"
    x, y = TRAIN.subset(np.arange(40)), TRAIN.labels[:40]
    ((images, _),) = x.batches(40)

    def run(communicator, first=0, last=5, restored=False):
        trainer = Trainer(
            net(),
            RMSprop(0.01, momentum=0.5),
            communicator=communicator,
            shards=4,
            clip_norm=0.3,
            clip_value=0.05,
            accumulate=2,
            averaging=ExponentialAverage(0.8),
            metrics=["macro_f1", "top3"],
        )
        if restored:
            trainer.restore(file)
        for step in range(first, last):
            trainer.step(images[8 * step : 8 * step + 8], y[8 * step : 8 * step + 8])
        checked = trainer.evaluate(HELD_OUT)
        arrays = trainer.arrays() | {f"average of {name}": a for name, a in trainer.averaging.arrays.items()}
        return (
            trainer,
            [checked.metrics, trainer.clipping.last, trainer.averaging.count, trainer.accumulation.pending],
            {name: array.tobytes() for name, array in arrays.items()},
        )

    _, *expected = run(None)
    assert expected[0][2:] == [2, 1] and 0 < expected[0][0]["macro_f1"] < expected[0][0]["top3"] < 1
    if resumed:
        run(None, last=3)[0].save(file)
    for ranks in (1, 2, 3):
        again = {"first": 3, "restored": True} if resumed else {}
        found = run_in_threads(ranks, lambda communicator, again=again: run(communicator, **again)[1:])
        assert [[*each] for each in found] == [expected] * ranks, f"{ranks} ranks"


def test_shards_change_nothing_but_roundings():
    whole = Trainer(net("float64"), SGD(0.05, momentum=0.9))
    whole.fit(TRAIN, epochs=2, batch_size=16, validation=HELD_OUT, augment=Augment(canvases=((1, 1), (1.2, 1))))
    for settings in ({"shards": 4}, {"shards": 5, "reduction": "mpi"}):
        for found in run_in_threads(2, lambda c, settings=settings: trained(c, "float64", **settings)):
            for name, array in found.arrays().items():
                np.testing.assert_allclose(array, whole.arrays()[name], rtol=1e-7, atol=1e-10, err_msg=name)
            assert found.history[-1].accuracy == whole.history[-1].accuracy
            np.testing.assert_allclose(found.history[-1].validation_loss, whole.history[-1].validation_loss, rtol=1e-9)


def test_a_training_resumes_on_another_number_of_ranks(tmp_path):
    expected = bits(trained(None))
    file = tmp_path / "checkpoint.safetensors"

    def begin(communicator):
        trainer = trained(communicator, epochs=1)
        if trainer.writes_files:
            trainer.save(file)

    run_in_threads(3, begin)
    assert run_in_threads(2, lambda communicator: bits(trained(communicator, path=file))) == [expected] * 2


@pytest.mark.parametrize("ranks", [1, 3])
def test_losses_count_targets_that_are_not_ignored(ranks, rng):
    """A mean of means would count the few targets of one shard as much as the many of another."""
    g = cnncore.Graph()
    x = g.input(channels=2)
    g.output(g.conv(x, 3, kernel_size=1))
    x, labels = rng.random((6, 2, 4, 4)), rng.integers(0, 3, (6, 4, 4))
    labels[0], labels[2, 1:], labels[5] = -100, -100, -100
    whole = Trainer(g.build(seed=0, dtype="float64"))
    loss = whole.compute_gradients(x, labels)

    def in_shards(communicator):
        trainer = Trainer(g.build(seed=0, dtype="float64"), communicator=communicator, shards=6)
        return trainer.compute_gradients(x, labels), trainer.gradients

    for value, gradients in run_in_threads(ranks, in_shards):
        np.testing.assert_allclose(value, loss, rtol=1e-12)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(gradient, whole.gradients[name], rtol=1e-10, atol=1e-14)


def test_parameters_frozen_between_steps():
    def one_step(communicator):
        model = net()
        model.frozen = {"conv.w"}
        trainer = Trainer(model, SGD(0.1), communicator=communicator, shards=4)
        before = model.parameters["conv.w"].copy()
        ((x, labels),) = list(TRAIN.batches(50))
        trainer.step(x, labels)
        np.testing.assert_array_equal(model.parameters["conv.w"], before)
        model.frozen = set()
        trainer.step(x, labels)
        assert not np.array_equal(model.parameters["conv.w"], before)
        return bits(trainer)

    assert run_in_threads(2, one_step) == [one_step(None)] * 2


# ── Agreement and failure ──────────────────────────────────────────────────────────────────────────────────────────────


def test_ranks_that_begin_differently_are_told_so():
    def differently(communicator):
        trainer = Trainer(net(), SGD(0.05), communicator=communicator)
        trainer.fit(TRAIN, epochs=1, batch_size=16, seed=communicator.rank)

    with pytest.raises(SettingError, match=r"rank 1 and rank 0 differ in .*seed"):
        run_in_threads(2, differently)

    def other_weights(communicator):
        trainer = Trainer(net(), SGD(0.05), communicator=communicator)
        trainer.net.parameters["conv_2.b"][communicator.rank] += 1
        trainer.fit(TRAIN, epochs=1, batch_size=16)

    with pytest.raises(SettingError, match="differ in the arrays"):
        run_in_threads(2, other_weights)


def test_a_loss_that_is_no_number_names_the_rank(rng):
    x, labels = rng.random((8, 1, 28, 28), np.float32), np.arange(8)
    x[5, 0, 9, 9] = np.nan

    def step(communicator):
        Trainer(net(), communicator=communicator, shards=4, statistics="shard").step(x, labels)

    with pytest.raises(SettingError, match=r"the loss is nan in step 1 on rank 1, in images 4 to 5 of the batch"):
        run_in_threads(2, step)


class Failing(Callback):
    def on_step(self, trainer, progress):
        if trainer.communicator.rank == 1:
            raise OSError("the disk of rank 1 is full")


def test_an_error_of_one_rank_ends_all_and_leaves_no_thread():
    before = threading.active_count()
    with pytest.raises(OSError, match="disk of rank 1"):
        run_in_threads(3, lambda c: Trainer(net(), communicator=c).fit(TRAIN, epochs=1, callbacks=[Failing()]))
    assert threading.active_count() <= before + 3  # threads that end when their trainers do


def test_ranks_stop_together():
    class Impatient(EarlyStopping):
        def on_epoch(self, trainer, epoch):
            return trainer.communicator.rank == 2  # as a clock of its own might decide

    lengths = run_in_threads(
        3, lambda c: len(Trainer(net(), communicator=c).fit(TRAIN, epochs=3, callbacks=[Impatient(monitor="loss")]))
    )
    assert lengths == [1, 1, 1]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"shards": 1}, "2 ranks share 1 shards"),
        ({"shards": 0}, "shards"),
        ({"reduction": "sum"}, "reduction is 'sum'; choose one of 'tree', 'mpi'"),
        ({"statistics": "rank"}, "statistics is 'rank'"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(SettingError, match=message):
        run_in_threads(2, lambda communicator: Trainer(net(), communicator=communicator, **settings))


# ── The tree ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def tree_of(first, last):
    """What the tree means, as an expression."""
    if last - first == 1:
        return str(first)
    middle = first + 2 ** int(np.ceil(np.log2(last - first)) - 1)
    return f"({tree_of(first, middle)}+{tree_of(middle, last)})"


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 8, 13])
def test_the_tree_is_the_same_in_any_order_of_arrival(shards, rng):
    for _ in range(5):
        tree = TreeSum(shards, lambda left, right: f"({left}+{right})")
        for shard in rng.permutation(shards):
            tree.add((shard, shard + 1), str(shard))
        assert tree.partial == {(0, shards): tree_of(0, shards)}


@pytest.mark.parametrize("ranks", range(1, 9))
@pytest.mark.parametrize("shards", [8, 11])
@pytest.mark.parametrize("length", [0, 1, 7, 100])
def test_sums_over_ranks_are_those_of_the_tree(ranks, shards, length, rng):
    rows = rng.standard_normal((shards, length)).astype(np.float32) * np.float32(10) ** rng.integers(-4, 4, (shards, 1))
    whole = TreeSum(shards, np.add)
    for shard, row in enumerate(rows):
        whole.add((shard, shard + 1), row)

    def reduced(communicator):
        tree = TreeSum(shards, np.add)
        for shard in shards_of_rank(communicator.rank, ranks, shards):
            tree.add((shard, shard + 1), rows[shard].copy())
        partials = [array for _, array in sorted(tree.partial.items())]
        reduce_along_tree(communicator, shards, partials)
        return partials[0]

    for found in run_in_threads(ranks, reduced):
        assert found.tobytes() == whole.partial[0, shards].tobytes()


def test_moments_are_merged(rng):
    x = rng.standard_normal((10, 3)) + 1000
    left, right = x[:4], x[4:]
    rows = [np.stack([np.full(3, len(p)), p.mean(0), ((p - p.mean(0)) ** 2).sum(0)]) for p in (left, right, x)]
    np.testing.assert_allclose(merged_moments(rows[0], rows[1]), rows[2], rtol=1e-9)
    empty = np.zeros((3, 3))
    np.testing.assert_array_equal(merged_moments(empty, rows[0]), rows[0])
    np.testing.assert_array_equal(merged_moments(rows[0], empty), rows[0])
