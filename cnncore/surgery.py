"""Net surgery: a new net from parts of an old one, with its weights. Methods of :class:`cnncore.net.Net` call these.

    with_outputs            ends at other nodes: a feature extractor, a net without its auxiliary classifiers
    with_classes            a fresh classifier for other classes, to be fine-tuned
    to_fully_convolutional  a linear classifier slid over larger images: a map of scores per class
    to_fully_connected      the reverse, at one image size

All of them edit the graph's description (plain data) and build a net from it; nothing here computes a convolution.
"""

import copy
import json
import math
from collections import Counter

import numpy as np

from .conversion import conv_to_linear, linear_to_conv
from .errors import GraphError, ShapeError
from .families.elementwise import Elementwise
from .geometry import integer
from .graph import Graph
from .layers import initialised, shape_text
from .net import INDICES, Net
from .output_kind import outputs_of
from .plan import describe

__all__ = ["to_fully_connected", "to_fully_convolutional", "with_classes", "with_outputs"]

# Operators that treat every place of an image alike, and all channels of a place together or one by one: on the classifier's
# vector (N, C) they do the same as on a map (N, C, 1, 1). Elementwise activations do too.
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
# Those that can change places with the mean over an image, outside training.
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
}  # value by value, or with one number
AVERAGE = "global_avg_pool"
WINDOWED = {f"global_{name}": name for name in ("avg_pool", "max_pool", "lp_pool", "gem_pool", "log_sum_exp_pool")}
CLASSIFIERS = ("linear", "conv")


# ── Building the new net ───────────────────────────────────────────────────────────────────────────────────────────────


def rebuilt(net, description, arrays=(), fresh=(), seed=None):
    """A net of the edited ``description``: ``arrays`` by name, else the old net's, else (and for nodes ``fresh``) drawn ones."""
    structure = Graph.from_description(description).structure()
    known = {**net.parameters, **net.state, **dict(arrays)}
    drawn = {owned.name for node in structure.nodes if node.path in fresh for owned in node.owned}
    made = {
        name: initialised(owned, net.seed if seed is None else seed, net.dtype)
        if name in drawn
        else np.array(known[name], net.dtype)
        for name, owned in structure.owned.items()
    }
    result = Net(structure, net.seed, net.dtype, made)
    result.training, result.exact, result.tuned, result.tunes = net.training, net.exact, net.tuned, net.tunes
    result.steps, result.frozen = net.steps, set(net.frozen) & result.parameters.keys()
    result.metadata = json.loads(json.dumps(net.metadata))
    if net.stated_kinds is not None and kinds_by_structure(result) == kinds_by_structure(net):
        result.output_kind = net.stated_kinds
    return result


def kinds_by_structure(net):
    return [output.kind for output in outputs_of(net.graph, net.dtype)]


def pruned(description):
    """The description without the nodes and inputs that reach no output."""
    rows = {row["name"]: row for row in description["nodes"]}
    reached, waiting = set(), list(description["outputs"])
    while waiting:
        name = waiting.pop().removesuffix(INDICES)
        if name not in reached:
            reached.add(name)
            waiting += [value for value in rows.get(name, {"inputs": ()})["inputs"] if value is not None]
    return {
        "inputs": [row for row in description["inputs"] if row["name"] in reached],
        "nodes": [row for row in description["nodes"] if row["name"] in reached],
        "outputs": description["outputs"],
    }


def value_shapes(net, place, size=None):
    """(name → shape, name → node) of all values; with ``size`` of images of that size, otherwise open where the graph is."""
    shapes = []
    for row in net.graph.inputs:
        extents = row.size
        if size is not None and extents:
            extents = size if hasattr(size, "__len__") else (size,) * len(row.size)
            extents = tuple(integer(place, "size", extent, 1) for extent in extents)
            fits = len(extents) == len(row.size) and all(
                have in (None, want) for have, want in zip(row.size, extents, strict=True)
            )
            if not fits:
                raise ShapeError(
                    f"{place}: size is {extents}; the net's input {row.name} is {shape_text(row.shape)}, give extents that fit it"
                )
        shapes.append(row.shape if row.channels is None else (None, row.channels, *extents))
    _, every = describe(net.graph, shapes, net.dtype)
    names = net.graph.names
    nodes = {node.path: node for node in net.graph.nodes}
    return dict(zip(names, every, strict=True)), nodes


