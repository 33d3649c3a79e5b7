# Written by tools/generate.py from cnncore.vision.explain.

from .vision.explain import class_activation_map as class_activation_map
from .vision.explain import class_maps as class_maps
from .vision.explain import feature_maps as feature_maps
from .vision.explain import figure as figure
from .vision.explain import filters as filters
from .vision.explain import grad_cam as grad_cam
from .vision.explain import gradients as gradients
from .vision.explain import guided_backpropagation as guided_backpropagation
from .vision.explain import guided_grad_cam as guided_grad_cam
from .vision.explain import map_over_image as map_over_image
from .vision.explain import occlusion as occlusion
from .vision.explain import plot_feature_maps as plot_feature_maps
from .vision.explain import plot_filters as plot_filters
from .vision.explain import plot_map as plot_map
from .vision.explain import saliency as saliency
from .vision.explain import write_map as write_map

__all__ = ["class_activation_map", "class_maps", "feature_maps", "figure", "filters", "grad_cam", "gradients", "guided_backpropagation", "guided_grad_cam", "map_over_image", "occlusion", "plot_feature_maps", "plot_filters", "plot_map", "saliency", "write_map"]
