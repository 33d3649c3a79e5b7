/* Losses. The reference implementations, with their formulas, are in the family's reference.pyx. */

#define BLOCK CNN_LOSS_CELLS
#define PAIRS 256 /* elements gathered at a time */

/* The classes of `width` adjacent cells as rows `*step` apart: in place, or gathered into `rows`. */
static const REAL *K(class_rows)(
    const cnn_cross_entropy *call, const cnn_tensor *t, int64_t first, int64_t width, REAL *rows, int64_t *step
) {
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

/* v_k times the target probability of class k, apart from the one-hot part. */
static inline double K(share)(const cnn_cross_entropy *call, int64_t k, const REAL *label) {
    const double v = call->weight == NULL ? 1 : call->weight[k];
    return v * (call->smoothing / (double)call->x.shape[1] + (label == NULL ? 0 : (1 - call->smoothing) * (double)*label));
}

/* A block of adjacent cells: class k of cell j is x[k step + j], its target probability label[k label_step + j]. */
typedef struct {
    int64_t first, width, classes, step, label_step;
    const REAL *x, *label; /* label is NULL where classes are given by number */
    int everywhere;        /* whether all classes may have a target probability, not only the numbered one */
} K(class_block);

static K(class_block) K(class_block_of)(const cnn_cross_entropy *call, int64_t task, REAL *rows) {
    const int64_t classes = call->x.shape[1], cells = call->x.shape[0] * call->cells, first = task * BLOCK;
    K(class_block) b = {.first = first, .width = cells - first < BLOCK ? cells - first : BLOCK, .classes = classes};
    b.x = K(class_rows)(call, &call->x, first, b.width, rows, &b.step);
    if (call->labels.data != NULL)
        b.label = K(class_rows)(call, &call->labels, first, b.width, rows + classes * BLOCK, &b.label_step);
    b.everywhere = call->labels.data != NULL || call->smoothing != 0;
    return b;
}
static inline double K(share_of)(const cnn_cross_entropy *call, const K(class_block) *b, int64_t k, int64_t j) {
    return K(share)(call, k, b->label == NULL ? NULL : b->label + k * b->label_step + j);
}
/* The weight of the class with this number, without what label smoothing distributes. */
static inline double K(weight_of)(const cnn_cross_entropy *call, int64_t k) {
    return (1 - call->smoothing) * (call->weight == NULL ? 1 : call->weight[k]);
}
static inline int64_t K(target_of)(const cnn_cross_entropy *call, int64_t cell) {
    return call->classes == NULL ? 0 : call->classes[cell];
}

/* Tasks are blocks of cells. */
static void K(cross_entropy_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_cross_entropy *call = description;
    REAL top[BLOCK];
    double total[BLOCK];
    for (int64_t task = begin; task < end; task++) {
        const K(class_block) b = K(class_block_of)(call, task, scratch);
        const REAL *x = b.x;
        for (int64_t j = 0; j < BLOCK; j++) total[j] = 0;
        for (int64_t j = 0; j < b.width; j += LANES) {
            const int64_t lanes = b.width - j < LANES ? b.width - j : LANES;
            vreal m = K(load_part)(x + j, lanes, 0);
            for (int64_t k = 1; k < b.classes; k++) {
                const vreal v = K(load_part)(x + k * b.step + j, lanes, 0);
                m = K(select)(v > m, v, m);
            }
            K(store)(top + j, m);
            for (int64_t k = 0; k < b.classes; k++)
                K(add_to)(total + j, K(exp_difference)(K(load_part)(x + k * b.step + j, lanes, 0), m));
        }
        for (int64_t j = 0; j < b.width; j++) {
            const double m = (double)top[j], norm = log(total[j]) + (m - m); /* NaN if there is no finite maximum */
            const int64_t target = K(target_of)(call, b.first + j);
            double loss = 0;
            call->largest[b.first + j] = m;
            call->log_sum[b.first + j] = norm;
            if (call->classes != NULL && target >= 0) {
                const double v = K(weight_of)(call, target);
                if (v != 0) loss -= v * (((double)x[target * b.step + j] - m) - norm);
            }
            for (int64_t k = 0; b.everywhere && target >= 0 && k < b.classes; k++) {
                const double q = K(share_of)(call, &b, k, j);
                if (q != 0) loss -= q * (((double)x[k * b.step + j] - m) - norm);
            }
            call->loss[b.first + j] = loss;
        }
    }
}

/* dx[k dx_step + j] = slope p_k - dy v_k q_k, slope = dy sum of v q. */
static void K(cross_entropy_rows)(
    const cnn_cross_entropy *call, const K(class_block) *b, const double *dloss, REAL *dx, int64_t dx_step
) {
    REAL top[BLOCK], norm[BLOCK], slope[BLOCK];
    for (int64_t j = 0; j < b->width; j++) {
        const int64_t target = K(target_of)(call, b->first + j);
        double sum = call->classes != NULL && target >= 0 ? K(weight_of)(call, target) : 0;
        for (int64_t k = 0; b->everywhere && target >= 0 && k < b->classes; k++) sum += K(share_of)(call, b, k, j);
        top[j] = (REAL)call->largest[b->first + j];
        norm[j] = (REAL)call->log_sum[b->first + j];
        slope[j] = (REAL)(dloss[j * call->dloss_step] * sum);
    }
    for (int64_t k = 0; k < b->classes; k++)
        for (int64_t j = 0; j < b->width; j += LANES) {
            const int64_t lanes = b->width - j < LANES ? b->width - j : LANES;
            const vreal away = K(load_part)(b->x + k * b->step + j, lanes, 0) - K(load_part)(top + j, lanes, 0);
            K(store_part)(
                dx + k * dx_step + j, K(exp)(away - K(load_part)(norm + j, lanes, 0)) * K(load_part)(slope + j, lanes, 0), lanes
            );
        }
    for (int64_t j = 0; j < b->width; j++) {
        const int64_t target = K(target_of)(call, b->first + j);
        const double g = dloss[j * call->dloss_step];
        for (int64_t k = 0; target < 0 && k < b->classes; k++) dx[k * dx_step + j] = 0;
        if (call->classes != NULL && target >= 0) dx[target * dx_step + j] -= (REAL)(g * K(weight_of)(call, target));
        for (int64_t k = 0; b->everywhere && target >= 0 && k < b->classes; k++)
            dx[k * dx_step + j] -= (REAL)(g * K(share_of)(call, b, k, j));
    }
}

/* Tasks are blocks of cells. */
static void K(cross_entropy_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_cross_entropy *call = description;
    const cnn_tensor *dx = &call->dx, *dlabels = &call->dlabels;
    REAL *rows = (REAL *)scratch + 2 * call->x.shape[1] * BLOCK;
    for (int64_t task = begin; task < end; task++) {
        const K(class_block) b = K(class_block_of)(call, task, scratch);
        const double *dloss = call->dloss + b.first * call->dloss_step;
        const int in_place = dx->data != NULL && dx->shape[2] == 1 && dx->shape[3] == 1 && dx->stride[4] == 1
            && b.first % call->cells + b.width <= call->cells;
        if (in_place) K(cross_entropy_rows)(call, &b, dloss, (REAL *)dx->data + cnn_cell(dx, b.first), dx->stride[1]);
        else if (dx->data != NULL) K(cross_entropy_rows)(call, &b, dloss, rows, BLOCK);
        for (int64_t j = 0; dx->data != NULL && !in_place && j < b.width; j++) {
            REAL *to = (REAL *)dx->data + cnn_cell(dx, b.first + j);
            for (int64_t k = 0; k < b.classes; k++) to[k * dx->stride[1]] = rows[k * BLOCK + j];
        }
        for (int64_t j = 0; dlabels->data != NULL && j < b.width; j++) {
            REAL *to = (REAL *)dlabels->data + cnn_cell(dlabels, b.first + j);
            const double m = call->largest[b.first + j], s = call->log_sum[b.first + j], g = dloss[j * call->dloss_step];
            for (int64_t k = 0; k < b.classes; k++)
                to[k * dlabels->stride[1]] = (REAL)(-g * K(weight_of)(call, k) * (((double)b.x[k * b.step + j] - m) - s));
        }
    }
}

/* ── Squared error ── */

/* Runs of the elements of a task, at most PAIRS long: x and t, gathered if they are not contiguous, dy (NULL: one for all) and y. */
typedef struct {
    REAL xs[PAIRS], ts[PAIRS];
    const REAL *x, *t, *dy;
    REAL *y;
    int64_t next, end, count, y_step, dy_step;
} K(pairs);

static void K(begin_pairs)(K(pairs) *run, const cnn_elementwise *call, int64_t task) {
    run->next = task * CNN_LOSS_BLOCK;
    run->end = K(smaller)(run->next + CNN_LOSS_BLOCK, call->size);
    run->y_step = call->y.stride[4];
    run->dy_step = call->dy.stride[4];
}
static int K(next_pairs)(K(pairs) *run, const cnn_elementwise *call) {
    cnn_offsets at;
    if (run->next >= run->end) return 0;
    run->count = K(smaller)(cnn_row(call, run->next, run->end, &at), PAIRS);
    run->x = K(gather)((const REAL *)call->x.data + at.x, call->x.stride[4], run->count, run->xs);
    run->t = K(gather)((const REAL *)call->p.data + at.p, call->p.stride[4], run->count, run->ts);
    run->dy = call->dy.data == NULL ? NULL : (const REAL *)call->dy.data + at.dy;
    run->y = (REAL *)call->y.data + (call->y.data == NULL ? 0 : at.y);
    run->next += run->count;
    return 1;
}

/* Tasks are blocks of CNN_LOSS_BLOCK elements: each writes the sum of its squares or, with y, all of them. */
static void K(squared_error_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_squared_error *call = description;
    K(pairs) run;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        vwide sums[2] = {{0}};
        double sum = 0;
        for (K(begin_pairs)(&run, &call->arrays, task); K(next_pairs)(&run, &call->arrays);) {
            const REAL *x = run.x, *t = run.t;
            for (int64_t j = 0; call->sums == NULL && j < run.count; j++)
                run.y[j * run.y_step] = (REAL)(((double)x[j] - (double)t[j]) * ((double)x[j] - (double)t[j]));
            if (call->sums == NULL) continue;
            int64_t j = 0;
            for (; j + 2 * WIDE <= run.count; j += 2 * WIDE)
#pragma GCC unroll 2
                for (int v = 0; v < 2; v++) {
                    const vwide d = K(widen)(x + j + v * WIDE) - K(widen)(t + j + v * WIDE);
                    sums[v] += d * d;
                }
            for (; j < run.count; j++) sum += ((double)x[j] - (double)t[j]) * ((double)x[j] - (double)t[j]);
        }
        if (call->sums != NULL) call->sums[task] = sum + K(total)(sums[0] + sums[1]);
    }
}

