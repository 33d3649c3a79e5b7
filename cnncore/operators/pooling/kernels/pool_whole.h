/* Strategies that take a window as a whole: its cells are an array of vectors, each with the same cell of LANES planes, and
 * forward and backward are those of the reference implementation (reference.pyx) written on vectors. The loops at the end of
 * this file gather the cells and accumulate the gradients into dx.
 *
 * Strategies are called through pointers: next to exponentials, sorting and gathering the calls cost nothing, and the code
 * stays small.
 */

/* Of rank-stochastic pooling, kept from window to window: the cumulative probabilities of the ranks. */
typedef struct {
    int64_t n; /* cells of the windows they are for; 0: not computed yet */
    double cumulative[CNN_POOL_RANKED];
} K(probability_cache);

typedef struct {
    int64_t n;              /* cells of the window inside the image */
    const int64_t *tap;     /* [n] position of each cell within the whole kernel */
    int64_t taps;           /* cells of the whole kernel */
    const vreal *parameter; /* learned numbers of the channels, array after array */
    vreal *gradient;        /* backward accumulates their gradients here; NULL if not needed */
    vreal *work;            /* [2n] scratch of the strategy */
    int64_t lanes;          /* lanes that hold a plane */
    int refused;            /* set by forward if the strategy is undefined for these cells */
    vmask cell;             /* set by forward of a strategy that selects: the cell y came from, -1 for none */
    const double *drawn;    /* [LANES] for a strategy that draws: uniform in [0, 1) */
    K(probability_cache) *cache;
} K(whole_window);

struct K(whole_strategy) {
    vreal (*forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x);
    void (*backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx);
    int reads_y;        /* whether backward reads y */
    int selects, draws; /* whether forward sets `cell`; whether it draws a number per window */
    /* Preprocesses packed planes before their windows are reduced: slices from <= i < to of `planes` planes; NULL: nothing. */
    void (*prepare)(const cnn_pool *c, REAL *packed, int64_t plane, int64_t planes, int64_t from, int64_t to);
};

static int K(whole_selects)(const struct K(whole_strategy) *whole) { return whole->selects; }
static void K(whole_prepare)(
    const struct K(whole_strategy) *whole, const cnn_pool *c, REAL *packed, int64_t plane, int64_t planes, int64_t from,
    int64_t to
) {
    if (whole->prepare) whole->prepare(c, packed, plane, planes, from, to);
}

/* ── Shared by several strategies ───────────────────────────────────────────────────────────────────────────────────── */

static vreal K(sum_of_cells)(const vreal *x, int64_t n) {
    vreal sum = {0};
    if (n <= POOL_RUN) {
        for (int64_t i = 0; i < n; i++) sum += x[i];
        return sum;
    }
    double total[LANES] = {0};
    for (int64_t i = 0; i < n;) {
        for (const int64_t end = i + POOL_RUN < n ? i + POOL_RUN : n; i < end; i++) sum += x[i];
        for (int l = 0; l < LANES; l++) total[l] += sum[l];
        sum = (vreal){0};
    }
    for (int l = 0; l < LANES; l++) sum[l] = (REAL)total[l];
    return sum;
}

/* Whether a ranks before b: larger values first, NaN before all. */
static inline vmask K(precedes)(vreal a, vreal b) { return (a > b) | ((a != a) & (b == b)); }

static vreal K(largest_of_cells)(const vreal *x, int64_t n) {
    vreal largest = x[0];
    for (int64_t i = 1; i < n; i++) largest = K(select)((x[i] > largest) | (x[i] != x[i]), x[i], largest);
    return largest;
}

/* The lanes in which x is the first cell equal to y (or NaN, if y is); `left`: lanes without one so far, initially all. */
static inline vmask K(first_equal)(vreal x, vreal y, vmask *left) {
    const vmask hit = ((x == y) | ((x != x) & (y != y))) & *left;
    *left &= ~hit;
    return hit;
}
static inline vmask K(all_lanes)(void) { return (vmask){0} == (vmask){0}; }

static inline vreal K(where)(vmask m, vreal a) { return (vreal)(m & (vmask)a); }

static inline vreal K(logistic)(vreal z) { return 1 / (1 + K(exp)(-z)); }

/* a x + (1 - a) y; a weight of 0 removes a term even if it is infinite. */
static inline vreal K(mixture)(vreal a, vreal x, vreal y) {
    return K(select)(a == 0, (vreal){0}, a * x) + K(select)(a == 1, (vreal){0}, (1 - a) * y);
}

static vreal K(filtered)(const K(whole_window) *w, const vreal *x, const vreal *weight) {
    vreal sum = {0};
    for (int64_t i = 0; i < w->n; i++) sum += weight[w->tap[i]] * x[i];
    return sum;
}

/* x - y; 0 if they are equal, even infinite. */
static inline vreal K(distance)(vreal x, vreal y) { return K(select)(x == y, (vreal){0}, x - y); }

static inline int K(any_lane)(vmask m) {
    INTEGER any = 0;
    for (int l = 0; l < LANES; l++) any |= m[l];
    return any != 0;
}

/* ── Min ────────────────────────────────────────────────────────────────────────────────────────────────────────────── */

static vreal K(smallest_of_cells)(const vreal *x, int64_t n) {
    vreal smallest = x[0];
    for (int64_t i = 1; i < n; i++) smallest = K(select)((x[i] < smallest) | (x[i] != x[i]), x[i], smallest);
    return smallest;
}
static vreal K(min_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    const vreal smallest = K(smallest_of_cells)(x, w->n);
    if (c->indices.data != NULL) {
        vmask left = K(all_lanes)();
        for (int64_t i = 0; i < w->n; i++) w->cell |= K(first_equal)(x[i], smallest, &left) & ((INTEGER)i - (vmask){0});
    }
    return smallest;
}
static void K(first_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    vmask left = K(all_lanes)();
    for (int64_t i = 0; i < w->n; i++) dx[i] = K(where)(K(first_equal)(x[i], y, &left), dy);
}

