/* Normalisation by statistics, and by adjacent channels (LRN). The reference implementations, with their formulas, are in the
 * family's reference.pyx. */

#define STRIP 4 /* independent accumulators, to hide the latency of the additions */

/* What a task computes: image n, cells first <= i < last and, if channels are not innermost, channel c. */
typedef struct {
    int64_t n, c, first, last, part;
} K(place_of_norm);

static inline K(place_of_norm) K(norm_place)(const cnn_norm *call, int64_t task) {
    K(place_of_norm) at = {0};
    const int64_t C = call->x.shape[1], cells = call->x.shape[4];
    if (!call->channels_last) {
        at.c = task % C;
        task /= C;
    }
    const int64_t k = task % call->blocks;
    at.n = task / call->blocks;
    at.first = k * call->block;
    at.last = at.first + call->block < cells ? at.first + call->block : cells;
    at.part = task * C + at.c;
    return at;
}
#define AT(t) ((REAL *)(t).data + at.n * (t).stride[0] + at.c * (t).stride[1] + at.first * (t).stride[4])

/* Means, and sums of squared differences from them, of `vectors` * WIDE adjacent channels. */
ALWAYS_INLINE void K(moments_of_channels)(
    const REAL *x, int64_t step, int64_t cells, double *mean, double *square, const int vectors
) {
    vwide sum[STRIP] = {{0}}, squares[STRIP] = {{0}};
    for (int64_t i = 0; i < cells; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[v] += K(widen)(x + i * step + v * WIDE);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[v] /= (double)cells;
    for (int64_t i = 0; i < cells; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            const vwide away = K(widen)(x + i * step + v * WIDE) - sum[v];
            squares[v] += away * away;
        }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        *(vwide *)(mean + v * WIDE) = sum[v];
        *(vwide *)(square + v * WIDE) = squares[v];
    }
}

static void K(norm_moments)(void *call_, int64_t begin, int64_t end, void *scratch) {
    const cnn_norm *call = call_;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const K(place_of_norm) at = K(norm_place)(call, task);
        const REAL *x = AT(call->x);
        const int64_t cells = at.last - at.first, C = call->x.shape[1], step = call->x.stride[4];
        double *mean = call->first + at.part, *square = call->second + at.part;
        if (call->channels_last) {
            int64_t c = 0;
            for (; c + STRIP * WIDE <= C; c += STRIP * WIDE)
                K(moments_of_channels)(x + c, step, cells, mean + c, square + c, STRIP);
            for (; c + WIDE <= C; c += WIDE) K(moments_of_channels)(x + c, step, cells, mean + c, square + c, 1);
            for (; c < C; c++) {
                double sum = 0, squares = 0;
                for (int64_t i = 0; i < cells; i++) sum += x[i * step + c];
                sum /= (double)cells;
                for (int64_t i = 0; i < cells; i++) squares += (x[i * step + c] - sum) * (x[i * step + c] - sum);
                mean[c] = sum;
                square[c] = squares;
            }
            continue;
        }
        vwide sums[STRIP] = {{0}}, squares[STRIP] = {{0}};
        double sum = 0, squared = 0;
        int64_t i = 0;
        for (; i + STRIP * WIDE <= cells; i += STRIP * WIDE)
#pragma GCC unroll 4
            for (int v = 0; v < STRIP; v++) sums[v] += K(widen)(x + i + v * WIDE);
        for (; i < cells; i++) sum += x[i];
        sum = (sum + K(total)((sums[0] + sums[1]) + (sums[2] + sums[3]))) / (double)cells;
        for (i = 0; i + STRIP * WIDE <= cells; i += STRIP * WIDE)
#pragma GCC unroll 4
            for (int v = 0; v < STRIP; v++) {
                const vwide away = K(widen)(x + i + v * WIDE) - sum;
                squares[v] += away * away;
            }
        for (; i < cells; i++) squared += (x[i] - sum) * (x[i] - sum);
        *mean = sum;
        *square = squared + K(total)((squares[0] + squares[1]) + (squares[2] + squares[3]));
    }
}

