/* Pooling, LANES planes at a time: one loop over windows forward and one backward, for every strategy that reduces the cells of
 * a window one after the other. The reference implementations, with their formulas, are in the family's reference.pyx.
 *
 * A strategy is a few functions on vectors; a vector holds the same cell of LANES planes. With channels innermost such a vector
 * is contiguous in memory and is read in place. Other layouts, and channels that do not fill a vector, are packed into scratch
 * one band of windows at a time. So the loops never handle a partial vector, and no strategy depends on the layout.
 */
/* Cells summed in REAL before the partial sum is added to the float64 total. */
#define POOL_RUN 32

/* The state of the reduction of one window. */
typedef struct {
    vreal value;          /* the largest cell; the sum of the current run; backward: the gradient of a cell */
    vreal scale, inverse; /* Lp: powers are taken of |x| * scale * inverse; max: a NaN if there was one, and y backward */
    vreal largest;        /* Lp: the largest magnitude */
    vmask cell;           /* position of the selected cell */
    double total[LANES];  /* sum of the finished runs */
    double plain[LANES];  /* probability weighting: sum of u in the finished runs; that of the current run is in `inverse` */
} K(pool_window);

typedef struct {
    /* Forward: init, accumulate for each cell in row-major order, finalize. A strategy that needs a statistic of all cells
     * before it can accumulate (Lp: the largest magnitude) has a prepass over them, closed by prepass_end. flush moves partial
     * sums to the float64 totals; it is called after every POOL_RUN cells of windows that have more. */
    void (*init)(K(pool_window) *w, INTEGER first);
    void (*prepass)(K(pool_window) *w, vreal x);
    void (*prepass_end)(const cnn_pool *c, K(pool_window) *w);
    void (*accumulate)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell);
    void (*flush)(K(pool_window) *w);
    vreal (*finalize)(const cnn_pool *c, K(pool_window) *w, double n, double size);
    /* Backward: begin_backward, then cell_gradient for each cell: what is accumulated into dx. */
    void (*begin_backward)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size);
    vreal (*cell_gradient)(const cnn_pool *c, K(pool_window) *w, vreal x);
    int recomputes; /* whether backward repeats the reduction; it then runs on one vector at a time, to stay in registers */
    int one_vector; /* whether forward runs on one vector at a time too */
    int reads_x, reads_y; /* what begin_backward and cell_gradient read */
    int selects;          /* whether forward stores the position of the selected cell */
    int whole;            /* none of the above: a strategy of pool_whole.h, which takes the cells of a window together */
} K(pool_strategy);

struct K(whole_strategy);
static int K(whole_selects)(const struct K(whole_strategy) *whole);
static void K(whole_prepare)(
    const struct K(whole_strategy) *whole, const cnn_pool *c, REAL *packed, int64_t plane, int64_t planes, int64_t from,
    int64_t to
);
static void K(whole_begin)(const cnn_pool *c, REAL *scratch, int packed, int64_t plane, int64_t planes, int64_t vectors);
static void K(whole_end)(const cnn_pool *c, REAL *scratch, int packed, int64_t plane, int64_t planes, int64_t vectors);

/* ±1; 0 and NaN for themselves. */
ALWAYS_INLINE vreal K(sign)(vreal x) {
    const vmask signed_one = ((vmask)x & (vmask)K(splat)(-(REAL)0)) | (vmask)K(splat)(1);
    return K(select)((x > 0) | (x < 0), (vreal)signed_one, x);
}
ALWAYS_INLINE vreal K(square_root)(vreal x) {
    vreal y = {0};
    for (int l = 0; l < LANES; l++) y[l] = sizeof(REAL) == 4 ? (REAL)sqrtf((float)x[l]) : (REAL)sqrt((double)x[l]);
    return y;
}

/* ── Max ────────────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* x where it is NaN, y elsewhere. */
ALWAYS_INLINE vreal K(nan_or)(vreal x, vreal y) { return K(select)(x != x, x, y); }

ALWAYS_INLINE void K(max_init)(K(pool_window) *w, INTEGER first) {
    w->value = K(splat)(-INFINITY);
    w->scale = (vreal){0};
    w->cell = first - (vmask){0};
}
ALWAYS_INLINE void K(max_accumulate)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    w->value = K(select)(x > w->value, x, w->value);
    w->scale = K(nan_or)(x, w->scale); /* a NaN, if there was one */
}
ALWAYS_INLINE vreal K(max_finalize)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    return K(nan_or)(w->scale, w->value);
}
ALWAYS_INLINE void K(max_accumulate_indexed)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    const vmask stays = (w->value >= x) | (w->value != w->value); /* among equals, and among NaNs, the first wins */
    w->value = K(select)(stays, w->value, x);
    w->cell = (stays & w->cell) | (~stays & (cell - (vmask){0}));
}
ALWAYS_INLINE vreal K(max_finalize_indexed)(const cnn_pool *c, K(pool_window) *w, double n, double size) { return w->value; }

ALWAYS_INLINE void K(max_begin_backward)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    w->value = dy;
    w->scale = y;
}
/* The first cell equal to y takes dy and leaves 0 for the others. If there is a NaN, y is the first one. */
ALWAYS_INLINE vreal K(taken)(K(pool_window) *w, vmask hit) {
    const vmask taken = hit & (vmask)w->value;
    w->value = (vreal)((vmask)w->value ^ taken);
    return (vreal)taken;
}
ALWAYS_INLINE vreal K(max_cell_gradient)(const cnn_pool *c, K(pool_window) *w, vreal x) {
    return K(taken)(w, (x == w->scale) | (x != x));
}

static const K(pool_strategy) K(pool_max) = {
    .init = K(max_init),
    .accumulate = K(max_accumulate),
    .finalize = K(max_finalize),
    .begin_backward = K(max_begin_backward),
    .cell_gradient = K(max_cell_gradient),
    .reads_x = 1,
    .reads_y = 1,
};
static const K(pool_strategy) K(pool_max_indexed) = {
    .init = K(max_init),
    .accumulate = K(max_accumulate_indexed),
    .finalize = K(max_finalize_indexed),
    .selects = 1,
};

/* ── Sum and average ────────────────────────────────────────────────────────────────────────────────────────────────── */

