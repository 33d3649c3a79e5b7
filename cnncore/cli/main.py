"""The command line: ``python -m cnncore COMMAND``, also installed as ``cnncore``.

Each command is a function of the parsed options that returns the exit code: 0 all right, 1 a check failed, 2 bad input,
130 interrupted. What a user can do wrong ends in one line on stderr; --debug shows the traceback.
"""

import argparse
import contextlib
import difflib
import os
import re
import sys

from .. import __version__, set_num_threads
from ..errors import CnnError
from .nets import EXPORTED, export, profile, summary, tune
from .operators import bench, check, info, ops
from .options import count, fraction, numbers, several, size
from .predict import predict
from .train import train

__all__ = ["main"]


# ── Options ────────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    from ..train.job import LEARNING_RATES, Options

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
