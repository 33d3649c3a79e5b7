"""Schemas of the normalisations."""

from ...checks import choice, flag, number, whole
from ..arrays.implementation import extent_list
from ..operator import Op
from ..schema import REQUIRED, Array, Case, Layer, Parameter, Setting, X, per_channel
from .implementation import BatchNorm, GroupNorm, LayerNorm, LocalResponseNorm, PlaneResponseNorm, Scale

__all__ = ["SCHEMAS"]

SAME_SHAPE = "(N, C, *spatial) → the same; 0 to 3 spatial axes"

W = Array("w", "scale, one number per channel; default 1", optional=True)
B = Array("b", "shift, one number per channel; default 0", optional=True)
EPS = Setting("eps", 1e-5, "ε, added to the variance for stability", number(minimum=0))
AFFINE = Setting("affine", True, "learn a scale w and a shift b", flag)
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


def of_all_but_one(rng, x):
    """w and b of one number per value of an image, for a case."""
    return of_last_axes(x.ndim - 1)(rng, x)


def per_channel_or_value(shapes, settings):
    """The shape of w and b of a layer normalisation."""
    last = settings["normalized_shape"]
    return per_channel(shapes, settings) if last is None else last


def with_running_statistics(rng, x):
    """w, b, running_mean and running_var for a case."""
    return (*scale_and_shift(rng, x), rng.standard_normal(x.shape[1]), rng.uniform(0.5, 2, x.shape[1]))


# ── Normalisation ──────────────────────────────────────────────────────────────────────────────────────────────────────

FAR_FROM_ZERO = "large mean: the variance is computed from differences to the mean, without cancellation"

