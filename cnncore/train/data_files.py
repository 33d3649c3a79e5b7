"""Reading data sets: a folder per class, IDX files, npz files. Each reader returns (images, labels, class names).

Files are untrusted input. Every declared size is compared with what the file can hold before memory is allocated for
it, nothing is unpickled, and any fault becomes one DataError that says where it is and what to do.
"""

from __future__ import annotations

import gzip
import math
import os
import pathlib
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import check_folder, opened_file
from ..errors import DataError, printable
from ..io.npz import DEFLATE_LARGEST_RATIO, READ_BLOCK, _npz_entries, _read_npy, check_total
from ..vision.images import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    counted_kinds,
    read_image,
    resize,
    to_channels,
    warn_of_unread,
)

__all__ = [
    "check_total",
    "find_idx_pair",
    "labelled_files",
    "read_folder",
    "read_idx_arrays",
    "read_idx_pair",
    "read_npz",
    "two_files",
]

LARGEST_CLASS_COUNT = 100_000
PARTS = ("train", "training", "test", "testing", "val", "valid", "validation")  # folders of data sets, no classes


def two_files(text: str) -> tuple[pathlib.Path, pathlib.Path] | None:
    """Both halves of "images:labels" when both are files, else None.

    Every colon is tried, since Windows has one after the drive.

    Parameters
    ----------
    text : str

    Returns
    -------
    (pathlib.Path, pathlib.Path) or None

    Examples
    --------
    >>> two_files("absent.idx:absent.idx") is None
    True
    """
    for place, letter in enumerate(text):
        if letter == ":" and all(half and pathlib.Path(half).is_file() for half in (text[:place], text[place + 1 :])):
            return pathlib.Path(text[:place]), pathlib.Path(text[place + 1 :])
    return None


def _classes(
    name: Any, labels: NDArray[Any], class_names: Sequence[str] | None = None, some_classes: bool = False
) -> tuple[NDArray[Any], Sequence[str]]:
    """Number the labels from 0 and name the classes: (labels, class_names). With ``some_classes`` some may be missing."""
    if class_names is None:
        values, labels = np.unique(labels, return_inverse=True)
        class_names = [str(value) for value in values.tolist()]
        labels = labels.reshape(-1)
    if len(class_names) > LARGEST_CLASS_COUNT:
        raise DataError(f"{name}: {len(class_names)} different labels; expected classes, at most {LARGEST_CLASS_COUNT}")
    if some_classes:
        return labels, class_names
    inside = labels[(labels >= 0) & (labels < len(class_names))].astype(np.intp, copy=False)
    present = np.bincount(inside, minlength=len(class_names))
    if len(class_names) < 2 or np.count_nonzero(present) < 2:
        only = [class_name for class_name, count in zip(class_names, present, strict=True) if count]
        raise DataError(
            f"{name}: all images are of one class ({', '.join(map(repr, only)) or 'none'}); "
            "expected at least two: add a second class"
        )
    if present.min() == 0:
        empty = class_names[int(present.argmin())]
        raise DataError(f"{name}: no images in class {empty!r}; add some or remove the class")
    return labels, class_names


# ── Folders ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_folder(
    folder: pathlib.Path, channels: int | None = None, size: Sequence[int] | None = None, some_classes: bool = False
) -> tuple[Any, NDArray[Any], Sequence[str]]:
    """Read a folder with one subfolder per class, each of which may contain further folders.

    Parameters
    ----------
    folder : pathlib.Path
    channels : {None, 1, 3}
        As in `cnncore.vision.images.read_image`; None makes all RGB as soon as one is.
    size : (int, int), optional
        Resize each image as soon as it is read.
    some_classes : bool
        Whether classes may have no images, as in a held-out part.

    Returns
    -------
    (list of uint8 arrays, int array, list of str)

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     for name in ("cat", "dog"):
    ...         file = pathlib.Path(place) / name / "1.ppm"
    ...         file.parent.mkdir()
    ...         _ = file.write_text("P2 2 1 255 0 255")
    ...     images, labels, names = read_folder(pathlib.Path(place))
    >>> images[0], labels, names
    (array([[  0, 255]], dtype=uint8), array([0, 1]), ['cat', 'dog'])
    """
    files, numbers, class_names = labelled_files(folder, some_classes)
    images, total = [], 0
    for file in files:
        image = read_image(file, channels)
        images.append(image if size is None else resize(image, size))
        total += images[-1].nbytes
        check_total(folder, total, "give a size, to which images are resized while they are read")
    if len({image.ndim for image in images}) > 1:
        images = [to_channels(image, 3) for image in images]
    return images, numbers, class_names


