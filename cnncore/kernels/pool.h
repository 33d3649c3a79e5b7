/* Pooling, LANES planes at a time: one loop over windows forward and one backward, for every strategy whose value comes from
 * visiting the cells of a window in order. Definitions with their formulas: ops/pool.pyx.
 *
 * A strategy is a few functions on vectors that hold the same cell of LANES planes. Where channels are innermost such a vector
 * lies in memory as it is; planes of any other layout, and the channels that fill no whole vector, are packed band by band
 * into scratch so that they do. The loops never see a part of a vector, and no strategy sees a layout.
 */
#define POOL_INLINE static inline __attribute__((always_inline))

/* Cells whose sum is taken in REAL before it goes to the float64 total. */
#define POOL_RUN 32

/* What a window has gathered so far. */
typedef struct {
    vreal value;            /* the largest cell; the sum of the present run; backward: what a cell gets */
    vreal scale, inverse;   /* Lp: powers are of |x| scale inverse; max: the NaN met, and y backward */
    vreal largest;          /* Lp: the largest magnitude */
    vmask cell;             /* position of the selected cell */
    double total[LANES];    /* sum of the finished runs */
    double plain[LANES];    /* probability weighting: sum of u in the finished runs; that of the present run is `inverse` */
} K(pool_window);

typedef struct {
    /* Forward: start, then step for each cell in order, then finish. A strategy that must know all cells before the first
     * step has look and looked: a pass of its own. pause is called after each run of POOL_RUN cells where windows have more. */
    void (*start)(K(pool_window) *w, INTEGER first);
    void (*look)(K(pool_window) *w, vreal x);
    void (*looked)(const cnn_pool *c, K(pool_window) *w);
    void (*step)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell);
    void (*pause)(K(pool_window) *w);
    vreal (*finish)(const cnn_pool *c, K(pool_window) *w, double n, double size);
    /* Backward: share, then spread for each cell: what is added to its gradient. */
    void (*share)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size);
    vreal (*spread)(const cnn_pool *c, K(pool_window) *w, vreal x);
    int visits;             /* whether backward needs the forward pass again: it then has no registers for vectors side by side */
    int narrow;             /* whether forward has none either */
    int reads_x, reads_y;   /* what spread and share read */
    int selects;            /* whether forward leaves the position of a cell */
    int whole;              /* none of the above: a strategy of pool_whole.h takes the cells of a window together */
} K(pool_strategy);

struct K(whole_strategy);
static int K(whole_selects)(const struct K(whole_strategy) *whole);
static void K(whole_prepare)(
    const struct K(whole_strategy) *whole, const cnn_pool *c, REAL *packed, int64_t plane, int64_t planes, int64_t from, int64_t to
);
static void K(whole_begin)(const cnn_pool *c, REAL *scratch, int packed, int64_t plane, int64_t planes, int64_t vectors);
static void K(whole_end)(const cnn_pool *c, REAL *scratch, int packed, int64_t plane, int64_t planes, int64_t vectors);

/* ±1; 0 and NaN for themselves. */
POOL_INLINE vreal K(sign)(vreal x) {
    const vmask signed_one = ((vmask)x & (vmask)K(splat)(-(REAL)0)) | (vmask)K(splat)(1);
    return K(select)((x > 0) | (x < 0), (vreal)signed_one, x);
}
POOL_INLINE vreal K(square_root)(vreal x) {
    vreal y = {0};
    for (int l = 0; l < LANES; l++) y[l] = sizeof(REAL) == 4 ? (REAL)sqrtf((float)x[l]) : (REAL)sqrt((double)x[l]);
    return y;
}

/* ── Max ────────────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* x where it is NaN, y elsewhere. */
POOL_INLINE vreal K(nan_or)(vreal x, vreal y) { return K(select)(x != x, x, y); }

POOL_INLINE void K(max_start)(K(pool_window) *w, INTEGER first) {
    w->value = K(splat)(-INFINITY);
    w->scale = (vreal){0};
    w->cell = first - (vmask){0};
}
POOL_INLINE void K(max_step)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    w->value = K(select)(x > w->value, x, w->value);
    w->scale = K(nan_or)(x, w->scale);      /* a NaN, if there is one */
}
POOL_INLINE vreal K(max_finish)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    return K(nan_or)(w->scale, w->value);
}
POOL_INLINE void K(max_step_indexed)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    const vmask stays = (w->value >= x) | (w->value != w->value);   /* of equals and of NaNs the first */
    w->value = K(select)(stays, w->value, x);
    w->cell = (stays & w->cell) | (~stays & (cell - (vmask){0}));
}
POOL_INLINE vreal K(max_finish_indexed)(const cnn_pool *c, K(pool_window) *w, double n, double size) { return w->value; }

POOL_INLINE void K(max_share)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    w->value = dy;
    w->scale = y;
}
/* The first cell that is y takes dy, and 0 is left for the others. Where there is a NaN, y is the first one. */
POOL_INLINE vreal K(taken)(K(pool_window) *w, vmask hit) {
    const vmask taken = hit & (vmask)w->value;
    w->value = (vreal)((vmask)w->value ^ taken);
    return (vreal)taken;
}
POOL_INLINE vreal K(max_spread)(const cnn_pool *c, K(pool_window) *w, vreal x) {
    return K(taken)(w, (x == w->scale) | (x != x));
}

