"""Reductions: one value of y for all values of x along some axes.

Each section gives the formula, its gradient, and three functions: ``accumulate`` a value, ``finalize`` to y, and ``slope``, the
derivative of y with respect to one of the values. The loop over an output's values is written once, at the end.
"""

from libc.math cimport expl as exp, fabsl as fabs, logl as log, sqrtl as sqrt
from libc.stdint cimport int64_t

from cnncore.runtime.dispatch cimport CNN_FLOAT32, Tensor, cnn_task, cnn_tensor, real, run, tensor


cdef struct State:
    long double total
    long double largest     # or the smallest
    int64_t count           # how many values
    int64_t winner          # the position of the largest or smallest
    int64_t zeros


ctypedef void (*Accumulate)(State *at, double x) noexcept nogil
ctypedef long double (*Finalize)(const State *at) noexcept nogil
ctypedef long double (*Slope)(const State *at, int64_t position, double x) noexcept nogil


cdef class Reduction:
    """The three functions of a reduction."""
    cdef Accumulate accumulate
    cdef Finalize finalize
    cdef Slope slope
    cdef readonly str name

    def __repr__(self):
        return f"<reduction {self.name}>"


cdef Reduction reduction(name, Accumulate accumulate, Finalize finalize, Slope slope):
    cdef Reduction r = Reduction()
    r.name, r.accumulate, r.finalize, r.slope = name, accumulate, finalize, slope
    return r


# ── Sums ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     sum             y = Σ x                 ∂y/∂x = 1
#     mean            y = Σ x / n             ∂y/∂x = 1 / n
#     l1 norm         y = Σ |x|               ∂y/∂x = sign x
#     sum of squares  y = Σ x²                ∂y/∂x = 2 x
#     l2 norm         y = √(Σ x²)             ∂y/∂x = x / y, 0 where y = 0
#     log of a sum    y = log Σ x             ∂y/∂x = 1 / Σ x

cdef void accumulate_plain(State *at, double x) noexcept nogil:
    at.total += x

cdef long double finalize_total(const State *at) noexcept nogil:
    return at.total

cdef long double slope_one(const State *at, int64_t position, double x) noexcept nogil:
    return 1

cdef long double finalize_mean(const State *at) noexcept nogil:
    return at.total / at.count

cdef long double slope_mean(const State *at, int64_t position, double x) noexcept nogil:
    return 1 / <long double> at.count

cdef void accumulate_magnitude(State *at, double x) noexcept nogil:
    at.total += fabs(x)

cdef long double slope_sign(const State *at, int64_t position, double x) noexcept nogil:
    return (x > 0) - (x < 0)

cdef void accumulate_square(State *at, double x) noexcept nogil:
    at.total += <long double> x * x

cdef long double slope_square(const State *at, int64_t position, double x) noexcept nogil:
    return 2 * <long double> x

cdef long double finalize_root(const State *at) noexcept nogil:
    return sqrt(at.total)

cdef long double slope_root(const State *at, int64_t position, double x) noexcept nogil:
    return x / sqrt(at.total) if at.total else 0

cdef long double finalize_log(const State *at) noexcept nogil:
    return log(at.total)

cdef long double slope_log(const State *at, int64_t position, double x) noexcept nogil:
    return 1 / at.total

SUM = reduction("sum", accumulate_plain, finalize_total, slope_one)
MEAN = reduction("mean", accumulate_plain, finalize_mean, slope_mean)
L1 = reduction("l1", accumulate_magnitude, finalize_total, slope_sign)
SUM_SQUARE = reduction("sum_square", accumulate_square, finalize_total, slope_square)
L2 = reduction("l2", accumulate_square, finalize_root, slope_root)
LOG_SUM = reduction("log_sum", accumulate_plain, finalize_log, slope_log)


# ── Log-sum-exp ───────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = log Σ eˣ = m + log Σ e^{x − m},  m = max x
#     ∂y/∂x = e^{x − y} = e^{x − m} / Σ e^{x − m}

cdef void accumulate_exponential(State *at, double x) noexcept nogil:
    if at.count == 0 or x > at.largest:
        at.total = at.total * exp(at.largest - x) + 1 if at.count and at.largest > -1e300 else 1
        at.largest = x
    elif x == at.largest:       # two infinities too
        at.total += 1
    else:
        at.total += exp(x - at.largest)

cdef long double finalize_log_of_exponentials(const State *at) noexcept nogil:
    return at.largest + log(at.total)

cdef long double slope_exponential(const State *at, int64_t position, double x) noexcept nogil:
    return (1 if x == at.largest else exp(x - at.largest)) / at.total

LOG_SUM_EXP = reduction("log_sum_exp", accumulate_exponential, finalize_log_of_exponentials, slope_exponential)


# ── Product ───────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y      = Π xᵢ
#     ∂y/∂xᵢ = Π xⱼ over all others           total: of those that are not 0

cdef void accumulate_factor(State *at, double x) noexcept nogil:
    if at.count == 0:
        at.total = 1
    if x == 0:
        at.zeros += 1
    else:
        at.total *= x

cdef long double finalize_product(const State *at) noexcept nogil:
    return 0 * at.total if at.zeros else at.total

cdef long double slope_product(const State *at, int64_t position, double x) noexcept nogil:
    if at.zeros > 1 or (at.zeros == 1 and x != 0):
        return 0
    return at.total if x == 0 else at.total / x

PROD = reduction("prod", accumulate_factor, finalize_product, slope_product)


# ── Largest and smallest ──────────────────────────────────────────────────────────────────────────────────────────────
#
#     y      = max x (min x)                  a NaN wins
#     ∂y/∂xᵢ = 1 for the first winner in row-major order, else 0

