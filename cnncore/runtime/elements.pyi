# Written by tools/generate.py from the Cython source.
from typing import Any

class Held:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

class Elements:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
