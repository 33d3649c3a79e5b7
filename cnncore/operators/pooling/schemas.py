"""Schemas of the pooling strategies, each on the window scheme that it is known by.

A call of ``pooling_schema`` pairs a Strategy with a scheme; ``cnncore.pool`` has all other pairs.
"""

import math

from ...checks import choice, flag, number, whole
from ...errors import SettingError
from ..operator import Op
from ..schema import Case, Setting
from . import reference
from .implementation import Choosing, KMax, Learned, Strategy, per_rank, per_tap, pooling_schema
from .windows import ADAPTIVE, FRACTIONAL, GLOBAL, KERNEL, PYRAMID, ROI, S3

__all__ = ["SCHEMAS"]

OVERLAPS = "gradients of overlapping windows in dx's dtype, in the order of the windows"
RUNS = "(kernels: float32 in short runs whose sums are float64)"
SUMS = f"a window's sum in float64 {RUNS}, {OVERLAPS}"
RANKED = "ties: equal values rank in row-major order"
NAN_FIRST = "NaN: ranks first"

LECUN = "LeCun et al. 1989, Neural Computation 1(4), doi:10.1162/neco.1989.1.4.541"
LEE = "Lee, Gallagher & Tu 2016, AISTATS, arXiv:1509.08985"
SERRA = "Serra 1982, Image Analysis and Mathematical Morphology; learned: Franchi, Fehri & Yao 2020, Pattern Recognition 102"
SHI = "Shi, Ye & Wu 2016, Neural Networks 83, doi:10.1016/j.neunet.2016.07.003"
TORCH_WINDOWS = "He, Zhang, Ren & Sun 2015, arXiv:1406.4729; windows as in Torch"

CASES = (
    Case(kernel_size=2),
    Case(kernel_size=3, stride=2, padding=1),
    Case(kernel_size=3, stride=2, ceil_mode=True),
    Case(kernel_size=2, stride=1, dilation=2),
    Case(kernel_size=(2, 3), stride=(1, 2), padding=((0, 1), (1, 0)), ranks=(2,)),
)
ADAPTIVE_CASES = (
    Case(output_size=2),
    Case(output_size=4),
    Case(output_size=9),
    Case(output_size=(3, None), ranks=(2,)),
)


def few_cases(*others, **settings):
    """Every setting of windows and every rank once, the first case with ``settings``."""
    return (
        Case(spatial=4, kernel_size=3, stride=2, padding=1, **settings),
        Case(kernel_size=2, stride=1, dilation=2, ceil_mode=True, ranks=(1,)),
        *others,
    )


# ── Checks of settings ─────────────────────────────────────────────────────────────────────────────────────────────────


def norm_order(place, name, value):
    """A check that p is a number ≥ 1; ∞ is one."""
    try:
        p = float(value)
    except (TypeError, ValueError):
        p = math.nan
    if isinstance(value, bool) or not p >= 1:
        raise SettingError(f"{place}: {name} must be a number ≥ 1 (below 1 there is no norm), got {value!r}; try 2")
    return p


def none_or(check):
    """A check that lets None through."""
    return lambda place, name, value: None if value is None else check(place, name, value)


def averages(place, settings):
    """mean as a number, after checking that r = 0 comes with mean=True, the only form that it has."""
    if settings["r"] == 0 and not settings["mean"]:
        raise SettingError(f"{place}: r = 0 is the average, which mean=True has; without it y is infinite")
    return settings["mean"]


def inner_nodes(place, settings):
    """How many inner nodes a tree of this many levels has."""
    return 2 ** (settings["levels"] - 1) - 1


def leaves(settings, kernel):
    """Extents of the leaves' weights behind the channel axis."""
    return (2 ** (settings["levels"] - 1), *kernel)


def nodes(settings, kernel):
    """Extents of the inner nodes' weights behind the channel axis."""
    return (2 ** (settings["levels"] - 1) - 1, *kernel)


# ── Strategies of several rows ─────────────────────────────────────────────────────────────────────────────────────────

