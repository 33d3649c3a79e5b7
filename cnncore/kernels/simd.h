/* Vectors of REAL: vreal has LANES lanes, as wide as the target's registers, by GCC and Clang vector extensions.
 *
 * Arithmetic on a vreal is written with + - * / and comparisons, which the compiler maps to the target's instructions. A
 * comparison gives a vmask: -1 in the lanes where it holds, 0 elsewhere. Included once per target and precision by target.h,
 * which defines REAL, INTEGER (as wide as REAL), LANES and K(name).
 */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__) || defined(CNN_EMULATED_AVX512) && VECTOR_BYTES == 64 || defined(__aarch64__)
#define VECTOR_REGISTERS 32
#else
#define VECTOR_REGISTERS 16
#endif

typedef REAL K(vector) __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef INTEGER K(mask) __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#define vreal K(vector)
#define vmask K(mask)

static inline vreal K(load)(const REAL *p) { return *(const vreal *)p; }
static inline void K(store)(REAL *p, vreal v) { *(vreal *)p = v; }
static inline vreal K(splat)(REAL a) { return a - (vreal){0}; }
static inline vreal K(select)(vmask m, vreal a, vreal b) { return (vreal)((m & (vmask)a) | (~m & (vmask)b)); }

/* a where a > b, else b; b if either is NaN. Written lane by lane, which compilers recognise as the max instruction. */
static inline vreal K(larger)(vreal a, vreal b) {
    vreal y = {0};
    for (int l = 0; l < LANES; l++) y[l] = a[l] > b[l] ? a[l] : b[l];
    return y;
}

/* Whether any lane is NaN. */
static inline int K(has_nan)(vreal a) {
    INTEGER any = 0;
    for (int l = 0; l < LANES; l++) any |= a[l] != a[l];
    return any != 0;
}

/* Tails: the first `lanes` < LANES lanes, without reading or writing beyond them. Copied in halves, because a copy of constant
 * size is one instruction and one of variable size is a call. */
static inline vreal K(load_tail)(const REAL *p, int64_t lanes) {
    REAL part[LANES] = {0};
    REAL *q = part;
#pragma GCC unroll 4
    for (int64_t half = LANES / 2; half; half /= 2)
        if (lanes & half) {
            __builtin_memcpy(q, p, (size_t)half * sizeof(REAL));
            p += half;
            q += half;
        }
    return K(load)(part);
}
static inline void K(store_tail)(REAL *p, vreal v, int64_t lanes) {
    REAL part[LANES];
    const REAL *q = part;
    K(store)(part, v);
#pragma GCC unroll 4
    for (int64_t half = LANES / 2; half; half /= 2)
        if (lanes & half) {
            __builtin_memcpy(p, q, (size_t)half * sizeof(REAL));
            p += half;
            q += half;
        }
}

/* One step of a transposition in registers: lanes whose number has bit `m` set in a are exchanged with those without in b. m
 * is a compile-time constant wherever this is used. */
ALWAYS_INLINE void K(exchange)(vreal *a, vreal *b, const int m) {
    const vreal p = *a, q = *b;
#if defined(__clang__)
    for (int l = 0; l < LANES; l++) {
        (*a)[l] = l & m ? q[l - m] : p[l];
        (*b)[l] = l & m ? q[l] : p[l + m];
    }
#else
    vmask lane; /* lane numbers of p followed by q */
#pragma GCC unroll 16
    for (int l = 0; l < LANES; l++) lane[l] = l & m ? l - m + LANES : l;
    *a = __builtin_shuffle(p, q, lane);
    *b = __builtin_shuffle(p, q, lane + m);
#endif
}

/* Sums in float64: a vector of doubles, and the values it is made from. */
#define WIDE (VECTOR_BYTES / 8)
typedef double K(wide) __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
typedef REAL K(narrow) __attribute__((vector_size(WIDE * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#define vwide K(wide)

static inline vwide K(widen)(const REAL *p) { return __builtin_convertvector(*(const K(narrow) *)p, vwide); }
static inline double K(total)(vwide v) {
    double sum = v[0];
    for (int i = 1; i < WIDE; i++) sum += v[i];
    return sum;
}