/* y = scale (x - t), times dy if that has an element for each. */
static void K(squared_error_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_squared_error *call = description;
    K(pairs) run;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        for (K(begin_pairs)(&run, &call->arrays, task); K(next_pairs)(&run, &call->arrays);) {
            const REAL *x = run.x, *t = run.t;
            REAL *dx = run.y;
            if (run.dy != NULL)
                for (int64_t j = 0; j < run.count; j++)
                    dx[j * run.y_step] = (REAL)(call->scale * (double)run.dy[j * run.dy_step] * ((double)x[j] - (double)t[j]));
            else if (run.y_step == 1)
                for (int64_t j = 0; j < run.count; j++) dx[j] = (REAL)(call->scale * ((double)x[j] - (double)t[j]));
            else
                for (int64_t j = 0; j < run.count; j++)
                    dx[j * run.y_step] = (REAL)(call->scale * ((double)x[j] - (double)t[j]));
        }
    }
}
/* ── Binary cross-entropy ── */

/* max(x, 0) - x t + log(1 + e^-|x|) of `lanes` pairs; 0 in the others. */
static inline vreal K(binary_losses)(const REAL *x, const REAL *t, int64_t lanes) {
    const vreal v = lanes == LANES ? K(load)(x) : K(load_tail)(x, lanes),
                s = lanes == LANES ? K(load)(t) : K(load_tail)(t, lanes);
    const vreal e = K(exp)(-K(magnitude)(v)), share = K(select)(v > 0, 1 - s, -s);
    const vreal linear = K(select)(share == 0, (vreal){0}, v * share);
    return K(select)(v != v, v, linear + K(log1p_of_unit)(e));
}

