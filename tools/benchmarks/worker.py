"""One framework in a process of its own: prepares jobs and times them when it is told to.

Requests and answers are lines of JSON. Requests come on standard input; answers leave on a private copy of standard output,
because frameworks print. Between two turns the parent stops this process, so that no thread pool spins into another's turn.

    {"do": "open", "job": {...}}        prepare a job (see the module of the framework); answers facts about it
    {"do": "turn", "seconds": 0.1}      time it for about so long; answers the median seconds per call of every stage
    {"do": "outputs", "path": ...}      write what the job computes, to be compared before anything is timed
    {"do": "memory", "steps": 3}        peak memory of this process, and of one more step after so many
    {"do": "close"}                     forget the job
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import statistics
import sys
import time
from pathlib import Path

import numpy as np

# Calls longer than this need no untimed one before them: caches and clock frequency have settled by their end.
WARM_SECONDS = 0.2


class Job:
    """Something timed. ``once()`` does it once and returns the seconds of every stage; ``outputs()`` names what it computes."""

    stages = ("call",)

    def __init__(self, once, outputs, facts=None):
        self.once, self.outputs, self.facts = once, outputs, facts or {}


def timed(call):
    """A job's ``once`` from a function that does all of it."""

    def once():
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start,)

    return once


def turn(job, seconds, last):
    """Median seconds of every stage over about ``seconds``; ``last`` is what a call took in the turn before."""
    if last is None or last < WARM_SECONDS:
        job.once()
    passes, end = [], time.perf_counter() + seconds
    while not passes or time.perf_counter() < end:
        passes.append(job.once())
    return [statistics.median(stage) for stage in zip(*passes, strict=True)], len(passes)


def peak_bytes():
    """Peak memory of this process so far.

    On Linux getrusage also counts what the parent held when it started this process, so the kernel's own mark is read.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory(job, steps):
    """Peak bytes of the process, and of one more step when everything is warm (None where the system cannot tell)."""
    for _ in range(steps):
        job.once()
    whole, steady = peak_bytes(), None
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
        job.once()
        steady = peak_bytes()
    return {"peak": whole, "steady": steady}


def die_with_parent():
    """Linux: end when the parent does, even while stopped."""
    try:
        import ctypes

        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        pass


def serve(requests, answers, framework, threads, processors):
    """Answer requests until they end."""
    module = importlib.import_module(f"benchmarks.with_{framework}")
    facts = module.start(threads) or {}
    if processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)
    answers({"facts": facts, "imported": peak_bytes()})
    job = last = None
    for line in requests:
        request = json.loads(line)
        try:
            match request["do"]:
                case "open":
                    job = last = None
                    gc.collect()
                    job = module.open_job(request["job"], threads)
                    answer = {"stages": job.stages, "facts": job.facts}
                case "turn":
                    seconds, calls = turn(job, request["seconds"], last)
                    last = sum(seconds)
                    answer = {"seconds": seconds, "calls": calls}
                case "outputs":
                    np.savez(request["path"], **job.outputs())
                    answer = {}
                case "memory":
                    answer = memory(job, request["steps"])
                case "close":
                    job = last = None
                    gc.collect()
                    answer = {}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error).strip() or 'no message'}"[:400]}
        answers(answer)


def main():
    framework, threads, processors = sys.argv[1:4]
    die_with_parent()
    private = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answers(answer):
        private.write(json.dumps(answer) + "\n")
        private.flush()

    try:
        serve(sys.stdin, answers, framework, int(threads), [int(p) for p in processors.split(",") if p])
    except Exception as error:
        answers({"error": f"{type(error).__name__}: {error}"[:400]})
        raise


if __name__ == "__main__":
    main()
