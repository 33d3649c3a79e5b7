/* Winograd's minimal filtering: a tile of outputs from fewer multiplications than its windows have taps.
 *
 * Lavin & Gray 2016, arXiv:1509.09308. With m outputs and r taps along an axis, a tile d of (m+r−1)² inputs gives m² outputs:
 *
 *     y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A           summed over the input channels between transforms: (m+r−1)² matrix products
 *
 * The transforms interpolate at m+r−1 points: perhaps 0, pairs ±p, and ∞. With M(x) the product of (x − q) over the finite points q
 * but p, and N(p) = M(p),
 *
 *     row p of Bᵀ: the coefficients of M         row p of G: (1, p, p², …) / N(p)         column p of Aᵀ: (1, p, p², …)
 *     row ∞:       those with no point left out  row ∞:      (0, …, 0, 1)                 column ∞:       (0, …, 0, 1)
 *
 * and the rows of ±p differ in the sign of every second coefficient only. The points of each form are in calls.h: reciprocal pairs, and
 * pairs without 0 where their number is odd, lose the fewest digits (Barabasz et al. 2020, arXiv:1803.10986).
 *
 * Shorter tiles. Fourteen outputs are 4 + 4 + 3 + 3: a tile with one output less leaves out the point 0 (or ∞). Of G only N changes,
 * by a factor that goes into Bᵀ, so that both kinds of tiles meet the same transformed weights.
 *
 * Stride 2. y = Σ over the parities h of the pixels of windows with stride 1 on every second pixel, with every second tap. All have
 * the same Aᵀ, so that their products are summed before one transform. The second parity has a tap less, and leaves out ∞; a single
 * tap is the same at every point, with 1 / N in Bᵀ.
 *
 * Channels are innermost, so that transforms are plain arithmetic on vectors of channels.
 */

/* ── Along one axis ── values of a line are `step` apart, lines `line` apart; all numbers of the form are constants ── */

enum { K(all_points), K(without_zero), K(without_infinity), K(one_tap) };

#define WINOGRAD_POINTS 8

ALWAYS_INLINE int K(pixels_of)(const cnn_winograd_axis a, const int points) {
    return cnn_winograd_points(&a) - (points != K(all_points));
}

/* Π (p² − q²) over the squares q² of the other pairs. */
ALWAYS_INLINE double K(other_pairs)(const cnn_winograd_axis a, const int j) {
    double product = 1;
#pragma GCC unroll 3
    for (int i = 0; i < a.pairs; i++)
        if (i != j) product *= a.point[j] * a.point[j] - a.point[i] * a.point[i];
    return product;
}

/* N(p) of the positive point of pair j. */
ALWAYS_INLINE double K(winograd_n)(const cnn_winograd_axis a, const int j) {
    return (a.zero ? a.point[j] : 1) * 2 * a.point[j] * K(other_pairs)(a, j);
}

/* Σ of the coefficients of Π (x² − q²), over the pairs but `left_out`, with every second value from d on. */
ALWAYS_INLINE vreal K(even_polynomial)(const vreal *d, const cnn_winograd_axis a, const int left_out) {
    double c[4] = {1, 0, 0, 0}; /* from the highest power on */
    int degree = 0;
#pragma GCC unroll 3
    for (int i = 0; i < a.pairs; i++) {
        if (i == left_out) continue;
        degree++;
#pragma GCC unroll 3
        for (int t = 3; t > 0; t--) c[t] -= a.point[i] * a.point[i] * c[t - 1];
    }
    vreal sum = d[2 * degree];
#pragma GCC unroll 3
    for (int t = 1; t <= degree; t++) sum += (REAL)c[t] * d[2 * (degree - t)];
    return sum;
}

/* v = Bᵀ d. */
ALWAYS_INLINE void K(input_points)(const vreal *d, vreal *v, const cnn_winograd_axis a, const int points) {
    const int zero = a.zero && points != K(without_zero);
    if (zero) *v++ = K(even_polynomial)(d, a, -1);
#pragma GCC unroll 3
    for (int j = 0; j < a.pairs; j++) {
        const REAL p = (REAL)a.point[j], scale = (REAL)(1 / K(winograd_n)(a, j));
        const vreal odd = K(even_polynomial)(d + zero + 1, a, j), even = K(even_polynomial)(d + zero, a, j);
        if (points == K(without_zero)) {
            v[2 * j] = p * p * even + p * odd;
            v[2 * j + 1] = p * p * even - p * odd;
        } else if (points == K(one_tap)) {
            v[2 * j] = scale * odd + scale * p * even;
            v[2 * j + 1] = scale * p * even - scale * odd;
        } else {
            v[2 * j] = odd + p * even;
            v[2 * j + 1] = odd - p * even;
        }
    }
    if (points == K(all_points) || points == K(without_zero)) v[2 * a.pairs] = K(even_polynomial)(d + zero, a, -1);
}