def labelled_files(
    folder: pathlib.Path, some_classes: bool = False
) -> tuple[list[pathlib.Path], NDArray[Any], Sequence[str]]:
    """(files, labels, class names) of a folder with one subfolder per class; no image is read.

    Parameters
    ----------
    folder : pathlib.Path
    some_classes : bool
        Whether classes may be without images.

    Returns
    -------
    (list of pathlib.Path, int array, sequence of str)

    Raises
    ------
    DataError
        There are no classes, or no images.
    """
    subfolders = class_folders(folder)
    files, labels = [], []
    for label, subfolder in enumerate(subfolders):
        own, unread = images_below(subfolder)
        if not own and not some_classes:
            raise DataError(
                f"{folder}: no images in class {printable(subfolder.name)!r}; {what_to_do(subfolder, unread)}"
            )
        if unread:
            warn_of_unread(subfolder, unread)
        files += own
        labels += [label] * len(own)
    names = [printable(subfolder.name) for subfolder in subfolders]
    numbers, class_names = _classes(folder, np.array(labels, np.int64), names, some_classes)
    if not files:
        raise DataError(f"{folder}: there are no images; add some")
    return files, numbers, class_names


def class_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The subfolders of ``folder``, one per class, in the order of their names, or of their values where all are numbers."""
    check_folder(folder, "a folder with one subfolder of images per class")
    entries = sorted(entry for entry in folder.iterdir() if not skipped(entry.name))
    subfolders = [entry for entry in entries if entry.is_dir()]
    if not subfolders:
        found = "the folder is empty" if not entries else "the folder has no subfolders"
        raise DataError(f"{folder}: {found}; expected one per class, each with its images: cats/1.png, dogs/1.png …")
    if all(entry.name.lower() in PARTS for entry in subfolders):
        raise DataError(
            f"{folder}: its folders are parts of a data set ({', '.join(entry.name for entry in subfolders)}), not classes; "
            f"did you mean {subfolders[0]}?"
        )
    if all(re.fullmatch("[0-9]{1,9}", entry.name) for entry in subfolders):
        subfolders.sort(key=lambda entry: int(entry.name))
    return subfolders


def images_below(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """(files that are read, image files that are not) in a folder and its subfolders; links to folders are not
    followed.
    """
    found, unread = [], []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not skipped(name))
        for name in sorted(files):
            entry = pathlib.Path(place) / name
            if not skipped(name) and entry.is_file():
                if entry.suffix.lower() in IMAGE_SUFFIXES:
                    found.append(entry)
                elif entry.suffix.lower() in UNREAD_SUFFIXES:
                    unread.append(entry)
    return found, unread


def skipped(name: str) -> bool:
    """Whether a file or folder of this name is not the user's: hidden, or left behind by other programs."""
    return name.startswith(".") or name in ("__MACOSX", "__pycache__")


def what_to_do(folder: pathlib.Path, unread: Sequence[pathlib.Path]) -> str:
    """The way out for a class without images."""
    if unread:
        return f"it has {counted_kinds(unread)}, which are not read; convert them to one of {', '.join(IMAGE_SUFFIXES)}"
    other = [entry for entry in folder.rglob("*") if entry.is_file() and not skipped(entry.name)]
    if other:
        return f"it has {counted_kinds(other)}; {', '.join(IMAGE_SUFFIXES)} are read"
    return f"add some (such as {printable(folder.name)}/1.png) or remove it"


# ── IDX files ── Format of the MNIST files, described at http://yann.lecun.com/exdb/mnist/ ─────────────────────────────
#
#   2 bytes 0, 1 byte type of the numbers, 1 byte number of dimensions, uint32 big-endian per dimension, then the numbers.

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def find_idx_pair(folder: pathlib.Path, part: str) -> tuple[pathlib.Path, pathlib.Path] | None:
    """The images and labels file of ``part`` among the usual names, or None when the folder holds no IDX images.

    Parameters
    ----------
    folder : pathlib.Path
    part : {"train", "test"}

    Returns
    -------
    (pathlib.Path, pathlib.Path) or None

    Raises
    ------
    DataError
        The folder holds no such images or several, or images without labels.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"):
    ...         (pathlib.Path(place) / name).touch()
    ...     [file.name for file in find_idx_pair(pathlib.Path(place), "train")]
    ['train-images-idx3-ubyte', 'train-labels-idx1-ubyte.gz']
    """
    images = {}
    for entry in folder.iterdir():
        found = re.fullmatch(r"(.*?)images[-._]idx[34](-ubyte)?(\.gz)?", entry.name, re.IGNORECASE)
        if found and entry.is_file():
            images[found[1]] = entry
    if not images:
        return None
    test = {prefix for prefix in images if re.search("t10k|test|val", prefix, re.IGNORECASE)}
    wanted = sorted(prefix for prefix in images if (prefix in test) == (part == "test"))
    if len(wanted) != 1:
        listing = ", ".join(sorted(entry.name for entry in images.values()))
        raise DataError(
            f"{folder}: {len(wanted)} IDX files with images of part {part!r} (there are {listing}); "
            "name two files as images:labels"
        )
    pattern = re.compile(re.escape(wanted[0]) + r"labels[-._]idx1(-ubyte)?(\.gz)?", re.IGNORECASE)
    labels = sorted(entry for entry in folder.iterdir() if pattern.fullmatch(entry.name))
    if not labels:
        expected = f"{wanted[0]}labels-idx1-ubyte"
        raise DataError(
            f"{folder}: {images[wanted[0]].name} has no labels beside it; expected {expected} or {expected}.gz"
        )
    return images[wanted[0]], labels[0]


