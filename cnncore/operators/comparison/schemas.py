"""Schemas of comparisons, logical operators, selection and conversions, as models with masks use them."""

import numpy as np

from ...checks import flag
from ..arrays.schemas import ARITHMETIC, BROADCAST
from ..operator import Op
from ..schema import Array, Case, Setting
from . import reference
from .implementation import Comparison, Conversion, Infinite, Logic, Negation, NotANumber, Where

__all__ = ["SCHEMAS"]

SAME_SHAPE = "any shape of at most 8 dimensions → the same"
SHAPES = "two shapes of at most 8 dimensions that broadcast → the broadcast shape"
EXACT = "none: the result is exact"
NONE = "none: y is piecewise constant"
NO_GRADIENT = "y has no gradient"


# ── Comparisons ────────────────────────────────────────────────────────────────────────────────────────────────────────


def some_equal(rng, x):
    """An array in which every third value is that of x."""
    z = np.roll(x, 1, axis=-1)
    z.reshape(-1)[::3] = x.reshape(-1)[::3]
    return (z,)


def thresholds(rng, x):
    """One number per channel."""
    return (rng.uniform(-1, 1, (x.shape[1], *[1] * (x.ndim - 2))),)


def comparison_row(name, outcomes, onnx, summary, formula, example, nan):
    """The schema of a comparison of two arrays that broadcast."""
    return Op(
        name,
        Comparison(tuple(map(sum, zip(*outcomes, strict=True)))),
        group="arrays",
        summary=summary,
        formula=formula,
        gradient=NONE,
        arrays=(
            Array("x", "first array", differentiable=False),
            Array("z", "second array, broadcast with x", differentiable=False),
        ),
        shape=SHAPES,
        edges=(nan, "0 and −0 are equal", BROADCAST),
        accumulates=EXACT,
        returns="array y of booleans",
        yields="mask",
        smooth=False,
        proof=NO_GRADIENT,
        paper=ARITHMETIC.format(onnx),
        cases=(Case(arrays=thresholds, spatial=2), Case(arrays=some_equal, spatial=3, ranks=(1,))),
        example=f"""
            >>> import numpy as np, cnncore
            >>> cnncore.{name}(np.array([1., 2., np.nan]), np.array([2., 2., 2.]))
            {example}
        """,
    )


LESS, SAME, MORE, UNORDERED = reference.LESS, reference.SAME, reference.MORE, reference.UNORDERED
FALSE_FOR_NAN = "a NaN: false"

COMPARISONS = (
    comparison_row(
        "equal",
        (SAME,),
        "Equal",
        "Elementwise x = z with broadcasting.",
        "y = (x = z)",
        "array([False,  True, False])",
        FALSE_FOR_NAN,
    ),
    comparison_row(
        "not_equal",
        (LESS, MORE, UNORDERED),
        "Not of Equal",
        "Elementwise x ≠ z with broadcasting.",
        "y = (x ≠ z)",
        "array([ True, False,  True])",
        "a NaN: true",
    ),
    comparison_row(
        "less",
        (LESS,),
        "Less",
        "Elementwise x < z with broadcasting.",
        "y = (x < z)",
        "array([ True, False, False])",
        FALSE_FOR_NAN,
    ),
    comparison_row(
        "less_equal",
        (LESS, SAME),
        "LessOrEqual",
        "Elementwise x ≤ z with broadcasting.",
        "y = (x ≤ z)",
        "array([ True,  True, False])",
        FALSE_FOR_NAN,
    ),
    comparison_row(
        "greater",
        (MORE,),
        "Greater",
        "Elementwise x > z with broadcasting.",
        "y = (x > z)",
        "array([False, False, False])",
        FALSE_FOR_NAN,
    ),
    comparison_row(
        "greater_equal",
        (MORE, SAME),
        "GreaterOrEqual",
        "Elementwise x ≥ z with broadcasting.",
        "y = (x ≥ z)",
        "array([False,  True, False])",
        FALSE_FOR_NAN,
    ),
)

LONE = (Array("x", "input", differentiable=False),)

