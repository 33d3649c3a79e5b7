"""GoogLeNet: Szegedy et al. 2015, Going deeper with convolutions, CVPR, arXiv:1409.4842."""

from ..graph import Graph
from .inception import inception_module

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


def googlenet(classes=1000, seed=0, aux=False, dtype="float32"):
    """The network of table 1: local response normalisation, ceil-mode poolings, nine Inception modules.

    Any image size is taken (224×224 in the paper). With ``aux`` the two auxiliary classifiers of section 5 are further
    outputs, for training with losses weighted 1, 0.3, 0.3; their linear layers fix the size to 224×224.
    """
    g = Graph()
    x = g.input(channels=3, size=224 if aux else None)
    h = g.conv(x, 64, 7, stride=2, padding=3, activation="relu", name="conv_1")
    h = g.max_pool(h, 3, stride=2, ceil_mode=True, name="pool_1")
    h = g.local_response_norm(h, name="norm_1")
    h = g.conv(h, 64, 1, activation="relu", name="conv_2_reduce")
    h = g.conv(h, 192, 3, padding=1, activation="relu", name="conv_2")
    h = g.local_response_norm(h, name="norm_2")
    h = g.max_pool(h, 3, stride=2, ceil_mode=True, name="pool_2")
    auxiliary = []
    for name, channels in MODULES.items():
        h = inception_module(g, h, *channels, name=name)
        if name in ("inception_3b", "inception_4e"):
            h = g.max_pool(h, 3, stride=2, ceil_mode=True, name=f"pool_{name[len('inception_')]}")
        if aux and name in ("inception_4a", "inception_4d"):
            auxiliary.append(auxiliary_classifier(g, h, classes, name=f"aux_{len(auxiliary) + 1}"))
    h = g.global_avg_pool(h, name="average")  # 7×7 in the paper, where the image is 224×224
    h = g.dropout(h, 0.4, name="dropout")
    g.output(g.linear(h, classes, initial="glorot", name="classifier"), *auxiliary)
    return g.build(seed, dtype)


def auxiliary_classifier(g, x, classes, name):
    """Section 5: 5×5/3 average pooling, 128 1×1 convolutions, 1024 units, dropout 0.7."""
    with g.scope(name):
        h = g.avg_pool(x, 5, stride=3)
        h = g.conv(h, 128, 1, activation="relu")
        h = g.linear(g.flatten(h), 1024, activation="relu", name="hidden")
        return g.linear(g.dropout(h, 0.7), classes, initial="glorot", name="classifier")
