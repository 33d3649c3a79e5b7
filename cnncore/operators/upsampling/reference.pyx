"""Images read at given positions: grid sampling.

Along each axis a position lies between cells, which are read with weights: one cell (nearest), two (linear) or four (cubic).
The value is the sum over all combinations of them.
"""

from libc.math cimport NAN, fabs, floor, fmod, rint
from libc.stdint cimport int64_t

from cnncore.runtime.dispatch cimport CNN_FLOAT32, PIECE, Tensor, cnn_task, cnn_tensor, real, run, stop_after, tensor
from cnncore.runtime.layout cimport cell_offset, cells, plane_offset

cdef enum:
    LINEAR = 0
    NEAREST = 1
    CUBIC = 2

cdef enum:
    ZEROS = 0
    BORDER = 1
    REFLECTION = 2

MODES = {"linear": LINEAR, "nearest": NEAREST, "cubic": CUBIC}
PADDING_MODES = {"zeros": ZEROS, "border": BORDER, "reflection": REFLECTION}

cdef double FARTHEST = 4503599627370496.0       # 2⁵²: beyond it floor() has nothing to do
cdef double A = -0.75                           # of cubic convolution


cdef struct Grid:
    cnn_tensor x, y                 # backward: x or dx, and dy
    const void *grid                # (N, P, rank), C-contiguous: −1 … 1 along the last axis first
    void *dgrid                     # as grid
    int64_t positions               # P
    int rank, mode, padding
    bint align_corners


# ── Positions ── along an axis of H cells, of a number g of the grid ──────────────────────────────────────────────────
#
#     p = (g + 1)(H − 1)/2 with align_corners, else ((g + 1) H − 1)/2
#
# border: p is clipped to the image. reflection: p is mirrored at the centres of the outer cells with align_corners, else at
# their edges, then clipped. With cubic interpolation this is done with each of the four cells instead.

cdef struct Taps:               # the cells that are read along an axis
    int count
    int64_t cell[4]
    double weight[4]            # 0 if the cell does not count
    double slope[4]             # ∂weight/∂g


cdef inline double reflected(double p, double low, double high, double *turn) noexcept nogil:
    """p mirrored into [low, high]; ``turn`` is ∂/∂p of it."""
    cdef double span = high - low, beyond, flips
    turn[0] = 1
    if span <= 0:
        turn[0] = 0
        return 0
    p -= low
    if p < 0:
        p, turn[0] = -p, -1
    beyond, flips = fmod(p, span), floor(p / span)
    if fmod(flips, 2) == 0:
        return low + beyond
    turn[0] = -turn[0]
    return low + span - beyond


cdef inline double placed(double p, int64_t H, const Grid *call, double *turn) noexcept nogil:
    """p as the padding mode has it, within the image unless that is "zeros"."""
    turn[0] = 1
    if call.padding == REFLECTION:
        p = reflected(p, 0 if call.align_corners else -0.5, H - 1 if call.align_corners else H - 0.5, turn)
    if call.padding != ZEROS and not 0 < p < H - 1:
        turn[0] = 0
        p = min(max(p, 0), H - 1)
    return p


cdef inline double cubic(double t) noexcept nogil:
    """Weight of a cell at distance t."""
    t = fabs(t)
    if t <= 1:
        return ((A + 2) * t - (A + 3)) * t * t + 1
    return ((A * t - 5 * A) * t + 8 * A) * t - 4 * A


cdef inline double cubic_slope(double t) noexcept nogil:
    """Its derivative."""
    cdef double d = fabs(t), s
    s = (3 * (A + 2) * d - 2 * (A + 3)) * d if d <= 1 else (3 * A * d - 10 * A) * d + 8 * A
    return -s if t < 0 else s


