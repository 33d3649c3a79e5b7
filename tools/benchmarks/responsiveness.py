"""How soon Ctrl-C gets through, and how much memory a call takes, over all operators: each measured in a process of its own.

``latency``: the longest time between two moments at which Python handles signals, during both passes on large arrays. A timer
sends a signal every 10 ms; a gap in which none was handled is time in which Ctrl-C would not have got through either.

``memory``: the peak of the resident memory above that before the call, in multiples of the bytes of all arrays of the pass: those
that go in and those that come out, which are part of what the call takes.
"""

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import cnncore

from . import operators

VALUES = 2**27  # of x: with y and both gradients 2 GB
LIMIT = 0.2  # seconds in which Ctrl-C has to get through
SECONDS = 300  # that a measurement may take
HERE = Path(__file__).resolve().parent
CHILD = """
import sys
sys.path.insert(0, {tools!r})
from benchmarks import responsiveness
responsiveness.{function}(*sys.argv[1:])
"""


def grown(op, values):
    """The arrays and settings with which the operator is timed, x of about so many values."""
    side = max(math.isqrt(values // 1024), 8)
    return operators.sample(op, (16, 64, side, side), "float32")


def measure_latency(name, values):
    """Print the longest gap and the seconds of both passes, as JSON."""
    import signal
    import time

    import numpy as np

    op = cnncore.OPS[name]
    arrays, settings = grown(op, int(values))
    stamps = []
    signal.signal(signal.SIGALRM, lambda *_: stamps.append(time.monotonic()))
    begun = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    gaps = {}
    y, backward = op.with_backward(*arrays, **settings)
    gaps["forward"] = longest(begun, stamps, time.monotonic())
    y = y[0] if isinstance(y, tuple) else y
    signal.setitimer(signal.ITIMER_REAL, 0)
    if op.yields == "real":
        dy = np.ones_like(y)
        stamps.clear()
        begun = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        backward(dy)
        gaps["backward"] = longest(begun, stamps, time.monotonic())
        signal.setitimer(signal.ITIMER_REAL, 0)
    print(json.dumps({"values": int(arrays[0].size), **gaps}))


def longest(begun, stamps, ended):
    """(longest gap, whole time) in seconds."""
    moments = [begun, *stamps, ended]
    return max(b - a for a, b in itertools.pairwise(moments)), ended - begun


def measure_memory(name, values):
    """Print peak memory of both passes and the bytes of the arrays, as JSON."""
    import numpy as np

    op = cnncore.OPS[name]
    warm = op.cases[0].sample(op.cases[0].ranks[-1], "float32")
    op.with_backward(*warm, **op.cases[0].settings)
    arrays, settings = grown(op, int(values))
    inputs = sum(a.nbytes for a in arrays if a is not None)
    before = reset_peak()
    y, backward = op.with_backward(*arrays, **settings)
    outputs = y if isinstance(y, tuple) else (y,)
    after = peak()
    said = {"values": int(arrays[0].size), "inputs": inputs, "outputs": sum(a.nbytes for a in outputs)}
    said["forward"] = after - before
    if op.yields == "real":
        dy = np.ones_like(outputs[0])
        before = reset_peak()
        gradients = backward(dy)
        said["backward"] = peak() - before
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        said["gradients"] = sum(a.nbytes for a in gradients)
    print(json.dumps(said))


def status(field):
    """A line of this process's memory, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")


def reset_peak():
    """Forget the peak so far; the resident memory now."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS:")


def peak():
    return status("VmHWM:")


def children(function, names, values, progress):
    """(name, what its process printed, or the reason why not) for every operator."""
    code = CHILD.format(tools=str(HERE.parent), function=function)
    for name in names:
        progress(f"{function}: {name}")
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", code, name, str(values)],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                env={
                    **os.environ,
                    "MALLOC_MMAP_THRESHOLD_": "65536",
                },  # what was freed before is not taken again unseen
            )
        except subprocess.TimeoutExpired:
            yield name, f"more than {SECONDS} s"
            continue
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        yield name, json.loads(done.stdout) if done.returncode == 0 else lines[-1][:120]


def latency(names, values, progress):
    """A table of the longest gaps, the longest first; what is over the limit is bold."""
    rows, missing = [], []
    for name, said in children("measure_latency", names, values, progress):
        if isinstance(said, str):
            missing.append(f"{name}: {said}")
            continue
        for stage in ("forward", "backward"):
            if stage in said:
                gap, whole = said[stage]
                rows.append((gap, name, stage, said["values"], whole))
    rows.sort(reverse=True)
    yield "| operator | values | longest gap, ms | whole call, s |"
    yield "|---|---|---|---|"
    for gap, name, stage, count, whole in rows:
        mark = "**" if gap > LIMIT else ""
        yield f"| {name} {stage} | {count:,} | {mark}{1e3 * gap:.0f}{mark} | {whole:.2f} |"
    yield f"\n{sum(row[0] > LIMIT for row in rows)} of {len(rows)} passes over {1e3 * LIMIT:.0f} ms"
    yield from missing


def memory(names, values, progress):
    """A table of peaks in multiples of the arrays, the largest first."""
    rows, missing = [], []
    for name, said in children("measure_memory", names, values, progress):
        if isinstance(said, str):
            missing.append(f"{name}: {said}")
            continue
        arrays = said["inputs"] + said["outputs"]
        rows.append((said["forward"] / arrays, name, "forward", said))
        if "backward" in said:
            rows.append((said["backward"] / (arrays + said["gradients"]), name, "backward", said))
    rows.sort(key=lambda row: (-row[0], row[1]))
    yield "| operator | values | arrays, MB | taken by the call, MB | ÷ arrays |"
    yield "|---|---|---|---|---|"
    for ratio, name, stage, said in rows:
        arrays = said["inputs"] + said["outputs"] + (said["gradients"] if stage == "backward" else 0)
        yield f"| {name} {stage} | {said['values']:,} | {arrays / 1e6:.0f} | {said[stage] / 1e6:.0f} | {ratio:.2f} |"
    yield from missing


MEASURES = {"latency": latency, "memory": memory}
