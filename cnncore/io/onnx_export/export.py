"""Nets as ONNX files, which other programs run to the same numbers.

    cnncore.io.save_onnx(net, "net.onnx")

The batch, and the image size where the net leaves it open, stay open in the file. Every operator has a short function that
writes it, as a node of ONNX or as a composition of several (nodes.py, compositions.py, pooling.py); what ONNX
cannot say is refused by the node's name.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from ..._version import __version__
from ...checks import FLOATS
from ...errors import CnnError, ModelFileError, SettingError, ShapeError, shape_text
from ...nets.layers import ParameterSpec
from ...nets.net import Net
from ...nets.plan import infer
from ...nets.structure import Input, Node, Structure, axis_names
from ...operators.pooling.implementation import Pooling
from ...typing import FilePath
from ..files import write_atomically
from .nodes import EXPORTERS, REFUSED
from .pooling import pooled
from .writer import NEWEST_OPSET, Term, Writer, checked_opset

__all__ = ["alone", "exporter", "save_onnx", "written"]


def save_onnx(
    net: Net,
    path: FilePath | BinaryIO | None = None,
    input_shape: Sequence[Any] | None = None,
    *,
    opset: int = NEWEST_OPSET,
    fold: bool = False,
) -> bytes | None:
    """Write a net's inference as an ONNX file; without ``path``, return its bytes.

    The file computes in float32, whatever the net does: ONNX Runtime has no convolution in float64. Batch and image
    sizes stay open where the net leaves them open, unless ``input_shape`` fixes them. Values and weights keep their
    names, and ``net.metadata`` goes along: each entry as JSON under its name in the file's metadata_props. Operators
    that ONNX lacks become compositions of its nodes; docs/interchange.md has the table.

    Parameters
    ----------
    net : Net
    path : path or binary file, optional
    input_shape : sequence of int or None, optional
        Extents of the input, None for those that stay open: (1, 3, 224, 224), or (None, 3, 224, 224) with an open
        batch; one shape per input where there are several.
    opset : int, optional
        Version of ONNX's operators, 13 to 21.
    fold : bool, optional
        Whether batch normalisations are multiplied into the convolutions before them.

    Returns
    -------
    bytes or None
        The contents of the file where there is no ``path``.

    Raises
    ------
    SettingError
        A node has no form in ONNX, or needs an image size that is open; the text says which and the way out.
    DataError
        The file cannot be written.
    ModelFileError
        A weight is too large for float32, or all weights for one file.
    ImportError
        The onnx package is missing: pip install 'cnncore[onnx]'.

    Examples
    --------
    >>> import cnncore
    >>> net = cnncore.models.lenet()
    >>> content = cnncore.io.save_onnx(net)                        # doctest: +SKIP
    >>> cnncore.io.save_onnx(net, "lenet.onnx")                    # doctest: +SKIP
    """
    model = written(net, input_shape, checked_opset(opset), fold).model(
        "cnncore", ("cnncore", __version__), properties(net.metadata)
    )
    content = model.SerializeToString()
    if path is None:
        return content
    if isinstance(path, (str, os.PathLike)):
        write_atomically(pathlib.Path(path), content)
    else:
        path.write(content)
    return None


def properties(metadata):
    """A net's metadata as ONNX keeps it: name → JSON; what belongs to the file that it came from stays behind."""
    entries = {name: value for name, value in metadata.items() if name != "onnx"}
    try:
        return {str(name): json.dumps(value, ensure_ascii=False, allow_nan=False) for name, value in entries.items()}
    except (TypeError, ValueError, RecursionError) as error:
        raise SettingError(f"save_onnx: net.metadata must hold plain values (JSON): {error}") from None


# ── Writing the graph ──────────────────────────────────────────────────────────────────────────────────────────────────


