"""Files of results: what a model makes of some images, as npz or as a table in Parquet.

A shard is written atomically. The same results give the same bytes, whichever process writes them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, SettingError, printable
from ..io.files import write_atomically

__all__ = ["FORMATS", "Failure", "Shard", "failures_in"]

Failure = tuple[str, str]  # a file, and why it could not be used


@dataclass(frozen=True)
class Shard:
    """What a model makes of some images: one array for each file of ``files``."""

    what: str
    files: Sequence[str]
    values: Sequence[NDArray[Any]]
    failed: Sequence[Failure]
    classes: Sequence[str] = ()

    def write(self, path: str) -> None:
        """Write the file, in the format that its ending names."""
        write_atomically(Path(path), FORMATS[Path(path).suffix[1:]].content(self))


def npz_content(shard: Shard) -> bytes:
    """``files``; ``probabilities``, ``values`` or ``value_0``, ``value_1`` and so on; ``classes``; ``failed``, ``errors``."""
    results: dict[str, Any] = {}
    values = shard.values
    if shard.classes:
        results["classes"] = np.array(shard.classes)
    if shard.what == "predictions" and values:
        results["probabilities"] = np.stack(values)
    elif len({value.shape for value in values}) == 1:
        results["values"] = np.stack(values)
    else:
        results |= {f"value_{number}": value for number, value in enumerate(values)}
    texts = {
        "files": shard.files,
        "failed": [name for name, _ in shard.failed],
        "errors": [error for _, error in shard.failed],
    }
    results |= {key: np.array(value, dtype=np.str_) for key, value in texts.items()}
    content = io.BytesIO()
    np.savez(content, **results)
    return content.getvalue()


def npz_failures(path: Path) -> list[Failure]:
    """The failures that a shard in npz names."""
    with np.load(path, allow_pickle=False) as shard:
        return list(zip(shard["failed"].tolist(), shard["errors"].tolist(), strict=True))


def parquet() -> Any:
    """The packages that read and write Parquet."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SettingError(f"Parquet needs pyarrow ({error}): pip install 'cnncore[parquet]'") from None
    return pyarrow


def parquet_content(shard: Shard) -> bytes:
    """A row per file, those that failed last: ``file``, ``error``, ``class`` (of predictions), ``shape``, ``values``.

    Parquet keeps texts in UTF-8: what is not printable in a name, such as bytes that are no UTF-8, is escaped.
    """
    arrow = parquet()
    files = [*map(printable, shard.files), *(printable(name) for name, _ in shard.failed)]
    missing = [None] * len(shard.failed)
    columns = {
        "file": arrow.array(files, arrow.string()),
        "error": arrow.array(
            [None] * len(shard.files) + [printable(error) for _, error in shard.failed], arrow.string()
        ),
    }
    if shard.what == "predictions":
        best = [printable(shard.classes[int(np.argmax(value))]) for value in shard.values]
        columns["class"] = arrow.array([*best, *missing], arrow.string())
    dtype = shard.values[0].dtype if shard.values else np.dtype(np.float32)
    shapes = [list(value.shape) for value in shard.values]
    columns["shape"] = arrow.array([*shapes, *missing], arrow.list_(arrow.int32()))
    numbers = [np.ascontiguousarray(value).ravel() for value in shard.values]
    columns["values"] = arrow.array([*numbers, *missing], arrow.list_(arrow.from_numpy_dtype(dtype)))
    table = arrow.table(columns)
    if shard.classes:
        table = table.replace_schema_metadata({"classes": "\n".join(map(printable, shard.classes))})
    content = io.BytesIO()
    arrow.parquet.write_table(table, content, compression="zstd")
    return content.getvalue()


def parquet_failures(path: Path) -> list[Failure]:
    """The failures that a shard in Parquet names."""
    arrow = parquet()
    try:
        table = arrow.parquet.read_table(path, columns=["file", "error"])
    except arrow.ArrowException as error:
        raise ValueError(error) from None
    return [(row["file"], row["error"]) for row in table.to_pylist() if row["error"] is not None]


@dataclass(frozen=True)
class Format:
    """How shards are written, where their failures are found again, and whether that is possible here."""

    content: Callable[[Shard], bytes]
    failures: Callable[[Path], list[Failure]]
    check: Callable[[], object] = bool


FORMATS = {
    "npz": Format(npz_content, npz_failures),
    "parquet": Format(parquet_content, parquet_failures, parquet),
}


def failures_in(paths: Sequence[Path]) -> tuple[Failure, ...]:
    """(file, error) of all that could not be used, from the shards."""
    found: list[Failure] = []
    for path in paths:
        try:
            found += FORMATS[path.suffix[1:]].failures(path)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}: not a shard ({error}); delete it, and call extract again") from None
    return tuple(found)
