"""Files written whole or not at all."""

import os

from ..nets.model_file import write_whole

__all__ = ["write_atomically"]


def write_atomically(path, content):
    """Write beside the target, reach the disk, then rename: a reader sees the old file or the new one, never half."""
    write_whole(os.fspath(path), [content])
