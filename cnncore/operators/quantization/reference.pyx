"""Quantization: rounding to a uniform grid, with the gradients used in quantization-aware training.

Each section gives the formula, its slopes and the functions of three numbers: x, the scale s of its grid, and the zero point z, the
integer that stands for 0. They are broadcast against each other (elements.pxd).
"""

from libc.math cimport rint
from libc.stdint cimport int64_t

import numpy as np

from cnncore.runtime.dispatch cimport real
from cnncore.runtime.elements cimport Elements, row_function, run_rows

# ── Quantization ──────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     q = min(max(round(x / s) + z, low), high)              halves are rounded to the even neighbour
# The slope of rounding is 0 almost everywhere. The straight-through estimator uses 1:
#
#     ∂q/∂x = 1 / s        ∂q/∂s = −x / s²        ∂q/∂z = 1         where low ≤ round(x / s) + z ≤ high, else 0

cdef inline real unbounded(real x, real s, real z) noexcept nogil:
    return <real> rint(x / s) + z

cdef inline bint is_inside(real q, real low, real high) noexcept nogil:
    return low <= q and q <= high

cdef inline real within(real q, real low, real high) noexcept nogil:
    return low if q < low else high if q > high else q

cdef inline real quantize(real x, real s, real z, real low, real high) noexcept nogil:
    return within(unbounded(x, s, z), low, high)

cdef inline real quantize_by_x(real x, real s, real z, real low, real high) noexcept nogil:
    return 1 / s if is_inside(unbounded(x, s, z), low, high) else 0

cdef inline real quantize_by_s(real x, real s, real z, real low, real high) noexcept nogil:
    return -x / (s * s) if is_inside(unbounded(x, s, z), low, high) else 0

cdef inline real quantize_by_z(real x, real s, real z, real low, real high) noexcept nogil:
    return 1 if is_inside(unbounded(x, s, z), low, high) else 0


# ── Fake quantization ─────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y = (q − z) s                                          the real number that q stands for
#
# With the straight-through estimator:
#
#     ∂y/∂x = 1      ∂y/∂s = round(x / s) − x / s      ∂y/∂z = 0       where low ≤ round(x / s) + z ≤ high
#     ∂y/∂x = 0      ∂y/∂s = q − z                     ∂y/∂z = −s      elsewhere, q being low or high

cdef inline real fake_quantize(real x, real s, real z, real low, real high) noexcept nogil:
    return (quantize(x, s, z, low, high) - z) * s

cdef inline real fake_quantize_by_x(real x, real s, real z, real low, real high) noexcept nogil:
    return 1 if is_inside(unbounded(x, s, z), low, high) else 0

cdef inline real fake_quantize_by_s(real x, real s, real z, real low, real high) noexcept nogil:
    cdef real q = unbounded(x, s, z)
    return <real> rint(x / s) - x / s if is_inside(q, low, high) else within(q, low, high) - z

cdef inline real fake_quantize_by_z(real x, real s, real z, real low, real high) noexcept nogil:
    return 0 if is_inside(unbounded(x, s, z), low, high) else -s


# ── Rows of values ────────────────────────────────────────────────────────────────────────────────────────────────────

cdef enum:
    VALUE, BY_X, BY_S, BY_Z

cdef inline real one(bint fake, int wanted, real x, real s, real z, real low, real high) noexcept nogil:
    if wanted == VALUE:
        return fake_quantize(x, s, z, low, high) if fake else quantize(x, s, z, low, high)
    if wanted == BY_X:
        return fake_quantize_by_x(x, s, z, low, high) if fake else quantize_by_x(x, s, z, low, high)
    if wanted == BY_S:
        return fake_quantize_by_s(x, s, z, low, high) if fake else quantize_by_s(x, s, z, low, high)
    return fake_quantize_by_z(x, s, z, low, high) if fake else quantize_by_z(x, s, z, low, high)


cdef void row(char **at, const int64_t *step, int64_t count, const real *numbers) noexcept nogil:
    cdef const real *x = <const real *> at[0]
    cdef const real *s = <const real *> at[1]
    cdef const real *z = <const real *> at[2]
    cdef real *y = <real *> at[3]
    cdef int64_t i, size = sizeof(real), of_x = step[0] // size, of_s = step[1] // size, of_z = step[2] // size
    cdef int64_t of_y = step[3] // size
    cdef real low = numbers[0], high = numbers[1]
    cdef bint fake = numbers[2] != 0
    cdef int wanted = <int> numbers[3]
    if wanted == VALUE and of_s == 0 and of_z == 0 and of_x == 1 and of_y == 1:      # one grid for the row
        for i in range(count):
            y[i] = quantize(x[i], s[0], z[0], low, high)
        if fake:
            for i in range(count):
                y[i] = (y[i] - z[0]) * s[0]
    else:
        for i in range(count):
            y[i * of_y] = one(fake, wanted, x[i * of_x], s[i * of_s], z[i * of_z], low, high)


def run(bint fake, str wanted, double low, double high, x, s, z, y):
    """Write y, arrays of one shape: quantized numbers ("value"), or their slope by "x", "s" or "z"."""
    cdef float few_f32[4]
    cdef double few_f64[4]
    cdef int i
    numbers = low, high, fake, ("value", "x", "s", "z").index(wanted)
    for i in range(4):
        few_f32[i] = few_f64[i] = numbers[i]
    if x.dtype == np.float32:
        run_rows(Elements(x, s, z, y), <row_function> row[float], few_f32)
    else:
        run_rows(Elements(x, s, z, y), <row_function> row[double], few_f64)
