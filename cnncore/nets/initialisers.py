"""Initial values of parameters."""

import hashlib
import math
from types import MappingProxyType

import numpy as np

from ..runtime import random

CHUNK = 1 << 20  # numbers drawn at a time: a fully connected layer of VGG has 10⁸


def uniform_numbers(seed, count):
    """``count`` numbers uniform in [0, 1), each of which depends only on ``seed`` and its position."""
    u = np.empty(count)
    random.fill_uniform(seed, 0, u)
    return u


def normal_numbers(seed, count):
    """Standard normal numbers, by the Box–Muller transform of pairs of uniform ones."""
    half = (count + 1) // 2
    made = np.empty(2 * half)
    for first in range(0, half, CHUNK):
        u, v = np.empty((2, min(CHUNK, half - first)))
        random.fill_uniform(seed, first, u)
        random.fill_uniform(seed, half + first, v)
        radius = np.sqrt(-2 * np.log1p(-u))  # 1 − u lies in (0, 1]
        angle = 2 * math.pi * v
        made[first : first + len(u)] = radius * np.cos(angle)
        made[half + first : half + first + len(u)] = radius * np.sin(angle)
    return made[:count]


VARIANCES = {
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
}


def _normal(variance):
    def draw(seed, count, *fans):
        numbers = normal_numbers(seed, count)
        numbers *= math.sqrt(variance(*fans))
        return numbers

    return draw


def _uniform(variance):
    return lambda seed, count, *fans: math.sqrt(3 * variance(*fans)) * (2 * uniform_numbers(seed, count) - 1)


INITIALISERS = MappingProxyType(
    {name: _normal(variance) for name, variance in VARIANCES.items()}
    | {f"{name}_normal": _normal(variance) for name, variance in VARIANCES.items()}
    | {f"{name}_uniform": _uniform(variance) for name, variance in VARIANCES.items()}
    | {
        "zeros": lambda seed, count, *fans: np.zeros(count),
        "ones": lambda seed, count, *fans: np.ones(count),
        "mean": lambda seed, count, fan_in, fan_out: np.full(count, 1 / fan_in),
    }
)


def plain_fans(shape):
    """(fan in, fan out) of a weight (outputs, inputs, \\*kernel)."""
    taps = math.prod(shape[2:])
    return (shape[1] * taps if len(shape) > 1 else 1), shape[0] * taps if shape else 1


def drawn_seed(seed, *places, bits=63):
    """A seed that depends only on ``seed`` and ``places`` (names, numbers), not on other nodes and parameters."""
    text = "\0".join(map(str, (seed, *places)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") & (2**bits - 1)


def initialised(owned, seed, dtype):
    """The initial values of an owned array, determined by the seed and its name; with seed None, 0 instead of random values."""
    if isinstance(owned.initial, str) and seed is None:
        return np.zeros(owned.shape, dtype)
    if not isinstance(owned.initial, str):
        return np.full(owned.shape, owned.initial, dtype)
    numbers = INITIALISERS[owned.initial](drawn_seed(seed, owned.name), math.prod(owned.shape), *owned.fans)
    return np.ascontiguousarray(numbers.reshape(owned.shape), dtype=dtype)
