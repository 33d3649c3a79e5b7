"""ONNX files as exporters write them: graphs and arrays in bytes. Without the package ``onnx`` who imports this is skipped."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def model(nodes, inputs, outputs, arrays=None, opset=17, metadata=None):
    """The bytes of a file: inputs name → shape, arrays name → numbers."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (arrays or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(made, metadata or {})
    return made.SerializeToString()


def node(op_type, inputs, outputs, **attributes):
    return helper.make_node(op_type, inputs.split(), outputs.split(), **attributes)


def weight(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("f") * 0.3


def integers(*values):
    return np.array(values, np.int64)


def page(rng, height, width):
    """Something like printed text: dark strokes on white."""
    x = np.ones((2, 3, height, width), "f")
    for n in range(2):
        for top in range(6, height - 12, 16):
            for left in range(4, width - 8, 7):
                if rng.random() < 0.8:
                    x[n, :, top : top + 10, left : left + 2] = -1
                    row = top + rng.integers(0, 9)
                    x[n, :, row : row + 2, left : left + 5] = -1
    return x + 0.02 * rng.standard_normal(x.shape).astype("f")


def seeded(path):
    """A light graph with random weights where it has constants: with those even a wrong engine gives the same number."""
    made = onnx.load_from_string(path.read_bytes())
    graph, rng = made.graph, np.random.default_rng(0)
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    reads = {name: (n.op_type, place) for n in graph.node for place, name in enumerate(n.input)}
    kept = []
    for n in graph.node:
        if n.op_type != "ConstantOfShape":
            kept.append(n)
            continue
        shape = [
            64 if extent == 4096 else extent for extent in arrays[n.input[0]].tolist()
        ]  # of layers of 100 M weights
        op_type, place = reads[n.output[0]]
        if op_type == "Unsqueeze" or (op_type == "BatchNormalization" and place == 4):
            values = rng.random(shape, np.float32) + np.float32(0.5)
        else:
            scale = 0.1 if len(shape) < 2 else np.sqrt(6 / np.prod(shape[1:]))
            values = (rng.random(shape, np.float32) - np.float32(0.5)) * np.float32(2 * scale)
        graph.initializer.append(numpy_helper.from_array(values, n.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    return made.SerializeToString()
