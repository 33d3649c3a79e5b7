"""Convolution, its gradients, and by them transposed convolution and linear layers.

Three sums carry the mathematics: one element of y, of dx and of dw (and of db). Every rank is (D, H, W), every layout is
strides, groups, stride, dilation and padding are part of the formula. They are the reference: they add up in float64, whatever
the arrays hold, and round once.

A transposed convolution is the same sums in another order: what it computes forward is a convolution's dx.
"""

from libc.stdint cimport int64_t

from cnncore.ops.dispatch cimport CNN_FLOAT32, Tensor, cnn_conv, cnn_task, cnn_tensor, real, run


# ── Convolution ── LeCun et al. 1989, doi:10.1162/neco.1989.1.4.541 ───────────────────────────────────────────────────
#
#     y[n,k,o]  = b[k] + Σ_c Σ_t  w[k,c,t] · x[n,c,q]         q = s·o + d·t − lo, left out where q lies outside the image
#     dx[n,c,q] = Σ_k Σ_t  w[k,c,t] · dy[n,k,o]               o = (q + lo − d·t) / s, left out where that is no output
#     dw[k,c,t] = Σ_n Σ_o  dy[n,k,o] · x[n,c,s·o + d·t − lo]
#     db[k]     = Σ_n Σ_o  dy[n,k,o]
#
# With G groups the K/G outputs of a group see the C/G inputs of the same group; w is (K, C/G, kd, kh, kw).

cdef double y_element(const cnn_conv *v, const real *x, const real *w,
                      int64_t n, int64_t k, int64_t od, int64_t oh, int64_t ow) noexcept nogil:
    cdef double total = 0 if v.b.data == NULL else (<const real *> v.b.data)[k * v.b.stride[0]]
    cdef int64_t first = k // (v.y.shape[1] // v.groups) * v.w.shape[1]     # channel of the group
    cdef int64_t c, kd, kh, kw, d, h, q
    for kd in range(v.w.shape[2]):
        for kh in range(v.w.shape[3]):
            for kw in range(v.w.shape[4]):
                d = v.stride[0] * od + v.dilation[0] * kd - v.low[0]
                h = v.stride[1] * oh + v.dilation[1] * kh - v.low[1]
                q = v.stride[2] * ow + v.dilation[2] * kw - v.low[2]
                if inside(&v.x, d, h, q):
                    for c in range(v.w.shape[1]):
                        total += <double> w[at(&v.w, k, c, kd, kh, kw)] * x[at(&v.x, n, first + c, d, h, q)]
    return total

cdef double dx_element(const cnn_conv *v, const real *dy, const real *w,
                       int64_t n, int64_t c, int64_t d, int64_t h, int64_t q) noexcept nogil:
    cdef double total = 0 if v.b.data == NULL else (<const real *> v.b.data)[c * v.b.stride[0]]
    cdef int64_t outputs = v.y.shape[1] // v.groups
    cdef int64_t first = c // v.w.shape[1] * outputs                        # output channel of the group
    cdef int64_t k, kd, kh, kw, od, oh, ow
    for kd in range(v.w.shape[2]):
        for kh in range(v.w.shape[3]):
            for kw in range(v.w.shape[4]):
                od = d + v.low[0] - v.dilation[0] * kd
                oh = h + v.low[1] - v.dilation[1] * kh
                ow = q + v.low[2] - v.dilation[2] * kw
                if od % v.stride[0] or oh % v.stride[1] or ow % v.stride[2]:
                    continue
                od, oh, ow = od // v.stride[0], oh // v.stride[1], ow // v.stride[2]
                if inside(&v.y, od, oh, ow):
                    for k in range(first, first + outputs):
                        total += (<double> w[at(&v.w, k, c % v.w.shape[1], kd, kh, kw)]
                                  * dy[at(&v.y, n, k, od, oh, ow)])
    return total

cdef double dw_element(const cnn_conv *v, const real *x, const real *dy,
                       int64_t k, int64_t c, int64_t kd, int64_t kh, int64_t kw) noexcept nogil:
    cdef double total = 0
    cdef int64_t channel = k // (v.y.shape[1] // v.groups) * v.w.shape[1] + c
    cdef int64_t n, od, oh, ow, d, h, q
    for n in range(v.y.shape[0]):
        for od in range(v.y.shape[2]):
            for oh in range(v.y.shape[3]):
                for ow in range(v.y.shape[4]):
                    d = v.stride[0] * od + v.dilation[0] * kd - v.low[0]
                    h = v.stride[1] * oh + v.dilation[1] * kh - v.low[1]
                    q = v.stride[2] * ow + v.dilation[2] * kw - v.low[2]
                    if inside(&v.x, d, h, q):
                        total += <double> dy[at(&v.y, n, k, od, oh, ow)] * x[at(&v.x, n, channel, d, h, q)]
    return total

cdef double db_element(const cnn_conv *v, const real *dy, int64_t k) noexcept nogil:
    cdef double total = 0
    cdef int64_t n, od, oh, ow
    for n in range(v.y.shape[0]):
        for od in range(v.y.shape[2]):
            for oh in range(v.y.shape[3]):
                for ow in range(v.y.shape[4]):
                    total += dy[at(&v.y, n, k, od, oh, ow)]
    return total


# ── The loops over elements ────────────────────────────────────────────────────────────────────────────────────────────

cdef inline bint inside(const cnn_tensor *t, int64_t d, int64_t h, int64_t w) noexcept nogil:
    return 0 <= d < t.shape[2] and 0 <= h < t.shape[3] and 0 <= w < t.shape[4]


