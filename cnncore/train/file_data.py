"""Labelled images that stay in their files: each is read, and brought to the common size, when a batch needs it.

Reading takes place on other threads, a few batches ahead of training. Every image is framed in one way, which
``cnncore.vision.preprocessing`` defines and a model file records: its shorter side is brought to ``resize`` pixels, and
the centre crop is taken. Prediction from the same file then sees the same numbers.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import integer, path_name, per_axis
from ..errors import DataError, ShapeError, printable
from ..typing import FilePath
from ..vision.images import image_shape, read_image
from ..vision.preprocessing import framed
from ..vision.reading import read_ahead
from .data import Dataset, check_order, pixel_statistics
from .data_files import labelled_files

__all__ = ["FileDataset", "ImageFiles"]

MOST_KEPT_BYTES = 1 << 30  # of images that have been read, and are kept for the next epoch
MOST_MEASURED = 256  # images from which mean and standard deviation are computed
BATCHES_AHEAD = 2


class ImageFiles:
    """Image files as if they were one uint8 array (n, H, W) or (n, H, W, 3), which is read where it is indexed.

    Images are kept in memory once read, up to 1 GiB of them.

    Parameters
    ----------
    files : sequence of path
    size : (int, int)
        Height and width of the centre crop of every image.
    channels : {1, 3}
    resize : int, optional
        Pixels along the shorter side before that; by default as few as the crop allows.
    stored_size : (int, int), optional
        Height and width of all files, where they are of one size.
    """

    def __init__(
        self,
        files: Sequence[FilePath],
        size: Sequence[int],
        channels: int = 3,
        resize: int | None = None,
        stored_size: tuple[int, int] | None = None,
    ) -> None:
        self.files = tuple(files)
        self.size = per_axis("ImageFiles", "size", size, rank=2, minimum=1)
        self.resize = min(self.size) if resize is None else integer("ImageFiles", "resize", resize, 1)
        self.channels, self.stored_size = channels, stored_size
        self.dtype = np.dtype(np.uint8)
        self.shape = (len(self.files), *self.size, *((3,) if channels == 3 else ()))
        self.ndim = len(self.shape)
        self._kept: dict[int, NDArray[Any]] = {}
        self._most_kept = MOST_KEPT_BYTES // math.prod(self.shape[1:])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if isinstance(index, (int, np.integer)):
            return self.read(range(len(self))[index])
        (images,) = self.batches([np.arange(len(self))[index]])
        return images

    def read(self, number: int) -> NDArray[Any]:
        """Read one image.

        Parameters
        ----------
        number : int

        Returns
        -------
        uint8 array (H, W) or (H, W, 3)
        """
        kept = self._kept.get(number)
        if kept is None:
            kept = framed(read_image(self.files[number], self.channels), self.resize, self.size)
            kept.flags.writeable = False
            if len(self._kept) < self._most_kept:
                self._kept[number] = kept
        return kept

    def batches(self, batches: Sequence[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Yield the images of each batch of numbers; those of the next batches are being read meanwhile.

        Parameters
        ----------
        batches : sequence of int array

        Yields
        ------
        uint8 array (batch, H, W) or (batch, H, W, 3)
        """
        numbers = itertools.chain.from_iterable(batch.tolist() for batch in batches)
        longest = max((len(batch) for batch in batches), default=0)
        images = read_ahead(self.read, numbers, BATCHES_AHEAD * longest)
        try:
            for batch in batches:
                found = list(itertools.islice(images, len(batch)))
                yield np.stack(found) if found else np.empty((0, *self.shape[1:]), np.uint8)
        finally:
            images.close()

    def chosen(self, indices: ArrayLike) -> ImageFiles:
        """The images numbered ``indices``, without reading them.

        Parameters
        ----------
        indices : int array

        Returns
        -------
        ImageFiles
        """
        numbers = np.asarray(indices, np.int64).tolist()
        made = ImageFiles([self.files[k] for k in numbers], self.size, self.channels, self.resize, self.stored_size)
        made._kept = {new: self._kept[old] for new, old in enumerate(numbers) if old in self._kept}
        return made

    def framed_as(
        self, size: Sequence[int] | None = None, channels: int | None = None, resize: int | None = None
    ) -> ImageFiles:
        """The same files at another size, or with other channels.

        Parameters
        ----------
        size : (int, int), optional
        channels : {1, 3}, optional
        resize : int, optional
            Pixels along the shorter side before the crop.

        Returns
        -------
        ImageFiles
        """
        if size is None and resize is None:
            size, resize = self.size, self.resize
        return ImageFiles(self.files, size or self.size, channels or self.channels, resize, self.stored_size)