/* Sums of dy and of dy (x - center) of `vectors` * WIDE adjacent channels. */
ALWAYS_INLINE void K(sums_of_channels)(
    const REAL *x, int64_t x_step, const REAL *dy, int64_t dy_step, const REAL *center, int64_t cells, double *plain,
    double *weighted, const int vectors
) {
    vwide sum[STRIP] = {{0}}, product[STRIP] = {{0}}, middle[STRIP];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) middle[v] = K(widen)(center + v * WIDE);
    for (int64_t i = 0; i < cells; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            const vwide d = K(widen)(dy + i * dy_step + v * WIDE);
            sum[v] += d;
            product[v] += d * (K(widen)(x + i * x_step + v * WIDE) - middle[v]);
        }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        *(vwide *)(plain + v * WIDE) = sum[v];
        *(vwide *)(weighted + v * WIDE) = product[v];
    }
}

static void K(norm_sums)(void *call_, int64_t begin, int64_t end, void *scratch) {
    const cnn_norm *call = call_;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const K(place_of_norm) at = K(norm_place)(call, task);
        const REAL *x = AT(call->x), *dy = AT(call->dy);
        const REAL *center = (const REAL *)call->center + at.n * call->image_step + at.c;
        const int64_t cells = at.last - at.first, C = call->x.shape[1];
        const int64_t x_step = call->x.stride[4], dy_step = call->dy.stride[4];
        double *plain = call->first + at.part, *weighted = call->second + at.part;
        if (call->channels_last) {
            int64_t c = 0;
            for (; c + STRIP * WIDE <= C; c += STRIP * WIDE)
                K(sums_of_channels)(x + c, x_step, dy + c, dy_step, center + c, cells, plain + c, weighted + c, STRIP);
            for (; c + WIDE <= C; c += WIDE)
                K(sums_of_channels)(x + c, x_step, dy + c, dy_step, center + c, cells, plain + c, weighted + c, 1);
            for (; c < C; c++) {
                double sum = 0, product = 0;
                for (int64_t i = 0; i < cells; i++) {
                    sum += dy[i * dy_step + c];
                    product += dy[i * dy_step + c] * ((double)x[i * x_step + c] - center[c]);
                }
                plain[c] = sum;
                weighted[c] = product;
            }
            continue;
        }
        vwide sums[STRIP] = {{0}}, products[STRIP] = {{0}};
        double sum = 0, product = 0;
        int64_t i = 0;
        for (; i + STRIP * WIDE <= cells; i += STRIP * WIDE)
#pragma GCC unroll 4
            for (int v = 0; v < STRIP; v++) {
                const vwide d = K(widen)(dy + i + v * WIDE);
                sums[v] += d;
                products[v] += d * (K(widen)(x + i + v * WIDE) - (double)*center);
            }
        for (; i < cells; i++) {
            sum += dy[i];
            product += dy[i] * ((double)x[i] - *center);
        }
        *plain = sum + K(total)((sums[0] + sums[1]) + (sums[2] + sums[3]));
        *weighted = product + K(total)((products[0] + products[1]) + (products[2] + products[3]));
    }
}

/* y = scale (x - center) + shift */
static void K(norm_transform)(void *call_, int64_t begin, int64_t end, void *scratch) {
    const cnn_norm *call = call_;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const K(place_of_norm) at = K(norm_place)(call, task);
        const int64_t number = at.n * call->image_step + at.c, cells = at.last - at.first, C = call->x.shape[1];
        const REAL *restrict center = (const REAL *)call->center + number;
        const REAL *restrict scale = (const REAL *)call->scale + number;
        const REAL *restrict shift = (const REAL *)call->shift + number;
        const REAL *restrict x = AT(call->x);
        REAL *restrict y = AT(call->y);
        if (call->channels_last) {
            for (int64_t i = 0; i < cells; i++, x += call->x.stride[4], y += call->y.stride[4])
                for (int64_t c = 0; c < C; c++) y[c] = scale[c] * (x[c] - center[c]) + shift[c];
        } else {
            const REAL middle = *center, factor = *scale, summand = *shift;
            for (int64_t i = 0; i < cells; i++) y[i] = factor * (x[i] - middle) + summand;
        }
    }
}

