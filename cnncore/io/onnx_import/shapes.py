"""Sizes that are not known yet, as numbers to compute with, and the whole-number arithmetic that ONNX graphs do with sizes.

An :class:`Extent` is a polynomial in open extents, such as H·W/4 + 1. Shapes taken from a value (Shape), cut, joined and
multiplied (Gather, Concat, Mul …) stay exact, so that what a Reshape or a Resize is told to do becomes a setting that does not
depend on the image: "the extent of axis 2", "twice as many".
"""

import hashlib
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from ...errors import ModelFileError
from ...operators.geometry import fraction_meant

__all__ = [
    "MOST_VALUES",
    "ON_NUMBERS",
    "Extent",
    "as_integers",
    "as_real",
    "as_size",
    "as_whole",
    "folded",
    "is_open",
    "rounded_up",
    "sign_of",
    "tidy",
    "windows",
    "written",
]

# Sizes of networks are small polynomials; what a file asks for beyond is refused before it grows.
MOST_TERMS = 64
MOST_FACTORS = 16
MOST_BITS = 256
MOST_DEPTH = 64
MOST_TEXT = 80
MOST_VALUES = 1 << 28  # of all arrays that a file makes from nothing


class Atom(NamedTuple):
    """What a polynomial is made of: an open extent, or a function of others. Equal digests mean equal atoms."""

    digest: bytes
    text: str
    depth: int  # of functions within functions
    function: str = ""
    arguments: tuple = ()


def digest(*parts):
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


