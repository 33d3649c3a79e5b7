"""Values of the graph that have a size which is not known yet, or are one.

Files compute with the size of the image beyond what a setting can say: a grid of anchors has a place for each cell, a mask is
as large as a feature map, coordinates are divided by the width. Here such a size, a polynomial in open extents
(shapes.py), becomes nodes: ``arange_like`` of a value that has the extent; what is longer is put together, what is
rounded is taken with a stride.
"""

from fractions import Fraction

import numpy as np

from .shapes import Extent

__all__ = ["counting", "size_as_number", "with_extents"]

MOST_DEPTH = 8  # of sizes within sizes
MOST_COPIES = 64  # of a line, to make a multiple of it


class Sizes:
    """The nodes that give one node of the file a size; ``name`` is what they are called after."""

    def __init__(self, importer, name):
        self.importer, self.name, self.count = importer, name, 0

    def add(self, op, *inputs, **settings):
        self.count += 1
        return self.importer.add(op, *inputs, name=f"{self.name}/size_{self.count}", **settings)

    def line(self, e, depth=0):
        """Any values (e,), of a whole extent e: a line as long as that; None where nothing is known to have it."""
        lines = self.importer.lines
        if e not in lines:
            lines[e] = self.made_line(e, depth)
        return lines[e]

    def made_line(self, e, depth):
        if isinstance(e, int):
            return self.add("constant", shape=(e,), arrays={"value": zeros(e)}, extents=(e,)) if e > 0 else None
        for live in self.importer.every:
            for axis, have in enumerate(live.extents):
                if have == e:
                    return self.add("arange_like", live, axis=axis, extents=(e,))
        if depth >= MOST_DEPTH:
            return None
        if len(e.terms) > 1:
            return self.sum_of(e, depth + 1)
        ((atoms, c),) = e.terms.items()
        if len(atoms) == 1 and c == 1:
            return self.rounded(e, atoms[0], depth + 1)
        parts = ([int(c)] if c != 1 else []) + [Extent({(atom,): Fraction(1)}) for atom in atoms]
        if c.denominator != 1 or c < 0:
            return None
        lines = [self.line(part, depth + 1) for part in parts]
        if None in lines:
            return None
        grid = self.grid(lines)
        return self.add("reshape", grid, shape=(-1,), extents=(e,))

    def grid(self, lines):
        """Lines as the axes of one array."""
        rank = len(lines)
        total = None
        for axis, live in enumerate(lines):
            others = tuple(a for a in range(rank) if a != axis)
            extents = tuple(live.extents[0] if a == axis else 1 for a in range(rank))
            live = self.add("unsqueeze", live, axes=others, extents=extents) if others else live
            if total is None:
                total = live
            else:
                extents = tuple(b if a == 1 else a for a, b in zip(total.extents, extents, strict=True))
                total = self.add("maximum", total, live, extents=extents)
        return total

    def sum_of(self, e, depth):
        """A line for each term, one after the other; less a number: the end of it goes."""
        terms = dict(e.terms)
        for atoms, c in terms.items():
            if c == -1 and len(atoms) == 1 and atoms[0].function == "floor":  # I − ⌊q⌋ = ⌈I − q⌉ for whole I
                q = atoms[0].arguments[0]
                made = (e + Extent({atoms: Fraction(1)}) - q).__ceil__()
                return None if made == e else self.line(made, depth)
        constant = terms.pop((), 0)
        if any(c < 0 or c.denominator > 1 for c in terms.values()) or constant != int(constant):
            return None
        lines = [self.line(Extent({atoms: c}), depth) for atoms, c in terms.items()]
        if constant > 0:
            lines.append(self.line(int(constant), depth))
        if None in lines:
            return None
        whole = Extent(terms)
        made = lines[0]
        if len(lines) > 1:
            extents = (whole + int(max(constant, 0)),)
            made = self.add("concat", *lines, axis=0, extents=extents)
        if constant < 0:
            made = self.add("slice", made, start=0, stop=int(constant), axis=0, extents=(e,))
        return made

    def rounded(self, e, atom, depth):
        """⌊p / b⌋ with a whole p: every b-th place of a line of p."""
        if atom.function != "floor":
            return None
        (p,) = atom.arguments
        b = p.denominator
        long = self.line(Extent(p.terms) * b, depth) if b <= MOST_COPIES else None
        if long is None:
            return None
        return self.add("slice", long, start=b - 1, stop=None, stride=b, axis=0, extents=(e,))

    def number(self, e):
        """The size as one real number, an array without axes; None where it is not to be had."""
        if not isinstance(e, Extent):
            return self.add("constant", shape=(1,), arrays={"value": zeros(1) + float(e)}, extents=(1,))
        total = None
        for atoms, c in e.terms.items():
            term = self.add("constant", shape=(1,), arrays={"value": zeros(1) + float(c)}, extents=(1,))
            for atom in atoms:
                line = self.line(Extent({(atom,): Fraction(1)}))
                if line is None:
                    return None
                places = self.add("arange_like", line, axis=0, start=1.0, extents=line.extents)
                last = self.add("slice", places, start=-1, stop=None, axis=0, extents=(1,))
                term = self.add("multiply", term, last, extents=(1,))
            total = term if total is None else self.add("add", total, term, extents=(1,))
        return total


def zeros(count):
    return np.zeros(count, np.float32)


def with_extents(n, extents):
    """A value of the graph with these extents, whatever it holds; None where there is none and none can be made."""
    found = n.of_extents(extents)
    if found is not None:
        return found
    sizes = Sizes(n.importer, n.name)
    lines = [sizes.line(e) for e in extents]
    return None if None in lines or not lines else sizes.grid(lines)


def counting(n, count, start, step):
    """start, start + step …: ``count`` numbers, a size that is open; None where nothing is known to have it."""
    sizes = Sizes(n.importer, n.name)
    line = sizes.line(count)
    if line is None:
        return None
    return sizes.add("arange_like", line, axis=0, start=float(start), step=float(step), extents=(count,))


def size_as_number(importer, array, name):
    """An array of sizes, some of them open, as a value of the graph; None where it is not to be had."""
    sizes = Sizes(importer, name)
    numbers = [sizes.number(e) for e in array.ravel().tolist()]
    if None in numbers or not numbers:
        return None
    line = sizes.add("concat", *numbers, axis=0, extents=(len(numbers),)) if len(numbers) > 1 else numbers[0]
    if array.shape == (len(numbers),):
        return line
    if array.ndim == 0:
        return sizes.add("squeeze", line, axes=(0,), extents=())
    return sizes.add("reshape", line, shape=array.shape, extents=array.shape)
