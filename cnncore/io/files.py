"""Atomic writing of files."""

from __future__ import annotations

import os
import pathlib

from ..nets.model_file import write_whole

__all__ = ["write_atomically"]


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Write a temporary file next to the target, flush it to disk, then rename: readers see either the old or the new file."""
    write_whole(os.fspath(path), [content])
