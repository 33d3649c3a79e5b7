"""Operators composed of other operators: steps in order, their backward passes in reverse order, gradients summed at branches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ...errors import CnnError
from ..operator import Implementation, Op
from ..shape import reference as shape
from ..shape.implementation import empty_image

__all__ = ["Composition", "Step"]


@dataclass(frozen=True)
class Step:
    """One operator of a composition: the name of its result, and the names of the arrays that it takes (None: left out)."""

    name: str
    op: Op
    inputs: tuple[str | None, ...]
    settings: Mapping = field(default_factory=dict)


@dataclass(frozen=True)
class Described:
    """A step of a call, with numbers instead of names: first the arrays of the schema, then the steps' results.

    ``place`` is the location of its y: None: a separate array; (step, None): that of the activation ``step``, which computes
    in place; (step, index): a part of the output of the concatenation ``step``. ``fused``: the activation that is applied while
    y is written; ``done``: it is an activation that was fused.
    """

    call: object
    inputs: tuple[int | None, ...]
    place: tuple | None = None
    fused: object = None
    done: bool = False


def overwrites(call):
    """Whether a call may write y where its first array lies, and does not need that array again."""
    implementation = call.op.implementation
    return (
        implementation.in_place
        and call.output == call.shapes[0]
        and implementation.saves is not None
        and call.op.arrays[0].name not in implementation.saves
    )


@dataclass(frozen=True)
class Composition(Implementation):
    """``steps(op, shapes, settings)`` gives the steps of a call, as a tuple of :class:`Step`; the last one's result is y.

    Joins are never copied to: what they join is computed in its place. Values between the steps lie like the first array.
    """

    steps: Callable

    per_image = True

    def infer(self, op, shapes, dtype, settings):
        steps = self.steps(op, shapes, settings)
        numbers = {row.name: i for i, row in enumerate(op.arrays)}
        known = list(shapes)
        calls, inputs = [], []
        for step in steps:
            taken = tuple(None if name is None else numbers[name] for name in step.inputs)
            given = [None if i is None else known[i] for i in taken]
            given += [None] * (len(step.op.arrays) - len(given))
            try:
                call = step.op.infer(tuple(given), dtype, dict(step.settings))
            except CnnError as error:
                arrays = ", ".join(
                    n for n, i in zip(step.inputs, taken, strict=True) if i is not None and known[i] is not None
                )
                text = str(error).removeprefix(f"{step.op.name}: ")
                raise type(error)(f"{op.name}: {text} (step {step.name}: {step.op.name} of {arrays})") from None
            numbers[step.name] = len(known)
            known.append(call.output)
            calls.append(call)
            inputs.append(taken)
        return known[-1], self.placed(calls, inputs, len(shapes))

    def placed(self, calls, inputs, arrays):
        """The described steps, with the place of every result."""
        consumers = [[] for _ in calls]
        for number, taken in enumerate(inputs):
            for argument, i in enumerate(taken):
                if i is not None and i >= arrays:
                    consumers[i - arrays].append((number, argument))
        steps = [None] * len(calls)
        for number in reversed(range(len(calls))):
            call, place, fused = calls[number], None, None
            if len(consumers[number]) == 1:
                ((following, argument),) = consumers[number]
                implementation, after = calls[following].op.implementation, calls[following]
                parts = None if None in after.output else implementation.parts(after)
                saves = call.op.implementation.saves
                if parts is not None:
                    place = (following, parts[argument])
                elif argument == 0 and overwrites(after) and saves is not None and "y" not in saves:
                    place = (following, None)
                    if implementation.saves == ("y",) and call.op.implementation.fuses_activation(call, after):
                        fused = after
                        steps[following] = Described(after, inputs[following], steps[following].place, done=True)
            steps[number] = Described(call, inputs[number], place, fused)
        return tuple(steps)

    def forward(self, call, arrays, out=None, packed=None):
        steps = call.geometry
        values, saved = [*arrays, *[None] * len(steps)], [None] * len(steps)
        first = len(arrays)
        values[-1] = call.empty(out)
        for number in reversed(range(len(steps) - 1)):
            step = steps[number]
            if step.place is None:
                values[first + number] = empty_image(step.call.output, arrays[0])
            else:
                following, index = step.place
                values[first + number] = (
                    values[first + following] if index is None else values[first + following][index]
                )
        for number, step in enumerate(steps):
            y, implementation = values[first + number], step.call.op.implementation
            given = [None if i is None else values[i] for i in step.inputs]
            given += [None] * (len(step.call.shapes) - len(given))
            parts = implementation.parts(step.call)
            if step.done:
                saved[number] = (y,)
            elif parts is not None:
                for i, array, index in zip(step.inputs, given, parts, strict=False):
                    if i < first or steps[i - first].place != (number, index):
                        shape.copy(array, y[index])
            else:
                options = {} if step.fused is None else {"epilogue": step.fused}
                if packed is not None and packed.steps[number] is not None:
                    options["packed"] = packed.steps[number]
                _, _, saved[number] = implementation.forward(step.call, tuple(given), y, **options)
        return values[-1], (), (values, saved)

    def backward(self, call, saved, dy, needs_gradient, out=None):
        steps, first = call.geometry, len(needs_gradient)
        _, kept = saved
        needed = list(needs_gradient)
        for step in steps:
            needed.append(any(i is not None and needed[i] for i in step.inputs))
        gradients = Gradients(call, first, out)
        gradients.found[-1] = dy
        for number in reversed(range(len(steps))):
            step, place = steps[number], first + number
            if not needed[place] or gradients.found[place] is None:
                continue
            implementation, dy_here = step.call.op.implementation, gradients.found[place]
            rows = step.call.op.rows(len(step.call.shapes))
            asked = tuple(
                row.differentiable and argument < len(step.inputs) and step.inputs[argument] is not None
                and needed[step.inputs[argument]]
                for argument, row in enumerate(rows)
            )  # fmt: skip
            parts = implementation.parts(step.call)
            if parts is not None:
                for i, want, index in zip(step.inputs, asked, parts, strict=False):
                    if want:
                        gradients.lend(i, dy_here[index])
                continue
            over = implementation.in_place and sum(asked) == 1 and asked[0] and place in gradients.own
            places = [
                gradients.place(i, over and dy_here) if want else None
                for i, want in zip(step.inputs, asked, strict=False)
            ]
            places += [None] * (len(asked) - len(places))
            made = implementation.backward(step.call, kept[number], dy_here, asked, places)
            for i, want, gradient in zip(step.inputs, asked, made, strict=False):
                if want:
                    gradients.take(i, gradient)
        return gradients.results(needs_gradient)

    def packing(self, call, arena):
        return Packings([step.call.op.implementation.packing(step.call, arena) for step in call.geometry])

    def multiply_adds(self, call):
        return sum(step.call.op.implementation.multiply_adds(step.call) or 0 for step in call.geometry)

    def receptive_window(self, call):
        rank = len(call.shapes[0]) - 2
        first = len(call.shapes)
        windows = {0: ((1, 1),) * rank}  # of the values that depend on the image
        for number, step in enumerate(call.geometry):
            reaching = [windows[i] for i in step.inputs if i in windows]
            own = step.call.op.implementation.receptive_window(step.call)
            if not reaching or own is None:
                return None
            widest = [max(branch[axis] for branch in reaching) for axis in range(rank)]
            windows[first + number] = tuple(
                (reach + (size - 1) * jump, jump * step_)
                for (reach, jump), (size, step_) in zip(widest, own, strict=True)
            )
        return windows[first + len(call.geometry) - 1]


class Packings:
    """What the steps of a composition keep from call to call."""

    def __init__(self, steps):
        self.steps = steps

    def refresh(self):
        """Arrays may have changed."""
        for kept in self.steps:
            if kept is not None:
                kept.refresh()


class Gradients:
    """The gradients of a composition's arrays and values while backward runs: written once, added to after that.

    ``own`` are those in memory of this pass; others are parts of the caller's dy, which is only read.
    """

    def __init__(self, call, arrays, out):
        self.call, self.arrays, self.out = call, arrays, out
        self.found = [None] * (arrays + len(call.geometry))
        self.own = set()

    def place(self, i, over):
        """Memory for a gradient of value i; ``over``: the gradient that may be written over, or False."""
        if self.found[i] is not None:
            return empty_image(self.found[i].shape, self.found[i])  # to be added
        if i < self.arrays:
            return self.call.gradient(i, self.out and self.out[i])
        if over is not False:
            return over
        call = self.call.geometry[i - self.arrays].call
        return empty_image(call.output, self.found[-1])

    def take(self, i, gradient):
        """A gradient of value i that was computed."""
        if self.found[i] is None:
            self.found[i] = gradient
            self.own.add(i)
        elif i in self.own:
            shape.accumulate(gradient, self.found[i])
        else:
            shape.accumulate(self.found[i], gradient)
            self.found[i] = gradient
            self.own.add(i)

    def lend(self, i, part):
        """A gradient of value i that is part of another one."""
        if self.found[i] is None and i >= self.arrays:
            self.found[i] = part
            return
        memory = self.place(i, False)
        shape.copy(part, memory)
        self.take(i, memory)

    def results(self, needs_gradient):
        """The gradients asked for; those of arrays that no step reads are 0."""
        made = []
        for i, want in enumerate(needs_gradient):
            if want and self.found[i] is None:
                self.found[i] = self.call.gradient(i, self.out and self.out[i])
                self.found[i][...] = 0
            made.append(self.found[i] if want else None)
        return tuple(made)
