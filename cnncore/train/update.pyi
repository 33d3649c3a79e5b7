# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

def sgd(w: Any, g: Any, velocity: Any, rate: Any, momentum: Any, decay: Any, nesterov: Any) -> Any: ...

def adam(w: Any, g: Any, mean: Any, square: Any, rate: Any, first: Any, second: Any, scale: Any, eps: Any, decay: Any, shrink: Any) -> Any: ...
