"""ONNX files as nets.

    net = cnncore.io.load_onnx("model.onnx")

The file is read by file.py. Here its nodes become nodes of a graph, one after the other: operators.py has a short
function per ONNX operator. What depends on no input is computed at once; what depends on the size of an image alone is
followed as arithmetic on extents (shapes.py), so that batch and image size stay open.
"""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import CnnError, ModelFileError, PrecisionWarning, ShapeError, unknown_name
from ...nets.graph import FORBIDDEN, Graph
from ...nets.net import Net
from ...nets.structure import INDICES, MOST_AXES, Structure
from ...nets.surgery import pruned
from ...nets.value import Value
from ...operators.registry import OPS
from ...typing import FilePath
from .control import CONTROL
from .file import MOST_NODES, needed, read
from .grids import Grid, codes, prepared
from .layouts import as_in_file, channels_last, composed, in_graph, reordered, reorders
from .operators import KEEPS_TYPE_OF, OPERATORS, REASONS
from .shapes import MOST_VALUES, ON_NUMBERS, Extent, as_size, folded, is_open, tidy
from .sizes import size_as_number

__all__ = ["OPERATORS", "Imported", "Live", "load_onnx"]

MOST_NAME = 120
logger = logging.getLogger(__name__)

PRECISIONS = {
    1: "float32",
    11: "float64",
    "FLOAT": "float32",
    "DOUBLE": "float64",
}  # what a Cast is to, of those a net has
ROLES = {
    "f": "real",
    "i": "index",
    "u": "index",
    "b": "mask",
    "O": "index",
}  # kind of a dtype → what a value holds; O: sizes
NEEDED_CHANNELS = "channels of an input cannot stay open, because weights depend on them"


@dataclass(frozen=True, eq=False)
class Live:
    """A value that depends on the inputs: that of the graph, its extents (integers or Extent), and what it holds in the file.

    ``role`` is "real", "index" (integers) or "mask" (booleans). Integers and booleans that operators on real numbers have moved
    or computed with are real numbers in the graph, and stay what they are in the file.
    """

    value: Value
    extents: tuple
    role: str = "real"
    grid: Grid | None = None  # of quantized values: the graph has the real numbers that they stand for
    order: tuple | None = (
        None  # of transposed values: which axis of the graph's value each axis is; extents are in the file's
    )

    @property
    def rank(self):
        """Number of axes."""
        return len(self.extents)


def load_onnx(
    path_or_bytes: FilePath | bytes,
    input_shape: Sequence[Any] | None = None,
    outputs: Sequence[str] | None = None,
) -> Net:
    """The net in an ONNX file: an ordinary net, to be run, trained, checked, drawn, saved and exported again.

    Nodes keep their names, weights become the parameters of the layers that use them, other numbers become constants,
    which training leaves alone. A weight that several nodes use is one parameter, which they share; but each gets its
    own where all values are the same, as exporters store equal arrays once. The batch is always open, the
    image size where the file leaves it open. Batch normalisation and dropout do in training what they are for.
    ``net.metadata["onnx"]`` keeps the names of inputs and outputs; what the file's metadata_props say in JSON or as
    text is put beside it.

    Files of every version of ONNX's operators are read. Weights may lie in files beside it, in the same folder, as
    PyTorch's exporter writes them. Functions of the file are inlined, branches with a known condition taken, loops with
    a known number of turns written out.

    Parameters
    ----------
    path_or_bytes : path or bytes
        The file, or its contents.
    input_shape : sequence of int or None, optional
        Extents of the input that take the place of those in the file, None for open ones: (None, 3, 224, 224); one
        shape per input where there are several.
    outputs : sequence of str, optional
        Names of values in the file that the net returns instead of its outputs. What comes after them is not read: a
        detector without the selection of boxes at its end, the features of a classifier.

    Returns
    -------
    Net
        Its inputs are (N, C, \\*spatial), with 0 to 3 spatial axes, or (N,). It computes in float64 where all inputs of
        the file are that, or are cast to it first, else in float32; weights of other precisions are converted. A
        UserWarning names casts between the two that come later.

    Raises
    ------
    ModelFileError
        The file is damaged or malicious, keeps data outside its folder, or has an operator that is not known here; the
        text names the node, its operator and what would be needed.
    ImportError
        The onnx package is missing: pip install 'cnncore[onnx]'.

    Examples
    --------
    >>> import cnncore
    >>> content = cnncore.io.save_onnx(cnncore.models.lenet())              # doctest: +SKIP
    >>> net = cnncore.io.load_onnx(content)                                 # doctest: +SKIP
    """
    model = read(path_or_bytes)
    place = "ONNX bytes" if isinstance(path_or_bytes, (bytes, bytearray, memoryview)) else str(path_or_bytes)
    try:
        net = Importer(model if outputs is None else cut_at(model, outputs), input_shape).net()
    except CnnError as error:
        raise ModelFileError(f"{place}: {error}") from None
    except (MemoryError, OverflowError, RecursionError) as error:
        raise ModelFileError(f"{place}: the graph asks for more memory than there is ({error})") from None
    logger.debug("%s: read, %r", place, net)
    return net


