"""Rows of the other layers: normalisation, dropout, joins, shape, losses."""

from .. import geometry
from ..errors import SettingError
from ..families.arrays import extent_list
from ..families.dropping import Dropping, alpha_dropout_numbers, dropout_numbers
from ..families.joining import Concatenation, Sum
from ..families.losses import BinaryCrossEntropy, MeanSquaredError, NegativeLogLikelihood, SoftmaxCrossEntropy
from ..families.normalization import BatchNorm, GroupNorm, LayerNorm, LocalResponseNorm, PlaneResponseNorm, Scale
from ..families.reshaping import ChannelShuffle, Flatten, Pad, Part, PixelShuffle, Slice
from ..geometry import has_length
from ..operator import REQUIRED, Array, Case, Layer, Op, Parameter, Setting, choice, flag, number, whole

__all__ = ["ROWS"]

ANY_SHAPE = "any shape of 1 to 5 dimensions → the same"
SAME_SHAPE = "(N, C, \\*spatial) → the same; 0 to 3 spatial axes"

X = Array("x", "input")
W = Array("w", "scale, one number per channel; 1 where left out", optional=True)
B = Array("b", "shift, one number per channel; 0 where left out", optional=True)
EPS = Setting("eps", 1e-5, "ε, added to the variance", number(minimum=0))


def per_channel(shapes, settings):
    """Shape of an array with one number per channel of the first input."""
    return (shapes[0][1],)


AFFINE = Setting("affine", True, "whether w and b exist", flag)
SCALE_AND_SHIFT = (
    Parameter("w", per_channel, 1.0, when="affine", decay=False),
    Parameter("b", per_channel, 0.0, when="affine", decay=False),
)


def scale_and_shift(rng, x):
    """w and b for a case."""
    return rng.uniform(0.5, 2, x.shape[1]), rng.standard_normal(x.shape[1])


def of_last_axes(count):
    """w and b of the shape of the last axes, for a case."""

    def arrays(rng, x):
        return rng.uniform(0.5, 2, x.shape[-count:]), rng.standard_normal(x.shape[-count:])

    return arrays


def per_channel_or_value(shapes, settings):
    """The shape of w and b of a layer normalisation."""
    last = settings["normalized_shape"]
    return per_channel(shapes, settings) if last is None else last


def with_running_statistics(rng, x):
    """w, b, running_mean and running_var for a case."""
    return (*scale_and_shift(rng, x), rng.standard_normal(x.shape[1]), rng.uniform(0.5, 2, x.shape[1]))


# ── Normalisation ──────────────────────────────────────────────────────────────────────────────────────────────────────

FAR_FROM_ZERO = "values far from 0: the variance is taken around the mean, nothing cancels"

