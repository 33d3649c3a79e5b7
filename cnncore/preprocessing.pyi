# Written by tools/generate.py from cnncore.vision.preprocessing.

from .vision.preprocessing import PRESETS as PRESETS
from .vision.preprocessing import Preprocessing as Preprocessing
from .vision.preprocessing import read_classes as read_classes

__all__ = ["PRESETS", "Preprocessing", "read_classes"]
