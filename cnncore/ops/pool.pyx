"""Pooling: what a strategy does to one window, forward and backward, and the loop over windows that all of them share.

A strategy is a pair of functions on the cells of one window, in row-major order, padding left out:

    reduce(x, window) → y                 the window's value
    spread(x, window, y, dy, dx)          dx[i] = dy · ∂y/∂x[i], for every cell

They carry the mathematics and never meet a stride, a rank or a layout. The loop gathers the cells of each window, calls the
strategy, and puts the result back; gradients of overlapping windows add up in the order of the windows. A C kernel of the
same name (kernels/pool.h) may take the loop's place.
"""

from libc.math cimport INFINITY, fabs, pow
from libc.stdint cimport int64_t

from cnncore.ops.dispatch cimport (
    CNN_FLOAT32, CNN_POOL_REFUSED_CELLS, CNN_POOL_REFUSED_STATE, CNN_POOL_VECTORS, Tensor, cnn_axis, cnn_pool, cnn_task,
    cnn_tensor, kernel, lanes, real, run, tensor,
)
from cnncore.ops.dispatch import kernel_number
from cnncore.ops.random cimport uniform


cdef class Strategy:

    def __repr__(self):
        return f"<strategy {self.name}>"


cdef Strategy strategy(name, void *reduce_f32, void *reduce_f64, void *spread_f32, void *spread_f64,
                       tuple saves=("x", "y"), str requires=""):
    cdef Strategy s = Strategy()
    s.name = name
    s.saves = saves
    s.requires = requires
    s.functions = Functions([reduce_f32, reduce_f64], [spread_f32, spread_f64])
    s.forward_kernel = kernel_number(f"{name}_pool_forward")
    s.backward_kernel = kernel_number(f"{name}_pool_backward")
    return s


# ── Max pooling ── winner takes all ────────────────────────────────────────────────────────────────────────────────────
#
#     y      = max xᵢ
#     ∂y/∂xᵢ = 1 for the first i with xᵢ = y, else 0        NaN wins: the first NaN is the maximum

cdef real max_reduce(const real *x, Window *window) noexcept nogil:
    cdef int64_t i, best = 0
    for i in range(1, window.n):
        if x[i] > x[best] or (x[i] != x[i] and x[best] == x[best]):
            best = i
    window.selected = best
    return x[best]

