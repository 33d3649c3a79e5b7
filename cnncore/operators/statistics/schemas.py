"""Schemas of pooling by statistics of all pixels: attention, strips, covariance, bilinear, VLAD."""

from dataclasses import replace

from ...checks import flag, number, whole
from ..operator import Op
from ..pooling import schemas as pooling
from ..schema import Array, Case, Layer, Parameter, Setting
from .implementation import Attention, Bilinear, Covariance, Strips, VectorsOfLocallyAggregatedDescriptors

__all__ = ["SCHEMAS"]

X = Array("x", "input")
INITIAL = Setting("initial", "glorot", "initialiser of the weights: a name, or a number")
NOT_FINITE = "NaN and ±∞: propagate to all of y of their image"


def attention_weights(gated=False, masked=False):
    """v and w, and u and mask if asked for, for a case."""

    def arrays(rng, x):
        v, w, u = rng.standard_normal((4, x.shape[1])), rng.standard_normal(4), rng.standard_normal((4, x.shape[1]))
        mask = rng.random((x.shape[0], *x.shape[2:])) < 0.7
        return (v, w, *((u if gated else None,) if gated or masked else ()), *((mask,) if masked else ()))

    return arrays


def one_bag_of_nothing(rng, x):
    """A mask that excludes all pixels of the first image."""
    v, w, u, mask = attention_weights(masked=True)(rng, x)
    mask[:1] = False
    return v, w, u, mask


def strip_weights(rng, x):
    return rng.standard_normal((2, x.shape[1], x.shape[1], 3)) / 2


def other_image(rng, x):
    """z for a case: the pixels of x, two channels."""
    return (rng.standard_normal((x.shape[0], 2, *x.shape[2:])),)


def clusters(biased):
    def arrays(rng, x):
        w, c, b = rng.standard_normal((4, x.shape[1])), rng.standard_normal((4, x.shape[1])), rng.standard_normal(4)
        return (w, c, b) if biased else (w, c)

    return arrays


def hidden_by_channels(shapes, settings):
    return settings["hidden"], shapes[0][1]


def strip_taps(shapes, settings):
    return shapes[0][1], shapes[0][1], settings["taps"]


def clusters_by_channels(shapes, settings):
    return settings["clusters"], shapes[0][1]


