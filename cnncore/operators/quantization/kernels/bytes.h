/* Convolutions of 8-bit numbers: exact sums of products of integers in int32, scaled, rounded and clipped on their way to y.
 *
 *     a[k, o] = bias[k] + Σ_t Σ_c w[k, c, t] x[c, s o + d t − p]             outside the image x is its zero point
 *     y[k, o] = clip(round(factor[k] a[k, o]) + zero)                        halves to even
 *
 * Integers have no rounding errors, so neither the order of a sum nor the width of a vector shows in y: it is the same on every
 * target. What is multiplied are words of 32 bits, two terms of 16 bits or four of 8: one instruction multiplies the terms of a word
 * with those of LANES outputs and adds the products up within each lane. Pairs of 16 bits cannot overflow: 2 · 255 · 128 < 2³¹.
 *
 * A tile's pixels are written as rows of such words into scratch memory, all terms of a window one after the other; panels hold the
 * weights of two vectors of outputs, word after word (Weights in convolution.py). Sums stay in registers from the first term to the last.
 */
#if VECTOR_REGISTERS >= 32
#define ROWS 14 /* 14 × 2 sums, 2 vectors of the panel, 1 word of x and its products */
#else
#define ROWS 6 /* 6 × 2 sums, 2 + 1 + 1 */
#endif

/* ── Words ── */

typedef int16_t K(shorts) __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef uint8_t K(bytes) __attribute__((vector_size(LANES), aligned(1), may_alias));

static inline vmask K(load_words)(const int32_t *p) { return *(const vmask *)p; }

/* LANES bytes as 32-bit numbers and back: one instruction of AVX-512, else twice by a factor of two, since compilers convert
 * one by one where the factor is four. */
typedef uint16_t K(halves) __attribute__((vector_size(2 * LANES), may_alias));
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512BW__) && VECTOR_BYTES == 64
typedef char K(chars) __attribute__((vector_size(LANES)));
typedef int32_t K(ints) __attribute__((vector_size(VECTOR_BYTES)));
ALWAYS_INLINE vmask K(widened)(const uint8_t *p) {
    return (vmask)__builtin_ia32_pmovzxbd512_mask((K(chars))*(const K(bytes) *)p, (K(ints)){0}, (unsigned short)-1);
}
ALWAYS_INLINE K(bytes) K(narrowed)(vmask v) {
    return (K(bytes))__builtin_ia32_pmovdb512_mask((K(ints))v, (K(chars)){0}, (unsigned short)-1);
}
#else
ALWAYS_INLINE vmask K(widened)(const uint8_t *p) {
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX2__) && VECTOR_BYTES == 32
    typedef int64_t pair __attribute__((vector_size(16)));
    typedef char chars __attribute__((vector_size(16)));
    pair eight = {0};
    memcpy(&eight, p, LANES);
    return (vmask)__builtin_ia32_pmovzxbd256((chars)eight);
#else
    return __builtin_convertvector(__builtin_convertvector(*(const K(bytes) *)p, K(halves)), vmask);
#endif
}
ALWAYS_INLINE K(bytes) K(narrowed)(vmask v) { return __builtin_convertvector(__builtin_convertvector(v, K(halves)), K(bytes)); }
#endif

/* sum + the products of two pairs of 16-bit numbers, lane by lane. */
ALWAYS_INLINE vmask K(dot_pairs)(vmask sum, vmask x, vmask w) {
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512BW__) && VECTOR_BYTES == 64
    return sum + (vmask)__builtin_ia32_pmaddwd512_mask((K(shorts))x, (K(shorts))w, (vmask){0}, (unsigned short)-1);
#elif defined(__GNUC__) && !defined(__clang__) && defined(__AVX2__) && VECTOR_BYTES == 32
    return sum + (vmask)__builtin_ia32_pmaddwd256((K(shorts))x, (K(shorts))w);
#elif defined(__GNUC__) && !defined(__clang__) && defined(__SSE2__) && VECTOR_BYTES == 16
    return sum + (vmask)__builtin_ia32_pmaddwd128((K(shorts))x, (K(shorts))w);
#else
    return sum + ((x << 16) >> 16) * ((w << 16) >> 16) + (x >> 16) * (w >> 16);
