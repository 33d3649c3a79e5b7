# Written by tools/generate.py from the Cython source.
from typing import Any

def add(arrays: Any, coefficients: Any, y: Any) -> Any: ...

ONE: Any

def copy(x: Any, y: Any) -> Any: ...

class Padding:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
