/* Copies, sums and padding. The reference implementations, with their formulas, are in the family's reference.pyx. */

/* y = c x, or y += c x if `more`, for `count` values that are `step` and `y_step` apart. */
static inline void K(add_scaled)(REAL *y, int64_t y_step, const REAL *x, int64_t step, REAL c, int more, int64_t count) {
    int64_t i = 0;
    if (step == 1 && y_step == 1) {
        const vreal factor = K(splat)(c);
        for (; i + LANES <= count; i += LANES) {
            vreal v = factor * K(load)(x + i);
            if (more) v += K(load)(y + i);
            K(store)(y + i, v);
        }
    }
    for (; i < count; i++) y[i * y_step] = more ? y[i * y_step] + c * x[i * step] : c * x[i * step];
}

static void K(sum_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_sum *call = description;
    const cnn_tensor *y = &call->y;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        if (call->contiguous) {
            const int64_t blocks = (call->contiguous + CNN_SUM_BLOCK - 1) / CNN_SUM_BLOCK;
            const int64_t n = task / blocks, first = task % blocks * CNN_SUM_BLOCK;
            const int64_t count = call->contiguous - first < CNN_SUM_BLOCK ? call->contiguous - first : CNN_SUM_BLOCK;
            REAL *to = (REAL *)y->data + n * y->stride[0] + first;
            for (int64_t j = 0; j < call->count; j++) {
                const REAL *from = (const REAL *)call->x[j].data + n * call->x[j].stride[0] + first;
                if (j == 0 && !call->more && call->coefficient[j] == 1) K(copy_run)(to, from, count);
                else K(add_scaled)(to, 1, from, 1, (REAL)call->coefficient[j], j > 0 || call->more, count);
            }
            continue;
        }
        /* A row (n, :, d, h, :); the inner loop is over channels or columns, whichever has the smaller stride in y. */
        const int64_t h = task % y->shape[3], d = task / y->shape[3] % y->shape[2], n = task / y->shape[3] / y->shape[2];
        const int inner = y->stride[1] < y->stride[4] || y->shape[4] == 1 ? 1 : 4, outer = 5 - inner;
        for (int64_t a = 0; a < y->shape[outer]; a++)
            for (int64_t j = 0; j < call->count; j++) {
                const cnn_tensor *x = &call->x[j];
                K(add_scaled)(
                    (REAL *)y->data + n * y->stride[0] + d * y->stride[2] + h * y->stride[3] + a * y->stride[outer],
                    y->stride[inner],
                    (const REAL *)x->data + n * x->stride[0] + d * x->stride[2] + h * x->stride[3] + a * x->stride[outer],
                    x->stride[inner], (REAL)call->coefficient[j], j > 0 || call->more, y->shape[inner]
                );
            }
    }
}

static inline void K(fill)(REAL *y, int64_t step, REAL value, int64_t count) {
    if (step == 1)
        for (int64_t i = 0; i < count; i++) y[i] = value;
    else
        for (int64_t i = 0; i < count; i++) y[i * step] = value;
}

/* Tasks are rows (n, :, d, h, :) of y. */
static void K(pad_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_pad *call = description;
    const cnn_tensor *x = &call->x, *y = &call->y;
    const int64_t *source = call->source[2], first = call->run_target, last = first + call->run;
    const int channels_last = y->stride[1] == 1 && y->shape[1] > 1;
    const REAL value = (REAL)call->value;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t h = task % y->shape[3], d = task / y->shape[3] % y->shape[2], n = task / y->shape[3] / y->shape[2];
        const int64_t from_d = call->source[0][d], from_h = call->source[1][h];
        REAL *to = (REAL *)y->data + n * y->stride[0] + d * y->stride[2] + h * y->stride[3];
        if (from_d < 0 || from_h < 0) {
            for (int64_t i = 0; i < (channels_last ? y->shape[4] : y->shape[1]); i++)
                if (channels_last) K(fill)(to + i * y->stride[4], y->stride[1], value, y->shape[1]);
                else K(fill)(to + i * y->stride[1], y->stride[4], value, y->shape[4]);
            continue;
        }
        const REAL *from = (const REAL *)x->data + n * x->stride[0] + from_d * x->stride[2] + from_h * x->stride[3];
        if (channels_last) {
            for (int64_t w = 0; w < y->shape[4]; w++) {
                REAL *cell = to + w * y->stride[4];
                const REAL *c = from + source[w] * x->stride[4];
                if (source[w] < 0) K(fill)(cell, 1, value, y->shape[1]);
                else if (x->stride[1] == 1) K(copy_run)(cell, c, y->shape[1]);
                else
                    for (int64_t i = 0; i < y->shape[1]; i++) cell[i] = c[i * x->stride[1]];
            }
            continue;
        }
        for (int64_t c = 0; c < y->shape[1]; c++, to += y->stride[1], from += x->stride[1]) {
            const int64_t x_step = x->stride[4], y_step = y->stride[4];
            for (int64_t w = 0; w < first; w++) to[w * y_step] = source[w] < 0 ? value : from[source[w] * x_step];
            if (x_step == 1 && y_step == 1) K(copy_run)(to + first, from + call->run_source, call->run);
            else
                for (int64_t w = first; w < last; w++) to[w * y_step] = from[(w - first + call->run_source) * x_step];
            for (int64_t w = last; w < y->shape[4]; w++) to[w * y_step] = source[w] < 0 ? value : from[source[w] * x_step];
        }
    }
}

