"""Schemas of the convolutions."""

import math

from ...checks import choice, flag, per_axis, whole
from ..operator import Op
from ..schema import REQUIRED, Array, Case, Layer, Parameter, Setting
from .implementation import (
    ALGORITHM,
    CAUSAL_SETTINGS,
    CONV_SETTINGS,
    DEPTHWISE_SETTINGS,
    TRANSPOSE_SETTINGS,
    CausalConvolution,
    Convolution,
    DepthwiseConvolution,
    FlippedConvolution,
    Linear,
    LinearAsConvolution,
    TransposedConvolution,
)

__all__ = ["SCHEMAS"]

CHANNELS = Setting("channels", REQUIRED, "number of output channels", whole(1))
KERNEL_SIZE = Setting("kernel_size", REQUIRED, "extent of the kernel: an integer, or one per axis")
BIAS = Setting("bias", True, "learn a bias b", flag)
INITIAL = Setting("initial", "he", "initialiser of w: a name, or a number")


def kernel_extents(input_shape, settings):
    """The kernel's extents, one per spatial axis."""
    return per_axis("layer", "kernel_size", settings["kernel_size"], len(input_shape) - 2, minimum=1)


def conv_weight(shapes, settings):
    (x, *_) = shapes
    return (settings["channels"], x[1] // settings.get("groups", 1), *kernel_extents(x, settings))


def transposed_weight(shapes, settings):
    (x, *_) = shapes
    return (x[1], settings["channels"] // settings.get("groups", 1), *kernel_extents(x, settings))


def linear_weight(shapes, settings):
    (x, *_) = shapes
    return (settings["channels"], x[-1])


def depthwise_weight(shapes, settings):
    (x, *_) = shapes
    return (x[1] * settings["multiplier"], 1, *kernel_extents(x, settings))


def window_weight(shapes, settings):
    (x, *_) = shapes
    size = per_axis("layer", "image_size", settings["image_size"], len(x) - 2, minimum=1)
    return (settings["channels"], x[1] * math.prod(size))


def bias(shapes, settings):
    return (settings["channels"],)


def depthwise_bias(shapes, settings):
    return (shapes[0][1] * settings["multiplier"],)


def transposed_fans(shape):
    """Fans of a transposed convolution: inputs and outputs change places; the stride thins out both alike and is left out."""
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


def depthwise_weights(multiplier, kernel, biased=True):
    """Arrays w and b of a depthwise convolution for a case."""

    def arrays(rng, x):
        return weights(multiplier * x.shape[1], kernel, groups=x.shape[1], biased=biased)(rng, x)

    return arrays


def window_weights(outputs, size):
    """Weights of a linear layer on a flattened image of ``size`` pixels along every axis."""

    def arrays(rng, x):
        return rng.standard_normal((outputs, x.shape[1] * size ** (x.ndim - 2))), rng.standard_normal(outputs)

    return arrays


def linear_arrays(rng, x):
    return rng.standard_normal((4, x.shape[-1])), rng.standard_normal(4)


NOT_FINITE = (
    "∞ and NaN in x, w or dy reach what they are a term of, nothing else, whatever the algorithm; the zeros that surround the "
    "image are terms of y: an ∞ in w makes y NaN where it meets them (as in PyTorch's dense convolutions), but not dx or dw"
)

SCHEMAS = (
    Op(
        "conv",
        Convolution(),
        group="convolution",
        literature=("C01", "C02", "C03", "C04", "C05", "C09", "C10"),
        summary="Convolution (cross-correlation, as in PyTorch): slides a kernel over the image, in 1 to 3 spatial dimensions.",
        formula="""
            y[n,k,o] = b[k] + Σ_c Σ_t w[k,c,t] · x[n,c, s·o + d·t − lo]
            c runs over the C/G channels of k's group, t over the kernel; outside the image x counts as 0, or with another
            padding_mode as the pixel that pad puts there
        """,
        gradient="""
            dx[n,c,q] = Σ_k Σ_t w[k,c,t] · dy[n,k,o]   over all (o, t) with s·o + d·t − lo = q
            dw[k,c,t] = Σ_n Σ_o dy[n,k,o] · x[n,c, s·o + d·t − lo]
            db[k]     = Σ_n Σ_o dy[n,k,o]
        """,
        arrays=(
            Array("x", "input"),
            Array("w", "weights (K, C / groups, *kernel)"),
            Array("b", "bias (K,)", optional=True),
        ),
        settings_list=CONV_SETTINGS,
        shape="(N, C, *spatial) → (N, K, *output), output = ⌊(H + lo + hi − d(k − 1) − 1) / s⌋ + 1 per axis",
        edges=(
            "padding: 'same_upper' and 'same_lower' give ⌈H / s⌉ outputs, 'same_torch' (stride 1) H",
            "padding_mode: 'reflect' needs padding < H; the gradient of a pixel is the sum over all its copies",
            "rows at the high end that no window covers: their gradient is exactly 0",
            NOT_FINITE,
            "N = 0: y and dx are empty, dw and db are 0",
        ),
        accumulates="in the arrays' dtype; the reference implementation (algorithm='reference') in float64",
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
            Case(padding_mode="reflect", padding=2, arrays=weights(2, 3), spatial=4),
            Case(padding_mode="replicate", padding=((2, 1),), stride=2, arrays=weights(2, 3), ranks=(1,)),
            Case(padding_mode="replicate", padding="same_upper", stride=2, arrays=weights(2, 3), ranks=(2,)),
            Case(padding_mode="circular", padding=2, dilation=2, arrays=weights(2, 2), spatial=4),
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
        group="convolution",
        literature=("C08",),
        summary="Transposed convolution, the gradient of conv with respect to its input: upsamples with a learned kernel.",
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
            Array("w", "weights (C, K / groups, *kernel): input channels first"),
            Array("b", "bias (K,)", optional=True),
        ),
        settings_list=TRANSPOSE_SETTINGS,
        shape="(N, C, *spatial) → (N, K, *output), "
        "output = (H − 1)s − lo − hi + d(k − 1) + 1 + output_padding per axis",
        edges=(
            "output_padding: adds rows at the high end only; where no pixel contributes, y is the bias",
            "padding 'same_upper' and 'same_lower': H·s outputs",
            NOT_FINITE,
            "N = 0: y and dx are empty, dw and db are 0",
        ),
        accumulates="in the arrays' dtype; the reference implementation (algorithm='reference') in float64",
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
        "depthwise_conv",
        DepthwiseConvolution(),
        group="convolution",
        literature=("C06",),
        summary="Depthwise convolution: convolves each channel with its own kernel, or with several.",
        formula="""
            y[n, c·M + m, o] = b[c·M + m] + Σ_t w[c·M + m, 0, t] · x[n, c, s·o + d·t − lo],   m = 0 … M − 1
        """,
        gradient="""
            dx[n,c,q]   = Σ_m Σ_t w[c·M + m, 0, t] · dy[n, c·M + m, o]   over all (o, t) with s·o + d·t − lo = q
            dw[k, 0, t] = Σ_n Σ_o dy[n,k,o] · x[n, ⌊k/M⌋, s·o + d·t − lo]
            db[k]       = Σ_n Σ_o dy[n,k,o]
        """,
        arrays=(
            Array("x", "input"),
            Array("w", "weights (C · M, 1, *kernel), the M kernels of the first channel first"),
            Array("b", "bias (C · M,)", optional=True),
        ),
        settings_list=DEPTHWISE_SETTINGS,
        shape="(N, C, *spatial) → (N, C · M, *output), output as of conv",
        edges=(
            "equals conv with groups = C and the same weights; TensorFlow's weights (*kernel, C, M) have to be transposed",
            "padding and padding_mode: as conv",
            NOT_FINITE,
            "N = 0: y and dx are empty, dw and db are 0",
        ),
        accumulates="in the arrays' dtype; the reference implementation (algorithm='reference') in float64",
        linear=("x", "w"),
        paper="Howard et al. 2017, arXiv:1704.04861, section 3.1; Chollet 2017, CVPR, arXiv:1610.02357",
        cases=(
            Case(padding=1, arrays=depthwise_weights(1, 3)),
            Case(stride=2, padding="same_upper", arrays=depthwise_weights(2, 3)),
            Case(dilation=2, arrays=depthwise_weights(3, 2, biased=False), channels=2, spatial=7),
            Case(padding=1, padding_mode="reflect", arrays=depthwise_weights(1, 2), spatial=4, ranks=(2,)),
        ),
        layer=Layer(
            parameters=(
                Parameter("w", depthwise_weight, "initial"),
                Parameter("b", depthwise_bias, "zeros", when="bias", decay=False),
            ),
            settings=(
                KERNEL_SIZE,
                Setting("multiplier", 1, "channel multiplier M: output channels per input channel", whole(1)),
                BIAS,
                INITIAL,
            ),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 2., 3.], [4., 5., 6.]]])
            >>> w = np.array([[[1., 1.]], [[1., -1.]]])
            >>> cnncore.depthwise_conv(x, w)
            array([[[ 3.,  5.],
                    [-1., -1.]]])
        """,
    ),
    Op(
        "causal_conv",
        CausalConvolution(),
        group="convolution",
        literature=("C14",),
        summary="Causal convolution: 1-D convolution along time whose y at t depends only on x up to t.",
        formula="y[n,k,o] = b[k] + Σ_c Σ_t w[k,c,t] · x[n,c, s·o + d·t − d(k − 1)],   x = 0 before the beginning",
        gradient="""
            dx[n,c,q] = Σ_k Σ_t w[k,c,t] · dy[n,k,o]   over all (o, t) with s·o + d·t − d(k − 1) = q
            dw[k,c,t] = Σ_n Σ_o dy[n,k,o] · x[n,c, s·o + d·t − d(k − 1)]
            db[k]     = Σ_n Σ_o dy[n,k,o]
        """,
        arrays=(
            Array("x", "input (N, C, L)"),
            Array("w", "weights (K, C / groups, kernel); the last tap is applied to the present"),
            Array("b", "bias (K,)", optional=True),
        ),
        settings_list=CAUSAL_SETTINGS,
        shape="(N, C, L) → (N, K, ⌈L / s⌉)",
        edges=(
            "padding: d(k − 1) zeros at the low end only",
            NOT_FINITE,
            "N = 0: y and dx are empty, dw and db are 0",
        ),
        accumulates="in the arrays' dtype; the reference implementation (algorithm='reference') in float64",
        linear=("x", "w"),
        paper="van den Oord et al. 2016, WaveNet, arXiv:1609.03499, section 2.1",
        cases=(
            Case(arrays=weights(4, 3), ranks=(1,)),
            Case(dilation=3, stride=2, arrays=weights(2, 2), ranks=(1,)),
            Case(groups=3, arrays=weights(3, 2, groups=3, biased=False), ranks=(1,)),
        ),
        layer=layer(conv_weight, KERNEL_SIZE),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.causal_conv(np.array([[[1., 2., 3., 4.]]]), np.array([[[10., 1.]]]))
            array([[[ 1., 12., 23., 34.]]])
        """,
    ),
    Op(
        "flipped_conv",
        FlippedConvolution(),
        group="convolution",
        literature=("C20",),
        summary="True convolution: conv with the kernel flipped along all its axes.",
        formula="""
            y[n,k,o] = b[k] + Σ_c Σ_t w[k,c, e − t] · x[n,c, s·o + d·t − lo],   e: the last tap of the kernel
        """,
        gradient="""
            dx[n,c,q]     = Σ_k Σ_t w[k,c, e − t] · dy[n,k,o]   over all (o, t) with s·o + d·t − lo = q
            dw[k,c,e − t] = Σ_n Σ_o dy[n,k,o] · x[n,c, s·o + d·t − lo]
            db[k]         = Σ_n Σ_o dy[n,k,o]
        """,
        arrays=(
            Array("x", "input"),
            Array("w", "weights (K, C / groups, *kernel)"),
            Array("b", "bias (K,)", optional=True),
        ),
        settings_list=CONV_SETTINGS,
        shape="(N, C, *spatial) → (N, K, *output), output as of conv",
        edges=(
            "equals conv with every kernel reversed along all axes; weights of Theano, which flips kernels, fit here",
            "1×1 kernel: equals conv",
            NOT_FINITE,
            "N = 0: y and dx are empty, dw and db are 0",
        ),
        accumulates="in the arrays' dtype; the reference implementation (algorithm='reference') in float64",
        linear=("x", "w"),
        paper="Bracewell 1965, The Fourier Transform and Its Applications, chapter 3; "
        "Dumoulin & Visin 2016, arXiv:1603.07285",
        cases=(
            Case(arrays=weights(4, 3)),
            Case(stride=2, padding=1, dilation=2, groups=3, arrays=weights(3, 2, groups=3, biased=False)),
            Case(padding=1, padding_mode="circular", arrays=weights(2, 3), ranks=(2,)),
        ),
        layer=layer(conv_weight, KERNEL_SIZE),
        example="""
            >>> import numpy as np, cnncore
            >>> x, w = np.array([[[1., 2., 3.]]]), np.array([[[1., 10.]]])
            >>> cnncore.flipped_conv(x, w)
            array([[[12., 23.]]])
            >>> np.convolve(x[0, 0], w[0, 0], mode="valid")
            array([12., 23.])
        """,
    ),
    Op(
        "linear_as_conv",
        LinearAsConvolution(),
        group="convolution",
        literature=("C12",),
        summary="A linear layer on flattened images, applied as a convolution to larger images.",
        formula="""
            y[n,k,o] = b[k] + Σ_c Σ_t w[k, f(c,t)] · x[n,c, s·o + t],   t over an image of image_size
            f: where (c,t) lies in the flattened image; channels first (c H + i) W + j, channels last (i W + j) C + c
        """,
        gradient="""
            dx[n,c,q]    = Σ_k Σ_t w[k, f(c,t)] · dy[n,k,o]   over all (o, t) with s·o + t = q
            dw[k,f(c,t)] = Σ_n Σ_o dy[n,k,o] · x[n,c, s·o + t]
            db[k]        = Σ_n Σ_o dy[n,k,o]
        """,
        arrays=(
            Array("x", "input, at least as large as image_size"),
            Array("w", "weights (outputs, C · *image_size) of the linear layer"),
            Array("b", "bias (outputs,)", optional=True),
        ),
        settings_list=(
            Setting(
                "image_size",
                REQUIRED,
                "spatial extents of the images that the linear layer takes: an integer, or one per axis",
            ),
            Setting("stride", 1, "stride between images"),
            Setting(
                "order",
                "channels_first",
                "order of the flattened features: 'channels_first' (C, H, W), or 'channels_last' (H, W, C) as in TensorFlow",
                choice("channels_first", "channels_last"),
            ),
            ALGORITHM,
        ),
        shape="(N, C, *spatial) → (N, outputs, *output), output = ⌊(H − image_size) / s⌋ + 1 per axis",
        symbols={"outputs": "outputs of the linear layer"},
        edges=(
            "an input of image_size: y is the result of linear, with spatial extents 1",
            "cnncore.linear_to_conv and cnncore.conv_to_linear convert the weights themselves",
        ),
        accumulates="in the arrays' dtype; the reference implementation (algorithm='reference') in float64",
        linear=("x", "w"),
        paper="Sermanet et al. 2014, OverFeat, ICLR, arXiv:1312.6229, section 3.5; Long, Shelhamer & Darrell 2015, CVPR, "
        "arXiv:1411.4038, section 3.1",
        cases=(
            Case(image_size=3, arrays=window_weights(4, 3), spatial=4),
            Case(image_size=2, stride=2, order="channels_last", arrays=window_weights(2, 2), spatial=4),
        ),
        layer=layer(window_weight),
        example="""
            >>> import numpy as np, cnncore
            >>> w = np.array([[1., 10.]])
            >>> cnncore.linear_as_conv(np.array([[[1., 2., 3.]]]), w, image_size=2)
            array([[[21., 32.]]])
        """,
    ),
    Op(
        "linear",
        Linear(),
        group="convolution",
        literature=("L01",),
        summary="Fully connected layer: y = x Wᵀ + b.",
        formula="y[n,k] = b[k] + Σ_c w[k,c] · x[n,c]",
        gradient="""
            dx[n,c] = Σ_k w[k,c] · dy[n,k]
            dw[k,c] = Σ_n dy[n,k] · x[n,c]
            db[k]   = Σ_n dy[n,k]
        """,
        arrays=(
            Array("x", "input"),
            Array("w", "weights (outputs, features)"),
            Array("b", "bias (outputs,)", optional=True),
        ),
        shape="(…, features) → (…, outputs), usually (N, features) → (N, outputs)",
        symbols={"features": "input features", "outputs": "output features"},
        edges=("leading axes: any number, also none", "N = 0: y and dx are empty, dw and db are 0"),
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
