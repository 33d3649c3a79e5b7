/* Winograd's minimal filtering: F(4×4, 3×3) makes sixteen outputs from 36 multiplications instead of 144, F(2×2, 3×3) four from
 * 16 instead of 36, F(2×2, 5×5) four from 36 instead of 100.
 *
 * Lavin & Gray 2016, arXiv:1509.09308. With m outputs and r taps along an axis, a tile d of (m+r−1)² inputs gives m² outputs:
 *
 *     y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A           summed over the input channels between transforms: (m+r−1)² matrix products
 *
 * The transforms interpolate at m+r−1 points: 0, ±1, ∞ where there are four and 0, ±a, ±1/a, ∞ with a = 2/3 where there are six.
 * The textbook's ±1, ±2 lose twice as many digits: the powers of the points enter y, and reciprocal pairs keep them near 1
 * (Barabasz et al. 2020, arXiv:1803.10986). For six points, with b = 1/a and s = a² + b²:
 *
 *     Bᵀ =  1   0   −s   0   1   0       Aᵀ = 1  1   1   1   1   0       G =  1            0        0   …
 *           0  −b  −b²   a   1   0            0  a  −a   b  −b   0            n            n a      n a² …     n = 1 / (2a²(a² − b²))
 *           0   b  −b²  −a   1   0            0  a²  a²  b²  b²  0            n           −n a      n a² …
 *           0  −a  −a²   b   1   0            :                  :            k            k b      k b² …     k = 1 / (2b²(b² − a²))
 *           0   a  −a²  −b   1   0            0  …               1            k           −k b      k b² …
 *           0   1   0   −s   0   1       (m rows; 1 in the last)              0            0        …  1      (r columns)
 *
 *     and for four:   Bᵀ =  1   0  −1   0       Aᵀ = 1  1   1   0       G =  1   0   0
 *                           0   1   1   0            0  1  −1   1            ½   ½   ½
 *                           0  −1   1   0                                    ½  −½   ½
 *                           0  −1   0   1                                    0   0   1
 *
 * Channels are innermost, so that transforms are plain arithmetic on vectors of channels.
 */
#define WINOGRAD_A ((REAL)2 / 3)
#define WINOGRAD_B ((REAL)3 / 2)
#define WINOGRAD_N (1 / (2 * a * a * (a * a - b * b)))
#define WINOGRAD_K (1 / (2 * b * b * (b * b - a * a)))

/* ── Along one axis ── values lie `step` apart; outputs, taps and points are constants wherever these are used ── */

/* v[0 … points) = Bᵀ v. */
static inline __attribute__((always_inline)) void K(winograd_input)(vreal *v, const int step, const int points) {
    if (points == 4) {
        const vreal d1 = v[step], d2 = v[2 * step];
        v[0] -= d2;
        v[step] = d1 + d2;
        v[2 * step] = d2 - d1;
        v[3 * step] -= d1;
    } else {
        const REAL a = WINOGRAD_A, b = WINOGRAD_B, s = a * a + b * b;
        const vreal d0 = v[0], d1 = v[step], d2 = v[2 * step], d3 = v[3 * step], d4 = v[4 * step], d5 = v[5 * step];
        const vreal even_a = d4 - b * b * d2, odd_a = a * d3 - b * d1, even_b = d4 - a * a * d2, odd_b = b * d3 - a * d1;
        v[0] = d0 + d4 - s * d2;
        v[step] = even_a + odd_a;
        v[2 * step] = even_a - odd_a;
        v[3 * step] = even_b + odd_b;
        v[4 * step] = even_b - odd_b;
        v[5 * step] = d1 + d5 - s * d3;
    }
}

/* v[0 … outputs) = Aᵀ v. */
static inline __attribute__((always_inline)) void K(winograd_output)(vreal *v, const int step, const int outputs, const int points) {
    if (points == 4) {
        const vreal sum = v[step] + v[2 * step], difference = v[step] - v[2 * step];
        v[0] += sum;
        v[step] = difference + v[3 * step];
    } else {
        const REAL a = WINOGRAD_A, b = WINOGRAD_B;
        const vreal sum_a = v[step] + v[2 * step], difference_a = a * (v[step] - v[2 * step]);
        const vreal sum_b = v[3 * step] + v[4 * step], difference_b = b * (v[3 * step] - v[4 * step]);
        v[0] += sum_a + sum_b;
        v[step] = difference_a + difference_b;
        if (outputs == 4) {
            v[2 * step] = a * a * sum_a + b * b * sum_b;
            v[3 * step] = a * a * difference_a + b * b * difference_b;
        }
        v[(outputs - 1) * step] += v[5 * step];
    }
}

