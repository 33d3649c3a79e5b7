"""Pooling by computed weights, y = Σ wᵢ xᵢ / Σ wᵢ: the weights come from a second image, or from the distance of each cell
to its surroundings. C kernels of the same names (weighting.h) may replace the loops.

Tasks are planes (n, c). The functions on one window are pure mathematics: they get its cells in row-major order.
"""

from libc.math cimport exp, fabs, log
from libc.stdint cimport int64_t

from cnncore.runtime.dispatch cimport CNN_FLOAT32, Tensor, cnn_task, cnn_tensor, kernel, lanes, real, run, tensor
from cnncore.runtime.dispatch import kernel_number
from cnncore.runtime.layout cimport cell_offset, cells, plane_offset
from cnncore.operators.pooling.reference cimport Windows


# ── Local importance pooling ── Gao, Wang & Wu 2019, arXiv:1908.04156, eq. 1 ───────────────────────────────────────────
#
#     y      = Σ wᵢ xᵢ / Σ wᵢ,  wᵢ = e^(lᵢ − max l)         where lᵢ = max l, wᵢ = 1, infinite or not
#     ∂y/∂xᵢ = wᵢ / Σ w
#     ∂y/∂lᵢ = wᵢ (xᵢ − y) / Σ w

cdef double window_importance(const double *x, const double *l, int64_t n, double *w, double *total) noexcept nogil:
    cdef double largest = l[0], weighted = 0
    cdef int64_t i
    for i in range(1, n):
        if l[i] > largest or largest != largest:
            largest = l[i]
    total[0] = 0
    for i in range(n):
        w[i] = 1 if l[i] == largest else exp(l[i] - largest)
        total[0] += w[i]
        weighted += w[i] * x[i]
    return weighted / total[0]

cdef void window_importance_backward(const double *x, const double *l, int64_t n, double dy, double *w, double *dx, double *dl) noexcept nogil:
    cdef double total, y = window_importance(x, l, n, w, &total)
    cdef int64_t i
    for i in range(n):
        dx[i] = dy * w[i] / total
        dl[i] = dx[i] * (x[i] - y)


# ── Detail-preserving pooling ── Saeedan, Weber, Goesele & Roth 2018, arXiv:1804.04076, section 3 ──────────────────────
#
#     Δⱼ = xⱼ − m,  m the window's mean (lite) or Σ fₜ xₜ of the 3×… cells around its middle (full)
#     rⱼ = Δⱼ² + ε (symmetric), max(0, Δⱼ)² + ε (asymmetric)     r̄ = 1/n Σ rⱼ
#     wⱼ = e^α + ρⱼ,  ρⱼ = (rⱼ / r̄)^p,  p = e^λ                  y = Σ wⱼ xⱼ / Σ wⱼ
#
#     hⱼ = dy (xⱼ − y) / Σ w, the gradient of wⱼ                 dα = e^α Σ hⱼ      dλ = Σ hⱼ ρⱼ p ln(rⱼ / r̄)
#     drⱼ = p (hⱼ ρⱼ / rⱼ − Σ hρ / (n r̄))                        dΔⱼ = 2 Δⱼ drⱼ (asymmetric: 0 for Δⱼ < 0)
#     dxⱼ = dy wⱼ / Σ w + dΔⱼ,  and of dm = −Σ dΔⱼ each cell under m its part
#
# r is taken over M², M = max(1, max |Δ|), and w over its largest term: neither overflows.

cdef struct Detail:
    double alpha, power, eps
    bint symmetric
    double M, mean_r, common, each  # r̄ / M²; ln of the largest term; e^α over it
    double total                    # Σ w
    double dalpha, dpower, dm

cdef double window_detail(const double *x, int64_t n, double m, Detail *s, double *r, double *log_rho, double *rho) noexcept nogil:
    cdef double weighted = 0
    cdef int64_t j
    s.M, s.mean_r, s.common, s.total = 1, 0, s.alpha, 0
    for j in range(n):
        s.M = max(s.M, fabs(x[j] - m))
    for j in range(n):
        r[j] = (x[j] - m) / s.M if s.symmetric or not x[j] < m else 0
        r[j] = r[j] * r[j] + s.eps / s.M / s.M
        s.mean_r += r[j] / n
    for j in range(n):
        log_rho[j] = s.power * log(r[j] / s.mean_r)
        s.common = max(s.common, log_rho[j])
    s.each = exp(s.alpha - s.common)
    for j in range(n):
        rho[j] = exp(log_rho[j] - s.common)
        s.total += s.each + rho[j]
        weighted += (s.each + rho[j]) * x[j]
    return weighted / s.total

