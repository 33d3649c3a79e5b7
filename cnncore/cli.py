"""The command line: ``python -m cnncore COMMAND``, also installed as ``cnncore``.

Each command is a function of the parsed options that returns the exit code: 0 all right, 1 a check failed, 2 bad input,
130 interrupted. What a user can do wrong ends in one line on stderr; --debug shows the traceback.
"""

import argparse
import contextlib
import difflib
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import re
import sys
import time

import numpy as np

from . import __version__, cpu, get_num_threads, set_num_threads
from .catalog import FAMILIES, GRIDS, OPS, find
from .catalog.peers import peers_sentence
from .errors import CnnError, DataError, ModelFileError, SettingError
from .progress import ProgressLine, bar, clock

__all__ = ["main"]

MOST_CONFUSION_COLUMNS = 20


# ── train ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def train(options):
    """Train a network and test it on images held out; without options, on handwritten digits in about a minute."""
    from .train.job import Job, Options, new_folder

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
        from .classify import Classifier, accuracy_by_size
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


# ── predict ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def predict(options):
    """Classify image files with a trained model, each at its own size or as the model's preprocessing says."""
    from .classify import Classifier

    if options.top < 1:
        raise SettingError(f"predict: --top must be at least 1, got {options.top}")
    if options.resize is not None and options.size is not None and options.crop is None:
        options.crop, options.size = options.size, None  # a size after a resizing is what is cut from the middle
    for name in ("resize", "crop"):
        for other in ("size", "own_size"):
            if getattr(options, name) is not None and getattr(options, other):
                raise SettingError(
                    f"predict: --{name} and --{other.replace('_', '-')} contradict each other; leave one out"
                )
    classifier = Classifier(opened(options, fresh=False), str(options.model))
    files = image_files(options.image)
    maps = map_paths(options.cam, files)
    answers, failed, odd = [], 0, []
    with ProgressLine(sys.stderr, None if len(files) > 1 and sys.stdout.isatty() is False else False) as line:
        for number, file in enumerate(files):
            line.show(f"{number} of {len(files)}")
            entry = {"file": str(file)}
            try:
                prediction = classifier.classify(
                    file, invert=options.invert, size=options.size, own_size=options.own_size
                )
                entry["size"], entry["read_at"] = list(prediction.size), list(prediction.read_at)
                entry["familiar"] = classifier.familiar_size(prediction.size) == prediction.size
                entry["class"], entry["probability"] = prediction.answer, prediction.probability
                top = prediction.top(options.top)
                entry["top"] = [{"class": name, "probability": p} for name, p in top]
                if maps:
                    from .explain import write_map

                    write_map(maps[file], prediction, classifier.activation_map(prediction))
                    entry["cam"] = str(maps[file])
            except (DataError, OSError) as error:
                if options.debug:
                    raise
                failed += 1
                entry["error"] = str(error)
                line.clear()
                print(f"cnncore: error: {error}", file=sys.stderr)
            else:
                if not entry["familiar"]:
                    odd.append(prediction)
                if not options.json:
                    named = ", ".join(f"{name} {p:.1%}" for name, p in top)
                    place = f"  {entry['cam']}" if maps else ""
                    print(f"{file}  {prediction.size[0]}×{prediction.size[1]}  {named}{place}", flush=True)
            answers.append(entry)
    if odd:
        print(f"cnncore: note: {size_note(odd, classifier)}", file=sys.stderr)
    if options.json:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
    return 2 if failed else 0


def size_note(odd, classifier):
    """What there is to say about images of sizes out of the range of the training."""
    least, most = ("×".join(map(str, size)) for size in classifier.trained_sizes())
    first, others = odd[0], f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
    read = "as it is" if first.read_at == first.size else f"at {'×'.join(map(str, first.read_at))}"
    return (
        f"{first.file}{others}: {'×'.join(map(str, first.size))} is outside the sizes in training, "
        f"{least if least == most else f'{least} to {most}'}; read {read}"
    )


