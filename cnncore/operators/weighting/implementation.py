"""Pooling by computed weights: of a second image, or of how far each cell lies from its surroundings."""

from typing import NamedTuple

import numpy as np

from ...checks import per_axis
from ...errors import ShapeError
from .. import geometry
from ..operator import Implementation
from ..pooling.windows import KERNEL
from . import reference

__all__ = ["DetailPreserving", "LocalImportance"]


class Described(NamedTuple):
    """The windows of a call (None while extents are open), and (reach, stride) per axis."""

    windows: object
    receptive: tuple


class Weighted(Implementation):
    """What both share: x first, and windows of kernel_size, stride, padding, dilation and ceil_mode."""

    def infer(self, op, shapes, dtype, settings):
        layout = KERNEL.lay_out(op, shapes[0], settings, {})
        self.check(op, *shapes)
        windows = None if layout.parts is None else layout.parts[0].windows
        return (*shapes[0][:2], *layout.output), Described(windows, layout.receptive)

    def receptive_window(self, call):
        return call.geometry.receptive


class LocalImportance(Weighted):
    """Weights e^l, l an image of x's shape."""

    saves = ("x", "logit")

    def check(self, op, x, logit):
        if None not in x and None not in logit and logit != x:
            raise ShapeError(f"{op.name}: logit has shape {logit}; expected that of x, {x}: one number for each value")
        if len(logit) != len(x):
            raise ShapeError(f"{op.name}: logit has {len(logit)} dimensions {logit}; expected those of x, {x}")

    def forward(self, call, arrays, out=None):
        x, logit = arrays
        y = call.empty(out)
        reference.importance(call.geometry.windows, x, logit, y)
        return y, (), (x, logit)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, logit = saved
        dx, dlogit = (call.gradient(i, out and out[i]) for i in range(2))
        reference.importance_gradients(call.geometry.windows, x, logit, dy, dx, dlogit)
        return tuple(g if want else None for g, want in zip((dx, dlogit), needs_gradient, strict=True))


class DetailPreserving(Weighted):
    """Weights that grow with a cell's distance from the mean of its window, or from a filter of its surroundings."""

    per_image = True
    saves = ("x", "alpha", "lam", "w")

    def receptive_window(self, call):
        windows = super().receptive_window(call)
        if call.shapes[3] is None:
            return windows
        kernel, dilation = (
            per_axis(call.op.name, name, call.settings[name], len(windows)) for name in ("kernel_size", "dilation")
        )
        middle = (d * ((k - 1) // 2) for k, d in zip(kernel, dilation, strict=True))
        # From the first cell of the window, or of the filter around its middle, to the last one.
        return tuple((max(reach, m + 2) - min(0, m - 1), s) for (reach, s), m in zip(windows, middle, strict=True))

    def check(self, op, x, alpha, lam, w):
        for name, given in (("alpha", alpha), ("lam", lam)):
            if given != (x[1],):
                raise ShapeError(f"{op.name}: {name} has shape {given}; {x[1]} channels of input {x} need ({x[1]},)")
        taps = (3,) * (len(x) - 2)
        if w is not None and w != (x[1], *taps):
            raise ShapeError(
                f"{op.name}: w has shape {w}; expected {(x[1], *taps)}, a filter of 3 taps per axis and channel"
            )

    def forward(self, call, arrays, out=None):
        x, alpha, lam, w = arrays
        settings = call.settings
        numbers = reference.DetailPreserving(
            *(np.ascontiguousarray(a, np.float64) for a in (alpha, lam)),
            None if w is None else np.ascontiguousarray(w.reshape(len(w), -1), np.float64),
            geometry.canonical((3,) * (x.ndim - 2), 1),
            settings["eps"],
            settings["symmetric"],
        )
        y = call.empty(out)
        numbers.forward(call.geometry.windows, x, y)
        return y, (), (x, w, numbers)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        x, w, numbers = saved
        planes = x.shape[:2]
        dx = call.gradient(0, out and out[0])
        dalpha, dlam = np.empty(planes), np.empty(planes)
        dw = None if w is None else np.empty((*planes, *w.shape[1:]))
        numbers.backward(
            call.geometry.windows,
            x,
            dy,
            dx,
            dalpha,
            dlam,
            None if dw is None else dw.reshape(*planes, 3 ** (x.ndim - 2)),
        )
        results = [dx if needs_gradient[0] else None]
        for i, part in enumerate((dalpha, dlam, dw), 1):
            result = call.gradient(i, out and out[i]) if needs_gradient[i] else None
            if result is not None:
                result[...] = part.sum(axis=0)
            results.append(result)
        return tuple(results)
