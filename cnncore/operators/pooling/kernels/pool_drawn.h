/* Strategies that draw cells (training). They use the random numbers of the reference implementation and decide in float64 as
 * it does, so that every target draws the same cells. Planes are always packed; backward needs nothing but the positions.
 */

/* ── Stochastic ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Of WIDE lanes: the first positive cell at which the cumulative sum exceeds `drawn` times the total, else the last positive. */
static void K(stochastic_cells)(int64_t n, const REAL *x, vwide largest, vwide drawn, vwide *relative, INTEGER *selected) {
    typedef int64_t mask __attribute__((vector_size(VECTOR_BYTES)));
    const mask endless = largest == INFINITY; /* infinite cells have weight 1, the others 0 */
    vwide total = {0}, reached = {0}, cell = {0};
    mask left = ~(mask){0};
    for (int64_t i = 0; i < n; i++) {
        const vwide value = K(widen)(x + i * LANES), quotient = value / largest;
        const mask one = (mask)(1.0 - (vwide){0}) & (value == INFINITY);
        relative[i] = (vwide)((endless & one) | (~endless & (mask)quotient));
        total += relative[i];
    }
    total *= drawn;
    for (int64_t i = 0; i < n; i++) {
        const mask some = (K(widen)(x + i * LANES) > 0) & left;
        reached += relative[i];
        cell = (vwide)((some & (mask)((double)i - (vwide){0})) | (~some & (mask)cell));
        left &= ~(some & (reached > total));
    }
    for (int l = 0; l < WIDE; l++) selected[l] = (INTEGER)cell[l];
}
static vreal K(stochastic_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    INTEGER selected[LANES];
    vreal largest = {0}, y = {0};
    vmask refused = {0};
    for (int64_t i = 0; i < w->n; i++) {
        refused |= ~(x[i] >= 0);
        largest = K(select)(x[i] > largest, x[i], largest);
    }
    for (int64_t l = 0; l < w->lanes; l++) w->refused |= refused[l] != 0;
    for (int l = 0; l < LANES; l += WIDE)
        K(stochastic_cells)(
            w->n, (const REAL *)x + l, K(widen)((const REAL *)&largest + l), *(const vwide *)(w->drawn + l), (vwide *)w->work,
            selected + l
        );
    w->cell = *(const vmask *)selected;
    for (int64_t i = 0; i < w->n; i++) y = K(select)(w->cell == (INTEGER)i, x[i], y);
    return y;
}

/* ── Rank stochastic ── settings: a, 1 ──────────────────────────────────────────────────────────────────────────────── */

/* cumulative[r]: the probability to draw one of the first r + 1 of n ranks. */
static void K(rank_probabilities)(const cnn_pool *c, int64_t n, double *cumulative) {
    const double a = c->setting[0];
    double total = 0, sum = 0;
    for (int64_t r = 0; r < n; r++) total += a * pow(1 - a, (double)r);
    for (int64_t r = 0; r < n; r++) cumulative[r] = sum += a * pow(1 - a, (double)r) / total;
}
static vreal K(rank_stochastic_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    vmask rank[CNN_POOL_RANKED], drawn = {0};
    vreal y = {0};
    if (w->cache->n != w->n) {
        K(rank_probabilities)(c, w->n, w->cache->cumulative);
        w->cache->n = w->n;
    }
    for (int l = 0; l < LANES; l++) {
        int64_t r = 0;
        while (r < w->n - 1 && !(w->cache->cumulative[r] > w->drawn[l])) r++;
        drawn[l] = (INTEGER)r;
    }
    K(rank_cells)(w->n, x, rank);
    for (int64_t i = 0; i < w->n; i++) {
        const vmask hit = rank[i] == drawn;
        y = K(select)(hit, x[i], y);
        w->cell |= hit & ((INTEGER)i - (vmask){0});
    }
    return y;
}

/* ── Max-pooling dropout ── setting: q ──────────────────────────────────────────────────────────────────────────────── */

/* Dropped cells are marked by the NaN with all bits set; other NaNs are replaced by a canonical one first. */
static void K(max_dropout_prepare)(const cnn_pool *c, REAL *packed, int64_t plane, int64_t planes, int64_t from, int64_t to) {
    const int64_t slice = K(pool_slice)(c, &c->x), first = from * slice, end = to * slice;
    const uint64_t least = (uint64_t)ceil(c->setting[0] * 9007199254740992.0);
    uint64_t pair[BLOCKS], number[2][BLOCKS];
    for (int64_t place = first / 2 * 2; place < end; place += 2 * (BLOCKS / LANES)) {
        for (int b = 0; b < BLOCKS; b++) {
            const uint64_t p = c->first_plane + (uint64_t)K(plane_of)(c, 1, plane, planes, b % LANES);
            pair[b] = (p << 39) + (uint64_t)(place / 2 + b / LANES);
        }
        K(philox)(c->seed, pair, number[0], number[1]);
        for (int64_t at = place < first ? first : place; at < place + 2 * (BLOCKS / LANES) && at < end; at++) {
            const uint64_t *drawn = number[at & 1] + (at - place) / 2 * LANES;
            REAL *cells = packed + (at - first) * LANES;
            const vreal x = K(load)(cells), plain = K(select)(x != x, K(splat)(NAN), x);
            vmask kept;
            for (int l = 0; l < LANES; l++) kept[l] = drawn[l] >= least ? -1 : 0;
            K(store)(cells, (vreal)((vmask)plain | ~kept));
        }
    }
}
static vreal K(max_dropout_forward)(const cnn_pool *c, K(whole_window) *w, const vreal *x) {
    vreal y = {0};
    w->cell = (vmask){0} - 1;
    for (int64_t i = 0; i < w->n; i++) {
        const vmask better = ((vmask)x[i] != -1) & ((w->cell < 0) | K(precedes)(x[i], y));
        y = K(select)(better, x[i], y);
        w->cell = (better & ((INTEGER)i - (vmask){0})) | (~better & w->cell);
    }
    return y;
}

