"""Normalisation: by the statistics of sets of values (batch, group, instance, layer), and by neighbouring channels (LRN).

Sums are accumulated in float64 whatever the precision, in blocks that depend on the shapes alone and in a fixed order. C kernels
of the same names (norm.h) may replace the loops.
"""

from libc.math cimport fabs, pow, sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

import numpy as np

from cnncore.runtime.dispatch cimport CNN_FLOAT32, Tensor, cnn_task, cnn_tensor, kernel, lanes, real, run, tensor
from cnncore.runtime.layout cimport cell_offset, cells, channels_innermost, plane_offset, put, side_by_side, size, value
from cnncore.runtime.dispatch import kernel_number


# ── Normalisation by statistics ── Ioffe & Szegedy 2015; Ba, Kiros & Hinton 2016; Wu & He 2018 ──────────────────────────
#
#     Over each set of m values (a channel of all images; a group of channels of one image):
#
#     μ = Σ x / m        σ² = Σ (x − μ)² / m        x̂ = (x − μ) / √(σ² + ε)        y = w x̂ + b
#
#     db = Σ dy          dw = Σ dy x̂
#     dx = (w dy − Σ (w dy) / m − x̂ Σ (w dy x̂) / m) / √(σ² + ε)        w dy / √(σ² + ε) where μ and σ² are given constants
#
# There are four loops over blocks of cells: moments and transform forward, sums and gradient backward. Between them only a few
# numbers per channel are computed. `center` is μ in x's precision; its rounding error is added to shift, so that values far
# from 0 keep their precision.

