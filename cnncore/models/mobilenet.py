"""MobileNetV2: Sandler, Howard, Zhu, Zhmoginov & Chen 2018, Inverted residuals and linear bottlenecks, CVPR, arXiv:1801.04381."""

from __future__ import annotations

from numpy.typing import DTypeLike

from ..checks import number
from ..nets.build import Graph
from ..nets.net import Net
from ..nets.value import Value
from ..typing import Seed
from .conv_norm import conv_norm
from .variation import VariedGraph

__all__ = ["mobilenet_v2"]

# Table 2: expansion t, output channels c, number of repetitions n, stride s of the first.
BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
FIRST, LAST = 32, 1280


def torch_names() -> dict[str, str]:
    """Nodes → modules of torchvision.models.mobilenet_v2."""
    names = {"first": "features.0.0", "first_norm": "features.0.1", "classifier": "classifier.1"}
    names |= {"last": "features.18.0", "last_norm": "features.18.1"}
    blocks = [t for t, _, n, _ in BOTTLENECKS for _ in range(n)]
    for place, t in enumerate(blocks, 1):
        ours, theirs = f"bottleneck_{place}", f"features.{place}.conv"
        layers = ["expand", "depthwise"] if t > 1 else ["depthwise"]
        for step, layer in enumerate(layers):
            names[f"{ours}/{layer}"] = f"{theirs}.{step}.0"
            names[f"{ours}/{layer}_norm"] = f"{theirs}.{step}.1"
        names[f"{ours}/project"] = f"{theirs}.{len(layers)}"
        names[f"{ours}/project_norm"] = f"{theirs}.{len(layers) + 1}"
    return names


def mobilenet_v2(
    classes: int = 1000,
    alpha: float = 1.0,
    channels: int = 3,
    seed: Seed | None = 0,
    dtype: DTypeLike = "float32",
    pooling: str | None = None,
    activation: str | None = None,
) -> Net:
    """The network of table 2 for images of any size: 17 inverted residuals, ReLU6, batch normalisation.

    Dropout before the classifier is 0.2.

    Parameters
    ----------
    classes : int, default 1000
        The number of classes.
    alpha : float, default 1
        The width multiplier: channels times alpha, rounded to multiples of 8; the last convolution has at least 1280
        (section 6.1).
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
        A net whose output "classifier" is the scores (N, classes).

    Raises
    ------
    SettingError
        ``alpha`` is not above 0.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.models.mobilenet_v2(seed=None).summary((1, 3, 224, 224)).parameters
    3504872
    """
    alpha = number(above=0)("mobilenet_v2", "alpha", alpha)
    g = VariedGraph(pooling, activation)
    h = conv_norm(g, g.input(channels), rounded(FIRST * alpha), 3, "first", "batch", "relu6", stride=2)
    place = 0
    for t, c, n, s in BOTTLENECKS:
        for repeat in range(n):
            place += 1
            h = inverted_residual(g, h, t, rounded(c * alpha), s if repeat == 0 else 1, f"bottleneck_{place}")
    h = conv_norm(g, h, rounded(LAST * max(1.0, alpha)), 1, "last", "batch", "relu6")
    h = g.dropout(g.global_avg_pool(h, name="average"), 0.2, name="dropout")
    g.output(g.linear(h, classes, initial="glorot", name="classifier"))
    return g.build(seed, dtype)


def inverted_residual(g: Graph, x: Value, t: int, channels: int, stride: int, name: str) -> Value:
    """Table 1 and figure 4d: 1×1 to t times the channels, depthwise 3×3, linear 1×1; residual if the shapes allow it."""
    wide = t * x.shape[1]
    with g.scope(name):
        h = x if t == 1 else conv_norm(g, x, wide, 1, "expand", "batch", "relu6")
        h = conv_norm(g, h, wide, 3, "depthwise", "batch", "relu6", stride=stride, groups=wide)
        h = conv_norm(g, h, channels, 1, "project", "batch", activation=None)
        return g.add(x, h, name="sum") if stride == 1 and x.shape[1] == channels else h


def rounded(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of 8, but at least nine tenths: the authors' rule, from their published code."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest
