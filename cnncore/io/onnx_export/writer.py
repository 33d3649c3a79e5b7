"""ONNX graphs being written: nodes and numbers by name, put together with Python's arithmetic.

    w = Writer(opset=21)
    x = w.input("x", ("N", 3, "H", "W"))
    y = w("Relu", x * 2 + 1)

A :class:`Term` stands for a value; numbers and arrays beside terms become initialisers. Nothing here needs the onnx package but
:meth:`Writer.model`, which makes the file's message.
"""

from dataclasses import dataclass, field

import numpy as np

from ...errors import ModelFileError, SettingError

__all__ = ["NEWEST_OPSET", "OLDEST_OPSET", "Term", "Writer", "onnx_package"]

OLDEST_OPSET = 13  # Softmax, Squeeze and ReduceSum mean since then what they mean today
NEWEST_OPSET = 21  # nodes are written as this version has them, which every runtime of today reads
MOST_BYTES = (1 << 31) - (1 << 20)  # a message of Protocol Buffers ends at 2 GiB
LEAST = float(np.finfo(np.float32).min)  # of float32
TINY = float(np.finfo(np.float32).tiny)  # what a sum is divided by at least, where 0 / 0 is to be 0

# The version of the file format that came with a version of the operators.
IR_VERSIONS = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}


def onnx_package(place):
    """The onnx package, or an ImportError that says how to install it."""
    try:
        import onnx
    except ImportError:
        raise ImportError(f"{place}: ONNX files need the onnx package: pip install 'cnncore[onnx]'") from None
    return onnx


@dataclass
class Node:
    """A node of the ONNX graph."""

    op_type: str
    inputs: list
    outputs: list
    attributes: dict = field(default_factory=dict)


class Term:
    """A value of the graph being written; arithmetic with other terms, numbers and arrays adds nodes."""

    __slots__ = ("name", "writer")
    __array_ufunc__ = None  # an array on the left leaves the operation to the term

    def __init__(self, writer, name):
        self.writer, self.name = writer, name

    def __repr__(self):
        return f"<term {self.name}>"

    def __add__(self, other):
        return self.writer("Add", self, other)

    def __radd__(self, other):
        return self.writer("Add", other, self)

    def __sub__(self, other):
        return self.writer("Sub", self, other)

    def __rsub__(self, other):
        return self.writer("Sub", other, self)

    def __mul__(self, other):
        return self.writer("Mul", self, other)

    def __rmul__(self, other):
        return self.writer("Mul", other, self)

    def __truediv__(self, other):
        return self.writer("Div", self, other)

    def __rtruediv__(self, other):
        return self.writer("Div", other, self)

    def __pow__(self, other):
        return self.writer("Pow", self, other)

    def __rpow__(self, other):
        return self.writer("Pow", other, self)

    def __neg__(self):
        return self.writer("Neg", self)

    def __gt__(self, other):
        return self.writer("Greater", self, other)

    def __lt__(self, other):
        return self.writer("Less", self, other)

    def __ge__(self, other):
        return self.writer("GreaterOrEqual", self, other)

    def __le__(self, other):
        return self.writer("LessOrEqual", self, other)


