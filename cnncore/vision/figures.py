"""Explanations as figures of matplotlib (``pip install 'cnncore[plot]'``).

Figures are made without pyplot: nothing global changes, nothing is shown until the program shows or saves them, and
threads may draw at the same time. Notebooks show a figure that a cell returns; ``figure.savefig(path)`` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ShapeError
from ..nets.net import Net
from .attribution import filters, grad_cam, guided_backpropagation, occlusion, saliency

__all__ = ["figure", "plot_feature_maps", "plot_filters", "plot_map"]

SIGNED, POSITIVE = "RdBu_r", "cubehelix"  # colours of maps with values below 0, and of others
CELL_INCHES = 1.6
MOST_COLUMNS = 8
MOST_PLANES = 64


def new_figure(place: str, width: float, height: float) -> Any:
    """An empty figure, or an error that names the extra."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"{place}: figures need matplotlib ({error}): pip install 'cnncore[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def as_picture(pixels: ArrayLike) -> NDArray[Any]:
    """An image (H, W), (H, W, 3), or (C, H, W) as a net takes it, scaled to 0 to 1, for matplotlib."""
    image = np.asarray(pixels)
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
        image = np.moveaxis(image, 0, -1)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim != 2 and not (image.ndim == 3 and image.shape[2] == 3):
        raise ShapeError(
            f"plot: an image has shape {np.shape(pixels)}; expected (H, W), (H, W, 3), (1, H, W) or (3, H, W)"
        )
    low, high = float(image.min()), float(image.max())
    if image.dtype == np.uint8:
        low, high = 0.0, 255.0
    return (image.astype(np.float64) - low) / ((high - low) or 1.0)


def draw_map(axes: Any, heat: NDArray[Any], image: NDArray[Any] | None = None, title: str = "") -> None:
    """A map on axes of a figure, over an image where there is one, with its scale beside it."""
    limit = float(np.abs(heat).max()) or 1.0
    signed = bool((heat < 0).any())
    colors: dict[str, Any] = {"cmap": SIGNED if signed else POSITIVE, "vmin": -limit if signed else 0.0, "vmax": limit}
    if image is not None:
        height, width = image.shape[:2]
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        colors |= {"extent": (-0.5, width - 0.5, height - 0.5, -0.5), "alpha": 0.6, "interpolation": "bilinear"}
    drawn = axes.imshow(heat, **colors)
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=9)
    axes.figure.colorbar(drawn, ax=axes, shrink=0.75)


def plot_map(heat: ArrayLike, image: ArrayLike | None = None, title: str = "") -> Any:
    """A map as a figure, over an image if given: saliency, Grad-CAM, occlusion, a class activation map.

    Parameters
    ----------
    heat : array (h, w)
        Map of one image. Maps with values below 0 have two colours around 0.
    image : array (H, W), (H, W, 3) or (C, H, W), optional
        Pixels, or the image as the net takes it.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        ``heat`` is not one map, or ``image`` not one image.
    ImportError
        matplotlib is missing: pip install 'cnncore[plot]'.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> drawn = cnncore.explain.plot_map(np.eye(7), np.zeros((28, 28), np.uint8))        # doctest: +SKIP
    >>> drawn.savefig("map.png")                                                        # doctest: +SKIP
    """
    heat = one_map("plot_map", heat)
    drawn = new_figure("plot_map", 2.5 * CELL_INCHES, 2 * CELL_INCHES)
    draw_map(drawn.subplots(), heat, None if image is None else as_picture(image), title)
    return drawn


