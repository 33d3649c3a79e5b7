"""Rows of the operators on arrays as such: arithmetic, reductions, products of matrices, other shapes, constants.

Networks from elsewhere are full of them; ONNX has each under a similar name.
"""

import numpy as np

from ...checks import flag, number, whole
from ...errors import SettingError
from ..activation.elementwise import Elementwise
from ..operator import Op
from ..schema import REQUIRED, Array, Case, Layer, Parameter, Setting
from . import arithmetic, reduction
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
ROUNDED = "nothing; computes in long double and rounds once"
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
    """The row of an operator on two arrays that broadcast."""
    domain = row.pop("domain", "any")
    return Op(
        name,
        Pairwise(*functions, reads),
        family="arrays",
        summary=summary,
        formula=formula,
        gradient=gradient + "; where an array was broadcast, the sum over its copies",
        arrays=(Array("x", "first array"), Array("z", "second array, of a shape that broadcasts with that of x")),
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
        "The differences of two arrays.",
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
        "The products of two arrays, value by value.",
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
        "The quotients of two arrays, value by value.",
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
        "The larger of two values.",
        "y = max(x, z)",
        "dx = dy where x ≥ z, else 0;   dz = dy − dx",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.maximum(np.array([1., 5., 3.]), np.array([2., 4., 3.]))
            array([2., 5., 3.])
        """,
        edges=("equal values: the gradient is x's", "NaN wins, that of x first"),
        smooth=False,
    ),
    pairwise(
        "minimum",
        (arithmetic.MINIMUM, arithmetic.MINIMUM_OTHER),
        "Min",
        "The smaller of two values.",
        "y = min(x, z)",
        "dx = dy where x ≤ z, else 0;   dz = dy − dx",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.minimum(np.array([1., 5., 3.]), np.array([2., 4., 3.]))
            array([1., 4., 3.])
        """,
        edges=("equal values: the gradient is x's", "NaN wins, that of x first"),
        smooth=False,
    ),
    pairwise(
        "remainder",
        (arithmetic.REMAINDER, arithmetic.REMAINDER_OTHER),
        "Mod",
        "What is left of values divided by others, of the divisor's sign.",
        "y = x − z ⌊x / z⌋",
        "dx = dy,   dz = −⌊x / z⌋ dy",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.remainder(np.array([5., -5., 5.]), np.array([3., 3., -3.]))
            array([ 2.,  1., -1.])
        """,
        edges=("z = 0: NaN", "z = ±∞: x, or z where the signs differ", "it jumps where x is a multiple of z"),
        smooth=False,
    ),
    pairwise(
        "fmod",
        (arithmetic.FMOD, arithmetic.FMOD_OTHER),
        "Mod (fmod=1)",
        "What is left of values divided by others, of the dividend's sign.",
        "y = x − z trunc(x / z)",
        "dx = dy,   dz = −trunc(x / z) dy",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.fmod(np.array([5., -5., 5.]), np.array([3., 3., -3.]))
            array([ 2., -2.,  2.])
        """,
        edges=("z = 0: NaN", "z = ±∞: x", "it jumps where x is a multiple of z"),
        smooth=False,
    ),
    pairwise(
        "power",
        (arithmetic.POWER, arithmetic.POWER_OTHER),
        "Pow",
        "Values to the power of others.",
        "y = xᶻ",
        "dx = z xᶻ⁻¹ dy,   dz = y log x dy",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.power(np.array([1., 2., 3.]), np.array([2.]))
            array([1., 4., 9.])
        """,
        edges=("x < 0 and z no whole number: NaN", "z = 0: y = 1 with dx = 0", "y = 0: dz = 0"),
        domain="positive",
    ),
)


# ── Functions of one array ─────────────────────────────────────────────────────────────────────────────────────────────


def function_row(name, function, onnx, summary, formula, gradient, example, *, domain="any", edges=(), **row):
    """The row of y = f(x)."""
    return Op(
        name,
        Elementwise(function),
        family="arrays",
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
    """The row of a function whose slope is 0 wherever it has one."""
    return function_row(
        name, function, onnx, summary, formula, "∂y/∂x = 0", example, edges=edges, smooth=False, domain="unit"
    )


FUNCTIONS = (
    function_row(
        "negative",
        arithmetic.NEGATIVE,
        "Neg",
        "The same values with the other sign.",
        "y = −x",
        "∂y/∂x = −1",
        ("cnncore.negative(np.array([1., -2.]))", "array([-1.,  2.])"),
        linear=("x",),
    ),
    function_row(
        "reciprocal",
        arithmetic.RECIPROCAL,
        "Reciprocal",
        "One over each value.",
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
        "The square root of each value.",
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
        "The natural logarithm of each value.",
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
        "The error function of each value.",
        "y = 2/√π ∫₀ˣ e^{−t²} dt",
        "∂y/∂x = 2/√π e^{−x²}",
        ("cnncore.erf(np.array([0., np.inf]))", "array([0., 1.])"),
        edges=("±∞: ±1 with slope 0",),
    ),
    stepwise(
        "floor",
        arithmetic.FLOOR,
        "Floor",
        "The largest whole number not above each value.",
        "y = ⌊x⌋",
        ("cnncore.floor(np.array([1.5, -1.5]))", "array([ 1., -2.])"),
    ),
    stepwise(
        "ceil",
        arithmetic.CEIL,
        "Ceil",
        "The smallest whole number not below each value.",
        "y = ⌈x⌉",
        ("cnncore.ceil(np.array([1.5, -1.5]))", "array([ 2., -1.])"),
    ),
    stepwise(
        "round",
        arithmetic.ROUND,
        "Round",
        "The whole number next to each value.",
        "y = the whole number next to x",
        ("cnncore.round(np.array([0.5, 1.5, -1.2]))", "array([ 0.,  2., -1.])"),
        edges=("half-way between two: the even one",),
    ),
    function_row(
        "sin",
        arithmetic.SIN,
        "Sin",
        "The sine of each value.",
        "y = sin x",
        "∂y/∂x = cos x",
        ("cnncore.sin(np.array([0., np.pi / 2]))", "array([0., 1.])"),
        edges=("±∞: NaN",),
    ),
    function_row(
        "cos",
        arithmetic.COS,
        "Cos",
        "The cosine of each value.",
        "y = cos x",
        "∂y/∂x = −sin x",
        ("cnncore.cos(np.array([0., np.pi]))", "array([ 1., -1.])"),
        edges=("±∞: NaN",),
    ),
    function_row(
        "tan",
        arithmetic.TAN,
        "Tan",
        "The tangent of each value.",
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
        "The angle of which each value is the sine.",
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
        "The angle of which each value is the cosine.",
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
        "The angle of which each value is the tangent.",
        "y = arctan x,   −π/2 … π/2",
        "∂y/∂x = 1 / (1 + x²)",
        ("cnncore.atan(np.array([0., 1.])) / np.pi", "array([0.  , 0.25])"),
    ),
    function_row(
        "sinh",
        arithmetic.SINH,
        "Sinh",
        "The hyperbolic sine of each value.",
        "y = sinh x = (eˣ − e⁻ˣ) / 2",
        "∂y/∂x = cosh x",
        ("cnncore.sinh(np.array([0., np.log(2)]))", "array([0.  , 0.75])"),
    ),
    function_row(
        "cosh",
        arithmetic.COSH,
        "Cosh",
        "The hyperbolic cosine of each value.",
        "y = cosh x = (eˣ + e⁻ˣ) / 2",
        "∂y/∂x = sinh x",
        ("cnncore.cosh(np.array([0., np.log(2)]))", "array([1.  , 1.25])"),
    ),
    function_row(
        "asinh",
        arithmetic.ASINH,
        "Asinh",
        "The number of which each value is the hyperbolic sine.",
        "y = arsinh x = log(x + √(x² + 1))",
        "∂y/∂x = 1 / √(x² + 1)",
        ("cnncore.asinh(np.array([0., 0.75])) / np.log(2)", "array([0., 1.])"),
    ),
    function_row(
        "acosh",
        arithmetic.ACOSH,
        "Acosh",
        "The positive number of which each value is the hyperbolic cosine.",
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
        "The number of which each value is the hyperbolic tangent.",
        "y = artanh x = ½ log((1 + x) / (1 − x))",
        "∂y/∂x = 1 / (1 − x²)",
        ("cnncore.atanh(np.array([0., 0.6])) / np.log(2)", "array([0., 1.])"),
        domain="unit",
        edges=("|x| > 1: NaN", "x = ±1: ±∞"),
    ),
)


# ── Reductions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def reduction_row(name, function, onnx, summary, formula, gradient, example, *, domain="any", edges=(), **row):
    """The row of a reduction over axes."""
    return Op(
        name,
        Reduction(function),
        family="arrays",
        summary=summary,
        formula=formula,
        gradient=gradient,
        settings_list=(
            Setting(
                "axes", None, "the axis or axes that are reduced, negative ones from the last; None: all", axis_list
            ),
            Setting("keepdims", True, "whether they stay, with extent 1", flag),
        ),
        shape="any shape of at most 5 dimensions → the same, with extent 1 along axes; with keepdims=False without them",
        edges=(*edges, "no values along the axes: refused"),
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
        "The sum along axes.",
        "y = Σ x",
        "dx = dy",
        ("cnncore.reduce_sum(np.array([[1., 2.], [3., 4.]]), axes=1)", "array([[3.],\n                   [7.]])"),
        linear=("x",),
    ),
    reduction_row(
        "reduce_mean",
        reduction.MEAN,
        "ReduceMean",
        "The mean along axes.",
        "y = Σ x / n,   n: values per output",
        "dx = dy / n",
        ("cnncore.reduce_mean(np.array([[1., 2.], [3., 4.]]), axes=0)", "array([[2., 3.]])"),
        linear=("x",),
    ),
    reduction_row(
        "reduce_max",
        reduction.MAX,
        "ReduceMax",
        "The largest value along axes.",
        "y = max x",
        "dx = dy for the first of the largest values in row-major order, else 0",
        ("cnncore.reduce_max(np.array([[1., 5.], [3., 4.]]), axes=1, keepdims=False)", "array([5., 4.])"),
        edges=("NaN wins",),
        smooth=False,
    ),
    reduction_row(
        "reduce_min",
        reduction.MIN,
        "ReduceMin",
        "The smallest value along axes.",
        "y = min x",
        "dx = dy for the first of the smallest values in row-major order, else 0",
        ("cnncore.reduce_min(np.array([[1., 5.], [3., 4.]]), axes=1, keepdims=False)", "array([1., 3.])"),
        edges=("NaN wins",),
        smooth=False,
    ),
    reduction_row(
        "reduce_prod",
        reduction.PROD,
        "ReduceProd",
        "The product along axes.",
        "y = Π x",
        "dxᵢ = dy Π xⱼ over all others j",
        ("cnncore.reduce_prod(np.array([[1., 5.], [3., 4.]]), axes=1, keepdims=False)", "array([ 5., 12.])"),
        edges=("one x = 0: the gradient is its own alone; two: none",),
    ),
    reduction_row(
        "reduce_l1",
        reduction.L1,
        "ReduceL1",
        "The sum of magnitudes along axes.",
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
        "The Euclidean length along axes.",
        "y = √(Σ x²)",
        "dx = x dy / y",
        ("cnncore.reduce_l2(np.array([[3., 4.], [0., 5.]]), axes=1, keepdims=False)", "array([5., 5.])"),
        edges=("all x = 0: y = 0, the subgradient 0 is taken",),
    ),
    reduction_row(
        "reduce_sum_square",
        reduction.SUM_SQUARE,
        "ReduceSumSquare",
        "The sum of squares along axes.",
        "y = Σ x²",
        "dx = 2 x dy",
        ("cnncore.reduce_sum_square(np.array([[3., 4.], [0., 5.]]), axes=1, keepdims=False)", "array([25., 25.])"),
    ),
    reduction_row(
        "reduce_log_sum",
        reduction.LOG_SUM,
        "ReduceLogSum",
        "The logarithm of the sum along axes.",
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
        "The logarithm of the sum of exponentials along axes.",
        "y = log Σ eˣ = m + log Σ e^{x − m},   m = max x",
        "dx = e^{x − y} dy",
        (
            "cnncore.reduce_log_sum_exp(np.array([[1000., 1000.]]), axes=1, keepdims=False) - 1000",
            "array([0.69314718])",
        ),
        edges=("values of any size: the exponentials are those of x − m",),
    ),
)


# ── Products of matrices ───────────────────────────────────────────────────────────────────────────────────────────────


def second_matrices(rng, x):
    """Matrices of four columns, the same for all images."""
    return (rng.standard_normal((x.shape[-1], 4)),)


def matrices_of_each_image(rng, x):
    return (rng.standard_normal((*x.shape[:-2], x.shape[-1], 2)),)


PRODUCTS = (
    Op(
        "matmul",
        MatrixProduct(),
        family="arrays",
        summary="Matrices multiplied: those in the last two axes.",
        formula="y[…, i, k] = Σ x[…, i, j] z[…, j, k] over j",
        gradient="dx = dy zᵀ,   dz = xᵀ dy; where an array was broadcast, the sum over its copies",
        arrays=(Array("x", "matrices (…, I, J)"), Array("z", "matrices (…, J, K)")),
        shape="(…, I, J) and (…, J, K) → (…, I, K); 2 to 5 dimensions, those before the last two broadcast",
        symbols={"I": "rows of x", "J": "columns of x, rows of z", "K": "columns of z"},
        edges=(BROADCAST, "for x (N, J) and learned weights use linear"),
        accumulates="in x's dtype, in the order of NumPy's BLAS",
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
)


# ── Other shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────

MOVED = "nothing: values are moved"
LIKE = Array("like", "an array whose extents y is to have, in place of shape", optional=True, differentiable=False)


def with_other_shape(rng, x):
    """An array of as many values, in another shape."""
    return (rng.standard_normal((*x.shape[:1], x.shape[2], x.shape[1], *x.shape[3:])),)


def with_more_pixels(rng, x):
    return (rng.standard_normal((x.shape[0], 1, 4, x.shape[3])),)


SHAPES_OF_ARRAYS = (
    Op(
        "reshape",
        Reshape(),
        family="arrays",
        summary="The same values in row-major order, in another shape.",
        formula="y[j] = x[i] where i and j have the same place in row-major order",
        gradient="dx[i] = dy[j]",
        arrays=(Array("x", "input"), LIKE),
        settings_list=(
            Setting(
                "shape",
                None,
                "extents of y: an integer; 0 for that of x along the same axis; ('axis', i) for that of x along axis i, "
                "('axis', i, j) for the product of two; and once −1 for what remains",
                target_list,
            ),
            Setting("allow_zero", False, "whether 0 means an extent of 0 instead", flag),
        ),
        shape="any shape of at most 8 dimensions → shape",
        edges=("a number of values that does not fit: refused", "ONNX's allowzero is allow_zero"),
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
        family="arrays",
        summary="The axes in another order.",
        formula="y[i_{axes[0]}, i_{axes[1]}, …] = x[i₀, i₁, …]",
        gradient="dx = dy with its axes back in order",
        settings_list=(
            Setting(
                "axes", None, "for each axis of y the axis of x it comes from; None: the other way round", axis_list
            ),
        ),
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
        family="arrays",
        summary="Without axes of extent 1.",
        formula="y = x, in a shape without the axes",
        gradient="dx = dy, in the shape of x",
        settings_list=(
            Setting(
                "axes", None, "the axes to leave out; None: all of extent 1, which an open extent is not", axis_list
            ),
        ),
        shape="any shape of at most 8 dimensions → the same without axes",
        edges=("an axis of another extent: refused",),
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
        family="arrays",
        summary="With further axes of extent 1.",
        formula="y = x, in a shape with the axes",
        gradient="dx = dy, in the shape of x",
        settings_list=(Setting("axes", REQUIRED, "the numbers that the new axes have in y", chosen_axes),),
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
        family="arrays",
        summary="Repeated along axes of extent 1.",
        formula="y[i] = x[i], with 0 for i along axes where x has extent 1",
        gradient="dx = Σ dy over the copies",
        arrays=(Array("x", "input"), LIKE),
        settings_list=(
            Setting("shape", None, "extents of y, from the last axis on; 1 where x's is to stay", extent_list(1, True)),
        ),
        shape="any shape of at most 5 dimensions → shape, or the extent of x where shape has 1",
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
        family="arrays",
        summary="Side by side with itself.",
        formula="y[i] = x[i mod H], along each axis",
        gradient="dx[i] = Σ dy[j] over all j with j mod H = i",
        settings_list=(Setting("repeats", REQUIRED, "how often along each axis of x", extent_list(1)),),
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
        family="arrays",
        summary="Chosen places along one axis.",
        formula="y[…, j, …] = x[…, indices[j], …]",
        gradient="dx[…, i, …] = Σ dy[…, j, …] over all j with indices[j] = i",
        settings_list=(
            Setting(
                "indices", REQUIRED, "places, negative ones from the end; a lone integer: the axis goes", gathered_list
            ),
            Setting("axis", 1, "the axis along which they lie", whole(-8, 7)),
        ),
        shape="any shape of at most 8 dimensions → the same, except along axis: as many as indices",
        edges=("an index outside: refused",),
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
        family="arrays",
        summary="Numbers at even distances, as many as an array has values along an axis: the coordinates of its cells.",
        formula="y[i] = start + step · i, for i below the extent of x along axis",
        gradient="none: y does not depend on the values of x",
        arrays=(Array("x", "the array whose extent is taken", differentiable=False, role="any"),),
        settings_list=(
            Setting("axis", -1, "axis of x", whole(-MOST_AXES, MOST_AXES - 1)),
            Setting("start", 0.0, "first number", number()),
            Setting("step", 1.0, "distance between two", number()),
        ),
        shape="any shape of at most 8 dimensions → (H,)",
        symbols={"H": "extent of x along axis"},
        edges=("it has no batch, unless axis is 0", "step 0: the same number for all"),
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
        family="arrays",
        summary="An array that the net owns, for arithmetic with others.",
        formula="y = value",
        gradient="dvalue = dy",
        arrays=(Array("value", "the array"),),
        shape="any shape of at most 8 dimensions → the same",
        edges=(
            "in a graph it has no input: g.constant((1, 3, 1, 1)) makes one, net.buffers['constant.value'] holds its numbers; "
            "with trained=True they are a parameter",
            "it has no batch: its shape is what it says",
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
                Setting("shape", REQUIRED, "its extents", extent_list(1)),
                Setting("initial", 0.0, "what it starts with: a number, or the name of an initialiser", first_number),
                Setting("trained", False, "whether it is a parameter; otherwise it stays as it is", flag),
            ),
        ),
    ),
)

SCHEMAS = (*PAIRWISE, *FUNCTIONS, *REDUCTIONS, *PRODUCTS, *SHAPES_OF_ARRAYS, *CONSTANTS)
