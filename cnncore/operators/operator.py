"""What an operator is: a schema of the registry that can be called.

An :class:`Op` is data (name, formula, settings, cases, source) plus an :class:`Implementation`, the way its family is
computed. Here the arguments of a call are bound, checked and described once, in a frozen :class:`Call` that forward and
backward share; below this module inputs are trusted, above it they are not checked again.

    y = op(x, kernel_size=3)
    y, backward = op.with_backward(x, kernel_size=3)
    dx = backward(dy)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..checks import (
    FLOATS,
    _from_outside,
    check_destination,
    index_array,
    mask_array,
    ordinary_array,
    overlap,
    present_name,
)
from ..errors import ArrayChangedError, DtypeError, SettingError, ShapeError, unknown_name
from ..runtime import fingerprint
from ..runtime.recent import Recent, frozen_setting, generation, is_ready, setting_key
from . import geometry
from .documentation import Derived, docstring, signature
from .schema import ALONE, REQUIRED, ROLE_DTYPES, Array, Case, Layer, Setting

__all__ = ["REQUIRED", "Array", "Call", "Case", "Implementation", "Layer", "Op", "Setting"]


# ── Calls ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Call:
    """One call, fully described and checked: every extent is known, forward and backward share it."""

    op: Op
    shapes: tuple[Any, ...]  # of the array arguments, None where an optional one was left out
    dtype: np.dtype[Any]
    settings: Mapping[str, Any]
    output: tuple[Any, ...]  # shape of y
    geometry: Any = None  # what the implementation has computed
    index_shapes: tuple[Any, ...] = field(default=())

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """The dtype of y: that of the call, unless the operator yields integers or booleans."""
        return ROLE_DTYPES.get(self.op.yields, self.dtype)

    def empty(self, out: Any = None) -> NDArray[Any]:
        """The array for y: ``out`` where the caller gave one."""
        return np.empty(self.output, self.output_dtype) if out is None else out

    def gradient(self, argument: int, out: Any = None) -> NDArray[Any]:
        """The array for the gradient of array argument number ``argument``."""
        return np.empty(self.shapes[argument], self.dtype) if out is None else out

    def gradients(self, needs_gradient: Sequence[bool], out: Any = None) -> tuple[Any, ...]:
        """Arrays for all gradients, None for those that are not needed."""
        return tuple(self.gradient(i, out and out[i]) if want else None for i, want in enumerate(needs_gradient))


class Implementation:
    """How a family of operators is computed. Subclasses stand in the families' implementation.py."""

    # What a plan may do with buffers. The defaults are always correct; families that allow more override them.
    in_place = False  # forward may write y over its first array, and backward dx over dy
    rows_vary = (
        False  # y may have fewer rows than its shape says, depending on values: in a graph it can only be an output
    )
    per_image = False  # each image's y depends on that image alone (outside training)
    draws_per_image = False  # forward takes ``first_image=``: what it draws follows an image's place in a larger batch
    normalizes_batch = (
        False  # forward takes ``synchronize=``, which merges its statistics with those of the batch's other parts
    )
    inference_only = ""  # why a net with it has no backward pass, and what to train instead; "": it has one
    saves: tuple[str, ...] | None = (
        None  # names of the arrays (and "y") that backward still reads; None: all of them and y
    )

    def infer(self, op: Op, shapes: Sequence[Any], dtype: np.dtype[Any], settings: Any) -> tuple[Any, Any]:
        """Check the call; return (shape of y, geometry). Extents may be None (open): then so are those that follow from them."""
        raise NotImplementedError

    def forward(self, call: Call, arrays: Sequence[Any], out: Any = None) -> tuple[Any, Any, Any]:
        """Return (y, extras, saved): y is ``out`` where given; extras a tuple of further outputs; saved goes to backward."""
        raise NotImplementedError

    def backward(
        self, call: Call, saved: Any, dy: NDArray[Any], needs_gradient: Sequence[bool], out: Any = None
    ) -> Any:
        """Return one gradient per array argument: None where ``needs_gradient`` is False or the argument has none.

        ``out``, where given, holds one array or None per argument, to be written instead of a new one.
        """
        raise NotImplementedError

    def parts(self, call: Call) -> Any:
        """The position of each array in y (an index into y per array) if y is a concatenation of its arrays, else None.

        Plans let the arrays' producers write there, and use parts of dy as gradients: nothing is copied. ``((...,),)``,
        one array that is all of y, means that y is x.
        """
        return None

    def splits_batch(self, call: Call) -> bool:
        """Whether a batch may be divided into pieces that are computed in sequence, with the same results."""
        return self.per_image and not call.settings.get("training", False)

    def fuses_activation(self, call: Call, activation: Call) -> bool:
        """Whether forward takes ``epilogue=activation``, the call of an elementwise operator, and applies it to y.

        Only with activations whose ``saves`` are ("y",): their saved tuple is then (y,).
        """
        return False

    def returns_indices(self, call: Call) -> bool:
        """Whether forward returns indices beside y, of its shape and as its only extra.

        In a graph they are a value of their own, for operators that take an array of the role "index".
        """
        return False

    def reads_grid(self, call: Call) -> Any:
        """The grid of 8-bit numbers to which forward rounds its first array, or takes it in; None: it reads real numbers."""
        return None

    def writes_grid(self, call: Call) -> Any:
        """The grid of 8-bit numbers that y is on, which forward may write as bytes; None: it writes real numbers."""
        return None

    def is_affine(self, call: Call) -> bool:
        """Whether y = scale · x + shift, with numbers per channel that do not depend on x: those of :meth:`affine`."""
        return False

    def affine(self, call: Call, arrays: Sequence[Any]) -> Any:
        """(scale, shift) of every channel, float64, from the arrays of a call that is affine; arrays[0], x, is not
        used.
        """
        raise NotImplementedError

    def folds_affine(self, call: Call) -> bool:
        """Whether an affine map after the call can be part of the arrays that its node owns: :meth:`fold_affine`."""
        return False

    def fold_affine(self, call: Call, arrays: Sequence[Any], scale: NDArray[Any], shift: NDArray[Any]) -> Any:
        """The arrays with which the call gives scale · y + shift."""
        raise NotImplementedError

    def accumulates(self, call: Call) -> bool:
        """Whether backward takes ``accumulate=True``: it accumulates the gradient of its first array into ``out``."""
        return False

    def packing(self, call: Call, arena: Any) -> Any:
        """What a node of a plan keeps from call to call, such as weights in the order of the kernels; None: nothing.

        ``arena`` has the memory for what all nodes keep. The result is passed to forward as ``packed``. Its
        ``refresh()`` is called before a forward pass when arrays that the node owns may have changed.
        """
        return None

    def multiply_adds(self, call: Call) -> int:
        """Multiply-adds of one forward call, for summaries; 0 if it does not multiply by weights."""
        return 0

    def algorithms(self, call: Call) -> dict[str, float]:
        """What each algorithm that can compute the call would cost, in multiply-adds at full speed: name → number; {}: no choice.

        An operator with a choice has a setting ``algorithm`` that names them, and "auto" for the cheapest.
        """
        return {}

    def algorithm(self, call: Call) -> str | None:
        """The name of the algorithm that computes the call; None where there is no choice."""
        return None

    def receptive_window(self, call: Call) -> Any:
        """(reach, stride) per spatial axis of one output in the input, for receptive fields; None: all of the input."""
        rank = max(len(call.shapes[0]) - 2, 0)
        return ((1, 1),) * rank

    def receptive_start(self, call: Call) -> Any:
        """Per spatial axis, where the receptive window of output 0 begins in the input: below 0 in the padding.

        None where that is not known, as for windows that depend on the image.
        """
        window = self.receptive_window(call)
        if window is None or any(axis != (1, 1) for axis in window) or call.output[2:] != call.shapes[0][2:]:
            return None
        return (0,) * len(window)


