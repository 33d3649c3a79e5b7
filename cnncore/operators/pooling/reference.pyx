"""Pooling: what a strategy does to one window, forward and backward, and the loop over windows that all of them share.

A strategy's reference implementation is a pair of functions on the cells of one window, in row-major order, without padding:

    forward(x, window) → y                the window's value
    backward(x, window, y, dy, dx)        dx[i] = dy · ∂y/∂x[i], for every cell

The parameters of the window's channel are window.parameter[k]; backward accumulates dy · ∂y/∂parameter[k] into
window.gradient[k]. The functions are pure mathematics: no stride, rank or layout. The loop gathers the cells of each window,
calls the strategy, and stores the result; gradients of overlapping windows are accumulated in the order of the windows. A C
kernel of the same name (pool.h, pool_whole.h, pool_drawn.h) may replace the loop.
"""

from libc.math cimport INFINITY, exp, expm1, fabs, log, log1p, pow
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from cnncore.runtime.dispatch cimport (
    CNN_FLOAT32, CNN_POOL_RANKED, CNN_POOL_REFUSED_CELLS, CNN_POOL_REFUSED_STATE, CNN_POOL_VECTORS, PIECE, Tensor,
    cnn_axis, cnn_pool, cnn_task, cnn_tensor, kernel, lanes, real, run, stop_after, stop_requested, tensor, threads_per_call,
)
from cnncore.runtime.dispatch import kernel_number
from cnncore.runtime.layout cimport cells as image_cells
from cnncore.runtime.random cimport uniform


cdef class Reference:

    def __repr__(self):
        return f"<reference implementation of {self.name} pooling>"


cdef Reference reference(name, void *forward_f32, void *forward_f64, void *backward_f32, void *backward_f64,
                          tuple saves=("x", "y"), tuple needs=(), str requires=""):
    cdef Reference r = Reference()
    r.name = name
    r.saves = saves
    r.requires = requires
    r.functions = Functions([forward_f32, forward_f64], [backward_f32, backward_f64],
                            "order" in needs, "place" in needs, "none" in needs, "cells" in needs,
                            2 if "both" in needs else 1 if "forward" in needs else 0, "selects" in needs, "draws" in needs)
    r.forward_kernel = kernel_number(f"{name}_pool_forward")
    r.backward_kernel = kernel_number(f"{name}_pool_backward")
    return r


cdef inline bint stops(int64_t i) noexcept nogil:
    """Whether the call is being stopped; asked at every 65,536th cell of a window: Ctrl-C does not wait for the largest."""
    return i % PIECE == PIECE - 1 and stop_requested()


# ── Max pooling ── winner takes all ────────────────────────────────────────────────────────────────────────────────────
#
#     y      = max xᵢ
#     ∂y/∂xᵢ = 1 for the first i with xᵢ = y, else 0        NaN wins: the first NaN is the maximum

cdef real max_forward(const real *x, Window *window) noexcept nogil:
    cdef int64_t i, best = 0
    for i in range(1, window.n):
        if x[i] > x[best] or (x[i] != x[i] and x[best] == x[best]):
            best = i
    window.selected = best
    return x[best]

cdef void max_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef int64_t i
    max_forward(x, window)
    for i in range(window.n):
        dx[i] = dy if i == window.selected else 0

MAX = reference("max", <void *> max_forward[float], <void *> max_forward[double], <void *> max_backward[float], <void *> max_backward[double])


# ── Sum pooling ────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y      = Σ xᵢ
#     ∂y/∂xᵢ = 1

cdef inline double sum_of(const real *x, int64_t n) noexcept nogil:
    cdef double total = 0
    cdef int64_t i
    for i in range(n):
        total += x[i]
    return total

cdef real sum_forward(const real *x, Window *window) noexcept nogil:
    return <real> sum_of(x, window.n)

cdef void sum_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef int64_t i
    for i in range(window.n):
        dx[i] = dy

SUM = reference("sum", <void *> sum_forward[float], <void *> sum_forward[double], <void *> sum_backward[float], <void *> sum_backward[double], saves=())


# ── Average pooling ── LeCun et al. 1989 ───────────────────────────────────────────────────────────────────────────────
#
#     y      = 1/q Σ xᵢ         q = divisor_override, if given; else the cells inside image and padding
#     ∂y/∂xᵢ = 1/q                  (count_include_pad), or n, those inside the image

cdef inline double divisor(const Window *window) noexcept nogil:
    cdef double count_include_pad = window.setting[0], divisor_override = window.setting[1]
    if divisor_override:
        return divisor_override
    return window.size if count_include_pad else window.n

cdef real avg_forward(const real *x, Window *window) noexcept nogil:
    return <real> (sum_of(x, window.n) / divisor(window))

cdef void avg_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef real share = <real> (dy / divisor(window))
    cdef int64_t i
    for i in range(window.n):
        dx[i] = share

AVG = reference("avg", <void *> avg_forward[float], <void *> avg_forward[double], <void *> avg_backward[float], <void *> avg_backward[double], saves=())


# ── Lp pooling ── Sermanet, Chintala & LeCun 2012, arXiv:1204.3968, unweighted; Gülçehre et al. 2014, arXiv:1311.1780 ──
#
#     y      = (1/q Σ |xᵢ|ᵖ)^(1/p)                    q = 1, or n with mean      p = 1: magnitudes;  p = ∞: the largest
#     ∂y/∂xᵢ = 1/q · sign(xᵢ) · (|xᵢ| / y)^(p − 1)    at y = 0 the subgradient 0;  p = ∞: sign of the first largest
#
# Powers are taken of uᵢ = |xᵢ| / m with m = max |xᵢ|, so that none overflows: y = m t, t = (1/q Σ uᵢᵖ)^(1/p).

cdef inline double relative(double magnitude, double m) noexcept nogil:
    """magnitude / m; if m = ∞, 1 for infinite cells and 0 for the others (the limit if they grow alike)."""
    if m == INFINITY and magnitude == magnitude:
        return magnitude == INFINITY
    return magnitude / m

cdef inline double sign(double x) noexcept nogil:
    """−1 or 1; 0 and NaN for themselves."""
    return 1 if x > 0 else -1 if x < 0 else x

cdef inline double largest_magnitude(const real *x, Window *window) noexcept nogil:
    """max |xᵢ|, the first one selected; NaN wins."""
    cdef int64_t i, best = 0
    for i in range(1, window.n):
        if fabs(x[i]) > fabs(x[best]) or (x[i] != x[i] and x[best] == x[best]):
            best = i
    window.selected = best
    return fabs(x[best])

cdef inline double lp_factor(const real *x, Window *window, double m) noexcept nogil:
    """t = y / m."""
    cdef double p = window.setting[0], mean = window.setting[1], total = 0
    cdef int64_t i
    for i in range(window.n):
        if stops(i):
            break
        total += pow(relative(fabs(x[i]), m), p)
    return pow(total / window.n if mean else total, 1 / p)

cdef real lp_forward(const real *x, Window *window) noexcept nogil:
    cdef double p = window.setting[0]
    cdef double m = largest_magnitude(x, window)
    if m == 0 or m != m or p == INFINITY:
        return <real> m
    return <real> (m * lp_factor(x, window, m))

cdef void lp_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef double p = window.setting[0], mean = window.setting[1], t
    cdef double m = largest_magnitude(x, window)
    cdef double q = window.n if mean else 1
    cdef int64_t i
    if m == 0 or p == INFINITY:
        for i in range(window.n):
            dx[i] = <real> (dy * sign(x[i])) if i == window.selected else 0
        return
    t = lp_factor(x, window, m)
    for i in range(window.n):
        if stops(i):
            break
        dx[i] = <real> (dy / q * sign(x[i]) * pow(relative(fabs(x[i]), m) / t, p - 1))

LP = reference("lp", <void *> lp_forward[float], <void *> lp_forward[double], <void *> lp_backward[float], <void *> lp_backward[double], saves=("x",))


# ── Stochastic pooling, training ── Zeiler & Fergus 2013, arXiv:1301.3557, eq. 5-6 ─────────────────────────────────────
#
#     pᵢ     = xᵢ / Σ xⱼ                  for x ≥ 0
#     y      = x_l,  l drawn with probability p_l
#     ∂y/∂xᵢ = 1 for i = l, else 0        l is held fixed; Σ x = 0: y = 0 and no gradient

cdef inline double relative_sum(const real *x, Window *window, double *m) noexcept nogil:
    """Σ uᵢ with uᵢ = xᵢ / m, m = max xᵢ: sums of very large or very small cells stay finite and apart from 0."""
    cdef double total = 0
    cdef int64_t i
    m[0] = 0
    for i in range(window.n):
        if not x[i] >= 0:
            window.refused = True
        if x[i] > m[0]:
            m[0] = x[i]
    if m[0] > 0:
        for i in range(window.n):
            total += relative(x[i], m[0])
    return total

cdef real stochastic_forward(const real *x, Window *window) noexcept nogil:
    cdef double m, reached = 0, total = relative_sum(x, window, &m)
    cdef int64_t i
    if window.given:
        return x[window.selected]
    window.selected = 0
    cdef double drawn = uniform(window.seed, window.position) * total
    for i in range(window.n):
        if stops(i):
            break
        reached += relative(x[i], m) if m > 0 else 0
        if x[i] > 0:
            window.selected = i         # if `reached` stays below `drawn` because of rounding, the last positive cell
            if reached > drawn:
                break
    return x[window.selected]

cdef void stochastic_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef int64_t i
    cdef double m
    cdef bint nothing = relative_sum(x, window, &m) == 0
    for i in range(window.n):
        dx[i] = dy if i == window.selected and not nothing else 0

STOCHASTIC = reference("stochastic", <void *> stochastic_forward[float], <void *> stochastic_forward[double],
                       <void *> stochastic_backward[float], <void *> stochastic_backward[double], saves=("x",), needs=("cells", "selects", "draws"),
                       requires="x ≥ 0 everywhere and no NaN (it draws cells with probability x / Σx): apply relu first")


