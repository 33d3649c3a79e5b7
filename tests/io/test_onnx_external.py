"""Weights beside the ONNX file: read where they are a regular file in the same folder, and nowhere else."""

import os

import numpy as np
import pytest
from support.onnx_models import helper, model, node, onnx, weight

import cnncore
from cnncore import ModelFileError

NODES = [node("Conv", "x w b", "h", pads=[1, 1, 1, 1]), node("Mul", "h s", "y")]
ARRAYS = {"w": weight(2, 1, 3, 3), "b": weight(2), "s": weight(2, 1, 1)}
X = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)


def whole():
    return onnx.load_from_string(model(NODES, {"x": ["N", 1, 4, 4]}, ["y"], ARRAYS))


@pytest.fixture
def pair(tmp_path):
    """(path of an ONNX file, path of the file beside it, message) as the onnx package writes them."""
    made, path = whole(), tmp_path / "net.onnx"
    onnx.save_model(made, path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    return path, tmp_path / "net.onnx.data", onnx.load(path, load_external_data=False)


def refused(path, message):
    with pytest.raises(ModelFileError, match=message) as caught:
        cnncore.io.load_onnx(path)
    assert 20 < len(str(caught.value)) < 600


def entry_of(made, key, number=0):
    return next(entry for entry in made.graph.initializer[number].external_data if entry.key == key)


def test_read_from_beside(pair, tmp_path, monkeypatch):
    path, data, _ = pair
    right = cnncore.io.load_onnx(whole().SerializeToString())(X)
    assert np.array_equal(cnncore.io.load_onnx(path)(X), right)
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(cnncore.io.load_onnx("net.onnx")(X), right)
    assert data.stat().st_size > 0


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8"])
def test_other_types_from_beside(tmp_path, dtype):
    values = (weight(1, 3) * 10).astype(dtype)
    nodes = [node("Cast", "w", "c", to=1), node("Add", "x c", "y")]
    made = onnx.load_from_string(model(nodes, {"x": ["N", 3]}, ["y"], {"w": values}))
    onnx.save_model(made, tmp_path / "a.onnx", save_as_external_data=True, location="a.bin", size_threshold=0)
    y = cnncore.io.load_onnx(tmp_path / "a.onnx")(np.zeros((1, 3), np.float32))
    assert np.array_equal(y, values.astype(np.float32))


def test_bytes_have_nothing_beside_them(pair):
    path, _, _ = pair
    refused(path.read_bytes(), "bytes do not have beside them: give load_onnx the path")


@pytest.mark.parametrize(
    "location",
    ["", ".", "..", "../net.onnx.data", "a/net.onnx.data", "/etc/passwd", "C:\\x", "a\\b", "net.onnx.data\0", "file:x"],
)
@pytest.mark.parametrize("inside", ["initializer", "attribute"])
def test_only_bare_names(pair, location, inside):
    path, _, made = pair
    tensor = made.graph.initializer[0]
    if inside == "attribute":
        made.graph.node.insert(0, helper.make_node("Constant", [], ["w2"], value=tensor))
        made.graph.node[1].input[1] = "w2"
        tensor = made.graph.node[0].attribute[0].t
    next(entry for entry in tensor.external_data if entry.key == "location").value = location
    path.write_bytes(made.SerializeToString())
    refused(path, "only files in the same folder are read")


def test_no_links_out(pair, tmp_path):
    path, data, _ = pair
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.replace(data, elsewhere / "secret")
    data.symlink_to(elsewhere / "secret")
    refused(path, "is a link, a folder or a device")
    data.unlink()
    os.link(elsewhere / "secret", data)
    refused(path, "second name")
    data.unlink()
    data.mkdir()
    refused(path, "is a link, a folder or a device")
    data.rmdir()
    refused(path, "cannot be read: No such file.*belongs into the folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_block(pair):
    path, data, _ = pair
    data.unlink()
    os.mkfifo(data)
    refused(path, "is a link, a folder or a device")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("offset", "-1", "expected a number of bytes"),
        ("offset", "1e3", "expected a number of bytes"),
        ("offset", "9" * 30, "expected a number of bytes"),
        ("offset", str(1 << 62), "which has"),
        ("length", "71", "its shape needs 72"),
        ("length", str(1 << 62), "its shape needs 72"),
        ("length", "٣", "expected a number of bytes"),
    ],
)
def test_offsets_and_lengths_are_checked(pair, key, value, message):
    path, _, made = pair
    entry_of(made, key).value = value
    path.write_bytes(made.SerializeToString())
    refused(path, message)


def test_parts_are_not_shared(tmp_path):
    """Many arrays that lie in the same bytes would make much of little; one and the same array may have two names."""
    nodes = [node("Add", "x a", "h"), node("Add", "h b", "y")]
    made = onnx.load_from_string(model(nodes, {"x": ["N", 6]}, ["y"], {"a": weight(6), "b": weight(6)}))
    for tensor, offset in zip(made.graph.initializer, (0, 24), strict=True):
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "data"), ("offset", str(offset))):
            tensor.external_data.add(key=key, value=value)
    (tmp_path / "data").write_bytes(np.arange(12, dtype="<f4").tobytes())
    path, x = tmp_path / "net.onnx", np.zeros((1, 6), np.float32)
    path.write_bytes(made.SerializeToString())
    assert cnncore.io.load_onnx(path)(x).tolist() == [[6.0, 8.0, 10.0, 12.0, 14.0, 16.0]]
    entry_of(made, "offset", 1).value = "0"
    path.write_bytes(made.SerializeToString())
    assert cnncore.io.load_onnx(path)(x).tolist() == [[0.0, 2.0, 4.0, 6.0, 8.0, 10.0]]
    (tmp_path / "data").write_bytes(np.arange(7, dtype="<f4").tobytes())
    entry_of(made, "offset", 1).value = "4"
    path.write_bytes(made.SerializeToString())
    refused(path, "shares bytes")


def test_cut_off(pair):
    path, data, _ = pair
    data.write_bytes(data.read_bytes()[:-1])
    refused(path, "it is cut off, or belongs to another file")


def test_changed_while_it_is_read(pair, monkeypatch):
    path, data, _ = pair
    read = os.read

    def writing(*arguments):
        content = read(*arguments)
        data.write_bytes(data.read_bytes() + b"more")
        return content

    monkeypatch.setattr("cnncore.io.onnx_import.external.os.read", writing)
    refused(path, "changed while it was read")


def test_replaced_while_it_is_opened(pair, tmp_path, monkeypatch):
    """What was opened is looked at, not the name."""
    path, data, _ = pair
    opened = os.open

    def swapping(name, flags):
        os.replace(data, tmp_path / "old")
        data.write_bytes(b"x" * 1000)
        return opened(name, flags)

    monkeypatch.setattr("cnncore.io.onnx_import.external.os.open", swapping)
    refused(path, "was replaced while it was opened")


def test_files_are_closed(pair):
    path, data, _ = pair
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    cnncore.io.load_onnx(path)
    data.write_bytes(b"")
    refused(path, "cut off")
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before


def test_as_pytorch_writes_them_today(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 10),
    ).eval()
    x = torch.randn(1, 3, 32, 32)
    torch.onnx.export(module, (x,), tmp_path / "m.onnx", verbose=False, external_data=True)
    assert (tmp_path / "m.onnx.data").exists()
    y = cnncore.io.load_onnx(tmp_path / "m.onnx")(x.numpy())
    assert np.abs(y - module(x).detach().numpy()).max() < 1e-5