static const K(pool_strategy) K(pool_max) = {
    .start = K(max_start), .step = K(max_step), .finish = K(max_finish),
    .share = K(max_share), .spread = K(max_spread), .reads_x = 1, .reads_y = 1,
};
static const K(pool_strategy) K(pool_max_indexed) = {
    .start = K(max_start), .step = K(max_step_indexed), .finish = K(max_finish_indexed), .selects = 1,
};

/* ── Sum and average ────────────────────────────────────────────────────────────────────────────────────────────────── */

POOL_INLINE void K(sum_start)(K(pool_window) *w, INTEGER first) {
    w->value = (vreal){0};
    for (int l = 0; l < LANES; l++) w->total[l] = 0;
}
POOL_INLINE void K(sum_step)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) { w->value += x; }
POOL_INLINE void K(sum_pause)(K(pool_window) *w) {
    for (int l = 0; l < LANES; l++) w->total[l] += w->value[l];
    w->value = (vreal){0};
}
POOL_INLINE vreal K(quotient)(const cnn_pool *c, K(pool_window) *w, double divisor) {
    if (c->cells <= POOL_RUN) return w->value / (REAL)divisor;
    vreal y = {0};
    for (int l = 0; l < LANES; l++) y[l] = (REAL)((w->total[l] + w->value[l]) / divisor);
    return y;
}
POOL_INLINE vreal K(sum_finish)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    return K(quotient)(c, w, 1);
}
POOL_INLINE void K(sum_share)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    w->value = dy;
}
POOL_INLINE vreal K(sum_spread)(const cnn_pool *c, K(pool_window) *w, vreal x) { return w->value; }

POOL_INLINE double K(divisor)(const cnn_pool *c, double n, double size) {
    const double count_include_pad = c->setting[0], divisor_override = c->setting[1];
    return divisor_override != 0 ? divisor_override : count_include_pad != 0 ? size : n;
}
POOL_INLINE vreal K(avg_finish)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    return K(quotient)(c, w, K(divisor)(c, n, size));
}
POOL_INLINE void K(avg_share)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    w->value = dy / (REAL)K(divisor)(c, n, size);
}

static const K(pool_strategy) K(pool_sum) = {
    .start = K(sum_start), .step = K(sum_step), .pause = K(sum_pause), .finish = K(sum_finish),
    .share = K(sum_share), .spread = K(sum_spread),
};
static const K(pool_strategy) K(pool_avg) = {
    .start = K(sum_start), .step = K(sum_step), .pause = K(sum_pause), .finish = K(avg_finish),
    .share = K(avg_share), .spread = K(sum_spread),
};

/* ── Lp ── setting: p, mean ─────────────────────────────────────────────────────────────────────────────────────────────
 *
 * Powers are of u = |x| scale inverse: scale is a power of two that brings the largest magnitude m into [1, 8), and inverse
 * the rest of 1 / m, 1 for p = 2. Neither overflows, and y = t / scale / inverse with t = (1/q sum of u^p)^(1/p). For m = inf
 * scale is 0: infinite cells have u = 1, the others 0. */

#define POOL_EXPONENT ((INTEGER)(sizeof(REAL) == 4 ? 0x7f800000ll : 0x7ff0000000000000ll))
#define POOL_ONE_EXPONENT ((INTEGER)1 << (sizeof(REAL) == 4 ? 23 : 52))
#define POOL_BIAS_EXPONENT (POOL_EXPONENT - POOL_ONE_EXPONENT)     /* twice the bias: 1 / 2^e has the exponent bias - e */

POOL_INLINE double K(lp_mean)(const cnn_pool *c, double n) { return c->setting[1] != 0 ? n : 1; }

POOL_INLINE REAL K(lp_order)(const cnn_pool *c) { return (REAL)(c->setting[0] < 1e30 ? c->setting[0] : 1e30); }

POOL_INLINE void K(lp_start)(K(pool_window) *w, INTEGER first) {
    K(sum_start)(w, first);
    w->largest = (vreal){0};
}
/* The largest magnitude: as whole numbers their bits are in the order of the values, and NaN lies above them all. */
POOL_INLINE void K(lp_look)(K(pool_window) *w, vreal x) {
    const vreal u = K(magnitude)(x);
    w->largest = K(select)((vmask)u > (vmask)w->largest, u, w->largest);
}
POOL_INLINE void K(lp_looked)(const cnn_pool *c, K(pool_window) *w) {
    const vmask bits = POOL_BIAS_EXPONENT - ((vmask)w->largest & POOL_EXPONENT);
    const vmask smallest = 2 * POOL_ONE_EXPONENT - (vmask){0};
    const vreal scale = (vreal)(((bits > smallest) & bits) | (~(bits > smallest) & smallest));
    w->scale = K(select)(w->largest == INFINITY, (vreal){0}, scale);
    w->inverse = K(splat)(1);
}
POOL_INLINE vreal K(lp2_relative)(K(pool_window) *w, vreal x) {
    const vreal u = K(magnitude)(x);
    return K(select)(u == INFINITY, K(splat)(1), u * w->scale);
}
POOL_INLINE void K(lp_looked_exactly)(const cnn_pool *c, K(pool_window) *w) {
    K(lp_looked)(c, w);
    const vreal scaled = w->largest * w->scale;
    w->inverse = K(select)(scaled > 0, 1 / scaled, K(splat)(1));
}
POOL_INLINE vreal K(lp_relative)(K(pool_window) *w, vreal x) {
    const vreal u = K(magnitude)(x);
    /* The largest is 1 and nothing less: a rounding would count p times. */
    return K(select)((u == w->largest) & (u > 0), K(splat)(1), u * w->scale * w->inverse);
}
/* y from t: t / 0 = inf where a cell is infinite; all cells 0: 0, whatever the scale. */
POOL_INLINE vreal K(lp_unscaled)(K(pool_window) *w, vreal t) { return t / w->inverse / w->scale; }

