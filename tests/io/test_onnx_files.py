"""ONNX files that are damaged or hostile: ModelFileError, never a crash, a hang, or a look at another file."""

import struct

import numpy as np
import pytest
from support.onnx_models import helper, integers, model, node, numpy_helper, onnx, weight

import cnncore
from cnncore import ModelFileError

ROUNDS = 12  # for each operator; more find no more
GOOD = [
    node("Conv", "x w b", "h", pads=[1, 1, 1, 1]),
    node("BatchNormalization", "h s s m v", "n"),
    node("MaxPool", "n", "p", kernel_shape=[2, 2], strides=[2, 2]),
    node("Shape", "p", "i"),
    node("Gather", "i zero", "j", axis=0),
    node("Unsqueeze", "j zeros", "k"),
    node("Concat", "k rest", "t", axis=0),
    node("Reshape", "p t", "f"),
    node("Gemm", "f u", "y"),
]
ARRAYS = {"w": weight(2, 1, 3, 3), "b": weight(2), "s": np.ones(2, "f"), "m": np.zeros(2, "f"), "v": np.ones(2, "f")}
ARRAYS |= {"zero": np.int64(0), "zeros": integers(0), "rest": integers(-1), "u": weight(8, 3)}


def good():
    return model(GOOD, {"x": ["N", 1, 4, 4]}, ["y"], ARRAYS)


def parsed(content=None):
    return onnx.load_from_string(good() if content is None else content)


def refused(content, message="."):
    with pytest.raises(ModelFileError, match=message) as caught:
        cnncore.io.load_onnx(content if isinstance(content, bytes) else content.SerializeToString())
    assert 20 < len(str(caught.value)) < 1200
    return str(caught.value)


def loads_or_refuses(content):
    """Whether a file gives a net; any error but ModelFileError fails the test."""
    try:
        net = cnncore.io.load_onnx(content)
    except ModelFileError:
        return False
    assert net.graph.nodes
    return True


# ── Bytes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_good_file_is_good():
    assert loads_or_refuses(good())


def test_truncated_at_every_length():
    content = good()
    loaded = [loads_or_refuses(content[:length]) for length in range(0, len(content), 3)]
    assert sum(loaded) < 0.1 * len(loaded)


def test_every_byte_changed(rng):
    content = bytearray(good())
    loaded = 0
    for place in range(len(content)):
        before = content[place]
        content[place] = before ^ (1 << rng.integers(8))
        loaded += loads_or_refuses(bytes(content))
        content[place] = before
    assert loaded < len(content)


def test_bytes_inserted_removed_and_repeated(rng):
    content = good()
    for _ in range(400):
        cut, end = sorted(rng.integers(0, len(content), 2).tolist())
        end = min(end, cut + 40)
        other = {
            0: content[:cut] + content[end:],
            1: content[:cut] + rng.bytes(end - cut) + content[end:],
            2: content[:end] + content[cut:],
        }[int(rng.integers(3))]
        loads_or_refuses(other)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"PK\3\4", b"\x08\x07", bytes(range(256)), b"\xff" * 64])
def test_no_onnx_file(content):
    refused(content)


def test_arguments_that_are_no_file(tmp_path):
    with pytest.raises(ModelFileError, match="no such file; expected an ONNX file"):
        cnncore.io.load_onnx(tmp_path / "missing.onnx")
    with pytest.raises(ModelFileError, match="is a folder; expected an ONNX file"):
        cnncore.io.load_onnx(tmp_path)
    with pytest.raises(ModelFileError, match="expected a path or bytes, got int"):
        cnncore.io.load_onnx(3)
    path = tmp_path / "net.onnx"
    path.write_bytes(good())
    assert cnncore.io.load_onnx(path)(np.zeros((1, 1, 4, 4), "f")).shape == (1, 3)
    path.write_bytes(good()[:50])
    with pytest.raises(ModelFileError, match=r"net\.onnx: "):
        cnncore.io.load_onnx(str(path))