ALWAYS_INLINE void K(sum_init)(K(pool_window) *w, INTEGER first) {
    w->value = (vreal){0};
    for (int l = 0; l < LANES; l++) w->total[l] = 0;
}
ALWAYS_INLINE void K(sum_accumulate)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) { w->value += x; }
ALWAYS_INLINE void K(sum_flush)(K(pool_window) *w) {
    for (int l = 0; l < LANES; l++) w->total[l] += w->value[l];
    w->value = (vreal){0};
}
ALWAYS_INLINE vreal K(quotient)(const cnn_pool *c, K(pool_window) *w, double divisor) {
    if (c->cells <= POOL_RUN) return w->value / (REAL)divisor;
    vreal y = {0};
    for (int l = 0; l < LANES; l++) y[l] = (REAL)((w->total[l] + w->value[l]) / divisor);
    return y;
}
ALWAYS_INLINE vreal K(sum_finalize)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    return K(quotient)(c, w, 1);
}
ALWAYS_INLINE void K(sum_begin_backward)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    w->value = dy;
}
ALWAYS_INLINE vreal K(sum_cell_gradient)(const cnn_pool *c, K(pool_window) *w, vreal x) { return w->value; }

ALWAYS_INLINE double K(divisor)(const cnn_pool *c, double n, double size) {
    const double count_include_pad = c->setting[0], divisor_override = c->setting[1];
    return divisor_override != 0 ? divisor_override : count_include_pad != 0 ? size : n;
}
ALWAYS_INLINE vreal K(avg_finalize)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    return K(quotient)(c, w, K(divisor)(c, n, size));
}
ALWAYS_INLINE void K(avg_begin_backward)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    w->value = dy / (REAL)K(divisor)(c, n, size);
}

static const K(pool_strategy) K(pool_sum) = {
    .init = K(sum_init),
    .accumulate = K(sum_accumulate),
    .flush = K(sum_flush),
    .finalize = K(sum_finalize),
    .begin_backward = K(sum_begin_backward),
    .cell_gradient = K(sum_cell_gradient),
};
static const K(pool_strategy) K(pool_avg) = {
    .init = K(sum_init),
    .accumulate = K(sum_accumulate),
    .flush = K(sum_flush),
    .finalize = K(avg_finalize),
    .begin_backward = K(avg_begin_backward),
    .cell_gradient = K(sum_cell_gradient),
};

/* ── Lp ── settings: p, mean ─────────────────────────────────────────────────────────────────────────────────────────────
 *
 * Powers are taken of u = |x| * scale * inverse: scale is a power of two that brings the largest magnitude m into [1, 8), and
 * inverse is the remaining factor of 1 / m (1 for p = 2). Neither overflows, and y = t / scale / inverse with
 * t = (1/q sum of u^p)^(1/p). For m = inf scale is 0: infinite cells have u = 1, the others 0. */

#define POOL_EXPONENT ((INTEGER)(sizeof(REAL) == 4 ? 0x7f800000ll : 0x7ff0000000000000ll))
#define POOL_ONE_EXPONENT ((INTEGER)1 << (sizeof(REAL) == 4 ? 23 : 52))
#define POOL_BIAS_EXPONENT (POOL_EXPONENT - POOL_ONE_EXPONENT) /* twice the bias: 1 / 2^e has the exponent bias - e */

ALWAYS_INLINE double K(lp_mean)(const cnn_pool *c, double n) { return c->setting[1] != 0 ? n : 1; }

ALWAYS_INLINE REAL K(lp_order)(const cnn_pool *c) { return (REAL)(c->setting[0] < 1e30 ? c->setting[0] : 1e30); }

ALWAYS_INLINE void K(lp_init)(K(pool_window) *w, INTEGER first) {
    K(sum_init)(w, first);
    w->largest = (vreal){0};
}
/* The largest magnitude: read as integers, the bit patterns are ordered like the values, and NaN is above them all. */
ALWAYS_INLINE void K(lp_find_largest)(K(pool_window) *w, vreal x) {
    const vreal u = K(magnitude)(x);
    w->largest = K(select)((vmask)u > (vmask)w->largest, u, w->largest);
}
ALWAYS_INLINE void K(lp_set_scale)(const cnn_pool *c, K(pool_window) *w) {
    const vmask bits = POOL_BIAS_EXPONENT - ((vmask)w->largest & POOL_EXPONENT);
    const vmask smallest = 2 * POOL_ONE_EXPONENT - (vmask){0};
    const vreal scale = (vreal)(((bits > smallest) & bits) | (~(bits > smallest) & smallest));
    w->scale = K(select)(w->largest == INFINITY, (vreal){0}, scale);
    w->inverse = K(splat)(1);
}
ALWAYS_INLINE vreal K(lp2_relative)(K(pool_window) *w, vreal x) {
    const vreal u = K(magnitude)(x);
    return K(select)(u == INFINITY, K(splat)(1), u * w->scale);
}
ALWAYS_INLINE void K(lp_set_scale_exactly)(const cnn_pool *c, K(pool_window) *w) {
    K(lp_set_scale)(c, w);
    const vreal scaled = w->largest * w->scale;
    w->inverse = K(select)(scaled > 0, 1 / scaled, K(splat)(1));
}
ALWAYS_INLINE vreal K(lp_relative)(K(pool_window) *w, vreal x) {
    const vreal u = K(magnitude)(x);
    /* The largest is exactly 1: a rounding error would be amplified p times. */
    return K(select)((u == w->largest) & (u > 0), K(splat)(1), u * w->scale * w->inverse);
}
/* y from t: t / 0 = inf if a cell is infinite; 0 if all cells are 0, whatever the scale. */
ALWAYS_INLINE vreal K(lp_unscaled)(K(pool_window) *w, vreal t) { return t / w->inverse / w->scale; }

ALWAYS_INLINE void K(lp1_accumulate)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    w->value += K(magnitude)(x);
}
ALWAYS_INLINE vreal K(lp1_finalize)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    return K(quotient)(c, w, K(lp_mean)(c, n));
}
ALWAYS_INLINE void K(lp1_begin_backward)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    w->value = dy / (REAL)K(lp_mean)(c, n);
}
ALWAYS_INLINE vreal K(lp1_cell_gradient)(const cnn_pool *c, K(pool_window) *w, vreal x) { return w->value * K(sign)(x); }

static const K(pool_strategy) K(pool_lp1) = {
    .init = K(sum_init),
    .accumulate = K(lp1_accumulate),
    .flush = K(sum_flush),
    .finalize = K(lp1_finalize),
    .begin_backward = K(lp1_begin_backward),
    .cell_gradient = K(lp1_cell_gradient),
    .reads_x = 1,
};

