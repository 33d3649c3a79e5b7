# Written by tools/generate.py from cnncore.vision.classify.

from .vision.classify import Classifier as Classifier
from .vision.classify import Prediction as Prediction
from .vision.classify import accuracy_by_size as accuracy_by_size

__all__ = ["Classifier", "Prediction", "accuracy_by_size"]
