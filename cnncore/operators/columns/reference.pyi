# Written by tools/generate.py from the Cython source.
from typing import Any

class Columns:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
