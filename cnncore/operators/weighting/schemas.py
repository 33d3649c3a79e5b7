"""Schemas of pooling by computed weights."""

from ...checks import flag, number
from ..operator import Op
from ..pooling.windows import KERNEL, WINDOW_SETTINGS
from ..schema import Array, Case, Layer, Parameter, Setting
from .implementation import DetailPreserving, LocalImportance

__all__ = ["SCHEMAS"]

IN_FLOAT64 = (
    "a window in float64 (kernels: in x's dtype), gradients of overlapping windows in x's dtype, in their order"
)
"order"


def logits(rng, x):
    """Logits for a case, small and large."""
    return (rng.standard_normal(x.shape) * 2,)


def numbers(full):
    """alpha and lam for a case, and w for the full form."""

    def arrays(rng, x):
        C, rank = x.shape[1], x.ndim - 2
        alpha, lam = rng.standard_normal(C) / 2, rng.standard_normal(C) / 2
        return (alpha, lam, rng.standard_normal((C, *(3,) * rank)) / 3**rank) if full else (alpha, lam)

    return arrays


def per_channel(shapes, settings):
    return (shapes[0][1],)


SCHEMAS = (
    Op(
        "local_importance_pool",
        LocalImportance(),
        group="pooling",
        literature=("P28",),
        summary="Local importance pooling (LIP): the mean of each window, weighted by the exponential of learned logits.",
        formula="y = Σ wᵢ xᵢ / Σ wᵢ,   wᵢ = e^(lᵢ − max l) over the window's cells inside the image",
        gradient="∂y/∂xᵢ = wᵢ / Σ w,   ∂y/∂lᵢ = wᵢ (xᵢ − y) / Σ w",
        arrays=(
            Array("x", "input"),
            Array("logit", "logits l, the logarithm of each value's importance, of x's shape"),
        ),
        settings_list=WINDOW_SETTINGS,
        shape=KERNEL.shape,
        edges=(
            "padding: takes no part",
            "overflow: the largest logit of the window is subtracted before the exponential",
            "infinite logits: the elements whose l is the largest of the window, ∞ or −∞, have equal weights",
            "NaN: in x or l, y is NaN",
        ),
        accumulates=IN_FLOAT64,
        linear=("x",),
        paper="Gao, Wang & Wu 2019, LIP: Local importance-based pooling, ICCV, arXiv:1908.04156, eq. 1",
        cases=(
            Case(kernel_size=2, arrays=logits),
            Case(kernel_size=3, stride=2, padding=1, arrays=logits),
            Case(kernel_size=3, stride=2, ceil_mode=True, arrays=logits, ranks=(1, 2)),
            Case(kernel_size=2, stride=1, dilation=2, arrays=logits, ranks=(1, 2)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x, logit = np.array([[[1., 5.]]]), np.array([[[0., np.log(3.)]]])
            >>> cnncore.local_importance_pool(x, logit, kernel_size=2).round(12)      # (1 + 3 · 5) / 4
            array([[[4.]]])
        """,
    ),
    Op(
        "detail_preserving_pool",
        DetailPreserving(),
        group="pooling",
        literature=("P29",),
        summary="Detail-preserving pooling (DPP): the mean of each window, weighted by the difference of each element "
        "from a smoothed image.",
        formula="""
            Δⱼ = xⱼ − m,   m = the window's mean, or with w Σ wₜ xₜ over the 3×… cells around its middle
            rⱼ = Δⱼ² + ε, or with symmetric=False max(0, Δⱼ)² + ε;   r̄ = 1/n Σ rⱼ
            y = Σ (e^α + ρⱼ) xⱼ / Σ (e^α + ρⱼ),   ρⱼ = (rⱼ / r̄)^(e^λ)
        """,
        gradient="""
            hⱼ = dy (xⱼ − y) / Σ (e^α + ρ);   dα = e^α Σ hⱼ,   dλ = Σ hⱼ ρⱼ e^λ ln(rⱼ / r̄)
            drⱼ = e^λ (hⱼ ρⱼ / rⱼ − Σ hρ / (n r̄)),   dΔⱼ = 2 Δⱼ drⱼ (0 where max(0, Δⱼ) = 0),   dm = −Σ dΔⱼ
            dxⱼ = dy (e^α + ρⱼ) / Σ (e^α + ρ) + dΔⱼ + dm ∂m/∂xⱼ;   dwₜ = Σ dm xₜ
        """,
        arrays=(
            Array("x", "input"),
            Array("alpha", "α, one per channel: the base weight of every element"),
            Array("lam", "λ, one per channel: the strength of details"),
            Array("w", "low-pass filter (C, 3, …) of the full form; without it the lite form", optional=True),
        ),
        settings_list=(
            *WINDOW_SETTINGS,
            Setting(
                "symmetric",
                True,
                "symmetric weights: elements below their surroundings are details too, not only those above",
                flag,
            ),
            Setting("eps", 1e-3, "ε, added to squared differences", number(above=0)),
        ),
        shape=KERNEL.shape,
        edges=(
            "padding: takes no part; beyond the border the filter w sees zeros",
            "the centre of an even window: the last element of its first half; w then reaches one element beyond a 2×2 "
            "window, as a 3×3 convolution with stride 2 and padding 1 does",
            "a constant window: all weights are equal",
            "the powers are those of the paper's released code; its text has ρ = (Δ² + ε²)^(λ/2)",
            "overflow: squares are computed of Δ / max(1, max |Δ|), and weights relative to their largest; y is finite "
            "whenever x is",
            "NaN or ±∞ in a window: y is NaN",
        ),
        accumulates=f"{IN_FLOAT64}; dα, dλ and dw in float64",
        paper="Saeedan, Weber, Goesele & Roth 2018, Detail-preserving pooling in deep networks, CVPR, "
        "arXiv:1804.04076, "
        "section 3, in the form of the released code",
        cases=(
            Case(kernel_size=3, stride=2, arrays=numbers(False)),
            Case(kernel_size=2, arrays=numbers(True)),
            Case(kernel_size=3, stride=2, padding=1, symmetric=False, eps=1e-2, arrays=numbers(True), ranks=(1, 2)),
            Case(kernel_size=3, stride=2, ceil_mode=True, symmetric=False, arrays=numbers(False), ranks=(1, 2)),
            Case(kernel_size=3, stride=1, dilation=2, arrays=numbers(False), ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[0., 0., 0., 4.]]])
            >>> alpha, lam = np.array([-50.]), np.array([0.])         # hardly a weight for all, details as they are
            >>> cnncore.detail_preserving_pool(x, alpha, lam, kernel_size=4).round(2)
            array([[[3.]]])
        """,
        layer=Layer(
            parameters=(
                Parameter("alpha", per_channel, 0.0, decay=False),
                Parameter("lam", per_channel, 0.0, decay=False),
                Parameter(
                    "w", lambda shapes, settings: (shapes[0][1], *(3,) * (len(shapes[0]) - 2)), "mean", when="full"
                ),
            ),
            settings=(Setting("full", False, "use the full form with w", flag),),
        ),
    ),
)
