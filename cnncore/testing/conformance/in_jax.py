"""JAX as a framework to compare with: what jax.numpy, jax.lax and jax.nn have by themselves, with JAX's derivatives."""

import math

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from .adapter import NotExpressible

__all__ = ["NAME", "OPERATORS", "run"]

NAME = f"JAX {jax.__version__}"
jax.config.update("jax_enable_x64", True)


def run(function, settings, arrays, differentiable, dy):
    """y of a function of JAX's arrays, and with dy the gradients of the differentiable ones.

    Parameters
    ----------
    function : callable
        One of ``OPERATORS``.
    settings : mapping
        The operator's settings.
    arrays : sequence of array or None
        Its arrays.
    differentiable : sequence of bool
        Which of them have a gradient.
    dy : array or None
        The gradient with respect to y; None: no gradients.

    Returns
    -------
    tuple of array and (list of array or None)
        y and the gradients.
    """
    tensors = [None if a is None else jnp.asarray(a) for a in arrays]
    if dy is None or not any(differentiable):
        return np.asarray(function(settings, *tensors)), None
    chosen = [i for i, wanted in enumerate(differentiable) if wanted]

    def of_chosen(*given):
        every = list(tensors)
        for i, tensor in zip(chosen, given, strict=True):
            every[i] = tensor
        return function(settings, *every)

    y, backward = jax.vjp(of_chosen, *(tensors[i] for i in chosen))
    return np.asarray(y), [np.asarray(g) for g in backward(jnp.asarray(dy, y.dtype))]


def require(condition, why):
    """Raise unless JAX can do it."""
    if not condition:
        raise NotExpressible(why)


def per_axis(value, rank):
    return tuple(value) if hasattr(value, "__len__") else (value,) * rank


def pairs(padding, rank):
    """Padding as JAX takes it: pairs, or a name."""
    if isinstance(padding, str):
        names = {"valid": "VALID", "same_upper": "SAME", "same_lower": "SAME_LOWER"}
        require(padding in names, f"no padding {padding!r}")
        return names[padding]
    if hasattr(padding, "__len__") and hasattr(padding[0], "__len__"):
        return [tuple(pair) for pair in padding]
    return [(p, p) for p in per_axis(padding, rank)]


def conv(s, x, w, b=None):
    require(s["padding_mode"] == "zeros", "conv_general_dilated pads with zeros")
    rank = x.ndim - 2
    y = lax.conv_general_dilated(
        x,
        w,
        per_axis(s["stride"], rank),
        pairs(s["padding"], rank),
        rhs_dilation=per_axis(s["dilation"], rank),
        feature_group_count=s["groups"],
    )
    return y if b is None else y + by_channel(b, x)


def by_channel(p, x):
    return p.reshape(-1, *[1] * (x.ndim - 2))


def reduced(s, x, start, combine, **changed):
    """reduce_window on the windows of a pooling."""
    s, rank = {**s, **changed}, x.ndim - 2
    require(not s["ceil_mode"], "reduce_window rounds sizes down")
    kernel = per_axis(s["kernel_size"], rank)
    stride = kernel if s["stride"] is None else per_axis(s["stride"], rank)
    padding = pairs(s["padding"], rank)
    dilation = per_axis(s["dilation"], rank)
    require(not isinstance(padding, str) or set(dilation) == {1}, "names of padding do not count dilation")
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[2:], kernel, stride, padding)
    return lax.reduce_window(
        x,
        np.asarray(start, x.dtype),
        combine,
        (1, 1, *kernel),
        (1, 1, *stride),
        [(0, 0), (0, 0), *padding],
        window_dilation=(1, 1, *dilation),
    )


def avg_pool(s, x):
    total = reduced(s, x, 0, lax.add)
    if s["divisor_override"]:
        return total / s["divisor_override"]
    if s["count_include_pad"]:
        return total / math.prod(per_axis(s["kernel_size"], x.ndim - 2))
    return total / reduced(s, jnp.ones_like(x), 0, lax.add)


