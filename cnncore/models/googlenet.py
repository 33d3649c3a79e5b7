"""GoogLeNet: Szegedy et al. 2015, Going deeper with convolutions, CVPR, arXiv:1409.4842."""

from __future__ import annotations

from numpy.typing import DTypeLike

from ..errors import SettingError
from ..nets.build import Graph
from ..nets.net import Net
from ..nets.value import Value
from ..typing import Seed
from .conv_norm import conv_norm
from .inception import inception_module
from .variation import VariedGraph

__all__ = ["googlenet"]

# Table 1: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection.
MODULES = {
    "inception_3a": (64, 96, 128, 16, 32, 32),
    "inception_3b": (128, 128, 192, 32, 96, 64),
    "inception_4a": (192, 96, 208, 16, 48, 64),
    "inception_4b": (160, 112, 224, 24, 64, 64),
    "inception_4c": (128, 128, 256, 24, 64, 64),
    "inception_4d": (112, 144, 288, 32, 64, 64),
    "inception_4e": (256, 160, 320, 32, 128, 128),
    "inception_5a": (256, 160, 320, 32, 128, 128),
    "inception_5b": (384, 192, 384, 48, 128, 128),
}
EPS = 1e-3  # of batch normalisation, as in the authors' code and in torchvision

# Nodes of the normalised network → modules of torchvision.models.googlenet.
TORCH_NAMES = {"conv_1": "conv1.conv", "conv_2_reduce": "conv2.conv", "conv_2": "conv3.conv", "classifier": "fc"}
for module in MODULES:
    for node, theirs in (
        ("conv1x1", "branch1"),
        ("conv3x3_reduce", "branch2.0"),
        ("conv3x3", "branch2.1"),
        ("conv5x5_reduce", "branch3.0"),
        ("conv5x5", "branch3.1"),
        ("pool_project", "branch4.1"),
    ):
        TORCH_NAMES[f"{module}/{node}"] = f"{module.replace('_', '')}.{theirs}.conv"
for number in (1, 2):
    TORCH_NAMES[f"aux_{number}/conv"] = f"aux{number}.conv.conv"
TORCH_NAMES |= {f"{node}_norm": f"{theirs[:-4]}bn" for node, theirs in TORCH_NAMES.items() if theirs.endswith("conv")}
for number in (1, 2):
    TORCH_NAMES |= {f"aux_{number}/hidden": f"aux{number}.fc1", f"aux_{number}/classifier": f"aux{number}.fc2"}


def googlenet(
    classes: int = 1000,
    seed: Seed | None = 0,
    aux: bool = False,
    dtype: DTypeLike = "float32",
    channels: int = 3,
    norm: str = "response",
    size: int | None = None,
    largest_kernel: int = 5,
    pooling: str | None = None,
    activation: str | None = None,
) -> Net:
    """The network of table 1: local response normalisation, ceil-mode pooling, nine Inception modules.

    Parameters
    ----------
    classes : int, default 1000
        The number of classes.
    seed : int, numpy.random.Generator or None, default 0
        Seed of the weights; None leaves them zero.
    aux : bool, default False
        True: the two auxiliary classifiers of section 5 are further outputs, for training with losses weighted 1, 0.3,
        0.3: ``Trainer(net, loss_weights=(1, 0.3, 0.3))``; their linear layers fix the image size.
        ``net.with_outputs("classifier")`` removes them.
    dtype : dtype, default "float32"
        "float32" or "float64".
    channels : int, default 3
        The channels of the images.
    norm : str, default "response"
        "batch": batch normalisation after every convolution, which then has no bias, and no local response
        normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167, section 4.2).
    size : int, optional
        The image size; by default any (224×224 in the paper), with ``aux`` 224×224.
    largest_kernel : int, default 5
        3, with batch normalisation, is torchvision's variant, whose third branches are 3×3, not 5×5. (Its auxiliary
        classifiers use adaptive pooling to 4×4, not 5×5/3; their weights fit.)
    pooling : str, optional
        A strategy of ``cnncore.pool`` for all of its max and average poolings.
    activation : str, optional
        The name of an operator for all of its ReLUs.

    Returns
    -------
    Net
        A net whose output "classifier" is the scores (N, classes), with ``aux`` followed by the two auxiliary scores.

    Raises
    ------
    SettingError
        ``norm`` is unknown.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.models.googlenet(seed=None).summary((1, 3, 224, 224)).parameters
    6998552
    """
    if norm not in ("response", "batch"):
        raise SettingError(f"googlenet: norm must be 'response' or 'batch', got {norm!r}")
    after_convolutions = "batch" if norm == "batch" else None
    g = VariedGraph(pooling, activation)
    x = g.input(channels, size=224 if aux and size is None else size)
    h = conv_norm(g, x, 64, 7, "conv_1", after_convolutions, stride=2, eps=EPS)
    h = g.max_pool(h, 3, stride=2, ceil_mode=True, name="pool_1")
    if norm == "response":
        h = g.local_response_norm(h, name="norm_1")
    h = conv_norm(g, h, 64, 1, "conv_2_reduce", after_convolutions, eps=EPS)
    h = conv_norm(g, h, 192, 3, "conv_2", after_convolutions, eps=EPS)
    if norm == "response":
        h = g.local_response_norm(h, name="norm_2")
    h = g.max_pool(h, 3, stride=2, ceil_mode=True, name="pool_2")
    auxiliary: list[Value] = []
    for name, numbers in MODULES.items():
        h = inception_module(g, h, *numbers, name=name, norm=after_convolutions, largest_kernel=largest_kernel, eps=EPS)
        if name in ("inception_3b", "inception_4e"):
            h = g.max_pool(h, 3, stride=2, ceil_mode=True, name=f"pool_{name[len('inception_')]}")
        if aux and name in ("inception_4a", "inception_4d"):
            auxiliary.append(auxiliary_classifier(g, h, classes, f"aux_{len(auxiliary) + 1}", after_convolutions))
    h = g.global_avg_pool(h, name="average")  # 7×7 in the paper, where the image is 224×224
    h = g.dropout(h, 0.4, name="dropout")
    g.output(g.linear(h, classes, initial="glorot", name="classifier"), *auxiliary)
    return g.build(seed, dtype)


def auxiliary_classifier(g: Graph, x: Value, classes: int, name: str, norm: str | None) -> Value:
    """Section 5: 5×5/3 average pooling, 128 1×1 convolutions, 1024 units, dropout 0.7."""
    with g.scope(name):
        h = g.avg_pool(x, 5, stride=3)
        h = conv_norm(g, h, 128, 1, "conv", norm, eps=EPS)
        h = g.linear(g.flatten(h), 1024, activation="relu", name="hidden")
        return g.linear(g.dropout(h, 0.7), classes, initial="glorot", name="classifier")
