"""Operators and cases as parameters of tests, named after them; both passes of a call."""

import numpy as np
import pytest

import cnncore
from cnncore.testing import named_cases


def cases(*, ranks=False, where=lambda op: True):
    """Parameters (op, case), or (op, case, rank), for every operator of the registry that ``where`` accepts."""
    named = [(op, *c) for op in filter(where, cnncore.OPS.values()) for c in named_cases(op)]
    if not ranks:
        return [pytest.param(op, case, id=f"{op.name}-{name}") for op, case, name in named]
    return [
        pytest.param(op, case, rank, id=f"{op.name}-{name}-rank{rank}")
        for op, case, name in named
        for rank in case.ranks
    ]


def operators(where=lambda op: True):
    """One parameter per operator."""
    return [pytest.param(op, id=op.name) for op in filter(where, cnncore.OPS.values())]


def mostly_long(parameters, one_in):
    """The same parameters, of which one in so many is tried each time, and the others in the long tests."""
    rows = [row if isinstance(row, type(pytest.param())) else pytest.param(row) for row in parameters]
    return [
        row if number % one_in == 0 else pytest.param(*row.values, id=row.id, marks=(*row.marks, pytest.mark.long))
        for number, row in enumerate(rows)
    ]


def first(y):
    """The differentiated output of an operator's result."""
    return y[0] if isinstance(y, tuple) else y


def as_list(gradients):
    """What backward returned, as a list."""
    return list(gradients) if isinstance(gradients, tuple) else [gradients]


def both_passes(op, arrays, settings, dy=None):
    """y and all gradients, as one list; dy is drawn from y's shape alone when it is not given."""
    y, backward = op.with_backward(*arrays, **settings)
    y = first(y)
    if dy is None:
        dy = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
    return [y, *as_list(backward(dy))]


def inference(op, case, rank):
    """(arrays, settings, xs) of a case outside training: what is drawn there, and what belongs to it, is left out."""
    arrays = case.sample(rank, np.float32)
    rows = op.rows(len(arrays))
    drawn = op.settings.keys() >= {"seed"}
    arrays = tuple(
        None if drawn and row.name in ("state", "window_state") else a for row, a in zip(rows, arrays, strict=False)
    )
    settings = {k: v for k, v in case.settings.items() if not k.startswith("return_")}
    if op.name != "batch_norm" or len(arrays) == 5:
        settings.pop("training", None)
    elif "training" not in settings:
        settings["training"] = True  # no running statistics: those of the batch
    own = {p.name for p in op.layer.parameters}
    xs = [a for row, a in zip(rows, arrays, strict=False) if a is not None and row.name not in own]
    return arrays, settings, xs