#endif
}

/* Which processors multiply four pairs of 8 bits, x without sign and w with, and add them to a sum without saturating, in one
 * instruction; BYTE_DOTS is the attribute of functions that use it. An emulated target computes the same one by one. */
#if defined(CNN_EMULATED_AVX512) && VECTOR_BYTES == 64
#define BYTE_DOTS
static int K(has_byte_dots)(void) { return 1; }
#elif defined(CNN_X86) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11 && VECTOR_BYTES == 64
#define BYTE_DOTS __attribute__((target("avx512vnni")))
#define BYTE_DOT __builtin_ia32_vpdpbusd_v16si
static int K(has_byte_dots)(void) { return __builtin_cpu_supports("avx512vnni") != 0; }
#elif defined(CNN_X86) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11 && VECTOR_BYTES == 32
#define BYTE_DOTS __attribute__((target("avxvnni")))
#define BYTE_DOT __builtin_ia32_vpdpbusd_v8si
static int K(has_byte_dots)(void) { return __builtin_cpu_supports("avxvnni") != 0; }
#else
static int K(has_byte_dots)(void) { return 0; }
#endif

/* ── Products of rows of words with a panel ── */

typedef struct {
    const int32_t *a; /* the first row of words; the others are `row` apart */
    int64_t row, words;
    const int32_t *panel;
    int32_t *sums; /* [rows][2 LANES] */
} K(word_product);

/* rows is a constant wherever this is used: the loops over it unroll, and the sums live in registers. */
#define MULTIPLY_WORDS(rows, name, dot, attribute) \
    static __attribute__((noinline)) attribute void K(name##_##rows)(const K(word_product) *p) { \
        vmask sum[rows][2]; \
        const int32_t *a[3], *b = p->panel; \
        const int64_t row = p->row; \
        _Pragma("GCC unroll 3") for (int i = 0; i < (rows + 4) / 5; i++) a[i] = p->a + 5 * i * row; \
        _Pragma("GCC unroll 16") for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = (vmask){0}; \
        for (int64_t left = p->words; left; left--) { \
            const vmask first = K(load_words)(b), second = K(load_words)(b + LANES); \
            _Pragma("GCC unroll 16") for (int i = 0; i < rows; i++) { \
                const vmask x = a[i / 5][i % 5 * row] - (vmask){0}; \
                sum[i][0] = dot(sum[i][0], x, first); \
                sum[i][1] = dot(sum[i][1], x, second); \
            } \
            _Pragma("GCC unroll 3") for (int i = 0; i < (rows + 4) / 5; i++) a[i]++; \
            b += 2 * LANES; \
        } \
        _Pragma("GCC unroll 16") for (int i = 0; i < rows; i++) { \
            *(vmask *)(p->sums + 2 * i * LANES) = sum[i][0]; \
            *(vmask *)(p->sums + (2 * i + 1) * LANES) = sum[i][1]; \
        } \
    }
/* clang-format off */
#define FOR_6_ROWS(each, ...) \
    each(1, __VA_ARGS__) each(2, __VA_ARGS__) each(3, __VA_ARGS__) each(4, __VA_ARGS__) each(5, __VA_ARGS__) each(6, __VA_ARGS__)
#if ROWS == 14
#define FOR_ALL_ROWS(each, ...) \
    FOR_6_ROWS(each, __VA_ARGS__) each(7, __VA_ARGS__) each(8, __VA_ARGS__) each(9, __VA_ARGS__) each(10, __VA_ARGS__) \
    each(11, __VA_ARGS__) each(12, __VA_ARGS__) each(13, __VA_ARGS__) each(14, __VA_ARGS__)
#else
#define FOR_ALL_ROWS FOR_6_ROWS
#endif
/* clang-format on */
FOR_ALL_ROWS(MULTIPLY_WORDS, multiply_pairs, K(dot_pairs), )

