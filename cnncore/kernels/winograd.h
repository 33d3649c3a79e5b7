/* Winograd's minimal filtering F(4×4, 3×3): sixteen outputs from 36 multiplications instead of 144.
 *
 * Lavin & Gray 2016, arXiv:1509.09308. A 6×6 tile d of the input gives a 4×4 tile of the output:
 *
 *     y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A           summed over the input channels between transforms: 36 matrix products
 *
 * The transforms interpolate at the points 0, ±a, ±1/a, ∞ with a = 2/3. The textbook's ±1, ±2 lose twice as many digits: the
 * powers of the points enter y, and reciprocal pairs keep them near 1 (Barabasz et al. 2020, arXiv:1803.10986). With s = a² + a⁻²:
 *
 *     Bᵀ =  1   0   −s    0    1   0       Aᵀ = 1  1   1   1    1    0       G =  1            0        0
 *           0  −1/a −1/a² a    1   0            0  a  −a   1/a −1/a  0            n            n a      n a²       n = 1 / (2a²(a² − a⁻²))
 *           0   1/a −1/a² −a   1   0            0  a²  a²  a⁻²  a⁻²  0            n           −n a      n a²
 *           0  −a   −a²   1/a  1   0            0  a³ −a³  a⁻³ −a⁻³  1            m            m/a      m/a²       m = 1 / (2a⁻²(a⁻² − a²))
 *           0   a   −a²  −1/a  1   0                                              m           −m/a      m/a²
 *           0   1    0   −s    0   1                                              0            0        1
 *
 * Channels are innermost, so that transforms are plain arithmetic on vectors of channels.
 */
#define WINOGRAD_A ((REAL)2 / 3)
#define WINOGRAD_B ((REAL)3 / 2)
#define WINOGRAD_TILE 4                 /* outputs along an axis */
#define WINOGRAD_POINTS 6               /* inputs along an axis */

/* v[0..5] = Bᵀ v, along values that lie `step` apart. */
static inline __attribute__((always_inline)) void K(winograd_input)(vreal *v, const int step) {
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

/* v[0..3] = Aᵀ v. */
static inline __attribute__((always_inline)) void K(winograd_output)(vreal *v, const int step) {
    const REAL a = WINOGRAD_A, b = WINOGRAD_B;
    const vreal sum_a = v[step] + v[2 * step], difference_a = a * (v[step] - v[2 * step]);
    const vreal sum_b = v[3 * step] + v[4 * step], difference_b = b * (v[3 * step] - v[4 * step]);
    v[0] += sum_a + sum_b;
    v[step] = difference_a + difference_b;
    v[2 * step] = a * a * sum_a + b * b * sum_b;
    v[3 * step] = a * a * difference_a + b * b * difference_b + v[5 * step];
}

/* u[0..5] = G g for g0, g1, g2. */
static inline __attribute__((always_inline)) void K(winograd_weight)(vreal g0, vreal g1, vreal g2, vreal *u, const int step) {
    const REAL a = WINOGRAD_A, b = WINOGRAD_B;
    const REAL n = 1 / (2 * a * a * (a * a - b * b)), m = 1 / (2 * b * b * (b * b - a * a));
    const vreal even_a = n * g0 + n * a * a * g2, odd_a = n * a * g1, even_b = m * g0 + m * b * b * g2, odd_b = m * b * g1;
    u[0] = g0;
    u[step] = even_a + odd_a;
    u[2 * step] = even_a - odd_a;
    u[3 * step] = even_b + odd_b;
    u[4 * step] = even_b - odd_b;
    u[5 * step] = g2;
}

/* ── Packing ── panels[point][unit][c][lane] of G g Gᵀ; tasks are units ── */

static void K(winograd_pack)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_pack *v = call;
    const int64_t wide = 2 * LANES, one[3] = {1, 1, 1};
    const K(cut) cut = K(cut_of)(v->inputs, v->outputs, one);
    const int sign = K(taps_in_a_row)(v);
    (void)scratch;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t outputs = K(smaller)(wide, cut.outputs - unit * wide), width = outputs > LANES ? wide : LANES;
        const REAL *w = (const REAL *)v->w + unit * wide * v->output_stride;
        for (int64_t c = 0; c < v->inputs; c++)
            for (int64_t k = 0; k < width; k += LANES) {
                const int64_t lanes = K(smaller)(LANES, outputs - k);
                const REAL *from = w + c * v->input_stride + k * v->output_stride;
                REAL *to = (REAL *)v->panels + (unit * wide * v->inputs + c * width) + k;
                REAL g[9][LANES] = {{0}};
                vreal half[18], u[36];
                if (sign && lanes == LANES && LANES > 9 && K(readable)(v, unit * wide + k + LANES - 1, c) >= LANES)
                    K(transpose_narrow)(g[0], from - (sign < 0 ? 8 : 0), v->output_stride, 9);
                else if (sign)
                    K(transpose)(g[0], LANES, from - (sign < 0 ? 8 : 0), v->output_stride, lanes, 9);
                else
                    for (int64_t lane = 0; lane < lanes; lane++, from += v->output_stride)
                        for (int t = 0; t < 9; t++) g[t][lane] = from[t / 3 * v->tap_stride[1] + t % 3 * v->tap_stride[2]];
                const REAL *first = sign < 0 ? g[8] : g[0];     /* the taps, in their order here */
                const int64_t next = sign < 0 ? -LANES : LANES;
#pragma GCC unroll 3
                for (int j = 0; j < 3; j++)
                    K(winograd_weight)(
                        K(load)(first + j * next), K(load)(first + (3 + j) * next), K(load)(first + (6 + j) * next), half + j, 3
                    );
#pragma GCC unroll 6
                for (int i = 0; i < 6; i++) K(winograd_weight)(half[3 * i], half[3 * i + 1], half[3 * i + 2], u + 6 * i, 1);
#pragma GCC unroll 36
                for (int q = 0; q < 36; q++) K(store)(to + q * cut.group_size, u[q]);
            }
        if (v->b != NULL) {
            const REAL *b = (const REAL *)v->b + unit * wide * v->bias_stride;
            for (int64_t k = 0; k < wide; k++) ((REAL *)v->bias)[unit * wide + k] = k < outputs ? b[k * v->bias_stride] : 0;
        }
    }
}

