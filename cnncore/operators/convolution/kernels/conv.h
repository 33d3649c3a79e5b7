/* Convolution kernels: channels innermost, a tile of outputs at a time, all on the multiplication of gemm.h.
 *
 * Reference implementations with their formulas: operators/convolution/reference.pyx. A tile reads x in place where channels are innermost and no tap falls outside
 * the image; otherwise the pixels it needs are gathered into scratch memory, channels innermost, with zeros for the
 * padding: one copy that also turns NCHW around. A tile of y whose channels are not innermost is turned around on its way out.
 */

/* Where the terms of a tile lie: output (image, row, column) and tap (d, h, w) are offsets, in elements, from `a`. */
typedef struct {
    const REAL *a;
    int64_t image, row, column;
    int64_t tap[3];
    int64_t channel; /* from input to input: 1 unless the field may lie in any layout */
} K(field);

/* Along one axis: gathered are all pixels from the first to the last tap, or, where strides or dilations leave many unused,
 * only the pixels under each tap. */
typedef struct {
    int64_t start; /* pixel of the first output's first tap */
    int64_t outputs, stride, taps, step;
    int64_t slots; /* gathered pixels */
    int by_tap;
} K(reach);

static inline K(reach) K(reach_of)(const cnn_correlation *p, int axis, int64_t output, int64_t outputs) {
    K(reach) r = {
        .start = output * p->stride[axis] + p->first[axis],
        .outputs = outputs,
        .stride = p->stride[axis],
        .taps = p->taps[axis],
        .step = p->step[axis]
    };
    const int64_t dense = (outputs - 1) * r.stride + (r.taps - 1) * r.step + 1, sparse = outputs * r.taps;
    r.by_tap = sparse < dense;
    r.slots = r.by_tap ? sparse : dense;
    return r;
}
static inline int64_t K(slot_pixel)(const K(reach) *r, int64_t slot) {
    return r->start + (r->by_tap ? slot % r->outputs * r->stride + slot / r->outputs * r->step : slot);
}
static inline int K(reach_inside)(const K(reach) *r, int64_t extent) {
    return r->start >= 0 && r->start + (r->outputs - 1) * r->stride + (r->taps - 1) * r->step < extent;
}

/* One row of pixels: `channels` values each, in slots of the same size, zeros outside the image. */
static void K(gather_row)(
    REAL *row, const REAL *src, int64_t column, int64_t channel, int64_t channels, int64_t pitch, int64_t extent,
    const K(reach) *r
) {
    const int64_t segments = r->by_tap ? r->taps : 1, count = r->by_tap ? r->outputs : r->slots,
                  stride = r->by_tap ? r->stride : 1;
    for (int64_t s = 0; s < segments; s++, row += count * pitch) {
        const int64_t start = r->start + s * r->step;
        int64_t low = start >= 0 ? 0 : (-start + stride - 1) / stride;
        int64_t high = start >= extent ? 0 : (extent - start + stride - 1) / stride;
        if (low > count) low = count;
        if (high > count) high = count;
        if (high < low) high = low;
        K(fill_zero)(row, low * pitch);
        if (high > low)
            K(transfer)(
                row + low * pitch, pitch, 1, src + (start + low * stride) * column, stride * column, channel, high - low,
                channels
            );
        K(fill_zero)(row + high * pitch, (count - high) * pitch);
    }
}

/* The terms of a tile for `channels` channels from `channel` on; `tile` is memory for them, as planned in x_bytes. With
 * `any_layout` channels need not be innermost when x is read in place. */
static K(field) K(field_of)(
    const cnn_correlation *p, int64_t n, int64_t images, int64_t d, int64_t h, int64_t rows, int64_t w, int64_t columns,
    int64_t channel, int64_t channels, int any_layout, REAL *tile
) {
    const int64_t *stride = p->x.stride, *shape = p->x.shape;
    const REAL *x = (const REAL *)p->x.data + n * stride[0] + channel * stride[1];
    const K(reach) D = K(reach_of)(p, 0, d, 1), H = K(reach_of)(p, 1, h, rows), W = K(reach_of)(p, 2, w, columns);
    K(field) f;
    if ((any_layout || stride[1] == 1) && K(reach_inside)(&D, shape[2]) && K(reach_inside)(&H, shape[3])
        && K(reach_inside)(&W, shape[4])) {
        f.a = x + D.start * stride[2] + H.start * stride[3] + W.start * stride[4];
        f.image = stride[0];
        f.row = H.stride * stride[3];
        f.column = W.stride * stride[4];
        f.tap[0] = D.step * stride[2];
        f.tap[1] = H.step * stride[3];
        f.tap[2] = W.step * stride[4];
        f.channel = stride[1];
        return f;
    }
    const int64_t row = W.slots * channels;
    for (int64_t i = 0; i < images; i++)
        for (int64_t sd = 0; sd < D.slots; sd++)
            for (int64_t sh = 0; sh < H.slots; sh++) {
                const int64_t pd = K(slot_pixel)(&D, sd), ph = K(slot_pixel)(&H, sh);
                REAL *to = tile + ((i * D.slots + sd) * H.slots + sh) * row;
                if (pd < 0 || pd >= shape[2] || ph < 0 || ph >= shape[3]) K(fill_zero)(to, row);
                else
                    K(gather_row)(
                        to, x + i * stride[0] + pd * stride[2] + ph * stride[3], stride[4], stride[1], channels, channels,
                        shape[4], &W
                    );
            }
    f.a = tile;
    f.image = D.slots * H.slots * row;
    f.row = (H.by_tap ? 1 : H.stride) * row;
    f.column = (W.by_tap ? 1 : W.stride) * channels;
    f.tap[0] = (D.by_tap ? 1 : D.step) * H.slots * row;
    f.tap[1] = (H.by_tap ? rows : H.step) * row;
    f.tap[2] = (W.by_tap ? columns : W.step) * channels;
    f.channel = 1;
    return f;
}

/* The runs under the taps: offsets into the field, their number and length. Neighbouring taps whose channels lie side by side are
 * one run: with three input channels the seven taps of a kernel row are 21 values. */
typedef struct {
    int64_t runs, length;
} K(runs);

static K(runs) K(runs_of)(const cnn_correlation *p, const K(field) *f, int64_t channels, int64_t *offset) {
    int64_t taps[3] = {p->taps[0], p->taps[1], p->taps[2]}, runs = 0, length = channels;
    for (int axis = 2; axis >= 0 && (taps[axis] == 1 || f->tap[axis] == length * f->channel); axis--) {
        length *= taps[axis];
        taps[axis] = 1;
    }
    for (int64_t td = 0; td < taps[0]; td++)
        for (int64_t th = 0; th < taps[1]; th++)
            for (int64_t tw = 0; tw < taps[2]; tw++) offset[runs++] = td * f->tap[0] + th * f->tap[1] + tw * f->tap[2];
    return (K(runs)){runs, length};
}

/* How the output channels are cut: a unit is two vectors of one group, the last of a group may be one. `shared` lets the groups
 * share units (depthwise kernels). */
typedef struct {
    int64_t inputs, outputs; /* of a group, or of all where units are shared */
    int64_t units;           /* of a group */
    int64_t terms;           /* taps × inputs */
    int64_t group_size;      /* of all panels of a group */
} K(cut);

static K(cut) K(cut_of)(int64_t inputs, int64_t outputs, const int64_t *taps) {
    const int64_t wide = 2 * LANES, units = (outputs + wide - 1) / wide, last = outputs - (units - 1) * wide;
    const int64_t terms = taps[0] * taps[1] * taps[2] * inputs;
    return (K(cut)){inputs, outputs, units, terms, ((units - 1) * wide + (last > LANES ? wide : LANES)) * terms};
}
static inline K(cut) K(cut_by_group)(const cnn_correlation *p) {
    return K(cut_of)(p->x.shape[1] / p->groups, p->y.shape[1] / p->groups, p->taps);
}

/* The place of a task: which part of the call, which tile of outputs, which units. */
typedef struct {
    const cnn_correlation *p;
    int64_t n, images, d, h, rows, w, columns;
    int64_t first_unit, last_unit; /* the latter excluded */
} K(place);