cdef inline int64_t at(const cnn_tensor *t, int64_t n, int64_t c, int64_t d, int64_t h, int64_t w) noexcept nogil:
    """Where an element lies in the tensor's memory."""
    return n * t.stride[0] + c * t.stride[1] + d * t.stride[2] + h * t.stride[3] + w * t.stride[4]


cdef inline void fill(const cnn_conv *v, const cnn_tensor *result, void *element, const real *first, const real *second,
                      int64_t begin, int64_t end) noexcept nogil:
    """Write ``element`` of every place of ``result``; tasks are its leading two axes."""
    cdef real *values = <real *> result.data
    cdef int64_t task, i, j, d, h, w
    for task in range(begin, end):
        i, j = task // result.shape[1], task % result.shape[1]
        for d in range(result.shape[2]):
            for h in range(result.shape[3]):
                for w in range(result.shape[4]):
                    values[at(result, i, j, d, h, w)] = <real> (
                        <double (*)(const cnn_conv *, const real *, const real *,
                                    int64_t, int64_t, int64_t, int64_t, int64_t) noexcept nogil> element)(
                                        v, first, second, i, j, d, h, w)


cdef void conv_forward(cnn_conv *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, k) of y."""
    fill(call, &call.y, <void *> y_element[real], <const real *> call.x.data, <const real *> call.w.data, begin, end)


cdef void conv_backward_input(cnn_conv *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c) of dx."""
    fill(call, &call.x, <void *> dx_element[real], <const real *> call.y.data, <const real *> call.w.data, begin, end)


cdef void conv_backward_weight(cnn_conv *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are kernels (k, c) of dw."""
    fill(call, &call.w, <void *> dw_element[real], <const real *> call.x.data, <const real *> call.y.data, begin, end)


cdef void conv_backward_bias(cnn_conv *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are output channels k."""
    cdef real *db = <real *> call.b.data
    cdef int64_t k
    for k in range(begin, end):
        db[k * call.b.stride[0]] = <real> db_element(call, <const real *> call.y.data, k)


# ── Calls from Python ──────────────────────────────────────────────────────────────────────────────────────────────────

cdef class Convolution:
    """Convolution(groups, stride, dilation, low): where the windows of a convolution lie, shared by its three primitives.

    Arrays are (N, C, *spatial) and (N, K, *output) in any layout, weights (K, C / groups, *kernel), biases (K); results are
    written into arrays of the caller. ``algorithm`` is "direct" or "definition".
    """
    cdef cnn_conv call
    cdef readonly str algorithm

    def __init__(self, groups, stride, dilation, low, algorithm="direct"):
        cdef int axis
        self.call.groups = groups
        self.algorithm = algorithm
        for axis in range(3):
            self.call.stride[axis] = stride[axis]
            self.call.dilation[axis] = dilation[axis]
            self.call.low[axis] = low[axis]

    def forward(self, x, w, b, y):
        """Write y from x, w and b; b may be None."""
        cdef Tensor X = Tensor(x), W = Tensor(w), B = None if b is None else Tensor(b), Y = Tensor(y, True)
        cdef cnn_conv call = self.described(X, Y, W, B)
        if X.precision == CNN_FLOAT32:
            self.run_definition(<cnn_task> conv_forward[float], &call, &call.y)
        else:
            self.run_definition(<cnn_task> conv_forward[double], &call, &call.y)

    def backward_input(self, dy, w, dx, b=None):
        """Write dx from dy and w; ``b``, one per channel of dx, is added where given: then this is a transposed convolution."""
        cdef Tensor DY = Tensor(dy), W = Tensor(w), B = None if b is None else Tensor(b), DX = Tensor(dx, True)
        cdef cnn_conv call = self.described(DX, DY, W, B)
        if DX.precision == CNN_FLOAT32:
            self.run_definition(<cnn_task> conv_backward_input[float], &call, &call.x)
        else:
            self.run_definition(<cnn_task> conv_backward_input[double], &call, &call.x)

    def backward_weight(self, x, dy, dw):
        """Write dw from x and dy."""
        cdef Tensor X = Tensor(x), DY = Tensor(dy), DW = Tensor(dw, True)
        cdef cnn_conv call = self.described(X, DY, DW, None)
        if X.precision == CNN_FLOAT32:
            self.run_definition(<cnn_task> conv_backward_weight[float], &call, &call.w)
        else:
            self.run_definition(<cnn_task> conv_backward_weight[double], &call, &call.w)

    cdef cnn_conv described(self, Tensor x, Tensor y, Tensor w, Tensor b):
        cdef cnn_conv call = self.call
        call.x, call.y, call.w = x.view, y.view, w.view
        if b is not None:
            call.b = b.view
        else:
            call.b.data = NULL
        return call

    cdef int run_definition(self, cnn_task task, cnn_conv *call, const cnn_tensor *result) except -1:
        return run(task, call, result.shape[0] * result.shape[1], 1, 0, work(call))


cdef double work(const cnn_conv *call):
    """Multiply-adds of a call."""
    cdef double total = <double> call.y.shape[0] * call.w.shape[0] * call.w.shape[1]
    cdef int axis
    for axis in range(2, 5):
        total *= call.y.shape[axis] * call.w.shape[axis]
    return total


def backward_bias(dy, db):
    """Write db: the sum of dy over images and pixels, for each of its channels."""
    cdef Tensor DY = Tensor(dy), DB = Tensor(db, True)
    cdef cnn_conv call
    call.y, call.b = DY.view, DB.view
    cdef cnn_task task = (
        <cnn_task> conv_backward_bias[float] if DY.precision == CNN_FLOAT32 else <cnn_task> conv_backward_bias[double])
    run(task, &call, DB.view.shape[0], 1, 0, <double> DY.buffer.len // DY.buffer.itemsize)
