/* Deformable windows, channels innermost. The reference implementation, with its formulas, is in the family's reference.pyx.
 *
 * A cell of a window is interpolated between four pixels; they are determined once for all channels of an offset group. */

typedef struct {
    int64_t cell[2];
    double weight[2], slope[2]; /* 0 if the cell lies outside the image */
} K(around);

/* The cells around a position in a zero-padded image (between_zeros of sampling/reference.pxd). Unlike the samples of RoI align,
 * whose weights are REALs in a table for the inner loops, these are float64: they are multiplied with masks and gradients before
 * rounding. */
static inline int K(place_around)(double position, int64_t extent, K(around) *at) {
    if (!(position > -1 && position < (double)extent)) return 0;
    const double low = __builtin_floor(position);
    for (int a = 0; a < 2; a++) {
        const int inside = low + a >= 0 && low + a <= (double)(extent - 1);
        at->cell[a] = inside ? (int64_t)low + a : 0;
        at->weight[a] = inside ? (a ? position - low : 1 - (position - low)) : 0;
        at->slope[a] = inside ? (a ? 1 : -1) : 0;
    }
    return 1;
}

/* The pixels around cell t of window (oh, ow) in offset group g; returns 0 if all lie outside the image. */
static inline int K(deformed)(
    const cnn_windows *v, int64_t n, int64_t g, int64_t t, int64_t oh, int64_t ow, K(around) *h, K(around) *w
) {
    const REAL *offset = (const REAL *)v->offset.data + n * v->offset.stride[0] + 2 * (g * v->taps + t) * v->offset.stride[1]
        + oh * v->offset.stride[3] + ow * v->offset.stride[4];
    const double row = (double)(oh * v->stride[1] - v->low[1] + t / v->kernel[2] * v->dilation[1]) + (double)offset[0];
    const double column = (double)(ow * v->stride[2] - v->low[2] + t % v->kernel[2] * v->dilation[2])
        + (double)offset[v->offset.stride[1]];
    return K(place_around)(row, v->x.shape[3], h) && K(place_around)(column, v->x.shape[4], w);
}

static inline double K(mask_of)(const cnn_windows *v, int64_t n, int64_t plane, int64_t oh, int64_t ow) {
    if (v->mask.data == NULL) return 1;
    const REAL *mask = v->mask.data;
    return mask[n * v->mask.stride[0] + plane * v->mask.stride[1] + oh * v->mask.stride[3] + ow * v->mask.stride[4]];
}

/* *column: where channel c of cell t is in the columns; returns how many channels from c on are contiguous there. */
static inline int64_t K(column_run)(const cnn_windows *v, int64_t c, int64_t end, int64_t t, int64_t *column) {
    const int64_t group = c / v->inputs;
    *column = group * v->taps * v->inputs + t * v->inputs + c % v->inputs;
    return (group + 1) * v->inputs < end ? (group + 1) * v->inputs - c : end - c;
}

/* Offsets of the pixels with a non-zero weight, and their weights times m; returns how many there are. */
static inline int K(parts_of)(
    const cnn_windows *v, const K(around) *h, const K(around) *w, double m, int64_t *offset, REAL *part
) {
    int count = 0;
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++)
            if (h->weight[a] != 0 && w->weight[b] != 0) {
                offset[count] = h->cell[a] * v->x.stride[3] + w->cell[b] * v->x.stride[4];
                part[count++] = (REAL)(h->weight[a] * w->weight[b] * m);
            }
    return count;
}

/* y[i] = sum of part[j] x[offset[j] + i] */
static inline void K(blend)(REAL *y, const REAL *x, const int64_t *offset, const REAL *part, int parts, int64_t count) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        vreal sum = {0};
        for (int j = 0; j < parts; j++) sum += part[j] * K(load)(x + offset[j] + i);
        K(store)(y + i, sum);
    }
    for (; i < count; i++) {
        REAL sum = 0;
        for (int j = 0; j < parts; j++) sum += part[j] * x[offset[j] + i];
        y[i] = sum;
    }
}

/* Tasks are rows (n, oh) of windows, all channels. */
static void K(deform_columns)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_windows *v = description;
    const int64_t channels = v->x.shape[1] / v->groups;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t n = task / v->output[1], oh = task % v->output[1];
        const REAL *x = (const REAL *)v->x.data + n * v->x.stride[0];
        for (int64_t ow = 0; ow < v->output[2]; ow++) {
            REAL *y = (REAL *)v->y.data + n * v->y.stride[0] + oh * v->y.stride[3] + ow * v->y.stride[4];
            for (int64_t g = 0; g < v->groups; g++)
                for (int64_t t = 0; t < v->taps; t++) {
                    K(around) h, w;
                    int64_t offset[4], column;
                    REAL part[4];
                    int parts = 0;
                    if (K(deformed)(v, n, g, t, oh, ow, &h, &w))
                        parts = K(parts_of)(v, &h, &w, K(mask_of)(v, n, g * v->taps + t, oh, ow), offset, part);
                    for (int64_t c = g * channels, run; c < (g + 1) * channels; c += run) {
                        run = K(column_run)(v, c, (g + 1) * channels, t, &column);
                        K(blend)(y + column, x + c, offset, part, parts, run);
                    }
                }
        }
    }
}

/* Accumulates the gradients dy of cell t into the channels first <= c < last of dx, all of group g. */
static inline void K(scatter_cell)(
    const cnn_windows *v, REAL *dx, const REAL *dy, int64_t t, int64_t first, int64_t last, const int64_t *offset,
    const REAL *part, int parts
) {
    for (int64_t c = first, run, column; c < last; c += run) {
        run = K(column_run)(v, c, last, t, &column);
        for (int j = 0; j < parts; j++) {
            REAL *restrict to = dx + offset[j] + c;
            const REAL *restrict from = dy + column, factor = part[j];
            for (int64_t i = 0; i < run; i++) to[i] += factor * from[i];
        }
    }
}

