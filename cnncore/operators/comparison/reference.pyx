"""Booleans: comparisons of values, logical operators, and the choice between two values.

Each section gives the formula and the function of a row of values (elements.pxd), whose loops compilers vectorise.
"""

from libc.stdint cimport int64_t

import numpy as np

from cnncore.runtime.dispatch cimport real
from cnncore.runtime.elements cimport Elements, row_function, run_rows

cdef inline bint is_single(x):
    return x.dtype == np.float32


# ── Comparisons ───────────────────────────────────────────────────────────────────────────────────────────────────────
# Of two values, x is less than z, equal, or greater, or one is NaN. A comparison lists for which of the four it is
# true:
#
#     y = (less ∧ x < z) ∨ (same ∧ x = z) ∨ (more ∧ x > z) ∨ (unordered ∧ x or z is NaN)

cdef void compare_row(char **at, const int64_t *step, int64_t count, const real *numbers) noexcept nogil:
    cdef const real *x = <const real *> at[0]
    cdef const real *z = <const real *> at[1]
    cdef unsigned char *y = <unsigned char *> at[2]
    cdef int64_t i, of_x = step[0] // <int64_t> sizeof(real), of_z = step[1] // <int64_t> sizeof(real), of_y = step[2]
    cdef unsigned char less = numbers[0] != 0, same = numbers[1] != 0, more = numbers[2] != 0, unordered = numbers[3] != 0
    if of_x == 1 and of_z == 1 and of_y == 1:
        for i in range(count):
            y[i] = (less & (x[i] < z[i])) | (same & (x[i] == z[i])) | (more & (x[i] > z[i])) | (
                unordered & ((x[i] != x[i]) | (z[i] != z[i])))
    else:
        for i in range(count):
            y[i * of_y] = (
                (less & (x[i * of_x] < z[i * of_z])) | (same & (x[i * of_x] == z[i * of_z]))
                | (more & (x[i * of_x] > z[i * of_z]))
                | (unordered & ((x[i * of_x] != x[i * of_x]) | (z[i * of_z] != z[i * of_z]))))


# ── What is no finite number ──────────────────────────────────────────────────────────────────────────────────────────
#
#     y = (negative ∧ x = −∞) ∨ (positive ∧ x = ∞)

cdef void infinite_row(char **at, const int64_t *step, int64_t count, const real *numbers) noexcept nogil:
    cdef const real *x = <const real *> at[0]
    cdef unsigned char *y = <unsigned char *> at[1]
    cdef int64_t i, of_x = step[0] // <int64_t> sizeof(real), of_y = step[1]
    cdef unsigned char negative = numbers[0] != 0, positive = numbers[1] != 0
    cdef real infinity = numbers[2]
    for i in range(count):
        y[i * of_y] = (negative & (x[i * of_x] == -infinity)) | (positive & (x[i * of_x] == infinity))


cdef void run_real(Elements elements, bint single, row_function row_f32, row_function row_f64, tuple numbers):  # no-cython-lint
    """Run one of two functions, by the precision of the arrays, with its settings."""
    cdef float few_f32[4]
    cdef double few_f64[4]
    cdef int i
    for i in range(len(numbers)):
        few_f32[i] = few_f64[i] = numbers[i]
    run_rows(elements, row_f32 if single else row_f64, <const void *> few_f32 if single else <const void *> few_f64)


LESS, SAME, MORE, UNORDERED = (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)


def compare(tuple outcomes, x, z, y):
    """Write the booleans y: the one of the four ``outcomes`` that applies to x and z, arrays of one shape."""
    run_real(Elements(x, z, y), is_single(x), <row_function> compare_row[float], <row_function> compare_row[double], outcomes)


def infinite(bint negative, bint positive, x, y):
    """Write the booleans y: where x is infinite, with one sign or either."""
    run_real(Elements(x, y), is_single(x), <row_function> infinite_row[float], <row_function> infinite_row[double],
             (negative, positive, float("inf")))


# ── Logic ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
#
# A table says what y is: entry 2 x + z.            and 0001      or 0111      xor 0110

cdef void logic_row(char **at, const int64_t *step, int64_t count, const void *numbers) noexcept nogil:
    cdef const unsigned char *x = <const unsigned char *> at[0]
    cdef const unsigned char *z = <const unsigned char *> at[1]
    cdef unsigned char *y = <unsigned char *> at[2]
    cdef unsigned char both = (<const unsigned char *> numbers)[0], one = (<const unsigned char *> numbers)[1]
    cdef int64_t i
    for i in range(count):
        y[i * step[2]] = (both & x[i * step[0]] & z[i * step[1]]) | (one & (x[i * step[0]] ^ z[i * step[1]]))


def logic(bint both, bint one, x, z, y):
    """Write the booleans y: ``both`` where x and z are true, ``one`` where only one of them is, else false."""
    cdef unsigned char numbers[2]
    numbers[0], numbers[1] = both, one
    run_rows(Elements(x, z, y), logic_row, numbers)


# ── A choice ──────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y  = x where c holds, else z
#     dx = dy where c holds, else 0           dz = 0 where c holds, else dy

cdef void choose_row(char **at, const int64_t *step, int64_t count, const real *numbers) noexcept nogil:
    cdef const unsigned char *c = <const unsigned char *> at[0]
    cdef const real *x = <const real *> at[1]
    cdef const real *z = <const real *> at[2]
    cdef real *y = <real *> at[3]
    cdef int64_t i, of_x = step[1] // <int64_t> sizeof(real), of_z = step[2] // <int64_t> sizeof(real)
    cdef int64_t of_c = step[0], of_y = step[3] // <int64_t> sizeof(real)
    if of_c == 1 and of_x == 1 and of_z == 1 and of_y == 1:
        for i in range(count):
            y[i] = x[i] if c[i] else z[i]
    else:
        for i in range(count):
            y[i * of_y] = x[i * of_x] if c[i * of_c] else z[i * of_z]


cdef void keep_row(char **at, const int64_t *step, int64_t count, const real *numbers) noexcept nogil:
    """dx = dy where c has the value that is kept, else 0."""
    cdef const unsigned char *c = <const unsigned char *> at[0]
    cdef const real *dy = <const real *> at[1]
    cdef real *dx = <real *> at[2]
    cdef int64_t i, of_c = step[0], of_dy = step[1] // <int64_t> sizeof(real), of_dx = step[2] // <int64_t> sizeof(real)
    cdef unsigned char kept = numbers[0] != 0
    for i in range(count):
        dx[i * of_dx] = dy[i * of_dy] if c[i * of_c] == kept else 0


def choose(condition, x, z, y):
    """Write y, x where the condition holds and z elsewhere."""
    run_real(Elements(condition, x, z, y), is_single(x), <row_function> choose_row[float], <row_function> choose_row[double], ())


def choose_gradient(condition, bint kept, dy, dx):
    """Write dx, dy where the condition is ``kept`` and 0 elsewhere."""
    run_real(Elements(condition, dy, dx), is_single(dy), <row_function> keep_row[float], <row_function> keep_row[double], (kept,))
