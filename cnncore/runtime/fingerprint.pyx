"""Fingerprints: whether an array was modified, and whether arrays share memory.

A backward pass reads arrays that belong to the caller: the inputs of the forward pass, sometimes its result. NumPy does
not count versions of arrays, so what it reads is fingerprinted: address, shape, strides and element type, and of the
contents

    arrays of integers                  everything: they become positions in memory
    up to WHOLE_BYTES                   all of them
    more                                one cache line of every page: a run of PAGE_BYTES that was overwritten is always noticed
    views that are not dense            the same for a part of their rows

which costs a tenth of the fastest operators and a thousandth of a convolution.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_Release
from libc.stdint cimport int64_t, INT64_MAX, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import numpy

cdef extern from "Python.h":
    int get_buffer "PyObject_GetBuffer"(object array, Py_buffer *buffer, int flags) noexcept
    bint error_is "PyErr_ExceptionMatches"(object kind) noexcept
    void clear_error "PyErr_Clear"()
    int check_signals "PyErr_CheckSignals"() except -1

cdef enum:
    WHOLE_BYTES = 4096
    PAGE_BYTES = 4096
    LINE_BYTES = 64
    SIGNAL_LINES = 1 << 16  # cache lines between two looks for Ctrl-C: a few milliseconds
    LEAST_ROWS = 64         # of a view that is not dense
    WHOLE_OF_ROWS = 4       # such a view is read completely only if it is smaller by this factor
    MOST_AXES = 64          # of a NumPy array
    MOST_NESTED = 6         # of nested objects that a forward pass keeps

cdef object NDARRAY = numpy.ndarray
cdef tuple PLAIN = (int, float, bool, str, bytes, numpy.generic, numpy.dtype, slice)

cdef uint64_t PRIME = 0x9E3779B97F4A7C15


# ── Contents ───────────────────────────────────────────────────────────────────────────────────────────────────────────

cdef inline uint64_t word(const char *data) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, data, 8)
    return value


cdef inline uint64_t mixed(uint64_t sum, uint64_t value) noexcept nogil:
    sum = (sum ^ value) * PRIME
    return sum ^ (sum >> 29)


cdef uint64_t sum_of(uint64_t sum, const char *data, int64_t bytes) noexcept nogil:
    """A sum of all ``bytes``, in four independent chains."""
    cdef uint64_t b = 1, c = 2, d = 3, rest = 0
    cdef int64_t i = 0
    while i + 32 <= bytes:
        sum, b = mixed(sum, word(data + i)), mixed(b, word(data + i + 8))
        c, d = mixed(c, word(data + i + 16)), mixed(d, word(data + i + 24))
        i += 32
    if i:
        sum = mixed(mixed(mixed(sum, b), c), d)
    while i + 8 <= bytes:
        sum = mixed(sum, word(data + i))
        i += 8
    if i < bytes:
        memcpy(&rest, data + i, bytes - i)
        sum = mixed(sum, rest)
    return sum


cdef uint64_t sum_of_run(uint64_t sum, const char *data, int64_t bytes, int64_t whole) except? 1:
    """The same for a run of memory: if longer than ``whole``, its first and last cache line and one of each page
    between.
    """
    cdef int64_t i = 0, lines = 0
    if bytes <= whole or bytes <= LINE_BYTES:
        while bytes - i > LINE_BYTES * SIGNAL_LINES:
            sum = sum_of(sum, data + i, LINE_BYTES * SIGNAL_LINES)
            i += LINE_BYTES * SIGNAL_LINES
            check_signals()
        return sum_of(sum, data + i, bytes - i)
    while i < bytes - LINE_BYTES:
        sum = sum_of(sum, data + i, LINE_BYTES)
        i += PAGE_BYTES
        lines += 1
        if lines % SIGNAL_LINES == 0:
            check_signals()
    return sum_of(sum, data + bytes - LINE_BYTES, LINE_BYTES)


cdef struct Layout:
    # The memory of an array: rows of adjacent bytes, and the axes from row to row, of ascending strides.
    const char *data        # lowest address
    int64_t run             # bytes of a row
    int64_t rows
    int axes
    int64_t extent[MOST_AXES]
    int64_t stride[MOST_AXES]
    bint overlaps           # whether an element may occur twice


cdef void layout_of(const Py_buffer *buffer, Layout *layout) noexcept nogil:
    cdef int axis, place
    cdef int64_t n, s, reach
    layout.data, layout.run, layout.rows, layout.axes, layout.overlaps = <const char *> buffer.buf, buffer.itemsize, 1, 0, False
    for axis in range(buffer.ndim):
        n, s = buffer.shape[axis], buffer.strides[axis]
        if n == 0:
            layout.rows = layout.axes = 0
            return
        if n == 1 or s == 0:
            layout.overlaps = layout.overlaps or n > 1
            continue
        if s < 0:
            layout.data += (n - 1) * s
            s = -s
        place = layout.axes
        while place > 0 and layout.stride[place - 1] > s:
            layout.extent[place], layout.stride[place] = layout.extent[place - 1], layout.stride[place - 1]
            place -= 1
        layout.extent[place], layout.stride[place] = n, s
        layout.axes += 1
    reach = layout.run
    for axis in range(layout.axes):
        layout.overlaps = layout.overlaps or layout.stride[axis] < reach
        reach += (layout.extent[axis] - 1) * layout.stride[axis]
    place = 0
    while place < layout.axes and layout.stride[place] == layout.run:
        layout.run *= layout.extent[place]
        place += 1
    for axis in range(place, layout.axes):
        layout.extent[axis - place], layout.stride[axis - place] = layout.extent[axis], layout.stride[axis]
        layout.rows *= layout.extent[axis]
    layout.axes -= place


cdef const char *row_at(const Layout *layout, int64_t row) noexcept nogil:
    cdef const char *data = layout.data
    cdef int axis
    for axis in range(layout.axes):
        data += row % layout.extent[axis] * layout.stride[axis]
        row //= layout.extent[axis]
    return data


cdef uint64_t sum_of_contents(Layout *layout, int64_t whole) except? 1:
    cdef int64_t row, i, taken, extent, stride
    cdef const char *data
    cdef uint64_t sum = 0
    if layout.rows == 1:
        return sum_of_run(sum, layout.data, layout.run, whole)
    if layout.rows and layout.run > whole // WHOLE_OF_ROWS // layout.rows:      # more bytes than are read completely
        taken = min(layout.rows, max(LEAST_ROWS, layout.rows * layout.run // PAGE_BYTES))
        for i in range(taken):
            sum = sum_of_run(sum, row_at(layout, layout.rows * i // taken), layout.run, LINE_BYTES)
            if i % SIGNAL_LINES == SIGNAL_LINES - 1:
                check_signals()
        return sum
    extent, stride = layout.extent[0], layout.stride[0]
    layout.axes -= 1
    for i in range(layout.axes):
        layout.extent[i], layout.stride[i] = layout.extent[i + 1], layout.stride[i + 1]
    for row in range(layout.rows // extent if layout.rows else 0):
        data = row_at(layout, row)
        for i in range(extent):
            sum = sum_of_run(sum, data + i * stride, layout.run, whole)
            if i % SIGNAL_LINES == SIGNAL_LINES - 1:
                check_signals()
    return sum


cdef int drop_error() except -1:
    """After an array has given no buffer: it has none, or there was no memory for the description of its buffer."""
    cdef bint no_memory = error_is(MemoryError)
    clear_error()
    if no_memory:
        raise MemoryError("no memory for the description of an array")
    return 0


# ── Fingerprints ───────────────────────────────────────────────────────────────────────────────────────────────────────

cdef struct Print:
    const void *data
    uint64_t form           # shape, strides, element type
    uint64_t contents


cdef int take_print(array, int64_t whole, Print *of) except -1:
    """Compute the fingerprint of an array; False if it no longer has a buffer."""
    cdef Py_buffer buffer
    cdef Layout layout
    cdef int axis
    if get_buffer(array, &buffer, PyBUF_STRIDES | PyBUF_FORMAT) < 0:
        drop_error()
        return False
    of.data, of.form = buffer.buf, <uint64_t> buffer.itemsize
    for axis in range(buffer.ndim):
        of.form = mixed(mixed(of.form, buffer.shape[axis]), buffer.strides[axis])
    axis = 0
    while buffer.format[axis]:
        of.form = mixed(of.form, buffer.format[axis])
        axis += 1
    if buffer.format[0] in b"bBhHiIlLqQnN":
        whole = INT64_MAX
    layout_of(&buffer, &layout)
    try:
        of.contents = sum_of_contents(&layout, whole)
    finally:
        PyBuffer_Release(&buffer)
    return True


cdef class Fingerprints:
    """Fingerprints(arrays): of each array; None stands for an array that is not watched."""
    cdef tuple arrays
    cdef Print *prints
    cdef int64_t whole

    def __cinit__(self, arrays, int64_t whole=WHOLE_BYTES):
        cdef Py_ssize_t i
        self.arrays, self.whole = tuple(arrays), whole
        self.prints = <Print *> calloc(max(len(self.arrays), 1), sizeof(Print))
        if self.prints == NULL:
            raise MemoryError("no memory for the fingerprints of arrays")
        for i in range(len(self.arrays)):
            if self.arrays[i] is not None:
                take_print(self.arrays[i], whole, &self.prints[i])

    def __dealloc__(self):
        free(self.prints)

    def changed(self, Py_ssize_t i):
        """Whether array number ``i`` was modified."""
        cdef Print now
        cdef const Print *before = &self.prints[i]
        if self.arrays[i] is None:
            return False
        if not take_print(self.arrays[i], self.whole, &now):
            return True
        return now.data != before.data or now.form != before.form or now.contents != before.contents

    def first_changed(self):
        """The number of the first array that was modified, or −1."""
        cdef Py_ssize_t i
        for i in range(len(self.arrays)):
            if self.changed(i):
                return i
        return -1


# ── What a backward pass reads of the caller's arrays ──────────────────────────────────────────────────────────────────

cdef bint collect(saved, list found, int depth):
    """Put the arrays in ``saved`` into ``found``; False if there may be others, in objects that cannot be inspected."""
    cdef bint clear = True
    kind = type(saved)
    if kind is NDARRAY:
        found.append(saved)
    elif saved is None or isinstance(saved, PLAIN):
        pass
    elif depth == MOST_NESTED:
        return False
    elif isinstance(saved, (tuple, list)):
        for part in saved:
            clear = collect(part, found, depth + 1) and clear
    elif isinstance(saved, dict):
        for part in saved.values():
            clear = collect(part, found, depth + 1) and clear
    elif hasattr(saved, "__dict__"):
        return collect(vars(saved), found, depth + 1)
    else:
        return False
    return clear


cdef inline bint same_memory(a, b):
    """Whether two arrays are one, or views of the same memory."""
    if a is b:
        return True
    a_base, b_base = a.base, b.base
    if a_base is None and b_base is None:
        return False
    return (a_base is b or b_base is a or a_base is b_base) and numpy.may_share_memory(a, b)


def of_saved(tuple arrays, y, tuple extras, saved):
    """:class:`Fingerprints` of those of ``(*arrays, y, *extras)`` that ``saved`` refers to, the others None; None if there are none.

    All ``arrays`` count as referred to if ``saved`` cannot be inspected.
    """
    cdef list found = [], watched = []
    cdef bint clear = collect(saved, found, 0), any_watched = False, taken
    cdef Py_ssize_t i, count = len(arrays)
    if clear and not found:
        return None
    for i, array in enumerate((*arrays, y, *extras)):
        taken = False
        if type(array) is NDARRAY:
            taken = not clear and i < count
            for other in found:
                if taken:
                    break
                taken = same_memory(array, other)
        watched.append(array if taken else None)
        any_watched = any_watched or taken
    return Fingerprints(watched) if any_watched else None


# ── Arrays to be written ───────────────────────────────────────────────────────────────────────────────────────────────

def layout_problem(array):
    """The reason why results cannot be written into an array, as a continuation of "but it …"; None if they can."""
    cdef Py_buffer buffer
    cdef Layout layout
    cdef int axis
    problem = None
    if not array.flags.writeable:
        return "is read-only"
    if get_buffer(array, &buffer, PyBUF_STRIDES | PyBUF_FORMAT) < 0:
        drop_error()
        return "has no buffer"
    layout_of(&buffer, &layout)
    if <uintptr_t> buffer.buf % buffer.itemsize:
        problem = "is not aligned"
    elif layout.overlaps:
        problem = f"has several elements at one address (strides {array.strides})"
    for axis in range(buffer.ndim):
        if buffer.strides[axis] % buffer.itemsize and buffer.shape[axis] > 1:
            problem = f"has strides {array.strides}, which are not multiples of {buffer.itemsize} bytes, like a field of a structured array"
    PyBuffer_Release(&buffer)
    return problem


def memory_of(array):
    """(lowest address, address after the highest byte) of an array."""
    cdef Py_buffer buffer
    cdef Layout layout
    cdef int axis
    cdef uintptr_t low, high
    if get_buffer(array, &buffer, PyBUF_STRIDES | PyBUF_FORMAT) < 0:
        drop_error()
        raise TypeError(f"an array of {array.dtype} has no buffer")
    layout_of(&buffer, &layout)
    low = high = <uintptr_t> layout.data
    if layout.rows:
        high += layout.run
        for axis in range(layout.axes):
            high += (layout.extent[axis] - 1) * layout.stride[axis]
    PyBuffer_Release(&buffer)
    return low, high
