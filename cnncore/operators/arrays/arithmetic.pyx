"""Arithmetic on values: functions of one, y = f(x), and of two, y = f(x, z).

Each section gives the formula, its derivatives, and the functions, in this order, as for activations, whose loops they
use; setting[0] is z. All compute in long double and round once.
"""

from libc.math cimport (
    acosl as acos,
    acoshl as acosh,
    asinl as asin,
    asinhl as asinh,
    atanl as atan,
    atanhl as atanh,
    ceill as ceil,
    copysignl as copysign,
    cosl as cos,
    coshl as cosh,
    erfl as erf,
    expl as exp,
    floorl as floor,
    fmodl as fmod,
    logl as log,
    powl as power,
    rintl as rint,
    sinl as sin,
    sinhl as sinh,
    sqrtl as sqrt,
    tanl as tan,
    truncl as trunc,
)

from cnncore.operators.activation.reference cimport activation
from cnncore.runtime.dispatch cimport real

cdef long double TWO_OVER_ROOT_PI = 2 / sqrt(acos(-1))


# ── Of two ── z = setting[0]; ∂y/∂z is the slope of ..._OTHER ─────────────────────────────────────────
#
#     plus        y = x + z               ∂y/∂x = 1                   ∂y/∂z = 1
#     subtract    y = x − z               ∂y/∂x = 1                   ∂y/∂z = −1
#     multiply    y = x z                 ∂y/∂x = z                   ∂y/∂z = x
#     divide      y = x / z               ∂y/∂x = 1 / z               ∂y/∂z = −x / z²
#     maximum     y = max(x, z)           ∂y/∂x = 1 for x ≥ z else 0  ∂y/∂z = 1 − ∂y/∂x         a NaN wins, the first of two
#     minimum     y = min(x, z)           ∂y/∂x = 1 for x ≤ z else 0  ∂y/∂z = 1 − ∂y/∂x
#     power       y = xᶻ                  ∂y/∂x = z xᶻ⁻¹              ∂y/∂z = xᶻ log x, 0 where y = 0

cdef real plus(real x, const double *setting) noexcept nogil:
    return <real> (<long double> x + setting[0])

cdef real subtract(real x, const double *setting) noexcept nogil:
    return <real> (<long double> x - setting[0])

cdef real subtract_slope(real x, const double *setting) noexcept nogil:
    return 1

cdef real subtract_other_slope(real x, const double *setting) noexcept nogil:
    return -1

cdef real multiply(real x, const double *setting) noexcept nogil:
    return <real> (<long double> x * setting[0])

cdef real multiply_slope(real x, const double *setting) noexcept nogil:
    return <real> setting[0]

cdef real multiply_other_slope(real x, const double *setting) noexcept nogil:
    return x

cdef real divide(real x, const double *setting) noexcept nogil:
    return <real> (<long double> x / setting[0])

cdef real divide_slope(real x, const double *setting) noexcept nogil:
    return <real> (1 / <long double> setting[0])

cdef real divide_other_slope(real x, const double *setting) noexcept nogil:
    return <real> (-<long double> x / setting[0] / setting[0])

cdef real maximum(real x, const double *setting) noexcept nogil:
    return x if x >= setting[0] or x != x else <real> setting[0]

cdef real maximum_slope(real x, const double *setting) noexcept nogil:
    return 1 if x >= setting[0] or x != x else 0

cdef real maximum_other_slope(real x, const double *setting) noexcept nogil:
    return 0 if x >= setting[0] or x != x else 1

cdef real minimum(real x, const double *setting) noexcept nogil:
    return x if x <= setting[0] or x != x else <real> setting[0]

cdef real minimum_slope(real x, const double *setting) noexcept nogil:
    return 1 if x <= setting[0] or x != x else 0

cdef real minimum_other_slope(real x, const double *setting) noexcept nogil:
    return 0 if x <= setting[0] or x != x else 1

cdef real to_power(real x, const double *setting) noexcept nogil:
    return <real> power(x, setting[0])

cdef real to_power_slope(real x, const double *setting) noexcept nogil:
    return <real> (setting[0] * power(x, <long double> setting[0] - 1)) if setting[0] else 0

