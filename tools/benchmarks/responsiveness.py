"""How soon Ctrl-C gets through, and how much memory a call takes, over all operators: each measured in a process of its own.

``latency``: the longest time between two moments at which Python handles signals, during both passes on large arrays, on one
thread. A timer sends a signal every 10 ms; a gap in which none was handled is time in which Ctrl-C would not have got through
either. It is the processor's time that counts, so that other programs on the machine do not.

``memory``: the peak of the resident memory above that before the call, in multiples of the bytes of all arrays of the pass: those
that go in and those that come out, which are part of what the call takes.

Both measure two shapes: a batch of images with 64 channels, and one image with 8, whose planes are 32 times as large. A process
takes at most so many GB; an operator that would take more is measured with half as many values, or a quarter, and so on.
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

VALUES = 2**28  # of x, unless the command line says otherwise: with y and both gradients 4 GB
LIMIT = 0.2  # seconds in which Ctrl-C has to get through
SECONDS = 900  # that a measurement may take
MEMORY = 6.0  # GB that it may take, unless the command line says otherwise
FEWEST = 2**20  # values of x below which nothing would be shown
SHAPES = {"batch": (16, 64), "image": (1, 8)}  # images and channels
HERE = Path(__file__).resolve().parent
CHILD = """
import sys
sys.path.insert(0, {tools!r})
from benchmarks import responsiveness
responsiveness.bound_memory({gigabytes})
responsiveness.{function}(*sys.argv[1:])
"""


def bound_memory(gigabytes):
    """Let this process take so much more memory, and raise MemoryError beyond."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (status("VmSize:") + int(1e9 * gigabytes), resource.RLIM_INFINITY))


