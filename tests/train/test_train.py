"""Training: optimizers, schedules, the loop, checkpoints; reproducible bit for bit, resumable, interruptible."""

import csv
import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from support.processes import SANITIZED, TESTS

import cnncore
from cnncore import DataError, ModelFileError, SettingError
from cnncore.train import (
    SGD,
    Adam,
    AdamW,
    Augment,
    Callback,
    Checkpoint,
    EarlyStopping,
    Trainer,
    by_step,
    checkpoint,
    find_learning_rate,
    optimizer,
    write_history,
)
from cnncore.train.augment import batch_plan
from cnncore.train.data import Dataset
from cnncore.train.loop import uninterrupted
from cnncore.train.schedules import SCHEDULES, cosine, one_cycle, schedule, steps
from cnncore.vision.images import resize


def stripes(count=48, size=10, seed=0):
    """Images with horizontal (class 0), vertical (1) or no (2) stripes, and noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    wave = (np.arange(size) // 2 % 2 * 150).astype(np.float64)
    images = rng.integers(0, 90, (count, size, size)).astype(np.float64)
    images[labels == 0] += wave[:, None]
    images[labels == 1] += wave
    images[labels == 2] += 75
    return Dataset(images.astype(np.uint8), labels, ("lying", "standing", "none"), "stripes")


def small_net(seed=0, dtype="float32", dropout=True):
    """Branches, batch normalisation, dropout: everything that has state or draws."""
    g = cnncore.Graph()
    x = g.input(channels=1)
    h = g.batch_norm(g.conv(x, 6, kernel_size=3, padding=1, bias=False), activation="relu")
    h = g.concat(g.conv(h, 4, kernel_size=1), g.max_pool(h, kernel_size=3, stride=1, padding=1))
    if dropout:
        h = g.dropout(h, 0.2)
    g.output(g.global_avg_pool(g.conv(g.relu(h), 3, kernel_size=1)))
    return g.build(seed=seed, dtype=dtype)


def same(first, second):
    """Whether two nets hold the same numbers, bit for bit."""
    pairs = [({**n.parameters}, {**n.state}) for n in (first, second)]
    return all(
        a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
        for a, b in zip(*pairs, strict=True)
    )


# ── Optimizers against their formulas ──────────────────────────────────────────────────────────────────────────────────


def gradients(count, size=5, seed=1):
    return np.random.default_rng(seed).standard_normal((count, size))


def run(method, grads, w=None):
    w = {"w": np.linspace(-1, 1, grads.shape[1]) if w is None else w.copy()}
    for g in grads:
        before = g.copy()
        method.update(w, {"w": g})
        assert np.array_equal(g, before), "an optimizer changed the gradient"
    return w["w"]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_its_formula(nesterov):
    grads = gradients(6)
    w, v = np.linspace(-1, 1, 5), np.zeros(5)
    for g in grads:
        g = g + 0.01 * w
        v = 0.9 * v + g
        w = w - 0.1 * (g + 0.9 * v if nesterov else v)
    found = run(SGD(0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov), grads)
    np.testing.assert_allclose(found, w, rtol=1e-13)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_is_its_formula(decoupled):
    grads = gradients(6)
    w, m, v = np.linspace(-1, 1, 5), np.zeros(5), np.zeros(5)
    for t, g in enumerate(grads, 1):
        if decoupled:
            w = w - 0.1 * 0.02 * w
        else:
            g = g + 0.02 * w
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        w = w - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
    method = (AdamW if decoupled else Adam)(0.1, betas=(0.9, 0.99), weight_decay=0.02)
    np.testing.assert_allclose(run(method, grads), w, rtol=1e-12)


def torch_optimizer(name, w):
    torch = pytest.importorskip("torch")
    w = torch.tensor(w, requires_grad=True)
    made = {
        "sgd": lambda: torch.optim.SGD([w], 0.1, momentum=0.8, weight_decay=0.03, nesterov=True),
        "adam": lambda: torch.optim.Adam([w], 0.1, weight_decay=0.03),
        "adamw": lambda: torch.optim.AdamW([w], 0.1, weight_decay=0.03),
        "nadam": lambda: torch.optim.NAdam([w], 0.1, weight_decay=0.03),
        "rmsprop": lambda: torch.optim.RMSprop([w], 0.1, weight_decay=0.03, momentum=0.8, centered=True),
    }[name]()
    return torch, w, made


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "nadam", "rmsprop"])
def test_optimizers_agree_with_torch(name):
    torch, w, theirs = torch_optimizer(name, np.linspace(-1, 1, 5))
    grads = gradients(8)
    for g in grads:
        w.grad = torch.tensor(g)
        theirs.step()
    extra = {
        "sgd": {"momentum": 0.8, "nesterov": True},
        "rmsprop": {"momentum": 0.8, "centered": True},
    }.get(name, {})
    found = run(optimizer(name, 0.1, weight_decay=0.03, **extra), grads)
    limit = 1e-8 if name == "nadam" else 1e-10  # PyTorch keeps the product of the momenta in float32
    np.testing.assert_allclose(found, w.detach().numpy(), rtol=limit, atol=limit if name == "nadam" else 0)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimizers_keep_the_precision(name):
    w = {"w": np.ones(4, np.float32)}
    method = optimizer(name, 0.1, weight_decay=0.1, **({"momentum": 0.9} if name == "sgd" else {}))
    for _ in range(3):
        method.update(w, {"w": np.ones(4, np.float32)})
    assert w["w"].dtype == np.float32
    assert all(array.dtype == np.float32 for state in method.state.values() for array in state)


def test_weight_decay_spares_biases():
    net = small_net()
    assert net.decays("conv.w") and not net.decays("conv_2.b") and not net.decays("batch_norm.w")
    before = {name: array.copy() for name, array in net.parameters.items()}
    zero = {name: np.zeros_like(array) for name, array in net.parameters.items()}
    SGD(0.1, weight_decay=0.5).update(net.parameters, zero, decays=net.decays)
    for name, array in net.parameters.items():
        factor = 0.95 if net.decays(name) else 1.0
        np.testing.assert_allclose(array, before[name] * np.float32(factor), rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizer("sdg"),
        lambda: SGD(-0.1),
        lambda: SGD(float("nan")),
        lambda: SGD(0.1, momentum=1.0),
        lambda: SGD(0.1, nesterov=True),
        lambda: Adam(0.1, betas=(0.9, 1.0)),
        lambda: Adam(0.1, eps=-1),
        lambda: schedule("linear"),
        lambda: steps(0.5, 1.5),
        lambda: one_cycle(warm_up=0),
        lambda: Trainer(small_net(), loss="cross_entropy"),
        lambda: EarlyStopping(monitor="speed"),
        lambda: EarlyStopping(patience=0),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(SettingError):
        make()


# ── Schedules ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_stay_between_0_and_1(name):
    values = [schedule(name)(t) for t in np.linspace(0, 1, 101)[:-1]]
    assert all(0 <= value <= 1 for value in values) and max(values) == 1.0


def test_schedules_are_continuous_where_they_should_be():
    for factor in (cosine(warm_up=0.2), one_cycle()):
        values = np.array([factor(t) for t in np.linspace(0, 0.9999, 4000)])
        assert np.abs(np.diff(values)).max() < 0.003


# ── One step ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_is_forward_loss_backward_update():
    data = stripes(12)
    ((x, labels),) = data.batches(12)
    one, other = small_net(dropout=False), small_net(dropout=False)
    loss = Trainer(one, SGD(0.1)).step(x, labels)
    y, backward = other.with_backward(x, training=True)
    value, loss_backward = cnncore.softmax_cross_entropy.with_backward(y, labels)
    backward(loss_backward(1.0))
    SGD(0.1).update(other.parameters, backward.gradients)
    assert loss == float(value)
    assert same(one, other)


def test_a_step_has_two_halves():
    halves, whole = (Trainer(small_net(), SGD(0.1, momentum=0.9)) for _ in range(2))
    x, labels = next(iter(stripes(12).batches(12)))
    for rate in (0.1, 0.02):
        loss = halves.compute_gradients(x, labels)
        assert halves.gradients.keys() == halves.net.parameters.keys()
        halves.apply_gradients(rate)
        assert loss == whole.step(x, labels, rate)
    assert same(halves.net, whole.net)


def test_a_step_uses_the_rate_it_is_given():
    x, labels = next(iter(stripes(6).batches(6)))
    net = small_net()
    before = {name: array.copy() for name, array in net.parameters.items()}
    Trainer(net, SGD(0.5)).step(x, labels, learning_rate=0.0)
    assert all(np.array_equal(net.parameters[name], before[name]) for name in before)


def test_parameters_frozen_between_steps_stay():
    x, labels = next(iter(stripes(12).batches(12)))
    trainer = Trainer(small_net(), SGD(0.1, momentum=0.9))
    trainer.step(x, labels)
    trainer.net.frozen.add("conv.w")
    before = trainer.net.parameters["conv.w"].copy()
    other = trainer.net.parameters["conv_2.w"].copy()
    trainer.step(x, labels)
    assert np.array_equal(trainer.net.parameters["conv.w"], before)
    assert not np.array_equal(trainer.net.parameters["conv_2.w"], other)


@pytest.mark.long
@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps freed memory for a while")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_does_not_grow_with_the_steps():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    trainer = Trainer(small_net(), Adam(0.01))
    x, labels = next(iter(stripes(48, 24).batches(48)))
    for _ in range(100):
        trainer.step(x, labels)
    before = resident()
    for _ in range(500):
        trainer.step(x, labels)
    assert resident() - before < 1e6


def test_own_loss_function():
    def half_square(y, target):
        return 0.5 * float(((y - target) ** 2).sum()), lambda d: (y - target) * np.float32(d)

    x, _ = next(iter(stripes(6).batches(6)))
    target = np.ones((6, 3), np.float32)
    trainer = Trainer(small_net(dropout=False), SGD(0.02), loss=half_square)
    losses = [trainer.step(x, target) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    tested = trainer.evaluate(x, target)
    assert tested.loss > 0 and tested.confusion.size == 0


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_loss_that_is_no_number_stops_before_the_update():
    data = stripes(6)
    x, labels = next(iter(data.batches(6)))
    net = small_net()
    trainer = Trainer(net, SGD(0.1))
    before = {name: array.copy() for name, array in net.parameters.items()}
    with pytest.raises(SettingError, match=r"loss is nan.*learning rate"):
        trainer.step(x * np.float32(np.nan), labels)
    assert all(np.array_equal(net.parameters[name], before[name]) for name in before)
    with pytest.raises(SettingError, match="learning rate 1e\\+30"):
        Trainer(small_net(), SGD(1e30)).fit(data, epochs=5)


# ── Many steps ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def fitted(threads=1, epochs=3, seed=0, method="adam", target=None, **settings):
    with cnncore.threads(threads), cnncore.cpu.target(target or cnncore.cpu.target()):
        trainer = Trainer(small_net(seed), optimizer(method, 0.02))
        trainer.fit(
            stripes(), epochs=epochs, batch_size=7, schedule="one_cycle", augment=Augment(), seed=seed, **settings
        )
    return trainer


def test_it_learns():
    trainer = Trainer(small_net(), Adam(0.03))
    history = trainer.fit(stripes(90), epochs=12, batch_size=16, validation=stripes(30, seed=5))
    assert history[-1].validation_accuracy >= 0.9
    assert history[-1].loss < history[0].loss / 2
    tested = trainer.evaluate(stripes(30, seed=5))
    assert tested.accuracy == history[-1].validation_accuracy
    assert tested.confusion.sum() == 30 and tested.confusion.trace() == round(30 * tested.accuracy)
    np.testing.assert_allclose(tested.probabilities.sum(axis=1), 1, rtol=1e-5)
    x, _ = next(iter(stripes(30, seed=5).batches(30)))
    np.testing.assert_allclose(trainer.predict(x, batch_size=7), tested.probabilities, atol=1e-5)


@pytest.mark.parametrize("method", ["sgd", "adam"])
def test_same_seed_same_weights_whatever_the_threads(method):
    first = fitted(threads=1, method=method)
    for threads in (1, 2, 3):
        again = fitted(threads=threads, method=method)
        assert same(first.net, again.net), f"{threads} threads"
        assert [e.loss for e in again.history] == [e.loss for e in first.history]


def test_other_seeds_give_other_weights():
    assert not same(fitted(seed=0, epochs=1).net, fitted(seed=1, epochs=1).net)


def test_validation_changes_nothing():
    assert same(fitted(epochs=2).net, fitted(epochs=2, validation=stripes(9, seed=3)).net)


def test_arrays_train_like_the_data_set_they_come_from():
    data = stripes()
    ((x, labels),) = data.batches(len(data))
    one, other = Trainer(small_net(), SGD(0.1)), Trainer(small_net(), SGD(0.1))
    one.fit(data, epochs=2, batch_size=7)
    other.fit(x, labels, epochs=2, batch_size=7)
    assert same(one.net, other.net)


def test_arrays_are_augmented_as_images():
    x = np.zeros((4, 1, 8, 8), np.float32)
    x[:, :, 2:6, 2:6] = 1
    seen = []

    class Spy(Trainer):
        def _step(self, batch, rate):
            seen.append(batch.x[0].copy())
            return super()._step(batch, rate)

    Spy(small_net(), SGD(0.01)).fit(x, np.array([0, 1, 2, 0]), epochs=2, batch_size=4, augment=Augment(shift=0.3))
    assert seen[0].shape == x.shape and not np.array_equal(seen[0], seen[1])
    assert all(image.sum() > 0 and image.max() <= 1 for batch in seen for image in batch)


def test_canvases_are_larger_and_hold_the_whole_image():
    images = np.zeros((40, 10, 8), np.uint8)
    images[:, 3:7, 2:6] = 200
    plain = Augment(shift=0, rotation=0, scale=0, shear=0, canvases=[(1, 1), (2.5, 3)], least=0.5, smallest=0.8)
    found = plain(images, seed=0, epoch=0, canvas=(2.5, 3))
    assert found.shape == (40, 25, 24)
    ink = found.sum(axis=(1, 2)) / (16 * 200)  # the square's area: what height and width are stretched by, multiplied
    assert 1.8 < ink.min() < 3 and 5 < ink.max() < 7.7
    assert all(image[edge].max() == 0 for image in found for edge in (0, -1)), "cut off"
    rows = [image.max(axis=1).nonzero()[0].mean() for image in found]
    assert np.ptp(rows) > 4, "always at the same place"
    same_size = plain(images, seed=0, epoch=0)
    ink = same_size.sum(axis=(1, 2)) / (16 * 200)
    assert same_size.shape == images.shape and 0.6 < ink.min() < 0.75 and 0.85 < ink.max() < 1.02
    whole = Augment(shift=0, rotation=0, scale=0, shear=0, least=1.0)
    np.testing.assert_allclose(
        whole(images, 0, 0, canvas=(2, 3)), [resize(i, (20, 24)) for i in np.float32(images)], atol=0.01
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"canvases": ((0.5, 1),)},
        {"canvases": ()},
        {"canvases": 2},
        {"canvases": (1.0, 2.0)},
        {"canvases": ((1, 17),)},
        {"canvases": ((1, float("nan")),)},
        {"least": 0},
        {"smallest": 1.5},
    ],
)
def test_impossible_canvases(wrong):
    with pytest.raises(SettingError, match=f"Augment: {next(iter(wrong))}"):
        Augment(**wrong)


def test_canvases_take_turns_with_fewer_images_on_larger_ones():
    augment = Augment(canvases=[(1, 1), (2, 2), (1, 4)])
    data = stripes(27, size=9)
    plan = batch_plan(len(data), 4, augment)
    found = list(data.batches(4, seed=0, augment=augment))
    assert [(len(x), x.shape[2:]) for x, _ in found[:3]] == [(4, (9, 9)), (2, (18, 18)), (2, (9, 36))]
    assert sum(len(x) for x, _ in found) == len(data) and len(found) == len(plan)
    order = np.concatenate([labels for _, labels in found])
    np.testing.assert_array_equal(order, np.concatenate([labels for _, labels in data.batches(4, seed=0)]))
    assert batch_plan(3, 1, Augment(canvases=[(16, 16)])) == [(i, i + 1, (16.0, 16.0)) for i in range(3)]


def test_training_on_canvases_resumes_and_counts_its_steps(tmp_path):
    """Same weights on one thread and two, whole and resumed; the schedule knows the number of steps."""
    augment = Augment(canvases=[(1, 1), (2, 2), (1.5, 1)])
    seen = []

    class Count(Callback):
        def on_step(self, trainer, now):
            seen.append((now.step, now.steps))

    def fit(trainer, epochs_done=0, *callbacks):
        trainer.fit(stripes(), epochs=2, batch_size=7, schedule="one_cycle", augment=augment, first_epoch=epochs_done,
                    callbacks=callbacks)  # fmt: skip
        return trainer

    with cnncore.threads(1):
        whole = fit(Trainer(small_net(), Adam(0.01)), 0, Count())
    assert seen[-1][0] + 1 == seen[-1][1] == len(seen) / 2
    broken = fit(Trainer(small_net(), Adam(0.01)), 0, StopAfter(1))
    broken.save(tmp_path / "state")
    resumed = Trainer(small_net(seed=0), Adam(0.01))
    resumed.restore(tmp_path / "state")
    with cnncore.threads(2):
        fit(resumed, 1)
    assert same(whole.net, resumed.net)


def test_a_double_precision_net_takes_the_data_set():
    trainer = Trainer(small_net(dtype="float64"), SGD(0.05))
    history = trainer.fit(stripes(), epochs=1, validation=stripes(9))
    assert math.isfinite(history[0].loss)


def test_callbacks_hear_everything_and_can_stop():
    heard = []

    class Listener(Callback):
        def on_step(self, trainer, progress):
            heard.append(progress)

        def on_epoch(self, trainer, epoch):
            return epoch.epoch == 1

    history = Trainer(small_net(), SGD(0.01)).fit(stripes(20), epochs=9, batch_size=8, callbacks=[Listener()])
    assert len(history) == 2
    assert [(p.epoch, p.step, p.steps) for p in heard] == [(e, s, 3) for e in range(2) for s in range(3)]
    assert all(p.remaining >= 0 and p.images_per_second > 0 for p in heard)


def test_early_stopping_brings_the_best_back():
    class Scripted(EarlyStopping):
        """Validation accuracy as scripted."""

        script = (0.5, 0.8, 0.7, 0.6, 0.9)

        def on_epoch(self, trainer, epoch):
            kept.append({name: array.copy() for name, array in trainer.arrays().items()})
            return super().on_epoch(trainer, replace(epoch, validation_accuracy=self.script[epoch.epoch]))

    kept = []
    trainer = Trainer(small_net(), SGD(0.05))
    history = trainer.fit(stripes(20), epochs=5, validation=stripes(9), callbacks=[Scripted(patience=2)])
    assert len(history) == 4
    for name, array in trainer.arrays().items():
        assert np.array_equal(array, kept[1][name])
    with pytest.raises(SettingError, match="validation"):
        trainer.fit(stripes(20), epochs=1, callbacks=[EarlyStopping()])


@pytest.mark.parametrize("ending", ["last epoch", "Ctrl-C"])
def test_early_stopping_leaves_the_best_however_training_ends(ending):
    class Falling(EarlyStopping):
        """The first epoch is the best."""

        def on_epoch(self, trainer, epoch):
            kept.append({name: array.copy() for name, array in trainer.arrays().items()})
            return super().on_epoch(trainer, replace(epoch, validation_accuracy=0.9 - 0.1 * epoch.epoch))

    class Interrupting(Callback):
        def on_step(self, trainer, progress):
            if ending == "Ctrl-C" and (progress.epoch, progress.step) == (1, 1):
                raise KeyboardInterrupt

    kept, trainer = [], Trainer(small_net(), SGD(0.05))
    settings = {"epochs": 3, "batch_size": 8, "validation": stripes(9)}
    try:
        trainer.fit(stripes(20), **settings, callbacks=[Falling(patience=9), Interrupting()])
    except KeyboardInterrupt:
        assert ending == "Ctrl-C" and len(trainer.history) == 1
    else:
        assert len(trainer.history) == 3 and not np.array_equal(kept[0]["conv.w"], kept[2]["conv.w"])
    assert all(np.array_equal(array, kept[0][name]) for name, array in trainer.arrays().items())


def test_verbose_prints_a_line_per_epoch(capsys):
    Trainer(small_net()).fit(stripes(9), epochs=2, validation=stripes(9), verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert all("validation accuracy" in line for line in lines)


def test_schedules_by_step():
    g = cnncore.Graph()
    x = g.input(channels=1, size=())
    g.output(g.linear(x, 1, bias=False, name="fc"))
    net = g.build(seed=0)
    weights = [net.parameters["fc.w"].item()]

    class Weights(Callback):
        def on_step(self, trainer, progress):
            weights.append(trainer.net.parameters["fc.w"].item())

    def summed(y, target):  # its gradient is 1 at every step
        return np.float32(y.sum()), lambda dy: dy * np.ones_like(y)

    data = np.ones((5, 1), np.float32), np.zeros(5)
    trainer = Trainer(net, SGD(0.5), loss=summed)
    trainer.fit(
        *data, epochs=2, batch_size=2, schedule=by_step(lambda step: 1.0 if step < 4 else 0.25), callbacks=[Weights()]
    )
    moved = -np.diff(weights) / (0.5 * np.array([2, 2, 1, 2, 2, 1]))
    np.testing.assert_allclose(moved, [1, 1, 1, 1, 0.25, 0.25], rtol=1e-5)


def test_settings_of_the_loss():
    data = stripes(12)
    x, y = next(data.batches(12))
    settings = {"label_smoothing": 0.2, "weight": np.array([1, 3, 0.5], np.float32)}
    net = small_net(dropout=False)
    logits, _ = net.with_backward(x, training=True)
    expected = cnncore.softmax_cross_entropy(logits, y, **settings)
    assert Trainer(small_net(dropout=False), loss_settings=settings).step(x, y) == pytest.approx(
        float(expected), rel=1e-6
    )
    with pytest.raises(SettingError, match="lable_smoothing"):
        Trainer(net, loss_settings={"lable_smoothing": 0.2})
    with pytest.raises(SettingError, match="loss that is given by name"):
        Trainer(net, loss=lambda y, target: (0, lambda dy: y), loss_settings=settings)
    with pytest.raises(SettingError, match="shards"):
        Trainer(net, loss_settings=settings, shards=2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mixed_images_are_trained_on(dtype):
    data, augment = stripes(24), Augment(shift=0, rotation=0, scale=0, shear=0, mixup=0.3)
    (x, probabilities), *_ = data.batches(24, seed=0, epoch=0, augment=augment)
    net = small_net(dtype=dtype, dropout=False)
    logits, _ = net.with_backward(x.astype(dtype), training=True)
    expected = cnncore.softmax_cross_entropy(logits, probabilities.astype(dtype))
    trainer = Trainer(small_net(dtype=dtype, dropout=False), SGD(0.01))
    (epoch,) = trainer.fit(data, epochs=1, batch_size=24, augment=augment)
    assert epoch.loss == pytest.approx(float(expected), rel=1e-5) and 0 <= epoch.accuracy <= 1
    with pytest.raises(SettingError, match="whole batch"):
        Trainer(net, shards=2).fit(data, epochs=1, augment=augment)
    with pytest.raises(SettingError, match="Dataset"):
        trainer.fit(x, np.zeros(24, int), epochs=2, augment=augment)


def test_history_is_written_for_other_programs(tmp_path):
    trainer = Trainer(small_net(), metrics=["macro_f1"])
    history = trainer.fit(stripes(9), epochs=2, validation=stripes(9))
    write_history(tmp_path / "run.1", history)
    read = json.loads((tmp_path / "run.1.json").read_text())
    expected = [asdict(epoch) for epoch in history]
    for row in expected:
        row["validation_macro_f1"] = row.pop("validation_metrics")["macro_f1"]
    assert read == expected
    rows = list(csv.DictReader((tmp_path / "run.1.csv").open()))
    assert [{k: None if v == "" else float(v) for k, v in row.items()} for row in rows] == read


# ── The learning-rate finder ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_finder_suggests_a_rate_that_trains_and_changes_nothing():
    data, net, method = stripes(48), small_net(), SGD(1.0, momentum=0.9)
    before = {name: array.copy() for name, array in {**net.parameters, **net.buffers}.items()}
    found = find_learning_rate(net, data, method, batch_size=16, highest=1000.0, steps=60)
    assert all(np.array_equal(array, before[name]) for name, array in {**net.parameters, **net.buffers}.items())
    assert method.steps == 0 and net.steps == 0
    assert len(found.rates) == len(found.losses) < 60 and found.losses[-1] > 3 * min(found.losses)  # it diverged
    np.testing.assert_allclose(np.diff(np.log(found.rates)), math.log(1e9) / 59)
    history = Trainer(net, SGD(found.suggestion, momentum=0.9)).fit(data, epochs=8, batch_size=16)
    assert history[-1].loss < history[0].loss / 2
    again = find_learning_rate(small_net(), data, method, batch_size=16, highest=1000.0, steps=60)
    assert again == found


def test_the_finder_names_what_is_wrong():
    x, y = np.full((8, 1, 6, 6), np.nan, np.float32), np.zeros(8, int)
    with pytest.raises(SettingError, match="look for NaN in the images"):
        find_learning_rate(small_net(), x, SGD(1.0), y)
    with pytest.raises(SettingError, match="highest"):
        find_learning_rate(small_net(), stripes(9), SGD(1.0), lowest=1.0, highest=0.5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"data": np.zeros((3, 1, 4, 4), np.float32)},
        {"data": np.zeros((3, 1, 4, 4), np.float32), "labels": np.zeros(2, int)},
        {"data": np.zeros((0, 1, 4, 4), np.float32), "labels": np.zeros(0, int)},
    ],
)
def test_data_that_cannot_be_trained_on(arguments):
    with pytest.raises(DataError, match="fit: "):
        Trainer(small_net()).fit(**arguments)


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"batch_size": 0}, {"first_epoch": -1}, {"schedule": "no"}])
def test_impossible_fit(settings):
    with pytest.raises((SettingError, cnncore.ShapeError)):
        Trainer(small_net()).fit(stripes(6), **settings)


# ── Checkpoints ────────────────────────────────────────────────────────────────────────────────────────────────────────


class StopAfter(Callback):
    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch(self, trainer, epoch):
        return epoch.epoch + 1 == self.epochs


@pytest.mark.parametrize("method", ["sgd", "adam", "adamw", "nadam", "rmsprop"])
def test_a_resumed_training_is_the_uninterrupted_one(tmp_path, method):
    file = tmp_path / "state.safetensors"
    settings = {"momentum": 0.9} if method in ("sgd", "rmsprop") else {}

    def make():
        return Trainer(small_net(), optimizer(method, 0.02, weight_decay=1e-3, **settings))

    def fit(trainer, *callbacks):
        return trainer.fit(
            stripes(), epochs=4, batch_size=7, schedule="one_cycle", augment=Augment(), seed=3,
            validation=stripes(9), callbacks=callbacks, first_epoch=len(trainer.history),
        )  # fmt: skip

    whole = make()
    fit(whole)
    broken = make()
    fit(broken, Checkpoint(file, {"why": "test"}), StopAfter(2))
    resumed = make()
    for arrays in (resumed.net.parameters, resumed.net.buffers):
        for array in arrays.values():
            array += 1  # everything must come from the file
    assert resumed.restore(file) == {"why": "test"}
    assert same(resumed.net, broken.net) and len(resumed.history) == 2
    fit(resumed)
    assert same(whole.net, resumed.net)
    assert [(e.loss, e.validation_loss) for e in resumed.history] == [
        (e.loss, e.validation_loss) for e in whole.history
    ]
    assert resumed.optimizer.steps == whole.optimizer.steps
    for name, state in whole.optimizer.state.items():
        assert all(np.array_equal(a, b) for a, b in zip(state, resumed.optimizer.state[name], strict=True))


@pytest.mark.parametrize("method", ["adam", "adamw", "sgd"])
def test_a_layer_unfrozen_after_a_checkpoint_begins_at_its_first_step(tmp_path, method):
    """The steps of each parameter are in the file; in one of before they were, those of all are every parameter's."""
    from cnncore.nets import model_file

    file, (x, labels) = tmp_path / "state.safetensors", next(iter(stripes(6).batches(6)))
    nets = []
    for resumed in (False, True):
        trainer = Trainer(small_net(), optimizer(method, 0.02))
        trainer.net.frozen = {"conv.w"}
        for _ in range(7):
            trainer.step(x, labels)
        if resumed:
            trainer.save(file)
            trainer = Trainer(small_net(), optimizer(method, 0.02))
            trainer.restore(file)
        trainer.net.frozen = set()
        trainer.step(x, labels)
        assert trainer.optimizer.steps_of["conv.w"] == 1 and max(trainer.optimizer.steps_of.values()) == 8
        nets.append(trainer.net)
    assert same(*nets)
    model, arrays = model_file.read(file)
    del model["optimizer"]["steps_of"]
    model_file.write(file, model, arrays)
    trainer.restore(file)
    assert set(trainer.optimizer.steps_of.values()) <= {7}


