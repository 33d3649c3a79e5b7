"""Activations: y = f(x), one value at a time; a pair of functions f and f′ per activation, and one loop for all.

Each section gives the formula, its derivative, f and f′ (named ..._slope), in this order; ``setting`` holds the numbers
of the activation. If the first of them may be learned, one per channel, a third function gives ∂y/∂setting[0].
Functions of one value compute in long double and round once, in forms that are accurate over the whole range: no cut-off
replaces a limit, and ±∞ give the limit. (Where long double is no wider than double, these forms keep float64 within a few units
of the last place.) Activations of several channels, maxout and softmax, are at the end.

A C kernel of the same name (activation.h) may replace a loop.
"""

import numpy

from libc.math cimport (
    acosl as acos,
    copysignl as copysign,
    erfcl as erfc,
    expl as exp,
    expm1l as expm1,
    fabsl as fabs,
    floorl as floor,
    fmal as fma,
    isinf,
    log1pl as log1p,
    sqrtl as sqrt,
    tanhl as tanh,
)
from libc.stdint cimport int64_t
from libc.stdlib cimport qsort

from cnncore.runtime.dispatch cimport (
    CNN_FLOAT32,
    Tensor,
    cnn_channelwise,
    cnn_elementwise,
    cnn_maxout,
    cnn_offsets,
    cnn_row,
    cnn_softmax,
    cnn_strided,
    cnn_task,
    cnn_tensor,
    kernel,
    real,
    run,
    tensor,
)
from cnncore.runtime.dispatch import kernel_number


cdef class Activation:
    """f and f′ in both precisions, and the kernels that replace the loops over them."""

    def __repr__(self):
        return f"<activation {self.name}>"


cdef Activation activation(name, void *value_f32, void *value_f64, void *slope_f32, void *slope_f64):
    cdef Activation a = Activation()
    a.name = name
    a.value[0], a.value[1] = value_f32, value_f64
    a.slope[0], a.slope[1] = slope_f32, slope_f64
    a.forward_kernel = kernel_number(f"{name}_forward")
    a.backward_kernel = kernel_number(f"{name}_backward")
    a.channels_kernel = -1
    return a


cdef Activation with_parameter(Activation a, void *parameter_slope_f32, void *parameter_slope_f64):
    """``a``, whose first number may be learned: with ∂y/∂setting[0]."""
    a.parameter_slope[0], a.parameter_slope[1] = parameter_slope_f32, parameter_slope_f64
    a.channels_kernel = kernel_number(f"{a.name}_channels_backward")
    return a


# ── Identity ──────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = x
#     ∂y/∂x = 1

cdef real identity(real x, const double *setting) noexcept nogil:
    return x

cdef real identity_slope(real x, const double *setting) noexcept nogil:
    return 1

IDENTITY = activation("identity", <void *> identity[float], <void *> identity[double],
                      <void *> identity_slope[float], <void *> identity_slope[double])


# ── Absolute value ── Jarrett et al. 2009 ─────────────────────────────────────────────────────────────────────────────
#
#     y     = |x|
#     ∂y/∂x = 1 for x > 0, −1 for x < 0, 0 at 0

cdef real absolute(real x, const double *setting) noexcept nogil:
    return <real> fabs(x)

cdef real absolute_slope(real x, const double *setting) noexcept nogil:
    return (x > 0) - (x < 0)

ABS = activation("abs", <void *> absolute[float], <void *> absolute[double],
                 <void *> absolute_slope[float], <void *> absolute_slope[double])


# ── Exponential ───────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = eˣ
#     ∂y/∂x = eˣ = y

cdef real exponential(real x, const double *setting) noexcept nogil:
    return <real> exp(x)

EXP = activation("exp", <void *> exponential[float], <void *> exponential[double],
                 <void *> exponential[float], <void *> exponential[double])


# ── ReLU ── Nair & Hinton 2010 ────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = max(0, x)
#     ∂y/∂x = 1 for x > 0, else 0            relu(NaN) = NaN; y > 0 where x > 0, so y serves as well as x

cdef real relu(real x, const double *setting) noexcept nogil:
    return 0 if x <= 0 else x

cdef real relu_slope(real x, const double *setting) noexcept nogil:
    return 1 if x > 0 else 0

RELU = activation("relu", <void *> relu[float], <void *> relu[double],
                  <void *> relu_slope[float], <void *> relu_slope[double])


# ── Clipping: hard tanh, clipped ReLU, ReLU6 ── Collobert 2004; Krizhevsky 2010 ───────────────────────────────────────
#
#     y     = min(max(x, lo), hi)            lo, hi = setting
#     ∂y/∂x = 1 for lo < x < hi, else 0      clip(NaN) = NaN; lo < y < hi where lo < x < hi: y serves as well as x

cdef real clip(real x, const double *setting) noexcept nogil:
    return <real> setting[0] if x <= <real> setting[0] else <real> setting[1] if x >= <real> setting[1] else x

cdef real clip_slope(real x, const double *setting) noexcept nogil:
    return 1 if <real> setting[0] < x < <real> setting[1] else 0

CLIP = activation("clip", <void *> clip[float], <void *> clip[double],
                  <void *> clip_slope[float], <void *> clip_slope[double])


# ── Leaky ReLU and parametric ReLU ── Maas, Hannun & Ng 2013; He et al. 2015 ──────────────────────────────────────────
#
#     y     = x for x > 0, else a·x          a = setting[0], or one per channel
#     ∂y/∂x = 1 for x > 0, else a
#     ∂y/∂a = 0 for x > 0, else x

cdef real leaky_relu(real x, const double *setting) noexcept nogil:
    return x if x > 0 else <real> (<long double> setting[0] * x)

cdef real leaky_relu_slope(real x, const double *setting) noexcept nogil:
    return 1 if x > 0 else <real> setting[0]

cdef real leaky_relu_parameter_slope(real x, const double *setting) noexcept nogil:
    return 0 if x > 0 else x

LEAKY_RELU = with_parameter(
    activation("leaky_relu", <void *> leaky_relu[float], <void *> leaky_relu[double],
               <void *> leaky_relu_slope[float], <void *> leaky_relu_slope[double]),
    <void *> leaky_relu_parameter_slope[float], <void *> leaky_relu_parameter_slope[double])


# ── ELU, CELU, SELU ── Clevert et al. 2016; Barron 2017; Klambauer et al. 2017 ────────────────────────────────────────
#
#     y     = λ·x for x > 0, else λα(e^{x/s} − 1)            λ, α, s = setting
#     ∂y/∂x = λ   for x > 0, else (λα/s)·e^{x/s}
#
#     ELU: λ = s = 1.  CELU: λ = 1, s = α, the slope continuous.  SELU: s = 1; mean 0 and variance 1 are kept.

cdef real elu(real x, const double *setting) noexcept nogil:
    cdef long double scale = setting[0], alpha = setting[1], s = setting[2]
    return <real> (scale * x) if x > 0 else <real> (scale * alpha * expm1(x / s))

cdef real elu_slope(real x, const double *setting) noexcept nogil:
    cdef long double scale = setting[0], alpha = setting[1], s = setting[2]
    return <real> scale if x > 0 else <real> (scale * alpha / s * exp(x / s))

ELU = activation("elu", <void *> elu[float], <void *> elu[double],
                 <void *> elu_slope[float], <void *> elu_slope[double])


# ── Sigmoid ───────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = σ(x) = 1 / (1 + e⁻ˣ)           with e = e^{−|x|}: 1 / (1 + e) for x ≥ 0, e / (1 + e) for x < 0
#     ∂y/∂x = σ(x) σ(−x) = e / (1 + e)²      y(1 − y) would cancel for large x; (1 + e)² = 1 + e(2 + e) rounds less

