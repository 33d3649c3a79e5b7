"""Positions: the largest value along an axis, the k largest, cumulative sums and products, gather and scatter.

Each section gives the formula, its gradient, and the functions. Functions of lines get the first value of each line
along the axis (elements.pxd iterates over the others) and the stride.
"""

from libc.stdint cimport int64_t

import numpy as np

from cnncore.runtime.dispatch cimport CNN_FLOAT32, PIECE, Tensor, cnn_task, real, run, stop_after, tensor
from cnncore.runtime.elements cimport Elements, row_function, run_rows


cdef struct Lines:
    int64_t values          # of one line
    int64_t step[3]         # bytes from one value to the next, of every array
    int64_t kept            # of the k largest: k
    bint largest            # or the smallest
    bint last               # of equal ones the last, or the first
    bint exclusive, reverse


cdef Lines lines_of(int axis, arrays):
    cdef Lines call
    cdef int a
    call.values = arrays[0].shape[axis]
    for a in range(len(arrays)):
        call.step[a] = arrays[a].strides[axis] if arrays[a].ndim == arrays[0].ndim else 0
    call.kept, call.largest, call.last, call.exclusive, call.reverse = 0, True, False, False, False
    return call


cdef tuple starts(int axis, arrays):
    """The first value of every line."""
    rank = arrays[0].ndim
    firsts = []
    for a in arrays:
        firsts.append(a[(slice(None),) * axis + (0, ...)] if a.ndim == rank else a)
    return tuple(firsts)


cdef inline bint beats(real a, real b, bint largest) noexcept nogil:
    """Whether a comes before b among the largest, of which NaN is one, or among the smallest."""
    if largest:
        return a > b or (a != a and b == b)
    return a < b or (b != b and a == a)


# ── The place of the largest ──────────────────────────────────────────────────────────────────────────────────────────
#
#     y = argmax x[…, i, …] over i        of equal ones the first, or the last; a NaN wins        argmin: a NaN wins as well

cdef void place_row(char **at, const int64_t *step, int64_t count, const Lines *call, real *unused) noexcept nogil:
    cdef int64_t line, i, best
    cdef const char *x
    cdef real value, winner
    cdef int64_t left = PIECE
    for line in range(count):
        x = at[0] + line * step[0]
        best, winner = 0, (<const real *> x)[0]
        for i in range(1, call.values):
            if stop_after(&left, 1):
                return
            value = (<const real *> (x + i * call.step[0]))[0]
            if winner != winner:
                if call.last and value != value:
                    best = i
            elif value != value or (value > winner if call.largest else value < winner) or (call.last and value == winner):
                best, winner = i, value
        (<int64_t *> (at[1] + line * step[1]))[0] = best


cdef void place_row_f32(char **at, const int64_t *step, int64_t count, const void *call) noexcept nogil:
    place_row(at, step, count, <const Lines *> call, <float *> NULL)


cdef void place_row_f64(char **at, const int64_t *step, int64_t count, const void *call) noexcept nogil:
    place_row(at, step, count, <const Lines *> call, <double *> NULL)


def place(bint largest, bint last, int axis, x, y):
    """Write the integers y, without the axis: the position of the largest or smallest value along it."""
    cdef Lines call = lines_of(axis, (x,))
    call.largest, call.last = largest, last
    run_rows(Elements(*starts(axis, (x,)), y), <row_function> place_row_f32 if x.dtype == np.float32
             else <row_function> place_row_f64, &call, max(1, call.values))


# ── The k largest ─────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y[…, j, …]  = the value before which j others along the axis come in order; equal values in their original order
#     dx[…, i, …] = dy[…, j, …] for i = indices[…, j, …], else 0

cdef void best_row(char **at, const int64_t *step, int64_t count, const Lines *call, real *unused) noexcept nogil:
    cdef int64_t line, i, j, found
    cdef const char *x
    cdef char *y
    cdef char *indices
    cdef int64_t of_y = call.step[1], of_indices = call.step[2], left = PIECE
    cdef real value
    for line in range(count):
        x, y, indices = at[0] + line * step[0], at[1] + line * step[1], at[2] + line * step[2]
        found = 0
        for i in range(call.values):
            if stop_after(&left, 1):
                return
            value = (<const real *> (x + i * call.step[0]))[0]
            if found == call.kept and not beats(value, (<real *> (y + (found - 1) * of_y))[0], call.largest):
                continue
            if stop_after(&left, found):
                return
            j = found if found < call.kept else found - 1       # sorted by insertion
            while j > 0 and beats(value, (<real *> (y + (j - 1) * of_y))[0], call.largest):
                (<real *> (y + j * of_y))[0] = (<real *> (y + (j - 1) * of_y))[0]
                (<int64_t *> (indices + j * of_indices))[0] = (<int64_t *> (indices + (j - 1) * of_indices))[0]
                j -= 1
            (<real *> (y + j * of_y))[0] = value
            (<int64_t *> (indices + j * of_indices))[0] = i
            found = min(found + 1, call.kept)


cdef void best_row_f32(char **at, const int64_t *step, int64_t count, const void *call) noexcept nogil:
    best_row(at, step, count, <const Lines *> call, <float *> NULL)


