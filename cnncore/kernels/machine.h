/* The peak rate of the processor: independent multiply-adds on registers, without any memory access.
 *
 * Enough accumulators that none waits for its own result (latency 4 or 5 cycles, two multiply-adds per cycle), and few
 * enough that all stay in registers. Measured by cnncore.cpu.peak.
 */
enum { K(peak_sums) = VECTOR_REGISTERS - VECTOR_REGISTERS / 4 };

static void K(multiply_add_peak)(void *call, int64_t begin, int64_t end, void *scratch) {
    const cnn_multiply_adds *c = call;
    (void)scratch;
    for (int64_t task = begin; task < end; task++) {
        const vreal factor = K(splat)((REAL)c->factor), addend = K(splat)((REAL)c->addend);
        vreal sum[K(peak_sums)];
#pragma GCC unroll 32
        for (int k = 0; k < K(peak_sums); k++) sum[k] = K(splat)((REAL)k); /* equal chains would be merged by the compiler */
        for (int64_t step = 0; step < c->steps; step++) {
#pragma GCC unroll 32
            for (int k = 0; k < K(peak_sums); k++) sum[k] = sum[k] * factor + addend;
        }
        vreal total = sum[0];
#pragma GCC unroll 32
        for (int k = 1; k < K(peak_sums); k++) total += sum[k];
        c->total[task] = 0;
        for (int l = 0; l < LANES; l++) c->total[task] += total[l];
        c->count[task] = (double)c->steps * LANES * K(peak_sums);
    }
}