#if defined(BYTE_DOTS)
#if defined(BYTE_DOT)
ALWAYS_INLINE BYTE_DOTS vmask K(dot_bytes)(vmask sum, vmask x, vmask w) { return (vmask)BYTE_DOT(sum, x, w); }
#else
ALWAYS_INLINE vmask K(dot_bytes)(vmask sum, vmask x, vmask w) {
    for (int place = 0; place < 32; place += 8) sum += ((x >> place) & 255) * ((w << (24 - place)) >> 24);
    return sum;
}
#endif
FOR_ALL_ROWS(MULTIPLY_WORDS, multiply_bytes, K(dot_bytes), BYTE_DOTS)
#endif

static void K(multiply_words)(const K(word_product) *p, int rows, int64_t terms) {
#define ENTRY(rows, name) K(name##_##rows),
    static void (*const pairs[])(const K(word_product) *) = {FOR_ALL_ROWS(ENTRY, multiply_pairs)};
#if defined(BYTE_DOTS)
    static void (*const bytes[])(const K(word_product) *) = {FOR_ALL_ROWS(ENTRY, multiply_bytes)};
    if (terms == 4) {
        bytes[rows - 1](p);
        return;
    }
#endif
#undef ENTRY
    pairs[rows - 1](p);
}
#undef MULTIPLY_WORDS
#undef FOR_6_ROWS
#undef FOR_ALL_ROWS
#undef BYTE_DOTS
#undef BYTE_DOT

/* ── From sums to y ── */

/* Rounded to an integer, halves to even: beyond 2²³ there are no fractions left, and whoever adds 1.5 · 2²³ rounds them off. */
ALWAYS_INLINE vreal K(rounded)(vreal v) { return (v + 12582912.0f) - 12582912.0f; }

ALWAYS_INLINE vreal K(within)(vreal v, float low, float high) {
    v = K(select)(v < low, K(splat)(low), v);
    return K(select)(v > high, K(splat)(high), v);
}

/* The first `count` of LANES sums, whose biases are added already, as outputs `k` and following at y. */
ALWAYS_INLINE void K(store_outputs)(const cnn_byte_conv *c, vmask sum, int64_t k, char *y, int64_t count) {
    const int64_t step = c->y.stride[1];
    vreal v = __builtin_convertvector(sum, vreal) * K(load)((const float *)c->factor + k);
    if (c->on_grid) v = K(rounded)(K(within)(v, (float)-c->y_zero, (float)(255 - c->y_zero)));
    if (c->y_bytes) {
        const K(bytes) q = K(narrowed)(__builtin_convertvector(v, vmask) + (int32_t)c->y_zero);
        if (step == 1 && count == LANES) *(K(bytes) *)y = q;
        else
            for (int64_t l = 0; l < count; l++) ((uint8_t *)y)[l * step] = q[l];
        return;
    }
    if (c->on_grid) v *= (float)c->y_scale;
    if (step == 1 && count == LANES) K(store)((float *)y, v);
    else
        for (int64_t l = 0; l < count; l++) ((float *)y)[l * step] = v[l];
}

static inline int64_t K(size_of_output)(const cnn_byte_conv *c) { return c->y_bytes ? 1 : (int64_t)sizeof(float); }

/* Where the first output of a position lies. */
static inline char *K(output_at)(const cnn_byte_conv *c, int64_t n, int64_t position) {
    const cnn_tensor *y = &c->y;
    const int64_t w = position % y->shape[4], h = position / y->shape[4] % y->shape[3];
    const int64_t d = position / (y->shape[4] * y->shape[3]);
    const int64_t at = n * y->stride[0] + d * y->stride[2] + h * y->stride[3] + w * y->stride[4];
    return (char *)y->data + at * K(size_of_output)(c);
}

/* ── From x to rows of words ── */

/* Terms on their way into a row: 16 or 8 bits each. */
typedef int16_t K(term) __attribute__((may_alias)); /* in memory that is read as words */
typedef struct {
    K(term) *shorts; /* NULL: bytes */
    uint8_t *bytes;
} K(row_of_terms);

ALWAYS_INLINE void K(put_terms)(K(row_of_terms) *row, const uint8_t *x, int64_t count) {
    if (row->shorts) {
        for (int64_t i = 0; i < count; i++) row->shorts[i] = x[i];
        row->shorts += count;
    } else {
        memcpy(row->bytes, x, (size_t)count);
        row->bytes += count;
    }
}

