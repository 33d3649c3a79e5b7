# Written by tools/generate.py from the Cython source.
from typing import Any

class Bound:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

class Recent:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

def is_ready(array: Any, shape: Any, dtype: Any) -> Any: ...
