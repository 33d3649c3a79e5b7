"""The grids of quantized values: real numbers (q − z) s of integers q, a scale s and a zero point z.

A net keeps such a value as the real numbers, on which ``fake_quantize`` has put them. What only moves values, or takes the
largest, leaves them on their grid; what knows no grids is given the integers.
"""

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Grid", "codes", "is_zero", "on_grid", "prepared", "reads_grids"]

# Operators that only move values, or take the largest: what goes in on a grid comes out on it.
MOVING = frozenset(
    {
        "Reshape",
        "Flatten",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Identity",
        "Slice",
        "Split",
        "Gather",
        "Concat",
        "Expand",
    }
    | {"Tile", "DepthToSpace", "SpaceToDepth", "Dropout", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin"}
)
OF_MANY = frozenset(("Concat",))  # where every input must be on the grid
READS_GRIDS: set[str] = set()  # operators whose functions look at the grids of their inputs themselves


def reads_grids(*names):
    """Mark operators whose functions look at grids themselves."""
    READS_GRIDS.update(names)
    return names


@dataclass(frozen=True, eq=False)
class Grid:
    """The numbers (q − zero) · scale of integers q from low to high; scale and zero are arrays, or values of the graph."""

    scale: object
    zero: object  # None: 0
    low: int
    high: int

    @property
    def is_one(self):
        """Whether it has one scale for all values, that of the file."""
        return all(z is None or (is_constant(z) and z.size == 1) for z in (self.scale, self.zero))

    def same(self, other):
        """Whether two grids are known to be the same."""
        zeros = [np.zeros(1, np.float32) if z is None else z for z in (self.zero, other.zero)]
        return (self.low, self.high) == (other.low, other.high) and all(
            a is b or (is_constant(a) and is_constant(b) and a.size == b.size and np.array_equal(a.ravel(), b.ravel()))
            for a, b in ((self.scale, other.scale), zeros)
        )


def is_constant(value):
    return isinstance(value, np.ndarray)


def is_zero(array):
    """Whether a zero point is known to be 0."""
    return is_constant(array) and not array.any()


def grid_of(value):
    """The grid of a value; None where it is on none."""
    return getattr(value, "grid", None)


def prepared(n):
    """Give a node what it asks for of values on grids; the grid that its results are on, or None."""
    grids = [grid for value in n.inputs if (grid := grid_of(value)) is not None]
    if not grids or n.node.op_type in READS_GRIDS:
        return None
    every = n.node.op_type not in OF_MANY or len(grids) == len(n.inputs)
    moves = n.node.op_type in MOVING and every and all(g.is_one and g.same(grids[0]) for g in grids)
    for place, value in enumerate(n.inputs):
        if grid_of(value) is not None:
            n.inputs[place] = replace(value, grid=None) if moves else codes(n.importer, value, n.name)
    return grids[0] if moves else None


def codes(importer, value, name):
    """The integers of a value on a grid, once per value."""
    key = value.value.name, "codes"
    if key not in importer.conversions:
        made = on_grid(importer, f"{name}/codes", "quantize", replace(value, grid=None), value.grid)
        importer.conversions[key] = replace(made, role="index")
    return importer.conversions[key]


def on_grid(importer, name, op, x, grid):
    """x quantized to a grid, as its integers ("quantize") or its real numbers ("fake_quantize")."""
    numbers = [grid.scale, *([] if grid.zero is None or is_zero(grid.zero) else [grid.zero])]
    arrays = [
        importer.live(v, f"{name}/{what}") if is_constant(v) else v
        for v, what in zip(numbers, ("scale", "zero_point"), strict=False)
    ]
    return importer.add(op, x, *arrays, name=name, extents=x.extents, low=grid.low, high=grid.high)
