"""Schemas of upsampling."""

from ...checks import choice, flag, number
from ..operator import Op
from ..schema import Array, Case, Setting
from .implementation import LinearUpsampling, NearestUpsampling, Resize, scale_numbers

__all__ = ["SCHEMAS"]

SIZE = Setting("size", None, "spatial extents of y: an integer, or one per axis; give either size or scale")
SCALE = Setting(
    "scale", None, "scale factor, the extents of y are ⌊scale · H⌋: a number, or one per axis", scale_numbers
)
COORDINATES = (
    "coordinate transformation: 'half_pixel' (pixels are squares whose outer edges coincide), "
    "'align_corners' (the centres of the first and last pixels coincide), or 'asymmetric' (the centres of the first "
    "pixels coincide)"
)
SHAPE = "(N, C, *spatial) → (N, C, *size); 1 to 3 spatial axes"
POSITIONS = "positions are computed as exact fractions: integers, halves and thirds are never missed by rounding"

SCHEMAS = (
    Op(
        "nearest_upsample",
        NearestUpsampling(),
        family="layers",
        literature=("L25",),
        summary="Nearest-neighbour upsampling.",
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
                "rounding: 'floor', 'ceil', 'round_prefer_floor' or 'round_prefer_ceil'",
                choice("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
            ),
        ),
        shape=SHAPE,
        edges=(
            "the defaults are PyTorch's 'nearest'; its 'nearest-exact' is half_pixel with round_prefer_ceil",
            "the names are those of ONNX Resize, whose default is half_pixel with round_prefer_floor",
            POSITIONS,
            "size below H: some pixels are not used, their gradient is 0",
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
        literature=("L26",),
        summary="Linear upsampling: bilinear for images, trilinear for volumes.",
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
            "PyTorch's align_corners=True is 'align_corners', align_corners=False is 'half_pixel'",
            "beyond the centres of the first and last pixels: the edge pixel's value",
            "a pixel of weight 0 is not read: an infinity does not make its neighbours NaN",
            "align_corners with one output: the first pixel",
            POSITIONS,
            "size below H: interpolates at fewer positions, without antialiasing",
        ),
        accumulates="in x's dtype; the reference implementation in float64",
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
    Op(
        "resize",
        Resize(),
        family="layers",
        summary="Resizes an image by nearest, linear or cubic interpolation, as ONNX Resize and PyTorch's interpolate do.",
        formula="""
            y[o] = Σ a(i − p) x[i] / Σ a(i − p), along each axis;   i: cells around p = p(o), beyond the edge those at it
                nearest         the cell that rounding names
                linear          a(t) = 1 − |t| for |t| < 1
                cubic           a(t) = (c + 2)|t|³ − (c + 3)t² + 1 for |t| ≤ 1, c|t|³ − 5c t² + 8c|t| − 4c for |t| < 2
                half_pixel            p(o) = (o + ½) / r − ½          r = scale, or O/H where size is given
                pytorch_half_pixel    the same, 0 where O = 1
                half_pixel_symmetric  the same + (H − O / r) / 2
                align_corners         p(o) = o (H − 1) / (O − 1)
                asymmetric            p(o) = o / r
            antialias: a((i − p) r) with r below 1, a filter as wide as the step
        """,
        gradient="dx[i] = Σ dy[o] · (weight of x[i] in y[o])",
        arrays=(
            Array("x", "input"),
            Array(
                "like", "an array whose spatial extents y takes; instead of size", optional=True, differentiable=False
            ),
        ),
        settings_list=(
            SIZE,
            SCALE,
            Setting("mode", "linear", "'nearest', 'linear' or 'cubic'", choice("nearest", "linear", "cubic")),
            Setting(
                "coordinates",
                "half_pixel",
                "coordinate transformation, see the formula",
                choice("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric"),
            ),
            Setting(
                "rounding",
                "round_prefer_floor",
                "rounding of mode='nearest': 'floor', 'ceil', 'round_prefer_floor' or 'round_prefer_ceil'",
                choice("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
            ),
            Setting("cubic_coefficient", -0.75, "c", number(-4, 4)),
            Setting("exclude_outside", False, "give weight 0 to samples outside the image", flag),
            Setting("antialias", False, "antialiasing: widen the filter when downsampling", flag),
        ),
        shape=SHAPE,
        edges=(
            "PyTorch's interpolate, mode='bicubic': half_pixel or align_corners; with antialias=True: exclude_outside "
            "and c = −0.5",
            POSITIONS,
        ),
        accumulates="in x's dtype; the reference implementation in float64",
        linear=("x",),
        paper="Keys 1981, IEEE Trans. ASSP 29(6), doi:10.1109/TASSP.1981.1163711; ONNX operator Resize, 2019",
        literature=("L26",),
        cases=(
            Case(scale=1.5, coordinates="half_pixel_symmetric", spatial=3),
            Case(scale=2, mode="cubic", spatial=3, ranks=(1, 2)),
            Case(size=3, mode="cubic", coordinates="align_corners", cubic_coefficient=-0.5, spatial=6, ranks=(2,)),
            Case(size=3, antialias=True, exclude_outside=True, spatial=7, ranks=(2,)),
            Case(size=4, mode="cubic", antialias=True, cubic_coefficient=-0.5, spatial=7, ranks=(1,)),
            Case(size=7, coordinates="pytorch_half_pixel", mode="nearest", rounding="floor", spatial=4, ranks=(1,)),
            Case(scale=2.3, mode="cubic", exclude_outside=True, coordinates="asymmetric", spatial=4, ranks=(1,)),
            Case(arrays=lambda rng, x: (rng.standard_normal((1, 1, 4, 9)),), spatial=3, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.resize(np.array([[[0., 4., 0., 8.]]]), size=2)
            array([[[2., 4.]]])
            >>> cnncore.resize(np.array([[[0., 4., 0., 8.]]]), size=2, antialias=True, exclude_outside=True)
            array([[[1.71428571, 4.        ]]])
        """,
    ),
)
