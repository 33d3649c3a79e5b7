"""ONNX files as plain, checked data.

The bytes of the file are parsed by the onnx package and by nothing else of it: no checker, no shape inference. Beside the
file only those arrays are read that it says to be there (external.py). What comes out are dataclasses of numbers,
strings and arrays: every array has as many numbers as its shape says, every name that is read is made before, in the order
of the nodes, the nodes of the file's own functions stand in the place of those that call them, and nothing is larger than a
network could need.
"""

import os
from dataclasses import dataclass, field, replace

import numpy as np

from ...checks import opened_file
from ...errors import ModelFileError
from ..onnx_export.writer import onnx_package
from .external import Neighbours
from .tensors import array_of, number_type

__all__ = ["FileGraph", "FileInput", "FileNode", "Model", "needed", "read", "renamed"]

MOST_FILE_BYTES = 1 << 31  # a message of Protocol Buffers ends there
MOST_NODES = 20_000
MOST_ARRAYS = 100_000
MOST_NAME = 500
MOST_DEPTH = 16  # of functions within functions, and of graphs within nodes
OLDEST_OPSET, NEWEST_OPSET = 1, 28
OLDEST_IR_WITH_OPSETS = 3
OWN_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class FileInput:
    """An input of the graph: its type as ONNX and as numpy have it, and extents: an integer, a name, or None."""

    name: str
    dtype: np.dtype
    shape: tuple
    number_type: int = 1


@dataclass(frozen=True)
class FileNode:
    """A node: inputs and outputs by name ("" where left out), attributes as numbers, strings, lists, arrays, graphs.

    ``opset`` is the version of ONNX's operators that it is written in; ``outer``: what the graphs inside it read of those
    around them.
    """

    op_type: str
    name: str
    inputs: tuple
    outputs: tuple
    attributes: dict = field(repr=False)
    opset: int = 1
    outer: tuple = ()

    def __str__(self):
        return f"node {self.name or next(filter(None, self.outputs))!r} ({self.op_type})"

    @property
    def reads(self):
        """All names that it depends on."""
        return self.inputs + self.outer


@dataclass(frozen=True)
class FileGraph:
    """The body of a branch or a loop. ``outer``: names that it reads without making them."""

    inputs: tuple
    arrays: dict = field(repr=False)
    nodes: tuple = field(repr=False)
    outputs: tuple
    outer: tuple


@dataclass(frozen=True)
class Model:
    """A checked file; ``nodes`` stand in an order in which they can run. ``types``: array → its type in ONNX's numbers."""

    opset: int
    inputs: tuple
    arrays: dict = field(repr=False)
    types: dict = field(repr=False)
    nodes: tuple = field(repr=False)
    outputs: tuple
    metadata: dict
    producer: str


def read(path_or_bytes):
    """The checked contents of an ONNX file, given by its path or as bytes."""
    onnx = onnx_package("load_onnx")
    content, place, folder = content_of(path_or_bytes)
    try:
        model = onnx.ModelProto.FromString(content)
    except MemoryError:
        raise
    except Exception as error:  # the package's parsers raise errors of their own
        raise ModelFileError(f"{place}: this is no ONNX file, or it is cut off: {error}") from None
    try:
        with Neighbours(folder) as neighbours:
            found = Reader(model, neighbours).model()
            neighbours.check_unchanged()
            return found
    except ModelFileError as error:
        raise ModelFileError(f"{place}: {error}") from None
    except UnicodeError as error:
        raise ModelFileError(f"{place}: a name is no text: {error}") from None


def content_of(path_or_bytes):
    """(bytes, what to call them in errors, the folder they lie in)."""
    if isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
        return bytes(path_or_bytes), "ONNX bytes", None
    try:
        path = os.fsdecode(path_or_bytes)
    except TypeError:
        raise ModelFileError(
            f"load_onnx: expected a path or bytes, got {type(path_or_bytes).__name__}; read a file object first: f.read()"
        ) from None
    with opened_file(path, "an ONNX file") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_FILE_BYTES:
            raise ModelFileError(f"{path}: {size} bytes are more than an ONNX file can have ({MOST_FILE_BYTES})")
        return file.read(MOST_FILE_BYTES + 1), path, os.path.dirname(path) or os.curdir


def expect(right, text):
    """Raise ModelFileError(text) unless ``right``."""
    if not right:
        raise ModelFileError(text)


def checked_name(name, what):
    expect(isinstance(name, str) and 0 < len(name) <= MOST_NAME, f"{what} has no proper name: {str(name)[:40]!r}")
    return name