cdef real sigmoid(real x, const double *setting) noexcept nogil:
    cdef long double e = exp(-fabs(x))
    return <real> ((1 if x >= 0 else e) / (1 + e))

cdef real sigmoid_slope(real x, const double *setting) noexcept nogil:
    cdef long double e = exp(-fabs(x))
    return <real> (e / (1 + e * (2 + e)))

SIGMOID = activation("sigmoid", <void *> sigmoid[float], <void *> sigmoid[double],
                     <void *> sigmoid_slope[float], <void *> sigmoid_slope[double])


# ── Log-sigmoid ───────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = log σ(x) = min(x, 0) − log(1 + e^{−|x|})
#     ∂y/∂x = σ(−x)

cdef real log_sigmoid(real x, const double *setting) noexcept nogil:
    return <real> ((0 if x > 0 else x) - log1p(exp(-fabs(x))))

cdef real log_sigmoid_slope(real x, const double *setting) noexcept nogil:
    return sigmoid(-x, setting)

LOG_SIGMOID = activation("log_sigmoid", <void *> log_sigmoid[float], <void *> log_sigmoid[double],
                         <void *> log_sigmoid_slope[float], <void *> log_sigmoid_slope[double])


# ── Hard sigmoid ── Courbariaux, Bengio & David 2015 ──────────────────────────────────────────────────────────────────
#
#     y     = min(max(αx + β, 0), 1)         α, lo = −β/α, hi = (1 − β)/α = setting
#           = α(x − lo) for lo < x < hi      αx + β would cancel beside lo
#     ∂y/∂x = α for lo < x < hi, else 0      x is compared with the knees, so that rounding cannot move them

cdef real hard_sigmoid(real x, const double *setting) noexcept nogil:
    if x <= <real> setting[1]:
        return 0
    if x >= <real> setting[2]:
        return 1
    return <real> (setting[0] * (<long double> x - setting[1]))

cdef real hard_sigmoid_slope(real x, const double *setting) noexcept nogil:
    return <real> setting[0] if <real> setting[1] < x < <real> setting[2] else 0

HARD_SIGMOID = activation("hard_sigmoid", <void *> hard_sigmoid[float], <void *> hard_sigmoid[double],
                          <void *> hard_sigmoid_slope[float], <void *> hard_sigmoid_slope[double])


# ── Hyperbolic tangent ────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = tanh x
#     ∂y/∂x = sech² x = 4e / (1 + e)²        with e = e^{−2|x|}; 1 − y² would cancel for large x

cdef real hyperbolic_tangent(real x, const double *setting) noexcept nogil:
    return <real> tanh(x)

cdef real hyperbolic_tangent_slope(real x, const double *setting) noexcept nogil:
    cdef long double e = exp(-2 * fabs(x))
    return <real> (4 * e / (1 + e * (2 + e)))

TANH = activation("tanh", <void *> hyperbolic_tangent[float], <void *> hyperbolic_tangent[double],
                  <void *> hyperbolic_tangent_slope[float], <void *> hyperbolic_tangent_slope[double])


# ── Softplus ── Dugas et al. 2001 ─────────────────────────────────────────────────────────────────────────────────────
#
#     y     = log(1 + e^{βx}) / β = (max(βx, 0) + log(1 + e^{−|βx|})) / β            β = setting[0]
#     ∂y/∂x = σ(βx)
#
# For βx > setting[1], which is ∞ unless another framework is reproduced: y = x with slope 1.

cdef real softplus(real x, const double *setting) noexcept nogil:
    cdef long double z = <long double> setting[0] * x, e = exp(-fabs(z))
    return x if z > setting[1] else <real> (((z if z > 0 else 0) + log1p(e)) / setting[0])

cdef real softplus_slope(real x, const double *setting) noexcept nogil:
    cdef long double z = <long double> setting[0] * x, e = exp(-fabs(z))
    return 1 if z > setting[1] else <real> ((1 if x >= 0 else e) / (1 + e))

SOFTPLUS = activation("softplus", <void *> softplus[float], <void *> softplus[double],
                      <void *> softplus_slope[float], <void *> softplus_slope[double])


# ── Softsign ── Bergstra et al. 2009 ──────────────────────────────────────────────────────────────────────────────────
#
#     y     = x / (1 + |x|)                  ±1 at ±∞
#     ∂y/∂x = 1 / (1 + |x|)²

cdef real softsign(real x, const double *setting) noexcept nogil:
    return <real> (copysign(1, x) if isinf(x) else x / (1 + fabs(x)))

cdef real softsign_slope(real x, const double *setting) noexcept nogil:
    cdef long double a = fabs(x)
    return <real> (1 / (1 + a * (2 + a)) if a < 1e150 else 1 / a / a)

SOFTSIGN = activation("softsign", <void *> softsign[float], <void *> softsign[double],
                      <void *> softsign_slope[float], <void *> softsign_slope[double])


# ── SiLU and Swish ── Elfwing, Uchibe & Doya 2017; Ramachandran, Zoph & Le 2017 ───────────────────────────────────────
#
#     y     = x σ(βx)                        β = setting[0], or one per channel; SiLU: β = 1
#     ∂y/∂x = σ + βx σ(1 − σ)                σ = σ(βx); with e = e^{−|βx|}: σ(1 − σ) = e / (1 + e)²
#     ∂y/∂β = x² σ(1 − σ)
#
# Where e underflows to 0, terms with σ(1 − σ) vanish, however large x is: silu(−∞) = 0 with slope 0; slope 1 at +∞.

cdef real swish(real x, const double *setting) noexcept nogil:
    cdef long double z = <long double> setting[0] * x, e = exp(-fabs(z))
    if e == 0 and z < 0:
        return 0
    return <real> (x * (1 if z >= 0 else e) / (1 + e))

cdef real swish_slope(real x, const double *setting) noexcept nogil:
    cdef long double z = <long double> setting[0] * x, e = exp(-fabs(z)), d = 1 + e
    if e == 0:
        return 1 if z > 0 else 0
    return <real> (((1 if z >= 0 else e) + z * e / d) / d)

cdef real swish_parameter_slope(real x, const double *setting) noexcept nogil:
    cdef long double z = <long double> setting[0] * x, e = exp(-fabs(z)), d = 1 + e
    return <real> (0 if e == 0 else x * e / d * (x / d))

SWISH = with_parameter(
    activation("swish", <void *> swish[float], <void *> swish[double],
               <void *> swish_slope[float], <void *> swish_slope[double]),
    <void *> swish_parameter_slope[float], <void *> swish_parameter_slope[double])
SILU = activation("silu", <void *> swish[float], <void *> swish[double],
                  <void *> swish_slope[float], <void *> swish_slope[double])


# ── dSiLU ── Elfwing, Uchibe & Doya 2017 ──────────────────────────────────────────────────────────────────────────────
#
#     y     = σ(1 + x(1 − σ))                the slope of SiLU: 0 at −∞, 1 at +∞
#     ∂y/∂x = σ(1 − σ)(2 + x(1 − 2σ))        with e = e^{−|x|}: x(1 − 2σ) = −|x| (1 − e) / (1 + e)

cdef real dsilu(real x, const double *setting) noexcept nogil:
    cdef long double e = exp(-fabs(x)), d = 1 + e
    if e == 0:
        return 1 if x > 0 else 0
    return <real> (((1 if x >= 0 else e) + x * e / d) / d)

cdef real dsilu_slope(real x, const double *setting) noexcept nogil:
    cdef long double e = exp(-fabs(x)), d = 1 + e
    if e == 0:
        return 0
    return <real> (e / (1 + e * (2 + e)) * (2 + fabs(x) * expm1(-fabs(x)) / d))