static inline int64_t K(smaller)(int64_t a, int64_t b) { return a < b ? a : b; }

static K(place) K(place_of)(const cnn_correlations *call, int64_t task) {
    const cnn_correlation *p = call->part;
    while (task >= p->first_task + p->tasks) p++;
    task -= p->first_task;
    K(place) at = {.p = p};
    const int64_t ranges = (p->unit_count + p->units - 1) / p->units;
    at.first_unit = task % ranges * p->units;
    at.last_unit = K(smaller)(at.first_unit + p->units, p->unit_count);
    task /= ranges;
    const int64_t W = (p->y.shape[4] + p->columns - 1) / p->columns, H = (p->y.shape[3] + p->rows - 1) / p->rows;
    at.w = task % W * p->columns;
    at.columns = K(smaller)(p->columns, p->y.shape[4] - at.w);
    task /= W;
    at.h = task % H * p->rows;
    at.rows = K(smaller)(p->rows, p->y.shape[3] - at.h);
    task /= H;
    at.d = task % p->y.shape[2];
    at.n = task / p->y.shape[2] * p->images;
    at.images = K(smaller)(p->images, p->y.shape[0] - at.n);
    return at;
}

/* A tile of y, or of dy, to or from memory where its pixels lie in a row, `pitch` apart with channels innermost. Rows of
 * pixels that follow one another in y are copied as one. */
static void K(transfer_tile)(
    const cnn_tensor *y, REAL *place, int64_t images, int64_t rows, int64_t columns, int64_t channels, REAL *tile,
    int64_t pitch, int to_y
) {
    const int64_t *stride = y->stride;
    if (stride[3] == columns * stride[4]) {
        columns *= rows;
        rows = 1;
    }
    for (int64_t i = 0; i < images; i++)
        for (int64_t r = 0; r < rows; r++, tile += columns * pitch) {
            REAL *at = place + i * stride[0] + r * stride[3];
            if (to_y) K(transfer)(at, stride[4], stride[1], tile, pitch, 1, columns, channels);
            else K(transfer)(tile, pitch, 1, at, stride[4], stride[1], columns, channels);
        }
}

static inline REAL *K(tile_of_y)(const K(place) *at) {
    const cnn_tensor *y = &at->p->y;
    return (REAL *)y->data + at->n * y->stride[0] + at->d * y->stride[2] + at->h * y->stride[3] + at->w * y->stride[4];
}

/* ── Packing ── panels[group, unit, td, th, tw, c, lane]; tasks are units ── */

/* Whether all taps lie side by side: 1 in order, −1 in reverse, 0 otherwise. */
static int K(taps_in_a_row)(const cnn_pack *v) {
    const int64_t T0 = v->taps[0], T1 = v->taps[1], T2 = v->taps[2], *tap = v->tap_stride;
    for (int sign = 1; sign >= -1; sign -= 2)
        if ((T2 == 1 || tap[2] == sign) && (T1 == 1 || tap[1] == sign * T2) && (T0 == 1 || tap[0] == sign * T1 * T2))
            return sign;
    return 0;
}

/* How many values may be read from the lowest tap of (output, input) on: behind one kernel lies the next. */
static int64_t K(readable)(const cnn_pack *v, int64_t output, int64_t input) {
    const int64_t taps = v->taps[0] * v->taps[1] * v->taps[2];
    if (v->shared) return taps;
    return taps * (v->input_stride == taps ? v->inputs - input : v->output_stride == taps ? v->outputs - output : 1);
}

/* Weights whose taps lie side by side, behind them the inputs (forward) or the outputs (backward), are packed in blocks that are
 * transposed in registers; returns whether they are such. */
static int K(pack_in_blocks)(
    const cnn_pack *v, const REAL *w, int64_t output, int64_t outputs, const int64_t *from, REAL *panel, int64_t width
) {
    const int64_t taps = v->taps[0] * v->taps[1] * v->taps[2], step = outputs > 1 ? from[1] - from[0] : 0;
    const int sign = K(taps_in_a_row)(v);
    REAL block[LANES * LANES];
    if (sign == 0) return 0;
    for (int64_t k = 2; k < outputs; k++)
        if (from[k] - from[k - 1] != step) return 0;
    /* Values that one row of a block may run through: all terms of an output, or the taps of one input. */
    const int64_t length = sign > 0 && v->input_stride == taps ? taps * v->inputs : taps;
    for (int64_t k = 0; k < outputs; k += LANES) {
        const int64_t rows = K(smaller)(LANES, outputs - k);
        for (int64_t c = 0; c < v->inputs; c += length / taps) {
            const REAL *row = w + from[k] + c * v->input_stride - (sign < 0 ? taps - 1 : 0);
            for (int64_t term = 0; term < length; term += LANES) {
                const int64_t columns = K(smaller)(LANES, length - term);
                if (rows == LANES && columns < LANES && K(readable)(v, output + k + rows - 1, c) >= term + LANES)
                    K(transpose_narrow)(block, row + term, step, columns);
                else K(transpose)(block, LANES, row + term, step, rows, columns);
                for (int64_t j = 0; j < columns; j++) {
                    const int64_t t = (term + j) % taps;
                    K(copy_run)(
                        panel + ((sign > 0 ? t : taps - 1 - t) * v->inputs + c + (term + j) / taps) * width + k,
                        block + j * LANES, rows
                    );
                }
            }
        }
    }
    return 1;
}

static void K(conv_pack)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_pack *v = call;
    const int64_t wide = 2 * LANES, T0 = v->taps[0], T1 = v->taps[1], T2 = v->taps[2];
    const K(cut) cut = K(cut_of)(v->inputs, v->shared ? v->groups * v->outputs : v->outputs, v->taps);
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t group = task / cut.units, unit = task % cut.units;
        const int64_t outputs = cut.outputs - unit * wide < wide ? cut.outputs - unit * wide : wide;
        const int64_t width = outputs > LANES ? wide : LANES;
        const REAL *w = (const REAL *)v->w + group * v->group_stride;
        REAL *panel = (REAL *)v->panels + group * cut.group_size + unit * wide * cut.terms;
        int64_t from[2 * LANES]; /* where the weights of each lane begin */
        for (int64_t k = 0; k < outputs; k++) {
            const int64_t output = unit * wide + k;
            from[k] = output / v->outputs * v->group_stride + output % v->outputs * v->output_stride;
        }
        if (outputs < width) K(fill_zero)(panel, width * cut.terms);
        if (T0 * T1 * T2 == 1 && !v->shared)
            K(transfer)(panel, width, 1, w + from[0], v->input_stride, v->output_stride, v->inputs, outputs);
        else if (K(pack_in_blocks)(v, w, unit * wide, outputs, from, panel, width))
            ;
        else
            for (int64_t c = 0; c < v->inputs; c++)
                for (int64_t td = 0; td < T0; td++)
                    for (int64_t th = 0; th < T1; th++)
                        for (int64_t tw = 0; tw < T2; tw++) {
                            const REAL *at = w + c * v->input_stride + td * v->tap_stride[0] + th * v->tap_stride[1]
                                + tw * v->tap_stride[2];
                            REAL *to = panel + (((td * T1 + th) * T2 + tw) * v->inputs + c) * width;
                            for (int64_t k = 0; k < outputs; k++) to[k] = at[from[k]];
                        }
        if (v->b != NULL) {
            const REAL *b = (const REAL *)v->b + (group * cut.outputs + unit * wide) * v->bias_stride;
            REAL *to = (REAL *)v->bias + task * wide;
            for (int64_t k = 0; k < wide; k++) to[k] = k < outputs ? b[k * v->bias_stride] : 0;
        }
    }
}

/* ── Correlation ── forward, and the gradient of the input ── */

/* Where a task writes its channels of y: in place, or in a tile with channels innermost, which is transposed afterwards. */
typedef struct {
    REAL *y;
    int in_place;
    int64_t first_channel, channels;
    int64_t image, row, column; /* from each to the next */
} K(outputs);

