# Written by tools/generate.py from the Cython source.
from typing import Any

class Statistics:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

class Scratch:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

class Normalization:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

class PlaneResponseNormalization:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

class ResponseNormalization:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
