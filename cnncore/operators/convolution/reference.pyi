# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

@disjoint_base
class ConvolutionAlgorithm:
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    has_kernels: Any
    name: Any
    family: Any
    windows: Any
    fits: Any
    cost: Any

@disjoint_base
class Packed:
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def refresh(self) -> Any: ...
    backward: Any
    filled: Any

@disjoint_base
class Convolution:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def pack(self, arena: Any, backward: Any = ...) -> Any: ...
    def forward(self, x: Any, w: Any, b: Any, y: Any, packed: Any = ..., lower: Any = ..., upper: Any = ...) -> Any: ...
    def backward_input(self, dy: Any, w: Any, dx: Any, b: Any = ..., packed: Any = ..., lower: Any = ..., upper: Any = ...) -> Any: ...
    def backward_by_taps(self, dy: Any, w: Any, dx: Any, b: Any, lower: Any, upper: Any) -> Any: ...
    def add_backward_input(self, dy: Any, w: Any, dx: Any) -> Any: ...
    def backward_weight(self, x: Any, dy: Any, dw: Any) -> Any: ...
    algorithm: Any

def fits_every_window(window: Any, groups: Any) -> Any: ...

def direct_cost(window: Any, images: Any, inputs: Any, outputs: Any, groups: Any) -> Any: ...

def fits_winograd(outputs: Any, window: Any, groups: Any) -> Any: ...

TRANSFORM_COST: Any

COST_LANES: Any

COST_TILES: Any

COST_OF_PARITIES: Any

def winograd_cost(outputs: Any, window: Any, images: Any, inputs: Any, channels: Any, groups: Any) -> Any: ...

def by_name(*rows: Any) -> Any: ...

ALGORITHMS: Any

def backward_bias(dy: Any, db: Any) -> Any: ...

def copy_layout(src: Any, dst: Any) -> Any: ...
