"""Net surgery: deriving the graph of a new net from that of an existing one. Methods of :class:`cnncore.nets.net.Net` call these.

    with_outputs            other nodes as outputs: a feature extractor, a net without its auxiliary classifiers
    with_classes            a new classifier for other classes, for fine-tuning
    with_frozen             some weights fixed, for fine-tuning the others
    to_fully_convolutional  a linear classifier applied at every position of larger images: a map of scores per class
    to_fully_connected      the reverse, at one image size

All of them edit the graph's description, which is plain data, and return an :class:`Operation`, which includes the weights
that the new net does not share with the old one. Nothing here computes a convolution.
"""

import copy
import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from ..checks import FLOATS, integer
from ..errors import GraphError, ShapeError, shape_text
from ..operators.activation.elementwise import Elementwise
from .conversion import conv_to_linear, linear_to_conv
from .graph import Graph
from .plan import infer
from .structure import INDICES

__all__ = ["to_fully_connected", "to_fully_convolutional", "with_classes", "with_frozen", "with_outputs"]

# Operators that act on each position of an image by itself, on its channels together or one by one: on the classifier's
# vector (N, C) they do the same as on a map (N, C, 1, 1). So do elementwise activations.
PER_PLACE = {
    *(
        "linear",
        "dropout",
        "alpha_dropout",
        "spatial_dropout",
        "feature_alpha_dropout",
        "batch_norm",
        "scale",
        "flatten",
    ),
    *("local_response_norm", "concat", "add", "split", "slice", "prelu", "swish", "rrelu", "crelu", "glu", "maxout"),
    *("softmax", "log_softmax", "softmin", "sparsemax", "hardmax"),
}
# Those that commute with the mean over an image, outside training.
LINEAR = {
    *(
        "linear",
        "conv",
        "dropout",
        "spatial_dropout",
        "batch_norm",
        "scale",
        "concat",
        "add",
        "split",
        "slice",
        "flatten",
    ),
    "global_avg_pool",
}
PAIRWISE = {
    "add",
    "multiply",
    "subtract",
    "divide",
    "maximum",
    "minimum",
    "power",
}  # elementwise, or with one number
AVERAGE = "global_avg_pool"
WINDOWED = {f"global_{name}": name for name in ("avg_pool", "max_pool", "lp_pool", "gem_pool", "log_sum_exp_pool")}
CLASSIFIERS = ("linear", "conv")


# ── Descriptions ───────────────────────────────────────────────────────────────────────────────────────────────


class Operation(NamedTuple):
    """The changes that turn a net into a new one."""

    description: dict  # of the new graph
    arrays: dict = {}  # noqa: RUF012 - never modified; arrays that replace those of the old net, by name
    fresh: frozenset = frozenset()  # nodes whose arrays are newly initialised


def pruned(description):
    """The description without the nodes and inputs that no output depends on."""
    rows = {row["name"]: row for row in description["nodes"]}
    reached, waiting = set(), list(description["outputs"])
    while waiting:
        name = waiting.pop().removesuffix(INDICES)
        if name not in reached:
            reached.add(name)
            waiting += [value for value in rows.get(name, {"inputs": ()})["inputs"] if value is not None]
    nodes = [row for row in description["nodes"] if row["name"] in reached]
    used = {name for row in nodes for name in row.get("parameters", {}).values()}
    declared = [row for row in description.get("parameters", ()) if row["name"] in used]
    made = {
        "inputs": [row for row in description["inputs"] if row["name"] in reached],
        "nodes": nodes,
        "outputs": description["outputs"],
    }
    return made | {"parameters": declared} if declared else made


def sole_weight(place, structure, node):
    """The name of the weights of a node; a GraphError where it shares them, as they would have another shape."""
    owned = node.owned_by_argument["w"]
    check_unshared(place, structure, {node.path}, (owned,))
    return owned.name


def check_unshared(place, structure, paths, owned):
    """Raise if arrays of the nodes ``paths``, whose shapes are to change, are shared with other nodes."""
    for row in owned:
        others = [path for path in structure.users[row.name] if path not in paths]
        if others or row.declared:
            with_whom = f"shares it with {', '.join(others)}" if others else "did not create it: the graph declares it"
            raise GraphError(
                f"{place}: the shape of {row.name} would change, and {min(paths)} {with_whom}; build the graph without sharing "
                "it, and copy the parameters by name"
            )


