"""Arrays in .npz files, read as untrusted input."""

from __future__ import annotations

import math
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import opened_file
from ..errors import DataError, shortened
from ..typing import FilePath

LARGEST_DATASET_BYTES = 2**32  # of pixels in memory

LARGEST_NPZ_ENTRIES = 64
READ_BLOCK = 2**20
DEFLATE_LARGEST_RATIO = 1032  # two bits of deflate yield at most 258 bytes, so a small file cannot hold a large array


def check_total(name: object, size: int, way_out: str) -> None:
    """Refuse images that need more than 4 GiB of memory together.

    Parameters
    ----------
    name : str
        Name of the data, for the error.
    size : int
        Bytes.
    way_out : str
        What to do, for the error.

    Raises
    ------
    DataError

    Examples
    --------
    >>> check_total("photos", 2**33, "give a size")
    Traceback (most recent call last):
    cnncore.errors.DataError: photos: the arrays need 8.0 GiB of memory, more than 4; give a size
    """
    if size > LARGEST_DATASET_BYTES:
        limit = LARGEST_DATASET_BYTES / 2**30
        raise DataError(f"{name}: the arrays need {size / 2**30:.1f} GiB of memory, more than {limit:g}; {way_out}")


def npz_arrays(file: FilePath, most_entries: int, way_out: str) -> dict[str, NDArray[Any]]:
    """Name → array of an npz file, numbers only, never a pickle; an invalid file raises a DataError.

    Parameters
    ----------
    file : path
    most_entries : int
        More are refused.
    way_out : str
        What to do about too many or too large arrays, for the error.

    Returns
    -------
    dict

    Raises
    ------
    DataError
        The file is damaged, or holds too much.
    FileReadError
        It cannot be opened.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     file = pathlib.Path(place) / "weights.npz"
    ...     np.savez(file, w=[1.5, 2.5])
    ...     npz_arrays(file, 10, "write fewer arrays")
    {'w': array([1.5, 2.5])}
    """
    try:
        with opened_file(file, "an .npz file") as opened, zipfile.ZipFile(opened) as archive:
            entries = _npz_entries(file, archive, most_entries, way_out)
            return {name: _read_npy(file, archive, member) for name, member in entries.items()}
    except (DataError, MemoryError):
        raise
    except Exception as error:  # as in read_npz
        raise DataError(
            f"{file}: damaged npz file ({shortened(' '.join(str(error).split())) or type(error).__name__})"
        ) from None


def _npz_entries(
    file: FilePath,
    archive: zipfile.ZipFile,
    most_entries: int = LARGEST_NPZ_ENTRIES,
    way_out: str = "store uint8 images, or fewer of them",
) -> dict[str, zipfile.ZipInfo]:
    """The members of the archive by array name, once their number and declared sizes are acceptable."""
    members = archive.infolist()
    if len(members) > most_entries:
        raise DataError(f"{file}: {len(members)} entries, more than {most_entries}; {way_out}")
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise DataError(
                f"{file}: entry {shortened(member.filename)!r} is encrypted or compressed by a method other than deflate"
            )
        if member.file_size > DEFLATE_LARGEST_RATIO * member.compress_size + 64:
            raise DataError(
                f"{file}: damaged npz file: {shortened(member.filename)!r} declares more bytes than it can contain"
            )
    check_total(file, sum(member.file_size for member in members), way_out)
    entries = {}
    for member in members:
        key = member.filename.removesuffix(".npy")
        if key in entries:
            raise DataError(f"{file}: two entries {shortened(key)!r}; expected one")
        entries[key] = member
    return entries


def _read_npy(file: FilePath, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """One array of an npz. ``numpy.load`` would take the memory that the header declares before it reads a byte of it."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise DataError(
                f"{file}: entry {shortened(member.filename)!r} has format version {version}; expected 1.0 or 2.0"
            )
        if dtype.kind not in "biufU":
            raise DataError(f"{file}: entry {shortened(member.filename)!r} contains {dtype}; expected numbers or text")
        expected = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or expected > member.file_size:
            raise DataError(
                f"{file}: damaged npz file: {shortened(member.filename)!r} declares {shape} {dtype}, more than it contains"
            )
        content = stream.read(expected)
        if len(content) != expected or stream.read(1):
            raise DataError(
                f"{file}: damaged npz file: {shortened(member.filename)!r} does not have the length of {shape} {dtype}"
            )
    array = np.ndarray(shape, dtype, content, order="F" if fortran_order else "C")
    return array if dtype.kind == "U" else array.astype(dtype.newbyteorder("="), copy=False)