static inline K(outputs) K(outputs_of)(const K(place) *at, const K(cut) *cut, REAL *y_tile) {
    const cnn_tensor *y = &at->p->y;
    const int64_t wide = 2 * LANES, last_unit = at->last_unit - 1;
    const int64_t end_channel = last_unit / cut->units * cut->outputs
        + K(smaller)((last_unit % cut->units + 1) * wide, cut->outputs);
    K(outputs) o = {.in_place = y->stride[1] == 1};
    o.first_channel = at->first_unit / cut->units * cut->outputs + at->first_unit % cut->units * wide;
    o.channels = end_channel - o.first_channel;
    o.y = o.in_place ? K(tile_of_y)(at) + o.first_channel : y_tile;
    o.column = o.in_place ? y->stride[4] : o.channels;
    o.row = o.in_place ? y->stride[3] : at->columns * o.channels;
    o.image = o.in_place ? y->stride[0] : at->rows * o.row;
    return o;
}

/* A unit's panel times the pixels of the tile, block by block. */
ALWAYS_INLINE void K(correlate_unit)(
    const K(place) *at, const K(cut) *cut, const K(field) *f, const K(outputs) *o, int64_t unit, K(product) *product
) {
    const cnn_correlation *p = at->p;
    const int64_t wide = 2 * LANES, group = unit / cut->units, j = unit % cut->units;
    const int64_t blocks = K(row_blocks)(at->columns, f->column);
    const REAL *a = f->a + (group - at->first_unit / cut->units) * cut->inputs;
    REAL *y = o->y + group * cut->outputs + j * wide - o->first_channel;
    product->panel = (const REAL *)p->panels + group * cut->group_size + j * wide * cut->terms;
    product->columns = K(smaller)(wide, cut->outputs - j * wide);
    product->bias = p->bias ? (const REAL *)p->bias + unit * wide : NULL;
    for (int64_t i = 0; i < at->images; i++)
        for (int64_t r = 0; r < at->rows; r++)
            for (int64_t block = 0; block < blocks; block++) {
                const int64_t start = K(block_start)(block, blocks, at->columns);
                const int64_t rows = K(block_start)(block + 1, blocks, at->columns) - start;
                K(fetch_panel)(product, i + r + block == 0, product->columns > LANES ? wide : LANES);
                product->a = a + i * f->image + r * f->row + start * f->column;
                /* The first unit reads x from memory: behind a block of pixels lies the next one. */
                if (unit == at->first_unit && i + r + block > 0 && product->runs == 1 && f->column == product->length) {
                    product->ahead = product->a + rows * f->column;
                    product->ahead_step = rows;
                }
                product->y = y + i * o->image + r * o->row + start * o->column;
                K(multiply)(product, (int)rows, product->columns > LANES ? 2 : 1);
            }
}

static void K(conv_correlate)(void *call, int64_t begin, int64_t end, void *scratch) {
    for (int64_t task = begin; task < end; task++) {
        const K(place) at = K(place_of)(call, task);
        const cnn_correlation *p = at.p;
        const K(cut) cut = K(cut_by_group)(p);
        const int64_t first_group = at.first_unit / cut.units, last_group = (at.last_unit - 1) / cut.units;
        REAL *tile = scratch, *y_tile = (REAL *)((char *)scratch + p->x_bytes);
        int64_t *offset = (int64_t *)((char *)scratch + p->x_bytes + p->y_bytes);
        const K(field) f = K(field_of)(
            p, at.n, at.images, at.d, at.h, at.rows, at.w, at.columns, first_group * cut.inputs,
            (last_group - first_group + 1) * cut.inputs, 0, tile
        );
        const K(runs) runs = K(runs_of)(p, &f, cut.inputs, offset);
        const K(outputs) o = K(outputs_of)(&at, &cut, y_tile);
        K(product) product = {
            .row = f.column,
            .step = 1,
            .offset = offset,
            .runs = runs.runs,
            .length = runs.length,
            .y_row = o.column,
            .accumulate = (int)p->accumulate,
            .fetch_y = o.in_place,
            .clamp = K(clamps)(p),
            .lower = (REAL)p->lower,
            .upper = (REAL)p->upper
        };
        for (int64_t unit = at.first_unit; unit < at.last_unit; unit++) K(correlate_unit)(&at, &cut, &f, &o, unit, &product);
        if (!o.in_place)
            K(transfer_tile)(
                &p->y, K(tile_of_y)(&at) + o.first_channel * p->y.stride[1], at.images, at.rows, at.columns, o.channels, o.y,
                o.column, 1
            );
    }
}

/* ── 1×1 on planes ── y[n, k, pixel] = b[k] + Σ_c w[k, c] x[n, c, pixel] ──
 *
 * Where channels are not innermost the pixels take the vectors' place: x is packed into panels of two vectors of pixels, the
 * weights are read as they are, and y comes out in its own order. Also linear layers, whose rows are the pixels: their weights,
 * far more than their inputs, are read once and never packed. A unit is as many outputs as elsewhere. */

static void K(conv_planes)(void *call, int64_t begin, int64_t end, void *scratch) {
    const int64_t wide = 2 * LANES, start = 0;
    for (int64_t task = begin; task < end; task++) {
        const K(place) at = K(place_of)(call, task);
        const cnn_correlation *p = at.p;
        const K(cut) cut = K(cut_by_group)(p);
        const int64_t panels = (at.columns + wide - 1) / wide;
        REAL *packed = scratch, *y_tile = (REAL *)((char *)scratch + p->x_bytes);
        const int in_place = p->y.stride[4] == 1;
        for (int64_t group = at.first_unit / cut.units; group <= (at.last_unit - 1) / cut.units; group++) {
            const int64_t first = group == at.first_unit / cut.units ? at.first_unit % cut.units * wide : 0;
            const int64_t after = K(smaller)((at.last_unit - group * cut.units) * wide, cut.outputs), outputs = after - first;
            const REAL *x = (const REAL *)p->x.data + at.n * p->x.stride[0] + at.d * p->x.stride[2] + at.h * p->x.stride[3]
                + at.w * p->x.stride[4] + group * cut.inputs * p->x.stride[1];
            for (int64_t j = 0; j < panels; j++) {
                const int64_t pixels = K(smaller)(wide, at.columns - j * wide), width = pixels > LANES ? wide : LANES;
                REAL *panel = packed + j * wide * cut.inputs;
                if (pixels < width) K(fill_zero)(panel, width * cut.inputs);
                K(transfer)(panel, width, 1, x + j * wide * p->x.stride[4], p->x.stride[1], p->x.stride[4], cut.inputs, pixels);
            }
            const int64_t channel = group * cut.outputs + first;
            REAL *y = in_place ? K(tile_of_y)(&at) + channel * p->y.stride[1] : y_tile;
            const int64_t y_channel = in_place ? p->y.stride[1] : at.columns;
            K(product) product = {
                .row = p->w.stride[0],
                .step = p->w.stride[1],
                .offset = &start,
                .runs = 1,
                .length = cut.inputs,
                .y_row = y_channel,
                .row_bias_step = p->bias_stride,
                .clamp = K(clamps)(p),
                .lower = (REAL)p->lower,
                .upper = (REAL)p->upper
            };
            const int64_t blocks = K(row_blocks)(outputs, product.row);
            for (int64_t block = 0; block < blocks; block++) {
                const int64_t k = K(block_start)(block, blocks, outputs), rows = K(block_start)(block + 1, blocks, outputs) - k;
                product.a = (const REAL *)p->w.data + group * p->w_group + (first + k) * p->w.stride[0];
                product.row_bias = p->bias ? (const REAL *)p->bias + (channel + k) * p->bias_stride : NULL;
                for (int64_t j = 0; j < panels; j++) {
                    product.panel = packed + j * wide * cut.inputs;
                    product.columns = K(smaller)(wide, at.columns - j * wide);
                    product.y = y + k * y_channel + j * wide;
                    K(multiply)(&product, (int)rows, product.columns > LANES ? 2 : 1);
                }
            }
            if (!in_place)
                K(transfer)(
                    K(tile_of_y)(&at) + channel * p->y.stride[1], p->y.stride[1], p->y.stride[4], y, y_channel, 1, outputs,
                    at.columns
                );
        }
    }
}

