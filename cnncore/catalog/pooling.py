"""Rows of the pooling strategies."""

import math

import numpy as np

from ..errors import SettingError
from ..families.pooling import (
    CEIL_MODE,
    DILATION,
    KEEPDIMS,
    KERNEL,
    OUTPUT_SIZE,
    PADDING,
    STRIDE,
    WINDOW_SETTINGS,
    Pooling,
    adaptive_windows,
    global_windows,
)
from ..operator import Array, Case, Op, Setting, flag, whole
from ..ops import pool

__all__ = ["ROWS"]

RETURN_INDICES = Setting(
    "return_indices", False, "also return where each y came from, row-major within its plane", flag
)

POOLED = "(N, C, \\*spatial) → (N, C, \\*output), output = ⌊(H + lo + hi − d(k − 1) − 1) / s⌋ + 1 per axis"
ADAPTED = "(N, C, \\*spatial) → (N, C, \\*output_size); window i of an axis is [⌊iH/O⌋, ⌈(i + 1)H/O⌉)"
GLOBAL = "(N, C, \\*spatial) → (N, C), or (N, C, 1, …) with keepdims=True, whatever the spatial extents"

WITH_INDICES = "array y; with return_indices=True the pair (y, indices), indices int64 of y's shape"
OVERLAPS = "gradients of overlapping windows in dx's dtype, in the order of the windows"
SUMS = f"a window's sum in float64 (kernels: float32 in short runs whose sums are float64), {OVERLAPS}"

MAX_EDGES = (
    "ties: the first in row-major order takes the whole gradient",
    "NaN: wins; the first NaN of a window is its maximum and takes its gradient",
    "−∞ everywhere: y = −∞, taken from the first cell",
)
LP_EDGES = (
    "overflow: powers are taken of |x| / max |x|; the result is finite wherever the norm is",
    "all cells 0: y = 0 and no gradient",
    "negative x: its magnitude counts, for every p (PyTorch raises x itself to p, and returns NaN or drops signs)",
    "±∞ in a window: y = ∞; its infinite cells share the gradient as equals",
    "NaN in a window: y and its gradients are NaN",
)

LECUN = "LeCun et al. 1989, Neural Computation 1(4), doi:10.1162/neco.1989.1.4.541"
LP_PAPERS = "Sermanet, Chintala & LeCun 2012, arXiv:1204.3968; Gülçehre et al. 2014, arXiv:1311.1780 (mean form)"


def norm_order(place, name, value):
    """A check that p is a number ≥ 1; ∞ is one."""
    try:
        p = float(value)
    except (TypeError, ValueError):
        p = math.nan
    if isinstance(value, bool) or not p >= 1:
        raise SettingError(f"{place}: {name} must be a number ≥ 1 (below 1 there is no norm), got {value!r}; try 2")
    return p


P = Setting("p", 2.0, "order of the norm, ≥ 1; float('inf') gives the largest magnitude", norm_order, alias="norm_type")
MEAN = Setting("mean", False, "divide the sum by the number of cells inside the image", flag)


def divisor(place, name, value):
    """A check of divisor_override: None, or an integer ≥ 1."""
    return None if value is None else whole(1)(place, name, value)