def value_shapes(structure, place, size=None):
    """(name → shape, name → node) of all values; for images of ``size`` if given, otherwise open where the graph is."""
    shapes = []
    for row in structure.inputs:
        extents = row.size
        if size is not None and extents:
            extents = size if hasattr(size, "__len__") else (size,) * len(row.size)
            extents = tuple(integer(place, "size", extent, 1) for extent in extents)
            fits = len(extents) == len(row.size) and all(
                have in (None, want) for have, want in zip(row.size, extents, strict=True)
            )
            if not fits:
                raise ShapeError(
                    f"{place}: size is {extents}; the net's input {row.name} is {shape_text(row.shape)}, give a size that fits it"
                )
        shapes.append(row.shape if row.channels is None else (None, row.channels, *extents))
    _, every = infer(structure, shapes, FLOATS[0])
    nodes = {node.path: node for node in structure.nodes}
    return dict(zip(structure.names, every, strict=True)), nodes


# ── Other outputs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def with_outputs(structure, *names):
    """See :meth:`cnncore.nets.net.Net.with_outputs`."""
    if not names:
        raise GraphError("with_outputs: no name given; give the names of the nodes whose values the new net returns")
    for name in names:
        structure.number(name, "with_outputs")
    return Operation(pruned({**structure.description(), "outputs": list(names)}))


def with_classes(structure, classes, freeze=False):
    """See :meth:`cnncore.nets.net.Net.with_classes`."""
    place = "with_classes"
    classes = integer(place, "classes", classes, 1)
    shapes, nodes = value_shapes(structure, place)
    description = copy.deepcopy(structure.description())
    rows = {row["name"]: row for row in description["nodes"]}
    fresh = set()
    for output in description["outputs"]:
        name, passed = output, []
        while name in rows and rows[name]["operator"] not in CLASSIFIERS:
            (before, *others) = [value for value in rows[name]["inputs"] if value is not None] or [None]
            if others or before is None or shapes[before][1] != shapes[name][1]:
                break
            passed.append(name)
            name = before
        if name not in rows or rows[name]["operator"] not in CLASSIFIERS:
            raise GraphError(
                f"{place}: no classifier leads to {output}: {name} is neither linear nor conv; end the net before it with "
                "net.with_outputs(…), and build the classifier in a separate graph"
            )
        rows[name]["settings"]["channels"] = classes
        fresh |= {name, *passed}
    for name in fresh:
        check_unshared(place, structure, fresh, nodes[name].owned)
    if freeze:  # inference mode: no dropout, running statistics
        for name in rows.keys() - fresh:
            if "training" in nodes[name].op.settings:
                rows[name]["settings"]["training"] = False
    return Operation(description, fresh=frozenset(fresh))


def with_frozen(structure, names):
    """See :meth:`cnncore.nets.net.Net.with_frozen`."""
    unknown = set(names) - structure.owned.keys()
    if unknown:
        raise GraphError(f"with_frozen: there is no parameter {min(unknown)!r}; see net.parameters")
    description = copy.deepcopy(structure.description())
    rows = {row["name"]: row for row in description["nodes"]}
    for node in structure.nodes:
        if "training" in node.op.settings and any(row.name in names for row in node.owned):
            rows[node.path]["settings"]["training"] = False
    return Operation(description)


# ── Fully convolutional ────────────────────────────────────────────────────────────────────────────────────────────────


def to_fully_convolutional(structure, parameters, size=None, average=False):
    """See :meth:`cnncore.nets.net.Net.to_fully_convolutional`."""
    return FullyConvolutional(structure, parameters, size).operation(average)


