"""Nets: a finished graph with its parameters, running on inputs of any size.

y = net(x)                                   # inference
y, backward = net.with_backward(x, training=True)
dx = backward(dy)                            # parameter gradients are then in backward.gradients
"""

import copy
import json
import math
import sys
import threading
from collections import OrderedDict
from collections.abc import MutableMapping
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np

from . import cpu, drawing, geometry, model_file
from .catalog import find
from .errors import ArrayChangedError, DtypeError, GraphError, SettingError, ShapeError
from .layers import initialised, shape_text, unknown
from .operator import FLOATS, check_apart, check_destination, index_array, mask_array, ordinary_array
from .ops.fingerprint import Fingerprints
from .output_kind import Output, checked_kind, outputs_of
from .plan import Mode, Plan, describe
from .profile import algorithms, profile
from .tuning import Tuning, is_tuned, tune

__all__ = ["Arrays", "Backward", "Input", "Net", "Node", "Structure", "Summary"]

INPUT_FLAGS = ("channels_last", "takes_integers")  # of an input, said in a description where they hold
INDICES = ".indices"  # after the name of a node: what it returns beside its value
ROLE_NAMES = {"real": "real numbers", "index": "integers", "mask": "booleans"}
MOST_PLANS = 32
UNSAVED = ("_plans", "_lock", "_met")  # attributes of a net that its copies make anew
TUNING_ROUNDS = 3  # of a net that tunes itself
MOST_NAMES = 48  # characters for the inputs of a node in a table
WATCHED_BYTES = 1 << 16  # parameters up to this size are compared as a whole, to see whether they were changed
MOST_PLAN_BYTES = 1 << 30  # of the arenas of all plans but the newest


# ── The finished graph ─────────────────────────────────────────────────────────────────────────────────────────────────


class Input(NamedTuple):
    """An input of the net: (N, channels, *size) with None for open extents; without channels (N,).

    ``role`` is what it holds: "real" numbers, "index" (integers) or "mask" (booleans), as the arrays of operators do.
    """

    name: str
    channels: int | None
    size: tuple
    role: str = "real"
    channels_last: bool = (
        False  # whether the arrays given to the net are (N, *size, channels); inside it is as all others
    )
    takes_integers: bool = (
        False  # whether arrays of integers are taken too, as the real numbers they are: pixels of 8 bits
    )

    @property
    def shape(self):
        """Its shape with the open batch."""
        return (None,) if self.channels is None else (None, self.channels, *self.size)

    @property
    def layout(self):
        """The axes of the arrays given to the net: "NCHW", "NHWC", and with another number of spatial axes "NCL", "NDHWC" …"""
        if self.channels is None:
            return "N"
        axes = ("", "L", "HW", "DHW")[len(self.size)]
        return f"N{axes}C" if self.channels_last else f"NC{axes}"

    def given(self, shape):
        """A shape (N, channels, *size) as that of the arrays given to the net."""
        return (shape[0], *shape[2:], shape[1]) if self.channels_last else tuple(shape)

    def arranged(self, x):
        """An array (N, channels, *size) as it is given to the net; nothing is copied."""
        return np.moveaxis(x, 1, -1) if self.channels_last else x

    def channels_first(self, x):
        """An array that is given to the net as (N, channels, *size); nothing is copied."""
        return np.moveaxis(x, -1, 1) if self.channels_last else x


class Node(NamedTuple):
    """An operator applied to values: ``arguments`` holds a value's number, or None, for every array argument.

    Integers and booleans have no gradient, and are kept apart from real values: ``indices`` says of which argument they are,
    and the number of the input that takes them, of the node that yields them, or of the node that returns them beside y.
    """

    path: str
    op: object
    arguments: tuple
    settings: dict  # of the operator, as given
    given: dict  # all settings as given, those of the layer too
    owned: tuple  # the arrays it owns, layers.Owned
    indices: tuple = ()  # (argument, value number) for every argument that is no real numbers


class Structure:
    """A finished graph: inputs, nodes in an order in which they can run, and the numbers of the output values.

    Values are numbered: the inputs first, then what each node makes.
    """

    def __init__(self, inputs, nodes, outputs):
        self.inputs, self.nodes, self.outputs = tuple(inputs), tuple(nodes), tuple(outputs)

    @cached_property
    def names(self):
        """Every value's name: that of its input, or its node's path."""
        return (*(i.name for i in self.inputs), *(n.path for n in self.nodes))

    @cached_property
    def owned(self):
        """All owned arrays by name."""
        return {owned.name: owned for node in self.nodes for owned in node.owned}

    @cached_property
    def roles(self):
        """What every value holds: "real" numbers, "index" (integers) or "mask" (booleans)."""
        return (*(i.role for i in self.inputs), *(n.op.yields for n in self.nodes))

    def indices_name(self, value):
        """The name of a value that is no real numbers, or of the indices that a node returns beside its value."""
        return self.names[value] + INDICES * (self.roles[value] == "real")

    def number(self, name, place="net"):
        """The number of the value called ``name``."""
        if name not in self.names:
            raise GraphError(unknown(place, "node", name, self.names, "There are"))
        return self.names.index(name)

    def description(self):
        """The graph as plain data (dicts, lists, strings, numbers) from which Graph.from_description makes it again."""
        names = self.names
        nodes = []
        for node in self.nodes:
            if find(node.op.name) is not node.op:
                raise GraphError(
                    f"{node.path}: a file cannot hold the operator {node.op.name!r}, which is not in cnncore.OPS"
                )
            owned = {p.name for p in node.op.layer.parameters}
            rows = node.op.rows(len(node.arguments))
            indices = dict(node.indices)
            taken = [
                None
                if a is None and i not in indices
                else names[a]
                if i not in indices
                else self.indices_name(indices[i])
                for i, a in enumerate(node.arguments)
            ]
            values = [name for row, name in zip(rows, taken, strict=True) if row.name not in owned]
            nodes.append(
                {
                    "name": node.path,
                    "operator": node.op.name,
                    "inputs": values,
                    "settings": {name: plain_setting(node.path, name, value) for name, value in node.given.items()},
                }
            )
        inputs = [
            {"name": i.name, "channels": i.channels, "size": list(i.size)}
            | {name: True for name in INPUT_FLAGS if getattr(i, name)}
            | ({} if i.role == ("real" if i.channels is not None else "index") else {"role": i.role})
            for i in self.inputs
        ]
        return {"inputs": inputs, "nodes": nodes, "outputs": [names[v] for v in self.outputs]}


