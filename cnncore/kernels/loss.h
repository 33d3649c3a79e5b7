/* Losses. Definitions with their formulas: ops/loss.pyx. */

#define BLOCK CNN_LOSS_CELLS
#define PAIRS 256     /* elements brought together at a time */

/* The classes of `width` neighbouring cells as rows, `*step` apart: where they lie, or brought together in `rows`. */
static const REAL *K(class_rows)(const cnn_cross_entropy *call, const cnn_tensor *t, int64_t first, int64_t width, REAL *rows,
                                 int64_t *step) {
    const int64_t n = first / call->cells, cell = first % call->cells;
    if (t->shape[2] == 1 && t->shape[3] == 1 && t->stride[4] == 1 && cell + width <= call->cells) {
        *step = t->stride[1];
        return (const REAL *)t->data + n * t->stride[0] + cell;
    }
    *step = BLOCK;
    for (int64_t j = 0; j < width; j++) {
        const REAL *from = (const REAL *)t->data + cnn_cell(t, first + j);
        for (int64_t k = 0; k < t->shape[1]; k++) rows[k * BLOCK + j] = from[k * t->stride[1]];
    }
    return rows;
}

/* v_k times the share of the target that is spread over all classes or given as a probability. */
static inline double K(share)(const cnn_cross_entropy *call, int64_t k, const REAL *label) {
    const double v = call->weight == NULL ? 1 : call->weight[k];
    return v * (call->smoothing / (double)call->x.shape[1] + (label == NULL ? 0 : (1 - call->smoothing) * (double)*label));
}

/* Tasks are blocks of cells. */
static void K(cross_entropy_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_cross_entropy *call = description;
    const int64_t classes = call->x.shape[1], cells = call->x.shape[0] * call->cells;
    const int everywhere = call->labels.data != NULL || call->smoothing != 0;
    REAL *rows = scratch, *label_rows = rows + classes * BLOCK, top[BLOCK];
    double total[BLOCK];
    for (int64_t task = begin; task < end; task++) {
        const int64_t first = task * BLOCK, width = cells - first < BLOCK ? cells - first : BLOCK;
        int64_t step, label_step = 0;
        const REAL *x = K(class_rows)(call, &call->x, first, width, rows, &step), *label = NULL;
        for (int64_t j = 0; j < BLOCK; j++) total[j] = 0;
        for (int64_t j = 0; j < width; j += LANES) {
            const int64_t lanes = width - j < LANES ? width - j : LANES;
            vreal m = K(load_part)(x + j, lanes, 0);
            for (int64_t k = 1; k < classes; k++) {
                const vreal v = K(load_part)(x + k * step + j, lanes, 0);
                m = K(select)(v > m, v, m);
            }
            K(store)(top + j, m);
            for (int64_t k = 0; k < classes; k++)
                K(add_to)(total + j, K(exp_difference)(K(load_part)(x + k * step + j, lanes, 0), m));
        }
        if (call->labels.data != NULL) label = K(class_rows)(call, &call->labels, first, width, label_rows, &label_step);
        for (int64_t j = 0; j < width; j++) {
            const double m = (double)top[j], norm = log(total[j]) + (m - m); /* NaN where there is no finite maximum */
            const int64_t target = call->classes == NULL ? 0 : call->classes[first + j];
            double loss = 0;
            call->largest[first + j] = m;
            call->log_sum[first + j] = norm;
            if (call->classes != NULL && target >= 0) {
                const double v = (1 - call->smoothing) * (call->weight == NULL ? 1 : call->weight[target]);
                if (v != 0) loss -= v * (((double)x[target * step + j] - m) - norm);
            }
            if (everywhere && target >= 0)
                for (int64_t k = 0; k < classes; k++) {
                    const double q = K(share)(call, k, label == NULL ? NULL : label + k * label_step + j);
                    if (q != 0) loss -= q * (((double)x[k * step + j] - m) - norm);
                }
            call->loss[first + j] = loss;
        }
    }
}

