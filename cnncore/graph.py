"""Graphs: operators applied to values, branching and joining as the network does.

    g = cnncore.Graph()
    x = g.input(channels=3)                                  # batch and image size stay open
    a = g.conv(x, 16, kernel_size=1, activation="relu")      # every operator of cnncore.OPS is a method
    b = g.conv(x, 16, kernel_size=3, padding=1, activation="relu")
    g.output(g.global_avg_pool(g.concat(a, b)))
    net = g.build(seed=0)

Nothing is computed here but shapes. The methods follow from the operators' rows by layers.py; no operator is named.
"""

from contextlib import contextmanager

import numpy as np

from . import geometry, model_file
from .catalog import GRIDS, OPS, find
from .errors import CnnError, GraphError, ModelFileError, SettingError
from .layers import bound, owned_arrays, relocated, shape_text, signature, split_settings, unknown
from .net import INDICES, INPUT_FLAGS, ROLE_NAMES, Input, Net, Node, Structure
from .operator import ACCEPTED_ROLES, FLOATS, choice, flag
from .tuning import Tuning

__all__ = ["Graph", "Value", "load"]

FORBIDDEN = frozenset("/.\\\"'<>&")


class Value:
    """What a node makes, or an input: to be given to further operators. ``shape`` has None for open extents.

    ``role`` says what it holds: "real" numbers, "index" (integers) or "mask" (booleans). Indices that a node returns beside
    its value have that value's number.
    """

    __slots__ = ("graph", "name", "number", "role", "shape")

    def __init__(self, graph, number, name, shape, role="real"):
        self.graph, self.number, self.name, self.shape, self.role = graph, number, name, tuple(shape), role

    def __repr__(self):
        return f"<value {self}>"

    def __str__(self):
        return f"{self.name} {shape_text(self.shape)}"


