"""Operators that drop values at random, by a mask drawn from a seed."""

import math
from dataclasses import dataclass

import numpy as np

from ...errors import ShapeError
from ...runtime import random
from ..operator import Implementation

__all__ = ["Dropping", "alpha_dropout_numbers", "dropout_numbers"]

# −λα of selu: what a dropped activation becomes, the value of selu at −∞. Klambauer et al. 2017, section 3.
ALPHA_PRIME = -1.7580993408473766


def dropout_numbers(p):
    """(scale, shift, fill): the mean is kept, scale = 1 / (1 − p)."""
    return (1 / (1 - p) if p < 1 else 0.0), 0.0, 0.0


def alpha_dropout_numbers(p):
    """(scale, shift, fill): mean 0 and variance 1 are kept, a = (q + α′² q p)^−½ with q = 1 − p, b = −a p α′."""
    q = 1 - p
    if q == 0:
        return 0.0, 0.0, 0.0
    a = (q + ALPHA_PRIME**2 * q * p) ** -0.5
    b = -a * p * ALPHA_PRIME
    return a, b, a * ALPHA_PRIME + b


def drawn_mask(shape, seed, p, first_image):
    """True with probability 1 − p; of the images of a larger batch from number ``first_image`` on."""
    if not first_image:
        mask = np.empty(shape, np.bool_)
        random.draw(seed, p, mask)
        return mask
    numbers = np.empty(shape)
    random.fill_uniform(seed, first_image * math.prod(shape[1:]), numbers)
    return numbers >= p


@dataclass(frozen=True)
class Dropping(Implementation):
    """y = scale x + shift where the mask is True, else fill; ``numbers`` gives these three from p."""

    numbers: object
    per_channel: bool = False

    per_image = True
    draws_per_image = True
    in_place = True
    saves = ()

    def infer(self, op, shapes, dtype, settings):
        x, state = shapes
        if not 1 + self.per_channel <= len(x) <= 5:
            raise ShapeError(f"{op.name}: input has {len(x)} dimensions {x}; expected {1 + self.per_channel} to 5")
        mask = x[:2] if self.per_channel else x
        if state is not None and state != mask:
            raise ShapeError(f"{op.name}: state has shape {state}; for input {x} it must have shape {mask}")
        return x, mask

    def forward(self, call, arrays, out=None, first_image=0):
        x, mask = arrays
        settings = call.settings
        numbers = self.numbers(settings["p"])
        if not settings["training"]:
            mask, numbers = None, (1.0, 0.0, 0.0)
        elif mask is None:
            mask = drawn_mask(call.geometry, settings["seed"], settings["p"], first_image)
        if mask is None:
            mask = np.ones(call.geometry, np.bool_)
        y = call.empty(out)
        random.select(x, mask, *numbers, y)
        return y, (mask,) if settings["return_state"] else (), (mask, numbers[0])

    def backward(self, call, saved, dy, needs_gradient, out=None):
        mask, scale = saved
        dx = call.gradient(0, out and out[0])
        random.select(dy, mask, scale, 0.0, 0.0, dx)
        return dx, None

    def parts(self, call):
        settings = call.settings
        return None if settings["training"] or settings["return_state"] else ((...,), None)
