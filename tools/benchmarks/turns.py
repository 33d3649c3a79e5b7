"""Side by side: contestants in processes of their own take turns, A B C A B C …, and only ratios within a round count.

A contestant that is not at turn is stopped (SIGSTOP), so that no thread pool that still spins disturbs the next one. All
contestants of a comparison run on the same processors, as many as they may use threads.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

__all__ = ["Contestant", "Failure", "Row", "Timing", "best", "interleave", "ratio", "threads_text", "timing"]

TOOLS = Path(__file__).resolve().parent.parent
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CNNCORE_NUM_THREADS")
LONGEST_ANSWER = 1200  # seconds; compiling a network takes minutes on a small machine


class Failure(Exception):
    """A contestant cannot do what it was asked, with the reason in one line."""


def processors(threads):
    """The processors that a contestant with so many threads gets: the last ones, since the first serve interrupts."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    return tuple(sorted(os.sched_getaffinity(0))[-threads:])


class Contestant:
    """A framework at work in its own process: ``open`` a job, take a ``turn``, ``close``.

    ``framework`` names a module ``with_<framework>.py``; ``name`` is what tables call it.
    """

    def __init__(self, name, framework, threads, environment=None):
        self.name, self.framework, self.threads = name, framework, threads
        variables = dict.fromkeys(THREAD_VARIABLES, str(threads)) | (environment or {})
        path = os.pathsep.join(filter(None, (str(TOOLS), os.environ.get("PYTHONPATH"))))
        self.log = tempfile.TemporaryFile()  # noqa: SIM115, open as long as the process
        pinned = ",".join(map(str, processors(threads)))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks.worker", framework, str(threads), pinned],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, **variables, "PYTHONPATH": path},
        )
        self.stopped = False
        self.buffer = b""
        try:
            answer = self._answer()
        except BaseException:
            self.end()
            raise
        self.facts, self.imported = answer["facts"], answer["imported"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def open(self, job):
        """Prepare a job; returns facts about it."""
        answer = self.ask(do="open", job=job)
        self.stages = tuple(answer["stages"])
        return answer["facts"]

    def turn(self, seconds):
        """Seconds per call of every stage, timed for about ``seconds``."""
        answer = self.ask(do="turn", seconds=seconds)
        return dict(zip(self.stages, answer["seconds"], strict=True))

    def outputs(self):
        """What the job computes, by name."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "outputs.npz"
            self.ask(do="outputs", path=str(path))
            with np.load(path) as arrays:
                return dict(arrays)

    def memory(self, steps=3):
        """Peak bytes of the process and of one warm step."""
        return self.ask(do="memory", steps=steps)

    def close(self):
        """Forget the job."""
        self.ask(do="close")

    def ask(self, **request):
        """Send a request, let the process run until it has answered, stop it again."""
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise Failure(self._ended()) from None
        self._run()
        try:
            return self._answer()
        finally:
            self._stop()

    def _answer(self):
        deadline = time.monotonic() + LONGEST_ANSWER
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self.buffer:
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Failure(f"no answer within {LONGEST_ANSWER} s")
            part = os.read(descriptor, 1 << 16)
            if not part:
                raise Failure(self._ended())
            self.buffer += part
        line, self.buffer = self.buffer.split(b"\n", 1)
        answer = json.loads(line)
        if "error" in answer:
            raise Failure(answer["error"])
        return answer

    def _ended(self):
        code = self.process.wait()
        self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, self.log.tell() - 2000))
        lines = [line for line in self.log.read().decode(errors="replace").splitlines() if line.strip()]
        return f"process ended with {code}" + (f": {lines[-1][:300]}" if lines else "")

    def _stop(self):
        if hasattr(signal, "SIGSTOP") and self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
            self.stopped = True

    def _run(self):
        if self.stopped:
            self.process.send_signal(signal.SIGCONT)
            self.stopped = False

    def end(self):
        """End the process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            with contextlib.suppress(OSError):  # what was never sent to a process that is gone
                stream.close()


def threads_text(threads):
    """How tables call a number of threads."""
    return f"{threads} thread{'s' * (threads > 1)}"


# ── Rounds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Timing:
    """Seconds per call of one stage, one number per round."""

    rounds: list

    @property
    def median(self):
        return float(np.median(self.rounds))

    @property
    def quartiles(self):
        low, high = np.percentile(self.rounds, (25, 75))
        return float(low), float(high)

    @property
    def least(self):
        return float(min(self.rounds))


@dataclass
class Row:
    """One comparison: what was timed, by whom, and what was not and why."""

    section: str
    case: str
    facts: dict = field(default_factory=dict)  # threads, batch, multiply-adds, …
    timings: dict = field(default_factory=dict)  # contestant → stage → Timing
    errors: dict = field(default_factory=dict)  # contestant → largest difference from the reference, relative
    failures: dict = field(default_factory=dict)  # contestant → reason
    memory: dict = field(default_factory=dict)  # contestant → {"peak", "steady"}


def interleave(row, contestants, rounds, seconds, progress=None):
    """Let ``contestants`` take turns for ``rounds`` rounds; who fails drops out. The timings go into ``row``.

    ``contestants`` maps names to objects with ``turn(seconds)``, which returns seconds by stage.
    """
    taking_part = dict(contestants)
    for number in range(rounds):
        for name, contestant in list(taking_part.items()):
            try:
                stages = contestant.turn(seconds)
            except Failure as failure:
                row.failures[name] = str(failure)
                row.timings.pop(name, None)
                del taking_part[name]
                continue
            for stage, value in stages.items():
                row.timings.setdefault(name, {}).setdefault(stage, Timing([])).rounds.append(value)
        if progress:
            progress(number + 1, rounds)


def whole(stages):
    """All stages of a contestant as one: the sum within each round."""
    return Timing([sum(parts) for parts in zip(*(t.rounds for t in stages.values()), strict=True)])


def timing(row, name, stage=None):
    """Timing of a contestant's stage, or of all its stages together."""
    stages = row.timings[name]
    return whole(stages) if stage is None else stages[stage]


def best(row, names, stage=None):
    """The fastest of ``names`` by median, or None when none of them was timed."""
    timed = [name for name in names if name in row.timings and (stage is None or stage in row.timings[name])]
    return min(timed, key=lambda name: timing(row, name, stage).median, default=None)


def ratio(row, name, peer, stage=None):
    """Timing of ``name`` over that of ``peer``, round by round: its median is the ratio, its quartiles the spread."""
    own, other = timing(row, name, stage).rounds, timing(row, peer, stage).rounds
    return Timing([a / b for a, b in zip(own, other, strict=False)])
