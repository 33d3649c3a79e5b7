"""``cnncore summary``, ``profile``, ``tune`` and ``export``."""

import io
import json
import os
import pathlib
import sys

import numpy as np

from ..errors import ModelFileError, SettingError, unknown_name
from ..runtime import cpu
from ..runtime.costs import origin
from .options import fraction, numbers, positive_integer, size
from .progress import ProgressLine, bar

ANY_MODEL = "a model file (.safetensors or .onnx), the output folder of `cnncore train`, or a network of cnncore.models"


def summary(options):
    """Print shapes, parameters, multiply-adds and receptive fields of a model file or a network by name."""
    net = model_or_network(options.model, seed=None)
    print(net.summary(*input_shapes(net, options)))
    return 0


def add_summary(commands):
    """``cnncore summary`` and its options."""
    sub = commands.add(
        summary, "shapes, parameters, multiply-adds of a network", "example: cnncore summary googlenet --size 224"
    )
    sub.add_argument("model", metavar="MODEL", help=ANY_MODEL)
    sub.add_argument(
        "--size",
        type=size,
        metavar="HxW",
        help="image size (default: the training size, else 28 for greyscale, 224 for RGB)",
    )


def input_shapes(net, options, batch=1):
    """Shapes of the net's inputs: from --size, else from its preprocessing or training, else common ones."""
    shapes = []
    for row in net.graph.inputs:
        size = options.size if len(row.size) == 2 else None
        if None in row.size:
            said = [net.metadata.get(name) for name in ("crop", "size")]
            said = next((known for known in said if isinstance(known, list) and len(known) == len(row.size)), None)
            size = size or tuple(said or (USUAL_SIZE.get(row.channels, 224),) * len(row.size))
        elif size is not None and size != row.size:
            raise SettingError(
                f"{options.function.__name__}: {options.model} takes images of {'×'.join(map(str, row.size))} only; omit "
                "--size"
            )
        shapes.append(row.given((batch, row.channels, *(size or row.size))))
    return shapes


USUAL_SIZE = {1: 28, 3: 224}  # digits, and the photographs of ImageNet


def model_or_network(name, seed=0):
    """The net of a model file (our own format or ONNX), or a network of cnncore.models with initial values of that seed."""
    from ..models import NETWORKS
    from ..vision.classify import read_model

    if name not in NETWORKS or os.path.exists(name):
        if not (os.path.exists(name) or os.sep in name or name.endswith((".safetensors", ".onnx"))):
            raise SettingError(unknown_name("MODEL", "model file or network", name, NETWORKS, "Networks are"))
        net, _ = read_model(name)
        return net
    return NETWORKS[name](seed=seed)