# ── Stochastic pooling, inference: probability weighting ── eq. 7 ──────────────────────────────────────────────────────
#
#     y      = Σ pᵢ xᵢ = Σ xᵢ² / Σ xᵢ         the expectation of what training draws; Σ x = 0: y = 0
#     ∂y/∂xᵢ = (2 xᵢ − y) / Σ xⱼ                                                      Σ x = 0: 0

cdef inline double weighted(const real *x, Window *window, double m, double total) noexcept nogil:
    """y / m = Σ uᵢ² / Σ uᵢ."""
    cdef double squares = 0, u
    cdef int64_t i
    for i in range(window.n):
        if stops(i):
            break
        u = relative(x[i], m)
        squares += u * u
    return squares / total

cdef real probability_weighted_forward(const real *x, Window *window) noexcept nogil:
    cdef double m, total = relative_sum(x, window, &m)
    return <real> (m * weighted(x, window, m, total)) if total > 0 else 0

cdef void probability_weighted_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef double m, total = relative_sum(x, window, &m)
    cdef double ratio = weighted(x, window, m, total) if total > 0 else 0
    cdef int64_t i
    for i in range(window.n):
        dx[i] = <real> (dy * (2 * relative(x[i], m) - ratio) / total) if total > 0 else 0

PROBABILITY_WEIGHTED = reference("probability_weighted",
                                 <void *> probability_weighted_forward[float], <void *> probability_weighted_forward[double],
                                 <void *> probability_weighted_backward[float], <void *> probability_weighted_backward[double],
                                 saves=("x",), needs=(), requires=STOCHASTIC.requires)


# ── Min pooling ────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y      = min xᵢ
#     ∂y/∂xᵢ = 1 for the first i with xᵢ = y, else 0        NaN wins: the first NaN is the minimum

cdef real min_forward(const real *x, Window *window) noexcept nogil:
    cdef int64_t i, best = 0
    for i in range(1, window.n):
        if x[i] < x[best] or (x[i] != x[i] and x[best] == x[best]):
            best = i
    window.selected = best
    return x[best]

cdef void min_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef int64_t i
    min_forward(x, window)
    for i in range(window.n):
        dx[i] = dy if i == window.selected else 0

MIN = reference("min", <void *> min_forward[float], <void *> min_forward[double],
                <void *> min_backward[float], <void *> min_backward[double], saves=("x", "y"), needs=("cells", "selects"))


# ── Order of a window's cells ──────────────────────────────────────────────────────────────────────────────────────────
#
#     x₍₁₎ ≥ x₍₂₎ ≥ … ≥ x₍ₙ₎        equals in row-major order; NaN before all others

cdef inline bint precedes(real a, real b) noexcept nogil:
    return a > b or (a != a and b == b)

cdef inline void rank_cells(const real *x, Window *window) noexcept nogil:
    """window.order[r] = the cell x₍ᵣ₊₁₎: runs of 16 sorted by insertion, then merged."""
    cdef int64_t n = window.n, length = 16, i, j, k, start, middle, end
    cdef int64_t *order = window.order
    cdef int64_t *other = window.order + n
    for i in range(n):
        if stops(i):
            memset(order + i, 0, (n - i) * sizeof(int64_t))
            return
        j = i
        while j % length and precedes(x[i], x[order[j - 1]]):
            order[j] = order[j - 1]
            j -= 1
        order[j] = i
    while length < n:
        start = 0
        while start < n:
            middle, end = min(start + length, n), min(start + 2 * length, n)
            i, j = start, middle
            for k in range(start, end):
                if stops(k):
                    return
                if j == end or (i < middle and not precedes(x[order[j]], x[order[i]])):
                    other[k] = order[i]
                    i += 1
                else:
                    other[k] = order[j]
                    j += 1
            start = end
        for k in range(n):
            order[k] = other[k]
        length *= 2

cdef inline real ranked_sum(const real *x, Window *window) noexcept nogil:
    """Σ w₍ᵣ₎ x₍ᵣ₎ with the weights in window.work; a weight of 0 removes its cell even if infinite."""
    cdef double total = 0
    cdef int64_t r
    for r in range(window.n):
        if window.work[r] != 0 or x[window.order[r]] != x[window.order[r]]:
            total += window.work[r] * x[window.order[r]]
    return <real> total

cdef inline void ranked_share(Window *window, real dy, real *dx) noexcept nogil:
    cdef int64_t r
    for r in range(window.n):
        dx[window.order[r]] = <real> (dy * window.work[r])


# ── The cell of a rank ── found by the digits of its value ─────────────────────────────────────────────────────────────

cdef inline int64_t first_equal(const real *x, int64_t n, real value) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        if x[i] == value or (value != value and x[i] != x[i]):
            return i
    return 0

cdef extern from *:
    """
    /* Whole numbers in the order of floats; NaN above all. */
    static inline uint64_t cnn_key_of_float(float a) {
        union { float real; uint32_t bits; } u = {a};
        if (a != a) return UINT32_MAX;
        return u.bits >> 31 ? ~u.bits : u.bits | UINT32_C(1) << 31;
    }
    static inline uint64_t cnn_key_of_double(double a) {
        union { double real; uint64_t bits; } u = {a};
        if (a != a) return UINT64_MAX;
        return u.bits >> 63 ? ~u.bits : u.bits | UINT64_C(1) << 63;
    }
    """
    uint64_t key_of_float "cnn_key_of_float"(float a) noexcept nogil
    uint64_t key_of_double "cnn_key_of_double"(double a) noexcept nogil

cdef inline uint64_t key_of(real a) noexcept nogil:
    return key_of_float(a) if real is float else key_of_double(a)

cdef inline int64_t cell_of_rank(const real *x, int64_t n, int64_t rank) noexcept nogil:
    """The first cell equal to x₍ᵣₐₙₖ₊₁₎: its key, digit by digit from the first, by counting the cells with the digits so far."""
    cdef int64_t[256] count
    cdef uint64_t prefix = 0, known = 0, key
    cdef int64_t i
    cdef int shift = 8 * sizeof(real), digit
    while shift:
        shift -= 8
        memset(count, 0, sizeof(count))
        for i in range(n):
            if stops(i):
                return 0
            key = key_of(x[i])
            if key & known == prefix:
                count[(key >> shift) & 255] += 1
        digit = 255
        while digit and rank >= count[digit]:
            rank -= count[digit]
            digit -= 1
        prefix |= <uint64_t> digit << shift
        known |= <uint64_t> 255 << shift
    for i in range(n):
        if key_of(x[i]) == prefix:
            return first_equal(x, n, x[i])
    return 0


# ── Median pooling ─────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y      = x₍ₘ₎, m the middle;    n even: the lower of the two middle values, or with mean their mean
#     ∂y/∂xᵢ = 1 for the first i with xᵢ = y, else 0;    mean: ½ for the first cell of each of the two values
#     NaN in a window: y = NaN, taken from the first one