class FullyConvolutional:
    """A net whose classifier is applied at every position of larger images, converted node by node: vectors become
    maps.
    """

    place = "to_fully_convolutional"

    def __init__(self, structure, parameters, size):
        self.structure, self.parameters = structure, parameters
        self.shapes, self.nodes = value_shapes(structure, self.place, size)
        self.old = structure.description()
        self.old_rows = {row["name"]: row for row in self.old["nodes"]}
        self.consumers = {}
        for row in self.old["nodes"]:
            for value in row["inputs"]:
                self.consumers.setdefault(value, []).append(row["name"])
        self.flattening = {row["name"] for row in self.old["nodes"] if flattens(row, self.shapes)}
        self.windows = {}  # vectors that became maps → extents of the window of each position
        self.stands_for = {}  # removed values → those that replace them
        self.rows, self.arrays = [], {}

    def operation(self, average):
        """The :class:`Operation`; with ``average`` the maps of scores are averaged."""
        for row in copy.deepcopy(self.old["nodes"]):
            self.convert(row)
            if row["name"] not in self.stands_for:
                self.rows.append(row)
        for row in self.rows:
            row["inputs"] = [None if value is None else self.now(value) for value in row["inputs"]]
        outputs = [self.output(name, average) for name in self.old["outputs"]]
        inputs = [{**row, "size": [None] * len(row["size"])} for row in self.old["inputs"]]
        return Operation({**self.old, "inputs": inputs, "nodes": self.rows, "outputs": outputs}, self.arrays)

    def convert(self, row):
        """Convert a node, or remove it, depending on whether its input is now an image, a map or a vector."""
        name, operator, inputs = row["name"], row["operator"], row["inputs"]
        spatial = self.shapes[inputs[0]][2:] if inputs and inputs[0] is not None else ()
        if not any(value in self.windows for value in inputs):
            if spatial and (operator in WINDOWED or name in self.flattening):
                self.convert_image_to_vector(row, spatial)
            elif spatial and len(self.shapes[name]) == 2:
                raise GraphError(
                    f"{self.place}: {name} ({operator}) reduces the whole image to a vector; it has no map, and takes "
                    "images of any size already"
                )
        elif operator == "linear":
            self.convert_linear(row)
        elif (name in self.flattening or operator == AVERAGE) and len(self.shapes[inputs[0]]) == 2:
            self.leave_out(row, self.windows[inputs[0]])
        else:
            node, settings = self.nodes[name], row["settings"]
            self.windows[name] = slid_over(self.place, node, settings, inputs, self.windows, self.shapes)

    def convert_image_to_vector(self, row, spatial):
        """A flattening or a global pooling: removed, or replaced by a pooling with a window as large as the image was."""
        name, operator, node, settings = row["name"], row["operator"], self.nodes[row["name"]], row["settings"]
        after, obstacle = head_after(name, self.consumers, self.nodes, self.flattening, self.old_rows, self.shapes)
        keeps_axes = operator in WINDOWED and node.op.full_settings(node.settings)["keepdims"]
        if obstacle is not None:
            if keeps_axes:
                return  # a part of the network before its head, such as a squeeze-and-excitation block
            raise GraphError(
                f"{self.place}: {obstacle} ({self.nodes[obstacle].op.name}), which follows {name}, does not act on each position "
                "of a map by itself; between an image's features and the scores only linear, dropout, activations, "
                "batch_norm, scale, concat, add are supported"
            )
        # A vector that is now a map; if it kept its axes, it already was one.
        one = None if keeps_axes else (1,) * len(spatial)
        if operator == AVERAGE and after == "linear":
            self.leave_out(row, one)
        elif None in spatial:
            raise GraphError(
                f"{self.place}: the output of {name} depends on the image size, which is open here, "
                f"{shape_text(self.shapes[row['inputs'][0]])}: give the training size, {self.place}(size=…)"
            )
        elif name in self.flattening:
            self.leave_out(row, spatial)
        else:
            settings.pop("keepdims", None)
            row["operator"], settings["kernel_size"], settings["stride"] = WINDOWED[operator], list(spatial), 1
            if one is not None:
                self.windows[name] = one

    def convert_linear(self, row):
        """A linear layer: a convolution with the window from which its features were flattened."""
        name, before = row["name"], row["inputs"][0]
        window = self.windows[before]
        row["operator"], row["settings"]["kernel_size"] = "conv", list(window)
        channels = self.shapes[before][1] // math.prod(window)
        weight = sole_weight(self.place, self.structure, self.nodes[name])
        self.arrays[weight] = linear_to_conv(self.parameters[weight], (channels, *window))
        self.windows[name] = (1,) * len(window)

    def leave_out(self, row, window):
        """Remove the node: its input replaces its output."""
        self.stands_for[row["name"]] = row["inputs"][0]
        if window is not None:
            self.windows[row["name"]] = window

    def now(self, value):
        """The name of the value that replaces ``value`` in the new graph."""
        while value in self.stands_for:
            value = self.stands_for[value]
        return value

    def output(self, name, average):
        """The name of an output in the new graph: its map of scores, or the average of that."""
        if set(self.windows.get(name) or ()) - {1}:
            raise GraphError(
                f"{self.place}: the output {name} is itself a flattened image; there is no classifier to slide"
            )
        made = self.now(name)
        keeps_axes = set(self.shapes[name][2:]) == {1}
        if not average or not (name in self.windows or keeps_axes):
            return made
        taken = {row["name"] for row in self.rows} | {row["name"] for row in self.old["inputs"]}
        scores = next(n for n in (name, f"{name}_average", f"{name}_average_of_map") if n not in taken)
        settings = {"keepdims": keeps_axes}
        self.rows.append({"name": scores, "operator": AVERAGE, "inputs": [made], "settings": settings})
        return scores


