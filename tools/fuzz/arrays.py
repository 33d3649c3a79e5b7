"""Hostile arrays: edits of what an array holds, and layouts of it that mean the same."""

import ctypes
import math
import mmap

import numpy as np

SPECIAL = {
    "nan": math.nan, "inf": math.inf, "-inf": -math.inf, "1e30": 1e30, "-1e30": -1e30,
    "0": 0.0, "-0": -0.0, "tiny": 1e-40, "1e-30": 1e-30, "5e-324": 5e-324,
}  # fmt: skip
# Values from which nothing may spread to outputs whose windows do not hold them, and which no tolerance fits.
CONTAGIOUS = ("nan", "inf", "-inf", "1e30", "-1e30")
POSITIONS = [-(2**63), -(2**31), -(10**6), -2, -1, 0, 1, 2, 5, 10**6, 2**31, 2**62, 2**63 - 1]
DTYPES = ["f2", "f4", "f8", "g", "i1", "i4", "i8", "u8", "?", "c8", "O", "U3", "M8[s]"]
PAGE = mmap.PAGESIZE


# ── Contents and shapes ────────────────────────────────────────────────────────────────────────────────────────────────


def edit(choice, array):
    """One edit of an array, as JSON; :func:`apply` carries it out."""
    shapes, contents = ["longer", "shorter", "new axis", "first", "empty", "one", "repeat", "swap"], ["special"] * 6
    if array.dtype.kind in "iu":
        contents = ["position"] * 6
    kind = choice.choice([*shapes, *contents, "equal", "dtype", "huge"])
    axis = choice.randrange(array.ndim) if array.ndim else 0
    if kind == "special":
        places = [choice.randrange(1 << 20) for _ in range(choice.choice((1, 1, 1, 2, 5, 40)))]
        return [kind, choice.choice(list(SPECIAL)), places]
    if kind == "position":
        return [kind, choice.choice(POSITIONS), [choice.randrange(1 << 20)]]
    if kind == "repeat":
        return [kind, axis, choice.choice((2, 3, 5, 8, 17))]
    if kind == "dtype":
        return [kind, choice.choice(DTYPES)]
    if kind == "huge":
        return [kind, axis, choice.choice((2**40, 2**50, 2**60))]
    return [kind, axis]


def apply(array, change):
    """``array`` after an edit; one that does not fit its rank changes nothing."""
    kind, *rest = change
    if array.size > 1_000_000:
        return array
    if kind in ("special", "position"):
        return with_values(array, kind, *rest)
    if kind == "dtype":
        with np.errstate(all="ignore"):
            return array.astype(rest[0]) if array.dtype.kind in "biuf" else array
    axis = rest[0]
    if kind == "new axis":
        return np.expand_dims(array, min(axis, array.ndim))
    if axis >= array.ndim or (kind == "first" and not array.shape[axis]):
        return array
    if kind == "huge":
        if not array.shape[axis]:
            return array
        try:
            shape = list(array.shape)
            shape[axis] = rest[1]
            return np.broadcast_to(array.take([0], axis), shape)
        except ValueError:  # more bytes than there are addresses
            return array
    return reshaped(array, kind, axis, rest[1] if len(rest) > 1 else 1)


def reshaped(array, kind, axis, times):
    """An array with another extent of one axis."""
    if kind == "longer" and array.shape[axis]:
        return np.concatenate([array, array.take([0], axis)], axis)
    if kind == "first":
        return array.take(0, axis)
    if kind == "repeat" and array.size * times <= 40_000:
        return np.concatenate([array] * times, axis)
    if kind == "swap":
        return np.swapaxes(array, axis, axis - 1)
    if kind == "equal" and array.size:
        return np.full_like(array, array.flat[0])
    length = {"empty": 0, "one": 1, "shorter": max(array.shape[axis] - 1, 0)}.get(kind, array.shape[axis])
    return array.take(range(min(length, array.shape[axis])), axis)


def with_values(array, kind, value, places):
    """A copy with one value at some places."""
    fits = array.dtype.kind == "f" if kind == "special" else array.dtype.kind in "iu"
    if not fits or not array.size:
        return array
    array = array.copy()
    number = SPECIAL[value] if kind == "special" else value
    for place in places:
        with np.errstate(all="ignore"):
            array.flat[place % array.size] = np.array(number).astype(array.dtype)
    return array


# ── Layouts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def guarded(shape, dtype, low=False):
    """An array whose last byte (or first, if ``low``) borders on memory that cannot be touched.

    An access beyond it ends the process, whatever the kernel's build.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    inside = -(-max(size, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, inside + 2 * PAGE)
    anchor = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(anchor)
    for page in (address, address + PAGE + inside):
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0):
            raise OSError("mprotect failed")
    del anchor
    return np.ndarray(shape, dtype, memory, PAGE if low else PAGE + inside - size)


def plain(array):
    return array


def every_second(array):
    if not array.ndim:
        return array
    wide = np.repeat(array, 2, axis=-1)
    wide[..., 1::2] = wide[..., 1::2] * 0 if array.dtype.kind in "iufc" else wide[..., 1::2]
    return wide[..., ::2]


def backwards(array):
    turned = (slice(None, None, -1),) * array.ndim
    return np.ascontiguousarray(array[turned])[turned]


def misaligned(array):
    if array.dtype.hasobject:
        return array
    raw = np.zeros(array.nbytes + 1, np.uint8)
    copy = np.ndarray(array.shape, array.dtype, raw, 1)
    copy[...] = array
    return copy


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def in_record(array):
    """A field of a record of odd size: no stride is a multiple of the item size, nor is the address of a lone value."""
    if array.dtype.hasobject:
        return array
    records = np.zeros((2, *array.shape), [("value", array.dtype), ("flag", "u1")])[1, ...]
    records["value"] = array
    return records["value"]


def at_guard(array, low=False):
    if array.dtype.hasobject:
        return array
    copy = guarded(array.shape, array.dtype, low)
    copy[...] = array
    return copy


def repeated(array):
    """Stride 0 along every axis whose slices are equal."""
    for axis in range(array.ndim):
        if array.shape[axis] > 1 and array.size and (array == array.take([0], axis)).all():
            shape = array.shape
            array = np.broadcast_to(array.take([0], axis), shape)
    return array


LAYOUTS = {
    "plain": plain,
    "fortran": np.asfortranarray,
    "channels last": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if a.ndim > 2 else a,
    "every second": every_second,
    "backwards": backwards,
    "misaligned": misaligned,
    "read-only": read_only,
    "in a record": in_record,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder("S")) if a.dtype.kind in "iuf" else a,
    "guard after": at_guard,
    "guard before": lambda a: at_guard(a, True),
    "repeated": repeated,
}


def laid_out(array, name):
    """The same numbers in memory of another layout."""
    return array if array.size > 1_000_000 else LAYOUTS[name](array)
