"""The values of a graph: what its operators take and return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import shape_text

__all__ = ["SharedParameter", "Value"]


class Value:
    """What a node computes, or an input: the argument of further operators.

    Indices that a node returns with its value have that value's number.

    Parameters
    ----------
    graph : Graph
        The graph it belongs to.
    number : int
        Its position among the graph's values, inputs first.
    name : str
        The path of its input or node.
    shape : sequence of int or None
        Its shape, with None for open extents.
    role : str, default "real"
        What it holds: "real" numbers, "index" (integers) or "mask" (booleans).
    """

    __slots__ = ("graph", "name", "number", "role", "shape")

    def __init__(self, graph: Any, number: int, name: str, shape: Sequence[int | None], role: str = "real") -> None:
        self.graph, self.number, self.name, self.role = graph, number, name, role
        self.shape: tuple[Any, ...] = tuple(shape)

    def __repr__(self) -> str:
        return f"<value {self}>"

    def __str__(self) -> str:
        return f"{self.name} {shape_text(self.shape)}"


class SharedParameter:
    """A parameter of a graph by name, which several nodes use; made by ``g.parameter``.

    Layers take it in ``share={"w": parameter}``, in place of an array of their own. As an argument of an operator it is a
    value of its shape.

    Parameters
    ----------
    graph : Graph
        The graph it belongs to.
    name : str
        Its name among the net's parameters.
    shape : sequence of int
        Its shape.
    """

    __slots__ = ("graph", "name", "shape")

    def __init__(self, graph: Any, name: str, shape: Sequence[int]) -> None:
        self.graph, self.name = graph, name
        self.shape: tuple[int, ...] = tuple(shape)

    def __repr__(self) -> str:
        return f"<parameter {self.name} {self.shape}>"
