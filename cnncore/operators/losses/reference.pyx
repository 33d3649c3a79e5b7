"""Losses: softmax cross-entropy, negative log-likelihood, squared error, binary cross-entropy.

C kernels of the same names (loss.h) may replace the loops.
"""

from libc.math cimport exp, fabs, log, log1p
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from cnncore.operators.activation.reference cimport merge_axes
from cnncore.runtime.dispatch cimport (
    CNN_FLOAT32, Tensor, cnn_elementwise, cnn_offsets, cnn_row, cnn_task, cnn_tensor, kernel, real, run, tensor,
)
from cnncore.runtime.elements cimport Elements, row_function, run_rows
from cnncore.runtime.layout cimport merge_cells, put, size, value
from cnncore.runtime.dispatch import kernel_number

cdef extern from "calls.h" nogil:
    enum: CNN_LOSS_CELLS
    enum: CNN_LOSS_BLOCK

    ctypedef struct cnn_cross_entropy:
        cnn_tensor x
        cnn_tensor dx
        cnn_tensor labels
        cnn_tensor dlabels
        const int64_t *classes
        const double *weight
        double smoothing
        double *largest
        double *log_sum
        double *loss
        const double *dloss
        int64_t dloss_step
        int64_t cells

    ctypedef struct cnn_squared_error:
        cnn_elementwise arrays
        double *sums
        double scale

    int64_t cnn_cell(const cnn_tensor *t, int64_t i)


# ── Softmax cross-entropy ──────────────────────────────────────────────────────────────────────────────────────────────
#
#     p = softmax(x) along classes, log p_k = x_k − max x − log Σ exp(x − max x)
#     q = (1 − ε) onehot(t) + ε / K          or (1 − ε) t + ε / K, where t holds probabilities
#     ℓ = − Σ v_k q_k log p_k                v: weights of the classes
#
#     ∂ℓ/∂x_k = p_k Σ v_j q_j − v_k q_k      ∂ℓ/∂t_k = − (1 − ε) v_k log p_k
#
# In float64. A class of weight 0 or target 0 contributes 0, even if log p = −∞.

cdef inline double weighted_target(const cnn_cross_entropy *call, const real *label, int64_t target, int64_t k) noexcept nogil:
    """v_k q_k."""
    cdef double q = call.smoothing / call.x.shape[1]
    if label != NULL:
        q += (1 - call.smoothing) * label[k * call.labels.stride[1]]
    elif k == target:
        q += 1 - call.smoothing
    return q if call.weight == NULL else call.weight[k] * q


