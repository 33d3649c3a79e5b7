"""Schemas of pooling at given positions: regions of interest, unpooling, polyphase components."""

import numpy as np

from ...checks import choice, flag, number, whole
from ...errors import SettingError
from ..operator import Op
from ..pooling.windows import KERNEL_SIZE, PADDING, STRIDE
from ..schema import REQUIRED, Array, Case, Setting
from .implementation import PolyphaseSelection, PositionSensitiveBoxes, SampledBoxes, Unpooling

__all__ = ["SCHEMAS"]

X = Array("x", "images")
ROIS = Array("rois", "boxes (R, 4), each x1, y1, x2, y2 in the coordinates of the input image", differentiable=False)
IMAGES = Array("batch_indices", "(R,): the index of the image of each box", role="index")
SPATIAL_SCALE = Setting(
    "spatial_scale",
    1.0,
    "scale from the coordinates of rois to pixels of x, such as 1/16",
    number(above=0),
)
BINS = Setting("output_size", REQUIRED, "bins per box: an integer, or one per axis")
BOXES_SHAPE = "(N, C, H, W), (R, 4), (R,) → (R, {channels}, *output_size)"


def boxes(rng, x):
    """rois and batch_indices for a case: within the image, over its border, of no extent, outside, turned round."""
    H, W = x.shape[2], x.shape[-1]
    corners = [[0.5, 1.0, 4.25, 5.5], [-3.0, -2.5, 3.0, 2.0], [2.0, 2.0, 2.0, 2.0], [3.25, 0.25, W + 4.0, H + 2.0]]
    corners += [[W + 5.0, H + 5.0, W + 9.0, H + 9.0], [1.0, 2.5, 5.0, 4.75], [4.0, 4.0, 1.0, 1.5]]
    return np.array(corners), np.arange(len(corners), dtype=np.int64) % max(x.shape[0], 1)


def places(window=2, stride=2, output=None, through_all_planes=False):
    """Indices for a case: each value goes back to a random pixel of its window."""

    def arrays(rng, x):
        extents = x.shape[2:]
        sizes = output or tuple((H - 1) * stride + window for H in extents)
        place = np.zeros(x.shape, np.int64)
        for axis, (H, O) in enumerate(zip(extents, sizes, strict=True)):
            first = stride * np.arange(H).reshape((-1,) + (1,) * (len(extents) - 1 - axis))
            place = place * O + first + rng.integers(0, window, x.shape)
        if through_all_planes:
            planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * len(extents))
            place += planes * int(np.prod(sizes))
        return (place,)

    return arrays


