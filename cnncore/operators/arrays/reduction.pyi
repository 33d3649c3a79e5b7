# Written by tools/generate.py from the Cython source.
from typing import Any

class Reduction:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

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
