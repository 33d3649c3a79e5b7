"""The training job: labelled images in, a folder with an evaluated model and a report out.

    job = Job(Options(data="photos", epochs=20), folder="runs/photos")
    tested = job.run()                     # an Evaluation on the held-out images

The folder holds the whole state of a job: ``Job.resume(folder)`` continues an interrupted one, with the same result.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..checks import integer, number, per_axis, seed_number
from ..errors import DataError, FileReadError, ModelFileError, SettingError, ShapeError, unknown_name
from ..io.files import write_atomically
from ..nets.build import load
from ..typing import FilePath
from ..vision import images
from ..vision.familiarity import pixel_record
from ..vision.images import INSTALL_PILLOW, NEEDS_PILLOW, counted_kinds, has_pillow
from . import checkpoint
from .augment import Augment, on_canvas
from .communication import Communicator
from .data import Dataset, digits, digits_split
from .data import load as load_data
from .data_files import NPZ_KEYS, find_idx_pair
from .file_data import FileDataset
from .finder import find_learning_rate
from .history import write_history
from .known_data import is_known
from .loop import Callback, EarlyStopping, Epoch, Evaluation, Trainer
from .optimizers import OPTIMIZERS, Optimizer, optimizer
from .transfer import first_net, network, share_of_classes

__all__ = ["Job", "Options", "network", "new_folder"]

LEARNING_RATES = {
    "sgd": 0.1,
    "adam": 0.007,
    "adamw": 0.007,
    "nadam": 0.007,
    "rmsprop": 0.003,
}  # the highest of the one-cycle schedule
WEIGHT_DECAY = 1e-4
DISTORTIONS = Augment(shift=0.1, rotation=15, scale=0.15, shear=15, fill="edge", least=0.75, smallest=0.8)
KINDS_OF_DISTORTIONS = {"strokes": DISTORTIONS, "photos": Augment.for_photos()}
# For networks that take any size. Chosen, with the number of epochs, on 500 of the training digits, never on the
# held-out ones.
CANVASES = ((1, 1), (1, 1), (1.5, 1.5), (1, 1), (1, 1), (2.2, 1.3), (1, 1), (2.2, 2.2), (1, 1), (1, 1), (1.3, 2.2))
MOST_RECALLS = 26  # classes whose recall is in the history, one by one
RECALL = "recall of "
TEST_FOLDERS = ("test", "val", "valid")  # beside "train": the first is for the final test, a second for validation
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
MOST_SAMPLES = 10
MOST_NAME_BYTES = 60  # of a class name in a file name


@dataclass
class Options:
    """Everything that determines the result of a job: the same options give the same weights.

    Parameters
    ----------
    data : str, optional
        Folder, IDX files, npz file or name of a data set as for :func:`cnncore.train.data.load`; None: the embedded
        digits.
    network : str, optional
        Name of a function in cnncore.models.
    epochs : int, optional
    batch_size : int, optional
    optimizer : {"sgd", "adam", "adamw", "nadam", "rmsprop"}, optional
        "sgd" with momentum 0.9.
    learning_rate : float or "find", optional
        The maximum of the one-cycle schedule; None: a default for the optimizer; "find": the suggestion of
        :func:`cnncore.train.find_learning_rate`.
    seed : int or numpy.random.Generator, optional
    size : (int, int), optional
        Size of the images; None: that of the model of ``init``, their own size, or the median where they have several.
        Images of other sizes are resized, keeping their proportions, and cropped around their centre.
    augment : bool, optional
        Distort the training images: shift, rotation, scale, shear.
    validation : float, optional
        Fraction of the training images, of each class, that is not trained on but evaluated after every epoch, so that
        the epoch and the settings can be chosen; 0: none. None: the folder "val" or "valid" of data that have it and a
        folder "test", otherwise a tenth, or none where a class has a single training image.
    test : float, optional
        Fraction of the images held out for the final test, which has no part in any choice. None: the test part of the
        data if they have one, otherwise a fifth.
    shards : int, optional
        Parts into which every batch is cut (:class:`cnncore.train.Trainer`): any number of ranks up to it gives the same
        weights. None: batches stay whole; on several ranks, what the trainer chooses.
    init : str, optional
        Start from the weights of a model file, an ONNX file, the folder of a training, or from weights by PyTorch's
        names for ``network``. Images are preprocessed as for that model.
    freeze : int, optional
        The number of blocks of the network, from the input on, whose weights are not trained.
    preprocessing : str, optional
        "imagenet", "caffe" or "inception", if ``init`` does not say how images are preprocessed.
    distortions : {"strokes", "photos"}, optional
        What ``augment`` does: shift, rotation, scale and shear, which suit digits and letters, or random crops, mirror images
        and colour. None: "photos" for colour images, "strokes" for grey ones.
    balance : bool, optional
        Weight each class by the inverse of its number of images.
    label_smoothing : float, optional
        ε: targets of 1 − ε + ε/K and ε/K instead of 1 and 0.
    mixup : float, optional
        α of mixup (:class:`cnncore.train.Augment`); 0: none.
    patience : int, optional
        Stop when the accuracy on the validation images has not improved for this many epochs, and keep the best weights.
        None: train all epochs, and keep the last weights.

    Raises
    ------
    SettingError
        ``optimizer`` is unknown, or a number is out of range.
    """

    data: str | None = None
    network: str = "small_inception"
    epochs: int = 24
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float | str | None = None
    seed: int = 0
    size: tuple[int, ...] | None = None
    augment: bool = True
    validation: float | None = None
    shards: int | None = None
    init: str | None = None
    freeze: int = 0
    preprocessing: str | None = None
    distortions: str | None = None
    balance: bool = False
    label_smoothing: float = 0.0
    mixup: float = 0.0
    patience: int | None = None
    test: float | None = None

    def __post_init__(self) -> None:
        self.epochs = integer("train", "epochs", self.epochs, 1, 100_000)
        self.batch_size = integer("train", "batch size", self.batch_size, 1, 1 << 20)
        self.seed = seed_number("train", "seed", self.seed)
        if self.optimizer not in OPTIMIZERS:
            raise SettingError(unknown_name("train", "optimizer", self.optimizer, OPTIMIZERS))
        if self.learning_rate is None:
            self.learning_rate = LEARNING_RATES[self.optimizer]
        if self.learning_rate != "find":
            self.learning_rate = number(above=0)("train", "learning rate", self.learning_rate)
        if self.size is not None:
            self.size = per_axis("train", "size", self.size, rank=2, minimum=1)
        if self.validation is not None:
            self.validation = number(minimum=0, below=1)("train", "validation", self.validation)
        if self.test is not None:
            self.test = number(above=0, below=1)("train", "test", self.test)
        if self.shards is not None:
            self.shards = integer("train", "shards", self.shards, 1)
        self.augment, self.balance = bool(self.augment), bool(self.balance)
        self.freeze = integer("train", "freeze", self.freeze, 0)
        self.label_smoothing = number(minimum=0, below=1)("train", "label smoothing", self.label_smoothing)
        if self.patience is not None:
            self.patience = integer("train", "patience", self.patience, 1)
            if self.validation == 0:
                raise SettingError("train: patience chooses the epoch by validation images; omit it, or validation 0")
        if self.distortions not in (None, *KINDS_OF_DISTORTIONS):
            raise SettingError(unknown_name("train", "distortions", self.distortions, KINDS_OF_DISTORTIONS))
        if self.init is None and self.preprocessing is not None:
            raise SettingError("train: preprocessing is that of the model of init; give init too, or omit it")
        self.mixup = number(minimum=0, maximum=100)("train", "mixup", self.mixup)
        if (self.balance or self.mixup) and self.shards:
            raise SettingError("train: balance and mixup take whole batches; omit them, or shards")
        if self.mixup and not self.augment:
            raise SettingError("train: mixup is a part of the augmentation, which is switched off; omit one of both")


class Job(Callback):
    """A training run in a folder. Reads the data and builds the net; :meth:`run` trains.

    Parameters
    ----------
    options : Options, optional
    folder : path, optional
        Where its files are written; :meth:`run` creates it.
    communicator : Communicator, optional
        Communicator of the processes that run the same job together; the first one writes the files.
    reduction : {"tree", "mpi"}, optional
        How they add gradients: along a fixed tree, for the same bits on any number of them, or in the order that MPI chooses.
    announce : callable, optional
        Called with a line of text before steps of the preparation that take long: measuring images in files, and
        searching for a learning rate.

    Attributes
    ----------
    model, checkpoint, report, explained, samples, tested : path
        Paths of the files it writes.
    train : Dataset
        The images to train on.
    validation : Dataset or None
        Those evaluated after every epoch.
    held_out : Dataset
        Those of the final test.
    net : Net
    trainer : Trainer

    Raises
    ------
    DataError
        The data cannot be read, or its images are too small for the network.
    SettingError
        The network is unknown, or does not take images with these channels or of this size.
    """

    def __init__(
        self,
        options: Options | None = None,
        folder: FilePath = "run",
        communicator: Communicator | None = None,
        reduction: str = "tree",
        announce: Callable[[str], object] | None = None,
    ) -> None:
        self._announce = announce or (lambda text: None)
        self.options = dataclasses.replace(Options() if options is None else options)
        self.folder = pathlib.Path(folder)
        self.model = self.folder / "model.safetensors"
        self.checkpoint = self.folder / "checkpoint.safetensors"
        self.report = self.folder / "report.html"
        self.explained = self.folder / "explained.html"
        self.samples = self.folder / "samples"
        self.history = self.folder / "history"
        self.tested = self.folder / "test.json"
        self.train, self.held_out = labelled_images(self.options)
        self.train, self.validation = validation_part(self.train, self.options)
        options = self.options
        self.start = first_net(
            options.init,
            options.network,
            self.train.class_names,
            self.train.channels,
            options.seed,
            options.freeze,
            options.preprocessing,
        )
        self.net = self.start.net
        self._fit_data_to_net()
        self.trainer = Trainer(
            self.net,
            self._optimizer(),
            loss_settings=self.loss_settings(),
            metrics={} if self.validation is None else recalls(self.validation),
            communicator=communicator,
            shards=options.shards,
            reduction=reduction,
        )
        options.shards = self.trainer.shards
        self.net.metadata = {
            "made_by": f"cnncore {__version__}",
            "network": options.network if options.init is None else pathlib.Path(options.init).name,
            "data": self.train.name,
            "classes": list(self.train.class_names),
            "channels": self.train.channels,
            "size": list(self.image_size()),
            "largest_size": self.largest_size(),
            "mean": list(self.train.mean),
            "std": list(self.train.std),
            "pixels": pixel_record(self.train),
            **self.framing,
        }

    @classmethod
    def resume(
        cls,
        folder: FilePath,
        data: str | None = None,
        communicator: Communicator | None = None,
        reduction: str = "tree",
        announce: Callable[[str], object] | None = None,
    ) -> Self:
        """The job whose checkpoint is in ``folder``, as it was after its last complete epoch.

        Parameters
        ----------
        folder : path
            The folder, or the checkpoint in it.
        data : str, optional
            Where the images are now, when they have moved.
        communicator : Communicator, optional
            Communicator of the processes that continue it, as many as its shards allow, however many began it.
        reduction : {"tree", "mpi"}, optional
        announce : callable, optional

        Returns
        -------
        Job

        Raises
        ------
        DataError
            There is no checkpoint, or the images are not those of the interrupted training.
        ModelFileError
            The checkpoint is damaged, or was not written by a job.
        """
        folder = pathlib.Path(folder)
        file = folder / "checkpoint.safetensors" if folder.is_dir() else folder
        if not file.is_file():
            raise DataError(f"{file}: no such file; expected the folder of an interrupted training")
        notes = checkpoint.read(file)[0]["notes"]
        known = {field.name for field in dataclasses.fields(Options)}
        options = notes.get("options")
        if not isinstance(options, dict) or not options.keys() <= known or "data" not in options:
            raise ModelFileError(f"{file}: not a checkpoint of a job but of a Trainer, which can restore it")
        if data is not None:
            options["data"] = data
        job = cls(Options(**options), file.parent, communicator, reduction, announce)
        found = job._notes()["images"]
        if notes.get("images") != found:
            raise DataError(
                f"{job.train.name}: these are not the images of the interrupted training; give those with --data"
            )
        job.trainer.restore(file)
        return job

    def run(self, callbacks: Iterable[Callback] = ()) -> Evaluation:
        """Train, from the first epoch or from the checkpoint; then test once, on the held-out images.

        Parameters
        ----------
        callbacks : iterable of Callback, optional

        Returns
        -------
        Evaluation
            Result of the final test.

        Raises
        ------
        DataError
            The folder cannot be created or written to.
        """
        options = self.options
        self.make_folder()
        if not self.trainer.history and self.trainer.writes_files:
            self.trainer.save(self.checkpoint, self._notes())
        stopping = self._stopping()
        try:
            self.trainer.fit(
                self.train,
                epochs=options.epochs,
                batch_size=options.batch_size,
                validation=self.validation,
                schedule="one_cycle",
                augment=self.distortions() if options.augment else None,
                seed=options.seed,
                callbacks=[*stopping, self, *callbacks],
                first_epoch=len(self.trainer.history),
            )
        except KeyboardInterrupt:
            if (
                not self.trainer.history and self.trainer.writes_files
            ):  # otherwise the model of the last complete epoch is there
                self._save_model()
            raise
        tested = self.trainer.evaluate(self.held_out)
        if self.trainer.writes_files:
            write_atomically(self.tested, (json.dumps(self._test_record(tested), indent=1) + "\n").encode())
        return tested

    def chosen_epoch(self) -> int:
        """The number, from 1 on, of the epoch whose weights the net has after :meth:`run`; 0 before the first.

        Returns
        -------
        int
        """
        history = self.trainer.history
        if self.options.patience is None or not history:
            return len(history)
        return 1 + max(range(len(history)), key=lambda n: history[n].validation_accuracy or 0.0)

    def _test_record(self, tested: Evaluation) -> dict[str, Any]:
        """The final test for other programs: what was tested, on what, and how every class fared."""
        labels = tested.labels
        right = tested.probabilities.argmax(axis=1) == labels
        names = self.held_out.class_names
        return {
            "data": self.held_out.name,
            "images": len(labels),
            "epoch": self.chosen_epoch(),
            "epoch_chosen_by": "validation" if self.options.patience is not None else None,
            "test_loss": tested.loss,
            "test_accuracy": tested.accuracy,
            "test_recall": {names[k]: float(right[labels == k].mean()) for k in np.unique(labels).tolist()},
        }

    def _optimizer(self) -> Optimizer:
        """The optimizer; a learning rate that is to be found is searched for, and noted in the options."""
        options = self.options
        settings: dict[str, Any] = {"momentum": 0.9} if options.optimizer == "sgd" else {}
        if options.learning_rate == "find":
            self._announce("searching for a learning rate")
            trial = optimizer(options.optimizer, 1.0, weight_decay=WEIGHT_DECAY, **settings)
            found = find_learning_rate(
                self.net,
                self.train,
                trial,
                batch_size=options.batch_size,
                seed=options.seed,
                loss_settings=self.loss_settings(),
            )
            options.learning_rate = float(f"{found.suggestion:.3g}")
        rate = number()("train", "learning rate", options.learning_rate)
        return optimizer(options.optimizer, rate, weight_decay=WEIGHT_DECAY, **settings)

    def _stopping(self) -> list[EarlyStopping]:
        """The early stopping of these options, if any; in a resumed training, in the state that it was in."""
        if self.options.patience is None:
            return []
        stopping = EarlyStopping(self.options.patience, "validation_accuracy")
        accuracies = [epoch.validation_accuracy or 0.0 for epoch in self.trainer.history]
        if accuracies and self.model.is_file():
            best = load(self.model)
            stopping.best, stopping.waited = max(accuracies), len(accuracies) - 1 - int(np.argmax(accuracies))
            stopping.best_arrays = {**best.parameters, **best.buffers}
        self._best = max(accuracies, default=-1.0)
        return [stopping]

    def loss_settings(self) -> dict[str, Any]:
        """Settings of the loss: label smoothing, and the weights of the classes.

        Returns
        -------
        dict
        """
        settings: dict[str, Any] = {}
        if self.options.label_smoothing:
            settings["label_smoothing"] = self.options.label_smoothing
        if self.options.balance:
            settings["weight"] = share_of_classes(self.train.class_counts).astype(self.net.dtype)
        return settings

    def distortions(self) -> Augment:
        """How the training images are augmented; with "strokes" also in size, where network and data have no fixed size.

        Returns
        -------
        Augment
        """
        name = self.options.distortions or ("photos" if self.train.channels == 3 else "strokes")
        any_size = None in self.net.graph.inputs[0].size and not self.framing
        found = dataclasses.replace(KINDS_OF_DISTORTIONS[name], mixup=self.options.mixup)
        return dataclasses.replace(found, canvases=CANVASES) if any_size and name == "strokes" else found

    def image_size(self) -> tuple[int, int]:
        """Height and width of the images, which all have one size by now.

        Returns
        -------
        (int, int)
        """
        assert self.train.size is not None
        return self.train.size

    def largest_size(self) -> list[int]:
        """Height and width of the largest training images.

        Returns
        -------
        list of int
        """
        canvases = self.distortions().canvases if self.options.augment else [(1.0, 1.0)]
        return [max(extents) for extents in zip(*(on_canvas(self.image_size(), c) for c in canvases), strict=True)]

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Write model, checkpoint and history after every epoch; with ``patience``, the model of the best epoch only.

        Parameters
        ----------
        trainer : Trainer
        epoch : Epoch
        """
        if not trainer.writes_files:
            return
        accuracy = epoch.validation_accuracy or 0.0
        if self.options.patience is None or accuracy > self._best:
            self._best = accuracy
            self._save_model(validation_accuracy=epoch.validation_accuracy)
        trainer.save(self.checkpoint, self._notes())
        write_history(self.history, trainer.history)

    def _save_model(self, **figures: Any) -> None:
        done = {"epochs": len(self.trainer.history), "steps": self.trainer.optimizer.steps, "seed": self.options.seed}
        self.net.metadata["training"] = done | figures
        self.net.save(self.model)

    def _notes(self) -> dict[str, Any]:
        """What the checkpoint stores: the options, and statistics by which the images are recognised (exact sums over
        pixels).
        """
        marks = {"train": self.train, "held_out": self.held_out}
        marks |= {} if self.validation is None else {"validation": self.validation}
        known = {
            name: [
                len(part),
                part.class_counts.tolist(),
                list(part.class_names),
                list(self.train.mean),
                list(self.train.std),
            ]
            for name, part in marks.items()
        }
        options = dataclasses.asdict(self.options)
        for name in ("data", "init"):
            if options[name] is not None:
                options[name] = os.path.abspath(options[name])
        return json.loads(json.dumps({"options": options, "images": known}))

    def make_folder(self) -> None:
        """Create the folder, or say why it cannot be used; ``run`` does so too.

        Raises
        ------
        DataError
            It cannot be created or written to.
        """
        if not self.trainer.writes_files:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be created ({error.strerror}); choose another folder") from None
        if not os.access(self.folder, os.W_OK):
            raise DataError(f"{self.folder}: cannot be written to; choose another output folder")

    def _fit_data_to_net(self) -> None:
        """Convert the images to the channels, the size and the scale that the net takes."""
        (row,) = self.net.graph.inputs
        if row.channels != self.train.channels:
            self.train = with_channels(self.train, row.channels)
            self._change_evaluated(
                lambda part: dataclasses.replace(
                    with_channels(part, row.channels), mean=self.train.mean, std=self.train.std
                )
            )
        own = [extent for extent in row.size if extent is not None]
        if len(own) < len(row.size):
            own = []  # the net takes any size
        if own and self.options.size and own != [*self.options.size]:
            raise SettingError(
                f"train: {self.description} takes images of {own[0]}×{own[1]} only, not "
                f"{self.options.size[0]}×{self.options.size[1]}; leave the size out"
            )
        size = self.options.size or tuple(own) or self.start.size or self.train.common_size()
        height, width = size
        try:
            self.net.summary(row.given((1, row.channels, height, width)))
        except ShapeError as error:
            raise DataError(
                f"{self.train.name}: images of {height}×{width} are too small for {self.description} ({error}); "
                "give a larger size"
            ) from None
        self._preprocess((height, width))

    def _preprocess(self, size: tuple[int, int]) -> None:
        """Crop the images, and give all parts one scale; ``self.framing`` tells prediction how to do the same."""
        resize = None if self.options.size else self.start.resize
        parts = [self.train, self.held_out] + ([] if self.validation is None else [self.validation])
        stored = {part.stored_size for part in parts} == {size} and resize in (None, min(size))
        self.framing: dict[str, Any] = {}
        if not stored:
            self.framing = {"resize": min(size) if resize is None else resize, "crop": list(size)}
        self.train = self.train.framed(size, resize)
        self._change_evaluated(lambda part: part.framed(size, resize))
        mean, std = self.start.mean, self.start.std
        if mean is None:
            if isinstance(self.train, FileDataset):
                self._announce(f"measuring images of {self.train.name.removesuffix(', training part')}")
            mean, std = measured(self.train)
        scale: dict[str, Any] = {"mean": mean, "std": std, "channel_order": self.start.order}
        self.train = dataclasses.replace(self.train, **scale)
        self._change_evaluated(lambda part: dataclasses.replace(part, **scale))
        if self.start.order != "rgb":
            self.framing["channel_order"] = self.start.order

    def _change_evaluated(self, change: Callable[[Dataset], Dataset]) -> None:
        """Change the parts that are not trained on."""
        self.held_out = change(self.held_out)
        self.validation = None if self.validation is None else change(self.validation)

    @property
    def description(self) -> str:
        """The network in messages: its name, or the file that training started from."""
        return f"network {self.options.network}" if self.options.init is None else str(self.options.init)

    def write_samples(self) -> list[pathlib.Path]:
        """Write some of the held-out images as PNG files, to try predictions on; returns their paths.

        Returns
        -------
        list of pathlib.Path
            One for each class, of 10 classes at most.
        """
        self.samples.mkdir(exist_ok=True)
        written = []
        for label, name in list(enumerate(self.held_out.class_names))[:MOST_SAMPLES]:
            safe = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
            safe = safe.encode()[:MOST_NAME_BYTES].decode(errors="ignore")
            of_class = np.flatnonzero(self.held_out.labels == label)
            if len(of_class):
                written.append(
                    self.samples / f"{label}-{safe}.png" if safe != str(label) else self.samples / f"{safe}.png"
                )
                images.write_png(written[-1], self.held_out.images[of_class[0]])
        return written


