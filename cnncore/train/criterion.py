"""Which form of a loss fits a net's output, and what its predictions then are.

A net that ends in softmax is trained on the logits before it: −log softmax(x) of those is accurate where −log of a
rounded probability is not, and softmax is not applied twice. A loss that does not fit is refused before the first step,
with a remedy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_unmasked
from ..errors import DtypeError, SettingError
from ..nets.net import Net
from ..nets.output_kind import Output
from ..operators.registry import OPS

__all__ = ["Criterion", "criteria"]

# The name of an operator, or (y, target) → (value, backward).
Loss: TypeAlias = str | Callable[[Any, Any], tuple[Any, Callable[[Any], Any]]]

CLASS_LOSSES = ("softmax_cross_entropy", "nll_loss")

SUM_TOLERANCE = 1e-3  # of targets that are probabilities

# The functions that turn logits into predictions, or are inverted for a loss that takes logits.
SOFTMAX, SIGMOID = "softmax", "sigmoid"


class Criterion(NamedTuple):
    """A loss of one output of a net.

    Parameters
    ----------
    name : str
        Name of the output, for errors.
    loss_name : str
        The operator's name; "" for a function of the caller's.
    function : callable
        (y, target) → (value, backward).
    kind : str
        The kind of the output, one of output_kind.KINDS, as the loss determines it.
    scores : int, optional
        The number of the value that the loss takes in place of the output; None: the output itself.
    shape : tuple, optional
        The shape in which it takes the scores.
    inverse : str, optional
        The function to invert before the loss, for outputs that are probabilities without a final softmax or sigmoid.
    answers : str, optional
        The operator that turns what the loss takes into predictions.
    """

    name: str  # of the output, for errors
    loss_name: str
    function: Callable[[Any, Any], tuple[Any, Callable[[Any], Any]]]  # (y, target) → (value, backward)
    kind: str
    scores: int | None = None
    shape: tuple[int | None, ...] | None = None
    inverse: str | None = None
    answers: str | None = None

    def loss(self, y: NDArray[Any], target: ArrayLike) -> tuple[Any, Callable[[Any], NDArray[Any]]]:
        """The value, and a function that maps its gradient to that of y.

        Parameters
        ----------
        y : array
            What the loss takes of the output.
        target : array

        Returns
        -------
        (number, callable)

        Raises
        ------
        DtypeError
            The targets are of another type than the loss takes.
        """
        y_given = y
        y = self.shaped(y)
        if self.loss_name in OPS:
            target = self.checked(y, target)
        slope = None
        if self.inverse is not None:
            y, slope = undone(self.inverse, y)
        value, backward = self.function(y, target)

        def gradient_of_y(gradient: Any) -> NDArray[Any]:
            found = backward(gradient)
            found = found[0] if isinstance(found, tuple) else found
            return (found if slope is None else found * slope).reshape(y_given.shape)

        return value, gradient_of_y

    def counted(self, target: ArrayLike) -> float | None:
        """What the mean loss of these targets is divided by, if not the number of images: targets that are not ignored, with
        their weights where classes have weights.

        Parameters
        ----------
        target : array

        Returns
        -------
        float or None
        """
        target = np.asarray(target)
        if self.loss_name not in CLASS_LOSSES or target.dtype.kind not in "iu":
            return None
        settings = getattr(self.function, "keywords", {})
        kept = target[target != settings.get("ignore_index", OPS[self.loss_name].settings["ignore_index"])]
        weight = settings.get("weight")
        return float(len(kept)) if weight is None else float(np.asarray(weight, np.float64)[kept].sum())

    def shaped(self, y: NDArray[Any]) -> NDArray[Any]:
        """Scores in the shape of the output.

        Parameters
        ----------
        y : array

        Returns
        -------
        array
        """
        return y if self.shape is None else y.reshape(len(y), *(-1 if e is None else e for e in self.shape[1:]))

    def answered(self, y: NDArray[Any]) -> Any:
        """The predictions: probabilities where the output has them, otherwise y.

        Parameters
        ----------
        y : array

        Returns
        -------
        array
        """
        y = self.shaped(y)
        return y if self.answers is None else OPS[self.answers](y)

    def judged(self, y: NDArray[Any], target: ArrayLike) -> tuple[int, int] | None:
        """(correct predictions, all predictions), or None where accuracy is not defined.

        Parameters
        ----------
        y : array
            What the loss takes of the output.
        target : array

        Returns
        -------
        (int, int) or None
        """
        y, target = self.shaped(y), np.asarray(target)
        found = self.classes(y, target)
        if found is not None:
            given, right = found
            counted = right >= 0  # ignore_index is below
            return int(np.count_nonzero((given == right) & counted)), int(np.count_nonzero(counted))
        if self.kind == "independent_probabilities" and target.shape == y.shape and is_yes_or_no(target):
            yes = self.answered(y) > 0.5
            return int(np.count_nonzero(yes == (target > 0.5))), target.size
        return None

    def classes(self, y: NDArray[Any], target: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """(predicted classes, true classes), of images or of positions; None where outputs or targets are not classes.

        Parameters
        ----------
        y : array
            What the loss takes, as from :meth:`shaped`.
        target : array

        Returns
        -------
        (int array, int array) or None
        """
        if self.kind not in ("logits", "probabilities", "log_probabilities") or y.ndim < 2:
            return None
        if target.dtype.kind in "iu" and target.shape == (y.shape[0], *y.shape[2:]):
            return y.argmax(axis=1), target
        soft = target.dtype.kind == "f" and target.shape == y.shape and self.loss_name in (*CLASS_LOSSES, "")
        if soft and (target >= 0).all() and np.abs(target.sum(axis=1) - 1).max(initial=0) < SUM_TOLERANCE:
            return y.argmax(axis=1), target.argmax(axis=1)  # one-hot, or smoothed
        return None

    def checked(self, y: NDArray[Any], target: ArrayLike) -> NDArray[Any]:
        """``target`` as an array, or an error that says what targets this loss takes and how to convert these.

        Parameters
        ----------
        y : array
        target : array

        Returns
        -------
        array

        Raises
        ------
        DtypeError
            The targets are not numbers, or not of the type that the loss takes.
        """
        check_unmasked(self.name, "targets", target)
        target = np.asarray(target)
        place = f"{self.name}: targets of {self.loss_name}"
        if target.dtype.kind in "USO":
            raise DtypeError(
                f"{place} are numbers, got {target.dtype}: names, numbers = numpy.unique(labels, return_inverse=True)"
            )
        if self.loss_name not in CLASS_LOSSES:
            return target
        numbers = target.ndim == y.ndim - 1
        if numbers and target.dtype.kind not in "iu":
            raise DtypeError(
                f"{place} {target.shape} are class numbers, which are integers; got {target.dtype}: use labels.astype(int)"
            )
        if target.shape == y.shape and target.dtype.kind in "iub":
            raise DtypeError(
                f"{place} {target.shape} are probabilities of the classes, {y.dtype}; got {target.dtype}: use "
                f"labels.astype('{y.dtype}'), or labels.argmax(axis=1) of one-hot rows"
            )
        return target


def is_yes_or_no(target: NDArray[Any]) -> bool:
    return target.size > 0 and bool(((target == 0) | (target == 1)).all())


def undone(function: str, y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(x, dx/dy) of probabilities y = function(x): logarithms, or logits; 0 and 1 are replaced by the nearest numbers
    between them.
    """
    tiny = np.finfo(y.dtype).tiny
    if function == SOFTMAX:
        y = np.maximum(y, tiny)
        return np.log(y), 1 / y
    y = np.clip(y, tiny, 1 - np.finfo(y.dtype).epsneg)
    return np.log(y) - np.log1p(-y), 1 / (y * (1 - y))


