# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

def run(fake: Any, wanted: Any, low: Any, high: Any, x: Any, s: Any, z: Any, y: Any) -> Any: ...
