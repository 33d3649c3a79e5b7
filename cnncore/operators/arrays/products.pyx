"""Products of matrices over the last two axes; the axes before them are broadcast.

    y[…, i, j] = Σ_k x[…, i, k] z[…, k, j]

Each sum has one order, into whatever blocks the product is divided for the threads. A BLAS library promises no such thing: its
results change with its own number of threads, and from one library to the next.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

import numpy as np

from cnncore.runtime.dispatch cimport (
    CNN_FLOAT32, Tensor, cnn_task, cnn_tensor, kernel, lanes, real, run, tensor, threads_per_call,
)
from cnncore.runtime.dispatch import kernel_number

cdef extern from "calls.h" nogil:
    enum: CNN_MATRIX_TERMS

    ctypedef struct cnn_matrices:
        cnn_tensor x, z, y
        int64_t rows, columns

    enum: CNN_LINEAR_VECTORS

    ctypedef struct cnn_linear:
        void *x
        void *w
        void *y
        const void *b
        int64_t x_row, w_row, y_row, b_step
        int64_t rows, features, outputs
        double lower, upper

cdef int PRODUCT = kernel_number("multiply_matrices")
# Of linear layers with few rows, whose kernels read the larger matrix in place, once.
cdef int BY_COLUMNS = kernel_number("linear_forward")
cdef int BY_ROWS = kernel_number("linear_backward_input")

cdef enum:
    SPEED = 8               # multiply-adds in the time of an elementary operation
    COLUMN_BYTES = 512      # of z packed at a time
    MOST_ROWS = 192         # of a block
    LEAST_ROWS = 96         # below it packing z takes a large part of the time, unless a task would take too long
    FEW_ROWS = 6            # up to which packing z would take longer than the product
    MOST_TERMS = 1 << 14    # above it the sums of those kernels, in one long chain, lose accuracy

# Multiply-adds of a task, while which nobody looks for Ctrl-C: a twentieth of a second.
cdef double LONGEST = 2.0 ** 31


cdef void product_rows(cnn_matrices *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are rows of y, of one matrix after the other."""
    cdef int64_t task, matrix, j, k
    cdef const int64_t *size = &call.y.shape[0]
    cdef const real *x
    cdef const real *z
    cdef real *y
    cdef double total
    for task in range(begin, end):
        matrix = task // size[3]
        x = <const real *> call.x.data + element(&call.x, size, matrix) + task % size[3] * call.x.stride[3]
        z = <const real *> call.z.data + element(&call.z, size, matrix)
        y = <real *> call.y.data + element(&call.y, size, matrix) + task % size[3] * call.y.stride[3]
        for j in range(size[4]):
            total = 0
            for k in range(call.x.shape[4]):
                total += <double> x[k * call.x.stride[4]] * z[k * call.z.stride[3] + j * call.z.stride[4]]
            y[j * call.y.stride[4]] = <real> total


cdef inline int64_t element(const cnn_tensor *t, const int64_t *size, int64_t matrix) noexcept nogil:
    """Where matrix number ``matrix`` of those in y begins."""
    return (matrix // size[2] // size[1] * t.stride[0] + matrix // size[2] % size[1] * t.stride[1]
            + matrix % size[2] * t.stride[2])


cdef cnn_tensor transposed(cnn_tensor t) noexcept:
    t.shape[3], t.shape[4] = t.shape[4], t.shape[3]
    t.stride[3], t.stride[4] = t.stride[4], t.stride[3]
    return t


