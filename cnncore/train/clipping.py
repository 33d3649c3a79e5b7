"""What happens to gradients between backward and update: sums over several batches, and limits of their size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import integer, number

__all__ = ["Accumulation", "Clipping", "global_norm"]


def global_norm(gradients: Mapping[str, NDArray[Any]]) -> float:
    """√ Σ g² over all gradients together, in float64.

    The sum is taken in the order of the names, so that its bits do not depend on who computed the gradients.

    Parameters
    ----------
    gradients : mapping
        Name → array.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> global_norm({"w": np.array([3.0]), "b": np.array([[4.0]])})
    5.0
    """
    squares = (np.square(np.ascontiguousarray(gradients[name]), dtype=np.float64).sum() for name in sorted(gradients))
    return float(np.sqrt(sum(squares, np.float64(0))))


class Clipping:
    """Limits the gradients of a step, in place: first each number, then the norm of all together. ::

        g ← min(max(g, −clip_value), clip_value)
        g ← g · min(1, clip_norm / ‖g‖)        ‖g‖ over all parameters

    Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, algorithm 1.

    Parameters
    ----------
    norm, value : float, optional
        Above 0; None: no limit.

    Attributes
    ----------
    last : float or None
        The norm before it was limited, in the last step; None without ``norm``.

    Raises
    ------
    SettingError
        A limit is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> g = {"w": np.array([3.0, 4.0])}
    >>> Clipping(norm=1.0).apply(g); g["w"]
    array([0.6, 0.8])
    """

    def __init__(self, norm: float | None = None, value: float | None = None) -> None:
        positive = number(above=0)
        self.norm = None if norm is None else positive("Trainer", "clip_norm", norm)
        self.value = None if value is None else positive("Trainer", "clip_value", value)
        self.last: float | None = None

    def apply(self, gradients: Mapping[str, NDArray[Any]]) -> None:
        """Limit ``gradients``, in place.

        Parameters
        ----------
        gradients : mapping
            Name → array.
        """
        if self.value is not None:
            for array in gradients.values():
                np.clip(array, -self.value, self.value, out=array)
        if self.norm is not None:
            self.last = global_norm(gradients)
            if self.last > self.norm:
                for array in gradients.values():
                    array *= self.norm / self.last


class Accumulation:
    """The mean gradient of several batches, each weighted by what its mean loss counts. ::

        g = Σ n_i g_i / Σ n_i        n_i the images of batch i, or its targets that are not ignored

    Parameters
    ----------
    batches : int
        How many make a step.

    Attributes
    ----------
    arrays : dict of str to array
        Σ n_i g_i so far.
    pending : int
        Batches in it.
    weight : float
        Σ n_i.

    Raises
    ------
    SettingError
        ``batches`` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> sums = Accumulation(2)
    >>> sums.add({"w": np.array([1.0])}, 3); sums.complete
    False
    >>> g = {"w": np.array([5.0])}
    >>> sums.add(g, 1); sums.complete
    True
    >>> sums.finish(g); g["w"]
    array([2.])
    """

    def __init__(self, batches: int = 1) -> None:
        self.batches = integer("Trainer", "accumulate", batches, 1)
        self.arrays: dict[str, NDArray[Any]] = {}
        self.pending = 0
        self.weight = 0.0

    @property
    def complete(self) -> bool:
        """Whether there are enough batches for a step."""
        return self.pending >= self.batches

    def add(self, gradients: Mapping[str, NDArray[Any]], weight: float) -> None:
        """Add the gradients of a batch.

        Parameters
        ----------
        gradients : mapping
            Name → array.
        weight : float
            n_i.
        """
        for name, g in gradients.items():
            weighted = g * g.dtype.type(weight)
            if name in self.arrays:
                self.arrays[name] += weighted
            else:
                self.arrays[name] = weighted
        self.pending += 1
        self.weight += float(weight)

    def finish(self, gradients: Mapping[str, NDArray[Any]]) -> None:
        """Write the mean into ``gradients``, and begin again.

        Parameters
        ----------
        gradients : mapping
            Name → array: those of the last batch, which are overwritten.
        """
        for name, array in gradients.items():
            np.divide(self.arrays[name], array.dtype.type(self.weight or 1), out=array)
        self.arrays, self.pending, self.weight = {}, 0, 0.0
