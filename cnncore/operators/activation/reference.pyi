# Written by tools/generate.py from the compiled module.

from typing import Any, Self

from typing_extensions import disjoint_base

@disjoint_base
class Activation:
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    name: Any

IDENTITY: Any

ABS: Any

EXP: Any

RELU: Any

CLIP: Any

LEAKY_RELU: Any

ELU: Any

SIGMOID: Any

LOG_SIGMOID: Any

HARD_SIGMOID: Any

TANH: Any

SOFTPLUS: Any

SOFTSIGN: Any

SWISH: Any

SILU: Any

DSILU: Any

HARD_SWISH: Any

MISH: Any

GELU: Any

GELU_TANH: Any

STEP: Any

STRAIGHT_THROUGH: Any

THRESHOLD: Any

HARD_SHRINK: Any

SOFT_SHRINK: Any

SPARSE_PLUS: Any

SCALED_TANH: Any

TANH_SHRINK: Any

SQUAREPLUS: Any

DISH: Any

GATE: Any

OPENING: Any

NEGATIVE_PART: Any

def forward(a: Any, settings: Any, x: Any, y: Any, p: Any = ..., each: Any = ...) -> Any: ...

def backward(a: Any, settings: Any, x: Any, dy: Any, dx: Any, p: Any = ..., each: Any = ...) -> Any: ...

def backward_with_parameter(a: Any, settings: Any, x: Any, p: Any, dy: Any, dx: Any) -> Any: ...

def maxout_forward_pass(x: Any, y: Any) -> Any: ...

def maxout_backward_pass(x: Any, dy: Any, dx: Any) -> Any: ...

def both_parts_backward_pass(x: Any, dy_positive: Any, dy_negative: Any, dx: Any) -> Any: ...

def softmax_forward_pass(x: Any, y: Any, axis: Any, logarithm: Any, negative: Any = ...) -> Any: ...

def softmax_backward_pass(y: Any, dy: Any, dx: Any, axis: Any, logarithm: Any, negative: Any = ...) -> Any: ...

def sparsemax_forward_pass(x: Any, y: Any, axis: Any) -> Any: ...

def sparsemax_backward_pass(y: Any, dy: Any, dx: Any, axis: Any) -> Any: ...

def hardmax_forward_pass(x: Any, y: Any, axis: Any) -> Any: ...
