"""Pooling: what a strategy does to one window, forward and backward, and the loop over windows that all of them share.

A strategy is a pair of functions on the cells of one window, in row-major order, padding left out:

    reduce(x, window) → y                 the window's value
    spread(x, window, y, dy, dx)          dx[i] = dy · ∂y/∂x[i], for every cell

They carry the mathematics and never meet a stride, a rank or a layout. The loop gathers the cells of each window, calls the
strategy, and puts the result back; gradients of overlapping windows add up in the order of the windows. A C kernel of the
same name (kernels/pool.h) may take the loop's place.
"""

from libc.stdint cimport int64_t

from cnncore.ops.dispatch cimport Tensor, CNN_FLOAT32, cnn_axis, cnn_pool, cnn_task, cnn_tensor, real, run
from cnncore.ops.dispatch import kernel_number


cdef struct Window:
    int64_t n                   # cells inside the image
    int64_t size                # cells inside the image and its padding
    const int64_t *tap          # [n] position of each cell within the whole kernel
    const double *setting       # numbers of the strategy
    int64_t selected            # written by reduce: the cell that y came from, where there is one


cdef struct Functions:          # by precision: CNN_FLOAT32, CNN_FLOAT64
    void *reduce[2]
    void *spread[2]


cdef class Strategy:
    """A pooling strategy: reduce and spread in both precisions, and the kernels that override the loop over windows."""
    cdef Functions functions
    cdef readonly str name
    cdef int forward_kernel, backward_kernel

    def __repr__(self):
        return f"<strategy {self.name}>"


cdef Strategy strategy(name, void *reduce_f32, void *reduce_f64, void *spread_f32, void *spread_f64):
    cdef Strategy s = Strategy()
    s.name = name
    s.functions = Functions([reduce_f32, reduce_f64], [spread_f32, spread_f64])
    s.forward_kernel = kernel_number(f"{name}_pool_forward")
    s.backward_kernel = kernel_number(f"{name}_pool_backward")
    return s


# ── Max pooling ── winner takes all ────────────────────────────────────────────────────────────────────────────────────
#
#     y      = max xᵢ
#     ∂y/∂xᵢ = 1 for the first i with xᵢ = y, else 0        NaN wins: the first NaN is the maximum

cdef real max_reduce(const real *x, Window *window) noexcept nogil:
    cdef int64_t i, best = 0
    for i in range(1, window.n):
        if x[i] > x[best] or (x[i] != x[i] and x[best] == x[best]):
            best = i
    window.selected = best
    return x[best]

