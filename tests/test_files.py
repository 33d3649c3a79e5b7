"""Whatever reads a file says of one that it cannot open what was expected, what came, and the way out."""

import ast
import sys

import numpy as np
import pytest
from support.processes import ROOT

import cnncore
from cnncore import io, train
from cnncore.errors import FileReadError, MissingFileError, SettingError
from cnncore.testing import conformance, exercises
from cnncore.testing.conformance.adapter import adapter
from cnncore.train import data
from cnncore.train.file_data import FileDataset
from cnncore.vision import images, preprocessing
from cnncore.vision.classify import Classifier


def small_net():
    g = cnncore.Graph()
    g.output(g.linear(g.global_avg_pool(g.input(1)), 2))
    return g.build()


# Every public function that reads a file, and the ending of its name.
READERS = {
    "load": (cnncore.load, ".safetensors"),
    "load_onnx": (io.load_onnx, ".onnx"),
    "load_safetensors": (io.load_safetensors, ".safetensors"),
    "load_weights, safetensors": (lambda path: io.load_weights(small_net(), path), ".safetensors"),
    "load_weights, npz": (lambda path: io.load_weights(small_net(), path), ".npz"),
    "Trainer.restore": (lambda path: train.Trainer(small_net(), train.SGD(0.1)).restore(path), ".safetensors"),
    "FileDataset.from_folder": (FileDataset.from_folder, ""),
    "data.load": (data.load, ".npz"),
    "read_image": (images.read_image, ".png"),
    "image_shape": (images.image_shape, ".jpg"),
    "read_classes": (preprocessing.read_classes, ".txt"),
    "Classifier.from_file": (Classifier.from_file, ".safetensors"),
    "Classifier.from_file, ONNX": (Classifier.from_file, ".onnx"),
    "mark_file": (exercises.mark_file, ".py"),
    "read_vectors": (lambda path: list(conformance.read_vectors(path)), ""),
    "adapter": (adapter, ".py"),
}
READS_FOLDERS = ("FileDataset.from_folder", "read_vectors", "data.load")
# Modules that open files by other means, and why.
OTHERWISE = {
    "checks.py": "opened_file itself",
    "cli/main.py": "the null device, in place of closed streams",
    "cli/report.py": "a file of the package",
    "distributed/bulk.py": "the description that an earlier call wrote",
    "distributed/shards.py": "shards that an earlier call wrote",
    "distributed/sweeps.py": "results that an earlier call wrote",
    "explorers/widgets.py": "a file of the package",
    "io/npz.py": "an archive in a file that opened_file opened",
    "io/onnx_import/external.py": "neither links nor devices may be opened; says what belongs where",
    "nets/model_file.py": "writes; opens folders to flush them",
    "nets/net.py": "writes",
    "runtime/costs.py": "files of the system, which may lack them; measured costs, which are measured again if it fails",
    "runtime/threads.py": "a file of the system, which may lack it",
    "runtime/versions.py": "a file of the system, which may lack it",
    "testing/conformance/vectors.py": "arrays beside an index that opened_file opened",
    "train/data.py": "a file of the package",
    "train/data_files.py": "an archive in a file that opened_file opened",
    "train/history.py": "an example",
    "train/job.py": "looks whether an archive has a test part; load says what is wrong with it",
    "train/known_data.py": "what was just downloaded",
    "vision/images.py": "read_image, by opened_file, says what is wrong where Pillow fails",
    "vision/network_page/page.py": "files of the package",
}
OPENERS = {"open", "read_bytes", "read_text", "ZipFile"}


def opening_modules():
    """Modules of the package that open files themselves."""
    for path in (ROOT / "cnncore").rglob("*.py"):
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        for call in calls:
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            owner = getattr(getattr(call.func, "value", None), "id", "")
            if name in OPENERS or (owner, name) == ("np", "load"):
                yield path.relative_to(ROOT / "cnncore").as_posix()
                break


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="needs the source tree beside the tests")
def test_files_are_opened_in_one_place():
    """By checks.opened_file, whose errors are walked over here; a module that opens them otherwise has its reason."""
    assert set(opening_modules()) <= set(OTHERWISE)


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file(name, tmp_path):
    read, ending = READERS[name]
    path = tmp_path / f"nope{ending}"
    with pytest.raises(MissingFileError, match=r"nope.*: no such (file|folder|file or folder); expected ") as caught:
        read(path)
    assert isinstance(caught.value, FileNotFoundError) and "Errno" not in str(caught.value)
    with pytest.raises(MissingFileError, match="there is no folder"):
        read(tmp_path / "none" / "of" / path.name)
    (tmp_path / f"nope2{ending}").write_bytes(b"")
    if name != "read_vectors":
        with pytest.raises(MissingFileError, match=f"did you mean 'nope2{ending}'"):
            read(path)


@pytest.mark.parametrize("name", [name for name in READERS if name not in READS_FOLDERS])
def test_a_folder_in_place_of_a_file(name, tmp_path):
    read, ending = READERS[name]
    folder = tmp_path / f"folder{ending}"
    folder.mkdir()
    with pytest.raises(cnncore.CnnError, match=r"is a folder; expected |a folder without model"):
        read(folder)


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileReadError, match=r"file: is a file; expected a folder with one subfolder"):
        FileDataset.from_folder(tmp_path / "file")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "value", [3, 2.5, None, np.zeros(2), object()], ids=["int", "float", "None", "array", "object"]
)
def test_what_is_no_path(name, value):
    """A number is none: Python would take it for a file that is open already."""
    with pytest.raises(cnncore.CnnError, match=r"expected (the path of|a path or bytes).* got ") as caught:
        READERS[name][0](value)
    assert name == "load_onnx" or isinstance(caught.value, SettingError)


@pytest.mark.parametrize("name", READERS)
def test_a_name_that_no_file_has(name):
    read, ending = READERS[name]
    said = r"a\\x00b.*: (invalid file name \(.*\); expected the path of|no such file or folder)"
    with pytest.raises(FileReadError, match=said):
        read(f"a\0b{ending}")


@pytest.mark.skipif(sys.platform == "win32", reason="files without permission to read")
def test_a_file_that_may_not_be_read(monkeypatch, tmp_path):
    def refuse(*arguments, **settings):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(
        FileReadError, match=r"x: cannot be read \(Permission denied\); expected a model file.* may read"
    ):
        cnncore.load(tmp_path / "x")
