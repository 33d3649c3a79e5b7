"""Weights by name: safetensors and npz files, friendly and hostile; names and orders of axes of other frameworks."""

import contextlib
import io
import json
import zipfile

import numpy as np
import pytest

import cnncore
from cnncore import DtypeError, ModelFileError, SettingError, models
from cnncore.io import load_safetensors, load_weights, npz, save_safetensors, weights
from cnncore.train import data_files
from cnncore.vision import images


def small_net(dtype="float32", seed=0):
    """conv → batch norm → relu → flatten → linear, on images of 4×5."""
    g = cnncore.Graph()
    h = g.conv(g.input(3, size=(4, 5)), 2, 3, padding=1, name="conv")
    with g.scope("head"):
        h = g.flatten(g.dropout(g.batch_norm(h, activation="relu", name="norm")))
        g.output(g.linear(h, 6, name="fc"))
    return g.build(seed, dtype)


def everything(net):
    return {**net.parameters, **net.buffers}


def torch_arrays(net):
    """The net's arrays under PyTorch's names, written out."""
    names = {
        "conv.w": "conv.weight",
        "conv.b": "conv.bias",
        "head/norm.w": "head.norm.weight",
        "head/norm.b": "head.norm.bias",
        "head/norm.running_mean": "head.norm.running_mean",
        "head/norm.running_var": "head.norm.running_var",
        "head/fc.w": "head.fc.weight",
        "head/fc.b": "head.fc.bias",
    }
    return {theirs: everything(net)[ours].copy() for ours, theirs in names.items()}


def equal(net, other):
    return all(np.array_equal(array, everything(other)[name]) for name, array in everything(net).items())


# ── safetensors ────────────────────────────────────────────────────────────────────────────────────────────────────────


def safetensors_file(path, rows, data=b"", header=None):
    """A file with these rows, written by hand."""
    text = json.dumps(rows).encode() if header is None else header
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def row(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_round_trip(tmp_path, rng):
    arrays = {
        "a.weight": rng.standard_normal((2, 3)).astype(np.float32),
        "b": rng.standard_normal(4),
        "steps": np.array(7, np.int64),
        "mask": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
        "turned": rng.standard_normal((3, 4))[:, ::2].T.astype(">f8"),
    }
    save_safetensors(arrays, tmp_path / "w.safetensors")
    read = load_safetensors(tmp_path / "w.safetensors")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].shape == array.shape and read[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read[name], array)


def test_the_safetensors_package_agrees(tmp_path, rng):
    package = pytest.importorskip("safetensors.numpy", reason="the package checks our files: pip install safetensors")
    arrays = {
        "x/y.w": rng.standard_normal((2, 3, 1)).astype(np.float32),
        "n": np.arange(5, dtype=np.int32),
        "half": rng.standard_normal(3).astype(np.float16),
        "scalar": np.array(2.5),
    }
    save_safetensors(arrays, tmp_path / "ours.safetensors")
    for name, array in package.load_file(tmp_path / "ours.safetensors").items():
        np.testing.assert_array_equal(array, arrays[name])
    package.save_file(arrays, tmp_path / "theirs.safetensors", metadata={"format": "np"})
    read = load_safetensors(tmp_path / "theirs.safetensors")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
    assert read["half"].dtype == np.float32


