"""What a step can do beside the update: limits of gradients, several batches, averages of weights, several inputs."""

import sys
import types

import numpy as np
import pytest

import cnncore
from cnncore import DataError, ModelFileError, SettingError
from cnncore.train import SGD, Augment, Callback, Checkpoint, ExponentialAverage, StochasticWeightAverage, Trainer
from cnncore.train.averaging import with_batch_statistics
from cnncore.train.clipping import Clipping, global_norm


def small_net(normalized=False, dtype="float64"):
    g = cnncore.Graph()
    h = g.conv(g.input(channels=2), 4, kernel_size=3, name="conv")
    h = g.batch_norm(h, momentum=0.3) if normalized else h
    g.output(g.linear(g.global_avg_pool(g.relu(h)), 3))
    return g.build(seed=0, dtype=dtype)


def two_inputs(dtype="float64"):
    g = cnncore.Graph()
    a, b = g.input(channels=2, name="image"), g.input(channels=1, name="depth")
    h = g.concat(g.conv(a, 3, kernel_size=3, name="colour"), g.conv(b, 2, kernel_size=3, name="distance"))
    g.output(g.linear(g.global_avg_pool(g.relu(h)), 3))
    return g.build(seed=0, dtype=dtype)


@pytest.fixture
def data(rng):
    return rng.standard_normal((24, 2, 8, 8)), rng.integers(0, 3, 24)


# ── Limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipping_is_that_of_torch(rng, dtype):
    torch = pytest.importorskip("torch")
    gradients = {name: (3 * rng.standard_normal(shape)).astype(dtype) for name, shape in (("w", (5, 4)), ("b", (4,)))}
    theirs = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.from_numpy(g).dtype)) for g in gradients.values()]
    for parameter, g in zip(theirs, gradients.values(), strict=True):
        parameter.grad = torch.from_numpy(g.copy())
    torch.nn.utils.clip_grad_value_(theirs, 2.0)
    norm = float(torch.nn.utils.clip_grad_norm_(theirs, 1.5))
    clipping = Clipping(norm=1.5, value=2.0)
    clipping.apply(gradients)
    assert clipping.last == pytest.approx(norm, rel=1e-6)
    for parameter, g in zip(theirs, gradients.values(), strict=True):
        assert g.dtype == dtype
        np.testing.assert_allclose(g, parameter.grad.numpy(), rtol=2e-6)  # torch divides by the norm + 1e-6
    assert global_norm(gradients) == pytest.approx(1.5, rel=1e-6)
    small = {"w": np.full(4, 0.1, dtype)}
    clipping.apply(small)
    assert (small["w"] == dtype(0.1)).all()


def test_a_step_is_clipped_before_the_update(data):
    trainer, plain = Trainer(small_net(), SGD(1.0), clip_norm=1e-3), Trainer(small_net(), SGD(1.0))
    before = {name: array.copy() for name, array in trainer.arrays().items()}
    trainer.step(*data)
    plain.compute_gradients(*data)
    norm = global_norm(plain.gradients)
    assert trainer.clipping.last == norm > 1e-3
    for name, array in trainer.arrays().items():
        np.testing.assert_allclose(before[name] - array, plain.gradients[name] * 1e-3 / norm, rtol=1e-9, atol=1e-17)


# ── Several batches ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("settings", [{}, {"weight": np.array([0.5, 1.0, 3.0])}, {"ignore_index": 1}])
def test_accumulated_batches_make_the_step_of_one_batch(data, settings):
    """Of any sizes, with targets that are ignored and classes with weights: the mean of the loss is over all."""
    x, y = data
    cuts = [(0, 5), (5, 17), (17, 24)]
    whole = Trainer(small_net(), SGD(0.1, momentum=0.9), loss_settings=settings)
    parts = Trainer(small_net(), SGD(0.1, momentum=0.9), loss_settings=settings, accumulate=3)
    for _ in range(3):
        whole.step(x, y)
        for first, last in cuts:
            before = parts.optimizer.steps
            parts.step(x[first:last], y[first:last])
            assert parts.optimizer.steps == before + (last == 24)
    for name, array in whole.arrays().items():
        np.testing.assert_allclose(parts.arrays()[name], array, rtol=1e-12, atol=1e-15)