# ── Choosing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def criteria(net: Net, loss: Loss, settings: Mapping[str, Any] | None = None) -> tuple[Criterion, ...]:
    """The :class:`Criterion` of each output of ``net`` for ``loss``, the name of an operator or a function.

    Parameters
    ----------
    net : Net
    loss : str or callable
    settings : mapping, optional
        Settings and optional arrays of the operator: label_smoothing, weight, pos_weight …

    Returns
    -------
    tuple of Criterion

    Raises
    ------
    SettingError
        The loss does not fit an output; the message says what would.
    """
    names = [net.graph.names[value] for value in net.graph.outputs]
    if settings and not isinstance(loss, str):
        raise SettingError(
            "Trainer: loss_settings are those of a loss that is given by name; bind a function's own to it"
        )
    if settings:
        op = OPS[str(loss)]
        op.full_settings({name: settings[name] for name in settings.keys() - {array.name for array in op.arrays}})
    described = zip(names, net.described_outputs(), strict=True)
    return tuple(criterion(name, output, loss, settings or {}) for name, output in described)


def criterion(name: str, output: Output, loss: Loss, settings: Mapping[str, Any]) -> Criterion:
    """The form of ``loss`` for an output, or an error that says what would fit."""
    kind = output.kind
    if not isinstance(loss, str):
        answers = SOFTMAX if kind == "logits" else "exp" if kind == "log_probabilities" else None
        return Criterion(name, "", loss, kind, answers=answers)
    function = OPS[loss].with_backward
    made = Criterion(name, loss, functools.partial(function, **settings) if settings else function, kind)
    if loss in CLASS_LOSSES:
        return of_classes(made, output)
    if loss == "binary_cross_entropy":
        return of_yes_and_no(made, output)
    if loss == "mean_squared_error" and kind in ("logits", "maps"):
        return made._replace(kind="values" if kind == "logits" else kind)
    return made._replace(answers="exp" if kind == "log_probabilities" else None)


