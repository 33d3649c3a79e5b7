"""Convolution and its gradients, and in terms of these transposed convolution and linear layers.

Three sums contain the mathematics: one element of y, of dx and of dw (and of db). Every rank is (D, H, W), every layout
is expressed by strides; groups, stride, dilation and padding are part of the formula. They are the reference
implementation: they accumulate in float64, whatever the dtype of the arrays, and round once.

A transposed convolution consists of the same sums in another order: its forward pass is the dx of a convolution.
"""

import functools
import math

import numpy as np

from libc.math cimport INFINITY
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from cnncore.runtime.layout cimport dense as fills_memory
from cnncore.runtime.dispatch cimport (
    cnn_conv, cnn_copy, cnn_correlation, cnn_correlations, CNN_F25, CNN_F45, CNN_FLOAT32, cnn_largest, cnn_pack,
    cnn_task, cnn_tensor, CNN_WINOGRAD_AXES, cnn_winograd_axes, cnn_winograd_axis, cnn_winograd_inputs,
    cnn_winograd_matrices, cnn_winograd_points, cnn_winograd_start, cnn_winograd_tile, cnn_winograd_tile_of,
    cost_of_reading, give_block, kernel, lanes, PANELS, real, run, PackedWeights, take_block, Tensor, threads_per_call, PIECE,
    stop_after,
)
from cnncore.runtime.dispatch import kernel_number


# ── Convolution ── LeCun et al. 1989, doi:10.1162/neco.1989.1.4.541 ───────────────────────────────────────────────────
#
#     y[n,k,o]  = b[k] + Σ_c Σ_t  w[k,c,t] · x[n,c,q]         q = s·o + d·t − lo, x is 0 outside the image
#     dx[n,c,q] = Σ_k Σ_t  w[k,c,t] · dy[n,k,o]               o = (q + lo − d·t) / s, omitted if that is no output
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
                for c in range(v.w.shape[1]):
                    total += <double> w[at(&v.w, k, c, kd, kh, kw)] * (
                        x[at(&v.x, n, first + c, d, h, q)] if inside(&v.x, d, h, q) else 0)
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
    """Offset of an element in the tensor's memory."""
    return n * t.stride[0] + c * t.stride[1] + d * t.stride[2] + h * t.stride[3] + w * t.stride[4]


cdef inline double clamped(double y, double lower, double upper) noexcept nogil:
    """y clamped to the bounds of an epilogue; NaN stays NaN."""
    return lower if y <= lower else upper if y >= upper else y


cdef inline void fill(const cnn_conv *v, const cnn_tensor *result, void *element, const real *first, const real *second,
                      int64_t begin, int64_t end) noexcept nogil:
    """Write ``element`` at every position of ``result``; tasks are its leading two axes."""
    cdef real *values = <real *> result.data
    cdef double value
    cdef int64_t task, i, j, d, h, w, left = PIECE
    for task in range(begin, end):
        i, j = task // result.shape[1], task % result.shape[1]
        for d in range(result.shape[2]):
            for h in range(result.shape[3]):
                for w in range(result.shape[4]):
                    if stop_after(&left, 64):
                        return
                    value = (<double (*)(const cnn_conv *, const real *, const real *,
                                         int64_t, int64_t, int64_t, int64_t, int64_t) noexcept nogil> element)(
                                             v, first, second, i, j, d, h, w)
                    values[at(result, i, j, d, h, w)] = <real> clamped(value, v.lower, v.upper)


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


# ── Kernels ── how a call becomes correlations, panels and tiles (operators/convolution/kernels/conv.h) ───────────────────────────────────────

cdef int COPY = kernel_number("copy_layout")
cdef int CHANNEL_SUMS = kernel_number("conv_channel_sums")
cdef int FILL = kernel_number("conv_fill")
cdef int LARGEST = kernel_number("largest_values")

# A tile has about this many pixels: sixteen times the rows of the largest register tile. Its input and a panel then fit
# in the L2 cache.
cdef int64_t TILE_PIXELS = 224
# The gradient of the weights loads and stores its sums once per tile: larger tiles are faster.
cdef int64_t WEIGHT_PIXELS = 448
cdef int64_t TILE_BYTES = 256 * 1024
# Enough tasks for up to four threads to finish at about the same time, none smaller than this many multiply-adds; for more
# threads as many for each, of tiles that are smaller if there are too few units.
cdef int64_t TASKS = 16
cdef int64_t TASKS_PER_THREAD = 4
cdef double LEAST_TASK_WORK = 150_000.0
cdef int64_t LEAST_PIXELS = 56
cdef double TASK_WORK = 500_000.0
cdef int64_t SUM_BYTES = 1024 * 1024
# Multiply-adds that a kernel does in the time of one elementary operation elsewhere.
cdef double KERNEL_SPEED = 32.0
cdef double DEPTHWISE_SPEED = 4.0    # which uses each loaded value only once


cdef struct Precision:
    # float32 or float64 for the kernels of the current target.
    int number                  # CNN_FLOAT32 or CNN_FLOAT64
    int64_t lanes, itemsize     # values in a vector, bytes of a value


cdef Precision precision_of(int number) noexcept nogil:
    return Precision(number, lanes(number), 4 if number == CNN_FLOAT32 else 8)


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t cache_lines(int64_t size) noexcept nogil:
    return (size + 63) // 64 * 64


cdef int64_t greatest_common_divisor(int64_t a, int64_t b) noexcept nogil:
    while b:
        a, b = b, a % b
    return a


cdef bint merge_axes(cnn_tensor *x, cnn_tensor *y, int outer, int inner) noexcept nogil:
    """Merge two adjacent axes that are contiguous in both tensors; returns whether that was possible."""
    cdef int64_t extent = x.shape[outer]
    if extent == 1:
        return True
    if x.shape[inner] == 1:
        x.stride[inner], y.stride[inner] = x.stride[outer], y.stride[outer]
    elif (x.stride[outer] != x.shape[inner] * x.stride[inner]) or (y.stride[outer] != y.shape[inner] * y.stride[inner]):
        return False
    x.shape[inner] *= extent
    y.shape[inner] *= extent
    x.shape[outer], x.stride[outer], y.shape[outer], y.stride[outer] = 1, 0, 1, 0
    return True


cdef bint simplify(cnn_correlation *p, int64_t itemsize) noexcept nogil:
    """Simplify axes on which one tap is inside the image; returns whether all are, and then merges them if possible."""
    cdef int axis
    cdef bint pointwise = True
    if p.x.shape[1] == 1:
        p.x.stride[1] = 1
    if p.y.shape[1] == 1:
        p.y.stride[1] = 1
    for axis in range(3):
        if p.taps[axis] > 1:
            pointwise = False
            continue
        p.step[axis] = 1
        if p.first[axis] < 0 or p.first[axis] + (p.y.shape[2 + axis] - 1) * p.stride[axis] >= p.x.shape[2 + axis]:
            pointwise = False
            continue
        p.x.data = <char *> p.x.data + p.first[axis] * p.x.stride[2 + axis] * itemsize
        p.x.stride[2 + axis] *= p.stride[axis]
        p.x.shape[2 + axis] = p.y.shape[2 + axis]
        p.first[axis], p.stride[axis] = 0, 1
    if pointwise and merge_axes(&p.x, &p.y, 3, 4) and merge_axes(&p.x, &p.y, 2, 4):
        merge_axes(&p.x, &p.y, 0, 4)
    return pointwise


cdef inline bint is_pointwise(const cnn_correlation *p) noexcept nogil:
    """Whether every output of a simplified correlation depends only on the pixel at its own position."""
    cdef int axis
    for axis in range(3):
        if p.taps[axis] != 1 or p.first[axis] or p.stride[axis] != 1 or p.x.shape[2 + axis] != p.y.shape[2 + axis]:
            return False
    return True


cdef inline bint prefers_planes(const cnn_correlation *p, int64_t lane_count) noexcept nogil:
    """Whether a 1×1 correlation is faster with pixels along the vectors: if channels are not contiguous, or there are
    so few pixels that packing the weights would cost more.
    """
    cdef bint planes = p.x.stride[1] != 1 or p.y.stride[1] != 1
    if planes:
        return p.y.shape[4] >= lane_count or p.y.shape[2] * p.y.shape[3] == 1
    return p.y.shape[0] * p.y.shape[2] * p.y.shape[3] == 1 and p.y.shape[4] <= TILE_PIXELS


cdef int64_t gathered(const cnn_correlation *p, int axis, int64_t outputs) noexcept nogil:
    """Pixels gathered along an axis for ``outputs`` outputs: reach_of in operators/convolution/kernels/conv.h."""
    cdef int64_t dense = (outputs - 1) * p.stride[axis] + (p.taps[axis] - 1) * p.step[axis] + 1
    return min(dense, outputs * p.taps[axis])