def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path):
    file = tmp_path / "state.safetensors"
    trainer = fitted(epochs=1)
    trainer.save(file)
    g = cnncore.Graph()
    g.output(g.global_avg_pool(g.conv(g.input(channels=1), 3, kernel_size=3)))
    others = [
        (Trainer(g.build(), Adam(0.1)), "another network"),
        (Trainer(small_net(dtype="float64"), Adam(0.1)), "float32"),
        (Trainer(small_net(), SGD(0.1)), "optimizer Adam"),
        (Trainer(small_net(seed=1), Adam(0.1)), "seed 0"),
    ]
    for other, reason in others:
        before = {name: array.copy() for name, array in other.arrays().items()}
        with pytest.raises(ModelFileError, match=reason):
            other.restore(file)
        assert all(np.array_equal(array, before[name]) for name, array in other.arrays().items())
        assert not other.history and not other.optimizer.state


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_a_validation_loss_that_is_not_finite_is_written_and_read(tmp_path, value, rng):
    """A damaged image among those held out does not end the training."""
    x, y = rng.standard_normal((8, 1, 6, 6)).astype(np.float32), np.arange(8) % 2
    held_out = x.copy()
    held_out[0] = value

    def trainer():
        g = cnncore.Graph()
        g.output(g.global_avg_pool(g.conv(g.input(1), 2, 3)))
        return Trainer(g.build(seed=0), SGD(0.1))

    trained = trainer()
    with np.errstate(all="ignore"):
        trained.fit(x, y, epochs=2, validation=(held_out, y), callbacks=[Checkpoint(tmp_path / "c")])
    loss = trained.history[-1].validation_loss
    again = trainer()
    again.restore(tmp_path / "c")
    assert np.array_equal(again.history[-1].validation_loss, loss, equal_nan=True)
    assert isinstance(again.history[-1].validation_loss, float)


