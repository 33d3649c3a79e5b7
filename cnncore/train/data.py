"""Labelled images for training: the embedded digits, folders, IDX files and npz files, as one kind of object.

``load(path)`` and ``digits_split()`` return a `Dataset`: uint8 images, int64 labels from 0 up, and the names of the
classes. Only ``Dataset.batches`` turns pixels into what a network takes: float32 (N, C, H, W) with mean 0 and standard
deviation 1 per channel over the training images. How files are read is in ``data_files.py``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import math
import pathlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_unmasked, integer, missing, path_name, per_axis, seed_number
from ..errors import DataError, DtypeError, FileReadError, SettingError, ShapeError, printable
from ..io.npz import check_total
from ..typing import FilePath, Seed
from ..vision.images import resize, to_channels
from ..vision.preprocessing import framed, normalise
from .augment import (
    LARGEST_SEED,
    ORDER_OF_BATCHES,
    SPLIT,
    Augment,
    batch_plan,
    check_mixup,
    part_of_batch,
    uniform,
)
from .data_files import find_idx_pair, read_folder, read_idx_pair, read_npz, two_files
from .known_data import is_known, read_known

__all__ = [
    "Dataset",
    "decode_digits",
    "digits",
    "digits_split",
    "load",
    "load_dataset",
    "normalise",
    "pixel_statistics",
]


# ── Data sets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels. The arrays are read-only.

    Parameters
    ----------
    images : uint8 array (n, H, W) or (n, H, W, 3), or sequence of arrays (H, W) or (H, W, 3)
        A sequence where sizes differ; all grey or all RGB.
    labels : int64 array (n,)
        From 0 to the number of classes − 1.
    class_names : sequence of str
    name : str, optional
        For messages and reports.
    mean, std : tuple of float, optional
        Per channel, of pixels / 255; computed from the images when not given. A held-out part has those of its training
        part.
    channel_order : {"rgb", "bgr"}, optional
        Order of the channels in batches, and of ``mean`` and ``std``. The images themselves are RGB.

    Raises
    ------
    SettingError
        ``channel_order`` is neither "rgb" nor "bgr".
    ShapeError, DtypeError
        The images are not as described, the labels are not one integer per image, or ``mean`` or ``std`` is not one
        number per channel.
    DataError
        There are no images, or a label has no class name.

    Examples
    --------
    >>> import numpy as np
    >>> shapes = Dataset(np.arange(16, dtype=np.uint8).reshape(4, 2, 2), [0, 1, 0, 1], ["square", "disc"], "shapes")
    >>> shapes
    Dataset 'shapes': 4 grey images 2×2, 2 classes
    >>> train, held_out = shapes.split(0.5, seed=0)
    >>> held_out.labels
    array([0, 1])
    >>> [(x.shape, x.dtype.name, y.tolist()) for x, y in shapes.batches(3)]
    [((3, 1, 2, 2), 'float32', [0, 1, 0]), ((1, 1, 2, 2), 'float32', [1])]
    """

    images: Any
    labels: Any
    class_names: Sequence[str]
    name: str = "data"
    mean: Any = None
    std: Any = None
    channel_order: str = "rgb"

    def __post_init__(self) -> None:
        images = self.images
        check_order(self.name, self.channel_order)
        for name, array in (("images", images), ("labels", self.labels)):
            for part in array if isinstance(array, (list, tuple)) else (array,):
                check_unmasked(self.name, name, part)
        labels = np.array(self.labels)
        names = tuple(printable(str(name)) for name in self.class_names)
        if not isinstance(images, np.ndarray):
            images = tuple(_read_only(np.asarray(image)) for image in images)
            if len({(image.shape, image.dtype) for image in images}) == 1:
                images = np.stack(images)
        if isinstance(images, np.ndarray) and images.ndim:
            images = _read_only(images)
            shapes, dtypes = {images.shape[1:]}, {images.dtype}
        else:
            shapes, dtypes = {image.shape for image in images}, {image.dtype for image in images}
        if not len(images):
            raise DataError(f"{self.name}: there are no images; add some for every class")
        for shape in shapes:
            if 0 in shape or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
                raise ShapeError(f"{self.name}: an image is {shape}; expected (H, W) or (H, W, 3)")
        if len({len(shape) for shape in shapes}) > 1:
            raise ShapeError(
                f"{self.name}: some images are grey and some RGB; convert with cnncore.vision.images.to_channels"
            )
        for dtype in dtypes:
            if dtype != np.uint8:
                raise DtypeError(f"{self.name}: images are {dtype}; expected uint8, pixel values from 0 to 255")
        if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
            raise ShapeError(
                f"{self.name}: labels are {labels.dtype} {labels.shape}; "
                f"expected one integer for each of {len(images)} images"
            )
        if labels.min() < 0 or labels.max() >= len(names):
            raise DataError(
                f"{self.name}: labels run from {labels.min()} to {labels.max()}; expected 0 to {len(names) - 1}, "
                f"one for each of {len(names)} class names"
            )
        labels = _read_only(labels.astype(np.int64))
        mean, std = (self.mean, self.std) if self.mean is not None else pixel_statistics(images)
        text = printable(str(self.name))
        for field, value in (("images", images), ("labels", labels), ("class_names", names), ("name", text)):
            object.__setattr__(self, field, value)
        channels = self.channels
        for field, value in (("mean", mean), ("std", std)):
            value = tuple(float(number) for number in np.atleast_1d(value))
            if len(value) != channels:
                raise ShapeError(f"{self.name}: {field} has {len(value)} numbers; the images have {channels} channels")
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        size = "×".join(map(str, self.size)) if self.size else "of several sizes"
        colour = "grey" if self.channels == 1 else "RGB"
        return f"Dataset {self.name!r}: {len(self)} {colour} images {size}, {len(self.class_names)} classes"

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return 1 if np.ndim(self.images[0]) == 2 else 3

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width), or None when the images have several sizes."""
        return self.images.shape[1:3] if isinstance(self.images, np.ndarray) else None

    @property
    def class_counts(self) -> NDArray[Any]:
        """Number of images of each class."""
        return np.bincount(self.labels.astype(np.intp, copy=False), minlength=len(self.class_names))

    def subset(self, indices: ArrayLike, name: str | None = None) -> Self:
        """Return the images numbered ``indices``, in that order, with the mean and standard deviation of this data set.

        Parameters
        ----------
        indices : int array
        name : str, optional
            Name of the new data set; by default this one's.

        Returns
        -------
        Dataset
        """
        indices = np.asarray(indices, np.int64)
        if isinstance(self.images, np.ndarray):
            images = self.images[indices]
        else:
            images = [self.images[index] for index in indices]
        return dataclasses.replace(self, images=images, labels=self.labels[indices], name=name or self.name)

    def resized(self, size: int | Sequence[int] | None = None) -> Self:
        """Return the data set with all images at one size; by default the median height and median width.

        Parameters
        ----------
        size : int or (int, int), optional
            Height and width.

        Returns
        -------
        Dataset
            Itself where it has that size.

        Raises
        ------
        DataError
            The images need more than 4 GiB at that size.

        Examples
        --------
        >>> import numpy as np
        >>> two = Dataset([np.zeros((2, 4), np.uint8), np.zeros((6, 4), np.uint8)], [0, 1], ["a", "b"])
        >>> two.resized(), two.resized((3, 3)).size
        (Dataset 'data': 2 grey images 4×4, 2 classes, (3, 3))
        """
        size = self.common_size(size)
        if self.size == size:
            return self
        check_total(self.name, len(self) * size[0] * size[1] * self.channels, "give a smaller size")
        return dataclasses.replace(self, images=np.stack([resize(image, size) for image in self.images]))

    def framed(self, size: Sequence[int], resize: int | None = None) -> Self:
        """Return the data set with centre crops of the images, as :func:`cnncore.vision.preprocessing.framed` makes them.

        Parameters
        ----------
        size : (int, int)
            Height and width of the crop.
        resize : int, optional
            Pixels along the shorter side before that; by default as few as the crop allows.

        Returns
        -------
        Dataset
            Itself where the images are of that size already.
        """
        size = self.common_size(size)
        if self.size == size and resize in (None, min(size)):
            return self
        check_total(self.name, len(self) * size[0] * size[1] * self.channels, "give a smaller size")
        images = [framed(image, min(size) if resize is None else resize, size) for image in self.images]
        return dataclasses.replace(self, images=np.stack(images))

    @property
    def stored_size(self) -> tuple[int, int] | None:
        """(height, width) of the images as they are stored, or None where these are several."""
        return self.size

    def common_size(self, size: int | Sequence[int] | None = None) -> tuple[int, ...]:
        """``size``; if it is None, that of the images, or the median height and width where they have several.

        Parameters
        ----------
        size : int or (int, int), optional

        Returns
        -------
        (int, int)

        Raises
        ------
        SettingError
            ``size`` is not a size of an image.
        """
        if size is not None:
            return per_axis("Dataset", "size", size, rank=2, minimum=1)
        if self.size is not None:
            return self.size
        return tuple(int(extent) for extent in np.median([image.shape[:2] for image in self.images], axis=0))

    def split(self, fraction: float = 0.2, seed: Seed = 0) -> tuple[Self, Self]:
        """Split every class in the same proportion.

        Parameters
        ----------
        fraction : float, optional
            The fraction of each class that is held out, rounded; both parts get at least one image of each class.
        seed : int or numpy.random.Generator, optional
            Determines which images; the same seed gives the same split.

        Returns
        -------
        (Dataset, Dataset)
            The training part and the held-out part. Both have the mean and standard deviation of the training part.

        Raises
        ------
        SettingError
            ``fraction`` is not between 0 and 1.
        DataError
            A class has fewer than 2 images.

        Examples
        --------
        >>> images, labels = np.zeros((10, 4, 4), np.uint8), np.arange(10) % 2
        >>> rest, held_out = Dataset(images, labels, ("even", "odd")).split(0.2)
        >>> rest.class_counts.tolist(), held_out.class_counts.tolist()
        ([4, 4], [1, 1])
        """
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction < 1:
            raise SettingError(f"split: fraction must be between 0 and 1, got {fraction!r}")
        counts = self.class_counts
        if counts.min() < 2:
            scarce = self.class_names[int(counts.argmin())]
            raise DataError(
                f"{self.name}: {counts.min()} of the images are of class {scarce!r}; a split needs at least 2 of each "
                "class, one to train and one to hold out"
            )
        shuffled = _shuffled(seed_number("split", "seed", seed), 0, len(self), SPLIT)
        by_class = shuffled[np.argsort(self.labels[shuffled], kind="stable")]
        held_out = np.zeros(len(self), bool)
        for first, count in zip((np.cumsum(counts) - counts).tolist(), counts.tolist(), strict=True):
            share = min(max(round(fraction * count), 1), count - 1)
            held_out[by_class[first : first + share]] = True
        return _train_and_held_out(self, held_out)

    def batches(
        self,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        augment: Augment | None = None,
        size: int | Sequence[int] | None = None,
        rank: int | range = 0,
        ranks: int = 1,
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield the data set once, as batches (x, labels) of at most ``batch_size`` images.

        Parameters
        ----------
        batch_size : int
        seed : int, optional
            Shuffles: the order depends on (seed, epoch) alone. None keeps the order of the data set.
        epoch : int, optional
        augment : Augment, optional
            Distorts each image, in a way that depends only on (seed, epoch, index of the image); needs ``seed``. Its
            canvases are used in turn, with fewer images on larger ones.
        size : int or (int, int), optional
            Resize to this; by default to the median where images have several sizes. To resize once instead of in
            each epoch, use ``resized``.
        rank, ranks : int, optional
            Yield part number ``rank`` of ``ranks`` of every batch instead, for a process that trains along with others; a
            range of numbers stands for several parts next to one another. A part of a small batch may be empty.

        Yields
        ------
        x : float32 array (N, C, H, W)
            (pixel / 255 − mean) / std.
        labels : int64 array (N,)
            With mixup probabilities, float32 (N, K).

        Raises
        ------
        SettingError
            A setting is out of range, ``augment`` has no seed, or mixup is to mix a part of a batch.
        """
        batch_size = integer("batches", "batch_size", batch_size, 1)
        part_of_batch(0, batch_size, rank, ranks)  # checks them
        epoch = integer("batches", "epoch", epoch, 0, LARGEST_SEED)
        if augment is not None and seed is None:
            raise SettingError("batches: augment needs a seed, which determines the distortions")
        check_mixup(augment, ranks)
        size = self.common_size(size)
        order = np.arange(len(self)) if seed is None else _shuffled(seed, epoch, len(self), ORDER_OF_BATCHES)
        draws = None if augment is None or seed is None else augment.draws(seed, epoch, len(self))
        plan = batch_plan(len(order), batch_size, augment)
        parts = ((*part_of_batch(first, last, rank, ranks), canvas) for first, last, canvas in plan)
        batches = self._batches(parts, order, size, augment, draws)
        if augment is None or seed is None or not augment.mixup:
            return ((x, labels) for _, x, labels in batches)
        shares, mix = augment.shares(seed, epoch, len(self)), augment.mixed
        return (mix(x, labels, shares[chosen], len(self.class_names)) for chosen, x, labels in batches)

    def _batches(
        self,
        parts: Iterable[tuple[int, int, Sequence[float]]],
        order: NDArray[Any],
        size: tuple[int, ...],
        augment: Augment | None,
        draws: NDArray[Any] | None,
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """(numbers of the images, x, labels) of each batch."""
        plan = list(parts)
        batches = [order[first:last] for first, last, _ in plan]
        for chosen, images, (_, _, canvas) in zip(batches, self._pixels(batches, size), plan, strict=True):
            if augment is not None and draws is not None:
                images = augment.distort(images, draws[chosen], canvas)
            if self.channel_order == "bgr" and images.ndim == 4:
                images = images[..., ::-1]
            yield chosen, normalise(images, self.mean, self.std), self.labels[chosen]

    def pixel_statistics(self, images: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) of ``images`` per channel, as :func:`pixel_statistics` has them.

        Parameters
        ----------
        images : uint8 array (n, H, W) or (n, H, W, 3), or sequence of such images

        Returns
        -------
        (tuple of float, tuple of float)
        """
        return pixel_statistics(images)

    def _pixels(self, batches: Sequence[NDArray[Any]], size: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        """The images of each batch of numbers, at one size."""
        for chosen in batches:
            if self.size == size:
                yield self.images[chosen]
            elif not len(chosen):
                yield np.empty((0, *size, *self.images[0].shape[2:]), np.uint8)
            else:
                yield np.stack([resize(self.images[index], size) for index in chosen])


def pixel_statistics(images: NDArray[Any] | Sequence[NDArray[Any]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) of pixels / 255 per channel, exactly rounded, from histograms; a constant channel gets std 1.

    Parameters
    ----------
    images : uint8 array (n, H, W) or (n, H, W, 3), or sequence of such images

    Returns
    -------
    mean, std : tuple of float
        One number per channel.

    Examples
    --------
    >>> import numpy as np
    >>> pixel_statistics(np.array([[[0, 255]]], np.uint8))
    ((0.5,), (0.5,))
    """
    channels = 1 if np.ndim(images[0]) == 2 else 3
    histogram = np.zeros((channels, 256), np.int64)
    for image in images:  # image by image: bincount converts to int64, eight times the memory
        for channel, pixels in enumerate(np.atleast_3d(image).transpose(2, 0, 1)):
            histogram[channel] += np.bincount(pixels.reshape(-1), minlength=256)
    value = [int(v) for v in range(256)]
    mean, std = [], []
    for counts in histogram.tolist():
        n = sum(counts)
        total = sum(c * v for c, v in zip(counts, value, strict=True))
        squares = sum(c * v * v for c, v in zip(counts, value, strict=True))
        mean.append(total / (255 * n))
        std.append(math.sqrt((n * squares - total * total) / (n * n)) / 255 or 1.0)
    return tuple(mean), tuple(std)


AnyDataset = TypeVar("AnyDataset", bound=Dataset)


def check_order(name: str, order: str) -> None:
    """Raise unless ``order`` is an order of channels."""
    if order not in ("rgb", "bgr"):
        raise SettingError(f"{name}: channel_order must be 'rgb' or 'bgr', got {order!r}")


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array = array.view()
    array.flags.writeable = False
    return array


def _shuffled(seed: int, epoch: int, count: int, purpose: int) -> NDArray[Any]:
    return np.argsort(uniform(seed, epoch, purpose, count), kind="stable")


def _train_and_held_out(dataset: AnyDataset, held_out: NDArray[Any]) -> tuple[AnyDataset, AnyDataset]:
    train = dataset.subset(np.flatnonzero(~held_out), f"{dataset.name}, training part")
    mean, std = train.pixel_statistics(train.images)
    rest = dataset.subset(np.flatnonzero(held_out), f"{dataset.name}, held-out part")
    return dataclasses.replace(train, mean=mean, std=std), dataclasses.replace(rest, mean=mean, std=std)


# ── The embedded digits ───────────────────────────────────────────────────────────────────────────────────────────────
#
# digits/digits.bin, format 1, little-endian; tools/make_digits.py writes it:
#
#   8 bytes "CNNDIGIT", uint16 format (1), uint16 height, uint16 width, uint16 0, uint32 n images, uint32 r runs,
#   32 bytes SHA-256 of (n · height · width pixels, then n labels),
#   zlib stream of n labels (uint8), r run lengths (uint8), and the values of all pixels that are not 0 (uint8).
#
# Run lengths alternate between pixels that are 0 and pixels that are not, over all images as one sequence, and begin with
# zeros; a run longer than 255 is several, with runs of length 0 between. The digits are the work of Yann LeCun and
# Corinna Cortes (MNIST), CC BY-SA 3.0: see LICENSE and ATTRIBUTION in that folder.

DIGITS_HEADER = struct.Struct("<8sHHHHII32s")


def digits() -> tuple[NDArray[Any], NDArray[Any]]:
    """The embedded data set: 5,000 handwritten digits of MNIST, 500 of each class, sorted by class.

    Returns
    -------
    images : uint8 array (5000, 28, 28)
        White (255) on black (0).
    labels : int64 array (5000,)

    References
    ----------
    LeCun, Bottou, Bengio & Haffner 1998, Proceedings of the IEEE 86(11), 2278-2324, doi:10.1109/5.726791. MNIST is the
    work of Yann LeCun and Corinna Cortes, licensed under CC BY-SA 3.0.

    Examples
    --------
    >>> images, labels = digits()
    >>> images.shape, images.dtype.name, labels[[0, 499, 500, 4999]].tolist()
    ((5000, 28, 28), 'uint8', [0, 0, 1, 9])
    """
    file = importlib.resources.files(__package__) / "digits" / "digits.bin"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"the embedded digits cannot be read ({error}); reinstall cnncore") from None
    return decode_digits(content)