/* ── Backward ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Whether some cell of window (od, oh, ow) of a plane is positive. */
static int K(any_positive)(const cnn_pool *c, const REAL *plane, int64_t od, int64_t oh, int64_t ow) {
    const cnn_axis *D = &c->axis[0], *H = &c->axis[1], *W = &c->axis[2];
    const int64_t *s = c->x.stride;
    for (int64_t d = 0; d < D->count[od]; d++)
        for (int64_t h = 0; h < H->count[oh]; h++)
            for (int64_t w = 0; w < W->count[ow]; w++) {
                const int64_t at = (D->first[od] + d * D->step) * s[2] + (H->first[oh] + h * H->step) * s[3];
                if (plane[at + (W->first[ow] + w * W->step) * s[4]] > 0) return 1;
            }
    return 0;
}

ALWAYS_INLINE int64_t K(position_offset)(const cnn_tensor *t, int64_t position, int merged) {
    if (merged) return position * t->stride[4];
    const int64_t W = t->shape[4], HW = t->shape[3] * W;
    return position / HW * t->stride[2] + position % HW / W * t->stride[3] + position % W * t->stride[4];
}
/* Whether position * stride[4] is the offset of a position: the plane is contiguous but for its innermost stride. */
static int K(lines_merge)(const cnn_tensor *t) {
    return t->stride[3] == t->shape[4] * t->stride[4] && (t->shape[2] == 1 || t->stride[2] == t->shape[3] * t->stride[3]);
}

/* dy goes to the cells that were drawn. A task is `vectors` channels of an image. With `reads_x` only windows with a positive
 * cell have a gradient. */
ALWAYS_INLINE void K(drawn_backward)(const cnn_pool *c, const int reads_x, int64_t begin, int64_t end) {
    const cnn_tensor *dx = &c->dx, *dy = &c->dy, *x = &c->x, *drawn = &c->drawn;
    const int64_t C = dx->shape[1], block = c->vectors, blocks = (C + block - 1) / block;
    const int merged = K(lines_merge)(dx), x_merged = K(lines_merge)(x);
    int64_t left = CNN_PIECE;
    for (int64_t task = begin; task < end; task++) {
        const int64_t n = task / blocks, channel = task % blocks * block, channels = C - channel < block ? C - channel : block;
        REAL *gradient = (REAL *)dx->data + n * dx->stride[0] + channel * dx->stride[1];
        const REAL *share = (const REAL *)dy->data + n * dy->stride[0] + channel * dy->stride[1];
        const REAL *image = (const REAL *)x->data + n * x->stride[0] + channel * x->stride[1];
        const int64_t *position = (const int64_t *)drawn->data + n * drawn->stride[0] + channel * drawn->stride[1];
        for (int64_t d = 0; !c->accumulate && d < dx->shape[2]; d++)
            for (int64_t h = 0; h < dx->shape[3]; h++) {
                if (cnn_stop_after(&left, dx->shape[4] * channels)) return;
                for (int64_t w = 0; w < dx->shape[4]; w++)
                    for (int64_t k = 0; k < channels; k++)
                        gradient[d * dx->stride[2] + h * dx->stride[3] + w * dx->stride[4] + k * dx->stride[1]] = 0;
            }
        for (int64_t od = 0; od < c->axis[0].output; od++)
            for (int64_t oh = 0; oh < c->axis[1].output; oh++) {
                if (cnn_stop_after(&left, 4 * c->axis[2].output * channels)) return;
                for (int64_t ow = 0; ow < c->axis[2].output; ow++) {
                    const int64_t from = od * dy->stride[2] + oh * dy->stride[3] + ow * dy->stride[4];
                    const int64_t at = od * drawn->stride[2] + oh * drawn->stride[3] + ow * drawn->stride[4];
                    for (int64_t k = 0; k < channels; k++) {
                        const int64_t p = position[at + k * drawn->stride[1]];
                        if (p < 0) continue;
                        const REAL *plane = image + k * x->stride[1];
                        if (reads_x && !(plane[K(position_offset)(x, p, x_merged)] > 0)
                            && !K(any_positive)(c, plane, od, oh, ow))
                            continue;
                        gradient[K(position_offset)(dx, p, merged) + k * dx->stride[1]] += share[from + k * dy->stride[1]];
                    }
                }
            }
    }
}

/* ── Tasks ──────────────────────────────────────────────────────────────────────────────────────────────────────────── */

#define POOL_DRAWS(strategy, reads_x, ...) \
    POOL_WHOLE_FORWARD(strategy, .selects = 1, __VA_ARGS__) \
    static void K(strategy##_pool_backward)(void *call, int64_t begin, int64_t end, void *scratch) { \
        K(drawn_backward)(call, reads_x, begin, end); \
    }

POOL_DRAWS(stochastic, 1, .draws = 1)
POOL_DRAWS(rank_stochastic, 0, .draws = 1)
POOL_DRAWS(max_dropout, 0, .prepare = K(max_dropout_prepare))
