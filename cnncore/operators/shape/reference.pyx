"""Copying, adding and padding arrays of any layout."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

import numpy as np

from cnncore.runtime.dispatch cimport CNN_FLOAT32, Tensor, cnn_copy, cnn_task, cnn_tensor, kernel, real, run, tensor
from cnncore.runtime.layout cimport dense, plane_offset, same_order, size
from cnncore.runtime.dispatch import kernel_number

cdef extern from "calls.h" nogil:
    enum: CNN_SUM_BLOCK

    ctypedef struct cnn_sum:
        const cnn_tensor *x
        const double *coefficient
        int64_t count
        cnn_tensor y
        int64_t more
        int64_t contiguous

    ctypedef struct cnn_pad:
        cnn_tensor x
        cnn_tensor y
        const int64_t *source[3]
        const int64_t *first[3]
        const int64_t *target[3]
        double value
        int64_t run_source, run_target, run
        int64_t once_source, once_target, once


# ── Weighted sum ── y = Σ c_j x_j, added in the order of j;  a copy is the sum of one array ────────────────────────────
#
#     dx_j = c_j dy

cdef void sum_block(const cnn_sum *call, int64_t n, int64_t first, real *kind) noexcept nogil:
    """A block of image n from value number ``first`` on, in arrays with contiguous images."""
    cdef real *y = <real *> call.y.data + n * call.y.stride[0] + first
    cdef const real *x
    cdef real coefficient
    cdef int64_t i, j, count = min(call.contiguous - first, CNN_SUM_BLOCK)
    for j in range(call.count):
        x = <const real *> call.x[j].data + n * call.x[j].stride[0] + first
        coefficient = <real> call.coefficient[j]
        if j > 0 or call.more:
            for i in range(count):
                y[i] += coefficient * x[i]
        elif coefficient == 1:
            memcpy(y, x, count * sizeof(real))
        else:
            for i in range(count):
                y[i] = coefficient * x[i]


cdef void sum_row(const cnn_sum *call, int64_t n, int64_t d, int64_t h, real *kind) noexcept nogil:
    """Row (n, :, d, h, :); the inner loop is over channels or columns, whichever has the smaller stride in y."""
    cdef int outer = 1, inner = 4
    if call.y.stride[1] < call.y.stride[4] or call.y.shape[4] == 1:
        outer, inner = 4, 1
    cdef int64_t a, i, step, y_step = call.y.stride[inner]
    cdef int64_t j
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
            if j > 0 or call.more:
                for i in range(call.y.shape[inner]):
                    y[i * y_step] += coefficient * x[i * step]
            elif coefficient == 1 and step == 1 and y_step == 1:
                memcpy(y, x, call.y.shape[inner] * sizeof(real))
            else:
                for i in range(call.y.shape[inner]):
                    y[i * y_step] = coefficient * x[i * step]


cdef void sum_forward(cnn_sum *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are blocks of contiguous images, or rows (n, :, d, h, :)."""
    cdef int64_t task, d, h, blocks = (call.contiguous + CNN_SUM_BLOCK - 1) // CNN_SUM_BLOCK
    for task in range(begin, end):
        if call.contiguous:
            sum_block(call, task // blocks, task % blocks * CNN_SUM_BLOCK, scratch)
            continue
        h = task % call.y.shape[3]
        d = task // call.y.shape[3] % call.y.shape[2]
        sum_row(call, task // call.y.shape[3] // call.y.shape[2], d, h, scratch)


cdef int SUM = kernel_number("sum_forward"), COPY = kernel_number("copy_layout")
cdef double ONE = 1.0


cdef bint contiguous_alike(const cnn_tensor *x, const cnn_tensor *y) noexcept:
    """Whether every image is contiguous in y, and has the same order in x."""
    cdef cnn_tensor image = y[0]
    image.shape[0] = 1
    if not dense(&image):
        return False
    image.stride[0] = x.stride[0]
    return same_order(x, &image)


cdef int run_sum(const cnn_tensor *x, const double *coefficients, int64_t count, const cnn_tensor *y, int precision,
                 bint more=False) except -1:
    cdef cnn_sum call
    cdef int64_t j, values = size(y), tasks = y.shape[0] * y.shape[2] * y.shape[3]
    if values == 0:
        return 0
    call.x, call.coefficient, call.count, call.y = x, coefficients, count, y[0]
    call.more, call.contiguous = more, values // y.shape[0]
    for j in range(count):
        if not contiguous_alike(&x[j], y):
            call.contiguous = 0
            break
    if call.contiguous:
        tasks = y.shape[0] * ((call.contiguous + CNN_SUM_BLOCK - 1) // CNN_SUM_BLOCK)
    cdef cnn_task task = kernel(SUM, precision)
    if task == NULL:
        task = <cnn_task> sum_forward[float] if precision == CNN_FLOAT32 else <cnn_task> sum_forward[double]
    return run(task, &call, tasks, 1 + tasks // 64, 0, values * count)


cdef int run_copy(const cnn_tensor *x, const cnn_tensor *y, int precision) except -1:
    """Write x into y: a sum of one array or, if the layouts differ, by the transposing kernel."""
    cdef cnn_copy call
    cdef cnn_task task = kernel(COPY, precision)
    if task == NULL or contiguous_alike(x, y):
        return run_sum(x, &ONE, 1, y, precision)
    call.src, call.dst = x[0], y[0]
    return run(task, &call, y.shape[0] * y.shape[2] * y.shape[3], 1, 0, size(y))


def add(arrays, const double[::1] coefficients, y):
    """Write y = Σ c_j x_j; none of the x may overlap y."""
    cdef Tensor Y = tensor(y, True)
    cdef list tensors = list(map(Tensor, arrays))
    cdef int64_t j, count = len(tensors)
    cdef cnn_tensor few[4]
    cdef cnn_tensor *x = few
    if count > 4:
        x = <cnn_tensor *> malloc(count * sizeof(cnn_tensor))
        if x == NULL:
            raise MemoryError(f"no memory to describe {count} arrays")
    try:
        for j in range(count):
            x[j] = (<Tensor> tensors[j]).view
        run_sum(x, &coefficients[0], count, &Y.view, Y.precision)
    finally:
        if x != few:
            free(x)


def scale(x, double coefficient, y):
    """Write y = c x."""
    cdef Tensor X = tensor(x), Y = tensor(y, True)
    run_sum(&X.view, &coefficient, 1, &Y.view, Y.precision)


def accumulate(x, y):
    """Write y += x."""
    if x.ndim > 5:
        y += x
        return
    cdef Tensor X = tensor(x), Y = tensor(y, True)
    run_sum(&X.view, &ONE, 1, &Y.view, Y.precision, True)


def copy(x, y):
    """Write x into y."""
    cdef Tensor X = tensor(x), Y = tensor(y, True)
    run_copy(&X.view, &Y.view, Y.precision)


# ── Joining ── y holds the arrays one after the other along an axis ───────────────────────────────────────────────────

def join(arrays, int axis, y):
    """Write the arrays into y."""
    pass_parts(arrays, axis, y, True)


def part(y, int axis, arrays):
    """Write the parts of y into the arrays; an integer instead of an array is an extent to skip."""
    pass_parts(arrays, axis, y, False)


cdef int pass_parts(arrays, int axis, y, bint into_y) except -1:
    """Copy between y and the arrays that are concatenated in it; an integer instead of an array is an extent to skip."""
    cdef Tensor Y = tensor(y, into_y), X
    cdef cnn_tensor place = Y.view
    cdef int itemsize = Y.buffer.itemsize, rank = Y.buffer.ndim
    axis = axis if axis < 2 else axis + 5 - rank
    for array in arrays:
        if type(array) is int:
            place.shape[axis] = array
        else:
            X = tensor(array, not into_y)
            place.shape[axis] = X.view.shape[axis]
            if into_y:
                run_copy(&X.view, &place, Y.precision)
            else:
                run_copy(&place, &X.view, Y.precision)
        place.data = <char *> place.data + place.shape[axis] * place.stride[axis] * itemsize
    return 0


# ── Pixels into channels and back ── y[n, c, h r + i, w r + j] = x[n, channel(c, i, j), h, w]
#
#     channel = c R + b, or b C + c        b: the pixel's number in its block of R = r · r (row-major), C: channels of y

cdef struct Shuffle:
    cnn_tensor fine, coarse         # y and x, or dx and dy
    int64_t factor[3]
    int64_t channel_step            # from c to c + 1 in coarse
    int64_t block_step              # from b to b + 1
    bint to_fine


cdef inline void move_run(real *to, int64_t to_step, const real *source, int64_t step, int64_t count) noexcept nogil:
    cdef int64_t i
    if to_step == 2 and step == 1:
        for i in range(count):
            to[2 * i] = source[i]
    elif to_step == 1 and step == 2:
        for i in range(count):
            to[i] = source[2 * i]
    else:
        for i in range(count):
            to[i * to_step] = source[i * step]


cdef void shuffle_rows(const Shuffle *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are rows (n, d, h) of the fine image, all channels."""
    cdef int64_t task, n, d, h, c, j, w, b, rw = call.factor[2], W = call.coarse.shape[4], C = call.fine.shape[1]
    cdef int64_t f_cell = call.fine.stride[4], c_cell = call.coarse.stride[4], f_channel = call.fine.stride[1]
    cdef int64_t c_channel = call.channel_step * call.coarse.stride[1]
    cdef real *fine
    cdef real *coarse
    for task in range(begin, end):
        h = task % call.fine.shape[3]
        d = task // call.fine.shape[3] % call.fine.shape[2]
        n = task // call.fine.shape[3] // call.fine.shape[2]
        b = (d % call.factor[0] * call.factor[1] + h % call.factor[1]) * rw
        fine = <real *> call.fine.data + n * call.fine.stride[0] + d * call.fine.stride[2] + h * call.fine.stride[3]
        coarse = (<real *> call.coarse.data + n * call.coarse.stride[0] + d // call.factor[0] * call.coarse.stride[2]
                  + h // call.factor[1] * call.coarse.stride[3] + b * call.block_step * call.coarse.stride[1])
        if f_channel < f_cell:          # channels innermost
            for w in range(W):
                for j in range(rw):
                    if call.to_fine:
                        move_run(fine + (w * rw + j) * f_cell, f_channel,
                                 coarse + w * c_cell + j * call.block_step * call.coarse.stride[1], c_channel, C)
                    else:
                        move_run(coarse + w * c_cell + j * call.block_step * call.coarse.stride[1], c_channel,
                                 fine + (w * rw + j) * f_cell, f_channel, C)
            continue
        for c in range(C):
            for j in range(rw):
                if call.to_fine:
                    move_run(fine + c * f_channel + j * f_cell, rw * f_cell,
                             coarse + c * c_channel + j * call.block_step * call.coarse.stride[1], c_cell, W)
                else:
                    move_run(coarse + c * c_channel + j * call.block_step * call.coarse.stride[1], c_cell,
                             fine + c * f_channel + j * f_cell, rw * f_cell, W)


def shuffle(fine, coarse, tuple factor, bint blocks_together, bint to_fine):
    """Move the pixels of blocks of ``fine`` into channels of ``coarse``, or back where ``to_fine``. ``factor``: along D, H, W;
    ``blocks_together``: the pixels of a block are neighbouring channels, otherwise the channels of a pixel are."""
    cdef Tensor F = tensor(fine, to_fine), C = tensor(coarse, not to_fine)
    cdef Shuffle call
    cdef int axis
    cdef int64_t block = 1
    call.fine, call.coarse, call.to_fine = F.view, C.view, to_fine
    for axis in range(3):
        call.factor[axis] = factor[axis]
        block *= factor[axis]
    call.channel_step = block if blocks_together else 1
    call.block_step = 1 if blocks_together else F.view.shape[1]
    run(<cnn_task> shuffle_rows[float] if F.precision == CNN_FLOAT32 else <cnn_task> shuffle_rows[double],
        &call, F.view.shape[0] * F.view.shape[2] * F.view.shape[3], 1, 0, 2 * size(&F.view))


# ── Padding ────────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y[o] = x[source(o)], or the constant where source(o) = −1, per axis
#     dx[i] = Σ dy[o] over the o with source(o) = i

cdef void pad_forward(const cnn_pad *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
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


cdef inline double sum_of_copies(const cnn_pad *call, const real *dy, int64_t d, int64_t h, int64_t w) noexcept nogil:
    """The gradients of the copies of a cell, in row-major order."""
    cdef int64_t td, th, tw
    cdef double sum_ = 0
    for td in range(call.first[0][d], call.first[0][d + 1]):
        for th in range(call.first[1][h], call.first[1][h + 1]):
            for tw in range(call.first[2][w], call.first[2][w + 1]):
                sum_ += dy[call.target[0][td] * call.y.stride[2] + call.target[1][th] * call.y.stride[3]
                           + call.target[2][tw] * call.y.stride[4]]
    return sum_


cdef void pad_backward(const cnn_pad *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are rows (n, :, d, h, :) of dx: a cell sums the gradients of its copies, in row-major order, in float64."""
    cdef int64_t task, n, c, w, d, h
    cdef const real *dy
    cdef real *dx
    for task in range(begin, end):
        h = task % call.x.shape[3]
        d = task // call.x.shape[3] % call.x.shape[2]
        n = task // call.x.shape[3] // call.x.shape[2]
        for w in range(call.x.shape[4]):
            dx = <real *> call.x.data + n * call.x.stride[0] + d * call.x.stride[2] + h * call.x.stride[3] + w * call.x.stride[4]
            for c in range(call.x.shape[1]):
                dy = <const real *> call.y.data + plane_offset(&call.y, n, c)
                dx[c * call.x.stride[1]] = <real> sum_of_copies(call, dy, d, h, w)


cdef int PAD_FORWARD = kernel_number("pad_forward"), PAD_BACKWARD = kernel_number("pad_backward")


cdef void longest_run(const int64_t *places, const int64_t *counted, int64_t count, int64_t *start, int64_t *length) noexcept:
    """The longest run of i with neighbouring places[i] ≥ 0; with ``counted`` only cells i that have one place,
    places[counted[i]], take part."""
    cdef int64_t i, place, before = -2, begun = 0
    start[0] = length[0] = 0
    for i in range(count):
        if counted == NULL:
            place = places[i]
        else:
            place = places[counted[i]] if counted[i + 1] - counted[i] == 1 else -1
        if place < 0 or place != before + 1 or before < 0:
            begun = i
        before = place
        if place >= 0 and i + 1 - begun > length[0]:
            start[0], length[0] = begun, i + 1 - begun


cdef class Padding:
    """Padding by tables: per axis D, H, W the input cell that each output cell copies, or −1."""
    cdef cnn_pad tables
    cdef list held

    def __init__(self, sources, extents, double value):
        cdef int axis
        cdef Tensor held_source, held_first, held_target
        self.held = []
        self.tables.value = value
        for axis in range(3):
            source = np.ascontiguousarray(sources[axis], np.int64)
            # Outputs sorted by the cell they copy; those without one come first and are skipped.
            target = np.argsort(source, kind="stable").astype(np.int64)
            first = np.searchsorted(source[target], np.arange(extents[axis] + 1)).astype(np.int64)
            held_source, held_first, held_target = tensor(source), tensor(first), tensor(target)
            self.tables.source[axis] = <const int64_t *> held_source.view.data
            self.tables.first[axis] = <const int64_t *> held_first.view.data
            self.tables.target[axis] = <const int64_t *> held_target.view.data
            self.held.extend((held_source, held_first, held_target))
        cdef cnn_pad *t = &self.tables
        longest_run(t.source[2], NULL, len(sources[2]), &t.run_target, &t.run)
        t.run_source = t.source[2][t.run_target] if t.run else 0
        longest_run(t.target[2], t.first[2], extents[2], &t.once_source, &t.once)
        t.once_target = t.target[2][t.first[2][t.once_source]] if t.once else 0

    def forward(self, x, y):
        """Write y."""
        cdef Tensor X = tensor(x), Y = tensor(y, True)
        cdef cnn_pad call = self.tables
        call.x, call.y = X.view, Y.view
        cdef cnn_task task = kernel(PAD_FORWARD, X.precision)
        if task == NULL:
            task = <cnn_task> pad_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> pad_forward[double]
        run(task, &call, Y.view.shape[0] * Y.view.shape[2] * Y.view.shape[3], 1, 0, 2 * size(&Y.view))

    def backward(self, dy, dx):
        """Write dx."""
        cdef Tensor DY = tensor(dy), DX = tensor(dx, True)
        cdef cnn_pad call = self.tables
        call.x, call.y = DX.view, DY.view
        cdef cnn_task task = kernel(PAD_BACKWARD, DX.precision)
        if task == NULL:
            task = <cnn_task> pad_backward[float] if DX.precision == CNN_FLOAT32 else <cnn_task> pad_backward[double]
        run(task, &call, DX.view.shape[0] * DX.view.shape[2] * DX.view.shape[3], 1, 0, 2 * size(&DY.view))
