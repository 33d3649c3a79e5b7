/* RoI align. The reference implementation, with its formulas, is in the family's reference.pyx.
 *
 * The cells around the samples of a box, and their weights, are computed once per axis and box for all channels: vectors of
 * channels where these are innermost in x, otherwise one channel after the other.
 */

/* Linear interpolation along an axis: the two cells around a sample and their weights; a cell of weight 0 is not read. */
typedef struct {
    int64_t cell[2];
    REAL weight[2];
    int inside;
} K(between);

static void K(between_cells)(K(between) *at, double position, int64_t extent) {
    at->inside = position >= -1 && position <= (double)extent;
    if (!at->inside) return;
    if (position < 0) position = 0;
    else if (position > (double)(extent - 1)) position = (double)(extent - 1);
    at->cell[0] = (int64_t)position;
    at->cell[1] = at->cell[0] + 1 < extent ? at->cell[0] + 1 : at->cell[0];
    at->weight[1] = (REAL)(position - (double)at->cell[0]);
    at->weight[0] = (REAL)(1 - (position - (double)at->cell[0]));
}

/* The samples of box r: along the rows, then, from `most` on, along the columns. */
static void K(box_samples)(const cnn_boxes *call, int64_t r, K(between) *at) {
    for (int axis = 0; axis < 2; axis++, at += call->most) {
        const double first = call->box[4 * r + axis], bin = call->box[4 * r + 2 + axis];
        const int64_t samples = call->grid[2 * r + axis];
        for (int64_t i = 0; i < call->y.shape[3 + axis]; i++)
            for (int64_t a = 0; a < samples; a++)
                K(between_cells)(
                    &at[i * samples + a], first + (double)i * bin + ((double)a + 0.5) * bin / (double)samples,
                    call->x.shape[3 + axis]
                );
    }
}

static inline vreal K(between_columns)(const REAL *row, int64_t step, const K(between) *w, int64_t lanes) {
    vreal v = w->weight[0] * K(load_apart)(row + w->cell[0] * step, 1, lanes);
    if (w->weight[1] != 0) v += w->weight[1] * K(load_apart)(row + w->cell[1] * step, 1, lanes);
    return v;
}
/* The interpolated values of `lanes` channels from x on. */
static inline vreal K(sampled)(const REAL *x, const cnn_tensor *t, const K(between) *h, const K(between) *w, int64_t lanes) {
    if (!h->inside || !w->inside) return (vreal){0};
    vreal v = h->weight[0] * K(between_columns)(x + h->cell[0] * t->stride[3], t->stride[4], w, lanes);
    if (h->weight[1] != 0) v += h->weight[1] * K(between_columns)(x + h->cell[1] * t->stride[3], t->stride[4], w, lanes);
    return v;
}
/* The same for one channel. */
static inline REAL K(sampled_one)(const REAL *x, const cnn_tensor *t, const K(between) *h, const K(between) *w) {
    if (!h->inside || !w->inside) return 0;
    REAL v = 0;
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++)
            if (h->weight[a] != 0 && w->weight[b] != 0)
                v += h->weight[a] * w->weight[b] * x[h->cell[a] * t->stride[3] + w->cell[b] * t->stride[4]];
    return v;
}

/* The reduction of a bin: the sum of its samples; the largest one and its number. */
typedef struct {
    vreal sum, largest;
    vmask winner;
} K(bin);

