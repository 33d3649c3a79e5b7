"""One net over many images: predictions, features or class activation maps, in shards that are files.

A shard is a fixed number of images. Whichever process computes it writes it whole, and what is there is not computed again:
a worker, the scheduler or this process may die at any time. Results do not depend on the number of workers.
"""

from __future__ import annotations

import concurrent.futures
import csv
import functools
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..checks import integer
from ..errors import CnnError, DataError, SettingError
from ..io.files import write_atomically
from ..typing import FilePath
from ..vision.classify import Classifier, Prediction
from ..vision.images import read_image
from .shards import FORMATS, Failure, Shard, failures_in
from .tasks import finished

__all__ = ["Extracted", "extract"]

WHAT = ("predictions", "features", "maps")
BATCH = 16  # images of one size that run together
READERS = 2  # threads that read and decode beside the computation
DESCRIPTION = "extraction.json"


@dataclass(frozen=True)
class Extracted:
    """What :func:`extract` has done.

    Parameters
    ----------
    shards : tuple of path
        The files, in the order of the images.
    computed : int
        Shards that this call computed; the others were there.
    images : int
    failed : tuple of (str, str)
        Files that could not be read or used, and why; also in ``failed.csv``.
    """

    shards: tuple[pathlib.Path, ...]
    computed: int
    images: int
    failed: tuple[tuple[str, str], ...]


