"""The training loop: steps, epochs, validation, callbacks.

One step is forward, loss, backward, update. All randomness (order of the images, augmentation, dropout) is derived from
the seed and the number of the epoch or step, so training is a function of its arguments: bit-identical weights on any
number of threads, and resumed training gives those of uninterrupted training.
"""

from __future__ import annotations

import inspect
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_unmasked, integer, number, seed_number
from ..errors import DataError, SettingError, unknown_name
from ..nets.net import Net
from ..operators.registry import OPS
from ..typing import FilePath, Seed
from . import checkpoint
from .augment import ORDER_OF_BATCHES, Augment, batch_plan, part_of_batch, uniform
from .averaging import WeightAverage, with_batch_statistics
from .clipping import Accumulation, Clipping
from .communication import Communication, Communicator
from .criterion import Criterion, Loss, criteria
from .metrics import METRICS, Metrics, chosen_metrics, measured
from .optimizers import SGD, Optimizer
from .parallel import BatchShards, DataParallel
from .schedules import Schedule, factor_at
from .schedules import schedule as schedule_named

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "Epoch", "Evaluation", "Progress", "Trainer"]


logger = logging.getLogger(__name__)


class Batches(Protocol):
    """Labelled data that yields its own batches, as :class:`cnncore.train.data.Dataset` does."""

    def __len__(self) -> int: ...

    def batches(
        self, batch_size: int, seed: int | None = None, epoch: int = 0, augment: Any = None
    ) -> Iterable[tuple[Any, NDArray[Any]]]: ...


# Labelled data; an array of inputs, or a tuple with one for each input of the net.
Data: TypeAlias = Batches | ArrayLike | tuple[ArrayLike, ...]


