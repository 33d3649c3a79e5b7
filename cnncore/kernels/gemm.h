/* The one multiplication of all convolutions: a tile of ROWS × 2 vectors of y, held in registers while the sum runs.
 *
 *     y[i, j] = Σ_r Σ_s  a[offset[r] + i row + s step] · panel[r length + s, j]
 *
 * A is never copied into another order: its rows lie `row` apart and the sum walks runs of `length` values, `step` apart, that
 * begin at the offsets. A run is the channels under one tap of a kernel (or under a row of taps), so one table of offsets
 * serves every kernel size, stride and dilation without im2col. The panel holds two vectors (or one) per term, packed, padded
 * with zeros. Each y[i, j] is one chain of multiply-adds in the order of r and s: whichever tile it falls into, the result
 * is the same.
 */
#if VECTOR_REGISTERS >= 32
#define ROWS 14             /* 14 × 2 sums, 2 vectors of the panel, 1 value of A */
#else
#define ROWS 6              /* 6 × 2 sums, 2 + 1 */
#endif

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
    int accumulate;         /* add to what y holds */
    int relu;               /* y = max(0, y) */
} K(product);

static inline vreal K(finish)(const K(product) *p, vreal sum, int64_t i, int64_t column) {
    if (p->bias) sum += K(load)(p->bias + column);
    if (p->row_bias) sum += p->row_bias[i * p->row_bias_step];
    if (p->relu) sum = K(select)(sum <= 0, (vreal){0}, sum);
    return sum;
}

/* rows and vectors are constants wherever this is used: the loops over them unroll and `sum` lives in registers. */
static inline __attribute__((always_inline)) void K(multiply_rows)(const K(product) *p, const int rows, const int vectors) {
    vreal sum[ROWS][2];
    const REAL *b = p->panel;
    const int64_t row = p->row, step = p->step, length = p->length;
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[i][v] = (vreal){0};
    for (int64_t run = 0; run < p->runs; run++) {
        const REAL *a = p->a + p->offset[run];
        for (int64_t s = 0; s < length; s++) {
            vreal column[2];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) column[v] = K(load)(b + v * LANES);
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++) {
                const REAL value = a[i * row];
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) sum[i][v] += value * column[v];
            }
            a += step;
            b += vectors * LANES;
        }
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

static void K(multiply)(const K(product) *p, int rows, int vectors) {
#define ROWS_OF_PANEL(n, vectors) case n: K(multiply_rows)(p, n, vectors); break;
#define UP_TO_6(vectors) ROWS_OF_PANEL(1, vectors) ROWS_OF_PANEL(2, vectors) ROWS_OF_PANEL(3, vectors) \
    ROWS_OF_PANEL(4, vectors) ROWS_OF_PANEL(5, vectors) ROWS_OF_PANEL(6, vectors)
#if ROWS == 14
#define UP_TO_ROWS(vectors) UP_TO_6(vectors) ROWS_OF_PANEL(7, vectors) ROWS_OF_PANEL(8, vectors) \
    ROWS_OF_PANEL(9, vectors) ROWS_OF_PANEL(10, vectors) ROWS_OF_PANEL(11, vectors) ROWS_OF_PANEL(12, vectors) \
    ROWS_OF_PANEL(13, vectors) ROWS_OF_PANEL(14, vectors)
#else
#define UP_TO_ROWS UP_TO_6
#endif
    if (vectors == 2)
        switch (rows) { UP_TO_ROWS(2) }
    else
        switch (rows) { UP_TO_ROWS(1) }
#undef ROWS_OF_PANEL
#undef UP_TO_6
#undef UP_TO_ROWS
}

/* The first row of block `block` when `count` rows are cut into blocks of at most ROWS that differ by one row at most:
 * fifteen rows are eight and seven, not fourteen and one. */
static inline int64_t K(row_blocks)(int64_t count) { return (count + ROWS - 1) / ROWS; }
static inline int64_t K(block_start)(int64_t block, int64_t blocks, int64_t count) { return block * count / blocks; }