# ── Other ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_outputs(net, *names):
    """A new net that returns the values called ``names``, with the weights of ``net``; what they do not need is left out."""
    if not names:
        raise GraphError("with_outputs: no name given; say which nodes the new net returns")
    for name in names:
        net.graph.number(name, "with_outputs")
    return rebuilt(net, pruned({**net.graph.description(), "outputs": list(names)}))


def with_classes(net, classes, seed=0, freeze=False):
    """See :meth:`cnncore.net.Net.with_classes`."""
    place = "with_classes"
    classes = integer(place, "classes", classes, 1)
    seed = integer(place, "seed", seed, 0, 2**63 - 1)
    shapes, nodes = value_shapes(net, place)
    description = copy.deepcopy(net.graph.description())
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
                "net.with_outputs(…), and build the classifier in a graph of its own"
            )
        rows[name]["settings"]["channels"] = classes
        fresh |= {name, *passed}
    if freeze:  # as nets are used, not as they are trained: no dropout, recorded statistics
        for name in rows.keys() - fresh:
            if "training" in nodes[name].op.settings:
                rows[name]["settings"]["training"] = False
    made = rebuilt(net, description, fresh=fresh, seed=seed)
    made.metadata.pop("classes", None)
    if freeze:
        trained = {owned.name for node in made.graph.nodes if node.path in fresh for owned in node.owned}
        made.frozen = made.parameters.keys() - trained
    return made


# ── Fully convolutional ────────────────────────────────────────────────────────────────────────────────────────────────


def to_fully_convolutional(net, size=None, average=False):
    """See :meth:`cnncore.net.Net.to_fully_convolutional`."""
    place = "to_fully_convolutional"
    shapes, nodes = value_shapes(net, place, size)
    old = net.graph.description()
    consumers = {}
    for row in old["nodes"]:
        for value in row["inputs"]:
            consumers.setdefault(value, []).append(row["name"])
    by_name = {row["name"]: row for row in old["nodes"]}
    flattening = {row["name"] for row in old["nodes"] if flattens(row, shapes)}
    windows = {}  # values that were vectors and are now maps → extents of the image that each of their places stands for
    stands_for = {}  # values that are no more → those that take their place
    rows, arrays = [], {}

    def leave_out(row, window=None):
        stands_for[row["name"]] = row["inputs"][0]
        if window is not None:
            windows[row["name"]] = window

    for row in copy.deepcopy(old["nodes"]):
        name, operator, inputs = row["name"], row["operator"], row["inputs"]
        node, settings = nodes[name], row["settings"]
        slid = [value for value in inputs if value in windows]
        spatial = shapes[inputs[0]][2:] if inputs and inputs[0] is not None else ()
        if spatial and not slid and (operator in WINDOWED or name in flattening):
            after, obstacle = head_after(name, consumers, nodes, flattening, by_name, shapes)
            keeps_axes = operator in WINDOWED and node.op.full_settings(node.settings)["keepdims"]
            one = (
                None if keeps_axes else (1,) * len(spatial)
            )  # a vector that is now a map; with its axes it was one already
            if obstacle is not None and not keeps_axes:
                raise GraphError(
                    f"{place}: {obstacle} ({nodes[obstacle].op.name}), which follows {name}, is not the same at every place of a "
                    "map; what may stand between an image's features and the scores are linear, dropout, activations, "
                    "batch_norm, scale, concat, add"
                )
            if obstacle is not None:
                pass  # a part of the network before its head, such as a squeeze and excitation
            elif operator == AVERAGE and after == "linear":
                leave_out(row, one)
            elif None in spatial:
                raise GraphError(
                    f"{place}: what {name} makes of an image depends on its size, and that is open here, "
                    f"{shape_text(shapes[inputs[0]])}: give the size of the training, {place}(size=…)"
                )
            elif name in flattening:
                leave_out(row, spatial)
            else:
                settings.pop("keepdims", None)
                row["operator"], settings["kernel_size"], settings["stride"] = WINDOWED[operator], list(spatial), 1
                if one is not None:
                    windows[name] = one
        elif not slid:
            if spatial and len(shapes[name]) == 2:
                raise GraphError(
                    f"{place}: {name} ({operator}) makes a vector of all of an image; there is no map of what it makes, and it "
                    "takes images of any size as it is"
                )
        elif operator == "linear":
            window = windows[inputs[0]]
            row["operator"], settings["kernel_size"] = "conv", list(window)
            channels = shapes[inputs[0]][1] // math.prod(window)
            arrays[f"{name}.w"] = linear_to_conv(net.parameters[f"{name}.w"], (channels, *window))
            windows[name] = (1,) * len(window)
        elif (name in flattening or operator == AVERAGE) and len(shapes[inputs[0]]) == 2:
            leave_out(row, windows[inputs[0]])
        else:
            windows[name] = slid_over(place, node, settings, inputs, windows, shapes)
        if name not in stands_for:
            rows.append(row)

    def now(value):
        while value in stands_for:
            value = stands_for[value]
        return value

    for row in rows:
        row["inputs"] = [None if value is None else now(value) for value in row["inputs"]]
    outputs = []
    for output in old["outputs"]:
        if set(windows.get(output) or ()) - {1}:
            raise GraphError(
                f"{place}: the output {output} is a flattened image itself; there is no classifier to slide"
            )
        made = now(output)
        keeps_axes = set(shapes[output][2:]) == {1}
        if average and (output in windows or keeps_axes):
            taken = {row["name"] for row in rows} | {row["name"] for row in old["inputs"]}
            scores = next(n for n in (output, f"{output}_average", f"{output}_average_of_map") if n not in taken)
            rows.append({"name": scores, "operator": AVERAGE, "inputs": [made], "settings": {"keepdims": keeps_axes}})
            made = scores
        outputs.append(made)
    inputs = [{**row, "size": [None] * len(row["size"])} for row in old["inputs"]]
    return rebuilt(net, {"inputs": inputs, "nodes": rows, "outputs": outputs}, arrays)


