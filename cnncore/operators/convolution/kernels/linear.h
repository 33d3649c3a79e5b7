/* Linear layers of few rows: the weights, which are most of the data, are read once and in place. The reference
 * implementations, with their formulas, are those of convolution in reference.pyx; for many rows the convolution kernels are
 * used. */

/* Element l of the result: the sum of the lanes of v[l]. */
ALWAYS_INLINE vreal K(sums_of_lanes)(vreal *v) {
#pragma GCC unroll 4
    for (int m = 1; m < LANES; m *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i += 2 * m) {
            K(exchange)(&v[i], &v[i + m], m);
            v[i] += v[i + m];
        }
    return v[0];
}

/* LANES outputs from as many rows of w; only the first `rows` exist. */
ALWAYS_INLINE vreal K(products)(const REAL *x, const REAL *w, int64_t w_row, int64_t rows, int64_t features) {
    vreal sum[LANES];
#pragma GCC unroll 16
    for (int o = 0; o < LANES; o++) sum[o] = (vreal){0};
    int64_t i = 0;
    for (; i + LANES <= features; i += LANES) {
        const vreal v = K(load)(x + i);
#pragma GCC unroll 16
        for (int o = 0; o < LANES; o++) sum[o] += v * K(load)(w + (o < rows ? o : 0) * w_row + i);
    }
    if (i < features) {
        const vreal v = K(load_tail)(x + i, features - i);
#pragma GCC unroll 16
        for (int o = 0; o < LANES; o++) sum[o] += v * K(load_tail)(w + (o < rows ? o : 0) * w_row + i, features - i);
    }
    return K(sums_of_lanes)(sum);
}

/* Tasks are LANES outputs each. */
static void K(linear_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_linear *call = description;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t first = task * LANES, rows = call->outputs - first < LANES ? call->outputs - first : LANES;
        const REAL *w = (const REAL *)call->w + first * call->w_row;
        for (int64_t n = 0; n < call->rows; n++) {
            const REAL *x = (const REAL *)call->x + n * call->x_row;
            REAL *y = (REAL *)call->y + n * call->y_row + first, sums[LANES];
            K(store)(
                sums,
                rows == LANES ? K(products)(x, w, call->w_row, LANES, call->features)
                              : K(products)(x, w, call->w_row, rows, call->features)
            );
            for (int64_t o = 0; o < rows; o++) {
                REAL sum = sums[o];
                if (call->b != NULL) sum += ((const REAL *)call->b)[(first + o) * call->b_step];
                y[o] = sum <= call->lower ? (REAL)call->lower : sum >= call->upper ? (REAL)call->upper : sum;
            }
        }
    }
}

/* sum += g w for `count` features. */
static inline void K(add_scaled_row)(vreal *sum, REAL g, const REAL *w, int64_t count) {
    const vreal factor = K(splat)(g);
    if (count == CNN_LINEAR_VECTORS * LANES) {
#pragma GCC unroll 8
        for (int v = 0; v < CNN_LINEAR_VECTORS; v++) sum[v] += factor * K(load)(w + v * LANES);
        return;
    }
    for (int64_t v = 0; v * LANES < count; v++)
        sum[v] += factor
            * (count - v * LANES < LANES ? K(load_tail)(w + v * LANES, count - v * LANES) : K(load)(w + v * LANES));
}

/* Tasks are CNN_LINEAR_VECTORS * LANES features each: dx = sum of dy w over the outputs, in sums of CNN_LINEAR_TERMS. */
static void K(linear_backward_input)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_linear *call = description;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t from = task * CNN_LINEAR_VECTORS * LANES, rest = call->features - from;
        const int64_t count = rest < CNN_LINEAR_VECTORS * LANES ? rest : CNN_LINEAR_VECTORS * LANES;
        for (int64_t n = 0; n < call->rows; n++) {
            const REAL *dy = (const REAL *)call->y + n * call->y_row;
            REAL *dx = (REAL *)call->x + n * call->x_row + from, totals[CNN_LINEAR_VECTORS * LANES];
            vreal total[CNN_LINEAR_VECTORS] = {{0}};
            for (int64_t first = 0; first < call->outputs; first += CNN_LINEAR_TERMS) {
                const int64_t last = first + CNN_LINEAR_TERMS < call->outputs ? first + CNN_LINEAR_TERMS : call->outputs;
                vreal sum[CNN_LINEAR_VECTORS] = {{0}};
                for (int64_t k = first; k < last; k++)
                    K(add_scaled_row)(sum, dy[k], (const REAL *)call->w + k * call->w_row + from, count);
#pragma GCC unroll 8
                for (int v = 0; v < CNN_LINEAR_VECTORS; v++) total[v] += sum[v];
            }
            for (int v = 0; v < CNN_LINEAR_VECTORS; v++) K(store)(totals + v * LANES, total[v]);
            K(copy_run)(dx, totals, count);
        }
    }
}

/* Tasks are CNN_LINEAR_ROWS rows of dw = sum of dy x over the rows of x. */
static void K(linear_backward_weight)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_linear *call = description;
    const int64_t features = call->features;
    (void)scratch;
    const int64_t stop = end * CNN_LINEAR_ROWS < call->outputs ? end * CNN_LINEAR_ROWS : call->outputs;
    for (int64_t k = begin * CNN_LINEAR_ROWS; k < stop; k++) {
        const REAL *dy = (const REAL *)call->y + k;
        REAL *dw = (REAL *)call->w + k * call->w_row;
        for (int64_t i = 0; i < features; i += LANES) {
            const int64_t lanes = features - i < LANES ? features - i : LANES;
            vreal sum = {0};
            for (int64_t n = 0; n < call->rows; n++) {
                const REAL *x = (const REAL *)call->x + n * call->x_row + i;
                sum += dy[n * call->y_row] * (lanes == LANES ? K(load)(x) : K(load_tail)(x, lanes));
            }
            if (lanes == LANES) K(store)(dw + i, sum);
            else K(store_tail)(dw + i, sum, lanes);
        }
    }
}
