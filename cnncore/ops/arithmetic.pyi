# Written by tools/generate.py from the Cython source.
from typing import Any

SUBTRACT: Any

MULTIPLY: Any

DIVIDE: Any

MAXIMUM: Any

MINIMUM: Any

POWER: Any

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