cdef int64_t divide(cnn_matrices *call, int64_t itemsize, int64_t wide) noexcept:
    """Choose the blocks of y; returns how many there are."""
    cdef int64_t rows = call.y.shape[3], columns = call.y.shape[4], terms = call.x.shape[4]
    cdef int64_t matrices = call.y.shape[0] * call.y.shape[1] * call.y.shape[2]
    cdef int64_t wanted = 4 * threads_per_call() if threads_per_call() > 1 else 1
    call.columns = min((columns + wide - 1) // wide * wide, COLUMN_BYTES // itemsize)
    cdef int64_t others = matrices * ((columns + call.columns - 1) // call.columns)
    cdef int64_t pieces = (wanted + others - 1) // others
    call.rows = min(MOST_ROWS, max(LEAST_ROWS, (rows + pieces - 1) // pieces))
    while <double> call.rows * call.columns * terms > LONGEST and call.rows > 12:
        call.rows = max(call.rows // 2, 12)
    while <double> call.rows * call.columns * terms > LONGEST and call.columns > wide:
        call.columns = max(call.columns // 2 // wide * wide, wide)
    return matrices * ((rows + call.rows - 1) // call.rows) * ((columns + call.columns - 1) // call.columns)


cdef bint in_rows(const cnn_tensor *t) noexcept:
    return t.stride[4] == 1 or t.shape[4] == 1


cdef int multiply_few_rows(cnn_matrices *call, int precision, int64_t itemsize) except -1:
    """The product with the kernels of linear layers; returns 0 if they do not apply."""
    cdef int64_t matrix, of_task
    cdef const int64_t *size = &call.y.shape[0]
    cdef int64_t matrices = size[0] * size[1] * size[2], rows = size[3], columns = size[4], terms = call.x.shape[4]
    cdef bint by_rows = in_rows(&call.z)
    cdef cnn_task task = kernel(BY_ROWS if by_rows else BY_COLUMNS, precision)
    cdef cnn_linear part
    cdef char *x
    cdef char *z
    cdef char *y
    if task == NULL or terms > MOST_TERMS or rows > FEW_ROWS or not (in_rows(&call.x) and in_rows(&call.y)):
        return 0
    if not by_rows and call.z.stride[3] != 1:
        return 0
    part.b, part.b_step, part.lower, part.upper, part.rows = NULL, 0, -INFINITY, INFINITY, rows
    of_task = lanes(precision) * (CNN_LINEAR_VECTORS if by_rows else 1)
    for matrix in range(matrices):
        x = <char *> call.x.data + element(&call.x, size, matrix) * itemsize
        z = <char *> call.z.data + element(&call.z, size, matrix) * itemsize
        y = <char *> call.y.data + element(&call.y, size, matrix) * itemsize
        part.w = z
        if by_rows:     # dx = dy w
            part.x, part.y, part.x_row, part.w_row, part.y_row = y, x, call.y.stride[3], call.z.stride[3], call.x.stride[3]
            part.features, part.outputs = columns, terms
        else:           # y = x wᵀ
            part.x, part.y, part.x_row, part.w_row, part.y_row = x, y, call.x.stride[3], call.z.stride[4], call.y.stride[3]
            part.features, part.outputs = terms, columns
        run(task, &part, (columns + of_task - 1) // of_task, 1, 0, <double> rows * columns * terms / SPEED)
    return 1


cdef void transpose(cnn_matrices *call) noexcept:
    """yᵀ = zᵀ xᵀ."""
    call.x, call.z, call.y = transposed(call.z), transposed(call.x), transposed(call.y)


cdef int multiply(Tensor X, Tensor Z, Tensor Y) except -1:
    """Write y, whose rows, or columns, are contiguous. All are (a, b, c, rows, columns)."""
    cdef cnn_matrices call
    cdef cnn_task task = kernel(PRODUCT, X.precision)
    cdef int64_t tasks, scratch = 0, itemsize = 4 if X.precision == CNN_FLOAT32 else 8
    cdef int axis
    call.x, call.z, call.y = X.view, Z.view, Y.view
    for axis in range(3):
        if call.x.shape[axis] == 1:
            call.x.stride[axis] = 0
        if call.z.shape[axis] == 1:
            call.z.stride[axis] = 0
    if call.y.shape[4] <= FEW_ROWS < call.y.shape[3] and call.y.stride[3] == 1:
        transpose(&call)
    if multiply_few_rows(&call, X.precision, itemsize):
        return 0
    # Where y's columns are contiguous, and where a single row would be multiplied by a packed z.
    if call.y.shape[4] > 1 and (call.y.stride[4] != 1 or call.y.shape[3] == 1):
        transpose(&call)
    cdef double work = <double> call.y.shape[0] * call.y.shape[1] * call.y.shape[2] * call.y.shape[3] * call.y.shape[4]
    if task == NULL:
        task = <cnn_task> product_rows[float] if X.precision == CNN_FLOAT32 else <cnn_task> product_rows[double]
        tasks = call.y.shape[0] * call.y.shape[1] * call.y.shape[2] * call.y.shape[3]
    else:
        tasks = divide(&call, itemsize, 2 * lanes(X.precision))
        scratch = (call.rows + call.columns) * CNN_MATRIX_TERMS * itemsize
    return run(task, &call, tasks, 1, scratch, work * call.x.shape[4] / SPEED)


cdef Tensor matrices(array, bint writable=False):
    """``array``, of at most five axes, as (a, b, c, rows, columns)."""
    return tensor(array[(None,) * (5 - array.ndim)], writable)


def product(x, z, out=None):
    """The matrix products of x and z, as ``np.matmul`` defines them, in ``out`` if it is given.

    Both have at least two axes, ``out`` at most five; where their dtypes differ, the narrower is converted.
    """
    dtype = np.result_type(x, z) if out is None else out.dtype
    x, z = x.astype(dtype, copy=False), z.astype(dtype, copy=False)
    *before_x, rows, terms = x.shape
    *before_z, _, columns = z.shape
    shape = (*np.broadcast_shapes(tuple(before_x), tuple(before_z)), rows, columns)
    y = np.empty(shape, dtype) if out is None else out
    if 0 in shape:
        return y
    if terms == 0:
        y[...] = 0
        return y
    *_, row_step, column_step = y.strides
    in_place = rows == 1 or columns == 1 or y.itemsize in (row_step, column_step)
    written = y if in_place else np.empty(shape, dtype)
    multiply(matrices(x), matrices(z), matrices(written, True))
    if not in_place:
        y[...] = written
    return y