def recalls(data: Dataset) -> dict[str, Callable[[NDArray[Any], NDArray[Any]], float]]:
    """A metric "recall of CLASS" for each class that ``data`` has images of; none where the classes are many.

    Parameters
    ----------
    data : Dataset

    Returns
    -------
    dict of str to callable

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((3, 8, 8), np.uint8)
    >>> found = recalls(Dataset(images, np.array([0, 2, 2]), ("cat", "dog", "hen")))
    >>> list(found)
    ['recall of cat', 'recall of hen']
    >>> found["recall of hen"](np.eye(3)[[0, 1, 2]], np.array([0, 2, 2]))
    0.5
    """
    if len(data.class_names) > MOST_RECALLS:
        return {}

    def recall(label: int) -> Callable[[NDArray[Any], NDArray[Any]], float]:
        return lambda predictions, labels: float(np.mean(predictions[labels == label].argmax(axis=1) == label))

    return {f"{RECALL}{data.class_names[k]}": recall(k) for k in np.flatnonzero(data.class_counts).tolist()}


# ── Data and network by name ───────────────────────────────────────────────────────────────────────────────────────────


def labelled_images(options: Options) -> tuple[Dataset, Dataset]:
    """(images for training and validation, images held out for the final test) of the options' data."""
    if options.data is None:
        if options.test is None:
            return digits_split()
        pixels, labels = digits()
        return Dataset(pixels, labels, tuple("0123456789"), "digits").split(options.test, options.seed)
    place = pathlib.Path(options.data)
    check_readable(place)
    if options.test is None:
        train, tests = place / "train", [place / name for name in TEST_FOLDERS if (place / name).is_dir()]
        if train.is_dir() and tests:
            return both_parts(load_files(train), load_files(tests[0], some_classes=True))
        if brings_test_part(place):
            held_out = load_data(options.data, "test", some_classes=True)
            return both_parts(load_data(options.data), held_out)
    whole = load_files(place) if place.is_dir() and find_idx_pair(place, "train") is None else load_data(options.data)
    return whole.split(options.test or TEST_SHARE, options.seed)