/* ── Mixed and gated ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* dx of a·max + (1 - a)·mean for a fixed weight a. */
static void K(blend_backward)(int64_t n, const vreal *x, vreal a, vreal largest, vreal dy, vreal *dx) {
    const vreal share = dy * (1 - a) / (REAL)n, first = dy * a;
    vmask left = K(all_lanes)();
    for (int64_t i = 0; i < n; i++) dx[i] = share + K(where)(K(first_equal)(x[i], largest, &left), first);
}

static vreal K(mixed_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    return K(mixture)(w->parameter[0], K(largest_of_cells)(x, w->n), K(sum_of_cells)(x, w->n) / (REAL)w->n);
}
static void K(mixed_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    const vreal largest = K(largest_of_cells)(x, w->n);
    K(blend_backward)(w->n, x, w->parameter[0], largest, dy, dx);
    if (w->gradient) w->gradient[0] += dy * (largest - K(sum_of_cells)(x, w->n) / (REAL)w->n);
}

static vreal K(gated_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    const vreal s = K(logistic)(K(filtered)(w, x, w->parameter) + w->parameter[w->taps]);
    return K(mixture)(s, K(largest_of_cells)(x, w->n), K(sum_of_cells)(x, w->n) / (REAL)w->n);
}
static void K(gated_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    const vreal s = K(logistic)(K(filtered)(w, x, w->parameter) + w->parameter[w->taps]),
                largest = K(largest_of_cells)(x, w->n);
    const vreal t = dy * s * (1 - s) * (largest - K(sum_of_cells)(x, w->n) / (REAL)w->n);
    K(blend_backward)(w->n, x, s, largest, dy, dx);
    for (int64_t i = 0; i < w->n; i++) dx[i] += t * w->parameter[w->tap[i]];
    if (!w->gradient) return;
    for (int64_t i = 0; i < w->n; i++) w->gradient[w->tap[i]] += t * x[i];
    w->gradient[w->taps] += t;
}

/* ── Tree ── setting: inner nodes ───────────────────────────────────────────────────────────────────────────────────── */

enum { K(LARGEST_TREE) = 63 };

static void K(grow)(const K(whole_window) *w, const vreal *x, int nodes, vreal *f, vreal *s) {
    const vreal *v = w->parameter, *gate = v + (nodes + 1) * w->taps;
    for (int k = nodes; k < 2 * nodes + 1; k++) f[k] = K(filtered)(w, x, v + (k - nodes) * w->taps);
    for (int k = nodes - 1; k >= 0; k--) {
        s[k] = K(logistic)(K(filtered)(w, x, gate + k * w->taps));
        f[k] = K(mixture)(s[k], f[2 * k + 1], f[2 * k + 2]);
    }
}
static vreal K(tree_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    vreal f[K(LARGEST_TREE)], s[K(LARGEST_TREE)];
    K(grow)(w, x, (int)c->setting[0], f, s);
    return f[0];
}
static void K(tree_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    const int nodes = (int)c->setting[0];
    vreal f[K(LARGEST_TREE)], s[K(LARGEST_TREE)], G[K(LARGEST_TREE)];
    K(grow)(w, x, nodes, f, s);
    G[0] = dy;
    for (int k = 0; k < nodes; k++) {
        G[2 * k + 1] = G[k] * s[k];
        G[2 * k + 2] = G[k] * (1 - s[k]);
    }
    for (int64_t i = 0; i < w->n; i++) dx[i] = (vreal){0};
    for (int k = 0; k < 2 * nodes + 1; k++) { /* leaves first: the order of the parameters */
        const int node = k - nodes - 1;
        vreal share;
        if (k <= nodes) share = G[nodes + k];
        else share = G[node] * s[node] * (1 - s[node]) * (f[2 * node + 1] - f[2 * node + 2]);
        const vreal *weight = w->parameter + k * w->taps;
        for (int64_t i = 0; i < w->n; i++) dx[i] += share * weight[w->tap[i]];
        if (w->gradient)
            for (int64_t i = 0; i < w->n; i++) w->gradient[k * w->taps + w->tap[i]] += share * x[i];
    }
}

/* ── Softmax of the cells ───────────────────────────────────────────────────────────────────────────────────────────── */

/* The cell with the largest r x; NaN, where there is one. */
static vreal K(nearest_of_cells)(int64_t n, const vreal *x, vreal r) {
    const vmask falls = r < 0;
    vreal best = x[0];
    for (int64_t i = 1; i < n; i++)
        best = K(select)(((x[i] > best) & ~falls) | ((x[i] < best) & falls) | (x[i] != x[i]), x[i], best);
    return best;
}

/* work[i] = e^(r (x[i] - nearest)), nearest the cell with the largest r x; returns their sum. */
static vreal K(exponentials)(K(whole_window) *w, const vreal *x, vreal r, vreal nearest) {
    for (int64_t i = 0; i < w->n; i++) w->work[i] = K(exp)(r * K(distance)(x[i], nearest));
    if (K(any_lane)(r == 0)) /* all weights are equal, infinite cells included */
        for (int64_t i = 0; i < w->n; i++) w->work[i] = K(select)((r == 0) & (x[i] == x[i]), K(splat)(1), w->work[i]);
    return K(sum_of_cells)(w->work, w->n);
}

