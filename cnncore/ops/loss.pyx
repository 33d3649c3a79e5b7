"""Losses on classes: softmax cross-entropy."""

from libc.math cimport exp, log
from libc.stdint cimport int64_t

from cnncore.ops.dispatch cimport CNN_FLOAT32, Tensor, cnn_task, cnn_tensor, real, run, tensor
from cnncore.ops.layout cimport cell_offset, cells, size


# ── Softmax cross-entropy ──────────────────────────────────────────────────────────────────────────────────────────────
#
#     p = softmax(x) along classes, log p_k = x_k − max x − log Σ exp(x − max x)
#     q = (1 − ε) onehot(t) + ε / K          or (1 − ε) t + ε / K, where t holds probabilities
#     ℓ = − Σ v_k q_k log p_k                v: weights of the classes
#
#     ∂ℓ/∂x_k = p_k Σ v_j q_j − v_k q_k      ∂ℓ/∂t_k = − (1 − ε) v_k log p_k
#
# In float64. A class without weight or target adds 0, even where log p = −∞.

cdef struct CrossEntropy:
    cnn_tensor x, dx
    cnn_tensor labels, dlabels      # probabilities (N, K, *spatial); data == NULL: `classes` is used
    cnn_tensor classes              # int64 (N, *spatial) as (N, 1, *spatial); less than 0: left out
    cnn_tensor loss                 # (N, 1, *spatial): ℓ, or dL/dℓ in backward, in float64
    const double *weight            # [K]
    double smoothing


cdef inline double log_sum(const cnn_tensor *t, const real *x) noexcept nogil:
    """log Σ exp(x_k)."""
    cdef double largest = x[0], total = 0
    cdef int64_t k
    for k in range(1, t.shape[1]):
        if x[k * t.stride[1]] > largest:
            largest = x[k * t.stride[1]]
    for k in range(t.shape[1]):
        total += exp(x[k * t.stride[1]] - largest)
    return largest + log(total)


cdef inline const real *at(const cnn_tensor *t, int64_t n, int64_t cell, const real *kind) noexcept nogil:
    return <const real *> t.data + n * t.stride[0] + cell_offset(t, cell)


cdef inline double weighted_target(const CrossEntropy *call, const real *label, int64_t target, int64_t k) noexcept nogil:
    """v_k q_k."""
    cdef double q = call.smoothing / call.x.shape[1]
    if label != NULL:
        q += (1 - call.smoothing) * label[k * call.labels.stride[1]]
    elif k == target:
        q += 1 - call.smoothing
    return call.weight[k] * q


cdef void cross_entropy_forward(CrossEntropy *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are cells (n, position)."""
    cdef int64_t task, n, cell, k, target = -1
    cdef const real *x
    cdef const real *label = NULL
    cdef double norm, q, loss
    for task in range(begin, end):
        n, cell = task // cells(&call.x), task % cells(&call.x)
        x = at(&call.x, n, cell, scratch)
        if call.labels.data != NULL:
            label = at(&call.labels, n, cell, scratch)
        else:
            target = (<const int64_t *> call.classes.data)[n * call.classes.stride[0] + cell_offset(&call.classes, cell)]
        loss = 0
        if label != NULL or target >= 0:
            norm = log_sum(&call.x, x)
            for k in range(call.x.shape[1]):
                q = weighted_target(call, label, target, k)
                if q != 0:
                    loss -= q * (x[k * call.x.stride[1]] - norm)
        (<double *> call.loss.data)[n * call.loss.stride[0] + cell_offset(&call.loss, cell)] = loss


cdef void cross_entropy_backward(CrossEntropy *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are cells; loss.data holds dL/dℓ."""
    cdef int64_t task, n, cell, k, target = -1
    cdef int64_t K = call.x.shape[1]
    cdef const real *x
    cdef const real *label = NULL
    cdef real *dx
    cdef real *dlabel
    cdef double norm, total, dloss
    for task in range(begin, end):
        n, cell = task // cells(&call.x), task % cells(&call.x)
        x = at(&call.x, n, cell, scratch)
        dloss = (<const double *> call.loss.data)[n * call.loss.stride[0] + cell_offset(&call.loss, cell)]
        if call.labels.data != NULL:
            label = at(&call.labels, n, cell, scratch)
        else:
            target = (<const int64_t *> call.classes.data)[n * call.classes.stride[0] + cell_offset(&call.classes, cell)]
        norm = log_sum(&call.x, x)
        if call.dx.data != NULL:
            dx = <real *> call.dx.data + n * call.dx.stride[0] + cell_offset(&call.dx, cell)
            total = 0
            for k in range(K):
                total += weighted_target(call, label, target, k)
            for k in range(K):
                if label == NULL and target < 0:
                    dx[k * call.dx.stride[1]] = 0
                else:
                    dx[k * call.dx.stride[1]] = <real> (dloss * (
                        exp(x[k * call.x.stride[1]] - norm) * total - weighted_target(call, label, target, k)))
        if call.dlabels.data != NULL:
            dlabel = <real *> call.dlabels.data + n * call.dlabels.stride[0] + cell_offset(&call.dlabels, cell)
            for k in range(K):
                dlabel[k * call.dlabels.stride[1]] = <real> (
                    -dloss * (1 - call.smoothing) * call.weight[k] * (x[k * call.x.stride[1]] - norm))


def cross_entropy(x, target, const double[::1] weight, double smoothing, losses):
    """Write ℓ of every cell into ``losses``, float64 (N, 1, *spatial). Target: classes like ``losses``, or labels like x."""
    cdef Tensor X = tensor(x), T = tensor(target), L = tensor(losses, True)
    cdef CrossEntropy call
    describe(&call, X, T, L, weight, smoothing)
    cdef cnn_task task = (
        <cnn_task> cross_entropy_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> cross_entropy_forward[double])
    run(task, &call, X.view.shape[0] * cells(&X.view), 8, 0, 20 * size(&X.view))


def cross_entropy_gradient(x, target, const double[::1] weight, double smoothing, dlosses, dx, dtarget):
    """Write dx and dtarget (None: not wanted) from dL/dℓ, float64 (N, 1, *spatial)."""
    cdef Tensor X = tensor(x), T = tensor(target), L = tensor(dlosses), DX, DT
    cdef CrossEntropy call
    describe(&call, X, T, L, weight, smoothing)
    if dx is not None:
        DX = tensor(dx, True)
        call.dx = DX.view
    if dtarget is not None:
        DT = tensor(dtarget, True)
        call.dlabels = DT.view
    cdef cnn_task task = (
        <cnn_task> cross_entropy_backward[float] if X.precision == CNN_FLOAT32 else <cnn_task> cross_entropy_backward[double])
    run(task, &call, X.view.shape[0] * cells(&X.view), 8, 0, 20 * size(&X.view))


cdef void describe(CrossEntropy *call, Tensor x, Tensor target, Tensor losses, const double[::1] weight, double smoothing):
    call.x, call.loss = x.view, losses.view
    call.dx.data = call.dlabels.data = call.labels.data = NULL
    if target.precision < 0:
        call.classes = target.view
    else:
        call.labels = target.view
    call.weight, call.smoothing = &weight[0], smoothing