/* u[0 … points) = G g; the taps g lie `g_step` apart. */
static inline __attribute__((always_inline)) void K(winograd_weight)(
    const vreal *g, const int g_step, vreal *u, const int step, const int taps, const int points
) {
    u[0] = g[0];
    if (points == 4) {
        const vreal even = (REAL)0.5 * (g[0] + g[2 * g_step]), odd = (REAL)0.5 * g[g_step];
        u[step] = even + odd;
        u[2 * step] = even - odd;
    } else {
        const REAL a = WINOGRAD_A, b = WINOGRAD_B, n = WINOGRAD_N, k = WINOGRAD_K;
        vreal even_a = n * g[0] + n * a * a * g[2 * g_step], odd_a = n * a * g[g_step];
        vreal even_b = k * g[0] + k * b * b * g[2 * g_step], odd_b = k * b * g[g_step];
        if (taps == 5) {
            even_a += n * a * a * a * a * g[4 * g_step];
            odd_a += n * a * a * a * g[3 * g_step];
            even_b += k * b * b * b * b * g[4 * g_step];
            odd_b += k * b * b * b * g[3 * g_step];
        }
        u[step] = even_a + odd_a;
        u[2 * step] = even_a - odd_a;
        u[3 * step] = even_b + odd_b;
        u[4 * step] = even_b - odd_b;
    }
    u[(points - 1) * step] = g[(taps - 1) * g_step];
}

/* v[0 … points) = A v. */
static inline __attribute__((always_inline)) void K(winograd_output_adjoint)(
    vreal *v, const int step, const int outputs, const int points
) {
    const vreal y0 = v[0], y1 = v[step];
    v[(points - 1) * step] = v[(outputs - 1) * step];
    if (points == 4) {
        v[step] = y0 + y1;
        v[2 * step] = y0 - y1;
    } else {
        const REAL a = WINOGRAD_A, b = WINOGRAD_B;
        vreal even_a = y0, odd_a = a * y1, even_b = y0, odd_b = b * y1;
        if (outputs == 4) {
            const vreal y2 = v[2 * step], y3 = v[3 * step];
            even_a += a * a * y2;
            odd_a += a * a * a * y3;
            even_b += b * b * y2;
            odd_b += b * b * b * y3;
        }
        v[step] = even_a + odd_a;
        v[2 * step] = even_a - odd_a;
        v[3 * step] = even_b + odd_b;
        v[4 * step] = even_b - odd_b;
    }
}

/* v[0 … taps) = Gᵀ v. */
static inline __attribute__((always_inline)) void K(winograd_weight_adjoint)(
    vreal *v, const int step, const int taps, const int points
) {
    const vreal last = v[(points - 1) * step];
    if (points == 4) {
        const vreal even = (REAL)0.5 * (v[step] + v[2 * step]), odd = (REAL)0.5 * (v[step] - v[2 * step]);
        v[0] += even;
        v[step] = odd;
        v[2 * step] = even;
    } else {
        const REAL a = WINOGRAD_A, b = WINOGRAD_B, n = WINOGRAD_N, k = WINOGRAD_K;
        const vreal even_a = n * (v[step] + v[2 * step]), even_b = k * (v[3 * step] + v[4 * step]);
        const vreal odd_a = n * a * (v[step] - v[2 * step]), odd_b = k * b * (v[3 * step] - v[4 * step]);
        v[0] += even_a + even_b;
        v[step] = odd_a + odd_b;
        v[2 * step] = a * a * even_a + b * b * even_b;
        if (taps == 5) {
            v[3 * step] = a * a * odd_a + b * b * odd_b;
            v[4 * step] = a * a * a * a * even_a + b * b * b * b * even_b;
        }
    }
    v[(taps - 1) * step] += last;
}

/* ── Both axes of a tile ── one vector of channels at a time; points of the transformed tile lie `point` apart ── */