def validation_part(train: Dataset, options: Options) -> tuple[Dataset, Dataset | None]:
    """(images to train on, validation images or None): a folder of their own, or split off the images for training."""
    share = options.validation
    if share is None and options.test is None and options.data is not None:
        place = pathlib.Path(options.data)
        folders = [place / name for name in TEST_FOLDERS if (place / "train").is_dir() and (place / name).is_dir()]
        if len(folders) > 1:  # the first is for the final test
            return both_parts(train, load_files(folders[1], some_classes=True))
    if share == 0 or (share is None and options.patience is None and train.class_counts.min() < 2):
        return train, None
    rest, validation = train.split(VALIDATION_SHARE if share is None else share, options.seed)
    name = f"{train.name.removesuffix(', training part')}, validation part"
    return dataclasses.replace(rest, name=train.name), dataclasses.replace(validation, name=name)


def load_files(folder: pathlib.Path, some_classes: bool = False) -> FileDataset:
    """The images below a folder; only their headers are read."""
    try:
        return FileDataset.from_folder(folder, some_classes=some_classes, measured=False)
    except FileReadError:
        raise
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error})") from None


def check_readable(place: pathlib.Path) -> None:
    """Raise if a folder contains files that Pillow reads, and Pillow is not installed."""
    if place.is_dir() and not has_pillow():
        needing = [path for path in place.rglob("*") if path.suffix.lower() in NEEDS_PILLOW]
        if needing:
            raise DataError(f"{place}: {counted_kinds(needing)} cannot be read without Pillow; {INSTALL_PILLOW}")


