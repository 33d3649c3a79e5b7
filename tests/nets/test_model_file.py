"""Model files: what is saved comes back; what is damaged, cut off or hostile is a ModelFileError and nothing else."""

import hashlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import cnncore
from cnncore.errors import GraphError, ModelFileError, SettingError
from cnncore.nets import model_file


def small_net():
    g = cnncore.Graph()
    x = g.input(1, name="image")
    a = g.conv(x, 2, kernel_size=(2, 1), padding=((1, 0), (0, 0)), activation="relu", name="a")
    b = g.conv(x, 2, 1, bias=False, initial="glorot_uniform", name="b")
    g.output(g.global_avg_pool(g.max_pool(a, 2)), b)
    net = g.build(seed=3)
    net.metadata = {"classes": ["zero", "eins", "zwölf"], "mean": 0.13, "nested": {"a": [1, None, True]}}
    net.steps = 17
    return net


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.model"
    small_net().save(path)
    return path


def parts(path):
    """(header as an object, bytes of the arrays) of a file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def forged(path, header, arrays):
    """A file with this header (an object, or its bytes) and a digest that is right."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text = re.sub(rb'"sha256": "[0-9a-f]{64}"', b'"sha256": "' + b"0" * 64 + b'"', text)
    whole = len(text).to_bytes(8, "little") + text + arrays
    text = text.replace(b"0" * 64, hashlib.sha256(whole).hexdigest().encode())
    path.write_bytes(len(text).to_bytes(8, "little") + text + arrays)
    return path


def model_of(header):
    return json.loads(header["__metadata__"]["model"])


def with_model(path, change):
    """The file at ``path`` with a changed model, its digest right."""
    header, arrays = parts(path)
    model = model_of(header)
    change(model)
    header["__metadata__"]["model"] = json.dumps(model)
    return forged(path, header, arrays)


# ── There and back ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_net_comes_back(dtype, tmp_path, rng):
    net = small_net().astype(dtype)
    net.save(tmp_path / "a.model")
    again = cnncore.load(tmp_path / "a.model")
    x = rng.standard_normal((2, 1, 6, 5)).astype(dtype)
    for one, other in zip(net(x), again(x), strict=True):
        assert np.array_equal(one, other) and one.dtype == other.dtype
    assert again.metadata == net.metadata and again.steps == 17 and again.seed == 3
    assert again.graph.description() == net.graph.description()
    assert all(np.array_equal(a, again.parameters[n]) for n, a in net.parameters.items())
    y, backward = again.with_backward(x)
    backward(*y)
    again.save(tmp_path / "b.model")
    assert (tmp_path / "a.model").read_bytes() == (tmp_path / "b.model").read_bytes()


def test_a_forged_file_with_nothing_changed_loads(saved):
    assert cnncore.load(forged(saved, *parts(saved)))


def test_safetensors_reads_the_arrays(saved):
    numpy_reader = pytest.importorskip("safetensors.numpy")
    arrays = numpy_reader.load_file(saved)
    net = small_net()
    assert arrays.keys() == net.parameters.keys()
    assert all(np.array_equal(arrays[n], net.parameters[n]) for n in arrays)


def test_what_cannot_be_saved(tmp_path):
    net = small_net()
    net.metadata = {"mean": np.zeros(3)}
    with pytest.raises(SettingError, match=r"net.metadata must hold plain values"):
        net.save(tmp_path / "x.model")
    net.metadata = {"mean": float("nan")}
    with pytest.raises(SettingError, match=r"net.metadata must hold plain values"):
        net.save(tmp_path / "x.model")
    own = cnncore.operators.operator.Op(
        "own",
        cnncore.relu.implementation,
        summary="",
        formula="",
        gradient="",
        paper="",
        group="",
        cases=(),
        example="",
    )
    g = cnncore.Graph()
    g.output(g.apply(own, g.input(1)))
    with pytest.raises(
        GraphError, match=r"own: a file cannot contain the operator 'own', which is not in cnncore\.OPS"
    ):
        g.build().save(tmp_path / "x.model")
    for make in (
        lambda g, x: g.avg_pool(x, 2, stride=2_000_000),
        lambda g, x: g.max_pool(x, (1, 1_500_000)),
        lambda g, x: g.local_response_norm(x, size=2**30),
    ):
        g = cnncore.Graph()
        g.output(make(g, g.input(1)))
        with pytest.raises(SettingError, match=r"a model file cannot hold this net, load would refuse it: .*setting"):
            g.build().save(tmp_path / "x.model")
    g = cnncore.Graph()
    g.output(g.relu(g.input(1, size=(1_500_000, 3))))
    with pytest.raises(SettingError, match=r"load would refuse it: .*input size"):
        g.build().save(tmp_path / "x.model")
    assert not os.listdir(tmp_path)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        cnncore.load(tmp_path / "none.model")


