"""A net run node by node: the value of every node, and the gradient of any of them with respect to all before it.

A plan keeps what a pass needs and no more. A :class:`Trace` keeps everything, as plain arrays, for looking at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import CnnError, GraphError, ShapeError, with_node_path
from ..operators.operator import Call
from .net import Net
from .plan import INFERENCE, described
from .structure import Node

__all__ = ["Trace"]


class Trace:
    """The values of all nodes for one pass in inference mode, by the operators themselves, one after the other.

    Parameters
    ----------
    net : Net
    *xs : array (N, C, *spatial)
        One per input, as for a call of the net.

    Raises
    ------
    ShapeError, DtypeError
        An array does not fit its input.

    Attributes
    ----------
    values : list of numpy.ndarray
        By number: the inputs first, then what each node makes. Images are (N, C, *spatial).
    calls : list of Call
        The description of each node's call.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> g.output(g.global_avg_pool(g.relu(x, name="positive")))
    >>> trace = Trace(g.build(), np.array([[[[-1.0, 3.0]]]], np.float32))
    >>> trace.value("positive")
    array([[[[0., 3.]]]], dtype=float32)
    >>> trace.gradients({"global_avg_pool": np.ones((1, 1), np.float32)})[0]
    array([[[[0. , 0.5]]]], dtype=float32)
    """

    def __init__(self, net: Net, *xs: ArrayLike) -> None:
        self.net, self.structure = net, net.graph
        self.inputs = len(self.structure.inputs)
        self.values: list[NDArray[Any]] = list(net._checked_inputs(xs))
        self.calls: list[Call] = []
        self._extras: dict[int, Any] = {}  # value number → what its node returns beside it
        self._saved: list[Any] = []
        self._receptive: dict[int, tuple[Any, Any]] = {}
        owned = {**net.parameters._arrays, **net.buffers._arrays}
        for number in range(len(self.structure.nodes)):
            self._run(number, owned)

    def _run(self, number: int, owned: Mapping[str, NDArray[Any]]) -> None:
        """Run node ``number`` on the values before it."""
        node = self.structure.nodes[number]
        shapes = [value.shape for value in self.values]
        call = described(self.structure, number, shapes, self.net.dtype, INFERENCE, self.net.seed, 0)
        try:
            y, extras, saved = node.op.implementation.forward(call, self.arguments(number, owned), None)
        except CnnError as error:
            raise with_node_path(error, node.op, node.path) from None
        self.calls.append(call)
        self.values.append(y)
        self._saved.append(saved)
        if extras:
            self._extras[self.inputs + number] = extras[0]

    def arguments(self, number: int, owned: Mapping[str, NDArray[Any]] | None = None) -> list[NDArray[Any] | None]:
        """The arrays that node ``number`` was applied to: values, and the arrays that it owns.

        Parameters
        ----------
        number : int
            Number of the node, from 0.
        owned : dict of str to array, optional
            The net's arrays; by default those that it has now.

        Returns
        -------
        list of array or None
            In the order of the operator's array arguments.
        """
        node = self.structure.nodes[number]
        arrays: list[NDArray[Any] | None] = [None if v is None else self.values[v] for v in node.arguments]
        if owned is None:
            owned = {**self.net.parameters._arrays, **self.net.buffers._arrays}
        for row in node.owned:
            arrays[row.argument] = owned[row.name]
        for argument, value in node.indices:
            arrays[argument] = self._extras[value] if self.structure.roles[value] == "real" else self.values[value]
        return arrays

    def value(self, name: str) -> NDArray[Any]:
        """What the node, or input, called ``name`` makes.

        Parameters
        ----------
        name : str

        Returns
        -------
        numpy.ndarray

        Raises
        ------
        GraphError
            There is no node of this name.
        """
        return self.values[self.structure.number(name, "trace")]

    def gradients(
        self,
        seeds: Mapping[str, NDArray[Any]],
        rule: Callable[[Node, NDArray[Any]], NDArray[Any]] | None = None,
    ) -> list[NDArray[Any] | None]:
        """The gradients of Σ ⟨seed, value⟩ with respect to all values, by one backward pass through the nodes.

        Parameters
        ----------
        seeds : dict of str to array
            Name of a value → dy of its shape and dtype.
        rule : callable, optional
            ``rule(node, dy)`` returns what takes the place of the gradient dy that arrives at a node, as guided
            backpropagation changes it at rectifiers.

        Returns
        -------
        list of array or None
            By number, as ``values``; None where no gradient arrives.

        Raises
        ------
        GraphError
            There is no node of a name.
        ShapeError
            A seed is not of the shape of its value.
        """
        found: list[NDArray[Any] | None] = [None] * len(self.values)
        for name, seed in seeds.items():
            number = self.structure.number(name, "trace")
            if np.shape(seed) != self.values[number].shape:
                raise ShapeError(
                    f"trace: the seed of {name} has shape {np.shape(seed)}; expected {self.values[number].shape}"
                )
            found[number] = np.array(seed, self.net.dtype)
        for number in reversed(range(len(self.structure.nodes))):
            dy = found[self.inputs + number]
            if dy is not None:
                if rule is not None:
                    dy = rule(self.structure.nodes[number], dy)
                for value, dx in self._contributions(number, dy):
                    earlier = found[value]
                    found[value] = dx if earlier is None else earlier + dx
        return found

    def _contributions(self, number: int, dy: NDArray[Any]) -> list[tuple[int, NDArray[Any]]]:
        """(value, gradient) of what node ``number`` reads, from the gradient of what it makes."""
        node = self.structure.nodes[number]
        if node.op.yields != "real":
            return []
        gradients = self.local_gradients(number, dy)
        return [(v, g) for v, g in zip(node.arguments, gradients, strict=True) if v is not None and g is not None]

    def local_gradients(self, number: int, dy: NDArray[Any]) -> list[NDArray[Any] | None]:
        """The gradients of ⟨dy, y⟩ of node ``number`` alone, with respect to the values that it reads.

        Parameters
        ----------
        number : int
            Number of the node, from 0.
        dy : array
            Gradient of the node's output, in its shape.

        Returns
        -------
        list of array or None
            Per array argument; None for the arrays that the node owns, and for those without a gradient.
        """
        node, call = self.structure.nodes[number], self.calls[number]
        rows = node.op.rows(len(node.arguments))
        roles = self.structure.roles
        wants = tuple(
            value is not None and row.differentiable and roles[value] == "real"
            for value, row in zip(node.arguments, rows, strict=True)
        )
        if not any(wants):
            return [None] * len(wants)
        return list(node.op.implementation.backward(call, self._saved[number], np.ascontiguousarray(dy), wants, None))

    # ── Receptive fields ──

    def receptive_box(self, name: str, position: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
        """The box of the image that one output of a node depends on: the smallest that the windows' sizes give.

        Parameters
        ----------
        name : str
            Name of a node that makes maps.
        position : tuple of int
            The output's place, one index per spatial axis.

        Returns
        -------
        tuple of (int, int) or None
            First and last pixel per axis, padding cut off; None where a node on the way sees the whole image, or
            where its windows depend on the image.

        Raises
        ------
        GraphError
            The net has several inputs, or the node makes no maps of as many axes.

        Examples
        --------
        >>> import numpy as np, cnncore
        >>> g = cnncore.Graph(); x = g.input(channels=1)
        >>> g.output(g.max_pool(g.conv(x, 1, kernel_size=3, padding=1), kernel_size=2, name="pool"))
        >>> trace = Trace(g.build(), np.zeros((1, 1, 8, 8), np.float32))
        >>> trace.receptive_box("pool", (0, 1))                           # rows −1 to 2, columns 1 to 4
        ((0, 2), (1, 4))
        """
        target = self.structure.number(name, "trace")
        if self.inputs != 1 or len(position) != self.values[target].ndim - 2:
            raise GraphError(f"receptive_box: {name} has no place {position} in one image")
        boxes: dict[int, Any] = {target: tuple((i, i) for i in position)}
        for value in range(target, self.inputs - 1, -1):
            if value not in boxes:
                continue
            number = value - self.inputs
            for earlier in self.structure.nodes[number].arguments:
                if earlier is None:
                    continue
                box = self.box_before(number, earlier, boxes[value])
                boxes[earlier] = box if earlier not in boxes else merged(boxes[earlier], box)
        box = boxes.get(0)
        if box is None:
            return None
        extents = self.values[0].shape[2:]
        return tuple((max(low, 0), min(high, extent - 1)) for (low, high), extent in zip(box, extents, strict=True))

    def box_before(self, number: int, earlier: int, box: Any) -> Any:
        """The box of value ``earlier`` that node ``number`` reads for a box of its outputs.

        Parameters
        ----------
        number : int
            Number of the node, from 0.
        earlier : int
            Number of a value that it reads.
        box : tuple of (int, int)
            First and last output per axis.

        Returns
        -------
        tuple of (int, int) or None
            First and last index per axis, in the padding too; None where it is not known, or is all.
        """
        if box is None or self.values[earlier].ndim - 2 != len(box):
            return None
        window, start = self._windows(number)
        if window is None or start is None or len(window) != len(box):
            return None
        return tuple(
            (math.floor(first + low * stride), math.ceil(first + high * stride) + reach - 1)
            for (low, high), (reach, stride), first in zip(box, window, start, strict=True)
        )

    def _windows(self, number: int) -> tuple[Any, Any]:
        """Extent and stride of the receptive window of node ``number``, and where the first one begins."""
        if number not in self._receptive:
            call, implementation = self.calls[number], self.structure.nodes[number].op.implementation
            self._receptive[number] = implementation.receptive_window(call), implementation.receptive_start(call)
        return self._receptive[number]


def merged(one: Any, other: Any) -> Any:
    """The smallest box around two; None, the whole image, stays so."""
    if one is None or other is None:
        return None
    return tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))
