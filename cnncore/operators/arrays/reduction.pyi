# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

@disjoint_base
class Reduction:
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    name: Any

SUM: Any

MEAN: Any

L1: Any

SUM_SQUARE: Any

L2: Any

LOG_SUM: Any

LOG_SUM_EXP: Any

PROD: Any

MAX: Any

MIN: Any

def forward(r: Any, x: Any, y: Any) -> Any: ...

def backward(r: Any, x: Any, dy: Any, dx: Any) -> Any: ...
