/* Activations, LANES values at a time. Definitions with their formulas: ops/activation.pyx.
 *
 * As there, an activation is a pair f, f' (here ..._slope) on a vector; s holds its settings in every lane. The loops follow,
 * once for all, and a tail of fewer than LANES values goes through the same code as the rest: what a value becomes does not
 * depend on where it lies. Signs are split by select: e = e^(-|z|) never overflows, and 2^n is multiplied last, so that
 * x e^x keeps its precision where e^x has already lost it.
 */

/* ── Pieces ── */

#define ONE K(splat)(1)
#define FAR (REAL)1.2676506002282294e30 /* 2^100: no less far than infinity where e^-|z| has become 0 */

static inline vreal K(within)(vreal x, REAL bound) { return K(at_least)(K(at_most)(x, bound), -bound); }

/* m where negative, else one: the numerator of a two-branch sigmoid. */
static inline vreal K(numerator)(vmask negative, K(scaled) e) { return K(select)(negative, e.m, ONE); }

/* v 2^n where negative, else v. */
static inline vreal K(scale_where)(vmask negative, vreal v, K(scaled) e) {
    return K(scale)(v, (vreal)((vmask)e.n & negative));
}

/* e^(-|z|) scaled, |z| not above what can be scaled. */
static inline K(scaled) K(decay)(vreal z) {
    return K(exp_scaled)(-K(at_most)(K(magnitude)(z), EXP_FARTHEST), (vreal){0});
}

static inline vreal K(number)(K(scaled) e) { return K(scale)(e.m, e.n); }

/* The sigmoid s(z) = 1 / (1 + e^-z) as 2^out / under, with e^-z = m 2^n, q = 2^-|n|:
 *     z >= 0 (n <= 0):  under = 1 + m q,  out = 0,    1 - s = m q / under
 *     z <  0 (n >= 0):  under = q + m,    out = -n,   1 - s = m / under
 * Far out q is held at the smallest normal number, which 1 + m q and q + m no longer see. */
typedef struct {
    vreal under, out, over;     /* over / under = 1 - s */
} K(sigmoid_parts);

static inline K(sigmoid_parts) K(sigmoid_of)(vreal z) {
    vmask negative = z < 0;
    K(scaled) e = K(exp_scaled)(-K(within)(z, EXP_FARTHEST), (vreal){0});
    vreal q = K(power_of_2)(-K(at_most)(K(magnitude)(e.n), BIAS - 1));
    vreal over = K(select)(negative, e.m, e.m * q);
    return (K(sigmoid_parts)){K(select)(negative, q, ONE) + over, (vreal)((vmask)-e.n & negative), over};
}

/* x s(z), z of x's sign or of the other: 0 where z is -infinity. */
static inline vreal K(times_sigmoid)(vreal x, vreal z) {
    K(sigmoid_parts) s = K(sigmoid_of)(z);
    return (vreal)((vmask)K(scale)(x / s.under, s.out) & ~(z <= -EXP_FARTHEST));
}

/* d/dx of x s(z): s + x z' s(1 - s), with w = x z', which must not be infinite. */
static inline vreal K(times_sigmoid_slope)(vreal z, vreal w) {
    K(sigmoid_parts) s = K(sigmoid_of)(z);
    vreal r = 1 / s.under;
    vreal y = K(scale)((K(within)(w, FAR) * s.over * r + 1) * r, s.out);
    return (vreal)((vmask)y & ~(z <= -EXP_FARTHEST));
}

/* ── f and f' ── */

static inline vreal K(identity)(vreal x, const vreal *s) { return x; }
static inline vreal K(identity_slope)(vreal x, const vreal *s) { return ONE; }

static inline vreal K(abs)(vreal x, const vreal *s) { return K(magnitude)(x); }
static inline vreal K(abs_slope)(vreal x, const vreal *s) {
    return (vreal)(((vmask)ONE & (x > 0)) | ((vmask)-ONE & (x < 0)));
}

static inline vreal K(exp_value)(vreal x, const vreal *s) { return K(exp)(x); }

static inline vreal K(relu)(vreal x, const vreal *s) { return (vreal)((vmask)x & ~(x <= 0)); }
static inline vreal K(relu_slope)(vreal x, const vreal *s) { return (vreal)((vmask)ONE & (x > 0)); }

static inline vreal K(clip)(vreal x, const vreal *s) { return K(select)(x <= s[0], s[0], K(select)(x >= s[1], s[1], x)); }
static inline vreal K(clip_slope)(vreal x, const vreal *s) { return (vreal)((vmask)ONE & (x > s[0]) & (x < s[1])); }

