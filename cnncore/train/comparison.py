"""Networks compared in which one thing differs: the same data, seeds and training, accuracy with confidence intervals.

    print(cnncore.compare(pooling=["max", "avg", "soft"], seeds=3))

``cnncore compare`` does the same on the command line.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..checks import integer, number, seed_number
from ..errors import SettingError
from ..models.variation import Variation, varied
from ..nets.drawing import COLORS, FONT, INK, MUTED
from ..nets.net import Net
from ..typing import Seed
from .data import Dataset
from .job import DISTORTIONS, LEARNING_RATES, WEIGHT_DECAY, Job, Options, network
from .loop import Callback, Trainer
from .optimizers import optimizer

__all__ = ["Comparison", "Compared", "compare", "confidence_interval"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Compared:
    """One of the networks compared.

    Attributes
    ----------
    name : str
        What is different in it.
    parameters, multiply_adds : int
        Parameters of the network, and multiply-adds of one image.
    seconds : float
        Processor time of one training, the mean over the seeds.
    milliseconds : float
        Processor time to classify one of the images held out, the mean over the seeds.
    accuracies : tuple of float
        On the images held out, one for each seed.
    images : int
        How many images were held out.
    """

    name: str
    parameters: int
    multiply_adds: int
    seconds: float
    milliseconds: float
    accuracies: tuple[float, ...]
    images: int

    @property
    def accuracy(self) -> float:
        """The mean over the seeds."""
        return float(np.mean(self.accuracies))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the mean accuracy."""
        return confidence_interval(self.accuracies, self.images)


def confidence_interval(accuracies: Sequence[float], images: int) -> tuple[float, float]:
    """The 95 % confidence interval of an accuracy.

    For several trainings: Student's interval of their mean, which covers what seeds decide. For a single one: Wilson's
    interval of the share of images, which does not.

    Parameters
    ----------
    accuracies : sequence of float
        One for each training.
    images : int
        On how many images.

    Returns
    -------
    tuple of float
        Lower and upper end.

    Examples
    --------
    >>> [round(end, 3) for end in confidence_interval([0.90, 0.92, 0.94], 1000)]
    [0.87, 0.97]
    >>> [round(end, 3) for end in confidence_interval([0.99], 100)]
    [0.946, 0.998]
    """
    from scipy import stats

    mean, n = float(np.mean(accuracies)), len(accuracies)
    if n == 1:
        found = stats.binomtest(round(mean * images), images).proportion_ci(CONFIDENCE, "wilson")
        return float(found.low), float(found.high)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(accuracies, ddof=1) / math.sqrt(n))
    return max(mean - reach, 0.0), min(mean + reach, 1.0)


