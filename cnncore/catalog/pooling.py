"""Rows of the pooling strategies."""

from ..families.pooling import WINDOW_SETTINGS, Pooling
from ..operator import Case, Op, Setting, flag
from ..ops import pool

__all__ = ["ROWS"]

RETURN_INDICES = Setting(
    "return_indices", False, "also return where each y came from, row-major within its plane", flag
)

POOLED = "(N, C, \\*spatial) → (N, C, \\*output), output = ⌊(H + lo + hi − d(k − 1) − 1) / s⌋ + 1 per axis"

ROWS = (
    Op(
        "max_pool",
        Pooling(pool.MAX),
        family="pooling",
        catalogue=("P01", "P02", "P04"),
        summary="The largest value of each window: the winner takes all.",
        formula="y = max xᵢ over the window's cells inside the image",
        gradient="∂y/∂xᵢ = 1 for the first i (row-major) with xᵢ = y, else 0",
        settings_list=(*WINDOW_SETTINGS, RETURN_INDICES),
        shape=POOLED,
        edges=(
            "padding: never wins (acts as −∞)",
            "ties: the first in row-major order takes the whole gradient",
            "NaN: wins; the first NaN of a window is its maximum and takes its gradient",
            "−∞ everywhere: y = −∞, taken from the first cell",
        ),
        accumulates="gradients of overlapping windows in dx's dtype, in the order of the windows",
        returns="array y; with return_indices=True the pair (y, indices), indices int64 of y's shape",
        smooth=False,
        paper="Zhou & Chellappa 1988; Ranzato, Huang, Boureau & LeCun 2007, CVPR, doi:10.1109/CVPR.2007.383157",
        cases=(
            Case(kernel_size=2),
            Case(kernel_size=3, stride=2, padding=1),
            Case(kernel_size=3, stride=2, ceil_mode=True),
            Case(kernel_size=2, stride=1, dilation=2),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> x = np.array([[[[1., 5., 2., 0.], [3., 4., 8., 7.]]]])
            >>> cnncore.max_pool(x, kernel_size=2)
            array([[[[5., 8.]]]])
            >>> y, backward = cnncore.max_pool.with_backward(x, kernel_size=2)
            >>> backward(np.ones_like(y))
            array([[[[0., 1., 0., 0.],
                     [0., 0., 1., 0.]]]])
        """,
    ),
)
