"""Classifying image files with a trained model, each at its own size."""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..checks import integer, path_name
from ..errors import CnnError, DataError, ModelFileError, ShapeError
from ..nets.build import load
from ..nets.net import Net
from ..operators.registry import OPS
from ..typing import FilePath
from . import images
from .familiarity import unusual
from .preprocessing import Preprocessing
from .reading import read_ahead

__all__ = ["Classifier", "Prediction", "accuracy_by_size"]

LARGEST_PROBE = 4096
OTHER_SIZES = ((10 / 7, 13 / 7), (2, 2), (4, 4), (50 / 7, 45 / 14))  # of 28×28: 40×52, 56×56, 112×112, 200×90
MOST_RESIZED = 1000  # images that are also classified at other sizes


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image: probabilities of all classes, and the image itself.

    Parameters
    ----------
    file : str
        Path of the image, or the name given with an array.
    size : (int, int)
        Height and width of the image, after resizing if requested.
    read_at : (int, int)
        The size at which it was classified: differs from ``size`` if that is outside the range of training sizes.
    classes : tuple of str
    probabilities : array (classes,)
    pixels : uint8 array (H, W) or (H, W, 3)
    unlike : str or None
        How the image differs from those of the training (:mod:`cnncore.vision.familiarity`), and what to do about it.

    Examples
    --------
    >>> import numpy as np
    >>> seen = Prediction("a.png", (3, 5), (3, 5), ("night", "day"), np.array([0.25, 0.75]), np.zeros((3, 5), np.uint8))
    >>> seen.answer, seen.probability, seen.top(2)
    ('day', 0.75, [('day', 0.75), ('night', 0.25)])
    """

    file: str
    size: tuple[int, ...]
    read_at: tuple[int, ...]
    classes: tuple[str, ...] = field(repr=False)
    probabilities: np.ndarray = field(repr=False)
    pixels: np.ndarray = field(repr=False)
    unlike: str | None = field(default=None, repr=False)

    @property
    def answer(self) -> str:
        """The most probable class."""
        return self.top(1)[0][0]

    @property
    def probability(self) -> float:
        """Its probability."""
        return self.top(1)[0][1]

    def top(self, count: int) -> list[tuple[str, float]]:
        """The ``count`` most probable classes: (name, probability), the most probable first.

        Parameters
        ----------
        count : int

        Returns
        -------
        list of (str, float)
        """
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.classes[k], float(self.probabilities[k])) for k in order]


class _Read(NamedTuple):
    """An image on its way through the net."""

    name: str
    size: tuple[int, ...]
    read_at: tuple[int, ...]
    pixels: np.ndarray
    x: np.ndarray
    unlike: str | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what the net is given."""
        return self.x.shape