POOL_INLINE void K(lp1_step)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) { w->value += K(magnitude)(x); }
POOL_INLINE vreal K(lp1_finish)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    return K(quotient)(c, w, K(lp_mean)(c, n));
}
POOL_INLINE void K(lp1_share)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    w->value = dy / (REAL)K(lp_mean)(c, n);
}
POOL_INLINE vreal K(lp1_spread)(const cnn_pool *c, K(pool_window) *w, vreal x) { return w->value * K(sign)(x); }

static const K(pool_strategy) K(pool_lp1) = {
    .start = K(sum_start), .step = K(lp1_step), .pause = K(sum_pause), .finish = K(lp1_finish),
    .share = K(lp1_share), .spread = K(lp1_spread), .reads_x = 1,
};

POOL_INLINE void K(lp2_step)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    const vreal u = K(lp2_relative)(w, x);
    w->value += u * u;
}
POOL_INLINE vreal K(lp2_finish)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    return K(lp_unscaled)(w, K(square_root)(K(quotient)(c, w, K(lp_mean)(c, n))));
}
POOL_INLINE void K(lp2_share)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    const double q = K(lp_mean)(c, n);
    const vreal t = K(square_root)(K(quotient)(c, w, q));
    w->value = K(select)(t == 0, (vreal){0}, dy / (REAL)q / t);
}
POOL_INLINE vreal K(lp2_spread)(const cnn_pool *c, K(pool_window) *w, vreal x) {
    return w->value * K(sign)(x) * K(lp2_relative)(w, x);
}

static const K(pool_strategy) K(pool_lp2) = {
    .start = K(lp_start), .look = K(lp_look), .looked = K(lp_looked), .step = K(lp2_step), .pause = K(sum_pause),
    .finish = K(lp2_finish), .share = K(lp2_share), .spread = K(lp2_spread), .visits = 1, .reads_x = 1,
};

/* u^p; small whole powers are products. */
POOL_INLINE vreal K(lp_power)(vreal u, REAL p) {
    if (p > 8 || p != (REAL)(int)p) return K(power)(u, p);
    vreal product = u;
    for (int i = 1; i < (int)p; i++) product *= u;
    return product;
}
POOL_INLINE void K(lp_step)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    w->value += K(lp_power)(K(lp_relative)(w, x), K(lp_order)(c));
}
POOL_INLINE vreal K(lp_finish)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    return K(lp_unscaled)(w, K(power)(K(quotient)(c, w, K(lp_mean)(c, n)), (REAL)(1 / c->setting[0])));
}
POOL_INLINE void K(lp_share)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    const double p = c->setting[0], q = K(lp_mean)(c, n);
    const vreal t = K(power)(K(quotient)(c, w, q), (REAL)((p - 1) / p));    /* (y / m)^(p - 1) */
    w->value = K(select)(t == 0, (vreal){0}, dy / (REAL)q / t);
}
POOL_INLINE vreal K(lp_spread)(const cnn_pool *c, K(pool_window) *w, vreal x) {
    return w->value * K(sign)(x) * K(lp_power)(K(lp_relative)(w, x), K(lp_order)(c) - 1);
}

static const K(pool_strategy) K(pool_lp) = {
    .start = K(lp_start), .look = K(lp_look), .looked = K(lp_looked_exactly), .step = K(lp_step), .pause = K(sum_pause),
    .finish = K(lp_finish), .share = K(lp_share), .spread = K(lp_spread), .visits = 1, .narrow = 1, .reads_x = 1,
};

/* p = inf: the first of the largest magnitudes, with its sign backward. */
POOL_INLINE void K(lp_max_step)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    K(max_step)(c, w, K(magnitude)(x), cell);
}
POOL_INLINE void K(lp_max_share)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    K(max_share)(c, w, K(max_finish)(c, w, n, size), dy, n, size);
}
POOL_INLINE vreal K(lp_max_spread)(const cnn_pool *c, K(pool_window) *w, vreal x) {
    return K(taken)(w, (K(magnitude)(x) == w->scale) | (x != x)) * K(sign)(x);
}

static const K(pool_strategy) K(pool_lp_max) = {
    .start = K(max_start), .step = K(lp_max_step), .finish = K(max_finish), .share = K(lp_max_share),
    .spread = K(lp_max_spread), .visits = 1, .narrow = 1, .reads_x = 1,
};

/* ── Probability weighting ──────────────────────────────────────────────────────────────────────────────────────────────
 *
 * y = sum of u^2 / sum of u / scale with u as in Lp for p = 2. It has no value where a cell is negative or NaN. */