def of_classes(made: Criterion, output: Output) -> Criterion:
    """softmax_cross_entropy, nll_loss."""
    kind, place = made.kind, f"Trainer: the output {made.name} is {made.kind.replace('_', ' ')}"
    if kind == "independent_probabilities":
        raise SettingError(
            f"{place}, not those of exclusive classes: use loss='binary_cross_entropy' with "
            "targets of 0 and 1 of the output's shape, or a net that ends in the scores of its classes"
        )
    if kind in ("values", "integers", "booleans"):
        raise SettingError(
            f"{place}, not scores of classes, which loss={made.loss_name!r} takes: use loss='mean_squared_error' for "
            "numbers, 'binary_cross_entropy' for binary labels, or state what the output is: net.output_kind = 'logits'"
        )
    if made.loss_name == "nll_loss":
        if kind != "log_probabilities":
            raise SettingError(
                f"{place}; loss='nll_loss' takes logarithms of probabilities, as log_softmax returns them: use "
                "loss='softmax_cross_entropy', which suits every output of classes"
            )
        return made._replace(answers="exp")
    if kind == "maps":
        return made._replace(kind="logits", answers=SOFTMAX)
    if kind == "probabilities" and output.function == SOFTMAX and output.scores is not None:
        return made._replace(scores=output.scores, shape=output.shape, answers=SOFTMAX)
    if kind == "probabilities":
        return made._replace(inverse=SOFTMAX)
    return made._replace(answers=SOFTMAX)  # that of log probabilities is the probabilities


def of_yes_and_no(made: Criterion, output: Output) -> Criterion:
    """binary_cross_entropy: of independent logits."""
    if made.kind in ("probabilities", "log_probabilities", "integers", "booleans"):
        raise SettingError(
            f"Trainer: the output {made.name} is {made.kind.replace('_', ' ')}; loss='binary_cross_entropy' takes numbers "
            "that are independent, logits or the output of sigmoid: use loss='softmax_cross_entropy' for exclusive "
            "classes"
        )
    if made.kind != "independent_probabilities":
        return made._replace(kind="independent_probabilities", answers=SIGMOID)
    if output.function == SIGMOID and output.scores is not None:
        return made._replace(scores=output.scores, shape=output.shape, answers=SIGMOID)
    return made._replace(inverse=SIGMOID)
