"""The command line: training as a user runs it, what it leaves, and one clear line for every mistake."""

import csv
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from support.command_line import COMMAND, ENVIRONMENT, fails, run, run_here, write_classes
from support.processes import SLOW, TRAINING_TARGET

import cnncore
from cnncore import cli
from cnncore.operators.documentation import plain_text
from cnncore.train import Job, Options
from cnncore.train.data import digits, digits_split
from cnncore.vision.classify import Classifier
from cnncore.vision.images import resize, write_png

# ── train ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_training_prints_a_line_per_epoch_where_there_is_no_terminal(trained):
    _, done = trained
    assert done.stderr == ""
    assert "\r" not in done.stdout and "\033" not in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 3
    for number, line in enumerate(lines, 1):
        assert re.fullmatch(
            rf"epoch {number}/3  loss [\d.]+  accuracy +[\d.]+%  validation +[\d.]+%  [\d,]+ images/s  [\d.]+ s", line
        ), line
    assert "cross" in done.stdout and "Confusion" in done.stdout
    assert re.search(r"^accuracy [\d.]+% on held-out images \(\d+ of 4 misclassified\)", done.stdout, re.MULTILINE)


def test_training_leaves_model_checkpoint_report_and_samples(trained):
    folder, _ = trained
    names = {path.name for path in folder.iterdir()}
    history = {"history.csv", "history.json", "test.json"}
    assert (
        names == {"model.safetensors", "checkpoint.safetensors", "report.html", "explained.html", "samples"} | history
    )
    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["0-cross.png", "1-disc.png"]
    net = cnncore.load(folder / "model.safetensors")
    known = net.metadata
    assert known["classes"] == ["cross", "disc"] and known["channels"] == 1 and known["size"] == [16, 16]
    assert known["largest_size"] == [35, 35], "the largest canvas"
    assert known["training"]["epochs"] == 3 and known["network"] == "small_inception"
    assert len(known["mean"]) == len(known["std"]) == 1 and known["std"][0] > 0


class WellFormed(HTMLParser):
    """Follows every start tag to its end tag, and collects what could reach out of the file."""

    EMPTY = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.references, self.tags = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in self.EMPTY:
            self.open.append(tag)
        self.handle_references(attributes)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.handle_references(attributes)

    def handle_references(self, attributes):
        self.references += [
            v for name, v in attributes if name in ("src", "href", "xlink:href", "action", "data", "srcset")
        ]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_well_formed_and_needs_nothing_else(trained):
    folder, _ = trained
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = WellFormed()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.references.count("explained.html") == 1, "the page with every layer"
    page.references.remove("explained.html")
    assert page.references and all(reference.startswith("data:image/png;base64,") for reference in page.references)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", text)
    ElementTree.fromstring(text.partition("\n")[2])  # after the doctype it is XML as well
    for heading in (
        "Learning",
        "final test",
        "have no part in these curves",
        "Classes, by epoch",
        "Accuracy by size",
        "16×16 to 35×35",
        "classified at 35×16",
        "The network",
        "first layer",
        "All layers",
        "Inside inception_1",
        "Inside inception_4",
        "Weights and gradients of all layers",
        "Class activation maps",
        "Gradients in the image",
        "Confusion",
        "Misclassified images",
    ):
        assert heading in text, heading
    for branch in ("1×1", "1×1 → 3×3", "1×1 → 5×5", "max pool 3×3 → 1×1"):
        assert f"<h3>{branch} " in text, branch
    assert "prefers-color-scheme: dark" in text


