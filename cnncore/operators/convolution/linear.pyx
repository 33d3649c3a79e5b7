"""Linear layers with few rows, y = x wᵀ + b, which have their own kernels (operators/convolution/kernels/linear.h).

A linear layer is a 1×1 convolution on one pixel per row; formulas, reference implementations and the kernels for many rows are
those of convolution (reference.pyx). Each function returns whether it computed: not without kernels, with many rows, or if the
elements of a row are not contiguous.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from cnncore.runtime.dispatch cimport Tensor, cnn_task, kernel, lanes, run, tensor
from cnncore.runtime.dispatch import kernel_number

cdef extern from "calls.h" nogil:
    enum: CNN_LINEAR_VECTORS
    enum: CNN_LINEAR_ROWS

    ctypedef struct cnn_linear:
        void *x
        void *w
        void *y
        const void *b
        int64_t x_row, w_row, y_row, b_step
        int64_t rows, features, outputs
        double lower, upper

cdef int FORWARD = kernel_number("linear_forward")
cdef int BACKWARD_INPUT = kernel_number("linear_backward_input")
cdef int BACKWARD_WEIGHT = kernel_number("linear_backward_weight")

cdef enum:
    FEW_ROWS = 6            # above it the convolution kernels, which read packed weights, are faster
    SPEED = 8               # multiply-adds in the time of an elementary operation


cdef bint in_rows(Tensor t) noexcept:
    return t.view.stride[1] == 1 or t.view.shape[1] == 1


cdef cnn_task prepare_call(int number, cnn_linear *call, Tensor x, Tensor w, Tensor y) noexcept:
    """Fill in the call; returns NULL if these kernels do not apply."""
    if x.view.shape[0] > FEW_ROWS or not (in_rows(x) and in_rows(w) and in_rows(y)):
        return NULL
    call.x, call.w, call.y, call.b = x.view.data, w.view.data, y.view.data, NULL
    call.x_row, call.w_row, call.y_row = x.view.stride[0], w.view.stride[0], y.view.stride[0]
    call.rows, call.features, call.outputs = x.view.shape[0], x.view.shape[1], w.view.shape[0]
    return kernel(number, x.precision)


cdef int run_tasks(cnn_task task, cnn_linear *call, int64_t work, int64_t of_task) except -1:
    """Tasks take ``of_task`` of ``work`` outputs or features each."""
    return run(task, call, (work + of_task - 1) // of_task, 1, 0, <double> call.rows * call.features * call.outputs / SPEED)


def forward(x, w, b, y, double lower=-INFINITY, double upper=INFINITY):
    """Write y = x wᵀ + b, clamped to [``lower``, ``upper``]; b may be None."""
    cdef Tensor X = tensor(x), W = tensor(w), Y = tensor(y, True), B
    cdef cnn_linear call
    cdef cnn_task task = prepare_call(FORWARD, &call, X, W, Y)
    if task == NULL:
        return False
    if b is not None:
        B = tensor(b)
        call.b, call.b_step = B.view.data, B.view.stride[0]
    call.lower, call.upper = lower, upper
    run_tasks(task, &call, call.outputs, lanes(X.precision))
    return True


def backward_input(dy, w, dx):
    """Write dx = dy w."""
    cdef Tensor DY = tensor(dy), W = tensor(w), DX = tensor(dx, True)
    cdef cnn_linear call
    cdef cnn_task task = prepare_call(BACKWARD_INPUT, &call, DX, W, DY)
    if task == NULL:
        return False
    run_tasks(task, &call, call.features, CNN_LINEAR_VECTORS * lanes(DX.precision))
    return True


def backward_weight(x, dy, dw):
    """Write dw = dyᵀ x."""
    cdef Tensor X = tensor(x), DY = tensor(dy), DW = tensor(dw, True)
    cdef cnn_linear call
    cdef cnn_task task = prepare_call(BACKWARD_WEIGHT, &call, X, DW, DY)
    if task == NULL:
        return False
    run_tasks(task, &call, call.outputs, CNN_LINEAR_ROWS)
    return True