def plain_setting(path, name, value):
    """A setting as JSON knows it; sequences become lists."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [plain_setting(path, name, item) for item in value]
    if hasattr(value, "tolist"):
        return plain_setting(path, name, value.tolist())
    raise SettingError(
        f"{path}: setting {name} is {value!r}, which a description cannot hold; use numbers, strings, tuples"
    )


# ── Parameters ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Arrays(MutableMapping):
    """Arrays by name: the names are fixed, each array keeps its shape and dtype.

    ``arrays[name] = numbers`` copies the numbers into a new array; editing ``arrays[name]`` in place works as well: whoever
    takes an array out may be editing it for as long as it is referred to (see :meth:`versions`).
    """

    def __init__(self, what, arrays):
        self._what = what
        self._arrays = {name: a if a.base is None else a.copy() for name, a in arrays.items()}
        self._taken = dict.fromkeys(arrays, 0)  # how often each was handed out or replaced

    def versions(self):
        """Name → a number that is the same as before only if the array is; None while somebody else refers to the array."""
        taken = self._taken
        return {
            name: taken[name] if count == REFERENCES_OF_ONE_DICT else None
            for name, count in references(self._arrays).items()
        }

    def may_have_changed(self, name, version):
        """Whether an array may be another one than when :meth:`versions` gave ``version`` for it."""
        return version is None or self._taken[name] != version

    def __getitem__(self, name):
        try:
            array = self._arrays[name]
            self._taken[name] += 1
            return array
        except KeyError:
            raise KeyError(unknown(self._what, "name", name, list(self._arrays), "There are")) from None

    def __setitem__(self, name, numbers):
        before = self[name]
        array = np.array(numbers, dtype=before.dtype, order="C")
        if array.shape != before.shape:
            raise ShapeError(f"{self._what}[{name!r}]: expected shape {before.shape}, got {array.shape}")
        self._arrays[name] = array
        self._taken[name] += 1

    def __delitem__(self, name):
        raise TypeError(f"{self._what}: {name!r} belongs to the graph and cannot be removed")

    def __iter__(self):
        return iter(self._arrays)

    def __len__(self):
        return len(self._arrays)

    def __repr__(self):
        return "{" + ", ".join(f"{name!r}: {a.dtype} {a.shape}" for name, a in self._arrays.items()) + "}"


def references(arrays):
    """How many references there are to each array of a dict, those of this function included."""
    return {name: sys.getrefcount(array) for name, array in arrays.items()}


REFERENCES_OF_ONE_DICT = references({"x": np.empty(1)})["x"]  # nobody else can be editing the array


# ── Nets ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Net:
    """A graph with its parameters. Made by ``Graph.build`` and ``cnncore.load``.

    graph       its :class:`Structure`: inputs, nodes, outputs
    parameters  name → array; assign or edit in place
    state       name → array: what training forward passes update (running statistics)
    training    whether calls run in training mode unless they say ``training=…``; False at first
    exact       True: convolutions compute in direct order; False (at first): each by the cheapest algorithm, Winograd included
    frozen      a set of parameter names for which no gradients are computed
    tuned       a :class:`tuning.Tuning`: which algorithm :meth:`tune` found the fastest for which call; ``exact`` ignores it
    tunes       True: the first call on inputs of a new shape measures what ``tuned`` does not say yet; False at first
    metadata    a dict of plain values (JSON) that is saved with the net: class names, normalisation …
    steps       how many training passes have drawn random numbers: the next pass draws those of this number

    Several Python threads may use one net at the same time.
    """

    def __init__(self, structure, seed=0, dtype="float32", arrays=None):
        self.graph = structure
        self.dtype = checked_dtype(dtype)
        self.seed = 0 if seed is None else geometry.integer("build", "seed", seed, 0, 2**63 - 1)
        owned = structure.owned
        if arrays is None:
            drawn_from = None if seed is None else self.seed
            arrays = {name: initialised(row, drawn_from, self.dtype) for name, row in owned.items()}
        self.parameters = Arrays("parameters", {name: arrays[name] for name, row in owned.items() if row.trained})
        self.state = Arrays("state", {name: arrays[name] for name, row in owned.items() if not row.trained})
        self.training = False
        self.exact = False
        self.tuned = ()
        self.tunes = False
        self.frozen = set()
        self.metadata = {}
        self.steps = 0
        self.stated_kinds = None  # what somebody said that the outputs are, where it is not what the structure says
        self._start()

    def _start(self):
        self._structural_outputs = None  # worked out when somebody asks
        self._plans = OrderedDict()
        self._met = set()  # shapes and modes whose choices were looked at, where the net tunes itself
        self._lock = threading.Lock()

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name not in UNSAVED}

    def __setstate__(self, state):
        vars(self).update(state)
        self._start()

    def __repr__(self):
        inputs = ", ".join(f"{i.name} {shape_text(i.given(i.shape))}" for i in self.graph.inputs)
        outputs = ", ".join(self.graph.names[v] for v in self.graph.outputs)
        count = sum(a.size for a in self.parameters.values())
        return f"<net {inputs} → {outputs}: {len(self.graph.nodes)} nodes, {count:,} parameters, {self.dtype}>"

    @property
    def output_kind(self):
        """What the output is: "logits", "probabilities", "log_probabilities", "independent_probabilities", "maps", "values",
        "integers" or "booleans" (:mod:`cnncore.output_kind`); one for each of several outputs.

        It follows from the structure: a net that ends in softmax makes probabilities. Losses, evaluation, prediction and
        :class:`cnncore.classify.Classifier` go by it. Where the structure does not tell, say it: a net of three real numbers
        looks like one of three classes, until ``net.output_kind = "values"``. Model files keep it.

        >>> import cnncore
        >>> cnncore.models.lenet(seed=None).output_kind
        'logits'
        """
        kinds = tuple(output.kind for output in self.described_outputs())
        return kinds[0] if len(kinds) == 1 else kinds

    @output_kind.setter
    def output_kind(self, kinds):
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        if len(kinds) != len(self.graph.outputs):
            raise SettingError(
                f"output_kind: {len(kinds)} kinds {kinds}; the net has {len(self.graph.outputs)} outputs"
            )
        for name, kind in zip((self.graph.names[v] for v in self.graph.outputs), kinds, strict=True):
            checked_kind(f"output_kind of {name}", kind)
        self.stated_kinds = None
        if kinds != tuple(output.kind for output in self.described_outputs()):
            self.stated_kinds = kinds

    def described_outputs(self):
        """An :class:`output_kind.Output` for each output."""
        if self._structural_outputs is None:
            self._structural_outputs = outputs_of(self.graph, self.dtype)
        if self.stated_kinds is None:
            return self._structural_outputs
        pairs = zip(self.stated_kinds, self._structural_outputs, strict=True)
        return tuple(output if output.kind == kind else Output(kind) for kind, output in pairs)

    def sharing_arrays(self, outputs):
        """A net on these very parameters and buffers that returns the values with the numbers ``outputs``."""
        made = copy.copy(self)
        made.graph = Structure(self.graph.inputs, self.graph.nodes, outputs)
        made._start()
        made.stated_kinds = None
        return made

    def take_settings(self, other):
        """Run as ``other`` does, from which :meth:`sharing_arrays` made this net: frozen parameters, algorithms, passes drawn."""
        for name in ("training", "exact", "tuned", "tunes", "frozen", "steps", "seed"):
            setattr(self, name, getattr(other, name))

    def decays(self, name):
        """Whether weight decay applies to a parameter: to weights, not to biases and the scales of normalisations."""
        return self.graph.owned[name].decay

    @property
    def layout(self):
        """Name of each input → the order of the axes of what it takes: "NCHW", or "NHWC" for images channels last.

        Nets are built for channels first; those that :func:`cnncore.io.load_onnx` reads take what their file says. Inside a net
        all values are (N, C, *spatial), whatever the layout of its inputs.
        """
        return {row.name: row.layout for row in self.graph.inputs}

    def with_layout(self, layout):
        """The same net, with these very weights, for images in another order: "channels_first" or "channels_last".

        >>> import numpy as np, cnncore
        >>> net = cnncore.models.lenet(seed=None).with_layout("channels_last")
        >>> net.layout, net(np.zeros((2, 32, 32, 1), np.float32)).shape
        ({'input': 'NHWC'}, (2, 10))
        """
        if layout not in ("channels_first", "channels_last"):
            raise SettingError(f"with_layout: layout is {layout!r}; expected 'channels_first' or 'channels_last'")
        last = layout == "channels_last"
        made = copy.copy(self)
        inputs = (row._replace(channels_last=last and bool(row.size)) for row in self.graph.inputs)
        made.graph = Structure(inputs, self.graph.nodes, self.graph.outputs)
        made._start()
        return made

    # ── Modes ──

    def train(self):
        """Calls run in training mode from now on: random operators draw, batch statistics are used and recorded."""
        self.training = True
        return self

    def eval(self):
        """Calls run in inference mode from now on."""
        self.training = False
        return self

    def astype(self, dtype):
        """A new net with the same graph and the same numbers in another precision."""
        arrays = {**self.parameters, **self.state}
        made = Net(self.graph, self.seed, dtype, {name: np.array(a, dtype=dtype) for name, a in arrays.items()})
        made.training, made.exact, made.tuned, made.tunes = self.training, self.exact, self.tuned, self.tunes
        made.steps, made.frozen = self.steps, set(self.frozen)
        made.metadata = json.loads(json.dumps(self.metadata))
        made.stated_kinds = self.stated_kinds
        return made

    # ── Running ──

    def __call__(self, *xs, training=None):
        """The outputs for ``xs``, one array per input: a lone output bare, several as a tuple."""
        results, _, _ = self._run(xs, training, Mode())
        return results[0] if len(results) == 1 else tuple(results)

    def values(self, *xs, names, training=None):
        """What the nodes called ``names`` make of ``xs``: name → array, for feature maps and class maps."""
        numbers = tuple(self.graph.number(name, "values") for name in dict.fromkeys(names))
        results, _, _ = self._run(xs, training, Mode(kept=numbers))
        return dict(zip(dict.fromkeys(names), results[len(self.graph.outputs) :], strict=True))

    def with_backward(self, *xs, training=None, wanted=True, repeatable=True, step=None):
        """``y, backward``: the outputs, and the function that takes their gradients to those of inputs and parameters.

        ``backward(dy)`` (``backward(dy1, dy2)`` for two outputs; None stands for zeros) returns one gradient per input, a lone
        one bare; those of the parameters are then in ``backward.gradients``, name → array. ``wanted``: whether input gradients
        are computed, for all or one per input; ``repeatable=False`` lets backward run once only and takes less memory.
        ``step`` chooses the random numbers of a training pass instead of the next ones.

        A backward holds the memory of its pass until it is deleted: let go of it before the next pass when memory is short.
        """
        inputs = len(self.graph.inputs)
        wanted = tuple(wanted) if hasattr(wanted, "__len__") else (wanted,) * inputs
        if len(wanted) != inputs:
            raise SettingError(f"with_backward: wanted has {len(wanted)} entries for {inputs} inputs")
        lost = self.frozen - self.parameters.keys()
        if lost:
            raise SettingError(unknown("frozen", "parameter", min(lost), list(self.parameters), "There are"))
        mode = Mode(
            backward=True,
            wanted=tuple(map(bool, wanted)),
            repeatable=bool(repeatable),
            frozen=frozenset(self.frozen),
        )
        results, backward, _ = self._run(xs, training, mode, step)
        return (results[0] if len(results) == 1 else tuple(results)), backward

    def _run(self, xs, training, mode, step=None):
        training = self.training if training is None else bool(training)
        xs = self._checked_inputs(xs)
        if self.tunes and not self.exact:
            self._tune_once(tuple(x.shape for x in xs), mode.backward)
        mode = mode._replace(training=training, target=cpu.target(), exact=bool(self.exact), tuned=self.tuned)
        plan = self._plan(tuple(x.shape for x in xs), mode)
        if training and step is None:
            with self._lock:
                step = self.steps
                self.steps += 1
        versions = {**self.parameters.versions(), **self.state.versions()}
        arrays = {**self.parameters._arrays, **self.state._arrays}
        if plan.pieces > 1:
            return self._run_in_pieces(plan, xs, mode, arrays, versions), None, plan
        workspace = plan.take()
        backward = None
        try:
            workspace.refresh(versions)
            results, tape, updates = plan.run_forward(workspace, xs, arrays, step or 0)
            if updates:
                with self._lock:  # all running statistics of a pass, or none
                    for name, array in updates.items():
                        self.state[name] = array
            if mode.backward:
                backward = Backward(plan, workspace, tape, self, Watched(plan, self, xs, arrays, versions))
        finally:
            if backward is None:
                plan.give(workspace)
        return results, backward, plan

    def _run_in_pieces(self, whole, xs, mode, arrays, versions):
        """The results of a large batch, made a few images at a time."""
        results = [whole.empty_result(value) for value in whole.results]
        taken = {}  # pieces come in two sizes at most
        try:
            for first, last in whole.cuts():
                piece = [x[first:last] for x in xs]
                if last - first not in taken:
                    plan = self._plan(tuple(x.shape for x in piece), mode)
                    taken[last - first] = plan, plan.take()
                    taken[last - first][1].refresh(versions)
                plan, workspace = taken[last - first]
                plan.run_forward(workspace, piece, arrays, 0, [result[first:last] for result in results])
        finally:
            for plan, workspace in taken.values():
                plan.give(workspace)
        return results

    def _checked_inputs(self, xs):
        rows = self.graph.inputs
        if len(xs) != len(rows):
            names = ", ".join(f"{row.name} {shape_text(row.given(row.shape))}" for row in rows)
            raise ShapeError(f"net: takes {len(rows)} array{'s' * (len(rows) != 1)} ({names}), got {len(xs)}")
        return [self._checked_input(row, x) for row, x in zip(rows, xs, strict=True)]

    def _checked_input(self, row, x):
        if row.role != "real":
            x = (index_array if row.role == "index" else mask_array)(row.name, row.name, x)
            self.check_shape(row, x.shape)
            return x
        if row.takes_integers and getattr(x, "dtype", None) is not None and x.dtype.kind in "iu":
            x = np.asarray(x).astype(self.dtype)
        x = ordinary_array(row.name, "x", x)
        if x.dtype != self.dtype:
            raise DtypeError(
                f"{row.name}: got {x.dtype}; the net computes in {self.dtype}: use x.astype('{self.dtype}') or "
                f"net.astype('{x.dtype}')"
            )
        self.check_shape(row, x.shape)
        return row.channels_first(x)

    @staticmethod
    def check_shape(row, shape):
        """Raise unless an array of ``shape`` fits the input ``row``."""
        expected = row.given(row.shape)
        fits = len(shape) == len(expected) and all(
            want is None or have == want for have, want in zip(shape, expected, strict=True)
        )
        if not fits:
            hint = " A single image? Use x[None]." if len(shape) + 1 == len(expected) else ""
            if len(shape) == len(expected) > 2 and shape[-1] == row.channels and shape[1] != row.channels:
                hint = " Channels last? Use numpy.moveaxis(x, -1, 1)."
            if row.channels_last and len(shape) == len(expected) and shape[1] == row.channels != shape[-1]:
                hint = f" Channels first? The net takes {row.layout}: use numpy.moveaxis(x, 1, -1)."
            raise ShapeError(f"{row.name}: input has shape {tuple(shape)}; expected {shape_text(expected)}.{hint}")
        if 0 in shape[1:]:
            raise ShapeError(f"{row.name}: input {tuple(shape)} is empty; only the number of images N may be 0")

    # ── Plans ──

    def _plan(self, shapes, mode):
        """The plan for inputs of ``shapes``, made where there is none; old ones go when they are many or large."""
        key = (shapes, mode)
        with self._lock:
            plan = self._plans.get(key)
            if plan is not None:
                self._plans.move_to_end(key)
                return plan
        made = Plan(self.graph, shapes, self.dtype, mode, self.seed)
        with self._lock:
            plan = self._plans.setdefault(key, made)
            self._plans.move_to_end(key)
            total = sum(p.arena_bytes for p in self._plans.values())
            while len(self._plans) > 1 and (len(self._plans) > MOST_PLANS or total > MOST_PLAN_BYTES):
                _, oldest = self._plans.popitem(last=False)
                total -= oldest.arena_bytes
        return plan

    # ── New nets from it ──

    def with_outputs(self, *names):
        """A new net with these weights that returns what the nodes called ``names`` make; what they do not need is left out.

        A feature extractor (``net.with_outputs("average")``), or a net without its auxiliary classifiers. A name that no
        node has is a GraphError with the nearest one.

        >>> import numpy as np, cnncore
        >>> net = cnncore.models.lenet(seed=None).with_outputs("s4", "output")
        >>> [y.shape for y in net(np.zeros((1, 1, 32, 32), np.float32))]
        [(1, 16, 5, 5), (1, 10)]
        """
        from .surgery import with_outputs

        return with_outputs(self, *names)

    def with_classes(self, classes, seed=0, freeze=False):
        """A new net with these weights and fresh classifiers for ``classes`` classes, to be fine-tuned.

        The classifier is the last ``linear`` or ``conv`` before an output, to which a lone way leads through operators that
        keep the number of channels (activations, poolings, softmax, dropout). Each of several outputs gets a fresh one.

        ``freeze=True``: the classifiers alone are trained. All other parameters are in ``frozen``, and batch normalisation and
        dropout before them run as outside training.

        >>> import numpy as np, cnncore
        >>> net = cnncore.models.lenet(seed=None).with_classes(3, freeze=True)
        >>> net(np.zeros((2, 1, 32, 32), np.float32)).shape, sorted(net.parameters.keys() - net.frozen)
        ((2, 3), ['output.b', 'output.w'])
        """
        from .surgery import with_classes

        return with_classes(self, classes, seed, freeze)

    def to_fully_convolutional(self, size=None, average=False):
        """A new net whose linear layers are convolutions: on larger images it makes a map of scores per class.

        The first ``linear`` after ``flatten`` becomes a convolution as large as the image that was flattened, the following
        ones 1×1 convolutions; activations, dropout and the like may stand between. At the size of the training the scores are
        the same, in the shape (N, classes, 1, 1); on larger images they are those of every window of that size.
        ``size`` is the size of the training for nets that leave it open.

        Global average pooling with nothing but linear layers after it changes places with them: the mean of the map is the
        score, at any size. With activations after it, it becomes a pooling window as large as the features at ``size``.

        ``average=True``: the new net returns the mean of the map, (N, classes), for images of any size. (Long, Shelhamer &
        Darrell 2015, arXiv:1411.4038, section 3.1; Lin, Chen & Yan 2014, arXiv:1312.4400, section 3.2.)

        >>> import numpy as np, cnncore
        >>> g = cnncore.Graph(); x = g.input(channels=1, size=2)
        >>> g.output(g.linear(g.flatten(x), 1, bias=False))
        >>> net = g.build(); net.parameters["linear.w"] = [[1.0, 10.0, 100.0, 1000.0]]
        >>> slid = net.to_fully_convolutional()
        >>> slid(np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]], np.float32))
        array([[[[5421., 6532.]]]], dtype=float32)
        """
        from .surgery import to_fully_convolutional

        return to_fully_convolutional(self, size, average)

    def to_fully_connected(self, size=None):
        """A new net whose last convolutions are linear layers, for images of one ``size`` (the net's own, where it fixes one).

        A convolution that sees all of its input at that size, without padding, becomes ``linear`` after ``flatten``, and the
        1×1 convolutions after it become linear; the output's axes of extent 1 go. 1×1 convolutions whose map is averaged
        change places with the average and become linear, at any size. The reverse of :meth:`to_fully_convolutional`.

        >>> import numpy as np, cnncore
        >>> g = cnncore.Graph(); x = g.input(channels=1)
        >>> g.output(g.conv(g.conv(x, 4, kernel_size=2, activation="relu"), 3, kernel_size=1))
        >>> net = g.build().to_fully_connected(size=2)
        >>> net(np.ones((1, 1, 2, 2), np.float32)).shape, net.parameters["conv.w"].shape
        ((1, 3), (4, 4))
        """
        from .surgery import to_fully_connected

        return to_fully_connected(self, size)

    # ── Looking at it ──

    def summary(self, *input_shapes):
        """What the net does with inputs of these shapes: a table of nodes with shapes, parameters, multiply-adds, receptive
        fields. ``net.summary((1, 3, 224, 224))``, or one shape per input; none where the graph fixes the image size.
        """
        return summarised(self, self._shapes("summary", input_shapes))

    def profile(self, *input_shapes, rounds=15, training=False, progress=None):
        """Where the time goes: a :class:`profile.Profile`, per node milliseconds, GFLOP/s, share of the peak, bytes.

        ``net.profile((1, 3, 224, 224))``, shapes as for :meth:`summary`. Medians of ``rounds`` passes, with ``training``
        forward and backward; parameters and state stay as they are. ``progress(done, total, what)`` is called before each.
        """
        shapes = self._shapes("profile", input_shapes)
        return profile(self, shapes, geometry.integer("profile", "rounds", rounds, 1), bool(training), progress)

    def algorithms(self, *input_shapes, training=False):
        """How each node that has a choice is computed, and why: a :class:`profile.Choices` with the costs of each algorithm."""
        return algorithms(self, self._shapes("algorithms", input_shapes), bool(training))

    def tune(self, *input_shapes, training=False, rounds=7, progress=None):
        """Measure the algorithms on inputs of these shapes and keep the fastest in ``net.tuned``; return a table of times.

        ``training``: for forward and backward passes together, else for forward passes. What other shapes have been tuned for
        is kept. Results of tuned nets differ by rounding from those of others, as results of algorithms do.
        """
        shapes = self._shapes("tune", input_shapes)
        rounds = geometry.integer("tune", "rounds", rounds, 1)
        found, table = tune(self, shapes, bool(training), rounds, progress)
        self.tuned = Tuning({**self.tuned, **found})
        return table

    def _tune_once(self, shapes, training):
        """Measure what ``tuned`` leaves open, at the first call on ``shapes``."""
        met = (shapes, training, cpu.target())
        with self._lock:
            new = met not in self._met
            self._met.add(met)
        if new and not is_tuned(self, shapes, training):
            self.tune(*shapes, training=training, rounds=TUNING_ROUNDS)

    @property
    def tuned(self):
        """Call → algorithm, as :meth:`tune` found it."""
        return self._tuned

    @tuned.setter
    def tuned(self, choices):
        self._tuned = choices if isinstance(choices, Tuning) else Tuning(choices)

    def _shapes(self, place, input_shapes):
        """Shapes for all inputs, checked, from those that were given: (1, 3, 224, 224), one per input, or none."""
        rows = self.graph.inputs
        if len(input_shapes) == 1 and len(rows) > 1 and input_shapes[0] and hasattr(input_shapes[0][0], "__len__"):
            input_shapes = tuple(input_shapes[0])
        if not input_shapes:
            input_shapes = tuple(row.given((1, *row.shape[1:])) for row in rows)
        if len(input_shapes) != len(rows):
            raise ShapeError(f"{place}: the net has {len(rows)} inputs, got {len(input_shapes)} shapes")
        shapes = []
        for row, shape in zip(rows, input_shapes, strict=True):
            shape = (1, *shape[1:]) if len(shape) and shape[0] is None else tuple(shape)
            if None in shape:
                raise ShapeError(
                    f"{place}: {row.name} {shape_text(shape)} leaves the size open; call net.{place}("
                    f"{'(1, …, ' + str(row.channels) + ')' if row.channels_last else f'(1, {row.channels}, …)'})"
                )
            self.check_shape(row, shape)
            shapes.append((shape[0], shape[-1], *shape[1:-1]) if row.channels_last else shape)
        return tuple(shapes)

    def draw(self, path=None, input_shape=None):
        """An SVG drawing of the graph, branches side by side: the text of the file, also written to ``path`` if given.

        With ``input_shape`` every box says the shape of what it makes.
        """
        if input_shape is None and not any(None in row.shape[1:] for row in self.graph.inputs):
            input_shape = tuple(row.given((1, *row.shape[1:])) for row in self.graph.inputs)
        shapes = None
        if input_shape is not None:
            several = hasattr(input_shape[0], "__len__")
            shapes = self.summary(*(input_shape if several else (input_shape,))).shapes
        text = drawing.svg(self.graph, shapes)
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return text

    def _repr_html_(self):
        return drawing.page(self.graph, repr(self))

    # ── Keeping it ──

    def save(self, path):
        """Write graph, parameters, state and metadata to one file, atomically; ``cnncore.load`` brings the net back.

        The file is a safetensors file: other tools can read the arrays by name.
        """
        try:
            metadata = json.loads(json.dumps(self.metadata, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise SettingError(f"save: net.metadata must hold plain values (JSON): {error}") from None
        model = {
            "graph": self.graph.description(),
            "dtype": self.dtype.name,
            "seed": self.seed,
            "steps": self.steps,
            "metadata": metadata,
            "output_kind": [output.kind for output in self.described_outputs()],
        }
        if self.tuned:
            model["tuned"] = self.tuned.as_data()
        model_file.write(path, model, {**self.parameters, **self.state})


def checked_dtype(dtype):
    """float32 or float64 as numpy knows it."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in FLOATS:
        raise DtypeError(f"build: dtype {dtype!r}; a net computes in 'float32' or 'float64'")
    return found


class Watched:
    """What a backward pass reads of arrays that others may change: parameters, state, inputs that are no real numbers.

    Most parameters are known to be as they were because nobody has asked for them; the others are fingerprinted.
    """

    def __init__(self, plan, net, xs, arrays, versions):
        self._sources = (net.parameters, net.state)
        self._versions = versions
        self._arrays = {name: arrays[name] for name in plan.owned_by_backward()}
        rows = zip(net.graph.inputs, xs, strict=True)
        self._arrays |= {f"input {row.name}": x for row, x in rows if row.role != "real"}
        self._prints = Fingerprints(self._arrays.values(), WATCHED_BYTES)

    def check(self):
        """Raise an error that names the array, if one of them was changed in place."""
        for number, name in enumerate(self._arrays):
            if self._may_have_changed(name) and self._prints.changed(number):
                raise ArrayChangedError(
                    f"backward: {name} was changed in place between forward and backward, which reads it: call backward "
                    "before the optimizer's step, or run with_backward again"
                )

    def _may_have_changed(self, name):
        for source in self._sources:
            if name in source:
                return source.may_have_changed(name, self._versions[name])
        return True


class Backward:
    """The backward pass of one forward pass: ``dx = backward(dy)``, then ``backward.gradients`` by parameter name."""

    def __init__(self, plan, workspace, tape, net, watched):
        self._plan, self._workspace, self._tape, self._watched = plan, workspace, tape, watched
        self._owned = net.graph.owned
        self._read = {**net.parameters._arrays, **net.state._arrays}
        self._names = [net.graph.names[v] for v in net.graph.outputs]
        self._shapes = [plan.shapes[v] for v in net.graph.outputs]
        self._inputs = net.graph.inputs
        self._roles = [net.graph.roles[v] for v in net.graph.outputs]
        self.gradients = {}

    def __call__(self, *dys, gradients=None):
        """Gradients of the wanted inputs, a lone one bare; None where none is wanted.

        ``gradients``, a dict name → array, receives those of the parameters: in the arrays it holds, new ones for the others.
        """
        plan, workspace = self._plan, self._workspace
        if workspace is None:
            raise GraphError(
                "backward: it has run; its memory was let go because the pass was made with repeatable=False"
            )
        if len(dys) != len(self._names):
            raise ShapeError(
                f"backward: the net has {len(self._names)} outputs ({', '.join(self._names)}), got {len(dys)} gradients"
            )
        checked = [self._checked(*each) for each in zip(self._names, self._shapes, self._roles, dys, strict=True)]
        self._watched.check()
        if gradients is not None:
            self._check_destinations(gradients)
        self.gradients = {} if gradients is None else gradients
        once = not plan.mode.repeatable
        if once:  # whatever happens now, the pass is over
            self._workspace = None
        try:
            dxs = plan.run_backward(workspace, self._tape, checked, self.gradients)
        finally:
            if once:
                self._tape = None
                plan.give(workspace)
        if not dxs:
            return None
        rows = [row for row, needed in zip(self._inputs, plan.needed, strict=False) if needed]
        dxs = [row.arranged(dx) if dx is not None else None for row, dx in zip(rows, dxs, strict=True)]
        return dxs[0] if len(dxs) == 1 else tuple(dxs)

    def _check_destinations(self, gradients):
        """Raise unless the arrays in ``gradients`` are such that the parameters' gradients can be written into them."""
        if not isinstance(gradients, MutableMapping):
            raise SettingError(
                f"backward: gradients is {type(gradients).__name__}; expected a dict, parameter name → array"
            )
        written = {}
        for name, array in gradients.items():
            if (
                name in self._owned
                and self._owned[name].trained
                and name not in self._plan.mode.frozen
                and array is not None
            ):
                place = f"gradients[{name!r}]"
                check_destination("backward", place, array, self._owned[name].shape, self._plan.dtype)
                written[place] = array
        if written:
            check_apart("backward", written, self._read)

    def _checked(self, name, shape, role, dy):
        if dy is None:
            return None
        if role != "real":
            raise DtypeError(f"{name}: it is {ROLE_NAMES[role]}, which have no gradient; give None in place of its dy")
        dy = ordinary_array(name, "dy", dy)
        if dy.shape != shape:
            raise ShapeError(f"{name}: backward got dy of shape {dy.shape}; the net returned {shape}")
        if dy.dtype != self._plan.dtype:
            raise DtypeError(f"{name}: backward got dy of {dy.dtype}; the net computes in {self._plan.dtype}")
        return dy

    def __del__(self):
        if getattr(self, "_workspace", None) is not None:
            self._plan.give(self._workspace)


# ── Summaries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Row(NamedTuple):
    """A node in a summary. ``receptive_field`` is per spatial axis; None where the whole image is seen."""

    path: str
    operator: str
    output: tuple
    parameters: int
    state: int  # numbers that training keeps beside the parameters, such as running means
    multiply_adds: int
    receptive_field: tuple | None
    inputs: tuple


class Summary:
    """A table of nodes; ``str`` and notebooks show it, ``rows`` and the totals are for programs."""

    def __init__(self, rows, shapes, inputs, outputs):
        self.rows, self.shapes, self.inputs = tuple(rows), tuple(shapes), tuple(inputs)  # shapes: of all values
        self.outputs = tuple(outputs)  # (name, shape, kind)

    @property
    def parameters(self):
        """How many numbers are trained."""
        return sum(row.parameters for row in self.rows)

    @property
    def state(self):
        """How many numbers training keeps beside the parameters, such as running means."""
        return sum(row.state for row in self.rows)

    @property
    def multiply_adds(self):
        """Multiply-adds of one forward pass."""
        return sum(row.multiply_adds for row in self.rows)

    def cells(self):
        """Header, rows and totals as lists of strings."""
        header = ["node", "operator", "from", "output", "parameters", "multiply-adds", "receptive field"]
        before = [None, *(row.path for row in self.rows)]
        lines = [
            [
                row.path,
                row.operator,
                "" if row.inputs == (previous,) else shortened(row.path, row.inputs),
                shape_text(row.output),
                f"{row.parameters:,}" if row.parameters else "",
                f"{row.multiply_adds:,}" if row.multiply_adds else "",
                "all" if row.receptive_field is None else "×".join(map(_reach, row.receptive_field)),
            ]
            for previous, row in zip(before, self.rows, strict=False)
        ]
        totals = ["total", "", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}", ""]
        return header, lines, totals

    def table(self):
        """The :class:`drawing.Table` that is shown."""
        header, lines, totals = self.cells()
        title = ", ".join(f"{name} {shape_text(shape)}" for name, shape in self.inputs)
        title += " → " + ", ".join(f"{n} {shape_text(s)}, {kind.replace('_', ' ')}" for n, s, kind in self.outputs)
        return drawing.Table(title, header, [lines, [totals]], words=4)

    def __str__(self):
        return str(self.table())

    def _repr_html_(self):
        return self.table()._repr_html_()


def shortened(path, inputs):
    """Names of a node's inputs as seen from its own scope; long lists end in …"""
    scope = path.rpartition("/")[0] + "/"
    text = ", ".join(name.removeprefix(scope) for name in inputs)
    return text if len(text) <= MOST_NAMES else text[: MOST_NAMES - 1] + "…"


def _reach(reach):
    return f"{math.ceil(reach)}"


def summarised(net, shapes):
    """The summary of ``net`` for inputs of ``shapes``."""
    structure = net.graph
    calls, every_shape = describe(structure, shapes, net.dtype)
    fields = [(tuple(Fraction(1) for _ in row.size), tuple(Fraction(1) for _ in row.size)) for row in structure.inputs]
    rows = []
    for node, call in zip(structure.nodes, calls, strict=True):
        fields.append(receptive_field([fields[v] for v in node.arguments if v is not None], node, call))
        rows.append(
            Row(
                path=node.path,
                operator=node.op.name,
                output=call.output,
                parameters=sum(math.prod(owned.shape) for owned in node.owned if owned.trained),
                state=sum(math.prod(owned.shape) for owned in node.owned if not owned.trained),
                multiply_adds=node.op.kind.multiply_adds(call),
                receptive_field=None if fields[-1] is None else fields[-1][0],
                inputs=(
                    *(structure.names[v] for v in node.arguments if v is not None),
                    *(structure.indices_name(v) for _, v in node.indices),
                ),
            )
        )
    names = tuple((row.name, row.given(shape)) for row, shape in zip(structure.inputs, shapes, strict=True))
    kinds = (output.kind for output in net.described_outputs())
    outputs = [(structure.names[v], every_shape[v], kind) for v, kind in zip(structure.outputs, kinds, strict=True)]
    return Summary(rows, every_shape, names, outputs)


UNSEEING = ((), None)  # of values that see nothing of the image: constants


def receptive_field(fields, node, call):
    """(reach, step) per axis in the input image of one value of the node: the largest of its branches; None: everything.

    A window of reach k and stride s over values that reach r and lie j apart reaches r + (k − 1) j, and its values lie s j apart.
    """
    window = node.op.kind.receptive_window(call)
    if not node.arguments or all(a is None for a in node.arguments):
        return UNSEEING
    fields = [f for f in fields if f is not UNSEEING]
    if window is None or any(f is None for f in fields) or not fields:
        return None
    axes = len(window)
    if any(len(reach) != axes for reach, _ in fields):
        return None
    reaches = tuple(max(reach[a] + (window[a][0] - 1) * step[a] for reach, step in fields) for a in range(axes))
    return reaches, tuple(max(step[a] for _, step in fields) * window[a][1] for a in range(axes))