POOL_INLINE void K(weighted_start)(K(pool_window) *w, INTEGER first) {
    K(lp_start)(w, first);
    w->cell = (vmask){0};       /* lanes that met such a cell */
    w->inverse = (vreal){0};
    for (int l = 0; l < LANES; l++) w->plain[l] = 0;
}
POOL_INLINE void K(weighted_look)(K(pool_window) *w, vreal x) {
    K(lp_look)(w, x);
    w->cell |= ~(x >= 0);
}
POOL_INLINE void K(weighted_looked)(const cnn_pool *c, K(pool_window) *w) {
    INTEGER refused = 0;
    for (int l = 0; l < LANES; l++) refused |= w->cell[l];
    if (refused) __atomic_store_n((int *)&c->refused, CNN_POOL_REFUSED_CELLS, __ATOMIC_RELAXED);
    K(lp_looked)(c, w);
    w->inverse = (vreal){0};
}
POOL_INLINE void K(weighted_step)(const cnn_pool *c, K(pool_window) *w, vreal x, INTEGER cell) {
    const vreal u = K(lp2_relative)(w, x);
    w->value += u * u;
    w->inverse += u;
}
POOL_INLINE void K(weighted_pause)(K(pool_window) *w) {
    K(sum_pause)(w);
    for (int l = 0; l < LANES; l++) w->plain[l] += w->inverse[l];
    w->inverse = (vreal){0};
}
/* The sum of u, and by it divided that of u^2: 0 and 0 where all cells are 0. */
POOL_INLINE vreal K(weighted_ratio)(const cnn_pool *c, K(pool_window) *w, vreal *sum) {
    vreal squares = w->value, plain = w->inverse;
    if (c->cells > POOL_RUN)
        for (int l = 0; l < LANES; l++) {
            squares[l] = (REAL)(w->total[l] + w->value[l]);
            plain[l] = (REAL)(w->plain[l] + w->inverse[l]);
        }
    *sum = plain;
    return K(select)(plain > 0, squares / plain, (vreal){0});
}
POOL_INLINE vreal K(weighted_finish)(const cnn_pool *c, K(pool_window) *w, double n, double size) {
    vreal sum;
    const vreal ratio = K(weighted_ratio)(c, w, &sum);
    return K(select)(sum > 0, ratio / w->scale, (vreal){0});
}
POOL_INLINE void K(weighted_share)(const cnn_pool *c, K(pool_window) *w, vreal y, vreal dy, double n, double size) {
    vreal sum;
    w->largest = K(weighted_ratio)(c, w, &sum);
    w->value = K(select)(sum > 0, dy / sum, (vreal){0});
}
POOL_INLINE vreal K(weighted_spread)(const cnn_pool *c, K(pool_window) *w, vreal x) {
    return w->value * (2 * K(lp2_relative)(w, x) - w->largest);
}

static const K(pool_strategy) K(pool_weighted) = {
    .start = K(weighted_start), .look = K(weighted_look), .looked = K(weighted_looked), .step = K(weighted_step),
    .pause = K(weighted_pause), .finish = K(weighted_finish), .share = K(weighted_share), .spread = K(weighted_spread),
    .visits = 1, .narrow = 1, .reads_x = 1,
};

/* ── The loops over windows ─────────────────────────────────────────────────────────────────────────────────────────── */

/* Part of an array whose cells are vectors: cell (d, h, w) begins at data[base + d stride[0] + h stride[1] + w stride[2]]. */
typedef struct {
    REAL *data;
    int64_t base, stride[3];
} K(pool_view);

POOL_INLINE K(pool_view) K(view_vector)(K(pool_view) v, int64_t number) {
    v.base += number * LANES;
    return v;
}
POOL_INLINE int64_t K(view_row)(K(pool_view) v, int64_t d, int64_t h, int64_t w) {
    return v.base + d * v.stride[0] + h * v.stride[1] + w * v.stride[2];
}

enum { K(LOOK), K(STEP), K(SPREAD) };

/* Lets the strategy look at, step through or spread over n cells next to each other, for V vectors side by side. */
POOL_INLINE void K(pool_run)(
    const int pass, const int V, const K(pool_strategy) *s, const cnn_pool *c, K(pool_window) *window, const REAL *cells,
    int64_t x_step, REAL *gradients, int64_t dx_step, int64_t position, int64_t position_step, int64_t n
) {
    const int reads = pass != K(SPREAD) || s->reads_x;
    do {
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            const vreal cell = reads ? K(load)(cells + v * LANES) : (vreal){0};
            if (pass == K(LOOK)) s->look(&window[v], cell);
            if (pass == K(STEP)) s->step(c, &window[v], cell, (INTEGER)position);
            if (pass == K(SPREAD))
                K(store)(gradients + v * LANES, K(load)(gradients + v * LANES) + s->spread(c, &window[v], cell));
        }
        if (reads) cells += x_step;
        if (pass == K(SPREAD)) gradients += dx_step;
        position += position_step;
    } while (--n);
}

