# Written by tools/generate.py from the Cython source.
from typing import Any

class Strategy:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

MAX: Any

SUM: Any

AVG: Any

LP: Any

STOCHASTIC: Any

PROBABILITY_WEIGHTED: Any

class Windows:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

def forward(strategy: Any, windows: Any, settings: Any, x: Any, y: Any, indices: Any = ..., drawn: Any = ..., seed: Any = ...) -> Any: ...

def backward(strategy: Any, windows: Any, settings: Any, x: Any, y: Any, dy: Any, dx: Any, drawn: Any = ...) -> Any: ...
