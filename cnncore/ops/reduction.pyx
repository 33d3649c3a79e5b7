"""Reductions: one value of y for all values of x along some axes.

Each section gives the formula, its gradient, and three functions: ``take`` a value, ``give`` y, ``share`` of dy, which is the
slope with respect to one of the values. The loop over an output's values follows, once for all.
"""

from libc.math cimport expl as exp, fabsl as fabs, logl as log, sqrtl as sqrt
from libc.stdint cimport int64_t

from cnncore.ops.dispatch cimport CNN_FLOAT32, Tensor, cnn_task, cnn_tensor, real, run, tensor


cdef struct Progress:
    long double total
    long double largest     # or the smallest
    int64_t taken           # how many values
    int64_t winner          # the position of the largest or smallest
    int64_t zeros


ctypedef void (*Take)(Progress *at, double x) noexcept nogil
ctypedef long double (*Give)(const Progress *at) noexcept nogil
ctypedef long double (*Share)(const Progress *at, int64_t position, double x) noexcept nogil


cdef class Reduction:
    """The three functions of a reduction."""
    cdef Take take
    cdef Give give
    cdef Share share
    cdef readonly str name

    def __repr__(self):
        return f"<reduction {self.name}>"


cdef Reduction reduction(name, Take take, Give give, Share share):
    cdef Reduction r = Reduction()
    r.name, r.take, r.give, r.share = name, take, give, share
    return r


# ── Sums ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     sum             y = Σ x                 ∂y/∂x = 1
#     mean            y = Σ x / n             ∂y/∂x = 1 / n
#     l1 norm         y = Σ |x|               ∂y/∂x = sign x
#     sum of squares  y = Σ x²                ∂y/∂x = 2 x
#     l2 norm         y = √(Σ x²)             ∂y/∂x = x / y, 0 where y = 0
#     log of a sum    y = log Σ x             ∂y/∂x = 1 / Σ x

cdef void take_plain(Progress *at, double x) noexcept nogil:
    at.total += x

cdef long double give_total(const Progress *at) noexcept nogil:
    return at.total

cdef long double share_one(const Progress *at, int64_t position, double x) noexcept nogil:
    return 1

cdef long double give_mean(const Progress *at) noexcept nogil:
    return at.total / at.taken

cdef long double share_mean(const Progress *at, int64_t position, double x) noexcept nogil:
    return 1 / <long double> at.taken

cdef void take_magnitude(Progress *at, double x) noexcept nogil:
    at.total += fabs(x)

cdef long double share_sign(const Progress *at, int64_t position, double x) noexcept nogil:
    return (x > 0) - (x < 0)

cdef void take_square(Progress *at, double x) noexcept nogil:
    at.total += <long double> x * x

cdef long double share_square(const Progress *at, int64_t position, double x) noexcept nogil:
    return 2 * <long double> x

cdef long double give_root(const Progress *at) noexcept nogil:
    return sqrt(at.total)

cdef long double share_root(const Progress *at, int64_t position, double x) noexcept nogil:
    return x / sqrt(at.total) if at.total else 0

cdef long double give_log(const Progress *at) noexcept nogil:
    return log(at.total)

cdef long double share_log(const Progress *at, int64_t position, double x) noexcept nogil:
    return 1 / at.total

SUM = reduction("sum", take_plain, give_total, share_one)
MEAN = reduction("mean", take_plain, give_mean, share_mean)
L1 = reduction("l1", take_magnitude, give_total, share_sign)
SUM_SQUARE = reduction("sum_square", take_square, give_total, share_square)
L2 = reduction("l2", take_square, give_root, share_root)
LOG_SUM = reduction("log_sum", take_plain, give_log, share_log)


# ── Log-sum-exp ───────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = log Σ eˣ = m + log Σ e^{x − m},  m = max x
#     ∂y/∂x = e^{x − y} = e^{x − m} / Σ e^{x − m}

cdef void take_exponential(Progress *at, double x) noexcept nogil:
    if at.taken == 0 or x > at.largest:
        at.total = at.total * exp(at.largest - x) + 1 if at.taken and at.largest > -1e300 else 1
        at.largest = x
    elif x == at.largest:       # two infinities too
        at.total += 1
    else:
        at.total += exp(x - at.largest)

cdef long double give_log_of_exponentials(const Progress *at) noexcept nogil:
    return at.largest + log(at.total)

cdef long double share_exponential(const Progress *at, int64_t position, double x) noexcept nogil:
    return (1 if x == at.largest else exp(x - at.largest)) / at.total

LOG_SUM_EXP = reduction("log_sum_exp", take_exponential, give_log_of_exponentials, share_exponential)


# ── Product ───────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y      = Π xᵢ
#     ∂y/∂xᵢ = Π xⱼ over all others           total: of those that are not 0