def flattens(row, shapes):
    """Whether a node turns each image into one vector: flatten, or an equivalent reshape from other programs."""
    if row["operator"] == "flatten":
        return len(shapes[row["name"]]) == 2
    if row["operator"] != "reshape":
        return False
    before, after = shapes[row["inputs"][0]], shapes[row["name"]]
    return len(after) == 2 and after[0] is None and None not in before[1:] and after[1] == math.prod(before[1:])


def head_after(name, consumers, nodes, flattening, rows, shapes):
    """("linear" or "per place", None) for the nodes between a value and the outputs, or (None, the first node that is
    neither).
    """
    found, waiting, seen = "linear", [name], {name}
    while waiting:
        for path in consumers.get(waiting.pop(), ()):
            if path in seen:
                continue
            seen.add(path)
            waiting.append(path)
            node = nodes[path]
            if path in flattening:
                continue
            if node.op.name in LINEAR and (node.op.name != "conv" or one_by_one(node)):
                continue
            if node.op.name not in PER_PLACE | PAIRWISE and not isinstance(node.op.implementation, Elementwise):
                return None, path
            found = "per place"
    for path in seen - {name}:  # combined with an image: a factor for the image, not a head
        if any(set(shapes.get(value, ())[2:]) - {1} for value in rows[path]["inputs"] if value not in seen):
            return None, path
    return found, None


def one_by_one(node):
    """Whether a convolution is 1×1 with stride 1 and without padding."""
    settings = node.op.full_settings(node.settings)
    return set(node.owned[0].shape[2:]) <= {1} and all(
        set(np.ravel(settings[name]).tolist()) <= wanted
        for name, wanted in (("stride", {1}), ("padding", {0, "valid"}))
    )


def slid_over(place, node, settings, inputs, windows, shapes):
    """The window of the output of ``node`` for vectors that are now maps; ``settings`` are adjusted if the axis has
    another number.
    """
    name = node.op.name
    inputs = [
        value for value in inputs if value in windows or set(shapes.get(value, ())) - {1}
    ]  # a scalar fits any map
    found = {windows.get(value) for value in inputs}
    if None in found:
        missing = next(value for value in inputs if value not in windows)
        raise GraphError(f"{place}: {node.path} joins the classifier's features with {missing}, which is not a map")
    if len(found) > 1:
        raise GraphError(
            f"{place}: {node.path} joins features of different windows, {', '.join(map(str, sorted(found)))}"
        )
    (window,) = found
    if isinstance(node.op.implementation, Elementwise) or name in PAIRWISE | {"dropout", "alpha_dropout"}:
        return window
    if name not in PER_PLACE:
        raise GraphError(
            f"{place}: {node.path} ({name}) does not act on each position of a map by itself; between flatten and the scores "
            "only linear, dropout, activations, batch_norm, scale, concat, add are supported"
        )
    if set(window) != {1}:
        raise GraphError(
            f"{place}: {node.path} ({name}) works on single features of the flattened image; put a linear layer before it"
        )
    if "axis" in node.op.settings:
        axis = node.op.full_settings(node.settings)["axis"]
        if axis not in (1, -1):
            raise GraphError(f"{place}: {node.path} works along axis {axis}; a map's features lie along axis 1")
        settings["axis"] = 1
    return window


# ── Fully connected ────────────────────────────────────────────────────────────────────────────────────────────────────


def to_fully_connected(structure, parameters, size=None):
    """See :meth:`cnncore.nets.net.Net.to_fully_connected`."""
    place = "to_fully_connected"
    reordered = averaged_before_classifier(structure, parameters)
    arrays = {}
    if reordered:
        structure, arrays = Graph.from_description(reordered.description).structure(), reordered.arrays
    shapes, nodes = value_shapes(structure, place, size)
    if any(None in shapes[row.name][2:] for row in structure.inputs):
        if reordered:
            return reordered
        raise GraphError(f"{place}: linear layers fix the image size, and the net's is open; give it: {place}(size=…)")
    old = structure.description()
    rows = {row["name"]: row for row in old["nodes"]}
    # All values of one cell, except those whose producer or consumers need them as images, to a fixed point.
    flat = {
        name for name in rows if (shapes[name][2:] and set(shapes[name][2:]) == {1}) or makes_vector(name, rows, shapes)
    }
    while True:
        wrong = {name for name in flat if not stays_flat(name, rows, nodes, shapes, flat)}
        for row in old["nodes"]:
            if row["name"] not in flat:
                wrong |= {value for value in row["inputs"] if value in flat and shapes[value][2:]}
        if not wrong:
            break
        flat -= wrong
    if not any(rows[name]["operator"] == "conv" for name in flat):
        if reordered:
            return reordered
        raise GraphError(
            f"{place}: at this size no convolution at the end of the net covers its whole input without padding and leads to "
            "the outputs as a vector: there is nothing to convert"
        )
    stands_for, made = {}, []
    for row in copy.deepcopy(old["nodes"]):
        name, operator = row["name"], row["operator"]
        row["inputs"] = [stands_for.get(value, value) for value in row["inputs"]]
        if name in flat and operator == "conv":
            before = rows[name]["inputs"][0]
            if before not in flat:
                made.append({"name": f"{name}_flatten", "operator": "flatten", "inputs": row["inputs"], "settings": {}})
                row["inputs"] = [f"{name}_flatten"]
            row["operator"] = "linear"
            row["settings"] = {k: v for k, v in row["settings"].items() if k in ("channels", "bias", "initial")}
            weight = sole_weight(place, structure, nodes[name])
            arrays[weight] = conv_to_linear(parameters[weight])
        elif name in flat and operator in ("flatten", AVERAGE):
            stands_for[name] = row["inputs"][0]
            continue
        made.append(row)
    inputs = [{**row, "size": list(shapes[row["name"]][2:])} for row in old["inputs"]]
    outputs = [stands_for.get(name, name) for name in old["outputs"]]
    return Operation({**old, "inputs": inputs, "nodes": made, "outputs": outputs}, arrays)


