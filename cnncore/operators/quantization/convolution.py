"""Convolutions and linear layers of 8-bit numbers, for inference: described, packed, and run by integers.pyx."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...errors import SettingError, ShapeError
from .. import geometry
from ..convolution.implementation import check_bias, check_groups, check_weights
from ..operator import Implementation
from . import integers

__all__ = ["MOST_BIAS", "MOST_TERMS", "Grid", "IntegerConvolution", "IntegerLinear"]

# Sums stay below 2³¹ with as many terms, 255 · 128 each, and a bias of up to 2³⁰.
MOST_TERMS = 2**15
MOST_BIAS = 2**30
NO_GRADIENT = (
    "computes with integers, which have no gradient: train the float32 net and call its quantize again, or train with "
    "fake_quantize, whose gradient is that of the real numbers"
)


class Grid(NamedTuple):
    """The numbers (q − zero) · scale of q = 0 … 255."""

    scale: float
    zero: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """A call's windows, and the grids of x and of y."""

    window: object
    groups: int
    multiply_adds: int | None
    grid: Grid
    y_grid: Grid | None  # None: y is on none

    def windows(self):
        """(taps, stride, dilation, low) as integers.pyx takes them."""
        w = self.window
        return w.kernel, w.stride, w.dilation, w.low


class Weights:
    """The weights of a call as integers, in the order of the reference implementation and in that of the kernels.

    ``filled`` is whether they are those of the node's arrays; a plan calls :meth:`refresh` when these may have changed.
    """

    def __init__(self):
        self.filled = False

    def refresh(self):
        """Forget them: an array from which they are made has changed."""
        self.filled = False

    def fill(self, call, w, scale, b):
        """Make them from the arrays of a call; w is (outputs, inputs of a group, \\*taps)."""
        g = call.geometry
        whole = np.clip(np.rint(w), -128, 127).astype(np.int8).reshape(g.groups, -1, w.shape[1], math.prod(w.shape[2:]))
        self.w = np.ascontiguousarray(whole.transpose(0, 1, 3, 2))  # (groups, outputs, taps, inputs)
        of_product = g.grid.scale * scale.astype(np.float64)
        bias = np.zeros(len(w)) if b is None else b / of_product
        bias = np.clip(np.rint(bias), -MOST_BIAS, MOST_BIAS).astype(np.int64)
        bias -= g.grid.zero * self.w.reshape(len(w), -1).sum(1, dtype=np.int64)
        factor = of_product if g.y_grid is None else of_product / g.y_grid.scale
        self.panels, self.word_terms, spare = None, 1, 0
        vectors = integers.vectors(call.dtype.name)
        if vectors is not None:
            spare = vectors[0]
            self.panels, self.word_terms = packed(self.w, *vectors)
        self.bias = np.pad(bias, (0, spare)).astype(np.int32)
        self.factor = np.pad(factor, (0, spare)).astype(call.dtype)
        self.filled = True
        return self