/* dx = scale dy + slope (x - center) + shift */
static void K(norm_gradient)(void *call_, int64_t begin, int64_t end, void *scratch) {
    const cnn_norm *call = call_;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const K(place_of_norm) at = K(norm_place)(call, task);
        const int64_t number = at.n * call->image_step + at.c, cells = at.last - at.first, C = call->x.shape[1];
        const REAL *restrict center = (const REAL *)call->center + number;
        const REAL *restrict scale = (const REAL *)call->scale + number;
        const REAL *restrict shift = (const REAL *)call->shift + number;
        const REAL *restrict slope = (const REAL *)call->slope + number;
        const REAL *restrict x = AT(call->x), *restrict dy = AT(call->dy);
        REAL *restrict dx = AT(call->dx);
        if (call->channels_last) {
            for (int64_t i = 0; i < cells; i++) {
                for (int64_t c = 0; c < C; c++) dx[c] = scale[c] * dy[c] + (slope[c] * (x[c] - center[c]) + shift[c]);
                x += call->x.stride[4];
                dy += call->dy.stride[4];
                dx += call->dx.stride[4];
            }
        } else {
            const REAL middle = *center, factor = *scale, steep = *slope, summand = *shift;
            for (int64_t i = 0; i < cells; i++) dx[i] = factor * dy[i] + (steep * (x[i] - middle) + summand);
        }
    }
}
#undef AT
#undef STRIP

/* ── Local response normalisation ──
 *
 * A task is processed as lines of adjacent values: the channels of each cell, or the cells of each channel. In scratch the lines
 * are `pitch` apart and the channels `step`, padded with zeros so that windows at the first and last channels need no special
 * case. */
typedef struct {
    int64_t lines, length, pitch, step;
    int64_t before, after; /* channels that a window can cover */
    REAL *scratch;         /* squares, ratios and powers, padded_size REALs each */
    int64_t padded_size;
} K(lrn_block);

static inline REAL K(root)(REAL s) {
    return sizeof(REAL) == 4 ? (REAL)__builtin_sqrtf((float)s) : (REAL)__builtin_sqrt((double)s);
}

/* p = s^-beta, by square roots for common beta. The formula does not depend on a value's position in the line. */
static void K(lrn_powers)(REAL *restrict p, const REAL *restrict s, int64_t count, double beta) {
    if (beta == 0.75)
        for (int64_t i = 0; i < count; i++) p[i] = 1 / (K(root)(s[i]) * K(root)(K(root)(s[i])));
    else if (beta == 0.5)
        for (int64_t i = 0; i < count; i++) p[i] = 1 / K(root)(s[i]);
    else if (beta == 1)
        for (int64_t i = 0; i < count; i++) p[i] = 1 / s[i];
    else {
        int64_t i = 0;
        for (; i + LANES <= count; i += LANES) K(store)(p + i, K(power)(K(load)(s + i), (REAL)-beta));
        if (i < count) K(store_tail)(p + i, K(power)(K(load_tail)(s + i, count - i), (REAL)-beta), count - i);
    }
}

/* sum[i] = v[i] + v[i + step] + ... of n values */
static void K(window_sums)(REAL *restrict sum, const REAL *restrict v, int64_t step, int64_t n, int64_t count) {
    if (n == 5) {
        const REAL *restrict v1 = v + step, *restrict v2 = v1 + step, *restrict v3 = v2 + step, *restrict v4 = v3 + step;
        for (int64_t i = 0; i < count; i++) sum[i] = v[i] + v1[i] + v2[i] + v3[i] + v4[i];
        return;
    }
    for (int64_t i = 0; i < count; i++) sum[i] = v[i];
    for (int64_t j = 1; j < n; j++)
        for (int64_t i = 0; i < count; i++) sum[i] += v[j * step + i];
}

