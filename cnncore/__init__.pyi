# Written by tools/generate.py from the catalogue.
from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike, NDArray

from . import cpu as cpu
from ._version import __version__ as __version__
from .catalog import OPS as OPS
from .errors import CnnError as CnnError
from .errors import DataError as DataError
from .errors import DtypeError as DtypeError
from .errors import GradientError as GradientError
from .errors import GraphError as GraphError
from .errors import ModelFileError as ModelFileError
from .errors import SettingError as SettingError
from .errors import ShapeError as ShapeError
from .threads import get_num_threads as get_num_threads
from .threads import set_num_threads as set_num_threads
from .threads import threads as threads
from .operator import Op

class _MaxPool(Op):
    def __call__(
        self,
        x: ArrayLike,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: Any = False,
        return_indices: Any = False,
        *,
        out: NDArray[Any] | None = ...,
    ) -> Any: ...
    def with_backward(
        self,
        x: ArrayLike,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: Any = False,
        return_indices: Any = False,
        *,
        out: NDArray[Any] | None = ...,
    ) -> tuple[Any, Callable[..., Any]]: ...

max_pool: _MaxPool

class _Relu(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = ...) -> Any: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = ...) -> tuple[Any, Callable[..., Any]]: ...

relu: _Relu
