"""Reductions: one value of y for all values of x along some axes.

Each section gives the formula, its gradient, and four functions: ``accumulate`` a value, ``merge`` the accumulated
state of the values that follow, ``finalize`` to y, and ``slope``, the derivative of y with respect to one of the
values. The loop over an output's values is written once, at the end: in pieces of PIECE values that are merged in
order, so that a long row is divided among all threads, can be interrupted, and gives bit-identical results for any
number of threads.
"""

from libc.math cimport expl as exp, fabsl as fabs, frexpl as frexp, isfinite, ldexpl as ldexp, logl as log, sqrtl as sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from cnncore.runtime.dispatch cimport CNN_FLOAT32, Tensor, cnn_task, cnn_tensor, real, run, tensor


cdef struct State:
    long double total
    long double largest     # or the smallest
    int64_t count           # how many values
    int64_t winner          # the position of the largest or smallest
    int64_t zeros
    int64_t exponent        # of a product: total · 2^exponent


ctypedef void (*Accumulate)(State *at, double x) noexcept nogil
ctypedef void (*Merge)(State *at, const State *next) noexcept nogil
ctypedef long double (*Finalize)(const State *at) noexcept nogil
ctypedef long double (*Slope)(const State *at, int64_t position, double x) noexcept nogil


cdef class Reduction:
    """The four functions of a reduction."""
    cdef Accumulate accumulate
    cdef Merge merge
    cdef Finalize finalize
    cdef Slope slope
    cdef readonly str name

    def __repr__(self):
        return f"<reduction {self.name}>"


cdef Reduction reduction(name, Accumulate accumulate, Merge merge, Finalize finalize, Slope slope):
    cdef Reduction r = Reduction()
    r.name, r.accumulate, r.merge, r.finalize, r.slope = name, accumulate, merge, finalize, slope
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

cdef void merge_totals(State *at, const State *next) noexcept nogil:
    at.total += next.total

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

SUM = reduction("sum", accumulate_plain, merge_totals, finalize_total, slope_one)
MEAN = reduction("mean", accumulate_plain, merge_totals, finalize_mean, slope_mean)
L1 = reduction("l1", accumulate_magnitude, merge_totals, finalize_total, slope_sign)
SUM_SQUARE = reduction("sum_square", accumulate_square, merge_totals, finalize_total, slope_square)
L2 = reduction("l2", accumulate_square, merge_totals, finalize_root, slope_root)
LOG_SUM = reduction("log_sum", accumulate_plain, merge_totals, finalize_log, slope_log)


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

cdef void merge_exponentials(State *at, const State *next) noexcept nogil:
    if at.largest == next.largest:      # two infinities too
        at.total += next.total
    elif next.largest > at.largest:
        at.total = at.total * exp(at.largest - next.largest) + next.total
        at.largest = next.largest
    else:
        at.total += next.total * exp(next.largest - at.largest)

cdef long double finalize_log_of_exponentials(const State *at) noexcept nogil:
    return at.largest + log(at.total)

cdef long double slope_exponential(const State *at, int64_t position, double x) noexcept nogil:
    return (1 if x == at.largest else exp(x - at.largest)) / at.total

LOG_SUM_EXP = reduction("log_sum_exp", accumulate_exponential, merge_exponentials, finalize_log_of_exponentials, slope_exponential)


# ── Product ───────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y      = Π xᵢ
#     ∂y/∂xᵢ = Π xⱼ over all others           total: of those that are not 0, apart from powers of 2, so that no part of it overflows

cdef void scale(State *at) noexcept nogil:
    """Move powers of 2 from a large or small total to the exponent."""
    cdef int powers
    cdef long double magnitude = fabs(at.total)
    if (magnitude > 1e100 or magnitude < 1e-100) and isfinite(at.total) and at.total != 0:
        at.total = frexp(at.total, &powers)
        at.exponent += powers

cdef long double scaled(long double total, int64_t exponent) noexcept nogil:
    return ldexp(total, <int> max(-100_000, min(100_000, exponent)))

cdef void accumulate_factor(State *at, double x) noexcept nogil:
    if at.count == 0:
        at.total = 1
    if x == 0:
        at.zeros += 1
    else:
        at.total *= x
        scale(at)

cdef void merge_products(State *at, const State *next) noexcept nogil:
    at.total *= next.total
    at.zeros += next.zeros
    at.exponent += next.exponent
    scale(at)

cdef long double finalize_product(const State *at) noexcept nogil:
    return 0 * at.total if at.zeros else scaled(at.total, at.exponent)

cdef long double slope_product(const State *at, int64_t position, double x) noexcept nogil:
    if at.zeros > 1 or (at.zeros == 1 and x != 0):
        return 0
    return scaled(at.total if x == 0 else at.total / x, at.exponent)

PROD = reduction("prod", accumulate_factor, merge_products, finalize_product, slope_product)


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

cdef void merge_larger(State *at, const State *next) noexcept nogil:
    if (next.largest > at.largest or next.largest != next.largest) and at.largest == at.largest:
        at.largest, at.winner = next.largest, at.count + next.winner