ALWAYS_INLINE void K(lp2_accumulate)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    const vreal u = K(lp2_relative)(w, x);
    w->value += u * u;
}
ALWAYS_INLINE vreal K(lp2_finalize)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    return K(lp_unscaled)(w, K(square_root)(K(quotient)(c, w, K(lp_mean)(c, n))));
}
ALWAYS_INLINE void K(lp2_begin_backward)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    const double q = K(lp_mean)(c, n);
    const vreal t = K(square_root)(K(quotient)(c, w, q));
    w->value = K(select)(t == 0, (vreal){0}, dy / (REAL)q / t);
}
ALWAYS_INLINE vreal K(lp2_cell_gradient)(const cnn_pool *c, K(pool_window) *w, vreal x) {
    return w->value * K(sign)(x) * K(lp2_relative)(w, x);
}

static const K(pool_strategy) K(pool_lp2) = {
    .init = K(lp_init),
    .prepass = K(lp_find_largest),
    .prepass_end = K(lp_set_scale),
    .accumulate = K(lp2_accumulate),
    .flush = K(sum_flush),
    .finalize = K(lp2_finalize),
    .begin_backward = K(lp2_begin_backward),
    .cell_gradient = K(lp2_cell_gradient),
    .recomputes = 1,
    .reads_x = 1,
};

/* u^p; small integer powers are products. */
ALWAYS_INLINE vreal K(lp_power)(vreal u, REAL p) {
    if (p > 8 || p != (REAL)(int)p) return K(power)(u, p);
    vreal product = u;
    for (int i = 1; i < (int)p; i++) product *= u;
    return product;
}
ALWAYS_INLINE void K(lp_accumulate)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    w->value += K(lp_power)(K(lp_relative)(w, x), K(lp_order)(c));
}
ALWAYS_INLINE vreal K(lp_finalize)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    return K(lp_unscaled)(w, K(power)(K(quotient)(c, w, K(lp_mean)(c, n)), (REAL)(1 / c->setting[0])));
}
ALWAYS_INLINE void K(lp_begin_backward)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    const double p = c->setting[0], q = K(lp_mean)(c, n);
    const vreal t = K(power)(K(quotient)(c, w, q), (REAL)((p - 1) / p)); /* (y / m)^(p - 1) */
    w->value = K(select)(t == 0, (vreal){0}, dy / (REAL)q / t);
}
ALWAYS_INLINE vreal K(lp_cell_gradient)(const cnn_pool *c, K(pool_window) *w, vreal x) {
    return w->value * K(sign)(x) * K(lp_power)(K(lp_relative)(w, x), K(lp_order)(c) - 1);
}

static const K(pool_strategy) K(pool_lp) = {
    .init = K(lp_init),
    .prepass = K(lp_find_largest),
    .prepass_end = K(lp_set_scale_exactly),
    .accumulate = K(lp_accumulate),
    .flush = K(sum_flush),
    .finalize = K(lp_finalize),
    .begin_backward = K(lp_begin_backward),
    .cell_gradient = K(lp_cell_gradient),
    .recomputes = 1,
    .one_vector = 1,
    .reads_x = 1,
};

/* p = inf: the first of the largest magnitudes; backward, with its sign. */
ALWAYS_INLINE void K(lp_max_accumulate)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    K(max_accumulate)(c, w, K(magnitude)(x), cell);
}
ALWAYS_INLINE void K(lp_max_begin_backward)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    K(max_begin_backward)(c, w, K(max_finalize)(c, w, n, size), dy, n, size);
}
ALWAYS_INLINE vreal K(lp_max_cell_gradient)(const cnn_pool *c, K(pool_window) *w, vreal x) {
    return K(taken)(w, (K(magnitude)(x) == w->scale) | (x != x)) * K(sign)(x);
}

static const K(pool_strategy) K(pool_lp_max) = {
    .init = K(max_init),
    .accumulate = K(lp_max_accumulate),
    .finalize = K(max_finalize),
    .begin_backward = K(lp_max_begin_backward),
    .cell_gradient = K(lp_max_cell_gradient),
    .recomputes = 1,
    .one_vector = 1,
    .reads_x = 1,
};

/* ── Probability weighting ──────────────────────────────────────────────────────────────────────────────────────────────
 *
 * y = sum of u^2 / sum of u / scale with u as in Lp for p = 2. It has no value where a cell is negative or NaN. */

ALWAYS_INLINE void K(weighted_init)(K(pool_window) *w, INTEGER first) {
    K(lp_init)(w, first);
    w->cell = (vmask){0}; /* lanes with such a cell */
    w->inverse = (vreal){0};
    for (int l = 0; l < LANES; l++) w->plain[l] = 0;
}
ALWAYS_INLINE void K(weighted_find_largest)(K(pool_window) *w, vreal x) {
    K(lp_find_largest)(w, x);
    w->cell |= ~(x >= 0);
}
ALWAYS_INLINE void K(weighted_set_scale)(const cnn_pool *c, K(pool_window) *w) {
    INTEGER refused = 0;
    for (int l = 0; l < LANES; l++) refused |= w->cell[l];
    if (refused) __atomic_store_n((int *)&c->refused, CNN_POOL_REFUSED_CELLS, __ATOMIC_RELAXED);
    K(lp_set_scale)(c, w);
    w->inverse = (vreal){0};
}
ALWAYS_INLINE void K(weighted_accumulate)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    const vreal u = K(lp2_relative)(w, x);
    w->value += u * u;
    w->inverse += u;
}
ALWAYS_INLINE void K(weighted_flush)(K(pool_window) *w) {
    K(sum_flush)(w);
    for (int l = 0; l < LANES; l++) w->plain[l] += w->inverse[l];
    w->inverse = (vreal){0};
}
/* The sum of u^2 divided by `sum`, that of u; both are 0 where all cells are 0. */
ALWAYS_INLINE vreal K(weighted_ratio)(const cnn_pool *c, K(pool_window) *w, vreal *sum) {
    vreal squares = w->value, plain = w->inverse;
    if (c->cells > POOL_RUN)
        for (int l = 0; l < LANES; l++) {
            squares[l] = (REAL)(w->total[l] + w->value[l]);
            plain[l] = (REAL)(w->plain[l] + w->inverse[l]);
        }
    *sum = plain;
    return K(select)(plain > 0, squares / plain, (vreal){0});
}
ALWAYS_INLINE vreal K(weighted_finalize)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    vreal sum;
    const vreal ratio = K(weighted_ratio)(c, w, &sum);
    return K(select)(sum > 0, ratio / w->scale, (vreal){0});
}
ALWAYS_INLINE void K(weighted_begin_backward)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    vreal sum;
    w->largest = K(weighted_ratio)(c, w, &sum);
    w->value = K(select)(sum > 0, dy / sum, (vreal){0});
}
ALWAYS_INLINE vreal K(weighted_cell_gradient)(const cnn_pool *c, K(pool_window) *w, vreal x) {
    return w->value * (2 * K(lp2_relative)(w, x) - w->largest);
}