cdef void accumulate_larger(State *at, double x) noexcept nogil:
    if at.count == 0 or (x > at.largest or x != x) and at.largest == at.largest:
        at.largest, at.winner = x, at.count

cdef void accumulate_smaller(State *at, double x) noexcept nogil:
    if at.count == 0 or (x < at.largest or x != x) and at.largest == at.largest:
        at.largest, at.winner = x, at.count

cdef long double finalize_winner(const State *at) noexcept nogil:
    return at.largest

cdef long double slope_winner(const State *at, int64_t position, double x) noexcept nogil:
    return position == at.winner

MAX = reduction("max", accumulate_larger, finalize_winner, slope_winner)
MIN = reduction("min", accumulate_smaller, finalize_winner, slope_winner)


# ── The loop ──────────────────────────────────────────────────────────────────────────────────────────────────────────

cdef struct Call:
    cnn_tensor x, y, dy, dx     # y has extent 1 along the axes that are reduced
    Accumulate accumulate
    Finalize finalize
    Slope slope


cdef inline void index_of(const cnn_tensor *y, int64_t task, int64_t *index) noexcept nogil:
    """The index of output number ``task``."""
    cdef int axis
    for axis in range(4, -1, -1):
        index[axis] = task % y.shape[axis]
        task //= y.shape[axis]


cdef inline int64_t offset(const cnn_tensor *t, const int64_t *index) noexcept nogil:
    return (index[0] * t.stride[0] + index[1] * t.stride[1] + index[2] * t.stride[2] + index[3] * t.stride[3]
            + index[4] * t.stride[4])


cdef inline int64_t extent(const Call *call, int axis) noexcept nogil:
    """How many values along an axis belong to one output."""
    return call.x.shape[axis] if call.y.shape[axis] == 1 else 1


cdef void accumulate_all(const Call *call, const real *x, State *at) noexcept nogil:
    """Accumulate the values of one output, in row-major order."""
    cdef int64_t n, c, d, h, w
    at.total, at.largest, at.count, at.winner, at.zeros = 0, 0, 0, 0, 0
    for n in range(extent(call, 0)):
        for c in range(extent(call, 1)):
            for d in range(extent(call, 2)):
                for h in range(extent(call, 3)):
                    for w in range(extent(call, 4)):
                        call.accumulate(at, x[n * call.x.stride[0] + c * call.x.stride[1] + d * call.x.stride[2]
                                        + h * call.x.stride[3] + w * call.x.stride[4]])
                        at.count += 1


cdef void reduce_forward(const Call *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are outputs."""
    cdef int64_t task
    cdef int64_t[5] index
    cdef State at
    for task in range(begin, end):
        index_of(&call.y, task, index)
        accumulate_all(call, <const real *> call.x.data + offset(&call.x, index), &at)
        (<real *> call.y.data)[offset(&call.y, index)] = <real> call.finalize(&at)


cdef void reduce_backward(const Call *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are outputs; their values receive dx = slope · dy."""
    cdef int64_t task, n, c, d, h, w, position
    cdef int64_t[5] index
    cdef const real *x
    cdef real *dx
    cdef real dy
    cdef State at
    for task in range(begin, end):
        index_of(&call.dy, task, index)
        x = <const real *> call.x.data + offset(&call.x, index)
        dx = <real *> call.dx.data + offset(&call.dx, index)
        dy = (<const real *> call.dy.data)[offset(&call.dy, index)]
        accumulate_all(call, x, &at)
        position = 0
        for n in range(extent(call, 0)):
            for c in range(extent(call, 1)):
                for d in range(extent(call, 2)):
                    for h in range(extent(call, 3)):
                        for w in range(extent(call, 4)):
                            dx[n * call.dx.stride[0] + c * call.dx.stride[1] + d * call.dx.stride[2]
                               + h * call.dx.stride[3] + w * call.dx.stride[4]] = <real> (dy * call.slope(
                                   &at, position, x[n * call.x.stride[0] + c * call.x.stride[1] + d * call.x.stride[2]
                                                    + h * call.x.stride[3] + w * call.x.stride[4]]))
                            position += 1


cdef int64_t values(const cnn_tensor *t) noexcept:
    return t.shape[0] * t.shape[1] * t.shape[2] * t.shape[3] * t.shape[4]


def forward(Reduction r, x, y):
    """Write y, which has as many axes as x, and extent 1 along those that are reduced."""
    cdef Tensor X = tensor(x), Y = tensor(y, True)
    cdef Call call
    call.x, call.y = X.view, Y.view
    call.accumulate, call.finalize, call.slope = r.accumulate, r.finalize, r.slope
    run(<cnn_task> reduce_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> reduce_forward[double],
        &call, values(&Y.view), 1 + 4096 * values(&Y.view) // (1 + values(&X.view)), 0, 4 * values(&X.view))


def backward(Reduction r, x, dy, dx):
    """Write dx; dy has as many axes as x, and extent 1 along those that are reduced."""
    cdef Tensor X = tensor(x), DY = tensor(dy), DX = tensor(dx, True)
    cdef Call call
    call.x, call.dy, call.dx, call.y = X.view, DY.view, DX.view, DY.view
    call.accumulate, call.finalize, call.slope = r.accumulate, r.finalize, r.slope
    run(<cnn_task> reduce_backward[float] if X.precision == CNN_FLOAT32 else <cnn_task> reduce_backward[double],
        &call, values(&DY.view), 1 + 4096 * values(&DY.view) // (1 + values(&X.view)), 0, 8 * values(&X.view))