/* The cells of window (od, oh, ow), in row-major order. */
POOL_INLINE void K(pool_cells)(
    const int pass, const int V, const K(pool_strategy) *s, const cnn_pool *c, K(pool_window) *window, K(pool_view) x,
    K(pool_view) dx, int64_t od, int64_t oh, int64_t ow
) {
    const cnn_axis *D = &c->axis[0], *H = &c->axis[1], *W = &c->axis[2];
    const int64_t d = D->first[od], h = H->first[oh], w = W->first[ow], layers = D->count[od], rows = H->count[oh];
    const int64_t columns = W->count[ow], x_step = W->step * x.stride[2], dx_step = W->step * dx.stride[2];
    const int reads = pass != K(SPREAD) || s->reads_x, writes = pass == K(SPREAD);
    const int pauses = pass == K(STEP) && s->pause && c->cells > POOL_RUN;
    const REAL *cells = reads ? x.data + K(view_row)(x, d, h, w) : NULL;
    REAL *gradients = writes ? dx.data + K(view_row)(dx, d, h, w) : NULL;
    for (int64_t kd = 0; kd < layers; kd++)
        for (int64_t kh = 0; kh < rows; kh++) {
            const int64_t row = kd * D->step * x.stride[0] + kh * H->step * x.stride[1];
            const int64_t dx_row = kd * D->step * dx.stride[0] + kh * H->step * dx.stride[1];
            const int64_t position = ((d + kd * D->step) * H->input + h + kh * H->step) * W->input + w;
            int64_t k = 0;
            do {
                const int64_t n = pauses && columns - k > POOL_RUN ? POOL_RUN : columns - k;
                K(pool_run)(
                    pass, V, s, c, window, reads ? cells + row + k * x_step : NULL, x_step,
                    writes ? gradients + dx_row + k * dx_step : NULL, dx_step, position + k * W->step, W->step, n
                );
                if (pauses) {
#pragma GCC unroll 4
                    for (int v = 0; v < V; v++) s->pause(&window[v]);
                }
                k += n;
            } while (k < columns);
        }
}

/* The strategy meets all cells of a window, as forward has it. */
POOL_INLINE void K(pool_visit)(
    const int V, const K(pool_strategy) *s, const cnn_pool *c, K(pool_window) *window, K(pool_view) x, int64_t od, int64_t oh,
    int64_t ow
) {
    const cnn_axis *D = &c->axis[0], *H = &c->axis[1], *W = &c->axis[2];
    const INTEGER first = (INTEGER)((D->first[od] * H->input + H->first[oh]) * W->input + W->first[ow]);
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) s->start(&window[v], first);
    if (s->look) {
        K(pool_cells)(K(LOOK), V, s, c, window, x, x, od, oh, ow);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) s->looked(c, &window[v]);
    }
    K(pool_cells)(K(STEP), V, s, c, window, x, x, od, oh, ow);
}

POOL_INLINE double K(window_count)(const cnn_pool *c, int64_t od, int64_t oh, int64_t ow) {
    return (double)(c->axis[0].count[od] * c->axis[1].count[oh] * c->axis[2].count[ow]);
}
POOL_INLINE double K(window_extent)(const cnn_pool *c, int64_t od, int64_t oh, int64_t ow) {
    return (double)(c->axis[0].extent[od] * c->axis[1].extent[oh] * c->axis[2].extent[ow]);
}

/* y of the windows low <= o < high, V vectors side by side and `groups` times as many in all: one window after the other, so
 * that cells are met in the order of memory. For a strategy that selects, index holds where the int64 positions of each plane
 * begin. */
POOL_INLINE void K(pool_reduce)(
    const int V, int64_t groups, const K(pool_strategy) *s, const cnn_pool *c, K(pool_view) x, K(pool_view) y,
    int64_t *const *index, const int64_t *low, const int64_t *high
) {
    for (int64_t od = low[0]; od < high[0]; od++)
        for (int64_t oh = low[1]; oh < high[1]; oh++)
            for (int64_t ow = low[2]; ow < high[2]; ow++) {
                const double n = K(window_count)(c, od, oh, ow), size = K(window_extent)(c, od, oh, ow);
                for (int64_t g = 0; g < groups; g++) {
                    K(pool_window) window[CNN_POOL_VECTORS];
                    K(pool_visit)(V, s, c, window, K(view_vector)(x, g * V), od, oh, ow);
                    REAL *value = y.data + K(view_row)(y, od, oh, ow) + g * V * LANES;
#pragma GCC unroll 4
                    for (int v = 0; v < V; v++) K(store)(value + v * LANES, s->finish(c, &window[v], n, size));
                    if (s->selects) {
                        const int64_t *t = c->indices.stride;
                        int64_t *const *plane = index + g * V * LANES;
                        for (int l = 0; l < V * LANES; l++)
                            if (plane[l] != NULL) plane[l][od * t[2] + oh * t[3] + ow * t[4]] = window[l / LANES].cell[l % LANES];
                    }
                }
            }
}

/* ── Maxima by columns ──────────────────────────────────────────────────────────────────────────────────────────────────
 *
 * Windows next to each other share columns, and the largest cell of a column is the same for all of them: first the columns,
 * then the windows. The maximum of numbers forgets a NaN; the sum of all cells does not, and tells which rows to repeat as
 * above (also those in which infinities cancel). */

#define POOL_COLUMNS 40     /* columns of windows next to each other that are held at a time */

