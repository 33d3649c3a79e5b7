# The C struct of a pooling by computed weights (calls.h).

from libc.stdint cimport int64_t

from cnncore.runtime.dispatch cimport cnn_axis, cnn_tensor

cdef extern from "calls.h" nogil:
    ctypedef struct cnn_weighted:
        cnn_axis axis[3]
        int64_t cells
        cnn_tensor x, y, dx, dy
        cnn_tensor logit, dlogit
        const double *alpha
        const double *power
        const double *filter
        double *dalpha
        double *dpower
        double *dfilter
        int64_t taps[3]
        double eps
        int64_t symmetric
        int64_t in_place
