"""Schemas of the blocks that are made of convolutions: separable convolution, mlpconv, the Inception module."""

from ...checks import choice, flag, has_length, integer, whole
from ...errors import SettingError, ShapeError
from ..activation.schemas import SCHEMAS as ACTIVATIONS
from ..convolution.implementation import ALGORITHM, DEPTHWISE_SETTINGS
from ..convolution.schemas import BIAS, CHANNELS, INITIAL, KERNEL_SIZE, bias, depthwise_weights, kernel_extents
from ..convolution.schemas import SCHEMAS as CONVOLUTIONS
from ..joining.schemas import SCHEMAS as JOINS
from ..normalization.schemas import SCHEMAS as NORMALIZATIONS
from ..operator import Op
from ..pooling.schemas import SCHEMAS as POOLINGS
from ..schema import REQUIRED, Array, Case, Layer, Parameter, Setting
from .implementation import Composition, Step

__all__ = ["SCHEMAS"]

OPS = {row.name: row for row in (*CONVOLUTIONS, *ACTIVATIONS, *POOLINGS, *NORMALIZATIONS, *JOINS)}
ADDED_ONCE = "in the arrays' dtype, as in its steps"


# ── Separable convolution ──────────────────────────────────────────────────────────────────────────────────────────────


def separable_steps(op, shapes, settings):
    """Steps of a separable convolution: depthwise, then pointwise."""
    x, _, pointwise, _ = shapes
    if len(pointwise) != len(x) or any(extent != 1 for extent in pointwise[2:]):
        ones = ", 1" * (len(x) - 2)
        raise ShapeError(
            f"{op.name}: pointwise has shape {pointwise}; input {x} needs (K, C · M{ones}): a kernel of one pixel"
        )
    return (
        Step("channels_alone", OPS["depthwise_conv"], ("x", "w"), settings),
        Step("y", OPS["conv"], ("channels_alone", "pointwise", "b"), {"algorithm": settings["algorithm"]}),
    )


def separable_arrays(multiplier, kernel, outputs, biased=True):
    """Arrays w, pointwise and b for a case."""

    def arrays(rng, x):
        w, _ = depthwise_weights(multiplier, kernel)(rng, x)
        pointwise = rng.standard_normal((outputs, len(w), *[1] * (x.ndim - 2)))
        return (w, pointwise, rng.standard_normal(outputs)) if biased else (w, pointwise, None)

    return arrays


def separable_weight(shapes, settings):
    (x, *_) = shapes
    return (x[1] * settings["multiplier"], 1, *kernel_extents(x, settings))


def separable_pointwise(shapes, settings):
    (x, *_) = shapes
    return (settings["channels"], x[1] * settings["multiplier"], *[1] * (len(x) - 2))


# ── mlpconv ────────────────────────────────────────────────────────────────────────────────────────────────────────────

# Activations that stand in a block: no settings, no parameters.
BLOCK_ACTIVATIONS = ("relu", "sigmoid", "tanh", "softplus", "silu", "mish", "gelu", "identity")
ACTIVATION = Setting(
    "nonlinearity",
    "relu",
    f"activation after each convolution: one of {', '.join(BLOCK_ACTIVATIONS)}",
    choice(*BLOCK_ACTIVATIONS),
)


def mlpconv_steps(op, shapes, settings):
    """Steps of an mlpconv layer: three convolutions, each with its activation; the second and third are 1×1."""
    for name, w in (("w2", shapes[3]), ("w3", shapes[5])):
        if any(extent != 1 for extent in w[2:]):
            raise ShapeError(
                f"{op.name}: {name} has shape {w}; the second and third convolution are 1×1: its kernel is one pixel"
            )
    activation = OPS[settings["nonlinearity"]]
    plain = {"algorithm": settings["algorithm"]}
    first = {name: settings[name] for name in ("stride", "padding", "algorithm")}
    return (
        Step("sum1", OPS["conv"], ("x", "w1", "b1"), first),
        Step("h1", activation, ("sum1",)),
        Step("sum2", OPS["conv"], ("h1", "w2", "b2"), plain),
        Step("h2", activation, ("sum2",)),
        Step("sum3", OPS["conv"], ("h2", "w3", "b3"), plain),
        Step("y", activation, ("sum3",)),
    )