@dataclass(frozen=True, eq=False)
class Op:
    """One operator: a schema of the registry, callable.

    ``y = op(*arrays, **settings)`` and ``y, backward = op.with_backward(*arrays, **settings)``; settings may also follow the
    arrays by position. ``backward(dy)`` returns the gradient of every differentiable array argument given, in argument
    order; a single one is returned bare.
    """

    name: str
    implementation: Implementation
    summary: str
    formula: str
    gradient: str
    paper: str
    group: str  # of the documentation: "convolution", "pooling", "activation", "layers", "arrays"; "custom" of users'
    cases: tuple[Case, ...]
    example: str
    settings_list: tuple[Setting, ...] = ()
    arrays: tuple[Array, ...] = (Array("x", "input"),)
    edges: tuple[str, ...] = ()
    shape: str = "(N, C, *spatial) → (N, C, *spatial)"
    symbols: Mapping[str, str] = field(default_factory=dict)  # letters of ``shape`` beyond documentation.SYMBOLS
    accumulates: str = "in x's dtype"
    returns: str = "array y"
    yields: str = "real"  # what y holds: "real" numbers, "index" (int64) or "mask" (booleans), which have no gradient
    literature: tuple[str, ...] = ()
    smooth: bool = True  # differentiable everywhere; otherwise samples keep away from kinks and ties
    linear: tuple[str, ...] = ()  # array arguments in which y is linear: checked by the adjoint identity
    proof: str = "gradient"  # "gradient", or why a numerical derivative does not apply
    layer: Layer = ALONE
    onnx: Any = None  # of an operator written in Python: onnx(w, n) → y, its composition of ONNX's operators

    origin = ""  # the module that defines an operator written in Python; "" of those of the registry

    if TYPE_CHECKING:  # set by __post_init__ and, on first access, by Derived
        variadic: bool = field(init=False)
        settings: Mapping[str, Any] = field(init=False)
        _by_name: dict[str, Setting] = field(init=False)
        _aliases: dict[str, str] = field(init=False)
        _array_names: tuple[str, ...] = field(init=False)
        _calls: dict[Any, Any] = field(init=False)
        _recent: Recent = field(init=False)
        __signature__: inspect.Signature = field(init=False)

    def __post_init__(self) -> None:
        settings = {s.name: s.default for s in self.settings_list}
        variadic = self.arrays[-1].variadic if self.arrays else False
        put = object.__setattr__
        put(self, "variadic", variadic)
        put(self, "settings", MappingProxyType(settings))
        put(self, "_by_name", {s.name: s for s in self.settings_list})
        put(self, "_aliases", {s.alias: s.name for s in self.settings_list if s.alias})
        put(self, "_array_names", tuple(a.name for a in self.arrays))
        put(self, "_calls", {})
        put(self, "_recent", Recent())
        put(self, "__name__", self.name)
        put(self, "__module__", "cnncore")
        put(self, "__qualname__", self.name)

    @property
    def family(self) -> str:
        """The earlier name of ``group``."""
        return self.group

    def __repr__(self) -> str:
        return f"<operator {self.name}{self.__signature__}>"

    def __reduce__(self) -> str:
        return self.name  # pickled as the public name cnncore.<name>

    # ── Using it ──

    def __call__(self, *arguments: Any, out: NDArray[Any] | None = None, **settings: Any) -> Any:
        arrays, call, _ = self._recent.find(arguments, settings) or self._bind(arguments, settings)
        y, extras, _ = self.implementation.forward(
            call, arrays, None if out is None else self._checked_out(call, out, arrays)
        )
        return (y, *extras) if extras else y

    def with_backward(
        self, *arguments: Any, out: NDArray[Any] | None = None, **settings: Any
    ) -> tuple[Any, Callable[..., Any]]:
        """``y, backward``: y as from a plain call, and the function that maps dy to the gradients of the arrays given."""
        arrays, call, needs_gradient = self._recent.find(arguments, settings) or self._bind(arguments, settings)
        y, extras, saved = self.implementation.forward(
            call, arrays, None if out is None else self._checked_out(call, out, arrays)
        )

        watched = fingerprint.of_saved(arrays, y, extras, saved) if self.yields == "real" else None

        def backward(dy: Any) -> Any:
            if self.yields != "real":
                return ()
            if watched is not None and (number := watched.first_changed()) >= 0:
                raise self._changed(arrays, number)
            gradients = self.implementation.backward(call, saved, self.checked_dy(call, dy), needs_gradient)
            given = [g for g, want in zip(gradients, needs_gradient, strict=True) if want]
            return given[0] if len(given) == 1 else tuple(given)

        return ((y, *extras) if extras else y), backward

    def _changed(self, arrays: Sequence[Any], number: int) -> ArrayChangedError:
        """The error for array ``number`` of (arrays, y, extra outputs), which is not as forward left it."""
        names = (*(row.name for row in self.rows(len(arrays))), "y")
        name = names[number] if number < len(names) else f"output {number - len(names) + 1}"
        return ArrayChangedError(
            f"{self.name}: {name} was changed in place between forward and backward, which reads it: change a copy, or call "
            "backward first"
        )

    # ── Binding a call: the one place where arguments are checked ──

    def bind(self, arguments: Any, settings: Any) -> tuple[Any, Call]:
        """Arrays and described call from the arguments of a call."""
        arrays, call, _ = self._recent.find(arguments, settings) or self._bind(arguments, settings)
        return arrays, call

    def _bind(self, given: Any, settings: Any) -> Any:
        """Check a call that is not cached: its arrays, its description, and which of the arrays have a gradient."""
        arguments, kept = given, dict(settings)
        if self.variadic and len(arguments) == len(self.arrays) and isinstance(arguments[-1], (list, tuple)):
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
        key = (shapes, dtype, tuple(settings), said, generation())
        call = None if None in said else self._calls.get(key)
        if call is None:
            call = self.infer(shapes, dtype, settings)
            if None not in said:
                if len(self._calls) >= 256:
                    self._calls.clear()
                self._calls[key] = call
        checked, needs_gradient = tuple(arrays), self.needs_gradient(arrays)
        if arguments is given:
            self._recent.keep(given, kept, checked, call, needs_gradient)
        return checked, call, needs_gradient

    def rows(self, count: int) -> tuple[Array, ...]:
        """The schema of each of ``count`` arrays: the last one is repeated if it is variadic."""
        if not self.variadic:
            return self.arrays
        return self.arrays + self.arrays[-1:] * (count - len(self.arrays))

    def needs_gradient(self, arrays: Sequence[Any]) -> tuple[bool, ...]:
        """Which of a call's arrays, as bound, have a gradient: real numbers in a differentiable place."""
        return tuple(
            row.differentiable and given is not None and given.dtype.kind == "f"
            for row, given in zip(self.rows(len(arrays)), arrays, strict=True)
        )

    def infer(self, shapes: tuple[Any, ...], dtype: np.dtype[Any], settings: Any) -> Call:
        """The checked description of a call with arrays of ``shapes``; extents may be None where they are still open."""
        full = self.full_settings(settings)
        output, geometry_ = self.implementation.infer(self, shapes, dtype, full)
        if None not in output:
            geometry.checked_bytes(self.name, output, ROLE_DTYPES.get(self.yields, dtype).itemsize)
        return Call(self, shapes, dtype, MappingProxyType(full), output, geometry_)

    def full_settings(self, settings: Any) -> dict[str, Any]:
        """All settings of a call: those given, checked, and the defaults of the others."""
        full = dict(self.settings)
        for name, value in settings.items():
            known = self._aliases.get(name, name)
            if known not in full:
                raise SettingError(self._unknown(name))
            full[known] = frozen_setting(present_name(self.name, known, value, self._by_name[known].renamed))
        for name, value in full.items():
            if value is REQUIRED:
                raise SettingError(
                    f"{self.name}: setting {name!r} is missing ({self._by_name[name].meaning}); call {self.usage()}"
                )
            check = self._by_name[name].check
            if check is not None:
                full[name] = check(self.name, name, value)
        return full

    def usage(self) -> str:
        """How the operator is called, in one line."""
        return f"{self.name}{self.__signature__}"

    def checked_dy(self, call: Call, dy: Any) -> NDArray[Any]:
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

    def _named_arrays(self, given: list[Any], settings: Any) -> list[Any]:
        for name in list(self._array_names[len(given) :]):
            if name in settings:
                given.append(settings.pop(name))
            elif not settings.keys().isdisjoint(self._array_names):
                given.append(None)
        return given

    def _named_settings(self, values: Sequence[Any], settings: Any) -> dict[str, Any]:
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

    def _unknown(self, name: str) -> str:
        takes = f"It takes {', '.join(self.settings) or 'no settings'}."
        return unknown_name(self.name, "setting", name, [*self.settings, *self._array_names], takes)

    def _checked_array(self, row: Array, array: Any) -> Any:
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

    def _common_dtype(self, arrays: Sequence[Any]) -> np.dtype[Any]:
        dtype = None
        first = None
        for row, array in zip(self.rows(len(arrays)), arrays, strict=True):
            if array is None or array.dtype.kind != "f":
                continue
            if dtype is None:
                dtype, first = array.dtype, row.name
            elif array.dtype != dtype:
                raise DtypeError(
                    f"{self.name}: {first} is {dtype} and {row.name} is {array.dtype}; dtypes are never mixed implicitly: "
                    f"use {row.name}.astype('{dtype}')"
                )
        return FLOATS[0] if dtype is None else dtype

    def _checked_out(self, call: Call, out: Any, arrays: Sequence[Any]) -> Any:
        if out is None:
            return None
        check_destination(self.name, "out", out, call.output, call.output_dtype)
        for row, array in zip(self.rows(len(arrays)), arrays, strict=True):
            if array is not None and overlap(out, array):
                raise ShapeError(f"{self.name}: out overlaps {row.name}; give it memory of its own, or leave it out")
        return out


def array_of_any_role(place: str, name: str, array: Any) -> NDArray[Any]:
    """``array`` as real numbers, integers or booleans, whichever it holds."""
    if type(array) is not np.ndarray:
        array = _from_outside(place, name, array)
    if array.dtype == np.bool_:
        return mask_array(place, name, array)
    return ordinary_array(place, name, array, either=True)


# ── Documentation ──────────────────────────────────────────────────────────────────────────────────────────────────────


Op.__doc__ = Derived("__doc__", docstring, Op.__doc__)  # type: ignore[assignment]  # a descriptor
Op.__signature__ = Derived("__signature__", signature)  # type: ignore[assignment]  # likewise
