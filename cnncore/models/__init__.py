"""Networks, each built in code that reads like its paper's figure.

Every function returns a net with fresh weights that depend on ``seed`` alone; ``seed=None`` leaves them zero, for nets whose
weights come from elsewhere (``cnncore.io.load_weights``) or that are only looked at.
"""

from collections.abc import Callable

from ..nets.net import Net
from .all_convolutional import all_convolutional
from .googlenet import googlenet
from .inception import inception_module, naive_inception_module, small_inception
from .lenet import lenet
from .mobilenet import mobilenet_v2
from .network_in_network import network_in_network
from .resnet import resnet, resnet18, resnet50
from .spp_net import spp_net
from .vgg import vgg

NETWORKS: dict[str, Callable[..., Net]] = {
    make.__name__: make
    for make in (
        lenet,
        network_in_network,
        all_convolutional,
        googlenet,
        small_inception,
        vgg,
        spp_net,
        resnet18,
        resnet50,
        mobilenet_v2,
    )
}

__all__ = [
    "NETWORKS",
    "all_convolutional",
    "googlenet",
    "inception_module",
    "lenet",
    "mobilenet_v2",
    "naive_inception_module",
    "network_in_network",
    "resnet",
    "resnet18",
    "resnet50",
    "small_inception",
    "spp_net",
    "vgg",
]
