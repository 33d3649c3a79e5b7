/* Activations, LANES values at a time. The reference implementations, with their formulas, are in the family's reference.pyx.
 *
 * As there, an activation is a pair f, f' (named ..._slope), here on a vector; s holds its settings in every lane. The loops
 * are written once for all of them. A tail of fewer than LANES values goes through the same code as the rest, so the result
 * for a value does not depend on its position. Signs are handled by select: e = e^(-|z|) never overflows, and 2^n is
 * multiplied last, so that x e^x keeps its precision where e^x is subnormal.
 */

/* ── Building blocks ── */

#define ONE K(splat)(1)
#define FAR (REAL)1.2676506002282294e30 /* 2^100: no less far than infinity where e^-|z| has become 0 */

static inline vreal K(within)(vreal x, REAL bound) { return K(at_least)(K(at_most)(x, bound), -bound); }

/* m where negative, else 1: the numerator of a two-branch sigmoid. */
static inline vreal K(numerator)(vmask negative, K(scaled) e) { return K(select)(negative, e.m, ONE); }

/* v 2^n where negative, else v. */
static inline vreal K(scale_where)(vmask negative, vreal v, K(scaled) e) { return K(scale)(v, (vreal)((vmask)e.n & negative)); }

/* e^(-|z|) scaled, |z| not above what can be scaled. */
static inline K(scaled) K(decay)(vreal z) { return K(exp_scaled)(-K(at_most)(K(magnitude)(z), EXP_FARTHEST), (vreal){0}); }

/* a x - z, the rounding error of the product z = a x. The factors are split into halves whose products are exact, so it does
 * not matter which of them the compiler fuses into the sums. */
static inline vreal K(lost)(vreal a, vreal x, vreal z) {
    vreal ah = (vreal)((vmask)a & UPPER_HALF), al = a - ah, xh = (vreal)((vmask)x & UPPER_HALF), xl = x - xh;
    return (((ah * xh - z) + ah * xl) + al * xh) + al * xl;
}

/* The rounding error of an exponent z = (a + rest) x, which e^z magnifies |z| times. 0 where e^z is out of range anyway. */
static inline vreal K(lost_of_exponent)(vreal a, vreal rest, vreal x, vreal z) {
    return (vreal)((vmask)(K(lost)(a, x, z) + rest * x) & (K(magnitude)(z) < EXP_FARTHEST));
}

/* e^(-|z + lost|) scaled. */
static inline K(scaled) K(decay_exactly)(vreal z, vreal lost) {
    vmask sign = (vmask)z & (vmask)K(splat)(-(REAL)0);
    return K(exp_scaled)(-K(at_most)(K(magnitude)(z), EXP_FARTHEST), (vreal)((vmask)-lost ^ sign));
}

static inline vreal K(number)(K(scaled) e) { return K(scale)(e.m, e.n); }

/* The sigmoid s(z) = 1 / (1 + e^-z) as 2^out / under, with e^-z = m 2^n, q = 2^-|n|, z exact when `lost` is added:
 *     z >= 0 (n <= 0):  under = 1 + m q,  out = 0,    1 - s = m q / under
 *     z <  0 (n >= 0):  under = q + m,    out = -n,   1 - s = m / under
 * Far out q is held at the smallest normal number, which 1 + m q and q + m no longer see. */
typedef struct {
    vreal under, out, over; /* over / under = 1 - s */
} K(sigmoid_parts);

static inline K(sigmoid_parts) K(sigmoid_of)(vreal z, vreal lost) {
    vmask negative = z < 0;
    K(scaled) e = K(exp_scaled)(-K(within)(z, EXP_FARTHEST), -lost);
    vreal q = K(power_of_2)(-K(at_most)(K(magnitude)(e.n), BIAS - 1));
    vreal over = K(select)(negative, e.m, e.m * q);
    return (K(sigmoid_parts)){K(select)(negative, q, ONE) + over, (vreal)((vmask)-e.n & negative), over};
}

/* x s(z), where z has the sign of x or the opposite one: 0 where z is -infinity. */
static inline vreal K(times_sigmoid)(vreal x, vreal z, vreal lost) {
    K(sigmoid_parts) s = K(sigmoid_of)(z, lost);
    return (vreal)((vmask)K(scale)(x / s.under, s.out) & ~(z <= -EXP_FARTHEST));
}

/* d/dx of x s(z): s + x z' s(1 - s), with w = x z', which must not be infinite. */
static inline vreal K(times_sigmoid_slope)(vreal z, vreal lost, vreal w) {
    K(sigmoid_parts) s = K(sigmoid_of)(z, lost);
    vreal r = 1 / s.under;
    vreal y = K(scale)((K(within)(w, FAR) * s.over * r + 1) * r, s.out);
    return (vreal)((vmask)y & ~(z <= -EXP_FARTHEST));
}

/* ── f and f' ── */

static inline vreal K(identity)(vreal x, const vreal *s) { return x; }
static inline vreal K(identity_slope)(vreal x, const vreal *s) { return ONE; }

static inline vreal K(abs)(vreal x, const vreal *s) { return K(magnitude)(x); }
static inline vreal K(abs_slope)(vreal x, const vreal *s) { return (vreal)(((vmask)ONE & (x > 0)) | ((vmask)-ONE & (x < 0))); }

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
    K(sigmoid_parts) parts = K(sigmoid_of)(x, (vreal){0});
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
    vreal inner = K(select)(x < s[2], s[0] * (x - s[1]), K(at_least)(K(at_most)(x, 1), 1)); /* 1, or NaN */
    return (vreal)((vmask)inner & ~(x <= s[1]));
}
static inline vreal K(hard_sigmoid_slope)(vreal x, const vreal *s) { return (vreal)((vmask)s[0] & (x > s[1]) & (x < s[2])); }

static inline vreal K(tanh_value)(vreal x, const vreal *s) { return K(tanh)(x); }
static inline vreal K(tanh_slope)(vreal x, const vreal *s) {
    K(scaled) e = K(decay)(2 * x);
    vreal small = K(number)(e);
    return K(scale)(4 * e.m / (1 + small * (2 + small)), e.n);
}

static inline vreal K(softplus)(vreal x, const vreal *s) {
    vreal z = s[0] * x;
    vreal y = (K(at_least)(z, 0) + K(log1p_of_unit)(K(number)(K(decay_exactly)(z, K(lost_of_exponent)(s[0], s[4], x, z)))))
        / s[0];
    return K(select)(z > s[1], x, y);
}
static inline vreal K(softplus_slope)(vreal x, const vreal *s) {
    vreal z = s[0] * x;
    K(sigmoid_parts) parts = K(sigmoid_of)(z, K(lost_of_exponent)(s[0], s[4], x, z));
    return K(select)(z > s[1], ONE, K(scale)(1 / parts.under, parts.out));
}

static inline vreal K(softsign)(vreal x, const vreal *s) {
    vreal v = K(within)(x, LARGEST);
    return v / (1 + K(magnitude)(v));
}
static inline vreal K(softsign_slope)(vreal x, const vreal *s) {
    vreal a = K(magnitude)(x), r = 1 / a, d = 1 + a, back = d - 1, d_lost = (1 - (d - back)) + (a - back);
    vreal square = d * d, q = 1 / square, lost = K(lost)(d, d, square) + 2 * d * d_lost;
    return K(select)(a < FAR / (1 << 20) / (1 << 20), q - q * q * lost, r * r);
}