def test_bars_and_numbers_of_the_report_say_the_same(trained):
    """Every bar begins at 0 and is as long as the number beside it says; a class's recall is in the history."""
    folder, _ = trained
    text = (folder / "report.html").read_text(encoding="utf-8")
    bars = re.findall(r"<i style='width:([\d.]+)%'></i></span>(?:</td><td class='n'>|<b>)([\d.]+) %", text)
    assert len(bars) > 5 and all(float(width) == pytest.approx(float(number), abs=0.06) for width, number in bars)
    with (folder / "history.csv").open(encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    recalls = {name: float(v) for name, v in last.items() if name.startswith("validation_recall of ")}
    shown = re.findall(r"<figcaption><b>(.*?)</b> ([\d.]+) %</figcaption>", text)
    assert len(shown) == len(recalls) > 1
    for name, percent in shown:
        assert 100 * recalls[f"validation_recall of {name}"] == pytest.approx(float(percent), abs=0.06)


def test_names_of_classes_are_text_in_the_report(tmp_path):
    data = write_classes(tmp_path / "data", count=4)
    (data / "disc").rename(data / "<b>&'x")
    run("train", "--data", "data", "--epochs", 1, "--output", "run", "--network", "network_in_network", cwd=tmp_path)
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    ElementTree.fromstring(text.partition("\n")[2])
    assert "<b>&'x" not in text and "&lt;b&gt;&amp;" in text


def weights(folder):
    net = cnncore.load(folder / "model.safetensors")
    return {**net.parameters, **net.buffers}


@pytest.mark.long
def test_same_seed_same_weights_whatever_the_threads(tmp_path, shapes, trained):
    folder, _ = trained
    expected = weights(folder)
    arguments = ("train", "--data", shapes, "--epochs", 3, "--batch-size", 8, "--quiet")
    for threads in (1, 2):
        run(*arguments, "--threads", threads, "--output", f"run{threads}", cwd=tmp_path)
        found = weights(tmp_path / f"run{threads}")
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
    run(*arguments, "--seed", 1, "--output", "other", cwd=tmp_path)
    assert not all(np.array_equal(array, expected[name]) for name, array in weights(tmp_path / "other").items())


def test_quiet_prints_one_line(tmp_path, shapes):
    done = run("train", "--data", shapes, "--epochs", 1, "--quiet", "--no-augment", "--optimizer", "sgd", cwd=tmp_path)
    assert re.fullmatch(r"accuracy [\d.]+% on held-out images \(\d+ of 4 misclassified\), in [\d.]+ s\n", done.stdout)
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)


def test_a_terminal_gets_one_updating_line(tmp_path, shapes):
    """On a pseudo-terminal: a line with rate and remaining time, redrawn at most ten times a second."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "train", "--data", shapes, "--epochs", "4", "--batch-size", "1", "--size", "40", "--output", "run"],
        cwd=tmp_path,
        stdout=terminal,
        stderr=terminal,
        close_fds=True,
        env=ENVIRONMENT,
    )
    os.close(terminal)
    shown, started = b"", None
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        if started is None and b"\033[K" in part:
            started = time.monotonic()
        shown += part
    took = time.monotonic() - started
    os.close(main)
    assert process.wait() == 0
    text = shown.decode()
    drawn = re.findall(r"\r\033\[Kepoch +(\d)/4  [ █▏▎▍▌▋▊▉]+ +\d+%  loss [\d.]+  [\d,]+ images/s  \d+:\d\d left", text)
    assert drawn and len(drawn) <= 10 * took + 4
    assert len(re.findall(r"validation +[\d.]+%", text)) == 4


def press_ctrl_c(arguments, cwd, after, delay=0.0):
    """Start the command, send SIGINT once a line starting with ``after`` has come: (seconds to its end, code, stderr)."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        for line in process.stdout:
            if line.startswith(after):
                break
        time.sleep(delay)
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        select.select([process.stderr], [], [], 20)  # the message is the reaction
        reacted = time.monotonic() - pressed
        _, error = process.communicate(timeout=30)
        return reacted, process.returncode, error
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("after", "epochs"), [("900 epochs", 0), ("epoch   1/900", 1)], ids=["first epoch", "later"])
def test_ctrl_c_leaves_the_last_complete_model(tmp_path, after, epochs):
    images, labels = digits()
    np.savez(tmp_path / "some.npz", images=images[::5], labels=labels[::5])
    arguments = ("train", "--data", "some.npz", "--epochs", 900, "--output", "run")
    reacted, code, error = press_ctrl_c(arguments, tmp_path, after, delay=0.5)
    assert code == 130
    assert re.fullmatch(r"cnncore: interrupted; run/model.safetensors holds the model after .*--resume run\n", error), (
        error
    )
    assert reacted <= 0.2
    net = cnncore.load(tmp_path / "run" / "model.safetensors")
    assert net.metadata["training"]["epochs"] >= epochs
    assert all(np.isfinite(array).all() for array in net.parameters.values())
    done = run("predict", "run", "x.png", cwd=tmp_path, code=2)
    assert "no such file" in done.stderr