/* Bᵀ d B of `channels` channels; the pixels of d are those of the field. */
static inline __attribute__((always_inline)) void K(winograd_transform_input)(
    const K(field) *f, int64_t channels, REAL *to, int64_t point, const int points
) {
    for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t lanes = channels - c;
        vreal v[36];
#pragma GCC unroll 6
        for (int i = 0; i < points; i++)
#pragma GCC unroll 6
            for (int j = 0; j < points; j++) {
                const REAL *from = f->a + i * f->row + j * f->column + c;
                v[points * i + j] = lanes >= LANES ? K(load)(from) : K(load_tail)(from, lanes);
            }
#pragma GCC unroll 6
        for (int i = 0; i < points; i++) K(winograd_input)(v + points * i, 1, points);
#pragma GCC unroll 6
        for (int j = 0; j < points; j++) {
            K(winograd_input)(v + j, points, points);
#pragma GCC unroll 6
            for (int i = 0; i < points; i++) K(store)(to + (points * i + j) * point + c, v[points * i + j]);
        }
    }
}

/* Where a tile of y goes, and what is done to it on the way. */
typedef struct {
    REAL *y;
    int64_t row, column;        /* strides of y */
    int64_t rows, columns;      /* of the tile, as far as they exist */
    const REAL *bias;           /* NULL: none */
    int64_t add;
    int clamp;                  /* y is held between these two: */
    REAL lower, upper;
} K(winograd_target);

/* y = Aᵀ m A of `channels` channels, with what is done to it on the way. */
static inline __attribute__((always_inline)) void K(winograd_transform_output)(
    const REAL *m, int64_t point, int64_t channels, const K(winograd_target) *to, const int outputs, const int points
) {
    for (int64_t k = 0; k < channels; k += LANES) {
        const int64_t lanes = channels - k;
        const vreal b = to->bias ? K(load)(to->bias + k) : (vreal){0};
        vreal v[36];
#pragma GCC unroll 6
        for (int j = 0; j < points; j++) {
#pragma GCC unroll 6
            for (int i = 0; i < points; i++) v[points * i + j] = K(load)(m + (points * i + j) * point + k);
            K(winograd_output)(v + j, points, outputs, points);
        }
#pragma GCC unroll 4
        for (int i = 0; i < outputs; i++) {
            K(winograd_output)(v + points * i, 1, outputs, points);
#pragma GCC unroll 4
            for (int j = 0; j < outputs; j++) {
                if (i >= to->rows || j >= to->columns) continue;
                REAL *y = to->y + i * to->row + j * to->column + k;
                vreal value = v[points * i + j] + b;
                if (to->add) value += lanes >= LANES ? K(load)(y) : K(load_tail)(y, lanes);
                if (to->clamp) value = K(clamped)(value, to->lower, to->upper);
                if (lanes >= LANES)
                    K(store)(y, value);
                else
                    K(store_tail)(y, value, lanes);
            }
        }
    }
}

/* G g Gᵀ of one vector of outputs; tap t of each lies at g + t next. */
static inline __attribute__((always_inline)) void K(winograd_transform_weight)(
    const REAL *g, int64_t next, REAL *to, int64_t point, const int taps, const int points
) {
    vreal tap[25], half[30], u[36];
#pragma GCC unroll 25
    for (int t = 0; t < taps * taps; t++) tap[t] = K(load)(g + t * next);
#pragma GCC unroll 5
    for (int j = 0; j < taps; j++) K(winograd_weight)(tap + j, taps, half + j, taps, taps, points);
#pragma GCC unroll 6
    for (int i = 0; i < points; i++) K(winograd_weight)(half + taps * i, 1, u + points * i, 1, taps, points);
#pragma GCC unroll 36
    for (int q = 0; q < points * points; q++) K(store)(to + q * point, u[q]);
}

/* A dy Aᵀ of `width` channels, whole vectors. */
static inline __attribute__((always_inline)) void K(winograd_transform_gradient)(
    const REAL *from, int64_t row, int64_t column, int64_t width, REAL *to, int64_t point, const int outputs, const int points
) {
    for (int64_t k = 0; k < width; k += LANES) {
        vreal v[36];
#pragma GCC unroll 4
        for (int i = 0; i < outputs; i++) {
#pragma GCC unroll 4
            for (int j = 0; j < outputs; j++) v[points * i + j] = K(load)(from + i * row + j * column + k);
            K(winograd_output_adjoint)(v + points * i, 1, outputs, points);
        }
#pragma GCC unroll 6
        for (int j = 0; j < points; j++) {
            K(winograd_output_adjoint)(v + j, points, outputs, points);
#pragma GCC unroll 6
            for (int i = 0; i < points; i++) K(store)(to + (points * i + j) * point + k, v[points * i + j]);
        }
    }
}

