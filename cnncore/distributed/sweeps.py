"""A function over a grid of settings: every result in a file of its own, and a table that grows while it runs."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import pathlib
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import DataError, SettingError
from ..io.files import write_atomically
from ..typing import FilePath
from .tasks import finished

__all__ = ["sweep"]


def sweep(
    function: Callable[..., Any],
    grid: Mapping[str, Iterable[Any]],
    folder: FilePath,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[dict[str, Any]]:
    """Call ``function(**settings)`` for every combination of a grid; return the table, a dict per combination.

    Each result is written to a file in ``folder`` as soon as it is there, and ``table.csv`` holds all of them: called
    again, only what is missing is computed. What the function raises is a result too, in the column ``error``: it would
    raise it again. A combination whose process is killed is tried again.

    Parameters
    ----------
    function : callable
        Returns a dict of plain values (JSON), or one such value. Importable by name where ``workers`` is above 1.
    grid : mapping of str to iterable
        Name of an argument → its values, which are plain (JSON).
    folder : path
        Created where it is missing.
    workers : int, optional
        Processes of this machine; 1: this process.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers run the function instead (extra ``dask``).
    progress : callable, optional
        ``progress(done, total)``, after each result.

    Returns
    -------
    list of dict
        In the order of the grid: the settings, what was returned ("result", or the keys of the dict), "error", "seconds".

    Raises
    ------
    SettingError
        A value of the grid is not plain, or two combinations are the same.
    DataError
        A file cannot be written, or one of the folder is damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = sweep(lambda base, power: base**power, {"base": [2, 3], "power": [1, 2]}, folder)
    >>> [row["result"] for row in table]
    [2, 4, 3, 9]
    """
    place = pathlib.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    rows = [dict(zip(grid, values, strict=True)) for values in itertools.product(*(tuple(v) for v in grid.values()))]
    files = [place / f"{name_of(row)}.json" for row in rows]
    if len(set(files)) < len(files):
        raise SettingError("sweep: the grid has a combination of settings twice; give every value once")
    table = {number: read_result(file) for number, file in enumerate(files) if file.is_file()}
    missing = [number for number in range(len(rows)) if number not in table]
    tasks = [(function, rows[number], str(files[number])) for number in missing]
    for number, result, error in finished(run_one, tasks, workers, scheduler):
        at = missing[number]
        if error is not None:  # not the function's, which run_one keeps
            result = {**rows[at], "error": str(error), "seconds": None}
            write_atomically(files[at], json.dumps(result).encode())
        table[at] = result
        write_table(place / "table.csv", [table[n] for n in sorted(table)])
        if progress is not None:
            progress(len(table), len(rows))
    ordered = [table[number] for number in range(len(rows))]
    write_table(place / "table.csv", ordered)
    return ordered


def name_of(settings: Mapping[str, Any]) -> str:
    """A file name for a combination: a digest of its settings."""
    try:
        text = json.dumps(settings, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SettingError(f"sweep: values of the grid must be plain (JSON): {error}") from None
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def run_one(function: Callable[..., Any], settings: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Run one combination, and write what came of it."""
    began = time.perf_counter()
    row: dict[str, Any] = dict(settings)
    try:
        result = function(**settings)
        row |= result if isinstance(result, dict) else {"result": result}
        row |= {"error": None}
        json.dumps(row)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        row = {
            **settings,
            "error": f"{type(error).__name__}: {error} ({pathlib.Path(last.filename).name}:{last.lineno})",
        }
    row["seconds"] = round(time.perf_counter() - began, 3)
    write_atomically(pathlib.Path(file), json.dumps(row).encode())
    return row


def read_result(file: pathlib.Path) -> dict[str, Any]:
    """What an earlier call wrote."""
    try:
        row = json.loads(file.read_bytes())
    except (ValueError, OSError) as error:
        raise DataError(f"{file}: not a result of a sweep ({error}); delete it to compute it again") from None
    if not isinstance(row, dict):
        raise DataError(f"{file}: not a result of a sweep; delete it to compute it again")
    return row


def write_table(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
    """All results so far as comma-separated values."""
    names = list(dict.fromkeys(name for row in rows for name in row if name not in ("error", "seconds")))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*names, "error", "seconds"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
