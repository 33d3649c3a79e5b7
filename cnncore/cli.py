"""The command line: ``python -m cnncore COMMAND``, also installed as ``cnncore``.

Each command is a function of the parsed options that returns the exit code: 0 all right, 1 a check failed, 2 bad input,
130 interrupted. What a user can do wrong ends in one line on stderr; --debug shows the traceback.
"""

import argparse
import importlib.metadata
import platform
import sys
import time

import numpy as np

from . import __version__, cpu, get_num_threads, set_num_threads
from .catalog import FAMILIES, OPS
from .errors import CnnError, SettingError
from .graph import load

__all__ = ["main"]


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
        op = known_operator(name)
        print(f"cnncore.{op.name}{op.__signature__}\n\n{op.__doc__}")
    return 0


def known_operator(name):
    """The operator called ``name``, or an error that names the nearest."""
    if name not in OPS:
        from difflib import get_close_matches

        near = get_close_matches(name, OPS, n=1)
        raise SettingError(
            f"no operator is called {name!r}{f'; did you mean {near[0]!r}?' if near else ''} See `cnncore ops`."
        )
    return OPS[name]


def info(options):
    """Print versions, CPU target, threads, and what runs for each operator: definition or kernel."""
    versions = {"cnncore": __version__, "Python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("numpy", "scipy")}
    print("  ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"CPU target {cpu.target()} (of {', '.join(cpu.targets())}; CNNCORE_TARGET forces one)")
    print(f"threads    {get_num_threads()} (CNNCORE_NUM_THREADS or cnncore.set_num_threads(n) change it)")
    print(f"kernels    {len(cpu.kernels())}: {', '.join(cpu.kernels())}")
    return 0


def check(options):
    """Hold the backward passes against scipy's numerical derivatives, and every kernel against its definition."""
    from .testing import check_operators

    for name in options.name:
        known_operator(name)
    started = time.perf_counter()
    shown = sys.stderr.isatty()

    def progress(done, total, row):
        if shown:
            print(f"\r\033[K{done} of {total} checked", end="", file=sys.stderr, flush=True)

    report = check_operators(options.name or None, progress=progress, stream=sys.stdout)
    if shown:
        print("\r\033[K", end="", file=sys.stderr)
    failed = report.failed
    print(
        f"\n{len(report.rows)} checks in {time.perf_counter() - started:.1f} s, largest error {report.largest:.1e}: "
        + ("all passed" if not failed else f"{failed if isinstance(failed, int) else len(failed)} FAILED")
    )
    return 1 if failed else 0


def summary(options):
    """Print shapes, parameters, multiply-adds and receptive fields of a model file or a network by name."""
    net = model_or_network(options.model)
    input_ = net.graph.inputs[0]
    size = options.size or [224 if extent is None else extent for extent in input_.size]
    print(net.summary((1, input_.channels, *size)))
    return 0


def model_or_network(name):
    """A net from a model file, or a fresh one from the name of a network in cnncore.models."""
    from . import models

    return models.NETWORKS[name]() if name in models.NETWORKS else load(name)


def bench(options):
    """Time every operator's cases: definition against the current target's kernels, one call after the other."""
    print(f"target {cpu.target()}, {get_num_threads()} threads, float32; medians of interleaved runs, milliseconds")
    print(f"{'operator':<24} {'case':<40} {'forward':>9} {'backward':>9} {'against definition':>20}")
    repeats = 3 if options.quick else 9
    for name in options.name or OPS:
        op = known_operator(name)
        for case in op.cases[:1] if options.quick else op.cases:
            if 2 in case.ranks:
                print(bench_line(op, case, repeats), flush=True)
    return 0


def bench_line(op, case, repeats):
    arrays = case.sample(2, np.float32)
    arrays, settings = (
        op.with_defaults(arrays, case.settings) if hasattr(op, "with_defaults") else (arrays, case.settings)
    )
    times = {"kernel": [], "definition": []}
    for _ in range(repeats):
        for what, target in (("kernel", cpu.target()), ("definition", "definition")):
            with cpu.target(target):
                start = time.perf_counter()
                y, backward = op.with_backward(*arrays, **settings)
                middle = time.perf_counter()
                backward(np.ones_like(y[0] if isinstance(y, tuple) else y))
                times[what].append((middle - start, time.perf_counter() - middle))
    forward, back = (1e3 * np.median(np.array(times["kernel"])[:, i]) for i in (0, 1))
    ratio = np.median([sum(k) / sum(d) for k, d in zip(times["kernel"], times["definition"], strict=True)])
    return f"{op.name:<24} {case!s:<40.40} {forward:>9.3f} {back:>9.3f} {ratio:>19.2f}×"


# ── Options ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def size(text):
    """HxW or a single number as (H, W)."""
    try:
        numbers = tuple(int(part) for part in text.lower().replace("×", "x").split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 28 or 28x40") from None
    return numbers * 2 if len(numbers) == 1 else numbers


def parser():
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="cnncore",
        description="Convolutional networks on the CPU: train, predict, and prove every gradient.",
        epilog="Start with `cnncore train`: it needs no arguments and takes about a minute.",
    )
    top.add_argument("--version", action="version", version=f"cnncore {__version__}")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    top.add_argument("--threads", type=int, metavar="N", help="native threads to use; results do not depend on it")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function, help_, epilog=""):
        sub = commands.add_parser(
            function.__name__,
            help=help_,
            description=function.__doc__,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(function=function)
        return sub

    sub = command(check, "prove gradients and kernels", "example: cnncore check max_pool conv")
    sub.add_argument("name", nargs="*", metavar="OPERATOR", help="operators to check (default: all)")
    sub = command(ops, "list operators, or explain one", "example: cnncore ops lp_pool")
    sub.add_argument("name", nargs="*", metavar="OPERATOR", help="operators to explain")
    sub = command(
        summary, "shapes, parameters, multiply-adds of a network", "example: cnncore summary googlenet --size 224"
    )
    sub.add_argument("model", help="a model file, or a network of cnncore.models")
    sub.add_argument("--size", type=size, metavar="HxW", help="image size (default: the network's own, or 224)")
    sub = command(bench, "time operators, no other framework needed")
    sub.add_argument("name", nargs="*", metavar="OPERATOR", help="operators to time (default: all)")
    sub.add_argument("--quick", action="store_true", help="one case per operator, three runs")
    command(info, "versions, CPU target, threads")
    return top


def main(arguments=None):
    """Run one command; return its exit code."""
    options = parser().parse_args(arguments)
    try:
        if options.threads is not None:
            set_num_threads(options.threads)
        return options.function(options)
    except KeyboardInterrupt:
        print("\ncnncore: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: `cnncore ops | head`
        sys.stderr.close()
        return 0
    except (CnnError, OSError, ImportError, MemoryError) as error:
        if options.debug:
            raise
        print(f"cnncore: error: {error}", file=sys.stderr)
        return 2
