/* Pooling by computed weights, LANES channels at a time. The reference implementations, with their formulas, are in the
 * family's reference.pyx.
 *
 * A task is LANES channels of an image. If channels are innermost in all arrays, their vectors are read in place; other
 * layouts, and channels that do not fill a vector, are packed into scratch plane by plane.
 */

/* The arrays of a task as cells of vectors; `scratch`: what is left of it after the packed ones. */
typedef struct {
    K(pool_view) x, y, dx, dy, logit, dlogit;
    int64_t n, channel, lanes;
    int64_t left; /* values until the next question whether to stop */
    int packed;
    REAL *scratch;
} K(weighted_task);

/* Packs a task's channels of t into vectors, or unpacks them. */
static void K(weighted_copy)(const cnn_tensor *t, K(weighted_task) *task, REAL *vectors, int out) {
    REAL *image = (REAL *)t->data + task->n * t->stride[0] + task->channel * t->stride[1];
    int64_t columns = t->shape[4], rows = t->shape[3], layers = t->shape[2];
    if (rows > 1 && t->stride[3] == columns * t->stride[4]) columns *= rows, rows = 1;
    if (layers > 1 && rows == 1 && t->stride[2] == columns * t->stride[4]) columns *= layers, layers = 1;
    for (int64_t d = 0; d < layers; d++)
        for (int64_t h = 0; h < rows; h++)
            for (int64_t w = 0, count; w < columns; w += count) {
                REAL *line = image + d * t->stride[2] + h * t->stride[3] + w * t->stride[4];
                REAL *packed = vectors + ((d * rows + h) * columns + w) * LANES;
                count = columns - w < CNN_PIECE / LANES ? columns - w : CNN_PIECE / LANES;
                if (out) K(transfer)(line, t->stride[1], t->stride[4], packed, 1, LANES, task->lanes, count);
                else K(transfer)(packed, 1, LANES, line, t->stride[1], t->stride[4], task->lanes, count);
                if (cnn_stop_after(&task->left, count * LANES)) return;
            }
}

static void K(weighted_clear)(K(weighted_task) *task, REAL *values, int64_t count) {
    for (int64_t i = 0; i < count && !cnn_stop_after(&task->left, CNN_PIECE); i += CNN_PIECE)
        K(fill_zero)(values + i, count - i < CNN_PIECE ? count - i : CNN_PIECE);
}

enum { K(GIVEN), K(CLEARED), K(WRITTEN) };

/* The cells of t: GIVEN (read), CLEARED (zeroed, to accumulate into), or WRITTEN. */
static K(pool_view) K(weighted_view)(K(weighted_task) *task, const cnn_tensor *t, const int use) {
    const int64_t cells = t->shape[2] * t->shape[3] * t->shape[4];
    if (!task->packed) {
        const K(pool_view) v = K(view_in_place)(t, task->n, task->channel);
        if (use == K(CLEARED))
            for (int64_t d = 0; d < t->shape[2]; d++)
                for (int64_t h = 0; h < t->shape[3] && !cnn_stop_after(&task->left, t->shape[4] * LANES); h++)
                    for (int64_t w = 0; w < t->shape[4]; w++) K(store)(v.data + K(view_offset)(v, d, h, w), (vreal){0});
        return v;
    }
    REAL *vectors = task->scratch;
    task->scratch += cells * LANES;
    if (use == K(CLEARED) || task->lanes < LANES) K(weighted_clear)(task, vectors, cells * LANES);
    if (use == K(GIVEN)) K(weighted_copy)(t, task, vectors, 0);
    return (K(pool_view)){vectors, 0, {t->shape[3] * t->shape[4] * LANES, t->shape[4] * LANES, LANES}};
}

static void K(unpack_weighted)(K(weighted_task) *task, const cnn_tensor *t, K(pool_view) v) {
    if (task->packed) K(weighted_copy)(t, task, v.data, 1);
}

static K(weighted_task) K(weighted_begin)(const cnn_weighted *call, int64_t number, REAL *scratch) {
    const int64_t C = call->x.shape[1], blocks = (C + LANES - 1) / LANES;
    K(weighted_task) task = {.n = number / blocks, .channel = number % blocks * LANES, .left = CNN_PIECE, .scratch = scratch};
    task.lanes = C - task.channel < LANES ? C - task.channel : LANES;
    task.packed = task.channel + LANES > call->in_place;
    return task;
}

/* Loops over all windows, and over the cells of window (od, oh, ow) in row-major order: cell number `cell` at (d, h, w). */
#define FOR_WINDOW(call, od, oh, ow) \
    for (int64_t od = 0; od < (call)->axis[0].output; od++) \
        for (int64_t oh = 0; oh < (call)->axis[1].output; oh++) \
            for (int64_t ow = 0; ow < (call)->axis[2].output; ow++)
