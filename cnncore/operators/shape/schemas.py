"""Schemas of the operators that change a shape."""

from ...checks import choice, flag, has_length, integer, number, whole
from ...errors import SettingError
from ..operator import Op
from ..schema import REQUIRED, Case, Setting
from .implementation import ChannelShuffle, Flatten, Pad, Part, PixelShuffle, Slice

PADDED = "(N, C, *spatial) → (N, C, *output), output = H + lo + hi per axis"


def parts(place, name, value):
    """A check that parts are a number of equal ones, or the extents of each."""
    if not has_length(value) or isinstance(value, str):
        return integer(place, name, value, 1)
    return tuple(integer(place, f"{name}[{i}]", extent, 1) for i, extent in enumerate(value))


def any_integer_or_none(place, name, value):
    return None if value is None else integer(place, name, value)


def step_number(place, name, value):
    number = integer(place, name, value)
    if number == 0:
        raise SettingError(f"{place}: {name} must not be 0; use 1, or −1 to reverse the order")
    return number


FACTOR = Setting("factor", REQUIRED, "factor r: an integer, or one per axis")
ORDER = Setting(
    "mode",
    "CRD",
    "channel order: 'CRD' (channel first, then the place in the block, as in PyTorch) or 'DCR' (place first, as in "
    "TensorFlow and by default in ONNX)",
    choice("CRD", "DCR"),
)

