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
#define ROWS 14             /* 14 × 2 sums, 2 vectors of the panel, 1 value of A */
#else
#define ROWS 6              /* 6 × 2 sums, 2 + 1 */
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
    REAL *y;
    int64_t y_row;          /* from row to row of y; columns lie side by side */
    int64_t columns;        /* how many columns of the panel y has */
    const REAL *bias;       /* added to every row, as long as the panel is wide; NULL: none */
    const REAL *row_bias;   /* added to every column; NULL: none */
    int64_t row_bias_step;
    const REAL *ahead;      /* fetched during the sum, for a panel or a later product; NULL: nothing */
    int64_t ahead_step;
    int accumulate;         /* add to what y holds */
    int fetch_y;            /* y is not in the cache: fetch it during the sum, which else would wait for it at its end */
    int clamp;              /* y is held between these two: */
    REAL lower, upper;
} K(product);

/* Whether the epilogue of a correlation holds y between bounds. */
static inline int K(clamps)(const cnn_correlation *p) {
    return p->lower > -__builtin_inf() || p->upper < __builtin_inf();
}

/* NaN stays. */
static inline vreal K(clamped)(vreal y, REAL lower, REAL upper) {
    const vreal low = K(splat)(lower), high = K(splat)(upper);
    y = K(select)(y <= low, low, y);
    return K(select)(y >= high, high, y);
}

static inline vreal K(finish)(const K(product) *p, vreal sum, int64_t i, int64_t column) {
    if (p->bias) sum += K(load)(p->bias + column);
    if (p->row_bias) sum += p->row_bias[i * p->row_bias_step];
    return p->clamp ? K(clamped)(sum, p->lower, p->upper) : sum;
}

/* rows and vectors are constants wherever this is used: the loops over them unroll and `sum` lives in registers. `total`, for the
 * stretches that are complete, is memory of the caller, so that it does not. */
static inline __attribute__((always_inline)) void K(multiply_rows)(
    const K(product) *p, REAL *total, const int rows, const int vectors
) {
    vreal sum[ROWS][2];
    const REAL *b = p->panel;
    const int64_t row = p->row, step = p->step;
    const REAL *ahead = p->ahead ? p->ahead : b;    /* or, again and again, what is there already */
    const int64_t ahead_step = p->ahead ? p->ahead_step : 0;
    int64_t left = CHAIN;   /* of the stretch */
    int stretches = 0;
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[i][v] = (vreal){0};
    if (p->fetch_y)
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++) __builtin_prefetch(p->y + i * p->y_row + v * LANES, 1);
    for (int64_t run = 0; run < p->runs; run++) {
        /* Every fifth row has a pointer of its own, and the four behind it are multiples of one step away: that fits in
         * the registers, fourteen addresses do not. */
        const REAL *a[3];
#pragma GCC unroll 3
        for (int i = 0; i < (rows + 4) / 5; i++) a[i] = p->a + p->offset[run] + 5 * i * row;
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
#pragma GCC unroll 16
                for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
                    for (int v = 0; v < vectors; v++) {
                        REAL *t = total + (i * vectors + v) * LANES;
                        if (stretches) sum[i][v] += K(load)(t);
                        K(store)(t, sum[i][v]);
                        sum[i][v] = (vreal){0};
                    }
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
    if (p->columns == vectors * LANES) {
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) {
                REAL *y = p->y + i * p->y_row + v * LANES;
                if (p->accumulate) sum[i][v] += K(load)(y);
                K(store)(y, K(finish)(p, sum[i][v], i, v * LANES));
            }
    } else {
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++) {
                const int64_t lanes = p->columns - v * LANES;
                REAL *y = p->y + i * p->y_row + v * LANES;
                if (lanes <= 0) break;
                if (lanes >= LANES) {
                    if (p->accumulate) sum[i][v] += K(load)(y);
                    K(store)(y, K(finish)(p, sum[i][v], i, v * LANES));
                } else {
                    if (p->accumulate) sum[i][v] += K(load_tail)(y, lanes);
                    K(store_tail)(y, K(finish)(p, sum[i][v], i, v * LANES), lanes);
                }
            }
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
#define FOR_6_ROWS(do, vectors) do(1, vectors) do(2, vectors) do(3, vectors) do(4, vectors) do(5, vectors) do(6, vectors)
#if ROWS == 14
#define FOR_ALL_ROWS(do, vectors) FOR_6_ROWS(do, vectors) do(7, vectors) do(8, vectors) do(9, vectors) do(10, vectors) \
    do(11, vectors) do(12, vectors) do(13, vectors) do(14, vectors)
#else
#define FOR_ALL_ROWS FOR_6_ROWS
#endif
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

/* The first row of block `block` when `count` rows are cut into blocks of at most ROWS that differ by one row at most:
 * fifteen rows are eight and seven, not fourteen and one. */
static inline int64_t K(row_blocks)(int64_t count) { return (count + ROWS - 1) / ROWS; }
static inline int64_t K(block_start)(int64_t block, int64_t blocks, int64_t count) { return block * count / blocks; }
