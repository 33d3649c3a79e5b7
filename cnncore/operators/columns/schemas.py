"""Schemas of the operators that treat windows one by one: unfold, fold, locally connected, deformable and partial convolution."""

import math

import numpy as np

from ...checks import flag, per_axis, whole
from .. import geometry
from ..convolution.implementation import CONV_SETTINGS
from ..convolution.schemas import BIAS, CHANNELS, INITIAL, KERNEL_SIZE, conv_weight, layer, weights
from ..operator import Op
from ..schema import REQUIRED, Array, Case, Layer, Parameter, Setting
from .implementation import DeformableConvolution, Fold, LocallyConnected, PartialConvolution, Unfold

__all__ = ["SCHEMAS"]

WINDOW = Setting("kernel_size", REQUIRED, "extent of the windows: an integer, or one per axis")
BY_NAME = {s.name: s for s in CONV_SETTINGS}
STRIDE, PADDING, DILATION, GROUPS, ALGORITHM = (
    BY_NAME[name] for name in ("stride", "padding", "dilation", "groups", "algorithm")
)


# ── Locally connected ──────────────────────────────────────────────────────────────────────────────────────────────────


def local_output(shapes, settings):
    """The number of windows along each axis, None where that is open."""
    extents = shapes[0][2:]
    window = geometry.window(
        "layer", extents, settings["kernel_size"], settings["stride"], settings["padding"], settings["dilation"]
    )
    return window.output_shape