static inline void K(bin_take)(K(bin) *bin, vreal v, INTEGER number) {
    const vmask taken = (v > bin->largest) | ((v != v) & (bin->largest == bin->largest));
    bin->sum += v;
    bin->largest = K(select)(taken, v, bin->largest);
    bin->winner = (taken & (number - (vmask){0})) | (~taken & bin->winner);
}
static K(bin) K(bin_of)(
    const cnn_boxes *call, int64_t r, const K(between) *at, const cnn_tensor *t, const REAL *x, int64_t i, int64_t j,
    int64_t lanes
) {
    const int64_t A = call->grid[2 * r], B = call->grid[2 * r + 1];
    const K(between) *rows = at + i * A, *columns = at + call->most + j * B;
    K(bin) bin = {{0}, K(splat)(-INFINITY), {0}};
    for (int64_t a = 0; a < A; a++)
        for (int64_t b = 0; b < B; b++) K(bin_take)(&bin, K(sampled)(x, t, &rows[a], &columns[b], lanes), (INTEGER)(a * B + b));
    return bin;
}
static REAL K(bin_of_one)(
    const cnn_boxes *call, int64_t r, const K(between) *at, const cnn_tensor *t, const REAL *x, int64_t i, int64_t j,
    int64_t *winner
) {
    const int64_t A = call->grid[2 * r], B = call->grid[2 * r + 1];
    const K(between) *rows = at + i * A, *columns = at + call->most + j * B;
    REAL sum = 0, largest = -INFINITY;
    *winner = 0;
    for (int64_t a = 0; a < A; a++)
        for (int64_t b = 0; b < B; b++) {
            const REAL v = K(sampled_one)(x, t, &rows[a], &columns[b]);
            sum += v;
            if (v > largest || (v != v && largest == largest)) largest = v, *winner = a * B + b;
        }
    return call->maximum ? largest : sum;
}

static void K(roi_align_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_boxes *call = description;
    const cnn_tensor *x = &call->x, *y = &call->y;
    const int64_t C = x->shape[1], blocks = (C + CNN_BOXES_CHANNELS - 1) / CNN_BOXES_CHANNELS;
    const int vectors = x->stride[1] == 1 && C > 1;
    K(between) *at = scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t r = task / blocks, first = task % blocks * CNN_BOXES_CHANNELS;
        const int64_t last = C - first < CNN_BOXES_CHANNELS ? C : first + CNN_BOXES_CHANNELS;
        const int64_t samples = call->grid[2 * r] * call->grid[2 * r + 1];
        const REAL *image = (const REAL *)x->data + call->image[r] * x->stride[0];
        REAL *box = (REAL *)y->data + r * y->stride[0];
        K(box_samples)(call, r, at);
        for (int64_t c = first; c < last; c += vectors ? LANES : 1)
            for (int64_t i = 0; i < y->shape[3]; i++)
                for (int64_t j = 0; j < y->shape[4]; j++) {
                    REAL *to = box + c * y->stride[1] + i * y->stride[3] + j * y->stride[4];
                    if (!vectors) {
                        int64_t winner;
                        const REAL v = K(bin_of_one)(call, r, at, x, image + c * x->stride[1], i, j, &winner);
                        *to = samples == 0 ? 0 : call->maximum ? v : v / (REAL)samples;
                        continue;
                    }
                    const int64_t lanes = last - c < LANES ? last - c : LANES;
                    const K(bin) bin = K(bin_of)(call, r, at, x, image + c, i, j, lanes);
                    vreal v = {0};
                    if (samples) v = bin.sum / (REAL)samples;
                    if (samples && call->maximum) v = bin.largest;
                    K(store_apart)(to, y->stride[1], v, lanes);
                }
    }
}

/* Accumulates d, in the lanes of `taken`, into the cells around a sample, by their weights. */
static inline void K(scatter_lanes)(
    REAL *dx, const cnn_tensor *t, const K(between) *h, const K(between) *w, vreal d, vmask taken, int64_t lanes
) {
    if (!h->inside || !w->inside) return;
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++)
            if (h->weight[a] != 0 && w->weight[b] != 0) {
                REAL *cell = dx + h->cell[a] * t->stride[3] + w->cell[b] * t->stride[4];
                const vreal part = K(select)(taken, d * (h->weight[a] * w->weight[b]), (vreal){0});
                K(store_apart)(cell, 1, K(load_apart)(cell, 1, lanes) + part, lanes);
            }
}

/* The gradient d of a bin, of one channel, into the cells around its samples; `winner`: of the maximum, the sample that takes
 * it. */
static void K(scatter_bin_of_one)(
    REAL *dx, const cnn_tensor *t, const K(between) *rows, const K(between) *columns, int64_t A, int64_t B, REAL d,
    int64_t winner
) {
    for (int64_t a = 0; a < A; a++)
        for (int64_t b = 0; b < B; b++) {
            const K(between) *h = &rows[a], *w = &columns[b];
            if ((winner >= 0 && a * B + b != winner) || !h->inside || !w->inside) continue;
            for (int p = 0; p < 2; p++)
                for (int q = 0; q < 2; q++)
                    if (h->weight[p] != 0 && w->weight[q] != 0)
                        dx[h->cell[p] * t->stride[3] + w->cell[q] * t->stride[4]] += d * (h->weight[p] * w->weight[q]);
        }
}

