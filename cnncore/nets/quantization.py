"""Quantization after training: from a net in float32 to one whose convolutions and linear layers compute with 8-bit numbers.

Images are run through the net, and every value that such a layer reads or writes gets a grid of 256 steps that covers what
they are: one scale and zero point per value. Weights get one scale per output channel, symmetric about 0. Batch
normalisations are multiplied into the weights first, and an activation that only clips (ReLU, ReLU6) is left to the end of
the grid. Values that a concatenation joins share a grid, so that they stay in 8 bits on their way. All other operators compute
in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, GraphError, SettingError, ShapeError
from ..operators.convolution.implementation import bounds
from ..operators.quantization.convolution import MOST_TERMS, Grid
from .plan import Mode, Plan
from .surgery import Operation, pruned

__all__ = ["RANGES", "quantized"]

# Operators that become one of 8-bit numbers.
INTEGER_FORM = {"conv": "quantized_conv", "depthwise_conv": "quantized_conv", "linear": "quantized_linear"}
RANGES = ("mean_squared_error", "min_max")
HIGHEST = 255
WEIGHT_STEPS = 127
BINS = 4096
SHARES = np.linspace(1, 0.3, 71)  # of the range, from which the one with the least error is taken
LEAST_WIDTH = 1e-30  # below it a range is a single number, and any step will do


# ── Ranges ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def grid_between(low: float, high: float) -> Grid:
    """The grid of 256 steps from ``low`` to ``high``, moved so that 0 is one of them."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / HIGHEST)) if high - low > LEAST_WIDTH else 1.0
    return Grid(scale, int(np.clip(np.rint(-low / scale), 0, HIGHEST)))


class Range:
    """What values have occurred: the smallest, the largest, and how many in each of BINS bins about 0."""

    def __init__(self) -> None:
        self.low, self.high, self.reach = 0.0, 0.0, 0.0
        self.counts = np.zeros(BINS)

    def add(self, values: NDArray[Any]) -> None:
        """Count further values, which are finite; the bins become twice as wide until all fit."""
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        largest = max(-low, high)
        if self.reach == 0:
            self.reach = max(largest, LEAST_WIDTH)
        while largest > self.reach:
            self.reach *= 2
            halves = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(halves, BINS // 4)
        places = ((values.ravel() + self.reach) * (BINS / 2 / self.reach)).astype(np.intp)
        self.counts += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)

    def grid(self, ranges: str) -> Grid:
        """The grid from the smallest to the largest value, or from the share of both with the least mean squared error."""
        if ranges == "min_max":
            return grid_between(self.low, self.high)
        centres = (np.arange(BINS) + 0.5) * (2 * self.reach / BINS) - self.reach
        inside = np.clip(centres, self.low, self.high)
        grids = [grid_between(share * self.low, share * self.high) for share in SHARES]
        errors = [float(self.counts @ (inside - rounded(inside, grid)) ** 2) for grid in grids]
        return grids[int(np.argmin(errors))]