# ── Atomic ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(where, saved, monkeypatch):
    before = saved.read_bytes()
    net = small_net()
    net.parameters["a.b"] = [5, 5]

    def fail(*arguments):
        raise OSError(28, "no space left on device")

    if where == "write":
        monkeypatch.setattr(model_file, "little_endian", fail_at(model_file.little_endian, 5))
    else:
        monkeypatch.setattr(model_file.os, where, fail)
    with pytest.raises(OSError, match="no space"):
        net.save(saved)
    monkeypatch.undo()
    assert saved.read_bytes() == before and os.listdir(saved.parent) == [saved.name]
    net.save(saved)
    assert (cnncore.load(saved).parameters["a.b"] == 5).all() and os.listdir(saved.parent) == [saved.name]


def fail_at(function, count):
    """``function`` that raises at its ``count``-th call: the first three make the digest, the next are written."""
    calls = []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == count:
            raise OSError(28, "no space left on device")
        return function(*arguments)

    return failing


def test_permissions_stay_and_follow_the_umask(tmp_path):
    path = tmp_path / "x.model"
    mask = os.umask(0o027)
    try:
        small_net().save(path)
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o600)
        small_net().save(path)
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(mask)


# ── Damaged ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_flipped_byte_is_noticed(saved):
    data = bytearray(saved.read_bytes())
    for place in range(len(data)):
        for bit in (1, 0x20):
            data[place] ^= bit
            saved.write_bytes(data)
            with pytest.raises(ModelFileError):
                cnncore.load(saved)
            data[place] ^= bit
    saved.write_bytes(data)
    assert cnncore.load(saved)