/* Sums [term][lane], terms in the order (tap, input), into dw for `outputs` channels from `output` on. Taps lie side by side in
 * dw: so that it is written in order, LANES inputs of all taps are turned around at a time, in `block`. */
static void K(scatter_weights)(
    const cnn_correlation *p, int64_t output, int64_t outputs, int64_t first_input, int64_t inputs, int64_t first_term,
    int64_t last_term, const REAL *sums, REAL *block
) {
    const int64_t wide = 2 * LANES, *stride = p->w.stride, T1 = p->taps[1], T2 = p->taps[2], taps = p->taps[0] * T1 * T2;
    REAL *dw = (REAL *)p->w.data + output * stride[0] + first_input * stride[1];
    const int whole = first_term == 0 && last_term == taps * inputs;
    if (taps == 1) {
        K(transfer)(dw + first_term * stride[1], stride[1], stride[0], sums, wide, 1, last_term - first_term, outputs);
    } else if (whole && stride[4] == 1 && (T1 == 1 || stride[3] == T2) && (p->taps[0] == 1 || stride[2] == T1 * T2)) {
        for (int64_t c = 0; c < inputs; c += LANES) {
            const int64_t count = K(smaller)(LANES, inputs - c);
            for (int64_t t = 0; t < taps; t++)
                K(transpose)(block + t * LANES, taps * LANES, sums + (t * inputs + c) * wide, wide, count, outputs);
            for (int64_t k = 0; k < outputs; k++)
                for (int64_t i = 0; i < count; i++) {
                    REAL *to = dw + k * stride[0] + (c + i) * stride[1];
                    const REAL *from = block + k * taps * LANES + i;
                    for (int64_t t = 0; t < taps; t++) to[t] = from[t * LANES];
                }
        }
    } else {
        for (int64_t term = first_term; term < last_term; term++) {
            const int64_t tap = term / inputs;
            const REAL *from = sums + (term - first_term) * wide;
            REAL *to = dw + term % inputs * stride[1] + tap / T2 / T1 * stride[2] + tap / T2 % T1 * stride[3]
                + tap % T2 * stride[4];
            for (int64_t k = 0; k < outputs; k++) to[k * stride[0]] = from[k];
        }
    }
}

/* ── Gradient of the weights ── dw[k, c, t] = Σ over images and pixels of dy[k, o] x[c, t at o] ──
 *
 * The same multiplication with the sum over pixels: values of x under a tap are the rows, dy packed in panels the columns. A task
 * owns some weights and walks all tiles in order; sums run in registers within a tile and in memory from tile to tile. */

/* The weights of a task: of each group of its units `inputs` inputs, and of their terms those from first_term to before last_term. */
typedef struct {
    int64_t first_unit, last_unit; /* the latter excluded */
    int64_t first_group, groups;
    int64_t first_input, inputs, first_term, last_term;
    int64_t panel_size, sum_size; /* of a unit */
    REAL *panels, *sums;
} K(conv_share);

static K(conv_share) K(conv_share_of)(const cnn_correlation *p, const K(cut) *cut, int64_t task, REAL *panels, REAL *sums) {
    const int64_t wide = 2 * LANES, shares = p->channel_blocks * p->term_blocks;
    const int64_t channel_block = task % shares / p->term_blocks, term_block = task % shares % p->term_blocks;
    K(conv_share) s = {.panels = panels, .sums = sums};
    s.first_unit = task / shares * p->units;
    s.last_unit = K(smaller)(s.first_unit + p->units, p->unit_count);
    s.first_group = s.first_unit / cut->units;
    s.groups = (s.last_unit - 1) / cut->units - s.first_group + 1;
    s.first_input = K(block_start)(channel_block, p->channel_blocks, cut->inputs);
    s.inputs = K(block_start)(channel_block + 1, p->channel_blocks, cut->inputs) - s.first_input;
    const int64_t terms = cut->terms / cut->inputs * s.inputs;
    s.first_term = K(block_start)(term_block, p->term_blocks, terms);
    s.last_term = K(block_start)(term_block + 1, p->term_blocks, terms);
    s.panel_size = p->images * p->rows * p->columns * wide;
    s.sum_size = (s.last_term - s.first_term) * wide;
    return s;
}

/* Adds to a unit's sums the products of its dy, which is in product->panel, with the values under the task's terms, from `a` on. */
ALWAYS_INLINE void K(add_terms)(
    const K(conv_share) *s, const K(field) *f, const K(runs) *runs, const int64_t *offset, const REAL *a, int64_t unit,
    K(product) *product
) {
    const int64_t wide = 2 * LANES, length = runs->length;
    REAL *sum = s->sums + (unit - s->first_unit) * s->sum_size;
    for (int64_t run = s->first_term / length; run * length < s->last_term; run++) {
        const int64_t low = s->first_term > run * length ? s->first_term - run * length : 0;
        const int64_t count = K(smaller)(length, s->last_term - run * length) - low;
        const int64_t blocks = K(row_blocks)(count, f->channel);
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t start = K(block_start)(block, blocks, count);
            const int64_t height = K(block_start)(block + 1, blocks, count) - start;
            product->a = a + offset[run] + (low + start) * f->channel;
            /* The first unit reads x from memory: what the block after the next needs of it. */
            product->ahead = unit == s->first_unit ? product->a + 2 * ROWS * f->channel : NULL;
            product->y = sum + (run * length + low + start - s->first_term) * wide;
            K(multiply)(product, (int)height, product->columns > LANES ? 2 : 1);
        }
    }
}

/* Adds the products of one tile to the sums of all units of a task. */
static void K(add_tile)(const K(place) *at, const K(cut) *cut, const K(conv_share) *s, REAL *tile, int64_t *offset) {
    const cnn_correlation *p = at->p;
    const int64_t wide = 2 * LANES, *stride = p->y.stride;
    const K(field) f = K(field_of)(
        p, at->n, at->images, at->d, at->h, at->rows, at->w, at->columns, s->first_group * cut->inputs + s->first_input,
        (s->groups - 1) * cut->inputs + s->inputs, 1, tile
    );
    const K(runs) runs = K(runs_of)(p, &f, s->inputs, offset);
    int64_t *pixels = offset + p->taps[0] * p->taps[1] * p->taps[2];
    for (int64_t i = 0; i < at->images; i++)
        for (int64_t r = 0; r < at->rows; r++) pixels[i * at->rows + r] = i * f.image + r * f.row;
    K(product) product = {
        .row = f.channel,
        .step = f.column,
        .offset = pixels,
        .runs = at->images * at->rows,
        .length = at->columns,
        .y_row = wide,
        .ahead_step = f.column,
        .accumulate = 1
    };
    for (int64_t unit = s->first_unit; unit < s->last_unit; unit++) {
        const int64_t group = unit / cut->units, channel = unit % cut->units * wide;
        const int64_t outputs = K(smaller)(wide, cut->outputs - channel), width = outputs > LANES ? wide : LANES;
        REAL *dy = K(tile_of_y)(at) + (group * cut->outputs + channel) * stride[1];
        REAL *panel = s->panels + (unit - s->first_unit) * s->panel_size;
        K(transfer_tile)(&p->y, dy, at->images, at->rows, at->columns, outputs, panel, width, 0);
        product.panel = panel;
        product.columns = width;
        K(add_terms)(s, &f, &runs, offset, f.a + (group - s->first_group) * cut->inputs * f.channel, unit, &product);
    }
}