/* y = Aᵀ u. */
ALWAYS_INLINE void K(output_points)(const vreal *u, vreal *y, const cnn_winograd_axis a, const int points) {
    const int outputs = a.outputs - (points != K(all_points)), zero = a.zero && points != K(without_zero);
    vreal sum[3], difference[3];
#pragma GCC unroll 3
    for (int j = 0; j < a.pairs; j++) {
        sum[j] = u[zero + 2 * j] + u[zero + 2 * j + 1];
        difference[j] = u[zero + 2 * j] - u[zero + 2 * j + 1];
    }
    double power[3] = {1, 1, 1};
#pragma GCC unroll 4
    for (int i = 0; i < outputs; i++) {
        vreal value = i % 2 ? (REAL)power[0] * difference[0] : (REAL)power[0] * sum[0];
#pragma GCC unroll 3
        for (int j = 1; j < a.pairs; j++) value += (REAL)power[j] * (i % 2 ? difference[j] : sum[j]);
        if (i == 0 && zero) value += u[0];
        if (i == outputs - 1 && points != K(without_infinity)) value += u[zero + 2 * a.pairs];
        y[i] = value;
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++) power[j] *= a.point[j];
    }
}

/* u = G g of `taps` taps. */
ALWAYS_INLINE void K(weight_points)(const vreal *g, vreal *u, const cnn_winograd_axis a, const int points, const int taps) {
    if (points == K(one_tap)) {
        u[0] = g[0];
        return;
    }
    double no_pair = 1;
#pragma GCC unroll 3
    for (int j = 0; j < a.pairs; j++) no_pair *= -a.point[j] * a.point[j];
    if (a.zero) *u++ = (REAL)(1 / no_pair) * g[0];
#pragma GCC unroll 3
    for (int j = 0; j < a.pairs; j++) {
        const REAL scale = (REAL)(1 / K(winograd_n)(a, j));
        double power = 1;
        vreal even = {0}, odd = {0};
#pragma GCC unroll 5
        for (int t = 0; t < taps; t++) {
            if (t % 2) odd += (REAL)power * g[t];
            else even += (REAL)power * g[t];
            power *= a.point[j];
        }
        u[2 * j] = scale * (even + odd);
        u[2 * j + 1] = a.zero ? scale * (even - odd) : scale * (odd - even);
    }
    if (points == K(all_points)) u[2 * a.pairs] = g[taps - 1];
}

/* v = A y. */
ALWAYS_INLINE void K(gradient_points)(const vreal *y, vreal *v, const cnn_winograd_axis a) {
    if (a.zero) *v++ = y[0];
#pragma GCC unroll 3
    for (int j = 0; j < a.pairs; j++) {
        double power = 1;
        vreal even = {0}, odd = {0};
#pragma GCC unroll 4
        for (int i = 0; i < a.outputs; i++) {
            if (i % 2) odd += (REAL)power * y[i];
            else even += (REAL)power * y[i];
            power *= a.point[j];
        }
        v[2 * j] = even + odd;
        v[2 * j + 1] = even - odd;
    }
    v[2 * a.pairs] = y[a.outputs - 1];
}

/* g = Gᵀ v, of forms with the point 0. */
ALWAYS_INLINE void K(gather_taps)(const vreal *v, vreal *g, const cnn_winograd_axis a, const int taps) {
    double no_pair = 1;
#pragma GCC unroll 3
    for (int j = 0; j < a.pairs; j++) no_pair *= -a.point[j] * a.point[j];
    double power[3];
    vreal even[3], odd[3];
#pragma GCC unroll 3
    for (int j = 0; j < a.pairs; j++) {
        power[j] = 1 / K(winograd_n)(a, j);
        even[j] = v[2 * j + 1] + v[2 * j + 2];
        odd[j] = v[2 * j + 1] - v[2 * j + 2];
    }
#pragma GCC unroll 5
    for (int t = 0; t < taps; t++) {
        vreal value = {0};
        if (t == 0) value = (REAL)(1 / no_pair) * v[0];
#pragma GCC unroll 3
        for (int j = 0; j < a.pairs; j++) {
            value += (REAL)power[j] * (t % 2 ? odd[j] : even[j]);
            power[j] *= a.point[j];
        }
        if (t == taps - 1) value += v[1 + 2 * a.pairs];
        g[t] = value;
    }
}

/* A transform of `lines` lines; of the vectors of an image that it reads, `lanes` exist. */
typedef void (*K(lines))(
    const REAL *from, int64_t step, int64_t line, int64_t lanes, REAL *to, int64_t to_step, int64_t to_line, int64_t lines
);

enum { K(to_input), K(to_output), K(to_weight), K(to_gradient), K(to_taps) };