class Changing:
    """A file one byte of which is another one in the reading number ``number``, and as it was before and after."""

    def __init__(self, file, number):
        self.file, self.left = file, number

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def readinto(self, buffer):
        count = self.file.readinto(buffer)
        self.left -= 1
        if self.left == 0 and count:
            buffer[count // 2] ^= 1
        return count

    def read(self, count=-1):
        found = bytearray(self.file.read(count))
        self.left -= 1
        if self.left == 0 and found:
            found[len(found) // 2] ^= 1
        return bytes(found)


def test_a_file_that_changes_while_it_is_read_is_noticed(saved, monkeypatch):
    """Whatever is used was read with the digest: a change in any single reading is an error, of nets and of weights."""
    from cnncore.io import load_weights

    opened = model_file.opened_file
    saved = saved.rename(saved.with_suffix(".safetensors"))
    for read in (cnncore.load, model_file.read_safetensors, lambda path: load_weights(small_net(), path, "cnncore")):
        readings = 0
        for number in range(1, 40):
            files = []

            def changing(path, expected, number=number, files=files):
                files.append(Changing(opened(path, expected), number))
                return files[-1]

            monkeypatch.setattr(model_file, "opened_file", changing)
            try:
                read(saved)
            except ModelFileError:
                assert files[-1].left <= 0
                readings += 1
            else:
                assert files[-1].left > 0, f"reading {number} was not noticed"
        assert readings >= 5  # the header's length, the header, the arrays


def test_weights_of_a_damaged_model_file_are_refused(saved):
    saved = saved.rename(saved.with_suffix(".safetensors"))
    content = bytearray(saved.read_bytes())
    content[-2] ^= 0x40
    saved.write_bytes(content)
    with pytest.raises(ModelFileError, match="damaged"):
        cnncore.io.load_weights(small_net(), saved, names="cnncore")


@pytest.mark.parametrize("extent", [100, 70_000, 1 << 20, (1 << 20) + 1, 1 << 30])
@pytest.mark.parametrize(
    "make",
    [
        lambda g, x, n: g.avg_pool(x, 2, stride=n),
        lambda g, x, n: g.max_pool(x, (1, n)),
        lambda g, x, n: g.local_response_norm(x, size=n),
        lambda g, x, n: g.pad(x, [(0, n), (0, 0)]),
        lambda g, x, n: g.relu(g.input(1, size=(n, 3))),
        lambda g, x, n: g.reshape(x, shape=[0, -1] + [1] * (3 if n < 1 << 20 else 100)),
    ],
    ids=["stride", "window", "size", "padding", "input", "length"],
)
def test_what_is_written_is_read(make, extent, tmp_path):
    """A limit of files is found when the file is written, not when it is needed."""
    g = cnncore.Graph()
    x = g.input(1, name="x")
    try:
        y = make(g, x, extent)
        g.output(*((y, g.relu(x)) if not g._nodes or len(g._inputs) > 1 else (y,)))
        net = g.build(seed=0)
    except cnncore.CnnError:
        return
    path = tmp_path / "net"
    try:
        net.save(path)
    except SettingError as error:
        assert extent > 1 << 20, error
        assert not list(tmp_path.iterdir())
        return
    assert cnncore.load(path).graph.description() == net.graph.description()


def writers(net):
    from cnncore.train import Trainer
    from cnncore.vision.images import write_png

    yield lambda path: net.save(path)
    yield lambda path: Trainer(net, loss_weights=(1, 1)).save(path)
    yield lambda path: cnncore.io.save_safetensors(net, path)
    yield lambda path: write_png(path, np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("number", range(4))
def test_paths_that_cannot_be_written_are_named(number, tmp_path):
    """No such folder, a folder of that name, NUL, a name that is too long: the path stands in the error, and nothing is left."""
    write = list(writers(small_net()))[number]
    (tmp_path / "folder").mkdir()
    for name in ("no/net.safetensors", "folder", "a\0b.safetensors", "n" * 300 + ".safetensors"):
        with pytest.raises(cnncore.CnnError, match="cannot be written") as caught:
            write(tmp_path / name)
        assert name in str(caught.value) and ".part" not in str(caught.value) and ".tmp" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
    longest = tmp_path / ("n" * 240 + ".safetensors")  # as long as names may be
    write(longest)
    assert list((tmp_path).glob("n*")) == [longest]


def test_names_that_no_file_can_have():
    for read in (cnncore.load, cnncore.io.load_onnx, model_file.read_safetensors, cnncore.vision.images.read_image):
        with pytest.raises(cnncore.CnnError, match=r"a\\?x?0*b|null|NUL"):
            read("a\0b")


def test_every_truncation_is_noticed(saved):
    data = saved.read_bytes()
    for length in range(len(data)):
        saved.write_bytes(data[:length])
        with pytest.raises(ModelFileError):
            cnncore.load(saved)
    for extra in (b"\0", data):
        saved.write_bytes(data + extra)
        with pytest.raises(ModelFileError):
            cnncore.load(saved)


def test_other_files_are_refused(tmp_path):
    for content in (b"", b"PK\x03\x04" + b"\0" * 100, b"\x93NUMPY" + b"\0" * 200, b"\xff" * 64, os.urandom(500)):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(ModelFileError):
            cnncore.load(tmp_path / "other")
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file({"w": np.zeros(3, np.float32)}, tmp_path / "other")
    with pytest.raises(ModelFileError, match="not a model file of cnncore"):
        cnncore.load(tmp_path / "other")


# ── Hostile: the digest is right, what it covers is not ────────────────────────────────────────────────────────────────


def node(model, name):
    return next(n for n in model["graph"]["nodes"] if n["name"] == name)


def set_node(name, /, **entries):
    return lambda model: node(model, name).update(entries)


def set_setting(name, /, **settings):
    return lambda model: node(model, name)["settings"].update(settings)


def set_model(**entries):
    return lambda model: model.update(entries)


def set_graph(**entries):
    return lambda model: model["graph"].update(entries)


def set_input(**entries):
    return lambda model: model["graph"]["inputs"][0].update(entries)


def many_nodes(model):
    model["graph"]["nodes"] *= 6000


def deep(model):
    value = []
    for _ in range(50):
        value = [value]
    node(model, "a")["settings"]["padding"] = value


HOSTILE = {
    "unknown operator": (set_node("b", operator="system"), "b: unknown operator 'system'"),
    "dunder operator": (set_node("b", operator="__class__"), "unknown operator"),
    "method as operator": (set_node("b", operator="build"), "unknown operator"),
    "unknown setting": (set_setting("b", command="rm"), "b: unknown setting 'command'"),
    "name as setting": (set_setting("b", name="x"), "unknown setting 'name'"),
    "wrong setting": (set_setting("b", kernel_size="1"), "b: kernel_size"),
    "zero stride": (set_setting("b", stride=0), "b: stride"),
    "negative kernel": (set_setting("b", kernel_size=-1), "b: kernel_size"),
    "huge channels": (set_setting("b", channels=2**40), "setting 'channels'"),
    "other channels": (set_setting("b", channels=3), "array 'b.w'"),
    "huge kernel": (set_setting("b", kernel_size=60_000, padding=30_000), "array 'b.w'"),
    "huge output": (set_setting("max_pool", kernel_size=2**30), "setting 'kernel_size'"),
    "setting of a wrong type": (set_setting("b", bias="yes"), "bias must be True or False"),
    "object as setting": (set_setting("b", kernel_size={"a": 1}), "setting 'kernel_size'"),
    "deep setting": (deep, "setting 'padding'"),
    "long setting": (set_setting("b", padding="p" * 10_000), "setting 'padding'"),
    "bias without array": (set_setting("b", bias=True), "array 'b.b' is missing"),
    "array without bias": (set_setting("a", bias=False), "array 'a.b' is not an array of the graph"),
    "unknown initialiser": (set_setting("b", initial="os.system"), "unknown initialiser"),
    "cycle": (set_node("a", inputs=["max_pool"]), "cycle"),
    "itself": (set_node("a", inputs=["a"]), "cycle"),
    "dangling input": (set_node("a", inputs=["nowhere"]), "nowhere"),
    "no inputs": (set_node("a", inputs=[]), "value 'x'"),
    "null input": (set_node("a", inputs=[None]), "value 'x'"),
    "two inputs": (set_node("a", inputs=["image", "image"]), "takes 1 value"),
    "inputs of a wrong type": (set_node("a", inputs=[1]), "node 'a'"),
    "path tricks": (set_node("a", name="../../etc/passwd"), "name"),
    "empty name": (set_node("a", name=""), "name"),
    "surrogate name": (set_node("a", name="\ud800"), "name"),
    "name of an input": (set_node("a", name="image"), "image"),
    "nameless": (lambda m: node(m, "a").pop("name"), "node"),
    "too many nodes": (many_nodes, "number of nodes"),
    "unused branch": (set_graph(outputs=["b"]), "unused branch"),
    "no outputs": (set_graph(outputs=[]), "output"),
    "unknown output": (set_graph(outputs=["b", "c"]), "'c'"),
    "output twice": (set_graph(outputs=["b", "b"]), "twice"),
    "output of a wrong type": (set_graph(outputs=[{}]), "outputs"),
    "no graph": (set_model(graph=None), "graph"),
    "graph with more": (set_graph(code="import os"), "graph"),
    "nodes of a wrong type": (set_graph(nodes={"a": 1}), "nodes"),
    "a node of a wrong type": (set_graph(nodes=[1]), "node"),
    "unknown dtype": (set_model(dtype="object"), "dtype"),
    "dtype of a wrong type": (set_model(dtype=["float32"]), "dtype"),
    "other dtype": (set_model(dtype="float64"), "array"),
    "negative seed": (set_model(seed=-1), "seed"),
    "huge seed": (set_model(seed=2**80), "seed"),
    "float steps": (set_model(steps=1.5), "steps"),
    "metadata of a wrong type": (set_model(metadata=[]), "metadata"),
    "more entries": (set_model(pickle="cos\nsystem"), "set of entries"),
    "tuning of a wrong type": (set_model(tuned=[]), "tuned"),
    "tuning without a version": (set_model(tuned={"choices": {}}), "tuned"),
    "tuning of another version": (set_model(tuned={"version": 99, "choices": {}}), "version 99"),
    "choices of a wrong type": (set_model(tuned={"version": 1, "choices": ["direct"]}), "tuned"),
    "unknown algorithm": (set_model(tuned={"version": 1, "choices": {"conv": "fft"}}), "algorithm"),
    "algorithm of a wrong type": (set_model(tuned={"version": 1, "choices": {"conv": ["direct"]}}), "algorithm"),
    "algorithm that chooses": (set_model(tuned={"version": 1, "choices": {"conv": "auto"}}), "algorithm"),
    "a long call": (set_model(tuned={"version": 1, "choices": {"c" * 10_000: "direct"}}), "characters"),
    "unprintable call": (set_model(tuned={"version": 1, "choices": {"\x1b[2J": "direct"}}), "printable"),
    "many choices": (set_model(tuned={"version": 1, "choices": {str(i): "direct" for i in range(10_001)}}), "choices"),
    "no channels": (set_input(channels=0), "input"),
    "huge channels of the input": (set_input(channels=10**9), "input"),
    "true as channels": (set_input(channels=True), "input"),
    "huge size": (set_input(size=[10**9, 10**9]), "input size"),
    "size of a wrong type": (set_input(size=7), "input size"),
    "many axes": (set_input(size=[None] * 5), "axes"),
    "other rank": (set_input(size=[None]), "a: "),
    "input name": (set_input(name="a"), "a"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_model(name, saved):
    change, text = HOSTILE[name]
    with pytest.raises(ModelFileError) as caught:
        cnncore.load(with_model(saved, change))
    assert text in str(caught.value)


def row(header, name):
    return header[name]


HOSTILE_ROWS = {
    "huge shape": lambda h: row(h, "a.w").update(shape=[2**40, 2**40]),
    "negative shape": lambda h: row(h, "a.w").update(shape=[-2, 1, -2, 1]),
    "zero shape": lambda h: row(h, "a.w").update(shape=[0]),
    "float shape": lambda h: row(h, "a.w").update(shape=[4.0]),
    "true in shape": lambda h: row(h, "a.b").update(shape=[True, 2]),
    "shape of many axes": lambda h: row(h, "a.b").update(shape=[1] * 40 + [2]),
    "other shape": lambda h: row(h, "a.w").update(shape=[1, 2, 2, 1]),
    "shape of a wrong type": lambda h: row(h, "a.w").update(shape="4"),
    "unknown dtype": lambda h: row(h, "a.w").update(dtype="O"),
    "other dtype": lambda h: row(h, "a.w").update(dtype="F64"),
    "dtype of a wrong type": lambda h: row(h, "a.w").update(dtype=["F32"]),
    "overlap": lambda h: row(h, "a.b").update(data_offsets=[0, 8]),
    "gap": lambda h: row(h, "a.b").update(data_offsets=[24, 32]),
    "backwards": lambda h: row(h, "a.w").update(data_offsets=[16, 0]),
    "offsets of a wrong type": lambda h: row(h, "a.w").update(data_offsets={"0": 16}),
    "three offsets": lambda h: row(h, "a.w").update(data_offsets=[0, 8, 16]),
    "row of a wrong type": lambda h: h.update({"a.w": 5}),
    "more in a row": lambda h: row(h, "a.w").update(file="/etc/passwd"),
    "array gone": lambda h: h.pop("b.w"),
    "array too many": lambda h: h.update(c={"dtype": "F32", "shape": [1], "data_offsets": [32, 36]}),
    "renamed": lambda h: h.update({"z.w": h.pop("b.w")}),
    "no metadata": lambda h: h.pop("__metadata__"),
    "metadata of a wrong type": lambda h: h.update(__metadata__="cnncore"),
    "other format": lambda h: h["__metadata__"].update(format="pt"),
    "other version": lambda h: h["__metadata__"].update(version="99"),
    "no model": lambda h: h["__metadata__"].pop("model"),
    "model of a wrong type": lambda h: h["__metadata__"].update(model={}),
    "model is a list": lambda h: h["__metadata__"].update(model="[]"),
    "model is no JSON": lambda h: h["__metadata__"].update(model="{'a'}"),
    "model with NaN": lambda h: h["__metadata__"].update(model='{"seed": NaN}'),
    "deep model": lambda h: h["__metadata__"].update(model="[" * 100_000),
    "long number": lambda h: h["__metadata__"].update(model='{"seed": ' + "9" * 10_000 + "}"),
    "key twice": lambda h: h["__metadata__"].update(model='{"seed": 1, "seed": 2}'),
    "no digest": lambda h: h["__metadata__"].pop("sha256"),
    "digest of a wrong type": lambda h: h["__metadata__"].update(sha256=0),
    "digest of surrogates": lambda h: h["__metadata__"].update(sha256="\ud800" * 64),
    "digest in capitals": lambda h: h["__metadata__"].update(sha256="A" * 64),
    "two digests": lambda h: h["__metadata__"].update(more={"sha256": h["__metadata__"]["sha256"]}),
}


@pytest.mark.parametrize("name", HOSTILE_ROWS)
def test_hostile_header(name, saved):
    header, arrays = parts(saved)
    HOSTILE_ROWS[name](header)
    with pytest.raises(ModelFileError):
        cnncore.load(forged(saved, header, arrays))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"[" * 200_000, b"nul", b"\xff\xfe{", b'{"a": 1, "a": 2}', b"1" * 50_000]
)
def test_hostile_text(text, saved):
    with pytest.raises(ModelFileError):
        cnncore.load(forged(saved, text, b""))


def test_a_header_length_beyond_the_file(saved):
    data = saved.read_bytes()
    for length in (0, 1, len(data), 2**32, 2**63, 2**64 - 1):
        saved.write_bytes(length.to_bytes(8, "little") + data[8:])
        with pytest.raises(ModelFileError):
            cnncore.load(saved)


def test_flipped_bytes_with_a_right_digest(saved):
    """Whatever the header says, the answer is a net or a ModelFileError."""
    data = saved.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header, arrays = data[8:end], data[end:]
    loaded = 0
    for place in range(len(header)):
        for bit in (1, 0x10):
            changed = bytearray(header)
            changed[place] ^= bit
            try:
                cnncore.load(forged(saved, bytes(changed), arrays))
                loaded += 1
            except ModelFileError:
                pass
    assert 0 < loaded < len(header)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_a_hostile_file_takes_no_memory(saved):
    """A sparse file of 2⁴⁰ bytes that claims one array, and fixed sizes that would fill memory if computed, are refused."""
    header, _ = parts(saved)
    header["a.w"] = {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}
    del header["a.b"], header["b.w"]
    forged(saved, header, b"")
    with open(saved, "r+b") as file:
        file.truncate(saved.stat().st_size + 2**40)
    source = (
        "import resource, sys, cnncore\n"
        "with open('/proc/self/statm') as file:\n"
        "    limit = int(file.read().split()[0]) * resource.getpagesize() + 2**31\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "try:\n    cnncore.load(sys.argv[1])\n"
        "except cnncore.ModelFileError as error:\n    print('refused', error)\n"
    )
    result = subprocess.run([sys.executable, "-c", source, saved], capture_output=True, text=True, timeout=60)
    assert result.stdout.startswith("refused"), result.stderr


def test_wide_values_are_refused(saved):
    def widen(model):
        model["graph"]["inputs"][0]["size"] = [1_000_000, 1_000_000]
        node(model, "a")["settings"]["padding"] = 1_000_000

    with pytest.raises(ModelFileError, match="exceeds 1048576 along an axis"):
        cnncore.load(with_model(saved, widen))


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\xff\xd8\xff\xe0", "a JPEG image, not a model file"),
        (b"\x89PNG\r\n", "a PNG image, not a model file"),
        (b"PK\x03\x04", "a zip archive, perhaps a pickle, .*safetensors.torch.save_file"),
        (b"\x80\x02\x8a\n", "a pickle, as PyTorch writes .pt and .pth, .*not read"),
        (b"\x08\x08\x12\x07pytorch", "perhaps an ONNX file, whose name ends in .onnx, not a model file"),
        (b"nothing known", "not a model file, or truncated"),
    ],
)
def test_files_of_other_kinds_are_named(start, words, tmp_path):
    path = tmp_path / "net.model"
    path.write_bytes(start + bytes(range(256)) * 8)
    with pytest.raises(ModelFileError, match=words):
        cnncore.load(path)
