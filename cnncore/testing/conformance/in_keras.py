"""Keras as a framework to compare with, forward: what keras.ops has, on whichever backend Keras has been configured for."""

import keras
import numpy as np
from keras import ops

from .adapter import NotExpressible

__all__ = ["FORWARD_ONLY", "NAME", "OPERATORS", "run"]

NAME = f"Keras {keras.__version__} on {keras.config.backend()}"
FORWARD_ONLY = True  # its gradients are those of the backend, each taken in another way


def run(function, settings, arrays, differentiable, dy):
    """y of a function of the backend's tensors; no gradients.

    Parameters
    ----------
    function : callable
        One of ``OPERATORS``.
    settings : mapping
        The operator's settings.
    arrays : sequence of array or None
        Its arrays.
    differentiable : sequence of bool
        Not used.
    dy : None
        Not used.

    Returns
    -------
    tuple of array and None
        y.
    """
    tensors = [None if a is None else ops.convert_to_tensor(a, dtype=str(a.dtype)) for a in arrays]
    return np.asarray(ops.convert_to_numpy(function(settings, *tensors))), None


def require(condition, why):
    """Raise unless Keras can do it."""
    if not condition:
        raise NotExpressible(why)


def per_axis(value, rank):
    return tuple(value) if hasattr(value, "__len__") else (value,) * rank


def named(padding):
    """Padding by its name in Keras, which has no numbers."""
    if padding == "same_upper":
        return "same"
    none = padding == "valid" or (not isinstance(padding, str) and not np.any(padding))
    require(none, "padding is 'valid' or 'same'")
    return "valid"


def conv(s, x, w, b=None):
    require(s["padding_mode"] == "zeros", "conv pads with zeros")
    rank = x.ndim - 2
    stride, dilation = per_axis(s["stride"], rank), per_axis(s["dilation"], rank)
    require(max(stride) == 1 or max(dilation) == 1, "strides and dilation above 1 exclude each other")
    kernel = ops.transpose(w, (*range(2, w.ndim), 1, 0))
    y = ops.conv(x, kernel, stride, named(s["padding"]), "channels_first", dilation)
    return y if b is None else y + ops.reshape(b, (-1, *[1] * rank))


def pooled(function):
    def pool(s, x):
        rank = x.ndim - 2
        require(not s["ceil_mode"], "pooling rounds sizes down")
        require(set(per_axis(s["dilation"], rank)) == {1}, "pooling has no dilation")
        require(s.get("divisor_override") is None, "pooling has no divisor")
        kernel = per_axis(s["kernel_size"], rank)
        stride = kernel if s["stride"] is None else per_axis(s["stride"], rank)
        padding = named(s["padding"])
        if "count_include_pad" in s:
            require(padding == "valid" or not s["count_include_pad"], "average pooling never counts padding")
        return function(x, kernel, stride, padding, "channels_first")

    return pool


def over_image(function):
    return lambda s, x: function(x, axis=tuple(range(2, x.ndim)), keepdims=s["keepdims"])


def along(function):
    return lambda s, x: function(x, axis=s["axis"])


def hard_sigmoid(s, x):
    require(s["compat"] is None and (s["alpha"], s["beta"]) == (1 / 6, 0.5), "hard_sigmoid has slope 1/6 alone")
    return ops.hard_sigmoid(x)


OPERATORS = {
    "conv": conv,
    "linear": lambda s, x, w, b=None: ops.matmul(x, ops.transpose(w)) + (0 if b is None else b),
    "max_pool": pooled(ops.max_pool),
    "avg_pool": pooled(ops.average_pool),
    "global_avg_pool": over_image(ops.mean),
    "global_max_pool": over_image(ops.max),
    "relu": lambda s, x: ops.relu(x),
    "relu6": lambda s, x: ops.relu6(x),
    "leaky_relu": lambda s, x: ops.leaky_relu(x, {None: s["negative_slope"], "tf": 0.2, "caffe": 0.0}[s["compat"]]),
    "elu": lambda s, x: ops.elu(x, s["alpha"]),
    "celu": lambda s, x: ops.celu(x, s["alpha"]),
    "selu": lambda s, x: ops.selu(x),
    "gelu": lambda s, x: ops.gelu(x, approximate=s["approximate"] == "tanh"),
    "silu": lambda s, x: ops.silu(x),
    "sigmoid": lambda s, x: ops.sigmoid(x),
    "log_sigmoid": lambda s, x: ops.log_sigmoid(x),
    "hard_sigmoid": hard_sigmoid,
    "hard_tanh": lambda s, x: ops.clip(x, s["min_val"], s["max_val"]),
    "softsign": lambda s, x: ops.softsign(x),
    "squareplus": lambda s, x: ops.squareplus(x, s["b"]),
    "sparse_plus": lambda s, x: ops.sparse_plus(x),
    "sparse_sigmoid": lambda s, x: ops.sparse_sigmoid(x),
    "softshrink": lambda s, x: ops.soft_shrink(x, s["lambd"]),
    "hardshrink": lambda s, x: ops.hard_shrink(x, s["lambd"]),
    "tanhshrink": lambda s, x: ops.tanh_shrink(x),
    "threshold": lambda s, x: ops.threshold(x, s["threshold"], s["value"]),
    "tanh": lambda s, x: ops.tanh(x),
    "exp": lambda s, x: ops.exp(x),
    "abs": lambda s, x: ops.abs(x),
    "glu": along(ops.glu),
    "softmax": along(ops.softmax),
    "log_softmax": along(ops.log_softmax),
    "sparsemax": along(ops.sparsemax),
    "concat": lambda s, *xs: ops.concatenate(xs, s["axis"]),
    "matmul": lambda s, x, z: ops.matmul(x, z),
}