/* y of the windows [o, end) of a row, of which `columns` cells from `first` on are met; 0 where a NaN may be among them. */
POOL_INLINE int K(max_of_columns)(
    const int V, const cnn_pool *c, K(pool_view) x, K(pool_view) y, int64_t od, int64_t oh, int64_t o, int64_t end, int64_t first,
    int64_t columns
) {
    const cnn_axis *D = &c->axis[0], *H = &c->axis[1], *W = &c->axis[2];
    const int64_t layers = D->count[od], rows = H->count[oh], layer_step = D->step * x.stride[0], row_step = H->step * x.stride[1];
    const REAL *cells = x.data + K(view_row)(x, D->first[od], H->first[oh], first);
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
        REAL *value = y.data + K(view_row)(y, od, oh, o);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            vreal largest = window[v];
            for (int64_t w = 1; w < W->count[o]; w++) largest = K(larger)(window[w * V + v], largest);
            K(store)(value + v * LANES, largest);
        }
    }
    return !K(has_nan)(sum);
}

/* As pool_reduce for the maximum, where the cells of a window's row lie next to each other. */
POOL_INLINE void K(pool_reduce_max)(
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
                        K(pool_reduce)(V, 1, &K(pool_max), c, x_g, y_g, NULL, part_low, part_high);
                }
            }
        }
}

/* Adds to dx what the windows low <= o < high give to their cells; V and groups as in pool_reduce. */
POOL_INLINE void K(pool_scatter)(
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
                    if (s->visits) K(pool_visit)(V, s, c, window, x_g, od, oh, ow);
                    const REAL *value = s->reads_y ? y.data + K(view_row)(y, od, oh, ow) + g * V * LANES : NULL;
                    const REAL *share = dy.data + K(view_row)(dy, od, oh, ow) + g * V * LANES;
#pragma GCC unroll 4
                    for (int v = 0; v < V; v++)
                        s->share(
                            c, &window[v], s->reads_y ? K(load)(value + v * LANES) : (vreal){0}, K(load)(share + v * LANES), n, size
                        );
                    K(pool_cells)(K(SPREAD), V, s, c, window, x_g, dx_g, od, oh, ow);
                }
            }
}

/* ── In place or packed ─────────────────────────────────────────────────────────────────────────────────────────────────
 *
 * The sliding axis c->slide is the first one with more than a cell or a window; the axes before it are trivial. A band is the
 * c->band windows next to each other along it, with all windows of the axes behind it; a slice is one cell along it. */

POOL_INLINE K(pool_view) K(view_in_place)(const cnn_tensor *t, int64_t n, int64_t channel) {
    return (K(pool_view)){
        t->data, n * t->stride[0] + channel * t->stride[1], {t->stride[2], t->stride[3], t->stride[4]}
    };
}

/* Slices of t that begin at slice `from`, packed. */
POOL_INLINE K(pool_view) K(view_packed)(const cnn_pool *c, REAL *data, const cnn_tensor *t, int64_t from) {
    K(pool_view) v = {data, 0, {t->shape[3] * t->shape[4] * LANES, t->shape[4] * LANES, LANES}};
    v.base = -from * v.stride[c->slide];
    return v;
}

/* Vectors of a slice. */
POOL_INLINE int64_t K(pool_slice)(const cnn_pool *c, const cnn_tensor *t) {
    int64_t cells = 1;
    for (int axis = c->slide + 1; axis < 3; axis++) cells *= t->shape[axis + 2];
    return cells;
}

/* Copies slices from <= i < to of the `planes` planes after number `plane` of those that are packed: into `packed`, or out of
 * it. */
static void K(pool_copy)(
    const cnn_pool *c, const cnn_tensor *t, REAL *packed, int64_t plane, int64_t planes, int64_t from, int64_t to, int out
) {
    const int64_t channels = t->shape[1] - c->in_place;
    int64_t low[3] = {0, 0, 0}, high[3] = {t->shape[2], t->shape[3], t->shape[4]};
    low[c->slide] = from;
    high[c->slide] = to;
    /* Lines that follow each other in memory are one. */
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
                REAL *line = array + d * t->stride[2] + h * t->stride[3], *vectors = packed + lane + (d * rows + h) * columns * LANES;
                if (out)
                    K(transfer)(line, t->stride[1], t->stride[4], vectors, 1, LANES, run, columns);
                else
                    K(transfer)(vectors, 1, LANES, line, t->stride[1], t->stride[4], run, columns);
            }
    }
}

static void K(pool_pack)(
    const cnn_pool *c, const cnn_tensor *t, REAL *packed, int64_t plane, int64_t planes, int64_t from, int64_t to
) {
    if (planes < LANES) K(fill_zero)(packed, (to - from) * K(pool_slice)(c, t) * LANES);    /* lanes without a plane */
    K(pool_copy)(c, t, packed, plane, planes, from, to, 0);
}

/* dx of planes outside every window: slices from <= i < to in place. */
static void K(pool_clear)(const cnn_pool *c, K(pool_view) v, const cnn_tensor *t, int64_t from, int64_t to, int64_t channels) {
    int64_t low[3] = {0, 0, 0}, high[3] = {t->shape[2], t->shape[3], t->shape[4]};
    low[c->slide] = from;
    high[c->slide] = to;
    for (int64_t d = low[0]; d < high[0]; d++)
        for (int64_t h = low[1]; h < high[1]; h++)
            for (int64_t w = low[2]; w < high[2]; w++) K(fill_zero)(v.data + K(view_row)(v, d, h, w), channels);
}

/* Cells that the windows first <= o < last of the sliding axis meet: from <= i < to. */
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

