"""Pooling of boxes, and max unpooling: operators that read and write at given positions.

RoI align interpolates between cells (see reference.pxd), position-sensitive RoI pooling averages whole cells, max unpooling writes
single ones. Forward, tasks are boxes and channels; backward, planes of dx, into which all boxes of an image accumulate in order.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t
from libc.string cimport memset

from cnncore.runtime.dispatch cimport (
    CNN_FLOAT32, PIECE, Tensor, cnn_task, cnn_tensor, kernel, real, run, stop_after, tensor,
)
from cnncore.runtime.dispatch import kernel_number
from cnncore.runtime.layout cimport cell_offset, cells, merge_cells, plane_offset
from cnncore.operators.sampling.reference cimport Between, between_clamped, read, scatter


cdef extern from "calls.h" nogil:
    enum: CNN_BOXES_CHANNELS

    ctypedef struct cnn_boxes:
        cnn_tensor x, y                 # backward: dx and dy
        cnn_tensor values               # backward of the maximum: x
        int64_t count
        const int64_t *image            # [count] the image of each box
        const double *box               # [count][4] first row and column, height and width of a bin
        const int64_t *grid             # [count][2] rows and columns of samples in a bin
        int64_t most                    # samples of a box along an axis
        int64_t maximum                 # of samples (1), or of the weighted cells around them (CORNERS)


# ── RoI align ── He, Gkioxari, Dollár & Girshick 2017, arXiv:1703.06870, section 3 ─────────────────────────────────────
#
#     bin (i, j) of a box: samples at h = h₀ + (i + (a + ½)/A) bin_h, w = w₀ + (j + (b + ½)/B) bin_w,  a < A, b < B
#
#     avg    y = 1/(A B) Σ v(h, w)        dx += dy / (A B) · ∂v/∂x for every sample
#     max    y = max v(h, w)              dx += dy · ∂v/∂x for the first sample that is y; NaN wins
#     corners: y = max weight · x[cell] over the four cells of all samples; dx += dy · weight for the first that is y
#
#     v = 0 for samples beyond [−1, H] × [−1, W];  no samples: y = 0 and no gradient

cdef enum:
    CORNERS = 2

cdef inline bint sample_at(const cnn_boxes *call, int64_t r, int64_t i, int64_t j, int64_t a, int64_t b,
                           Between *h, Between *w) noexcept nogil:
    """The cells around sample (a, b) of bin (i, j); False outside the image."""
    cdef const double *box = call.box + 4 * r
    cdef const int64_t *grid = call.grid + 2 * r
    return (between_clamped(box[0] + i * box[2] + (a + 0.5) * box[2] / grid[0], call.x.shape[3], h)
            and between_clamped(box[1] + j * box[3] + (b + 0.5) * box[3] / grid[1], call.x.shape[4], w))


cdef inline double box_value(const cnn_boxes *call, const real *x, const cnn_tensor *image, int64_t r, int64_t i, int64_t j,
                             int64_t *winner) noexcept nogil:
    """y of a bin and, for the maximum, which of its samples it came from."""
    cdef int64_t A = call.grid[2 * r], B = call.grid[2 * r + 1], a, b
    cdef double value, total = 0, best = -INFINITY
    cdef Between h, w
    winner[0] = 0
    for a in range(A):
        for b in range(B):
            value = read(x, image.stride[3], image.stride[4], &h, &w) if sample_at(call, r, i, j, a, b, &h, &w) else 0
            total += value
            if value > best or (value != value and best == best):
                best, winner[0] = value, a * B + b
    if A * B == 0:
        return 0
    return best if call.maximum else total / (A * B)


cdef inline double weighted_cell(const real *x, const cnn_tensor *image, const Between *h, const Between *w, int corner) noexcept nogil:
    """One of the four terms of an interpolated value; cells of weight 0 are not read."""
    cdef int p = corner // 2, q = corner % 2
    if h.weight[p] == 0 or w.weight[q] == 0:
        return 0
    return h.weight[p] * w.weight[q] * x[h.cell[p] * image.stride[3] + w.cell[q] * image.stride[4]]


cdef inline double corners_value(const cnn_boxes *call, const real *x, const cnn_tensor *image, int64_t r, int64_t i, int64_t j,
                                 int64_t *winner) noexcept nogil:
    """y of a bin that is the largest weighted cell, and which cell of which sample that is: 4 sample + cell."""
    cdef int64_t A = call.grid[2 * r], B = call.grid[2 * r + 1], a, b
    cdef double value, best = -INFINITY
    cdef bint inside
    cdef int corner
    cdef Between h, w
    winner[0] = 0
    for a in range(A):
        for b in range(B):
            inside = sample_at(call, r, i, j, a, b, &h, &w)
            for corner in range(4):
                value = weighted_cell(x, image, &h, &w, corner) if inside else 0
                if value > best or (value != value and best == best):
                    best, winner[0] = value, 4 * (a * B + b) + corner
    return best if A * B else 0


cdef inline void corner_scatter(const cnn_boxes *call, real *dx, int64_t r, int64_t i, int64_t j, int64_t winner, double d) noexcept nogil:
    """The gradient d of a bin into the cell that it is of."""
    cdef int64_t B = call.grid[2 * r + 1]
    cdef int corner = <int> (winner % 4)
    cdef Between h, w
    if call.grid[2 * r] * B and sample_at(call, r, i, j, winner // 4 // B, winner // 4 % B, &h, &w):
        dx[h.cell[corner // 2] * call.x.stride[3] + w.cell[corner % 2] * call.x.stride[4]] += (
            <real> (d * h.weight[corner // 2] * w.weight[corner % 2]))


cdef void roi_align_forward(cnn_boxes *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are boxes and channels (r, c)."""
    cdef int64_t task, r, c, i, j, winner
    cdef const real *x
    cdef real *y
    for task in range(begin, end):
        r, c = task // call.x.shape[1], task % call.x.shape[1]
        x = <const real *> call.x.data + plane_offset(&call.x, call.image[r], c)
        y = <real *> call.y.data + plane_offset(&call.y, r, c)
        for i in range(call.y.shape[3]):
            for j in range(call.y.shape[4]):
                y[i * call.y.stride[3] + j * call.y.stride[4]] = <real> (
                    corners_value(call, x, &call.x, r, i, j, &winner) if call.maximum == CORNERS
                    else box_value(call, x, &call.x, r, i, j, &winner))


