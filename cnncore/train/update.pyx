"""Optimizers' updates: parameter, gradient and state in one pass over memory, in place.

Values are independent, so results do not depend on the number of threads. C kernels of the same names (update.h) may replace the
loops. Arrays have one shape, any layouts, and the parameter's precision, in which the updates compute.
"""

from libc.math cimport sqrt
from libc.stdint cimport int64_t

from cnncore.operators.activation.reference cimport merge_axes
from cnncore.runtime.dispatch cimport CNN_FLOAT32, Tensor, cnn_elementwise, cnn_offsets, cnn_row, cnn_task, kernel, real, run, tensor
from cnncore.runtime.dispatch import kernel_number

cdef extern from "calls.h" nogil:
    enum: CNN_UPDATE_BLOCK
    enum: CNN_RATE
    enum: CNN_DECAY
    enum: CNN_MOMENTUM
    enum: CNN_BETA_1
    enum: CNN_REST_1
    enum: CNN_BETA_2
    enum: CNN_REST_2
    enum: CNN_SCALE
    enum: CNN_EPS
    enum: CNN_SHRINK

    ctypedef struct cnn_update:
        cnn_elementwise arrays
        double number[10]
        int nesterov


# ── Gradient descent with momentum ────────────────────────────────────────────────────────────────────────────────────
#
#     g ← g + λ w        v ← μ v + g        w ← w − η v, or with Nesterov's w − η (g + μ v)
#
# Without a state v, μ is 0 and v is g.

cdef void sgd_update(cnn_update *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are blocks of values; arrays: y = w, x = g, dy = v."""
    cdef int64_t i
    cdef cnn_offsets at
    cdef real *w
    cdef real *v
    cdef real g, step, momentum = <real> call.number[CNN_MOMENTUM]
    for i in range(begin * CNN_UPDATE_BLOCK, min(end * CNN_UPDATE_BLOCK, call.arrays.size)):
        cnn_row(&call.arrays, i, call.arrays.size, &at)
        w = <real *> call.arrays.y.data + at.y
        g = (<const real *> call.arrays.x.data)[at.x] + <real> call.number[CNN_DECAY] * w[0]
        step = g
        if call.arrays.dy.data != NULL:
            v = <real *> call.arrays.dy.data + at.dy
            v[0] = momentum * v[0] + g
            step = g + momentum * v[0] if call.nesterov else v[0]
        w[0] -= <real> call.number[CNN_RATE] * step


# ── Adam ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     w ← (1 − η λ) w, or g ← g + λ w        m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
#     w ← w − η / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)

cdef void adam_update(cnn_update *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are blocks of values; arrays: y = w, x = g, dy = m, p = v."""
    cdef int64_t i
    cdef cnn_offsets at
    cdef real *w
    cdef real *m
    cdef real *v
    cdef real g
    cdef const double *n = call.number
    for i in range(begin * CNN_UPDATE_BLOCK, min(end * CNN_UPDATE_BLOCK, call.arrays.size)):
        cnn_row(&call.arrays, i, call.arrays.size, &at)
        w, m, v = <real *> call.arrays.y.data + at.y, <real *> call.arrays.dy.data + at.dy, <real *> call.arrays.p.data + at.p
        w[0] *= <real> n[CNN_SHRINK]
        g = (<const real *> call.arrays.x.data)[at.x] + <real> n[CNN_DECAY] * w[0]
        m[0] = <real> n[CNN_BETA_1] * m[0] + <real> n[CNN_REST_1] * g
        v[0] = <real> n[CNN_BETA_2] * v[0] + <real> n[CNN_REST_2] * g * g
        w[0] -= <real> n[CNN_RATE] * m[0] / (<real> sqrt(v[0]) * <real> n[CNN_SCALE] + <real> n[CNN_EPS])


cdef int SGD = kernel_number("sgd_update"), ADAM = kernel_number("adam_update")


cdef int run_update(cnn_update *call, cnn_task task, double work) except -1:
    """``work``: elementary operations per value."""
    return run(task, call, (call.arrays.size + CNN_UPDATE_BLOCK - 1) // CNN_UPDATE_BLOCK, 1, 0, work * call.arrays.size)


def sgd(w, g, velocity, double rate, double momentum, double decay, bint nesterov):
    """Change w, and ``velocity`` where it is not None, by the gradient g."""
    cdef Tensor W = tensor(w, True), G = tensor(g), V = None if velocity is None else tensor(velocity, True)
    cdef cnn_update call
    cdef cnn_task task = kernel(SGD, W.precision)
    merge_axes(&call.arrays, G, V, None, W)
    call.number[CNN_RATE], call.number[CNN_DECAY], call.number[CNN_MOMENTUM] = rate, decay, 0 if velocity is None else momentum
    call.nesterov = nesterov
    if task == NULL:
        task = <cnn_task> sgd_update[float] if W.precision == CNN_FLOAT32 else <cnn_task> sgd_update[double]
    run_update(&call, task, 2)


def adam(w, g, mean, square, double rate, double first, double second, double scale, double eps, double decay, double shrink):
    """Change w, mean and square by the gradient g; rate and scale hold the corrections of the step, shrink multiplies w."""
    cdef Tensor W = tensor(w, True), G = tensor(g), M = tensor(mean, True), V = tensor(square, True)
    cdef cnn_update call
    cdef cnn_task task = kernel(ADAM, W.precision)
    merge_axes(&call.arrays, G, M, V, W)
    call.number[CNN_RATE], call.number[CNN_DECAY], call.number[CNN_SHRINK] = rate, decay, shrink
    call.number[CNN_BETA_1], call.number[CNN_REST_1] = first, 1 - first
    call.number[CNN_BETA_2], call.number[CNN_REST_2] = second, 1 - second
    call.number[CNN_SCALE], call.number[CNN_EPS] = scale, eps
    call.nesterov = False
    if task == NULL:
        task = <cnn_task> adam_update[float] if W.precision == CNN_FLOAT32 else <cnn_task> adam_update[double]
    run_update(&call, task, 4)
