"""The training job: one preprocessing in training and prediction, transfer from trained nets, early stopping, history."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from support.command_line import write_classes

import cnncore
from cnncore import DataError, ModelFileError, SettingError
from cnncore.train import Callback, Job, Options
from cnncore.train.data import digits_split
from cnncore.train.transfer import blocks, share_of_classes
from cnncore.vision.classify import Classifier
from cnncore.vision.evaluation import class_numbers
from cnncore.vision.images import write_png
from cnncore.vision.preprocessing import PRESETS

# ── Training, evaluation and prediction see the same numbers ───────────────────────────────────────────────────────────


def digit_arrays(folder):
    train, held_out = digits_split()
    rows, tests = np.arange(60), np.arange(0, 1000, 90)
    file = folder / "digits.npz"
    np.savez(
        file,
        x_train=train.images[rows],
        y_train=train.labels[rows],
        x_test=held_out.images[tests],
        y_test=held_out.labels[tests],
        class_names=np.array(train.class_names),
    )
    return file, list(held_out.images[tests])


def photo_files(folder, colour, sizes):
    """Stripes of two directions in photographs of these sizes, a tenth of which is for testing."""
    rng = np.random.default_rng(0)
    tests = []
    for part, count in (("train", 8), ("test", 3)):
        for number in range(2 * count):
            height, width = sizes[number % len(sizes)]
            wave = np.arange(max(height, width)) // 4 % 2 * 120.0
            picture = np.broadcast_to(wave[:height, None] if number % 2 else wave[:width], (height, width))
            picture = picture[..., None] + rng.integers(0, 100, (height, width, 3 if colour else 1))
            place = folder / part / ("lying", "standing")[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            pixels = picture.astype(np.uint8)
            write_png(place / f"{number:02}.png", pixels if colour else pixels[..., 0])
            tests += [place / f"{number:02}.png"] * (part == "test")
    return folder, sorted(tests)


SEVERAL = ((40, 60), (70, 50), (48, 48))
KINDS = {
    "digits": (digit_arrays, {}),
    "digits at another size": (digit_arrays, {"size": 32}),
    "grey photos": (lambda folder: photo_files(folder, False, SEVERAL), {"network": "small_inception"}),
    "colour photos": (lambda folder: photo_files(folder, True, SEVERAL), {}),
    "colour photos at a given size": (lambda folder: photo_files(folder, True, SEVERAL), {"size": (32, 40)}),
    "colour photos of one size": (lambda folder: photo_files(folder, True, ((44, 52),)), {}),
    "grey photos for a colour net": (lambda folder: photo_files(folder, False, SEVERAL), {"init": "imagenet"}),
    "colour photos for a net of Caffe": (lambda folder: photo_files(folder, True, SEVERAL), {"init": "caffe"}),
}


def colour_net(folder, preset):
    net = cnncore.models.small_inception(classes=3, channels=3, seed=1)
    net.metadata = {**PRESETS[preset], "resize": 36, "crop": [32, 32]}
    net.save(folder / "model.safetensors")
    return str(folder / "model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_has_the_probability_of_the_evaluation(tmp_path, kind):
    make, settings = KINDS[kind]
    data, sources = make(tmp_path)
    if "init" in settings:
        settings = {**settings, "init": colour_net(tmp_path, settings["init"])}
    job = Job(Options(data=str(data), epochs=1, batch_size=8, **settings), tmp_path / "run")
    tested = job.run()
    classifier = Classifier.from_file(tmp_path / "run")
    together = list(classifier.classify_all(sources))
    alone = [classifier.classify(source) for source in sources]
    for found in (together, alone):
        assert np.abs(np.stack([one.probabilities for one in found]) - tested.probabilities).max() < 1e-6
    numbers = class_numbers("test", job.held_out.class_names, classifier.classes, len(classifier.classes))
    answers = [one.probabilities.argmax() for one in together]
    assert np.mean(np.array(numbers)[tested.labels] == answers) == tested.accuracy


# ── Transfer ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("data") / "shapes", colour=True)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A net of other classes, with its preprocessing."""
    net = cnncore.models.small_inception(classes=3, channels=3, seed=5)
    net.metadata = {"classes": ["a", "b", "c"], "mean": [0.5, 0.4, 0.3], "std": [0.2], "crop": [24, 24], "resize": 28}
    return net, tmp_path_factory.mktemp("start")