def test_a_resumed_training_gives_the_uninterrupted_weights(tmp_path, shapes, trained):
    """Stopped by Ctrl-C somewhere, resumed, on other threads: the same weights bit for bit."""
    folder, _ = trained
    job = Job(Options(data=str(shapes), epochs=3, batch_size=8), tmp_path / "run")

    class Stop:
        def on_step(self, trainer, now):
            if (now.epoch, now.step) == (1, 1):
                raise KeyboardInterrupt

        def on_epoch(self, trainer, epoch):
            return False

    with pytest.raises(KeyboardInterrupt):
        job.run([Stop()])
    assert cnncore.load(job.model).metadata["training"]["epochs"] == 1
    done = run("train", "--resume", "run", "--threads", 1, cwd=tmp_path)
    assert "resumed after epoch 1 of 3" in done.stdout
    expected, found = weights(folder), weights(tmp_path / "run")
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    again = run("train", "--resume", "run", "--quiet", cwd=tmp_path)  # complete: only tested and reported again
    assert "accuracy" in again.stdout


def test_what_a_resumed_training_cannot_change(tmp_path, shapes, trained):
    folder, _ = trained
    fails("train", "--resume", folder, "--epochs", 9, cwd=tmp_path, match="--epochs is fixed")
    fails("train", "--resume", folder, "--no-augment", cwd=tmp_path, match="--no-augment is fixed")
    fails("train", "--resume", folder, "--output", "x", cwd=tmp_path, match="--output is fixed")
    fails("train", "--resume", "nowhere", cwd=tmp_path, match="nowhere: no such file")
    fails("train", "--resume", folder / "model.safetensors", cwd=tmp_path, match="not a checkpoint")
    other = write_classes(tmp_path / "other", size=18)
    fails(
        "train", "--resume", folder, "--data", other, cwd=tmp_path, match="not the images of the interrupted training"
    )


def trains(*arguments, cwd):
    """Train in this process; what was printed."""
    code, out, error = run_here(["train", *arguments], cwd)
    assert (code, error) == (0, "")
    return out


def test_data_in_other_forms(tmp_path):
    """npz with a test part of its own, IDX files, colour, several sizes, train and test folders."""
    images, labels = digits()
    part = np.arange(0, 5000, 100)
    few = ("--epochs", 1, "--quiet", "--batch-size", 16)
    np.savez(
        tmp_path / "d.npz", x_train=images[part], y_train=labels[part], x_test=images[part + 1], y_test=labels[part + 1]
    )
    assert "of 50 misclassified" in trains("--data", "d.npz", *few, cwd=tmp_path)
    assert "of 20 misclassified" in trains("--data", "d.npz", "--test", 0.4, *few, cwd=tmp_path)

    def idx(name, array):
        header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        (tmp_path / name).write_bytes(header + array.astype(np.uint8).tobytes())

    idx("i.idx", images[part])
    idx("l.idx", labels[part])
    assert "of 10 misclassified" in trains("--data", "i.idx:l.idx", *few, cwd=tmp_path)
    write_classes(tmp_path / "photos" / "train", colour=True)
    write_classes(tmp_path / "photos" / "test", count=3, size=20, colour=True)
    assert "of 6 misclassified" in trains("--data", "photos", *few, "--output", "p", cwd=tmp_path)
    assert cnncore.load(tmp_path / "p" / "model.safetensors").graph.inputs[0].channels == 3


def test_networks_of_one_size_and_of_three_channels(tmp_path, shapes):
    few = ("--data", shapes, "--epochs", 1, "--quiet")
    trains(*few, "--network", "lenet", "--output", "l", cwd=tmp_path)
    assert cnncore.load(tmp_path / "l" / "model.safetensors").metadata["size"] == [32, 32]
    fails("train", *few, "--network", "lenet", "--size", "28", cwd=tmp_path, match="32×32 only")
    assert "disc" in run("predict", "l", "l/samples/1-disc.png", "--top", 2, cwd=tmp_path).stdout