static void K(conv_weights)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_correlation *p = ((const cnn_correlations *)call)->part;
    const int64_t wide = 2 * LANES, *size = p->y.shape;
    const K(cut) cut = K(cut_by_group)(p);
    REAL *tile = scratch, *panels = (REAL *)((char *)scratch + p->x_bytes);
    REAL *sums = (REAL *)((char *)scratch + p->x_bytes + p->y_bytes);
    int64_t *offset = (int64_t *)((char *)sums + p->sum_bytes), left = CNN_PIECE;
    for (int64_t task = begin; task < end; task++) {
        const K(conv_share) s = K(conv_share_of)(p, &cut, task, panels, sums);
        K(fill_zero)(sums, (s.last_unit - s.first_unit) * s.sum_size);
        K(fill_zero)(panels, (s.last_unit - s.first_unit) * s.panel_size);
        K(place) at = {.p = p};
        for (at.n = 0; at.n < size[0]; at.n += p->images)
            for (at.d = 0; at.d < size[2]; at.d++)
                for (at.h = 0; at.h < size[3]; at.h += p->rows)
                    for (at.w = 0; at.w < size[4]; at.w += p->columns) {
                        at.images = K(smaller)(p->images, size[0] - at.n);
                        at.rows = K(smaller)(p->rows, size[3] - at.h);
                        at.columns = K(smaller)(p->columns, size[4] - at.w);
                        K(add_tile)(&at, &cut, &s, tile, offset);
                        if (cnn_stop_after(&left, at.images * at.rows * at.columns * s.sum_size / wide)) return;
                    }
        for (int64_t unit = s.first_unit; unit < s.last_unit; unit++) {
            const int64_t group = unit / cut.units, channel = unit % cut.units * wide;
            K(scatter_weights)(
                p, group * cut.outputs + channel, K(smaller)(wide, cut.outputs - channel), s.first_input, s.inputs,
                s.first_term, s.last_term, sums + (unit - s.first_unit) * s.sum_size, panels
            );
        }
    }
}

/* ── Depthwise ── few channels in a group: the vectors go over the output channels of many groups ──
 *
 * Each output channel meets its own input, so x is gathered as [pixel][input of the group][output channel], which for one
 * channel per group is its own layout. */

#define DEPTHWISE_ROWS 8

static K(field) K(spread_field)(
    const cnn_correlation *p, int64_t n, int64_t images, int64_t d, int64_t h, int64_t rows, int64_t w, int64_t columns,
    int64_t channel, int64_t channels, int64_t width, REAL *tile
) {
    const int64_t inputs = p->x.shape[1] / p->groups, outputs = p->y.shape[1] / p->groups;
    if (inputs == 1 && outputs == 1 && channels == width)
        return K(field_of)(p, n, images, d, h, rows, w, columns, channel, channels, 0, tile);
    const int64_t *stride = p->x.stride, *shape = p->x.shape, pitch = inputs * width;
    const K(reach) D = K(reach_of)(p, 0, d, 1), H = K(reach_of)(p, 1, h, rows), W = K(reach_of)(p, 2, w, columns);
    const int64_t row = W.slots * pitch;
    K(fill_zero)(tile, images * D.slots * H.slots * row);
    for (int64_t i = 0; i < images; i++)
        for (int64_t sd = 0; sd < D.slots; sd++)
            for (int64_t sh = 0; sh < H.slots; sh++) {
                const int64_t pd = K(slot_pixel)(&D, sd), ph = K(slot_pixel)(&H, sh);
                if (pd < 0 || pd >= shape[2] || ph < 0 || ph >= shape[3]) continue;
                const REAL *src = (const REAL *)p->x.data + (n + i) * stride[0] + pd * stride[2] + ph * stride[3];
                REAL *to = tile + ((i * D.slots + sd) * H.slots + sh) * row;
                for (int64_t c = 0; c < inputs; c++)
                    for (int64_t k = 0; k < channels; k++) {
                        const REAL *from = src + ((channel + k) / outputs * inputs + c) * stride[1];
                        for (int64_t slot = 0; slot < W.slots; slot++) {
                            const int64_t pixel = K(slot_pixel)(&W, slot);
                            if (pixel >= 0 && pixel < shape[4]) to[slot * pitch + c * width + k] = from[pixel * stride[4]];
                        }
                    }
            }
    return (K(field)){
        .a = tile,
        .image = D.slots * H.slots * row,
        .row = (H.by_tap ? 1 : H.stride) * row,
        .column = (W.by_tap ? 1 : W.stride) * pitch,
        .tap = {
            (D.by_tap ? 1 : D.step) * H.slots * row, (H.by_tap ? rows : H.step) * row, (W.by_tap ? columns : W.step) * pitch
        }
    };
}

/* Offsets of all terms, taps × inputs of a group, in a field whose channels are `width` wide. */
static void K(term_offsets)(const cnn_correlation *p, const K(field) *f, int64_t inputs, int64_t width, int64_t *offset) {
    for (int64_t td = 0; td < p->taps[0]; td++)
        for (int64_t th = 0; th < p->taps[1]; th++)
            for (int64_t tw = 0; tw < p->taps[2]; tw++)
                for (int64_t c = 0; c < inputs; c++) *offset++ = td * f->tap[0] + th * f->tap[1] + tw * f->tap[2] + c * width;
}

ALWAYS_INLINE void K(depthwise_rows)(
    const int rows, const REAL *a, int64_t column, const int64_t *offset, int64_t terms, const REAL *panel, int64_t width,
    const REAL *bias, int clamp, REAL lower, REAL upper, REAL *y, int64_t y_column, int64_t lanes
) {
    vreal sum[DEPTHWISE_ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) sum[i] = (vreal){0};
    for (int64_t t = 0; t < terms; t++, panel += width) {
        const REAL *x = a + offset[t];
        const vreal weight = K(load)(panel);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) sum[i] += weight * K(load)(x + i * column);
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        if (bias) sum[i] += K(load)(bias);
        if (clamp) sum[i] = K(clamped)(sum[i], lower, upper);
        if (lanes == LANES) K(store)(y + i * y_column, sum[i]);
        else K(store_tail)(y + i * y_column, sum[i], lanes);
    }
}

/* Windows of one channel each, read where they lie: with taps and stride known, each pixel is loaded once for all of the outputs in
 * registers that see it. Taps that lie outside the image are left out. */
typedef struct {
    const REAL *x;              /* the image: its first pixel, of the first channel of the vector */
    int64_t plane, row, column; /* strides of x */
    int64_t extent[3];          /* of x: D, H, W */
    int64_t d, h, w;            /* where the first window begins, perhaps outside the image */
    int64_t height;             /* taps along H */
    int64_t depth_step, height_step;
    int64_t first[2], last[2]; /* along D and H the taps inside the image: from first to before last */
    const REAL *panel;
    int64_t width;    /* from tap to tap of the panel */
    const REAL *bias; /* NULL: none */
    int clamp;        /* y is held between these two: */
    REAL lower, upper;
    REAL *y;
    int64_t y_row, y_column;
} K(windows);

/* The taps 0 … taps − 1, `step` apart from `at` on, that lie in an axis of `extent` pixels: from *first to before *last. */
static inline void K(taps_inside)(int64_t at, int64_t step, int64_t taps, int64_t extent, int64_t *first, int64_t *last) {
    *first = at >= 0 ? 0 : K(smaller)((-at + step - 1) / step, taps);
    *last = at >= extent ? 0 : K(smaller)((extent - 1 - at) / step + 1, taps);
}

ALWAYS_INLINE void K(write_windows)(const K(windows) *v, vreal *sum, const int columns, REAL *y) {
    const int64_t column = v->y_column;
    if (v->bias) {
        const vreal bias = K(load)(v->bias);
#pragma GCC unroll 8
        for (int i = 0; i < columns; i++) sum[i] += bias;
    }
    if (v->clamp) {
        const REAL lower = v->lower, upper = v->upper;
#pragma GCC unroll 8
        for (int i = 0; i < columns; i++) sum[i] = K(clamped)(sum[i], lower, upper);
    }
#pragma GCC unroll 8
    for (int i = 0; i < columns; i++) K(store)(y + i * column, sum[i]);
}

/* Add the products of a row of pixels, from the first window's first column on, with a row of taps. Padding is less than a window:
 * only the outer pixels can lie in it. */
ALWAYS_INLINE void K(add_row_of_taps)(
    const K(windows) *v, vreal *sum, const REAL *x, const vreal *weight, const int columns, const int taps, const int stride,
    const int inside
) {
    const int pixels = (columns - 1) * stride + taps;
    const int64_t column = v->column, first = -v->w, last = v->extent[2] - v->w;
#pragma GCC unroll 32
    for (int i = 0; i < pixels; i++, x += column) {
        if (!inside && (i < taps - 1 || i > pixels - taps) && (i < first || i >= last)) continue;
        const vreal pixel = K(load)(x);
#pragma GCC unroll 5
        for (int t = 0; t < taps; t++)
            if (i >= t && (i - t) % stride == 0 && (i - t) / stride < columns) sum[(i - t) / stride] += weight[t] * pixel;
    }
}