def test_damaged_checkpoints_are_refused(tmp_path):
    file = tmp_path / "state.safetensors"
    trainer = fitted(epochs=1)
    trainer.save(file)
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*range(0, 200, 7), *rng.integers(0, len(content), 40)]:
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ModelFileError):
            trainer.restore(file)
    for length in (0, 7, 100, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            trainer.restore(file)
    trainer.net.save(file)
    with pytest.raises(ModelFileError, match="not a checkpoint"):
        trainer.restore(file)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("epochs", 2),
        ("epochs", -1),
        ("epochs", "1"),
        ("steps", True),
        ("steps", 2**70),
        ("history", [[]]),
        ("history", [{"epoch": 0}]),
        ("optimizer", {}),
        ("optimizer", {"class": "Adam", "steps": 4, "steps_of": {"conv.w": 1}}),
        ("optimizer", {"class": "Adam", "steps": 4, "steps_of": {"stranger": 1}}),
        ("optimizer", {"class": "Adam", "steps": 4, "steps_of": dict.fromkeys(["conv.w"], 5)}),
        ("optimizer", {"class": "Adam", "steps": 4, "steps_of": {"conv.w": 0.5}}),
        ("optimizer", {"class": "Adam", "steps": 4, "steps_of": 4}),
        ("notes", 3),
        ("kind", "model"),
    ],
)
def test_hostile_checkpoints_are_refused(tmp_path, entry, value):
    from cnncore.nets import model_file

    file = tmp_path / "state.safetensors"
    trainer = fitted(epochs=1)
    trainer.save(file)
    model, arrays = model_file.read(file)
    model_file.write(file, {**model, entry: value}, arrays)
    with pytest.raises(ModelFileError):
        trainer.restore(file)


