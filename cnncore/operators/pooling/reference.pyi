# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

@disjoint_base
class Reference:
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    name: Any
    saves: Any
    requires: Any

@disjoint_base
class Numbers:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

@disjoint_base
class Windows:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

MAX: Any

SUM: Any

AVG: Any

LP: Any

STOCHASTIC: Any

PROBABILITY_WEIGHTED: Any

MIN: Any

MEDIAN: Any

MIXED: Any

GATED: Any

TREE: Any

SOFT: Any

AUTO: Any

LOG_SUM_EXP: Any

GEM: Any

ALPHA: Any

LEARNED_LP: Any

ORDINAL: Any

RANK_AVG: Any

RANK_WEIGHTED: Any

RANK_STOCHASTIC: Any

MAX_DROPOUT: Any

DILATION: Any

EROSION: Any

def forward(strategy: Any, windows: Any, numbers: Any, x: Any, y: Any, indices: Any = ...) -> Any: ...

def backward(strategy: Any, windows: Any, numbers: Any, x: Any, y: Any, dy: Any, dx: Any, gradient: Any = ..., add: Any = ..., learns: Any = ...) -> Any: ...

def k_max(x: Any, y: Any, places: Any) -> Any: ...

def k_max_backward(dy: Any, places: Any, dx: Any) -> Any: ...
