# Written by tools/generate.py from the registry.

# mypy: disable-error-code="override"

from collections.abc import Callable, Sequence
from typing import Any, Literal

from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from ._version import __version__ as __version__
from .errors import ArrayChangedError as ArrayChangedError
from .errors import CnnError as CnnError
from .errors import CnnWarning as CnnWarning
from .errors import DataError as DataError
from .errors import DataWarning as DataWarning
from .errors import DtypeError as DtypeError
from .errors import EnvironmentWarning as EnvironmentWarning
from .errors import FileReadError as FileReadError
from .errors import FileWriteError as FileWriteError
from .errors import GradientError as GradientError
from .errors import GraphError as GraphError
from .errors import KinkError as KinkError
from .errors import KinkWarning as KinkWarning
from .errors import MissingFileError as MissingFileError
from .errors import ModelFileError as ModelFileError
from .errors import PrecisionWarning as PrecisionWarning
from .errors import SettingError as SettingError
from .errors import ShapeError as ShapeError
from .operators.registry import GRIDS as GRIDS
from .operators.registry import OPS as OPS
from .operators.registry import find as find
from .runtime.threads import get_num_threads as get_num_threads
from .runtime.threads import set_num_threads as set_num_threads
from .runtime.threads import threads as threads
from . import classify as classify
from . import explain as explain
from . import images as images
from . import preprocessing as preprocessing
from . import cpu as cpu
from . import distributed as distributed
from . import explorers as explorers
from . import io as io
from . import models as models
from . import sklearn as sklearn
from . import testing as testing
from . import train as train
from .nets.build import Graph as Graph
from .testing.nets import check_net as check_net
from .train.comparison import compare as compare
from .nets.conversion import conv_to_linear as conv_to_linear
from .nets.conversion import linear_to_conv as linear_to_conv
from .nets.build import load as load
from .python_operators import operator as operator
from .python_operators import pooling_strategy as pooling_strategy
from .runtime.versions import show_versions as show_versions
from .operators.operator import Op

from .operators.pooling.implementation import Grid

pool: Grid

__all__ = [
    "OPS",
    "ArrayChangedError",
    "CnnError",
    "CnnWarning",
    "DataError",
    "DataWarning",
    "EnvironmentWarning",
    "FileReadError",
    "MissingFileError",
    "FileWriteError",
    "DtypeError",
    "GradientError",
    "Graph",
    "GraphError",
    "KinkError",
    "KinkWarning",
    "ModelFileError",
    "PrecisionWarning",
    "SettingError",
    "ShapeError",
    "__version__",
    "check_net",
    "compare",
    "conv_to_linear",
    "cpu",
    "distributed",
    "explain",
    "explorers",
    "get_num_threads",
    "io",
    "linear_to_conv",
    "load",
    "models",
    "operator",
    "pooling_strategy",
    "set_num_threads",
    "show_versions",
    "testing",
    "threads",
    "train",
    "conv",
    "conv_transpose",
    "depthwise_conv",
    "causal_conv",
    "flipped_conv",
    "linear_as_conv",
    "linear",
    "unfold",
    "fold",
    "locally_connected_conv",
    "deformable_conv",
    "partial_conv",
    "separable_conv",
    "mlpconv",
    "inception",
    "max_pool",
    "avg_pool",
    "sum_pool",
    "lp_pool",
    "stochastic_pool",
    "global_avg_pool",
    "global_max_pool",
    "global_lp_pool",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "min_pool",
    "median_pool",
    "learned_lp_pool",
    "mixed_pool",
    "random_mixed_pool",
    "gated_pool",
    "tree_pool",
    "soft_pool",
    "auto_pool",
    "log_sum_exp_pool",
    "gem_pool",
    "alpha_pool",
    "ordinal_pool",
    "rank_avg_pool",
    "rank_weighted_pool",
    "rank_stochastic_pool",
    "max_pool_dropout",
    "dilation_pool",
    "erosion_pool",
    "fractional_max_pool",
    "fractional_avg_pool",
    "s3_pool",
    "spatial_pyramid_pool",
    "roi_max_pool",
    "global_gem_pool",
    "global_log_sum_exp_pool",
    "k_max_pool",
    "max_unpool",
    "roi_align",
    "position_sensitive_roi_pool",
    "polyphase_pool",
    "attention_pool",
    "strip_pool",
    "covariance_pool",
    "bilinear_pool",
    "net_vlad",
    "blur_pool",
    "max_blur_pool",
    "wavelet_pool",
    "spectral_pool",
    "hartley_pool",
    "local_importance_pool",
    "detail_preserving_pool",
    "identity",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "celu",
    "selu",
    "sigmoid",
    "log_sigmoid",
    "tanh",
    "hard_sigmoid",
    "hard_tanh",
    "clipped_relu",
    "relu6",
    "softplus",
    "softsign",
    "silu",
    "swish",
    "dsilu",
    "hard_swish",
    "mish",
    "gelu",
    "exp",
    "abs",
    "sign",
    "heaviside",
    "sign_straight_through",
    "scaled_tanh",
    "quick_gelu",
    "tanhshrink",
    "softshrink",
    "hardshrink",
    "threshold",
    "thresholded_relu",
    "squareplus",
    "sparse_plus",
    "sparse_sigmoid",
    "dish",
    "rrelu",
    "crelu",
    "glu",
    "maxout",
    "softmax",
    "log_softmax",
    "softmin",
    "sparsemax",
    "hardmax",
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "scale",
    "local_response_norm",
    "response_norm_within_channel",
    "dropout",
    "spatial_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "concat",
    "add",
    "split",
    "slice",
    "channel_shuffle",
    "pixel_shuffle",
    "pixel_unshuffle",
    "flatten",
    "pad",
    "softmax_cross_entropy",
    "nll_loss",
    "binary_cross_entropy",
    "mean_squared_error",
    "nearest_upsample",
    "linear_upsample",
    "resize",
    "subtract",
    "multiply",
    "divide",
    "maximum",
    "minimum",
    "remainder",
    "fmod",
    "power",
    "negative",
    "reciprocal",
    "sqrt",
    "log",
    "erf",
    "floor",
    "ceil",
    "round",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "reduce_sum",
    "reduce_mean",
    "reduce_max",
    "reduce_min",
    "reduce_prod",
    "reduce_l1",
    "reduce_l2",
    "reduce_sum_square",
    "reduce_log_sum",
    "reduce_log_sum_exp",
    "matmul",
    "einsum",
    "reshape",
    "transpose",
    "squeeze",
    "unsqueeze",
    "expand",
    "tile",
    "gather",
    "arange_like",
    "constant",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "is_nan",
    "is_inf",
    "logical_and",
    "logical_or",
    "logical_xor",
    "logical_not",
    "where",
    "as_real",
    "as_index",
    "as_mask",
    "arg_max",
    "arg_min",
    "top_k",
    "cumulative_sum",
    "cumulative_product",
    "triangle",
    "one_hot",
    "gather_elements",
    "scatter_elements",
    "gather_nd",
    "scatter_nd",
    "non_max_suppression",
    "quantized_conv",
    "quantized_linear",
    "quantize",
    "fake_quantize",
    "grid_sample",
    "pool",
]