class Classifier:
    """A net with class names and :class:`Preprocessing`, both from ``net.metadata``.

    ``net.output_kind`` says what the net returns: logits, to which softmax is applied; probabilities; or independent
    probabilities, as from sigmoid, which are used unchanged. A single one is the probability of the second of two
    classes.

    Parameters
    ----------
    net : Net
        Takes one image of 1 or 3 channels.
    name : str, optional
        For errors.

    Raises
    ------
    ModelFileError
        The net takes something else, or its metadata are invalid.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> g.output(g.linear(g.global_avg_pool(x), 2))
    >>> net = g.build(); net.metadata = {"classes": ["night", "day"]}
    >>> net.parameters["linear.w"] = [[-9.0], [9.0]]; net.parameters["linear.b"] = [4.5, -4.5]
    >>> classifier = Classifier(net)
    >>> white, black = np.full((3, 5), 255, np.uint8), np.zeros((3, 5), np.uint8)
    >>> prediction = classifier.classify(white)
    >>> prediction.answer, [(name, round(p, 4)) for name, p in prediction.top(2)]
    ('day', [('day', 0.9999), ('night', 0.0001)])
    >>> [found.answer for found in classifier.classify_all([white, black, white])]
    ['day', 'night', 'day']
    >>> classifier.prepared(white, (6, 10)).shape, classifier.answers(np.array([[0.0, 0.0]]))
    ((1, 1, 6, 10), (['night', 'day'], array([0.5, 0.5])))
    >>> classifier.trained_sizes(), classifier.smallest_size()
    (None, 1)

    A model file has all of it, and so has the map of where a class is seen:

    >>> net = cnncore.models.small_inception(seed=0); net.metadata = {"size": [28, 28], "largest_size": [56, 56]}
    >>> net.save("model.safetensors")
    >>> classifier = Classifier.from_file("model.safetensors")
    >>> classifier.trained_sizes()
    ((28, 28), (56, 56))
    >>> classifier.activation_map(classifier.classify(np.zeros((40, 52), np.uint8))).shape
    (5, 7)
    >>> Classifier(cnncore.models.lenet()).too_small((8, 8), cnncore.ShapeError("less than one window"))
    '8×8 pixels are too small for this network, which takes 32×32 or more; resize it: --size 32'
    """

    def __init__(self, net: Net, name: str = "the model") -> None:
        self.net, self.name = net, name
        if len(net.graph.inputs) != 1 or len(net.graph.outputs) != 1 or len(net.graph.inputs[0].size) != 2:
            raise ModelFileError(f"{name}: the net must take one image and return class scores")
        self.channels = net.graph.inputs[0].channels
        if self.channels not in (1, 3):
            raise ModelFileError(
                f"{name}: the net takes images of {self.channels} channels; files have 1 (greyscale) or 3 (RGB)"
            )
        self.preprocessing = Preprocessing.from_metadata(name, net.metadata, self.channels)
        classes = net.metadata.get("classes")
        if classes is not None and not (isinstance(classes, list) and all(isinstance(c, str) for c in classes)):
            raise ModelFileError(f"{name}: classes in its metadata is not a list of names")
        self.classes = classes

    @classmethod
    def from_file(cls, path: FilePath) -> Self:
        """The classifier in a model file of any supported format.

        Parameters
        ----------
        path : path
            A model file (our own format or ONNX), or an output folder of training.

        Returns
        -------
        Classifier

        Raises
        ------
        ModelFileError
            The file is damaged, or its net is not an image classifier.
        """
        net, path = read_model(path)
        return cls(net, str(path))

    def classify(
        self,
        image: Any,
        name: str = "image",
        invert: bool = False,
        size: int | Sequence[int] | None = None,
        own_size: bool = False,
    ) -> Prediction:
        """The :class:`Prediction` for an image: a file, its content, a uint8 array, or an image of Pillow.

        An image outside the range of training sizes is resized to the nearest size within it (:meth:`familiar_size`),
        unless ``size`` or ``own_size`` is given.

        Parameters
        ----------
        image : path, bytes, PIL.Image.Image, or uint8 array (H, W) or (H, W, 3)
        name : str, optional
            Name of an array, for errors and the prediction; a file has its own.
        invert : bool, optional
            Invert the image, for dark ink on light paper if the training images were light on dark.
        size : int or (int, int), optional
            Resize the image to this first.
        own_size : bool, optional
            Classify the image at its own size.

        Returns
        -------
        Prediction

        Raises
        ------
        DataError
            The file cannot be read, or the image is too small for the net.
        ModelFileError
            The net's output for an image is not one score per class.
        """
        (prediction,) = self.classify_all([image], [name], invert=invert, size=size, own_size=own_size)
        if isinstance(prediction, Exception):
            raise prediction
        return prediction

    def classify_all(
        self,
        sources: Iterable[Any],
        names: Iterable[str] | None = None,
        *,
        invert: bool = False,
        size: int | Sequence[int] | None = None,
        own_size: bool = False,
        batch_size: int = 32,
    ) -> Iterator[Prediction | DataError]:
        """Classify many images: they are decoded on other threads, and those that are read at one size in batches.

        Every probability is what :meth:`classify` gives, to rounding.

        Parameters
        ----------
        sources : iterable
            Each as in :meth:`classify`.
        names : iterable of str, optional
            Names of those that are no files, for errors and predictions.
        invert, size, own_size : optional
            As in :meth:`classify`.
        batch_size : int, optional

        Yields
        ------
        Prediction or DataError
            In the order of ``sources``: an image that cannot be read or used gives the error, and the others are classified.

        Raises
        ------
        ModelFileError
            What the net makes of an image is not one score for each class.
        """
        batch_size = integer("classify", "batch_size", batch_size, 1)

        def read(pair: tuple[Any, str]) -> _Read | DataError:
            try:
                return self._read(*pair, invert, size, own_size)
            except DataError as error:
                return error

        named = zip(sources, itertools.repeat("image") if names is None else names, strict=False)
        waiting: list[_Read] = []
        for found in read_ahead(read, named, 2 * batch_size):
            if waiting and (
                isinstance(found, DataError) or found.shape != waiting[0].shape or len(waiting) == batch_size
            ):
                yield from self._predictions(waiting)
                waiting = []
            if isinstance(found, DataError):
                yield found
            else:
                waiting.append(found)
        if waiting:
            yield from self._predictions(waiting)

    def _read(self, image: Any, name: str, invert: bool, size: int | Sequence[int] | None, own_size: bool) -> _Read:
        """An image as the net is to see it."""
        name, pixels = self._pixels(image, name)
        if invert:
            pixels = 255 - pixels
        extents = [extent for extent in self.net.graph.inputs[0].size if extent is not None]
        fixed = extents if len(extents) == 2 else None  # this network takes only one size
        if size is None and not own_size and self.preprocessing.frames:
            own, pixels = pixels.shape[:2], self.preprocessing.framed(pixels, fixed)
            read_at = pixels.shape[:2]
        else:
            size = fixed if size is None else size
            if size is not None:
                pixels = images.resize(pixels, size)
            own = pixels.shape[:2]
            read_at = own if own_size or size is not None else self.familiar_size(own)
            if tuple(read_at) != pixels.shape[:2] and min(own) < (self.smallest_size() or 1):
                raise DataError(f"{name}: {self.too_small(own, ShapeError('less than one window'))}")
        unlike = unusual(pixels, self.net.metadata.get("pixels"), inverted=invert)
        return _Read(name, own, tuple(read_at), pixels, self.prepared(pixels, read_at), unlike)

    def _pixels(self, image: Any, name: str) -> tuple[str, NDArray[Any]]:
        """(name, pixels) of whatever stands for an image: array, path, content of a file, image of Pillow."""
        if isinstance(image, np.ndarray):
            return name, images.to_channels(image, self.channels)
        if isinstance(image, (bytes, bytearray, memoryview)):
            return name, images.read_image(bytes(image), self.channels)
        if hasattr(image, "getexif") and hasattr(image, "convert"):
            return name, images.from_pillow(image, self.channels)
        return os.fspath(image), images.read_image(image, self.channels)

    def _predictions(self, read: Sequence[_Read]) -> Iterator[Prediction | DataError]:
        """The predictions for images of one size."""
        try:
            scores = self.net(np.concatenate([one.x for one in read]), training=False)
        except ShapeError as error:
            yield from (DataError(f"{one.name}: {self.too_small(one.size, error)}") for one in read)
            return
        if scores.ndim < 2 or scores.size != len(read) * scores.shape[1]:
            raise ModelFileError(
                f"{self.name}: the net maps an image to {(1, *scores.shape[1:])}; expected one score per class, (1, classes)"
            )
        for one, row in zip(read, scores.reshape(len(read), -1), strict=True):
            classes, probabilities = self.answers(row[None])
            yield Prediction(one.name, one.size, one.read_at, tuple(classes), probabilities, one.pixels, one.unlike)

    def prepared(self, pixels: NDArray[Any], size: int | Sequence[int] | None = None) -> NDArray[Any]:
        """The image as the net takes it, resized to ``size``: (1, C, H, W), or (1, H, W, C) if that is its layout.

        Parameters
        ----------
        pixels : uint8 array (H, W) or (H, W, 3)
        size : int or (int, int), optional
            By default the image's own.

        Returns
        -------
        array
            In the net's dtype.

        Raises
        ------
        SettingError
            ``size`` is not a size of an image.
        DtypeError, ShapeError
            ``pixels`` is not as above.
        """
        if size is not None:
            pixels = images.resize(pixels, size)
        x = self.preprocessing.numbers(pixels).astype(self.net.dtype, copy=False)
        return self.net.graph.inputs[0].arranged(x)

    def answers(self, scores: NDArray[Any]) -> tuple[list[str], NDArray[Any]]:
        """(names of the classes, probabilities) from the output (1, K) for an image, according to ``net.output_kind``.

        Parameters
        ----------
        scores : array (1, K)

        Returns
        -------
        (list of str, array)

        Raises
        ------
        ModelFileError
            The output is not scores or probabilities, or the metadata name another number of classes.
        """
        kind, count = self.net.output_kind, scores.shape[1]
        if kind not in ("logits", "probabilities", "log_probabilities", "independent_probabilities"):
            raise ModelFileError(
                f"{self.name}: the net's output is {kind.replace('_', ' ')}, not scores or probabilities of classes, which "
                "predict needs; where it is nevertheless: net.output_kind = 'logits' (or 'probabilities' …)"
            )
        if kind in ("logits", "log_probabilities"):
            scores = OPS["softmax"](scores)
        probabilities = scores[0]
        if (
            kind == "independent_probabilities" and count == 1 and len(self.classes or "01") == 2
        ):  # of the second: no or yes
            probabilities = np.array([1 - probabilities[0], probabilities[0]], probabilities.dtype)
        classes = self.classes or [str(k) for k in range(len(probabilities))]
        if len(classes) != len(probabilities):
            raise ModelFileError(
                f"{self.name}: the net has {count} outputs, its metadata {len(classes)} classes (which --classes FILE replaces, "
                "a name per line)"
            )
        return classes, probabilities

    def trained_sizes(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """((height, width), (height, width)): the smallest and the largest training size; None if unknown.

        Returns
        -------
        ((int, int), (int, int)) or None
        """
        known = self.net.metadata
        found = []
        for size in (known.get("size"), known.get("largest_size", known.get("size"))):
            if not isinstance(size, list) or len(size) != 2:
                return None
            if not all(type(extent) is int and extent > 0 for extent in size):
                return None
            found.append((size[0], size[1]))
        return found[0], found[1]

    def familiar_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """``size`` if it is within the range of training sizes, otherwise the nearest size within it.

        The aspect ratio is kept as far as the range allows. A net recognises objects only at the scales of its
        training: far outside the range its predictions are unreliable.

        Parameters
        ----------
        size : (int, int)
            Height and width.

        Returns
        -------
        (int, int)

        Examples
        --------
        >>> import cnncore
        >>> net = cnncore.models.small_inception(); net.metadata = {"size": [28, 28], "largest_size": [56, 56]}
        >>> classifier = Classifier(net)
        >>> classifier.familiar_size((40, 52)), classifier.familiar_size((112, 84)), classifier.familiar_size((20, 30))
        ((40, 52), (56, 42), (28, 42))
        """
        known = self.trained_sizes()
        if known is None:
            return tuple(size)
        factor = min(1.0, *(most / extent for most, extent in zip(known[1], size, strict=True)))
        if factor == 1.0:
            factor = max(1.0, *(least / extent for least, extent in zip(known[0], size, strict=True)))
        return tuple(
            min(max(round(factor * extent), least), max(least, most))
            for extent, least, most in zip(size, *known, strict=True)
        )

    def activation_map(self, prediction: Prediction) -> NDArray[Any]:
        """The class activation map of the predicted class, of the size of the features.

        Parameters
        ----------
        prediction : Prediction

        Returns
        -------
        array (h, w)

        Raises
        ------
        GraphError
            The net does not end as :func:`cnncore.vision.explain.class_activation_map` requires.
        """
        from .explain import class_activation_map

        x = self.prepared(prediction.pixels, prediction.read_at)
        return class_activation_map(self.net, x, int(prediction.probabilities.argmax()))[0]

    def too_small(self, size: Sequence[int], error: Exception) -> str:
        """Why the net cannot take an image of this size, and what it could take.

        Parameters
        ----------
        size : (int, int)
            Height and width.
        error : Exception
            The error that the net raised.

        Returns
        -------
        str
        """
        height, width = size
        smallest = self.smallest_size()
        if smallest is None or (height >= smallest and width >= smallest):
            return f"{height}×{width} pixels do not fit this network ({error})"
        return (
            f"{height}×{width} pixels are too small for this network, which takes {smallest}×{smallest} or more; "
            f"resize it: --size {max(smallest, *self.net.metadata.get('size', (smallest,)))}"
        )

    def smallest_size(self) -> int | None:
        """Extent of the smallest square image that the net takes, or None when there is none up to 4096.

        Returns
        -------
        int or None
        """

        def takes(extent: int) -> bool:
            try:
                self.net.summary(self.net.graph.inputs[0].given((1, self.channels, extent, extent)))
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


def accuracy_by_size(classifier: Classifier, dataset: Any) -> list[tuple[tuple[int, int], tuple[int, ...], float]]:
    """The accuracy on ``dataset`` at its own size and at other sizes: [(size, read_at, accuracy), …].

    Images are classified as by :meth:`Classifier.classify`; from a large data set, ``MOST_RESIZED`` evenly spaced
    images are used. Only the images' own size for a net that takes no other.

    Parameters
    ----------
    classifier : Classifier
    dataset : cnncore.train.data.Dataset
        Images of one size.

    Returns
    -------
    list of ((int, int), (int, int), float)

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> from cnncore.train.data import Dataset
    >>> dataset = Dataset(np.zeros((4, 28, 28), np.uint8), np.arange(4), ("a", "b", "c", "d"), "zeros")
    >>> classifier = Classifier(cnncore.models.small_inception(classes=4, seed=0))
    >>> [(size, accuracy) for size, _, accuracy in accuracy_by_size(classifier, dataset)][:2]
    [((28, 28), 0.25), ((40, 52), 0.25)]
    """
    count = min(len(dataset), MOST_RESIZED)
    chosen = np.arange(count) * len(dataset) // count
    size = dataset.size
    any_size = None in classifier.net.graph.inputs[0].size
    found = []
    for rows, columns in ((1, 1), *OTHER_SIZES) if any_size and not classifier.preprocessing.frames else ((1, 1),):
        tried = (round(rows * size[0]), round(columns * size[1]))
        read_at = classifier.familiar_size(tried) if any_size and tried != size else size
        per_batch = max(1, 100_000 // (read_at[0] * read_at[1]))
        right = 0
        for first in range(0, count, per_batch):
            part = chosen[first : first + per_batch]
            pixels = [images.resize(images.resize(image, tried), read_at) for image in dataset.images[part]]
            prepare = classifier.preprocessing
            x = np.concatenate([prepare.numbers(one) for one in pixels]).astype(classifier.net.dtype, copy=False)
            scores = classifier.net(classifier.net.graph.inputs[0].arranged(x), training=False).reshape(len(part), -1)
            right += int(np.count_nonzero(scores.argmax(axis=1) == dataset.labels[part]))
        found.append((tried, read_at, right / count))
    return found


def read_model(path: FilePath) -> tuple[Net, FilePath]:
    """(net, path of the file) of a model file (our own format or ONNX), or of an output folder of ``train``."""
    path = path_name(path, "a model file, or an output folder of `train`")
    if os.path.isdir(path):
        inside = pathlib.Path(path) / "model.safetensors"
        if not inside.is_file():
            raise ModelFileError(
                f"{path}: a folder without model.safetensors; give a model file or an output folder of `train`"
            )
        path = str(inside)
    if pathlib.Path(path).suffix.lower() == ".onnx":
        from ..io import load_onnx

        return load_onnx(path), path
    return load(path), path
