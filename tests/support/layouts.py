"""Arrays with the same values, laid out in every way NumPy has; what lies beside the values would spoil a result."""

import numpy as np

__all__ = [
    "LAYOUTS",
    "PLAN_LAYOUTS",
    "byte_swapped",
    "channel_slice",
    "channels_last",
    "every_second",
    "every_second_row",
    "last_axis_with_gaps",
    "plane_slice",
    "read_only",
    "reversed_axes",
    "unaligned",
]


def spoiling(shape, dtype):
    """An array of NaN, or of a number that no test has where the dtype knows no NaN."""
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 77, dtype)


def channels_last(a):
    """Channels innermost in memory."""
    return a if a.ndim < 3 else np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def channel_slice(a):
    """The middle channels of an array with channels innermost, as a branch lies in a plan's joined array."""
    if a.ndim < 3:
        return a
    view = np.moveaxis(spoiling((a.shape[0], *a.shape[2:], a.shape[1] + 5), a.dtype), -1, 1)[:, 2:-3]
    view[...] = a
    return view


def plane_slice(a):
    """The middle channels of an array in C order."""
    view = spoiling((a.shape[0], a.shape[1] + 5, *a.shape[2:]), a.dtype)[:, 2:-3]
    view[...] = a
    return view


def every_second(a):
    """Every second element along each axis."""
    view = spoiling(tuple(2 * extent for extent in a.shape), a.dtype)[(slice(None, None, 2),) * a.ndim]
    view[...] = a
    return view


def every_second_row(a):
    """Rows that do not follow each other: the cells of an image are no single axis."""
    view = spoiling((*a.shape[:2], 2 * a.shape[2], *a.shape[3:]), a.dtype)[:, :, ::2]
    view[...] = a
    return view


def last_axis_with_gaps(a):
    """Every second element along the last axis, from the second on."""
    view = spoiling((*a.shape[:-1], 2 * a.shape[-1] + 1), a.dtype)[..., 1::2]
    view[...] = a
    return view


def reversed_axes(a):
    """Negative strides along every axis."""
    back = (slice(None, None, -1),) * a.ndim
    return a[back].copy()[back]


def read_only(a):
    """A copy that may not be written."""
    a = a.copy()
    a.flags.writeable = False
    return a


def byte_swapped(a):
    """The other order of bytes, where elements have several."""
    return a.astype(a.dtype.newbyteorder()) if a.dtype.itemsize > 1 else a


def unaligned(a):
    """An address that is no multiple of the size of an element."""
    view = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


# What an array that is written may have too: no copy is made of these.
LAYOUTS = (np.ascontiguousarray, channels_last, channel_slice, every_second, reversed_axes)

# As the plan of a net lays values out: planes, channels innermost, and what a branch or a view has of either.
PLAN_LAYOUTS = {
    "planes": np.ascontiguousarray,
    "channels last": channels_last,
    "slice of channels last": channel_slice,
    "slice of planes": plane_slice,
    "every other row": every_second_row,
}
