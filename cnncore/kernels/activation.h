/* Activations, LANES values at a time. Definitions with their formulas: ops/activation.pyx. */

/* relu: x > 0 keeps x; NaN compares false both ways and must come through, so the test is on what becomes 0. */
static void K(relu_forward)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_elementwise *e = call;
    const REAL *x = e->x;
    REAL *y = e->y;
    (void)scratch;
    for (int64_t i = begin; i < end; i++) y[i] = x[i] <= 0 ? 0 : x[i];
}

static void K(relu_backward)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_elementwise *e = call;
    const REAL *x = e->x, *dy = e->dy;
    REAL *dx = e->y;
    (void)scratch;
    for (int64_t i = begin; i < end; i++) dx[i] = x[i] > 0 ? dy[i] : 0;
}
