"""Measured choices of algorithms, which take precedence over the cost model.

``net.tune(shape)`` runs the whole net with each algorithm in turn, so that every call finds the caches as it does in
the net, and stores the fastest per distinct call in ``net.tuned``, which is saved with the net. A choice applies to a
call on one CPU target, and to forward passes or forward and backward passes together; without a measurement the cost
decides. The number of threads is not part of it, since results do not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import SettingError
from ..operators.convolution.implementation import MEASURED_ALGORITHMS
from ..runtime import cpu
from .drawing import Table
from .plan import Mode, infer
from .profile import Passes, pieces_of

__all__ = ["Everywhere", "Tuning", "is_tuned", "tune"]

VERSION = 1
MOST_CHOICES = 10_000
MOST_CHARACTERS = 400
WORTH_A_CHANGE = 0.97  # of the time of the cost model's choice: smaller differences are noise


class Tuning(Mapping[str, str]):
    """Description of a call → name of the algorithm that computes it. Immutable; false if empty.

    >>> tuned = Tuning({"avx2 float32 conv (1, 8, 9, 9) (8, 8, 3, 3) forward": "winograd_2x2"})
    >>> print(tuned)
    call                                                 algorithm
    ─────────────────────────────────────────────────────────────────
    avx2 float32 conv (1, 8, 9, 9) (8, 8, 3, 3) forward  winograd_2x2
    """

    def __init__(self, choices: Mapping[str, str] | tuple[()] = ()) -> None:
        if not isinstance(choices, (Mapping, tuple)):
            raise SettingError(f"tuned: expected a mapping of calls to algorithms, got {type(choices).__name__}")
        self._choices = dict(choices)
        if len(self._choices) > MOST_CHOICES:
            raise SettingError(f"tuned: {len(self._choices)} choices; there can be {MOST_CHOICES}")
        for call, algorithm in self._choices.items():
            if not isinstance(call, str) or not call.isprintable() or not 0 < len(call) <= MOST_CHARACTERS:
                raise SettingError(
                    f"tuned: a call is described by at most {MOST_CHARACTERS} printable characters, got {call!r:.80}"
                )
            if algorithm not in MEASURED_ALGORITHMS:
                raise SettingError(
                    f"tuned: algorithm {algorithm!r:.80} of {call}; there are {', '.join(MEASURED_ALGORITHMS)}"
                )
        self._hash = hash(frozenset(self._choices.items()))  # it is a key of plans

    def __getitem__(self, call: str) -> str:
        return self._choices[call]

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Tuning) and self._choices == other._choices)

    def __str__(self) -> str:
        return str(Table("", ["call", "algorithm"], [[list(item) for item in self.items()]], words=2))

    def __repr__(self) -> str:
        return f"<tuning: {len(self)} calls>"

    def algorithm(self, call, mode):
        """The algorithm of ``call`` in a plan of ``mode``; "auto" if it was not measured or does not apply."""
        found = self._choices.get(description(call, mode.target, mode.backward), "auto")
        return found if found in call.op.implementation.algorithms(call) else "auto"

    def as_data(self) -> dict[str, Any]:
        """Plain data, for model files."""
        return {"version": VERSION, "choices": dict(self._choices)}

    @classmethod
    def from_data(cls, data: Any) -> Tuning:
        """The inverse of :meth:`as_data`; anything else is a SettingError."""
        if not isinstance(data, dict) or data.keys() != {"version", "choices"} or type(data["version"]) is not int:
            raise SettingError("tuned: expected a version and choices")
        if data["version"] != VERSION:
            raise SettingError(f"tuned: version {data['version']}; this cnncore reads version {VERSION}")
        if not isinstance(data["choices"], dict):
            raise SettingError("tuned: the choices are not a mapping of calls to algorithms")
        return cls({call: name if isinstance(name, str) else repr(name) for call, name in data["choices"].items()})


class Everywhere(NamedTuple):
    """One algorithm for every call to which it applies, "direct" for the others; these are compared with each other."""

    name: str

    def algorithm(self, call, mode):
        """As :meth:`Tuning.algorithm`."""
        return self.name if self.name in call.op.implementation.algorithms(call) else "direct"


def description(call, target, backward):
    """A description of a call, the same for equal calls: target, dtype, operator, shapes, settings other than defaults."""
    usual = call.op.settings
    settings = [
        f"{name}={value}".replace(" ", "")
        for name, value in sorted(call.settings.items())
        if name != "algorithm" and value != usual[name]
    ]
    shapes = [str(tuple(shape)) for shape in call.shapes if shape is not None and len(shape) > 1]
    direction = "forward and backward" if backward else "forward"
    return " ".join([target, call.dtype.name, call.op.name, *shapes, *settings, direction])


class Measured(NamedTuple):
    """A distinct call: its number of occurrences, total seconds by algorithm, the choices by cost and by measurement."""

    call: str
    count: int  # type: ignore[assignment]  # not tuple's method of this name
    seconds: dict
    by_cost: str
    fastest: str


def tune(net, shapes, training, rounds, progress=None):
    """(choices, table of measurements) for ``net`` on inputs of ``shapes``: medians of interleaved passes.

    If the net divides a batch into pieces, the pieces are tuned.
    """
    if net.exact:
        raise SettingError(
            "tune: the net is exact and always uses direct convolution; set net.exact = False to allow other algorithms"
        )
    mode = Mode(training=training, backward=training, target=cpu.target())
    rows, sizes = {}, pieces_of(net, shapes, mode)
    for number, size in enumerate(sizes):

        def shown(done, total, name, number=number):
            if progress is not None:
                progress(number * total + done, len(sizes) * total, name)

        calls, _ = infer(net.graph, size, net.dtype, mode, net.seed)
        measure(net, size, calls, training, rounds, shown, rows)
    names = [name for name in MEASURED_ALGORITHMS if any(name in row.seconds for row in rows.values())]
    return Tuning({row.call: row.fastest for row in rows.values()}), measured_table(list(rows.values()), names)


def open_calls(net, calls, training):
    """Number of each node with a choice of algorithms → the description of its call."""
    return {
        number: description(call, cpu.target(), training)
        for number, (node, call) in enumerate(zip(net.graph.nodes, calls, strict=True))
        if "algorithm" not in node.settings and len(node.op.implementation.algorithms(call)) > 1
    }


def is_tuned(net, shapes, training):
    """Whether ``net.tuned`` has an algorithm for every call with a choice, on inputs of ``shapes``."""
    mode = Mode(training=training, backward=training, target=cpu.target())
    for size in pieces_of(net, shapes, mode):
        calls, _ = infer(net.graph, size, net.dtype, mode, net.seed)
        if not set(open_calls(net, calls, training).values()) <= set(net.tuned):
            return False
    return True


def measure(net, shapes, calls, training, rounds, progress, rows):
    """Put a :class:`Measured` per distinct call into ``rows``; ``calls``: those of the nodes by cost."""
    open_ = open_calls(net, calls, training)
    costs = {number: calls[number].op.implementation.algorithms(calls[number]) for number in open_}
    names = [name for name in MEASURED_ALGORITHMS if any(name in fits for fits in costs.values())]
    passes = {name: Passes(net, shapes, training, Everywhere(name), whole=True) for name in names}
    found = {name: [] for name in names}
    for turn in range(rounds):
        for place, (name, each) in enumerate(passes.items()):
            progress(turn * len(names) + place, rounds * len(names), name)
            found[name].append(each.once())
    for text in dict.fromkeys(open_.values()):
        same = [number for number in open_ if open_[number] == text]
        seconds = {
            name: sum(median_of(found[name], number) for number in same) for name in names if name in costs[same[0]]
        }
        by_cost = calls[same[0]].op.implementation.algorithm(calls[same[0]])
        fastest = min(seconds, key=seconds.get)
        if seconds[fastest] > WORTH_A_CHANGE * seconds[by_cost]:
            fastest = by_cost
        rows[text] = Measured(text, len(same), seconds, by_cost, fastest)


def median_of(passes, number):
    """The median over passes of the seconds of a node, forward and backward together."""
    return float(np.median([each.forward.get(number, 0.0) + each.backward.get(number, 0.0) for each in passes]))


def measured_table(rows, names):
    """The calls with milliseconds by algorithm, those that save most first."""
    header = ["call", "fastest", "by cost", "times", *(f"{name}, ms" for name in names)]
    lines = [
        [
            row.call,
            row.fastest,
            row.by_cost if row.by_cost != row.fastest else "the same",
            str(row.count),
            *(f"{1e3 * row.seconds[name]:.3f}" if name in row.seconds else "" for name in names),
        ]
        for row in rows
    ]
    return Table("", header, [lines], words=3)
