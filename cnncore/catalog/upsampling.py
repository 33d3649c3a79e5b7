"""Rows of upsampling."""

from ..families.upsampling import LinearUpsampling, NearestUpsampling, scale_numbers
from ..operator import Case, Op, Setting, choice

__all__ = ["ROWS"]

SIZE = Setting("size", None, "extents of y: an integer, or one per axis; either this or scale")
SCALE = Setting(
    "scale", None, "extents of y are ⌊scale · H⌋: a number, or one per axis; either this or size", scale_numbers
)
COORDINATES = (
    "where outputs lie: 'half_pixel' (pixels are squares, their edges coincide), 'align_corners' (the centres of the first and "
    "last pixels coincide), or 'asymmetric' (the first pixels' centres do)"
)
SHAPE = "(N, C, \\*spatial) → (N, C, \\*size); one to three spatial axes"
POSITIONS = "positions are computed as fractions: whole numbers, halves and thirds are never missed by rounding"

ROWS = (
    Op(
        "nearest_upsample",
        NearestUpsampling(),
        family="layers",
        catalogue=("L25",),
        summary="An image on a finer grid: every pixel of y is the nearest one of x.",
        formula="""
            y[o] = x[round(p(o))], along each axis;   H inputs, O outputs, r = scale, or O/H where size is given
                asymmetric      p(o) = o / r
                half_pixel      p(o) = (o + ½) / r − ½
                align_corners   p(o) = o (H − 1) / (O − 1)
        """,
        gradient="dx[i] = Σ dy[o] over all o with round(p(o)) = i",
        settings_list=(
            SIZE,
            SCALE,
            Setting("coordinates", "asymmetric", COORDINATES, choice("asymmetric", "half_pixel", "align_corners")),
            Setting(
                "rounding",
                "floor",
                "which pixel is the nearest: 'floor', 'ceil', 'round_prefer_floor' or 'round_prefer_ceil'",
                choice("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
            ),
        ),
        shape=SHAPE,
        edges=(
            "PyTorch's 'nearest' are the defaults; its 'nearest-exact' is half_pixel with round_prefer_ceil",
            "ONNX Resize names coordinates and rounding alike; its default is half_pixel with round_prefer_floor",
            POSITIONS,
            "size below H: pixels are left out, their gradient is 0",
        ),
        linear=("x",),
        paper="Gonzalez & Woods 2018, Digital Image Processing, section 2.4; ONNX operator Resize, 2019",
        cases=(
            Case(scale=2, spatial=3),
            Case(size=7, coordinates="half_pixel", rounding="round_prefer_ceil", spatial=4, ranks=(1, 2)),
            Case(size=(5, 9), coordinates="align_corners", rounding="round_prefer_floor", spatial=4, ranks=(2,)),
            Case(scale=(1.5, 2.6), coordinates="half_pixel", rounding="ceil", spatial=4, ranks=(2,)),
            Case(size=3, spatial=5, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.nearest_upsample.with_backward(np.array([[[1., 2.]]]), scale=2)
            >>> y
            array([[[1., 1., 2., 2.]]])
            >>> backward(np.array([[[1., 2., 3., 4.]]]))
            array([[[3., 7.]]])
        """,
    ),
    Op(
        "linear_upsample",
        LinearUpsampling(),
        family="layers",
        catalogue=("L26",),
        summary="An image on a finer grid, interpolated between pixels: bilinear for images, trilinear for volumes.",
        formula="""
            y[o] = (1 − f) x[i] + f x[i + 1], along each axis;   i = ⌊p⌋, f = p − i, p = p(o) within 0 … H − 1
                half_pixel      p(o) = (o + ½) / r − ½          r = scale, or O/H where size is given
                align_corners   p(o) = o (H − 1) / (O − 1)
                asymmetric      p(o) = o / r
        """,
        gradient="dx[i] = Σ dy[o] · (weight of x[i] in y[o])",
        settings_list=(
            SIZE,
            SCALE,
            Setting("coordinates", "half_pixel", COORDINATES, choice("half_pixel", "align_corners", "asymmetric")),
        ),
        shape=SHAPE,
        edges=(
            "PyTorch's align_corners=True is 'align_corners', False is 'half_pixel'",
            "beyond the centres of the first and last pixels: their values",
            "a pixel of weight 0 does not count: an infinity does not make its neighbours NaN",
            "align_corners with one output: the first pixel",
            POSITIONS,
            "size below H: interpolated at fewer places; pixels in between are not averaged",
        ),
        accumulates="in x's dtype; the definition in float64",
        linear=("x",),
        paper="Gonzalez & Woods 2018, Digital Image Processing, section 2.4; ONNX operator Resize, 2019",
        cases=(
            Case(scale=2, spatial=3),
            Case(size=7, coordinates="align_corners", spatial=4),
            Case(scale=(1.5, 2.6), coordinates="asymmetric", spatial=4, ranks=(2,)),
            Case(size=3, spatial=5, ranks=(1, 2)),
            Case(size=1, coordinates="align_corners", spatial=3, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.linear_upsample(np.array([[[0., 4.]]]), scale=2)
            array([[[0., 1., 3., 4.]]])
            >>> cnncore.linear_upsample(np.array([[[0., 4.]]]), size=5, coordinates="align_corners")
            array([[[0., 1., 2., 3., 4.]]])
        """,
    ),
)
