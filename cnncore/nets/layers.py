"""Layers: operators in a graph, the arrays that they own, and their initial values.

Everything is derived from the operator's schema: ``layer`` says which array arguments are parameters and which settings
determine them. No operator is named here.
"""

import functools
import inspect
import math
from typing import NamedTuple

import numpy as np

from ..checks import integer, present_name
from ..errors import GraphError, SettingError, ShapeError, shape_text, unknown_name
from ..operators import geometry
from ..operators.arrays.implementation import Constant
from ..operators.registry import OPS
from ..operators.schema import REQUIRED
from .initialisers import INITIALISERS, plain_fans

__all__ = [
    "INITIALISERS",
    "ParameterSpec",
    "bound",
    "declared",
    "operand_operator",
    "owned_arrays",
    "shape_text",
    "shared_as",
    "signature",
]


# ── Initialisers ───────────────────────────────────────────────────────────────────────────────────────────────────────
#
# fan in (fan out): the number of inputs that an output sums (of outputs that an input reaches); a weight has shape
# (outputs, inputs, *kernel).
#
#     he       Var w = 2 / fan in               keeps the variance through ReLU            He et al. 2015, arXiv:1502.01852
#     glorot   Var w = 2 / (fan in + fan out)   a compromise, forward and backward        Glorot & Bengio 2010, AISTATS
#     lecun    Var w = 1 / fan in               keeps the variance through linear layers  LeCun et al. 1998, Efficient BackProp
#
# The name alone means the normal distribution; "…_uniform" has the same variance on (−√(3 Var), √(3 Var)). "mean" is
# 1 / fan in everywhere: each output is the mean of its inputs.


# ── Arguments of a layer ───────────────────────────────────────────────────────────────────────────────────────────────


class ParameterSpec(NamedTuple):
    """An array that a node owns: its schema's ``Parameter``, for the node's settings and input.

    Nodes that share an array own specs of the same name, which differ in ``argument`` and ``update`` alone.
    """

    argument: int
    name: str  # in the net: that of the node and the argument, unless it is shared
    shape: tuple
    initial: str | float
    fans: tuple  # (fan in, fan out)
    update: int | None  # the extra output that replaces it in training
    decay: bool  # whether weight decay applies
    fixed: bool = False  # whether training leaves it unchanged
    declared: bool = False  # whether the graph declares it by itself, not by the first node that owns it
    in_files: str = ""  # dtype of its whole numbers in model files, where not that of the net

    @property
    def trained(self):
        """Whether it is a parameter; otherwise it is state, fixed or replaced by an extra output in training."""
        return self.update is None and not self.fixed


@functools.cache
def signature(op):
    """How ``op`` is called on a graph: values, required layer settings, its own settings, other layer settings."""
    by_name, by_position = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    made = [
        inspect.Parameter(a.name, by_position if not a.variadic else inspect.Parameter.VAR_POSITIONAL)
        for a in graph_arrays(op)
    ]
    only_named = by_name if op.variadic else by_position
    for s in ordered_settings(op):
        if s.default is not REQUIRED or only_named is by_name:
            made.append(inspect.Parameter(s.name, only_named, default=_shown_default(s)))
        else:
            made.append(inspect.Parameter(s.name, only_named))
    further = ("name", "activation", "share") if op.layer.parameters else ("name", "activation")
    made += [inspect.Parameter(name, by_name, default=None) for name in further]
    optional = False
    for place, parameter in enumerate(made):  # after an optional one, required ones are keyword-only
        if parameter.kind is by_position and parameter.default is inspect.Parameter.empty and optional:
            made[place] = parameter.replace(kind=by_name)
        optional = optional or parameter.default is not inspect.Parameter.empty
    made.sort(key=lambda parameter: parameter.kind)
    return inspect.Signature(made)


def _shown_default(setting):
    return inspect.Parameter.empty if setting.default is REQUIRED else setting.default


def graph_arrays(op):
    """The array arguments that come from the graph: those that the layer does not own."""
    owned = {p.name for p in op.layer.parameters}
    return tuple(a for a in op.arrays if a.name not in owned)


def ordered_settings(op):
    """Settings of the layer and its operator in the order of positional arguments."""
    required = [s for s in op.layer.settings if s.default is REQUIRED]
    others = [s for s in op.layer.settings if s.default is not REQUIRED]
    return (*required, *op.settings_list, *others)


def bound(path, op, arguments, keywords, is_value):
    """(values, settings) of a call of ``op`` on a graph: one value or None per array argument, and the settings given."""
    arrays = graph_arrays(op)
    keywords = dict(keywords)
    given = []
    for argument in arguments:
        if not is_value(argument) and not (
            argument is None and len(given) < len(arrays) and arrays[len(given)].optional
        ):
            break
        given.append(argument)
    rest = arguments[len(given) :]
    if rest and (isinstance(rest[0], np.ndarray) or (hasattr(rest[0], "__array__") and not np.isscalar(rest[0]))):
        raise GraphError(
            f"{path}: argument {len(given) + 1} is an array; a graph is built from values: start with g.input(…), "
            f"build a net, and pass the array to the net"
        )
    if not op.variadic:
        if len(given) > len(arrays):
            names = ", ".join(a.name for a in arrays)
            raise GraphError(f"{path}: takes {len(arrays)} value{'s' * (len(arrays) != 1)} ({names}), got {len(given)}")
        for a in arrays[len(given) :]:
            given.append(keywords.pop(a.name, None))
    for a, value in zip(arrays, given, strict=False):
        if value is None and not a.optional:
            raise GraphError(f"{path}: value {a.name!r} ({a.meaning}) is missing; call g.{op.name}{signature(op)}")
        if value is not None and not is_value(value):
            raise GraphError(f"{path}: {a.name} must be a value of the graph, got {type(value).__name__}")
    if len(given) < len(arrays):
        missing = arrays[len(given)]
        raise GraphError(
            f"{path}: value {missing.name!r} ({missing.meaning}) is missing; call g.{op.name}{signature(op)}"
        )
    names = [s.name for s in ordered_settings(op)]
    if rest and op.variadic:
        raise SettingError(f"{path}: {op.name} takes its settings by name; call g.{op.name}{signature(op)}")
    if len(rest) > len(names):
        raise SettingError(f"{path}: takes at most {len(names)} settings; call g.{op.name}{signature(op)}")
    settings = dict(zip(names, rest, strict=False))
    aliases = {s.alias: s.name for s in ordered_settings(op) if s.alias}
    for name, value in keywords.items():
        known = aliases.get(name, name)
        if known not in names:
            raise SettingError(unknown_name(path, "setting", name, names, "It takes"))
        if known in settings:
            raise SettingError(f"{path}: setting {known!r} is given twice, by position and by name")
        settings[known] = value
    return tuple(given), settings


