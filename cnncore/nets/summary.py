"""A net as a table: shapes, parameters, multiply-adds and receptive fields."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ..errors import shape_text
from . import drawing
from .drawing import Table
from .plan import infer
from .structure import Node, Structure

MOST_NAMES = 48  # characters for the inputs of a node in a table


class Row(NamedTuple):
    """A node in a summary.

    Attributes
    ----------
    path : str
        The name of the node, with its scopes.
    operator : str
        The name of its operator.
    output : tuple of int
        The shape of its value.
    parameters : int
        The number of trained values.
    state : int
        The number of values in buffers, such as running means.
    multiply_adds : int
        Multiply-adds of its forward pass.
    receptive_field : tuple of Fraction, or None
        Per spatial axis; None if it is the whole image.
    inputs : tuple of str
        The names of the values it takes.
    shared : bool
        Whether it uses parameters that an earlier row counts.
    """

    path: str
    operator: str
    output: tuple[int, ...]
    parameters: int
    state: int  # values in buffers, such as running means
    multiply_adds: int
    receptive_field: tuple[Fraction, ...] | None
    inputs: tuple[str, ...]
    shared: bool = False


class Summary:
    """A table of nodes; ``str`` and notebooks show it, ``rows`` and the totals are for programs.

    Parameters
    ----------
    rows : iterable of Row
        The nodes in execution order.
    shapes : iterable of tuple of int
        The shapes of all values, inputs first.
    inputs : iterable of tuple
        (name, shape) of each input.
    outputs : iterable of tuple
        (name, shape, kind) of each output.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        shapes: Iterable[tuple[int, ...]],
        inputs: Iterable[tuple[str, tuple[int | None, ...]]],
        outputs: Iterable[tuple[str, tuple[int, ...], str]],
    ) -> None:
        self.rows, self.shapes, self.inputs = tuple(rows), tuple(shapes), tuple(inputs)  # shapes: of all values
        self.outputs = tuple(outputs)  # (name, shape, kind)

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(row.parameters for row in self.rows)

    @property
    def state(self) -> int:
        """Number of values in buffers, such as running means."""
        return sum(row.state for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one forward pass."""
        return sum(row.multiply_adds for row in self.rows)

    def cells(self) -> tuple[list[str], list[list[str]], list[str]]:
        """Header, rows and totals as lists of strings.

        Returns
        -------
        header : list of str
            The names of the columns.
        lines : list of list of str
            The cells of each node.
        totals : list of str
            The cells of the last line.
        """
        header = ["node", "operator", "from", "output", "parameters", "multiply-adds", "receptive field"]
        before = [None, *(row.path for row in self.rows)]
        lines = [
            [
                row.path,
                row.operator,
                "" if row.inputs == (previous,) else shortened(row.path, row.inputs),
                shape_text(row.output),
                " + ".join([f"{row.parameters:,}"] * bool(row.parameters) + ["shared"] * row.shared),
                f"{row.multiply_adds:,}" if row.multiply_adds else "",
                "all" if row.receptive_field is None else "×".join(map(_reach, row.receptive_field)),
            ]
            for previous, row in zip(before, self.rows, strict=False)
        ]
        totals = ["total", "", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}", ""]
        return header, lines, totals

    def table(self) -> Table:
        """The :class:`drawing.Table` that is shown.

        Returns
        -------
        Table
            The nodes and the totals, titled with the inputs and outputs.
        """
        header, lines, totals = self.cells()
        title = ", ".join(f"{name} {shape_text(shape)}" for name, shape in self.inputs)
        title += " → " + ", ".join(f"{n} {shape_text(s)}, {kind.replace('_', ' ')}" for n, s, kind in self.outputs)
        return drawing.Table(title, header, [lines, [totals]], words=4)

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def shortened(path: str, inputs: Sequence[str]) -> str:
    """Names of a node's inputs relative to its own scope; long lists end in …"""
    scope = path.rpartition("/")[0] + "/"
    text = ", ".join(name.removeprefix(scope) for name in inputs)
    return text if len(text) <= MOST_NAMES else text[: MOST_NAMES - 1] + "…"


def _reach(reach: Fraction) -> str:
    return f"{math.ceil(reach)}"


def summarised(
    structure: Structure, shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any], kinds: Iterable[str]
) -> Summary:
    """The summary of a graph for inputs of ``shapes``; ``kinds`` are those of the outputs."""
    calls, every_shape = infer(structure, shapes, dtype)
    fields = [(tuple(Fraction(1) for _ in row.size), tuple(Fraction(1) for _ in row.size)) for row in structure.inputs]
    rows = []
    counted: set[str] = set()
    for node, call in zip(structure.nodes, calls, strict=True):
        fields.append(receptive_field([fields[v] for v in node.arguments if v is not None], node, call))
        new = {owned.name: owned for owned in node.owned if owned.name not in counted}
        counted |= new.keys()
        rows.append(
            Row(
                path=node.path,
                operator=node.op.name,
                output=call.output,
                parameters=sum(math.prod(owned.shape) for owned in new.values() if owned.trained),
                state=sum(math.prod(owned.shape) for owned in new.values() if not owned.trained),
                multiply_adds=node.op.implementation.multiply_adds(call),
                receptive_field=None if fields[-1] is None else fields[-1][0],
                inputs=(
                    *(structure.names[v] for v in node.arguments if v is not None),
                    *(structure.indices_name(v) for _, v in node.indices),
                ),
                shared=any(owned.name not in new for owned in node.owned),
            )
        )
    names = tuple((row.name, row.given(shape)) for row, shape in zip(structure.inputs, shapes, strict=True))
    outputs = [(structure.names[v], every_shape[v], kind) for v, kind in zip(structure.outputs, kinds, strict=True)]
    return Summary(rows, every_shape, names, outputs)


UNSEEING = ((), None)  # of values that do not depend on the image: constants


def receptive_field(fields: Sequence[Any], node: Node, call: Any) -> Any:
    """(extent, stride) per axis, in the input image, of a node's receptive field: the largest of its branches; None: everything.

    A window of extent k and stride s over values with receptive fields of extent r at distance j has a receptive field
    of r + (k − 1) j, and its values are at distance s j.
    """
    window = node.op.implementation.receptive_window(call)
    if not node.arguments or all(a is None for a in node.arguments):
        return UNSEEING
    fields = [f for f in fields if f is not UNSEEING]
    if window is None or any(f is None for f in fields) or not fields:
        return None
    axes = len(window)
    if any(len(reach) != axes for reach, _ in fields):
        return None
    reaches = tuple(max(reach[a] + (window[a][0] - 1) * step[a] for reach, step in fields) for a in range(axes))
    return reaches, tuple(max(step[a] for _, step in fields) * window[a][1] for a in range(axes))
