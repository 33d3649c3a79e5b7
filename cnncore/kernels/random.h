/* The random number generator, and dropout. The reference implementations, with their formulas, are in runtime/random.pyx and
 * .pxd. */

#undef BLOCKS
#define BLOCKS 32 /* blocks of the generator that are computed together */

/* Both numbers of each pair of a seed's sequence, in units of 2^-53: one block of Philox4x32-10 per pair. */
static inline void K(philox)(uint64_t seed, const uint64_t *pair, uint64_t *even, uint64_t *odd) {
    uint32_t c0[BLOCKS], c1[BLOCKS], c2[BLOCKS] = {0}, c3[BLOCKS] = {0};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int l = 0; l < BLOCKS; l++) {
        c0[l] = (uint32_t)pair[l];
        c1[l] = (uint32_t)(pair[l] >> 32);
    }
    for (int step = 0; step < 10; step++, k0 += UINT32_C(0x9E3779B9), k1 += UINT32_C(0xBB67AE85))
        for (int l = 0; l < BLOCKS; l++) {
            const uint64_t p0 = (uint64_t)UINT32_C(0xD2511F53) * c0[l], p1 = (uint64_t)UINT32_C(0xCD9E8D57) * c2[l];
            c0[l] = (uint32_t)(p1 >> 32) ^ c1[l] ^ k0;
            c1[l] = (uint32_t)p1;
            c2[l] = (uint32_t)(p0 >> 32) ^ c3[l] ^ k1;
            c3[l] = (uint32_t)p0;
        }
    for (int l = 0; l < BLOCKS; l++) {
        even[l] = ((uint64_t)c1[l] << 32 | c0[l]) >> 11;
        odd[l] = ((uint64_t)c3[l] << 32 | c2[l]) >> 11;
    }
}

/* The same for pairs first ... first + BLOCKS - 1. */
static inline void K(philox_run)(uint64_t seed, int64_t first, uint64_t *even, uint64_t *odd) {
    uint64_t pair[BLOCKS];
    for (int l = 0; l < BLOCKS; l++) pair[l] = (uint64_t)(first + l);
    K(philox)(seed, pair, even, odd);
}

/* Tasks are pairs of adjacent values. */
static void K(between_draw)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_between *call = description;
    const double low = call->low, unit = (call->high - low) * (1.0 / 9007199254740992.0);
    (void)scratch;
    for (int64_t first = begin; first < end; first += BLOCKS) {
        uint64_t even[BLOCKS], odd[BLOCKS];
        REAL values[2 * BLOCKS];
        K(philox_run)(call->seed, first, even, odd);
        for (int l = 0; l < BLOCKS; l++) {
            values[2 * l] = (REAL)(low + unit * (double)(int64_t)even[l]);
            values[2 * l + 1] = (REAL)(low + unit * (double)(int64_t)odd[l]);
        }
        const int64_t pairs = end - first < BLOCKS ? end - first : BLOCKS;
        const int64_t rest = call->size - 2 * first, count = 2 * pairs < rest ? 2 * pairs : rest;
        memcpy((REAL *)call->values + 2 * first, values, (size_t)count * sizeof(REAL));
    }
}

/* Tasks are pairs of adjacent values. k / 2^53 >= p is decided on integers. */
static void K(dropout_draw)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_dropout *call = description;
    const uint64_t least = (uint64_t)ceil(call->p * 9007199254740992.0);
    (void)scratch;
    for (int64_t first = begin; first < end; first += BLOCKS) {
        uint64_t even[BLOCKS], odd[BLOCKS];
        uint8_t kept[2 * BLOCKS];
        K(philox_run)(call->seed, first, even, odd);
        for (int l = 0; l < BLOCKS; l++) {
            kept[2 * l] = even[l] >= least;
            kept[2 * l + 1] = odd[l] >= least;
        }
        const int64_t pairs = end - first < BLOCKS ? end - first : BLOCKS;
        const int64_t rest = call->size - 2 * first, count = 2 * pairs < rest ? 2 * pairs : rest;
        memcpy(call->mask + 2 * first, kept, (size_t)count);
    }
}

/* y = scale x + shift where the mask is not 0, else fill, for `count` contiguous cells; mask_step 0: one mask for all. */
static inline void K(select_run)(
    const cnn_dropout *call, const REAL *x, REAL *y, const uint8_t *mask, int64_t mask_step, int64_t count
) {
    const REAL scale = (REAL)call->scale, shift = (REAL)call->shift, fill = (REAL)call->fill;
    if (mask_step != 0)
        for (int64_t i = 0; i < count; i++) {
            const REAL kept = scale * x[i] + shift;
            y[i] = mask[i] ? kept : fill;
        }
    else if (*mask)
        for (int64_t i = 0; i < count; i++) y[i] = scale * x[i] + shift;
    else
        for (int64_t i = 0; i < count; i++) y[i] = fill;
}

/* Tasks are blocks of cells of all channels of an image. */
static void K(dropout_select)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_dropout *call = description;
    const cnn_tensor *x = &call->x, *y = &call->y;
    const int64_t cells = x->shape[2] * x->shape[3] * x->shape[4];
    const int merged = x->shape[2] == 1 && x->shape[3] == 1 && y->shape[2] == 1 && y->shape[3] == 1;
    const int contiguous = merged && x->stride[4] == 1 && y->stride[4] == 1;
    const REAL scale = (REAL)call->scale, shift = (REAL)call->shift, fill = (REAL)call->fill;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const int64_t n = task / call->blocks, first = task % call->blocks * call->block;
        const int64_t count = cells - first < call->block ? cells - first : call->block;
        for (int64_t c = 0; c < x->shape[1]; c++) {
            const int64_t plane = n * x->shape[1] + c;
            const uint8_t *mask = call->mask + (call->per_channel ? plane : plane * cells + first);
            const REAL *from = (const REAL *)x->data + n * x->stride[0] + c * x->stride[1];
            REAL *to = (REAL *)y->data + n * y->stride[0] + c * y->stride[1];
            if (contiguous) K(select_run)(call, from + first, to + first, mask, !call->per_channel, count);
            for (int64_t i = 0; !contiguous && i < count; i++) {
                const REAL kept = scale * from[cnn_cell(x, first + i)] + shift;
                to[cnn_cell(y, first + i)] = mask[call->per_channel ? 0 : i] ? kept : fill;
            }
        }
    }
}