SCHEMAS = (
    Op(
        "split",
        Part(),
        group="layers",
        literature=("L11",),
        summary="Splits an axis and returns one of the parts: the inverse of concat.",
        formula="y = x from s to s + n along axis,   s: sum of the extents of the parts before, n: that of the part",
        gradient="dx = dy where the part lies, 0 elsewhere",
        settings_list=(
            Setting("parts", 2, "number of equal parts, or the extent of each part", parts),
            Setting("part", 0, "number of the part to return, from 0", whole(0)),
            Setting("axis", 1, "axis; 1: channels"),
            Setting("uneven", False, "allow a smaller last part; the others are ⌈extent / parts⌉", flag),
        ),
        shape="(N, C, *spatial) → (N, C / parts, *spatial); 1 to 8 dimensions",
        edges=(
            "an extent that parts does not divide: an error, unless uneven=True",
            "an empty part: an error",
            "one call returns one part",
        ),
        linear=("x",),
        paper="Jia et al. 2014, Caffe, arXiv:1408.5093 (layer Slice); ONNX operator Split, 2017",
        cases=(
            Case(channels=4, ranks=(0, 1, 2, 3)),
            Case(channels=4, parts=(1, 3), part=1, ranks=(2,)),
            Case(parts=3, part=2, axis=-1, ranks=(1,)),
            Case(channels=5, parts=3, part=2, uneven=True, ranks=(1,)),
            Case(parts=(1, 1), part=1, axis=0, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[1., 2., 3., 4., 5.]])
            >>> [cnncore.split(x, parts=(2, 3), part=part) for part in (0, 1)]
            [array([[1., 2.]]), array([[3., 4., 5.]])]
        """,
    ),
    Op(
        "slice",
        Slice(),
        group="layers",
        literature=("L11",),
        summary="Slices one axis from start to stop.",
        formula="y[…, i, …] = x[…, start + i · stride, …] along axis, as x[start:stop:stride] in Python",
        gradient="dx = dy where y comes from, 0 elsewhere",
        settings_list=(
            Setting(
                "start", None, "first index; None: the beginning; negative: counted from the end", any_integer_or_none
            ),
            Setting(
                "stop", None, "end index, exclusive; None: the end; negative: counted from the end", any_integer_or_none
            ),
            Setting("stride", 1, "step between indices, not 0; negative: backwards", step_number),
            Setting("axis", 1, "axis; 1: channels"),
        ),
        shape="(N, C, *spatial) → the same, except along axis; 1 to 8 dimensions",
        edges=("indices beyond the ends: clipped, as in Python", "an empty result: an error"),
        linear=("x",),
        paper="Jia et al. 2014, Caffe, arXiv:1408.5093 (layer Slice); ONNX operator Slice, 2017",
        cases=(
            Case(channels=4, start=1, ranks=(0, 1, 2, 3)),
            Case(channels=4, start=-4, stop=3, ranks=(2,)),
            Case(start=4, stop=None, stride=-2, axis=2, ranks=(1, 2)),
            Case(start=-1, axis=0, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.slice.with_backward(np.array([[1., 2., 3., 4.]]), 1, 3)
            >>> y
            array([[2., 3.]])
            >>> backward(y)
            array([[0., 2., 3., 0.]])
        """,
    ),
    Op(
        "channel_shuffle",
        ChannelShuffle(),
        group="layers",
        literature=("C17",),
        summary="Channel shuffle: interleaves the channels of the groups, so that the next grouped convolution sees every group.",
        formula="y[n, j G + g, …] = x[n, g K + j, …],   K = C / G channels of each of G groups",
        gradient="dx[n, g K + j, …] = dy[n, j G + g, …]: channel_shuffle of dy with K groups",
        settings_list=(Setting("groups", REQUIRED, "number of groups G", whole(1)),),
        shape="(N, C, *spatial) → the same; C is a multiple of groups",
        edges=("C not a multiple of groups: an error", "groups = 1 or groups = C: y = x"),
        accumulates="none: values are copied",
        linear=("x",),
        paper="Zhang, Zhou, Lin & Sun 2018, ShuffleNet, CVPR, arXiv:1707.01083, section 3.1",
        cases=(
            Case(groups=2, channels=6, spatial=2, ranks=(0, 1, 2, 3)),
            Case(groups=3, channels=6, spatial=2, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.channel_shuffle(np.array([[1., 2., 3., 4.]]), groups=2)
            array([[1., 3., 2., 4.]])
        """,
    ),
    Op(
        "pixel_shuffle",
        PixelShuffle(False),
        group="layers",
        literature=("C17",),
        summary="Pixel shuffle (depth to space): rearranges channels into blocks of pixels, for upsampling.",
        formula="""
            CRD   y[n, c, h r + i, w r + j] = x[n, c r² + i r + j, h, w]
            DCR   y[n, c, h r + i, w r + j] = x[n, (i r + j) C + c, h, w]        C: channels of y
        """,
        gradient="dx = the same values of dy, back in their places: pixel_unshuffle of dy",
        settings_list=(FACTOR, ORDER),
        shape="(N, C · r², H, W) → (N, C, H · r, W · r); r³ in three dimensions, r in one",
        symbols={"C": "output channels", "r": "upscale factor"},
        edges=("C not a multiple of r²: an error", "factor 1: y = x"),
        linear=("x",),
        paper="Shi et al. 2016, CVPR, arXiv:1609.05158, equation 4; ONNX operator DepthToSpace (both orders)",
        cases=(
            Case(factor=2, channels=8, spatial=3),
            Case(factor=2, channels=8, spatial=3, mode="DCR"),
            Case(factor=(1, 3), channels=6, spatial=2, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.pixel_shuffle(np.array([[[1., 2.], [10., 20.]]]), factor=2)
            array([[[ 1., 10.,  2., 20.]]])
        """,
    ),
    Op(
        "pixel_unshuffle",
        PixelShuffle(True),
        group="layers",
        literature=("C17",),
        summary="Pixel unshuffle (space to depth): rearranges blocks of pixels into channels.",
        formula="""
            CRD   y[n, c r² + i r + j, h, w] = x[n, c, h r + i, w r + j]
            DCR   y[n, (i r + j) C + c, h, w] = x[n, c, h r + i, w r + j]        C: channels of x
        """,
        gradient="dx = the same values of dy, back in their places: pixel_shuffle of dy",
        settings_list=(FACTOR, ORDER),
        shape="(N, C, H, W) → (N, C · r², H / r, W / r); r³ in three dimensions, r in one",
        symbols={"r": "downscale factor"},
        edges=("extents not a multiple of r: an error", "factor 1: y = x"),
        linear=("x",),
        paper="Shi et al. 2016, CVPR, arXiv:1609.05158, equation 4 inverted; ONNX operator SpaceToDepth (order DCR)",
        cases=(
            Case(factor=2, channels=2, spatial=4, ranks=(1,)),
            Case(factor=(2, 5), channels=2, spatial=4, ranks=(2,)),
            Case(factor=(2, 1, 3), channels=2, spatial=4, ranks=(3,)),
            Case(factor=(2, 5), channels=2, spatial=4, mode="DCR", ranks=(2,)),
            Case(factor=1, channels=2, mode="DCR", ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.pixel_unshuffle(np.array([[[1., 10., 2., 20.]]]), factor=2)
            array([[[ 1.,  2.],
                    [10., 20.]]])
        """,
    ),
    Op(
        "flatten",
        Flatten(),
        group="layers",
        literature=("L12",),
        summary="Flattens all axes from start_dim on into one, in row-major order.",
        formula="y[n, (c H + h) W + w] = x[n, c, h, w]",
        gradient="dx[n, c, h, w] = dy[n, (c H + h) W + w]",
        settings_list=(Setting("start_dim", 1, "first axis to flatten"),),
        shape="(N, C, H, W) → (N, C · H · W); 1 to 5 dimensions",
        edges=("channels-last memory: the order is still that of (C, H, W)", "y is a copy, never a view of x"),
        linear=("x",),
        paper="LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE, doi:10.1109/5.726791 (layers C5 and F6)",
        cases=(Case(ranks=(0, 1, 2, 3)), Case(start_dim=2), Case(start_dim=0), Case(start_dim=-1)),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.flatten(np.array([[[1., 2.], [3., 4.]]]))
            array([[1., 2., 3., 4.]])
        """,
    ),
    Op(
        "pad",
        Pad(),
        group="layers",
        literature=("L18", "L19", "L20", "L21", "L22"),
        summary="Pads the image: with a constant, by reflection, by replication, or circularly.",
        formula="""
            y[o] = x[f(o − lo)], along each axis, with f(i) = i for 0 ≤ i < H and outside
                constant    value, whatever x
                reflect     … 2 1 | 0 1 … H−1 | H−2 H−3 …      mirrored at the edge cells
                symmetric   … 1 0 | 0 1 … H−1 | H−1 H−2 …      mirrored at the edges
                replicate   … 0 0 | 0 1 … H−1 | H−1 H−1 …
                circular    … H−2 H−1 | 0 1 … H−1 | 0 1 …
        """,
        gradient="dx[i] = Σ dy[o] over all o with f(o − lo) = i",
        settings_list=(
            Setting("padding", REQUIRED, "padding: an integer, one per axis, or (low, high) pairs"),
            Setting(
                "mode",
                "constant",
                "padding mode: 'constant', 'reflect', 'replicate', 'symmetric' or 'circular'",
                choice("constant", "reflect", "replicate", "symmetric", "circular"),
            ),
            Setting("value", 0.0, "value of constant padding", number()),
        ),
        shape=PADDED,
        edges=(
            "negative padding: crops; at least one pixel must remain",
            "reflect: padding < H, since the edge pixel is not repeated",
            "symmetric, circular: any padding; the image is repeated as often as needed",
        ),
        accumulates="gradients of pixels that were copied several times in float64, in row-major order",
        linear=("x",),
        paper="Gonzalez & Woods 2018, Digital Image Processing, section 3.4; ONNX operator Pad",
        cases=(
            Case(padding=1),
            Case(padding=2, value=-1.5),
            Case(padding=((2, 0),), ranks=(1,)),
            Case(padding=((1, 2), (0, 3)), ranks=(2,), mode="reflect"),
            Case(padding=2, mode="reflect"),
            Case(padding=3, mode="replicate"),
            Case(padding=2, mode="symmetric"),
            Case(padding=2, mode="circular"),
            Case(padding=((-1, 2),), ranks=(1,), mode="replicate"),
            Case(padding=-1),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 2., 3.]]])
            >>> y, backward = cnncore.pad.with_backward(x, ((2, 1),), mode="reflect")
            >>> y
            array([[[3., 2., 1., 2., 3., 2.]]])
            >>> backward(np.ones_like(y))
            array([[[1., 3., 2.]]])
        """,
    ),
)
