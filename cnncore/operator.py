"""What an operator is: a row of the catalogue that can be called.

An :class:`Op` is data (name, formula, settings, cases, source) plus a :class:`Kind`, the way its family is computed. Here the
arguments of a call are bound, checked and described once, in a frozen :class:`Call` that forward and backward share; below
this module inputs are trusted, above it nobody checks again.

    y = op(x, kernel_size=3)
    y, backward = op.with_backward(x, kernel_size=3)
    dx = backward(dy)
"""

import copy
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from . import geometry
from .errors import ArrayChangedError, CnnError, DtypeError, SettingError, ShapeError
from .ops import fingerprint
from .ops.recent import Recent, frozen_setting, is_ready, setting_key

__all__ = ["REQUIRED", "Array", "Call", "Case", "Kind", "Layer", "Op", "Parameter", "Setting"]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# The dtype of values that are no real numbers; those have the dtype of the call.
ROLE_DTYPES = {"index": np.dtype(np.int64), "mask": np.dtype(np.bool_)}
# The roles of the values that an argument of some role takes.
ACCEPTED_ROLES = {role: (role,) for role in ("real", "index", "mask")} | {
    "either": ("real", "index"),
    "any": ("real", "index", "mask"),
}


class _Required:
    def __repr__(self):
        return "REQUIRED"


REQUIRED = _Required()


# ── Rows ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Setting:
    """A setting of an operator: its name, default, what it means, and optionally how a value is checked.

    ``check(place, name, value)`` returns the canonical value or raises SettingError; window settings are checked by
    geometry.py instead, where they meet the input's extents. ``alias`` is another framework's spelling.
    """

    name: str
    default: Any
    meaning: str
    check: Callable | None = None
    alias: str | None = None


@dataclass(frozen=True)
class Array:
    """An array argument. ``role``: "real" (float32 or float64, all the same), "index" (integers, taken as int64), "mask"
    (booleans), "either" (class numbers or probabilities, as losses take them; only the latter have a gradient), or "any"
    (each of the first three).
    ``several``, for the last array only: any number of them, one or more, as a join takes its branches, one after the other
    or as one list; settings are then given by name.
    """

    name: str
    meaning: str
    optional: bool = False
    differentiable: bool = True
    role: str = "real"
    several: bool = False


@dataclass(frozen=True)
class Parameter:
    """An array argument that a layer owns: its shape, and how it starts.

    ``name`` is the argument's name in the row's ``arrays``. ``shape(shapes, settings)`` gets the shapes of the arrays that
    come from the graph, in the row's order with None for open extents, and all settings of the layer and of the operator,
    checked and with defaults; it returns integers, or None for an extent that follows from an open one (the graph then says
    what to fix). ``initial`` is a name in layers.INITIALISERS, a number, or the name of a layer setting that holds either.
    ``fans(shape)`` gives (fan in, fan out) where they are not those of (outputs, inputs, \\*kernel). ``when`` names the layer
    setting (True or False) that decides whether the array exists: its row is optional, and None is passed when it does not.
    ``update`` is the number of the extra output that takes its place after a forward pass in training (running statistics):
    such an array is state, no gradient is asked for it.
    """

    name: str
    shape: Callable
    initial: str | float = "zeros"
    when: str | None = None
    update: int | None = None
    decay: bool = True  # whether weight decay applies
    fans: Callable | None = None
    trained: bool | str = True  # or the name of the layer setting that says; what is not trained is state