cdef void choose_tile(cnn_correlation *p, int64_t pixels, int64_t channels, int64_t itemsize) noexcept nogil:
    """Images, rows and columns of a tile: among those with ``pixels`` outputs, the one that gathers the fewest pixels
    twice.
    """
    cdef int64_t H = p.y.shape[3], W = p.y.shape[4], depth = gathered(p, 0, 1)
    cdef int64_t cuts, rows, columns
    cdef double least = -1, cost
    # The number of input pixels per output pixel determines how many fit.
    cdef double bytes = (<double> channels * itemsize * depth * min(p.stride[1], p.taps[1]) * min(p.stride[2], p.taps[2]))
    if bytes * pixels > TILE_BYTES:
        pixels = max(28, <int64_t> (TILE_BYTES / bytes))
    for cuts in range(1, 9 if H > 1 else 2):
        columns = ceil_div(W, max(cuts, ceil_div(W, pixels)))
        rows = min(H, max(1, pixels // columns))
        rows = ceil_div(H, ceil_div(H, rows))
        cost = <double> gathered(p, 1, rows) * gathered(p, 2, columns) / (rows * columns)
        if least < 0 or cost < 0.95 * least:
            least, p.rows, p.columns = cost, rows, columns
    p.images = 1
    if p.rows == H and p.columns == W:
        p.images = max(1, min(p.y.shape[0], pixels // (H * W)))


cdef inline int64_t tiles(const cnn_correlation *p) noexcept nogil:
    return (ceil_div(p.y.shape[0], p.images) * p.y.shape[2] * ceil_div(p.y.shape[3], p.rows)
            * ceil_div(p.y.shape[4], p.columns))


cdef inline int64_t tile_bytes(const cnn_correlation *p, int64_t channels, int64_t itemsize) noexcept nogil:
    return cache_lines(p.images * gathered(p, 0, 1) * gathered(p, 1, p.rows) * gathered(p, 2, p.columns) * channels * itemsize)


cdef inline bint is_depthwise(int64_t groups, int64_t inputs, int64_t outputs, int64_t lane_count) noexcept nogil:
    """Whether vectors span the channels of many groups: if one group would leave most lanes empty."""
    return groups > 1 and (4 * outputs <= lane_count or (inputs == 1 and outputs < lane_count))


cdef inline int64_t wanted_tasks() noexcept nogil:
    return max(TASKS, TASKS_PER_THREAD * threads_per_call())


cdef void choose_tile_for_threads(cnn_correlation *p, int64_t pixels, int64_t channels, int64_t itemsize) noexcept nogil:
    """choose_tile, with fewer pixels where otherwise tiles and units together would be too few tasks for many threads."""
    cdef int64_t wanted = most_tasks(p, p.y.shape[0] * p.y.shape[2] * p.y.shape[3] * p.y.shape[4])
    choose_tile(p, pixels, channels, itemsize)
    while wanted > TASKS and pixels >= 2 * LEAST_PIXELS and tiles(p) * p.unit_count < wanted:
        pixels //= 2
        choose_tile(p, pixels, channels, itemsize)


cdef int64_t cut_tiles(cnn_correlation *p, Precision of) noexcept nogil:
    """Divide a correlation into tiles, units and tasks; returns the scratch memory that a task needs."""
    cdef int64_t inputs = p.x.shape[1] // p.groups, per_group = ceil_div(p.y.shape[1] // p.groups, 2 * of.lanes)
    p.unit_count = p.groups * per_group
    choose_tile_for_threads(
        p, TILE_PIXELS, p.x.shape[1] if p.groups == 1 else inputs * min(p.groups, ceil_div(64, inputs)), of.itemsize
    )
    share_units(p)
    if p.groups > 1:
        p.units = min(p.units, per_group * ceil_div(64, inputs))
    cdef int64_t groups = min(p.groups, ceil_div(p.units - 1, per_group) + 1)
    p.x_bytes = tile_bytes(p, groups * inputs, of.itemsize)
    return scratch_of_units(p, of)


cdef int64_t cut_planes(cnn_correlation *p, Precision of) noexcept nogil:
    """The same with pixels along the vectors: complete panels, as many as fit, about equally many in each tile."""
    cdef int64_t wide = 2 * of.lanes, inputs = p.x.shape[1] // p.groups, panels = ceil_div(p.y.shape[4], wide)
    cdef int64_t most = max(1, min(256, 2 * TILE_BYTES // (inputs * of.itemsize)) // wide)
    p.unit_count = p.groups * ceil_div(p.y.shape[1] // p.groups, wide)
    p.images, p.rows = 1, 1
    p.columns = min(p.y.shape[4], ceil_div(panels, ceil_div(panels, most)) * wide)
    share_units(p)
    p.x_bytes = cache_lines(ceil_div(p.columns, wide) * wide * inputs * of.itemsize)
    return scratch_of_units(p, of)


cdef int64_t most_tasks(const cnn_correlation *p, int64_t pixels) noexcept nogil:
    """Into how many tasks the computation of ``pixels`` outputs per channel may be divided."""
    cdef double weights = <double> p.taps[0] * p.taps[1] * p.taps[2] * (p.x.shape[1] // p.groups) * p.y.shape[1]
    cdef double work = weights * max(<double> pixels, cost_of_reading())    # with few pixels it waits for the weights
    return <int64_t> min(<double> wanted_tasks(), work / (TASK_WORK if wanted_tasks() == TASKS else LEAST_TASK_WORK))


cdef void share_units(cnn_correlation *p) noexcept nogil:
    """The number of units of a task: all of them, unless there are too few tiles for the threads."""
    cdef int64_t ranges = ceil_div(wanted_tasks(), tiles(p))
    ranges = max(1, min(ranges, min(p.unit_count, most_tasks(p, p.images * p.rows * p.columns))))
    p.units = ceil_div(p.unit_count, ranges)


cdef int64_t scratch_of_units(cnn_correlation *p, Precision of) noexcept nogil:
    """Tasks, and the scratch memory of one: what it gathers of x, its tile of y, the offsets of the taps."""
    p.y_bytes = cache_lines(p.images * p.rows * p.columns * min(p.units * 2 * of.lanes, p.y.shape[1]) * of.itemsize)
    p.tasks = tiles(p) * ceil_div(p.unit_count, p.units)
    return p.x_bytes + p.y_bytes + p.taps[0] * p.taps[1] * p.taps[2] * 8


cdef int64_t cut_depthwise(cnn_correlation *p, Precision of) noexcept nogil:
    """The same for groups that share units, in tiles that the kernel traverses downwards: the higher a tile, the fewer
    rows are read twice.
    """
    cdef int64_t wide = 2 * of.lanes, inputs = p.x.shape[1] // p.groups
    p.unit_count = ceil_div(p.y.shape[1], wide)
    choose_tile_for_threads(p, 4 * TILE_PIXELS, inputs * wide, of.itemsize)
    p.units = max(1, min(p.unit_count, p.unit_count * tiles(p) // (2 * wanted_tasks())))
    p.x_bytes = tile_bytes(p, inputs * wide, of.itemsize)
    p.y_bytes = cache_lines(p.images * p.rows * p.columns * wide * of.itemsize)
    p.tasks = tiles(p) * ceil_div(p.unit_count, p.units)
    return p.x_bytes + p.y_bytes + p.taps[0] * p.taps[1] * p.taps[2] * inputs * 8


cdef int64_t cut_weights(cnn_correlation *p, Precision of) noexcept nogil:
    """The same for the gradient of the weights: tasks divide its terms, and each task traverses all tiles."""
    cdef int64_t wide = 2 * of.lanes, inputs = p.x.shape[1] // p.groups, per_group = ceil_div(p.y.shape[1] // p.groups, wide)
    cdef int64_t taps = p.taps[0] * p.taps[1] * p.taps[2], terms, groups, most, shares
    p.unit_count = p.groups * per_group
    choose_tile(p, WEIGHT_PIXELS, p.x.shape[1] if p.groups == 1 else inputs, of.itemsize)
    shares = threads_per_call()
    p.channel_blocks = input_shares(p, shares)
    shares = ceil_div(shares, p.channel_blocks)
    terms = ceil_div(inputs, p.channel_blocks) * taps
    p.units = max(1, min(p.unit_count // shares, SUM_BYTES // (terms * wide * of.itemsize)))
    if p.groups > 1:
        p.units = min(p.units, per_group)
    p.term_blocks = max(ceil_div(shares, ceil_div(p.unit_count, p.units)), ceil_div(terms * wide * of.itemsize, SUM_BYTES))
    p.term_blocks = max(1, min(p.term_blocks, terms // 14))
    groups = min(p.groups, ceil_div(p.units - 1, per_group) + 1)
    most = p.images * p.rows * p.columns * wide
    p.x_bytes = tile_bytes(p, (groups - 1) * inputs + ceil_div(inputs, p.channel_blocks), of.itemsize)
    # Also room for what scatter_weights transposes.
    p.y_bytes = cache_lines(max(p.units * most, taps * of.lanes * wide) * of.itemsize)
    p.sum_bytes = cache_lines(p.units * ceil_div(terms, p.term_blocks) * wide * of.itemsize)
    p.tasks = ceil_div(p.unit_count, p.units) * p.channel_blocks * p.term_blocks
    return p.x_bytes + p.y_bytes + p.sum_bytes + (taps + p.images * p.rows) * 8


cdef int64_t input_shares(const cnn_correlation *p, int64_t shares) noexcept nogil:
    """The number of blocks into which the inputs are divided for ``shares`` tasks of the gradient of the weights.

    Tasks that share units copy the same dy, tasks that share inputs gather the same x (if it cannot be read in place):
    the split that copies least is chosen. It does not change the order of any sum.
    """
    cdef int64_t inputs = p.x.shape[1] // p.groups, outputs = p.y.shape[1] // p.groups, cuts, found = 1
    cdef double cost, least = -1
    for cuts in range(1, shares + 1):
        if cuts > 1 and (p.groups > 1 or inputs < 28 * cuts):
            break
        cost = <double> cuts * outputs * (1 if p.y.stride[1] == 1 else 3)
        if not is_pointwise(p):
            cost += <double> min(p.unit_count, ceil_div(shares, cuts)) * inputs * 2 * (1 if p.x.stride[1] == 1 else 3)
        if least < 0 or cost < least:
            least, found = cost, cuts
    return found


cdef int64_t cut_depthwise_weights(cnn_correlation *p, Precision of) noexcept nogil:
    """The same for groups that share units: a task per unit."""
    cdef int64_t wide = 2 * of.lanes, inputs = p.x.shape[1] // p.groups, terms = p.taps[0] * p.taps[1] * p.taps[2] * inputs
    choose_tile(p, TILE_PIXELS, inputs * wide, of.itemsize)
    p.units, p.unit_count, p.channel_blocks, p.term_blocks = 1, ceil_div(p.y.shape[1], wide), 1, 1
    p.x_bytes = tile_bytes(p, inputs * wide, of.itemsize)
    p.y_bytes = cache_lines(p.columns * wide * of.itemsize)
    p.sum_bytes = 2 * terms * wide * of.itemsize
    p.tasks = p.unit_count
    return p.x_bytes + p.y_bytes + p.sum_bytes + terms * 8


# Transformed input of a block of tiles: with the products of one unit it stays in the L2 cache.
cdef int64_t WINOGRAD_INPUT_BYTES = 640 * 1024
cdef int64_t WINOGRAD_TILES = 56
# With fewer tiles in a block the multiplication would not reach its full speed.
cdef int64_t WINOGRAD_LEAST_TILES = 14
# The distance of points is one cache line more than their values take (winograd_pitch in
# operators/convolution/kernels/winograd.h).
cdef int64_t CACHE_LINE = 64


cdef int winograd_form(int64_t outputs, int64_t taps, int64_t stride) noexcept nogil:
    """The number of the Winograd form along an axis; −1 if there is none."""
    cdef int form
    for form in range(CNN_WINOGRAD_AXES):
        if (cnn_winograd_axes[form].outputs == outputs and cnn_winograd_axes[form].taps == taps
                and cnn_winograd_axes[form].stride == stride):
            return form
    return -1


cdef inline int64_t point_bytes(int64_t points, int64_t values, int64_t itemsize) noexcept nogil:
    return cache_lines(points * (values * itemsize + CACHE_LINE))


cdef int64_t cut_winograd(cnn_correlation *p, Precision of) noexcept nogil:
    """Divide a correlation for Winograd: ``columns`` tiles and ``units`` units per task.

    A task transforms its own input and reads the weights of its units once. Blocks of tiles are as large as the cache
    allows; if there are too few for the threads, they are made smaller or divide the units.
    """
    cdef int64_t wide = 2 * of.lanes, inputs = p.x.shape[1], pitch = ceil_div(inputs, of.lanes) * of.lanes, blocks, ranges
    cdef int64_t count = cnn_winograd_start(p, 4), threads = threads_per_call(), fields = 1, points = 1, outputs = 1, pixels = 1
    cdef const cnn_winograd_axis *form
    cdef int axis
    for axis in range(2):
        form = &cnn_winograd_axes[p.form[axis]]
        fields *= cnn_winograd_inputs(form)
        points *= cnn_winograd_points(form)
        outputs *= form.outputs
        pixels *= (form.outputs - 1) * form.stride + form.taps
    p.unit_count = ceil_div(p.y.shape[1], wide)
    p.columns = max(14, min(WINOGRAD_TILES, WINOGRAD_INPUT_BYTES // (fields * pitch * of.itemsize) // 14 * 14))
    blocks = ceil_div(count, p.columns)
    if blocks < 4 * threads and count >= ceil_div(blocks, threads) * threads * WINOGRAD_LEAST_TILES:
        blocks = ceil_div(blocks, threads) * threads
    p.columns = ceil_div(count, blocks)
    ranges = 1 if blocks >= threads else min(ceil_div(threads, blocks), p.unit_count)
    p.units = ceil_div(p.unit_count, ranges)
    p.x_bytes = point_bytes(fields, p.columns * pitch, of.itemsize)
    p.y_bytes = point_bytes(points, p.columns * wide, of.itemsize)
    p.tasks = ceil_div(count, p.columns) * ceil_div(p.unit_count, p.units)
    return p.x_bytes + p.y_bytes + (pixels * inputs + outputs * wide) * of.itemsize


cdef int64_t cut_winograd_weights(cnn_correlation *p, Precision of) noexcept nogil:
    """The same for the gradient of the weights: about 56 inputs × 64 outputs per task, so that its sums stay in the
    cache.
    """
    cdef const cnn_winograd_axis *form = &cnn_winograd_axes[p.form[0]]
    cdef int64_t wide = 2 * of.lanes, taps = form.taps, tile = form.outputs, points = cnn_winograd_points(form) ** 2, inputs, pitch
    cdef int64_t count = p.y.shape[0] * p.y.shape[2] * ceil_div(p.y.shape[3], tile) * ceil_div(p.y.shape[4], tile)
    p.unit_count = ceil_div(p.y.shape[1], wide)
    p.units = ceil_div(p.unit_count, ceil_div(p.unit_count, max(1, 256 // (wide * of.itemsize))))
    p.channel_blocks = ceil_div(p.x.shape[1], 224 // of.itemsize)
    inputs = ceil_div(p.x.shape[1], p.channel_blocks)
    pitch = ceil_div(inputs, of.lanes) * of.lanes
    p.columns = ceil_div(count, ceil_div(count, 42))
    p.x_bytes = point_bytes(points, p.columns * pitch, of.itemsize)
    p.y_bytes = point_bytes(points, p.columns * wide, of.itemsize) * p.units
    p.sum_bytes = cache_lines(points * inputs * p.units * wide * of.itemsize)
    p.tasks = p.channel_blocks * ceil_div(p.unit_count, p.units)
    # One tile of the input, one of the gradient, or what scatter_weights transposes.
    return (p.x_bytes + p.y_bytes + p.sum_bytes
            + max(points * inputs, max(tile * tile * wide, taps * taps * of.lanes * wide)) * of.itemsize)


cdef int64_t panel_width(const cnn_pack *v, Precision of) noexcept nogil:
    """Output channels of all units of a group, the last one padded to one vector or two: cut_of in
    operators/convolution/kernels/conv.h.
    """
    cdef int64_t wide = 2 * of.lanes, outputs = v.groups * v.outputs if v.shared else v.outputs
    cdef int64_t units = ceil_div(outputs, wide), last = outputs - (units - 1) * wide
    return (units - 1) * wide + (wide if last > of.lanes else of.lanes)


cdef int64_t tap_panels(const cnn_pack *v, Precision of) noexcept nogil:
    """Bytes of the panels of a correlation that multiplies with its taps."""
    cdef int64_t terms = v.taps[0] * v.taps[1] * v.taps[2] * v.inputs
    return cache_lines((1 if v.shared else v.groups) * panel_width(v, of) * terms * of.itemsize)


cdef int64_t winograd_panels(const cnn_pack *v, Precision of) noexcept nogil:
    """Bytes of the panels of a correlation that multiplies with transformed taps."""
    cdef int64_t matrices = cnn_winograd_matrices(&cnn_winograd_axes[v.form[0]]) * cnn_winograd_matrices(&cnn_winograd_axes[v.form[1]])
    return cache_lines(matrices * panel_width(v, of) * v.inputs * of.itemsize)


cdef int64_t units_of(const cnn_pack *v, Precision of) noexcept nogil:
    cdef int64_t wide = 2 * of.lanes
    return ceil_div(v.groups * v.outputs, wide) if v.shared else v.groups * ceil_div(v.outputs, wide)


# ── Values that transforms would lose ── those of a tile that are not finite, or large beside the others ──────────────────────
# Winograd's outputs are sums over all pixels of their tile, in which those outside the window cancel: up to rounding
# errors, and not at all if they are infinite or NaN. A tile with a pixel that is not finite, or larger than
# LARGEST_RATIO times the largest one of a window in the same tile, is computed directly. Windows that contain only
# zeros lose nothing.

cdef double LARGEST_RATIO = 1024.0
# In a gradient of weights every pixel is its own window, but one of many terms of a sum.
cdef double LARGEST_RATIO_OF_WEIGHTS = 65536.0


cdef double *largest_values(const cnn_tensor *x, int precision) except NULL:
    """The largest absolute value of each pixel, ∞ if one is not finite; the caller frees it."""
    cdef int64_t pixels = x.shape[0] * x.shape[2] * x.shape[3] * x.shape[4]
    cdef cnn_largest call
    call.x, call.largest = x[0], <double *> malloc(pixels * sizeof(double))
    if call.largest == NULL:
        raise MemoryError("no memory for the largest values of an image")
    try:
        run(kernel(LARGEST, precision), &call, x.shape[0] * x.shape[2] * x.shape[3], 1, 0, <double> pixels * x.shape[1] / KERNEL_SPEED)
    except BaseException:
        free(call.largest)
        raise
    return call.largest


cdef bint differ_much(const double *largest, int64_t count, double ratio) noexcept nogil:
    """Whether values differ so much that some tiles may have to be computed directly."""
    cdef double least = INFINITY, most = 0
    cdef int64_t i
    for i in range(count):
        most = max(most, largest[i])
        if 0 < largest[i] < least:
            least = largest[i]
    return most == INFINITY or most > ratio * least


cdef struct Area:
    # A tile of outputs, and the extent of its pixels.
    int64_t h, w, rows, columns, height, width


cdef bint loses_values(const cnn_correlation *p, const double *plane, Area at, double ratio) noexcept nogil:
    """Whether a tile has a window whose values would be lost in rounding errors of its other pixels; ``plane``: the
    largest values of its plane.
    """
    cdef int64_t H = p.x.shape[3], W = p.x.shape[4], n, i, j, a, b
    cdef int64_t row = at.h * p.stride[1] + p.first[1], column = at.w * p.stride[2] + p.first[2]
    cdef double most = 0, least = INFINITY, window
    for a in range(max(row, 0), min(row + at.height, H)):
        for b in range(max(column, 0), min(column + at.width, W)):
            most = max(most, plane[a * W + b])
    for n in range(at.rows * at.columns):
        i, j = row + n // at.columns * p.stride[1], column + n % at.columns * p.stride[2]
        window = 0
        for a in range(max(i, 0), min(i + p.taps[1], H)):
            for b in range(max(j, 0), min(j + p.taps[2], W)):
                window = max(window, plane[a * W + b])
        if 0 < window < least:
            least = window
    return most == INFINITY or (least < INFINITY and most > ratio * least)


cdef int64_t reach(const cnn_correlation *p, int axis, bint shorter) noexcept nogil:
    """Pixels of a tile along an axis; with stride 2 a shorter one reads as many as a whole one."""
    cdef const cnn_winograd_axis *form = &cnn_winograd_axes[p.form[axis]]
    return (form.outputs - (shorter and form.stride == 1) - 1) * form.stride + form.taps


cdef int64_t mark_tiles(const cnn_correlation *p, const double *largest, unsigned char *skip) noexcept nogil:
    """Mark the tiles to be computed directly; returns their number."""
    cdef int64_t size = p.x.shape[3] * p.x.shape[4], tile, marked = 0
    cdef cnn_winograd_tile at
    for tile in range(cnn_winograd_start(p, 4)):
        at = cnn_winograd_tile_of(p, tile)
        skip[tile] = loses_values(
            p, largest + (at.n * p.x.shape[2] + at.d) * size,
            Area(at.h, at.w, at.rows, at.columns, reach(p, 0, at.shorter[0]), reach(p, 1, at.shorter[1])),
            LARGEST_RATIO)
        marked += skip[tile]
    return marked


cdef void direct_tile(const cnn_correlation *p, int64_t tile, int64_t itemsize, cnn_correlation *q) noexcept nogil:
    """The correlation of one tile's outputs."""
    cdef cnn_winograd_tile at = cnn_winograd_tile_of(p, tile)
    cdef int64_t offset = at.n * p.y.stride[0] + at.d * p.y.stride[2] + at.h * p.y.stride[3] + at.w * p.y.stride[4]
    q[0] = p[0]
    q.y.data = <char *> p.y.data + offset * itemsize
    q.x.data = <char *> p.x.data + (at.n * p.x.stride[0] + at.d * p.x.stride[2]) * itemsize
    q.x.shape[0] = q.x.shape[2] = q.y.shape[0] = q.y.shape[2] = 1
    q.y.shape[3], q.y.shape[4] = at.rows, at.columns
    q.first[1], q.first[2] = p.first[1] + at.h * p.stride[1], p.first[2] + at.w * p.stride[2]
    q.skip = NULL


cdef struct Residue:
    # Pixels first, first + s, ... of the input along one axis use the taps tap, tap + tap_step, ...
    int64_t first, count, tap, tap_step, taps, offset, step


cdef int residues(const cnn_conv *call, int axis, Residue *found) noexcept nogil:
    """The residues of the input's pixels modulo the stride that use a tap; returns their number.

    o = (q + lo − d·t) / s is whole for every (s / g)-th tap, g = gcd(s, d). From the last of them to the first, o
    increases by d / g: a correlation over dy with stride 1.
    """
    cdef int64_t s = call.stride[axis], d = call.dilation[axis], lo = call.low[axis], k = call.w.shape[2 + axis]
    cdef int64_t H = call.x.shape[2 + axis], g = greatest_common_divisor(s, d), t, q
    cdef int n = 0
    for t in range(min(k, s // g)):
        q = (d * t - lo) % s
        if q < 0:
            q += s
        if q < H:
            found[n].first, found[n].count = q, ceil_div(H - q, s)
            found[n].tap, found[n].tap_step, found[n].taps = t, s // g, ceil_div(k - t, s // g)
            found[n].step = d // g
            found[n].offset = (q + lo - d * t) // s - (found[n].taps - 1) * found[n].step
            n += 1
    return n


cdef struct Parts:
    # A call as a set of correlations, and how the weights of each are packed.
    cnn_correlation *part
    cnn_pack *pack
    int64_t count
    bint covered            # every pixel of the result belongs to a part


cdef int allocate(Parts *parts, int64_t count) except -1:
    parts.part = <cnn_correlation *> malloc(count * (sizeof(cnn_correlation) + sizeof(cnn_pack)))
    if parts.part == NULL:
        raise MemoryError("no memory to describe a convolution")
    parts.pack = <cnn_pack *> (parts.part + count)
    parts.count = count
    parts.covered = True
    return 0


cdef int forward_parts(Parts *parts, const cnn_conv *call) except -1:
    """One correlation: x with the unchanged weights."""
    allocate(parts, 1)
    cdef cnn_correlation *p = parts.part
    cdef cnn_pack *v = parts.pack
    cdef int axis
    p.x, p.y, p.groups = call.x, call.y, call.groups
    for axis in range(3):
        p.taps[axis], p.stride[axis], p.step[axis] = call.w.shape[2 + axis], call.stride[axis], call.dilation[axis]
        p.first[axis] = -call.low[axis]
        v.taps[axis], v.tap_stride[axis] = call.w.shape[2 + axis], call.w.stride[2 + axis]
    v.w, v.groups, v.outputs, v.inputs = call.w.data, call.groups, call.w.shape[0] // call.groups, call.w.shape[1]
    v.output_stride, v.input_stride, v.group_stride = call.w.stride[0], call.w.stride[1], v.outputs * call.w.stride[0]
    return 0


cdef int backward_parts(Parts *parts, const cnn_conv *call, int64_t itemsize) except -1:
    """For each residue of the pixel: dy with inputs and outputs exchanged and the taps in reverse."""
    cdef Residue *found[3]
    cdef int count[3]
    cdef int64_t at[3]
    cdef int64_t number, index, pixels, offset
    cdef Residue *residue
    cdef cnn_correlation *p
    cdef cnn_pack *v
    cdef int axis, i
    found[0] = <Residue *> malloc((call.w.shape[2] + call.w.shape[3] + call.w.shape[4]) * sizeof(Residue))
    if found[0] == NULL:
        raise MemoryError("no memory to describe a convolution")
    try:
        found[1] = found[0] + call.w.shape[2]
        found[2] = found[1] + call.w.shape[3]
        for axis in range(3):
            count[axis] = residues(call, axis, found[axis])
        allocate(parts, <int64_t> count[0] * count[1] * count[2])
        for axis in range(3):
            pixels = 0
            for i in range(count[axis]):
                pixels += found[axis][i].count
            if pixels < call.x.shape[2 + axis]:
                parts.covered = False
        for number in range(parts.count):
            p, v = parts.part + number, parts.pack + number
            index = number
            for axis in range(2, -1, -1):
                at[axis] = index % count[axis]
                index //= count[axis]
            p.x, p.y, p.groups = call.y, call.x, call.groups
            v.w, v.groups, v.outputs, v.inputs = call.w.data, call.groups, call.w.shape[1], call.w.shape[0] // call.groups
            v.output_stride, v.input_stride, v.group_stride = call.w.stride[1], call.w.stride[0], v.inputs * call.w.stride[0]
            for axis in range(3):
                residue = &found[axis][at[axis]]
                p.taps[axis], p.stride[axis], p.step[axis], p.first[axis] = residue.taps, 1, residue.step, residue.offset
                p.y.data = <char *> p.y.data + residue.first * p.y.stride[2 + axis] * itemsize
                p.y.shape[2 + axis] = residue.count
                p.y.stride[2 + axis] *= call.stride[axis]
                v.taps[axis], v.tap_stride[axis] = residue.taps, -residue.tap_step * call.w.stride[2 + axis]
                offset = (residue.tap + (residue.taps - 1) * residue.tap_step) * call.w.stride[2 + axis]
                v.w = <const char *> v.w + offset * itemsize
    finally:
        free(found[0])
    return 0


# ── The algorithms ── one row each; whatever names, chooses, costs or runs one asks the table ─────────────────────────────
# To add one: its kernels in kernels/ (and their names in kernels.inc), a function that divides a call into tasks for
# them, and a row.

cdef struct Correlator:
    # How kernels compute a correlation: forward, and the gradient of the input.
    int kernel
    int pack                    # the kernel that packs the weights; −1: they are read in place
    bint shared                 # groups share units
    bint mixes                  # outputs are sums over a whole tile, in which the pixels outside the window cancel
    double speed                # multiply-adds in the time of an elementary operation elsewhere
    int64_t (*panels)(const cnn_pack *v, Precision of) noexcept nogil       # bytes of packed weights
    int64_t (*cut)(cnn_correlation *p, Precision of) noexcept nogil         # into tasks; returns the scratch memory of one

cdef struct WeightGradient:
    # How kernels compute the gradient of the weights.
    int kernel
    bint mixes
    double speed
    int64_t (*cut)(cnn_correlation *p, Precision of) noexcept nogil


cdef Correlator TILES, PLANES, DEPTHWISE, WINOGRAD
cdef WeightGradient WEIGHTS, DEPTHWISE_WEIGHTS, WINOGRAD_WEIGHTS
TILES = Correlator(
    kernel_number("conv_correlate"), kernel_number("conv_pack"), False, False, KERNEL_SPEED, tap_panels, cut_tiles)
PLANES = Correlator(kernel_number("conv_planes"), -1, False, False, KERNEL_SPEED, tap_panels, cut_planes)
DEPTHWISE = Correlator(
    kernel_number("conv_depthwise"), kernel_number("conv_pack"), True, False, DEPTHWISE_SPEED, tap_panels, cut_depthwise)
WINOGRAD = Correlator(
    kernel_number("winograd_correlate"), kernel_number("winograd_pack"), False, True, KERNEL_SPEED, winograd_panels, cut_winograd)
WEIGHTS = WeightGradient(kernel_number("conv_weights"), False, KERNEL_SPEED, cut_weights)
DEPTHWISE_WEIGHTS = WeightGradient(kernel_number("conv_depthwise_weights"), False, DEPTHWISE_SPEED, cut_depthwise_weights)
WINOGRAD_WEIGHTS = WeightGradient(kernel_number("winograd_weights"), True, KERNEL_SPEED, cut_winograd_weights)


# ``outputs``: of a tile along H and W, if the algorithm has tiles. ``in_place``: the weights may be read in place.
ctypedef const Correlator *(*forward_choice)(const Parts *parts, Precision of, bint in_place, const int64_t *outputs) noexcept nogil
ctypedef const WeightGradient *(*backward_choice)(const Parts *parts, Precision of, const int64_t *outputs) noexcept nogil


cdef const Correlator *correlate_directly(const Parts *parts, Precision of, bint in_place, const int64_t *outputs) noexcept nogil:
    if is_depthwise(parts.part.groups, parts.pack.inputs, parts.pack.outputs, of.lanes):
        return &DEPTHWISE
    if in_place and parts.count == 1 and is_pointwise(parts.part) and prefers_planes(parts.part, of.lanes):
        return &PLANES
    return &TILES


cdef const WeightGradient *weigh_directly(const Parts *parts, Precision of, const int64_t *outputs) noexcept nogil:
    return &DEPTHWISE_WEIGHTS if is_depthwise(parts.part.groups, parts.pack.inputs, parts.pack.outputs, of.lanes) else &WEIGHTS


cdef const Correlator *correlate_by_winograd(const Parts *parts, Precision of, bint in_place, const int64_t *outputs) noexcept nogil:
    """If there is a form; the gradient of the input for stride 2 has none."""
    cdef int axis
    for axis in range(2):
        parts.part.form[axis] = winograd_form(outputs[axis], parts.part.taps[1 + axis], parts.part.stride[1 + axis])
        if parts.count > 1 or parts.part.form[axis] < 0:
            return correlate_directly(parts, of, in_place, outputs)
    return &WINOGRAD


cdef extern from *:
    """
    /* Built by Clang 19 with optimisation for WebAssembly, winograd_weights reads outside of the memory, for reasons not found
       yet; without optimisation, and for every other machine, it does not. */
    #if defined(__wasm__)
    #define CNN_WEIGHS_BY_WINOGRAD 0
    #else
    #define CNN_WEIGHS_BY_WINOGRAD 1
    #endif
    """
    enum: CNN_WEIGHS_BY_WINOGRAD


cdef const WeightGradient *weigh_by_winograd(const Parts *parts, Precision of, const int64_t *outputs) noexcept nogil:
    """Square tiles, for stride 1; for 5×5 kernels F(2×2), since more points lose too much accuracy in sums over many
    tiles. Directly in browsers.
    """
    cdef int form = winograd_form(outputs[0], parts.part.taps[1], parts.part.stride[1])
    if not CNN_WEIGHS_BY_WINOGRAD or form < 0 or parts.part.stride[1] != 1:
        return weigh_directly(parts, of, outputs)
    parts.part.form[0] = parts.part.form[1] = CNN_F25 if form == CNN_F45 else form
    return &WINOGRAD_WEIGHTS


cdef class ConvolutionAlgorithm:
    """One way to compute a convolution and its gradients: a row of :data:`ALGORITHMS`.

    name        its name in ``algorithm=``
    family      the name for "the cheapest of these": "winograd"; "" for none
    windows     the windows to which it applies, in words
    fits        (window, groups) → whether it applies
    cost        (window, images, inputs, outputs, groups, costs) → multiply-adds at full speed, given what the machine
                costs (runtime/costs.py); None: chosen only by name
    forward     which kernels correlate, forward and for the gradient of the input; NULL: the reference implementation
    backward    which kernels compute the gradient of the weights; NULL: the reference implementation
    """
    cdef readonly str name, family, windows
    cdef readonly object fits, cost
    cdef int64_t outputs[2]         # of its tiles along H and W; 0 if it has none
    cdef forward_choice forward
    cdef backward_choice backward

    @property
    def has_kernels(self):
        """Whether kernels compute it rather than the reference implementation."""
        return self.forward != NULL


cdef ConvolutionAlgorithm algorithm_row(str name, str family, str windows, fits, cost, outputs, forward_choice forward,
                                        backward_choice backward):
    cdef ConvolutionAlgorithm row = ConvolutionAlgorithm()
    row.name, row.family, row.windows, row.fits, row.cost = name, family, windows, fits, cost
    row.outputs, row.forward, row.backward = outputs, forward, backward
    return row


def fits_every_window(window, groups):
    """For any windows."""
    return True


def direct_cost(window, images, inputs, outputs, groups, costs):
    """A multiplication for each tap of each window, and for the weights that are waited for."""
    pixels = images * math.prod(window.output)
    waited = (1 - costs.overlap) * costs.reading if pixels else 0
    return round((pixels + waited) * outputs * (inputs // groups) * math.prod(window.kernel))


def fits_winograd(outputs, window, groups):
    """Square 2-D windows whose size and stride have a form with tiles of ``outputs``."""
    size, stride = window.kernel[2], window.stride[2]
    return (
        groups == 1
        and window.kernel == (1, size, size)
        and window.stride == (1, stride, stride)
        and window.dilation == (1, 1, 1)
        and window.low[0] == window.high[0] == 0
        and all(winograd_form(tile, size, stride) >= 0 for tile in outputs)
    )


COST_LANES = 16     # channels are transformed in vectors


def winograd_cost(outputs, window, images, inputs, channels, groups, costs):
    """The matrix products, one for each point of a tile, but no less than the time to read the weights, which the last block
    of tiles, the shortest, shows, and what of that time does not overlap with products; and the transforms. For stride 2
    each product is a sum of up to four short ones.
    """
    products, tiles, matrices = 1, images * window.output[0], 1
    cdef const cnn_winograd_axis *form
    for tile, extent in zip(outputs, window.output[1:], strict=True):
        form = &cnn_winograd_axes[winograd_form(tile, window.kernel[2], window.stride[2])]
        count = -(-extent // tile)
        products *= count * cnn_winograd_inputs(form) - min(count, count * tile - extent)   # a shorter tile has a point less
        tiles *= count
        matrices *= cnn_winograd_matrices(form)
    products *= images * window.output[0]
    if tiles == 0:
        return 0
    rest = tiles % WINOGRAD_TILES
    products *= costs.parities if window.stride[2] == 2 else 1
    last, reading = costs.product * products * rest / tiles, costs.reading * matrices
    multiplied = costs.product * products * (tiles - rest) / tiles + (max(last, reading) if rest else 0)
    multiplied += (1 - costs.overlap) * (min(last, reading) if rest else reading)
    vectors = COST_LANES * (-(-inputs // COST_LANES) + -(-channels // COST_LANES))
    return round(multiplied * inputs * channels + costs.transform * products * vectors)


def by_name(*rows):
    """name → row."""
    return {row.name: row for row in rows}


cdef ConvolutionAlgorithm winograd_row(str name, str windows, outputs):
    return algorithm_row(
        name, "winograd", windows + " on images with two spatial axes, with dilation 1 and groups=1",
        functools.partial(fits_winograd, outputs), functools.partial(winograd_cost, outputs), outputs,
        correlate_by_winograd, weigh_by_winograd)


ALGORITHMS = by_name(
    algorithm_row(
        "direct", family="", windows="every window", fits=fits_every_window, cost=direct_cost, outputs=(0, 0),
        forward=correlate_directly, backward=weigh_directly),
    winograd_row("winograd_4x4", "3×3 kernels with stride 1 or 2, 5×5 kernels with stride 1", (4, 4)),
    winograd_row("winograd_4x2", "3×3 and 5×5 kernels with stride 1", (4, 2)),
    winograd_row("winograd_2x2", "3×3 and 5×5 kernels with stride 1", (2, 2)),
    algorithm_row(
        "reference", family="", windows="every window", fits=fits_every_window, cost=None, outputs=(0, 0), forward=NULL,
        backward=NULL),
)


# ── Calls from Python ──────────────────────────────────────────────────────────────────────────────────────────────────

cdef class Packed:
    """Weights and bias of one convolution in the order of the kernels, for one direction, precision and CPU target.

    Created by :meth:`Convolution.pack`; valid until the weights change. After :meth:`refresh` the next call packs them
    again, into the same memory: that of an arena, or a temporary block without one.
    """
    cdef PackedWeights arena
    cdef void *memory
    cdef bint borrowed      # from the arena, which the collector may have cleared before __dealloc__ is called
    cdef int64_t bytes
    cdef int64_t lanes
    cdef const Correlator *how
    cdef readonly bint backward
    cdef readonly bint filled

    def __cinit__(self, bint backward=False, PackedWeights arena=None):
        self.backward, self.arena = backward, arena

    def refresh(self):
        """The weights have changed."""
        self.filled = False

    cdef bint holds(self, const Correlator *how) noexcept:  # no-cython-lint
        """Whether the weights are packed in the order of these kernels."""
        return self.filled and self.how == how

    cdef int reserve(self, int64_t bytes, int64_t lanes, const Correlator *how) except -1:  # no-cython-lint
        if bytes > self.bytes:
            self.release()
            self.borrowed = self.arena is not None
            self.memory = self.arena.take(bytes) if self.borrowed else take_block(PANELS, bytes)
            if self.memory == NULL:
                raise MemoryError(f"no memory for {bytes} bytes of packed weights")
            self.bytes, self.filled = bytes, False
        if lanes != self.lanes or how != self.how:
            self.lanes, self.how, self.filled = lanes, how, False
        return 0

    cdef void release(self) noexcept:
        if self.memory != NULL and not self.borrowed:
            give_block(PANELS, self.memory)
        self.memory, self.bytes = NULL, 0

    def __dealloc__(self):
        self.release()


cdef class Convolution:
    """Convolution(groups, stride, dilation, low): the windows of a convolution, shared by its three primitives.

    Arrays are (N, C, *spatial) and (N, K, *output) in any layout, weights (K, C / groups, *kernel), biases (K); results
    are written into the caller's arrays. ``algorithm`` is the name of a row of :data:`ALGORITHMS` that fits the
    windows.
    """
    cdef cnn_conv call
    cdef ConvolutionAlgorithm row

    def __init__(self, groups, stride, dilation, low, algorithm="direct"):
        cdef int axis
        self.call.groups = groups
        self.row = ALGORITHMS[algorithm]
        for axis in range(3):
            self.call.stride[axis] = stride[axis]
            self.call.dilation[axis] = dilation[axis]
            self.call.low[axis] = low[axis]

    @property
    def algorithm(self):
        """The name of the algorithm that computes."""
        return self.row.name

    def pack(self, arena, backward=False):
        """Memory on ``arena`` for packed weights, for :meth:`forward` or, with ``backward``, for
        :meth:`backward_input`.
        """
        return Packed(backward, arena)

    def forward(self, x, w, b, y, Packed packed=None, double lower=-INFINITY, double upper=INFINITY):
        """Write y from x, w and b, clamped to [``lower``, ``upper``]; b may be None. With ``packed``, weights packed by
        earlier calls are reused.
        """
        cdef Tensor X = Tensor(x), W = Tensor(w), B = None if b is None else Tensor(b), Y = Tensor(y, True)
        cdef cnn_conv call = self.described(X, Y, W, B)
        call.lower, call.upper = lower, upper
        if not self.correlate(&call, False, X.precision, packed):
            if X.precision == CNN_FLOAT32:
                run_reference(<cnn_task> conv_forward[float], &call, &call.y)
            else:
                run_reference(<cnn_task> conv_forward[double], &call, &call.y)

    def backward_input(self, dy, w, dx, b=None, Packed packed=None, double lower=-INFINITY, double upper=INFINITY):
        """Write dx from dy and w; ``b``, one per channel of dx, is added if given: then this is a transposed
        convolution.
        """
        cdef Tensor DY = Tensor(dy), W = Tensor(w), B = None if b is None else Tensor(b), DX = Tensor(dx, True)
        cdef cnn_conv call = self.described(DX, DY, W, B)
        call.lower, call.upper = lower, upper
        if not self.correlate(&call, True, DX.precision, packed):
            if DX.precision == CNN_FLOAT32:
                run_reference(<cnn_task> conv_backward_input[float], &call, &call.x)
            else:
                run_reference(<cnn_task> conv_backward_input[double], &call, &call.x)
        elif omits_terms(&call) and not all_finite(&call.x, DX.precision) and not all_finite(&call.w, DX.precision):
            self.backward_by_taps(dy, w, dx, b, lower, upper)

    def backward_by_taps(self, dy, w, dx, b, double lower, double upper):
        """The same, tap by tap: where a weight is not finite, its product with a zero beside dy, for a term that does not
        exist, would be NaN.
        """
        cdef int axis
        pointwise = Convolution(self.call.groups, (1, 1, 1), (1, 1, 1), (0, 0, 0))
        total = np.zeros(dx.shape, dx.dtype)
        if b is not None:
            total += b.reshape(1, -1, *(1,) * (dx.ndim - 2))
        for tap in np.ndindex(*w.shape[2:]):
            of_y, of_x, axis = [], [], 5 - dx.ndim
            for H, o, t in zip(dx.shape[2:], dy.shape[2:], tap):
                s, d, lo = int(self.call.stride[axis]), int(self.call.dilation[axis]), int(self.call.low[axis])
                axis += 1
                first = max(-((d * t - lo) // s), 0)
                last = min((H - 1 + lo - d * t) // s, o - 1)
                of_y.append(slice(first, max(last + 1, first)))
                of_x.append(slice(s * first + d * t - lo, max(s * last + d * t - lo + 1, 0), s))
            terms = dy[(slice(None), slice(None), *of_y)]
            if terms.size:
                part = np.empty((*dx.shape[:2], *terms.shape[2:]), dx.dtype)
                own = w[(slice(None), slice(None), *tap)].reshape(*w.shape[:2], *(1,) * (w.ndim - 2))
                pointwise.backward_input(terms, own, part)
                total[(slice(None), slice(None), *of_x)] += part
        dx[...] = np.clip(total, lower, upper)

    def add_backward_input(self, dy, w, dx):
        """Accumulate into dx from dy and w, if kernels can: stride 1 and channels of dx innermost; returns whether they
        did.
        """
        cdef Tensor DY = Tensor(dy), W = Tensor(w), DX = Tensor(dx, True)
        cdef cnn_conv call = self.described(DX, DY, W, None)
        if DX.view.stride[1] != 1 or (omits_terms(&call) and not all_finite(&call.w, DX.precision)):
            return False
        return bool(self.correlate(&call, True, DX.precision, None, True))

    def backward_weight(self, x, dy, dw):
        """Write dw from x and dy."""
        cdef Tensor X = Tensor(x), DY = Tensor(dy), DW = Tensor(dw, True)
        cdef cnn_conv call = self.described(X, DY, DW, None)
        if not self.correlate_weights(&call, X.precision, dw):
            if X.precision == CNN_FLOAT32:
                run_reference(<cnn_task> conv_backward_weight[float], &call, &call.w)
            else:
                run_reference(<cnn_task> conv_backward_weight[double], &call, &call.w)

    cdef cnn_conv described(self, Tensor x, Tensor y, Tensor w, Tensor b):
        cdef cnn_conv call = self.call
        call.lower, call.upper = -INFINITY, INFINITY
        call.x, call.y, call.w = x.view, y.view, w.view
        if b is not None:
            call.b = b.view
        else:
            call.b.data = NULL
        return call

    cdef int correlate(self, cnn_conv *call, bint backward, int precision, Packed packed, bint add=False) except -1:
        """Forward or backward_input by kernels; returns 0 if the reference implementation has to run, or they cannot
        ``add``.
        """
        if self.row.forward == NULL or kernel(TILES.kernel, precision) == NULL:
            return 0
        if call.x.shape[0] == 0:
            return 1
        if packed is not None and packed.backward != backward:
            raise ValueError("these weights are packed for the other direction")
        cdef Precision of = precision_of(precision)
        cdef Parts parts = Parts(NULL, NULL, 0, True)
        try:
            if backward:
                backward_parts(&parts, call, of.itemsize)
            else:
                forward_parts(&parts, call)
            if add and (parts.count != 1 or not parts.covered
                        or is_depthwise(call.groups, parts.pack.inputs, parts.pack.outputs, of.lanes)):
                return 0
            if not parts.covered:
                fill_result(call, precision)
            if parts.count:
                self.run_parts(&parts, call, backward, of, packed, add)
        finally:
            free(parts.part)
        return 1

    cdef int run_parts(self, const Parts *parts, cnn_conv *call, bint backward, Precision of, Packed packed, bint add) except -1:
        """Choose the kernels for the correlations of a call and run them; tiles in which they would lose accuracy are
        computed directly.
        """
        cdef int64_t number
        cdef const Correlator *how
        cdef cnn_correlation *p
        cdef double *largest = NULL
        cdef unsigned char *skip = NULL
        cdef int64_t marked = 0
        for number in range(parts.count):
            p = parts.part + number
            p.lower, p.upper, p.accumulate, p.skip = call.lower, call.upper, add, NULL
            simplify(p, of.itemsize)
        how = self.row.forward(parts, of, packed is None and not add, self.row.outputs)
        # Weights that are not finite: transforms would mix them, and depthwise kernels omit zeros outside the image.
        if ((how.mixes or (how.shared and not backward and omits_terms(call))) and not (packed is not None and packed.holds(how))
                and not all_finite(&call.w, of.number)):
            how = &TILES
        if not how.mixes:
            return run_correlator(parts, call, backward, how, of, packed)
        try:
            p = parts.part
            largest = largest_values(&p.x, of.number)
            if differ_much(largest, p.x.shape[0] * p.x.shape[2] * p.x.shape[3] * p.x.shape[4], LARGEST_RATIO):
                skip = <unsigned char *> malloc(cnn_winograd_start(p, 4))
                if skip == NULL:
                    raise MemoryError("no memory to mark the tiles of a convolution")
                marked = mark_tiles(p, largest, skip)
                p.skip = skip if marked else NULL
            run_correlator(parts, call, backward, how, of, packed)
            if marked:
                run_marked(parts, call, backward, of, marked)
        finally:
            free(largest)
            free(skip)
        return 0

    cdef int correlate_weights(self, cnn_conv *call, int precision, dw) except -1:
        """backward_weight by kernels; returns 0 if the reference implementation has to run."""
        if self.row.backward == NULL or kernel(WEIGHTS.kernel, precision) == NULL or call.x.shape[0] == 0:
            return 0
        cdef Precision of = precision_of(precision)
        cdef Parts parts = Parts(NULL, NULL, 0, True)
        cdef const WeightGradient *how
        try:
            forward_parts(&parts, call)
            parts.part.w, parts.part.skip = call.w, NULL
            how = self.row.backward(&parts, of, self.row.outputs)
            if how.mixes and sums_lose_values(parts.part, precision):
                how = weigh_directly(&parts, of, self.row.outputs)
            if not how.mixes and padding_meets_infinity(parts.part, precision):
                dw[...] = 0
                weigh_by_taps(parts.part, call, how, of)
            else:
                weigh(parts.part, call, how, of)
        finally:
            free(parts.part)
        return 1


cdef int weigh(cnn_correlation *p, const cnn_conv *call, const WeightGradient *how, Precision of) except -1:
    cdef cnn_correlations calls = cnn_correlations(p, 1)
    simplify(p, of.itemsize)
    cdef int64_t scratch = how.cut(p, of)
    return run(kernel(how.kernel, of.number), &calls, p.tasks, 1, scratch, work(call) / how.speed)


cdef int weigh_by_taps(const cnn_correlation *p, const cnn_conv *call, const WeightGradient *how, Precision of) except -1:
    """The gradient of each tap from those outputs whose windows have that tap inside the image: padding is never read.
    """
    cdef int64_t tap[3]
    cdef int64_t number, first, last, at
    cdef cnn_correlation q
    cdef int axis
    for number in range(p.taps[0] * p.taps[1] * p.taps[2]):
        tap = [number // (p.taps[1] * p.taps[2]), number // p.taps[2] % p.taps[1], number % p.taps[2]]
        q = p[0]
        for axis in range(3):
            at = p.first[axis] + tap[axis] * p.step[axis]      # pixel of the first output
            first = ceil_div(max(-at, 0), p.stride[axis])
            last = min(p.y.shape[2 + axis], ceil_div(max(p.x.shape[2 + axis] - at, 0), p.stride[axis]))
            if first >= last:
                break
            q.taps[axis], q.first[axis] = 1, at + first * p.stride[axis]
            q.y.data = <char *> q.y.data + first * p.y.stride[2 + axis] * of.itemsize
            q.y.shape[2 + axis] = last - first
            q.w.data = <char *> q.w.data + tap[axis] * p.w.stride[2 + axis] * of.itemsize
            q.w.shape[2 + axis] = 1
        else:
            weigh(&q, call, how, of)
    return 0


cdef bint sums_lose_values(const cnn_correlation *p, int precision) except -1:
    """Whether a gradient of weights by transforms would lose accuracy in tiles of x or of dy, which are mixed too."""
    cdef cnn_correlation q = p[0]
    cdef int64_t tile = cnn_winograd_axes[p.form[0]].outputs
    cdef int axis
    for axis in range(3):
        q.taps[axis] = 1
    if some_tile_loses(&q, tile, tile + p.taps[1] - 1, precision):
        return True
    q.x = p.y
    for axis in range(3):
        q.first[axis] = 0
    return some_tile_loses(&q, tile, tile, precision)


cdef bint some_tile_loses(const cnn_correlation *p, int64_t tile, int64_t pixels, int precision) except -1:
    """The same of the image p.x in tiles of ``pixels``, ``tile`` apart."""
    cdef int64_t size = p.x.shape[3] * p.x.shape[4], plane, h, w
    cdef double *largest = largest_values(&p.x, precision)
    cdef bint found = False
    if differ_much(largest, p.x.shape[0] * p.x.shape[2] * size, LARGEST_RATIO_OF_WEIGHTS):
        for plane in range(p.x.shape[0] * p.x.shape[2]):
            for h in range(0, p.y.shape[3], tile):
                for w in range(0, p.y.shape[4], tile):
                    found = found or loses_values(
                        p, largest + plane * size, Area(h, w, pixels, pixels, pixels, pixels), LARGEST_RATIO_OF_WEIGHTS)
    free(largest)
    return found


cdef bint padding_meets_infinity(const cnn_correlation *p, int precision) except -1:
    """Whether an output whose window extends beyond the image has a dy that is not finite: its product with a 0 of the
    padding, for a term that does not exist, would be NaN.
    """
    cdef cnn_tensor band
    cdef double *largest
    cdef int64_t low, high, first, count
    cdef bint found
    cdef int axis, end
    for axis in range(3):
        low = ceil_div(max(-p.first[axis], 0), p.stride[axis])
        high = ceil_div(max(p.x.shape[2 + axis] - p.first[axis] - (p.taps[axis] - 1) * p.step[axis], 0), p.stride[axis])
        for end in range(2):
            first = high if end else 0
            count = p.y.shape[2 + axis] - high if end else min(low, p.y.shape[2 + axis])
            if count <= 0:
                continue
            band = p.y
            band.data = <char *> band.data + first * band.stride[2 + axis] * (4 if precision == CNN_FLOAT32 else 8)
            band.shape[2 + axis] = count
            largest = largest_values(&band, precision)
            found = is_infinite(largest, band.shape[0] * band.shape[2] * band.shape[3] * band.shape[4])
            free(largest)
            if found:
                return True
    return False


cdef bint is_infinite(const double *largest, int64_t count) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        if largest[i] == INFINITY:
            return True
    return False


cdef bint omits_terms(const cnn_conv *call) noexcept nogil:
    """Whether the gradient of some pixel has fewer terms than there are taps."""
    cdef int axis
    for axis in range(3):
        if call.w.shape[2 + axis] > 1 or call.low[axis] or call.stride[axis] > 1:
            return True
    return False


cdef extern from *:
    """
    /* Whether a row has ∞ or NaN: their exponents are all ones, so that one more in its last place carries into the sign. Blocks
       of a fixed size become vector instructions in every build. */
    #define CNN_BLOCK 16
    #define CNN_FIND_INFINITE(real, word, exponent, last_place)                                                    \
        static int cnn_find_infinite_##real(const real *x, int64_t count, int64_t step) {                         \
            word carried[CNN_BLOCK] = {0}, any = 0, bits[CNN_BLOCK];                                              \
            int64_t i = 0;                                                                                        \
            for (; step == 1 && i + CNN_BLOCK <= count; i += CNN_BLOCK) {                                         \
                memcpy(bits, x + i, sizeof bits);                                                                 \
                for (int j = 0; j < CNN_BLOCK; j++) carried[j] |= (bits[j] & (exponent)) + (last_place);          \
            }                                                                                                     \
            for (int j = 0; j < CNN_BLOCK; j++) any |= carried[j];                                                \
            for (; i < count; i++) {                                                                              \
                memcpy(bits, x + i * step, sizeof(word));                                                         \
                any |= (bits[0] & (exponent)) + (last_place);                                                     \
            }                                                                                                     \
            return (any & ~((word)-1 >> 1)) != 0;                                                                 \
        }
    CNN_FIND_INFINITE(float, uint32_t, 0x7f800000u, 0x00800000u)
    CNN_FIND_INFINITE(double, uint64_t, 0x7ff0000000000000u, 0x0010000000000000u)
    """
    bint infinite_floats "cnn_find_infinite_float"(const float *x, int64_t count, int64_t step) noexcept nogil
    bint infinite_doubles "cnn_find_infinite_double"(const double *x, int64_t count, int64_t step) noexcept nogil


cdef enum:
    FINITE_BLOCK = 4096


cdef struct Finite:
    cnn_tensor x
    int64_t values              # of a dense tensor, whose memory is read in blocks; else 0
    int inner, outer            # axes: that with neighbouring values, and the other of 1 and 4
    unsigned char *infinite     # of each block, or row along the inner axis: whether it has a value that is not finite


cdef void find_infinite(Finite *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are blocks, or rows."""
    cdef int64_t task, left = PIECE, count = call.x.shape[call.inner], step = call.x.stride[call.inner]
    cdef const int64_t *size = &call.x.shape[0]
    cdef const int64_t *stride = &call.x.stride[0]
    cdef const real *x
    for task in range(begin, end):
        if call.values:
            count, step = min(FINITE_BLOCK, call.values - task * FINITE_BLOCK), 1
            x = <const real *> call.x.data + task * FINITE_BLOCK
        else:
            x = (<const real *> call.x.data + task % size[3] * stride[3] + task // size[3] % size[2] * stride[2]
                 + task // size[3] // size[2] % size[call.outer] * stride[call.outer]
                 + task // size[3] // size[2] // size[call.outer] * stride[0])
        if stop_after(&left, count):
            return
        if real is float:
            call.infinite[task] = infinite_floats(x, count, step)
        else:
            call.infinite[task] = infinite_doubles(x, count, step)


cdef bint all_finite(const cnn_tensor *t, int precision) except -1:
    """Whether all values are finite: kernels ask where one that is not may be multiplied by zeros, or mixed with others."""
    cdef Finite call
    cdef int64_t task, tasks, values = t.shape[0] * t.shape[1] * t.shape[2] * t.shape[3] * t.shape[4]
    cdef bint finite = True
    call.x, call.values = t[0], values if fills_memory(t) else 0
    call.inner, call.outer = (1, 4) if t.stride[1] == 1 and t.shape[1] > 1 else (4, 1)
    if call.values:
        tasks = (values + FINITE_BLOCK - 1) // FINITE_BLOCK
    else:
        tasks = t.shape[0] * t.shape[2] * t.shape[3] * t.shape[call.outer]
    call.infinite = <unsigned char *> malloc(max(tasks, 1))
    if call.infinite == NULL:
        raise MemoryError("no memory to look for values that are not finite")
    try:
        run(<cnn_task> find_infinite[float] if precision == CNN_FLOAT32 else <cnn_task> find_infinite[double], &call, tasks,
            1 + FINITE_BLOCK // max(values // max(tasks, 1), 1), 0, <double> values / KERNEL_SPEED)
        for task in range(tasks):
            finite = finite and not call.infinite[task]
    finally:
        free(call.infinite)
    return finite


cdef int run_correlator(const Parts *parts, const cnn_conv *call, bint backward, const Correlator *how, Precision of,
                        Packed packed) except -1:
    """Pack the weights if the kernels need it, and run these on all parts."""
    if how.pack < 0:
        read_weights(parts, call)
    else:
        if packed is None:
            packed = Packed(backward)
        pack_weights(parts, call, how, of, packed)
    return run_packed(parts, call, how, of)


cdef int run_packed(const Parts *parts, const cnn_conv *call, const Correlator *how, Precision of) except -1:
    """Run kernels on all parts, whose weights are packed or in place."""
    cdef int64_t scratch = 0, tasks = 0, number
    cdef cnn_correlations calls = cnn_correlations(parts.part, parts.count)
    cdef cnn_correlation *p
    for number in range(parts.count):
        p = parts.part + number
        scratch = max(scratch, how.cut(p, of))
        p.first_task = tasks
        tasks += p.tasks
    return run(kernel(how.kernel, of.number), &calls, tasks, 1, scratch,
               work(call) / how.speed + weights(call) * cost_of_reading() / KERNEL_SPEED)


cdef int run_marked(const Parts *parts, const cnn_conv *call, bint backward, Precision of, int64_t marked) except -1:
    """Compute directly the tiles that the kernels of the single part have omitted."""
    cdef Parts direct = Parts(NULL, parts.pack, marked, True)
    cdef Packed packed = Packed(backward)
    cdef int64_t tile, number = 0
    direct.part = <cnn_correlation *> malloc(marked * sizeof(cnn_correlation))
    if direct.part == NULL:
        raise MemoryError("no memory to describe a convolution")
    try:
        pack_weights(parts, call, &TILES, of, packed)
        for tile in range(cnn_winograd_start(parts.part, 4)):
            if parts.part.skip[tile]:
                direct_tile(parts.part, tile, of.itemsize, direct.part + number)
                number += 1
        run_packed(&direct, call, &TILES, of)
    finally:
        free(direct.part)
    return 0


cdef void read_weights(const Parts *parts, const cnn_conv *call) noexcept nogil:
    """Let the kernels of the single part read the caller's weights and bias in place."""
    cdef cnn_correlation *p = parts.part
    p.w.data, p.w.stride[0], p.w.stride[1] = <void *> parts.pack.w, parts.pack.output_stride, parts.pack.input_stride
    p.w_group, p.bias, p.bias_stride = parts.pack.group_stride, call.b.data, call.b.stride[0]


cdef int pack_weights(const Parts *parts, const cnn_conv *call, const Correlator *how, Precision of, Packed packed) except -1:
    """Weights of all parts, followed by the bias, in the order of the kernels; unless ``packed`` has them already."""
    cdef cnn_pack *v
    cdef int64_t bytes = 0, number, units
    cdef char *memory
    for number in range(parts.count):
        v = parts.pack + number
        v.shared, v.form = how.shared, parts.part.form
        bytes += how.panels(v, of)
    units = units_of(parts.pack, of)
    packed.reserve(bytes + units * 2 * of.lanes * of.itemsize, of.lanes, how)
    memory = <char *> packed.memory + bytes
    for number in range(parts.count):
        v = parts.pack + number
        v.b, v.bias, v.bias_stride = call.b.data if number == 0 else NULL, memory, call.b.stride[0]
        parts.part[number].bias = memory if call.b.data != NULL else NULL
    memory = <char *> packed.memory
    for number in range(parts.count):
        v = parts.pack + number
        v.panels = parts.part[number].panels = memory
        bytes = how.panels(v, of)
        memory += bytes
        if not packed.filled:
            run(kernel(how.pack, of.number), v, units, 1, 0, <double> bytes / of.itemsize)
    packed.filled = True
    return 0


cdef int fill_result(const cnn_conv *call, int precision) except -1:
    """Write b, or 0, into every pixel of dx, for those that no window covers."""
    cdef cnn_correlation p
    cdef cnn_correlations calls
    p.y, p.bias, p.bias_stride = call.x, call.b.data, call.b.stride[0]
    calls.part, calls.parts = &p, 1
    return run(kernel(FILL, precision), &calls, p.y.shape[0] * p.y.shape[2] * p.y.shape[3], 16, 0,
               <double> p.y.shape[0] * p.y.shape[1] * p.y.shape[2] * p.y.shape[3] * p.y.shape[4])


cdef int run_reference(cnn_task task, cnn_conv *call, const cnn_tensor *result) except -1:
    return run(task, call, result.shape[0] * result.shape[1], 1, 0, work(call))


cdef double work(const cnn_conv *call):
    """Multiply-adds of a call."""
    cdef double total = <double> call.y.shape[0] * call.w.shape[0] * call.w.shape[1]
    cdef int axis
    for axis in range(2, 5):
        total *= call.y.shape[axis] * call.w.shape[axis]
    return total


cdef double weights(const cnn_conv *call):
    """The number of weights that a call reads."""
    cdef double total = 1
    cdef int axis
    for axis in range(5):
        total *= call.w.shape[axis]
    return total


def backward_bias(dy, db):
    """Write db: the sum of dy over images and pixels, for each of its channels."""
    cdef Tensor DY = Tensor(dy), DB = Tensor(db, True)
    cdef double additions = <double> DY.buffer.len // DY.buffer.itemsize
    cdef cnn_task task = kernel(CHANNEL_SUMS, DY.precision)
    cdef cnn_conv call
    cdef cnn_correlation p
    cdef cnn_correlations calls
    cdef int outer
    if task != NULL:
        p.x = p.y = DY.view
        p.w = DB.view
        for outer in (3, 2, 0):
            merge_axes(&p.x, &p.y, outer, 4)
        calls.part, calls.parts = &p, 1
        run(task, &calls, ceil_div(p.y.shape[1], lanes(DY.precision)), 1, 0, additions)
        return
    call.y, call.b = DY.view, DB.view
    task = <cnn_task> conv_backward_bias[float] if DY.precision == CNN_FLOAT32 else <cnn_task> conv_backward_bias[double]
    run(task, &call, DB.view.shape[0], 1, 0, additions)


cdef int64_t SHORTEST_ROW = 64


def copy_layout(src, dst):
    """Copy an array into another of the same shape and any layout: NCHW to channels innermost and back."""
    if src.ndim > 5:
        dst[...] = src
        return
    cdef Tensor S = Tensor(src), D = Tensor(dst, True)
    cdef cnn_task task = kernel(COPY, S.precision)
    cdef cnn_copy call
    if task == NULL:
        dst[...] = src
        return
    call.src, call.dst = S.view, D.view
    if call.src.shape[4] < SHORTEST_ROW:     # longer rows are enough work for a task
        merge_axes(&call.src, &call.dst, 3, 4)
    run(task, &call, call.src.shape[0] * call.src.shape[2] * call.src.shape[3], 1, 0, <double> S.buffer.len // S.buffer.itemsize)
