"""Random operators, and the counter-based generator of random.pxd for Python."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from cnncore.runtime.dispatch cimport CNN_FLOAT32, CNN_FLOAT64, Tensor, cnn_task, cnn_tensor, kernel, real, run, tensor
from cnncore.runtime.layout cimport cell_offset, cells, merge_cells, plane_offset, size
from cnncore.runtime.dispatch import kernel_number

cdef extern from "calls.h" nogil:
    ctypedef struct cnn_dropout:
        cnn_tensor x
        cnn_tensor y
        uint8_t *mask
        int per_channel
        int64_t block
        int64_t blocks
        int64_t size
        double p
        uint64_t seed
        double scale
        double shift
        double fill

    ctypedef struct cnn_between:
        void *values
        int64_t size
        uint64_t seed
        double low
        double high


def philox_block(tuple counter, tuple key):
    """The four words of one block of Philox4x32-10.

    >>> [f"{word:08x}" for word in philox_block((0, 0, 0, 0), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    cdef uint32_t words[4]
    cdef uint32_t keys[2]
    cdef uint32_t block[4]
    cdef int i
    for i in range(4):
        words[i] = counter[i]
    for i in range(2):
        keys[i] = key[i]
    philox(words, keys, block)
    return block[0], block[1], block[2], block[3]


def fill_uniform(uint64_t seed, uint64_t start, out):
    """Fill ``out``, contiguous float64, with the numbers start, start + 1, … of the sequence ``seed``."""
    cdef Tensor O = tensor(out, True)
    if O.precision != CNN_FLOAT64:
        raise TypeError("fill_uniform fills float64 arrays")
    cdef double *values = <double *> O.view.data
    cdef uint64_t i
    for i in range(<uint64_t> (O.buffer.len // 8)):
        values[i] = uniform(seed, start + i)


# ── Dropout ── Hinton et al. 2012; alpha dropout: Klambauer et al. 2017 ────────────────────────────────────────────────
#
#     m_i = 1 if uniform(seed, i) ≥ p, else 0        i: position of the value in row-major order, or of its channel
#     y = scale x + shift where m = 1, else fill        dx = scale dy where m = 1, else 0

cdef void draw_mask(cnn_dropout *call, int64_t begin, int64_t end, void *scratch) noexcept nogil:
    """Tasks are pairs of adjacent values."""
    cdef int64_t i
    cdef double numbers[2]
    for i in range(begin, end):
        uniform_pair(call.seed, i, numbers)
        call.mask[2 * i] = numbers[0] >= call.p
        if 2 * i + 1 < call.size:
            call.mask[2 * i + 1] = numbers[1] >= call.p


cdef void dropout(cnn_dropout *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are blocks of cells of all channels of an image."""
    cdef int64_t task, n, c, i, first, last, plane, P = cells(&call.x)
    cdef const real *x
    cdef real *y
    cdef const uint8_t *mask
    cdef real scale = <real> call.scale, shift = <real> call.shift, fill = <real> call.fill
    cdef bint merged = call.x.shape[2] == call.x.shape[3] == 1 and call.y.shape[2] == call.y.shape[3] == 1
    cdef bint by_side = merged and call.x.stride[4] == 1 and call.y.stride[4] == 1
    for task in range(begin, end):
        n, first = task // call.blocks, task % call.blocks * call.block
        last = min(first + call.block, P)
        for c in range(call.x.shape[1]):
            x = <const real *> call.x.data + plane_offset(&call.x, n, c)
            y = <real *> call.y.data + plane_offset(&call.y, n, c)
            plane = n * call.x.shape[1] + c
            if call.per_channel:
                for i in range(first, last):
                    y[cell_offset(&call.y, i)] = scale * x[cell_offset(&call.x, i)] + shift if call.mask[plane] else fill
                continue
            mask = call.mask + plane * P
            if by_side:
                for i in range(first, last):
                    y[i] = scale * x[i] + shift if mask[i] else fill
                continue
            for i in range(first, last):
                y[cell_offset(&call.y, i)] = scale * x[cell_offset(&call.x, i)] + shift if mask[i] else fill


cdef int DRAW = kernel_number("dropout_draw"), SELECT = kernel_number("dropout_select")


def draw(uint64_t seed, double p, mask):
    """Fill the boolean array ``mask``: True with probability 1 − p."""
    cdef Tensor M = tensor(mask, True)
    cdef cnn_dropout call
    call.seed, call.p, call.mask = seed, p, <uint8_t *> M.view.data
    call.size = size(&M.view)
    cdef cnn_task task = kernel(DRAW, CNN_FLOAT32)
    run(<cnn_task> draw_mask if task == NULL else task, &call, (call.size + 1) // 2, 512, 0, 20 * call.size)


def select(x, mask, double scale, double shift, double fill, y):
    """Write y = scale x + shift where ``mask``, of x's shape or (N, C), is True, else fill."""
    cdef Tensor X = tensor(x), Y = tensor(y, True), M = tensor(mask)
    cdef cnn_dropout call
    call.x, call.y, call.mask = X.view, Y.view, <uint8_t *> M.view.data
    merge_cells(&call.x)
    merge_cells(&call.y)
    call.per_channel = M.buffer.ndim < X.buffer.ndim
    call.scale, call.shift, call.fill = scale, shift, fill
    cdef cnn_task task = kernel(SELECT, X.precision)
    if task == NULL:
        task = <cnn_task> dropout[float] if X.precision == CNN_FLOAT32 else <cnn_task> dropout[double]
    # As many cells as stay in the cache while the channels are processed, if these are innermost.
    call.block = 64 if X.view.stride[1] == 1 else 4096
    call.blocks = (cells(&X.view) + call.block - 1) // call.block
    run(task, &call, X.view.shape[0] * call.blocks, 1, 0, 2 * size(&X.view))


# ── Uniform numbers in a range ────────────────────────────────────────────────────────────────────────────────────────
#
#     v_i = low + (high − low) uniform(seed, i)             i: position of the value in row-major order

cdef void fill_between(cnn_between *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are pairs of adjacent values."""
    cdef int64_t i
    cdef double numbers[2]
    cdef real *values = <real *> call.values
    for i in range(begin, end):
        uniform_pair(call.seed, i, numbers)
        values[2 * i] = <real> (call.low + (call.high - call.low) * numbers[0])
        if 2 * i + 1 < call.size:
            values[2 * i + 1] = <real> (call.low + (call.high - call.low) * numbers[1])


cdef int BETWEEN = kernel_number("between_draw")


def draw_between(uint64_t seed, double low, double high, values):
    """Fill the contiguous array ``values`` with numbers between ``low`` and ``high``."""
    cdef Tensor V = tensor(values, True)
    cdef cnn_between call
    call.seed, call.low, call.high, call.values, call.size = seed, low, high, V.view.data, size(&V.view)
    cdef cnn_task task = kernel(BETWEEN, V.precision)
    if task == NULL:
        task = <cnn_task> fill_between[float] if V.precision == CNN_FLOAT32 else <cnn_task> fill_between[double]
    run(task, &call, (call.size + 1) // 2, 512, 0, 20 * call.size)