def extract(
    model: FilePath,
    files: Sequence[FilePath],
    folder: FilePath,
    *,
    what: str = "predictions",
    node: str | None = None,
    shard_size: int = 64,
    format: str = "npz",
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Extracted:
    """Run a model over image files; write ``shard-00000.npz`` (or ``.parquet``) and so on into ``folder``.

    Each file holds ``files`` and, by ``what``: ``probabilities`` (n, classes) and ``classes``; ``values``, what ``node``
    makes of each image; or ``values``, the class activation map of the predicted class. Values of images of several sizes
    are ``value_0``, ``value_1`` and so on. ``failed`` and ``errors`` name the files that are no images for this model.
    A file in Parquet is a table with one row per image: ``file``, ``error`` (null where there is none), ``class`` (of
    predictions), ``shape`` and ``values`` (the numbers as one list); the names of the classes are in its metadata.

    Parameters
    ----------
    model : path
        A model file, or an output folder of training; readable by all workers.
    files : sequence of path
    folder : path
        Created where it is missing. Of an interrupted call, shards that are there are kept.
    what : {"predictions", "features", "maps"}, optional
    node : str, optional
        The node whose values are the features.
    shard_size : int, optional
        Images per shard.
    format : {"npz", "parquet"}, optional
        Parquet needs pyarrow (extra ``parquet``), on the workers too.
    workers : int, optional
        Processes of this machine; 1: this process.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers run instead (extra ``dask``).
    progress : callable, optional
        ``progress(shards done, shards)``, after each.

    Returns
    -------
    Extracted

    Raises
    ------
    SettingError
        A setting is unknown, or the folder holds another extraction.
    DataError
        The model cannot be read, or a shard could not be computed or written.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> from cnncore.distributed import extract
    >>> files = [f"{number}.png" for number in range(3)]
    >>> for number, file in enumerate(files):
    ...     _ = cnncore.images.write_png(file, np.full((28, 28), 80 * number, np.uint8))
    >>> cnncore.models.small_inception(seed=0).save("model.safetensors")
    >>> done = extract("model.safetensors", files, "features", what="features", node="scores", shard_size=2)
    >>> [path.name for path in done.shards], done.computed, done.images, done.failed
    (['shard-00000.npz', 'shard-00001.npz'], 2, 3, ())
    >>> np.load(done.shards[0])["values"].shape
    (2, 10)
    >>> extract("model.safetensors", files, "features", what="features", node="scores", shard_size=2).computed
    0
    """
    if what not in WHAT:
        raise SettingError(f"extract: what is {what!r}; choose one of {', '.join(map(repr, WHAT))}")
    if (node is None) == (what == "features"):
        raise SettingError("extract: features are those of a node: give what='features' and node='name', or neither")
    shard_size = integer("extract", "shard_size", shard_size, 1)
    if format not in FORMATS:
        raise SettingError(f"extract: format is {format!r}; choose one of {', '.join(map(repr, FORMATS))}")
    FORMATS[format].check()
    classifier = Classifier.from_file(model)
    if node is not None:
        classifier.net.graph.number(node, "extract")
    names = [os.path.abspath(file) for file in files]
    if not names:
        raise DataError("extract: there are no images; give files or folders")
    place = pathlib.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    settings = {"what": what, "node": node, "shard_size": shard_size, "format": format}
    describe(place, classifier, names, settings)
    paths = [place / f"shard-{number:05}.{format}" for number in range(-(-len(names) // shard_size))]
    missing = [number for number, path in enumerate(paths) if not path.is_file()]
    tasks = [
        (os.path.abspath(model), names[n * shard_size : (n + 1) * shard_size], os.path.abspath(paths[n]), what, node)
        for n in missing
    ]
    for done, (number, _, error) in enumerate(finished(compute_shard, tasks, workers, scheduler), 1):
        if error is not None:
            raise DataError(f"{paths[missing[number]].name}: {error}; call extract again to continue") from error
        if progress is not None:
            progress(len(paths) - len(missing) + done, len(paths))
    failed = failures_in(paths)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("file", "error"), *failed])
    write_atomically(place / "failed.csv", text.getvalue().encode("utf-8", "surrogateescape"))
    return Extracted(tuple(paths), len(missing), len(names), failed)


def describe(place: pathlib.Path, classifier: Classifier, names: list[str], settings: dict[str, Any]) -> None:
    """Write what the folder holds, or raise if it holds something else."""
    digest = hashlib.sha256()
    for name, array in sorted({**classifier.net.parameters, **classifier.net.buffers}.items()):
        digest.update(name.encode() + array.tobytes())
    listed = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    wanted = {**settings, "weights": digest.hexdigest(), "images": len(names), "files": listed}
    path = place / DESCRIPTION
    if not path.is_file():
        write_atomically(path, json.dumps({"made_by": f"cnncore {__version__}", **wanted}, indent=1).encode())
        return
    try:
        found = json.loads(path.read_bytes())
        different = [name for name, value in wanted.items() if found[name] != value]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the description of an extraction ({error}); choose another folder") from None
    if different:
        raise SettingError(
            f"extract: {place} holds an extraction with other {', '.join(different)}; choose another folder, or empty it"
        )


@functools.lru_cache(maxsize=2)
def classifier_of(model: str, changed: int, size: int) -> Classifier:
    """The classifier in a model file, which a worker reads once for all its shards."""
    return Classifier.from_file(model)


def compute_shard(model: str, names: list[str], path: str, what: str, node: str | None) -> int:
    """Compute one shard and write its file; returns the number of images in it."""
    state = os.stat(model)
    classifier = classifier_of(model, state.st_mtime_ns, state.st_size)
    failed: list[Failure] = []
    good: list[str] = []
    classes: tuple[str, ...] = ()
    with concurrent.futures.ThreadPoolExecutor(READERS) as readers:
        read = readers.map(functools.partial(read_or_error, classifier.channels), names)
        if what == "features":
            values = features_of(classifier, node or "", names, read, good, failed)
        else:
            predictions = predictions_of(classifier, names, read, good, failed)
            maps = what == "maps"
            values = [classifier.activation_map(each) if maps else each.probabilities for each in predictions]
            classes = tuple(predictions[0].classes) if predictions else ()
    Shard(what, good, values, failed, classes).write(path)
    return len(good)


def read_or_error(channels: int | None, name: str) -> NDArray[Any] | Exception:
    """The pixels of a file, or what is wrong with it."""
    try:
        return read_image(name, channels)
    except (CnnError, OSError) as error:
        return error


def predictions_of(
    classifier: Classifier, names: list[str], read: Any, good: list[str], failed: list[Failure]
) -> list[Prediction]:
    """The prediction for each image that can be used."""
    predictions = []
    for name, pixels in zip(names, read, strict=True):
        try:
            if isinstance(pixels, Exception):
                raise pixels
            predictions.append(classifier.classify(pixels, name))
            good.append(name)
        except (CnnError, OSError) as error:
            failed.append((name, str(error)))
    return predictions


def features_of(
    classifier: Classifier,
    node: str,
    names: list[str],
    read: Any,
    good: list[str],
    failed: list[Failure],
) -> list[NDArray[Any]]:
    """What ``node`` makes of each image that can be used; images of one size run in batches."""
    inputs: dict[int, NDArray[Any]] = {}
    values: dict[int, NDArray[Any]] = {}
    fixed = [extent for extent in classifier.net.graph.inputs[0].size if extent is not None]
    for number, pixels in enumerate(read):
        if isinstance(pixels, Exception):
            failed.append((names[number], str(pixels)))
        elif classifier.preprocessing.frames:
            inputs[number] = classifier.prepared(classifier.preprocessing.framed(pixels, fixed or None))
        else:
            inputs[number] = classifier.prepared(pixels, fixed or classifier.familiar_size(pixels.shape[:2]))
    for shape in dict.fromkeys(x.shape for x in inputs.values()):
        alike = [number for number, x in inputs.items() if x.shape == shape]
        for first in range(0, len(alike), BATCH):
            batch = alike[first : first + BATCH]
            try:
                found = classifier.net.values(np.concatenate([inputs[n] for n in batch]), names=[node], training=False)
                values |= dict(zip(batch, found[node], strict=True))
            except CnnError as error:  # too small for the net
                failed.extend((names[n], str(error)) for n in batch)
    good.extend(names[number] for number in sorted(values))
    return [values[number] for number in sorted(values)]
