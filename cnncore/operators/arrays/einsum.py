"""Einstein summation: an equation names the axes of every array, and products are summed over the axes that y does not have.

A product of two arrays is a matrix product: axes that both have and that stay are those of the batch, axes that both have
and that go are summed. More arrays are multiplied one after the other. The gradient of an array is such a sum itself, of dy
and the other arrays.
"""

import itertools
import math
import string
from typing import NamedTuple

import numpy as np

from ...errors import SettingError, ShapeError
from .. import geometry
from ..operator import Implementation
from . import products
from .implementation import MOST_AXES, check_axes

__all__ = ["EinsteinSum", "Labels", "equation", "labelled", "merged"]

ELLIPSIS = "..."


class Labels(NamedTuple):
    """The axes of every array and of y: letters, and −1, −2 … for the axes that "..." stands for, from the last one on."""

    terms: tuple[tuple[str | int, ...], ...]
    output: tuple[str | int, ...]


def equation(place, name, value):
    """A check that a setting is an equation: "ij,jk->ik", with "..." for any further axes; blanks are left out."""
    if not isinstance(value, str):
        raise SettingError(f"{place}: {name} must be a text such as 'ij,jk->ik', got {value!r}")
    text = "".join(value.split())
    left, arrow, right = text.partition("->")
    for part in (*left.split(","), right):
        letters = part.replace(ELLIPSIS, "", 1)
        wrong = next((c for c in letters if c not in string.ascii_letters), None)
        if wrong is not None:
            raise SettingError(
                f"{place}: {name} {value!r} has {wrong!r} in {part!r}; expected letters and one '...' for each array, "
                "such as 'ij,jk->ik'"
            )
    twice = next((c for c in right if c != "." and right.count(c) > 1), None)
    if twice is not None:
        raise SettingError(f"{place}: {name} {value!r} names the axis {twice!r} of the result twice")
    unknown = next((c for c in right if c != "." and c not in left), None)
    if unknown is not None:
        raise SettingError(
            f"{place}: {name} {value!r} has the axis {unknown!r} in its result and in none of its arrays"
        )
    if arrow and ELLIPSIS in right and ELLIPSIS not in left:
        raise SettingError(f"{place}: {name} {value!r} has '...' in its result and in none of its arrays")
    return text


def labelled(place, text, ranks):
    """The :class:`Labels` of an equation for arrays of this many axes."""
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        raise ShapeError(f"{place}: equation {text!r} has {len(parts)} terms; {len(ranks)} arrays are given")
    terms, most = [], 0
    for number, (part, rank) in enumerate(zip(parts, ranks, strict=True)):
        letters = part.replace(ELLIPSIS, "")
        others = rank - len(letters)
        if others < 0 or (others and ELLIPSIS not in part):
            raise ShapeError(
                f"{place}: array {number} has {rank} dimensions; its term {part!r} of equation {text!r} names {len(letters)}"
            )
        before = part.partition(ELLIPSIS)[0] if ELLIPSIS in part else part
        terms.append((*before, *range(-others, 0), *letters[len(before) :]))
        most = max(most, others)
    every = tuple(range(-most, 0))
    if arrow:
        before, dots, after = right.partition(ELLIPSIS)
        return Labels(tuple(terms), (*before, *(every if dots else ()), *after))
    # Without "->" the result has the axes that are named once, in alphabetical order.
    return Labels(tuple(terms), (*every, *sorted(c for c in set(left) - {",", "."} if left.count(c) == 1)))


def merged(labels, shapes, differs):
    """Label → extent, of all arrays: an extent of 1 gives way to others. ``differs(label, pair)`` raises for two that differ."""
    extents = {}
    for term, shape in zip(labels.terms, shapes, strict=True):
        own = {}
        for label, extent in zip(term, shape, strict=True):
            if None not in (extent, own.setdefault(label, extent)) and extent != own[label]:
                differs(label, (own[label], extent))
            known = extents.get(label, 1)
            if known == 1 or known is None:
                extents[label] = known if known is None and extent == 1 else extent
            elif extent is not None and extent not in (1, known):
                differs(label, (known, extent))
    return extents


def with_own_labels(x, labels):
    """x with each of its labels once: of one that stands twice, the diagonal, a view."""
    distinct = tuple(dict.fromkeys(labels))
    if len(distinct) == len(labels):
        return x, distinct
    shape = [x.shape[labels.index(label)] for label in distinct]
    steps = [sum(step for step, each in zip(x.strides, labels, strict=True) if each == label) for label in distinct]
    return np.lib.stride_tricks.as_strided(x, shape, steps), distinct


def without(x, labels, gone):
    """x summed over axes, in float64."""
    axes = tuple(i for i, label in enumerate(labels) if label in gone)
    if not axes:
        return x, labels
    total = geometry.summed(x, axes)
    return total.astype(x.dtype), tuple(label for label in labels if label not in gone)