@dataclass(frozen=True)
class Scope:
    """Where nodes are read: in the graph, or in a function that a node calls, whose names then stand behind the node's."""

    opsets: dict
    prefix: str = ""
    names: dict = field(default_factory=dict)  # of the function's inputs and outputs → names outside
    attributes: dict | None = None  # what the calling node gives; None outside functions
    depth: int = 0

    def name(self, name):
        """A name as it is called outside."""
        expect(isinstance(name, str), f"a name is no text: {name!r:.40}")
        return self.names.get(name, self.prefix + name) if name else ""

    @property
    def opset(self):
        """The version of ONNX's own operators."""
        return next((self.opsets[domain] for domain in OWN_DOMAINS if domain in self.opsets), None)


class Reader:
    """One message being checked."""

    def __init__(self, model, neighbours):
        self.message, self.neighbours = model, neighbours
        self.functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        self.nodes_read = self.arrays_read = 0

    def model(self):
        """A :class:`Model` from the parsed message, or ModelFileError."""
        message = self.message
        graph = message.graph
        expect(
            message.HasField("graph") and len(graph.output),
            "it holds no graph with an output: cut off, or no ONNX file",
        )
        opsets = {row.domain: row.version for row in message.opset_import}
        if message.ir_version < OLDEST_IR_WITH_OPSETS and not opsets:
            opsets = {"": 1}
        scope = Scope(opsets)
        check_opset(scope.opset)
        arrays = self.arrays(graph, scope)
        inputs = tuple(input_of(row) for row in graph.input if row.name not in arrays)
        nodes = self.nodes(graph.node, scope)
        outputs = tuple(checked_name(row.name, "an output") for row in graph.output)
        expect(len(set(outputs)) == len(outputs), "an output of the graph is named twice")
        known = [row.name for row in inputs]
        expect(len(set(known)) == len(known), "two inputs of the graph have the same name")
        nodes = ordered(nodes, {*known, *arrays})
        made = {name for node in nodes for name in node.outputs} | {*known, *arrays}
        for name in outputs:
            expect(name in made, f"output {name!r} is made by no node")
        return Model(
            scope.opset,
            inputs,
            arrays,
            {tensor.name: tensor.data_type for tensor in graph.initializer},
            nodes,
            outputs,
            {str(entry.key)[:MOST_NAME]: str(entry.value) for entry in message.metadata_props},
            f"{message.producer_name} {message.producer_version}".strip(),
        )

    # ── Graphs ──

    def arrays(self, graph, scope):
        """The arrays that a graph holds by name."""
        self.arrays_read += len(graph.initializer)
        expect(self.arrays_read <= MOST_ARRAYS, f"{self.arrays_read} arrays; at most {MOST_ARRAYS} are read")
        expect(not graph.sparse_initializer, "it holds sparse arrays; store them in full")
        arrays = {}
        for tensor in graph.initializer:
            name = scope.name(checked_name(tensor.name, "an array"))
            expect(name not in arrays, f"there are two arrays called {name!r}")
            arrays[name] = array_of(tensor, f"array {name!r}", self.neighbours)
        return arrays

    def inner_graph(self, graph, scope, what):
        """The graph inside a node."""
        expect(scope.depth < MOST_DEPTH, f"{what}: more than {MOST_DEPTH} graphs lie within each other")
        scope = replace(scope, depth=scope.depth + 1)
        arrays = self.arrays(graph, scope)
        inputs = tuple(
            scope.name(checked_name(row.name, f"an input of {what}"))
            for row in graph.input
            if scope.name(row.name) not in arrays
        )
        nodes = ordered(self.nodes(graph.node, scope))
        outputs = tuple(scope.name(checked_name(row.name, f"an output of {what}")) for row in graph.output)
        inside = {*inputs, *arrays, *(name for node in nodes for name in node.outputs)}
        reads = dict.fromkeys(name for node in nodes for name in node.reads if name and name not in inside)
        reads.update(dict.fromkeys(name for name in outputs if name not in inside))
        return FileGraph(inputs, arrays, nodes, outputs, tuple(reads))

    def nodes(self, rows, scope):
        """Nodes, with the bodies of functions in the place of nodes that call them."""
        found = []
        for row in rows:
            function = self.functions.get((row.domain, row.op_type, row.overload))
            if function is not None:
                found += self.inlined(row, function, scope)
                continue
            self.nodes_read += 1
            expect(self.nodes_read <= MOST_NODES, f"{self.nodes_read} nodes; at most {MOST_NODES} are read")
            found.append(self.node(row, scope))
        return found

    def node(self, row, scope):
        """A node with its attributes."""
        for word in (row.op_type, row.name, row.domain):
            expect(isinstance(word, str), f"a name of a node is no text: {word!r:.40}")
        outputs = tuple(map(scope.name, row.output))
        expect(any(outputs), f"a node {row.op_type!r} makes nothing")
        name = scope.prefix + row.name[:MOST_NAME] if row.name else ""
        what = f"node {name or next(filter(None, outputs))!r} ({row.op_type})"
        expect(0 < len(row.op_type) <= MOST_NAME, f"{what} names no operator")
        op_type = row.op_type if row.domain in OWN_DOMAINS else f"{row.domain[:MOST_NAME]}.{row.op_type}"
        attributes = self.attributes(row, scope, what)
        graphs = [value for value in attributes.values() if isinstance(value, FileGraph)]
        outer = tuple(dict.fromkeys(read for graph in graphs for read in graph.outer))
        return FileNode(op_type, name, tuple(map(scope.name, row.input)), outputs, attributes, scope.opset or 1, outer)

    def attributes(self, row, scope, what):
        """The attributes of a node by name."""
        found = {}
        for attribute in row.attribute:
            name = checked_name(attribute.name, f"an attribute of {what}")
            expect(name not in found, f"{what} has the attribute {name!r} twice")
            if attribute.ref_attr_name:
                expect(
                    scope.attributes is not None,
                    f"attribute {name!r} of {what} refers to another one, which only functions may",
                )
                if attribute.ref_attr_name in scope.attributes:
                    found[name] = scope.attributes[attribute.ref_attr_name]
                continue
            found[name] = self.attribute(attribute, scope, f"attribute {name!r} of {what}")
        return found

    def attribute(self, attribute, scope, what):
        """The value of an attribute."""
        kind = attribute.type
        if kind == 1:
            return float(attribute.f)
        if kind == 2:
            return int(attribute.i)
        if kind == 3:
            return text(attribute.s, what)
        if kind == 4:
            return array_of(attribute.t, what, self.neighbours)
        if kind == 5:
            return self.inner_graph(attribute.g, scope, what)
        if kind == 6:
            return [float(v) for v in attribute.floats]
        if kind == 7:
            return [int(v) for v in attribute.ints]
        if kind == 8:
            return [text(v, what) for v in attribute.strings]
        raise ModelFileError(f"{what} is of type {kind}; expected numbers, text, an array or a graph")

    def inlined(self, row, function, scope):
        """The nodes of a function for a node that calls it."""
        expect(isinstance(row.name, str), f"a name of a node is no text: {row.name!r:.40}")
        what = f"node {row.name!r:.40} calls the function {function.name!r:.40}"
        expect(
            scope.depth < MOST_DEPTH,
            f"{what}: functions call each other more than {MOST_DEPTH} times within each other",
        )
        expect(
            len(row.input) <= len(function.input) and len(row.output) <= len(function.output),
            f"{what} with {len(row.input)} inputs and {len(row.output)} outputs; it has {len(function.input)} and "
            f"{len(function.output)}",
        )
        self.nodes_read += 1  # of the call, so that empty functions count too
        expect(self.nodes_read <= MOST_NODES, f"{self.nodes_read} nodes; at most {MOST_NODES} are read")
        label = row.name or next(filter(None, row.output), function.name)
        given = self.attributes(row, scope, what)
        for default in function.attribute_proto:
            given.setdefault(default.name, self.attribute(default, scope, f"attribute {default.name!r} of {what}"))
        prefix = f"{scope.prefix}{label[:MOST_NAME]}/"
        names = {inner: "" for inner in function.input}
        names.update((inner, scope.name(outer)) for inner, outer in zip(function.input, row.input, strict=False))
        handed_on, results = [], {}
        for inner, outer in zip(function.output, row.output, strict=False):
            if outer and inner in names:  # an input that the function returns as it is
                handed_on.append(FileNode("Identity", "", (names[inner],), (scope.name(outer),), {}, scope.opset or 1))
            elif outer:
                results[inner] = scope.name(outer)
        opsets = {entry.domain: entry.version for entry in function.opset_import} or scope.opsets
        inside = Scope(opsets, prefix, names | results, given, scope.depth + 1)
        if inside.opset is not None:
            check_opset(inside.opset)
        return [*self.nodes(function.node, inside), *handed_on]


