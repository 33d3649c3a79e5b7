"""Schemas of pooling by linear transforms: blurring, wavelets, spectra."""

from dataclasses import replace

from ...checks import choice, whole
from ..operator import Op
from ..pooling import schemas as pooling
from ..pooling.windows import PADDING
from ..schema import REQUIRED, Case, Setting
from .implementation import Blur, Haar, Hartley, MaxBlur, Spectral

__all__ = ["SCHEMAS"]

FILTER_SIZE = Setting(
    "filter_size", 4, "taps of the binomial filter per axis, 1 to 7: 3 is [1 2 1]/4; 1 does not blur", whole(1, 7)
)
BLUR_STRIDE = Setting("stride", 2, "stride after blurring: an integer, or one per axis")
PADDING_MODE = Setting(
    "padding_mode",
    "reflect",
    "padding mode: 'reflect', 'replicate' or 'zeros'",
    choice("reflect", "replicate", "zeros"),
)
OUTPUT_SIZE = Setting(
    "output_size",
    REQUIRED,
    "spatial extents of y, at most those of x: an integer, or one per axis; None keeps that of x",
)
IN_DTYPE = "in x's dtype; the reference implementation in float64"
BLUR_EDGES = (
    "an even filter is centred between two pixels: one more tap lies on the high side, as in the paper's code",
    "padding_mode='reflect': needs extents above ⌈(filter_size − 1)/2⌉; 'zeros' darkens the border",
    "NaN and ±∞: propagate as in sums",
)
SPECTRUM_EDGES = (
    "an unchanged extent: its axis is not transformed",
    "NaN and ±∞: propagate to all of their plane",
)

BLUR = Op(
    "blur_pool",
    Blur(),
    group="pooling",
    literature=("P27",),
    summary="Blur pooling (anti-aliased downsampling): a binomial filter, then subsampling by the stride.",
    formula="y[o] = Σₖ b[k] x̃[s o + k − ⌊(f − 1)/2⌋] along each axis;   b[k] = C(f − 1, k) / 2^(f − 1), x̃ the "
    "padded image",
    gradient="dx[i] = Σ b[k] dy[o] over all o and k whose cell is i or stands for it beyond the border",
    settings_list=(BLUR_STRIDE, FILTER_SIZE, PADDING_MODE),
    shape="(N, C, *spatial) → (N, C, *output), output = ⌈H / s⌉ per axis",
    edges=BLUR_EDGES,
    accumulates=IN_DTYPE,
    linear=("x",),
    paper="Zhang 2019, Making convolutional networks shift-invariant again, ICML, arXiv:1904.11486, section 3.2",
    cases=(
        Case(),
        Case(filter_size=3, padding_mode="replicate"),
        Case(filter_size=5, stride=3, padding_mode="zeros"),
        Case(filter_size=7, stride=1, ranks=(1,)),
        Case(filter_size=1, ranks=(1,)),
        Case(filter_size=2, stride=(1, 2), ranks=(2,)),
    ),
    example="""
        >>> import numpy as np, cnncore
        >>> cnncore.blur_pool(np.array([[[0., 4., 8., 4.]]]), filter_size=3)
        array([[[2., 6.]]])
    """,
)