def decode_digits(content: bytes) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return ``(images, labels)`` from the bytes of ``digits.bin``.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    images : uint8 array (n, H, W)
    labels : int64 array (n,)

    Raises
    ------
    DataError
        The content is damaged: a checksum covers every pixel and label.

    Examples
    --------
    >>> decode_digits(b"CNNDIGIT")
    Traceback (most recent call last):
    cnncore.errors.DataError: the embedded digits are damaged (no header); reinstall cnncore
    """

    def damaged(reason: str) -> DataError:
        return DataError(f"the embedded digits are damaged ({reason}); reinstall cnncore")

    if len(content) < DIGITS_HEADER.size:
        raise damaged("no header")
    magic, version, height, width, zero, count, run_count, digest = DIGITS_HEADER.unpack_from(content)
    if magic != b"CNNDIGIT" or version != 1 or zero != 0:
        raise damaged("another format")
    pixel_count = count * height * width
    packed = content[DIGITS_HEADER.size :]
    if max(pixel_count, run_count, count) > 2**28:
        raise damaged("impossible size")
    inflate = zlib.decompressobj()
    try:
        inflated = inflate.decompress(packed, count + run_count + pixel_count + 1)
    except zlib.error:
        raise damaged("not a zlib stream") from None
    stream = np.frombuffer(inflated, np.uint8)
    if len(stream) < count + run_count or not inflate.eof or inflate.unused_data:
        raise damaged("wrong length")
    labels, runs, ink = np.split(stream, [count, count + run_count])
    inked = np.zeros(run_count, bool)
    inked[1::2] = True
    inked = np.repeat(inked, runs)
    if len(inked) != pixel_count or np.count_nonzero(inked) != len(ink):
        raise damaged("wrong number of pixels")
    images = np.zeros((count, height, width), np.uint8)
    images.reshape(-1)[inked] = ink
    if hashlib.sha256(images.tobytes() + labels.tobytes()).digest() != digest:
        raise damaged("wrong checksum")
    return images, labels.astype(np.int64)


def digits_split(seed: Seed = 0) -> tuple[Dataset, Dataset]:
    """The embedded digits as (4,000 for training, 1,000 held out: 100 of each class).

    The held-out digits are always the same: every fifth of each class. Results on them are comparable whatever the
    seed.

    Parameters
    ----------
    seed : int or numpy.random.Generator, optional
        Orders the training part only (``Dataset.batches`` shuffles anyway).

    Returns
    -------
    (Dataset, Dataset)

    Examples
    --------
    >>> train, held_out = digits_split()
    >>> train
    Dataset 'digits, training part': 4000 grey images 28×28, 10 classes
    >>> held_out.class_counts.tolist()
    [100, 100, 100, 100, 100, 100, 100, 100, 100, 100]
    """
    images, labels = digits()
    everything = Dataset(images, labels, tuple("0123456789"), "digits")
    train, held_out = _train_and_held_out(everything, np.arange(len(labels)) % 5 == 4)
    return train.subset(_shuffled(seed_number("digits_split", "seed", seed), 0, len(train), SPLIT)), held_out


# ── Any data set ──────────────────────────────────────────────────────────────────────────────────────────────────────


def load_dataset(name: str, part: str = "train", *, folder: FilePath | None = None) -> Dataset:
    """Load MNIST, Fashion-MNIST or CIFAR-10; files that are missing are downloaded once.

    Downloads need pooch (``pip install 'cnncore[datasets]'``) and are compared with their SHA-256. They are kept in the
    user's cache folder, or in that of the environment variable CNNCORE_DATA; files that are there already are used
    without a network, and so are those of Debian's package ``dataset-fashion-mnist``.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist", "cifar10"}
    part : {"train", "test"}, optional
    folder : path, optional
        Where the files are, or are put, in place of the cache folder.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        There is no such data set, or a file is damaged or cannot be downloaded; the message says which file to put
        where.
    ImportError
        A file is missing, and pooch is not installed.
    SettingError
        ``part`` is neither of these.

    Examples
    --------
    >>> train = load_dataset("fashion_mnist")  # doctest: +SKIP
    >>> train.images.shape, train.class_names[:2]  # doctest: +SKIP
    ((60000, 28, 28), ('T-shirt/top', 'Trouser'))
    """
    if part not in ("train", "test"):
        raise SettingError(f"load_dataset: part must be 'train' or 'test', got {part!r}")
    return Dataset(*read_known(name, part, folder), name)


IMAGES = "a folder of images per class, an .npz file, two IDX files, or the name of a data set"


def load(
    path: FilePath,
    part: str = "train",
    channels: int | None = None,
    size: int | Sequence[int] | None = None,
    some_classes: bool = False,
) -> Dataset:
    """Load labelled images.

    Parameters
    ----------
    path : path
        One of

        * a folder with one subfolder per class, holding PNG, PGM/PPM, or (with Pillow: ``pip install 'cnncore[data]'``)
          JPEG, BMP, GIF, WebP or TIFF files of any size, also in nested folders. Images in other formats are skipped
          with a warning. Classes are numbered in the order of their names, or of their values when all names are
          numbers;
        * a folder with IDX files of the usual names (``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, also
          ``.gz``);
        * two IDX files, ``"images.idx:labels.idx"``;
        * an ``.npz`` file with arrays ``images`` and ``labels`` (or ``x`` and ``y``, or ``x_train`` and ``y_train``),
          and optionally ``class_names``;
        * the name of a data set, as for :func:`load_dataset`, where there is no file or folder of this name.
    part : {"train", "test"}, optional
        Which of two parts, where IDX folder or npz hold both (``t10k-…``, ``x_test``).
    channels : {None, 1, 3}, optional
        1 makes all images grey, 3 makes all RGB. None: grey when every image is stored as grey, else RGB.
    size : int or (int, int), optional
        Resize while reading, so that the originals need not all fit in memory.
    some_classes : bool, optional
        Whether it may lack images of some classes, as a held-out part may.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        The data cannot be read; the message names the file and the remedy.
    SettingError
        ``part``, ``channels`` or ``size`` is none of these.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "shapes.npz"
    ...     np.savez(file, images=np.zeros((4, 8, 8), np.uint8), labels=["disc", "square", "disc", "square"])
    ...     load(file).class_names
    ('disc', 'square')
    """
    if part not in ("train", "test"):
        raise SettingError(f"load: part must be 'train' or 'test', got {part!r}")
    if channels not in (None, 1, 3):
        raise SettingError(f"load: channels must be None, 1 (grey) or 3 (RGB), got {channels!r}")
    if size is not None:
        size = per_axis("load", "size", size, rank=2, minimum=1)
    text = path_name(path, IMAGES)
    place = pathlib.Path(text)
    try:
        if place.is_dir():
            pair = find_idx_pair(place, part)
            loaded = read_idx_pair(*pair, some_classes) if pair else read_folder(place, channels, size, some_classes)
        elif place.is_file():
            if place.suffix.lower() != ".npz":
                raise DataError(f"{place}: expected a folder, an .npz file, or two IDX files as images.idx:labels.idx")
            loaded = read_npz(place, part, some_classes)
        elif is_known(text):
            loaded = read_known(text, part)
        elif pair := two_files(text):
            loaded = read_idx_pair(*pair, some_classes)
        else:
            raise missing(printable(text), "file or folder", IMAGES)
    except FileReadError:
        raise
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error})") from None
    images, labels, names = loaded
    if channels is not None:
        images = [to_channels(image, channels) for image in images]
    dataset = Dataset(images, labels, names, place.stem if place.is_file() else place.resolve().name)
    return dataset if size is None else dataset.resized(size)