/* weight * x; 0 if the weight is 0, even for an infinite x. */
static inline vreal K(weighted)(vreal weight, vreal x) { return K(select)(weight == 0, (vreal){0}, weight * x); }

/* ── Soft and auto ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static vreal K(expectation)(K(whole_window) *w, const vreal *x, vreal alpha) {
    const vreal nearest = K(nearest_of_cells)(w->n, x, alpha), scale = 1 / K(exponentials)(w, x, alpha, nearest);
    for (int64_t i = 0; i < w->n; i++) w->work[i] = K(weighted)(w->work[i], K(distance)(x[i], nearest));
    const vreal total = K(sum_of_cells)(w->work, w->n) * scale;
    return K(select)(total == 0, nearest, nearest + total);
}
static void K(expectation_backward)(K(whole_window) *w, const vreal *x, vreal alpha, vreal y, vreal dy, vreal *dx) {
    const vreal share = dy / K(exponentials)(w, x, alpha, K(nearest_of_cells)(w->n, x, alpha));
    for (int64_t i = 0; i < w->n; i++) {
        const vreal d = K(distance)(x[i], y);
        dx[i] = share * K(weighted)(w->work[i], 1 + alpha * d);
        if (w->gradient) w->work[i] = K(weighted)(w->work[i], d * d);
    }
    if (w->gradient) w->gradient[0] += share * K(sum_of_cells)(w->work, w->n);
}
static vreal K(soft_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    return K(expectation)(w, x, K(splat)(1));
}
static void K(soft_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    K(expectation_backward)(w, x, K(splat)(1), y, dy, dx);
}
static vreal K(auto_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    return K(expectation)(w, x, w->parameter[0]);
}
static void K(auto_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    K(expectation_backward)(w, x, w->parameter[0], y, dy, dx);
}

/* ── Log-sum-exp ── setting: mean ───────────────────────────────────────────────────────────────────────────────────── */

/* log(1 + z) for z > -1, corrected for the rounding of 1 + z. */
static inline vreal K(log1p)(vreal z) {
    const vreal u = 1 + z;
    return K(select)(u == 1, z, K(log)(u) * z / (u - 1));
}

typedef struct {
    vreal nearest; /* the cell with the largest r x */
    vreal sum;     /* of e^(r (x[i] - nearest)) */
    vreal above;   /* y - nearest */
    vreal y;       /* 1/r log(1/n sum of e^(r x)), with or without 1/n */
} K(log_mean);

/* The sum of e^(r (x[i] - nearest)) - 1, which for small r would cancel if 1 were subtracted afterwards. */
static vreal K(excess_of_cells)(int64_t n, const vreal *x, vreal r, vreal nearest) {
    vreal run = {0}, total = {0};
    for (int64_t i = 0; i < n; i++) {
        const vreal z = r * K(distance)(x[i], nearest);
        run += K(select)(z == 0, (vreal){0}, K(expm1_of_negative)(z));
        if (i % POOL_RUN < POOL_RUN - 1 && i < n - 1) continue;
        total += run;
        run = (vreal){0};
    }
    return total;
}

/* `exact`: lanes in which y - nearest itself must be accurate, not only e^(r (y - nearest)). */
static K(log_mean) K(log_mean_of)(K(whole_window) *w, const vreal *x, vreal r, vreal nearest, int mean, vmask exact) {
    const REAL n = (REAL)w->n;
    K(log_mean) m;
    m.nearest = nearest;
    m.sum = K(exponentials)(w, x, r, nearest);
    m.above = K(log)(mean ? (vreal)(m.sum / n) : m.sum);
    const vmask near = (m.sum > n / 2) & exact;
    if (mean && K(any_lane)(near)) m.above = K(select)(near, K(log1p)(K(excess_of_cells)(w->n, x, r, nearest) / n), m.above);
    m.above /= r;
    m.y = K(select)(m.above == 0, nearest, nearest + m.above);
    if (K(any_lane)(K(magnitude)(r) < (REAL)1e-20)) { /* 0, or with r (x[i] - nearest) of few digits, or none */
        vreal widest = {0};
        for (int64_t i = 0; i < w->n; i++) {
            const vreal span = K(magnitude)(K(distance)(x[i], nearest));
            widest = K(select)(span > widest, span, widest);
        }
        const vmask flat = (r == 0) | ((K(magnitude)(r) * widest < (REAL)1e-30) & (mean ? ~(vmask){0} : (vmask){0}));
        m.y = K(select)(flat, K(sum_of_cells)(x, w->n) / n, m.y);
    }
    return m;
}

/* dy/dr of the mean where the r (x[i] - nearest) are small; the series is derived in reference.pyx. */
static vreal K(flat_slope)(K(whole_window) *w, const vreal *x, vreal r, vreal nearest) {
    enum { TERMS_OF_SERIES = 12 };
    const int64_t n = w->n;
    vreal mean = {0}, total = {0};
    for (int64_t i = 0; i < n; i++) {
        const vreal d = K(distance)(x[i], nearest), z = r * d;
        vreal series = K(splat)(1);
        for (int k = TERMS_OF_SERIES; k > 1; k--) series = 1 + z * series / (REAL)k;
        w->work[i] = d * series; /* (e^z - 1) / r */
        mean += w->work[i];
    }
    mean /= (REAL)n;
    for (int64_t i = 0; i < n; i++) {
        const vreal growth = (w->work[i] - mean) / (1 + r * mean);
        vreal series = {0};
        for (int k = TERMS_OF_SERIES; k > 0; k--) series = 1 / (REAL)(k * (k + 1)) - r * growth * series;
        total += growth * growth * series;
    }
    return total / (REAL)n;
}

