"""Conversion of a linear classifier's weights to those of a convolution, and back.

A linear layer on a flattened C × H × W image is a convolution with an H × W kernel: the same numbers in another shape,
and in another order if images were flattened channels last. cnncore.linear_as_conv uses them without conversion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import choice, integer, ordinary_array
from ..errors import SettingError, ShapeError

__all__ = ["conv_to_linear", "linear_to_conv"]

ORDERS = ("channels_first", "channels_last")
# Relative to the largest score: more than rounding errors, less than the effect of any permutation of pixels.
EXAMPLE_LIMIT = 1e-3


def linear_to_conv(
    w: ArrayLike,
    image_shape: Sequence[int],
    order: str = "channels_first",
    example: tuple[ArrayLike, ArrayLike] | None = None,
) -> NDArray[Any]:
    """Convert weights (outputs, C · \\*spatial) of a linear layer to those of a convolution, (outputs, C, \\*spatial).

    Parameters
    ----------
    w : array (outputs, C · \\*spatial)
        The weights of the linear layer.
    image_shape : sequence of int
        (C, \\*spatial) of the images that were flattened.
    order : str, default "channels_first"
        How they were flattened: "channels_first" (C, H, W), as PyTorch, Caffe and cnncore do, or "channels_last" (H, W,
        C), as TensorFlow does.
    example : tuple of two arrays, optional
        A pair (image, scores): an image of that shape and the linear layer's output for it, without bias.

    Returns
    -------
    array (outputs, C, \\*spatial)
        The weights of the convolution.

    Raises
    ------
    ShapeError
        The shapes of weights, images and example do not fit each other.
    SettingError
        ``order`` is neither, or the weights do not reproduce the example; if those of the other order do, the error
        says so.

    Examples
    --------
    >>> linear_to_conv(np.array([[1., 2., 3., 4.]]), (2, 2), order="channels_last")
    array([[[1., 3.],
            [2., 4.]]])
    """
    place = "linear_to_conv"
    w = ordinary_array(place, "w", w)
    shape = tuple(integer(place, f"image_shape[{i}]", extent, 1) for i, extent in enumerate(image_shape))
    choice(*ORDERS)(place, "order", order)
    if not 2 <= len(shape) <= 4:
        raise ShapeError(f"{place}: image_shape is {shape}; expected (C, L), (C, H, W) or (C, D, H, W)")
    if w.ndim != 2 or w.shape[1] != math.prod(shape):
        raise ShapeError(
            f"{place}: w has shape {w.shape}; images of {shape} flatten to {math.prod(shape)} features, so w must have shape "
            f"(outputs, {math.prod(shape)})"
        )
    made = _unflattened(w, shape, order)
    if example is not None:
        _check_example(place, made, w, shape, order, example)
    return np.ascontiguousarray(made)


def conv_to_linear(w: ArrayLike, order: str = "channels_first") -> NDArray[Any]:
    """Convert weights (outputs, C, \\*spatial) of a convolution to those of the equivalent linear layer on flattened
    images.

    The inverse of :func:`linear_to_conv`.

    Parameters
    ----------
    w : array (outputs, C, \\*spatial)
        The weights of the convolution, with one to three spatial axes.
    order : str, default "channels_first"
        How images will be flattened, "channels_first" or "channels_last".

    Returns
    -------
    array (outputs, C · \\*spatial)
        The weights of the linear layer.

    Raises
    ------
    ShapeError
        The weights are not those of a convolution with one to three spatial axes, or are empty.
    SettingError
        ``order`` is neither of these.

    Examples
    --------
    >>> conv_to_linear(np.array([[[1., 3.], [2., 4.]]]), order="channels_last")
    array([[1., 2., 3., 4.]])
    """
    place = "conv_to_linear"
    w = ordinary_array(place, "w", w)
    choice(*ORDERS)(place, "order", order)
    if not 3 <= w.ndim <= 5 or 0 in w.shape:
        raise ShapeError(
            f"{place}: w has shape {w.shape}; expected (outputs, C, *spatial) with one to three spatial axes"
        )
    rows = w if order == "channels_first" else np.moveaxis(w, 1, -1)
    return np.ascontiguousarray(rows.reshape(len(w), -1))


def _unflattened(w: NDArray[Any], shape: tuple[int, ...], order: str) -> NDArray[Any]:
    """The rows of w as images (C, *spatial)."""
    if order == "channels_first":
        return w.reshape(len(w), *shape)
    return np.moveaxis(w.reshape(len(w), *shape[1:], shape[0]), -1, 1)


def _check_example(
    place: str,
    made: NDArray[Any],
    w: NDArray[Any],
    shape: tuple[int, ...],
    order: str,
    example: tuple[ArrayLike, ArrayLike],
) -> None:
    """Raise unless the converted weights reproduce the scores of the example."""
    image, scores = (ordinary_array(place, f"example[{i}]", a).astype(np.float64) for i, a in enumerate(example))
    if image.shape != shape or scores.shape != (len(w),):
        raise ShapeError(
            f"{place}: example has an image of shape {image.shape} and scores of shape {scores.shape}; expected {shape} and "
            f"({len(w)},)"
        )

    def error(weights: NDArray[Any]) -> Any:
        return np.abs(np.tensordot(weights.astype(np.float64), image, image.ndim) - scores).max()

    limit = EXAMPLE_LIMIT * max(np.abs(scores).max(), np.finfo(np.float32).tiny)
    wrong = error(made)
    if not wrong <= limit:
        (other,) = set(ORDERS) - {order}
        way = (
            f"order={other!r} reproduces them"
            if error(_unflattened(w, shape, other)) <= limit
            else "neither order does: do they include the bias, or are the axes of the image in another order?"
        )
        raise SettingError(f"{place}: with order={order!r} the example's scores differ by {wrong:.3g}; {way}")