def cut_at(model, outputs):
    """The file with other outputs: values by name."""
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    made = {name for node in model.nodes for name in node.outputs if name} | {row.name for row in model.inputs}
    for name in names:
        if name not in made:
            raise ModelFileError(
                unknown_name("outputs", "value", name, made, "The names are those that onnx and Netron show.")
            )
    if not names or len(set(names)) < len(names):
        raise ModelFileError(f"outputs {list(names)}: give at least one name, and none twice")
    return replace(model, outputs=names)


class Importer:
    """One file becoming a net. ``known``: name → Live, array of numbers (or of objects where some are extents), or indices."""

    def __init__(self, model, input_shape):
        self.model = model
        self.g = Graph()
        self.known = dict(model.arrays)
        self.owned = {}  # names of the net's arrays → numbers
        self.sources = {}  # where the numbers of a node are in memory → the name of its array
        self.constants = {}  # id of an array of the file → the Live that stands for it
        self.casts = []  # nodes that cast real numbers to a precision that nets have, and that precision
        self.zero_padded = {}  # number of a value that is another one with zeros around it → (that one, how many)
        self.conversions = {}  # (name of a value, role) → the Live that holds the same as another sort of value
        self.done = set()  # nodes that another one has taken in
        self.paths = set()
        self.made = 0  # values of all arrays that were computed from others
        self.every = []  # all values of the graph, in the order in which they were made
        self.lines = {}  # a size → a value (size,) of the graph
        self.batches = {}  # the open batch of an input → what the file declares it to be
        self.output_numbers = set()  # of the values that are outputs already
        self.kept = set(model.outputs)  # names that are asked for, by whom no node shows
        self.readers = {}
        self.nodes_read = 0
        self.nodes = self.expected(needed(model.nodes, model.outputs, {row.name for row in model.inputs}))
        self.input_names = []
        self.add_inputs(input_shape)

    # ── Inputs ──

    def add_inputs(self, given):
        """Inputs of the graph: the batch open, the rest as the file or ``given`` says."""
        rows = [row for row in self.model.inputs if row.name in self.readers or row.name in self.model.outputs]
        if not rows:
            raise ModelFileError("no output depends on an input; a net has at least one input (N, C, …)")
        lasts = [self.is_channels_last(row) for row in rows]
        shapes = given_shapes(rows, given, lasts)
        for row, shape, last in zip(rows, shapes, lasts, strict=True):
            self.input_names.append(row.name)
            path = self.path(row.name)
            role = self.role_of(row)
            if len(shape) == 1:
                with self.scopes_of(path) as last:
                    value = self.g.input(None, name=last, rank=0, role=role)
                size = shape[0] if isinstance(shape[0], str) else (row.name, 0)
                self.known[row.name] = Live(value, (Extent.named(size),), role)
                self.every.append(self.known[row.name])
                continue
            if not 2 <= len(shape) <= MOST_AXES:
                raise ModelFileError(
                    f"input {row.name!r} has {len(shape)} axes {shape}; a net takes arrays of 1 to {MOST_AXES} axes, images as "
                    "(N, C, L) to (N, C, D, H, W): begin the file with a Reshape from one of these"
                )
            if last:
                shape = (shape[0], shape[-1], *shape[1:-1])
            channels = shape[1] if isinstance(shape[1], int) else self.channels_of(row.name)
            if channels is None:
                way = "(None, …, 3)" if last else "(None, 3, …)"
                raise ModelFileError(f"input {row.name!r} {shape}: {NEEDED_CHANNELS}: give input_shape={way}")
            size = tuple(n if isinstance(n, int) else None for n in shape[2:])
            with self.scopes_of(path) as name:
                value = self.g.input(
                    channels,
                    size=size,
                    name=name,
                    role=role,
                    channels_last=last,
                    takes_integers=role == "real" and row.dtype.kind in "iu",
                    takes_other_floats=row.dtype.kind == "f" and self.precision_of(row) != row.dtype.name,
                )
            extents = [n if isinstance(n, int) else Extent.named((row.name, axis)) for axis, n in enumerate(shape)]
            # One name for several extents means that they are equal.
            extents = [Extent.named(n) if isinstance(n, str) else e for n, e in zip(shape, extents, strict=True)]
            batch = Extent.named(shape[0] if isinstance(shape[0], str) else (row.name, 0))
            if isinstance(shape[0], int):
                batch = Extent.named(("N", shape[0]))
                self.batches[batch] = shape[0]
            live = Live(value, (batch, channels, *extents[2:]), role)
            self.known[row.name] = composed(live, (0, *range(2, live.rank), 1)) if last else live
            self.every.append(live)

    def role_of(self, row):
        """What an input holds; bytes that become real numbers at once are an image in another precision."""
        role = ROLES.get(row.dtype.kind)
        if role is None:
            raise ModelFileError(f"input {row.name!r} takes {row.dtype}; a net takes numbers and booleans")
        becomes_real = all(
            node.op_type == "Cast" and node.attributes.get("to") in (1, 10, 11, 16)
            for node in self.readers.get(row.name, ())
        )
        return "real" if row.dtype.itemsize == 1 and role == "index" and becomes_real else role

    def is_channels_last(self, row):
        """Whether an input of the file holds images channels last."""
        return channels_last(row.name, len(row.shape), self.readers, row.shape, self.model.arrays)

    def channels_of(self, name):
        """Channels of an input as the convolution that reads it has them."""
        for node in self.readers.get(name, ()):
            weight = self.model.arrays.get(node.inputs[1]) if len(node.inputs) > 1 else None
            if node.op_type == "Conv" and weight is not None and weight.ndim > 2:
                return weight.shape[1] * node.attributes.get("group", 1)
        return None

    # ── Names ──

    def path(self, name):
        """A node's path that a graph takes, and that there is not yet."""
        parts = [clean(part) for part in name.split("/")]
        stem = "/".join(part for part in parts if part)[-MOST_NAME:].strip("/") or "node"
        made, count = stem, 1
        while made in self.paths:
            count += 1
            made = f"{stem}_{count}"
        self.paths.add(made)
        return made

    @contextmanager
    def scopes_of(self, path):
        """Open the scopes of a path in the graph; gives the name within them."""
        *scopes, last = path.split("/")
        with ExitStack() as opened:
            for part in scopes:
                opened.enter_context(self.g.scope(part))
            yield last

    # ── Nodes ──

    def net(self):
        """Import all nodes, and build the net."""
        self.run(self.nodes)
        outputs = [self.output(name) for name in self.model.outputs]
        structure = self.structure(outputs)
        self.warn_of_casts()
        net = Net(structure, 0, self.dtype(), self.numbers(structure))
        net.metadata = self.metadata()
        return net

    def expected(self, nodes):
        """The nodes, after noting who reads what; more than a file may hold are refused, however they came to be."""
        self.nodes_read += len(nodes)
        if self.nodes_read > MOST_NODES:
            raise ModelFileError(f"loops and branches make more than {MOST_NODES} nodes of it")
        for node in nodes:
            for name in filter(None, node.reads):
                self.readers.setdefault(name, []).append(node)
        return nodes

    def run(self, nodes):
        """Import nodes, in an order in which they can run."""
        for node in nodes:
            if id(node) in self.done:
                continue
            try:
                made = self.imported(node)
            except ModelFileError:
                raise
            except (CnnError, ValueError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError) as error:
                way = "; outputs= reads the file up to it" if "can only be an output" in str(error) else ""
                raise ModelFileError(f"{node}, opset {node.opset}: {error}{way}") from None
            for name, result in zip(node.outputs, made, strict=False):
                if name and result is not None:
                    sizes = isinstance(result, np.ndarray) and is_open(result)
                    self.known[name] = tidy(result) if sizes else result
                elif self.is_needed(name):
                    raise ModelFileError(f"{node}: {name!r} is needed, but one of the inputs that make it is missing")
            for name in node.outputs[len(made) :]:
                if self.is_needed(name):
                    raise ModelFileError(
                        f"{node}: its output {name!r} is needed; only the first {len(made)} are made here"
                    )

    def is_needed(self, name):
        """Whether a node reads that name, or it is asked for."""
        return bool(name) and (name in self.readers or name in self.kept)

    def run_inside(self, graph, given):
        """What a graph inside a node makes of ``given``, one entry per input; its names are those of no other graph."""
        self.known.update(graph.arrays)
        self.known.update(zip(graph.inputs, given, strict=True))
        self.kept.update(graph.outputs)
        self.run(self.expected(needed(graph.nodes, graph.outputs, self.live_names(graph))))
        return [self.known[name] for name in graph.outputs]

    def live_names(self, graph):
        """Names that a graph inside a node reads of what depends on the inputs."""
        return {name for name in (*graph.inputs, *graph.outer) if not isinstance(self.known.get(name), np.ndarray)}

    def imported(self, node):
        """What a node makes, a tuple."""
        n = Imported(self, node)
        if node.opset < 7 and node.attributes.get("broadcast") and len(n.inputs) == 2:
            n.inputs[1] = self.placed(node, *n.inputs)
        if all(isinstance(v, np.ndarray) for v in n.inputs if v is not None) and any(v is not None for v in n.inputs):
            given = [v for v in n.inputs if v is not None]
            if node.op_type in ON_NUMBERS:
                n.check_size_limit(np.broadcast_shapes(*(v.shape for v in given)))
            made = folded(node.op_type, given)
            if made is not None:
                return (made,)
        function = OPERATORS.get(node.op_type) or CONTROL.get(node.op_type)
        if function is None:
            reason = REASONS.get(node.op_type, "no operator of cnncore does this, and no composition is known here")
            domain, _, name = node.op_type.rpartition(".")
            if domain:
                raise ModelFileError(
                    f"{node}: {name} is an operator of the domain {domain!r}, of which few are known: export without it"
                )
            raise ModelFileError(f"{node}: {node.op_type} of opset {node.opset} is not supported: {reason}")
        n.order = reorders(n)
        n.grid = prepared(n)
        made = function(n)
        return tuple(map(n.as_in_file, made if isinstance(made, tuple) else (made,)))

    def placed(self, node, x, z):
        """The second array of a node older than broadcasting from the last axis: its axes begin at axis ``axis`` of the first."""
        axis = node.attributes.get("axis")
        rank, own = (v.ndim if isinstance(v, np.ndarray) else v.rank for v in (x, z))
        behind = rank - own - axis if isinstance(axis, int) and axis >= 0 else 0
        if not behind:
            return z
        if isinstance(z, np.ndarray):
            return z.reshape(*z.shape, *(1,) * behind)
        axes, name = tuple(range(own, own + behind)), node.name or node.outputs[0]
        return self.add("unsqueeze", z, name=f"{name}/placed", axes=axes, extents=(*z.extents, *(1,) * behind))

    def output(self, name):
        """The value of the graph for an output of the file."""
        given = self.known[name]
        given = codes(self, given, name) if isinstance(given, Live) and given.grid is not None else given
        role = given.role if isinstance(given, Live) else ROLES.get(given.dtype.kind, "real")
        live = self.live(given, name, role)
        if (
            live.value.number < len(self.input_names)
            or live.value.name.endswith(INDICES)
            or live.value.number in self.output_numbers
        ):
            live = self.add("identity" if role == "real" else f"as_{role}", live, name=name)
        self.output_numbers.add(live.value.number)
        return live.value

    def structure(self, outputs):
        """The finished graph, without what turned out not to be needed (a value of which only the size was)."""
        g = self.g
        used = {a for node in g._nodes for a in (*node.arguments, *(value for _, value in node.indices))}
        used.update(v.number for v in outputs)
        if len(used - {None}) == len(g._values):
            g.output(*outputs)
            return g.structure()
        whole = Structure(g._inputs, g._nodes, tuple(v.number for v in outputs))
        if not pruned(whole.description())["inputs"]:
            raise ModelFileError(
                "no output depends on an input, but on its size at most; a net has at least one input (N, C, …)"
            )
        return Graph.from_description(pruned(whole.description())).structure()

    def dtype(self):
        """float64 for a file that computes in it, else float32."""
        kinds = {
            self.precision_of(row)
            for row in self.model.inputs
            if row.name in self.input_names and row.dtype.kind == "f"
        }
        return "float64" if kinds == {"float64"} else "float32"

    def precision_of(self, row):
        """What the file computes in with an input: its own dtype, or what all its readers cast it to."""
        readers = self.readers.get(row.name, ())
        casts = [n.attributes.get("to") if n.op_type == "Cast" else None for n in readers]
        # A damaged file may have a list where the number of a type belongs.
        targets = {PRECISIONS.get(to) if isinstance(to, int | str) else None for to in casts}
        if len(targets) == 1 and None not in targets and row.name not in self.model.outputs:
            return targets.pop()
        return "float64" if row.dtype == np.float64 else "float32"

    def warn_of_casts(self):
        """Say which casts between precisions are not followed: a net has one."""
        dtype = self.dtype()
        others = [(node, target) for node, target in self.casts if target != dtype]
        if others:
            node, target = others[0]
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            warnings.warn(
                f"{node}{more}: casts to {target}; the net computes in {dtype} throughout",
                PrecisionWarning,
                stacklevel=4,
            )

    def numbers(self, structure):
        """The net's arrays by name."""
        made, dtype = {}, self.dtype()
        for name in structure.owned:
            array = self.owned[name]
            with np.errstate(all="ignore"):
                made[name] = np.array(array, dtype, order="C")
        return made

    def metadata(self):
        """What the file says about itself, as plain values."""
        found = {}
        for name, content in self.model.metadata.items():
            try:
                found[name] = json.loads(content)
            except (ValueError, RecursionError):
                found[name] = content
        try:
            found = json.loads(json.dumps(found, allow_nan=False))
        except (ValueError, RecursionError):
            found = dict(self.model.metadata)
        paths = [row.name for row in self.g._inputs]
        found["onnx"] = {
            "inputs": dict(zip(paths, self.input_names, strict=True)),
            "outputs": list(self.model.outputs),
            "opset": self.model.opset,
            "producer": self.model.producer,
        }
        return found

    # ── Values ──

    def live(self, given, name, role="real"):
        """A value of the graph that holds what ``role`` says: numbers become a constant, once per array of the file."""
        if isinstance(given, Live):
            return self.converted(self.in_order(given), name, role)
        if is_open(given):
            return self.converted(self.size_as_value(given, name), name, role)
        if id(given) not in self.constants:
            if not given.size:
                raise ModelFileError(f"{name!r} is an array without values {given.shape}")
            live = self.add("constant", name=name, arrays={"value": given}, shape=tuple(given.shape))
            live = replace(live, role=ROLES.get(given.dtype.kind, "real"))
            self.constants[id(given)] = live, given  # kept, so that the number stays its own
        return self.converted(self.constants[id(given)][0], name, role)

    def size_as_value(self, sizes, name):
        """Sizes that are used as numbers of an image."""
        if id(sizes) not in self.constants:
            live = size_as_number(self, sizes, name)
            if live is None:
                raise ModelFileError(
                    f"{name!r} is computed from the size of the image in a way that is not known here, and used as numbers of "
                    "an image; give input_shape="
                )
            whole = not any(isinstance(e, float) or getattr(e, "is_real", False) for e in sizes.ravel().tolist())
            self.constants[id(sizes)] = replace(live, role="index" if whole else "real"), sizes
        return self.constants[id(sizes)][0]

    def converted(self, live, name, role):
        """The same as real numbers, integers or booleans, once per value."""
        if live.value.role == role:
            return live
        key = live.value.name, role
        if key not in self.conversions:
            made = self.add(f"as_{role}", live, name=f"{name}/as_{role}", extents=live.extents)
            self.conversions[key] = replace(made, role=live.role if role == "real" else role)
        return self.conversions[key]

    def in_order(self, live):
        """A value with its axes in the order of the file: transposed, once per value and order."""
        if live.order is None:
            return live
        key = live.value.name, live.order
        if key not in self.conversions:
            name = f"{live.value.name}/transposed"
            real = self.converted(in_graph(live), name, "real")
            made = self.add("transpose", real, name=name, axes=live.order, extents=live.extents)
            self.conversions[key] = replace(made, role=live.role, grid=live.grid)
        return self.conversions[key]

    def reordered(self, array, order):
        """An array of the file for values whose axes are in another order, once per array and order."""
        if (id(array), order) not in self.constants:
            self.constants[id(array), order] = reordered(array, order), array
        return self.constants[id(array), order][0]

    def shared_arrays(self, op, arrays):
        """Argument → name of the array of an earlier node with which the file shares it."""
        if op == "constant":  # one for all readers anyway
            return {}
        parameters = {row.name for row in OPS[op].layer.parameters if row.update is None}
        found = {}
        for argument, numbers in arrays.items():
            name = self.sources.get(place_of(np.asarray(numbers)))
            # Exporters store equal arrays once: those of one value, such as biases of 0, are hardly meant to be shared.
            if name is not None and argument in parameters and np.ptp(numbers) != 0:
                found[argument] = name
        return found

    def add(self, op, *inputs, name, arrays=(), extents=None, **settings):
        """Add a node of operator ``op``; ``arrays`` are those that it owns; ``extents``: of y, where they are open."""
        inputs = [self.in_order(v) if isinstance(v, Live) else v for v in inputs]
        path = self.path(name)
        values = [v.value if isinstance(v, Live) else v for v in inputs]
        shared = self.shared_arrays(op, dict(arrays))
        if shared:
            settings["share"] = shared
        with self.scopes_of(path) as last:
            made = getattr(self.g, op)(*values, name=last, **settings)
        for argument, row in self.g._nodes[-1].owned_by_argument.items():
            numbers = np.asarray(dict(arrays)[argument])
            if numbers.shape != row.shape:
                raise ShapeError(f"{row.name} has shape {numbers.shape} in the file; its input asks for {row.shape}")
            self.owned[row.name] = numbers
            if op != "constant":
                self.sources.setdefault(place_of(numbers), row.name)
        pair = isinstance(made, tuple)
        value = made[0] if pair else made
        if extents is None or len(extents) != len(value.shape):
            first = next((v for v in inputs if isinstance(v, Live)), None)
            same = first is not None and first.rank == len(value.shape)
            extents = first.extents if same else (None,) * len(value.shape)
        live = Live(
            value,
            tuple(
                n if n is not None else as_size(e) if isinstance(e, Extent) else Extent.named((path, axis))
                for axis, (n, e) in enumerate(zip(value.shape, extents, strict=True))
            ),
            value.role,
        )
        self.every.append(live)
        return (live, Live(made[1], live.extents, "index")) if pair else live


