"""``cnncore ops``, ``info``, ``check`` and ``bench``."""

import inspect
import sys
import time

import numpy as np

from .. import get_num_threads
from ..errors import SettingError, unknown_name
from ..operators.documentation import plain_text
from ..operators.peers import peers_sentence
from ..operators.registry import GRIDS, GROUPS, OPS, find
from ..operators.source_files import source_files
from ..runtime import cpu
from ..runtime.versions import show_versions
from .progress import ProgressLine, bar, clock

NAME_WIDTH = max(map(len, OPS))


def ops(options):
    """List the operators, or print the documentation of one."""
    if not options.name:
        for group, rows in GROUPS.items():
            print(f"\n{group}")
            for op in rows:
                print(f"  {op.name:<{NAME_WIDTH}} {op.summary}")
        print(
            f"\n{len(OPS)} operators. `cnncore ops NAME` prints formula, gradient, settings, edge cases and source of one."
        )
        return 0
    for name in options.name:
        if name in GRIDS:
            about = inspect.cleandoc(GRIDS[name].__doc__).replace("``", "")
            print(f"{about}\n\n{GRIDS[name].plain_table()}")
            continue
        op = known_operator("ops", name)
        print(f"cnncore.{op.name}{op.__signature__}\n\n{plain_text(op)}")
        print(f"In other frameworks\n    {peers_sentence(op.name)}\n")
        print("\n    ".join(("Source code", *source_files(op))) + "\n")
    return 0


def add_ops(commands):
    """``cnncore ops`` and its options."""
    sub = commands.add(ops, "list operators, or explain one", "example: cnncore ops lp_pool")
    sub.add_argument("name", nargs="*", metavar="OPERATOR", help="operators to explain")


def known_operator(command, name):
    """The operator called ``name``, or an error that suggests the nearest name."""
    op = find(name)
    if op is None:
        raise SettingError(unknown_name(command, "operator", name, OPS, "`cnncore ops` lists all."))
    return op


def info(options):
    """Print versions, CPU, threads, optional packages, and what computes each operator: reference implementation or kernels."""
    show_versions()
    print("CNNCORE_TARGET forces a target; CNNCORE_NUM_THREADS or cnncore.set_num_threads(n) set the threads.")
    print("`cnncore tune` measures the costs of this machine; CNNCORE_COSTS=off keeps to the built-in ones.\n")
    print(f"{'operator':<{NAME_WIDTH}} computed by (float32)")
    for op in OPS.values():
        names = kernels_of(op)
        print(f"{op.name:<{NAME_WIDTH}} {'kernel: ' + ', '.join(names) if names else 'reference'}")
    return 0


def add_info(commands):
    """``cnncore info``: no options of its own."""
    commands.add(info, "versions, CPU target, threads, packages, kernels")


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
    """Compare backward passes with scipy's numerical derivatives, and every kernel with its reference implementation."""
    from ..testing import check_operators

    for name in options.name:
        if name not in GRIDS:
            known_operator("check", name)
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


def add_check(commands):
    """``cnncore check`` and its options."""
    sub = commands.add(check, "check gradients and kernels", "example: cnncore check max_pool conv")
    sub.add_argument("name", nargs="*", metavar="OPERATOR", help="operators to check (default: all)")
    sub.add_argument("--quiet", action="store_true", help="print the last line only")


class TableUnder:
    """Standard output for a table above a progress line."""

    def __init__(self, line):
        self.line = line

    def write(self, text):
        self.line.clear()
        sys.stdout.write(text)

    def flush(self):
        sys.stdout.flush()


def bench(options):
    """Time every operator's cases: reference implementations against kernels of the current target, in turn."""
    for name in options.name:
        known_operator("bench", name)
    print(f"target {cpu.target()}, {get_num_threads()} threads, float32; medians of interleaved runs, milliseconds")
    print(f"{'operator':<{NAME_WIDTH}} {'case':<40} {'forward':>9} {'backward':>9} {'reference':>11} {'faster':>8}")
    repeats = 3 if options.quick else 9
    for name in options.name or OPS:
        op = known_operator("bench", name)
        for case in op.cases[:1] if options.quick else op.cases:
            rank = 2 if 2 in case.ranks else max(case.ranks)
            print(bench_line(op, case, rank, repeats), flush=True)
    return 0


def add_bench(commands):
    """``cnncore bench`` and its options."""
    sub = commands.add(bench, "time operators, without other frameworks", "example: cnncore bench max_pool --quick")
    sub.add_argument("name", nargs="*", metavar="OPERATOR", help="operators to time (default: all)")
    sub.add_argument("--quick", action="store_true", help="one case per operator, three runs")


def bench_line(op, case, rank, repeats):
    """One line of the table: medians of runs of the current target's kernels and of the reference implementation, in turn."""
    arrays = case.sample(rank, np.float32)
    current = cpu.target()
    times = {current: [], "reference": []}
    for _ in range(repeats):
        for target, found in times.items():
            with cpu.target(target):
                found.append(run_case(op, arrays, case.settings))
    forward, back = (1e3 * float(np.median([pair[i] for pair in times[current]])) for i in (0, 1))
    reference = 1e3 * float(np.median([sum(pair) for pair in times["reference"]]))
    faster = reference / max(forward + back, 1e-6)
    return f"{op.name:<{NAME_WIDTH}} {case!s:<40.40} {forward:>9.3f} {back:>9.3f} {reference:>11.3f} {faster:>7.1f}×"
