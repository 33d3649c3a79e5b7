"""Convolutions of 8-bit numbers: exact sums of integers, rounded to 8 bits again on their way to y.

x, a real number, stands on a grid of 256 steps, x ≈ (q − z) s with q = 0 … 255; w is an integer, −128 … 127, in units of one step for
each output channel. The kernels (kernels/bytes.h) compute the same integers, and so the same bits.
"""

from libc.math cimport rint
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from cnncore.runtime.dispatch cimport (
    CNN_FLOAT32, PANELS, PIECE, Tensor, cnn_task, cnn_tensor, give_block, real, run, stop_after, stop_requested, take_block,
    tensor, threads_per_call,
)
from cnncore.runtime.dispatch import current_target

cdef extern from "operators/quantization/kernels/byte_calls.h" nogil:
    ctypedef struct cnn_byte_conv:
        cnn_tensor x
        cnn_tensor y
        int64_t groups
        int64_t taps[3]
        int64_t stride[3]
        int64_t dilation[3]
        int64_t low[3]
        int64_t outputs, inputs
        const int8_t *w
        const void *panels
        const int32_t *bias
        const void *factor
        int64_t zero, on_grid, y_bytes, y_zero
        double y_scale
        int64_t positions, blocks, ranges, word_terms, words, row
        int (*stop)() noexcept

    ctypedef struct cnn_byte_values:
        cnn_tensor x
        cnn_tensor y
        double scale
        int64_t zero
        int (*stop)() noexcept

    ctypedef struct cnn_byte_kernels:
        int64_t lanes
        cnn_task conv, depthwise, quantize
        int (*has_byte_dots)() noexcept

    const cnn_byte_kernels *cnn_byte_kernels_of(const char *target)


cdef int stopped() noexcept nogil:
    return stop_requested()


cdef const cnn_byte_kernels *kernels(int precision) except? NULL:
    """The kernels of the current target; NULL to run the reference implementations."""
    name = current_target().encode()
    return cnn_byte_kernels_of(name) if precision == CNN_FLOAT32 else NULL


# ── To 8 bits ─────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     q = clip(round(x / s) + z, 0, 255)                     halves to even; NaN, which no integer stands for, counts as 0

cdef inline uint8_t byte_of(real x, real s, int64_t z) noexcept nogil:
    cdef real steps = x / s if x == x else 0
    cdef real low = -z, high = 255 - z
    return <uint8_t> (<int64_t> rint(low if steps < low else high if steps > high else steps) + z)


