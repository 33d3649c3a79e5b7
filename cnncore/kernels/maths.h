/* Elementary functions of a vector, without branches: reduction of the argument, a polynomial, and the way back.
 *
 * float32 and float64 to about one unit in the last place over the whole range, results below the smallest normal number
 * included; NaN comes through, and infinities give the limit. Written for the order of evaluation that stands here: the
 * compiler may fuse a product into a sum (that only takes a rounding away) but not reorder. A lane's result does not depend on
 * the other lanes. The polynomials come from tools/make_coefficients.py: interpolation at Chebyshev nodes.
 */
#undef MANTISSA
#undef BIAS
#undef ROUNDER
#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_LARGEST
#undef EXP_SMALLEST
#undef EXP_FARTHEST
#undef EXPM1_FARTHEST
#undef TAIL_LONGEST
#undef UPPER_HALF
#undef LARGEST
#undef TERMS
#if REAL_BITS == 32
#define MANTISSA 23
#define BIAS 127
#define ROUNDER 12582912.0f         /* 1.5 * 2^23: adding it rounds to an integer, which its low bits then hold */
#define LN2_HIGH 0.693145751953125f /* 16 bits of log 2, so that n * LN2_HIGH is exact, and the rest */
#define LN2_LOW 1.42860682030941723e-6f
#define EXP_LARGEST 89            /* above it e^x is infinite */
#define EXP_SMALLEST -104         /* below it e^x is 0 */
#define EXP_FARTHEST 174          /* up to it e^-x can be scaled; x e^-x is 0 long before */
#define EXPM1_FARTHEST 18         /* from it on e^-x - 1 is -1 */
#define TAIL_LONGEST 15           /* from it on x times the normal distribution of -x is 0 */
#define UPPER_HALF INT32_C(-4096) /* mask: the upper half of the mantissa, whose square is exact */
#define LARGEST 3.4028234663852886e38f
static const REAL K(exp_terms)[] = {
    /* error 0.0037 · 2^-24 */
    0.500000001, 0.166666667, 0.0416664650, 0.00833331093, 0.00139336410, 0.000198909809,
};
static const REAL K(log1p_terms)[] = {
    /* error 0.061 · 2^-24 */
    -0.499999995, 0.333332373,   -0.249967599, 0.199567080,   -0.163651529,
    0.130333642,  -0.0913941377, 0.0493099734, -0.0171842670, 0.00280164199,
};
static const REAL K(tanh_terms)[] = {
    /* error 0.059 · 2^-24 */
    -0.333333320, 0.133331158, -0.0539098336, 0.0213118755, -0.00661491222,
};
static const REAL K(shrink_terms)[] = {
    /* error 0.089 · 2^-24 */
    0.333333332, -0.133333107, 0.0539634148, -0.0218295488, 0.00869784759, -0.00320680339, 0.000923500846, -0.000142793188,
};
static const REAL K(normal_terms)[] = {
    /* error 0.0085 · 2^-24 */
    0.398942280, -0.0664903606, 0.00997332848, -0.00118634399, 0.000113502296, -7.66053817e-6,
};
static const REAL K(tail_terms)[] = {
    /* error 0.0081 · 2^-24 */
    0.769193050,   -0.665382502, 0.495305625,    -0.313533173,    0.165019913,
    -0.0691186234, 0.0208011913, -0.00299057578, -0.000829523237, 0.000522231783,
};
#else
#define MANTISSA 52
#define BIAS 1023
#define ROUNDER 6755399441055744.0
#define LN2_HIGH 6.93147180369123816490e-01 /* 32 bits of log 2, and the rest */
#define LN2_LOW 1.90821492927058770002e-10
#define EXP_LARGEST 710
#define EXP_SMALLEST -746
#define EXP_FARTHEST 1416
#define EXPM1_FARTHEST 38
#define TAIL_LONGEST 39
#define UPPER_HALF (-(INT64_C(1) << 27))
#define LARGEST 1.7976931348623157e308
static const REAL K(exp_terms)[] = {
    /* error 0.002 · 2^-53 */
    0.50000000000000000,   0.16666666666666671,    0.041666666666666670,  0.0083333333333261409,
    0.0013888888888883752, 0.00019841269874800492, 2.4801587325533364e-5, 2.7557255425746434e-6,
    2.7557273661348636e-7, 2.5105206373957011e-8,  2.0914679376583935e-9,
};
static const REAL K(log1p_terms)[] = {
    /* error 0.011 · 2^-53 */
    -0.50000000000000000,    0.33333333333333176,   -0.24999999999974621,  0.19999999998361211,    -0.16666666610328129,
    0.14285713092791551,     -0.12499983019721867,  0.11110938960467566,   -0.099987054280750065,  0.090834704139585315,
    -0.082999317581277719,   0.075730356338073780,  -0.067993203853223712, 0.058586852529570789,   -0.046798182549893105,
    0.033278454917264360,    -0.020179668043339127, 0.0099689828380768817, -0.0038046517253179693, 0.0010433548766348140,
    -0.00018188303255002650, 1.5078437802226210e-5,
};
static const REAL K(tanh_terms)[] = {
    /* error 0.018 · 2^-53 */
    -0.33333333333333333,    0.13333333333332729,   -0.053968253967451192,  0.021869488494452376,
    -0.0088632344159541679,  0.0035921106181904481, -0.0014556637472391655, 0.00058894551539517003,
    -0.00023466287885907127, 8.5159321803027294e-5, -2.0634899771792013e-5,
};
static const REAL K(shrink_terms)[] = {
    /* error 0.13 · 2^-53 */
    0.33333333333333333,    -0.13333333333333090,   0.053968253968046376,  -0.021869488529129090,
    0.0088632354045782825,  -0.0035921266793663412, 0.0014558246920964942, -0.00058997929463000517,
    0.00023895705228738225, -9.6462777433131814e-5, 3.8389607893147333e-5, -1.4606131676715378e-5,
    4.9877603175203467e-6,  -1.3791814499083342e-6, 2.6330772232959335e-7, -2.5155023659382106e-8,
};
static const REAL K(normal_terms)[] = {
    /* error 0.0014 · 2^-53 */
    0.39894228040143268,    -0.066490380066905426,   0.0099735570100350220,  -0.0011873282154680344,
    0.00011543468751655942, -9.4446557931038458e-6,  6.6596798796552313e-7,  -4.1224107514160814e-8,
    2.2704137585676000e-9,  -1.1064328282755891e-10, 4.0743269774266275e-12,
};
static const REAL K(tail_terms)[] = {
    /* error 0.0091 · 2^-53 */
    0.76919304975006296,    -0.66538250289005687,    0.49530561596997601,    -0.31353315667128490,    0.16502036617041085,
    -0.069118638706998378,  0.020795066799178733,    -0.0029933767592853118, -0.00079786938854625324, 0.00054489896226897309,
    -5.9375808823238366e-5, -4.9762239104542745e-5,  1.6681612823097320e-5,  3.9788292832420496e-6,   -2.7704731182930196e-6,
    -3.3177211391216053e-7, 4.3530017857783598e-7,   3.5143890326413117e-8,  -6.7989125546015979e-8,  -3.2736597379179579e-9,
    8.3388377176716139e-9,  -4.9796099146118743e-10,
};
#endif
#define TERMS(name) (int)(sizeof K(name) / sizeof K(name)[0])