/* ── Correlation ── forward, and the gradient of the input with the taps reversed ──
 *
 * A task is `columns` tiles, wherever they lie, and a range of units; of these `rows` units at a time pass through the
 * products, so that the products of a block of tiles stay in the second-level cache. */

typedef struct {
    int64_t n, d, h, w;
} K(winograd_place);

static inline K(winograd_place) K(winograd_place_of)(const cnn_tensor *y, int64_t tile) {
    const int64_t H = (y->shape[3] + WINOGRAD_TILE - 1) / WINOGRAD_TILE, W = (y->shape[4] + WINOGRAD_TILE - 1) / WINOGRAD_TILE;
    return (K(winograd_place)){
        tile / W / H / y->shape[2], tile / W / H % y->shape[2], tile / W % H * WINOGRAD_TILE, tile % W * WINOGRAD_TILE
    };
}

/* Bᵀ d B of one tile: points lie `point` apart. */
static void K(winograd_transform_input)(
    const cnn_correlation *p, const K(winograd_place) *at, int64_t channels, REAL *gathered, REAL *to, int64_t point
) {
    const K(field) f = K(field_of)(p, at->n, 1, at->d, at->h, WINOGRAD_TILE, at->w, WINOGRAD_TILE, 0, channels, 0, gathered);
    for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t lanes = channels - c;
        vreal v[36];
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++) {
                const REAL *from = f.a + i * f.row + j * f.column + c;
                v[6 * i + j] = lanes >= LANES ? K(load)(from) : K(load_tail)(from, lanes);
            }
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) K(winograd_input)(v + 6 * i, 1);
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++) {
            K(winograd_input)(v + j, 6);
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++) K(store)(to + (6 * i + j) * point + c, v[6 * i + j]);
        }
    }
}

/* y = Aᵀ m A of one tile and `channels` channels, with bias and activation, into rows and columns of y that exist. */
static void K(winograd_transform_output)(
    const cnn_correlation *p, const REAL *m, int64_t point, int64_t channels, const REAL *bias, REAL *y, int64_t y_row,
    int64_t y_column, int64_t rows, int64_t columns
) {
    for (int64_t k = 0; k < channels; k += LANES) {
        const int64_t lanes = channels - k;
        const vreal b = bias ? K(load)(bias + k) : (vreal){0};
        vreal v[36];
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++) {
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++) v[6 * i + j] = K(load)(m + (6 * i + j) * point + k);
            K(winograd_output)(v + j, 6);
        }
