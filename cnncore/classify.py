"""Classifying image files with a trained model, each at its own size."""

import os
import pathlib
from dataclasses import dataclass, field

import numpy as np

from . import images
from .catalog import OPS
from .errors import CnnError, DataError, ModelFileError, ShapeError
from .graph import load
from .train.data import normalise

__all__ = ["Classifier", "Prediction"]

LARGEST_PROBE = 4096
UNFAMILIAR = 1.6  # times larger or smaller than any image of the training: answers are no longer to be trusted


@dataclass(frozen=True)
class Prediction:
    """The answer to one image: probabilities of all classes, and the image as it was read."""

    file: str
    size: tuple
    classes: tuple = field(repr=False)
    probabilities: np.ndarray = field(repr=False)
    pixels: np.ndarray = field(repr=False)

    @property
    def answer(self):
        """The most probable class."""
        return self.top(1)[0][0]

    @property
    def probability(self):
        """Its probability."""
        return self.top(1)[0][1]

    def top(self, count):
        """The ``count`` most probable classes: (name, probability), the most probable first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.classes[k], float(self.probabilities[k])) for k in order]


class Classifier:
    """A net with what its images need: class names, channels, mean and deviation, all from ``net.metadata``.

    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> g.output(g.linear(g.global_avg_pool(x), 2))
    >>> net = g.build(); net.metadata = {"classes": ["night", "day"]}
    >>> net.parameters["linear.w"] = [[-9.0], [9.0]]; net.parameters["linear.b"] = [4.5, -4.5]
    >>> Classifier(net).classify(np.full((3, 5), 255, np.uint8)).answer
    'day'
    """

    def __init__(self, net, name="the model"):
        self.net, self.name = net, name
        if len(net.graph.inputs) != 1 or len(net.graph.outputs) != 1 or len(net.graph.inputs[0].size) != 2:
            raise ModelFileError(f"{name}: the net does not take one image and return class scores; predict needs that")
        self.channels = net.graph.inputs[0].channels
        if self.channels not in (1, 3):
            raise ModelFileError(
                f"{name}: the net takes images of {self.channels} channels; files have 1 (grey) or 3 (RGB)"
            )
        known = net.metadata
        self.mean = channel_numbers(name, "mean", known.get("mean", [0.0]), self.channels)
        self.std = channel_numbers(name, "std", known.get("std", [1.0]), self.channels)
        if not (self.std > 0).all():
            raise ModelFileError(f"{name}: std in its metadata is {self.std.tolist()}; expected numbers above 0")
        classes = known.get("classes")
        if classes is not None and not (isinstance(classes, list) and all(isinstance(c, str) for c in classes)):
            raise ModelFileError(f"{name}: classes in its metadata is no list of names")
        self.classes = classes

    @classmethod
    def from_file(cls, path):
        """The classifier in a model file."""
        if os.path.isdir(path):
            inside = pathlib.Path(path) / "model.safetensors"
            if not inside.is_file():
                raise ModelFileError(
                    f"{path}: a folder without model.safetensors; give a model file or a folder of `train`"
                )
            path = inside
        return cls(load(path), str(path))

    def classify(self, image, name="image", invert=False, size=None):
        """The :class:`Prediction` for a file, or for a uint8 array (H, W) or (H, W, 3).

        ``invert`` takes the negative, for dark ink on light paper when the training images were light on dark; ``size``
        resizes the image first.
        """
        if isinstance(image, np.ndarray):
            pixels = images.to_channels(image, self.channels)
        else:
            name = os.fspath(image)
            pixels = images.read_image(image, self.channels)
        if invert:
            pixels = 255 - pixels
        own = self.net.graph.inputs[0].size
        if size is None and None not in own:
            size = own  # this network takes one size only
        if size is not None:
            pixels = images.resize(pixels, size)
        try:
            scores = self.net(self.prepared(pixels), training=False)
        except ShapeError as error:
            raise DataError(f"{name}: {self.too_small(pixels.shape[:2], error)}") from None
        probabilities = OPS["softmax"](scores.reshape(1, -1))[0]
        classes = self.classes or [str(k) for k in range(len(probabilities))]
        if len(classes) != len(probabilities):
            raise ModelFileError(
                f"{self.name}: the net has {len(probabilities)} outputs, its metadata {len(classes)} classes"
            )
        return Prediction(name, pixels.shape[:2], tuple(classes), probabilities, pixels)

    def prepared(self, pixels):
        """The image as the net takes it: (1, C, H, W)."""
        return normalise(pixels[None], self.mean, self.std).astype(self.net.dtype, copy=False)

    def familiar_size(self, size):
        """``size`` if images of the training were about as large, else the nearest size of the same proportions that is."""
        known = self.net.metadata.get("size"), self.net.metadata.get("largest_size", self.net.metadata.get("size"))
        if not all(isinstance(k, list) and len(k) == 2 and all(type(n) is int and n > 0 for n in k) for k in known):
            return size
        least, most = known
        shrink = min(1.0, *(m / n for m, n in zip(most, size, strict=True)))
        grow = max(1.0, *(m / n for m, n in zip(least, size, strict=True)))
        factor = shrink if 1 / shrink > grow else grow
        if 1 / UNFAMILIAR <= factor <= UNFAMILIAR:
            return size
        return tuple(max(1, round(n * factor)) for n in size)

    def activation_map(self, prediction):
        """The class activation map of a prediction's answer, of the size of the features."""
        from .explain import class_activation_map

        return class_activation_map(self.net, self.prepared(prediction.pixels), int(prediction.probabilities.argmax()))[
            0
        ]

    def too_small(self, size, error):
        """Why the net cannot take an image of this size, and what it could take."""
        height, width = size
        smallest = self.smallest_size()
        if smallest is None or (height >= smallest and width >= smallest):
            return f"{height}×{width} pixels do not fit this network ({error})"
        return (
            f"{height}×{width} pixels are too small for this network, which takes {smallest}×{smallest} or more; "
            f"resize it: --size {max(smallest, *self.net.metadata.get('size', (smallest,)))}"
        )

    def smallest_size(self):
        """Extent of the smallest square image that the net takes, or None when there is none up to 4096."""

        def takes(extent):
            try:
                self.net.summary((1, self.channels, extent, extent))
            except CnnError:
                return False
            return True

        high = 1
        while not takes(high):
            high *= 2
            if high > LARGEST_PROBE:
                return None
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if takes(middle) else (middle, high)
        return high


def channel_numbers(name, what, numbers, channels):
    """``numbers`` of the metadata, one per channel, as an array."""
    try:
        array = np.array(numbers, np.float64)
    except (TypeError, ValueError):
        array = np.array([np.nan])
    if array.shape == (1,):
        array = np.repeat(array, channels)
    if array.shape != (channels,) or not np.isfinite(array).all():
        raise ModelFileError(f"{name}: {what} in its metadata is {numbers!r}; expected {channels} finite numbers")
    return array