def test_half_precision_is_read_as_float32(tmp_path):
    numbers = np.array([1.0, -2.5, 3.140625, np.inf], np.float32)
    bfloat16 = (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()  # these need no more than 8 bits of mantissa
    path = safetensors_file(
        tmp_path / "w.safetensors",
        {"half": row("F16", [4], 0, 8), "brain": row("BF16", [2, 2], 8, 16)},
        numbers.astype("<f2").tobytes() + bfloat16,
    )
    read = load_safetensors(path)
    assert {array.dtype for array in read.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(read["half"], numbers)
    np.testing.assert_array_equal(read["brain"], numbers.reshape(2, 2))


def test_arrays_in_another_order_than_their_names(tmp_path):
    rows = {"second": row("F32", [1], 4, 8), "first": row("F32", [1], 0, 4)}
    read = load_safetensors(safetensors_file(tmp_path / "w.safetensors", rows, np.float32([1, 2]).tobytes()))
    assert list(read) == ["second", "first"] and read["first"] == [1] and read["second"] == [2]


HOSTILE = {
    "overlap": ({"a": row("F32", [2], 0, 8), "b": row("F32", [2], 4, 12)}, 12, "data_offsets"),
    "gap": ({"a": row("F32", [1], 0, 4), "b": row("F32", [1], 8, 12)}, 12, "data_offsets"),
    "the same bytes twice": ({"a": row("F32", [1], 0, 4), "b": row("F32", [1], 0, 4)}, 4, "data_offsets"),
    "behind the end": ({"a": row("F32", [2], 0, 8)}, 4, "truncated"),
    "bytes left over": ({"a": row("F32", [1], 0, 4)}, 9, "truncated or has trailing bytes"),
    "another length than the shape": ({"a": row("F32", [3], 0, 8)}, 8, "they must be"),
    "a huge shape": ({"a": row("F32", [2**40, 2**40], 0, 8)}, 8, "they must be"),
    "an extent below 0": ({"a": row("F32", [-2], 0, 8)}, 8, "shape"),
    "an extent that is no integer": ({"a": row("F32", [2.0], 0, 8)}, 8, "shape"),
    "an unknown dtype": ({"a": row("F8_E4M3", [4], 0, 4)}, 4, "dtype 'F8_E4M3'"),
    "a dtype that is no text": ({"a": row(["F32"], [1], 0, 4)}, 4, "dtype"),
    "no offsets": ({"a": {"dtype": "F32", "shape": [1]}}, 4, "expected dtype, shape and data_offsets"),
    "offsets that are no list": ({"a": {"dtype": "F32", "shape": [1], "data_offsets": "04"}}, 4, "data_offsets"),
    "a row that is no object": ({"a": [1, 2]}, 4, "expected dtype, shape and data_offsets"),
    "metadata that are no strings": ({"__metadata__": {"a": 1}, "a": row("F32", [1], 0, 4)}, 4, "metadata"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_rows(tmp_path, name):
    rows, length, message = HOSTILE[name]
    with pytest.raises(ModelFileError, match=message):
        load_safetensors(safetensors_file(tmp_path / "w.safetensors", rows, bytes(length)))


def test_hostile_headers(tmp_path):
    path = tmp_path / "w.safetensors"
    entry = b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    twice = b"{" + entry + b", " + entry + b"}"
    for header, message in (
        (twice, "a key occurs twice"),
        (b"[1, 2]", "not a JSON object"),
        (b"{not JSON}", "cannot be read"),
        (b'{"a": NaN}', "not a JSON number"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply|cannot be read"),
        (b"\xff\xfe{}", "cannot be read"),
    ):
        with pytest.raises(ModelFileError, match=message):
            load_safetensors(safetensors_file(path, None, bytes(4), header))
    for content in (
        b"",
        b"1234567",
        (2**62).to_bytes(8, "little") + b"{}",
        (10**9).to_bytes(8, "little"),
        b"PK\x03\x04" + bytes(60),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="not a safetensors file"):
            load_safetensors(path)
    for missing in ("nowhere.safetensors", "nowhere.npz"):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            load_weights(small_net(), tmp_path / missing)


def test_every_prefix_of_a_file_is_refused(tmp_path):
    save_safetensors({"a": np.ones(3), "b": np.zeros(2, np.float32)}, tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    for length in range(len(content)):
        (tmp_path / "cut.safetensors").write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            load_safetensors(tmp_path / "cut.safetensors")


def test_damaged_bytes_are_read_or_refused(tmp_path, rng):
    """Any byte anywhere, several at once: arrays come, or a ModelFileError; nothing else."""
    path = tmp_path / "w.safetensors"
    save_safetensors({"first": np.ones((2, 3), np.float32), "second": np.arange(4), "third": np.zeros((0, 2))}, path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(400):
        damaged = content.copy()
        places = rng.integers(0, len(content) - 56, rng.integers(1, 4))  # the arrays' own bytes may be any
        damaged[places] = rng.integers(0, 256, len(places))
        path.write_bytes(damaged.tobytes())
        try:
            assert all(isinstance(array, np.ndarray) for array in load_safetensors(path).values())
        except ModelFileError:
            refused += 1
    assert refused > 200


def test_what_cannot_be_written(tmp_path):
    path = tmp_path / "w.safetensors"
    for arrays, error, message in (
        ({"a": np.array(["x"])}, DtypeError, "expected an array of real numbers"),
        ({"a": np.ones(2, complex)}, DtypeError, "complex128"),
        ({"__metadata__": np.ones(2)}, SettingError, "cannot be the name"),
        ({3: np.ones(2)}, SettingError, "cannot be the name"),
    ):
        with pytest.raises(error, match=message):
            save_safetensors(arrays, path)
    with pytest.raises(SettingError, match="requires a net"):
        save_safetensors({"a": np.ones(2)}, path, names="torch")
    assert not path.exists()


# ── Into nets, by name ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["mapping", "safetensors", "npz", "nested", "wrapped"])
def test_pytorch_names(tmp_path, kind):
    source = small_net(seed=1)
    source.state["head/norm.running_mean"] = [3.0, 4.0]
    arrays = {**torch_arrays(source), "head.norm.num_batches_tracked": np.array(9)}
    given = {
        "mapping": arrays,
        "nested": {"epoch": 3, "state_dict": arrays},
        "wrapped": {f"module.{name}": array for name, array in arrays.items()},
        "safetensors": tmp_path / "w.safetensors",
        "npz": str(tmp_path / "w.npz"),
    }[kind]
    save_safetensors(arrays, tmp_path / "w.safetensors")
    np.savez(tmp_path / "w.npz", **arrays)
    net = small_net()
    report = load_weights(net, given, strict=True)
    assert equal(net, source) and report.complete and len(report.loaded) == 8
    assert report.loaded["conv.w"].endswith("conv.weight") and str(report) == "8 of 8 arrays loaded"


def test_our_own_names(tmp_path):
    source = small_net(seed=1)
    save_safetensors(source, tmp_path / "w.safetensors")
    source.save(tmp_path / "whole.safetensors")
    for path in (tmp_path / "w.safetensors", tmp_path / "whole.safetensors"):
        net = small_net()
        assert load_weights(net, path, names="cnncore").complete and equal(net, source)


def test_other_names():
    source = small_net(seed=1)
    arrays = torch_arrays(source)
    renamed = {name.replace("conv.", "stem.").replace("head.fc.", "6."): array for name, array in arrays.items()}
    net = small_net()
    assert load_weights(net, renamed, names={"conv": "stem", "head/fc.w": "6.weight", "head/fc.b": "6.bias"}).complete
    assert equal(net, source)
    net = small_net()
    upper = {name.upper(): array for name, array in everything(source).items()}
    assert load_weights(net, upper, names=str.upper).complete and equal(net, source)
    with pytest.raises(SettingError, match="did you mean 'conv"):
        load_weights(net, renamed, names={"cnv": "stem"})
    with pytest.raises(SettingError, match="names must be one of"):
        load_weights(net, renamed, names="caffe")


def test_the_report():
    source, net = small_net(seed=1), small_net()
    arrays = torch_arrays(source)
    arrays["head.fc.weight"] = arrays["head.fc.weight"][:4]
    del arrays["conv.bias"]
    arrays["extra"] = np.ones(2)
    with pytest.raises(ModelFileError, match=r"which is unchanged: 6 of 8 arrays loaded; missing: conv\.b") as caught:
        load_weights(net, arrays, strict=True)
    assert "head/fc.w (6, 40) (head.fc.weight (4, 40))" in str(caught.value) and "left over: extra" in str(caught.value)
    assert equal(net, small_net()), "all or nothing"
    report = load_weights(net, arrays)
    assert report.missing == (("conv.b", "conv.bias"),) and report.unused == ("extra",)
    assert report.misfits == (("head/fc.w", "head.fc.weight", (6, 40), (4, 40)),)
    assert not report.complete and "head/fc.w" not in report.loaded
    np.testing.assert_array_equal(net.parameters["conv.w"], source.parameters["conv.w"])
    np.testing.assert_array_equal(net.parameters["head/fc.w"], small_net().parameters["head/fc.w"])


def test_nothing_that_fits_is_an_error():
    with pytest.raises(ModelFileError, match="0 of 8 arrays loaded"):
        load_weights(small_net(), {"weight": np.ones(3)})


def test_a_fresh_classifier_stays_fresh():
    source = models.resnet18(classes=7)
    save = {
        theirs: source.parameters.get(ours, source.state.get(ours))
        for ours, theirs in weights.torch_names_of(source).items()
    }
    net = models.resnet18(classes=3, seed=5)
    report = load_weights(net, save)
    assert [ours for ours, *_ in report.misfits] == ["classifier.w", "classifier.b"] and not report.missing
    np.testing.assert_array_equal(net.parameters["conv5_2/conv2.w"], source.parameters["conv5_2/conv2.w"])


def test_numbers_of_other_precision():
    source = small_net("float64", seed=1)
    net = small_net()
    load_weights(net, torch_arrays(source), strict=True)
    for name, array in everything(net).items():
        np.testing.assert_array_equal(array, everything(source)[name].astype(np.float32))
    for damaged, message in (([np.nan], "contains NaN"), ([1e300], "outside the range of float32")):
        arrays = torch_arrays(source)
        arrays["conv.bias"] = np.array(damaged * 2)
        with pytest.raises(ModelFileError, match=f"conv.bias {message}|{message}"):
            load_weights(net, arrays)
    with pytest.raises(DtypeError, match=r"conv\.bias is object"):
        load_weights(net, {"conv.bias": np.array([None, 1])})


def test_tensors_need_no_numpy_dtype():
    torch = pytest.importorskip("torch", reason="tensors come from PyTorch")
    net = small_net()
    arrays = {
        name: torch.tensor(array).to(torch.bfloat16).requires_grad_()
        for name, array in torch_arrays(small_net(seed=1)).items()
    }
    load_weights(net, arrays, strict=True)
    np.testing.assert_array_equal(net.parameters["conv.w"], arrays["conv.weight"].detach().float().numpy())


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".pkl"])
def test_pickles_are_never_opened(tmp_path, ending):
    path = tmp_path / f"weights{ending}"
    path.write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(ModelFileError, match=r"is not read; convert it once .*weights_only=True"):
        load_weights(small_net(), path)


def test_a_pickle_inside_an_npz_is_never_opened(tmp_path):
    np.savez(tmp_path / "w.npz", **{"conv.weight": np.array([print], object)})
    with pytest.raises(ModelFileError, match="expected numbers"):
        load_weights(small_net(), tmp_path / "w.npz")


@pytest.mark.long
def test_damaged_npz_files(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, **torch_arrays(small_net()))
    content = buffer.getvalue()
    path = tmp_path / "w.npz"
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            load_weights(small_net(), path)
    for bit in range(8 * (len(content) - 400), 8 * len(content)):  # of the directory, whose offsets zipfile believes
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with contextlib.suppress(ModelFileError):
            load_weights(small_net(), path)
    with pytest.raises(FileNotFoundError):
        load_weights(small_net(), tmp_path / "none.npz")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # a header that promises 8 TB
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
        archive.writestr("conv.weight.npy", header.getvalue())
    with pytest.raises(ModelFileError, match="more than it contains"):
        load_weights(small_net(), path)


def test_other_kinds_of_files(tmp_path):
    for name, message in (
        ("net.onnx", "load_onnx"),
        ("weights.h5", "kind '.h5' is unknown"),
        ("weights", "kind '' is"),
    ):
        with pytest.raises(ModelFileError, match=message):
            load_weights(small_net(), tmp_path / name)


# ── Orders of axes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_keras_names_and_axes(rng):
    """A network as Keras computes it: channels last, kernels (H, W, I, O), images flattened channels last."""
    arrays = {
        "conv/kernel:0": rng.standard_normal((3, 3, 3, 2)),
        "conv/bias:0": rng.standard_normal(2),
        "head/norm/gamma:0": rng.uniform(0.5, 2, 2),
        "head/norm/beta:0": rng.standard_normal(2),
        "head/norm/moving_mean:0": rng.standard_normal(2),
        "head/norm/moving_variance:0": rng.uniform(0.5, 2, 2),
        "head/fc/kernel:0": rng.standard_normal((40, 6)),
        "head/fc/bias:0": rng.standard_normal(6),
    }
    net = small_net("float64")
    assert load_weights(net, arrays, names="keras", layout="HWIO", strict=True).complete
    x = rng.standard_normal((2, 4, 5, 3))
    k = {name.rsplit(":")[0]: array for name, array in arrays.items()}
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h = np.zeros((2, 4, 5, 2))
    for i in range(3):
        for j in range(3):
            h += padded[:, i : i + 4, j : j + 5] @ k["conv/kernel"][i, j]
    h = (h + k["conv/bias"] - k["head/norm/moving_mean"]) / np.sqrt(k["head/norm/moving_variance"] + 1e-5)
    h = np.maximum(h * k["head/norm/gamma"] + k["head/norm/beta"], 0)
    expected = h.reshape(2, -1) @ k["head/fc/kernel"] + k["head/fc/bias"]
    np.testing.assert_allclose(net(np.moveaxis(x, -1, 1)), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_kernels_of_keras(rng, multiplier):
    g = cnncore.Graph()
    x = g.input(3)
    depthwise = g.depthwise_conv(x, 3, multiplier=multiplier, bias=False, name="depthwise")
    grouped = g.conv(x, 3 * multiplier, 3, groups=3, bias=False, name="grouped")
    g.output(depthwise, grouped)
    net = g.build(dtype="float64")
    kernel = rng.standard_normal((3, 3, 3, multiplier))
    arrays = {"depthwise/depthwise_kernel": kernel, "grouped/depthwise_kernel": kernel}
    load_weights(net, arrays, names="keras", layout="HWIO", strict=True)
    image = rng.standard_normal((1, 3, 3, 3))
    expected = np.einsum("nchw,hwcm->ncm", image, kernel).reshape(1, -1, 1, 1)
    for y in net(image):
        np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_weights_of_another_rank_do_not_fit():
    net = small_net()
    arrays = torch_arrays(net)
    arrays["conv.weight"] = arrays["conv.weight"][0]
    arrays["head.fc.weight"] = arrays["head.fc.weight"].T[:39]
    report = load_weights(net, arrays, layout="HWIO")
    assert [ours for ours, *_ in report.misfits] == ["conv.w", "head/fc.w"]
    with pytest.raises(SettingError, match="layout must be one of"):
        load_weights(net, arrays, layout="OHWI")


# ── Names of torchvision ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.resnet(34, 4, seed=None),
        lambda: models.resnet50(4, seed=None),
        lambda: models.mobilenet_v2(4, seed=None),
        lambda: models.googlenet(4, None, norm="batch"),
        lambda: models.vgg("B", 4, size=32, seed=None),
    ],
    ids=["resnet34", "resnet50", "mobilenet_v2", "googlenet", "vgg"],
)
def test_written_for_pytorch_and_read_back(make, tmp_path, rng):
    net = make()
    path = tmp_path / "w.safetensors"
    for name, array in net.parameters.items():
        if array.size < 1000:
            net.parameters[name] = rng.standard_normal(array.shape)
    save_safetensors(net, path, names="torch")
    assert not any("/" in name for name in load_safetensors(path))
    again = make()
    assert load_weights(again, path, strict=True).complete and equal(again, net)


def test_tables_are_one_to_one():
    for name, table in weights.TORCH_TABLES.items():
        assert len(set(table.values())) == len(table), name


@pytest.mark.parametrize("kind", ["weights", "images and labels", "image", "onnx"])
def test_no_memory_is_no_damage(kind, tmp_path, monkeypatch):
    """Readers report everything that libraries raise for malicious files as damage, but not that memory has run out."""

    def full(*arguments, **settings):
        raise MemoryError

    np.savez(tmp_path / "file.npz", images=np.zeros((2, 3, 3), np.uint8), labels=np.arange(2))
    if kind == "image":
        Image = pytest.importorskip("PIL.Image")
        Image.new("L", (3, 3)).save(tmp_path / "file.bmp")
        monkeypatch.setattr(Image, "open", full)
        read, name = images.read_image, "file.bmp"
    elif kind == "onnx":
        pytest.importorskip("onnx")
        monkeypatch.setattr("onnx.ModelProto", type("ModelProto", (), {"FromString": full}))
        read, name = cnncore.io.load_onnx, "file.npz"
    else:
        monkeypatch.setattr("zipfile.ZipFile.open", full)
        reads = {"weights": lambda path: npz.npz_arrays(path, 10, ""), "images and labels": data_files.read_npz}
        read, name = reads[kind], "file.npz"
    with pytest.raises(MemoryError):
        read(tmp_path / name)