cdef real to_power_other_slope(real x, const double *setting) noexcept nogil:
    cdef long double y = power(x, setting[0])
    return <real> (y * log(x)) if y else 0

# Remainders: the slope with respect to z is minus the integer quotient of x by z.
#
#     remainder   y = x − z ⌊x / z⌋       ∂y/∂x = 1                   ∂y/∂z = −⌊x / z⌋          of z's sign
#     fmod        y = x − z trunc(x / z)  ∂y/∂x = 1                   ∂y/∂z = −trunc(x / z)     of x's sign

cdef real remainder_of(real x, const double *setting) noexcept nogil:
    cdef long double z = setting[0], rest = fmod(x, z)
    if rest == 0:
        return <real> copysign(0, z)
    return <real> (rest + z if (rest < 0) != (z < 0) else rest)

cdef real remainder_other_slope(real x, const double *setting) noexcept nogil:
    return <real> -floor(<long double> x / setting[0])

cdef real fmod_of(real x, const double *setting) noexcept nogil:
    return <real> fmod(x, setting[0])

cdef real fmod_other_slope(real x, const double *setting) noexcept nogil:
    return <real> -trunc(<long double> x / setting[0])

REMAINDER = activation("remainder", <void *> remainder_of[float], <void *> remainder_of[double],
                       <void *> subtract_slope[float], <void *> subtract_slope[double])
REMAINDER_OTHER = activation("remainder_other", <void *> remainder_of[float], <void *> remainder_of[double],
                             <void *> remainder_other_slope[float], <void *> remainder_other_slope[double])
FMOD = activation("fmod", <void *> fmod_of[float], <void *> fmod_of[double],
                  <void *> subtract_slope[float], <void *> subtract_slope[double])
FMOD_OTHER = activation("fmod_other", <void *> fmod_of[float], <void *> fmod_of[double],
                        <void *> fmod_other_slope[float], <void *> fmod_other_slope[double])
ADD = activation("plus", <void *> plus[float], <void *> plus[double],
                 <void *> subtract_slope[float], <void *> subtract_slope[double])
SUBTRACT = activation("subtract", <void *> subtract[float], <void *> subtract[double],
                      <void *> subtract_slope[float], <void *> subtract_slope[double])
SUBTRACT_OTHER = activation("subtract_other", <void *> subtract[float], <void *> subtract[double],
                            <void *> subtract_other_slope[float], <void *> subtract_other_slope[double])
MULTIPLY = activation("multiply", <void *> multiply[float], <void *> multiply[double],
                      <void *> multiply_slope[float], <void *> multiply_slope[double])
MULTIPLY_OTHER = activation("multiply_other", <void *> multiply[float], <void *> multiply[double],
                            <void *> multiply_other_slope[float], <void *> multiply_other_slope[double])
DIVIDE = activation("divide", <void *> divide[float], <void *> divide[double],
                    <void *> divide_slope[float], <void *> divide_slope[double])
DIVIDE_OTHER = activation("divide_other", <void *> divide[float], <void *> divide[double],
                          <void *> divide_other_slope[float], <void *> divide_other_slope[double])
MAXIMUM = activation("maximum", <void *> maximum[float], <void *> maximum[double],
                     <void *> maximum_slope[float], <void *> maximum_slope[double])
MAXIMUM_OTHER = activation("maximum_other", <void *> maximum[float], <void *> maximum[double],
                           <void *> maximum_other_slope[float], <void *> maximum_other_slope[double])
MINIMUM = activation("minimum", <void *> minimum[float], <void *> minimum[double],
                     <void *> minimum_slope[float], <void *> minimum_slope[double])
MINIMUM_OTHER = activation("minimum_other", <void *> minimum[float], <void *> minimum[double],
                           <void *> minimum_other_slope[float], <void *> minimum_other_slope[double])
POWER = activation("power", <void *> to_power[float], <void *> to_power[double],
                   <void *> to_power_slope[float], <void *> to_power_slope[double])
POWER_OTHER = activation("power_other", <void *> to_power[float], <void *> to_power[double],
                         <void *> to_power_other_slope[float], <void *> to_power_other_slope[double])


