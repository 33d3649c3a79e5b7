"""Operators on arrays: arithmetic with broadcasting, reductions, matrix products, and reshaping."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from ...checks import integer
from ...errors import SettingError, ShapeError
from .. import geometry
from ..activation import reference as activation
from ..activation.elementwise import with_few_axes
from ..operator import Implementation
from ..shape.implementation import MOST_AXES, moved
from . import reduction
from .products import product

__all__ = [
    "MOST_AXES",
    "ArangeLike",
    "Constant",
    "Expand",
    "Gather",
    "MatrixProduct",
    "Pairwise",
    "Reduction",
    "Reshape",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "axis_list",
    "broadcast",
    "chosen_axes",
    "extent_list",
    "gathered_list",
    "spread",
    "summed_to",
    "target_list",
]

MOST_COMPUTED_AXES = 5  # N, C and three spatial axes


# ── Settings ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _several(place, name, value, minimum):
    if not isinstance(value, (tuple, list)):
        value = (value,)
    return tuple(integer(place, name, v, minimum) for v in value)


def axis_list(place, name, value):
    """A check that a setting is an axis or several different ones; None stays."""
    if value is None:
        return None
    axes = _several(place, name, value, -MOST_AXES)
    if len(set(axes)) < len(axes):
        raise SettingError(f"{place}: {name} {axes} names an axis twice")
    return axes


def chosen_axes(place, name, value):
    """A check that a setting is an axis or several different ones."""
    if value is None:
        raise SettingError(f"{place}: {name} must be an integer or a sequence of integers, got None")
    return axis_list(place, name, value)


def extent_list(minimum, optional=False):
    """A check that a setting is a sequence of extents; None stays where it is ``optional``."""

    def check(place, name, value):
        if value is None and optional:
            return None
        extents = _several(place, name, value, minimum)
        if len(extents) > MOST_AXES:
            raise SettingError(f"{place}: {name} has {len(extents)} entries {extents}; expected at most {MOST_AXES}")
        return extents

    return check


def target_list(place, name, value):
    """A check of reshape's target: extents, 0, one −1, and ("axis", i, …) for the product of extents of x; None."""
    if value is None:
        return None
    entries = value if isinstance(value, (tuple, list)) and value[:1] not in (("axis",), ["axis"]) else (value,)
    if len(entries) > MOST_AXES:
        raise SettingError(f"{place}: {name} has {len(entries)} entries; expected at most {MOST_AXES}")
    checked = []
    for entry in entries:
        if isinstance(entry, (tuple, list)):
            if len(entry) < 2 or entry[0] != "axis":
                raise SettingError(
                    f"{place}: {name} has the entry {entry!r}; expected an integer, or ('axis', i) for the extent of x "
                    "along axis i"
                )
            checked.append(("axis", *(integer(place, name, i, 0, MOST_AXES - 1) for i in entry[1:])))
        else:
            checked.append(integer(place, name, entry, -1))
    if checked.count(-1) > 1:
        raise SettingError(f"{place}: {name} {tuple(checked)} leaves more than one extent to be inferred; use -1 once")
    return tuple(checked)


def gathered_list(place, name, value):
    """A check that a setting is an integer or a sequence of integers: a tuple, list, range or array of one axis."""
    if isinstance(value, np.ndarray):
        if value.ndim > 1 or (value.size and value.dtype.kind not in "iu"):
            raise SettingError(
                f"{place}: {name} must be an integer or a one-dimensional sequence of integers, got {value.dtype} of "
                f"shape {value.shape}"
            )
        value = value.tolist()
    if isinstance(value, (tuple, list, range)):
        if not len(value):
            raise SettingError(f"{place}: {name} is empty; give at least one index")
        return tuple(integer(place, name, v, None) for v in value)
    return integer(place, name, value, None)


def axes_within(op, axes, rank, what):
    """Axes as numbers from 0 on."""
    for axis in axes:
        if not -rank <= axis < rank:
            raise SettingError(f"{op.name}: axis {axis} does not exist in {what}; use {-rank} to {rank - 1}")
    found = tuple(axis % rank for axis in axes)
    if len(set(found)) < len(found):
        raise SettingError(f"{op.name}: axes {tuple(axes)} name an axis of {what} twice")
    return found


def check_axes(op, x, most):
    """Raise unless x has no more axes than can be handled."""
    if len(x) > most:
        raise ShapeError(f"{op.name}: input has {len(x)} dimensions {x}; expected at most {most}: reshape it first")


def check_gradient_fits(op, x, dtype):
    """Raise where x, or dx, which is as large and larger than y, would have too many values."""
    if None not in x:
        geometry.checked_bytes(op.name, x, dtype.itemsize)