cdef void to_bytes(cnn_byte_values *c, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are rows of x along W."""
    cdef int64_t i, j, n, d, h, w, of_x, of_y, left = PIECE
    cdef const int64_t *S = c.x.stride
    cdef const int64_t *T = c.y.stride
    for i in range(begin, end):
        h, d, n = i % c.x.shape[3], i // c.x.shape[3] % c.x.shape[2], i // (c.x.shape[3] * c.x.shape[2])
        of_x, of_y = n * S[0] + d * S[2] + h * S[3], n * T[0] + d * T[2] + h * T[3]
        for w in range(c.x.shape[4]):
            for j in range(c.x.shape[1]):
                (<uint8_t *> c.y.data)[of_y + w * T[4] + j * T[1]] = byte_of(
                    (<const real *> c.x.data)[of_x + w * S[4] + j * S[1]], <real> c.scale, c.zero
                )
        if stop_after(&left, c.x.shape[4] * c.x.shape[1]):
            return


# ── Convolution ───────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     a[k,o] = b[k] + Σ_c Σ_t w[k,c,t] (q[c, s o + d t − p] − z)        integers; outside the image q is z
#     y[k,o] = (clip(round(m[k] a[k,o]) + z', 0, 255) − z') s'          m = s · s_w / s'; halves to even
#     y[k,o] = m[k] a[k,o]                                              where y is on no grid, m = s · s_w
#
# b here is b[k] − z Σ_c Σ_t w[k,c,t], so that z need not be subtracted from every q.

cdef inline int64_t sum_of(const cnn_byte_conv *c, int64_t n, int64_t k, const int64_t *o) noexcept nogil:
    cdef int64_t t0, t1, t2, i, at, d, h, w, a = c.bias[k], group = k // c.outputs
    cdef bint inside
    cdef const int8_t *weight = c.w + k * c.taps[0] * c.taps[1] * c.taps[2] * c.inputs
    cdef const uint8_t *x = <const uint8_t *> c.x.data + n * c.x.stride[0] + group * c.inputs * c.x.stride[1]
    for t0 in range(c.taps[0]):
        for t1 in range(c.taps[1]):
            for t2 in range(c.taps[2]):
                d = o[0] * c.stride[0] + t0 * c.dilation[0] - c.low[0]
                h = o[1] * c.stride[1] + t1 * c.dilation[1] - c.low[1]
                w = o[2] * c.stride[2] + t2 * c.dilation[2] - c.low[2]
                at = d * c.x.stride[2] + h * c.x.stride[3] + w * c.x.stride[4]
                inside = 0 <= d < c.x.shape[2] and 0 <= h < c.x.shape[3] and 0 <= w < c.x.shape[4]
                for i in range(c.inputs):
                    a += weight[i] * (x[at + i * c.x.stride[1]] if inside else c.zero)
                weight += c.inputs
    return a


cdef void convolve(cnn_byte_conv *c, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are positions of y, of one image after the other."""
    cdef int64_t task, n, k, at, left = PIECE
    cdef int64_t o[3]
    cdef real v, low = -c.y_zero, high = 255 - c.y_zero
    for task in range(begin, end):
        n, at = task // c.positions, task % c.positions
        o[0], o[1], o[2] = at // (c.y.shape[3] * c.y.shape[4]), at // c.y.shape[4] % c.y.shape[3], at % c.y.shape[4]
        for k in range(c.groups * c.outputs):
            v = (<const real *> c.factor)[k] * <real> sum_of(c, n, k, o)
            if c.on_grid:
                v = <real> rint(low if v < low else high if v > high else v) + 0  # −0 becomes 0, which q − z' is
            at = n * c.y.stride[0] + k * c.y.stride[1] + o[0] * c.y.stride[2] + o[1] * c.y.stride[3] + o[2] * c.y.stride[4]
            if c.y_bytes:
                (<uint8_t *> c.y.data)[at] = <uint8_t> (<int64_t> v + c.y_zero)
            else:
                (<real *> c.y.data)[at] = v * <real> c.y_scale if c.on_grid else v
            if stop_after(&left, c.words * c.word_terms):
                return


# ── Calls ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

cdef enum:
    TILE_BYTES = 65536      # of the windows of a task, which every panel passes over
    MOST_POSITIONS = 96     # of a task
    SPEED = 16              # multiply-adds in the time of an elementary operation


def vectors(dtype):
    """(outputs of a panel, terms of a word) that the kernels of the current target take; None where there are none."""
    cdef const cnn_byte_kernels *table = kernels(CNN_FLOAT32) if dtype == "float32" else NULL
    if table == NULL:
        return None
    return 2 * table.lanes, 4 if table.has_byte_dots() else 2


cdef int quantize_into(cnn_byte_values *c, int precision) except -1:
    cdef const cnn_byte_kernels *table = kernels(precision)
    cdef cnn_task task
    cdef int64_t rows = c.x.shape[0] * c.x.shape[2] * c.x.shape[3]
    if table != NULL:
        task = table.quantize
    else:
        task = <cnn_task> to_bytes[float] if precision == CNN_FLOAT32 else <cnn_task> to_bytes[double]
    return run(task, c, rows, 8, 0, <double> rows * c.x.shape[1] * c.x.shape[4])


cdef bint is_channels_last(cnn_tensor *x) noexcept:
    return x.stride[1] == 1 or x.shape[1] == 1


def forward(x, y, windows, weights, grid, y_grid):
    """Write y, real numbers or, of a plan, bytes; x is either, too.

    ``windows``: (taps, stride, dilation, low), each of three axes; ``weights``: a convolution.Weights; grids: (scale, zero point), and of
    y None.
    """
    cdef Tensor X = tensor(x), Y = tensor(y, True), W = tensor(weights.w), B = tensor(weights.bias)
    cdef Tensor F = tensor(weights.factor), P
    cdef cnn_byte_conv c
    cdef cnn_byte_values q
    cdef char *block = NULL
    cdef int64_t size, axis
    cdef int precision = F.precision
    c.x, c.y, c.y_bytes = X.view, Y.view, Y.precision < 0
    c.w, c.bias, c.factor = <const int8_t *> W.view.data, <const int32_t *> B.view.data, F.view.data
    c.groups, c.outputs, c.inputs = W.view.shape[0], W.view.shape[1], W.view.shape[4]
    for axis in range(3):
        c.taps[axis], c.stride[axis], c.dilation[axis], c.low[axis] = (part[axis] for part in windows)
    c.zero, c.on_grid = grid[1], y_grid is not None
    c.y_scale, c.y_zero = y_grid or (1.0, 0)
    c.panels, c.stop, q.stop = NULL, stopped, stopped
    if weights.panels is not None:
        P = tensor(weights.panels)
        c.panels, c.word_terms = P.view.data, weights.word_terms
    try:
        if X.precision >= 0 or not is_channels_last(&c.x):
            size = max(1, X.view.shape[0] * X.view.shape[1] * X.view.shape[2] * X.view.shape[3] * X.view.shape[4])
            block = <char *> take_block(PANELS, size)
            if block == NULL:
                raise MemoryError(f"no memory for {size} bytes")
            channels_last(&c.x, block)
            q.x, q.y, q.scale, q.zero = X.view, c.x, grid[0], grid[1]
            quantize_into(&q, X.precision)
        multiply(&c, precision)
    finally:
        if block != NULL:
            give_block(PANELS, block)


cdef void channels_last(cnn_tensor *t, void *data) noexcept:
    """Make ``t`` the tensor of its shape at ``data``, channels innermost."""
    t.data = data
    t.stride[1] = 1
    t.stride[4] = t.shape[1]
    t.stride[3] = t.stride[4] * t.shape[4]
    t.stride[2] = t.stride[3] * t.shape[3]
    t.stride[0] = t.stride[2] * t.shape[2]


cdef int multiply(cnn_byte_conv *c, int precision) except -1:
    """Run the kernel whose panels there are, or else the reference implementation."""
    cdef int64_t taps = c.taps[0] * c.taps[1] * c.taps[2], images = c.y.shape[0], units, most, tasks
    c.positions = c.y.shape[2] * c.y.shape[3] * c.y.shape[4]
    cdef double cost = <double> images * c.positions * c.groups * c.outputs * c.inputs * taps / SPEED
    cdef const cnn_byte_kernels *table
    if images * c.positions == 0:
        return 0
    if c.panels == NULL:
        c.word_terms, c.words = 1, taps * c.inputs
        if precision == CNN_FLOAT32:
            return run(<cnn_task> convolve[float], c, images * c.positions, 1, 0, cost * SPEED)
        return run(<cnn_task> convolve[double], c, images * c.positions, 1, 0, cost * SPEED)
    table = kernels(precision)
    if c.word_terms == 1:       # one channel per group
        return run(
            table.depthwise, c, images * c.y.shape[2] * c.y.shape[3], 1,
            (c.groups + 63) // 64 * 64 + taps * sizeof(void *), cost * 4,
        )
    c.words = (taps * c.inputs + c.word_terms - 1) // c.word_terms
    c.row = (c.words + 15) // 16 * 16 + 4       # rows 4096 bytes apart would share a set of the cache
    most = min(max(TILE_BYTES // (4 * c.row), 12), MOST_POSITIONS)
    c.blocks = (c.positions + most - 1) // most
    units = (c.outputs + 2 * table.lanes - 1) // (2 * table.lanes)
    tasks = images * c.blocks * c.groups
    c.ranges = min(units, max(1, (2 * threads_per_call() + tasks - 1) // max(tasks, 1))) if threads_per_call() > 1 else 1
    most = (c.positions + c.blocks - 1) // c.blocks
    return run(table.conv, c, tasks * c.ranges, 1, most * (4 * c.row + sizeof(void *)), cost)