cdef void best_row_f64(char **at, const int64_t *step, int64_t count, const void *call) noexcept nogil:
    best_row(at, step, count, <const Lines *> call, <double *> NULL)


def best(bint largest, int axis, x, y, indices):
    """Write the k largest or smallest values y along an axis of x, in order, and their positions."""
    cdef Lines call = lines_of(axis, (x, y, indices))
    call.largest, call.kept = largest, y.shape[axis]
    run_rows(Elements(*starts(axis, (x, y, indices)), written=2), <row_function> best_row_f32 if x.dtype == np.float32
             else <row_function> best_row_f64, &call, max(1, call.values))


# ── Sums and products up to each value ────────────────────────────────────────────────────────────────────────────────
#
#     sum      yᵢ = Σ xⱼ over j ≤ i           dxᵢ = Σ dyⱼ over j ≥ i          exclusive: j < i and j > i
#     product  yᵢ = Π xⱼ over j ≤ i           dxᵢ = (Π xⱼ over j < i) (dyᵢ + xᵢ₊₁ (dyᵢ₊₁ + xᵢ₊₂ (…)))
#
# Reverse: from the other end. The gradient of a sum is the sum of the other direction.

cdef inline char *value_at(char *line, int64_t i, const Lines *call, int array) noexcept nogil:
    """Value number i of a line, counted from its end if sums begin there."""
    return line + (call.values - 1 - i if call.reverse else i) * call.step[array]


cdef void sum_row(char **at, const int64_t *step, int64_t count, const Lines *call, real *unused) noexcept nogil:
    cdef int64_t line, i
    cdef long double total
    cdef real value
    cdef int64_t left = PIECE
    for line in range(count):
        total = 0
        for i in range(call.values):
            if stop_after(&left, 1):
                return
            value = (<real *> value_at(at[0] + line * step[0], i, call, 0))[0]
            if not call.exclusive:
                total += value
            (<real *> value_at(at[1] + line * step[1], i, call, 1))[0] = <real> total
            if call.exclusive:
                total += value


cdef void sum_row_f32(char **at, const int64_t *step, int64_t count, const void *call) noexcept nogil:
    sum_row(at, step, count, <const Lines *> call, <float *> NULL)


cdef void sum_row_f64(char **at, const int64_t *step, int64_t count, const void *call) noexcept nogil:
    sum_row(at, step, count, <const Lines *> call, <double *> NULL)


cdef void product_row(char **at, const int64_t *step, int64_t count, const Lines *call, real *unused) noexcept nogil:
    cdef int64_t line, i
    cdef long double total
    cdef real value
    cdef int64_t left = PIECE
    for line in range(count):
        total = 1
        for i in range(call.values):
            if stop_after(&left, 1):
                return
            value = (<real *> value_at(at[0] + line * step[0], i, call, 0))[0]
            if not call.exclusive:
                total *= value
            (<real *> value_at(at[1] + line * step[1], i, call, 1))[0] = <real> total
            if call.exclusive:
                total *= value


cdef void product_row_f32(char **at, const int64_t *step, int64_t count, const void *call) noexcept nogil:
    product_row(at, step, count, <const Lines *> call, <float *> NULL)


cdef void product_row_f64(char **at, const int64_t *step, int64_t count, const void *call) noexcept nogil:
    product_row(at, step, count, <const Lines *> call, <double *> NULL)


cdef void product_gradient_row(char **at, const int64_t *step, int64_t count, const Lines *call, real *unused) noexcept nogil:
    """The sums over later values are computed from the end, then multiplied by the products of earlier ones from the
    beginning.
    """
    cdef int64_t line, i
    cdef long double after, before
    cdef char *x
    cdef char *dy
    cdef char *dx
    cdef int64_t left = PIECE
    for line in range(count):
        x, dy, dx = at[0] + line * step[0], at[1] + line * step[1], at[2] + line * step[2]
        after = 0
        for i in range(call.values - 1, -1, -1):
            if stop_after(&left, 1):
                return
            if i + 1 < call.values:
                after = after * (<real *> value_at(x, i + 1, call, 0))[0]
                if call.exclusive:
                    after += (<real *> value_at(dy, i + 1, call, 1))[0]
            if not call.exclusive:
                after += (<real *> value_at(dy, i, call, 1))[0]
            (<real *> value_at(dx, i, call, 2))[0] = <real> after
        before = 1
        for i in range(call.values):
            if stop_after(&left, 1):
                return
            (<real *> value_at(dx, i, call, 2))[0] = <real> (before * (<real *> value_at(dx, i, call, 2))[0])
            before *= (<real *> value_at(x, i, call, 0))[0]


cdef void product_gradient_row_f32(char **at, const int64_t *step, int64_t count, const void *call) noexcept nogil:
    product_gradient_row(at, step, count, <const Lines *> call, <float *> NULL)


cdef void product_gradient_row_f64(char **at, const int64_t *step, int64_t count, const void *call) noexcept nogil:
    product_gradient_row(at, step, count, <const Lines *> call, <double *> NULL)


