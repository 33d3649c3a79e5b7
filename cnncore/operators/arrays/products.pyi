# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

def product(x: Any, z: Any, out: Any = ...) -> Any: ...
