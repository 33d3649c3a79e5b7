# Written by tools/generate.py from the catalogue.
from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike, NDArray

from . import testing as testing
from ._version import __version__ as __version__
from .catalog import OPS as OPS
from .errors import CnnError as CnnError
from .errors import DataError as DataError
from .errors import DtypeError as DtypeError
from .errors import GradientError as GradientError
from .errors import GraphError as GraphError
from .errors import KinkError as KinkError
from .errors import ModelFileError as ModelFileError
from .errors import SettingError as SettingError
from .errors import ShapeError as ShapeError
from .threads import get_num_threads as get_num_threads
from .threads import set_num_threads as set_num_threads
from .threads import threads as threads
from .operator import Op

class _Conv(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1, algorithm: Any = 'auto', *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1, algorithm: Any = 'auto', *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

conv: _Conv

class _ConvTranspose(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: Any = 1, dilation: Any = 1, algorithm: Any = 'auto', *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: Any = 1, dilation: Any = 1, algorithm: Any = 'auto', *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

conv_transpose: _ConvTranspose

class _Linear(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

linear: _Linear

class _MaxPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: Any = False, return_indices: Any = False, *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: Any = False, return_indices: Any = False, *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

max_pool: _MaxPool

class _AvgPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: Any = False, count_include_pad: Any = True, divisor_override: Any = None, dilation: Any = 1, *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: Any = False, count_include_pad: Any = True, divisor_override: Any = None, dilation: Any = 1, *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

avg_pool: _AvgPool

class _SumPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: Any = False, *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: Any = False, *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

sum_pool: _SumPool

class _LpPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: Any = False, p: Any = 2.0, mean: Any = False, *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: Any = False, p: Any = 2.0, mean: Any = False, *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

lp_pool: _LpPool

class _StochasticPool(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: Any = False, training: Any = False, seed: Any = 0, return_state: Any = False, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: Any = False, training: Any = False, seed: Any = 0, return_state: Any = False, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

stochastic_pool: _StochasticPool

class _GlobalAvgPool(Op):
    def __call__(self, x: ArrayLike, keepdims: Any = False, *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, keepdims: Any = False, *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

global_avg_pool: _GlobalAvgPool

class _GlobalMaxPool(Op):
    def __call__(self, x: ArrayLike, keepdims: Any = False, return_indices: Any = False, *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, keepdims: Any = False, return_indices: Any = False, *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

global_max_pool: _GlobalMaxPool

class _GlobalLpPool(Op):
    def __call__(self, x: ArrayLike, p: Any = 2.0, mean: Any = False, keepdims: Any = False, *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, p: Any = 2.0, mean: Any = False, keepdims: Any = False, *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

global_lp_pool: _GlobalLpPool

class _AdaptiveAvgPool(Op):
    def __call__(self, x: ArrayLike, output_size: Any, *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, output_size: Any, *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

adaptive_avg_pool: _AdaptiveAvgPool

class _AdaptiveMaxPool(Op):
    def __call__(self, x: ArrayLike, output_size: Any, return_indices: Any = False, *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, output_size: Any, return_indices: Any = False, *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

adaptive_max_pool: _AdaptiveMaxPool

class _Relu(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

relu: _Relu
