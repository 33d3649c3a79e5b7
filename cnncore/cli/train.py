"""``cnncore train``."""

import functools
import sys
import time

import numpy as np

from .. import get_num_threads
from ..errors import CnnError, SettingError
from ..runtime import cpu
from .options import rate, size
from .progress import ProgressLine, bar, clock, one_line

MOST_CONFUSION_COLUMNS = 20
SECONDS_BETWEEN_LINES = 60  # of progress in a file


def train(options):
    """Train a network, then test it once on held-out images; without options, on handwritten digits in about a minute."""
    if not options.distributed:
        return run_training(options, None)
    from ..distributed import MPICommunicator

    communicator = MPICommunicator(bind=options.threads is None)
    try:
        return run_training(options, communicator)
    except (CnnError, OSError, ImportError, MemoryError) as error:
        if communicator.size == 1 or options.debug:
            raise  # with --debug, `python -m mpi4py` shows the traceback and ends all ranks
        communicator.abort(error)


def run_training(options, communicator):
    """Train in this process, as one of the ranks of ``communicator`` where there is one."""
    from ..train.job import Job, Options, new_folder

    began = time.perf_counter()
    silent = options.quiet or (communicator is not None and communicator.rank > 0)
    announce = None if silent else functools.partial(print, flush=True)
    given = {
        name: getattr(options, name) for name in Options.__dataclass_fields__ if getattr(options, name) is not None
    }
    if options.resume is not None:
        fixed = sorted(given.keys() - {"data"}) + ["output"] * (options.output is not None)
        if fixed:
            flag = "--no-augment" if fixed[0] == "augment" else f"--{fixed[0].replace('_', '-')}"
            raise SettingError(f"train: {flag} is fixed by the training being resumed; omit it")
        job = Job.resume(options.resume, given.get("data"), communicator, options.reduction, announce)
    else:
        folder = new_folder() if options.output is None else options.output
        folder = folder if communicator is None else communicator.broadcast(folder)
        job = Job(Options(**given), folder, communicator, options.reduction, announce)
    job.make_folder()
    if not job.trainer.writes_files:
        job.run()
        return 0
    shown = TrainingLines(job, options.quiet)
    shown.introduce()
    try:
        tested = job.run([shown])
        shown.line.clear()
        from ..vision.classify import Classifier, accuracy_by_size
        from .report import write_explained, write_report

        by_size = accuracy_by_size(Classifier(job.net), job.held_out)
        lost = []  # either is written even if the other fails: the model exists already
        samples = kept(lost, job.write_samples) or []
        explained = kept(lost, lambda: write_explained(job, tested))
        kept(lost, lambda: write_report(job, tested, time.perf_counter() - began, by_size, explained))
    except KeyboardInterrupt:
        shown.line.clear()
        shown.interrupted()
        return 130
    shown.conclude(tested, by_size, time.perf_counter() - began, samples)
    for error in lost:
        print(f"cnncore: error: {one_line(error)}", file=sys.stderr)
    return 2 if lost else 0


def kept(lost, write):
    """The result of ``write``; an error is appended to ``lost``."""
    try:
        return write()
    except (CnnError, OSError, ValueError) as error:
        lost.append(error)
        return None