/* Gᵀ m G of `count` values per point, in place: the taps take the place of the first points. */
static inline __attribute__((always_inline)) void K(winograd_gather_weight)(
    REAL *m, int64_t point, int64_t count, const int taps, const int points
) {
    for (int64_t c = 0; c < count; c += LANES) {
        vreal v[36];
#pragma GCC unroll 6
        for (int j = 0; j < points; j++) {
#pragma GCC unroll 6
            for (int i = 0; i < points; i++) v[points * i + j] = K(load)(m + (points * i + j) * point + c);
            K(winograd_weight_adjoint)(v + j, points, taps, points);
        }
#pragma GCC unroll 5
        for (int i = 0; i < taps; i++) {
            K(winograd_weight_adjoint)(v + points * i, 1, taps, points);
#pragma GCC unroll 5
            for (int j = 0; j < taps; j++) K(store)(m + (taps * i + j) * point + c, v[points * i + j]);
        }
    }
}

/* ── The three forms ── the transforms with their constants, each a function of its own ── */

typedef struct {
    int64_t outputs, taps, points;      /* along an axis */
    void (*input)(const K(field) *, int64_t, REAL *, int64_t);
    void (*output)(const REAL *, int64_t, int64_t, const K(winograd_target) *);
    void (*weight)(const REAL *, int64_t, REAL *, int64_t);
    void (*gradient)(const REAL *, int64_t, int64_t, int64_t, REAL *, int64_t);
    void (*gather)(REAL *, int64_t, int64_t);
} K(winograd);

#define WINOGRAD_INPUT(points) \
    static void K(winograd_input_##points)(const K(field) *f, int64_t channels, REAL *to, int64_t point) { \
        K(winograd_transform_input)(f, channels, to, point, points); \
    }
