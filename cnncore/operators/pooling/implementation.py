"""Pooling: a strategy (what is computed of a window) on a scheme of windows (where they lie).

The two are independent. A :class:`Strategy` is a reference implementation in reference.pyx with its settings, its learned
arrays and its twin outside training; a :class:`Scheme` (windows.py) lays out windows. ``Pooling(strategy, scheme)`` computes
any pair, and :class:`Grid` is all of them, ``cnncore.pool``. Named operators are points of that grid.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ...checks import flag, whole
from ...errors import DataError, SettingError, ShapeError, unknown_name
from ...runtime import random
from .. import geometry
from ..operator import Implementation, Op
from ..schema import Array, Case, Layer, Parameter, Setting
from . import reference
from .windows import RETURN_STATE, SCHEMES, SEED, TRAINING, Layout, Part, Scheme

__all__ = [
    "SCHEMES",
    "Choosing",
    "Grid",
    "KMax",
    "Learned",
    "Pooling",
    "Strategy",
    "per_rank",
    "per_tap",
    "pooling_schema",
    "rows_of_planes",
]

RETURN_INDICES = Setting(
    "return_indices", False, "also return the index that each y was taken from, row-major within its plane", flag
)
OVERLAPS = "gradients of overlapping windows in dx's dtype, in the order of the windows"


# ── Strategies ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def one_number(settings, kernel):
    """Extents of a learned array after its channel axis: none, one number per channel."""
    return ()


def per_tap(settings, kernel):
    """Extents of a learned array after its channel axis: those of the kernel."""
    return kernel


def per_rank(settings, kernel):
    """Extents of a learned array after its channel axis: one number for each element of the kernel."""
    return (math.prod(kernel),)


@dataclass(frozen=True)
class Learned:
    """A learned array of a strategy: one row for all channels, or one per channel, of the extents that ``extents`` gives.

    ``default``: a number, or the setting, that stands for the array where it is left out; None: it must be given.
    ``values`` are bounds for samples, ``initial`` is how a layer starts it.
    """

    name: str
    meaning: str
    extents: Callable = one_number
    default: Any = None
    initial: Any = "zeros"
    values: tuple = (0.2, 0.8)
    decay: bool = True


@dataclass(frozen=True, eq=False)
class Strategy:
    """A pooling strategy.

    ``numbers`` are what its reference gets as settings: names of settings (None as 0) or numbers. ``inference`` is the
    definition outside training of a random strategy, with ``inference_numbers``; ``draws`` says what it draws: "cells", a
    state of positions in y's shape, or "planes", a 0 or 1 per image and channel that stands for its learned number.
    """

    name: str
    reference: object
    summary: str
    formula: str
    gradient: str
    paper: str
    edges: tuple = ()
    padding: str = ""  # what padding does, for schemes that have it
    settings: tuple = ()
    padded_settings: tuple = ()  # the same, for schemes that have padding
    numbers: tuple = ()
    learned: tuple = ()
    inference: object = None
    inference_numbers: tuple = ()
    draws: str = ""
    selects: bool = False  # each y is one cell of x: return_indices says which
    accumulates: str = f"a window's sums in float64 (kernels: float32 in short runs whose sums are float64), {OVERLAPS}"
    smooth: bool = False
    linear: tuple = ()
    domain: str = "any"
    x: str = "input"
    examples: tuple = field(default=({},))  # settings that exercise it in the grid
    onnx: Any = None  # of a strategy written in Python: onnx(w, n, windows, x) → y, its composition
    kernel_text: str = "it has a weight for each position of a kernel"

    @property
    def needs_kernel(self):
        """Whether it has numbers for the places or ranks of a whole kernel."""
        return any(learned.extents is not one_number for learned in self.learned)

    def on(self, scheme):
        """What computes it on the windows of a scheme."""
        return Pooling(self, scheme)

    schema = Op  # the class of its operators


# ── Strategies on schemes ──────────────────────────────────────────────────────────────────────────────────────────────


class Described(NamedTuple):
    """What a call's settings come to, worked out once for all calls of these shapes and settings."""

    reference: object
    layout: Layout
    settings: tuple  # numbers of the reference implementation
    numbers: object  # pool.Numbers of calls that draw and learn nothing
    seed: int
    draws: str  # what this call draws: "cells", "planes", or nothing
    columns: tuple  # per learned array: where its numbers lie in a row of all
    defaults: tuple  # what stands for those left out
    returns: tuple  # of "indices", "state", "window_state"
    plain: Any = None  # windows, where all there is to do is one pass over all of x and y