static void K(cross_entropy_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_cross_entropy *call = description;
    const int64_t classes = call->x.shape[1], cells = call->x.shape[0] * call->cells;
    const int everywhere = call->labels.data != NULL || call->smoothing != 0;
    REAL *rows = scratch, *label_rows = rows + classes * BLOCK, *dx_rows = label_rows + classes * BLOCK;
    REAL top[BLOCK], norm[BLOCK], slope[BLOCK];
    for (int64_t task = begin; task < end; task++) {
        const int64_t first = task * BLOCK, width = cells - first < BLOCK ? cells - first : BLOCK;
        int64_t step, label_step = 0, dx_step = 0;
        const REAL *x = K(class_rows)(call, &call->x, first, width, rows, &step), *label = NULL;
        const double *dloss = call->dloss + first * call->dloss_step;
        if (call->labels.data != NULL) label = K(class_rows)(call, &call->labels, first, width, label_rows, &label_step);
        if (call->dx.data != NULL) {
            const cnn_tensor *t = &call->dx;
            const int direct = t->shape[2] == 1 && t->shape[3] == 1 && t->stride[4] == 1
                && first % call->cells + width <= call->cells;
            REAL *dx = direct ? (REAL *)t->data + cnn_cell(t, first) : dx_rows;
            dx_step = direct ? t->stride[1] : BLOCK;
            for (int64_t j = 0; j < width; j++) {
                const int64_t target = call->classes == NULL ? 0 : call->classes[first + j];
                double sum = 0;
                if (call->classes != NULL && target >= 0)
                    sum = (1 - call->smoothing) * (call->weight == NULL ? 1 : call->weight[target]);
                if (everywhere && target >= 0)
                    for (int64_t k = 0; k < classes; k++)
                        sum += K(share)(call, k, label == NULL ? NULL : label + k * label_step + j);
                top[j] = (REAL)call->largest[first + j];
                norm[j] = (REAL)call->log_sum[first + j];
                slope[j] = (REAL)(dloss[j * call->dloss_step] * sum);
            }
            for (int64_t k = 0; k < classes; k++)
                for (int64_t j = 0; j < width; j += LANES) {
                    const int64_t lanes = width - j < LANES ? width - j : LANES;
                    const vreal away = K(load_part)(x + k * step + j, lanes, 0) - K(load_part)(top + j, lanes, 0);
                    K(store_part)(dx + k * dx_step + j,
                                  K(exp)(away - K(load_part)(norm + j, lanes, 0)) * K(load_part)(slope + j, lanes, 0), lanes);
                }
            for (int64_t j = 0; j < width; j++) {
                const int64_t target = call->classes == NULL ? 0 : call->classes[first + j];
                const double g = dloss[j * call->dloss_step];
                if (target < 0) {
                    for (int64_t k = 0; k < classes; k++) dx[k * dx_step + j] = 0;
                    continue;
                }
                if (call->classes != NULL)
                    dx[target * dx_step + j] -= (REAL)(g * (1 - call->smoothing)
                                                       * (call->weight == NULL ? 1 : call->weight[target]));
                if (everywhere)
                    for (int64_t k = 0; k < classes; k++)
                        dx[k * dx_step + j] -= (REAL)(g * K(share)(call, k, label == NULL ? NULL : label + k * label_step + j));
            }
            for (int64_t j = 0; j < width && !direct; j++) {
                REAL *to = (REAL *)t->data + cnn_cell(t, first + j);
                for (int64_t k = 0; k < classes; k++) to[k * t->stride[1]] = dx_rows[k * BLOCK + j];
            }
        }
        if (call->dlabels.data != NULL)
            for (int64_t j = 0; j < width; j++) {
                const cnn_tensor *t = &call->dlabels;
                REAL *to = (REAL *)t->data + cnn_cell(t, first + j);
                const double m = call->largest[first + j], s = call->log_sum[first + j], g = dloss[j * call->dloss_step];
                for (int64_t k = 0; k < classes; k++)
                    to[k * t->stride[1]] = (REAL)(-g * (1 - call->smoothing) * (call->weight == NULL ? 1 : call->weight[k])
                                                  * (((double)x[k * step + j] - m) - s));
            }
    }
}