#define FOR_CELL(call, od, oh, ow) \
    for (int64_t d = (call)->axis[0].first[od], d_end = d + (call)->axis[0].count[od] * (call)->axis[0].step, cell = 0; \
         d < d_end; d += (call)->axis[0].step) \
        for (int64_t h = (call)->axis[1].first[oh], h_end = h + (call)->axis[1].count[oh] * (call)->axis[1].step; h < h_end; \
             h += (call)->axis[1].step) \
            for (int64_t w = (call)->axis[2].first[ow], w_end = w + (call)->axis[2].count[ow] * (call)->axis[2].step; \
                 w < w_end; w += (call)->axis[2].step, cell++)

ALWAYS_INLINE vreal K(at_cell)(K(pool_view) v, int64_t d, int64_t h, int64_t w) {
    return K(load)(v.data + K(view_offset)(v, d, h, w));
}
ALWAYS_INLINE void K(add_at_cell)(K(pool_view) v, int64_t d, int64_t h, int64_t w, vreal a) {
    REAL *place = v.data + K(view_offset)(v, d, h, w);
    K(store)(place, K(load)(place) + a);
}

/* ── Local importance ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* y of a window; its weights go to `weights`, their sum to `total`. */
ALWAYS_INLINE vreal K(importance)(
    const cnn_weighted *call, const K(weighted_task) *t, int64_t od, int64_t oh, int64_t ow, REAL *weights, vreal *total
) {
    vreal largest = K(splat)(-INFINITY), sum = {0}, weighted = {0};
    FOR_CELL(call, od, oh, ow) {
        const vreal l = K(at_cell)(t->logit, d, h, w);
        largest = K(select)(l > largest, l, largest);
    }
    FOR_CELL(call, od, oh, ow) {
        const vreal l = K(at_cell)(t->logit, d, h, w);
        const vreal weight = K(select)(l == largest, K(splat)(1), K(exp)(l - largest));
        K(store)(weights + cell * LANES, weight);
        sum += weight;
        weighted += weight * K(at_cell)(t->x, d, h, w);
    }
    *total = sum;
    return weighted / sum;
}

static void K(importance_pool_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_weighted *call = description;
    int64_t left = CNN_PIECE;
    for (int64_t number = begin; number < end; number++) {
        K(weighted_task) t = K(weighted_begin)(call, number, scratch);
        t.x = K(weighted_view)(&t, &call->x, K(GIVEN));
        t.logit = K(weighted_view)(&t, &call->logit, K(GIVEN));
        t.y = K(weighted_view)(&t, &call->y, K(WRITTEN));
        vreal total;
        FOR_WINDOW(call, od, oh, ow) {
            K(store)(t.y.data + K(view_offset)(t.y, od, oh, ow), K(importance)(call, &t, od, oh, ow, t.scratch, &total));
            if (cnn_stop_after(&left, call->cells * LANES)) return;
        }
        K(unpack_weighted)(&t, &call->y, t.y);
    }
}

static void K(importance_pool_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_weighted *call = description;
    int64_t left = CNN_PIECE;
    for (int64_t number = begin; number < end; number++) {
        K(weighted_task) t = K(weighted_begin)(call, number, scratch);
        t.x = K(weighted_view)(&t, &call->x, K(GIVEN));
        t.logit = K(weighted_view)(&t, &call->logit, K(GIVEN));
        t.dy = K(weighted_view)(&t, &call->dy, K(GIVEN));
        t.dx = K(weighted_view)(&t, &call->dx, K(CLEARED));
        t.dlogit = K(weighted_view)(&t, &call->dlogit, K(CLEARED));
        FOR_WINDOW(call, od, oh, ow) {
            if (cnn_stop_after(&left, call->cells * LANES)) return;
            vreal total;
            const vreal y = K(importance)(call, &t, od, oh, ow, t.scratch, &total);
            const vreal share = K(at_cell)(t.dy, od, oh, ow) / total;
            FOR_CELL(call, od, oh, ow) {
                const vreal dx = share * K(load)(t.scratch + cell * LANES);
                K(add_at_cell)(t.dx, d, h, w, dx);
                K(add_at_cell)(t.dlogit, d, h, w, dx * (K(at_cell)(t.x, d, h, w) - y));
            }
        }
        K(unpack_weighted)(&t, &call->dx, t.dx);
        K(unpack_weighted)(&t, &call->dlogit, t.dlogit);
    }
}

/* ── Detail preserving ──────────────────────────────────────────────────────────────────────────────────────────────── */

#define MOST_TAPS 27

/* The learned numbers of each lane's channel. */
typedef struct {
    vreal alpha, power, filter[MOST_TAPS];
    int64_t taps;
} K(detail_numbers);

