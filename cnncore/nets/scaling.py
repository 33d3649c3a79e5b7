"""How a net's time would divide over more threads than this machine has: simulated from the measured times of its tasks.

Every operator call is a number of tasks, handed out in chunks. The call is divided as it would be for N threads, but all its
chunks run on one thread, one after the other, and the processor time of each is taken. Then the thread pool is simulated: N
shares of consecutive chunks, each thread runs its own share and then takes chunks of the others', and the call ends when the
last chunk does.

What the simulation assumes: chunks take as long beside others as alone, so memory bandwidth, caches and the clock rate of
the processor do not suffer from the other threads; a worker joins, or leaves, in the time that was measured here for one,
and one after the other, as all of them change one word of memory. Times are therefore lower bounds; shares that are idle
because a call has too few tasks, or tasks of unlike length, are real.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import shape_text
from ..runtime import dispatch
from ..runtime.threads import threads as threads_of
from .drawing import Table
from .profile import Clock, Passes, median

__all__ = ["Scaling", "ScalingRow", "Share", "schedule", "scaling"]

EMPTY_CALLS = 2000  # of which the median is taken


# ── One call ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def schedule(chunks: Sequence[float], threads: int, joining: float = 0.0) -> float:
    """Seconds until the last of ``chunks`` is done on ``threads`` threads, as the thread pool hands them out.

    Parameters
    ----------
    chunks : sequence of float
        The seconds of each chunk.
    threads : int
        The number of threads, the caller among them.
    joining : float, default 0
        Seconds that a worker takes to join or to leave; they join one after the other.

    Returns
    -------
    float
        Seconds from the begin of the call to its end.

    Examples
    --------
    >>> schedule([3.0, 1.0, 1.0, 1.0], threads=2)  # the second thread runs its own two chunks, then the first one's other
    3.0
    """
    count = len(chunks)
    threads = min(threads, count)
    if threads < 2:
        return float(sum(chunks))
    following = [count // threads * i + count % threads * i // threads for i in range(threads)]
    ends = [*following[1:], count]
    free = [(joining * slot, slot) for slot in range(threads)]  # (when, thread), the earliest first
    looked = list(range(threads))  # the share in which each thread takes chunks; those before it are empty
    last, joined = 0.0, set()
    while free:
        now, slot = heapq.heappop(free)
        while looked[slot] < slot + threads and following[looked[slot] % threads] == ends[looked[slot] % threads]:
            looked[slot] += 1
        if looked[slot] == slot + threads:
            continue
        share = looked[slot] % threads
        done = now + chunks[following[share]]
        following[share] += 1
        last = max(last, done)
        joined.add(slot)
        heapq.heappush(free, (done, slot))
    return last + joining * (len(joined) > 1)


def joining_seconds() -> float:
    """Seconds that one worker takes to join or to leave a call, measured with two threads.

    Returns
    -------
    float
        Half the median of a call without work.
    """
    return 0.5e-9 * median([dispatch.empty_call(2) for _ in range(EMPTY_CALLS)])


class RecordingClock(Clock):
    """A :class:`Clock` of processor time that also keeps the calls of each step, as ``take_recorded`` gives them."""

    @staticmethod
    def now() -> float:
        """Seconds of processor time of this thread."""
        return time.thread_time()

    def __init__(self):
        super().__init__()
        self.calls = {}

    def __call__(self, steps):
        dispatch.take_recorded()
        for step in steps:
            began = self.now()
            yield step
            took = self.now() - began
            self.seconds[step.node] = self.seconds.get(step.node, 0.0) + took
            self.calls.setdefault(step.node, []).extend(dispatch.take_recorded())


# ── A net ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Share(NamedTuple):
    """A node, or a whole net, on a number of threads.

    Attributes
    ----------
    seconds : float
        Simulated time.
    alone : float
        The sum of the measured times of its tasks, and of what is not divided.
    tasks : int
        Chunks of tasks that are handed out.
    calls : int
        Calls that are shared out: so often all threads wait for each other.
    threads : int
        The number of threads.
    """

    seconds: float = 0.0
    alone: float = 0.0
    tasks: int = 0
    calls: int = 0
    threads: int = 1

    @property
    def idle(self) -> float:
        """The part of the threads' time in which they have nothing to do, 0 to 1."""
        return max(0.0, 1 - self.alone / (self.threads * self.seconds)) if self.seconds > 0 else 0.0

    def plus(self, other: Share) -> Share:
        """One after the other.

        Parameters
        ----------
        other : Share
            What follows, on as many threads.

        Returns
        -------
        Share
            The sums.
        """
        return Share(
            seconds=self.seconds + other.seconds,
            alone=self.alone + other.alone,
            tasks=self.tasks + other.tasks,
            calls=self.calls + other.calls,
            threads=other.threads,
        )