SCHEMAS = (
    Op(
        "attention_pool",
        Attention(),
        group="pooling",
        literature=("P43",),
        summary="Attention pooling: the mean of all pixels, weighted by learned attention scores.",
        formula="""
            tᵢ = tanh(v xᵢ), with u ⊙ σ(u xᵢ);   a = softmax over the cells of wᵀ tᵢ;   y = Σ aᵢ xᵢ
        """,
        gradient="""
            daᵢ = dyᵀ xᵢ,   ds = a ⊙ (da − Σ a da),   dw = Σ dsᵢ tᵢ
            dp = w ds σ(u x)(1 − tanh²),   dq = w ds tanh σ(1 − σ),   dv = Σ dpᵢ xᵢᵀ,   du = Σ dqᵢ xᵢᵀ
            dxᵢ = aᵢ dy + vᵀ dpᵢ + uᵀ dqᵢ
        """,
        arrays=(
            X,
            Array("v", "weights (hidden, C) of the score"),
            Array("w", "weights (hidden,) of the score"),
            Array("u", "weights (hidden, C) of the gate", optional=True),
            Array("mask", "mask (N, *spatial), True for pixels to include; default all", True, False, role="mask"),
        ),
        settings_list=(
            Setting("return_weights", False, "also return the attention weights a, of shape (N, *spatial)", flag),
        ),
        shape="(N, C, *spatial) → (N, C)",
        edges=(
            "overflow: the largest score is subtracted before the exponential; differences beyond 745 leave one pixel alone",
            "masked pixels are never read; an image without a pixel to include: y = 0 and no gradient",
            NOT_FINITE,
        ),
        accumulates="scores, their sums and y in float64, products with v and u in x's dtype",
        returns="array y; with return_weights=True the pair (y, a)",
        paper="Ilse, Tomczak & Welling 2018, Attention-based deep multiple instance learning, ICML, arXiv:1802.04712, "
        "eq. 7-9",
        cases=(
            Case(arrays=attention_weights()),
            Case(arrays=attention_weights(gated=True), return_weights=True, ranks=(1, 2)),
            Case(arrays=attention_weights(gated=True, masked=True), ranks=(2,)),
            Case(arrays=one_bag_of_nothing, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 3.], [0., 0.]]])                  # two cells, two channels
            >>> cnncore.attention_pool(x, np.zeros((1, 2)), np.ones(1))     # equal scores: the mean
            array([[2., 0.]])
        """,
        layer=Layer(
            parameters=(
                Parameter("v", hidden_by_channels, "initial"),
                Parameter(
                    "w", lambda shapes, settings: (settings["hidden"],), "initial", fans=lambda shape: (shape[0], 1)
                ),
                Parameter("u", hidden_by_channels, "initial", when="gated"),
            ),
            settings=(
                Setting("hidden", 128, "hidden units, the rows of v and u", whole(1)),
                Setting("gated", False, "use a gate u", flag),
                INITIAL,
            ),
        ),
    ),
    Op(
        "strip_pool",
        Strips(replace(next(row for row in pooling.SCHEMAS if row.name == "adaptive_avg_pool"), name="strip_pool")),
        group="pooling",
        literature=("P44",),
        summary="Strip pooling: sums the means of each pixel's row and column, for long-range context along the axes.",
        formula="""
            r[h] = mean of row h,   q[w] = mean of column w, each through a 1-D convolution where its weights are given
            z[h, w] = r[h] + q[w];   y = z, or with gate=True x ⊙ σ(z)
        """,
        gradient="""
            dr[h] = Σ_w dz[h, w],   dq[w] = Σ_h dz[h, w],   through the convolutions;   dx = dr / W + dq / H
            gate: dz = dy ⊙ x ⊙ σ(1 − σ), and dy ⊙ σ(z) besides
        """,
        arrays=(
            X,
            Array("w_rows", "weights (C, C, taps) of a zero-padded convolution over r", optional=True),
            Array("w_columns", "weights (C, C, taps) of a zero-padded convolution over q", optional=True),
        ),
        settings_list=(Setting("gate", False, "return x · σ(z), as the module of the paper", flag),),
        shape="(N, C, H, W) → (N, C, H, W)",
        edges=(
            "one row: its mean is added to the mean of a column of one pixel",
            "NaN and ±∞: propagate to their row and their column",
        ),
        accumulates="means in float64 (kernels: float32 in short runs whose sums are float64), the rest in x's dtype",
        paper="Hou, Zhang, Cheng & Feng 2020, Strip pooling, CVPR, arXiv:2003.13328, eq. 1-5",
        cases=(
            Case(ranks=(2,), spatial=3),
            Case(gate=True, arrays=strip_weights, ranks=(2,), spatial=3, channels=2),
            Case(arrays=lambda rng, x: (strip_weights(rng, x)[0],), ranks=(2,), spatial=2),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.strip_pool(np.array([[[[1., 3.], [5., 7.]]]]))
            array([[[[ 5.,  7.],
                     [ 9., 11.]]]])
        """,
        layer=Layer(
            parameters=(
                Parameter("w_rows", strip_taps, "initial", when="learned"),
                Parameter("w_columns", strip_taps, "initial", when="learned"),
            ),
            settings=(
                Setting("learned", True, "use the convolutions w_rows and w_columns", flag),
                Setting("taps", 3, "extent of their kernels, odd", whole(1)),
                INITIAL,
            ),
        ),
    ),
    Op(
        "covariance_pool",
        Covariance(),
        group="pooling",
        literature=("P48",),
        summary="Covariance pooling (iSQRT-COV): the square root of the covariance matrix of the channels.",
        formula="""
            P = 1/n Σ (xᵢ − μ)(xᵢ − μ)ᵀ over the n cells;   Y = P / tr P, Z = 1
            T = ½ (3 − Z Y),  Y ← Y T,  Z ← T Z, iterations times;   y = √(tr P) Y → √P, on and above the diagonal
        """,
        gradient="""
            of an iteration, G and E the gradients of its Y and Z:  dT = Yᵀ G + E Zᵀ,  dY = G Tᵀ − ½ Zᵀ dT,  dZ = Tᵀ E − ½ dT Yᵀ
            dP from dY₀ and the two traces;   dX = 1/n (dP + dPᵀ)(X − μ)
        """,
        settings_list=(
            Setting("iterations", 5, "Newton-Schulz iterations for the square root; 0: y is P itself", whole(0, 30)),
        ),
        shape="(N, C, *spatial) → (N, C (C + 1) / 2): the upper triangle, row by row",
        edges=(
            "a constant image, or one pixel: tr P = 0, y = 0 and no gradient",
            "fewer pixels than channels: P does not have full rank; 30 iterations stay finite; small roots are underestimated",
            NOT_FINITE,
        ),
        accumulates="in float64 but for dx: the iteration would lose P's small roots, and grow where rounding made them negative",
        paper="Li, Xie, Wang & Gao 2018, Towards faster training of global covariance pooling networks (iSQRT-COV), "
        "CVPR, arXiv:1712.01034, eq. 2-10; Li, Xie, Wang & Zuo 2017, arXiv:1703.08050",
        cases=(Case(), Case(iterations=0), Case(iterations=2, channels=5, spatial=2, ranks=(1, 2))),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 3.], [2., 2.]]])                  # the first channel varies, the second does not
            >>> cnncore.covariance_pool(x, iterations=0)
            array([[1., 0., 0.]])
            >>> cnncore.covariance_pool(x)
            array([[1., 0., 0.]])
        """,
    ),
    Op(
        "bilinear_pool",
        Bilinear(),
        group="pooling",
        literature=("P49",),
        summary="Bilinear pooling: products of all pairs of channels of two images, averaged over the pixels.",
        formula="B = 1/n Σ xᵢ zᵢᵀ over the n cells;   s = sign(B) √(|B| + ε);   y = s / ‖s‖",
        gradient="ds = (dy − y yᵀdy) / ‖s‖;   dB = ds / (2 √(|B| + ε));   dxᵢ = 1/n dB zᵢ,   dzᵢ = 1/n dBᵀ xᵢ",
        arrays=(X, Array("z", "second image, with channels of its own; default x", optional=True)),
        settings_list=(
            Setting("signed_sqrt", True, "take signed square roots", flag),
            Setting("normalize", True, "normalise y to length 1", flag),
            Setting("eps", 1e-10, "ε, added under the root", number(minimum=0)),
        ),
        shape="(N, C, *spatial), (N, D, *spatial) → (N, C · D), row-major",
        symbols={"C": "channels of x", "D": "channels of z"},
        edges=(
            "B = 0: s = 0 and no gradient, where that of the root is infinite",
            "‖s‖ = 0: y = 0 and no gradient",
            NOT_FINITE,
        ),
        accumulates="B in float64 (of float32 points by runs of 1024 cells), dx and dz in x's dtype",
        paper="Lin, RoyChowdhury & Maji 2015, Bilinear CNN models, ICCV, arXiv:1504.07889, eq. 1-2 and section 3.1",
        cases=(
            Case(),
            Case(arrays=other_image, eps=1e-3),
            Case(arrays=other_image, signed_sqrt=False, ranks=(1,)),
            Case(normalize=False, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[3., 3.], [0., 4.]]])
            >>> cnncore.bilinear_pool(x, signed_sqrt=False, normalize=False)
            array([[9., 6., 6., 8.]])
        """,
    ),
    Op(
        "net_vlad",
        VectorsOfLocallyAggregatedDescriptors(),
        group="pooling",
        literature=("P50",),
        summary="NetVLAD: sums of the residuals of all pixels to learned cluster centres, weighted by soft assignment.",
        formula="""
            a = softmax over k of (wₖᵀ xᵢ + bₖ);   Vₖ = Σᵢ aₖᵢ (xᵢ − cₖ)
            y = all Vₖ / ‖Vₖ‖ one after the other, divided by the length of that
        """,
        gradient="""
            G = dV:   daₖᵢ = Gₖᵀ (xᵢ − cₖ),   ds = a ⊙ (da − Σₖ a da),   dw = Σ dsₖᵢ xᵢ,   db = Σ dsₖᵢ
            dcₖ = −Σᵢ aₖᵢ Gₖ,   dxᵢ = Σₖ aₖᵢ Gₖ + Σₖ dsₖᵢ wₖ
        """,
        arrays=(
            X,
            Array("w", "weights (clusters, C) of the assignment"),
            Array("c", "cluster centres (clusters, C)"),
            Array("b", "bias (clusters,) of the assignment; default 0", optional=True),
        ),
        settings_list=(Setting("normalize", True, "normalise each Vₖ, and then y, to length 1", flag),),
        shape="(N, C, *spatial) → (N, clusters · C), cluster by cluster",
        symbols={"clusters": "number of clusters"},
        edges=(
            "‖Vₖ‖ = 0: its part of y is 0, without gradient",
            "overflow: the largest score is subtracted before the exponential",
            "pixels are not normalised: do so before, as the networks of the paper do",
            NOT_FINITE,
        ),
        accumulates="products in x's dtype, sums of weights and over images in float64",
        paper="Arandjelović, Gronat, Torii, Pajdla & Sivic 2016, NetVLAD, CVPR, arXiv:1511.07247, eq. 3-4",
        cases=(
            Case(arrays=clusters(True)),
            Case(arrays=clusters(False), normalize=False, ranks=(1, 2)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 3.], [2., 4.]]])
            >>> w, c = np.zeros((1, 2)), np.array([[1., 1.]])         # one cluster: all cells are its own
            >>> cnncore.net_vlad(x, w, c, normalize=False)
            array([[2., 4.]])
        """,
        layer=Layer(
            parameters=(
                Parameter("w", clusters_by_channels, "initial"),
                Parameter("c", clusters_by_channels, "initial", decay=False),
                Parameter("b", lambda shapes, settings: (settings["clusters"],), "zeros", when="bias", decay=False),
            ),
            settings=(
                Setting("clusters", 64, "number of clusters", whole(1)),
                Setting("bias", True, "learn a bias b", flag),
                INITIAL,
            ),
        ),
    ),
)
