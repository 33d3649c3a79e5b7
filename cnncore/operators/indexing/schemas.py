"""Schemas of the operators that search, gather, scatter and accumulate along axes: for detectors, attention and losses."""

import numpy as np

from ...checks import choice, flag, number, whole
from ..arrays.schemas import MOVED
from ..comparison.schemas import EXACT, IntegerCase
from ..operator import Op
from ..schema import REQUIRED, Array, Case, Setting
from .implementation import (
    Cumulative,
    GatherElements,
    GatherSlices,
    NonMaxSuppression,
    OneHot,
    Place,
    ScatterElements,
    ScatterSlices,
    TopK,
    Triangle,
)

__all__ = ["SCHEMAS"]

NUMPY = "NumPy, Harris et al. 2020, Nature, doi:10.1038/s41586-020-2649-2"


def none_or_number(place, name, value):
    """A check that a setting is a number, or None."""
    return None if value is None else number()(place, name, value)


def none_or_whole(place, name, value):
    """A check that a setting is a whole number from 1 on, or None."""
    return None if value is None else whole(1)(place, name, value)


AXIS = Setting("axis", 1, "axis of the operation", whole(-8, 7))
MOVED_GRADIENTS = "gradients in x's dtype, in the order of indices"


# ── Where the largest are ──────────────────────────────────────────────────────────────────────────────────────────────


def place_row(name, largest, onnx, summary, formula, example):
    """The schema of an operator that returns positions along an axis."""
    return Op(
        name,
        Place(largest),
        group="arrays",
        summary=summary,
        formula=formula,
        gradient="none: a place does not change with x by little",
        arrays=(Array("x", "input", differentiable=False),),
        settings_list=(
            AXIS,
            Setting("keepdims", True, "keep the axis, with extent 1", flag),
            Setting("last", False, "return the last of equal values instead of the first", flag),
        ),
        shape="any shape of at most 8 dimensions → the same, with extent 1 along axis, or without it",
        edges=("NaN: ranks first", "no values along the axis: ShapeError"),
        accumulates=EXACT,
        returns="array y of int64",
        yields="index",
        smooth=False,
        proof="y has no gradient",
        paper=f"ONNX operator {onnx}, 2017; {NUMPY}",
        cases=(
            Case(spatial=2),
            Case(axis=-1, keepdims=False, last=True, spatial=2, ranks=(2,)),
        ),
        example=example,
    )


PLACES = (
    place_row(
        "arg_max",
        True,
        "ArgMax",
        "Index of the maximum along an axis.",
        "y[…, 0, …] = the first i at which x[…, i, …] is largest",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.arg_max(np.array([[1., 5., 3.], [4., 4., 0.]]), keepdims=False)
            array([1, 0])
        """,
    ),
    place_row(
        "arg_min",
        False,
        "ArgMin",
        "Index of the minimum along an axis.",
        "y[…, 0, …] = the first i at which x[…, i, …] is smallest",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.arg_min(np.array([[1., 5., 3.], [4., 4., 0.]]), keepdims=False)
            array([0, 2])
        """,
    ),
)