def over_image(function):
    def pool(s, x):
        return function(x, axis=tuple(range(2, x.ndim)), keepdims=s["keepdims"])

    return pool


def batch_norm(s, x, w=None, b=None, mean=None, variance=None):
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axes) if s["training"] else mean
    variance = x.var(axes) if s["training"] else variance
    y = jax.nn.standardize(x, None, by_channel(mean, x), by_channel(variance, x), epsilon=s["eps"])
    y = y if w is None else y * by_channel(w, x)
    return y if b is None else y + by_channel(b, x)


def along(function):
    return lambda s, x: function(x, axis=s["axis"])


OPERATORS = {
    "conv": conv,
    "depthwise_conv": lambda s, x, w, b=None: conv({**s, "groups": x.shape[1]}, x, w, b),
    "linear": lambda s, x, w, b=None: x @ w.T + (0 if b is None else b),
    "max_pool": lambda s, x: reduced(s, x, -np.inf, lax.max),
    "min_pool": lambda s, x: reduced(s, x, np.inf, lax.min),
    "sum_pool": lambda s, x: reduced(s, x, 0, lax.add),
    "avg_pool": avg_pool,
    "global_avg_pool": over_image(jnp.mean),
    "global_max_pool": over_image(jnp.max),
    "identity": lambda s, x: x,
    "relu": lambda s, x: jax.nn.relu(x),
    "relu6": lambda s, x: jax.nn.relu6(x),
    "leaky_relu": lambda s, x: jax.nn.leaky_relu(x, {None: s["negative_slope"], "tf": 0.2, "caffe": 0.0}[s["compat"]]),
    "elu": lambda s, x: jax.nn.elu(x, s["alpha"]),
    "celu": lambda s, x: jax.nn.celu(x, s["alpha"]),
    "selu": lambda s, x: jax.nn.selu(x),
    "gelu": lambda s, x: jax.nn.gelu(x, approximate=s["approximate"] == "tanh"),
    "silu": lambda s, x: jax.nn.silu(x),
    "mish": lambda s, x: jax.nn.mish(x),
    "softsign": lambda s, x: jax.nn.soft_sign(x),
    "sigmoid": lambda s, x: jax.nn.sigmoid(x),
    "log_sigmoid": lambda s, x: jax.nn.log_sigmoid(x),
    "tanh": lambda s, x: jnp.tanh(x),
    "hard_tanh": lambda s, x: jnp.clip(x, s["min_val"], s["max_val"]),
    "squareplus": lambda s, x: jax.nn.squareplus(x, s["b"]),
    "sparse_plus": lambda s, x: jax.nn.sparse_plus(x),
    "sparse_sigmoid": lambda s, x: jax.nn.sparse_sigmoid(x),
    "exp": lambda s, x: jnp.exp(x),
    "abs": lambda s, x: jnp.abs(x),
    "glu": along(jax.nn.glu),
    "softmax": along(jax.nn.softmax),
    "log_softmax": along(jax.nn.log_softmax),
    "batch_norm": batch_norm,
    "concat": lambda s, *xs: jnp.concatenate(xs, s["axis"]),
    "matmul": lambda s, x, z: x @ z,
    "maximum": lambda s, x, z: jnp.maximum(x, z),
    "minimum": lambda s, x, z: jnp.minimum(x, z),
    "subtract": lambda s, x, z: x - z,
    "multiply": lambda s, x, z: x * z,
    "divide": lambda s, x, z: x / z,
    "power": lambda s, x, z: x**z,
    **{
        name: (lambda function: lambda s, x: function(x))(getattr(jnp, theirs))
        for name, theirs in {
            "negative": "negative", "reciprocal": "reciprocal", "sqrt": "sqrt", "log": "log", "sin": "sin", "cos": "cos",
            "tan": "tan", "asin": "arcsin", "acos": "arccos", "atan": "arctan", "sinh": "sinh", "cosh": "cosh",
            "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "floor": "floor", "ceil": "ceil", "round": "round",
        }.items()
    },
    "erf": lambda s, x: jax.scipy.special.erf(x),
}  # fmt: skip