@dataclass(frozen=True)
class Pooling(Implementation):
    """``strategy`` on the windows that ``scheme`` makes of a call.

    Arrays: x, those of the scheme, those of the strategy, then what may be given back instead of drawn: ``state`` of the
    strategy, ``state`` of the scheme or, where the strategy has one too, ``window_state``.
    """

    strategy: Strategy
    scheme: Scheme

    draws_per_image = True

    @property
    def per_image(self):
        return not self.scheme.arrays

    @property
    def saves(self):
        kept = set(self.strategy.reference.saves)
        return tuple(name for name in ("x", "y") if name in kept)

    @property
    def window_state(self):
        """The name of the array that holds the scheme's drawn state."""
        return ("window_state" if self.strategy.draws else "state") if self.scheme.draws else ""

    def infer(self, op, shapes, dtype, settings):
        strategy, scheme = self.strategy, self.scheme
        given = {array.name: shape for array, shape in zip(op.arrays, shapes, strict=False)}
        layout = scheme.lay_out(op, shapes[0], settings, given)
        if None not in shapes[0]:
            geometry.checked_bytes(
                op.name, shapes[0], dtype.itemsize
            )  # windows may be few where the image is none that exists
        images, channels = shapes[0][0] if layout.images is None else layout.images[0], shapes[0][1]
        output = (images, channels * layout.channels, *layout.output)
        draws = strategy.draws if strategy.draws and settings["training"] else ""
        if strategy.draws:
            state = (images, channels) if strategy.draws == "planes" else output
            self._check_state(op, given["state"], state, settings)
        columns, defaults = self._check_learned(op, given, shapes[0], settings)
        twin = strategy.inference is not None and not draws
        chosen = strategy.inference if twin else strategy.reference
        names = strategy.inference_numbers if twin else strategy.numbers
        numbers = tuple(
            float((settings.get(n) or 0) if isinstance(n, str) else n(op.name, settings) if callable(n) else n)
            for n in names
        )
        returns = ("indices",) if settings.get("return_indices") else ()
        if settings.get("return_state"):
            returns += ("state",) * bool(draws) + ("window_state",) * bool(self.window_state and layout.bind)
        numbered = None if draws or columns else reference.Numbers(numbers)
        whole = layout.bind is None and layout.average is None and not layout.gaps and len(layout.parts or ()) == 1
        plain = whole and numbered is not None and not returns and layout.parts[0] == Part(layout.parts[0].windows)
        return output, Described(
            reference=chosen,
            layout=layout,
            settings=numbers,
            numbers=numbered,
            seed=settings.get("seed", 0),
            draws=draws,
            columns=columns,
            defaults=defaults,
            returns=returns,
            plain=layout.parts[0].windows if plain else None,
        )

    def _check_learned(self, op, given, shape, settings):
        """(where each learned array's numbers lie in a row, what stands for those left out), the shapes having been checked."""
        strategy, rank = self.strategy, len(shape) - 2
        if not strategy.learned:
            return (), ()
        kernel = self.scheme.kernel(settings, rank) if strategy.needs_kernel else None
        if strategy.needs_kernel and kernel is None:
            raise SettingError(f"{op.name}: {strategy.kernel_text}: {self.scheme.why_no_kernel}")
        columns, first, defaults = [], 0, []
        for learned in strategy.learned:
            extents = learned.extents(settings, kernel)
            count = math.prod(extents)
            columns.append(slice(first, first + count))
            first += count
            default = learned.default
            defaults.append(float(settings[default]) if isinstance(default, str) else default)
            came = given.get(learned.name)
            if came is not None and (came[1:] != extents or came[:1] not in ((1,), (shape[1],))):
                form = "".join(f", {e}" for e in extents)
                raise ShapeError(
                    f"{op.name}: {learned.name} has shape {came}; expected (1{form or ','}) for all channels alike, or "
                    f"({shape[1]}{form or ','}), one for each"
                )
        return tuple(columns), tuple(defaults)

    def _check_state(self, op, shape, expected, settings):
        if not settings["training"] and (shape is not None or settings["return_state"]):
            raise SettingError(f"{op.name}: a state is what training draws; use training=True, or leave state out")
        if shape is not None and None not in expected and shape != expected:
            hint = " Settings go by name: kernel_size=2." if len(shape) < 2 else ""
            raise ShapeError(f"{op.name}: state has shape {shape}; expected {expected}.{hint}")

    def splits_batch(self, call):
        return super().splits_batch(call) and call.geometry.layout.pieces

    def returns_indices(self, call):
        return call.geometry.returns == ("indices",)

    # ── Forward ──

    def forward(self, call, arrays, out=None, first_image=0):
        x, d = arrays[0], call.geometry
        if d.plain is not None:  # the usual case by itself: small calls feel every line
            y, saves = call.empty(out), d.reference.saves
            refused = reference.forward(d.reference, d.plain, d.numbers, x, y)
            if refused:
                self._refuse(call, refused)
            return y, (), (x if "x" in saves else None, y if "y" in saves else None, None)
        return self._forward_in_parts(call, arrays, out, first_image)

    def _forward_in_parts(self, call, arrays, out, first_image):
        """Windows that are drawn, learned, or lie on parts of the image, and calls that return more than y."""
        x, d = arrays[0], call.geometry
        layout, parts, window_state = d.layout, d.layout.parts, None
        named = dict(zip((a.name for a in call.op.arrays), arrays, strict=False))
        if layout.bind is not None:
            parts, window_state = layout.bind(call.shapes[0], call.dtype, named)
        if first_image and len(parts) > 1 and (d.draws or self.scheme.draws):
            raise SettingError(
                f"{call.op.name}: what it draws for several parts of an image follows the size of the batch, so that a batch "
                "cannot be divided (first_image); use one kernel_size, and compat=None"
            )
        y = call.empty(out)
        if layout.gaps:
            geometry.fill_zero(y)
        # What the windows give: y, unless that is an average over them.
        values = y if layout.average is None else np.empty(x.shape, x.dtype)
        positions = None
        if d.draws == "cells" or "indices" in d.returns:
            positions = np.full(values.shape, -1, np.int64) if layout.gaps else np.empty(values.shape, np.int64)
        state, learned = positions if d.draws == "cells" else None, None
        if d.draws == "planes":
            state = self._drawn_planes(call, named["state"], first_image)
            learned = state[:, :, None].astype(np.float64)
        elif d.columns:
            learned = self._learned(d, named)
        ran = self._run_parts(call, parts, x, values, positions, learned, named.get("state"), first_image)
        if layout.average is not None:
            reference.forward(reference.AVG, layout.average, reference.Numbers(), values, y)
        saves = d.reference.saves
        extras = {"indices": positions, "state": state, "window_state": window_state}
        saved = (x if "x" in saves else None, values if "y" in saves else None, ran)
        return y, tuple(extras[name] for name in d.returns), saved

    def _run_parts(self, call, parts, x, values, positions, learned, state, first_image):
        """Write ``values``, and ``positions`` where there are any: (part, numbers that backward needs) of every part."""
        d, channels = call.geometry, x.shape[1]
        ran, first_plane = [], first_image * channels
        first_window = first_plane * math.prod(values.shape[2:])
        for part in parts:
            numbers = d.numbers
            if numbers is None:
                numbers = reference.Numbers(
                    d.settings,
                    rows_of_planes(learned, part),
                    d.seed,
                    part.of_y(state, channels) if d.draws == "cells" and state is not None else None,
                    first_window,
                    first_plane,
                )
            y_part = part.of_y(values, channels)
            at = None if positions is None else part.of_y(positions, channels)
            refused = reference.forward(d.reference, part.windows, numbers, part.of_x(x), y_part, at)
            if refused:
                self._refuse(call, refused)
            if d.draws == "cells":
                numbers = reference.Numbers(d.settings, rows_of_planes(learned, part), d.seed, at)
            ran.append((part, numbers))
            if d.draws:
                first_window += y_part.size
                first_plane += y_part.shape[0] * y_part.shape[1]
        return tuple(ran)

    def _refuse(self, call, why):
        d = call.geometry
        if why == "cells":
            raise DataError(
                f"{call.op.name}: x has values outside the operator's domain; it needs {d.reference.requires}"
            )
        raise DataError(
            f"{call.op.name}: state holds positions outside their windows; pass what the same call returned with "
            f"return_state=True"
        )

    def _drawn_planes(self, call, state, first_image):
        """0 or 1 per image and channel, 1 with the probability that stands for them outside training."""
        d = call.geometry
        images, channels = call.output[0], call.shapes[0][1]
        if state is None:
            numbers = np.empty(images * channels)
            random.fill_uniform(d.seed, first_image * channels, numbers)
            return (numbers < d.defaults[0]).astype(np.int64).reshape(images, channels)
        if not ((state == 0) | (state == 1)).all():
            raise DataError(f"{call.op.name}: state must hold 0 or 1 per image and channel")
        return state

    def _learned(self, d, named):
        """(1, C or 1, numbers): the learned numbers of each channel, array after array, in float64."""
        pieces = []
        for learned, columns, default in zip(self.strategy.learned, d.columns, d.defaults, strict=True):
            array = named.get(learned.name)
            count = columns.stop - columns.start
            pieces.append(np.full((1, count), default) if array is None else array.reshape(len(array), count))
        rows = max(len(piece) for piece in pieces)
        if len(pieces) == 1:
            return np.ascontiguousarray(pieces[0], np.float64)[None]
        return np.hstack([np.broadcast_to(piece, (rows, piece.shape[1])).astype(np.float64) for piece in pieces])[None]

    # ── Backward ──

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, y, ran = saved
        d = call.geometry
        channels = call.shapes[0][1]
        dx = call.gradient(0, out and out[0])
        if d.plain is not None:
            reference.backward(d.reference, d.plain, d.numbers, x, y, dy, dx)
            return (dx,) + (None,) * (len(needs_gradient) - 1)
        if d.layout.average is not None:
            whole_dy = np.empty(call.shapes[0], call.dtype)
            reference.backward(reference.AVG, d.layout.average, reference.Numbers(), None, None, dy, whole_dy)
            dy = whole_dy
        add = len(ran) != 1 or d.layout.gaps
        if add:
            geometry.fill_zero(dx)
        total = np.zeros((channels, d.columns[-1].stop)) if d.columns else None
        for part, numbers in ran:
            dy_part, dx_part = part.of_y(dy, channels), part.of_x(dx)
            gradient = None if total is None else np.empty((dy_part.shape[0] * dy_part.shape[1], total.shape[1]))
            self._backward_part(
                call,
                part.windows,
                numbers,
                None if x is None else part.of_x(x),
                None if y is None else part.of_y(y, channels),
                dy_part,
                dx_part,
                gradient,
                add,
                any(needs_gradient[1:]),
            )
            if total is not None:
                total[_channels(part)] += gradient.reshape(*dy_part.shape[:2], total.shape[1]).sum(0)
        return (dx, *self._gradients(call, total, needs_gradient, out))

    def _backward_part(self, call, *arguments):
        """Write the gradients of the windows of one part."""
        reference.backward(call.geometry.reference, *arguments)

    def _gradients(self, call, total, needs_gradient, out):
        """Gradients of the arrays after x: those of learned arrays from the totals of the channels."""
        columns = dict(zip((learned.name for learned in self.strategy.learned), call.geometry.columns, strict=False))
        gradients = []
        for i, array in enumerate(call.op.arrays[1:], 1):
            if total is None or array.name not in columns or not needs_gradient[i]:
                gradients.append(None)
                continue
            gradient = call.gradient(i, out and out[i])
            numbers = total[:, columns[array.name]]
            gradient[...] = (numbers.sum(0) if len(gradient) == 1 else numbers).reshape(gradient.shape)
            gradients.append(gradient)
        return gradients

    def receptive_window(self, call):
        return call.geometry.layout.receptive

    def receptive_start(self, call):
        return call.geometry.layout.receptive_start