class Graph:
    """A network being built: ``input``, the operators of ``cnncore.OPS`` as methods, ``scope``, ``output``, ``build``.

    ``g.<operator>(*values, *settings, name=None, activation=None)`` applies an operator and returns its value. Operators with
    weights take what makes them (``g.conv(x, 64, kernel_size=3)``); help(g.conv) shows how each is called. ``activation``
    names an operator that is applied to the result.
    """

    def __init__(self):
        self._inputs = []
        self._nodes = []
        self._values = []
        self._names = {}
        self._indices = {}  # number of a value → the indices beside it
        self._outputs = None
        self._scopes = ()

    # ── Building ──

    def input(
        self, channels, size=None, name=None, *, rank=None, role="real", channels_last=False, takes_integers=False
    ):
        """An input (N, channels, *size). ``size``: None for open, an integer for all axes, or one per axis (or None).

        ``rank`` is the number of spatial axes, 2 unless ``size`` says otherwise; with rank 0 the input is (N, channels).
        With rank 0 and ``channels=None`` it is (N,). ``role`` is what it holds: "real" numbers, "index" for integers, "mask" for
        booleans. ``channels_last``: whether the arrays given to the net are (N, *size, channels). ``takes_integers``:
        whether it takes integers too, as the real numbers they are, such as pixels from 0 to 255.
        """
        path = self._path(name, "input" if role == "real" else "indices" if role == "index" else role)
        role = choice(*ROLE_NAMES)(path, "role", role)
        rank = geometry.integer(path, "rank", 2 if rank is None else rank, 0, 3) if not _several(size) else len(size)
        if not 0 <= rank <= 3:
            raise SettingError(f"{path}: size {tuple(size)} has {rank} axes; there are at most 3")
        sizes = tuple(size) if _several(size) else (size,) * rank
        sizes = tuple(None if s is None else geometry.integer(path, "size", s, 1) for s in sizes)
        if channels is None and rank == 0:  # (N,)
            row = Input(path, None, (), role)
        else:
            last = flag(path, "channels_last", channels_last) and bool(sizes)
            row = Input(
                path,
                geometry.integer(path, "channels", channels, 1),
                sizes,
                role,
                last,
                flag(path, "takes_integers", takes_integers),
            )
        if self._nodes:
            raise GraphError(f"{path}: inputs come first; call g.input before the operators")
        self._inputs.append(row)
        return self._value(path, row.shape, role)

    def input_indices(self, name=None):
        """An input of N integers, for operators that take indices: the number of the image that each box lies in.

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
    def scope(self, name):
        """``with g.scope("inception_3a"):`` puts the nodes made inside under that name."""
        before = self._scopes
        self._scopes = (*before, self._checked_name(name))
        try:
            yield self
        finally:
            self._scopes = before

    def apply(self, op, *arguments, name=None, activation=None, **settings):
        """Apply ``op``, an operator of cnncore.OPS or one of your own, as the method of its name would.

        With ``return_indices=True``, where the operator has it, the result is the pair of two values.
        """
        path = self._path(name, op.name)
        values, settings = bound(path, op, arguments, settings, lambda a: isinstance(a, Value))
        following = None if activation is None else self._operator(path, "activation", activation)
        value = self._add(path, op, values, settings)
        made = value
        if following is not None:
            value = self._add(f"{path}/{following.name}", following, (value,), {})
        return (value, self._indices[made.number]) if made.number in self._indices else value

    def output(self, *values):
        """Say which values the net returns, in this order."""
        if self._outputs is not None:
            raise GraphError("output: the outputs are set already; give all of them in one call: g.output(y1, y2)")
        if not values:
            raise GraphError("output: no value given; call g.output(y)")
        for value in values:
            self._check_value("output", value)
            if value.name.endswith(INDICES):
                raise GraphError(
                    f"output: {value.name} are indices beside a value; g.output(g.as_index(…)) makes a value of them"
                )
        if len({v.number for v in values}) < len(values):
            raise GraphError(f"output: a value is given twice among {', '.join(v.name for v in values)}")
        self._outputs = tuple(v.number for v in values)

    def build(self, seed=0, dtype="float32", tune=False):
        """The net: parameters initialised from ``seed``, each by its own name, in float32 or float64.

        ``seed=None``: what would be drawn stays 0, for a net whose weights come from elsewhere or that is only looked at.
        ``tune=True``: its first call on inputs of a new shape measures which algorithm computes each convolution the fastest,
        which takes some passes and changes results by rounding; the choices are saved with the net.
        """
        net = Net(self.structure(), seed=seed, dtype=dtype)
        net.tunes = bool(tune)
        return net

    def structure(self):
        """The finished graph, after checking that it is one."""
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
                f"build: unused branch: {ends} reaches no output; join it with the others, give it to g.output, or remove it"
            )
        return Structure(self._inputs, self._nodes, self._outputs)

    @classmethod
    def from_description(cls, description, most_extent=None):
        """The graph of a ``Structure.description()``; its nodes may stand in any order, cycles are found and named.

        A value with more than ``most_extent`` along an axis is refused before anything is computed from it.
        """
        g = cls()
        for row in description["inputs"]:
            g._checked_path(row["name"])
            g._inputs.append(Input(row["name"], *_input_extents(row)))
            g._value(row["name"], g._inputs[-1].shape, g._inputs[-1].role)
        rows = {}
        for row in description["nodes"]:
            g._checked_path(row["name"])
            if row["name"] in rows or row["name"] in g._names:
                raise GraphError(f"{row['name']}: there are two nodes of this name")
            rows[row["name"]] = row
        for name in _running_order(rows, g._names):
            row = rows[name]
            op = find(row["operator"])
            if op is None:
                raise GraphError(unknown(name, "operator", row["operator"], list(OPS), "There are"))
            values = [None if v is None else g._named(name, v) for v in row["inputs"]]
            settings = {key: _tuples(value) for key, value in row["settings"].items()}
            values, settings = bound(name, op, values, settings, lambda a: isinstance(a, Value))
            made = g._add(name, op, values, settings)
            if most_extent is not None and any(extent is not None and extent > most_extent for extent in made.shape):
                raise GraphError(f"{name}: its output {shape_text(made.shape)} exceeds {most_extent} along an axis")
        for name in description["outputs"]:
            if name not in g._names:
                raise GraphError(unknown("output", "node", name, list(g._names), "There are"))
        g.output(*(g._values[g._names[name]] for name in description["outputs"]))
        return g

    # ── Operators as methods ──

    def __getattr__(self, name):
        if name in OPS:
            return _method(self, OPS[name])
        if name in GRIDS:
            return _grid_method(self, GRIDS[name])
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            unknown("graph", "operator", name, [*OPS, "input", "output", "scope", "build"], "There are")
        )

    def __dir__(self):
        return sorted({*super().__dir__(), *OPS, *GRIDS})

    def __repr__(self):
        return f"<graph of {len(self._inputs)} inputs and {len(self._nodes)} nodes>"

    # ── Adding nodes ──

    def _add(self, path, op, values, settings):
        """Add a node whose name and arguments are known; its shapes are inferred and checked here."""
        if path in self._names:
            raise GraphError(f"{path}: there is a node of this name already; give another name=…, or open a scope")
        for value in values:
            if value is not None:
                self._check_value(path, value)
        for name, value in settings.items():
            if name.startswith("return_") and name != "return_indices" and value:
                raise SettingError(f"{path}: {name} asks for a second result; a node makes one value, leave it out")
        asked = settings.get("return_indices") is True
        shapes = [v.shape for v in values if v is not None]
        names = [(v.name, v.shape) for v in values if v is not None]
        try:
            passed = split_settings(path, op, settings)[1]
            owned = owned_arrays(path, op, shapes, settings)
            arguments, indices, every = self._arguments(op, values, owned)
            call = op.describe(every, FLOATS[0], passed)
        except CnnError as error:
            raise relocated(error, op, path, names) from None
        if asked and not op.kind.returns_indices(call):
            raise SettingError(
                f"{path}: return_indices asks for a second result that a graph has no value for; leave it out"
            )
        self._nodes.append(Node(path, op, arguments, passed, dict(settings), owned, indices))
        made = self._value(path, call.output, op.yields)
        if asked:
            self._indices[made.number] = Value(self, made.number, path + INDICES, call.output, "index")
        return made

    @staticmethod
    def _arguments(op, values, owned):
        """(value numbers, those of indices by argument, shapes) for every array argument, those that the layer owns included."""
        own = {p.name for p in op.layer.parameters}
        rest = iter(values)
        rows = op.rows(len(values)) if op.several else op.arrays
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

    def _named(self, place, name):
        """The value of that name in a description, or the indices beside one."""
        made, _, beside = name.partition(".")
        if beside == INDICES[1:] and self._names.get(made) in self._indices:
            return self._indices[self._names[made]]
        if name not in self._names:
            raise GraphError(unknown(place, "value", name, list(self._names), "There are"))
        return self._values[self._names[name]]

    def _value(self, path, shape, role="real"):
        value = Value(self, len(self._values), path, shape, role)
        self._names[path] = value.number
        self._values.append(value)
        return value

    def _check_value(self, path, value):
        if not isinstance(value, Value):
            raise GraphError(f"{path}: expected values of this graph, got {type(value).__name__}")
        if value.graph is not self:
            raise GraphError(f"{path}: {value.name} belongs to another graph; a net is built from the values of one")

    def _unused(self, numbers):
        """Names among ``numbers`` of the values that no node takes."""
        taken = {a for node in self._nodes for a in (*node.arguments, *(value for _, value in node.indices))}
        return [self._values[n].name for n in numbers if n not in taken]

    @staticmethod
    def _operator(path, what, name):
        if not isinstance(name, str) or name not in OPS:
            raise SettingError(unknown(path, what, name, list(OPS), "There are"))
        return OPS[name]

    # ── Names ──

    def _path(self, name, kind):
        """The path of a new node: the scopes and its name, or the operator's with the next free number."""
        scope = "".join(f"{part}/" for part in self._scopes)
        if name is not None:
            path = scope + self._checked_name(name)
            if path in self._names:
                raise GraphError(f"{path}: there is a node of this name already; give another name=…, or open a scope")
            return path
        path, count = scope + kind, 1
        while path in self._names:
            count += 1
            path = f"{scope}{kind}_{count}"
        return path

    @staticmethod
    def _checked_name(name):
        if not isinstance(name, str) or not name or len(name) > 200 or not name.isprintable() or FORBIDDEN & set(name):
            raise GraphError(
                f"name {name!r}: a name is a string of printable characters without / and . (g.scope makes paths)"
            )
        return name

    @classmethod
    def _checked_path(cls, path):
        for part in path.split("/"):
            cls._checked_name(part)