# ── What training reports ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Progress:
    """The progress of training after a step; ``remaining`` is an estimate in seconds.

    Parameters
    ----------
    epoch : int
        Number of the epoch, from 0.
    epochs : int
        Their total number.
    step : int
        Number of the step in its epoch, from 0.
    steps : int
        Steps of one epoch.
    loss : float
        Loss of this step, before the update.
    images_per_second : float
        In this epoch so far.
    remaining : float
        Until the last epoch is done.

    Examples
    --------
    >>> from cnncore.train import Progress
    >>> progress = Progress(epoch=0, epochs=4, step=9, steps=40, loss=0.5, images_per_second=800.0, remaining=6.0)
    >>> f"{(progress.epoch + (progress.step + 1) / progress.steps) / progress.epochs:.1%} done, {progress.remaining:.0f} s left"
    '6.2% done, 6 s left'
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_second: float
    remaining: float


@dataclass(frozen=True)
class Epoch:
    """The results of one epoch. Validation figures are None where there is no validation data.

    Accuracies are None where accuracy is not defined: for targets that are real numbers, and outputs that are not
    scores of classes.

    Parameters
    ----------
    epoch : int
        Its number, from 0.
    loss : float
        Mean over the training images, each before the update of its step.
    accuracy : float or None
        Fraction of the training images that were classified correctly.
    validation_loss, validation_accuracy : float or None
        Figures of the validation data, after the epoch.
    learning_rate : float
        Learning rate of the last step.
    images_per_second : float
        In training.
    seconds : float
        Training and validation together.
    validation_metrics : dict of str to float
        The trainer's metrics on the validation data, by name.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1); g.output(g.linear(g.global_avg_pool(x), 2))
    >>> x, labels = np.ones((4, 1, 2, 2), np.float32), np.array([0, 1, 0, 0])
    >>> trainer = cnncore.train.Trainer(g.build())
    >>> epoch = trainer.fit(x, labels, epochs=1)[0]
    >>> epoch.epoch, epoch.learning_rate, epoch.validation_loss
    (0, 0.01, None)
    """

    epoch: int
    loss: float
    accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    images_per_second: float
    seconds: float
    validation_metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """A net's predictions on a data set: mean loss, accuracy, confusion[true class, predicted class], probabilities (N,
    K).

    Parameters
    ----------
    loss : float
    accuracy : float or None
        None where accuracy is not defined: for targets that are real numbers.
    confusion : int64 array (K, K)
        How often each true class (row) was predicted as each class (column); empty where ``accuracy`` is None.
    probabilities : array (N, K)
        What :meth:`Trainer.predict` returns.
    labels : array
        The targets.
    metrics : dict of str to float
        The trainer's metrics, by name.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1); g.output(g.linear(g.global_avg_pool(x), 2))
    >>> x, labels = np.ones((4, 1, 2, 2), np.float32), np.array([0, 1, 0, 0])
    >>> trainer = cnncore.train.Trainer(g.build())
    >>> _ = trainer.fit(x, labels, epochs=20)
    >>> found = trainer.evaluate(x, labels)
    >>> found.accuracy, found.confusion.tolist(), found.probabilities.shape
    (0.75, [[3, 0], [1, 0]], (4, 2))
    """

    loss: float
    accuracy: float | None
    confusion: np.ndarray
    probabilities: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    metrics: Mapping[str, float] = field(default_factory=dict)


class Callback:
    """Hooks that are called during training; override those you need.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> class Printed(cnncore.train.Callback):
    ...     def on_step(self, trainer, progress):
    ...         print("step", progress.step, "of", progress.steps)
    ...     def on_epoch(self, trainer, epoch):
    ...         print("epoch", epoch.epoch)
    ...         return True                                  # stop
    ...     def on_end(self, trainer):
    ...         print("end")
    >>> g = cnncore.Graph(); x = g.input(channels=1); g.output(g.linear(g.global_avg_pool(x), 2))
    >>> x, labels = np.ones((4, 1, 2, 2), np.float32), np.array([0, 1, 0, 1])
    >>> _ = cnncore.train.Trainer(g.build()).fit(x, labels, epochs=9, batch_size=2, callbacks=[Printed()])
    step 0 of 2
    step 1 of 2
    epoch 0
    end
    """

    def on_step(self, trainer: Trainer, progress: Progress) -> object:
        """After every step.

        Parameters
        ----------
        trainer : Trainer
        progress : Progress

        Returns
        -------
        object
            Ignored.
        """

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> object:
        """After every epoch, validation included.

        Parameters
        ----------
        trainer : Trainer
        epoch : Epoch

        Returns
        -------
        object
            A true value stops training.
        """

    def on_end(self, trainer: Trainer) -> object:
        """When training ends: after the last epoch, when a callback stops it, and after Ctrl-C or an error.

        Parameters
        ----------
        trainer : Trainer

        Returns
        -------
        object
            Ignored.
        """


class EarlyStopping(Callback):
    """Stops training when ``monitor`` has not improved for ``patience`` epochs.

    However training ends, also by Ctrl-C, the net then has the parameters of the best epoch.

    Parameters
    ----------
    patience : int, optional
        1 or more.
    monitor : str, optional
        A field of :class:`Epoch`; higher is better for accuracies, lower for everything else. Or one of the trainer's
        metrics, on the validation data. None: the accuracy on the validation data, or the loss where accuracy is not
        defined.

    Raises
    ------
    SettingError
        ``patience`` is below 1, or ``monitor`` is neither a field of :class:`Epoch` nor a metric.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> from cnncore.train import EarlyStopping, SGD, Trainer
    >>> g = cnncore.Graph(); x = g.input(channels=1); g.output(g.linear(g.global_avg_pool(x), 2))
    >>> x, labels = np.ones((4, 1, 2, 2), np.float32), np.array([0, 1, 0, 1])
    >>> trainer = Trainer(g.build(), SGD(0.0))                # learns nothing, so that no epoch is better than the first
    >>> len(trainer.fit(x, labels, epochs=9, validation=(x, labels), callbacks=[EarlyStopping(patience=2)]))
    3
    """

    def __init__(self, patience: int = 5, monitor: str | None = None) -> None:
        self.patience = integer("EarlyStopping", "patience", patience, 1)
        known = [*Epoch.__dataclass_fields__, *METRICS]
        if monitor is not None and monitor not in known:
            raise SettingError(unknown_name("EarlyStopping", "monitor", monitor, known))
        self.monitor = monitor
        self.best = -np.inf
        self.best_arrays: dict[str, NDArray[Any]] | None = None
        self.waited = 0

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> bool:
        """Compare the epoch with the best one so far.

        Parameters
        ----------
        trainer : Trainer
        epoch : Epoch

        Returns
        -------
        bool
            Whether training stops.

        Raises
        ------
        SettingError
            The epoch has no such metric: there is no validation data, or accuracy is not defined for these targets and
            outputs.
        """
        if self.monitor is None:
            self.monitor = "validation_loss" if epoch.validation_accuracy is None else "validation_accuracy"
        value = self._value(epoch)
        if value is None and self.monitor.startswith("validation") and epoch.validation_loss is None:
            raise SettingError(
                f"EarlyStopping: there is no {self.monitor} without validation data; pass fit(…, validation=…)"
            )
        if value is None:
            raise SettingError(
                f"EarlyStopping: {self.monitor} is not defined for these targets and outputs; leave monitor out, or give "
                f"monitor={self.monitor.replace('accuracy', 'loss')!r}"
            )
        larger = METRICS[self.monitor].larger_is_better if self.monitor in METRICS else "accuracy" in self.monitor
        merit = value if larger else -value
        if merit > self.best:
            self.best, self.waited = merit, 0
            self.best_arrays = {name: array.copy() for name, array in trainer.arrays().items()}
            return False
        self.waited += 1
        return self.waited >= self.patience

    def _value(self, epoch: Epoch) -> float | None:
        """What is compared: a metric, or a field of the epoch, such as "accuracy", which is a metric's name as well."""
        monitor = str(self.monitor)
        if monitor in epoch.validation_metrics:
            return epoch.validation_metrics[monitor]
        if monitor in Epoch.__dataclass_fields__:
            return getattr(epoch, monitor)
        raise SettingError(
            f"EarlyStopping: the epoch has no metric {monitor!r}; give Trainer(…, metrics={monitor!r}) and validation data"
        )

    def on_end(self, trainer: Trainer) -> None:
        """Restore the best parameters.

        Parameters
        ----------
        trainer : Trainer
        """
        if self.best_arrays is not None:  # None: no epoch was completed, or the metric was NaN in all of them
            trainer.restore_arrays(self.best_arrays)