#define WINOGRAD_FORM(outputs, taps, points) \
    static void K(winograd_output_##outputs##taps)( \
        const REAL *m, int64_t point, int64_t channels, const K(winograd_target) *to \
    ) { \
        K(winograd_transform_output)(m, point, channels, to, outputs, points); \
    } \
    static void K(winograd_weight_##outputs##taps)(const REAL *g, int64_t next, REAL *to, int64_t point) { \
        K(winograd_transform_weight)(g, next, to, point, taps, points); \
    } \
    static void K(winograd_gradient_##outputs##taps)( \
        const REAL *from, int64_t row, int64_t column, int64_t width, REAL *to, int64_t point \
    ) { \
        K(winograd_transform_gradient)(from, row, column, width, to, point, outputs, points); \
    } \
    static void K(winograd_gather_##outputs##taps)(REAL *m, int64_t point, int64_t count) { \
        K(winograd_gather_weight)(m, point, count, taps, points); \
    } \
    static const K(winograd) K(winograd_##outputs##taps) = { \
        outputs, taps, points, K(winograd_input_##points), K(winograd_output_##outputs##taps), \
        K(winograd_weight_##outputs##taps), K(winograd_gradient_##outputs##taps), K(winograd_gather_##outputs##taps), \
    };
WINOGRAD_INPUT(4)
WINOGRAD_INPUT(6)
WINOGRAD_FORM(4, 3, 6)
WINOGRAD_FORM(2, 3, 4)
WINOGRAD_FORM(2, 5, 6)
#undef WINOGRAD_INPUT
#undef WINOGRAD_FORM

static const K(winograd) *K(winograd_form)(int64_t outputs, int64_t taps) {
    return taps == 5 ? &K(winograd_25) : outputs == 4 ? &K(winograd_43) : &K(winograd_23);
}

/* From point to point of `count` values: a line of the cache more, so that the points do not all fall into the same set. */
static inline int64_t K(winograd_pitch)(int64_t count) { return count + 64 / (int64_t)sizeof(REAL); }

/* ── Packing ── panels[unit][point][c][lane] of G g Gᵀ, in the order in which they are read; tasks are units ── */

static void K(winograd_pack)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_pack *v = call;
    const int64_t wide = 2 * LANES, one[3] = {1, 1, 1};
    const K(cut) cut = K(cut_of)(v->inputs, v->outputs, one);
    const K(winograd) *form = K(winograd_form)(v->tile, v->taps[1]);
    const int64_t taps = form->taps * form->taps, points = form->points * form->points;
    const int sign = K(taps_in_a_row)(v);
    (void)scratch;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t outputs = K(smaller)(wide, cut.outputs - unit * wide), width = outputs > LANES ? wide : LANES;
        const REAL *w = (const REAL *)v->w + unit * wide * v->output_stride;
        for (int64_t c = 0; c < v->inputs; c++)
            for (int64_t k = 0; k < width; k += LANES) {
                const int64_t lanes = K(smaller)(LANES, outputs - k);
                const REAL *from = w + c * v->input_stride + k * v->output_stride;
                REAL g[25][LANES] = {{0}};
                if (sign && lanes == LANES && taps < LANES && K(readable)(v, unit * wide + k + LANES - 1, c) >= LANES)
                    K(transpose_narrow)(g[0], from - (sign < 0 ? taps - 1 : 0), v->output_stride, taps);
                else if (sign)
                    K(transpose)(g[0], LANES, from - (sign < 0 ? taps - 1 : 0), v->output_stride, lanes, taps);
                else
                    for (int64_t lane = 0; lane < lanes; lane++, from += v->output_stride)
                        for (int64_t t = 0; t < taps; t++)
                            g[t][lane] = from[t / form->taps * v->tap_stride[1] + t % form->taps * v->tap_stride[2]];
                form->weight(
                    sign < 0 ? g[taps - 1] : g[0], sign < 0 ? -LANES : LANES,
                    (REAL *)v->panels + unit * wide * points * v->inputs + c * width + k, width * v->inputs
                );
            }
        if (v->b != NULL) {
            const REAL *b = (const REAL *)v->b + unit * wide * v->bias_stride;
            for (int64_t k = 0; k < wide; k++) ((REAL *)v->bias)[unit * wide + k] = k < outputs ? b[k * v->bias_stride] : 0;
        }
    }
}

/* ── Correlation ── forward, and the gradient of the input with the taps reversed ──
 *
 * A task is `columns` tiles, wherever they lie, and a range of units. Its transformed inputs stay in the second-level cache, and
 * so do the products of one unit at a time; the transformed weights stream through once, in their own order. */

typedef struct {
    int64_t n, d, h, w;
} K(winograd_place);

static inline K(winograd_place) K(winograd_place_of)(const cnn_correlation *p, int64_t tile) {
    const int64_t *shape = p->y.shape, H = (shape[3] + p->tile - 1) / p->tile, W = (shape[4] + p->tile - 1) / p->tile;
    return (K(winograd_place)){tile / W / H / shape[2], tile / W / H % shape[2], tile / W % H * p->tile, tile % W * p->tile};
}
static inline int64_t K(winograd_tiles)(const cnn_correlation *p) {
    const int64_t *shape = p->y.shape, H = (shape[3] + p->tile - 1) / p->tile, W = (shape[4] + p->tile - 1) / p->tile;
    return shape[0] * shape[2] * H * W;
}

/* The pixels of a tile's input. */
static inline K(field) K(winograd_field)(const cnn_correlation *p, const K(winograd_place) *at, int64_t channels, REAL *gathered) {
    return K(field_of)(p, at->n, 1, at->d, at->h, p->tile, at->w, p->tile, 0, channels, 0, gathered);
}