ALWAYS_INLINE void K(put_zeros)(K(row_of_terms) *row, uint8_t zero, int64_t count) {
    if (row->shorts) {
        for (int64_t i = 0; i < count; i++) row->shorts[i] = zero;
        row->shorts += count;
    } else {
        memset(row->bytes, zero, (size_t)count);
        row->bytes += count;
    }
}

/* The taps of one row of a window, along W, whose first lies at column `w` of the image. */
ALWAYS_INLINE void K(put_row_of_taps)(const cnn_byte_conv *c, K(row_of_terms) *row, const uint8_t *x, int64_t w) {
    const int64_t taps = c->taps[2], step = c->dilation[2], pixel = c->x.stride[4], width = c->x.shape[4];
    if (step == 1 && pixel == c->inputs) { /* the pixels that lie in the image are contiguous */
        const int64_t before = w < 0 ? (-w < taps ? -w : taps) : 0;
        const int64_t end = width - w < taps ? (width - w > before ? width - w : before) : taps;
        K(put_zeros)(row, (uint8_t)c->zero, before * pixel);
        K(put_terms)(row, x + (w + before) * pixel, (end - before) * pixel);
        K(put_zeros)(row, (uint8_t)c->zero, (taps - end) * pixel);
        return;
    }
    for (int64_t t = 0; t < taps; t++) {
        const int64_t at = w + t * step;
        if (at >= 0 && at < width) K(put_terms)(row, x + at * pixel, c->inputs);
        else K(put_zeros)(row, (uint8_t)c->zero, c->inputs);
    }
}

/* All terms of the window at `position` of y, in a row that ends with zeros, for which the panel has weights of 0. */
static void K(put_window)(const cnn_byte_conv *c, int64_t n, int64_t group, int64_t position, int32_t *words) {
    const cnn_tensor *x = &c->x, *y = &c->y;
    const int64_t first[3] = {
        position / (y->shape[4] * y->shape[3]) * c->stride[0] - c->low[0],
        position / y->shape[4] % y->shape[3] * c->stride[1] - c->low[1],
        position % y->shape[4] * c->stride[2] - c->low[2],
    };
    const uint8_t *image = (const uint8_t *)x->data + n * x->stride[0] + group * c->inputs;
    K(row_of_terms) row = {c->word_terms == 2 ? (K(term) *)words : NULL, (uint8_t *)words};
    words[c->words - 1] = 0;
    for (int64_t i = 0; i < c->taps[0]; i++)
        for (int64_t j = 0; j < c->taps[1]; j++) {
            const int64_t d = first[0] + i * c->dilation[0], h = first[1] + j * c->dilation[1];
            if (d >= 0 && d < x->shape[2] && h >= 0 && h < x->shape[3])
                K(put_row_of_taps)(c, &row, image + d * x->stride[2] + h * x->stride[3], first[2]);
            else K(put_zeros)(&row, (uint8_t)c->zero, c->taps[2] * c->inputs);
        }
}

/* ── Tasks ── */

enum { PIECE = 1 << 16 }; /* values between two questions whether to stop, as in kernels/stop.h */

/* Counts `values` more, from `left` = PIECE down. True: return at once, the call is being stopped. */
static inline int K(stop_after)(int (*stop)(void), int64_t *left, int64_t values) {
    if ((*left -= values) > 0) return 0;
    *left = PIECE;
    return stop();
}

/* A unit of outputs, at the positions of a block whose windows lie in the rows at `a`; the outputs of row i lie at y[i]. */
static void K(multiply_unit)(
    const cnn_byte_conv *c, const int32_t *a, char *const *y, int64_t rows, int64_t group, int64_t unit
) {
    const int64_t units = (c->outputs + 2 * LANES - 1) / (2 * LANES), wanted = c->outputs - unit * 2 * LANES;
    const int64_t k = group * c->outputs + unit * 2 * LANES, bytes = c->y.stride[1] * K(size_of_output)(c);
    const int64_t parts = (rows + ROWS - 1) / ROWS;
    const vmask bias[2] = {K(load_words)(c->bias + k), K(load_words)(c->bias + k + LANES)};
    int32_t sums[ROWS * 2 * LANES];
    K(word_product) p = {.row = c->row, .words = c->words, .sums = sums};
    p.panel = (const int32_t *)c->panels + (group * units + unit) * c->words * 2 * LANES;
    for (int64_t part = 0; part < parts; part++) {
        const int64_t first = rows * part / parts, count = rows * (part + 1) / parts - first;
        p.a = a + first * c->row;
        K(multiply_words)(&p, (int)count, c->word_terms);
        for (int64_t i = 0; i < count; i++)
            for (int64_t v = 0; v < 2 && wanted > v * LANES; v++) {
                const vmask sum = K(load_words)(sums + (2 * i + v) * LANES) + bias[v];
                const int64_t outputs = wanted - v * LANES < LANES ? wanted - v * LANES : LANES;
                K(store_outputs)(c, sum, k + v * LANES, y[first + i] + (k + v * LANES) * bytes, outputs);
            }
    }
}