/* What the tasks that work in place take: images × strips of the sliding axis × groups of vectors, numbered in that order. */
typedef struct {
    int64_t n, strip, channel, vectors;
} K(pool_place);

POOL_INLINE K(pool_place) K(pool_place_of)(const cnn_pool *c, int64_t task, int64_t strips) {
    const int64_t all = c->in_place / LANES, groups = (all + c->vectors - 1) / c->vectors;
    const int64_t group = task % groups * c->vectors;
    return (K(pool_place)){
        task / groups / strips, task / groups % strips, group * LANES, all - group < c->vectors ? all - group : c->vectors
    };
}

static void K(reduce_whole)(
    const struct K(whole_strategy) *whole, const cnn_pool *c, REAL *scratch, K(pool_view) x, K(pool_view) y,
    int64_t *const *index, int packed, int64_t plane, int64_t planes, int64_t vectors, const int64_t *low, const int64_t *high
);
static void K(spread_whole)(
    const struct K(whole_strategy) *whole, const cnn_pool *c, REAL *scratch, K(pool_view) x, K(pool_view) y, K(pool_view) dy,
    K(pool_view) dx, int64_t planes, int64_t vectors, const int64_t *low, const int64_t *high
);

POOL_INLINE void K(pool_forward_of)(
    const K(pool_strategy) *s, const struct K(whole_strategy) *whole, const cnn_pool *c, int64_t begin, int64_t end, REAL *scratch
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
                index[l] = l < planes
                    ? (int64_t *)c->indices.data + n * c->indices.stride[0] + channel * c->indices.stride[1] : NULL;
            }
        const int64_t wide = s->narrow ? 0 : vectors / CNN_POOL_VECTORS, lone = vectors - wide * CNN_POOL_VECTORS;
        const K(pool_view) x_rest = K(view_vector)(x, wide * CNN_POOL_VECTORS), y_rest = K(view_vector)(y, wide * CNN_POOL_VECTORS);
        if (s->whole) {
            K(whole_begin)(c, scratch, packed, plane, planes, vectors);
            K(reduce_whole)(whole, c, scratch, x, y, index, packed, plane, planes, vectors, low, high);
        } else if (s == &K(pool_max) && c->axis[2].step == 1) {
            if (wide) K(pool_reduce_max)(CNN_POOL_VECTORS, wide, c, x, y, low, high);
            if (lone) K(pool_reduce_max)(1, lone, c, x_rest, y_rest, low, high);
        } else {
            if (wide) K(pool_reduce)(CNN_POOL_VECTORS, wide, s, c, x, y, index, low, high);
            if (lone) K(pool_reduce)(1, lone, s, c, x_rest, y_rest, index + wide * CNN_POOL_VECTORS * LANES, low, high);
        }
        if (packed) K(pool_copy)(c, &c->y, packed_y, plane, planes, low[c->slide], high[c->slide], 1);
    }
}

POOL_INLINE void K(pool_forward)(const K(pool_strategy) *s, const cnn_pool *c, int64_t begin, int64_t end, REAL *scratch) {
    K(pool_forward_of)(s, NULL, c, begin, end, scratch);
}

/* Gradients of packed planes pass through scratch: `data` holds the slices held <= i < reached, those before are in dx. */
typedef struct {
    REAL *data;
    int64_t plane, planes, held, reached;
} K(pool_gradients);

/* No window to come meets a slice before `from`: those go to dx, zeros where no window was; the others move to the front. */
static void K(pool_release)(const cnn_pool *c, K(pool_gradients) *g, int64_t from) {
    const int64_t slice = K(pool_slice)(c, &c->dx) * LANES;
    const int64_t whole = g->reached < from ? g->reached : from;
    if (whole > g->held) K(pool_copy)(c, &c->dx, g->data, g->plane, g->planes, g->held, whole, 1);
    if (g->reached > from) memmove(g->data, g->data + (from - g->held) * slice, (size_t)((g->reached - from) * slice) * sizeof(REAL));
    if (c->add && g->reached < from) g->reached = from;
    while (g->reached < from) {
        const int64_t next = from - g->reached < c->span ? from : g->reached + c->span;
        K(fill_zero)(g->data, (next - g->reached) * slice);
        K(pool_copy)(c, &c->dx, g->data, g->plane, g->planes, g->reached, next, 1);
        g->reached = next;
    }
    g->held = from;
}

/* A task takes its planes from the first band to the last. Windows of several bands may meet a slice of dx: it is cleared
 * before the first of them and, where packed, copied out after the last. */
