# Shared by all Cython modules: the C structs of calls, arrays as tensors, and running tasks.

from libc.stdint cimport int64_t, uint64_t

ctypedef fused real:
    float
    double

cdef extern from "calls.h" nogil:
    ctypedef void (*cnn_task)(void *call, int64_t begin, int64_t end, void *scratch) noexcept

    ctypedef struct cnn_tensor:
        void *data
        int64_t shape[5]
        int64_t stride[5]

    ctypedef struct cnn_axis:
        const int64_t *first
        const int64_t *count
        const int64_t *tap
        const int64_t *extent
        int64_t output
        int64_t input
        int64_t kernel
        int64_t step

    enum: CNN_POOL_VECTORS
    enum: CNN_POOL_RANKED
    enum: CNN_POOL_REFUSED_CELLS
    enum: CNN_POOL_REFUSED_STATE

    ctypedef struct cnn_pool:
        cnn_axis axis[3]
        cnn_tensor x
        cnn_tensor y
        cnn_tensor dx
        cnn_tensor dy
        cnn_tensor indices
        cnn_tensor drawn
        double setting[8]
        const double *parameter
        double *gradient
        int64_t parameters
        int64_t parameter_rows
        const void *strategy
        int64_t cells
        uint64_t seed
        uint64_t first_window
        uint64_t first_plane
        int refused
        int accumulate
        int learns
        int64_t whole_scratch
        int64_t in_place
        int64_t vectors
        int64_t strip
        int64_t strips
        int64_t tasks_in_place
        int64_t slide
        int64_t band
        int64_t span

    ctypedef struct cnn_conv:
        int64_t groups
        int64_t stride[3]
        int64_t dilation[3]
        int64_t low[3]
        cnn_tensor x
        cnn_tensor y
        cnn_tensor w
        cnn_tensor b
        double lower, upper

    ctypedef struct cnn_correlation:
        cnn_tensor x
        cnn_tensor y
        cnn_tensor w
        int64_t w_group
        int64_t groups
        int64_t taps[3]
        int64_t stride[3]
        int64_t step[3]
        int64_t first[3]
        const void *panels
        const void *bias
        int64_t bias_stride
        double lower, upper
        int64_t accumulate
        int64_t images, rows, columns
        int64_t form[2]
        const unsigned char *skip
        int64_t units, unit_count
        int64_t channel_blocks, term_blocks
        int64_t first_task, tasks
        int64_t x_bytes, y_bytes, sum_bytes

    ctypedef struct cnn_correlations:
        const cnn_correlation *part
        int64_t parts

    ctypedef struct cnn_winograd_axis:
        int outputs, taps, stride, zero, pairs
        double point[3]

    enum: CNN_F25
    enum: CNN_F45
    enum: CNN_WINOGRAD_AXES
    const cnn_winograd_axis cnn_winograd_axes[]

    ctypedef struct cnn_winograd_tile:
        int64_t n, d, h, w
        int64_t rows, columns
        int shorter[2]

    int cnn_winograd_points(const cnn_winograd_axis *a)
    int cnn_winograd_inputs(const cnn_winograd_axis *a)
    int cnn_winograd_matrices(const cnn_winograd_axis *a)
    int64_t cnn_winograd_start(const cnn_correlation *p, int group)
    cnn_winograd_tile cnn_winograd_tile_of(const cnn_correlation *p, int64_t tile)

    ctypedef struct cnn_largest:
        cnn_tensor x
        double *largest

    ctypedef struct cnn_pack:
        const void *w
        const void *b
        int64_t groups, outputs, inputs
        int64_t taps[3]
        int64_t shared
        int64_t form[2]
        int64_t group_stride, output_stride, input_stride
        int64_t tap_stride[3]
        int64_t bias_stride
        void *panels
        void *bias

    ctypedef struct cnn_copy:
        cnn_tensor src
        cnn_tensor dst

    ctypedef struct cnn_strided:
        void *data
        int64_t stride[5]

    ctypedef struct cnn_elementwise:
        int64_t size
        int64_t extent[5]
        cnn_strided x
        cnn_strided dy
        cnn_strided p
        cnn_strided y
        double setting[4]

    ctypedef struct cnn_offsets:
        int64_t x, dy, p, y

    int64_t cnn_row(const cnn_elementwise *call, int64_t i, int64_t end, cnn_offsets *at)

    ctypedef struct cnn_channelwise:
        cnn_tensor x, dy, dx
        const void *p
        int64_t p_stride
        double *partial
        int64_t pixels
        double setting[4]

    ctypedef struct cnn_softmax:
        cnn_elementwise columns
        int64_t length
        int64_t x_step, dy_step, y_step
        int logarithm
        int negative
        int64_t scratch_bytes

    ctypedef struct cnn_maxout:
        cnn_tensor x, y, dy, dx
        int64_t pieces
        int64_t pixels

cdef extern from "dispatch.h" nogil:
    enum: CNN_FLOAT32
    enum: CNN_FLOAT64

cdef class Tensor:
    """A numpy array as (N, C, D, H, W) with element strides, its buffer held as long as the tensor lives."""
    cdef Py_buffer buffer
    cdef cnn_tensor view
    cdef readonly int precision     # CNN_FLOAT32, CNN_FLOAT64, or -1 for other element types
    cdef int hold(self, array, bint writable) except -1

cdef Tensor tensor(array, bint writable=*)

cdef enum:      # purpose of a block that is kept between calls
    SCRATCH = 0
    PANELS = 1

cdef class PackedWeights:
    """Memory for things that are kept together."""
    cdef char *newest       # slab: its first bytes lead to the one before
    cdef char *next
    cdef int64_t left
    cdef void *take(self, int64_t bytes) except NULL

cdef void *take_block(int purpose, int64_t bytes) noexcept nogil
cdef void give_block(int purpose, void *memory) noexcept nogil
cdef cnn_task kernel(int number, int precision) except? NULL nogil
cdef int64_t lanes(int precision) noexcept nogil
cdef int threads_per_call() noexcept nogil
cdef double cost_of_reading() noexcept nogil
cdef bint stop_requested() noexcept nogil

cdef enum:
    PIECE = 65536       # values between two questions of a task whether to stop

# True: a task returns at once. It counts the values that it has worked on, from ``left`` = PIECE down; see kernels/stop.h.
cdef inline bint stop_after(int64_t *left, int64_t values) noexcept nogil:
    left[0] -= values
    if left[0] > 0:
        return False
    left[0] = PIECE
    return stop_requested()

cdef int run(cnn_task task, void *call, int64_t tasks, int64_t grain, int64_t scratch_bytes, double cost) except -1