# ── Arrays ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((2, 1, 3, 4), "needs 96: the file is damaged"),
        ((1 << 40, 1 << 40), "values"),
        ((1 << 62, 1 << 62, 4), "values"),
        ((0, 1 << 62), "needs 0"),
        ((-1, 18), "negative extent"),
        ((1,) * 9 + (18,), "axes; at most"),
    ],
)
def test_shapes_that_the_numbers_do_not_have(dims, message):
    made = parsed()
    made.graph.initializer[0].dims[:] = dims
    refused(made, message)


def test_numbers_in_the_wrong_field():
    made = parsed()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0] * 17)
    refused(made, "has 17 values; its shape")


@pytest.mark.parametrize("kind", [0, 8, 14, 15, 27, 99])
def test_types_of_numbers_that_are_not_read(kind):
    made = parsed()
    made.graph.initializer[0].data_type = kind
    refused(made, "has values of type")


@pytest.mark.parametrize("name", ["float16", "bfloat16", "double", "fields"])
def test_types_of_numbers_that_are_read(name):
    made, values = parsed(), ARRAYS["w"]
    tensor = made.graph.initializer[0]
    if name == "float16":
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), "w"))
        values = values.astype(np.float16).astype("f")
    elif name == "double":
        tensor.CopyFrom(numpy_helper.from_array(values.astype("d"), "w"))
    elif name == "bfloat16":
        upper = values.view(np.uint32) >> 16
        values = (upper << 16).view("f")
        tensor.data_type = onnx.TensorProto.BFLOAT16
        tensor.raw_data = struct.pack(f"<{upper.size}H", *upper.ravel().tolist())
    else:
        tensor.ClearField("raw_data")
        tensor.float_data.extend(values.ravel().tolist())
    net = cnncore.io.load_onnx(made.SerializeToString())
    assert np.array_equal(net.parameters["h.w"], values)


@pytest.mark.parametrize(
    ("op_type", "numbers"),
    [
        ("ConstantOfShape", integers(1 << 40, 1 << 20)),
        ("ConstantOfShape", integers(-1)),
        ("Expand", integers(1 << 40, 2)),
        ("Tile", integers(1 << 40)),
        ("Range", integers(1 << 50)),
    ],
)
def test_arrays_made_from_nothing(op_type, numbers):
    """Ten bytes of a file never become more memory than there is."""
    inputs = {"ConstantOfShape": "a", "Expand": "one a", "Tile": "one a", "Range": "o many o2"}[op_type]
    nodes = [node(op_type, inputs, "c"), node("Add", "x c", "y")]
    arrays = {"a": numbers, "one": np.ones(1, "f"), "o": np.int64(0), "o2": np.int64(1), "many": np.int64(1 << 50)}
    refused(model(nodes, {"x": ["N", 1, 4, 4]}, ["y"], arrays))


def test_constants_that_double_many_times(monkeypatch):
    monkeypatch.setattr("cnncore.io.onnx_import.load.MOST_VALUES", 1 << 20)
    nodes = [node("Concat", f"c{i} c{i}", f"c{i + 1}", axis=0) for i in range(60)]  # 2⁶⁰ numbers
    nodes.append(node("Add", "x c60", "y"))
    refused(model(nodes, {"x": ["N", 1, 4, 4]}, ["y"], {"c0": np.ones(1, "f")}))


def test_extents_beyond_any_machine():
    for shape in (["N", 1 << 40, 4, 4], ["N", 1, 1 << 31, 1 << 31], ["N", 1, 4, 4, 4, 4, 4, 4, 4]):
        refused(model([node("Relu", "x", "y")], {"x": shape}, ["y"]))