def drawn_cells(rng, x):
    """A state for 2×… windows with stride 2: one cell of each window at random."""
    extents = x.shape[2:]
    output = tuple(H // 2 for H in extents)
    position = np.zeros((*x.shape[:2], *output), np.int64)
    for axis, (H, O) in enumerate(zip(extents, output, strict=True)):
        place = 2 * np.arange(O).reshape((-1,) + (1,) * (len(extents) - 1 - axis))
        position = position * H + place + rng.integers(0, 2, position.shape)
    return (position,)


ROWS = (
    Op(
        "max_pool",
        Pooling(pool.MAX),
        family="pooling",
        catalogue=("P01", "P02", "P04"),
        summary="The largest value of each window: the winner takes all.",
        formula="y = max xᵢ over the window's cells inside the image",
        gradient="∂y/∂xᵢ = 1 for the first i (row-major) with xᵢ = y, else 0",
        settings_list=(*WINDOW_SETTINGS, RETURN_INDICES),
        shape=POOLED,
        edges=("padding: never wins (acts as −∞)", *MAX_EDGES),
        accumulates=OVERLAPS,
        returns=WITH_INDICES,
        smooth=False,
        paper="Zhou & Chellappa 1988; Ranzato, Huang, Boureau & LeCun 2007, CVPR, doi:10.1109/CVPR.2007.383157",
        cases=(
            Case(kernel_size=2),
            Case(kernel_size=3, stride=2, padding=1),
            Case(kernel_size=3, stride=2, ceil_mode=True),
            Case(kernel_size=2, stride=1, dilation=2),
            Case(kernel_size=3, stride=2, padding="same_upper"),
            Case(kernel_size=(2, 3), stride=(1, 2), padding=((0, 1), (1, 0)), ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[[1., 5., 2., 0.], [3., 4., 8., 7.]]]])
            >>> cnncore.max_pool(x, kernel_size=2)
            array([[[[5., 8.]]]])
            >>> y, backward = cnncore.max_pool.with_backward(x, kernel_size=2)
            >>> backward(np.ones_like(y))
            array([[[[0., 1., 0., 0.],
                     [0., 0., 1., 0.]]]])
        """,
    ),
    Op(
        "avg_pool",
        Pooling(pool.AVG, numbers=("count_include_pad", "divisor_override")),
        family="pooling",
        catalogue=("P03", "P04"),
        summary="The average of each window: the gradient is shared in equal parts.",
        formula="""
            y = 1/q Σ xᵢ over the window's cells inside the image
            q = divisor_override, where given; else the window's cells inside the image and its padding, or with
                count_include_pad=False inside the image alone
        """,
        gradient="∂y/∂xᵢ = 1/q",
        settings_list=(
            KERNEL,
            STRIDE,
            PADDING,
            CEIL_MODE,
            Setting("count_include_pad", True, "whether rows of padding count in the divisor, as zeros", flag),
            Setting("divisor_override", None, "divide by this number instead", divisor),
            DILATION,
        ),
        shape=POOLED,
        edges=(
            "padding: adds nothing to the sum; counts in the divisor unless count_include_pad=False",
            "ceil_mode: cells beyond the padded image never count",
            "NaN and ±∞: as sums have them",
        ),
        accumulates=SUMS,
        linear=("x",),
        paper=LECUN,
        cases=(
            Case(kernel_size=2),
            Case(kernel_size=3, stride=2, padding=1),
            Case(kernel_size=3, stride=2, padding=1, count_include_pad=False),
            Case(kernel_size=3, stride=2, ceil_mode=True),
            Case(kernel_size=2, stride=3, divisor_override=3),
            Case(kernel_size=2, stride=1, dilation=2),
            Case(kernel_size=(2, 3), stride=(1, 2), padding=((0, 1), (1, 0)), ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 3., 5., 9.]]])
            >>> cnncore.avg_pool(x, kernel_size=2)
            array([[[2., 7.]]])
            >>> y, backward = cnncore.avg_pool.with_backward(x, kernel_size=2)
            >>> backward(y)
            array([[[1. , 1. , 3.5, 3.5]]])
        """,
    ),
    Op(
        "sum_pool",
        Pooling(pool.SUM),
        family="pooling",
        catalogue=("P05",),
        summary="The sum of each window.",
        formula="y = Σ xᵢ over the window's cells inside the image",
        gradient="∂y/∂xᵢ = 1",
        settings_list=WINDOW_SETTINGS,
        shape=POOLED,
        edges=("padding: adds nothing", "NaN and ±∞: as sums have them"),
        accumulates=SUMS,
        linear=("x",),
        paper=f"no paper of its own; n times the average of {LECUN}",
        cases=(
            Case(kernel_size=2),
            Case(kernel_size=3, stride=2, padding=1),
            Case(kernel_size=3, stride=2, ceil_mode=True),
            Case(kernel_size=2, stride=1, dilation=2),
            Case(kernel_size=(2, 3), stride=(1, 2), padding=((0, 1), (1, 0)), ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 3., 5., 9.]]])
            >>> cnncore.sum_pool(x, kernel_size=3, stride=1)
            array([[[ 9., 17.]]])
            >>> y, backward = cnncore.sum_pool.with_backward(x, kernel_size=3, stride=1)
            >>> backward(np.ones_like(y))
            array([[[1., 2., 2., 1.]]])
        """,
    ),
    Op(
        "lp_pool",
        Pooling(pool.LP, numbers=("p", "mean")),
        family="pooling",
        catalogue=("P08",),
        summary="The p-norm of each window: p = 1 sums magnitudes, p = 2 is the root of energy, p → ∞ tends to the "
        "maximum.",
        formula="""
            y = (1/q Σ |xᵢ|ᵖ)^(1/p) over the window's n cells inside the image; q = n with mean=True, else 1
            y = max |xᵢ| for p = ∞
        """,
        gradient="""
            ∂y/∂xᵢ = 1/q · sign(xᵢ) · (|xᵢ| / y)^(p − 1), 0 where y = 0
            ∂y/∂xᵢ = sign(xᵢ) for the first i with |xᵢ| = y, else 0, for p = ∞
        """,
        settings_list=(*WINDOW_SETTINGS, P, MEAN),
        shape=POOLED,
        edges=("padding: adds nothing, and is not counted by mean", *LP_EDGES),
        accumulates=f"a window's powers in float64 (kernels: in x's dtype), {OVERLAPS}",
        smooth=False,
        paper=LP_PAPERS,
        cases=(
            Case(kernel_size=2),
            Case(kernel_size=3, stride=2, padding=1, p=3.0),
            Case(kernel_size=3, stride=2, ceil_mode=True, p=2.5),
            Case(kernel_size=2, stride=1, dilation=2, p=1.0),
            Case(kernel_size=2, p=float("inf")),
            Case(kernel_size=3, stride=2, padding=1, p=4.0, mean=True),
            Case(kernel_size=(2, 3), stride=(1, 2), padding=((0, 1), (1, 0)), ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[3., -4., 0., 0.]]])
            >>> cnncore.lp_pool(x, kernel_size=2)
            array([[[5., 0.]]])
            >>> y, backward = cnncore.lp_pool.with_backward(x, kernel_size=2)
            >>> backward(np.ones_like(y))
            array([[[ 0.6, -0.8,  0. ,  0. ]]])
        """,
    ),
    Op(
        "stochastic_pool",
        Pooling(pool.STOCHASTIC, inference=pool.PROBABILITY_WEIGHTED),
        family="pooling",
        catalogue=("P15",),
        summary="A cell of each window drawn with probability in proportion to its value; outside training its "
        "expectation.",
        formula="""
            pᵢ = xᵢ / Σ xⱼ over the window's cells inside the image, x ≥ 0
            y = x_l, l drawn with probability p_l     (training)
            y = Σ pᵢ xᵢ = Σ xᵢ² / Σ xᵢ                (else)
        """,
        gradient="""
            ∂y/∂xᵢ = 1 for i = l, else 0              (training; l is held fixed)
            ∂y/∂xᵢ = (2 xᵢ − y) / Σ xⱼ                (else)
        """,
        arrays=(
            Array("x", "input, nowhere negative: apply relu first"),
            Array(
                "state",
                "positions to select instead of drawing them, as returned with return_state=True",
                optional=True,
                differentiable=False,
                role="index",
            ),
        ),
        settings_list=(
            *WINDOW_SETTINGS,
            Setting("training", False, "draw a cell (True) or take the expectation (False)", flag),
            Setting("seed", 0, "the draws depend on it and on the window's place in y alone", whole(0, 2**63 - 1)),
            Setting("return_state", False, "also return the positions drawn, row-major within their plane", flag),
        ),
        shape=POOLED,
        edges=(
            "padding: is never drawn",
            "negative x or NaN: refused (DataError)",
            "all cells 0: y = 0 and no gradient",
            "∞ in a window: y = ∞; the infinite cells are equally likely, the others impossible",
            "the last cell with x > 0 is drawn where rounding leaves the sum of probabilities below 1",
        ),
        accumulates=f"a window's sums in float64, {OVERLAPS}",
        returns="array y; with return_state=True the pair (y, state), state int64 of y's shape",
        smooth=False,
        paper="Zeiler & Fergus 2013, ICLR, arXiv:1301.3557, eq. 5-7",
        cases=(
            Case(kernel_size=2, domain="positive"),
            Case(kernel_size=3, stride=2, padding=1, domain="positive"),
            Case(kernel_size=3, stride=2, ceil_mode=True, domain="positive"),
            Case(kernel_size=2, stride=1, dilation=2, domain="positive"),
            Case(kernel_size=(2, 3), stride=(1, 2), padding=((0, 1), (1, 0)), ranks=(2,), domain="positive"),
            Case(kernel_size=2, training=True, domain="positive", arrays=drawn_cells),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[3., 1., 0., 5., 0., 0.]]])
            >>> cnncore.stochastic_pool(x, kernel_size=2)
            array([[[2.5, 5. , 0. ]]])
            >>> y, state = cnncore.stochastic_pool(x, kernel_size=2, training=True, seed=1, return_state=True)
            >>> state.tolist() in ([[[0, 3, 4]]], [[[1, 3, 4]]])
            True
            >>> bool((cnncore.stochastic_pool(x, state=state, kernel_size=2, training=True) == y).all())
            True
        """,
    ),
    Op(
        "global_avg_pool",
        Pooling(pool.AVG, global_windows),
        family="pooling",
        catalogue=("P33",),
        summary="The average of each channel: what lets a network take images of any size.",
        formula="y[n, c] = 1/n Σ xᵢ over all n positions of the plane",
        gradient="∂y/∂xᵢ = 1/n",
        settings_list=(KEEPDIMS,),
        shape=GLOBAL,
        edges=("NaN and ±∞: as sums have them",),
        accumulates="a plane's sum in float64 (kernels: float32 in short runs whose sums are float64)",
        linear=("x",),
        paper="Lin, Chen & Yan 2014, arXiv:1312.4400, section 3.2",
        cases=(Case(), Case(keepdims=True)),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[[1., 2.], [3., 6.]], [[0., 0.], [0., 4.]]]])
            >>> cnncore.global_avg_pool(x)
            array([[3., 1.]])
            >>> y, backward = cnncore.global_avg_pool.with_backward(x)
            >>> backward(np.array([[4., 8.]]))
            array([[[[1., 1.],
                     [1., 1.]],
            <BLANKLINE>
                    [[2., 2.],
                     [2., 2.]]]])
        """,
    ),
    Op(
        "global_max_pool",
        Pooling(pool.MAX, global_windows),
        family="pooling",
        catalogue=("P34",),
        summary="The largest value of each channel.",
        formula="y[n, c] = max xᵢ over all positions of the plane",
        gradient="∂y/∂xᵢ = 1 for the first i (row-major) with xᵢ = y, else 0",
        settings_list=(KEEPDIMS, RETURN_INDICES),
        shape=GLOBAL,
        edges=MAX_EDGES,
        accumulates="nothing",
        returns=WITH_INDICES,
        smooth=False,
        paper="Oquab, Bottou, Laptev & Sivic 2015, CVPR, doi:10.1109/CVPR.2015.7298668",
        cases=(Case(), Case(keepdims=True)),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 7., 3.], [4., 0., 4.]]])
            >>> cnncore.global_max_pool(x, return_indices=True)
            (array([[7., 4.]]), array([[1, 0]]))
            >>> y, backward = cnncore.global_max_pool.with_backward(x)
            >>> backward(np.ones_like(y))
            array([[[0., 1., 0.],
                    [1., 0., 0.]]])
        """,
    ),
    Op(
        "global_lp_pool",
        Pooling(pool.LP, global_windows, numbers=("p", "mean")),
        family="pooling",
        catalogue=("P35",),
        summary="The p-norm of each channel.",
        formula="y[n, c] = (1/q Σ |xᵢ|ᵖ)^(1/p) over all n positions of the plane; q = n with mean=True, else 1",
        gradient="∂y/∂xᵢ = 1/q · sign(xᵢ) · (|xᵢ| / y)^(p − 1), 0 where y = 0",
        settings_list=(P, MEAN, KEEPDIMS),
        shape=GLOBAL,
        edges=LP_EDGES,
        accumulates="a plane's powers in float64 (kernels: in x's dtype)",
        smooth=False,
        paper=LP_PAPERS,
        cases=(Case(), Case(p=3.0), Case(p=1.0, keepdims=True), Case(p=4.0, mean=True), Case(p=float("inf"))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[2., -4., 4.], [0., 0., 0.]]])
            >>> cnncore.global_lp_pool(x)
            array([[6., 0.]])
            >>> y, backward = cnncore.global_lp_pool.with_backward(x, p=1.0)
            >>> backward(np.ones_like(y))
            array([[[ 1., -1.,  1.],
                    [ 0.,  0.,  0.]]])
        """,
    ),
    Op(
        "adaptive_avg_pool",
        Pooling(pool.AVG, adaptive_windows),
        family="pooling",
        catalogue=("P36",),
        summary="Averages over output_size windows that share out the image, whatever its size.",
        formula="y = 1/n Σ xᵢ over the window's n cells",
        gradient="∂y/∂xᵢ = 1/n",
        settings_list=(OUTPUT_SIZE,),
        shape=ADAPTED,
        edges=(
            "windows overlap by a cell where O does not divide H",
            "O > H: cells are repeated",
            "NaN and ±∞: as sums have them",
        ),
        accumulates=SUMS,
        linear=("x",),
        paper="He, Zhang, Ren & Sun 2015, arXiv:1406.4729; windows as in Torch",
        cases=(
            Case(output_size=2),
            Case(output_size=4),
            Case(output_size=9),
            Case(output_size=(3, None), ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 3., 5., 10., 12.]]])
            >>> cnncore.adaptive_avg_pool(x, output_size=2)
            array([[[3., 9.]]])
            >>> y, backward = cnncore.adaptive_avg_pool.with_backward(x, output_size=2)
            >>> backward(y)
            array([[[1., 1., 4., 3., 3.]]])
        """,
    ),
    Op(
        "adaptive_max_pool",
        Pooling(pool.MAX, adaptive_windows),
        family="pooling",
        catalogue=("P37",),
        summary="Maxima of output_size windows that share out the image, whatever its size.",
        formula="y = max xᵢ over the window's cells",
        gradient="∂y/∂xᵢ = 1 for the first i (row-major) with xᵢ = y, else 0",
        settings_list=(OUTPUT_SIZE, RETURN_INDICES),
        shape=ADAPTED,
        edges=(
            "windows overlap by a cell where O does not divide H",
            "O > H: cells are repeated",
            *MAX_EDGES,
        ),
        accumulates=OVERLAPS,
        returns=WITH_INDICES,
        smooth=False,
        paper="He, Zhang, Ren & Sun 2015, arXiv:1406.4729; windows as in Torch",
        cases=(
            Case(output_size=2),
            Case(output_size=4),
            Case(output_size=9),
            Case(output_size=(3, None), ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 3., 5., 2., 4.]]])
            >>> cnncore.adaptive_max_pool(x, output_size=2, return_indices=True)
            (array([[[5., 5.]]]), array([[[2, 2]]]))
            >>> y, backward = cnncore.adaptive_max_pool.with_backward(x, output_size=2)
            >>> backward(np.array([[[1., 10.]]]))
            array([[[ 0.,  0., 11.,  0.,  0.]]])
        """,
    ),
)