cdef void merge_smaller(State *at, const State *next) noexcept nogil:
    if (next.largest < at.largest or next.largest != next.largest) and at.largest == at.largest:
        at.largest, at.winner = next.largest, at.count + next.winner

cdef long double finalize_winner(const State *at) noexcept nogil:
    return at.largest

cdef long double slope_winner(const State *at, int64_t position, double x) noexcept nogil:
    return position == at.winner

MAX = reduction("max", accumulate_larger, merge_larger, finalize_winner, slope_winner)
MIN = reduction("min", accumulate_smaller, merge_smaller, finalize_winner, slope_winner)


# ── The loop ──────────────────────────────────────────────────────────────────────────────────────────────────────────

cdef enum:
    PIECE = 65536               # values, the most that one task takes of an output

cdef struct Call:
    cnn_tensor x, y, dy, dx     # y has extent 1 along the axes that are reduced
    Accumulate accumulate
    Finalize finalize
    Slope slope
    int64_t size                # how many values belong to one output
    int64_t pieces              # of an output
    int64_t extent[5]           # the axes along which they lie, those of extent 1 left out
    int64_t stride[5]           # of x
    int64_t stride_dx[5]
    int axes                    # 1 at least
    State *state                # of every piece; of a whole output once its pieces are merged


cdef struct Row:
    # Adjacent values along the last axis: offsets of the first, and how many there are.
    int64_t index[5]
    int64_t x, dx, count


cdef inline void index_of(const cnn_tensor *y, int64_t task, int64_t *index) noexcept nogil:
    """The index of output number ``task``."""
    cdef int axis
    for axis in range(4, -1, -1):
        index[axis] = task % y.shape[axis]
        task //= y.shape[axis]


cdef inline int64_t offset(const cnn_tensor *t, const int64_t *index) noexcept nogil:
    return (index[0] * t.stride[0] + index[1] * t.stride[1] + index[2] * t.stride[2] + index[3] * t.stride[3]
            + index[4] * t.stride[4])


cdef void row_from(const Call *call, int64_t position, int64_t stop, Row *row) noexcept nogil:
    """The row of an output's values from ``position``, in row-major order, up to ``stop``."""
    cdef int axis
    cdef int64_t rest = position
    row.x = row.dx = row.count = 0
    if position >= stop:                # no values: an extent may be 0, by which nothing can be divided
        return
    for axis in range(call.axes - 1, -1, -1):
        row.index[axis] = rest % call.extent[axis]
        rest //= call.extent[axis]
        row.x += row.index[axis] * call.stride[axis]
        row.dx += row.index[axis] * call.stride_dx[axis]
    row.count = min(call.extent[call.axes - 1] - row.index[call.axes - 1], stop - position)


cdef void next_row(const Call *call, int64_t left, Row *row) noexcept nogil:
    """Advance to the next row, of which at most ``left`` values are needed."""
    cdef int axis = call.axes - 1
    row.x -= row.index[axis] * call.stride[axis]
    row.dx -= row.index[axis] * call.stride_dx[axis]
    row.index[axis] = 0
    row.count = min(call.extent[axis], left)
    axis -= 1
    while axis >= 0:
        row.index[axis] += 1
        row.x += call.stride[axis]
        row.dx += call.stride_dx[axis]
        if row.index[axis] < call.extent[axis]:
            return
        row.x -= call.extent[axis] * call.stride[axis]
        row.dx -= call.extent[axis] * call.stride_dx[axis]
        row.index[axis] = 0
        axis -= 1


cdef void accumulate_piece(const Call *call, const real *x, int64_t position, int64_t stop, State *at) noexcept nogil:
    """Accumulate the values of one output from ``position`` up to ``stop``."""
    cdef Row row
    cdef int64_t i, stride = call.stride[call.axes - 1]
    at.total, at.largest, at.count, at.winner, at.zeros, at.exponent = 0, 0, 0, 0, 0, 0
    row_from(call, position, stop, &row)
    while position < stop:
        for i in range(row.count):
            call.accumulate(at, x[row.x + i * stride])
            at.count += 1
        position += row.count
        next_row(call, stop - position, &row)