static K(detail_numbers) K(detail_numbers_of)(const cnn_weighted *call, const K(weighted_task) *t) {
    K(detail_numbers) s = {.taps = call->filter ? call->taps[0] * call->taps[1] * call->taps[2] : 0};
    for (int64_t l = 0; l < t->lanes; l++) {
        s.alpha[l] = (REAL)call->alpha[t->channel + l];
        s.power[l] = (REAL)exp(call->power[t->channel + l]);
        for (int64_t i = 0; i < s.taps; i++) s.filter[i][l] = (REAL)call->filter[(t->channel + l) * s.taps + i];
    }
    return s;
}

/* The cell along an axis under tap `tap` of the filter around the centre of window o; -1 outside the image. */
ALWAYS_INLINE int64_t K(under_filter)(const cnn_weighted *call, const int axis, int64_t o, int64_t tap) {
    const cnn_axis *a = &call->axis[axis];
    const int64_t cell = a->first[o] + ((a->kernel - 1) / 2 - a->tap[o]) * a->step + tap - call->taps[axis] / 2;
    return cell >= 0 && cell < a->input ? cell : -1;
}
#define FOR_TAP(call, od, oh, ow) \
    for (int64_t a = 0, tap = 0; a < (call)->taps[0]; a++) \
        for (int64_t b = 0; b < (call)->taps[1]; b++) \
            for (int64_t c = 0; c < (call)->taps[2]; c++, tap++)

/* The intermediate results of a window; r, log rho and rho of each cell are left in `scratch`. */
typedef struct {
    vreal mean, M, mean_r, each, total, y, n;
} K(detail_window);

ALWAYS_INLINE K(detail_window) K(detail)(
    const cnn_weighted *call, const K(weighted_task) *t, const K(detail_numbers) *s, int64_t od, int64_t oh, int64_t ow,
    REAL *scratch
) {
    REAL *r = scratch, *log_rho = r + call->cells * LANES, *rho = log_rho + call->cells * LANES;
    const REAL count = (REAL)(call->axis[0].count[od] * call->axis[1].count[oh] * call->axis[2].count[ow]);
    K(detail_window) v = {.M = K(splat)(1), .n = K(splat)(count)};
    vreal common = s->alpha, weighted = {0};
    if (s->taps)
        FOR_TAP(call, od, oh, ow) {
            const int64_t d = K(under_filter)(call, 0, od, a), h = K(under_filter)(call, 1, oh, b);
            const int64_t w = K(under_filter)(call, 2, ow, c);
            if (d >= 0 && h >= 0 && w >= 0) v.mean += s->filter[tap] * K(at_cell)(t->x, d, h, w);
        }
    else {
        FOR_CELL(call, od, oh, ow) v.mean += K(at_cell)(t->x, d, h, w);
        v.mean /= v.n;
    }
    FOR_CELL(call, od, oh, ow) {
        const vreal far = K(magnitude)(K(at_cell)(t->x, d, h, w) - v.mean);
        v.M = K(select)(far > v.M, far, v.M);
    }
    const vreal inverse = 1 / v.M, eps = K(splat)((REAL)call->eps) * inverse * inverse;
    FOR_CELL(call, od, oh, ow) {
        const vreal far = K(at_cell)(t->x, d, h, w) - v.mean, u = far * inverse;
        vreal square = u * u;
        if (!call->symmetric) square = K(select)(far < 0, (vreal){0}, square);
        K(store)(r + cell * LANES, square + eps);
        v.mean_r += square + eps;
    }
    v.mean_r /= v.n;
    const int64_t cells = (int64_t)count;
    for (int64_t j = 0; j < cells; j++) {
        const vreal ratio = K(load)(r + j * LANES) / v.mean_r;
        const vreal l = K(select)(ratio == 0, K(splat)(-INFINITY), s->power * K(log)(ratio));
        K(store)(log_rho + j * LANES, l);
        common = K(select)(l > common, l, common);
    }
    v.each = K(exp)(s->alpha - common);
    FOR_CELL(call, od, oh, ow) {
        const vreal each = K(exp)(K(load)(log_rho + cell * LANES) - common);
        K(store)(rho + cell * LANES, each);
        v.total += v.each + each;
        weighted += (v.each + each) * K(at_cell)(t->x, d, h, w);
    }
    v.y = weighted / v.total;
    return v;
}