def check_opset(opset):
    """Raise unless that version of ONNX's own operators is read."""
    expect(opset is not None, "it does not say which version of ONNX's operators it uses (opset_import)")
    expect(
        OLDEST_OPSET <= opset <= NEWEST_OPSET,
        f"it uses version {opset} of ONNX's operators; {OLDEST_OPSET} to {NEWEST_OPSET} are read: convert it with "
        "onnx.version_converter",
    )


def input_of(row):
    """An input of the graph."""
    name = checked_name(row.name, "an input")
    kind = row.type.WhichOneof("value")
    expect(kind == "tensor_type", f"input {name!r} is no array but {kind}; a net takes arrays")
    tensor = row.type.tensor_type
    dtype = number_type(tensor.elem_type, f"input {name!r}").dtype
    expect(
        tensor.HasField("shape"),
        f"input {name!r} does not say how many axes it has; a net needs (N, C, …): give it a shape in the file",
    )
    shape = []
    for extent in tensor.shape.dim:
        which = extent.WhichOneof("value")
        if which == "dim_value" and extent.dim_value > 0:
            expect(extent.dim_value < 1 << 31, f"input {name!r} has an axis of {extent.dim_value} values")
            shape.append(int(extent.dim_value))
        else:  # 0 and negative numbers are how some say that it is open
            shape.append(extent.dim_param[:MOST_NAME] if which == "dim_param" and extent.dim_param != "?" else None)
    return FileInput(name, np.dtype(dtype), tuple(shape), tensor.elem_type)