def flattens(row, shapes):
    """Whether a node makes one vector of each image: flatten, or reshape as files of other programs have it."""
    if row["operator"] == "flatten":
        return len(shapes[row["name"]]) == 2
    if row["operator"] != "reshape":
        return False
    before, after = shapes[row["inputs"][0]], shapes[row["name"]]
    return len(after) == 2 and after[0] is None and None not in before[1:] and after[1] == math.prod(before[1:])


def head_after(name, consumers, nodes, flattening, rows, shapes):
    """("linear" or "per place", None) for what follows a value until the outputs, or (None, the first node that is neither)."""
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
            if node.op.name not in PER_PLACE | PAIRWISE and not isinstance(node.op.kind, Elementwise):
                return None, path
            found = "per place"
    for path in seen - {name}:  # a join with an image: it is what the image is multiplied by that follows, not a head
        if any(set(shapes.get(value, ())[2:]) - {1} for value in rows[path]["inputs"] if value not in seen):
            return None, path
    return found, None


def one_by_one(node):
    """Whether a convolution's window is one cell, on every cell."""
    settings = node.op.full_settings(node.settings)
    return set(node.owned[0].shape[2:]) <= {1} and all(
        set(np.ravel(settings[name]).tolist()) <= wanted
        for name, wanted in (("stride", {1}), ("padding", {0, "valid"}))
    )