/* Tasks are blocks of CNN_LOSS_BLOCK elements: each writes the sum of its losses or, with y, all of them. */
static void K(binary_cross_entropy_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_squared_error *call = description;
    K(pairs) run;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        vwide sums[LANES / WIDE] = {{0}};
        double sum = 0;
        for (K(begin_pairs)(&run, &call->arrays, task); K(next_pairs)(&run, &call->arrays);) {
            const REAL *x = run.x, *t = run.t;
            for (int64_t j = 0; j < run.count; j += LANES) {
                const int64_t lanes = K(smaller)(run.count - j, LANES);
                REAL part[LANES];
                K(store)(part, K(binary_losses)(x + j, t + j, lanes));
                for (int64_t l = 0; call->sums == NULL && l < lanes; l++) run.y[(j + l) * run.y_step] = part[l];
                for (int v = 0; lanes == LANES && v < LANES / WIDE; v++) sums[v] += K(widen)(part + v * WIDE);
                for (int64_t l = 0; lanes < LANES && l < lanes; l++) sum += part[l];
            }
        }
        if (call->sums != NULL) {
            for (int v = 0; v < LANES / WIDE; v++) sum += K(total)(sums[v]);
            call->sums[task] = sum;
        }
    }
}

/* y = scale (sigmoid(x) - t), times dy if that has an element for each. */
static void K(binary_cross_entropy_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_squared_error *call = description;
    K(pairs) run;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        for (K(begin_pairs)(&run, &call->arrays, task); K(next_pairs)(&run, &call->arrays);) {
            const REAL *x = run.x, *t = run.t;
            REAL *dx = run.y;
            for (int64_t j = 0; j < run.count; j += LANES) {
                const int64_t lanes = K(smaller)(run.count - j, LANES);
                const vreal v = lanes == LANES ? K(load)(x + j) : K(load_tail)(x + j, lanes);
                const vreal s = lanes == LANES ? K(load)(t + j) : K(load_tail)(t + j, lanes);
                const vreal e = K(exp)(-K(magnitude)(v));
                const vreal slope = K(select)(v > 0, K(splat)(1), e) / (1 + e) - s;
                if (run.dy == NULL && run.y_step == 1 && lanes == LANES) {
                    K(store)(dx + j, (REAL)call->scale * slope);
                    continue;
                }
                REAL part[LANES];
                K(store)(part, slope);
                for (int64_t l = 0; l < lanes; l++)
                    dx[(j + l) * run.y_step] = (REAL)call->scale * part[l]
                        * (run.dy == NULL ? 1 : run.dy[(j + l) * run.dy_step]);
            }
        }
    }
}
#undef BLOCK
#undef PAIRS