ALWAYS_INLINE void K(transform_lines)(
    const int what, const int form, const int points, const int whole, const REAL *from, int64_t step, int64_t line,
    int64_t lanes, REAL *to, int64_t to_step, int64_t to_line, int64_t lines
) {
    const cnn_winograd_axis a = cnn_winograd_axes[form];
    const int taps = cnn_winograd_taps(&a, a.stride == 2 && points != K(all_points));
    const int pixels = K(pixels_of)(a, points);
    const int outputs = a.outputs - (points != K(all_points));
    const int read = what == K(to_weight) ? taps : what == K(to_gradient) ? outputs : pixels;
    const int constant = (what == K(to_weight)) && (points == K(one_tap));
    const int written = what == K(to_output) ? outputs : what == K(to_taps) ? taps : constant ? 1 : pixels;
    for (; lines > 0; lines--, from += line, to += to_line) {
        vreal v[WINOGRAD_POINTS], w[WINOGRAD_POINTS];
#pragma GCC unroll 8
        for (int i = 0; i < read; i++) v[i] = whole ? K(load)(from + i * step) : K(load_tail)(from + i * step, lanes);
        if (what == K(to_input)) K(input_points)(v, w, a, points);
        if (what == K(to_output)) K(output_points)(v, w, a, points);
        if (what == K(to_weight)) K(weight_points)(v, w, a, points, taps);
        if (what == K(to_gradient)) K(gradient_points)(v, w, a);
        if (what == K(to_taps)) K(gather_taps)(v, w, a, taps);
#pragma GCC unroll 8
        for (int i = 0; i < written; i++) K(store)(to + i * to_step, w[i]);
    }
}

