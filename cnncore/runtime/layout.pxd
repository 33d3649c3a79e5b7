# Layout of tensors: offsets of planes, cells and values, and whether several arrays can be traversed together.

from libc.stdint cimport int64_t

from cnncore.runtime.dispatch cimport CNN_FLOAT32, Tensor, cnn_tensor


cdef inline int64_t cells(const cnn_tensor *t) noexcept nogil:
    """Cells of one plane: D · H · W."""
    return t.shape[2] * t.shape[3] * t.shape[4]


cdef inline int64_t size(const cnn_tensor *t) noexcept nogil:
    return t.shape[0] * t.shape[1] * cells(t)


cdef inline void merge_cells(cnn_tensor *t) noexcept nogil:
    """Make the plane one axis, (N, C, 1, 1, D·H·W), if its cells in row-major order are one stride apart."""
    cdef int64_t step = 0, next_ = 0
    cdef int axis
    cdef bint begun = False
    for axis in range(4, 1, -1):
        if t.shape[axis] == 1:
            continue
        if begun and t.stride[axis] != next_:
            return
        if not begun:
            step, begun = t.stride[axis], True
        next_ = t.stride[axis] * t.shape[axis]
    t.shape[4] = cells(t)
    t.stride[4] = step
    t.shape[2] = t.shape[3] = 1
    t.stride[2] = t.stride[3] = 0


cdef inline int64_t cell_offset(const cnn_tensor *t, int64_t cell) noexcept nogil:
    """The offset of cell number ``cell`` of a plane, in row-major order, from the plane's first."""
    if t.shape[2] == 1 and t.shape[3] == 1:
        return cell * t.stride[4]
    cdef int64_t row = cell // t.shape[4]
    return (row // t.shape[3] * t.stride[2] + row % t.shape[3] * t.stride[3] + cell % t.shape[4] * t.stride[4])


cdef inline int64_t plane_offset(const cnn_tensor *t, int64_t n, int64_t c) noexcept nogil:
    return n * t.stride[0] + c * t.stride[1]


cdef inline bint dense(const cnn_tensor *t) noexcept nogil:
    """Whether the values fill a contiguous block of memory exactly once, in any order of the axes."""
    cdef int64_t filled = 1
    cdef int axis, found
    cdef bint used[5]
    for axis in range(5):
        used[axis] = t.shape[axis] == 1
    while True:
        found = -1
        for axis in range(5):
            if not used[axis]:
                if t.stride[axis] == filled:
                    found = axis
                    break
        if found < 0:
            break
        used[found] = True
        filled *= t.shape[found]
    return used[0] and used[1] and used[2] and used[3] and used[4]


cdef inline bint same_order(const cnn_tensor *a, const cnn_tensor *b) noexcept nogil:
    """Whether two tensors of one shape have the same strides, so that a linear traversal pairs the right values."""
    cdef int axis
    for axis in range(5):
        if a.shape[axis] > 1 and a.stride[axis] != b.stride[axis]:
            return False
    return True


cdef inline bint side_by_side(cnn_tensor **tensors, int count) noexcept nogil:
    """Whether the cells of every plane of these tensors are contiguous; merges them if they can be."""
    cdef bint all_ = True
    cdef int i
    for i in range(count):
        merge_cells(tensors[i])
        all_ = all_ and tensors[i].shape[2] == 1 and tensors[i].shape[3] == 1 and (
            tensors[i].stride[4] == 1 or tensors[i].shape[4] == 1)
    return all_


cdef inline bint channels_innermost(cnn_tensor **tensors, int count) noexcept nogil:
    """Whether the channels of every cell are contiguous, and the cells one stride apart; merges them if they can be."""
    cdef bint all_ = True
    cdef int i
    for i in range(count):
        merge_cells(tensors[i])
        all_ = all_ and tensors[i].shape[2] == 1 and tensors[i].shape[3] == 1 and (
            tensors[i].stride[1] == 1 and tensors[i].shape[1] > 1)
    return all_


cdef inline double value(Tensor t, int64_t offset) noexcept:
    """The number at an offset, whatever the precision."""
    return (<const float *> t.view.data)[offset] if t.precision == CNN_FLOAT32 else (<const double *> t.view.data)[offset]


cdef inline void put(Tensor t, int64_t offset, double number) noexcept:
    """Round a number to the precision and write it."""
    if t.precision == CNN_FLOAT32:
        (<float *> t.view.data)[offset] = <float> number
    else:
        (<double *> t.view.data)[offset] = number