static inline vreal K(silu)(vreal x, const vreal *s) { return K(times_sigmoid)(x, x, (vreal){0}); }
static inline vreal K(silu_slope)(vreal x, const vreal *s) { return K(times_sigmoid_slope)(x, (vreal){0}, x); }
static inline vreal K(swish)(vreal x, const vreal *s) {
    vreal z = s[0] * x;
    return K(times_sigmoid)(x, z, K(lost_of_exponent)(s[0], s[4], x, z));
}
static inline vreal K(swish_slope)(vreal x, const vreal *s) {
    vreal z = s[0] * x;
    return K(times_sigmoid_slope)(z, K(lost_of_exponent)(s[0], s[4], x, z), z);
}
static inline vreal K(swish_parameter_slope)(vreal x, const vreal *s) {
    vreal z = s[0] * x;
    K(scaled) e = K(decay_exactly)(z, K(lost_of_exponent)(s[0], s[4], x, z));
    vreal r = 1 / (1 + K(number)(e));
    vreal y = K(scale)(x * e.m * r * r, e.n) * x;
    return (vreal)((vmask)y & ~(K(magnitude)(z) >= EXP_FARTHEST));
}

static inline vreal K(dsilu)(vreal x, const vreal *s) { return K(times_sigmoid_slope)(x, (vreal){0}, x); }
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

/* 2u = x (a + b x^2), and what rounding took from it: e^2u magnifies that |2u| times. 0 where e^2u is far out. */
#define A (REAL)1.5957691216057307118
#define B (REAL)0.071354816272600248776
static inline vreal K(twice_u)(vreal x, vreal *lost) {
    const REAL a_rest = REAL_BITS == 32 ? -4.534068042e-8 : -9.969308809e-17;
    const REAL b_rest = REAL_BITS == 32 ? 2.398832396e-9 : -6.175149918e-19;
    vreal square = x * x, cubic = square * K(splat)(B), s = cubic + A, z = x * s, back = s - A;
    vreal rest = K(lost)(square, K(splat)(B), cubic) + K(lost)(x, x, square) * B + square * b_rest;
    rest += (A - (s - back)) + (cubic - back) + a_rest;
    *lost = (vreal)((vmask)(K(lost)(x, s, z) + x * rest) & (K(magnitude)(z) < EXP_FARTHEST));
    return z;
}
static inline vreal K(gelu_tanh)(vreal x, const vreal *s) {
    vreal lost, z = K(twice_u)(x, &lost);
    return K(times_sigmoid)(x, z, lost);
}
static inline vreal K(gelu_tanh_slope)(vreal x, const vreal *s) {
    vreal lost, z = K(twice_u)(x, &lost);
    return K(times_sigmoid_slope)(z, lost, x * (x * x * (3 * B) + A));
}
#undef A
#undef B

static inline vreal K(unit_step)(vreal x, const vreal *s) {
    vreal y = K(select)(x > 0, ONE, K(select)(x < 0, s[0], s[1]));
    return K(select)(x == x, y, x);
}
static inline vreal K(zero_slope)(vreal x, const vreal *s) { return (vreal){0}; }

static inline vreal K(straight_through)(vreal x, const vreal *s) {
    vreal y = (vreal)(((vmask)ONE & (x > 0)) | ((vmask)-ONE & (x < 0)));
    return K(select)(x == x, y, x);
}
static inline vreal K(straight_through_slope)(vreal x, const vreal *s) {
    return (vreal)((vmask)ONE & (K(magnitude)(x) <= s[0]));
}

static inline vreal K(threshold)(vreal x, const vreal *s) { return K(select)(x <= s[0], s[1], x); }
static inline vreal K(threshold_slope)(vreal x, const vreal *s) { return (vreal)((vmask)ONE & (x > s[0])); }

static inline vreal K(hard_shrink)(vreal x, const vreal *s) { return (vreal)((vmask)x & ~(K(magnitude)(x) <= s[0])); }
static inline vreal K(soft_shrink)(vreal x, const vreal *s) {
    vreal y = K(select)(x > 0, x - s[0], x + s[0]);
    return (vreal)((vmask)y & ~(K(magnitude)(x) <= s[0]));
}
static inline vreal K(shrink_slope)(vreal x, const vreal *s) { return (vreal)((vmask)ONE & (K(magnitude)(x) > s[0])); }

static inline vreal K(negative_part)(vreal x, const vreal *s) { return (vreal)((vmask)-x & ~(x >= 0)); }
static inline vreal K(negative_part_slope)(vreal x, const vreal *s) { return (vreal)((vmask)-ONE & (x < 0)); }

/* s[0] times a sigmoid. */
static inline vreal K(gate)(vreal x, const vreal *s) {
    K(sigmoid_parts) parts = K(sigmoid_of)(x, (vreal){0});
    return K(scale)(s[0] / parts.under, parts.out);
}
static inline vreal K(gate_slope)(vreal x, const vreal *s) {
    K(scaled) e = K(decay)(x);
    vreal small = K(number)(e);
    return K(scale)(s[0] * e.m / (1 + small * (2 + small)), e.n);
}

static inline vreal K(sparse_plus)(vreal x, const vreal *s) {
    vreal above = x + 1;
    return (vreal)((vmask)K(select)(x >= 1, x, (REAL)0.25 * above * above) & ~(x <= -1));
}
static inline vreal K(sparse_plus_slope)(vreal x, const vreal *s) {
    return (vreal)((vmask)K(select)(x >= 1, ONE, (REAL)0.5 * (x + 1)) & ~(x <= -1));
}

/* tanh x for x >= 0 as t + lost: its last sum rounded, and what that took. See K(tanh). */
static inline vreal K(tanh_exactly)(vreal a, vreal *lost) {
    vreal z = a * a;
    K(scaled) e = K(exp_scaled)(2 * K(at_most)(a, EXPM1_FARTHEST), (vreal){0});
    vmask far = a > (REAL)0.5493061443340549;
    vreal most = K(select)(far, ONE, a), power = e.m * K(power_of_2)(e.n), under = power + 1, outer = 2 / under;
    vreal rest = K(select)(
        far, outer * outer * (REAL)0.5 * ((power - under) + 1) - outer,
        a * z * K(polynomial)(z, K(tanh_terms), TERMS(tanh_terms))
    );
    vreal t = most + rest;
    *lost = (vreal)((vmask)((most - t) + rest) & (a < EXPM1_FARTHEST));
    return t;
}

static inline vreal K(scaled_tanh)(vreal x, const vreal *s) {
    vreal z = s[1] * x, a = K(magnitude)(z), lost, t = K(tanh_exactly)(a, &lost);
    vreal z_lost = (vreal)((vmask)K(lost_of_exponent)(s[1], s[5], x, z) ^ ((vmask)z ^ (vmask)a));
    vreal y = t * s[0] + ((lost + z_lost * (1 - t * t)) * s[0] + t * s[4]);
    return (vreal)((vmask)y ^ ((vmask)z ^ (vmask)a));
}
static inline vreal K(scaled_tanh_slope)(vreal x, const vreal *s) {
    vreal z = 2 * s[1] * x, all = s[0] * s[1];
    K(scaled) e = K(decay_exactly)(z, K(lost_of_exponent)(2 * s[1], 2 * s[5], x, z));
    vreal small = K(number)(e), d = 1 + small, square = d * d;
    vreal lost = K(lost)(d, d, square) + 2 * d * ((1 - d) + small);
    vreal q = 4 * e.m / square, rest = q * (K(lost)(s[0], s[1], all) + s[0] * s[5] + s[1] * s[4] - all * (lost / square));
    return K(scale)(q * all + rest, e.n);
}