class Lines(Callback):
    """Prints a line per epoch."""

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Print the results of the epoch; of several ranks, the first one does.

        Parameters
        ----------
        trainer : Trainer
        epoch : Epoch
        """
        if not trainer.writes_files:
            return
        words = [f"epoch {epoch.epoch + 1}", f"loss {epoch.loss:.4f}"]
        words += [] if epoch.accuracy is None else [f"accuracy {epoch.accuracy:.2%}"]
        words += [] if epoch.validation_loss is None else [f"validation loss {epoch.validation_loss:.4f}"]
        words += [] if epoch.validation_accuracy is None else [f"validation accuracy {epoch.validation_accuracy:.2%}"]
        print("  ".join([*words, f"{epoch.seconds:.1f} s"]), flush=True)


class NotebookBar(Callback):
    """A bar of tqdm's that moves with every step; for notebooks, where lines that are redrawn are not."""

    def __init__(self, bars: Any) -> None:
        self.bars = bars
        self.bar: Any = None

    def on_step(self, trainer: Trainer, progress: Progress) -> None:
        """Move the bar.

        Parameters
        ----------
        trainer : Trainer
        progress : Progress
        """
        if not trainer.writes_files:
            return
        done = progress.epoch * progress.steps + progress.step
        if self.bar is None:
            self.bar = self.bars(total=progress.epochs * progress.steps, initial=done, unit="step")
        self.bar.set_postfix(
            {"epoch": f"{progress.epoch + 1}/{progress.epochs}", "loss": f"{progress.loss:.3f}"}, False
        )
        self.bar.update()

    def on_end(self, trainer: Trainer) -> None:
        """Leave the bar as it is.

        Parameters
        ----------
        trainer : Trainer
        """
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def shown(verbose: bool | int) -> list[Callback]:
    """What shows training: nothing, or a line per epoch, and in a notebook with tqdm a bar."""
    if not verbose:
        return []
    try:
        if "ipykernel" not in sys.modules:
            return [Lines()]
        from tqdm.auto import tqdm
    except ImportError:
        return [Lines()]
    return [NotebookBar(tqdm), Lines()]


