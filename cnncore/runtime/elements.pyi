# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

@disjoint_base
class Elements:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

@disjoint_base
class Held:
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