#pragma GCC unroll 4
        for (int i = 0; i < WINOGRAD_TILE; i++) {
            K(winograd_output)(v + 6 * i, 1);
#pragma GCC unroll 4
            for (int j = 0; j < WINOGRAD_TILE; j++) {
                if (i >= rows || j >= columns) continue;
                REAL *to = y + i * y_row + j * y_column + k;
                vreal value = v[6 * i + j] + b;
                if (p->relu) value = K(select)(value <= 0, (vreal){0}, value);
                if (lanes >= LANES)
                    K(store)(to, value);
                else
                    K(store_tail)(to, value, lanes);
            }
        }
    }
}

static void K(winograd_correlate)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_correlation *p = ((const cnn_correlations *)call)->part;
    const int64_t wide = 2 * LANES, one[3] = {1, 1, 1}, start = 0, *stride = p->y.stride;
    const K(cut) cut = K(cut_of)(p->x.shape[1], p->y.shape[1], one);
    const int64_t ranges = (p->unit_count + p->units - 1) / p->units;
    const int64_t tiles = p->y.shape[0] * p->y.shape[2] * ((p->y.shape[3] + WINOGRAD_TILE - 1) / WINOGRAD_TILE)
        * ((p->y.shape[4] + WINOGRAD_TILE - 1) / WINOGRAD_TILE);
    const int64_t pitch = (cut.inputs + LANES - 1) / LANES * LANES, point = p->columns * pitch;
    const int64_t m_pitch = p->rows * wide, m_point = p->columns * m_pitch;
    const int in_place = stride[1] == 1;
    REAL *transformed = scratch, *products = (REAL *)((char *)scratch + p->x_bytes);
    REAL *gathered = (REAL *)((char *)products + p->y_bytes), *turned = gathered + 36 * cut.inputs;
    for (int64_t task = begin; task < end; task++) {
        const int64_t first_tile = task / ranges * p->columns, count = K(smaller)(p->columns, tiles - first_tile);
        const int64_t first_unit = task % ranges * p->units, last_unit = K(smaller)(first_unit + p->units, p->unit_count);
        for (int64_t t = 0; t < count; t++) {
            const K(winograd_place) at = K(winograd_place_of)(&p->y, first_tile + t);
            K(winograd_transform_input)(p, &at, cut.inputs, gathered, transformed + t * pitch, point);
        }
        const int64_t blocks = K(row_blocks)(count);
        for (int64_t unit = first_unit; unit < last_unit; unit += p->rows) {
            const int64_t after = K(smaller)(unit + p->rows, last_unit);
            const int64_t channel = unit * wide, channels = K(smaller)(after * wide, cut.outputs) - channel;
            for (int64_t q = 0; q < 36; q++)
                for (int64_t j = unit; j < after; j++) {
                    const int64_t outputs = K(smaller)(wide, cut.outputs - j * wide), width = outputs > LANES ? wide : LANES;
                    K(product) product = {
                        .row = pitch, .step = 1, .offset = &start, .runs = 1, .length = cut.inputs, .y_row = m_pitch,
                        .panel = (const REAL *)p->panels + q * cut.group_size + j * wide * cut.inputs, .columns = width
                    };
                    for (int64_t block = 0; block < blocks; block++) {
                        const int64_t t = K(block_start)(block, blocks, count);
                        product.a = transformed + q * point + t * pitch;
                        product.y = products + q * m_point + t * m_pitch + (j - unit) * wide;
                        K(multiply)(&product, (int)(K(block_start)(block + 1, blocks, count) - t), width > LANES ? 2 : 1);
                    }
                }
            for (int64_t t = 0; t < count; t++) {
                const K(winograd_place) at = K(winograd_place_of)(&p->y, first_tile + t);
                const int64_t rows = K(smaller)(WINOGRAD_TILE, p->y.shape[3] - at.h);
                const int64_t columns = K(smaller)(WINOGRAD_TILE, p->y.shape[4] - at.w);
                REAL *y = (REAL *)p->y.data + at.n * stride[0] + channel * stride[1] + at.d * stride[2] + at.h * stride[3]
                    + at.w * stride[4];
                K(winograd_transform_output)(
                    p, products + t * m_pitch, m_point, channels, p->bias ? (const REAL *)p->bias + channel : NULL,
                    in_place ? y : turned, in_place ? stride[3] : WINOGRAD_TILE * channels, in_place ? stride[4] : channels,
                    rows, columns
                );
                if (!in_place)
                    for (int64_t r = 0; r < rows; r++)
                        K(transfer)(
                            y + r * stride[3], stride[4], stride[1], turned + r * WINOGRAD_TILE * channels, channels, 1, columns,
                            channels
                        );
            }
        }
    }
}