def place_of(array):
    """What distinguishes arrays that are kept: two that have it in common are the same numbers of the file."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


class Imported:
    """A node of the file as the function for its operator sees it: its inputs, attributes, and what to add."""

    def __init__(self, importer, node):
        self.importer, self.node = importer, node
        self.opset = node.opset
        self.inputs = [importer.known[name] if name else None for name in node.inputs]
        self.order = None  # that of the axes of its inputs, where it works on them in the order of the graph
        self.gone = ()  # axes of the file that its results lack
        self.grid = None  # that its results are on
        self.name = node.name or next(filter(None, node.outputs))

    def given(self, place):
        """Whether there is an input number ``place``."""
        return place < len(self.inputs) and self.inputs[place] is not None

    def attribute(self, name, default=None):
        """An attribute, of the type of its default."""
        value = self.node.attributes.get(name, default)
        if default is not None and value is not default:
            right = (int, float) if isinstance(default, float) else type(default)
            if not isinstance(value, right) or isinstance(value, bool):
                raise ModelFileError(f"{self.node}: attribute {name!r} is {value!r}; expected {type(default).__name__}")
        return value

    def integers(self, name, count=None, default=None):
        """An attribute that is a list of integers, ``count`` of them."""
        value = self.node.attributes.get(name)
        if value is None:
            return default
        if not isinstance(value, list) or not all(isinstance(v, int) for v in value):
            raise ModelFileError(f"{self.node}: attribute {name!r} is {value!r}; expected integers")
        if count is not None and len(value) != count:
            raise ModelFileError(f"{self.node}: attribute {name!r} has {len(value)} entries {value}; expected {count}")
        return value

    def choice(self, name, default, allowed):
        """An attribute that is one of several words."""
        value = self.attribute(name, default)
        if value not in allowed:
            raise ModelFileError(f"{self.node}: {name} is {value!r}; known are {', '.join(map(repr, allowed))}")
        return value

    def live(self, place=0, role="real"):
        """Input number ``place`` as a value of the graph: real numbers, integers ("index") or booleans ("mask")."""
        if not self.given(place):
            raise ModelFileError(f"{self.node}: its input number {place} is missing")
        return self.importer.live(self.inputs[place], self.node.inputs[place], role)

    def role(self, place=0):
        """What input number ``place`` holds in the file."""
        given = self.inputs[place] if self.given(place) else None
        return (
            given.role if isinstance(given, Live) else "real" if given is None else ROLES.get(given.dtype.kind, "real")
        )

    def kept_role(self):
        """What the results hold: what the input holds whose type they have."""
        place = KEEPS_TYPE_OF.get(self.node.op_type)
        return "real" if place is None else self.role(place)

    def array(self, place, what):
        """Input number ``place`` as numbers that the file holds; None where it was left out."""
        if not self.given(place):
            return None
        value = self.inputs[place]
        if not isinstance(value, np.ndarray):
            raise ModelFileError(
                f"{self.node}: {what} is computed from an input of the graph; a layer needs numbers that the file holds"
            )
        if is_open(value):
            raise ModelFileError(f"{self.node}: {what} depends on the size of the image: {value.tolist()}")
        return value

    def sizes(self, place, what):
        """Input number ``place`` as integers and extents; None where it was left out."""
        if not self.given(place):
            return None
        value = self.inputs[place]
        if not isinstance(value, np.ndarray):
            raise ModelFileError(
                f"{self.node}: {what} is computed from the values of an image; expected numbers or sizes"
            )
        if value.dtype.kind == "f":
            raise ModelFileError(f"{self.node}: {what} are real numbers; expected integers")
        return [v if isinstance(v, Extent) else int(v) for v in value.ravel().tolist()]

    def add(self, op, *inputs, step=None, **rest):
        """Add a node; ``step`` names one of several."""
        return self.importer.add(op, *inputs, name=f"{self.name}/{step}" if step else self.name, **rest)

    def constant(self, numbers, step):
        """Numbers as a value of the graph."""
        return self.importer.live(
            np.asarray(numbers, np.float32 if np.ndim(numbers) == 0 else None), f"{self.name}/{step}"
        )

    def axis(self, axis, rank):
        """An axis that the file names, as one of the graph's value, from 0 on."""
        axis %= rank
        return axis if self.order is None else self.order[axis]

    def as_in_file(self, made):
        """A result with what the file says of it: integers or not, on a grid, its axes in the file's order."""
        if not isinstance(made, Live):
            return made
        if self.order is not None:
            made = as_in_file(made, self.order, self.gone)
        if made.role != "real":
            return made
        return replace(made, role=self.kept_role() if self.grid is None else "real", grid=made.grid or self.grid)

    def holding(self, live, like):
        """A value that holds in the file what an array of the file does."""
        return replace(live, role=ROLES[like.dtype.kind])

    def needs(self, place):
        """Whether output number ``place`` is read by another node, or is one of the graph."""
        name = self.node.outputs[place] if place < len(self.node.outputs) else ""
        return self.importer.is_needed(name)

    def check_size_limit(self, shape):
        """Refuse numbers made from nothing, or from few, that would not fit into memory with the others."""
        count = math.prod(int(n) for n in shape)
        if any(n < 0 for n in shape) or self.importer.made + count > MOST_VALUES:
            self.refuse(f"it makes an array of shape {tuple(shape)}; at most {MOST_VALUES} values are made in all")
        self.importer.made += count

    def of_extents(self, extents, first=0):
        """The latest value of the graph with these extents, axes before ``first`` aside; None: there is none."""
        for known in reversed(list(self.importer.known.values())):
            if (
                isinstance(known, Live)
                and known.value.role == "real"
                and known.rank == len(extents) + first
                and known.extents[first:] == tuple(extents)
            ):
                return known
        return None

    def of_image(self, extents):
        """The latest value of the graph with this batch and these spatial extents; None: there is none."""
        for known in reversed(list(self.importer.known.values())):
            if (
                isinstance(known, Live)
                and known.value.role == "real"
                and known.rank == len(extents)
                and (known.extents[0], *known.extents[2:]) == (extents[0], *extents[2:])
            ):
                return known
        return None

    def reader(self, node=None):
        """The node that alone reads what this one, or ``node``, makes, with the place of its other input; else (None, None)."""
        name = (node or self.node).outputs[0]
        readers = self.importer.readers.get(name, ())
        if len(readers) != 1 or name in self.importer.kept or readers[0].inputs.count(name) != 1:
            return None, None
        return readers[0], 1 - readers[0].inputs.index(name)

    def take_in(self, node):
        """Another node is done together with this one, whose result is that node's."""
        self.importer.done.add(id(node))

    def refuse(self, reason):
        """Raise the error that says why this node cannot be imported."""
        raise ModelFileError(f"{self.node}, opset {self.opset}: {reason}")


