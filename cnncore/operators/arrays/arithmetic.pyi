# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

REMAINDER: Any

REMAINDER_OTHER: Any

FMOD: Any

FMOD_OTHER: Any

ADD: Any

SUBTRACT: Any

SUBTRACT_OTHER: Any

MULTIPLY: Any

MULTIPLY_OTHER: Any

DIVIDE: Any

DIVIDE_OTHER: Any

MAXIMUM: Any

MAXIMUM_OTHER: Any

MINIMUM: Any

MINIMUM_OTHER: Any

POWER: Any

POWER_OTHER: Any

NEGATIVE: Any

RECIPROCAL: Any

SQRT: Any

LOG: Any

ERF: Any

FLOOR: Any

CEIL: Any

ROUND: Any

SIN: Any

COS: Any

TAN: Any

ASIN: Any

ACOS: Any

ATAN: Any

SINH: Any

COSH: Any

ASINH: Any

ACOSH: Any

ATANH: Any
