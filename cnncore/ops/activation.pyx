"""Activations: y = f(x), one value at a time; a pair of functions f and f′ per activation, and one loop for all.

Each section gives the formula, its derivative, f and f′ (named ..._slope), in this order. ``setting`` holds the numbers of
the activation. A C kernel of the same name (kernels/activation.h) may take the loop's place.
"""

from libc.stdint cimport int64_t

from cnncore.ops.dispatch cimport CNN_FLOAT32, Tensor, cnn_elementwise, cnn_task, kernel, real, run
from cnncore.ops.dispatch import kernel_number


cdef class Activation:
    """f and f′ in both precisions, as task functions, and the kernels that override them."""
    cdef void *value[2]
    cdef void *slope[2]
    cdef readonly str name
    cdef int forward_kernel, backward_kernel

    def __repr__(self):
        return f"<activation {self.name}>"


cdef Activation activation(name, void *value_f32, void *value_f64, void *slope_f32, void *slope_f64):
    cdef Activation a = Activation()
    a.name = name
    a.value[0], a.value[1] = value_f32, value_f64
    a.slope[0], a.slope[1] = slope_f32, slope_f64
    a.forward_kernel = kernel_number(f"{name}_forward")
    a.backward_kernel = kernel_number(f"{name}_backward")
    return a


# ── ReLU ── Nair & Hinton 2010 ─────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = max(0, x)
#     ∂y/∂x = 1 for x > 0, else 0            relu(NaN) = NaN

cdef real relu(real x, const double *setting) noexcept nogil:
    return 0 if x <= 0 else x

cdef real relu_slope(real x, const double *setting) noexcept nogil:
    return 1 if x > 0 else 0

RELU = activation("relu", <void *> relu[float], <void *> relu[double], <void *> relu_slope[float], <void *> relu_slope[double])


# ── The loop ───────────────────────────────────────────────────────────────────────────────────────────────────────────

cdef struct Elementwise:
    cnn_elementwise call
    void *function[2]


cdef void elementwise_forward(Elementwise *e, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    cdef const real *x = <const real *> e.call.x
    cdef real *y = <real *> e.call.y
    cdef void *f = e.function[0 if real is float else 1]
    cdef int64_t i
    for i in range(begin, end):
        y[i] = (<real (*)(real, const double *) noexcept nogil> f)(x[i], e.call.setting)


cdef void elementwise_backward(Elementwise *e, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    cdef const real *x = <const real *> e.call.x
    cdef const real *dy = <const real *> e.call.dy
    cdef real *dx = <real *> e.call.y
    cdef void *slope = e.function[0 if real is float else 1]
    cdef int64_t i
    for i in range(begin, end):
        dx[i] = dy[i] * (<real (*)(real, const double *) noexcept nogil> slope)(x[i], e.call.setting)


def forward(Activation a, tuple settings, x, y):
    """Write y = f(x); both contiguous."""
    cdef Tensor X = Tensor(x), Y = Tensor(y, True)
    cdef Elementwise e
    cdef int i
    e.call.x, e.call.y = X.view.data, Y.view.data
    e.call.size = X.buffer.len // X.buffer.itemsize
    e.function[0], e.function[1] = a.value[0], a.value[1]
    for i in range(len(settings)):
        e.call.setting[i] = settings[i]
    cdef cnn_task task = kernel(a.forward_kernel, X.precision)
    if task == NULL:
        task = <cnn_task> elementwise_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> elementwise_forward[double]
    run(task, &e, e.call.size, 4096, 0, e.call.size)


def backward(Activation a, tuple settings, x, dy, dx):
    """Write dx = dy f′(x); all contiguous."""
    cdef Tensor X = Tensor(x), DY = Tensor(dy), DX = Tensor(dx, True)
    cdef Elementwise e
    cdef int i
    e.call.x, e.call.dy, e.call.y = X.view.data, DY.view.data, DX.view.data
    e.call.size = X.buffer.len // X.buffer.itemsize
    e.function[0], e.function[1] = a.slope[0], a.slope[1]
    for i in range(len(settings)):
        e.call.setting[i] = settings[i]
    cdef cnn_task task = kernel(a.backward_kernel, X.precision)
    if task == NULL:
        task = <cnn_task> elementwise_backward[float] if X.precision == CNN_FLOAT32 else <cnn_task> elementwise_backward[double]
    run(task, &e, e.call.size, 4096, 0, e.call.size)
