"""Elementwise operators: y = f(x), the same formula for every value."""

from dataclasses import dataclass

import numpy as np

from ..operator import Kind
from ..ops import activation

__all__ = ["Elementwise"]


@dataclass(frozen=True)
class Elementwise(Kind):
    """``function`` on every value; ``numbers`` names the settings passed to it."""

    function: object
    numbers: tuple = ()

    def describe(self, op, shapes, dtype, settings):
        return shapes[0], None

    def forward(self, call, arrays, out=None):
        x = np.ascontiguousarray(arrays[0])
        y = call.empty(out)
        activation.forward(self.function, self._numbers(call), x, y)
        return y, (), (x,)

    def backward(self, call, saved, dy, wanted, out=None):
        (x,) = saved
        dx = call.gradient(0, out and out[0])
        activation.backward(self.function, self._numbers(call), x, np.ascontiguousarray(dy), dx)
        return (dx,)

    def _numbers(self, call):
        return tuple(float(call.settings[name]) for name in self.numbers)
