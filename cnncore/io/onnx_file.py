"""ONNX files as plain, checked data.

The bytes of one file are parsed by the onnx package and by nothing else of it: no checker, no shape inference, and no file
beside it is ever opened. What comes out are dataclasses of numbers, strings and arrays: every array has as many numbers as its
shape says, every name that is read is made before, in the order of the nodes, and nothing is larger than a network could need.
"""

import math
import os
from dataclasses import dataclass, field

import numpy as np

from ..errors import ModelFileError
from .onnx_writer import onnx_package

__all__ = ["FileInput", "FileNode", "Model", "read"]

MOST_FILE_BYTES = 1 << 31  # a message of Protocol Buffers ends there
MOST_NODES = 20_000
MOST_ARRAYS = 100_000
MOST_AXES = 8
MOST_VALUES = 1 << 29  # of an array
MOST_NAME = 500
OLDEST_OPSET, NEWEST_OPSET = 7, 28
OWN_DOMAINS = ("", "ai.onnx")

# ONNX's numbers for types of values: (numpy's, how raw bytes are laid out, the field that holds them otherwise).
TYPES = {
    1: (np.float32, "<f4", "float_data"),
    2: (np.uint8, "|u1", "int32_data"),
    3: (np.int8, "|i1", "int32_data"),
    4: (np.uint16, "<u2", "int32_data"),
    5: (np.int16, "<i2", "int32_data"),
    6: (np.int32, "<i4", "int32_data"),
    7: (np.int64, "<i8", "int64_data"),
    9: (np.bool_, "|b1", "int32_data"),
    10: (np.float16, "<f2", "int32_data"),
    11: (np.float64, "<f8", "double_data"),
    12: (np.uint32, "<u4", "uint64_data"),
    13: (np.uint64, "<u8", "uint64_data"),
    16: (np.float32, "<u2", "int32_data"),  # bfloat16: the upper half of a float32
}
TYPE_NAMES = {0: "no type", 8: "strings", 14: "complex64", 15: "complex128"}
BFLOAT16, FLOAT16 = 16, 10
EXTERNAL = 1


@dataclass(frozen=True)
class FileInput:
    """An input of the graph: its type as numpy has it, and extents: an integer, a name, or None."""

    name: str
    dtype: np.dtype
    shape: tuple


@dataclass(frozen=True)
class FileNode:
    """A node: inputs and outputs by name ("" where left out), attributes as numbers, strings, lists, arrays."""

    op_type: str
    name: str
    inputs: tuple
    outputs: tuple
    attributes: dict = field(repr=False)

    def __str__(self):
        return f"node {self.name or self.outputs[0]!r} ({self.op_type})"


@dataclass(frozen=True)
class Model:
    """A checked file; ``nodes`` stand in an order in which they can run."""

    opset: int
    inputs: tuple
    arrays: dict = field(repr=False)
    nodes: tuple = field(repr=False)
    outputs: tuple
    metadata: dict
    producer: str


def read(path_or_bytes):
    """The checked contents of an ONNX file, given by its path or as bytes."""
    onnx = onnx_package("load_onnx")
    content, place = content_of(path_or_bytes)
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # the package's parsers raise errors of their own
        raise ModelFileError(f"{place}: this is no ONNX file, or it is cut off: {error}") from None
    try:
        return checked(model)
    except ModelFileError as error:
        raise ModelFileError(f"{place}: {error}") from None
    except UnicodeError as error:
        raise ModelFileError(f"{place}: a name is no text: {error}") from None


def content_of(path_or_bytes):
    """(bytes, what to call them in errors)."""
    if isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
        return bytes(path_or_bytes), "ONNX bytes"
    try:
        path = os.fspath(path_or_bytes)
    except TypeError:
        raise ModelFileError(
            f"load_onnx: expected a path or bytes, got {type(path_or_bytes).__name__}; read a file object first: f.read()"
        ) from None
    try:
        size = os.stat(path).st_size
        if size > MOST_FILE_BYTES:
            raise ModelFileError(f"{path}: {size} bytes are more than an ONNX file can have ({MOST_FILE_BYTES})")
        with open(path, "rb") as file:
            return file.read(MOST_FILE_BYTES + 1), str(path)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from None


