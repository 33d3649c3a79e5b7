"""Rows of the convolution variants."""

import math

from .. import geometry
from ..families.convolution import CONV_SETTINGS, TRANSPOSE_SETTINGS, Convolution, Linear, TransposedConvolution
from ..operator import REQUIRED, Array, Case, Layer, Op, Parameter, Setting, flag, whole

__all__ = ["ROWS"]

CHANNELS = Setting("channels", REQUIRED, "number of output channels", whole(1))
KERNEL_SIZE = Setting("kernel_size", REQUIRED, "extent of the kernel: an integer, or one per axis")
BIAS = Setting("bias", True, "whether b exists", flag)
INITIAL = Setting("initial", "he", "how w starts: the name of an initialiser, or a number")


def kernel_extents(input_shape, settings):
    """The kernel's extents, one per spatial axis."""
    return geometry.per_axis("layer", "kernel_size", settings["kernel_size"], len(input_shape) - 2, minimum=1)


def conv_weight(shapes, settings):
    (x, *_) = shapes
    return (settings["channels"], x[1] // settings.get("groups", 1), *kernel_extents(x, settings))


def transposed_weight(shapes, settings):
    (x, *_) = shapes
    return (x[1], settings["channels"] // settings.get("groups", 1), *kernel_extents(x, settings))


def linear_weight(shapes, settings):
    (x, *_) = shapes
    return (settings["channels"], x[-1])


def bias(shapes, settings):
    return (settings["channels"],)


def transposed_fans(shape):
    """Inputs and outputs have changed places; a stride thins out both alike and is left out."""
    taps = math.prod(shape[2:])
    return shape[0] * taps, shape[1] * taps


def layer(weight, *own, fans=None):
    """w and b, made from ``channels`` and the layer's own settings."""
    return Layer(
        parameters=(
            Parameter("w", weight, "initial", fans=fans),
            Parameter("b", bias, "zeros", when="bias", decay=False),
        ),
        settings=(CHANNELS, *own, BIAS, INITIAL),
    )


def weights(outputs, kernel, groups=1, biased=True, transposed=False):
    """Arrays w and b for a case: ``kernel`` is the extent along the last axis and grows by one to the axes before."""

    def arrays(rng, x):
        rank = x.ndim - 2
        extents = tuple(kernel + rank - 1 - axis for axis in range(rank)) if kernel > 1 else (1,) * rank
        shape = (x.shape[1], outputs // groups) if transposed else (outputs, x.shape[1] // groups)
        w = rng.standard_normal((*shape, *extents))
        return (w, rng.standard_normal(outputs)) if biased else (w, None)

    return arrays


def linear_arrays(rng, x):
    return rng.standard_normal((4, x.shape[-1])), rng.standard_normal(4)


ROWS = (
    Op(
        "conv",
        Convolution(),
        family="convolution",
        catalogue=("C01", "C02", "C03", "C04", "C05", "C06", "C09", "C10"),
        summary="Slides a kernel over the image: the weighted sum of each window, one kernel per output channel.",
        formula="""
            y[n,k,o] = b[k] + Σ_c Σ_t w[k,c,t] · x[n,c, s·o + d·t − lo]
            c runs over the C/G channels of k's group, t over the kernel; outside the image x counts as 0
        """,
        gradient="""
            dx[n,c,q] = Σ_k Σ_t w[k,c,t] · dy[n,k,o]   over all (o, t) with s·o + d·t − lo = q
            dw[k,c,t] = Σ_n Σ_o dy[n,k,o] · x[n,c, s·o + d·t − lo]
            db[k]     = Σ_n Σ_o dy[n,k,o]
        """,
        arrays=(
            Array("x", "input"),
            Array("w", "weights (K, C / groups, \\*kernel)"),
            Array("b", "bias (K)", optional=True),
        ),
        settings_list=CONV_SETTINGS,
        shape="(N, C, \\*spatial) → (N, K, \\*output), output = ⌊(H + lo + hi − d(k − 1) − 1) / s⌋ + 1 per axis",
        edges=(
            "padding: zeros; 'same_upper' and 'same_lower' give ⌈H / s⌉ outputs, 'same_torch' (stride 1) H",
            "rows at the high end that no window reaches: their gradient is exactly 0",
            "depthwise: groups = C; output channel c·M + m comes from input channel c",
            "no images (N = 0): y and dx are empty, dw and db are 0",
        ),
        accumulates="in the arrays' dtype; the definition (algorithm='definition') in float64",
        linear=("x", "w"),
        paper="LeCun et al. 1989, doi:10.1162/neco.1989.1.4.541; arithmetic of windows: Dumoulin & Visin 2016, "
        "arXiv:1603.07285; dilation: Yu & Koltun 2016, arXiv:1511.07122; 1×1: Lin, Chen & Yan 2014, arXiv:1312.4400",
        cases=(
            Case(arrays=weights(4, 3)),
            Case(stride=2, padding=1, arrays=weights(4, 3, biased=False)),
            Case(dilation=2, padding=2, arrays=weights(3, 2), spatial=7),
            Case(padding="same_upper", stride=2, arrays=weights(3, 3)),
            Case(padding="same_lower", arrays=weights(3, 2)),
            Case(groups=2, padding=1, channels=4, arrays=weights(6, 3, groups=2)),
            Case(groups=3, padding=1, arrays=weights(6, 2, groups=3)),
            Case(arrays=weights(5, 1)),
        ),
        layer=layer(conv_weight, KERNEL_SIZE),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 2., 3., 4.]]])
            >>> w = np.array([[[1., 10.]]])
            >>> cnncore.conv(x, w)
            array([[[21., 32., 43.]]])
            >>> y, backward = cnncore.conv.with_backward(x, w)
            >>> dx, dw = backward(np.ones_like(y))
            >>> dx, dw
            (array([[[ 1., 11., 11., 10.]]]), array([[[6., 9.]]]))
        """,
    ),
    Op(
        "conv_transpose",
        TransposedConvolution(),
        family="convolution",
        catalogue=("C08",),
        summary="The adjoint of a convolution: every pixel adds its multiple of the kernel to the result.",
        formula="""
            y[n,k,q] = b[k] + Σ_c Σ_t w[c,k,t] · x[n,c,o]   over all (o, t) with s·o + d·t − lo = q
        """,
        gradient="""
            dx[n,c,o] = Σ_k Σ_t w[c,k,t] · dy[n,k, s·o + d·t − lo]
            dw[c,k,t] = Σ_n Σ_o x[n,c,o] · dy[n,k, s·o + d·t − lo]
            db[k]     = Σ_n Σ_q dy[n,k,q]
        """,
        arrays=(
            Array("x", "input"),
            Array("w", "weights (C, K / groups, \\*kernel): input channels first"),
            Array("b", "bias (K)", optional=True),
        ),
        settings_list=TRANSPOSE_SETTINGS,
        shape="(N, C, \\*spatial) → (N, K, \\*output), "
        "output = (H − 1)s − lo − hi + d(k − 1) + 1 + output_padding per axis",
        edges=(
            "output_padding: adds rows at the high end only; where no pixel reaches them y is the bias",
            "padding 'same_upper' and 'same_lower': H·s outputs",
            "no images (N = 0): y and dx are empty, dw and db are 0",
        ),
        accumulates="in the arrays' dtype; the definition (algorithm='definition') in float64",
        linear=("x", "w"),
        paper="Zeiler, Krishnan, Taylor & Fergus 2010, doi:10.1109/CVPR.2010.5539957; "
        "Dumoulin & Visin 2016, arXiv:1603.07285 §4",
        cases=(
            Case(arrays=weights(4, 3, transposed=True), spatial=4),
            Case(stride=2, padding=1, output_padding=1, arrays=weights(2, 3, transposed=True), spatial=4),
            Case(stride=2, dilation=2, arrays=weights(2, 2, transposed=True, biased=False), spatial=3),
            Case(groups=2, padding=1, channels=4, arrays=weights(6, 3, groups=2, transposed=True), spatial=4),
            Case(stride=3, padding="same_upper", arrays=weights(2, 3, transposed=True), spatial=3),
        ),
        layer=layer(transposed_weight, KERNEL_SIZE, fans=transposed_fans),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 2., 3.]]])
            >>> w = np.array([[[1., 10.]]])
            >>> cnncore.conv_transpose(x, w)
            array([[[ 1., 12., 23., 30.]]])
            >>> cnncore.conv_transpose(x, w, stride=2)
            array([[[ 1., 10.,  2., 20.,  3., 30.]]])
        """,
    ),
    Op(
        "linear",
        Linear(),
        family="convolution",
        catalogue=("L01",),
        summary="Every output is a weighted sum of all features.",
        formula="y[n,k] = b[k] + Σ_c w[k,c] · x[n,c]",
        gradient="""
            dx[n,c] = Σ_k w[k,c] · dy[n,k]
            dw[k,c] = Σ_n dy[n,k] · x[n,c]
            db[k]   = Σ_n dy[n,k]
        """,
        arrays=(
            Array("x", "input"),
            Array("w", "weights (outputs, features)"),
            Array("b", "bias (outputs)", optional=True),
        ),
        shape="(..., features) → (..., outputs); usually (N, features) → (N, outputs)",
        edges=("leading axes: any number of them, also none", "no rows (N = 0): y and dx are empty, dw and db are 0"),
        accumulates="in the arrays' dtype",
        linear=("x", "w"),
        paper="Rosenblatt 1958, doi:10.1037/h0042519",
        cases=(
            Case(ranks=(0,), channels=5, arrays=linear_arrays),
            Case(ranks=(1, 2, 3), arrays=linear_arrays),
        ),
        layer=layer(linear_weight),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.linear(np.array([[1., 2.]]), np.array([[10., 1.], [0., 3.]]), np.array([0.5, 0.]))
            array([[12.5,  6. ]])
        """,
    ),
)