# ── Broadcasting ───────────────────────────────────────────────────────────────────────────────────────────────────────


def broadcast(op, shapes, most=MOST_AXES):
    """The common shape of several, as NumPy broadcasts them; an extent that is open in all (but 1 in some) stays open."""
    rank = max(map(len, shapes))
    if rank > most:
        raise ShapeError(
            f"{op.name}: arrays {shapes} have {rank} dimensions; expected at most {most}: reshape them first"
        )
    output = []
    for axis in range(-rank, 0):
        extents = {s[axis] for s in shapes if len(s) >= -axis} - {1}
        known = extents - {None}
        if len(known) > 1:
            raise ShapeError(
                f"{op.name}: arrays of shapes {' and '.join(map(str, shapes))} do not broadcast: along axis {axis} "
                f"they have {' and '.join(map(str, sorted(known)))}; extents must be equal, or 1"
            )
        output.append(known.pop() if known else None if extents else 1)
    return tuple(output)


def spread(x, shape_):
    """x as an array of a larger shape, without copying."""
    return x if x.shape == shape_ else np.broadcast_to(x, shape_)


def summed_to(x, out):
    """Write into ``out`` the sums of x over the axes along which ``out`` was broadcast to x's shape."""
    padded = out[(None,) * (x.ndim - out.ndim)]
    if padded.shape == x.shape:
        moved(x, padded)
    elif x.ndim <= MOST_COMPUTED_AXES:
        reduction.forward(reduction.SUM, x, padded)
    else:
        repeated = tuple(axis for axis, H in enumerate(padded.shape) if x.shape[axis] != H)
        geometry.assign(padded, np.expand_dims(geometry.summed(x, repeated, np.longdouble), repeated))


@dataclass(frozen=True)
class Pairwise(Implementation):
    """y = f(x, z) of arrays that broadcast; ``other`` has the slope with respect to z; ``reads``: what both need."""

    function: activation.Activation
    other: activation.Activation
    reads: tuple[str, ...] = ("x", "z")

    per_image = True
    in_place = True

    @property
    def saves(self):
        return self.reads

    def infer(self, op, shapes, dtype, settings):
        return broadcast(op, shapes), None

    def forward(self, call, arrays, out=None):
        x, z = arrays
        y = call.empty(out)
        for part_x, part_y, part_z in with_few_axes(spread(x, y.shape), y, spread(z, y.shape)):
            activation.forward(self.function, (0.0,), part_x, part_y, part_z, True)
        return y, (), (x, z)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, z = (spread(a, call.output) for a in saved)
        gradients = call.gradients(needs_gradient, out)
        # Where x's gradient is written over dy, that of z is not asked for.
        for argument in (1, 0):
            gradient = gradients[argument]
            if gradient is None:
                continue
            whole = gradient if gradient.shape == call.output else np.empty(call.output, call.dtype)
            for part_x, part_dy, part, part_z in with_few_axes(x, dy, whole, z):
                activation.backward(
                    self.other if argument else self.function, (0.0,), part_x, part_dy, part, part_z, True
                )
            if whole is not gradient:
                summed_to(whole, gradient)
        return gradients

    def splits_batch(self, call):
        return all(len(s) == len(call.output) and s[:1] == call.output[:1] for s in call.shapes)

    def receptive_window(self, call):
        return ((1, 1),) * max(len(call.output) - 2, 0)


def target_shape(op, shapes, settings):
    """The shape asked for: a setting, or that of the second array."""
    like = shapes[1] if len(shapes) > 1 else None
    if (like is None) == (settings["shape"] is None):
        raise SettingError(
            f"{op.name}: give either shape or the array like, got shape={settings['shape']} and like {like}"
        )
    return settings["shape"] if like is None else like