/* A task is a block of positions of one image and group × a range of units. Scratch: the windows of a block, then where y is. */
static void K(quantized_conv)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_byte_conv *c = call;
    const int64_t units = (c->outputs + 2 * LANES - 1) / (2 * LANES), positions = c->positions;
    int32_t *windows = scratch;
    char **y = (char **)(windows + (positions + c->blocks - 1) / c->blocks * c->row);
    int64_t left = PIECE;
    for (int64_t task = begin; task < end; task++) {
        const int64_t range = task % c->ranges, group = task / c->ranges % c->groups;
        const int64_t block = task / (c->ranges * c->groups) % c->blocks, n = task / (c->ranges * c->groups * c->blocks);
        const int64_t start = positions * block / c->blocks, rows = positions * (block + 1) / c->blocks - start;
        for (int64_t i = 0; i < rows; i++) {
            K(put_window)(c, n, group, start + i, windows + i * c->row);
            y[i] = K(output_at)(c, n, start + i);
        }
        for (int64_t unit = units * range / c->ranges; unit < units * (range + 1) / c->ranges; unit++) {
            K(multiply_unit)(c, windows, y, rows, group, unit);
            if (K(stop_after)(c->stop, &left, rows * c->words)) return;
        }
    }
}

/* Whole vectors of channels from k on, of a position whose taps lie at `tap`. A byte in a lane of 32 bits is a pair of 16 whose
 * second number is 0. */
ALWAYS_INLINE void K(depthwise_vectors)(
    const cnn_byte_conv *c, const uint8_t *const *tap, int64_t taps, int64_t k, char *y, int vectors
) {
    const int32_t *w = (const int32_t *)c->panels + k;
    vmask sum[4];
    _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) sum[v] = K(load_words)(c->bias + k + v * LANES);
    for (int64_t t = 0; t < taps; t++, w += c->groups)
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)
            sum[v] = K(dot_pairs)(sum[v], K(widened)(tap[t] + k + v * LANES), K(load_words)(w + v * LANES));
    _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) {
        const int64_t first = k + v * LANES;
        K(store_outputs)(c, sum[v], first, y + first * c->y.stride[1] * K(size_of_output)(c), LANES);
    }
}

/* The last channels, fewer than a vector has. */
static void K(depthwise_tail)(const cnn_byte_conv *c, const uint8_t *const *tap, int64_t taps, int64_t k, char *y) {
    const int32_t *w = (const int32_t *)c->panels + k;
    const int64_t count = c->groups - k;
    vmask sum = K(load_words)(c->bias + k);
    for (int64_t t = 0; t < taps; t++, w += c->groups)
        for (int64_t l = 0; l < count; l++) sum[l] += tap[t][k + l] * w[l];
    K(store_outputs)(c, sum, k, y + k * c->y.stride[1] * K(size_of_output)(c), count);
}

/* One kernel for each channel: a task is a row of positions along W, vectors are LANES channels. Taps outside the image read a row of
 * zero points, `scratch`. panels: [taps][groups], int32. */
