"""``cnncore train``."""

import sys
import time

import numpy as np

from .. import get_num_threads
from ..errors import SettingError
from ..runtime import cpu
from .progress import ProgressLine, bar, clock

MOST_CONFUSION_COLUMNS = 20


def train(options):
    """Train a network and test it on images held out; without options, on handwritten digits in about a minute."""
    from ..train.job import Job, Options, new_folder

    began = time.perf_counter()
    given = {
        name: getattr(options, name) for name in Options.__dataclass_fields__ if getattr(options, name) is not None
    }
    if options.resume is not None:
        fixed = sorted(given.keys() - {"data"}) + ["output"] * (options.output is not None)
        if fixed:
            flag = "--no-augment" if fixed[0] == "augment" else f"--{fixed[0].replace('_', '-')}"
            raise SettingError(f"train: {flag} is settled by the training being resumed; leave it out")
        job = Job.resume(options.resume, given.get("data"))
    else:
        job = Job(Options(**given), new_folder() if options.output is None else options.output)
    job.make_folder()
    shown = TrainingLines(job, options.quiet)
    shown.introduce()
    try:
        tested = job.run([shown])
        shown.line.clear()
        from ..vision.classify import Classifier, accuracy_by_size
        from .report import write_report

        by_size = accuracy_by_size(Classifier(job.net), job.held_out)
        samples = job.write_samples()
        write_report(job, tested, time.perf_counter() - began, by_size)
    except KeyboardInterrupt:
        shown.line.clear()
        shown.interrupted()
        return 130
    shown.conclude(tested, by_size, time.perf_counter() - began, samples)
    return 0


class TrainingLines:
    """What a training prints: one line per epoch, and on a terminal a line of progress under them."""

    def __init__(self, job, quiet):
        self.job, self.quiet = job, quiet
        self.line = ProgressLine(sys.stderr, False if quiet else None)

    def introduce(self):
        if self.quiet:
            return
        job, options = self.job, self.job.options
        height, width = job.train.size
        table = job.net.summary((1, job.train.channels, height, width))
        print(
            f"{job.train.name.removesuffix(', training part')}: {len(job.train):,} images to train on, "
            f"{len(job.held_out):,} held out; {height}×{width} {'grey' if job.train.channels == 1 else 'RGB'}, "
            f"{len(job.train.class_names)} classes"
        )
        print(
            f"{options.network}: {table.parameters:,} parameters, {table.multiply_adds / 1e6:,.1f} million multiply-adds per "
            f"image; {get_num_threads()} thread{'s' * (get_num_threads() > 1)}, {cpu.target()}"
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
        def text():
            fraction = (now.step + 1) / now.steps
            return (
                f"epoch {now.epoch + 1:>2}/{now.epochs}  {bar(fraction)} {fraction:4.0%}  loss {now.loss:.3f}  "
                f"{now.images_per_second:,.0f} images/s  {clock(now.remaining)} left"
            )

        self.line.show(text)

    def on_epoch(self, trainer, epoch):
        self.line.clear()
        if not self.quiet:
            print(
                f"epoch {epoch.epoch + 1:>{len(str(self.job.options.epochs))}}/{self.job.options.epochs}  "
                f"loss {epoch.loss:.4f}  accuracy {epoch.accuracy:7.2%}  validation {epoch.validation_accuracy:7.2%}  "
                f"{epoch.images_per_second:,.0f} images/s  {epoch.seconds:.1f} s",
                flush=True,
            )

    def conclude(self, tested, by_size, seconds, samples):
        job = self.job
        classes = job.held_out.class_names
        wrong = round((1 - tested.accuracy) * len(tested.labels))
        if not self.quiet:
            print(f"\nConfusion of the {len(tested.labels):,} images held out (rows: true class, columns: answer)")
            print(confusion_table(tested.confusion, classes))
            print()
        print(
            f"accuracy {tested.accuracy:.2%} on images held out ({wrong} of {len(tested.labels):,} wrong), in {seconds:.1f} s"
        )
        if not self.quiet:
            if len(by_size) > 1:
                print("by size  " + "  ".join(f"{size[0]}×{size[1]} {share:.1%}" for size, _, share in by_size))
            print(f"model    {job.model}\nreport   {job.report}")
            print(f"try      cnncore predict {job.model} {samples[-1]}")

    def interrupted(self):
        job, done = self.job, len(self.job.trainer.history)
        what = f"epoch {done}" if done else f"{job.trainer.optimizer.steps} steps"
        print(
            f"cnncore: interrupted; {job.model} holds the model after {what}. "
            f"Go on with: cnncore train --resume {job.folder}",
            file=sys.stderr,
        )


def confusion_table(confusion, classes):
    """The table as text; where it would be too wide, the confusions by frequency."""
    if len(classes) > MOST_CONFUSION_COLUMNS:
        off = confusion - np.diag(np.diag(confusion))
        pairs = sorted(zip(*np.nonzero(off), strict=True), key=lambda place: -off[place])[:MOST_CONFUSION_COLUMNS]
        return "\n".join(f"{off[t, a]:>6} × {classes[t]} taken for {classes[a]}" for t, a in pairs) or "  none"
    names = [name if len(name) <= 12 else name[:11] + "…" for name in classes]
    side = max(map(len, names))
    width = max(4, *(len(name) + 1 for name in names), len(str(confusion.max())) + 1)
    lines = [" " * side + "".join(name.rjust(width) for name in names)]
    for name, row in zip(names, confusion, strict=True):
        lines.append(name.ljust(side) + "".join((str(count) if count else "·").rjust(width) for count in row))
    return "\n".join(lines)
