/* The one multiplication of all convolutions: a tile of ROWS × 2 vectors of y, held in registers while the sum runs.
 *
 *     y[i, j] = Σ_r Σ_s  a[offset[r] + i row + s step] · panel[r length + s, j]
 *
 * A is never copied into another order: its rows lie `row` apart and the sum walks runs of `length` values, `step` apart, that
 * begin at the offsets. A run is the channels under one tap of a kernel (or under a row of taps), so one table of offsets
 * serves every kernel size, stride and dilation without im2col. The panel holds two vectors (or one) per term, packed, padded
 * with zeros. Each y[i, j] is summed in stretches of CHAIN terms, in the order of r and s, and the stretches are added up in
 * order: rounding errors grow with the length of a chain, and whichever tile y[i, j] falls into, the result is the same.
 */
#if VECTOR_REGISTERS >= 32
#define ROWS 14 /* 14 × 2 sums, 2 vectors of the panel, 1 value of A */
#else
#define ROWS 6 /* 6 × 2 sums, 2 + 1 */
#endif

#define CHAIN 160

/* How many terms ahead a panel is fetched. The hardware does so too, but not beyond the end of a memory page, of which a panel
 * is two or three. */
#define FETCH_TERMS 64

typedef struct {
    const REAL *a;
    int64_t row, step;
    const int64_t *offset;
    int64_t runs, length;
    const REAL *panel;
    const int64_t *panel_offset; /* where in it each run begins; NULL: one after the other */
    REAL *y;
    int64_t y_row;        /* from row to row of y; columns lie side by side */
    int64_t columns;      /* how many columns of the panel y has */
    const REAL *bias;     /* added to every row, as long as the panel is wide; NULL: none */
    const REAL *row_bias; /* added to every column; NULL: none */
    int64_t row_bias_step;
    const REAL *ahead; /* fetched during the sum, for a panel or a later product; NULL: nothing */
    int64_t ahead_step;
    int accumulate; /* add to what y holds */
    int fetch_y;    /* y is not in the cache: fetch it during the sum, which else would wait for it at its end */
    int clamp;      /* y is held between these two: */
    REAL lower, upper;
} K(product);

/* Whether the epilogue of a correlation holds y between bounds. */
static inline int K(clamps)(const cnn_correlation *p) { return p->lower > -__builtin_inf() || p->upper < __builtin_inf(); }

/* NaN stays. */
static inline vreal K(clamped)(vreal y, REAL lower, REAL upper) {
    const vreal low = K(splat)(lower), high = K(splat)(upper);
    y = K(select)(y <= low, low, y);
    return K(select)(y >= high, high, y);
}

/* A stretch is complete: into `total`, and back to zero. */
ALWAYS_INLINE void K(end_stretch)(vreal (*sum)[2], REAL *total, const int stretches, const int rows, const int vectors) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            REAL *t = total + (i * vectors + v) * LANES;
            if (stretches) sum[i][v] += K(load)(t);
            K(store)(t, sum[i][v]);
            sum[i][v] = (vreal){0};
        }
}

/* rows and vectors are constants wherever these are used: the loops over them unroll and `sum` lives in registers. */

/* Each column of `sum` over one stretch after the other, in the order of the runs. `total`, for the stretches that are complete, is
 * memory of the caller, so that it takes no registers. */
ALWAYS_INLINE void K(sum_terms)(const K(product) *p, vreal (*sum)[2], REAL *total, const int rows, const int vectors) {
    const REAL *b = p->panel;
    const int64_t row = p->row, step = p->step;
    const REAL *ahead = p->ahead ? p->ahead : b; /* or, again and again, what is there already */
    const int64_t ahead_step = p->ahead ? p->ahead_step : 0;
    int64_t left = CHAIN; /* of the stretch */
    int stretches = 0;
    for (int64_t run = 0; run < p->runs; run++) {
        /* Every fifth row has a pointer of its own, and the four behind it are multiples of one step away: that fits in
         * the registers, fourteen addresses do not. */
        const REAL *a[3];
#pragma GCC unroll 3
        for (int i = 0; i < (rows + 4) / 5; i++) a[i] = p->a + p->offset[run] + 5 * i * row;
        if (p->panel_offset) {
            b = p->panel + p->panel_offset[run];
            ahead = p->ahead ? b + FETCH_TERMS * ahead_step : b;
        }
        int64_t length = p->length;
        while (length) {
            const int64_t count = length < left ? length : left;
            for (int64_t s = 0; s < count; s++) {
                vreal column[2];
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) {
                    column[v] = K(load)(b + v * LANES);
                    __builtin_prefetch(ahead + v * LANES);
                }
                ahead += ahead_step;
#pragma GCC unroll 16
                for (int i = 0; i < rows; i++) {
                    const REAL value = a[i / 5][i % 5 * row];
#pragma GCC unroll 2
                    for (int v = 0; v < vectors; v++) sum[i][v] += value * column[v];
                }
#pragma GCC unroll 3
                for (int i = 0; i < (rows + 4) / 5; i++) a[i] += step;
                b += vectors * LANES;
            }
            length -= count;
            left -= count;
            if (left == 0) {
                K(end_stretch)(sum, total, stretches, rows, vectors);
                stretches = 1;
                left = CHAIN;
            }
        }
    }
    if (stretches) {
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[i][v] += K(load)(total + (i * vectors + v) * LANES);
    }
}