def packed(w, outputs, terms):
    """(panels, terms of a word) of integers w (groups, outputs of a group, taps, inputs): see kernels/bytes.h."""
    groups, of_group, taps, inputs = w.shape
    rows = w.reshape(groups, of_group, taps * inputs)
    if of_group == inputs == 1:
        return np.ascontiguousarray(rows.reshape(groups, taps).T, np.int32), 1
    units, words = -(-of_group // outputs), -(-rows.shape[2] // terms)
    full = np.zeros((groups, units * outputs, words * terms), np.int16 if terms == 2 else np.int8)
    full[:, :of_group, : rows.shape[2]] = rows
    full = full.reshape(groups, units, outputs, words, terms)
    return np.ascontiguousarray(full.transpose(0, 1, 3, 2, 4)).reshape(-1), terms


def grids(settings):
    """The grids of x and of y that the settings say."""
    y_scale = settings["y_scale"]
    return (
        Grid(settings["x_scale"], settings["x_zero_point"]),
        None if y_scale is None else Grid(y_scale, settings["y_zero_point"]),
    )


def check_scale(place, scale, outputs):
    """Raise unless there is one scale for each output channel."""
    if scale != (outputs,):
        raise ShapeError(
            f"{place}: w_scale has shape {scale}; w makes {outputs} output channels, so it must have shape ({outputs},)"
        )


def check_terms(place, w):
    """Raise where a sum has so many terms that it might not fit into 32 bits."""
    terms = math.prod(w[1:])
    if terms > MOST_TERMS:
        raise SettingError(
            f"{place}: w {w} sums {terms} products; at most {MOST_TERMS} are certain to fit into 32 bits: keep this layer in "
            "float32"
        )


class IntegerConvolution(Implementation):
    """y = w ∗ x + b with 8-bit x and w, sums in int32, and y rounded to 8 bits again where it has a grid."""

    per_image = True
    inference_only = NO_GRADIENT
    saves: tuple[str, ...] | None = ()

    def infer(self, op, shapes, dtype, settings):
        x, w, scale, b = shapes
        extents, groups = geometry.spatial(op.name, x), settings["groups"]
        check_weights(op.name, x, w, "(K, C / groups, *kernel)")
        check_groups(op.name, x, groups)
        if w[1] * groups != x[1] or w[0] % groups:
            raise ShapeError(
                f"{op.name}: w {w} with groups={groups} does not fit input {x}; expected (K, {x[1] // groups}, *kernel), K "
                f"divisible by {groups}"
            )
        check_scale(op.name, scale, w[0])
        check_bias(op.name, b, w[0], w)
        check_terms(op.name, w)
        window = geometry.window(op.name, extents, w[2:], settings["stride"], settings["padding"], settings["dilation"])
        y = (x[0], w[0], *window.output_shape)
        return y, Geometry(window, groups, products(y, w), *grids(settings))

    def forward(self, call, arrays, out=None, packed=None):
        y = call.empty(out)
        self.run(call, arrays, arrays[0], arrays[1], y, packed)
        return y, (), ()

    @staticmethod
    def run(call, arrays, x, w, y, weights):
        """Compute y with the weights that are kept, or ones made for this call."""
        weights = Weights() if weights is None else weights
        if not weights.filled:
            weights.fill(call, w, arrays[2], arrays[3])
        g = call.geometry
        integers.forward(x, y, g.windows(), weights, g.grid, g.y_grid)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        return (None,) * len(needs_gradient)

    def packing(self, call, arena):
        return Weights()

    def multiply_adds(self, call):
        return call.geometry.multiply_adds

    def reads_grid(self, call):
        return call.geometry.grid

    def writes_grid(self, call):
        return call.geometry.y_grid

    def receptive_window(self, call):
        return call.geometry.window.receptive

    def receptive_start(self, call):
        window = call.geometry.window
        return tuple(-low for low in window.low[geometry.SPATIAL_AXES - window.rank :])


class IntegerLinear(IntegerConvolution):
    """y = x wᵀ + b likewise: a 1×1 convolution whose pixels are the rows of x."""

    def infer(self, op, shapes, dtype, settings):
        x, w, scale, b = shapes
        if len(x) != 2 or len(w) != 2 or 0 in w or x[1] != w[1]:
            raise ShapeError(f"{op.name}: w has shape {w}; input {x} needs (N, features) and w (outputs, features)")
        check_scale(op.name, scale, w[0])
        check_bias(op.name, b, w[0], w)
        check_terms(op.name, w)
        window = geometry.window(op.name, (1,), 1)
        y = (x[0], w[0])
        return y, Geometry(window, 1, products(y, w), *grids(settings))

    def forward(self, call, arrays, out=None, packed=None):
        y = call.empty(out)
        x, w = arrays[0], arrays[1]
        self.run(call, arrays, x.T[None], w[:, :, None], y.T[None], packed)
        return y, (), ()

    def receptive_window(self, call):
        return None

    def receptive_start(self, call):
        return None


def products(y, w):
    """Multiply-adds of a call: of each of y's numbers, one per weight of its output channel."""
    return None if None in y else math.prod(y) * math.prod(w[1:])