def test_an_epoch_ends_with_an_update(data):
    trainer = Trainer(small_net(), accumulate=4)
    trainer.fit(*data, epochs=2, batch_size=4)  # 6 batches: 4, and 2 at the end
    assert trainer.optimizer.steps == 4 and trainer.accumulation.pending == 0


# ── Averages ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Recorded(Callback):
    def __init__(self):
        self.weights = []

    def on_step(self, trainer, progress):
        self.weights.append({name: array.copy() for name, array in trainer.arrays().items()})


@pytest.mark.parametrize(
    "make, shares",
    [
        (lambda: StochasticWeightAverage(first=2, every=3), lambda n: {2: 1 / 3, 5: 1 / 3, 8: 1 / 3}),
        (
            lambda: ExponentialAverage(0.6, warm_up=False),
            lambda n: {0: 0.6**8} | {t: 0.4 * 0.6 ** (8 - t) for t in range(1, 9)},
        ),
    ],
)
def test_averages_are_their_sums(data, make, shares):
    recorded, trainer = Recorded(), Trainer(small_net(True), SGD(0.2), averaging=make())
    trainer.fit(*data, epochs=3, batch_size=8, callbacks=[recorded])
    assert len(recorded.weights) == 9
    net = trainer.averaged_net()
    for name, array in {**net.parameters, **net.buffers}.items():
        expected = sum(share * recorded.weights[t][name] for t, share in shares(9).items())
        np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-15)
    assert all((trainer.arrays()[name] == array).all() for name, array in recorded.weights[-1].items())


def test_the_first_steps_of_an_exponential_average_weigh_more():
    average = ExponentialAverage(0.5)
    assert [average.share(t) for t in (0, 1, 100)] == [0.9, 1 - 2 / 11, 0.5]


def test_batch_statistics_of_averaged_weights(rng, data):
    net, (x, _) = small_net(True), data
    net.buffers["batch_norm.running_mean"] += 5  # of other weights
    maps = net.values(x, names=["conv"])["conv"]
    with_batch_statistics(net, [(x[:8],), (x[8:],)])
    parts = [maps[:8], maps[8:]]
    for name, statistic in (("mean", lambda m: m.mean((0, 2, 3))), ("var", lambda m: m.var((0, 2, 3), ddof=0))):
        found = net.buffers[f"batch_norm.running_{name}"]
        counts = [m.size / m.shape[1] for m in parts]
        unbiased = [c / (c - 1) if name == "var" else 1 for c in counts]
        expected = sum(len(m) * u * statistic(m) for m, u in zip(parts, unbiased, strict=True)) / 24
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    trainer = Trainer(small_net(True), averaging=ExponentialAverage())
    with pytest.raises(SettingError, match="there is no average"):
        trainer.averaged_net()
    trainer.step(*data)
    np.testing.assert_allclose(
        trainer.averaged_net(x).buffers["batch_norm.running_mean"],
        trainer.net.values(x, names=["conv"])["conv"].mean((0, 2, 3)),
        rtol=1e-10,
    )


def test_averages_are_resumed_exactly(tmp_path, data):
    def make():
        average = StochasticWeightAverage(first=3, every=2)
        return Trainer(small_net(True), averaging=average, accumulate=2, clip_norm=0.5, metrics="macro_f1")

    def fit(trainer, epochs, *callbacks):
        first = len(trainer.history)
        trainer.fit(*data, epochs=epochs, batch_size=5, validation=data, callbacks=callbacks, first_epoch=first)
        return trainer

    file = tmp_path / "state.safetensors"
    whole = fit(make(), 4)
    fit(make(), 2, Checkpoint(file))
    resumed = make()
    resumed.restore(file)
    fit(resumed, 4)
    for first, second in ((whole.arrays(), resumed.arrays()), (whole.averaging.arrays, resumed.averaging.arrays)):
        assert first.keys() == second.keys() and all(np.array_equal(first[n], second[n]) for n in first)
    assert resumed.averaging.count == whole.averaging.count == 5
    assert [e.validation_metrics for e in resumed.history] == [e.validation_metrics for e in whole.history]
    with pytest.raises(ModelFileError, match=r"has averaged weights; give Trainer\(…, averaging"):
        Trainer(small_net(True)).restore(file)
    Trainer(small_net(True)).save(file)
    with pytest.raises(ModelFileError, match="has no averaged weights"):
        make().restore(file)


