"""Schemas of the losses."""

from ...checks import choice, number, whole
from ..operator import Op
from ..schema import Array, Case, Setting, X
from .implementation import BinaryCrossEntropy, MeanSquaredError, NegativeLogLikelihood, SoftmaxCrossEntropy

REDUCTION = Setting(
    "reduction",
    "mean",
    "reduction of the losses: 'mean', 'sum', or 'none' (one loss per target)",
    choice("mean", "sum", "none"),
)


def every_class(rng, x):
    return (rng.integers(0, x.shape[1], (x.shape[0], *x.shape[2:])),)


def class_numbers(rng, x):
    """Targets for a case, the first one ignored."""
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
    """Targets, a weight for each value, and a positive weight per channel."""
    return *yes_or_no(rng, x), rng.uniform(0.5, 2, x.shape), rng.uniform(0.5, 3, (x.shape[1], *[1] * (x.ndim - 2)))


def one_target(rng, x):
    return (rng.standard_normal(x.shape),)


SCHEMAS = (
    Op(
        "softmax_cross_entropy",
        SoftmaxCrossEntropy(),
        group="layers",
        literature=("L14",),
        summary="Cross-entropy between softmax(x) and the target classes.",
        formula="""
            ℓ = − Σ v_k q_k log p_k,   p = softmax(x) along the classes k, v = weight
            q = (1 − ε) onehot(target) + ε / K, or (1 − ε) target + ε / K for probabilities;   ε = label_smoothing
            L = Σ ℓ / Z;   mean: Z = Σ v_target over the targets not left out, or the number of cells for probabilities;
                           compat="tf": the number of targets not left out
        """,
        gradient="""
            dx_k = dL / Z · (p_k Σ v_j q_j − v_k q_k)
            dtarget_k = − dL / Z · (1 − ε) v_k log p_k for probabilities; class numbers have none
        """,
        arrays=(
            Array("x", "logits of the K classes"),
            Array("target", "class indices 0 … K − 1, or class probabilities", role="either"),
            Array("weight", "weight of each class; default 1", optional=True, differentiable=False),
        ),
        settings_list=(
            Setting("ignore_index", -100, "class index of targets that are ignored", whole(-(2**62), 2**62)),
            Setting(
                "label_smoothing",
                0.0,
                "ε, the part of the target that is distributed equally over all classes",
                number(0, 1),
            ),
            REDUCTION,
            Setting(
                "compat", None, "'tf': the mean counts targets, whatever their weights, as in Keras", choice(None, "tf")
            ),
        ),
        shape="(N, K, *spatial) and (N, *spatial) or (N, K, *spatial) → (), with reduction='none' (N, *spatial)",
        symbols={"K": "classes"},
        edges=(
            "all targets ignored, or N = 0: L = 0 and dx = 0 (PyTorch: NaN)",
            "x = −∞ for a class of target probability 0: contributes 0; x = −∞ for the target class: L = ∞",
            "all x of a pixel −∞, or one of them +∞ or NaN: NaN",
            "large logits: log p is computed by log-sum-exp, never from a rounded p",
            "class weights: PyTorch and ONNX divide by the sum of the targets' weights, Keras by the number of targets "
            "(compat='tf')",
        ),
        accumulates="in float64",
        returns="array L; with reduction='none' the losses ℓ, 0 for ignored targets",
        paper="Bridle 1990, NeurIPS; label smoothing: Szegedy et al. 2016, CVPR, arXiv:1512.00567, section 7",
        cases=(
            Case(channels=4, arrays=class_numbers, ranks=(0, 1, 2)),
            Case(channels=4, arrays=weighted_classes, label_smoothing=0.2),
            Case(channels=4, arrays=weighted_classes, compat="tf", ranks=(1,)),
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
        group="layers",
        literature=("L15",),
        summary="Negative log-likelihood of the target classes, given log-probabilities (multinomial logistic loss).",
        formula="""
            ℓ = − v_t x_t,   t = target, v = weight
            L = Σ ℓ / Z;   mean: Z = Σ v_t over the targets not left out; sum: Z = 1
        """,
        gradient="dx_t = − v_t dL / Z, 0 for the other classes",
        arrays=(
            Array("x", "log-probabilities of the K classes, as from log_softmax"),
            Array("target", "class indices 0 … K − 1", role="index", differentiable=False),
            Array("weight", "weight of each class; default 1", optional=True, differentiable=False),
        ),
        settings_list=(
            Setting("ignore_index", -100, "class index of targets that are ignored", whole(-(2**62), 2**62)),
            REDUCTION,
        ),
        shape="(N, K, *spatial) and (N, *spatial) → (), with reduction='none' (N, *spatial)",
        symbols={"K": "classes"},
        edges=(
            "all targets ignored, or N = 0: L = 0 and dx = 0 (PyTorch: NaN)",
            "x = −∞ for the target class: L = ∞, dx finite; a class of weight 0 contributes 0",
            "nll_loss of log_softmax equals softmax_cross_entropy, which is faster",
        ),
        accumulates="in float64",
        returns="array L; with reduction='none' the losses ℓ, 0 for ignored targets",
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
        group="layers",
        literature=("L16",),
        summary="Binary cross-entropy between sigmoid(x) and the targets, computed from logits.",
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
            Array("x", "logits, the scores before the sigmoid"),
            Array("target", "1 (positive), 0 (negative), or probabilities between", role="real"),
            Array("weight", "weight w of each value; broadcast to x", optional=True, differentiable=False),
            Array("pos_weight", "weight p of the positive class; broadcast to x", optional=True, differentiable=False),
        ),
        settings_list=(REDUCTION,),
        shape="two arrays of the same shape → (), with reduction='none' that shape",
        edges=(
            "large logits: log σ(x) is computed stably, never from a rounded σ(x)",
            "x = ±∞: a loss of 0 where the sign agrees with the target, else ∞",
            "no values: L = 0",
        ),
        accumulates="in float64",
        returns="array L; with reduction='none' the losses ℓ",
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
        group="layers",
        literature=("L17",),
        summary="Mean squared error between x and the target.",
        formula="L = Σ (x − target)² / Z,   Z: number of values; reduction='sum': 1; compat='caffe': 2 N",
        gradient="dx = 2 (x − target) dL / Z,   dtarget = −dx",
        arrays=(X, Array("target", "target values, of x's shape")),
        settings_list=(
            REDUCTION,
            Setting("compat", None, "'caffe': half of the sum over N, Caffe's EuclideanLoss", choice(None, "caffe")),
        ),
        shape="two arrays of the same shape → (), with reduction='none' that shape",
        edges=("no values: L = 0", "compat='caffe' is the mean alone: N is the number of images, not of values"),
        accumulates="in float64",
        returns="array L; with reduction='none' the squared differences",
        paper="Legendre 1805; Rumelhart, Hinton & Williams 1986, Nature, doi:10.1038/323533a0",
        cases=(
            Case(arrays=one_target, ranks=(0, 1, 2, 3)),
            Case(arrays=one_target, reduction="sum"),
            Case(arrays=one_target, reduction="none"),
            Case(arrays=one_target, compat="caffe", ranks=(2,)),
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
