"""Profiles of nets: time, operations and memory traffic per node; and the algorithm of each node, with the reason.

A profile runs complete passes, so that every node finds the caches as the previous node left them. Each pass is a
round; a node's time is the median over the rounds. Bytes are those of arrays that a node must read or write once, from
their shapes; they account neither for cache hits nor for repeated reads. GFLOP/s count the multiply-adds of the
reference, two operations each; an algorithm that needs fewer can exceed the peak.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import shape_text
from ..operators.schema import ROLE_DTYPES
from ..runtime import cpu
from ..runtime.threads import get_num_threads
from ..typing import FilePath
from . import model_file
from .drawing import Table
from .plan import Mode, Plan, infer

__all__ = ["Passes", "Profile", "algorithms", "pieces_of", "profile"]


# ── Passes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Clock:
    """Yields steps one by one; the time until the next request is attributed to the step yielded last."""

    @staticmethod
    def now() -> float:
        """Seconds."""
        return time.perf_counter()

    def __init__(self):
        self.seconds = {}  # number of node → seconds
        self.events = []  # (number of node, when its step began, its seconds), in their order

    def __call__(self, steps):
        for step in steps:
            began = self.now()
            yield step
            took = self.now() - began
            self.seconds[step.node] = self.seconds.get(step.node, 0.0) + took
            self.events.append((step.node, began, took))


class Pass(NamedTuple):
    """One pass: seconds of each node forward and backward, and of the whole.

    Attributes
    ----------
    forward, backward : dict of int to float
        The number of a node → its seconds.
    whole_forward, whole_backward : float
        Seconds of all nodes and of what belongs to none.
    events : list of tuple
        (stage, number of a node or None for the whole, seconds since the pass began, seconds that it took).
    """

    forward: dict
    backward: dict
    whole_forward: float
    whole_backward: float
    events: list


class Passes:
    """Passes of ``net`` on random inputs of ``shapes``; the net's parameters and buffers are unchanged.

    Parameters
    ----------
    net : Net
        The net.
    shapes : sequence of tuple of int
        The shape of each input.
    training : bool
        Whether passes are forward and backward in training mode; otherwise forward only.
    tuned : Tuning
        The choices of algorithms.
    whole : bool, default False
        False: a large batch is divided into pieces as the net does, and the seconds of a node are those of all pieces.
        True: it is not divided.
    """

    def __init__(self, net, shapes, training, tuned, whole=False):
        self.net = net
        mode = Mode(
            training=training,
            backward=training,
            needs_gradient=(False,) * len(shapes),
            repeatable=False,
            frozen=frozenset(net.frozen),
            target=cpu.target(),
            exact=bool(net.exact),
            tuned=tuned,
        )
        rng = np.random.default_rng(0)
        xs = [
            np.zeros(shape, ROLE_DTYPES[row.role])
            if row.role in ROLE_DTYPES
            else rng.standard_normal(shape).astype(net.dtype)
            for row, shape in zip(net.graph.inputs, shapes, strict=True)
        ]
        self.plan = Plan(net.graph, shapes, net.dtype, mode, net.seed)
        self.dys = [
            rng.standard_normal(self.plan.shapes[v]).astype(net.dtype) if net.graph.roles[v] == "real" else None
            for v in net.graph.outputs
        ]
        cuts = [(0, None)] if whole or self.plan.pieces == 1 else self.plan.cuts()
        self.pieces, taken = [], {}  # (plan, workspace, inputs) of every piece; pieces of one size share a workspace
        for first, last in cuts:
            piece = [x[first:last] for x in xs]
            found = tuple(x.shape for x in piece)
            if found not in taken:
                plan = self.plan if found == tuple(shapes) else Plan(net.graph, found, net.dtype, mode, net.seed)
                taken[found] = plan, plan.take()
            self.pieces.append((*taken[found], piece))
        self.gradients, self.clock = {}, Clock
        # In training the weights change at every step, so that they are packed every time.
        self.versions = dict.fromkeys(net.graph.owned, None if training else 0)
        self.once()  # work of the first call only

    def once(self):
        """A :class:`Pass`.

        Returns
        -------
        Pass
            Its times.
        """
        arrays = {**self.net.parameters._arrays, **self.net.buffers._arrays}
        forward, backward, backward_took = self.clock(), self.clock(), 0.0
        began = self.clock.now()
        for plan, workspace, xs in self.pieces:
            workspace.refresh(self.versions)
            _, tape, _ = plan.run_forward(workspace, xs, arrays, self.net.steps, clock=forward)
        took = self.clock.now() - began
        events = [("forward", None, 0.0, took)]
        if self.plan.mode.backward:
            turned = self.clock.now()
            self.plan.run_backward(workspace, tape, self.dys, self.gradients, backward)
            backward_took = self.clock.now() - turned
            events.append(("backward", None, turned - began, backward_took))
        for stage, clock in (("forward", forward), ("backward", backward)):
            events += [(stage, node, at - began, seconds) for node, at, seconds in clock.events]
        self.clocks = {"forward": forward, "backward": backward}
        return Pass(forward.seconds, backward.seconds, took, backward_took, events)


# ── Profiles ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Work(NamedTuple):
    """The work of a node, forward or backward: seconds, multiply-adds of the reference implementation, bytes read and
    written.

    Attributes
    ----------
    seconds : float
        The time it takes.
    multiply_adds : int
        Those of the reference implementation, whatever the algorithm.
    bytes : int
        Bytes of arrays that are read or written once.
    """

    seconds: float = 0.0
    multiply_adds: int = 0
    bytes: int = 0

    def plus(self, other):
        """The sum of both.

        Parameters
        ----------
        other : Work
            The other summand.

        Returns
        -------
        Work
            The sums.
        """
        return Work(*(a + b for a, b in zip(self, other, strict=True)))

    def data(self, peak):
        """As plain data; ``peak`` in GFLOP/s, None if unknown.

        Parameters
        ----------
        peak : float or None
            The peak of the machine.

        Returns
        -------
        dict
            "ms", "multiply_adds", "gflops", "share_of_peak", "bytes" and "gigabytes_per_second".
        """
        seconds = max(self.seconds, 1e-12)
        gflops = 2e-9 * self.multiply_adds / seconds if self.multiply_adds else None
        return {
            "ms": 1e3 * self.seconds,
            "multiply_adds": self.multiply_adds,
            "gflops": gflops,
            "share_of_peak": gflops / peak if gflops is not None and peak else None,
            "bytes": self.bytes,
            "gigabytes_per_second": 1e-9 * self.bytes / seconds,
        }


class Row(NamedTuple):
    """A node of a profile; ``forward`` or ``backward`` is None if it has no step of its own.

    Attributes
    ----------
    path : str
        The name of the node, with its scopes.
    operator : str
        Its operator, and those that are fused into its step.
    algorithm : str or None
        The algorithm, if its operator has a choice.
    output : tuple of int
        The shape of its value.
    forward, backward : Work or None
        Its work in each stage.
    """

    path: str
    operator: str
    algorithm: str | None
    output: tuple[int, ...]
    forward: Work | None
    backward: Work | None


class Profile:
    """A net's time per node: ``str`` and notebooks show a table, ``rows`` and ``data()`` are for programs.

    Parameters
    ----------
    rows : iterable of Row
        The nodes that have a step, in execution order.
    inputs : iterable of tuple
        (name, shape) of each input.
    facts : mapping
        "dtype", "target", "threads", "rounds", "training", "pieces", "peak_gflops" and "left_ms"; "forward_ms" and
        "backward_ms" of whole passes.
    events : sequence of tuple, optional
        Events of the fastest pass: (stage, path of a node or None for the whole pass, seconds since it began, seconds).
    """

    def __init__(
        self,
        rows: Iterable[Row],
        inputs: Iterable[tuple[str, Sequence[int]]],
        facts: Mapping[str, Any],
        events: Iterable[tuple[str, str | None, float, float]] = (),
    ) -> None:
        self.rows, self.inputs, self.events = tuple(rows), tuple(inputs), tuple(events)
        # dtype, target, threads, rounds, training, pieces, peak_gflops, left_ms; forward_ms, backward_ms of whole passes
        self.facts = facts

    @property
    def stages(self) -> tuple[str, ...]:
        """ "forward", and with training "backward"."""
        return ("forward", "backward") if self.facts["training"] else ("forward",)

    def whole(self, stage: str) -> float:
        """Seconds of all nodes and of the rest; passes that were disturbed took longer.

        Parameters
        ----------
        stage : str
            "forward" or "backward".

        Returns
        -------
        float
            Seconds.
        """
        return self.total(stage).seconds + self.left(stage)

    def total(self, stage: str, operator: str | None = None) -> Work:
        """The :class:`Work` of all nodes together, or of those of an operator.

        Parameters
        ----------
        stage : str
            "forward" or "backward".
        operator : str, optional
            One of :attr:`operators`.

        Returns
        -------
        Work
            The sums over the nodes.
        """
        chosen = [getattr(row, stage) for row in self.rows if operator in (None, row.operator)]
        total = Work()
        for work in chosen:
            if work is not None:
                total = total.plus(work)
        return total

    def left(self, stage: str) -> float:
        """Seconds that belong to no node: conversion of inputs and outputs, packing of what all nodes share, Python.

        Parameters
        ----------
        stage : str
            "forward" or "backward".

        Returns
        -------
        float
            Seconds.
        """
        return 1e-3 * self.facts["left_ms"][stage]

    @property
    def operators(self) -> list[str]:
        """Names of the operators, the slowest first."""
        names = dict.fromkeys(row.operator for row in self.rows)
        return sorted(names, key=lambda name: -sum(self.total(stage, name).seconds for stage in self.stages))

    def data(self) -> dict[str, Any]:
        """Everything as plain data, for JSON.

        Returns
        -------
        dict
            The facts, "inputs", and the work of each stage per node ("nodes") and per operator ("operators").
        """
        peak = self.facts["peak_gflops"]

        def work(of):
            return {stage: None if of[stage] is None else of[stage].data(peak) for stage in self.stages}

        return {
            "inputs": {name: list(shape) for name, shape in self.inputs},
            **self.facts,
            "nodes": [
                {
                    "node": row.path,
                    "operator": row.operator,
                    "algorithm": row.algorithm,
                    "output": list(row.output),
                    **work({stage: getattr(row, stage) for stage in self.stages}),
                }
                for row in self.rows
            ],
            "operators": [
                {"operator": name, **work({stage: self.total(stage, name) for stage in self.stages})}
                for name in self.operators
            ],
        }

    def trace(self) -> dict[str, Any]:
        """The fastest pass in the Trace Event Format, which chrome://tracing, Perfetto and speedscope show.

        Returns
        -------
        dict
            Plain data, for JSON: "traceEvents" has an event per step of a node, with operator, algorithm, shape, GFLOP/s and
            bytes, and one per stage; "otherData" says what was measured.

        References
        ----------
        Google, "Trace Event Format": complete events ("ph": "X"), times in microseconds.
        """
        rows = {row.path: row for row in self.rows}
        events: list[dict[str, Any]] = [
            {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "cnncore " + self._title()}}
        ]
        for line, stage in enumerate(self.stages, 1):
            events.append({"ph": "M", "pid": 1, "tid": line, "name": "thread_name", "args": {"name": stage}})
        for stage, path, began, took in self.events:
            event: dict[str, Any] = {"ph": "X", "pid": 1, "tid": self.stages.index(stage) + 1, "name": path or stage}
            event |= {"cat": "pass" if path is None else stage, "ts": 1e6 * began, "dur": 1e6 * took}
            if path is not None:
                row = rows[path]
                work = getattr(row, stage)
                seen = {"operator": row.operator, "algorithm": row.algorithm, "output": list(row.output)}
                event["args"] = seen | ({} if work is None else work.data(self.facts["peak_gflops"]))
            events.append(event)
        inputs = {name: list(shape) for name, shape in self.inputs}
        return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"inputs": inputs, **self.facts}}

    def save_trace(self, path: FilePath) -> None:
        """Write :meth:`trace` to a JSON file, atomically.

        Parameters
        ----------
        path : path

        Raises
        ------
        FileWriteError
            The file cannot be written.
        """
        model_file.write_whole(os.fspath(path), [json.dumps(self.trace(), indent=1).encode() + b"\n"])

    def table(self) -> Table:
        """The :class:`drawing.Table` that is shown: nodes in the order of the graph, operators, the rest, the total.

        Returns
        -------
        Table
            Its title says what was measured and how.
        """
        stages = self.stages
        header = ["node", "operator", "algorithm", "multiply-adds", "share"]
        for stage in stages:
            header += [stage if len(stages) > 1 else "ms", "GFLOP/s", "of peak", "MB", "GB/s"]
        nodes = [
            self._line(row.path, row.operator, row.algorithm, row.forward, [getattr(row, stage) for stage in stages])
            for row in self.rows
        ]
        operators = []
        for name in self.operators:
            works = {stage: self.total(stage, name) for stage in ("forward", *stages)}
            words = f"{sum(row.operator == name for row in self.rows)} × {name}"
            operators.append(self._line(words, "", "", works["forward"], [works[stage] for stage in stages]))
        left = [Work(self.left(stage)) for stage in stages]
        operators.append(self._line("conversions at the edges, Python", "", "", None, left))
        whole = [self.total(stage)._replace(seconds=self.whole(stage)) for stage in stages]
        total = self._line("total", "", "", self.total("forward"), whole)
        return Table(self._title(), header, [nodes, operators, [total]], words=3)

    def _line(self, name, operator, algorithm, forward, works):
        """The cells of one line; ``works`` per stage, None where there is none."""
        multiply_adds = f"{forward.multiply_adds:,}" if forward is not None and forward.multiply_adds else ""
        everything = sum(self.whole(stage) for stage in self.stages) or 1e-12
        share = sum(work.seconds for work in works if work is not None) / everything
        cells = [cell for work in works for cell in self._cells(work)]
        return [name, operator, algorithm or "", multiply_adds, f"{share:.1%}", *cells]

    def _cells(self, work):
        """The figures of a stage."""
        if work is None:
            return [""] * 5
        found = work.data(self.facts["peak_gflops"])
        share = found["share_of_peak"]
        return [
            f"{found['ms']:.3f}",
            f"{found['gflops']:.1f}" if work.multiply_adds else "",
            "" if share is None else f"{share:.0%}",
            f"{work.bytes / 1e6:.2f}" if work.bytes else "",
            f"{found['gigabytes_per_second']:.1f}" if work.bytes else "",
        ]

    def _title(self):
        """What was measured, and how."""
        facts = self.facts
        inputs = ", ".join(f"{name} {shape_text(shape)}" for name, shape in self.inputs)
        peak = f", peak {facts['peak_gflops']:.1f} GFLOP/s" if facts["peak_gflops"] else ""
        pieces = f"in {facts['pieces']} pieces, " if facts["pieces"] > 1 else ""
        passes = " + ".join(f"{facts[stage + '_ms']:.3f}" for stage in self.stages)
        return (
            f"{inputs}; {facts['dtype']}, {facts['target']}, "
            f"{facts['threads']} thread{'s' * (facts['threads'] > 1)}{peak}; "
            f"{'training, ' * facts['training']}{pieces}medians of {facts['rounds']} rounds, milliseconds; "
            f"whole passes {passes}"
        )

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def profile(net, shapes, rounds, training, progress=None):
    """The :class:`Profile` of ``net`` on inputs of ``shapes``."""
    passes = Passes(net, shapes, training, net.tuned)
    plan, found = passes.plan, []
    computed = passes.pieces[0][0].calls  # those of a piece: the algorithm may depend on the number of images
    for number in range(rounds):
        if progress is not None:
            progress(number, rounds, "")
        found.append(passes.once())
    forward = {number: median([p.forward[number] for p in found]) for number in found[0].forward}
    backward = {number: median([p.backward[number] for p in found]) for number in found[0].backward}
    fused = {}
    for following, number in plan.fused_into.items():
        fused.setdefault(number, [plan.nodes[number].op.name]).append(plan.nodes[following].op.name)
    rows = []
    for number, (node, call) in enumerate(zip(plan.nodes, plan.calls, strict=True)):
        if number not in forward and number not in backward:
            continue  # part of another node's step, or nothing to do
        there = back = None
        if number in forward:
            there = Work(forward[number], node.op.implementation.multiply_adds(call), bytes_forward(call))
        if number in backward:
            back = Work(backward[number], *work_backward(plan, number))
        rows.append(
            Row(
                path=node.path,
                operator=" + ".join(fused.get(number, [node.op.name])),
                algorithm=node.op.implementation.algorithm(computed[number]),
                output=call.output,
                forward=there,
                backward=back,
            )
        )
    facts = {
        "pieces": len(passes.pieces),
        "dtype": net.dtype.name,
        "target": plan.mode.target,
        "threads": get_num_threads(),
        "rounds": rounds,
        "training": training,
        "peak_gflops": None if plan.mode.target == "reference" else cpu.peak(net.dtype),
        "left_ms": {  # within each round: disturbances of nodes, which medians ignore, do not count as the rest
            "forward": 1e3 * median([p.whole_forward - sum(p.forward.values()) for p in found]),
            "backward": 1e3 * median([p.whole_backward - sum(p.backward.values()) for p in found]),
        },
        "forward_ms": 1e3 * median([p.whole_forward for p in found]),
        "backward_ms": 1e3 * median([p.whole_backward for p in found]) if training else None,
    }
    inputs = [(row.name, shape) for row, shape in zip(net.graph.inputs, shapes, strict=True)]
    fastest = min(found, key=lambda p: p.whole_forward + p.whole_backward)
    events = [(stage, None if n is None else plan.nodes[n].path, at, took) for stage, n, at, took in fastest.events]
    return Profile(rows, inputs, facts, events)


def median(numbers):
    """The median as a Python number."""
    return float(np.median(numbers))


def bytes_forward(call):
    """Bytes of what a call reads and writes: its arrays, weights among them, and y."""
    shapes = [call.output, *(shape for shape in call.shapes if shape is not None)]
    return call.dtype.itemsize * sum(map(math.prod, shapes))


def work_backward(plan, number):
    """(multiply-adds, bytes) of a node's backward step.

    Each gradient takes as many multiply-adds as the forward pass, except that of a bias, which takes none. dy and the saved
    arrays are read, the gradients are written. A concatenation passes on parts of dy without copying.
    """
    node, call, needs_gradient = plan.nodes[number], plan.calls[number], plan.needs_gradient[number]
    products = sum(
        want and len(shape) > 1 for want, shape in zip(needs_gradient, call.shapes, strict=True) if shape is not None
    )
    if plan.parts[number] is not None:
        return 0, 0
    rows = node.op.rows(len(node.arguments))
    saved = zip(rows, call.shapes, strict=True)
    shapes = [call.output, *(shape for row, shape in saved if shape is not None and plan.saved_by(number, row.name))]
    shapes += [call.output] if plan.saved_by(number, "y") else []
    shapes += [shape for want, shape in zip(needs_gradient, call.shapes, strict=True) if want]
    return products * node.op.implementation.multiply_adds(call), call.dtype.itemsize * sum(map(math.prod, shapes))


# ── How each node is computed ──────────────────────────────────────────────────────────────────────────────────────────


class Choice(NamedTuple):
    """A node with a choice of algorithms: the cost of each in multiply-adds, the chosen one, and why.

    Attributes
    ----------
    path : str
        The name of the node, with its scopes.
    call : str
        The shapes of images, weights and output.
    costs : dict of str to float
        The name of each algorithm → its cost in multiply-adds at full speed.
    chosen : str
        The algorithm that computes it.
    why : str
        The reason, in words.
    """

    path: str
    call: str
    costs: dict[str, float]
    chosen: str
    why: str


class Choices:
    """The nodes of a net that have a choice of algorithms; ``str`` and notebooks show a table, ``rows`` are for
    programs.

    Parameters
    ----------
    rows : iterable of Choice
        The nodes in execution order.
    title : str
        The title of the table.
    """

    def __init__(self, rows: Iterable[Choice], title: str) -> None:
        self.rows, self.title = tuple(rows), title

    def table(self) -> Table:
        """The :class:`drawing.Table` that is shown: costs in millions of multiply-adds at full speed.

        Returns
        -------
        Table
            A line for each node, a column for each algorithm.
        """
        names = list(dict.fromkeys(name for row in self.rows for name in row.costs))
        lines = [
            [
                row.path,
                row.call,
                row.chosen,
                row.why,
                *(f"{row.costs[name] / 1e6:.2f}" if name in row.costs else "" for name in names),
            ]
            for row in self.rows
        ]
        return Table(self.title, ["node", "call", "chosen", "why", *names], [lines], words=4)

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def algorithms(net, shapes, training):
    """The :class:`Choices` of ``net`` on inputs of ``shapes``, or on the first piece of a batch that is divided into pieces."""
    mode = Mode(training=training, backward=training, target=cpu.target(), exact=bool(net.exact), tuned=net.tuned)
    shapes = pieces_of(net, shapes, mode)[0]
    rows = []
    for node, call in zip(net.graph.nodes, infer(net.graph, shapes, net.dtype, mode, net.seed)[0], strict=True):
        costs = node.op.implementation.algorithms(call)
        if not costs:
            continue
        name = node.op.implementation.algorithm(call)
        images, weights = call.shapes[:2]
        rows.append(
            Choice(
                path=node.path,
                call=f"{shape_text(images)} ∗ {shape_text(weights)} → {shape_text(call.output)}",
                costs=costs,
                chosen=name,
                why=reason(net, node, call, mode, costs, name),
            )
        )
    inputs = ", ".join(f"{row.name} {shape_text(shape)}" for row, shape in zip(net.graph.inputs, shapes, strict=True))
    return Choices(rows, f"{inputs}; costs in millions of multiply-adds at full speed")


def pieces_of(net, shapes, mode):
    """The distinct input shapes that ``net`` computes at once, if it divides a batch of ``shapes`` into pieces."""
    plan = Plan(net.graph, shapes, net.dtype, mode, net.seed)
    if plan.pieces == 1:
        return [shapes]
    counts = dict.fromkeys(last - first for first, last in plan.cuts())
    return [tuple((count, *shape[1:]) for shape in shapes) for count in counts]


def reason(net, node, call, mode, costs, name):
    """Why ``name`` computes a node's call."""
    if "algorithm" in node.settings:
        return f"algorithm={node.settings['algorithm']!r} in the graph"
    if mode.exact:
        return "net.exact"
    if len(costs) == 1:
        return "no other fits"
    if net.tuned and net.tuned.algorithm(call, mode) == name:
        return "measured"
    return "cheapest" if name != "direct" else "no other saves a tenth"
