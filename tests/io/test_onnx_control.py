"""Functions, branches and loops of ONNX files, against ONNX Runtime: what they come to stands among the nodes of the net."""

import numpy as np
import pytest
from support.onnx_models import FLOAT, helper, model, node, numpy_helper, onnx, weight
from support.onnx_runtime import assert_same

import cnncore
from cnncore import ModelFileError

BOOL, INT64 = onnx.TensorProto.BOOL, onnx.TensorProto.INT64
SHAPE = {"x": ["N", 3, 4, 4]}


def graph(nodes, inputs=(), outputs=(), arrays=None):
    """A graph for the inside of a node: inputs and outputs as (name, type)."""
    return helper.make_graph(
        nodes,
        "inner",
        *(
            [helper.make_tensor_value_info(name, kind, None if kind == FLOAT else []) for name, kind in rows]
            for rows in (inputs, outputs)
        ),
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (arrays or {}).items()],
    )


def refused(content, message):
    with pytest.raises(ModelFileError, match=message) as caught:
        cnncore.io.load_onnx(content)
    assert 20 < len(str(caught.value)) < 600


# ── Functions ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_functions(nodes, functions, arrays=None, opset=17):
    made = onnx.load_from_string(model(nodes, SHAPE, ["y"], arrays, opset))
    made.functions.extend(functions)
    made.opset_import.append(helper.make_opsetid("own", 1))
    return made.SerializeToString()


def function(name, inputs, outputs, nodes, attributes=(), opset=17, defaults=()):
    versions = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, inputs, outputs, nodes, versions, attributes, list(defaults))


def referring(op_type, inputs, outputs, **references):
    """A node whose attributes are those of the function's caller."""
    made = node(op_type, inputs, outputs)
    for name, (reference, kind) in references.items():
        made.attribute.add(name=name, ref_attr_name=reference, type=kind)
    return made


def test_functions_are_inlined():
    slope = referring("LeakyRelu", "h", "b", alpha=("slope", onnx.AttributeProto.FLOAT))
    block = function(
        "block",
        ["a", "w", "bias"],
        ["b"],
        [node("Conv", "a w bias", "h", pads=[1, 1, 1, 1]), slope],
        defaults=[helper.make_attribute("slope", 0.5)],
    )
    twice = function(
        "twice", ["a", "w"], ["b"], [node("block", "a w", "h", domain="own"), node("block", "h w", "b", domain="own")]
    )
    nodes = [
        node("block", "x w", "h", domain="own", slope=0.25),
        node("block", "h w b", "k", domain="own"),
        node("twice", "k w", "y", domain="own", name="last"),
    ]
    content = with_functions(nodes, [block, twice], {"w": weight(3, 3, 3, 3), "b": weight(3)})
    net = assert_same(content, (2, 3, 4, 4), limit=2e-5)
    assert sum(n.op.name == "conv" for n in net.graph.nodes) == 4


def test_functions_in_another_version():
    """Squeeze takes its axes as an attribute until version 13."""
    old = function(
        "old", ["a"], ["b"], [node("ReduceMean", "a", "m", axes=[3]), node("Squeeze", "m", "b", axes=[3])], opset=11
    )
    net = cnncore.io.load_onnx(with_functions([node("old", "x", "y", domain="own")], [old], opset=18))
    x = np.random.default_rng(0).standard_normal((1, 3, 4, 4)).astype("f")
    assert np.allclose(net(x), x.mean(3), atol=1e-6)


def test_functions_that_hand_on_what_they_get():
    same = function("same", ["a", "b"], ["b", "c"], [node("Relu", "a", "c")])
    x = weight(1, 3, 4, 4)
    for outputs, right in (("h y", np.maximum(x, 0)), ("y h", x)):
        net = cnncore.io.load_onnx(with_functions([node("same", "x x", outputs, domain="own")], [same]))
        assert np.array_equal(net(x), right)


def test_functions_without_end():
    one = function("one", ["a"], ["b"], [node("two", "a", "b", domain="own")])
    two = function("two", ["a"], ["b"], [node("one", "a", "b", domain="own")])
    refused(with_functions([node("one", "x", "y", domain="own")], [one, two]), "call each other more than 16 times")
    rows = [function("f0", ["a"], ["b"], [node("Relu", "a", "b")])]
    for i in range(1, 16):
        inner = [node(f"f{i - 1}", f"v{k}", f"v{k + 1}", domain="own") for k in range(8)]
        rows.append(function(f"f{i}", ["v0"], ["v8"], inner))
    refused(with_functions([node("f15", "x", "y", domain="own")], rows), "at most 20000 are read")


# ── Branches ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("condition", [True, False])
def test_branches(condition):
    branches = {
        "then_branch": graph(
            [node("Conv", "x w", "t"), node("Relu", "t", "a")], outputs=[("a", FLOAT)], arrays={"w": weight(2, 3, 1, 1)}
        ),
        "else_branch": graph([node("Neg", "x", "t"), node("Mul", "t two", "a")], outputs=[("a", FLOAT)]),
    }
    content = model(
        [node("If", "c", "h", **branches), node("Abs", "h", "y")],
        SHAPE,
        ["y"],
        {"c": np.array(condition), "two": np.array([2.0], "f")},
    )
    assert_same(content, (2, 3, 4, 4))


