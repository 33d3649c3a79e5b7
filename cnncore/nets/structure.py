"""A finished graph: inputs, nodes and their order of execution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError, SettingError, unknown_name
from ..operators.operator import Op
from ..operators.registry import find

# properties of an input, stored in a description if true
INPUT_FLAGS = ("channels_last", "takes_integers", "takes_other_floats")
MOST_AXES = 8  # of an array; images have at most five
INDICES = ".indices"  # suffix of a node's name: the indices that it returns with its value
ROLE_NAMES = {"real": "real numbers", "index": "integers", "mask": "booleans"}


def axis_names(rank: int) -> tuple[str, ...]:
    """The names of the axes after the channels: of images L, H W or D H W, else numbered."""
    return tuple(("", "L", "HW", "DHW")[rank]) if rank <= 3 else tuple(f"A{i}" for i in range(1, rank + 1))


class Input(NamedTuple):
    """An input of the net: (N, channels, *size) with None for open extents; without channels (N,).

    ``role`` is what it holds: "real" numbers, "index" (integers) or "mask" (booleans), as the arrays of operators do.
    """

    name: str
    channels: int | None
    size: tuple[int | None, ...]
    role: str = "real"
    channels_last: bool = False  # of the arrays given to the net; inside it values are (N, channels, *size)
    takes_integers: bool = False  # whether arrays of integers are accepted too, as real numbers: 8-bit pixels
    takes_other_floats: bool = (
        False  # whether floats of other precisions are accepted too, and converted to that of the net
    )

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Its shape with the open batch."""
        return (None,) if self.channels is None else (None, self.channels, *self.size)

    @property
    def layout(self) -> str:
        """The axes of the arrays given to the net: "NCHW", "NHWC", and with another number of spatial axes "NCL", "NDHWC"; more
        than three are numbered, "NCA1A2A3A4".
        """
        if self.channels is None:
            return "N"
        axes = "".join(axis_names(len(self.size)))
        return f"N{axes}C" if self.channels_last else f"NC{axes}"

    def given(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """A shape (N, channels, *size) in the layout of the arrays given to the net."""
        return (shape[0], *shape[2:], shape[1]) if self.channels_last else tuple(shape)

    def arranged(self, x: NDArray[Any]) -> NDArray[Any]:
        """An array (N, channels, *size) in the layout of the arrays given to the net, as a view."""
        return np.moveaxis(x, 1, -1) if self.channels_last else x

    def channels_first(self, x: NDArray[Any]) -> NDArray[Any]:
        """An array given to the net in the layout (N, channels, *size), as a view."""
        return np.moveaxis(x, -1, 1) if self.channels_last else x


class Node(NamedTuple):
    """An operator applied to values: ``arguments`` holds a value's number, or None, for every array argument.

    Integers and booleans have no gradient, and are kept apart from real values: ``indices`` has their argument, and the
    number of the input that takes them, of the node that computes them, or of the node that returns them with y.
    """

    path: str
    op: Op
    arguments: tuple[int | None, ...]
    settings: dict[str, Any]  # of the operator, as given
    given: dict[str, Any]  # all settings as given, those of the layer too
    owned: tuple[Any, ...]  # the arrays it owns, layers.ParameterSpec
    indices: tuple[tuple[int, int], ...] = ()  # (argument, value number) of integers and booleans

    @property
    def owned_by_argument(self) -> dict[str, Any]:
        """The arrays it owns by the names of its operator's arguments: "w", "b" …"""
        rows = self.op.rows(len(self.arguments))
        return {rows[owned.argument].name: owned for owned in self.owned}


class Structure:
    """A finished graph: inputs, nodes in topological order, and the numbers of the output values.

    Values are numbered: the inputs first, then the output of each node.
    """

    def __init__(self, inputs: Iterable[Input], nodes: Iterable[Node], outputs: Iterable[int]) -> None:
        self.inputs, self.nodes, self.outputs = tuple(inputs), tuple(nodes), tuple(outputs)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every value's name: that of its input, or its node's path."""
        return (*(i.name for i in self.inputs), *(n.path for n in self.nodes))

    @cached_property
    def owned(self) -> dict[str, Any]:
        """All owned arrays by name, those that several nodes share once: with the argument of the first."""
        found: dict[str, Any] = {}
        for node in self.nodes:
            for owned in node.owned:
                found.setdefault(owned.name, owned)
        return found

    @cached_property
    def users(self) -> dict[str, tuple[str, ...]]:
        """Name of each owned array → the paths of the nodes that own it; more than one if it is shared."""
        found: dict[str, dict[str, None]] = {}
        for node in self.nodes:
            for owned in node.owned:
                found.setdefault(owned.name, {})[node.path] = None
        return {name: tuple(paths) for name, paths in found.items()}

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """The role of every value: "real" numbers, "index" (integers) or "mask" (booleans)."""
        return (*(i.role for i in self.inputs), *(n.op.yields for n in self.nodes))

    def indices_name(self, value: int) -> str:
        """The name of a value that is not real, or of the indices that a node returns with its value."""
        return self.names[value] + INDICES * (self.roles[value] == "real")

    def number(self, name: str, place: str = "net") -> int:
        """The number of the value called ``name``."""
        if name not in self.names:
            raise GraphError(unknown_name(place, "node", name, self.names))
        return self.names.index(name)

    def description(self) -> dict[str, Any]:
        """The graph as plain data (dicts, lists, strings, numbers), from which Graph.from_description restores it."""
        names = self.names
        nodes = []
        for node in self.nodes:
            known = find(node.op.name)
            if known is not node.op and not (known is not None and known.origin and node.op.origin):
                raise GraphError(
                    f"{node.path}: a file cannot contain the operator {node.op.name!r}, which is not in cnncore.OPS; "
                    "cnncore.operator and cnncore.pooling_strategy register operators written in Python"
                )
            owned = {p.name for p in node.op.layer.parameters}
            rows = node.op.rows(len(node.arguments))
            indices = dict(node.indices)
            taken = [
                self.indices_name(indices[i]) if i in indices else None if a is None else names[a]
                for i, a in enumerate(node.arguments)
            ]
            values = [name for row, name in zip(rows, taken, strict=True) if row.name not in owned]
            nodes.append(
                {
                    "name": node.path,
                    "operator": node.op.name,
                    "inputs": values,
                    "settings": {name: plain_setting(node.path, name, value) for name, value in node.given.items()},
                }
            )
            renamed = {
                argument: owned.name
                for argument, owned in node.owned_by_argument.items()
                if owned.name != f"{node.path}.{argument}"
            }
            if renamed:
                nodes[-1]["parameters"] = renamed
        inputs = [
            {"name": i.name, "channels": i.channels, "size": list(i.size)}
            | {name: True for name in INPUT_FLAGS if getattr(i, name)}
            | ({} if i.role == ("real" if i.channels is not None else "index") else {"role": i.role})
            for i in self.inputs
        ]
        made = {"inputs": inputs, "nodes": nodes, "outputs": [names[v] for v in self.outputs]}
        declared = [
            {
                "name": owned.name,
                "shape": list(owned.shape),
                "initial": owned.initial,
                "decay": owned.decay,
                "trained": owned.trained,
            }
            for owned in self.owned.values()
            if owned.declared
        ]
        return made | {"parameters": declared} if declared else made


def plain_setting(path: str, name: str, value: Any) -> Any:
    """A setting as JSON represents it; sequences become lists."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [plain_setting(path, name, item) for item in value]
    if hasattr(value, "tolist"):
        return plain_setting(path, name, value.tolist())
    raise SettingError(
        f"{path}: setting {name} is {value!r}, which a description cannot represent; use numbers, strings, tuples"
    )
