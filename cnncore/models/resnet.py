"""ResNet: He, Zhang, Ren & Sun 2016, Deep residual learning for image recognition, CVPR, arXiv:1512.03385."""

from __future__ import annotations

from numpy.typing import DTypeLike

from ..errors import SettingError
from ..nets.build import Graph
from ..nets.net import Net
from ..nets.value import Value
from ..typing import Seed
from .conv_norm import conv_norm
from .variation import VariedGraph

__all__ = ["resnet", "resnet18", "resnet50"]

# Table 1: type of block, and their number in conv2_x to conv5_x.
LAYERS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
CHANNELS = (64, 128, 256, 512)


def torch_names(layers: int) -> dict[str, str]:
    """Nodes → modules of torchvision's resnet18 to resnet152."""
    names = {"conv1": "conv1", "conv1_norm": "bn1", "classifier": "fc"}
    kind, counts = LAYERS[layers]
    for stage, count in enumerate(counts, 1):
        for place in range(count):
            ours, theirs = f"conv{stage + 1}_{place + 1}", f"layer{stage}.{place}"
            for number in (1, 2, 3)[: 2 if kind == "basic" else 3]:
                names[f"{ours}/conv{number}"] = f"{theirs}.conv{number}"
                names[f"{ours}/conv{number}_norm"] = f"{theirs}.bn{number}"
            names[f"{ours}/project"] = f"{theirs}.downsample.0"
            names[f"{ours}/project_norm"] = f"{theirs}.downsample.1"
    return names


def resnet(
    layers: int = 50,
    classes: int = 1000,
    channels: int = 3,
    seed: Seed | None = 0,
    dtype: DTypeLike = "float32",
    pooling: str | None = None,
    activation: str | None = None,
) -> Net:
    """The networks of table 1 with 18, 34, 50, 101 or 152 layers, for images of any size.

    Blocks are named as in the paper's table, conv2_1 to conv5_3. The shortcut is the identity, or a 1×1 convolution
    where size or channels change (option B). In bottlenecks the stride is in the 3×3 convolution, as in torchvision and
    its published weights (known as version 1.5), not in the 1×1 convolution before it as in the paper.

    Parameters
    ----------
    layers : int, default 50
        The number of layers.
    classes : int, default 1000
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
        A net whose output "classifier" is the scores (N, classes).

    Raises
    ------
    SettingError
        ``layers`` is none of these.

    Examples
    --------
    >>> import cnncore
    >>> [cnncore.models.resnet(n, seed=None).summary((1, 3, 224, 224)).parameters for n in (34, 101)]
    [21797672, 44549160]
    """
    if layers not in LAYERS:
        raise SettingError(f"resnet: layers must be one of {', '.join(map(str, LAYERS))}, got {layers!r}")
    kind, counts = LAYERS[layers]
    block = {"basic": basic_block, "bottleneck": bottleneck_block}[kind]
    g = VariedGraph(pooling, activation)
    h = conv_norm(g, g.input(channels), 64, 7, "conv1", "batch", stride=2)
    h = g.max_pool(h, 3, stride=2, padding=1, name="pool1")
    for stage, (count, width) in enumerate(zip(counts, CHANNELS, strict=True), 2):
        for place in range(1, count + 1):
            h = block(g, h, width, 2 if stage > 2 and place == 1 else 1, f"conv{stage}_{place}")
    h = g.global_avg_pool(h, name="average")
    g.output(g.linear(h, classes, initial="glorot", name="classifier"))
    return g.build(seed, dtype)


def basic_block(g: Graph, x: Value, width: int, stride: int, name: str) -> Value:
    """Figure 5, left: two 3×3 convolutions and the shortcut around them."""
    with g.scope(name):
        h = conv_norm(g, x, width, 3, "conv1", "batch", stride=stride)
        h = conv_norm(g, h, width, 3, "conv2", "batch", activation=None)
        return g.add(h, shortcut(g, x, width, stride), activation="relu", name="sum")


def bottleneck_block(g: Graph, x: Value, width: int, stride: int, name: str) -> Value:
    """Figure 5, right: 1×1 to fewer channels, 3×3, 1×1 to four times as many, and the shortcut around them."""
    with g.scope(name):
        h = conv_norm(g, x, width, 1, "conv1", "batch")
        h = conv_norm(g, h, width, 3, "conv2", "batch", stride=stride)
        h = conv_norm(g, h, 4 * width, 1, "conv3", "batch", activation=None)
        return g.add(h, shortcut(g, x, 4 * width, stride), activation="relu", name="sum")


def shortcut(g: Graph, x: Value, channels: int, stride: int) -> Value:
    """x itself, or a 1×1 convolution of it if the shape of the sum differs."""
    if stride == 1 and x.shape[1] == channels:
        return x
    return conv_norm(g, x, channels, 1, "project", "batch", activation=None, stride=stride)


def resnet18(
    classes: int = 1000,
    channels: int = 3,
    seed: Seed | None = 0,
    dtype: DTypeLike = "float32",
    pooling: str | None = None,
    activation: str | None = None,
) -> Net:
    """:func:`resnet` with 18 layers.

    Parameters
    ----------
    classes : int, default 1000
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
        As returned by :func:`resnet`.

    Raises
    ------
    SettingError
        As :func:`resnet`.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.models.resnet18(seed=None).summary((1, 3, 224, 224)).parameters
    11689512
    """
    return resnet(18, classes, channels, seed, dtype, pooling, activation)


def resnet50(
    classes: int = 1000,
    channels: int = 3,
    seed: Seed | None = 0,
    dtype: DTypeLike = "float32",
    pooling: str | None = None,
    activation: str | None = None,
) -> Net:
    """:func:`resnet` with 50 layers.

    Parameters
    ----------
    classes : int, default 1000
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
        As returned by :func:`resnet`.

    Raises
    ------
    SettingError
        As :func:`resnet`.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.models.resnet50(seed=None).summary((1, 3, 224, 224)).parameters
    25557032
    """
    return resnet(50, classes, channels, seed, dtype, pooling, activation)