/* dy/dr. Overwrites work. */
static vreal K(log_mean_slope)(K(whole_window) *w, const vreal *x, vreal r, const K(log_mean) *m, int mean) {
    vreal sum = {0}, widest = {0};
    for (int64_t i = 0; i < w->n; i++) {
        const vreal d = K(distance)(x[i], m->nearest), span = K(magnitude)(d);
        sum += K(weighted)(w->work[i], d);
        widest = K(select)(span > widest, span, widest);
    }
    const vreal slope = (sum / m->sum - m->above) / r;
    const vmask flat = K(magnitude)(r) * widest < (REAL)(REAL_BITS == 32 ? 0.25 : 0.03);
    return mean && K(any_lane)(flat) ? K(select)(flat, K(flat_slope)(w, x, r, m->nearest), slope) : slope;
}

static vreal K(log_sum_exp_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    const vreal r = w->parameter[0];
    return K(log_mean_of)(w, x, r, K(nearest_of_cells)(w->n, x, r), c->setting[0] != 0, K(all_lanes)()).y;
}
static void K(log_sum_exp_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    const int mean = c->setting[0] != 0;
    const vreal r = w->parameter[0];
    const K(log_mean) m = K(log_mean_of)(w, x, r, K(nearest_of_cells)(w->n, x, r), mean, K(all_lanes)());
    const vmask nothing = ((m.nearest == -INFINITY) & (r > 0)) | ((m.nearest == INFINITY) & (r < 0));
    const vreal share = K(select)(nothing, (vreal){0}, dy / m.sum);
    for (int64_t i = 0; i < w->n; i++) dx[i] = share * w->work[i];
    if (w->gradient) w->gradient[0] += dy * K(log_mean_slope)(w, x, r, &m, mean);
}

/* ── Power means ────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The power mean of order q of the values v >= 0 in the second half of work, which are replaced by l = log(v / m): infinite
 * where the derivative with respect to v is 0. L = log(mean / m); slope = d mean / dq. */
static vreal K(power_mean)(K(whole_window) *w, vreal q, vreal *L, vreal *slope) {
    const int64_t n = w->n;
    vreal *v = w->work + n;
    const vreal m = K(nearest_of_cells)(n, v, q);
    const vmask endless = (m == INFINITY) & (q == 0), as_m = endless | (m == 0) | (m != m);
    /* v / m is exactly 1 for the largest; if m is infinite, 1 for its equals and 0 for the others. */
    for (int64_t i = 0; i < n; i++) v[i] = K(log)(K(select)(v[i] == m, K(splat)(1), v[i] / m));
    /* The mean is m e^L, so an absolute error of L matters; that of log(sum / n) / q is a rounding error divided by q. */
    const K(log_mean) mean = K(log_mean_of)(w, v, q, (vreal){0}, 1, K(magnitude)(q) < (REAL)0.25);
    *L = K(select)(as_m, (vreal){0}, mean.y);
    const vreal M = K(select)(m == INFINITY, m, m * K(exp)(*L));
    if (slope) *slope = K(select)(as_m, (vreal){0}, M * K(log_mean_slope)(w, v, q, &mean, 1));
    if (K(any_lane)(as_m))
        for (int64_t i = 0; i < n; i++) v[i] = K(select)(endless, (vreal){0}, K(select)(m == 0, K(splat)(INFINITY), v[i]));
    return K(select)(as_m, m, M);
}
/* n times the derivative of the mean with respect to value i. */
static inline vreal K(power_share)(const K(whole_window) *w, int64_t i, vreal q, vreal L) {
    const vreal l = w->work[w->n + i];
    return K(select)(K(magnitude)(l) == INFINITY, (vreal){0}, K(exp)((q - 1) * (l - L)));
}

/* GeM ── setting: eps */
static vreal K(gem_mean)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal *L, vreal *slope) {
    const vreal eps = K(splat)((REAL)c->setting[0]);
    for (int64_t i = 0; i < w->n; i++) w->work[w->n + i] = K(select)(x[i] <= eps, eps, x[i]);
    return K(power_mean)(w, w->parameter[0], L, slope);
}
static vreal K(gem_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    vreal L;
    return K(gem_mean)(c, w, x, &L, NULL);
}
static void K(gem_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    const vreal eps = K(splat)((REAL)c->setting[0]), p = w->parameter[0], part = dy / (REAL)w->n;
    vreal L, slope;
    K(gem_mean)(c, w, x, &L, w->gradient ? &slope : NULL);
    for (int64_t i = 0; i < w->n; i++) dx[i] = K(select)(x[i] <= eps, (vreal){0}, part * K(power_share)(w, i, p, L));
    if (w->gradient) w->gradient[0] += dy * slope;
}

/* α-integration ── setting: eps */
static vreal K(alpha_order)(const K(whole_window) *w) { return (REAL)0.5 * (1 - w->parameter[0]); }
static vreal K(alpha_mean)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal *L, vreal *slope) {
    vmask refused = {0};
    for (int64_t i = 0; i < w->n; i++) {
        const vreal v = x[i] + (REAL)c->setting[0];
        refused |= ~(v > 0);
        w->work[w->n + i] = v;
    }
    for (int64_t l = 0; l < w->lanes; l++) w->refused |= refused[l] != 0;
    return K(power_mean)(w, K(alpha_order)(w), L, slope);
}
static vreal K(alpha_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    vreal L;
    return K(alpha_mean)(c, w, x, &L, NULL);
}
static void K(alpha_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    const vreal q = K(alpha_order)(w), part = dy / (REAL)w->n;
    vreal L, slope;
    K(alpha_mean)(c, w, x, &L, w->gradient ? &slope : NULL);
    for (int64_t i = 0; i < w->n; i++) dx[i] = part * K(power_share)(w, i, q, L);
    if (w->gradient) w->gradient[0] -= (REAL)0.5 * dy * slope;
}