def expect(right, text):
    """Raise ModelFileError(text) unless ``right``."""
    if not right:
        raise ModelFileError(text)


def checked(model):
    """A :class:`Model` from the parsed message, or ModelFileError."""
    graph = model.graph
    expect(model.HasField("graph") and len(graph.output), "it holds no graph with an output: cut off, or no ONNX file")
    expect(len(graph.node) <= MOST_NODES, f"{len(graph.node)} nodes; at most {MOST_NODES} are read")
    expect(len(graph.initializer) <= MOST_ARRAYS, f"{len(graph.initializer)} arrays; at most {MOST_ARRAYS} are read")
    expect(
        not model.functions,
        f"it defines operators of its own ({model.functions[0].name!r}); inline them before" if model.functions else "",
    )
    expect(not graph.sparse_initializer, "it holds sparse arrays; store them in full")
    opset = opset_of(model)
    arrays = {}
    for tensor in graph.initializer:
        name = checked_name(tensor.name, "an array")
        expect(name not in arrays, f"there are two arrays called {name!r}")
        arrays[name] = array_of(tensor, f"array {name!r}")
    inputs = tuple(input_of(row) for row in graph.input if row.name not in arrays)
    nodes = [node_of(row) for row in graph.node]
    outputs = tuple(checked_name(row.name, "an output") for row in graph.output)
    expect(len(set(outputs)) == len(outputs), "an output of the graph is named twice")
    known = [row.name for row in inputs]
    expect(len(set(known)) == len(known), "two inputs of the graph have the same name")
    nodes = ordered(nodes, {*known, *arrays})
    made = {name for node in nodes for name in node.outputs} | {*known, *arrays}
    for name in outputs:
        expect(name in made, f"output {name!r} is made by no node")
    metadata = {str(entry.key)[:MOST_NAME]: str(entry.value) for entry in model.metadata_props}
    return Model(
        opset, inputs, arrays, nodes, outputs, metadata, f"{model.producer_name} {model.producer_version}".strip()
    )


def opset_of(model):
    """The version of ONNX's own operators."""
    versions = {row.domain: row.version for row in model.opset_import}
    opset = next((versions[domain] for domain in OWN_DOMAINS if domain in versions), None)
    expect(opset is not None, "it does not say which version of ONNX's operators it uses (opset_import)")
    expect(
        OLDEST_OPSET <= opset <= NEWEST_OPSET,
        f"it uses version {opset} of ONNX's operators; {OLDEST_OPSET} to {NEWEST_OPSET} are read: convert it with "
        "onnx.version_converter",
    )
    return opset


def checked_name(name, what):
    expect(isinstance(name, str) and 0 < len(name) <= MOST_NAME, f"{what} has no proper name: {str(name)[:40]!r}")
    return name


def array_of(tensor, what):
    """The numbers of a tensor: as many as its shape says, from inside this file."""
    if tensor.data_location == EXTERNAL or tensor.external_data:
        raise ModelFileError(
            f"{what} lies in another file, and only one file is read: put all into one with onnx.load and "
            "onnx.save_model(…, save_as_external_data=False)"
        )
    if tensor.data_type not in TYPES:
        raise ModelFileError(
            f"{what} has values of type {TYPE_NAMES.get(tensor.data_type, tensor.data_type)}; expected numbers of the types "
            "float, double, float16, bfloat16, int or bool"
        )
    expect(not tensor.HasField("segment"), f"{what} comes in segments, which nobody writes any more")
    dtype, raw, name = TYPES[tensor.data_type]
    shape = tuple(tensor.dims)
    expect(len(shape) <= MOST_AXES, f"{what} has {len(shape)} axes; at most {MOST_AXES} are read")
    expect(all(n >= 0 for n in shape), f"{what} has a negative extent: {shape}")
    count = math.prod(shape)
    expect(count <= MOST_VALUES, f"{what} has {count} values {shape}; at most {MOST_VALUES} are read")
    if tensor.HasField("raw_data"):
        content = tensor.raw_data
        width = np.dtype(raw).itemsize
        expect(
            len(content) == count * width,
            f"{what} has {len(content)} bytes; its shape {shape} needs {count * width}: the file is damaged",
        )
        numbers = np.frombuffer(content, raw)
    else:
        content = getattr(tensor, name)
        expect(
            len(content) == count,
            f"{what} has {len(content)} values; its shape {shape} needs {count}: the file is damaged",
        )
        numbers = np.array(content)
        if tensor.data_type in (FLOAT16, BFLOAT16):  # bits as integers
            numbers = numbers.astype(np.uint16)
            numbers = numbers.view(np.float16) if tensor.data_type == FLOAT16 else numbers
    if tensor.data_type == BFLOAT16:
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(all="ignore"):
        return numbers.astype(np.float32 if dtype == np.float16 else dtype).reshape(shape)


