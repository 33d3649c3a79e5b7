"""Network in Network: Lin, Chen & Yan 2014, ICLR, arXiv:1312.4400."""

from __future__ import annotations

from numpy.typing import DTypeLike

from ..nets.build import Graph
from ..nets.net import Net
from ..nets.value import Value
from ..typing import Seed
from .variation import VariedGraph

__all__ = ["network_in_network"]


def network_in_network(
    classes: int = 10,
    channels: int = 3,
    seed: Seed | None = 0,
    dtype: DTypeLike = "float32",
    pooling: str | None = None,
    activation: str | None = None,
) -> Net:
    """The network for CIFAR of section 4.2: three mlpconv layers, dropout between them, global average pooling.

    An mlpconv layer slides a small multilayer perceptron over the image: a convolution and two 1×1 convolutions. The
    last one yields one map per class, whose average is the score. The numbers of channels are those of the authors'
    published configuration.

    Parameters
    ----------
    classes : int, default 10
        The number of classes.
    channels : int, default 3
        The channels of the images.
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
        A net whose output "scores" is (N, classes).

    Examples
    --------
    >>> import cnncore
    >>> cnncore.models.network_in_network(seed=None).summary((1, 3, 32, 32)).parameters
    966986
    """
    g = VariedGraph(pooling, activation)
    x = g.input(channels)
    h = mlpconv(g, x, 5, 192, 160, 96, name="mlpconv_1")
    h = g.dropout(g.max_pool(h, 3, stride=2, ceil_mode=True, name="pool_1"), 0.5)
    h = mlpconv(g, h, 5, 192, 192, 192, name="mlpconv_2")
    h = g.dropout(g.avg_pool(h, 3, stride=2, ceil_mode=True, name="pool_2"), 0.5)
    h = mlpconv(g, h, 3, 192, 192, classes, name="mlpconv_3")
    g.output(g.global_avg_pool(h, name="scores"))
    return g.build(seed, dtype)


def mlpconv(g: Graph, x: Value, size: int, c1: int, c2: int, c3: int, name: str) -> Value:
    """A convolution and two 1×1 convolutions, each followed by ReLU (section 3.1)."""
    with g.scope(name):
        h = g.conv(x, c1, size, padding=size // 2, activation="relu", name="conv")
        h = g.conv(h, c2, 1, activation="relu", name="cccp_1")
        return g.conv(h, c3, 1, activation="relu", name="cccp_2")
