"""All-CNN: Springenberg, Dosovitskiy, Brox & Riedmiller 2015, Striving for simplicity, ICLR workshop, arXiv:1412.6806."""

from __future__ import annotations

from numpy.typing import DTypeLike

from ..nets.net import Net
from ..typing import Seed
from .variation import VariedGraph

__all__ = ["all_convolutional"]


def all_convolutional(
    classes: int = 10,
    channels: int = 3,
    seed: Seed | None = 0,
    dtype: DTypeLike = "float32",
    pooling: str | None = None,
    activation: str | None = None,
) -> Net:
    """All-CNN-C of table 2, for CIFAR: model C with 3×3/2 convolutions in place of 3×3/2 max pooling.

    The head is that of table 1: a 3×3 convolution without padding (so that the average is over 6×6 for 32×32 images)
    and two 1×1 convolutions, the last with one map per class, each followed by ReLU; the average of each map is the
    score. Dropout as in section 3.2: 20 % of the inputs, 50 % after each layer that replaces a pooling.

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
        A net for images of any size of at least 12×12.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.models.all_convolutional().summary((1, 3, 32, 32)).parameters
    1369738
    """
    g = VariedGraph(pooling, activation)
    x = g.input(channels)
    h = g.dropout(x, 0.2, name="dropout_0")
    h = g.conv(h, 96, 3, padding=1, activation="relu", name="conv_1")
    h = g.conv(h, 96, 3, padding=1, activation="relu", name="conv_2")
    h = g.conv(h, 96, 3, stride=2, padding=1, activation="relu", name="conv_3")
    h = g.dropout(h, 0.5, name="dropout_1")
    h = g.conv(h, 192, 3, padding=1, activation="relu", name="conv_4")
    h = g.conv(h, 192, 3, padding=1, activation="relu", name="conv_5")
    h = g.conv(h, 192, 3, stride=2, padding=1, activation="relu", name="conv_6")
    h = g.dropout(h, 0.5, name="dropout_2")
    h = g.conv(h, 192, 3, activation="relu", name="conv_7")
    h = g.conv(h, 192, 1, activation="relu", name="conv_8")
    h = g.conv(h, classes, 1, activation="relu", name="classifier")
    g.output(g.global_avg_pool(h, name="scores"))
    return g.build(seed, dtype)