cdef void window_detail_backward(const double *x, int64_t n, double m, double dy, Detail *s, double *r, double *log_rho, double *rho,
                        double *dx) noexcept nogil:
    """dx without the part through m: dm is left in s, with the window's part of dα and dλ."""
    cdef double y = window_detail(x, n, m, s, r, log_rho, rho), sum_h = 0, sum_rho = 0, h, d
    cdef int64_t j
    s.dpower = s.dm = 0
    for j in range(n):
        h = dy * (x[j] - y) / s.total
        sum_h += h
        sum_rho += h * rho[j]
        if rho[j] != 0:
            s.dpower += h * rho[j] * log_rho[j]
    s.dalpha = s.each * sum_h
    for j in range(n):
        h = dy * (x[j] - y) / s.total
        d = s.power * ((h * rho[j] / r[j] if rho[j] != 0 else 0) - sum_rho / (n * s.mean_r)) * 2 * ((x[j] - m) / s.M) / s.M
        if not s.symmetric and x[j] < m:
            d = 0
        dx[j] = dy * (s.each + rho[j]) / s.total + d
        s.dm -= d


# ── The loops over windows ─────────────────────────────────────────────────────────────────────────────────────────────

cdef inline int64_t offsets(const cnn_weighted *call, int64_t od, int64_t oh, int64_t ow, const cnn_tensor *image,
                            int64_t *offset) noexcept nogil:
    """Offsets of the cells of window (od, oh, ow) in a plane of ``image``; returns how many there are."""
    cdef int64_t n = 0, d, h, w
    for d in range(call.axis[0].count[od]):
        for h in range(call.axis[1].count[oh]):
            for w in range(call.axis[2].count[ow]):
                offset[n] = ((call.axis[0].first[od] + d * call.axis[0].step) * image.stride[2]
                             + (call.axis[1].first[oh] + h * call.axis[1].step) * image.stride[3]
                             + (call.axis[2].first[ow] + w * call.axis[2].step) * image.stride[4])
                n += 1
    return n