# ── The graph ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cycles():
    nodes = [node("Add", "x b", "a"), node("Relu", "a", "c"), node("Relu", "c", "b"), node("Relu", "c", "y")]
    refused(model(nodes, {"x": ["N", 1, 4, 4]}, ["y"]), "the graph has a cycle: node 'a' .Add.|the graph has a cycle")
    refused(model([node("Relu", "y", "y")], {"x": ["N", 1, 4, 4]}, ["y"]), "cycle")


def test_nodes_in_any_order_and_very_deep_graphs():
    nodes = [node("Relu", f"a{i}", f"a{i + 1}") for i in range(3000)][::-1]
    content = model(nodes, {"a0": ["N", 1]}, ["a3000"])
    assert len(cnncore.io.load_onnx(content).graph.nodes) == 3000


def edited(change):
    made = parsed()
    change(made)
    return made


def calling(m, inputs, body=()):
    """The file with a function that one of its nodes calls."""
    m.functions.add().CopyFrom(helper.make_function("d", "f", inputs, ["c"], body, [helper.make_opsetid("", 17)]))
    m.graph.node.append(node("f", "y y", "z", domain="d"))
    m.graph.output[0].name = "z"


EDITS = {
    "which nothing makes": lambda m: m.graph.node[0].input.__setitem__(0, "nowhere"),
    "which there is already": lambda m: m.graph.node[2].output.__setitem__(0, "n"),
    "is made by no node": lambda m: setattr(m.graph.output[0], "name", "nowhere"),
    "of the domain 'com.microsoft'": lambda m: setattr(m.graph.node[2], "domain", "com.microsoft"),
    "does not say which version": lambda m: m.opset_import.__delitem__(0),
    "uses version 0 of": lambda m: setattr(m.opset_import[0], "version", 0),
    "uses version 9999 of": lambda m: setattr(m.opset_import[0], "version", 9999),
    "calls the function": lambda m: calling(m, inputs=["a"]),
    "within each other": lambda m: calling(m, inputs=["a", "b"], body=[node("f", "a b", "c", domain="d")]),
    "which only functions may": lambda m: setattr(m.graph.node[2].attribute[1], "ref_attr_name", "a"),
    "holds sparse arrays": lambda m: m.graph.sparse_initializer.add(),
    "two arrays called": lambda m: m.graph.initializer.append(m.graph.initializer[0]),
    "has no proper name": lambda m: setattr(m.graph.initializer[0], "name", "x" * 10_000),
    "holds no graph": lambda m: m.ClearField("graph"),
    "is no array": lambda m: m.graph.input[0].type.sequence_type.elem_type.tensor_type.SetInParent(),
    "how many axes": lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"),
    "type complex64": lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", onnx.TensorProto.COMPLEX64),
    "names no operator": lambda m: setattr(m.graph.node[2], "op_type", ""),
    "makes nothing": lambda m: m.graph.node[2].output.__delitem__(0),
    "twice": lambda m: m.graph.node[0].attribute.append(m.graph.node[0].attribute[0]),
    "refers to another one": lambda m: setattr(m.graph.node[0].attribute[0], "ref_attr_name", "a"),
    "pads": lambda m: m.graph.node[0].attribute[0].ints.__setitem__(0, 1 << 60),
    "expected integers": lambda m: m.graph.node[2].attribute[0].CopyFrom(helper.make_attribute("kernel_shape", "two")),
    "entries": lambda m: m.graph.node[2].attribute[0].ints.extend([2, 2]),
    "no known operator": lambda m: setattr(m.graph.node[2], "op_type", "Exit"),
}


@pytest.mark.parametrize("message", EDITS)
def test_graphs_that_are_not_right(message):
    refused(edited(EDITS[message]), "." if message in ("pads", "no known operator") else message)


def test_too_many_nodes():
    nodes = [node("Relu", "x", f"a{i}") for i in range(20_001)]
    refused(model(nodes, {"x": ["N", 1]}, ["a0"]), "20001 nodes")