def mlpconv_arrays(widths, kernel, biased=True):
    """Weights and biases of the three convolutions for a case."""

    def arrays(rng, x):
        rank, made, inputs = x.ndim - 2, [], x.shape[1]
        for number, outputs in enumerate(widths):
            w = rng.standard_normal((outputs, inputs, *[1 if number else kernel] * rank))
            made += [w, rng.standard_normal(outputs) if biased else None]
            inputs = outputs
        return tuple(made)

    return arrays


def hidden(settings):
    """The widths of the two hidden layers: the number of output channels where hidden is None."""
    width = settings["hidden"]
    return (settings["channels"],) * 2 if width is None else width


def widths(place, name, value):
    """A check that hidden is None, a number, or two of them."""
    if value is None:
        return None
    pair = tuple(value) if has_length(value) and not isinstance(value, str) else (value, value)
    if len(pair) != 2:
        raise SettingError(f"{place}: {name} must be a number of channels, or two of them, got {value!r}")
    return tuple(integer(place, name, width, 1) for width in pair)


def mlpconv_weight(number):
    """The shape of w1, w2 or w3."""

    def shape(shapes, settings):
        (x, *_) = shapes
        first, second = hidden(settings)
        if number == 1:
            return (first, x[1], *kernel_extents(x, settings))
        outputs, inputs = (second, first) if number == 2 else (settings["channels"], second)
        return (outputs, inputs, *[1] * (len(x) - 2))

    return shape


def mlpconv_bias(number):
    return lambda shapes, settings: ((*hidden(settings), settings["channels"])[number - 1],)


# ── Inception ──────────────────────────────────────────────────────────────────────────────────────────────────────────

BRANCHES = ("1", "3", "5")
REDUCTIONS = ("r3", "r5", "p")