class Exported:
    """A node as its exporter sees it: the call, its values as terms, its arrays as float32."""

    def __init__(self, w, op, path, call, terms, arrays, labels=None, settings=None):
        self.w, self.op, self.path, self.call, self.terms, self._arrays = w, op, path, call, tuple(terms), arrays
        self._labels = {name: f"{path}.{name}" for name in arrays} if labels is None else labels
        self.settings = call.settings if settings is None else settings
        self.shapes, self.output = call.shapes, call.output
        self.indices = None  # the term of what the operator returns beside y, where it is asked for that

    @property
    def x(self):
        """The first value."""
        return self.terms[0]

    @property
    def spatial(self):
        """Spatial extents of the first value; None where they are open."""
        return tuple(self.shapes[0][2:])

    def term(self, name):
        """The value of an array argument, None where it was left out."""
        for row, term in zip(self.op.rows(len(self.terms)), self.terms, strict=False):
            if row.name == name:
                return term
        return None

    def array(self, name):
        """The numbers of an array that the node owns, None where it has none."""
        return self._arrays.get(name)

    def named(self, name, array):
        """The initialiser of an owned array, perhaps in another form, under the name that it has in the net."""
        label = self._labels.get(name)
        if label is None:
            return self.w.constant(array)
        if label in self.w.initialisers:  # of another node that shares it
            known = self.w.initialisers[label]
            same = (
                known.shape == array.shape and known.dtype == np.asarray(array).dtype and np.array_equal(known, array)
            )
            return Term(self.w, label) if same else self.w.constant(array)
        return self.w.constant(np.asarray(array, order="C"), label)

    def by_channel(self, array, name=None):
        """Numbers (C,) or (1,) in a form that goes with (N, C, \\*spatial)."""
        array = array.reshape(-1, *[1] * (len(self.shapes[0]) - 2))
        return self.w.constant(array) if name is None else self.named(name, array)

    def axis(self, axis):
        """An axis of the first value, counted from the front."""
        return axis % len(self.shapes[0])

    def part(self, name, call, terms, arrays, labels=(), settings=None):
        """A step of this node, as a node by itself; ``labels``: the names here of the arrays that are written under their own."""
        labels = {row: self._labels[own] for row, own in dict(labels).items() if own in self._labels}
        return Exported(self.w, call.op, f"{self.path}/{name}", call, terms, arrays, labels, settings)

    def on(self, x, spatial):
        """This node on another image."""
        shape = (*self.shapes[0][:2], *spatial)
        other = Exported(
            self.w, self.op, self.path, self.call, (x, *self.terms[1:]), self._arrays, self._labels, self.settings
        )
        other.shapes = (shape, *self.shapes[1:])
        return other

    def write(self, n):
        """The term of another node."""
        return exporter(n.op)(self.w, n)

    def refuse(self, reason, way_out):
        """Raise the error that says why this node cannot be written, and what to do."""
        operator = "it" if self.path == self.op.name else self.op.name
        raise SettingError(f"{self.path}: {operator} cannot be written to ONNX: {reason}; {way_out}")

    def needs_opset(self, version, what):
        """Refuse older versions of the operators."""
        if self.w.opset < version:
            self.refuse(
                f"{what} is there since version {version}, not in {self.w.opset}", f"use opset={version} or newer"
            )


def exporter(op):
    """The function that writes an operator, or one that says why there is none."""
    if op.onnx is not None:
        return op.onnx
    if op.name in EXPORTERS:
        return EXPORTERS[op.name]
    if isinstance(op.implementation, Pooling) and op.name not in REFUSED:
        return pooled

    def refuse(w, n):
        if op.origin:
            n.refuse("it is written in Python", "say with onnx=… what it is composed of")
        n.refuse(
            REFUSED.get(op.name, "ONNX has nothing of the kind, and no composition of its nodes is known here"),
            "leave it out",
        )

    return refuse