/* `columns` windows beside one another, a row of taps at a time. */
ALWAYS_INLINE void K(windows_in_a_row)(
    const K(windows) *v, const int columns, const int taps, const int stride, const int inside
) {
    vreal sum[DEPTHWISE_ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < columns; i++) sum[i] = (vreal){0};
    for (int64_t td = v->first[0]; td < v->last[0]; td++)
        for (int64_t th = v->first[1]; th < v->last[1]; th++) {
            const REAL *x = v->x + (v->d + td * v->depth_step) * v->plane + (v->h + th * v->height_step) * v->row
                + v->w * v->column;
            const REAL *panel = v->panel + (td * v->height + th) * taps * v->width;
            vreal weight[5];
#pragma GCC unroll 5
            for (int t = 0; t < taps; t++) weight[t] = K(load)(panel + t * v->width);
            K(add_row_of_taps)(v, sum, x, weight, columns, taps, stride, inside);
        }
    K(write_windows)(v, sum, columns, v->y);
}

/* Add the products of a row of pixels with the rows of taps that meet it: with stride 1 taps 2, 1, 0 of the three rows of windows that
 * see it, with stride 2 taps 2 and 0 of two, or, of an `odd` row, tap 1 of the second. */
ALWAYS_INLINE void K(add_rows_of_taps)(
    const K(windows) *v, vreal (*sum)[DEPTHWISE_ROWS], const REAL *x, const vreal *weight, const int odd, const int columns,
    const int stride, const int inside
) {
    const int pixels = (columns - 1) * stride + 3;
    const int64_t column = v->column, first = -v->w, last = v->extent[2] - v->w;
#pragma GCC unroll 32
    for (int i = 0; i < pixels; i++, x += column) {
        if (!inside && (i < 2 || i > pixels - 3) && (i < first || i >= last)) continue;
        const vreal pixel = K(load)(x);
#pragma GCC unroll 3
        for (int r = 0; r < 3; r++) {
            if (stride == 2 && (r == 2 || (odd && r == 0))) continue;
            const vreal *taps = weight + 3 * (odd ? 1 : 2 - r * stride);
#pragma GCC unroll 3
            for (int t = 0; t < 3; t++)
                if (i >= t && (i - t) % stride == 0 && (i - t) / stride < columns) sum[r][(i - t) / stride] += taps[t] * pixel;
        }
    }
}

/* 3×3 windows of a plane, `columns` beside one another, walked down through `rows` rows of outputs: the nine weights and the sums of
 * all windows that see a row of pixels stay in registers. */
ALWAYS_INLINE void K(windows_downwards)(
    const K(windows) *v, const int64_t rows, const int columns, const int stride, const int inside
) {
    const int open = stride == 1 ? 3 : 2; /* rows of windows that see a row of pixels; the first is complete with it */
    vreal weight[9], sum[3][DEPTHWISE_ROWS];
#pragma GCC unroll 9
    for (int t = 0; t < 9; t++) weight[t] = K(load)(v->panel + t * v->width);
#pragma GCC unroll 3
    for (int r = 0; r < open; r++)
#pragma GCC unroll 8
        for (int i = 0; i < columns; i++) sum[r][i] = (vreal){0};
    const REAL *x = v->x + v->d * v->plane + v->h * v->row + v->w * v->column;
    REAL *y = v->y - 2 / stride * v->y_row;
    const int64_t pixels = (rows - 1) * stride + 3;
    for (int64_t row = 0; row < pixels; row += stride, x += stride * v->row, y += v->y_row) {
        const int64_t h = v->h + row;
        if (h >= 0 && h < v->extent[1]) K(add_rows_of_taps)(v, sum, x, weight, 0, columns, stride, inside);
        if (row >= 2) K(write_windows)(v, sum[0], columns, y);
        if (stride == 2 && row + 1 < pixels && h >= -1 && h + 1 < v->extent[1])
            K(add_rows_of_taps)(v, sum, x + v->row, weight, 1, columns, stride, inside);
#pragma GCC unroll 3
        for (int r = 0; r < open; r++)
#pragma GCC unroll 8
            for (int i = 0; i < columns; i++) sum[r][i] = r + 1 < open ? sum[r + 1][i] : (vreal){0};
    }
}
#define DOWNWARDS(columns, stride) \
    static __attribute__((noinline)) void K(downwards_##stride##_##columns)(const K(windows) *v, int64_t rows, int inside) { \
        if (inside) K(windows_downwards)(v, rows, columns, stride, 1); \
        else K(windows_downwards)(v, rows, columns, stride, 0); \
    }
DOWNWARDS(7, 1) DOWNWARDS(4, 1) DOWNWARDS(1, 1)
DOWNWARDS(7, 2) DOWNWARDS(4, 2) DOWNWARDS(1, 2)
#undef DOWNWARDS

#define IN_A_ROW(columns, taps, stride) \
    static __attribute__((noinline)) void K(in_a_row_##taps##_##stride##_##columns)(const K(windows) *v, int inside) { \
        if (inside) K(windows_in_a_row)(v, columns, taps, stride, 1); \
        else K(windows_in_a_row)(v, columns, taps, stride, 0); \
    }
#define IN_ROWS(taps, stride) \
    IN_A_ROW(8, taps, stride) IN_A_ROW(7, taps, stride) IN_A_ROW(4, taps, stride) IN_A_ROW(1, taps, stride)
IN_ROWS(3, 1) IN_ROWS(3, 2) IN_ROWS(5, 1) IN_ROWS(5, 2)
#undef IN_ROWS
#undef IN_A_ROW

/* Of the sizes of a block the one that covers `columns` with the fewest outputs computed twice: a last block goes back over outputs
 * that were there already. */
enum { K(block_8), K(block_7), K(block_4), K(block_1), K(block_sizes) };
static const int64_t K(block_columns)[K(block_sizes)] = {8, 7, 4, 1};

static inline int64_t K(block_of_columns)(int64_t columns, int64_t largest) {
    int64_t found = K(block_1);
    int64_t least = 0;
    for (int64_t size = largest; size < K(block_1); size++) {
        const int64_t block = K(block_columns)[size], computed = (columns + block - 1) / block * block;
        if (columns >= block && (found == K(block_1) || computed < least)) {
            found = size;
            least = computed;
        }
    }
    return found;
}

/* Whether the windows of a correlation are such: then its channels come as whole vectors. */
static inline int K(reads_windows)(const cnn_correlation *p) {
    return p->x.shape[1] == p->groups && p->y.shape[1] == p->groups && p->x.stride[1] == 1 && p->groups % LANES == 0
        && (p->taps[2] == 3 || p->taps[2] == 5) && (p->stride[2] == 1 || p->stride[2] == 2) && p->step[2] == 1
        && -p->first[2] < p->taps[2] && (p->y.shape[4] - 1) * p->stride[2] + p->first[2] < p->x.shape[4];
}

/* Whether they are windows that windows_downwards knows. */
static inline int K(walks_downwards)(const cnn_correlation *p) {
    return p->taps[0] == 1 && p->first[0] == 0 && p->x.shape[2] == p->y.shape[2] && p->taps[1] == 3 && p->taps[2] == 3
        && p->step[1] == 1 && p->stride[1] == p->stride[2];
}

