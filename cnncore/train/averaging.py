"""Averages of the weights over the steps of a training, which often classify better than the last weights.

An average is updated after every step of the optimizer; the trained weights are unchanged by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import integer, number
from ..nets.graph import Graph
from ..nets.net import Net

__all__ = ["ExponentialAverage", "StochasticWeightAverage", "WeightAverage", "with_batch_statistics"]


class WeightAverage:
    """Base class: an average of parameters and running statistics by name. Subclasses define :meth:`share`.

    Attributes
    ----------
    arrays : dict of str to array
        The average; empty before the first step that counts.
    steps : int
        The number of steps so far.
    count : int
        How many of them the average contains.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.train import WeightAverage
    >>> class Latest(WeightAverage):
    ...     def share(self, step):
    ...         return 1.0
    >>> average = Latest()
    >>> average.update({"w": np.array([1.0])}); average.update({"w": np.array([3.0])})
    >>> average.arrays["w"], average.share(2)
    (array([3.]), 1.0)
    """

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}
        self.steps = 0
        self.count = 0

    def share(self, step: int) -> float | None:
        """The share of the present weights in the new average; None where the step does not count.

        Parameters
        ----------
        step : int
            Its number, from 0.

        Returns
        -------
        float or None
        """
        raise NotImplementedError

    def update(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take the weights after a step into the average. ::

            a ← a + s (w − a)        s the share of the step; the first average is w

        Parameters
        ----------
        arrays : mapping
            Name → array.
        """
        share = self.share(self.steps)
        self.steps += 1
        if share is None:
            return
        if not self.arrays:
            self.arrays = {name: array.copy() for name, array in arrays.items()}
        else:
            for name, average in self.arrays.items():
                step = arrays[name] - average
                step *= share
                average += step
        self.count += 1


class ExponentialAverage(WeightAverage):
    """The exponential moving average of the weights. ::

        a ← d a + (1 − d) w        d = min(decay, (1 + t) / (10 + t)) in step t, from 0

    Polyak & Juditsky 1992 average uniformly; the exponential form with this warm-up is that of TensorFlow's
    ``ExponentialMovingAverage(num_updates=…)``.

    Parameters
    ----------
    decay : float, optional
        0 ≤ decay < 1. The average reaches back about 1 / (1 − decay) steps.
    warm_up : bool, optional
        False: d = decay from the first step on.

    Raises
    ------
    SettingError
        ``decay`` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.train import ExponentialAverage
    >>> average = ExponentialAverage(0.5, warm_up=False)
    >>> for w in (1.0, 3.0, 3.0):
    ...     average.update({"w": np.array([w])})
    >>> average.arrays["w"], average.share(3)
    (array([2.5]), 0.5)
    """

    def __init__(self, decay: float = 0.999, warm_up: bool = True) -> None:
        super().__init__()
        self.decay = number(minimum=0, below=1)("ExponentialAverage", "decay", decay)
        self.warm_up = bool(warm_up)

    def share(self, step: int) -> float:
        """1 − d.

        Parameters
        ----------
        step : int

        Returns
        -------
        float
        """
        return 1 - (min(self.decay, (1 + step) / (10 + step)) if self.warm_up else self.decay)


class StochasticWeightAverage(WeightAverage):
    """Stochastic weight averaging: the mean of the weights after every ``every``-th step, from step ``first`` on. ::

        a ← a + (w − a) / (n + 1)        n weights are in it already

    Izmailov, Podoprikhin, Garipov, Vetrov & Wilson 2018, arXiv:1803.05407, algorithm 1, which takes the weights once per
    epoch from three quarters of the training on, at a constant learning rate.

    Parameters
    ----------
    first : int, optional
        The number of the first step that counts, from 0.
    every : int, optional

    Raises
    ------
    SettingError
        A number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.train import StochasticWeightAverage
    >>> average = StochasticWeightAverage(first=1, every=2)
    >>> for w in (1.0, 2.0, 3.0, 4.0):
    ...     average.update({"w": np.array([w])})
    >>> average.arrays["w"], average.count, average.share(5)
    (array([3.]), 2, 0.3333333333333333)
    """

    def __init__(self, first: int = 0, every: int = 1) -> None:
        super().__init__()
        self.first = integer("StochasticWeightAverage", "first", first, 0)
        self.every = integer("StochasticWeightAverage", "every", every, 1)

    def share(self, step: int) -> float | None:
        """1 / (n + 1), or None.

        Parameters
        ----------
        step : int

        Returns
        -------
        float or None
        """
        counts = step >= self.first and (step - self.first) % self.every == 0
        return 1 / (self.count + 1) if counts else None


def with_batch_statistics(net: Net, batches: Iterable[tuple[NDArray[Any], ...]]) -> None:
    """Replace the running statistics of ``net`` by the means of those of ``batches``, weighted by their images.

    After its weights have been averaged, running statistics are those of other weights. (Izmailov et al. 2018, section
    3.2.)

    Parameters
    ----------
    net : Net
        Changed in place.
    batches : iterable of tuple of array
        The inputs of the net.
    """
    replaced = [row.name for row in net.graph.owned.values() if row.update is not None]
    if not replaced:
        return
    # The same net whose running statistics are those of the last batch: where layers share them, of all their uses.
    description = net.graph.description()
    rows = {row["name"]: row for row in description["nodes"]}
    uses: Counter[str] = Counter()
    for node in net.graph.nodes:
        statistics = [row.name for row in node.owned if row.update is not None]
        if statistics:
            uses.update(statistics)
            rows[node.path]["settings"] = {**rows[node.path]["settings"], "momentum": 1.0 / uses[statistics[0]]}
    structure = Graph.from_description(description).structure()
    measuring = Net(structure, net.seed, net.dtype, {**net.parameters, **net.buffers})
    totals: dict[str, NDArray[Any]] = {name: np.zeros(net.buffers[name].shape) for name in replaced}
    images = 0
    for xs in batches:
        measuring(*xs, training=True)
        images += len(xs[0])
        for name, total in totals.items():
            total += len(xs[0]) * measuring.buffers[name].astype(np.float64)
    for name, total in totals.items():
        net.buffers[name] = total / max(images, 1)
