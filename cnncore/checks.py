"""Checks of single settings and arrays, used by all modules."""

from __future__ import annotations

import operator
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from .errors import DtypeError, FileReadError, MissingFileError, SettingError, ShapeError, nearest, printable
from .runtime import fingerprint


def integer(place: str, name: str, value: Any, minimum: int | None = None, maximum: int = 2**31 - 1) -> int:
    """``value`` as a Python int between ``minimum`` and ``maximum``, or a SettingError that reports the given value."""
    if isinstance(value, (bool, np.bool_)):
        raise SettingError(f"{place}: {name} must be an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise SettingError(f"{place}: {name} must be an integer, got {value!r}") from None
    if minimum is not None and number < minimum:
        raise SettingError(f"{place}: {name} must be at least {minimum}, got {number}")
    if number > maximum:
        raise SettingError(f"{place}: {name} must be at most {maximum}, got {number}")
    return number


def seed_number(place: str, name: str, value: Any, maximum: int = 2**63 - 1) -> int:
    """A seed, from 0 to ``maximum``; a ``numpy.random.Generator`` is asked for its next one.

    >>> seed_number("build", "seed", 3), seed_number("build", "seed", np.random.default_rng(0))
    (3, 5874934615388537134)
    """
    if isinstance(value, np.random.Generator):
        return int(value.integers(2**63 - 1))
    if isinstance(value, np.random.RandomState | np.random.SeedSequence | np.random.BitGenerator):
        raise SettingError(
            f"{place}: {name} must be an integer or a numpy.random.Generator, got {type(value).__name__}; use "
            "numpy.random.default_rng(…)"
        )
    return integer(place, name, value, 0, maximum)


def has_length(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether ``value`` is a sequence (a numpy number of no dimensions has a __len__, but no length)."""
    return hasattr(value, "__len__") and getattr(value, "ndim", 1) != 0


def per_axis(place: str, name: str, value: Any, rank: int, minimum: int | None = None) -> tuple[int, ...]:
    """One integer per spatial axis, from an integer for all of them or a sequence.

    >>> per_axis("max_pool", "stride", 2, rank=2, minimum=1)
    (2, 2)
    """
    if isinstance(value, (str, bytes)) or value is None:
        raise SettingError(f"{place}: {name} must be an integer or {rank} of them, got {value!r}")
    if has_length(value):
        if len(value) != rank:
            raise SettingError(
                f"{place}: {name} has {len(value)} numbers {tuple(value)}; the input has {rank} spatial "
                f"{'axis' if rank == 1 else 'axes'}: give one number, or {rank}"
            )
        return tuple(integer(place, name, v, minimum) for v in value)
    return (integer(place, name, value, minimum),) * rank


FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def overlap(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays share an element; True if deciding that would take long."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]  # NumPy's hints know 0 and -1 only
    except np.exceptions.TooHardError:
        return True


def check_destination(place: str, name: str, array: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise unless results of ``shape`` and ``dtype`` can be written into ``array``."""
    expected = f"{place}: {name} must be a writeable {dtype} array of shape {shape}"
    if type(array) is not np.ndarray and not isinstance(array, np.memmap):
        raise DtypeError(f"{expected}, got {type(array).__name__}: give a numpy array, or omit it")
    if array.dtype != dtype:
        raise DtypeError(f"{expected}, got {array.dtype}: use np.empty({shape}, '{dtype}'), or omit it")
    if array.shape != shape:
        raise ShapeError(f"{expected}, got shape {array.shape}: use np.empty({shape}, '{dtype}'), or omit it")
    problem = fingerprint.layout_problem(array)
    if problem is not None:
        raise ShapeError(f"{expected}, but it {problem}: use np.empty({shape}, '{dtype}'), or omit it")


def check_apart(place: str, written: Mapping[str, NDArray[Any]], read: Mapping[str, NDArray[Any]]) -> None:
    """Raise if an array to be written shares memory with another such array, or with an input; both are name → array."""
    kept = [(*fingerprint.memory_of(a), name, a, False) for name, a in read.items()]
    kept += [(*fingerprint.memory_of(a), name, a, True) for name, a in written.items()]
    before: list[tuple[int, int, str, NDArray[Any], bool]] = []  # those that extend to the next one
    for low, high, name, array, is_written in sorted(kept, key=lambda entry: entry[:2]):
        before = [entry for entry in before if entry[1] > low]
        for _, _, other_name, other, other_is_written in before:
            if (is_written or other_is_written) and overlap(array, other):
                raise ShapeError(f"{place}: {other_name} and {name} share memory; give each array its own memory")
        before.append((low, high, name, array, is_written))


def ordinary_array(place: str, name: str, array: Any, either: bool = False) -> NDArray[Any]:
    """``array`` as a numpy float32 or float64 array in native byte order whose strides are multiples of the item size.

    Anything with ``__array__`` or ``__dlpack__`` is accepted; read-only arrays and strides of either sign need no copy.
    """
    if type(array) is not np.ndarray:
        array = _from_outside(place, name, array)
    dtype = array.dtype
    if dtype not in FLOATS:  # byte-swapped dtypes compare unequal on purpose: they are converted
        native = dtype.newbyteorder("=")
        if native in FLOATS:
            return array.astype(native)
        if either and dtype.kind in "iu":
            return np.require(array, np.int64, ["C", "ALIGNED"])
        if either and dtype.kind in "USO":
            raise DtypeError(
                f"{place}: {name} is {dtype}; expected integers, float32 or float64: number the names with "
                f"numpy.unique({name}, return_inverse=True)"
            )
        if either and dtype == np.bool_:
            raise DtypeError(f"{place}: {name} is bool; expected integers, float32 or float64: use {name}.astype(int)")
        raise DtypeError(f"{place}: {name} is {dtype}; expected float32 or float64: use {name}.astype('float32')")
    if not array.flags.aligned or any(s % dtype.itemsize for s in array.strides):
        return array.copy()
    return array


def index_array(place: str, name: str, array: Any) -> NDArray[Any]:
    """``array`` as native int64, from any integer dtype."""
    if type(array) is not np.ndarray:
        array = _from_outside(place, name, array)
    if array.dtype.kind not in "iu":
        raise DtypeError(f"{place}: {name} is {array.dtype}; expected integers: use {name}.astype('int64')")
    return np.require(array, np.int64, ["C", "ALIGNED"])


def mask_array(place: str, name: str, array: Any) -> NDArray[Any]:
    """``array`` as booleans."""
    if type(array) is not np.ndarray:
        array = _from_outside(place, name, array)
    if array.dtype != np.bool_:
        raise DtypeError(f"{place}: {name} is {array.dtype}; expected booleans: use {name}.astype(bool)")
    return np.ascontiguousarray(array)


def check_unmasked(place: str, name: str, array: object) -> None:
    """Raise if some elements of a numpy.ma array are masked, since operators do not support masks."""
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise DtypeError(
            f"{place}: {np.ma.count_masked(array)} of {array.size} elements of {name} are masked, but masks are not "
            f"supported: use {name}.filled(value)"
        )


def _from_outside(place: str, name: str, array: Any) -> NDArray[Any]:
    if not hasattr(array, "__array__") and hasattr(array, "__dlpack__"):
        return np.from_dlpack(array)
    check_unmasked(place, name, array)
    try:
        return np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DtypeError(f"{place}: {name} is not an array: {type(array).__name__} ({error})") from None


def number(
    minimum: float | None = None, maximum: float | None = None, above: float | None = None, below: float | None = None
) -> Callable[[str, str, Any], float]:
    """A check that a setting is a finite number within bounds; ``above`` and ``below`` are exclusive bounds."""

    def check(place: str, name: str, value: Any) -> float:
        try:
            x = float(value)
        except (TypeError, ValueError):
            raise SettingError(f"{place}: {name} must be a number, got {value!r}") from None
        low = minimum if minimum is not None else above
        if (
            not np.isfinite(x)
            or (minimum is not None and x < minimum)
            or (above is not None and x <= above)
            or (maximum is not None and x > maximum)
            or (below is not None and x >= below)
        ):
            text = " and ".join(
                f"{sign} {bound}"
                for sign, bound in (("≥", minimum), (">", above), ("≤", maximum), ("<", below))
                if bound is not None
            )
            raise SettingError(
                f"{place}: {name} must be a finite number{' ' + text if text else ''}, got {value!r}; try {low or 1}"
            )
        return x

    return check


def whole(minimum: int | None = None, maximum: int = 2**31 - 1) -> Callable[[str, str, Any], int]:
    """A check that a setting is an integer within bounds."""
    return lambda place, name, value: integer(place, name, value, minimum, maximum)


def flag(place: str, name: str, value: Any) -> bool:
    """A check that a setting is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise SettingError(f"{place}: {name} must be True or False, got {value!r}")
    return bool(value)


def choice(*allowed: Any) -> Callable[[str, str, Any], Any]:
    """A check that a setting is one of ``allowed``."""

    def check(place: str, name: str, value: Any) -> Any:
        if not any(isinstance(value, type(a)) and value == a for a in allowed):
            raise SettingError(f"{place}: {name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
        return value

    return check


def present_name(place: str, name: str, value: Any, renamed: Mapping[str, str]) -> Any:
    """``value``, or, with a warning in the program that uses the package, what a name in ``renamed`` is called now."""
    if not isinstance(value, str) or value not in renamed:
        return value
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"{place}: {name}={value!r} is now called {renamed[value]!r}; the old name will be removed in the next version",
        DeprecationWarning,
        stacklevel=level,
    )
    return renamed[value]


# ── Files ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def path_name(path: Any, expected: str) -> str:
    """A path as a string; ``expected`` says what lies there, for the error about anything that is no path."""
    try:
        return os.fsdecode(path)
    except TypeError:
        raise SettingError(
            f"expected the path of {expected}, got {type(path).__name__} {printable(repr(path)[:40])}"
        ) from None


def opened_file(path: Any, expected: str) -> IO[bytes]:
    """The file at ``path``, opened for reading; a FileReadError says what was ``expected`` there, and the way out."""
    name = path_name(path, expected)
    try:
        return open(name, "rb")
    except FileNotFoundError:
        raise missing(name, "file", expected) from None
    except (OSError, ValueError) as error:  # ValueError: a name with NUL in it
        raise unreadable(name, expected, error) from None


def read_file(path: Any, expected: str) -> bytes:
    """The bytes of a file; errors as of :func:`opened_file`."""
    with opened_file(path, expected) as file:
        return file.read()


def check_folder(path: Any, expected: str) -> None:
    """Raise a FileReadError unless a folder lies at ``path``."""
    name = path_name(path, expected)
    try:
        os.stat(name)
    except FileNotFoundError:
        raise missing(name, "folder", expected) from None
    except (OSError, ValueError) as error:
        raise unreadable(name, expected, error) from None
    if not os.path.isdir(name):
        raise FileReadError(f"{name}: is a file; expected {expected}")


def missing(name: str, what: str, expected: str) -> MissingFileError:
    """The error about a file or folder that does not exist: with a name that is like it, or the folder that lacks it."""
    folder, last = os.path.split(os.path.abspath(name))
    try:
        near = nearest(last, os.listdir(folder))
    except OSError:
        return MissingFileError(f"{name}: no such {what}; expected {expected}; there is no folder {printable(folder)}")
    hint = (
        f"is it in another folder than {printable(folder)}?" if near is None else f"did you mean {printable(near)!r}?"
    )
    return MissingFileError(f"{name}: no such {what}; expected {expected}; {hint}")


def unreadable(name: str, expected: str, error: Exception) -> FileReadError:
    """The error about a file that exists but cannot be opened, or whose name no file can have."""
    if isinstance(error, ValueError):
        return FileReadError(f"{name!r}: invalid file name ({error}); expected the path of {expected}")
    if os.path.isdir(name):
        return FileReadError(f"{name}: is a folder; expected {expected}")
    reason = getattr(error, "strerror", None) or error
    return FileReadError(f"{name}: cannot be read ({reason}); expected {expected}, which this user may read")