/* ── Gradient of the weights ── the adjoint in g of the same bilinear form ──
 *
 *     dg = Gᵀ [ (A dy Aᵀ) ⊙ (Bᵀ d B) ] G         summed over tiles between transforms: 36 matrix products
 *
 * A task owns inputs × units and walks all tiles, `columns` at a time; the sums of its 36 products stay in memory meanwhile. */

/* v[0..5] = A v[0..3]. */
static inline __attribute__((always_inline)) void K(winograd_output_adjoint)(vreal *v, const int step) {
    const REAL a = WINOGRAD_A, b = WINOGRAD_B;
    const vreal y0 = v[0], y1 = v[step], y2 = v[2 * step], y3 = v[3 * step];
    const vreal even_a = y0 + a * a * y2, odd_a = a * (y1 + a * a * y3), even_b = y0 + b * b * y2, odd_b = b * (y1 + b * b * y3);
    v[step] = even_a + odd_a;
    v[2 * step] = even_a - odd_a;
    v[3 * step] = even_b + odd_b;
    v[4 * step] = even_b - odd_b;
    v[5 * step] = y3;
}

/* v[0..2] = Gᵀ v[0..5]. */
static inline __attribute__((always_inline)) void K(winograd_weight_adjoint)(vreal *v, const int step) {
    const REAL a = WINOGRAD_A, b = WINOGRAD_B;
    const REAL n = 1 / (2 * a * a * (a * a - b * b)), m = 1 / (2 * b * b * (b * b - a * a));
    const vreal sum_a = n * (v[step] + v[2 * step]), sum_b = m * (v[3 * step] + v[4 * step]);
    const vreal odd = n * a * (v[step] - v[2 * step]) + m * b * (v[3 * step] - v[4 * step]);
    v[0] += sum_a + sum_b;
    v[step] = odd;
    v[2 * step] = a * a * sum_a + b * b * sum_b + v[5 * step];
}

/* A dy Aᵀ of one tile for the channels of one unit; outside the image dy counts as 0. */
static void K(winograd_transform_gradient)(
    const cnn_tensor *y, const K(winograd_place) *at, int64_t channel, int64_t channels, int64_t width, REAL *gathered, REAL *to,
    int64_t point
) {
    const int64_t rows = K(smaller)(WINOGRAD_TILE, y->shape[3] - at->h), columns = K(smaller)(WINOGRAD_TILE, y->shape[4] - at->w);
    const REAL *from = (const REAL *)y->data + at->n * y->stride[0] + channel * y->stride[1] + at->d * y->stride[2]
        + at->h * y->stride[3] + at->w * y->stride[4];
    int64_t row = y->stride[3], column = y->stride[4];
    if (y->stride[1] != 1 || channels < width || rows < WINOGRAD_TILE || columns < WINOGRAD_TILE) {
        K(fill_zero)(gathered, WINOGRAD_TILE * WINOGRAD_TILE * width);
        for (int64_t i = 0; i < rows; i++)
            K(transfer)(
                gathered + i * WINOGRAD_TILE * width, width, 1, from + i * y->stride[3], y->stride[4], y->stride[1], columns, channels
            );
        from = gathered;
        row = WINOGRAD_TILE * width;
        column = width;
    }
    for (int64_t k = 0; k < width; k += LANES) {
        vreal v[36];
#pragma GCC unroll 4
        for (int i = 0; i < WINOGRAD_TILE; i++) {
#pragma GCC unroll 4
            for (int j = 0; j < WINOGRAD_TILE; j++) v[6 * i + j] = K(load)(from + i * row + j * column + k);
            K(winograd_output_adjoint)(v + 6 * i, 1);
        }
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++) {
            K(winograd_output_adjoint)(v + j, 6);
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++) K(store)(to + (6 * i + j) * point + k, v[6 * i + j]);
        }
    }
}