MISTAKES = {
    "no such data": (("train", "--data", "nowhere"), "nowhere: no such file or folder"),
    "empty folder": (("train", "--data", "empty"), "empty: the folder is empty"),
    "one class": (("train", "--data", "one"), "one: .*class"),
    "corrupt image": (("train", "--data", "corrupt"), r"corrupt/disc/0\.png: truncated PNG"),
    "class without images": (("train", "--data", "hollow"), "no images in class 'disc'"),
    "one image of a class": (("train", "--data", "scarce"), "at least 2 of each class"),
    "unknown network": (("train", "--network", "small_incepton"), "did you mean 'small_inception'"),
    "no epochs": (("train", "--epochs", "0"), "epochs must be .* 1"),
    "batch size": (("train", "--batch-size", "-3"), "batch size"),
    "learning rate": (("train", "--learning-rate", "nan"), "learning rate"),
    "validation": (("train", "--validation", "1.5"), "validation"),
    "optimizer": (("train", "--optimizer", "newton"), r"--optimizer: unknown choice 'newton'\. There are sgd"),
    "size": (("train", "--size", "big"), "'big' is not a size"),
    "size zero": (("train", "--size", "0x5"), "size"),
    "threads": (("train", "--threads", "0"), "not a number of threads"),
    "images too small": (("train", "--data", "tiny"), "too small for network small_inception"),
    "output is a file": (("train", "--output", "file"), "file: cannot be created"),
    "no command": ((), "COMMAND"),
    "unknown command": (("trian",), "unknown choice 'trian'; did you mean 'train'"),
    "unknown operator": (("ops", "maxpool"), "did you mean 'max_pool'"),
    "unknown operator in check": (("check", "reluu"), "did you mean 'relu'"),
    "unknown operator in bench": (("bench", "reluu"), "did you mean 'relu'"),
    "unknown model": (("summary", "perceptron"), r"unknown model file or network 'perceptron'\. Networks are lenet"),
    "misspelt model": (("summary", "mobilnet_v2"), "network 'mobilnet_v2'; did you mean 'mobilenet_v2'"),
    "misspelt command": (("summry", "lenet"), r"unknown choice 'summry'; did you mean 'summary'\?"),
    "opset of another kind": (("export", "lenet", "x.npz", "--opset", 13), "--opset applies to ONNX files only"),
    "unknown kind of file": (("export", "lenet", "x.pt"), r"use \.onnx .*\.safetensors .*\.npz"),
    "export into nowhere": (("export", "lenet", "no/x.npz"), "no/x.npz: cannot be written"),
}


@pytest.fixture(scope="session")
def mistaken_data(tmp_path_factory):
    place = tmp_path_factory.mktemp("mistakes")
    (place / "empty").mkdir()
    (place / "file").write_text("not a folder")
    write_classes(place / "one", count=2)
    for path in (place / "one" / "cross").iterdir():
        path.unlink()
    (place / "one" / "cross").rmdir()
    write_classes(place / "corrupt", count=3)
    (place / "corrupt" / "disc" / "0.png").write_bytes((place / "corrupt" / "disc" / "0.png").read_bytes()[:60])
    write_classes(place / "hollow", count=1)
    (place / "hollow" / "disc" / "0.png").unlink()
    write_classes(place / "scarce", count=1)
    write_classes(place / "tiny", count=4, size=1)
    return place


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_clear_line(mistake, mistaken_data):
    arguments, match = MISTAKES[mistake]
    fails(*arguments, cwd=mistaken_data, match=match)
    assert not (mistaken_data / "runs").exists()


def test_a_mistake_in_a_process_of_its_own(tmp_path):
    done = run("train", "--data", "nowhere", cwd=tmp_path, code=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("cnncore: error: nowhere: no such file or folder; expected ") and done.stdout == ""


def test_debug_shows_the_traceback(tmp_path):
    done = run("train", "--data", "nowhere", "--debug", cwd=tmp_path, code=1)
    assert "Traceback" in done.stderr and "MissingFileError" in done.stderr


# ── The other commands ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "command", ["train", "predict", "check", "ops", "summary", "info", "profile", "tune", "bench", "export"]
)
def test_help_teaches(command, tmp_path):
    code, text, _ = run_here([command, "--help"], tmp_path)
    assert code == 0
    assert f"usage: cnncore {command}" in text and "--threads" in text
    assert "example" in text or command == "info"
    if command == "train":
        for word in (
            "default: 24",
            "small_inception",
            "one subfolder",
            "Ctrl-C",
            "the same seed gives the same weights",
            "0.007 for adam",
        ):
            assert word in " ".join(text.split()), word