# ── Several inputs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nets_with_several_inputs_are_trained(rng, data):
    x, y = data
    z = rng.standard_normal((24, 1, 8, 8))
    by_hand, trainer = two_inputs(), Trainer(two_inputs(), SGD(0.1))
    trainer.step((x, z), y)
    scores, backward = by_hand.with_backward(x, z, training=True)
    _, loss_backward = cnncore.softmax_cross_entropy.with_backward(scores, y)
    backward(loss_backward(np.float64(1)))
    for name, array in trainer.net.parameters.items():
        np.testing.assert_array_equal(array, by_hand.parameters[name] - 0.1 * backward.gradients[name])
    trainer.fit((x, z), y, epochs=2, batch_size=7, validation=((x, z), y))
    checked = trainer.evaluate((x, z), y, batch_size=5)
    np.testing.assert_allclose(trainer.predict((x, z), batch_size=9), checked.probabilities, rtol=1e-12)
    assert trainer.history[-1].validation_loss == pytest.approx(checked.loss, rel=1e-12)
    sharded = Trainer(two_inputs(), SGD(0.1), shards=4)
    sharded.step((x, z), y)
    sharded.fit((x, z), y, epochs=2, batch_size=7)
    for name, array in trainer.arrays().items():
        np.testing.assert_allclose(sharded.arrays()[name], array, rtol=1e-9, atol=1e-12)


def test_functions_augment_all_inputs_and_augment_one(rng, data):
    x, y = data
    z, seen = rng.standard_normal((24, 1, 8, 8)), []

    def mirrored(xs, seed, epoch, numbers):
        seen.append(len(numbers))
        return tuple(each[..., ::-1] for each in xs)

    trainer = Trainer(two_inputs())
    trainer.fit((x, z), y, epochs=1, batch_size=10, augment=mirrored)
    assert seen == [10, 10, 4]
    with pytest.raises(SettingError, match="distorts one array of images, the net takes 2"):
        trainer.fit((x, z), y, epochs=1, augment=Augment())
    with pytest.raises(DataError, match="23 inputs and 24 targets"):
        trainer.fit((x, z[1:]), y, epochs=1)


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"clip_norm": 0}, "clip_norm"),
        ({"clip_value": -1}, "clip_value"),
        ({"accumulate": 0}, "accumulate"),
        ({"metrics": "acuracy"}, "did you mean 'accuracy'"),
        ({"metrics": [3]}, "a metric is a name or a function"),
    ],
)
def test_impossible_steps(settings, text):
    with pytest.raises(SettingError, match=text):
        Trainer(small_net(), **settings)


# ── What shows training ────────────────────────────────────────────────────────────────────────────────────────────────


class Bar:
    """What is used of tqdm's bar."""

    def __init__(self, total, initial, unit):
        self.total, self.done, self.shown, self.closed = total, initial, [], False
        Bar.made.append(self)

    def set_postfix(self, values, refresh):
        self.shown.append(values)

    def update(self):
        self.done += 1

    def close(self):
        self.closed = True


def fit_verbosely():
    """Three steps in each of two epochs."""
    g = cnncore.Graph()
    g.output(g.linear(g.input(channels=2, rank=0), 3))
    x, y = np.ones((6, 2), np.float32), np.array([0, 1, 2] * 2)
    cnncore.train.Trainer(g.build()).fit(x, y, epochs=2, batch_size=2, verbose=True)


def test_notebooks_show_a_bar_of_tqdm(monkeypatch, capsys):
    Bar.made = []
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    for name in ("tqdm", "tqdm.auto"):
        module = types.ModuleType(name)
        module.tqdm = Bar
        monkeypatch.setitem(sys.modules, name, module)
    fit_verbosely()
    (bar,) = Bar.made
    assert bar.total == bar.done == 6 and bar.closed
    assert [values["epoch"] for values in bar.shown] == ["1/2"] * 3 + ["2/2"] * 3
    assert capsys.readouterr().out.count("epoch") == 2  # and a line per epoch


@pytest.mark.parametrize("missing", ["ipykernel", "tqdm"])
def test_without_a_notebook_or_tqdm_there_are_lines_alone(monkeypatch, capsys, missing):
    if missing == "tqdm":
        monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        monkeypatch.setitem(sys.modules, "tqdm", None)
    else:
        monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    fit_verbosely()
    assert capsys.readouterr().out.count("epoch") == 2