def torch_weights(net, file):
    from cnncore.io.weights import name_candidates

    table = name_candidates(net, "torch")[0]
    arrays = {**net.parameters, **net.buffers}
    np.savez(file, **{theirs: arrays[ours] for ours, theirs in table})


@pytest.mark.parametrize("form", ["model file", "run", "onnx", "weights"])
def test_training_starts_from_a_trained_net(shapes, start, tmp_path, form):
    net, _ = start
    settings = {}
    if form == "onnx":
        pytest.importorskip("onnx")
        file = tmp_path / "net.onnx"
        cnncore.io.save_onnx(net, file)
    elif form == "weights":
        file, settings = tmp_path / "weights.npz", {"preprocessing": "inception"}
        net = cnncore.models.small_inception(seed=5)
        torch_weights(net, file)
    else:
        file = tmp_path / "model.safetensors"
        net.save(file)
        file = file.parent if form == "run" else file
    options = Options(data=str(shapes), init=str(file), epochs=1, batch_size=8, augment=False, freeze=3, **settings)
    job = Job(options, tmp_path / "out")
    names = [name for block in list(blocks(job.net))[:3] for name in blocks(job.net)[block]]
    assert job.net.frozen == set(names)
    job.run()
    made = cnncore.load(tmp_path / "out" / "model.safetensors")
    frozen = set(names)
    for name in made.parameters:
        moved = made.parameters[name].shape != net.parameters[name].shape or not np.array_equal(
            made.parameters[name], net.parameters[name]
        )
        assert moved == (name not in frozen), name
    assert made.metadata["classes"] == ["cross", "disc"]
    if form in ("model file", "run", "onnx"):
        assert made.metadata["crop"] == [24, 24] and made.metadata["resize"] == 28
        np.testing.assert_allclose(made.metadata["mean"], [0.5, 0.4, 0.3], rtol=1e-6)
    else:
        assert made.metadata["mean"] == [0.5] * len(made.metadata["mean"])
    resumed = Job.resume(tmp_path / "out")
    assert resumed.net.frozen == set(names) and len(resumed.trainer.history) == 1


def test_a_classifier_of_the_same_classes_is_kept(shapes, tmp_path):
    first = Job(Options(data=str(shapes), epochs=1, batch_size=8), tmp_path / "first")
    first.run()
    again = Job(Options(data=str(shapes), init=str(tmp_path / "first")), tmp_path / "again")
    for name, array in first.net.parameters.items():
        assert np.array_equal(again.net.parameters[name], array), name
    assert (again.train.mean, again.train.std) == (first.train.mean, first.train.std)


def test_what_training_cannot_start_from(shapes, start, tmp_path):
    net, _ = start
    net.save(tmp_path / "model.safetensors")
    data = str(shapes)
    names = ", ".join(blocks(net))
    with pytest.raises(SettingError, match=f"below the number of blocks, 6 .{names}"):
        Job(Options(data=data, init=str(tmp_path / "model.safetensors"), freeze=6), tmp_path)
    with pytest.raises(SettingError, match="give init too"):
        Options(data=data, preprocessing="imagenet")
    np.savez(tmp_path / "weights.npz", **{"fc.weight": np.ones((2, 2), np.float32)})
    with pytest.raises(ModelFileError, match="weights that are not those of lenet"):
        Job(Options(data=data, init=str(tmp_path / "weights.npz"), network="lenet"), tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"\x10" * 40)
    with pytest.raises(ModelFileError, match=r"broken\.safetensors"):
        Job(Options(data=data, init=str(tmp_path / "broken.safetensors")), tmp_path)
    two = cnncore.Graph()
    first, second = two.input(3), two.input(3)
    two.output(two.linear(two.global_avg_pool(two.add(first, second)), 2))
    two.build().save(tmp_path / "two.safetensors")
    with pytest.raises(ModelFileError, match="must take one image"):
        Job(Options(data=data, init=str(tmp_path / "two.safetensors")), tmp_path)


