"""SPP-net: He, Zhang, Ren & Sun 2014, Spatial pyramid pooling in deep convolutional networks, ECCV, arXiv:1406.4729."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import DTypeLike

from ..nets.net import Net
from ..typing import Seed
from .variation import VariedGraph

__all__ = ["spp_net"]


def spp_net(
    classes: int = 1000,
    channels: int = 3,
    levels: Sequence[int] = (6, 3, 2, 1),
    seed: Seed | None = 0,
    dtype: DTypeLike = "float32",
    pooling: str | None = None,
    activation: str | None = None,
) -> Net:
    """The ZF-5 network of table 1 with a spatial pyramid before its three fully connected layers (section 2.3): any
    image size.

    The fully connected layers receive vectors of a fixed length for every image size, so the network can be trained at
    several sizes, 180 and 224 in the paper. The padding is chosen to give the paper's map sizes, 55, 27 and 13, for
    images of 224×224. Dropout is 0.5 after the first two fully connected layers.

    Parameters
    ----------
    classes : int, default 1000
        The number of classes.
    channels : int, default 3
        The channels of the images.
    levels : sequence of int, default (6, 3, 2, 1)
        The bins per axis of each level of the pyramid, 50 bins in all as in section 3.1.
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

    Examples
    --------
    >>> import cnncore
    >>> net = cnncore.models.spp_net(classes=10, seed=None)
    >>> [net.summary((1, 3, *size)).rows[-1].output for size in ((224, 224), (180, 240))]
    [(1, 10), (1, 10)]
    """
    g = VariedGraph(pooling, activation)
    h = g.input(channels)
    h = g.conv(h, 96, 7, stride=2, padding=1, activation="relu", name="conv1")
    h = g.local_response_norm(h, name="norm1")
    h = g.max_pool(h, 3, stride=2, ceil_mode=True, name="pool1")
    h = g.conv(h, 256, 5, stride=2, padding=1, activation="relu", name="conv2")
    h = g.local_response_norm(h, name="norm2")
    h = g.max_pool(h, 3, stride=2, ceil_mode=True, name="pool2")
    h = g.conv(h, 384, 3, padding=1, activation="relu", name="conv3")
    h = g.conv(h, 384, 3, padding=1, activation="relu", name="conv4")
    h = g.conv(h, 256, 3, padding=1, activation="relu", name="conv5")
    h = g.spatial_pyramid_pool(h, levels=levels, name="pyramid")
    h = g.linear(h, 4096, activation="relu", name="fc6")
    h = g.linear(g.dropout(h, 0.5, name="drop6"), 4096, activation="relu", name="fc7")
    g.output(g.linear(g.dropout(h, 0.5, name="drop7"), classes, initial="glorot", name="fc8"))
    return g.build(seed, dtype)