cdef inline bint taps_at(double g, int64_t H, const Grid *call, Taps *at) noexcept nogil:
    """The cells around a number of the grid; False if it is NaN, or infinite where the image is mirrored."""
    cdef double scale = (H - 1) / 2.0 if call.align_corners else H / 2.0, turn = 1, unused, p, low, t, cell
    cdef int k
    p = (g + 1) * (H - 1) / 2.0 if call.align_corners else ((g + 1) * H - 1) / 2.0
    if p != p or (call.padding == REFLECTION and fabs(p) > FARTHEST):
        return False
    p = min(max(p, -FARTHEST), FARTHEST)
    if call.mode != CUBIC:
        p = placed(p, H, call, &turn)
    at.count = 1 if call.mode == NEAREST else 2 if call.mode == LINEAR else 4
    low = rint(p) if call.mode == NEAREST else floor(p)
    t = p - low
    for k in range(at.count):
        cell = low + k - (1 if call.mode == CUBIC else 0)
        if call.mode == NEAREST:
            at.weight[k], at.slope[k] = 1, 0
        elif call.mode == LINEAR:
            at.weight[k], at.slope[k] = (t, scale * turn) if k else (1 - t, -scale * turn)
        else:
            at.weight[k], at.slope[k] = cubic(t + 1 - k), scale * cubic_slope(t + 1 - k)
            cell = placed(cell, H, call, &unused)
        if 0 <= cell <= H - 1:
            at.cell[k] = <int64_t> cell
        else:
            at.cell[k], at.weight[k], at.slope[k] = 0, 0, 0
    return True


cdef inline bint all_taps(const Grid *call, const real *numbers, Taps *at) noexcept nogil:
    """The cells around a position along depth, height and width."""
    cdef int axis
    for axis in range(3):
        if axis < 3 - call.rank:
            at[axis].count, at[axis].cell[0], at[axis].weight[0], at[axis].slope[0] = 1, 0, 1, 0
        elif not taps_at(numbers[2 - axis], call.x.shape[2 + axis], call, &at[axis]):
            return False
    return True


# ── Grid sampling ── Jaderberg, Simonyan, Zisserman & Kavukcuoglu 2015, arXiv:1506.02025, section 3.3 ─────────────────
#
#     y[n, c, p]     = Σ x[n, c, cell] w(cell)                w = Π of the weights along the axes
#     dx[n, c, cell] = Σ dy[n, c, p] w(cell)
#     dgrid[n, p, i] = Σ dy[n, c, p] x[n, c, cell] ∂w/∂gᵢ     over channels and cells

cdef inline double value_at(const cnn_tensor *x, const real *plane, const Taps *at, int along) noexcept nogil:
    """Σ x w; with slopes instead of weights ``along`` an axis (−1: none). Cells of weight 0 are not read."""
    cdef double total = 0, wd, wh, ww
    cdef int a, b, c
    for a in range(at[0].count):
        wd = at[0].slope[a] if along == 0 else at[0].weight[a]
        if wd == 0:
            continue
        for b in range(at[1].count):
            wh = at[1].slope[b] if along == 1 else at[1].weight[b]
            if wh == 0:
                continue
            for c in range(at[2].count):
                ww = at[2].slope[c] if along == 2 else at[2].weight[c]
                if ww != 0:
                    total += wd * wh * ww * plane[
                        at[0].cell[a] * x.stride[2] + at[1].cell[b] * x.stride[3] + at[2].cell[c] * x.stride[4]]
    return total