/* The largest square of x up to which the kernels are as exact as REAL, in windows of `count` values; -1 where nothing is. Then
 * s = k + alpha (sum of squares) and its powers stay normal numbers. The gradient has s^(-beta - 1) in it, and products with it
 * that lie a factor sqrt(s) below the result. What is beyond is computed by the reference, in double. */
static REAL K(lrn_limit)(const cnn_lrn *call, double count, int gradient) {
    const double digits = sizeof(REAL) == 4 ? 30 : 290, power = fabs(call->beta) + gradient;
    double largest = (sizeof(REAL) == 4 ? 3e38 : 1e308) / 4 / (1 + call->alpha) / count;
    const double most = pow(10, fmin(digits / power, gradient ? 0.4 * digits : digits)) / 2;
    const double least = pow(10, -digits / fmax(power, 1));
    if (!(call->k >= least && call->k <= fmin(most, largest) && call->alpha <= largest)) return -1;
    return (REAL)(call->alpha * count * largest > most ? most / (call->alpha * count) : largest);
}

/* Stores the squares of a block's x in scratch; returns 0 if one is above `limit` or no number. */
static int K(lrn_squares)(REAL limit, const REAL *x, int64_t x_line, const K(lrn_block) *b, REAL *squares) {
    int beyond = 0;
    for (int64_t line = 0; line < b->lines; line++) {
        REAL *restrict to = squares + line * b->pitch;
        const REAL *restrict from = x + line * x_line;
        for (int64_t i = 0; i < b->length; i++) {
            const REAL square = from[i] * from[i];
            to[i] = square;
            beyond |= !(square <= limit);
        }
    }
    return !beyond;
}

/* The lines of a task. */
static K(lrn_block) K(lrn_lines)(const cnn_lrn *call, int64_t task, void *scratch) {
    const int64_t C = call->x.shape[1], first = task % call->blocks * call->block;
    const int64_t cells = K(smaller)(call->block, call->x.shape[4] - first);
    K(lrn_block) b = {.before = K(smaller)(call->before, C - 1), .after = K(smaller)(call->after, C - 1), .scratch = scratch};
    if (call->channels_last) {
        b.lines = cells;
        b.length = C;
        b.pitch = C + b.before + b.after;
        b.step = 1;
    } else {
        b.lines = C;
        b.length = cells;
        b.pitch = b.step = call->block;
    }
    b.padded_size = call->block * (C + b.before + b.after);
    return b;
}

static void K(lrn_forward)(void *call_, int64_t begin, int64_t end, void *scratch) {
    cnn_lrn *call = call_;
    const REAL k = (REAL)call->k, alpha = (REAL)call->alpha;
    const REAL limit = K(lrn_limit)(call, (double)(call->before + call->after + 1), 0);
    for (int64_t task = begin; task < end; task++) {
        const K(lrn_block) b = K(lrn_lines)(call, task, scratch);
        const int64_t n = task / call->blocks, first = task % call->blocks * call->block;
        const REAL *x = (const REAL *)call->x.data + n * call->x.stride[0] + first * call->x.stride[4];
        REAL *y = (REAL *)call->y.data + n * call->y.stride[0] + first * call->y.stride[4];
        const int64_t x_line = call->x.stride[call->channels_last ? 4 : 1],
                      y_line = call->y.stride[call->channels_last ? 4 : 1];
        REAL *padded = b.scratch, *s = padded + b.padded_size, *p = s + b.length;
        if (task == begin) memset(padded, 0, (size_t)b.padded_size * sizeof(REAL));
        if (!K(lrn_squares)(limit, x, x_line, &b, padded + b.before * b.step)) {
            call->reference(call, task, task + 1, scratch);
            memset(padded, 0, (size_t)b.padded_size * sizeof(REAL));
            continue;
        }
        for (int64_t line = 0; line < b.lines; line++) {
            K(window_sums)(s, padded + line * b.pitch, b.step, b.before + 1 + b.after, b.length);
            for (int64_t i = 0; i < b.length; i++) s[i] = k + alpha * s[i];
            K(lrn_powers)(p, s, b.length, call->beta);
            const REAL *restrict from = x + line * x_line;
            REAL *restrict to = y + line * y_line;
            for (int64_t i = 0; i < b.length; i++) to[i] = from[i] * p[i];
        }
    }
}