/* |x| < 1: x^3 P(x^2), whose products are rounded together; beyond, (|x| - 1) + 2 / (e^(2|x|) + 1), which cancels no more. */
static inline vreal K(tanh_shrink)(vreal x, const vreal *s) {
    vreal a = K(magnitude)(x), z = x * x, cube = x * z;
    K(scaled) e = K(exp_scaled)(2 * K(at_most)(a, EXPM1_FARTHEST), (vreal){0});
    vreal outer = (a - 1) + 2 / (e.m * K(power_of_2)(e.n) + 1);
    vreal first = K(splat)(K(shrink_terms)[0]), others = z * K(polynomial)(z, K(shrink_terms) + 1, TERMS(shrink_terms) - 1);
    vreal p = first + others, p_lost = (first - p) + others;
    vreal rest = (K(lost)(x, z, cube) + x * K(lost)(x, x, z)) * p + cube * p_lost;
    return K(select)(a < 1, cube * p + rest, (vreal)((vmask)outer | ((vmask)x ^ (vmask)a)));
}
static inline vreal K(tanh_shrink_slope)(vreal x, const vreal *s) {
    vreal lost, t = K(tanh_exactly)(K(magnitude)(x), &lost);
    return t * t + 2 * t * lost;
}

/* r = sqrt(a^2 + b) for a >= 0, and what rounding took from it; a, where a^2 might overflow and b is too small to be seen. */
static inline vreal K(hypotenuse)(vreal a, vreal b, vreal *lost) {
    vreal square = a * a, sum = square + b, r = sum;
    for (int l = 0; l < LANES; l++) r[l] = REAL_BITS == 32 ? (REAL)sqrtf((float)r[l]) : (REAL)sqrt((double)r[l]);
    vreal back = sum - square, rest = (square - (sum - back)) + (b - back) + K(lost)(a, a, square);
    vmask near = a < FAR / (1 << 30) / (1 << 20);
    vreal s = r * r;
    *lost = (vreal)((vmask)(((sum - s) - K(lost)(r, r, s) + rest) * (REAL)0.5 / r) & near);
    return K(select)(near, r, a);
}

/* h = (r + a) / 2 for r >= a, and what rounding took from it. */
static inline vreal K(middle)(vreal r, vreal r_lost, vreal a, vreal *lost) {
    vreal half = (REAL)0.5 * r, other = (REAL)0.5 * a, h = half + other;
    *lost = ((half - h) + other) + (REAL)0.5 * r_lost;
    return h;
}

static inline vreal K(squareplus)(vreal x, const vreal *s) {
    vreal a = K(magnitude)(x), r_lost, h_lost, r = K(hypotenuse)(a, s[0], &r_lost), h = K(middle)(r, r_lost, a, &h_lost);
    vreal q = (REAL)0.25 / h;
    vreal below = s[0] * q, rest = s[4] * q - below * (h_lost / h);
    vreal above = h + (h_lost + (REAL)0.25 * s[4] / r);
    return K(select)(x < 0, K(select)(a == INFINITY, (vreal){0}, below + rest), K(select)(a == INFINITY, a, above));
}
static inline vreal K(squareplus_slope)(vreal x, const vreal *s) {
    vreal a = K(magnitude)(x), r_lost, h_lost, r = K(hypotenuse)(a, s[0], &r_lost), h = K(middle)(r, r_lost, a, &h_lost);
    vreal q = (REAL)0.25 * s[0] / r / h, above = (REAL)0.5 * (K(select)(a == INFINITY, ONE, a / r)) + (REAL)0.5;
    return K(select)(x < 0, q - (vreal)((vmask)(q * (r_lost / r + h_lost / h - s[4] / s[0])) & (a < INFINITY)), above);
}

static inline vreal K(dish)(vreal x, const vreal *s) {
    vreal a = K(magnitude)(x), r_lost, h_lost, r = K(hypotenuse)(a, ONE, &r_lost), h = K(middle)(r, r_lost, a, &h_lost);
    vreal above = (REAL)0.5 * x * (1 + K(select)(a == INFINITY, ONE, a / r)), q = (REAL)0.25 * x / r / h;
    return (vreal)((vmask)K(select)(x < 0, q - q * (r_lost / r + h_lost / h), above) & ~(x == -INFINITY));
}

/* x < 0: (q - a) q^2 / 4h with q = 1 / r. */
static inline vreal K(dish_slope)(vreal x, const vreal *s) {
    vreal a = K(at_most)(K(magnitude)(x), LARGEST), r_lost, h_lost;
    vreal r = K(hypotenuse)(a, ONE, &r_lost), h = K(middle)(r, r_lost, a, &h_lost), q = 1 / r;
    vreal above = (REAL)0.5 * (1 + a * q * (1 + q * q));
    vreal unity = r * q, q_lost = ((1 - unity) - K(lost)(r, q, unity) - r_lost * q) * q;
    vreal far = (q - a) + q_lost, y = far / h * ((REAL)0.25 * q * q);
    return K(select)(x < 0, y + (vreal)((vmask)(y * (2 * q_lost * r - h_lost / h)) & (a < FAR)), above);
}

/* Arithmetic of x and z = s[0]: see operators/arrays/arithmetic.pyx. */

static inline vreal K(plus)(vreal x, const vreal *s) { return x + s[0]; }
static inline vreal K(subtract)(vreal x, const vreal *s) { return x - s[0]; }
static inline vreal K(subtract_slope)(vreal x, const vreal *s) { return ONE; }
static inline vreal K(subtract_other_slope)(vreal x, const vreal *s) { return -ONE; }
static inline vreal K(times)(vreal x, const vreal *s) { return x * s[0]; }
static inline vreal K(multiply_slope)(vreal x, const vreal *s) { return s[0]; }
static inline vreal K(multiply_other_slope)(vreal x, const vreal *s) { return x; }
static inline vreal K(divide)(vreal x, const vreal *s) { return x / s[0]; }
static inline vreal K(divide_slope)(vreal x, const vreal *s) { return 1 / s[0]; }
static inline vreal K(divide_other_slope)(vreal x, const vreal *s) { return -x / s[0] / s[0]; }
static inline vreal K(maximum)(vreal x, const vreal *s) { return K(select)((x >= s[0]) | (x != x), x, s[0]); }
static inline vreal K(maximum_slope)(vreal x, const vreal *s) { return (vreal)((vmask)ONE & ((x >= s[0]) | (x != x))); }
static inline vreal K(maximum_other_slope)(vreal x, const vreal *s) { return (vreal)((vmask)ONE & ~((x >= s[0]) | (x != x))); }
static inline vreal K(minimum)(vreal x, const vreal *s) { return K(select)((x <= s[0]) | (x != x), x, s[0]); }
static inline vreal K(minimum_slope)(vreal x, const vreal *s) { return (vreal)((vmask)ONE & ((x <= s[0]) | (x != x))); }
static inline vreal K(minimum_other_slope)(vreal x, const vreal *s) { return (vreal)((vmask)ONE & ~((x <= s[0]) | (x != x))); }

/* ── The loops ── */

