"""Schemas of the operators on arrays: arithmetic, reductions, matrix products, reshaping, constants.

Models imported from ONNX are full of them; each has a similar name there.
"""

import numpy as np

from ...checks import flag, number, whole
from ...errors import SettingError
from ..activation.elementwise import Elementwise
from ..operator import Op
from ..schema import REQUIRED, Array, Case, Layer, Parameter, Setting
from . import arithmetic, reduction
from .einsum import EinsteinSum, equation
from .implementation import (
    MOST_AXES,
    ArangeLike,
    Constant,
    Expand,
    Gather,
    MatrixProduct,
    Pairwise,
    Reduction,
    Reshape,
    Squeeze,
    Tile,
    Transpose,
    Unsqueeze,
    axis_list,
    chosen_axes,
    extent_list,
    gathered_list,
    target_list,
)

__all__ = ["SCHEMAS"]

ANY = "any shape of at most 8 dimensions → the same"
ROUNDED = "none; computes in long double and rounds once"
ARITHMETIC = "ONNX operator {}, 2017; NumPy, Harris et al. 2020, Nature, doi:10.1038/s41586-020-2649-2"


# ── Arithmetic of two arrays ───────────────────────────────────────────────────────────────────────────────────────────

BROADCAST = "shapes broadcast as in NumPy: aligned at the last axis, extents are equal or 1"
SHAPES = "two shapes of at most 8 dimensions that broadcast → the broadcast shape"


def per_channel_image(rng, x):
    """Positive numbers, one per channel."""
    return (rng.uniform(0.5, 2, (x.shape[1], *[1] * (x.ndim - 2))),)


def whole_array(rng, x):
    """As many numbers as x has, none near those of x."""
    return (x[::-1] * 0.7 + np.where(x[::-1] > 0, 0.31, -0.31),)


def single_numbers(rng, x):
    """One number per image: x is summed up to find its gradient."""
    return (rng.uniform(0.5, 2, (x.shape[0], *[1] * (x.ndim - 1))),)


def pairwise(name, functions, onnx, summary, formula, gradient, example, *, reads=("x", "z"), edges=(), **row):
    """The schema of an operator on two arrays that broadcast."""
    domain = row.pop("domain", "any")
    return Op(
        name,
        Pairwise(*functions, reads),
        group="arrays",
        summary=summary,
        formula=formula,
        gradient=gradient + "; where an array was broadcast, the sum over its copies",
        arrays=(Array("x", "first array"), Array("z", "second array, broadcast with x")),
        shape=SHAPES,
        edges=(*edges, BROADCAST),
        accumulates="gradients of what was broadcast in long double",
        paper=ARITHMETIC.format(onnx),
        cases=(
            Case(arrays=per_channel_image, spatial=2, domain=domain),
            Case(arrays=whole_array if domain == "any" else single_numbers, spatial=3, domain=domain, ranks=(1,)),
        ),
        example=example,
        **row,
    )