def rounded(x: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """x as real numbers on a grid."""
    return (np.clip(np.rint(x / grid.scale) + grid.zero, 0, HIGHEST) - grid.zero) * grid.scale


# ── Images ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def batches(net: Any, images: tuple[Any, ...], batch_size: int) -> Iterator[tuple[Any, ...]]:
    """Batches, one array for each input: of arrays, of a data set, or as an iterable yields them."""
    inputs = len(net.graph.inputs)
    lone: Any = images[0] if len(images) == 1 else None
    if hasattr(lone, "batches"):
        found: Iterable[Any] = (batch[:inputs] for batch in lone.batches(batch_size))
    elif lone is not None and not hasattr(lone, "__array__") and isinstance(lone, Iterable):
        found = ((batch,) if hasattr(batch, "__array__") else tuple(batch)[:inputs] for batch in lone)
    else:
        arrays = [np.asarray(array) for array in images]
        if len(arrays) != inputs or any(a.ndim == 0 or len(a) != len(arrays[0]) for a in arrays):
            raise ShapeError(
                f"quantize: got {len(arrays)} arrays of shapes {[a.shape for a in arrays]}; the net has {inputs} "
                f"input{'s' * (inputs != 1)}, each needs an array of as many images"
            )
        starts = range(0, len(arrays[0]), batch_size)
        found = (tuple(a[start : start + batch_size] for a in arrays) for start in starts)
    return (batch for batch in found if len(batch[0]))


# ── What becomes of each layer ─────────────────────────────────────────────────────────────────────────────────────────


class Layer(NamedTuple):
    """A layer that is to compute with integers: its node, the affine maps folded into it, and the activation after it."""

    number: int
    affine: tuple[int, ...]
    activation: int | None  # one that a grid's ends can stand for

    @property
    def last_real(self) -> int:
        """The node whose value is that of the layer without the activation."""
        return self.affine[-1] if self.affine else self.number


def becomes_integer(plan: Any, number: int) -> bool:
    """Whether a node has a form with integers: its weights its own, padded with zeros, few enough products to a sum."""
    node, call = plan.nodes[number], plan.calls[number]
    if node.op.name not in INTEGER_FORM or any(value is not None for value in node.arguments[1:]):
        return False
    w = call.shapes[1]
    plain = call.settings.get("padding_mode", "zeros") == "zeros" and (len(w) > 2 or len(call.output) == 2)
    return plain and len(node.owned) > 0 and int(np.prod(w[1:])) <= MOST_TERMS


def absorbed(plan: Any, number: int) -> int | None:
    """The activation after a node that clips to a range around 0, which a grid can do; None where there is none."""
    activation = plan.epilogues.get(number)
    if activation is None:
        return None
    low, high = bounds(plan.calls[activation])
    return activation if low <= 0 <= high else None


class Groups:
    """Values that have to share a grid: each belongs to the group of one of them."""

    def __init__(self, plan: Any) -> None:
        self.of = list(range(len(plan.shapes)))
        self.passed = set()  # values that are made of others of their group
        for number, node in enumerate(plan.nodes):
            if plan.passes_grid(number):
                value = plan.inputs + number
                self.passed.add(value)
                for other in node.arguments:
                    if other is not None:
                        self.join(other, value)

    def find(self, value: int) -> int:
        """The value that stands for the group of ``value``."""
        while self.of[value] != value:
            value = self.of[value]
        return value

    def join(self, a: int, b: int) -> None:
        """Make one group of two."""
        self.of[self.find(a)] = self.find(b)


class Choice:
    """Which layers become integer ones, and which groups of values get grids."""

    def __init__(self, net: Any, shapes: Any, skip: Iterable[str]) -> None:
        mode = Mode(target="", exact=False)
        self.plan = plan = Plan(net.graph, shapes, net.dtype, mode, net.seed)
        left = {net.graph.number(name, "quantize: skip") for name in skip}
        numbers = [n for n in range(len(plan.nodes)) if plan.inputs + n not in left and becomes_integer(plan, n)]
        self.layers = [Layer(n, tuple(plan.affine.get(n, ())), absorbed(plan, n)) for n in numbers]
        if not self.layers:
            raise GraphError(
                "quantize: the net has no convolution, depthwise convolution or linear layer that could compute with integers"
            )
        self.groups = Groups(plan)
        self.gridded = {self.group(plan.nodes[layer.number].arguments[0]) for layer in self.layers}
        self.gridded |= {self.group(plan.inputs + n) for n in self.activations()}

    def activations(self) -> list[int]:
        """The activations that grids stand for."""
        return [layer.activation for layer in self.layers if layer.activation is not None]

    def group(self, value: int | None) -> int:
        """The group of a value."""
        assert value is not None
        return self.groups.find(value)

    def value(self, layer: Layer) -> int:
        """The value that a layer writes."""
        return self.plan.inputs + (layer.last_real if layer.activation is None else layer.activation)

    def observed(self) -> list[int]:
        """Values whose ranges are to be known: those of groups with a grid that are not made of others."""
        taken = [v for v, real in enumerate(self.plan.real) if real and v not in self.groups.passed]
        hidden = {self.plan.inputs + n for layer in self.layers for n in (layer.number, *layer.affine)}
        hidden -= {self.value(layer) for layer in self.layers}
        return [v for v in taken if self.group(v) in self.gridded and v not in hidden]


# ── The new net ────────────────────────────────────────────────────────────────────────────────────────────────────────


def quantized(
    net: Any,
    images: tuple[Any, ...],
    ranges: str,
    skip: Iterable[str],
    batch_size: int,
    progress: Callable[[int, str], object] | None,
) -> Operation:
    """See :meth:`cnncore.nets.net.Net.quantize`."""
    if ranges not in RANGES:
        raise SettingError(f"quantize: ranges must be one of {', '.join(map(repr, RANGES))}, got {ranges!r}")
    if net.training:
        raise GraphError("quantize: the net is in training mode, and would draw and update statistics; call net.eval()")
    choice, found, done = None, {}, 0
    for batch in batches(net, images, batch_size):
        if progress is not None:
            progress(done, "calibrating")
        if choice is None:
            shapes = tuple(x.shape for x in net._checked_inputs(batch))
            choice = Choice(net, shapes, skip)
            found = {choice.group(value): Range() for value in choice.observed()}
        observe(net, choice, batch, found)
        done += len(batch[0])
    if choice is None:
        raise DataError("quantize: there are no images; give some tens that are like those the net will see")
    grids = {group: seen.grid(ranges) for group, seen in found.items()}
    return rebuilt(net, choice, grids)


def observe(net: Any, choice: Choice, batch: tuple[Any, ...], found: dict[int, Range]) -> None:
    """Run a batch, and count the values of every group with a grid."""
    names = [net.graph.names[value] for value in choice.observed()]
    for value, array in zip(choice.observed(), net.values(*batch, names=names).values(), strict=True):
        if not np.isfinite(array).all():
            what = "the images hold" if value < choice.plan.inputs else f"{net.graph.names[value]} computes"
            raise DataError(
                f"quantize: {what} numbers that are not finite, for which there is no grid: look for NaN in images and weights"
            )
        found[choice.group(value)].add(array)


def rebuilt(net: Any, choice: Choice, grids: dict[int, Grid]) -> Operation:
    """The description and arrays of the net whose layers compute with integers."""
    plan, description = choice.plan, net.graph.description()
    rows = {row["name"]: row for row in description["nodes"]}
    known = {**net.parameters, **net.buffers}
    arrays: dict[str, NDArray[Any]] = {}
    stands_for: dict[str, str] = {}
    for layer in choice.layers:
        node = plan.nodes[layer.number]
        y_grid = grids.get(choice.group(choice.value(layer)))
        w, scale, b = integer_arrays(node.path, *folded(plan, layer, known))
        arrays |= {f"{node.path}.w": w, f"{node.path}.w_scale": scale} | ({} if b is None else {f"{node.path}.b": b})
        row = rows[node.path]
        row["operator"] = INTEGER_FORM[node.op.name]
        row["settings"] = integer_settings(plan, layer, w, b, grids[choice.group(node.arguments[0])], y_grid)
        row["inputs"] = row["inputs"][:1]
        row.pop("parameters", None)
        gone = [n for n in (*layer.affine, layer.activation) if n is not None]
        stands_for |= {plan.nodes[n].path: node.path for n in gone}
    for row in description["nodes"]:
        row["inputs"] = [stands_for.get(name, name) for name in row["inputs"]]
    description["nodes"] = [row for row in description["nodes"] if row["name"] not in stands_for]
    description["outputs"] = [stands_for.get(name, name) for name in description["outputs"]]
    return Operation(pruned(description), arrays)


def folded(plan: Any, layer: Layer, known: dict[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Weights and bias of a layer, with the affine maps after it multiplied in."""
    node, call = plan.nodes[layer.number], plan.calls[layer.number]
    own = {owned.argument: known[owned.name] for owned in node.owned}
    arrays: Any = (None, own[1], own.get(2))
    for number in layer.affine:
        after = plan.nodes[number]
        theirs = {owned.argument: known[owned.name] for owned in after.owned}
        of_map = [theirs.get(argument) for argument in range(len(after.arguments))]
        scale, shift = after.op.implementation.affine(plan.calls[number], of_map)
        arrays = node.op.implementation.fold_affine(call, arrays, scale, shift)
    return arrays[1], arrays[2]


def integer_arrays(path: str, w: NDArray[Any], b: NDArray[Any] | None) -> tuple[Any, Any, Any]:
    """(w as integers, their scales, b): one scale per output channel, symmetric about 0."""
    if not np.isfinite(w).all() or (b is not None and not np.isfinite(b).all()):
        raise DataError(f"quantize: {path} has weights that are not finite; train the net again, or skip={path!r}")
    largest = np.abs(w.reshape(len(w), -1).astype(np.float64)).max(1)
    scale = np.where(largest > LEAST_WIDTH, largest / WEIGHT_STEPS, 1.0).astype(np.float32)
    steps = np.rint(w / scale.reshape(-1, *(1,) * (w.ndim - 1)).astype(np.float64))
    return np.clip(steps, -WEIGHT_STEPS, WEIGHT_STEPS), scale, b


def integer_settings(
    plan: Any, layer: Layer, w: NDArray[Any], b: NDArray[Any] | None, grid: Grid, y_grid: Grid | None
) -> dict[str, Any]:
    """The settings of a layer of 8-bit numbers."""
    node, call = plan.nodes[layer.number], plan.calls[layer.number]
    made: dict[str, Any] = {"channels": len(w), "bias": b is not None}
    if w.ndim > 2:
        made["kernel_size"] = list(w.shape[2:])
        made |= {name: node.given[name] for name in ("stride", "padding", "dilation") if name in node.given}
        made["groups"] = call.geometry.groups
    made |= {"x_scale": grid.scale, "x_zero_point": grid.zero}
    if y_grid is not None:
        made |= {"y_scale": y_grid.scale, "y_zero_point": y_grid.zero}
    return made