cdef void sample_forward(Grid *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are positions (n, p)."""
    cdef int64_t task, n, p, c
    cdef bint known
    cdef Taps at[3]
    cdef real *y
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n, p = task // call.positions, task % call.positions
        known = all_taps(call, <const real *> call.grid + task * call.rank, at)
        for c in range(call.x.shape[1]):
            if stop_after(&left, 16):
                return
            y = <real *> call.y.data + plane_offset(&call.y, n, c) + cell_offset(&call.y, p)
            y[0] = <real> (value_at(&call.x, <const real *> call.x.data + plane_offset(&call.x, n, c), at, -1)
                           if known else NAN)


cdef void sample_backward(Grid *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c) of dx, here x."""
    cdef int64_t task, n, p, i
    cdef int a, b, c
    cdef Taps at[3]
    cdef real *dx
    cdef double dy
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n = task // call.x.shape[1]
        dx = <real *> call.x.data + plane_offset(&call.x, n, task % call.x.shape[1])
        for i in range(cells(&call.x)):
            if stop_after(&left, 1):
                return
            dx[cell_offset(&call.x, i)] = 0
        for p in range(call.positions):
            if stop_after(&left, 16):
                return
            if not all_taps(call, <const real *> call.grid + (n * call.positions + p) * call.rank, at):
                continue
            dy = (<const real *> call.y.data)[plane_offset(&call.y, n, task % call.x.shape[1]) + cell_offset(&call.y, p)]
            for a in range(at[0].count):
                for b in range(at[1].count):
                    for c in range(at[2].count):
                        if at[0].weight[a] != 0 and at[1].weight[b] != 0 and at[2].weight[c] != 0:
                            i = (at[0].cell[a] * call.x.stride[2] + at[1].cell[b] * call.x.stride[3]
                                 + at[2].cell[c] * call.x.stride[4])
                            dx[i] += <real> (dy * at[0].weight[a] * at[1].weight[b] * at[2].weight[c])


cdef void grid_backward(Grid *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are positions (n, p) of dgrid."""
    cdef int64_t task, n, p, c
    cdef int i
    cdef bint known
    cdef Taps at[3]
    cdef double total
    cdef real dy
    cdef int64_t left = PIECE
    for task in range(begin, end):
        n, p = task // call.positions, task % call.positions
        known = all_taps(call, <const real *> call.grid + task * call.rank, at)
        for i in range(call.rank):
            total = 0
            for c in range(call.x.shape[1] if known else 0):
                if stop_after(&left, 16):
                    return
                dy = (<const real *> call.y.data)[plane_offset(&call.y, n, c) + cell_offset(&call.y, p)]
                total += dy * value_at(&call.x, <const real *> call.x.data + plane_offset(&call.x, n, c), at, 2 - i)
            (<real *> call.dgrid)[task * call.rank + i] = <real> total


cdef int prepare(Grid *call, Tensor x, Tensor y, Tensor grid, str mode, str padding_mode, bint align_corners) except -1:
    call.x, call.y, call.grid, call.dgrid = x.view, y.view, grid.view.data, NULL
    call.positions, call.rank = cells(&y.view), grid.view.shape[4]
    call.mode, call.padding, call.align_corners = MODES[mode], PADDING_MODES[padding_mode], align_corners
    return 0


def sample(x, grid, y, str mode, str padding_mode, bint align_corners):
    """Write y; ``grid`` is (N, P, rank), C-contiguous."""
    cdef Tensor X = tensor(x), Y = tensor(y, True), GRID = tensor(grid)
    cdef Grid call
    prepare(&call, X, Y, GRID, mode, padding_mode, align_corners)
    run(<cnn_task> sample_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> sample_forward[double], &call,
        call.x.shape[0] * call.positions, 1 + 1024 // call.x.shape[1], 0,
        20.0 * call.x.shape[0] * call.positions * call.x.shape[1])


def sample_gradient(dx, grid, dy, str mode, str padding_mode, bint align_corners):
    """Write dx."""
    cdef Tensor DX = tensor(dx, True), DY = tensor(dy), GRID = tensor(grid)
    cdef Grid call
    prepare(&call, DX, DY, GRID, mode, padding_mode, align_corners)
    run(<cnn_task> sample_backward[float] if DX.precision == CNN_FLOAT32 else <cnn_task> sample_backward[double], &call,
        call.x.shape[0] * call.x.shape[1], 1, 0, 50.0 * call.x.shape[0] * call.positions * call.x.shape[1])


def grid_gradient(x, grid, dy, dgrid, str mode, str padding_mode, bint align_corners):
    """Write dgrid, of grid's form."""
    cdef Tensor X = tensor(x), DY = tensor(dy), GRID = tensor(grid), DGRID = tensor(dgrid, True)
    cdef Grid call
    prepare(&call, X, DY, GRID, mode, padding_mode, align_corners)
    call.dgrid = DGRID.view.data
    run(<cnn_task> grid_backward[float] if X.precision == CNN_FLOAT32 else <cnn_task> grid_backward[double], &call,
        call.x.shape[0] * call.positions, 1 + 1024 // call.x.shape[1], 0,
        50.0 * call.x.shape[0] * call.positions * call.x.shape[1])
