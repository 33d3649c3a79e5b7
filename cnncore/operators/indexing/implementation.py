"""Searching, gathering and scattering along axes, cumulative sums and products, triangular matrices, one-hot encoding."""

import math
from dataclasses import dataclass

import numpy as np

from ...errors import SettingError, ShapeError
from .. import geometry
from ..arrays.implementation import MOST_AXES, axes_within, broadcast, check_axes, check_gradient_fits
from ..comparison.implementation import WithoutGradient
from ..operator import Implementation
from . import reference

__all__ = [
    "Cumulative",
    "GatherElements",
    "GatherSlices",
    "NonMaxSuppression",
    "OneHot",
    "Place",
    "ScatterElements",
    "ScatterSlices",
    "TopK",
    "Triangle",
]


def axis_of(op, x, settings):
    """The axis of a call, from 0 on; x has an extent there that is known and not 0, or open."""
    check_axes(op, x, MOST_AXES)
    if not x:
        raise ShapeError(f"{op.name}: input is a scalar without axes; expected 1 to {MOST_AXES} dimensions")
    (axis,) = axes_within(op, (settings["axis"],), len(x), f"input {x}")
    return axis


def without(x, axis, extent=None):
    """Extents without that of an axis, or with another one there."""
    return (*x[:axis], *(() if extent is None else (extent,)), *x[axis + 1 :])


# ── Along an axis ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Place(WithoutGradient):
    """The index of the largest or smallest value along an axis; geometry: the axis."""

    largest: bool

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        axis = axis_of(op, x, settings)
        check_gradient_fits(op, x, dtype)
        if x[axis] == 0:
            raise ShapeError(f"{op.name}: input {x} has no values along axis {axis}; an index needs at least one")
        return without(x, axis, 1 if settings["keepdims"] else None), axis

    def forward(self, call, arrays, out=None):
        (x,), axis = arrays, call.geometry
        y = call.empty(out)
        if y.size:
            line = y[(slice(None),) * axis + (0, ...)] if call.settings["keepdims"] else y
            reference.place(self.largest, call.settings["last"], axis, x, line)
        return y, (), ()

    def splits_batch(self, call):
        return call.geometry > 0

    def receptive_window(self, call):
        return None


class TopK(Implementation):
    """The k largest or smallest values along an axis, in order, and their indices; geometry: the axis."""

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        axis, k = axis_of(op, x, settings), settings["k"]
        check_gradient_fits(op, x, dtype)
        if k is None:
            return x, axis
        if x[axis] is not None and k > x[axis]:
            raise ShapeError(
                f"{op.name}: k={k} exceeds the {x[axis]} values along axis {axis} of input {x}; use k ≤ {x[axis]}"
            )
        return without(x, axis, k), axis

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y, indices = call.empty(out), np.empty(call.output, np.int64)
        if y.size:
            reference.best(call.settings["largest"], call.geometry, x, y, indices)
        return y, ((indices,) if call.settings["return_indices"] else ()), indices

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        axis = call.geometry
        geometry.fill_zero(dx)
        for place in geometry.pieces(saved.shape, axis):
            lines = dx[(*place[:axis], slice(None), *place[axis + 1 :])]
            np.put_along_axis(lines, saved[place], dy[place], axis)
        return (dx,)

    def returns_indices(self, call):
        return call.settings["return_indices"]

    def splits_batch(self, call):
        return call.geometry > 0 and not call.settings["return_indices"]

    def receptive_window(self, call):
        return None


