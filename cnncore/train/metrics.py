"""Metrics by name: what evaluation says about predictions beside the loss.

Of classes, of images or of every position of a map; of labels that are independent of one another; of numbers. Counts are
integers, so that a metric is a function of the predictions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError, unknown_name
from .criterion import Criterion, is_yes_or_no

__all__ = ["METRICS", "Counts", "Metric", "Metrics", "chosen_metrics", "measured"]

# A function of the predictions and targets of a whole data set.
OwnMetric: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], float]
Metrics: TypeAlias = str | Iterable[str | OwnMetric] | Mapping[str, OwnMetric]


class Counts(NamedTuple):
    """Per class or label: true positives, false positives and false negatives.

    Attributes
    ----------
    hits, false, missed : int array (K,)
    right, total : int
        Predictions that are right, and all: of exclusive classes one each, of labels one per label.
    """

    hits: NDArray[Any]
    false: NDArray[Any]
    missed: NDArray[Any]
    right: int
    total: int

    def mean(self, above: NDArray[Any], below: NDArray[Any], present: NDArray[Any]) -> float:
        """The mean of above / below over the classes that are present; 0 / 0 is 0, as in scikit-learn.

        Parameters
        ----------
        above, below : array (K,)
        present : bool array (K,)

        Returns
        -------
        float
        """
        ratios = np.where(below > 0, above / np.maximum(below, 1), 0.0)[present]
        return float(ratios.mean()) if ratios.size else 0.0

    @property
    def occurring(self) -> NDArray[Any]:
        """Which classes occur, in targets or predictions."""
        return self.hits + self.false + self.missed > 0


class Metric(NamedTuple):
    """A metric: what it is a function of, the function, and whether larger values are better.

    Attributes
    ----------
    of : str
        "counts", "scores" or "values".
    function : callable
    larger_is_better : bool
    """

    of: str
    function: Callable[..., float | None]
    larger_is_better: bool = True


# ── Of classes and labels ──────────────────────────────────────────────────────────────────────────────────────────────


def counts_of(criterion: Criterion, y: NDArray[Any], target: NDArray[Any]) -> Counts | None:
    """Counts of exclusive classes, or of independent labels, along axis 1; None where there are neither."""
    found = criterion.classes(y, target)
    if found is not None:
        given, right = (numbers.reshape(-1).astype(np.intp, copy=False) for numbers in found)
        given, right = given[right >= 0], right[right >= 0]  # ignore_index is below
        size = y.shape[1]
        hits = np.bincount(right[given == right], minlength=size)
        false = np.bincount(given, minlength=size) - hits
        missed = np.bincount(right, minlength=size) - hits
        return Counts(hits, false, missed, int(hits.sum()), len(right))
    if criterion.kind == "independent_probabilities" and target.shape == y.shape and is_yes_or_no(target):
        yes, true = np.asarray(criterion.answered(y)) > 0.5, target > 0.5
        axes = tuple(axis for axis in range(y.ndim) if axis != 1) if y.ndim > 1 else (0,)
        hits, false, missed = ((a & b).sum(axis=axes) for a, b in ((yes, true), (yes, ~true), (~yes, true)))
        return Counts(
            np.atleast_1d(hits), np.atleast_1d(false), np.atleast_1d(missed), int((yes == true).sum()), y.size
        )
    return None


def macro_f1(c: Counts) -> float:
    """The mean over classes of 2 hits / (2 hits + false + missed)."""
    return c.mean(2 * c.hits, 2 * c.hits + c.false + c.missed, c.occurring)


def micro_f1(c: Counts) -> float:
    """2 hits / (2 hits + false + missed), all classes together."""
    hits, others = 2 * int(c.hits.sum()), int(c.false.sum() + c.missed.sum())
    return hits / (hits + others) if hits + others else 0.0


def top(k: int) -> Callable[[Criterion, NDArray[Any], NDArray[Any]], float | None]:
    """The share of targets whose class is among the ``k`` with the largest scores; of equal scores the lower classes."""

    def found(criterion: Criterion, y: NDArray[Any], target: NDArray[Any]) -> float | None:
        pair = criterion.classes(y, target)
        if pair is None:
            return None
        right = pair[1].reshape(-1)
        scores = np.moveaxis(y, 1, -1).reshape(-1, y.shape[1])[right >= 0]
        right = right[right >= 0, None]
        own = np.take_along_axis(scores, right, axis=1)
        before = (scores > own) | ((scores == own) & (np.arange(y.shape[1]) < right))
        return float((before.sum(axis=1) < k).mean()) if len(right) else 0.0

    return found


# ── Of numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def r2(y: NDArray[Any], target: NDArray[Any]) -> float:
    """1 − Σ (y − t)² / Σ (t − mean t)², the mean over the outputs; outputs with constant targets are left out."""
    wrong = np.square(y - target).reshape(len(y), -1).sum(axis=0)
    whole = np.square(target - target.mean(axis=0)).reshape(len(y), -1).sum(axis=0)
    return float((1 - wrong[whole > 0] / whole[whole > 0]).mean()) if (whole > 0).any() else 0.0


METRICS: dict[str, Metric] = {
    "accuracy": Metric("counts", lambda c: c.right / max(c.total, 1)),
    "balanced_accuracy": Metric("counts", lambda c: c.mean(c.hits, c.hits + c.missed, c.hits + c.missed > 0)),
    "macro_precision": Metric("counts", lambda c: c.mean(c.hits, c.hits + c.false, c.occurring)),
    "macro_recall": Metric("counts", lambda c: c.mean(c.hits, c.hits + c.missed, c.occurring)),
    "macro_f1": Metric("counts", macro_f1),
    "micro_f1": Metric("counts", micro_f1),
    "iou": Metric("counts", lambda c: c.mean(c.hits, c.hits + c.false + c.missed, c.occurring)),
    "top3": Metric("scores", top(3)),
    "top5": Metric("scores", top(5)),
    "mean_absolute_error": Metric("values", lambda y, t: float(np.abs(y - t).mean()), False),
    "mean_squared_error": Metric("values", lambda y, t: float(np.square(y - t).mean()), False),
    "root_mean_squared_error": Metric("values", lambda y, t: float(np.sqrt(np.square(y - t).mean())), False),
    "r2": Metric("values", r2),
}
NEEDS = {
    "counts": "targets that are classes, or 0 and 1 for every label",
    "scores": "scores of classes, and targets that are classes",
    "values": "numbers, and targets of as many numbers",
}


# ── Choosing and measuring ─────────────────────────────────────────────────────────────────────────────────────────────


def chosen_metrics(metrics: Metrics) -> dict[str, Metric | OwnMetric]:
    """Name → metric, for names of :data:`METRICS` and functions.

    Parameters
    ----------
    metrics : str, sequence of str or callable, or mapping of str to callable

    Returns
    -------
    dict

    Raises
    ------
    SettingError
        A name is unknown, or a metric is neither a name nor a function.
    """
    if isinstance(metrics, str):
        metrics = (metrics,)
    if isinstance(metrics, Mapping):
        return {str(name): own_metric(function) for name, function in metrics.items()}
    made: dict[str, Metric | OwnMetric] = {}
    for metric in metrics:
        if isinstance(metric, str):
            if metric not in METRICS:
                raise SettingError(unknown_name("Trainer", "metric", metric, METRICS))
            made[metric] = METRICS[metric]
        else:
            made[getattr(metric, "__name__", type(metric).__name__)] = own_metric(metric)
    return made


def own_metric(function: Any) -> OwnMetric:
    """A function of the caller's."""
    if not callable(function):
        raise SettingError(
            f"Trainer: a metric is a name or a function (predictions, targets) → number, got {function!r}"
        )
    return function


