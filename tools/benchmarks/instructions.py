"""How many instructions representative calls take: ``python tools/dev.py instructions`` compares them with what is recorded.

Times are noise where machines are shared; instructions are not. valgrind counts them, for the avx2 target (AVX-512 is beyond
it) on one thread; within a call Python's own are among them. They depend on the compiler, on Python and on NumPy: counts are
compared where those are the recorded ones, and otherwise only shown. A change that makes a call longer by more than three
hundredths says so, and records the new counts (``--update``) with its reason in the commit, or is mended.
"""

import ctypes
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import cnncore

RECORD = Path(__file__).with_suffix(".json")
TOLERANCE = (
    0.03  # the same call again differs by up to 0.003: the hashes of addresses, and with them Python's dictionaries
)
CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from benchmarks import instructions as i; i.count_here(sys.argv[2])"
)
REPEATED = 3  # calls that are counted together; the first, which has more to do, is not among them
MARKS = """
#include <valgrind/callgrind.h>
void counted(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void done(const char *name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""


# ── The calls ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def images(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def net_of(add, channels, side):
    """One layer in a net, as plans call it: packed weights, channels last, arrays that are kept."""
    g = cnncore.Graph()
    g.output(add(g, g.input(channels=channels)))
    net, x = g.build(seed=0), images(1, channels, side, side)
    return lambda: net(x)


def both_passes(op, *arrays, **settings):
    """Forward and backward of an operator."""

    def call():
        y, backward = op.with_backward(*arrays, **settings)
        return backward(y)

    return call


def training_step():
    net = cnncore.models.small_inception()
    trainer = cnncore.train.Trainer(net, optimizer=cnncore.train.SGD(0.1, momentum=0.9))
    x, labels = images(8, 1, 28, 28), np.arange(8) % 10

    def call():
        trainer.compute_gradients(x, labels)
        trainer.apply_gradients()

    return call


def whole_network():
    net, x = cnncore.models.small_inception(), images(1, 1, 28, 28)
    return lambda: net(x)


OPS = cnncore.OPS
CALLS = {
    "conv 3×3 in a net (Winograd)": lambda: net_of(lambda g, x: g.conv(x, 64, 3, padding=1), 64, 28),
    "conv 1×1 in a net": lambda: net_of(lambda g, x: g.conv(x, 64, 1), 192, 28),
    "conv 3×3 depthwise in a net": lambda: net_of(lambda g, x: g.conv(x, 96, 3, padding=1, groups=96), 96, 28),
    "conv 3×3, both passes": lambda: both_passes(OPS["conv"], images(2, 32, 28, 28), images(32, 32, 3, 3), padding=1),
    "max_pool, both passes": lambda: both_passes(OPS["max_pool"], images(2, 32, 56, 56), kernel_size=3, stride=2),
    "lp_pool, both passes": lambda: both_passes(OPS["lp_pool"], images(2, 32, 56, 56), kernel_size=3, stride=2),
    "gelu, both passes": lambda: both_passes(OPS["gelu"], images(2, 32, 56, 56)),
    "local_response_norm, both passes": lambda: both_passes(OPS["local_response_norm"], images(2, 32, 28, 28), size=5),
    "small_inception": whole_network,
    "training step of small_inception": training_step,
}


# ── Counting ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def count_here(marks):
    """Run by valgrind: every call between two marks."""
    library = ctypes.CDLL(marks)
    for name, make in CALLS.items():
        call = make()
        call()
        call()
        library.counted()
        for _ in range(REPEATED):
            call()
        library.done(name.encode())


def counted():
    """{call: instructions}, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        marks, source = Path(folder) / "marks.so", Path(folder) / "marks.c"
        source.write_text(MARKS)
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", marks, source], check=True)
        out = Path(folder) / "counts"
        count = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        subprocess.run(
            [*count, sys.executable, "-P", "-c", CHILD, RECORD.parent.parent, marks],
            check=True,
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": "0", "CNNCORE_TARGET": "avx2", "CNNCORE_NUM_THREADS": "1"},
        )
        found = {}
        for file in Path(folder).glob("counts.*"):
            text = file.read_text()
            name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, flags=re.MULTILINE)
            total = re.search(r"^(?:summary|totals): (\d+)", text, flags=re.MULTILINE)
            if name and total:
                found[name[1]] = int(total[1]) // REPEATED
    if set(found) != set(CALLS):
        raise SystemExit(f"not counted: {', '.join(sorted(set(CALLS) - set(found)))}")
    return {name: found[name] for name in CALLS}


def surroundings():
    """What the counts depend on beside our own code."""
    compiler = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    return {"compiler": f"gcc {compiler}", "python": platform.python_version(), "numpy": np.__version__}


def compared(found, recorded, here):
    """(lines to print, calls that take more than is allowed)."""
    known = recorded["calls"] if recorded["with"] == here else {}
    lines, longer = [], []
    for name, count in found.items():
        before = known.get(name)
        ratio = count / before if before else None
        if ratio is not None and ratio > 1 + TOLERANCE:
            longer.append(name)
        note = "" if ratio is None else f"  {ratio:.4f} × recorded" + "  MORE" * (name in longer)
        lines.append(f"{name:<36} {count:>14,}{note}")
    if not known:
        lines.append(f"recorded with {recorded['with']}, here {here}: nothing is compared")
    elif set(known) != set(found):
        lines.append("the calls are not those that are recorded: --update")
        longer += sorted(set(known) ^ set(found))
    return lines, longer


def main(update):
    """Print the counts beside those recorded; 1 if a call takes more."""
    missing = [tool for tool in ("valgrind", "gcc") if shutil.which(tool) is None]
    if missing or "avx2" not in cnncore.cpu.targets():
        print(f"not counted: needs {' and '.join(missing) or 'a processor with AVX2'}")
        return 0
    found, here = counted(), surroundings()
    if update:
        RECORD.write_text(
            json.dumps({"with": here, "calls": found}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        print(f"recorded: {RECORD.name}")
    lines, longer = compared(found, json.loads(RECORD.read_text(encoding="utf-8")), here)
    print("\n".join(lines))
    return int(bool(longer))


if __name__ == "__main__":
    raise SystemExit(main("--update" in sys.argv[1:]))
