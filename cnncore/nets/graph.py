"""Graphs: operators applied to values, with branches and joins.

    g = cnncore.Graph()
    x = g.input(channels=3)                                  # batch and image size stay open
    a = g.conv(x, 16, kernel_size=1, activation="relu")      # every operator of cnncore.OPS is a method
    b = g.conv(x, 16, kernel_size=3, padding=1, activation="relu")
    g.output(g.global_avg_pool(g.concat(a, b)))
    net = g.build(seed=0)

Only shapes are computed here. The methods are derived from the operators' schemas by layers.py; no operator is named.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Self, TypeAlias, TypeGuard

import numpy as np

from ..checks import FLOATS, choice, flag, integer, seed_number
from ..errors import CnnError, GraphError, SettingError, shape_text, unknown_name, with_node_path
from ..operators.operator import Op
from ..operators.registry import OPS, find
from ..operators.schema import ACCEPTED_ROLES
from .layers import (
    ParameterSpec,
    bound,
    declared,
    operand_operator,
    owned_arrays,
    shared_as,
    split_settings,
    with_present_names,
)
from .operator_methods import OperatorMethods
from .structure import INDICES, INPUT_FLAGS, MOST_AXES, ROLE_NAMES, Input, Node, Structure
from .value import SharedParameter, Value

__all__ = ["Graph"]

# What a layer shares: all arrays of another layer, or some arguments.
Shared: TypeAlias = Value | str | Mapping[str, SharedParameter | str]

FORBIDDEN = frozenset("/.\\\"'<>&")
NOTHING_SHARED: Mapping[str, str] = MappingProxyType({})


class Graph(OperatorMethods):
    """What ``cnncore.Graph`` can do without nets: inputs, operators as methods, scopes, outputs, the finished structure."""

    def __init__(self) -> None:
        self._inputs: list[Input] = []
        self._nodes: list[Node] = []
        self._values: list[Value] = []
        self._names: dict[str, int] = {}
        self._indices: dict[int, Value] = {}  # number of a value → the indices that belong to it
        self._owned: dict[str, ParameterSpec] = {}  # all arrays by name, with the argument of the first node
        self._layers: dict[int, int] = {}  # number of a value → that of the layer before its activation
        self._operands: dict[str, Value] = {}  # shared parameters as values
        self._outputs: tuple[int, ...] | None = None
        self._scopes: tuple[str, ...] = ()

    # ── Building ──

    def input(
        self,
        channels: int | None,
        size: int | Sequence[int | None] | None = None,
        name: str | None = None,
        *,
        rank: int | None = None,
        role: str = "real",
        channels_last: bool = False,
        takes_integers: bool = False,
        takes_other_floats: bool = False,
    ) -> Value:
        """An input (N, channels, *size).

        Parameters
        ----------
        channels : int or None
            The number of channels; None, with rank 0, for an input (N,).
        size : int or sequence of int or None, optional
            The spatial extents: None if open, an integer for all axes, or one integer or None per axis.
        name : str, optional
            Its name; by default "input", "indices" or "mask", by its role, with the next free number.
        rank : int, optional
            The number of axes after the channels: 2 unless ``size`` says otherwise, and with rank 0 the input is (N,
            channels). Images have 1 to 3; arrays of up to 6 are for operators that take any number of axes.
        role : str, default "real"
            What it holds: "real" numbers, "index" for integers, "mask" for booleans.
        channels_last : bool, default False
            Whether the arrays given to the net are (N, *size, channels).
        takes_integers : bool, default False
            Whether it also takes integers, as real numbers, such as pixels from 0 to 255.
        takes_other_floats : bool, default False
            Whether it also takes floats of other precisions, converted to that of the net.

        Returns
        -------
        Value
            The input, an argument of operators.

        Raises
        ------
        SettingError
            A setting is out of range.
        GraphError
            The name is taken or malformed, or the graph has nodes already: inputs come first.
        """
        path = self._path(name, "input" if role == "real" else "indices" if role == "index" else role)
        role = choice(*ROLE_NAMES)(path, "role", role)
        rank = integer(path, "rank", 2 if rank is None else rank, 0, MOST_AXES - 2) if not _several(size) else len(size)
        if rank > MOST_AXES - 2:
            raise SettingError(f"{path}: size {size} has {rank} axes; there are at most {MOST_AXES - 2}")
        sizes = tuple(
            None if s is None else integer(path, "size", s, 1) for s in (size if _several(size) else (size,) * rank)
        )
        if channels is None and rank == 0:  # (N,)
            row = Input(path, None, (), role)
        else:
            last = flag(path, "channels_last", channels_last) and bool(sizes)
            row = Input(
                path,
                integer(path, "channels", channels, 1),
                sizes,
                role,
                last,
                flag(path, "takes_integers", takes_integers),
                flag(path, "takes_other_floats", takes_other_floats),
            )
        if self._nodes:
            raise GraphError(f"{path}: inputs come first; call g.input before the operators")
        self._inputs.append(row)
        return self._value(path, row.shape, role)

    def input_indices(self, name: str | None = None) -> Value:
        """An input of N integers, for operators that take indices, such as the image index of each box.

        Parameters
        ----------
        name : str, optional
            Its name; by default "indices" with the next free number.

        Returns
        -------
        Value
            The input, of role "index".

        Raises
        ------
        GraphError
            An operator was added already, or the name is taken.

        Examples
        --------
        >>> import numpy as np, cnncore
        >>> g = cnncore.Graph()
        >>> x, boxes, images = g.input(channels=64), g.input(channels=4, rank=0, name="boxes"), g.input_indices("images")
        >>> g.output(g.roi_align(x, boxes, images, output_size=7))
        >>> net = g.build()
        >>> net(np.ones((2, 64, 20, 30), "f"), np.array([[1, 2, 8, 9]] * 3, "f"), np.array([0, 1, 1])).shape
        (3, 64, 7, 7)
        """
        return self.input(None, name=name, rank=0, role="index")

    @contextmanager
    def scope(self, name: str) -> Iterator[Self]:
        """``with g.scope("inception_3a"):`` prefixes the names of the nodes created inside with that name.

        Parameters
        ----------
        name : str
            Printable characters without / and . ; scopes within scopes make paths.

        Yields
        ------
        Graph
            The graph itself.

        Raises
        ------
        GraphError
            The name is malformed.
        """
        before = self._scopes
        self._scopes = (*before, self._checked_name(name))
        try:
            yield self
        finally:
            self._scopes = before

    def parameter(
        self,
        name: str,
        shape: Sequence[int],
        initial: str | float = "he",
        *,
        decay: bool = True,
        trained: bool = True,
    ) -> SharedParameter:
        """A parameter by name, which several nodes use; gradients of all its uses are added up.

        Parameters
        ----------
        name : str
            Its name in ``net.parameters``, with the open scopes as prefix.
        shape : sequence of int
            Its shape.
        initial : str or number, default "he"
            How it starts: the name of an initialiser, for a weight (outputs, inputs, \\*kernel), or a number.
        decay : bool, default True
            Whether weight decay applies to it.
        trained : bool, default True
            False: it is a buffer, which training leaves unchanged.

        Returns
        -------
        SharedParameter
            For ``share={"w": parameter}`` of layers, and an argument of operators, as a value of its shape.

        Raises
        ------
        GraphError
            The name is taken or malformed.
        SettingError
            The shape or the initialiser is invalid.

        Examples
        --------
        The decoder of an autoencoder multiplies by the transpose of what the encoder multiplies by:

        >>> import numpy as np, cnncore
        >>> g = cnncore.Graph(); x = g.input(channels=3, size=8)
        >>> w = g.parameter("tied", (16, 3, 3, 3))
        >>> code = g.conv(x, 16, kernel_size=3, padding=1, activation="relu", share={"w": w})
        >>> g.output(g.conv_transpose(code, 3, kernel_size=3, padding=1, share={"w": w}))
        >>> net = g.build()
        >>> sorted(net.parameters), net(np.zeros((1, 3, 8, 8), np.float32)).shape
        (['conv.b', 'conv_transpose.b', 'tied'], (1, 3, 8, 8))
        """
        path = self._path(self._checked_name(name), "parameter")
        decay, trained = flag(path, "decay", decay), flag(path, "trained", trained)
        self._owned[path] = declared(path, shape if _several(shape) else (shape,), initial, decay, trained)
        return SharedParameter(self, path, self._owned[path].shape)

    def apply(
        self,
        op: Op,
        *arguments: Any,
        name: str | None = None,
        activation: str | None = None,
        share: Shared | None = None,
        **settings: Any,
    ) -> Any:
        """Apply ``op``, an operator of cnncore.OPS or a user-defined one, like the method of its name.

        Parameters
        ----------
        op : Op
            The operator.
        *arguments : Value or setting
            Its values, then its settings by position.
        name : str, optional
            The name of the node; by default the operator's with the next free number.
        activation : str, optional
            The name of an operator that is applied to the result.
        share : Value, str or mapping, optional
            Arrays to be used in place of own ones. A layer, by its value or name: all of its arrays. A mapping: by argument
            ("w", "b" …) a parameter made by :meth:`parameter`, or the name of an array of an earlier layer ("conv.w").
        **settings
            The operator's settings, and those that determine its weights.

        Returns
        -------
        Value or tuple of two Value
            The result; with ``return_indices=True``, where the operator has it, the pair of result and indices.

        Raises
        ------
        SettingError
            A setting is unknown or out of range, or there is no operator called ``activation``.
        GraphError
            The name is taken or malformed, or an argument is not a value of this graph, or its role is not one that the
            operator takes.
        ShapeError
            The shapes of the values do not fit the operator.
        """
        path = self._path(name, op.name)
        arguments = tuple(self._operand(path, a) for a in arguments)
        settings = {key: self._operand(path, a) for key, a in settings.items()}
        values, settings = bound(path, op, arguments, settings, lambda a: isinstance(a, Value))
        following = None if activation is None else self._operator(path, "activation", activation)
        value = self._add(path, op, values, settings, self._names_shared(path, op, share))
        made = value
        if following is not None:
            value = self._add(f"{path}/{following.name}", following, (value,), {})
            self._layers[value.number] = made.number
        return (value, self._indices[made.number]) if made.number in self._indices else value

    def output(self, *values: Value) -> None:
        """Set the values that the net returns, in this order.

        Parameters
        ----------
        *values : Value
            One or more distinct values of the graph. Call this once, with all of them.

        Raises
        ------
        GraphError
            The outputs are set already, there is no value, one is given twice, or one cannot be an output.
        """
        if self._outputs is not None:
            raise GraphError("output: the outputs are already set; give all of them in one call: g.output(y1, y2)")
        if not values:
            raise GraphError("output: no value given; call g.output(y)")
        for value in values:
            self._check_value("output", value)
            if value.name.endswith(INDICES):
                raise GraphError(
                    f"output: {value.name} are indices returned with a value; g.output(g.as_index(…)) turns them into a value"
                )
        if len({v.number for v in values}) < len(values):
            raise GraphError(f"output: a value occurs twice in {', '.join(v.name for v in values)}")
        self._outputs = tuple(v.number for v in values)

    def structure(self) -> Structure:
        """The finished graph, after checking that it is complete.

        Returns
        -------
        Structure
            Inputs, nodes in execution order, outputs.

        Raises
        ------
        GraphError
            The graph has no input or no output, or a branch reaches no output.
        """
        if not self._inputs:
            raise GraphError("build: the graph has no input; call g.input(channels=…) first")
        if self._outputs is None:
            ends = ", ".join(self._unused(range(len(self._values))))
            raise GraphError(f"build: the graph has no output; call g.output(…), perhaps with {ends}")
        reached = set()
        waiting = list(self._outputs)
        while waiting:
            number = waiting.pop()
            if number not in reached:
                reached.add(number)
                if number >= len(self._inputs):
                    node = self._nodes[number - len(self._inputs)]
                    waiting += [*(a for a in node.arguments if a is not None), *(a for _, a in node.indices)]
        lost = [number for number in range(len(self._values)) if number not in reached]
        if lost:
            ends = ", ".join(str(self._values[self._names[name]]) for name in self._unused(lost))
            raise GraphError(
                f"build: unused branch: {ends} reaches no output; join it with others, pass it to g.output, or remove it"
            )
        used = {owned.name for node in self._nodes for owned in node.owned}
        for name in self._owned:
            if name not in used:
                raise GraphError(f"build: parameter {name} is used by no node; pass it to one, or remove it")
        return Structure(self._inputs, self._nodes, self._outputs)

    @classmethod
    def from_description(cls, description: Mapping[str, Any], most_extent: int | None = None) -> Self:
        """The graph of a ``Structure.description()``; its nodes may be in any order; cycles are detected and named.

        Parameters
        ----------
        description : mapping
            "inputs", "nodes" and "outputs", as ``Structure.description()`` returns them.
        most_extent : int, optional
            A value with a larger extent is refused before anything is computed from it.

        Returns
        -------
        Graph
            The graph, its outputs set.

        Raises
        ------
        GraphError
            An operator, value or output is unknown, a name is given twice, there is a cycle, or an extent is too large.
        """
        g = cls()
        for row in description["inputs"]:
            g._checked_path(row["name"])
            g._inputs.append(_input(row))
            g._value(row["name"], g._inputs[-1].shape, g._inputs[-1].role)
        for row in description.get("parameters", ()):
            g._checked_path(row["name"])
            if row["name"] in g._names or row["name"] in g._owned:
                raise GraphError(f"{row['name']}: the name of this parameter is taken")
            g._owned[row["name"]] = declared(**{"path" if key == "name" else key: v for key, v in row.items()})
        rows = {}
        for row in description["nodes"]:
            g._checked_path(row["name"])
            if row["name"] in g._owned:
                raise GraphError(f"{row['name']}: a node and a parameter have this name")
            if row["name"] in rows or row["name"] in g._names:
                raise GraphError(f"{row['name']}: two nodes have this name")
            rows[row["name"]] = row
        for name in _running_order(rows, g._names):
            row = rows[name]
            op = find(row["operator"])
            if op is None:
                raise GraphError(unknown_name(name, "operator", row["operator"], OPS))
            values = [None if v is None else g._named(name, v) for v in row["inputs"]]
            settings = {key: _tuples(value) for key, value in row["settings"].items()}
            values, settings = bound(name, op, values, settings, lambda a: isinstance(a, Value))
            made = g._add(name, op, values, settings, row.get("parameters", {}))
            if most_extent is not None and any(extent is not None and extent > most_extent for extent in made.shape):
                raise GraphError(f"{name}: its output {shape_text(made.shape)} exceeds {most_extent} along an axis")
        for name in description["outputs"]:
            if name not in g._names:
                raise GraphError(unknown_name("output", "node", name, g._names))
        g.output(*(g._values[g._names[name]] for name in description["outputs"]))
        return g

    def __repr__(self) -> str:
        return f"<graph of {len(self._inputs)} inputs and {len(self._nodes)} nodes>"

    # ── Adding nodes ──

    def _add(
        self,
        path: str,
        op: Op,
        values: Sequence[Value | None],
        settings: dict[str, Any],
        shared: Mapping[str, str] = NOTHING_SHARED,
    ) -> Value:
        """Add a node whose name and arguments have been determined; its shapes are inferred and checked here.

        ``shared``: the names of arrays that are not called after this node, by argument.
        """
        if path in self._names:
            raise GraphError(f"{path}: a node of this name exists already; give another name=…, or open a scope")
        for value in values:
            if value is not None:
                self._check_value(path, value)
                self._check_rows(path, value)
        for name, value in settings.items():
            if name.startswith("return_") and name != "return_indices" and value:
                raise SettingError(f"{path}: {name} requests a second result, but a node has one value; omit it")
        if isinstance(settings.get("seed"), np.random.Generator):  # asked once: a graph is inferred many times
            settings = settings | {"seed": seed_number(path, "seed", settings["seed"])}
        asked = settings.get("return_indices") is True
        shapes = [v.shape for v in values if v is not None]
        names = [(v.name, v.shape) for v in values if v is not None]
        try:
            settings = with_present_names(path, op, settings)
            passed = split_settings(path, op, settings)[1]
            owned = self._with_shared(path, op, owned_arrays(path, op, shapes, settings), shared)
            arguments, indices, every = self._arguments(op, values, owned)
            call = op.infer(every, FLOATS[0], passed)
        except CnnError as error:
            raise with_node_path(error, op, path, names) from None
        if asked and not op.implementation.returns_indices(call):
            raise SettingError(
                f"{path}: return_indices requests a second result, which is not a value of a graph; omit it"
            )
        self._nodes.append(Node(path, op, arguments, passed, dict(settings), owned, indices))
        for array in owned:
            self._owned.setdefault(array.name, array)
        made = self._value(path, call.output, op.yields)
        if asked:
            self._indices[made.number] = Value(self, made.number, path + INDICES, call.output, "index")
        return made

    # ── Shared arrays ──

    def _names_shared(self, path: str, op: Op, share: Shared | None) -> dict[str, str]:
        """Argument → name of the array that a layer is to use, from ``share=``."""
        if share is None:
            return {}
        taken = [p.name for p in op.layer.parameters]
        if not taken:
            raise GraphError(f"{path}: share: {op.name} has no parameters that could be shared")
        if not isinstance(share, Mapping):
            return self._names_of_layer(path, share)
        names = {}
        for argument, array in share.items():
            if argument not in taken:
                raise GraphError(unknown_name(f"{path}: share", "argument", argument, taken))
            if isinstance(array, SharedParameter) and array.graph is not self:
                raise GraphError(f"{path}: share: {array.name} belongs to another graph")
            name = array.name if isinstance(array, SharedParameter) else array
            if not isinstance(name, str) or name not in self._owned:
                raise GraphError(unknown_name(f"{path}: share", "array", name, self._owned))
            names[argument] = name
        return names

    def _names_of_layer(self, path: str, layer: Value | str) -> dict[str, str]:
        """Argument → name of each array of a layer, given by its value or its name."""
        if isinstance(layer, str):
            if layer not in self._names:
                raise GraphError(unknown_name(f"{path}: share", "layer", layer, [node.path for node in self._nodes]))
            layer = self._values[self._names[layer]]
        elif not isinstance(layer, Value):
            raise GraphError(
                f"{path}: share is {type(layer).__name__}; expected a layer (its value or its name), or a mapping from arguments "
                "to parameters, as in share={'w': g.parameter('tied', …)}"
            )
        self._check_value(path, layer)
        number = self._layers.get(layer.number, layer.number) - len(self._inputs)
        names = {a: owned.name for a, owned in self._nodes[number].owned_by_argument.items()} if number >= 0 else {}
        if not names:
            raise GraphError(f"{path}: share: {layer.name} has no parameters; give a layer that has")
        return names

    def _with_shared(
        self, path: str, op: Op, owned: Sequence[ParameterSpec], shared: Mapping[str, str]
    ) -> tuple[ParameterSpec, ...]:
        """The arrays of a node, those named in ``shared`` under these names; the first node of a name determines the rest."""
        own = {op.arrays[row.argument].name: row for row in owned}
        odd = shared.keys() - own.keys()
        if odd:
            here = ", ".join(own) or "none"
            raise GraphError(f"{path}: share: there is no {min(odd)} with these settings; the arrays here are {here}")
        names = {argument: shared.get(argument, row.name) for argument, row in own.items()}
        return tuple(
            shared_as(path, argument, row, self._owned[names[argument]])
            if names[argument] in self._owned
            else row._replace(name=names[argument])
            for argument, row in own.items()
        )

    def _operand(self, path: str, given: Any) -> Any:
        """An argument of an operator: a shared parameter as a value of its shape, anything else as it is."""
        if not isinstance(given, SharedParameter):
            return given
        if given.graph is not self:
            raise GraphError(f"{path}: {given.name} belongs to another graph")
        if given.name not in self._operands:
            spec = self._owned[given.name]
            settings = {"shape": spec.shape, "trained": spec.trained}
            op = operand_operator()
            shared = {op.arrays[0].name: given.name}
            self._operands[given.name] = self._add(f"{given.name}/{op.name}", op, (), settings, shared)
        return self._operands[given.name]

    def _check_rows(self, path: str, value: Value) -> None:
        """Raise where the rows of a value are only known once it is computed."""
        number = value.number - len(self._inputs)
        if number >= 0 and self._nodes[number].op.implementation.rows_vary:
            raise GraphError(
                f"{path}: how many rows {value.name} has depends on values, so that it can only be an output: g.output(…)"
            )

    @staticmethod
    def _arguments(op: Op, values: Sequence[Any], owned: Sequence[ParameterSpec]) -> tuple[Any, ...]:
        """(value numbers, numbers of index values by argument, shapes) for every array argument, including those that
        the layer owns.
        """
        own = {p.name for p in op.layer.parameters}
        rest = iter(values)
        rows = op.rows(len(values)) if op.variadic else op.arrays
        ordered = [None if row.name in own else next(rest) for row in rows]
        for row, value in zip(rows, ordered, strict=True):
            if value is not None and value.role not in ACCEPTED_ROLES[row.role]:
                taken = ACCEPTED_ROLES[row.role]
                way = "return_indices=True, g.input_indices() or " if taken == ("index",) else ""
                raise GraphError(
                    f"{op.name}: {row.name} takes {' or '.join(ROLE_NAMES[role] for role in taken)}; {value.name} is "
                    f"{ROLE_NAMES[value.role]}: {way}g.as_{taken[0]}(…)"
                )
        shapes = [None if v is None else v.shape for v in ordered]
        for array in owned:
            shapes[array.argument] = array.shape
        indices = tuple((i, v.number) for i, v in enumerate(ordered) if v is not None and v.role != "real")
        return tuple(None if v is None or v.role != "real" else v.number for v in ordered), indices, tuple(shapes)

    def _named(self, place: str, name: str) -> Value:
        """The value of that name in a description, or the indices that belong to it."""
        made, _, beside = name.partition(".")
        if beside == INDICES[1:] and self._names.get(made) in self._indices:
            return self._indices[self._names[made]]
        if name not in self._names:
            raise GraphError(unknown_name(place, "value", name, self._names))
        return self._values[self._names[name]]

    def _value(self, path: str, shape: Sequence[int | None], role: str = "real") -> Value:
        value = Value(self, len(self._values), path, shape, role)
        self._names[path] = value.number
        self._values.append(value)
        return value

    def _check_value(self, path: str, value: object) -> None:
        if not isinstance(value, Value):
            raise GraphError(f"{path}: expected values of this graph, got {type(value).__name__}")
        if value.graph is not self:
            raise GraphError(f"{path}: {value.name} belongs to another graph; a net is built from the values of one")

    def _unused(self, numbers: Iterable[int]) -> list[str]:
        """The names of those values among ``numbers`` that no node uses."""
        taken = {a for node in self._nodes for a in (*node.arguments, *(value for _, value in node.indices))}
        return [self._values[n].name for n in numbers if n not in taken]

    @staticmethod
    def _operator(path: str, what: str, name: object) -> Op:
        if not isinstance(name, str) or name not in OPS:
            raise SettingError(unknown_name(path, what, name, OPS))
        return OPS[name]

    # ── Names ──

    def _path(self, name: str | None, kind: str) -> str:
        """The path of a new node: the scopes and its name, or the operator's with the next free number."""
        scope = "".join(f"{part}/" for part in self._scopes)
        if name is not None:
            path = scope + self._checked_name(name)
            if path in self._names or path in self._owned:
                raise GraphError(f"{path}: a node of this name exists already; give another name=…, or open a scope")
            return path
        path, count = scope + kind, 1
        while path in self._names or path in self._owned:
            count += 1
            path = f"{scope}{kind}_{count}"
        return path

    @staticmethod
    def _checked_name(name: object) -> str:
        if not isinstance(name, str) or not name or len(name) > 200 or not name.isprintable() or FORBIDDEN & set(name):
            raise GraphError(
                f"name {name!r}: a name is a string of printable characters without / and . (g.scope adds prefixes)"
            )
        return name

    @classmethod
    def _checked_path(cls, path: str) -> None:
        for part in path.split("/"):
            cls._checked_name(part)