/* ── Squared error ── */

/* Both arrays of a run of elements from i on, brought together where they are no neighbours; returns how many. */
static int64_t K(pairs)(const cnn_elementwise *call, int64_t i, int64_t end, REAL *xs, REAL *ts, const REAL **x, const REAL **t,
                        cnn_offsets *at) {
    int64_t count = cnn_row(call, i, end, at);
    if (count > PAIRS) count = PAIRS;
    *x = K(gather)((const REAL *)call->x.data + at->x, call->x.stride[4], count, xs);
    *t = K(gather)((const REAL *)call->p.data + at->p, call->p.stride[4], count, ts);
    return count;
}

/* Tasks are blocks of CNN_LOSS_BLOCK elements: each leaves the sum of its squares, or where y is asked for all of them. */
static void K(squared_error_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_squared_error *call = description;
    const cnn_elementwise *arrays = &call->arrays;
    REAL xs[PAIRS], ts[PAIRS];
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t first = task * CNN_LOSS_BLOCK;
        const int64_t stop = first + CNN_LOSS_BLOCK < arrays->size ? first + CNN_LOSS_BLOCK : arrays->size;
        vwide sums[2] = {{0}};
        double sum = 0;
        for (int64_t i = first, count; i < stop; i += count) {
            cnn_offsets at;
            const REAL *x, *t;
            count = K(pairs)(arrays, i, stop, xs, ts, &x, &t, &at);
            if (call->sums == NULL) {
                REAL *y = (REAL *)arrays->y.data + at.y;
                for (int64_t j = 0; j < count; j++) {
                    const double d = (double)x[j] - (double)t[j];
                    y[j * arrays->y.stride[4]] = (REAL)(d * d);
                }
                continue;
            }
            int64_t j = 0;
            for (; j + 2 * WIDE <= count; j += 2 * WIDE)
#pragma GCC unroll 2
                for (int v = 0; v < 2; v++) {
                    const vwide d = K(widen)(x + j + v * WIDE) - K(widen)(t + j + v * WIDE);
                    sums[v] += d * d;
                }
            for (; j < count; j++) sum += ((double)x[j] - (double)t[j]) * ((double)x[j] - (double)t[j]);
        }
        if (call->sums != NULL) call->sums[task] = sum + K(total)(sums[0] + sums[1]);
    }
}

/* y = scale (x - t), times dy where that has an element for each. */
static void K(squared_error_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_squared_error *call = description;
    const cnn_elementwise *arrays = &call->arrays;
    REAL xs[PAIRS], ts[PAIRS];
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t first = task * CNN_LOSS_BLOCK;
        const int64_t stop = first + CNN_LOSS_BLOCK < arrays->size ? first + CNN_LOSS_BLOCK : arrays->size;
        for (int64_t i = first, count; i < stop; i += count) {
            cnn_offsets at;
            const REAL *x, *t;
            count = K(pairs)(arrays, i, stop, xs, ts, &x, &t, &at);
            const REAL *dy = (const REAL *)arrays->dy.data + (arrays->dy.data == NULL ? 0 : at.dy);
            REAL *dx = (REAL *)arrays->y.data + at.y;
            const int64_t step = arrays->y.stride[4], dy_step = arrays->dy.stride[4];
            if (arrays->dy.data != NULL)
                for (int64_t j = 0; j < count; j++)
                    dx[j * step] = (REAL)(call->scale * (double)dy[j * dy_step] * ((double)x[j] - (double)t[j]));
            else if (step == 1)
                for (int64_t j = 0; j < count; j++) dx[j] = (REAL)(call->scale * ((double)x[j] - (double)t[j]));
            else
                for (int64_t j = 0; j < count; j++) dx[j * step] = (REAL)(call->scale * ((double)x[j] - (double)t[j]));
        }
    }
}
/* ── Cross-entropy of yes and no ── */