def written(net, input_shape=None, opset=NEWEST_OPSET, fold=False):
    """The graph of a net's inference, in a :class:`Writer`."""
    structure = net.graph
    shapes = input_shapes(net, input_shape)
    calls, every = infer(structure, shapes, FLOATS[0], seed=net.seed)
    arrays, folded = node_arrays(net, calls), {}
    if fold:
        folded = fold_normalisations(structure, calls, arrays)
    w = Writer(opset, structure.names)
    terms = []
    indices = {}  # by number of the input that is such, or of the node that returns them beside its value
    asked = {value for node in structure.nodes for _, value in node.indices}
    for number, (row, shape) in enumerate(zip(structure.inputs, shapes, strict=True)):
        words = [word if not number else f"{word}_{row.name}" for word in ("N", "C", *axis_names(len(row.size)))]
        shape = [word if extent is None else extent for word, extent in zip(words, shape, strict=False)]
        x = w.input(row.name, row.given(shape), row.role)
        terms.append(w("Transpose", x, perm=[0, len(shape) - 1, *range(1, len(shape) - 1)]) if row.channels_last else x)
        indices[number] = terms[-1]
    for number, (node, call) in enumerate(zip(structure.nodes, calls, strict=True)):
        given = [None if v is None else terms[v] for v in node.arguments]
        for argument, value in node.indices:
            given[argument] = indices[value]
        first, place = len(w.nodes), len(structure.inputs) + number
        w.scope = node.path
        labels = {name: f"{node.path}.{name}" for name in arrays[number]}
        labels |= {argument: owned.name for argument, owned in node.owned_by_argument.items()}
        n = Exported(w, node.op, node.path, call, given, arrays[number], labels)
        y = given[0] if number in folded else exporter(node.op)(w, n)
        if place in asked and structure.roles[place] == "real" and n.indices is None:
            n.refuse("its indices have no form in ONNX", "leave return_indices out")
        if place in structure.outputs or any(y.name in made.outputs for made in w.nodes[first:]):
            y = w.named(y, node.path, first)
        terms.append(y)
        indices[place] = n.indices if structure.roles[place] == "real" else y
    names = batch_names(structure, shapes, every)
    for value in structure.outputs:
        shape = [names.get(value) if not axis else extent for axis, extent in enumerate(every[value])]
        if value < len(structure.inputs):
            terms[value] = w.named(terms[value], w.unique(f"{structure.names[value]}_again"), len(w.nodes))
        w.output(terms[value], shape, structure.roles[value])
    w.prune()
    for old, new in names_of_file(net).items():
        w.rename(old, new)
    return w


def names_of_file(net):
    """What inputs and outputs were called in the ONNX file that a net came from: our name → theirs."""
    said = net.metadata.get("onnx")
    if not isinstance(said, dict):
        return {}
    outputs = [net.graph.names[value] for value in net.graph.outputs]
    inputs, theirs = said.get("inputs"), said.get("outputs")
    names = dict(inputs) if isinstance(inputs, dict) else {}
    names = {row.name: names[row.name] for row in net.graph.inputs if row.name in names}
    if isinstance(theirs, list) and len(theirs) == len(outputs):
        names |= dict(zip(outputs, theirs, strict=True))
    return {ours: name for ours, name in names.items() if isinstance(name, str) and name}


def input_shapes(net, given):
    """The shapes of all inputs, None for open extents."""
    rows = net.graph.inputs
    if given is None:
        return tuple(row.shape for row in rows)
    several = len(rows) > 1 and len(given) and hasattr(given[0], "__len__")
    shapes = tuple(map(tuple, given)) if several else (tuple(given),)
    if len(shapes) != len(rows):
        raise ShapeError(f"save_onnx: the net has {len(rows)} inputs, input_shape has {len(shapes)} shapes: {given!r}")
    for row, shape in zip(rows, shapes, strict=True):
        expected = row.given(row.shape)
        fits = len(shape) == len(expected) and all(
            (extent is None or (type(extent) is int and extent > 0)) and want in (None, extent)
            for extent, want in zip(shape, expected, strict=True)
        )
        if not fits:
            raise ShapeError(f"save_onnx: input_shape {shape} does not fit {row.name}; expected {shape_text(expected)}")
    return tuple(
        (shape[0], shape[-1], *shape[1:-1]) if row.channels_last else shape
        for row, shape in zip(rows, shapes, strict=True)
    )


def node_arrays(net, calls):
    """Per node, the arrays that it owns by argument name, in float32."""
    made = []
    for node, call in zip(net.graph.nodes, calls, strict=True):
        rows = node.op.rows(len(call.shapes))
        own = {}
        for owned in node.owned:
            array = (net.parameters if owned.trained else net.buffers)[owned.name]
            with np.errstate(over="ignore"):
                own[rows[owned.argument].name] = kept = np.asarray(array, np.float32)
            if not np.array_equal(np.isfinite(kept), np.isfinite(array)):
                raise ModelFileError(
                    f"{owned.name}: holds numbers beyond float32, in which ONNX files compute; scale them down"
                )
        made.append(own)
    return made