class Writer:
    """An ONNX graph being written for one version of the operators.

    ``writer(op_type, *inputs, **attributes)`` adds a node and returns its value; numbers and arrays among the inputs become
    initialisers of float32 (whole numbers of an integer array: int64), None leaves an optional input out.
    """

    def __init__(self, opset, reserved=()):
        self.opset = opset
        self.nodes = []
        self.initialisers = {}
        self.inputs, self.outputs = [], []
        self.scope = ""
        self._taken = set(reserved)
        self._constants = {}

    def __call__(self, op_type, *inputs, outputs=1, **attributes):
        names = []
        for given in inputs:
            names.append("" if given is None else given.name if isinstance(given, Term) else self.constant(given).name)
        while names and not names[-1]:
            names.pop()
        made = [self.unique(f"{self.scope}/{op_type}") for _ in range(outputs)]
        self.nodes.append(Node(op_type, names, made, {k: v for k, v in attributes.items() if v is not None}))
        terms = tuple(Term(self, name) for name in made)
        return terms[0] if outputs == 1 else terms

    def unique(self, name):
        """``name``, or the first of name_2, name_3, … that is not taken."""
        made, count = name, 1
        while made in self._taken:
            count += 1
            made = f"{name}_{count}"
        self._taken.add(made)
        return made

    def input(self, name, shape, role="real"):
        """An input of float32, int64 or booleans: ``shape`` holds integers, and words for extents that stay open."""
        self._taken.add(name)
        self.inputs.append((name, tuple(shape), role))
        return Term(self, name)

    def output(self, term, shape, role="real"):
        """Make ``term`` a result of the graph."""
        self.outputs.append((term.name, tuple(shape), role))

    def constant(self, values, name=None):
        """An initialiser; small ones without a name are kept once."""
        array = np.asarray(values)
        if array.dtype.kind == "f" or (array.dtype.kind in "iu" and not isinstance(values, np.ndarray)):
            array = array.astype(np.float32)
        elif array.dtype.kind in "iu":
            array = array.astype(np.int64)
        return self.exact(array, name)

    def exact(self, array, name=None):
        """An initialiser of the array's own dtype: bytes and int32 too."""
        array = np.asarray(array)
        if name is not None and name not in self.initialisers:
            self._taken.add(name)
            self.initialisers[name] = array
            return Term(self, name)
        key = (array.dtype, array.shape, array.tobytes()) if array.size <= 64 else None
        if key not in self._constants or key is None:
            made = self.unique("constant" if key else f"{self.scope}/constant")
            self.initialisers[made] = array
            if key is None:
                return Term(self, made)
            self._constants[key] = Term(self, made)
        return self._constants[key]

    def named(self, term, name, first):
        """``term`` under the name ``name``, where a node written since number ``first`` made it; else through an Identity."""
        for node in self.nodes[first:]:
            if term.name in node.outputs:
                for other in self.nodes[first:]:
                    other.inputs = [name if used == term.name else used for used in other.inputs]
                    other.outputs = [name if made == term.name else made for made in other.outputs]
                return Term(self, name)
        self.nodes.append(Node("Identity", [term.name], [name]))
        return Term(self, name)

    def rename(self, old, new):
        """Call a value otherwise, unless the new name is another's."""
        if new in self._taken:
            return
        self._taken.add(new)
        for node in self.nodes:
            node.inputs = [new if name == old else name for name in node.inputs]
            node.outputs = [new if name == old else name for name in node.outputs]
        self.inputs = [(new if name == old else name, *rest) for name, *rest in self.inputs]
        self.outputs = [(new if name == old else name, *rest) for name, *rest in self.outputs]

    def prune(self):
        """Leave out nodes and numbers that no result needs."""
        needed, kept = {name for name, *_ in self.outputs}, []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                kept.append(node)
        self.nodes = kept[::-1]
        self.initialisers = {name: array for name, array in self.initialisers.items() if name in needed}

    # ── What several operators are written with ──

    def whole(self, *numbers):
        """Whole numbers as an int64 vector."""
        return np.array(numbers, np.int64)

    def where(self, condition, x, y):
        """x where the condition holds, else y."""
        return self("Where", condition, x, y)

    def cast(self, x, to="float"):
        """x as float32, int64 or booleans."""
        return self("Cast", x, to={"float": 1, "int64": 7, "bool": 9}[to])

    def reduced(self, what, x, axes, keepdims=False):
        """Sum, Mean, Max, Min … along axes: an input of ReduceSum, and of the others since version 18."""
        axes = [int(a) for a in axes]
        if what == "Sum" or self.opset >= 18:
            return self(f"Reduce{what}", x, self.whole(*axes), keepdims=int(keepdims))
        return self(f"Reduce{what}", x, axes=axes, keepdims=int(keepdims))

    def unsqueezed(self, x, *axes):
        """New axes of extent 1."""
        return self("Unsqueeze", x, self.whole(*axes))

    def extents(self, x, start=0, stop=None):
        """Extents of x, an int64 vector: those of the axes from start to stop."""
        shape = self("Shape", x)
        if start == 0 and stop is None:
            return shape
        return self("Slice", shape, self.whole(start), self.whole(2**31 - 1 if stop is None else stop))

    def reshaped(self, x, *extents):
        """x in another shape: integers as Reshape takes them (0 keeps, −1 is the rest), and int64 vectors as terms."""
        if not any(isinstance(e, Term) for e in extents):
            return self("Reshape", x, self.whole(*extents))
        parts, run = [], []
        for extent in (*extents, None):
            if isinstance(extent, int):
                run.append(extent)
                continue
            if run:
                parts.append(self.constant(self.whole(*run)))
                run = []
            if extent is not None:
                parts.append(extent)
        return self("Reshape", x, parts[0] if len(parts) == 1 else self("Concat", *parts, axis=0))

    def sliced(self, x, axis, start, stop, step=1):
        """x[start:stop:step] along an axis; None for the ends."""
        if start is None:
            start = 0 if step > 0 else 2**31 - 1
        if stop is None:
            stop = 2**31 - 1 if step > 0 else -(2**31)
        return self("Slice", x, self.whole(start), self.whole(stop), self.whole(axis), self.whole(step))

    def picked(self, x, index, axis):
        """The cells of x with these numbers along an axis."""
        return self("Gather", x, np.asarray(index, np.int64), axis=axis)

    def times(self, x, matrices):
        """x times a matrix (extent, new extent) along each of its last axes; None leaves an axis as it is."""
        axes = len(matrices)
        for axis, matrix in enumerate(matrices):
            if matrix is None:
                continue
            if axis == axes - 1:
                x = self("MatMul", x, matrix)
            elif axis == axes - 2:
                x = self("MatMul", np.ascontiguousarray(matrix.T), x)
            else:
                swapped = [0, 1, *range(2, 2 + axes)]
                swapped[2 + axis], swapped[-1] = swapped[-1], swapped[2 + axis]
                x = self("Transpose", self("MatMul", self("Transpose", x, perm=swapped), matrix), perm=swapped)
        return x

    def padded(self, x, pairs, value=0.0, mode="constant"):
        """x with (low, high) cells more along its last axes; negative numbers cut off."""
        if not any(low or high for low, high in pairs):
            return x
        flat = [0, 0, *(low for low, _ in pairs), 0, 0, *(high for _, high in pairs)]
        return self("Pad", x, self.whole(*flat), float(value) if mode == "constant" else None, mode=mode)

    # ── The message ──

    def model(self, name, producer, metadata):
        """The ModelProto."""
        onnx = onnx_package("save_onnx")
        helper, kinds = onnx.helper, onnx.TensorProto
        total = sum(a.nbytes for a in self.initialisers.values())
        if total > MOST_BYTES:
            raise ModelFileError(
                f"save_onnx: the weights take {total} bytes; an ONNX file holds at most {MOST_BYTES}: use net.save instead"
            )
        nodes = []
        for number, node in enumerate(self.nodes):
            label = node.outputs[0] if node.outputs[0] else f"node_{number}"
            attributes = {
                name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
                for name, value in node.attributes.items()
            }
            nodes.append(helper.make_node(node.op_type, node.inputs, node.outputs, name=label, **attributes))
        element = {"real": kinds.FLOAT, "index": kinds.INT64, "mask": kinds.BOOL}
        weights = [onnx.numpy_helper.from_array(np.asarray(a, order="C"), n) for n, a in self.initialisers.items()]
        graph = helper.make_graph(
            nodes,
            name,
            *(
                [helper.make_tensor_value_info(name, element[role], shape) for name, shape, role in rows]
                for rows in (self.inputs, self.outputs)
            ),
            weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = IR_VERSIONS[self.opset]
        model.producer_name, model.producer_version = producer
        helper.set_model_props(model, metadata)
        return model


def checked_opset(opset):
    """The version of the operators, where nodes can be written for it."""
    if type(opset) is not int or not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise SettingError(f"save_onnx: opset must be an integer from {OLDEST_OPSET} to {NEWEST_OPSET}, got {opset!r}")
    return opset
