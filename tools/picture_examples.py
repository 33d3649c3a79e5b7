"""What the pictures of operators show: an example of each operator, chosen so that there is something to see.

An :class:`Example` is a call on a small image, with y, one place of y, the gradient of x for dy = 1 at this place, and the
cells of x on which this value of y depends.
"""

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np

import cnncore
from cnncore.operators.blocks.implementation import Composition

ROWS, COLUMNS = 9, 10  # the largest plane that is drawn whole with numbers
MOST_ROWS, MOST_COLUMNS = 12, 14  # and without


def image(shape):
    """A stroke and a spot, no two pixels of a plane alike and all with two decimals; every other plane is upside down."""
    x = np.empty(shape)
    rows, columns = np.indices(shape[-2:])
    for number, plane in enumerate(np.ndindex(shape[:-2])):
        i, j = (rows[::-1], columns) if number % 2 else (rows, columns)
        stroke = np.exp(-(((i - j) * 0.7) ** 2) / 2)
        spot = np.exp(-((i - 1.5) ** 2 + (j - shape[-1] + 2.5) ** 2) / 2.5)
        x[plane] = distinct(0.08 + 0.75 * np.maximum(stroke, spot) + 0.013 * ((3 * i + 5 * j + number) % 7))
    return x


def distinct(values):
    """Each value as the nearest free multiple of 0.01."""
    taken, result = set(), np.empty(values.shape)
    for place, value in np.ndenumerate(values):
        middle = round(float(value) * 100)
        steps = (step for distance in itertools.count() for step in (distance, -distance))
        free = next(middle + step for step in steps if middle + step > 0 and middle + step not in taken)
        taken.add(free)
        result[place] = free / 100
    return result


def examples(op, rank, seed=0):
    """Arrays and settings that could be drawn, the most instructive first; images, or signals where ``rank`` is 1."""
    if op.group == "activation":
        yield (np.array([[0.4, 2.0, -1.0, 1.3, -0.3, 1.6, 0.1, -1.8]]),), {}
    case = next((case for case in op.cases if rank in case.ranks), op.cases[0])
    rank = rank if rank in case.ranks else case.ranks[0]
    # One channel, where the operator takes it, lets a reader add up the numbers of a window.
    one = op.group == "convolution" or "kernel_size" in op.settings
    for channels in (1, case.channels) if one else (case.channels,):
        for spatial in (6, 5, 4, 3, 2, case.spatial):
            chosen = case.but(spatial=spatial, batch=1, channels=channels)
            try:
                arrays = drawable(op, chosen.sample(rank, seed=seed))
                op(*arrays, **case.settings)
            except (cnncore.CnnError, ValueError, IndexError):
                continue
            yield arrays, case.settings
    yield case.sample(rank), case.settings


def drawable(op, arrays):
    """A case's arrays with an image for x, weights of one decimal, and no biases, so that the numbers can be checked by hand."""
    x, *others = arrays
    if x.ndim >= 3 and x.dtype.kind == "f":
        x = image(x.shape)
    made = [x]
    for row, array in zip(op.rows(len(arrays))[1:], others, strict=False):
        if row.optional and row.name.startswith("b"):
            array = None
        elif array is not None and array.dtype.kind == "f" and array.ndim >= 3 and array.size > 1:
            array = np.round(array / max(1, np.abs(array).max()), 1)
        made.append(array)
    return tuple(made)


@dataclass(eq=False)
class Example:
    """An operator on some arrays: y, a place of it, the gradient of x for dy = 1 there, and the cells of x that matter there."""

    op: object
    arrays: tuple
    settings: dict
    y: np.ndarray
    place: tuple
    dx: np.ndarray
    leading: tuple  # index of the plane of x that is drawn
    window: np.ndarray  # which cells of this plane y[place] depends on

    @property
    def is_local(self):
        return not self.window.all()