@dataclass(frozen=True)
class Layer:
    """How the operator stands in a graph: the arrays it owns there, and what is asked to make them.

    ``g.conv(x, 64, kernel_size=3, stride=2, bias=False)``: first the values for the arrays that are not ``parameters``, then
    the ``settings`` of the layer that are REQUIRED, the operator's own settings, and the layer's other settings. A layer
    setting goes to the parameters' shapes and initialisers and never to the operator. ``training`` holds settings that a
    training step adds, so that the operator returns what takes the place of parameters with ``update``. ::

        layer=Layer(
            parameters=(
                Parameter("w", lambda shapes, settings: (settings["channels"], shapes[0][1]), "initial"),
                Parameter("b", lambda shapes, settings: (settings["channels"],), "zeros", when="bias", decay=False),
            ),
            settings=(
                Setting("channels", REQUIRED, "output channels", whole(1)),
                Setting("bias", True, "whether b exists", flag),
                Setting("initial", "he", "how w starts"),
            ),
        )

    Two settings of operators belong to the graph unless they are given there: ``training`` follows the net's mode, and
    ``seed`` is drawn afresh for every training step from the net's seed, the node's path and the number of the step.
    """

    parameters: tuple[Parameter, ...] = ()
    settings: tuple[Setting, ...] = ()
    training: Mapping = field(default_factory=dict)


class Case:
    """One way to exercise an operator: settings, and what the arrays look like beyond the default sample.

    Tests, gradient checks, benchmarks and the documentation walk the cases; ``spatial`` extents are given for one axis and
    grow with it, ``channels`` is the number of input channels, ``arrays(rng, x)`` makes the arguments after x.
    """

    def __init__(self, *, spatial=6, channels=3, batch=2, ranks=(1, 2, 3), arrays=None, domain="any", **settings):
        self.spatial = spatial
        self.channels = channels
        self.batch = batch
        self.ranks = ranks
        self.arrays = arrays
        self.domain = domain  # "any", "positive", "distinct", "unit", "beyond one"
        self.settings = settings

    def __str__(self):
        return "-".join(f"{k}={v}".replace(" ", "") for k, v in self.settings.items()) or "default"

    def __repr__(self):
        return f"Case({', '.join(f'{k}={v!r}' for k, v in self.settings.items())})"

    def but(self, **changes):
        """This case with another ``batch``, ``channels``, ``spatial`` or ``arrays``."""
        other = copy.copy(self)
        other.__dict__.update(changes)
        return other

    def shape(self, rank):
        """Shape of x for this case: extents differ from axis to axis, so that mixed-up axes are seen."""
        return (self.batch, self.channels, *(self.spatial + axis for axis in range(rank)))

    def sample(self, rank, dtype=np.float64, seed=0):
        """The arrays of this case: x, and what ``arrays`` adds."""
        rng = np.random.default_rng(seed)
        x = sample_values(rng, self.shape(rank), self.domain).astype(dtype)
        rest = () if self.arrays is None else self.arrays(rng, x)
        return (x, *(a.astype(dtype) if a is not None and a.dtype.kind == "f" else a for a in rest))


def sample_values(rng, shape, domain):
    """Values for a check, in random order: neighbours differ by more than 2 / size and none is nearer to 0 than 2e-3.

    So no step of a numerical derivative meets a tie or a kink, and a value tells where it came from.
    """
    size = int(np.prod(shape))
    spacing = 4 / max(size, 1)
    grid = (np.arange(size) + 0.5 + rng.uniform(-0.2, 0.2, size)) * spacing - 2
    grid += np.where(grid < 0, -2e-3, 2e-3)
    x = rng.permutation(grid).reshape(shape)
    if domain == "positive":
        return (x + 2.1) / 2
    if domain == "unit":
        return (x + 2.2) / 4.4
    if domain == "beyond one":
        return x + 3.1
    return x


# ── Calls ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Call:
    """One call, fully described and checked: every extent is known, forward and backward share it."""

    op: "Op"
    shapes: tuple  # of the array arguments, None where an optional one was left out
    dtype: np.dtype
    settings: Mapping
    output: tuple  # shape of y
    geometry: Any = None  # what the kind has worked out
    index_shapes: tuple = field(default=())

    @property
    def output_dtype(self):
        """The dtype of y: that of the call, unless the operator yields integers or booleans."""
        return ROLE_DTYPES.get(self.op.yields, self.dtype)

    def empty(self, out=None):
        """The array for y: ``out`` where the caller gave one."""
        return np.empty(self.output, self.output_dtype) if out is None else out

    def gradient(self, argument, out=None):
        """The array for the gradient of array argument number ``argument``."""
        return np.empty(self.shapes[argument], self.dtype) if out is None else out

    def gradients(self, wanted, out=None):
        """Arrays for all gradients, None for those not ``wanted``."""
        return tuple(self.gradient(i, out and out[i]) if want else None for i, want in enumerate(wanted))