def batch_names(structure, shapes, every):
    """Values whose first extent is the batch of the only input: number → "N", or their extent where it is known."""
    known = {value: shape[0] for value, shape in enumerate(every) if shape and shape[0] is not None}
    if len(shapes) != 1 or shapes[0][0] is not None:  # each input may have a batch of its own
        return known
    try:
        trials = [infer(structure, [(batch, *shapes[0][1:])], FLOATS[0])[1] for batch in (2, 3)]
    except CnnError:  # a node asks for another number of images
        return known
    return known | {
        value: "N"
        for value, (two, three) in enumerate(zip(*trials, strict=True))
        if two[:1] == (2,) and three[:1] == (3,)
    }


# ── Folding ────────────────────────────────────────────────────────────────────────────────────────────────────────────

# Operators whose output channels can be scaled by their weights: the axis of output channels in w.
FOLDS_INTO = {"conv": 0, "depthwise_conv": 0, "causal_conv": 0, "flipped_conv": 0, "linear_as_conv": 0, "linear": 0}


def fold_normalisations(structure, calls, arrays):
    """Multiply batch normalisations into the only maker of what they read; the numbers of the nodes that are gone."""
    inputs, gone = len(structure.inputs), set()
    readers = {}
    for node in structure.nodes:
        for value in node.arguments:
            readers[value] = readers.get(value, 0) + 1
    for number, (node, call) in enumerate(zip(structure.nodes, calls, strict=True)):
        if node.op.name != "batch_norm" or call.settings["training"]:
            continue
        value = node.arguments[0]
        maker = value - inputs
        if maker < 0 or readers[value] > 1 or value in structure.outputs:
            continue
        before = structure.nodes[maker]
        if before.op.name not in FOLDS_INTO or len(calls[maker].output) != len(call.shapes[0]):
            continue
        own, norm = arrays[maker], {k: a.astype(np.float64) for k, a in arrays[number].items()}
        factor = norm.get("w", 1.0) / np.sqrt(norm["running_var"] + call.settings["eps"])
        form = (-1, *[1] * (own["w"].ndim - 1))
        bias = own.get("b", 0.0)
        own["w"] = (own["w"] * factor.reshape(form)).astype(np.float32)
        own["b"] = ((bias - norm["running_mean"]) * factor + norm.get("b", 0.0)).astype(np.float32)
        gone.add(number)
    return gone


# ── One operator by itself ─────────────────────────────────────────────────────────────────────────────────────────────


def alone(op, arrays, settings, size=None):
    """A net of one node, for arrays as a case of the operator has them; None where they cannot be values of a graph.

    Learned arrays belong to the node; the others become inputs, of the arrays' sizes or, with ``size=None``, of open ones.
    """
    own = {p.name: p for p in op.layer.parameters}
    inputs, arguments, indices, owned, numbers = [], [], [], [], {}
    for argument, (row, array) in enumerate(zip(op.rows(len(arrays)), arrays, strict=False)):
        if array is None or row.name in own:
            arguments.append(None)
            if array is not None:
                name = f"{op.name}.{row.name}"
                update = own[row.name].update
                owned.append(ParameterSpec(argument, name, array.shape, 0.0, (1, 1), update, True))
                numbers[name] = array.astype(np.float32)
            continue
        role = {"i": "index", "b": "mask"}.get(array.dtype.kind, "real")
        if array.ndim > 5 or (array.ndim < 2 and (role == "real" or array.ndim == 0)):
            return None
        if role != "real":
            indices.append((argument, len(inputs)))
        arguments.append(len(inputs) if role == "real" else None)
        spatial = array.shape[2:] if size == "known" else (None,) * (array.ndim - 2)
        name = row.name if not op.variadic else f"{row.name}_{argument}"
        inputs.append(Input(name, array.shape[1] if array.ndim > 1 else None, spatial, role))
    arguments += [None] * (len(op.rows(len(arrays))) - len(arguments))
    node = Node(op.name, op, tuple(arguments), dict(settings), dict(settings), tuple(owned), tuple(indices))
    return Net(Structure(inputs, [node], [len(inputs)]), 0, "float32", numbers)
