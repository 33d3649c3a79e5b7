"""Pooling: a strategy (what happens to the cells of a window) on a scheme of windows (where they lie)."""

from dataclasses import dataclass

import numpy as np

from .. import geometry
from ..operator import REQUIRED, Kind, Setting, flag
from ..ops import pool

__all__ = ["WINDOW_SETTINGS", "Pooling", "kernel_windows"]

WINDOW_SETTINGS = (
    Setting("kernel_size", REQUIRED, "extent of the window: an integer, or one per axis"),
    Setting("stride", None, "step from window to window; None: kernel_size"),
    Setting("padding", 0, "rows that do not count around the image: int, one per axis, (low, high) pairs, or a name"),
    Setting("dilation", 1, "step from cell to cell within a window"),
    Setting(
        "ceil_mode",
        False,
        "round the output size up instead of down; every window starts inside image or low padding",
        flag,
    ),
)


@dataclass(frozen=True)
class Scheme:
    """Windows of a call: ready for C, and what they make of the extents."""

    output: tuple
    windows: object


def kernel_windows(op, spatial, settings):
    """Windows of kernel_size, stride, padding, dilation and ceil_mode."""
    w = geometry.pooling_window(
        op.name,
        spatial,
        settings["kernel_size"],
        settings["stride"],
        settings["padding"],
        settings.get("dilation", 1),
        settings.get("ceil_mode", False),
    )
    if None in w.input:
        return Scheme(w.output_shape, None)
    return Scheme(w.output_shape, pool.Windows(geometry.axes(op.name, w), w.input, w.output, w.kernel, w.dilation))


@dataclass(frozen=True)
class Pooling(Kind):
    """``strategy`` on the windows that ``scheme`` makes of a call; ``numbers`` names the settings passed to the strategy."""

    strategy: object
    scheme: object = kernel_windows
    numbers: tuple = ()

    def describe(self, op, shapes, dtype, settings):
        (shape,) = shapes
        scheme = self.scheme(op, geometry.spatial(op.name, shape), settings)
        return (*shape[:2], *scheme.output), scheme

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        indices = np.empty(call.output, np.int64) if call.settings.get("return_indices") else None
        pool.forward(self.strategy, call.geometry.windows, self._numbers(call), x, y, indices)
        return y, () if indices is None else (indices,), (x, y)

    def backward(self, call, saved, dy, wanted, out=None):
        x, y = saved
        dx = call.gradient(0, out and out[0])
        pool.backward(self.strategy, call.geometry.windows, self._numbers(call), x, y, dy, dx)
        return (dx,)

    def _numbers(self, call):
        return tuple(float(call.settings[name]) for name in self.numbers)