def measured(dataset: Dataset) -> tuple[Any, Any]:
    """(mean, standard deviation) of a training part."""
    if isinstance(dataset, FileDataset):
        return dataclasses.replace(dataset, measured=True).pixel_statistics(dataset.images)
    return dataset.mean, dataset.std


def brings_test_part(place: pathlib.Path) -> bool:
    """Whether a data set by name, an npz file or a folder of IDX files holds a test part of its own."""
    if is_known(place):
        return True
    try:
        if place.is_dir():
            return find_idx_pair(place, "test") is not None
        with zipfile.ZipFile(place) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
        return any(names.issuperset(keys) for keys in NPZ_KEYS["test"])
    except (DataError, OSError, zipfile.BadZipFile):
        return False  # load will say what is wrong, if anything is


def both_parts(train: Dataset, held_out: Dataset) -> tuple[Dataset, Dataset]:
    """Two parts of one data set: the second with the first one's classes, mean and standard deviation."""
    unknown = sorted(set(held_out.class_names) - set(train.class_names))
    if unknown:
        raise DataError(f"{held_out.name}: class {unknown[0]!r} is not among the classes of the training part")
    if held_out.channels != train.channels:
        held_out = with_channels(held_out, train.channels)
    places = np.array([train.class_names.index(name) for name in held_out.class_names])
    return train, dataclasses.replace(
        held_out,
        labels=places[held_out.labels],
        class_names=train.class_names,
        mean=train.mean,
        std=train.std,
    )


def with_channels(dataset: Dataset, channels: int | None) -> Dataset:
    """The data set in grey (1) or RGB (3)."""
    if channels not in (1, 3):
        raise SettingError(f"train: the network takes {channels} channels; image files have 1 (grey) or 3 (RGB)")
    if isinstance(dataset, FileDataset):
        return dataclasses.replace(dataset, images=dataset.images.framed_as(channels=channels), mean=None, std=None)
    converted = [images.to_channels(image, channels) for image in dataset.images]
    return dataclasses.replace(dataset, images=converted, mean=None, std=None)


def new_folder(parent: FilePath = "runs") -> pathlib.Path:
    """A path for a new folder, named after date and time.

    Parameters
    ----------
    parent : path, optional

    Returns
    -------
    pathlib.Path
        It does not exist yet.
    """
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    folder, count = pathlib.Path(parent) / stamp, 1
    while folder.exists():
        count += 1
        folder = pathlib.Path(parent) / f"{stamp}_{count}"
    return folder