def norm_order(place, name, value):
    """A check that p is a number above 0; ∞ is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or not value > 0:
        raise SettingError(f"{place}: {name} must be a number above 0, or float('inf'), got {value!r}; try 2")
    return float(value)


SCHEMAS = (
    Op(
        "max_unpool",
        Unpooling(),
        group="pooling",
        literature=("P42",),
        summary="Max unpooling: writes pooled values back to the positions of their maxima, zeros elsewhere.",
        formula="y[index[i]] = x[i] in each plane, y = 0 elsewhere",
        gradient="dx[i] = dy[index[i]];   of several i of one index, with duplicates='last', the last alone",
        arrays=(
            Array("x", "pooled values"),
            Array("indices", "indices of the maxima, as max_pool returns them with return_indices=True", role="index"),
        ),
        settings_list=(
            KERNEL_SIZE,
            STRIDE,
            PADDING,
            Setting(
                "output_size", None, "spatial extents of y, where the pooled image was larger than the windows cover"
            ),
            Setting(
                "duplicates",
                "last",
                "several values with the same index: the 'last' is written, or they 'add'",
                choice("last", "add"),
            ),
            Setting("compat", None, "'onnx': indices into all of y, not into a plane", choice(None, "onnx")),
        ),
        shape="(N, C, *spatial), indices of the same shape → (N, C, *output), output = (H − 1)s − lo − hi + k per axis, "
        "or output_size",
        edges=(
            "duplicate indices (overlapping windows): the last in row-major order is written and takes the gradient; "
            "with duplicates='add' all are added and all take it. PyTorch writes any of them, and gives the gradient "
            "to all",
            "an index out of its plane: DataError, whatever it is; nothing is written outside y",
            "output_size: must differ by less than a stride from the extents that the windows give",
            "compat='onnx': indices as from ONNX MaxPool, into N, C and the plane of y",
            "NaN and ±∞: copied",
        ),
        accumulates="only with duplicates='add', in x's dtype",
        linear=("x",),
        paper="Zeiler & Fergus 2014, ECCV, arXiv:1311.2901, section 2.1",
        cases=(
            Case(kernel_size=2, arrays=places(), spatial=3),
            Case(kernel_size=3, stride=2, padding=1, arrays=places(1), spatial=3),
            Case(kernel_size=3, stride=2, arrays=places(3), spatial=3, duplicates="add"),
            Case(kernel_size=3, stride=1, arrays=places(3, 1), spatial=3, duplicates="last"),
            Case(kernel_size=2, output_size=(7, 9), arrays=places(output=(7, 9)), spatial=3, ranks=(2,)),
            Case(kernel_size=2, compat="onnx", arrays=places(through_all_planes=True), spatial=3, ranks=(1, 2)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 5., 2., 0.]]])
            >>> y, indices = cnncore.max_pool(x, kernel_size=2, return_indices=True)
            >>> cnncore.max_unpool(y, indices, kernel_size=2)
            array([[[0., 5., 2., 0.]]])
        """,
    ),
    Op(
        "roi_align",
        SampledBoxes(),
        group="pooling",
        literature=("P40",),
        summary="RoI align: pools each box to a grid of bins, each the mean or maximum of bilinear samples.",
        formula="""
            bin (i, j) of a box has A × B samples at
                h = h₀ + (i + (a + ½)/A) bin_h,   w = w₀ + (j + (b + ½)/B) bin_w,   a < A, b < B
            v(h, w) = Σ x[cell] (1 − |h − cell_h|) (1 − |w − cell_w|) over the four cells around
            avg: y = 1/(A B) Σ v;   max: y = max v;   compat='onnx': y = max of the single terms of all v
        """,
        gradient="""
            avg: dx[cell] += dy / (A B) · (1 − |h − cell_h|) (1 − |w − cell_w|) for every sample
            max: dx[cell] += dy · (1 − |h − cell_h|) (1 − |w − cell_w|) for the first sample, or term, that is y
        """,
        arrays=(X, ROIS, IMAGES),
        settings_list=(
            BINS,
            SPATIAL_SCALE,
            Setting("sampling_ratio", 0, "samples per bin and axis; 0: ⌈extent of the bin in pixels⌉", whole(0, 2**16)),
            Setting("aligned", False, "half-pixel alignment: all positions are shifted by −½", flag),
            Setting("mode", "avg", "'avg' or 'max' over the samples", choice("avg", "max")),
            Setting(
                "compat",
                None,
                "'onnx': mode='max' is the largest weighted pixel of all samples, ONNX Runtime's",
                choice(None, "onnx"),
            ),
        ),
        shape=BOXES_SHAPE.format(channels="C"),
        edges=(
            "aligned=False: as torchvision's default and ONNX's output_half_pixel (opset 10); boxes have at least the "
            "extent 1",
            "aligned=True: as torchvision's aligned=True and ONNX's half_pixel (opset 16, there the default); boxes "
            "may be smaller",
            "samples beyond [−1, H] or [−1, W]: 0, and counted in the mean; within, positions beyond the first and "
            "last pixel take its value",
            "no samples (aligned boxes without extent, inverted boxes, with sampling_ratio=0): y = 0 and no gradient",
            "max: the first sample in row-major order takes the gradient; NaN propagates. ONNX Runtime 1.32 takes the "
            "largest of the weighted pixels instead, and warns that this is incorrect; compat='onnx' does so too",
            "integer positions, where v has a kink: the pixel to the right",
            "rois have no gradient; corners that are not finite or beyond 2³¹, and image indices out of range: DataError",
        ),
        accumulates="positions in float64; a bin in float64 (kernels: in x's dtype), dx in its dtype in the order of the boxes",
        smooth=False,
        linear=(),
        paper="He, Gkioxari, Dollár & Girshick 2017, Mask R-CNN, ICCV, arXiv:1703.06870, section 3",
        cases=(
            Case(output_size=2, arrays=boxes, ranks=(2,)),
            Case(output_size=(2, 3), aligned=True, spatial_scale=0.5, arrays=boxes, ranks=(2,)),
            Case(output_size=2, sampling_ratio=2, mode="max", arrays=boxes, ranks=(2,)),
            Case(output_size=2, mode="max", aligned=True, arrays=boxes, ranks=(2,)),
            Case(output_size=2, mode="max", compat="onnx", sampling_ratio=2, aligned=True, arrays=boxes, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.arange(16.).reshape(1, 1, 4, 4)
            >>> rois, image = np.array([[0., 0., 2., 2.]]), np.array([0])
            >>> cnncore.roi_align(x, rois, image, output_size=2)
            array([[[[2.5, 3.5],
                     [6.5, 7.5]]]])
        """,
    ),
    Op(
        "position_sensitive_roi_pool",
        PositionSensitiveBoxes(),
        group="pooling",
        literature=("P41",),
        summary="Position-sensitive RoI pooling: pools each box to a grid of bins, each the mean of its own channel.",
        formula="y[r, c, i, j] = 1/n Σ x[c I J + i J + j] over the n whole cells of bin (i, j) of I × J",
        gradient="dx[c I J + i J + j, cell] += dy[r, c, i, j] / n for the cells of each bin",
        arrays=(X, ROIS, IMAGES),
        settings_list=(
            BINS,
            SPATIAL_SCALE,
            Setting("compat", None, "'caffe': box ends as in the paper's code", choice(None, "caffe")),
        ),
        shape=BOXES_SHAPE.format(channels="C / bins"),
        symbols={"bins": "bins of a region, the product of output_size"},
        edges=(
            "a box spans round(x1 · scale) to round(x2 · scale), halves away from 0, at least 1 wide; a bin spans ⌊·⌋ "
            "to ⌈·⌉ of its edges, within the image, so that adjacent bins may share pixels",
            "compat='caffe': round(x1) · scale to (round(x2) + 1) · scale, at least 0.1 wide: x2 and y2 are the last "
            "pixels of the box",
            "bins without a pixel: y = 0 and no gradient",
            "C not a multiple of the number of bins: ShapeError",
            "corners that are not finite or beyond 2³¹, and image indices out of range: DataError",
        ),
        accumulates="a bin in float64, dx in its dtype in the order of the boxes",
        linear=("x",),
        paper="Dai, Li, He & Sun 2016, R-FCN, NeurIPS, arXiv:1605.06409, eq. 1",
        cases=(
            Case(output_size=2, arrays=boxes, channels=8, ranks=(2,)),
            Case(output_size=(1, 3), spatial_scale=0.5, arrays=boxes, ranks=(2,)),
            Case(output_size=2, spatial_scale=0.5, compat="caffe", arrays=boxes, channels=4, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.arange(16.).reshape(1, 4, 2, 2)                # four channels for 2 × 2 bins
            >>> rois, image = np.array([[0., 0., 2., 2.]]), np.array([0])
            >>> cnncore.position_sensitive_roi_pool(x, rois, image, output_size=2)
            array([[[[ 0.,  5.],
                     [10., 15.]]]])
        """,
    ),
    Op(
        "polyphase_pool",
        PolyphaseSelection(),
        group="pooling",
        literature=("P51",),
        summary="Adaptive polyphase sampling: subsamples by the stride at the offset of largest norm, which makes it "
        "shift-invariant.",
        formula="y = xₒ with ‖xₒ‖ₚ the largest,  xₒ[i] = x[s i + o], o one of the sᵈ offsets, the same for all "
        "channels of an image",
        gradient="dx[s i + o] = dy[i] for the offset o that was taken, 0 elsewhere",
        settings_list=(
            Setting("stride", 2, "stride s: an integer, or one per axis"),
            Setting("p", 2.0, "order of the norm, > 0; float('inf') compares the largest magnitudes", norm_order),
            Setting("return_indices", False, "also return the offset chosen for each image, row-major", flag),
        ),
        shape="(N, C, *spatial) → (N, C, *output), output = ⌊H / s⌋ per axis",
        edges=(
            "ties: the first offset in row-major order",
            "extents that s does not divide: the components have ⌊H / s⌋ pixels each, and the pixels beyond are not used",
            "NaN: the first component that holds one is chosen",
            "the norm is computed over all channels of an image, in float64 and of x divided by its largest magnitude",
            "the choice is constant in the gradient: y jumps where two components have the same norm",
        ),
        accumulates="norms in float64",
        returns="array y; with return_indices=True the pair (y, offsets), offsets int64 of shape (N,)",
        smooth=False,
        paper="Chaman & Dokmanić 2021, Truly shift-invariant convolutional neural networks, CVPR, arXiv:2011.14214, "
        "eq. 5-6",
        cases=(Case(), Case(stride=3, p=1.0), Case(p=float("inf"), ranks=(1,)), Case(stride=(2, 3), ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.polyphase_pool(np.array([[[1., 5., 2., 4.]]]))
            array([[[5., 4.]]])
        """,
    ),
)