static void K(winograd_weights)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_correlation *p = ((const cnn_correlations *)call)->part;
    const int64_t wide = 2 * LANES, one[3] = {1, 1, 1}, start = 0;
    const K(cut) cut = K(cut_of)(p->x.shape[1], p->y.shape[1], one);
    const int64_t tiles = p->y.shape[0] * p->y.shape[2] * ((p->y.shape[3] + WINOGRAD_TILE - 1) / WINOGRAD_TILE)
        * ((p->y.shape[4] + WINOGRAD_TILE - 1) / WINOGRAD_TILE);
    for (int64_t task = begin; task < end; task++) {
        const int64_t first_unit = task / p->channel_blocks * p->units, last_unit = K(smaller)(first_unit + p->units, p->unit_count);
        const int64_t first_input = K(block_start)(task % p->channel_blocks, p->channel_blocks, cut.inputs);
        const int64_t inputs = K(block_start)(task % p->channel_blocks + 1, p->channel_blocks, cut.inputs) - first_input;
        const int64_t pitch = (inputs + LANES - 1) / LANES * LANES, point = p->columns * pitch;
        const int64_t unit_point = p->columns * wide, sum_point = inputs * wide;
        REAL *transformed = scratch, *panels = (REAL *)((char *)scratch + p->x_bytes);
        REAL *sums = (REAL *)((char *)panels + p->y_bytes), *gathered = (REAL *)((char *)sums + p->sum_bytes);
        cnn_correlation part = *p;      /* x from the task's first input on */
        part.x.data = (REAL *)p->x.data + first_input * p->x.stride[1];
        K(fill_zero)(sums, (last_unit - first_unit) * 36 * sum_point);
        for (int64_t first = 0; first < tiles; first += p->columns) {
            const int64_t count = K(smaller)(p->columns, tiles - first);
            for (int64_t t = 0; t < count; t++) {
                const K(winograd_place) at = K(winograd_place_of)(&p->y, first + t);
                K(winograd_transform_input)(&part, &at, inputs, gathered, transformed + t * pitch, point);
                for (int64_t unit = first_unit; unit < last_unit; unit++) {
                    const int64_t outputs = K(smaller)(wide, cut.outputs - unit * wide), width = outputs > LANES ? wide : LANES;
                    K(winograd_transform_gradient)(
                        &p->y, &at, unit * wide, outputs, width, gathered, panels + (unit - first_unit) * 36 * unit_point + t * width,
                        unit_point
                    );
                }
            }
            const int64_t blocks = K(row_blocks)(inputs);
            for (int64_t unit = first_unit; unit < last_unit; unit++) {
                const int64_t width = cut.outputs - unit * wide > LANES ? wide : LANES;
                for (int64_t q = 0; q < 36; q++) {
                    K(product) product = {
                        .row = 1, .step = pitch, .offset = &start, .runs = 1, .length = count, .y_row = wide, .columns = width,
                        .panel = panels + ((unit - first_unit) * 36 + q) * unit_point, .accumulate = 1
                    };
                    for (int64_t block = 0; block < blocks; block++) {
                        const int64_t c = K(block_start)(block, blocks, inputs);
                        product.a = transformed + q * point + c;
                        product.y = sums + ((unit - first_unit) * 36 + q) * sum_point + c * wide;
                        K(multiply)(&product, (int)(K(block_start)(block + 1, blocks, inputs) - c), width > LANES ? 2 : 1);
                    }
                }
            }
        }
        for (int64_t unit = first_unit; unit < last_unit; unit++) {
            REAL *sum = sums + (unit - first_unit) * 36 * sum_point;
            /* The nine taps take the place of the first nine points. */
            for (int64_t c = 0; c < inputs * wide; c += LANES) {
                vreal v[36];
#pragma GCC unroll 6
                for (int j = 0; j < 6; j++) {
#pragma GCC unroll 6
                    for (int i = 0; i < 6; i++) v[6 * i + j] = K(load)(sum + (6 * i + j) * sum_point + c);
                    K(winograd_weight_adjoint)(v + j, 6);
                }
#pragma GCC unroll 3
                for (int i = 0; i < 3; i++) {
                    K(winograd_weight_adjoint)(v + 6 * i, 1);
#pragma GCC unroll 3
                    for (int j = 0; j < 3; j++) K(store)(sum + (3 * i + j) * sum_point + c, v[6 * i + j]);
                }
            }
            K(scatter_weights)(
                p, unit * wide, K(smaller)(wide, cut.outputs - unit * wide), first_input, inputs, 0, 9 * inputs, sum, gathered
            );
        }
    }
}
