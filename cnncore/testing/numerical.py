"""Numerical derivatives by scipy, with an estimate of their error, and the points where none exists: kinks, ties,
jumps.

A *curve* is a function of one number t: the result of f when its arguments move by t along some direction. Its derivative
at t = 0 comes from scipy.differentiate. The step shrinks until scipy's own error estimate is small enough and the curve is
smooth at that scale; entries for which no step is adequate are reported as unsettled, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["STEPS", "Derivatives", "differentiate", "one_sided"]

# (number of a direction, t) → the result of f when its arguments have moved by t along it.
Curve: TypeAlias = Callable[[int, float], Any]

# Half widths of the difference formula, tried in this order, in units of a direction's reach. All but the last
# decrease, to avoid kinks nearby; the last is larger, for values so large that small differences are lost in rounding.
STEPS = (1e-3, 1e-4, 1e-5, 1e-6, 3e-2)
ORDER = 4  # of the difference formula: error h⁴, from 4 + 2 evaluations
# scipy halves the step once for the error estimate, so the smallest of its steps is h / 4.
SHRINK = 4
# Values are assumed to be accurate to this many units in the last place of the largest one.
ULPS = 32


@dataclass
class Derivatives:
    """d/dt of every output along every direction, (outputs, directions), with error estimates."""

    value: np.ndarray
    error: np.ndarray  # scipy's estimate
    bend: np.ndarray  # |f′₊ − f′₋| at the smallest step where it does not vanish with the step, else 0
    settled: np.ndarray
    scale: float  # the largest derivative, to which errors are relative
    floor: np.ndarray  # per direction: the magnitude that rounding alone can give to a derivative of 0


def differentiate(
    curve: Curve,
    directions: int,
    reach: NDArray[Any],
    magnitude: Any,
    trust: float,
    scale: float = 0.0,
    steps: Sequence[float] = STEPS,
) -> Derivatives:
    """Derivatives at t = 0 of ``curve(direction, t) → vector`` for every number of ``directions``.

    ``reach[direction]`` is the length that steps are relative to, ``magnitude`` the size of the values (for rounding),
    ``scale`` a lower bound of the derivatives' size. An entry is settled when scipy's error estimate is at most
    ``trust`` × the largest derivative and the curve has no kink there.
    """
    result: Derivatives | None = None
    pending = np.arange(directions)
    for step in steps:
        bent = 0 if result is None else result.bend[:, pending]
        value, error, bend = _differences(curve, pending, step * reach[pending], magnitude, bent)
        floor = ULPS * np.finfo(float).eps * magnitude * SHRINK / (step * reach[pending])
        if result is None:
            result = Derivatives(value, error, bend, np.zeros(value.shape, bool), scale, floor.copy())
        else:
            # Entries that are settled already are kept; for the others the better estimate is used.
            better = ~result.settled[:, pending] & _better(error, bend, result, pending)
            for name, new in (("value", value), ("error", error), ("bend", bend)):
                old = getattr(result, name)
                old[:, pending] = np.where(better, new, old[:, pending])
            result.floor[pending] = np.maximum(result.floor[pending], np.where(better.any(axis=0), floor, 0))
        finite = np.abs(result.value[np.isfinite(result.value)])
        result.scale = max(scale, finite.max(initial=0.0))
        limit = np.maximum(trust * result.scale, 0)
        with np.errstate(invalid="ignore"):
            invisible = (np.abs(result.value) + result.error <= result.floor) & (result.bend == 0)
            result.settled = ((result.error <= limit) & (result.bend <= limit)) | invisible
        pending = np.flatnonzero(~result.settled.all(axis=0))
        if not len(pending):
            break
    assert result is not None, "steps is empty"
    return result


def _better(error: NDArray[Any], bend: NDArray[Any], result: Derivatives, pending: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(invalid="ignore"):
        new = np.nan_to_num(error + bend, nan=np.inf)
        old = np.nan_to_num(result.error[:, pending] + result.bend[:, pending], nan=np.inf)
    return new < old


def _differences(
    curve: Curve, directions: NDArray[Any], step: NDArray[Any], magnitude: Any, bent: Any
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Value, error estimate and bend with one step per direction; ``bent``: what other steps found."""
    from scipy.differentiate import derivative

    seen = {}

    def values(t: NDArray[Any]) -> NDArray[Any]:
        # scipy asks for t = 0 first, then for several t per direction at once: (directions,) or (directions, nodes).
        nodes = t.reshape(len(directions), -1)
        columns = [[curve(j, s) for s in row] for j, row in zip(directions, nodes, strict=True)]
        out = np.moveaxis(np.array(columns, dtype=float), 2, 0)
        for k in range(nodes.shape[1]):
            seen[round(float(nodes[0, k] / step[0]) * 2 * SHRINK)] = out[:, :, k]
        return out.reshape(out.shape[0], *t.shape)

    with np.errstate(all="ignore"):
        result = derivative(
            values,
            np.zeros(len(directions)),
            preserve_shape=True,
            initial_step=step,
            order=ORDER,
            maxiter=2,
            tolerances={"atol": 0, "rtol": 0},
        )
        # f(h) − 2 f(0) + f(−h), over h, is h f″ where f is smooth: it shrinks with h. At a kink it stays.
        wide, narrow = 2 * SHRINK, 2
        coarse = np.abs(seen[wide] - 2 * seen[0] + seen[-wide]) / step
        fine = np.abs(seen[narrow] - 2 * seen[0] + seen[-narrow]) / step * SHRINK
        rounding = ULPS * np.finfo(float).eps * magnitude * SHRINK / step
        # If another step has found a bend, one too small to distinguish from rounding does not count as none.
        bend = np.where((fine > 0.6 * coarse) & ((fine > rounding) | (bent > 0)), fine, 0.0)
        error = np.where(np.isfinite(result.df), result.error, np.inf)
    return result.df, error, bend


def one_sided(
    curve: Curve, direction: int, reach: float, steps: Sequence[float] = (1e-4, 1e-5, 1e-6)
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Derivatives (from below, from above) of every output along one direction, and whether both settle."""
    from scipy.differentiate import derivative

    def values(t: NDArray[Any]) -> NDArray[Any]:
        return np.moveaxis(np.array([curve(direction, s) for s in np.ravel(t)], dtype=float), 0, 1).reshape(
            -1, *t.shape
        )

    sides, errors = [], []
    with np.errstate(all="ignore"):
        for sign in (-1, 1):
            tries = [
                derivative(
                    values,
                    0.0,
                    preserve_shape=True,
                    initial_step=step * reach,
                    step_direction=sign,
                    order=2,
                    maxiter=2,
                    tolerances={"atol": 0, "rtol": 0},
                )
                for step in steps
            ]
            found = np.array([np.ravel(t.df) for t in tries])
            error = np.array([np.ravel(t.error) for t in tries])
            error = np.where(np.isfinite(found), error, np.inf)
            best = np.argmin(error, axis=0)
            sides.append(np.take_along_axis(found, best[None], 0)[0])
            errors.append(np.take_along_axis(error, best[None], 0)[0])
    size = np.maximum(np.abs(sides[0]), np.abs(sides[1]))
    return sides[0], sides[1], np.maximum(*errors) <= 1e-4 * size