@pytest.mark.parametrize("change", ["drop", "extra", "half", "stranger"])
def test_checkpoints_with_other_arrays_are_refused(tmp_path, change):
    from cnncore.nets import model_file

    file = tmp_path / "state.safetensors"
    trainer = fitted(epochs=1)
    trainer.save(file)
    model, arrays = model_file.read(file)
    if change == "drop":
        del arrays["net/conv.w"]
    elif change == "extra":
        arrays["net/conv.v"] = arrays["net/conv.w"]
    elif change == "half":
        del arrays["optimizer/mean:conv.w"]
    else:
        arrays["optimizer/velocity:conv.w"] = arrays["optimizer/mean:conv.w"]
    model_file.write(file, model, arrays)
    with pytest.raises(ModelFileError):
        trainer.restore(file)


def test_checkpoints_replace_the_old_one_whole(tmp_path, monkeypatch):
    """A write that fails half way leaves the old checkpoint, and no other file."""
    file = tmp_path / "state.safetensors"
    trainer = fitted(epochs=1)
    trainer.save(file)
    before = file.read_bytes()
    trainer.step(*next(iter(stripes(6).batches(6))))

    def fails(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="No space"):
        trainer.save(file)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float64"])
def test_one_rule_for_precisions_whoever_takes_the_array(dtype):
    """Pixels that nobody scaled, numbers of another precision: refused by call, step, fit, evaluate and predict alike."""
    x, labels = next(iter(stripes(6).batches(6)))
    trainer, x = Trainer(small_net()), x.astype(dtype)
    said = set()
    for use in (
        lambda: trainer.net(x),
        lambda: trainer.step(x, labels),
        lambda: trainer.fit(x, labels, epochs=1),
        lambda: trainer.fit(x.astype("f"), labels, epochs=1, validation=(x, labels)),
        lambda: trainer.evaluate(x, labels),
        lambda: trainer.predict(x),
    ):
        with pytest.raises(cnncore.DtypeError) as caught:
            use()
        said.add(str(caught.value))
    assert len(said) == 1


