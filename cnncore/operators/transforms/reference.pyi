# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

@disjoint_base
class Taps:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    inputs: Any
    outputs: Any

def apply(taps: Any, x: Any, y: Any) -> Any: ...