def cumulative_sum(bint exclusive, bint reverse, int axis, x, y):
    """Write y, the cumulative sums of x along an axis."""
    cdef Lines call = lines_of(axis, (x, y))
    call.exclusive, call.reverse = exclusive, reverse
    run_rows(Elements(*starts(axis, (x, y))), <row_function> sum_row_f32 if x.dtype == np.float32
             else <row_function> sum_row_f64, &call, max(1, call.values))


def cumulative_product(bint exclusive, bint reverse, int axis, x, y):
    """Write y, the cumulative products of x along an axis."""
    cdef Lines call = lines_of(axis, (x, y))
    call.exclusive, call.reverse = exclusive, reverse
    run_rows(Elements(*starts(axis, (x, y))), <row_function> product_row_f32 if x.dtype == np.float32
             else <row_function> product_row_f64, &call, max(1, call.values))


def cumulative_product_gradient(bint exclusive, bint reverse, int axis, x, dy, dx):
    """Write dx."""
    cdef Lines call = lines_of(axis, (x, dy, dx))
    call.exclusive, call.reverse = exclusive, reverse
    run_rows(Elements(*starts(axis, (x, dy, dx))), <row_function> product_gradient_row_f32 if x.dtype == np.float32
             else <row_function> product_gradient_row_f64, &call, max(1, call.values))


# ── Rows taken and put ── x (P, S), u and y (I, S), at (I,): the row of x that each row of the other is taken from or put to ──
#
#     take    y[i, s] = x[at[i], s]                       dx[p, s] = Σ dy[i, s] over all i with at[i] = p
#     put     y = x, then one i after the other
#             none      y[at[i], s] = u[i, s]             of several i of one row the last alone has a gradient
#             add       y[at[i], s] += u[i, s]            dx = dy, du[i, s] = dy[at[i], s]
#             multiply  y[at[i], s] *= u[i, s]            dx, du: dy times all other factors
#             maximum   y[at[i], s] = max(y[at[i], s], u[i, s])       the winner alone has a gradient, x before u; NaN wins

cdef enum:
    NONE = 0
    ADD = 1
    MULTIPLY = 2
    MAXIMUM = 3
    MINIMUM = 4

REDUCTIONS = {"none": NONE, "add": ADD, "multiply": MULTIPLY, "maximum": MAXIMUM, "minimum": MINIMUM}


cdef struct Rows:
    int64_t places, columns         # I and S
    const int64_t *at
    void *x                         # or y, (P, S)
    void *u                         # or y, (I, S)
    int64_t *winner                 # (P, S): the i that a value comes from, −1 where it is that of x
    int reduction


cdef void take_rows(Rows *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are rows."""
    cdef int64_t i, s
    for i in range(begin, end):
        for s in range(call.columns):
            (<real *> call.u)[i * call.columns + s] = (<const real *> call.x)[call.at[i] * call.columns + s]


cdef inline bint wins(real u, real y, int reduction) noexcept nogil:
    return reduction == NONE or (y == y and (u != u or (u > y if reduction == MAXIMUM else u < y)))


cdef void put_rows(Rows *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are columns, so that each value is changed in the order of the rows."""
    cdef int64_t i, s, place
    cdef real *y = <real *> call.x
    cdef int64_t left = PIECE
    cdef real u
    for i in range(call.places):
        if stop_after(&left, end - begin):
            return
        for s in range(begin, end):
            place = call.at[i] * call.columns + s
            u = (<const real *> call.u)[i * call.columns + s]
            if call.reduction == ADD:
                y[place] += u
            elif call.reduction == MULTIPLY:
                y[place] *= u
            elif wins(u, y[place], call.reduction):
                y[place] = u
                if call.winner != NULL:
                    call.winner[place] = i


def take(x, at, y):
    """Write the rows y of x."""
    cdef Tensor X = tensor(x), AT = tensor(at), Y = tensor(y, True)
    cdef Rows call
    call.places, call.columns = at.shape[0], x.shape[1]
    call.at, call.x, call.u = <const int64_t *> AT.view.data, X.view.data, Y.view.data
    run(<cnn_task> take_rows[float] if X.precision == CNN_FLOAT32 else <cnn_task> take_rows[double], &call, call.places,
        1 + 4096 // max(1, call.columns), 0, <double> call.places * call.columns)


def put(str reduction, y, at, u, winner=None):
    """Put the rows u into y; ``winner``, initially −1, receives the row that each value comes from."""
    cdef Tensor Y = tensor(y, True), AT = tensor(at), U = tensor(u)
    cdef Tensor W = None if winner is None else tensor(winner, True)
    cdef Rows call
    call.places, call.columns, call.reduction = at.shape[0], y.shape[1], REDUCTIONS[reduction]
    call.at, call.x, call.u = <const int64_t *> AT.view.data, Y.view.data, U.view.data
    call.winner = NULL if W is None else <int64_t *> W.view.data
    run(<cnn_task> put_rows[float] if Y.precision == CNN_FLOAT32 else <cnn_task> put_rows[double], &call, call.columns,
        256, 0, <double> call.places * call.columns)
