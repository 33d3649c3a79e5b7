"""Pooling: a strategy (what happens to the cells of a window) on a scheme of windows (where they lie).

The two are independent. A strategy is a pair of functions in ops/pool.pyx; a scheme is a function from a call's extents and
settings to the tables of its windows; ``Pooling(strategy, scheme, numbers)`` is an operator.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .. import geometry
from ..errors import DataError, SettingError, ShapeError
from ..operator import REQUIRED, Kind, Setting, flag
from ..ops import pool

__all__ = ["KERNEL", "WINDOW_SETTINGS", "Pooling", "Scheme", "adaptive_windows", "global_windows", "kernel_windows"]

KERNEL = Setting("kernel_size", REQUIRED, "extent of the window: an integer, or one per axis")
STRIDE = Setting("stride", None, "step from window to window; None: kernel_size")
PADDING = Setting(
    "padding", 0, "rows that do not count around the image: int, one per axis, (low, high) pairs, or a name"
)
DILATION = Setting("dilation", 1, "step from cell to cell within a window")
CEIL_MODE = Setting(
    "ceil_mode",
    False,
    "round the output size up instead of down; every window starts inside image or low padding",
    flag,
)
WINDOW_SETTINGS = (KERNEL, STRIDE, PADDING, DILATION, CEIL_MODE)
OUTPUT_SIZE = Setting("output_size", REQUIRED, "extents of y: an integer, or one per axis; None keeps that of x")
KEEPDIMS = Setting("keepdims", False, "y as (N, C, 1, …) instead of (N, C)", flag)


# ── Schemes: where windows lie ─────────────────────────────────────────────────────────────────────────────────────────


class Scheme(NamedTuple):
    """The windows of a call: what they make of the extents, their tables ready for C, and what one of them sees."""

    output: tuple
    windows: object  # None while extents are open
    receptive: tuple | None  # (reach, stride) per axis; None: windows depend on the extents


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
    reach = (d * (k - 1) + 1 for d, k in zip(w.dilation, w.kernel, strict=True))
    receptive = tuple(zip(reach, w.stride, strict=True))[-w.rank :]
    if None in w.input:
        return Scheme(w.output_shape, None, receptive)
    return Scheme(w.output_shape, pool.Windows(geometry.axes(op.name, w), w.input, w.kernel, w.dilation), receptive)


def adaptive_windows(op, spatial, settings):
    """Windows that share out the image into output_size parts, as equal as whole cells allow."""
    tables, output = geometry.adaptive_window(op.name, spatial, settings["output_size"])
    return Scheme(output, _whole(tables, spatial), None)


def global_windows(op, spatial, settings):
    """One window that is the whole image."""
    output = (1,) * len(spatial) if settings["keepdims"] else ()
    return Scheme(output, _whole(geometry.global_window(spatial), spatial), None)


def _whole(tables, spatial):
    """Windows that meet no padding: as many taps as the largest one has cells."""
    if tables is None:
        return None
    return pool.Windows(tables, geometry.canonical(spatial, 1), [int(t[1].max()) for t in tables], (1, 1, 1))


# ── Strategies on schemes ──────────────────────────────────────────────────────────────────────────────────────────────


class Described(NamedTuple):
    """What a call's settings come to, worked out once for all calls of these shapes and settings."""

    strategy: object
    windows: object
    receptive: tuple | None
    numbers: tuple
    seed: int
    draws: bool  # the strategy is random: backward needs the cells it drew
    returns_positions: bool


@dataclass(frozen=True)
class Pooling(Kind):
    """``strategy`` on the windows that ``scheme`` makes of a call.

    ``numbers`` names the settings passed to the strategy (None as 0). ``inference`` is the strategy of a random pooling
    outside training: it then has the settings training, seed and return_state, and the array argument ``state``.
    """

    strategy: object
    scheme: object = kernel_windows
    numbers: tuple = ()
    inference: object = None

    per_image = True

    @property
    def saves(self):
        return self.strategy.saves

    def describe(self, op, shapes, dtype, settings):
        scheme = self.scheme(op, geometry.spatial(op.name, shapes[0]), settings)
        output = (*shapes[0][:2], *scheme.output)
        random = self.inference is not None
        if random:
            self._check_state(op, shapes[1], output, settings)
        draws = random and settings["training"]
        return output, Described(
            strategy=self.inference if random and not draws else self.strategy,
            windows=scheme.windows,
            receptive=scheme.receptive,
            numbers=tuple(float(settings[name] or 0) for name in self.numbers),
            seed=settings["seed"] if random else 0,
            draws=draws,
            returns_positions=settings["return_state"] if random else settings.get("return_indices", False),
        )

    def forward(self, call, arrays, out=None):
        x = arrays[0]
        strategy, windows, _, numbers, seed, draws, returns_positions = call.geometry
        y = call.empty(out)
        positions = np.empty(call.output, np.int64) if draws or returns_positions else None
        refused = pool.forward(strategy, windows, numbers, x, y, positions, arrays[1] if draws else None, seed)
        if refused == "cells":
            raise DataError(f"{call.op.name}: x has values that it is not defined for; it needs {strategy.requires}")
        if refused:
            raise DataError(
                f"{call.op.name}: state holds positions outside their windows; pass what the same call returned with "
                f"return_state=True"
            )
        saves = strategy.saves
        saved = (x if "x" in saves else None, y if "y" in saves else None, positions if draws else None)
        return y, (positions,) if returns_positions else (), saved

    def backward(self, call, saved, dy, wanted, out=None):
        x, y, drawn = saved
        strategy, windows, _, numbers, _, _, _ = call.geometry
        dx = call.gradient(0, out and out[0])
        pool.backward(strategy, windows, numbers, x, y, dy, dx, drawn)
        return (dx,) + (None,) * (len(wanted) - 1)

    def receptive_window(self, call):
        return call.geometry.receptive

    def _check_state(self, op, shape, output, settings):
        if not settings["training"] and (shape is not None or settings["return_state"]):
            raise SettingError(f"{op.name}: a state is what training draws; use training=True, or leave state out")
        if shape is not None and None not in output and shape != output:
            hint = " Settings go by name: kernel_size=2." if len(shape) < 2 else ""
            raise ShapeError(f"{op.name}: state has shape {shape}; expected that of y, {output}.{hint}")
