# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

def vectors(dtype: Any) -> Any: ...

def forward(x: Any, y: Any, windows: Any, weights: Any, grid: Any, y_grid: Any) -> Any: ...
