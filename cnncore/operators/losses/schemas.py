"""Schemas of the losses."""

from ...checks import choice, number, whole
from ..operator import Op
from ..schema import Array, Case, Setting, X
from .implementation import BinaryCrossEntropy, MeanSquaredError, NegativeLogLikelihood, SoftmaxCrossEntropy

REDUCTION = Setting(
    "reduction", "mean", "what becomes of the losses: mean, sum, or none (one each)", choice("mean", "sum", "none")
)


def every_class(rng, x):
    return (rng.integers(0, x.shape[1], (x.shape[0], *x.shape[2:])),)


def class_numbers(rng, x):
    """Targets for a case, the first one left out."""
    (target,) = every_class(rng, x)
    target.flat[:1] = -100
    return (target,)


def weighted_classes(rng, x):
    return (*class_numbers(rng, x), rng.uniform(0.5, 2, x.shape[1]))


def probabilities(rng, x):
    p = rng.uniform(0.1, 1, x.shape)
    return (p / p.sum(axis=1, keepdims=True),)


def weighted_probabilities(rng, x):
    return (*probabilities(rng, x), rng.uniform(0.5, 2, x.shape[1]))


def yes_or_no(rng, x):
    return (rng.uniform(0, 1, x.shape),)


def weighted_yes_or_no(rng, x):
    """Targets, a weight for each value, and one per channel for yes."""
    return *yes_or_no(rng, x), rng.uniform(0.5, 2, x.shape), rng.uniform(0.5, 3, (x.shape[1], *[1] * (x.ndim - 2)))


def one_target(rng, x):
    return (rng.standard_normal(x.shape),)