MAX = Strategy(
    "max",
    reference.MAX,
    summary="Max pooling: the maximum of each window.",
    formula="y = max xᵢ over the window's cells inside the image",
    gradient="∂y/∂xᵢ = 1 for the first i (row-major) with xᵢ = y, else 0",
    padding="never wins (acts as −∞)",
    edges=(
        "ties: the first maximum in row-major order takes the whole gradient",
        "NaN: propagates; the first NaN of a window takes the gradient",
        "a window of only −∞: y = −∞, at the first element",
    ),
    selects=True,
    accumulates=OVERLAPS,
    paper="Zhou & Chellappa 1988; Ranzato, Huang, Boureau & LeCun 2007, CVPR, doi:10.1109/CVPR.2007.383157",
)
AVG = Strategy(
    "avg",
    reference.AVG,
    summary="Average pooling: the mean of each window.",
    formula="y = 1/n Σ xᵢ over the window's n cells",
    gradient="∂y/∂xᵢ = 1/n",
    padding="adds nothing to the sum; counts in the divisor unless count_include_pad=False",
    padded_settings=(
        Setting("count_include_pad", True, "count the padding, as zeros, in the divisor", flag),
        Setting("divisor_override", None, "divisor, instead of the number of elements", none_or(whole(1))),
    ),
    numbers=("count_include_pad", "divisor_override"),
    edges=("NaN and ±∞: propagate as in sums",),
    accumulates=SUMS,
    linear=("x",),
    smooth=True,
    paper=LECUN,
)
LP = Strategy(
    "lp",
    reference.LP,
    summary="Lp pooling: the p-norm of each window; p = 1 is the sum of magnitudes, p → ∞ the largest magnitude.",
    formula="""
        y = (1/q Σ |xᵢ|ᵖ)^(1/p) over the window's n cells inside the image; q = n with mean=True, else 1
        y = max |xᵢ| for p = ∞
    """,
    gradient="""
        ∂y/∂xᵢ = 1/q · sign(xᵢ) · (|xᵢ| / y)^(p − 1), 0 where y = 0
        ∂y/∂xᵢ = sign(xᵢ) for the first i with |xᵢ| = y, else 0, for p = ∞
    """,
    padding="adds nothing, and is not counted by mean=True",
    settings=(
        Setting(
            "p", 2.0, "order of the norm, ≥ 1; float('inf') gives the largest magnitude", norm_order, alias="norm_type"
        ),
        Setting("mean", False, "divide the sum by the number of elements inside the image", flag),
    ),
    numbers=("p", "mean"),
    edges=(
        "overflow: powers are computed of |x| / max |x|; y is finite whenever the norm is",
        "all elements 0: y = 0 and no gradient",
        "negative x: |x| is used for every p (PyTorch raises x itself to the power p, and returns NaN or drops signs)",
        "±∞ in a window: y = ∞; the infinite elements share the gradient equally",
        "NaN in a window: y and its gradients are NaN",
    ),
    accumulates=f"a window's powers in float64 (kernels: in x's dtype), {OVERLAPS}",
    examples=({"p": 3.0}, {"p": 2.0, "mean": True}),
    paper="Sermanet, Chintala & LeCun 2012, arXiv:1204.3968; Gülçehre et al. 2014, arXiv:1311.1780 (mean form)",
)
GEM = Strategy(
    "gem",
    reference.GEM,
    summary="Generalised-mean (GeM) pooling of each window, with fixed or learned p: p = 1 is the average, p → ∞ the maximum.",
    formula="y = (1/n Σ max(xᵢ, ε)^p)^(1/p) over the window's n cells inside the image",
    gradient="""
        ∂y/∂xᵢ = 1/n (xᵢ / y)^(p − 1) for xᵢ > ε, else 0
        ∂y/∂p  = y/p² (p Σ xᵢ^p ln xᵢ / Σ xᵢ^p − ln(1/n Σ xᵢ^p)), summed over windows and images
    """,
    padding="is not counted",
    settings=(
        Setting("p", 3.0, "exponent where ps is not given: any number; 0 gives the geometric mean", number()),
        Setting("eps", 1e-6, "ε, the lower bound to which values are clipped", number(above=0)),
    ),
    numbers=("eps",),
    learned=(
        Learned(
            "ps",
            "learned exponents instead of p: (1,), or (C,) for one per channel",
            default="p",
            initial=3.0,
            values=(1.5, 4.0),
            decay=False,
        ),
    ),
    edges=(
        "xᵢ ≤ ε: clipped to ε, no gradient",
        "overflow: powers are computed of x / max x, or x / min x for p < 0",
        "p = 0: the geometric mean; ∂y/∂p is y/2 times the variance of ln x there",
        "∞ in a window, p ≥ 0: y = ∞, the infinite elements share the gradient; NaN in a window: y = NaN",
    ),
    accumulates=f"a window's powers and dp in float64 {RUNS}, {OVERLAPS}",
    domain="positive",
    examples=({"p": 3.0}, {"p": -1.5, "eps": 1e-3}),
    paper="Radenović, Tolias & Chum 2018, IEEE TPAMI, arXiv:1711.02512, equation 3",
)
LOG_SUM_EXP = Strategy(
    "log_sum_exp",
    reference.LOG_SUM_EXP,
    summary="Log-sum-exp pooling: a smooth maximum of each window, sharper for larger r; with mean=True between the "
    "average (r → 0) and the maximum (r → ∞).",
    formula="y = 1/r ln(1/q Σ e^(r xᵢ)) over the window's n cells inside the image; q = n with mean=True, else 1",
    gradient="""
        ∂y/∂xᵢ = wᵢ = e^(r xᵢ) / Σ e^(r xⱼ)
        ∂y/∂r  = (Σ wᵢ xᵢ − y) / r, half the variance at r = 0 with mean=True; summed over windows and images
    """,
    padding="adds nothing (acts as −∞), and is not counted by mean=True",
    settings=(
        Setting(
            "r",
            1.0,
            "sharpness where rs is not given: any number but 0, or 0 with mean=True; r < 0 gives a smooth minimum",
            number(),
        ),
        Setting("mean", False, "divide the sum by the number of elements inside the image: log-average-exp", flag),
    ),
    numbers=(averages,),
    learned=(
        Learned(
            "rs",
            "learned sharpness instead of r: (1,), or (C,) for one per channel",
            default="r",
            initial=1.0,
            values=(0.5, 3.0),
            decay=False,
        ),
    ),
    edges=(
        "overflow: the largest exponent of the window is subtracted first; y is finite whenever the elements are",
        "a window of only −∞ (r > 0): y = −∞ and no gradient",
        "∞ in a window (r > 0): y = ∞; the infinite elements share the gradient equally",
        "NaN in a window: y and its gradients are NaN",
    ),
    accumulates=f"a window's sums and dr in float64 {RUNS}, {OVERLAPS}",
    smooth=True,
    examples=({"r": 2.0}, {"r": -1.0, "mean": True}),
    paper="Pinheiro & Collobert 2015, CVPR, arXiv:1411.6228, equation 6; mean: Lowe et al. 2021, arXiv:2111.01742",
)


