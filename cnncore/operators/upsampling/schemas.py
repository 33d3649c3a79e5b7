"""Schemas of upsampling, resizing and grid sampling."""

import numpy as np

from ...checks import choice, flag, number
from ..operator import Op
from ..schema import Array, Case, Setting
from .implementation import GridSample, LinearUpsampling, NearestUpsampling, Resize, region_pairs, scale_numbers

__all__ = ["SAMPLING", "SCHEMAS"]

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


def grid_between(reach, *output):
    """Positions between the centres of pixels and their edges, up to ``reach`` times as far as the image."""

    def arrays(rng, x):
        extents = x.shape[:1:-1]  # the last axis first
        at = rng.integers(0, 4 * max(extents), (x.shape[0], *output[: len(extents)], len(extents)))
        numbers = (
            2 * reach * (at % (4 * np.array(extents)) + rng.uniform(0.2, 0.8, at.shape)) / (4 * np.array(extents))
            - reach
        )
        return (numbers,)

    return arrays


SCHEMAS = (
    Op(
        "nearest_upsample",
        NearestUpsampling(),
        group="layers",
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
        group="layers",
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
        group="layers",
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
                tf_crop_and_resize    p(o) = (begin + (end − begin) o / (O − 1)) (H − 1), where O = 1 their mean; region
                                      has begin and end; y = 0 where p < 0 or p > H − 1
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
                choice(
                    *("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric"),
                    "tf_crop_and_resize",
                ),
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
            Setting(
                "region",
                None,
                "of coordinates='tf_crop_and_resize', a pair (begin, end) per axis: 0 is the first pixel, 1 the last",
                region_pairs,
            ),
        ),
        shape=SHAPE,
        edges=(
            "PyTorch's interpolate, mode='bicubic': half_pixel or align_corners; with antialias=True: exclude_outside "
            "and c = −0.5",
            "a region that reaches beyond the image: 0 there; ONNX's extrapolation_value v is resize(x − v) + v. ONNX Runtime "
            "1.32 leaves axes whose extent stays as they are, whatever the region",
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
            Case(size=4, coordinates="tf_crop_and_resize", region=((0.2, 0.9), (1.2, -0.1)), spatial=5, ranks=(2,)),
            Case(
                scale=1.5,
                mode="cubic",
                coordinates="tf_crop_and_resize",
                region=((-0.3, 0.8),),
                exclude_outside=True,
                spatial=5,
                ranks=(1,),
            ),
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

# Operators on arrays beside the layers of the literature.
SAMPLING = (
    Op(
        "grid_sample",
        GridSample(),
        group="arrays",
        summary="Grid sampling: reads the image at given positions, as a spatial transformer does.",
        formula="""
            y[n, c, o] = Σ x[n, c, i] Π w(p − i) over the cells i around p, along each axis
                p = ((g + 1) H − 1)/2 with g of grid[n, o], or (g + 1)(H − 1)/2 with align_corners
                linear   w(t) = 1 − |t|
                nearest  w = 1 at the nearest cell
                cubic    w(t) = 1.25 |t|³ − 2.25 |t|² + 1 up to |t| = 1, −0.75 (|t|³ − 5 |t|² + 8 |t| − 4) up to 2
        """,
        gradient="""
            dx[n, c, i] = Σ dy[n, c, o] Π w(p − i)
            dgrid[n, o] = Σ dy[n, c, o] x[n, c, i] ∂(Π w)/∂g over channels and cells; 0 for nearest
        """,
        arrays=(
            Array("x", "input"),
            Array("grid", "positions, from −1 to 1 in the image, the last axis of x first: (x, y), or (x, y, z)"),
        ),
        settings_list=(
            Setting(
                "mode", "linear", "interpolation: 'linear', 'nearest' or 'cubic'", choice("linear", "nearest", "cubic")
            ),
            Setting(
                "padding_mode",
                "zeros",
                "what lies outside the image: 'zeros', its 'border', or its 'reflection'",
                choice("zeros", "border", "reflection"),
            ),
            Setting(
                "align_corners", False, "−1 and 1 are the centres of the outer pixels, not their outer edges", flag
            ),
        ),
        shape="(N, C, *spatial), grid (N, *output, axes) → (N, C, *output); 1 to 3 spatial axes",
        edges=(
            "nearest: halves are rounded to the even pixel",
            "border and reflection: the position is moved into the image; with cubic each of the four pixels is",
            "a position moved to the border has no gradient; at the centre of a pixel linear has the slope to the right",
            "a NaN in a position, or ∞ with reflection: y = NaN without gradient",
            "mode='linear' is 'bilinear' in PyTorch and in ONNX before version 20, mode='cubic' is 'bicubic'",
        ),
        accumulates="positions, weights and a value's sum in float64; dx in its dtype in the order of the positions",
        smooth=False,
        linear=("x",),
        paper="Jaderberg, Simonyan, Zisserman & Kavukcuoglu 2015, NeurIPS, arXiv:1506.02025, section 3.3; Keys 1981, "
        "doi:10.1109/TASSP.1981.1163711 (cubic)",
        cases=(
            Case(arrays=grid_between(1.3, 4, 3, 2), spatial=4),
            Case(padding_mode="border", align_corners=True, arrays=grid_between(1.2, 3, 4, 2), spatial=4, ranks=(1, 2)),
            Case(padding_mode="reflection", arrays=grid_between(2.7, 5, 4), spatial=5, ranks=(2,)),
            Case(
                mode="nearest",
                padding_mode="reflection",
                align_corners=True,
                arrays=grid_between(1.4, 5, 4),
                ranks=(2,),
            ),
            Case(mode="cubic", arrays=grid_between(1.2, 4, 5), spatial=5, ranks=(2,)),
            Case(mode="cubic", padding_mode="border", arrays=grid_between(1.1, 5, 3), spatial=5, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 2., 3., 4.]]])
            >>> cnncore.grid_sample(x, np.array([[[-1.], [0.], [0.5]]]), align_corners=True)
            array([[[1.  , 2.5 , 3.25]]])
        """,
    ),
)