def averaged_before_classifier(structure, parameters):
    """The operation that replaces 1×1 convolutions before an average by linear layers after it; None if there are none.

    Both are linear and therefore commute; dropout between them is moved too, and then drops features, not positions.
    """
    old = structure.description()
    nodes = {node.path: node for node in structure.nodes}
    rows = {row["name"]: row for row in copy.deepcopy(old["nodes"])}
    used = Counter([value for row in old["nodes"] for value in row["inputs"]] + old["outputs"])
    stands_for, averaged_for, arrays = {}, {}, {}
    for name, row in rows.items():
        if row["operator"] != AVERAGE or nodes[name].op.full_settings(nodes[name].settings)["keepdims"]:
            continue
        chain, value = [], row["inputs"][0]
        while value in rows and used[value] == 1 and passes_average(nodes[value]):
            chain.append(value)
            value = rows[value]["inputs"][0]
        while chain and rows[chain[-1]]["operator"] != "conv":  # dropout before the classifier stays where it is
            value = chain.pop()
        if not chain:
            continue
        stands_for[name], averaged_for[chain[-1]] = chain[0], name
        row["inputs"] = [value]
        for path in chain:
            if rows[path]["operator"] == "conv":
                settings = rows[path]["settings"]
                rows[path]["operator"] = "linear"
                rows[path]["settings"] = {k: v for k, v in settings.items() if k in ("channels", "bias", "initial")}
                weight = sole_weight("to_fully_connected", structure, nodes[path])
                arrays[weight] = conv_to_linear(parameters[weight])
    if not stands_for:
        return None
    for name, row in rows.items():
        row["inputs"] = [stands_for.get(value, value) for value in row["inputs"]]
        if name in averaged_for:
            row["inputs"] = [averaged_for[name]]
    outputs = [stands_for.get(name, name) for name in old["outputs"]]
    return Operation({**old, "nodes": list(rows.values()), "outputs": outputs}, arrays)


def passes_average(node):
    """Whether the average may be taken before ``node``: a 1×1 convolution of all channels, or dropout."""
    if node.op.name == "dropout":
        return True
    return node.op.name == "conv" and one_by_one(node) and node.op.full_settings(node.settings)["groups"] == 1


def makes_vector(name, rows, shapes):
    """Whether a node only removes spatial axes of extent 1."""
    if rows[name]["operator"] not in ("flatten", AVERAGE):
        return False
    spatial = shapes[rows[name]["inputs"][0]][2:]
    return not spatial or set(spatial) == {1}


def stays_flat(name, rows, nodes, shapes, flat):
    """Whether the output of a node can be a vector, given which of its inputs are vectors."""
    node, values = nodes[name], [value for value in rows[name]["inputs"] if value is not None]
    if node.op.name == "conv":
        settings = node.op.full_settings(node.settings)
        whole = node.owned[0].shape[2:] == tuple(shapes[values[0]][2:])
        plain = settings["groups"] == 1 and set(np.ravel(settings["padding"]).tolist()) <= {0, "valid"}
        return whole and plain
    if not all(value in flat for value in values):
        return False
    alike = isinstance(node.op.implementation, Elementwise) or node.op.name in PER_PLACE | {AVERAGE}
    return alike and node.op.full_settings(node.settings).get("axis", 1) == 1
