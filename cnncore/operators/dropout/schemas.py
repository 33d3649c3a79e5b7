"""Schemas of dropout."""

from ...checks import flag, number, seed_number
from ..operator import Op
from ..schema import ANY_SHAPE, Array, Case, Setting, X
from .implementation import Dropping, alpha_dropout_numbers, dropout_numbers

DROP_SETTINGS = (
    Setting("p", 0.5, "probability of dropping a value", number(0, 1)),
    Setting("training", True, "drop values (True), or return x (False)", flag),
    Setting(
        "seed", 0, "seed of the random mask", lambda place, name, value: seed_number(place, name, value, 2**64 - 1)
    ),
    Setting("return_state", False, "also return the mask, which is True for values that are kept", flag),
)
STATE = Array("state", "mask of an earlier call, to be used again; drawn from seed by default", True, False, "mask")
STATE_EDGE = "the mask depends on the seed and the position only, neither on the number of threads nor on the dtype"
DROPPED_EDGE = "dropped values have no influence, not even NaN"
WITH_STATE = "array y; with return_state=True the pair (y, mask), the mask of booleans"


def drop_state(rng, x):
    return (rng.random(x.shape) > 0.4,)


def channel_state(rng, x):
    return (rng.random(x.shape[:2]) > 0.4,)


SCHEMAS = (
    Op(
        "dropout",
        Dropping(dropout_numbers),
        group="layers",
        literature=("L06",),
        summary="Dropout: sets values to 0 at random in training and scales the others by 1 / (1 − p).",
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
        group="layers",
        literature=("L07",),
        summary="Spatial dropout: sets whole channels to 0 at random in training and scales the others by 1 / (1 − p).",
        formula="""
            y = m x / (1 − p),   m = 0 with probability p, else 1, one for each channel of each image;   outside training y = x
        """,
        gradient="dx = m dy / (1 − p)",
        arrays=(X, STATE),
        settings_list=DROP_SETTINGS,
        shape="(N, C, *spatial) → the same; the mask is (N, C)",
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
        group="layers",
        literature=("L08",),
        summary="Alpha dropout for SELU networks: sets values to selu(−∞) at random and keeps mean 0 and variance 1.",
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
        group="layers",
        literature=("L09",),
        summary="Alpha dropout of whole channels, for SELU networks: keeps mean 0 and variance 1.",
        formula="""
            y = a (m x + α′ (1 − m)) + b,   m = 0 with probability p, else 1, one for each channel of each image
            α′, a and b as of alpha_dropout;   outside training y = x
        """,
        gradient="dx = a m dy",
        arrays=(X, STATE),
        settings_list=DROP_SETTINGS,
        shape="(N, C, *spatial) → the same; the mask is (N, C)",
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