class ScalingRow(NamedTuple):
    """A node: its work on each number of threads.

    Attributes
    ----------
    path : str
        The name of the node, with its scopes.
    operator : str
        Its operator.
    algorithm : str or None
        The algorithm, if its operator has a choice.
    output : tuple of int
        The shape of its value.
    shares : dict of int to Share
        The number of threads → forward and backward together.
    """

    path: str
    operator: str
    algorithm: str | None
    output: tuple[int, ...]
    shares: dict[int, Share]


class Scaling:
    """A net's simulated time on several numbers of threads; ``str`` and notebooks show a table.

    Parameters
    ----------
    rows : iterable of ScalingRow
        The nodes that have a step, in execution order.
    inputs : iterable of tuple
        (name, shape) of each input.
    threads : sequence of int
        The numbers of threads, 1 the first.
    facts : mapping
        "dtype", "target", "rounds", "training", "joining_us", and "left_ms" per number of threads: what belongs to no node.
    """

    def __init__(
        self,
        rows: Iterable[ScalingRow],
        inputs: Iterable[tuple[str, Sequence[int]]],
        threads: Sequence[int],
        facts: Mapping[str, Any],
    ) -> None:
        self.rows, self.inputs, self.threads, self.facts = tuple(rows), tuple(inputs), tuple(threads), facts

    def total(self, threads: int) -> Share:
        """The whole pass on ``threads`` threads.

        Parameters
        ----------
        threads : int
            One of :attr:`threads`.

        Returns
        -------
        Share
            The sum of all nodes, and of what belongs to none, which runs on one thread.
        """
        left = 1e-3 * self.facts["left_ms"][threads]
        total = Share(left, left, 0, 0, threads)
        for row in self.rows:
            total = total.plus(row.shares[threads])
        return total

    def speedup(self, threads: int) -> float:
        """How many times faster than on one thread.

        Parameters
        ----------
        threads : int
            One of :attr:`threads`.

        Returns
        -------
        float
            Simulated time on one thread / on ``threads``.
        """
        return self.total(self.threads[0]).seconds / max(self.total(threads).seconds, 1e-12)

    def data(self) -> dict[str, Any]:
        """Everything as plain data, for JSON.

        Returns
        -------
        dict
            The facts, "inputs", per node ("nodes") and for the whole ("total") "ms", "idle", "tasks" and "calls" of every
            number of threads, and "speedup".
        """

        def work(share):
            return {"ms": 1e3 * share.seconds, "idle": share.idle, "tasks": share.tasks, "calls": share.calls}

        def numbers(shares):
            return {str(n): work(shares(n)) for n in self.threads}

        return {
            "inputs": {name: list(shape) for name, shape in self.inputs},
            **self.facts,
            "nodes": [
                {"node": row.path, "operator": row.operator, "algorithm": row.algorithm, "output": list(row.output)}
                | numbers(row.shares.__getitem__)
                for row in self.rows
            ],
            "total": numbers(self.total),
            "speedup": {str(n): self.speedup(n) for n in self.threads},
        }

    def table(self) -> Table:
        """The :class:`drawing.Table` that is shown: for each number of threads milliseconds, tasks, calls and the idle part.

        Returns
        -------
        Table
            Its title says what was measured, and what assumed.
        """
        header = ["node", "operator", "algorithm"]
        for n in self.threads:
            header += [f"{n} thread{'s' * (n > 1)}: ms", "tasks", "calls", "idle"] if n > 1 else ["1 thread: ms"]
        nodes = [
            [row.path, row.operator, row.algorithm or "", *self._cells(row.shares.__getitem__)] for row in self.rows
        ]
        left = {n: 1e-3 * self.facts["left_ms"][n] for n in self.threads}
        rest = self._cells(lambda n: Share(left[n], left[n], 0, 0, n))
        total = [["total", "", "", *self._cells(self.total)], ["times faster", "", "", *self._speedups()]]
        return Table(
            self._title(), header, [nodes, [["conversions at the edges, Python", "", "", *rest]], total], words=3
        )

    def _cells(self, share):
        cells = []
        for n in self.threads:
            found = share(n)
            cells.append(f"{1e3 * found.seconds:.3f}")
            if n > 1:
                cells += [str(found.tasks), str(found.calls), f"{found.idle:.0%}"]
        return cells

    def _speedups(self):
        cells = []
        for n in self.threads:
            cells += [f"{self.speedup(n):.2f}"] + [""] * (3 * (n > 1))
        return cells

    def _title(self):
        facts = self.facts
        inputs = ", ".join(f"{name} {shape_text(shape)}" for name, shape in self.inputs)
        return (
            f"{inputs}; {facts['dtype']}, {facts['target']}; {'training, ' * facts['training']}simulated from the times of "
            f"{facts['rounds']} rounds on one thread; a worker joins in {facts['joining_us']:.2f} µs; memory bandwidth is "
            "taken to be without limit"
        )

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def scaling(net, shapes, numbers, rounds, training, progress=None):
    """The :class:`Scaling` of ``net`` on inputs of ``shapes``, on each of ``numbers`` of threads and on one."""
    joining, shares, left = joining_seconds(), {}, {}
    numbers = (1, *sorted({n for n in numbers if n > 1}))
    for i, n in enumerate(numbers):
        with threads_of(n):
            passes = Passes(net, shapes, training, net.tuned)
            found = recorded_passes(passes, rounds, progress, i * rounds, len(numbers) * rounds)
        left[n] = 1e3 * median([whole for _, whole in found])
        nodes = sorted({node for steps, _ in found for node in steps})
        shares[n] = {node: simulated([steps[node] for steps, _ in found], n, joining) for node in nodes}
    plan, computed = passes.plan, passes.pieces[0][0].calls
    rows = [
        ScalingRow(
            path=plan.nodes[number].path,
            operator=plan.nodes[number].op.name,
            algorithm=plan.nodes[number].op.implementation.algorithm(computed[number]),
            output=plan.calls[number].output,
            shares={n: shares[n][number] for n in numbers},
        )
        for number in shares[1]
    ]
    facts = {
        "dtype": net.dtype.name,
        "target": plan.mode.target,
        "rounds": rounds,
        "training": training,
        "joining_us": 1e6 * joining,
        "left_ms": left,
    }
    inputs = [(row.name, shape) for row, shape in zip(net.graph.inputs, shapes, strict=True)]
    return Scaling(rows, inputs, numbers, facts)