class Extent:
    """A number that depends on open extents: Σ coefficient · product of atoms. Immutable; equal ones are equal.

    It is a whole number, as sizes are; a :class:`RealExtent` is one that was cast to float, or divided as such.
    """

    __slots__ = ("_digest", "terms")
    is_real = False

    def __init__(self, terms):
        self.terms = {atoms: c for atoms, c in terms.items() if c}
        if (
            len(self.terms) > MOST_TERMS
            or any(len(atoms) > MOST_FACTORS for atoms in self.terms)
            or any(max(c.numerator.bit_length(), c.denominator.bit_length()) > MOST_BITS for c in self.terms.values())
        ):
            raise ModelFileError("a size of the graph depends on the image in more ways than any network needs")
        self._digest = None

    @property
    def digest(self):
        """The same for equal extents, and for no others."""
        if self._digest is None:
            rows = sorted((tuple(a.digest for a in atoms), c.as_integer_ratio()) for atoms, c in self.terms.items())
            self._digest = digest(*rows)
        return self._digest

    @classmethod
    def named(cls, name):
        """The open extent called ``name``."""
        text = name if isinstance(name, str) else f"{name[0]}[{name[1]}]"
        return cls({(Atom(digest("open", name), text, 0),): Fraction(1)})

    @classmethod
    def of(cls, function, *arguments):
        """A function of extents of which nothing is known but that equal arguments give equal results."""
        extents = [a for a in arguments if isinstance(a, Extent)]
        depth = 1 + max((atom.depth for e in extents for atoms in e.terms for atom in atoms), default=0)
        if depth > MOST_DEPTH:
            raise ModelFileError(
                f"a size of the graph is rounded {depth} times one after the other; no image is that large"
            )
        text = f"{function}({', '.join(map(str, arguments))})"
        name = digest(function, *(a.digest if isinstance(a, Extent) else a for a in arguments))
        text = text if len(text) <= MOST_TEXT else f"{function}(…)"
        return cls({(Atom(name, text, depth, function, arguments),): Fraction(1)})

    def __repr__(self):
        rows = []
        for atoms, c in self.terms.items():
            factors = [str(c)] * (c != 1 or not atoms) + [atom.text for atom in atoms]
            rows.append("·".join(factors))
        text = " + ".join(rows)
        return text if len(text) <= 2 * MOST_TEXT else text[: 2 * MOST_TEXT] + "…"

    def __eq__(self, other):
        return isinstance(other, Extent) and self.terms == other.terms

    def __hash__(self):
        return hash(self.digest)

    def _made(self, terms, other):
        """The number with these terms: a real one where this one or the other is."""
        if self.is_real or isinstance(other, float) or getattr(other, "is_real", False):
            return RealExtent(terms).plain()
        return Extent(terms).plain()

    def plain(self):
        """An integer or a fraction where the number is one."""
        if not self.terms:
            return 0
        if set(self.terms) != {()}:
            return self
        number = self.terms[()]
        return int(number) if number == int(number) else number

    def _with(self, other, sign):
        terms = dict(self.terms)
        for atoms, c in terms_of(other).items():
            terms[atoms] = terms.get(atoms, 0) + sign * c
        return self._made(terms, other)

    def __add__(self, other):
        return self._with(other, 1)

    __radd__ = __add__

    def __sub__(self, other):
        return self._with(other, -1)

    def __rsub__(self, other):
        return (self * -1)._with(other, 1) if isinstance(self * -1, Extent) else other - self

    def __neg__(self):
        return self * -1

    def __mul__(self, other):
        terms = {}
        for a, x in self.terms.items():
            for b, z in terms_of(other).items():
                key = tuple(sorted((*a, *b)))
                terms[key] = terms.get(key, 0) + x * z
        return self._made(terms, other)

    __rmul__ = __mul__

    def __truediv__(self, other):
        """Exact where the divisor is a number or divides every term, else an unknown of its own."""
        divisor = terms_of(other)
        if len(divisor) == 1:
            ((atoms, c),) = divisor.items()
            terms = {}
            for own, x in self.terms.items():
                left = list(own)
                for atom in atoms:
                    if atom not in left:
                        return self._quotient(other)
                    left.remove(atom)
                terms[tuple(left)] = x / c
            return self._made(terms, other)
        return self._quotient(other)

    def _quotient(self, other):
        first = next(iter(self.terms))
        divisor = terms_of(other)
        if first in divisor:
            ratio = self.terms[first] / divisor[first]
            if {atoms: c * ratio for atoms, c in divisor.items()} == self.terms:
                return self._made({(): ratio}, other)
        return self._made(Extent.of("quotient", Extent(self.terms), Extent(divisor)).terms, other)

    def __rtruediv__(self, other):
        return (RealExtent if isinstance(other, float) else Extent)(terms_of(other)) / self

    def __floordiv__(self, other):
        quotient = self / other
        return quotient.__floor__() if isinstance(quotient, Extent) else math.floor(quotient)

    def __rfloordiv__(self, other):
        if other in (-1, 0) and self.denominator == 1 and sign_of(self) == 1:
            return other  # −1 ≤ −1 / H < 0 for every whole H from 1 on: torch.roll by 1 asks for −1 mod H
        return Extent(terms_of(other)) // self

    def __floor__(self):
        """Whole parts leave the rounding: ⌊H + ½⌋ = H + ⌊½⌋."""
        return self._rounded("floor", math.floor)

    def __ceil__(self):
        """⌈a / b⌉ = ⌊(a + b − 1) / b⌋ for whole a, so that there is one form of both."""
        if any(atom.function == "quotient" for atoms in self.terms for atom in atoms):
            return self._rounded("ceil", math.ceil)
        b = self.denominator
        return (self + Fraction(b - 1, b)).__floor__()

    @property
    def denominator(self):
        """The least number with which all coefficients become whole."""
        return math.lcm(*(c.denominator for c in self.terms.values()))

    def _rounded(self, name, function):
        whole = {atoms: c for atoms, c in self.terms.items() if c.denominator == 1}
        rest = {atoms: c for atoms, c in self.terms.items() if c.denominator > 1}
        if not rest:
            return self
        if set(rest) == {()}:
            return Extent(whole) + function(rest[()])
        constant = rest.get(())
        if constant is not None:  # ⌊H/2 + 3/2⌋ and ⌊(H + 1)/2⌋ + 1 are the same
            rest[()] = constant - math.floor(constant)
            whole[()] = whole.get((), 0) + math.floor(constant)
        return Extent(whole) + Extent.of(name, Extent(rest))


class RealExtent(Extent):
    """A number that depends on open extents and need not be whole; what is computed from it is real too, until it is cast."""

    __slots__ = ()
    is_real = True

    def plain(self):
        """A float where the number is one."""
        if not self.terms:
            return 0.0
        return float(self.terms[()]) if set(self.terms) == {()} else self

    def _rounded(self, name, function):
        return as_real(Extent(self.terms)._rounded(name, function))


