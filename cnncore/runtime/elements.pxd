# Values of several arrays that meet one by one: arrays of one shape, of up to eight axes, of any strides and element types.

from libc.stdint cimport int64_t

from cnncore.runtime.dispatch cimport real

cdef enum:
    MOST_ARRAYS = 5
    MOST_AXES = 8
    BLOCK = 4096        # values of one task

# What is done with ``count`` elements, array number a from at[a] on in steps of step[a] bytes. ``numbers`` are settings, in
# the precision of the call.
ctypedef void (*row_function)(char **at, const int64_t *step, int64_t count, const void *numbers) noexcept nogil

cdef class Elements:
    """The arrays of a call, with as few axes as their strides allow; their memory is held as long as this lives."""
    cdef list buffers
    cdef int arrays, axes
    cdef int64_t size
    cdef int64_t extent[8]
    cdef char *data[5]
    cdef int64_t stride[5][8]

cdef int run_rows(Elements elements, row_function row, const void *numbers, int64_t values=*) except -1
