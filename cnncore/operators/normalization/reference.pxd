# The C structs of normalisation calls (calls.h).

from libc.stdint cimport int64_t

from cnncore.runtime.dispatch cimport cnn_task, cnn_tensor

cdef extern from "calls.h" nogil:
    ctypedef struct cnn_norm:
        cnn_tensor x
        cnn_tensor y
        cnn_tensor dy
        cnn_tensor dx
        int64_t channels_last
        int64_t block
        int64_t blocks
        const void *center
        const void *scale
        const void *shift
        const void *slope
        int64_t image_step
        double *first
        double *second

    ctypedef struct cnn_lrn:
        cnn_tensor x
        cnn_tensor y
        cnn_tensor dy
        cnn_tensor dx
        int64_t channels_last
        int64_t block
        int64_t blocks
        int64_t before
        int64_t after
        double alpha
        double beta
        double k
        cnn_task reference