PAIRWISE = (
    pairwise(
        "subtract",
        (arithmetic.SUBTRACT, arithmetic.SUBTRACT_OTHER),
        "Sub",
        "Elementwise subtraction with broadcasting.",
        "y = x − z",
        "dx = dy,   dz = −dy",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.subtract(np.array([[1., 2.], [3., 4.]]), np.array([1., 0.]))
            array([[0., 2.],
                   [2., 4.]])
        """,
        reads=(),
        linear=("x", "z"),
    ),
    pairwise(
        "multiply",
        (arithmetic.MULTIPLY, arithmetic.MULTIPLY_OTHER),
        "Mul",
        "Elementwise multiplication with broadcasting.",
        "y = x z",
        "dx = z dy,   dz = x dy",
        """
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.multiply.with_backward(np.array([[1., 2.], [3., 4.]]), np.array([10., 1.]))
            >>> y
            array([[10.,  2.],
                   [30.,  4.]])
            >>> backward(np.ones((2, 2)))[1]
            array([4., 6.])
        """,
        linear=("x", "z"),
    ),
    pairwise(
        "divide",
        (arithmetic.DIVIDE, arithmetic.DIVIDE_OTHER),
        "Div",
        "Elementwise division with broadcasting.",
        "y = x / z",
        "dx = dy / z,   dz = −x dy / z²",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.divide(np.array([[1., 2.], [3., 4.]]), np.array([[2.], [4.]]))
            array([[0.5 , 1.  ],
                   [0.75, 1.  ]])
        """,
        edges=("z = 0: ±∞, or NaN where x = 0 too",),
        linear=("x",),
    ),
    pairwise(
        "maximum",
        (arithmetic.MAXIMUM, arithmetic.MAXIMUM_OTHER),
        "Max",
        "Elementwise maximum of two arrays with broadcasting.",
        "y = max(x, z)",
        "dx = dy where x ≥ z, else 0;   dz = dy − dx",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.maximum(np.array([1., 5., 3.]), np.array([2., 4., 3.]))
            array([2., 5., 3.])
        """,
        edges=("equal values: x takes the gradient", "NaN: propagates, that of x first"),
        smooth=False,
    ),
    pairwise(
        "minimum",
        (arithmetic.MINIMUM, arithmetic.MINIMUM_OTHER),
        "Min",
        "Elementwise minimum of two arrays with broadcasting.",
        "y = min(x, z)",
        "dx = dy where x ≤ z, else 0;   dz = dy − dx",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.minimum(np.array([1., 5., 3.]), np.array([2., 4., 3.]))
            array([1., 4., 3.])
        """,
        edges=("equal values: x takes the gradient", "NaN: propagates, that of x first"),
        smooth=False,
    ),
    pairwise(
        "remainder",
        (arithmetic.REMAINDER, arithmetic.REMAINDER_OTHER),
        "Mod",
        "Elementwise remainder with the sign of the divisor, as Python's %.",
        "y = x − z ⌊x / z⌋",
        "dx = dy,   dz = −⌊x / z⌋ dy",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.remainder(np.array([5., -5., 5.]), np.array([3., 3., -3.]))
            array([ 2.,  1., -1.])
        """,
        edges=(
            "z = 0: NaN",
            "z = ±∞: x, or z where the signs differ",
            "y jumps where x is a multiple of z; the gradient ignores it",
        ),
        smooth=False,
    ),
    pairwise(
        "fmod",
        (arithmetic.FMOD, arithmetic.FMOD_OTHER),
        "Mod (fmod=1)",
        "Elementwise remainder with the sign of the dividend, as C's fmod.",
        "y = x − z trunc(x / z)",
        "dx = dy,   dz = −trunc(x / z) dy",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.fmod(np.array([5., -5., 5.]), np.array([3., 3., -3.]))
            array([ 2., -2.,  2.])
        """,
        edges=("z = 0: NaN", "z = ±∞: x", "y jumps where x is a multiple of z; the gradient ignores it"),
        smooth=False,
    ),
    pairwise(
        "power",
        (arithmetic.POWER, arithmetic.POWER_OTHER),
        "Pow",
        "Elementwise power with broadcasting.",
        "y = xᶻ",
        "dx = z xᶻ⁻¹ dy,   dz = y log x dy",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.power(np.array([1., 2., 3.]), np.array([2.]))
            array([1., 4., 9.])
        """,
        edges=("x < 0 and z not an integer: NaN", "z = 0: y = 1 with dx = 0", "y = 0: dz = 0"),
        domain="positive",
    ),
)


# ── Functions of one array ─────────────────────────────────────────────────────────────────────────────────────────────


def function_row(name, function, onnx, summary, formula, gradient, example, *, domain="any", edges=(), **row):
    """The schema of y = f(x)."""
    return Op(
        name,
        Elementwise(function),
        group="arrays",
        summary=summary,
        formula=formula,
        gradient=gradient,
        shape=ANY,
        edges=edges,
        accumulates=ROUNDED,
        paper=ARITHMETIC.format(onnx),
        cases=(Case(domain=domain, spatial=2),),
        example=f"""
            >>> import numpy as np, cnncore
            >>> {example[0]}
            {example[1]}
        """,
        **row,
    )


def stepwise(name, function, onnx, summary, formula, example, edges=()):
    """The schema of a function whose derivative is 0 wherever it exists."""
    return function_row(
        name, function, onnx, summary, formula, "∂y/∂x = 0", example, edges=edges, smooth=False, domain="unit"
    )


FUNCTIONS = (
    function_row(
        "negative",
        arithmetic.NEGATIVE,
        "Neg",
        "Elementwise negation.",
        "y = −x",
        "∂y/∂x = −1",
        ("cnncore.negative(np.array([1., -2.]))", "array([-1.,  2.])"),
        linear=("x",),
    ),
    function_row(
        "reciprocal",
        arithmetic.RECIPROCAL,
        "Reciprocal",
        "Elementwise reciprocal.",
        "y = 1 / x",
        "∂y/∂x = −1 / x²",
        ("cnncore.reciprocal(np.array([2., -4.]))", "array([ 0.5 , -0.25])"),
        domain="positive",
        edges=("x = ±0: ±∞",),
    ),
    function_row(
        "sqrt",
        arithmetic.SQRT,
        "Sqrt",
        "Elementwise square root.",
        "y = √x",
        "∂y/∂x = 1 / (2 √x)",
        ("cnncore.sqrt(np.array([4., 9.]))", "array([2., 3.])"),
        domain="positive",
        edges=("x < 0: NaN", "x = 0: 0 with slope ∞"),
    ),
    function_row(
        "log",
        arithmetic.LOG,
        "Log",
        "Elementwise natural logarithm.",
        "y = log x",
        "∂y/∂x = 1 / x",
        ("cnncore.log(np.array([1., np.e]))", "array([0., 1.])"),
        domain="positive",
        edges=("x < 0: NaN", "x = 0: −∞ with slope ∞"),
    ),
    function_row(
        "erf",
        arithmetic.ERF,
        "Erf",
        "Elementwise error function.",
        "y = 2/√π ∫₀ˣ e^{−t²} dt",
        "∂y/∂x = 2/√π e^{−x²}",
        ("cnncore.erf(np.array([0., np.inf]))", "array([0., 1.])"),
        edges=("±∞: ±1 with slope 0",),
    ),
    stepwise(
        "floor",
        arithmetic.FLOOR,
        "Floor",
        "Rounds each value down to an integer.",
        "y = ⌊x⌋",
        ("cnncore.floor(np.array([1.5, -1.5]))", "array([ 1., -2.])"),
    ),
    stepwise(
        "ceil",
        arithmetic.CEIL,
        "Ceil",
        "Rounds each value up to an integer.",
        "y = ⌈x⌉",
        ("cnncore.ceil(np.array([1.5, -1.5]))", "array([ 2., -1.])"),
    ),
    stepwise(
        "round",
        arithmetic.ROUND,
        "Round",
        "Rounds each value to the nearest integer.",
        "y = the whole number next to x",
        ("cnncore.round(np.array([0.5, 1.5, -1.2]))", "array([ 0.,  2., -1.])"),
        edges=("halfway between two integers: the even one",),
    ),
    function_row(
        "sin",
        arithmetic.SIN,
        "Sin",
        "Elementwise sine.",
        "y = sin x",
        "∂y/∂x = cos x",
        ("cnncore.sin(np.array([0., np.pi / 2]))", "array([0., 1.])"),
        edges=("±∞: NaN",),
    ),
    function_row(
        "cos",
        arithmetic.COS,
        "Cos",
        "Elementwise cosine.",
        "y = cos x",
        "∂y/∂x = −sin x",
        ("cnncore.cos(np.array([0., np.pi]))", "array([ 1., -1.])"),
        edges=("±∞: NaN",),
    ),
    function_row(
        "tan",
        arithmetic.TAN,
        "Tan",
        "Elementwise tangent.",
        "y = tan x",
        "∂y/∂x = 1 / cos² x",
        ("cnncore.tan(np.array([0., np.pi / 4]))", "array([0., 1.])"),
        domain="unit",
        edges=("±∞: NaN",),
    ),
    function_row(
        "asin",
        arithmetic.ASIN,
        "Asin",
        "Elementwise arcsine.",
        "y = arcsin x,   −π/2 … π/2",
        "∂y/∂x = 1 / √(1 − x²)",
        ("cnncore.asin(np.array([0., 1.])) / np.pi", "array([0. , 0.5])"),
        domain="unit",
        edges=("|x| > 1: NaN", "x = ±1: slope ∞"),
    ),
    function_row(
        "acos",
        arithmetic.ACOS,
        "Acos",
        "Elementwise arccosine.",
        "y = arccos x,   0 … π",
        "∂y/∂x = −1 / √(1 − x²)",
        ("cnncore.acos(np.array([0., -1.])) / np.pi", "array([0.5, 1. ])"),
        domain="unit",
        edges=("|x| > 1: NaN", "x = ±1: slope −∞"),
    ),
    function_row(
        "atan",
        arithmetic.ATAN,
        "Atan",
        "Elementwise arctangent.",
        "y = arctan x,   −π/2 … π/2",
        "∂y/∂x = 1 / (1 + x²)",
        ("cnncore.atan(np.array([0., 1.])) / np.pi", "array([0.  , 0.25])"),
    ),
    function_row(
        "sinh",
        arithmetic.SINH,
        "Sinh",
        "Elementwise hyperbolic sine.",
        "y = sinh x = (eˣ − e⁻ˣ) / 2",
        "∂y/∂x = cosh x",
        ("cnncore.sinh(np.array([0., np.log(2)]))", "array([0.  , 0.75])"),
    ),
    function_row(
        "cosh",
        arithmetic.COSH,
        "Cosh",
        "Elementwise hyperbolic cosine.",
        "y = cosh x = (eˣ + e⁻ˣ) / 2",
        "∂y/∂x = sinh x",
        ("cnncore.cosh(np.array([0., np.log(2)]))", "array([1.  , 1.25])"),
    ),
    function_row(
        "asinh",
        arithmetic.ASINH,
        "Asinh",
        "Elementwise inverse hyperbolic sine.",
        "y = arsinh x = log(x + √(x² + 1))",
        "∂y/∂x = 1 / √(x² + 1)",
        ("cnncore.asinh(np.array([0., 0.75])) / np.log(2)", "array([0., 1.])"),
    ),
    function_row(
        "acosh",
        arithmetic.ACOSH,
        "Acosh",
        "Elementwise inverse hyperbolic cosine.",
        "y = arcosh x = log(x + √(x² − 1))",
        "∂y/∂x = 1 / √(x² − 1)",
        ("cnncore.acosh(np.array([1., 1.25])) / np.log(2)", "array([0., 1.])"),
        domain="beyond one",
        edges=("x < 1: NaN", "x = 1: slope ∞"),
    ),
    function_row(
        "atanh",
        arithmetic.ATANH,
        "Atanh",
        "Elementwise inverse hyperbolic tangent.",
        "y = artanh x = ½ log((1 + x) / (1 − x))",
        "∂y/∂x = 1 / (1 − x²)",
        ("cnncore.atanh(np.array([0., 0.6])) / np.log(2)", "array([0., 1.])"),
        domain="unit",
        edges=("|x| > 1: NaN", "x = ±1: ±∞"),
    ),
)


# ── Reductions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def reduction_row(name, function, onnx, summary, formula, gradient, example, *, domain="any", edges=(), **row):
    """The schema of a reduction over axes."""
    return Op(
        name,
        Reduction(function),
        group="arrays",
        summary=summary,
        formula=formula,
        gradient=gradient,
        settings_list=(
            Setting("axes", None, "axis or axes to reduce, negative ones counted from the last; None: all", axis_list),
            Setting("keepdims", True, "keep the reduced axes, with extent 1", flag),
        ),
        shape="any shape of at most 8 dimensions → the same, with extent 1 along axes; with keepdims=False without them",
        edges=(*edges, "no values along the axes: ShapeError"),
        accumulates="in long double",
        paper=f"ONNX operator {onnx}, 2017",
        cases=(
            Case(axes=(1, -1), spatial=2, domain=domain),
            Case(axes=1, keepdims=False, spatial=2, domain=domain, ranks=(2,)),
            *((Case(spatial=2, ranks=(1,)),) if name == "reduce_sum" else ()),
        ),
        example=f"""
            >>> import numpy as np, cnncore
            >>> {example[0]}
            {example[1]}
        """,
        **row,
    )


REDUCTIONS = (
    reduction_row(
        "reduce_sum",
        reduction.SUM,
        "ReduceSum",
        "Sum over axes.",
        "y = Σ x",
        "dx = dy",
        ("cnncore.reduce_sum(np.array([[1., 2.], [3., 4.]]), axes=1)", "array([[3.],\n                   [7.]])"),
        linear=("x",),
    ),
    reduction_row(
        "reduce_mean",
        reduction.MEAN,
        "ReduceMean",
        "Mean over axes.",
        "y = Σ x / n,   n: values per output",
        "dx = dy / n",
        ("cnncore.reduce_mean(np.array([[1., 2.], [3., 4.]]), axes=0)", "array([[2., 3.]])"),
        linear=("x",),
    ),
    reduction_row(
        "reduce_max",
        reduction.MAX,
        "ReduceMax",
        "Maximum over axes.",
        "y = max x",
        "dx = dy for the first of the largest values in row-major order, else 0",
        ("cnncore.reduce_max(np.array([[1., 5.], [3., 4.]]), axes=1, keepdims=False)", "array([5., 4.])"),
        edges=("NaN: propagates",),
        smooth=False,
    ),
    reduction_row(
        "reduce_min",
        reduction.MIN,
        "ReduceMin",
        "Minimum over axes.",
        "y = min x",
        "dx = dy for the first of the smallest values in row-major order, else 0",
        ("cnncore.reduce_min(np.array([[1., 5.], [3., 4.]]), axes=1, keepdims=False)", "array([1., 3.])"),
        edges=("NaN: propagates",),
        smooth=False,
    ),
    reduction_row(
        "reduce_prod",
        reduction.PROD,
        "ReduceProd",
        "Product over axes.",
        "y = Π x",
        "dxᵢ = dy Π xⱼ over all others j",
        ("cnncore.reduce_prod(np.array([[1., 5.], [3., 4.]]), axes=1, keepdims=False)", "array([ 5., 12.])"),
        edges=("one x = 0: only its gradient is not 0; two or more: all gradients are 0",),
    ),
    reduction_row(
        "reduce_l1",
        reduction.L1,
        "ReduceL1",
        "L1 norm over axes: the sum of magnitudes.",
        "y = Σ |x|",
        "dx = sign(x) dy",
        ("cnncore.reduce_l1(np.array([[1., -5.], [3., 4.]]), axes=1, keepdims=False)", "array([6., 7.])"),
        edges=("x = 0: the subgradient 0 is taken",),
        smooth=False,
    ),
    reduction_row(
        "reduce_l2",
        reduction.L2,
        "ReduceL2",
        "L2 norm over axes: the Euclidean length.",
        "y = √(Σ x²)",
        "dx = x dy / y",
        ("cnncore.reduce_l2(np.array([[3., 4.], [0., 5.]]), axes=1, keepdims=False)", "array([5., 5.])"),
        edges=("all x = 0: y = 0, the subgradient 0 is taken",),
    ),
    reduction_row(
        "reduce_sum_square",
        reduction.SUM_SQUARE,
        "ReduceSumSquare",
        "Sum of squares over axes.",
        "y = Σ x²",
        "dx = 2 x dy",
        ("cnncore.reduce_sum_square(np.array([[3., 4.], [0., 5.]]), axes=1, keepdims=False)", "array([25., 25.])"),
    ),
    reduction_row(
        "reduce_log_sum",
        reduction.LOG_SUM,
        "ReduceLogSum",
        "Logarithm of the sum over axes.",
        "y = log Σ x",
        "dx = dy / Σ x",
        ("cnncore.reduce_log_sum(np.array([[0.5, 0.5]]), axes=1, keepdims=False)", "array([0.])"),
        domain="positive",
        edges=("a sum of 0: −∞; below 0: NaN",),
    ),
    reduction_row(
        "reduce_log_sum_exp",
        reduction.LOG_SUM_EXP,
        "ReduceLogSumExp",
        "Logarithm of the sum of exponentials (log-sum-exp) over axes.",
        "y = log Σ eˣ = m + log Σ e^{x − m},   m = max x",
        "dx = e^{x − y} dy",
        (
            "cnncore.reduce_log_sum_exp(np.array([[1000., 1000.]]), axes=1, keepdims=False) - 1000",
            "array([0.69314718])",
        ),
        edges=("overflow: the exponentials are those of x − m",),
    ),
)


# ── Products of matrices ───────────────────────────────────────────────────────────────────────────────────────────────


def second_matrices(rng, x):
    """Matrices of four columns, the same for all images."""
    return (rng.standard_normal((x.shape[-1], 4)),)


def rows_for_channels(rng, x):
    """A row for each of four results, as long as x has channels."""
    return (rng.standard_normal((4, x.shape[1])),)


def rows_for_lines(rng, x):
    """A row for each of two results, as long as x is along its last axis."""
    return (rng.standard_normal((2, x.shape[-1])),)


def square_and_numbers(rng, x):
    """A square of channels, and a number for each image."""
    return rng.standard_normal((x.shape[1], x.shape[1])), rng.standard_normal(x.shape[0])


def one_for_all_images(rng, x):
    """As x, with one channel, the same for all images."""
    return (rng.standard_normal((1, 1, *x.shape[2:])),)


def matrices_of_each_image(rng, x):
    return (rng.standard_normal((*x.shape[:-2], x.shape[-1], 2)),)


PRODUCTS = (
    Op(
        "matmul",
        MatrixProduct(),
        group="arrays",
        summary="Matrix product over the last two axes, with broadcasting of the others.",
        formula="y[…, i, k] = Σ x[…, i, j] z[…, j, k] over j",
        gradient="dx = dy zᵀ,   dz = xᵀ dy; where an array was broadcast, the sum over its copies",
        arrays=(Array("x", "matrices (…, I, J)"), Array("z", "matrices (…, J, K)")),
        shape="(…, I, J) and (…, J, K) → (…, I, K); 2 to 5 dimensions, those before the last two broadcast",
        symbols={"I": "rows of x", "J": "columns of x, rows of z", "K": "columns of z"},
        edges=(BROADCAST, "for x of shape (N, J) and learned weights use linear"),
        accumulates="in x's dtype, in one order for any number of threads",
        linear=("x", "z"),
        paper="ONNX operator MatMul, 2017; Dongarra et al. 1990, doi:10.1145/77626.79170 (level 3 BLAS)",
        cases=(
            Case(arrays=second_matrices, spatial=2, ranks=(1, 2, 3)),
            Case(arrays=matrices_of_each_image, spatial=2, ranks=(0, 2)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.matmul(np.array([[1., 2.]]), np.array([[1., 0.], [0., 10.]]))
            array([[ 1., 20.]])
        """,
    ),
    Op(
        "einsum",
        EinsteinSum(),
        group="arrays",
        summary="Einstein summation: products of arrays, summed over the axes that the equation does not give y.",
        formula="y[labels of y] = Σ x₁[labels of x₁] x₂[labels of x₂] … over all other labels",
        gradient="dx_j = Σ dy Π x_i, i ≠ j: the sum for the labels of x_j",
        arrays=(Array("x", "arrays, one for each term of the equation", variadic=True),),
        settings_list=(
            Setting(
                "equation",
                REQUIRED,
                "a letter for every axis, a term for every array: 'ij,jk->ik'; '...' for further axes, which broadcast; "
                "without '->' y has the letters that occur once, in alphabetical order",
                equation,
            ),
        ),
        shape="any shapes of at most 8 dimensions → any shape of at most 8 dimensions",
        edges=(
            "a letter twice in a term: the diagonal",
            "an extent of 1 broadcasts against another one of the same letter",
            "more than two arrays: multiplied in their order",
        ),
        accumulates="products as matmul; axes of a single array are summed in float64",
        linear=("x",),
        paper="ONNX operator Einsum, 2020; NumPy, Harris et al. 2020, Nature, doi:10.1038/s41586-020-2649-2 (einsum)",
        cases=(
            Case(equation="nc...,kc->nk...", arrays=rows_for_channels, spatial=2),
            Case(equation="nc...->n...c", spatial=2, ranks=(1, 2)),
            Case(equation="acl, kl", arrays=rows_for_lines, spatial=3, ranks=(1,)),
            Case(equation="nchw,cc,n->nhc", arrays=square_and_numbers, spatial=2, ranks=(2,)),
            Case(equation="...chw,...dhw->...", arrays=one_for_all_images, spatial=2, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.einsum(np.array([[1., 2.], [3., 4.]]), np.array([10., 1.]), equation="ij,j->i")
            array([12., 34.])
        """,
    ),
)


# ── Other shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────

MOVED = "none: values are copied"
LIKE = Array("like", "an array whose shape y takes; instead of shape", optional=True, differentiable=False)


def with_other_shape(rng, x):
    """An array of as many values, in another shape."""
    return (rng.standard_normal((*x.shape[:1], x.shape[2], x.shape[1], *x.shape[3:])),)


def with_more_pixels(rng, x):
    return (rng.standard_normal((x.shape[0], 1, 4, x.shape[3])),)


SHAPES_OF_ARRAYS = (
    Op(
        "reshape",
        Reshape(),
        group="arrays",
        summary="Reshapes an array, in row-major order.",
        formula="y[j] = x[i] where i and j have the same place in row-major order",
        gradient="dx[i] = dy[j]",
        arrays=(Array("x", "input"), LIKE),
        settings_list=(
            Setting(
                "shape",
                None,
                "extents of y: an integer; 0 for the extent of x along the same axis; ('axis', i) for that of x along "
                "axis i, ('axis', i, j) for the product of two; and at most one −1 for the remaining extent",
                target_list,
            ),
            Setting("allow_zero", False, "take 0 as an extent of 0", flag),
        ),
        shape="any shape of at most 8 dimensions → shape",
        edges=("another number of values: ShapeError", "allow_zero is ONNX's allowzero"),
        accumulates=MOVED,
        linear=("x",),
        paper="ONNX operator Reshape, 2017; NumPy, Harris et al. 2020, doi:10.1038/s41586-020-2649-2",
        cases=(
            Case(shape=(0, -1), spatial=2),
            Case(shape=(0, 2, 2, ("axis", 2), ("axis", 3)), channels=4, spatial=3, ranks=(2,)),
            Case(shape=(-1, ("axis", 1, 2)), spatial=3, ranks=(1,), allow_zero=True),
            Case(arrays=with_other_shape, spatial=2, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.reshape(np.array([[1., 2., 3., 4.]]), shape=(0, 2, -1))
            array([[[1., 2.],
                    [3., 4.]]])
        """,
    ),
    Op(
        "transpose",
        Transpose(),
        group="arrays",
        summary="Transposes (permutes) the axes.",
        formula="y[i_{axes[0]}, i_{axes[1]}, …] = x[i₀, i₁, …]",
        gradient="dx = dy with its axes back in order",
        settings_list=(Setting("axes", None, "for each axis of y, the axis of x; None: reversed order", axis_list),),
        shape="any shape of at most 8 dimensions → its extents in the order of axes",
        accumulates=MOVED,
        linear=("x",),
        paper="ONNX operator Transpose (perm), 2017",
        cases=(
            Case(axes=(0, 2, 1), spatial=2, ranks=(1,)),
            Case(axes=(0, 2, 3, 1), spatial=2, ranks=(2,)),
            Case(axes=(0, -1, 1, 3, 2), spatial=2, ranks=(3,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.transpose(np.array([[1., 2.], [3., 4.]]), axes=(1, 0))
            array([[1., 3.],
                   [2., 4.]])
        """,
    ),
    Op(
        "squeeze",
        Squeeze(),
        group="arrays",
        summary="Removes axes of extent 1.",
        formula="y = x, in a shape without the axes",
        gradient="dx = dy, in the shape of x",
        settings_list=(
            Setting("axes", None, "axes to remove; None: all of extent 1, which an open extent is not", axis_list),
        ),
        shape="any shape of at most 8 dimensions → the same without axes",
        edges=("an axis of another extent: ShapeError",),
        accumulates=MOVED,
        linear=("x",),
        paper="ONNX operator Squeeze, 2017",
        cases=(
            Case(axes=1, channels=1, spatial=2),
            Case(channels=1, spatial=2, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.squeeze(np.array([[[1.], [2.]]]), axes=(2,))
            array([[1., 2.]])
        """,
    ),
    Op(
        "unsqueeze",
        Unsqueeze(),
        group="arrays",
        summary="Inserts axes of extent 1.",
        formula="y = x, in a shape with the axes",
        gradient="dx = dy, in the shape of x",
        settings_list=(Setting("axes", REQUIRED, "positions of the new axes in y", chosen_axes),),
        shape="any shape → the same with extent 1 at axes, at most 8 dimensions",
        accumulates=MOVED,
        linear=("x",),
        paper="ONNX operator Unsqueeze, 2017",
        cases=(Case(axes=(1, -1), spatial=2),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.unsqueeze(np.array([[1., 2.]]), axes=(2,))
            array([[[1.],
                    [2.]]])
        """,
    ),
    Op(
        "expand",
        Expand(),
        group="arrays",
        summary="Broadcasts an array to a shape, by repeating it along axes of extent 1.",
        formula="y[i] = x[i], with 0 for i along axes where x has extent 1",
        gradient="dx = Σ dy over the copies",
        arrays=(Array("x", "input"), LIKE),
        settings_list=(
            Setting(
                "shape", None, "extents of y, aligned at the last axis; 1 keeps the extent of x", extent_list(1, True)
            ),
        ),
        shape="any shape of at most 8 dimensions → shape, or the extent of x where shape has 1",
        edges=(BROADCAST,),
        accumulates="gradients in long double",
        linear=("x",),
        paper="ONNX operator Expand, 2018",
        cases=(
            Case(shape=(2, 4, 2), channels=1, spatial=2, ranks=(1,)),
            Case(shape=(3, 1, 1), channels=1, spatial=2, ranks=(2,)),
            Case(shape=(1,), channels=2, spatial=2, ranks=(3,)),
            Case(arrays=with_more_pixels, channels=2, spatial=1, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.expand.with_backward(np.array([[1.], [2.]]), shape=(2, 3))
            >>> y
            array([[1., 1., 1.],
                   [2., 2., 2.]])
            >>> backward(y)
            array([[3.],
                   [6.]])
        """,
    ),
    Op(
        "tile",
        Tile(),
        group="arrays",
        summary="Tiles an array: repeats it along each axis.",
        formula="y[i] = x[i mod H], along each axis",
        gradient="dx[i] = Σ dy[j] over all j with j mod H = i",
        settings_list=(Setting("repeats", REQUIRED, "number of repetitions along each axis of x", extent_list(1)),),
        shape="any shape of at most 8 dimensions → its extents times repeats",
        accumulates="gradients in float64",
        linear=("x",),
        paper="ONNX operator Tile, 2017",
        cases=(
            Case(repeats=(1, 2, 3), channels=2, spatial=2, ranks=(1,)),
            Case(repeats=(2, 1, 1, 2), channels=2, spatial=2, ranks=(2,)),
            Case(repeats=(1, 1, 2, 1, 1), channels=2, spatial=2, ranks=(3,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.tile(np.array([[1., 2.]]), repeats=(2, 2))
            array([[1., 2., 1., 2.],
                   [1., 2., 1., 2.]])
        """,
    ),
    Op(
        "gather",
        Gather(),
        group="arrays",
        summary="Gathers the entries at given indices along an axis.",
        formula="y[…, j, …] = x[…, indices[j], …]",
        gradient="dx[…, i, …] = Σ dy[…, j, …] over all j with indices[j] = i",
        settings_list=(
            Setting(
                "indices",
                REQUIRED,
                "indices, negative ones counted from the end; a single integer removes the axis",
                gathered_list,
            ),
            Setting("axis", 1, "axis that is indexed", whole(-8, 7)),
        ),
        shape="any shape of at most 8 dimensions → the same, except along axis: as many as indices",
        edges=("an index out of range: SettingError",),
        accumulates="gradients in x's dtype, in the order of indices",
        linear=("x",),
        paper="ONNX operator Gather, 2017",
        cases=(
            Case(indices=(2, 0, -1), spatial=2),
            Case(indices=1, axis=-1, spatial=2, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.gather.with_backward(np.array([[1., 2., 3.]]), indices=(2, 0, 2))
            >>> y
            array([[3., 1., 3.]])
            >>> backward(np.ones((1, 3)))
            array([[1., 0., 2.]])
        """,
    ),
)


# ── Constants ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def first_number(place, name, value):
    if isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise SettingError(f"{place}: {name} must be a number or the name of an initialiser, got {value!r}")


CONSTANTS = (
    Op(
        "arange_like",
        ArangeLike(),
        group="arrays",
        summary="Evenly spaced numbers, as many as an array has entries along an axis: pixel coordinates.",
        formula="y[i] = start + step · i, for i below the extent of x along axis",
        gradient="none: y does not depend on the values of x",
        arrays=(Array("x", "an array whose extent gives the number of values", differentiable=False, role="any"),),
        settings_list=(
            Setting("axis", -1, "axis of x", whole(-MOST_AXES, MOST_AXES - 1)),
            Setting("start", 0.0, "first value", number()),
            Setting("step", 1.0, "difference of consecutive values", number()),
        ),
        shape="any shape of at most 8 dimensions → (H,)",
        symbols={"H": "extent of x along axis"},
        edges=("y has no batch axis, unless axis is 0", "step = 0: all values are equal"),
        accumulates="in float64; the result is rounded to x's dtype",
        smooth=False,
        proof="y does not depend on the values of x",
        paper="ONNX operators Shape and Range, 2019; torch.arange",
        cases=(Case(spatial=2), Case(axis=1, start=0.5, step=2.0, spatial=2, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.arange_like(np.zeros((1, 3, 2, 4)), start=0.5)
            array([0.5, 1.5, 2.5, 3.5])
        """,
    ),
    Op(
        "constant",
        Constant(),
        group="arrays",
        summary="An array that the network owns, as an operand of arithmetic.",
        formula="y = value",
        gradient="dvalue = dy",
        arrays=(Array("value", "the array"),),
        shape="any shape of at most 8 dimensions → the same",
        edges=(
            "in a graph it has no input: g.constant((1, 3, 1, 1)) makes one, and net.buffers['constant.value'] holds "
            "its values; with trained=True they are a parameter",
            "y has no batch axis: its shape is that of the array",
        ),
        accumulates=MOVED,
        linear=("value",),
        paper="ONNX operator Constant, 2017",
        cases=(Case(spatial=2),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.constant(np.array([1., 2.]))
            array([1., 2.])
        """,
        layer=Layer(
            parameters=(Parameter("value", lambda shapes, settings: settings["shape"], "initial", trained="trained"),),
            settings=(
                Setting("shape", REQUIRED, "its shape", extent_list(1)),
                Setting("initial", 0.0, "initial value: a number, or the name of an initialiser", first_number),
                Setting("trained", False, "train it as a parameter (True), or keep it constant (False)", flag),
            ),
        ),
    ),
)

SCHEMAS = (*PAIRWISE, *FUNCTIONS, *REDUCTIONS, *PRODUCTS, *SHAPES_OF_ARRAYS, *CONSTANTS)
