"""Copying, adding and padding arrays of any layout."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

import numpy as np

from cnncore.ops.dispatch cimport CNN_FLOAT32, Tensor, cnn_task, cnn_tensor, real, run, tensor
from cnncore.ops.conv import copy_layout
from cnncore.ops.layout cimport dense, plane_offset, same_order, size


# ── Weighted sum ── y = Σ c_j x_j, added in the order of j;  a copy is the sum of one array ────────────────────────────
#
#     dx_j = c_j dy

cdef enum:
    STRETCH = 4096          # values in a task where all arrays are walked through as one stretch of memory

cdef struct Sum:
    cnn_tensor *x
    const double *coefficient
    int count
    cnn_tensor y
    bint dense              # one stretch of memory, in the same order of the axes in all arrays
    int64_t size


cdef void sum_stretch(const Sum *call, int64_t begin, int64_t end, real *kind) noexcept nogil:
    """Values begin … end of dense arrays."""
    cdef real *y = <real *> call.y.data
    cdef const real *x
    cdef real coefficient
    cdef int64_t i
    cdef int j
    for j in range(call.count):
        x = <const real *> call.x[j].data
        coefficient = <real> call.coefficient[j]
        if j == 0 and coefficient == 1:
            memcpy(y + begin, x + begin, (end - begin) * sizeof(real))
        elif j == 0:
            for i in range(begin, end):
                y[i] = coefficient * x[i]
        else:
            for i in range(begin, end):
                y[i] += coefficient * x[i]


cdef void sum_row(const Sum *call, int64_t n, int64_t d, int64_t h, real *kind) noexcept nogil:
    """Row (n, :, d, h, :), along whichever of channels and columns lies closer together in y."""
    cdef int outer = 1, inner = 4
    if call.y.stride[1] < call.y.stride[4] or call.y.shape[4] == 1:
        outer, inner = 4, 1
    cdef int64_t a, i, step, y_step = call.y.stride[inner]
    cdef int j
    cdef const real *x
    cdef real *y
    cdef real coefficient
    for a in range(call.y.shape[outer]):
        y = <real *> call.y.data + n * call.y.stride[0] + d * call.y.stride[2] + h * call.y.stride[3] + a * call.y.stride[outer]
        for j in range(call.count):
            x = (<const real *> call.x[j].data + n * call.x[j].stride[0] + d * call.x[j].stride[2]
                 + h * call.x[j].stride[3] + a * call.x[j].stride[outer])
            step = call.x[j].stride[inner]
            coefficient = <real> call.coefficient[j]
            if j == 0 and coefficient == 1 and step == 1 and y_step == 1:
                memcpy(y, x, call.y.shape[inner] * sizeof(real))
            elif j == 0:
                for i in range(call.y.shape[inner]):
                    y[i * y_step] = coefficient * x[i * step]
            else:
                for i in range(call.y.shape[inner]):
                    y[i * y_step] += coefficient * x[i * step]


cdef void sum_forward(Sum *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are stretches of memory, or rows (n, :, d, h, :)."""
    cdef int64_t task, d, h
    if call.dense:
        sum_stretch(call, begin * STRETCH, min(end * STRETCH, call.size), scratch)
        return
    for task in range(begin, end):
        h = task % call.y.shape[3]
        d = task // call.y.shape[3] % call.y.shape[2]
        sum_row(call, task // call.y.shape[3] // call.y.shape[2], d, h, scratch)


def add(list arrays, const double[::1] coefficients, y):
    """Write y = Σ c_j x_j; none of the x may overlap y."""
    cdef Tensor Y = tensor(y, True)
    cdef list tensors = [tensor(x) for x in arrays]
    cdef Sum call
    cdef int j
    cdef object room = bytearray(len(tensors) * sizeof(cnn_tensor))
    cdef char[::1] memory = room
    call.x = <cnn_tensor *> &memory[0]
    call.coefficient, call.count, call.y = &coefficients[0], len(tensors), Y.view
    call.size = size(&Y.view)
    call.dense = dense(&Y.view)
    for j in range(call.count):
        call.x[j] = (<Tensor> tensors[j]).view
        call.dense = call.dense and same_order(&call.x[j], &Y.view)
    cdef cnn_task task = <cnn_task> sum_forward[float] if Y.precision == CNN_FLOAT32 else <cnn_task> sum_forward[double]
    cdef int64_t tasks = (call.size + STRETCH - 1) // STRETCH
    if not call.dense:
        tasks = Y.view.shape[0] * Y.view.shape[2] * Y.view.shape[3]
    if call.size:
        run(task, &call, tasks, 1 + tasks // 64, 0, call.size * call.count)


ONE = np.ones(1)


def copy(x, y):
    """Write x into y."""
    cdef Tensor X = tensor(x), Y = tensor(y)
    if dense(&Y.view) and same_order(&X.view, &Y.view):
        add([x], ONE, y)
    else:
        copy_layout(x, y)


# ── Padding ────────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y[o] = x[source(o)], or the constant where source(o) = −1, per axis
#     dx[i] = Σ dy[o] over the o with source(o) = i

cdef struct Pad:
    cnn_tensor x, y                 # or dx and dy
    const int64_t *source[3]        # [output extent]
    const int64_t *first[3]         # [input extent + 1] where the cells' targets begin in …
    const int64_t *target[3]        # … the outputs that hold each input cell, in order
    double value


cdef void pad_forward(const Pad *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are rows (n, :, d, h, :) of y."""
    cdef int64_t task, n, c, w, d, h, from_d, from_h, from_w
    cdef const real *x
    cdef real *y
    for task in range(begin, end):
        h = task % call.y.shape[3]
        d = task // call.y.shape[3] % call.y.shape[2]
        n = task // call.y.shape[3] // call.y.shape[2]
        from_d, from_h = call.source[0][d], call.source[1][h]
        for w in range(call.y.shape[4]):
            from_w = call.source[2][w]
            y = <real *> call.y.data + n * call.y.stride[0] + d * call.y.stride[2] + h * call.y.stride[3] + w * call.y.stride[4]
            if from_d < 0 or from_h < 0 or from_w < 0:
                for c in range(call.y.shape[1]):
                    y[c * call.y.stride[1]] = <real> call.value
                continue
            x = (<const real *> call.x.data + n * call.x.stride[0] + from_d * call.x.stride[2] + from_h * call.x.stride[3]
                 + from_w * call.x.stride[4])
            for c in range(call.y.shape[1]):
                y[c * call.y.stride[1]] = x[c * call.x.stride[1]]


cdef void pad_backward(const Pad *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are rows (n, :, d, h, :) of dx: every cell adds what its copies received, in row-major order, in float64."""
    cdef int64_t task, n, c, w, d, h, td, th, tw
    cdef const real *dy
    cdef real *dx
    cdef double sum_
    for task in range(begin, end):
        h = task % call.x.shape[3]
        d = task // call.x.shape[3] % call.x.shape[2]
        n = task // call.x.shape[3] // call.x.shape[2]
        for w in range(call.x.shape[4]):
            dx = <real *> call.x.data + n * call.x.stride[0] + d * call.x.stride[2] + h * call.x.stride[3] + w * call.x.stride[4]
            for c in range(call.x.shape[1]):
                dy = <const real *> call.y.data + plane_offset(&call.y, n, c)
                sum_ = 0
                for td in range(call.first[0][d], call.first[0][d + 1]):
                    for th in range(call.first[1][h], call.first[1][h + 1]):
                        for tw in range(call.first[2][w], call.first[2][w + 1]):
                            sum_ += dy[call.target[0][td] * call.y.stride[2] + call.target[1][th] * call.y.stride[3]
                                       + call.target[2][tw] * call.y.stride[4]]
                dx[c * call.x.stride[1]] = <real> sum_


cdef class Padding:
    """Padding by tables: per axis D, H, W the input cell that each output cell holds, or −1."""
    cdef Pad tables
    cdef list held

    def __init__(self, sources, extents, double value):
        cdef int axis
        cdef Tensor held_source, held_first, held_target
        self.held = []
        self.tables.value = value
        for axis in range(3):
            source = np.ascontiguousarray(sources[axis], np.int64)
            # Outputs ordered by the cell they hold; those that hold none come first and are skipped.
            target = np.argsort(source, kind="stable").astype(np.int64)
            first = np.searchsorted(source[target], np.arange(extents[axis] + 1)).astype(np.int64)
            held_source, held_first, held_target = tensor(source), tensor(first), tensor(target)
            self.tables.source[axis] = <const int64_t *> held_source.view.data
            self.tables.first[axis] = <const int64_t *> held_first.view.data
            self.tables.target[axis] = <const int64_t *> held_target.view.data
            self.held.extend((held_source, held_first, held_target))

    def forward(self, x, y):
        """Write y."""
        cdef Tensor X = tensor(x), Y = tensor(y, True)
        cdef Pad call = self.tables
        call.x, call.y = X.view, Y.view
        cdef cnn_task task = <cnn_task> pad_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> pad_forward[double]
        run(task, &call, Y.view.shape[0] * Y.view.shape[2] * Y.view.shape[3], 1, 0, 2 * size(&Y.view))

    def backward(self, dy, dx):
        """Write dx."""
        cdef Tensor DY = tensor(dy), DX = tensor(dx, True)
        cdef Pad call = self.tables
        call.x, call.y = DX.view, DY.view
        cdef cnn_task task = <cnn_task> pad_backward[float] if DX.precision == CNN_FLOAT32 else <cnn_task> pad_backward[double]
        run(task, &call, DX.view.shape[0] * DX.view.shape[2] * DX.view.shape[3], 1, 0, 2 * size(&DY.view))
