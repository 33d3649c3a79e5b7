/* The verbs of the kernels: a vector of REAL lanes, as wide as the target has, from GCC/Clang vector extensions.
 *
 * Arithmetic on `vreal` is written with + - * / and comparisons; the compiler knows the machine. Included once per target
 * and precision by target.h, which defines REAL, INTEGER (as wide as REAL), LANES and K(name).
 */
typedef REAL K(vector) __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef INTEGER K(mask) __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#define vreal K(vector)
#define vmask K(mask)

static inline vreal K(load)(const REAL *p) { return *(const vreal *)p; }
static inline void K(store)(REAL *p, vreal v) { *(vreal *)p = v; }
static inline vreal K(splat)(REAL a) { return a - (vreal){0}; }
static inline vreal K(select)(vmask m, vreal a, vreal b) { return (vreal)((m & (vmask)a) | (~m & (vmask)b)); }

/* Tails: fewer than LANES lanes. Never reads or writes beyond `lanes`. */
static inline vreal K(load_tail)(const REAL *p, int64_t lanes) {
    vreal v = {0};
    __builtin_memcpy(&v, p, (size_t)lanes * sizeof(REAL));
    return v;
}
static inline void K(store_tail)(REAL *p, vreal v, int64_t lanes) { __builtin_memcpy(p, &v, (size_t)lanes * sizeof(REAL)); }