cdef inline int64_t under_filter(const cnn_weighted *call, int axis, int64_t o, int64_t t) noexcept nogil:
    """The cell along an axis under tap ``t`` of the filter around the centre of window ``o``; -1 outside the image."""
    cdef const cnn_axis *a = &call.axis[axis]
    cdef int64_t cell = a.first[o] + ((a.kernel - 1) // 2 - a.tap[o]) * a.step + t - call.taps[axis] // 2
    return cell if 0 <= cell < a.input else -1


cdef inline bint under(const cnn_weighted *call, int64_t od, int64_t oh, int64_t ow, const cnn_tensor *image, int64_t t,
                       int64_t *place) noexcept nogil:
    """Offset in a plane of ``image`` of the cell under tap number ``t`` of the filter; False outside the image."""
    cdef int64_t d = under_filter(call, 0, od, t // (call.taps[1] * call.taps[2]))
    cdef int64_t h = under_filter(call, 1, oh, t // call.taps[2] % call.taps[1])
    cdef int64_t w = under_filter(call, 2, ow, t % call.taps[2])
    place[0] = d * image.stride[2] + h * image.stride[3] + w * image.stride[4]
    return d >= 0 and h >= 0 and w >= 0


cdef inline int64_t tap_count(const cnn_weighted *call) noexcept nogil:
    return call.taps[0] * call.taps[1] * call.taps[2]


cdef inline double surroundings(const cnn_weighted *call, const real *x, int64_t c, int64_t od, int64_t oh, int64_t ow,
                                const double *cell, int64_t n) noexcept nogil:
    """m of a window."""
    cdef double m = 0
    cdef int64_t t, place
    if call.filter == NULL:
        for t in range(n):
            m += cell[t]
        return m / n
    for t in range(tap_count(call)):
        if under(call, od, oh, ow, &call.x, t, &place):
            m += call.filter[c * tap_count(call) + t] * x[place]
    return m


cdef inline void gather(double *values, const real *image, const int64_t *offset, int64_t count) noexcept nogil:
    """The cells of a window."""
    cdef int64_t i
    for i in range(count):
        values[i] = image[offset[i]]


cdef inline void scatter(real *image, const double *values, const int64_t *offset, int64_t count, double more) noexcept nogil:
    """Add ``values`` and ``more`` to the cells of a window."""
    cdef int64_t i
    for i in range(count):
        image[offset[i]] += <real> (values[i] + more)


cdef inline void clear(const cnn_tensor *t, real *plane) noexcept nogil:
    cdef int64_t i
    for i in range(cells(t)):
        plane[cell_offset(t, i)] = 0


cdef inline int64_t at(const cnn_tensor *t, int64_t d, int64_t h, int64_t w) noexcept nogil:
    return d * t.stride[2] + h * t.stride[3] + w * t.stride[4]


cdef void importance_forward(cnn_weighted *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    cdef int64_t *offset = <int64_t *> scratch
    cdef double *x = <double *> (offset + call.cells)
    cdef double *l = x + call.cells
    cdef double *w = l + call.cells
    cdef int64_t task, n, c, od, oh, ow, count
    cdef const real *image
    cdef const real *logit
    cdef real *y
    cdef double total
    for task in range(begin, end):
        n, c = task // call.x.shape[1], task % call.x.shape[1]
        image = <const real *> call.x.data + plane_offset(&call.x, n, c)
        logit = <const real *> call.logit.data + plane_offset(&call.logit, n, c)
        y = <real *> call.y.data + plane_offset(&call.y, n, c)
        for od in range(call.axis[0].output):
            for oh in range(call.axis[1].output):
                for ow in range(call.axis[2].output):
                    count = offsets(call, od, oh, ow, &call.x, offset)
                    gather(x, image, offset, count)
                    offsets(call, od, oh, ow, &call.logit, offset)
                    gather(l, logit, offset, count)
                    y[at(&call.y, od, oh, ow)] = <real> window_importance(x, l, count, w, &total)


cdef void importance_backward(cnn_weighted *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    cdef int64_t *offset = <int64_t *> scratch
    cdef double *x = <double *> (offset + call.cells)
    cdef double *l = x + call.cells
    cdef double *w = l + call.cells
    cdef double *dx = w + call.cells
    cdef double *dl = dx + call.cells
    cdef int64_t task, n, c, od, oh, ow, count
    cdef const real *image
    cdef const real *logit
    cdef const real *dy
    cdef real *gradient
    cdef real *dlogit
    for task in range(begin, end):
        n, c = task // call.x.shape[1], task % call.x.shape[1]
        image = <const real *> call.x.data + plane_offset(&call.x, n, c)
        logit = <const real *> call.logit.data + plane_offset(&call.logit, n, c)
        dy = <const real *> call.dy.data + plane_offset(&call.dy, n, c)
        gradient = <real *> call.dx.data + plane_offset(&call.dx, n, c)
        dlogit = <real *> call.dlogit.data + plane_offset(&call.dlogit, n, c)
        clear(&call.dx, gradient)
        clear(&call.dlogit, dlogit)
        for od in range(call.axis[0].output):
            for oh in range(call.axis[1].output):
                for ow in range(call.axis[2].output):
                    count = offsets(call, od, oh, ow, &call.x, offset)
                    gather(x, image, offset, count)
                    offsets(call, od, oh, ow, &call.logit, offset)
                    gather(l, logit, offset, count)
                    window_importance_backward(x, l, count, dy[at(&call.dy, od, oh, ow)], w, dx, dl)
                    offsets(call, od, oh, ow, &call.dx, offset)
                    scatter(gradient, dx, offset, count, 0)
                    offsets(call, od, oh, ow, &call.dlogit, offset)
                    scatter(dlogit, dl, offset, count, 0)


cdef void detail_forward(cnn_weighted *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    cdef int64_t *offset = <int64_t *> scratch
    cdef double *x = <double *> (offset + call.cells)
    cdef double *room = x + call.cells
    cdef int64_t task, n, c, od, oh, ow, count
    cdef const real *image
    cdef real *y
    cdef Detail s
    s.eps, s.symmetric = call.eps, call.symmetric
    for task in range(begin, end):
        n, c = task // call.x.shape[1], task % call.x.shape[1]
        image = <const real *> call.x.data + plane_offset(&call.x, n, c)
        y = <real *> call.y.data + plane_offset(&call.y, n, c)
        s.alpha, s.power = call.alpha[c], exp(call.power[c])
        for od in range(call.axis[0].output):
            for oh in range(call.axis[1].output):
                for ow in range(call.axis[2].output):
                    count = offsets(call, od, oh, ow, &call.x, offset)
                    gather(x, image, offset, count)
                    y[at(&call.y, od, oh, ow)] = <real> window_detail(
                        x, count, surroundings(call, image, c, od, oh, ow, x, count), &s, room, room + call.cells,
                        room + 2 * call.cells)


cdef inline void surroundings_backward(const cnn_weighted *call, const real *image, real *gradient, int64_t plane, int64_t od,
                                       int64_t oh, int64_t ow, double dm) noexcept nogil:
    """What m, a filtered neighbourhood, passes on of dm: to the filter of the channel, and to the cells under it."""
    cdef int64_t t, place, taps = tap_count(call), c = plane % call.x.shape[1]
    if call.filter == NULL:  # m is the mean of the window, whose cells have their part already
        return
    for t in range(taps):
        if under(call, od, oh, ow, &call.x, t, &place):
            call.dfilter[plane * taps + t] += dm * image[place]
            under(call, od, oh, ow, &call.dx, t, &place)
            gradient[place] += <real> (dm * call.filter[c * taps + t])


cdef void detail_backward(cnn_weighted *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    cdef int64_t *offset = <int64_t *> scratch
    cdef double *x = <double *> (offset + call.cells)
    cdef double *dx = x + call.cells
    cdef double *room = dx + call.cells
    cdef int64_t task, n, c, od, oh, ow, t, count, taps = tap_count(call)
    cdef const real *image
    cdef const real *dy
    cdef real *gradient
    cdef Detail s
    s.eps, s.symmetric = call.eps, call.symmetric
    for task in range(begin, end):
        n, c = task // call.x.shape[1], task % call.x.shape[1]
        image = <const real *> call.x.data + plane_offset(&call.x, n, c)
        dy = <const real *> call.dy.data + plane_offset(&call.dy, n, c)
        gradient = <real *> call.dx.data + plane_offset(&call.dx, n, c)
        clear(&call.dx, gradient)
        call.dalpha[task] = call.dpower[task] = 0
        s.alpha, s.power = call.alpha[c], exp(call.power[c])
        if call.filter != NULL:
            for t in range(taps):
                call.dfilter[task * taps + t] = 0
        for od in range(call.axis[0].output):
            for oh in range(call.axis[1].output):
                for ow in range(call.axis[2].output):
                    count = offsets(call, od, oh, ow, &call.x, offset)
                    gather(x, image, offset, count)
                    window_detail_backward(x, count, surroundings(call, image, c, od, oh, ow, x, count), dy[at(&call.dy, od, oh, ow)],
                                  &s, room, room + call.cells, room + 2 * call.cells, dx)
                    call.dalpha[task] += s.dalpha
                    call.dpower[task] += s.dpower
                    offsets(call, od, oh, ow, &call.dx, offset)
                    scatter(gradient, dx, offset, count, s.dm / count if call.filter == NULL else 0)
                    surroundings_backward(call, image, gradient, task, od, oh, ow, s.dm)


# ── Calls from Python ──────────────────────────────────────────────────────────────────────────────────────────────────

cdef int IMPORTANCE_FORWARD = kernel_number("importance_pool_forward")
cdef int IMPORTANCE_BACKWARD = kernel_number("importance_pool_backward")
cdef int DETAIL_FORWARD = kernel_number("detail_pool_forward")
cdef int DETAIL_BACKWARD = kernel_number("detail_pool_backward")


cdef void prepare_call(cnn_weighted *call, Windows windows) noexcept:
    cdef int i
    for i in range(3):
        call.axis[i] = windows.axis[i]
        call.taps[i] = 1
    call.cells = windows.cells
    call.filter = NULL


cdef enum:
    LARGEST_SCRATCH = 64 * 1024 * 1024      # of a worker; above it the reference runs


cdef int run_call(cnn_weighted *call, cnn_task reference, int number, int precision, cnn_tensor **used, int count,  # no-cython-lint
                  double cost) except -1:
    """Run the kernel if there is one and its packed arrays fit, else the reference. ``used``: the arrays it packs."""
    cdef cnn_task task = kernel(number, precision)
    cdef int64_t N = used[0].shape[0], C = used[0].shape[1], L = lanes(precision), vectors = 3 * call.cells, scratch
    cdef double work = cost * call.cells * N * C
    cdef bint innermost = True
    cdef int i
    work *= <double> call.axis[0].output * call.axis[1].output * call.axis[2].output
    for i in range(count):
        innermost = innermost and used[i].stride[1] == 1
        vectors += cells(used[i])
    call.in_place = C // L * L if innermost else 0
    scratch = vectors * L * (4 if precision == CNN_FLOAT32 else 8)
    if task == NULL or scratch > LARGEST_SCRATCH:
        return run(reference, call, N * C, 1, call.cells * 6 * sizeof(double), work)
    return run(task, call, N * ((C + L - 1) // L), 1, scratch, work)


def importance(Windows windows, x, logit, y):
    """Write y."""
    cdef Tensor X = tensor(x), L = tensor(logit), Y = tensor(y, True)
    cdef cnn_weighted call
    prepare_call(&call, windows)
    call.x, call.logit, call.y = X.view, L.view, Y.view
    cdef cnn_tensor *used[3]
    used[0], used[1], used[2] = &call.x, &call.logit, &call.y
    run_call(&call, <cnn_task> importance_forward[float] if X.precision == CNN_FLOAT32
               else <cnn_task> importance_forward[double], IMPORTANCE_FORWARD, X.precision, used, 3, 10)


def importance_gradients(Windows windows, x, logit, dy, dx, dlogit):
    """Write dx and dlogit."""
    cdef Tensor X = tensor(x), L = tensor(logit), DY = tensor(dy), DX = tensor(dx, True), DL = tensor(dlogit, True)
    cdef cnn_weighted call
    prepare_call(&call, windows)
    call.x, call.logit, call.dy, call.dx, call.dlogit = X.view, L.view, DY.view, DX.view, DL.view
    cdef cnn_tensor *used[5]
    used[0], used[1], used[2], used[3], used[4] = &call.x, &call.logit, &call.dy, &call.dx, &call.dlogit
    run_call(&call, <cnn_task> importance_backward[float] if X.precision == CNN_FLOAT32
               else <cnn_task> importance_backward[double], IMPORTANCE_BACKWARD, X.precision, used, 5, 20)


cdef class DetailPreserving:
    """The numbers of a call: ``alpha`` and ``power`` (C,), ``filter`` (C, taps) or None, all C-contiguous float64."""
    cdef Tensor alpha, power, filter
    cdef tuple taps
    cdef double eps
    cdef bint symmetric

    def __init__(self, alpha, power, filter_, tuple taps, double eps, bint symmetric):
        self.alpha, self.power = tensor(alpha), tensor(power)
        self.filter = None if filter_ is None else tensor(filter_)
        self.taps, self.eps, self.symmetric = taps, eps, symmetric

    cdef void prepare_call(self, cnn_weighted *call, Windows windows) noexcept:
        cdef int i
        prepare_call(call, windows)
        call.alpha, call.power = <const double *> self.alpha.view.data, <const double *> self.power.view.data
        call.eps, call.symmetric = self.eps, self.symmetric
        if self.filter is not None:
            call.filter = <const double *> self.filter.view.data
            for i in range(3):
                call.taps[i] = self.taps[i]

    def forward(self, Windows windows, x, y):
        """Write y."""
        cdef Tensor X = tensor(x), Y = tensor(y, True)
        cdef cnn_weighted call
        self.prepare_call(&call, windows)
        call.x, call.y = X.view, Y.view
        cdef cnn_tensor *used[2]
        used[0], used[1] = &call.x, &call.y
        run_call(&call, <cnn_task> detail_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> detail_forward[double],
                   DETAIL_FORWARD, X.precision, used, 2, 20)

    def backward(self, Windows windows, x, dy, dx, dalpha, dpower, dfilter):
        """Write dx, and each plane's contribution to the others: (N, C), (N, C), and (N, C, taps) or None, float64."""
        cdef Tensor X = tensor(x), DY = tensor(dy), DX = tensor(dx, True)
        cdef Tensor DA = tensor(dalpha, True), DP = tensor(dpower, True), DF
        cdef cnn_weighted call
        self.prepare_call(&call, windows)
        call.x, call.dy, call.dx = X.view, DY.view, DX.view
        call.dalpha, call.dpower, call.dfilter = <double *> DA.view.data, <double *> DP.view.data, NULL
        if dfilter is not None:
            DF = tensor(dfilter, True)
            call.dfilter = <double *> DF.view.data
        cdef cnn_tensor *used[3]
        used[0], used[1], used[2] = &call.x, &call.dy, &call.dx
        run_call(&call, <cnn_task> detail_backward[float] if X.precision == CNN_FLOAT32
                   else <cnn_task> detail_backward[double], DETAIL_BACKWARD, X.precision, used, 3, 40)