/* c[0] + c[1] x + c[2] x^2 + ... */
static inline vreal K(polynomial)(vreal x, const REAL *c, int terms) {
    vreal p = K(splat)(c[terms - 1]);
#pragma GCC unroll 32
    for (int i = terms - 2; i >= 0; i--) p = p * x + c[i];
    return p;
}

/* Bounds that let NaN through: the comparison is false for it. */
static inline vreal K(at_most)(vreal x, REAL bound) {
    vreal b = K(splat)(bound);
    return K(select)(x > b, b, x);
}
static inline vreal K(at_least)(vreal x, REAL bound) {
    vreal b = K(splat)(bound);
    return K(select)(x < b, b, x);
}
static inline vreal K(magnitude)(vreal x) { return (vreal)((vmask)x & ~((vmask){0} + (vmask)K(splat)(-(REAL)0))); }

/* A number as m 2^n, 0.7 < m < 1.5 (n is held in floating point): what e^x is made of. */
typedef struct {
    vreal m, n;
} K(scaled);

/* e^(x + rest), |rest| far below |x|. Anywhere, as long as n is not asked to be more than `scale` can do. */
static inline K(scaled) K(exp_scaled)(vreal x, vreal rest) {
    vreal n = (x * (REAL)1.44269504088896340736 + ROUNDER) - ROUNDER;
    vreal r = (x - n * LN2_HIGH) - n * LN2_LOW + rest;
    return (K(scaled)){(r * r * K(polynomial)(r, K(exp_terms), TERMS(exp_terms)) + r) + 1, n};
}

/* 2^n as a number, for n of normal numbers. */
static inline vreal K(power_of_2)(vreal n) {
    vmask bits = (vmask)(n + ROUNDER) - (vmask)K(splat)(ROUNDER);
    return (vreal)((bits + BIAS) << MANTISSA);
}

/* v 2^n in two steps: the first is exact, so that the result is rounded once even where it is subnormal. */
static inline vreal K(scale)(vreal v, vreal n) {
    vreal half = (n * (REAL)0.5 + ROUNDER) - ROUNDER;
    return v * K(power_of_2)(half) * K(power_of_2)(n - half);
}

static inline vreal K(exp)(vreal x) {
    x = K(at_least)(K(at_most)(x, EXP_LARGEST), EXP_SMALLEST);
    K(scaled) e = K(exp_scaled)(x, (vreal){0});
    return K(scale)(e.m, e.n);
}

/* e^x - 1 for x <= 0 (for others something without meaning): 2^n e^r - 1 = (2^n - 1) + 2^n r + 2^n (e^r - 1 - r). The first
 * sum is made with its rounding error, and so is r. */