cdef void norm_moments(cnn_norm *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Mean, and sum of squares around it, of each block."""
    cdef int64_t task, n, k, c, i, first, last
    cdef const real *x
    cdef double mean, square
    for task in range(begin, end):
        block_of(call, task, &n, &k, &c)
        first, last = k * call.block, min((k + 1) * call.block, cells(&call.x))
        x = <const real *> call.x.data + plane_offset(&call.x, n, c)
        mean = square = 0
        for i in range(first, last):
            mean += x[cell_offset(&call.x, i)]
        mean /= last - first
        for i in range(first, last):
            square += (x[cell_offset(&call.x, i)] - mean) ** 2
        call.first[(n * call.blocks + k) * call.x.shape[1] + c] = mean
        call.second[(n * call.blocks + k) * call.x.shape[1] + c] = square


cdef void norm_transform(cnn_norm *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """y = scale (x − center) + shift."""
    cdef int64_t task, n, k, c, i
    cdef const real *x
    cdef real *y
    cdef real center, scale, shift
    for task in range(begin, end):
        block_of(call, task, &n, &k, &c)
        x = <const real *> call.x.data + plane_offset(&call.x, n, c)
        y = <real *> call.y.data + plane_offset(&call.y, n, c)
        center = (<const real *> call.center)[n * call.image_step + c]
        scale = (<const real *> call.scale)[n * call.image_step + c]
        shift = (<const real *> call.shift)[n * call.image_step + c]
        for i in range(k * call.block, min((k + 1) * call.block, cells(&call.x))):
            y[cell_offset(&call.y, i)] = scale * (x[cell_offset(&call.x, i)] - center) + shift


cdef void norm_sums(cnn_norm *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Σ dy and Σ dy (x − center) of each block."""
    cdef int64_t task, n, k, c, i
    cdef const real *x
    cdef const real *dy
    cdef double center, plain, weighted
    for task in range(begin, end):
        block_of(call, task, &n, &k, &c)
        x = <const real *> call.x.data + plane_offset(&call.x, n, c)
        dy = <const real *> call.dy.data + plane_offset(&call.dy, n, c)
        center = (<const real *> call.center)[n * call.image_step + c]
        plain = weighted = 0
        for i in range(k * call.block, min((k + 1) * call.block, cells(&call.x))):
            plain += dy[cell_offset(&call.dy, i)]
            weighted += dy[cell_offset(&call.dy, i)] * (x[cell_offset(&call.x, i)] - center)
        call.first[(n * call.blocks + k) * call.x.shape[1] + c] = plain
        call.second[(n * call.blocks + k) * call.x.shape[1] + c] = weighted


cdef void norm_gradient(cnn_norm *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """dx = scale dy + slope (x − center) + shift."""
    cdef int64_t task, n, k, c, i
    cdef const real *x
    cdef const real *dy
    cdef real *dx
    cdef real center, scale, shift, slope
    for task in range(begin, end):
        block_of(call, task, &n, &k, &c)
        x = <const real *> call.x.data + plane_offset(&call.x, n, c)
        dy = <const real *> call.dy.data + plane_offset(&call.dy, n, c)
        dx = <real *> call.dx.data + plane_offset(&call.dx, n, c)
        center = (<const real *> call.center)[n * call.image_step + c]
        scale = (<const real *> call.scale)[n * call.image_step + c]
        shift = (<const real *> call.shift)[n * call.image_step + c]
        slope = (<const real *> call.slope)[n * call.image_step + c]
        for i in range(k * call.block, min((k + 1) * call.block, cells(&call.x))):
            dx[cell_offset(&call.dx, i)] = (
                scale * dy[cell_offset(&call.dy, i)] + (slope * (x[cell_offset(&call.x, i)] - center) + shift))


cdef inline void block_of(const cnn_norm *call, int64_t task, int64_t *n, int64_t *k, int64_t *c) noexcept nogil:
    """Image, block and channel of a task of the reference loops."""
    c[0] = task % call.x.shape[1]
    k[0] = task // call.x.shape[1] % call.blocks
    n[0] = task // call.x.shape[1] // call.blocks


cdef int MOMENTS = kernel_number("norm_moments")
cdef int TRANSFORM = kernel_number("norm_transform")
cdef int SUMS = kernel_number("norm_sums")
cdef int GRADIENT = kernel_number("norm_gradient")

cdef enum:
    BLOCK = 16384           # values in a block: small enough to be read twice from the cache, large enough for a task


cdef class Statistics:
    """μ and σ² of each set of a call, ordered by image and group."""
    cdef double *mean
    cdef double *variance
    cdef int64_t sets

    def __cinit__(self, int64_t sets):
        self.sets = sets
        self.mean = <double *> calloc(2 * sets + 1, sizeof(double))
        if self.mean == NULL:
            raise MemoryError(f"no memory for the statistics of {sets} sets")
        self.variance = self.mean + sets

    def __dealloc__(self):
        free(self.mean)

    def arrays(self):
        """μ and σ² as arrays."""
        cdef int64_t s
        both = np.empty((2, self.sets))
        cdef double[:, ::1] written = both
        for s in range(self.sets):
            written[0, s], written[1, s] = self.mean[s], self.variance[s]
        return both


cdef class Scratch:
    """Memory for a number of float64, freed with the object."""
    cdef double *values

    def __cinit__(self, int64_t count):
        self.values = <double *> malloc((count + 1) * sizeof(double))
        if self.values == NULL:
            raise MemoryError(f"no memory for {count} numbers")

    def __dealloc__(self):
        free(self.values)


cdef inline double per_channel(Tensor t, int64_t c, double otherwise) noexcept:
    """Number c of an optional array of one number per channel."""
    return otherwise if t is None else value(t, c * t.view.stride[0])


cdef class Normalization:
    """The sets of a call: of each image or of all together, and the groups of channels.

    Arrays of one number per channel (w, b, running statistics) may be None and have any strides.
    """
    cdef int64_t N, C, P            # images, channels, cells of a plane
    cdef int64_t groups             # per image, or of all images
    cdef bint together
    cdef int64_t width              # channels of a group

    def __init__(self, tuple shape, int64_t groups, bint together):
        self.N, self.C, self.groups, self.together = shape[0], shape[1], groups, together
        self.width = max(self.C // max(groups, 1), 1)
        self.P = 1
        for extent in shape[2:]:
            self.P *= extent

    cdef inline int64_t set_of(self, int64_t n, int64_t c) noexcept nogil:
        return (0 if self.together else n * self.groups) + c // self.width

    cdef inline int64_t sets(self) noexcept:
        return (1 if self.together else self.N) * self.groups

    @property
    def members(self):
        """m: values in each set."""
        return (self.N if self.together else 1) * (self.C // max(self.groups, 1)) * self.P

    def given(self, mean, variance):
        """Given statistics, one per channel; 0 and 1 if left out."""
        cdef Tensor M = None if mean is None else tensor(mean), V = None if variance is None else tensor(variance)
        cdef Statistics statistics = Statistics(self.C)
        cdef int64_t c
        for c in range(self.C):
            statistics.mean[c], statistics.variance[c] = per_channel(M, c, 0), per_channel(V, c, 1)
        return statistics

    def statistics(self, x):
        """μ and σ² of each set; 0 and 0 where a set is empty."""
        cdef Tensor X = tensor(x)
        cdef cnn_norm call
        cdef cnn_tensor *used[1]
        cdef Statistics found = Statistics(self.sets())
        cdef int64_t n, k, c, s, i, count
        cdef double m = max(self.members, 1)
        call.x, used[0] = X.view, &call.x
        cdef bint planes = self.cut(&call, used, 1)
        cdef Scratch parts = self.parts(&call)  # no-cython-lint
        self.run(&call, planes, MOMENTS, <void *> norm_moments[float], <void *> norm_moments[double], X.precision)
        # Combine the blocks: Σ (x − μ)² = Σ over the blocks of Σ (x − mean)² + count (mean − μ)².
        for n in range(self.N):
            for k in range(call.blocks):
                count = min(call.block, self.P - k * call.block)
                for c in range(self.C):
                    found.mean[self.set_of(n, c)] += call.first[(n * call.blocks + k) * self.C + c] * count / m
        for n in range(self.N):
            for k in range(call.blocks):
                count = min(call.block, self.P - k * call.block)
                for c in range(self.C):
                    s, i = self.set_of(n, c), (n * call.blocks + k) * self.C + c
                    found.variance[s] += (call.second[i] + count * (call.first[i] - found.mean[s]) ** 2) / m
        return found

    def forward(self, x, w, b, Statistics statistics, double eps, y):
        """Write y = w x̂ + b."""
        cdef Tensor X = tensor(x), Y = tensor(y, True)
        cdef Tensor W = None if w is None else tensor(w), B = None if b is None else tensor(b)
        cdef cnn_norm call
        cdef cnn_tensor *used[2]
        cdef Scratch coefficients = self.coefficients(&call, X.precision)  # no-cython-lint
        cdef int64_t n, c, s
        call.x, call.y = X.view, Y.view
        used[0], used[1] = &call.x, &call.y
        for n in range(1 if self.together else self.N):
            for c in range(self.C):
                s = self.set_of(n, c)
                self.set_coefficients(&call, X.precision, n * self.C + c, statistics.mean[s],
                                      per_channel(W, c, 1) * pow(statistics.variance[s] + eps, -0.5), per_channel(B, c, 0), 0)
        self.run(&call, self.cut(&call, used, 2), TRANSFORM, <void *> norm_transform[float],
                 <void *> norm_transform[double], X.precision)

    def backward(self, x, w, Statistics statistics, double eps, bint constant, dy, dx, dw, db):
        """Write dx, dw and db (None: not needed). ``constant``: μ and σ² do not depend on x."""
        cdef Tensor X = tensor(x), DY = tensor(dy), W = None if w is None else tensor(w), DX, result
        cdef cnn_norm call
        cdef cnn_tensor *used[3]
        cdef int64_t images = 1 if self.together else self.N, sets = self.sets()
        cdef Scratch coefficients = self.coefficients(&call, X.precision), parts, sums = Scratch(3 * sets + 2 * self.C)  # no-cython-lint
        cdef double *inverse = sums.values                  # 1 / √(σ² + ε), Σ w dy and Σ w dy x̂ of each set
        cdef double *plain = inverse + sets
        cdef double *weighted = plain + sets
        cdef double *DW = weighted + sets                   # Σ dy x̂ and Σ dy of each channel
        cdef double *DB = DW + self.C
        cdef double m = max(self.members, 1)
        cdef int64_t n, c, s
        memset(inverse, 0, (3 * sets + 2 * self.C) * sizeof(double))
        for s in range(sets):
            inverse[s] = pow(statistics.variance[s] + eps, -0.5)
        call.x, call.dy = X.view, DY.view
        used[0], used[1], used[2] = &call.x, &call.dy, &call.dx
        if not (constant and dw is None and db is None):
            for n in range(images):
                for c in range(self.C):
                    self.set_coefficients(&call, X.precision, n * self.C + c, statistics.mean[self.set_of(n, c)], 0, 0, 0)
            planes = self.cut(&call, used, 2)
            parts = self.parts(&call)  # no-cython-lint
            self.run(&call, planes, SUMS, <void *> norm_sums[float], <void *> norm_sums[double], X.precision)
            self.gather(&call, X.precision, statistics.mean, inverse, W, plain, weighted, DW, DB)
            if dw is not None:
                result = tensor(dw, True)
                for c in range(self.C):
                    put(result, c * result.view.stride[0], DW[c])
            if db is not None:
                result = tensor(db, True)
                for c in range(self.C):
                    put(result, c * result.view.stride[0], DB[c])
        if dx is None:
            return
        DX = tensor(dx, True)
        call.x, call.dy, call.dx = X.view, DY.view, DX.view
        for n in range(images):
            for c in range(self.C):
                s = self.set_of(n, c)
                self.set_coefficients(
                    &call, X.precision, n * self.C + c, statistics.mean[s], per_channel(W, c, 1) * inverse[s],
                    0 if constant else -inverse[s] * plain[s] / m,
                    0 if constant else -inverse[s] * inverse[s] * weighted[s] / m, True)
        self.run(&call, self.cut(&call, used, 3), GRADIENT, <void *> norm_gradient[float],
                 <void *> norm_gradient[double], X.precision)

    cdef void gather(self, const cnn_norm *call, int precision, const double *mean, const double *inverse, Tensor w,
                     double *plain, double *weighted, double *dw, double *db) noexcept:
        """Sums of the blocks into Σ w dy and Σ w dy x̂ of each set, and dw and db of each channel."""
        cdef int64_t n, k, c, s, i
        cdef double sum_dy, sum_dyx, weight
        for n in range(self.N):
            for k in range(call.blocks):
                for c in range(self.C):
                    s, i = self.set_of(n, c), (n * call.blocks + k) * self.C + c
                    sum_dy = call.first[i]
                    sum_dyx = (call.second[i] - (mean[s] - rounded(call.center, precision, n * call.image_step + c)) * sum_dy
                               ) * inverse[s]
                    weight = per_channel(w, c, 1)
                    db[c] += sum_dy
                    dw[c] += sum_dyx
                    plain[s] += weight * sum_dy
                    weighted[s] += weight * sum_dyx

    cdef Scratch coefficients(self, cnn_norm *call, int precision):
        """Memory for μ, scale, shift and slope per image and channel, in the call's precision."""
        cdef int64_t images = 1 if self.together else self.N, bytes_ = images * self.C * (4 if precision == CNN_FLOAT32 else 8)
        cdef Scratch memory = Scratch(4 * images * self.C)
        cdef char *data = <char *> memory.values
        call.center, call.scale, call.shift, call.slope = data, data + bytes_, data + 2 * bytes_, data + 3 * bytes_
        call.image_step = 0 if self.together else self.C
        return memory

    cdef void set_coefficients(self, cnn_norm *call, int precision, int64_t i, double center, double scale, double shift,
                               double slope, bint gradient=False) noexcept:
        """Coefficients number i, rounded; the rounding error of μ is added to the shift."""
        store(<void *> call.center, precision, i, center)
        store(<void *> call.scale, precision, i, scale)
        store(<void *> call.slope, precision, i, slope)
        # The factor of x − center.
        shift -= (center - rounded(call.center, precision, i)) * (slope if gradient else scale)
        store(<void *> call.shift, precision, i, shift)

    cdef Scratch parts(self, cnn_norm *call):
        """Memory for two sums per block and channel."""
        cdef int64_t count = self.N * call.blocks * self.C
        cdef Scratch memory = Scratch(2 * count)
        call.first, call.second = memory.values, memory.values + count
        return memory

    cdef int run(self, cnn_norm *call, bint planes, int number, void *reference_f32, void *reference_f64,  # no-cython-lint
                 int precision) except -1:
        """Run one of the four loops over the tensors it uses; by a kernel if there is one for their layouts."""
        cdef cnn_task task = kernel(number, precision)
        cdef int64_t tasks = self.N * call.blocks
        if task == NULL or not (call.channels_last or planes):
            task = <cnn_task> (reference_f32 if precision == CNN_FLOAT32 else reference_f64)
            call.channels_last = False
        if call.channels_last:
            return run(task, call, tasks, 1, 0, 2 * size(&call.x))
        return run(task, call, tasks * self.C, 1 + BLOCK // max(self.P, 1), 0, 2 * size(&call.x))

    cdef bint cut(self, cnn_norm *call, cnn_tensor **used, int count) noexcept:
        """Split the planes into blocks; returns whether the cells of all planes are contiguous."""
        cdef bint planes = side_by_side(used, count)
        call.channels_last = channels_innermost(used, count)
        call.block = max(BLOCK // self.C, 16) if call.channels_last else BLOCK
        call.blocks = (self.P + call.block - 1) // call.block
        return planes


cdef inline double rounded(const void *numbers, int precision, int64_t i) noexcept:
    return (<const float *> numbers)[i] if precision == CNN_FLOAT32 else (<const double *> numbers)[i]


cdef inline void store(void *numbers, int precision, int64_t i, double number) noexcept:
    if precision == CNN_FLOAT32:
        (<float *> numbers)[i] = <float> number
    else:
        (<double *> numbers)[i] = number


# ── Local response normalisation ── Krizhevsky, Sutskever & Hinton 2012 ────────────────────────────────────────────────
#
#     s_c = k + (α/n) Σ x_j²  over the n channels j from c − ⌊n/2⌋ to c + ⌊(n − 1)/2⌋ that exist        y_c = x_c s_c^−β
#
#     dx_c = dy_c s_c^−β − 2 (α/n) β x_c Σ dy_j y_j / s_j   over the channels j whose sum holds c: c − ⌊(n − 1)/2⌋ to c + ⌊n/2⌋
#
# In float64. Powers of the squares of values above 1e50 could leave its range: x is then scaled by q = 1 / max |x|, and
# s = (k q² + (α/n) Σ (q x)²) / q² keeps x s^−β = q x (…)^−β q^(2β − 1) as exact as it is.

cdef double shrinking(const real *x, const cnn_tensor *t) noexcept nogil:
    """q: 1 for ordinary values, else 1 / max |x| over the channels of a cell."""
    cdef double largest = 0
    cdef int64_t c
    for c in range(t.shape[1]):
        largest = max(largest, fabs(<double> x[c * t.stride[1]]))
    return 1 / largest if largest > 1e50 else 1


cdef inline double squares(const cnn_lrn *call, const real *x, int64_t c, double q) noexcept nogil:
    """q² s_c."""
    cdef double sum_ = 0
    cdef int64_t j
    for j in range(max(c - call.before, 0), min(c + call.after + 1, call.x.shape[1])):
        sum_ += (q * x[j * call.x.stride[1]]) ** 2
    return call.k * q * q + call.alpha * sum_


cdef void lrn_forward(cnn_lrn *call, int64_t begin, int64_t end, double *scratch, const real *kind) noexcept nogil:
    cdef int64_t task, cell, c
    cdef const real *x
    cdef real *y
    cdef double q
    for task in range(begin, end):
        for cell in range(task % call.blocks * call.block, min((task % call.blocks + 1) * call.block, cells(&call.x))):
            x = <const real *> call.x.data + task // call.blocks * call.x.stride[0] + cell_offset(&call.x, cell)
            y = <real *> call.y.data + task // call.blocks * call.y.stride[0] + cell_offset(&call.y, cell)
            q = shrinking(x, &call.x)
            for c in range(call.x.shape[1]):
                y[c * call.y.stride[1]] = <real> (
                    (q * x[c * call.x.stride[1]]) * pow(squares(call, x, c, q), -call.beta) * pow(q, 2 * call.beta - 1))


cdef void lrn_backward(cnn_lrn *call, int64_t begin, int64_t end, double *scratch, const real *kind) noexcept nogil:
    cdef int64_t task, cell, c, j
    cdef int64_t C = call.x.shape[1]
    cdef const real *x
    cdef const real *dy
    cdef real *dx
    cdef double *power = scratch            # s_j^−β
    cdef double *ratio = scratch + C        # dy_j y_j / s_j, without a factor q
    cdef double q, s, sum_
    for task in range(begin, end):
        for cell in range(task % call.blocks * call.block, min((task % call.blocks + 1) * call.block, cells(&call.x))):
            x = <const real *> call.x.data + task // call.blocks * call.x.stride[0] + cell_offset(&call.x, cell)
            dy = <const real *> call.dy.data + task // call.blocks * call.dy.stride[0] + cell_offset(&call.dy, cell)
            dx = <real *> call.dx.data + task // call.blocks * call.dx.stride[0] + cell_offset(&call.dx, cell)
            q = shrinking(x, &call.x)
            for j in range(C):
                s = squares(call, x, j, q)
                power[j] = pow(s, -call.beta) * pow(q, 2 * call.beta)
                ratio[j] = dy[j * call.dy.stride[1]] * (q * x[j * call.x.stride[1]]) * power[j] / s
            for c in range(C):
                sum_ = 0
                for j in range(max(c - call.after, 0), min(c + call.before + 1, C)):
                    sum_ += ratio[j]
                dx[c * call.dx.stride[1]] = <real> (
                    dy[c * call.dy.stride[1]] * power[c]
                    - 2 * call.alpha * call.beta * (q * x[c * call.x.stride[1]]) * sum_)


cdef void lrn_forward_f32(cnn_lrn *call, int64_t begin, int64_t end, void *scratch) noexcept nogil:
    lrn_forward[float](call, begin, end, <double *> scratch, NULL)

cdef void lrn_forward_f64(cnn_lrn *call, int64_t begin, int64_t end, void *scratch) noexcept nogil:
    lrn_forward[double](call, begin, end, <double *> scratch, NULL)

cdef void lrn_backward_f32(cnn_lrn *call, int64_t begin, int64_t end, void *scratch) noexcept nogil:
    lrn_backward[float](call, begin, end, <double *> scratch, NULL)

cdef void lrn_backward_f64(cnn_lrn *call, int64_t begin, int64_t end, void *scratch) noexcept nogil:
    lrn_backward[double](call, begin, end, <double *> scratch, NULL)


# ── The same within channels ── Jia et al. 2014 (Caffe, WITHIN_CHANNEL) ────────────────────────────────────────────────
#
#     s_i = k + a Σ x_j²   over the n × … × n cells j around i that exist, a = α / n^rank        y_i = x_i s_i^−β
#
#     dx_i = dy_i s_i^−β − 2 a β x_i Σ dy_j y_j / s_j   over the cells j whose sum holds i
#
# In float64, axis by axis: a sum over a box is sums along W of sums along H of sums along D. No running sum that subtracts again.

cdef inline void line_sums(double *values, double *line, int64_t extent, int64_t step, int64_t before,
                           int64_t after) noexcept nogil:
    """The same along one axis: ``step`` adjacent values belong to each of its places, so whole rows of numbers are added."""
    cdef int64_t i, j, number
    for i in range(extent):
        for number in range(step):
            line[i * step + number] = 0
        for j in range(max(i - before, 0), min(i + after + 1, extent)):
            for number in range(step):
                line[i * step + number] += values[j * step + number]
    for i in range(extent * step):
        values[i] = line[i]


cdef void box_sums(double *values, double *line, const cnn_tensor *t, int64_t before, int64_t after) noexcept nogil:
    """Replace each cell of a plane, in row-major order, by the sum from ``before`` cells before it to ``after`` after it."""
    cdef int64_t axis, outer, step = 1
    for axis in range(4, 1, -1):
        if t.shape[axis] > 1:
            for outer in range(cells(t) // (t.shape[axis] * step)):
                line_sums(values + outer * t.shape[axis] * step, line, t.shape[axis], step, before, after)
        step *= t.shape[axis]


cdef inline double power_of_sum(double s, double beta) noexcept nogil:
    """s^−β."""
    return 1 / (sqrt(s) * sqrt(sqrt(s))) if beta == 0.75 else 1 / sqrt(s) if beta == 0.5 else pow(s, -beta)


cdef double squared_plane(const cnn_lrn *call, const real *x, double *values) noexcept nogil:
    """(q x)² of every cell; returns q: 1, or 1 / max |x| where a square could leave float64's range."""
    cdef double largest = 0, q = 1
    cdef int64_t i
    for i in range(cells(&call.x)):
        values[i] = x[cell_offset(&call.x, i)]
        largest = max(largest, fabs(values[i]))
    if largest > 1e50:
        q = 1 / largest
    for i in range(cells(&call.x)):
        values[i] = (q * values[i]) * (q * values[i])
    return q


cdef void plane_norm_forward(cnn_lrn *call, int64_t begin, int64_t end, double *scratch, const real *kind) noexcept nogil:
    """Tasks are planes (n, c)."""
    cdef int64_t task, i, P = cells(&call.x)
    cdef double *sums = scratch
    cdef const real *x
    cdef real *y
    cdef double q, rest
    for task in range(begin, end):
        x = <const real *> call.x.data + plane_offset(&call.x, task // call.x.shape[1], task % call.x.shape[1])
        y = <real *> call.y.data + plane_offset(&call.y, task // call.x.shape[1], task % call.x.shape[1])
        q = squared_plane(call, x, sums)
        box_sums(sums, scratch + 2 * P, &call.x, call.before, call.after)
        rest = 1 if q == 1 else pow(q, 2 * call.beta - 1)
        for i in range(P):
            sums[i] = power_of_sum(call.k * q * q + call.alpha * sums[i], call.beta) * rest
        for i in range(P):
            y[cell_offset(&call.y, i)] = <real> ((q * x[cell_offset(&call.x, i)]) * sums[i])


cdef void plane_norm_backward(cnn_lrn *call, int64_t begin, int64_t end, double *scratch, const real *kind) noexcept nogil:
    """Tasks are planes (n, c)."""
    cdef int64_t task, i, P = cells(&call.x)
    cdef double *sums = scratch         # s, then s^−β
    cdef double *ratio = scratch + P    # dy y / s, without a factor q
    cdef const real *x
    cdef const real *dy
    cdef real *dx
    cdef double q, rest, s
    for task in range(begin, end):
        x = <const real *> call.x.data + plane_offset(&call.x, task // call.x.shape[1], task % call.x.shape[1])
        dy = <const real *> call.dy.data + plane_offset(&call.dy, task // call.x.shape[1], task % call.x.shape[1])
        dx = <real *> call.dx.data + plane_offset(&call.dx, task // call.x.shape[1], task % call.x.shape[1])
        q = squared_plane(call, x, sums)
        box_sums(sums, scratch + 2 * P, &call.x, call.before, call.after)
        rest = 1 if q == 1 else pow(q, 2 * call.beta)
        for i in range(P):
            s = call.k * q * q + call.alpha * sums[i]
            sums[i] = power_of_sum(s, call.beta) * rest
            ratio[i] = dy[cell_offset(&call.dy, i)] * (q * x[cell_offset(&call.x, i)]) * (sums[i] / s)
        box_sums(ratio, scratch + 2 * P, &call.x, call.after, call.before)
        for i in range(P):
            dx[cell_offset(&call.dx, i)] = <real> (
                dy[cell_offset(&call.dy, i)] * sums[i]
                - 2 * call.alpha * call.beta * (q * x[cell_offset(&call.x, i)]) * ratio[i])


cdef void plane_norm_forward_f32(cnn_lrn *call, int64_t begin, int64_t end, void *scratch) noexcept nogil:
    plane_norm_forward[float](call, begin, end, <double *> scratch, NULL)

cdef void plane_norm_forward_f64(cnn_lrn *call, int64_t begin, int64_t end, void *scratch) noexcept nogil:
    plane_norm_forward[double](call, begin, end, <double *> scratch, NULL)

cdef void plane_norm_backward_f32(cnn_lrn *call, int64_t begin, int64_t end, void *scratch) noexcept nogil:
    plane_norm_backward[float](call, begin, end, <double *> scratch, NULL)

cdef void plane_norm_backward_f64(cnn_lrn *call, int64_t begin, int64_t end, void *scratch) noexcept nogil:
    plane_norm_backward[double](call, begin, end, <double *> scratch, NULL)


cdef class PlaneResponseNormalization:
    """Response normalisation within channels: s = k + alpha Σ x² over the box of cells around each."""
    cdef cnn_lrn numbers

    def __init__(self, int64_t before, int64_t after, double alpha, double beta, double k):
        self.numbers.before, self.numbers.after = before, after
        self.numbers.alpha, self.numbers.beta, self.numbers.k = alpha, beta, k

    def forward(self, x, y):
        """Write y."""
        cdef Tensor X = tensor(x), Y = tensor(y, True)
        cdef cnn_lrn call = self.numbers
        call.x, call.y = X.view, Y.view
        call.reference = (<cnn_task> plane_norm_forward_f32 if X.precision == CNN_FLOAT32
                           else <cnn_task> plane_norm_forward_f64)
        self.run(&call, [&call.x, &call.y], 2, PLANE_NORM_FORWARD, X.precision)

    def backward(self, x, dy, dx):
        """Write dx."""
        cdef Tensor X = tensor(x), DY = tensor(dy), DX = tensor(dx, True)
        cdef cnn_lrn call = self.numbers
        call.x, call.dy, call.dx = X.view, DY.view, DX.view
        call.reference = (<cnn_task> plane_norm_backward_f32 if X.precision == CNN_FLOAT32
                           else <cnn_task> plane_norm_backward_f64)
        self.run(&call, [&call.x, &call.dy, &call.dx], 3, PLANE_NORM_BACKWARD, X.precision)

    cdef int run(self, cnn_lrn *call, cnn_tensor **used, int count, int number, int precision) except -1:  # no-cython-lint
        cdef cnn_task task = kernel(number, precision)
        cdef int64_t C = call.x.shape[1], P = cells(&call.x)
        cdef bint rows = True, channels = C > 1
        cdef int i
        for i in range(count):
            rows = rows and (used[i].stride[4] == 1 or used[i].shape[4] == 1)
            channels = channels and used[i].stride[1] == 1
        call.block = min(C, lanes(precision)) if channels else 1
        call.blocks = (C + call.block - 1) // call.block
        if task == NULL or not (channels or rows):
            task, call.block, call.blocks = call.reference, 1, C
        # Squares, ratios and powers of a task; the reference needs three planes in float64.
        return run(task, call, call.x.shape[0] * call.blocks, 1, 3 * P * max(call.block, 2) * sizeof(double),
                   20 * size(&call.x))


cdef int PLANE_NORM_FORWARD = kernel_number("plane_norm_forward")
cdef int PLANE_NORM_BACKWARD = kernel_number("plane_norm_backward")


cdef int LRN_FORWARD = kernel_number("lrn_forward")
cdef int LRN_BACKWARD = kernel_number("lrn_backward")


cdef class ResponseNormalization:
    """LRN with its numbers: s = k + alpha Σ x² over ``before`` channels, the channel itself, and ``after`` channels."""
    cdef int64_t before, after
    cdef double alpha, beta, k

    def __init__(self, int64_t before, int64_t after, double alpha, double beta, double k):
        self.before, self.after, self.alpha, self.beta, self.k = before, after, alpha, beta, k

    def forward(self, x, y):
        """Write y."""
        cdef Tensor X = tensor(x), Y = tensor(y, True)
        cdef cnn_lrn call
        call.x, call.y = X.view, Y.view
        call.reference = <cnn_task> lrn_forward_f32 if X.precision == CNN_FLOAT32 else <cnn_task> lrn_forward_f64
        self.run(&call, [&call.x, &call.y], 2, LRN_FORWARD, X.precision)

    def backward(self, x, dy, dx):
        """Write dx."""
        cdef Tensor X = tensor(x), DY = tensor(dy), DX = tensor(dx, True)
        cdef cnn_lrn call
        call.x, call.dy, call.dx = X.view, DY.view, DX.view
        call.reference = <cnn_task> lrn_backward_f32 if X.precision == CNN_FLOAT32 else <cnn_task> lrn_backward_f64
        self.run(&call, [&call.x, &call.dy, &call.dx], 3, LRN_BACKWARD, X.precision)

    cdef int run(self, cnn_lrn *call, cnn_tensor **used, int count, int number, int precision) except -1:  # no-cython-lint
        cdef cnn_task task = kernel(number, precision)
        cdef int64_t C = call.x.shape[1]
        cdef bint planes = side_by_side(used, count)
        call.channels_last = channels_innermost(used, count)
        call.before, call.after = self.before, self.after
        call.alpha, call.beta, call.k = self.alpha, self.beta, self.k
        # As many cells of all channels as stay in the cache while they are read twice; of planes long runs, as each has its page.
        call.block = min(max((4096 if call.channels_last else 32768) // C // 16 * 16, 16), cells(&call.x))
        call.blocks = (cells(&call.x) + call.block - 1) // call.block
        if task == NULL or not (call.channels_last or planes):
            task = call.reference
        # Squares, ratios and powers of a block with its padding, and two lines; the reference needs less.
        cdef int64_t padded_size = call.block * (C + min(call.before, C) + min(call.after, C))
        cdef int64_t scratch = (3 * padded_size + 2 * max(C, call.block)) * sizeof(double)
        return run(task, call, call.x.shape[0] * call.blocks, 1, scratch, 30 * size(&call.x))