static void K(lrn_backward)(void *call_, int64_t begin, int64_t end, void *scratch) {
    cnn_lrn *call = call_;
    const REAL k = (REAL)call->k, alpha = (REAL)call->alpha, factor = (REAL)(2 * call->alpha * call->beta);
    const REAL limit = K(lrn_limit)(call, (double)(call->before + call->after + 1), 1);
    for (int64_t task = begin; task < end; task++) {
        const K(lrn_block) b = K(lrn_lines)(call, task, scratch);
        const int64_t n = task / call->blocks, first = task % call->blocks * call->block;
        const REAL *x = (const REAL *)call->x.data + n * call->x.stride[0] + first * call->x.stride[4];
        const REAL *dy = (const REAL *)call->dy.data + n * call->dy.stride[0] + first * call->dy.stride[4];
        REAL *dx = (REAL *)call->dx.data + n * call->dx.stride[0] + first * call->dx.stride[4];
        const int axis = call->channels_last ? 4 : 1;
        const int64_t x_line = call->x.stride[axis], dy_line = call->dy.stride[axis], dx_line = call->dx.stride[axis];
        const int64_t window = b.before + 1 + b.after;
        REAL *padded = b.scratch, *ratios = padded + b.padded_size, *powers = ratios + b.padded_size;
        REAL *s = powers + b.lines * b.length;
        if (task == begin) memset(padded, 0, 2 * (size_t)b.padded_size * sizeof(REAL));
        if (!K(lrn_squares)(limit, x, x_line, &b, padded + b.before * b.step)) {
            call->reference(call, task, task + 1, scratch);
            memset(padded, 0, 2 * (size_t)b.padded_size * sizeof(REAL));
            continue;
        }
        for (int64_t line = 0; line < b.lines; line++) {
            REAL *restrict p = powers + line * b.length;
            K(window_sums)(s, padded + line * b.pitch, b.step, window, b.length);
            for (int64_t i = 0; i < b.length; i++) s[i] = k + alpha * s[i];
            K(lrn_powers)(p, s, b.length, call->beta);
            /* The windows that contain a channel are mirrored: they begin `after` channels before it. */
            REAL *restrict ratio = ratios + b.after * b.step + line * b.pitch;
            const REAL *restrict from = x + line * x_line, *restrict slope = dy + line * dy_line;
            for (int64_t i = 0; i < b.length; i++) ratio[i] = slope[i] * (from[i] * (p[i] / s[i]));
        }
        for (int64_t line = 0; line < b.lines; line++) {
            K(window_sums)(s, ratios + line * b.pitch, b.step, window, b.length);
            const REAL *restrict p = powers + line * b.length;
            const REAL *restrict from = x + line * x_line, *restrict slope = dy + line * dy_line;
            REAL *restrict to = dx + line * dx_line;
            for (int64_t i = 0; i < b.length; i++) to[i] = slope[i] * p[i] - factor * (from[i] * s[i]);
        }
    }
}

/* ── Response normalisation within channels ──
 *
 * A task is `block` channels of an image: one plane or, if channels are innermost, several, whose cells are then runs of `block`
 * values. Box sums are separable: one axis after the other, on whole rows of values. */

/* to[i] = from[i - before] + ... + from[i + after], as far as they exist, along an axis of `extent` cells that are `step`
 * apart. */
static void K(axis_sums)(
    REAL *restrict to, const REAL *restrict from, int64_t extent, int64_t step, int64_t before, int64_t after
) {
    if (before >= extent) before = extent - 1;
    if (after >= extent) after = extent - 1;
    for (int64_t i = 0; i < extent * step; i++) to[i] = from[i];
    int64_t left = CNN_PIECE;
    for (int64_t shift = -before; shift <= after; shift++) {
        const int64_t first = shift < 0 ? -shift * step : 0, last = (shift > 0 ? extent - shift : extent) * step;
        if (shift == 0) continue;
        if (cnn_stop_after(&left, last - first)) return;
        for (int64_t i = first; i < last; i++) to[i] += from[i + shift * step];
    }
}

