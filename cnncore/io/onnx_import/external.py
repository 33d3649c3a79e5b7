"""Numbers that an ONNX file keeps in another file beside it, as PyTorch's exporter writes them.

Only regular files in the folder of the ONNX file are read. A location is a bare file name: no folder, no drive, no "..".
It is opened without following a link, and what was opened is checked, not what the name stands for at another moment. A file
with a second name (a hard link) is refused too, since its other name may lie anywhere. Offsets and lengths must lie within
the file, arrays do not share a part of their bytes, so that a file never becomes more numbers than it has bytes, and the file
must not change while it is read.
"""

import os
import stat

import numpy as np

from ...errors import ModelFileError

__all__ = ["Neighbours"]

WAY_OUT = "put all into one file with onnx.save_model(onnx.load(path), one_file, save_as_external_data=False)"
MOST_FILES = 64
SEPARATORS = frozenset("/\\:\0")


class Neighbours:
    """The files beside an ONNX file in ``folder``; None where there is no folder, as for bytes."""

    def __init__(self, folder):
        self.folder = folder
        self.files = {}  # location → Opened

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        opened, self.files = list(self.files.values()), {}
        for file in opened:
            os.close(file.descriptor)

    def check_unchanged(self):
        """Raise if a file was written to while its numbers were read."""
        for file in self.files.values():
            if identity(os.fstat(file.descriptor)) != file.identity:
                raise ModelFileError(f"{file.location!r} changed while it was read; try again when it is whole")

    def content(self, entries, needed, what):
        """The ``needed`` bytes of an array; ``entries``: what its tensor says of where they lie, key → text."""
        location = entries.get("location", "")
        if self.folder is None:
            raise ModelFileError(
                f"{what} lies in another file, {location!r}, which bytes do not have beside them: give load_onnx the path, "
                f"or {WAY_OUT}"
            )
        offset, length = (whole_number(entries, key, what) for key in ("offset", "length"))
        if length is not None and length != needed:
            raise ModelFileError(
                f"{what} takes {length} bytes of {location!r}; its shape needs {needed}: it is damaged"
            )
        if location not in self.files:
            if len(self.files) >= MOST_FILES:
                raise ModelFileError(f"its arrays lie in more than {MOST_FILES} files; {WAY_OUT}")
            self.files[location] = self.opened(location, what)
        return self.files[location].read(offset or 0, needed, what)

    def opened(self, location, what):
        """The file of that name in the folder, or ModelFileError."""
        if not location or location in (".", "..") or SEPARATORS & set(location):
            raise ModelFileError(
                f"{what} lies in {location!r}; only files in the same folder are read, by their bare name: {WAY_OUT}"
            )
        path = os.path.join(self.folder, location)
        try:
            before = os.lstat(path)
            if not stat.S_ISREG(before.st_mode):
                raise ModelFileError(
                    f"{what} lies in {location!r}, which is a link, a folder or a device; only regular files in the same "
                    "folder are read: copy it there"
                )
            descriptor = os.open(path, os.O_RDONLY | FLAGS)
        except OSError as error:
            raise ModelFileError(
                f"{what} lies in {location!r}, which cannot be read: {error.strerror or error}; it belongs into the folder of "
                "the ONNX file"
            ) from None
        found = os.fstat(descriptor)
        if identity(found) != identity(before) or not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(descriptor)
            raise ModelFileError(
                f"{what} lies in {location!r}, which "
                + ("has a second name (a hard link)" if found.st_nlink > 1 else "was replaced while it was opened")
                + "; only regular files in the same folder are read: copy it there"
            )
        return Opened(location, descriptor, found)


# A pipe must not block, a child process must not inherit, a link must not be followed; what a system lacks, lstat has seen.
FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"))


class Opened:
    """An open file with the parts that were read."""

    def __init__(self, location, descriptor, found):
        self.location, self.descriptor = location, descriptor
        self.identity, self.size = identity(found), found.st_size
        self.parts = {}  # (offset, length) → bytes: arrays that are one and the same are read once
        self.taken = 0

    def read(self, offset, length, what):
        """Bytes of the file as an array of bytes."""
        if (offset, length) in self.parts:
            return self.parts[offset, length]
        if offset + length > self.size:
            raise ModelFileError(
                f"{what} takes bytes {offset} to {offset + length} of {self.location!r}, which has {self.size}: it is "
                "cut off, or belongs to another file"
            )
        self.taken += length
        if self.taken > self.size:
            raise ModelFileError(f"{what} shares bytes of {self.location!r} with other arrays; {WAY_OUT}")
        content = np.empty(length, np.uint8)
        view, done = memoryview(content), 0
        os.lseek(self.descriptor, offset, os.SEEK_SET)
        while done < length:
            part = os.read(self.descriptor, min(length - done, MOST_READ))
            if not part:
                raise ModelFileError(f"{self.location!r} became shorter while it was read")
            view[done : done + len(part)] = part
            done += len(part)
        self.parts[offset, length] = content
        return content


MOST_READ = 1 << 24  # bytes of one call of the system


def identity(found):
    """What two looks at one unchanged file have in common."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def whole_number(entries, key, what):
    """An entry that is a number of bytes; None where there is none."""
    text = entries.get(key)
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelFileError(
            f"{what}: {key} of its numbers in another file is {text[:40]!r}; expected a number of bytes"
        )
    return int(text)