cdef void take_factor(Progress *at, double x) noexcept nogil:
    if at.taken == 0:
        at.total = 1
    if x == 0:
        at.zeros += 1
    else:
        at.total *= x

cdef long double give_product(const Progress *at) noexcept nogil:
    return 0 * at.total if at.zeros else at.total

cdef long double share_product(const Progress *at, int64_t position, double x) noexcept nogil:
    if at.zeros > 1 or (at.zeros == 1 and x != 0):
        return 0
    return at.total if x == 0 else at.total / x

PROD = reduction("prod", take_factor, give_product, share_product)


# ── Largest and smallest ──────────────────────────────────────────────────────────────────────────────────────────────
#
#     y      = max x (min x)                  a NaN wins
#     ∂y/∂xᵢ = 1 for the first winner in row-major order, else 0

cdef void take_larger(Progress *at, double x) noexcept nogil:
    if at.taken == 0 or (x > at.largest or x != x) and at.largest == at.largest:
        at.largest, at.winner = x, at.taken

cdef void take_smaller(Progress *at, double x) noexcept nogil:
    if at.taken == 0 or (x < at.largest or x != x) and at.largest == at.largest:
        at.largest, at.winner = x, at.taken

cdef long double give_winner(const Progress *at) noexcept nogil:
    return at.largest

cdef long double share_winner(const Progress *at, int64_t position, double x) noexcept nogil:
    return position == at.winner

MAX = reduction("max", take_larger, give_winner, share_winner)
MIN = reduction("min", take_smaller, give_winner, share_winner)


# ── The loop ──────────────────────────────────────────────────────────────────────────────────────────────────────────

cdef struct Call:
    cnn_tensor x, y, dy, dx     # y has extent 1 along the axes that are reduced
    Take take
    Give give
    Share share


cdef inline void places(const cnn_tensor *y, int64_t task, int64_t *index) noexcept nogil:
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


cdef void take_all(const Call *call, const real *x, Progress *at) noexcept nogil:
    """The values of one output, in row-major order."""
    cdef int64_t n, c, d, h, w
    at.total, at.largest, at.taken, at.winner, at.zeros = 0, 0, 0, 0, 0
    for n in range(extent(call, 0)):
        for c in range(extent(call, 1)):
            for d in range(extent(call, 2)):
                for h in range(extent(call, 3)):
                    for w in range(extent(call, 4)):
                        call.take(at, x[n * call.x.stride[0] + c * call.x.stride[1] + d * call.x.stride[2]
                                        + h * call.x.stride[3] + w * call.x.stride[4]])
                        at.taken += 1


cdef void reduce_forward(const Call *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are outputs."""
    cdef int64_t task
    cdef int64_t[5] index
    cdef Progress at
    for task in range(begin, end):
        places(&call.y, task, index)
        take_all(call, <const real *> call.x.data + offset(&call.x, index), &at)
        (<real *> call.y.data)[offset(&call.y, index)] = <real> call.give(&at)


cdef void reduce_backward(const Call *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are outputs; their values receive dx = share · dy."""
    cdef int64_t task, n, c, d, h, w, position
    cdef int64_t[5] index
    cdef const real *x
    cdef real *dx
    cdef real dy
    cdef Progress at
    for task in range(begin, end):
        places(&call.dy, task, index)
        x = <const real *> call.x.data + offset(&call.x, index)
        dx = <real *> call.dx.data + offset(&call.dx, index)
        dy = (<const real *> call.dy.data)[offset(&call.dy, index)]
        take_all(call, x, &at)
        position = 0
        for n in range(extent(call, 0)):
            for c in range(extent(call, 1)):
                for d in range(extent(call, 2)):
                    for h in range(extent(call, 3)):
                        for w in range(extent(call, 4)):
                            dx[n * call.dx.stride[0] + c * call.dx.stride[1] + d * call.dx.stride[2]
                               + h * call.dx.stride[3] + w * call.dx.stride[4]] = <real> (dy * call.share(
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
    call.take, call.give, call.share = r.take, r.give, r.share
    run(<cnn_task> reduce_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> reduce_forward[double],
        &call, values(&Y.view), 1 + 4096 * values(&Y.view) // (1 + values(&X.view)), 0, 4 * values(&X.view))


def backward(Reduction r, x, dy, dx):
    """Write dx; dy has as many axes as x, and extent 1 along those that are reduced."""
    cdef Tensor X = tensor(x), DY = tensor(dy), DX = tensor(dx, True)
    cdef Call call
    call.x, call.dy, call.dx, call.y = X.view, DY.view, DX.view, DY.view
    call.take, call.give, call.share = r.take, r.give, r.share
    run(<cnn_task> reduce_backward[float] if X.precision == CNN_FLOAT32 else <cnn_task> reduce_backward[double],
        &call, values(&DY.view), 1 + 4096 * values(&DY.view) // (1 + values(&X.view)), 0, 8 * values(&X.view))