/* The gradient of a box, of the channels first <= c < last of its image. */
static void K(box_backward)(
    const cnn_boxes *call, int64_t r, const K(between) *at, const int vectors, int64_t first, int64_t last
) {
    const cnn_tensor *x = &call->x, *y = &call->y, *values = &call->values;
    const int64_t n = call->image[r], A = call->grid[2 * r], B = call->grid[2 * r + 1];
    for (int64_t c = first; c < last; c += vectors ? LANES : 1) {
        const int64_t lanes = !vectors ? 1 : last - c < LANES ? last - c : LANES;
        const REAL *of = (const REAL *)values->data + n * values->stride[0] + c * values->stride[1];
        const REAL *box = (const REAL *)y->data + r * y->stride[0] + c * y->stride[1];
        REAL *dx = (REAL *)x->data + n * x->stride[0] + c * x->stride[1];
        for (int64_t i = 0; i < y->shape[3]; i++)
            for (int64_t j = 0; j < y->shape[4]; j++) {
                const K(between) *rows = at + i * A, *columns = at + call->most + j * B;
                const REAL *from = box + i * y->stride[3] + j * y->stride[4];
                if (!vectors) {
                    int64_t winner = -1;
                    if (call->maximum) K(bin_of_one)(call, r, at, values, of, i, j, &winner);
                    K(scatter_bin_of_one)(dx, x, rows, columns, A, B, call->maximum ? *from : *from / (REAL)(A * B), winner);
                    continue;
                }
                vreal d = K(load_apart)(from, y->stride[1], lanes);
                vmask winner = {0}, taken = ~(vmask){0};
                if (call->maximum) winner = K(bin_of)(call, r, at, values, of, i, j, lanes).winner;
                else d /= (REAL)(A * B);
                for (int64_t a = 0; a < A; a++)
                    for (int64_t b = 0; b < B; b++) {
                        if (call->maximum) taken = winner == (INTEGER)(a * B + b) - (vmask){0};
                        K(scatter_lanes)(dx, x, &rows[a], &columns[b], d, taken, lanes);
                    }
            }
    }
}

/* Tasks are blocks of channels of an image, into which all its boxes accumulate in order. */
static void K(roi_align_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_boxes *call = description;
    const cnn_tensor *x = &call->x;
    const int64_t C = x->shape[1], blocks = (C + CNN_BOXES_CHANNELS - 1) / CNN_BOXES_CHANNELS;
    const int vectors = x->stride[1] == 1 && call->values.stride[1] == 1 && C > 1;
    K(between) *at = scratch;
    int64_t left = CNN_PIECE;
    for (int64_t task = begin; task < end; task++) {
        const int64_t n = task / blocks, first = task % blocks * CNN_BOXES_CHANNELS;
        const int64_t last = C - first < CNN_BOXES_CHANNELS ? C : first + CNN_BOXES_CHANNELS;
        REAL *image = (REAL *)x->data + n * x->stride[0];
        for (int64_t h = 0; h < x->shape[3]; h++) {
            if (cnn_stop_after(&left, x->shape[4] * (last - first))) return;
            for (int64_t w = 0; vectors && w < x->shape[4]; w++)
                for (int64_t c = first; c < last; c++) image[h * x->stride[3] + w * x->stride[4] + c] = 0;
            for (int64_t c = first; !vectors && c < last; c++)
                for (int64_t w = 0; w < x->shape[4]; w++) image[c * x->stride[1] + h * x->stride[3] + w * x->stride[4]] = 0;
        }
        for (int64_t r = 0; r < call->count; r++) {
            const int64_t samples = call->grid[2 * r] * call->grid[2 * r + 1];
            if (call->image[r] != n || samples == 0) continue;
            if (cnn_stop_after(&left, samples * call->y.shape[3] * call->y.shape[4] * (last - first) * 4)) return;
            K(box_samples)(call, r, at);
            K(box_backward)(call, r, at, vectors, first, last);
        }
    }
}
