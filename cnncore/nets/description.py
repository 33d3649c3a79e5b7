"""Types and limits of a net's description in model files, shared by writer and reader."""

from collections.abc import Callable
from typing import Any

from ..errors import ModelFileError
from ..operators.custom import missing
from ..operators.registry import find
from .graph import Graph
from .model_file import MOST_AXES
from .structure import INPUT_FLAGS, ROLE_NAMES, Structure

__all__ = ["structure_of"]

# What a model file may require: far more than any network needs, far less than a machine's memory.
MOST_NODES = 20_000
MOST_EXTENT = 1 << 20  # of settings, and of inputs and values along an axis
MOST_DEPTH = 4  # of sequences within settings


def structure_of(model: Any) -> Structure:
    """The structure described in a model file, within the limits of files."""
    check_model(model)
    for name, origin in model.get("python_operators", {}).items():
        if find(name) is None:
            raise ModelFileError(missing(name, origin))
    return Graph.from_description(model["graph"], most_extent=MOST_EXTENT).structure()


def check_model(model: Any) -> None:
    """Raise unless ``model`` has the types of a description and stays within its limits."""

    def expect(right: object, what: str) -> None:
        if not right:
            raise ModelFileError(f"the description has no valid {what}")

    def names(value: Any, optional: bool = False) -> bool:
        return isinstance(value, list) and all(isinstance(v, str) or (optional and v is None) for v in value)

    def whole(value: Any, least: int = 0) -> bool:
        return type(value) is int and least <= value < 2**63

    optional = {"tuned", "output_kind", "python_operators"}
    expect(set(model) - optional == {"graph", "dtype", "seed", "steps", "metadata"}, "set of entries")
    expect(model["dtype"] in ("float32", "float64"), "dtype")
    expect(whole(model["seed"]) and whole(model["steps"]), "seed and steps")
    expect(isinstance(model["metadata"], dict), "metadata")
    graph = model["graph"]
    expect(isinstance(graph, dict) and set(graph) - {"parameters"} == {"inputs", "nodes", "outputs"}, "graph")
    check_parameters(graph.get("parameters", []), expect)
    expect(isinstance(graph["inputs"], list) and isinstance(graph["nodes"], list), "inputs and nodes")
    expect(len(graph["inputs"]) + len(graph["nodes"]) <= MOST_NODES, f"number of nodes (at most {MOST_NODES})")
    expect(names(graph["outputs"]), "outputs")
    expect(names(model.get("output_kind", [])), "output_kind")
    origins = model.get("python_operators", {})
    expect(isinstance(origins, dict) and names(list(origins.values())), "list of operators written in Python")
    for row in graph["inputs"]:
        expect(isinstance(row, dict) and set(row) - {"role", *INPUT_FLAGS} == {"name", "channels", "size"}, "input")
        sizes, role = row["size"], row.get("role", "index" if row["channels"] is None else "real")
        expect(isinstance(row["name"], str) and isinstance(role, str) and role in ROLE_NAMES, "input")
        numbers = row["channels"] is None and sizes == []  # (N,)
        expect(numbers or (whole(row["channels"], 1) and row["channels"] <= MOST_EXTENT), "input")
        expect(
            isinstance(sizes, list) and all(s is None or (whole(s, 1) and s <= MOST_EXTENT) for s in sizes),
            f"input size: {sizes} (each at most {MOST_EXTENT:,})",
        )
    for row in graph["nodes"]:
        entries = {"name", "operator", "inputs", "settings"}
        expect(isinstance(row, dict) and set(row) - {"parameters"} == entries, "node")
        expect(isinstance(row["name"], str) and isinstance(row["operator"], str), "node")
        shared = row.get("parameters", {})
        expect(isinstance(shared, dict) and names(list(shared.values())), f"parameters of node {row['name']!r}")
        expect(names(row["inputs"], optional=True) and isinstance(row["settings"], dict), f"node {row['name']!r}")
        for name, value in row["settings"].items():
            most = 2**63 - 1 if name == "seed" else MOST_EXTENT
            limit = f"setting {name!r} of node {row['name']!r}: {str(value)[:40]} (numbers up to {most:,})"
            expect(_modest(value, MOST_DEPTH, most), limit)


def check_parameters(rows: Any, expect: Callable[[object, str], None]) -> None:
    """Raise unless the parameters that a graph declares have their types, and are within the limits."""
    expect(isinstance(rows, list) and len(rows) <= MOST_NODES, "list of parameters")
    for row in rows:
        entries = {"name", "shape", "initial", "decay", "trained"}
        expect(isinstance(row, dict) and set(row) == entries and isinstance(row["name"], str), "parameter")
        expect(isinstance(row["decay"], bool) and isinstance(row["trained"], bool), f"parameter {row['name']!r}")
        shape = row["shape"]
        modest = isinstance(shape, list) and len(shape) <= MOST_AXES and all(type(n) is int for n in shape)
        expect(modest and all(1 <= n <= MOST_EXTENT for n in shape), f"shape of parameter {row['name']!r}")
        expect(isinstance(row["initial"], (str, float, int)), f"initial value of parameter {row['name']!r}")


def _modest(value: Any, depth: int, most: int) -> bool:
    """Whether a setting of a file is plain and small: numbers, short strings, short sequences of these."""
    if isinstance(value, list):
        return depth > 0 and len(value) <= 64 and all(_modest(item, depth - 1, most) for item in value)
    if isinstance(value, str):
        return len(value) <= 200
    return value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) <= most)