def test_blocks_are_what_the_paths_of_nodes_share():
    assert list(blocks(cnncore.models.lenet(seed=None))) == ["c1", "c3", "c5", "f6", "output"]
    g = cnncore.Graph()
    h = g.input(channels=1)
    for number in range(4):
        with g.scope("features"), g.scope(str(number)):
            h = g.relu(g.batch_norm(g.conv(h, 2, kernel_size=3, name="conv"), name="norm"))
    g.output(g.linear(g.global_avg_pool(h), 2, name="classifier"))
    found = blocks(g.build(seed=None))
    assert list(found) == [*(f"features/{number}" for number in range(4)), "classifier"]
    assert found["features/2"] == [f"features/2/{name}" for name in ("conv.w", "conv.b", "norm.w", "norm.b")]


# ── Losses, early stopping, history ───────────────────────────────────────────────────────────────────────────────────


def test_balance_and_label_smoothing_reach_the_loss(shapes, tmp_path):
    unequal = tmp_path / "unequal"
    shutil.copytree(shapes, unequal)
    for file in sorted((unequal / "disc").iterdir())[4:]:
        file.unlink()
    options = Options(data=str(unequal), balance=True, label_smoothing=0.1, batch_size=64)
    job = Job(options, tmp_path / "run")
    counts = job.train.class_counts
    assert counts[0] > 2 * counts[1]
    weights = share_of_classes(counts)
    assert weights @ counts == pytest.approx(counts.sum()) and weights[0] * counts[0] == pytest.approx(
        weights[1] * counts[1]
    )
    x, labels = next(job.train.batches(64))
    logits, _ = job.net.with_backward(x, training=True)
    weight = weights.astype(np.float32)
    expected = cnncore.softmax_cross_entropy(logits, labels, weight=weight, label_smoothing=0.1)
    assert job.trainer.compute_gradients(x, labels) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(SettingError, match="whole batches"):
        Options(balance=True, shards=2)


def test_patience_leaves_the_best_weights_in_net_and_file(shapes, tmp_path, monkeypatch):
    class Kept(Callback):
        def on_epoch(self, trainer, epoch):
            kept.append(trainer.net.parameters["classifier.w"].copy())

    kept = []
    options = Options(data=str(shapes), epochs=9, batch_size=8, patience=2)
    job = Job(options, tmp_path / "run")
    evaluate, script = job.trainer.evaluate, iter((0.5, 0.8, 0.6, 0.7, 0.9))
    monkeypatch.setattr(job.trainer, "evaluate", lambda data: replace(evaluate(data), accuracy=next(script)))
    job.run([Kept()])
    assert len(kept) == 4
    best = cnncore.load(job.model)
    assert best.metadata["training"]["validation_accuracy"] == 0.8 and best.metadata["training"]["epochs"] == 2
    for net in (best, job.net):
        assert np.array_equal(net.parameters["classifier.w"], kept[1])
    rows = json.loads((job.folder / "history.json").read_text())
    assert [row["validation_accuracy"] for row in rows] == [0.5, 0.8, 0.6, 0.7]
    assert len(list(csv.DictReader((job.folder / "history.csv").open()))) == 4
    (stopping,) = Job.resume(tmp_path / "run")._stopping()
    assert (stopping.best, stopping.waited) == (0.8, 2)
    assert np.array_equal(stopping.best_arrays["classifier.w"], kept[1])