DSILU = activation("dsilu", <void *> dsilu[float], <void *> dsilu[double],
                   <void *> dsilu_slope[float], <void *> dsilu_slope[double])


# ── Hard swish ── Howard et al. 2019 ──────────────────────────────────────────────────────────────────────────────────
#
#     y     = x · min(max(x + 3, 0), 6) / 6
#     ∂y/∂x = 0 for x ≤ −3, (2x + 3) / 6 between, 1 for x ≥ 3

cdef real hard_swish(real x, const double *setting) noexcept nogil:
    cdef long double v = x
    return 0 if x <= -3 else x if x >= 3 else <real> (v * (v + 3) / 6)

cdef real hard_swish_slope(real x, const double *setting) noexcept nogil:
    cdef long double v = x
    return 0 if x <= -3 else 1 if x >= 3 else <real> ((2 * v + 3) / 6)

HARD_SWISH = activation("hard_swish", <void *> hard_swish[float], <void *> hard_swish[double],
                        <void *> hard_swish_slope[float], <void *> hard_swish_slope[double])


# ── Mish ── Misra 2020 ────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = x t,  t = tanh(softplus x)
#     ∂y/∂x = t + x σ(x)(1 − t²)
#
# With e = e^{−|x|}, so that nothing overflows or cancels:
#     x ≥ 0:  D = 1 + 2e + 2e²,  t = (1 + 2e) / D,  σ(1 − t²) = 4e²(1 + e) / D²
#     x < 0:  D = e² + 2e + 2,   t = e(e + 2) / D,  σ(1 − t²) = 4e(1 + e) / D²

cdef real mish(real x, const double *setting) noexcept nogil:
    cdef long double e = exp(-fabs(x))
    if e == 0:
        return x if x > 0 else 0
    if x >= 0:
        return <real> (x * (1 + 2 * e) / (1 + 2 * e * (1 + e)))
    return <real> (x * (e * (e + 2)) / (e * (e + 2) + 2))

cdef real mish_slope(real x, const double *setting) noexcept nogil:
    cdef long double e = exp(-fabs(x)), D
    if e == 0:
        return 1 if x > 0 else 0
    if x >= 0:
        D = 1 + 2 * e * (1 + e)
        return <real> ((1 + 2 * e + 4 * x * (e * e) * (1 + e) / D) / D)
    D = e * (e + 2) + 2
    return <real> (e * (e + 2 + 4 * x * (1 + e) / D) / D)

MISH = activation("mish", <void *> mish[float], <void *> mish[double],
                  <void *> mish_slope[float], <void *> mish_slope[double])


# ── GELU ── Hendrycks & Gimpel 2016 ───────────────────────────────────────────────────────────────────────────────────
#
#     y     = x Φ(x)                         Φ(x) = ½ erfc(−x / √2), the normal distribution; erf cancels for x < 0
#     ∂y/∂x = Φ(x) + x φ(x)                  φ(x) = e^{−x²/2} / √(2π)

cdef long double SQRT_HALF = sqrt(<long double> 0.5), ONE_BY_SQRT_PI = 1 / sqrt(acos(-1))

cdef long double bell(long double x) noexcept nogil:
    """e^{−x²/2}. x² is not rounded: x = m + r with m a multiple of 1/128, whose square is exact."""
    if fabs(x) > 40:
        return 0
    cdef long double m = floor(128 * x + 0.5) / 128
    cdef long double r = x - m
    return exp(-0.5 * m * m) * exp(-r * (m + 0.5 * r))

cdef long double normal(long double x) noexcept nogil:
    """Φ(x). The rounding error of t = −x / √2, which erfc magnifies x² times, is corrected to first order by t² = ½x²."""
    cdef long double t = -SQRT_HALF * x, half, rest
    if not 1 < fabs(x) < 40:
        return 0.5 * erfc(t)
    half = 0.5 * x * x
    rest = (fma(0.5 * x, x, -half) - fma(t, t, -half)) / (2 * t)
    return 0.5 * erfc(t) - ONE_BY_SQRT_PI * rest * bell(x)

cdef real gelu(real x, const double *setting) noexcept nogil:
    return 0 if isinf(x) and x < 0 else <real> (x * normal(x))

cdef real gelu_slope(real x, const double *setting) noexcept nogil:
    if isinf(x):
        return 1 if x > 0 else 0
    return <real> (normal(x) + x * bell(x) * ONE_BY_SQRT_PI * SQRT_HALF)

GELU = activation("gelu", <void *> gelu[float], <void *> gelu[double],
                  <void *> gelu_slope[float], <void *> gelu_slope[double])


# ── GELU, tanh form ── Hendrycks & Gimpel 2016 ────────────────────────────────────────────────────────────────────────
#
#     y     = ½x(1 + tanh u) = x σ(2u),      u = √(2/π) (x + 0.044715 x³)
#     ∂y/∂x = σ(2u) + 2x u′ σ(2u) σ(−2u),    u′ = √(2/π) (1 + 0.134145 x²)

cdef long double CUBE = <long double> 44715 / 1000000, TWICE_ROOT = 4 * ONE_BY_SQRT_PI * SQRT_HALF

cdef real gelu_tanh(real x, const double *setting) noexcept nogil:
    cdef long double v = x
    cdef long double z = TWICE_ROOT * v * (1 + CUBE * v * v)
    cdef long double e = exp(-fabs(z))
    if e == 0:
        return x if x > 0 else 0
    return <real> (v * (1 if z >= 0 else e) / (1 + e))

cdef real gelu_tanh_slope(real x, const double *setting) noexcept nogil:
    cdef long double v = x
    cdef long double z = TWICE_ROOT * v * (1 + CUBE * v * v)
    cdef long double e = exp(-fabs(z)), d = 1 + e
    if e == 0:
        return 1 if x > 0 else 0
    return <real> (((1 if z >= 0 else e) + TWICE_ROOT * v * (1 + 3 * CUBE * v * v) * e / d) / d)

GELU_TANH = activation("gelu_tanh", <void *> gelu_tanh[float], <void *> gelu_tanh[double],
                       <void *> gelu_tanh_slope[float], <void *> gelu_tanh_slope[double])


# ── Steps: sign and Heaviside's ── Rosenblatt 1958 ────────────────────────────────────────────────────────────────────
#
#     y     = low for x < 0, at zero for x = 0, 1 for x > 0          low, at zero = setting; sign: low = −1, Heaviside: 0
#     ∂y/∂x = 0

cdef real unit_step(real x, const double *setting) noexcept nogil:
    return 1 if x > 0 else <real> setting[0] if x < 0 else <real> setting[1] if x == 0 else x

cdef real unit_step_slope(real x, const double *setting) noexcept nogil:
    return 0

STEP = activation("unit_step", <void *> unit_step[float], <void *> unit_step[double],
                  <void *> unit_step_slope[float], <void *> unit_step_slope[double])


# ── Sign with a straight-through estimator ── Bengio, Léonard & Courville 2013; Courbariaux et al. 2016 ───────────────
#
#     y     = sgn(x), 0 at 0
#     taken for ∂y/∂x: 1 for |x| ≤ clip, else 0                      clip = setting[0]; not the derivative, on purpose

cdef real straight_through(real x, const double *setting) noexcept nogil:
    return 1 if x > 0 else -1 if x < 0 else x if x != x else 0

cdef real straight_through_slope(real x, const double *setting) noexcept nogil:
    return 1 if fabs(x) <= <real> setting[0] else 0

STRAIGHT_THROUGH = activation("straight_through", <void *> straight_through[float], <void *> straight_through[double],
                              <void *> straight_through_slope[float], <void *> straight_through_slope[double])