def test_names_that_are_paths(tmp_path, monkeypatch):
    """Names of nodes become names in the net; nothing is written or read under them."""
    monkeypatch.chdir(tmp_path)
    names = ["../../evil", "/etc/passwd", "a/b/../c", "..", "", "\x00", "x" * 400, "<script>", 'a"b', "ü"]
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"], name) for i, name in enumerate(names)]
    net = cnncore.io.load_onnx(model(nodes, {"v0": ["N", 1]}, [f"v{len(names)}"]))
    net.save(tmp_path / "net")
    again = cnncore.load(tmp_path / "net")
    assert [n.path for n in again.graph.nodes] == [n.path for n in net.graph.nodes]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net"]


def test_attributes_of_every_type_for_every_operator(rng):
    """Each known operator with attributes and inputs that make no sense."""
    from cnncore.io.onnx_import.operators import OPERATORS

    arrays = {
        "f": weight(2, 3),
        "i": integers(1, -7, 1 << 40),
        "s": np.int64(3),
        "e": np.zeros(0, np.int64),
        "b": np.bool_(True),
    }
    words = [
        "axis",
        "axes",
        "kernel_shape",
        "pads",
        "strides",
        "dilations",
        "group",
        "auto_pad",
        "mode",
        "perm",
        "starts",
    ]
    words += [
        "ends",
        "blocksize",
        "alpha",
        "shape",
        "to",
        "split",
        "scales",
        "epsilon",
        "size",
        "keepdims",
        "value",
        "p",
    ]
    words += ["output_shape", "num_groups", "count_include_pad", "ceil_mode"]
    for op_type in sorted(OPERATORS):
        for _ in range(ROUNDS):
            inputs = rng.choice(["x", "z", "f", "i", "s", "e", "b", ""], rng.integers(0, 5))
            attributes = {}
            for name in rng.choice(words, 3, replace=False):
                values = [
                    -1,
                    0,
                    1 << 62,
                    2.5,
                    float("nan"),
                    "SAME_UPPER",
                    [],
                    [1, 1],
                    [-3, 1 << 50, 0, 0],
                    [0.5],
                    ["a"],
                ]
                attributes[str(name)] = values[rng.integers(len(values))]
            try:
                made = helper.make_node(op_type, list(map(str, inputs)), ["y"], **attributes)
            except (ValueError, TypeError):
                continue
            opset = int(rng.choice([7, 11, 13, 18, 21]))
            content = model([made], {"x": ["N", 2, "H", 6], "z": ["N", 3]}, ["y"], arrays, opset)
            loads_or_refuses(content)


@pytest.mark.parametrize(
    "grow",
    [
        lambda i: [node("Mul", f"s{i} s{i}", f"s{i + 1}")],  # H to the power of 2⁶⁰
        lambda i: [node("Mul", f"s{i} huge", f"s{i + 1}")],
        lambda i: [node("Div", f"s{i} three", f"s{i + 1}")],
        lambda i: [
            node("Div", f"s{i} three", f"a{i}"),
            node("Mul", f"s{i} a{i}", f"b{i}"),
            node("Add", f"b{i} s{i}", f"s{i + 1}"),
        ],
        lambda i: [node("Concat", f"s{i} s{i}", f"s{i + 1}", axis=0)],
    ],
)
def test_sizes_that_grow_without_end(grow, monkeypatch):
    """Arithmetic on the size of an image, repeated until it would fill the memory."""
    monkeypatch.setattr("cnncore.io.onnx_import.load.MOST_VALUES", 1 << 16)
    nodes = [node("Shape", "x", "s0"), *(n for i in range(90) for n in grow(i)), node("Reshape", "x s90", "y")]
    refused(model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], {"three": np.int64(3), "huge": np.int64(1 << 62)}))


def test_halved_more_often_than_any_image():
    nodes = [node("MaxPool", f"a{i}", f"a{i + 1}", kernel_shape=[2, 2], strides=[2, 2]) for i in range(200)]
    refused(model(nodes, {"a0": ["N", 1, "H", "W"]}, ["a200"]))
