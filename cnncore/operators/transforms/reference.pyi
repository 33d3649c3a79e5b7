# Written by tools/generate.py from the Cython source.
from typing import Any

class Taps:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

def apply(taps: Any, x: Any, y: Any) -> Any: ...