def as_real(number):
    """A size cast to float."""
    return RealExtent(number.terms).plain() if isinstance(number, Extent) else float(number)


def as_whole(number):
    """A number cast to an integer: what stands behind the point goes. Sizes are not negative."""
    if isinstance(number, Extent):
        whole = Extent(number.terms).__floor__()
        return whole.plain() if isinstance(whole, Extent) else int(whole)
    return int(number)


def as_size(extent):
    """A size that was computed with floats, as the whole number that it is."""
    return as_whole(extent) if not isinstance(extent, Extent) or extent.is_real else extent


def terms_of(number):
    """A number as the terms of a polynomial."""
    if isinstance(number, Extent):
        return number.terms
    if isinstance(number, float):
        if not math.isfinite(number):
            raise ModelFileError(f"a size of the graph is computed with {number}")
        return {(): written(number)} if number else {}
    return {(): Fraction(number if isinstance(number, Fraction) else int(number))} if number else {}


def written(number):
    """The fraction that a float of a file stands for: 7/5, and not 1.39999998, of which 20 are less than 28."""
    return fraction_meant(number, np.float32 if np.float32(number) == number else np.float64)


def rounded_up(number, divisor):
    """⌈number / divisor⌉."""
    quotient = number / divisor if isinstance(number, Extent) else Fraction(number) / divisor
    return quotient.__ceil__()


def windows(extent, kernel, stride, dilation, pads, ceil_mode=False):
    """How many windows an axis of ``extent`` cells has; ``pads`` is "same", or the cells before and after."""
    if pads == "same":
        return rounded_up(extent, stride)
    room = extent + sum(pads) - (dilation * (kernel - 1) + 1)
    return rounded_up(room, stride) + 1 if ceil_mode else room // stride + 1


# ── Arithmetic on arrays of numbers and extents ────────────────────────────────────────────────────────────────────────


def is_open(array):
    """Whether an array holds extents beside numbers."""
    return array.dtype == object


def tidy(array):
    """An array of objects, as integers or real numbers where none of them is open."""
    values = array.ravel().tolist()
    if any(isinstance(v, Extent) for v in values):
        return array
    return array.astype(np.int64 if all(isinstance(v, int) for v in values) else np.float32)


def real(number):
    """Whether a size, or a number beside sizes, is a real one."""
    return isinstance(number, float) or getattr(number, "is_real", False)


def divided(a, b):
    """ONNX's Div: exact for real numbers, whole for whole ones, which sizes are."""
    if b == 0:
        raise ModelFileError("a size of the graph is divided by 0")
    return a / b if real(a) or real(b) else a // b