SCHEMAS = (
    BLUR,
    Op(
        "max_blur_pool",
        MaxBlur(
            replace(next(row for row in pooling.SCHEMAS if row.name == "max_pool"), name="max_blur_pool"),
            replace(BLUR, name="max_blur_pool"),
        ),
        group="pooling",
        literature=("P27",),
        summary="Max blur pooling: max pooling with stride 1, then blur pooling.",
        formula="y = blur_pool(max_pool(x, kernel_size, stride=1))",
        gradient="dx: of the blur, then of the maximum (see blur_pool and max_pool)",
        settings_list=(
            Setting("kernel_size", 2, "extent of the max pooling window: an integer, or one per axis"),
            BLUR_STRIDE,
            PADDING,
            FILTER_SIZE,
            PADDING_MODE,
        ),
        shape="(N, C, *spatial) → (N, C, *output), output = ⌈(H + lo + hi − k + 1) / s⌉ per axis",
        edges=("padding: of the max pooling; it never wins", *pooling.MAX.edges[:2], *BLUR_EDGES),
        accumulates=IN_DTYPE,
        smooth=False,
        paper="Zhang 2019, Making convolutional networks shift-invariant again, ICML, arXiv:1904.11486, section 3.2",
        cases=(
            Case(),
            Case(kernel_size=3, padding=1, filter_size=3, padding_mode="replicate"),
            Case(kernel_size=(2, 3), stride=(1, 3), filter_size=2, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.max_blur_pool(np.array([[[0., 4., 8., 4., 0.]]]), filter_size=3)      # of 4 8 8 4
            array([[[6., 7.]]])
        """,
    ),
    Op(
        "wavelet_pool",
        Haar(),
        group="pooling",
        literature=("P47",),
        summary="Wavelet pooling: the low-pass band of a Haar wavelet transform.",
        formula="y[o] = (x[2o] + x[2o + 1]) / √2 along each axis, levels times;   in two dimensions 2 · the average "
        "of 2 × 2 cells",
        gradient="dx[2o] = dx[2o + 1] = dy[o] / √2 along each axis: synthesis with details of 0",
        settings_list=(Setting("levels", 1, "number of transforms, each of which halves the extents", whole(1, 30)),),
        shape="(N, C, *spatial) → (N, C, *output), output = ⌈H / 2^levels⌉ per axis",
        edges=(
            "the paper transforms twice, drops the details of the first level and inverts the second: this is the LL "
            "band of the first, levels=1",
            "the gradient is the exact adjoint of the forward pass",
            "an odd extent: the last pixel is paired with itself (half-sample symmetric extension), √2 x[H − 1]",
            "the transform is orthonormal: the mean grows by √2 per axis and level",
        ),
        accumulates=IN_DTYPE,
        linear=("x",),
        paper="Williams & Li 2018, Wavelet pooling for convolutional neural networks, ICLR; Haar 1910, Mathematische "
        "Annalen 69",
        cases=(Case(), Case(levels=2, spatial=5), Case(levels=3, spatial=3, ranks=(1,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.wavelet_pool(np.array([[[[1., 3., 5.], [2., 2., 5.]]]]))
            array([[[[ 4., 10.]]]])
        """,
    ),
    Op(
        "spectral_pool",
        Spectral(),
        group="pooling",
        literature=("P45",),
        summary="Spectral pooling: crops the Fourier spectrum to the low frequencies and transforms back.",
        formula="""
            X[k] = 1/√H Σ x[i] e^(−2πi ki/H),   Y[k] = X[k] for |k| < h/2,   y[o] = 1/√h Σ Y[k] e^(2πi ko/h)   along each axis
            h even: Y[h/2] = (X[h/2] + X[−h/2]) / 2, so that y is real
        """,
        gradient="dx: the spectrum of dy, 0 for the higher frequencies (h even: half of the bin at h/2 for each of "
        "±h/2), and back",
        settings_list=(
            OUTPUT_SIZE,
            Setting(
                "norm",
                "ortho",
                "normalisation of the transforms: 'ortho' (unitary, the mean grows by √(H/h) per axis) or 'forward' "
                "(the mean is kept)",
                choice("ortho", "forward"),
            ),
        ),
        shape="(N, C, *spatial) → (N, C, *output_size)",
        edges=(
            "even output extents: the unpaired frequency is made real by averaging its two bins, axis by axis; the "
            "gradient is the exact adjoint",
            *SPECTRUM_EDGES,
        ),
        accumulates="in x's dtype, by fast Fourier transforms or, along short axes, by matrix products",
        linear=("x",),
        paper="Rippel, Snoek & Adams 2015, Spectral representations for CNNs, NeurIPS, arXiv:1506.03767, algorithms 1 "
        "and 2",
        cases=(
            Case(output_size=3),
            Case(output_size=4, norm="forward"),
            Case(output_size=(2, None), ranks=(2,)),
            Case(output_size=1, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[3., 1., 3., 1.]]])                    # a mean and the highest frequency there is
            >>> cnncore.spectral_pool(x, output_size=2, norm="forward")
            array([[[2., 2.]]])
        """,
    ),
    Op(
        "hartley_pool",
        Hartley(),
        group="pooling",
        literature=("P46",),
        summary="Hartley pooling: spectral pooling with the real-valued Hartley transform.",
        formula="""
            X[k] = 1/√(HW) Σ x[i] cas(2π Σ kᵢi/H) over all axes,   cas = cos + sin;   X[k] for −h/2 ≤ k < h/2 transformed again
            nyquist="average": the bin at −h/2 is the mean of those at ±h/2
        """,
        gradient="dx: the Hartley spectrum of dy, 0 for the higher frequencies, transformed: the transform is its own "
        "adjoint",
        settings_list=(
            OUTPUT_SIZE,
            Setting(
                "nyquist",
                "average",
                "for even extents: 'average' the two bins at ±h/2, or 'crop' the spectrum, which keeps that at −h/2",
                choice("average", "crop"),
            ),
        ),
        shape="(N, C, *spatial) → (N, C, *output_size)",
        edges=(
            "nyquist='average', and odd extents: equals spectral_pool, since the same frequencies are kept, and is "
            "computed by it",
            "nyquist='crop': as in the paper; real too, but not symmetric under reflection of the image",
            *SPECTRUM_EDGES,
        ),
        accumulates="in x's dtype, by fast Fourier transforms or, along short axes, by matrix products",
        linear=("x",),
        paper="Zhang & Ma 2018, Hartley spectral pooling for deep learning, arXiv:1810.04028, algorithm 1",
        cases=(
            Case(output_size=3),
            Case(output_size=4),
            Case(output_size=4, nyquist="crop"),
            Case(output_size=(2, None), ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.hartley_pool(np.array([[[3., 1., 3., 1.]]]), output_size=1)
            array([[[4.]]])
        """,
    ),
)