@dataclass(frozen=True)
class Cumulative(Implementation):
    """Cumulative sums or products along an axis; geometry: the axis."""

    product: bool

    per_image = True

    @property
    def saves(self):
        return ("x",) if self.product else ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        return x, axis_of(op, x, settings)

    def forward(self, call, arrays, out=None):
        (x,), s = arrays, call.settings
        y = call.empty(out)
        if y.size:
            accumulate = reference.cumulative_product if self.product else reference.cumulative_sum
            accumulate(s["exclusive"], s["reverse"], call.geometry, x, y)
        return y, (), (x if self.product else None,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        s = call.settings
        dx = call.gradient(0, out and out[0])
        if not dx.size:
            return (dx,)
        if self.product:
            reference.cumulative_product_gradient(s["exclusive"], s["reverse"], call.geometry, saved[0], dy, dx)
        else:
            reference.cumulative_sum(s["exclusive"], not s["reverse"], call.geometry, dy, dx)
        return (dx,)

    def splits_batch(self, call):
        return call.geometry > 0

    def receptive_window(self, call):
        return None


# ── Triangles ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Triangle(Implementation):
    """The triangular part of the matrices in the last two axes."""

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (x,) = shapes
        check_axes(op, x, MOST_AXES)
        if len(x) < 2:
            raise ShapeError(
                f"{op.name}: input has {len(x)} dimensions {x}; expected 2 to {MOST_AXES}, the last two a matrix"
            )
        return x, None

    @staticmethod
    def keep(call, x, y):
        """Write x into y where i − j is on the side that stays."""
        for place in geometry.pieces(x.shape):
            rows, columns = np.ogrid[place[-2:]]
            beyond = columns - rows - call.settings["diagonal"]
            y[place] = 0
            np.copyto(y[place], x[place], where=beyond >= 0 if call.settings["upper"] else beyond <= 0)

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        self.keep(call, arrays[0], y)
        return y, (), ()

    def backward(self, call, saved, dy, needs_gradient, out=None):
        dx = call.gradient(0, out and out[0])
        self.keep(call, dy, dx)
        return (dx,)

    def splits_batch(self, call):
        return len(call.output) > 2

    def receptive_window(self, call):
        return None


class OneHot(Implementation):
    """``on`` in the place that an integer names along a new axis, ``off`` in all others; geometry: the axis."""

    per_image = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        (indices,) = shapes
        check_axes(op, (*indices, 1), MOST_AXES)
        rank = len(indices) + 1
        (axis,) = axes_within(op, (settings["axis"],), rank, f"a result of {rank} dimensions")
        return (*indices[:axis], settings["depth"], *indices[axis:]), axis

    def forward(self, call, arrays, out=None):
        (indices,), depth, axis = arrays, call.settings["depth"], call.geometry
        y = call.empty(out)
        indices = np.expand_dims(indices, axis)
        geometry.assign(y, call.settings["off"])
        for place in geometry.pieces(indices.shape):
            named = np.where(indices[place] < 0, indices[place] + depth, indices[place])
            self.mark(y, place, axis, named, call.settings["on"])
        return y, (), ()

    @staticmethod
    def mark(y, place, axis, named, on):
        """Write ``on`` where the indices of a piece name one of the classes."""
        depth = y.shape[axis]
        lines = y[(*place[:axis], slice(None), *place[axis + 1 :])]
        inside = (named >= 0) & (named < depth)
        if inside.all():
            np.put_along_axis(lines, named, on, axis)
            return
        at = list(np.nonzero(inside))
        at[axis] = named[inside]
        lines[tuple(at)] = on

    def backward(self, call, saved, dy, needs_gradient, out=None):
        return (None,)

    def splits_batch(self, call):
        return call.geometry > 0

    def receptive_window(self, call):
        return None


# ── Taken from positions, put there ────────────────────────────────────────────────────────────────────────────────────


def checked_positions(op, indices, extents):
    """Integers that count along axes of ``extents``, the last axis of ``indices``, as one number each in row-major order."""
    at = np.zeros(indices.shape[:-1], np.int64)
    for place in geometry.pieces(at.shape):
        piece = at[(*place, ...)]
        for number, extent in enumerate(extents):
            named = indices[(*place, ..., number)]
            if named.size and not -extent <= named.min() <= named.max() < extent:
                wrong = named.max() if named.max() >= extent else named.min()
                raise SettingError(
                    f"{op.name}: indices hold {wrong}, which is out of range for an axis of extent {extent}; use {-extent} "
                    f"to {extent - 1}"
                )
            piece *= extent
            piece += np.where(named < 0, named + extent, named)
    return at


class Positions(Implementation):
    """Rows (P, S) of x that are taken, or that rows of updates are put to."""

    per_image = False
    saves: tuple[str, ...] | None = None

    def rows(self, call, x):
        """x as (P, S), in memory of its own where it is not contiguous."""
        return geometry.contiguous(x).reshape(self.layout(call))

    def receptive_window(self, call):
        return None


class Taking(Positions):
    """y = rows of x; saved: which."""

    saves = ("indices",)

    def forward(self, call, arrays, out=None):
        x, indices = arrays
        at = self.positions(call, indices)
        y = call.empty(out)
        rows = y if y.flags.c_contiguous else np.empty(y.shape, y.dtype)
        columns = self.layout(call)[1]
        reference.take(self.rows(call, x), at, rows.reshape(len(at), columns))
        if rows is not y:
            geometry.assign(y, rows)
        return y, (), (at,)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        if not needs_gradient[0]:
            return (None, None)
        (at,) = saved
        dx = call.gradient(0, out and out[0])
        P, S = self.layout(call)
        rows = dx if dx.flags.c_contiguous else np.empty(dx.shape, dx.dtype)
        geometry.fill_zero(rows)
        reference.put("add", rows.reshape(P, S), at, geometry.contiguous(dy).reshape(len(at), S))
        if rows is not dx:
            geometry.assign(dx, rows)
        return (dx, None)


class Putting(Positions):
    """y = x with rows put to positions, one after the other; saved: x, the updates, and which rows."""

    saves = ("x", "indices", "updates")

    def forward(self, call, arrays, out=None):
        x, indices, updates = arrays
        at = self.positions(call, indices)
        P, S = self.layout(call)
        y = call.empty(out)
        rows = y if y.flags.c_contiguous else np.empty(y.shape, y.dtype)
        geometry.assign(rows, x)
        u = geometry.contiguous(updates).reshape(len(at), S)
        reference.put(call.settings["reduction"], rows.reshape(P, S), at, u)
        if rows is not y:
            geometry.assign(y, rows)
        return y, (), (x, updates, at)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, updates, at = saved
        reduction, (P, S) = call.settings["reduction"], self.layout(call)
        dy = geometry.contiguous(dy).reshape(P, S)
        u = geometry.contiguous(updates).reshape(len(at), S)
        du = np.empty_like(u)
        reference.take(dy, at, du)
        dx = dy
        if reduction == "multiply":
            dx = np.empty_like(dy)
            self.of_factors(self.rows(call, x), u, at, dy, dx, du)
        elif reduction != "add":
            dx = np.empty_like(dy)
            self.of_winners(reduction, self.rows(call, x), u, at, dy, dx, du)
        gradients = call.gradients((needs_gradient[0], False, needs_gradient[2]), out)
        for gradient, found in ((gradients[0], dx), (gradients[2], du)):
            if gradient is not None:
                geometry.assign(gradient, found.reshape(gradient.shape))
        return gradients

    @staticmethod
    def of_winners(reduction, x, u, at, dy, dx, du):
        """Write dx, and 0 into du where another value than that of u stayed."""
        winner, values = np.empty(x.shape, np.int64), np.empty(x.shape, x.dtype)
        geometry.assign(winner, -1)
        geometry.assign(values, x)
        reference.put(reduction, values, at, u, winner)
        for place in geometry.pieces(dx.shape):
            dx[place] = np.where(winner[place] == -1, dy[place], 0)
        for rows, columns in geometry.pieces(du.shape):
            own = np.arange(rows.start, rows.start + len(at[rows]))[:, None]
            du[rows, columns][winner[at[rows], columns] != own] = 0

    @staticmethod
    def of_factors(x, u, at, dy, dx, du):
        """Write dx, and du over dy's rows: dy times all other factors, of which those that are 0 are counted and left out."""
        total, zeros, factors, counted = (np.empty(a.shape) for a in (x, x, u, u))
        for place in geometry.pieces(x.shape):
            zeros[place] = x[place] == 0
            total[place] = np.where(zeros[place], 1, x[place])
        for place in geometry.pieces(u.shape):
            counted[place] = u[place] == 0
            factors[place] = np.where(counted[place], 1, u[place])
        reference.put("multiply", total, at, factors)
        reference.put("add", zeros, at, counted)

        def of(factor, total, zeros, dy):
            rest = np.where(factor == 0, total, total / np.where(factor == 0, 1, factor))
            return dy * np.where(zeros - (factor == 0) > 0, 0, rest)

        with np.errstate(all="ignore"):
            for place in geometry.pieces(x.shape):
                dx[place] = of(x[place], total[place], zeros[place], dy[place])
            for rows, columns in geometry.pieces(u.shape):
                of_row = at[rows], columns
                du[rows, columns] = of(u[rows, columns], total[of_row], zeros[of_row], du[rows, columns])


def describe_elements(op, x, indices, settings):
    """The axis of a call whose indices name a place along it, and are at most as long as x along all others."""
    axis = axis_of(op, x, settings)
    if len(indices) != len(x):
        raise ShapeError(
            f"{op.name}: indices have {len(indices)} dimensions {indices} and input {x} has {len(x)}; the numbers must be equal"
        )
    for other, (H, count) in enumerate(zip(x, indices, strict=True)):
        if other != axis and None not in (H, count) and count > H:
            raise ShapeError(
                f"{op.name}: indices {indices} have {count} values along axis {other}, input {x} has {H}; use no more than that"
            )
    return axis


def positions_of_elements(call, x, indices):
    """The position in x, in row-major order, that each index names; geometry: the axis."""
    axis = call.geometry
    at = checked_positions(call.op, indices[..., None], x[axis : axis + 1])
    after = x[axis + 1 :]
    # Row-major: the place along the axis counts as many values as the axes after it have, and each axis its own.
    for place in geometry.pieces(at.shape):
        at[place] *= math.prod(after)
        grid = np.ogrid[place]
        for other in range(len(x)):
            if other != axis:
                at[place] += grid[other] * math.prod(x[other + 1 :])
    return at.reshape(-1)


class GatherElements(Taking):
    """For each index the value of x at that position of the axis, and at the index's own position along all others."""

    def infer(self, op, shapes, dtype, settings):
        x, indices = shapes
        check_gradient_fits(op, x, dtype)
        axis = describe_elements(op, x, indices, settings)
        return indices, axis

    def layout(self, call):
        return math.prod(call.shapes[0]), 1

    def positions(self, call, indices):
        return positions_of_elements(call, call.shapes[0], indices)


class ScatterElements(Putting):
    """x with each update at its index along the axis, and at its own position along all others."""

    def infer(self, op, shapes, dtype, settings):
        x, indices, updates = shapes
        axis = describe_elements(op, x, indices, settings)
        same_updates(op, updates, indices)
        return x, axis

    def layout(self, call):
        return math.prod(call.shapes[0]), 1

    def positions(self, call, indices):
        return positions_of_elements(call, call.shapes[0], indices)


def same_updates(op, updates, expected):
    if len(updates) != len(expected) or any(
        None not in (a, b) and a != b for a, b in zip(updates, expected, strict=False)
    ):
        raise ShapeError(f"{op.name}: updates have shape {updates}; these indices need {expected}")


def tuple_length(op, x, indices, batch=0):
    """How many axes of x the last axis of indices counts along, after those of the batch."""
    check_axes(op, x, MOST_AXES)
    check_axes(op, indices, MOST_AXES)
    if not indices or indices[-1] is None or not 1 <= indices[-1] <= len(x) - batch:
        raise ShapeError(
            f"{op.name}: indices {indices} must hold, along their last axis, an index for 1 to {len(x) - batch} axes of "
            f"input {x}" + (f" after the {batch} of the batch" if batch else "")
        )
    return indices[-1]


class GatherSlices(Taking):
    """For each tuple of indices the part of x at that position of its first axes, after the batch axes."""

    def infer(self, op, shapes, dtype, settings):
        x, indices = shapes
        batch = settings["batch_dims"]
        check_gradient_fits(op, x, dtype)
        if batch >= min(len(x), len(indices)):
            raise ShapeError(f"{op.name}: batch_dims={batch} of input {x} and indices {indices}; both need more axes")
        count = tuple_length(op, x, indices, batch)
        shared = broadcast(op, (x[:batch], indices[:batch]))
        if any(1 in pair and pair[0] != pair[1] for pair in zip(x[:batch], indices[:batch], strict=True)):
            raise ShapeError(f"{op.name}: the first {batch} extents of input {x} and indices {indices} must be equal")
        output = (*shared, *indices[batch:-1], *x[batch + count :])
        check_axes(op, output, MOST_AXES)
        return output, batch + count

    def layout(self, call):
        x, first = call.shapes[0], call.geometry
        return math.prod(x[:first]), math.prod(x[first:])

    def positions(self, call, indices):
        x, batch, first = call.shapes[0], call.settings["batch_dims"], call.geometry
        at = checked_positions(call.op, indices, x[batch:first])
        images = np.arange(math.prod(x[:batch])).reshape(*x[:batch], *[1] * (at.ndim - batch))
        return (images * math.prod(x[batch:first]) + at).reshape(-1)


class ScatterSlices(Putting):
    """x with each update at a position of the first axes."""

    def infer(self, op, shapes, dtype, settings):
        x, indices, updates = shapes
        count = tuple_length(op, x, indices)
        same_updates(op, updates, (*indices[:-1], *x[count:]))
        return x, count

    def layout(self, call):
        x, first = call.shapes[0], call.geometry
        return math.prod(x[:first]), math.prod(x[first:])

    def positions(self, call, indices):
        return checked_positions(call.op, indices, call.shapes[0][: call.geometry]).reshape(-1)


# ── Boxes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class NonMaxSuppression(WithoutGradient):
    """Which boxes of each class are kept: (image, class, box) of each, as many rows as there are."""

    per_image = False
    rows_vary = True

    def infer(self, op, shapes, dtype, settings):
        boxes, scores = shapes
        if len(boxes) != 3 or boxes[2] not in (None, 4):
            raise ShapeError(f"{op.name}: boxes have shape {boxes}; expected (N, S, 4), four numbers for each box")
        if len(scores) != 3:
            raise ShapeError(f"{op.name}: scores have shape {scores}; expected (N, C, S), one number per class and box")
        for axis, other, what in ((0, 0, "images"), (1, 2, "boxes")):
            if None not in (boxes[axis], scores[other]) and boxes[axis] != scores[other]:
                raise ShapeError(
                    f"{op.name}: boxes {boxes} have {boxes[axis]} {what}, scores {scores} have {scores[other]}; these must be "
                    "equal"
                )
        if None in (*boxes, *scores):
            return (None, 3), None
        return (scores[0] * scores[1] * min(settings["max_output_boxes"], scores[2]), 3), None

    def forward(self, call, arrays, out=None):
        boxes, scores = arrays
        corners = self.corners(boxes.astype(np.float64), call.settings["box_format"])
        rows = [
            (n, c, box)
            for n in range(scores.shape[0])
            for c in range(scores.shape[1])
            for box in self.kept(corners[n], scores[n, c], call.settings)
        ]
        y = np.array(rows, np.int64).reshape(-1, 3)
        if out is None:
            return y, (), ()
        out[: len(y)] = y
        return (out if len(y) == len(out) else out[: len(y)]), (), ()

    @staticmethod
    def corners(boxes, box_format):
        """Boxes as (least, largest) along two axes: (…, S, 2, 2)."""
        first, second = boxes[..., :2], boxes[..., 2:]
        if box_format == "center":
            first, second = first - second / 2, first + second / 2
        return np.stack([np.minimum(first, second), np.maximum(first, second)], -2)

    @staticmethod
    def kept(corners, scores, settings):
        """The boxes of one image and class that no better one covers, the best first."""
        order = np.argsort(-scores, kind="stable")
        above = scores[order] > (-np.inf if settings["score_threshold"] is None else settings["score_threshold"])
        waiting, kept = order[above], []
        area = np.prod(corners[:, 1] - corners[:, 0], axis=1)
        while len(waiting) and len(kept) < settings["max_output_boxes"]:
            best, waiting = waiting[0], waiting[1:]
            kept.append(int(best))
            low, high = (
                np.maximum(corners[best, 0], corners[waiting, 0]),
                np.minimum(corners[best, 1], corners[waiting, 1]),
            )
            shared = np.prod(np.maximum(high - low, 0), axis=1)
            union = area[best] + area[waiting] - shared
            with np.errstate(all="ignore"):
                covered = (shared > 0) & (shared / union > settings["iou_threshold"])
            waiting = waiting[~covered]
        return kept

    def splits_batch(self, call):
        return False

    def receptive_window(self, call):
        return None
