"""Schemas of quantization: real numbers on a grid of few integers, as 8-bit networks use them."""

from typing import Any

import numpy as np

from ...checks import flag, number, whole
from ..convolution.implementation import DILATION, GROUPS, PADDING, STRIDE
from ..convolution.schemas import CHANNELS, KERNEL_SIZE, conv_weight, linear_weight
from ..operator import Op
from ..schema import REQUIRED, Array, Case, Layer, Parameter, Setting
from .convolution import MOST_TERMS, IntegerConvolution, IntegerLinear
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


# ── Convolutions of 8-bit numbers ─────────────────────────────────────────────────────────────────────────────────────


def optional_scale(place, name, value):
    """None, or a number > 0."""
    return None if value is None else number(above=0)(place, name, value)


def outputs(shapes, settings):
    return (settings["channels"],)


INTEGERS = (
    Array("x", "input, rounded to 8 bits on its grid", differentiable=False),
    Array("w", "weights q_w, integers −128 … 127 (K, C / groups, *kernel)", differentiable=False),
    Array("w_scale", "scale s_w of each output channel (K), > 0: q_w stands for s_w q_w", differentiable=False),
    Array("b", "bias (K), rounded to multiples of s s_w", optional=True, differentiable=False),
)
GRIDS = (
    Setting("x_scale", REQUIRED, "scale s of x, the width of a step", number(above=0)),
    Setting("x_zero_point", 0, "zero point z of x: 0 … 255", whole(0, 255)),
    Setting("y_scale", None, "scale s' of y; None: y is not rounded", optional_scale),
    Setting("y_zero_point", 0, "zero point z' of y: 0 … 255, with y_scale", whole(0, 255)),
)
INTEGER_EDGES = (
    "halves are rounded to even, as in IEEE 754",
    "out of range, ±∞ too: clipped to the ends of the grid; with z' = 0 that is ReLU",
    "NaN in x: counts as 0, since no integer stands for it",
    "padding: zeros, which every grid has",
    f"at most {MOST_TERMS} products to a sum, which then fits into 32 bits",
    "inference only: a net with this operator has no backward pass",
)
NO_SLOPE = "y is made of steps, whose slope is 0, and only inference is meant"
SHARED: dict[str, Any] = {
    "arrays": INTEGERS,
    "edges": INTEGER_EDGES,
    "accumulates": "integers in int32, exactly: the same bits on every CPU target and for every number of threads",
    "smooth": False,
    "proof": NO_SLOPE,
    "gradient": "none: y is made of steps; train in float32 and quantize the result, or train with fake_quantize",
    "paper": "Jacob et al. 2018, arXiv:1712.05877, section 2.2 and equations 1, 5, 7",
}


def integer_weights(outputs_, kernel, groups=1, biased=True):
    """Arrays w, w_scale and b of a case; None for the kernel: of a linear layer.

    Weights of 7 bits: two products of 8 do not fit into the 16 in which ONNX Runtime, to which cases are compared, adds them on
    processors without instructions for it.
    """

    def arrays(rng, x):
        spatial = () if kernel is None else tuple(kernel + axis for axis in range(x.ndim - 2))
        w = rng.integers(-64, 64, (outputs_, x.shape[1] // groups, *spatial)).astype(float)
        scale = rng.uniform(0.002, 0.01, outputs_)
        return w, scale, rng.standard_normal(outputs_) if biased else None

    return arrays


def integer_layer(weight, *own):
    """w, w_scale and b as a net owns them: numbers that training does not know."""
    return Layer(
        parameters=(
            Parameter("w", weight, "zeros", trained=False, in_files="int8"),
            Parameter("w_scale", outputs, 1.0, trained=False),
            Parameter("b", outputs, "zeros", when="bias", trained=False),
        ),
        settings=(CHANNELS, *own, Setting("bias", True, "whether there is a bias b", flag)),
    )


SCHEMAS = (
    Op(
        "quantized_conv",
        IntegerConvolution(),
        group="arrays",
        summary="Convolution of 8-bit numbers, with exact sums of integers: for inference.",
        formula="""
            y = (clip(round(a s s_w[k] / s') + z', 0, 255) − z') s', without y_scale y = a s s_w[k], where
            a[n,k,o] = round(b[k] / (s s_w[k])) + Σ_c Σ_t w[k,c,t] · (q[n,c,s·o + d·t − p] − z)
            q = clip(round(x / s) + z, 0, 255)
        """,
        shape="(N, C, *spatial) → (N, K, *spatial')",
        settings_list=(*GRIDS, STRIDE, PADDING, DILATION, GROUPS),
        cases=(
            Case(
                arrays=integer_weights(5, 2), spatial=4, x_scale=0.02, x_zero_point=97, y_scale=0.03, y_zero_point=131
            ),
            Case(
                arrays=integer_weights(4, 3, groups=2, biased=False),
                channels=4,
                spatial=5,
                ranks=(1, 2),
                x_scale=0.01,
                x_zero_point=128,
                stride=2,
                padding=1,
                groups=2,
            ),
            Case(
                arrays=integer_weights(3, 2, groups=3),
                spatial=4,
                ranks=(2,),
                x_scale=0.015,
                x_zero_point=120,
                y_scale=0.02,
                padding=1,
                dilation=2,
                groups=3,
            ),
        ),
        layer=integer_layer(conv_weight, KERNEL_SIZE),
        example="""
            >>> import numpy as np, cnncore
            >>> x, w, scale = np.array([[[0.5, 1.0, -0.26]]]), np.array([[[2., -4.]]]), np.array([0.25])
            >>> cnncore.quantized_conv(x, w, scale, x_scale=0.5, x_zero_point=8)
            array([[[-0.75,  1.  ]]])
            >>> cnncore.quantized_conv(x, w, scale, x_scale=0.5, x_zero_point=8, y_scale=0.5)
            array([[[0., 1.]]])
        """,
        **SHARED,
    ),
    Op(
        "quantized_linear",
        IntegerLinear(),
        group="arrays",
        summary="Linear layer of 8-bit numbers, with exact sums of integers: for inference.",
        formula="""
            y = (clip(round(a s s_w[k] / s') + z', 0, 255) − z') s', without y_scale y = a s s_w[k], where
            a[n,k] = round(b[k] / (s s_w[k])) + Σ_c w[k,c] · (q[n,c] − z)
            q = clip(round(x / s) + z, 0, 255)
        """,
        shape="(N, C) → (N, K)",
        settings_list=GRIDS,
        cases=(
            Case(arrays=integer_weights(5, None), ranks=(0,), channels=7, x_scale=0.02, x_zero_point=97),
            Case(
                arrays=integer_weights(9, None, biased=False),
                ranks=(0,),
                channels=4,
                batch=3,
                x_scale=0.01,
                x_zero_point=128,
                y_scale=0.02,
                y_zero_point=3,
            ),
        ),
        layer=integer_layer(linear_weight),
        example="""
            >>> import numpy as np, cnncore
            >>> x, w, scale = np.array([[0.5, 1.0]]), np.array([[2., -4.], [0., 3.]]), np.array([0.25, 0.5])
            >>> cnncore.quantized_linear(x, w, scale, x_scale=0.5, x_zero_point=8)
            array([[-0.75,  1.5 ]])
        """,
        **SHARED,
    ),
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
