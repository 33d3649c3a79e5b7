"""A network as an ONNX model, for the inference engines that read one."""

import onnx
from onnx import TensorProto, helper, numpy_helper

from . import network

__all__ = ["model_bytes", "write"]


def windows(settings):
    """Attributes of a window; pads are all lows, then all highs."""
    pads = settings["padding"]
    return {
        "kernel_shape": settings["kernel"],
        "strides": settings["stride"],
        "dilations": settings["dilation"],
        "pads": [low for low, _ in pads] + [high for _, high in pads],
    }


def onnx_node(node, xs, y):
    """The ONNX node of a node, or None for one that does nothing at inference."""
    s = node.settings
    arrays = [node.arrays[name] for name in ("w", "b") if name in node.arrays]
    match node.operator:
        case "conv":
            return helper.make_node("Conv", xs + arrays, [y], group=s["groups"], **windows(s))
        case "linear":
            return helper.make_node("Gemm", xs + arrays, [y], transB=1)
        case "relu":
            return helper.make_node("Relu", xs, [y])
        case "max_pool":
            return helper.make_node("MaxPool", xs, [y], ceil_mode=int(s["ceil_mode"]), **windows(s))
        case "avg_pool":
            return helper.make_node(
                "AveragePool",
                xs,
                [y],
                ceil_mode=int(s["ceil_mode"]),
                count_include_pad=int(s["count_include_pad"]),
                **windows(s),
            )
        case "global_avg_pool":
            return helper.make_node("GlobalAveragePool", xs, [y])
        case "local_response_norm":
            return helper.make_node("LRN", xs, [y], size=s["size"], alpha=s["alpha"], beta=s["beta"], bias=s["k"])
        case "concat":
            return helper.make_node("Concat", xs, [y], axis=s["axis"])
        case "add":
            return helper.make_node("Sum", xs, [y])
        case "flatten":
            return helper.make_node("Flatten", xs, [y], axis=s["start_dim"])
        case "softmax":
            return helper.make_node("Softmax", xs, [y], axis=s["axis"])
        case "dropout":
            return None
    raise ValueError(f"{node.name}: operator {node.operator} is not known here")


def model_bytes(folder):
    """The network of a folder as a serialised ONNX model with fixed shapes."""
    described = network.read(folder)
    names, nodes = ["x"], []
    for i, node in enumerate(described.nodes):
        made = onnx_node(node, [names[v] for v in node.inputs], f"v{i}")
        if made is None:
            names.append(names[node.inputs[0]])
            continue
        nodes.append(made)
        names.append(f"v{i}")
        if node.operator == "global_avg_pool" and len(node.shape) == 2:  # ONNX keeps the extents of 1
            nodes.append(helper.make_node("Flatten", [f"v{i}"], [f"v{i}_flat"], axis=1))
            names[-1] = f"v{i}_flat"
    output = described.output
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, described.input_shape)],
        [helper.make_tensor_value_info(names[output], TensorProto.FLOAT, described.nodes[output - 1].shape)],
        [numpy_helper.from_array(array, name) for name, array in described.arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write(folder):
    """Write the model beside the network's other files; returns its path."""
    path = network.Path(folder) / "network.onnx"
    path.write_bytes(model_bytes(folder))
    return path