def test_a_validation_loss_that_is_no_number_ends_no_training(tmp_path):
    """Net and training go on; the checkpoint holds what was seen."""
    x, labels = next(iter(stripes(6).batches(6)))
    far = x.copy()
    far[0] = np.inf
    trainer = Trainer(small_net(), SGD(0.01))
    with np.errstate(all="ignore"):
        trainer.fit(x, labels, epochs=2, validation=(far, labels), callbacks=[Checkpoint(tmp_path / "state")])
    assert not math.isfinite(trainer.history[-1].validation_loss)
    again = Trainer(small_net(), SGD(0.01))
    again.restore(tmp_path / "state")
    assert repr(again.history) == repr(trainer.history)


def test_read_gives_the_description(tmp_path):
    file = tmp_path / "state.safetensors"
    fitted(epochs=2).save(file, {"a": [1, 2]})
    model, arrays = checkpoint.read(file)
    assert model["epochs"] == 2 and model["notes"] == {"a": [1, 2]} and len(model["history"]) == 2
    assert {name.split("/")[0] for name in arrays} == {"net", "optimizer"}
    json.dumps(model)


# ── Interrupts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ctrl_c_in_an_update_takes_effect_after_it():
    """SIGINT in the middle of the update: all parameters have changed when KeyboardInterrupt comes out."""

    class Interrupted(SGD):
        def change(self, w, g, state, rate, decay, step):
            signal.raise_signal(signal.SIGINT)
            super().change(w, g, state, rate, decay, step)

    x, labels = next(iter(stripes(6).batches(6)))
    one, other = small_net(), small_net()
    with pytest.raises(KeyboardInterrupt):
        Trainer(one, Interrupted(0.1)).step(x, labels)
    Trainer(other, SGD(0.1)).step(x, labels)
    assert same(one, other)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_uninterrupted_restores_any_handler_and_works_in_threads():
    import threading

    before = signal.getsignal(signal.SIGINT)
    arrived = []
    try:
        signal.signal(signal.SIGINT, lambda *_: arrived.append("own"))
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            assert not arrived
        assert arrived == ["own"]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    errors = []

    def inside():
        try:
            with uninterrupted():
                pass
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert not errors


INTERRUPTED = """
import sys, time
sys.path[:0] = sys.argv[1:]
from test_train import Trainer, Callback, small_net, stripes
from cnncore.train import SGD

class Ready(Callback):
    def on_step(self, trainer, now):
        if now.step == 2 and now.epoch == 0:
            print("ready", flush=True)

trainer = Trainer(small_net(), SGD(0.01))
try:
    trainer.fit(stripes(3000, 40), epochs=1000, batch_size=50, callbacks=[Ready()])
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
"""


def test_ctrl_c_stops_within_a_fifth_of_a_second():
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(Path(__file__).parent), str(TESTS)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        stopped = float(process.stdout.readline())
        assert stopped - pressed <= 0.2
    finally:
        process.kill()
        process.wait()