# ── Threshold ── Konda, Memisevic & Krueger 2014 ──────────────────────────────────────────────────────────────────────
#
#     y     = x for x > θ, else v            θ, v = setting
#     ∂y/∂x = 1 for x > θ, else 0

cdef real threshold(real x, const double *setting) noexcept nogil:
    return <real> setting[1] if x <= <real> setting[0] else x

cdef real threshold_slope(real x, const double *setting) noexcept nogil:
    return 1 if x > <real> setting[0] else 0

THRESHOLD = activation("threshold", <void *> threshold[float], <void *> threshold[double],
                       <void *> threshold_slope[float], <void *> threshold_slope[double])


# ── Shrinkage: hard and soft ── Donoho & Johnstone 1994; Daubechies et al. 2004 ───────────────────────────────────────
#
#     hard  y = x for |x| > λ, else 0                                λ = setting[0]
#     soft  y = x − λ for x > λ, x + λ for x < −λ, else 0
#     ∂y/∂x = 1 for |x| > λ, else 0          of both

cdef real hard_shrink(real x, const double *setting) noexcept nogil:
    return 0 if fabs(x) <= <real> setting[0] else x

cdef real soft_shrink(real x, const double *setting) noexcept nogil:
    cdef real bound = <real> setting[0]
    return x - bound if x > bound else x + bound if x < -bound else x if x != x else 0

cdef real shrink_slope(real x, const double *setting) noexcept nogil:
    return 1 if fabs(x) > <real> setting[0] else 0

HARD_SHRINK = activation("hard_shrink", <void *> hard_shrink[float], <void *> hard_shrink[double],
                         <void *> shrink_slope[float], <void *> shrink_slope[double])
SOFT_SHRINK = activation("soft_shrink", <void *> soft_shrink[float], <void *> soft_shrink[double],
                         <void *> shrink_slope[float], <void *> shrink_slope[double])


# ── Sparse plus ── Blondel, Martins & Niculae 2020 ────────────────────────────────────────────────────────────────────
#
#     y     = 0 for x ≤ −1, ¼(x + 1)² between, x for x ≥ 1
#     ∂y/∂x = 0             ½(x + 1)           1

cdef real sparse_plus(real x, const double *setting) noexcept nogil:
    cdef long double above = <long double> x + 1
    return 0 if x <= -1 else x if x >= 1 else <real> (0.25 * above * above)

cdef real sparse_plus_slope(real x, const double *setting) noexcept nogil:
    return 0 if x <= -1 else 1 if x >= 1 else <real> (0.5 * (<long double> x + 1))

SPARSE_PLUS = activation("sparse_plus", <void *> sparse_plus[float], <void *> sparse_plus[double],
                         <void *> sparse_plus_slope[float], <void *> sparse_plus_slope[double])


# ── Scaled hyperbolic tangent ── LeCun, Bottou, Orr & Müller 1998 ─────────────────────────────────────────────────────
#
#     y     = A tanh(Sx)                     A, S = setting
#     ∂y/∂x = A S sech²(Sx) = 4 A S e / (1 + e)²,  e = e^{−2|Sx|}

cdef real scaled_tanh(real x, const double *setting) noexcept nogil:
    return <real> (setting[0] * tanh(<long double> setting[1] * x))

cdef real scaled_tanh_slope(real x, const double *setting) noexcept nogil:
    cdef long double e = exp(-fabs(<long double> 2 * setting[1] * x))
    return <real> (4 * <long double> setting[0] * setting[1] * e / (1 + e * (2 + e)))

SCALED_TANH = activation("scaled_tanh", <void *> scaled_tanh[float], <void *> scaled_tanh[double],
                         <void *> scaled_tanh_slope[float], <void *> scaled_tanh_slope[double])


# ── Tanhshrink ────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = x − tanh x                     0 at 0, x ∓ 1 far out
#     ∂y/∂x = tanh² x
#
# Near 0 the difference cancels (it is x³/3 there). With Lambert's continued fraction tanh x = x / (1 + t),
# t = x² / (3 + x² / (5 + x² / (7 + …))), it is x t / (1 + t), where nothing cancels. From |x| = 1 on, where ten levels would
# no longer do, (|x| − 1) + 2 / (e^{2|x|} + 1) does not cancel either.

cdef real tanh_shrink(real x, const double *setting) noexcept nogil:
    cdef long double a = fabs(x), square, t
    cdef int level
    if a >= 1:
        return <real> copysign((a - 1) + 2 / (exp(2 * a) + 1), x)
    square = a * a
    t = square / 21
    for level in range(19, 1, -2):
        t = square / (level + t)
    return <real> (x * t / (1 + t))

cdef real tanh_shrink_slope(real x, const double *setting) noexcept nogil:
    cdef long double t = tanh(x)
    return <real> (t * t)

TANH_SHRINK = activation("tanh_shrink", <void *> tanh_shrink[float], <void *> tanh_shrink[double],
                         <void *> tanh_shrink_slope[float], <void *> tanh_shrink_slope[double])


# ── Squareplus ── Barron 2021 ─────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = ½(x + r),  r = √(x² + b)       for x < 0, where the sum cancels: ½ b / (r + |x|)            b = setting[0]
#     ∂y/∂x = ½(1 + x/r)                     for x < 0: ½ b / (r (r + |x|))

cdef inline long double root_of_square_and(long double a, long double b) noexcept nogil:
    """√(a² + b) for a ≥ 0; a, where b is too small to be seen and a² might overflow."""
    return sqrt(a * a + b) if a < 1e150 else a

cdef real squareplus(real x, const double *setting) noexcept nogil:
    cdef long double b = setting[0], a = fabs(x), r = root_of_square_and(a, b)
    return <real> (0.5 * x + 0.5 * r if x >= 0 else 0.25 * b / (0.5 * r + 0.5 * a))

cdef real squareplus_slope(real x, const double *setting) noexcept nogil:
    cdef long double b = setting[0], a = fabs(x), r = root_of_square_and(a, b)
    if x >= 0:
        return <real> (0.5 + 0.5 * (1 if isinf(x) else a / r))
    return <real> (0.25 * b / r / (0.5 * r + 0.5 * a))

SQUAREPLUS = activation("squareplus", <void *> squareplus[float], <void *> squareplus[double],
                        <void *> squareplus_slope[float], <void *> squareplus_slope[double])


# ── Dish ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = ½x (1 + x/r),  r = √(1 + x²)   for x < 0, where 1 + x/r cancels: ½x / (r (r + |x|))
#     ∂y/∂x = ½(1 + x/r + x/r³)              for x < 0: ½(1 − |x| r) / (r³ (r + |x|)), which is 0 at x = −0.786

cdef real dish(real x, const double *setting) noexcept nogil:
    cdef long double a = fabs(x), r = root_of_square_and(a, 1)
    if x >= 0:
        return <real> (0.5 * x * (1 + (1 if isinf(x) else a / r)))
    return 0 if isinf(x) else <real> (0.25 * x / r / (0.5 * r + 0.5 * a))

cdef real dish_slope(real x, const double *setting) noexcept nogil:
    cdef long double a = fabs(x), r = root_of_square_and(a, 1)
    if isinf(x):
        return 1 if x > 0 else 0
    if x >= 0:
        return <real> (0.5 * (1 + a / r * (1 + 1 / r / r)))
    return <real> ((1 / r - a) / (0.5 * r + 0.5 * a) * (0.25 / r / r))

DISH = activation("dish", <void *> dish[float], <void *> dish[double],
                  <void *> dish_slope[float], <void *> dish_slope[double])