static const K(pool_strategy) K(pool_weighted) = {
    .init = K(weighted_init),
    .prepass = K(weighted_find_largest),
    .prepass_end = K(weighted_set_scale),
    .accumulate = K(weighted_accumulate),
    .flush = K(weighted_flush),
    .finalize = K(weighted_finalize),
    .begin_backward = K(weighted_begin_backward),
    .cell_gradient = K(weighted_cell_gradient),
    .recomputes = 1,
    .one_vector = 1,
    .reads_x = 1,
};

/* ── The loops over windows ─────────────────────────────────────────────────────────────────────────────────────────── */

/* Part of an array whose cells are vectors: cell (d, h, w) begins at data[base + d stride[0] + h stride[1] + w stride[2]]. */
typedef struct {
    REAL *data;
    int64_t base, stride[3];
} K(pool_view);

ALWAYS_INLINE K(pool_view) K(view_vector)(K(pool_view) v, int64_t number) {
    v.base += number * LANES;
    return v;
}
ALWAYS_INLINE int64_t K(view_offset)(K(pool_view) v, int64_t d, int64_t h, int64_t w) {
    return v.base + d * v.stride[0] + h * v.stride[1] + w * v.stride[2];
}

enum { K(PREPASS), K(ACCUMULATE), K(BACKWARD) };

/* One pass of the strategy over a run of n adjacent cells, for V adjacent vectors. */
ALWAYS_INLINE void K(pool_run)(
    const int pass, const int V, const K(pool_strategy) *s, const cnn_pool *c, K(pool_window) *window, const REAL *cells,
    int64_t x_step, REAL *gradients, int64_t dx_step, int64_t position, int64_t position_step, int64_t n
) {
    const int reads = pass != K(BACKWARD) || s->reads_x;
    do {
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            const vreal cell = reads ? K(load)(cells + v * LANES) : (vreal){0};
            if (pass == K(PREPASS)) s->prepass(&window[v], cell);
            if (pass == K(ACCUMULATE)) s->accumulate(c, &window[v], cell, (INTEGER)position);
            if (pass == K(BACKWARD))
                K(store)(gradients + v * LANES, K(load)(gradients + v * LANES) + s->cell_gradient(c, &window[v], cell));
        }
        if (reads) cells += x_step;
        if (pass == K(BACKWARD)) gradients += dx_step;
        position += position_step;
    } while (--n);
}

/* One pass over the cells of window (od, oh, ow), in row-major order. */
ALWAYS_INLINE void K(pool_cells)(
    const int pass, const int V, const K(pool_strategy) *s, const cnn_pool *c, K(pool_window) *window, K(pool_view) x,
    K(pool_view) dx, int64_t od, int64_t oh, int64_t ow
) {
    const cnn_axis *D = &c->axis[0], *H = &c->axis[1], *W = &c->axis[2];
    const int64_t d = D->first[od], h = H->first[oh], w = W->first[ow], layers = D->count[od], rows = H->count[oh];
    const int64_t columns = W->count[ow], x_step = W->step * x.stride[2], dx_step = W->step * dx.stride[2];
    const int reads = pass != K(BACKWARD) || s->reads_x, writes = pass == K(BACKWARD);
    const int flushes = s->flush && c->cells > POOL_RUN && pass == K(ACCUMULATE);
    const REAL *cells = reads ? x.data + K(view_offset)(x, d, h, w) : NULL;
    REAL *gradients = writes ? dx.data + K(view_offset)(dx, d, h, w) : NULL;
    for (int64_t kd = 0; kd < layers; kd++)
        for (int64_t kh = 0; kh < rows; kh++) {
            const int64_t row = kd * D->step * x.stride[0] + kh * H->step * x.stride[1];
            const int64_t dx_row = kd * D->step * dx.stride[0] + kh * H->step * dx.stride[1];
            const int64_t position = ((d + kd * D->step) * H->input + h + kh * H->step) * W->input + w;
            int64_t k = 0;
            do {
                const int64_t n = flushes && columns - k > POOL_RUN ? POOL_RUN : columns - k;
                K(pool_run)(
                    pass, V, s, c, window, reads ? cells + row + k * x_step : NULL, x_step,
                    writes ? gradients + dx_row + k * dx_step : NULL, dx_step, position + k * W->step, W->step, n
                );
                if (flushes) {
#pragma GCC unroll 4
                    for (int v = 0; v < V; v++) s->flush(&window[v]);
                }
                k += n;
            } while (k < columns);
        }
}

/* Reduces a window up to, but not including, finalize. */
ALWAYS_INLINE void K(pool_accumulate_window)(
    const int V, const K(pool_strategy) *s, const cnn_pool *c, K(pool_window) *window, K(pool_view) x, int64_t od, int64_t oh,
    int64_t ow
) {
    const cnn_axis *D = &c->axis[0], *H = &c->axis[1], *W = &c->axis[2];
    const INTEGER first = (INTEGER)((D->first[od] * H->input + H->first[oh]) * W->input + W->first[ow]);
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) s->init(&window[v], first);
    if (s->prepass) {
        K(pool_cells)(K(PREPASS), V, s, c, window, x, x, od, oh, ow);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) s->prepass_end(c, &window[v]);
    }
    K(pool_cells)(K(ACCUMULATE), V, s, c, window, x, x, od, oh, ow);
}

ALWAYS_INLINE double K(window_count)(const cnn_pool *c, int64_t od, int64_t oh, int64_t ow) {
    return (double)(c->axis[0].count[od] * c->axis[1].count[oh] * c->axis[2].count[ow]);
}
ALWAYS_INLINE double K(window_extent)(const cnn_pool *c, int64_t od, int64_t oh, int64_t ow) {
    return (double)(c->axis[0].extent[od] * c->axis[1].extent[oh] * c->axis[2].extent[ow]);
}

/* y of the windows low <= o < high, for `groups` groups of V adjacent vectors. Windows are the outer loop, so that cells are
 * read in memory order. For a strategy that selects, index holds the start of the int64 positions of each plane. */
