"""How soon Ctrl-C gets through, and how much memory a call takes, over all operators: each measured in a process of its own.

``latency``: the longest time between two moments at which Python handles signals, during both passes on large arrays, on one
thread. A timer sends a signal every 10 ms; a gap in which none was handled is time in which Ctrl-C would not have got through
either. It is the processor's time that counts, so that other programs on the machine do not.

``memory``: the peak of the resident memory above that before the call, in multiples of the bytes of all arrays of the pass: those
that go in and those that come out, which are part of what the call takes.

Both measure two shapes: a batch of images with 64 channels, and one image with 8, whose planes are 32 times as large. A process
takes at most so many GB; an operator that would take more is measured with half as many values, or a quarter, and so on.
"""

import datetime
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import cnncore

from . import machine, operators

VALUES = 2**28  # of x, unless the command line says otherwise: with y and both gradients 4 GB
LIMIT = 0.2  # seconds in which Ctrl-C has to get through
BOUND = 2.0  # times its arrays that a pass may take
CONSTANT = 2**25  # bytes that it may take beside them
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
        arrays = arrays_of(said, stage)
        rows.append((said[stage] / arrays, name, stage, shape, said, arrays))
    rows.sort(key=lambda row: (-row[0], *row[1:4]))
    yield "| operator | pass | shape | values | arrays, MB | taken by the pass, MB | ÷ arrays |"
    yield "|---|---|---|---|---|---|---|"
    for ratio, name, stage, shape, said, arrays in rows:
        numbers = f"{size(said)} | {arrays / 1e6:.0f} | {said[stage] / 1e6:.0f} | {ratio:.2f}"
        yield f"| {name} | {stage} | {shape} | {numbers} |"
    yield from ("", *footnotes(found))


MEASURES = {"latency": latency, "memory": memory}


# ── The page ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def described_run(values, gigabytes):
    """When and where something is measured, as plain data."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": today, "values": values, "gigabytes": gigabytes, **machine.description()}


def page(results):
    """The page of limits: one row per operator, with the bounds, and where and when it was measured."""
    yield from (
        PAGE.strip()
        .format(limit=f"{1e3 * LIMIT:.0f}", shapes=said_shapes(), bound=BOUND, constant=CONSTANT >> 20)
        .split("\n")
    )
    yield ""
    for measure, run in results.get("runs", {}).items():
        yield (
            f"* {HEADINGS[measure]}: {run['date']}, {run['processor']}, {run['processors']} processors, {run['system']}; x of "
            f"{run['values']:,} values."
        )
    found = {measure: results[measure] for measure in MEASURES if measure in results}
    for shape in SHAPES:
        names = dict.fromkeys(name for rows in found.values() for name in rows.get(shape, ()))
        if names:
            yield from ("", f"## {shape.capitalize()}: x is {form(shape)}", "")
            yield "| operator | wait forward, ms | backward | memory forward ÷ arrays | backward |"
            yield "|---|---|---|---|---|"
            for name in names:
                yield row_of(results, shape, name)
    notes = [note for rows in found.values() for note in missing(rows)]
    yield from ("", MARKS.strip(), *([""] if notes else []), *notes)


def row_of(results, shape, name):
    """A row of the page: numbers beyond a bound are bold, those of fewer values than the others have a mark."""
    cells = []
    for measure in ("latency", "memory"):
        said = results.get(measure, {}).get(shape, {}).get(name)
        whole = results.get("runs", {}).get(measure, {}).get("values", 0)
        for stage in ("forward", "backward"):
            if said is None or isinstance(said, str) or stage not in said:
                cells.append("–")
                continue
            text, beyond = (milliseconds if measure == "latency" else multiple)(said, stage)
            mark = " †" if said["values"] < whole / 2 else ""
            cells.append((f"**{text}**" if beyond else text) + mark)
    return f"| {name} | {' | '.join(cells)} |"


def arrays_of(said, stage):
    """Bytes of the arrays of a pass."""
    return said["inputs"] + said["outputs"] + (said["gradients"] if stage == "backward" else 0)


def milliseconds(said, stage):
    """(the wait as text, whether it is beyond the bound)."""
    return f"{1e3 * said[stage][0]:.0f}", said[stage][0] > LIMIT


def multiple(said, stage):
    """(the memory of a pass in multiples of its arrays as text, whether it is beyond the bound)."""
    arrays = arrays_of(said, stage)
    return f"{said[stage] / arrays:.2f}", said[stage] > BOUND * arrays + CONSTANT


def form(shape):
    n, c = SHAPES[shape]
    return f"({n}, {c}, side, side)"


def said_shapes():
    return " and ".join(f"{name} {form(name)}" for name in SHAPES)


HEADINGS = {"latency": "How long Ctrl-C waits", "memory": "How much memory a call takes"}
MARKS = """
† of fewer values, as an operator makes many times as much of x, or takes x of another form. – is no such pass, or was
not measured.
"""
PAGE = """
# Limits: how long Ctrl-C waits, how much memory a call takes

Two bounds are kept, as far as this page measures them:

* **Ctrl-C gets through within {limit} ms.** Python handles signals between the tasks of a call and,
  in tasks that take long, every 50 ms; what NumPy computes is computed in pieces of about a million
  values. Calls from other threads go on meanwhile: a call that takes more than a few µs releases
  the GIL.
* **A pass takes at most {bound:g} times its arrays**, and up to {constant} MB that do not grow with
  them. Its arrays are the inputs and the outputs, for a backward pass also the gradients. The
  outputs of a call are part of what it takes; therefore a ratio below 1 means that little else is
  needed.

Numbers beyond a bound are bold. Every operator is measured in a process of its own, forward and
backward, in float32, waits on one thread. A wait is the longest time, of the processor, between two
moments at which Python handled signals. Shapes of x that can be measured:
{shapes}.
The run can be repeated, and goes on where it was interrupted:

    python tools/bench.py latency memory --gigabytes 6 --output FOLDER
    python tools/bench.py --docs FOLDER/limits.json
"""