TRAIN_HELP = """\
examples:
  cnncore train                                   digits, a small Inception network, about a minute
  cnncore train --data photos                     photos/cat/1.png, photos/dog/7.jpg, …: one folder per class
  cnncore train --data photos --size 64 --epochs 30 --network network_in_network
  cnncore train --data photos --init mobilenet.onnx --preprocessing imagenet --freeze 12 --patience 5
  cnncore train --resume runs/2026-01-31_09-00-00

Images are of three kinds: those trained on, validation images, which are evaluated after every epoch and by which
--patience chooses the epoch, and images held out for the final test, which is made once, at the end. A data set's own test
part is kept for that test; of train/, val/ and test/ in a folder, val/ is for validation. Other validation images are split
off those for training: --validation 0 trains on them too.

Writes into the output folder: model.safetensors for `cnncore predict`, report.html, explained.html (every layer, for one
image), samples/ with some of the held-out images, history.csv and history.json with a row per epoch (training and
validation), test.json with the final test, and checkpoint.safetensors for --resume. After Ctrl-C the folder holds the model
of the last complete epoch. JPEG files are read with Pillow: pip install "cnncore[data]"; images stay on disk and are decoded
on other threads. Unless --no-augment is given,
images are augmented at random: greyscale ones are shifted, rotated, sheared and scaled, and for networks of any size some
batches are enlarged by up to 2.2 times; colour ones are cropped, mirrored, and changed in brightness, contrast and
saturation. The learning rate follows a one-cycle schedule.

Images of several sizes, or of another size than --size, are resized and cropped around their centre. The model file records
how, so that `cnncore predict` and `cnncore evaluate` give the probabilities of the evaluation at the end of training.

--init starts from trained weights: a model file, an ONNX file, the folder of a training, or weights by PyTorch's names for
--network. The model's preprocessing is kept; its classifier is replaced unless the classes are the same. --freeze N does not
train the first N blocks; an N that is too large prints the list of blocks."""


def add_train(commands):
    """``cnncore train`` and its options."""
    from ..train.job import LEARNING_RATES, Options

    default = Options()
    rates = ", ".join(f"{rate:g} for {name}" for name, rate in LEARNING_RATES.items())
    sub = commands.add(train, "train a network and test it", TRAIN_HELP)
    sub.add_argument(
        "--data",
        metavar="PATH",
        help="a folder with one subfolder of images per class, a folder of IDX files, two IDX files as images:labels, an .npz "
        "file, or mnist, fashion_mnist or cifar10, which are downloaded once (default: the 5,000 embedded handwritten digits)",
    )
    sub.add_argument("--network", metavar="NAME", help=f"a network of cnncore.models (default: {default.network})")
    sub.add_argument(
        "--epochs", type=int, metavar="N", help=f"passes over the training images (default: {default.epochs})"
    )
    sub.add_argument("--batch-size", type=int, metavar="N", help=f"images per step (default: {default.batch_size})")
    sub.add_argument("--optimizer", choices=list(LEARNING_RATES), help=f"(default: {default.optimizer})")
    sub.add_argument(
        "--learning-rate",
        type=rate,
        metavar="RATE",
        help=f"maximum of the one-cycle schedule (default: {rates}); `find` tries rates on a copy of the network first",
    )
    sub.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="the same seed gives the same weights, for any number of threads (default: 0)",
    )
    sub.add_argument(
        "--size", type=size, metavar="HxW", help="resize images (default: their own size, or the median size)"
    )
    transfer_options(sub)
    regularisation_options(sub)
    sub.add_argument(
        "--no-augment", action="store_false", dest="augment", default=None, help="train without augmentation"
    )
    sub.add_argument(
        "--validation",
        type=float,
        metavar="FRACTION",
        help="fraction of the images for training that validate instead (default: the data set's own validation part, else 0.1)",
    )
    sub.add_argument(
        "--test",
        type=float,
        metavar="FRACTION",
        help="fraction of the images held out for the final test (default: the data set's own test part, else 0.2)",
    )
    sub.add_argument("--output", metavar="FOLDER", help="folder for model and report (default: runs/<date and time>)")
    sub.add_argument(
        "--resume", metavar="FOLDER", help="continue an interrupted training; the final weights are the same"
    )
    sub.add_argument("--quiet", action="store_true", help="print the final accuracy only")
    add_ranks(sub)


