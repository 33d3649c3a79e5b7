"""Networks, each built in code that reads like its paper's figure.

Every function returns a net with fresh weights that depend on ``seed`` alone.
"""

from .googlenet import googlenet
from .inception import inception_module, small_inception
from .lenet import lenet
from .network_in_network import network_in_network

__all__ = ["googlenet", "inception_module", "lenet", "network_in_network", "small_inception"]