def recorded_passes(passes, rounds, progress, done, total):
    """What every round took: ({node: (seconds, calls)}, seconds that belong to no node)."""
    passes.clock, found = RecordingClock, []
    dispatch.start_recording()
    try:
        for number in range(rounds):
            if progress is not None:
                progress(done + number, total, "")
            once, steps = passes.once(), {}
            for clock in passes.clocks.values():
                for node, seconds in clock.seconds.items():
                    before, calls = steps.get(node, (0.0, []))
                    steps[node] = before + seconds, [*calls, *map(seconds_of_chunks, clock.calls.get(node, []))]
            whole = once.whole_forward + once.whole_backward
            found.append((steps, whole - sum(seconds for seconds, _ in steps.values())))
    finally:
        dispatch.stop_recording()
    return found


def seconds_of_chunks(call):
    """(threads, seconds of every chunk) of a recorded call."""
    threads, nanoseconds = call
    return threads, 1e-9 * np.asarray(memoryview(nanoseconds).cast("q"))


def simulated(rounds, threads, joining):
    """The :class:`Share` of a node from its (seconds, calls) in each round: chunks take their medians."""
    serial = median([seconds - sum(float(c.sum()) for _, c in calls) for seconds, calls in rounds])
    shared = [np.median(np.stack([c for _, c in call]), axis=0) for call in zip(*(c for _, c in rounds), strict=True)]
    on = [n for n, _ in rounds[0][1]]
    seconds = sum(schedule(chunks.tolist(), n, joining) for n, chunks in zip(on, shared, strict=True))
    return Share(
        seconds=serial + seconds,
        alone=serial + sum(float(chunks.sum()) for chunks in shared),
        tasks=sum(len(chunks) for chunks in shared),
        calls=sum(n > 1 for n in on),
        threads=threads,
    )