# ── Of one: roots, logarithms, signs ──────────────────────────────────────────────────────────────────────────────────
#
#     negative    y = −x                  ∂y/∂x = −1
#     reciprocal  y = 1 / x               ∂y/∂x = −1 / x²
#     sqrt        y = √x                  ∂y/∂x = 1 / (2 √x)
#     log         y = log x               ∂y/∂x = 1 / x               to the base e
#     erf         y = 2/√π ∫₀ˣ e^{−t²} dt  ∂y/∂x = 2/√π e^{−x²}

cdef real negative(real x, const double *setting) noexcept nogil:
    return -x

cdef real negative_slope(real x, const double *setting) noexcept nogil:
    return -1

cdef real reciprocal(real x, const double *setting) noexcept nogil:
    return <real> (1 / <long double> x)

cdef real reciprocal_slope(real x, const double *setting) noexcept nogil:
    return <real> (-1 / <long double> x / x)

cdef real square_root(real x, const double *setting) noexcept nogil:
    return <real> sqrt(x)

cdef real square_root_slope(real x, const double *setting) noexcept nogil:
    return <real> (1 / (2 * sqrt(x)))

cdef real logarithm(real x, const double *setting) noexcept nogil:
    return <real> log(x)

cdef real logarithm_slope(real x, const double *setting) noexcept nogil:
    return <real> (1 / <long double> x) if x >= 0 else <real> log(x)

cdef real error_function(real x, const double *setting) noexcept nogil:
    return <real> erf(x)

cdef real error_function_slope(real x, const double *setting) noexcept nogil:
    return <real> (TWO_OVER_ROOT_PI * exp(-<long double> x * x))

NEGATIVE = activation("negative", <void *> negative[float], <void *> negative[double],
                      <void *> negative_slope[float], <void *> negative_slope[double])
RECIPROCAL = activation("reciprocal", <void *> reciprocal[float], <void *> reciprocal[double],
                        <void *> reciprocal_slope[float], <void *> reciprocal_slope[double])
SQRT = activation("sqrt", <void *> square_root[float], <void *> square_root[double],
                  <void *> square_root_slope[float], <void *> square_root_slope[double])
LOG = activation("log", <void *> logarithm[float], <void *> logarithm[double],
                 <void *> logarithm_slope[float], <void *> logarithm_slope[double])
ERF = activation("erf", <void *> error_function[float], <void *> error_function[double],
                 <void *> error_function_slope[float], <void *> error_function_slope[double])


# ── Of one: rounding ──────────────────────────────────────────────────────────────────────────────────────────
#
#     floor       y = ⌊x⌋                 ∂y/∂x = 0
#     ceil        y = ⌈x⌉                 ∂y/∂x = 0
#     round       y = the integer nearest to x, ties to even          ∂y/∂x = 0

cdef real down(real x, const double *setting) noexcept nogil:
    return <real> floor(x)

cdef real up(real x, const double *setting) noexcept nogil:
    return <real> ceil(x)

cdef real to_nearest(real x, const double *setting) noexcept nogil:
    return <real> rint(x)

cdef real flat(real x, const double *setting) noexcept nogil:
    return 0

FLOOR = activation("floor", <void *> down[float], <void *> down[double], <void *> flat[float], <void *> flat[double])
CEIL = activation("ceil", <void *> up[float], <void *> up[double], <void *> flat[float], <void *> flat[double])
ROUND = activation("round", <void *> to_nearest[float], <void *> to_nearest[double],
                   <void *> flat[float], <void *> flat[double])


# ── Of one: circular and hyperbolic ───────────────────────────────────────────────────────────────────────────────────
#
#     sin x    cos x              asin x   1 / √(1 − x²)      sinh x   cosh x      asinh x  1 / √(x² + 1)
#     cos x    −sin x             acos x   −1 / √(1 − x²)     cosh x   sinh x      acosh x  1 / √(x² − 1)
#     tan x    1 + tan² x         atan x   1 / (1 + x²)                            atanh x  1 / (1 − x²)

cdef real sine(real x, const double *setting) noexcept nogil:
    return <real> sin(x)

