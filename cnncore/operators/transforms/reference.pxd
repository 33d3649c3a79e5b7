# The C struct of a resampling call (calls.h).

from libc.stdint cimport int64_t

from cnncore.runtime.dispatch cimport cnn_tensor

cdef extern from "calls.h" nogil:
    ctypedef struct cnn_taps:
        const int64_t *first
        const int64_t *source
        const double *weight

    ctypedef struct cnn_resample:
        cnn_tensor x
        cnn_tensor y
        cnn_taps taps[3]
        int64_t channels_last