def read_idx_pair(
    images_file: pathlib.Path, labels_file: pathlib.Path, some_classes: bool = False
) -> tuple[Any, NDArray[Any], Sequence[str]]:
    """Read two IDX files, plain or gz.

    Parameters
    ----------
    images_file, labels_file : pathlib.Path
    some_classes : bool, optional
        Whether classes may have no images.

    Returns
    -------
    (uint8 array, int array, sequence of str)
        Images, labels and the names of the classes.

    Raises
    ------
    DataError
        A file is damaged, or the two do not belong together.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     images, labels = pathlib.Path(place) / "images", pathlib.Path(place) / "labels"
    ...     _ = images.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 30, 40]))
    ...     _ = labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 5]))
    ...     images, labels, names = read_idx_pair(images, labels)
    >>> images.tolist(), labels.tolist(), names
    ([[[30]], [[40]]], [1, 0], ['5', '7'])
    """
    images, labels = read_idx_arrays(images_file, labels_file)
    return images, *_classes(labels_file, labels, None, some_classes)


def read_idx_arrays(images_file: pathlib.Path, labels_file: pathlib.Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images and labels of two IDX files, plain or gz, the labels as they are in the file.

    Parameters
    ----------
    images_file, labels_file : pathlib.Path

    Returns
    -------
    (uint8 array, int array)

    Raises
    ------
    DataError
        A file is damaged, or the two do not belong together.
    """
    images, labels = _read_idx(images_file), _read_idx(labels_file)
    if images.ndim < 3 <= labels.ndim:
        raise DataError(f"{images_file}: holds labels and {labels_file} images; swap them")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"{labels_file}: holds {labels.dtype.name} {labels.shape}; expected one integer per image")
    images = _as_images(images_file, images)
    _check_counts(labels_file, images, labels)
    return images, labels


def _read_idx(file: pathlib.Path) -> NDArray[Any]:
    """The array in an IDX file; its declared size is checked against the size of the file before any memory is taken."""
    file_size = file.stat().st_size
    try:
        with opened_file(file, "an IDX file") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            return _read_idx_stream(file, stream, file_size * DEFLATE_LARGEST_RATIO if packed else file_size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file}: damaged or truncated gzip file ({error}); download it again") from None


def _read_idx_stream(file: pathlib.Path, stream: Any, largest: int) -> NDArray[Any]:
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES or not 1 <= head[3] <= 4:
        found = head.hex(" ") or "nothing"
        raise DataError(
            f"{file}: not an IDX file: it begins with {found}; expected 00 00, a type, and 1 to 4 dimensions"
        )
    sizes = stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"{file}: truncated IDX file (its header is incomplete); download it again")
    shape = struct.unpack(f">{head[3]}I", sizes)
    dtype = np.dtype(IDX_TYPES[head[2]])
    expected = math.prod(shape) * dtype.itemsize
    if expected > largest:
        raise DataError(
            f"{file}: truncated IDX file: too short for the {expected} bytes it declares; download it again"
        )
    check_total(file, expected, "split the file")
    content = bytearray()
    while len(content) < expected:
        block = stream.read(min(READ_BLOCK, expected - len(content)))
        if not block:
            missing = expected - len(content)
            raise DataError(f"{file}: truncated IDX file: {missing} of {expected} bytes are missing; download it again")
        content += block
    if stream.read(1):
        raise DataError(f"{file}: IDX file longer than the {shape} it declares; download it again")
    return np.frombuffer(content, dtype).reshape(shape)


# ── npz files ─────────────────────────────────────────────────────────────────────────────────────────────────────────

NPZ_KEYS = {
    "train": (("images", "labels"), ("x", "y"), ("x_train", "y_train"), ("train_images", "train_labels")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}


def read_npz(
    file: pathlib.Path, part: str = "train", some_classes: bool = False
) -> tuple[Any, NDArray[Any], Sequence[str]]:
    """Read the part "train" or "test" of an npz file.

    Parameters
    ----------
    file : pathlib.Path
    part : {"train", "test"}, optional
    some_classes : bool, optional
        Whether classes may have no images.

    Returns
    -------
    (uint8 array, int array, sequence of str)
        Images, labels and the names of the classes.

    Raises
    ------
    DataError
        The file is damaged, or holds no such arrays.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     file = pathlib.Path(place) / "set.npz"
    ...     np.savez(file, images=[[[0.0]], [[1.0]]], labels=["night", "day"])
    ...     images, labels, names = read_npz(file)
    >>> images.tolist(), labels.tolist(), names
    ([[[0]], [[255]]], [1, 0], ['day', 'night'])
    """
    try:
        with opened_file(file, "an .npz file") as opened, zipfile.ZipFile(opened) as archive:
            entries = _npz_entries(file, archive)
            for images_key, labels_key in NPZ_KEYS[part]:
                if images_key in entries and labels_key in entries:
                    break
            else:
                wanted = " or ".join("/".join(pair) for pair in NPZ_KEYS[part])
                raise DataError(f"{file}: holds {', '.join(sorted(entries)) or 'nothing'}; expected arrays {wanted}")
            images = _read_npy(file, archive, entries[images_key])
            labels = _read_npy(file, archive, entries[labels_key])
            class_names = _read_npy(file, archive, entries["class_names"]) if "class_names" in entries else None
    except (DataError, MemoryError):
        raise
    # A malicious zip file makes zipfile raise many things: BadZipFile, zlib.error, struct.error, NotImplementedError,
    # RuntimeError, UnicodeDecodeError, EOFError …
    except Exception as error:
        raise DataError(f"{file}: damaged npz file ({' '.join(str(error).split()) or type(error).__name__})") from None
    images = _as_images(f"{file}: {images_key}", images)
    labels, names = _as_labels(f"{file}: {labels_key}", labels, class_names)
    _check_counts(f"{file}: {labels_key}", images, labels)
    return images, *_classes(f"{file}: {labels_key}", labels, names, some_classes)


def _as_images(place: object, images: NDArray[Any]) -> NDArray[Any]:
    """uint8 (n, H, W) or (n, H, W, 3) from the layouts that occur: one channel or three, first or last; floats."""
    given = f"{images.dtype.name} {images.shape}"
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[:, :, :, 0]
    if 0 in images.shape or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise DataError(f"{place}: holds {given}; expected images as (n, H, W), (n, H, W, 3) or (n, 3, H, W)")
    if images.dtype != np.uint8:
        if images.dtype.kind not in "biuf":
            raise DataError(f"{place}: holds {given}; expected numbers")
        low, high = images.min(), images.max()
        if not (low >= 0 and high <= 255):  # not: NaN fails every comparison
            raise DataError(f"{place}: pixels run from {low} to {high}; expected 0 to 255, or floats from 0 to 1")
        if images.dtype.kind in "fb" and high <= 1:
            images = images * np.float32(255)
        images = np.rint(images).astype(np.uint8)
    return np.ascontiguousarray(images)


def _as_labels(place: str, labels: NDArray[Any], class_names: Any) -> tuple[NDArray[Any], Sequence[str] | None]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind == "f" and (abs(labels) < 2**24).all() and (labels == np.rint(labels)).all():
        labels = labels.astype(np.int64)
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise DataError(f"{place}: holds {labels.dtype.name} {labels.shape}; expected one integer or name per image")
    if class_names is None:
        return labels, None
    if class_names.ndim != 1 or class_names.dtype.kind != "U" or labels.dtype.kind == "U":
        raise DataError(f"{place}: class_names goes with integer labels and must be a list of text")
    if len(labels) and (labels.min() < 0 or labels.max() >= len(class_names)):
        found = f"{labels.min()} to {labels.max()}"
        raise DataError(
            f"{place}: labels run from {found}; expected 0 to {len(class_names) - 1}, as there are class_names"
        )
    return labels.astype(np.int64), class_names.tolist()


def _check_counts(place: Any, images: NDArray[Any], labels: NDArray[Any]) -> None:
    if len(images) != len(labels):
        raise DataError(f"{place}: {len(labels)} labels for {len(images)} images; expected one each")
