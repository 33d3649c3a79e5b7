"""Convolution, transposed convolution and linear layers: three primitives (reference.pyx) in different orders."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ...checks import choice, per_axis, whole
from ...errors import SettingError, ShapeError
from ...runtime.costs import in_force, measurements
from .. import geometry
from ..activation import reference as activations
from ..activation.elementwise import Elementwise
from ..operator import Implementation
from ..schema import Setting
from ..shape.implementation import PaddedImage
from ..shape.reference import accumulate as add_into
from . import linear
from . import reference as conv
from .measurement import measured

__all__ = [
    "ALGORITHM",
    "CAUSAL_SETTINGS",
    "CONV_SETTINGS",
    "DEPTHWISE_SETTINGS",
    "TRANSPOSE_SETTINGS",
    "MEASURED_ALGORITHMS",
    "CausalConvolution",
    "Convolution",
    "DepthwiseConvolution",
    "FlippedConvolution",
    "Linear",
    "LinearAsConvolution",
    "TransposedConvolution",
    "algorithm_costs",
    "cheapest_algorithm",
]

measurements["convolution"] = measured

# What algorithm= takes: names of the table, those of families of them, and the choice by cost.
FAMILIES = tuple(dict.fromkeys(row.family for row in conv.ALGORITHMS.values() if row.family))
FAMILY_MEMBERS = sorted(name for name, row in conv.ALGORITHMS.items() if row.family)
OTHERS = [name for name, row in conv.ALGORITHMS.items() if not row.family and name not in ("direct", "reference")]
# Those that a choice, by cost or by measuring, is between.
MEASURED_ALGORITHMS = tuple(name for name, row in conv.ALGORITHMS.items() if row.cost is not None)

STRIDE = Setting("stride", 1, "stride of the window: an integer, or one per axis")
PADDING = Setting("padding", 0, "padding: an integer, one per axis, (low, high) pairs, or a name such as 'same_upper'")
DILATION = Setting("dilation", 1, "spacing between the taps of the kernel")
GROUPS = Setting(
    "groups", 1, "number of groups: an output channel depends on the input channels of its group only", whole(1)
)
ALGORITHM = Setting(
    "algorithm",
    "direct",
    "algorithm: 'direct', 'winograd' (3×3 kernels with stride 1 or 2 and 5×5 kernels with stride 1: fewer multiplications, "
    f"larger rounding errors; {', '.join(map(repr, FAMILY_MEMBERS))} choose the tile), "
    f"{''.join(f'{name!r} ({conv.ALGORITHMS[name].windows}), ' for name in OTHERS)}'auto' (the cheapest) or 'reference'",
    choice("direct", "auto", *FAMILIES, *FAMILY_MEMBERS, *OTHERS, "reference"),
    renamed={"definition": "reference"},
)

PADDING_MODE = Setting(
    "padding_mode",
    "zeros",
    "padding mode: 'zeros', 'reflect' (mirrored at the edge pixels), 'replicate' (the edge pixels repeated) or 'circular'",
    choice("zeros", "reflect", "replicate", "circular"),
)

CONV_SETTINGS = (STRIDE, PADDING, DILATION, GROUPS, ALGORITHM, PADDING_MODE)
DEPTHWISE_SETTINGS = (STRIDE, PADDING, DILATION, ALGORITHM, PADDING_MODE)
CAUSAL_SETTINGS = (STRIDE, DILATION, GROUPS, ALGORITHM)
TRANSPOSE_SETTINGS = (
    STRIDE,
    Setting(
        "padding",
        0,
        "padding of the corresponding conv, removed from y: an integer, one per axis, (low, high) pairs, or a name",
    ),
    Setting("output_padding", 0, "rows added at the high end of y, less than stride or dilation"),
    GROUPS,
    DILATION,
    ALGORITHM,
)


@dataclass(frozen=True, slots=True)
class Geometry:
    """A call's windows, the weights of one group, and the primitives bound to them (None while extents are open).

    ``padding``: the padded image, where padding_mode is not 'zeros'; the windows are then those of this image.
    """

    window: object
    multiply_adds: object
    primitives: object
    outputs: int
    inputs: int
    groups: int
    padding: PaddedImage | None


def algorithm_costs(window, images, inputs, outputs, groups=1, costs=None):
    """The cost of each algorithm that fits, in multiply-adds at full speed: name → number; ``costs``: of the machine, those
    in force by default.

    >>> from cnncore.operators.geometry import window
    >>> costs = algorithm_costs(window("conv", (56, 56), (3, 3), padding=1), images=1, inputs=64, outputs=192)
    >>> costs["direct"], costs["winograd_4x4"], costs["winograd_4x2"], costs["winograd_2x2"]
    (346816512, 97542144, 130056192, 173408256)
    >>> "winograd_4x4" in algorithm_costs(window("conv", (7, 7), (7, 7), padding=3), images=1, inputs=64, outputs=192)
    False
    """
    costs = in_force() if costs is None else costs
    fitting = (conv.ALGORITHMS[name] for name in MEASURED_ALGORITHMS)
    return {
        row.name: row.cost(window, images, inputs, outputs, groups, costs)
        for row in fitting
        if row.fits(window, groups)
    }


def cheapest_algorithm(costs):
    """The cheapest algorithm by ``costs``; any other than "direct" must save at least a tenth."""
    best = min(costs, key=costs.get)
    return best if costs[best] < 0.9 * costs["direct"] else "direct"


def chosen_algorithm(place, algorithm, window, images, inputs, outputs, groups):
    """The name in the table of the algorithm of a call: as asked, or by cost where that is left open."""
    if algorithm in conv.ALGORITHMS:
        if not conv.ALGORITHMS[algorithm].fits(window, groups):
            raise SettingError(unfitting_algorithm(place, algorithm, (algorithm,)))
        return algorithm
    costs = algorithm_costs(window, 1 if images is None else images, inputs, outputs, groups)
    if algorithm == "auto":
        return cheapest_algorithm(costs)
    members = [name for name, row in conv.ALGORITHMS.items() if row.family == algorithm]
    costs = {name: cost for name, cost in costs.items() if name in members}
    if not costs:
        raise SettingError(unfitting_algorithm(place, algorithm, members))
    return min(costs, key=costs.get)


def unfitting_algorithm(place, algorithm, members):
    """The message where none of the algorithms that are asked for fits the windows."""
    windows = max((conv.ALGORITHMS[name].windows for name in members), key=len)
    return f"{place}: algorithm={algorithm!r} computes {windows}; use algorithm='auto' or 'direct'"


def described(place, window, images, outputs, inputs, settings, padding=None):
    """Geometry of a convolution with ``outputs`` × ``inputs`` (those of one group) kernels on ``images`` images."""
    taps = math.prod(window.kernel)
    open_ = None in window.output or None in window.input
    groups = settings["groups"]
    return Geometry(
        window,
        None if open_ else (1 if images is None else images) * math.prod(window.output) * outputs * inputs * taps,
        None
        if None in window.low
        else conv.Convolution(
            groups,
            window.stride,
            window.dilation,
            window.low,
            "direct"
            if open_
            else chosen_algorithm(place, settings["algorithm"], window, images, inputs * groups, outputs, groups),
        ),
        outputs,
        inputs,
        groups,
        padding,
    )


def windows_of(place, extents, kernel, settings):
    """The windows of a convolution, and the padded image that they lie on where padding_mode is not 'zeros'."""
    stride, padding, dilation = settings["stride"], settings["padding"], settings["dilation"]
    window = geometry.window(place, extents, kernel, stride, padding, dilation)
    mode = settings["padding_mode"]
    if mode == "zeros" or None in window.output or not any((*window.low, *window.high)):
        return window, None
    pairs = tuple(zip(window.low, window.high, strict=True))[geometry.SPATIAL_AXES - window.rank :]
    pairs, larger = geometry.padded(place, extents, pairs, mode)
    return geometry.window(place, larger, kernel, stride, 0, dilation), PaddedImage(extents, pairs, mode, 0.0)


def check_weights(place, shape, w, form):
    """Raise unless ``w`` has the rank of the input and no empty axis."""
    if len(w) != len(shape):
        raise ShapeError(
            f"{place}: w has {len(w)} dimensions {w}; an input with {len(shape) - 2} spatial "
            f"{'axis' if len(shape) == 3 else 'axes'} {shape} needs {len(shape)}: {form}"
        )
    for axis, extent in enumerate(w):
        if extent == 0:
            raise ShapeError(f"{place}: w {w} is empty along axis {axis}; expected {form} with every extent at least 1")


def check_groups(place, shape, groups):
    """Raise unless ``groups`` divides the input's channels."""
    if shape[1] % groups:
        raise ShapeError(
            f"{place}: {shape[1]} channels of input {shape} are not divisible by groups={groups}; give a divisor of "
            f"{shape[1]}"
        )