@dataclass(frozen=True)
class Comparison:
    """Networks compared: a table when printed, with a plot.

    Attributes
    ----------
    varied : str
        What differs: "pooling", "activation", "downsampling" or "head".
    rows : tuple of Compared
        One for each network.
    network, data : str
        What they have in common.
    epochs, images : int
        Epochs and images of each training.
    seeds : tuple of int
        One training for each.
    """

    varied: str
    rows: tuple[Compared, ...]
    network: str
    data: str
    epochs: int
    images: int
    seeds: tuple[int, ...] = field(default=(0,))

    def __str__(self) -> str:
        head = (self.varied, "accuracy", "95 % interval", "parameters", "multiply-adds", "training", "per image")
        body = [
            (
                row.name,
                f"{row.accuracy:.2%}",
                "{:.2%} to {:.2%}".format(*row.interval),
                f"{row.parameters:,}",
                f"{row.multiply_adds:,}",
                f"{row.seconds:.1f} s",
                f"{row.milliseconds:.3f} ms",
            )
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in (head, *body)
        ]
        return "\n".join([*lines, "", self.caption()])

    def caption(self) -> str:
        """What was compared, in one line.

        Returns
        -------
        str
            Network, data, epochs and seeds.
        """
        seeds = f"{len(self.seeds)} seeds" if len(self.seeds) > 1 else f"seed {self.seeds[0]}"
        return f"{self.network} on {self.data}: {self.images:,} images to train on, {self.epochs} epochs, {seeds}"

    def to_csv(self) -> str:
        """The table as CSV: a line for each network.

        Returns
        -------
        str
            With a header.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([self.varied, "accuracy", "low", "high", "parameters", "multiply_adds", "seconds",
                         "milliseconds", *(f"seed {seed}" for seed in self.seeds)])  # fmt: skip
        for row in self.rows:
            writer.writerow([row.name, row.accuracy, *row.interval, row.parameters, row.multiply_adds, row.seconds,
                             row.milliseconds, *row.accuracies])  # fmt: skip
        return text.getvalue()

    def to_json(self) -> str:
        """Everything as JSON.

        Returns
        -------
        str
            The attributes, and each row's accuracy and interval.
        """
        found = asdict(self)
        for given, row in zip(found["rows"], self.rows, strict=True):
            given |= {"accuracy": row.accuracy, "interval": row.interval}
        return json.dumps(found, indent=1, ensure_ascii=False)

    def to_svg(self) -> str:
        """A plot: each training a dot, the mean and its interval above it.

        Returns
        -------
        str
            An SVG document.
        """
        return _plot(self)

    def _repr_html_(self) -> str:
        return f"{self.to_svg()}<pre>{html.escape(str(self))}</pre>"


def compare(
    network: str | Callable[..., Net] = "small_inception",
    data: str | tuple[Dataset, Dataset] | None = None,
    *,
    pooling: Sequence[str] | str = (),
    activation: Sequence[str] | str = (),
    downsampling: Sequence[str] | str = (),
    head: Sequence[str] | str = (),
    seeds: int | Sequence[Seed] = 3,
    epochs: int = 8,
    batch_size: int = 64,
    learning_rate: float | None = None,
    augment: bool = True,
    images: int | None = None,
    progress: Callable[[str, int, int, int], object] | None = None,
) -> Comparison:
    """Train networks that differ in one thing, with the same data, seeds and training, and compare them.

    One setting gets several values, the others at most one, which all networks have.

    Parameters
    ----------
    network : str or callable, default "small_inception"
        A network of cnncore.models, or ``network(classes=…, channels=…, seed=…)`` whose graph is a
        ``cnncore.models.variation.VariedGraph``.
    data : str or (Dataset, Dataset), optional
        As for ``cnncore train``, or data to train on and data held out; None: the embedded digits.
    pooling : str or sequence of str, optional
        Strategies of ``cnncore.pool``, also those written in Python.
    activation : str or sequence of str, optional
        Names of activations.
    downsampling : str or sequence of str, optional
        "pool", "stride".
    head : str or sequence of str, optional
        "pooled", "dense".
    seeds : int or sequence of int or numpy.random.Generator, default 3
        How many trainings of each network, or their seeds.
    epochs : int, default 8
        Epochs of each training, with Adam and a one-cycle schedule.
    batch_size : int, default 64
        Images per step.
    learning_rate : float, optional
        The highest of the schedule.
    augment : bool, default True
        Whether images are distorted at random.
    images : int, optional
        Train only on the first images, this many of them.
    progress : callable, optional
        ``progress(name, number, total, epoch)``, called after every epoch of every training.

    Returns
    -------
    Comparison
        A row for each network. Printed it is a table; it is also CSV, JSON and a plot in SVG.

    Raises
    ------
    SettingError
        A name is unknown, a setting is out of range, or not exactly one thing is varied.
    DataError
        The data cannot be read.

    Examples
    --------
    >>> import cnncore
    >>> found = cnncore.compare("lenet", pooling=["max", "avg"], seeds=1, epochs=1, images=64)
    >>> [(row.name, row.parameters) for row in found.rows]
    [('max', 61706), ('avg', 61706)]
    """
    given = {
        name: (value,) if isinstance(value, str) else tuple(value)
        for name, value in (
            ("pooling", pooling),
            ("activation", activation),
            ("downsampling", downsampling),
            ("head", head),
        )
    }
    several = [name for name, values in given.items() if len(values) > 1]
    if len(several) != 1:
        raise SettingError(
            f"compare: give several values of exactly one of {', '.join(given)}, such as pooling=['max', 'avg']; got several "
            f"of {' and '.join(several) or 'none'}"
        )
    if isinstance(seeds, int):
        numbers = tuple(range(integer("compare", "seeds", seeds, 1, 1000)))
    else:
        numbers = tuple(seed_number("compare", "seeds", seed) for seed in seeds)
    training = _Training(network, data, epochs, batch_size, learning_rate, augment, images)
    common = {name: values[0] for name, values in given.items() if len(values) == 1}
    choices = given[several[0]]
    variations = [Variation(**common, **{several[0]: value}, size=training.size) for value in choices]
    nets = [training.net(variation, numbers[0]) for variation in variations]  # whatever cannot be built is said before
    rows = [
        training.compared(
            value, variation, net, numbers, None if progress is None else _told(progress, value, i, choices, numbers)
        )
        for i, (value, variation, net) in enumerate(zip(choices, variations, nets, strict=True))
    ]
    name = network if isinstance(network, str) else getattr(network, "__name__", "network")
    source = training.train.name.removesuffix(", training part")
    return Comparison(several[0], tuple(rows), name, source, epochs, len(training.train), numbers)


def _told(
    progress: Callable[[str, int, int, int], object],
    value: str,
    place: int,
    choices: Sequence[str],
    seeds: Sequence[int],
) -> Callable[[int, int], object]:
    """``progress`` for one of the networks: a function of which of its trainings, and the epoch."""
    return lambda number, epoch: progress(value, place * len(seeds) + number, len(choices) * len(seeds), epoch)


class _Training:
    """What all trainings of a comparison have in common."""

    def __init__(
        self,
        make: str | Callable[..., Net],
        data: str | tuple[Dataset, Dataset] | None,
        epochs: int,
        batch_size: int,
        learning_rate: float | None,
        augment: bool,
        images: int | None,
    ) -> None:
        self.make, self.augment = make, augment
        path = data if isinstance(data, str) else None
        name = make if isinstance(make, str) else "small_inception"
        self.options = Options(path, name, epochs, batch_size, learning_rate=learning_rate, validation=0)
        if isinstance(data, tuple):
            self.train, self.held_out = data
        else:
            job = Job(self.options, "comparison")  # reads the data, and brings them to the size that the network takes
            self.train, self.held_out = job.train, job.held_out
        assert self.train.size is not None
        self.size: tuple[int, int] = self.train.size
        if images is not None:
            self.train = self.train.subset(np.arange(min(integer("compare", "images", images, 1), len(self.train))))
        self.rate = (
            LEARNING_RATES["adam"]
            if learning_rate is None
            else number(above=0)("compare", "learning_rate", learning_rate)
        )

    def net(self, variation: Variation, seed: int) -> Net:
        """A network, untrained."""
        with varied(variation):
            settings = {"classes": len(self.train.class_names), "channels": self.train.channels, "seed": seed}
            return network(self.make, **settings) if isinstance(self.make, str) else self.make(**settings)

    def compared(
        self,
        name: str,
        variation: Variation,
        net: Net,
        seeds: Sequence[int],
        progress: Callable[[int, int], object] | None,
    ) -> Compared:
        """A network trained once for each seed."""
        found = []
        for place, seed in enumerate(seeds):
            step = None if progress is None else (lambda epoch, n=place: progress(n, epoch))
            found.append(self.run(variation, seed, step))
        accuracies, seconds, milliseconds = zip(*found, strict=True)
        table = net.summary((1, self.train.channels, *self.size))
        means = float(np.mean(seconds)), float(np.mean(milliseconds))
        return Compared(name, table.parameters, table.multiply_adds, *means, accuracies, len(self.held_out))

    def run(
        self, variation: Variation, seed: int, progress: Callable[[int], object] | None
    ) -> tuple[float, float, float]:
        """(accuracy, processor seconds of training, processor milliseconds per image) of one training."""
        net = self.net(variation, seed)
        trainer = Trainer(net, optimizer("adam", self.rate, weight_decay=WEIGHT_DECAY))
        began = time.process_time()
        trainer.fit(
            self.train,
            epochs=self.options.epochs,
            batch_size=self.options.batch_size,
            schedule="one_cycle",
            augment=DISTORTIONS if self.augment else None,
            seed=seed,
            callbacks=[_Epochs(progress)],
        )
        trained = time.process_time()
        tested = trainer.evaluate(self.held_out)
        assert tested.accuracy is not None
        each = 1e3 * (time.process_time() - trained) / len(self.held_out)
        return float(tested.accuracy), trained - began, each


class _Epochs(Callback):
    def __init__(self, progress: Callable[[int], object] | None) -> None:
        self.progress = progress

    def on_epoch(self, trainer: Trainer, epoch: Any) -> None:
        if self.progress is not None:
            self.progress(epoch.epoch)


# ── Plot ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

LEFT, WIDTH, ROW, TOP = 150, 640, 38, 46


def _plot(found: Comparison) -> str:
    """Accuracy along x, a line for each network: dots are trainings, the bar is the interval of the mean."""
    ends = [end for row in found.rows for end in (*row.interval, *row.accuracies)]
    low, high = min(ends), max(ends)
    margin = max(high - low, 0.002) * 0.08
    low, high = max(low - margin, 0.0), min(high + margin, 1.0)

    def at(share: float) -> float:
        return LEFT + (share - low) / (high - low) * (WIDTH - LEFT - 30)

    height, fill, edge = TOP + ROW * len(found.rows) + 40, *COLORS["convolution"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="{html.escape(FONT)}" role="img">',
        f"<title>Accuracy by {html.escape(found.varied)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(12, 22, f"Accuracy by {found.varied}: mean of {len(found.seeds)}, 95 % interval", 14, INK),
    ]
    for tick in _ticks(low, high):
        x = at(tick)
        parts.append(f'<path d="M{x:.1f},{TOP - 8} V{height - 32}" stroke="#e6eaef"/>')
        parts.append(_text(x, height - 16, f"{100 * tick:.4g} %", 11, MUTED, "middle"))
    for i, row in enumerate(found.rows):
        y = TOP + ROW * i + ROW / 2
        start, end = map(at, row.interval)
        parts.append(_text(LEFT - 12, y + 4, row.name, 13, INK, "end"))
        parts.append(f'<rect x="{start:.1f}" y="{y - 6:.1f}" width="{max(end - start, 1):.1f}" height="12" rx="3" '
                     f'fill="{fill}" stroke="{edge}"/>')  # fmt: skip
        parts += [f'<circle cx="{at(a):.1f}" cy="{y:.1f}" r="3" fill="{edge}"/>' for a in row.accuracies]
        parts.append(f'<path d="M{at(row.accuracy):.1f},{y - 9:.1f} v18" stroke="{INK}" stroke-width="2"/>')
    parts.append(_text(12, height - 2, found.caption(), 10, MUTED))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two shares."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= min((1, 2, 5, 10), key=lambda factor: abs((high - low) / (step * factor) - 4.5))
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _text(x: float, y: float, words: str, size: int, color: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}">{html.escape(words)}</text>'