cdef inline void middle_cells(const real *x, Window *window, int64_t *lower, int64_t *upper) noexcept nogil:
    cdef double mean = window.setting[0]
    lower[0] = cell_of_rank(x, window.n, 0)
    if x[lower[0]] == x[lower[0]]:      # no NaN
        lower[0] = cell_of_rank(x, window.n, window.n // 2)
    upper[0] = lower[0]
    if mean and x[lower[0]] == x[lower[0]] and window.n % 2 == 0:
        upper[0] = cell_of_rank(x, window.n, (window.n - 1) // 2)
    window.selected = lower[0]

cdef real median_forward(const real *x, Window *window) noexcept nogil:
    cdef int64_t lower, upper
    middle_cells(x, window, &lower, &upper)
    return x[lower] if lower == upper else <real> (0.5 * x[lower] + 0.5 * x[upper])

cdef void median_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef int64_t i, lower, upper
    middle_cells(x, window, &lower, &upper)
    for i in range(window.n):
        dx[i] = <real> (0.5 * dy) * ((i == lower) + (i == upper)) if i == lower or i == upper else 0  # not 0 · NaN

MEDIAN = reference("median", <void *> median_forward[float], <void *> median_forward[double],
                   <void *> median_backward[float], <void *> median_backward[double], saves=("x",), needs=("order", "cells", "both"))


# ── Mixed pooling ── Lee, Gallagher & Tu 2016, arXiv:1509.08985, eq. 1; with a drawn from {0, 1}: Yu et al. 2014 ───────
#
#     y      = a max xᵢ + (1 − a) mean xᵢ
#     ∂y/∂xᵢ = a·1[i first of the largest] + (1 − a)/n          ∂y/∂a = max xᵢ − mean xᵢ

cdef inline double blend(double a, double largest, double mean) noexcept nogil:
    """a largest + (1 − a) mean; a weight of 0 removes a term even if it is infinite."""
    return (0 if a == 0 else a * largest) + (0 if a == 1 else (1 - a) * mean)

cdef real mixed_forward(const real *x, Window *window) noexcept nogil:
    return <real> blend(window.parameter[0], max_forward(x, window), sum_of(x, window.n) / window.n)

cdef void mixed_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef double a = window.parameter[0], largest = max_forward(x, window)
    cdef int64_t i
    for i in range(window.n):
        dx[i] = <real> (dy * ((a if i == window.selected else 0) + (1 - a) / window.n))
    window.gradient[0] += dy * (largest - sum_of(x, window.n) / window.n)

MIXED = reference("mixed", <void *> mixed_forward[float], <void *> mixed_forward[double],
                  <void *> mixed_backward[float], <void *> mixed_backward[double], saves=("x",), needs=("cells",))


# ── Gated pooling ── Lee, Gallagher & Tu 2016, arXiv:1509.08985, eq. 3 ─────────────────────────────────────────────────
#
#     s      = σ(Σ wᵢ xᵢ + b)              w by the cell's position in the kernel; padding does not contribute
#     y      = s max xᵢ + (1 − s) mean xᵢ
#     ∂y/∂xᵢ = s·1[i first of the largest] + (1 − s)/n + t wᵢ       t = s(1 − s)(max xᵢ − mean xᵢ)
#     ∂y/∂wᵢ = t xᵢ                  ∂y/∂b = t

cdef inline double logistic(double z) noexcept nogil:
    return 1 / (1 + exp(-z)) if z >= 0 else exp(z) / (1 + exp(z))

cdef inline double weighted_cells(const real *x, Window *window, const double *weight) noexcept nogil:
    """Σ weightᵢ xᵢ, weights by the cells' positions in the kernel."""
    cdef double total = 0
    cdef int64_t i
    for i in range(window.n):
        if stops(i):
            break
        total += weight[window.tap[i]] * x[i]
    return total

cdef real gated_forward(const real *x, Window *window) noexcept nogil:
    cdef double s = logistic(weighted_cells(x, window, window.parameter) + window.parameter[window.taps])
    return <real> blend(s, max_forward(x, window), sum_of(x, window.n) / window.n)

cdef void gated_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef double s = logistic(weighted_cells(x, window, window.parameter) + window.parameter[window.taps])
    cdef double t = dy * s * (1 - s) * (max_forward(x, window) - sum_of(x, window.n) / window.n)
    cdef int64_t i
    for i in range(window.n):
        dx[i] = <real> (dy * ((s if i == window.selected else 0) + (1 - s) / window.n) + t * window.parameter[window.tap[i]])
        window.gradient[window.tap[i]] += t * x[i]
    window.gradient[window.taps] += t

GATED = reference("gated", <void *> gated_forward[float], <void *> gated_forward[double],
                  <void *> gated_backward[float], <void *> gated_backward[double], saves=("x",), needs=("cells",))


# ── Tree pooling ── Lee, Gallagher & Tu 2016, arXiv:1509.08985, eq. 5-7 ────────────────────────────────────────────────
#
#     leaf  fₖ = Σ vₖᵢ xᵢ                   node  fₖ = sₖ f₂ₖ₊₁ + (1 − sₖ) f₂ₖ₊₂,  sₖ = σ(Σ wₖᵢ xᵢ)          y = f₀
#     G₀ = 1, down the tree G₂ₖ₊₁ = Gₖ sₖ and G₂ₖ₊₂ = Gₖ (1 − sₖ); with tₖ = Gₖ sₖ(1 − sₖ)(f₂ₖ₊₁ − f₂ₖ₊₂)
#     ∂y/∂vₖᵢ = Gₖ xᵢ        ∂y/∂wₖᵢ = tₖ xᵢ        ∂y/∂xᵢ = Σ Gₖ vₖᵢ over leaves + Σ tₖ wₖᵢ over nodes
#
# Nodes are numbered row by row from the root 0; parameters: the leaves' v, then the inner nodes' w.

cdef enum:
    LARGEST_TREE = 63       # nodes: 6 levels

cdef inline double grow(const real *x, Window *window, int nodes, double *f, double *s) noexcept nogil:
    """Values f of all nodes and gates s of the inner ones; returns y."""
    cdef const double *v = window.parameter
    cdef const double *w = window.parameter + (nodes + 1) * window.taps
    cdef int k
    for k in range(nodes, 2 * nodes + 1):
        f[k] = weighted_cells(x, window, v + (k - nodes) * window.taps)
    for k in range(nodes - 1, -1, -1):
        s[k] = logistic(weighted_cells(x, window, w + k * window.taps))
        f[k] = blend(s[k], f[2 * k + 1], f[2 * k + 2])
    return f[0]

cdef real tree_forward(const real *x, Window *window) noexcept nogil:
    cdef int nodes = <int> window.setting[0]    # inner ones
    cdef double f[LARGEST_TREE]
    cdef double s[LARGEST_TREE]
    return <real> grow(x, window, nodes, f, s)

cdef void tree_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef int nodes = <int> window.setting[0], k
    cdef double f[LARGEST_TREE]
    cdef double s[LARGEST_TREE]
    cdef double G[LARGEST_TREE]
    cdef double total, share
    cdef int64_t i, place
    grow(x, window, nodes, f, s)
    G[0] = dy
    for k in range(nodes):
        G[2 * k + 1], G[2 * k + 2] = G[k] * s[k], G[k] * (1 - s[k])
    for i in range(window.n):
        if stops(i):
            break
        total = 0
        for k in range(2 * nodes + 1):      # leaves first: the order of the parameters
            share = G[nodes + k] if k <= nodes else (
                G[k - nodes - 1] * s[k - nodes - 1] * (1 - s[k - nodes - 1]) * (f[2 * (k - nodes) - 1] - f[2 * (k - nodes)]))
            place = k * window.taps + window.tap[i]
            total += share * window.parameter[place]
            window.gradient[place] += share * x[i]
        dx[i] = <real> total

TREE = reference("tree", <void *> tree_forward[float], <void *> tree_forward[double],
                 <void *> tree_backward[float], <void *> tree_backward[double], saves=("x",), needs=("cells",))


# ── Softmax of a window's cells ────────────────────────────────────────────────────────────────────────────────────────
#
#     wᵢ = e^{r xᵢ} / Σ e^{r xⱼ}        the largest exponent is subtracted first: no overflow, infinite cells included

cdef inline double nearest_of(const real *x, int64_t n, double r) noexcept nogil:
    """The cell with the largest r xᵢ."""
    cdef int64_t i, best = 0
    for i in range(1, n):
        if (x[i] > x[best] if r >= 0 else x[i] < x[best]) or x[best] != x[best]:
            best = i
    return x[best]

cdef inline double growth_of(real x, double r, double nearest) noexcept nogil:
    """e^{r (x − nearest)} − 1"""
    return 0 if r == 0 and x == x else 0 if x == nearest else expm1(r * (x - nearest))

cdef inline double softmax_of(const real *x, Window *window, double r, double *nearest) noexcept nogil:
    """window.work[i] = wᵢ; returns Σ e^{r (xᵢ − nearest)}, nearest the cell with the largest r xᵢ."""
    cdef double total = 0
    cdef int64_t i
    nearest[0] = nearest_of(x, window.n, r)
    for i in range(window.n):
        if stops(i):
            break
        window.work[i] = 1 + growth_of(x[i], r, nearest[0])
        total += window.work[i]
    for i in range(window.n):
        window.work[i] /= total
    return total

cdef inline double distance(double x, double y) noexcept nogil:
    """x − y; 0 if they are equal, even infinite."""
    return 0 if x == y else x - y


# ── Soft pooling ── Stergiou, Poppe & Kalliatakis 2021, arXiv:2101.00440, eq. 1-2; auto: McFee et al. 2018, arXiv:1804.10070
#
#     y      = Σ wᵢ xᵢ,  w = softmax(α x)             soft: α = 1        auto: α is learned (0: average, ∞: maximum)
#     ∂y/∂xᵢ = wᵢ (1 + α (xᵢ − y))                    ∂y/∂α = Σ wᵢ (xᵢ − y)²

cdef inline real expectation(const real *x, Window *window, double alpha) noexcept nogil:
    cdef double nearest = nearest_of(x, window.n, alpha), sum_ = 0, total = 0, e
    cdef int64_t i
    for i in range(window.n):
        if stops(i):
            break
        e = 1 + growth_of(x[i], alpha, nearest)
        sum_ += e
        if e != 0:
            total += e * distance(x[i], nearest)
    total /= sum_
    return <real> (nearest + total if total != 0 or total != total else nearest)

cdef inline double expectation_backward(const real *x, Window *window, double alpha, double y, double dy, real *dx) noexcept nogil:
    """dx; returns ∂y/∂α."""
    cdef double nearest, total = 0, w
    cdef int64_t i
    softmax_of(x, window, alpha, &nearest)
    for i in range(window.n):
        if stops(i):
            break
        w = window.work[i]
        dx[i] = <real> (dy * w * (1 + alpha * distance(x[i], y))) if w != 0 else 0
        total += w * distance(x[i], y) * distance(x[i], y) if w != 0 else 0
    return total

cdef real soft_forward(const real *x, Window *window) noexcept nogil:
    return expectation(x, window, 1)

cdef void soft_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    expectation_backward(x, window, 1, y, dy, dx)

SOFT = reference("soft", <void *> soft_forward[float], <void *> soft_forward[double],
                 <void *> soft_backward[float], <void *> soft_backward[double], saves=("x", "y"), needs=("cells", "forward"))

cdef real auto_forward(const real *x, Window *window) noexcept nogil:
    return expectation(x, window, window.parameter[0])

cdef void auto_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    window.gradient[0] += dy * expectation_backward(x, window, window.parameter[0], y, dy, dx)

AUTO = reference("auto", <void *> auto_forward[float], <void *> auto_forward[double],
                 <void *> auto_backward[float], <void *> auto_backward[double], saves=("x", "y"), needs=("cells", "forward"))


# ── Slopes of a mean of exponentials ── near r = 0, for the pooling below ────────────────────────────────────────────────

cdef enum:
    SERIES_TERMS = 12

cdef inline double flat_slope(const real *x, Window *window, double r, double nearest) noexcept nogil:
    """Derivative in r of 1/r ln(1/n Σ e^{r xᵢ}) for small r, where a difference would consist of rounding errors only.

    It is 1/(n r²) Σ φ(δᵢ), φ(δ) = (1 + δ) ln(1 + δ) − δ = δ² (1/2 − δ/6 + δ²/12 − …), where δᵢ = n wᵢ − 1 = O(r).
    """
    cdef double mean = 0, total = 0, growth, series, d
    cdef int64_t i
    cdef int k
    for i in range(window.n):
        if stops(i):
            break
        d = distance(x[i], nearest)
        mean += (expm1(r * d) / r if r * d != 0 else d) / window.n
    for i in range(window.n):
        if stops(i):
            break
        d = distance(x[i], nearest)
        growth = ((expm1(r * d) / r if r * d != 0 else d) - mean) / (1 + r * mean)      # δᵢ / r
        series = 0
        for k in range(SERIES_TERMS, 0, -1):
            series = 1.0 / (k * (k + 1)) - r * growth * series
        total += growth * growth * series
    return total / window.n


# ── Log-sum-exp pooling ── Pinheiro & Collobert 2015, arXiv:1411.6228, eq. 6; log-average-exp: Lowe et al. 2021, arXiv:2111.01742
#
#     y      = 1/r ln(1/q Σ e^{r xᵢ})                 q = 1, or n with mean; r = 0, mean: the average
#     ∂y/∂xᵢ = wᵢ,  w = softmax(r x)                  ∂y/∂r = (Σ wᵢ xᵢ − y) / r;  r → 0, mean: half the variance

cdef inline double log_mean(const real *x, Window *window, double r, bint mean, double *e, double *sum_, double *slope) noexcept nogil:
    """1/r ln(1/q Σ e^{r xᵢ}), for r = 0 the average, and the derivative in r. ``e``, unless NULL: e^{r (xᵢ − nearest)}; ``sum_``:
    of these.
    """
    cdef double nearest = nearest_of(x, window.n, r), total = 0, excess = 0, middle = 0, widest = 0, d, growth, above
    cdef int64_t i
    for i in range(window.n):
        if stops(i):
            break
        d = distance(x[i], nearest)
        growth = growth_of(x[i], r, nearest)
        excess += growth
        total += 1 + growth
        middle += (1 + growth) * d if 1 + growth != 0 else 0
        widest = max(widest, fabs(d))
        if e != NULL:
            e[i] = 1 + growth
    middle /= total
    sum_[0] = total
    if mean:    # a sum near n would lose its difference from n in rounding, one large cell would lose n
        above = (log1p(excess / window.n) if total > 0.5 * window.n else log(total / window.n)) / r
    else:
        above = log(total) / r
    slope[0] = flat_slope(x, window, r, nearest) if mean and fabs(r) * widest < 0.03 else (middle - above) / r
    if r == 0 or (mean and fabs(r) * widest < 1e-30):   # an r with few digits left, or none
        return sum_of(x, window.n) / window.n
    return nearest if above == 0 else nearest + above

cdef real log_sum_exp_forward(const real *x, Window *window) noexcept nogil:
    cdef double sum_, slope
    return <real> log_mean(x, window, window.parameter[0], window.setting[0] != 0, NULL, &sum_, &slope)

cdef void log_sum_exp_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef double r = window.parameter[0], sum_, slope
    cdef double value = log_mean(x, window, r, window.setting[0] != 0, window.work, &sum_, &slope)
    cdef bint nothing = value == -INFINITY if r > 0 else r < 0 and value == INFINITY      # e^{r x} = 0 in all cells
    cdef int64_t i
    for i in range(window.n):
        dx[i] = 0 if nothing else <real> (dy * (window.work[i] / sum_))
    window.gradient[0] += dy * slope

LOG_SUM_EXP = reference("log_sum_exp", <void *> log_sum_exp_forward[float], <void *> log_sum_exp_forward[double],
                        <void *> log_sum_exp_backward[float], <void *> log_sum_exp_backward[double], saves=("x",), needs=("cells", "forward"))


# ── Power mean ── of values ≥ 0, the heart of the three poolings below ─────────────────────────────────────────────────
#
#     M      = (1/n Σ vᵢ^q)^{1/q} = m exp(1/q ln(1/n Σ e^{q lᵢ})),  lᵢ = ln(vᵢ / m)          q = 0: the geometric mean
#     ∂M/∂vᵢ = 1/n (vᵢ / M)^{q − 1} = 1/n e^{(q − 1)(lᵢ − L)}                   ∂M/∂q = M ∂L/∂q,  L = ln(M / m)
#
# m is the largest value, or for q < 0 the smallest: no power overflows.

cdef inline double power_mean(Window *window, double q, double *L, double *slope) noexcept nogil:
    """M of the values in window.work, which become l (±∞ where ∂M/∂v is 0); ``slope`` = ∂M/∂q."""
    cdef double *v = window.work
    cdef double m = v[0], sum_
    cdef int64_t i
    for i in range(1, window.n):
        if (v[i] > m if q >= 0 else v[i] < m) or v[i] != v[i]:
            m = v[i]
        if m != m:
            break
    L[0], slope[0] = 0, 0
    if m == 0 or m != m:
        for i in range(window.n):
            v[i] = m if m != m else INFINITY
        return m
    for i in range(window.n):
        if stops(i):
            break
        v[i] = log(relative(v[i], m))
    if m == INFINITY and q == 0:
        for i in range(window.n):
            v[i] = 0
        return m
    L[0] = log_mean(<const double *> v, window, q, True, NULL, &sum_, slope)
    m = m if m == INFINITY else m * exp(L[0])
    slope[0] *= m
    return m

cdef inline double power_share(Window *window, int64_t i, double q, double L) noexcept nogil:
    """∂M/∂vᵢ"""
    cdef double l = window.work[i]
    return 0 if fabs(l) == INFINITY else exp((q - 1) * (l - L)) / window.n


# ── Generalised mean (GeM) ── Radenović, Tolias & Chum 2018, arXiv:1711.02512, eq. 3 ───────────────────────────────────
#
#     y      = (1/n Σ max(xᵢ, ε)^p)^{1/p}
#     ∂y/∂xᵢ = 1/n (xᵢ / y)^{p − 1} for xᵢ > ε, else 0          ∂y/∂p = y/p² (p Σ xᵢ^p ln xᵢ / Σ xᵢ^p − ln(1/n Σ xᵢ^p))

cdef inline double gem_mean(const real *x, Window *window, double *L, double *slope) noexcept nogil:
    cdef double eps = window.setting[0]
    cdef int64_t i
    for i in range(window.n):
        window.work[i] = eps if x[i] <= eps else x[i]
    return power_mean(window, window.parameter[0], L, slope)

cdef real gem_forward(const real *x, Window *window) noexcept nogil:
    cdef double L, slope
    return <real> gem_mean(x, window, &L, &slope)

cdef void gem_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef double L, slope, eps = window.setting[0]
    cdef int64_t i
    gem_mean(x, window, &L, &slope)
    for i in range(window.n):
        if stops(i):
            break
        dx[i] = 0 if x[i] <= eps else <real> (dy * power_share(window, i, window.parameter[0], L))
    window.gradient[0] += dy * slope

GEM = reference("gem", <void *> gem_forward[float], <void *> gem_forward[double],
                <void *> gem_backward[float], <void *> gem_backward[double], saves=("x",), needs=("cells",))


# ── α-integration ── Eom & Choi 2018, arXiv:1811.03436; Amari 2007 ─────────────────────────────────────────────────────
#
#     y      = (1/n Σ (xᵢ + ε)^q)^{1/q},  q = (1 − α)/2        α = −1: average, 1: geometric, 3: harmonic mean, −∞: maximum
#     ∂y/∂xᵢ = 1/n ((xᵢ + ε) / y)^{q − 1}                      ∂y/∂α = −½ ∂y/∂q, ∂y/∂q as GeM's ∂y/∂p

cdef inline double alpha_mean(const real *x, Window *window, double *L, double *slope) noexcept nogil:
    cdef double eps = window.setting[0]
    cdef int64_t i
    for i in range(window.n):
        window.work[i] = x[i] + eps
        if not window.work[i] > 0:
            window.refused = True
    return power_mean(window, 0.5 * (1 - window.parameter[0]), L, slope)

cdef real alpha_forward(const real *x, Window *window) noexcept nogil:
    cdef double L, slope
    return <real> alpha_mean(x, window, &L, &slope)

cdef void alpha_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef double L, slope
    cdef int64_t i
    alpha_mean(x, window, &L, &slope)
    for i in range(window.n):
        if stops(i):
            break
        dx[i] = <real> (dy * power_share(window, i, 0.5 * (1 - window.parameter[0]), L))
    window.gradient[0] -= 0.5 * dy * slope

ALPHA = reference("alpha", <void *> alpha_forward[float], <void *> alpha_forward[double],
                  <void *> alpha_backward[float], <void *> alpha_backward[double], saves=("x",), needs=("cells",),
                  requires="x + eps > 0 everywhere and no NaN: apply relu or softplus first, and give eps > 0 where x can be 0")


# ── Lp pooling with learned p ── Gülçehre, Cho, Pascanu & Bengio 2014, arXiv:1311.1780, eq. 3-4 ────────────────────────
#
#     y      = (1/n Σ |xᵢ − c|^p)^{1/p},  p = 1 + ln(1 + e^ρ)
#     ∂y/∂xᵢ = 1/n sign(xᵢ − c) (|xᵢ − c| / y)^{p − 1}, 0 at y = 0        ∂y/∂c = −Σ ∂y/∂xᵢ
#     ∂y/∂ρ  = σ(ρ) y/p² (p Σ |xᵢ − c|^p ln |xᵢ − c| / Σ |xᵢ − c|^p − ln(1/n Σ |xᵢ − c|^p))

cdef inline double norm_order(const Window *window) noexcept nogil:
    cdef double rho = window.parameter[0]
    return 1 + (rho + log1p(exp(-rho)) if rho > 0 else log1p(exp(rho)))

cdef inline double learned_norm(const real *x, Window *window, double *L, double *slope) noexcept nogil:
    cdef double c = window.parameter[1]
    cdef int64_t i
    for i in range(window.n):
        window.work[i] = fabs(x[i] - c)
    return power_mean(window, norm_order(window), L, slope)

cdef real learned_lp_forward(const real *x, Window *window) noexcept nogil:
    cdef double L, slope
    return <real> learned_norm(x, window, &L, &slope)

cdef void learned_lp_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef double L, slope, share, total = 0
    cdef int64_t i
    learned_norm(x, window, &L, &slope)
    for i in range(window.n):
        if stops(i):
            break
        share = dy * sign(x[i] - window.parameter[1]) * power_share(window, i, norm_order(window), L)
        total += share
        dx[i] = <real> share
    window.gradient[0] += dy * logistic(window.parameter[0]) * slope
    window.gradient[1] -= total

LEARNED_LP = reference("learned_lp", <void *> learned_lp_forward[float], <void *> learned_lp_forward[double],
                       <void *> learned_lp_backward[float], <void *> learned_lp_backward[double], saves=("x",), needs=("cells",))


# ── Ordinal pooling ── Deliège, Istasse, Kumar, De Vleeschouwer & Van Droogenbroeck 2021, arXiv:2109.01561 ─────────────
#
#     y       = Σ vᵣ x₍ᵣ₎ / Σ vᵣ over the n ranks of the window;  v = w, or e^w with softmax
#     ∂y/∂x₍ᵣ₎ = vᵣ / Σ v                  ∂y/∂vᵣ = (x₍ᵣ₎ − y) / Σ v;  softmax: ∂y/∂wᵣ = vᵣ ∂y/∂vᵣ

cdef inline double weigh_ranks(const real *x, Window *window) noexcept nogil:
    """The cells in order, window.work = v / Σ v; returns Σ v, with softmax of e^{w − max w}."""
    cdef double softmax = window.setting[0], largest = window.parameter[0], total = 0
    cdef int64_t r
    rank_cells(x, window)
    for r in range(window.n):
        largest = max(largest, window.parameter[r])
    for r in range(window.n):
        if stops(r):
            break
        window.work[r] = exp(window.parameter[r] - largest) if softmax else window.parameter[r]
        total += window.work[r]
    for r in range(window.n):
        window.work[r] /= total
    return total

cdef real ordinal_forward(const real *x, Window *window) noexcept nogil:
    weigh_ranks(x, window)
    return ranked_sum(x, window)

cdef void ordinal_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef double softmax = window.setting[0], total = weigh_ranks(x, window)
    cdef int64_t r
    ranked_share(window, dy, dx)
    for r in range(window.n):
        window.gradient[r] += dy * (x[window.order[r]] - y) * (window.work[r] if softmax else 1 / total)

ORDINAL = reference("ordinal", <void *> ordinal_forward[float], <void *> ordinal_forward[double],
                    <void *> ordinal_backward[float], <void *> ordinal_backward[double], saves=("x", "y"), needs=("order", "cells"))


# ── Rank-based pooling ── Shi, Ye & Wu 2016, Neural Networks 83 ────────────────────────────────────────────────────────
#
#     average     y = 1/t Σ x₍ᵣ₎ over r ≤ t                     t = ⌈n/2⌉ unless given, n at most
#     weighted    y = Σ pᵣ x₍ᵣ₎,  pᵣ = a (1 − a)^{r − 1}         normalized: divided by Σ p
#     stochastic  y = x₍ᵣ₎, r drawn with probability pᵣ / Σ p    in inference: weighted, normalized
#     ∂y/∂x₍ᵣ₎ = 1/t or 0;    pᵣ;    1 for the cell drawn, else 0

cdef inline void rank_average(const real *x, Window *window) noexcept nogil:
    cdef int64_t t = <int64_t> window.setting[0], r
    t = min(t, window.n) if t else (window.n + 1) // 2
    rank_cells(x, window)
    for r in range(window.n):
        window.work[r] = 1.0 / t if r < t else 0

cdef real rank_avg_forward(const real *x, Window *window) noexcept nogil:
    rank_average(x, window)
    return ranked_sum(x, window)

cdef void rank_avg_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    rank_average(x, window)
    ranked_share(window, dy, dx)

RANK_AVG = reference("rank_avg", <void *> rank_avg_forward[float], <void *> rank_avg_forward[double],
                     <void *> rank_avg_backward[float], <void *> rank_avg_backward[double], saves=("x",), needs=("order", "cells"))

cdef inline double rank_weights(const real *x, Window *window) noexcept nogil:
    """The cells in order, window.work = p, normalized if set; returns Σ p."""
    cdef double a = window.setting[0], normalized = window.setting[1], total = 0
    cdef int64_t r
    rank_cells(x, window)
    for r in range(window.n):
        if stops(r):
            break
        window.work[r] = a * pow(1 - a, r)
        total += window.work[r]
    for r in range(window.n):
        window.work[r] /= total if normalized else 1
    return total

cdef real rank_weighted_forward(const real *x, Window *window) noexcept nogil:
    rank_weights(x, window)
    return ranked_sum(x, window)

cdef void rank_weighted_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    rank_weights(x, window)
    ranked_share(window, dy, dx)

RANK_WEIGHTED = reference("rank_weighted", <void *> rank_weighted_forward[float], <void *> rank_weighted_forward[double],
                          <void *> rank_weighted_backward[float], <void *> rank_weighted_backward[double], saves=("x",), needs=("order", "cells"))

cdef real rank_stochastic_forward(const real *x, Window *window) noexcept nogil:
    cdef double reached = 0, drawn
    cdef int64_t r
    if not window.given:
        rank_weights(x, window)
        drawn = uniform(window.seed, window.position)
        for r in range(window.n):
            window.selected = window.order[r]
            reached += window.work[r]
            if reached > drawn:
                break
    return x[window.selected]

cdef void selected_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    """The cell that was drawn takes dy."""
    cdef int64_t i
    for i in range(window.n):
        dx[i] = dy if i == window.selected else 0

RANK_STOCHASTIC = reference("rank_stochastic", <void *> rank_stochastic_forward[float], <void *> rank_stochastic_forward[double],
                            <void *> selected_backward[float], <void *> selected_backward[double], saves=(), needs=("order", "cells", "selects", "draws"))


# ── Max-pooling dropout, training ── Wu & Gu 2015, arXiv:1512.01400, eq. 4-7 ───────────────────────────────────────────
#
#     y      = max of the cells that are kept, each with probability 1 − q; 0 where none is
#     ∂y/∂xᵢ = 1 for the first of the largest that are kept, else 0
# A cell of the image is kept or dropped for all windows that contain it. In inference: rank weighted with a = 1 − q.

cdef real max_dropout_forward(const real *x, Window *window) noexcept nogil:
    cdef double q = window.setting[0]
    cdef uint64_t planes = <uint64_t> window.plane << 40
    cdef int64_t i, best = -1
    if not window.given:
        for i in range(window.n):
            if stops(i):
                break
            if uniform(window.seed, planes + window.place[i]) >= q and (best < 0 or precedes(x[i], x[best])):
                best = i
        window.selected = best
    return x[window.selected] if window.selected >= 0 else 0

MAX_DROPOUT = reference("max_dropout", <void *> max_dropout_forward[float], <void *> max_dropout_forward[double],
                        <void *> selected_backward[float], <void *> selected_backward[double], saves=(),
                        needs=("place", "none", "cells", "selects", "draws"))


# ── Morphological pooling ── grey-scale dilation and erosion: Serra 1982; learned: Franchi, Fehri & Yao 2020 ───────────
#
#     dilation  y = max(xᵢ + fᵢ)       ∂y/∂xᵢ = ∂y/∂fᵢ = 1 for the first i with xᵢ + fᵢ = y, else 0
#     erosion   y = min(xᵢ − fᵢ)       ∂y/∂xᵢ = −∂y/∂fᵢ = 1 for the first i with xᵢ − fᵢ = y, else 0        NaN wins

cdef real dilation_forward(const real *x, Window *window) noexcept nogil:
    cdef real raised, best = 0
    cdef int64_t i
    for i in range(window.n):
        raised = <real> (x[i] + window.parameter[window.tap[i]])
        if i == 0 or precedes(raised, best):
            best = raised
            window.selected = i
    return best

cdef void dilation_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    dilation_forward(x, window)
    selected_backward(x, window, y, dy, dx)
    window.gradient[window.tap[window.selected]] += dy

DILATION = reference("dilation", <void *> dilation_forward[float], <void *> dilation_forward[double],
                     <void *> dilation_backward[float], <void *> dilation_backward[double], saves=("x",), needs=("cells",))

cdef real erosion_forward(const real *x, Window *window) noexcept nogil:
    cdef real lowered, best = 0
    cdef int64_t i
    for i in range(window.n):
        lowered = <real> (x[i] - window.parameter[window.tap[i]])
        if i == 0 or precedes(-lowered, -best):
            best = lowered
            window.selected = i
    return best

cdef void erosion_backward(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    erosion_forward(x, window)
    selected_backward(x, window, y, dy, dx)
    window.gradient[window.tap[window.selected]] -= dy

EROSION = reference("erosion", <void *> erosion_forward[float], <void *> erosion_forward[double],
                    <void *> erosion_backward[float], <void *> erosion_backward[double], saves=("x",), needs=("cells",))


# ── The loop over windows ──────────────────────────────────────────────────────────────────────────────────────────────

cdef inline int64_t first_cell(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow, const cnn_tensor *image) noexcept nogil:
    """Offset of the first cell of window (od, oh, ow) in a plane of ``image``."""
    return cell_offset(image, call.axis[0].first[od], call.axis[1].first[oh], call.axis[2].first[ow])


cdef inline int64_t count_cells(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow) noexcept nogil:
    return call.axis[0].count[od] * call.axis[1].count[oh] * call.axis[2].count[ow]


cdef inline bint is_adjacent(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow, const cnn_tensor *image) noexcept nogil:
    """Whether the cells of a window are contiguous, as those of a whole plane are: then nothing is gathered."""
    cdef int64_t side_by_side = 1, count
    cdef int64_t[3] window
    cdef int axis
    window[0], window[1], window[2] = od, oh, ow
    for axis in range(2, -1, -1):
        count = call.axis[axis].count[window[axis]]
        if count > 1 and image.stride[axis + 2] * call.axis[axis].step != side_by_side:
            return False
        side_by_side *= count
    return True


cdef void gather(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow, const real *plane, real *x) noexcept nogil:
    """The cells of a window, in row-major order."""
    cdef int64_t D = call.axis[0].count[od], H = call.axis[1].count[oh], W = call.axis[2].count[ow], n = 0, d, h, w, row
    cdef int64_t step_d = call.axis[0].step * call.x.stride[2], step_h = call.axis[1].step * call.x.stride[3]
    cdef int64_t step_w = call.axis[2].step * call.x.stride[4], start = first_cell(call, od, oh, ow, &call.x)
    for d in range(D):
        for h in range(H):
            row = start + d * step_d + h * step_h
            for w in range(W):
                x[n] = plane[row + w * step_w]
                n += 1


cdef void scatter(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow, const real *part, real *plane) noexcept nogil:
    """Add the gradients of a window's cells to those of the plane."""
    cdef int64_t D = call.axis[0].count[od], H = call.axis[1].count[oh], W = call.axis[2].count[ow], n = 0, d, h, w, row
    cdef int64_t step_d = call.axis[0].step * call.dx.stride[2], step_h = call.axis[1].step * call.dx.stride[3]
    cdef int64_t step_w = call.axis[2].step * call.dx.stride[4], start = first_cell(call, od, oh, ow, &call.dx)
    for d in range(D):
        for h in range(H):
            row = start + d * step_d + h * step_h
            for w in range(W):
                plane[row + w * step_w] += part[n]
                n += 1


cdef inline bint needs_taps(const cnn_pool *call) noexcept nogil:
    """Whether there is a parameter for every cell of the kernel."""
    return call.parameters > 0 and call.parameters >= call.axis[0].kernel * call.axis[1].kernel * call.axis[2].kernel


cdef void find_taps(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow, int64_t *tap) noexcept nogil:
    """The positions of a window's cells in the kernel, which index the parameters."""
    cdef const cnn_axis *D = &call.axis[0]
    cdef const cnn_axis *H = &call.axis[1]
    cdef const cnn_axis *W = &call.axis[2]
    cdef int64_t n = 0, d, h, w
    for d in range(D.count[od]):
        for h in range(H.count[oh]):
            for w in range(W.count[ow]):
                tap[n] = ((D.tap[od] + d) * H.kernel + H.tap[oh] + h) * W.kernel + W.tap[ow] + w
                n += 1


cdef inline int64_t window_size(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow) noexcept nogil:
    return call.axis[0].extent[od] * call.axis[1].extent[oh] * call.axis[2].extent[ow]


cdef inline int64_t plane_offset(const cnn_tensor *t, int64_t plane) noexcept nogil:
    """Start of plane number ``plane`` of N × C."""
    return plane // t.shape[1] * t.stride[0] + plane % t.shape[1] * t.stride[1]


cdef inline int64_t cell_offset(const cnn_tensor *t, int64_t d, int64_t h, int64_t w) noexcept nogil:
    return d * t.stride[2] + h * t.stride[3] + w * t.stride[4]


cdef inline int64_t position_of(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow, int64_t cell) noexcept nogil:
    """Row-major position in the plane of cell number ``cell`` of a window."""
    cdef const cnn_axis *D = &call.axis[0]
    cdef const cnn_axis *H = &call.axis[1]
    cdef const cnn_axis *W = &call.axis[2]
    cdef int64_t w = W.first[ow] + cell % W.count[ow] * W.step
    cdef int64_t h = H.first[oh] + cell // W.count[ow] % H.count[oh] * H.step
    cdef int64_t d = D.first[od] + cell // W.count[ow] // H.count[oh] * D.step
    return (d * H.input + h) * W.input + w


cdef inline int64_t step_to(const cnn_axis *axis, int64_t o, int64_t place) noexcept nogil:
    """The cell of window ``o`` at position ``place`` along the axis; -1 if there is none."""
    cdef int64_t distance = place - axis.first[o]
    if distance < 0 or distance % axis.step or distance // axis.step >= axis.count[o]:
        return -1
    return distance // axis.step


cdef inline int64_t cell_at(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow, int64_t position) noexcept nogil:
    """Number of the window's cell at a row-major position in the plane, the inverse of position_of; -1 if there is
    none.
    """
    if position < 0:
        return -1
    cdef int64_t w = step_to(&call.axis[2], ow, position % call.axis[2].input)
    cdef int64_t h = step_to(&call.axis[1], oh, position // call.axis[2].input % call.axis[1].input)
    cdef int64_t d = step_to(&call.axis[0], od, position // call.axis[2].input // call.axis[1].input)
    if d < 0 or h < 0 or w < 0:
        return -1
    return (d * call.axis[1].count[oh] + h) * call.axis[2].count[ow] + w


cdef inline bint recall(const cnn_pool *call, int64_t plane, int64_t od, int64_t oh, int64_t ow, Window *window) noexcept nogil:
    """Let the window select the cell in ``call.drawn``, if given; False if that lies outside the window."""
    cdef int64_t position
    window.given = call.drawn.data != NULL
    if window.given:
        position = (<const int64_t *> call.drawn.data)[plane_offset(&call.drawn, plane) + cell_offset(&call.drawn, od, oh, ow)]
        window.selected = cell_at(call, od, oh, ow, position)
        return window.selected >= 0 or (position == -1 and (<const Functions *> call.strategy).may_select_none)
    return True


cdef extern from *:
    """
    /* Atomic, as several workers may do so at once. */
    static void cnn_refuse(cnn_pool *call, int why) { __atomic_store_n(&call->refused, why, __ATOMIC_RELAXED); }
    """
    void refuse "cnn_refuse"(cnn_pool *call, int why) noexcept nogil

cdef inline int64_t work_numbers(const Functions *functions, bint backward) noexcept nogil:
    """Numbers of window.work, per cell."""
    if not functions.whole or functions.streams == 2:
        return 0
    return backward if functions.streams else 1


cdef inline int64_t order_numbers(const Functions *functions) noexcept nogil:
    """Numbers of window.order, per cell."""
    return 2 if functions.ranks and functions.streams < 2 else 0


cdef inline void prepare(const cnn_pool *call, void *scratch, bint backward, Window *window) noexcept nogil:
    """Fill in what all windows of a call share; ``scratch`` has gather_bytes bytes, less those of the cells."""
    cdef const Functions *functions = <const Functions *> call.strategy
    window.setting, window.seed = call.setting, call.seed
    window.taps = call.axis[0].kernel * call.axis[1].kernel * call.axis[2].kernel
    window.work = <double *> scratch
    window.place = <int64_t *> (window.work + work_numbers(functions, backward) * call.cells)
    window.order = window.place + (call.cells if functions.places else 0)
    window.tap = window.order + order_numbers(functions) * call.cells


cdef inline void enter(const cnn_pool *call, int64_t plane, int64_t od, int64_t oh, int64_t ow, Window *window) noexcept nogil:
    """Fill in the fields of one window."""
    cdef int64_t i
    window.size = window_size(call, od, oh, ow)
    window.position = call.first_window + (
        (plane * call.axis[0].output + od) * call.axis[1].output + oh) * call.axis[2].output + ow
    window.parameter = call.parameter + plane % call.parameter_rows * call.parameters
    window.refused = False
    window.n = count_cells(call, od, oh, ow)
    if needs_taps(call):
        find_taps(call, od, oh, ow, <int64_t *> window.tap)
    if (<const Functions *> call.strategy).places:
        window.plane = call.first_plane + plane
        for i in range(window.n):
            window.place[i] = position_of(call, od, oh, ow, i)


cdef void pool_forward(cnn_pool *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c): gather the cells of each window, apply the strategy, store y and its position."""
    cdef real *gathered = scratch
    cdef void *strategy_forward = (<const Functions *> call.strategy).forward[0 if real is float else 1]
    cdef int64_t plane, od, oh, ow
    cdef const real *image
    cdef const real *x
    cdef real *y
    cdef Window window
    prepare(call, scratch + cells_in_scratch(call), False, &window)
    cdef int64_t left = PIECE
    for plane in range(begin, end):
        image = <const real *> call.x.data + plane_offset(&call.x, plane)
        y = <real *> call.y.data + plane_offset(&call.y, plane)
        for od in range(call.axis[0].output):
            for oh in range(call.axis[1].output):
                for ow in range(call.axis[2].output):
                    if stop_after(&left, 8 + call.cells):
                        return
                    enter(call, plane, od, oh, ow, &window)
                    x = image + first_cell(call, od, oh, ow, &call.x)
                    if not is_adjacent(call, od, oh, ow, &call.x):
                        gather(call, od, oh, ow, image, gathered)
                        x = gathered
                    if not recall(call, plane, od, oh, ow, &window):
                        refuse(call, CNN_POOL_REFUSED_STATE)
                        return
                    y[cell_offset(&call.y, od, oh, ow)] = (
                        (<real (*)(const real *, Window *) noexcept nogil> strategy_forward)(x, &window))
                    if window.refused:
                        refuse(call, CNN_POOL_REFUSED_CELLS)
                        return
                    if call.indices.data != NULL:
                        (<int64_t *> call.indices.data)[
                            plane_offset(&call.indices, plane) + cell_offset(&call.indices, od, oh, ow)
                        ] = position_of(call, od, oh, ow, window.selected) if window.selected >= 0 else -1


cdef void pool_backward(cnn_pool *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes: gather as in forward, apply the strategy, accumulate into dx (windows may overlap)."""
    cdef real *gathered = scratch
    cdef real *part = scratch + cells_in_scratch(call)
    cdef void *strategy_backward = (<const Functions *> call.strategy).backward[0 if real is float else 1]
    cdef int64_t plane, od, oh, ow, i, d, h, w
    cdef const real *image
    cdef const real *x
    cdef const real *y
    cdef const real *dy
    cdef real *dx
    cdef Window window
    prepare(call, part + (call.cells + 1) // 2 * 2, True, &window)
    cdef int64_t left = PIECE
    for plane in range(begin, end):
        image = <const real *> call.x.data + plane_offset(&call.x, plane)
        y = <const real *> call.y.data + plane_offset(&call.y, plane)
        dy = <const real *> call.dy.data + plane_offset(&call.dy, plane)
        dx = <real *> call.dx.data + plane_offset(&call.dx, plane)
        window.gradient = call.gradient + plane * call.parameters
        for i in range(call.parameters):
            window.gradient[i] = 0
        if not call.accumulate:
            for d in range(call.dx.shape[2]):
                for h in range(call.dx.shape[3]):
                    if stop_after(&left, call.dx.shape[4]):
                        return
                    for w in range(call.dx.shape[4]):
                        dx[cell_offset(&call.dx, d, h, w)] = 0
        for od in range(call.axis[0].output):
            for oh in range(call.axis[1].output):
                for ow in range(call.axis[2].output):
                    if stop_after(&left, 8 + call.cells):
                        return
                    enter(call, plane, od, oh, ow, &window)
                    recall(call, plane, od, oh, ow, &window)
                    x = image + first_cell(call, od, oh, ow, &call.x)
                    if not is_adjacent(call, od, oh, ow, &call.x):
                        gather(call, od, oh, ow, image, gathered)
                        x = gathered
                    (<void (*)(const real *, Window *, real, real, real *) noexcept nogil> strategy_backward)(
                        x, &window, y[cell_offset(&call.y, od, oh, ow)], dy[cell_offset(&call.dy, od, oh, ow)], part)
                    scatter(call, od, oh, ow, part, dx)


# ── Calls from Python ──────────────────────────────────────────────────────────────────────────────────────────────────

cdef class Windows:

    def __init__(self, tables, input_, kernel_, step):
        cdef int i
        cdef Tensor table
        cells = positions = 1
        self.tables = list(map(Tensor, tables))       # keeps their memory alive
        for i in range(3):
            table = self.tables[i]
            self.axis[i].first = <const int64_t *> table.view.data
            self.axis[i].count = self.axis[i].first + table.view.stride[0]
            self.axis[i].tap = self.axis[i].count + table.view.stride[0]
            self.axis[i].extent = self.axis[i].tap + table.view.stride[0]
            self.axis[i].input, self.axis[i].output = input_[i], table.view.shape[1]
            self.axis[i].kernel, self.axis[i].step = kernel_[i], step[i]
            cells *= int(tables[i][1].max())
            positions *= input_[i]
        self.cells, self.positions = cells, min(positions, 2**62)
        self.slide = 0
        while self.slide < 2 and self.axis[self.slide].input == self.axis[self.slide].output == 1:
            self.slide += 1
        first, count = tables[self.slide][0], tables[self.slide][1]
        end = first + count * step[self.slide]
        self.forward = bool((first[1:] >= first[:len(first) - 1]).all() and (end[1:] >= end[:len(end) - 1]).all())


cdef class Numbers:
    """The inputs of a strategy besides x: its settings, the parameters, the seed, cells drawn earlier."""

    def __init__(self, tuple settings=(), parameters=None, uint64_t seed=0, drawn=None, uint64_t first_window=0,
                 uint64_t first_plane=0):
        """``parameters``: float64, one row for all planes, one per channel, or one per plane of images × channels."""
        self.settings, self.seed, self.first_window, self.first_plane = settings, seed, first_window, first_plane
        self.parameters = None if parameters is None else tensor(parameters)
        self.drawn = None if drawn is None else tensor(drawn)


cdef void prepare_call(cnn_pool *call, Reference strategy, Windows windows, Numbers numbers):
    cdef int i
    for i in range(3):
        call.axis[i] = windows.axis[i]
    for i in range(8):
        call.setting[i] = numbers.settings[i] if i < len(numbers.settings) else 0
    call.cells = windows.cells
    call.strategy = &strategy.functions
    call.seed, call.first_window, call.first_plane = numbers.seed, numbers.first_window, numbers.first_plane
    call.refused = 0
    call.accumulate = call.learns = 0
    call.whole_scratch = 0
    call.indices.data = NULL
    call.drawn.data = NULL
    call.parameter = call.gradient = NULL
    call.parameter_rows, call.parameters = 1, 0
    if numbers.drawn is not None:
        call.drawn = numbers.drawn.view
    if numbers.parameters is not None:
        call.parameter = <const double *> numbers.parameters.view.data
        call.parameter_rows, call.parameters = numbers.parameters.view.shape[0], numbers.parameters.view.shape[1]


cdef double work(const cnn_pool *call, const cnn_tensor *y):
    """Elementary operations of a call: cells of all windows."""
    cdef double cells = call.cells
    cdef int i
    for i in range(5):
        cells *= y.shape[i]
    return cells


cdef inline int64_t cells_in_scratch(const cnn_pool *call) noexcept nogil:
    """Room for the gathered cells of a window, an even number of values; none if a window is contiguous in memory."""
    if (call.axis[0].output == 1 and call.axis[1].output == 1 and call.axis[2].output == 1
            and is_adjacent(call, 0, 0, 0, &call.x)):
        return 0
    return (call.cells + 1) // 2 * 2


cdef int64_t gather_bytes(const cnn_pool *call, int64_t itemsize, bint backward) noexcept:
    """Scratch of the reference implementation: cells and gradients of one window, and what the strategy needs."""
    cdef const Functions *functions = <const Functions *> call.strategy
    cdef int64_t numbers = work_numbers(functions, backward) + order_numbers(functions)
    numbers += (1 if functions.places else 0) + (1 if needs_taps(call) else 0)
    return itemsize * (cells_in_scratch(call) + ((call.cells + 1) // 2 * 2 if backward else 0)) + call.cells * numbers * 8


# ── How a call is partitioned into tasks ──────────────────────────────────────────────────────────────────────────────────

cdef enum:
    BAND_BYTES = 192 * 1024             # packed cells of a band: a fraction of the L2 cache
    LARGEST_BAND_BYTES = 128 * 1024 * 1024  # above it the reference implementation runs, window by window
    LARGEST_SPARSE_BAND_BYTES = 32 * 1024 * 1024    # the same if planes are so few that most lanes of a band are empty
    LARGEST_WHOLE_WINDOW = 64 * 1024    # cells that kernels hold as vectors
    TASKS = 32                          # target number of tasks for up to eight threads; for more as many for each,
    TASK_CELLS = 4096                   # unless that leaves a task fewer cells of the image


cdef inline bint channels_last(const cnn_tensor *t) noexcept nogil:
    return t.stride[1] == 1


cdef int64_t slice_cells(const cnn_tensor *t, int slide) noexcept nogil:
    """Cells of ``t`` per cell of the sliding axis."""
    cdef int64_t cells = 1
    cdef int axis
    for axis in range(slide + 1, 3):
        cells *= t.shape[axis + 2]
    return cells


cdef int64_t span_of(const cnn_axis *axis, int64_t band) noexcept nogil:
    """The most cells that ``band`` adjacent windows cover."""
    cdef int64_t most = 0, start = 0, stop, span
    while start < axis.output:
        stop = min(start + band, axis.output) - 1
        span = axis.first[stop] + (axis.count[stop] - 1) * axis.step + 1 - axis.first[start]
        most = max(most, span)
        start += band
    return most


cdef int64_t partition(cnn_pool *call, Windows windows, const cnn_tensor *image, const cnn_tensor *reduced, int64_t lanes,  # no-cython-lint
                 int64_t itemsize, bint in_place, bint backward, int64_t *scratch_bytes) noexcept nogil:
    """Fill in how the kernels partition the call; returns the number of tasks, or -1 if a band is too large to pack."""
    cdef const cnn_axis *axis = &windows.axis[windows.slide]
    cdef int64_t N = image.shape[0], C = image.shape[1], arrays = 2 if backward else 1, groups, planes, blocks, size
    cdef int64_t wanted = max(<int64_t> TASKS, min(<int64_t> (4 * threads_per_call()), N * C * image_cells(image) // TASK_CELLS))
    call.slide = windows.slide
    call.in_place = C // lanes * lanes if in_place else 0
    # A task takes all vectors of a cell, to read memory in order; fewer, if that would leave too few tasks.
    call.vectors = max(1, call.in_place // lanes)
    if call.indices.data != NULL:
        call.vectors = min(call.vectors, CNN_POOL_VECTORS)
    while backward and call.vectors > 1 and N * (call.in_place // lanes) < 8 * call.vectors:
        call.vectors = (call.vectors + 1) // 2
    while call.vectors > 4 and wanted > TASKS and axis.output * N * (call.in_place // lanes) < wanted * call.vectors:
        call.vectors = (call.vectors + 1) // 2
    groups = (call.in_place // lanes + call.vectors - 1) // call.vectors
    call.strip = axis.output if backward else max(1, axis.output * N * groups // wanted)
    call.strips = (axis.output + call.strip - 1) // call.strip
    call.tasks_in_place = N * groups * call.strips
    planes = N * (C - call.in_place)
    call.band, call.span = 1, 0
    scratch_bytes[0] = 0
    if planes == 0:
        return call.tasks_in_place
    blocks = (planes + lanes - 1) // lanes
    call.band = axis.output if backward or not windows.forward else min(axis.output, max(1, axis.output * blocks // wanted))
    while True:
        call.span = span_of(axis, call.band) if windows.forward else axis.input
        size = arrays * lanes * itemsize * (
            call.span * slice_cells(image, windows.slide) + call.band * slice_cells(reduced, windows.slide))
        if size <= BAND_BYTES or call.band == 1 or not windows.forward:
            break
        call.band = (call.band + 1) // 2
    if size > LARGEST_BAND_BYTES or (size > LARGEST_SPARSE_BAND_BYTES and 2 * planes <= lanes):
        return -1
    scratch_bytes[0] = size
    return call.tasks_in_place + (blocks if backward else blocks * ((axis.output + call.band - 1) // call.band))


cdef bint takes(const cnn_pool *call, int64_t lanes, bint positions):  # no-cython-lint
    """Whether a kernel on whole windows applies: they fit, positions are not needed or it stores them, nothing is replayed."""
    cdef const Functions *functions = <const Functions *> call.strategy
    # Kernels rank by comparing all pairs of cells, vectorised over planes; above some size, sorting plane by plane is
    # faster.
    cdef int64_t most = min(8 * lanes, CNN_POOL_RANKED) if functions.ranks else LARGEST_WHOLE_WINDOW
    return not functions.whole or (call.cells <= most and call.drawn.data == NULL and (functions.selects or not positions))


cdef void add_whole_scratch(cnn_pool *call, int64_t lanes, int64_t itemsize, int64_t *scratch_bytes):  # no-cython-lint
    """Append to scratch: offsets, cells and gradients of one window, parameters of a task's channels."""
    if (<const Functions *> call.strategy).whole:
        call.whole_scratch = (scratch_bytes[0] + 63) // 64 * 64
        scratch_bytes[0] = call.whole_scratch + call.cells * (4 * lanes * itemsize + 4 * 8) + (
            call.vectors * call.parameters * lanes * (2 * itemsize + 8))


def forward(Reference strategy, Windows windows, Numbers numbers, x, y, indices=None):
    """Write y, and its positions in x.

    Returns why the strategy refused: "cells" or "drawn"; "" if it did not.
    """
    cdef Tensor X = tensor(x), Y = tensor(y, True), I
    cdef cnn_pool call
    cdef int64_t tasks = -1, scratch_bytes = 0, itemsize = 4 if X.precision == CNN_FLOAT32 else 8
    prepare_call(&call, strategy, windows, numbers)
    call.x, call.y = X.view, Y.view
    if indices is not None:
        I = tensor(indices, True)
        call.indices = I.view
    cdef cnn_task task = kernel(strategy.forward_kernel, X.precision)
    # Kernels keep a position in a lane, which has 32 bits in float32.
    if task != NULL and (indices is None or itemsize == 8 or windows.positions < 2**31) and (
            takes(&call, lanes(X.precision), indices is not None)):
        tasks = partition(&call, windows, &call.x, &call.y, lanes(X.precision), itemsize,
                    channels_last(&call.x) and channels_last(&call.y) and not strategy.functions.draws, False, &scratch_bytes)
        add_whole_scratch(&call, lanes(X.precision), itemsize, &scratch_bytes)
    if tasks < 0:
        task = <cnn_task> pool_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> pool_forward[double]
        tasks, scratch_bytes = X.view.shape[0] * X.view.shape[1], gather_bytes(&call, itemsize, False)
    run(task, &call, tasks, 1, scratch_bytes, work(&call, &call.y))
    return "cells" if call.refused == CNN_POOL_REFUSED_CELLS else "drawn" if call.refused == CNN_POOL_REFUSED_STATE else ""


def backward(Reference strategy, Windows windows, Numbers numbers, x, y, dy, dx, gradient=None, bint add=False, bint learns=True):
    """Write dx, or with ``add`` accumulate into it, from dy and those of x and y that the strategy saves; the others are None.

    ``gradient``, float64 (planes, parameters), receives each plane's contribution to the gradients of the parameters,
    if it ``learns`` any.
    """
    cdef Tensor DY = tensor(dy), DX = tensor(dx, True), G
    # Any array of the right shape serves as one that the strategy does not read.
    cdef Tensor X = DX if x is None else tensor(x), Y = DY if y is None else tensor(y)
    cdef cnn_pool call
    cdef int64_t tasks = -1, scratch_bytes = 0, itemsize = 4 if X.precision == CNN_FLOAT32 else 8
    prepare_call(&call, strategy, windows, numbers)
    call.x, call.y, call.dy, call.dx = X.view, Y.view, DY.view, DX.view
    call.accumulate = add
    call.learns = learns and gradient is not None
    if gradient is not None:
        G = tensor(gradient, True)
        call.gradient = <double *> G.view.data
    cdef cnn_task task = kernel(strategy.backward_kernel, X.precision)
    if task != NULL and strategy.functions.draws:
        call.vectors = lanes(X.precision) if channels_last(&call.dx) else 1
        tasks = DX.view.shape[0] * ((DX.view.shape[1] + call.vectors - 1) // call.vectors)
    elif task != NULL and takes(&call, lanes(X.precision), False):
        tasks = partition(&call, windows, &call.dx, &call.dy, lanes(X.precision), itemsize,
                    channels_last(&call.x) and channels_last(&call.y) and channels_last(&call.dy) and channels_last(&call.dx),
                    True, &scratch_bytes)
        add_whole_scratch(&call, lanes(X.precision), itemsize, &scratch_bytes)
    if tasks < 0:
        task = <cnn_task> pool_backward[float] if X.precision == CNN_FLOAT32 else <cnn_task> pool_backward[double]
        tasks, scratch_bytes = X.view.shape[0] * X.view.shape[1], gather_bytes(&call, itemsize, True)
    run(task, &call, tasks, 1, scratch_bytes, work(&call, &call.y))


# ── k-max pooling ── Kalchbrenner, Grefenstette & Blunsom 2014, arXiv:1404.2188, section 3.2 ───────────────────────────
#
#     y  = the k largest of each row of x along the last axis, in their original order
#     dx = dy where y came from, 0 elsewhere

cdef struct Rows:
    cnn_tensor whole            # [..., L]: x, or dx
    cnn_tensor chosen           # [..., k]: y, or dy
    cnn_tensor places           # [..., k]: int64

cdef inline int64_t row_offset(const cnn_tensor *t, int64_t row) noexcept nogil:
    """Start of row number ``row`` of all but the last axis."""
    cdef int64_t offset = 0
    cdef int axis
    for axis in range(3, -1, -1):
        offset += row % t.shape[axis] * t.stride[axis]
        row //= t.shape[axis]
    return offset

cdef inline bint ranks_after(const real *x, int64_t i, int64_t j) noexcept nogil:
    return precedes(x[j], x[i]) or (i > j and not precedes(x[i], x[j]))

cdef inline void sift(const real *x, int64_t *heap, int64_t k, int64_t at) noexcept nogil:
    """Let heap[at] sink until no cell below ranks after it."""
    cdef int64_t cell = heap[at], below = 2 * at + 1
    while below < k:
        if below + 1 < k and ranks_after(x, heap[below + 1], heap[below]):
            below += 1
        if not ranks_after(x, heap[below], cell):
            break
        heap[at] = heap[below]
        at, below = below, 2 * below + 1
    heap[at] = cell

cdef void k_max_rows(Rows *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are rows: the first k in rank on a heap, the last of them on top, then written in their order in the row.
    """
    cdef int64_t L = call.whole.shape[4], k = call.chosen.shape[4], row, i, kept
    cdef real *x = scratch
    cdef int64_t *heap = <int64_t *> (<double *> scratch + L)
    cdef char *marked = <char *> (heap + k)
    cdef const real *line
    cdef real *y
    cdef real least
    cdef int64_t *places
    cdef int64_t left = PIECE
    for row in range(begin, end):
        line = <const real *> call.whole.data + row_offset(&call.whole, row)
        y = <real *> call.chosen.data + row_offset(&call.chosen, row)
        places = <int64_t *> call.places.data + row_offset(&call.places, row)
        for i in range(L):
            if stop_after(&left, 1):
                return
            x[i] = line[i * call.whole.stride[4]]
            marked[i] = False
        for i in range(k):
            heap[i] = i
        for i in range(k // 2 - 1, -1, -1):
            sift(x, heap, k, i)
        least = x[heap[0]]
        for i in range(k, L):
            if stop_after(&left, 1):
                return
            if not x[i] <= least and precedes(x[i], least):     # the first comparison decides in nearly all cases
                heap[0] = i
                sift(x, heap, k, 0)
                least = x[heap[0]]
        for i in range(k):
            marked[heap[i]] = True
        kept = 0
        for i in range(L):
            if marked[i]:
                y[kept * call.chosen.stride[4]] = x[i]
                places[kept * call.places.stride[4]] = i
                kept += 1

cdef void k_max_scatter(Rows *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    cdef int64_t row, i
    cdef real *dx
    cdef const real *dy
    cdef const int64_t *places
    for row in range(begin, end):
        dx = <real *> call.whole.data + row_offset(&call.whole, row)
        dy = <const real *> call.chosen.data + row_offset(&call.chosen, row)
        places = <const int64_t *> call.places.data + row_offset(&call.places, row)
        for i in range(call.whole.shape[4]):
            dx[i * call.whole.stride[4]] = 0
        for i in range(call.chosen.shape[4]):
            dx[places[i * call.places.stride[4]] * call.whole.stride[4]] = dy[i * call.chosen.stride[4]]


cdef int64_t rows_of(const cnn_tensor *t):
    return t.shape[0] * t.shape[1] * t.shape[2] * t.shape[3]


def k_max(x, y, places):
    """Write y, and its positions along the last axis of x."""
    cdef Tensor X = tensor(x), Y = tensor(y, True), P = tensor(places, True)
    cdef Rows call = Rows(X.view, Y.view, P.view)
    run(<cnn_task> k_max_rows[float] if X.precision == CNN_FLOAT32 else <cnn_task> k_max_rows[double], &call,
        rows_of(&X.view), 16, X.view.shape[4] * 3 * 8, 8.0 * rows_of(&X.view) * X.view.shape[4])


def k_max_backward(dy, places, dx):
    """Write dx from dy."""
    cdef Tensor DY = tensor(dy), P = tensor(places), DX = tensor(dx, True)
    cdef Rows call = Rows(DX.view, DY.view, P.view)
    run(<cnn_task> k_max_scatter[float] if DX.precision == CNN_FLOAT32 else <cnn_task> k_max_scatter[double], &call,
        rows_of(&DX.view), 16, 0, rows_of(&DX.view) * DX.view.shape[4])
