"""What convolution's cost model stands for, measured on the machine at hand: see runtime/costs.py."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...runtime import costs, dispatch
from ...runtime.dispatch import PackedWeights
from ...runtime.threads import threads
from .. import geometry
from . import reference as conv

__all__ = ["fitted", "measured"]

ROUNDS = 9  # the fastest of them is the one that was disturbed least
SECONDS = 0.25  # after which no further round begins; two are made in any case
# Processor time does not count interruptions by other programs; where its clock is too coarse, or missing as in browsers, elapsed
# time has to do.
HAS_FINE_THREAD_TIME = hasattr(time, "thread_time") and time.get_clock_info("thread_time").resolution < 1e-5
CLOCK = time.thread_time if HAS_FINE_THREAD_TIME else time.perf_counter
READ_CHANNELS = 4096  # inputs and outputs of layers that read their weights: 64 MB each, more than most caches hold
KERNEL_SPEED = 32  # multiply-adds in an elementary operation, the unit of reference.pyx

# A measured number may be this many times the built-in one, or this part of it: beyond, something else was measured.
MOST_RATIO = 8.0


class Case(NamedTuple):
    """A convolution that is timed: images of size × size and kernel × kernel weights."""

    algorithm: str
    size: int
    inputs: int
    outputs: int
    stride: int = 1
    kernel: int = 3

    @property
    def window(self) -> Any:
        """Its windows."""
        extents = (self.size, self.size)
        return geometry.window("measurement", extents, self.kernel, stride=self.stride, padding=self.kernel // 2)

    def cost(self, **given: float) -> float:
        """What the model says, with these costs instead of the built-in ones."""
        row = conv.ALGORITHMS[self.algorithm]
        return float(row.cost(self.window, 1, self.inputs, self.outputs, 1, costs.Costs(**given)))


# Many channels on a small image, and few on a larger one: products and transforms have different shares of the time.
WIDE = {"size": 28, "inputs": 96, "outputs": 96}
NARROW = {"size": 56, "inputs": 32, "outputs": 32}
CASES = {
    "direct, wide": Case("direct", **WIDE),
    "direct, narrow": Case("direct", **NARROW),
    "winograd, wide": Case("winograd_4x4", **WIDE),
    "winograd, narrow": Case("winograd_4x4", **NARROW),
    "winograd, stride 2": Case("winograd_4x4", **WIDE, stride=2),
    "reading": Case("direct", 1, READ_CHANNELS, READ_CHANNELS, kernel=1),
    "overlap": Case("direct", 5, READ_CHANNELS, READ_CHANNELS, kernel=1),
    "calling": Case("direct", 1, 1, 1, kernel=1),
}
FROM_MEMORY = ("reading", "overlap")


def measured() -> dict[str, float]:
    """The current target's costs in float32, on one thread, and the facts behind them; {} where it has no kernels.

    Those of float64 are in the same proportion: its vectors hold half as many numbers, of twice the size.
    """
    if dispatch.current_target() == "reference":
        return {}
    with threads(1):
        calls = {name: prepared(case) for name, case in CASES.items()}
        best = dict.fromkeys(calls, math.inf)
        began = CLOCK()
        for turn in range(ROUNDS):
            if turn > 1 and CLOCK() - began > SECONDS:
                break
            for name, call in calls.items():
                if name not in FROM_MEMORY:
                    call()  # its weights are in the cache then: reading has a number of its own
                start = CLOCK()
                call()
                best[name] = min(best[name], CLOCK() - start)
    return fitted(best)


def prepared(case: Case) -> Callable[[], None]:
    """A call of a case as a plan makes it: channels last, the weights packed before."""
    window = case.window
    x = channels_last(case.inputs, case.size, case.size)
    y = channels_last(case.outputs, *window.output[1:])
    w = np.broadcast_to(np.float32(0.01), (case.outputs, case.inputs, *window.kernel[1:]))
    primitives = conv.Convolution(1, window.stride, window.dilation, window.low, case.algorithm)
    packed = primitives.pack(PackedWeights())

    def call() -> None:
        primitives.forward(x, w, None, y, packed)

    call()
    return call


def channels_last(channels: int, height: int, width: int) -> NDArray[np.float32]:
    """An image of ones, (1, C, H, W), whose channels are adjacent in memory."""
    return np.ones((1, height, width, channels), np.float32).transpose(0, 3, 1, 2)


def fitted(seconds: dict[str, float]) -> dict[str, float]:
    """The costs that explain the times of :data:`CASES`, within limits, and facts for people to read."""
    net = {name: max(taken - seconds["calling"], 1e-9) for name, taken in seconds.items()}
    directs = [CASES[name] for name in ("direct, wide", "direct, narrow")]
    unit = (net["direct, wide"] + net["direct, narrow"]) / sum(
        case.cost() for case in directs
    )  # seconds per multiply-add
    # Two times, two unknowns: what products take, and what transforms take.
    tiny = costs.LEAST
    wide, narrow = CASES["winograd, wide"], CASES["winograd, narrow"]
    products = [case.cost(transform=tiny, reading=tiny) for case in (wide, narrow)]
    transforms = [case.cost(product=tiny, reading=tiny) / costs.BUILT_IN.transform for case in (wide, narrow)]
    taken = [net["winograd, wide"] / unit, net["winograd, narrow"] / unit]
    determinant = products[0] * transforms[1] - products[1] * transforms[0]
    product = limited("product", (taken[0] * transforms[1] - taken[1] * transforms[0]) / determinant)
    transform = limited("transform", (products[0] * taken[1] - products[1] * taken[0]) / determinant)
    strided = CASES["winograd, stride 2"].cost(product=product, transform=transform, parities=1.0, reading=tiny)
    reading = limited("reading", net["reading"] / unit / READ_CHANNELS**2)
    waiting = net["overlap"] / unit / READ_CHANNELS**2 - CASES["overlap"].size ** 2
    return {
        "product": product,
        "transform": transform,
        "reading": reading,
        "overlap": min(max(1 - waiting / reading, costs.LEAST), 1.0),
        "parities": max(1.0, limited("parities", net["winograd, stride 2"] / unit / strided)),
        "operation_ns": 1e9 * unit * KERNEL_SPEED,
        "direct_gflops": 2e-9 / unit,
        "reading_gigabytes_per_second": 4e-9 * READ_CHANNELS**2 / net["reading"],
    }


def limited(name: str, value: float) -> float:
    """``value``, no further from the built-in number than a machine can be."""
    usual = float(getattr(costs.BUILT_IN, name))
    return min(max(value, usual / MOST_RATIO), usual * MOST_RATIO)
