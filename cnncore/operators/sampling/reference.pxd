# Bilinear interpolation: reading an image at real positions, between four cells, and the gradients of that.
#
#     v(h, w) = Σ_a Σ_b weight_h[a] · weight_w[b] · x[cell_h[a], cell_w[b]]          a, b ∈ {0, 1}
#
# `read` is v, `scatter` accumulates dv · ∂v/∂x into dx, `slope` is ∂v/∂h or ∂v/∂w. At integer positions, where v has a kink,
# the derivative to the right is taken.

from libc.math cimport floor
from libc.stdint cimport int64_t

from cnncore.runtime.dispatch cimport real

cdef struct Between:            # along one axis: the two cells around a position
    int64_t cell[2]
    double weight[2]            # their weights; 0 if the cell does not count
    double slope[2]             # ∂weight/∂position: −1 and 1, 0 if the cell does not count


cdef inline bint between_clamped(double position, int64_t extent, Between *at) noexcept nogil:
    """The cells around a position in [−1, extent], which is clamped to the image; False if it lies farther out."""
    cdef bint flat
    if not -1 <= position <= extent:
        return False
    flat = position <= 0 or position >= extent - 1
    position = min(max(position, 0), extent - 1)
    at.cell[0] = min(<int64_t> floor(position), extent - 1)
    at.cell[1] = min(at.cell[0] + 1, extent - 1)
    at.weight[1] = position - at.cell[0]
    at.weight[0] = 1 - at.weight[1]
    at.slope[0], at.slope[1] = (0, 0) if flat else (-1, 1)
    return True


cdef inline bint between_zeros(double position, int64_t extent, Between *at) noexcept nogil:
    """The cells around a position in a zero-padded image; False if none lies inside."""
    cdef double low = floor(position)
    cdef int a
    cdef bint inside
    if not -1 < position < extent:
        return False
    for a in range(2):
        inside = 0 <= low + a <= extent - 1
        at.cell[a] = <int64_t> low + a if inside else 0
        at.weight[a] = (position - low if a else 1 - (position - low)) if inside else 0
        at.slope[a] = (1 if a else -1) if inside else 0
    return True


cdef inline double weighted_cells(const real *x, int64_t step_h, int64_t step_w, const Between *h, const Between *w,
                                  const double *weight_h, const double *weight_w) noexcept nogil:
    """Cells of weight 0 are not read, so that NaN in them does not spread."""
    cdef double total = 0
    cdef int a, b
    for a in range(2):
        for b in range(2):
            if weight_h[a] != 0 and weight_w[b] != 0:
                total += weight_h[a] * weight_w[b] * x[h.cell[a] * step_h + w.cell[b] * step_w]
    return total


cdef inline double read(const real *x, int64_t step_h, int64_t step_w, const Between *h, const Between *w) noexcept nogil:
    """The interpolated value in a plane whose rows are ``step_h`` and columns ``step_w`` apart."""
    return weighted_cells(x, step_h, step_w, h, w, h.weight, w.weight)


cdef inline double slope_h(const real *x, int64_t step_h, int64_t step_w, const Between *h, const Between *w) noexcept nogil:
    return weighted_cells(x, step_h, step_w, h, w, h.slope, w.weight)


cdef inline double slope_w(const real *x, int64_t step_h, int64_t step_w, const Between *h, const Between *w) noexcept nogil:
    return weighted_cells(x, step_h, step_w, h, w, h.weight, w.slope)


cdef inline void scatter(real *dx, int64_t step_h, int64_t step_w, const Between *h, const Between *w,
                         double dv) noexcept nogil:
    """Accumulate the gradient ``dv`` of the value into the cells, by their weights."""
    cdef int a, b
    for a in range(2):
        for b in range(2):
            if h.weight[a] != 0 and w.weight[b] != 0:
                dx[h.cell[a] * step_h + w.cell[b] * step_w] += <real> (dv * h.weight[a] * w.weight[b])