class Kind:
    """How a family of operators is computed. Subclasses live in cnncore/families."""

    # What the plan of a graph may do with buffers. What stands here is always right; a family that allows more says so.
    in_place = False  # forward may write y over its first array, and backward dx over dy
    per_image = False  # each image's y depends on that image alone (outside training)
    saves = None  # names of the arrays (and "y") that backward still reads; None: all of them and y

    def describe(self, op, shapes, dtype, settings):
        """Check the call; return (shape of y, geometry). Extents may be None (open): then so are those that follow from them."""
        raise NotImplementedError

    def forward(self, call, arrays, out=None):
        """Return (y, extras, saved): y is ``out`` where given; extras a tuple of further outputs; saved goes to backward."""
        raise NotImplementedError

    def backward(self, call, saved, dy, wanted, out=None):
        """Return one gradient per array argument: None where ``wanted`` is False or the argument has none.

        ``out``, where given, holds one array or None per argument, to be written instead of a new one.
        """
        raise NotImplementedError

    def parts(self, call):
        """Where each array lies in y (an index into y per array) if y is nothing but its arrays side by side, else None.

        The plan lets the arrays' makers write there, and hands out parts of dy as gradients: nothing is copied. One array
        that is all of y, ``((...,),)``, says that y is x.
        """
        return None

    def takes_pieces(self, call):
        """Whether a batch may be cut into pieces that are computed one after the other, with the same results."""
        return self.per_image and not call.settings.get("training", False)

    def takes_epilogue(self, call, activation):
        """Whether forward takes ``epilogue=activation``, the call of an elementwise operator, and applies it to y.

        Only with activations whose ``saves`` are ("y",): their saved tuple is then (y,).
        """
        return False

    def returns_indices(self, call):
        """Whether forward returns indices beside y, of its shape and as its only extra.

        In a graph they are a value of their own, for operators that take an array of the role "index".
        """
        return False

    def is_line(self, call):
        """Whether y = scale · x + shift, with numbers per channel that do not depend on x: those of :meth:`line`."""
        return False

    def line(self, call, arrays):
        """(scale, shift) of every channel, float64, from the arrays of a call that is a line; arrays[0], x, is not looked at."""
        raise NotImplementedError

    def takes_line(self, call):
        """Whether a line after the call can be part of the arrays that its node owns: :meth:`with_line`."""
        return False

    def with_line(self, call, arrays, scale, shift):
        """The arrays with which the call gives scale · y + shift."""
        raise NotImplementedError

    def adds(self, call):
        """Whether backward takes ``adding=True``, and then adds the gradient of its first array to what ``out`` holds of it."""
        return False

    def packing(self, call, shelf):
        """What a node of a plan keeps from call to call, such as weights in the order of the kernels; None: nothing.

        ``shelf`` has the memory for what all nodes keep. What is returned is handed to forward as ``packed``. Its
        ``refresh()`` is called before a forward pass when arrays that the node owns may have changed.
        """
        return None

    def multiply_adds(self, call):
        """Multiply-adds of one forward call, for summaries; 0 for kinds that do not multiply by weights."""
        return 0

    def algorithms(self, call):
        """What each algorithm that can compute the call would cost, in multiply-adds at full speed: name → number; {}: no choice.

        An operator with a choice has a setting ``algorithm`` that names them, and "auto" for the cheapest.
        """
        return {}

    def algorithm(self, call):
        """The name of the algorithm that computes the call; None where there is no choice."""
        return None

    def receptive_window(self, call):
        """(reach, stride) per spatial axis of one output in the input, for receptive fields; None: all of the input."""
        rank = max(len(call.shapes[0]) - 2, 0)
        return ((1, 1),) * rank


