"""Elementwise traversal of several arrays with any number of axes, independent of what is computed.

Axes that are contiguous in all arrays are merged, so that most calls are one row; broadcast axes have stride 0.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyObject_GetBuffer, PyBuffer_Release
from libc.stdint cimport int64_t

from cnncore.runtime.dispatch cimport cnn_task, run


cdef class Held:
    """The buffer of an array."""
    cdef Py_buffer view

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


cdef class Elements:
    """Arrays of one shape, of which the last ones are written."""

    def __init__(self, *arrays, int written=1):
        cdef Held held = None
        cdef int a, axis, number, place
        cdef int order[8]
        cdef int64_t extent
        cdef bint even
        self.buffers = []
        self.arrays, self.axes, self.size = len(arrays), 0, 1
        for a in range(self.arrays):
            held = Held()
            PyObject_GetBuffer(arrays[a], &held.view, PyBUF_STRIDES | PyBUF_FORMAT
                               | (PyBUF_WRITABLE if a >= self.arrays - written else 0))
            self.buffers.append(held)
            self.data[a] = <char *> held.view.buf
        for axis in range(held.view.ndim):      # sorted by insertion, the widest stride of what is written first
            place = axis
            while place > 0 and abs(held.view.strides[order[place - 1]]) < abs(held.view.strides[axis]):
                order[place] = order[place - 1]
                place -= 1
            order[place] = axis
        for number in range(held.view.ndim):
            axis = order[number]
            extent = held.view.shape[axis]
            self.size *= extent
            if extent == 1:
                continue
            even = self.axes > 0        # whether the axis continues the one before it
            for a in range(self.arrays):
                held = self.buffers[a]
                even = even and self.stride[a][self.axes - 1] == held.view.strides[axis] * extent
            if not even:
                self.axes += 1
            for a in range(self.arrays):
                held = self.buffers[a]
                self.stride[a][self.axes - 1] = held.view.strides[axis]
            self.extent[self.axes - 1] = extent * (self.extent[self.axes - 1] if even else 1)
        if self.axes == 0:
            self.axes, self.extent[0] = 1, 1
            for a in range(self.arrays):
                self.stride[a][0] = 0


cdef struct Walk:
    int arrays, axes
    int64_t size
    const int64_t *extent
    char **data
    int64_t (*stride)[8]
    row_function row
    const void *numbers
    int64_t block


cdef void walk(Walk *call, int64_t begin, int64_t end, void *scratch) noexcept nogil:
    """Tasks are blocks of elements; a block is processed row by row."""
    cdef int64_t i = begin * call.block, stop = min(end * call.block, call.size), rest, place, count
    cdef char *at[5]
    cdef int64_t step[5]
    cdef int a, axis
    for a in range(call.arrays):
        step[a] = call.stride[a][call.axes - 1]
    while i < stop:
        rest = i
        count = 0
        for a in range(call.arrays):
            at[a] = call.data[a]
        for axis in range(call.axes - 1, -1, -1):
            place = rest % call.extent[axis]
            rest //= call.extent[axis]
            if axis == call.axes - 1:
                count = min(stop - i, call.extent[axis] - place)
            for a in range(call.arrays):
                at[a] += place * call.stride[a][axis]
        call.row(at, step, count, call.numbers)
        i += count


cdef int run_rows(Elements elements, row_function row, const void *numbers, int64_t values=1) except -1:
    """Apply ``row`` to all elements, each of which represents ``values`` values: the line along an axis of which it is
    the first.
    """
    cdef Walk call
    call.arrays, call.axes, call.size = elements.arrays, elements.axes, elements.size
    call.extent, call.data, call.stride = elements.extent, elements.data, elements.stride
    call.row, call.numbers = row, numbers
    call.block = max(1, BLOCK // values)
    return run(<cnn_task> walk, &call, (call.size + call.block - 1) // call.block, 1, 0, <double> call.size * values)