ALWAYS_INLINE void K(pool_forward_windows)(
    const int V, int64_t groups, const K(pool_strategy) *s, const cnn_pool *c, K(pool_view) x, K(pool_view) y,
    int64_t *const *index, const int64_t *low, const int64_t *high
) {
    for (int64_t od = low[0]; od < high[0]; od++)
        for (int64_t oh = low[1]; oh < high[1]; oh++)
            for (int64_t ow = low[2]; ow < high[2]; ow++) {
                const double n = K(window_count)(c, od, oh, ow), size = K(window_extent)(c, od, oh, ow);
                for (int64_t g = 0; g < groups; g++) {
                    K(pool_window) window[CNN_POOL_VECTORS];
                    K(pool_accumulate_window)(V, s, c, window, K(view_vector)(x, g * V), od, oh, ow);
                    REAL *value = y.data + K(view_offset)(y, od, oh, ow) + g * V * LANES;
#pragma GCC unroll 4
                    for (int v = 0; v < V; v++) K(store)(value + v * LANES, s->finalize(c, &window[v], n, size));
                    const int64_t *t = c->indices.stride, offset = od * t[2] + oh * t[3] + ow * t[4];
                    for (int l = 0; s->selects && l < V * LANES; l++)
                        if (index[g * V * LANES + l] != NULL)
                            index[g * V * LANES + l][offset] = window[l / LANES].cell[l % LANES];
                }
            }
}

/* ── Maxima by columns ──────────────────────────────────────────────────────────────────────────────────────────────────
 *
 * Adjacent windows share columns, and a column has the same maximum in all of them: columns are reduced first, then windows.
 * The maximum instruction loses NaN, the sum of all cells keeps it: where the sum is NaN (also because infinities cancel), the
 * row is repeated by the loop above. */

#define POOL_COLUMNS 40 /* columns of adjacent windows that are held at a time */

/* y of the windows [o, end) of a row, which cover `columns` cells from `first` on; returns 0 where a NaN may be among them. */
ALWAYS_INLINE int K(max_of_columns)(
    const int V, const cnn_pool *c, K(pool_view) x, K(pool_view) y, int64_t od, int64_t oh, int64_t o, int64_t end,
    int64_t first, int64_t columns
) {
    const cnn_axis *D = &c->axis[0], *H = &c->axis[1], *W = &c->axis[2];
    const int64_t layers = D->count[od], rows = H->count[oh], layer_step = D->step * x.stride[0],
                  row_step = H->step * x.stride[1];
    const REAL *cells = x.data + K(view_offset)(x, D->first[od], H->first[oh], first);
    vreal column[POOL_COLUMNS * CNN_POOL_VECTORS], sum = {0};
    for (int64_t w = 0; w < columns; w++, cells += x.stride[2]) {
        vreal *largest = column + w * V;
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) sum += largest[v] = K(load)(cells + v * LANES);
        for (int64_t d = 0; d < layers; d++)
            for (int64_t h = d == 0; h < rows; h++) {
                const REAL *cell = cells + d * layer_step + h * row_step;
#pragma GCC unroll 4
                for (int v = 0; v < V; v++) {
                    largest[v] = K(larger)(K(load)(cell + v * LANES), largest[v]);
                    sum += K(load)(cell + v * LANES);
                }
            }
    }
    for (; o < end; o++) {
        const vreal *window = column + (W->first[o] - first) * V;
        REAL *value = y.data + K(view_offset)(y, od, oh, o);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            vreal largest = window[v];
            for (int64_t w = 1; w < W->count[o]; w++) largest = K(larger)(window[w * V + v], largest);
            K(store)(value + v * LANES, largest);
        }
    }
    return !K(has_nan)(sum);
}

/* pool_forward_windows for the maximum, without dilation along the rows. */
ALWAYS_INLINE void K(pool_forward_windows_max)(
    const int V, int64_t groups, const cnn_pool *c, K(pool_view) x, K(pool_view) y, const int64_t *low, const int64_t *high
) {
    const cnn_axis *W = &c->axis[2];
    for (int64_t od = low[0]; od < high[0]; od++)
        for (int64_t oh = low[1]; oh < high[1]; oh++) {
            int64_t end;
            for (int64_t ow = low[2]; ow < high[2]; ow = end) {
                int64_t first = W->first[ow], last = first + W->count[ow];
                for (end = ow + 1; end < high[2]; end++) {
                    const int64_t from = W->first[end] < first ? W->first[end] : first;
                    const int64_t stop = W->first[end] + W->count[end] > last ? W->first[end] + W->count[end] : last;
                    if (stop - from > POOL_COLUMNS) break;
                    first = from, last = stop;
                }
                const int64_t part_low[3] = {od, oh, ow}, part_high[3] = {od + 1, oh + 1, end};
                for (int64_t g = 0; g < groups; g++) {
                    const K(pool_view) x_g = K(view_vector)(x, g * V), y_g = K(view_vector)(y, g * V);
                    if (last - first > POOL_COLUMNS || !K(max_of_columns)(V, c, x_g, y_g, od, oh, ow, end, first, last - first))
                        K(pool_forward_windows)(V, 1, &K(pool_max), c, x_g, y_g, NULL, part_low, part_high);
                }
            }
        }
}

/* Accumulates into dx the gradients of the cells of the windows low <= o < high; V and groups as in pool_forward_windows. */
ALWAYS_INLINE void K(pool_backward_windows)(
    const int V, int64_t groups, const K(pool_strategy) *s, const cnn_pool *c, K(pool_view) x, K(pool_view) y, K(pool_view) dy,
    K(pool_view) dx, const int64_t *low, const int64_t *high
) {
    for (int64_t od = low[0]; od < high[0]; od++)
        for (int64_t oh = low[1]; oh < high[1]; oh++)
            for (int64_t ow = low[2]; ow < high[2]; ow++) {
                const double n = K(window_count)(c, od, oh, ow), size = K(window_extent)(c, od, oh, ow);
                for (int64_t g = 0; g < groups; g++) {
                    const K(pool_view) x_g = K(view_vector)(x, g * V), dx_g = K(view_vector)(dx, g * V);
                    K(pool_window) window[CNN_POOL_VECTORS];
                    if (s->recomputes) K(pool_accumulate_window)(V, s, c, window, x_g, od, oh, ow);
                    const REAL *value = s->reads_y ? y.data + K(view_offset)(y, od, oh, ow) + g * V * LANES : NULL;
                    const REAL *share = dy.data + K(view_offset)(dy, od, oh, ow) + g * V * LANES;
#pragma GCC unroll 4
                    for (int v = 0; v < V; v++)
                        s->begin_backward(
                            c, &window[v], s->reads_y ? K(load)(value + v * LANES) : (vreal){0}, K(load)(share + v * LANES), n,
                            size
                        );
                    K(pool_cells)(K(BACKWARD), V, s, c, window, x_g, dx_g, od, oh, ow);
                }
            }
}

/* ── In place or packed ─────────────────────────────────────────────────────────────────────────────────────────────────
 *
 * The sliding axis c->slide is the first with more than one cell or window; the axes before it are trivial. A band is c->band
 * adjacent windows along it, with all windows of the axes after it; a slice is one cell along it. A strip (in place) is what a
 * band is to packed planes: the windows of one task. */