cdef void max_spread(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef int64_t i
    max_reduce(x, window)
    for i in range(window.n):
        dx[i] = dy if i == window.selected else 0

MAX = strategy("max", <void *> max_reduce[float], <void *> max_reduce[double], <void *> max_spread[float], <void *> max_spread[double])


# ── The loop over windows ──────────────────────────────────────────────────────────────────────────────────────────────

cdef inline int64_t window_of(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow, const cnn_tensor *image,
                              int64_t *offset, int64_t *tap) noexcept nogil:
    """Offsets (in a plane of ``image``) and taps of the cells of window (od, oh, ow); returns how many there are."""
    cdef const cnn_axis *D = &call.axis[0]
    cdef const cnn_axis *H = &call.axis[1]
    cdef const cnn_axis *W = &call.axis[2]
    cdef int64_t n = 0, d, h, w
    for d in range(D.count[od]):
        for h in range(H.count[oh]):
            for w in range(W.count[ow]):
                offset[n] = ((D.first[od] + d * D.step) * image.stride[2] + (H.first[oh] + h * H.step) * image.stride[3]
                             + (W.first[ow] + w * W.step) * image.stride[4])
                tap[n] = ((D.tap[od] + d) * H.kernel + H.tap[oh] + h) * W.kernel + W.tap[ow] + w
                n += 1
    return n


cdef inline int64_t window_size(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow) noexcept nogil:
    return call.axis[0].extent[od] * call.axis[1].extent[oh] * call.axis[2].extent[ow]


cdef inline int64_t plane_offset(const cnn_tensor *t, int64_t plane) noexcept nogil:
    """Where plane number ``plane`` of N × C begins."""
    return plane // t.shape[1] * t.stride[0] + plane % t.shape[1] * t.stride[1]


cdef void pool_forward(cnn_pool *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c): gather the cells of each window, reduce, store y and where it came from."""
    cdef int64_t most = call.axis[0].kernel * call.axis[1].kernel * call.axis[2].kernel
    cdef int64_t *offset = <int64_t *> scratch
    cdef int64_t *tap = offset + most
    cdef real *x = <real *> (tap + most)
    cdef void *reduce = (<const Functions *> call.strategy).reduce[0 if real is float else 1]
    cdef int64_t plane, od, oh, ow, i
    cdef const real *image
    cdef real *y
    cdef int64_t *index
    cdef Window window
    window.tap, window.setting = tap, call.setting
    for plane in range(begin, end):
        image = <const real *> call.x.data + plane_offset(&call.x, plane)
        y = <real *> call.y.data + plane_offset(&call.y, plane)
        index = <int64_t *> call.indices.data
        if index != NULL:
            index += plane_offset(&call.indices, plane)
        for od in range(call.axis[0].output):
            for oh in range(call.axis[1].output):
                for ow in range(call.axis[2].output):
                    window.n = window_of(call, od, oh, ow, &call.x, offset, tap)
                    window.size = window_size(call, od, oh, ow)
                    for i in range(window.n):
                        x[i] = image[offset[i]]
                    y[od * call.y.stride[2] + oh * call.y.stride[3] + ow * call.y.stride[4]] = (
                        (<real (*)(const real *, Window *) noexcept nogil> reduce)(x, &window))
                    if index != NULL:
                        index[od * call.indices.stride[2] + oh * call.indices.stride[3] + ow * call.indices.stride[4]] = (
                            position_of(call, od, oh, ow, window.selected))


cdef inline int64_t position_of(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow, int64_t cell) noexcept nogil:
    """Row-major position in the plane of cell number ``cell`` of a window."""
    cdef const cnn_axis *D = &call.axis[0]
    cdef const cnn_axis *H = &call.axis[1]
    cdef const cnn_axis *W = &call.axis[2]
    cdef int64_t w = W.first[ow] + cell % W.count[ow] * W.step
    cdef int64_t h = H.first[oh] + cell // W.count[ow] % H.count[oh] * H.step
    cdef int64_t d = D.first[od] + cell // W.count[ow] // H.count[oh] * D.step
    return (d * H.input + h) * W.input + w


cdef void pool_backward(cnn_pool *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes: gather as in forward, spread dy over the cells, add to dx (windows may overlap)."""
    cdef int64_t most = call.axis[0].kernel * call.axis[1].kernel * call.axis[2].kernel
    cdef int64_t *offset = <int64_t *> scratch
    cdef int64_t *tap = offset + most
    cdef int64_t *target = tap + most
    cdef real *x = <real *> (target + most)
    cdef real *part = x + most
    cdef void *spread = (<const Functions *> call.strategy).spread[0 if real is float else 1]
    cdef int64_t plane, od, oh, ow, i, d, h, w, at
    cdef const real *image
    cdef const real *y
    cdef const real *dy
    cdef real *dx
    cdef Window window
    window.tap, window.setting = tap, call.setting
    for plane in range(begin, end):
        image = <const real *> call.x.data + plane_offset(&call.x, plane)
        y = <const real *> call.y.data + plane_offset(&call.y, plane)
        dy = <const real *> call.dy.data + plane_offset(&call.dy, plane)
        dx = <real *> call.dx.data + plane_offset(&call.dx, plane)
        for d in range(call.dx.shape[2]):
            for h in range(call.dx.shape[3]):
                for w in range(call.dx.shape[4]):
                    dx[d * call.dx.stride[2] + h * call.dx.stride[3] + w * call.dx.stride[4]] = 0
        for od in range(call.axis[0].output):
            for oh in range(call.axis[1].output):
                for ow in range(call.axis[2].output):
                    window_of(call, od, oh, ow, &call.dx, target, tap)
                    window.n = window_of(call, od, oh, ow, &call.x, offset, tap)
                    window.size = window_size(call, od, oh, ow)
                    for i in range(window.n):
                        x[i] = image[offset[i]]
                    (<void (*)(const real *, Window *, real, real, real *) noexcept nogil> spread)(
                        x, &window,
                        y[od * call.y.stride[2] + oh * call.y.stride[3] + ow * call.y.stride[4]],
                        dy[od * call.dy.stride[2] + oh * call.dy.stride[3] + ow * call.dy.stride[4]],
                        part)
                    for i in range(window.n):
                        dx[target[i]] += part[i]


# ── Calls from Python ──────────────────────────────────────────────────────────────────────────────────────────────────

cdef class Windows:
    """The windows of a call: tables per axis (geometry.axes) made ready for C, once for forward and backward."""
    cdef cnn_axis axis[3]
    cdef list tables

    def __init__(self, tables, input_, output, kernel_, step):
        cdef int i
        cdef Tensor table
        self.tables = [Tensor(t) for t in tables]       # keeps their memory
        for i in range(3):
            table = self.tables[i]
            self.axis[i].first = <const int64_t *> table.view.data
            self.axis[i].count = self.axis[i].first + table.view.stride[0]
            self.axis[i].tap = self.axis[i].count + table.view.stride[0]
            self.axis[i].extent = self.axis[i].tap + table.view.stride[0]
            self.axis[i].input, self.axis[i].output = input_[i], output[i]
            self.axis[i].kernel, self.axis[i].step = kernel_[i], step[i]


cdef void describe(cnn_pool *call, Strategy strategy, Windows windows, tuple settings):
    cdef int i
    for i in range(3):
        call.axis[i] = windows.axis[i]
    for i in range(len(settings)):
        call.setting[i] = settings[i]
    call.strategy = &strategy.functions
    call.indices.data = NULL


cdef double work(const cnn_pool *call, const cnn_tensor *y):
    """Elementary operations of a call: cells of all windows."""
    cdef double cells = 1
    cdef int i
    for i in range(5):
        cells *= y.shape[i]
    return cells * call.axis[0].kernel * call.axis[1].kernel * call.axis[2].kernel


cdef int64_t gather_bytes(const cnn_pool *call):
    """Scratch of the definitions: offsets, taps, targets, cells and their gradients of one window."""
    return call.axis[0].kernel * call.axis[1].kernel * call.axis[2].kernel * 5 * 8


def forward(Strategy strategy, Windows windows, tuple settings, x, y, indices=None):
    """Write y (and the positions it came from) from x."""
    cdef Tensor X = Tensor(x), Y = Tensor(y, True), I
    cdef cnn_pool call
    describe(&call, strategy, windows, settings)
    call.x, call.y = X.view, Y.view
    if indices is not None:
        I = Tensor(indices, True)
        call.indices = I.view
    cdef cnn_task task = <cnn_task> pool_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> pool_forward[double]
    run(task, &call, X.view.shape[0] * X.view.shape[1], 1, gather_bytes(&call), work(&call, &call.y))


def backward(Strategy strategy, Windows windows, tuple settings, x, y, dy, dx):
    """Write dx from x, y and dy."""
    cdef Tensor X = Tensor(x), Y = Tensor(y), DY = Tensor(dy), DX = Tensor(dx, True)
    cdef cnn_pool call
    describe(&call, strategy, windows, settings)
    call.x, call.y, call.dy, call.dx = X.view, Y.view, DY.view, DX.view
    cdef cnn_task task = <cnn_task> pool_backward[float] if X.precision == CNN_FLOAT32 else <cnn_task> pool_backward[double]
    run(task, &call, X.view.shape[0] * X.view.shape[1], 1, gather_bytes(&call), work(&call, &call.y))