/* Learned Lp */
static vreal K(norm_order)(const K(whole_window) *w) {
    const vreal rho = w->parameter[0];
    return 1 + K(select)(rho > 0, rho, (vreal){0}) + K(log1p_of_unit)(K(exp)(-K(magnitude)(rho)));
}
static vreal K(learned_norm)(K(whole_window) *w, const vreal *x, vreal p, vreal *L, vreal *slope) {
    for (int64_t i = 0; i < w->n; i++) w->work[w->n + i] = K(magnitude)(x[i] - w->parameter[1]);
    return K(power_mean)(w, p, L, slope);
}
static vreal K(learned_lp_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    vreal L;
    return K(learned_norm)(w, x, K(norm_order)(w), &L, NULL);
}
static void K(learned_lp_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    const vreal p = K(norm_order)(w), part = dy / (REAL)w->n;
    vreal L, slope;
    K(learned_norm)(w, x, p, &L, w->gradient ? &slope : NULL);
    for (int64_t i = 0; i < w->n; i++) dx[i] = part * K(sign)(x[i] - w->parameter[1]) * K(power_share)(w, i, p, L);
    if (!w->gradient) return;
    w->gradient[0] += dy * K(logistic)(w->parameter[0]) * slope;
    w->gradient[1] -= K(sum_of_cells)(dx, w->n);
}

/* ── Order ── of at most CNN_POOL_RANKED cells ──────────────────────────────────────────────────────────────────────── */

/* work = the cells in descending order, NaN first: Batcher's odd-even merge sorting network. */
static void K(sort_cells)(K(whole_window) *w, const vreal *x) {
    const int64_t n = w->n;
    vreal *v = w->work;
    for (int64_t i = 0; i < n; i++) v[i] = x[i];
    for (int64_t p = 1; p < n; p *= 2)
        for (int64_t k = p; k >= 1; k /= 2)
            for (int64_t j = k % p; j + k < n; j += 2 * k)
                for (int64_t i = j; i < j + k && i + k < n; i++)
                    if (i / (2 * p) == (i + k) / (2 * p)) {
                        const vreal a = v[i], b = v[i + k];
                        const vmask swap = K(precedes)(b, a);
                        v[i] = K(select)(swap, b, a);
                        v[i + k] = K(select)(swap, a, b);
                    }
}

/* rank[i] = how many cells precede cell i; among equals the first precedes. */
static void K(rank_cells)(int64_t n, const vreal *x, vmask *rank) {
    for (int64_t i = 0; i < n; i++) rank[i] = (vmask){0};
    for (int64_t j = 1; j < n; j++)
        for (int64_t i = 0; i < j; i++) {
            const vmask before = K(precedes)(x[j], x[i]);
            rank[i] -= before; /* true is -1 */
            rank[j] += 1 + before;
        }
}

/* The sum of weight[r] x(r); cells of weight 0 do not count, except NaN. */
static vreal K(ranked_sum)(K(whole_window) *w, const vreal *x, const vreal *weight) {
    vreal sum = {0};
    K(sort_cells)(w, x);
    for (int64_t r = 0; r < w->n; r++)
        sum += K(select)((weight[r] == 0) & (w->work[r] == w->work[r]), (vreal){0}, weight[r] * w->work[r]);
    return sum;
}
static void K(ranked_share)(int64_t n, const vreal *x, const vreal *weight, vreal dy, vreal *dx) {
    vmask rank[CNN_POOL_RANKED];
    const REAL *table = (const REAL *)weight;
    K(rank_cells)(n, x, rank);
    for (int64_t i = 0; i < n; i++) {
        vreal share = {0};
        for (int l = 0; l < LANES; l++) share[l] = table[(int64_t)rank[i][l] * LANES + l];
        dx[i] = dy * share;
    }
}

/* Median ── setting: mean */
static void K(median_values)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal *lower, vreal *upper) {
    K(sort_cells)(w, x);
    const vreal first = w->work[0];
    *lower = K(select)(first != first, first, w->work[w->n / 2]);
    *upper = c->setting[0] != 0 ? K(select)(first != first, first, w->work[(w->n - 1) / 2]) : *lower;
}
static vreal K(median_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    vreal lower, upper;
    K(median_values)(c, w, x, &lower, &upper);
    return K(select)((lower == upper) | (lower != lower), lower, (REAL)0.5 * lower + (REAL)0.5 * upper);
}
static void K(median_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    vreal lower, upper;
    K(median_values)(c, w, x, &lower, &upper);
    vmask low = K(all_lanes)(), high = low;
    for (int64_t i = 0; i < w->n; i++) {
        const vreal half = (REAL)0.5 * dy;
        dx[i] = K(where)(K(first_equal)(x[i], lower, &low), half) + K(where)(K(first_equal)(x[i], upper, &high), half);
    }
}