static inline vreal K(expm1_of_negative)(vreal x) {
    x = K(at_most)(K(at_least)(x, -EXPM1_FARTHEST * (REAL)1.5), 0);
    vreal n = (x * (REAL)1.44269504088896340736 + ROUNDER) - ROUNDER;
    vreal high = x - n * LN2_HIGH, low = n * LN2_LOW;
    vreal r = high - low, rest = (high - r) - low;
    vreal power = K(power_of_2)(n), whole = power - 1;
    vreal sum = whole + power * r, lost = (whole - sum) + power * r;
    return sum + (lost + power * (r * r * K(polynomial)(r, K(exp_terms), TERMS(exp_terms)) + rest));
}

/* log(1 + e) for 0 <= e <= 1 */
static inline vreal K(log1p_of_unit)(vreal e) { return e * e * K(polynomial)(e, K(log1p_terms), TERMS(log1p_terms)) + e; }

/* tanh x: x + x^3 P(x^2) up to log(3)/2 = 0.549, where it is 1/2; beyond, 1 - 2 / (e^(2|x|) + 1), which cancels no more. */
static inline vreal K(tanh)(vreal x) {
    vreal a = K(magnitude)(x), z = x * x;
    K(scaled) e = K(exp_scaled)(2 * K(at_most)(a, EXPM1_FARTHEST), (vreal){0});
    vreal outer = 1 - 2 / (e.m * K(power_of_2)(e.n) + 1);
    vreal inner = x * z * K(polynomial)(z, K(tanh_terms), TERMS(tanh_terms)) + x;
    vmask sign = (vmask)x ^ (vmask)a;
    return K(select)(a > (REAL)0.5493061443340549, (vreal)((vmask)outer | sign), inner);
}

/* log x for x >= 0, subnormal numbers included: x = m 2^n with sqrt(1/2) <= m < sqrt(2), and with f = m - 1, s = f / (2 + f)
 *
 *     log m = log((1 + s) / (1 - s)) = 2 s + 2/3 s^3 + 2/5 s^5 + ... = f - (f^2/2 - s (f^2/2 + R)),  R = 2/3 s^2 + 2/5 s^4 + ...
 *
 * The second form keeps what f has of log m exact. |s| < 0.172: 5 terms of R for float32, 11 for float64. */
static inline vreal K(log)(vreal x) {
    const REAL least = REAL_BITS == 32 ? (REAL)1.17549435e-38 : (REAL)2.2250738585072014e-308; /* normal number */
    const vmask subnormal = x < least;
    const vreal normal = K(select)(subnormal, x * ((REAL)(INT64_C(1) << MANTISSA) * 4), x) + (vreal){0}; /* −0 as 0 */
    const vmask half_root = (vmask)K(splat)((REAL)0.70710678118654752440);
    const vmask over = (vmask)normal - half_root;
    const vmask exponent = (over >> MANTISSA) << MANTISSA;
    const vreal rounder = K(splat)(ROUNDER);
    const vreal n = (vreal)((vmask)rounder + (over >> MANTISSA)) - rounder - (vreal)(subnormal & (vmask)K(splat)(MANTISSA + 2));
    const vreal f = (vreal)((vmask)normal - exponent) - 1;
    const vreal s = f / (2 + f), z = s * s, half = (REAL)0.5 * f * f;
    vreal R = K(splat)((REAL)2 / (REAL_BITS == 32 ? 11 : 23));
#pragma GCC unroll 16
    for (int k = REAL_BITS == 32 ? 9 : 21; k >= 3; k -= 2) R = R * z + (REAL)2 / k;
    const vreal result = n * LN2_HIGH + (f - (half - (s * (half + R * z) + n * LN2_LOW)));
    return K(select)(x == 0, K(splat)(-INFINITY), K(select)((x == INFINITY) | (x != x), x, result));
}

/* x^p = e^(p log x) for x >= 0, or x > 0 where p < 0, to |p log x| units in the last place. */
static inline vreal K(power)(vreal x, REAL p) { return K(exp)(p * K(log)(x)); }

/* The normal distribution Phi. Its middle: Phi(x) = 1/2 + x P(x^2) for |x| <= 1; P is returned. */
static inline vreal K(normal_middle)(vreal x) { return K(polynomial)(x * x, K(normal_terms), TERMS(normal_terms)); }

/* Its tail: Phi(-a) = bell R for 1 <= a <= TAIL_LONGEST, where R, which changes slowly, is returned and bell = e^(-a^2/2) is
 * handed over scaled. a^2 is not rounded: it is h^2 + (a - h)(a + h), h the upper half of a's digits. */
static inline vreal K(normal_tail)(vreal a, K(scaled) *bell) {
    vreal h = (vreal)((vmask)a & UPPER_HALF), pole = a + 5;
    *bell = K(exp_scaled)(h * h * (REAL)-0.5, (a - h) * (a + h) * (REAL)-0.5);
    return K(polynomial)((a - 5) / pole, K(tail_terms), TERMS(tail_terms)) / pole;
}
