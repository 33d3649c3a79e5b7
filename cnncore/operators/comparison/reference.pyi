# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

LESS: Any

SAME: Any

MORE: Any

UNORDERED: Any

def compare(outcomes: Any, x: Any, z: Any, y: Any) -> Any: ...

def infinite(negative: Any, positive: Any, x: Any, y: Any) -> Any: ...

def logic(both: Any, one: Any, x: Any, z: Any, y: Any) -> Any: ...

def choose(condition: Any, x: Any, z: Any, y: Any) -> Any: ...

def choose_gradient(condition: Any, kept: Any, dy: Any, dx: Any) -> Any: ...
