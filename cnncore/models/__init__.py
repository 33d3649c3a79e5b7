"""Networks of the literature, built in code that follows the figures of their papers.

Every function returns a net with random weights that depend only on ``seed``. ``seed=None`` leaves them at 0, for nets
whose weights are loaded (``cnncore.io.load_weights``) or that are only inspected.
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