def slid_over(place, node, settings, inputs, windows, shapes):
    """The window of what ``node`` makes of slid vectors; ``settings`` are changed where its axis has another number."""
    name = node.op.name
    inputs = [
        value for value in inputs if value in windows or set(shapes.get(value, ())) - {1}
    ]  # one number fits any map
    found = {windows.get(value) for value in inputs}
    if None in found:
        missing = next(value for value in inputs if value not in windows)
        raise GraphError(f"{place}: {node.path} joins the classifier's features with {missing}, which is no map")
    if len(found) > 1:
        raise GraphError(
            f"{place}: {node.path} joins features of different windows, {', '.join(map(str, sorted(found)))}"
        )
    (window,) = found
    if isinstance(node.op.kind, Elementwise) or name in PAIRWISE | {"dropout", "alpha_dropout"}:
        return window
    if name not in PER_PLACE:
        raise GraphError(
            f"{place}: {node.path} ({name}) is not the same at every place of a map; what may stand between flatten and the "
            "scores are linear, dropout, activations, batch_norm, scale, concat, add"
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


def to_fully_connected(net, size=None):
    """See :meth:`cnncore.net.Net.to_fully_connected`."""
    place = "to_fully_connected"
    reordered = averaged_before_classifier(net)
    shapes, nodes = value_shapes(reordered or net, place, size)
    if any(None in shapes[row.name][2:] for row in net.graph.inputs):
        if reordered:
            return reordered
        raise GraphError(f"{place}: linear layers fix the image size, and the net's is open; give it: {place}(size=…)")
    net = reordered or net
    old = net.graph.description()
    rows = {row["name"]: row for row in old["nodes"]}
    # All values of one cell, less those whose maker or users need them as images, until none has to go.
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
            f"{place}: at this size no convolution at the end of the net sees all of its input, without padding, and leads to "
            "the outputs as a vector: there is nothing to make linear"
        )
    stands_for, made, arrays = {}, [], {}
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
            arrays[f"{name}.w"] = conv_to_linear(net.parameters[f"{name}.w"])
        elif name in flat and operator in ("flatten", AVERAGE):
            stands_for[name] = row["inputs"][0]
            continue
        made.append(row)
    inputs = [{**row, "size": list(shapes[row["name"]][2:])} for row in old["inputs"]]
    outputs = [stands_for.get(name, name) for name in old["outputs"]]
    return rebuilt(net, {"inputs": inputs, "nodes": made, "outputs": outputs}, arrays)


def averaged_before_classifier(net):
    """The net in which averages of 1×1 convolutions' maps are taken before these, and they are linear; None: it has none.

    Both are linear, so they may change places; dropout between them goes along, and drops features then, not places.
    """
    old = net.graph.description()
    nodes = {node.path: node for node in net.graph.nodes}
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
                arrays[f"{path}.w"] = conv_to_linear(net.parameters[f"{path}.w"])
    if not stands_for:
        return None
    for name, row in rows.items():
        row["inputs"] = [stands_for.get(value, value) for value in row["inputs"]]
        if name in averaged_for:
            row["inputs"] = [averaged_for[name]]
    outputs = [stands_for.get(name, name) for name in old["outputs"]]
    return rebuilt(net, {"inputs": old["inputs"], "nodes": list(rows.values()), "outputs": outputs}, arrays)


def passes_average(node):
    """Whether the average may be taken before ``node``: a 1×1 convolution of all channels, or dropout."""
    if node.op.name == "dropout":
        return True
    return node.op.name == "conv" and one_by_one(node) and node.op.full_settings(node.settings)["groups"] == 1


def makes_vector(name, rows, shapes):
    """Whether a node only takes the axes of a one-celled image away."""
    if rows[name]["operator"] not in ("flatten", AVERAGE):
        return False
    spatial = shapes[rows[name]["inputs"][0]][2:]
    return not spatial or set(spatial) == {1}


def stays_flat(name, rows, nodes, shapes, flat):
    """Whether a node can make a vector, given which of its inputs are vectors."""
    node, values = nodes[name], [value for value in rows[name]["inputs"] if value is not None]
    if node.op.name == "conv":
        settings = node.op.full_settings(node.settings)
        whole = node.owned[0].shape[2:] == tuple(shapes[values[0]][2:])
        plain = settings["groups"] == 1 and set(np.ravel(settings["padding"]).tolist()) <= {0, "valid"}
        return whole and plain
    if not all(value in flat for value in values):
        return False
    alike = isinstance(node.op.kind, Elementwise) or node.op.name in PER_PLACE | {AVERAGE}
    return alike and node.op.full_settings(node.settings).get("axis", 1) == 1