class Checkpoint(Callback):
    """Writes the state of training to ``path`` after every epoch; :meth:`Trainer.restore` resumes from it.

    Parameters
    ----------
    path : path
    notes : mapping, optional
        Plain values (JSON) to keep with it.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> from cnncore.train import Checkpoint, Trainer
    >>> g = cnncore.Graph(); x = g.input(channels=1); g.output(g.linear(g.global_avg_pool(x), 2))
    >>> x, labels = np.ones((4, 1, 2, 2), np.float32), np.array([0, 1, 0, 1])
    >>> _ = Trainer(g.build()).fit(x, labels, epochs=2, callbacks=[Checkpoint("state.safetensors", {"data": "ones"})])
    >>> resumed = Trainer(g.build()); resumed.restore("state.safetensors"), len(resumed.history)
    ({'data': 'ones'}, 2)
    """

    def __init__(self, path: FilePath, notes: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.notes = notes

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Write the checkpoint; of several ranks, the first one does.

        Parameters
        ----------
        trainer : Trainer
        epoch : Epoch
        """
        if trainer.writes_files:
            checkpoint.write(self.path, trainer, self.notes)


# ── The trainer ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Trainer:
    """Trains ``net``: ``Trainer(net, optimizer=SGD(0.01, momentum=0.9), loss="softmax_cross_entropy")``.

    A loss given by name is applied according to ``net.output_kind``: if a net ends in softmax, "softmax_cross_entropy"
    is computed from the logits before it, as "binary_cross_entropy" is from those before sigmoid; a function receives
    the output unchanged. For a net with several outputs, such as one with auxiliary classifiers, the loss is the
    weighted sum over the outputs, all with the same target. Evaluation and prediction use the first output.

    Parameters
    ----------
    net : Net
        Its parameters and running statistics are changed in place.
    optimizer : Optimizer, optional
        By default ``SGD(0.01, momentum=0.9)``.
    loss : str or callable, optional
        The name of an operator in :data:`cnncore.OPS` that takes the net's output and the target, or a function
        ``loss(y, target) → (value, backward)`` whose ``backward(1.0)`` starts with the gradient of y.
    loss_weights : sequence of float, optional
        One number per output; required if there are several. GoogLeNet's are (1, 0.3, 0.3).
    communicator : Communicator, optional
        Train together with other processes, as :mod:`cnncore.distributed` makes them: all call the same methods with the
        same data, and each computes its part. None: this process alone.
    shards : int, optional
        Cut every batch into this many logical shards. Any number of ranks up to it then gives the same weights, bit for
        bit, one process without communicator included. None: with a communicator 8, or the power of two that gives each
        rank one; otherwise batches stay whole. A loss of your own must be a mean over the images.
    reduction : {"tree", "mpi"}, optional
        How gradients are added over ranks: along a fixed tree, or in the communicator's own order, which depends on their
        number.
    statistics : {"batch", "shard"}, optional
        Over what batch normalisation takes its statistics where batches are cut: over the whole batch, or each shard.
    loss_settings : mapping, optional
        Settings of a loss that is given by name: ``{"label_smoothing": 0.1}``, ``{"weight": weights}`` of the classes,
        ``{"pos_weight": weights}`` of binary labels. They apply to the validation loss, too.
    clip_norm, clip_value : float, optional
        Limit the norm of all gradients together, and each number of them, before every update
        (:class:`cnncore.train.clipping.Clipping`).
    accumulate : int, optional
        How many batches make one update, by their mean gradient: a large batch in less memory. Learning rates, and the
        steps of schedules, are those of the batches.
    averaging : WeightAverage, optional
        An average of the weights over the updates, ``ExponentialAverage()`` or ``StochasticWeightAverage()``:
        :meth:`averaged_net` returns the net that has them.
    metrics : str, sequence or mapping, optional
        What :meth:`evaluate` measures beside the loss: names in :data:`cnncore.train.METRICS`, and functions
        (predictions, targets) → number.

    Raises
    ------
    SettingError
        The loss is not an operator or does not fit an output, ``loss_weights`` does not match the number of outputs, or
        ``loss_settings`` are not those of the loss, or weights of classes where batches are cut into shards.

    Examples
    --------
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

    The halves of a step, and what is measured:

    >>> loss = trainer.compute_gradients(bright, labels); sorted(trainer.gradients)
    ['conv.b', 'conv.w']
    >>> trainer.apply_gradients(learning_rate=0.1)
    >>> trainer.evaluate(bright, labels).accuracy, trainer.predict(bright).shape
    (1.0, (8, 2))
    >>> trainer.scoring_net() is trainer.net                 # its outputs are logits already
    True

    A whole training, from a file on:

    >>> trainer.save("training.safetensors", {"author": "me"})
    >>> again = Trainer(g.build(seed=0), SGD(0.5))
    >>> again.restore("training.safetensors")
    {'author': 'me'}
    >>> kept = {name: array.copy() for name, array in again.arrays().items()}
    >>> [epoch.epoch for epoch in again.fit(bright, labels, epochs=2, batch_size=4)]
    [0, 1]
    >>> again.restore_arrays(kept); bool((again.net(bright) == trainer.net(bright)).all())
    True
    >>> averaging = Trainer(g.build(seed=0), averaging=cnncore.train.StochasticWeightAverage())
    >>> _ = averaging.step(bright, labels); averaging.averaged_net()
    <net input (N, 1, ?, ?) → global_avg_pool: 2 nodes, 20 parameters, float32>
    """

    def __init__(
        self,
        net: Net,
        optimizer: Optimizer | None = None,
        loss: Loss = "softmax_cross_entropy",
        loss_weights: Sequence[float] | None = None,
        communicator: Communicator | None = None,
        shards: int | None = None,
        reduction: str = "tree",
        statistics: str = "batch",
        loss_settings: Mapping[str, Any] | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        averaging: WeightAverage | None = None,
        metrics: Metrics = (),
    ) -> None:
        self.net = net
        outputs = len(net.graph.outputs)
        if loss_weights is None and outputs > 1:
            names = ", ".join(net.graph.names[value] for value in net.graph.outputs)
            raise SettingError(
                f"Trainer: the net has {outputs} outputs ({names}): give the weight of each, loss_weights=(1, 0.3, …), "
                "or train net.with_outputs(…)"
            )
        weights = (1.0,) if loss_weights is None else tuple(loss_weights)
        if len(weights) != outputs:
            raise SettingError(f"Trainer: loss_weights has {len(weights)} numbers; the net has {outputs} outputs")
        self.loss_weights = tuple(number()("Trainer", "loss_weights", weight) for weight in weights)
        self.optimizer = SGD(0.01, momentum=0.9) if optimizer is None else optimizer
        if isinstance(loss, str) and loss not in OPS:
            way = "Use 'softmax_cross_entropy', another loss of cnncore.OPS, or a function."
            raise SettingError(unknown_name("Trainer", "loss", loss, OPS, way))
        self.loss, self.criteria = loss, criteria(net, loss, loss_settings)
        self.history: list[Epoch] = []
        self._scoring: Net | None = None
        whole = communicator is None and shards is None
        if not whole and "weight" in (loss_settings or {}):
            raise SettingError(
                "Trainer: with weights of classes the loss is a mean over the whole batch, which shards do not see; omit "
                "shards and communicator, or the weights"
            )
        self._parallel = None if whole else DataParallel(communicator, shards, reduction, statistics)
        self.clipping, self.accumulation = Clipping(clip_norm, clip_value), Accumulation(accumulate)
        self.averaging, self.metrics = averaging, chosen_metrics(metrics)
        self._gradients: dict[
            str, NDArray[Any]
        ] = {}  # the arrays of the last step: backward writes the next gradients into them

    # ── One step ──

    def step(
        self, x: NDArray[Any] | tuple[NDArray[Any], ...], y: ArrayLike, learning_rate: float | None = None
    ) -> float:
        """One step on a batch: forward, loss, backward, update.

        With ``accumulate``, the update follows the last of this many batches.

        Parameters
        ----------
        x : array (N, C, *spatial), or a tuple of arrays
            In the net's dtype; one array per input.
        y : array
            Targets of the loss.
        learning_rate : float, optional
            By default the optimizer's.

        Returns
        -------
        float
            The loss before the update.

        Raises
        ------
        SettingError
            The loss is infinite or NaN; the parameters are as before.
        DtypeError
            The targets are not of the type that the loss takes.
        """
        value, _ = self._step(self._batch(x, y), learning_rate)
        return value

    def compute_gradients(self, x: NDArray[Any] | tuple[NDArray[Any], ...], y: ArrayLike) -> float:
        """The first half of a step: forward, loss, backward. The gradients are then in :attr:`gradients`.

        Between the halves gradients may be looked at, or changed in place: clipped, or added up over batches.

        Parameters
        ----------
        x : array (N, C, *spatial), or a tuple of arrays
            Images in the precision that the net computes in; one array per input.
        y : array
            Targets of the loss.

        Returns
        -------
        float
            The loss.

        Raises
        ------
        SettingError
            The loss is infinite or NaN.
        DtypeError
            The targets are of another type than the loss takes.
        """
        value, _ = self._compute_gradients(self._batch(x, y), self.optimizer.learning_rate)
        return value

    def apply_gradients(self, learning_rate: float | None = None) -> None:
        """The second half of a step: gradients are clipped, and the optimizer changes the parameters by them.

        Parameters
        ----------
        learning_rate : float, optional
            By default the optimizer's.
        """
        self.clipping.apply(self._gradients)
        with uninterrupted():  # Ctrl-C leaves the parameters of before or after the step, never a mixture
            self.optimizer.update(self.net.parameters, self._gradients, learning_rate, self.net.decays)
            if self.averaging is not None:
                self.averaging.update(self.arrays())

    @property
    def gradients(self) -> dict[str, NDArray[Any]]:
        """Parameter name → gradient of the last :meth:`step` or :meth:`compute_gradients`; the next writes into these arrays."""
        return self._gradients

    @property
    def communicator(self) -> Communicator | None:
        """Communicator of the processes that train together; None where this one trains alone."""
        return None if self._parallel is None else self._parallel.communicator

    @property
    def shards(self) -> int | None:
        """Into how many shards a batch is cut; None where it stays whole."""
        return None if self._parallel is None else self._parallel.shards

    @property
    def communication(self) -> Communication:
        """What communication has cost so far: seconds, those that were waited for, bytes."""
        return Communication() if self._parallel is None else self._parallel.channel.cost

    @property
    def writes_files(self) -> bool:
        """Whether this process writes what there is one of: checkpoints, reports, lines of progress."""
        return self._parallel is None or self._parallel.communicator.rank == 0

    def _batch(self, x: NDArray[Any] | tuple[NDArray[Any], ...], y: ArrayLike) -> BatchShards:
        """What this process computes of a batch."""
        xs = x if isinstance(x, tuple) else (x,)
        if self._parallel is None:
            return BatchShards(xs, y, 0, len(xs[0]))
        return self._parallel.batch(xs, np.asarray(y))

    def _step(self, batch: BatchShards, learning_rate: float | None) -> tuple[float, tuple[int, int] | None]:
        """(loss, (answers that are right, answers that count)) of a step."""
        rate = self.optimizer.learning_rate if learning_rate is None else learning_rate
        value, judged = self._compute_gradients(batch, rate)
        if self.accumulation.batches > 1:
            self.accumulation.add(self._gradients, self._counted(batch))
            if self.accumulation.complete:
                self._finish_accumulation(learning_rate)
        else:
            self.apply_gradients(learning_rate)
        return value, judged

    def _counted(self, batch: BatchShards) -> float:
        """What the loss of a batch, a mean, was divided by: images, or targets that are not ignored."""
        if self._parallel is not None:
            return self._parallel.counted
        counted = self.criteria[0].counted(batch.y)
        return batch.count if counted is None else counted

    def _finish_accumulation(self, learning_rate: float | None) -> None:
        """The update after several batches, if there were any since the last."""
        if self.accumulation.pending:
            self.accumulation.finish(self._gradients)
            self.apply_gradients(learning_rate)

    def _compute_gradients(self, batch: BatchShards, rate: float) -> tuple[float, tuple[int, int] | None]:
        """(loss, answers) of a batch. The gradient of the images is not computed: training does not need it."""
        if self._parallel is not None:
            return self._compute_gradients_in_shards(self._parallel, batch, rate)
        net, target = self.scoring_net(), batch.y
        outputs, backward = net.with_backward(*batch.x, training=True, needs_gradient=False, repeatable=False)
        self.net.steps = net.steps
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        value, gradients = 0.0, []
        for criterion, output, weight in zip(self.criteria, outputs, self.loss_weights, strict=True):
            loss, loss_backward = criterion.loss(output, target)
            gradients.append(loss_backward(np.full((), weight, output.dtype)))
            value += weight * float(loss)
        self._check_loss(value, rate)
        for name in self.net.frozen & self._gradients.keys():
            del self._gradients[name]  # frozen since the last step
        backward(*gradients, gradients=self._gradients)
        return value, self.criteria[0].judged(outputs[0], target)

    def _check_loss(self, value: float, rate: float, where: str = "") -> None:
        if not np.isfinite(value):
            raise SettingError(
                f"training: the loss is {float(value)} in step {self.optimizer.steps + 1}{where}, at learning rate {rate:.3g}; "
                "try a tenth of that, and look for NaN in the images"
            )

    def _compute_gradients_in_shards(
        self, parallel: DataParallel, batch: BatchShards, rate: float
    ) -> tuple[float, tuple[int, int] | None]:
        """The same of a batch that is cut into shards, on all ranks together."""
        net = self.scoring_net()
        step, self.net.steps = self.net.steps, self.net.steps + 1
        with parallel.failing_together():
            figures, self._gradients, statistics = parallel.gradients(
                net, self.criteria, self.loss_weights, batch, step
            )
            for shard in np.flatnonzero(~np.isfinite(figures[:, 0])):
                self._check_loss(figures[shard, 0], rate, parallel.place_of(int(shard), batch.count))
        for name, array in statistics.items():
            self.net.buffers[name] = array
        right, counted = figures[:, 1].sum(), figures[:, 2].sum()
        return parallel.sum_of(figures[:, 0]), None if np.isnan(right) else (int(right), int(counted))

    def scoring_net(self) -> Net:
        """The net that the loss is computed from: the net itself, or one that shares its arrays and returns the logits
        before a final softmax or sigmoid.

        Returns
        -------
        Net
        """
        if all(criterion.scores is None for criterion in self.criteria):
            return self.net
        if self._scoring is None:
            pairs = zip(self.criteria, self.net.graph.outputs, strict=True)
            self._scoring = self.net.sharing_arrays([value if c.scores is None else c.scores for c, value in pairs])
        self._scoring.take_settings(self.net)
        return self._scoring

    def _scores(self, *xs: NDArray[Any]) -> NDArray[Any]:
        """What the loss takes of the first output, in inference mode."""
        outputs = self.scoring_net()(*xs, training=False)
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
        seed: Seed = 0,
        callbacks: Iterable[Callback] = (),
        first_epoch: int = 0,
        verbose: bool | int = False,
    ) -> list[Epoch]:
        """Train for ``epochs`` over ``data``: a :class:`cnncore.train.data.Dataset`, or an array x with ``labels``.

        After ``trainer.restore(path)``, the same call with ``first_epoch=len(trainer.history)`` gives weights that are
        bit-identical to those of uninterrupted training.

        Parameters
        ----------
        data : Dataset, array (N, C, *spatial) or tuple of arrays
            Arrays must have the net's dtype, as in calls of the net; a tuple has one for each input.
        labels : array, optional
            The targets, one for each input; required if ``data`` is an array.
        epochs : int, optional
            Counted from the start of training, including those before ``first_epoch``.
        batch_size : int, optional
        validation : Dataset or (array, array), optional
            Data of the same form, evaluated after every epoch. Not those of a final test if the epoch
            (:class:`EarlyStopping`) or a setting is chosen by them: pass those to :meth:`evaluate` once, at the end.
        schedule : str or callable, optional
            A name in cnncore.train.schedules, or a function of the completed fraction of training.
        augment : Augment or callable, optional
            For arrays also any function (images, seed, epoch, numbers of the images) → images. Mixup and changes of
            colour are for a Dataset, which knows its classes and has pixels from 0 to 255.
        seed : int or numpy.random.Generator, optional
            Determines the order of the images and their augmentation.
        callbacks : iterable of Callback, optional
        first_epoch : int, optional
            The number of epochs that are already complete.
        verbose : bool, optional
            Print a line per epoch; in a notebook with tqdm (``pip install 'cnncore[progress]'``) show a bar as well.

        Returns
        -------
        list of Epoch
            The history: one entry per epoch, including those before a restored checkpoint.

        Raises
        ------
        SettingError
            A setting is out of range, or the loss becomes infinite or NaN.
        DataError
            There are no inputs, or not exactly one target for each.
        """
        epochs = integer("fit", "epochs", epochs, 1)
        batch_size = integer("fit", "batch_size", batch_size, 1)
        first_epoch = integer("fit", "first_epoch", first_epoch, 0)
        seed = seed_number("fit", "seed", seed)
        source = batch_source(data, labels)
        held_out = (
            None
            if validation is None
            else batch_source(*(validation if isinstance(validation, tuple) else (validation,)))
        )
        factor = schedule_named(schedule)
        callbacks = [*callbacks, *shown(verbose)]
        if self._parallel is not None:
            self._check_agreement(self._parallel, source, epochs, batch_size, seed, first_epoch)
        with self._together():
            try:
                numbers = range(first_epoch, epochs)
                self._run_epochs(source, held_out, numbers, batch_size, factor, augment, seed, callbacks)
            finally:
                for callback in callbacks:
                    if hasattr(callback, "on_end"):  # the youngest of the hooks, which older callbacks lack
                        callback.on_end(self)
        return self.history

    def _run_epochs(
        self,
        source: Batches,
        held_out: Batches | None,
        numbers: range,
        batch_size: int,
        factor: Schedule,
        augment: Any,
        seed: int,
        callbacks: Iterable[Callback],
    ) -> None:
        """The epochs of these numbers, until a callback ends them."""
        first_epoch, epochs = numbers.start, numbers.stop
        steps = len(batch_plan(len(source), batch_size, augment if isinstance(augment, Augment) else None))
        began, done_before = time.perf_counter(), 0
        for epoch in numbers:
            started, total, seen, rate, judged = time.perf_counter(), 0.0, 0, 0.0, []
            for step, batch in enumerate(self._batches(source, batch_size, seed=seed, epoch=epoch, augment=augment)):
                rate = self.optimizer.learning_rate * factor_at(factor, epoch * steps + step, epochs * steps)
                value, answers = self._step(batch, rate)
                total, seen = total + value * batch.count, seen + batch.count
                judged.append(answers)
                elapsed = time.perf_counter() - began
                done = done_before + step + 1
                remaining = elapsed / done * ((epochs - first_epoch) * steps - done)
                speed = seen / max(time.perf_counter() - started, 1e-9)
                self._tell("on_step", callbacks, Progress(epoch, epochs, step, steps, value, speed, remaining))
            self._finish_accumulation(rate)  # of the batches that are left
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
                validation_metrics={} if checked is None else checked.metrics,
            )
            if self._parallel is not None:  # rank 0's times, so that callbacks decide alike
                record = self._parallel.broadcast(record)
            self.history.append(record)
            logger.info("%s of %d epochs", record, epochs)
            if self._tell("on_epoch", callbacks, record):
                break

    def _together(self) -> AbstractContextManager[None]:
        """An error inside ends the work of all ranks."""
        return nullcontext() if self._parallel is None else self._parallel.failing_together()

    def _check_agreement(self, parallel: DataParallel, source: Batches, *numbers: int) -> None:
        """Raise unless all ranks begin the same training."""
        net, optimizer = self.net, self.optimizer
        with parallel.failing_together():
            if net.auto_tune and parallel.communicator.size > 1:
                raise SettingError(
                    "training: a net that tunes itself (net.auto_tune) would choose other algorithms on each rank; call "
                    "net.tune on one machine and give all ranks that net"
                )
            parallel.check_agreement(
                {
                    "epochs, batch size, seed and first epoch": numbers,
                    "the number of images": len(source),
                    "shards, reduction and statistics": (parallel.shards, parallel.reduction, parallel.statistics),
                    "the optimizer": (type(optimizer).__name__, optimizer.learning_rate, optimizer.weight_decay),
                    "the steps done": (optimizer.steps, net.steps),
                    "the seed, precision and algorithms of the net": (
                        net.seed,
                        net.dtype,
                        net.exact,
                        net.tuned.as_data(),
                    ),
                    "the frozen parameters": sorted(net.frozen),
                },
                self.arrays() | {f"{name}/{i}": a for name, s in optimizer.state.items() for i, a in enumerate(s)},
            )

    def _batches(self, source: Batches, batch_size: int, **settings: Any) -> Iterator[BatchShards]:
        """The batches of a source, or what this process computes of them."""
        parallel, augment = self._parallel, settings.get("augment")
        if parallel is None:
            for x, y in source.batches(batch_size, **settings):
                soft = y.dtype.kind == "f" and not isinstance(source, Arrays)  # of mixup
                yield BatchShards(self.as_taken(source, x), y.astype(self.net.dtype) if soft else y, 0, len(y))
        elif "ranks" not in inspect.signature(source.batches).parameters:
            for x, y in source.batches(batch_size, **settings):
                yield parallel.batch(self.as_taken(source, x), y)
        else:
            plan = batch_plan(len(source), batch_size, augment if isinstance(augment, Augment) else None)
            parts = cast(Any, source).batches(batch_size, **settings, rank=parallel.own, ranks=parallel.shards)
            for (first, last, _), (x, y) in zip(plan, parts, strict=True):
                begin, _ = part_of_batch(first, last, parallel.own, parallel.shards)
                yield BatchShards(self.as_taken(source, x), y, begin - first, last - first)

    def as_taken(self, source: Batches, x: Any) -> tuple[NDArray[Any], ...]:
        """Images of a Dataset in the net's precision and layout, one array per input. The user's own arrays are accepted or
        refused as by the net itself.

        Parameters
        ----------
        source : Dataset, or the source of batches of arrays
        x : array (N, C, *spatial), or a tuple of arrays

        Returns
        -------
        tuple of array
        """
        xs = x if isinstance(x, tuple) else (x,)
        if isinstance(source, Arrays):
            return xs
        rows = zip(self.net.graph.inputs, xs, strict=True)
        return tuple(row.arranged(x.astype(self.net.dtype, copy=False)) for row, x in rows)

    def _tell(self, event: str, callbacks: Iterable[Callback], what: object) -> bool:
        told = any([getattr(callback, event)(self, what) for callback in callbacks])
        return told if self._parallel is None or event == "on_step" else self._parallel.agreed(told)

    def evaluate(self, data: Data, labels: ArrayLike | None = None, batch_size: int = 128) -> Evaluation:
        """Loss, accuracy, confusion matrix and metrics on ``data`` in inference mode.

        Parameters
        ----------
        data : Dataset, array (N, C, *spatial) or tuple of arrays
        labels : array, optional
            The targets; required if ``data`` is an array.
        batch_size : int, optional

        Returns
        -------
        Evaluation

        Raises
        ------
        DataError
            There are no inputs, or not exactly one target for each.
        """
        source = batch_source(data, labels)
        outputs, targets = [], []
        with self._together():
            for batch in self._batches(source, batch_size):
                whole = [(0, 0, len(batch.x[0]))]
                pieces = whole if self._parallel is None else self._parallel.pieces(batch)
                scores = [self._scores(*(x[first:last] for x in batch.x)) for _, first, last in pieces]
                outputs.append(np.concatenate(scores))
                targets.append(np.asarray(batch.y))
            gathered = np.concatenate if self._parallel is None else self._parallel.gathered
            output, target = gathered(outputs), gathered(targets)
        criterion = self.criteria[0]
        value, _ = criterion.loss(output, target)
        return evaluation(float(value), criterion, output, target, measured(self.metrics, criterion, output, target))

    def predict(self, x: NDArray[Any] | tuple[NDArray[Any], ...], batch_size: int = 128) -> NDArray[Any]:
        """The net's predictions for an array of images: probabilities where the kind of the output or the loss implies
        them; otherwise the output.

        Parameters
        ----------
        x : array (N, C, *spatial), or a tuple of arrays
        batch_size : int, optional

        Returns
        -------
        array
            One prediction per image, in inference mode.
        """
        answers, xs = self.criteria[0].answered, x if isinstance(x, tuple) else (x,)
        starts = range(0, len(xs[0]), batch_size)
        return np.concatenate([answers(self._scores(*(x[i : i + batch_size] for x in xs))) for i in starts])

    def averaged_net(self, data: Data | None = None, batch_size: int = 128) -> Net:
        """A net of its own with the averaged weights.

        Running statistics are averages, too. With ``data`` they are those of its images under the averaged weights, which
        batch normalisation needs where weights are averaged over long stretches of training.

        Parameters
        ----------
        data : Dataset, array (N, C, *spatial) or tuple of arrays, optional
            Images of the training; labels are not needed.
        batch_size : int, optional

        Returns
        -------
        Net

        Raises
        ------
        SettingError
            The trainer averages no weights, or no step has counted yet.
        """
        if self.averaging is None or not self.averaging.arrays:
            raise SettingError(
                "averaged_net: there is no average of the weights: give Trainer(…, averaging=ExponentialAverage()) and train, "
                "beyond the first step that counts"
            )
        made = self.net.astype(self.net.dtype)
        for target in (made.parameters, made.buffers):
            for name in target:
                target[name] = self.averaging.arrays[name]
        if data is not None:
            xs = data if isinstance(data, tuple) else (data,)
            source = cast(Batches, data) if hasattr(data, "batches") else Arrays(xs, np.zeros(len(cast(Any, xs[0]))))
            with_batch_statistics(made, (self.as_taken(source, x) for x, _ in source.batches(batch_size)))
        return made

    # ── State ──

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays that training changes: parameters and running statistics, by name.

        Returns
        -------
        dict
            Name → array. These are the net's own arrays, not copies.
        """
        return {**self.net.parameters, **self.net.buffers}

    def save(self, path: FilePath, notes: Mapping[str, Any] | None = None) -> None:
        """Write everything needed to resume training to one file; ``notes``, plain values (JSON), are stored with it.

        Parameters
        ----------
        path : path
        notes : mapping, optional

        Raises
        ------
        DataError
            The file cannot be written.
        """
        checkpoint.write(path, self, notes)

    def restore(self, path: FilePath) -> dict[str, Any]:
        """Continue from a file of :meth:`save` or :class:`Checkpoint`: net, optimizer, history.

        Parameters
        ----------
        path : path

        Returns
        -------
        dict
            The notes that were written with it.

        Raises
        ------
        ModelFileError
            The file is damaged, not a checkpoint, or of another net, seed or optimizer; the trainer is unchanged.
        """
        return checkpoint.restore(path, self, Epoch)

    def restore_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write ``arrays`` (as from :meth:`arrays`) into the net.

        Parameters
        ----------
        arrays : mapping
            Name → array, for every parameter and running statistic.
        """
        for target in (self.net.parameters, self.net.buffers):
            for name in target:
                target[name] = arrays[name]


def share_right(judged: Sequence[tuple[int, int] | None]) -> float | None:
    """Correct predictions over all predictions; None where accuracy is not defined for a batch, or there are none."""
    pairs = [pair for pair in judged if pair is not None]
    given = sum(given for _, given in pairs)
    if len(pairs) < len(judged) or not given:
        return None
    return sum(right for right, _ in pairs) / given


def evaluation(
    loss: float, criterion: Criterion, output: NDArray[Any], target: NDArray[Any], metrics: Mapping[str, float]
) -> Evaluation:
    """An :class:`Evaluation` from the form of an output that the loss takes."""
    found = criterion.classes(criterion.shaped(output), target)
    confusion = np.zeros((0, 0), np.int64)
    if found is not None:
        given, right = (numbers.reshape(-1) for numbers in found)
        counted = right >= 0
        confusion = np.zeros((criterion.shaped(output).shape[1],) * 2, np.int64)
        np.add.at(confusion, (right[counted], given[counted]), 1)
    accuracy = share_right([criterion.judged(output, target)])
    return Evaluation(loss, accuracy, confusion, criterion.answered(output), target, metrics)


# ── Sources of batches ─────────────────────────────────────────────────────────────────────────────────────────────────


class Arrays:
    """An array of inputs, or a tuple of them, and one of targets, in batches like those of a Dataset."""

    def __init__(self, x: Any, y: Any) -> None:
        xs = x if isinstance(x, tuple) else (x,)
        for each in xs:
            if len(each) != len(y):
                raise DataError(f"fit: {len(each)} inputs and {len(y)} targets; expected one target for each input")
        if not len(y):
            raise DataError("fit: there are no inputs")
        for name, array in (*(("inputs", each) for each in xs), ("targets", y)):
            check_unmasked("fit", name, array)
        self.xs, self.y = tuple(np.asarray(each) for each in xs), np.asarray(y)

    def __len__(self) -> int:
        return len(self.y)

    def batches(
        self,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        augment: Any = None,
        rank: int | range = 0,
        ranks: int = 1,
    ) -> Iterator[tuple[Any, NDArray[Any]]]:
        """Yield (x, y), of several inputs ((x1, x2, …), y); shuffled by (seed, epoch) unless seed is None; of each batch
        part ``rank`` of ``ranks``.
        """
        order = np.arange(len(self))
        if seed is not None:
            order = np.argsort(uniform(seed, epoch, ORDER_OF_BATCHES, len(self)), kind="stable")
        on_canvases = augment if isinstance(augment, Augment) else None
        if on_canvases and (on_canvases.mixup or on_canvases.changes_colour):
            raise SettingError(
                "fit: mixup and changes of colour take a cnncore.train.data.Dataset, which has classes and pixels from 0 to "
                "255; for arrays, augment can be a function (images, seed, epoch, numbers) → images"
            )
        if on_canvases is not None and len(self.xs) > 1:
            raise SettingError(
                f"fit: Augment distorts one array of images, the net takes {len(self.xs)}; give a function of the tuple"
            )
        for first, last, canvas in batch_plan(len(self), batch_size, on_canvases):
            first, last = part_of_batch(first, last, rank, ranks)
            chosen = order[first:last]
            x: Any = tuple(each[chosen] for each in self.xs)
            x = x[0] if len(x) == 1 else x
            if on_canvases:  # takes images with their channels last
                dtype = x.dtype
                x = np.moveaxis(augment(np.moveaxis(x.astype(np.float32), 1, -1), seed, epoch, chosen, canvas), -1, 1)
                x = x.astype(dtype, copy=False)
            elif augment is not None:
                x = augment(x, seed, epoch, chosen)
            yield x, self.y[chosen]


def batch_source(data: Data, labels: ArrayLike | None = None) -> Batches:
    """``data`` itself if it yields batches, otherwise the pair of arrays."""
    if hasattr(data, "batches"):
        return cast(Batches, data)
    if labels is None:
        raise DataError("fit: an array of images needs an array of labels: fit(x, labels), or give a Dataset")
    return Arrays(data, labels)


# ── Interrupts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C inside the block takes effect at its end. Only the main thread receives it anyway.

    Yields
    ------
    None
    """
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
