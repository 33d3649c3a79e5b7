"""From a graph to a net, and from a file to a net: the only place that knows both."""

import numpy as np

from ..errors import CnnError, ModelFileError
from . import model_file
from .graph import Graph
from .net import Net
from .structure import INPUT_FLAGS, ROLE_NAMES
from .tuning import Tuning

__all__ = ["Graph", "load"]

# What a model file may ask for: far more than any network needs, far less than it takes to fill a machine's memory.
MOST_NODES = 20_000
MOST_EXTENT = 1 << 16  # of settings, and of inputs and values along an axis
MOST_DEPTH = 4  # of sequences within settings


def build(self, seed=0, dtype="float32", tune=False):
    """The net: parameters initialised from ``seed``, each by its own name, in float32 or float64.

    ``seed=None``: what would be drawn stays 0, for a net whose weights come from elsewhere or that is only looked at.
    ``tune=True``: its first call on inputs of a new shape measures which algorithm computes each convolution the fastest,
    which takes some passes and changes results by rounding; the choices are saved with the net.
    """
    net = Net(self.structure(), seed=seed, dtype=dtype)
    net.auto_tune = bool(tune)
    return net


Graph.build = build  # a graph knows no net


def load(path, tune=False):
    """The net in a model file written by ``net.save``; a file that is damaged or hostile is a ModelFileError.

    ``tune`` as in :meth:`Graph.build`: what the file's choices leave open is measured.

    Nothing in the file is executed: the graph is built again from operators of cnncore.OPS by name, with the checks of any
    graph, and the arrays must be those that it asks for.
    """
    model, arrays = model_file.read(path)
    try:
        check_model(model)
        structure = Graph.from_description(model["graph"], most_extent=MOST_EXTENT).structure()
        owned = structure.owned
        if arrays.keys() != owned.keys():
            odd = min(arrays.keys() ^ owned.keys())
            raise ModelFileError(f"array {odd!r} is {'missing' if odd in owned else 'not one that the graph has'}")
        dtype = np.dtype(model["dtype"])
        for name, array in arrays.items():
            if array.shape != owned[name].shape or array.dtype != dtype:
                raise ModelFileError(
                    f"array {name!r} is {array.dtype} {array.shape}; the graph has {dtype} {owned[name].shape}"
                )
        net = Net(structure, model["seed"], dtype, arrays)
        tuned = Tuning.from_data(model["tuned"]) if "tuned" in model else ()
        if "output_kind" in model:
            net.output_kind = model["output_kind"]
    except CnnError as error:
        raise ModelFileError(f"{path}: {error}") from None
    net.steps, net.metadata, net.tuned, net.auto_tune = model["steps"], model["metadata"], tuned, bool(tune)
    return net


def check_model(model):
    """Raise unless ``model`` has the types and stays within the limits of a description."""

    def expect(right, what):
        if not right:
            raise ModelFileError(f"the description has no proper {what}")

    def names(value, optional=False):
        return isinstance(value, list) and all(isinstance(v, str) or (optional and v is None) for v in value)

    def whole(value, least=0):
        return type(value) is int and least <= value < 2**63

    expect(set(model) - {"tuned", "output_kind"} == {"graph", "dtype", "seed", "steps", "metadata"}, "set of entries")
    expect(model["dtype"] in ("float32", "float64"), "dtype")
    expect(whole(model["seed"]) and whole(model["steps"]), "seed and steps")
    expect(isinstance(model["metadata"], dict), "metadata")
    graph = model["graph"]
    expect(isinstance(graph, dict) and set(graph) == {"inputs", "nodes", "outputs"}, "graph")
    expect(isinstance(graph["inputs"], list) and isinstance(graph["nodes"], list), "inputs and nodes")
    expect(len(graph["inputs"]) + len(graph["nodes"]) <= MOST_NODES, f"number of nodes (at most {MOST_NODES})")
    expect(names(graph["outputs"]), "outputs")
    expect(names(model.get("output_kind", [])), "output_kind")
    for row in graph["inputs"]:
        expect(isinstance(row, dict) and set(row) - {"role", *INPUT_FLAGS} == {"name", "channels", "size"}, "input")
        sizes, role = row["size"], row.get("role", "index" if row["channels"] is None else "real")
        expect(isinstance(row["name"], str) and isinstance(role, str) and role in ROLE_NAMES, "input")
        numbers = row["channels"] is None and sizes == []  # (N,)
        expect(numbers or (whole(row["channels"], 1) and row["channels"] <= MOST_EXTENT), "input")
        expect(
            isinstance(sizes, list) and all(s is None or (whole(s, 1) and s <= MOST_EXTENT) for s in sizes),
            "input size",
        )
    for row in graph["nodes"]:
        expect(isinstance(row, dict) and set(row) == {"name", "operator", "inputs", "settings"}, "node")
        expect(isinstance(row["name"], str) and isinstance(row["operator"], str), "node")
        expect(names(row["inputs"], optional=True) and isinstance(row["settings"], dict), f"node {row['name']!r}")
        for name, value in row["settings"].items():
            most = 2**63 - 1 if name == "seed" else MOST_EXTENT
            expect(_modest(value, MOST_DEPTH, most), f"setting {name!r} of node {row['name']!r}")


def _modest(value, depth, most):
    """Whether a setting of a file is plain and small: numbers, short strings, short sequences of them."""
    if isinstance(value, list):
        return depth > 0 and len(value) <= 64 and all(_modest(item, depth - 1, most) for item in value)
    if isinstance(value, str):
        return len(value) <= 200
    return value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) <= most)