/* max(x, 0) - x t + log(1 + e^-|x|) of `lanes` pairs; 0 in the others. */
static inline vreal K(binary_losses)(const REAL *x, const REAL *t, int64_t lanes) {
    const vreal v = lanes == LANES ? K(load)(x) : K(load_tail)(x, lanes), s = lanes == LANES ? K(load)(t) : K(load_tail)(t, lanes);
    const vreal e = K(exp)(-K(magnitude)(v)), share = K(select)(v > 0, 1 - s, -s);
    const vreal linear = K(select)(share == 0, (vreal){0}, v * share);
    return K(select)(v != v, v, linear + K(log1p_of_unit)(e));
}

/* Tasks are blocks of CNN_LOSS_BLOCK elements: each leaves the sum of its losses, or where y is asked for all of them. */
static void K(binary_cross_entropy_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_squared_error *call = description;
    const cnn_elementwise *arrays = &call->arrays;
    REAL xs[PAIRS], ts[PAIRS];
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t first = task * CNN_LOSS_BLOCK;
        const int64_t stop = first + CNN_LOSS_BLOCK < arrays->size ? first + CNN_LOSS_BLOCK : arrays->size;
        vwide sums[LANES / WIDE] = {{0}};
        double sum = 0;
        for (int64_t i = first, count; i < stop; i += count) {
            cnn_offsets at;
            const REAL *x, *t;
            count = K(pairs)(arrays, i, stop, xs, ts, &x, &t, &at);
            const int64_t step = arrays->y.stride[4];
            for (int64_t j = 0; j < count; j += LANES) {
                const int64_t lanes = count - j < LANES ? count - j : LANES;
                REAL part[LANES];
                K(store)(part, K(binary_losses)(x + j, t + j, lanes));
                if (call->sums == NULL)
                    for (int64_t l = 0; l < lanes; l++) ((REAL *)arrays->y.data)[at.y + (j + l) * step] = part[l];
                else if (lanes == LANES)
                    for (int v = 0; v < LANES / WIDE; v++) sums[v] += K(widen)(part + v * WIDE);
                else
                    for (int64_t l = 0; l < lanes; l++) sum += part[l];
            }
        }
        if (call->sums != NULL) {
            for (int v = 0; v < LANES / WIDE; v++) sum += K(total)(sums[v]);
            call->sums[task] = sum;
        }
    }
}

/* y = scale (sigmoid(x) - t), times dy where that has an element for each. */
static void K(binary_cross_entropy_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_squared_error *call = description;
    const cnn_elementwise *arrays = &call->arrays;
    REAL xs[PAIRS], ts[PAIRS];
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t first = task * CNN_LOSS_BLOCK;
        const int64_t stop = first + CNN_LOSS_BLOCK < arrays->size ? first + CNN_LOSS_BLOCK : arrays->size;
        for (int64_t i = first, count; i < stop; i += count) {
            cnn_offsets at;
            const REAL *x, *t;
            count = K(pairs)(arrays, i, stop, xs, ts, &x, &t, &at);
            const REAL *dy = (const REAL *)arrays->dy.data + (arrays->dy.data == NULL ? 0 : at.dy);
            REAL *dx = (REAL *)arrays->y.data + at.y;
            const int64_t step = arrays->y.stride[4], dy_step = arrays->dy.stride[4];
            for (int64_t j = 0; j < count; j += LANES) {
                const int64_t lanes = count - j < LANES ? count - j : LANES;
                const vreal v = lanes == LANES ? K(load)(x + j) : K(load_tail)(x + j, lanes);
                const vreal s = lanes == LANES ? K(load)(t + j) : K(load_tail)(t + j, lanes);
                const vreal e = K(exp)(-K(magnitude)(v));
                const vreal slope = K(select)(v > 0, K(splat)(1), e) / (1 + e) - s;
                if (arrays->dy.data == NULL && step == 1 && lanes == LANES) {
                    K(store)(dx + j, (REAL)call->scale * slope);
                    continue;
                }
                REAL part[LANES];
                K(store)(part, slope);
                for (int64_t l = 0; l < lanes; l++)
                    dx[(j + l) * step] = (REAL)call->scale * part[l]
                        * (arrays->dy.data == NULL ? 1 : dy[(j + l) * dy_step]);
            }
        }
    }
}
#undef BLOCK
#undef PAIRS