/* Ordinal ── setting: softmax */
static vreal K(weigh_ranks)(const cnn_pool *c, const K(whole_window) *w, vreal *weight) {
    vreal largest = w->parameter[0], total = {0};
    for (int64_t r = 1; r < w->n; r++) largest = K(select)(w->parameter[r] > largest, w->parameter[r], largest);
    for (int64_t r = 0; r < w->n; r++) {
        weight[r] = c->setting[0] != 0 ? K(exp)(w->parameter[r] - largest) : w->parameter[r];
        total += weight[r];
    }
    for (int64_t r = 0; r < w->n; r++) weight[r] /= total;
    return total;
}
static vreal K(ordinal_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    vreal weight[CNN_POOL_RANKED];
    K(weigh_ranks)(c, w, weight);
    return K(ranked_sum)(w, x, weight);
}
static void K(ordinal_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    vreal weight[CNN_POOL_RANKED];
    const vreal total = K(weigh_ranks)(c, w, weight);
    K(ranked_share)(w->n, x, weight, dy, dx);
    if (!w->gradient) return;
    K(sort_cells)(w, x);
    for (int64_t r = 0; r < w->n; r++)
        w->gradient[r] += dy * (w->work[r] - y) * (c->setting[0] != 0 ? weight[r] : (vreal)(1 / total));
}

/* Rank average ── setting: t, 0: half of the cells. Rank weighted ── settings: a, normalized */
static void K(average_weights)(const cnn_pool *c, int64_t n, vreal *weight) {
    int64_t t = c->setting[0] != 0 ? (int64_t)c->setting[0] : (n + 1) / 2;
    t = t < n ? t : n;
    for (int64_t r = 0; r < n; r++) weight[r] = K(splat)(r < t ? (REAL)(1 / (double)t) : 0);
}
static vreal K(rank_avg_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    vreal weight[CNN_POOL_RANKED];
    K(average_weights)(c, w->n, weight);
    return K(ranked_sum)(w, x, weight);
}
static void K(rank_avg_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    vreal weight[CNN_POOL_RANKED];
    K(average_weights)(c, w->n, weight);
    K(ranked_share)(w->n, x, weight, dy, dx);
}
static void K(falling_weights)(const cnn_pool *c, int64_t n, vreal *weight) {
    const double a = c->setting[0];
    double power = a, total = 0;
    for (int64_t r = 0; r < n; r++, power *= 1 - a) total += power;
    power = c->setting[1] != 0 ? a / total : a;
    for (int64_t r = 0; r < n; r++, power *= 1 - a) weight[r] = K(splat)((REAL)power);
}
static vreal K(rank_weighted_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    vreal weight[CNN_POOL_RANKED];
    K(falling_weights)(c, w->n, weight);
    return K(ranked_sum)(w, x, weight);
}
static void K(rank_weighted_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    vreal weight[CNN_POOL_RANKED];
    K(falling_weights)(c, w->n, weight);
    K(ranked_share)(w->n, x, weight, dy, dx);
}

/* ── Dilation and erosion ───────────────────────────────────────────────────────────────────────────────────────────── */

static vreal K(dilation_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    for (int64_t i = 0; i < w->n; i++) w->work[i] = x[i] + w->parameter[w->tap[i]];
    return K(largest_of_cells)(w->work, w->n);
}
static vreal K(erosion_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    for (int64_t i = 0; i < w->n; i++) w->work[i] = x[i] - w->parameter[w->tap[i]];
    return K(smallest_of_cells)(w->work, w->n);
}
static void K(dilation_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    const vreal largest = K(dilation_forward)(c, w, x);
    K(first_backward)(c, w, w->work, largest, dy, dx);
    if (w->gradient)
        for (int64_t i = 0; i < w->n; i++) w->gradient[w->tap[i]] += dx[i];
}
static void K(erosion_backward)(const cnn_pool *c, K(whole_window) *w, const vreal *x, vreal y, vreal dy, vreal *dx) {
    const vreal smallest = K(erosion_forward)(c, w, x);
    K(first_backward)(c, w, w->work, smallest, dy, dx);
    if (w->gradient)
        for (int64_t i = 0; i < w->n; i++) w->gradient[w->tap[i]] -= dx[i];
}

/* ── The loops ──────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Scratch of a task: offsets of a window's cells in x and in dx, their taps and positions, the cells and their gradients, and
 * the learned numbers of the task's channels with partial (REAL) and total (float64) sums of their gradients. */
typedef struct {
    int64_t *offset, *target, *tap, *place;
    vreal *x, *dx, *work, *parameter, *gradient;
    double *total;
} K(whole_scratch);

static K(whole_scratch) K(whole_scratch_of)(const cnn_pool *c, REAL *scratch) {
    K(whole_scratch) r;
    r.x = (vreal *)((char *)scratch + c->whole_scratch);
    r.dx = r.x + c->cells;
    r.work = r.dx + c->cells;
    r.parameter = r.work + 2 * c->cells;
    r.gradient = r.parameter + c->vectors * c->parameters;
    r.total = (double *)(r.gradient + c->vectors * c->parameters);
    r.offset = (int64_t *)(r.total + c->vectors * c->parameters * LANES);
    r.target = r.offset + c->cells;
    r.tap = r.target + c->cells;
    r.place = r.tap + c->cells;
    return r;
}

/* The number of the plane in lane `at` of a task; `plane`, its first, counts all planes or, if packed, the packed ones. */
ALWAYS_INLINE int64_t K(plane_of)(const cnn_pool *c, int packed, int64_t plane, int64_t planes, int64_t at) {
    if (!packed) return plane + at;
    const int64_t C = c->x.shape[1], channels = C - c->in_place, p = plane + (at < planes ? at : planes - 1);
    return p / channels * C + c->in_place + p % channels;
}

static void K(whole_begin)(const cnn_pool *c, REAL *scratch, int packed, int64_t plane, int64_t planes, int64_t vectors) {
    const K(whole_scratch) r = K(whole_scratch_of)(c, scratch);
    const int64_t P = c->parameters;
    for (int64_t at = 0; at < vectors * LANES; at++) {
        const double *row = c->parameter + K(plane_of)(c, packed, plane, planes, at) % c->parameter_rows * P;
        for (int64_t k = 0; k < P; k++) r.parameter[at / LANES * P + k][at % LANES] = (REAL)row[k];
    }
    for (int64_t k = 0; k < vectors * P; k++) r.gradient[k] = (vreal){0};
    for (int64_t k = 0; k < vectors * P * LANES; k++) r.total[k] = 0;
}