/* A tile of outputs of a unit, block by block: the vectors of a block lie side by side in memory and are fetched together. */
static void K(tile_of_windows)(
    const K(place) *at, int64_t channel, int64_t channels, const REAL *panel, int64_t width, REAL *y, int64_t y_image,
    int64_t y_row, int64_t y_column
) {
    static void (*const in_a_row[2][2][K(block_sizes)])(const K(windows) *, int) = {
#define SIZES(taps, stride) \
    { \
        K(in_a_row_##taps##_##stride##_8), K(in_a_row_##taps##_##stride##_7), K(in_a_row_##taps##_##stride##_4), \
            K(in_a_row_##taps##_##stride##_1), \
    }
        {SIZES(3, 1), SIZES(3, 2)}, {SIZES(5, 1), SIZES(5, 2)}
#undef SIZES
    };
    static void (*const downwards[2][K(block_sizes)])(const K(windows) *, int64_t, int) = {
        {NULL, K(downwards_1_7), K(downwards_1_4), K(downwards_1_1)},
        {NULL, K(downwards_2_7), K(downwards_2_4), K(downwards_2_1)}
    };
    const cnn_correlation *p = at->p;
    const int64_t *stride = p->x.stride, *shape = p->x.shape, taps = p->taps[2];
    const int walks = K(walks_downwards)(p);
    const int64_t size = K(block_of_columns)(at->columns, walks ? K(block_7) : K(block_8));
    const int64_t block = K(block_columns)[size];
    K(windows) v = {
        .plane = stride[2],
        .row = stride[3],
        .column = stride[4],
        .extent = {shape[2], shape[3], shape[4]},
        .d = at->d * p->stride[0] + p->first[0],
        .height = p->taps[1],
        .depth_step = p->step[0],
        .height_step = p->step[1],
        .width = width,
        .clamp = K(clamps)(p),
        .lower = (REAL)p->lower,
        .upper = (REAL)p->upper,
        .y_row = y_row,
        .y_column = y_column
    };
    K(taps_inside)(v.d, v.depth_step, p->taps[0], shape[2], &v.first[0], &v.last[0]);
    for (int64_t i = 0; i < at->images; i++)
        for (int64_t r = 0; r < (walks ? 1 : at->rows); r++) {
            v.h = (at->h + r) * p->stride[1] + p->first[1];
            K(taps_inside)(v.h, v.height_step, v.height, shape[3], &v.first[1], &v.last[1]);
            for (int64_t first = 0; first < at->columns; first += block) {
                const int64_t w = K(smaller)(first, at->columns - block);
                v.w = (at->w + w) * p->stride[2] + p->first[2];
                const int inside = v.w >= 0 && v.w + (block - 1) * p->stride[2] + taps <= shape[4];
                for (int64_t c = 0; c < channels; c += LANES) {
                    v.x = (const REAL *)p->x.data + (at->n + i) * stride[0] + channel + c;
                    v.panel = panel + c;
                    v.bias = p->bias ? (const REAL *)p->bias + channel + c : NULL;
                    v.y = y + i * y_image + r * y_row + w * y_column + c;
                    if (walks) downwards[p->stride[2] - 1][size](&v, at->rows, inside);
                    else in_a_row[taps == 5][p->stride[2] - 1][size](&v, inside);
                }
            }
        }
}

static void K(conv_depthwise)(void *call, int64_t begin, int64_t end, void *scratch) {
    const int64_t wide = 2 * LANES;
    for (int64_t task = begin; task < end; task++) {
        const K(place) at = K(place_of)(call, task);
        const cnn_correlation *p = at.p;
        const K(cut) cut = K(cut_of)(p->x.shape[1] / p->groups, p->y.shape[1], p->taps);
        REAL *tile = scratch, *y_tile = (REAL *)((char *)scratch + p->x_bytes);
        int64_t *offset = (int64_t *)((char *)scratch + p->x_bytes + p->y_bytes);
        const int in_place = p->y.stride[1] == 1, clamp = K(clamps)(p), reads_windows = K(reads_windows)(p);
        for (int64_t unit = at.first_unit; unit < at.last_unit; unit++) {
            const int64_t channel = unit * wide, channels = K(smaller)(wide, cut.outputs - channel);
            const int64_t width = channels > LANES ? wide : LANES;
            const K(field) f = reads_windows
                ? (K(field)){0}
                : K(spread_field)(p, at.n, at.images, at.d, at.h, at.rows, at.w, at.columns, channel, channels, width, tile);
            if (!reads_windows) K(term_offsets)(p, &f, cut.inputs, width, offset);
            REAL *y = in_place ? K(tile_of_y)(&at) + channel : y_tile;
            const int64_t y_column = in_place ? p->y.stride[4] : channels;
            const int64_t y_row = in_place ? p->y.stride[3] : at.columns * y_column;
            const int64_t y_image = in_place ? p->y.stride[0] : at.rows * y_row;
            const REAL *panels = (const REAL *)p->panels + channel * cut.terms;
            if (reads_windows) K(tile_of_windows)(&at, channel, channels, panels, width, y, y_image, y_row, y_column);
            for (int64_t v = 0; v < channels && !reads_windows; v += LANES) {
                const REAL *panel = panels + v;
                const REAL *bias = p->bias ? (const REAL *)p->bias + channel + v : NULL;
                const int64_t lanes = K(smaller)(LANES, channels - v);
                for (int64_t i = 0; i < at.images; i++)
                    for (int64_t r = 0; r < at.rows; r++) {
                        REAL *to = y + i * y_image + r * y_row + v;
                        const REAL *a = f.a + i * f.image + r * f.row + v;
                        int64_t w = 0;
                        for (; w + DEPTHWISE_ROWS <= at.columns; w += DEPTHWISE_ROWS)
                            K(depthwise_rows)(
                                DEPTHWISE_ROWS, a + w * f.column, f.column, offset, cut.terms, panel, width, bias, clamp,
                                (REAL)p->lower, (REAL)p->upper, to + w * y_column, y_column, lanes
                            );
                        for (; w < at.columns; w++)
                            K(depthwise_rows)(
                                1, a + w * f.column, f.column, offset, cut.terms, panel, width, bias, clamp, (REAL)p->lower,
                                (REAL)p->upper, to + w * y_column, y_column, lanes
                            );
                    }
            }
            if (!in_place)
                K(transfer_tile)(
                    &p->y, K(tile_of_y)(&at) + channel * p->y.stride[1], at.images, at.rows, at.columns, channels, y, y_column,
                    1
                );
        }
    }
}

ALWAYS_INLINE void K(depthwise_terms)(
    const int terms, const REAL *a, int64_t column, const int64_t *offset, const REAL *dy, int64_t width, int64_t columns,
    REAL *sums
) {
    vreal sum[DEPTHWISE_ROWS];
#pragma GCC unroll 8
    for (int t = 0; t < terms; t++) sum[t] = K(load)(sums + t * 2 * LANES);
    for (int64_t w = 0; w < columns; w++, a += column, dy += width) {
        const vreal g = K(load)(dy);
#pragma GCC unroll 8
        for (int t = 0; t < terms; t++) sum[t] += g * K(load)(a + offset[t]);
    }
#pragma GCC unroll 8
    for (int t = 0; t < terms; t++) K(store)(sums + t * 2 * LANES, sum[t]);
}

/* Tasks own units; sums of a row of pixels run in registers, of a tile in `sums`, and tiles are added up in `totals`. */
static void K(conv_depthwise_weights)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_correlation *p = ((const cnn_correlations *)call)->part;
    const int64_t wide = 2 * LANES, *size = p->y.shape;
    const K(cut) cut = K(cut_of)(p->x.shape[1] / p->groups, p->y.shape[1], p->taps);
    REAL *tile = scratch, *dy = (REAL *)((char *)scratch + p->x_bytes);
    REAL *totals = (REAL *)((char *)scratch + p->x_bytes + p->y_bytes), *sums = totals + cut.terms * wide;
    int64_t *offset = (int64_t *)((char *)totals + p->sum_bytes), left = CNN_PIECE;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t channel = unit * wide, channels = K(smaller)(wide, cut.outputs - channel);
        const int64_t width = channels > LANES ? wide : LANES;
        K(fill_zero)(totals, cut.terms * wide);
        K(fill_zero)(dy, p->columns * width);
        for (int64_t n = 0; n < size[0]; n += p->images)
            for (int64_t d = 0; d < size[2]; d++)
                for (int64_t h = 0; h < size[3]; h += p->rows)
                    for (int64_t w = 0; w < size[4]; w += p->columns) {
                        const int64_t images = K(smaller)(p->images, size[0] - n), rows = K(smaller)(p->rows, size[3] - h);
                        const int64_t columns = K(smaller)(p->columns, size[4] - w);
                        const K(field) f = K(spread_field)(
                            p, n, images, d, h, rows, w, columns, channel, channels, width, tile
                        );
                        K(term_offsets)(p, &f, cut.inputs, width, offset);
                        K(fill_zero)(sums, cut.terms * wide);
                        for (int64_t i = 0; i < images; i++)
                            for (int64_t r = 0; r < rows; r++) {
                                K(transfer)(
                                    dy, width, 1,
                                    (const REAL *)p->y.data + (n + i) * p->y.stride[0] + channel * p->y.stride[1]
                                        + d * p->y.stride[2] + (h + r) * p->y.stride[3] + w * p->y.stride[4],
                                    p->y.stride[4], p->y.stride[1], columns, channels
                                );
                                const REAL *a = f.a + i * f.image + r * f.row;
                                for (int64_t v = 0; v < width; v += LANES) {
                                    int64_t t = 0;
                                    for (; t + DEPTHWISE_ROWS <= cut.terms; t += DEPTHWISE_ROWS)
                                        K(depthwise_terms)(
                                            DEPTHWISE_ROWS, a + v, f.column, offset + t, dy + v, width, columns,
                                            sums + t * wide + v
                                        );
                                    for (; t < cut.terms; t++)
                                        K(depthwise_terms)(
                                            1, a + v, f.column, offset + t, dy + v, width, columns, sums + t * wide + v
                                        );
                                }
                            }
                        for (int64_t t = 0; t < cut.terms * wide; t += LANES)
                            K(store)(totals + t, K(load)(totals + t) + K(load)(sums + t));
                        if (cnn_stop_after(&left, images * rows * columns * cut.terms)) return;
                    }
        const int64_t T1 = p->taps[1], T2 = p->taps[2];
        for (int64_t t = 0; t < cut.terms; t++) {
            const int64_t tap = t / cut.inputs;
            K(transfer)(
                (REAL *)p->w.data + channel * p->w.stride[0] + t % cut.inputs * p->w.stride[1] + tap / T2 / T1 * p->w.stride[2]
                    + tap / T2 % T1 * p->w.stride[3] + tap % T2 * p->w.stride[4],
                0, p->w.stride[0], totals + t * wide, 0, 1, 1, channels
            );
        }
    }
}