static inline vreal K(leaky_relu)(vreal x, const vreal *s) { return K(select)(x > 0, x, s[0] * x); }
static inline vreal K(leaky_relu_slope)(vreal x, const vreal *s) { return K(select)(x > 0, ONE, s[0]); }
static inline vreal K(leaky_relu_parameter_slope)(vreal x, const vreal *s) { return (vreal)((vmask)x & ~(x > 0)); }

static inline vreal K(elu)(vreal x, const vreal *s) {
    return K(select)(x > 0, s[0] * x, s[0] * s[1] * K(expm1_of_negative)(x / s[2]));
}
static inline vreal K(elu_slope)(vreal x, const vreal *s) {
    return K(select)(x > 0, s[0], s[0] * s[1] / s[2] * K(exp)(x / s[2]));
}

static inline vreal K(sigmoid)(vreal x, const vreal *s) {
    K(sigmoid_parts) parts = K(sigmoid_of)(x);
    return K(scale)(1 / parts.under, parts.out);
}
static inline vreal K(sigmoid_slope)(vreal x, const vreal *s) {
    K(scaled) e = K(decay)(x);
    vreal small = K(number)(e);
    return K(scale)(e.m / (1 + small * (2 + small)), e.n);
}

static inline vreal K(log_sigmoid)(vreal x, const vreal *s) {
    return K(at_most)(x, 0) - K(log1p_of_unit)(K(number)(K(decay)(x)));
}
static inline vreal K(log_sigmoid_slope)(vreal x, const vreal *s) { return K(sigmoid)(-x, s); }

static inline vreal K(hard_sigmoid)(vreal x, const vreal *s) {
    vreal inner = K(select)(x < s[3], s[0] * x + s[1], K(at_least)(K(at_most)(x, 1), 1));     /* 1, or NaN */
    return (vreal)((vmask)inner & ~(x <= s[2]));
}
static inline vreal K(hard_sigmoid_slope)(vreal x, const vreal *s) {
    return (vreal)((vmask)s[0] & (x > s[2]) & (x < s[3]));
}

static inline vreal K(tanh_value)(vreal x, const vreal *s) { return K(tanh)(x); }
static inline vreal K(tanh_slope)(vreal x, const vreal *s) {
    K(scaled) e = K(decay)(2 * x);
    vreal small = K(number)(e);
    return K(scale)(4 * e.m / (1 + small * (2 + small)), e.n);
}

static inline vreal K(softplus)(vreal x, const vreal *s) {
    vreal z = s[0] * x;
    return (K(at_least)(z, 0) + K(log1p_of_unit)(K(number)(K(decay)(z)))) / s[0];
}
static inline vreal K(softplus_slope)(vreal x, const vreal *s) { return K(sigmoid)(s[0] * x, s); }

static inline vreal K(softsign)(vreal x, const vreal *s) {
    const REAL largest = REAL_BITS == 32 ? (REAL)3.4028234663852886e38 : (REAL)1.7976931348623157e308;
    vreal v = K(within)(x, largest);
    return v / (1 + K(magnitude)(v));
}
static inline vreal K(softsign_slope)(vreal x, const vreal *s) {
    vreal a = K(magnitude)(x), r = 1 / a;
    return K(select)(a < FAR / (1 << 20) / (1 << 20), 1 / (1 + a * (2 + a)), r * r);
}

static inline vreal K(swish)(vreal x, const vreal *s) { return K(times_sigmoid)(x, s[0] * x); }
static inline vreal K(swish_slope)(vreal x, const vreal *s) {
    vreal z = s[0] * x;
    return K(times_sigmoid_slope)(z, z);
}
static inline vreal K(swish_parameter_slope)(vreal x, const vreal *s) {
    vreal z = s[0] * x;
    K(scaled) e = K(decay)(z);
    vreal r = 1 / (1 + K(number)(e));
    vreal y = K(scale)(x * e.m * r * r, e.n) * x;
    return (vreal)((vmask)y & ~(K(magnitude)(z) >= EXP_FARTHEST));
}

static inline vreal K(dsilu)(vreal x, const vreal *s) { return K(times_sigmoid_slope)(x, x); }
static inline vreal K(dsilu_slope)(vreal x, const vreal *s) {
    K(scaled) e = K(decay)(x);
    vreal a = K(at_most)(K(magnitude)(x), EXP_FARTHEST), small = K(number)(e);
    vreal r = 1 / (1 + small);
    return K(scale)(e.m / (1 + small * (2 + small)) * (2 - a * (1 - small) * r), e.n);
}

static inline vreal K(hard_swish)(vreal x, const vreal *s) {
    vreal inner = x * (x + 3) / 6;
    return (vreal)((vmask)K(select)(x >= 3, x, inner) & ~(x <= -3));
}
static inline vreal K(hard_swish_slope)(vreal x, const vreal *s) {
    return (vreal)((vmask)K(select)(x >= 3, ONE, (2 * x + 3) / 6) & ~(x <= -3));
}