def clean(part):
    """A part of a name with nothing that a graph's names must not have."""
    return "".join("_" if c in FORBIDDEN or not c.isprintable() else c for c in part).strip()


def given_shapes(rows, given, lasts):
    """The shape of every input in the layout of the file: the file's own, or ``given``."""
    if given is None:
        return [row.shape for row in rows]
    shapes = tuple(given) if given and hasattr(given[0], "__len__") else (tuple(given),)
    if len(shapes) != len(rows):
        raise ModelFileError(f"input_shape has {len(shapes)} shapes; the file has {len(rows)} inputs")
    for row, shape, last in zip(rows, shapes, lasts, strict=True):
        channels = row.shape[-1] if last else None
        if last and len(shape) == len(row.shape) and shape[1] == channels != shape[-1]:
            raise ModelFileError(
                f"input_shape {tuple(shape)} is channels first; input {row.name!r} {row.shape} holds its images channels last: "
                f"give (None, …, {channels})"
            )
        if len(shape) != len(row.shape):
            raise ModelFileError(
                f"input_shape {tuple(shape)} has {len(shape)} axes; input {row.name!r} has {row.shape}"
            )
        if not all(n is None or (isinstance(n, int) and 0 < n < 1 << 31) for n in shape):
            raise ModelFileError(f"input_shape {tuple(shape)}: expected positive integers, None for open extents")
    return [tuple(shape) for shape in shapes]