SCHEMAS = (
    Op(
        "softmax_cross_entropy",
        SoftmaxCrossEntropy(),
        family="layers",
        literature=("L14",),
        summary="How far the classes' probabilities, as softmax makes them of x, are from the right class.",
        formula="""
            ℓ = − Σ v_k q_k log p_k,   p = softmax(x) along the classes k, v = weight
            q = (1 − ε) onehot(target) + ε / K, or (1 − ε) target + ε / K for probabilities;   ε = label_smoothing
            L = Σ ℓ / Z;   mean: Z = Σ v_target over the targets not left out, or the number of cells for probabilities
        """,
        gradient="""
            dx_k = dL / Z · (p_k Σ v_j q_j − v_k q_k)
            dtarget_k = − dL / Z · (1 − ε) v_k log p_k for probabilities; class numbers have none
        """,
        arrays=(
            Array("x", "scores of the K classes, before softmax"),
            Array("target", "class numbers 0 … K − 1, or probabilities of the classes", role="either"),
            Array("weight", "weight of each class; 1 where left out", optional=True, differentiable=False),
        ),
        settings_list=(
            Setting("ignore_index", -100, "class number of targets that are left out", whole(-(2**62), 2**62)),
            Setting("label_smoothing", 0.0, "ε, the share of the target spread over all classes", number(0, 1)),
            REDUCTION,
        ),
        shape="(N, K, *spatial) and (N, *spatial) or (N, K, *spatial) → (), with reduction='none' (N, *spatial)",
        symbols={"K": "classes"},
        edges=(
            "all targets left out, or N = 0: L = 0 and dx = 0 (PyTorch: NaN)",
            "x = −∞ for a class of probability 0: counts 0; x = −∞ for the right class: L = ∞",
            "all x of a cell −∞, or one +∞ or NaN: NaN",
            "scores of any size: log p is never taken of a rounded p",
        ),
        accumulates="in float64",
        returns="array L, with reduction='none' the losses ℓ (0 where left out)",
        paper="Bridle 1990, NeurIPS; label smoothing: Szegedy et al. 2016, CVPR, arXiv:1512.00567, section 7",
        cases=(
            Case(channels=4, arrays=class_numbers, ranks=(0, 1, 2)),
            Case(channels=4, arrays=weighted_classes, label_smoothing=0.2),
            Case(channels=4, arrays=every_class, ignore_index=1),
            Case(channels=3, arrays=weighted_classes, reduction="none", ranks=(0, 1, 2, 3), spatial=3),
            Case(channels=4, arrays=probabilities, reduction="sum", ranks=(0, 1, 2)),
            Case(channels=4, arrays=weighted_probabilities, label_smoothing=0.1, ranks=(0, 1)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x, target = np.array([[0., 0.], [0., 0.]]), np.array([0, 1])
            >>> L, backward = cnncore.softmax_cross_entropy.with_backward(x, target)
            >>> L                                                                   # log 2
            array(0.69314718)
            >>> backward(1.)
            array([[-0.25,  0.25],
                   [ 0.25, -0.25]])
        """,
    ),
    Op(
        "nll_loss",
        NegativeLogLikelihood(),
        family="layers",
        literature=("L15",),
        summary="How improbable the right classes are, from logarithms of probabilities (multinomial logistic loss).",
        formula="""
            ℓ = − v_t x_t,   t = target, v = weight
            L = Σ ℓ / Z;   mean: Z = Σ v_t over the targets not left out; sum: Z = 1
        """,
        gradient="dx_t = − v_t dL / Z, 0 for the other classes",
        arrays=(
            Array("x", "logarithms of the probabilities of the K classes, as log_softmax makes them"),
            Array("target", "class numbers 0 … K − 1", role="index", differentiable=False),
            Array("weight", "weight of each class; 1 where left out", optional=True, differentiable=False),
        ),
        settings_list=(
            Setting("ignore_index", -100, "class number of targets that are left out", whole(-(2**62), 2**62)),
            REDUCTION,
        ),
        shape="(N, K, *spatial) and (N, *spatial) → (), with reduction='none' (N, *spatial)",
        symbols={"K": "classes"},
        edges=(
            "all targets left out, or N = 0: L = 0 and dx = 0 (PyTorch: NaN)",
            "x = −∞ for the right class: L = ∞, dx finite; a class of weight 0 counts 0",
            "nll_loss of log_softmax is softmax_cross_entropy, which is faster",
        ),
        accumulates="in float64",
        returns="array L, with reduction='none' the losses ℓ (0 where left out)",
        linear=("x",),
        paper="Bishop 2006, Pattern Recognition and Machine Learning, equation 4.108; Jia et al. 2014, Caffe, arXiv:1408.5093",
        cases=(
            Case(channels=4, arrays=every_class, ranks=(0, 1, 2, 3), spatial=3),
            Case(channels=4, arrays=weighted_classes, reduction="sum", ranks=(1,)),
            Case(channels=4, arrays=every_class, ignore_index=1, ranks=(2,), spatial=3),
            Case(channels=3, arrays=class_numbers, reduction="none", ranks=(0, 2), spatial=3),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x, target = np.log(np.array([[0.5, 0.5], [0.1, 0.9]])), np.array([0, 1])
            >>> L, backward = cnncore.nll_loss.with_backward(x, target, reduction="sum")
            >>> L                                                                   # −log 0.45
            array(0.7985077)
            >>> backward(1.)
            array([[-1.,  0.],
                   [ 0., -1.]])
        """,
    ),
    Op(
        "binary_cross_entropy",
        BinaryCrossEntropy(),
        family="layers",
        literature=("L16",),
        summary="How far the probabilities that sigmoid makes of x are from yes (1) and no (0), value by value.",
        formula="""
            ℓ = − t log σ(x) − (1 − t) log(1 − σ(x)) = max(x, 0) − x t + log(1 + e^−|x|),   t = target
            with weights w and p: ℓ = − w (p t log σ(x) + (1 − t) log(1 − σ(x)))
            L = Σ ℓ / Z,   Z: number of values; reduction='sum': 1
        """,
        gradient="""
            dx = (σ(x) − t) dL / Z,   dt = − x dL / Z
            with weights: dx = w ((1 − t + p t) σ(x) − p t) dL / Z,   dt = − w (p log σ(x) − log(1 − σ(x))) dL / Z
        """,
        arrays=(
            Array("x", "scores before sigmoid (logits)"),
            Array("target", "1 for yes, 0 for no, or probabilities between", role="real"),
            Array("weight", "w, of each value; it broadcasts to x", optional=True, differentiable=False),
            Array("pos_weight", "p, of yes against no; it broadcasts to x", optional=True, differentiable=False),
        ),
        settings_list=(REDUCTION,),
        shape="two arrays of the same shape → (), with reduction='none' that shape",
        edges=(
            "scores of any size: log σ(x) is never taken of a rounded σ(x)",
            "x = ±∞ on the side of the target: 0; on the other side: ∞",
            "no values: L = 0",
        ),
        accumulates="in float64",
        returns="array L, with reduction='none' the losses ℓ",
        paper="Cox 1958, Journal of the Royal Statistical Society B 20(2); Bishop 2006, equation 4.90",
        cases=(
            Case(arrays=yes_or_no, ranks=(0, 1, 2, 3)),
            Case(arrays=yes_or_no, reduction="sum", ranks=(1,)),
            Case(arrays=yes_or_no, reduction="none", ranks=(1, 2)),
            Case(arrays=weighted_yes_or_no, ranks=(2,)),
            Case(arrays=weighted_yes_or_no, reduction="none", ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x, target = np.array([0., 0., 100., -1000.]), np.array([1., 0., 1., 0.])
            >>> L, backward = cnncore.binary_cross_entropy.with_backward(x, target, reduction="sum")
            >>> L                                                                   # 2 log 2
            array(1.38629436)
            >>> backward(1.)[0]
            array([-0.5,  0.5,  0. ,  0. ])
        """,
    ),
    Op(
        "mean_squared_error",
        MeanSquaredError(),
        family="layers",
        literature=("L17",),
        summary="The mean of the squared differences.",
        formula="L = Σ (x − target)² / Z,   Z: number of values; reduction='sum': 1",
        gradient="dx = 2 (x − target) dL / Z,   dtarget = −dx",
        arrays=(X, Array("target", "what x should be")),
        settings_list=(REDUCTION,),
        shape="two arrays of the same shape → (), with reduction='none' that shape",
        edges=("no values: L = 0", "Caffe's Euclidean loss is half the sum over N"),
        accumulates="in float64",
        returns="array L, with reduction='none' the squared differences",
        paper="Legendre 1805; Rumelhart, Hinton & Williams 1986, Nature, doi:10.1038/323533a0",
        cases=(
            Case(arrays=one_target, ranks=(0, 1, 2, 3)),
            Case(arrays=one_target, reduction="sum"),
            Case(arrays=one_target, reduction="none"),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> L, backward = cnncore.mean_squared_error.with_backward(np.array([1., 5.]), np.array([0., 3.]))
            >>> L
            array(2.5)
            >>> backward(1.)
            (array([1., 2.]), array([-1., -2.]))
        """,
    ),
)