static inline vreal K(mish)(vreal x, const vreal *s) {
    K(scaled) e = K(decay)(x);
    vmask negative = x < 0;
    vreal small = K(number)(e);
    vreal upper = K(select)(negative, x * e.m * (small + 2), x * (1 + 2 * small));
    vreal lower = K(select)(negative, small * (small + 2) + 2, 2 * small * (small + 1) + 1);
    return (vreal)((vmask)K(scale_where)(negative, upper / lower, e) & ~(x <= -EXP_FARTHEST));
}
static inline vreal K(mish_slope)(vreal x, const vreal *s) {
    K(scaled) e = K(decay)(x);
    vmask negative = x < 0;
    vreal small = K(number)(e);
    vreal r = 1 / K(select)(negative, small * (small + 2) + 2, 2 * small * (small + 1) + 1);
    vreal first = K(select)(negative, small + 2, 2 * small + 1);
    vreal second = 4 * K(within)(x, FAR) * (1 + small) * r * K(select)(negative, ONE, small * small);
    return K(scale_where)(negative, K(numerator)(negative, e) * (first + second) * r, e);
}

/* |x| < 1: Phi = 1/2 + x P.  x >= 1: 1 - R bell.  x <= -1: R bell.  The slope is Phi + x phi, phi = bell / sqrt(2 pi). */
#define PHI (REAL)0.39894228040143267794
static inline vreal K(gelu)(vreal x, const vreal *s) {
    vreal a = K(at_most)(K(magnitude)(x), TAIL_LONGEST);
    vmask middle = a < 1, below = x <= -1;
    K(scaled) bell;
    vreal tail = K(normal_tail)(a, &bell);
    vreal above = K(select)(middle, x * K(normal_middle)(x) + (REAL)0.5, 1 - K(number)(bell) * tail);
    return K(scale_where)(below, K(select)(below, -a * (bell.m * tail), x * above), bell);
}
static inline vreal K(gelu_slope)(vreal x, const vreal *s) {
    vreal a = K(at_most)(K(magnitude)(x), TAIL_LONGEST);
    vmask middle = a < 1, below = x <= -1;
    K(scaled) bell;
    vreal tail = K(normal_tail)(a, &bell) - a * PHI, number = K(number)(bell);
    vreal above = K(select)(middle, x * (K(normal_middle)(x) + PHI * number) + (REAL)0.5, 1 - number * tail);
    return K(scale_where)(below, K(select)(below, bell.m * tail, above), bell);
}

static inline vreal K(gelu_tanh)(vreal x, const vreal *s) {
    return K(times_sigmoid)(x, x * (x * x * (REAL)0.071354816272600240 + (REAL)1.5957691216057307118));
}
static inline vreal K(gelu_tanh_slope)(vreal x, const vreal *s) {
    vreal square = x * x;
    return K(times_sigmoid_slope)(x * (square * (REAL)0.071354816272600240 + (REAL)1.5957691216057307118),
                                  x * (square * (REAL)0.21406444881780072 + (REAL)1.5957691216057307118));
}

/* ── The loops ── */

/* Settings of a call in every lane. */
static inline void K(settings)(const double *setting, vreal *s) {
    for (int i = 0; i < 4; i++) s[i] = K(splat)((REAL)setting[i]);
}

typedef void (*K(run))(const REAL *x, const REAL *dy, const REAL *p, REAL *y, int64_t count, const vreal *s);

/* f or dy f' over `count` neighbours; p, where there is one, takes the place of s[0]. */
#define RUNS(name, f, slope)                                                                                              \
    static __attribute__((noinline)) void K(name##_run)(const REAL *x, const REAL *dy, const REAL *p, REAL *y,            \
                                                        int64_t count, const vreal *s) {                                  \
        vreal t[4] = {s[0], s[1], s[2], s[3]};                                                                            \
        for (int64_t i = 0; i < count; i += LANES) {                                                                      \
            int64_t lanes = count - i < LANES ? count - i : LANES;                                                        \
            vreal v = lanes == LANES ? K(load)(x + i) : K(load_tail)(x + i, lanes);                                       \
            if (p != NULL) t[0] = lanes == LANES ? K(load)(p + i) : K(load_tail)(p + i, lanes);                           \
            v = K(f)(v, t);                                                                                               \
            if (lanes == LANES) K(store)(y + i, v);                                                                       \
            else K(store_tail)(y + i, v, lanes);                                                                          \
        }                                                                                                                 \
    }                                                                                                                     \
    static __attribute__((noinline)) void K(name##_slope_run)(const REAL *x, const REAL *dy, const REAL *p, REAL *dx,     \
                                                              int64_t count, const vreal *s) {                            \
        vreal t[4] = {s[0], s[1], s[2], s[3]};                                                                            \
        for (int64_t i = 0; i < count; i += LANES) {                                                                      \
            int64_t lanes = count - i < LANES ? count - i : LANES;                                                        \
            vreal v = lanes == LANES ? K(load)(x + i) : K(load_tail)(x + i, lanes);                                       \
            vreal g = lanes == LANES ? K(load)(dy + i) : K(load_tail)(dy + i, lanes);                                     \
            if (p != NULL) t[0] = lanes == LANES ? K(load)(p + i) : K(load_tail)(p + i, lanes);                           \
            v = g * K(slope)(v, t);                                                                                       \
            if (lanes == LANES) K(store)(dx + i, v);                                                                      \
            else K(store_tail)(dx + i, v, lanes);                                                                         \
        }                                                                                                                 \
    }

