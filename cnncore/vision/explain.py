"""Explaining predictions: where in the image the evidence for a class is, as arrays and as figures."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from ..checks import check_unmasked
from ..errors import GraphError, SettingError, ShapeError
from ..io.files import write_atomically
from ..nets.net import Net
from ..nets.structure import Node, Structure
from ..typing import FilePath
from . import images
from .attribution import (
    filters,
    grad_cam,
    gradients,
    guided_backpropagation,
    guided_grad_cam,
    occlusion,
    saliency,
)
from .figures import figure, plot_feature_maps, plot_filters, plot_map

__all__ = [
    "class_activation_map",
    "class_maps",
    "feature_maps",
    "figure",
    "filters",
    "grad_cam",
    "gradients",
    "guided_backpropagation",
    "guided_grad_cam",
    "map_over_image",
    "occlusion",
    "plot_feature_maps",
    "plot_filters",
    "plot_map",
    "saliency",
    "write_map",
]

# What may lie between pooled features and class scores without changing the meaning of a map: in inference, dropout is
# the identity, and flatten only reshapes (N, C, 1, 1) to (N, C).
PASSING = ("dropout", "flatten", "identity", "reshape", "squeeze")
PROBABILITIES = ("softmax", "log_softmax")  # of the scores, at the very end
POOLING = "global_avg_pool"
CLASSIFIERS = ("conv", "linear")


def class_activation_map(net: Net, x: NDArray[Any], class_index: int | None = None) -> NDArray[Any]:
    """The class activation map: the map whose mean is the score of the class. ::

        score_k = b_k + Σ_c w[k, c] · mean over (h, w) of f_c(h, w)  =  mean over (h, w) of map_k(h, w)
        map_k(h, w) = b_k + Σ_c w[k, c] f_c(h, w)

    The network must end in global average pooling with a linear classifier after it (a 1×1 convolution, or ``linear``),
    or before it (1×1 convolution to one map per class, as in Network in Network). The map is then exact. A final
    softmax makes no difference: the score is its input.

    Parameters
    ----------
    net : Net
    x : array (N, C, *spatial)
        The net's input.
    class_index : int, optional
        The class; by default the predicted one of each image, which has the largest score.

    Returns
    -------
    numpy.ndarray
        (N, *spatial) of the features f: smaller than the image by the strides; ``cnncore.vision.images.overlay``
        resizes it.

    Raises
    ------
    GraphError
        The network does not end as described.
    SettingError
        There is no class ``class_index``.
    ShapeError
        ``x`` holds no image.

    References
    ----------
    Zhou, Khosla, Lapedriza, Oliva & Torralba 2016, "Learning deep features for discriminative localization",
    arXiv:1512.04150, equation 2; Lin, Chen & Yan 2014, "Network in network", arXiv:1312.4400, section 3.2.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> g.output(g.linear(g.global_avg_pool(g.relu(x)), 2))
    >>> net = g.build()
    >>> net.parameters["linear.w"] = [[1.0], [-1.0]]; net.parameters["linear.b"] = [0.0, 1.0]
    >>> image = np.array([[[[4.0, 0.0], [0.0, 2.0]]]], np.float32)
    >>> cnncore.explain.class_activation_map(net, image, 1)         # 1 − x: the mean is the score, −0.5
    array([[[-3.,  1.],
            [ 1., -1.]]], dtype=float32)
    >>> net(image)
    array([[ 1.5, -0.5]], dtype=float32)
    """
    structure = net.graph
    if len(structure.outputs) != 1 or len(structure.inputs) != 1:
        raise GraphError("class_activation_map: the net must have one input and one output, the class scores")
    check_unmasked("class_activation_map", "x", x)
    x = np.asarray(x)
    if len(x) == 0:
        raise ShapeError(f"class_activation_map: x has shape {x.shape} and contains no image; give at least one")
    features, classifier = head(structure)
    if features < len(structure.inputs):
        maps, scores = x, net(x, training=False)
    else:
        name = structure.names[features]
        kept = net.values(x, names=[name, structure.names[structure.outputs[0]]], training=False)
        maps, scores = kept[name], kept[structure.names[structure.outputs[0]]]
    scores = scores.reshape(len(x), -1)
    classes = scores.shape[1]
    if class_index is None:
        chosen = scores.argmax(axis=1)
    elif (
        isinstance(class_index, (int, np.integer)) and not isinstance(class_index, bool) and 0 <= class_index < classes
    ):
        chosen = np.full(len(x), int(class_index))
    else:
        raise SettingError(
            f"class_activation_map: class_index must be an integer from 0 to {classes - 1}, got {class_index!r}"
        )
    if classifier is None:
        return maps[np.arange(len(x)), chosen].copy()
    arrays = {argument: net.parameters[row.name] for argument, row in classifier.owned_by_argument.items()}
    if arrays["w"].size != classes * maps.shape[1]:
        raise GraphError(
            f"class_activation_map: {classifier.path} is not a plain 1×1 convolution: w is {arrays['w'].shape}"
        )
    weight = arrays["w"].reshape(classes, -1)[chosen]
    result = np.einsum("nc,nc...->n...", weight, maps, optimize=True)
    if "b" in arrays:
        result += arrays["b"][chosen].reshape(-1, *(1,) * (result.ndim - 1))
    return result


def class_maps(net: Net, x: NDArray[Any], size: int | Sequence[int] | None = None) -> NDArray[Any]:
    """The scores of all classes at every position: (N, classes, \\*map), from the fully convolutional form of the net.

    For heads with global average pooling, the mean of a map is the class score; for nets that flatten, an element of
    the map is the score of the window of the training size at that position. For many images, convert the net once,
    ``net.to_fully_convolutional(size)``, and call the result.

    Parameters
    ----------
    net : Net
    x : array (N, C, *spatial)
    size : int or sequence of int, optional
        The training size, for nets that leave it open.

    Returns
    -------
    array (N, classes, *map)

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1, size=1)
    >>> g.output(g.linear(g.flatten(x), 2))
    >>> net = g.build(); net.parameters["linear.w"] = [[1.0], [-1.0]]
    >>> cnncore.explain.class_maps(net, np.array([[[[4.0, 0.5]]]], np.float32))
    array([[[[ 4. ,  0.5]],
    <BLANKLINE>
            [[-4. , -0.5]]]], dtype=float32)
    """
    return net.to_fully_convolutional(size)(x, training=False)


def head(structure: Structure) -> tuple[int, Node | None]:
    """(number of the value whose maps are averaged, node of the classifier after the average or None)."""
    inputs = len(structure.inputs)
    classifier = None
    value: int | None = structure.outputs[0]
    while value is not None and value >= inputs:
        node = structure.nodes[value - inputs]
        value = next(iter(node.arguments), None)
        if node.op.name == POOLING and value is not None:
            return value, classifier
        if node.op.name in CLASSIFIERS and classifier is None:
            classifier = node
        elif node.op.name not in PASSING and (classifier is not None or node.op.name not in PROBABILITIES):
            break
    raise GraphError(
        "class_activation_map: the net must end in global_avg_pool and at most one linear classifier after it (a 1×1 "
        "convolution or linear); a network that flattens its features keeps no map of them"
    )


def feature_maps(net: Net, x: NDArray[Any], names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """The outputs of the nodes called ``names`` for the images ``x``: name → array, in inference mode.

    Parameters
    ----------
    net : Net
    x : array (N, C, *spatial)
    names : iterable of str

    Returns
    -------
    dict

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> g.output(g.global_max_pool(g.relu(x, name="positive")))
    >>> cnncore.explain.feature_maps(g.build(), np.array([[[[-1.0, 2.0]]]], np.float32), ["positive"])
    {'positive': array([[[[0., 2.]]]], dtype=float32)}
    """
    return net.values(x, names=names, training=False)


# ── Rendering
# ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def map_over_image(pixels: NDArray[Any], heat: NDArray[Any], least: int = 280) -> NDArray[Any]:
    """The evidence for a class overlaid on the image, as RGB pixels, enlarged by an integer factor to about ``least``
    pixels or more.

    Evidence against the class (values below 0) is omitted.

    Parameters
    ----------
    pixels : uint8 array (H, W) or (H, W, 3)
    heat : array (h, w)
        As from :func:`class_activation_map`, of one image.
    least : int, optional
        Least extent of the shorter side.

    Returns
    -------
    uint8 array (factor · H, factor · W, 3)

    Examples
    --------
    >>> import numpy as np
    >>> map_over_image(np.zeros((28, 14), np.uint8), np.ones((7, 3))).shape
    (560, 280, 3)
    """
    factor = max(1, least // min(pixels.shape[:2]))
    large = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    return images.overlay(large, np.maximum(heat, 0), low=0.0, high=max(float(heat.max()), 1e-6))


def write_map(path: FilePath, prediction: Any, heat: NDArray[Any]) -> None:
    """Write a class activation map overlaid on its image; as .svg with the predicted class below it, otherwise as PNG.

    Parameters
    ----------
    path : path
    prediction : Prediction
    heat : array (h, w)
        As from :meth:`cnncore.vision.classify.Classifier.activation_map`.

    Raises
    ------
    DataError
        The file cannot be written.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> classifier = cnncore.classify.Classifier(cnncore.models.small_inception(seed=0))
    >>> prediction = classifier.classify(np.eye(28, dtype=np.uint8) * 255)
    >>> write_map("map.svg", prediction, classifier.activation_map(prediction))
    >>> open("map.svg").read(4)
    '<svg'
    """
    picture = map_over_image(prediction.pixels, heat)
    path = pathlib.Path(path)
    if path.suffix.lower() != ".svg":
        images.write_png(path, picture)
        return
    height, width = picture.shape[:2]
    text = f"{prediction.answer}, {prediction.probability:.1%}"
    note = f"Class activation map of {prediction.file} for {prediction.answer}"
    write_atomically(
        path,
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 40}" width="{width}" '
            f'height="{height + 40}" role="img"><title>{escape(note)}</title>'
            f'<rect width="{width}" height="{height + 40}" fill="#fff"/>'
            f'<image width="{width}" height="{height}" href="{images.png_data_uri(picture)}"/>'
            f'<text x="{width / 2}" y="{height + 26}" text-anchor="middle" font-family="system-ui, sans-serif" '
            f'font-size="18" fill="#222">{escape(text)}</text></svg>\n'
        ).encode(),
    )