cdef real cosine(real x, const double *setting) noexcept nogil:
    return <real> cos(x)

cdef real cosine_slope(real x, const double *setting) noexcept nogil:
    return <real> -sin(x)

cdef real tangent(real x, const double *setting) noexcept nogil:
    return <real> tan(x)

cdef real tangent_slope(real x, const double *setting) noexcept nogil:
    cdef long double c = cos(x)
    return <real> (1 / c / c)

cdef real arc_sine(real x, const double *setting) noexcept nogil:
    return <real> asin(x)

cdef real arc_sine_slope(real x, const double *setting) noexcept nogil:
    return <real> (1 / sqrt((1 - <long double> x) * (1 + <long double> x)))

cdef real arc_cosine(real x, const double *setting) noexcept nogil:
    return <real> acos(x)

cdef real arc_cosine_slope(real x, const double *setting) noexcept nogil:
    return <real> (-1 / sqrt((1 - <long double> x) * (1 + <long double> x)))

cdef real arc_tangent(real x, const double *setting) noexcept nogil:
    return <real> atan(x)

cdef real arc_tangent_slope(real x, const double *setting) noexcept nogil:
    return <real> (1 / (1 + <long double> x * x))

cdef real hyperbolic_sine(real x, const double *setting) noexcept nogil:
    return <real> sinh(x)

cdef real hyperbolic_cosine(real x, const double *setting) noexcept nogil:
    return <real> cosh(x)

cdef real area_sine(real x, const double *setting) noexcept nogil:
    return <real> asinh(x)

cdef real area_sine_slope(real x, const double *setting) noexcept nogil:
    return <real> (1 / sqrt(1 + <long double> x * x))

cdef real area_cosine(real x, const double *setting) noexcept nogil:
    return <real> acosh(x)

cdef real area_cosine_slope(real x, const double *setting) noexcept nogil:
    return <real> (1 / (sqrt(<long double> x - 1) * sqrt(<long double> x + 1)))

cdef real area_tangent(real x, const double *setting) noexcept nogil:
    return <real> atanh(x)

cdef real area_tangent_slope(real x, const double *setting) noexcept nogil:
    return <real> (1 / ((1 - <long double> x) * (1 + <long double> x)))

SIN = activation("sin", <void *> sine[float], <void *> sine[double], <void *> cosine[float], <void *> cosine[double])
COS = activation("cos", <void *> cosine[float], <void *> cosine[double],
                 <void *> cosine_slope[float], <void *> cosine_slope[double])
TAN = activation("tan", <void *> tangent[float], <void *> tangent[double],
                 <void *> tangent_slope[float], <void *> tangent_slope[double])
ASIN = activation("asin", <void *> arc_sine[float], <void *> arc_sine[double],
                  <void *> arc_sine_slope[float], <void *> arc_sine_slope[double])
ACOS = activation("acos", <void *> arc_cosine[float], <void *> arc_cosine[double],
                  <void *> arc_cosine_slope[float], <void *> arc_cosine_slope[double])
ATAN = activation("atan", <void *> arc_tangent[float], <void *> arc_tangent[double],
                  <void *> arc_tangent_slope[float], <void *> arc_tangent_slope[double])
SINH = activation("sinh", <void *> hyperbolic_sine[float], <void *> hyperbolic_sine[double],
                  <void *> hyperbolic_cosine[float], <void *> hyperbolic_cosine[double])
COSH = activation("cosh", <void *> hyperbolic_cosine[float], <void *> hyperbolic_cosine[double],
                  <void *> hyperbolic_sine[float], <void *> hyperbolic_sine[double])
ASINH = activation("asinh", <void *> area_sine[float], <void *> area_sine[double],
                   <void *> area_sine_slope[float], <void *> area_sine_slope[double])
ACOSH = activation("acosh", <void *> area_cosine[float], <void *> area_cosine[double],
                   <void *> area_cosine_slope[float], <void *> area_cosine_slope[double])
ATANH = activation("atanh", <void *> area_tangent[float], <void *> area_tangent[double],
                   <void *> area_tangent_slope[float], <void *> area_tangent_slope[double])