/* ── Gradient of the bias ── db[k] = Σ dy over images and pixels; tasks are vectors of channels ──
 *
 * Sums run within a row of pixels and then over the rows, which keeps rounding errors small. */

static void K(conv_channel_sums)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_correlation *p = ((const cnn_correlations *)call)->part;
    const int64_t *size = p->y.shape, *stride = p->y.stride;
    int64_t left = CNN_PIECE;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t channel = task * LANES, channels = K(smaller)(LANES, size[1] - channel);
        REAL total[LANES] = {0};
        for (int64_t row = 0; row < size[0] * size[2] * size[3]; row++) {
            const REAL *y = (const REAL *)p->y.data + channel * stride[1] + row / size[3] / size[2] * stride[0]
                + row / size[3] % size[2] * stride[2] + row % size[3] * stride[3];
            if (stride[1] == 1 && channels == LANES) {
                vreal sum = {0};
                for (int64_t w = 0; w < size[4]; w++) sum += K(load)(y + w * stride[4]);
                K(store)(total, K(load)(total) + sum);
            } else if (stride[4] == 1) {
                for (int64_t k = 0; k < channels; k++) {
                    vreal sum = {0};
                    int64_t w = 0;
                    for (; w + LANES <= size[4]; w += LANES) sum += K(load)(y + k * stride[1] + w);
                    sum += K(load_tail)(y + k * stride[1] + w, size[4] - w);
                    REAL row_sum = 0;
                    for (int l = 0; l < LANES; l++) row_sum += sum[l];
                    total[k] += row_sum;
                }
            } else {
                for (int64_t k = 0; k < channels; k++) {
                    REAL sum = 0;
                    for (int64_t w = 0; w < size[4]; w++) sum += y[k * stride[1] + w * stride[4]];
                    total[k] += sum;
                }
            }
            if (cnn_stop_after(&left, size[4] * channels)) return;
        }
        for (int64_t k = 0; k < channels; k++) ((REAL *)p->w.data)[(channel + k) * p->w.stride[0]] = total[k];
    }
}

/* ── Largest values ── largest[n, d, h, w] = max_c |x[n, c, d, h, w]|, ∞ where one is not finite; tasks are rows (n, d, h) ──
 *
 * Compared as integers: of absolute values the bits are in the same order, and those of ∞ and NaN are above all others. */

static inline vmask K(larger_bits)(vmask most, vreal x) {
    const INTEGER magnitude = (INTEGER)(~(uint64_t)0 >> (65 - REAL_BITS));
    const vmask bits = (vmask)x & magnitude;
    vmask y = {0};
    for (int l = 0; l < LANES; l++) y[l] = bits[l] > most[l] ? bits[l] : most[l];
    return y;
}

static inline double K(value_of_bits)(INTEGER bits) {
    REAL value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value < (REAL)__builtin_inf() ? (double)value : __builtin_inf();
}

static void K(largest_values)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_largest *v = call;
    const int64_t *size = v->x.shape, *stride = v->x.stride;
    (void)scratch;
    for (int64_t row = begin; row < end; row++) {
        const REAL *x = (const REAL *)v->x.data + row / size[3] / size[2] * stride[0] + row / size[3] % size[2] * stride[2]
            + row % size[3] * stride[3];
        double *largest = v->largest + row * size[4];
        for (int64_t w = 0; w < size[4] && stride[1] == 1; w += LANES) {
            const int64_t pixels = K(smaller)(LANES, size[4] - w);
            vreal rows[LANES]; /* a pixel each, and then a channel of each pixel */
            vmask most = {0};
            for (int64_t l = 0; l < LANES; l++) {
                const REAL *pixel = x + (w + K(smaller)(l, pixels - 1)) * stride[4];
                vmask bits = {0};
                int64_t c = 0;
                for (; c + LANES <= size[1]; c += LANES) bits = K(larger_bits)(bits, K(load)(pixel + c));
                if (c < size[1]) bits = K(larger_bits)(bits, K(load_tail)(pixel + c, size[1] - c));
                rows[l] = (vreal)bits;
            }
            K(transpose_registers)(rows);
            for (int l = 0; l < LANES; l++) most = K(larger_bits)(most, rows[l]);
            for (int64_t l = 0; l < pixels; l++) largest[w + l] = K(value_of_bits)(most[l]);
        }
        if (stride[1] == 1) continue;
        for (int64_t w = 0; w < size[4]; w += LANES) {
            const int64_t pixels = K(smaller)(LANES, size[4] - w);
            vmask most = {0};
            for (int64_t c = 0; c < size[1]; c++) {
                const REAL *plane = x + c * stride[1] + w * stride[4];
                REAL block[LANES] = {0};
                if (stride[4] != 1)
                    for (int64_t l = 0; l < pixels; l++) block[l] = plane[l * stride[4]];
                most = K(larger_bits)(
                    most,
                    stride[4] != 1        ? K(load)(block)
                        : pixels == LANES ? K(load)(plane)
                                          : K(load_tail)(plane, pixels)
                );
            }
            for (int64_t l = 0; l < pixels; l++) largest[w + l] = K(value_of_bits)(most[l]);
        }
    }
}

/* ── Pixels that no window reaches ── y[n, k, o] = b[k], or 0; tasks are rows (n, d, h) ── */

static void K(conv_fill)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_correlation *p = ((const cnn_correlations *)call)->part;
    const int64_t *size = p->y.shape, *stride = p->y.stride;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        REAL *y = (REAL *)p->y.data + task / size[3] / size[2] * stride[0] + task / size[3] % size[2] * stride[2]
            + task % size[3] * stride[3];
        for (int64_t k = 0; k < size[1]; k++) {
            const REAL value = p->bias ? ((const REAL *)p->bias)[k * p->bias_stride] : 0;
            for (int64_t w = 0; w < size[4]; w++) y[k * stride[1] + w * stride[4]] = value;
        }
    }
}
