# Written by tools/generate.py from the Cython source.
from typing import Any

def run(fake: Any, wanted: Any, low: Any, high: Any, x: Any, s: Any, z: Any, y: Any) -> Any: ...
