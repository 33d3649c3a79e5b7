"""The training loop: steps, epochs, validation, callbacks.

One step is forward, loss, backward, update. Everything random (order of the images, augmentation, dropout) follows from the
seed and the number of the epoch or step, so training is a function of its arguments: the same weights bit for bit on any
number of threads, and a continued training gives those of an uninterrupted one.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_unmasked, integer, number
from ..errors import DataError, SettingError
from ..nets.net import Net
from ..operators.registry import OPS
from ..typing import FilePath
from . import checkpoint
from .augment import ORDER_OF_BATCHES, Augment, batch_plan, uniform
from .criterion import Criterion, Loss, criteria
from .optimizers import SGD, Optimizer
from .schedules import Schedule
from .schedules import schedule as schedule_named

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "Epoch", "Evaluation", "Progress", "Trainer"]


class Batches(Protocol):
    """Labelled data that makes its own batches, as :class:`cnncore.train.data.Dataset` does."""

    def __len__(self) -> int: ...

    def batches(
        self, batch_size: int, seed: int | None = None, epoch: int = 0, augment: Any = None
    ) -> Iterable[tuple[NDArray[Any], NDArray[Any]]]: ...


Data: TypeAlias = Batches | ArrayLike


# ── What training reports ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Progress:
    """Where training stands after a step; ``remaining`` is an estimate in seconds."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_second: float
    remaining: float


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought. Validation figures are None where there is no validation data.

    Accuracies are None where no answer is right or wrong: for targets that are real numbers, and outputs that are no classes.
    """

    epoch: int
    loss: float
    accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """A net's predictions for a data set: mean loss, accuracy, confusion[true class, predicted class], probabilities (N, K).

    ``accuracy`` is None, and ``confusion`` has no rows, where answers are not right or wrong: for targets that are real numbers.
    ``probabilities`` are what :meth:`Trainer.predict` returns.
    """

    loss: float
    accuracy: float | None
    confusion: np.ndarray
    probabilities: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)


class Callback:
    """Called while training runs; override what you need. A true return value of ``on_epoch`` ends the training."""

    def on_step(self, trainer: Trainer, progress: Progress) -> object:
        """After every step."""

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> object:
        """After every epoch, validation included."""


class EarlyStopping(Callback):
    """Ends training when ``monitor`` has not improved for ``patience`` epochs, and brings the best parameters back.

    ``monitor=None``: the accuracy on the validation data, or the loss on them where no accuracy is defined.
    """

    def __init__(self, patience: int = 5, monitor: str | None = None) -> None:
        self.patience = integer("EarlyStopping", "patience", patience, 1)
        if monitor is not None and monitor not in Epoch.__dataclass_fields__:
            raise SettingError(
                f"EarlyStopping: monitor {monitor!r} is unknown; choose one of {list(Epoch.__dataclass_fields__)}"
            )
        self.monitor = monitor
        self.best = -np.inf
        self.best_arrays: dict[str, NDArray[Any]] | None = None
        self.waited = 0

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> bool:
        if self.monitor is None:
            self.monitor = "validation_loss" if epoch.validation_accuracy is None else "validation_accuracy"
        value = getattr(epoch, self.monitor)
        if value is None and self.monitor.startswith("validation") and epoch.validation_loss is None:
            raise SettingError(
                f"EarlyStopping: there is no {self.monitor} without validation data; give fit(validation=…)"
            )
        if value is None:
            raise SettingError(
                f"EarlyStopping: {self.monitor} is not defined for these targets and outputs; leave monitor out, or give "
                f"monitor={self.monitor.replace('accuracy', 'loss')!r}"
            )
        merit = value if "accuracy" in self.monitor else -value
        if merit > self.best:
            self.best, self.waited = merit, 0
            self.best_arrays = {name: array.copy() for name, array in trainer.arrays().items()}
            return False
        self.waited += 1
        if self.waited < self.patience:
            return False
        if self.best_arrays is not None:  # None: no epoch had a number to compare
            trainer.restore_arrays(self.best_arrays)
        return True


class Checkpoint(Callback):
    """Writes the state of the training to ``path`` after every epoch; :meth:`Trainer.restore` goes on from there."""

    def __init__(self, path: FilePath, notes: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.notes = notes

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        checkpoint.write(self.path, trainer, self.notes)


# ── The trainer ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Trainer:
    """Trains ``net``: ``Trainer(net, optimizer=SGD(0.01, momentum=0.9), loss="softmax_cross_entropy")``.

    ``loss`` is the name of an operator in :data:`cnncore.OPS` that takes the net's output and the target, or a function
    ``loss(y, target) → (value, backward)`` whose ``backward(1.0)`` starts with the gradient of y. By its name, a loss takes the
    form that suits ``net.output_kind``: of a net that ends in softmax, "softmax_cross_entropy" takes the scores before it, as
    "binary_cross_entropy" takes those before sigmoid; a function gets the output as it is. What does not fit is refused.

    A net with several outputs, such as one with auxiliary classifiers, needs ``loss_weights``, one number per output: the loss
    is the weighted sum over outputs, all with the same target. GoogLeNet's are (1, 0.3, 0.3). What is evaluated and predicted
    is the first output.

    >>> import numpy as np, cnncore
    >>> from cnncore.train import SGD, Trainer
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> g.output(g.global_avg_pool(g.conv(x, 2, kernel_size=3)))
    >>> trainer = Trainer(g.build(seed=0), SGD(0.5))
    >>> rng = np.random.default_rng(0)
    >>> bright = rng.random((8, 1, 6, 6), np.float32); labels = np.arange(8) % 2; bright[labels == 1] += 1
    >>> losses = [trainer.step(bright, labels) for _ in range(40)]
    >>> bool(losses[-1] < losses[0] / 2)
    True
    """

    def __init__(
        self,
        net: Net,
        optimizer: Optimizer | None = None,
        loss: Loss = "softmax_cross_entropy",
        loss_weights: Sequence[float] | None = None,
    ) -> None:
        self.net = net
        outputs = len(net.graph.outputs)
        if loss_weights is None and outputs > 1:
            names = ", ".join(net.graph.names[value] for value in net.graph.outputs)
            raise SettingError(
                f"Trainer: the net has {outputs} outputs ({names}): say what each one's loss counts, loss_weights=(1, 0.3, …), "
                "or train net.with_outputs(…)"
            )
        weights = (1.0,) if loss_weights is None else tuple(loss_weights)
        if len(weights) != outputs:
            raise SettingError(f"Trainer: loss_weights has {len(weights)} numbers; the net has {outputs} outputs")
        self.loss_weights = tuple(number()("Trainer", "loss_weights", weight) for weight in weights)
        self.optimizer = SGD(0.01, momentum=0.9) if optimizer is None else optimizer
        if isinstance(loss, str) and loss not in OPS:
            raise SettingError(
                f"Trainer: loss {loss!r} is no operator; try 'softmax_cross_entropy', or give a function"
            )
        self.loss, self.criteria = loss, criteria(net, loss)
        self.history: list[Epoch] = []
        self._scoring: Net | None = None
        self._gradients: dict[
            str, NDArray[Any]
        ] = {}  # the arrays of the last step: backward writes the next gradients into them

    # ── One step ──

    def step(self, x: NDArray[Any], y: ArrayLike, learning_rate: float | None = None) -> float:
        """One step on a batch: forward, loss, backward, update. Returns the loss before the update."""
        value, _ = self._step(x, y, learning_rate)
        return value

    def _step(self, x: NDArray[Any], target: ArrayLike, learning_rate: float | None) -> tuple[float, NDArray[Any]]:
        """(loss, first output) of a step. The image's own gradient is not computed: nobody asks for it in training."""
        net = self.scoring_net()
        outputs, backward = net.with_backward(x, training=True, needs_gradient=False, repeatable=False)
        self.net.steps = net.steps
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        value, gradients = 0.0, []
        for criterion, output, weight in zip(self.criteria, outputs, self.loss_weights, strict=True):
            loss, loss_backward = criterion.loss(output, target)
            gradients.append(loss_backward(np.full((), weight, output.dtype)))
            value += weight * float(loss)
        if not np.isfinite(value):
            rate = self.optimizer.learning_rate if learning_rate is None else learning_rate
            raise SettingError(
                f"training: the loss is {float(value)} in step {self.optimizer.steps + 1}, at learning rate {rate:.3g}; "
                "try a tenth of that, and look for NaN in the images"
            )
        for name in self.net.frozen & self._gradients.keys():
            del self._gradients[name]  # frozen since the last step
        backward(*gradients, gradients=self._gradients)
        with uninterrupted():  # Ctrl-C finds the parameters of before or after the step, never between
            self.optimizer.update(self.net.parameters, self._gradients, learning_rate, self.net.decays)
        return value, outputs[0]

    def scoring_net(self) -> Net:
        """The net as the loss sees it: the net itself, or one on its arrays that returns the scores before a last softmax."""
        if all(criterion.scores is None for criterion in self.criteria):
            return self.net
        if self._scoring is None:
            pairs = zip(self.criteria, self.net.graph.outputs, strict=True)
            self._scoring = self.net.sharing_arrays([value if c.scores is None else c.scores for c, value in pairs])
        self._scoring.take_settings(self.net)
        return self._scoring

    def _scores(self, x: NDArray[Any]) -> NDArray[Any]:
        """What the loss takes of the first output, in inference mode."""
        outputs = self.scoring_net()(x, training=False)
        return outputs[0] if isinstance(outputs, tuple) else outputs

    # ── Many ──

    def fit(
        self,
        data: Data,
        labels: ArrayLike | None = None,
        *,
        epochs: int = 10,
        batch_size: int = 64,
        validation: Data | tuple[ArrayLike, ArrayLike] | None = None,
        schedule: str | Schedule = "constant",
        augment: Augment | Callable[..., NDArray[Any]] | None = None,
        seed: int = 0,
        callbacks: Iterable[Callback] = (),
        first_epoch: int = 0,
    ) -> list[Epoch]:
        """Train for ``epochs`` over ``data``: a :class:`cnncore.train.data.Dataset`, or an array x with ``labels``.

        Arrays must be of the precision that the net computes in, here as in calls of the net.

        ``validation`` is data of the same kind (for arrays a pair). ``schedule`` is a name in cnncore.train.schedules or a
        function of the fraction of training done. ``augment`` is a :class:`cnncore.train.Augment`, or for arrays any function
        (images, seed, epoch, numbers of the images) → images. Returns the history: one :class:`Epoch` per epoch.

        ``first_epoch`` continues a training of which so many epochs are done: after ``trainer.restore(path)``, the same call
        with ``first_epoch=len(trainer.history)`` gives the weights of the uninterrupted training bit for bit.
        """
        epochs = integer("fit", "epochs", epochs, 1)
        batch_size = integer("fit", "batch_size", batch_size, 1)
        first_epoch = integer("fit", "first_epoch", first_epoch, 0)
        source = batch_source(data, labels)
        held_out = (
            None
            if validation is None
            else batch_source(*(validation if isinstance(validation, tuple) else (validation,)))
        )
        factor = schedule_named(schedule)
        steps = len(batch_plan(len(source), batch_size, augment if isinstance(augment, Augment) else None))
        began, done_before = time.perf_counter(), 0
        for epoch in range(first_epoch, epochs):
            started, total, seen, rate, judged = time.perf_counter(), 0.0, 0, 0.0, []
            for step, (x, y) in enumerate(source.batches(batch_size, seed=seed, epoch=epoch, augment=augment)):
                rate = self.optimizer.learning_rate * factor((epoch * steps + step) / (epochs * steps))
                value, output = self._step(self._as_taken(source, x), y, rate)
                total, seen = total + value * len(x), seen + len(x)
                judged.append(self.criteria[0].judged(output, y))
                elapsed = time.perf_counter() - began
                done = done_before + step + 1
                remaining = elapsed / done * ((epochs - first_epoch) * steps - done)
                speed = seen / max(time.perf_counter() - started, 1e-9)
                self._tell("on_step", callbacks, Progress(epoch, epochs, step, steps, value, speed, remaining))
            done_before += steps
            seconds = time.perf_counter() - started
            checked = None if held_out is None else self.evaluate(held_out)
            record = Epoch(
                epoch=epoch,
                loss=total / max(seen, 1),
                accuracy=share_right(judged),
                validation_loss=None if checked is None else checked.loss,
                validation_accuracy=None if checked is None else checked.accuracy,
                learning_rate=rate,
                images_per_second=seen / max(seconds, 1e-9),
                seconds=time.perf_counter() - started,
            )
            self.history.append(record)
            if self._tell("on_epoch", callbacks, record):
                break
        return self.history

    def _as_taken(self, source: Batches, x: NDArray[Any]) -> NDArray[Any]:
        """Images of a Dataset in the net's precision. Arrays of the user's are taken, or refused, as the net itself does."""
        return x if isinstance(source, Arrays) else x.astype(self.net.dtype, copy=False)

    def _tell(self, event: str, callbacks: Iterable[Callback], what: object) -> bool:
        return any([getattr(callback, event)(self, what) for callback in callbacks])

    def evaluate(self, data: Data, labels: ArrayLike | None = None, batch_size: int = 128) -> Evaluation:
        """Loss, accuracy and confusion table on ``data`` in inference mode."""
        source = batch_source(data, labels)
        outputs, targets = [], []
        for x, y in source.batches(batch_size):
            outputs.append(self._scores(self._as_taken(source, x)))
            targets.append(y)
        output, target = np.concatenate(outputs), np.concatenate(targets)
        criterion = self.criteria[0]
        value, _ = criterion.loss(output, target)
        return evaluation(float(value), criterion, output, target)

    def predict(self, x: NDArray[Any], batch_size: int = 128) -> NDArray[Any]:
        """The net's answers for an array of images: probabilities where its output, or the loss, says that they are; otherwise
        the output.
        """
        answers = self.criteria[0].answered
        return np.concatenate([answers(self._scores(x[i : i + batch_size])) for i in range(0, len(x), batch_size)])

    # ── State ──

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array that training changes: parameters and running statistics, by name."""
        return {**self.net.parameters, **self.net.buffers}

    def save(self, path: FilePath, notes: Mapping[str, Any] | None = None) -> None:
        """Write everything that a continued training needs to one file; ``notes``, plain values (JSON), are kept with it."""
        checkpoint.write(path, self, notes)

    def restore(self, path: FilePath) -> dict[str, Any]:
        """Continue from a file of :meth:`save` or :class:`Checkpoint`: net, optimizer, history. Returns its notes."""
        return checkpoint.restore(path, self, Epoch)

    def restore_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write ``arrays`` (as from :meth:`arrays`) into the net."""
        for target in (self.net.parameters, self.net.buffers):
            for name in target:
                target[name] = arrays[name]