def test_the_epoch_is_chosen_by_validation_images_and_tested_once_on_others(shapes, tmp_path, monkeypatch):
    options = Options(data=str(shapes), epochs=4, batch_size=8, patience=2, test=0.3, validation=0.25)
    job = Job(options, tmp_path / "run")
    parts = [set(part.images.files) for part in (job.train, job.validation, job.held_out)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 2 * len(list((shapes / "disc").iterdir()))
    assert [part.class_counts.min() > 0 for part in (job.train, job.validation, job.held_out)] == [True] * 3
    assert job.train.mean == job.validation.mean == job.held_out.mean
    assert "validation part" in job.validation.name and "held-out part" in job.held_out.name
    seen, evaluate = [], job.trainer.evaluate
    monkeypatch.setattr(job.trainer, "evaluate", lambda data: seen.append(data) or evaluate(data))
    tested = job.run()
    assert seen[-1] is job.held_out and all(part is job.validation for part in seen[:-1])
    record = json.loads(job.tested.read_text())
    assert record["test_accuracy"] == tested.accuracy and record["images"] == len(job.held_out)
    assert record["epoch_chosen_by"] == "validation" and record["epoch"] == job.chosen_epoch()
    by_hand = tested.confusion.diagonal() / tested.confusion.sum(axis=1)
    assert list(record["test_recall"].values()) == pytest.approx(by_hand.tolist())
    rows = json.loads((job.folder / "history.json").read_text())
    assert rows[job.chosen_epoch() - 1]["validation_accuracy"] == max(row["validation_accuracy"] for row in rows)


def test_folders_of_three_parts_and_data_too_few_to_split(shapes, tmp_path):
    for part, count in (("train", 5), ("val", 3), ("test", 2)):
        for name in ("cross", "disc"):
            (tmp_path / "parts" / part / name).mkdir(parents=True)
            for number, file in enumerate(sorted((shapes / name).iterdir())[:count]):
                shutil.copy(file, tmp_path / "parts" / part / name / f"{part}{number}.png")
    job = Job(Options(data=str(tmp_path / "parts")), tmp_path / "run")
    assert [len(part) for part in (job.train, job.validation, job.held_out)] == [10, 6, 4]
    assert {path.name[:-5] for path in map(type(tmp_path), job.validation.images.files)} == {"val"}
    whole = Job(Options(data=str(tmp_path / "parts"), validation=0), tmp_path / "run")
    assert whole.validation is None and len(whole.train) == 10
    for number in (1, 2, 3, 4):
        (tmp_path / "parts" / "train" / "disc" / f"train{number}.png").unlink()
    shutil.rmtree(tmp_path / "parts" / "val")
    few = Job(Options(data=str(tmp_path / "parts"), epochs=1), tmp_path / "run")
    assert few.validation is None and len(few.train) == 6
    few.run()
    assert json.loads((few.folder / "history.json").read_text())[0]["validation_accuracy"] is None
    with pytest.raises(DataError, match="a split needs at least 2"):
        Job(Options(data=str(tmp_path / "parts"), patience=1), tmp_path / "run")
    with pytest.raises(SettingError, match="patience chooses the epoch by validation images"):
        Options(validation=0, patience=1)


def test_a_rate_that_is_found_is_used_and_noted(shapes, tmp_path):
    said = []
    job = Job(Options(data=str(shapes), learning_rate="find", batch_size=8), tmp_path / "run", announce=said.append)
    assert 0 < job.options.learning_rate == job.trainer.optimizer.learning_rate < 1
    assert said == ["measuring images of shapes", "searching for a learning rate"]
    job.trainer.save(job.folder.with_suffix(".safetensors"), job._notes())
    assert job._notes()["options"]["learning_rate"] == job.options.learning_rate
    with pytest.raises(SettingError, match="learning rate"):
        Options(learning_rate="found")


def test_photographs_without_pillow_are_named_before_anything_else(shapes, tmp_path, no_pillow):
    photos = tmp_path / "photos"
    shutil.copytree(shapes, photos)
    (photos / "disc" / "0.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(
        DataError, match=r"1 of .jpg cannot be read without Pillow; install Pillow: pip install 'cnncore\[data\]'"
    ):
        Job(Options(data=str(photos)), tmp_path / "run")