def input_of(row):
    """An input of the graph."""
    name = checked_name(row.name, "an input")
    kind = row.type.WhichOneof("value")
    expect(kind == "tensor_type", f"input {name!r} is no array but {kind}; a net takes arrays")
    tensor = row.type.tensor_type
    expect(
        tensor.elem_type in TYPES,
        f"input {name!r} has values of type {TYPE_NAMES.get(tensor.elem_type, tensor.elem_type)}; expected numbers",
    )
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
    dtype = np.dtype(TYPES[tensor.elem_type][0])
    return FileInput(name, np.dtype(np.float32) if dtype == np.float16 else dtype, tuple(shape))


def node_of(row):
    """A node with its attributes."""
    outputs = tuple(row.output)
    expect(any(outputs), f"a node {row.op_type!r} makes nothing")
    what = f"node {row.name or next(filter(None, outputs))!r} ({row.op_type})"
    expect(0 < len(row.op_type) <= MOST_NAME, f"{what} names no operator")
    expect(
        row.domain in OWN_DOMAINS,
        f"{what} is an operator of the domain {row.domain!r}; only those of ONNX itself are known: export without it",
    )
    attributes = {}
    for attribute in row.attribute:
        name = checked_name(attribute.name, f"an attribute of {what}")
        expect(name not in attributes, f"{what} has the attribute {name!r} twice")
        attributes[name] = attribute_of(attribute, f"attribute {name!r} of {what}")
    return FileNode(row.op_type, row.name[:MOST_NAME], tuple(row.input), outputs, attributes)


def attribute_of(attribute, what):
    """The value of an attribute."""
    expect(not attribute.ref_attr_name, f"{what} refers to another one, which only functions may")
    kind = attribute.type
    if kind == 1:
        return float(attribute.f)
    if kind == 2:
        return int(attribute.i)
    if kind == 3:
        return text(attribute.s, what)
    if kind == 4:
        return array_of(attribute.t, what)
    if kind == 6:
        return [float(v) for v in attribute.floats]
    if kind == 7:
        return [int(v) for v in attribute.ints]
    if kind == 8:
        return [text(v, what) for v in attribute.strings]
    if kind in (5, 10):
        raise ModelFileError(f"{what} is a graph of its own; loops and branches are not read: export without them")
    raise ModelFileError(f"{what} is of type {kind}; expected numbers, text or an array")


def text(content, what):
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ModelFileError(f"{what} is no text: {content[:20]!r}") from None


def ordered(nodes, known):
    """The nodes in an order in which each one's inputs are made before it; errors name what is missing, or a cycle."""
    maker = {}
    for node in nodes:
        for name in filter(None, node.outputs):
            expect(name not in maker and name not in known, f"{node} makes {name!r}, which there is already")
            maker[name] = node
    order, state = [], {}
    for start in nodes:
        stack = [(start, iter(start.inputs))] if id(start) not in state else []
        if stack:
            state[id(start)] = "open"
        while stack:
            node, inputs = stack[-1]
            for name in inputs:
                if not name or name in known:
                    continue
                expect(name in maker, f"{node} reads {name!r}, which nothing makes")
                before = maker[name]
                if state.get(id(before)) == "done":
                    continue
                if state.get(id(before)) == "open":
                    raise ModelFileError(f"the graph has a cycle: {node} reads {name!r}, which depends on it")
                state[id(before)] = "open"
                stack.append((before, iter(before.inputs)))
                break
            else:
                state[id(node)] = "done"
                order.append(node)
                stack.pop()
    return tuple(order)