cdef void max_spread(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef int64_t i
    max_reduce(x, window)
    for i in range(window.n):
        dx[i] = dy if i == window.selected else 0

MAX = strategy("max", <void *> max_reduce[float], <void *> max_reduce[double], <void *> max_spread[float], <void *> max_spread[double])


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

cdef real sum_reduce(const real *x, Window *window) noexcept nogil:
    return <real> sum_of(x, window.n)

cdef void sum_spread(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef int64_t i
    for i in range(window.n):
        dx[i] = dy

SUM = strategy("sum", <void *> sum_reduce[float], <void *> sum_reduce[double], <void *> sum_spread[float], <void *> sum_spread[double], saves=())


# ── Average pooling ── LeCun et al. 1989 ───────────────────────────────────────────────────────────────────────────────
#
#     y      = 1/q Σ xᵢ         q = divisor_override, where given; else the cells inside image and padding
#     ∂y/∂xᵢ = 1/q                  (count_include_pad), or n, those inside the image

cdef inline double divisor(const Window *window) noexcept nogil:
    cdef double count_include_pad = window.setting[0], divisor_override = window.setting[1]
    if divisor_override:
        return divisor_override
    return window.size if count_include_pad else window.n

cdef real avg_reduce(const real *x, Window *window) noexcept nogil:
    return <real> (sum_of(x, window.n) / divisor(window))

cdef void avg_spread(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef real share = <real> (dy / divisor(window))
    cdef int64_t i
    for i in range(window.n):
        dx[i] = share

AVG = strategy("avg", <void *> avg_reduce[float], <void *> avg_reduce[double], <void *> avg_spread[float], <void *> avg_spread[double], saves=())


# ── Lp pooling ── Sermanet, Chintala & LeCun 2012, arXiv:1204.3968, unweighted; Gülçehre et al. 2014, arXiv:1311.1780 ──
#
#     y      = (1/q Σ |xᵢ|ᵖ)^(1/p)                    q = 1, or n with mean      p = 1: magnitudes;  p = ∞: the largest
#     ∂y/∂xᵢ = 1/q · sign(xᵢ) · (|xᵢ| / y)^(p − 1)    at y = 0 the subgradient 0;  p = ∞: sign of the first largest
#
# Powers are taken of uᵢ = |xᵢ| / m with m = max |xᵢ|, so that none overflows: y = m t, t = (1/q Σ uᵢᵖ)^(1/p).

cdef inline double relative(double magnitude, double m) noexcept nogil:
    """magnitude / m; where m = ∞ the infinite cells, growing alike, have 1 and the others 0."""
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
        total += pow(relative(fabs(x[i]), m), p)
    return pow(total / window.n if mean else total, 1 / p)

cdef real lp_reduce(const real *x, Window *window) noexcept nogil:
    cdef double p = window.setting[0]
    cdef double m = largest_magnitude(x, window)
    if m == 0 or m != m or p == INFINITY:
        return <real> m
    return <real> (m * lp_factor(x, window, m))

cdef void lp_spread(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
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
        dx[i] = <real> (dy / q * sign(x[i]) * pow(relative(fabs(x[i]), m) / t, p - 1))

LP = strategy("lp", <void *> lp_reduce[float], <void *> lp_reduce[double], <void *> lp_spread[float], <void *> lp_spread[double], saves=("x",))


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

cdef real stochastic_reduce(const real *x, Window *window) noexcept nogil:
    cdef double m, reached = 0, total = relative_sum(x, window, &m)
    cdef int64_t i
    if window.given:
        return x[window.selected]
    window.selected = 0
    cdef double drawn = uniform(window.seed, window.position) * total
    for i in range(window.n):
        reached += relative(x[i], m) if m > 0 else 0
        if x[i] > 0:
            window.selected = i         # should rounding leave `reached` below `drawn`, the last positive cell is taken
            if reached > drawn:
                break
    return x[window.selected]

cdef void stochastic_spread(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef int64_t i
    cdef double m
    cdef bint nothing = relative_sum(x, window, &m) == 0
    for i in range(window.n):
        dx[i] = dy if i == window.selected and not nothing else 0

STOCHASTIC = strategy("stochastic", <void *> stochastic_reduce[float], <void *> stochastic_reduce[double],
                      <void *> stochastic_spread[float], <void *> stochastic_spread[double], saves=("x",),
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
        u = relative(x[i], m)
        squares += u * u
    return squares / total

cdef real probability_weighted_reduce(const real *x, Window *window) noexcept nogil:
    cdef double m, total = relative_sum(x, window, &m)
    return <real> (m * weighted(x, window, m, total)) if total > 0 else 0

cdef void probability_weighted_spread(const real *x, Window *window, real y, real dy, real *dx) noexcept nogil:
    cdef double m, total = relative_sum(x, window, &m)
    cdef double ratio = weighted(x, window, m, total) if total > 0 else 0
    cdef int64_t i
    for i in range(window.n):
        dx[i] = <real> (dy * (2 * relative(x[i], m) - ratio) / total) if total > 0 else 0

PROBABILITY_WEIGHTED = strategy("probability_weighted",
                                <void *> probability_weighted_reduce[float], <void *> probability_weighted_reduce[double],
                                <void *> probability_weighted_spread[float], <void *> probability_weighted_spread[double],
                                saves=("x",), requires=STOCHASTIC.requires)


# ── The loop over windows ──────────────────────────────────────────────────────────────────────────────────────────────

cdef inline int64_t window_of(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow, const cnn_tensor *image,
                              int64_t *offset, int64_t *tap) noexcept nogil:
    """Offsets (in a plane of ``image``) and taps of the cells of window (od, oh, ow); returns how many there are."""
    cdef const cnn_axis *D = &call.axis[0]
    cdef const cnn_axis *H = &call.axis[1]
    cdef const cnn_axis *W = &call.axis[2]
    cdef int64_t n = 0, d, h, w
    for d in range(D.count[od]):
        for h in range(H.count[oh]):
            for w in range(W.count[ow]):
                offset[n] = ((D.first[od] + d * D.step) * image.stride[2] + (H.first[oh] + h * H.step) * image.stride[3]
                             + (W.first[ow] + w * W.step) * image.stride[4])
                tap[n] = ((D.tap[od] + d) * H.kernel + H.tap[oh] + h) * W.kernel + W.tap[ow] + w
                n += 1
    return n


cdef inline int64_t window_size(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow) noexcept nogil:
    return call.axis[0].extent[od] * call.axis[1].extent[oh] * call.axis[2].extent[ow]


cdef inline int64_t plane_offset(const cnn_tensor *t, int64_t plane) noexcept nogil:
    """Where plane number ``plane`` of N × C begins."""
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
    """Which cell of window ``o`` lies at ``place`` along the axis; -1 where none does."""
    cdef int64_t distance = place - axis.first[o]
    if distance < 0 or distance % axis.step or distance // axis.step >= axis.count[o]:
        return -1
    return distance // axis.step


cdef inline int64_t cell_at(const cnn_pool *call, int64_t od, int64_t oh, int64_t ow, int64_t position) noexcept nogil:
    """Number of the window's cell at a row-major position in the plane, the inverse of position_of; -1 where none is."""
    if position < 0:
        return -1
    cdef int64_t w = step_to(&call.axis[2], ow, position % call.axis[2].input)
    cdef int64_t h = step_to(&call.axis[1], oh, position // call.axis[2].input % call.axis[1].input)
    cdef int64_t d = step_to(&call.axis[0], od, position // call.axis[2].input // call.axis[1].input)
    if d < 0 or h < 0 or w < 0:
        return -1
    return (d * call.axis[1].count[oh] + h) * call.axis[2].count[ow] + w


cdef inline bint recall(const cnn_pool *call, int64_t plane, int64_t od, int64_t oh, int64_t ow, Window *window) noexcept nogil:
    """Make the window select what ``call.drawn`` says, where there is one; False where that lies outside the window."""
    window.given = call.drawn.data != NULL
    if window.given:
        window.selected = cell_at(call, od, oh, ow, (<const int64_t *> call.drawn.data)[
            plane_offset(&call.drawn, plane) + cell_offset(&call.drawn, od, oh, ow)])
        return window.selected >= 0
    return True


cdef extern from *:
    """
    /* Several workers may say so at once. */
    static void cnn_refuse(cnn_pool *call, int why) { __atomic_store_n(&call->refused, why, __ATOMIC_RELAXED); }
    """
    void refuse "cnn_refuse"(cnn_pool *call, int why) noexcept nogil

cdef void pool_forward(cnn_pool *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c): gather the cells of each window, reduce, store y and where it came from."""
    cdef int64_t *offset = <int64_t *> scratch
    cdef int64_t *tap = offset + call.cells
    cdef real *x = <real *> (tap + call.cells)
    cdef void *reduce = (<const Functions *> call.strategy).reduce[0 if real is float else 1]
    cdef int64_t plane, od, oh, ow, i
    cdef const real *image
    cdef real *y
    cdef Window window
    window.tap, window.setting, window.seed = tap, call.setting, call.seed
    for plane in range(begin, end):
        image = <const real *> call.x.data + plane_offset(&call.x, plane)
        y = <real *> call.y.data + plane_offset(&call.y, plane)
        for od in range(call.axis[0].output):
            for oh in range(call.axis[1].output):
                for ow in range(call.axis[2].output):
                    window.n = window_of(call, od, oh, ow, &call.x, offset, tap)
                    window.size = window_size(call, od, oh, ow)
                    window.position = ((plane * call.axis[0].output + od) * call.axis[1].output + oh) * call.axis[2].output + ow
                    window.refused = False
                    for i in range(window.n):
                        x[i] = image[offset[i]]
                    if not recall(call, plane, od, oh, ow, &window):
                        refuse(call, CNN_POOL_REFUSED_STATE)
                        return
                    y[cell_offset(&call.y, od, oh, ow)] = (
                        (<real (*)(const real *, Window *) noexcept nogil> reduce)(x, &window))
                    if window.refused:
                        refuse(call, CNN_POOL_REFUSED_CELLS)
                        return
                    if call.indices.data != NULL:
                        (<int64_t *> call.indices.data)[
                            plane_offset(&call.indices, plane) + cell_offset(&call.indices, od, oh, ow)
                        ] = position_of(call, od, oh, ow, window.selected)


cdef void pool_backward(cnn_pool *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes: gather as in forward, spread dy over the cells, add to dx (windows may overlap)."""
    cdef int64_t *offset = <int64_t *> scratch
    cdef int64_t *tap = offset + call.cells
    cdef int64_t *target = tap + call.cells
    cdef real *x = <real *> (target + call.cells)
    cdef real *part = x + call.cells
    cdef void *spread = (<const Functions *> call.strategy).spread[0 if real is float else 1]
    cdef int64_t plane, od, oh, ow, i, d, h, w
    cdef const real *image
    cdef const real *y
    cdef const real *dy
    cdef real *dx
    cdef Window window
    window.tap, window.setting, window.seed = tap, call.setting, call.seed
    for plane in range(begin, end):
        image = <const real *> call.x.data + plane_offset(&call.x, plane)
        y = <const real *> call.y.data + plane_offset(&call.y, plane)
        dy = <const real *> call.dy.data + plane_offset(&call.dy, plane)
        dx = <real *> call.dx.data + plane_offset(&call.dx, plane)
        for d in range(call.dx.shape[2]):
            for h in range(call.dx.shape[3]):
                for w in range(call.dx.shape[4]):
                    dx[cell_offset(&call.dx, d, h, w)] = 0
        for od in range(call.axis[0].output):
            for oh in range(call.axis[1].output):
                for ow in range(call.axis[2].output):
                    window_of(call, od, oh, ow, &call.dx, target, tap)
                    window.n = window_of(call, od, oh, ow, &call.x, offset, tap)
                    window.size = window_size(call, od, oh, ow)
                    window.position = ((plane * call.axis[0].output + od) * call.axis[1].output + oh) * call.axis[2].output + ow
                    recall(call, plane, od, oh, ow, &window)
                    for i in range(window.n):
                        x[i] = image[offset[i]]
                    (<void (*)(const real *, Window *, real, real, real *) noexcept nogil> spread)(
                        x, &window, y[cell_offset(&call.y, od, oh, ow)], dy[cell_offset(&call.dy, od, oh, ow)], part)
                    for i in range(window.n):
                        dx[target[i]] += part[i]


# ── Calls from Python ──────────────────────────────────────────────────────────────────────────────────────────────────

cdef class Windows:

    def __init__(self, tables, input_, kernel_, step):
        cdef int i
        cdef Tensor table
        cells = positions = 1
        self.tables = [tensor(t) for t in tables]       # keeps their memory
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


cdef void describe(cnn_pool *call, Strategy strategy, Windows windows, tuple settings, Tensor drawn, seed):
    cdef int i
    for i in range(3):
        call.axis[i] = windows.axis[i]
    for i in range(8):
        call.setting[i] = settings[i] if i < len(settings) else 0
    call.cells = windows.cells
    call.strategy = &strategy.functions
    call.seed = seed
    call.refused = 0
    call.indices.data = NULL
    call.drawn.data = NULL
    if drawn is not None:
        call.drawn = drawn.view


cdef double work(const cnn_pool *call, const cnn_tensor *y):
    """Elementary operations of a call: cells of all windows."""
    cdef double cells = call.cells
    cdef int i
    for i in range(5):
        cells *= y.shape[i]
    return cells


cdef int64_t gather_bytes(const cnn_pool *call):
    """Scratch of the definitions: offsets, taps, targets, cells and their gradients of one window."""
    return call.cells * 5 * 8


# ── How kernels cut a call into tasks ──────────────────────────────────────────────────────────────────────────────────

cdef enum:
    BAND_BYTES = 192 * 1024             # packed cells of a band: a part of the second-level cache
    LARGEST_BAND_BYTES = 128 * 1024 * 1024  # above it the definition runs: it packs one window of one plane
    TASKS = 32                          # tasks aimed at, whatever the number of threads


cdef inline bint channels_last(const cnn_tensor *t) noexcept nogil:
    return t.stride[1] == 1


cdef int64_t slice_cells(const cnn_tensor *t, int slide) noexcept nogil:
    """Cells of ``t`` behind one cell of the sliding axis."""
    cdef int64_t cells = 1
    cdef int axis
    for axis in range(slide + 1, 3):
        cells *= t.shape[axis + 2]
    return cells


cdef int64_t span_of(const cnn_axis *axis, int64_t band) noexcept nogil:
    """The most cells that ``band`` windows next to each other meet."""
    cdef int64_t most = 0, start = 0, stop, span
    while start < axis.output:
        stop = min(start + band, axis.output) - 1
        span = axis.first[stop] + (axis.count[stop] - 1) * axis.step + 1 - axis.first[start]
        most = max(most, span)
        start += band
    return most


cdef int64_t cut(cnn_pool *call, Windows windows, const cnn_tensor *image, const cnn_tensor *reduced, int64_t lanes,  # no-cython-lint
                 int64_t itemsize, bint in_place, bint backward, int64_t *scratch_bytes) noexcept nogil:
    """Fill in how the kernels cut the call; returns the number of tasks, or -1 where a band would be too large to pack."""
    cdef const cnn_axis *axis = &windows.axis[windows.slide]
    cdef int64_t N = image.shape[0], C = image.shape[1], arrays = 2 if backward else 1, groups, planes, blocks, size
    call.slide = windows.slide
    call.in_place = C // lanes * lanes if in_place else 0
    # A task takes all vectors of a cell, so that it reads memory in order; fewer, where that would leave too few tasks.
    call.vectors = max(1, call.in_place // lanes)
    if call.indices.data != NULL:
        call.vectors = min(call.vectors, CNN_POOL_VECTORS)
    while backward and call.vectors > 1 and N * (call.in_place // lanes) < 8 * call.vectors:
        call.vectors = (call.vectors + 1) // 2
    groups = (call.in_place // lanes + call.vectors - 1) // call.vectors
    call.strip = axis.output if backward else max(1, axis.output * N * groups // TASKS)
    call.strips = (axis.output + call.strip - 1) // call.strip
    call.tasks_in_place = N * groups * call.strips
    planes = N * (C - call.in_place)
    call.band, call.span = 1, 0
    scratch_bytes[0] = 0
    if planes == 0:
        return call.tasks_in_place
    blocks = (planes + lanes - 1) // lanes
    call.band = axis.output if backward or not windows.forward else min(axis.output, max(1, axis.output * blocks // TASKS))
    while True:
        call.span = span_of(axis, call.band) if windows.forward else axis.input
        size = arrays * lanes * itemsize * (
            call.span * slice_cells(image, windows.slide) + call.band * slice_cells(reduced, windows.slide))
        if size <= BAND_BYTES or call.band == 1 or not windows.forward:
            break
        call.band = (call.band + 1) // 2
    if size > LARGEST_BAND_BYTES:
        return -1
    scratch_bytes[0] = size
    return call.tasks_in_place + (blocks if backward else blocks * ((axis.output + call.band - 1) // call.band))


def forward(Strategy strategy, Windows windows, tuple settings, x, y, indices=None, drawn=None, seed=0):
    """Write y, and the positions it came from, from x; ``drawn`` holds positions to take instead of drawing them.

    Returns why the strategy refused: "" if it did not, "cells" or "drawn".
    """
    cdef Tensor X = tensor(x), Y = tensor(y, True), I
    cdef cnn_pool call
    cdef int64_t tasks = -1, scratch_bytes = 0, itemsize = 4 if X.precision == CNN_FLOAT32 else 8
    describe(&call, strategy, windows, settings, None if drawn is None else tensor(drawn), seed)
    call.x, call.y = X.view, Y.view
    if indices is not None:
        I = tensor(indices, True)
        call.indices = I.view
    cdef cnn_task task = kernel(strategy.forward_kernel, X.precision)
    # A position is a lane of the kernels: 32 bits wide in float32.
    if task != NULL and (indices is None or itemsize == 8 or windows.positions < 2**31):
        tasks = cut(&call, windows, &call.x, &call.y, lanes(X.precision), itemsize,
                    channels_last(&call.x) and channels_last(&call.y), False, &scratch_bytes)
    if tasks < 0:
        task = <cnn_task> pool_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> pool_forward[double]
        tasks, scratch_bytes = X.view.shape[0] * X.view.shape[1], gather_bytes(&call)
    run(task, &call, tasks, 1, scratch_bytes, work(&call, &call.y))
    return "cells" if call.refused == CNN_POOL_REFUSED_CELLS else "drawn" if call.refused == CNN_POOL_REFUSED_STATE else ""


def backward(Strategy strategy, Windows windows, tuple settings, x, y, dy, dx, drawn=None):
    """Write dx from dy, and from x and y as far as the strategy saves them, else None; ``drawn`` as in forward."""
    cdef Tensor DY = tensor(dy), DX = tensor(dx, True)
    # What the strategy does not read may be anything of the right shape.
    cdef Tensor X = DX if x is None else tensor(x), Y = DY if y is None else tensor(y)
    cdef cnn_pool call
    cdef int64_t tasks = -1, scratch_bytes = 0, itemsize = 4 if X.precision == CNN_FLOAT32 else 8
    describe(&call, strategy, windows, settings, None if drawn is None else tensor(drawn), 0)
    call.x, call.y, call.dy, call.dx = X.view, Y.view, DY.view, DX.view
    cdef cnn_task task = kernel(strategy.backward_kernel, X.precision)
    if task != NULL:
        tasks = cut(&call, windows, &call.dx, &call.dy, lanes(X.precision), itemsize,
                    channels_last(&call.x) and channels_last(&call.y) and channels_last(&call.dy) and channels_last(&call.dx),
                    True, &scratch_bytes)
    if tasks < 0:
        task = <cnn_task> pool_backward[float] if X.precision == CNN_FLOAT32 else <cnn_task> pool_backward[double]
        tasks, scratch_bytes = X.view.shape[0] * X.view.shape[1], gather_bytes(&call)
    run(task, &call, tasks, 1, scratch_bytes, work(&call, &call.y))
