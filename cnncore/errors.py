"""All exceptions and warnings of cnncore.

Each message names the place, what was expected, what was given, and a way out::

    inception_3a/conv5x5: input has 2 dimensions (64, 28); expected (N, C, H, W). A single image? Use x[None].
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "printable",
    "CnnError",
    "ShapeError",
    "DtypeError",
    "SettingError",
    "GraphError",
    "ModelFileError",
    "FileReadError",
    "MissingFileError",
    "FileWriteError",
    "ArrayChangedError",
    "DataError",
    "GradientError",
    "KinkError",
    "CnnWarning",
    "DataWarning",
    "EnvironmentWarning",
    "KinkWarning",
    "PrecisionWarning",
]


class CnnError(Exception):
    """Base class of all exceptions of cnncore."""


class ShapeError(CnnError, ValueError):
    """An array's dimensions do not fit the operator, its settings, or another array."""


class DtypeError(CnnError, TypeError):
    """An array is neither float32 nor float64, or two arrays that must agree differ."""


class SettingError(CnnError, ValueError, TypeError):
    """A setting is unknown, missing, of the wrong type, or out of range."""


class GraphError(CnnError, ValueError):
    """A graph is invalid: a cycle, an unused branch, a join of unequal sizes."""


class ModelFileError(CnnError, ValueError):
    """A model file is damaged, truncated, malicious, or of an unknown version."""


class ArrayChangedError(CnnError, RuntimeError):
    """An array that a backward pass reads was modified in place since the forward pass."""


class DataError(CnnError, ValueError):
    """A data set, an image file, or the values of an array cannot be read or used."""


class FileReadError(ModelFileError, DataError, OSError):
    """A file cannot be opened: it does not exist, is a folder, or may not be read."""


class MissingFileError(FileReadError, FileNotFoundError):
    """There is no file of that name."""


class FileWriteError(DataError, OSError):
    """A file cannot be written: no such folder, no permission, no space. An existing file is left unchanged."""


class GradientError(CnnError, AssertionError):
    """A backward pass disagrees with the numerical derivative."""


class KinkError(GradientError):
    """The derivative does not exist: an array contains a kink, a tie or a jump."""


class CnnWarning(UserWarning):
    """Base class of the warnings of cnncore, other than deprecations, which are DeprecationWarnings."""


class DataWarning(CnnWarning):
    """Data are used otherwise than they might be meant: files are skipped, or the white of an image is assumed."""


class EnvironmentWarning(CnnWarning, RuntimeWarning):
    """An environment variable asks for what this machine does not have."""


class PrecisionWarning(CnnWarning):
    """A model file asks for several precisions; a net computes in one."""


class KinkWarning(CnnWarning):
    """Elements are so close to a kink that their gradient was checked at a point next to them."""


def unknown_name(place: str, what: str, name: object, names: Iterable[str], then: str = "There are") -> str:
    """The message about a name that is not among ``names``, with the nearest one as a suggestion.

    ``then`` introduces the list of names; with a full stop it replaces a list that would be too long.
    """
    near = nearest(str(name), names)
    hint = "." if near is None else f"; did you mean {near!r}?"
    listed = then if then.endswith(".") else f"{then} {', '.join(names) or 'none'}."
    return f"{place}: unknown {what} {name!r}{hint} {listed}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that ``name`` was probably meant to be, if any is like it."""
    return next(iter(difflib.get_close_matches(name, names, n=1)), None)


def shape_text(shape: Sequence[int | None], batch: bool = True) -> str:
    """A shape with its open extents as letters: (N, 64, ?, ?)."""
    words = ["?" if extent is None else str(extent) for extent in shape]
    if batch and words and shape[0] is None:
        words[0] = "N"
    return f"({', '.join(words)}{',' * (len(words) == 1)})"


_SHAPE = re.compile(r"\((?:None|\d+)(?:, (?:None|\d+))*,?\)")


def with_node_path(
    error: Exception, op: Any, path: str, branches: Sequence[tuple[str, Sequence[int | None]]] = ()
) -> Exception:
    """The same error with the node's path instead of the operator's name, and the branches' shapes if several join."""
    text = str(error)
    text = text.removeprefix(f"{op.name}: ").removeprefix("layer: ")
    if not text.startswith(f"{path}: "):
        text = f"{path}: {text}"

    def open_extents(match: re.Match[str]) -> str:
        if "None" not in match.group():
            return match.group()
        parts = match.group()[1:-1].rstrip(",").split(", ")
        return shape_text([None if part == "None" else int(part) for part in parts])

    text = _SHAPE.sub(open_extents, text)
    if len(branches) > 1:
        text += " Joined here: " + ", ".join(f"{name} {shape_text(shape)}" for name, shape in branches) + "."
    return type(error)(text) if isinstance(error, CnnError) else error


def printable(text: str, kept: str = "") -> str:
    r"""``text`` with every character that is not printable replaced by its escape sequence.

    Names come from file systems and untrusted files; they may contain undecodable bytes, line breaks, NUL.

    >>> printable("caf\udce9"), printable("two\nlines"), printable("café 猫")
    ('caf\\xe9', 'two\\nlines', 'café 猫')
    """
    return "".join(letter if letter.isprintable() or letter in kept else escaped(letter) for letter in text)


def shortened(text: str, most: int = 200) -> str:
    """What a file says, for a message: printable, and its middle left out where it is longer than ``most`` characters.

    >>> shortened("a" * 500, most=10)
    'aaaaa … aaaaa'
    """
    text = printable(text)
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-(most // 2) :]}"


def escaped(letter: str) -> str:
    """The escape sequence of a character; of an undecodable byte, which Python keeps as a surrogate, that of the byte."""
    code = ord(letter)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else letter.encode("unicode_escape").decode("ascii")
