"""Branches and loops of ONNX files.

A net has none: the nodes of the branch that is taken, and a copy of a loop's body for every turn, stand among its nodes.
That is possible where the condition and the number of turns are numbers of the file, or follow from sizes that are known.
"""

import numpy as np

from .file import FileGraph, renamed
from .shapes import is_open

__all__ = ["CONTROL"]

MOST_TURNS = 4096
WAY_OUT = "export the network without it (fixed sizes, or tracing in place of scripting)"
FOREVER = (1 << 63) - 1  # the number of turns that exporters write for "until the condition ends it"


def inner(n, name):
    """An attribute that is a graph."""
    graph = n.node.attributes.get(name)
    if not isinstance(graph, FileGraph):
        n.refuse(f"it has no graph {name!r}")
    return graph


def settled(n, value, what):
    """A single number that is known now."""
    if not isinstance(value, np.ndarray):
        n.refuse(f"{what} depends on numbers of the image; {WAY_OUT}")
    if value.size != 1:
        n.refuse(f"{what} has {value.size} values; expected one")
    if is_open(value):
        n.refuse(f"{what}, {value.reshape(-1)[0]}, depends on the size of the image; give input_shape=, or {WAY_OUT}")
    return value.reshape(-1)[0].item()


def inside(n, graph, turn, given):
    """What a copy of a graph makes of ``given``."""
    if len(given) != len(graph.inputs):
        n.refuse(f"its graph has {len(graph.inputs)} inputs, and {len(given)} are given to it")
    return n.importer.run_inside(renamed(graph, f"{n.name}/{turn}/"), given)


def branch(n):
    """If: the branch that its condition chooses."""
    chosen = "then_branch" if settled(n, n.inputs[0], "its condition") else "else_branch"
    made = inside(n, inner(n, chosen), chosen.removesuffix("_branch"), ())
    return tuple(made)


def stacked(n, values, axis, step):
    """Values, one of each turn, along a new axis."""
    if not values:
        n.refuse("it makes no turn, and what its turns make is needed")
    if all(isinstance(v, np.ndarray) for v in values):
        n.check_size_limit((len(values), values[0].size))
        if any(map(is_open, values)):
            values = [v.astype(object) for v in values]
        return np.stack(values, axis)
    rows = []
    for turn, value in enumerate(values):
        x = n.importer.live(value, f"{n.name}/{step}_{turn}")
        place = axis % (x.rank + 1)
        extents = (*x.extents[:place], 1, *x.extents[place:])
        rows.append(n.add("unsqueeze", x, step=f"{step}_{turn}_as_part", axes=(place,), extents=extents))
    if len(rows) == 1:
        return rows[0]
    whole = (*rows[0].extents[:place], len(rows), *rows[0].extents[place + 1 :])
    return n.add("concat", *rows, step=step, axis=place, extents=whole)


def loop(n):
    """Loop: as many copies of its body as it makes turns."""
    body = inner(n, "body")
    most = settled(n, n.inputs[0], "its number of turns") if n.given(0) else FOREVER
    goes_on = bool(settled(n, n.inputs[1], "its condition")) if n.given(1) else True
    carried = list(n.inputs[2:])
    if len(body.inputs) != len(carried) + 2 or len(body.outputs) < len(carried) + 1:
        n.refuse(
            f"its body has {len(body.inputs)} inputs and {len(body.outputs)} outputs; {len(carried)} values go through it"
        )
    rows = [[] for _ in body.outputs[len(carried) + 1 :]]
    turn = 0
    while goes_on and turn < most:
        if turn == MOST_TURNS or (most > MOST_TURNS and most != FOREVER and n.given(0) and not n.given(1)):
            n.refuse(f"it makes {most if most != FOREVER else 'no end of'} turns; at most {MOST_TURNS} are written out")
        made = inside(n, body, turn, (np.asarray(turn, np.int64), np.asarray(True), *carried))
        goes_on = bool(settled(n, made[0], f"its condition after turn {turn}"))
        carried = list(made[1 : len(carried) + 1])
        for row, value in zip(rows, made[len(carried) + 1 :], strict=True):
            row.append(value)
        turn += 1
    parts = [
        stacked(n, row, 0, f"turns_{number}") if n.needs(len(carried) + number) else None
        for number, row in enumerate(rows)
    ]
    return (*carried, *parts)


def part_of(n, value, axis, turn, step):
    """The values of one turn: those at place ``turn`` along an axis, which goes."""
    if isinstance(value, np.ndarray):
        return np.take(value, turn, axis)
    axis %= value.rank
    extents = (*value.extents[:axis], *value.extents[axis + 1 :])
    return n.add("gather", value, step=step, indices=turn, axis=axis, extents=extents)


def scan(n):
    """Scan: a copy of its body for every place along an axis of its inputs."""
    if n.opset < 9:
        n.refuse(
            "until version 9 of the operators it went through a batch; convert the file with onnx.version_converter"
        )
    body, count = inner(n, "body"), n.attribute("num_scan_inputs", 1)
    states, over = list(n.inputs[: len(n.inputs) - count]), n.inputs[len(n.inputs) - count :]
    results = len(body.outputs) - len(states)
    if not 0 < count <= len(n.inputs) or results < 0:
        n.refuse(f"num_scan_inputs is {count}; it has {len(n.inputs)} inputs, its body {len(body.outputs)} outputs")
    axes = n.integers("scan_input_axes", count, [0] * count)
    backwards = n.integers("scan_input_directions", count, [0] * count)
    result_axes = n.integers("scan_output_axes", results, [0] * results)
    reversed_ = n.integers("scan_output_directions", results, [0] * results)
    turns = {
        v.shape[axis] if isinstance(v, np.ndarray) else v.extents[axis] for v, axis in zip(over, axes, strict=True)
    }
    if len(turns) != 1 or not isinstance(next(iter(turns)), int):
        n.refuse(
            f"it goes along axes of {', '.join(map(str, turns))} values; expected one number that is known: give input_shape="
        )
    turns = turns.pop()
    if turns > MOST_TURNS:
        n.refuse(f"it makes {turns} turns; at most {MOST_TURNS} are written out")
    rows = [[] for _ in range(results)]
    for turn in range(turns):
        parts = [
            part_of(n, v, axis, turns - 1 - turn if back else turn, f"{turn}/part_{number}")
            for number, (v, axis, back) in enumerate(zip(over, axes, backwards, strict=True))
        ]
        made = inside(n, body, turn, (*states, *parts))
        states = made[: len(states)]
        for row, value in zip(rows, made[len(states) :], strict=True):
            row.append(value)
    parts = [
        stacked(n, row[::-1] if back else row, axis, f"turns_{number}") if n.needs(len(states) + number) else None
        for number, (row, axis, back) in enumerate(zip(rows, result_axes, reversed_, strict=True))
    ]
    return (*states, *parts)


CONTROL = {"If": branch, "Loop": loop, "Scan": scan}