/* Elements that are no neighbours are brought together in blocks of this many. */
#define BLOCK 256

static inline const REAL *K(gather)(const REAL *from, int64_t stride, int64_t count, REAL *block) {
    if (stride == 1) return from;
    for (int64_t i = 0; i < count; i++) block[i] = from[i * stride];
    return block;
}

/* Rows of a call, each handed to `run`. */
static inline void K(rows)(const cnn_elementwise *call, int64_t begin, int64_t end, K(run) run) {
    vreal s[4];
    K(settings)(call->setting, s);
    const int64_t sx = call->x.stride[4], sdy = call->dy.stride[4], sp = call->p.stride[4], sy = call->y.stride[4];
    for (int64_t i = begin, count; i < end; i += count) {
        cnn_offsets at;
        count = cnn_row(call, i, end, &at);
        const REAL *x = (const REAL *)call->x.data + at.x;
        const REAL *dy = call->dy.data == NULL ? NULL : (const REAL *)call->dy.data + at.dy;
        const REAL *p = call->p.data == NULL ? NULL : (const REAL *)call->p.data + at.p;
        REAL *y = (REAL *)call->y.data + at.y;
        if (p != NULL && sp == 0) {
            s[0] = K(splat)(*p);
            p = NULL;
        }
        if (sx == 1 && sy == 1 && (dy == NULL || sdy == 1) && (p == NULL || sp == 1)) {
            run(x, dy, p, y, count, s);
            continue;
        }
        REAL xs[BLOCK], dys[BLOCK], ps[BLOCK], ys[BLOCK];
        for (int64_t j = 0; j < count; j += BLOCK) {
            int64_t part = count - j < BLOCK ? count - j : BLOCK;
            run(K(gather)(x + j * sx, sx, part, xs), dy == NULL ? NULL : K(gather)(dy + j * sdy, sdy, part, dys),
                p == NULL ? NULL : K(gather)(p + j * sp, sp, part, ps), ys, part, s);
            for (int64_t k = 0; k < part; k++) y[(j + k) * sy] = ys[k];
        }
    }
}

#define ACTIVATION(name, f, slope)                                                                                        \
    RUNS(name, f, slope)                                                                                                  \
    static void K(name##_forward)(void *call, int64_t begin, int64_t end, void *scratch) {                                \
        (void)scratch;                                                                                                    \
        K(rows)(call, begin, end, K(name##_run));                                                                         \
    }                                                                                                                     \
    static void K(name##_backward)(void *call, int64_t begin, int64_t end, void *scratch) {                               \
        (void)scratch;                                                                                                    \
        K(rows)(call, begin, end, K(name##_slope_run));                                                                   \
    }

ACTIVATION(identity, identity, identity_slope)
ACTIVATION(abs, abs, abs_slope)
ACTIVATION(exp, exp_value, exp_value)
ACTIVATION(relu, relu, relu_slope)
ACTIVATION(clip, clip, clip_slope)
ACTIVATION(leaky_relu, leaky_relu, leaky_relu_slope)
ACTIVATION(elu, elu, elu_slope)
ACTIVATION(sigmoid, sigmoid, sigmoid_slope)
ACTIVATION(log_sigmoid, log_sigmoid, log_sigmoid_slope)
ACTIVATION(hard_sigmoid, hard_sigmoid, hard_sigmoid_slope)
ACTIVATION(tanh, tanh_value, tanh_slope)
ACTIVATION(softplus, softplus, softplus_slope)
ACTIVATION(softsign, softsign, softsign_slope)
ACTIVATION(swish, swish, swish_slope)
ACTIVATION(dsilu, dsilu, dsilu_slope)
ACTIVATION(hard_swish, hard_swish, hard_swish_slope)
ACTIVATION(mish, mish, mish_slope)
ACTIVATION(gelu, gelu, gelu_slope)
ACTIVATION(gelu_tanh, gelu_tanh, gelu_tanh_slope)
#undef ACTIVATION
#undef RUNS
#undef BLOCK
#undef ONE
#undef FAR
#undef PHI