def opened(options, fresh=True):
    """The net named by the options, with their weights, classes and preprocessing; ``fresh`` accepts untrained weights."""
    from ..models import NETWORKS
    from ..vision.classify import read_model
    from ..vision.preprocessing import Preprocessing

    named = options.model in NETWORKS and not os.path.exists(options.model)
    if named and options.weights is None and not fresh:
        raise SettingError(
            f"{options.model}: the network has no trained weights; give a model file, or weights with --weights FILE"
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
        from ..io import load_weights

        layout = "HWIO" if options.weight_names == "keras" else "OIHW"
        load_weights(net, options.weights, names=options.weight_names, layout=layout, strict=True)
    given = {name for name, value in entries.items() if value is not None}
    entries = {**net.metadata, **entries}
    net.metadata = {name: value for name, value in entries.items() if value is not None}
    try:
        Preprocessing.from_metadata("", net.metadata, net.graph.inputs[0].channels or 1)
    except ModelFileError as error:
        name = str(error).removeprefix(": ").partition(" ")[0]
        if name in given:  # by an option: the error is not the file's
            option = {"channel_order": "channels"}.get(name, name)
            raise SettingError(str(error).replace(f": {name} in its metadata is", f"--{option} is", 1)) from None
    return net


def described(options):
    """Preprocessing and classes of the options, as entries of a net's metadata."""
    from ..vision.preprocessing import preset, read_classes

    entries = {} if options.preprocessing is None else preset(options.preprocessing)
    for name in ("mean", "std", "scale", "resize"):
        if getattr(options, name) is not None:
            entries[name] = getattr(options, name)
    if options.channels is not None:
        entries["channel_order"] = options.channels
    if options.crop is not None:
        entries["crop"] = list(options.crop)
    elif options.resize is not None:
        entries["crop"] = None  # the crop of a preset, or of the file, belongs to another size
    if options.classes is not None:
        entries["classes"] = read_classes(options.classes)
    return entries


def preprocessing_options(sub):
    """Weights and preprocessing of networks from other frameworks; options take precedence over the model file."""
    group = sub.add_argument_group(
        "weights and preprocessing",
        "defaults come from the model file; export stores all of them in the file that it writes",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="weights by name for a network of cnncore.models (.safetensors, .npz)",
    )
    group.add_argument(
        "--weight-names",
        choices=["torch", "keras", "cnncore"],
        default="torch",
        help="naming and axis order of the weights (default: torch, as in torchvision)",
    )
    group.add_argument("--classes", metavar="FILE", help="names of the classes: one per line, or JSON")
    group.add_argument(
        "--preprocessing",
        choices=["imagenet", "caffe", "inception"],
        help="conventions of PyTorch's, Caffe's or TensorFlow's models; the options below override them",
    )
    group.add_argument("--mean", type=numbers, metavar="R,G,B", help="subtracted from pixels × scale (default: 0)")
    group.add_argument("--std", type=numbers, metavar="R,G,B", help="divisor after subtracting the mean (default: 1)")
    group.add_argument(
        "--scale", type=fraction, metavar="S", help="factor applied to pixels of 0 to 255 (default: 1/255)"
    )
    group.add_argument("--channels", choices=["rgb", "bgr"], help="order of the colour channels (default: rgb)")
    group.add_argument("--resize", type=positive_integer, metavar="N", help="length of the images' shorter side")
    group.add_argument("--crop", type=size, metavar="HxW", help="centre crop after resizing")


def profile(options):
    """Show where a network's time goes: milliseconds per node, GFLOP/s, share of the machine's peak, bytes."""
    net = model_or_network(options.model)
    shapes = input_shapes(net, options, options.batch)
    if options.plan:
        print(net.algorithms(*shapes, training=options.training))
        return 0
    if options.simulate:
        return simulate(net, shapes, options)
    with ProgressLine(sys.stderr) as line:
        found = net.profile(*shapes, rounds=options.rounds, training=options.training, progress=turns_under(line))
    if options.trace is not None:
        found.save_trace(options.trace)
        print(
            f"{options.trace}: the fastest pass; open it in chrome://tracing or https://ui.perfetto.dev",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps(found.data(), indent=1))
    else:
        print(found)
    return 0


def simulate(net, shapes, options):
    """The network's time on other numbers of threads."""
    numbers = (options.threads,) if options.threads else (4, 8, 16, 64)
    with ProgressLine(sys.stderr) as line:
        found = net.scaling(
            *shapes, threads=numbers, rounds=options.rounds, training=options.training, progress=turns_under(line)
        )
    print(json.dumps(found.data(), indent=1) if options.json else found)
    return 0


def add_profile(commands):
    """``cnncore profile`` and its options."""
    sub = commands.add(profile, "a network's time per node", "example: cnncore profile googlenet --batch 16 --training")
    measured_options(sub, rounds=15)
    shown = sub.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument(
        "--simulate",
        action="store_true",
        help="how the time would divide over --threads threads (default: 4, 8, 16 and 64), whatever this machine has",
    )
    sub.add_argument("--trace", metavar="FILE.json", help="write the fastest pass as a trace for chrome://tracing")
    shown.add_argument(
        "--plan",
        action="store_true",
        help="time nothing; show the cost of each algorithm, and the chosen one",
    )


def measured_options(sub, rounds, optional=False):
    """Options of measurements: ``cnncore profile`` and ``tune``."""
    more = (
        {"nargs": "?", "help": f"{ANY_MODEL}; without one, the machine itself is measured"}
        if optional
        else {"help": ANY_MODEL}
    )
    sub.add_argument("model", metavar="MODEL", **more)
    sub.add_argument("--size", type=size, metavar="HxW", help="image size (default: as for summary)")
    sub.add_argument("--batch", type=positive_integer, default=1, metavar="N", help="number of images (default: 1)")
    sub.add_argument("--training", action="store_true", help="time forward and backward passes of training")
    sub.add_argument(
        "--rounds", type=positive_integer, default=rounds, metavar="N", help=f"number of passes (default: {rounds})"
    )


def tune(options):
    """Measure the fastest algorithm of each convolution on this machine, and store it in the model file.

    Without a model: measure what algorithms cost on this machine, in general. All nets of this user are then planned by it.
    """
    if options.model is None:
        print(f"target {cpu.target()}: {cpu.measure()}")
        print(f"in force: {cpu.costs()} ({origin()})")
        return 0
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
        print(f"{model}: ONNX files cannot store the choices; save them with --output FILE.safetensors")
    return 0


def add_tune(commands):
    """``cnncore tune`` and its options."""
    sub = commands.add(tune, "measure the fastest algorithms", "example: cnncore tune runs/digits --batch 16")
    measured_options(sub, rounds=7, optional=True)
    sub.add_argument("--output", metavar="FILE", help="the model file to write (default: MODEL, if it is a file)")


def turns_under(line):
    """Progress of rounds as a line on the terminal."""
    return lambda done, total, what: line.show(f"{bar(done / total)} {done} of {total}  {what}")


def export(options):
    """Convert a model; the suffix of OUTPUT selects the format."""
    from ..io.files import write_atomically

    output = pathlib.Path(options.output)
    kind = output.suffix.lower()
    if kind not in EXPORTED:
        kinds = ", ".join(f"{suffix} ({what})" for suffix, what in EXPORTED.items())
        raise SettingError(f"export: {output}: the suffix selects the format; use {kinds}")
    if kind != ".onnx":
        for name in ("opset", "fold", "size"):
            if getattr(options, name):
                raise SettingError(f"export: --{name} applies to ONNX files only; omit it for {output}")
    net = opened(options)
    arrays = {**net.parameters, **net.buffers}
    if kind == ".onnx":
        from ..io import save_onnx

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


EXPORT_HELP = """\
examples:
  cnncore export runs/digits digits.onnx                  for ONNX Runtime; images of any size
  cnncore export runs/digits digits.onnx --size 28 --opset 13 --fold
  cnncore export runs/digits digits.npz                   arrays by name, for numpy.load
  cnncore export mobilenet.onnx mobilenet.safetensors --preprocessing imagenet --classes imagenet.txt
  cnncore export resnet50 resnet50.onnx --weights resnet50.safetensors --preprocessing imagenet

The last two store preprocessing and class names in the file, so that `cnncore predict FILE photo.jpg` needs no options.
ONNX files require the onnx package: pip install "cnncore[onnx]"."""


def add_export(commands):
    """``cnncore export`` and its options."""
    sub = commands.add(export, "convert a model file", EXPORT_HELP)
    sub.add_argument("model", metavar="MODEL", help=ANY_MODEL)
    kinds = "; ".join(f"{suffix}: {what}" for suffix, what in EXPORTED.items())
    sub.add_argument("output", metavar="OUTPUT", help=f"the file to write; its suffix selects the format: {kinds}")
    sub.add_argument(
        "--size",
        type=size,
        metavar="HxW",
        help="fix the image size of an ONNX file (default: open if it is open in the net)",
    )
    sub.add_argument(
        "--opset", type=positive_integer, metavar="N", help="ONNX operator set version, 13 to 21 (default: 21)"
    )
    sub.add_argument(
        "--fold", action="store_true", help="fold batch normalisations into the convolutions of an ONNX file"
    )
    preprocessing_options(sub)


EXPORTED = {
    ".onnx": "for ONNX Runtime and others",
    ".safetensors": "model file; other tools can read its weights by name",
    ".npz": "parameters by name, for numpy.load",
}