/* The box sums around every cell of values[D][H][W][block], in `values` or `other`: whichever is returned. */
static REAL *K(box_sums)(const cnn_tensor *x, int64_t block, REAL *values, REAL *other, int64_t before, int64_t after) {
    int64_t step = block;
    const int64_t count = x->shape[2] * x->shape[3] * x->shape[4] * block;
    for (int axis = 4; axis > 1; axis--) {
        const int64_t length = x->shape[axis] * step;
        if (x->shape[axis] > 1) {
            int64_t left = CNN_PIECE;
            for (int64_t first = 0; first < count && !cnn_stop_after(&left, length); first += length)
                K(axis_sums)(other + first, values + first, x->shape[axis], step, before, after);
            REAL *sums = other;
            other = values;
            values = sums;
        }
        step = length;
    }
    return values;
}

/* The offset of a row of cells of a task's channels. */
static inline const REAL *K(norm_row)(const cnn_tensor *t, int64_t n, int64_t c, int64_t row) {
    return (const REAL *)t->data + n * t->stride[0] + c * t->stride[1] + row / t->shape[3] * t->stride[2]
        + row % t->shape[3] * t->stride[3];
}

/* Powers and their sums s = k + alpha s; in pieces, as planes are large. */
static void K(plane_powers)(REAL *p, REAL *s, int64_t count, REAL k, REAL alpha, double beta) {
    int64_t left = 1;
    for (int64_t first = 0; first < count && !cnn_stop_after(&left, CNN_PIECE); first += CNN_PIECE) {
        const int64_t last = count - first < CNN_PIECE ? count : first + CNN_PIECE;
        for (int64_t i = first; i < last; i++) s[i] = k + alpha * s[i];
        K(lrn_powers)(p + first, s + first, last - first, beta);
    }
}

/* Stores the squares of a task's values; returns 0 if one is above `limit`. */
static int K(plane_squares)(const cnn_lrn *call, REAL limit, int64_t n, int64_t c, int64_t block, REAL *squares) {
    const cnn_tensor *x = &call->x;
    int beyond = 0;
    const int64_t run = call->block > 1 ? block : x->shape[4], next = call->block > 1 ? 1 : x->shape[4];
    for (int64_t row = 0; row < x->shape[2] * x->shape[3]; row++)
        for (int64_t w = 0; w < x->shape[4]; w += next, squares += run) {
            const REAL *restrict from = K(norm_row)(x, n, c, row) + w * x->stride[4];
            REAL *restrict to = squares;
            for (int64_t i = 0; i < run; i++) {
                const REAL square = from[i] * from[i];
                to[i] = square;
                beyond |= !(square <= limit);
            }
        }
    return !beyond;
}

/* The image and the first channel of a task; returns how many channels it has. */
static int64_t K(norm_channels)(const cnn_lrn *call, int64_t task, int64_t *n, int64_t *c) {
    *n = task / call->blocks;
    *c = task % call->blocks * call->block;
    return call->x.shape[1] - *c < call->block ? call->x.shape[1] - *c : call->block;
}