SCHEMAS = (
    pooling_schema(
        "max_pool",
        MAX,
        KERNEL,
        literature=("P01", "P02", "P04"),
        cases=CASES,
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
    pooling_schema(
        "avg_pool",
        AVG,
        KERNEL,
        literature=("P03", "P04"),
        formula="""
            y = 1/q Σ xᵢ over the window's cells inside the image
            q = divisor_override, where given; else the window's cells inside the image and its padding, or with
                count_include_pad=False inside the image alone
        """,
        gradient="∂y/∂xᵢ = 1/q",
        settings_list=(
            *KERNEL.settings[:3],
            KERNEL.settings[4],
            *AVG.padded_settings,
            KERNEL.settings[3],
            Setting(
                "compat",
                None,
                "'onnx': padding of more than half a window, up to its last element",
                choice(None, "onnx"),
            ),
        ),
        edges=(
            f"padding: {AVG.padding}",
            "padding of more than half a window: SettingError, as in PyTorch; ONNX, and Keras by ZeroPadding, have it: "
            "compat='onnx' takes what leaves an element of the image in every window",
            "ceil_mode: elements beyond the padded image are never counted",
            "NaN and ±∞: propagate as in sums",
        ),
        cases=(
            Case(kernel_size=2),
            Case(kernel_size=3, stride=2, padding=1),
            Case(kernel_size=3, stride=2, padding=1, count_include_pad=False),
            Case(kernel_size=3, stride=2, ceil_mode=True),
            Case(kernel_size=2, stride=3, divisor_override=3),
            Case(kernel_size=2, stride=1, dilation=2),
            Case(kernel_size=(2, 3), stride=(1, 2), padding=((0, 1), (1, 0)), ranks=(2,)),
            Case(kernel_size=3, stride=2, padding=((2, 1), (0, 2)), count_include_pad=False, compat="onnx", ranks=(2,)),
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
    pooling_schema(
        "sum_pool",
        Strategy(
            "sum",
            reference.SUM,
            summary="Sum pooling: the sum of each window.",
            formula="y = Σ xᵢ over the window's cells inside the image",
            gradient="∂y/∂xᵢ = 1",
            padding="adds nothing",
            edges=("NaN and ±∞: propagate as in sums",),
            accumulates=SUMS,
            linear=("x",),
            smooth=True,
            paper=f"no paper of its own; n times the average of {LECUN}",
        ),
        KERNEL,
        literature=("P05",),
        cases=CASES,
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
    pooling_schema(
        "lp_pool",
        LP,
        KERNEL,
        literature=("P08",),
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
    pooling_schema(
        "stochastic_pool",
        Strategy(
            "stochastic",
            reference.STOCHASTIC,
            inference=reference.PROBABILITY_WEIGHTED,
            draws="cells",
            summary="Stochastic pooling: draws an element of each window with probability proportional to its value; "
            "in inference the expectation.",
            formula="""
                pᵢ = xᵢ / Σ xⱼ over the window's cells inside the image, x ≥ 0
                y = x_l, l drawn with probability p_l     (training)
                y = Σ pᵢ xᵢ = Σ xᵢ² / Σ xᵢ                (else)
            """,
            gradient="""
                ∂y/∂xᵢ = 1 for i = l, else 0              (training; l is held fixed)
                ∂y/∂xᵢ = (2 xᵢ − y) / Σ xⱼ                (else)
            """,
            padding="is never drawn",
            x="input, not negative: apply relu first",
            domain="positive",
            edges=(
                "negative x or NaN: DataError",
                "all elements 0: y = 0 and no gradient",
                "∞ in a window: y = ∞; the infinite elements are equally likely, the others impossible",
                "rounding: the last element with x > 0 is drawn where the probabilities sum to less than 1",
            ),
            paper="Zeiler & Fergus 2013, ICLR, arXiv:1301.3557, eq. 5-7",
        ),
        KERNEL,
        literature=("P15",),
        cases=(*CASES, Case(kernel_size=2, training=True)),
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
    pooling_schema(
        "global_avg_pool",
        AVG,
        GLOBAL,
        literature=("P33",),
        summary="Global average pooling: the mean of each channel over the image.",
        formula="y[n, c] = 1/n Σ xᵢ over all n positions of the plane",
        accumulates=f"a plane's sum in float64 {RUNS}",
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
    pooling_schema(
        "global_max_pool",
        MAX,
        GLOBAL,
        literature=("P34",),
        summary="Global max pooling: the maximum of each channel over the image.",
        formula="y[n, c] = max xᵢ over all positions of the plane",
        accumulates="none",
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
    pooling_schema(
        "global_lp_pool",
        LP,
        GLOBAL,
        literature=("P35",),
        summary="Global Lp pooling: the p-norm of each channel over the image.",
        formula="y[n, c] = (1/q Σ |xᵢ|ᵖ)^(1/p) over all n positions of the plane; q = n with mean=True, else 1",
        settings_list=(*LP.settings, *GLOBAL.settings),
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
    pooling_schema(
        "adaptive_avg_pool",
        AVG,
        ADAPTIVE,
        literature=("P36",),
        summary="Adaptive average pooling: output_size averages for any image size.",
        paper=TORCH_WINDOWS,
        cases=ADAPTIVE_CASES,
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
    pooling_schema(
        "adaptive_max_pool",
        MAX,
        ADAPTIVE,
        literature=("P37",),
        summary="Adaptive max pooling: output_size maxima for any image size.",
        formula="y = max xᵢ over the window's cells",
        paper=TORCH_WINDOWS,
        cases=ADAPTIVE_CASES,
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
    pooling_schema(
        "min_pool",
        Strategy(
            "min",
            reference.MIN,
            summary="Min pooling: the minimum of each window.",
            formula="y = min xᵢ over the window's cells inside the image",
            gradient="∂y/∂xᵢ = 1 for the first i (row-major) with xᵢ = y, else 0",
            padding="never wins (acts as ∞)",
            edges=(
                "ties: the first maximum in row-major order takes the whole gradient",
                "NaN: propagates; the first NaN of a window takes the gradient",
                "a window of only ∞: y = ∞, at the first element",
            ),
            selects=True,
            accumulates=OVERLAPS,
            paper="no paper of its own; −max(−x), the erosion by a flat element of Serra 1982",
        ),
        KERNEL,
        literature=("P06",),
        cases=few_cases(),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[3., 1., 4., 1., 5., 9.]]])
            >>> y, backward = cnncore.min_pool.with_backward(x, kernel_size=3)
            >>> y
            array([[[1., 1.]]])
            >>> backward(np.ones_like(y))
            array([[[0., 1., 0., 1., 0., 0.]]])
        """,
    ),
    pooling_schema(
        "median_pool",
        Strategy(
            "median",
            reference.MEDIAN,
            summary="Median pooling: the median of each window.",
            formula="""
                y = the middle of the window's n cells inside the image, in the order of their values
                n even: even="lower" takes the lower of the two middle values, even="mean" their mean
            """,
            gradient="""
                ∂y/∂xᵢ = 1 for the first i (row-major) with xᵢ = y, else 0
                even="mean", n even: ½ for the first cell of each of the two values
            """,
            padding="is left out: windows at the border have fewer elements",
            settings=(
                Setting(
                    "even",
                    "lower",
                    "median of an even number of values: 'lower', or 'mean' of the middle two",
                    choice("lower", "mean"),
                ),
            ),
            numbers=(lambda place, settings: settings["even"] == "mean",),
            edges=(
                "ties: the first maximum in row-major order takes the whole gradient",
                "NaN in a window: y = NaN; the first NaN takes the gradient",
                "'lower' is PyTorch's median, 'mean' is NumPy's",
            ),
            accumulates=OVERLAPS,
            examples=({}, {"even": "mean"}),
            paper="Tukey 1977, Exploratory Data Analysis; no canonical paper in neural networks",
        ),
        KERNEL,
        literature=("P07",),
        cases=few_cases(Case(kernel_size=2, even="mean", ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[5., 1., 3., 2., 9., 4.]]])
            >>> y, backward = cnncore.median_pool.with_backward(x, kernel_size=3)
            >>> y
            array([[[3., 4.]]])
            >>> backward(np.ones_like(y))
            array([[[0., 0., 1., 0., 0., 1.]]])
            >>> cnncore.median_pool(x, kernel_size=6, even="mean")
            array([[[3.5]]])
        """,
    ),
    pooling_schema(
        "learned_lp_pool",
        Strategy(
            "learned_lp",
            reference.LEARNED_LP,
            summary="Learned-norm (Lp) pooling: the mean p-norm of each window, with learned p and optionally a learned centre.",
            formula="y = (1/n Σ |xᵢ − c|^p)^(1/p) over the window's n cells inside the image, p = 1 + ln(1 + e^ρ)",
            gradient="""
                ∂y/∂xᵢ = 1/n sign(xᵢ − c) (|xᵢ − c| / y)^(p − 1), 0 where y = 0
                ∂y/∂ρ  = σ(ρ) y/p² (p Σ |xᵢ − c|^p ln |xᵢ − c| / Σ |xᵢ − c|^p − ln(1/n Σ |xᵢ − c|^p))
                ∂y/∂c  = −Σ ∂y/∂xᵢ
            """,
            padding="is not counted",
            learned=(
                Learned(
                    "rho",
                    "ρ, which determines p > 1: (1,), or (C,) for one per channel",
                    initial=math.log(math.e - 1),
                    values=(-1.0, 2.0),
                    decay=False,
                ),
                Learned(
                    "c",
                    "centre: (1,), or (C,) for one per channel; None: 0",
                    default=0.0,
                    initial=0.0,
                    values=(2.5, 3.0),
                    decay=False,
                ),
            ),
            edges=(
                "all elements equal c: y = 0 and no gradient, neither for ρ; 0 · ln 0 is 0",
                "overflow: powers are computed of |x − c| / max |x − c|",
                "±∞ in a window: y = ∞; the infinite elements share the gradient; NaN: y = NaN",
            ),
            accumulates=f"a window's powers, dρ and dc in float64 {RUNS}, {OVERLAPS}",
            paper="Gülçehre, Cho, Pascanu & Bengio 2014, ECML, arXiv:1311.1780, equations 3-4",
        ),
        KERNEL,
        literature=("P09",),
        cases=few_cases(),
        example="""
            >>> import numpy as np, cnncore
            >>> x, rho = np.array([[[1., -7., 0., 0.]]]), np.array([np.log(np.e - 1)])      # p = 2
            >>> cnncore.learned_lp_pool(x, rho, kernel_size=2).round(12)
            array([[[5., 0.]]])
            >>> y, backward = cnncore.learned_lp_pool.with_backward(x, rho, kernel_size=2)
            >>> backward(np.ones_like(y))[0].round(12)
            array([[[ 0.1, -0.7,  0. ,  0. ]]])
        """,
    ),
    pooling_schema(
        "mixed_pool",
        Strategy(
            "mixed",
            reference.MIXED,
            summary="Mixed pooling: a learned mixture of max and average pooling.",
            formula="y = a max xᵢ + (1 − a) 1/n Σ xᵢ over the window's n cells inside the image",
            gradient="""
                ∂y/∂xᵢ = a·1[i is the first of the largest] + (1 − a)/n
                ∂y/∂a  = max xᵢ − 1/n Σ xᵢ, summed over windows and images
            """,
            padding="never wins, and is not counted",
            learned=(
                Learned("a", "weight a of the maximum: (1,), or (C,) for one per channel", initial=0.5, decay=False),
            ),
            edges=(
                "a outside [0, 1]: used as it is; a learned a is not constrained",
                "a = 0 or 1: average or maximum alone, also of infinite elements",
                "ties and NaN: as in max_pool",
            ),
            accumulates=f"a window's sum and da in float64 {RUNS}, {OVERLAPS}",
            paper=f"{LEE}, equation 1",
        ),
        KERNEL,
        literature=("P19",),
        cases=few_cases(),
        example="""
            >>> import numpy as np, cnncore
            >>> x, a = np.array([[[1., 3., 8., 0.]]]), np.array([0.25])
            >>> y, backward = cnncore.mixed_pool.with_backward(x, a, kernel_size=2)
            >>> y
            array([[[2.25, 5.  ]]])
            >>> dx, da = backward(np.ones_like(y))
            >>> dx
            array([[[0.375, 0.625, 0.625, 0.375]]])
            >>> da
            array([5.])
        """,
    ),
    pooling_schema(
        "random_mixed_pool",
        Strategy(
            "random_mixed",
            reference.MIXED,
            draws="planes",
            learned=(Learned("a", "", default="frequency"),),
            summary="Random mixed pooling: max or average pooling, drawn for each channel of each image; in inference "
            "their mixture.",
            formula="""
                y = λ max xᵢ + (1 − λ) 1/n Σ xᵢ over the window's n cells inside the image
                λ = 1 with probability frequency, else 0, per image and channel     (training)
                λ = frequency                                                        (else)
            """,
            gradient="∂y/∂xᵢ = λ·1[i is the first of the largest] + (1 − λ)/n      (λ is held fixed)",
            padding="never wins, and is not counted",
            settings=(Setting("frequency", 0.5, "probability of drawing the maximum", number(0, 1)),),
            edges=("ties and NaN: as in max_pool", "inference: the expectation over the draws"),
            paper="Yu, Wang, Chen & Wei 2014, RSKT, doi:10.1007/978-3-319-11740-9_34",
        ),
        KERNEL,
        literature=("P18",),
        cases=few_cases(Case(kernel_size=2, frequency=0.3, training=True, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 3.], [4., 8.]]])
            >>> cnncore.random_mixed_pool(x, kernel_size=2)
            array([[[2.5],
                    [7. ]]])
            >>> state = np.array([[1, 0]])          # maximum for the first channel, average for the second
            >>> cnncore.random_mixed_pool(x, state, kernel_size=2, training=True)
            array([[[3.],
                    [6.]]])
        """,
    ),
    pooling_schema(
        "gated_pool",
        Strategy(
            "gated",
            reference.GATED,
            summary="Gated pooling: mixes max and average pooling by a learned gate that depends on the window.",
            formula="""
                s = σ(Σ wᵢ xᵢ + b)          w by the cell's place in the kernel
                y = s max xᵢ + (1 − s) 1/n Σ xᵢ over the window's n cells inside the image
            """,
            gradient="""
                t = s(1 − s)(max xᵢ − 1/n Σ xᵢ)
                ∂y/∂xᵢ = s·1[i is the first of the largest] + (1 − s)/n + t wᵢ
                ∂y/∂wᵢ = t xᵢ,  ∂y/∂b = t, summed over windows and images
            """,
            padding="never wins, is not counted, and adds nothing to the gate",
            learned=(
                Learned(
                    "w",
                    "weights of the gate: (1, *kernel), or (C, *kernel) for one set per channel",
                    per_tap,
                    values=(-0.6, 0.6),
                ),
                Learned(
                    "b",
                    "bias of the gate: (1,), or (C,) for one per channel; None: 0",
                    default=0.0,
                    values=(-0.5, 0.5),
                    decay=False,
                ),
            ),
            edges=("w = 0: maximum and average in equal parts", "ties and NaN: as in max_pool"),
            accumulates=f"a window's sums, dw and db in float64 {RUNS}, {OVERLAPS}",
            kernel_text="its gate has a weight for each position of a kernel",
            paper=f"{LEE}, equation 3",
        ),
        KERNEL,
        literature=("P20",),
        cases=few_cases(),
        example="""
            >>> import numpy as np, cnncore
            >>> x, w = np.array([[[1., 3.]]]), np.zeros((1, 2))
            >>> y, backward = cnncore.gated_pool.with_backward(x, w, kernel_size=2)
            >>> y
            array([[[2.5]]])
            >>> dx, dw = backward(np.ones_like(y))
            >>> dx
            array([[[0.25, 0.75]]])
            >>> dw
            array([[0.25, 0.75]])
        """,
    ),
    pooling_schema(
        "tree_pool",
        Strategy(
            "tree",
            reference.TREE,
            summary="Tree pooling: a binary tree of learned filters over each window, mixed by learned gates.",
            formula="""
                leaf fₖ = Σ vₖᵢ xᵢ;   node fₖ = sₖ f₂ₖ₊₁ + (1 − sₖ) f₂ₖ₊₂ with sₖ = σ(Σ wₖᵢ xᵢ);   y = f₀
                nodes are numbered row by row from the root; v and w by the cell's place in the kernel
            """,
            gradient="""
                G₀ = 1, G₂ₖ₊₁ = Gₖ sₖ, G₂ₖ₊₂ = Gₖ (1 − sₖ), tₖ = Gₖ sₖ(1 − sₖ)(f₂ₖ₊₁ − f₂ₖ₊₂)
                ∂y/∂vₖᵢ = Gₖ xᵢ,  ∂y/∂wₖᵢ = tₖ xᵢ, summed over windows and images
                ∂y/∂xᵢ = Σ Gₖ vₖᵢ over leaves + Σ tₖ wₖᵢ over inner nodes
            """,
            padding="adds nothing",
            settings=(
                Setting("levels", 2, "levels of the tree, 2 to 6: 2 levels have one gate and two leaves", whole(2, 6)),
            ),
            numbers=(inner_nodes,),
            learned=(
                Learned(
                    "v",
                    "weights of the leaves: (1, leaves, *kernel), or (C, leaves, *kernel) for one set per channel",
                    leaves,
                    initial="lecun",
                    values=(-1.0, 1.0),
                ),
                Learned(
                    "w",
                    "weights of the gates: (1, leaves − 1, *kernel), or (C, leaves − 1, *kernel) for one set per channel",
                    nodes,
                    initial="lecun",
                    values=(-0.8, 0.8),
                ),
            ),
            edges=(
                "linear in x except for the gates: there are no ties",
                "NaN and ±∞: propagate as in sums and products",
            ),
            accumulates=f"a window's sums, dv and dw in float64 {RUNS}, {OVERLAPS}",
            smooth=True,
            examples=({}, {"levels": 3}),
            kernel_text="its filters have a weight for each position of a kernel",
            paper=f"{LEE}, equations 5-7",
        ),
        KERNEL,
        literature=("P21",),
        cases=few_cases(Case(kernel_size=2, levels=3, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 3.]]])
            >>> v, w = np.array([[[1., 0.], [0., 1.]]]), np.zeros((1, 1, 2))     # leaves: first and second cell; gate ½
            >>> y, backward = cnncore.tree_pool.with_backward(x, v, w, kernel_size=2)
            >>> y
            array([[[2.]]])
            >>> dx, dv, dw = backward(np.ones_like(y))
            >>> dx
            array([[[0.5, 0.5]]])
            >>> dw
            array([[[-0.5, -1.5]]])
        """,
    ),
    pooling_schema(
        "soft_pool",
        Strategy(
            "soft",
            reference.SOFT,
            summary="SoftPool: the average of each window with softmax weights.",
            formula="y = Σ wᵢ xᵢ,  wᵢ = e^(xᵢ) / Σ e^(xⱼ) over the window's cells inside the image",
            gradient="∂y/∂xᵢ = wᵢ (1 + xᵢ − y)",
            padding="adds nothing and has no weight",
            edges=(
                "overflow: the largest value of the window is subtracted before the exponential",
                "∞ in a window: y = ∞; the infinite elements share the gradient; −∞ has weight 0; NaN: y = NaN",
                "the gradient includes that of the weights (the authors' CUDA code clamps and detaches them)",
            ),
            smooth=True,
            paper="Stergiou, Poppe & Kalliatakis 2021, ICCV, arXiv:2101.00440, equations 1-2",
        ),
        KERNEL,
        literature=("P22",),
        cases=few_cases(),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[0., np.log(3)]]])           # weights 1/4 and 3/4
            >>> y, backward = cnncore.soft_pool.with_backward(x, kernel_size=2)
            >>> (y / np.log(3)).round(12)
            array([[[0.75]]])
            >>> expected = [[[0.25 * (1 - y.item()), 0.75 * (1 + np.log(3) - y.item())]]]
            >>> bool(np.allclose(backward(np.ones_like(y)), expected, rtol=1e-14))
            True
        """,
    ),
    pooling_schema(
        "auto_pool",
        Strategy(
            "auto",
            reference.AUTO,
            summary="AutoPool: SoftPool with learned sharpness; α = 0 is the average, α = 1 SoftPool, α → ∞ the maximum.",
            formula="y = Σ wᵢ xᵢ,  wᵢ = e^(α xᵢ) / Σ e^(α xⱼ) over the window's cells inside the image",
            gradient="""
                ∂y/∂xᵢ = wᵢ (1 + α (xᵢ − y))
                ∂y/∂α  = Σ wᵢ (xᵢ − y)², summed over windows and images
            """,
            padding="adds nothing and has no weight",
            settings=(Setting("alpha", 1.0, "α where alphas is not given", number()),),
            learned=(
                Learned(
                    "alphas",
                    "learned α instead of alpha: (1,), or (C,) for one per channel",
                    default="alpha",
                    initial=1.0,
                    values=(-1.0, 2.0),
                    decay=False,
                ),
            ),
            edges=(
                "overflow: the largest exponent of the window is subtracted first",
                "∂y/∂α is computed as a variance, since Σ w x² − y² would cancel",
                "±∞ and NaN: as in soft_pool",
            ),
            accumulates=f"a window's sums and dα in float64 {RUNS}, {OVERLAPS}",
            smooth=True,
            examples=({"alpha": 1.5}, {"alpha": -1.0}),
            paper="McFee, Salamon & Bello 2018, IEEE/ACM TASLP, arXiv:1804.10070, equation 7",
        ),
        KERNEL,
        literature=("P23",),
        cases=few_cases(alpha=0.5),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 3.]]])
            >>> y, backward = cnncore.auto_pool.with_backward(x, np.array([0.]), kernel_size=2)
            >>> y
            array([[[2.]]])
            >>> dx, dalpha = backward(np.ones_like(y))
            >>> dx
            array([[[0.5, 0.5]]])
            >>> dalpha                          # the variance
            array([1.])
        """,
    ),
    pooling_schema(
        "log_sum_exp_pool",
        LOG_SUM_EXP,
        KERNEL,
        literature=("P24",),
        cases=few_cases(Case(kernel_size=2, r=2.0, mean=True, arrays=None, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.log(np.array([[[1., 3.]]]))
            >>> y, backward = cnncore.log_sum_exp_pool.with_backward(x, kernel_size=2)
            >>> np.exp(y).round(12)
            array([[[4.]]])
            >>> backward(np.ones_like(y)).round(12)
            array([[[0.25, 0.75]]])
            >>> np.exp(cnncore.log_sum_exp_pool(x, kernel_size=2, mean=True)).round(12)
            array([[[2.]]])
        """,
    ),
    pooling_schema(
        "gem_pool",
        GEM,
        KERNEL,
        literature=("P25",),
        cases=few_cases(Case(kernel_size=2, p=2.5, eps=1e-3, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 7., -1., 0.]]])
            >>> y, backward = cnncore.gem_pool.with_backward(x, kernel_size=2, p=2)
            >>> y.round(9)
            array([[[5.e+00, 1.e-06]]])
            >>> backward(np.ones_like(y)).round(9)
            array([[[0.1, 0.7, 0. , 0. ]]])
        """,
    ),
    pooling_schema(
        "alpha_pool",
        Strategy(
            "alpha",
            reference.ALPHA,
            summary="α-integration pooling of each window: the average for α = −1, geometric mean for 1, harmonic mean "
            "for 3, maximum for −∞.",
            formula="y = (1/n Σ (xᵢ + ε)^q)^(1/q),  q = (1 − α)/2, over the window's n cells inside the image",
            gradient="""
                ∂y/∂xᵢ = 1/n ((xᵢ + ε) / y)^(q − 1)
                ∂y/∂α  = −½ y/q² (q Σ x^q ln x / Σ x^q − ln(1/n Σ x^q)) with x + ε for x, summed over windows and images
            """,
            padding="is not counted",
            x="input, x + ε > 0",
            settings=(
                Setting("alpha", -1.0, "α where alphas is not given", number()),
                Setting("eps", 0.0, "ε, added to every element", number(0)),
            ),
            numbers=("eps",),
            learned=(
                Learned(
                    "alphas",
                    "learned α instead of alpha: (1,), or (C,) for one per channel",
                    default="alpha",
                    initial=-1.0,
                    values=(-3.0, 2.0),
                    decay=False,
                ),
            ),
            domain="positive",
            edges=(
                "x + ε ≤ 0 or NaN: DataError; a power of it has no real value",
                "overflow: powers are computed of x / max x, or x / min x for q < 0",
                "α = 1: the geometric mean, exp of the mean of ln x",
            ),
            accumulates=f"a window's powers and dα in float64 {RUNS}, {OVERLAPS}",
            smooth=True,
            examples=({"alpha": 1.0}, {"alpha": 3.0, "eps": 0.1}),
            paper="Eom & Choi 2018, arXiv:1811.03436; Amari 2007, Neural Computation 19(10)",
        ),
        KERNEL,
        literature=("P26",),
        cases=few_cases(Case(kernel_size=2, alpha=1.0, eps=0.1, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[2., 8., 2., 6.]]])
            >>> cnncore.alpha_pool(x, kernel_size=2).round(12)
            array([[[5., 4.]]])
            >>> cnncore.alpha_pool(x, kernel_size=2, alpha=1).round(2)       # geometric: √(2 · 8), √(2 · 6)
            array([[[4.  , 3.46]]])
            >>> cnncore.alpha_pool(x, kernel_size=2, alpha=3).round(12)      # harmonic: 2 / (1/2 + 1/8), 2 / (1/2 + 1/6)
            array([[[3.2, 3. ]]])
        """,
    ),
    pooling_schema(
        "ordinal_pool",
        Strategy(
            "ordinal",
            reference.ORDINAL,
            summary="Ordinal pooling: a weighted average of each window with learned weights that belong to the ranks "
            "of the values.",
            formula="""
                y = Σ vᵣ x₍ᵣ₎ / Σ vᵣ over the ranks r = 1 … n of the window's cells inside the image, x₍₁₎ ≥ x₍₂₎ ≥ …
                v = w, or e^w with softmax=True
            """,
            gradient="""
                ∂y/∂x₍ᵣ₎ = vᵣ / Σ v
                ∂y/∂vᵣ  = (x₍ᵣ₎ − y) / Σ v, with softmax=True ∂y/∂wᵣ = vᵣ ∂y/∂vᵣ; summed over windows and images
            """,
            padding="is not ranked: a window of n elements at the border uses the first n weights",
            settings=(Setting("softmax", False, "use e^w as weights, which is positive for every w", flag),),
            numbers=("softmax",),
            learned=(
                Learned(
                    "w",
                    "weights of the ranks: (1, elements), or (C, elements) for one set per channel",
                    per_rank,
                    initial="ones",
                ),
            ),
            edges=(
                "weights are relative: y is divided by their sum, which must not be 0",
                "equal weights: the average; w = (1, 0, …): the maximum",
                RANKED,
                NAN_FIRST,
            ),
            accumulates=f"a window's sums and dw in float64 {RUNS}, {OVERLAPS}",
            examples=({}, {"softmax": True}),
            kernel_text="it has a weight for each rank within a kernel",
            paper="Deliège, Istasse, Kumar et al. 2021, arXiv:2109.01561; Kumar 2018, arXiv:1804.02702",
        ),
        KERNEL,
        literature=("P30",),
        cases=few_cases(Case(kernel_size=2, softmax=True, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x, w = np.array([[[1., 5.]]]), np.array([[0.75, 0.25]])
            >>> y, backward = cnncore.ordinal_pool.with_backward(x, w, kernel_size=2)
            >>> y
            array([[[4.]]])
            >>> dx, dw = backward(np.ones_like(y))
            >>> dx
            array([[[0.25, 0.75]]])
            >>> dw
            array([[ 1., -3.]])
        """,
    ),
    pooling_schema(
        "rank_avg_pool",
        Strategy(
            "rank_avg",
            reference.RANK_AVG,
            summary="Rank-based average pooling: the average of the t largest values of each window.",
            formula="y = 1/t Σ x₍ᵣ₎ over r ≤ t, x₍₁₎ ≥ x₍₂₎ ≥ … the window's n cells inside the image",
            gradient="∂y/∂x₍ᵣ₎ = 1/t for r ≤ t, else 0",
            padding="is not ranked",
            settings=(
                Setting("t", None, "t, the number of values averaged; None: ⌈n/2⌉; at most n", none_or(whole(1))),
            ),
            numbers=("t",),
            edges=("windows of n < t elements at the border: the average of all", RANKED, NAN_FIRST),
            examples=({}, {"t": 3}),
            paper=SHI,
        ),
        KERNEL,
        literature=("P31",),
        cases=few_cases(t=3),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 2., 9., 4.]]])
            >>> y, backward = cnncore.rank_avg_pool.with_backward(x, kernel_size=4, t=2)
            >>> y
            array([[[6.5]]])
            >>> backward(np.ones_like(y))
            array([[[0. , 0. , 0.5, 0.5]]])
        """,
    ),
    pooling_schema(
        "rank_weighted_pool",
        Strategy(
            "rank_weighted",
            reference.RANK_WEIGHTED,
            summary="Rank-based weighted pooling: a weighted sum of each window whose weights fall geometrically with the rank.",
            formula="""
                y = Σ pᵣ x₍ᵣ₎,  pᵣ = a (1 − a)^(r − 1), x₍₁₎ ≥ x₍₂₎ ≥ … the window's cells inside the image
                normalized=True: divided by Σ pᵣ
            """,
            gradient="∂y/∂x₍ᵣ₎ = pᵣ, or pᵣ / Σ p",
            padding="is not ranked",
            settings=(
                Setting("a", 0.5, "weight α of the largest value; 1 gives the maximum", number(above=0, maximum=1)),
                Setting("normalized", False, "normalise the weights to sum 1", flag),
            ),
            numbers=("a", "normalized"),
            edges=(RANKED, NAN_FIRST, "elements of weight 0 have no influence, not even when infinite"),
            examples=({}, {"a": 0.3, "normalized": True}),
            paper=SHI,
        ),
        KERNEL,
        literature=("P31",),
        cases=few_cases(a=0.3, normalized=True),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 5.]]])
            >>> y, backward = cnncore.rank_weighted_pool.with_backward(x, kernel_size=2)
            >>> y                               # ½ · 5 + ¼ · 1
            array([[[2.75]]])
            >>> backward(np.ones_like(y))
            array([[[0.25, 0.5 ]]])
        """,
    ),
    pooling_schema(
        "rank_stochastic_pool",
        Strategy(
            "rank_stochastic",
            reference.RANK_STOCHASTIC,
            inference=reference.RANK_WEIGHTED,
            inference_numbers=("a", 1),
            draws="cells",
            summary="Rank-based stochastic pooling: draws an element of each window with a probability that falls with "
            "its rank; in inference the expectation.",
            formula="""
                y = x₍ᵣ₎, r drawn with probability pᵣ / Σ p,  pᵣ = a (1 − a)^(r − 1)      (training)
                y = Σ pᵣ x₍ᵣ₎ / Σ pᵣ                                                     (else)
            """,
            gradient="""
                ∂y/∂x₍ᵣ₎ = 1 for the r drawn, else 0     (training; the cell is held fixed)
                ∂y/∂x₍ᵣ₎ = pᵣ / Σ p                      (else)
            """,
            padding="is never drawn",
            settings=(
                Setting("a", 0.5, "weight α of the largest value; 1 gives the maximum", number(above=0, maximum=1)),
            ),
            numbers=("a", 1),
            edges=(RANKED, NAN_FIRST, "negative values: only ranks matter, x need not be positive"),
            examples=({}, {"a": 0.3}),
            paper=SHI,
        ),
        KERNEL,
        literature=("P31",),
        cases=few_cases(Case(kernel_size=2, a=0.3, training=True, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 7.]]])
            >>> cnncore.rank_stochastic_pool(x, kernel_size=2)          # 2/3 · 7 + 1/3 · 1
            array([[[5.]]])
            >>> y, state = cnncore.rank_stochastic_pool(x, kernel_size=2, training=True, return_state=True)
            >>> bool(y.item() == x[0, 0, state.item()])
            True
        """,
    ),
    pooling_schema(
        "max_pool_dropout",
        Strategy(
            "max_dropout",
            reference.MAX_DROPOUT,
            inference=reference.RANK_WEIGHTED,
            inference_numbers=(lambda place, settings: 1 - settings["q"],),
            draws="cells",
            summary="Max-pooling dropout: the maximum of the elements of each window that dropout keeps; in inference "
            "the expectation.",
            formula="""
                y = max xᵢ over the cells that are kept, each with probability 1 − q; 0 where none is      (training)
                y = Σ q^(r − 1)(1 − q) x₍ᵣ₎,  x₍₁₎ ≥ x₍₂₎ ≥ … the window's cells inside the image         (else)
            """,
            gradient="""
                ∂y/∂xᵢ = 1 for the cell that y came from, else 0     (training)
                ∂y/∂x₍ᵣ₎ = q^(r − 1)(1 − q)                          (else)
            """,
            padding="never wins",
            settings=(Setting("q", 0.5, "probability of dropping a pixel", number(0, below=1)),),
            numbers=("q",),
            edges=(
                "a pixel is kept or dropped for all windows that contain it",
                "all elements dropped: y = 0, no gradient, −1 in the state",
                "the expectation assumes x ≥ 0, as after relu",
                "ties: the first in row-major order; NaN: propagates where it is kept",
            ),
            examples=({}, {"q": 0.3}),
            paper="Wu & Gu 2015, arXiv:1512.01400, equations 4-9",
        ),
        KERNEL,
        literature=("P17",),
        cases=few_cases(Case(kernel_size=2, q=0.3, training=True, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 5.]]])
            >>> cnncore.max_pool_dropout(x, kernel_size=2)           # ½ · 5 + ½ · ½ · 1 + ¼ · 0
            array([[[2.75]]])
            >>> y, state = cnncore.max_pool_dropout(x, kernel_size=2, training=True, seed=3, return_state=True)
            >>> (y.item(), state.item()) in ((5., 1), (1., 0), (0., -1))
            True
        """,
    ),
    pooling_schema(
        "dilation_pool",
        Strategy(
            "dilation",
            reference.DILATION,
            summary="Morphological (grey-scale) dilation with a learned structuring element: the maximum of each "
            "window plus the element.",
            formula="y = max(xᵢ + fᵢ) over the window's cells inside the image, f by the cell's place in the kernel",
            gradient="∂y/∂xᵢ = ∂y/∂fᵢ = 1 for the first i (row-major) with xᵢ + fᵢ = y, else 0; df summed",
            padding="never wins (acts as −∞)",
            learned=(
                Learned(
                    "f",
                    "structuring element: (1, *kernel), or (C, *kernel) for one per channel",
                    per_tap,
                    values=(-1.0, 1.0),
                ),
            ),
            edges=("f = 0: max_pool", "ties: the first in row-major order; NaN: propagates"),
            accumulates=f"df in float64 {RUNS}, {OVERLAPS}",
            kernel_text="its structuring element has a value for each position of a kernel",
            paper=SERRA,
        ),
        KERNEL,
        literature=("P52",),
        cases=few_cases(),
        example="""
            >>> import numpy as np, cnncore
            >>> x, f = np.array([[[5., 1., 30., 1.]]]), np.array([[0., 10.]])
            >>> y, backward = cnncore.dilation_pool.with_backward(x, f, kernel_size=2)
            >>> y
            array([[[11., 30.]]])
            >>> dx, df = backward(np.ones_like(y))
            >>> dx
            array([[[0., 1., 1., 0.]]])
            >>> df
            array([[1., 1.]])
        """,
    ),
    pooling_schema(
        "erosion_pool",
        Strategy(
            "erosion",
            reference.EROSION,
            summary="Morphological (grey-scale) erosion with a learned structuring element: the minimum of each window "
            "minus the element.",
            formula="y = min(xᵢ − fᵢ) over the window's cells inside the image, f by the cell's place in the kernel",
            gradient="∂y/∂xᵢ = −∂y/∂fᵢ = 1 for the first i (row-major) with xᵢ − fᵢ = y, else 0; df summed",
            padding="never wins (acts as ∞)",
            learned=(
                Learned(
                    "f",
                    "structuring element: (1, *kernel), or (C, *kernel) for one per channel",
                    per_tap,
                    values=(-1.0, 1.0),
                ),
            ),
            edges=("f = 0: min_pool", "ties: the first in row-major order; NaN: propagates"),
            accumulates=f"df in float64 {RUNS}, {OVERLAPS}",
            kernel_text="its structuring element has a value for each position of a kernel",
            paper=SERRA,
        ),
        KERNEL,
        literature=("P52",),
        cases=few_cases(),
        example="""
            >>> import numpy as np, cnncore
            >>> x, f = np.array([[[5., 1., 30., 1.]]]), np.array([[0., 10.]])
            >>> y, backward = cnncore.erosion_pool.with_backward(x, f, kernel_size=2)
            >>> y
            array([[[-9., -9.]]])
            >>> dx, df = backward(np.ones_like(y))
            >>> dx
            array([[[0., 1., 0., 1.]]])
            >>> df
            array([[ 0., -2.]])
        """,
    ),
    pooling_schema(
        "fractional_max_pool",
        MAX,
        FRACTIONAL,
        literature=("P10", "P11", "P12", "P13"),
        summary="Fractional max pooling: max pooling with random window steps, which reduces the image by a factor "
        "that need not be an integer.",
        cases=(
            Case(spatial=7, kernel_size=2, output_size=4, ranks=(1, 2)),
            Case(spatial=5, output_ratio=0.7, overlapping=False),
            Case(spatial=7, output_size=(3, 5), mode="random", ranks=(2,)),
            Case(spatial=7, output_size=5, mode="random", overlapping=False, ranks=(1,)),
            Case(spatial=5, kernel_size=2, output_size=3, compat="torch", ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 5., 2., 8., 3.]]])
            >>> starts = np.array([[0, 1, 3]])                  # windows of two cells each
            >>> y, backward = cnncore.fractional_max_pool.with_backward(x, starts, kernel_size=2, output_size=3)
            >>> y
            array([[[5., 5., 8.]]])
            >>> backward(np.ones_like(y))
            array([[[0., 2., 0., 1., 0.]]])
        """,
    ),
    pooling_schema(
        "fractional_avg_pool",
        AVG,
        FRACTIONAL,
        literature=("P14",),
        summary="Fractional average pooling: average pooling with random window steps, by a factor that need not be an integer.",
        cases=(
            Case(spatial=7, kernel_size=2, output_size=4, mode="random", ranks=(1, 2)),
            Case(spatial=5, output_ratio=0.7, overlapping=False, ranks=(3,)),
            Case(spatial=5, kernel_size=2, output_size=3, compat="torch", ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 5., 2., 8., 3.]]])
            >>> parts = np.array([[0, 1, 3, 5]])                # three windows that share out the image
            >>> cnncore.fractional_avg_pool(x, parts, output_size=3, overlapping=False)
            array([[[1. , 3.5, 5.5]]])
        """,
    ),
    pooling_schema(
        "s3_pool",
        MAX,
        S3,
        literature=("P16",),
        summary="S3 pooling (stochastic spatial sampling): max pooling with stride 1, then rows and columns drawn at "
        "random; in inference averages.",
        gradient="to the picked rows and columns (training) or 1/s per axis to each (else), then as in max_pool",
        settings_list=S3.settings,
        returns="array y; with return_state=True the pair (y, state), state int64 (axes, most rows)",
        cases=(
            Case(spatial=5, kernel_size=2, training=True, ranks=(1, 2)),
            Case(spatial=4, kernel_size=2, stride=2, ranks=(3,)),
            Case(spatial=7, kernel_size=3, stride=2, grid_size=4, training=True, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 5., 2., 3.]]])
            >>> cnncore.s3_pool(x, kernel_size=2)               # averages of 5 5, 3 3
            array([[[5., 3.]]])
            >>> picked = np.array([[0, 2]])
            >>> y, backward = cnncore.s3_pool.with_backward(x, picked, kernel_size=2, grid_size=4, training=True)
            >>> backward(np.ones_like(y))
            array([[[0., 1., 0., 1.]]])
        """,
    ),
    pooling_schema(
        "spatial_pyramid_pool",
        MAX,
        PYRAMID,
        kind=Choosing(MAX, PYRAMID, (MAX, AVG)),
        literature=("P38",),
        summary="Spatial pyramid pooling: adaptive max or average pooling at several levels, concatenated to a vector "
        "of fixed length.",
        formula="y = the maxima (or averages) of level² windows per channel for each level, 2 axes; level, level³ for 1, 3",
        gradient="the sum over levels of what max_pool (or avg_pool) gives",
        settings_list=(
            *PYRAMID.settings,
            Setting(
                "strategy",
                "max",
                "'max' or 'avg'; other strategies: cnncore.pool(windows='pyramid')",
                choice("max", "avg"),
            ),
        ),
        returns="array y",
        cases=(Case(spatial=5, levels=(1, 2)), Case(levels=(3, 1), strategy="avg", ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 5., 2., 8.]]])
            >>> y, backward = cnncore.spatial_pyramid_pool.with_backward(x, levels=(1, 2))
            >>> y
            array([[8., 5., 8.]])
            >>> backward(np.array([[1., 10., 100.]]))
            array([[[  0.,  10.,   0., 101.]]])
        """,
    ),
    pooling_schema(
        "roi_max_pool",
        MAX,
        ROI,
        literature=("P39",),
        summary="RoI max pooling: adaptive max pooling of each region of interest.",
        settings_list=ROI.settings,
        returns="array y",
        cases=(
            Case(spatial=5, output_size=2, ranks=(1, 2)),
            Case(spatial=4, output_size=3, spatial_scale=0.5, ranks=(3,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.arange(16.).reshape(1, 1, 4, 4)
            >>> rois = np.array([[0., 1., 0., 2., 3.]])         # of image 0: columns 1 to 2, rows 0 to 3
            >>> cnncore.roi_max_pool(x, rois, output_size=2)
            array([[[[ 5.,  6.],
                     [13., 14.]]]])
        """,
    ),
    pooling_schema(
        "global_gem_pool",
        GEM,
        GLOBAL,
        literature=("P25",),
        summary="Global generalised-mean (GeM) pooling, as used for image retrieval.",
        cases=(Case(), Case(p=-2.0, eps=1e-3, keepdims=True, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 7.], [2., 2.]]])
            >>> cnncore.global_gem_pool(x, p=2).round(12)
            array([[5., 2.]])
        """,
    ),
    pooling_schema(
        "global_log_sum_exp_pool",
        LOG_SUM_EXP,
        GLOBAL,
        literature=("P24",),
        summary="Global log-sum-exp pooling: a smooth maximum of each channel over the image.",
        cases=(Case(), Case(r=3.0, mean=True, keepdims=True, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.log(np.array([[[1., 3.], [2., 2.]]]))
            >>> np.exp(cnncore.global_log_sum_exp_pool(x)).round(12)
            array([[4., 4.]])
        """,
    ),
    Op(
        "k_max_pool",
        KMax(),
        group="pooling",
        literature=("P32",),
        summary="k-max pooling: the k largest values along the last axis, in their original order.",
        formula="""
            y = those k of the L values of each row that no other L − k exceed, in their order
            dynamic, with layer l of layers: k' = max(k, ⌈(layers − l)/layers · L⌉)
        """,
        gradient="∂y[j]/∂x[i] = 1 where y[j] is x[i], else 0",
        settings_list=(
            Setting("k", 2, "number of values kept; with layer and layers at least this many", whole(1)),
            Setting(
                "layer", None, "of dynamic k-max pooling: number of this convolutional layer, from 1", none_or(whole(1))
            ),
            Setting(
                "layers",
                None,
                "of dynamic k-max pooling: number of convolutional layers; the last keeps k",
                none_or(whole(1)),
            ),
            Setting("return_indices", False, "also return the index along the axis of each y", flag),
        ),
        shape="(N, C, *spatial, L) → (N, C, *spatial, k)",
        edges=("ties: the lower index is kept", "NaN: ranks above all numbers", "k > L: ShapeError"),
        accumulates="none",
        returns="array y; with return_indices=True the pair (y, indices), indices int64 of y's shape",
        smooth=False,
        paper="Kalchbrenner, Grefenstette & Blunsom 2014, ACL, arXiv:1404.2188, sections 3.2-3.3",
        cases=(Case(spatial=5, k=3), Case(spatial=7, k=2, layer=1, layers=2, ranks=(1,))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[5., 1., 7., 3., 7.]]])
            >>> y, backward = cnncore.k_max_pool.with_backward(x, k=3)
            >>> y
            array([[[5., 7., 7.]]])
            >>> backward(np.array([[[1., 2., 3.]]]))
            array([[[1., 0., 2., 0., 3.]]])
        """,
    ),
)