def text(content, what):
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ModelFileError(f"{what} is no text: {content[:20]!r}") from None


def ordered(nodes, known=None):
    """The nodes in an order in which each one's inputs are made before it; errors name what is missing, or a cycle.

    Without ``known``, names that no node makes are those of the graphs around.
    """
    maker = {}
    for node in nodes:
        for name in filter(None, node.outputs):
            expect(
                name not in maker and (known is None or name not in known),
                f"{node} makes {name!r}, which there is already",
            )
            maker[name] = node
    order, state = [], {}
    for start in nodes:
        stack = [(start, iter(start.reads))] if id(start) not in state else []
        if stack:
            state[id(start)] = "open"
        while stack:
            node, inputs = stack[-1]
            for name in inputs:
                if not name or (known is not None and name in known) or (known is None and name not in maker):
                    continue
                expect(name in maker, f"{node} reads {name!r}, which nothing makes")
                before = maker[name]
                if state.get(id(before)) == "done":
                    continue
                if state.get(id(before)) == "open":
                    raise ModelFileError(f"the graph has a cycle: {node} reads {name!r}, which depends on it")
                state[id(before)] = "open"
                stack.append((before, iter(before.reads)))
                break
            else:
                state[id(node)] = "done"
                order.append(node)
                stack.pop()
    return tuple(order)


def needed(nodes, outputs, live):
    """The nodes on which outputs depend; those first that do not depend on the names in ``live``.

    A layer can then see the numbers that are added right behind it.
    """
    read, kept = set(outputs), []
    for node in reversed(nodes):
        if read.intersection(node.outputs):
            read.update(node.reads)
            kept.append(node)
    live, first, then = set(live), [], []
    for node in reversed(kept):
        depends = live.intersection(node.reads)
        (then if depends else first).append(node)
        if depends:
            live.update(node.outputs)
    return first + then


def renamed(graph, prefix):
    """A graph of a node with ``prefix`` before all names that it makes itself, for a copy of it among the nodes around."""
    own = {*graph.inputs, *graph.arrays, *(name for node in graph.nodes for name in node.outputs)}
    return with_names(graph, {name: prefix + name for name in own if name}, prefix)


def with_names(graph, names, prefix):
    """A graph with other names for some."""

    def new(several):
        return tuple(names.get(name, name) for name in several)

    nodes = []
    for node in graph.nodes:
        attributes = {
            key: inner_names(value, names, prefix) if isinstance(value, FileGraph) else value
            for key, value in node.attributes.items()
        }
        nodes.append(
            replace(
                node,
                name=prefix + node.name if node.name else "",
                inputs=new(node.inputs),
                outputs=new(node.outputs),
                attributes=attributes,
                outer=new(node.outer),
            )
        )
    arrays = {names.get(name, name): array for name, array in graph.arrays.items()}
    return FileGraph(new(graph.inputs), arrays, tuple(nodes), new(graph.outputs), new(graph.outer))


def inner_names(graph, names, prefix):
    """A graph within a graph: its own names hide those outside."""
    own = {*graph.inputs, *graph.arrays, *(name for node in graph.nodes for name in node.outputs)}
    return with_names(graph, {old: new for old, new in names.items() if old not in own}, prefix)