def inception_steps(op, shapes, settings):
    """Steps of an Inception module: four branches, with reduction 1×1 convolutions before 3×3 and 5×5 and after the pooling."""
    arrays = dict(zip((row.name for row in op.arrays), shapes, strict=True))
    x = arrays["x"]
    rank = len(x) - 2
    reduced = settings["reduction"]
    for name in REDUCTIONS:
        if (arrays[f"w{name}"] is None) == reduced:
            raise SettingError(
                f"{op.name}: w{name} is {'missing' if reduced else 'given'}, but reduction={reduced}: with reduction there are "
                "wr3, wr5 and wp, 1×1 convolutions before the 3×3 and the 5×5 one and after the pooling; without, none of them"
            )
    for name in BRANCHES + REDUCTIONS * reduced:
        w, size = arrays[f"w{name}"], int(name) if name in BRANCHES else 1
        if len(w) != rank + 2 or any(extent != size for extent in w[2:]):
            raise ShapeError(
                f"{op.name}: w{name} has shape {w}; expected (K, C, {', '.join([str(size)] * rank)}) for input {x}"
            )
    steps = []

    def convolved(name, source):
        """ReLU of a convolution that keeps the image's size."""
        b = f"b{name}" if arrays[f"b{name}"] is not None else None
        given = {"padding": int(name) // 2 if name in BRANCHES else 0, "algorithm": settings["algorithm"]}
        steps.append(Step(f"sum_{name}", OPS["conv"], (source, f"w{name}", b), given))
        steps.append(Step(f"branch_{name}", OPS["relu"], (f"sum_{name}",)))
        return f"branch_{name}"

    branches = [convolved("1", "x")]
    branches += [convolved(name, convolved(f"r{name}", "x") if reduced else "x") for name in ("3", "5")]
    steps.append(Step("pooled", OPS["max_pool"], ("x",), {"kernel_size": 3, "stride": 1, "padding": 1}))
    branches.append(convolved("p", "pooled") if reduced else "pooled")
    return (*steps, Step("y", OPS["concat"], tuple(branches)))


def inception_arrays(reduction):
    """Weights and biases of a small module for a case."""

    def arrays(rng, x):
        C, rank = x.shape[1], x.ndim - 2

        def convolution(outputs, inputs, size):
            return rng.standard_normal((outputs, inputs, *[size] * rank)) / size, rng.standard_normal(outputs)

        made = [*convolution(2, C, 1)]
        made += [*convolution(3, 2 if reduction else C, 3), *convolution(1, 1 if reduction else C, 5)]
        if reduction:
            made += [*convolution(2, C, 1), *convolution(1, C, 1), *convolution(2, C, 1)]
        return tuple(made)

    return arrays


def filters(place, name, value):
    """A check that filters are three or six numbers of channels."""
    if not has_length(value) or isinstance(value, str) or len(value) not in (3, 6):
        raise SettingError(
            f"{place}: {name} must be six numbers of channels (#1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, #pool projection), or "
            f"with reduction=False three (#1×1, #3×3, #5×5), got {value!r}"
        )
    return tuple(integer(place, f"{name}[{i}]", width, 1) for i, width in enumerate(value))


def width(settings, name):
    """The number of output channels of one convolution of a module."""
    names = ("1", "r3", "3", "r5", "5", "p") if settings["reduction"] else BRANCHES
    given = settings["filters"]
    if len(given) != len(names):
        raise SettingError(
            f"inception: filters {given} are {len(given)} numbers; reduction={settings['reduction']} needs {len(names)}: "
            f"{', '.join('#' + n for n in names)}"
        )
    return given[names.index(name)]


def inception_weight(name):
    """The shape of the weights ``name`` of a module."""

    def shape(shapes, settings):
        (x, *_) = shapes
        size = int(name) if name in BRANCHES else 1
        reduced = settings["reduction"] and name in ("3", "5")
        return (width(settings, name), width(settings, f"r{name}") if reduced else x[1], *[size] * (len(x) - 2))

    return shape


def inception_parameters(name):
    """w and b of one convolution of a module."""
    when = None if name in BRANCHES else "reduction"
    return (
        Parameter(f"w{name}", inception_weight(name), "initial", when=when),
        Parameter(f"b{name}", lambda shapes, settings: (width(settings, name),), "zeros", when=when, decay=False),
    )


INCEPTION_NAMES = (*BRANCHES, *REDUCTIONS)
INCEPTION_MEANINGS = {
    "1": "1×1 branch",
    "3": "3×3 branch",
    "5": "5×5 branch",
    "r3": "1×1 reduction before the 3×3 branch",
    "r5": "1×1 reduction before the 5×5 branch",
    "p": "1×1 projection after the pooling",
}


def inception_rows():
    """The rows of a module's arrays after x."""
    rows = []
    for name in INCEPTION_NAMES:
        optional = name in REDUCTIONS
        rows.append(Array(f"w{name}", f"weights of the {INCEPTION_MEANINGS[name]}", optional=optional))
        rows.append(Array(f"b{name}", f"bias of the {INCEPTION_MEANINGS[name]}", optional=True))
    return tuple(rows)


SCHEMAS = (
    Op(
        "separable_conv",
        Composition(separable_steps),
        group="convolution",
        literature=("C07",),
        summary="Depthwise separable convolution: a depthwise convolution, then a 1×1 (pointwise) convolution.",
        formula="""
            h[n, c·M + m, o] = Σ_t w[c·M + m, 0, t] · x[n, c, s·o + d·t − lo]
            y[n,k,o]         = b[k] + Σ_j p[k,j] · h[n,j,o],   p = pointwise
        """,
        gradient="""
            dh[n,j,o] = Σ_k p[k,j] · dy[n,k,o],   dp[k,j] = Σ_n Σ_o dy[n,k,o] · h[n,j,o],   db[k] = Σ_n Σ_o dy[n,k,o]
            dx and dw: those of depthwise_conv for dh
        """,
        arrays=(
            Array("x", "input"),
            Array("w", "depthwise weights (C · M, 1, *kernel)"),
            Array("pointwise", "weights (K, C · M, 1, …) of the pointwise convolution"),
            Array("b", "bias (K,)", optional=True),
        ),
        settings_list=DEPTHWISE_SETTINGS,
        shape="(N, C, *spatial) → (N, K, *output), output as of conv",
        edges=("no bias between the two convolutions, as in Keras", "padding and padding_mode: as conv"),
        accumulates=ADDED_ONCE,
        linear=("x", "w", "pointwise"),
        paper="Chollet 2017, CVPR, arXiv:1610.02357; Sifre 2014, PhD thesis, section 6.2",
        cases=(
            Case(padding=1, arrays=separable_arrays(1, 3, 4), spatial=5),
            Case(
                stride=2,
                padding=1,
                padding_mode="replicate",
                arrays=separable_arrays(2, 3, 2, biased=False),
                ranks=(2,),
            ),
            Case(dilation=2, arrays=separable_arrays(1, 2, 3), ranks=(1,)),
        ),
        layer=Layer(
            parameters=(
                Parameter("w", separable_weight, "initial"),
                Parameter("pointwise", separable_pointwise, "initial"),
                Parameter("b", bias, "zeros", when="bias", decay=False),
            ),
            settings=(
                CHANNELS,
                KERNEL_SIZE,
                Setting("multiplier", 1, "channel multiplier M of the depthwise convolution", whole(1)),
                BIAS,
                INITIAL,
            ),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., 2., 3.], [4., 5., 6.]]])
            >>> w, pointwise = np.array([[[1., 1.]], [[1., -1.]]]), np.array([[[1.], [10.]]])
            >>> cnncore.separable_conv(x, w, pointwise)
            array([[[-7., -5.]]])
        """,
    ),
    Op(
        "mlpconv",
        Composition(mlpconv_steps),
        group="convolution",
        literature=("C18",),
        summary="mlpconv layer of Network in Network: a convolution and two 1×1 convolutions, each with an activation.",
        formula="""
            h₁ = f(conv(x, w1, b1)),   h₂ = f(conv(h₁, w2, b2)),   y = f(conv(h₂, w3, b3))
            f = nonlinearity; w2 and w3 are 1×1: a perceptron of three layers on every window
        """,
        gradient="""
            ds₃ = dy f′(s₃),   dh₂ = w3ᵀ ds₃,   ds₂ = dh₂ f′(s₂),   dh₁ = w2ᵀ ds₂,   ds₁ = dh₁ f′(s₁)
            dx, dw1, db1 … dw3, db3: those of conv for ds₁, ds₂, ds₃;   sᵢ: the sum before activation i
        """,
        arrays=(
            Array("x", "input"),
            Array("w1", "weights (K₁, C, *kernel)"),
            Array("b1", "bias (K₁,)", optional=True),
            Array("w2", "weights (K₂, K₁, 1, …)"),
            Array("b2", "bias (K₂,)", optional=True),
            Array("w3", "weights (K₃, K₂, 1, …)"),
            Array("b3", "bias (K₃,)", optional=True),
        ),
        settings_list=(*(s for s in DEPTHWISE_SETTINGS if s.name in ("stride", "padding")), ACTIVATION, ALGORITHM),
        shape="(N, C, *spatial) → (N, K₃, *output), output as of conv",
        symbols={"K₃": "output channels of the third convolution"},
        edges=("stride and padding: of the first convolution", "relu at 0: gradient 0"),
        accumulates=ADDED_ONCE,
        smooth=False,
        paper="Lin, Chen & Yan 2014, ICLR, arXiv:1312.4400, section 3.1 and equation 2",
        cases=(
            Case(padding=1, nonlinearity="tanh", arrays=mlpconv_arrays((3, 2, 2), 3), spatial=4),
            Case(stride=2, arrays=mlpconv_arrays((3, 4, 2), 2), ranks=(2,), spatial=4),
            Case(nonlinearity="silu", arrays=mlpconv_arrays((2, 2, 2), 2, biased=False), ranks=(1,), spatial=4),
        ),
        layer=Layer(
            parameters=tuple(
                parameter
                for number in (1, 2, 3)
                for parameter in (
                    Parameter(f"w{number}", mlpconv_weight(number), "initial"),
                    Parameter(f"b{number}", mlpconv_bias(number), "zeros", when="bias", decay=False),
                )
            ),
            settings=(
                CHANNELS,
                KERNEL_SIZE,
                Setting("hidden", None, "channels of the two hidden layers; None: as many as output channels", widths),
                BIAS,
                INITIAL,
            ),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[1., -2., 3.]]])
            >>> w1, w2, w3 = np.array([[[1.]], [[-1.]]]), np.array([[[1.], [1.]]]), np.array([[[2.]]])
            >>> cnncore.mlpconv(x, w1=w1, w2=w2, w3=w3)                             # 2 |x|
            array([[[2., 4., 6.]]])
        """,
    ),
    Op(
        "inception",
        Composition(inception_steps),
        group="convolution",
        literature=("C19",),
        summary="Inception module: 1×1, 3×3 and 5×5 convolutions and 3×3 max pooling of the same input, concatenated "
        "along the channels.",
        formula="""
            y = concat(f₁(x), f₃(r₃(x)), f₅(r₅(x)), f_p(max pool 3×3 of x)),   every f and r: ReLU of a convolution, stride 1
            f₁, r₃, r₅, f_p are 1×1, f₃ is 3×3 padded by 1, f₅ 5×5 padded by 2; without reduction there are no r₃, r₅ and f_p
        """,
        gradient="""
            dy is cut into its four parts; each goes back through its branch
            dx = the sum of what arrives through the branches;   dw, db: those of the convolutions
        """,
        arrays=(Array("x", "input"), *inception_rows()),
        settings_list=(
            Setting(
                "reduction", True, "use 1×1 convolutions before the 3×3 and 5×5 branches and after the pooling", flag
            ),
            ALGORITHM,
        ),
        shape="(N, C, *spatial) → (N, #1 + #3 + #5 + #p, *spatial), with reduction=False #p is C",
        symbols={
            "#1": "output channels of the 1×1 branch",
            "#3": "output channels of the 3×3 branch",
            "#5": "output channels of the 5×5 branch",
            "#p": "output channels of the pooling branch",
        },
        edges=(
            "the padding of the pooling never wins (−∞, not 0)",
            "the 5×5 branch is 5×5, as in the paper; some implementations have 3×3 there",
            "relu at 0: gradient 0; ties of the pooling: first in row-major order",
        ),
        accumulates=ADDED_ONCE,
        smooth=False,
        paper="Szegedy et al. 2015, CVPR, arXiv:1409.4842, figure 2 (a) naive, (b) with reductions",
        cases=(
            Case(arrays=inception_arrays(True), spatial=3),
            Case(reduction=False, arrays=inception_arrays(False), ranks=(2,), spatial=3),
        ),
        layer=Layer(
            parameters=tuple(p for name in INCEPTION_NAMES for p in inception_parameters(name)),
            settings=(
                Setting(
                    "filters",
                    REQUIRED,
                    "numbers of channels (#1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, #pool projection) as in table 1 of the "
                    "paper, or with reduction=False (#1×1, #3×3, #5×5)",
                    filters,
                ),
                INITIAL,
            ),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x, one = np.array([[[1., 2., 3.]]]), np.array([[[1.]]])
            >>> w3, w5 = np.array([[[1., 1., 1.]]]), np.array([[[1., 1., 1., 1., 1.]]])
            >>> cnncore.inception(x, w1=one, w3=w3, w5=w5, reduction=False)
            array([[[1., 2., 3.],
                    [3., 6., 5.],
                    [6., 6., 6.],
                    [2., 3., 3.]]])
        """,
    ),
)