POOL_INLINE void K(pool_backward_of)(
    const K(pool_strategy) *s, const struct K(whole_strategy) *whole, const cnn_pool *c, int64_t begin, int64_t end, REAL *scratch
) {
    const int64_t windows = c->axis[c->slide].output, extent = c->axis[c->slide].input;
    const int64_t slice = K(pool_slice)(c, &c->dx) * LANES, y_slice = K(pool_slice)(c, &c->dy) * LANES;
    REAL *const packed_x = scratch + c->span * slice, *const packed_dy = packed_x + c->span * slice;
    REAL *const packed_y = packed_dy + c->band * y_slice;
    for (int64_t task = begin; task < end; task++) {
        const int packed = task >= c->tasks_in_place;
        const int64_t band = packed ? c->band : 1;
        int64_t low[3] = {0, 0, 0}, high[3] = {c->axis[0].output, c->axis[1].output, c->axis[2].output};
        int64_t vectors = 1, cleared = 0, plane = 0, planes = LANES;
        K(pool_gradients) g = {scratch, 0, 0, 0, 0};
        K(pool_view) x = {0}, y = {0}, dy = {0}, dx = {0};
        if (packed) {
            g.plane = (task - c->tasks_in_place) * LANES;
            g.planes = c->dx.shape[0] * (c->dx.shape[1] - c->in_place) - g.plane;
            if (g.planes > LANES) g.planes = LANES;
            plane = g.plane, planes = g.planes;
        } else {
            const K(pool_place) at = K(pool_place_of)(c, task, 1);
            vectors = at.vectors;
            plane = at.n * c->dx.shape[1] + at.channel;
            x = K(view_in_place)(&c->x, at.n, at.channel);
            y = K(view_in_place)(&c->y, at.n, at.channel);
            dy = K(view_in_place)(&c->dy, at.n, at.channel);
            dx = K(view_in_place)(&c->dx, at.n, at.channel);
        }
        if (s->whole) K(whole_begin)(c, scratch, packed, plane, planes, vectors);
        for (int64_t o = 0; o < windows; o = high[c->slide]) {
            int64_t from, to;
            low[c->slide] = o;
            high[c->slide] = windows - o < band ? windows : o + band;
            K(pool_span)(c, o, high[c->slide], &from, &to);
            if (packed) {
                K(pool_release)(c, &g, from);
                if (to > g.reached) {
                    if (c->add)
                        K(pool_pack)(c, &c->dx, g.data + (g.reached - from) * slice, g.plane, g.planes, g.reached, to);
                    else
                        K(fill_zero)(g.data + (g.reached - from) * slice, (to - g.reached) * slice);
                    g.reached = to;
                }
                dx = K(view_packed)(c, g.data, &c->dx, from);
                K(pool_pack)(c, &c->dy, packed_dy, g.plane, g.planes, o, high[c->slide]);
                dy = K(view_packed)(c, packed_dy, &c->dy, o);
                if (s->reads_y) {
                    K(pool_pack)(c, &c->y, packed_y, g.plane, g.planes, o, high[c->slide]);
                    y = K(view_packed)(c, packed_y, &c->y, o);
                }
                if (s->reads_x) {
                    K(pool_pack)(c, &c->x, packed_x, g.plane, g.planes, from, to);
                    x = K(view_packed)(c, packed_x, &c->x, from);
                }
            } else if (to > cleared && !c->add) {
                K(pool_clear)(c, dx, &c->dx, cleared, to, vectors * LANES);
                cleared = to;
            }
            if (s->whole) {
                K(spread_whole)(whole, c, scratch, x, y, dy, dx, planes, vectors, low, high);
                continue;
            }
            const int64_t wide = s->visits ? 0 : vectors / CNN_POOL_VECTORS, lone = vectors - wide * CNN_POOL_VECTORS;
            const int64_t done = wide * CNN_POOL_VECTORS;
            const K(pool_view) x_rest = K(view_vector)(x, done), y_rest = K(view_vector)(y, done);
            const K(pool_view) dy_rest = K(view_vector)(dy, done), dx_rest = K(view_vector)(dx, done);
            if (wide) K(pool_scatter)(CNN_POOL_VECTORS, wide, s, c, x, y, dy, dx, low, high);
            if (lone) K(pool_scatter)(1, lone, s, c, x_rest, y_rest, dy_rest, dx_rest, low, high);
        }
        if (s->whole) K(whole_end)(c, scratch, packed, plane, planes, vectors);
        if (packed)
            K(pool_release)(c, &g, extent);
        else if (!c->add)
            K(pool_clear)(c, dx, &c->dx, cleared, extent, vectors * LANES);
    }
}

POOL_INLINE void K(pool_backward)(const K(pool_strategy) *s, const cnn_pool *c, int64_t begin, int64_t end, REAL *scratch) {
    K(pool_backward_of)(s, NULL, c, begin, end, scratch);
}

/* ── Tasks ──────────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void K(max_pool_forward)(void *call, int64_t begin, int64_t end, void *scratch) {
    if (((const cnn_pool *)call)->indices.data != NULL)
        K(pool_forward)(&K(pool_max_indexed), call, begin, end, scratch);
    else
        K(pool_forward)(&K(pool_max), call, begin, end, scratch);
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
    if (p == 1)
        K(pool_forward)(&K(pool_lp1), call, begin, end, scratch);
    else if (p == 2)
        K(pool_forward)(&K(pool_lp2), call, begin, end, scratch);
    else if (p == INFINITY)
        K(pool_forward)(&K(pool_lp_max), call, begin, end, scratch);
    else
        K(pool_forward)(&K(pool_lp), call, begin, end, scratch);
}
static void K(lp_pool_backward)(void *call, int64_t begin, int64_t end, void *scratch) {
    const double p = ((const cnn_pool *)call)->setting[0];
    if (p == 1)
        K(pool_backward)(&K(pool_lp1), call, begin, end, scratch);
    else if (p == 2)
        K(pool_backward)(&K(pool_lp2), call, begin, end, scratch);
    else if (p == INFINITY)
        K(pool_backward)(&K(pool_lp_max), call, begin, end, scratch);
    else
        K(pool_backward)(&K(pool_lp), call, begin, end, scratch);
}