def test_top_help_and_version(tmp_path):
    _, text, _ = run_here(["--help"], tmp_path)
    for command in ("train", "predict", "check", "ops", "summary", "info", "bench", "export"):
        assert f"    {command} " in text
    assert run("--version", cwd=tmp_path).stdout == f"cnncore {cnncore.__version__}\n"


def test_ops_lists_and_explains(tmp_path):
    _, text, _ = run_here(["ops"], tmp_path)
    assert all(f"  {name} " in text for name in cnncore.OPS)
    _, text, _ = run_here(["ops", "lp_pool"], tmp_path)
    assert plain_text(cnncore.lp_pool) in text and "ONNX LpPool" in text
    _, text, _ = run_here(["ops", "pool"], tmp_path)
    assert "`" not in text and "|" not in text and all(f"\n{name} " in text for name in cnncore.pool.strategies)


def test_info_tells_kernels_from_definitions(tmp_path):
    text = run("info", cwd=tmp_path, CNNCORE_TARGET=TRAINING_TARGET).stdout
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert all(name in lines for name in cnncore.OPS)
    assert "kernel: " in lines["conv"] and "conv_" in lines["conv"]
    plain = run("info", cwd=tmp_path, CNNCORE_TARGET="reference").stdout
    assert "kernel: " not in plain and f"numpy {np.__version__}" in " ".join(plain.split())


def test_check_succeeds_and_fails(tmp_path, monkeypatch, capsys):
    code, out, error = run_here(["check", "relu", "max_pool"], tmp_path)
    assert code == 0 and "max_pool" in out and "all passed" in out and error == ""
    code, out, error = run_here(["check", "relu", "--quiet"], tmp_path)
    assert code == 0 and len(out.splitlines()) <= 2 and "all passed" in out

    implementation = type(cnncore.relu.implementation)
    honest = implementation.backward
    monkeypatch.setattr(
        implementation, "backward", lambda *a, **k: tuple(None if d is None else -d for d in honest(*a, **k))
    )
    assert cli.main(["check", "relu"]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["googlenet", "lenet", "network_in_network", "small_inception"])
def test_summary_of_networks(name, tmp_path):
    _, text, _ = run_here(["summary", name], tmp_path)
    assert "multiply-adds" in text and "receptive field" in text and "total" in text


def test_summary_of_a_model_file_at_another_size(trained, tmp_path):
    folder, _ = trained
    assert "(1, 1, 16, 16)" in run_here(["summary", folder], tmp_path)[1]
    assert "(1, 1, 30, 41)" in run_here(["summary", folder / "model.safetensors", "--size", "30x41"], tmp_path)[1]
    fails("summary", "lenet", "--size", 40, cwd=tmp_path, match="32×32 only")


def test_bench_times_every_operator(tmp_path):
    code, text, _ = run_here(["bench", "--quick"], tmp_path)
    assert code == 0
    names = {line.split()[0] for line in text.splitlines()[2:]}
    assert names == set(cnncore.OPS)


def test_export_gives_the_parameters_by_name(trained, tmp_path):
    folder, _ = trained
    run("export", folder / "model.safetensors", "weights.npz", cwd=tmp_path)
    expected = weights(folder)
    with np.load(tmp_path / "weights.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == set(expected)
        assert all(np.array_equal(arrays[name], expected[name]) for name in expected)


def test_output_without_unicode(tmp_path, shapes):
    """A terminal that knows ASCII only gets question marks, no UnicodeEncodeError."""
    done = run("summary", "lenet", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert "?" in done.stdout


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "ops", *cnncore.OPS], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
    process.stderr.close()


@pytest.mark.skipif(os.name == "nt", reason="descriptors are closed by a POSIX shell")
@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("<&- >&- 2>&-", 0)])
def test_closed_streams_are_no_error(tmp_path, closed, code):
    command = " ".join(map(shlex.quote, [*COMMAND, "ops"]))
    done = subprocess.run(
        f"{command} {closed}", shell=True, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT, timeout=60
    )
    assert done.returncode == code and done.stderr == ""


