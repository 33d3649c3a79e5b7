"""A cnncore net as plain data that every framework's builder reads, so that all run the same network with the same numbers.

``write`` makes a folder: the net's own file, its nodes for one input shape (nodes.json) and its arrays (arrays.npz), and for the
engines that read such a file an ONNX model of that shape; ``read`` needs numpy alone. Values are numbered: the input is 0, node i
makes value i + 1.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = [
    "LAYER_SETTINGS",
    "ONNX_FILE",
    "Network",
    "Node",
    "convolutions",
    "images",
    "labels",
    "onnx_file",
    "read",
    "write",
]

# Operators that the builders know; another one is an error that names it.
KNOWN = ("conv", "linear", "relu", "max_pool", "avg_pool", "global_avg_pool", "local_response_norm")
KNOWN += ("concat", "add", "flatten", "dropout", "softmax")
ONNX_FILE = "network.onnx"
OPSET = 17  # which all of the engines read
LAYER_SETTINGS = ("kernel", "stride", "padding", "dilation", "groups")


@dataclass(frozen=True)
class Node:
    """One operator applied to values. ``settings`` of windows hold kernel, stride, padding (low, high), dilation per axis."""

    name: str
    operator: str
    inputs: tuple
    arrays: dict  # argument → name in the network's arrays
    settings: dict
    shape: tuple  # of the result
    input_shape: tuple  # of the first input


@dataclass(frozen=True)
class Network:
    """Nodes in running order, arrays by name, shapes of input and output for the batch it was written for."""

    nodes: tuple
    arrays: dict
    input_shape: tuple
    output: int
    consumers: dict  # value → how many nodes read it
    folder: Path


def images(shape, seed=0, dtype="float32"):
    """Random images, the same in every process."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype)


def labels(batch, classes, seed=1):
    """Random class numbers."""
    return np.random.default_rng(seed).integers(0, classes, batch)


def described(net, shape):
    """(node, call) pairs of a net on inputs of ``shape``."""
    from cnncore.nets.plan import infer

    calls, _ = infer(net.graph, (tuple(shape),), net.dtype, seed=net.seed)
    return list(zip(net.graph.nodes, calls, strict=True))


def window(call):
    """Kernel, stride, padding as (low, high), dilation of a convolution or pooling, one entry per axis."""
    from cnncore.checks import per_axis
    from cnncore.operators import geometry

    settings, extents = call.settings, call.shapes[0][2:]
    rank = len(extents)
    kernel = settings["kernel_size"] if "kernel_size" in settings else call.shapes[1][2:]
    given = {"kernel": kernel, "stride": settings["stride"], "dilation": settings["dilation"]}
    if given["stride"] is None:
        given["stride"] = kernel
    made = {name: per_axis(call.op.name, name, value, rank) for name, value in given.items()}
    made["padding"] = geometry.padding_pairs(
        call.op.name, settings["padding"], extents, made["kernel"], made["stride"], made["dilation"]
    )
    return made


def plain_settings(call):
    """The settings that a builder needs, as plain numbers."""
    settings = {
        name: value
        for name, value in call.settings.items()
        if isinstance(value, (bool, int, float, str)) and name not in ("algorithm", "seed", "training", "padding")
    }
    return settings | window(call) if "stride" in call.settings else settings


def write(net, shape, folder):
    """Write ``net`` for inputs of ``shape`` into ``folder``; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    net.save(folder / "net.safetensors")
    nodes = []
    for node, call in described(net, shape):
        if node.op.name not in KNOWN:
            raise ValueError(f"{node.path}: no builder knows the operator {node.op.name}; they know {', '.join(KNOWN)}")
        rows = node.op.rows(len(node.arguments))
        owned = {rows[o.argument].name: o.name for o in node.owned}
        nodes.append(
            {
                "name": node.path,
                "operator": node.op.name,
                "inputs": [value for value in node.arguments if value is not None],
                "arrays": owned,
                "settings": plain_settings(call),
                "shape": call.output,
                "input_shape": call.shapes[0],
            }
        )
    if importlib.util.find_spec("onnx"):
        from cnncore.io import save_onnx

        save_onnx(net, folder / ONNX_FILE, shape, opset=OPSET)
    (folder / "nodes.json").write_text(json.dumps({"nodes": nodes, "input": shape, "output": net.graph.outputs[0]}))
    np.savez(folder / "arrays.npz", **{name.replace("/", "|"): a for name, a in net.parameters.items()})
    return folder


def onnx_file(job):
    """The ONNX file of a job: the one it names, or that of a network written here."""
    return job.get("file") or str(Path(job["folder"]) / ONNX_FILE)


def read(folder):
    """The network written into ``folder``."""
    folder = Path(folder)
    described_ = json.loads((folder / "nodes.json").read_text())
    nodes = tuple(
        Node(
            row["name"],
            row["operator"],
            tuple(row["inputs"]),
            row["arrays"],
            row["settings"],
            tuple(row["shape"]),
            tuple(row["input_shape"]),
        )
        for row in described_["nodes"]
    )
    with np.load(folder / "arrays.npz") as file:
        arrays = {name.replace("|", "/"): file[name] for name in file.files}
    consumers = {}
    for node in nodes:
        for value in node.inputs:
            consumers[value] = consumers.get(value, 0) + 1
    return Network(nodes, arrays, tuple(described_["input"]), described_["output"], consumers, folder)


def convolutions(net, shape):
    """The distinct convolutions of a net on inputs of ``shape``: name → {"x": shape, "w": shape, settings, how often}.

    Named after the first node; "multiply_adds" are those of one forward pass.
    """
    found = {}
    for node, call in described(net, shape):
        if node.op.name != "conv":
            continue
        settings = {**window(call), "groups": call.settings["groups"]}
        key = (call.shapes[0], call.shapes[1], tuple(sorted(settings.items())))
        if key in found:
            found[key]["times"] += 1
            continue
        found[key] = {
            "name": node.path,
            "x": call.shapes[0],
            "w": call.shapes[1],
            "y": call.output,
            "times": 1,
            "multiply_adds": node.op.implementation.multiply_adds(call),
            **settings,
        }
    return list(found.values())
