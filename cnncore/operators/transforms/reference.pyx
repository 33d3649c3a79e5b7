"""Resampling: every output a weighted sum of input cells, with weights that are a product over the axes.

    y[d, h, w] = Σ a_D[d, i] a_H[h, j] a_W[w, k] x[i, j, k]

The non-zero weights of each axis are its taps. Blurring with any border rule, wavelets and interpolation at given positions are
such tables. The gradient is a resampling with the transposed taps: dx[i] = Σ a[o, i] dy[o].
"""

from libc.stdint cimport int64_t

import numpy as np

from cnncore.runtime.dispatch cimport CNN_FLOAT32, Tensor, cnn_task, cnn_tensor, kernel, real, run, tensor
from cnncore.runtime.dispatch import kernel_number
from cnncore.runtime.layout cimport cells, plane_offset

cdef int SCHEMAS = kernel_number("resample_rows")


cdef inline double resampled(const cnn_resample *call, const real *x, int64_t d, int64_t h, int64_t w) noexcept nogil:
    """A cell of y: the sum over its taps along each axis."""
    cdef const cnn_taps *D = &call.taps[0]
    cdef const cnn_taps *H = &call.taps[1]
    cdef const cnn_taps *W = &call.taps[2]
    cdef int64_t i, j, k
    cdef double total = 0
    for i in range(D.first[d], D.first[d + 1]):
        for j in range(H.first[h], H.first[h + 1]):
            for k in range(W.first[w], W.first[w + 1]):
                total += D.weight[i] * H.weight[j] * W.weight[k] * x[
                    D.source[i] * call.x.stride[2] + H.source[j] * call.x.stride[3] + W.source[k] * call.x.stride[4]]
    return total


cdef void resample_planes(cnn_resample *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes (n, c)."""
    cdef int64_t task, d, h, w
    cdef const real *x
    cdef real *y
    for task in range(begin, end):
        x = <const real *> call.x.data + plane_offset(&call.x, task // call.x.shape[1], task % call.x.shape[1])
        y = <real *> call.y.data + plane_offset(&call.y, task // call.x.shape[1], task % call.x.shape[1])
        for d in range(call.y.shape[2]):
            for h in range(call.y.shape[3]):
                for w in range(call.y.shape[4]):
                    y[d * call.y.stride[2] + h * call.y.stride[3] + w * call.y.stride[4]] = <real> resampled(call, x, d, h, w)


cdef class Taps:
    """The taps of one axis: ``first`` (outputs + 1,), and ``source`` and ``weight`` of each, output by output."""
    cdef Tensor first, source, weight
    cdef readonly int64_t inputs, outputs

    def __init__(self, first, source, weight, int64_t inputs):
        self.first, self.source, self.weight = (
            tensor(np.ascontiguousarray(first, np.int64)), tensor(np.ascontiguousarray(source, np.int64)),
            tensor(np.ascontiguousarray(weight, np.float64)))
        self.inputs, self.outputs = inputs, len(first) - 1

    cdef void put(self, cnn_taps *taps) noexcept:
        taps.first = <const int64_t *> self.first.view.data
        taps.source = <const int64_t *> self.source.view.data
        taps.weight = <const double *> self.weight.view.data

    cdef double mean(self) noexcept:
        """Taps of an output."""
        return <double> self.source.view.shape[0] / max(self.outputs, 1)


cdef inline bint rows_side_by_side(const cnn_tensor *t) noexcept nogil:
    return t.stride[4] == 1 or t.shape[4] == 1


cdef inline bint channels_side_by_side(const cnn_tensor *t) noexcept nogil:
    return t.stride[1] == 1 and t.shape[1] > 1


def apply(tuple taps, x, y):
    """Write y, by the Taps of each of the three axes."""
    cdef Tensor X = tensor(x), Y = tensor(y, True)
    cdef cnn_resample call
    cdef cnn_task task = kernel(SCHEMAS, X.precision)
    cdef Taps axis
    cdef int i
    cdef int64_t tasks, scratch = 0
    cdef double work = 1
    call.x, call.y = X.view, Y.view
    for i in range(3):
        axis = taps[i]
        axis.put(&call.taps[i])
        work *= axis.mean()
    call.channels_last = channels_side_by_side(&call.x) and channels_side_by_side(&call.y)
    if task != NULL and (call.channels_last or (rows_side_by_side(&call.x) and rows_side_by_side(&call.y))):
        # A row of x, summed over the other axes' taps; a vector may be read beyond its end.
        scratch = (call.x.shape[4] * (call.x.shape[1] if call.channels_last else 1) + 64) * sizeof(double)
        tasks = call.y.shape[0] * call.y.shape[2] * (call.y.shape[3] if call.channels_last else call.y.shape[1])
    else:
        task = <cnn_task> resample_planes[float] if X.precision == CNN_FLOAT32 else <cnn_task> resample_planes[double]
        tasks = call.y.shape[0] * call.y.shape[1]
    run(task, &call, tasks, 1, scratch, call.y.shape[0] * call.y.shape[1] * cells(&call.y) * work)