@dataclass(frozen=True, eq=False)
class Op:
    """One operator: a row of the catalogue, callable.

    ``y = op(*arrays, **settings)`` and ``y, backward = op.with_backward(*arrays, **settings)``; settings may also follow the
    arrays by position. ``backward(dy)`` returns the gradient of every differentiable array argument given, in argument
    order; a lone one is returned bare.
    """

    name: str
    kind: Kind
    summary: str
    formula: str
    gradient: str
    paper: str
    family: str
    cases: tuple[Case, ...]
    example: str
    settings_list: tuple[Setting, ...] = ()
    arrays: tuple[Array, ...] = (Array("x", "input"),)
    edges: tuple[str, ...] = ()
    shape: str = "(N, C, \\*spatial) → (N, C, \\*spatial)"
    accumulates: str = "in x's dtype"
    returns: str = "array y"
    yields: str = "real"  # what y holds: "real" numbers, "index" (int64) or "mask" (booleans), which have no gradient
    catalogue: tuple[str, ...] = ()
    smooth: bool = True  # differentiable everywhere; otherwise samples keep away from kinks and ties
    linear: tuple[str, ...] = ()  # array arguments in which y is linear: checked by the adjoint identity
    proof: str = "gradient"  # "gradient", or why a numerical derivative is not the right proof
    layer: Layer = Layer()
    onnx: Any = None

    def __post_init__(self):
        settings = {s.name: s.default for s in self.settings_list}
        several = self.arrays[-1].several if self.arrays else False
        put = object.__setattr__
        put(self, "several", several)
        put(self, "settings", MappingProxyType(settings))
        put(self, "_by_name", {s.name: s for s in self.settings_list})
        put(self, "_aliases", {s.alias: s.name for s in self.settings_list if s.alias})
        put(self, "_array_names", tuple(a.name for a in self.arrays))
        put(self, "_calls", {})
        put(self, "_recent", Recent())
        put(self, "__name__", self.name)
        put(self, "__module__", "cnncore")
        put(self, "__qualname__", self.name)

    def __repr__(self):
        return f"<operator {self.name}{self.__signature__}>"

    def __reduce__(self):
        return self.name  # pickled as the public name cnncore.<name>

    # ── Using it ──

    def __call__(self, *arguments, out=None, **settings):
        arrays, call, _ = self._recent.find(arguments, settings) or self._bind(arguments, settings)
        y, extras, _ = self.kind.forward(call, arrays, None if out is None else self._checked_out(call, out, arrays))
        return (y, *extras) if extras else y

    def with_backward(self, *arguments, out=None, **settings):
        """``y, backward``: y as from a plain call, and the function that takes dy to the gradients of the arrays given."""
        arrays, call, wanted = self._recent.find(arguments, settings) or self._bind(arguments, settings)
        y, extras, saved = self.kind.forward(
            call, arrays, None if out is None else self._checked_out(call, out, arrays)
        )

        watched = fingerprint.of_saved(arrays, y, extras, saved) if self.yields == "real" else None

        def backward(dy):
            if self.yields != "real":
                return ()
            if watched is not None and (number := watched.first_changed()) >= 0:
                raise self._changed(arrays, number)
            gradients = self.kind.backward(call, saved, self.checked_dy(call, dy), wanted)
            given = [g for g, want in zip(gradients, wanted, strict=True) if want]
            return given[0] if len(given) == 1 else tuple(given)

        return ((y, *extras) if extras else y), backward

    def _changed(self, arrays, number):
        """The error for array ``number`` of (arrays, y, extra outputs), which is not as forward left it."""
        names = (*(row.name for row in self.rows(len(arrays))), "y")
        name = names[number] if number < len(names) else f"output {number - len(names) + 1}"
        return ArrayChangedError(
            f"{self.name}: {name} was changed in place between forward and backward, which reads it: change a copy, or call "
            "backward first"
        )

    # ── Binding a call: the one place where arguments are checked ──

    def bind(self, arguments, settings):
        """Arrays and described call from the arguments of a call."""
        arrays, call, _ = self._recent.find(arguments, settings) or self._bind(arguments, settings)
        return arrays, call

    def _bind(self, given, settings):
        """Check a call unlike those remembered: its arrays, its description, and which of the arrays have a gradient."""
        arguments, kept = given, dict(settings)
        if self.several and len(arguments) == len(self.arrays) and isinstance(arguments[-1], (list, tuple)):
            arguments = (*arguments[:-1], *arguments[-1])
        rows = self.rows(len(arguments))
        count = len(rows)
        if len(arguments) < count and settings and not settings.keys().isdisjoint(self._array_names):
            arguments = self._named_arrays(list(arguments), settings)
        arrays = [self._checked_array(row, a) for row, a in zip(rows, arguments, strict=False)]
        for missing in rows[len(arrays) :]:
            if not missing.optional:
                raise SettingError(
                    f"{self.name}: array {missing.name!r} ({missing.meaning}) is missing; call {self.usage()}"
                )
            arrays.append(None)
        if len(arguments) > count:
            settings = self._named_settings(arguments[count:], settings)
        dtype = self._common_dtype(arrays)
        shapes = tuple(None if a is None else a.shape for a in arrays)
        said = tuple(map(setting_key, settings.values()))
        key = (shapes, dtype, tuple(settings), said)
        call = None if None in said else self._calls.get(key)
        if call is None:
            call = self.describe(shapes, dtype, settings)
            if None not in said:
                if len(self._calls) >= 256:
                    self._calls.clear()
                self._calls[key] = call
        arrays, wanted = tuple(arrays), self.wanted(arrays)
        if arguments is given:
            self._recent.keep(given, kept, arrays, call, wanted)
        return arrays, call, wanted

    def rows(self, count):
        """The row of each of ``count`` arrays: the last one repeats where it stands for several."""
        if not self.several:
            return self.arrays
        return self.arrays + self.arrays[-1:] * (count - len(self.arrays))

    def wanted(self, arrays):
        """Which of a call's arrays, as bound, have a gradient: real numbers in a differentiable place."""
        return tuple(
            row.differentiable and given is not None and given.dtype.kind == "f"
            for row, given in zip(self.rows(len(arrays)), arrays, strict=True)
        )

    def describe(self, shapes, dtype, settings):
        """The checked description of a call with arrays of ``shapes``; extents may be None where they are still open."""
        full = self.full_settings(settings)
        output, geometry_ = self.kind.describe(self, shapes, dtype, full)
        if None not in output:
            geometry.checked_bytes(self.name, output, ROLE_DTYPES.get(self.yields, dtype).itemsize)
        return Call(self, shapes, dtype, MappingProxyType(full), output, geometry_)

    def full_settings(self, settings):
        """All settings of a call: those given, checked, and the defaults of the others."""
        full = dict(self.settings)
        for name, value in settings.items():
            known = self._aliases.get(name, name)
            if known not in full:
                raise SettingError(self._unknown(name))
            full[known] = frozen_setting(value)
        for name, value in full.items():
            if value is REQUIRED:
                raise SettingError(
                    f"{self.name}: setting {name!r} is missing ({self._by_name[name].meaning}); call {self.usage()}"
                )
            check = self._by_name[name].check
            if check is not None:
                full[name] = check(self.name, name, value)
        return full

    def usage(self):
        """How the operator is called, in one line."""
        return f"{self.name}{self.__signature__}"

    def checked_dy(self, call, dy):
        """dy as an array that backward may trust, or an error that says what forward returned."""
        if is_ready(dy, call.output, call.dtype):
            return dy
        if call.output == () and isinstance(dy, (int, float)):  # of a loss: one number
            dy = np.array(dy, call.dtype)
        dy = ordinary_array(self.name, "dy", dy)
        if dy.shape != call.output:
            raise ShapeError(f"{self.name}: backward got dy of shape {dy.shape}; forward returned {call.output}")
        if dy.dtype != call.dtype:
            raise DtypeError(
                f"{self.name}: backward got dy of {dy.dtype}; forward returned {call.dtype}: use dy.astype('{call.dtype}')"
            )
        return dy

    def _named_arrays(self, given, settings):
        for name in list(self._array_names[len(given) :]):
            if name in settings:
                given.append(settings.pop(name))
            elif not settings.keys().isdisjoint(self._array_names):
                given.append(None)
        return given

    def _named_settings(self, values, settings):
        names = [s.name for s in self.settings_list]
        if len(values) > len(names):
            raise SettingError(
                f"{self.name}: takes at most {len(self.arrays) + len(names)} arguments; call {self.usage()}"
            )
        named = dict(zip(names, values, strict=False))
        twice = named.keys() & settings.keys()
        if twice:
            raise SettingError(f"{self.name}: setting {twice.pop()!r} is given twice, by position and by name")
        return {**named, **settings}

    def _unknown(self, name):
        from difflib import get_close_matches

        near = get_close_matches(name, [*self.settings, *self._array_names], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return (
            f"{self.name}: unknown setting {name!r}{hint or '.'} It takes {', '.join(self.settings) or 'no settings'}."
        )

    def _checked_array(self, row, array):
        if array is None:
            if row.optional:
                return None
            raise SettingError(f"{self.name}: array {row.name!r} ({row.meaning}) is None; call {self.usage()}")
        if row.role == "index":
            return index_array(self.name, row.name, array)
        if row.role == "mask":
            return mask_array(self.name, row.name, array)
        if row.role == "any":
            return array_of_any_role(self.name, row.name, array)
        return ordinary_array(self.name, row.name, array, either=row.role == "either")

    def _common_dtype(self, arrays):
        dtype = None
        first = None
        for row, array in zip(self.rows(len(arrays)), arrays, strict=True):
            if array is None or array.dtype.kind != "f":
                continue
            if dtype is None:
                dtype, first = array.dtype, row.name
            elif array.dtype != dtype:
                raise DtypeError(
                    f"{self.name}: {first} is {dtype} and {row.name} is {array.dtype}; precisions are never mixed silently: "
                    f"use {row.name}.astype('{dtype}')"
                )
        return FLOATS[0] if dtype is None else dtype

    def _checked_out(self, call, out, arrays):
        if out is None:
            return None
        check_destination(self.name, "out", out, call.output, call.output_dtype)
        for row, array in zip(self.rows(len(arrays)), arrays, strict=True):
            if array is not None and overlap(out, array):
                raise ShapeError(f"{self.name}: out overlaps {row.name}; give it memory of its own, or leave it out")
        return out


def overlap(a, b):
    """Whether two arrays share an element; True where that would take long to find out."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)
    except np.exceptions.TooHardError:
        return True


def check_destination(place, name, array, shape, dtype):
    """Raise unless ``array`` is one that results of ``shape`` and ``dtype`` can be written into."""
    expected = f"{place}: {name} must be a writeable {dtype} array of shape {shape}"
    if type(array) is not np.ndarray and not isinstance(array, np.memmap):
        raise DtypeError(f"{expected}, got {type(array).__name__}: give a numpy array, or leave it out")
    if array.dtype != dtype:
        raise DtypeError(f"{expected}, got {array.dtype}: use np.empty({shape}, '{dtype}'), or leave it out")
    if array.shape != shape:
        raise ShapeError(f"{expected}, got shape {array.shape}: use np.empty({shape}, '{dtype}'), or leave it out")
    problem = fingerprint.layout_problem(array)
    if problem is not None:
        raise ShapeError(f"{expected}, but it {problem}: use np.empty({shape}, '{dtype}'), or leave it out")


def check_apart(place, written, read):
    """Raise if an array to be written shares memory with another one of them, or with one that is read; both name → array."""
    kept = [(*fingerprint.memory_of(a), name, a, False) for name, a in read.items()]
    kept += [(*fingerprint.memory_of(a), name, a, True) for name, a in written.items()]
    before = []  # those that reach as far as the next one
    for low, high, name, array, is_written in sorted(kept, key=lambda entry: entry[:2]):
        before = [entry for entry in before if entry[1] > low]
        for _, _, other_name, other, other_is_written in before:
            if (is_written or other_is_written) and overlap(array, other):
                raise ShapeError(f"{place}: {other_name} and {name} share memory; give each array memory of its own")
        before.append((low, high, name, array, is_written))


def ordinary_array(place, name, array, either=False):
    """``array`` as a numpy float32 or float64 array in native byte order whose strides are whole elements.

    Anything with ``__array__`` or ``__dlpack__`` is taken; read-only, strided and negative-stride arrays are used in place.
    """
    if type(array) is not np.ndarray:
        array = _from_outside(place, name, array)
    dtype = array.dtype
    if dtype not in FLOATS:  # byte-swapped dtypes compare unequal on purpose: they are converted
        native = dtype.newbyteorder("=")
        if native in FLOATS:
            return array.astype(native)
        if either and dtype.kind in "iu":
            return np.require(array, np.int64, ["C", "ALIGNED"])
        raise DtypeError(f"{place}: {name} is {dtype}; expected float32 or float64: use {name}.astype('float32')")
    if not array.flags.aligned or any(s % dtype.itemsize for s in array.strides):
        return array.copy()
    return array


def index_array(place, name, array):
    """``array`` as native int64, from any integer dtype."""
    if type(array) is not np.ndarray:
        array = _from_outside(place, name, array)
    if array.dtype.kind not in "iu":
        raise DtypeError(f"{place}: {name} is {array.dtype}; expected integers: use {name}.astype('int64')")
    return np.require(array, np.int64, ["C", "ALIGNED"])


def mask_array(place, name, array):
    """``array`` as booleans."""
    if type(array) is not np.ndarray:
        array = _from_outside(place, name, array)
    if array.dtype != np.bool_:
        raise DtypeError(f"{place}: {name} is {array.dtype}; expected booleans: use {name}.astype(bool)")
    return np.ascontiguousarray(array)


def array_of_any_role(place, name, array):
    """``array`` as real numbers, integers or booleans, whichever it holds."""
    if type(array) is not np.ndarray:
        array = _from_outside(place, name, array)
    if array.dtype == np.bool_:
        return mask_array(place, name, array)
    return ordinary_array(place, name, array, either=True)


def _from_outside(place, name, array):
    if not hasattr(array, "__array__") and hasattr(array, "__dlpack__"):
        return np.from_dlpack(array)
    try:
        return np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DtypeError(f"{place}: {name} is no array: {type(array).__name__} ({error})") from None


# ── Checks of single settings ──────────────────────────────────────────────────────────────────────────────────────────


def number(minimum=None, maximum=None, above=None, below=None):
    """A check that a setting is a finite number within bounds; ``above`` and ``below`` are open bounds."""

    def check(place, name, value):
        try:
            x = float(value)
        except (TypeError, ValueError):
            raise SettingError(f"{place}: {name} must be a number, got {value!r}") from None
        low = minimum if minimum is not None else above
        if (
            not np.isfinite(x)
            or (minimum is not None and x < minimum)
            or (above is not None and x <= above)
            or (maximum is not None and x > maximum)
            or (below is not None and x >= below)
        ):
            text = " and ".join(
                f"{sign} {bound}"
                for sign, bound in (("≥", minimum), (">", above), ("≤", maximum), ("<", below))
                if bound is not None
            )
            raise SettingError(
                f"{place}: {name} must be a finite number{' ' + text if text else ''}, got {value!r}; try {low or 1}"
            )
        return x

    return check


def whole(minimum=None, maximum=2**31 - 1):
    """A check that a setting is an integer within bounds."""
    return lambda place, name, value: geometry.integer(place, name, value, minimum, maximum)


def flag(place, name, value):
    """A check that a setting is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise SettingError(f"{place}: {name} must be True or False, got {value!r}")
    return bool(value)


def choice(*allowed):
    """A check that a setting is one of ``allowed``."""

    def check(place, name, value):
        if not any(isinstance(value, type(a)) and value == a for a in allowed):
            raise SettingError(f"{place}: {name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
        return value

    return check


# ── Documentation ──────────────────────────────────────────────────────────────────────────────────────────────────────


DOCUMENTED_ROLES = {
    "index": "array of integers",
    "mask": "array of booleans",
    "either": "array of integers, or of the same dtype as the others",
    "any": "array of real numbers, integers or booleans",
}


class Derived:
    """An attribute of an operator that is worked out from its row when first asked for: an import would pay for all."""

    def __init__(self, name, make, of_class=None):
        self.name, self.make, self.of_class = name, make, of_class

    def __get__(self, op, owner=None):
        if op is None:
            return self.of_class
        value = vars(op)[self.name] = self.make(op)
        return value


def signature(op):
    """How the operator is called, for help() and error messages: arrays and settings by position or by name."""
    several = op.several
    names = [(a.name, None if a.optional else REQUIRED) for a in op.arrays if not a.several]
    names += [(s.name, s.default) for s in op.settings_list if not several]
    # By position or by name, as long as Python's order (required ones first) allows it; then by name only.
    kind, ended = inspect.Parameter.POSITIONAL_OR_KEYWORD, False
    parameters = []
    for name, default in names:
        if default is REQUIRED and ended:
            kind = inspect.Parameter.KEYWORD_ONLY
        ended = ended or default is not REQUIRED
        parameters.append(
            inspect.Parameter(name, kind, default=inspect.Parameter.empty if default is REQUIRED else default)
        )
    if several:
        parameters = [p.replace(kind=inspect.Parameter.POSITIONAL_ONLY) for p in parameters]
        parameters.append(inspect.Parameter(op.arrays[-1].name, inspect.Parameter.VAR_POSITIONAL))
        for s in op.settings_list:
            default = inspect.Parameter.empty if s.default is REQUIRED else s.default
            parameters.append(inspect.Parameter(s.name, inspect.Parameter.KEYWORD_ONLY, default=default))
    return inspect.Signature(parameters)


def docstring(op):
    """The operator's docstring, put together from its row: the sections a reader finds under every operator."""

    def section(title, body):
        return f"\n{title}\n{'-' * len(title)}\n{body.rstrip()}\n"

    def block(text):
        return textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")

    arrays = "\n".join(
        f"{'*' * a.several}{a.name} : {DOCUMENTED_ROLES.get(a.role, 'array')}{', one or more' if a.several else ''}"
        f"{', optional' if a.optional else ''}\n    {a.meaning}"
        for a in op.arrays
    )
    settings = "\n".join(
        f"{s.name} : {'required' if s.default is REQUIRED else f'default {s.default!r}'}\n    {s.meaning}"
        + (f" Also spelled ``{s.alias}``." if s.alias else "")
        for s in op.settings_list
    )
    text = f"{op.summary}\n\n::\n\n{block(op.formula)}\n\nGradients, with dy = ∂L/∂y::\n\n{block(op.gradient)}\n"
    text += section("Parameters", arrays + ("\n" + settings if settings else ""))
    text += section(
        "Returns", f"{op.returns}; from ``with_backward`` also the function that takes dy to the gradients."
    )
    text += section("Shape", op.shape)
    yields = ROLE_DTYPES.get(op.yields)
    same = "all arrays and the result" if yields is None else f"all arrays of real numbers; the result is {yields}"
    text += section("Dtype", f"float32 or float64, the same for {same}; accumulates {op.accumulates}.")
    text += section("Edges", "\n".join(f"* {edge}" for edge in op.edges) or "* none: the formula holds for every input")
    text += section(
        "Raises",
        "ShapeError, DtypeError\n    Arrays of the wrong rank, extents or dtype.\n"
        "SettingError\n    Unknown, missing or impossible settings.",
    )
    text += section("References", op.paper)
    text += section("Examples", textwrap.dedent(op.example).strip("\n"))
    return text


Op.__doc__ = Derived("__doc__", docstring, Op.__doc__)
Op.__signature__ = Derived("__signature__", signature)

__all__ += ["CnnError", "choice", "flag", "index_array", "mask_array", "number", "ordinary_array", "whole"]
