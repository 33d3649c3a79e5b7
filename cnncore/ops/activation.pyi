# Written by tools/generate.py from the Cython source.
from typing import Any

class Activation:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

RELU: Any

def forward(a: Any, settings: Any, x: Any, y: Any) -> Any: ...

def backward(a: Any, settings: Any, x: Any, dy: Any, dx: Any) -> Any: ...
