"""Windows as columns (im2col) and back, locally connected layers, and deformable windows.
"""

from libc.stdint cimport int64_t

from cnncore.runtime.dispatch cimport (
    CNN_FLOAT32, PIECE, Tensor, cnn_task, cnn_tensor, kernel, lanes, real, run, stop_after, tensor,
)
from cnncore.runtime.dispatch import kernel_number
from cnncore.runtime.layout cimport cells, plane_offset, size
from cnncore.operators.sampling.reference cimport Between, between_zeros, read, scatter, slope_h, slope_w


cdef extern from "calls.h" nogil:
    ctypedef struct cnn_windows:
        cnn_tensor x
        cnn_tensor y
        cnn_tensor w
        cnn_tensor b
        cnn_tensor offset
        cnn_tensor mask
        cnn_tensor doffset
        cnn_tensor dmask
        int64_t kernel[3]
        int64_t stride[3]
        int64_t dilation[3]
        int64_t low[3]
        int64_t output[3]
        int64_t taps
        int64_t groups
        int64_t inputs
        int64_t block


cdef struct Tap:                    # one cell of all windows
    int64_t at[3]                   # its position in the window times the dilation, minus the padding
    int64_t begin[3]                # per axis, the windows whose cell lies inside the image: begin <= o < end
    int64_t end[3]


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b if a > 0 else 0


