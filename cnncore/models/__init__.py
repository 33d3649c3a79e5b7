"""Networks, each built in code that reads like its paper's figure.

Every function returns a net with fresh weights that depend on ``seed`` alone.
"""

from .googlenet import googlenet
from .inception import inception_module, small_inception
from .lenet import lenet
from .network_in_network import network_in_network

NETWORKS = {make.__name__: make for make in (googlenet, lenet, network_in_network, small_inception)}

__all__ = ["NETWORKS", "googlenet", "inception_module", "lenet", "network_in_network", "small_inception"]