@dataclass(frozen=True, eq=False, repr=False)
class FileDataset(Dataset):
    """A :class:`cnncore.train.data.Dataset` whose images stay in their files; see :meth:`from_folder`.

    Mean and standard deviation, where they are not given, are those of at most 256 images, evenly over the data set.

    Parameters
    ----------
    images : ImageFiles
    labels : int64 array (n,)
        From 0 to the number of classes − 1.
    class_names : sequence of str
    name : str, optional
        For messages and reports.
    mean, std : tuple of float, optional
        Per channel, of pixels / 255.
    channel_order : {"rgb", "bgr"}, optional
        Order of the channels in batches, and of ``mean`` and ``std``.
    measured : bool, optional
        Whether mean and standard deviation are computed, of this data set and of the parts that it is split into. False:
        they are 0 and 1 unless given, and no image is read for them.

    Raises
    ------
    SettingError
        ``channel_order`` is neither "rgb" nor "bgr".
    ShapeError
        There is not one label for each file.
    DataError
        There are no files, or a label has no class name.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from cnncore.vision.images import write_png
    >>> with tempfile.TemporaryDirectory() as place:
    ...     for name, grey in (("night", 10), ("day", 250)):
    ...         (pathlib.Path(place) / name).mkdir()
    ...         _ = write_png(pathlib.Path(place) / name / "1.png", np.full((4, 6), grey, np.uint8))
    ...     photos = FileDataset.from_folder(place, size=2)
    ...     [(x.shape, labels.tolist()) for x, labels in photos.batches(2)]
    ...     photos.common_size(), photos.resized(3).size, photos.framed((2, 2), 3).size, len(photos.subset([1]))
    ...     photos.pixel_statistics(photos.images)[0][0].__round__(3)
    [((2, 1, 2, 2), [0, 1])]
    ((2, 2), (3, 3), (2, 2), 1)
    0.51
    """

    measured: bool = True

    def __post_init__(self) -> None:
        names = tuple(printable(str(name)) for name in self.class_names)
        labels = np.array(self.labels, np.int64)
        check_order(self.name, self.channel_order)
        if not len(self.images):
            raise DataError(f"{self.name}: there are no images; add some for every class")
        if labels.shape != (len(self.images),):
            raise ShapeError(
                f"{self.name}: labels are {labels.shape}; expected one for each of {len(self.images)} files"
            )
        if labels.min() < 0 or labels.max() >= len(names):
            raise DataError(
                f"{self.name}: labels run from {labels.min()} to {labels.max()}; expected 0 to {len(names) - 1}"
            )
        labels.flags.writeable = False
        mean, std = self.mean, self.std
        if mean is None and self.measured:
            mean, std = self.pixel_statistics(self.images)
        elif mean is None:
            mean, std = [0.0] * self.images.channels, [1.0] * self.images.channels
        fields = {"labels": labels, "class_names": names, "name": printable(str(self.name))}
        for field, value in fields.items():
            object.__setattr__(self, field, value)
        for field, value in (("mean", mean), ("std", std)):
            object.__setattr__(self, field, tuple(float(number) for number in np.atleast_1d(value)))

    @classmethod
    def from_folder(
        cls,
        folder: FilePath,
        size: int | Sequence[int] | None = None,
        resize: int | None = None,
        channels: int | None = None,
        some_classes: bool = False,
        mean: Any = None,
        std: Any = None,
        measured: bool = True,
    ) -> Self:
        """The images below a folder with one subfolder per class; their headers are read, the images are not.

        Parameters
        ----------
        folder : path
        size : int or (int, int), optional
            Height and width of the centre crop of each image; by default the median height and median width.
        resize : int, optional
            Pixels along the shorter side before the crop; by default as few as the crop allows.
        channels : {1, 3}, optional
            By default 1 where every image is greyscale, else 3.
        some_classes : bool, optional
            Whether it may hold images of some classes only: a part that is held out from training.
        mean, std : sequence of float, optional
            Per channel, of pixels / 255; by default those of the images.
        measured : bool, optional
            Whether mean and standard deviation are computed where they are not given.

        Returns
        -------
        FileDataset

        Raises
        ------
        DataError
            There are no classes or images, or a file is no image that is read.
        """
        place = pathlib.Path(path_name(folder, "a folder with one subfolder of images per class"))
        files, labels, names = labelled_files(place, some_classes)
        shapes = list(read_ahead(image_shape, files, ahead=len(files)))
        if channels is None:
            channels = 3 if any(len(shape) == 3 for shape in shapes) else 1
        if size is None:
            size = tuple(int(extent) for extent in np.median([shape[:2] for shape in shapes], axis=0))
        size = per_axis("FileDataset", "size", size, rank=2, minimum=1)
        sizes = {(shape[0], shape[1]) for shape in shapes}
        images = ImageFiles(files, size, channels, resize, sizes.pop() if len(sizes) == 1 else None)
        return cls(images, labels, names, place.resolve().name, mean, std, measured=measured)

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return int(self.images.channels)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images in batches."""
        height, width = self.images.size
        return height, width

    def subset(self, indices: ArrayLike, name: str | None = None) -> Self:
        """Return the images numbered ``indices``, in that order, with the mean and standard deviation of this data set.

        Parameters
        ----------
        indices : int array
        name : str, optional
            Name of the new data set; by default this one's.

        Returns
        -------
        FileDataset
        """
        indices = np.asarray(indices, np.int64)
        images = self.images.chosen(indices)
        return dataclasses.replace(self, images=images, labels=self.labels[indices], name=name or self.name)

    def resized(self, size: int | Sequence[int] | None = None) -> Self:
        """Return the data set with the centre crops at another size, as much of each image as fits.

        Parameters
        ----------
        size : int or (int, int), optional
            Height and width.

        Returns
        -------
        FileDataset
            Itself where it has that size.
        """
        size = self.common_size(size)
        return self if size == self.size else dataclasses.replace(self, images=self.images.framed_as(size))

    def framed(self, size: Sequence[int], resize: int | None = None) -> Self:
        """Return the data set with other centre crops of the images.

        Parameters
        ----------
        size : (int, int)
            Height and width of the crop.
        resize : int, optional
            Pixels along the shorter side before that; by default as few as the crop allows.

        Returns
        -------
        FileDataset
            Itself where that changes nothing.
        """
        size = self.common_size(size)
        if self.size == size and (resize or min(size)) == self.images.resize:
            return self
        return dataclasses.replace(self, images=self.images.framed_as(size, None, resize))

    @property
    def stored_size(self) -> tuple[int, int] | None:
        """(height, width) of all files, or None where these are several."""
        return self.images.stored_size

    def pixel_statistics(self, images: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) of ``images`` per channel, from at most 256 of them, or as they are where nothing is measured.

        Parameters
        ----------
        images : ImageFiles

        Returns
        -------
        (tuple of float, tuple of float)
        """
        if not self.measured:
            return self.mean, self.std
        count = min(len(images), MOST_MEASURED)
        return pixel_statistics(images[np.arange(count) * len(images) // count])

    def _pixels(self, batches: Sequence[NDArray[Any]], size: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        yield from (self.images if size == self.size else self.images.framed_as(size)).batches(batches)
