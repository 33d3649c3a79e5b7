"""Deliberately wrong backward passes, planted in every operator: the gradient check finds each of them.

A fault takes the place of ``implementation.backward``; everything else stays. It counts as planted where it changes some
gradient of the sample by more than rounding (ignoring the padding is no fault where there is none).
"""

import dataclasses

import numpy as np
import pytest
from support.cases import as_list, cases, first, mostly_long, operators

import cnncore
from cnncore import GradientError, KinkError
from cnncore.testing import check_adjoint, check_gradient


class Faulty:
    """An implementation whose backward is made wrong by ``fault(backward, call, dy, gradients)``."""

    def __init__(self, implementation, fault):
        self.implementation, self.fault = implementation, fault

    def __getattr__(self, name):
        return getattr(self.implementation, name)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        def right(dy):
            return list(self.implementation.backward(call, saved, np.array(dy, order="C"), needs_gradient))

        given = [None if g is None else np.array(g) for g in right(dy)]
        wrong = self.fault(right, call, dy, given)
        return tuple(None if g is None else np.array(g, order="C") for g in wrong)


def with_fault(op, fault):
    """The operator with a wrong backward."""
    return dataclasses.replace(op, implementation=Faulty(op.implementation, fault))


def on_each(change):
    """A fault that changes every gradient by itself."""
    return lambda right, call, dy, gradients: [None if g is None else change(g) for g in gradients]


def moved(g, steps, axis):
    """g moved along an axis, zeros coming in."""
    result = np.roll(g, steps, axis)
    edge = [slice(None)] * g.ndim
    edge[axis] = slice(None, steps) if steps > 0 else slice(steps, None)
    result[tuple(edge)] = 0
    return result


def last_window_left_out(right, call, dy, gradients):
    if dy.ndim < 3:
        return gradients
    dy = dy.copy()
    dy[..., -1] = 0
    return right(dy)


def first_window_counted_twice(right, call, dy, gradients):
    if dy.ndim < 3:
        return gradients
    dy = dy.copy()
    dy[..., 0] *= 2
    return right(dy)


def windows_shifted_by_one(right, call, dy, gradients):
    return right(moved(dy, 1, dy.ndim - 1)) if dy.ndim > 2 else gradients


def written_instead_of_added(right, call, dy, gradients):
    """dx[i] = … where dx[i] += … is meant: of overlapping windows the last one counts."""
    results = [None if g is None else np.zeros_like(g) for g in gradients]
    one = np.zeros_like(dy)
    for k in range(dy.size):
        one.flat[k] = dy.flat[k]
        for result, part in zip(results, right(one), strict=True):
            if result is not None:
                result[part != 0] = part[part != 0]
        one.flat[k] = 0
    return results


def padding_forgotten(right, call, dy, gradients):
    """dx in the coordinates of the padded image."""
    padding = call.settings.get("padding", 0)
    low = padding if isinstance(padding, int) else 1 if isinstance(padding, str) else np.ravel(padding)[0]
    if gradients[0] is None or not low or gradients[0].ndim < 3:
        return gradients
    return [moved(gradients[0], -int(low), 2), *gradients[1:]]


def border_forgotten(right, call, dy, gradients):
    """dx is 0 in the last row."""
    if gradients[0] is None or gradients[0].ndim < 3:
        return gradients
    dx = gradients[0].copy()
    dx[..., -1] = 0
    return [dx, *gradients[1:]]


def first_image_only(right, call, dy, gradients):
    """Gradients of parameters are not summed over the images."""
    if dy.ndim < 2:
        return gradients
    alone = dy.copy()
    alone[1:] = 0
    return [gradients[0], *right(alone)[1:]]


def first_position_only(right, call, dy, gradients):
    """Gradients of parameters are not summed over the image."""
    if dy.ndim < 3:
        return gradients
    alone = np.zeros_like(dy)
    alone[(slice(None), slice(None), *[0] * (dy.ndim - 2))] = dy[(slice(None), slice(None), *[0] * (dy.ndim - 2))]
    return [gradients[0], *right(alone)[1:]]


def transposed(g):
    for a in range(g.ndim):
        for b in range(a + 1, g.ndim):
            if g.shape[a] == g.shape[b] > 1:
                return g.swapaxes(a, b)
    return g


def channels_reversed(g):
    return g[:, ::-1] if g.ndim > 1 else g[::-1]


def arguments_swapped(right, call, dy, gradients):
    """The gradients of two arrays of one shape change places."""
    for i in range(len(gradients)):
        for j in range(i + 1, len(gradients)):
            if gradients[i] is not None and gradients[j] is not None and gradients[i].shape == gradients[j].shape:
                swapped = list(gradients)
                swapped[i], swapped[j] = swapped[j], swapped[i]
                return swapped
    return gradients


FAULTS = {
    "sign": on_each(np.negative),
    "factor 2": on_each(lambda g: 2 * g),
    "a millionth too large": on_each(lambda g: g * (1 + 1e-6)),
    "a constant added": on_each(lambda g: g + 1e-3),
    "zero": on_each(np.zeros_like),
    "flipped": on_each(lambda g: g[..., ::-1] if g.ndim else g),
    "channels reversed": on_each(channels_reversed),
    "transposed": on_each(transposed),
    "shifted by one": on_each(lambda g: moved(g, 1, g.ndim - 1) if g.ndim else g),
    "shifted the other way": on_each(lambda g: moved(g, -1, g.ndim - 1) if g.ndim else g),
    "dy forgotten": lambda right, call, dy, gradients: right(np.ones_like(dy)),
    "dy in reverse": lambda right, call, dy, gradients: right(dy.ravel()[::-1].reshape(dy.shape)),
    "absolute dy": lambda right, call, dy, gradients: right(np.abs(dy)),
    "windows shifted by one": windows_shifted_by_one,
    "last window left out": last_window_left_out,
    "first window counted twice": first_window_counted_twice,
    "written instead of added": written_instead_of_added,
    "padding forgotten": padding_forgotten,
    "border forgotten": border_forgotten,
    "parameters of the first image only": first_image_only,
    "parameters of the first position only": first_position_only,
    "arguments swapped": arguments_swapped,
}