BEST = (
    Op(
        "top_k",
        TopK(),
        group="arrays",
        summary="The k largest values along an axis, in descending order.",
        formula="y[…, j, …] = x[…, i, …] with j others before it;   indices[…, j, …] = i",
        gradient="dx[…, i, …] = dy[…, j, …] for i = indices[…, j, …], else 0",
        settings_list=(
            Setting("k", REQUIRED, "k, the number of values; None: all of them, sorted", none_or_whole),
            AXIS,
            Setting("largest", True, "largest values (True) or smallest (False)", flag),
            Setting("return_indices", False, "also return the index of each value along the axis", flag),
        ),
        shape="any shape of at most 8 dimensions → the same, with extent k along axis; so do the indices",
        edges=(
            "ties: the first index comes first",
            "NaN: ranks above all numbers",
            "k above the extent: ShapeError",
        ),
        accumulates=MOVED,
        returns="array y; with return_indices=True the pair (y, indices), indices int64",
        smooth=False,
        paper=f"ONNX operator TopK, 2017; {NUMPY}",
        cases=(
            Case(k=2, domain="distinct", spatial=3),
            Case(k=1, axis=-1, largest=False, domain="distinct", spatial=3, ranks=(2,)),
            Case(k=None, axis=-1, domain="distinct", spatial=4, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.top_k(np.array([[1., 5., 3.]]), k=2, return_indices=True)
            (array([[5., 3.]]), array([[1, 2]]))
        """,
    ),
)


# ── Up to each value ───────────────────────────────────────────────────────────────────────────────────────────────────


def cumulative_row(name, product, onnx, year, summary, formula, gradient, example, **row):
    """The schema of an accumulation along an axis."""
    return Op(
        name,
        Cumulative(product),
        group="arrays",
        summary=summary,
        formula=formula,
        gradient=gradient,
        settings_list=(
            AXIS,
            Setting("exclusive", False, "leave out the element itself", flag),
            Setting("reverse", False, "accumulate from the end of the axis", flag),
        ),
        shape="any shape of at most 8 dimensions → the same",
        edges=("exclusive: the first result is that of no values",),
        accumulates="in long double",
        paper=f"ONNX operator {onnx}, {year}; {NUMPY}",
        cases=(
            Case(spatial=2),
            Case(axis=-1, exclusive=True, spatial=3, ranks=(1, 2)),
            Case(axis=2, exclusive=True, reverse=True, spatial=3, ranks=(2,)),
        ),
        example=example,
        **row,
    )


SUMS = (
    cumulative_row(
        "cumulative_sum",
        False,
        "CumSum",
        2019,
        "Cumulative sum along an axis.",
        "y[…, i, …] = Σ x[…, j, …] over j ≤ i; over j < i where exclusive",
        "dx[…, i, …] = Σ dy[…, j, …] over j ≥ i; over j > i where exclusive",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.cumulative_sum(np.array([[1., 2., 3.]]))
            array([[1., 3., 6.]])
            >>> cnncore.cumulative_sum(np.array([[1., 2., 3.]]), exclusive=True)
            array([[0., 1., 3.]])
        """,
        linear=("x",),
    ),
    cumulative_row(
        "cumulative_product",
        True,
        "CumProd",
        2025,
        "Cumulative product along an axis.",
        "y[…, i, …] = Π x[…, j, …] over j ≤ i; over j < i where exclusive",
        "dx[…, i, …] = Σ dy[…, j, …] Π x[…, k, …] over j ≥ i and over k ≤ j but i; j > i and k < j where exclusive",
        """
            >>> import numpy as np, cnncore
            >>> cnncore.cumulative_product(np.array([[2., 3., 4.]]))
            array([[ 2.,  6., 24.]])
        """,
    ),
)


# ── Triangles, classes ─────────────────────────────────────────────────────────────────────────────────────────────────

TRIANGLES = (
    Op(
        "triangle",
        Triangle(),
        group="arrays",
        summary="Triangular part of matrices: zeros on one side of a diagonal.",
        formula="y[…, i, j] = x[…, i, j] where j − i ≤ diagonal, else 0; upper: where j − i ≥ diagonal",
        gradient="dx[…, i, j] = dy[…, i, j] there, else 0",
        settings_list=(
            Setting(
                "diagonal",
                0,
                "diagonal: 0 is the main one, positive above it, negative below",
                whole(-(2**31), 2**31 - 1),
            ),
            Setting("upper", False, "keep the upper triangle (True) or the lower one (False)", flag),
        ),
        shape="(…, I, J) → the same, 2 to 8 dimensions",
        symbols={"I": "rows", "J": "columns"},
        edges=("the diagonal itself is kept", "entries that are set to 0 have no influence, not even NaN and ∞"),
        accumulates=MOVED,
        linear=("x",),
        paper=f"ONNX operator Trilu, 2021; {NUMPY} (tril, triu)",
        cases=(
            Case(spatial=3),
            Case(diagonal=1, upper=True, spatial=3, ranks=(2,)),
            Case(diagonal=-1, spatial=3, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.triangle(np.array([[1., 2.], [3., 4.]]))
            array([[1., 0.],
                   [3., 4.]])
        """,
    ),
    Op(
        "one_hot",
        OneHot(),
        group="arrays",
        summary="One-hot encoding of integers along a new axis.",
        formula="y[…, c, …] = on for c = x[…], else off",
        gradient="none: integers have none",
        arrays=(Array("x", "integers", differentiable=False, role="index"),),
        settings_list=(
            Setting("depth", REQUIRED, "number of classes", whole(1)),
            Setting("axis", 1, "position of the new axis in y", whole(-8, 7)),
            Setting("on", 1.0, "value at the index", number()),
            Setting("off", 0.0, "value everywhere else", number()),
        ),
        shape="any shape of at most 7 dimensions → the same, with extent depth along the new axis",
        edges=(
            "negative integers count from the end",
            "an integer out of range: off everywhere",
            "dtype: float32 in a single call, that of the net in a net",
        ),
        accumulates=EXACT,
        smooth=False,
        proof="integers have no gradient",
        paper=f"ONNX operator OneHot, 2018; {NUMPY}",
        cases=(
            IntegerCase(depth=4, spatial=2, ranks=(0, 1, 2, 3)),
            IntegerCase(depth=21, axis=-1, on=3.0, off=-1.0, spatial=2, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.one_hot(np.array([0, 2]), depth=3)
            array([[1., 0., 0.],
                   [0., 0., 1.]], dtype=float32)
        """,
    ),
)


# ── Taken and put ──────────────────────────────────────────────────────────────────────────────────────────────────────

INDICES = Array("indices", "indices, negative ones counted from the end", differentiable=False, role="index")
OUTSIDE = "an index out of range: SettingError"


def repeated_elements(rng, x):
    """Places along axis 1, some of them twice, for all of x."""
    return (rng.integers(-x.shape[1], x.shape[1], x.shape),)


def fewer_elements(rng, x):
    """Places along the last axis for a part of x."""
    return (rng.integers(0, x.shape[-1], (x.shape[0], *[1] * (x.ndim - 2), 3)),)


def elements_and_updates(rng, x):
    """Places along axis 1, each once per line, and what is put there."""
    order = np.argsort(rng.standard_normal(x.shape), axis=1)[:, :2]
    return order - x.shape[1] * (order == 1), rng.standard_normal(order.shape)


def elements_of_last_axis(rng, x):
    """Places along the last axis, and what is put there."""
    order = np.argsort(rng.standard_normal(x.shape), axis=-1)[..., :2]
    return order, rng.standard_normal(order.shape)


def repeated_and_updates(rng, x):
    """Places along axis 1, some of them twice, and what meets there, unlike what is there and not near 0."""
    (indices,) = repeated_elements(rng, x)
    values = np.linspace(0.6, 2.3, indices.size)
    return indices, rng.permutation(np.where(np.arange(indices.size) % 2, values, -values)).reshape(indices.shape)


def tuples(rng, x):
    """Places of images and channels."""
    return (np.stack([rng.integers(-extent, max(extent, 1), (2, 3)) for extent in x.shape[:2]], axis=-1),)


def tuples_of_each_image(rng, x):
    """Places of channels, for each image."""
    return (rng.integers(0, x.shape[1], (x.shape[0], 4, 1)),)


def tuples_and_updates(rng, x):
    """Different places of channels of images, and what is put there."""
    places = rng.permutation(x.shape[0] * x.shape[1])[:3]
    return np.stack([places // x.shape[1], places % x.shape[1]], axis=-1), rng.standard_normal(
        (len(places), *x.shape[2:])
    )


def repeated_tuples_and_updates(rng, x):
    """Places of channels of images, some of them twice, and what meets there."""
    (indices,) = tuples(rng, x)
    shape = (*indices.shape[:-1], *x.shape[2:])
    values = np.linspace(0.6, 2.3, int(np.prod(shape)))
    return indices, rng.permutation(np.where(np.arange(values.size) % 2, values, -values)).reshape(shape)


REDUCTION = Setting(
    "reduction",
    "none",
    "how updates are combined with the value at their index",
    choice("none", "add", "multiply", "maximum", "minimum"),
)
PUT = "y = x, then one update u after the other: y = u, y + u, y u, max(y, u) or min(y, u) at its place, as reduction says"
PUT_GRADIENT = (
    "none: dx = dy where nothing was put, else 0; du = dy of the last update of a place\n"
    "add: dx = dy, du = dy at the place;   multiply: dx, du = dy times all other factors\n"
    "maximum, minimum: dx, du = dy for the winner, else 0"
)
PUT_EDGES = (OUTSIDE, "maximum, minimum: ties go to x, then to the first update; NaN propagates")
UPDATES = Array("updates", "updates, one for each index")


def put_cases(several, others):
    """A case for every reduction."""
    return (
        Case(arrays=several, spatial=2),
        *(
            Case(arrays=others, reduction=reduction, spatial=2, ranks=(1, 2) if reduction == "add" else (1,))
            for reduction in ("add", "multiply", "maximum", "minimum")
        ),
    )


POSITIONS = (
    Op(
        "gather_elements",
        GatherElements(),
        group="arrays",
        summary="Gathers one value for each index along an axis.",
        formula="y[…, j, …] = x[…, indices[…, j, …], …]",
        gradient="dx[…, i, …] = Σ dy[…, j, …] over all j with indices[…, j, …] = i",
        arrays=(Array("x", "input"), INDICES),
        settings_list=(AXIS,),
        shape="x and indices of the same number of dimensions, at most 8; indices no longer than x except along axis → "
        "the shape of indices",
        edges=(OUTSIDE,),
        accumulates=MOVED_GRADIENTS,
        linear=("x",),
        paper=f"ONNX operator GatherElements, 2019; {NUMPY} (take_along_axis)",
        cases=(
            Case(arrays=repeated_elements, spatial=2),
            Case(arrays=fewer_elements, axis=-1, spatial=2, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.gather_elements(np.array([[1., 2., 3.]]), np.array([[2, 2, 0]]))
            array([[3., 3., 1.]])
        """,
    ),
    Op(
        "scatter_elements",
        ScatterElements(),
        group="arrays",
        summary="Scatters updates into a copy of an array, at indices along an axis.",
        formula=PUT,
        gradient=PUT_GRADIENT,
        arrays=(Array("x", "input"), INDICES, UPDATES),
        settings_list=(AXIS, REDUCTION),
        shape="x, indices and updates of the same number of dimensions, at most 8; indices and updates of the same "
        "shape → the shape of x",
        edges=PUT_EDGES,
        accumulates="in x's dtype, in row-major order of indices",
        smooth=False,
        paper=f"ONNX operator ScatterElements, 2019; {NUMPY} (put_along_axis)",
        cases=(
            *put_cases(elements_and_updates, repeated_and_updates),
            Case(arrays=elements_of_last_axis, axis=-1, spatial=3, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.scatter_elements(np.zeros((1, 3)), np.array([[2, 2]]), np.array([[1., 4.]]), reduction="add")
            array([[0., 0., 5.]])
        """,
    ),
    Op(
        "gather_nd",
        GatherSlices(),
        group="arrays",
        summary="Gathers the parts of an array at tuples of indices.",
        formula="y[b, i, …] = x[b, indices[b, i, 0], indices[b, i, 1], …, …],   b: the axes of the batch",
        gradient="dx[b, p, …] = Σ dy[b, i, …] over all i with indices[b, i] = p",
        arrays=(Array("x", "input"), INDICES),
        settings_list=(Setting("batch_dims", 0, "number of leading batch axes that x and indices share", whole(0, 7)),),
        shape="x (*batch, *places, …), indices (*batch, …, P) → (*batch, …, …), at most 8 dimensions each",
        symbols={
            "batch": "batch axes, as many as batch_dims says",
            "places": "the axes that are indexed",
            "P": "number of indexed axes",
        },
        edges=(OUTSIDE,),
        accumulates=MOVED_GRADIENTS,
        linear=("x",),
        paper="ONNX operator GatherND, 2019; TensorFlow gather_nd, Abadi et al. 2016, arXiv:1605.08695",
        cases=(
            Case(arrays=tuples, spatial=2),
            Case(arrays=tuples_of_each_image, batch_dims=1, spatial=2, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.gather_nd(np.array([[1., 2.], [3., 4.]]), np.array([[0, 1], [1, 0]]))
            array([2., 3.])
        """,
    ),
    Op(
        "scatter_nd",
        ScatterSlices(),
        group="arrays",
        summary="Scatters updates into a copy of an array, at tuples of indices.",
        formula=PUT,
        gradient=PUT_GRADIENT,
        arrays=(Array("x", "input"), INDICES, UPDATES),
        settings_list=(REDUCTION,),
        shape="x (*places, …), indices (…, P), updates (…, …) → the shape of x, at most 8 dimensions each",
        symbols={"places": "the axes that are indexed", "P": "number of indexed axes"},
        edges=PUT_EDGES,
        accumulates="in x's dtype, in row-major order of indices",
        smooth=False,
        paper="ONNX operator ScatterND, 2019; TensorFlow scatter_nd, Abadi et al. 2016, arXiv:1605.08695",
        cases=put_cases(tuples_and_updates, repeated_tuples_and_updates),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.scatter_nd(np.zeros((2, 2)), np.array([[0, 1], [1, 0]]), np.array([5., 6.]))
            array([[0., 5.],
                   [6., 0.]])
        """,
    ),
)

# ── Boxes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def scores_of_boxes(rng, x):
    """A score for each of two classes and boxes, no two alike."""
    return (rng.permutation(np.linspace(0.1, 0.9, x.shape[0] * 2 * x.shape[1])).reshape(x.shape[0], 2, x.shape[1]),)


BOXES = (
    Op(
        "non_max_suppression",
        NonMaxSuppression(),
        group="arrays",
        summary="Non-maximum suppression: of boxes that overlap, keeps the one with the highest score.",
        formula="""
            for each image n and class c, until none is left or max_output_boxes are kept:
                keep the box with the highest score, y = (n, c, box); drop all with |A ∩ B| / |A ∪ B| > iou_threshold
        """,
        gradient="none: integers have none",
        arrays=(
            Array("boxes", "boxes, two opposite corners (y₁, x₁, y₂, x₂) in any order", differentiable=False),
            Array("scores", "score of each class and box", differentiable=False),
        ),
        settings_list=(
            Setting("max_output_boxes", REQUIRED, "boxes that are kept per image and class, at most", whole(0)),
            Setting("iou_threshold", 0.5, "overlap beyond which a box is dropped", number(0, 1)),
            Setting("score_threshold", None, "boxes with a score up to this are dropped; None: none", none_or_number),
            Setting(
                "box_format",
                "corners",
                "'corners', or 'center': (x, y, width, height) with the middle of the box",
                choice("corners", "center"),
            ),
        ),
        shape="boxes (N, S, 4), scores (N, C, S) → (K, 3)",
        symbols={"S": "number of boxes", "K": "number of boxes that are kept"},
        edges=(
            "rows are ordered by image, class and falling score; ties: the first box comes first",
            "the number of rows depends on the values: in a graph y can only be an output",
            "boxes without area cover nothing and are covered by nothing",
            "a score that is NaN: the box is dropped",
        ),
        accumulates="areas and overlaps in float64",
        returns="array y of int64: image, class and box of each that is kept",
        yields="index",
        smooth=False,
        proof="y has no gradient",
        paper="Felzenszwalb, Girshick, McAllester & Ramanan 2010, IEEE TPAMI 32(9), doi:10.1109/TPAMI.2009.167, section 6.2; "
        "ONNX operator NonMaxSuppression, 2018",
        cases=(
            Case(max_output_boxes=1, arrays=scores_of_boxes, channels=6, spatial=4, ranks=(1,)),
            Case(
                max_output_boxes=9,
                iou_threshold=1.0,
                score_threshold=0.0,
                box_format="center",
                arrays=scores_of_boxes,
                channels=5,
                spatial=4,
                ranks=(1,),
            ),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> boxes = np.array([[[0., 0., 2., 2.], [0., 0., 2., 1.9], [5., 5., 6., 6.]]])
            >>> cnncore.non_max_suppression(boxes, np.array([[[0.8, 0.9, 0.7]]]), max_output_boxes=10)
            array([[0, 0, 1],
                   [0, 0, 2]])
        """,
    ),
)

SCHEMAS = (*PLACES, *BEST, *SUMS, *TRIANGLES, *POSITIONS, *BOXES)