cdef inline void place_tap(const cnn_windows *v, int64_t t, Tap *tap) noexcept nogil:
    cdef int axis
    cdef int64_t rest = t, last
    for axis in range(2, -1, -1):
        tap.at[axis] = rest % v.kernel[axis] * v.dilation[axis] - v.low[axis]
        rest //= v.kernel[axis]
        last = v.x.shape[2 + axis] - 1 - tap.at[axis]
        tap.begin[axis] = ceil_div(-tap.at[axis], v.stride[axis])
        tap.end[axis] = min(v.output[axis], last // v.stride[axis] + 1) if last >= 0 else 0


cdef inline int64_t row_of_cells(const cnn_windows *v, const Tap *tap, int64_t od, int64_t oh) noexcept nogil:
    """Offset in a plane of x of the cells of a row of windows, that of window 0; −1 if the row lies outside the image."""
    if not (tap.begin[0] <= od < tap.end[0] and tap.begin[1] <= oh < tap.end[1]):
        return -1
    return (od * v.stride[0] + tap.at[0]) * v.x.shape[3] * v.x.shape[4] + (oh * v.stride[1] + tap.at[1]) * v.x.shape[4]


cdef inline int64_t row_offset(const cnn_windows *v, const Tap *tap, int64_t od, int64_t oh) noexcept nogil:
    """The same with the strides of x: the offset of the cell of window 0."""
    return ((od * v.stride[0] + tap.at[0]) * v.x.stride[2] + (oh * v.stride[1] + tap.at[1]) * v.x.stride[3]
            + tap.at[2] * v.x.stride[4])


# ── Unfold and fold ── Chellapilla, Puri & Simard 2006 (im2col) ────────────────────────────────────────────────────────
#
#     unfold   y[n, c·T + t, o] = x[n,c, s·o + d·t − lo], 0 outside the image        T cells of a window, o windows in one row
#     fold     x[n,c,q] = Σ y[n, c·T + t, o] over all (o, t) with s·o + d·t − lo = q: the adjoint

cdef void unfold_planes(cnn_windows *v, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c) of x."""
    cdef int64_t task, n, c, t, od, oh, ow, step = v.x.stride[4] * v.stride[2], y_step = v.y.stride[4]
    cdef const real *x
    cdef const real *row
    cdef real *y
    cdef Tap tap
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n, c = task // v.x.shape[1], task % v.x.shape[1]
        x = <const real *> v.x.data + plane_offset(&v.x, n, c)
        for t in range(v.taps):
            place_tap(v, t, &tap)
            y = <real *> v.y.data + plane_offset(&v.y, n, c * v.taps + t)
            for od in range(v.output[0]):
                for oh in range(v.output[1]):
                    if stop_after(&left, v.output[2]):
                        return
                    if row_of_cells(v, &tap, od, oh) < 0 or tap.begin[2] >= tap.end[2]:
                        for ow in range(v.output[2]):
                            y[ow * y_step] = 0
                    else:
                        row = x + row_offset(v, &tap, od, oh)
                        for ow in range(tap.begin[2]):
                            y[ow * y_step] = 0
                        if step == 1 and y_step == 1:
                            for ow in range(tap.begin[2], tap.end[2]):
                                y[ow] = row[ow]
                        else:
                            for ow in range(tap.begin[2], tap.end[2]):
                                y[ow * y_step] = row[ow * step]
                        for ow in range(tap.end[2], v.output[2]):
                            y[ow * y_step] = 0
                    y += v.output[2] * y_step


cdef inline void put_plane(const cnn_tensor *x, real *plane, const double *total) noexcept nogil:
    """Round sums, in row-major order, into a plane."""
    cdef int64_t d, h, w, i = 0
    for d in range(x.shape[2]):
        for h in range(x.shape[3]):
            for w in range(x.shape[4]):
                plane[d * x.stride[2] + h * x.stride[3] + w * x.stride[4]] = <real> total[i]
                i += 1


cdef void fold_planes(cnn_windows *v, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c) of x, accumulated in float64 in the order of t."""
    cdef int64_t task, n, c, i, t, od, oh, ow, row, step = v.stride[2], y_step = v.y.stride[4]
    cdef double *total = <double *> scratch
    cdef double *sums
    cdef const real *y
    cdef Tap tap
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n, c = task // v.x.shape[1], task % v.x.shape[1]
        for i in range(cells(&v.x)):
            total[i] = 0
        for t in range(v.taps):
            place_tap(v, t, &tap)
            y = <const real *> v.y.data + plane_offset(&v.y, n, c * v.taps + t)
            for od in range(v.output[0]):
                for oh in range(v.output[1]):
                    if stop_after(&left, v.output[2]):
                        return
                    row = row_of_cells(v, &tap, od, oh)
                    if row >= 0:
                        sums = total + row + tap.at[2]
                        if step == 1 and y_step == 1:
                            for ow in range(tap.begin[2], tap.end[2]):
                                sums[ow] += y[ow]
                        else:
                            for ow in range(tap.begin[2], tap.end[2]):
                                sums[ow * step] += y[ow * y_step]
                    y += v.output[2] * y_step
        put_plane(&v.x, <real *> v.x.data + plane_offset(&v.x, n, c), total)


# ── Locally connected ── separate weights for every window (LeCun 1989; Taigman et al. 2014) ───────────────────────
#
#     y[n,k,o]  = b + Σ_f w[k,f,o] · x[n,c, s·o + d·t − lo]         f = (c, t): the cells of the window in all channels of the group
#     dx[n,c,q] = Σ_k Σ_t w[k,(c,t),o] · dy[n,k,o]   over all (o, t) with s·o + d·t − lo = q
#     dw[k,f,o] = Σ_n dy[n,k,o] · x[n,c, s·o + d·t − lo]

cdef inline int64_t first_channel(const cnn_windows *v, int64_t k) noexcept nogil:
    """The first input channel of the group of output channel k."""
    return k // (v.y.shape[1] // v.groups) * (v.x.shape[1] // v.groups)


cdef void local_forward(cnn_windows *v, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are rows (k, od, oh) of y, of all images: their weights are read once."""
    cdef int64_t task, k, od, oh, ow, n, c, t, rows = v.output[0] * v.output[1], step = v.x.stride[4] * v.stride[2]
    cdef int64_t w_step = v.w.stride[4], inputs = v.x.shape[1] // v.groups
    cdef double *total = <double *> scratch
    cdef const real *x
    cdef const real *w
    cdef real *y
    cdef Tap tap
    cdef int64_t left = PIECE
    for task in range(begin, end):
        k, od, oh = task // rows, task % rows // v.output[1], task % v.output[1]
        for n in range(v.y.shape[0]):
            for ow in range(v.output[2]):
                total[ow] = 0 if v.b.data == NULL else (<const real *> v.b.data)[
                    k * v.b.stride[1] + od * v.b.stride[2] + oh * v.b.stride[3] + ow * v.b.stride[4]]
            for t in range(v.taps):
                place_tap(v, t, &tap)
                if row_of_cells(v, &tap, od, oh) < 0:
                    continue
                for c in range(inputs):
                    if stop_after(&left, v.output[2]):
                        return
                    x = (<const real *> v.x.data + plane_offset(&v.x, n, first_channel(v, k) + c)
                         + row_offset(v, &tap, od, oh))
                    w = (<const real *> v.w.data + plane_offset(&v.w, k, c * v.taps + t) + od * v.w.stride[2]
                         + oh * v.w.stride[3])
                    for ow in range(tap.begin[2], tap.end[2]):
                        total[ow] += <double> w[ow * w_step] * x[ow * step]
            y = <real *> v.y.data + plane_offset(&v.y, n, k) + od * v.y.stride[2] + oh * v.y.stride[3]
            for ow in range(v.output[2]):
                y[ow * v.y.stride[4]] = <real> total[ow]


cdef void local_backward_input(cnn_windows *v, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c) of dx, here x."""
    cdef int64_t task, n, c, k, i, t, od, oh, ow, row, step = v.stride[2]
    cdef int64_t inputs = v.x.shape[1] // v.groups, outputs = v.y.shape[1] // v.groups, first
    cdef double *total = <double *> scratch
    cdef double *sums
    cdef const real *dy
    cdef const real *w
    cdef Tap tap
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n, c = task // v.x.shape[1], task % v.x.shape[1]
        first = c // inputs * outputs
        for i in range(cells(&v.x)):
            total[i] = 0
        for k in range(first, first + outputs):
            for t in range(v.taps):
                place_tap(v, t, &tap)
                for od in range(tap.begin[0], tap.end[0]):
                    for oh in range(tap.begin[1], tap.end[1]):
                        if stop_after(&left, v.output[2]):
                            return
                        row = row_of_cells(v, &tap, od, oh)
                        sums = total + row + tap.at[2]
                        w = (<const real *> v.w.data + plane_offset(&v.w, k, c % inputs * v.taps + t) + od * v.w.stride[2]
                             + oh * v.w.stride[3])
                        dy = <const real *> v.y.data + plane_offset(&v.y, n, k) + od * v.y.stride[2] + oh * v.y.stride[3]
                        for ow in range(tap.begin[2], tap.end[2]):
                            sums[ow * step] += <double> w[ow * v.w.stride[4]] * dy[ow * v.y.stride[4]]
        put_plane(&v.x, <real *> v.x.data + plane_offset(&v.x, n, c), total)


cdef void local_backward_weight(cnn_windows *v, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are rows (k, od, oh) of dw."""
    cdef int64_t task, k, od, oh, ow, n, c, t, rows = v.output[0] * v.output[1], step = v.x.stride[4] * v.stride[2]
    cdef int64_t inputs = v.x.shape[1] // v.groups
    cdef double *total = <double *> scratch
    cdef const real *x
    cdef const real *dy
    cdef real *dw
    cdef Tap tap
    cdef int64_t left = PIECE
    for task in range(begin, end):
        k, od, oh = task // rows, task % rows // v.output[1], task % v.output[1]
        for t in range(v.taps):
            place_tap(v, t, &tap)
            for c in range(inputs):
                if stop_after(&left, v.output[2] * v.y.shape[0]):
                    return
                for ow in range(v.output[2]):
                    total[ow] = 0
                if row_of_cells(v, &tap, od, oh) >= 0:
                    for n in range(v.y.shape[0]):
                        x = (<const real *> v.x.data + plane_offset(&v.x, n, first_channel(v, k) + c)
                             + row_offset(v, &tap, od, oh))
                        dy = <const real *> v.y.data + plane_offset(&v.y, n, k) + od * v.y.stride[2] + oh * v.y.stride[3]
                        for ow in range(tap.begin[2], tap.end[2]):
                            total[ow] += <double> dy[ow * v.y.stride[4]] * x[ow * step]
                dw = (<real *> v.w.data + plane_offset(&v.w, k, c * v.taps + t) + od * v.w.stride[2]
                      + oh * v.w.stride[3])
                for ow in range(v.output[2]):
                    dw[ow * v.w.stride[4]] = <real> total[ow]


# ── Deformable windows ── Dai et al. 2017, arXiv:1703.06211; with a mask Zhu et al. 2019, arXiv:1811.11168 ─────────────
#
#     y[n, j, o] = m_t(o) · v_c(p)        p = s·o + d·t − lo + Δ_t(o), v between the cells of x (sampling/reference.pxd), 0 outside
#     j = (c // C/G) · T · C/G + t · C/G + c % C/G: for each group of the convolution that follows, cells before channels
#
#     dx += dy m ∂v/∂x        dm_t(o) = Σ_c dy v        dΔ_t(o) = Σ_c dy m ∂v/∂p        c: the channels that share Δ and m

cdef inline bint deformed(const cnn_windows *v, int64_t n, int64_t g, int64_t t, int64_t oh, int64_t ow, Between *h,
                          Between *w, real *kind) noexcept nogil:
    """The pixels around the deformed cell t of window (oh, ow) in offset group g; False if none lies inside."""
    cdef const real *offset = (<const real *> v.offset.data + plane_offset(&v.offset, n, 2 * (g * v.taps + t))
                               + oh * v.offset.stride[3] + ow * v.offset.stride[4])
    cdef double row = (oh * v.stride[1] - v.low[1] + t // v.kernel[2] * v.dilation[1]) + <double> offset[0]
    cdef double column = (ow * v.stride[2] - v.low[2] + t % v.kernel[2] * v.dilation[2]) + <double> offset[v.offset.stride[1]]
    return between_zeros(row, v.x.shape[3], h) and between_zeros(column, v.x.shape[4], w)


cdef inline double masked(const cnn_windows *v, int64_t n, int64_t plane, int64_t oh, int64_t ow, real *kind) noexcept nogil:
    if v.mask.data == NULL:
        return 1
    return (<const real *> v.mask.data)[plane_offset(&v.mask, n, plane) + oh * v.mask.stride[3] + ow * v.mask.stride[4]]


cdef inline int64_t column_of(const cnn_windows *v, int64_t c, int64_t t) noexcept nogil:
    return c // v.inputs * v.taps * v.inputs + t * v.inputs + c % v.inputs


cdef void deformed_columns(cnn_windows *v, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are rows (n, g, oh) of all channels of an offset group."""
    cdef int64_t task, n, g, t, oh, ow, c, channels = v.x.shape[1] // v.groups
    cdef double m
    cdef bint inside
    cdef const real *x
    cdef real *y
    cdef Between h, w
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n, g, oh = task // v.output[1] // v.groups, task // v.output[1] % v.groups, task % v.output[1]
        for t in range(v.taps):
            if stop_after(&left, v.output[2] * channels):
                return
            for ow in range(v.output[2]):
                inside = deformed(v, n, g, t, oh, ow, &h, &w, scratch)
                m = masked(v, n, g * v.taps + t, oh, ow, scratch)
                for c in range(g * channels, (g + 1) * channels):
                    x = <const real *> v.x.data + plane_offset(&v.x, n, c)
                    y = (<real *> v.y.data + plane_offset(&v.y, n, column_of(v, c, t)) + oh * v.y.stride[3]
                         + ow * v.y.stride[4])
                    y[0] = <real> (m * read(x, v.x.stride[3], v.x.stride[4], &h, &w)) if inside else 0


cdef void deformed_gradient(cnn_windows *v, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Write dΔ and dm; tasks are rows (n, g, oh)."""
    cdef int64_t task, n, g, t, oh, ow, c, channels = v.x.shape[1] // v.groups
    cdef double m, dh, dw, dm, d
    cdef bint inside
    cdef const real *x
    cdef real *place
    cdef Between h, w
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n, g, oh = task // v.output[1] // v.groups, task // v.output[1] % v.groups, task % v.output[1]
        for t in range(v.taps):
            if stop_after(&left, v.output[2] * channels):
                return
            for ow in range(v.output[2]):
                inside = deformed(v, n, g, t, oh, ow, &h, &w, scratch)
                m = masked(v, n, g * v.taps + t, oh, ow, scratch)
                dh = dw = dm = 0
                if inside:
                    for c in range(g * channels, (g + 1) * channels):
                        x = <const real *> v.x.data + plane_offset(&v.x, n, c)
                        d = (<const real *> v.y.data)[plane_offset(&v.y, n, column_of(v, c, t)) + oh * v.y.stride[3]
                                                      + ow * v.y.stride[4]]
                        dh += d * slope_h(x, v.x.stride[3], v.x.stride[4], &h, &w)
                        dw += d * slope_w(x, v.x.stride[3], v.x.stride[4], &h, &w)
                        dm += d * read(x, v.x.stride[3], v.x.stride[4], &h, &w)
                if v.doffset.data != NULL:
                    place = (<real *> v.doffset.data + plane_offset(&v.doffset, n, 2 * (g * v.taps + t))
                             + oh * v.doffset.stride[3] + ow * v.doffset.stride[4])
                    place[0], place[v.doffset.stride[1]] = <real> (m * dh), <real> (m * dw)
                if v.dmask.data != NULL:
                    place = (<real *> v.dmask.data + plane_offset(&v.dmask, n, g * v.taps + t) + oh * v.dmask.stride[3]
                             + ow * v.dmask.stride[4])
                    place[0] = <real> dm


cdef void deformed_backward_input(cnn_windows *v, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c) of dx, here x."""
    cdef int64_t task, n, c, g, t, i, oh, ow
    cdef double *total = <double *> scratch
    cdef const real *dy
    cdef Between h, w
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n, c = task // v.x.shape[1], task % v.x.shape[1]
        g = c // (v.x.shape[1] // v.groups)
        for i in range(cells(&v.x)):
            total[i] = 0
        for t in range(v.taps):
            dy = <const real *> v.y.data + plane_offset(&v.y, n, column_of(v, c, t))
            for oh in range(v.output[1]):
                if stop_after(&left, 16 * v.output[2]):
                    return
                for ow in range(v.output[2]):
                    if deformed(v, n, g, t, oh, ow, &h, &w, scratch):
                        scatter(total, v.x.shape[4], 1, &h, &w, dy[oh * v.y.stride[3] + ow * v.y.stride[4]]
                                * masked(v, n, g * v.taps + t, oh, ow, scratch))
        put_plane(&v.x, <real *> v.x.data + plane_offset(&v.x, n, c), total)


# ── Calls from Python ──────────────────────────────────────────────────────────────────────────────────────────────────

cdef inline cnn_task typed(Tensor t, void *single, void *double_):  # no-cython-lint
    return <cnn_task> (single if t.precision == CNN_FLOAT32 else double_)


cdef int DEFORM_COLUMNS = kernel_number("deform_columns")
cdef int DEFORM_BACKWARD_INPUT = kernel_number("deform_backward_input")
cdef int DEFORM_GRADIENT = kernel_number("deform_gradient")


cdef inline bint channels_innermost(const cnn_tensor *t) noexcept:
    return t.stride[1] == 1 or t.shape[1] == 1


cdef class Columns:
    """Columns(window, groups=1, inputs=1): the windows of a call, as in geometry.Window. ``groups`` of channels
    share weights or offsets; ``inputs``: channels of a group of the convolution that follows deformed windows.
    """
    cdef cnn_windows windows

    def __init__(self, window, int64_t groups=1, int64_t inputs=1):
        cdef int axis
        self.windows.groups, self.windows.taps, self.windows.inputs = groups, 1, inputs
        for axis in range(3):
            self.windows.kernel[axis], self.windows.stride[axis] = window.kernel[axis], window.stride[axis]
            self.windows.dilation[axis], self.windows.low[axis] = window.dilation[axis], window.low[axis]
            self.windows.output[axis] = window.output[axis]
            self.windows.taps *= window.kernel[axis]

    cdef cnn_windows prepare_call(self, Tensor x, Tensor y, Tensor w=None, Tensor b=None):  # no-cython-lint
        cdef cnn_windows v = self.windows
        v.x, v.y = x.view, y.view
        v.b.data = v.mask.data = v.doffset.data = v.dmask.data = NULL
        if w is not None:
            v.w = w.view
        if b is not None:
            v.b = b.view
        return v

    def of_rows(self, int64_t first, int64_t count):
        """The windows of ``count`` rows of outputs alone."""
        cdef Columns part = Columns.__new__(Columns)
        part.windows = self.windows
        part.windows.output[1] = count
        part.windows.low[1] -= first * self.windows.stride[1]
        return part

    cdef double work(self, const cnn_windows *v):
        return <double> size(&v.x) * v.taps

    def unfold(self, x, y):
        """Write the columns (N, C · T, windows)."""
        cdef Tensor X = tensor(x), Y = tensor(y, True)
        cdef cnn_windows v = self.prepare_call(X, Y)
        run(typed(X, <void *> unfold_planes[float], <void *> unfold_planes[double]), &v,
            v.x.shape[0] * v.x.shape[1], 1, 0, self.work(&v))

    def fold(self, y, x):
        """Write the image whose pixels are the sums of the columns' entries."""
        cdef Tensor X = tensor(x, True), Y = tensor(y)
        cdef cnn_windows v = self.prepare_call(X, Y)
        run(typed(X, <void *> fold_planes[float], <void *> fold_planes[double]), &v,
            v.x.shape[0] * v.x.shape[1], 1, cells(&v.x) * 8, self.work(&v))

    def local_forward(self, x, w, b, y):
        """Write y; b is None, or (1, K, \\*output)."""
        cdef Tensor X = tensor(x), Y = tensor(y, True), W = tensor(w), B = None if b is None else tensor(b)
        cdef cnn_windows v = self.prepare_call(X, Y, W, B)
        run(typed(X, <void *> local_forward[float], <void *> local_forward[double]), &v,
            v.y.shape[1] * v.output[0] * v.output[1], 1, v.output[2] * 8, self.work(&v) * v.y.shape[1])

    def local_backward_input(self, dy, w, dx):
        """Write dx."""
        cdef Tensor X = tensor(dx, True), Y = tensor(dy), W = tensor(w)
        cdef cnn_windows v = self.prepare_call(X, Y, W)
        run(typed(X, <void *> local_backward_input[float], <void *> local_backward_input[double]), &v,
            v.x.shape[0] * v.x.shape[1], 1, cells(&v.x) * 8, self.work(&v) * v.y.shape[1])

    def local_backward_weight(self, x, dy, dw):
        """Write dw."""
        cdef Tensor X = tensor(x), Y = tensor(dy), W = tensor(dw, True)
        cdef cnn_windows v = self.prepare_call(X, Y, W)
        run(typed(X, <void *> local_backward_weight[float], <void *> local_backward_weight[double]), &v,
            v.y.shape[1] * v.output[0] * v.output[1], 1, v.output[2] * 8, self.work(&v) * v.y.shape[1])

    def deform(self, x, offset, mask, y):
        """Write the columns (N, C · T, \\*output) of deformed windows; by a kernel if channels are innermost."""
        cdef Tensor X = tensor(x), O = tensor(offset), M = None if mask is None else tensor(mask), Y = tensor(y, True)
        cdef cnn_windows v = self.prepare_call(X, Y)
        v.offset = O.view
        if M is not None:
            v.mask = M.view
        if kernel(DEFORM_COLUMNS, X.precision) != NULL and channels_innermost(&v.x) and channels_innermost(&v.y):
            run(kernel(DEFORM_COLUMNS, X.precision), &v, v.x.shape[0] * v.output[1], 1, 0, self.work(&v))
            return
        run(typed(X, <void *> deformed_columns[float], <void *> deformed_columns[double]), &v,
            v.x.shape[0] * v.groups * v.output[1], 1, 0, 5 * self.work(&v))

    def deform_backward_input(self, dy, offset, mask, dx):
        """Write dx."""
        cdef Tensor X = tensor(dx, True), O = tensor(offset), M = None if mask is None else tensor(mask), Y = tensor(dy)
        cdef cnn_windows v = self.prepare_call(X, Y)
        v.offset = O.view
        if M is not None:
            v.mask = M.view
        if kernel(DEFORM_BACKWARD_INPUT, X.precision) != NULL and channels_innermost(&v.x) and channels_innermost(&v.y):
            v.block = 2 * lanes(X.precision)
            run(kernel(DEFORM_BACKWARD_INPUT, X.precision), &v, v.x.shape[0] * ((v.x.shape[1] + v.block - 1) // v.block), 1, 0,
                self.work(&v))
            return
        run(typed(X, <void *> deformed_backward_input[float], <void *> deformed_backward_input[double]), &v,
            v.x.shape[0] * v.x.shape[1], 1, cells(&v.x) * 8, 10 * self.work(&v))

    def deform_gradient(self, x, offset, mask, dy, doffset, dmask):
        """Write doffset and dmask (None: not needed)."""
        cdef Tensor X = tensor(x), O = tensor(offset), M = None if mask is None else tensor(mask), Y = tensor(dy)
        cdef Tensor DO = None if doffset is None else tensor(doffset, True), DM = None if dmask is None else tensor(dmask, True)
        cdef cnn_windows v = self.prepare_call(X, Y)
        v.offset = O.view
        if M is not None:
            v.mask = M.view
        if DO is not None:
            v.doffset = DO.view
        if DM is not None:
            v.dmask = DM.view
        if kernel(DEFORM_GRADIENT, X.precision) != NULL and channels_innermost(&v.x) and channels_innermost(&v.y):
            run(kernel(DEFORM_GRADIENT, X.precision), &v, v.x.shape[0] * v.output[1], 1, 0, self.work(&v))
            return
        run(typed(X, <void *> deformed_gradient[float], <void *> deformed_gradient[double]), &v,
            v.x.shape[0] * v.groups * v.output[1], 1, 0, 10 * self.work(&v))
