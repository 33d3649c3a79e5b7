"""Fuzz cnncore: hostile calls, files, nets, failing allocations, killed trainings; every plan in a child process.

Finds are printed with their seed and kept in tools/fuzz/corpus, which every run replays first. The exit code is 1 when anything
crashed, hung or was wrong. A seed gives the same plans everywhere; without one it is drawn and printed.
"""

import argparse
import random
import sys
from pathlib import Path

from .children import CORPUS, replay, run_seeds
from .parts import PARTS

DEPTHS = {"minutes": 180.0, "hour": 3600.0, "night": 8 * 3600.0}


def parser():
    top = argparse.ArgumentParser(
        prog="fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("part", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}, corpus (default: all)")
    top.add_argument("--depth", choices=DEPTHS, default="minutes", help="how long in all: 3 minutes, an hour, 8 hours")
    top.add_argument("--seconds", type=float, metavar="S", help="how long in all, instead of a depth")
    top.add_argument("--seed", type=int, metavar="N", help="of the first plan of every part")
    top.add_argument("--plan", type=int, metavar="N", help="run the plan of this seed alone, in this process")
    top.add_argument("--corpus", type=Path, default=CORPUS, metavar="FOLDER", help="where finds are kept")
    return top


def main(arguments=None):
    options = parser().parse_args(arguments)
    unknown = [name for name in options.part if name not in (*PARTS, "corpus")]
    if unknown:
        print(f"fuzz: no part is called {unknown[0]!r}; there are {', '.join(PARTS)}, corpus", file=sys.stderr)
        return 2
    chosen = options.part or ["corpus", *PARTS]
    if options.plan is not None:
        module = PARTS[next(name for name in chosen if name in PARTS)]
        computed, refused = module.run(module.plan(options.plan))
        print(f"{computed} computed, {refused} refused")
        return 0
    seed = random.SystemRandom().randrange(10**9) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    counts = []
    if "corpus" in chosen:
        counts.append(replay(options.corpus.glob("*.json"), print))
        print(counts[-1], flush=True)
    parts = [name for name in chosen if name in PARTS]
    seconds = (options.seconds or DEPTHS[options.depth]) / max(len(parts), 1)
    for name in parts:
        why = getattr(PARTS[name], "missing", lambda: None)()
        if why is not None:
            print(f"{name}: not run: {why}")
            continue
        counts.append(run_seeds(name, seed, seconds, lambda text: print(text, flush=True), options.corpus))
        print(counts[-1], flush=True)
    return 1 if any(count.crashes or count.wrong for count in counts) else 0
