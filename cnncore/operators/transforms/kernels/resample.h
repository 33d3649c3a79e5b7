/* Resampling by taps per axis. The reference implementation, with its formula, is in the family's reference.pyx.
 *
 * A row of y takes two steps: the rows of x under the taps of the outer axes are summed into scratch, then each cell is a
 * weighted sum over that row. With channels innermost, the second step works on vectors of channels.
 */

/* sum[i] = sum over the taps (j, k) of the outer axes, for `count` contiguous values. */
static inline void K(resample_outer)(REAL *sum, const REAL *x, const cnn_resample *call, int64_t d, int64_t h, int64_t count) {
    const cnn_taps *D = &call->taps[0], *H = &call->taps[1];
    const int64_t step_d = call->x.stride[2], step_h = call->x.stride[3];
    int64_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES) {
        vreal a = {0}, b = {0}, c = {0}, e = {0};
        for (int64_t j = D->first[d]; j < D->first[d + 1]; j++)
            for (int64_t k = H->first[h]; k < H->first[h + 1]; k++) {
                const REAL *from = x + D->source[j] * step_d + H->source[k] * step_h + i;
                const vreal w = K(splat)((REAL)(D->weight[j] * H->weight[k]));
                a += w * K(load)(from);
                b += w * K(load)(from + LANES);
                c += w * K(load)(from + 2 * LANES);
                e += w * K(load)(from + 3 * LANES);
            }
        K(store)(sum + i, a);
        K(store)(sum + i + LANES, b);
        K(store)(sum + i + 2 * LANES, c);
        K(store)(sum + i + 3 * LANES, e);
    }
    for (; i < count; i += LANES) {
        const int64_t lanes = count - i < LANES ? count - i : LANES;
        vreal a = {0};
        for (int64_t j = D->first[d]; j < D->first[d + 1]; j++)
            for (int64_t k = H->first[h]; k < H->first[h + 1]; k++) {
                const REAL *from = x + D->source[j] * step_d + H->source[k] * step_h + i;
                a += K(splat)((REAL)(D->weight[j] * H->weight[k]))
                    * (lanes == LANES ? K(load)(from) : K(load_tail)(from, lanes));
            }
        K(store)(sum + i, a); /* scratch is padded to a whole vector */
    }
}

/* y[w] = sum over the taps of W of sum[cell], C channels of each. */
static inline void K(resample_cells)(REAL *y, int64_t step, const REAL *sum, const cnn_taps *W, int64_t cells, int64_t C) {
    for (int64_t w = 0; w < cells; w++, y += step)
        for (int64_t c = 0; c < C; c += LANES) {
            vreal a = {0};
            for (int64_t k = W->first[w]; k < W->first[w + 1]; k++)
                a += K(splat)((REAL)W->weight[k]) * K(load)(sum + W->source[k] * C + c);
            if (C - c >= LANES) K(store)(y + c, a);
            else K(store_tail)(y + c, a, C - c);
        }
}

/* Tasks are rows (n, :, d, h, :) of y, or with planes apart (n, c, d, :, :). */
static void K(resample_rows)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_resample *call = description;
    const cnn_tensor *x = &call->x, *y = &call->y;
    const cnn_taps *W = &call->taps[2];
    const int64_t C = x->shape[1];
    REAL *sum = scratch;
    int64_t left = CNN_PIECE;
    for (int64_t task = begin; task < end; task++) {
        if (call->channels_last) {
            const int64_t h = task % y->shape[3], d = task / y->shape[3] % y->shape[2], n = task / y->shape[3] / y->shape[2];
            const REAL *image = (const REAL *)x->data + n * x->stride[0];
            if (x->stride[4] == C) K(resample_outer)(sum, image, call, d, h, x->shape[4] * C);
            else
                for (int64_t w = 0; w < x->shape[4]; w++)
                    K(resample_outer)(sum + w * C, image + w * x->stride[4], call, d, h, C);
            K(resample_cells)(
                (REAL *)y->data + n * y->stride[0] + d * y->stride[2] + h * y->stride[3], y->stride[4], sum, W, y->shape[4], C
            );
            continue;
        }
        const int64_t d = task % y->shape[2], c = task / y->shape[2] % C, n = task / y->shape[2] / C;
        const REAL *plane = (const REAL *)x->data + n * x->stride[0] + c * x->stride[1];
        for (int64_t h = 0; h < y->shape[3]; h++) {
            REAL *row = (REAL *)y->data + n * y->stride[0] + c * y->stride[1] + d * y->stride[2] + h * y->stride[3];
            K(resample_outer)(sum, plane, call, d, h, x->shape[4]);
            for (int64_t w = 0; w < y->shape[4]; w++) {
                REAL a = 0;
                for (int64_t k = W->first[w]; k < W->first[w + 1]; k++) a += (REAL)W->weight[k] * sum[W->source[k]];
                row[w] = a;
            }
            if (cnn_stop_after(&left, x->shape[4] + 4 * y->shape[4])) return;
        }
    }
}
