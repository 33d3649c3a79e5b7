# What every module of ops/ shares: the C descriptions of calls, arrays as tensors, and running tasks.

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

    ctypedef struct cnn_pool:
        cnn_axis axis[3]
        cnn_tensor x
        cnn_tensor y
        cnn_tensor dx
        cnn_tensor dy
        cnn_tensor indices
        cnn_tensor drawn
        double setting[8]
        const void *strategy
        int64_t cells
        uint64_t seed
        int refused

    ctypedef struct cnn_conv:
        int64_t groups
        int64_t stride[3]
        int64_t dilation[3]
        int64_t low[3]
        cnn_tensor x
        cnn_tensor y
        cnn_tensor w
        cnn_tensor b

    ctypedef struct cnn_elementwise:
        const void *x
        const void *dy
        void *y
        int64_t size
        double setting[4]

cdef extern from "dispatch.h" nogil:
    enum: CNN_FLOAT32
    enum: CNN_FLOAT64

cdef class Tensor:
    """A numpy array as (N, C, D, H, W) with element strides, its buffer held as long as the tensor lives."""
    cdef Py_buffer buffer
    cdef cnn_tensor view
    cdef readonly int precision     # CNN_FLOAT32, CNN_FLOAT64, or -1 for other element types

cdef cnn_task kernel(int number, int precision) noexcept nogil
cdef int64_t lanes(int precision) noexcept nogil
cdef int run(cnn_task task, void *call, int64_t tasks, int64_t grain, int64_t scratch_bytes, double cost) except -1
