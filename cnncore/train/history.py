"""The history of a training as files that other programs read."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterable

from ..io.files import write_atomically
from ..typing import FilePath
from .loop import Epoch

__all__ = ["write_history"]


def write_history(path: FilePath, history: Iterable[Epoch]) -> None:
    """Write the history of a training as ``path``.csv and ``path``.json, a row or an object per epoch.

    Metrics on the validation data have names that begin with "validation_".

    Parameters
    ----------
    path : path
        Without suffix.
    history : iterable of Epoch

    Raises
    ------
    FileWriteError
        A file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_history(pathlib.Path(folder) / "history", [Epoch(0, 0.5, 0.75, None, None, 0.1, 900.0, 2.0)])
    ...     print((pathlib.Path(folder) / "history.csv").read_text())
    epoch,loss,accuracy,validation_loss,validation_accuracy,learning_rate,images_per_second,seconds
    0,0.5,0.75,,,0.1,900.0,2.0
    <BLANKLINE>
    """
    rows = [dataclasses.asdict(epoch) for epoch in history]
    for row in rows:
        row |= {f"validation_{name}": value for name, value in row.pop("validation_metrics").items()}
    names = [field.name for field in dataclasses.fields(Epoch) if field.name != "validation_metrics"]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys([*names, *(n for row in rows for n in row)])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    place = pathlib.Path(path)
    write_atomically(place.with_name(place.name + ".csv"), text.getvalue().encode())
    write_atomically(place.with_name(place.name + ".json"), (json.dumps(rows, indent=1) + "\n").encode())
