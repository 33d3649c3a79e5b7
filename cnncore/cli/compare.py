"""``cnncore compare``."""

import importlib.util
import pathlib
import sys
import time

from ..errors import SettingError
from ..io.files import write_atomically
from .options import positive_integer
from .progress import ProgressLine, bar, clock

__all__ = ["add_compare"]

HELP = """\
examples:
  cnncore compare --pooling max,avg,soft
  cnncore compare --activation relu,silu,tanh --network lenet --epochs 5
  cnncore compare --downsampling pool,stride --output runs/strides
  cnncore compare --pooling max,range --import range_pool.py

One option has several values, by commas; the others at most one, for all. Every network gets the same data, seeds and
training. A file given with --import runs first; it may define poolings and activations of its own in Python."""


def compare(options):
    """Train networks that differ in one thing, and compare accuracy, size and time."""
    from ..train.comparison import compare as compared

    for path in options.imports:
        run_file(path)
    chosen = {
        name: tuple(value.split(","))
        for name in ("pooling", "activation", "downsampling", "head")
        if (value := getattr(options, name))
    }
    began = time.perf_counter()
    with ProgressLine(sys.stderr, False if options.quiet else None) as line:

        def progress(name, number, total, epoch):
            done = (number + (epoch + 1) / options.epochs) / total
            left = (time.perf_counter() - began) * (1 - done) / done
            line.show(f"{bar(done)} {done:4.0%}  {name}, training {number + 1} of {total}  {clock(left)} left")

        found = compared(
            options.network,
            options.data,
            **chosen,
            seeds=options.seeds,
            epochs=options.epochs,
            augment=options.augment,
            images=options.images,
            progress=progress,
        )
    print(found)
    if options.output:
        folder = pathlib.Path(options.output)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("comparison.txt", f"{found}\n"),
            ("comparison.csv", found.to_csv()),
            ("comparison.json", f"{found.to_json()}\n"),
            ("comparison.svg", found.to_svg()),
        ):
            write_atomically(folder / name, text.encode())
        print(f"table and plot in {folder}: comparison.txt, .csv, .json, .svg")
    return 0


def run_file(path):
    """Run a Python file that defines operators."""
    place = pathlib.Path(path)
    if not place.is_file():
        raise SettingError(f"compare: there is no file {path}")
    spec = importlib.util.spec_from_file_location(place.stem, place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[place.stem] = module
    spec.loader.exec_module(module)


def add_compare(commands):
    """``cnncore compare`` and its options."""
    sub = commands.add(compare, "train networks that differ in one thing", HELP)
    sub.add_argument("--pooling", metavar="A,B,…", help="strategies for all poolings, as `cnncore ops pool` lists them")
    sub.add_argument("--activation", metavar="A,B,…", help="activations for all ReLUs")
    sub.add_argument("--downsampling", metavar="A,B", help="pool, stride: strided convolutions for poolings")
    sub.add_argument("--head", metavar="A,B", help="pooled, dense: average over the image, or a fully connected layer")
    sub.add_argument("--network", default="small_inception", metavar="NAME", help="a network of cnncore.models")
    sub.add_argument("--data", metavar="PATH", help="as for `cnncore train` (default: the embedded digits)")
    sub.add_argument(
        "--seeds", type=positive_integer, default=3, metavar="N", help="trainings of each network (default: 3)"
    )
    sub.add_argument("--epochs", type=positive_integer, default=8, metavar="N", help="of each training (default: 8)")
    sub.add_argument("--images", type=positive_integer, metavar="N", help="train on the first N images only")
    sub.add_argument("--no-augment", action="store_false", dest="augment", help="train without augmentation")
    sub.add_argument(
        "--import", action="append", default=[], dest="imports", metavar="FILE.py", help="a file to run first"
    )
    sub.add_argument("--output", metavar="DIR", help="folder for the table (text, CSV, JSON) and the plot (SVG)")
    sub.add_argument("--quiet", action="store_true", help="no progress")
