"""Activations in many digits: f and f′ for mpmath's numbers, places to compare at, and distances in units of the last place.

Read by test_activations.py and by tools/accuracy_of_activations.py.
"""

import numpy as np

import cnncore

try:
    import mpmath
    from mpmath import mpf
except ImportError:
    mpmath = None

# Digits that are enough: tanhshrink takes two thirds of them away from a small x.
DIGITS = 60


def s(x):
    return 1 / (1 + mpmath.exp(-x))


def normal(x):
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def bell(x):
    return mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)


def gate(x):
    e = mpmath.exp(x)
    return (e * e + 2 * e) / (e * e + 2 * e + 2)


def swish_with(beta):
    return (
        lambda x: x * s(beta * x),
        lambda x: s(beta * x) + beta * x * s(beta * x) * s(-beta * x),
        lambda x: s(beta * x),
    )


def shrunk(x):
    with mpmath.workdps(150):  # of a small x the difference takes two thirds of the digits away
        return x - mpmath.tanh(x)


def tanh_form():
    def u(x):
        return mpmath.sqrt(2 / mpmath.pi) * (x + mpf("0.044715") * x**3)

    def slope_of_u(x):
        return mpmath.sqrt(2 / mpmath.pi) * (1 + 3 * mpf("0.044715") * x**2)

    return (
        lambda x: x * s(2 * u(x)),
        lambda x: s(2 * u(x)) + 2 * x * slope_of_u(x) * s(2 * u(x)) * s(-2 * u(x)),
        lambda x: s(2 * u(x)) + abs(2 * x * slope_of_u(x) * s(2 * u(x)) * s(-2 * u(x))),
    )


def elu_with(scale, alpha, steepness):
    return (
        lambda x: scale * x if x > 0 else scale * alpha * mpmath.expm1(x / steepness),
        lambda x: scale if x > 0 else scale * alpha / steepness * mpmath.exp(x / steepness),
    )