def run(op, arrays, settings):
    """The example of a call. dy is 1 at the place nearest to the middle of y whose gradient is not zero."""
    y, backward = op.with_backward(*arrays, **settings)
    x, y = arrays[0], first(y)

    def gradient(place):
        dy = np.zeros_like(y)
        dy[place] = 1
        gradients = backward(dy)
        return np.zeros(arrays[0].shape) if isinstance(gradients, tuple) and not gradients else first(gradients)

    if is_composition(op):  # the branch that sees most
        middles = [(*leading, *(extent // 2 for extent in y.shape[-2:])) for leading in np.ndindex(y.shape[:-2])]
        place = max(middles, key=lambda place: np.count_nonzero(gradient(place)))
    elif op.yields == "real":
        place = next((place for place in places(y.shape) if gradient(place).any()), next(places(y.shape)))
    else:  # without gradients: the first place that depends on a cell of its own plane
        near = list(itertools.islice(places(y.shape), MOST_PLACES))
        place = next(
            (place for place in near if window(op, arrays, settings, place, plane_of(x, place)).any()), near[0]
        )
    dx = gradient(place)
    # The first plane that holds gradient: of an image the last two axes.
    leading = tuple(int(i) for i in np.argwhere(dx.any(axis=(-2, -1)) if dx.ndim > 2 else np.ones(()))[:1].ravel())
    leading = leading or (plane_of(x, place) if op.yields != "real" else (0,) * max(dx.ndim - 2, 0))
    return Example(op, arrays, settings, y, place, dx, leading, window(op, arrays, settings, place, leading))


# What a cell becomes, to see what depends on it: by the kind of dtype.
OTHER_VALUES = {"f": (math.nan, 10.0, -10.0, 0.0, math.inf), "i": (0, 1, 2), "b": (False, True)}
MOST_PLACES = 40  # that are looked at
MOST_VALUES = 12  # of other arrays that a cell becomes: comparisons tell those


def plane_of(x, place):
    """The index of the plane of x in the same position as that of a place of y."""
    return tuple(min(i, extent - 1) for i, extent in zip(place, x.shape[:-2], strict=False)) + (0,) * max(
        x.ndim - 2 - len(place), 0
    )


def places(shape):
    """All places of an array, those in the middle of a plane first, and plane after plane."""
    planes, (rows, columns) = shape[:-2], (1, 1, *shape)[-2:]
    middle = sorted(
        itertools.product(range(rows), range(columns)),
        key=lambda place: ((place[0] - rows // 2) ** 2 + (place[1] - columns // 2) ** 2, place),
    )
    for leading in np.ndindex(planes):
        for place in middle:
            yield (*leading, *place[2 - min(len(shape), 2) :])


def window(op, arrays, settings, place, leading):
    """Which cells of a plane of x the value y[place] depends on: where another number, in some image, changes it."""
    x, *others = arrays
    rng = np.random.default_rng(0)
    images = [x, *(rng.permutation(x.ravel()).reshape(x.shape) for _ in range(8))]
    values = list(OTHER_VALUES[x.dtype.kind])
    values += [
        v for z in others if z is not None and z.dtype.kind == "f" == x.dtype.kind for v in z.ravel()[:MOST_VALUES]
    ]

    def result(changed):
        try:
            return first(op(changed, *others, **settings))[place]
        except cnncore.CnnError:  # not every operator takes every number
            return None

    def changes_y(before, cell, value, y):
        changed = before.copy()
        changed[(*leading, *cell)] = value
        after = result(changed)
        return after is not None and not np.array_equal(after, y, equal_nan=True)

    seen = np.zeros(x[leading].shape, bool)
    with np.errstate(all="ignore"):
        for before in images:
            y = result(before)
            for cell in np.argwhere(~seen):
                seen[tuple(cell)] = any(changes_y(before, cell, v, y) for v in values[: None if before is x else 2])
    return seen


def kept(function):
    """Computes once for each argument, by the reference implementations, whatever the target of the first who asks."""

    @functools.cache
    @functools.wraps(function)
    def computed(what):
        with cnncore.cpu.target("reference"):
            return function(what)

    return computed


@kept
def example(op):
    """The example that is drawn: an image, but a signal, a plane of channels × places, where channels are mixed."""
    if op.group == "arrays" and len(op.arrays) == 2:  # an array of one number per channel shows how it is broadcast
        return seen_whole(op, rank=1)
    drawn = seen_whole(op, rank=2)
    mixed = drawn.dx.ndim == 4 and drawn.dx.any(axis=(0, 2, 3)).sum() > 1
    if mixed and op.group != "arrays" and any(1 in case.ranks for case in op.cases):
        drawn = seen_whole(op, rank=1)
    return drawn


def seen_whole(op, rank):
    """The first example whose planes are small enough to be drawn whole, and whose steps, if it has any, all do something."""
    for seed in range(20):
        for arrays, settings in examples(op, rank, seed):
            y = first(op(*arrays, **settings))
            if all(fits(a) for a in (arrays[0], y)):
                drawn = run(op, arrays, settings)
                if drawn.window.any():
                    break
        else:
            drawn = run(op, arrays, settings)
        if not is_composition(op) or all(stage.value.any() for stage in stages_of(drawn).values()):
            break
    return drawn


def fits(array, most_rows=ROWS, most_columns=COLUMNS):
    """Whether a plane of an array is small enough to be drawn whole; a long row goes into two."""
    rows, columns = (1, 1, *array.shape)[-2:]
    return (rows <= most_rows and columns <= most_columns) or (rows == 1 and columns <= 2 * most_columns)


@kept
def variants(drawn):
    """(setting, what differs, example) with another stride and with dilation, where the operator has these settings."""
    found = []
    for name in ("stride", "dilation"):
        if name in drawn.op.settings:
            calls = [*larger_and_smaller(drawn, other_setting(drawn, name)), *from_cases(drawn, name)]
            whole = (call for call in calls if fits(first(drawn.op(*call[0], **call[1])), MOST_ROWS, MOST_COLUMNS))
            arrays, settings = next(whole, calls[0])
            differing = {key: value for key, value in settings.items() if value != drawn.settings.get(key)}
            caption = ", ".join(f"{key}={value!r}" for key, value in differing.items())
            if caption not in {other for _, other, _ in found}:  # a case may change both
                found.append((name, caption, run(drawn.op, arrays, settings)))
    return found


def other_setting(drawn, name):
    """The settings of an example but for one, which is 2, or 1 where it was 2."""
    full = drawn.op.full_settings(drawn.settings)
    now = full["kernel_size"] if full[name] is None else full[name]
    return {**drawn.settings, name: 1 if now in (2, (2, 2)) else 2}


def larger_and_smaller(drawn, settings):
    """Calls like that of an example, with other settings, on images of a few sizes, where the other arrays allow them."""
    x, *others = drawn.arrays
    for size in ((8, 9), x.shape[2:], (4, 5)):
        arrays = (image((*x.shape[:2], *size)), *others)
        if possible(drawn.op, arrays, settings):
            yield arrays, settings


def from_cases(drawn, name):
    """Calls of the operator's cases that have another value of a setting."""
    for case in drawn.op.cases:
        if case.settings.get(name, drawn.op.settings[name]) != drawn.settings.get(name, drawn.op.settings[name]):
            rank = 2 if 2 in case.ranks else case.ranks[0]
            yield drawable(drawn.op, case.but(batch=1).sample(rank)), case.settings


def possible(op, arrays, settings):
    """Whether the operator takes these arrays and settings."""
    try:
        op(*arrays, **settings)
    except cnncore.CnnError:
        return False
    return True


def first(arrays):
    """The first of several outputs or gradients; a lone one itself."""
    return np.asarray(arrays[0] if isinstance(arrays, tuple) else arrays)


# ── Steps of a composition ──────────────────────────────────────────────────────────────────────────────────────────────


def is_composition(op):
    """Whether the operator is made of steps."""
    return isinstance(op.implementation, Composition)


@dataclass
class Stage:
    """A step with the activation that follows it: what it says, what it makes, what it takes."""

    label: str
    value: np.ndarray
    inputs: tuple
    depth: int = 0
    lane: float = 0


def stages_of(drawn):
    """Name → stage, in order, of a composition's example; x first."""
    op = drawn.op
    shapes = tuple(None if a is None else a.shape for a in drawn.arrays)
    arrays = dict(zip((row.name for row in op.arrays), drawn.arrays, strict=False))
    x = op.arrays[0].name
    stages, merged = {x: Stage(x, arrays[x], ())}, {x: x}
    for step in op.implementation.steps(op, shapes, op.full_settings(drawn.settings)):
        taken = [None if name is None else arrays[name] for name in step.inputs]
        arrays[step.name] = first(step.op(*taken, **step.settings))
        inputs = tuple(merged[name] for name in step.inputs if name in merged)
        if step.op.group == "activation":  # drawn as a part of the step before
            (name,) = inputs
            stages[name].label += f" → {step.op.name}"
            stages[name].value = arrays[step.name]
            merged[step.name] = name
            continue
        label = step.op.name.replace("_", " ")
        kernel = step.settings.get("kernel_size", taken[1].shape[2:] if len(taken) > 1 and taken[1].ndim > 2 else None)
        if kernel is not None and step.op.name != "concat":
            sizes = (kernel,) * 2 if isinstance(kernel, int) else kernel
            label += f" {'×'.join(map(str, sizes))}"
        depth = 1 + max(stages[name].depth for name in inputs)
        stages[step.name] = Stage(label, arrays[step.name], inputs, depth)
        merged[step.name] = step.name
    return stages