def without_ones(x, labels, other, other_labels):
    """x without the axes of extent 1 along which the other array is longer: they are then the other's alone."""
    long = {label for label, extent in zip(other_labels, other.shape, strict=True) if extent != 1}
    axes = tuple(i for i, label in enumerate(labels) if label in long and x.shape[i] == 1)
    return x.squeeze(axes), tuple(label for i, label in enumerate(labels) if i not in axes)


def grouped(x, labels, groups):
    """x with one axis for each group of labels: a view where the strides allow it, else a copy made in pieces."""
    x = x.transpose([labels.index(label) for group in groups for label in group])
    first, extents = 0, []
    for group in groups:
        axes = [axis for axis in range(first, first + len(group)) if x.shape[axis] != 1]
        extents.append(math.prod(x.shape[axis] for axis in axes))
        if any(x.strides[a] != x.strides[b] * x.shape[b] for a, b in itertools.pairwise(axes)):
            x = geometry.contiguous(x)
        first += len(group)
    return x.reshape(extents)


def product(x, x_labels, z, z_labels, kept):
    """The product of two arrays, summed over all labels that are not ``kept``, and its labels."""
    narrow = without_ones(x, x_labels, z, z_labels)
    z, z_labels = without_ones(z, z_labels, x, x_labels)
    x, x_labels = narrow
    x, x_labels = without(x, x_labels, set(x_labels) - set(z_labels) - kept)
    z, z_labels = without(z, z_labels, set(z_labels) - set(x_labels) - kept)
    batch = [label for label in x_labels if label in z_labels and label in kept]
    summed = [label for label in x_labels if label in z_labels and label not in kept]
    rows = [label for label in x_labels if label not in z_labels]
    columns = [label for label in z_labels if label not in x_labels]
    extent = dict(zip((*x_labels, *z_labels), (*x.shape, *z.shape), strict=True))
    left, right = grouped(x, x_labels, (batch, rows, summed)), grouped(z, z_labels, (batch, summed, columns))
    made = (*batch, *rows, *columns)
    return products.product(left, right).reshape([extent[label] for label in made]), made


def contracted(terms, output, extents):
    """The sum of the products of arrays [(array, labels), …] over all labels but those of ``output``, which has their extents.

    What no array depends on is the same along that axis: such an axis is broadcast, not summed.
    """
    (x, labels), *rest = (with_own_labels(*term) for term in terms)
    for number, (z, z_labels) in enumerate(rest):
        later = {label for _, others in rest[number + 1 :] for label in others}
        x, labels = product(x, labels, z, z_labels, later | set(output))
    x, labels = without(x, labels, set(labels) - set(output))
    found = [label for label in output if label in labels]
    x = x.transpose([labels.index(label) for label in found])
    x = np.expand_dims(x, tuple(i for i, label in enumerate(output) if label not in found))
    return np.broadcast_to(x, [extents[label] for label in output])


class EinsteinSum(Implementation):
    """The sum of products that an equation describes; geometry: its labels, and the extent of each."""

    saves = ("x",)

    def infer(self, op, shapes, dtype, settings):
        for shape in shapes:
            check_axes(op, shape, MOST_AXES)
        labels = labelled(op.name, settings["equation"], [len(shape) for shape in shapes])
        check_axes(op, labels.output, MOST_AXES)

        def differs(label, pair):
            axis = f"axis {label!r}" if isinstance(label, str) else f"axis {label} of '...'"
            raise ShapeError(
                f"{op.name}: equation {settings['equation']!r} with arrays of shapes {' and '.join(map(str, shapes))}: {axis} "
                f"has the extents {pair[0]} and {pair[1]}; they must be equal, or 1"
            )

        extents = merged(labels, shapes, differs)
        return tuple(extents[label] for label in labels.output), (labels, extents)

    def forward(self, call, arrays, out=None):
        labels, extents = call.geometry
        y = call.empty(out)
        geometry.assign(y, contracted(list(zip(arrays, labels.terms, strict=True)), labels.output, extents))
        return y, (), tuple(arrays)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        labels, extents = call.geometry
        gradients = call.gradients(needs_gradient, out)
        for number, dx in enumerate(gradients):
            if dx is None:
                continue
            others = [(a, term) for i, (a, term) in enumerate(zip(saved, labels.terms, strict=True)) if i != number]
            term = labels.terms[number]
            if len(set(term)) < len(term):
                geometry.fill_zero(dx)
            at, own = with_own_labels(dx, term)  # where the gradient goes: dx itself, or its diagonal
            # Along an axis of extent 1 that met a longer one, the gradient is a sum.
            kept = tuple(label for label, extent in zip(own, at.shape, strict=True) if extent == extents[label])
            made = contracted([(dy, labels.output), *others], kept, extents)
            geometry.assign(at, made.reshape(at.shape))
        return gradients

    def multiply_adds(self, call):
        return math.prod(call.geometry[1].values())

    def receptive_window(self, call):
        return None