# name → operator, settings, f, f′, and the sizes of the terms of f′ and of f where these cancel.
def formulas():
    return {
        "exp": ("exp", {}, mpmath.exp, mpmath.exp),
        "sigmoid": ("sigmoid", {}, s, lambda x: s(x) * s(-x)),
        "log_sigmoid": ("log_sigmoid", {}, lambda x: -mpmath.log1p(mpmath.exp(-x)), lambda x: s(-x)),
        "tanh": ("tanh", {}, mpmath.tanh, lambda x: mpmath.sech(x) ** 2),
        "softplus": ("softplus", {}, lambda x: mpmath.log1p(mpmath.exp(x)), s),
        "softsign": ("softsign", {}, lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
        "elu": ("elu", {}, *elu_with(mpf(1), mpf(1), mpf(1))),
        "elu_2": ("elu", {"alpha": 2.0}, *elu_with(mpf(1), mpf(2), mpf(1))),
        "celu": ("celu", {"alpha": 0.5}, *elu_with(mpf(1), mpf(0.5), mpf(0.5))),
        "selu": ("selu", {}, *elu_with(mpf(1.0507009873554805), mpf(1.6732632423543772), mpf(1))),
        "silu": ("silu", {}, *swish_with(mpf(1))),
        "swish": ("swish", {"beta": -0.5}, *swish_with(mpf(-0.5))),
        "dsilu": (
            "dsilu",
            {},
            lambda x: s(x) * (1 + x * s(-x)),
            lambda x: s(x) * s(-x) * (2 + x * (1 - 2 * s(x))),
            lambda x: 2 * s(x) * s(-x),
            s,
        ),
        "mish": ("mish", {}, lambda x: x * gate(x), lambda x: gate(x) + x * s(x) * (1 - gate(x) ** 2), gate),
        "gelu": ("gelu", {}, lambda x: x * normal(x), lambda x: normal(x) + x * bell(x), normal),
        "gelu_tanh": ("gelu", {"approximate": "tanh"}, *tanh_form()),
        "swish_steep": ("swish", {"beta": 1.7}, *swish_with(mpf(1.7))),
        "quick_gelu": ("quick_gelu", {}, *swish_with(mpf(1.702))),
        "softplus_steep": (
            "softplus",
            {"beta": 3.3},
            lambda x: mpmath.log1p(mpmath.exp(mpf(3.3) * x)) / mpf(3.3),
            lambda x: s(mpf(3.3) * x),
        ),
        "scaled_tanh": (
            "scaled_tanh",
            {},
            lambda x: mpf(1.7159) * mpmath.tanh(mpf(2 / 3) * x),
            lambda x: mpf(1.7159) * mpf(2 / 3) * mpmath.sech(mpf(2 / 3) * x) ** 2,
        ),
        "tanhshrink": ("tanhshrink", {}, shrunk, lambda x: mpmath.tanh(x) ** 2),
        "squareplus": (
            "squareplus",
            {},
            lambda x: (x + mpmath.sqrt(x * x + 4)) / 2,
            lambda x: (1 + x / mpmath.sqrt(x * x + 4)) / 2,
        ),
        "dish": (
            "dish",
            {},
            lambda x: x * (1 + x / mpmath.sqrt(1 + x * x)) / 2,
            lambda x: (1 + x / mpmath.sqrt(1 + x * x) + x / mpmath.sqrt(1 + x * x) ** 3) / 2,
            lambda x: (1 + x / mpmath.sqrt(1 + x * x)) / 2,
        ),
        "sparse_plus": (
            "sparse_plus",
            {},
            lambda x: mpf(0) if x <= -1 else x if x >= 1 else (x + 1) ** 2 / 4,
            lambda x: mpf(0) if x <= -1 else mpf(1) if x >= 1 else (x + 1) / 2,
        ),
        "hard_swish": (
            "hard_swish",
            {},
            lambda x: mpf(0) if x <= -3 else x if x >= 3 else x * (x + 3) / 6,
            lambda x: mpf(0) if x <= -3 else mpf(1) if x >= 3 else (2 * x + 3) / 6,
        ),
        "hard_sigmoid": (
            "hard_sigmoid",
            {},
            lambda x: mpf(0) if x <= -3 else mpf(1) if x >= 3 else (x + 3) * mpf(1 / 6),
            lambda x: mpf(1 / 6) if -3 < x < 3 else mpf(0),
        ),
    }


EXACT = formulas() if mpmath else {}


def units(found, exact, dtype, size=None):
    """Distance of ``found`` from ``exact`` in units of the last place (of ``size``, where that is larger)."""
    far = np.empty(len(found))
    for i, (y, e) in enumerate(zip(found, exact, strict=True)):
        scale = abs(e) if size is None else max(abs(e), size[i])
        with np.errstate(over="ignore"):
            rounded = dtype(float(scale))
        if not np.isfinite(rounded) or not np.isfinite(y):
            far[i] = 0 if np.isinf(rounded) and np.isinf(y) else np.inf
            continue
        far[i] = float(abs(mpf(float(y)) - e) / mpf(float(np.spacing(rounded))))
    return far


def sweep(dtype, rng, count):
    """Numbers of every size: |x| up to where e^x leaves the dtype, tiny ones, subnormal ones, and round ones."""
    reach = 104 if dtype == np.float32 else 708
    tiny = 10.0 ** rng.uniform(-30, 0, count // 2)
    smallest = float(np.finfo(dtype).smallest_subnormal)
    return np.concatenate(
        [
            rng.uniform(-4, 4, 2 * count),
            rng.uniform(-20, 20, count),
            rng.uniform(-reach, reach, count),
            tiny,
            -tiny,
            [0.0, -0.0, 1e-8, -1e-8, 20.0, -20.0, 40.0, -40.0, 1e4, -1e4, 0.5493, -0.5494, 1.0, -1.0, 100.0, -100.0],
            [smallest, -smallest, 77 * smallest, -77 * smallest, 1e10 * smallest, -1e10 * smallest],
        ]
    ).astype(dtype)


class Reference:
    """y and f′ of one entry of EXACT at some places, in many digits."""

    def __init__(self, name, x):
        op, self.settings, f, slope, *sizes = EXACT[name]
        self.op, self.x = cnncore.OPS[op], x
        with mpmath.workdps(DIGITS):
            at = [mpf(float(v)) for v in x]
            self.y, self.slope = [f(v) for v in at], [slope(v) for v in at]
            self.slope_size, self.y_size = ([abs(g(v)) for v in at] if g else None for g in (*sizes, None, None)[:2])

    def distances(self):
        """Units that y and the slope of the present target are off, at every place."""
        with np.errstate(all="ignore"):
            y, backward = self.op.with_backward(self.x, **self.settings)
            slope = backward(np.ones_like(self.x))
        dtype = self.x.dtype.type
        with mpmath.workdps(DIGITS):
            return units(y, self.y, dtype, self.y_size), units(slope, self.slope, dtype, self.slope_size)