def test_branch_by_the_size_of_the_image():
    branches = {
        name: graph([node(op, "x", "a")], outputs=[("a", FLOAT)])
        for name, op in (("then_branch", "Neg"), ("else_branch", "Abs"))
    }
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s two", "h"),
        node("Greater", "h three", "c"),
        node("If", "c", "y", **branches),
    ]
    arrays = {"two": np.int64(2), "three": np.int64(3)}
    assert_same(model(nodes, SHAPE, ["y"], arrays), (2, 3, 4, 4))
    content = model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], arrays)
    refused(content, "depends on the image")
    net = cnncore.io.load_onnx(content, input_shape=(None, 3, 2, 2))
    assert net(-np.ones((1, 3, 2, 2), "f")).max() == 1


def test_branch_by_the_values_of_the_image():
    branches = {
        name: graph([node(op, "x", "a")], outputs=[("a", FLOAT)])
        for name, op in (("then_branch", "Neg"), ("else_branch", "Abs"))
    }
    nodes = [node("ReduceMax", "x", "m", keepdims=0), node("Cast", "m", "c", to=BOOL), node("If", "c", "y", **branches)]
    refused(model(nodes, SHAPE, ["y"]), "condition depends on numbers of the image|become .*bool")


# ── Loops ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def loop_body(nodes, carried, results=(), prefix=""):
    on, turn, going = (prefix + name for name in ("on", "i", "going"))
    return graph(
        [node("Identity", going, on), *nodes],
        [(turn, INT64), (going, BOOL), *((name, FLOAT) for name, _ in carried)],
        [(on, BOOL), *((name, FLOAT) for _, name in carried), *((name, FLOAT) for name in results)],
    )


@pytest.mark.parametrize("turns", [1, 3])
def test_loops(turns):
    body = loop_body(
        [
            node("Cast", "i", "f", to=FLOAT),
            node("Add", "v f", "a"),
            node("Mul", "a x", "w"),
            node("ReduceMean", "w", "m", keepdims=0, axes=[0, 1, 2, 3]),
        ],
        [("v", "w")],
        ["m"],
    )
    nodes = [
        node("Loop", "count yes x", "h t", body=body),
        node("ReduceSum", "t", "s", keepdims=0),
        node("Add", "h s", "y"),
    ]
    content = model(nodes, SHAPE, ["y"], {"count": np.int64(turns), "yes": np.array(True)})
    assert_same(content, (1, 3, 4, 4))


def test_loop_until_its_condition():
    body = graph(
        [node("Add", "k one", "k2"), node("Less", "k2 four", "on"), node("Mul", "v half", "w")],
        [("i", INT64), ("going", BOOL), ("k", INT64), ("v", FLOAT)],
        [("on", BOOL), ("k2", INT64), ("w", FLOAT)],
    )
    arrays = {
        "zero": np.int64(0),
        "one": np.int64(1),
        "four": np.int64(4),
        "half": np.float32(0.5),
        "yes": np.array(True),
    }
    content = model(
        [node("Loop", "most yes zero x", "n y", body=body)], SHAPE, ["y"], arrays | {"most": np.int64((1 << 63) - 1)}
    )
    net = assert_same(content, (1, 3, 4, 4))
    assert sum(n.op.name == "multiply" for n in net.graph.nodes) == 4


def test_loops_within_loops_and_branches():
    inner = loop_body([node("Mul", "u half", "z")], [("u", "z")], prefix="inner_")
    doubled = graph([node("Loop", "two going v", "q", body=inner)], outputs=[("q", FLOAT)])
    same = graph([node("Identity", "v", "p")], outputs=[("p", FLOAT)])
    body = loop_body(
        [node("Equal", "i one", "c"), node("If", "c", "w", then_branch=doubled, else_branch=same)], [("v", "w")]
    )
    arrays = {
        "one": np.int64(1),
        "two": np.int64(2),
        "three": np.int64(3),
        "half": np.float32(0.5),
        "yes": np.array(True),
    }
    net = assert_same(model([node("Loop", "three yes x", "y", body=body)], SHAPE, ["y"], arrays), (1, 3, 4, 4))
    assert sum(n.op.name == "multiply" for n in net.graph.nodes) == 2


def test_loops_without_end():
    body = loop_body([node("Neg", "v", "w")], [("v", "w")])
    for count in (1 << 40, (1 << 63) - 1):
        content = model(
            [node("Loop", "count yes x", "y", body=body)],
            SHAPE,
            ["y"],
            {"count": np.int64(count), "yes": np.array(True)},
        )
        refused(content, "turns; at most 4096 are written out")
    made = helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)
    refused(model([made], SHAPE, ["y"], {"count": np.int64(1 << 40)}), "at most 4096 are written out")


def test_scans():
    body = graph(
        [node("Add", "a b", "s"), node("Mul", "s s", "t")], [("a", FLOAT), ("b", FLOAT)], [("s", FLOAT), ("t", FLOAT)]
    )
    for attributes in ({}, {"scan_input_directions": [1], "scan_output_axes": [1], "scan_output_directions": [1]}):
        nodes = [node("Scan", "start x", "h p", body=body, num_scan_inputs=1, scan_input_axes=[2], **attributes)]
        nodes += [node("ReduceSum", "p", "q", keepdims=0), node("Add", "h q", "y")]
        assert_same(model(nodes, {"x": [2, 3, 4, 4]}, ["y"], {"start": weight(2, 3, 4)}), (2, 3, 4, 4))