/* The settings of a call in every lane; after them their rounding errors in REAL. */
static inline void K(settings)(const double *setting, vreal *s) {
    for (int i = 0; i < 4; i++) {
        s[i] = K(splat)((REAL)setting[i]);
        const double rest = setting[i] - (double)(REAL)setting[i];
        s[4 + i] = K(splat)(rest == rest ? (REAL)rest : 0); /* none of infinity */
    }
}
/* A number that replaces s[0] is a REAL already. */
static inline void K(replace)(vreal *s, vreal p) {
    s[0] = p;
    s[4] = (vreal){0};
}

typedef void (*K(run))(const REAL *x, const REAL *dy, const REAL *p, REAL *y, int64_t count, const vreal *s);

/* f or dy f' over `count` adjacent values; p, if there is one, replaces s[0]. */
#define RUNS(name, f, slope) \
    static __attribute__((noinline)) void K(name##_run)( \
        const REAL *x, const REAL *dy, const REAL *p, REAL *y, int64_t count, const vreal *s \
    ) { \
        vreal t[8] = {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]}; \
        for (int64_t i = 0; i < count; i += LANES) { \
            int64_t lanes = count - i < LANES ? count - i : LANES; \
            vreal v = lanes == LANES ? K(load)(x + i) : K(load_tail)(x + i, lanes); \
            if (p != NULL) K(replace)(t, lanes == LANES ? K(load)(p + i) : K(load_tail)(p + i, lanes)); \
            v = K(f)(v, t); \
            if (lanes == LANES) K(store)(y + i, v); \
            else K(store_tail)(y + i, v, lanes); \
        } \
    } \
    static __attribute__((noinline)) void K(name##_slope_run)( \
        const REAL *x, const REAL *dy, const REAL *p, REAL *dx, int64_t count, const vreal *s \
    ) { \
        vreal t[8] = {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]}; \
        for (int64_t i = 0; i < count; i += LANES) { \
            int64_t lanes = count - i < LANES ? count - i : LANES; \
            vreal v = lanes == LANES ? K(load)(x + i) : K(load_tail)(x + i, lanes); \
            vreal g = lanes == LANES ? K(load)(dy + i) : K(load_tail)(dy + i, lanes); \
            if (p != NULL) K(replace)(t, lanes == LANES ? K(load)(p + i) : K(load_tail)(p + i, lanes)); \
            v = g * K(slope)(v, t); \
            if (lanes == LANES) K(store)(dx + i, v); \
            else K(store_tail)(dx + i, v, lanes); \
        } \
    }

/* Elements that are not contiguous are gathered in blocks of this many. */
#define BLOCK 256

static inline const REAL *K(gather)(const REAL *from, int64_t stride, int64_t count, REAL *block) {
    if (stride == 1) return from;
    for (int64_t i = 0; i < count; i++) block[i] = from[i * stride];
    return block;
}