static void K(winograd_correlate)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_correlation *p = ((const cnn_correlations *)call)->part;
    const K(winograd) *form = K(winograd_form)(p->tile, p->taps[1]);
    const int64_t wide = 2 * LANES, one[3] = {1, 1, 1}, start = 0, *stride = p->y.stride, points = form->points * form->points;
    const K(cut) cut = K(cut_of)(p->x.shape[1], p->y.shape[1], one);
    const int64_t ranges = (p->unit_count + p->units - 1) / p->units, tiles = K(winograd_tiles)(p);
    const int64_t pitch = (cut.inputs + LANES - 1) / LANES * LANES;
    const int64_t point = K(winograd_pitch)(p->columns * pitch), y_point = K(winograd_pitch)(p->columns * wide);
    const int in_place = stride[1] == 1;
    REAL *transformed = scratch, *products = (REAL *)((char *)scratch + p->x_bytes);
    REAL *gathered = (REAL *)((char *)products + p->y_bytes), *turned = gathered + points * cut.inputs;
    for (int64_t task = begin; task < end; task++) {
        const int64_t first_tile = task / ranges * p->columns, count = K(smaller)(p->columns, tiles - first_tile);
        const int64_t first_unit = task % ranges * p->units, last_unit = K(smaller)(first_unit + p->units, p->unit_count);
        for (int64_t t = 0; t < count; t++) {
            const K(winograd_place) at = K(winograd_place_of)(p, first_tile + t);
            const K(field) f = K(winograd_field)(p, &at, cut.inputs, gathered);
            form->input(&f, cut.inputs, transformed + t * pitch, point);
        }
        const int64_t blocks = K(row_blocks)(count, pitch);
        for (int64_t unit = first_unit; unit < last_unit; unit++) {
            const int64_t channel = unit * wide, channels = K(smaller)(wide, cut.outputs - channel);
            const int64_t width = channels > LANES ? wide : LANES;
            K(product) product = {
                .row = pitch, .step = 1, .offset = &start, .runs = 1, .length = cut.inputs, .y_row = wide, .columns = width,
                .panel = (const REAL *)p->panels + unit * wide * points * cut.inputs
            };
            for (int64_t q = 0; q < points; q++, product.panel += width * cut.inputs)
                for (int64_t block = 0; block < blocks; block++) {
                    const int64_t t = K(block_start)(block, blocks, count);
                    K(fetch_panel)(&product, block == 0, width);
                    product.a = transformed + q * point + t * pitch;
                    product.y = products + q * y_point + t * wide;
                    K(multiply)(&product, (int)(K(block_start)(block + 1, blocks, count) - t), width > LANES ? 2 : 1);
                }
            for (int64_t t = 0; t < count; t++) {
                if (p->skip && p->skip[first_tile + t]) continue;
                const K(winograd_place) at = K(winograd_place_of)(p, first_tile + t);
                REAL *y = (REAL *)p->y.data + at.n * stride[0] + channel * stride[1] + at.d * stride[2] + at.h * stride[3]
                    + at.w * stride[4];
                const K(winograd_target) to = {
                    .y = in_place ? y : turned, .row = in_place ? stride[3] : p->tile * channels,
                    .column = in_place ? stride[4] : channels, .rows = K(smaller)(p->tile, p->y.shape[3] - at.h),
                    .columns = K(smaller)(p->tile, p->y.shape[4] - at.w),
                    .bias = p->bias ? (const REAL *)p->bias + channel : NULL, .add = p->add, .clamp = K(clamps)(p),
                    .lower = (REAL)p->lower, .upper = (REAL)p->upper
                };
                form->output(products + t * wide, y_point, channels, &to);
                if (!in_place)
                    for (int64_t r = 0; r < to.rows; r++)
                        K(transfer)(
                            y + r * stride[3], stride[4], stride[1], turned + r * p->tile * channels, channels, 1, to.columns, channels
                        );
            }
        }
    }
}

/* ── Gradient of the weights ── the adjoint in g of the same bilinear form ──
 *
 *     dg = Gᵀ [ (A dy Aᵀ) ⊙ (Bᵀ d B) ] G         summed over tiles between transforms: (m+r−1)² matrix products
 *
 * A task owns inputs × units and walks all tiles, `columns` at a time; the sums of its products stay in memory meanwhile. */

/* A dy Aᵀ of one tile for the channels of one unit; outside the image dy counts as 0. */
static void K(winograd_gradient)(
    const K(winograd) *form, const cnn_tensor *y, const K(winograd_place) *at, int64_t channel, int64_t channels, int64_t width,
    REAL *gathered, REAL *to, int64_t point
) {
    const int64_t tile = form->outputs, rows = K(smaller)(tile, y->shape[3] - at->h), columns = K(smaller)(tile, y->shape[4] - at->w);
    const REAL *from = (const REAL *)y->data + at->n * y->stride[0] + channel * y->stride[1] + at->d * y->stride[2]
        + at->h * y->stride[3] + at->w * y->stride[4];
    int64_t row = y->stride[3], column = y->stride[4];
    if (y->stride[1] != 1 || channels < width || rows < tile || columns < tile) {
        K(fill_zero)(gathered, tile * tile * width);
        for (int64_t i = 0; i < rows; i++)
            K(transfer)(
                gathered + i * tile * width, width, 1, from + i * y->stride[3], y->stride[4], y->stride[1], columns, channels
            );
        from = gathered;
        row = tile * width;
        column = width;
    }
    form->gradient(from, row, column, width, to, point);
}