def measured(
    metrics: Mapping[str, Metric | OwnMetric], criterion: Criterion, output: NDArray[Any], target: NDArray[Any]
) -> dict[str, float]:
    """Name → value of every metric on a data set.

    Parameters
    ----------
    metrics : mapping
        As from :func:`chosen_metrics`.
    criterion : Criterion
        That of the net's first output.
    output : array
        What the loss takes of it.
    target : array

    Returns
    -------
    dict

    Raises
    ------
    SettingError
        A metric is not defined for these outputs and targets.
    """
    y, target = criterion.shaped(output), np.asarray(target)
    found = {}
    counts: Counts | None = None
    for name, metric in metrics.items():
        value: float | None
        if not isinstance(metric, Metric):
            value = float(metric(criterion.answered(output), target))
        elif metric.of == "counts":
            counts = counts_of(criterion, y, target) if counts is None else counts
            value = None if counts is None else metric.function(counts)
        elif metric.of == "scores":
            value = metric.function(criterion, y, target)
        else:
            value = of_numbers(metric, criterion, output, target)
        if value is None:
            others = [
                other for other, m in METRICS.items() if m.of != (metric.of if isinstance(metric, Metric) else "")
            ]
            raise SettingError(
                f"Trainer: the metric {name!r} needs {NEEDS[METRICS[name].of]}; the output {criterion.name} has "
                f"{criterion.kind.replace('_', ' ')} {y.shape} and the targets are {target.dtype} {target.shape}. "
                f"Others are {', '.join(others)}"
            )
        found[name] = value
    return found


def of_numbers(metric: Metric, criterion: Criterion, output: NDArray[Any], target: NDArray[Any]) -> float | None:
    """A metric of numbers in float64; (N,) and (N, 1) are taken for the same."""
    y = np.asarray(criterion.answered(output))
    if y.shape != target.shape and (y.ndim == target.ndim or y.size != target.size or len(y) != len(target)):
        return None
    return metric.function(y.reshape(target.shape).astype(np.float64), target.astype(np.float64)) if y.size else 0.0