/* Writes the gradients of the learned numbers, summed over all windows. */
static void K(whole_end)(const cnn_pool *c, REAL *scratch, int packed, int64_t plane, int64_t planes, int64_t vectors) {
    const K(whole_scratch) r = K(whole_scratch_of)(c, scratch);
    const int64_t P = c->parameters, held = packed ? planes : vectors * LANES;
    if (!c->learns) return;
    for (int64_t at = 0; at < held; at++) {
        double *row = c->gradient + K(plane_of)(c, packed, plane, planes, at) * P;
        for (int64_t k = 0; k < P; k++) row[k] = r.total[(at / LANES * P + k) * LANES + at % LANES];
    }
}

/* Offsets and taps of the cells of window (od, oh, ow); returns how many there are. */
static int64_t K(whole_cells)(
    const cnn_pool *c, K(pool_view) x, int64_t od, int64_t oh, int64_t ow, int64_t *offset, int64_t *tap
) {
    const cnn_axis *D = &c->axis[0], *H = &c->axis[1], *W = &c->axis[2];
    const int64_t first = K(view_offset)(x, D->first[od], H->first[oh], W->first[ow]);
    int64_t n = 0;
    for (int64_t d = 0; d < D->count[od]; d++)
        for (int64_t h = 0; h < H->count[oh]; h++)
            for (int64_t w = 0; w < W->count[ow]; w++, n++) {
                offset[n] = first + d * D->step * x.stride[0] + h * H->step * x.stride[1] + w * W->step * x.stride[2];
                tap[n] = ((D->tap[od] + d) * H->kernel + H->tap[oh] + h) * W->kernel + W->tap[ow] + w;
            }
    return n;
}

/* Row-major positions of the cells of window (od, oh, ow) in their plane. */
static void K(whole_places)(const cnn_pool *c, int64_t od, int64_t oh, int64_t ow, int64_t *place) {
    const cnn_axis *D = &c->axis[0], *H = &c->axis[1], *W = &c->axis[2];
    for (int64_t d = 0; d < D->count[od]; d++)
        for (int64_t h = 0; h < H->count[oh]; h++)
            for (int64_t w = 0; w < W->count[ow]; w++)
                *place++ = ((D->first[od] + d * D->step) * H->input + H->first[oh] + h * H->step) * W->input + W->first[ow]
                    + w * W->step;
}

#define POOL_DRAWN (2 * BLOCKS - 2) /* adjacent windows whose random numbers are drawn together */

/* The random numbers of the adjacent windows ow <= o < end of each plane. */
static void K(whole_draw)(
    const cnn_pool *c, int packed, int64_t plane, int64_t planes, int64_t od, int64_t oh, int64_t ow, int64_t end,
    double drawn[LANES][POOL_DRAWN]
) {
    const int64_t rows = c->axis[0].output * c->axis[1].output;
    for (int64_t l = 0; l < LANES; l++) {
        const uint64_t row = (uint64_t)(K(plane_of)(c, packed, plane, planes, l) * rows + od * c->axis[1].output + oh);
        const uint64_t first = c->first_window + row * (uint64_t)c->axis[2].output + (uint64_t)ow;
        uint64_t number[2][BLOCKS];
        K(philox_run)(c->seed, (int64_t)(first >> 1), number[0], number[1]);
        for (uint64_t o = 0, at = first & 1; o < (uint64_t)(end - ow); o++, at++)
            drawn[l][o] = (double)(int64_t)number[at & 1][at >> 1] * (1.0 / 9007199254740992.0);
    }
}

ALWAYS_INLINE K(whole_window)
    K(whole_window_of)(const cnn_pool *c, const K(whole_scratch) *r, int64_t n, int64_t vector, int64_t planes) {
    return (K(whole_window)){
        .n = n,
        .tap = r->tap,
        .taps = c->axis[0].kernel * c->axis[1].kernel * c->axis[2].kernel,
        .parameter = r->parameter + vector * c->parameters,
        .gradient = c->learns ? r->gradient + vector * c->parameters : NULL,
        .work = r->work,
        .lanes = planes < LANES ? planes : LANES,
    };
}

static void K(whole_forward_windows)(
    const struct K(whole_strategy) *whole, const cnn_pool *c, REAL *scratch, K(pool_view) x, K(pool_view) y,
    int64_t *const *index, int packed, int64_t plane, int64_t planes, int64_t vectors, const int64_t *low, const int64_t *high
) {
    const K(whole_scratch) r = K(whole_scratch_of)(c, scratch);
    const int selects = whole->selects && c->indices.data != NULL;
    double drawn[LANES][POOL_DRAWN], number[LANES];
    K(probability_cache) cache = {0};
    for (int64_t od = low[0]; od < high[0]; od++)
        for (int64_t oh = low[1]; oh < high[1]; oh++)
            for (int64_t ow = low[2]; ow < high[2]; ow++) {
                const int64_t n = K(whole_cells)(c, x, od, oh, ow, r.offset, r.tap), at = (ow - low[2]) % POOL_DRAWN;
                REAL *value = y.data + K(view_offset)(y, od, oh, ow);
                if (selects) K(whole_places)(c, od, oh, ow, r.place);
                if (whole->draws && at == 0)
                    K(whole_draw)(
                        c, packed, plane, planes, od, oh, ow, high[2] - ow < POOL_DRAWN ? high[2] : ow + POOL_DRAWN, drawn
                    );
                if (whole->draws)
                    for (int l = 0; l < LANES; l++) number[l] = drawn[l][at];
                for (int64_t v = 0; v < vectors; v++) {
                    K(whole_window) w = K(whole_window_of)(c, &r, n, v, planes);
                    w.drawn = number;
                    w.cache = &cache;
                    for (int64_t i = 0; i < n; i++) r.x[i] = K(load)(x.data + r.offset[i] + v * LANES);
                    K(store)(value + v * LANES, whole->forward(c, &w, r.x));
                    if (w.refused) __atomic_store_n((int *)&c->refused, CNN_POOL_REFUSED_CELLS, __ATOMIC_RELAXED);
                    if (!selects) continue;
                    const int64_t *t = c->indices.stride, offset = od * t[2] + oh * t[3] + ow * t[4];
                    for (int l = 0; l < LANES; l++) {
                        int64_t *positions = index[v * LANES + l];
                        if (positions != NULL) positions[offset] = w.cell[l] < 0 ? -1 : r.place[w.cell[l]];
                    }
                }
            }
}

