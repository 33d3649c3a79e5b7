"""Data sets by name: MNIST, Fashion-MNIST and CIFAR-10, downloaded once with pooch, or from files that are there.

Every archive is compared with its SHA-256 before it is read, also when it was there already. The addresses stand in
one table, `KNOWN`; nothing else in cnncore uses the network.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, unknown_name
from ..typing import FilePath
from .data_files import read_idx_arrays

__all__ = ["KNOWN", "cache_folder", "is_known", "read_known"]

CIFAR_SIDE = 32
CIFAR_BYTES = 1 + 3 * CIFAR_SIDE**2  # of an image: its label, then red, green and blue plane
LARGEST_MEMBER = 1 << 26  # of an archive


@dataclass(frozen=True)
class KnownData:
    """A data set: its files with their SHA-256, where they are to be had, and its classes.

    Parameters
    ----------
    title : str
    home : str
        A page about it, for people.
    addresses : tuple of str
        Folders that hold the files, tried in this order.
    digests : mapping
        File → SHA-256.
    parts : mapping
        "train" and "test" → the files of each.
    classes : tuple of str
    installed : str, optional
        Where a package of an operating system puts the same images.
    """

    title: str
    home: str
    addresses: tuple[str, ...]
    digests: Mapping[str, str]
    parts: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]
    installed: str | None = None


IDX_PARTS = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
CIFAR_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR_MEMBERS = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}

KNOWN = {
    "mnist": KnownData(
        title="MNIST (LeCun, Cortes & Burges 1998)",
        home="http://yann.lecun.com/exdb/mnist/",
        addresses=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        digests={
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        parts=IDX_PARTS,
        classes=tuple("0123456789"),
    ),
    "fashion_mnist": KnownData(
        title="Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747)",
        home="https://github.com/zalandoresearch/fashion-mnist",
        addresses=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        digests={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        parts=IDX_PARTS,
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        installed="/usr/share/datasets/fashion-mnist",  # Debian's package dataset-fashion-mnist
    ),
    "cifar10": KnownData(
        title="CIFAR-10 (Krizhevsky 2009)",
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        addresses=("https://www.cs.toronto.edu/~kriz/",),
        digests={CIFAR_ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        parts={"train": (CIFAR_ARCHIVE,), "test": (CIFAR_ARCHIVE,)},
        classes=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
    ),
}


def is_known(data: FilePath) -> bool:
    """Whether ``data`` names a data set of `KNOWN`, and no file or folder.

    Parameters
    ----------
    data : path or str

    Returns
    -------
    bool

    Examples
    --------
    >>> is_known("mnist"), is_known("photos/")
    (True, False)
    """
    return os.fspath(data) in KNOWN and not os.path.exists(data)


def cache_folder() -> pathlib.Path:
    """The folder that keeps downloaded files: that of the variable CNNCORE_DATA, or "cnncore" among the user's caches.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ImportError
        pooch, which knows the user's cache folder, is not installed.
    """
    given = os.environ.get("CNNCORE_DATA")
    return pathlib.Path(given) if given else pathlib.Path(_pooch("CNNCORE_DATA is not set").os_cache("cnncore"))


def read_known(
    name: str, part: str, folder: FilePath | None = None
) -> tuple[NDArray[Any], NDArray[Any], Sequence[str]]:
    """Read one part of a data set by name; what is missing is downloaded first.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist", "cifar10"}
    part : {"train", "test"}
    folder : path, optional
        Where its files are, or are put; by default the folder where a package of the operating system has them, else a
        folder of this name in `cache_folder`.

    Returns
    -------
    (uint8 array, int array, sequence of str)
        Images, labels and the names of the classes.

    Raises
    ------
    DataError
        There is no such data set, or a file is damaged or cannot be downloaded; the message says which file to put
        where.
    ImportError
        A file is missing, and pooch is not installed.
    """
    known = KNOWN.get(name)
    if known is None:
        raise DataError(unknown_name("load_dataset", "data set", name, KNOWN))
    files = known.parts[part]
    if folder is None and known.installed is not None and os.path.isdir(known.installed):
        paths = [pathlib.Path(known.installed) / file for file in files]
    else:
        place = cache_folder() / name if folder is None else pathlib.Path(folder)
        paths = [_present(known, file, place) for file in files]
    images, labels = _cifar(paths[0], part) if name == "cifar10" else read_idx_arrays(paths[0], paths[1])
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= len(known.classes):
        raise DataError(f"{paths[-1]}: labels run to {labels.max()}; {name} has {len(known.classes)} classes")
    return images, labels, known.classes


def _present(known: KnownData, file: str, folder: pathlib.Path) -> pathlib.Path:
    """The path of a file in ``folder`` with the right SHA-256, downloaded if it is not there."""
    path, digest = folder / file, known.digests[file]
    damaged = path.is_file() and _sha256(path) != digest
    if path.is_file() and not damaged:
        return path
    pooch = _pooch(f"{path} is {'damaged, or another version of the file' if damaged else 'not there'}")
    reason = ""
    for address in known.addresses:
        try:
            return pathlib.Path(pooch.retrieve(address + file, f"sha256:{digest}", fname=file, path=folder))
        # What a download raises depends on the protocol and on the library below pooch.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
    raise DataError(
        f"{path}: {known.title} could not be downloaded ({reason[:200]}). Without a network, get {file} from another "
        f"machine (see {known.home}) and put it into {folder}; CNNCORE_DATA names another cache folder"
    )


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pooch(why: str) -> Any:
    try:
        import pooch
    except ImportError:
        raise ImportError(
            f"load_dataset: {why}, and pooch, which downloads data sets, is not installed: pip install 'cnncore[datasets]'"
        ) from None
    return pooch


def _cifar(archive: pathlib.Path, part: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images and labels of the binary version of CIFAR-10; nothing is unpacked to disk."""
    batches = []
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in CIFAR_MEMBERS[part]:
                stream = tar.extractfile(member)
                content = b"" if stream is None else stream.read(LARGEST_MEMBER + 1)
                if not content or len(content) % CIFAR_BYTES or len(content) > LARGEST_MEMBER:
                    raise DataError(
                        f"{archive}: {member} has {len(content)} bytes; expected a multiple of {CIFAR_BYTES}, images with labels"
                    )
                batches.append(np.frombuffer(content, np.uint8).reshape(-1, CIFAR_BYTES))
    except (tarfile.TarError, EOFError, KeyError, OSError) as error:
        raise DataError(f"{archive}: cannot be read ({error}); remove it, and it is downloaded again") from None
    rows = np.concatenate(batches)
    planes = rows[:, 1:].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), rows[:, 0].astype(np.int64)