def local_weight(shapes, settings):
    (x, *_) = shapes
    taps = math.prod(per_axis("layer", "kernel_size", settings["kernel_size"], len(x) - 2, minimum=1))
    return (settings["channels"], x[1] // settings["groups"] * taps, *local_output(shapes, settings))


def local_bias(shapes, settings):
    return (settings["channels"], *local_output(shapes, settings))


def local_arrays(outputs, kernel, windows, groups=1, shared=False):
    """w and b for a case with ``windows(rank)`` windows along the axes."""

    def arrays(rng, x):
        rank = x.ndim - 2
        output = windows(rank)
        w = rng.standard_normal((outputs, x.shape[1] // groups * kernel**rank, *output))
        return w, rng.standard_normal((outputs,) if shared else (outputs, *output))

    return arrays


# ── Deformable ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def deformable_arrays(outputs, kernel, windows, groups=1, shared=1, biased=True, masked=True):
    """offset, w, b and mask for a case; positions stay away from integers, where the gradient jumps."""

    def arrays(rng, x):
        N, C = x.shape[:2]
        taps = math.prod(kernel)
        offset = rng.integers(-2, 3, (N, 2 * shared * taps, *windows)) + rng.uniform(
            0.1, 0.9, (N, 2 * shared * taps, *windows)
        )
        w = rng.standard_normal((outputs, C // groups, *kernel))
        mask = rng.uniform(0.2, 1, (N, shared * taps, *windows)) if masked else None
        return offset, w, rng.standard_normal(outputs) if biased else None, mask

    return arrays


# ── Partial ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def partial_arrays(outputs, kernel, groups=1, whole_pixels=False, biased=True):
    """mask, w and b for a case; a corner of every image is masked."""

    def arrays(rng, x):
        shape = (x.shape[0], 1, *x.shape[2:]) if whole_pixels else x.shape
        mask = (rng.random(shape) < 0.6).astype(np.float64)
        mask[(slice(None), slice(None), *(slice(0, 3),) * (x.ndim - 2))] = 0
        return mask, *weights(outputs, kernel, groups=groups, biased=biased)(rng, x)

    return arrays


SCHEMAS = (
    Op(
        "unfold",
        Unfold(),
        group="convolution",
        literature=("C11",),
        summary="Unfold (im2col): extracts every window of an image as a column.",
        formula="""
            y[n, c·T + t, o] = x[n,c, s·o + d·t − lo], 0 outside the image
            T: cells of a window, o: the windows in row-major order
        """,
        gradient="dx[n,c,q] = Σ dy[n, c·T + t, o]   over all (o, t) with s·o + d·t − lo = q: fold of dy",
        settings_list=(WINDOW, STRIDE, PADDING, DILATION),
        shape="(N, C, *spatial) → (N, C · T, windows)",
        symbols={"windows": "number of windows"},
        edges=(
            "order within a column: channels, then pixels of the window in row-major order, as in PyTorch (TensorFlow: "
            "pixels first)",
            "fold after unfold is not the identity: every pixel is multiplied by the number of windows that contain it",
        ),
        linear=("x",),
        accumulates="gradients in float64",
        paper="Chellapilla, Puri & Simard 2006, IWFHR, section 4",
        cases=(
            Case(kernel_size=3, spatial=4),
            Case(kernel_size=2, stride=2, padding=1, dilation=2, spatial=4),
            Case(kernel_size=(3, 2), padding=((2, 0), (0, 1)), ranks=(2,), spatial=4),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.unfold.with_backward(np.array([[[1., 2., 3.]]]), kernel_size=2)
            >>> y
            array([[[1., 2.],
                    [2., 3.]]])
            >>> backward(np.ones_like(y))
            array([[[1., 2., 1.]]])
        """,
    ),
    Op(
        "fold",
        Fold(),
        group="convolution",
        literature=("C11",),
        summary="Fold (col2im): sums columns into an image, the adjoint of unfold.",
        formula="y[n,c,q] = Σ x[n, c·T + t, o]   over all (o, t) with s·o + d·t − lo = q",
        gradient="dx[n, c·T + t, o] = dy[n,c, s·o + d·t − lo], 0 outside the image: unfold of dy",
        arrays=(Array("x", "columns (N, C · T, windows)"),),
        settings_list=(
            Setting(
                "output_size", REQUIRED, "spatial extents of the image: one per axis; an integer means equal extents"
            ),
            WINDOW,
            STRIDE,
            PADDING,
            DILATION,
        ),
        shape="(N, C · T, windows) → (N, C, *output_size)",
        symbols={"C": "channels", "windows": "number of windows"},
        edges=("pixels that no window contains: 0", "order within a column: as in unfold"),
        linear=("x",),
        accumulates="in float64, in the order of the pixels of a window",
        paper="Chellapilla, Puri & Simard 2006, IWFHR, section 4; Jia et al. 2014, Caffe, arXiv:1408.5093",
        cases=(
            Case(output_size=(5,), kernel_size=3, channels=6, spatial=3, ranks=(1,)),
            Case(output_size=(4, 5), kernel_size=2, stride=2, padding=1, channels=8, spatial=9, ranks=(1,)),
            Case(output_size=4, kernel_size=2, dilation=2, channels=4, spatial=4, ranks=(1,)),
            Case(output_size=(3, 2, 4), kernel_size=2, channels=8, spatial=6, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.fold(np.array([[[1., 2.], [10., 20.]]]), output_size=(3,), kernel_size=2)
            array([[[ 1., 12., 20.]]])
        """,
    ),
    Op(
        "locally_connected_conv",
        LocallyConnected(),
        group="convolution",
        literature=("C13",),
        summary="Locally connected convolution: each window has weights of its own, which are not shared.",
        formula="""
            y[n,k,o] = b[k,o] + Σ_c Σ_t w[k, c·T + t, o] · x[n,c, s·o + d·t − lo]
            c runs over the channels of k's group, t over the T cells of a window; outside the image x counts as 0
        """,
        gradient="""
            dx[n,c,q]        = Σ_k Σ_t w[k, c·T + t, o] · dy[n,k,o]   over all (o, t) with s·o + d·t − lo = q
            dw[k, c·T + t,o] = Σ_n dy[n,k,o] · x[n,c, s·o + d·t − lo]
            db[k,o]          = Σ_n dy[n,k,o], for b (K) summed over o as well
        """,
        arrays=(
            Array("x", "input"),
            Array("w", "weights (K, C / groups · T, *output): for every window a column in the order of unfold"),
            Array("b", "bias (K,) or (K, *output)", optional=True),
        ),
        settings_list=(WINDOW, STRIDE, PADDING, DILATION, GROUPS),
        shape="(N, C, *spatial) → (N, K, *output), output as of conv",
        edges=(
            "the weights fit one image size only",
            "N = 0: y and dx are empty, dw and db are 0",
        ),
        accumulates="in float64",
        linear=("x", "w"),
        paper="Taigman, Yang, Ranzato & Wolf 2014, DeepFace, CVPR, doi:10.1109/CVPR.2014.220, section 3; LeCun 1989",
        cases=(
            Case(kernel_size=3, arrays=local_arrays(2, 3, lambda rank: (2, 3, 4)[:rank]), spatial=4, channels=2),
            Case(
                kernel_size=2,
                dilation=2,
                arrays=local_arrays(2, 2, lambda rank: (2, 3)[:rank]),
                spatial=4,
                channels=2,
                ranks=(2,),
            ),
            Case(
                kernel_size=2,
                stride=2,
                padding=1,
                dilation=2,
                groups=2,
                arrays=local_arrays(4, 2, lambda rank: (2, 3, 3)[:rank], groups=2, shared=True),
                spatial=4,
                channels=4,
                ranks=(2,),
            ),
        ),
        layer=Layer(
            parameters=(
                Parameter("w", local_weight, "initial", fans=lambda shape: (shape[1], shape[0])),
                Parameter("b", local_bias, "zeros", when="bias", decay=False),
            ),
            settings=(CHANNELS, BIAS, INITIAL),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 2., 3.]]])
            >>> w = np.array([[[1., 0.], [1., 10.]]])                                # x₀ + x₁, 10 x₂
            >>> cnncore.locally_connected_conv(x, w, kernel_size=2)
            array([[[ 3., 30.]]])
        """,
    ),
    Op(
        "deformable_conv",
        DeformableConvolution(),
        group="convolution",
        literature=("C15",),
        summary="Deformable convolution: the sampling positions of each window are shifted by learned offsets.",
        formula="""
            y[n,k,o] = b[k] + Σ_c Σ_t w[k,c,t] · m[n,t,o] · v_c(p),   p = s·o + d·t − lo + Δ[n,t,o]
            v_c(p): x[n,c] interpolated linearly between the four pixels around p; pixels outside the image are 0
            Δ = offset (rows, then columns, for each cell), m = mask (1 where left out)
        """,
        gradient="""
            u_c[t,o] = Σ_k w[k,c,t] · dy[n,k,o]
            dx += u_c m ∂v/∂x,   dΔ[n,t,o] = Σ_c u_c m ∂v/∂p,   dm[n,t,o] = Σ_c u_c v_c(p)
            dw[k,c,t] = Σ_n Σ_o dy[n,k,o] · m v_c(p),   db[k] = Σ_n Σ_o dy[n,k,o]
        """,
        arrays=(
            Array("x", "input (N, C, H, W)"),
            Array(
                "offset",
                "offsets Δ (N, offset_groups · T · 2, *output): row and column offset of each tap of each window",
            ),
            Array("w", "weights (K, C / groups, kh, kw)"),
            Array("b", "bias (K,)", optional=True),
            Array(
                "mask", "modulation mask m (N, offset_groups · T, *output), deformable convolution v2", optional=True
            ),
        ),
        settings_list=(
            STRIDE,
            PADDING,
            DILATION,
            GROUPS,
            Setting("offset_groups", 1, "number of channel groups, each with offsets and a mask of its own", whole(1)),
        ),
        shape="(N, C, H, W) → (N, K, *output), output as of conv",
        edges=(
            "integer positions, where v has a kink: the derivative from the right and from below, [⌊p⌋, ⌊p⌋ + 1)",
            "positions ≤ −1 or ≥ H: v = 0, and no gradient",
            "offset 0 without mask: equals conv",
            "order of arguments: as in torchvision's deform_conv2d; ONNX DeformConv has w before offset",
        ),
        accumulates="columns and gradients of x, offset and mask in float64, the sums over them in the arrays' dtype",
        smooth=False,
        linear=("x", "w", "mask"),
        paper="Dai et al. 2017, ICCV, arXiv:1703.06211, section 2; with a mask: Zhu et al. 2019, CVPR, arXiv:1811.11168",
        cases=(
            Case(padding=1, arrays=deformable_arrays(2, (3, 2), (4, 6)), ranks=(2,), spatial=4, channels=2),
            Case(dilation=2, arrays=deformable_arrays(2, (2, 2), (2, 3)), ranks=(2,), spatial=4, channels=2),
            Case(
                stride=2,
                dilation=2,
                groups=2,
                offset_groups=2,
                arrays=deformable_arrays(2, (2, 2), (2, 2), groups=2, shared=2, biased=False, masked=False),
                ranks=(2,),
                spatial=5,
                channels=4,
            ),
        ),
        layer=layer(conv_weight, KERNEL_SIZE),
        example="""
            >>> import numpy as np, cnncore
            >>> x, w = np.array([[[[1., 2., 4.]]]]), np.array([[[[10.]]]])
            >>> offset = np.zeros((1, 2, 1, 3))
            >>> offset[0, 1] = 0.5                                                  # half a pixel to the right
            >>> cnncore.deformable_conv(x, offset, w)
            array([[[[15., 30., 20.]]]])
        """,
    ),
    Op(
        "partial_conv",
        PartialConvolution(),
        group="convolution",
        literature=("C16",),
        summary="Partial convolution for inpainting: masked pixels are left out, and each window is rescaled by its "
        "number of valid pixels.",
        formula="""
            y[n,k,o] = b[k] + T C / m[n,o] · Σ_c Σ_t w[k,c,t] · M x [n,c, s·o + d·t − lo]   where m > 0, else 0
            m[n,o] = Σ M over the window: how many pixels are known;   T C: pixels of a window in the channels of the group
            the mask of y: M′ = 1 where m > 0
        """,
        gradient="""
            with g = dy T C / m:   dx = M · (dx of conv for g),   dw = that of conv for M x and g
            db[k] = Σ_n Σ_o dy[n,k,o] where m > 0
        """,
        arrays=(
            Array("x", "input"),
            Array("mask", "mask M, 0 at missing pixels: of x's shape, or with one channel", differentiable=False),
            Array("w", "weights (K, C / groups, *kernel)"),
            Array("b", "bias (K,)", optional=True),
        ),
        settings_list=(
            STRIDE,
            PADDING,
            DILATION,
            GROUPS,
            ALGORITHM,
            Setting(
                "return_mask",
                False,
                "also return the updated mask M′: (N, 1, *output), with groups (N, K, *output)",
                flag,
            ),
        ),
        shape="(N, C, *spatial) → (N, K, *output), output as of conv",
        edges=(
            "windows without a valid pixel: y = 0, without the bias too, and no gradient",
            "missing pixels have no influence, whatever they hold (NaN): their gradient is 0",
            "padding: counts as missing",
            "mask: any nonzero number counts as 1; M′ equals max_pool of M over the same windows",
        ),
        returns="array y; with return_mask=True the pair (y, M′)",
        accumulates="in the arrays' dtype; pixels are counted exactly",
        linear=("x", "w"),
        paper="Liu, Reda, Shih, Wang, Tao & Catanzaro 2018, ECCV, arXiv:1804.07723, equations 1 and 2",
        cases=(
            Case(padding=1, arrays=partial_arrays(3, 2), spatial=5),
            Case(
                stride=2,
                dilation=2,
                return_mask=True,
                arrays=partial_arrays(2, 2, whole_pixels=True),
                ranks=(2,),
                spatial=5,
            ),
            Case(groups=2, arrays=partial_arrays(4, 2, groups=2, biased=False), ranks=(1,), channels=4, spatial=5),
        ),
        layer=layer(conv_weight, KERNEL_SIZE),
        example="""
            >>> import numpy as np, cnncore
            >>> x, mask = np.array([[[1., np.nan, 3., 4.]]]), np.array([[[1., 0., 1., 1.]]])
            >>> cnncore.partial_conv(x, mask, np.array([[[1., 1.]]]))
            array([[[2., 6., 7.]]])
        """,
    ),
)