def _method(graph, op):
    """``graph.apply`` bound to an operator, with the operator's name, signature and text."""

    def method(*arguments, name=None, activation=None, **settings):
        return graph.apply(op, *arguments, name=name, activation=activation, **settings)

    method.__name__ = method.__qualname__ = op.name
    method.__signature__ = signature(op)
    method.__doc__ = f"g.{op.name}{signature(op)}: apply the operator to values of the graph.\n\n{op.__doc__}"
    return method


def _grid_method(graph, grid):
    """``graph.apply`` of the operator that a grid makes of what its ``choices`` are set to."""

    def method(*arguments, name=None, activation=None, **settings):
        chosen = {choice: settings.pop(choice) for choice in grid.choices if choice in settings}
        return graph.apply(grid.operator(**chosen), *arguments, name=name, activation=activation, **settings)

    method.__name__ = method.__qualname__ = grid.name
    method.__doc__ = grid.__doc__
    return method


def _several(size):
    return hasattr(size, "__len__")


def _input_extents(row):
    path, role = row["name"], row.get("role", "real" if row["channels"] is not None else "index")
    if row["channels"] is None and not row["size"]:
        return None, (), role
    sizes = tuple(None if s is None else geometry.integer(path, "size", s, 1) for s in row["size"])
    if len(sizes) > 3:
        raise SettingError(f"{path}: size {sizes} has {len(sizes)} axes; there are at most 3")
    last, integers = (flag(path, name, row.get(name, False)) for name in INPUT_FLAGS)
    return geometry.integer(path, "channels", row["channels"], 1), sizes, role, last and bool(sizes), integers


def _tuples(value):
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _running_order(rows, known):
    """Names of ``rows`` in an order in which every node comes after its inputs; a GraphError names a cycle."""
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


# ── Loading ────────────────────────────────────────────────────────────────────────────────────────────────────────────

# What a model file may ask for: far more than any network needs, far less than it takes to fill a machine's memory.
MOST_NODES = 20_000
MOST_EXTENT = 1 << 16  # of settings, and of inputs and values along an axis
MOST_DEPTH = 4  # of sequences within settings


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
    net.steps, net.metadata, net.tuned, net.tunes = model["steps"], model["metadata"], tuned, bool(tune)
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