/* The sum of dy over all outputs that are copies of an input cell, in row-major order. */
static inline REAL K(pad_gradient)(const cnn_pad *call, const REAL *dy, int64_t d, int64_t h, int64_t w) {
    const cnn_tensor *y = &call->y;
    double sum = 0;
    for (int64_t td = call->first[0][d]; td < call->first[0][d + 1]; td++)
        for (int64_t th = call->first[1][h]; th < call->first[1][h + 1]; th++)
            for (int64_t tw = call->first[2][w]; tw < call->first[2][w + 1]; tw++)
                sum +=
                    dy[call->target[0][td] * y->stride[2] + call->target[1][th] * y->stride[3]
                       + call->target[2][tw] * y->stride[4]];
    return (REAL)sum;
}

/* A row of dx with contiguous channels. `from`: the row of dy that holds its only copies, or NULL. */
static inline void K(pad_gradient_cells)(
    const cnn_pad *call, REAL *to, const REAL *from, const REAL *image, int64_t d, int64_t h
) {
    const cnn_tensor *x = &call->x, *y = &call->y;
    for (int64_t w = 0; w < x->shape[4]; w++) {
        const int64_t tw = call->first[2][w];
        REAL *cell = to + w * x->stride[4];
        if (from != NULL && call->first[2][w + 1] - tw == 1 && y->stride[1] == 1)
            K(copy_run)(cell, from + call->target[2][tw] * y->stride[4], x->shape[1]);
        else
            for (int64_t c = 0; c < x->shape[1]; c++) cell[c] = K(pad_gradient)(call, image + c * y->stride[1], d, h, w);
    }
}

/* The same of one channel in any layout. */
static inline void K(pad_gradient_row)(
    const cnn_pad *call, REAL *row, const REAL *from, const REAL *plane, int64_t d, int64_t h
) {
    const int64_t x_step = call->x.stride[4], y_step = call->y.stride[4];
    const int64_t first = from != NULL ? call->once_source : 0, count = from != NULL ? call->once : 0;
    for (int64_t w = 0; w < first; w++) row[w * x_step] = K(pad_gradient)(call, plane, d, h, w);
    if (count && x_step == 1 && y_step == 1) K(copy_run)(row + first, from + call->once_target, count);
    else
        for (int64_t w = 0; w < count; w++) row[(first + w) * x_step] = from[(call->once_target + w) * y_step];
    for (int64_t w = first + count; w < call->x.shape[4]; w++) row[w * x_step] = K(pad_gradient)(call, plane, d, h, w);
}

/* Tasks are rows (n, :, d, h, :) of dx (here x). A cell that was copied once takes that gradient without a sum. */
static void K(pad_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_pad *call = description;
    const cnn_tensor *x = &call->x, *y = &call->y;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t h = task % x->shape[3], d = task / x->shape[3] % x->shape[2], n = task / x->shape[3] / x->shape[2];
        const int64_t td = call->first[0][d], th = call->first[1][h];
        const int once = call->first[0][d + 1] - td == 1 && call->first[1][h + 1] - th == 1;
        REAL *to = (REAL *)x->data + n * x->stride[0] + d * x->stride[2] + h * x->stride[3];
        const REAL *image = (const REAL *)y->data + n * y->stride[0];
        const REAL *from = once ? image + call->target[0][td] * y->stride[2] + call->target[1][th] * y->stride[3] : NULL;
        const int channels_last = x->stride[1] == 1 && x->shape[1] > 1;
        if (channels_last) K(pad_gradient_cells)(call, to, from, image, d, h);
        for (int64_t c = 0; !channels_last && c < x->shape[1]; c++)
            K(pad_gradient_row)(
                call, to + c * x->stride[1], from == NULL ? NULL : from + c * y->stride[1], image + c * y->stride[1], d, h
            );
    }
}
