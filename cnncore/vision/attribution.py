"""Which pixels, features and windows a score depends on: gradients, and scores of images in part covered.

A score is that of a class before softmax or sigmoid; where it is a map, its mean. All passes are in inference mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_unmasked, integer, number
from ..errors import GraphError, SettingError, ShapeError
from ..nets.net import Net
from ..nets.output_kind import OF_SCORES, SAME_NUMBERS
from ..nets.structure import Node, Structure
from ..nets.trace import Trace

__all__ = [
    "Scores",
    "filters",
    "grad_cam",
    "gradients",
    "guided_backpropagation",
    "guided_grad_cam",
    "occlusion",
    "saliency",
]

RECTIFIERS = ("relu", "relu6", "clipped_relu", "thresholded_relu")
COVERED_AT_ONCE = 64  # images of a pass


class Scores:
    """The scores of images, one class of each chosen, and their gradients with respect to every value of the net.

    Parameters
    ----------
    net : Net
        Its first output has scores of classes, or maps of them.
    *xs : array (N, C, *spatial)
        One per input, as for a call of the net.
    target : int or sequence of int, optional
        The class, or one per image; by default that with the largest score.
    place : str, optional
        The name of the function that errors begin with.

    Attributes
    ----------
    trace : Trace
        The values of all nodes.
    value : int
        The number of the value that has the scores.
    scores : array (N, K)
    targets : int array (N,)

    Raises
    ------
    GraphError
        The first output has no scores with a gradient.
    SettingError
        There is no class ``target``.
    ShapeError
        ``xs`` hold no image, or do not fit the inputs.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=2)
    >>> g.output(g.softmax(g.global_avg_pool(x)))
    >>> found = Scores(g.build(), np.array([[[[1.0, 3.0]], [[5.0, 5.0]]]], np.float32))
    >>> found.scores, found.targets
    (array([[2., 5.]], dtype=float32), array([1]))
    >>> found.gradients()[0]
    array([[[[0. , 0. ]],
    <BLANKLINE>
            [[0.5, 0.5]]]], dtype=float32)
    """

    def __init__(
        self, net: Net, *xs: ArrayLike, target: int | Sequence[int] | None = None, place: str = "scores"
    ) -> None:
        for x in xs:
            check_unmasked(place, "x", x)
        self.trace = Trace(net, *xs)
        self.value = scores_value(net.graph)
        maps = self.trace.values[self.value]
        if net.graph.roles[self.value] != "real" or maps.ndim < 2:
            raise GraphError(f"{place}: the net's first output has no scores that could be traced back")
        if not len(maps):
            raise ShapeError(f"{place}: x has shape {np.shape(xs[0])} and contains no image; give at least one")
        self.scores = maps.reshape(*maps.shape[:2], -1).mean(axis=2)
        self.targets = chosen_classes(place, target, self.scores)

    def gradients(self, rule: Callable[[Node, NDArray[Any]], NDArray[Any]] | None = None) -> list[NDArray[Any] | None]:
        """∂score/∂value for every value of the net.

        Parameters
        ----------
        rule : callable, optional
            As for :meth:`cnncore.nets.trace.Trace.gradients`.

        Returns
        -------
        list of array or None
            By number; None where the score does not depend on a value.
        """
        seed = np.zeros_like(self.trace.values[self.value])
        seed[np.arange(len(seed)), self.targets] = 1 / seed[0, 0].size
        return self.trace.gradients({self.trace.structure.names[self.value]: seed}, rule)


def scores_value(structure: Structure) -> int:
    """The number of the value with the scores: of the first output, before softmax or sigmoid."""
    inputs = len(structure.inputs)
    first = value = structure.outputs[0]
    while value >= inputs:
        node = structure.nodes[value - inputs]
        if node.op.name not in (*SAME_NUMBERS, *OF_SCORES):
            return first
        (value,) = (v for v in node.arguments if v is not None)
        if node.op.name in OF_SCORES:
            return value
    return first


def chosen_classes(place: str, target: int | Sequence[int] | None, scores: NDArray[Any]) -> NDArray[Any]:
    """One class per image."""
    count, classes = scores.shape
    if target is None:
        return scores.argmax(axis=1)
    found = np.asarray(target)
    if (
        found.dtype.kind not in "iu"
        or found.shape not in ((), (count,))
        or not ((found >= 0) & (found < classes)).all()
    ):
        several = f", or one for each of {count} images" if count > 1 else ""
        raise SettingError(f"{place}: target must be an integer from 0 to {classes - 1}{several}, got {target!r}")
    return np.broadcast_to(found, count).astype(np.intp)


def of_one_input(place: str, net: Net) -> None:
    """Raise unless the net takes one array."""
    if len(net.graph.inputs) != 1:
        names = ", ".join(row.name for row in net.graph.inputs)
        raise GraphError(
            f"{place}: the net takes {len(net.graph.inputs)} inputs ({names}); gradients(net, (x1, x2, …), names) takes "
            "any number"
        )


# ── Gradients ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def gradients(
    net: Net,
    x: ArrayLike | tuple[ArrayLike, ...],
    names: Iterable[str],
    target: int | Sequence[int] | None = None,
    guided: bool = False,
) -> dict[str, NDArray[Any]]:
    """The gradients of a score with respect to values of the net by name: inputs, and what inner nodes make.

    Parameters
    ----------
    net : Net
    x : array (N, C, *spatial), or a tuple of arrays
        One array per input.
    names : iterable of str
        Names of nodes or inputs.
    target : int or sequence of int, optional
        The class, or one per image; by default that with the largest score.
    guided : bool, optional
        Pass only positive gradients through rectifiers: :func:`guided_backpropagation`.

    Returns
    -------
    dict of str to array
        Name → ∂score/∂value, of the value's shape; zeros where the score does not depend on it.

    Raises
    ------
    GraphError
        There is no node of a name, or the net has no scores.
    SettingError
        There is no class ``target``.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> g.output(g.global_avg_pool(g.relu(g.multiply(x, x, name="square"))))
    >>> found = cnncore.explain.gradients(g.build(), np.array([[[[3.0, 4.0]]]], np.float32), ["input", "square"])
    >>> found["square"], found["input"]
    (array([[[[0.5, 0.5]]]], dtype=float32), array([[[[3., 4.]]]], dtype=float32))
    """
    xs = x if isinstance(x, tuple) else (x,)
    found = Scores(net, *xs, target=target, place="gradients")
    every = found.gradients(guide if guided else None)
    made = {}
    for name in dict.fromkeys(names):
        value = net.graph.number(name, "gradients")
        made[name] = gradient_of(found, every, value)
        if value < len(net.graph.inputs):
            made[name] = net.graph.inputs[value].arranged(made[name])
    return made


def gradient_of(found: Scores, every: Sequence[NDArray[Any] | None], value: int) -> NDArray[Any]:
    """The gradient of a value; zeros where the score does not depend on it."""
    gradient = every[value]
    return np.zeros_like(found.trace.values[value], found.scores.dtype) if gradient is None else gradient


def guide(node: Node, dy: NDArray[Any]) -> NDArray[Any]:
    """The rule of guided backpropagation: rectifiers pass positive gradients alone."""
    return np.maximum(dy, 0) if node.op.name in RECTIFIERS else dy


def saliency(net: Net, x: ArrayLike, target: int | Sequence[int] | None = None) -> NDArray[Any]:
    """Where a small change of a pixel changes the score most: max over channels of |∂score/∂x|.

    Parameters
    ----------
    net : Net
        With one input.
    x : array (N, C, *spatial)
        The net's input.
    target : int or sequence of int, optional
        The class, or one per image; by default that with the largest score.

    Returns
    -------
    array (N, *spatial)
        0 or more.

    Raises
    ------
    GraphError
        The net has several inputs, or no scores.
    SettingError
        There is no class ``target``.

    References
    ----------
    Simonyan, Vedaldi & Zisserman 2014, "Deep inside convolutional networks", arXiv:1312.6034, section 3.1.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> g.output(g.global_avg_pool(g.abs(x)))
    >>> cnncore.explain.saliency(g.build(), np.array([[[[-2.0, 3.0]]]], np.float32))
    array([[[0.5, 0.5]]], dtype=float32)
    """
    of_one_input("saliency", net)
    found = Scores(net, x, target=target, place="saliency")
    return strength(gradient_of(found, found.gradients(), 0))


def strength(gradient: NDArray[Any]) -> NDArray[Any]:
    """The largest magnitude among the channels: (N, C, *spatial) → (N, *spatial)."""
    return np.abs(gradient).max(axis=1)


def guided_backpropagation(net: Net, x: ArrayLike, target: int | Sequence[int] | None = None) -> NDArray[Any]:
    """The gradient of the score with respect to the image, where every rectifier passes positive gradients alone. ::

        dx = [x > 0] max(dy, 0)        in place of dx = [x > 0] dy

    Its pictures are sharper than those of the gradient. It is no derivative of the net: part of what it shows is the
    image itself (Adebayo et al. 2018, arXiv:1810.03292).

    Parameters
    ----------
    net : Net
        With one input.
    x : array (N, C, *spatial)
    target : int or sequence of int, optional
        As for :func:`saliency`.

    Returns
    -------
    array of the shape of ``x``

    Raises
    ------
    GraphError, SettingError
        As for :func:`saliency`.

    References
    ----------
    Springenberg, Dosovitskiy, Brox & Riedmiller 2015, "Striving for simplicity: the all convolutional net",
    arXiv:1412.6806, section 3.4.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> g.output(g.global_avg_pool(g.subtract(g.relu(x), g.relu(g.negative(x)))))          # mean of x
    >>> cnncore.explain.guided_backpropagation(g.build(), np.array([[[[2.0, -3.0]]]], np.float32))
    array([[[[0.5, 0. ]]]], dtype=float32)
    """
    of_one_input("guided_backpropagation", net)
    found = Scores(net, x, target=target, place="guided_backpropagation")
    return net.graph.inputs[0].arranged(gradient_of(found, found.gradients(guide), 0))


# ── Grad-CAM ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def grad_cam(
    net: Net, x: ArrayLike, target: int | Sequence[int] | None = None, node: str | None = None
) -> NDArray[Any]:
    """Grad-CAM: the maps of a node, weighted by their mean gradients. ::

        α_c = mean over (h, w) of ∂score/∂f_c(h, w)        map(h, w) = max(0, Σ_c α_c f_c(h, w))

    Where the net ends in global average pooling and a linear classifier, the map of the features that are averaged is
    the positive part of their class activation map without its bias, divided by the number of positions.

    Parameters
    ----------
    net : Net
        With one input.
    x : array (N, C, *spatial)
    target : int or sequence of int, optional
        The class, or one per image; by default that with the largest score.
    node : str, optional
        The name of a node that makes maps; by default the last on the way to the score whose maps are larger than one
        position.

    Returns
    -------
    array (N, *map)
        0 or more, of the maps' extents; ``cnncore.images.overlay`` resizes it.

    Raises
    ------
    GraphError
        The net has several inputs or no scores, there is no such node, or it makes no maps that the score depends on.
    SettingError
        There is no class ``target``.

    References
    ----------
    Selvaraju, Cogswell, Das, Vedantam, Parikh & Batra 2017, "Grad-CAM", arXiv:1610.02391, equations 1 and 2.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> g.output(g.linear(g.global_avg_pool(g.relu(x, name="positive")), 2))
    >>> net = g.build(); net.parameters["linear.w"] = [[1.0], [-1.0]]
    >>> image = np.array([[[[4.0, 0.0], [-1.0, 2.0]]]], np.float32)
    >>> cnncore.explain.grad_cam(net, image, 0, "positive")
    array([[[1. , 0. ],
            [0. , 0.5]]], dtype=float32)
    """
    of_one_input("grad_cam", net)
    found = Scores(net, x, target=target, place="grad_cam")
    every = found.gradients()
    value = last_maps(found, every) if node is None else net.graph.number(node, "grad_cam")
    if value is None:
        raise GraphError("grad_cam: no node on the way to the score makes maps larger than one position")
    maps, gradient = found.trace.values[value], every[value]
    if gradient is None or maps.ndim < 3:
        raise GraphError(
            f"grad_cam: {node} makes {maps.shape}"
            + (", not maps (N, C, *spatial)" if maps.ndim < 3 else ", on which the score does not depend")
            + "; choose another node, such as the last convolution"
        )
    return weighted_by_gradients(maps, gradient)


def weighted_by_gradients(maps: NDArray[Any], gradient: NDArray[Any]) -> NDArray[Any]:
    """The formula of Grad-CAM: (N, C, *map) and its gradient → (N, *map)."""
    weights = gradient.reshape(*gradient.shape[:2], -1).mean(axis=2)
    return np.maximum(np.einsum("nc,nc...->n...", weights, maps, optimize=True), 0)


def last_maps(found: Scores, every: Sequence[NDArray[Any] | None]) -> int | None:
    """The number of the last value that makes maps larger than one position on the way to the score, or None."""
    for value in range(found.value - 1, len(found.trace.structure.inputs) - 1, -1):
        maps = found.trace.values[value]
        if every[value] is not None and maps.ndim >= 3 and min(maps.shape[2:]) > 1:
            return value
    return None


def guided_grad_cam(
    net: Net, x: ArrayLike, target: int | Sequence[int] | None = None, node: str | None = None
) -> NDArray[Any]:
    """Guided backpropagation times Grad-CAM, whose map is resized to the image. (Selvaraju et al. 2017, section 3.2.)

    Parameters
    ----------
    net : Net
        With one input of two spatial axes.
    x : array (N, C, H, W)
    target : int or sequence of int, optional
    node : str, optional
        All as for :func:`grad_cam`.

    Returns
    -------
    array of the shape of ``x``

    Raises
    ------
    GraphError, SettingError
        As for :func:`grad_cam`.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> net = cnncore.models.small_inception(seed=0)
    >>> cnncore.explain.guided_grad_cam(net, np.ones((2, 1, 28, 28), np.float32)).shape
    (2, 1, 28, 28)
    """
    from .images import resize

    of_one_input("guided_grad_cam", net)
    row = net.graph.inputs[0]
    if len(row.size) != 2:
        raise GraphError(f"guided_grad_cam: {row.name} has {len(row.size)} spatial axes; expected images (N, C, H, W)")
    guided = guided_backpropagation(net, x, target)
    extents = row.channels_first(guided).shape[2:]
    heats = [resize(heat.astype(np.float64), extents) for heat in grad_cam(net, x, target, node)]
    large = np.stack(heats)[:, None].astype(guided.dtype)
    return guided * row.arranged(np.broadcast_to(large, row.channels_first(guided).shape))


# ── Occlusion ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def occlusion(
    net: Net,
    x: ArrayLike,
    target: int | Sequence[int] | None = None,
    size: int | Sequence[int] = 4,
    stride: int | Sequence[int] | None = None,
    value: float = 0.0,
) -> NDArray[Any]:
    """How much lower the score is where a window of the image is covered: score(x) − score(x with the window covered).

    Parameters
    ----------
    net : Net
        With one input.
    x : array (N, C, *spatial)
    target : int or sequence of int, optional
        The class, or one per image; by default that with the largest score.
    size : int or sequence of int, optional
        Size of the window, per axis.
    stride : int or sequence of int, optional
        Between windows, per axis; by default half the size. The last window of an axis ends with the image.
    value : float, optional
        What covers: a number in the net's input, after preprocessing.

    Returns
    -------
    array (N, *positions)
        One number per window.

    Raises
    ------
    GraphError
        The net has several inputs, or no scores.
    SettingError
        There is no class ``target``, or the window is larger than the image.

    References
    ----------
    Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks", arXiv:1311.2901, section 4.2.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> g.output(g.global_avg_pool(x))
    >>> cnncore.explain.occlusion(g.build(), np.array([[[[4.0, 0.0], [8.0, 4.0]]]], np.float32), size=1)
    array([[[1., 0.],
            [2., 1.]]], dtype=float32)
    """
    of_one_input("occlusion", net)
    row = net.graph.inputs[0]
    found = Scores(net, x, target=target, place="occlusion")
    image = found.trace.values[0]
    starts = window_starts(size, stride, image.shape[2:])
    value = number()("occlusion", "value", value)
    extents = axes_of("size", size, image.ndim - 2)
    made = np.empty((len(image), *(len(axis) for axis in starts)), found.scores.dtype)
    scoring = net if found.value == net.graph.outputs[0] else net.sharing_arrays([found.value])
    for n, target_of_image in enumerate(found.targets):
        places = list(np.ndindex(*made.shape[1:]))
        for chunk in (places[i : i + COVERED_AT_ONCE] for i in range(0, len(places), COVERED_AT_ONCE)):
            covered = np.repeat(image[n : n + 1], len(chunk), axis=0)
            for picture, place in zip(covered, chunk, strict=True):
                corner = (axis[i] for axis, i in zip(starts, place, strict=True))
                picture[:, *(slice(a, a + e) for a, e in zip(corner, extents, strict=True))] = value
            outputs = scoring(np.ascontiguousarray(row.arranged(covered)), training=False)
            maps = (outputs[0] if isinstance(outputs, tuple) else outputs)[:, target_of_image]
            for place, score in zip(chunk, maps.reshape(len(chunk), -1).mean(axis=1), strict=True):
                made[n, *place] = found.scores[n, target_of_image] - score
    return made


def window_starts(
    size: int | Sequence[int], stride: int | Sequence[int] | None, extents: Sequence[int]
) -> list[list[int]]:
    """Per axis, where windows begin; the last ends with the axis.

    >>> window_starts(4, 3, (8, 9)), window_starts(2, None, (4,))
    ([[0, 3, 4], [0, 3, 5]], [[0, 1, 2]])
    """
    sizes = axes_of("size", size, len(extents))
    steps = [max(1, each // 2) for each in sizes] if stride is None else axes_of("stride", stride, len(extents))
    for each, extent in zip(sizes, extents, strict=True):
        if each > extent:
            raise SettingError(f"occlusion: a window of size {size} is larger than the image {tuple(extents)}")
    rows: Iterator[tuple[int, int, int]] = zip(sizes, steps, extents, strict=True)
    return [sorted({*range(0, extent - each, step), extent - each}) for each, step, extent in rows]


def axes_of(name: str, setting: int | Sequence[int], axes: int) -> list[int]:
    """A setting per axis, each an integer from 1."""
    given = tuple(setting) if isinstance(setting, Sequence) else (setting,) * axes
    if len(given) != axes:
        raise SettingError(f"occlusion: {name} has {len(given)} numbers for {axes} spatial axes, got {setting!r}")
    return [integer("occlusion", name, each, 1) for each in given]


# ── What a node has ────────────────────────────────────────────────────────────────────────────────────────────────────


def filters(net: Net, node: str) -> NDArray[Any]:
    """The filters of a node: the array w that it owns, as a copy.

    Parameters
    ----------
    net : Net
    node : str
        The name of a convolution or another node with weights.

    Returns
    -------
    array (outputs, inputs, *kernel)

    Raises
    ------
    GraphError
        There is no node of this name, or it has no weights.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.explain.filters(cnncore.models.lenet(), "c1").shape
    (6, 1, 5, 5)
    """
    value = net.graph.number(node, "filters") - len(net.graph.inputs)
    weights = net.graph.nodes[value].owned_by_argument.get("w") if value >= 0 else None
    if weights is None:
        having = ", ".join(n.path for n in net.graph.nodes if "w" in n.owned_by_argument)
        raise GraphError(f"filters: {node} has no weights; nodes with weights are {having or 'none'}")
    return net.parameters[weights.name].copy()