static void K(whole_backward_windows)(
    const struct K(whole_strategy) *whole, const cnn_pool *c, REAL *scratch, K(pool_view) x, K(pool_view) y, K(pool_view) dy,
    K(pool_view) dx, int64_t planes, int64_t vectors, const int64_t *low, const int64_t *high
) {
    const K(whole_scratch) r = K(whole_scratch_of)(c, scratch);
    const int64_t P = c->learns ? vectors * c->parameters : 0;
    for (int64_t od = low[0]; od < high[0]; od++)
        for (int64_t oh = low[1]; oh < high[1]; oh++)
            for (int64_t ow = low[2]; ow < high[2]; ow++) {
                const int64_t n = K(whole_cells)(c, x, od, oh, ow, r.offset, r.tap);
                K(whole_cells)(c, dx, od, oh, ow, r.target, r.tap);
                const REAL *value = whole->reads_y ? y.data + K(view_offset)(y, od, oh, ow) : NULL;
                const REAL *share = dy.data + K(view_offset)(dy, od, oh, ow);
                for (int64_t v = 0; v < vectors; v++) {
                    K(whole_window) w = K(whole_window_of)(c, &r, n, v, planes);
                    for (int64_t i = 0; i < n; i++) r.x[i] = K(load)(x.data + r.offset[i] + v * LANES);
                    whole->backward(
                        c, &w, r.x, value ? K(load)(value + v * LANES) : (vreal){0}, K(load)(share + v * LANES), r.dx
                    );
                    for (int64_t i = 0; i < n; i++) {
                        REAL *gradient = dx.data + r.target[i] + v * LANES;
                        K(store)(gradient, K(load)(gradient) + r.dx[i]);
                    }
                }
                /* REAL sums stay short: every POOL_RUN windows they are added to the float64 totals. */
                if (P && (ow % POOL_RUN == POOL_RUN - 1 || ow == high[2] - 1))
                    for (int64_t k = 0; k < P; k++) {
                        for (int l = 0; l < LANES; l++) r.total[k * LANES + l] += r.gradient[k][l];
                        r.gradient[k] = (vreal){0};
                    }
            }
}

static const K(pool_strategy) K(pool_whole) = {.whole = 1, .reads_x = 1, .reads_y = 1};

static void K(pool_forward_whole)(
    const struct K(whole_strategy) *whole, const cnn_pool *c, int64_t begin, int64_t end, REAL *scratch
) {
    K(pool_forward_tasks)(&K(pool_whole), whole, c, begin, end, scratch);
}
static void K(pool_backward_whole)(
    const struct K(whole_strategy) *whole, const cnn_pool *c, int64_t begin, int64_t end, REAL *scratch
) {
    K(pool_backward_tasks)(&K(pool_whole), whole, c, begin, end, scratch);
}

/* ── Tasks ──────────────────────────────────────────────────────────────────────────────────────────────────────────── */

#define POOL_WHOLE_FORWARD(strategy, ...) \
    static const struct K(whole_strategy) K(strategy##_whole) = {.forward = K(strategy##_forward), __VA_ARGS__}; \
    static void K(strategy##_pool_forward)(void *call, int64_t begin, int64_t end, void *scratch) { \
        K(pool_forward_whole)(&K(strategy##_whole), call, begin, end, scratch); \
    }
#define POOL_WHOLE(strategy, backward_by, ...) \
    POOL_WHOLE_FORWARD(strategy, .backward = K(backward_by##_backward), __VA_ARGS__) \
    static void K(strategy##_pool_backward)(void *call, int64_t begin, int64_t end, void *scratch) { \
        K(pool_backward_whole)(&K(strategy##_whole), call, begin, end, scratch); \
    }

POOL_WHOLE(min, first, .reads_y = 1, .selects = 1)
POOL_WHOLE(mixed, mixed)
POOL_WHOLE(gated, gated)
POOL_WHOLE(tree, tree)
POOL_WHOLE(soft, soft, .reads_y = 1)
POOL_WHOLE(auto, auto, .reads_y = 1)
POOL_WHOLE(log_sum_exp, log_sum_exp)
POOL_WHOLE(gem, gem)
POOL_WHOLE(alpha, alpha)
POOL_WHOLE(learned_lp, learned_lp)
POOL_WHOLE(median, median)
POOL_WHOLE(ordinal, ordinal, .reads_y = 1)
POOL_WHOLE(rank_avg, rank_avg)
POOL_WHOLE(rank_weighted, rank_weighted)
POOL_WHOLE(dilation, dilation)
POOL_WHOLE(erosion, erosion)