ALWAYS_INLINE K(pool_view) K(view_in_place)(const cnn_tensor *t, int64_t n, int64_t channel) {
    return (K(pool_view)){t->data, n * t->stride[0] + channel * t->stride[1], {t->stride[2], t->stride[3], t->stride[4]}};
}

/* The packed slices of t from slice `from` on. */
ALWAYS_INLINE K(pool_view) K(view_packed)(const cnn_pool *c, REAL *data, const cnn_tensor *t, int64_t from) {
    K(pool_view) v = {data, 0, {t->shape[3] * t->shape[4] * LANES, t->shape[4] * LANES, LANES}};
    v.base = -from * v.stride[c->slide];
    return v;
}

/* Vectors in a slice. */
ALWAYS_INLINE int64_t K(pool_slice)(const cnn_pool *c, const cnn_tensor *t) {
    int64_t cells = 1;
    for (int axis = c->slide + 1; axis < 3; axis++) cells *= t->shape[axis + 2];
    return cells;
}

/* Copies slices from <= i < to of `planes` planes, the first being number `plane` of those that are packed, into `packed` or
 * out of it. */
static void K(pool_copy)(
    const cnn_pool *c, const cnn_tensor *t, REAL *packed, int64_t plane, int64_t planes, int64_t from, int64_t to, int out
) {
    const int64_t channels = t->shape[1] - c->in_place;
    int64_t low[3] = {0, 0, 0}, high[3] = {t->shape[2], t->shape[3], t->shape[4]};
    low[c->slide] = from;
    high[c->slide] = to;
    /* Rows that are contiguous in memory are copied as one. */
    int64_t columns = high[2] - low[2], rows = high[1] - low[1], layers = high[0] - low[0];
    if (rows > 1 && t->stride[3] == columns * t->stride[4]) columns *= rows, rows = 1;
    if (layers > 1 && rows == 1 && t->stride[2] == columns * t->stride[4]) columns *= layers, layers = 1;
    int64_t run;
    for (int64_t lane = 0; lane < planes; lane += run) {
        const int64_t n = (plane + lane) / channels, channel = (plane + lane) % channels;
        run = planes - lane < channels - channel ? planes - lane : channels - channel;
        REAL *array = (REAL *)t->data + n * t->stride[0] + (c->in_place + channel) * t->stride[1] + low[0] * t->stride[2]
            + low[1] * t->stride[3] + low[2] * t->stride[4];
        for (int64_t d = 0; d < layers; d++)
            for (int64_t h = 0; h < rows; h++) {
                REAL *line = array + d * t->stride[2] + h * t->stride[3],
                     *vectors = packed + lane + (d * rows + h) * columns * LANES;
                if (out) K(transfer)(line, t->stride[1], t->stride[4], vectors, 1, LANES, run, columns);
                else K(transfer)(vectors, 1, LANES, line, t->stride[1], t->stride[4], run, columns);
            }
    }
}

static void K(pool_pack)(
    const cnn_pool *c, const cnn_tensor *t, REAL *packed, int64_t plane, int64_t planes, int64_t from, int64_t to
) {
    if (planes < LANES) K(fill_zero)(packed, (to - from) * K(pool_slice)(c, t) * LANES); /* lanes without a plane */
    K(pool_copy)(c, t, packed, plane, planes, from, to, 0);
}

/* Zeros slices from <= i < to of dx, in place. */
static void K(pool_clear)(const cnn_pool *c, K(pool_view) v, const cnn_tensor *t, int64_t from, int64_t to, int64_t channels) {
    int64_t low[3] = {0, 0, 0}, high[3] = {t->shape[2], t->shape[3], t->shape[4]};
    low[c->slide] = from;
    high[c->slide] = to;
    for (int64_t d = low[0]; d < high[0]; d++)
        for (int64_t h = low[1]; h < high[1]; h++)
            for (int64_t w = low[2]; w < high[2]; w++) K(fill_zero)(v.data + K(view_offset)(v, d, h, w), channels);
}

/* The cells from <= i < to that the windows first <= o < last cover along the sliding axis. */
static void K(pool_span)(const cnn_pool *c, int64_t first, int64_t last, int64_t *from, int64_t *to) {
    const cnn_axis *axis = &c->axis[c->slide];
    *from = axis->input;
    *to = 0;
    for (int64_t o = first; o < last; o++) {
        const int64_t end = axis->first[o] + (axis->count[o] - 1) * axis->step + 1;
        if (axis->first[o] < *from) *from = axis->first[o];
        if (end > *to) *to = end;
    }
}

/* Tasks in place are images × strips of the sliding axis × groups of vectors, numbered in that order. */
typedef struct {
    int64_t n, strip, channel, vectors;
} K(pool_place);

ALWAYS_INLINE K(pool_place) K(pool_place_of)(const cnn_pool *c, int64_t task, int64_t strips) {
    const int64_t all = c->in_place / LANES, groups = (all + c->vectors - 1) / c->vectors;
    const int64_t group = task % groups * c->vectors;
    return (K(pool_place)){
        task / groups / strips, task / groups % strips, group * LANES, all - group < c->vectors ? all - group : c->vectors
    };
}

static void K(whole_forward_windows)(
    const struct K(whole_strategy) *whole, const cnn_pool *c, REAL *scratch, K(pool_view) x, K(pool_view) y,
    int64_t *const *index, int packed, int64_t plane, int64_t planes, int64_t vectors, const int64_t *low, const int64_t *high
);
static void K(whole_backward_windows)(
    const struct K(whole_strategy) *whole, const cnn_pool *c, REAL *scratch, K(pool_view) x, K(pool_view) y, K(pool_view) dy,
    K(pool_view) dx, int64_t planes, int64_t vectors, const int64_t *low, const int64_t *high
);

