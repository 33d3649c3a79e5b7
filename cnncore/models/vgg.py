"""VGG: Simonyan & Zisserman 2015, Very deep convolutional networks for large-scale image recognition, ICLR, arXiv:1409.1556."""

from __future__ import annotations

from numpy.typing import DTypeLike

from ..errors import SettingError, unknown_name
from ..nets.net import Net
from ..typing import Seed
from .variation import VariedGraph

__all__ = ["vgg"]

# Table 1: the convolutions between two poolings, as (kernel, channels).
CHANNELS = (64, 128, 256, 512, 512)
CONFIGURATIONS = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}


def torch_names(configuration: str) -> dict[str, str]:
    """Nodes → modules of torchvision's vgg11 (A), vgg13 (B), vgg16 (D), vgg19 (E): numbered with their ReLUs and poolings."""
    names, number = {}, 0
    for stage, kernels in enumerate(CONFIGURATIONS[configuration], 1):
        for place, _ in enumerate(kernels, 1):
            names[f"conv{stage}_{place}"] = f"features.{number}"
            number += 2
        number += 1
    return names | {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}


def vgg(
    configuration: str = "D",
    classes: int = 1000,
    channels: int = 3,
    size: int = 224,
    seed: Seed | None = 0,
    dtype: DTypeLike = "float32",
    pooling: str | None = None,
    activation: str | None = None,
) -> Net:
    """The networks of table 1: "A", "A-LRN", "B", "C", "D" (VGG-16) or "E" (VGG-19), with their three fully connected
    layers.

    ``net.to_fully_convolutional()`` returns the network of section 3.2, which takes larger images, with the same
    weights. Dropout is 0.5 after the first two fully connected layers.

    Parameters
    ----------
    configuration : str, default "D"
        The column of the table.
    classes : int, default 1000
        The number of classes.
    channels : int, default 3
        The channels of the images.
    size : int, default 224
        The image size, which is fixed by the fully connected layers: 224×224 in the paper; at least 32.
    seed : int, numpy.random.Generator or None, default 0
        Seed of the weights; None leaves them zero.
    dtype : dtype, default "float32"
        "float32" or "float64".
    pooling : str, optional
        A strategy of ``cnncore.pool`` for all of its max and average poolings.
    activation : str, optional
        The name of an operator for all of its ReLUs.

    Returns
    -------
    Net
        A net whose output "fc8" is the scores (N, classes).

    Raises
    ------
    SettingError
        The table has no such configuration.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.models.vgg("A", size=32, seed=None).summary().parameters
    32200040
    """
    if configuration not in CONFIGURATIONS:
        raise SettingError(unknown_name("vgg", "configuration", configuration, CONFIGURATIONS))
    g = VariedGraph(pooling, activation)
    h = g.input(channels, size=size)
    for stage, kernels in enumerate(CONFIGURATIONS[configuration], 1):
        for place, kernel in enumerate(kernels, 1):
            name = f"conv{stage}_{place}"
            h = g.conv(h, CHANNELS[stage - 1], kernel, padding=kernel // 2, activation="relu", name=name)
            if configuration == "A-LRN" and stage == 1:
                h = g.local_response_norm(h, name="norm1")
        h = g.max_pool(h, 2, stride=2, name=f"pool{stage}")
    h = g.linear(g.flatten(h), 4096, activation="relu", name="fc6")
    h = g.linear(g.dropout(h, 0.5, name="drop6"), 4096, activation="relu", name="fc7")
    g.output(g.linear(g.dropout(h, 0.5, name="drop7"), classes, initial="glorot", name="fc8"))
    return g.build(seed, dtype)