def remainder(a, b):
    """ONNX's Mod of sizes, which are not negative."""
    if b == 0:
        raise ModelFileError("a size of the graph is divided by 0")
    return a - b * (a // b)


def sign_of(difference):
    """−1, 0 or 1 where a number has that sign for images of every size; None where it depends on the image."""
    if not isinstance(difference, Extent):
        return (difference > 0) - (difference < 0)
    # Every atom is an extent, or made of extents by rounding and quotients: it is at least 0, an open extent at least 1.
    least = sum(c for atoms, c in difference.terms.items() if all(not a.function for a in atoms))
    rest = {c > 0 for atoms, c in difference.terms.items() if atoms}
    if rest == {True} and least > 0:
        return 1
    if rest == {False} and least < 0:
        return -1
    return None


def ordered_as(name, right):
    """A comparison of sizes, as far as its result is the same for every image."""

    def compare(a, b):
        sign = sign_of(a - b)
        if sign is None:
            raise ModelFileError(f"whether the size {a} is {name} {b} depends on the image")
        return int(right(sign))

    return compare


def larger(a, b):
    sign = sign_of(a - b)
    if sign is None:
        return Extent.of("max", a, b)
    return a if sign >= 0 else b


def smaller(a, b):
    sign = sign_of(a - b)
    if sign is None:
        return Extent.of("min", a, b)
    return b if sign >= 0 else a


def to_the_power(a, b):
    if isinstance(b, Extent) or b != int(b) or not 0 <= b <= MOST_FACTORS:
        raise ModelFileError(f"a size of the graph is {a} to the power of {b}")
    made = 1.0 if real(a) else 1
    for _ in range(int(b)):
        made = made * a
    return made


def rounded(a):
    """To the nearest integer, as a size or a float."""
    if not isinstance(a, Extent):
        return float(np.rint(a))
    return a if not any(c.denominator > 1 for c in a.terms.values()) else RealExtent.of("round", a)


def floored(a):
    return a.__floor__() if isinstance(a, Extent) else float(math.floor(a)) if isinstance(a, float) else a


def raised(a):
    return a.__ceil__() if isinstance(a, Extent) else float(math.ceil(a)) if isinstance(a, float) else a


def equal(a, b):
    """Whether two sizes are the same, as far as that is known for every image."""
    sign = sign_of(a - b)
    if sign is None:
        raise ModelFileError(f"whether the size {a} is {b} depends on the image")
    return int(sign == 0)


ON_EXTENTS = {
    "Equal": equal,
    "Where": lambda condition, a, b: a if condition else b,
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": divided,
    "Mod": remainder,
    "Pow": to_the_power,
    "Max": larger,
    "Min": smaller,
    "Floor": floored,
    "Ceil": raised,
    "Round": rounded,
    "Neg": lambda a: -a,
    "Reciprocal": lambda a: divided(1.0, a),
    "Less": ordered_as("less than", lambda sign: sign < 0),
    "LessOrEqual": ordered_as("at most", lambda sign: sign <= 0),
    "Greater": ordered_as("greater than", lambda sign: sign > 0),
    "GreaterOrEqual": ordered_as("at least", lambda sign: sign >= 0),
}
# Of the operators on sizes, those that give booleans.
DECISIONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")


def towards_zero(a, b):
    """Quotients of whole numbers as ONNX has them."""
    if not np.all(b):
        raise ModelFileError("a whole number of the graph is divided by 0")
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


def quotient(a, b):
    return np.divide(a, b) if a.dtype.kind == "f" else towards_zero(a, b)


ON_NUMBERS = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": quotient,
    "Pow": lambda a, b: np.power(a, b).astype(a.dtype),
    "Max": lambda *a: np.maximum.reduce(a) if len(a) > 2 else np.maximum(a[0], a[-1]),
    "Min": lambda *a: np.minimum.reduce(a) if len(a) > 2 else np.minimum(a[0], a[-1]),
    "Mod": np.mod,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
    "Neg": np.negative,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Exp": np.exp,
    "Log": np.log,
    "Equal": np.equal,
    "Less": np.less,
    "Greater": np.greater,
    "LessOrEqual": np.less_equal,
    "GreaterOrEqual": np.greater_equal,
    "Not": np.logical_not,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Where": np.where,
    "Xor": np.logical_xor,
    "Sign": np.sign,
    "IsNaN": np.isnan,
    "Trunc": np.trunc,
}


def as_python(array):
    """An array of objects with the same numbers: integers, floats and extents, which know how to meet."""
    if array.dtype == object:
        return array
    made = np.empty(array.shape, object)
    made[...] = array.astype(np.float64).tolist() if array.dtype.kind == "f" else array.tolist()
    return made


def folded(op_type, arrays):
    """What an elementwise ONNX operator makes of constant arrays, some of which may hold extents; None: nothing is known."""
    if any(map(is_open, arrays)):
        if op_type not in ON_EXTENTS:
            return None
        if op_type in ("Max", "Min") and len(arrays) != 2:
            return arrays[0] if len(arrays) == 1 else folded(op_type, [folded(op_type, arrays[:2]), *arrays[2:]])
        made = np.asarray(np.frompyfunc(ON_EXTENTS[op_type], len(arrays), 1)(*map(as_python, arrays)), object)
        return made.astype(np.bool_) if op_type in DECISIONS else tidy(made)
    if op_type not in ON_NUMBERS:
        return None
    with np.errstate(all="ignore"):
        return np.asarray(ON_NUMBERS[op_type](*arrays))


def as_integers(array):
    """The entries of an array as Python integers and extents."""
    return [v if isinstance(v, Extent) else int(v) for v in np.atleast_1d(array).ravel().tolist()]