# ── Gates ── Dauphin, Fan, Auli & Grangier 2017 ───────────────────────────────────────────────────────────────────────
#
#     y     = a σ(x)                         a = setting[0], one for each value: the gated linear unit
#     ∂y/∂x = a σ(x) σ(−x)
#     ∂y/∂a = σ(x)                           the slope of OPENING, whose dx is da

cdef real gate(real x, const double *setting) noexcept nogil:
    cdef long double e = exp(-fabs(x))
    return <real> (setting[0] * (1 if x >= 0 else e) / (1 + e))

cdef real gate_slope(real x, const double *setting) noexcept nogil:
    cdef long double e = exp(-fabs(x))
    return <real> (setting[0] * e / (1 + e * (2 + e)))

GATE = activation("gate", <void *> gate[float], <void *> gate[double],
                  <void *> gate_slope[float], <void *> gate_slope[double])
OPENING = activation("opening", <void *> sigmoid[float], <void *> sigmoid[double],
                     <void *> sigmoid[float], <void *> sigmoid[double])


# ── The negative part ─────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = max(0, −x)
#     ∂y/∂x = −1 for x < 0, else 0           beside relu(x) it makes a concatenated ReLU: see both_parts_backward

cdef real negative_part(real x, const double *setting) noexcept nogil:
    return 0 if x >= 0 else -x

cdef real negative_part_slope(real x, const double *setting) noexcept nogil:
    return -1 if x < 0 else 0

NEGATIVE_PART = activation("negative_part", <void *> negative_part[float], <void *> negative_part[double],
                           <void *> negative_part_slope[float], <void *> negative_part_slope[double])


# ── The loops of all of them ──────────────────────────────────────────────────────────────────────────────────────────

cdef struct Elementwise:
    cnn_elementwise call
    void *function[2]


