"""Schemas of quantization: real numbers on a grid of few integers, as 8-bit networks use them."""

import numpy as np

from ...checks import whole
from ..operator import Op
from ..schema import Array, Case, Setting
from .implementation import MOST_INTEGER, Quantization

__all__ = ["SCHEMAS"]

PAPER = (
    "Jacob et al. 2018, arXiv:1712.05877, equations 1 and 12; straight-through estimator: Bengio, Léonard & Courville 2013, "
    "arXiv:1308.3432, section 4; gradient of the scale: Esser et al. 2020, arXiv:1902.08153, equation 3"
)
ARRAYS = (
    Array("x", "input"),
    Array(
        "scale",
        "scale s > 0, the step width: one number, or an array that broadcasts to x, such as (C, 1, 1) for one per channel",
    ),
    Array("zero_point", "zero point z, the integer that represents 0, of the shape of scale; default 0", optional=True),
)
SETTINGS = (
    Setting("low", -128, "smallest integer: −128 of int8, 0 of uint8", whole(-MOST_INTEGER, MOST_INTEGER)),
    Setting("high", 127, "largest integer: 127 of int8, 255 of uint8", whole(-MOST_INTEGER, MOST_INTEGER)),
)
EDGES = (
    "halves are rounded to even, as in IEEE 754",
    "out of range, ±∞ too: clipped",
    "NaN: propagates",
    "s ≤ 0 is not checked: s = 0 divides by 0",
)
SHAPE = "any shape of at most 8 dimensions → the same"


def one_grid(rng, x):
    """One scale and zero point for all; some values are out of range."""
    return np.array([0.11]), np.array([3.0])


def grid_per_channel(rng, x):
    """A scale and a zero point per channel."""
    shape = (x.shape[1], *[1] * (x.ndim - 2))
    return rng.uniform(0.05, 0.3, shape), np.rint(rng.uniform(-4, 4, shape))


def symmetric(rng, x):
    """One scale, and 0 stands for 0."""
    return (np.array([0.07]),)


CASES = (
    Case(arrays=one_grid, spatial=2, low=-8, high=7),
    Case(arrays=grid_per_channel, spatial=3, ranks=(1, 2), low=-8, high=7),
    Case(arrays=symmetric, spatial=2, ranks=(2,)),
)
STEPS = "the straight-through estimator is not the derivative of the steps that y is made of"

SCHEMAS = (
    Op(
        "quantize",
        Quantization(fake=False),
        group="arrays",
        summary="Quantization: rounds real numbers to integers of a few bits.",
        formula="y = min(max(round(x / s) + z, low), high)",
        gradient=(
            "where low ≤ round(x / s) + z ≤ high, else 0, taking the slope of rounding for 1 (straight-through estimator):\n"
            "∂y/∂x = 1 / s;   ∂y/∂s = −x / s²;   ∂y/∂z = 1"
        ),
        arrays=ARRAYS,
        shape=SHAPE,
        settings_list=SETTINGS,
        edges=(*EDGES, "y holds integers as real numbers"),
        accumulates="gradients of what was broadcast in long double",
        smooth=False,
        proof=STEPS,
        paper=PAPER,
        cases=CASES,
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.quantize(np.array([0.24, 0.25, 0.75, 99., -1.]), np.array([0.5]), np.array([10.]), low=0, high=255)
            array([ 10.,  10.,  12., 208.,   8.])
        """,
    ),
    Op(
        "fake_quantize",
        Quantization(fake=True),
        group="arrays",
        summary="Fake quantization: rounds real numbers to the grid of quantized values, for quantization-aware training.",
        formula="y = (q − z) s with q = min(max(round(x / s) + z, low), high)",
        gradient=(
            "where low ≤ round(x / s) + z ≤ high, taking the slope of rounding for 1 (straight-through estimator):\n"
            "∂y/∂x = 1;   ∂y/∂s = round(x / s) − x / s;   ∂y/∂z = 0\n"
            "elsewhere, where q is low or high: ∂y/∂x = 0;   ∂y/∂s = q − z;   ∂y/∂z = −s"
        ),
        arrays=ARRAYS,
        shape=SHAPE,
        settings_list=SETTINGS,
        edges=EDGES,
        accumulates="gradients of what was broadcast in long double",
        smooth=False,
        proof=STEPS,
        paper=PAPER,
        cases=CASES,
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.fake_quantize(np.array([0.24, 0.26, 99., -99.]), np.array([0.5]))
            array([  0. ,   0.5,  63.5, -64. ])
        """,
    ),
)