def check_bias(place, b, channels, form):
    """Raise unless ``b`` holds one number per output channel."""
    if b is not None and b != (channels,):
        raise ShapeError(
            f"{place}: b has shape {b}; w {form} makes {channels} output channels, so b must have shape ({channels},)"
        )


class Convolution(Implementation):
    """y = w ∗ x + b by the three primitives in their plain order.

    Variants differ in what their settings mean (``plain``) and in how their weights lie (``kernels``, ``into_kernels``).
    """

    per_image = True
    saves: tuple[str, ...] | None = ("x", "w")

    def plain(self, place, x, w, settings):
        """(weights' shape, settings) of the plain convolution that computes a call."""
        return w, settings

    def kernels(self, call, w):
        """The weights of a call as those of the plain convolution: a view."""
        return w

    def into_kernels(self, call, dw, write):
        """Let ``write`` fill the gradient of the weights, seen as that of the plain convolution."""
        write(dw)

    def infer(self, op, shapes, dtype, settings):
        x, w, b = shapes
        extents = geometry.spatial(op.name, x)
        w, settings = self.plain(op.name, x, w, settings)
        groups = settings["groups"]
        check_weights(op.name, x, w, "(K, C / groups, *kernel)")
        check_groups(op.name, x, groups)
        if w[1] * groups != x[1]:
            way = (
                f"; groups={x[1] // w[1]} would fit these weights"
                if x[1] % w[1] == 0 and w[0] % (x[1] // w[1]) == 0
                else f"; expected w of shape {(w[0], x[1] // groups, *w[2:])}"
            )
            raise ShapeError(
                f"{op.name}: w {w} expects {w[1]} channels in each of {groups} group{'s' * (groups > 1)}, "
                f"{w[1] * groups} in total; the input {x} has {x[1]}{way}"
            )
        if w[0] % groups:
            raise ShapeError(f"{op.name}: {w[0]} output channels of w {w} are not divisible by groups={groups}")
        check_bias(op.name, b, w[0], w)
        window, padding = windows_of(op.name, extents, w[2:], settings)
        return (x[0], w[0], *window.output_shape), described(op.name, window, x[0], w[0], w[1], settings, padding)

    def forward(self, call, arrays, out=None, epilogue=None, packed=None):
        x, w, b = arrays
        y, padding = call.empty(out), call.geometry.padding
        image = x if padding is None else padding.around(x)
        call.geometry.primitives.forward(image, self.kernels(call, w), b, y, packed, *bounds(epilogue))
        return y, (), (x, w)

    def packing(self, call, arena):
        return call.geometry.primitives.pack(arena)

    def folds_affine(self, call):
        return True

    def fold_affine(self, call, arrays, scale, shift):
        x, w, b = arrays
        per_output = scale.reshape(-1, *(1,) * (w.ndim - 1))
        return x, (w * per_output).astype(call.dtype), with_bias(call, b, scale, shift)

    def backward(self, call, saved, dy, needs_gradient, out=None, accumulate=False):
        x, w = saved
        primitives, padding = call.geometry.primitives, call.geometry.padding
        dx, dw, db = call.gradients(needs_gradient, out)
        if dx is not None and not (accumulate and primitives.add_backward_input(dy, self.kernels(call, w), dx)):
            total, dx = dx, np.empty_like(dx) if accumulate else dx
            image = dx if padding is None else padding.empty(dx)
            primitives.backward_input(dy, self.kernels(call, w), image)
            if padding is not None:
                padding.tables.backward(image, dx)
            if accumulate:
                add_into(dx, total)
                dx = total
        if dw is not None:
            image = x if padding is None else padding.around(x)
            self.into_kernels(call, dw, lambda kernels: primitives.backward_weight(image, dy, kernels))
        if db is not None:
            conv.backward_bias(dy, db)
        return dx, dw, db

    def fuses_activation(self, call, activation):
        return bounds(activation) is not None

    def accumulates(self, call):
        return call.geometry.padding is None

    def multiply_adds(self, call):
        return call.geometry.multiply_adds

    def algorithms(self, call):
        g = call.geometry
        return algorithm_costs(g.window, call.shapes[0][0], g.inputs * g.groups, g.outputs, g.groups)

    def algorithm(self, call):
        return call.geometry.primitives.algorithm

    def receptive_window(self, call):
        return call.geometry.window.receptive

    def receptive_start(self, call):
        window = call.geometry.window
        if call.settings.get("padding_mode", "zeros") != "zeros":
            return None  # pixels of the padding are others of the image
        return tuple(-low for low in window.low[geometry.SPATIAL_AXES - window.rank :])


class DepthwiseConvolution(Convolution):
    """A convolution with as many groups as channels: each channel has kernels of its own."""

    def plain(self, place, x, w, settings):
        check_weights(place, x, w, "(C · M, 1, *kernel)")
        if w[1] != 1 or w[0] % x[1]:
            raise ShapeError(
                f"{place}: w {w} does not fit input {x}; expected (C · M, 1, *kernel) with C = {x[1]}: M kernels for each "
                "channel, those of the first channel first"
            )
        return w, {**settings, "groups": x[1]}


class CausalConvolution(Convolution):
    """A convolution along one axis that is padded at the low end only: y at t depends on x up to t."""

    def plain(self, place, x, w, settings):
        geometry.spatial(place, x, (1,))
        check_weights(place, x, w, "(K, C / groups, kernel)")
        (step,) = per_axis(place, "dilation", settings["dilation"], 1, minimum=1)
        return w, {**settings, "padding": ((step * (w[2] - 1), 0),), "padding_mode": "zeros"}


class FlippedConvolution(Convolution):
    """A convolution with the kernel flipped, as mathematics defines it; the weights are read through negative strides."""

    def kernels(self, call, w):
        return w[(..., *(slice(None, None, -1),) * (w.ndim - 2))]

    def into_kernels(self, call, dw, write):
        write(self.kernels(call, dw))


class LinearAsConvolution(Convolution):
    """A linear layer on flattened images as a convolution: its weights are the kernel."""

    def plain(self, place, x, w, settings):
        size = per_axis(place, "image_size", settings["image_size"], len(x) - 2, minimum=1)
        features = x[1] * math.prod(size)
        if len(w) != 2 or w[0] == 0 or w[1] != features:
            raise ShapeError(
                f"{place}: w has shape {w}; the input {x} and image_size {size} need (outputs, {features}): {x[1]} channels of "
                f"{'×'.join(map(str, size))} pixels, flattened"
            )
        fixed = {"padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
        return (w[0], x[1], *size), {**settings, **fixed}

    def kernels(self, call, w):
        return self.channels_first(call, w.reshape(self.rows(call)))

    def into_kernels(self, call, dw, write):
        into(dw, self.rows(call), lambda rows: write(self.channels_first(call, rows)))

    def rows(self, call):
        """The weights' shape with a row unrolled into the image that it was flattened from."""
        g = call.geometry
        size = g.window.kernel[geometry.SPATIAL_AXES - g.window.rank :]
        first = call.settings["order"] == "channels_first"
        return (g.outputs, g.inputs, *size) if first else (g.outputs, *size, g.inputs)

    def channels_first(self, call, rows):
        return rows if call.settings["order"] == "channels_first" else np.moveaxis(rows, -1, 1)


class TransposedConvolution(Convolution):
    """y with x = w ∗ y's shapes: what a convolution's backward_input does to its dy, done to x."""

    def infer(self, op, shapes, dtype, settings):
        x, w, b = shapes
        extents = geometry.spatial(op.name, x)
        groups = settings["groups"]
        check_weights(op.name, x, w, "(C, K / groups, *kernel)")
        if w[0] != x[1]:
            raise ShapeError(
                f"{op.name}: w {w} expects {w[0]} channels, the input {x} has {x[1]}; expected w of shape "
                f"{(x[1], *w[1:])}: (C, K / groups, *kernel), input channels first"
            )
        check_groups(op.name, x, groups)
        outputs = w[1] * groups
        check_bias(op.name, b, outputs, w)
        window = geometry.transposed_window(
            op.name,
            extents,
            w[2:],
            settings["stride"],
            settings["padding"],
            settings["output_padding"],
            settings["dilation"],
        )
        result = window.input[geometry.SPATIAL_AXES - window.rank :]
        return (x[0], outputs, *result), described(op.name, window, x[0], w[0], w[1], settings)

    def forward(self, call, arrays, out=None, epilogue=None, packed=None):
        x, w, b = arrays
        y = call.empty(out)
        call.geometry.primitives.backward_input(x, w, y, b, packed, *bounds(epilogue))
        return y, (), (x, w)

    def packing(self, call, arena):
        return call.geometry.primitives.pack(arena, backward=True)

    def fold_affine(self, call, arrays, scale, shift):
        x, w, b = arrays
        groups = call.geometry.groups
        by_group = w.reshape(groups, len(w) // groups, *w.shape[1:])
        per_output = scale.reshape(groups, 1, -1, *(1,) * (w.ndim - 2))
        return x, (by_group * per_output).reshape(w.shape).astype(call.dtype), with_bias(call, b, scale, shift)

    def accumulates(self, call):
        return False  # its gradient of x is a forward pass of the primitives, which writes

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, w = saved
        primitives = call.geometry.primitives
        dx, dw, db = call.gradients(needs_gradient, out)
        if dx is not None:
            primitives.forward(dy, w, None, dx)
        if dw is not None:
            primitives.backward_weight(dy, x, dw)
        if db is not None:
            conv.backward_bias(dy, db)
        return dx, dw, db

    def receptive_window(self, call):
        window = call.geometry.window
        per_axis = zip(window.kernel, window.stride, window.dilation, strict=True)
        # Between them ⌈e / s⌉ inputs reach one output; from one output to the next they move by 1 / s.
        return tuple((-(-(d * (k - 1) + 1) // s), Fraction(1, s)) for k, s, d in per_axis)[
            geometry.SPATIAL_AXES - window.rank :
        ]

    def receptive_start(self, call):
        # Input i reaches the outputs from i s − low to i s − low + e − 1.
        window = call.geometry.window
        per_axis = zip(window.kernel, window.stride, window.dilation, window.low, strict=True)
        return tuple(-((d * (k - 1) - low) // s) for k, s, d, low in per_axis)[geometry.SPATIAL_AXES - window.rank :]


class Linear(Implementation):
    """y = x wᵀ + b on the last axis of x: a 1×1 convolution on one pixel per row."""

    per_image = True
    saves: tuple[str, ...] | None = ("x", "w")

    def infer(self, op, shapes, dtype, settings):
        x, w, b = shapes
        if len(x) == 0:
            raise ShapeError(f"{op.name}: input is a single number; expected (N, features) or (…, features)")
        if len(w) != 2 or 0 in w:
            raise ShapeError(f"{op.name}: w has shape {w}; expected (outputs, features) with features = {x[-1]}")
        if x[-1] != w[1]:
            hint = "; w.T would fit: the shape is (outputs, features)" if x[-1] == w[0] else ""
            if not hint and len(x) > 2 and None not in x[1:] and math.prod(x[1:]) == w[1]:
                hint = f"; flatten the input first: {(x[0], w[1])}"
            raise ShapeError(f"{op.name}: w {w} expects {w[1]} features, the input {x} has {x[-1]}{hint}")
        check_bias(op.name, b, w[0], w)
        rows = None if None in x else math.prod(x[:-1])
        window = geometry.window(op.name, (1,), 1)
        settings = {"groups": 1, "algorithm": "direct"}
        return (*x[:-1], w[0]), described(op.name, window, rows, w[0], w[1], settings)

    def forward(self, call, arrays, out=None, epilogue=None, packed=None):
        x, w, b = arrays
        if x.ndim != 2:
            x = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        y, held = call.empty(out), bounds(epilogue)

        def write(rows):
            if packed is not None or not linear.forward(x, w, b, rows, *held):
                call.geometry.primitives.forward(x, w, b, rows, packed, *held)

        into(y, (len(x), len(w)), write)
        return y, (), (x, w)

    def packing(self, call, arena):
        return call.geometry.primitives.pack(arena)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, w = saved
        primitives = call.geometry.primitives
        dx, dw, db = call.gradients(needs_gradient, out)
        if dy.ndim != 2:
            dy = dy.reshape(len(x), len(w))

        def write(rows):
            if not linear.backward_input(dy, w, rows):
                primitives.backward_input(dy, w, rows)

        if dx is not None:
            into(dx, x.shape, write)
        if dw is not None and not linear.backward_weight(x, dy, dw):
            primitives.backward_weight(x, dy, dw)
        if db is not None:
            conv.backward_bias(dy, db)
        return dx, dw, db

    def fuses_activation(self, call, activation):
        return bounds(activation) is not None

    def folds_affine(self, call):
        return len(call.output) == 2  # elsewhere the features are not the channels

    def fold_affine(self, call, arrays, scale, shift):
        x, w, b = arrays
        return x, (w * scale[:, None]).astype(call.dtype), with_bias(call, b, scale, shift)

    def multiply_adds(self, call):
        return call.geometry.multiply_adds

    def receptive_window(self, call):
        return None


def bounds(activation):
    """(lower, upper) between which the call of an activation holds y, as the kernels do while they write it.

    () for no activation, None for one that does something else.
    """
    if activation is None:
        return ()
    if not isinstance(activation.op.implementation, Elementwise):
        return None
    function, numbers = activation.geometry
    return (0.0, math.inf) if function is activations.RELU else numbers if function is activations.CLIP else None


def with_bias(call, b, scale, shift):
    """The biases that give scale · y + shift."""
    return (shift if b is None else b * scale + shift).astype(call.dtype)


def into(result, shape, write):
    """Let ``write`` fill ``result`` seen in ``shape``; by way of a new array where its strides allow no such view."""
    if result.shape == shape:
        write(result)
        return
    rows = result.reshape(shape)
    write(rows)
    if not np.may_share_memory(rows, result):  # reshape has made a copy
        result[...] = rows.reshape(result.shape)