cdef void cross_entropy_forward(cnn_cross_entropy *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are cells."""
    cdef int64_t cell, k, target = -1
    cdef const real *x
    cdef const real *label = NULL
    cdef double largest, total, q, loss
    for cell in range(begin, end):
        x = <const real *> call.x.data + cnn_cell(&call.x, cell)
        if call.classes == NULL:
            label = <const real *> call.labels.data + cnn_cell(&call.labels, cell)
        else:
            target = call.classes[cell]
        largest, total, loss = x[0], 0, 0
        for k in range(1, call.x.shape[1]):
            if x[k * call.x.stride[1]] > largest:
                largest = x[k * call.x.stride[1]]
        for k in range(call.x.shape[1]):
            total += exp(x[k * call.x.stride[1]] - largest)
        call.largest[cell], call.log_sum[cell] = largest, log(total)
        if label != NULL or target >= 0:
            for k in range(call.x.shape[1]):
                q = weighted_target(call, label, target, k)
                if q != 0:
                    loss -= q * (x[k * call.x.stride[1]] - largest - call.log_sum[cell])
        call.loss[cell] = loss


cdef void cross_entropy_backward(cnn_cross_entropy *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are cells."""
    cdef int64_t cell, k, target = -1
    cdef int64_t K = call.x.shape[1]
    cdef const real *x
    cdef const real *label = NULL
    cdef real *dx
    cdef real *dlabel
    cdef double log_p, total, dloss
    for cell in range(begin, end):
        x = <const real *> call.x.data + cnn_cell(&call.x, cell)
        dx = <real *> call.dx.data + cnn_cell(&call.dx, cell) if call.dx.data != NULL else NULL
        dlabel = <real *> call.dlabels.data + cnn_cell(&call.dlabels, cell) if call.dlabels.data != NULL else NULL
        dloss, total = call.dloss[cell * call.dloss_step], 0
        if call.classes == NULL:
            label = <const real *> call.labels.data + cnn_cell(&call.labels, cell)
        else:
            target = call.classes[cell]
        for k in range(K):
            total += weighted_target(call, label, target, k)
        for k in range(K):
            log_p = x[k * call.x.stride[1]] - call.largest[cell] - call.log_sum[cell]
            if dx != NULL and label == NULL and target < 0:
                dx[k * call.dx.stride[1]] = 0
            elif dx != NULL:
                dx[k * call.dx.stride[1]] = <real> (dloss * (exp(log_p) * total - weighted_target(call, label, target, k)))
            if dlabel != NULL:
                dlabel[k * call.dlabels.stride[1]] = <real> (
                    -dloss * (1 - call.smoothing) * (1 if call.weight == NULL else call.weight[k]) * log_p)


# ── Negative log-likelihood ── ℓ = − v_t x_t        x holds log p        ∂ℓ/∂x_t = − v_t, 0 for the other classes

cdef void likelihood_forward(cnn_cross_entropy *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are cells."""
    cdef int64_t cell, t
    cdef double weight
    for cell in range(begin, end):
        t = call.classes[cell]
        weight = 0 if t < 0 else 1 if call.weight == NULL else call.weight[t]
        call.loss[cell] = 0 if weight == 0 else -weight * (
            <const real *> call.x.data)[cnn_cell(&call.x, cell) + t * call.x.stride[1]]


cdef void likelihood_backward(cnn_cross_entropy *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are cells; dx is 0 before."""
    cdef int64_t cell, t
    for cell in range(begin, end):
        t = call.classes[cell]
        if t >= 0:
            (<real *> call.dx.data)[cnn_cell(&call.dx, cell) + t * call.dx.stride[1]] = <real> (
                -call.dloss[cell * call.dloss_step] * (1 if call.weight == NULL else call.weight[t]))


cdef int CROSS_ENTROPY_FORWARD = kernel_number("cross_entropy_forward")
cdef int CROSS_ENTROPY_BACKWARD = kernel_number("cross_entropy_backward")


cdef Tensor cells_of(array, bint writable=False):
    """An array with one number per cell, (N, *spatial), as a tensor (N, 1, *spatial)."""
    cdef Tensor t = tensor(array, writable)
    cdef int axis, rank = t.buffer.ndim
    for axis in range(1, 5):
        t.view.shape[axis], t.view.stride[axis] = 1, 0
    for axis in range(1, rank):
        t.view.shape[axis + 5 - rank] = t.buffer.shape[axis]
        t.view.stride[axis + 5 - rank] = t.buffer.strides[axis] // t.buffer.itemsize
    return t


cdef class CrossEntropy:
    """Softmax cross-entropy of ``x`` (N, K, *spatial) with ``target``: int64 class numbers (N, *spatial) or probabilities like x.

    ``weight``, one number per class, may be None. With ``logarithms`` x holds logarithms of probabilities, and the loss is their
    negative log-likelihood. Keeps what backward needs: the arrays, the logarithms of the sums, and the divisor of the losses.
    """
    cdef cnn_cross_entropy call
    cdef bint logarithms
    cdef Tensor x, target
    cdef int64_t count              # cells of all images
    cdef double *memory
    cdef double divisor

    def __cinit__(self, x, target, weight, double smoothing, int64_t left_out, bint logarithms=False):
        cdef Tensor v
        cdef int64_t K, i, label
        cdef const int64_t *given
        cdef int64_t *classes
        self.x, self.target, self.logarithms = tensor(x), tensor(target), logarithms
        self.call.x = self.x.view
        merge_cells(&self.call.x)
        K, self.call.cells = self.x.view.shape[1], self.call.x.shape[2] * self.call.x.shape[3] * self.call.x.shape[4]
        self.count = self.x.view.shape[0] * self.call.cells
        self.call.smoothing = smoothing
        self.memory = <double *> malloc((4 * self.count + K + 1) * sizeof(double))
        if self.memory == NULL:
            raise MemoryError(f"no memory for the losses of {self.count} cells")
        self.call.largest, self.call.log_sum, self.call.loss = self.memory, self.memory + self.count, self.memory + 2 * self.count
        if weight is not None:
            v = tensor(weight)
            self.call.weight = self.memory + 4 * self.count
            for i in range(K):
                (<double *> self.call.weight)[i] = value(v, i * v.view.stride[0])
        if self.target.precision >= 0:
            self.call.labels = self.target.view
            merge_cells(&self.call.labels)
            return
        given, classes = <const int64_t *> self.target.view.data, <int64_t *> (self.memory + 3 * self.count)
        for i in range(self.count):
            label = given[i]
            classes[i] = -1 if label == left_out else label if 0 <= label < K else -2
        self.call.classes = classes

    def __dealloc__(self):
        free(self.memory)

    @property
    def first_wrong(self):
        """The position, in row-major order, of the first invalid class number; −1 if all are valid."""
        cdef int64_t i
        if self.call.classes != NULL:
            for i in range(self.count):
                if self.call.classes[i] == -2:
                    return i
        return -1

    def forward(self, str reduction, y):
        """Write the losses, their sum or their mean: 0 if there is nothing to average."""
        cdef Tensor Y = cells_of(y, True)
        cdef double total = 0
        cdef int64_t i
        if self.logarithms:
            self.run_cells(&self.call, <void *> likelihood_forward[float], <void *> likelihood_forward[double])
        else:
            self.run(&self.call, CROSS_ENTROPY_FORWARD, <void *> cross_entropy_forward[float],
                     <void *> cross_entropy_forward[double], 2)
        if reduction == "none":
            for i in range(self.count):
                put(Y, cnn_cell(&Y.view, i), self.call.loss[i])
            return
        for i in range(self.count):
            total += self.call.loss[i]
        self.divisor = 1
        if reduction == "mean":
            # The sum of the targets' weights; for probabilities, which have no single target, the number of cells.
            self.divisor = 0
            for i in range(self.count):
                if self.call.classes == NULL or self.call.classes[i] >= 0:
                    self.divisor += 1 if self.call.classes == NULL or self.call.weight == NULL else (
                        self.call.weight[self.call.classes[i]])
        put(Y, 0, total / self.divisor if self.divisor else 0)

    def backward(self, bint each, dy, dx, dtarget):
        """Write dx and dtarget (None: not needed); ``each``: dy has a number per cell. With logarithms dx is 0 before."""
        cdef Tensor DY = cells_of(dy), DX, DT
        cdef cnn_cross_entropy call = self.call     # a copy: several threads may run backward at once
        cdef double whole
        cdef double *dloss = &whole
        cdef int64_t i
        call.dx.data = call.dlabels.data = NULL
        if dx is not None:
            DX = tensor(dx, True)
            call.dx = DX.view
            merge_cells(&call.dx)
        if dtarget is not None:
            DT = tensor(dtarget, True)
            call.dlabels = DT.view
            merge_cells(&call.dlabels)
        if each:
            dloss = <double *> malloc((self.count + 1) * sizeof(double))
            if dloss == NULL:
                raise MemoryError(f"no memory for the gradients of {self.count} losses")
            for i in range(self.count):
                dloss[i] = value(DY, cnn_cell(&DY.view, i))
        else:
            whole = value(DY, 0) / self.divisor if self.divisor else 0
        call.dloss, call.dloss_step = dloss, each
        try:
            if self.logarithms:
                self.run_cells(&call, <void *> likelihood_backward[float], <void *> likelihood_backward[double])
            else:
                self.run(&call, CROSS_ENTROPY_BACKWARD, <void *> cross_entropy_backward[float],
                         <void *> cross_entropy_backward[double], 3)
        finally:
            if each:
                free(dloss)

    cdef int run(self, cnn_cross_entropy *call, int number, void *reference_f32, void *reference_f64,  # no-cython-lint
                 int rows) except -1:
        """``rows``: numbers of scratch per class and cell of a block that a kernel needs."""
        cdef cnn_task task = kernel(number, self.x.precision)
        cdef int64_t tasks = (self.count + CNN_LOSS_CELLS - 1) // CNN_LOSS_CELLS, K = self.x.view.shape[1]
        if task == NULL:
            task, tasks = <cnn_task> (reference_f32 if self.x.precision == CNN_FLOAT32 else reference_f64), self.count
        return run(task, call, tasks, 1, rows * K * CNN_LOSS_CELLS * self.x.buffer.itemsize, 5 * size(&self.x.view))


    cdef int run_cells(self, cnn_cross_entropy *call, void *single, void *double_) except -1:  # no-cython-lint
        """Run a loop over cells that has no kernel, as it is memory bound."""
        return run(<cnn_task> (single if self.x.precision == CNN_FLOAT32 else double_), call, self.count, 256, 0, self.count)


# ── Squared error ──────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     L = c Σ (x − t)²        ∂L/∂x = 2 c (x − t)        ∂L/∂t = −∂L/∂x

cdef void squared_error_forward(cnn_squared_error *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """The sum of the squares of each block, or the squares themselves."""
    cdef int64_t task, i
    cdef cnn_offsets at
    cdef double sum_, difference
    for task in range(begin, end):
        sum_ = 0
        for i in range(task * CNN_LOSS_BLOCK, min((task + 1) * CNN_LOSS_BLOCK, call.arrays.size)):
            cnn_row(&call.arrays, i, end, &at)
            difference = <double> (<const real *> call.arrays.x.data)[at.x] - (<const real *> call.arrays.p.data)[at.p]
            sum_ += difference * difference
            if call.sums == NULL:
                (<real *> call.arrays.y.data)[at.y] = <real> (difference * difference)
        if call.sums != NULL:
            call.sums[task] = sum_


cdef void squared_error_backward(cnn_squared_error *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """y = scale dy (x − t); without dy it is part of scale."""
    cdef int64_t i
    cdef cnn_offsets at
    cdef double dy = 1
    for i in range(begin * CNN_LOSS_BLOCK, min(end * CNN_LOSS_BLOCK, call.arrays.size)):
        cnn_row(&call.arrays, i, end, &at)
        if call.arrays.dy.data != NULL:
            dy = (<const real *> call.arrays.dy.data)[at.dy]
        (<real *> call.arrays.y.data)[at.y] = <real> (call.scale * dy * (
            <double> (<const real *> call.arrays.x.data)[at.x] - (<const real *> call.arrays.p.data)[at.p]))


cdef int SQUARED_ERROR_FORWARD = kernel_number("squared_error_forward")
cdef int SQUARED_ERROR_BACKWARD = kernel_number("squared_error_backward")


cdef inline int64_t blocks(const cnn_squared_error *call) noexcept:
    return (call.arrays.size + CNN_LOSS_BLOCK - 1) // CNN_LOSS_BLOCK


cdef int pairwise_loss(Tensor X, target, y, bint each, double share, int number,  # no-cython-lint
                       void *single, void *double_) except -1:
    """Write the losses of pairs (x, t) into y or, unless ``each``, their sum times ``share``."""
    cdef Tensor T = tensor(target), Y = tensor(y, True)
    cdef cnn_squared_error call
    cdef double few[16]
    cdef double *sums = few
    cdef double total = 0
    cdef int64_t i
    merge_axes(&call.arrays, X, None, T, Y if each else X)
    cdef cnn_task task = kernel(number, X.precision)
    if task == NULL:
        task = <cnn_task> (single if X.precision == CNN_FLOAT32 else double_)
    if each:
        call.sums = NULL
        return run(task, &call, blocks(&call), 1, 0, 2 * call.arrays.size)
    if blocks(&call) > 16:
        sums = <double *> malloc(blocks(&call) * sizeof(double))
        if sums == NULL:
            raise MemoryError(f"no memory for the sums of {blocks(&call)} blocks")
    try:
        call.sums = sums
        run(task, &call, blocks(&call), 1, 0, 2 * call.arrays.size)
        for i in range(blocks(&call)):
            total += sums[i]
        put(Y, 0, total * share)
    finally:
        if sums != few:
            free(sums)
    return 0


cdef int pairwise_gradient(x, target, dy, dx, bint each, double scale, int number,  # no-cython-lint
                           void *single, void *double_) except -1:
    """Write a gradient of pairs; ``each``: dy is like x, else one number."""
    cdef Tensor X = tensor(x), T = tensor(target), DY = tensor(dy), DX = tensor(dx, True)
    cdef cnn_squared_error call
    merge_axes(&call.arrays, X, DY if each else None, T, DX)
    call.sums, call.scale = NULL, scale if each else scale * value(DY, 0)
    cdef cnn_task task = kernel(number, X.precision)
    if task == NULL:
        task = <cnn_task> (single if X.precision == CNN_FLOAT32 else double_)
    return run(task, &call, blocks(&call), 1, 0, 2 * call.arrays.size)


def squared_error(x, target, y, bint each, double share):
    """Write the squares (x − t)² into y or, unless ``each``, their sum times ``share``."""
    cdef Tensor X = tensor(x)
    pairwise_loss(X, target, y, each, share, SQUARED_ERROR_FORWARD,
                  <void *> squared_error_forward[float], <void *> squared_error_forward[double])


def squared_error_gradient(x, target, dy, dx, bint each, double scale):
    """Write dx = scale dy (x − t); ``each``: dy is like x, else one number."""
    pairwise_gradient(x, target, dy, dx, each, scale, SQUARED_ERROR_BACKWARD,
                      <void *> squared_error_backward[float], <void *> squared_error_backward[double])


# ── Binary cross-entropy ───────────────────────────────────────────────────────────────────────────────────────────────
#
#     ℓ = − t log σ(x) − (1 − t) log(1 − σ(x)) = max(x, 0) − x t + log(1 + e^−|x|)
#     ∂ℓ/∂x = σ(x) − t        ∂ℓ/∂t = − x
#
# max(x, 0) − x t is taken as x (1 − t) or − x t: 0 if x is infinite and has the right sign.

cdef inline double binary_loss(double x, double t) noexcept nogil:
    cdef double share = 1 - t if x > 0 else -t
    return (0 if share == 0 else x * share) + log1p(exp(-fabs(x))) if x == x else x


cdef inline double sigmoid_of(double x) noexcept nogil:
    cdef double e = exp(-fabs(x))
    return (1 if x > 0 else e) / (1 + e)


cdef void binary_cross_entropy_forward(cnn_squared_error *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """The sum of the losses of each block, or the losses themselves."""
    cdef int64_t task, i
    cdef cnn_offsets at
    cdef double sum_, loss
    for task in range(begin, end):
        sum_ = 0
        for i in range(task * CNN_LOSS_BLOCK, min((task + 1) * CNN_LOSS_BLOCK, call.arrays.size)):
            cnn_row(&call.arrays, i, end, &at)
            loss = binary_loss((<const real *> call.arrays.x.data)[at.x], (<const real *> call.arrays.p.data)[at.p])
            sum_ += loss
            if call.sums == NULL:
                (<real *> call.arrays.y.data)[at.y] = <real> loss
        if call.sums != NULL:
            call.sums[task] = sum_


cdef void binary_cross_entropy_backward(cnn_squared_error *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """y = scale dy (σ(x) − t); without dy it is part of scale."""
    cdef int64_t i
    cdef cnn_offsets at
    cdef double dy = 1
    for i in range(begin * CNN_LOSS_BLOCK, min(end * CNN_LOSS_BLOCK, call.arrays.size)):
        cnn_row(&call.arrays, i, end, &at)
        if call.arrays.dy.data != NULL:
            dy = (<const real *> call.arrays.dy.data)[at.dy]
        (<real *> call.arrays.y.data)[at.y] = <real> (call.scale * dy * (
            sigmoid_of((<const real *> call.arrays.x.data)[at.x]) - (<const real *> call.arrays.p.data)[at.p]))


cdef int BINARY_FORWARD = kernel_number("binary_cross_entropy_forward")
cdef int BINARY_BACKWARD = kernel_number("binary_cross_entropy_backward")


def binary_cross_entropy(x, target, y, bint each, double share):
    """Write the losses into y or, unless ``each``, their sum times ``share``."""
    cdef Tensor X = tensor(x)
    pairwise_loss(X, target, y, each, share, BINARY_FORWARD,
                  <void *> binary_cross_entropy_forward[float], <void *> binary_cross_entropy_forward[double])


def binary_cross_entropy_gradient(x, target, dy, dx, bint each, double scale):
    """Write dx = scale dy (σ(x) − t); ``each``: dy is like x, else one number."""
    pairwise_gradient(x, target, dy, dx, each, scale, BINARY_BACKWARD,
                      <void *> binary_cross_entropy_backward[float], <void *> binary_cross_entropy_backward[double])


# ── Cross-entropy of yes and no, weighted ── w: of each value; p: of yes, against no ──────────────────────────────────────
#
#     ℓ = − w (p t log σ(x) + (1 − t) log(1 − σ(x))) = w ((1 − t) x + (1 − t + p t) log(1 + e^−x))
#     ∂ℓ/∂x = w ((1 − t + p t) σ(x) − p t)        ∂ℓ/∂t = − w (p log σ(x) − log(1 − σ(x)))
# log σ(x) is min(x, 0) − log(1 + e^−|x|); a factor of 0 cancels an infinite logarithm.

cdef inline double log_sigmoid(double x) noexcept nogil:
    return (x if x < 0 else 0 if x == x else x) - log1p(exp(-fabs(x)))


cdef inline double share_of(double factor, double logarithm) noexcept nogil:
    return factor * logarithm if factor != 0 else 0


cdef void weighted_binary_row(char **at, const int64_t *step, int64_t count, const real *scale) noexcept nogil:
    """y = ℓ"""
    cdef int64_t i
    cdef double x, t, w, p
    for i in range(count):
        x, t = (<const real *> (at[0] + i * step[0]))[0], (<const real *> (at[1] + i * step[1]))[0]
        w, p = (<const real *> (at[2] + i * step[2]))[0], (<const real *> (at[3] + i * step[3]))[0]
        (<double *> (at[4] + i * step[4]))[0] = -w * (share_of(p * t, log_sigmoid(x)) + share_of(1 - t, log_sigmoid(-x)))


cdef void weighted_binary_gradient_row(char **at, const int64_t *step, int64_t count, const real *scale) noexcept nogil:
    """y = ∂ℓ/∂x"""
    cdef int64_t i
    cdef double x, t, w, p
    for i in range(count):
        x, t = (<const real *> (at[0] + i * step[0]))[0], (<const real *> (at[1] + i * step[1]))[0]
        w, p = (<const real *> (at[2] + i * step[2]))[0], (<const real *> (at[3] + i * step[3]))[0]
        (<double *> (at[4] + i * step[4]))[0] = w * ((1 - t + p * t) * sigmoid_of(x) - p * t)


cdef void weighted_target_gradient_row(char **at, const int64_t *step, int64_t count, const real *scale) noexcept nogil:
    """y = ∂ℓ/∂t"""
    cdef int64_t i
    cdef double x, w, p
    for i in range(count):
        x = (<const real *> (at[0] + i * step[0]))[0]
        w, p = (<const real *> (at[2] + i * step[2]))[0], (<const real *> (at[3] + i * step[3]))[0]
        (<double *> (at[4] + i * step[4]))[0] = -w * (p * log_sigmoid(x) - log_sigmoid(-x))


cdef int run_weighted(x, target, weight, pos_weight, y, row_function single, row_function double_) except -1:
    return run_rows(Elements(x, target, weight, pos_weight, y), single if x.dtype.itemsize == 4 else double_, NULL)


def weighted_binary_cross_entropy(x, target, weight, pos_weight, y):
    """Write the losses into y, float64; all arrays are of one shape."""
    run_weighted(x, target, weight, pos_weight, y,
                 <row_function> weighted_binary_row[float], <row_function> weighted_binary_row[double])


def weighted_binary_cross_entropy_gradient(x, target, weight, pos_weight, y):
    """Write ∂ℓ/∂x into y, float64."""
    run_weighted(x, target, weight, pos_weight, y,
                 <row_function> weighted_binary_gradient_row[float], <row_function> weighted_binary_gradient_row[double])


def weighted_binary_cross_entropy_target_gradient(x, target, weight, pos_weight, y):
    """Write ∂ℓ/∂t into y, float64."""
    run_weighted(x, target, weight, pos_weight, y,
                 <row_function> weighted_target_gradient_row[float], <row_function> weighted_target_gradient_row[double])
