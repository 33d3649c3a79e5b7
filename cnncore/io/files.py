"""Atomic writing of files."""

from __future__ import annotations

import os
import pathlib

from ..nets.model_file import write_whole

__all__ = ["write_atomically"]


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Write beside the target, reach the disk, then rename: a reader sees the old file or the new one, never half.

    Parameters
    ----------
    path : path
    content : bytes

    Raises
    ------
    DataError
        The file cannot be written.
    """
    write_whole(os.fspath(path), [content])