FINITE = (
    Op(
        "is_nan",
        NotANumber(),
        group="arrays",
        summary="Tests elementwise for NaN.",
        formula="y = (x ≠ x)",
        gradient=NONE,
        arrays=LONE,
        shape=SAME_SHAPE,
        accumulates=EXACT,
        returns="array y of booleans",
        yields="mask",
        smooth=False,
        proof=NO_GRADIENT,
        paper=ARITHMETIC.format("IsNaN"),
        cases=(Case(spatial=2),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.is_nan(np.array([1., np.inf, np.nan]))
            array([False, False,  True])
        """,
    ),
    Op(
        "is_inf",
        Infinite(),
        group="arrays",
        summary="Tests elementwise for infinity.",
        formula="y = (x = −∞ and negative) or (x = ∞ and positive)",
        gradient=NONE,
        arrays=LONE,
        settings_list=(
            Setting("negative", True, "detect −∞", flag),
            Setting("positive", True, "detect ∞", flag),
        ),
        shape=SAME_SHAPE,
        edges=(FALSE_FOR_NAN,),
        accumulates=EXACT,
        returns="array y of booleans",
        yields="mask",
        smooth=False,
        proof=NO_GRADIENT,
        paper=ARITHMETIC.format("IsInf (detect_negative, detect_positive)"),
        cases=(
            Case(spatial=2),
            Case(spatial=2, ranks=(2,), negative=False),
            Case(spatial=2, ranks=(1,), positive=False),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.is_inf(np.array([np.inf, -np.inf, np.nan]), negative=False)
            array([ True, False, False])
        """,
    ),
)


# ── Logic ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def masks(rng, x):
    """One boolean per channel."""
    return (rng.random((x.shape[1], *[1] * (x.ndim - 2))) < 0.5,)


class MaskCase(Case):
    """A case whose x is booleans."""

    def sample(self, rank, dtype=np.float64, seed=0):
        x, *rest = super().sample(rank, dtype, seed)
        return (x > 0, *rest)


def logic_row(name, both, one, onnx, summary, formula, example):
    """The schema of a logical operator on two arrays that broadcast."""
    return Op(
        name,
        Logic(both, one),
        group="arrays",
        summary=summary,
        formula=formula,
        gradient=NONE,
        arrays=(
            Array("x", "first array", differentiable=False, role="mask"),
            Array("z", "second array, broadcast with x", differentiable=False, role="mask"),
        ),
        shape=SHAPES,
        edges=(BROADCAST,),
        accumulates=EXACT,
        returns="array y of booleans",
        yields="mask",
        smooth=False,
        proof=NO_GRADIENT,
        paper=ARITHMETIC.format(onnx),
        cases=(MaskCase(arrays=masks, spatial=2),),
        example=f"""
            >>> import numpy as np, cnncore
            >>> cnncore.{name}(np.array([False, False, True, True]), np.array([False, True, False, True]))
            {example}
        """,
    )


LOGIC = (
    logic_row(
        "logical_and",
        True,
        False,
        "And",
        "Elementwise logical AND with broadcasting.",
        "y = x ∧ z",
        "array([False, False, False,  True])",
    ),
    logic_row(
        "logical_or",
        True,
        True,
        "Or",
        "Elementwise logical OR with broadcasting.",
        "y = x ∨ z",
        "array([False,  True,  True,  True])",
    ),
    logic_row(
        "logical_xor",
        False,
        True,
        "Xor",
        "Elementwise logical XOR with broadcasting.",
        "y = x ⊕ z",
        "array([False,  True,  True, False])",
    ),
    Op(
        "logical_not",
        Negation(),
        group="arrays",
        summary="Elementwise logical NOT.",
        formula="y = ¬x",
        gradient=NONE,
        arrays=(Array("x", "input", differentiable=False, role="mask"),),
        shape=SAME_SHAPE,
        accumulates=EXACT,
        returns="array y of booleans",
        yields="mask",
        smooth=False,
        proof=NO_GRADIENT,
        paper=ARITHMETIC.format("Not"),
        cases=(MaskCase(spatial=2),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.logical_not(np.array([False, True]))
            array([ True, False])
        """,
    ),
)


# ── The choice between two values ──────────────────────────────────────────────────────────────────────────────────────


class ChoiceCase(Case):
    """A case whose condition comes before x."""

    def sample(self, rank, dtype=np.float64, seed=0):
        x, condition, *rest = super().sample(rank, dtype, seed)
        return (condition, x, *rest)


def condition_and_numbers(rng, x):
    """A boolean for each value, and a number per channel."""
    return rng.random(x.shape) < 0.5, rng.uniform(-1, 1, (x.shape[1], *[1] * (x.ndim - 2)))


def condition_and_array(rng, x):
    """A boolean for each image, and a number for each value."""
    return rng.random((x.shape[0], *[1] * (x.ndim - 1))) < 0.5, rng.standard_normal(x.shape)


CHOICE = (
    Op(
        "where",
        Where(),
        group="arrays",
        summary="Selects elementwise from two arrays by a condition.",
        formula="y = x where c holds, else z",
        gradient="dx = dy where c holds, else 0;   dz = dy − dx; where an array was broadcast, the sum over its copies",
        arrays=(
            Array("condition", "c, booleans", differentiable=False, role="mask"),
            Array("x", "values where c is true"),
            Array("z", "values where c is false"),
        ),
        shape="three shapes of at most 8 dimensions that broadcast → the broadcast shape",
        edges=("values that are not selected have no influence, not even NaN and ∞", BROADCAST),
        accumulates="gradients of what was broadcast in long double",
        linear=("x", "z"),
        paper=ARITHMETIC.format("Where"),
        cases=(
            ChoiceCase(arrays=condition_and_numbers, spatial=2),
            ChoiceCase(arrays=condition_and_array, spatial=2, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([3., -1., np.nan])
            >>> cnncore.where(cnncore.greater(x, np.zeros(1)), x, np.zeros(1))
            array([3., 0., 0.])
        """,
    ),
)


# ── Real numbers, integers, booleans ───────────────────────────────────────────────────────────────────────────────────


class IntegerCase(Case):
    """A case whose x is integers."""

    def sample(self, rank, dtype=np.float64, seed=0):
        x, *rest = super().sample(rank, dtype, seed)
        return (np.rint(10 * x).astype(np.int64), *rest)


ANYTHING = (Array("x", "real numbers, integers or booleans", role="any"),)
CASTS = "ONNX operator Cast, 2017; NumPy, Harris et al. 2020, Nature, doi:10.1038/s41586-020-2649-2"

CONVERSIONS = (
    Op(
        "as_real",
        Conversion(),
        group="arrays",
        summary="Casts to real numbers (float).",
        formula="y = x; 1 for true, 0 for false",
        gradient="dx = dy; integers and booleans have none",
        arrays=ANYTHING,
        shape=SAME_SHAPE,
        edges=(
            "integers beyond 2²⁴ in float32, 2⁵³ in float64: rounded to the nearest number",
            "dtype: float32 in a single call, that of the net in a net",
        ),
        accumulates=EXACT,
        paper=CASTS,
        proof="integers and booleans have no gradient",
        cases=(MaskCase(spatial=2), IntegerCase(spatial=2), Case(spatial=2, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.as_real(np.array([False, True]))
            array([0., 1.], dtype=float32)
        """,
    ),
    Op(
        "as_index",
        Conversion(),
        group="arrays",
        summary="Casts to integers (int64).",
        formula="y = x without what follows the point; 1 for true, 0 for false",
        gradient=NONE,
        arrays=(Array("x", "real numbers, integers or booleans", differentiable=False, role="any"),),
        shape=SAME_SHAPE,
        edges=("NaN: 0", "beyond the range of int64: clipped to it"),
        accumulates=EXACT,
        returns="array y of int64",
        yields="index",
        smooth=False,
        proof=NO_GRADIENT,
        paper=CASTS,
        cases=(Case(spatial=2), MaskCase(spatial=2, ranks=(1,)), IntegerCase(spatial=2, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.as_index(np.array([1.9, -1.9]))
            array([ 1, -1])
        """,
    ),
    Op(
        "as_mask",
        Conversion(),
        group="arrays",
        summary="Casts to booleans: nonzero is true.",
        formula="y = (x ≠ 0)",
        gradient=NONE,
        arrays=(Array("x", "real numbers, integers or booleans", differentiable=False, role="any"),),
        shape=SAME_SHAPE,
        edges=("NaN: true",),
        accumulates=EXACT,
        returns="array y of booleans",
        yields="mask",
        smooth=False,
        proof=NO_GRADIENT,
        paper=CASTS,
        cases=(Case(spatial=2), IntegerCase(spatial=2, ranks=(2,)), MaskCase(spatial=2, ranks=(1,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.as_mask(np.array([0., 0.5, -0.]))
            array([False,  True, False])
        """,
    ),
)

SCHEMAS = (*COMPARISONS, *FINITE, *LOGIC, *CHOICE, *CONVERSIONS)