NORMALIZATION = (
    Op(
        "batch_norm",
        BatchNorm(),
        family="layers",
        catalogue=("L05",),
        summary="Each channel with mean 0 and variance 1 over the batch, then scaled and shifted.",
        formula="""
            y = w x̂ + b,   x̂ = (x − μ) / √(σ² + ε)
            training: μ = Σ x / m, σ² = Σ (x − μ)² / m over the m = N·H·W values of a channel; otherwise μ and σ² are
            running_mean and running_var
        """,
        gradient="""
            training: dx = w / √(σ² + ε) · (dy − Σ dy / m − x̂ Σ dy x̂ / m);   otherwise dx = w dy / √(σ² + ε)
            dw = Σ dy x̂,   db = Σ dy
        """,
        arrays=(
            X,
            W,
            B,
            Array("running_mean", "mean to use outside training; 0 where left out", True, differentiable=False),
            Array("running_var", "variance to use outside training; 1 where left out", True, differentiable=False),
        ),
        settings_list=(
            Setting("training", True, "whether the statistics are those of x; otherwise the running ones", flag),
            Setting("momentum", 0.1, "weight of the new statistic in the running one", number(0, 1)),
            EPS,
            Setting("return_statistics", False, "also return the new running_mean and running_var", flag),
        ),
        shape=SAME_SHAPE,
        edges=(
            "running statistics: new = (1 − momentum) old + momentum · statistic of x; the variance put in is the unbiased "
            "Σ (x − μ)² / (m − 1); the arrays given are never changed",
            "m = 1: the variance is 0 and y = b; running_var stays as it is",
            "N = 0: running statistics stay as they are",
            FAR_FROM_ZERO,
            "ε = 0 and a constant channel: NaN",
        ),
        accumulates="means, variances, dw and db in float64",
        returns="array y; with return_statistics=True the triple (y, running_mean, running_var)",
        paper="Ioffe & Szegedy 2015, ICML, arXiv:1502.03167, algorithm 1 and section 3",
        cases=(
            Case(batch=5, arrays=scale_and_shift, ranks=(0, 1, 2, 3)),
            Case(arrays=with_running_statistics, training=False),
            Case(arrays=with_running_statistics, return_statistics=True, momentum=0.3),
            Case(eps=0.5),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x, w, b = np.array([[1.], [3.]]), np.array([10.]), np.array([5.])
            >>> y, backward = cnncore.batch_norm.with_backward(x, w, b, eps=0)
            >>> y
            array([[-5.],
                   [15.]])
            >>> dx, dw, db = backward(np.array([[1.], [0.]]))
            >>> dw, db
            (array([-1.]), array([1.]))
        """,
        layer=Layer(
            parameters=(
                *SCALE_AND_SHIFT,
                Parameter("running_mean", per_channel, 0.0, update=0, decay=False),
                Parameter("running_var", per_channel, 1.0, update=1, decay=False),
            ),
            settings=(AFFINE,),
            training={"return_statistics": True},
        ),
    ),
    Op(
        "group_norm",
        GroupNorm("groups"),
        family="layers",
        catalogue=("L24",),
        summary="Each group of channels of an image with mean 0 and variance 1, then scaled and shifted.",
        formula="""
            y = w x̂ + b,   x̂ = (x − μ) / √(σ² + ε)
            μ = Σ x / m, σ² = Σ (x − μ)² / m over the m values of a group of C / groups channels of one image
        """,
        gradient="""
            dx = (w dy − Σ w dy / m − x̂ Σ w dy x̂ / m) / √(σ² + ε)
            dw = Σ dy x̂,   db = Σ dy over all images
        """,
        arrays=(X, W, B),
        settings_list=(Setting("groups", REQUIRED, "number of groups, a divisor of C", whole(1)), EPS),
        shape=SAME_SHAPE,
        edges=(FAR_FROM_ZERO, "groups = 1: all values of an image; groups = C: instance_norm"),
        accumulates="means, variances, dw and db in float64",
        paper="Wu & He 2018, ECCV, arXiv:1803.08494, equations 1, 2, 6 and 7",
        cases=(
            Case(arrays=scale_and_shift, channels=6, groups=2, ranks=(0, 1, 2, 3)),
            Case(groups=1, eps=0.1),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.group_norm(np.array([[1., 3., 10., 10.]]), groups=2, eps=1e-30)
            array([[-1.,  1.,  0.,  0.]])
        """,
        layer=Layer(parameters=SCALE_AND_SHIFT, settings=(AFFINE,)),
    ),
    Op(
        "instance_norm",
        GroupNorm(None),
        family="layers",
        catalogue=("L24",),
        summary="Each channel of each image with mean 0 and variance 1, then scaled and shifted.",
        formula="""
            y = w x̂ + b,   x̂ = (x − μ) / √(σ² + ε)
            μ = Σ x / m, σ² = Σ (x − μ)² / m over the m = H·W values of a channel of one image
        """,
        gradient="""
            dx = w / √(σ² + ε) · (dy − Σ dy / m − x̂ Σ dy x̂ / m)
            dw = Σ dy x̂,   db = Σ dy over all images
        """,
        arrays=(X, W, B),
        settings_list=(EPS,),
        shape=SAME_SHAPE,
        edges=(FAR_FROM_ZERO, "m = 1: y = b"),
        accumulates="means, variances, dw and db in float64",
        paper="Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022, equation 4",
        cases=(Case(arrays=scale_and_shift), Case(eps=0.1)),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.instance_norm(np.array([[[1., 3.], [0., 4.]]]), eps=0)
            array([[[-1.,  1.],
                    [-1.,  1.]]])
        """,
        layer=Layer(parameters=SCALE_AND_SHIFT, settings=(AFFINE,)),
    ),
    Op(
        "layer_norm",
        LayerNorm(1),
        family="layers",
        catalogue=("L23",),
        summary="All values of an image together with mean 0 and variance 1, then scaled and shifted by channel.",
        formula="""
            y = w x̂ + b,   x̂ = (x − μ) / √(σ² + ε)
            μ = Σ x / m, σ² = Σ (x − μ)² / m over the m = C·H·W values of one image
            normalized_shape: over the values of the last axes, w and b of one number for each of them
        """,
        gradient="""
            dx = (w dy − Σ w dy / m − x̂ Σ w dy x̂ / m) / √(σ² + ε)
            dw = Σ dy x̂,   db = Σ dy over all images
        """,
        arrays=(X, W, B),
        settings_list=(
            EPS,
            Setting(
                "normalized_shape",
                None,
                "extents of the last axes, whose values are normalised together; w and b then have this shape",
                extent_list(1, True),
            ),
        ),
        shape="(N, C, \\*spatial) → the same; with normalized_shape (…, \\*normalized_shape), at most 8 axes",
        edges=(
            FAR_FROM_ZERO,
            "without normalized_shape w and b hold one number per channel, so that they fit any image size",
            "normalized_shape=(C, H, W) of an image is PyTorch's LayerNorm over all of it, w and b per value",
        ),
        accumulates="means, variances, dw and db in float64",
        paper="Ba, Kiros & Hinton 2016, arXiv:1607.06450, equation 3",
        cases=(
            Case(arrays=scale_and_shift, ranks=(0, 1, 2, 3)),
            Case(eps=0.1),
            Case(arrays=of_last_axes(1), normalized_shape=(7,), ranks=(2,)),
            Case(arrays=of_last_axes(2), normalized_shape=(6, 7), ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.layer_norm(np.array([[1., 1., 3., 3.]]), eps=0)
            array([[-1., -1.,  1.,  1.]])
            >>> cnncore.layer_norm(np.array([[[1., 3.], [2., 2.]]]), eps=0.01, normalized_shape=2).round(3)
            array([[[-0.995,  0.995],
                    [ 0.   ,  0.   ]]])
        """,
        layer=Layer(
            parameters=(
                Parameter("w", per_channel_or_value, 1.0, when="affine", decay=False),
                Parameter("b", per_channel_or_value, 0.0, when="affine", decay=False),
            ),
            settings=(AFFINE,),
        ),
    ),
    Op(
        "scale",
        Scale(),
        family="layers",
        catalogue=("L02",),
        summary="Each channel scaled and shifted by numbers of its own.",
        formula="y_c = w_c x_c + b_c",
        gradient="dx_c = w_c dy_c,   dw_c = Σ dy_c x_c,   db_c = Σ dy_c",
        arrays=(X, W, B),
        shape=SAME_SHAPE,
        edges=("w left out: only shifted; b left out: only scaled; neither: y = x",),
        accumulates="dw and db in float64",
        linear=("x",),
        paper="Jia et al. 2014, Caffe, arXiv:1408.5093 (layers Scale and Bias)",
        cases=(
            Case(arrays=scale_and_shift, ranks=(0, 1, 2, 3)),
            Case(arrays=lambda rng, x: (rng.standard_normal(x.shape[1]), None), ranks=(2,)),
            Case(ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.scale(np.array([[1., 2.], [3., 4.]]), np.array([10., 1.]), np.array([0., 0.5]))
            array([[10. ,  2.5],
                   [30. ,  4.5]])
        """,
        layer=Layer(parameters=SCALE_AND_SHIFT, settings=(AFFINE,)),
    ),
    Op(
        "local_response_norm",
        LocalResponseNorm(),
        family="layers",
        catalogue=("L03",),
        summary="Divides each value by the activity of the channels around it.",
        formula="""
            y_c = x_c s_c^−β,   s_c = k + (α/n) Σ x_j²   over the channels j = c − ⌊n/2⌋ … c + ⌊(n − 1)/2⌋ that exist, n = size
        """,
        gradient="""
            dx_c = dy_c s_c^−β − 2 (α/n) β x_c Σ dy_j y_j / s_j   over the channels j = c − ⌊(n − 1)/2⌋ … c + ⌊n/2⌋ that exist
        """,
        settings_list=(
            Setting("size", 5, "n, channels that are counted", whole(1)),
            Setting("alpha", 1e-4, "α; what is counted is α/n, as in Caffe and PyTorch", number(minimum=0)),
            Setting("beta", 0.75, "β, the exponent", number()),
            Setting("k", 1.0, "what is added to the sum; the paper has 2", number(above=0)),
        ),
        shape=SAME_SHAPE,
        edges=(
            "channels outside the image: count 0, and still count in n",
            "even n: one channel more before c than after it, as in PyTorch; in the gradient one more after it",
            "the paper and TensorFlow count α, not α/n: give n times their α",
            "values whose squares leave the dtype's range: the result is still right",
        ),
        accumulates="sums of squares of float32 in float32, in float64 where they would overflow",
        paper="Krizhevsky, Sutskever & Hinton 2012, NeurIPS, section 3.3; Jia et al. 2014, arXiv:1408.5093 (α/n)",
        cases=(
            Case(ranks=(0, 1, 2, 3)),
            Case(channels=7, size=4, alpha=0.5, beta=0.6, k=2.0),
            Case(channels=6, size=3, alpha=1.0, beta=1.0, k=0.5),
            Case(channels=2, size=9, alpha=2.0, beta=0.5),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[1., 2., 0.]])
            >>> cnncore.local_response_norm(x, size=3, alpha=3., beta=1., k=1.)
            array([[0.16666667, 0.33333333, 0.        ]])
        """,
    ),
    Op(
        "response_norm_within_channel",
        PlaneResponseNorm(),
        family="layers",
        catalogue=("L04",),
        summary="Divides each value by the activity around it in its own channel.",
        formula="""
            y_i = x_i s_i^−β,   s_i = k + (α / n^rank) Σ x_j²   over the n × … × n cells j around i that exist, n = size
        """,
        gradient="""
            dx_i = dy_i s_i^−β − 2 (α / n^rank) β x_i Σ dy_j y_j / s_j   over the cells j whose sum holds i
        """,
        settings_list=(
            Setting("size", 5, "n, cells that are counted along each axis", whole(1)),
            Setting("alpha", 1e-4, "α; what is counted is α over the number of cells, as in Caffe", number(minimum=0)),
            Setting("beta", 0.75, "β, the exponent", number()),
            Setting("k", 1.0, "what is added to the sum", number(above=0)),
        ),
        shape="(N, C, \\*spatial) → the same; one to three spatial axes",
        edges=(
            "cells outside the image: count 0, and still count in n",
            "even n: one cell more before than after along each axis; in the gradient one more after (Caffe refuses even n)",
            "values whose squares leave the dtype's range: the result is still right",
        ),
        accumulates="in float64",
        paper="Krizhevsky, Sutskever & Hinton 2012, NeurIPS, section 3.3; within channels: Jia et al. 2014, arXiv:1408.5093",
        cases=(
            Case(),
            Case(size=3, alpha=2.0, beta=0.5, k=0.5, spatial=4),
            Case(size=4, alpha=3.0, beta=0.6, k=2.0, spatial=4, ranks=(1, 2)),
            Case(size=9, alpha=1.0, beta=1.0, spatial=3, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.response_norm_within_channel(np.array([[[1., 2., 0.]]]), size=3, alpha=3., beta=1., k=1.)
            array([[[0.16666667, 0.33333333, 0.        ]]])
        """,
    ),
)


# ── Dropout ────────────────────────────────────────────────────────────────────────────────────────────────────────────

DROP_SETTINGS = (
    Setting("p", 0.5, "probability that a value is dropped", number(0, 1)),
    Setting("training", True, "whether anything is dropped; otherwise y = x", flag),
    Setting("seed", 0, "which mask is drawn; the same seed draws the same mask", whole(0, 2**64 - 1)),
    Setting("return_state", False, "also return the mask, True where values are kept", flag),
)
STATE = Array("state", "mask of an earlier call, to be used again; drawn from seed where left out", True, False, "mask")
STATE_EDGE = "the mask depends on seed and position alone: neither on threads nor on the dtype"
DROPPED_EDGE = "dropped values do not matter: a dropped NaN leaves no trace"
WITH_STATE = "array y; with return_state=True the pair (y, mask), booleans"


def drop_state(rng, x):
    return (rng.random(x.shape) > 0.4,)


def channel_state(rng, x):
    return (rng.random(x.shape[:2]) > 0.4,)


DROPOUT = (
    Op(
        "dropout",
        Dropping(dropout_numbers),
        family="layers",
        catalogue=("L06",),
        summary="Drops values at random and scales the others up, so that the mean stays.",
        formula="y = m x / (1 − p),   m = 0 with probability p, else 1;   outside training y = x",
        gradient="dx = m dy / (1 − p)",
        arrays=(X, STATE),
        settings_list=DROP_SETTINGS,
        shape=ANY_SHAPE,
        edges=("p = 1: zeros", STATE_EDGE, DROPPED_EDGE),
        returns=WITH_STATE,
        linear=("x",),
        paper="Hinton, Srivastava, Krizhevsky, Sutskever & Salakhutdinov 2012, arXiv:1207.0580; Srivastava et al. 2014, JMLR",
        cases=(
            Case(ranks=(0, 1, 2, 3)),
            Case(p=0.3, return_state=True),
            Case(arrays=drop_state, p=0.4),
            Case(training=False),
            Case(p=1.0),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x, kept = np.array([[1., 2., 3.]]), np.array([[True, False, True]])
            >>> cnncore.dropout(x, state=kept, p=0.5)
            array([[2., 0., 6.]])
        """,
    ),
    Op(
        "spatial_dropout",
        Dropping(dropout_numbers, per_channel=True),
        family="layers",
        catalogue=("L07",),
        summary="Drops whole channels at random and scales the others up, so that the mean stays.",
        formula="""
            y = m x / (1 − p),   m = 0 with probability p, else 1, one for each channel of each image;   outside training y = x
        """,
        gradient="dx = m dy / (1 − p)",
        arrays=(X, STATE),
        settings_list=DROP_SETTINGS,
        shape="(N, C, \\*spatial) → the same; the mask is (N, C)",
        edges=("p = 1: zeros", STATE_EDGE, DROPPED_EDGE),
        returns=WITH_STATE,
        linear=("x",),
        paper="Tompson, Goroshin, Jain, LeCun & Bregler 2015, CVPR, arXiv:1411.4280, section 3.2",
        cases=(Case(ranks=(0, 1, 2, 3)), Case(arrays=channel_state, p=0.4), Case(training=False)),
        example="""
            >>> import numpy as np, cnncore
            >>> x, kept = np.array([[[1., 2.], [3., 4.]]]), np.array([[True, False]])
            >>> cnncore.spatial_dropout(x, state=kept, p=0.5)
            array([[[2., 4.],
                    [0., 0.]]])
        """,
    ),
    Op(
        "alpha_dropout",
        Dropping(alpha_dropout_numbers),
        family="layers",
        catalogue=("L08",),
        summary="Drops values to what selu makes of −∞, and keeps mean 0 and variance 1.",
        formula="""
            y = a (m x + α′ (1 − m)) + b,   m = 0 with probability p, else 1;   outside training y = x
            α′ = −λα = −1.7580993408473766,   q = 1 − p,   a = (q + α′² q p)^−½,   b = −a p α′
        """,
        gradient="dx = a m dy",
        arrays=(X, STATE),
        settings_list=DROP_SETTINGS,
        shape=ANY_SHAPE,
        edges=("p = 1: zeros", STATE_EDGE, DROPPED_EDGE),
        returns=WITH_STATE,
        paper="Klambauer, Unterthiner, Mayr & Hochreiter 2017, NeurIPS, arXiv:1706.02515, section 3",
        cases=(Case(ranks=(0, 1, 2, 3)), Case(arrays=drop_state, p=0.2), Case(training=False), Case(p=1.0)),
        example="""
            >>> import numpy as np, cnncore
            >>> x, kept = np.array([1., -1.]), np.array([True, True])
            >>> cnncore.alpha_dropout(x, state=kept, p=0.)
            array([ 1., -1.])
        """,
    ),
    Op(
        "feature_alpha_dropout",
        Dropping(alpha_dropout_numbers, per_channel=True),
        family="layers",
        catalogue=("L09",),
        summary="Drops whole channels to what selu makes of −∞, and keeps mean 0 and variance 1.",
        formula="""
            y = a (m x + α′ (1 − m)) + b,   m = 0 with probability p, else 1, one for each channel of each image
            α′, a and b as of alpha_dropout;   outside training y = x
        """,
        gradient="dx = a m dy",
        arrays=(X, STATE),
        settings_list=DROP_SETTINGS,
        shape="(N, C, \\*spatial) → the same; the mask is (N, C)",
        edges=("p = 1: zeros", STATE_EDGE, DROPPED_EDGE),
        returns=WITH_STATE,
        paper="Klambauer, Unterthiner, Mayr & Hochreiter 2017, NeurIPS, arXiv:1706.02515, section 3; by channel as "
        "Tompson, Goroshin, Jain, LeCun & Bregler 2015, CVPR, arXiv:1411.4280",
        cases=(
            Case(ranks=(0, 1, 2, 3)),
            Case(arrays=channel_state, p=0.2),
            Case(training=False),
            Case(p=1.0, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x, kept = np.array([[[1., 2.], [3., 4.]]]), np.array([[True, True]])
            >>> cnncore.feature_alpha_dropout(x, state=kept, p=0.)
            array([[[1., 2.],
                    [3., 4.]]])
        """,
    ),
)


# ── Joins ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def wider_and_narrower(rng, x):
    """Two more arrays, with other numbers of channels."""
    N, C, *spatial = x.shape
    return rng.standard_normal((N, C + 2, *spatial)), rng.standard_normal((N, 1, *spatial))


def taller(rng, x):
    """One more array, longer along axis 2."""
    N, C, H, *spatial = x.shape
    return (rng.standard_normal((N, C, H + 3, *spatial)),)


def two_more(rng, x):
    return rng.standard_normal(x.shape), rng.standard_normal(x.shape)


def coefficients(place, name, value):
    """A check that coefficients are numbers, or None."""
    if value is None:
        return None
    if not has_length(value) or isinstance(value, str):
        raise SettingError(f"{place}: {name} must be a number for each array, got {value!r}")
    return tuple(number()(place, f"{name}[{i}]", c) for i, c in enumerate(value))


JOINS = (
    Op(
        "concat",
        Concatenation(),
        family="layers",
        catalogue=("L10",),
        summary="Arrays side by side, as the branches of an Inception module.",
        formula="y = x₁, then x₂, … along axis",
        gradient="dx_j = the part of dy where x_j lies",
        arrays=(Array("x", "arrays that agree in all extents but that of axis", several=True),),
        settings_list=(Setting("axis", 1, "axis along which they are joined; 1: channels"),),
        shape="(N, C₁, \\*spatial), (N, C₂, \\*spatial), … → (N, C₁ + C₂ + …, \\*spatial); 1 to 5 dimensions",
        linear=("x",),
        paper="Szegedy et al. 2015, CVPR, arXiv:1409.4842, figure 2",
        cases=(
            Case(arrays=wider_and_narrower, ranks=(0, 1, 2, 3)),
            Case(arrays=taller, axis=2),
            Case(arrays=two_more, axis=-1),
            Case(),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.concat.with_backward(np.array([[1., 2.]]), np.array([[3.]]))
            >>> y
            array([[1., 2., 3.]])
            >>> backward(np.array([[10., 20., 30.]]))
            (array([[10., 20.]]), array([[30.]]))
        """,
    ),
    Op(
        "add",
        Sum(),
        family="layers",
        catalogue=("L13",),
        summary="Arrays added, value by value, as a residual connection does.",
        formula="y = Σ c_j x_j",
        gradient="dx_j = c_j dy",
        arrays=(Array("x", "arrays of one shape", several=True),),
        settings_list=(Setting("coefficients", None, "c, one number per array; None: all 1", coefficients),),
        shape=ANY_SHAPE,
        edges=("shapes are never stretched to fit (no broadcasting)",),
        accumulates="in x's dtype, in the order of the arrays",
        linear=("x",),
        paper="He, Zhang, Ren & Sun 2016, CVPR, arXiv:1512.03385, equation 1",
        cases=(
            Case(arrays=two_more, ranks=(0, 1, 2, 3)),
            Case(arrays=two_more, coefficients=(1.0, -2.0, 0.5)),
            Case(),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.add(np.array([1., 2.]), np.array([10., 20.]), coefficients=(1, 0.5))
            array([ 6., 12.])
        """,
    ),
)


# ── Shape ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

PADDED = "(N, C, \\*spatial) → (N, C, \\*output), output = H + lo + hi per axis"


def parts(place, name, value):
    """A check that parts are a number of equal ones, or the extents of each."""
    if not has_length(value) or isinstance(value, str):
        return geometry.integer(place, name, value, 1)
    return tuple(geometry.integer(place, f"{name}[{i}]", extent, 1) for i, extent in enumerate(value))


def any_integer_or_none(place, name, value):
    return None if value is None else geometry.integer(place, name, value)


def step_number(place, name, value):
    number = geometry.integer(place, name, value)
    if number == 0:
        raise SettingError(f"{place}: {name} must not be 0; use 1, or −1 to reverse the order")
    return number


FACTOR = Setting("factor", REQUIRED, "r, pixels of a block along an axis: an integer, or one per axis")
ORDER = Setting(
    "mode",
    "CRD",
    "order of the channels: 'CRD' (the pixels of a block side by side, as in PyTorch) or 'DCR' (the channels of a pixel side by "
    "side, as in TensorFlow and by default in ONNX)",
    choice("CRD", "DCR"),
)

SHAPE = (
    Op(
        "split",
        Part(),
        family="layers",
        catalogue=("L11",),
        summary="One of the parts into which an axis is cut: what concat had joined.",
        formula="y = x from s to s + n along axis,   s: sum of the extents of the parts before, n: that of the part",
        gradient="dx = dy where the part lies, 0 elsewhere",
        settings_list=(
            Setting("parts", 2, "number of equal parts, or the extents of all parts", parts),
            Setting("part", 0, "which of them, numbered from 0", whole(0)),
            Setting("axis", 1, "axis that is cut; 1: channels"),
            Setting(
                "uneven", False, "whether the last of equal parts may be smaller, the others ⌈extent / parts⌉", flag
            ),
        ),
        shape="(N, C, \\*spatial) → (N, C / parts, \\*spatial); 1 to 5 dimensions",
        edges=(
            "parts that do not fill the axis: refused, unless uneven",
            "a part that would be empty: refused",
            "one call gives one part: every part is a call of its own",
        ),
        linear=("x",),
        paper="Jia et al. 2014, Caffe, arXiv:1408.5093 (layer Slice); ONNX operator Split, 2017",
        cases=(
            Case(channels=4, ranks=(0, 1, 2, 3)),
            Case(channels=4, parts=(1, 3), part=1, ranks=(2,)),
            Case(parts=3, part=2, axis=-1, ranks=(1,)),
            Case(channels=5, parts=3, part=2, uneven=True, ranks=(1,)),
            Case(parts=(1, 1), part=1, axis=0, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[1., 2., 3., 4., 5.]])
            >>> [cnncore.split(x, parts=(2, 3), part=part) for part in (0, 1)]
            [array([[1., 2.]]), array([[3., 4., 5.]])]
        """,
    ),
    Op(
        "slice",
        Slice(),
        family="layers",
        catalogue=("L11",),
        summary="Part of one axis, from start to stop.",
        formula="y[…, i, …] = x[…, start + i · stride, …] along axis, as x[start:stop:stride] in Python",
        gradient="dx = dy where y comes from, 0 elsewhere",
        settings_list=(
            Setting("start", None, "first index; None: the beginning; negative: from the end", any_integer_or_none),
            Setting(
                "stop", None, "index before which it ends; None: the end; negative: from the end", any_integer_or_none
            ),
            Setting("stride", 1, "step from index to index, not 0; negative: backwards", step_number),
            Setting("axis", 1, "axis that is cut; 1: channels"),
        ),
        shape="(N, C, \\*spatial) → the same, but for axis; 1 to 5 dimensions",
        edges=("indices beyond the ends: as far as the axis reaches", "nothing left: refused"),
        linear=("x",),
        paper="Jia et al. 2014, Caffe, arXiv:1408.5093 (layer Slice); ONNX operator Slice, 2017",
        cases=(
            Case(channels=4, start=1, ranks=(0, 1, 2, 3)),
            Case(channels=4, start=-4, stop=3, ranks=(2,)),
            Case(start=4, stop=None, stride=-2, axis=2, ranks=(1, 2)),
            Case(start=-1, axis=0, ranks=(1,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.slice.with_backward(np.array([[1., 2., 3., 4.]]), 1, 3)
            >>> y
            array([[2., 3.]])
            >>> backward(y)
            array([[0., 2., 3., 0.]])
        """,
    ),
    Op(
        "channel_shuffle",
        ChannelShuffle(),
        family="layers",
        catalogue=("C17",),
        summary="The channels of all groups in turn, so that the next grouped convolution sees every group.",
        formula="y[n, j G + g, …] = x[n, g K + j, …],   K = C / G channels of each of G groups",
        gradient="dx[n, g K + j, …] = dy[n, j G + g, …]: channel_shuffle of dy with K groups",
        settings_list=(Setting("groups", REQUIRED, "number of groups G", whole(1)),),
        shape="(N, C, \\*spatial) → the same; C is a multiple of groups",
        edges=("channels that are no multiple of groups: refused", "one group, or as many as channels: y = x"),
        accumulates="nothing: values are moved",
        linear=("x",),
        paper="Zhang, Zhou, Lin & Sun 2018, ShuffleNet, CVPR, arXiv:1707.01083, section 3.1",
        cases=(
            Case(groups=2, channels=6, spatial=2, ranks=(0, 1, 2, 3)),
            Case(groups=3, channels=6, spatial=2, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.channel_shuffle(np.array([[1., 2., 3., 4.]]), groups=2)
            array([[1., 3., 2., 4.]])
        """,
    ),
    Op(
        "pixel_shuffle",
        PixelShuffle(False),
        family="layers",
        catalogue=("C17",),
        summary="Blocks of channels become blocks of pixels: upsampling by a convolution before it.",
        formula="""
            CRD   y[n, c, h r + i, w r + j] = x[n, c r² + i r + j, h, w]
            DCR   y[n, c, h r + i, w r + j] = x[n, (i r + j) C + c, h, w]        C: channels of y
        """,
        gradient="dx = the same values of dy, back in their places: pixel_unshuffle of dy",
        settings_list=(FACTOR, ORDER),
        shape="(N, C r², H, W) → (N, C, H r, W r); r³ for three spatial axes, r for one",
        edges=("channels that are no multiple of a block: refused", "factor 1: y = x"),
        linear=("x",),
        paper="Shi et al. 2016, CVPR, arXiv:1609.05158, equation 4; ONNX operator DepthToSpace (both orders)",
        cases=(
            Case(factor=2, channels=8, spatial=3),
            Case(factor=2, channels=8, spatial=3, mode="DCR"),
            Case(factor=(1, 3), channels=6, spatial=2, ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.pixel_shuffle(np.array([[[1., 2.], [10., 20.]]]), factor=2)
            array([[[ 1., 10.,  2., 20.]]])
        """,
    ),
    Op(
        "pixel_unshuffle",
        PixelShuffle(True),
        family="layers",
        catalogue=("C17",),
        summary="Blocks of pixels become blocks of channels: nothing is lost where the image gets smaller.",
        formula="""
            CRD   y[n, c r² + i r + j, h, w] = x[n, c, h r + i, w r + j]
            DCR   y[n, (i r + j) C + c, h, w] = x[n, c, h r + i, w r + j]        C: channels of x
        """,
        gradient="dx = the same values of dy, back in their places: pixel_shuffle of dy",
        settings_list=(FACTOR, ORDER),
        shape="(N, C, H, W) → (N, C r², H / r, W / r); r³ for three spatial axes, r for one",
        edges=("extents that are no multiple of the factor: refused", "factor 1: y = x"),
        linear=("x",),
        paper="Shi et al. 2016, CVPR, arXiv:1609.05158, equation 4 inverted; ONNX operator SpaceToDepth (order DCR)",
        cases=(
            Case(factor=2, channels=2, spatial=4, ranks=(1,)),
            Case(factor=(2, 5), channels=2, spatial=4, ranks=(2,)),
            Case(factor=(2, 1, 3), channels=2, spatial=4, ranks=(3,)),
            Case(factor=(2, 5), channels=2, spatial=4, mode="DCR", ranks=(2,)),
            Case(factor=1, channels=2, mode="DCR", ranks=(2,)),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.pixel_unshuffle(np.array([[[1., 10., 2., 20.]]]), factor=2)
            array([[[ 1.,  2.],
                    [10., 20.]]])
        """,
    ),
    Op(
        "flatten",
        Flatten(),
        family="layers",
        catalogue=("L12",),
        summary="Makes one axis of several, in row-major order.",
        formula="y[n, (c H + h) W + w] = x[n, c, h, w]",
        gradient="dx[n, c, h, w] = dy[n, (c H + h) W + w]",
        settings_list=(Setting("start_dim", 1, "first of the axes that become one"),),
        shape="(N, C, \\*spatial) → (N, C · H · W); 1 to 5 dimensions",
        edges=("channels-last arrays: the order is that of (C, H, W) all the same", "y is a copy, never a view of x"),
        linear=("x",),
        paper="LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE, doi:10.1109/5.726791 (layers C5 and F6)",
        cases=(Case(ranks=(0, 1, 2, 3)), Case(start_dim=2), Case(start_dim=0), Case(start_dim=-1)),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.flatten(np.array([[[1., 2.], [3., 4.]]]))
            array([[1., 2., 3., 4.]])
        """,
    ),
    Op(
        "pad",
        Pad(),
        family="layers",
        catalogue=("L18", "L19", "L20", "L21", "L22"),
        summary="Cells around the image: constant, mirrored, repeated, or from the other end.",
        formula="""
            y[o] = x[f(o − lo)], along each axis, with f(i) = i for 0 ≤ i < H and outside
                constant    value, whatever x
                reflect     … 2 1 | 0 1 … H−1 | H−2 H−3 …      mirrored at the edge cells
                symmetric   … 1 0 | 0 1 … H−1 | H−1 H−2 …      mirrored at the edges
                replicate   … 0 0 | 0 1 … H−1 | H−1 H−1 …
                circular    … H−2 H−1 | 0 1 … H−1 | 0 1 …
        """,
        gradient="dx[i] = Σ dy[o] over all o with f(o − lo) = i",
        settings_list=(
            Setting("padding", REQUIRED, "cells around the image: an integer, one per axis, or (low, high) pairs"),
            Setting(
                "mode",
                "constant",
                "what they hold: constant, reflect, replicate, symmetric or circular",
                choice("constant", "reflect", "replicate", "symmetric", "circular"),
            ),
            Setting("value", 0.0, "the constant", number()),
        ),
        shape=PADDED,
        edges=(
            "negative padding: cuts off; at least one cell stays",
            "reflect: padding < H, since the edge cell is not repeated",
            "symmetric, circular: any padding; the image is repeated as often as needed",
        ),
        accumulates="gradients of cells that were copied several times in float64, in row-major order",
        linear=("x",),
        paper="Gonzalez & Woods 2018, Digital Image Processing, section 3.4; ONNX operator Pad",
        cases=(
            Case(padding=1),
            Case(padding=2, value=-1.5),
            Case(padding=((2, 0),), ranks=(1,)),
            Case(padding=((1, 2), (0, 3)), ranks=(2,), mode="reflect"),
            Case(padding=2, mode="reflect"),
            Case(padding=3, mode="replicate"),
            Case(padding=2, mode="symmetric"),
            Case(padding=2, mode="circular"),
            Case(padding=((-1, 2),), ranks=(1,), mode="replicate"),
            Case(padding=-1),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 2., 3.]]])
            >>> y, backward = cnncore.pad.with_backward(x, ((2, 1),), mode="reflect")
            >>> y
            array([[[3., 2., 1., 2., 3., 2.]]])
            >>> backward(np.ones_like(y))
            array([[[1., 3., 2.]]])
        """,
    ),
)


# ── Losses ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

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


LOSSES = (
    Op(
        "softmax_cross_entropy",
        SoftmaxCrossEntropy(),
        family="layers",
        catalogue=("L14",),
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
        shape="(N, K, \\*spatial) and (N, \\*spatial) or (N, K, \\*spatial) → (); reduction='none': (N, \\*spatial)",
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
        catalogue=("L15",),
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
        shape="(N, K, \\*spatial) and (N, \\*spatial) → (); reduction='none': (N, \\*spatial)",
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
        catalogue=("L16",),
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
        shape="two arrays of one shape → (); reduction='none': their shape",
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
        catalogue=("L17",),
        summary="The mean of the squared differences.",
        formula="L = Σ (x − target)² / Z,   Z: number of values; reduction='sum': 1",
        gradient="dx = 2 (x − target) dL / Z,   dtarget = −dx",
        arrays=(X, Array("target", "what x should be")),
        settings_list=(REDUCTION,),
        shape="two arrays of one shape → (); reduction='none': their shape",
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

ROWS = (*NORMALIZATION, *DROPOUT, *JOINS, *SHAPE, *LOSSES)
