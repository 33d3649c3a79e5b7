# Written by tools/generate.py from the Cython source.
from typing import Any

class Convolution:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

def backward_bias(dy: Any, db: Any) -> Any: ...
