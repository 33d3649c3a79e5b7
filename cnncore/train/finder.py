"""The learning-rate finder: a short training whose learning rate increases from step to step."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import integer, number, seed_number
from ..errors import SettingError
from ..nets.net import Net
from ..typing import Seed
from .criterion import Loss
from .loop import Trainer, batch_source
from .optimizers import Optimizer

__all__ = ["LearningRates", "find_learning_rate"]

SMOOTHING = 0.9  # of the loss, from step to step
DIVERGED = 3.0  # times the smallest loss: the search ends


@dataclass(frozen=True)
class LearningRates:
    """The result of a search.

    Parameters
    ----------
    rates : list of float
        Learning rates that were tried, in increasing order.
    losses : list of float
        The smoothed loss at each of them.
    suggestion : float
        A tenth of the rate at which the loss was smallest, which is well below the rates at which training is unstable.

    Examples
    --------
    >>> from cnncore.train import LearningRates
    >>> LearningRates(rates=[0.01, 0.1, 1.0], losses=[2.3, 0.9, 8.0], suggestion=0.01).suggestion
    0.01
    """

    rates: list[float]
    losses: list[float]
    suggestion: float


def find_learning_rate(
    net: Net,
    data: Any,
    optimizer: Optimizer,
    labels: ArrayLike | None = None,
    loss: Loss = "softmax_cross_entropy",
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 80,
    batch_size: int = 64,
    seed: Seed = 0,
    loss_settings: Mapping[str, Any] | None = None,
) -> LearningRates:
    """Train a copy of a net with a learning rate that increases from step to step, until the loss diverges.

    Smith 2017, "Cyclical learning rates for training neural networks", arXiv:1506.01186, section 3.3.

    Parameters
    ----------
    net : Net
        It is not changed.
    data : Dataset or array
        As in :meth:`cnncore.train.Trainer.fit`.
    optimizer : Optimizer
        Its learning rate has no effect. It is not changed.
    labels : array, optional
        The targets, where ``data`` is an array.
    loss : str or callable, optional
    lowest, highest : float, optional
        The first and the last learning rate; in between they grow by the same factor in every step.
    steps : int, optional
        Their number.
    batch_size : int, optional
    seed : int or numpy.random.Generator, optional
        Determines the order of the images.
    loss_settings : mapping, optional
        As in :class:`cnncore.train.Trainer`.

    Returns
    -------
    LearningRates

    Raises
    ------
    SettingError
        A setting is out of range, or the loss of the first step is infinite or NaN.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> from cnncore.train import SGD, find_learning_rate
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> g.output(g.global_avg_pool(g.conv(x, 2, kernel_size=3)))
    >>> images = np.random.default_rng(0).random((64, 1, 6, 6), np.float32); labels = np.arange(64) % 2
    >>> images[labels == 1] += 1
    >>> found = find_learning_rate(g.build(seed=0), images, SGD(1.0), labels, highest=100.0)
    >>> 0.001 < found.suggestion < 10
    True
    """
    lowest = number(above=0)("find_learning_rate", "lowest", lowest)
    highest = number(above=lowest)("find_learning_rate", "highest", highest)
    steps = integer("find_learning_rate", "steps", steps, 2)
    seed = seed_number("find_learning_rate", "seed", seed)
    trainer = Trainer(copy.deepcopy(net), copy.deepcopy(optimizer), loss, loss_settings=loss_settings)
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    source = batch_source(data, labels)
    for step, (x, y) in enumerate(itertools.islice(endless(source, batch_size, seed), steps)):
        rate = lowest * (highest / lowest) ** (step / (steps - 1))
        try:
            value = trainer.step(trainer.as_taken(source, x), y, rate)
        except SettingError:  # the loss is infinite or NaN
            if not rates:
                raise
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        rates.append(rate)
        losses.append(mean / (1 - SMOOTHING ** (step + 1)))
        if losses[-1] > DIVERGED * min(losses):
            break
    return LearningRates(rates, losses, rates[int(np.argmin(losses))] / 10)


def endless(source: Any, batch_size: int, seed: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The batches of one epoch after another."""
    for epoch in itertools.count():
        yield from source.batches(batch_size, seed=seed, epoch=epoch)