def add_ranks(sub):
    """The options of training on several processes."""
    group = sub.add_argument_group("training on several processes or machines")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="train together with the other processes that mpiexec has started: mpiexec -n 4 python -m mpi4py -m cnncore train "
        "--distributed (pip install 'cnncore[mpi]')",
    )
    group.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="cut every batch into N shards; the weights are the same for every number of processes up to it (default: 8 with "
        "--distributed)",
    )
    group.add_argument(
        "--reduction",
        choices=["tree", "mpi"],
        default="tree",
        help="add gradients along a fixed tree, or in MPI's own order: then the weights depend on the number of processes",
    )


def transfer_options(sub):
    """The options of training that starts from trained weights."""
    group = sub.add_argument_group("transfer")
    group.add_argument(
        "--init", metavar="MODEL", help="start from these weights: .safetensors, .onnx, or an output folder of `train`"
    )
    group.add_argument("--freeze", type=int, metavar="N", help="do not train the first N blocks (default: 0)")
    group.add_argument(
        "--preprocessing",
        choices=["imagenet", "caffe", "inception"],
        help="that of the model of --init, if its file does not contain it",
    )


def regularisation_options(sub):
    """The options against overfitting, and for classes of different size."""
    group = sub.add_argument_group("regularisation")
    group.add_argument(
        "--distortions",
        choices=["strokes", "photos"],
        help="kind of augmentation (default: photos for colour images, strokes for greyscale ones)",
    )
    group.add_argument(
        "--balance", action="store_true", default=None, help="weight classes by the inverse of their number of images"
    )
    group.add_argument("--label-smoothing", type=float, metavar="E", help="such as 0.1 (default: 0)")
    group.add_argument(
        "--mixup", type=float, metavar="ALPHA", help="mix images, and their labels, in pairs: such as 0.2 (default: 0)"
    )
    group.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="stop after N epochs without a higher validation accuracy, and keep the best weights (default: keep the last)",
    )