static void K(plane_norm_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    cnn_lrn *call = description;
    const cnn_tensor *x = &call->x, *y = &call->y;
    const int64_t cells = x->shape[2] * x->shape[3] * x->shape[4], rows = x->shape[2] * x->shape[3];
    const REAL k = (REAL)call->k, alpha = (REAL)call->alpha;
    const REAL limit = K(lrn_limit)(call, pow((double)(call->before + call->after + 1), 3), 0);
    int64_t left = CNN_PIECE;
    for (int64_t task = begin; task < end; task++) {
        int64_t n, c;
        const int64_t block = K(norm_channels)(call, task, &n, &c), run = call->block > 1 ? block : x->shape[4];
        const int64_t next = call->block > 1 ? 1 : x->shape[4];
        REAL *squares = scratch, *other = squares + cells * block;
        if (!K(plane_squares)(call, limit, n, c, block, squares)) {
            call->reference(call, n * x->shape[1] + c, n * x->shape[1] + c + block, scratch);
            continue;
        }
        REAL *s = K(box_sums)(x, block, squares, other, call->before, call->after);
        REAL *p = s == squares ? other : squares;
        K(plane_powers)(p, s, cells * block, k, alpha, call->beta);
        for (int64_t row = 0; row < rows; row++) {
            if (cnn_stop_after(&left, x->shape[4] * block)) return;
            for (int64_t w = 0; w < x->shape[4]; w += next, p += run) {
                const REAL *restrict from = K(norm_row)(x, n, c, row) + w * x->stride[4], *restrict power = p;
                REAL *restrict to = (REAL *)K(norm_row)(y, n, c, row) + w * y->stride[4];
                for (int64_t i = 0; i < run; i++) to[i] = from[i] * power[i];
            }
        }
    }
}

static void K(plane_norm_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    cnn_lrn *call = description;
    const cnn_tensor *x = &call->x, *dy = &call->dy, *dx = &call->dx;
    const int64_t cells = x->shape[2] * x->shape[3] * x->shape[4], rows = x->shape[2] * x->shape[3];
    const REAL k = (REAL)call->k, alpha = (REAL)call->alpha, factor = (REAL)(2 * call->alpha * call->beta);
    const REAL limit = K(lrn_limit)(call, pow((double)(call->before + call->after + 1), 3), 1);
    int64_t left = CNN_PIECE;
    for (int64_t task = begin; task < end; task++) {
        int64_t n, c;
        const int64_t block = K(norm_channels)(call, task, &n, &c), run = call->block > 1 ? block : x->shape[4];
        const int64_t next = call->block > 1 ? 1 : x->shape[4];
        REAL *squares = scratch, *other = squares + cells * block, *powers = other + cells * block;
        if (!K(plane_squares)(call, limit, n, c, block, squares)) {
            call->reference(call, n * x->shape[1] + c, n * x->shape[1] + c + block, scratch);
            continue;
        }
        REAL *s = K(box_sums)(x, block, squares, other, call->before, call->after);
        REAL *ratios = s == squares ? other : squares, *ratio = ratios;
        K(plane_powers)(powers, s, cells * block, k, alpha, call->beta);
        const REAL *p = powers, *sum = s;
        for (int64_t row = 0; row < rows; row++) {
            if (cnn_stop_after(&left, x->shape[4] * block)) return;
            for (int64_t w = 0; w < x->shape[4]; w += next, ratio += run, p += run, sum += run) {
                const REAL *restrict from = K(norm_row)(x, n, c, row) + w * x->stride[4];
                const REAL *restrict slope = K(norm_row)(dy, n, c, row) + w * dy->stride[4];
                REAL *restrict to = ratio;
                for (int64_t i = 0; i < run; i++) to[i] = slope[i] * (from[i] * (p[i] / sum[i]));
            }
        }
        /* The boxes that contain a cell are mirrored. */
        const REAL *total = K(box_sums)(x, block, ratios, s, call->after, call->before);
        p = powers;
        for (int64_t row = 0; row < rows; row++) {
            if (cnn_stop_after(&left, x->shape[4] * block)) return;
            for (int64_t w = 0; w < x->shape[4]; w += next, total += run, p += run) {
                const REAL *restrict from = K(norm_row)(x, n, c, row) + w * x->stride[4];
                const REAL *restrict slope = K(norm_row)(dy, n, c, row) + w * dy->stride[4];
                REAL *restrict to = (REAL *)K(norm_row)(dx, n, c, row) + w * dx->stride[4];
                for (int64_t i = 0; i < run; i++) to[i] = slope[i] * p[i] - factor * (from[i] * total[i]);
            }
        }
    }
}
