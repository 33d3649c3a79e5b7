# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

MODES: Any

PADDING_MODES: Any

def sample(x: Any, grid: Any, y: Any, mode: Any, padding_mode: Any, align_corners: Any) -> Any: ...

def sample_gradient(dx: Any, grid: Any, dy: Any, mode: Any, padding_mode: Any, align_corners: Any) -> Any: ...

def grid_gradient(x: Any, grid: Any, dy: Any, dgrid: Any, mode: Any, padding_mode: Any, align_corners: Any) -> Any: ...
