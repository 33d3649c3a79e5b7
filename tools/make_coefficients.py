"""Computes the polynomials of cnncore/kernels/maths.h: ``python tools/make_coefficients.py`` (needs mpmath).

Each polynomial interpolates its function at Chebyshev nodes of the interval it serves, in 50 digits, and its coefficients
are then rounded to the precision of the kernel; this comes within a factor of about two of the best polynomial of its
degree. The error printed is relative to the result the polynomial goes into, in halves of its last place (2⁻²⁴, 2⁻⁵³).

The output is pasted into maths.h by hand when a degree or an interval changes.
"""

import mpmath as mp

mp.mp.dps = 50
TAIL_POLE = 5  # K of t = (a − K) / (a + K)
LONGEST_TAIL = {32: 15, 64: 39}  # where x Φ(−x) has become 0


def interpolate(f, low, high, degree):
    """Coefficients, lowest power first, of the polynomial through f at the Chebyshev nodes of [low, high]."""
    count = degree + 1
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * count)) for k in range(count)]
    divided = [f(x) for x in nodes]
    for j in range(1, count):
        for i in range(count - 1, j - 1, -1):
            divided[i] = (divided[i] - divided[i - 1]) / (nodes[i] - nodes[i - j])
    polynomial = [divided[-1]]
    for i in range(count - 2, -1, -1):
        shifted = [mp.mpf(0), *polynomial]
        for power, value in enumerate(polynomial):
            shifted[power] -= value * nodes[i]
        shifted[0] += divided[i]
        polynomial = shifted
    return polynomial


def error(polynomial, f, weight, low, high, points=1000):
    """Largest weighted difference on a grid."""
    grid = (low + (high - low) * mp.mpf(k) / points for k in range(points + 1))
    return max(abs(weight(x) * (mp.polyval(polynomial[::-1], x) - f(x))) for x in grid)


def exp_part(r):
    """(eʳ − 1 − r) / r²"""
    return mp.mpf(1) / 2 + r / 6 if abs(r) < 1e-15 else (mp.expm1(r) - r) / r**2


def log1p_part(e):
    """(log(1 + e) − e) / e²"""
    return -mp.mpf(1) / 2 + e / 3 if e < 1e-15 else (mp.log1p(e) - e) / e**2


def tanh_part(z):
    """(tanh x − x) / x³ of z = x²"""
    x = mp.sqrt(z)
    return -mp.mpf(1) / 3 if z < 1e-20 else (mp.tanh(x) - x) / x**3


def shrink_part(z):
    """(x − tanh x) / x³ of z = x²"""
    x = mp.sqrt(z)
    return mp.mpf(1) / 3 - 2 * z / 15 if z < 1e-20 else (x - mp.tanh(x)) / x**3


def normal_part(z):
    """(Φ(x) − ½) / x of z = x²"""
    x = mp.sqrt(z)
    return (1 - z / 6) / mp.sqrt(2 * mp.pi) if z < 1e-20 else mp.erf(x / mp.sqrt(2)) / (2 * x)


def tail_part(t):
    """(a + K) Φ(−a) / e^{−a²/2} of t = (a − K) / (a + K)"""
    a = TAIL_POLE * (1 + t) / (1 - t)
    return mp.exp(a * a / 2) * mp.erfc(a / mp.sqrt(2)) / 2 * (a + TAIL_POLE)


def polynomials(bits):
    """name, function, weight, interval and degree of every polynomial."""
    r = mp.log(2) / 2
    first, last = (mp.mpf(a - TAIL_POLE) / (a + TAIL_POLE) for a in (1, LONGEST_TAIL[bits]))
    degree = {32: (5, 9, 4, 7, 5, 9), 64: (10, 21, 10, 15, 10, 21)}[bits]
    return (
        ("exp_terms", exp_part, lambda r: r * r / mp.exp(r), -r, r, degree[0]),
        ("log1p_terms", log1p_part, lambda e: e * e / mp.log1p(e) if e else mp.mpf(0), mp.mpf(0), mp.mpf(1), degree[1]),
        ("tanh_terms", tanh_part, lambda z: z, mp.mpf(0), (mp.log(3) / 2) ** 2, degree[2]),
        ("shrink_terms", shrink_part, lambda z: 1 / shrink_part(z), mp.mpf(0), mp.mpf(1), degree[3]),
        ("normal_terms", normal_part, lambda z: mp.sqrt(z) * 2, mp.mpf(0), mp.mpf(1), degree[4]),
        ("tail_terms", tail_part, lambda t: 1 / tail_part(t), first, last, degree[5]),
    )


def main():
    for bits, digits, half in ((32, 9, 24), (64, 17, 53)):
        print(f"#if REAL_BITS == {bits}")
        for name, f, weight, low, high, degree in polynomials(bits):
            polynomial = interpolate(f, low, high, degree)
            size = error(polynomial, f, weight, low, high) * mp.mpf(2) ** half
            print(f"/* error {mp.nstr(size, 2)} · 2^-{half} */")
            numbers = ", ".join(mp.nstr(c, digits, strip_zeros=False) for c in polynomial)
            print(f"static const REAL K({name})[] = {{{numbers}}};")
        print("#endif")


if __name__ == "__main__":
    main()
