"""Schemas of the activations."""

from ...checks import choice, flag, number, seed_number, whole
from ...errors import SettingError
from ..operator import Op
from ..schema import REQUIRED, Array, Case, Layer, Parameter, Setting
from . import reference
from .elementwise import Elementwise, Parametric
from .implementation import BothParts, Gated, Hardmax, Maxout, RandomSlopes, Softmax, Sparsemax

__all__ = ["SCHEMAS"]

ANY = "any shape of at most 5 dimensions → the same"
ROUNDED = "none; the reference implementation computes in long double and rounds once, kernels are within 2 ulp"
ROUNDED_TO_4 = "none; the reference implementation computes in long double and rounds once, kernels are within 4 ulp"

# Klambauer et al. 2017, equation 14, to float64.
SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772

HARD_SIGMOID_SLOPE = 1 / 6
LEAKY_SLOPE = 0.01
LEAKY_SLOPES = {"tf": 0.2, "caffe": 0.0}


def clip_bounds(place, settings):
    low, high = float(settings["min_val"]), float(settings["max_val"])
    if low > high:
        raise SettingError(f"{place}: min_val {low:g} must not be above max_val {high:g}")
    return low, high


def hard_sigmoid_knees(place, settings):
    """α, and where αx + β meets 0 and 1, without the rounding of α: 3 and not 3.0000000000000004 for α = 1/6."""
    alpha, beta = float(settings["alpha"]), float(settings["beta"])
    if settings["compat"] == "onnx":
        if alpha != HARD_SIGMOID_SLOPE:
            raise SettingError(
                f"{place}: compat='onnx' means alpha=0.2, but alpha={alpha:g} is given; leave one of them out"
            )
        alpha = 0.2
    return alpha, float(f"{-beta / alpha:.15g}"), float(f"{(1 - beta) / alpha:.15g}")


def leaky_slope(place, settings):
    """The slope given, or the default of another framework."""
    slope = float(settings["negative_slope"])
    if settings["compat"] is None:
        return (slope,)
    if slope != LEAKY_SLOPE:
        peer = LEAKY_SLOPES[settings["compat"]]
        raise SettingError(
            f"{place}: compat={settings['compat']!r} means negative_slope={peer:g}, but negative_slope={slope:g} is given; "
            "leave one of them out"
        )
    return (LEAKY_SLOPES[settings["compat"]],)


def softplus_numbers(place, settings):
    """β, and the βx beyond which y = x: infinity, or PyTorch's threshold."""
    return float(settings["beta"]), 20.0 if settings["compat"] == "torch" else float("inf")


def clip_of_estimator(place, name, value):
    return None if value is None else number(minimum=0)(place, name, value)


def one_or_per_channel(shapes, settings):
    """Shape of a layer's learned parameter: num_parameters values, or one per input channel."""
    return (shapes[0][1] if settings["num_parameters"] == "channels" else settings["num_parameters"],)


def number_of_parameters(place, name, value):
    return value if value == "channels" else whole(1)(place, name, value)


def learned(parameter, initial, meaning):
    """A layer that owns ``parameter``, without weight decay, which would pull it to another activation."""
    return Layer(
        parameters=(Parameter(parameter, one_or_per_channel, "initial", decay=False),),
        settings=(
            Setting(
                "num_parameters", 1, f"number of {meaning}: 1, or 'channels' for one per channel", number_of_parameters
            ),
            Setting("initial", initial, f"initial value of {parameter}: a number, or the name of an initialiser"),
        ),
    )


def per_channel(low, high):
    return lambda rng, x: (rng.uniform(low, high, x.shape[1]),)


def one_number(value):
    return lambda rng, x: (rng.uniform(value, value, 1),)