cdef void elementwise_forward(Elementwise *e, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """y = f(x)"""
    cdef void *f = e.function[0 if real is float else 1]
    cdef const real *x
    cdef const real *p
    cdef real *y
    cdef int64_t i = begin, j, count
    cdef cnn_offsets at
    cdef double setting[4]
    setting = e.call.setting
    while i < end:
        count = cnn_row(&e.call, i, end, &at)
        x, p, y = <const real *> e.call.x.data + at.x, <const real *> e.call.p.data, <real *> e.call.y.data + at.y
        for j in range(count):
            if p != NULL:
                setting[0] = p[at.p + j * e.call.p.stride[4]]
            y[j * e.call.y.stride[4]] = (
                (<real (*)(real, const double *) noexcept nogil> f)(x[j * e.call.x.stride[4]], setting))
        i += count


cdef void elementwise_backward(Elementwise *e, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """dx = dy f′(x)"""
    cdef void *slope = e.function[0 if real is float else 1]
    cdef const real *x
    cdef const real *dy
    cdef const real *p
    cdef real *dx
    cdef int64_t i = begin, j, count
    cdef cnn_offsets at
    cdef double setting[4]
    setting = e.call.setting
    while i < end:
        count = cnn_row(&e.call, i, end, &at)
        x, dy = <const real *> e.call.x.data + at.x, <const real *> e.call.dy.data + at.dy
        p, dx = <const real *> e.call.p.data, <real *> e.call.y.data + at.y
        for j in range(count):
            if p != NULL:
                setting[0] = p[at.p + j * e.call.p.stride[4]]
            dx[j * e.call.y.stride[4]] = dy[j * e.call.dy.stride[4]] * (
                (<real (*)(real, const double *) noexcept nogil> slope)(x[j * e.call.x.stride[4]], setting))
        i += count


# ── Concatenated ReLU ── Shang, Sohn, Almeida & Lee 2016 ──────────────────────────────────────────────────────────────
#
#     y     = [relu(x), relu(−x)]
#     dx    = dy₁ for x > 0, −dy₂ for x < 0, 0 at 0

cdef void both_parts_backward(cnn_elementwise *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """dx from the gradients of both parts, dy and p."""
    cdef int64_t i = begin, j, count
    cdef cnn_offsets at
    cdef real x
    while i < end:
        count = cnn_row(call, i, end, &at)
        for j in range(count):
            x = (<const real *> call.x.data)[at.x + j * call.x.stride[4]]
            (<real *> call.y.data)[at.y + j * call.y.stride[4]] = (
                (<const real *> call.dy.data)[at.dy + j * call.dy.stride[4]] if x > 0
                else -(<const real *> call.p.data)[at.p + j * call.p.stride[4]] if x < 0 else 0)
        i += count


cdef struct Channelwise:
    cnn_channelwise call
    void *slope[2]
    void *parameter_slope[2]


cdef void channels_backward(Channelwise *e, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """dx = dy f′(x), and this plane's Σ dy ∂y/∂p in float64. Tasks are planes."""
    cdef void *slope = e.slope[0 if real is float else 1]
    cdef void *parameter_slope = e.parameter_slope[0 if real is float else 1]
    cdef const cnn_tensor *x = &e.call.x
    cdef const cnn_tensor *dy = &e.call.dy
    cdef const cnn_tensor *dx = &e.call.dx
    cdef int64_t plane, n, c, d, h, w
    cdef real v, g
    cdef double total
    cdef double setting[4]
    setting = e.call.setting
    for plane in range(begin, end):
        n, c = plane // x.shape[1], plane % x.shape[1]
        setting[0] = (<const real *> e.call.p)[c * e.call.p_stride]
        total = 0
        for d in range(x.shape[2]):
            for h in range(x.shape[3]):
                for w in range(x.shape[4]):
                    v = (<const real *> x.data)[position(x, n, c, d, h, w)]
                    g = (<const real *> dy.data)[position(dy, n, c, d, h, w)]
                    (<real *> dx.data)[position(dx, n, c, d, h, w)] = g * (
                        (<real (*)(real, const double *) noexcept nogil> slope)(v, setting))
                    total += <double> g * (<real (*)(real, const double *) noexcept nogil> parameter_slope)(v, setting)
        e.call.partial[plane] = total


cdef inline int64_t position(const cnn_tensor *t, int64_t n, int64_t c, int64_t d, int64_t h, int64_t w) noexcept nogil:
    return n * t.stride[0] + c * t.stride[1] + d * t.stride[2] + h * t.stride[3] + w * t.stride[4]


# ── Maxout ── Goodfellow et al. 2013 ──────────────────────────────────────────────────────────────────────────────────
#
#     y[n,c]              = max over m of x[n, ck + m],  0 ≤ m < k           k pieces
#     ∂y[n,c]/∂x[n,ck+m]  = 1 for the first m with x[n, ck + m] = y[n,c], else 0        NaN wins: the first one

cdef real maxout_value(const real *x, int64_t step, int64_t pieces, int64_t *first) noexcept nogil:
    """The largest of ``pieces`` values that lie ``step`` apart, and which of them came first."""
    cdef int64_t m
    cdef real best = x[0], v
    first[0] = 0
    for m in range(1, pieces):
        v = x[m * step]
        if v > best or (v != v and best == best):
            best = v
            first[0] = m
    return best


cdef void maxout_forward(cnn_maxout *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes of y."""
    cdef const cnn_tensor *x = &call.x
    cdef const cnn_tensor *y = &call.y
    cdef int64_t plane, n, c, d, h, w, first
    for plane in range(begin, end):
        n, c = plane // y.shape[1], plane % y.shape[1]
        for d in range(y.shape[2]):
            for h in range(y.shape[3]):
                for w in range(y.shape[4]):
                    (<real *> y.data)[position(y, n, c, d, h, w)] = maxout_value(
                        <const real *> x.data + position(x, n, c * call.pieces, d, h, w),
                        x.stride[1], call.pieces, &first)


cdef void maxout_backward(cnn_maxout *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are planes of dy."""
    cdef const cnn_tensor *x = &call.x
    cdef const cnn_tensor *dy = &call.dy
    cdef const cnn_tensor *dx = &call.dx
    cdef int64_t plane, n, c, d, h, w, m, first
    for plane in range(begin, end):
        n, c = plane // dy.shape[1], plane % dy.shape[1]
        for d in range(dy.shape[2]):
            for h in range(dy.shape[3]):
                for w in range(dy.shape[4]):
                    maxout_value(
                        <const real *> x.data + position(x, n, c * call.pieces, d, h, w),
                        x.stride[1], call.pieces, &first)
                    for m in range(call.pieces):
                        (<real *> dx.data)[position(dx, n, c * call.pieces + m, d, h, w)] = (
                            (<const real *> dy.data)[position(dy, n, c, d, h, w)] if m == first else 0)


# ── Softmax ───────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = e^{xᵢ − m} / S                 m = max xᵢ,  S = Σⱼ e^{xⱼ − m}, over one column
#     dx    = y (dy − Σⱼ dyⱼ yⱼ)
#
# ── Log-softmax ──
#
#     y     = xᵢ − m − log S                 S = 1 + rest, and log(1 + rest) keeps its precision if one x dominates
#     dx    = dy − e^{yᵢ} Σⱼ dyⱼ
#
# Softmin has −x in place of x: y = softmax(−x), and dx gets the other sign.
#
# m and S in long double. Only −∞ in a column, or a +∞ or NaN anywhere in it: the whole column is NaN.

cdef void softmax_forward(cnn_softmax *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are columns."""
    cdef const real *x
    cdef real *y
    cdef int64_t column, i, best
    cdef long double largest, rest, sign = -1 if call.negative else 1
    cdef cnn_offsets at
    for column in range(begin, end):
        cnn_row(&call.columns, column, end, &at)
        x, y = <const real *> call.columns.x.data + at.x, <real *> call.columns.y.data + at.y
        best = 0
        for i in range(1, call.length):
            if sign * x[i * call.x_step] > sign * x[best * call.x_step]:
                best = i
        largest = sign * x[best * call.x_step]
        rest = largest - largest        # 0, or NaN where there is no finite maximum
        for i in range(call.length):
            if i != best:
                rest += exp(sign * x[i * call.x_step] - largest)
        for i in range(call.length):
            if call.logarithm:
                y[i * call.y_step] = <real> (sign * x[i * call.x_step] - largest - log1p(rest))
            else:
                y[i * call.y_step] = <real> (exp(sign * x[i * call.x_step] - largest) / (1 + rest))


cdef void softmax_backward(cnn_softmax *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are columns; x holds y, y receives dx."""
    cdef const real *y
    cdef const real *dy
    cdef real *dx
    cdef int64_t column, i
    cdef double total, sign = -1 if call.negative else 1
    cdef cnn_offsets at
    for column in range(begin, end):
        cnn_row(&call.columns, column, end, &at)
        y, dy = <const real *> call.columns.x.data + at.x, <const real *> call.columns.dy.data + at.dy
        dx = <real *> call.columns.y.data + at.y
        total = 0
        for i in range(call.length):
            total += <double> dy[i * call.dy_step] * (1 if call.logarithm else y[i * call.x_step])
        for i in range(call.length):
            if call.logarithm:
                dx[i * call.y_step] = <real> (dy[i * call.dy_step] - exp(y[i * call.x_step]) * total)
            else:
                dx[i * call.y_step] = <real> (sign * y[i * call.x_step] * (dy[i * call.dy_step] - total))


# ── Sparsemax ── Martins & Astudillo 2016 ─────────────────────────────────────────────────────────────────────────────
#
#     y     = max(xᵢ − τ, 0),  τ such that Σ y = 1          the point of the simplex next to x
#     dx    = dyᵢ − mean of dy over the support, where y > 0; 0 elsewhere
#
# Algorithm 1 of the paper: with x sorted, x₍₁₎ ≥ x₍₂₎ ≥ …, τ = (x₍₁₎ + … + x₍ₖ₎ − 1) / k for the largest k with
# 1 + k x₍ₖ₎ > x₍₁₎ + … + x₍ₖ₎. The maximum is taken away first, so that large x lose no digits. What makes a column of
# softmax NaN makes one here.

cdef int falling(const void *a, const void *b) noexcept nogil:
    cdef double first = (<const double *> a)[0], second = (<const double *> b)[0]
    return (first < second) - (first > second)


cdef void sparsemax_forward(cnn_softmax *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are columns."""
    cdef double *ordered = <double *> scratch
    cdef const real *x
    cdef real *y
    cdef int64_t column, i
    cdef double largest, total, tau, poison
    cdef cnn_offsets at
    for column in range(begin, end):
        cnn_row(&call.columns, column, end, &at)
        x, y = <const real *> call.columns.x.data + at.x, <real *> call.columns.y.data + at.y
        largest, poison = x[0], 0
        for i in range(call.length):
            if x[i * call.x_step] != x[i * call.x_step]:
                poison = x[i * call.x_step]
            elif x[i * call.x_step] > largest:
                largest = x[i * call.x_step]
        poison += largest - largest     # 0, or NaN where there is no finite maximum
        for i in range(call.length):
            ordered[i] = x[i * call.x_step] - largest
        tau = -1
        if poison == 0:
            qsort(ordered, <size_t> call.length, sizeof(double), falling)
            total = 0
            for i in range(call.length):
                total += ordered[i]
                if 1 + (i + 1) * ordered[i] <= total:
                    break
                tau = (total - 1) / (i + 1)
        for i in range(call.length):
            y[i * call.y_step] = <real> (max(x[i * call.x_step] - largest - tau, 0) + poison)


cdef void sparsemax_backward(cnn_softmax *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are columns; x holds y, y receives dx."""
    cdef const real *y
    cdef const real *dy
    cdef real *dx
    cdef int64_t column, i, support
    cdef double total
    cdef cnn_offsets at
    for column in range(begin, end):
        cnn_row(&call.columns, column, end, &at)
        y, dy = <const real *> call.columns.x.data + at.x, <const real *> call.columns.dy.data + at.dy
        dx = <real *> call.columns.y.data + at.y
        total, support = 0, 0
        for i in range(call.length):
            if y[i * call.x_step] > 0:
                total += dy[i * call.dy_step]
                support += 1
        for i in range(call.length):
            dx[i * call.y_step] = (
                <real> (dy[i * call.dy_step] - total / support) if y[i * call.x_step] > 0 else y[i * call.x_step] * 0)


# ── Hardmax ───────────────────────────────────────────────────────────────────────────────────────────────────────────
#
#     y     = 1 for the first i with xᵢ = max xⱼ, else 0
#     dx    = 0                              a NaN makes its whole column NaN

cdef void hardmax_forward(cnn_softmax *call, int64_t begin, int64_t end, real *scratch) noexcept nogil:
    """Tasks are columns."""
    cdef const real *x
    cdef real *y
    cdef real largest
    cdef int64_t column, i, first
    cdef cnn_offsets at
    for column in range(begin, end):
        cnn_row(&call.columns, column, end, &at)
        x, y = <const real *> call.columns.x.data + at.x, <real *> call.columns.y.data + at.y
        largest = maxout_value(x, call.x_step, call.length, &first)
        for i in range(call.length):
            y[i * call.y_step] = largest if largest != largest else 1 if i == first else 0


cdef int SPARSEMAX_FORWARD = kernel_number("sparsemax_forward"), SPARSEMAX_BACKWARD = kernel_number("sparsemax_backward")
cdef int HARDMAX_FORWARD = kernel_number("hardmax_forward"), BOTH_PARTS_BACKWARD = kernel_number("both_parts_backward")
cdef int MAXOUT_FORWARD = kernel_number("maxout_forward"), MAXOUT_BACKWARD = kernel_number("maxout_backward")
cdef int SOFTMAX_FORWARD = kernel_number("softmax_forward"), SOFTMAX_BACKWARD = kernel_number("softmax_backward")


# ── Calls from Python ─────────────────────────────────────────────────────────────────────────────────────────────────

cdef void merge_axes(cnn_elementwise *call, Tensor X, Tensor DY, Tensor P, Tensor Y, int without=-1):
    """Fill in the elements of the call: axes in the order of Y's memory, merged where all arrays allow it.

    Axis ``without`` of the five is left out: the caller iterates over it.
    """
    cdef cnn_strided *array[4]
    cdef const cnn_tensor *view[4]
    cdef int axes[5]
    cdef int count = 0, arrays = 0, axis, a, i, place
    cdef bint merges
    call.size = 1
    call.x.data = call.dy.data = call.p.data = call.y.data = NULL
    for i in range(5):
        call.extent[i] = 1
        call.x.stride[i] = call.dy.stride[i] = call.p.stride[i] = call.y.stride[i] = 0
    array[0], view[0] = &call.y, &Y.view
    array[1], view[1] = &call.x, &X.view
    arrays = 2
    if DY is not None:
        array[arrays], view[arrays] = &call.dy, &DY.view
        arrays += 1
    if P is not None:
        array[arrays], view[arrays] = &call.p, &P.view
        arrays += 1
    for a in range(arrays):
        array[a].data = view[a].data
    for axis in range(5):
        if axis == without:
            continue
        call.size *= Y.view.shape[axis]
        if Y.view.shape[axis] == 1:
            continue
        place = count       # sorted by insertion, widest stride first
        while place > 0 and abs(Y.view.stride[axes[place - 1]]) < abs(Y.view.stride[axis]):
            axes[place] = axes[place - 1]
            place -= 1
        axes[place] = axis
        count += 1
    place = 4
    for i in range(count - 1, -1, -1):
        axis = axes[i]
        merges = i < count - 1
        if merges:
            for a in range(arrays):
                merges = merges and view[a].stride[axis] == array[a].stride[place] * call.extent[place]
            if not merges:
                place -= 1
        if merges:
            call.extent[place] *= Y.view.shape[axis]
            continue
        call.extent[place] = Y.view.shape[axis]
        for a in range(arrays):
            array[a].stride[place] = view[a].stride[axis]


cdef Tensor per_channel(Tensor X, p):
    """``p`` (one number, or one per channel) as a tensor of X's shape: strides of 0 along the other axes."""
    cdef Tensor P = tensor(p)
    cdef int64_t step = P.view.stride[0] if P.view.shape[0] > 1 else 0
    cdef int axis
    for axis in range(5):
        P.view.shape[axis] = X.view.shape[axis]
        P.view.stride[axis] = 0
    P.view.stride[1] = step
    return P


cdef Tensor in_place_of_setting(Tensor X, p, bint each):
    """``p`` as a tensor of X's shape: it has that shape (``each``), or one number, or one per channel."""
    return None if p is None else tensor(p) if each else per_channel(X, p)


cdef int run_elementwise(Elementwise *e, tuple settings, cnn_task task, cnn_task reference) except -1:
    """Run the kernel, or the reference implementation where there is none, on the merged arrays."""
    cdef int i
    for i in range(len(settings)):
        e.call.setting[i] = settings[i]
    return run(task if task != NULL else reference, e, e.call.size, 4096, 0, e.call.size)


def forward(Activation a, tuple settings, x, y, p=None, bint each=False):
    """Write y = f(x), arrays of any strides. ``p``, one number, or one per channel or for each value, replaces
    setting[0]."""
    cdef Tensor X = tensor(x), Y = tensor(y, True)
    cdef Elementwise e
    merge_axes(&e.call, X, None, in_place_of_setting(X, p, each), Y)
    e.function[0], e.function[1] = a.value[0], a.value[1]
    run_elementwise(
        &e, settings, kernel(a.forward_kernel, X.precision),
        <cnn_task> elementwise_forward[float] if X.precision == CNN_FLOAT32 else <cnn_task> elementwise_forward[double])


def backward(Activation a, tuple settings, x, dy, dx, p=None, bint each=False):
    """Write dx = dy f′(x), arrays of any strides."""
    cdef Tensor X = tensor(x), DY = tensor(dy), DX = tensor(dx, True)
    cdef Elementwise e
    merge_axes(&e.call, X, DY, in_place_of_setting(X, p, each), DX)
    e.function[0], e.function[1] = a.slope[0], a.slope[1]
    run_elementwise(
        &e, settings, kernel(a.backward_kernel, X.precision),
        <cnn_task> elementwise_backward[float] if X.precision == CNN_FLOAT32 else <cnn_task> elementwise_backward[double])


cdef int64_t BLOCK_OF_PIXELS = 16384     # values of one task if channels are innermost


cdef int64_t pixels_of_task(cnn_tensor **views, int count):
    """Pixels of a task if channels are innermost in all ``views``, else 0 (planes). Merges the views' spatial axes."""
    cdef int i
    cdef bint innermost = True, merges = True
    cdef cnn_tensor *view
    for i in range(count):
        view = views[i]
        innermost = innermost and view.shape[1] > 1 and view.stride[1] == 1
        merges = merges and (view.shape[3] == 1 or view.stride[3] == view.shape[4] * view.stride[4]) and (
            view.shape[2] == 1 or view.stride[2] == view.shape[3] * view.shape[4] * view.stride[4])
    for i in range(count):
        view = views[i]
        if merges:
            view.shape[4] *= view.shape[3] * view.shape[2]
            view.shape[2] = view.shape[3] = 1
    return max(1, BLOCK_OF_PIXELS // views[0].shape[1]) if innermost else 0


cdef int64_t tasks_of(const cnn_tensor *view, int64_t pixels):
    """Planes of ``view``, or blocks of ``pixels``."""
    if not pixels:
        return view.shape[0] * view.shape[1]
    return (view.shape[0] * view.shape[2] * view.shape[3] * view.shape[4] + pixels - 1) // pixels


def backward_with_parameter(Activation a, tuple settings, x, p, dy, dx):
    """Write dx = dy f′(x); return the tasks' contributions to dp, an array (tasks, channels) whose sum over tasks is dp."""
    cdef Tensor X = tensor(x), DY = tensor(dy), DX = tensor(dx, True)
    cdef Tensor P = per_channel(X, p)
    cdef Channelwise e
    cdef cnn_tensor *views[3]
    cdef int i
    e.call.x, e.call.dy, e.call.dx = X.view, DY.view, DX.view
    e.call.p, e.call.p_stride = P.view.data, P.view.stride[1]
    e.call.pixels = 0
    e.slope[0], e.slope[1] = a.slope[0], a.slope[1]
    e.parameter_slope[0], e.parameter_slope[1] = a.parameter_slope[0], a.parameter_slope[1]
    for i in range(len(settings)):
        e.call.setting[i] = settings[i]
    cdef int64_t C = X.view.shape[1], scratch = (C + 64) * 8
    cdef cnn_task task = kernel(a.channels_kernel, X.precision)
    if task == NULL:
        task = (
            <cnn_task> channels_backward[float] if X.precision == CNN_FLOAT32
            else <cnn_task> channels_backward[double])
    elif X.buffer.len:
        views[0], views[1], views[2] = &e.call.x, &e.call.dy, &e.call.dx
        e.call.pixels = pixels_of_task(views, 3)
        if e.call.pixels and P.view.stride[1] > 1:
            raise ValueError("p must be contiguous")
    cdef int64_t tasks = tasks_of(&e.call.x, e.call.pixels)
    shares = numpy.zeros((tasks if e.call.pixels else X.view.shape[0], C))
    cdef double[:, ::1] partial = shares
    if X.buffer.len:                    # an empty array contributes 0
        e.call.partial = &partial[0, 0]
        run(task, &e, tasks, 1, scratch, X.buffer.len // X.buffer.itemsize)
    return shares


def maxout_forward_pass(x, y):
    """Write y, the largest of the pieces."""
    cdef Tensor X = tensor(x), Y = tensor(y, True)
    cdef cnn_maxout call
    cdef cnn_tensor *views[2]
    if not X.buffer.len:  # the kernels divide by the extents
        return
    call.x, call.y, call.pieces, call.pixels = X.view, Y.view, X.view.shape[1] // Y.view.shape[1], 0
    cdef cnn_task task = kernel(MAXOUT_FORWARD, X.precision)
    if task == NULL:
        task = (
            <cnn_task> maxout_forward[float] if X.precision == CNN_FLOAT32
            else <cnn_task> maxout_forward[double])
    else:
        views[0], views[1] = &call.x, &call.y
        call.pixels = pixels_of_task(views, 2)
    run(task, &call, tasks_of(&call.y, call.pixels), 1, 0, X.buffer.len // X.buffer.itemsize)


def maxout_backward_pass(x, dy, dx):
    """Write dx: dy at the winning piece, 0 at the others."""
    cdef Tensor X = tensor(x), DY = tensor(dy), DX = tensor(dx, True)
    cdef cnn_maxout call
    cdef cnn_tensor *views[3]
    if not X.buffer.len:
        return
    call.x, call.dy, call.dx, call.pixels = X.view, DY.view, DX.view, 0
    call.pieces = X.view.shape[1] // DY.view.shape[1]
    cdef cnn_task task = kernel(MAXOUT_BACKWARD, X.precision)
    if task == NULL:
        task = (
            <cnn_task> maxout_backward[float] if X.precision == CNN_FLOAT32
            else <cnn_task> maxout_backward[double])
    else:
        views[0], views[1], views[2] = &call.x, &call.dy, &call.dx
        call.pixels = pixels_of_task(views, 3)
    run(task, &call, tasks_of(&call.dy, call.pixels), 1, 0, X.buffer.len // X.buffer.itemsize)


cdef int tensor_axis(int rank, int axis):
    """Which of (N, C, D, H, W) an array's axis number ``axis`` is."""
    return axis if axis < 2 else axis + 5 - rank


cdef int64_t columns_of_task(int64_t length):
    """Adjacent columns that a thread takes at a time: enough for whole vectors, few enough to stay in the cache."""
    return max(256, 4096 // length)


def both_parts_backward_pass(x, dy_positive, dy_negative, dx):
    """Write dx from the gradients of relu(x) and relu(−x)."""
    cdef Tensor X = tensor(x), P = tensor(dy_positive), Q = tensor(dy_negative), DX = tensor(dx, True)
    cdef cnn_elementwise call
    merge_axes(&call, X, P, Q, DX)
    cdef cnn_task task = kernel(BOTH_PARTS_BACKWARD, X.precision)
    if task == NULL:
        task = (
            <cnn_task> both_parts_backward[float] if X.precision == CNN_FLOAT32
            else <cnn_task> both_parts_backward[double])
    run(task, &call, call.size, 4096, 0, call.size)


cdef Tensor prepare_columns(cnn_softmax *call, X, DY, Y, int axis):
    """Fill in ``call`` for arrays whose columns are along ``axis``; returns the tensor of X. The caller keeps the arrays."""
    cdef Tensor x = tensor(X), y = tensor(Y, True), dy = None if DY is None else tensor(DY)
    axis = tensor_axis(x.buffer.ndim, axis)
    merge_axes(&call.columns, x, dy, None, y, axis)
    call.length, call.logarithm, call.negative = x.view.shape[axis], False, False
    call.x_step, call.y_step = x.view.stride[axis], y.view.stride[axis]
    call.dy_step = 0 if dy is None else dy.view.stride[axis]
    return x


def softmax_forward_pass(x, y, int axis, bint logarithm, bint negative=False):
    """Write y = softmax(x) along ``axis``, or its logarithm, or that of −x."""
    cdef cnn_softmax call
    cdef Tensor X = prepare_columns(&call, x, None, y, axis)
    call.logarithm, call.negative = logarithm, negative
    cdef cnn_task task = kernel(SOFTMAX_FORWARD, X.precision)
    if task == NULL:
        task = (
            <cnn_task> softmax_forward[float] if X.precision == CNN_FLOAT32
            else <cnn_task> softmax_forward[double])
    run(task, &call, call.columns.size, columns_of_task(call.length), 2 * call.length * X.buffer.itemsize,
        <double> call.columns.size * call.length)


def softmax_backward_pass(y, dy, dx, int axis, bint logarithm, bint negative=False):
    """Write dx from y and dy."""
    cdef cnn_softmax call
    cdef Tensor Y = prepare_columns(&call, y, dy, dx, axis)
    call.logarithm, call.negative = logarithm, negative
    cdef cnn_task task = kernel(SOFTMAX_BACKWARD, Y.precision)
    if task == NULL:
        task = (
            <cnn_task> softmax_backward[float] if Y.precision == CNN_FLOAT32
            else <cnn_task> softmax_backward[double])
    run(task, &call, call.columns.size, columns_of_task(call.length), 3 * call.length * Y.buffer.itemsize,
        <double> call.columns.size * call.length)


cdef int64_t MOST_LANES = 8      # float64 values of a vector


def sparsemax_forward_pass(x, y, int axis):
    """Write y = sparsemax(x) along ``axis``."""
    cdef cnn_softmax call
    cdef Tensor X = prepare_columns(&call, x, None, y, axis)
    cdef cnn_task task = kernel(SPARSEMAX_FORWARD, X.precision)
    if task == NULL:
        task = (
            <cnn_task> sparsemax_forward[float] if X.precision == CNN_FLOAT32
            else <cnn_task> sparsemax_forward[double])
    run(task, &call, call.columns.size, columns_of_task(call.length), MOST_LANES * call.length * 8,
        8.0 * call.columns.size * call.length)


def sparsemax_backward_pass(y, dy, dx, int axis):
    """Write dx from y and dy."""
    cdef cnn_softmax call
    cdef Tensor Y = prepare_columns(&call, y, dy, dx, axis)
    cdef cnn_task task = kernel(SPARSEMAX_BACKWARD, Y.precision)
    if task == NULL:
        task = (
            <cnn_task> sparsemax_backward[float] if Y.precision == CNN_FLOAT32
            else <cnn_task> sparsemax_backward[double])
    run(task, &call, call.columns.size, columns_of_task(call.length), 2 * MOST_LANES * call.length * 8,
        4.0 * call.columns.size * call.length)


def hardmax_forward_pass(x, y, int axis):
    """Write y = hardmax(x) along ``axis``."""
    cdef cnn_softmax call
    cdef Tensor X = prepare_columns(&call, x, None, y, axis)
    cdef cnn_task task = kernel(HARDMAX_FORWARD, X.precision)
    if task == NULL:
        task = (
            <cnn_task> hardmax_forward[float] if X.precision == CNN_FLOAT32
            else <cnn_task> hardmax_forward[double])
    run(task, &call, call.columns.size, columns_of_task(call.length), 256 * 8, <double> call.columns.size * call.length)