cdef inline void scatter_samples(const cnn_boxes *call, real *dx, int64_t r, int64_t i, int64_t j, int64_t first, int64_t last,
                                 double d) noexcept nogil:
    """Add ``d`` around the samples ``first`` to ``last`` of bin (i, j), numbered row by row."""
    cdef int64_t s, B = call.grid[2 * r + 1]
    cdef Between h, w
    for s in range(first, last):
        if sample_at(call, r, i, j, s // B, s % B, &h, &w):
            scatter(dx, call.x.stride[3], call.x.stride[4], &h, &w, d)


cdef inline void bin_backward(const cnn_boxes *call, const real *values, real *dx, int64_t r, int64_t i, int64_t j,
                              double dy) noexcept nogil:
    """Add what the gradient of a bin passes on: to the winning corner, the winning sample, or all samples."""
    cdef int64_t samples = call.grid[2 * r] * call.grid[2 * r + 1], winner = 0
    if call.maximum == CORNERS:
        corners_value(call, values, &call.values, r, i, j, &winner)
        corner_scatter(call, dx, r, i, j, winner, dy)
    elif call.maximum:
        box_value(call, values, &call.values, r, i, j, &winner)
        scatter_samples(call, dx, r, i, j, winner, min(winner + 1, samples), dy)
    else:
        scatter_samples(call, dx, r, i, j, 0, samples, dy / samples)


cdef void roi_align_backward(cnn_boxes *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c) of dx, here x."""
    cdef int64_t task, n, c, r, i, j
    cdef const real *values
    cdef const real *dy
    cdef real *dx
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n, c = task // call.x.shape[1], task % call.x.shape[1]
        dx = <real *> call.x.data + plane_offset(&call.x, n, c)
        values = <const real *> call.values.data + plane_offset(&call.values, n, c)
        if clear(&call.x, dx, &left):
            return
        for r in range(call.count):
            if call.image[r] != n:
                continue
            dy = <const real *> call.y.data + plane_offset(&call.y, r, c)
            for i in range(call.y.shape[3]):
                for j in range(call.y.shape[4]):
                    bin_backward(call, values, dx, r, i, j, dy[i * call.y.stride[3] + j * call.y.stride[4]])


cdef inline bint clear(const cnn_tensor *x, real *plane, int64_t *left) noexcept nogil:
    """Set a plane to 0; True: the call is being stopped."""
    cdef int64_t first = 0, i, count, N = cells(x)
    cdef bint adjacent = x.stride[4] == 1 and x.shape[2] == 1 and x.shape[3] == 1
    while first < N:
        count = min(N - first, PIECE)
        if adjacent:
            memset(plane + first, 0, count * sizeof(real))
        else:
            for i in range(first, first + count):
                plane[cell_offset(x, i)] = 0
        first += count
        if stop_after(left, count):
            return True
    return False


# ── Position-sensitive RoI pooling ── Dai, Li, He & Sun 2016, arXiv:1605.06409, eq. 1 ──────────────────────────────────
#
#     y[r, c, i, j] = 1/n Σ x[c k² + i k + j] over the n cells of bin (i, j)       n = 0: y = 0 and no gradient
#     dx += dy / n for each of them

cdef struct Bins:
    cnn_tensor x, y                 # backward: dx and dy
    int64_t count
    const int64_t *image
    const int64_t *rows             # [count][k][2] first row of each bin, and the row after the last
    const int64_t *columns


cdef void position_sensitive_forward(Bins *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are boxes and channels (r, c) of y."""
    cdef int64_t task, r, c, i, j, h, w, I = call.y.shape[3], J = call.y.shape[4], n
    cdef const int64_t *row
    cdef const int64_t *column
    cdef const real *x
    cdef double total
    cdef int64_t left = PIECE
    for task in range(begin, end):
        r, c = task // call.y.shape[1], task % call.y.shape[1]
        for i in range(I):
            for j in range(J):
                row, column = call.rows + 2 * (r * I + i), call.columns + 2 * (r * J + j)
                x = <const real *> call.x.data + plane_offset(&call.x, call.image[r], (c * I + i) * J + j)
                n = max(row[1] - row[0], 0) * max(column[1] - column[0], 0)
                total = 0
                for h in range(row[0], row[1]):
                    if stop_after(&left, column[1] - column[0]):
                        return
                    for w in range(column[0], column[1]):
                        total += x[h * call.x.stride[3] + w * call.x.stride[4]]
                (<real *> call.y.data)[plane_offset(&call.y, r, c) + i * call.y.stride[3] + j * call.y.stride[4]] = (
                    <real> (total / n) if n else 0)


cdef void position_sensitive_backward(Bins *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c k² + i k + j) of dx, here x."""
    cdef int64_t task, n, plane, c, r, i, j, h, w, I = call.y.shape[3], J = call.y.shape[4]
    cdef const int64_t *row
    cdef const int64_t *column
    cdef real *dx
    cdef real share
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n, plane = task // call.x.shape[1], task % call.x.shape[1]
        c, i, j = plane // (I * J), plane // J % I, plane % J
        dx = <real *> call.x.data + plane_offset(&call.x, n, plane)
        if clear(&call.x, dx, &left):
            return
        for r in range(call.count):
            row, column = call.rows + 2 * (r * I + i), call.columns + 2 * (r * J + j)
            if call.image[r] != n or row[1] <= row[0] or column[1] <= column[0]:
                continue
            share = (<const real *> call.y.data)[plane_offset(&call.y, r, c) + i * call.y.stride[3] + j * call.y.stride[4]]
            share = share / ((row[1] - row[0]) * (column[1] - column[0]))
            for h in range(row[0], row[1]):
                if stop_after(&left, column[1] - column[0]):
                    return
                for w in range(column[0], column[1]):
                    dx[h * call.x.stride[3] + w * call.x.stride[4]] += share


# ── Max unpooling ── Zeiler & Fergus 2014, arXiv:1311.2901, section 2.1 ────────────────────────────────────────────────
#
#     y[index[i]] = x[i], y = 0 elsewhere          several i with one index: the last in row-major order, or their sum
#     dx[i] = dy[index[i]]                         of several, the one that was written, or all of them

cdef struct Unpooling:
    cnn_tensor x, y                 # backward: dx and dy
    cnn_tensor index                # of x's shape, in row-major order
    bint add                        # whether values with one index are summed
    bint whole                      # whether indices are positions in the whole array, not in a plane
    bint repeats                    # backward: whether some index occurs twice in its plane
    int wrong, repeated             # found by forward


cdef inline int64_t step_of(const cnn_tensor *t) noexcept nogil:
    """The step from cell to cell of a plane; 0 if it is not uniform."""
    return t.stride[4] if t.shape[2] == 1 and t.shape[3] == 1 else 0


cdef inline int64_t offset(const cnn_tensor *t, int64_t step, int64_t cell) noexcept nogil:
    return cell * step if step else cell_offset(t, cell)


cdef inline int64_t first_place(const Unpooling *call, int64_t n, int64_t c) noexcept nogil:
    """The first index of a plane."""
    return (n * call.y.shape[1] + c) * cells(&call.y) if call.whole else 0


cdef void unpool_forward(Unpooling *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c)."""
    cdef char *written = <char *> scratch       # whether a cell of y was
    cdef int64_t task, n, c, i, place, P = cells(&call.y), Q = cells(&call.x), base
    cdef int64_t x_step = step_of(&call.x), y_step = step_of(&call.y)
    cdef const int64_t *index
    cdef const real *x
    cdef real *y
    cdef bint repeated, wrong, add = call.add
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n, c = task // call.x.shape[1], task % call.x.shape[1]
        x = <const real *> call.x.data + plane_offset(&call.x, n, c)
        y = <real *> call.y.data + plane_offset(&call.y, n, c)
        index = <const int64_t *> call.index.data + task * Q
        base = first_place(call, n, c)
        if clear(&call.y, y, &left):
            return
        repeated = wrong = False
        if not add:
            i = 0
            while i < P:
                memset(written + i, 0, min(P - i, PIECE))
                i += PIECE
                if stop_after(&left, PIECE):
                    return
        for i in range(Q):
            if stop_after(&left, 1):
                return
            if not base <= index[i] < base + P:  # asked first: the difference of any two indices may overflow
                wrong = True
                continue
            place = index[i] - base
            if add:
                y[offset(&call.y, y_step, place)] += x[offset(&call.x, x_step, i)]
            else:
                y[offset(&call.y, y_step, place)] = x[offset(&call.x, x_step, i)]
                repeated |= written[place]
                written[place] = 1
        if wrong:
            say(&call.wrong)
        if repeated:
            say(&call.repeated)


cdef void unpool_backward(Unpooling *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c)."""
    cdef int64_t *last = <int64_t *> scratch    # which value a cell of y holds, if several were written
    cdef int64_t task, n, c, i, Q = cells(&call.x), base
    cdef int64_t x_step = step_of(&call.x), y_step = step_of(&call.y)
    cdef const int64_t *index
    cdef const real *dy
    cdef real *dx
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n, c = task // call.x.shape[1], task % call.x.shape[1]
        dx = <real *> call.x.data + plane_offset(&call.x, n, c)
        dy = <const real *> call.y.data + plane_offset(&call.y, n, c)
        index = <const int64_t *> call.index.data + task * Q
        base = first_place(call, n, c)
        for i in range(Q):
            if stop_after(&left, 1):
                return
            dx[offset(&call.x, x_step, i)] = dy[offset(&call.y, y_step, index[i] - base)]
        if call.repeats:
            for i in range(Q):
                if stop_after(&left, 1):
                    return
                last[index[i] - base] = i
            for i in range(Q):
                if last[index[i] - base] != i:
                    dx[offset(&call.x, x_step, i)] = 0


cdef extern from *:
    """
    /* Atomic, as several workers may do so at once. */
    static void cnn_say(int *flag) { __atomic_store_n(flag, 1, __ATOMIC_RELAXED); }
    """
    void say "cnn_say"(int *flag) noexcept nogil


# ── Calls from Python ──────────────────────────────────────────────────────────────────────────────────────────────────

cdef int ROI_ALIGN_FORWARD = kernel_number("roi_align_forward")
cdef int ROI_ALIGN_BACKWARD = kernel_number("roi_align_backward")

cdef enum:
    LARGEST_TABLE = 1024 * 1024         # samples of a box along an axis


cdef class BoxSamples:
    """The samples of some boxes: ``image`` (R,), ``box`` (R, 4) and ``grid`` (R, 2), C-contiguous int64, float64, int64."""
    cdef Tensor image, box, grid
    cdef int64_t maximum
    cdef int64_t samples, most          # of a box's bin, and along an axis

    def __init__(self, image, box, grid, bint maximum, bint corners, int64_t bins):
        """``maximum``: the largest sample instead of the mean; ``corners``: the largest weighted cell."""
        self.image, self.box, self.grid = tensor(image), tensor(box), tensor(grid)
        self.maximum = CORNERS if corners else maximum
        cdef int64_t r
        cdef const int64_t *count = <const int64_t *> self.grid.view.data
        for r in range(self.image.view.shape[0]):
            self.most = max(self.most, bins * max(count[2 * r], count[2 * r + 1]))
            self.samples = max(self.samples, count[2 * r] * count[2 * r + 1])

    cdef void prepare_call(self, cnn_boxes *call, Tensor x, Tensor y) noexcept:
        call.x, call.y, call.values = x.view, y.view, x.view
        call.count = self.image.view.shape[0]
        call.image = <const int64_t *> self.image.view.data
        call.box = <const double *> self.box.view.data
        call.grid = <const int64_t *> self.grid.view.data
        call.most, call.maximum = self.most, self.maximum

    cdef int apply(self, cnn_boxes *call, int number, cnn_task reference, int precision, int64_t of) except -1:  # no-cython-lint
        """Run the kernel if there is one and its tables fit, else the reference. ``of``: number of boxes, or of images."""
        cdef int64_t C = call.x.shape[1]
        cdef double work = 10.0 * call.count * C * cells(&call.y) * self.samples
        cdef cnn_task task = kernel(number, precision)
        # Kernels number samples in a lane, which has 32 bits in float32; an entry of the tables takes at most 40 bytes.
        if task == NULL or self.maximum == CORNERS or self.samples >= 2 ** 31 or self.most > LARGEST_TABLE:
            return run(reference, call, of * C, 1, 0, work)
        return run(task, call, of * ((C + CNN_BOXES_CHANNELS - 1) // CNN_BOXES_CHANNELS), 1, 2 * self.most * 48, work)

    def forward(self, x, y):
        """Write y."""
        cdef Tensor X = tensor(x), Y = tensor(y, True)
        cdef cnn_boxes call
        self.prepare_call(&call, X, Y)
        self.apply(&call, ROI_ALIGN_FORWARD, <cnn_task> roi_align_forward[float] if X.precision == CNN_FLOAT32
                 else <cnn_task> roi_align_forward[double], X.precision, call.count)

    def backward(self, x, dy, dx):
        """Write dx; x is read for the maximum only, and may be None otherwise."""
        cdef Tensor DY = tensor(dy), DX = tensor(dx, True), X = DX if x is None else tensor(x)
        cdef cnn_boxes call
        self.prepare_call(&call, DX, DY)
        call.values = X.view
        self.apply(&call, ROI_ALIGN_BACKWARD, <cnn_task> roi_align_backward[float] if DX.precision == CNN_FLOAT32
                 else <cnn_task> roi_align_backward[double], DX.precision, DX.view.shape[0])


cdef class BoxBins:
    """The bins of some boxes: ``image`` (R,), ``rows`` (R, I, 2) and ``columns`` (R, J, 2), C-contiguous int64."""
    cdef Tensor image, rows, columns

    def __init__(self, image, rows, columns):
        self.image, self.rows, self.columns = tensor(image), tensor(rows), tensor(columns)

    cdef int apply(self, cnn_task task, Tensor x, Tensor y, int64_t tasks) except -1:
        cdef Bins call
        call.x, call.y, call.count = x.view, y.view, self.image.view.shape[0]
        call.image = <const int64_t *> self.image.view.data
        call.rows = <const int64_t *> self.rows.view.data
        call.columns = <const int64_t *> self.columns.view.data
        return run(task, &call, tasks, 1, 0, <double> call.count * y.view.shape[1] * cells(&x.view))

    def forward(self, x, y):
        """Write y."""
        cdef Tensor X = tensor(x), Y = tensor(y, True)
        self.apply(<cnn_task> position_sensitive_forward[float] if X.precision == CNN_FLOAT32
                 else <cnn_task> position_sensitive_forward[double], X, Y, Y.view.shape[0] * Y.view.shape[1])

    def backward(self, dy, dx):
        """Write dx."""
        cdef Tensor DY = tensor(dy), DX = tensor(dx, True)
        self.apply(<cnn_task> position_sensitive_backward[float] if DX.precision == CNN_FLOAT32
                 else <cnn_task> position_sensitive_backward[double], DX, DY, DX.view.shape[0] * DX.view.shape[1])


cdef void infer(Unpooling *call, Tensor x, Tensor index, Tensor y, bint add, bint whole):  # no-cython-lint
    call.x, call.index, call.y = x.view, index.view, y.view
    call.add, call.whole, call.repeats, call.wrong, call.repeated = add, whole, False, 0, 0
    merge_cells(&call.x)
    merge_cells(&call.y)


cdef double work(const Unpooling *call):
    return <double> call.y.shape[0] * call.y.shape[1] * (cells(&call.y) + 4 * cells(&call.x))


def unpool(x, index, y, bint add, bint whole):
    """Write y; returns whether values replaced others, or None if an index lies outside."""
    cdef Tensor X = tensor(x), I = tensor(index), Y = tensor(y, True)
    cdef Unpooling call
    infer(&call, X, I, Y, add, whole)
    run(<cnn_task> unpool_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> unpool_forward[double],
        &call, X.view.shape[0] * X.view.shape[1], 1, cells(&Y.view), work(&call))
    return None if call.wrong else bool(call.repeated)


def unpool_gradient(dy, index, dx, bint add, bint whole, bint repeats):
    """Write dx; the indices and ``repeats``, whether values replaced others, are those of a forward pass."""
    cdef Tensor DX = tensor(dx, True), I = tensor(index), DY = tensor(dy)
    cdef Unpooling call
    infer(&call, DX, I, DY, add, whole)
    call.repeats = repeats
    run(<cnn_task> unpool_backward[float] if DX.precision == CNN_FLOAT32 else <cnn_task> unpool_backward[double],
        &call, DX.view.shape[0] * DX.view.shape[1], 1, cells(&DY.view) * sizeof(int64_t) if repeats else 0, work(&call))