SCHEMAS = (
    Op(
        "identity",
        Elementwise(reference.IDENTITY, of_y=True),
        group="activation",
        literature=("A01",),
        summary="Identity: returns its input unchanged.",
        formula="y = x",
        gradient="∂y/∂x = 1",
        shape=ANY,
        accumulates="none",
        linear=("x",),
        paper="the linear unit of Rosenblatt 1958, doi:10.1037/h0042519, before its threshold",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.identity(np.array([-1., 0., 2.]))
            array([-1.,  0.,  2.])
        """,
    ),
    Op(
        "relu",
        Elementwise(reference.RELU, of_y=True),
        group="activation",
        literature=("A10",),
        summary="Rectified linear unit: max(0, x).",
        formula="y = max(0, x)",
        gradient="∂y/∂x = 1 for x > 0, else 0",
        shape=ANY,
        edges=("x = 0: the subgradient 0 is taken", "NaN: y = NaN, slope 0", "±∞: 0 with slope 0, ∞ with slope 1"),
        accumulates="none",
        smooth=False,
        paper="Nair & Hinton 2010, ICML; Glorot, Bordes & Bengio 2011, AISTATS",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.relu(np.array([-1., 0., 2.]))
            array([0., 0., 2.])
            >>> y, backward = cnncore.relu.with_backward(np.array([-1., 0., 2.]))
            >>> backward(np.array([5., 5., 5.]))
            array([0., 0., 5.])
        """,
    ),
    Op(
        "leaky_relu",
        Elementwise(reference.LEAKY_RELU, leaky_slope),
        group="activation",
        literature=("A12",),
        summary="Leaky ReLU: a small constant slope for negative values, so that no unit dies.",
        formula="y = x for x > 0, else a·x          a = negative_slope",
        gradient="∂y/∂x = 1 for x > 0, else a",
        settings_list=(
            Setting("negative_slope", LEAKY_SLOPE, "slope a for negative x", number(), alias="alpha"),
            Setting(
                "compat", None, "'tf' or 'caffe': the default slope of that framework", choice(None, "tf", "caffe")
            ),
        ),
        shape=ANY,
        edges=(
            "x = 0: the left slope a is taken",
            "NaN: y = NaN, slope a",
            "−∞: −∞ for a > 0; a = 0 gives NaN there (0·∞), relu gives 0",
            "frameworks agree on the formula, not on a: 0.01 in PyTorch and ONNX, 0.2 in tf.nn (compat='tf'), 0 in "
            "Caffe's ReLU (compat='caffe'), 0.3 in Keras' layer",
        ),
        accumulates="none",
        smooth=False,
        paper="Maas, Hannun & Ng 2013, ICML workshop on deep learning for audio, speech and language processing",
        cases=(Case(), Case(negative_slope=0.3), Case(negative_slope=-0.5), Case(compat="tf", ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.leaky_relu(np.array([-1., 0., 2.]), negative_slope=0.25)
            array([-0.25,  0.  ,  2.  ])
        """,
    ),
    Op(
        "prelu",
        Parametric(reference.LEAKY_RELU, "a"),
        group="activation",
        literature=("A13",),
        summary="Parametric ReLU: leaky ReLU whose negative slope is learned, one for all channels or one per channel.",
        formula="y[n,c] = x[n,c] for x[n,c] > 0, else a[c]·x[n,c]",
        gradient="""
            dx[n,c] = dy[n,c] for x[n,c] > 0, else a[c]·dy[n,c]
            da[c]   = Σ dy[n,c]·x[n,c] over all n and pixels with x[n,c] ≤ 0
        """,
        arrays=(Array("x", "input"), Array("a", "negative slope: (1,), or (C,) for one per channel")),
        shape="(N, C, *spatial) → the same; with a of shape (1,) any shape of at most 5 dimensions",
        edges=("x = 0: the left slope a is taken, and 0 in da", "NaN: y = NaN; slope a, and NaN in da"),
        accumulates="da in float64, plane by plane in a fixed order",
        smooth=False,
        paper="He, Zhang, Ren & Sun 2015, ICCV, arXiv:1502.01852, equations 1 and 10",
        cases=(Case(arrays=per_channel(0.1, 0.5)), Case(arrays=one_number(0.25))),
        layer=learned("a", 0.25, "negative slopes"),
        example="""
            >>> import numpy as np, cnncore
            >>> x, a = np.array([[-1., 2.], [-4., -3.]]), np.array([0.5, 0.25])
            >>> y, backward = cnncore.prelu.with_backward(x, a)
            >>> y
            array([[-0.5 ,  2.  ],
                   [-2.  , -0.75]])
            >>> dx, da = backward(np.ones_like(y))
            >>> dx
            array([[0.5 , 1.  ],
                   [0.5 , 0.25]])
            >>> da
            array([-5., -3.])
        """,
    ),
    Op(
        "elu",
        Elementwise(reference.ELU, lambda place, settings: (1.0, float(settings["alpha"]), 1.0)),
        group="activation",
        literature=("A15",),
        summary="Exponential linear unit: linear above 0, saturating at −α below.",
        formula="y = x for x > 0, else α(eˣ − 1)",
        gradient="∂y/∂x = 1 for x > 0, else α·eˣ",
        settings_list=(Setting("alpha", 1.0, "y tends to −α for x → −∞", number()),),
        shape=ANY,
        edges=(
            "x = 0: the left slope α is taken",
            "near 0: eˣ − 1 is computed without cancellation",
            "−∞: −α with slope 0; ∞: ∞ with slope 1; NaN: NaN",
        ),
        accumulates=ROUNDED,
        smooth=False,
        paper="Clevert, Unterthiner & Hochreiter 2016, ICLR, arXiv:1511.07289, equation 15",
        cases=(Case(), Case(alpha=2.0)),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.elu(np.array([-np.inf, -np.log(2), 0., 3.]), alpha=2.0)     # e^(−log 2) − 1 = −½
            array([-2., -1.,  0.,  3.])
        """,
    ),
    Op(
        "celu",
        Elementwise(reference.ELU, lambda place, settings: (1.0, float(settings["alpha"]), float(settings["alpha"]))),
        group="activation",
        literature=("A16",),
        summary="Continuously differentiable ELU: the slope is continuous at 0 for every α.",
        formula="y = x for x > 0, else α(e^{x/α} − 1)",
        gradient="∂y/∂x = 1 for x > 0, else e^{x/α}",
        settings_list=(Setting("alpha", 1.0, "y tends to −α for x → −∞", number(above=0)),),
        shape=ANY,
        edges=("−∞: −α with slope 0; ∞: ∞ with slope 1; NaN: NaN",),
        accumulates=ROUNDED,
        paper="Barron 2017, arXiv:1704.07483",
        cases=(Case(), Case(alpha=0.5)),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.celu(np.array([-np.inf, -np.log(4), 0., 3.]), alpha=2.0)    # e^(−log 4 / 2) − 1 = −½
            array([-2., -1.,  0.,  3.])
        """,
    ),
    Op(
        "selu",
        Elementwise(reference.ELU, lambda place, settings: (SELU_SCALE, SELU_ALPHA, 1.0)),
        group="activation",
        literature=("A17",),
        summary="Scaled ELU: keeps mean 0 and variance 1 from layer to layer (with LeCun initialisation).",
        formula="y = λx for x > 0, else λα(eˣ − 1)          λ = 1.0507009873554805, α = 1.6732632423543772",
        gradient="∂y/∂x = λ for x > 0, else λα·eˣ",
        shape=ANY,
        edges=("x = 0: the left slope λα = 1.7580993408473766 is taken", "−∞: −λα with slope 0; ∞: ∞; NaN: NaN"),
        accumulates=ROUNDED,
        smooth=False,
        paper="Klambauer, Unterthiner, Mayr & Hochreiter 2017, NeurIPS, arXiv:1706.02515, equation 2",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.selu(np.array([0., 1.])).round(4)
            array([0.    , 1.0507])
        """,
    ),
    Op(
        "sigmoid",
        Elementwise(reference.SIGMOID),
        group="activation",
        literature=("A04",),
        summary="Logistic sigmoid: maps any number to (0, 1).",
        formula="y = σ(x) = 1 / (1 + e⁻ˣ)",
        gradient="∂y/∂x = σ(x) σ(−x)",
        shape=ANY,
        edges=(
            "large |x|: neither e^{|x|} nor 1 − y is computed, so nothing overflows or cancels",
            "−∞: 0, ∞: 1, both with slope 0; NaN: NaN",
        ),
        accumulates=ROUNDED,
        paper="Verhulst 1845; as a unit: Rumelhart, Hinton & Williams 1986, doi:10.1038/323533a0",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.sigmoid(np.array([0., np.log(3)])).round(4)     # 1 / (1 + ⅓) = ¾
            array([0.5 , 0.75])
        """,
    ),
    Op(
        "log_sigmoid",
        Elementwise(reference.LOG_SIGMOID),
        group="activation",
        literature=("A05",),
        summary="Logarithm of the logistic sigmoid.",
        formula="y = log σ(x) = min(x, 0) − log(1 + e^{−|x|})",
        gradient="∂y/∂x = σ(−x)",
        shape=ANY,
        edges=("−∞: −∞ with slope 1; ∞: 0 with slope 0; NaN: NaN",),
        accumulates=ROUNDED,
        paper="the negative of softplus(−x): Dugas, Bengio, Bélisle, Nadeau & Garcia 2001, NeurIPS",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> np.exp(cnncore.log_sigmoid(np.array([0., np.log(3)]))).round(4)
            array([0.5 , 0.75])
        """,
    ),
    Op(
        "tanh",
        Elementwise(reference.TANH),
        group="activation",
        literature=("A06",),
        summary="Hyperbolic tangent: maps any number to (−1, 1).",
        formula="y = tanh x = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)",
        gradient="∂y/∂x = sech² x = 4e / (1 + e)²,  e = e^{−2|x|}",
        shape=ANY,
        edges=(
            "−∞: −1, ∞: 1, both with slope 0; NaN: NaN",
            "large |x|: the slope is computed without the cancellation of 1 − y²",
        ),
        accumulates=ROUNDED,
        paper="LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, doi:10.1007/3-540-49430-8_2",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.tanh(np.array([0., np.log(3)])).round(4)     # (3 − ⅓) / (3 + ⅓) = 0.8
            array([0. , 0.8])
        """,
    ),
    Op(
        "hard_sigmoid",
        Elementwise(reference.HARD_SIGMOID, hard_sigmoid_knees),
        group="activation",
        literature=("A08",),
        summary="Piecewise linear approximation of the sigmoid.",
        formula="y = min(max(αx + β, 0), 1)",
        gradient="∂y/∂x = α for −β/α < x < (1 − β)/α, else 0",
        settings_list=(
            Setting("alpha", HARD_SIGMOID_SLOPE, "slope; 1/6 as in PyTorch and Keras 3", number(above=0)),
            Setting("beta", 0.5, "y at x = 0", number()),
            Setting("compat", None, "'onnx': alpha=0.2, the default of ONNX and Keras 2", choice(None, "onnx")),
        ),
        shape=ANY,
        edges=(
            "at the knees (±3 for the defaults) the slope is 0",
            "near the lower knee: α(x + β/α) is computed, since αx + β would cancel",
            "−∞: 0, ∞: 1; NaN: y = NaN, slope 0",
            "two definitions are in use: α = 1/6 (PyTorch, Keras 3) and α = 0.2 (ONNX, Keras 2: compat='onnx')",
        ),
        accumulates="none",
        smooth=False,
        paper="Courbariaux, Bengio & David 2015, NeurIPS, arXiv:1511.00363; α = 1/6: Howard et al. 2019, arXiv:1905.02244",
        cases=(Case(), Case(alpha=0.6, beta=0.3), Case(compat="onnx", ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.hard_sigmoid(np.array([-3., 0., 1.5, 3.]))
            array([0.  , 0.5 , 0.75, 1.  ])
        """,
    ),
    Op(
        "hard_tanh",
        Elementwise(reference.CLIP, clip_bounds, of_y=True),
        group="activation",
        literature=("A09",),
        summary="Piecewise linear approximation of tanh: clips x to [min_val, max_val].",
        formula="y = min(max(x, min_val), max_val)",
        gradient="∂y/∂x = 1 for min_val < x < max_val, else 0",
        settings_list=(
            Setting("min_val", -1.0, "lower bound of y", number()),
            Setting("max_val", 1.0, "upper bound of y", number()),
        ),
        shape=ANY,
        edges=("at the knees the slope is 0", "±∞: the bound; NaN: y = NaN, slope 0", "equal bounds: y is constant"),
        accumulates="none",
        smooth=False,
        paper="Collobert 2004, Large scale machine learning, PhD thesis, Université Paris VI",
        cases=(Case(), Case(min_val=-0.5, max_val=1.5)),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.hard_tanh(np.array([-2., 0.5, 2.]))
            array([-1. ,  0.5,  1. ])
        """,
    ),
    Op(
        "clipped_relu",
        Elementwise(reference.CLIP, lambda place, settings: (0.0, float(settings["max_value"])), of_y=True),
        group="activation",
        literature=("A11",),
        summary="ReLU clipped at an upper bound.",
        formula="y = min(max(x, 0), max_value)",
        gradient="∂y/∂x = 1 for 0 < x < max_value, else 0",
        settings_list=(Setting("max_value", 6.0, "upper bound of y", number(minimum=0)),),
        shape=ANY,
        edges=("at 0 and at max_value the slope is 0", "−∞: 0, ∞: max_value; NaN: y = NaN, slope 0"),
        accumulates="none",
        smooth=False,
        paper="Krizhevsky 2010, Convolutional deep belief networks on CIFAR-10",
        cases=(Case(max_value=1.0), Case()),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.clipped_relu(np.array([-2., 0.5, 20.]), max_value=10)
            array([ 0. ,  0.5, 10. ])
        """,
    ),
    Op(
        "relu6",
        Elementwise(reference.CLIP, lambda place, settings: (0.0, 6.0), of_y=True),
        group="activation",
        literature=("A11",),
        summary="ReLU clipped at 6.",
        formula="y = min(max(x, 0), 6)",
        gradient="∂y/∂x = 1 for 0 < x < 6, else 0",
        shape=ANY,
        edges=("at 0 and 6 the slope is 0", "−∞: 0, ∞: 6; NaN: y = NaN, slope 0"),
        accumulates="none",
        smooth=False,
        paper="Krizhevsky 2010, Convolutional deep belief networks on CIFAR-10; Howard et al. 2017, arXiv:1704.04861",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.relu6(np.array([-2., 0.5, 20.]))
            array([0. , 0.5, 6. ])
        """,
    ),
    Op(
        "softplus",
        Elementwise(reference.SOFTPLUS, softplus_numbers),
        group="activation",
        literature=("A21",),
        summary="Softplus: a smooth approximation of ReLU.",
        formula="y = log(1 + e^{βx}) / β = (max(βx, 0) + log(1 + e^{−|βx|})) / β",
        gradient="∂y/∂x = σ(βx)",
        settings_list=(
            Setting("beta", 1.0, "steepness: the larger β, the closer to ReLU", number(above=0)),
            Setting(
                "compat", None, "'torch': PyTorch's threshold, y = x with slope 1 for βx > 20", choice(None, "torch")
            ),
        ),
        shape=ANY,
        edges=(
            "no threshold: the formula holds over the whole range; PyTorch's threshold (compat='torch') is off by 2e-9 "
            "at βx = 20",
            "−∞: 0 with slope 0; ∞: ∞ with slope 1; NaN: NaN",
        ),
        accumulates=ROUNDED,
        paper="Dugas, Bengio, Bélisle, Nadeau & Garcia 2001, NeurIPS",
        cases=(Case(), Case(beta=3.0), Case(beta=15.0, compat="torch", ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> np.exp(cnncore.softplus(np.array([0., np.log(3)]))).round(4)     # 1 + 1, 1 + 3
            array([2., 4.])
        """,
    ),
    Op(
        "softsign",
        Elementwise(reference.SOFTSIGN),
        group="activation",
        literature=("A27",),
        summary="Softsign: like tanh, but it approaches ±1 more slowly.",
        formula="y = x / (1 + |x|)",
        gradient="∂y/∂x = 1 / (1 + |x|)²",
        shape=ANY,
        edges=("±∞: ±1 with slope 0; NaN: NaN",),
        accumulates=ROUNDED,
        paper="Bergstra, Desjardins, Lamblin & Bengio 2009, Quadratic polynomials learn better image features",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.softsign(np.array([-3., 0., 1.]))
            array([-0.75,  0.  ,  0.5 ])
        """,
    ),
    Op(
        "silu",
        Elementwise(reference.SILU, lambda place, settings: (1.0,)),
        group="activation",
        literature=("A22",),
        summary="Sigmoid linear unit (SiLU): x · sigmoid(x), which is Swish with β = 1.",
        formula="y = x σ(x)",
        gradient="∂y/∂x = σ(x) + x σ(x) σ(−x)",
        shape=ANY,
        edges=("−∞: 0 with slope 0 (x·σ(x) as written gives NaN there); ∞: ∞ with slope 1; NaN: NaN",),
        accumulates=ROUNDED_TO_4,
        paper="Elfwing, Uchibe & Doya 2017, arXiv:1702.03118, equation 7; Hendrycks & Gimpel 2016, arXiv:1606.08415",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.silu(np.array([-np.inf, 0., np.log(3)])).round(4)     # ¾ log 3
            array([0.   , 0.   , 0.824])
        """,
    ),
    Op(
        "swish",
        Parametric(reference.SWISH, "betas", otherwise="beta"),
        group="activation",
        literature=("A23",),
        summary="Swish: x · sigmoid(βx) with fixed or learned β; x/2 for β = 0, ReLU for β → ∞.",
        formula="y = x σ(βx)          β = betas[c] where betas are given, else beta",
        gradient="""
            dx       = dy (σ + βx σ(1 − σ)),  σ = σ(βx)
            dbetas[c] = Σ dy[n,c] x[n,c]² σ(1 − σ) over all n and pixels
        """,
        arrays=(
            Array("x", "input"),
            Array("betas", "learned β: (1,), or (C,) for one per channel", optional=True),
        ),
        settings_list=(Setting("beta", 1.0, "β where betas is not given", number()),),
        shape="(N, C, *spatial) → the same; without betas or with one of shape (1,) any shape of at most 5 dimensions",
        edges=(
            "−∞ (for β > 0): 0 with slope 0; ∞: ∞ with slope 1; neither contributes to dbetas",
            "NaN: NaN",
        ),
        accumulates="dbetas in float64, plane by plane in a fixed order",
        paper="Ramachandran, Zoph & Le 2017, arXiv:1710.05941, section 4",
        cases=(
            Case(),
            Case(beta=1.7),
            Case(beta=-0.5),
            Case(arrays=per_channel(0.5, 1.5)),
            Case(arrays=one_number(0.8)),
        ),
        layer=learned("betas", 1.0, "steepnesses"),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.swish(np.array([4.]), beta=0.0)
            array([2.])
            >>> y, backward = cnncore.swish.with_backward(np.array([[4., 2.]]), np.array([0., 0.]))
            >>> dx, dbetas = backward(np.ones((1, 2)))
            >>> dx, dbetas                                            # σ = ½, x²/4
            (array([[0.5, 0.5]]), array([4., 1.]))
        """,
    ),
    Op(
        "dsilu",
        Elementwise(reference.DSILU),
        group="activation",
        literature=("A24",),
        summary="Derivative of SiLU as an activation: a steeper sigmoid that overshoots.",
        formula="y = σ(x) (1 + x σ(−x))",
        gradient="∂y/∂x = σ(x) σ(−x) (2 + x(1 − 2σ(x)))",
        shape=ANY,
        edges=("−∞: 0, ∞: 1, both with slope 0; NaN: NaN",),
        accumulates="none; the reference implementation computes in long double, kernels are within 6 ulp of the "
        "larger term",
        paper="Elfwing, Uchibe & Doya 2017, arXiv:1702.03118, equation 10",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.dsilu(np.array([-np.inf, 0., np.inf]))
            array([0. , 0.5, 1. ])
        """,
    ),
    Op(
        "hard_swish",
        Elementwise(reference.HARD_SWISH),
        group="activation",
        literature=("A25",),
        summary="Hard Swish: x · hard_sigmoid(x).",
        formula="y = x · min(max(x + 3, 0), 6) / 6",
        gradient="∂y/∂x = 0 for x ≤ −3, (2x + 3)/6 between, 1 for x ≥ 3",
        shape=ANY,
        edges=("at the knees the outer slope is taken: 0 at −3, 1 at 3", "−∞: 0; ∞: ∞; NaN: NaN"),
        accumulates="none",
        smooth=False,
        paper="Howard et al. 2019, ICCV, arXiv:1905.02244, section 5.2",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.hard_swish(np.array([-3., -1.5, 1., 3.]))     # 1·4/6
            array([ 0.        , -0.375     ,  0.66666667,  3.        ])
        """,
    ),
    Op(
        "mish",
        Elementwise(reference.MISH),
        group="activation",
        literature=("A26",),
        summary="Mish: x · tanh(softplus(x)).",
        formula="y = x tanh(log(1 + eˣ))",
        gradient="∂y/∂x = t + x σ(x)(1 − t²),  t = tanh(log(1 + eˣ))",
        shape=ANY,
        edges=("−∞: 0 with slope 0; ∞: ∞ with slope 1; NaN: NaN",),
        accumulates=ROUNDED_TO_4,
        paper="Misra 2020, BMVC, arXiv:1908.08681",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.mish(np.array([0., np.log(2)])).round(4)     # log 2 · (3² − 1)/(3² + 1)
            array([0.    , 0.5545])
        """,
    ),
    Op(
        "gelu",
        Elementwise(
            lambda settings: reference.GELU_TANH if settings["approximate"] == "tanh" else reference.GELU,
        ),
        group="activation",
        literature=("A18", "A19"),
        summary="Gaussian error linear unit: x · Φ(x), with the standard normal distribution function Φ.",
        formula="""
            y = x Φ(x),  Φ(x) = ½(1 + erf(x / √2))
            approximate="tanh":  y = ½x(1 + tanh u),  u = √(2/π)(x + 0.044715 x³)
        """,
        gradient="""
            ∂y/∂x = Φ(x) + x φ(x),  φ(x) = e^{−x²/2} / √(2π)
            approximate="tanh":  ∂y/∂x = σ(2u) + 2x u′ σ(2u) σ(−2u),  u′ = √(2/π)(1 + 0.134145 x²)
        """,
        settings_list=(
            Setting(
                "approximate", "none", "'none' (exact), or 'tanh' for the tanh approximation", choice("none", "tanh")
            ),
        ),
        shape=ANY,
        edges=(
            "−∞: 0 with slope 0; ∞: ∞ with slope 1; NaN: NaN",
            "large negative x: Φ is computed without the cancellation of ½(1 + erf); with 'tanh' u is not rounded",
        ),
        accumulates=ROUNDED_TO_4,
        paper="Hendrycks & Gimpel 2016, arXiv:1606.08415",
        cases=(Case(), Case(approximate="tanh")),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.gelu(np.array([-1., 0., 1.])).round(4)     # Φ(1) = 0.8413
            array([-0.1587,  0.    ,  0.8413])
        """,
    ),
    Op(
        "exp",
        Elementwise(reference.EXP, of_y=False),
        group="activation",
        literature=("A42",),
        summary="Exponential function.",
        formula="y = eˣ",
        gradient="∂y/∂x = eˣ",
        shape=ANY,
        edges=("overflow: ∞ from x ≈ 88.7 (float32), 709.8 (float64)", "−∞: 0; NaN: NaN"),
        accumulates=ROUNDED,
        paper="Napier 1614; as a layer: Jia et al. 2014, arXiv:1408.5093",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.exp(np.array([-np.inf, 0.]))
            array([0., 1.])
        """,
    ),
    Op(
        "abs",
        Elementwise(reference.ABS),
        group="activation",
        literature=("A43",),
        summary="Absolute value.",
        formula="y = |x|",
        gradient="∂y/∂x = 1 for x > 0, −1 for x < 0, 0 at 0",
        shape=ANY,
        edges=("x = 0: the subgradient 0 is taken", "NaN: y = NaN, slope 0"),
        accumulates="none",
        smooth=False,
        paper="Jarrett, Kavukcuoglu, Ranzato & LeCun 2009, ICCV, doi:10.1109/ICCV.2009.5459469",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.abs(np.array([-2., 0., 3.]))
            array([2., 0., 3.])
        """,
    ),
    Op(
        "sign",
        Elementwise(reference.STEP, lambda place, settings: (-1.0, float(settings["at_zero"]))),
        group="activation",
        literature=("A02",),
        summary="Sign function: −1 for negative values, 1 for positive values.",
        formula="y = 1 for x > 0, −1 for x < 0, at_zero at 0",
        gradient="∂y/∂x = 0",
        settings_list=(Setting("at_zero", 0.0, "y at x = 0; perceptrons often use 1", number()),),
        shape=ANY,
        edges=(
            "x = 0 and −0: at_zero",
            "±∞: ±1; NaN: y = NaN, slope 0",
            "the gradient is 0 everywhere: train with sign_straight_through instead",
        ),
        accumulates="none",
        smooth=False,
        paper="Rosenblatt 1958, doi:10.1037/h0042519",
        cases=(Case(), Case(at_zero=1.0, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.sign(np.array([-0.5, 0., 3.]))
            array([-1.,  0.,  1.])
        """,
    ),
    Op(
        "heaviside",
        Elementwise(reference.STEP, lambda place, settings: (0.0, float(settings["at_zero"]))),
        group="activation",
        literature=("A02",),
        summary="Heaviside step function: 0 for negative values, 1 for positive values.",
        formula="y = 1 for x > 0, 0 for x < 0, at_zero at 0",
        gradient="∂y/∂x = 0",
        settings_list=(Setting("at_zero", 1.0, "y at x = 0", number()),),
        shape=ANY,
        edges=(
            "x = 0 and −0: at_zero; Caffe's Threshold has 0 there",
            "−∞: 0, ∞: 1; NaN: y = NaN, slope 0",
            "the gradient is 0 everywhere: nothing is trained through it",
        ),
        accumulates="none",
        smooth=False,
        paper="McCulloch & Pitts 1943, doi:10.1007/BF02478259",
        cases=(Case(), Case(at_zero=0.5, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.heaviside(np.array([-0.5, 0., 3.]))
            array([0., 1., 1.])
        """,
    ),
    Op(
        "sign_straight_through",
        Elementwise(
            reference.STRAIGHT_THROUGH,
            lambda place, settings: (float("inf") if settings["clip"] is None else settings["clip"],),
        ),
        group="activation",
        literature=("A03",),
        summary="Sign function with a straight-through gradient estimator, as used to train binary networks.",
        formula="y = 1 for x > 0, −1 for x < 0, 0 at 0",
        gradient="""
            taken for ∂y/∂x: 1 for |x| ≤ clip, else 0          (1 everywhere for clip = None)
            This is not the derivative of y, on purpose.
        """,
        settings_list=(
            Setting("clip", 1.0, "the gradient is 0 for |x| > clip; None: it always passes", clip_of_estimator),
        ),
        shape=ANY,
        edges=(
            "|x| = clip: the gradient passes",
            "±∞: ±1; NaN: y = NaN; no gradient passes unless clip is None and x is no NaN",
        ),
        accumulates="none",
        smooth=False,
        proof="the backward pass is an estimator and not the derivative, which is 0",
        paper="Bengio, Léonard & Courville 2013, arXiv:1308.3432; clipped: Courbariaux et al. 2016, arXiv:1602.02830",
        cases=(Case(), Case(clip=0.5, ranks=(2,)), Case(clip=None, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.sign_straight_through.with_backward(np.array([-3., -0.5, 1.]))
            >>> y
            array([-1., -1.,  1.])
            >>> backward(np.array([5., 5., 5.]))
            array([0., 5., 5.])
        """,
    ),
    Op(
        "scaled_tanh",
        Elementwise(reference.SCALED_TANH, ("amplitude", "steepness")),
        group="activation",
        literature=("A07",),
        summary="LeCun's scaled tanh: f(±1) = ±1, and unit variance is approximately kept.",
        formula="y = A tanh(Sx)          A = amplitude, S = steepness",
        gradient="∂y/∂x = A S sech²(Sx)",
        settings_list=(
            Setting("amplitude", 1.7159, "A, the value at which y saturates", number()),
            Setting("steepness", 2 / 3, "S, the factor of x", number(above=0)),
        ),
        shape=ANY,
        edges=("−∞: −A, ∞: A, both with slope 0; NaN: NaN",),
        accumulates=ROUNDED,
        paper="LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, doi:10.1007/3-540-49430-8_2, section 4.4",
        cases=(Case(), Case(amplitude=2.0, steepness=0.7, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.scaled_tanh(np.array([-1., 0., 1.])).round(4)
            array([-1.,  0.,  1.])
        """,
    ),
    Op(
        "quick_gelu",
        Elementwise(reference.SWISH, lambda place, settings: (1.702,)),
        group="activation",
        literature=("A20",),
        summary="Sigmoid approximation of GELU: Swish with β = 1.702.",
        formula="y = x σ(1.702 x)",
        gradient="∂y/∂x = σ + 1.702 x σ(1 − σ),  σ = σ(1.702 x)",
        shape=ANY,
        edges=("−∞: 0 with slope 0; ∞: ∞ with slope 1; NaN: NaN", "differs from gelu by at most 0.021, at x ≈ ±2.3"),
        accumulates=ROUNDED_TO_4,
        paper="Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.quick_gelu(np.array([-np.inf, 0., np.log(3) / 1.702])).round(4)     # ¾ · 0.6455
            array([0.    , 0.    , 0.4841])
        """,
    ),
    Op(
        "tanhshrink",
        Elementwise(reference.TANH_SHRINK),
        group="activation",
        literature=("A28",),
        summary="x − tanh x: shrinks small values towards 0.",
        formula="y = x − tanh x",
        gradient="∂y/∂x = tanh² x",
        shape=ANY,
        edges=(
            "near 0: the difference is not formed, x³/3 − 2x⁵/15 + … keeps its precision",
            "±∞: ±∞ with slope 1; NaN: NaN",
        ),
        accumulates=ROUNDED,
        paper="Collobert, Kavukcuoglu & Farabet 2011, Torch7, NeurIPS workshop",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.tanhshrink(np.array([0., np.log(3), 1e-6]))     # log 3 − 0.8, x³/3
            array([0.00000000e+00, 2.98612289e-01, 3.33333333e-19])
        """,
    ),
    Op(
        "softshrink",
        Elementwise(reference.SOFT_SHRINK, ("lambd",)),
        group="activation",
        literature=("A29",),
        summary="Soft shrinkage: moves every value towards 0 by λ; values within ±λ become 0.",
        formula="y = sgn(x) max(|x| − λ, 0)          λ = lambd",
        gradient="∂y/∂x = 1 for |x| > λ, else 0",
        settings_list=(Setting("lambd", 0.5, "λ, by which values are moved", number(minimum=0)),),
        shape=ANY,
        edges=("|x| = λ: y = 0 with slope 0", "±∞: ±∞ with slope 1; NaN: y = NaN, slope 0"),
        accumulates="none",
        smooth=False,
        paper="Donoho & Johnstone 1994, doi:10.1093/biomet/81.3.425; Daubechies, Defrise & De Mol 2004, doi:10.1002/cpa.20042",
        cases=(Case(), Case(lambd=1.25, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.softshrink(np.array([-2., -0.25, 0.5, 3.]))
            array([-1.5,  0. ,  0. ,  2.5])
        """,
    ),
    Op(
        "hardshrink",
        Elementwise(reference.HARD_SHRINK, ("lambd",)),
        group="activation",
        literature=("A30",),
        summary="Hard shrinkage: values within ±λ become 0, the others stay unchanged.",
        formula="y = x for |x| > λ, else 0          λ = lambd",
        gradient="∂y/∂x = 1 for |x| > λ, else 0",
        settings_list=(Setting("lambd", 0.5, "λ, the largest |x| that becomes 0", number(minimum=0)),),
        shape=ANY,
        edges=("|x| = λ: y = 0 with slope 0", "±∞: ±∞ with slope 1; NaN: y = NaN, slope 0"),
        accumulates="none",
        smooth=False,
        paper="Donoho & Johnstone 1994, doi:10.1093/biomet/81.3.425",
        cases=(Case(), Case(lambd=1.25, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.hardshrink(np.array([-2., -0.25, 0.5, 3.]))
            array([-2.,  0.,  0.,  3.])
        """,
    ),
    Op(
        "threshold",
        Elementwise(reference.THRESHOLD, ("threshold", "value")),
        group="activation",
        literature=("A31",),
        summary="Keeps values above a threshold and replaces all others by a constant.",
        formula="y = x for x > θ, else v          θ = threshold, v = value",
        gradient="∂y/∂x = 1 for x > θ, else 0",
        settings_list=(
            Setting("threshold", REQUIRED, "threshold θ", number()),
            Setting("value", REQUIRED, "v, which replaces values up to θ", number()),
        ),
        shape=ANY,
        edges=("x = θ: v with slope 0", "−∞: v, ∞: ∞; NaN: y = NaN, slope 0"),
        accumulates="none",
        smooth=False,
        paper="Collobert, Kavukcuoglu & Farabet 2011, Torch7, NeurIPS workshop",
        cases=(Case(threshold=0.25, value=-1.5), Case(threshold=-0.5, value=0.0, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.threshold(np.array([-1., 0.5, 2.]), threshold=0.5, value=9)
            array([9., 9., 2.])
        """,
    ),
    Op(
        "thresholded_relu",
        Elementwise(reference.THRESHOLD, lambda place, settings: (float(settings["alpha"]), 0.0)),
        group="activation",
        literature=("A31",),
        summary="ReLU with a threshold: keeps values above α, the others become 0.",
        formula="y = x for x > α, else 0          α = alpha",
        gradient="∂y/∂x = 1 for x > α, else 0",
        settings_list=(Setting("alpha", 1.0, "α, the largest x that becomes 0", number()),),
        shape=ANY,
        edges=("x = α: 0 with slope 0", "−∞: 0, ∞: ∞; NaN: y = NaN, slope 0"),
        accumulates="none",
        smooth=False,
        paper="Konda, Memisevic & Krueger 2015, ICLR, arXiv:1402.3337",
        cases=(Case(), Case(alpha=-0.5, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.thresholded_relu(np.array([-1., 1., 2.]))
            array([0., 0., 2.])
        """,
    ),
    Op(
        "squareplus",
        Elementwise(reference.SQUAREPLUS, ("b",)),
        group="activation",
        literature=("A40",),
        summary="Squareplus: a smooth approximation of ReLU without exponentials.",
        formula="y = ½(x + √(x² + b))",
        gradient="∂y/∂x = ½(1 + x / √(x² + b))",
        settings_list=(Setting("b", 4.0, "roundness of the bend; b → 0 gives ReLU", number(above=0, maximum=1e12)),),
        shape=ANY,
        edges=(
            "x < 0: ½b / (√(x² + b) − x), which does not cancel",
            "large |x|: x² does not overflow; −∞: 0 with slope 0, ∞: ∞ with slope 1; NaN: NaN",
        ),
        accumulates=ROUNDED,
        paper="Barron 2021, arXiv:2112.11687, equation 1",
        cases=(Case(), Case(b=0.3, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.squareplus(np.array([-1.5, 0., 1.5]))     # ½(±1.5 + 2.5)
            array([0.5, 1. , 2. ])
        """,
    ),
    Op(
        "sparse_plus",
        Elementwise(reference.SPARSE_PLUS),
        group="activation",
        literature=("A41",),
        summary="Sparseplus: a smooth approximation of ReLU, exactly 0 for x ≤ −1 and exactly x for x ≥ 1.",
        formula="y = 0 for x ≤ −1, ¼(x + 1)² between, x for x ≥ 1",
        gradient="∂y/∂x = 0 for x ≤ −1, ½(x + 1) between, 1 for x ≥ 1",
        shape=ANY,
        edges=("−∞: 0 with slope 0; ∞: ∞ with slope 1; NaN: NaN",),
        accumulates="none",
        paper="Blondel, Martins & Niculae 2020, JMLR, arXiv:1901.02324 (its sparse_sigmoid integrated)",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.sparse_plus(np.array([-1., 0., 0.5, 2.]))
            array([0.    , 0.25  , 0.5625, 2.    ])
        """,
    ),
    Op(
        "sparse_sigmoid",
        Elementwise(reference.HARD_SIGMOID, lambda place, settings: (0.5, -1.0, 1.0)),
        group="activation",
        literature=("A41",),
        summary="Derivative of sparse_plus: a piecewise linear sigmoid, the first component of sparsemax([x, 0]).",
        formula="y = min(max(½(x + 1), 0), 1)",
        gradient="∂y/∂x = ½ for −1 < x < 1, else 0",
        shape=ANY,
        edges=("at the knees ±1 the slope is 0", "−∞: 0, ∞: 1; NaN: y = NaN, slope 0"),
        accumulates="none",
        smooth=False,
        paper="Martins & Astudillo 2016, ICML, arXiv:1602.02068, section 2.3",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.sparse_sigmoid(np.array([-2., 0., 0.5, 1.]))
            array([0.  , 0.5 , 0.75, 1.  ])
        """,
    ),
    Op(
        "dish",
        Elementwise(reference.DISH),
        group="activation",
        literature=("A44",),
        summary="Dish: similar to SiLU, without exponentials.",
        formula="y = ½x(1 + x/√(1 + x²))",
        gradient="∂y/∂x = ½(1 + x/√(1 + x²) + x/(1 + x²)^{3/2})",
        shape=ANY,
        edges=(
            "x < 0: ½x / (r(r − x)) with r = √(1 + x²), which does not cancel",
            "large |x|: x² does not overflow; −∞: 0 with slope 0, ∞: ∞ with slope 1; NaN: NaN",
        ),
        accumulates=ROUNDED_TO_4,
        paper="the library thinc (Explosion, 2022), where it appeared; no paper is known",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.dish(np.array([-0.75, 0., 0.75]))     # ½x(1 ± 0.6)
            array([-0.15,  0.  ,  0.6 ])
        """,
    ),
    Op(
        "rrelu",
        RandomSlopes(),
        group="activation",
        literature=("A14",),
        summary="Randomized leaky ReLU: in training the negative slope is drawn at random for every value.",
        formula="""
            y = x for x > 0, else a·x          a uniform between lower and upper, one for each value
            outside training a = ½(lower + upper) for all
        """,
        gradient="∂y/∂x = 1 for x > 0, else the a that was drawn",
        arrays=(
            Array("x", "input"),
            Array(
                "state",
                "slopes of an earlier call, of x's shape, to be used again",
                optional=True,
                differentiable=False,
            ),
        ),
        settings_list=(
            Setting("lower", 1 / 8, "lower bound of the slopes", number()),
            Setting("upper", 1 / 3, "upper bound of the slopes", number()),
            Setting("training", False, "draw the slopes (True) or use their mean (False)", flag),
            Setting(
                "seed",
                0,
                "seed of the random slopes",
                lambda place, name, value: seed_number(place, name, value, 2**64 - 1),
            ),
            Setting("return_state", False, "also return the slopes", flag),
        ),
        shape=ANY,
        edges=(
            "x = 0: the left slope a is taken; −∞: −∞ for a > 0; NaN: y = NaN, slope a",
            "slopes depend on the seed and the position only; they are drawn for positive values too, where they are "
            "not used (PyTorch's noise is 1 there)",
        ),
        returns="array y; with return_state=True the pair (y, slopes)",
        accumulates="none",
        smooth=False,
        paper="Xu, Wang, Chen & Li 2015, arXiv:1505.00853, section 2.4",
        cases=(
            Case(training=True),
            Case(),
            Case(training=True, lower=0.3, upper=0.9, ranks=(2,)),
            Case(training=True, ranks=(2,), arrays=lambda rng, x: (rng.uniform(0.1, 0.4, x.shape),)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([-1., -2., 3.])
            >>> cnncore.rrelu(x, lower=0.25, upper=0.75)
            array([-0.5, -1. ,  3. ])
            >>> cnncore.rrelu(x, state=np.array([0.5, 0.25, 0.3]), training=True)
            array([-0.5, -0.5,  3. ])
        """,
    ),
    Op(
        "crelu",
        BothParts(),
        group="activation",
        literature=("A32",),
        summary="Concatenated ReLU: ReLU of x and of −x, concatenated along an axis; doubles the channels.",
        formula="y = [max(0, x), max(0, −x)], one after the other along the axis",
        gradient="dx = dy₁ for x > 0, −dy₂ for x < 0, 0 at 0          dy₁, dy₂: the halves of dy",
        settings_list=(Setting("axis", 1, "axis of the concatenation; 1: channels", alias="dim"),),
        shape="any shape of at most 5 dimensions → the same, with twice the extent along axis",
        edges=(
            "x = 0: 0 in both parts, no gradient",
            "NaN: in both parts, no gradient",
            "TensorFlow's default axis is the last",
        ),
        accumulates="none",
        smooth=False,
        paper="Shang, Sohn, Almeida & Lee 2016, ICML, arXiv:1603.05201, section 2",
        cases=(Case(), Case(axis=-1, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.crelu.with_backward(np.array([[-2., 3.]]))
            >>> y
            array([[0., 3., 2., 0.]])
            >>> backward(np.array([[5., 6., 7., 8.]]))
            array([[-7.,  6.]])
        """,
    ),
    Op(
        "glu",
        Gated(),
        group="activation",
        literature=("A34",),
        summary="Gated linear unit: one half of the input times the sigmoid of the other half.",
        formula="y = a σ(b),  [a, b] = x: its halves along the axis",
        gradient="""
            da = dy σ(b)
            db = dy a σ(b) σ(−b)
        """,
        settings_list=(Setting("axis", -1, "axis that is split into halves; 1: channels", alias="dim"),),
        shape="any shape of at most 5 dimensions → the same, with half the extent along axis",
        edges=("b = −∞: y = 0 for finite a; b = ∞: y = a", "NaN: where a or b is NaN"),
        accumulates=ROUNDED,
        paper="Dauphin, Fan, Auli & Grangier 2017, ICML, arXiv:1612.08083, section 2",
        cases=(Case(channels=4, axis=1), Case(spatial=4, ranks=(1,)), Case(spatial=6, axis=2, ranks=(2, 3))),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.glu.with_backward(np.array([[3., 8., 0., np.inf]]))
            >>> y
            array([[1.5, 8. ]])
            >>> backward(np.array([[1., 1.]]))
            array([[0.5 , 1.  , 0.75, 0.  ]])
        """,
    ),
    Op(
        "maxout",
        Maxout(),
        group="activation",
        literature=("A33",),
        summary="Maxout: the maximum over each group of adjacent channels.",
        formula="y[n,c] = max over m of x[n, ck + m],  0 ≤ m < k          k = pieces",
        gradient="dx[n, ck + m] = dy[n,c] for the first m with x[n, ck + m] = y[n,c], else 0",
        settings_list=(Setting("pieces", 2, "number of channels in a group", whole(1)),),
        shape="(N, C, *spatial) → (N, C / pieces, *spatial)",
        edges=("ties: the first channel takes the whole gradient", "NaN: propagates; the first NaN takes the gradient"),
        accumulates="none",
        smooth=False,
        paper="Goodfellow, Warde-Farley, Mirza, Courville & Bengio 2013, ICML, arXiv:1302.4389, section 2",
        cases=(Case(channels=4), Case(channels=6, pieces=3)),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.maxout.with_backward(np.array([[1., 5., 7., 7.]]))
            >>> y
            array([[5., 7.]])
            >>> backward(np.array([[2., 3.]]))
            array([[0., 2., 3., 0.]])
        """,
    ),
    Op(
        "softmax",
        Softmax(),
        group="activation",
        literature=("A35",),
        summary="Softmax: turns scores into probabilities that sum to 1 along an axis.",
        formula="y[i] = e^{x[i] − m} / Σ_j e^{x[j] − m},  m = max_j x[j]          i, j along the axis",
        gradient="dx[i] = y[i] (dy[i] − Σ_j dy[j] y[j])",
        settings_list=(Setting("axis", 1, "axis along which the probabilities sum to 1; 1: channels", alias="dim"),),
        shape=ANY,
        edges=(
            "−∞ has probability 0; with +∞ anywhere, or nothing but −∞, all values along the axis are NaN",
            "NaN: all values along the axis are NaN",
        ),
        accumulates="sums in float64, in the order of the axis",
        paper="Bridle 1990, doi:10.1007/978-3-642-76153-9_28",
        cases=(Case(), Case(axis=-1), Case(axis=0)),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.softmax(np.log(np.array([[1., 2., 5.]]))).round(4)
            array([[0.125, 0.25 , 0.625]])
            >>> cnncore.softmax(np.array([[1000., 1000., -np.inf]]))
            array([[0.5, 0.5, 0. ]])
        """,
    ),
    Op(
        "log_softmax",
        Softmax(logarithm=True),
        group="activation",
        literature=("A36",),
        summary="Logarithm of softmax, computed without underflow.",
        formula="y[i] = x[i] − m − log Σ_j e^{x[j] − m},  m = max_j x[j]          i, j along the axis",
        gradient="dx[i] = dy[i] − e^{y[i]} Σ_j dy[j]",
        settings_list=(Setting("axis", 1, "axis along which the probabilities sum to 1; 1: channels", alias="dim"),),
        shape=ANY,
        edges=(
            "−∞ stays −∞; with +∞ anywhere, or nothing but −∞, all values along the axis are NaN",
            "NaN: all values along the axis are NaN",
        ),
        accumulates="sums in float64, in the order of the axis",
        paper="Bridle 1990, doi:10.1007/978-3-642-76153-9_28",
        cases=(Case(), Case(axis=-1), Case(axis=0)),
        example="""
            >>> import numpy as np, cnncore
            >>> np.exp(cnncore.log_softmax(np.log(np.array([[1., 2., 5.]])))).round(4)
            array([[0.125, 0.25 , 0.625]])
        """,
    ),
    Op(
        "softmin",
        Softmax(negative=True),
        group="activation",
        literature=("A37",),
        summary="Softmax of −x: the smallest value has the largest probability.",
        formula="y[i] = e^{m − x[i]} / Σ_j e^{m − x[j]},  m = min_j x[j]          i, j along the axis",
        gradient="dx[i] = −y[i] (dy[i] − Σ_j dy[j] y[j])",
        settings_list=(Setting("axis", 1, "axis along which the probabilities sum to 1; 1: channels", alias="dim"),),
        shape=ANY,
        edges=(
            "∞ has probability 0; with −∞ anywhere, or nothing but ∞, all values along the axis are NaN",
            "NaN: all values along the axis are NaN",
        ),
        accumulates="sums in float64, in the order of the axis",
        paper="softmax of Bridle 1990, doi:10.1007/978-3-642-76153-9_28, turned around",
        cases=(Case(), Case(axis=-1, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.softmin(-np.log(np.array([[1., 2., 5.]]))).round(4)
            array([[0.125, 0.25 , 0.625]])
        """,
    ),
    Op(
        "sparsemax",
        Sparsemax(),
        group="activation",
        literature=("A38",),
        summary="Sparsemax: the Euclidean projection onto the probability simplex; like softmax, with exact zeros.",
        formula="y[i] = max(x[i] − τ, 0),  τ such that Σ_i y[i] = 1          i along the axis",
        gradient="dx[i] = dy[i] − mean of dy over the support S = {j: y[j] > 0} for i in S, else 0",
        settings_list=(Setting("axis", 1, "axis along which the probabilities sum to 1; 1: channels", alias="dim"),),
        shape=ANY,
        edges=(
            "at the boundary of the support: y = 0 with gradient 0",
            "large x: the maximum is subtracted first; −∞ has probability 0; with +∞ anywhere, or nothing but −∞, all "
            "values along the axis are NaN",
            "NaN: all values along the axis are NaN, and so are their gradients",
        ),
        accumulates="in float64",
        smooth=False,
        paper="Martins & Astudillo 2016, ICML, arXiv:1602.02068, algorithm 1 and equation 9",
        cases=(Case(channels=5), Case(axis=-1, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.sparsemax.with_backward(np.array([[1., 0.5, -1.]]))     # τ = ¼
            >>> y
            array([[0.75, 0.25, 0.  ]])
            >>> backward(np.array([[1., 3., 7.]]))
            array([[-1.,  1.,  0.]])
        """,
    ),
    Op(
        "hardmax",
        Hardmax(),
        group="activation",
        literature=("A39",),
        summary="Hardmax: 1 at the first maximum along an axis, 0 elsewhere.",
        formula="y[i] = 1 for the first i with x[i] = max_j x[j], else 0          i, j along the axis",
        gradient="dx = 0",
        settings_list=(Setting("axis", 1, "axis along which the maximum is taken; 1: channels", alias="dim"),),
        shape=ANY,
        edges=(
            "ties: the first maximum; ±∞ are ordered like other numbers",
            "NaN: all values along the axis are NaN",
            "the gradient is 0 everywhere; ONNX's default axis is the last",
        ),
        accumulates="none",
        smooth=False,
        paper="ONNX, operator Hardmax, 2017; the limit of softmax, Bridle 1990",
        cases=(Case(), Case(axis=-1, ranks=(2,))),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.hardmax(np.array([[1., 5., 5.]]))
            array([[0., 1., 0.]])
        """,
    ),
)
