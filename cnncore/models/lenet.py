"""LeNet-5: LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document recognition, section II.B."""

from __future__ import annotations

from numpy.typing import DTypeLike

from ..nets.net import Net
from ..typing import Seed
from .variation import VariedGraph

__all__ = ["lenet"]


def lenet(
    classes: int = 10,
    channels: int = 1,
    seed: Seed | None = 0,
    dtype: DTypeLike = "float32",
    pooling: str | None = None,
    activation: str | None = None,
) -> Net:
    """LeNet-5 for 32×32 images, in its modern form: full connections in C3, max pooling, ReLU, linear output.

    Parameters
    ----------
    classes : int, default 10
        The number of classes.
    channels : int, default 1
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
        A net of (N, channels, 32, 32) whose output "output" is the scores (N, classes).

    Examples
    --------
    >>> import cnncore
    >>> cnncore.models.lenet().summary().parameters
    61706
    """
    g = VariedGraph(pooling, activation)
    x = g.input(channels, size=32)
    h = g.conv(x, 6, 5, activation="relu", name="c1")
    h = g.max_pool(h, 2, name="s2")
    h = g.conv(h, 16, 5, activation="relu", name="c3")
    h = g.max_pool(h, 2, name="s4")
    h = g.conv(h, 120, 5, activation="relu", name="c5")
    h = g.linear(g.flatten(h), 84, activation="relu", name="f6")
    g.output(g.linear(h, classes, initial="glorot", name="output"))
    return g.build(seed, dtype)
