"""How good a classifier is on labelled images: accuracy, per class, calibration, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import integer
from ..errors import DataError, ShapeError

__all__ = ["Report", "calibration", "class_numbers"]

BINS = 15  # of confidence (Guo et al. 2017)


@dataclass(frozen=True)
class Report:
    """Figures of a classifier's answers.

    Parameters
    ----------
    probabilities : array (N, K)
    labels : int array (N,)
        The right classes.
    classes : sequence of str
        Their names.

    Raises
    ------
    ShapeError
        There is not one label for each row, or one name for each column.
    DataError
        There are no answers.

    Examples
    --------
    >>> import numpy as np
    >>> report = Report(np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]]), np.array([0, 0, 0, 1]), ("cat", "dog"))
    >>> report.accuracy, report.confusion.tolist(), round(report.calibration_error, 3)
    (0.75, [[2, 1], [0, 1]], 0.3)
    >>> report.per_class()[0]
    {'class': 'cat', 'images': 3, 'recall': 0.6666666666666666, 'precision': 1.0, 'f1': 0.8}
    """

    probabilities: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: Sequence[str]

    def __post_init__(self) -> None:
        shape, labels = self.probabilities.shape, np.asarray(self.labels)
        if len(shape) != 2 or labels.shape != shape[:1] or len(self.classes) != shape[1]:
            raise ShapeError(
                f"evaluation: probabilities are {shape}, labels {labels.shape}, with {len(self.classes)} classes; expected "
                "(N, K), (N,), K"
            )
        if not shape[0]:
            raise DataError("evaluation: there are no answers to evaluate")

    @property
    def answers(self) -> NDArray[Any]:
        """The most probable class of each image."""
        return self.probabilities.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        """Share of the images that are classified correctly."""
        return self.top(1)

    def top(self, count: int) -> float:
        """Share of the images whose class is among the ``count`` most probable ones.

        Parameters
        ----------
        count : int

        Returns
        -------
        float
        """
        count = integer("top", "count", count, 1)
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]
        return float((order == self.labels[:, None]).any(axis=1).mean())

    @property
    def loss(self) -> float:
        """Mean of −log p of the right class."""
        right = self.probabilities[np.arange(len(self.labels)), self.labels].astype(np.float64)
        return float(-np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean())

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: see :func:`calibration`."""
        rows = calibration(self.probabilities, self.labels)
        return float(sum(count * abs(confidence - accuracy) for count, confidence, accuracy in rows) / len(self.labels))

    @property
    def confusion(self) -> NDArray[Any]:
        """How often each class (row) got each answer (column)."""
        table = np.zeros((len(self.classes),) * 2, np.int64)
        np.add.at(table, (self.labels, self.answers), 1)
        return table

    def per_class(self) -> list[dict[str, Any]]:
        """Number of images, recall, precision and F1 of each class; None where they are not defined.

        Returns
        -------
        list of dict
        """
        table = self.confusion
        found = []
        for number, name in enumerate(self.classes):
            right, images, answers = (
                int(v) for v in (table[number, number], table[number].sum(), table[:, number].sum())
            )
            found.append(
                {
                    "class": name,
                    "images": images,
                    "recall": right / images if images else None,
                    "precision": right / answers if answers else None,
                    "f1": 2 * right / (images + answers) if images + answers else None,
                }
            )
        return found

    def mistakes(self) -> NDArray[Any]:
        """Numbers of the images that are misclassified, the most confident ones first.

        Returns
        -------
        int array
        """
        wrong = np.flatnonzero(self.answers != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong].max(axis=1), kind="stable")]

    def data(self) -> dict[str, Any]:
        """All figures as plain values.

        Returns
        -------
        dict
        """
        rows = calibration(self.probabilities, self.labels)
        return {
            "images": len(self.labels),
            "accuracy": self.accuracy,
            "top_5": self.top(5),
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "calibration": [{"images": n, "confidence": c, "accuracy": a} for n, c, a in rows],
            "classes": self.per_class(),
            "confusion": self.confusion.tolist(),
        }


def calibration(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> list[tuple[int, float, float]]:
    """(number of images, mean confidence, accuracy) in bins of confidence of equal width; empty bins are left out.

    The expected calibration error is the mean of |confidence − accuracy|, weighted by numbers of images.

    Guo, Pleiss, Sun & Weinberger 2017, "On calibration of modern neural networks", arXiv:1706.04599, equation 3.

    Parameters
    ----------
    probabilities : array (N, K)
    labels : int array (N,)
    bins : int, optional

    Returns
    -------
    list of (int, float, float)

    Examples
    --------
    >>> calibration([[0.8, 0.2], [0.8, 0.2], [0.5, 0.5]], [0, 1, 0], bins=2)
    [(1, 0.5, 1.0), (2, 0.8, 0.5)]
    """
    probabilities = np.asarray(probabilities, np.float64)
    confidence, answers = probabilities.max(axis=1), probabilities.argmax(axis=1)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # bins are open below
    found = []
    for number in np.unique(place):
        inside = place == number
        right = answers[inside] == np.asarray(labels)[inside]
        found.append((int(inside.sum()), float(confidence[inside].mean()), float(right.mean())))
    return found


def class_numbers(place: str, names: Sequence[str], classes: Sequence[str] | None, count: int) -> list[int]:
    """The number of each of a data set's classes among those of a model.

    Parameters
    ----------
    place : str
        For errors.
    names : sequence of str
        Names of the data set's classes.
    classes : sequence of str or None
        Names of the model's classes; None where it names none, and classes are numbered alike.
    count : int
        How many the model has.

    Returns
    -------
    list of int

    Raises
    ------
    DataError
        A class is not among the model's.

    Examples
    --------
    >>> class_numbers("evaluate", ["dog", "cat"], ["cat", "dog", "cow"], 3), class_numbers("evaluate", ["2", "7"], None, 10)
    ([1, 0], [2, 7])
    """
    known = [str(number) for number in range(count)] if classes is None else list(classes)
    if set(names) <= set(known):
        return [known.index(name) for name in names]
    if classes is None and len(names) == count:
        return list(range(count))
    unknown = next(name for name in names if name not in known)
    shown = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
    raise DataError(
        f"{place}: class {unknown!r} is not among those of the model: {shown}; rename the folder, or give the names in the "
        "order of the model's outputs with --classes FILE"
    )