def share_right(judged: Sequence[tuple[int, int] | None]) -> float | None:
    """Right answers over given ones; None where a batch has no such thing, or nothing was judged."""
    pairs = [pair for pair in judged if pair is not None]
    given = sum(given for _, given in pairs)
    if len(pairs) < len(judged) or not given:
        return None
    return sum(right for right, _ in pairs) / given


def evaluation(loss: float, criterion: Criterion, output: NDArray[Any], target: NDArray[Any]) -> Evaluation:
    """An :class:`Evaluation` from what the loss takes of an output."""
    found = criterion.classes(criterion.shaped(output), target)
    confusion = np.zeros((0, 0), np.int64)
    if found is not None:
        given, right = (numbers.reshape(-1) for numbers in found)
        counted = right >= 0
        confusion = np.zeros((criterion.shaped(output).shape[1],) * 2, np.int64)
        np.add.at(confusion, (right[counted], given[counted]), 1)
    accuracy = share_right([criterion.judged(output, target)])
    return Evaluation(loss, accuracy, confusion, criterion.answered(output), target)


# ── Sources of batches ─────────────────────────────────────────────────────────────────────────────────────────────────


class Arrays:
    """An array of inputs and one of targets, in batches like those of a Dataset."""

    def __init__(self, x: Any, y: Any) -> None:
        if len(x) != len(y):
            raise DataError(f"fit: {len(x)} inputs and {len(y)} targets; expected one target for each input")
        if not len(x):
            raise DataError("fit: there are no inputs")
        for name, array in (("inputs", x), ("targets", y)):
            check_unmasked("fit", name, array)
        self.x, self.y = np.asarray(x), np.asarray(y)

    def __len__(self) -> int:
        return len(self.x)

    def batches(
        self, batch_size: int, seed: int | None = None, epoch: int = 0, augment: Any = None
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield (x, y); shuffled by (seed, epoch) unless seed is None."""
        order = np.arange(len(self))
        if seed is not None:
            order = np.argsort(uniform(seed, epoch, ORDER_OF_BATCHES, len(self)), kind="stable")
        on_canvases = augment if isinstance(augment, Augment) else None
        for first, last, canvas in batch_plan(len(self), batch_size, on_canvases):
            chosen = order[first:last]
            x = self.x[chosen]
            if on_canvases:  # takes images with their channels last
                x = np.moveaxis(augment(np.moveaxis(x.astype(np.float32), 1, -1), seed, epoch, chosen, canvas), -1, 1)
                x = x.astype(self.x.dtype, copy=False)
            elif augment is not None:
                x = augment(x, seed, epoch, chosen)
            yield x, self.y[chosen]


def batch_source(data: Data, labels: ArrayLike | None = None) -> Batches:
    """``data`` itself if it makes batches, else the pair of arrays."""
    if hasattr(data, "batches"):
        return cast(Batches, data)
    if labels is None:
        raise DataError("fit: an array of images needs an array of labels: fit(x, labels), or give a Dataset")
    return Arrays(data, labels)


# ── Interrupts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C inside the block takes effect at its end. Other threads than the main one never see it anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived = []
    before = signal.signal(signal.SIGINT, lambda *details: arrived.append(details))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if arrived:
            signal.raise_signal(signal.SIGINT)