# Mistakes that each group can make: wrong sign, wrong factor, windows off by one, sums of overlapping windows left out.
ESSENTIAL = ("sign", "factor 2", "windows shifted by one", "last window left out", "written instead of added")
SHORT = (*ESSENTIAL, "a constant added")  # which gradients that are zero everywhere have too


def changes_something(op, wrong, arrays, settings, rng):
    """Whether the fault changes a gradient, for a random dy."""
    y, right_backward = op.with_backward(*arrays, **settings)
    _, wrong_backward = wrong.with_backward(*arrays, **settings)
    y = np.asarray(first(y))
    dy = rng.standard_normal(y.shape)
    pairs = list(zip(as_list(right_backward(dy)), as_list(wrong_backward(dy)), strict=True))
    scale = max(np.abs(a).max(initial=0) for a, _ in pairs)
    return any(np.abs(a - b).max(initial=0) > 1e-7 * max(scale, 1e-300) for a, b in pairs)


def sample(case):
    """Arrays of the case, in the lowest rank that has a spatial axis."""
    return case.sample(min((rank for rank in case.ranks if rank), default=case.ranks[0]))


def planted(op, case, names, rng):
    """(name, operator with that fault), for those that change a gradient of the case."""
    arrays = sample(case)
    for name in names:
        wrong = with_fault(op, FAULTS[name])
        if changes_something(op, wrong, arrays, case.settings, rng):
            yield name, wrong


def survives(wrong, case, method):
    """What the check says of a fault that it does not find, else None."""
    try:
        check_gradient(wrong, *sample(case), method=method, **case.settings)
    except KinkError:
        return f"{method}: taken for a kink"
    except GradientError:
        return None
    return method


DIFFERENTIABLE = {"where": lambda op: op.proof == "gradient"}


@pytest.mark.parametrize(
    "faults", [SHORT, pytest.param(tuple(FAULTS), marks=pytest.mark.long)], ids=["essential", "all"]
)
@pytest.mark.parametrize("op", mostly_long(operators(**DIFFERENTIABLE), 4))
def test_planted_faults_are_caught(op, faults, rng):
    """Every kind of fault by projections, and the essential ones as checks are by default: small Jacobians as a whole."""
    case, survivors, found = op.cases[0], [], 0
    for name, wrong in planted(op, case, faults, rng):
        for method in ("projection", "auto") if name in ESSENTIAL else ("projection",):
            outcome = survives(wrong, case, method)
            survivors += [f"{name} ({outcome})"] if outcome else []
            found += outcome is None
    assert not survivors, f"not found: {', '.join(survivors)}"
    assert found, "no fault could be planted"


@pytest.mark.long
@pytest.mark.parametrize(
    ("op", "case"),
    [p for p in cases(**DIFFERENTIABLE) if p.values[1] is not p.values[0].cases[0]],
)
def test_essential_faults_are_caught_in_every_case(op, case, rng):
    """In the other cases one fault of each operator's arithmetic and one of its windows, by the check's own method."""
    survivors = [
        f"{name} ({outcome})"
        for name, wrong in planted(op, case, ("factor 2", "last window left out"), rng)
        if (outcome := survives(wrong, case, "auto"))
    ]
    assert not survivors, f"not found: {', '.join(survivors)}"


@pytest.mark.parametrize("group", sorted({op.group for op in cnncore.OPS.values() if op.proof == "gradient"}))
def test_every_group_has_each_essential_fault(group, rng):
    """A fault that changes no gradient of a group would be caught by nobody: each changes one somewhere."""
    missing = set(ESSENTIAL)
    for op in cnncore.OPS.values():
        if op.group == group and op.proof == "gradient":
            missing -= {name for name, _ in planted(op, op.cases[0], sorted(missing), rng)}
    assert not missing


@pytest.mark.parametrize("op", operators(where=lambda op: op.linear))
def test_planted_faults_break_the_adjoint_identity(op, rng):
    case = op.cases[0]
    arrays = case.sample(case.ranks[-1])
    for name in ("sign", "factor 2", "shifted by one", "dy forgotten"):
        wrong = with_fault(op, FAULTS[name])
        if changes_something(op, wrong, arrays, case.settings, rng):
            with pytest.raises(GradientError, match="adjoint"):
                check_adjoint(wrong, *arrays, **case.settings)


NEIGHBOURS = [
    ("max_pool", "avg_pool"),
    ("avg_pool", "sum_pool"),
    ("relu", "sigmoid"),
    ("elu", "selu"),
    ("tanh", "sigmoid"),
]
NEIGHBOURS += [
    ("lp_pool", "avg_pool"),
    ("global_max_pool", "global_avg_pool"),
    ("adaptive_max_pool", "adaptive_avg_pool"),
]


@pytest.mark.parametrize(("name", "other"), [n for n in NEIGHBOURS if {*n} <= set(cnncore.OPS)])
def test_backward_of_a_neighbour_is_caught(name, other):
    """Forward of one operator, backward of another of its group."""
    op, other = cnncore.OPS[name], cnncore.OPS[other]
    case = op.cases[0]
    (x,) = case.sample(case.ranks[0])
    shared = {k: v for k, v in case.settings.items() if k in other.settings}

    def mixed(x):
        return op(x, **case.settings), other.with_backward(x, **shared)[1]

    with pytest.raises(GradientError):
        check_gradient(mixed, x)