static void K(quantized_depthwise)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_byte_conv *c = call;
    const cnn_tensor *x = &c->x, *y = &c->y;
    const int64_t taps = c->taps[0] * c->taps[1] * c->taps[2], channels = c->groups;
    const uint8_t *outside = scratch, **tap = (const uint8_t **)((char *)scratch + (channels + 63) / 64 * 64);
    int64_t left = PIECE;
    memset(scratch, (int)c->zero, (size_t)channels);
    int64_t column = y->shape[4], row = begin - 1, n = 0, d0 = 0, h0 = 0;
    char *y_row = NULL;
    for (int64_t position = begin * y->shape[4]; position < end * y->shape[4]; position++, column++) {
        if (column == y->shape[4]) { /* the next row: divisions are slow */
            column = 0, row++;
            n = row / (y->shape[2] * y->shape[3]);
            d0 = row / y->shape[3] % y->shape[2] * c->stride[0] - c->low[0];
            h0 = row % y->shape[3] * c->stride[1] - c->low[1];
            y_row = K(output_at)(c, n, position % c->positions);
        }
        const int64_t w0 = column * c->stride[2] - c->low[2];
        const uint8_t *image = (const uint8_t *)x->data + n * x->stride[0], **next = tap;
        for (int64_t i = 0; i < c->taps[0]; i++)
            for (int64_t j = 0; j < c->taps[1]; j++)
                for (int64_t k = 0; k < c->taps[2]; k++) {
                    const int64_t d = d0 + i * c->dilation[0], h = h0 + j * c->dilation[1], w = w0 + k * c->dilation[2];
                    const int inside = d >= 0 && d < x->shape[2] && h >= 0 && h < x->shape[3] && w >= 0 && w < x->shape[4];
                    *next++ = inside ? image + d * x->stride[2] + h * x->stride[3] + w * x->stride[4] : outside;
                }
        char *y_at = y_row + column * y->stride[4] * K(size_of_output)(c);
        int64_t k = 0;
        for (; channels - k >= 4 * LANES; k += 4 * LANES) K(depthwise_vectors)(c, tap, taps, k, y_at, 4);
        for (; channels - k >= LANES; k += LANES) K(depthwise_vectors)(c, tap, taps, k, y_at, 1);
        if (k < channels) K(depthwise_tail)(c, tap, taps, k, y_at);
        if (K(stop_after)(c->stop, &left, taps * channels)) return;
    }
}

/* Real numbers to bytes; a task is a row along W. NaN counts as 0. */
static void K(quantize_bytes)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_byte_values *c = call;
    const cnn_tensor *x = &c->x, *y = &c->y;
    const float scale = (float)c->scale, low = (float)-c->zero, high = (float)(255 - c->zero);
    const int dense = x->stride[1] == 1 && y->stride[1] == 1 && x->stride[4] == x->shape[1] && y->stride[4] == x->shape[1];
    const int64_t runs = dense ? 1 : x->shape[4], length = dense ? x->shape[4] * x->shape[1] : x->shape[1];
    int64_t left = PIECE;
    for (int64_t task = begin; task < end; task++) {
        const int64_t h = task % x->shape[3], d = task / x->shape[3] % x->shape[2], n = task / (x->shape[3] * x->shape[2]);
        for (int64_t run = 0; run < runs; run++) {
            const float *from = (const float *)x->data + n * x->stride[0] + d * x->stride[2] + h * x->stride[3]
                + run * x->stride[4];
            uint8_t *to = (uint8_t *)y->data + n * y->stride[0] + d * y->stride[2] + h * y->stride[3] + run * y->stride[4];
            for (int64_t i = 0; i < length; i += LANES) {
                const int64_t count = length - i < LANES ? length - i : LANES;
                vreal v = {0};
                if (x->stride[1] == 1 && count == LANES) v = K(load)(from + i);
                else
                    for (int64_t l = 0; l < count; l++) v[l] = from[(i + l) * x->stride[1]];
                v /= scale;
                v = K(rounded)(K(within)(K(select)(v == v, v, (vreal){0}), low, high));
                const K(bytes) q = K(narrowed)(__builtin_convertvector(v, vmask) + (int32_t)c->zero);
                if (y->stride[1] == 1 && count == LANES) *(K(bytes) *)(to + i) = q;
                else
                    for (int64_t l = 0; l < count; l++) to[(i + l) * y->stride[1]] = q[l];
            }
        }
        if (K(stop_after)(c->stop, &left, runs * length)) return;
    }
}