cdef void reduce_pieces(const Call *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are pieces of outputs."""
    cdef int64_t task, start
    cdef int64_t[5] index
    for task in range(begin, end):
        index_of(&call.y, task // call.pieces, index)
        start = task % call.pieces * PIECE
        accumulate_piece(call, <const real *> call.x.data + offset(&call.x, index), start, min(start + PIECE, call.size),
                         &call.state[task])


cdef void write_outputs(const Call *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are outputs."""
    cdef int64_t task
    cdef int64_t[5] index
    for task in range(begin, end):
        index_of(&call.y, task, index)
        (<real *> call.y.data)[offset(&call.y, index)] = <real> call.finalize(&call.state[task * call.pieces])


cdef void reduce_forward(const Call *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are outputs, each of one piece."""
    cdef int64_t task
    cdef int64_t[5] index
    cdef State at
    for task in range(begin, end):
        index_of(&call.y, task, index)
        accumulate_piece(call, <const real *> call.x.data + offset(&call.x, index), 0, call.size, &at)
        (<real *> call.y.data)[offset(&call.y, index)] = <real> call.finalize(&at)


cdef void reduce_backward(const Call *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are pieces of outputs; their values receive dx = slope · dy."""
    cdef int64_t task, start, stop, i, last = call.axes - 1
    cdef int64_t[5] index
    cdef const real *x
    cdef real *dx
    cdef real dy
    cdef Row row
    cdef State own
    cdef const State *at
    for task in range(begin, end):
        index_of(&call.y, task // call.pieces, index)
        start = task % call.pieces * PIECE
        stop = min(start + PIECE, call.size)
        x = <const real *> call.x.data + offset(&call.x, index)
        dx = <real *> call.dx.data + offset(&call.dx, index)
        dy = (<const real *> call.dy.data)[offset(&call.dy, index)]
        if call.pieces == 1:
            accumulate_piece(call, x, 0, call.size, &own)
        at = &own if call.pieces == 1 else &call.state[task // call.pieces * call.pieces]
        row_from(call, start, stop, &row)
        while start < stop:
            for i in range(row.count):
                dx[row.dx + i * call.stride_dx[last]] = <real> (
                    dy * call.slope(at, start + i, x[row.x + i * call.stride[last]]))
            start += row.count
            next_row(call, stop - start, &row)


cdef int64_t values(const cnn_tensor *t) noexcept:
    return t.shape[0] * t.shape[1] * t.shape[2] * t.shape[3] * t.shape[4]


cdef void prepare(Call *call, Reduction r, const cnn_tensor *x, const cnn_tensor *y, const cnn_tensor *dx) noexcept:
    """Fill in the fields that forward and backward share."""
    cdef int axis
    call.x, call.y, call.dx = x[0], y[0], dx[0]
    call.accumulate, call.finalize, call.slope, call.state = r.accumulate, r.finalize, r.slope, NULL
    call.axes, call.size = 0, 1
    for axis in range(5):
        if y.shape[axis] == 1 and (x.shape[axis] != 1 or (axis == 4 and call.axes == 0)):
            call.extent[call.axes], call.stride[call.axes] = x.shape[axis], x.stride[axis]
            call.stride_dx[call.axes] = dx.stride[axis]
            call.size *= x.shape[axis]
            call.axes += 1
    if call.axes == 0:                  # nothing is reduced: each output is one value
        call.extent[0], call.stride[0], call.stride_dx[0], call.axes = 1, 0, 0, 1
    call.pieces = max(1, (call.size + PIECE - 1) // PIECE)


cdef int merge_pieces(Call *call, Reduction r, bint single) except -1:
    """The state of every output that has several pieces, stored at its first; the caller frees ``call.state``."""
    cdef int64_t outputs = values(&call.y), task, piece
    cdef State *at
    cdef const State *next
    call.state = <State *> malloc(max(1, outputs * call.pieces) * sizeof(State))
    if call.state == NULL:
        raise MemoryError(f"no memory for {outputs * call.pieces} partial sums")
    run(<cnn_task> reduce_pieces[float] if single else <cnn_task> reduce_pieces[double], call, outputs * call.pieces, 1, 0,
        4.0 * outputs * call.size)
    for task in range(outputs):
        at = &call.state[task * call.pieces]
        for piece in range(1, call.pieces):
            next = &at[piece]
            r.merge(at, next)
            at.count += next.count
    return 0


def forward(Reduction r, x, y):
    """Write y, which has as many axes as x, and extent 1 along those that are reduced."""
    cdef Tensor X = tensor(x), Y = tensor(y, True)
    cdef bint single = X.precision == CNN_FLOAT32
    cdef Call call
    cdef int64_t outputs = values(&Y.view), grain
    prepare(&call, r, &X.view, &Y.view, &X.view)
    grain = 1 + 4096 // (1 + call.size)
    if call.pieces == 1:
        run(<cnn_task> reduce_forward[float] if single else <cnn_task> reduce_forward[double], &call, outputs, grain, 0,
            4.0 * outputs * call.size)
        return
    try:
        merge_pieces(&call, r, single)
        run(<cnn_task> write_outputs[float] if single else <cnn_task> write_outputs[double], &call, outputs, 64, 0, outputs)
    finally:
        free(call.state)


def backward(Reduction r, x, dy, dx):
    """Write dx; dy has as many axes as x, and extent 1 along those that are reduced."""
    cdef Tensor X = tensor(x), DY = tensor(dy), DX = tensor(dx, True)
    cdef bint single = X.precision == CNN_FLOAT32
    cdef Call call
    cdef int64_t outputs = values(&DY.view), grain
    prepare(&call, r, &X.view, &DY.view, &DX.view)
    call.dy = DY.view
    grain = 1 + 4096 // (1 + call.size)
    try:
        if call.pieces > 1:
            merge_pieces(&call, r, single)
        run(<cnn_task> reduce_backward[float] if single else <cnn_task> reduce_backward[double], &call, outputs * call.pieces,
            grain, 0, 8.0 * outputs * call.size)
    finally:
        free(call.state)