class TrainingLines:
    """The output of a training: one line per epoch, and on a terminal a progress line below them."""

    def __init__(self, job, quiet):
        self.job, self.quiet = job, quiet
        self.line = ProgressLine(sys.stderr, False if quiet else None)
        self.next_line = 0.0  # when progress is next written into a file

    def introduce(self):
        if self.quiet:
            return
        job, options = self.job, self.job.options
        height, width = job.train.size
        table = job.net.summary(job.net.graph.inputs[0].given((1, job.train.channels, height, width)))
        validating = "" if job.validation is None else f"{len(job.validation):,} for validation, "
        print(
            f"{job.train.name.removesuffix(', training part')}: {len(job.train):,} training images, {validating}"
            f"{len(job.held_out):,} held out; {height}×{width} {'greyscale' if job.train.channels == 1 else 'RGB'}, "
            f"{len(job.train.class_names)} classes"
        )
        print(
            f"{job.description.removeprefix('network ')}: {table.parameters:,} parameters, "
            f"{table.multiply_adds / 1e6:,.1f} million multiply-adds per image; {get_num_threads()} "
            f"thread{'s' * (get_num_threads() > 1)}, {cpu.target()}{ranks_of(job)}{frozen_in(job)}"
        )
        print(
            f"{options.epochs} epochs in batches of {options.batch_size}, {options.optimizer}, learning rate up to "
            f"{options.learning_rate:g}, seed {options.seed}{'' if options.augment else ', no augmentation'}; "
            f"into {job.folder}",
            flush=True,
        )
        done = len(job.trainer.history)
        if done:
            print(f"resumed after epoch {done} of {options.epochs}", flush=True)

    def on_step(self, trainer, now):
        fraction = (now.step + 1) / now.steps

        def text(place):
            return f"{place}  loss {now.loss:.3f}  {now.images_per_second:,.0f} images/s  {clock(now.remaining)} left"

        self.line.show(lambda: text(f"epoch {now.epoch + 1:>2}/{now.epochs}  {bar(fraction)} {fraction:4.0%}"))
        if not self.quiet and not self.line.shown and time.monotonic() >= self.next_line:
            print(text(f"training: {fraction:.0%} of epoch {now.epoch + 1}"), flush=True)
            self.next_line = time.monotonic() + SECONDS_BETWEEN_LINES

    def on_epoch(self, trainer, epoch):
        self.line.clear()
        if not self.quiet:
            checked = epoch.validation_accuracy
            print(
                f"epoch {epoch.epoch + 1:>{len(str(self.job.options.epochs))}}/{self.job.options.epochs}  "
                f"loss {epoch.loss:.4f}  accuracy {epoch.accuracy:7.2%}  "
                f"{'' if checked is None else f'validation {checked:7.2%}  '}"
                f"{epoch.images_per_second:,.0f} images/s  {epoch.seconds:.1f} s",
                flush=True,
            )

    def conclude(self, tested, by_size, seconds, samples):
        job = self.job
        classes = job.held_out.class_names
        wrong = round((1 - tested.accuracy) * len(tested.labels))
        if not self.quiet:
            if job.options.patience is not None:
                print(
                    f"the weights are those of epoch {job.chosen_epoch()}, the most accurate one on the validation images"
                )
            print(
                f"\nConfusion matrix of the final test, {len(tested.labels):,} held-out images (rows: true class, columns: "
                "predicted class)"
            )
            print(confusion_table(tested.confusion, classes))
            print()
        print(
            f"accuracy {tested.accuracy:.2%} on held-out images ({wrong} of {len(tested.labels):,} misclassified), "
            f"in {seconds:.1f} s"
        )
        if not self.quiet:
            cost = job.trainer.communication
            if cost.bytes:
                print(
                    f"communication {cost.seconds:.1f} s, {cost.hidden:.0%} of it beside the computation; "
                    f"{cost.bytes / max(job.trainer.optimizer.steps, 1) / 1e6:.2f} MB of gradients per step"
                )
            if len(by_size) > 1:
                print("by size  " + "  ".join(f"{size[0]}×{size[1]} {share:.1%}" for size, _, share in by_size))
            print(f"model    {job.model}\nreport   {job.report}")
            if samples:
                print(f"try      cnncore predict {job.model} {samples[-1]}")

    def interrupted(self):
        job, done = self.job, len(self.job.trainer.history)
        what = f"epoch {done}" if done else f"{job.trainer.optimizer.steps} steps"
        print(
            f"cnncore: interrupted; {job.model} holds the model after {what}. "
            f"Continue with: cnncore train --resume {job.folder}",
            file=sys.stderr,
        )


def frozen_in(job):
    """How many of the parameters are not trained, for the introduction."""
    count = sum(job.net.parameters[name].size for name in job.net.frozen)
    return f"; {count:,} parameters in {job.options.freeze} blocks frozen" if count else ""


def ranks_of(job):
    """How many processes train together, for the introduction; nothing for one."""
    communicator, shards = job.trainer.communicator, job.trainer.shards
    if communicator is None or communicator.size == 1:
        return "" if shards is None else f"; {shards} shards"
    return f" in each of {communicator.size} processes; {shards} shards"


def confusion_table(confusion, classes):
    """The matrix as text; if it would be too wide, the most frequent confusions."""
    if len(classes) > MOST_CONFUSION_COLUMNS:
        off = confusion - np.diag(np.diag(confusion))
        pairs = sorted(zip(*np.nonzero(off), strict=True), key=lambda place: -off[place])[:MOST_CONFUSION_COLUMNS]
        return "\n".join(f"{off[t, a]:>6} × {classes[t]} classified as {classes[a]}" for t, a in pairs) or "  none"
    names = [name if len(name) <= 12 else name[:11] + "…" for name in classes]
    side = max(map(len, names))
    width = max(4, *(len(name) + 1 for name in names), len(str(confusion.max())) + 1)
    lines = [" " * side + "".join(name.rjust(width) for name in names)]
    for name, row in zip(names, confusion, strict=True):
        lines.append(name.ljust(side) + "".join((str(count) if count else "·").rjust(width) for count in row))
    return "\n".join(lines)