def _channels(part):
    return part.x_index[1] if len(part.x_index) > 1 else slice(None)


def rows_of_planes(learned, part):
    """The rows of a part's planes, one after the other, of learned numbers (images or 1, channels or 1, numbers)."""
    if learned is None:
        return None
    if len(learned) > 1 and part.y_index[0] is not ...:
        learned = learned[part.y_index[0]]
    if learned.shape[1] > 1:
        learned = learned[:, _channels(part)]
    return np.ascontiguousarray(learned).reshape(-1, learned.shape[2])


@dataclass(frozen=True)
class Choosing(Pooling):
    """One of several strategies without learned arrays, chosen by the setting ``strategy``; ``strategy`` saves for all."""

    choices: tuple = ()

    def infer(self, op, shapes, dtype, settings):
        (chosen,) = (s for s in self.choices if s.name == settings["strategy"])
        return Pooling(chosen, self.scheme).infer(op, shapes, dtype, settings)


# ── k-max ── Kalchbrenner, Grefenstette & Blunsom 2014, arXiv:1404.2188 ────────────────────────────────────────────────


@dataclass(frozen=True)
class KMax(Implementation):
    """k-max pooling along the last axis; k is a setting, or follows from the number of a layer."""

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        spatial = geometry.spatial(op.name, shapes[0])
        k, layer, layers, L = settings["k"], settings["layer"], settings["layers"], spatial[-1]
        if (layer is None) != (layers is None) or (layer is not None and layer > layers):
            raise SettingError(f"{op.name}: dynamic k needs layer and layers, layer ≤ layers; got {layer} and {layers}")
        if L is None:
            return (*shapes[0][:-1], k if layer in (None, layers) else None), k
        if layer is not None:
            k = max(k, -(-(layers - layer) * L // layers))
        if k > L:
            raise ShapeError(
                f"{op.name}: k = {k} exceeds the {L} values along the last axis of input {shapes[0]}; use k ≤ {L}"
            )
        return (*shapes[0][:-1], k), k

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        places = np.empty(call.output, np.int64)
        reference.k_max(arrays[0], y, places)
        return y, (places,) if call.settings["return_indices"] else (), (places,)

    def returns_indices(self, call):
        return call.settings["return_indices"]

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        reference.k_max_backward(dy, saved[0], dx)
        return (dx,)

    def receptive_window(self, call):
        return None


# ── Rows ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def pooling_schema(name, strategy, scheme, *, example, literature=(), cases=None, edges=None, kind=None, **row):
    """The schema of ``strategy`` on ``scheme``, made of what both declare; ``row`` overrides it.

    Cases without arrays get those that strategy and scheme sample.
    """
    kind = kind or strategy.on(scheme)
    padding = (f"padding: {strategy.padding}",) if strategy.padding and scheme.pads else ()
    both = (strategy.paper, scheme.paper if scheme.paper not in strategy.paper else "")
    defaults = {
        "group": "pooling",
        "summary": strategy.summary if scheme.pads else f"{strategy.summary[:-1]} (here: {scheme.phrase}).",
        "formula": strategy.formula,
        "gradient": strategy.gradient,
        "settings_list": _settings(strategy, scheme),
        "shape": scheme.shape,
        "symbols": scheme.symbols,
        "accumulates": strategy.accumulates,
        "linear": strategy.linear,
        "smooth": strategy.smooth,
        "paper": "; ".join(filter(None, both)),
        "layer": _layer(strategy, scheme),
        "returns": _returned(strategy, scheme),
    }
    if cases is None:
        cases = grid_cases(strategy, scheme)
    op = strategy.schema(
        name,
        kind,
        arrays=_arrays(strategy, scheme, kind),
        edges=(*padding, *scheme.edges, *strategy.edges) if edges is None else edges,
        literature=literature,
        cases=(),
        example=example,
        **(defaults | row),
    )
    object.__setattr__(op, "cases", tuple(_completed(op, case, i) for i, case in enumerate(cases)))
    return op


def _settings(strategy, scheme):
    """Settings of the windows, then of the strategy, then of what is drawn and returned."""
    settings = [*scheme.settings, *strategy.settings, *(strategy.padded_settings if scheme.pads else ())]
    if strategy.selects:
        settings.append(RETURN_INDICES)
    if strategy.draws:
        settings += [s for s in (TRAINING, SEED, RETURN_STATE) if s not in settings]
    return tuple(settings)


def _returned(strategy, scheme):
    """What a pooling returns, in words."""
    returned = "array y"
    if strategy.selects:
        returned = "array y; with return_indices=True the pair (y, indices), indices int64 of y's shape"
    if strategy.draws:
        kept = "int64 of y's shape" if strategy.draws == "cells" else "int64 (N, C)"
        returned = f"array y; with return_state=True the pair (y, state), state {kept}"
    if not scheme.draws:
        return returned
    if strategy.draws:
        return returned.replace("the pair (y, state)", "(y, state, window_state)")
    return f"{returned}; with return_state=True also the state of the windows, last"


def _arrays(strategy, scheme, implementation):
    """x, the arrays of the windows, those that are learned, and what was drawn before."""
    arrays = [Array("x", strategy.x), *scheme.arrays]
    arrays += [
        Array(a.name, a.meaning, optional=a.default is not None) for a in strategy.learned if strategy.draws != "planes"
    ]
    if strategy.draws:
        meaning = {
            "cells": "positions to use instead of drawing them, as returned with return_state=True",
            "planes": "0 or 1 per image and channel instead of drawing them, as returned with return_state=True",
        }[strategy.draws]
        arrays.append(Array("state", meaning, optional=True, differentiable=False, role="index"))
    if scheme.draws:
        meaning = "positions of the windows, instead of drawing them, as returned with return_state=True"
        arrays.append(Array(implementation.window_state, meaning, optional=True, differentiable=False, role="either"))
    return tuple(arrays)


def grid_cases(strategy, scheme):
    """Small cases of a pair: each of the scheme's with one of the strategy's settings, in turn."""
    defaults = {setting.name: setting.default for setting in scheme.settings}
    chosen = [s for s in scheme.cases if not strategy.needs_kernel or scheme.kernel({**defaults, **s}, 1) is not None]
    draws = {"training": True} if strategy.draws else {}
    examples = strategy.examples
    return tuple(
        Case(spatial=4, channels=2, batch=1, **{**examples[i % len(examples)], **settings, **draws})
        for i, settings in enumerate(chosen)
    )


def _completed(op, case, number):
    """A case with the domain of its strategy, and arrays where it has none: learned ones by turns shared or per channel."""
    strategy, scheme = op.implementation.strategy, op.implementation.scheme
    if case.domain == "any" and strategy.domain != "any":
        case = case.but(domain=strategy.domain)
    if case.arrays is not None or not (strategy.learned or scheme.arrays or strategy.draws):
        return case

    def arrays(rng, x, settings=MappingProxyType({})):
        given = {**case.settings, **settings}
        settings = {**op.settings, **given}
        made = list(scheme.samples(rng, x)) if scheme.samples else []
        if strategy.draws != "planes":
            kernel = scheme.kernel(settings, x.ndim - 2) if strategy.needs_kernel else None
            for i, learned in enumerate(strategy.learned):
                rows = x.shape[1] if (number + i) % 2 == 0 else 1
                made.append(rng.uniform(*learned.values, (rows, *learned.extents(settings, kernel))))
        if strategy.draws and settings["training"]:
            drawn = op(x, *(a.astype(x.dtype) for a in made), **{**given, "return_state": True})
            made.append(drawn[1])
        return tuple(made)

    return case.but(arrays=arrays)


def _layer(strategy, scheme):
    """A layer that owns the strategy's learned arrays: those that a setting can replace only if asked for."""
    if not strategy.learned or strategy.draws == "planes":
        return Layer()

    def shape_of(learned):
        def shape(shapes, settings):
            kernel = scheme.kernel(settings, len(shapes[0]) - 2) if strategy.needs_kernel else None
            if strategy.needs_kernel and kernel is None:
                raise SettingError(f"{strategy.kernel_text}: {scheme.why_no_kernel}")
            rows = shapes[0][1] if settings["num_parameters"] == "channels" else 1
            return (rows, *learned.extents(settings, kernel))

        return shape

    first = strategy.learned[0]
    settings = [
        Setting(
            "num_parameters",
            1,
            "number of sets of learned parameters: 1 for all channels, or 'channels'",
            _number_of_parameters,
        ),
        Setting("initial", first.initial, f"initial value of {first.name}: a number, or the name of an initialiser"),
    ]
    optional = any(learned.default is not None for learned in strategy.learned)
    if optional:
        names = ", ".join(learned.name for learned in strategy.learned if learned.default is not None)
        settings.append(
            Setting("learned", True, f"learn {names}, starting at initial (True), or keep it fixed (False)", flag)
        )
    return Layer(
        parameters=tuple(
            Parameter(
                learned.name,
                shape_of(learned),
                "initial" if learned is first else learned.initial,
                when="learned" if learned.default is not None else None,
                decay=learned.decay,
                fans=lambda shape: (math.prod(shape[1:]), 1),
            )
            for learned in strategy.learned
        ),
        settings=tuple(settings),
    )


def _number_of_parameters(place, name, value):
    return value if value == "channels" else whole(1, 1)(place, name, value)


# ── The grid ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Grid:
    """Pooling with any strategy on any windows: ``cnncore.pool(x, strategy="gem", windows="fractional", output_size=7)``.

    ``y = cnncore.pool(x, *arrays, strategy=…, windows="kernel", **settings)`` and ``y, backward =
    cnncore.pool.with_backward(…)``; arrays and settings are those of the strategy and of the windows (see
    ``cnncore.pool.operator(strategy, windows)`` and its ``__doc__``). ``pool.pairs`` maps (strategy, windows) to an operator,
    made when asked for; ``pool.refused`` says why the other pairs are not defined.
    """

    name = "pool"
    choices = ("strategy", "windows")

    def __init__(self, rows, schemes):
        self._rows = {(row.implementation.strategy.name, row.implementation.scheme.name): row for row in rows}
        self.schemes = MappingProxyType(dict(schemes))
        self._strategies = {row.implementation.strategy.name: row.implementation.strategy for row in rows}
        self.strategies = MappingProxyType(self._strategies)
        self._made = {}
        self._arrange()

    def _arrange(self):
        """Work out which pairs there are, and their names."""
        every = [(s, w) for s in self.strategies for w in self.schemes]
        self.refused = MappingProxyType({pair: reason for pair in every if (reason := self._reason(*pair))})
        self._names = {self._name(*pair): pair for pair in every if pair not in self.refused}
        self.pairs = Pairs(self, tuple(pair for pair in every if pair not in self.refused))

    def add(self, strategy):
        """Take a further strategy, on all schemes that it can go with."""
        self._strategies[strategy.name] = strategy
        self._arrange()

    def remove(self, name):
        """Forget a strategy that was added."""
        del self._strategies[name]
        self._made = {pair: op for pair, op in self._made.items() if pair[0] != name}
        self._arrange()

    def names_of(self, strategy):
        """The names that the operators of a strategy of this name have, or would have."""
        return [self._name(strategy, windows) for windows in self.schemes]

    def __call__(self, x, *arrays, strategy, windows="kernel", out=None, **settings):
        return self.operator(strategy, windows)(x, *arrays, out=out, **settings)

    def with_backward(self, x, *arrays, strategy, windows="kernel", out=None, **settings):
        """``y, backward``, as an operator's ``with_backward``."""
        return self.operator(strategy, windows).with_backward(x, *arrays, out=out, **settings)

    def operator(self, strategy=None, windows="kernel"):
        """The operator of a pair; a SettingError says which names there are, or why a pair is not defined."""
        for what, name, known in (("strategy", strategy, self.strategies), ("windows", windows, self.schemes)):
            if not isinstance(name, str) or name not in known:
                raise SettingError(unknown_name("pool", what, name, known))
        pair = (strategy, windows)
        if pair in self.refused:
            raise SettingError(
                f"pool: strategy={strategy!r} on windows={windows!r} is not defined: {self.refused[pair]}"
            )
        if pair in self._rows:
            return self._rows[pair]
        if pair not in self._made:
            name = self._name(*pair)
            self._made[pair] = pooling_schema(
                name,
                self.strategies[strategy],
                self.schemes[windows],
                literature=("P00",),
                example=f"""
                    >>> import cnncore
                    >>> cnncore.pool.operator({strategy!r}, {windows!r}).name
                    {name!r}
                """,
            )
        return self._made[pair]

    def table(self):
        """The grid in Markdown: strategies × schemes, the names of operators with schemas of their own, and what is refused."""
        rows = self._cells("`{}`".format)
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + "---|" * len(rows[0]))
        return "\n".join([*lines, "", *(note and f"{note}  " for note in self._notes())])

    def plain_table(self):
        """The same for a terminal, in columns."""
        rows = self._cells(str)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, "", *self._notes()])

    def _cells(self, code):
        """The cells of the grid, row by row, the heading first; ``code`` writes an operator's name."""
        reasons = list(dict.fromkeys(self.refused.values()))
        rows = [("strategy", *self.schemes)]
        for strategy in self.strategies:
            cells = [strategy]
            for windows in self.schemes:
                pair = (strategy, windows)
                if pair in self.refused:
                    cells.append(f"– ({reasons.index(self.refused[pair]) + 1})")
                else:
                    cells.append(code(self._rows[pair].name) if pair in self._rows else "✓")
            rows.append(cells)
        return rows

    def _notes(self):
        """What the columns and the numbers in the cells mean."""
        reasons = dict.fromkeys(self.refused.values())
        return [
            *(f"{scheme.name}: {scheme.phrase}." for scheme in self.schemes.values()),
            "",
            *(f"({number}) {reason}" for number, reason in enumerate(reasons, 1)),
        ]

    def find(self, name):
        """The operator called ``name``, or None where no pair is."""
        return self.operator(*self._names[name]) if name in self._names else None

    def _name(self, strategy, windows):
        row = self._rows.get((strategy, windows))
        return f"{self.schemes[windows].prefix}{strategy}_pool" if row is None else row.name

    def _reason(self, strategy, windows):
        """Why a pair is not defined; "" where it is."""
        s, w = self.strategies[strategy], self.schemes[windows]
        return f"{s.kernel_text}, and {w.why_no_kernel}" if s.needs_kernel and w.kernel is None else ""

    def __repr__(self):
        return f"<pooling: {len(self.strategies)} strategies on {len(self.schemes)} schemes of windows>"


class Pairs(Mapping):
    """(strategy, windows) → operator, made when asked for."""

    def __init__(self, grid, names):
        self._grid, self._pairs = grid, names

    def __getitem__(self, pair):
        if pair not in self._pairs:
            raise KeyError(pair)
        return self._grid.operator(*pair)

    def __iter__(self):
        return iter(self._pairs)

    def __len__(self):
        return len(self._pairs)