class Expand(Implementation):
    """Broadcasts x: repeats it along axes of extent 1, and along new axes before its own."""

    saves = ()

    def infer(self, op, shapes, dtype, settings):
        x = shapes[0]
        target = target_shape(op, shapes, settings)
        rank = max(len(x), len(target))
        check_axes(op, x, MOST_AXES)
        wide = (1,) * (rank - len(target)) + tuple(target)
        own = (1,) * (rank - len(x)) + tuple(x)
        for axis, (H, extent) in enumerate(zip(own, wide, strict=True)):
            if H not in (None, 1) and extent not in (None, 1, H):
                raise ShapeError(
                    f"{op.name}: input {x} has extent {H} along an axis for which {extent} is asked (axis {axis} of "
                    f"{target}); only an extent of 1 can be expanded"
                )
        output = tuple(H if extent == 1 or H not in (None, 1) else extent for H, extent in zip(own, wide, strict=True))
        check_axes(op, output, MOST_AXES)
        return output, None

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        moved(spread(arrays[0], y.shape), y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        summed_to(dy, dx)
        return (dx, *(None,) * (len(call.shapes) - 1))

    def receptive_window(self, call):
        return ((1, 1),) * max(len(call.output) - 2, 0) if len(call.output) == len(call.shapes[0]) else None


# ── Reductions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Reduction(Implementation):
    """A reduction over ``axes``; geometry: the axes from 0 on."""

    function: reduction.Reduction

    per_image = True

    @property
    def saves(self):
        return () if self.function in (reduction.SUM, reduction.MEAN) else ("x",)

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        check_axes(op, x, MOST_AXES)
        check_gradient_fits(op, x, dtype)
        axes = tuple(range(len(x))) if settings["axes"] is None else settings["axes"]
        axes = axes_within(op, axes, len(x), f"input {x}")
        if any(x[axis] == 0 for axis in axes):
            raise ShapeError(f"{op.name}: input {x} has no values along axes {axes}; there is nothing to reduce")
        if settings["keepdims"]:
            return tuple(1 if axis in axes else H for axis, H in enumerate(x)), axes
        return tuple(H for axis, H in enumerate(x) if axis not in axes), axes

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        whole = self.with_all_axes(call, y)
        if x.ndim <= MOST_COMPUTED_AXES:
            reduction.forward(self.function, x, whole)
        else:
            made = np.empty((whole.size, 1), call.dtype)
            reduction.forward(self.function, self.rows(call, x), made)
            geometry.assign(whole, made.reshape(whole.shape))
        return y, (), (x if self.saves else None,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        x = dx if saved[0] is None else saved[0]  # sums do not look at it
        if saved[0] is None:
            geometry.fill_zero(dx)
        whole = self.with_all_axes(call, dy)
        if x.ndim <= MOST_COMPUTED_AXES:
            reduction.backward(self.function, x, whole, dx)
            return (dx,)
        rows = self.rows(call, x)
        made = np.empty(rows.shape, call.dtype)
        reduction.backward(self.function, rows, geometry.contiguous(whole).reshape(-1, 1), made)
        order = self.kept_first(call)
        geometry.assign(dx.transpose(order), made.reshape([x.shape[axis] for axis in order]))
        return (dx,)

    @staticmethod
    def kept_first(call):
        """The axes that stay, then those that are reduced."""
        axes = range(len(call.shapes[0]))
        return [*(axis for axis in axes if axis not in call.geometry), *sorted(call.geometry)]

    def rows(self, call, x):
        """x of many axes as (results, values of each)."""
        ordered = geometry.contiguous(x.transpose(self.kept_first(call)))
        return ordered.reshape(-1, math.prod(x.shape[axis] for axis in call.geometry))

    @staticmethod
    def with_all_axes(call, y):
        """y with an axis of extent 1 for every axis that was reduced."""
        return y if y.ndim == len(call.shapes[0]) else np.expand_dims(y, call.geometry)

    def splits_batch(self, call):
        return 0 not in call.geometry

    def receptive_window(self, call):
        return None


# ── Products of matrices ───────────────────────────────────────────────────────────────────────────────────────────────


class MatrixProduct(Implementation):
    """The matrix products over the last two axes of x and z, the others broadcast."""

    per_image = True
    saves = ("x", "z")

    def infer(self, op, shapes, dtype, settings):
        x, z = shapes
        for name, s in zip("xz", shapes, strict=True):
            if not 2 <= len(s) <= MOST_COMPUTED_AXES:
                raise ShapeError(
                    f"{op.name}: {name} has {len(s)} dimensions {s}; expected 2 to {MOST_COMPUTED_AXES}, the last two "
                    "those of the matrices"
                )
        if x[-1] is not None and z[-2] is not None and x[-1] != z[-2]:
            raise ShapeError(
                f"{op.name}: x {x} has {x[-1]} columns and z {z} has {z[-2]} rows; these must be equal: transpose one?"
            )
        return (*broadcast(op, (x[:-2], z[:-2]), MOST_COMPUTED_AXES), x[-2], z[-1]), None

    def forward(self, call, arrays, out=None):
        x, z = arrays
        y = call.empty(out)
        product(x, z, y)
        return y, (), (x, z)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, z = saved
        gradients = call.gradients(needs_gradient, out)
        factors = ((dy, z.swapaxes(-1, -2)), (x.swapaxes(-1, -2), dy))
        for (left, right), gradient in zip(factors, gradients, strict=True):
            if gradient is not None:
                summed_to(product(left, right), gradient)
        return gradients

    def splits_batch(self, call):
        return len(call.output) > 2 and all(len(s) == len(call.output) and s[0] == call.output[0] for s in call.shapes)

    def multiply_adds(self, call):
        return math.prod(call.output) * call.shapes[0][-1]

    def receptive_window(self, call):
        return None


# ── Moving values ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Reshape(Implementation):
    """The values of x in row-major order, in another shape."""

    saves = ()

    def target(self, op, x, entries_, settings):
        """The extents asked for: an integer, None where open, and −1 for the one to be found."""
        entries = []
        for place, entry in enumerate(entries_):
            if entry is None:  # an open extent of the other array
                entries.append(None)
                continue
            if entry == 0 and settings["allow_zero"]:
                entries.append(0)
                continue
            axes = (place,) if entry == 0 else entry[1:] if isinstance(entry, tuple) else ()
            if not axes:
                entries.append(entry)
                continue
            if max(axes) >= len(x):
                raise SettingError(f"{op.name}: shape asks for axis {max(axes)} of input {x}, which has {len(x)} axes")
            entries.append(None if any(x[a] is None for a in axes) else math.prod(x[a] for a in axes))
        return entries

    def infer(self, op, shapes, dtype, settings):
        x = shapes[0]
        check_axes(op, x, MOST_AXES)
        asked = target_shape(op, shapes, settings)
        target = self.target(op, x, asked, settings)
        if None in x or None in target:
            known_x, known_y = self.without_shared(x, target, asked)
            if -1 in target and None not in known_x and None not in known_y and 0 not in known_y:
                known = math.prod(e for e in known_y if e != -1)
                if math.prod(known_x) % known == 0:
                    target[target.index(-1)] = math.prod(known_x) // known
            return tuple(None if e == -1 else e for e in target), None
        values = math.prod(x)
        if -1 in target:
            rest = math.prod(e for e in target if e != -1)
            if rest == 0 or values % rest:
                raise ShapeError(
                    f"{op.name}: the {values} values of input {x} do not fit shape {asked}: {values} is not a "
                    f"multiple of {rest}"
                )
            target[target.index(-1)] = values // rest
        if math.prod(target) != values:
            raise ShapeError(
                f"{op.name}: the {values} values of input {x} do not fit shape {tuple(target)}, which has "
                f"{math.prod(target)}"
            )
        return tuple(target), None

    @staticmethod
    def without_shared(x, target, asked):
        """Extents of x and of the target without those that the target takes from x: they cancel."""
        taken, kept = set(), []
        for place, (entry, extent) in enumerate(zip(asked, target, strict=True)):
            axes = entry[1:] if isinstance(entry, tuple) else (place,) if entry == 0 else ()
            if axes and taken.isdisjoint(axes):
                taken.update(axes)
            else:
                kept.append(extent)
        return [H for axis, H in enumerate(x) if axis not in taken], kept

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        self.pass_on(arrays[0], y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        self.pass_on(dy, dx)
        return (dx, *(None,) * (len(call.shapes) - 1))

    @staticmethod
    def pass_on(x, y):
        """Write the values of x into y in row-major order."""
        if y.flags.c_contiguous:
            moved(x, y.reshape(x.shape))
        else:
            moved(x.reshape(y.shape), y)

    def splits_batch(self, call):
        x, y = call.shapes[0], call.output
        asked = call.settings["shape"]
        return bool(x) and bool(y) and x[0] == y[0] and (asked is None or asked[0] in (0, ("axis", 0)))

    def receptive_window(self, call):
        return None


class Squeeze(Reshape):
    """Removes axes of extent 1."""

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        check_axes(op, x, MOST_AXES)
        if settings["axes"] is None:
            axes = tuple(axis for axis, H in enumerate(x) if H == 1)
        else:
            axes = axes_within(op, settings["axes"], len(x), f"input {x}")
        for axis in axes:
            if x[axis] not in (None, 1):
                raise ShapeError(
                    f"{op.name}: input {x} has extent {x[axis]} along axis {axis}; only an axis of extent "
                    f"1 can be removed"
                )
        return tuple(H for axis, H in enumerate(x) if axis not in axes), axes

    def splits_batch(self, call):
        return bool(call.output) and 0 not in call.geometry


class Unsqueeze(Reshape):
    """Inserts axes of extent 1."""

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        rank = len(x) + len(settings["axes"])
        axes = axes_within(op, settings["axes"], rank, f"a result of {rank} dimensions")
        check_axes(op, (1,) * rank, MOST_AXES)
        rest = iter(x)
        return tuple(1 if axis in axes else next(rest) for axis in range(rank)), axes

    def splits_batch(self, call):
        return 0 not in call.geometry


class Transpose(Implementation):
    """Permutes the axes of x; geometry: the permutation and its inverse."""

    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        check_axes(op, x, MOST_AXES)
        axes = tuple(reversed(range(len(x)))) if settings["axes"] is None else settings["axes"]
        axes = axes_within(op, axes, len(x), f"input {x}")
        if len(axes) != len(x):
            raise SettingError(f"{op.name}: axes {axes} has {len(axes)} entries; input {x} has {len(x)} axes: name all")
        return tuple(x[axis] for axis in axes), (axes, tuple(np.argsort(axes).tolist()))

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        moved(arrays[0].transpose(call.geometry[0]), y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        moved(dy.transpose(call.geometry[1]), dx)
        return (dx,)

    def splits_batch(self, call):
        return call.geometry[0][:1] == (0,)

    def receptive_window(self, call):
        axes = call.geometry[0]
        return ((1, 1),) * (len(axes) - 2) if axes == tuple(range(len(axes))) else None


class Tile(Implementation):
    """Repeats x along each axis."""

    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        check_axes(op, x, MOST_AXES)
        repeats = settings["repeats"]
        if len(repeats) != len(x):
            raise SettingError(f"{op.name}: repeats {repeats} has {len(repeats)} entries; input {x} has {len(x)} axes")
        return tuple(None if H is None else H * r for H, r in zip(x, repeats, strict=True)), None

    @staticmethod
    def apart(call, y):
        """y as (copies, extent) per axis."""
        pairs = zip(call.settings["repeats"], call.shapes[0], strict=True)
        return y.reshape(tuple(itertools.chain.from_iterable(pairs)))

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        own = arrays[0].shape
        once = arrays[0].reshape(tuple(itertools.chain.from_iterable((1, H) for H in own)))
        geometry.assign(self.apart(call, y), once)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        geometry.assign(dx, geometry.summed(self.apart(call, dy), tuple(range(0, 2 * dx.ndim, 2))))
        return (dx,)

    def splits_batch(self, call):
        return call.settings["repeats"][:1] == (1,)

    def receptive_window(self, call):
        return None


class Gather(Implementation):
    """The entries at given indices along an axis; geometry: the axis, and the indices from 0 on."""

    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        check_axes(op, x, MOST_AXES)
        check_gradient_fits(op, x, dtype)
        (axis,) = axes_within(op, (settings["axis"],), len(x), f"input {x}")
        indices = settings["indices"]
        alone = isinstance(indices, int)
        output = (*x[:axis], *(() if alone else (len(indices),)), *x[axis + 1 :])
        if x[axis] is None:
            return output, None
        places = (indices,) if alone else indices
        for i in places:
            if not -x[axis] <= i < x[axis]:
                raise SettingError(
                    f"{op.name}: index {i} is out of range for axis {axis} of input {x}; use {-x[axis]} to {x[axis] - 1}"
                )
        return output, (axis, tuple(i % x[axis] for i in places))

    def pairs(self, call, x, y):
        """What of x becomes what of y, place by place."""
        axis, places = call.geometry
        if isinstance(call.settings["indices"], int):
            y = np.expand_dims(y, axis)
        before = (slice(None),) * axis
        for number, i in enumerate(places):
            yield x[(*before, slice(i, i + 1))], y[(*before, slice(number, number + 1))]

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        for source, to in self.pairs(call, arrays[0], y):
            moved(source, to)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        geometry.fill_zero(dx)
        for to, source in self.pairs(call, dx, dy):
            for place in geometry.pieces(to.shape):
                to[place] += source[place]
        return (dx,)

    def splits_batch(self, call):
        return call.geometry[0] > 0

    def receptive_window(self, call):
        return None


class ArangeLike(Implementation):
    """Evenly spaced numbers, as many as x has entries along an axis; geometry: that axis, from 0 on."""

    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        check_axes(op, x, MOST_AXES)
        (axis,) = axes_within(op, (settings["axis"],), len(x), f"input {x}")
        return (x[axis],), axis

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        for (place,) in geometry.pieces(y.shape):
            y[place] = call.settings["start"] + call.settings["step"] * np.arange(place.start, place.stop)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        return (None,)

    def receptive_window(self, call):
        return ()


class Constant(Implementation):
    """An array that does not depend on any other."""

    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (value,) = shapes
        check_axes(op, value, MOST_AXES)
        return tuple(value), None

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        moved(arrays[0], y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        moved(dy, dx)
        return (dx,)

    def receptive_window(self, call):
        return ()