#define LINES(what, form, points) \
    static __attribute__((noinline)) void K(lines_##what##_##form##_##points)( \
        const REAL *from, int64_t step, int64_t line, int64_t lanes, REAL *to, int64_t to_step, int64_t to_line, int64_t lines \
    ) { \
        if (K(to_##what) != K(to_input) || lanes >= LANES) \
            K(transform_lines)(K(to_##what), CNN_##form, K(points), 1, from, step, line, lanes, to, to_step, to_line, lines); \
        else K(transform_lines)(K(to_##what), CNN_##form, K(points), 0, from, step, line, lanes, to, to_step, to_line, lines); \
    }
/* clang-format off */
#define STRIDE_1(form) \
    LINES(input, form, all_points) LINES(input, form, without_zero) LINES(output, form, all_points) \
    LINES(output, form, without_zero) LINES(weight, form, all_points)
#define STRIDE_2(form, second) \
    LINES(input, form, all_points) LINES(input, form, without_infinity) LINES(input, form, second) \
    LINES(output, form, all_points) LINES(output, form, without_infinity) \
    LINES(weight, form, all_points) LINES(weight, form, second)
#define GRADIENT(form) LINES(gradient, form, all_points) LINES(taps, form, all_points)
STRIDE_1(F23) STRIDE_1(F43) STRIDE_1(F25) STRIDE_1(F45)
GRADIENT(F23) GRADIENT(F43) GRADIENT(F25)
STRIDE_2(F42, one_tap)
/* clang-format on */
#undef GRADIENT
#undef STRIDE_2
#undef STRIDE_1
#undef LINES

/* The transforms of a form: of whole and shorter tiles, for each parity of the pixels. */
typedef struct {
    K(lines) input[2][2];    /* shorter, parity */
    K(lines) output[2];      /* shorter */
    K(lines) weight[2];      /* parity */
    K(lines) gradient, taps; /* of the weights: A, and Gᵀ; NULL where they are computed by another form */
} K(axis);

#define LINES(what, form, points) K(lines_##what##_##form##_##points)
#define GRADIENT_F23 LINES(gradient, F23, all_points), LINES(taps, F23, all_points)
#define GRADIENT_F43 LINES(gradient, F43, all_points), LINES(taps, F43, all_points)
#define GRADIENT_F25 LINES(gradient, F25, all_points), LINES(taps, F25, all_points)
#define GRADIENT_F45 NULL, NULL
/* clang-format off */
#define STRIDE_1(form) [CNN_##form] = { \
    {{LINES(input, form, all_points), NULL}, {LINES(input, form, without_zero), NULL}}, \
    {LINES(output, form, all_points), LINES(output, form, without_zero)}, {LINES(weight, form, all_points), NULL}, \
    GRADIENT_##form \
},
#define STRIDE_2(form, second) [CNN_##form] = { \
    {{LINES(input, form, all_points), LINES(input, form, second)}, \
     {LINES(input, form, without_infinity), LINES(input, form, second)}}, \
    {LINES(output, form, all_points), LINES(output, form, without_infinity)}, \
    {LINES(weight, form, all_points), LINES(weight, form, second)}, NULL, NULL, \
},
static const K(axis) K(axes)[CNN_WINOGRAD_AXES] = {
    STRIDE_1(F23) STRIDE_1(F43) STRIDE_1(F25) STRIDE_1(F45) STRIDE_2(F42, one_tap)
};
/* clang-format on */
#undef GRADIENT_F23
#undef GRADIENT_F43
#undef GRADIENT_F25
#undef GRADIENT_F45
#undef STRIDE_2
#undef STRIDE_1
#undef LINES

/* ── Both axes ── */

/* What a call's tiles are: the form along H and W, and where the matrix of each point and pair of parities lies. */
typedef struct {
    const cnn_winograd_axis *form[2];
    const K(axis) *axis[2];
    int64_t points[2]; /* of the form */
    int64_t parities[2];
    int64_t first_field[2][2];                              /* of the transformed inputs of a pair of parities, in matrices */
    int64_t fields;                                         /* transformed inputs of all of them */
    int64_t matrix[2][2][WINOGRAD_POINTS][WINOGRAD_POINTS]; /* of the weights, in the order in which they are needed */
} K(tiling);

/* Points along an axis that a parity has. */
static inline int64_t K(points_of_parity)(const K(tiling) *g, int axis, int parity) { return g->points[axis] - parity; }

static K(tiling) K(tiling_of)(const int64_t *forms) {
    K(tiling) g = {.fields = 0};
    int64_t count = 0;
    for (int axis = 0; axis < 2; axis++) {
        g.form[axis] = &cnn_winograd_axes[forms[axis]];
        g.axis[axis] = &K(axes)[forms[axis]];
        g.points[axis] = cnn_winograd_points(g.form[axis]);
        g.parities[axis] = g.form[axis]->stride;
    }
    for (int r = 0; r < g.parities[0]; r++)
        for (int c = 0; c < g.parities[1]; c++) {
            g.first_field[r][c] = g.fields;
            g.fields += K(points_of_parity)(&g, 0, r) * K(points_of_parity)(&g, 1, c);
            __builtin_memset(g.matrix[r][c], -1, sizeof g.matrix[r][c]);
        }
    for (int64_t p = 0; p < g.points[0]; p++)
        for (int64_t q = 0; q < g.points[1]; q++)
            for (int r = 0; r < g.parities[0] && p < K(points_of_parity)(&g, 0, r); r++)
                for (int c = 0; c < g.parities[1] && q < K(points_of_parity)(&g, 1, c); c++) {
                    int64_t *same = &g.matrix[r][c][cnn_winograd_taps(g.form[0], r) == 1 ? 0 : p]
                                             [cnn_winograd_taps(g.form[1], c) == 1 ? 0 : q];
                    if (*same < 0) *same = count++;
                    g.matrix[r][c][p][q] = *same;
                }
    return g;
}

/* From point to point of `count` values: a line of the cache more, so that the points do not all fall into the same set. */
static inline int64_t K(winograd_pitch)(int64_t count) { return count + 64 / (int64_t)sizeof(REAL); }

/* ── Packing ── panels[unit][matrix][c][lane] of G g Gᵀ, in the order in which they are read; tasks are units ── */

#define WINOGRAD_TAPS 25

/* The taps of one input and a vector of outputs: tap t of each at g + t `next`; returns g. */
static const REAL *K(taps_of_vector)(const cnn_pack *v, int64_t output, int64_t input, int64_t lanes, REAL *g, int64_t *next) {
    const int64_t T = v->taps[2], taps = v->taps[1] * T;
    const int sign = K(taps_in_a_row)(v);
    const REAL *from = (const REAL *)v->w + output * v->output_stride + input * v->input_stride;
    if (lanes < LANES) K(fill_zero)(g, taps * LANES);
    if (sign && lanes == LANES && taps < LANES && K(readable)(v, output + LANES - 1, input) >= LANES)
        K(transpose_narrow)(g, from - (sign < 0 ? taps - 1 : 0), v->output_stride, taps);
    else if (sign) K(transpose)(g, LANES, from - (sign < 0 ? taps - 1 : 0), v->output_stride, lanes, taps);
    else
        for (int64_t lane = 0; lane < lanes; lane++, from += v->output_stride)
            for (int64_t t = 0; t < taps; t++) g[t * LANES + lane] = from[t / T * v->tap_stride[1] + t % T * v->tap_stride[2]];
    *next = sign < 0 ? -LANES : LANES;
    return sign < 0 ? g + (taps - 1) * LANES : g;
}

/* The matrices of one input and a vector of outputs; from matrix to matrix `pitch`. */
static void K(transform_taps)(const K(tiling) *t, const REAL *g, int64_t next, REAL *to, int64_t pitch) {
    const int64_t row = t->form[1]->taps * next;
    for (int r = 0; r < t->parities[0]; r++)
        for (int c = 0; c < t->parities[1]; c++) {
            REAL half[5 * WINOGRAD_POINTS * LANES], points[WINOGRAD_POINTS * WINOGRAD_POINTS * LANES];
            const int single_row = cnn_winograd_taps(t->form[0], r) == 1, single_column = cnn_winograd_taps(t->form[1], c) == 1;
            const int64_t rows = single_row ? 1 : K(points_of_parity)(t, 0, r),
                          columns = single_column ? 1 : K(points_of_parity)(t, 1, c);
            t->axis[1]->weight[c](
                g + r * row + c * next, t->parities[1] * next, t->parities[0] * row, LANES, half, LANES, columns * LANES,
                cnn_winograd_taps(t->form[0], r)
            );
            t->axis[0]->weight[r](half, columns * LANES, LANES, LANES, points, columns * LANES, LANES, columns);
            for (int64_t p = 0; p < rows; p++)
                for (int64_t q = 0; q < columns; q++)
                    K(store)(to + t->matrix[r][c][p][q] * pitch, K(load)(points + (p * columns + q) * LANES));
        }
}

static void K(winograd_pack)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_pack *v = call;
    const int64_t wide = 2 * LANES, one[3] = {1, 1, 1};
    const K(cut) cut = K(cut_of)(v->inputs, v->outputs, one);
    const K(tiling) tiling = K(tiling_of)(v->form);
    const int64_t matrices = cnn_winograd_matrices(tiling.form[0]) * cnn_winograd_matrices(tiling.form[1]);
    (void)scratch;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t outputs = K(smaller)(wide, cut.outputs - unit * wide), width = outputs > LANES ? wide : LANES;
        for (int64_t c = 0; c < v->inputs; c++)
            for (int64_t k = 0; k < width; k += LANES) {
                REAL g[WINOGRAD_TAPS * LANES];
                int64_t next;
                const REAL *first = K(taps_of_vector)(v, unit * wide + k, c, K(smaller)(LANES, outputs - k), g, &next);
                K(transform_taps)(
                    &tiling, first, next, (REAL *)v->panels + unit * wide * matrices * v->inputs + c * width + k,
                    width * v->inputs
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
    const cnn_correlation *p;
    K(tiling) tiling;
    K(cut) cut;
    int64_t start[5];     /* of the groups of tiles: cnn_winograd_start */
    int64_t first, count; /* tiles */
    int64_t pitch, point; /* of the inputs: from tile to tile and from point to point */
    int64_t y_point;      /* of the products: from point to point */
    REAL *transformed, *products, *gathered, *turned;
} K(winograd_task);

/* The pixels of a tile's windows. */
static inline K(field) K(winograd_field)(
    const cnn_correlation *p, const cnn_winograd_tile *at, const K(tiling) *g, int64_t channels, REAL *gathered
) {
    /* With stride 2 a shorter tile reads as many pixels as a whole one. */
    const int64_t rows = g->form[0]->outputs - (g->parities[0] == 1 && at->shorter[0]);
    const int64_t columns = g->form[1]->outputs - (g->parities[1] == 1 && at->shorter[1]);
    return K(field_of)(p, at->n, 1, at->d, at->h, rows, at->w, columns, 0, channels, 0, gathered);
}

/* Bᵀ d B of a tile's `channels` channels, for each pair of parities. */
static void K(transform_tile)(
    const K(tiling) *g, const cnn_winograd_tile *at, const K(field) *f, int64_t channels, REAL *to, int64_t point
) {
    const int64_t row = f->row / g->parities[0], column = f->column / g->parities[1];
    REAL half[WINOGRAD_POINTS * WINOGRAD_POINTS * LANES];
    for (int r = 0; r < g->parities[0]; r++)
        for (int c = 0; c < g->parities[1]; c++) {
            const int64_t all = K(points_of_parity)(g, 1, c);
            const int64_t rows = g->points[0] - (r || at->shorter[0]), columns = g->points[1] - (c || at->shorter[1]);
            const int64_t first = (at->shorter[0] && g->form[0]->zero ? all : 0) + (at->shorter[1] && g->form[1]->zero ? 1 : 0);
            for (int64_t k = 0; k < channels; k += LANES) {
                g->axis[1]->input[at->shorter[1]][c](
                    f->a + r * row + c * column + k, f->column, f->row, channels - k, half, LANES, columns * LANES, rows
                );
                g->axis[0]->input[at->shorter[0]][r](
                    half, columns * LANES, LANES, LANES, to + (g->first_field[r][c] + first) * point + k, all * point, point,
                    columns
                );
            }
        }
}

/* The tiles of a task, as the places from *low to before *high in it, that have the point (p, q): shorter ones lack one of each axis. */
static inline void K(tiles_with_point)(const K(winograd_task) *t, int64_t p, int64_t q, int64_t *low, int64_t *high) {
    const K(tiling) *g = &t->tiling;
    const int lack_row = p == (g->form[0]->zero ? 0 : g->points[0] - 1),
              lack_column = q == (g->form[1]->zero ? 0 : g->points[1] - 1);
    *low = t->start[lack_row ? 1 : 0] - t->first;
    *high = t->start[lack_column ? 2 : lack_row ? 3 : 4] - t->first;
    if (*low < 0) *low = 0;
    if (*high > t->count) *high = t->count;
}

/* The matrix products of a unit: at each point the tiles that have it, summed over the inputs and over the pairs of parities. */
static void K(multiply_points)(const K(winograd_task) *t, int64_t unit, int64_t width) {
    const K(tiling) *g = &t->tiling;
    const int64_t wide = 2 * LANES, inputs = t->cut.inputs,
                  matrices = cnn_winograd_matrices(g->form[0]) * cnn_winograd_matrices(g->form[1]);
    int64_t offset[4], panel[4];
    K(product) product = {
        .row = t->pitch,
        .step = 1,
        .offset = offset,
        .panel_offset = panel,
        .length = inputs,
        .y_row = wide,
        .columns = width,
        .panel = (const REAL *)t->p->panels + unit * wide * matrices * inputs,
        .ahead_step = width
    };
    for (int64_t p = 0; p < g->points[0]; p++)
        for (int64_t q = 0; q < g->points[1]; q++) {
            int64_t low, high;
            K(tiles_with_point)(t, p, q, &low, &high);
            if (low >= high) continue;
            product.runs = 0;
            for (int r = 0; r < g->parities[0] && p < K(points_of_parity)(g, 0, r); r++)
                for (int c = 0; c < g->parities[1] && q < K(points_of_parity)(g, 1, c); c++, product.runs++) {
                    offset[product.runs] = (g->first_field[r][c] + p * K(points_of_parity)(g, 1, c) + q) * t->point;
                    panel[product.runs] = g->matrix[r][c][p][q] * width * inputs;
                }
            const int64_t blocks = K(row_blocks)(high - low, t->pitch);
            for (int64_t block = 0; block < blocks; block++) {
                const int64_t first = low + K(block_start)(block, blocks, high - low);
                product.ahead = block == 0 ? product.panel + FETCH_TERMS * width : NULL;
                product.a = t->transformed + first * t->pitch;
                product.y = t->products + (p * g->points[1] + q) * t->y_point + first * wide;
                K(multiply)(
                    &product, (int)(low + K(block_start)(block + 1, blocks, high - low) - first), width > LANES ? 2 : 1
                );
            }
        }
}

/* y = Aᵀ m A of one tile, for `channels` channels of a unit, with what is done to it on the way. */
static void K(write_tile)(
    const K(winograd_task) *t, const cnn_winograd_tile *at, const REAL *m, int64_t channel, int64_t channels
) {
    const cnn_correlation *p = t->p;
    const K(tiling) *g = &t->tiling;
    const int64_t *stride = p->y.stride, all = g->points[1];
    const int64_t points = all - at->shorter[1], lines = g->form[0]->outputs - at->shorter[0],
                  outputs = g->form[1]->outputs - at->shorter[1];
    const int64_t first = (at->shorter[0] && g->form[0]->zero ? all : 0) + (at->shorter[1] && g->form[1]->zero ? 1 : 0);
    const int in_place = stride[1] == 1, clamp = K(clamps)(p);
    const REAL lower = (REAL)p->lower, upper = (REAL)p->upper;
    REAL *y = (REAL *)p->y.data + at->n * stride[0] + channel * stride[1] + at->d * stride[2] + at->h * stride[3]
        + at->w * stride[4];
    REAL *to = in_place ? y : t->turned;
    const int64_t row = in_place ? stride[3] : at->columns * channels, column = in_place ? stride[4] : channels;
    REAL half[4 * WINOGRAD_POINTS * LANES], values[4 * 4 * LANES];
    for (int64_t k = 0; k < channels; k += LANES) {
        const int64_t lanes = channels - k;
        const vreal b = p->bias ? K(load)((const REAL *)p->bias + channel + k) : (vreal){0};
        g->axis[0]->output[at->shorter[0]](
            m + first * t->y_point + k, all * t->y_point, t->y_point, LANES, half, points * LANES, LANES, points
        );
        g->axis[1]->output[at->shorter[1]](half, LANES, points * LANES, LANES, values, LANES, outputs * LANES, lines);
        for (int64_t i = 0; i < at->rows; i++)
            for (int64_t j = 0; j < at->columns; j++) {
                REAL *place = to + i * row + j * column + k;
                vreal value = K(load)(values + (i * outputs + j) * LANES) + b;
                if (p->accumulate) value += lanes >= LANES ? K(load)(place) : K(load_tail)(place, lanes);
                if (clamp) value = K(clamped)(value, lower, upper);
                if (lanes >= LANES) K(store)(place, value);
                else K(store_tail)(place, value, lanes);
            }
    }
    if (!in_place) K(transfer_tile)(&p->y, y, 1, at->rows, at->columns, channels, t->turned, channels, 1);
}

static void K(winograd_correlate)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_correlation *p = ((const cnn_correlations *)call)->part;
    const int64_t wide = 2 * LANES, one[3] = {1, 1, 1}, ranges = (p->unit_count + p->units - 1) / p->units;
    K(winograd_task) t = {.p = p, .tiling = K(tiling_of)(p->form), .cut = K(cut_of)(p->x.shape[1], p->y.shape[1], one)};
    for (int group = 0; group <= 4; group++) t.start[group] = cnn_winograd_start(p, group);
    t.pitch = (t.cut.inputs + LANES - 1) / LANES * LANES;
    t.point = K(winograd_pitch)(p->columns * t.pitch);
    t.y_point = K(winograd_pitch)(p->columns * wide);
    t.transformed = scratch;
    t.products = (REAL *)((char *)scratch + p->x_bytes);
    t.turned = (REAL *)((char *)t.products + p->y_bytes);
    t.gathered = t.turned + t.tiling.form[0]->outputs * t.tiling.form[1]->outputs * wide;
    for (int64_t task = begin; task < end; task++) {
        const int64_t first_unit = task % ranges * p->units, last_unit = K(smaller)(first_unit + p->units, p->unit_count);
        t.first = task / ranges * p->columns;
        t.count = K(smaller)(p->columns, t.start[4] - t.first);
        for (int64_t i = 0; i < t.count; i++) {
            const cnn_winograd_tile at = cnn_winograd_tile_of(p, t.first + i);
            const K(field) f = K(winograd_field)(p, &at, &t.tiling, t.cut.inputs, t.gathered);
            K(transform_tile)(&t.tiling, &at, &f, t.cut.inputs, t.transformed + i * t.pitch, t.point);
        }
        for (int64_t unit = first_unit; unit < last_unit; unit++) {
            const int64_t channel = unit * wide, channels = K(smaller)(wide, t.cut.outputs - channel);
            K(multiply_points)(&t, unit, channels > LANES ? wide : LANES);
            for (int64_t i = 0; i < t.count; i++) {
                if (p->skip && p->skip[t.first + i]) continue;
                const cnn_winograd_tile at = cnn_winograd_tile_of(p, t.first + i);
                K(write_tile)(&t, &at, t.products + i * wide, channel, channels);
            }
        }
    }
}

/* ── Gradient of the weights ── the adjoint in g of the same bilinear form ──
 *
 *     dg = Gᵀ [ (A dy Aᵀ) ⊙ (Bᵀ d B) ] G         summed over tiles between transforms: (m+r−1)² matrix products
 *
 * A task owns inputs × units and walks all tiles, `columns` at a time; the sums of its products stay in memory meanwhile. */

/* Whole tiles alone, which hang over the end of the image. */
static inline int64_t K(winograd_tiles)(const cnn_correlation *p, int64_t tile) {
    return p->y.shape[0] * p->y.shape[2] * ((p->y.shape[3] + tile - 1) / tile) * ((p->y.shape[4] + tile - 1) / tile);
}
static inline cnn_winograd_tile K(winograd_whole_tile)(const cnn_correlation *p, int64_t tile, int64_t number) {
    const int64_t *shape = p->y.shape, H = (shape[3] + tile - 1) / tile, W = (shape[4] + tile - 1) / tile;
    return (cnn_winograd_tile){
        .n = number / W / H / shape[2], .d = number / W / H % shape[2], .h = number / W % H * tile, .w = number % W * tile
    };
}

/* A dy Aᵀ of one tile for the channels of one unit; outside the image dy counts as 0. */
static void K(winograd_gradient)(
    const K(tiling) *g, const cnn_tensor *y, const cnn_winograd_tile *at, int64_t channel, int64_t channels, int64_t width,
    REAL *gathered, REAL *to, int64_t point
) {
    const int64_t tile = g->form[0]->outputs, points = g->points[1], rows = K(smaller)(tile, y->shape[3] - at->h),
                  columns = K(smaller)(tile, y->shape[4] - at->w);
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
    REAL half[4 * WINOGRAD_POINTS * LANES];
    for (int64_t k = 0; k < width; k += LANES) {
        g->axis[1]->gradient(from + k, column, row, LANES, half, LANES, points * LANES, tile);
        g->axis[0]->gradient(half, points * LANES, LANES, LANES, to + k, points * point, point, points);
    }
}

/* Gᵀ m G of `count` values per point, in place: the taps take the place of the first points. */
static void K(winograd_gather)(const K(tiling) *g, REAL *m, int64_t point, int64_t count) {
    const int64_t points = g->points[1], taps = g->form[1]->taps;
    REAL half[WINOGRAD_POINTS * 5 * LANES];
    for (int64_t i = 0; i < count; i += LANES) {
        g->axis[1]->taps(m + i, point, points * point, LANES, half, LANES, taps * LANES, g->points[0]);
        g->axis[0]->taps(half, taps * LANES, LANES, LANES, m + i, taps * point, point, taps);
    }
}

/* What a task of winograd_weights computes, and its parts of scratch. */
typedef struct {
    const K(tiling) *g;
    int64_t outputs;               /* of the call */
    int64_t first_unit, last_unit; /* the latter excluded */
    int64_t first_input, inputs;
    int64_t pitch;                         /* from tile to tile of the transformed inputs */
    int64_t point, panel_point, sum_point; /* from point to point: of the inputs, of a panel of dy, of a unit's sums */
    REAL *transformed, *panels, *sums, *gathered;
} K(winograd_share);

static K(winograd_share) K(winograd_share_of)(const cnn_correlation *p, const K(tiling) *g, int64_t task, void *scratch) {
    const int64_t wide = 2 * LANES, block = task % p->channel_blocks;
    K(winograd_share) s = {.g = g, .outputs = p->y.shape[1], .transformed = scratch};
    s.first_unit = task / p->channel_blocks * p->units;
    s.last_unit = K(smaller)(s.first_unit + p->units, p->unit_count);
    s.first_input = K(block_start)(block, p->channel_blocks, p->x.shape[1]);
    s.inputs = K(block_start)(block + 1, p->channel_blocks, p->x.shape[1]) - s.first_input;
    s.pitch = (s.inputs + LANES - 1) / LANES * LANES;
    s.point = K(winograd_pitch)(p->columns * s.pitch);
    s.panel_point = K(winograd_pitch)(p->columns * wide);
    s.sum_point = s.inputs * wide;
    s.panels = (REAL *)((char *)scratch + p->x_bytes);
    s.sums = (REAL *)((char *)s.panels + p->y_bytes);
    s.gathered = (REAL *)((char *)s.sums + p->sum_bytes);
    return s;
}

/* Bᵀ x B of the task's inputs and A dy Aᵀ of its units, of tile number `tile`, the t-th of those multiplied together. */
ALWAYS_INLINE void K(transform_for_weights)(const cnn_correlation *p, const K(winograd_share) *s, int64_t tile, int64_t t) {
    const int64_t wide = 2 * LANES;
    const cnn_winograd_tile at = K(winograd_whole_tile)(p, s->g->form[0]->outputs, tile);
    cnn_correlation part = *p; /* x from the task's first input on */
    part.x.data = (REAL *)p->x.data + s->first_input * p->x.stride[1];
    const K(field) f = K(winograd_field)(&part, &at, s->g, s->inputs, s->gathered);
    K(transform_tile)(s->g, &at, &f, s->inputs, s->transformed + t * s->pitch, s->point);
    for (int64_t unit = s->first_unit; unit < s->last_unit; unit++) {
        const int64_t outputs = K(smaller)(wide, s->outputs - unit * wide), width = outputs > LANES ? wide : LANES;
        REAL *panel = s->panels + (unit - s->first_unit) * s->g->fields * s->panel_point;
        K(winograd_gradient)(s->g, &p->y, &at, unit * wide, outputs, width, s->gathered, panel + t * width, s->panel_point);
    }
}

/* Adds the products of `count` transformed tiles to the sums of a unit, point by point. */
ALWAYS_INLINE void K(add_points)(const K(winograd_share) *s, int64_t unit, int64_t count) {
    const int64_t wide = 2 * LANES, start = 0, points = s->g->fields, blocks = K(row_blocks)(s->inputs, 1);
    const int64_t width = s->outputs - unit * wide > LANES ? wide : LANES;
    for (int64_t q = 0; q < points; q++) {
        K(product) product = {
            .row = 1,
            .step = s->pitch,
            .offset = &start,
            .runs = 1,
            .length = count,
            .y_row = wide,
            .columns = width,
            .panel = s->panels + ((unit - s->first_unit) * points + q) * s->panel_point,
            .accumulate = 1
        };
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t c = K(block_start)(block, blocks, s->inputs);
            product.a = s->transformed + q * s->point + c;
            product.y = s->sums + ((unit - s->first_unit) * points + q) * s->sum_point + c * wide;
            K(multiply)(&product, (int)(K(block_start)(block + 1, blocks, s->inputs) - c), width > LANES ? 2 : 1);
        }
    }
}

static void K(winograd_weights)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_correlation *p = ((const cnn_correlations *)call)->part;
    const K(tiling) tiling = K(tiling_of)(p->form);
    const int64_t wide = 2 * LANES, taps = p->taps[1] * p->taps[2];
    const int64_t tiles = K(winograd_tiles)(p, tiling.form[0]->outputs);
    int64_t left = CNN_PIECE;
    for (int64_t task = begin; task < end; task++) {
        const K(winograd_share) s = K(winograd_share_of)(p, &tiling, task, scratch);
        const int64_t sum_size = tiling.fields * s.sum_point;
        K(fill_zero)(s.sums, (s.last_unit - s.first_unit) * sum_size);
        for (int64_t first = 0; first < tiles; first += p->columns) {
            const int64_t count = K(smaller)(p->columns, tiles - first);
            for (int64_t t = 0; t < count; t++) K(transform_for_weights)(p, &s, first + t, t);
            for (int64_t unit = s.first_unit; unit < s.last_unit; unit++) K(add_points)(&s, unit, count);
            if (cnn_stop_after(&left, count * sum_size)) return;
        }
        for (int64_t unit = s.first_unit; unit < s.last_unit; unit++) {
            const int64_t outputs = K(smaller)(wide, s.outputs - unit * wide);
            REAL *sum = s.sums + (unit - s.first_unit) * sum_size;
            K(winograd_gather)(&tiling, sum, s.sum_point, s.sum_point);
            K(scatter_weights)(p, unit * wide, outputs, s.first_input, s.inputs, 0, taps * s.inputs, sum, s.gathered);
        }
    }
}