class _Conv(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', padding_mode: Literal['zeros', 'reflect', 'replicate', 'circular'] = 'zeros', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', padding_mode: Literal['zeros', 'reflect', 'replicate', 'circular'] = 'zeros', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

conv: _Conv

class _ConvTranspose(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

conv_transpose: _ConvTranspose

class _DepthwiseConv(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', padding_mode: Literal['zeros', 'reflect', 'replicate', 'circular'] = 'zeros', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', padding_mode: Literal['zeros', 'reflect', 'replicate', 'circular'] = 'zeros', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

depthwise_conv: _DepthwiseConv

class _CausalConv(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, dilation: Any = 1, groups: int = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, dilation: Any = 1, groups: int = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

causal_conv: _CausalConv

class _FlippedConv(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', padding_mode: Literal['zeros', 'reflect', 'replicate', 'circular'] = 'zeros', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', padding_mode: Literal['zeros', 'reflect', 'replicate', 'circular'] = 'zeros', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

flipped_conv: _FlippedConv

class _LinearAsConv(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, image_size: Any, stride: Any = 1, order: Literal['channels_first', 'channels_last'] = 'channels_first', algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, image_size: Any, stride: Any = 1, order: Literal['channels_first', 'channels_last'] = 'channels_first', algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

linear_as_conv: _LinearAsConv

class _Linear(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

linear: _Linear

class _Unfold(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

unfold: _Unfold

class _Fold(Op):
    def __call__(self, x: ArrayLike, output_size: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, output_size: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

fold: _Fold

class _LocallyConnectedConv(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

locally_connected_conv: _LocallyConnectedConv

class _DeformableConv(Op):
    def __call__(self, x: ArrayLike, offset: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, mask: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, offset_groups: int = 1, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, offset: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, mask: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, offset_groups: int = 1, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

deformable_conv: _DeformableConv

class _PartialConv(Op):
    def __call__(self, x: ArrayLike, mask: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', return_mask: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, mask: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', return_mask: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

partial_conv: _PartialConv

class _SeparableConv(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, pointwise: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', padding_mode: Literal['zeros', 'reflect', 'replicate', 'circular'] = 'zeros', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, pointwise: ArrayLike, b: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', padding_mode: Literal['zeros', 'reflect', 'replicate', 'circular'] = 'zeros', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

separable_conv: _SeparableConv

class _Mlpconv(Op):
    def __call__(self, x: ArrayLike, w1: ArrayLike, b1: ArrayLike | None = None, *, w2: ArrayLike, b2: ArrayLike | None = None, w3: ArrayLike, b3: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, nonlinearity: Literal['relu', 'sigmoid', 'tanh', 'softplus', 'silu', 'mish', 'gelu', 'identity'] = 'relu', algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w1: ArrayLike, b1: ArrayLike | None = None, *, w2: ArrayLike, b2: ArrayLike | None = None, w3: ArrayLike, b3: ArrayLike | None = None, stride: Any = 1, padding: Any = 0, nonlinearity: Literal['relu', 'sigmoid', 'tanh', 'softplus', 'silu', 'mish', 'gelu', 'identity'] = 'relu', algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

mlpconv: _Mlpconv

class _Inception(Op):
    def __call__(self, x: ArrayLike, w1: ArrayLike, b1: ArrayLike | None = None, *, w3: ArrayLike, b3: ArrayLike | None = None, w5: ArrayLike, b5: ArrayLike | None = None, wr3: ArrayLike | None = None, br3: ArrayLike | None = None, wr5: ArrayLike | None = None, br5: ArrayLike | None = None, wp: ArrayLike | None = None, bp: ArrayLike | None = None, reduction: bool = True, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w1: ArrayLike, b1: ArrayLike | None = None, *, w3: ArrayLike, b3: ArrayLike | None = None, w5: ArrayLike, b5: ArrayLike | None = None, wr3: ArrayLike | None = None, br3: ArrayLike | None = None, wr5: ArrayLike | None = None, br5: ArrayLike | None = None, wp: ArrayLike | None = None, bp: ArrayLike | None = None, reduction: bool = True, algorithm: Literal['direct', 'auto', 'winograd', 'winograd_2x2', 'winograd_4x2', 'winograd_4x4', 'reference'] = 'direct', out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

inception: _Inception

class _MaxPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

max_pool: _MaxPool

class _AvgPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: Any = None, dilation: Any = 1, compat: Literal[None, 'onnx'] | None = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: Any = None, dilation: Any = 1, compat: Literal[None, 'onnx'] | None = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

avg_pool: _AvgPool

class _SumPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

sum_pool: _SumPool

class _LpPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, p: Any = 2.0, mean: bool = False, *, norm_type: Any = ..., out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, p: Any = 2.0, mean: bool = False, *, norm_type: Any = ..., out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

lp_pool: _LpPool

class _StochasticPool(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, training: bool = False, seed: int | Generator = 0, return_state: bool = False, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, training: bool = False, seed: int | Generator = 0, return_state: bool = False, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

stochastic_pool: _StochasticPool

class _GlobalAvgPool(Op):
    def __call__(self, x: ArrayLike, keepdims: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, keepdims: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

global_avg_pool: _GlobalAvgPool

class _GlobalMaxPool(Op):
    def __call__(self, x: ArrayLike, keepdims: bool = False, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, keepdims: bool = False, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

global_max_pool: _GlobalMaxPool

class _GlobalLpPool(Op):
    def __call__(self, x: ArrayLike, p: Any = 2.0, mean: bool = False, keepdims: bool = False, *, norm_type: Any = ..., out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, p: Any = 2.0, mean: bool = False, keepdims: bool = False, *, norm_type: Any = ..., out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

global_lp_pool: _GlobalLpPool

class _AdaptiveAvgPool(Op):
    def __call__(self, x: ArrayLike, output_size: Any, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, output_size: Any, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

adaptive_avg_pool: _AdaptiveAvgPool

class _AdaptiveMaxPool(Op):
    def __call__(self, x: ArrayLike, output_size: Any, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, output_size: Any, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

adaptive_max_pool: _AdaptiveMaxPool

class _MinPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

min_pool: _MinPool

class _MedianPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, even: Literal['lower', 'mean'] = 'lower', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, even: Literal['lower', 'mean'] = 'lower', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

median_pool: _MedianPool

class _LearnedLpPool(Op):
    def __call__(self, x: ArrayLike, rho: ArrayLike, c: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, rho: ArrayLike, c: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

learned_lp_pool: _LearnedLpPool

class _MixedPool(Op):
    def __call__(self, x: ArrayLike, a: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, a: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

mixed_pool: _MixedPool

class _RandomMixedPool(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, frequency: float = 0.5, training: bool = False, seed: int | Generator = 0, return_state: bool = False, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, frequency: float = 0.5, training: bool = False, seed: int | Generator = 0, return_state: bool = False, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

random_mixed_pool: _RandomMixedPool

class _GatedPool(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

gated_pool: _GatedPool

class _TreePool(Op):
    def __call__(self, x: ArrayLike, v: ArrayLike, w: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, levels: int = 2, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, v: ArrayLike, w: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, levels: int = 2, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

tree_pool: _TreePool

class _SoftPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

soft_pool: _SoftPool

class _AutoPool(Op):
    def __call__(self, x: ArrayLike, alphas: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, alpha: float = 1.0, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, alphas: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, alpha: float = 1.0, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

auto_pool: _AutoPool

class _LogSumExpPool(Op):
    def __call__(self, x: ArrayLike, rs: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, r: float = 1.0, mean: bool = False, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, rs: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, r: float = 1.0, mean: bool = False, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

log_sum_exp_pool: _LogSumExpPool

class _GemPool(Op):
    def __call__(self, x: ArrayLike, ps: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, p: float = 3.0, eps: float = 1e-06, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, ps: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, p: float = 3.0, eps: float = 1e-06, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

gem_pool: _GemPool

class _AlphaPool(Op):
    def __call__(self, x: ArrayLike, alphas: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, alpha: float = -1.0, eps: float = 0.0, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, alphas: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, alpha: float = -1.0, eps: float = 0.0, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

alpha_pool: _AlphaPool

class _OrdinalPool(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, softmax: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, softmax: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

ordinal_pool: _OrdinalPool

class _RankAvgPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, t: Any = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, t: Any = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

rank_avg_pool: _RankAvgPool

class _RankWeightedPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, a: float = 0.5, normalized: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, a: float = 0.5, normalized: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

rank_weighted_pool: _RankWeightedPool

class _RankStochasticPool(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, a: float = 0.5, training: bool = False, seed: int | Generator = 0, return_state: bool = False, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, a: float = 0.5, training: bool = False, seed: int | Generator = 0, return_state: bool = False, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

rank_stochastic_pool: _RankStochasticPool

class _MaxPoolDropout(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, q: float = 0.5, training: bool = False, seed: int | Generator = 0, return_state: bool = False, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, q: float = 0.5, training: bool = False, seed: int | Generator = 0, return_state: bool = False, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

max_pool_dropout: _MaxPoolDropout

class _DilationPool(Op):
    def __call__(self, x: ArrayLike, f: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, f: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

dilation_pool: _DilationPool

class _ErosionPool(Op):
    def __call__(self, x: ArrayLike, f: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, f: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

erosion_pool: _ErosionPool

class _FractionalMaxPool(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, kernel_size: Any = None, output_size: Any = None, output_ratio: Any = None, mode: Literal['pseudorandom', 'random'] = 'pseudorandom', overlapping: bool = True, seed: int | Generator = 0, return_state: bool = False, compat: Literal[None, 'torch'] | None = None, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, kernel_size: Any = None, output_size: Any = None, output_ratio: Any = None, mode: Literal['pseudorandom', 'random'] = 'pseudorandom', overlapping: bool = True, seed: int | Generator = 0, return_state: bool = False, compat: Literal[None, 'torch'] | None = None, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

fractional_max_pool: _FractionalMaxPool

class _FractionalAvgPool(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, kernel_size: Any = None, output_size: Any = None, output_ratio: Any = None, mode: Literal['pseudorandom', 'random'] = 'pseudorandom', overlapping: bool = True, seed: int | Generator = 0, return_state: bool = False, compat: Literal[None, 'torch'] | None = None, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, kernel_size: Any = None, output_size: Any = None, output_ratio: Any = None, mode: Literal['pseudorandom', 'random'] = 'pseudorandom', overlapping: bool = True, seed: int | Generator = 0, return_state: bool = False, compat: Literal[None, 'torch'] | None = None, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

fractional_avg_pool: _FractionalAvgPool

class _S3Pool(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, *, kernel_size: Any, stride: Any = 2, grid_size: Any = None, training: bool = False, seed: int | Generator = 0, return_state: bool = False, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, *, kernel_size: Any, stride: Any = 2, grid_size: Any = None, training: bool = False, seed: int | Generator = 0, return_state: bool = False, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

s3_pool: _S3Pool

class _SpatialPyramidPool(Op):
    def __call__(self, x: ArrayLike, levels: Any = ..., strategy: Literal['max', 'avg'] = 'max', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, levels: Any = ..., strategy: Literal['max', 'avg'] = 'max', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

spatial_pyramid_pool: _SpatialPyramidPool

class _RoiMaxPool(Op):
    def __call__(self, x: ArrayLike, rois: ArrayLike, output_size: Any, spatial_scale: float = 1.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, rois: ArrayLike, output_size: Any, spatial_scale: float = 1.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

roi_max_pool: _RoiMaxPool

class _GlobalGemPool(Op):
    def __call__(self, x: ArrayLike, ps: ArrayLike | None = None, keepdims: bool = False, p: float = 3.0, eps: float = 1e-06, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, ps: ArrayLike | None = None, keepdims: bool = False, p: float = 3.0, eps: float = 1e-06, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

global_gem_pool: _GlobalGemPool

class _GlobalLogSumExpPool(Op):
    def __call__(self, x: ArrayLike, rs: ArrayLike | None = None, keepdims: bool = False, r: float = 1.0, mean: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, rs: ArrayLike | None = None, keepdims: bool = False, r: float = 1.0, mean: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

global_log_sum_exp_pool: _GlobalLogSumExpPool

class _KMaxPool(Op):
    def __call__(self, x: ArrayLike, k: int = 2, layer: Any = None, layers: Any = None, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, k: int = 2, layer: Any = None, layers: Any = None, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

k_max_pool: _KMaxPool

class _MaxUnpool(Op):
    def __call__(self, x: ArrayLike, indices: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None, duplicates: Literal['last', 'add'] = 'last', compat: Literal[None, 'onnx'] | None = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, indices: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None, duplicates: Literal['last', 'add'] = 'last', compat: Literal[None, 'onnx'] | None = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

max_unpool: _MaxUnpool

class _RoiAlign(Op):
    def __call__(self, x: ArrayLike, rois: ArrayLike, batch_indices: ArrayLike, output_size: Any, spatial_scale: float = 1.0, sampling_ratio: int = 0, aligned: bool = False, mode: Literal['avg', 'max'] = 'avg', compat: Literal[None, 'onnx'] | None = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, rois: ArrayLike, batch_indices: ArrayLike, output_size: Any, spatial_scale: float = 1.0, sampling_ratio: int = 0, aligned: bool = False, mode: Literal['avg', 'max'] = 'avg', compat: Literal[None, 'onnx'] | None = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

roi_align: _RoiAlign

class _PositionSensitiveRoiPool(Op):
    def __call__(self, x: ArrayLike, rois: ArrayLike, batch_indices: ArrayLike, output_size: Any, spatial_scale: float = 1.0, compat: Literal[None, 'caffe'] | None = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, rois: ArrayLike, batch_indices: ArrayLike, output_size: Any, spatial_scale: float = 1.0, compat: Literal[None, 'caffe'] | None = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

position_sensitive_roi_pool: _PositionSensitiveRoiPool

class _PolyphasePool(Op):
    def __call__(self, x: ArrayLike, stride: Any = 2, p: Any = 2.0, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, stride: Any = 2, p: Any = 2.0, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

polyphase_pool: _PolyphasePool

class _AttentionPool(Op):
    def __call__(self, x: ArrayLike, v: ArrayLike, w: ArrayLike, u: ArrayLike | None = None, mask: ArrayLike | None = None, return_weights: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, v: ArrayLike, w: ArrayLike, u: ArrayLike | None = None, mask: ArrayLike | None = None, return_weights: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

attention_pool: _AttentionPool

class _StripPool(Op):
    def __call__(self, x: ArrayLike, w_rows: ArrayLike | None = None, w_columns: ArrayLike | None = None, gate: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w_rows: ArrayLike | None = None, w_columns: ArrayLike | None = None, gate: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

strip_pool: _StripPool

class _CovariancePool(Op):
    def __call__(self, x: ArrayLike, iterations: int = 5, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, iterations: int = 5, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

covariance_pool: _CovariancePool

class _BilinearPool(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike | None = None, signed_sqrt: bool = True, normalize: bool = True, eps: float = 1e-10, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike | None = None, signed_sqrt: bool = True, normalize: bool = True, eps: float = 1e-10, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

bilinear_pool: _BilinearPool

class _NetVlad(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, c: ArrayLike, b: ArrayLike | None = None, normalize: bool = True, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, c: ArrayLike, b: ArrayLike | None = None, normalize: bool = True, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

net_vlad: _NetVlad

class _BlurPool(Op):
    def __call__(self, x: ArrayLike, stride: Any = 2, filter_size: int = 4, padding_mode: Literal['reflect', 'replicate', 'zeros'] = 'reflect', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, stride: Any = 2, filter_size: int = 4, padding_mode: Literal['reflect', 'replicate', 'zeros'] = 'reflect', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

blur_pool: _BlurPool

class _MaxBlurPool(Op):
    def __call__(self, x: ArrayLike, kernel_size: Any = 2, stride: Any = 2, padding: Any = 0, filter_size: int = 4, padding_mode: Literal['reflect', 'replicate', 'zeros'] = 'reflect', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, kernel_size: Any = 2, stride: Any = 2, padding: Any = 0, filter_size: int = 4, padding_mode: Literal['reflect', 'replicate', 'zeros'] = 'reflect', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

max_blur_pool: _MaxBlurPool

class _WaveletPool(Op):
    def __call__(self, x: ArrayLike, levels: int = 1, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, levels: int = 1, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

wavelet_pool: _WaveletPool

class _SpectralPool(Op):
    def __call__(self, x: ArrayLike, output_size: Any, norm: Literal['ortho', 'forward'] = 'ortho', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, output_size: Any, norm: Literal['ortho', 'forward'] = 'ortho', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

spectral_pool: _SpectralPool

class _HartleyPool(Op):
    def __call__(self, x: ArrayLike, output_size: Any, nyquist: Literal['average', 'crop'] = 'average', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, output_size: Any, nyquist: Literal['average', 'crop'] = 'average', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

hartley_pool: _HartleyPool

class _LocalImportancePool(Op):
    def __call__(self, x: ArrayLike, logit: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, logit: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

local_importance_pool: _LocalImportancePool

class _DetailPreservingPool(Op):
    def __call__(self, x: ArrayLike, alpha: ArrayLike, lam: ArrayLike, w: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, symmetric: bool = True, eps: float = 0.001, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, alpha: ArrayLike, lam: ArrayLike, w: ArrayLike | None = None, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, symmetric: bool = True, eps: float = 0.001, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

detail_preserving_pool: _DetailPreservingPool

class _Identity(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

identity: _Identity

class _Relu(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

relu: _Relu

class _LeakyRelu(Op):
    def __call__(self, x: ArrayLike, negative_slope: float = 0.01, compat: Literal[None, 'tf', 'caffe'] | None = None, *, alpha: float = ..., out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, negative_slope: float = 0.01, compat: Literal[None, 'tf', 'caffe'] | None = None, *, alpha: float = ..., out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

leaky_relu: _LeakyRelu

class _Prelu(Op):
    def __call__(self, x: ArrayLike, a: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, a: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

prelu: _Prelu

class _Elu(Op):
    def __call__(self, x: ArrayLike, alpha: float = 1.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, alpha: float = 1.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

elu: _Elu

class _Celu(Op):
    def __call__(self, x: ArrayLike, alpha: float = 1.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, alpha: float = 1.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

celu: _Celu

class _Selu(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

selu: _Selu

class _Sigmoid(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

sigmoid: _Sigmoid

class _LogSigmoid(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

log_sigmoid: _LogSigmoid

class _Tanh(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

tanh: _Tanh

class _HardSigmoid(Op):
    def __call__(self, x: ArrayLike, alpha: float = 0.16666666666666666, beta: float = 0.5, compat: Literal[None, 'onnx'] | None = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, alpha: float = 0.16666666666666666, beta: float = 0.5, compat: Literal[None, 'onnx'] | None = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

hard_sigmoid: _HardSigmoid

class _HardTanh(Op):
    def __call__(self, x: ArrayLike, min_val: float = -1.0, max_val: float = 1.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, min_val: float = -1.0, max_val: float = 1.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

hard_tanh: _HardTanh

class _ClippedRelu(Op):
    def __call__(self, x: ArrayLike, max_value: float = 6.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, max_value: float = 6.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

clipped_relu: _ClippedRelu

class _Relu6(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

relu6: _Relu6

class _Softplus(Op):
    def __call__(self, x: ArrayLike, beta: float = 1.0, compat: Literal[None, 'torch'] | None = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, beta: float = 1.0, compat: Literal[None, 'torch'] | None = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

softplus: _Softplus

class _Softsign(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

softsign: _Softsign

class _Silu(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

silu: _Silu

class _Swish(Op):
    def __call__(self, x: ArrayLike, betas: ArrayLike | None = None, beta: float = 1.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, betas: ArrayLike | None = None, beta: float = 1.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

swish: _Swish

class _Dsilu(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

dsilu: _Dsilu

class _HardSwish(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

hard_swish: _HardSwish

class _Mish(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

mish: _Mish

class _Gelu(Op):
    def __call__(self, x: ArrayLike, approximate: Literal['none', 'tanh'] = 'none', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, approximate: Literal['none', 'tanh'] = 'none', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

gelu: _Gelu

class _Exp(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

exp: _Exp

class _Abs(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

abs: _Abs

class _Sign(Op):
    def __call__(self, x: ArrayLike, at_zero: float = 0.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, at_zero: float = 0.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

sign: _Sign

class _Heaviside(Op):
    def __call__(self, x: ArrayLike, at_zero: float = 1.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, at_zero: float = 1.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

heaviside: _Heaviside

class _SignStraightThrough(Op):
    def __call__(self, x: ArrayLike, clip: Any = 1.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, clip: Any = 1.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

sign_straight_through: _SignStraightThrough

class _ScaledTanh(Op):
    def __call__(self, x: ArrayLike, amplitude: float = 1.7159, steepness: float = 0.6666666666666666, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, amplitude: float = 1.7159, steepness: float = 0.6666666666666666, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

scaled_tanh: _ScaledTanh

class _QuickGelu(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

quick_gelu: _QuickGelu

class _Tanhshrink(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

tanhshrink: _Tanhshrink

class _Softshrink(Op):
    def __call__(self, x: ArrayLike, lambd: float = 0.5, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, lambd: float = 0.5, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

softshrink: _Softshrink

class _Hardshrink(Op):
    def __call__(self, x: ArrayLike, lambd: float = 0.5, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, lambd: float = 0.5, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

hardshrink: _Hardshrink

class _Threshold(Op):
    def __call__(self, x: ArrayLike, threshold: float, value: float, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, threshold: float, value: float, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

threshold: _Threshold

class _ThresholdedRelu(Op):
    def __call__(self, x: ArrayLike, alpha: float = 1.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, alpha: float = 1.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

thresholded_relu: _ThresholdedRelu

class _Squareplus(Op):
    def __call__(self, x: ArrayLike, b: float = 4.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, b: float = 4.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

squareplus: _Squareplus

class _SparsePlus(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

sparse_plus: _SparsePlus

class _SparseSigmoid(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

sparse_sigmoid: _SparseSigmoid

class _Dish(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

dish: _Dish

class _Rrelu(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, lower: float = 0.125, upper: float = 0.3333333333333333, training: bool = False, seed: int | Generator = 0, return_state: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, lower: float = 0.125, upper: float = 0.3333333333333333, training: bool = False, seed: int | Generator = 0, return_state: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

rrelu: _Rrelu

class _Crelu(Op):
    def __call__(self, x: ArrayLike, axis: Any = 1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axis: Any = 1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

crelu: _Crelu

class _Glu(Op):
    def __call__(self, x: ArrayLike, axis: Any = -1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axis: Any = -1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

glu: _Glu

class _Maxout(Op):
    def __call__(self, x: ArrayLike, pieces: int = 2, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, pieces: int = 2, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

maxout: _Maxout

class _Softmax(Op):
    def __call__(self, x: ArrayLike, axis: Any = 1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axis: Any = 1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

softmax: _Softmax

class _LogSoftmax(Op):
    def __call__(self, x: ArrayLike, axis: Any = 1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axis: Any = 1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

log_softmax: _LogSoftmax

class _Softmin(Op):
    def __call__(self, x: ArrayLike, axis: Any = 1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axis: Any = 1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

softmin: _Softmin

class _Sparsemax(Op):
    def __call__(self, x: ArrayLike, axis: Any = 1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axis: Any = 1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

sparsemax: _Sparsemax

class _Hardmax(Op):
    def __call__(self, x: ArrayLike, axis: Any = 1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axis: Any = 1, *, dim: Any = ..., out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

hardmax: _Hardmax

class _BatchNorm(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike | None = None, b: ArrayLike | None = None, running_mean: ArrayLike | None = None, running_var: ArrayLike | None = None, training: bool = True, momentum: float = 0.1, eps: float = 1e-05, return_statistics: bool = False, compat: Literal[None, 'tf', 'onnx'] | None = None, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike | None = None, b: ArrayLike | None = None, running_mean: ArrayLike | None = None, running_var: ArrayLike | None = None, training: bool = True, momentum: float = 0.1, eps: float = 1e-05, return_statistics: bool = False, compat: Literal[None, 'tf', 'onnx'] | None = None, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

batch_norm: _BatchNorm

class _GroupNorm(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike | None = None, b: ArrayLike | None = None, *, groups: int, eps: float = 1e-05, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike | None = None, b: ArrayLike | None = None, *, groups: int, eps: float = 1e-05, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

group_norm: _GroupNorm

class _InstanceNorm(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike | None = None, b: ArrayLike | None = None, eps: float = 1e-05, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike | None = None, b: ArrayLike | None = None, eps: float = 1e-05, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

instance_norm: _InstanceNorm

class _LayerNorm(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike | None = None, b: ArrayLike | None = None, eps: float = 1e-05, normalized_shape: Any = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike | None = None, b: ArrayLike | None = None, eps: float = 1e-05, normalized_shape: Any = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

layer_norm: _LayerNorm

class _Scale(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike | None = None, b: ArrayLike | None = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike | None = None, b: ArrayLike | None = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

scale: _Scale

class _LocalResponseNorm(Op):
    def __call__(self, x: ArrayLike, size: int = 5, alpha: float = 0.0001, beta: float = 0.75, k: float = 1.0, compat: Literal[None, 'tf', 'onnx', 'caffe'] | None = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, size: int = 5, alpha: float = 0.0001, beta: float = 0.75, k: float = 1.0, compat: Literal[None, 'tf', 'onnx', 'caffe'] | None = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

local_response_norm: _LocalResponseNorm

class _ResponseNormWithinChannel(Op):
    def __call__(self, x: ArrayLike, size: int = 5, alpha: float = 0.0001, beta: float = 0.75, k: float = 1.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, size: int = 5, alpha: float = 0.0001, beta: float = 0.75, k: float = 1.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

response_norm_within_channel: _ResponseNormWithinChannel

class _Dropout(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, p: float = 0.5, training: bool = True, seed: int | Generator = 0, return_state: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, p: float = 0.5, training: bool = True, seed: int | Generator = 0, return_state: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

dropout: _Dropout

class _SpatialDropout(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, p: float = 0.5, training: bool = True, seed: int | Generator = 0, return_state: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, p: float = 0.5, training: bool = True, seed: int | Generator = 0, return_state: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

spatial_dropout: _SpatialDropout

class _AlphaDropout(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, p: float = 0.5, training: bool = True, seed: int | Generator = 0, return_state: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, p: float = 0.5, training: bool = True, seed: int | Generator = 0, return_state: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

alpha_dropout: _AlphaDropout

class _FeatureAlphaDropout(Op):
    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, p: float = 0.5, training: bool = True, seed: int | Generator = 0, return_state: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, state: ArrayLike | None = None, p: float = 0.5, training: bool = True, seed: int | Generator = 0, return_state: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

feature_alpha_dropout: _FeatureAlphaDropout

class _Concat(Op):
    def __call__(self, *x: ArrayLike | Sequence[ArrayLike], axis: Any = 1, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, *x: ArrayLike | Sequence[ArrayLike], axis: Any = 1, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

concat: _Concat

class _Add(Op):
    def __call__(self, *x: ArrayLike | Sequence[ArrayLike], coefficients: Any = None, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, *x: ArrayLike | Sequence[ArrayLike], coefficients: Any = None, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

add: _Add

class _Split(Op):
    def __call__(self, x: ArrayLike, parts: Any = 2, part: int = 0, axis: Any = 1, uneven: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, parts: Any = 2, part: int = 0, axis: Any = 1, uneven: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

split: _Split

class _Slice(Op):
    def __call__(self, x: ArrayLike, start: Any = None, stop: Any = None, stride: Any = 1, axis: Any = 1, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, start: Any = None, stop: Any = None, stride: Any = 1, axis: Any = 1, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

slice: _Slice

class _ChannelShuffle(Op):
    def __call__(self, x: ArrayLike, groups: int, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, groups: int, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

channel_shuffle: _ChannelShuffle

class _PixelShuffle(Op):
    def __call__(self, x: ArrayLike, factor: Any, mode: Literal['CRD', 'DCR'] = 'CRD', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, factor: Any, mode: Literal['CRD', 'DCR'] = 'CRD', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

pixel_shuffle: _PixelShuffle

class _PixelUnshuffle(Op):
    def __call__(self, x: ArrayLike, factor: Any, mode: Literal['CRD', 'DCR'] = 'CRD', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, factor: Any, mode: Literal['CRD', 'DCR'] = 'CRD', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

pixel_unshuffle: _PixelUnshuffle

class _Flatten(Op):
    def __call__(self, x: ArrayLike, start_dim: Any = 1, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, start_dim: Any = 1, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

flatten: _Flatten

class _Pad(Op):
    def __call__(self, x: ArrayLike, padding: Any, mode: Literal['constant', 'reflect', 'replicate', 'symmetric', 'circular'] = 'constant', value: float = 0.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, padding: Any, mode: Literal['constant', 'reflect', 'replicate', 'symmetric', 'circular'] = 'constant', value: float = 0.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

pad: _Pad

class _SoftmaxCrossEntropy(Op):
    def __call__(self, x: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, ignore_index: int = -100, label_smoothing: float = 0.0, reduction: Literal['mean', 'sum', 'none'] = 'mean', compat: Literal[None, 'tf'] | None = None, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, ignore_index: int = -100, label_smoothing: float = 0.0, reduction: Literal['mean', 'sum', 'none'] = 'mean', compat: Literal[None, 'tf'] | None = None, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

softmax_cross_entropy: _SoftmaxCrossEntropy

class _NllLoss(Op):
    def __call__(self, x: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, ignore_index: int = -100, reduction: Literal['mean', 'sum', 'none'] = 'mean', *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, ignore_index: int = -100, reduction: Literal['mean', 'sum', 'none'] = 'mean', *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

nll_loss: _NllLoss

class _BinaryCrossEntropy(Op):
    def __call__(self, x: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, pos_weight: ArrayLike | None = None, reduction: Literal['mean', 'sum', 'none'] = 'mean', *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, pos_weight: ArrayLike | None = None, reduction: Literal['mean', 'sum', 'none'] = 'mean', *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

binary_cross_entropy: _BinaryCrossEntropy

class _MeanSquaredError(Op):
    def __call__(self, x: ArrayLike, target: ArrayLike, reduction: Literal['mean', 'sum', 'none'] = 'mean', compat: Literal[None, 'caffe'] | None = None, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, target: ArrayLike, reduction: Literal['mean', 'sum', 'none'] = 'mean', compat: Literal[None, 'caffe'] | None = None, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

mean_squared_error: _MeanSquaredError

class _NearestUpsample(Op):
    def __call__(self, x: ArrayLike, size: Any = None, scale: Any = None, coordinates: Literal['asymmetric', 'half_pixel', 'align_corners'] = 'asymmetric', rounding: Literal['floor', 'ceil', 'round_prefer_floor', 'round_prefer_ceil'] = 'floor', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, size: Any = None, scale: Any = None, coordinates: Literal['asymmetric', 'half_pixel', 'align_corners'] = 'asymmetric', rounding: Literal['floor', 'ceil', 'round_prefer_floor', 'round_prefer_ceil'] = 'floor', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

nearest_upsample: _NearestUpsample

class _LinearUpsample(Op):
    def __call__(self, x: ArrayLike, size: Any = None, scale: Any = None, coordinates: Literal['half_pixel', 'align_corners', 'asymmetric'] = 'half_pixel', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, size: Any = None, scale: Any = None, coordinates: Literal['half_pixel', 'align_corners', 'asymmetric'] = 'half_pixel', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

linear_upsample: _LinearUpsample

class _Resize(Op):
    def __call__(self, x: ArrayLike, like: ArrayLike | None = None, size: Any = None, scale: Any = None, mode: Literal['nearest', 'linear', 'cubic'] = 'linear', coordinates: Literal['half_pixel', 'pytorch_half_pixel', 'half_pixel_symmetric', 'align_corners', 'asymmetric', 'tf_crop_and_resize'] = 'half_pixel', rounding: Literal['floor', 'ceil', 'round_prefer_floor', 'round_prefer_ceil'] = 'round_prefer_floor', cubic_coefficient: float = -0.75, exclude_outside: bool = False, antialias: bool = False, region: Any = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, like: ArrayLike | None = None, size: Any = None, scale: Any = None, mode: Literal['nearest', 'linear', 'cubic'] = 'linear', coordinates: Literal['half_pixel', 'pytorch_half_pixel', 'half_pixel_symmetric', 'align_corners', 'asymmetric', 'tf_crop_and_resize'] = 'half_pixel', rounding: Literal['floor', 'ceil', 'round_prefer_floor', 'round_prefer_ceil'] = 'round_prefer_floor', cubic_coefficient: float = -0.75, exclude_outside: bool = False, antialias: bool = False, region: Any = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

resize: _Resize

class _Subtract(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

subtract: _Subtract

class _Multiply(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

multiply: _Multiply

class _Divide(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

divide: _Divide

class _Maximum(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

maximum: _Maximum

class _Minimum(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

minimum: _Minimum

class _Remainder(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

remainder: _Remainder

class _Fmod(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

fmod: _Fmod

class _Power(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

power: _Power

class _Negative(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

negative: _Negative

class _Reciprocal(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

reciprocal: _Reciprocal

class _Sqrt(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

sqrt: _Sqrt

class _Log(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

log: _Log

class _Erf(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

erf: _Erf

class _Floor(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

floor: _Floor

class _Ceil(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

ceil: _Ceil

class _Round(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

round: _Round

class _Sin(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

sin: _Sin

class _Cos(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

cos: _Cos

class _Tan(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

tan: _Tan

class _Asin(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

asin: _Asin

class _Acos(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

acos: _Acos

class _Atan(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

atan: _Atan

class _Sinh(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

sinh: _Sinh

class _Cosh(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

cosh: _Cosh

class _Asinh(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

asinh: _Asinh

class _Acosh(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

acosh: _Acosh

class _Atanh(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

atanh: _Atanh

class _ReduceSum(Op):
    def __call__(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

reduce_sum: _ReduceSum

class _ReduceMean(Op):
    def __call__(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

reduce_mean: _ReduceMean

class _ReduceMax(Op):
    def __call__(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

reduce_max: _ReduceMax

class _ReduceMin(Op):
    def __call__(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

reduce_min: _ReduceMin

class _ReduceProd(Op):
    def __call__(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

reduce_prod: _ReduceProd

class _ReduceL1(Op):
    def __call__(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

reduce_l1: _ReduceL1

class _ReduceL2(Op):
    def __call__(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

reduce_l2: _ReduceL2

class _ReduceSumSquare(Op):
    def __call__(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

reduce_sum_square: _ReduceSumSquare

class _ReduceLogSum(Op):
    def __call__(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

reduce_log_sum: _ReduceLogSum

class _ReduceLogSumExp(Op):
    def __call__(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any = None, keepdims: bool = True, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

reduce_log_sum_exp: _ReduceLogSumExp

class _Matmul(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

matmul: _Matmul

class _Einsum(Op):
    def __call__(self, *x: ArrayLike | Sequence[ArrayLike], equation: Any, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, *x: ArrayLike | Sequence[ArrayLike], equation: Any, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

einsum: _Einsum

class _Reshape(Op):
    def __call__(self, x: ArrayLike, like: ArrayLike | None = None, shape: Any = None, allow_zero: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, like: ArrayLike | None = None, shape: Any = None, allow_zero: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

reshape: _Reshape

class _Transpose(Op):
    def __call__(self, x: ArrayLike, axes: Any = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

transpose: _Transpose

class _Squeeze(Op):
    def __call__(self, x: ArrayLike, axes: Any = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

squeeze: _Squeeze

class _Unsqueeze(Op):
    def __call__(self, x: ArrayLike, axes: Any, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axes: Any, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

unsqueeze: _Unsqueeze

class _Expand(Op):
    def __call__(self, x: ArrayLike, like: ArrayLike | None = None, shape: Any = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, like: ArrayLike | None = None, shape: Any = None, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

expand: _Expand

class _Tile(Op):
    def __call__(self, x: ArrayLike, repeats: Any, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, repeats: Any, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

tile: _Tile

class _Gather(Op):
    def __call__(self, x: ArrayLike, indices: Any, axis: int = 1, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, indices: Any, axis: int = 1, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

gather: _Gather

class _ArangeLike(Op):
    def __call__(self, x: ArrayLike, axis: int = -1, start: float = 0.0, step: float = 1.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axis: int = -1, start: float = 0.0, step: float = 1.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

arange_like: _ArangeLike

class _Constant(Op):
    def __call__(self, value: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, value: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

constant: _Constant

class _Equal(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

equal: _Equal

class _NotEqual(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

not_equal: _NotEqual

class _Less(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

less: _Less

class _LessEqual(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

less_equal: _LessEqual

class _Greater(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

greater: _Greater

class _GreaterEqual(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

greater_equal: _GreaterEqual

class _IsNan(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

is_nan: _IsNan

class _IsInf(Op):
    def __call__(self, x: ArrayLike, negative: bool = True, positive: bool = True, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, negative: bool = True, positive: bool = True, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

is_inf: _IsInf

class _LogicalAnd(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

logical_and: _LogicalAnd

class _LogicalOr(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

logical_or: _LogicalOr

class _LogicalXor(Op):
    def __call__(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

logical_xor: _LogicalXor

class _LogicalNot(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

logical_not: _LogicalNot

class _Where(Op):
    def __call__(self, condition: ArrayLike, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, condition: ArrayLike, x: ArrayLike, z: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

where: _Where

class _AsReal(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

as_real: _AsReal

class _AsIndex(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

as_index: _AsIndex

class _AsMask(Op):
    def __call__(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

as_mask: _AsMask

class _ArgMax(Op):
    def __call__(self, x: ArrayLike, axis: int = 1, keepdims: bool = True, last: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, axis: int = 1, keepdims: bool = True, last: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

arg_max: _ArgMax

class _ArgMin(Op):
    def __call__(self, x: ArrayLike, axis: int = 1, keepdims: bool = True, last: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, axis: int = 1, keepdims: bool = True, last: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

arg_min: _ArgMin

class _TopK(Op):
    def __call__(self, x: ArrayLike, k: Any, axis: int = 1, largest: bool = True, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, x: ArrayLike, k: Any, axis: int = 1, largest: bool = True, return_indices: bool = False, *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

top_k: _TopK

class _CumulativeSum(Op):
    def __call__(self, x: ArrayLike, axis: int = 1, exclusive: bool = False, reverse: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axis: int = 1, exclusive: bool = False, reverse: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

cumulative_sum: _CumulativeSum

class _CumulativeProduct(Op):
    def __call__(self, x: ArrayLike, axis: int = 1, exclusive: bool = False, reverse: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, axis: int = 1, exclusive: bool = False, reverse: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

cumulative_product: _CumulativeProduct

class _Triangle(Op):
    def __call__(self, x: ArrayLike, diagonal: int = 0, upper: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, diagonal: int = 0, upper: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

triangle: _Triangle

class _OneHot(Op):
    def __call__(self, x: ArrayLike, depth: int, axis: int = 1, on: float = 1.0, off: float = 0.0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, depth: int, axis: int = 1, on: float = 1.0, off: float = 0.0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

one_hot: _OneHot

class _GatherElements(Op):
    def __call__(self, x: ArrayLike, indices: ArrayLike, axis: int = 1, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, indices: ArrayLike, axis: int = 1, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

gather_elements: _GatherElements

class _ScatterElements(Op):
    def __call__(self, x: ArrayLike, indices: ArrayLike, updates: ArrayLike, axis: int = 1, reduction: Literal['none', 'add', 'multiply', 'maximum', 'minimum'] = 'none', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, indices: ArrayLike, updates: ArrayLike, axis: int = 1, reduction: Literal['none', 'add', 'multiply', 'maximum', 'minimum'] = 'none', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

scatter_elements: _ScatterElements

class _GatherNd(Op):
    def __call__(self, x: ArrayLike, indices: ArrayLike, batch_dims: int = 0, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, indices: ArrayLike, batch_dims: int = 0, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

gather_nd: _GatherNd

class _ScatterNd(Op):
    def __call__(self, x: ArrayLike, indices: ArrayLike, updates: ArrayLike, reduction: Literal['none', 'add', 'multiply', 'maximum', 'minimum'] = 'none', *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, indices: ArrayLike, updates: ArrayLike, reduction: Literal['none', 'add', 'multiply', 'maximum', 'minimum'] = 'none', *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

scatter_nd: _ScatterNd

class _NonMaxSuppression(Op):
    def __call__(self, boxes: ArrayLike, scores: ArrayLike, max_output_boxes: int, iou_threshold: float = 0.5, score_threshold: Any = None, box_format: Literal['corners', 'center'] = 'corners', *, out: NDArray[Any] | None = None) -> Any: ...
    def with_backward(self, boxes: ArrayLike, scores: ArrayLike, max_output_boxes: int, iou_threshold: float = 0.5, score_threshold: Any = None, box_format: Literal['corners', 'center'] = 'corners', *, out: NDArray[Any] | None = None) -> tuple[Any, Callable[..., Any]]: ...

non_max_suppression: _NonMaxSuppression

class _QuantizedConv(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, w_scale: ArrayLike, b: ArrayLike | None = None, *, x_scale: float, x_zero_point: int = 0, y_scale: Any = None, y_zero_point: int = 0, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, w_scale: ArrayLike, b: ArrayLike | None = None, *, x_scale: float, x_zero_point: int = 0, y_scale: Any = None, y_zero_point: int = 0, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

quantized_conv: _QuantizedConv

class _QuantizedLinear(Op):
    def __call__(self, x: ArrayLike, w: ArrayLike, w_scale: ArrayLike, b: ArrayLike | None = None, *, x_scale: float, x_zero_point: int = 0, y_scale: Any = None, y_zero_point: int = 0, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, w: ArrayLike, w_scale: ArrayLike, b: ArrayLike | None = None, *, x_scale: float, x_zero_point: int = 0, y_scale: Any = None, y_zero_point: int = 0, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

quantized_linear: _QuantizedLinear

class _Quantize(Op):
    def __call__(self, x: ArrayLike, scale: ArrayLike, zero_point: ArrayLike | None = None, low: int = -128, high: int = 127, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, scale: ArrayLike, zero_point: ArrayLike | None = None, low: int = -128, high: int = 127, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

quantize: _Quantize

class _FakeQuantize(Op):
    def __call__(self, x: ArrayLike, scale: ArrayLike, zero_point: ArrayLike | None = None, low: int = -128, high: int = 127, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, scale: ArrayLike, zero_point: ArrayLike | None = None, low: int = -128, high: int = 127, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

fake_quantize: _FakeQuantize

class _GridSample(Op):
    def __call__(self, x: ArrayLike, grid: ArrayLike, mode: Literal['linear', 'nearest', 'cubic'] = 'linear', padding_mode: Literal['zeros', 'border', 'reflection'] = 'zeros', align_corners: bool = False, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def with_backward(self, x: ArrayLike, grid: ArrayLike, mode: Literal['linear', 'nearest', 'cubic'] = 'linear', padding_mode: Literal['zeros', 'border', 'reflection'] = 'zeros', align_corners: bool = False, *, out: NDArray[Any] | None = None) -> tuple[NDArray[Any], Callable[..., Any]]: ...

grid_sample: _GridSample