def grown(op, values, shape):
    """The arrays and settings with which the operator is timed, x of about so many values."""
    side = max(math.isqrt(values // math.prod(SHAPES[shape])), 8)
    return operators.sample(op, (*SHAPES[shape], side, side), "float32")


def measure_latency(name, values, shape):
    """Print the longest gap and the seconds of both passes, as JSON."""
    import signal
    import time

    import numpy as np

    cnncore.set_num_threads(1)
    op = cnncore.OPS[name]
    arrays, settings = grown(op, int(values), shape)
    stamps = []
    signal.signal(signal.SIGALRM, lambda *_: stamps.append(time.thread_time()))
    begun = time.thread_time()
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    gaps = {}
    y, backward = op.with_backward(*arrays, **settings)
    gaps["forward"] = longest(begun, stamps, time.thread_time())
    y = y[0] if isinstance(y, tuple) else y
    signal.setitimer(signal.ITIMER_REAL, 0)
    if op.yields == "real":
        dy = np.ones_like(y)
        stamps.clear()
        begun = time.thread_time()
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        backward(dy)
        gaps["backward"] = longest(begun, stamps, time.thread_time())
        signal.setitimer(signal.ITIMER_REAL, 0)
    print(json.dumps({"values": int(arrays[0].size), **gaps}))


def longest(begun, stamps, ended):
    """(longest gap, whole time) in seconds."""
    moments = [begun, *stamps, ended]
    return max(b - a for a, b in itertools.pairwise(moments)), ended - begun


def measure_memory(name, values, shape):
    """Print peak memory of both passes and the bytes of the arrays, as JSON."""
    import numpy as np

    op = cnncore.OPS[name]
    warm = op.cases[0].sample(op.cases[0].ranks[-1], "float32")
    op.with_backward(*warm, **op.cases[0].settings)
    arrays, settings = grown(op, int(values), shape)
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


def measured(measure, names, values, shapes, found, progress, gigabytes=MEMORY):
    """Fill ``found`` with what a process of each operator printed, or the reason why not, by shape and name.

    Yields after each; what ``found`` has is not measured again.
    """
    for shape, name in itertools.product(shapes, names):
        rows = found.setdefault(shape, {})
        if name in rows and not isinstance(rows[name], str):
            continue
        progress(f"{measure}, {shape}: {name}")
        rows[name] = within_memory(f"measure_{measure}", name, values, shape, gigabytes)
        yield shape, name


def within_memory(function, name, values, shape, gigabytes):
    """What the function prints, with half as many values, a quarter … until they fit; then "fits" has the GB."""
    said = in_process(function, name, values, shape, gigabytes=gigabytes)
    while is_memory_error(said) and values > FEWEST:
        values //= 2
        said = in_process(function, name, values, shape, gigabytes=gigabytes)
        if not isinstance(said, str):
            said["fits"] = gigabytes
    return said


def is_memory_error(said):
    """Whether a process ended for want of memory: with Python's error, or with NumPy's, which is one of them."""
    return isinstance(said, str) and said.split(":")[0].endswith("MemoryError")


def in_process(function, *arguments, gigabytes=MEMORY):
    """What the function prints in a process of its own, or why it did not."""
    code = CHILD.format(tools=str(HERE.parent), function=function, gigabytes=float(gigabytes))
    # What was freed before is not taken again unseen.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        return f"more than {SECONDS} s"
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return json.loads(done.stdout) if done.returncode == 0 else lines[-1][:120]


# ── Tables ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def passes(found):
    """(operator, "forward" or "backward", shape, what was measured) of every pass."""
    for shape, rows in found.items():
        for name, said in rows.items():
            for stage in ("forward", "backward"):
                if not isinstance(said, str) and stage in said:
                    yield name, stage, shape, said


def size(said):
    """The number of values, marked where more would not have fit."""
    return f"{said['values']:,}" + " †" * ("fits" in said)


def footnotes(found):
    """What the mark means, where it is, and what could not be measured."""
    bounds = {said["fits"] for *_, said in passes(found) if "fits" in said}
    for gigabytes in sorted(bounds):
        yield f"† With twice as many values the passes do not fit into {gigabytes:g} GB."
    yield from missing(found)


def missing(found):
    """What could not be measured, and why."""
    for shape, rows in found.items():
        for name, said in rows.items():
            if isinstance(said, str):
                yield f"* {name}, {shape}: {said}"


def latency(found):
    """The longest time in which Ctrl-C does not get through, of every operator: a table, the longest first."""
    rows = [(said[stage][0], name, stage, shape, said) for name, stage, shape, said in passes(found)]
    rows.sort(key=lambda row: (-row[0], *row[1:4]))
    yield f"{sum(row[0] > LIMIT for row in rows)} of {len(rows)} passes keep Ctrl-C waiting for more than {1e3 * LIMIT:.0f} ms."
    yield ""
    yield "| operator | pass | shape | values | longest wait, ms | whole pass, s |"
    yield "|---|---|---|---|---|---|"
    for gap, name, stage, shape, said in rows:
        mark = "**" if gap > LIMIT else ""
        yield f"| {name} | {stage} | {shape} | {size(said)} | {mark}{1e3 * gap:.0f}{mark} | {said[stage][1]:.2f} |"
    yield from ("", *footnotes(found))


def memory(found):
    """The peak memory of every operator, in multiples of its arrays: a table, the largest first."""
    rows = []
    for name, stage, shape, said in passes(found):
        arrays = said["inputs"] + said["outputs"] + (said["gradients"] if stage == "backward" else 0)
        rows.append((said[stage] / arrays, name, stage, shape, said, arrays))
    rows.sort(key=lambda row: (-row[0], *row[1:4]))
    yield "| operator | pass | shape | values | arrays, MB | taken by the pass, MB | ÷ arrays |"
    yield "|---|---|---|---|---|---|---|"
    for ratio, name, stage, shape, said, arrays in rows:
        numbers = f"{size(said)} | {arrays / 1e6:.0f} | {said[stage] / 1e6:.0f} | {ratio:.2f}"
        yield f"| {name} | {stage} | {shape} | {numbers} |"
    yield from ("", *footnotes(found))


MEASURES = {"latency": latency, "memory": memory}


def page(results):
    """The page of limits: both tables, with what they mean."""
    yield from PAGE.strip().format(limit=f"{1e3 * LIMIT:.0f}", shapes=said_shapes()).split("\n")
    for measure, table in MEASURES.items():
        if measure in results:
            yield from ("", f"## {HEADINGS[measure]}", "")
            yield from table(results[measure])


def said_shapes():
    return " and ".join(f"{name} ({n}, {c}, side, side)" for name, (n, c) in SHAPES.items())


HEADINGS = {"latency": "How long Ctrl-C waits", "memory": "How much memory a call takes"}
PAGE = """
# Limits: how long Ctrl-C waits, how much memory a call takes

Written by `python tools/bench.py latency memory --output FOLDER --docs FOLDER/limits.json`, which measures every operator in a
process of its own, forward and backward, in float32, on two shapes of x: {shapes}.

Ctrl-C gets through where Python handles signals: between the tasks of a call and, in tasks that take long, every 50 ms. The goal
is that it never waits for more than {limit} ms on arrays of 2²⁸ values. What is computed by NumPy waits for the end of NumPy's
function. Calls from other threads go on meanwhile: a call that takes more than a few µs releases the GIL.

The memory of a call is given in multiples of its arrays: the inputs and the outputs, for a backward pass also the gradients. The
outputs of a call are part of what it takes; therefore a ratio below 1 means that nothing else is needed.
"""