/* What is done to sums on their way to y, decided once for all of them: where it was decided for each, or where one of these loops
 * kept its counter, the compiler sent the sums to memory and back at every tile. */
ALWAYS_INLINE void K(finish_sums)(const K(product) *p, vreal (*sum)[2], const int rows, const int vectors) {
    if (p->bias) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            const vreal bias = K(load)(p->bias + v * LANES);
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++) sum[i][v] += bias;
        }
    }
    if (p->row_bias) {
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[i][v] += p->row_bias[i * p->row_bias_step];
    }
    if (p->clamp) {
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[i][v] = K(clamped)(sum[i][v], p->lower, p->upper);
    }
}

ALWAYS_INLINE void K(multiply_rows)(const K(product) *p, REAL *total, const int rows, const int vectors) {
    vreal sum[ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[i][v] = (vreal){0};
    if (p->fetch_y)
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++) __builtin_prefetch(p->y + i * p->y_row + v * LANES, 1);
    K(sum_terms)(p, sum, total, rows, vectors);
    const int64_t last = p->columns - (vectors - 1) * LANES; /* columns under the last vector */
    if (p->accumulate) {
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) {
                const REAL *y = p->y + i * p->y_row + v * LANES;
                sum[i][v] += v < vectors - 1 || last == LANES ? K(load)(y) : K(load_tail)(y, last);
            }
    }
    K(finish_sums)(p, sum, rows, vectors);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            REAL *y = p->y + i * p->y_row + v * LANES;
            if (v < vectors - 1 || last == LANES) K(store)(y, sum[i][v]);
            else K(store_tail)(y, sum[i][v], last);
        }
}

/* The panel is read for the first time: fetch it ahead of the sum. */
static inline void K(fetch_panel)(K(product) *p, int first, int64_t width) {
    p->ahead = first ? p->panel + FETCH_TERMS * width : NULL;
    p->ahead_step = width;
}

/* Each size is a function of its own: within one large function the compiler runs out of registers here and there. */
#define MULTIPLY(rows, vectors) \
    static __attribute__((noinline)) void K(multiply_##rows##_##vectors)(const K(product) *p, REAL *total) { \
        K(multiply_rows)(p, total, rows, vectors); \
    }
/* clang-format off */
#define FOR_6_ROWS(each, vectors) \
    each(1, vectors) each(2, vectors) each(3, vectors) each(4, vectors) each(5, vectors) each(6, vectors)
#if ROWS == 14
#define FOR_ALL_ROWS(each, vectors) \
    FOR_6_ROWS(each, vectors) each(7, vectors) each(8, vectors) each(9, vectors) each(10, vectors) \
    each(11, vectors) each(12, vectors) each(13, vectors) each(14, vectors)
#else
#define FOR_ALL_ROWS FOR_6_ROWS
#endif
/* clang-format on */
FOR_ALL_ROWS(MULTIPLY, 1)
FOR_ALL_ROWS(MULTIPLY, 2)

static inline void K(multiply)(const K(product) *p, int rows, int vectors) {
#define ENTRY(rows, vectors) K(multiply_##rows##_##vectors),
    static void (*const sizes[2][ROWS])(const K(product) *, REAL *) = {{FOR_ALL_ROWS(ENTRY, 1)}, {FOR_ALL_ROWS(ENTRY, 2)}};
#undef ENTRY
    REAL total[ROWS * 2 * LANES];
    sizes[vectors - 1][rows - 1](p, total);
}
#undef MULTIPLY
#undef FOR_6_ROWS
#undef FOR_ALL_ROWS

/* Rows of A that lie a multiple of 4096 bytes apart fall into one set of the first-level cache, which holds eight of its lines. */
static inline int64_t K(most_rows)(int64_t row) { return ROWS > 8 && row * (int64_t)sizeof(REAL) % 4096 == 0 ? 8 : ROWS; }

/* The first row of block `block` when `count` rows, `row` apart, are cut into blocks that differ by one row at most: fifteen rows are
 * eight and seven, not fourteen and one. */
static inline int64_t K(row_blocks)(int64_t count, int64_t row) { return (count + K(most_rows)(row) - 1) / K(most_rows)(row); }
static inline int64_t K(block_start)(int64_t block, int64_t blocks, int64_t count) { return block * count / blocks; }