def _several(size: object) -> TypeGuard[Sequence[Any]]:
    return hasattr(size, "__len__")


def _input(row: Mapping[str, Any]) -> Input:
    """The input that a row of a description describes, checked."""
    path, role = row["name"], row.get("role", "real" if row["channels"] is not None else "index")
    if row["channels"] is None and not row["size"]:
        return Input(path, None, (), role)
    sizes = tuple(None if s is None else integer(path, "size", s, 1) for s in row["size"])
    if len(sizes) > MOST_AXES - 2:
        raise SettingError(f"{path}: size {sizes} has {len(sizes)} axes; there are at most {MOST_AXES - 2}")
    last, *taken = (flag(path, name, row.get(name, False)) for name in INPUT_FLAGS)
    channels = integer(path, "channels", row["channels"], 1)
    return Input(path, channels, sizes, role, last and bool(sizes), *taken)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _running_order(rows: Mapping[str, Any], known: Container[str]) -> list[str]:
    """The names of ``rows`` in topological order; a GraphError names a cycle."""
    order, state = [], {}
    for start in rows:
        stack = [(start, iter(rows[start]["inputs"]))] if start not in state else []
        if stack:
            state[start] = "open"
        while stack:
            name, inputs = stack[-1]
            for value in inputs:
                value = value and value.removesuffix(INDICES)
                if value is None or value in known or state.get(value) == "done":
                    continue
                if value not in rows:
                    raise GraphError(f"{name}: input {value!r} is neither an input of the graph nor a node")
                if state.get(value) == "open":
                    path = [n for n, _ in stack]
                    cycle = " → ".join([*path[path.index(value) :], value])
                    raise GraphError(f"{name}: the graph has a cycle: {cycle}; a value cannot depend on itself")
                state[value] = "open"
                stack.append((value, iter(rows[value]["inputs"])))
                break
            else:
                state[name] = "done"
                order.append(name)
                stack.pop()
    return order