def with_present_names(path, op, settings):
    """The settings of a node, those that are given by an earlier name of a value by that of today."""
    renamed = {s.name: s.renamed for s in op.settings_list if s.renamed}
    return {name: present_name(path, name, value, renamed.get(name, {})) for name, value in settings.items()}


def split_settings(path, op, settings):
    """(layer settings, operator settings): those of the layer checked and complete, those of the operator as given."""
    own = {}
    for s in op.layer.settings:
        value = settings.get(s.name, s.default)
        if value is REQUIRED:
            raise SettingError(f"{path}: setting {s.name!r} is missing ({s.meaning}); call g.{op.name}{signature(op)}")
        own[s.name] = value if s.check is None else s.check(path, s.name, value)
    return own, {name: value for name, value in settings.items() if name not in own}


def owned_arrays(path, op, shapes, settings):
    """The arrays that a node owns, from the shapes of its values: a tuple of :class:`ParameterSpec`."""
    own, passed = split_settings(path, op, settings)
    everything = {**op.full_settings(passed), **own}
    names = [a.name for a in op.arrays]
    made = []
    for row in op.layer.parameters:
        if row.when is not None and not everything[row.when]:
            continue
        if any(len(shape) < 2 for shape in shapes):
            raise ShapeError(
                f"{path}: input has {len(shapes[0])} dimensions {shape_text(shapes[0])}; expected (N, C, …)"
            )
        shape = tuple(row.shape(shapes, everything))
        if None in shape:
            raise ShapeError(
                f"{path}: {row.name} would have shape {shape_text(shape, batch=False)}, which depends on the image size, "
                f"which is open (input {shape_text(shapes[0])}); fix it with g.input(…, size=…), or apply global average "
                f"pooling before it"
            )
        shape = tuple(integer(path, f"extent of {row.name}", extent, 1) for extent in shape)
        geometry.checked_bytes(path, shape, 8)
        initial = everything.get(row.initial, row.initial) if isinstance(row.initial, str) else row.initial
        made.append(
            ParameterSpec(
                argument=names.index(row.name),
                name=f"{path}.{row.name}",
                shape=shape,
                initial=_checked_initial(path, initial),
                fans=(row.fans or plain_fans)(shape),
                update=row.update,
                decay=row.decay,
                fixed=not (everything[row.trained] if isinstance(row.trained, str) else row.trained),
                in_files=row.in_files,
            )
        )
    return tuple(made)


def operand_operator():
    """The operator that makes an array of the net a value of the graph."""
    return next(op for op in OPS.values() if isinstance(op.implementation, Constant))


def declared(path, shape, initial, decay, trained):
    """The spec of a parameter that a graph declares, for the arguments of any nodes."""
    shape = tuple(integer(path, "shape", extent, 1) for extent in shape)
    geometry.checked_bytes(path, shape, 8)
    initial = _checked_initial(path, initial)
    fans = plain_fans(shape)
    return ParameterSpec(0, path, shape, initial, fans, None, bool(decay), fixed=not trained, declared=True)


def shared_as(path, argument, own, known):
    """The spec of an argument whose array is ``known``, the spec of another node or a declared one; they must fit."""
    there = f"{path}: share: {argument} has shape {shape_text(own.shape, batch=False)}"
    if own.shape != known.shape:
        raise ShapeError(
            f"{there}, and {known.name} {shape_text(known.shape, batch=False)}; layers share arrays of one shape: give both "
            "the same settings, or share only those arguments that fit, as in share={'w': …}"
        )
    if (own.update is None) != (known.update is None):
        raise GraphError(
            f"{there} and {'is a parameter' if own.update is None else 'holds running statistics'}, unlike {known.name}; "
            "parameters are shared with parameters, running statistics with running statistics"
        )
    if own.fixed != known.fixed and not known.declared:
        raise GraphError(
            f"{there} and is {'not ' * own.fixed}trained, unlike {known.name}; give both layers the same settings"
        )
    return known._replace(argument=own.argument, update=own.update)


def _checked_initial(path, initial):
    if isinstance(initial, str):
        if initial not in INITIALISERS:
            raise SettingError(unknown_name(path, "initialiser", initial, INITIALISERS))
        return initial
    if isinstance(initial, bool) or not isinstance(initial, (int, float, np.number)) or not math.isfinite(initial):
        raise SettingError(f"{path}: an initialiser is a name or a finite number, got {initial!r}")
    return float(initial)