def image_files(names):
    """The files named, and the images in the folders named."""
    from .train.data_files import IMAGE_SUFFIXES

    files = []
    for name in names:
        path = pathlib.Path(name)
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not inside:
            raise DataError(f"{path}: the folder holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        files += inside
    return list(dict.fromkeys(files))


def map_paths(place, files):
    """Where the class activation map of each file goes: one .png or .svg file for one image, a folder for several."""
    if place is None:
        return {}
    place = pathlib.Path(place)
    if place.suffix.lower() in (".png", ".svg"):
        if len(files) != 1:
            raise SettingError(f"predict: --cam {place} is one file for {len(files)} images; give a folder: --cam maps")
        return {files[0]: place}
    if place.suffix and not place.is_dir():
        raise SettingError(f"predict: --cam {place}: maps are written as .png or .svg, or into a folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{place}: cannot be made ({error.strerror}); choose another folder for --cam") from None
    paths, taken = {}, set()
    for file in files:
        name, count = file.stem, 1
        while name in taken:
            count += 1
            name = f"{file.stem}_{count}"
        taken.add(name)
        paths[file] = place / f"{name}.png"
    return paths


# ── ops, info, check, summary, bench ───────────────────────────────────────────────────────────────────────────────────


def ops(options):
    """List the operators, or print the documentation of one."""
    if not options.name:
        for family, rows in FAMILIES.items():
            print(f"\n{family}")
            for op in rows:
                print(f"  {op.name:<24} {op.summary}")
        print(
            f"\n{len(OPS)} operators. `cnncore ops NAME` prints formula, gradient, settings, edges and source of one."
        )
        return 0
    for name in options.name:
        if name in GRIDS:
            print(f"{GRIDS[name].__doc__}\n\n{GRIDS[name].table()}")
            continue
        op = known_operator(name)
        print(f"cnncore.{op.name}{op.__signature__}\n\n{op.__doc__}")
        print(f"Peers\n-----\n{peers_sentence(op.name)}")
    return 0


def known_operator(name):
    """The operator called ``name``, or an error that names the nearest."""
    op = find(name)
    if op is None:
        from difflib import get_close_matches

        near = get_close_matches(name, OPS, n=1)
        raise SettingError(
            f"no operator is called {name!r}{f'; did you mean {near[0]!r}?' if near else ''} See `cnncore ops`."
        )
    return op


def info(options):
    """Print versions, CPU target, threads, and what runs for each operator: definition or kernel."""
    versions = {"cnncore": __version__, "Python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("numpy", "scipy")}
    print("  ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"CPU target {cpu.target()} (of {', '.join(cpu.targets())}; CNNCORE_TARGET forces one)")
    print(f"threads    {get_num_threads()} (CNNCORE_NUM_THREADS or cnncore.set_num_threads(n) change it)")
    print(f"kernels    {len(cpu.kernels())}\n")
    print(f"{'operator':<24} runs as (float32)")
    for op in OPS.values():
        names = kernels_of(op)
        print(f"{op.name:<24} {'kernel: ' + ', '.join(names) if names else 'definition'}")
    return 0


def kernels_of(op):
    """Names of the kernels that run in a forward and a backward pass of the operator's first case."""
    case = op.cases[0]
    cpu.kernels_taken()
    run_case(op, case.sample(max(case.ranks, key=lambda rank: rank == 2), np.float32), case.settings)
    return cpu.kernels_taken()


def run_case(op, arrays, settings):
    """Seconds of a forward and of a backward pass."""
    start = time.perf_counter()
    y, backward = op.with_backward(*arrays, **settings)
    middle = time.perf_counter()
    y = y[0] if isinstance(y, tuple) else y
    if y.dtype.kind == "f":
        backward(np.ones_like(y))
    return middle - start, time.perf_counter() - middle


def check(options):
    """Hold the backward passes against scipy's numerical derivatives, and every kernel against its definition."""
    from .testing import check_operators

    for name in options.name:
        if name not in GRIDS:
            known_operator(name)
    started = time.perf_counter()
    with ProgressLine(sys.stderr, False if options.quiet else None) as line:

        def progress(done, total, row):
            took = time.perf_counter() - started
            line.show(f"{bar(done / total)} {done} of {total} checked  {clock(took / done * (total - done))} left")

        report = check_operators(
            options.name or None, progress=progress, stream=None if options.quiet else TableUnder(line)
        )
    failed = report.failed
    print(
        f"\n{len(report.rows)} checks in {time.perf_counter() - started:.1f} s, largest error {report.largest:.1e}: "
        + ("all passed" if not failed else f"{len(failed)} FAILED")
    )
    return 1 if failed else 0


class TableUnder:
    """Standard output for a table that grows above a line of progress."""

    def __init__(self, line):
        self.line = line

    def write(self, text):
        self.line.clear()
        sys.stdout.write(text)

    def flush(self):
        sys.stdout.flush()


def summary(options):
    """Print shapes, parameters, multiply-adds and receptive fields of a model file or a network by name."""
    net = model_or_network(options.model, seed=None)
    print(net.summary(*input_shapes(net, options)))
    return 0


def input_shapes(net, options, batch=1):
    """Shapes of the net's inputs: of --size, of the preprocessing, of the training, or usual ones."""
    shapes = []
    for row in net.graph.inputs:
        size = options.size if len(row.size) == 2 else None
        if None in row.size:
            said = [net.metadata.get(name) for name in ("crop", "size")]
            said = next((known for known in said if isinstance(known, list) and len(known) == len(row.size)), None)
            size = size or tuple(said or (USUAL_SIZE.get(row.channels, 224),) * len(row.size))
        elif size is not None and size != row.size:
            raise SettingError(
                f"{options.function.__name__}: {options.model} takes images of {'×'.join(map(str, row.size))} only; leave "
                "--size out"
            )
        shapes.append(row.given((batch, row.channels, *(size or row.size))))
    return shapes


USUAL_SIZE = {1: 28, 3: 224}  # digits, and the photographs of ImageNet


def model_or_network(name, seed=0):
    """A net from a model file, ours or an ONNX file, or one of that seed from the name of a network in cnncore.models."""
    from .classify import read_model
    from .models import NETWORKS

    if name not in NETWORKS or os.path.exists(name):
        if not (os.path.exists(name) or os.sep in name or name.endswith((".safetensors", ".onnx"))):
            near = difflib.get_close_matches(name, NETWORKS, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise SettingError(f"{name}: neither a file nor a network{hint}; networks are {', '.join(NETWORKS)}")
        net, _ = read_model(name)
        return net
    return NETWORKS[name](seed=seed)


def opened(options, fresh=True):
    """The net that the options name, with what they say of weights, classes, preprocessing; ``fresh``: drawn weights will do."""
    from .classify import read_model
    from .models import NETWORKS
    from .preprocessing import Preprocessing

    named = options.model in NETWORKS and not os.path.exists(options.model)
    if named and options.weights is None and not fresh:
        raise SettingError(
            f"{options.model}: a network without trained weights; give a model file, or its weights by --weights FILE"
        )
    entries = described(options)
    if named:
        classes = {"classes": len(entries["classes"])} if "classes" in entries else {}
        net = NETWORKS[options.model](seed=0 if options.weights is None else None, **classes)
    elif fresh:
        net = model_or_network(options.model)
    else:
        net, _ = read_model(options.model)
    if options.weights is not None:
        from .io import load_weights

        layout = "HWIO" if options.weight_names == "keras" else "OIHW"
        load_weights(net, options.weights, names=options.weight_names, layout=layout, strict=True)
    given = {name for name, value in entries.items() if value is not None}
    entries = {**net.metadata, **entries}
    net.metadata = {name: value for name, value in entries.items() if value is not None}
    try:
        Preprocessing.from_metadata("", net.metadata, net.graph.inputs[0].channels or 1)
    except ModelFileError as error:
        name = str(error).removeprefix(": ").partition(" ")[0]
        if name in given:  # by an option: the file is not to blame
            option = {"channel_order": "channels"}.get(name, name)
            raise SettingError(str(error).replace(f": {name} in its metadata is", f"--{option} is", 1)) from None
    return net


def described(options):
    """What the options say of preprocessing and classes, as entries of a net's metadata."""
    from .preprocessing import preset, read_classes

    entries = {} if options.preprocessing is None else preset(options.preprocessing)
    for name in ("mean", "std", "scale", "resize"):
        if getattr(options, name) is not None:
            entries[name] = getattr(options, name)
    if options.channels is not None:
        entries["channel_order"] = options.channels
    if options.crop is not None:
        entries["crop"] = list(options.crop)
    elif options.resize is not None:
        entries["crop"] = None  # that of a preset, or of the file, belongs to another size
    if options.classes is not None:
        entries["classes"] = read_classes(options.classes)
    return entries


def profile(options):
    """Show where a network's time goes: milliseconds per node, GFLOP/s, share of the machine's peak, bytes."""
    net = model_or_network(options.model)
    shapes = input_shapes(net, options, options.batch)
    if options.plan:
        print(net.algorithms(*shapes, training=options.training))
        return 0
    with ProgressLine(sys.stderr) as line:
        found = net.profile(*shapes, rounds=options.rounds, training=options.training, progress=turns_under(line))
    if options.json:
        print(json.dumps(found.data(), indent=1))
    else:
        print(found)
    return 0


def tune(options):
    """Measure which algorithm computes each convolution fastest here, and keep that in the model file."""
    net = model_or_network(options.model)
    model = pathlib.Path(options.model)
    if model.is_dir():
        model = model / "model.safetensors"
    ours = model.is_file() and model.suffix.lower() != ".onnx"
    output = options.output or (model if ours else None)
    with ProgressLine(sys.stderr) as line:
        table = net.tune(
            *input_shapes(net, options, options.batch),
            training=options.training,
            rounds=options.rounds,
            progress=turns_under(line),
        )
    print(table)
    if output is not None:
        net.save(output)
        print(f"{output}: saved with {len(net.tuned)} choices")
    elif model.is_file():
        print(f"{model}: an ONNX file has no place for choices; keep them with --output FILE.safetensors")
    return 0


def turns_under(line):
    """Progress of rounds as a line on the terminal."""
    return lambda done, total, what: line.show(f"{bar(done / total)} {done} of {total}  {what}")


def bench(options):
    """Time every operator's cases: definition against the current target's kernels, one call after the other."""
    for name in options.name:
        known_operator(name)
    print(f"target {cpu.target()}, {get_num_threads()} threads, float32; medians of interleaved runs, milliseconds")
    print(f"{'operator':<24} {'case':<40} {'forward':>9} {'backward':>9} {'definition':>11} {'faster':>8}")
    repeats = 3 if options.quick else 9
    for name in options.name or OPS:
        op = known_operator(name)
        for case in op.cases[:1] if options.quick else op.cases:
            rank = 2 if 2 in case.ranks else max(case.ranks)
            print(bench_line(op, case, rank, repeats), flush=True)
    return 0


def bench_line(op, case, rank, repeats):
    """One line of the table: medians of runs of the current target's kernels and of the definition, in turn."""
    arrays = case.sample(rank, np.float32)
    current = cpu.target()
    times = {current: [], "definition": []}
    for _ in range(repeats):
        for target, found in times.items():
            with cpu.target(target):
                found.append(run_case(op, arrays, case.settings))
    forward, back = (1e3 * float(np.median([pair[i] for pair in times[current]])) for i in (0, 1))
    definition = 1e3 * float(np.median([sum(pair) for pair in times["definition"]]))
    faster = definition / max(forward + back, 1e-6)
    return f"{op.name:<24} {case!s:<40.40} {forward:>9.3f} {back:>9.3f} {definition:>11.3f} {faster:>7.1f}×"


def export(options):
    """Convert a model: the kind of OUTPUT follows from its suffix."""
    from .images import write_atomically

    output = pathlib.Path(options.output)
    kind = output.suffix.lower()
    if kind not in EXPORTED:
        kinds = ", ".join(f"{suffix} ({what})" for suffix, what in EXPORTED.items())
        raise SettingError(f"export: {output}: the kind of file follows from its name; write {kinds}")
    if kind != ".onnx":
        for name in ("opset", "fold", "size"):
            if getattr(options, name):
                raise SettingError(f"export: --{name} belongs to ONNX files; leave it out for {output}")
    net = opened(options)
    arrays = {**net.parameters, **net.state}
    if kind == ".onnx":
        from .io import save_onnx

        chosen = {"fold": options.fold} | ({} if options.opset is None else {"opset": options.opset})
        shape = None
        if options.size is not None:
            shape = [(None, *shape[1:]) for shape in input_shapes(net, options)]
            shape = shape if len(shape) > 1 else shape[0]
        try:
            save_onnx(net, output, shape, **chosen)
        except SettingError as error:
            raise SettingError(str(error).replace("give input_shape=", "fix the size by --size HxW")) from None
    elif kind == ".safetensors":
        net.save(output)
    else:
        with io.BytesIO() as buffer:
            np.savez(buffer, **arrays)
            write_atomically(output, buffer.getvalue())
    print(f"{output}: {len(arrays)} arrays, {sum(a.size for a in arrays.values()):,} numbers")
    return 0


EXPORTED = {
    ".onnx": "for ONNX Runtime and others",
    ".safetensors": "our model file, whose weights other tools read by name",
    ".npz": "parameters by name, for numpy.load",
}


# ── Options ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def size(text):
    """HxW or a single number as (H, W)."""
    try:
        numbers = tuple(int(part) for part in text.lower().replace("×", "x").split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 28 or 28x40") from None
    return numbers * 2 if len(numbers) == 1 else numbers


def numbers(text):
    """Numbers with commas between them, as a list."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers; write 0.485,0.456,0.406") from None


def fraction(text):
    """A number, or one over another."""
    above, over, below = text.partition("/")
    try:
        return float(above) / float(below) if over else float(above)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write 1/255 or 0.0039") from None


def several(text):
    """A number from 1 up."""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no such number; give 1 or more")
    return int(text)


def count(text):
    """A number of threads."""
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads; give 1 to 256")
    return int(text)


class Parser(argparse.ArgumentParser):
    """Prints a mistake in one line, like every other error."""

    def error(self, message):
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            near = difflib.get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), n=1)
            message = message.replace(" (choose", f"; did you mean {near[0]!r}? (choose", 1) if near else message
        self.exit(2, f"cnncore: error: {message}; see `{self.prog} --help`\n")


def parser():
    """The whole command line."""
    from .train.job import LEARNING_RATES, Options

    top = Parser(
        prog="cnncore",
        description="Convolutional networks on the CPU: train, predict, and prove every gradient.",
        epilog="Start with `cnncore train`: it needs no arguments and takes about a minute. `cnncore COMMAND --help` explains "
        "each command.",
    )
    top.add_argument("--version", action="version", version=f"cnncore {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    everywhere = argparse.ArgumentParser(add_help=False)
    general = everywhere.add_argument_group("everywhere")
    general.add_argument("--threads", type=count, metavar="N", help="native threads; results do not depend on it")
    general.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def command(function, help_, epilog=""):
        sub = commands.add_parser(
            function.__name__,
            help=help_,
            description=function.__doc__,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[everywhere],
        )
        sub.set_defaults(function=function)
        return sub

    default = Options()
    rates = ", ".join(f"{rate:g} for {name}" for name, rate in LEARNING_RATES.items())
    sub = command(train, "train a network and test it", TRAIN_HELP)
    sub.add_argument(
        "--data",
        metavar="PATH",
        help="a folder with one subfolder of images per class, a folder of IDX files, two IDX files as images:labels, or an "
        ".npz file (default: 5,000 handwritten digits that come with cnncore)",
    )
    sub.add_argument("--network", metavar="NAME", help=f"a network of cnncore.models (default: {default.network})")
    sub.add_argument(
        "--epochs", type=int, metavar="N", help=f"passes over the training images (default: {default.epochs})"
    )
    sub.add_argument("--batch-size", type=int, metavar="N", help=f"images per step (default: {default.batch_size})")
    sub.add_argument("--optimizer", choices=list(LEARNING_RATES), help=f"(default: {default.optimizer})")
    sub.add_argument(
        "--learning-rate", type=float, metavar="RATE", help=f"highest of the one-cycle schedule (default: {rates})"
    )
    sub.add_argument(
        "--seed", type=int, metavar="N", help="same seed, same weights, on any number of threads (default: 0)"
    )
    sub.add_argument("--size", type=size, metavar="HxW", help="resize images (default: their own size, or the median)")
    sub.add_argument(
        "--no-augment", action="store_false", dest="augment", default=None, help="train on the images as they are"
    )
    sub.add_argument(
        "--validation",
        type=float,
        metavar="FRACTION",
        help="share of the images held out (default: the data's own test part, else 0.2)",
    )
    sub.add_argument("--output", metavar="FOLDER", help="folder for model and report (default: runs/<date and time>)")
    sub.add_argument("--resume", metavar="FOLDER", help="go on with an interrupted training, to the same weights")
    sub.add_argument("--quiet", action="store_true", help="print the final accuracy only")

    sub = command(predict, "classify images of any size", PREDICT_HELP)
    sub.add_argument("model", metavar="MODEL", help=f"{ANY_MODEL}, or the folder that `cnncore train` made")
    sub.add_argument("image", nargs="+", metavar="FILE", help="images, or folders of images")
    sub.add_argument("--top", type=int, default=1, metavar="K", help="print the K most probable classes (default: 1)")
    sub.add_argument(
        "--json", action="store_true", help="print JSON: file, size, read_at, familiar, class, probability, top"
    )
    sub.add_argument(
        "--cam",
        metavar="FILE",
        help="write the class activation map, where in the image the answer comes from: .png or .svg, or a folder",
    )
    sub.add_argument(
        "--invert", action="store_true", help="take the negative: dark ink on light paper for the digits' net"
    )
    place = sub.add_mutually_exclusive_group()
    place.add_argument(
        "--size",
        type=size,
        metavar="HxW",
        help="resize the images first (default: each at its own size, or the nearest size of the training)",
    )
    place.add_argument("--own-size", action="store_true", help="each at its own size, however far from the training")
    preprocessing_options(sub)

    sub = command(check, "prove gradients and kernels", "example: cnncore check max_pool conv")
    sub.add_argument("name", nargs="*", metavar="OPERATOR", help="operators to check (default: all)")
    sub.add_argument("--quiet", action="store_true", help="print the last line only")
    sub = command(ops, "list operators, or explain one", "example: cnncore ops lp_pool")
    sub.add_argument("name", nargs="*", metavar="OPERATOR", help="operators to explain")
    sub = command(
        summary, "shapes, parameters, multiply-adds of a network", "example: cnncore summary googlenet --size 224"
    )
    sub.add_argument("model", metavar="MODEL", help=ANY_MODEL)
    sub.add_argument(
        "--size", type=size, metavar="HxW", help="image size (default: that of the training; 28 for grey, 224 for RGB)"
    )
    for function, help_, example in (
        (profile, "a network's time per node", "cnncore profile googlenet --batch 16 --training"),
        (tune, "measure the fastest algorithms", "cnncore tune runs/digits --batch 16"),
    ):
        sub = command(function, help_, f"example: {example}")
        sub.add_argument("model", metavar="MODEL", help=ANY_MODEL)
        sub.add_argument("--size", type=size, metavar="HxW", help="image size (default: as for summary)")
        sub.add_argument("--batch", type=several, default=1, metavar="N", help="number of images (default: 1)")
        sub.add_argument("--training", action="store_true", help="forward and backward passes of training")
        rounds = {profile: 15, tune: 7}[function]
        sub.add_argument("--rounds", type=several, default=rounds, metavar="N", help=f"passes (default: {rounds})")
        if function is profile:
            shown = sub.add_mutually_exclusive_group()
            shown.add_argument("--json", action="store_true", help="print JSON")
            shown.add_argument(
                "--plan",
                action="store_true",
                help="time nothing; show what each algorithm would cost, and which one it is",
            )
        else:
            sub.add_argument(
                "--output", metavar="FILE", help="the model file to write (default: MODEL, if it is a file)"
            )
    command(info, "versions, CPU target, threads, kernels")
    sub = command(bench, "time operators, no other framework needed", "example: cnncore bench max_pool --quick")
    sub.add_argument("name", nargs="*", metavar="OPERATOR", help="operators to time (default: all)")
    sub.add_argument("--quick", action="store_true", help="one case per operator, three runs")
    sub = command(export, "convert a model file", EXPORT_HELP)
    sub.add_argument("model", metavar="MODEL", help=ANY_MODEL)
    kinds = "; ".join(f"{suffix}: {what}" for suffix, what in EXPORTED.items())
    sub.add_argument("output", metavar="OUTPUT", help=f"the file to write, by its suffix: {kinds}")
    sub.add_argument(
        "--size", type=size, metavar="HxW", help="fix the image size of an ONNX file (default: open where the net is)"
    )
    sub.add_argument("--opset", type=several, metavar="N", help="version of ONNX's operators, 13 to 21 (default: 21)")
    sub.add_argument(
        "--fold", action="store_true", help="multiply batch normalisations into the convolutions of an ONNX file"
    )
    preprocessing_options(sub)
    return top


ANY_MODEL = "a model file (.safetensors or .onnx), or a network of cnncore.models"


def preprocessing_options(sub):
    """What a network that came from elsewhere was trained with; the options win over what its file says."""
    group = sub.add_argument_group(
        "weights and preprocessing",
        "what is not said here is as the model file has it; export keeps all in the file that it writes",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="weights for a network of cnncore.models, by their names (.safetensors, .npz)",
    )
    group.add_argument(
        "--weight-names",
        choices=["torch", "keras", "cnncore"],
        default="torch",
        help="whose names and order of axes those are (default: torch, as in torchvision)",
    )
    group.add_argument("--classes", metavar="FILE", help="names of the classes: one per line, or JSON")
    group.add_argument(
        "--preprocessing",
        choices=["imagenet", "caffe", "inception"],
        help="what networks of PyTorch's, Caffe's or TensorFlow's collections expect; what follows goes first",
    )
    group.add_argument("--mean", type=numbers, metavar="R,G,B", help="of pixels × scale (else 0)")
    group.add_argument("--std", type=numbers, metavar="R,G,B", help="of pixels × scale (else 1)")
    group.add_argument(
        "--scale", type=fraction, metavar="S", help="what pixels of 0 to 255 are multiplied by (else 1/255)"
    )
    group.add_argument("--channels", choices=["rgb", "bgr"], help="order of the colours (else rgb)")
    group.add_argument("--resize", type=several, metavar="N", help="extent of the images' shorter side")
    group.add_argument("--crop", type=size, metavar="HxW", help="cut this size from the middle after that")


TRAIN_HELP = """\
examples:
  cnncore train                                   digits, a small Inception network, about a minute
  cnncore train --data photos                     photos/cat/1.png, photos/dog/7.jpg, …: one folder per class
  cnncore train --data photos --size 64 --epochs 30 --network network_in_network
  cnncore train --resume runs/2026-01-31_09-00-00

Leaves in the output folder: model.safetensors for `cnncore predict`, report.html to look at, samples/ with some of the
images held out, and checkpoint.safetensors for --resume. Ctrl-C leaves the model of the last complete epoch. JPEG files
are read through Pillow: pip install "cnncore[data]". Images are shifted, turned, sheared and stretched at random,
and for networks of any size some batches are enlarged up to 2.2 times, unless --no-augment; the learning rate rises to
its highest and falls again (one cycle)."""

PREDICT_HELP = """\
examples:
  cnncore predict runs/digits digit.png
  cnncore predict runs/digits scans --top 3 --json
  cnncore predict runs/digits photo.jpg --invert --cam where.svg

Networks that average over the image take any size, and read each image at its own. But they know things as large as they
saw them in training, the digits' network 28×28 to 62×62: an image outside that range is read at the nearest size in it,
and a note says so ("familiar": false in JSON). --own-size reads it as it is, --size at any size you say.

Networks that came from elsewhere say how their images are prepared, in the file or by options:
  cnncore predict mobilenet.onnx photo.jpg --top 5 --preprocessing imagenet --classes imagenet.txt
  cnncore predict resnet50 photo.jpg --weights resnet50.safetensors --preprocessing imagenet
  cnncore predict net.onnx photo.png --mean 104,117,123 --scale 1 --channels bgr --resize 256 --crop 224"""

EXPORT_HELP = """\
examples:
  cnncore export runs/digits digits.onnx                  for ONNX Runtime; images of any size
  cnncore export runs/digits digits.onnx --size 28 --opset 13 --fold
  cnncore export runs/digits digits.npz                   numbers by name, for numpy.load
  cnncore export mobilenet.onnx mobilenet.safetensors --preprocessing imagenet --classes imagenet.txt
  cnncore export resnet50 resnet50.onnx --weights resnet50.safetensors --preprocessing imagenet

The last two keep preprocessing and class names in the file, so that `cnncore predict FILE photo.jpg` needs no options.
ONNX files need the onnx package: pip install "cnncore[onnx]"."""


def main(arguments=None):
    """Run one command; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # not a text file of the usual kind
            stream.reconfigure(errors="replace")
    options = parser().parse_args(arguments)
    try:
        if options.threads is not None:
            set_num_threads(options.threads)
        code = options.function(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\ncnncore: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: `cnncore ops | head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (CnnError, OSError, ImportError, MemoryError) as error:
        if options.debug:
            raise
        print(f"cnncore: error: {one_line(error)}", file=sys.stderr)
        return 2


def one_line(error):
    """The error's text in one line; OSErrors with the file first, as all others have it."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    if isinstance(error, MemoryError):
        return f"out of memory{f' ({error})' if str(error) else ''}; give a smaller size or batch size"
    return " ".join(str(error).split())
