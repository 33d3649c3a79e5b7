"""Prediction: images of any size, probabilities, class activation maps, and one clear line for every bad input."""

import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from support.command_line import fails, run, run_here
from support.processes import TRAINING_TARGET

import cnncore
from cnncore import GraphError, ModelFileError, SettingError, ShapeError, explain
from cnncore.train import Job, Options
from cnncore.train.data import digits_split
from cnncore.vision.classify import Classifier, accuracy_by_size
from cnncore.vision.images import read_image, resize, write_png
from cnncore.vision.preprocessing import normalise


@pytest.fixture(scope="module")
def model(trained):
    """Folder of a trained classifier of discs and crosses, 16×16."""
    return trained[0]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """One digit, as bright as the discs and crosses, written at three sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    digit = np.maximum(digits_split()[1].images[730], 40)
    for height, width in ((28, 28), (40, 52), (200, 90)):
        write_png(folder / f"{height}x{width}.png", resize(digit, (height, width)))
    return folder


# ── Any size ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_images_each_at_their_own_size(model, pictures, tmp_path):
    done = run("predict", model, *sorted(pictures.iterdir()), cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(
        r"cnncore: note: \S+/200x90\.png \(and 1 more\): 200×90 is outside the sizes of the training, "
        r"16×16 to 35×35; classified at 35×16\n",
        done.stderr,
    ), done.stderr
    for line, size in zip(lines, ("200×90", "28×28", "40×52"), strict=True):
        assert re.fullmatch(rf"\S+\.png  {size}  (disc|cross) \d+\.\d%", line), line


def test_what_is_familiar():
    net = cnncore.models.small_inception(classes=2)
    classifier = Classifier(net)
    assert classifier.familiar_size((500, 3)) == (500, 3), "nothing is known of the training"
    net.metadata = {"size": [28, 28], "largest_size": [56, 60]}
    for size in ((28, 28), (40, 52), (28, 60), (56, 60), (56, 28)):
        assert classifier.familiar_size(size) == size
    assert classifier.familiar_size((200, 150)) == (56, 42)
    assert classifier.familiar_size((560, 560)) == (56, 56)
    assert classifier.familiar_size((1000, 20)) == (56, 28), "proportions as far as the range allows"
    assert classifier.familiar_size((14, 14)) == (28, 28)
    assert classifier.familiar_size((20, 14)) == (40, 28)
    assert classifier.familiar_size((4, 60)) == (28, 60)
    for hostile in ([0, 28], "28", [28], [28.5, 1], None):
        net.metadata = {"size": hostile}
        assert classifier.familiar_size((500, 500)) == (500, 500)


def test_own_size_and_size_are_left_as_they_are(model, pictures, tmp_path):
    net = cnncore.load(model / "model.safetensors")
    pixels = read_image(pictures / "200x90.png", channels=1)
    for option, size in ((["--own-size"], (200, 90)), (["--size", "120x100"], (120, 100)), ([], (35, 16))):
        _, out, error = run_here(["predict", model, pictures / "200x90.png", "--json", *option], tmp_path)
        (answer,) = json.loads(out)
        assert answer["read_at"] == list(size) and answer["familiar"] is False
        assert error.count("\n") == 1 and ("classified at its own size" if option else "classified at 35×16") in error
        x = normalise(resize(pixels, size)[None], net.metadata["mean"], net.metadata["std"])
        assert answer["probability"] == pytest.approx(cnncore.softmax(net(x)).max(), rel=1e-6)
    _, out, error = run_here(["predict", model, pictures / "200x90.png", "--size", "30x20", "--json"], tmp_path)
    assert error == "" and json.loads(out)[0]["familiar"] is True
    code, _, error = run_here(["predict", model, pictures / "28x28.png", "--size", "30", "--own-size"], tmp_path)
    assert code == 2 and "not allowed with" in error


def test_the_map_of_an_unfamiliar_size_lies_over_the_whole_image(model, pictures, tmp_path):
    classifier = Classifier.from_file(model)
    prediction = classifier.classify(pictures / "200x90.png")
    assert prediction.pixels.shape == prediction.size == (200, 90) and prediction.read_at == (35, 16)
    heat = classifier.activation_map(prediction)
    x = classifier.prepared(resize(prediction.pixels, (35, 16)))
    np.testing.assert_allclose(heat.mean(), classifier.net(x)[0, prediction.probabilities.argmax()], rtol=1e-4)
    run_here(["predict", model, pictures / "200x90.png", "--cam", "map.png"], tmp_path)
    assert read_image(tmp_path / "map.png").shape == (600, 270, 3), "the image, three times as large"


def test_accuracy_by_size_is_what_classify_answers(model, shapes):
    from cnncore.train.data import load

    classifier, data = Classifier.from_file(model), load(shapes)
    found = accuracy_by_size(classifier, data)
    assert [tried for tried, _, _ in found] == [(16, 16), (23, 30), (32, 32), (64, 64), (114, 51)]
    for tried, read_at, share in found:
        answers = [classifier.classify(resize(image, tried)) for image in data.images]
        assert {answer.read_at for answer in answers} == {read_at}
        assert share == np.mean([a.answer == data.class_names[k] for a, k in zip(answers, data.labels, strict=True)])
    lenet = cnncore.models.lenet()
    ((tried, read_at, _),) = accuracy_by_size(Classifier(lenet), data.resized((32, 32)))
    assert tried == read_at == (32, 32)


def test_json_says_what_the_net_computes(model, pictures, tmp_path):
    done = run("predict", model, pictures, "--json", "--top", 2, cwd=tmp_path)
    answers = json.loads(done.stdout)
    net = cnncore.load(model / "model.safetensors")
    assert [a["size"] for a in answers] == [[200, 90], [28, 28], [40, 52]]
    for answer in answers:
        pixels = read_image(answer["file"], channels=1)
        assert list(pixels.shape) == answer["size"]
        assert answer["read_at"] == {200: [35, 16], 28: [28, 28], 40: [27, 35]}[answer["size"][0]]
        assert answer["familiar"] == (answer["read_at"] == answer["size"])
        x = normalise(resize(pixels, answer["read_at"])[None], net.metadata["mean"], net.metadata["std"])
        expected = cnncore.softmax(net(x))[0]
        assert answer["class"] == net.metadata["classes"][expected.argmax()]
        found = {entry["class"]: entry["probability"] for entry in answer["top"]}
        np.testing.assert_allclose([found[name] for name in net.metadata["classes"]], expected, rtol=1e-6)
        assert answer["probability"] == answer["top"][0]["probability"] >= answer["top"][1]["probability"]
        assert set(answer) == {"file", "size", "read_at", "familiar", "class", "probability", "top"}


def test_more_classes_asked_for_than_there_are(model, pictures, tmp_path):
    _, out, _ = run_here(["predict", model, pictures / "28x28.png", "--top", 9, "--json"], tmp_path)
    assert len(json.loads(out)[0]["top"]) == 2


def test_size_resizes_first(model, pictures, tmp_path):
    _, out, _ = run_here(["predict", model, pictures / "200x90.png", "--size", "30x20"], tmp_path)
    assert "  30×20  " in out


def test_invert_is_the_negative(model, pictures, tmp_path):
    negative = tmp_path / "negative.png"
    write_png(negative, 255 - read_image(pictures / "28x28.png", channels=1))
    _, plain, _ = run_here(["predict", model, pictures / "28x28.png", "--json", "--top", 2], tmp_path)
    _, inverted, _ = run_here(["predict", model, negative, "--invert", "--json", "--top", 2], tmp_path)
    assert json.loads(plain)[0]["top"] == json.loads(inverted)[0]["top"]


def test_colour_images_are_converted(model, pictures, tmp_path):
    grey = read_image(pictures / "28x28.png", channels=1)
    write_png(tmp_path / "colour.png", np.stack([grey] * 3, axis=-1))
    _, out, _ = run_here(["predict", model, tmp_path / "colour.png", pictures / "28x28.png", "--json"], tmp_path)
    first, second = json.loads(out)
    assert first["probability"] == second["probability"]


def test_a_net_without_metadata_numbers_its_classes(pictures, tmp_path):
    cnncore.models.small_inception(classes=3).save(tmp_path / "plain.safetensors")
    _, out, _ = run_here(["predict", "plain.safetensors", pictures / "28x28.png", "--top", 3, "--json"], tmp_path)
    assert {entry["class"] for entry in json.loads(out)[0]["top"]} == {"0", "1", "2"}


@pytest.mark.long
def test_a_few_epochs_read_digits_at_other_sizes(tmp_path):
    """Trained in seconds: most digits are read at their own size, enlarged, and on a larger sheet of paper."""
    job = Job(Options(epochs=5, batch_size=24, validation=0), tmp_path / "run")
    job.train = job.train.subset(range(1500))
    with cnncore.cpu.target(TRAINING_TARGET):
        assert job.run().accuracy > 0.8
    classifier = Classifier.from_file(tmp_path / "run")
    held_out = digits_split()[1]
    right = {"sheet": 0, "enlarged": 0}
    for number in range(0, 1000, 50):
        sheet = np.zeros((40, 36), np.uint8)
        sheet[7:35, 3:31] = held_out.images[number]
        for how, image in (("sheet", sheet), ("enlarged", resize(held_out.images[number], (44, 40)))):
            right[how] += classifier.classify(image).answer == str(held_out.labels[number])
    assert min(right.values()) >= 14, right


# ── Class activation maps ──────────────────────────────────────────────────────────────────────────────────────────────


def heads():
    """Nets with classifiers after and before the average, with and without bias, dropout and flatten."""

    def net(end, rank=2):
        g = cnncore.Graph()
        h = g.conv(g.input(channels=2, rank=rank), 5, kernel_size=3, padding=1, activation="relu")
        g.output(end(g, h))
        return g.build(seed=3, dtype="float64")

    return {
        "linear": net(lambda g, h: g.linear(g.global_avg_pool(h), 4)),
        "linear without bias": net(lambda g, h: g.linear(g.global_avg_pool(h), 4, bias=False)),
        "dropout": net(lambda g, h: g.linear(g.dropout(g.global_avg_pool(h), 0.5), 4)),
        "maps": net(lambda g, h: g.global_avg_pool(g.conv(h, 4, kernel_size=1))),
        "relu maps": net(lambda g, h: g.global_avg_pool(g.conv(h, 4, kernel_size=1, activation="relu"))),
        "three axes": net(lambda g, h: g.global_avg_pool(g.conv(h, 4, kernel_size=1)), rank=3),
        "one axis": net(lambda g, h: g.linear(g.global_avg_pool(h), 4), rank=1),
    }


@pytest.mark.parametrize("name", heads())
def test_the_mean_of_the_map_is_the_score(name, rng):
    net = heads()[name]
    for array in net.parameters.values():
        array += 0.1 * rng.standard_normal(array.shape)
    rank = len(net.graph.inputs[0].size)
    x = rng.standard_normal((3, 2, *(7, 5, 4)[:rank]))
    scores = net(x)
    for k in range(4):
        heat = explain.class_activation_map(net, x, k)
        assert heat.shape == (3, *(7, 5, 4)[:rank])
        np.testing.assert_allclose(heat.reshape(3, -1).mean(axis=1), scores[:, k], rtol=1e-9, atol=1e-12)
    best = explain.class_activation_map(net, x)
    for i, k in enumerate(scores.argmax(axis=1)):
        np.testing.assert_array_equal(best[i], explain.class_activation_map(net, x, int(k))[i])


def test_the_map_finds_the_place(tmp_path):
    """A net whose classes are bright dots in channels 0 and 1: the map of each class is largest where its dot is."""
    g = cnncore.Graph()
    g.output(g.linear(g.global_avg_pool(g.relu(g.input(channels=2))), 2))
    net = g.build()
    net.parameters["linear.w"] = np.eye(2)
    net.parameters["linear.b"] = np.zeros(2)
    x = np.zeros((1, 2, 9, 12), np.float32)
    x[0, 0, 2, 3], x[0, 1, 7, 10] = 1, 1
    for k, place in enumerate([(2, 3), (7, 10)]):
        heat = explain.class_activation_map(net, x, k)[0]
        assert np.unravel_index(heat.argmax(), heat.shape) == place


@pytest.mark.parametrize("wrong", [-1, 4, 1.5, True, "0"])
def test_classes_that_do_not_exist(wrong, rng):
    with pytest.raises(SettingError, match="class_index must be an integer from 0 to 3"):
        explain.class_activation_map(heads()["maps"], rng.standard_normal((1, 2, 4, 4)), wrong)


def test_networks_without_maps_are_named(rng):
    net = cnncore.models.lenet()
    with pytest.raises(GraphError, match="must end in global_avg_pool"):
        explain.class_activation_map(net, rng.standard_normal((1, 1, 32, 32)).astype(np.float32))
    g = cnncore.Graph()
    h = g.global_avg_pool(g.input(channels=4))
    g.output(g.linear(g.relu(g.linear(h, 3)), 2))
    with pytest.raises(GraphError):
        explain.class_activation_map(g.build(), np.zeros((1, 4, 5, 5), np.float32))
    with pytest.raises(ShapeError, match="contains no image"):
        explain.class_activation_map(heads()["maps"], np.zeros((0, 2, 5, 5)))


def test_maps_as_png_and_svg(model, pictures, tmp_path):
    image = pictures / "40x52.png"
    done = run("predict", model, image, "--cam", "map.png", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)[0]["cam"] == "map.png"
    picture = read_image(tmp_path / "map.png")
    assert picture.shape == (280, 364, 3), "7 times the image"
    run("predict", model, image, "--cam", "map.svg", cwd=tmp_path)
    root = ElementTree.parse(tmp_path / "map.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = (tmp_path / "map.svg").read_text(encoding="utf-8")
    assert "data:image/png;base64," in text and re.search(r"(disc|cross), \d+\.\d%", text)


def test_maps_of_several_images_go_into_a_folder(model, pictures, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    write_png(other / "28x28.png", np.full((20, 20), 9, np.uint8))
    _, out, _ = run_here(["predict", model, pictures, other, "--cam", "maps"], tmp_path)
    names = {path.name for path in (tmp_path / "maps").iterdir()}
    assert names == {"200x90.png", "28x28.png", "28x28_2.png", "40x52.png"}
    assert len(out.splitlines()) == 4


def test_where_maps_cannot_go(model, pictures, tmp_path):
    fails("predict", model, pictures, "--cam", "one.png", cwd=tmp_path, match="one.png is one file for 3 images")
    fails("predict", model, pictures / "28x28.png", "--cam", "a.gif", cwd=tmp_path, match=r"\.png or \.svg")
    fails(
        "predict", model, pictures / "28x28.png", "--cam", "no/a.svg", cwd=tmp_path, match="no/a.svg: cannot be written"
    )
    (tmp_path / "file").write_text("")
    fails("predict", model, pictures, "--cam", "file", cwd=tmp_path, match="file: cannot be created")


def test_lenet_has_no_map_and_says_so(tmp_path, pictures):
    cnncore.models.lenet().save(tmp_path / "lenet.safetensors")
    image = pictures / "28x28.png"
    fails("predict", "lenet.safetensors", image, "--cam", "a.png", cwd=tmp_path, match="must end in global_avg_pool")
    _, out, _ = run_here(["predict", "lenet.safetensors", image], tmp_path)
    assert "  32×32  " in out, "a network of one size gets it"


# ── Bad input ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_bad_models(model, pictures, tmp_path):
    image = pictures / "28x28.png"
    (tmp_path / "text").write_text("hello")
    (tmp_path / "folder").mkdir()
    content = (model / "model.safetensors").read_bytes()
    (tmp_path / "cut").write_bytes(content[:-10])
    (tmp_path / "changed").write_bytes(content[:-10] + bytes(10))
    fails("predict", "nowhere", image, cwd=tmp_path, match="nowhere: no such file")
    fails("predict", "text", image, cwd=tmp_path, match="text: not a model file")
    fails("predict", image, image, cwd=tmp_path, match="not a model file")
    fails("predict", "folder", image, cwd=tmp_path, match="a folder without model.safetensors")
    fails("predict", "cut", image, cwd=tmp_path, match="truncated")
    fails("predict", "changed", image, cwd=tmp_path, match="damaged")
    fails("predict", model / "checkpoint.safetensors", image, cwd=tmp_path, match="checkpoint.safetensors: ")


def test_bad_images(model, pictures, tmp_path):
    content = (pictures / "28x28.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "nothing.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    fails("predict", model, "nowhere.png", cwd=tmp_path, match="nowhere.png: no such file")
    fails("predict", model, "cut.png", cwd=tmp_path, match="cut.png: ")
    fails("predict", model, "text.png", cwd=tmp_path, match="text.png: ")
    fails("predict", model, "nothing.png", cwd=tmp_path, match="nothing.png: ")
    fails("predict", model, "empty", cwd=tmp_path, match="empty: the folder contains no images")
    fails("predict", model, pictures, "--top", 0, cwd=tmp_path, match="--top must be at least 1")


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_images_too_small_for_the_network(model, tmp_path, size):
    write_png(tmp_path / "small.png", np.zeros(size, np.uint8))
    match = rf"small.png: {size[0]}×{size[1]} pixels are too small for this network, which takes 2×2 or more.*--size 16"
    fails("predict", model, "small.png", cwd=tmp_path, match=match)


def test_the_smallest_image_is_taken(model):
    classifier = Classifier.from_file(model)
    smallest = classifier.smallest_size()
    assert smallest == 2
    assert classifier.classify(np.zeros((smallest, smallest), np.uint8)).answer in ("disc", "cross")
    with pytest.raises(cnncore.DataError):
        classifier.classify(np.zeros((smallest - 1, smallest), np.uint8))


def test_bad_images_do_not_spoil_the_others(model, pictures, tmp_path):
    code, out, error = run_here(["predict", model, "nowhere.png", pictures / "28x28.png", "--json"], tmp_path)
    said = "nowhere.png: no such file; expected an image file; "
    assert code == 2 and error.startswith(f"cnncore: error: {said}") and error.count("\n") == 1
    bad, good = json.loads(out)
    assert bad["file"] == "nowhere.png" and bad["error"].startswith(said) and good["class"] in ("disc", "cross")


@pytest.mark.parametrize(
    ("metadata", "match"),
    [
        ({"mean": [1, 2]}, "mean in its metadata"),
        ({"mean": ["a"]}, "mean in its metadata"),
        ({"mean": None}, "mean in its metadata"),
        ({"std": [0]}, "std in its metadata"),
        ({"std": [float("inf")]}, "std in its metadata"),
        ({"classes": "ab"}, "not a list of names"),
        ({"classes": [1, 2]}, "not a list of names"),
        ({"classes": ["a"]}, "2 outputs, its metadata 1 classes"),
    ],
)
def test_hostile_metadata(metadata, match):
    net = cnncore.models.small_inception(classes=2)
    net.metadata = metadata
    with pytest.raises(ModelFileError, match=match):
        Classifier(net).classify(np.zeros((20, 20), np.uint8))


def test_nets_that_classify_no_images():
    g = cnncore.Graph()
    g.output(g.linear(g.input(channels=3, rank=0), 2))
    with pytest.raises(ModelFileError, match="one image"):
        Classifier(g.build())
    g = cnncore.Graph()
    g.output(g.global_avg_pool(g.input(channels=5)))
    with pytest.raises(ModelFileError, match="5 channels"):
        Classifier(g.build())


def test_a_note_says_what_to_do_about_images_unlike_those_of_the_training(model, shapes, tmp_path):
    file = sorted((shapes / "disc").iterdir())[0]
    write_png(tmp_path / "ink.png", 255 - read_image(file))
    code, out, error = run_here(
        ["predict", model, file, tmp_path / "ink.png", tmp_path / "ink.png", "--json"], tmp_path
    )
    assert code == 0 and error.count("\n") == 1 and "ink.png: its background is light" in error and "--invert" in error
    plain, ink = json.loads(out)
    assert "unlike" not in plain and "--invert" in ink["unlike"]
    _, out, error = run_here(["predict", model, tmp_path / "ink.png", "--invert", "--json"], tmp_path)
    (again,) = json.loads(out)
    assert error == "" and again["probability"] == pytest.approx(plain["probability"], rel=1e-6)