/* Calls `run` for each row of a call. */
static inline void K(rows)(const cnn_elementwise *call, int64_t begin, int64_t end, K(run) run) {
    vreal s[8];
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
            K(replace)(s, K(splat)(*p));
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

#define ACTIVATION(name, f, slope) \
    RUNS(name, f, slope) \
    static void K(name##_forward)(void *call, int64_t begin, int64_t end, void *scratch) { \
        (void)scratch; \
        K(rows)(call, begin, end, K(name##_run)); \
    } \
    static void K(name##_backward)(void *call, int64_t begin, int64_t end, void *scratch) { \
        (void)scratch; \
        K(rows)(call, begin, end, K(name##_slope_run)); \
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
ACTIVATION(silu, silu, silu_slope)
ACTIVATION(swish, swish, swish_slope)
ACTIVATION(dsilu, dsilu, dsilu_slope)
ACTIVATION(hard_swish, hard_swish, hard_swish_slope)
ACTIVATION(mish, mish, mish_slope)
ACTIVATION(gelu, gelu, gelu_slope)
ACTIVATION(gelu_tanh, gelu_tanh, gelu_tanh_slope)
ACTIVATION(unit_step, unit_step, zero_slope)
ACTIVATION(straight_through, straight_through, straight_through_slope)
ACTIVATION(threshold, threshold, threshold_slope)
ACTIVATION(hard_shrink, hard_shrink, shrink_slope)
ACTIVATION(soft_shrink, soft_shrink, shrink_slope)
ACTIVATION(sparse_plus, sparse_plus, sparse_plus_slope)
ACTIVATION(scaled_tanh, scaled_tanh, scaled_tanh_slope)
ACTIVATION(tanh_shrink, tanh_shrink, tanh_shrink_slope)
ACTIVATION(squareplus, squareplus, squareplus_slope)
ACTIVATION(dish, dish, dish_slope)
ACTIVATION(negative_part, negative_part, negative_part_slope)
ACTIVATION(gate, gate, gate_slope)
ACTIVATION(opening, sigmoid, sigmoid)
ACTIVATION(plus, plus, subtract_slope)
ACTIVATION(subtract, subtract, subtract_slope)
ACTIVATION(subtract_other, subtract, subtract_other_slope)
ACTIVATION(multiply, times, multiply_slope)
ACTIVATION(multiply_other, times, multiply_other_slope)
ACTIVATION(divide, divide, divide_slope)
ACTIVATION(divide_other, divide, divide_other_slope)
ACTIVATION(maximum, maximum, maximum_slope)
ACTIVATION(maximum_other, maximum, maximum_other_slope)
ACTIVATION(minimum, minimum, minimum_slope)
ACTIVATION(minimum_other, minimum, minimum_other_slope)
#undef ACTIVATION
#undef RUNS

/* dx of the concatenated relu(x) and relu(-x), whose gradients are dy and p. */
static __attribute__((noinline)) void K(both_parts_run)(
    const REAL *x, const REAL *dy, const REAL *p, REAL *dx, int64_t count, const vreal *s
) {
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t lanes = count - i < LANES ? count - i : LANES;
        vreal v = lanes == LANES ? K(load)(x + i) : K(load_tail)(x + i, lanes);
        vreal g = lanes == LANES ? K(load)(dy + i) : K(load_tail)(dy + i, lanes);
        vreal h = p == NULL ? s[0] : lanes == LANES ? K(load)(p + i) : K(load_tail)(p + i, lanes);
        v = (vreal)(((vmask)g & (v > 0)) | ((vmask)-h & (v < 0)));
        if (lanes == LANES) K(store)(dx + i, v);
        else K(store_tail)(dx + i, v, lanes);
    }
}
static void K(both_parts_backward)(void *call, int64_t begin, int64_t end, void *scratch) {
    (void)scratch;
    K(rows)(call, begin, end, K(both_parts_run));
}

/* ── One learned number per channel: dx, and each task's contribution to dp in float64 ── */

typedef void (*K(channels_run))(
    const REAL *x, const REAL *dy, const REAL *p, REAL *dx, int64_t count, const vreal *s, double *sums, int64_t step
);

/* The contribution of value i goes to sums[i step]: step 0 accumulates all in LANES sums, step 1 keeps them apart. Lanes
 * beyond the tail contribute 0, as dy is 0 there. */
#define LEARNED(name, slope, parameter_slope) \
    static __attribute__((noinline)) void K(name##_channels_run)( \
        const REAL *x, const REAL *dy, const REAL *p, REAL *dx, int64_t count, const vreal *s, double *sums, int64_t step \
    ) { \
        vreal t[8] = {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]}; \
        REAL share[LANES]; \
        for (int64_t i = 0; i < count; i += LANES) { \
            int64_t lanes = count - i < LANES ? count - i : LANES; \
            vreal v = lanes == LANES ? K(load)(x + i) : K(load_tail)(x + i, lanes); \
            vreal g = lanes == LANES ? K(load)(dy + i) : K(load_tail)(dy + i, lanes); \
            if (p != NULL) K(replace)(t, lanes == LANES ? K(load)(p + i) : K(load_tail)(p + i, lanes)); \
            K(store)(share, g * K(parameter_slope)(v, t)); \
            for (int l = 0; l < LANES; l += WIDE) *(vwide *)(sums + i * step + l) += K(widen)(share + l); \
            v = g * K(slope)(v, t); \
            if (lanes == LANES) K(store)(dx + i, v); \
            else K(store_tail)(dx + i, v, lanes); \
        } \
    } \
    static void K(name##_channels_backward)(void *call, int64_t begin, int64_t end, void *scratch) { \
        K(channels)(call, begin, end, scratch, K(name##_channels_run)); \
    }

/* Offset of pixel number i, counted over images and rows. */
static inline int64_t K(pixel)(const cnn_tensor *t, int64_t i) {
    int64_t w = i % t->shape[4], h = i / t->shape[4] % t->shape[3], d = i / (t->shape[4] * t->shape[3]) % t->shape[2];
    int64_t n = i / (t->shape[4] * t->shape[3] * t->shape[2]);
    return n * t->stride[0] + d * t->stride[2] + h * t->stride[3] + w * t->stride[4];
}

static inline void K(channels)(const cnn_channelwise *call, int64_t begin, int64_t end, double *sums, K(channels_run) run) {
    const cnn_tensor *x = &call->x, *dy = &call->dy, *dx = &call->dx;
    const int64_t C = x->shape[1], width = x->shape[4], padded = call->pixels ? (C + LANES - 1) / LANES * LANES : LANES;
    const int64_t pixels = x->shape[0] * x->shape[2] * x->shape[3] * width;
    const REAL *p = call->p;
    vreal s[8];
    K(settings)(call->setting, s);
    for (int64_t task = begin; task < end; task++) {
        for (int64_t i = 0; i < padded; i++) sums[i] = 0;
        if (call->pixels) {
            const int64_t last = (task + 1) * call->pixels < pixels ? (task + 1) * call->pixels : pixels;
            K(replace)(s, K(splat)(*p));
            for (int64_t i = task * call->pixels; i < last; i++)
                run((const REAL *)x->data + K(pixel)(x, i), (const REAL *)dy->data + K(pixel)(dy, i), call->p_stride ? p : NULL,
                    (REAL *)dx->data + K(pixel)(dx, i), C, s, sums, 1);
            for (int64_t c = 0; c < C; c++) call->partial[task * C + c] = sums[c];
            continue;
        }
        const int64_t n = task / C, c = task % C;
        K(replace)(s, K(splat)(p[c * call->p_stride]));
        for (int64_t row = 0; row < x->shape[2] * x->shape[3]; row++) {
            const int64_t first = (n * x->shape[2] * x->shape[3] + row) * width;
            const REAL *from = (const REAL *)x->data + K(pixel)(x, first) + c * x->stride[1];
            const REAL *by = (const REAL *)dy->data + K(pixel)(dy, first) + c * dy->stride[1];
            REAL *to = (REAL *)dx->data + K(pixel)(dx, first) + c * dx->stride[1];
            if (x->stride[4] == 1 && dy->stride[4] == 1 && dx->stride[4] == 1) {
                run(from, by, NULL, to, width, s, sums, 0);
                continue;
            }
            REAL xs[BLOCK], dys[BLOCK], dxs[BLOCK];
            for (int64_t j = 0; j < width; j += BLOCK) {
                int64_t part = width - j < BLOCK ? width - j : BLOCK;
                run(K(gather)(from + j * x->stride[4], x->stride[4], part, xs),
                    K(gather)(by + j * dy->stride[4], dy->stride[4], part, dys), NULL, dxs, part, s, sums, 0);
                for (int64_t k = 0; k < part; k++) to[(j + k) * dx->stride[4]] = dxs[k];
            }
        }
        double total = 0;
        for (int l = 0; l < LANES; l++) total += sums[l];
        call->partial[task] = total;
    }
}

LEARNED(leaky_relu, leaky_relu_slope, leaky_relu_parameter_slope)
LEARNED(swish, swish_slope, swish_parameter_slope)
#undef LEARNED

/* ── Maxout ── */

/* The largest of `pieces` vectors `step` apart: the first among equals, NaN above all; `which`: the winner in each lane. */
static inline vreal K(largest)(const REAL *x, int64_t step, int64_t pieces, int64_t lanes, vmask *which) {
    vreal best = lanes == LANES ? K(load)(x) : K(load_tail)(x, lanes);
    vmask winner = {0};
    for (int64_t m = 1; m < pieces; m++) {
        vreal v = lanes == LANES ? K(load)(x + m * step) : K(load_tail)(x + m * step, lanes);
        vmask wins = (v > best) | ((v != v) & (best == best));
        best = K(select)(wins, v, best);
        winner = (wins & ((vmask){0} + (INTEGER)m)) | (~wins & winner);
    }
    *which = winner;
    return best;
}

/* The same for one value of y, or the gradients of its pieces. Selects, no branches: the winner is unpredictable. */
ALWAYS_INLINE void K(maxout_of_one)(const REAL *x, int64_t x_step, REAL *y, REAL *dx, int64_t dx_step, const int64_t pieces) {
    REAL best = x[0];
    int64_t winner = 0;
    for (int64_t m = 1; m < pieces; m++) {
        const REAL v = x[m * x_step];
        const int wins = (v > best) | ((v != v) & (best == best));
        best = wins ? v : best;
        winner = wins ? m : winner;
    }
    if (dx == NULL) {
        *y = best;
        return;
    }
    const REAL dy = *y;
    for (int64_t m = 0; m < pieces; m++) dx[m * dx_step] = 0;
    dx[winner * dx_step] = dy;
}

/* One pixel with contiguous channels: y from x, or dx from x and dy (in `values`). */
static inline void K(maxout_pixel)(
    const REAL *restrict x, REAL *restrict values, REAL *restrict dx, int64_t C, int64_t pieces
) {
    if (pieces == 2 && dx == NULL)
        for (int64_t c = 0; c < C; c++) K(maxout_of_one)(x + 2 * c, 1, values + c, NULL, 0, 2);
    else if (pieces == 2)
        for (int64_t c = 0; c < C; c++) { /* as a separate loop, so that it vectorises */
            const REAL a = x[2 * c], b = x[2 * c + 1], dy = values[c];
            const int second = (b > a) | ((b != b) & (a == a));
            dx[2 * c] = second ? 0 : dy;
            dx[2 * c + 1] = second ? dy : 0;
        }
    else
        for (int64_t c = 0; c < C; c++)
            K(maxout_of_one)(x + c * pieces, 1, values + c, dx == NULL ? NULL : dx + c * pieces, 1, pieces);
}

/* A row of contiguous pixels of a channel, whose pieces are planes. */
static inline void K(maxout_row)(
    const REAL *x, int64_t x_step, REAL *values, REAL *dx, int64_t dx_step, int64_t width, int64_t pieces
) {
    for (int64_t i = 0; i < width; i += LANES) {
        const int64_t lanes = width - i < LANES ? width - i : LANES;
        vmask which;
        const vreal best = K(largest)(x + i, x_step, pieces, lanes, &which);
        if (dx == NULL) {
            if (lanes == LANES) K(store)(values + i, best);
            else K(store_tail)(values + i, best, lanes);
            continue;
        }
        const vreal dy = lanes == LANES ? K(load)(values + i) : K(load_tail)(values + i, lanes);
        for (int64_t m = 0; m < pieces; m++) {
            const vreal part = (vreal)((vmask)dy & (which == (vmask){0} + (INTEGER)m));
            if (lanes == LANES) K(store)(dx + m * dx_step + i, part);
            else K(store_tail)(dx + m * dx_step + i, part, lanes);
        }
    }
}

/* y from x, or dx from x and dy. A task is a plane of y or, if channels are innermost, that many pixels. */
static inline void K(maxout)(const cnn_maxout *call, int64_t begin, int64_t end, const cnn_tensor *y, const int backward) {
    const cnn_tensor *x = &call->x, *dx = &call->dx;
    const int64_t C = y->shape[1], width = y->shape[4], rows = y->shape[2] * y->shape[3], pieces = call->pieces;
    const int64_t pixels = y->shape[0] * rows * width, last = end * call->pixels < pixels ? end * call->pixels : pixels;
    for (int64_t i = begin * call->pixels; i < last; i++) /* pixels is 0 where tasks are planes */
        K(maxout_pixel)(
            (const REAL *)x->data + K(pixel)(x, i), (REAL *)y->data + K(pixel)(y, i),
            backward ? (REAL *)dx->data + K(pixel)(dx, i) : NULL, C, pieces
        );
    const int in_rows = x->stride[4] == 1 && y->stride[4] == 1 && (!backward || dx->stride[4] == 1);
    for (int64_t plane = begin; !call->pixels && plane < end; plane++)
        for (int64_t row = 0; row < rows; row++) {
            const int64_t n = plane / C, c = plane % C, first = (n * rows + row) * width;
            const REAL *from = (const REAL *)x->data + K(pixel)(x, first) + c * pieces * x->stride[1];
            REAL *values = (REAL *)y->data + K(pixel)(y, first) + c * y->stride[1];
            REAL *to = backward ? (REAL *)dx->data + K(pixel)(dx, first) + c * pieces * dx->stride[1] : NULL;
            if (in_rows) K(maxout_row)(from, x->stride[1], values, to, backward ? dx->stride[1] : 0, width, pieces);
            for (int64_t i = 0; !in_rows && i < width; i++)
                K(maxout_of_one)(
                    from + i * x->stride[4], x->stride[1], values + i * y->stride[4], backward ? to + i * dx->stride[4] : NULL,
                    backward ? dx->stride[1] : 0, pieces
                );
        }
}

static void K(maxout_forward)(void *call, int64_t begin, int64_t end, void *scratch) {
    (void)scratch;
    K(maxout)(call, begin, end, &((const cnn_maxout *)call)->y, 0);
}
static void K(maxout_backward)(void *call, int64_t begin, int64_t end, void *scratch) {
    (void)scratch;
    K(maxout)(call, begin, end, &((const cnn_maxout *)call)->dy, 1);
}

/* ── Softmax ── */

/* e^(x - m) for x <= m, corrected for the rounding of x - m. */
static inline vreal K(exp_difference)(vreal x, vreal m) {
    vreal d = x - m, back = x - d;
    vreal rest = (x - (d + back)) + (back - m);
    rest = (vreal)((vmask)rest & (d > EXP_SMALLEST));
    K(scaled) e = K(exp_scaled)(K(at_least)(d, EXP_SMALLEST), rest);
    return K(scale)(e.m, e.n);
}

/* sum[0 ... LANES) += v */
static inline void K(add_to)(double *sum, vreal v) {
    REAL part[LANES];
    K(store)(part, v);
    for (int l = 0; l < LANES; l += WIDE) *(vwide *)(sum + l) += K(widen)(part + l);
}

static inline vreal K(load_part)(const REAL *p, int64_t lanes, REAL beyond) {
    if (lanes == LANES) return K(load)(p);
    REAL part[LANES];
    for (int l = 0; l < LANES; l++) part[l] = beyond;
    K(store_tail)(part, K(load_tail)(p, lanes), lanes);
    return K(load)(part);
}
static inline void K(store_part)(REAL *p, vreal v, int64_t lanes) {
    if (lanes == LANES) K(store)(p, v);
    else K(store_tail)(p, v, lanes);
}

/* From a column's maximum m, the number of values equal to m, and the sum of e^(x - m) of the others: the factor of softmax,
 * or the term that log-softmax subtracts. NaN if m is not finite. */
static inline REAL K(softmax_finish)(int logarithm, double m, double equal, double others) {
    const double rest = others + (equal - 1) + (m - m);
    return (REAL)(logarithm ? log1p(rest) : 1 / (1 + rest));
}

/* `count` adjacent columns, whose values are `step` apart. `sign` is -1 for softmin, which takes -x. */
static __attribute__((noinline)) void K(softmax_across)(
    const REAL *x, int64_t x_step, REAL *y, int64_t y_step, int64_t length, int64_t count, int logarithm, REAL sign
) {
    REAL m[BLOCK], equal[BLOCK], finish[BLOCK];
    double others[BLOCK];
    for (int64_t first = 0; first < count; first += BLOCK, x += BLOCK, y += BLOCK) {
        const int64_t width = count - first < BLOCK ? count - first : BLOCK;
        for (int64_t j = 0; j < width; j += LANES) {
            const int64_t lanes = width - j < LANES ? width - j : LANES;
            K(store)(m + j, sign * K(load_part)(x + j, lanes, 0));
            K(store)(equal + j, (vreal){0});
            for (int l = 0; l < LANES; l++) others[j + l] = 0;
        }
        for (int64_t i = 1; i < length; i++)
            for (int64_t j = 0; j < width; j += LANES) {
                const int64_t lanes = width - j < LANES ? width - j : LANES;
                const vreal v = sign * K(load_part)(x + i * x_step + j, lanes, 0), old = K(load)(m + j);
                K(store)(m + j, K(select)(v > old, v, old));
            }
        for (int64_t i = 0; i < length; i++)
            for (int64_t j = 0; j < width; j += LANES) {
                const int64_t lanes = width - j < LANES ? width - j : LANES;
                const vreal v = sign * K(load_part)(x + i * x_step + j, lanes, 0), top = K(load)(m + j);
                const vreal e = K(exp_difference)(v, top);
                K(store)(equal + j, K(load)(equal + j) + (vreal)((vmask)ONE & (v == top)));
                K(add_to)(others + j, (vreal)((vmask)e & ~(v == top)));
                if (!logarithm) K(store_part)(y + i * y_step + j, e, lanes);
            }
        for (int64_t j = 0; j < width; j++) finish[j] = K(softmax_finish)(logarithm, m[j], equal[j], others[j]);
        for (int64_t i = 0; i < length; i++)
            for (int64_t j = 0; j < width; j += LANES) {
                const int64_t lanes = width - j < LANES ? width - j : LANES;
                REAL *to = y + i * y_step + j;
                if (logarithm)
                    K(store_part)(
                        to, (sign * K(load_part)(x + i * x_step + j, lanes, 0) - K(load)(m + j)) - K(load)(finish + j), lanes
                    );
                else K(store_part)(to, K(load_part)(to, lanes, 0) * K(load)(finish + j), lanes);
            }
    }
}

/* One column with contiguous values. */
static __attribute__((noinline)) void K(softmax_along)(const REAL *x, REAL *y, int64_t length, int logarithm, REAL sign) {
    const REAL low = -sign * (REAL)INFINITY;
    vreal lane = sign * K(load_part)(x, length < LANES ? length : LANES, low), equal = {0};
    double others[LANES] = {0}, rest = 0, same = 0;
    for (int64_t i = LANES; i < length; i += LANES) {
        const vreal v = sign * K(load_part)(x + i, length - i < LANES ? length - i : LANES, low);
        lane = K(select)(v > lane, v, lane);
    }
    REAL m = lane[0];
    for (int l = 1; l < LANES; l++) m = lane[l] > m ? lane[l] : m;
    const vreal top = K(splat)(m);
    for (int64_t i = 0; i < length; i += LANES) {
        const int64_t lanes = length - i < LANES ? length - i : LANES;
        const vreal v = sign * K(load_part)(x + i, lanes, low), e = K(exp_difference)(v, top);
        equal += (vreal)((vmask)ONE & (v == top));
        K(add_to)(others, (vreal)((vmask)e & ~(v == top)));
        if (!logarithm) K(store_part)(y + i, e, lanes);
    }
    for (int l = 0; l < LANES; l++) {
        rest += others[l];
        same += equal[l];
    }
    const vreal finish = K(splat)(K(softmax_finish)(logarithm, m, same, rest));
    for (int64_t i = 0; i < length; i += LANES) {
        const int64_t lanes = length - i < LANES ? length - i : LANES;
        const vreal v = K(load_part)(logarithm ? x + i : y + i, lanes, 0);
        K(store_part)(y + i, logarithm ? (sign * v - top) - finish : v * finish, lanes);
    }
}

/* sum[0 ... LANES) += a b in float64 */
static inline void K(add_product_to)(double *sum, vreal a, vreal b) {
    REAL as[LANES], bs[LANES];
    K(store)(as, a);
    K(store)(bs, b);
    for (int l = 0; l < LANES; l += WIDE) *(vwide *)(sum + l) += K(widen)(as + l) * K(widen)(bs + l);
}

/* dx of one value: y (dy - total), or dy - e^y total. */
static inline vreal K(softmax_slope)(int logarithm, REAL sign, vreal y, vreal dy, vreal total) {
    return logarithm ? dy - K(exp)(y) * total : sign * y * (dy - total);
}

static __attribute__((noinline)) void K(softmax_across_backward)(
    const REAL *y, int64_t y_step, const REAL *dy, int64_t dy_step, REAL *dx, int64_t dx_step, int64_t length, int64_t count,
    int logarithm, REAL sign
) {
    double sums[BLOCK];
    REAL total[BLOCK];
    for (int64_t first = 0; first < count; first += BLOCK, y += BLOCK, dy += BLOCK, dx += BLOCK) {
        const int64_t width = count - first < BLOCK ? count - first : BLOCK;
        for (int64_t j = 0; j < BLOCK; j++) sums[j] = 0;
        for (int64_t i = 0; i < length; i++)
            for (int64_t j = 0; j < width; j += LANES) {
                const int64_t lanes = width - j < LANES ? width - j : LANES;
                const vreal g = K(load_part)(dy + i * dy_step + j, lanes, 0);
                K(add_product_to)(sums + j, logarithm ? ONE : K(load_part)(y + i * y_step + j, lanes, 0), g);
            }
        for (int64_t j = 0; j < BLOCK; j++) total[j] = (REAL)sums[j];
        for (int64_t i = 0; i < length; i++)
            for (int64_t j = 0; j < width; j += LANES) {
                const int64_t lanes = width - j < LANES ? width - j : LANES;
                K(store_part)(
                    dx + i * dx_step + j,
                    K(softmax_slope)(
                        logarithm, sign, K(load_part)(y + i * y_step + j, lanes, 0),
                        K(load_part)(dy + i * dy_step + j, lanes, 0), K(load)(total + j)
                    ),
                    lanes
                );
            }
    }
}

static __attribute__((noinline)) void K(softmax_along_backward)(
    const REAL *y, const REAL *dy, REAL *dx, int64_t length, int logarithm, REAL sign
) {
    double sums[LANES] = {0}, sum = 0;
    for (int64_t i = 0; i < length; i += LANES) {
        const int64_t lanes = length - i < LANES ? length - i : LANES;
        K(add_product_to)(sums, logarithm ? ONE : K(load_part)(y + i, lanes, 0), K(load_part)(dy + i, lanes, 0));
    }
    for (int l = 0; l < LANES; l++) sum += sums[l];
    const vreal total = K(splat)((REAL)sum);
    for (int64_t i = 0; i < length; i += LANES) {
        const int64_t lanes = length - i < LANES ? length - i : LANES;
        K(store_part)(
            dx + i, K(softmax_slope)(logarithm, sign, K(load_part)(y + i, lanes, 0), K(load_part)(dy + i, lanes, 0), total),
            lanes
        );
    }
}

/* Tasks are columns. Adjacent columns are processed together; others one by one, gathered if not contiguous. */
static void K(softmax_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_softmax *call = description;
    const cnn_elementwise *columns = &call->columns;
    REAL *xs = scratch, *ys = xs + call->length;
    const REAL sign = call->negative ? -1 : 1;
    const int across = call->x_step != 1 && columns->x.stride[4] == 1 && columns->y.stride[4] == 1;
    for (int64_t i = begin, count; i < end; i += count) {
        cnn_offsets at;
        count = cnn_row(columns, i, across ? end : i + 1, &at);
        const REAL *x = (const REAL *)columns->x.data + at.x;
        REAL *y = (REAL *)columns->y.data + at.y;
        if (across) {
            K(softmax_across)(x, call->x_step, y, call->y_step, call->length, count, call->logarithm, sign);
            continue;
        }
        REAL *to = call->y_step == 1 ? y : ys;
        K(softmax_along)(K(gather)(x, call->x_step, call->length, xs), to, call->length, call->logarithm, sign);
        if (to == ys)
            for (int64_t k = 0; k < call->length; k++) y[k * call->y_step] = ys[k];
    }
}

static void K(softmax_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_softmax *call = description;
    const cnn_elementwise *columns = &call->columns;
    REAL *ys = scratch, *dys = ys + call->length, *dxs = dys + call->length;
    const REAL sign = call->negative ? -1 : 1;
    const int across = call->x_step != 1 && columns->x.stride[4] == 1 && columns->dy.stride[4] == 1
        && columns->y.stride[4] == 1;
    for (int64_t i = begin, count; i < end; i += count) {
        cnn_offsets at;
        count = cnn_row(columns, i, across ? end : i + 1, &at);
        const REAL *y = (const REAL *)columns->x.data + at.x, *dy = (const REAL *)columns->dy.data + at.dy;
        REAL *dx = (REAL *)columns->y.data + at.y;
        if (across) {
            K(softmax_across_backward)(
                y, call->x_step, dy, call->dy_step, dx, call->y_step, call->length, count, call->logarithm, sign
            );
            continue;
        }
        REAL *to = call->y_step == 1 ? dx : dxs;
        K(softmax_along_backward)(
            K(gather)(y, call->x_step, call->length, ys), K(gather)(dy, call->dy_step, call->length, dys), to, call->length,
            call->logarithm, sign
        );
        if (to == dxs)
            for (int64_t k = 0; k < call->length; k++) dx[k * call->y_step] = dxs[k];
    }
}

/* ── Sparsemax ── */

/* A few columns at a time, in float64, gathered from any layout; beyond `count` the first is repeated. */
static inline void K(columns_side_by_side)(
    const REAL *x, int64_t step, int64_t apart, int64_t length, int64_t count, double *to
) {
    for (int64_t i = 0; i < length; i++)
        for (int64_t c = 0; c < WIDE; c++) to[i * WIDE + c] = (double)x[i * step + (c < count ? c : 0) * apart];
}

typedef int64_t K(wide_mask) __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
static inline vwide K(wide_select)(K(wide_mask) m, vwide a, vwide b) {
    return (vwide)((m & (K(wide_mask))a) | (~m & (K(wide_mask))b));
}

/* tau is the zero of sum max(u - tau, 0) - 1, a convex decreasing function. Newton's method, started at max u - 1, where it is
 * not negative, converges monotonically from the left and terminates, as the set of u > tau only shrinks. */
static void K(sparsemax_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_softmax *call = description;
    const cnn_elementwise *columns = &call->columns;
    const int64_t length = call->length;
    double *u = scratch;
    for (int64_t first = begin, count; first < end; first += count) {
        cnn_offsets at;
        count = cnn_row(columns, first, first + WIDE < end ? first + WIDE : end, &at);
        const int64_t x_apart = columns->x.stride[4], y_apart = columns->y.stride[4];
        REAL *y = (REAL *)columns->y.data + at.y;
        K(columns_side_by_side)((const REAL *)columns->x.data + at.x, call->x_step, x_apart, length, count, u);
        vwide m = *(vwide *)u, poison = {0}, tau = (vwide){0} - 1;
        for (int64_t i = 1; i < length; i++) {
            const vwide v = *(vwide *)(u + i * WIDE);
            m = K(wide_select)((K(wide_mask))(v > m), v, m);
        }
        for (int64_t i = 0; i < length; i++) {
            vwide v = *(vwide *)(u + i * WIDE);
            poison = K(wide_select)((K(wide_mask))(v != v), v, poison);
            *(vwide *)(u + i * WIDE) = v - m;
        }
        poison = (poison - poison) + (m - m);
        for (int64_t step = 0; step < length; step++) {
            vwide sum = {0}, support = {0}, next;
            for (int64_t i = 0; i < length; i++) {
                const vwide v = *(vwide *)(u + i * WIDE);
                const K(wide_mask) above = (K(wide_mask))(v > tau);
                sum += (vwide)(above & (K(wide_mask))v);
                support += (vwide)(above & (K(wide_mask))((vwide){0} + 1));
            }
            next = (sum - 1) / support;
            next = K(wide_select)((K(wide_mask))(next > tau), next, tau);
            int moved = 0;
            for (int c = 0; c < WIDE; c++) moved |= next[c] > tau[c];
            tau = next;
            if (!moved) break;
        }
        for (int64_t i = 0; i < length; i++) {
            const vwide v = *(vwide *)(u + i * WIDE) - tau, part = (vwide)((K(wide_mask))(v > 0) & (K(wide_mask))v) + poison;
            for (int64_t c = 0; c < count; c++) y[i * call->y_step + c * y_apart] = (REAL)part[c];
        }
    }
}

/* x holds y. Off the support 0; NaN where y is NaN. */
static void K(sparsemax_backward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_softmax *call = description;
    const cnn_elementwise *columns = &call->columns;
    const int64_t length = call->length;
    double *ys = scratch, *dys = ys + length * WIDE;
    for (int64_t first = begin, count; first < end; first += count) {
        cnn_offsets at;
        count = cnn_row(columns, first, first + WIDE < end ? first + WIDE : end, &at);
        REAL *dx = (REAL *)columns->y.data + at.y;
        K(columns_side_by_side)((const REAL *)columns->x.data + at.x, call->x_step, columns->x.stride[4], length, count, ys);
        K(columns_side_by_side)(
            (const REAL *)columns->dy.data + at.dy, call->dy_step, columns->dy.stride[4], length, count, dys
        );
        vwide sum = {0}, support = {0};
        for (int64_t i = 0; i < length; i++) {
            const vwide y = *(vwide *)(ys + i * WIDE), g = *(vwide *)(dys + i * WIDE);
            const K(wide_mask) on = (K(wide_mask))(y > 0);
            sum += (vwide)(on & (K(wide_mask))g);
            support += (vwide)(on & (K(wide_mask))((vwide){0} + 1));
        }
        const vwide mean = sum / support;
        for (int64_t i = 0; i < length; i++) {
            const vwide y = *(vwide *)(ys + i * WIDE), g = *(vwide *)(dys + i * WIDE);
            const vwide part = K(wide_select)((K(wide_mask))(y > 0), g - mean, y * 0);
            for (int64_t c = 0; c < count; c++) dx[i * call->y_step + c * columns->y.stride[4]] = (REAL)part[c];
        }
    }
}

/* ── Hardmax ── */

static void K(hardmax_forward)(void *description, int64_t begin, int64_t end, void *scratch) {
    const cnn_softmax *call = description;
    const cnn_elementwise *columns = &call->columns;
    REAL *best = scratch;
    INTEGER which[BLOCK];
    const int across = columns->x.stride[4] == 1 && columns->y.stride[4] == 1;
    for (int64_t first = begin, count; first < end; first += count) {
        cnn_offsets at;
        count = cnn_row(columns, first, first + BLOCK < end ? first + BLOCK : end, &at);
        const REAL *x = (const REAL *)columns->x.data + at.x;
        REAL *y = (REAL *)columns->y.data + at.y;
        if (across) {
            for (int64_t c = 0; c < count; c++) {
                best[c] = x[c];
                which[c] = 0;
            }
            for (int64_t i = 1; i < call->length; i++)
                for (int64_t c = 0; c < count; c++) {
                    const REAL v = x[i * call->x_step + c];
                    const int wins = (v > best[c]) | ((v != v) & (best[c] == best[c]));
                    best[c] = wins ? v : best[c];
                    which[c] = wins ? (INTEGER)i : which[c];
                }
            for (int64_t i = 0; i < call->length; i++)
                for (int64_t c = 0; c < count; c++)
                    y[i * call->y_step + c] = best[c] == best[c] ? (REAL)(which[c] == (INTEGER)i) : best[c];
            continue;
        }
        for (int64_t c = 0; c < count; c++) {
            const REAL *column = x + c * columns->x.stride[4];
            REAL *to = y + c * columns->y.stride[4], top = column[0];
            int64_t winner = 0;
            for (int64_t i = 1; i < call->length; i++) {
                const REAL v = column[i * call->x_step];
                const int wins = (v > top) | ((v != v) & (top == top));
                top = wins ? v : top;
                winner = wins ? i : winner;
            }
            const REAL other = top == top ? 0 : top;
            for (int64_t i = 0; i < call->length; i++) to[i * call->y_step] = other;
            to[winner * call->y_step] = top == top ? 1 : top;
        }
    }
}
#undef BLOCK
#undef ONE
#undef FAR
#undef PHI