/* Tasks are blocks (n, c) of `block` channels of dx, here x. */
static void K(deform_backward_input)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_windows *v = description;
    const int64_t C = v->x.shape[1], channels = C / v->groups, blocks = (C + v->block - 1) / v->block;
    int64_t left = CNN_PIECE;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t n = task / blocks, first = task % blocks * v->block;
        const int64_t last = first + v->block < C ? first + v->block : C;
        REAL *dx = (REAL *)v->x.data + n * v->x.stride[0];
        for (int64_t row = 0; row < v->x.shape[3]; row++) {
            for (int64_t column = 0; column < v->x.shape[4]; column++)
                for (int64_t c = first; c < last; c++) dx[row * v->x.stride[3] + column * v->x.stride[4] + c] = 0;
            if (cnn_stop_after(&left, v->x.shape[4] * (last - first))) return;
        }
        for (int64_t g = first / channels; g * channels < last; g++)
            for (int64_t oh = 0; oh < v->output[1]; oh++) {
                if (cnn_stop_after(&left, v->output[2] * v->taps * (16 + last - first))) return;
                for (int64_t ow = 0; ow < v->output[2]; ow++) {
                    const REAL *dy = (const REAL *)v->y.data + n * v->y.stride[0] + oh * v->y.stride[3] + ow * v->y.stride[4];
                    for (int64_t t = 0; t < v->taps; t++) {
                        K(around) h, w;
                        int64_t offset[4];
                        REAL part[4];
                        if (!K(deformed)(v, n, g, t, oh, ow, &h, &w)) continue;
                        const int parts = K(parts_of)(v, &h, &w, K(mask_of)(v, n, g * v->taps + t, oh, ow), offset, part);
                        const int64_t low = first > g * channels ? first : g * channels;
                        const int64_t high = last < (g + 1) * channels ? last : (g + 1) * channels;
                        K(scatter_cell)(v, dx, dy, t, low, high, offset, part, parts);
                    }
                }
            }
    }
}

/* sum of a[i] b[i] */
static inline double K(dot_product)(const REAL *a, const REAL *b, int64_t count) {
    vreal sums = {0};
    double total = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) sums += K(load)(a + i) * K(load)(b + i);
    for (int l = 0; l < LANES; l++) total += (double)sums[l];
    for (; i < count; i++) total += (double)a[i] * (double)b[i];
    return total;
}

/* Derivatives of the loss with respect to the position and the mask of a cell. */
typedef struct {
    double h, w, mask;
} K(cell_slopes);

/* Those of cell t of a window in group g, without the factor m of the position's. x and dy begin at channel 0. */
static inline K(cell_slopes) K(cell_slopes_of)(
    const cnn_windows *v, const REAL *x, const REAL *dy, int64_t g, int64_t t, const K(around) *h, const K(around) *w
) {
    const int64_t channels = v->x.shape[1] / v->groups;
    K(cell_slopes) d = {0, 0, 0};
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++) {
            if (h->slope[a] == 0 || w->slope[b] == 0) continue;
            const REAL *pixel = x + h->cell[a] * v->x.stride[3] + w->cell[b] * v->x.stride[4];
            double dot = 0;
            for (int64_t c = g * channels, run, column; c < (g + 1) * channels; c += run) {
                run = K(column_run)(v, c, (g + 1) * channels, t, &column);
                dot += K(dot_product)(pixel + c, dy + column, run);
            }
            if (w->weight[b] != 0) d.h += h->slope[a] * w->weight[b] * dot;
            if (h->weight[a] != 0) d.w += h->weight[a] * w->slope[b] * dot;
            if (h->weight[a] != 0 && w->weight[b] != 0) d.mask += h->weight[a] * w->weight[b] * dot;
        }
    return d;
}

/* Gradients of offset and mask: tasks are rows (n, oh) of windows. */
static void K(deform_gradient)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_windows *v = description;
    const cnn_tensor *doffset = &v->doffset, *dmask = &v->dmask;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t n = task / v->output[1], oh = task % v->output[1];
        const REAL *x = (const REAL *)v->x.data + n * v->x.stride[0];
        for (int64_t ow = 0; ow < v->output[2]; ow++)
            for (int64_t g = 0; g < v->groups; g++)
                for (int64_t t = 0; t < v->taps; t++) {
                    const REAL *dy = (const REAL *)v->y.data + n * v->y.stride[0] + oh * v->y.stride[3] + ow * v->y.stride[4];
                    const double m = K(mask_of)(v, n, g * v->taps + t, oh, ow);
                    K(around) h, w;
                    K(cell_slopes) d = {0, 0, 0};
                    if (K(deformed)(v, n, g, t, oh, ow, &h, &w)) d = K(cell_slopes_of)(v, x, dy, g, t, &h, &w);
                    if (doffset->data != NULL) {
                        REAL *to = (REAL *)doffset->data + n * doffset->stride[0] + 2 * (g * v->taps + t) * doffset->stride[1]
                            + oh * doffset->stride[3] + ow * doffset->stride[4];
                        to[0] = (REAL)(m * d.h);
                        to[doffset->stride[1]] = (REAL)(m * d.w);
                    }
                    if (dmask->data != NULL) {
                        REAL *to = (REAL *)dmask->data + n * dmask->stride[0] + (g * v->taps + t) * dmask->stride[1];
                        to[oh * dmask->stride[3] + ow * dmask->stride[4]] = (REAL)d.mask;
                    }
                }
    }
}