ALWAYS_INLINE void K(pool_forward_tasks)(
    const K(pool_strategy) *s, const struct K(whole_strategy) *whole, const cnn_pool *c, int64_t begin, int64_t end,
    REAL *scratch
) {
    const int64_t windows = c->axis[c->slide].output;
    REAL *const packed_x = scratch, *const packed_y = packed_x + c->span * K(pool_slice)(c, &c->x) * LANES;
    for (int64_t task = begin; task < end; task++) {
        const int packed = task >= c->tasks_in_place;
        int64_t low[3] = {0, 0, 0}, high[3] = {c->axis[0].output, c->axis[1].output, c->axis[2].output};
        int64_t *index[CNN_POOL_VECTORS * LANES];
        int64_t plane = 0, planes, channels, vectors = 1, from, to;
        K(pool_view) x, y;
        if (packed) {
            const int64_t bands = (windows + c->band - 1) / c->band, number = task - c->tasks_in_place;
            channels = c->x.shape[1] - c->in_place;
            plane = number / bands * LANES;
            planes = c->x.shape[0] * channels - plane < LANES ? c->x.shape[0] * channels - plane : LANES;
            low[c->slide] = number % bands * c->band;
            high[c->slide] = windows - low[c->slide] < c->band ? windows : low[c->slide] + c->band;
            K(pool_span)(c, low[c->slide], high[c->slide], &from, &to);
            K(pool_pack)(c, &c->x, packed_x, plane, planes, from, to);
            if (s->whole) K(whole_prepare)(whole, c, packed_x, plane, planes, from, to);
            x = K(view_packed)(c, packed_x, &c->x, from);
            y = K(view_packed)(c, packed_y, &c->y, low[c->slide]);
        } else {
            const K(pool_place) at = K(pool_place_of)(c, task, c->strips);
            low[c->slide] = at.strip * c->strip;
            high[c->slide] = windows - low[c->slide] < c->strip ? windows : low[c->slide] + c->strip;
            channels = c->x.shape[1];
            vectors = at.vectors;
            planes = vectors * LANES;
            plane = at.n * channels + at.channel;
            x = K(view_in_place)(&c->x, at.n, at.channel);
            y = K(view_in_place)(&c->y, at.n, at.channel);
        }
        if (s->selects || (s->whole && K(whole_selects)(whole) && c->indices.data != NULL))
            for (int64_t l = 0; l < vectors * LANES; l++) {
                const int64_t n = (plane + l) / channels, channel = (plane + l) % channels + (packed ? c->in_place : 0);
                index[l] = l < planes ? (int64_t *)c->indices.data + n * c->indices.stride[0] + channel * c->indices.stride[1]
                                      : NULL;
            }
        const int64_t wide = s->one_vector ? 0 : vectors / CNN_POOL_VECTORS, lone = vectors - wide * CNN_POOL_VECTORS;
        const K(pool_view) x_rest = K(view_vector)(x, wide * CNN_POOL_VECTORS),
                           y_rest = K(view_vector)(y, wide * CNN_POOL_VECTORS);
        if (s->whole) {
            K(whole_begin)(c, scratch, packed, plane, planes, vectors);
            K(whole_forward_windows)(whole, c, scratch, x, y, index, packed, plane, planes, vectors, low, high);
        } else if (c->axis[2].step == 1 && s == &K(pool_max)) {
            if (wide) K(pool_forward_windows_max)(CNN_POOL_VECTORS, wide, c, x, y, low, high);
            if (lone) K(pool_forward_windows_max)(1, lone, c, x_rest, y_rest, low, high);
        } else {
            if (wide) K(pool_forward_windows)(CNN_POOL_VECTORS, wide, s, c, x, y, index, low, high);
            if (lone)
                K(pool_forward_windows)(1, lone, s, c, x_rest, y_rest, index + wide * CNN_POOL_VECTORS * LANES, low, high);
        }
        if (packed) K(pool_copy)(c, &c->y, packed_y, plane, planes, low[c->slide], high[c->slide], 1);
    }
}

ALWAYS_INLINE void K(pool_forward)(const K(pool_strategy) *s, const cnn_pool *c, int64_t begin, int64_t end, REAL *scratch) {
    K(pool_forward_tasks)(s, NULL, c, begin, end, scratch);
}

/* Gradients of packed planes are accumulated in scratch: `data` holds slices held <= i < reached; earlier ones are in dx. */
typedef struct {
    REAL *data;
    int64_t plane, planes, held, reached;
} K(pool_gradients);

/* No later window covers a slice before `from`: those are written to dx, zeros where no window was; the rest moves up. */
static void K(pool_release)(const cnn_pool *c, K(pool_gradients) *g, int64_t from) {
    const int64_t slice = K(pool_slice)(c, &c->dx) * LANES;
    const int64_t whole = g->reached < from ? g->reached : from;
    if (whole > g->held) K(pool_copy)(c, &c->dx, g->data, g->plane, g->planes, g->held, whole, 1);
    if (g->reached > from)
        memmove(g->data, g->data + (from - g->held) * slice, (size_t)((g->reached - from) * slice) * sizeof(REAL));
    if (c->accumulate && g->reached < from) g->reached = from;
    while (g->reached < from) {
        const int64_t next = from - g->reached < c->span ? from : g->reached + c->span;
        K(fill_zero)(g->data, (next - g->reached) * slice);
        K(pool_copy)(c, &c->dx, g->data, g->plane, g->planes, g->reached, next, 1);
        g->reached = next;
    }
    g->held = from;
}

/* The arrays of a backward task. */
typedef struct {
    K(pool_view) x, y, dy, dx;
} K(pool_views);

static K(pool_views) K(pool_views_in_place)(const cnn_pool *c, K(pool_place) at) {
    return (K(pool_views)){
        K(view_in_place)(&c->x, at.n, at.channel), K(view_in_place)(&c->y, at.n, at.channel),
        K(view_in_place)(&c->dy, at.n, at.channel), K(view_in_place)(&c->dx, at.n, at.channel)
    };
}

/* Packs what the windows first <= o < last, which cover the cells from <= i < to of the sliding axis, read; in dx, slices that
 * no window has reached before are zeroed or, to accumulate, packed too. */
static K(pool_views) K(pool_pack_band)(
    const K(pool_strategy) *s, const cnn_pool *c, K(pool_gradients) *g, int64_t first, int64_t last, int64_t from, int64_t to
) {
    const int64_t slice = K(pool_slice)(c, &c->dx) * LANES, y_slice = K(pool_slice)(c, &c->dy) * LANES;
    REAL *const x = g->data + c->span * slice, *const dy = x + c->span * slice, *const y = dy + c->band * y_slice;
    K(pool_release)(c, g, from);
    if (to > g->reached) {
        REAL *const dx = g->data + (g->reached - from) * slice;
        if (c->accumulate) K(pool_pack)(c, &c->dx, dx, g->plane, g->planes, g->reached, to);
        else K(fill_zero)(dx, (to - g->reached) * slice);
        g->reached = to;
    }
    K(pool_pack)(c, &c->dy, dy, g->plane, g->planes, first, last);
    if (s->reads_y) K(pool_pack)(c, &c->y, y, g->plane, g->planes, first, last);
    if (s->reads_x) K(pool_pack)(c, &c->x, x, g->plane, g->planes, from, to);
    return (K(pool_views)){
        K(view_packed)(c, x, &c->x, from), K(view_packed)(c, y, &c->y, first), K(view_packed)(c, dy, &c->dy, first),
        K(view_packed)(c, g->data, &c->dx, from)
    };
}

