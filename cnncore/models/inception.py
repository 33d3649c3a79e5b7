"""The Inception module, and a small network of four of them."""

from __future__ import annotations

from numpy.typing import DTypeLike

from ..nets.build import Graph
from ..nets.net import Net
from ..nets.value import Value
from ..typing import Seed
from .conv_norm import conv_norm
from .variation import VariedGraph

__all__ = ["inception_module", "naive_inception_module", "small_inception"]


def naive_inception_module(
    g: Graph, x: Value, c1: int, c3: int, c5: int, name: str | None = None, norm: str | None = None
) -> Value:
    """Szegedy et al. 2015, figure 2a: 1×1, 3×3 and 5×5 convolutions and the 3×3 max pooling of x, concatenated along
    the channels.

    The pooling branch keeps the channels of x, so that every module has more channels than the one before.

    Parameters
    ----------
    g : Graph
        The graph to which the nodes are added.
    x : Value
        The input of the module.
    c1, c3, c5 : int
        The output channels of the 1×1, 3×3 and 5×5 convolution.
    name : str, optional
        As for :func:`inception_module`.
    norm : str, optional
        As for :func:`inception_module`.

    Returns
    -------
    Value
        c1 + c3 + c5 channels and those of x.

    Raises
    ------
    SettingError
        ``norm`` is unknown.

    Examples
    --------
    >>> import cnncore
    >>> g = cnncore.Graph()
    >>> x = g.input(channels=192, size=28)
    >>> print(cnncore.models.naive_inception_module(g, x, 64, 128, 32, name="inception"))
    inception/concat (N, 416, 28, 28)
    """
    if name is not None:
        with g.scope(name):
            return naive_inception_module(g, x, c1, c3, c5, norm=norm)

    one = conv_norm(g, x, c1, 1, "conv1x1", norm)
    three = conv_norm(g, x, c3, 3, "conv3x3", norm)
    five = conv_norm(g, x, c5, 5, "conv5x5", norm)
    pool = g.max_pool(x, 3, stride=1, padding=1, name="pool")
    return g.concat(one, three, five, pool, name="concat")


def inception_module(
    g: Graph,
    x: Value,
    c1: int,
    c3_reduce: int,
    c3: int,
    c5_reduce: int,
    c5: int,
    c_pool: int,
    name: str | None = None,
    norm: str | None = None,
    largest_kernel: int = 5,
    eps: float = 1e-5,
) -> Value:
    """Szegedy et al. 2015, figure 2b: four branches of x, concatenated along the channels.

    Each convolution is followed by ReLU.

    Parameters
    ----------
    g : Graph
        The graph to which the nodes are added.
    x : Value
        The input of the module.
    c1 : int
        The output channels of the 1×1 convolution.
    c3_reduce, c3 : int
        Those of the 1×1 convolution before the 3×3 one, and of the 3×3 one.
    c5_reduce, c5 : int
        Those of the 1×1 convolution before the 5×5 one, and of the 5×5 one.
    c_pool : int
        Those of the 1×1 convolution after the 3×3 max pooling.
    name : str, optional
        If given, the nodes are in a scope of that name.
    norm : str, optional
        A normalisation before each ReLU: "group" (Wu & He 2018), with groups of 8 channels if their number is a
        multiple of 8, otherwise one group; or "batch" (Ioffe & Szegedy 2015).
    largest_kernel : int, default 5
        3 makes the 5×5 convolution 3×3, as in torchvision.
    eps : float, default 1e-5
        The ε of the normalisation.

    Returns
    -------
    Value
        c1 + c3 + c5 + c_pool channels.

    Raises
    ------
    SettingError
        ``norm`` is unknown.

    Examples
    --------
    >>> import cnncore
    >>> g = cnncore.Graph()
    >>> x = g.input(channels=192, size=28)
    >>> print(cnncore.models.inception_module(g, x, 64, 96, 128, 16, 32, 32, name="inception_3a"))
    inception_3a/concat (N, 256, 28, 28)
    """
    if name is not None:
        with g.scope(name):
            return inception_module(g, x, c1, c3_reduce, c3, c5_reduce, c5, c_pool, None, norm, largest_kernel, eps)

    def conv(x: Value, channels: int, size: int, name: str) -> Value:
        return conv_norm(g, x, channels, size, name, norm, eps=eps)

    one = conv(x, c1, 1, "conv1x1")
    three = conv(conv(x, c3_reduce, 1, "conv3x3_reduce"), c3, 3, "conv3x3")
    five = conv(conv(x, c5_reduce, 1, "conv5x5_reduce"), c5, largest_kernel, "conv5x5")
    pool = conv(g.max_pool(x, 3, stride=1, padding=1, name="pool"), c_pool, 1, "pool_project")
    return g.concat(one, three, five, pool, name="concat")


def small_inception(
    classes: int = 10,
    channels: int = 1,
    seed: Seed | None = 0,
    dtype: DTypeLike = "float32",
    pooling: str | None = None,
    activation: str | None = None,
) -> Net:
    """Four Inception modules for small images, such as 28×28 digits; any size of at least 2×2 is accepted.

    Normalisation is over groups of channels of one image (Wu & He 2018, arXiv:1803.08494), not over the batch: in a
    large image of a digit, edges are a smaller fraction than in a small one, so that running statistics over images of
    several sizes fit none of them, whereas those of the image itself fit at any size, in training and in inference.

    The classifier is a 1×1 convolution, averaged over the image: before averaging, its values are a map of the evidence
    for each class (node "classifier"; Zhou et al. 2016, class activation maps).

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
        A net whose output "scores" is (N, classes).

    Examples
    --------
    >>> import cnncore
    >>> net = cnncore.models.small_inception()
    >>> net
    <net input (N, 1, ?, ?) → scores: 82 nodes, 86,506 parameters, float32>
    """
    g = VariedGraph(pooling, activation)
    x = g.input(channels)
    h = conv_norm(g, x, 16, 5, "stem", "group")
    h = g.max_pool(h, 2, name="pool_1")
    h = inception_module(g, h, 16, 16, 32, 8, 16, 16, name="inception_1", norm="group")
    h = g.max_pool(h, 3, stride=2, padding=1, name="pool_2")
    h = inception_module(g, h, 32, 24, 48, 8, 24, 24, name="inception_2", norm="group")
    h = g.max_pool(h, 3, stride=2, padding=1, name="pool_3")
    h = inception_module(g, h, 32, 24, 48, 8, 24, 24, name="inception_3", norm="group")
    h = inception_module(g, h, 32, 24, 48, 8, 24, 24, name="inception_4")  # the strength of a feature matters here
    h = g.conv(h, classes, 1, initial="glorot", name="classifier")
    g.output(g.global_avg_pool(h, name="scores"))
    return g.build(seed, dtype)
