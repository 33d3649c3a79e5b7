# Written by tools/generate.py from the Cython source.
from typing import Any

TILES: Any

PLANES: Any

DEPTHWISE: Any

WINOGRAD: Any

WEIGHTS: Any

DEPTHWISE_WEIGHTS: Any

WINOGRAD_WEIGHTS: Any

class ConvolutionAlgorithm:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

def fits_every_window(window: Any, groups: Any) -> Any: ...

def direct_cost(window: Any, images: Any, inputs: Any, outputs: Any, groups: Any) -> Any: ...

def fits_winograd(outputs: Any, window: Any, groups: Any) -> Any: ...

TRANSFORM_COST: Any

COST_LANES: Any

COST_TILES: Any

COST_OF_PARITIES: Any

def winograd_cost(outputs: Any, window: Any, images: Any, inputs: Any, channels: Any, groups: Any) -> Any: ...

def by_name(*rows) -> Any: ...

ALGORITHMS: Any

class Packed:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

class Convolution:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

def backward_bias(dy: Any, db: Any) -> Any: ...

def copy_layout(src: Any, dst: Any) -> Any: ...
