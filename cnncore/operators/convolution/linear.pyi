# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

def forward(x: Any, w: Any, b: Any, y: Any, lower: Any = ..., upper: Any = ...) -> Any: ...

def backward_input(dy: Any, w: Any, dx: Any) -> Any: ...

def backward_weight(x: Any, dy: Any, dw: Any) -> Any: ...
