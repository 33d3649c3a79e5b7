# Written by tools/generate.py from cnncore.vision.explain.

from .vision.explain import class_activation_map as class_activation_map
from .vision.explain import class_maps as class_maps
from .vision.explain import feature_maps as feature_maps
from .vision.explain import map_over_image as map_over_image
from .vision.explain import write_map as write_map

__all__ = ["class_activation_map", "class_maps", "feature_maps", "map_over_image", "write_map"]
