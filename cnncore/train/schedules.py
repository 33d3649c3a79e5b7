"""Schedules: the learning rate as a function of the training progress.

A schedule maps the completed fraction of training, 0 ≤ t < 1, to a factor for the optimizer's learning rate. One made
by :func:`by_step` maps the number of completed steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from ..checks import number
from ..errors import SettingError, unknown_name

__all__ = ["by_step", "constant", "cosine", "factor_at", "one_cycle", "schedule", "steps"]

# Completed fraction of training, 0 ≤ t < 1 → factor for the learning rate.
Schedule: TypeAlias = Callable[[float], float]


def constant() -> Schedule:
    """A constant learning rate.

    Returns
    -------
    callable
        t → 1.

    Examples
    --------
    >>> constant()(0.5)
    1.0
    """
    return lambda t: 1.0


def cosine(warm_up: float = 0.0, final: float = 0.0) -> Schedule:
    """Linear warm-up over the fraction ``warm_up`` of training, then half a cosine down to ``final``.

    Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5 without restarts.

    Parameters
    ----------
    warm_up : float, optional
        Fraction of the training, 0 ≤ warm_up < 1.
    final : float, optional
        Factor at the end, 0 to 1.

    Returns
    -------
    callable
        Completed fraction of training → factor for the learning rate.

    Raises
    ------
    SettingError
        A setting is out of range.

    Examples
    --------
    >>> rate = cosine()
    >>> [round(rate(t), 3) for t in (0, 0.5, 0.999)]
    [1.0, 0.5, 0.0]
    """
    warm_up = number(minimum=0, below=1)("cosine", "warm_up", warm_up)
    final = number(minimum=0, maximum=1)("cosine", "final", final)

    def factor(t: float) -> float:
        if t < warm_up:
            return t / warm_up
        return final + (1 - final) * (1 + math.cos(math.pi * (t - warm_up) / (1 - warm_up))) / 2

    return factor


def one_cycle(warm_up: float = 0.3, start: float = 0.04, final: float = 0.001) -> Schedule:
    """From ``start`` up to 1 and down to ``final``, both along half a cosine.

    Smith & Topin 2018, arXiv:1708.07120.

    Parameters
    ----------
    warm_up : float, optional
        Fraction of the training in which the factor rises, 0 < warm_up < 1.
    start, final : float, optional
        Factors at the beginning and at the end.

    Returns
    -------
    callable
        Completed fraction of training → factor for the learning rate.

    Raises
    ------
    SettingError
        ``warm_up`` is out of range.

    Examples
    --------
    >>> rate = one_cycle(warm_up=0.25, start=0.1)
    >>> [round(rate(t), 3) for t in (0, 0.25, 0.999)]
    [0.1, 1.0, 0.001]
    """
    warm_up = number(above=0, below=1)("one_cycle", "warm_up", warm_up)

    def factor(t: float) -> float:
        low, u = (start, 1 - t / warm_up) if t < warm_up else (final, (t - warm_up) / (1 - warm_up))
        return low + (1 - low) * (1 + math.cos(math.pi * u)) / 2

    return factor


def steps(*fractions: float, factor: float = 0.1) -> Schedule:
    """The rate times ``factor`` at each of ``fractions`` of the training.

    Parameters
    ----------
    *fractions : float
        Each above 0 and below 1.
    factor : float, optional

    Returns
    -------
    callable
        Completed fraction of training → factor for the learning rate.

    Raises
    ------
    SettingError
        A fraction is out of range.

    Examples
    --------
    >>> rate = steps(0.5, 0.75)
    >>> [round(rate(t), 4) for t in (0, 0.5, 0.8)]
    [1.0, 0.1, 0.01]
    """
    for fraction in fractions:
        number(above=0, below=1)("steps", "fraction", fraction)
    return lambda t: factor ** sum(t >= fraction for fraction in fractions)


class ByStep:
    """A schedule whose argument is the number of completed steps, see :func:`by_step`."""

    def __init__(self, function: Callable[[int], float]) -> None:
        self.function = function

    def __call__(self, step: float) -> float:
        return float(self.function(int(step)))


def by_step(function: Callable[[int], float]) -> Schedule:
    """A schedule by the number of completed steps, instead of the completed fraction of training.

    Parameters
    ----------
    function : callable
        Number of completed steps, from 0 → factor for the learning rate.

    Returns
    -------
    callable
        A schedule for :meth:`cnncore.train.Trainer.fit`.

    Examples
    --------
    >>> warm_up = by_step(lambda step: min(1.0, (step + 1) / 500))
    >>> factor_at(warm_up, 249, 10_000)
    0.5
    """
    return ByStep(function)


def factor_at(schedule: Schedule, step: int, total: int) -> float:
    """The factor of a schedule in step ``step``, from 0, of ``total``.

    Parameters
    ----------
    schedule : callable
    step, total : int

    Returns
    -------
    float
    """
    return schedule(step) if isinstance(schedule, ByStep) else schedule(step / total)


SCHEDULES = {"constant": constant, "cosine": cosine, "one_cycle": one_cycle, "steps": steps}


def schedule(name: str | Schedule) -> Schedule:
    """The schedule called ``name`` with its default settings, or ``name`` itself if it is a function already.

    Parameters
    ----------
    name : str or callable
        "constant", "cosine", "one_cycle" or "steps", or a function.

    Returns
    -------
    callable
        Completed fraction of training → factor for the learning rate.

    Raises
    ------
    SettingError
        ``name`` is unknown.

    Examples
    --------
    >>> round(schedule("cosine")(0.5), 3), schedule(lambda t: 1 - t)(0.25)
    (0.5, 0.75)
    """
    if callable(name):
        return name
    if name not in SCHEDULES:
        raise SettingError(unknown_name("train", "schedule", name, SCHEDULES, "Use a function, or one of"))
    return SCHEDULES[name]()