static void K(detail_pool_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_weighted *call = description;
    int64_t left = CNN_PIECE;
    for (int64_t number = begin; number < end; number++) {
        K(weighted_task) t = K(weighted_begin)(call, number, scratch);
        const K(detail_numbers) s = K(detail_numbers_of)(call, &t);
        t.x = K(weighted_view)(&t, &call->x, K(GIVEN));
        t.y = K(weighted_view)(&t, &call->y, K(WRITTEN));
        FOR_WINDOW(call, od, oh, ow) {
            K(store)(t.y.data + K(view_offset)(t.y, od, oh, ow), K(detail)(call, &t, &s, od, oh, ow, t.scratch).y);
            if (cnn_stop_after(&left, call->cells * LANES)) return;
        }
        K(unpack_weighted)(&t, &call->y, t.y);
    }
}

ALWAYS_INLINE void K(add_wide)(double *sum, vreal a) {
    for (int l = 0; l < LANES; l++) sum[l] += (double)a[l];
}

/* The gradient dm of the surroundings' value m of a window with n cells: into dx, and into dfilter where m is filtered. */
ALWAYS_INLINE void K(detail_mean_backward)(
    const cnn_weighted *call, const K(weighted_task) *t, const K(detail_numbers) *s, int64_t od, int64_t oh, int64_t ow,
    vreal dm, vreal n, double (*dfilter)[LANES]
) {
    if (!s->taps) {
        const vreal share = dm / n;
        FOR_CELL(call, od, oh, ow) K(add_at_cell)(t->dx, d, h, w, share);
        return;
    }
    FOR_TAP(call, od, oh, ow) {
        const int64_t d = K(under_filter)(call, 0, od, a), h = K(under_filter)(call, 1, oh, b),
                      w = K(under_filter)(call, 2, ow, c);
        if (d < 0 || h < 0 || w < 0) continue;
        K(add_wide)(dfilter[tap], dm * K(at_cell)(t->x, d, h, w));
        K(add_at_cell)(t->dx, d, h, w, dm * s->filter[tap]);
    }
}

static void K(detail_pool_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_weighted *call = description;
    int64_t left = CNN_PIECE;
    for (int64_t number = begin; number < end; number++) {
        K(weighted_task) t = K(weighted_begin)(call, number, scratch);
        const K(detail_numbers) s = K(detail_numbers_of)(call, &t);
        t.x = K(weighted_view)(&t, &call->x, K(GIVEN));
        t.dy = K(weighted_view)(&t, &call->dy, K(GIVEN));
        t.dx = K(weighted_view)(&t, &call->dx, K(CLEARED));
        const REAL *r = t.scratch, *log_rho = r + call->cells * LANES, *rho = log_rho + call->cells * LANES;
        double dalpha[LANES] = {0}, dpower[LANES] = {0}, dfilter[MOST_TAPS][LANES] = {{0}};
        FOR_WINDOW(call, od, oh, ow) {
            if (cnn_stop_after(&left, call->cells * LANES)) return;
            const K(detail_window) v = K(detail)(call, &t, &s, od, oh, ow, t.scratch);
            const vreal dy = K(at_cell)(t.dy, od, oh, ow) / v.total;
            vreal sum_h = {0}, sum_rho = {0}, sum_log = {0}, dm = {0};
            FOR_CELL(call, od, oh, ow) {
                const vreal p = K(load)(rho + cell * LANES), g = dy * (K(at_cell)(t.x, d, h, w) - v.y);
                sum_h += g;
                sum_rho += g * p;
                sum_log += K(select)(p == 0, (vreal){0}, g * p * K(load)(log_rho + cell * LANES));
            }
            K(add_wide)(dalpha, v.each * sum_h);
            K(add_wide)(dpower, sum_log);
            const vreal common = sum_rho / (v.n * v.mean_r), factor = 2 * s.power / v.M / v.M;
            FOR_CELL(call, od, oh, ow) {
                const vreal p = K(load)(rho + cell * LANES), x = K(at_cell)(t.x, d, h, w), far = x - v.mean;
                const vreal own = K(select)(p == 0, (vreal){0}, dy * (x - v.y) * p / K(load)(r + cell * LANES));
                vreal change = factor * far * (own - common);
                if (!call->symmetric) change = K(select)(far < 0, (vreal){0}, change);
                dm -= change;
                K(add_at_cell)(t.dx, d, h, w, dy * (v.each + p) + change);
            }
            K(detail_mean_backward)(call, &t, &s, od, oh, ow, dm, v.n, dfilter);
        }
        K(unpack_weighted)(&t, &call->dx, t.dx);
        for (int64_t l = 0; l < t.lanes; l++) {
            const int64_t plane = t.n * call->x.shape[1] + t.channel + l;
            call->dalpha[plane] = dalpha[l];
            call->dpower[plane] = dpower[l];
            for (int64_t i = 0; i < s.taps; i++) call->dfilter[plane * s.taps + i] = dfilter[i][l];
        }
    }
}
#undef FOR_WINDOW
#undef FOR_CELL
#undef FOR_TAP
#undef MOST_TAPS