/* The windows low <= o < high of `vectors` vectors: in groups of CNN_POOL_VECTORS, the rest one by one. */
ALWAYS_INLINE void K(pool_backward_vectors)(
    const K(pool_strategy) *s, const cnn_pool *c, const K(pool_views) *at, int64_t vectors, const int64_t *low,
    const int64_t *high
) {
    const int64_t wide = s->recomputes ? 0 : vectors / CNN_POOL_VECTORS, done = wide * CNN_POOL_VECTORS;
    if (wide) K(pool_backward_windows)(CNN_POOL_VECTORS, wide, s, c, at->x, at->y, at->dy, at->dx, low, high);
    if (vectors > done)
        K(pool_backward_windows)(
            1, vectors - done, s, c, K(view_vector)(at->x, done), K(view_vector)(at->y, done), K(view_vector)(at->dy, done),
            K(view_vector)(at->dx, done), low, high
        );
}

/* A task takes its planes from the first band to the last. Windows of several bands may overlap in a slice of dx: it is zeroed
 * before the first of them and, if packed, copied out after the last. */
ALWAYS_INLINE void K(pool_backward_tasks)(
    const K(pool_strategy) *s, const struct K(whole_strategy) *whole, const cnn_pool *c, int64_t begin, int64_t end,
    REAL *scratch
) {
    const int64_t windows = c->axis[c->slide].output, extent = c->axis[c->slide].input;
    int64_t left = CNN_PIECE;
    for (int64_t task = begin; task < end; task++) {
        const int packed = task >= c->tasks_in_place;
        const int64_t band = packed ? c->band : 1;
        int64_t low[3] = {0, 0, 0}, high[3] = {c->axis[0].output, c->axis[1].output, c->axis[2].output};
        int64_t vectors = 1, cleared = 0, plane, planes = LANES;
        K(pool_gradients) g = {scratch, 0, 0, 0, 0};
        K(pool_views) at = {{0}, {0}, {0}, {0}};
        if (packed) {
            g.plane = plane = (task - c->tasks_in_place) * LANES;
            planes = c->dx.shape[0] * (c->dx.shape[1] - c->in_place) - plane;
            g.planes = planes = planes < LANES ? planes : LANES;
        } else {
            const K(pool_place) place = K(pool_place_of)(c, task, 1);
            vectors = place.vectors;
            plane = place.n * c->dx.shape[1] + place.channel;
            at = K(pool_views_in_place)(c, place);
        }
        if (s->whole) K(whole_begin)(c, scratch, packed, plane, planes, vectors);
        for (int64_t o = 0; o < windows; o = high[c->slide]) {
            int64_t from, to;
            low[c->slide] = o;
            high[c->slide] = windows - o < band ? windows : o + band;
            K(pool_span)(c, o, high[c->slide], &from, &to);
            if (packed) {
                at = K(pool_pack_band)(s, c, &g, o, high[c->slide], from, to);
            } else if (to > cleared && !c->accumulate) {
                K(pool_clear)(c, at.dx, &c->dx, cleared, to, vectors * LANES);
                cleared = to;
            }
            if (s->whole) K(whole_backward_windows)(whole, c, scratch, at.x, at.y, at.dy, at.dx, planes, vectors, low, high);
            else K(pool_backward_vectors)(s, c, &at, vectors, low, high);
            if (cnn_stop_after(&left, (to - from) * K(pool_slice)(c, &c->dx) * vectors * LANES)) return;
        }
        if (s->whole) K(whole_end)(c, scratch, packed, plane, planes, vectors);
        if (packed) K(pool_release)(c, &g, extent);
        else if (!c->accumulate) K(pool_clear)(c, at.dx, &c->dx, cleared, extent, vectors * LANES);
    }
}

ALWAYS_INLINE void K(pool_backward)(const K(pool_strategy) *s, const cnn_pool *c, int64_t begin, int64_t end, REAL *scratch) {
    K(pool_backward_tasks)(s, NULL, c, begin, end, scratch);
}

/* ── Tasks ──────────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void K(max_pool_forward)(void *call, int64_t begin, int64_t end, void *scratch) {
    if (((const cnn_pool *)call)->indices.data != NULL) K(pool_forward)(&K(pool_max_indexed), call, begin, end, scratch);
    else K(pool_forward)(&K(pool_max), call, begin, end, scratch);
}
static void K(max_pool_backward)(void *call, int64_t begin, int64_t end, void *scratch) {
    K(pool_backward)(&K(pool_max), call, begin, end, scratch);
}

static void K(sum_pool_forward)(void *call, int64_t begin, int64_t end, void *scratch) {
    K(pool_forward)(&K(pool_sum), call, begin, end, scratch);
}
static void K(sum_pool_backward)(void *call, int64_t begin, int64_t end, void *scratch) {
    K(pool_backward)(&K(pool_sum), call, begin, end, scratch);
}

static void K(avg_pool_forward)(void *call, int64_t begin, int64_t end, void *scratch) {
    K(pool_forward)(&K(pool_avg), call, begin, end, scratch);
}
static void K(avg_pool_backward)(void *call, int64_t begin, int64_t end, void *scratch) {
    K(pool_backward)(&K(pool_avg), call, begin, end, scratch);
}

static void K(probability_weighted_pool_forward)(void *call, int64_t begin, int64_t end, void *scratch) {
    K(pool_forward)(&K(pool_weighted), call, begin, end, scratch);
}
static void K(probability_weighted_pool_backward)(void *call, int64_t begin, int64_t end, void *scratch) {
    K(pool_backward)(&K(pool_weighted), call, begin, end, scratch);
}

static void K(lp_pool_forward)(void *call, int64_t begin, int64_t end, void *scratch) {
    const double p = ((const cnn_pool *)call)->setting[0];
    if (p == 1) K(pool_forward)(&K(pool_lp1), call, begin, end, scratch);
    else if (p == 2) K(pool_forward)(&K(pool_lp2), call, begin, end, scratch);
    else if (p == INFINITY) K(pool_forward)(&K(pool_lp_max), call, begin, end, scratch);
    else K(pool_forward)(&K(pool_lp), call, begin, end, scratch);
}
static void K(lp_pool_backward)(void *call, int64_t begin, int64_t end, void *scratch) {
    const double p = ((const cnn_pool *)call)->setting[0];
    if (p == 1) K(pool_backward)(&K(pool_lp1), call, begin, end, scratch);
    else if (p == 2) K(pool_backward)(&K(pool_lp2), call, begin, end, scratch);
    else if (p == INFINITY) K(pool_backward)(&K(pool_lp_max), call, begin, end, scratch);
    else K(pool_backward)(&K(pool_lp), call, begin, end, scratch);
}
