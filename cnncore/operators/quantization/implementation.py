"""Real numbers as few integers: quantization to a grid of steps."""

from dataclasses import dataclass

import numpy as np

from ...errors import SettingError, ShapeError
from ..arrays.implementation import MOST_AXES, broadcast, spread, summed_to
from ..operator import Implementation
from . import reference

__all__ = ["MOST_INTEGER", "Quantization"]

MOST_INTEGER = 2**31


@dataclass(frozen=True)
class Quantization(Implementation):
    """x on the grid of scale and zero point, which broadcast to x's shape; ``fake``: as the real numbers of the grid."""

    fake: bool

    per_image = True
    saves = ("x", "scale", "zero_point")

    def infer(self, op, shapes, dtype, settings):
        x, low, high = shapes[0], settings["low"], settings["high"]
        if low >= high:
            raise SettingError(
                f"{op.name}: low {low} must be less than high {high}; int8 has −128 to 127, uint8 0 to 255"
            )
        grid = [s for s in shapes[1:] if s is not None]
        y = broadcast(op, (x, *grid), MOST_AXES)
        if len(y) != len(x) or any(a != b and b is not None for a, b in zip(x, y, strict=True)):
            raise ShapeError(
                f"{op.name}: scale and zero point {' and '.join(map(str, grid))} must broadcast to input {x}: one number, or "
                "one per channel as (C, 1, 1)"
            )
        return x, None

    @staticmethod
    def arrays(call, arrays):
        """All three in x's shape."""
        x, s, z = arrays
        z = np.zeros((), x.dtype) if z is None else z
        return x, spread(s, x.shape), spread(z, x.shape)

    def forward(self, call, arrays, out=None):
        y = call.empty(out)
        low, high = call.settings["low"], call.settings["high"]
        reference.run(self.fake, "value", low, high, *self.arrays(call, arrays), y)
        return y, (), tuple(arrays)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        low, high = call.settings["low"], call.settings["high"]
        arrays = self.arrays(call, saved)
        gradients = call.gradients(needs_gradient, out)
        for by, gradient in zip("xsz", gradients, strict=True):
            if gradient is None:
                continue
            whole = gradient if gradient.shape == call.output else np.empty(call.output, call.dtype)
            reference.run(self.fake, by, low, high, *arrays, whole)
            whole *= dy
            if whole is not gradient:
                summed_to(whole, gradient)
        return gradients

    def splits_batch(self, call):
        return all(s is None or (len(s) == len(call.output) and s[:1] == call.output[:1]) for s in call.shapes)

    def receptive_window(self, call):
        return ((1, 1),) * max(len(call.output) - 2, 0)