def one_map(place: str, heat: ArrayLike) -> NDArray[Any]:
    """``heat`` as a map (h, w) of numbers."""
    array = np.asarray(heat, np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ShapeError(f"{place}: the map has shape {array.shape}; expected (h, w), such as heat[0] of one image")
    return np.nan_to_num(array)


def plot_planes(place: str, planes: NDArray[Any], titles: Sequence[str], most: int) -> Any:
    """Planes (count, h, w) side by side, all on one scale."""
    shown = np.nan_to_num(np.asarray(planes, np.float64)[:most])
    columns = min(len(shown), MOST_COLUMNS)
    rows = math.ceil(len(shown) / columns)
    drawn = new_figure(place, CELL_INCHES * columns + 0.6, CELL_INCHES * rows)
    limit = float(np.abs(shown).max()) or 1.0
    signed = bool((shown < 0).any())
    grid = drawn.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, plane, title in zip(grid.flat, shown, titles, strict=False):
        low = -limit if signed else 0.0
        last = axes.imshow(plane, cmap=SIGNED if signed else POSITIVE, vmin=low, vmax=limit)
        axes.set_title(title, fontsize=7)
    drawn.colorbar(last, ax=grid, shrink=0.75)
    return drawn


def plot_feature_maps(maps: ArrayLike, most: int = MOST_PLANES) -> Any:
    """The maps of a node for one image as a figure, one picture per channel, on one scale.

    Parameters
    ----------
    maps : array (C, h, w)
        As an array of :func:`feature_maps`, of one image.
    most : int, optional
        Most channels that are shown.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        ``maps`` is not (C, h, w).
    ImportError
        matplotlib is missing: pip install 'cnncore[plot]'.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> net = cnncore.models.lenet()
    >>> maps = cnncore.explain.feature_maps(net, np.zeros((1, 1, 32, 32), np.float32), ["c1"])["c1"]
    >>> drawn = cnncore.explain.plot_feature_maps(maps[0])                               # doctest: +SKIP
    """
    planes = np.asarray(maps)
    if planes.ndim != 3 or 0 in planes.shape:
        raise ShapeError(f"plot_feature_maps: maps have shape {planes.shape}; expected (C, h, w), such as maps[0]")
    return plot_planes("plot_feature_maps", planes, [f"channel {c}" for c in range(len(planes))], most)


def plot_filters(net: Net, node: str, most: int = MOST_PLANES) -> Any:
    """The filters of a convolution as a figure: every kernel, output after output, on one scale.

    Parameters
    ----------
    net : Net
    node : str
        The name of a convolution with two spatial axes.
    most : int, optional
        Most kernels that are shown.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    GraphError
        There is no node of this name, or it has no weights.
    ShapeError
        The weights are not those of a convolution with two spatial axes.
    ImportError
        matplotlib is missing: pip install 'cnncore[plot]'.

    Examples
    --------
    >>> import cnncore
    >>> drawn = cnncore.explain.plot_filters(cnncore.models.lenet(), "c1")               # doctest: +SKIP
    """
    w = filters(net, node)
    if w.ndim != 4:
        raise ShapeError(f"plot_filters: the weights of {node} have shape {w.shape}; expected (outputs, inputs, H, W)")
    titles = [f"{k} ← {c}" for k in range(w.shape[0]) for c in range(w.shape[1])]
    return plot_planes("plot_filters", w.reshape(-1, *w.shape[2:]), titles, most)


def figure(
    net: Net, x: ArrayLike, target: int | None = None, node: str | None = None, title: str = "", size: int = 4
) -> Any:
    """One image explained: itself, saliency, guided backpropagation, Grad-CAM and occlusion side by side.

    Parameters
    ----------
    net : Net
        With one input of two spatial axes.
    x : array (1, C, H, W)
        One image as the net takes it, with 1 or 3 channels.
    target : int, optional
        The class; by default that with the largest score.
    node : str, optional
        Of Grad-CAM, as for :func:`grad_cam`.
    title : str, optional
    size : int, optional
        Size of the windows of :func:`occlusion`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        ``x`` is not one image.
    GraphError, SettingError
        As for :func:`grad_cam`.
    ImportError
        matplotlib is missing: pip install 'cnncore[plot]'.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> net = cnncore.models.small_inception(seed=0)
    >>> drawn = cnncore.explain.figure(net, np.ones((1, 1, 28, 28), np.float32), target=3)      # doctest: +SKIP
    """
    if np.ndim(x) != 4 or len(np.asarray(x)) != 1:
        raise ShapeError(f"figure: x has shape {np.shape(x)}; expected one image, (1, C, H, W)")
    first = net.graph.inputs[0]
    picture = as_picture(first.channels_first(np.asarray(x))[0])
    guided = first.channels_first(guided_backpropagation(net, x, target))
    panels = (
        ("saliency", saliency(net, x, target), False),
        ("guided backpropagation", guided.sum(axis=1), False),
        ("Grad-CAM", grad_cam(net, x, target, node), True),
        (f"occlusion, windows of {size}", occlusion(net, x, target, size), True),
    )
    drawn = new_figure("figure", 1.9 * CELL_INCHES * (len(panels) + 1), 2 * CELL_INCHES)
    axes = drawn.subplots(1, len(panels) + 1)
    axes[0].imshow(picture, cmap="gray", vmin=0, vmax=1)
    axes[0].set_axis_off()
    axes[0].set_title("image", fontsize=9)
    for each, (name, heat, over) in zip(axes[1:], panels, strict=True):
        draw_map(each, one_map("figure", heat[0]), picture if over else None, name)
    if title:
        drawn.suptitle(title)
    return drawn
