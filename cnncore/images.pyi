# Written by tools/generate.py from cnncore.vision.images.

from .vision.images import colormap as colormap
from .vision.images import from_pillow as from_pillow
from .vision.images import has_pillow as has_pillow
from .vision.images import image_shape as image_shape
from .vision.images import overlay as overlay
from .vision.images import png_data_uri as png_data_uri
from .vision.images import read_image as read_image
from .vision.images import resize as resize
from .vision.images import to_channels as to_channels
from .vision.images import write_png as write_png

__all__ = ["colormap", "from_pillow", "has_pillow", "image_shape", "overlay", "png_data_uri", "read_image", "resize", "to_channels", "write_png"]
