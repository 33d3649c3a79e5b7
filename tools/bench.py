"""Time cnncore side by side with every framework that is installed: ``python tools/bench.py [SECTION …] [options]``.

operators   every operator of the registry at 16×64×112×112, forward and backward, against PyTorch
small       one call on a 1×8×8×8 array: what calling costs, against PyTorch
layers      every distinct convolution of GoogLeNet, forward and backward, and the largest in float64, against PyTorch
inference   GoogLeNet against PyTorch (plain, channels last, compiled), ONNX Runtime, OpenVINO, ncnn, MNN, TensorFlow
training    GoogLeNet's training step against PyTorch (three ways) and TensorFlow; peak memory
scaling     inference by batch, image size and threads
import      import time and installed size

latency     the longest time in which Ctrl-C does not get through, of every operator on large arrays
memory      the peak memory of every operator, in multiples of its arrays

Without a section all but the last two are run. Contestants take turns in processes of their own, and only ratios within a
round count; see docs/performance.md. Peers are optional: what is not installed is named as not timed. The last two compare
with nobody.
"""

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import operators, report, responsiveness
from benchmarks.sections import SECTIONS, Run, contestants, operator_lines
from paragraphs import wrapped

import cnncore


def numbers(text):
    """Whole numbers from a list with commas."""
    return tuple(int(part) for part in text.split(","))


def shape(text):
    """Extents from 16x64x112x112."""
    return tuple(int(part) for part in text.lower().replace("×", "x").split("x"))


def parser():
    top = argparse.ArgumentParser(
        prog="bench.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("section", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: all)")
    top.add_argument("--list", action="store_true", help="say what would be timed against whom, and time nothing")
    top.add_argument("--threads", type=numbers, default=(1, 2), metavar="1,2", help="numbers of threads")
    top.add_argument("--batch", type=numbers, default=(1, 16), metavar="1,16", help="batches of networks and layers")
    top.add_argument("--rounds", type=int, metavar="N", help="turns of every contestant (default: 5 to 15 by section)")
    top.add_argument("--seconds", type=float, default=0.1, metavar="S", help="length of a turn; one call at least")
    top.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="cases with this text in their name; repeatable"
    )
    top.add_argument(
        "--peers", action="append", default=[], metavar="TEXT", help="peers with this text in their name; repeatable"
    )
    top.add_argument(
        "--targets",
        type=lambda t: tuple(t.split(",")),
        default=(),
        metavar="avx2,baseline",
        help="time cnncore also with these CPU targets forced",
    )
    top.add_argument(
        "--values", type=int, default=responsiveness.VALUES, metavar="N", help="of x, for latency and memory"
    )
    top.add_argument(
        "--gigabytes",
        type=float,
        default=responsiveness.MEMORY,
        metavar="GB",
        help="that a measurement of latency or memory may take; where they do not suffice, fewer values are taken",
    )
    top.add_argument(
        "--shapes",
        type=lambda t: tuple(t.split(",")),
        default=tuple(responsiveness.SHAPES),
        metavar="batch,image",
        help="shapes of x, for latency and memory",
    )
    top.add_argument("--size", type=int, default=224, help="image size of the networks")
    top.add_argument("--network", default="googlenet", help="network of cnncore.models")
    top.add_argument(
        "--shape", type=shape, default=operators.STANDARD, metavar="16x64x112x112", help="standard size of operators"
    )
    top.add_argument(
        "--output", type=Path, metavar="FOLDER", help="write results.json and results.md there, row by row"
    )
    top.add_argument(
        "--docs",
        type=Path,
        metavar="RESULTS.json",
        help="time nothing; write the tables of that file into docs/performance.md, or of limits.json into a page beside it",
    )
    return top


PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
LIMITS = PAGE.with_name("limits.md")


def show_list(sections):
    """What would be timed, against whom."""
    for section in sections:
        peers = "; ".join(name + (f" ({why})" if why else "") for name, why in contestants(section))
        print(f"{section}: {SECTIONS[section].__doc__.splitlines()[0]}")
        if peers:
            print(f"  peers: {peers}")
        if section == "operators":
            for name, what, peer in operator_lines():
                print(f"  {name:<28} {what:<60} {peer}")


def progress(line):
    """One line on a terminal, rewritten; else nothing, the rows say enough."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}"[:200], end="", file=sys.stderr, flush=True)


def measure(measures, options):
    """Print the tables of what is measured without peers; with ``--output`` go on where an earlier run was interrupted."""
    names = [name for name in cnncore.OPS if not options.only or any(text in name for text in options.only)]
    file = options.output / "limits.json" if options.output else None
    results = json.loads(file.read_text(encoding="utf-8")) if file and file.exists() else {}
    for what in measures:
        if options.list:
            print(f"{what}: {responsiveness.MEASURES[what].__doc__.splitlines()[0]}")
            continue
        found = results.setdefault(what, {})
        results.setdefault("runs", {})[what] = responsiveness.described_run(options.values, options.gigabytes)
        for _ in responsiveness.measured(
            what, names, options.values, options.shapes, found, progress, options.gigabytes
        ):
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"\n## {what}\n")
        for line in responsiveness.MEASURES[what](found):
            print(line, flush=True)


def main(arguments=None):
    options = parser().parse_args(arguments)
    known = [*SECTIONS, *responsiveness.MEASURES]
    unknown = [name for name in options.section if name not in known]
    if unknown:
        print(f"bench.py: no section is called {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    if options.docs and options.docs.name == "limits.json":
        lines = responsiveness.page(json.loads(options.docs.read_text(encoding="utf-8")))
        LIMITS.write_text("\n".join(wrapped(lines)) + "\n", encoding="utf-8")
        return 0
    if options.docs:
        report.write_docs(options.docs, PAGE)
        return 0
    if measures := [name for name in options.section if name in responsiveness.MEASURES]:
        measure(measures, options)
        options.section = [name for name in options.section if name in SECTIONS]
        if not options.section:
            return 0
    chosen = options.section or list(SECTIONS)
    if options.list:
        show_list(chosen)
        return 0
    run = Run(
        threads=options.threads,
        batches=options.batch,
        rounds=options.rounds,
        seconds=options.seconds,
        only=tuple(options.only),
        peers=tuple(options.peers),
        targets=options.targets,
        size=options.size,
        network=options.network,
        standard=options.shape,
        progress=progress,
    )
    started, begun, finished = datetime.now(UTC), time.monotonic(), {}
    try:
        for section in chosen:
            finished[section] = []
            for row in SECTIONS[section](run):
                finished[section].append(row)
                seconds = int(time.monotonic() - begun)
                progress("")
                print(f"[{seconds // 60:3}:{seconds % 60:02}] {section}: {report.line(row)}", flush=True)
                if options.output:
                    report.write(options.output, finished, run, started)
    except KeyboardInterrupt:
        print("\nbench.py: interrupted; what was measured is kept", file=sys.stderr)
        return 130
    print("\n" + report.page(finished, run, started, datetime.now(UTC)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