SCHEMAS = (
    Op(
        "batch_norm",
        BatchNorm(),
        group="layers",
        literature=("L05",),
        summary="Batch normalisation: normalises each channel over the batch, then scales and shifts it.",
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
            Array("running_mean", "mean used outside training; default 0", True, differentiable=False),
            Array("running_var", "variance used outside training; default 1", True, differentiable=False),
        ),
        settings_list=(
            Setting("training", True, "use the statistics of the batch (True) or the running ones (False)", flag),
            Setting("momentum", 0.1, "weight of the batch statistics in the running average", number(0, 1)),
            EPS,
            Setting("return_statistics", False, "also return the updated running_mean and running_var", flag),
            Setting(
                "compat",
                None,
                "'tf' or 'onnx': running_var takes the variance Σ (x − μ)² / m",
                choice(None, "tf", "onnx"),
            ),
        ),
        shape=SAME_SHAPE,
        edges=(
            "running statistics: new = (1 − momentum) old + momentum · batch statistic, with the unbiased variance Σ "
            "(x − μ)² / (m − 1), as in PyTorch, Caffe and Chainer; with σ² itself in TensorFlow, Keras, Flax (compat='tf') and "
            "ONNX (compat='onnx'), whose momentum is 1 − momentum here; the arrays passed in are never changed",
            "m = 1: the variance is 0 and y = b; running_var is unchanged",
            "N = 0: running statistics are unchanged",
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
            Case(arrays=with_running_statistics, return_statistics=True, compat="tf", ranks=(2,)),
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
        group="layers",
        literature=("L24",),
        summary="Group normalisation: normalises each group of channels of an image, then scales and shifts each channel.",
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
        edges=(FAR_FROM_ZERO, "groups = 1: all values of an image together; groups = C: instance_norm"),
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
        group="layers",
        literature=("L24",),
        summary="Instance normalisation: normalises each channel of each image, then scales and shifts it.",
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
        group="layers",
        literature=("L23",),
        summary="Layer normalisation: normalises all values of an image together, then scales and shifts them.",
        formula="""
            y = w x̂ + b,   x̂ = (x − μ) / √(σ² + ε)
            μ = Σ x / m, σ² = Σ (x − μ)² / m over the m = C·H·W values of one image
            normalized_shape: over the values of the last axes, w and b of one number for each of them
        """,
        gradient="""
            dx = (w dy − Σ w dy / m − x̂ Σ w dy x̂ / m) / √(σ² + ε)
            dw = Σ dy x̂,   db = Σ dy over all images
        """,
        arrays=(
            X,
            Array("w", "scale, one number per channel or per value; default 1", optional=True),
            Array("b", "shift, one number per channel or per value; default 0", optional=True),
        ),
        settings_list=(
            EPS,
            Setting(
                "normalized_shape",
                None,
                "extents of the last axes, to normalise over them; w and b then have this shape",
                extent_list(1, True),
            ),
        ),
        shape="(N, C, *spatial) → the same; with normalized_shape (…, *normalized_shape) of at most 8 dimensions",
        edges=(
            FAR_FROM_ZERO,
            "without normalized_shape w and b may hold one number per channel, so that they fit any image size",
            "w and b of shape (C, *spatial) hold one number per value, as in PyTorch's LayerNorm over whole images, with and "
            "without normalized_shape=(C, *spatial)",
        ),
        accumulates="means, variances, dw and db in float64",
        paper="Ba, Kiros & Hinton 2016, arXiv:1607.06450, equation 3",
        cases=(
            Case(arrays=scale_and_shift, ranks=(0, 1, 2, 3)),
            Case(eps=0.1),
            Case(arrays=of_last_axes(1), normalized_shape=(7,), ranks=(2,)),
            Case(arrays=of_last_axes(2), normalized_shape=(6, 7), ranks=(2,)),
            Case(arrays=of_all_but_one, ranks=(1, 2)),
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
        group="layers",
        literature=("L02",),
        summary="Scales and shifts each channel.",
        formula="y_c = w_c x_c + b_c",
        gradient="dx_c = w_c dy_c,   dw_c = Σ dy_c x_c,   db_c = Σ dy_c",
        arrays=(X, W, B),
        shape=SAME_SHAPE,
        edges=("without w: shifts only; without b: scales only; without both: y = x",),
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
        group="layers",
        literature=("L03",),
        summary="Local response normalisation across channels, as in AlexNet.",
        formula="""
            y_c = x_c s_c^−β,   s_c = k + (α/n) Σ x_j²   over the channels j = c − ⌊n/2⌋ … c + ⌊(n − 1)/2⌋ that exist, n = size
            compat="tf":    α in place of α/n;   compat="onnx":  j = c − ⌊(n − 1)/2⌋ … c + ⌊n/2⌋
        """,
        gradient="""
            dx_c = dy_c s_c^−β − 2 (α/n) β x_c Σ dy_j y_j / s_j   over the channels j = c − ⌊(n − 1)/2⌋ … c + ⌊n/2⌋ that exist
            compat="tf":    α in place of α/n;   compat="onnx":  j = c − ⌊n/2⌋ … c + ⌊(n − 1)/2⌋
        """,
        settings_list=(
            Setting("size", 5, "n, number of channels in the sum", whole(1)),
            Setting("alpha", 1e-4, "α, divided by n as in Caffe and PyTorch", number(minimum=0)),
            Setting("beta", 0.75, "β, the exponent", number()),
            Setting("k", 1.0, "k, added to the sum; the paper has 2", number(above=0)),
            Setting(
                "compat",
                None,
                "'tf': α is not divided, n = 2 depth_radius + 1; 'onnx': of even n, one channel more after c; 'caffe': odd n",
                choice(None, "tf", "onnx", "caffe"),
            ),
        ),
        shape=SAME_SHAPE,
        edges=(
            "channels beyond the first and the last: 0, still counted in n",
            "even n: the window has one channel more before c than after it, as in PyTorch; in the gradient one more after it. "
            "In ONNX it is the other way round (compat='onnx'); Caffe and TensorFlow have no even n, and refuse it",
            "the paper and TensorFlow use α, not α/n: compat='tf', with the size 2 depth_radius + 1",
            "overflow or underflow of the squares: the result is still correct",
        ),
        accumulates="sums of squares of float32 in float32, in float64 where they would overflow",
        paper="Krizhevsky, Sutskever & Hinton 2012, NeurIPS, section 3.3; Jia et al. 2014, arXiv:1408.5093 (α/n)",
        cases=(
            Case(ranks=(0, 1, 2, 3)),
            Case(channels=7, size=4, alpha=0.5, beta=0.6, k=2.0),
            Case(channels=6, size=3, alpha=1.0, beta=1.0, k=0.5),
            Case(channels=2, size=9, alpha=2.0, beta=0.5),
            Case(channels=6, size=4, alpha=0.5, compat="onnx", ranks=(2,)),
            Case(channels=6, size=3, alpha=0.4, compat="tf", ranks=(2,)),
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
        group="layers",
        literature=("L04",),
        summary="Local response normalisation within channels, over a spatial window.",
        formula="""
            y_i = x_i s_i^−β,   s_i = k + (α / n^rank) Σ x_j²   over the n × … × n cells j around i that exist, n = size
        """,
        gradient="""
            dx_i = dy_i s_i^−β − 2 (α / n^rank) β x_i Σ dy_j y_j / s_j   over the cells j whose sum holds i
        """,
        settings_list=(
            Setting("size", 5, "n, extent of the window along each axis", whole(1)),
            Setting("alpha", 1e-4, "α, divided by the number of pixels in the window, as in Caffe", number(minimum=0)),
            Setting("beta", 0.75, "β, the exponent", number()),
            Setting("k", 1.0, "k, added to the sum", number(above=0)),
        ),
        shape="(N, C, *spatial) → the same; 1 to 3 spatial axes",
        edges=(
            "pixels outside the image: 0, still counted in the number",
            "even n: the window has one pixel more before than after along each axis; in the gradient one more after "
            "(Caffe rejects even n)",
            "overflow or underflow of the squares: the result is still correct",
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