# ── The main promise ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.long
@pytest.mark.timeout(900)  # a whole training, beside another test
def test_train_without_arguments_reads_handwriting(tmp_path):
    """`cnncore train`: at least 98 % of 1,000 digits that it has not seen, and 96 % of them enlarged to 40×52.

    Builds that look for errors train for one epoch in small batches, and have to reach half of it.
    """
    options = ["--epochs", "1", "--batch-size", "16"] if SLOW else []
    done = run("train", *options, cwd=tmp_path, timeout=600, CNNCORE_TARGET=TRAINING_TARGET)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("accuracy")]
    accuracy = float(re.match(r"accuracy ([\d.]+)%", line)[1])
    assert accuracy >= (49.0 if SLOW else 98.0), done.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    answers = json.loads(run("predict", folder, folder / "samples", "--json", cwd=tmp_path).stdout)
    if SLOW:
        return
    assert sum(a["class"] == a["file"][-5] for a in answers) >= 9
    classifier, held_out = Classifier.from_file(folder), digits_split()[1]
    enlarged = [classifier.classify(resize(image, (40, 52))) for image in held_out.images]
    assert {answer.read_at for answer in enlarged} == {(40, 52)}, "not at its own size"
    right = sum(answer.answer == str(label) for answer, label in zip(enlarged, held_out.labels, strict=True))
    assert right >= 960
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("by size")]
    assert f"28×28 {accuracy:.1f}%" in line and f"40×52 {right / 10:.1f}%" in line and "200×90" in line


# ── Streams that are not there, files that cannot be written ───────────────────────────────────────────────────────────


@pytest.mark.long
@pytest.mark.parametrize(
    "command", ["ops", "ops max_pool", "summary lenet", "info", "check relu", "predict none.png none.png"]
)
def test_closed_streams_end_no_command(command, tmp_path):
    """As services, cron and pythonw start programs: the exit code is that of the same command with streams."""

    def outcome(redirected):
        return subprocess.run(
            f"{sys.executable} -m cnncore {command} {redirected}",
            shell=True,
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            timeout=120,
        )

    expected = outcome("").returncode
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        done = outcome(closed)
        assert done.returncode == expected, closed
        assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr, closed


def test_a_sample_or_a_report_that_cannot_be_written_does_not_end_a_training(tmp_path, capsys, monkeypatch):
    """What the other steps leave is there, the accuracy is said, and the error comes last."""
    for place, name in enumerate(("cat", "dog")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(4):
            write_png(tmp_path / "data" / name / f"{number}.png", np.full((28, 28), 90 * place + number, np.uint8))
    arguments = [
        "train",
        "--data",
        str(tmp_path / "data"),
        "--epochs",
        "1",
        "--no-augment",
        "--output",
        str(tmp_path / "run"),
    ]
    (tmp_path / "run" / "report.html").mkdir(parents=True)
    (tmp_path / "run" / "samples").write_text("in the way")
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert "accuracy" in said.out and "try" not in said.out
    assert said.err.count("cnncore: error:") == 2 and "samples" in said.err and "report.html" in said.err
    assert cnncore.load(tmp_path / "run" / "model.safetensors").metadata["classes"] == ["cat", "dog"]


def test_pictures_that_are_left_out_are_noted(tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            write_png(tmp_path / name / f"{number}.png", np.full((28, 28), number, np.uint8))
    (tmp_path / "cat" / "more.heic").touch()
    assert (
        cli.main(["train", "--data", str(tmp_path), "--epochs", "1", "--output", str(tmp_path / "run"), "--quiet"]) == 0
    )
    note = capsys.readouterr().err
    assert (
        re.search(r"^cnncore: note: .*cat: 1 of \.heic are skipped", note, re.MULTILINE) and "data_files.py" not in note
    )