static void K(winograd_weights)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_correlation *p = ((const cnn_correlations *)call)->part;
    const K(winograd) *form = K(winograd_form)(p->tile, p->taps[1]);
    const int64_t wide = 2 * LANES, one[3] = {1, 1, 1}, start = 0, points = form->points * form->points;
    const K(cut) cut = K(cut_of)(p->x.shape[1], p->y.shape[1], one);
    const int64_t tiles = K(winograd_tiles)(p);
    for (int64_t task = begin; task < end; task++) {
        const int64_t first_unit = task / p->channel_blocks * p->units, last_unit = K(smaller)(first_unit + p->units, p->unit_count);
        const int64_t first_input = K(block_start)(task % p->channel_blocks, p->channel_blocks, cut.inputs);
        const int64_t inputs = K(block_start)(task % p->channel_blocks + 1, p->channel_blocks, cut.inputs) - first_input;
        const int64_t pitch = (inputs + LANES - 1) / LANES * LANES, point = K(winograd_pitch)(p->columns * pitch);
        const int64_t unit_point = K(winograd_pitch)(p->columns * wide), sum_point = inputs * wide;
        REAL *transformed = scratch, *panels = (REAL *)((char *)scratch + p->x_bytes);
        REAL *sums = (REAL *)((char *)panels + p->y_bytes), *gathered = (REAL *)((char *)sums + p->sum_bytes);
        cnn_correlation part = *p;      /* x from the task's first input on */
        part.x.data = (REAL *)p->x.data + first_input * p->x.stride[1];
        K(fill_zero)(sums, (last_unit - first_unit) * points * sum_point);
        for (int64_t first = 0; first < tiles; first += p->columns) {
            const int64_t count = K(smaller)(p->columns, tiles - first);
            for (int64_t t = 0; t < count; t++) {
                const K(winograd_place) at = K(winograd_place_of)(p, first + t);
                const K(field) f = K(winograd_field)(&part, &at, inputs, gathered);
                form->input(&f, inputs, transformed + t * pitch, point);
                for (int64_t unit = first_unit; unit < last_unit; unit++) {
                    const int64_t outputs = K(smaller)(wide, cut.outputs - unit * wide), width = outputs > LANES ? wide : LANES;
                    K(winograd_gradient)(
                        form, &p->y, &at, unit * wide, outputs, width, gathered,
                        panels + (unit - first_unit) * points * unit_point + t * width, unit_point
                    );
                }
            }
            const int64_t blocks = K(row_blocks)(inputs, 1);
            for (int64_t unit = first_unit; unit < last_unit; unit++) {
                const int64_t width = cut.outputs - unit * wide > LANES ? wide : LANES;
                for (int64_t q = 0; q < points; q++) {
                    K(product) product = {
                        .row = 1, .step = pitch, .offset = &start, .runs = 1, .length = count, .y_row = wide, .columns = width,
                        .panel = panels + ((unit - first_unit) * points + q) * unit_point, .accumulate = 1
                    };
                    for (int64_t block = 0; block < blocks; block++) {
                        const int64_t c = K(block_start)(block, blocks, inputs);
                        product.a = transformed + q * point + c;
                        product.y = sums + ((unit - first_unit) * points + q) * sum_point + c * wide;
                        K(multiply)(&product, (int)(K(block_start)(block + 1, blocks, inputs) - c), width > LANES ? 2 : 1);
                    }
                }
            }
        }
        for (int64_t unit = first_unit; unit < last_unit; unit++) {
            REAL *sum = sums + (unit - first_unit) * points * sum_point;
            form->gather(sum, sum_point, inputs * wide);
            K(scatter_weights)(
                p, unit * wide, K(smaller)(wide, cut.outputs - unit * wide), first_input, inputs, 0, form->taps * form->taps * inputs, sum, gathered
            );
        }
    }
}
