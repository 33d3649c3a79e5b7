"""Plans: everything about running a net on inputs of one shape that does not depend on the numbers.

A plan is made in five phases, each a method of :class:`Plan`:

    infer        every node's call is checked and described with the real extents
    order        which nodes run when, forward and backward; which gradients are needed
    lifetimes    which steps read each value
    buffers      the position of each value and gradient in one block of memory (the arena), shared as lifetimes allow
    steps        the sequence of operations

Inside a plan images are channels last (channel stride 1, batch outermost): a concatenation along channels then consists
of slices, which its branches write directly. Users' arrays are plain NCHW and are converted on entry and exit.

Time is counted in steps: inputs are read at step 0, node i of n runs at step 1 + i, results are returned at n + 1;
gradients of the outputs enter at n + 2, node i runs backward at 2n + 2 − i, gradients of the inputs leave at 2n + 3.

A :class:`Workspace` is a plan's arena with its arrays. It belongs to one call at a time; a concurrent call gets another
one. Nothing large is allocated once there are as many workspaces as concurrent calls.
"""

import bisect
import math
import threading
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import CnnError, GraphError, with_node_path
from ..operators.convolution.reference import copy_layout
from ..operators.schema import ROLE_DTYPES
from ..operators.shape.reference import accumulate
from ..runtime.dispatch import PackedWeights
from .initialisers import drawn_seed

__all__ = ["Mode", "Plan", "infer"]

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
MOST_SPARE_WORKSPACES = 8
CACHED_BYTES = 12 << 20
NEVER = 1 << 62
BYTES = np.dtype(np.uint8)
SEED_BITS = 31


class Mode(NamedTuple):
    """What a plan depends on besides the shapes."""

    training: bool = False
    backward: bool = False
    needs_gradient: tuple = ()  # per input: whether its gradient is needed
    repeatable: bool = True  # whether backward may run more than once: what it reads is then kept
    frozen: frozenset = frozenset()  # names of parameters whose gradients are not needed
    kept: tuple = ()  # numbers of further values to be returned
    target: str = ""  # the CPU target: fusion may depend on it
    exact: bool = False  # whether operators with a choice of algorithms use the direct one instead of the cheapest
    tuned: object = ()  # the algorithms measured to be the fastest, for some calls (tuning.py)


INFERENCE = Mode()


class BatchPart(NamedTuple):
    """What a training pass over a part of a batch has to know about the other parts."""

    first_image: int = 0  # number, in the whole batch, of the first image: random operators draw for that place
    synchronize: object = None  # merges statistics of a normalisation with those of the other parts, if there are any


WHOLE_BATCH = BatchPart()


class Buffer:
    """Memory for one array: its logical shape, the first step that writes it, the last that reads it, its offset."""

    __slots__ = ("bytes", "dtype", "first", "last", "offset", "shape")

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype
        self.bytes = -(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        self.first, self.last, self.offset = NEVER, -1, 0

    def use(self, step):
        """The buffer is written or read at ``step``."""
        self.first, self.last = min(self.first, step), max(self.last, step)


class Place(NamedTuple):
    """The location of a value: a buffer, or a part of it; ``overwritten`` is the step at which something else is
    written there.
    """

    buffer: Buffer
    index: tuple = ()  # type: ignore[assignment]  # not tuple's method of this name
    overwritten: int = NEVER

    def part(self, index):
        """A part of this place, overwritten with it."""
        return Place(self.buffer, (*self.index, index), self.overwritten)


class PlannedForward(NamedTuple):
    """A step: run node number ``node``; ``arguments`` are the places of its values, ``owned`` (argument, name) pairs.

    ``affine``: the nodes that scale and shift the channels of the node's output, whose numbers are folded into its
    arrays. A concatenation without ``call`` only has ``copies``: the parts that their producers could not write in
    place.
    """

    node: int
    call: object
    arguments: tuple
    owned: tuple
    out: Place
    epilogue: object = None
    affine: tuple = ()
    indices: tuple = ()  # (argument, number of the value with which they were returned)
    copies: tuple = ()
    redrawn: bool = False  # whether every training step needs a new call, with another seed


class OwnedGradient(NamedTuple):
    """The gradient of an array that a node owns; of a shared array it is a summand, in the order of the backward pass."""

    argument: int
    name: str
    first: bool  # whether it is written, not added to what other nodes contributed
    last: bool  # whether the gradient is final then


class PlannedBackward(NamedTuple):
    """A step: from the gradient of node's y, write (``written``) or add (``added``: first to a temporary) those of its values."""

    node: int
    dy: Place
    needs_gradient: tuple
    written: tuple = ()  # (argument, place)
    added: tuple = ()  # (argument, place of what is added: a temporary or a part of dy, place it is added to)
    owned: tuple = ()  # :class:`OwnedGradient`
    accumulates: bool = False  # the operator itself accumulates the gradient of its first array
    join: bool = False


class Plan:
    """How ``structure`` (a built graph) runs on inputs of ``shapes``."""

    def __init__(self, structure, shapes, dtype, mode, seed):
        self.structure, self.dtype, self.mode, self.seed = structure, dtype, mode, seed
        self.nodes, self.inputs = structure.nodes, len(structure.inputs)
        self.infer(shapes)
        self.order()
        self.lifetimes()
        self.buffers()
        self.steps()
        self.pieces = self.split_batch()
        self.lock = threading.Lock()
        self.spare = []

    # ── Steps in time ──

    def forward_step(self, node):
        return 1 + node

    def backward_step(self, node):
        return 2 * len(self.nodes) + 2 - node

    @property
    def results_step(self):
        return len(self.nodes) + 1

    @property
    def end(self):
        return 2 * len(self.nodes) + 3

    # ── Phase 1: infer ──

    def infer(self, shapes):
        """Every node's call with actual extents, and which of them are concatenations."""
        self.calls, self.shapes = infer(self.structure, shapes, self.dtype, self.mode, self.seed)
        self.parts = [node.op.implementation.parts(call) for node, call in zip(self.nodes, self.calls, strict=True)]

    # ── Phase 2: order ──

    def order(self):
        """Consumers of each value, activations that are fused, and which gradients are computed."""
        self.consumers = [[] for _ in self.shapes]
        for number, node in enumerate(self.nodes):
            for argument, value in enumerate(node.arguments):
                if value is not None:
                    self.consumers[value].append((number, argument))
        self.results = (*self.structure.outputs, *self.mode.kept)

        # Integers and booleans are outside the arena: they are not images, and have no gradient.
        self.real = [role == "real" for role in self.structure.roles]
        self.indexed = {
            value for node in self.nodes for _, value in node.indices if self.real[value]
        }  # indices beside y
        self.needed = [self.mode.backward and needs_gradient for needs_gradient in self.mode.needs_gradient] or [
            False
        ] * self.inputs
        self.needed = [n and real for n, real in zip(self.needed, self.real, strict=False)]
        self.needs_gradient = []
        for node in self.nodes:
            rows = node.op.rows(len(node.arguments))
            needs_gradient = [
                value is not None and self.needed[value] and row.differentiable
                for value, row in zip(node.arguments, rows, strict=True)
            ]
            for owned in node.owned:
                needs_gradient[owned.argument] = (
                    self.mode.backward
                    and owned.trained
                    and owned.name not in self.mode.frozen
                    and rows[owned.argument].differentiable
                )
            self.needs_gradient.append(tuple(needs_gradient))
            self.needed.append(any(needs_gradient))

        self.fused_into = {}  # node -> the preceding node that computes it while writing y
        self.affine, self.epilogues = {}, {}  # that node -> affine maps folded into its arrays; activation
        for number in range(len(self.nodes)):
            if number not in self.fused_into:
                self.fuse_followers(number)
        self.check_gradients()
        self.as_bytes = set() if self.mode.backward or self.mode.training else self.values_as_bytes()

    def check_gradients(self):
        """Raise if there is to be a backward pass, and a node has none."""
        for node in self.nodes:
            if self.mode.backward and node.op.implementation.inference_only:
                raise GraphError(f"{node.path}: {node.op.name} {node.op.implementation.inference_only}")

    def values_as_bytes(self):
        """The values that are kept as bytes: their writer puts them on a grid, and every reader takes them on this grid."""
        grids = {}
        for number, (node, call) in enumerate(zip(self.nodes, self.calls, strict=True)):
            grid = node.op.implementation.writes_grid(call)
            if self.passes_grid(number):
                read = [grids.get(value) for value in node.arguments if value is not None]
                grid = read[0] if all(other == read[0] for other in read) else None
            value = self.inputs + number
            if grid is not None and value not in self.results and value not in self.indexed:
                grids[value] = grid
        while True:  # what one reader cannot take is no longer there for those that pass it on
            lost = [value for value, grid in grids.items() if not self.kept_on_grid(value, grid, grids)]
            if not lost:
                return set(grids)
            for value in lost:
                del grids[value]

    def passes_grid(self, number):
        """Whether a node's output is on the grid of what it reads: a concatenation."""
        return self.parts[number] is not None

    def kept_on_grid(self, value, grid, grids):
        """Whether a value can be kept as bytes, if the others in ``grids`` are."""
        number = value - self.inputs
        if self.passes_grid(number) and not all(v is None or v in grids for v in self.nodes[number].arguments):
            return False
        for reader, argument in self.consumers[value]:
            if self.passes_grid(reader):
                if self.inputs + reader not in grids:
                    return False
            elif argument or self.nodes[reader].op.implementation.reads_grid(self.calls[reader]) != grid:
                return False
        return True

    def fuse_followers(self, number):
        """Fuse with node ``number`` what follows: affine maps (batch normalisation in inference), then an activation."""
        implementation, call, last = self.nodes[number].op.implementation, self.calls[number], number
        while (following := self.lone_follower(last)) is not None:
            after, activation = self.nodes[following], self.calls[following]
            if (
                self.folds_affine_maps(number)
                and after.op.implementation.is_affine(activation)
                and len(after.owned) == sum(shape is not None for shape in activation.shapes[1:])
            ):
                self.affine.setdefault(number, []).append(following)
            elif (
                len(after.arguments) == 1
                and after.op.implementation.saves == ("y",)
                and not (self.mode.backward and self.saved_by(number, "y") and any(self.needs_gradient[number]))
                and implementation.fuses_activation(call, activation)
            ):
                self.epilogues[number] = following
            else:
                return
            self.fused_into[following] = number
            if number in self.epilogues:
                return
            last = following

    def lone_follower(self, number):
        """The node whose first array is the output of node ``number``, if that output has no other use."""
        y = self.inputs + number
        if len(self.consumers[y]) != 1 or y in self.results or self.parts[number] is not None:
            return None
        ((following, argument),) = self.consumers[y]
        return following if argument == 0 else None

    def folds_affine_maps(self, number):
        """Whether affine maps may be folded into a node's arrays: in inference, unless the net is ``exact``."""
        node, mode = self.nodes[number], self.mode
        owned = len(node.owned) > 0 and all(value is None for value in node.arguments[1:])
        inference = not (mode.training or mode.backward or mode.exact)
        return inference and owned and node.op.implementation.folds_affine(self.calls[number])

    def owned_by_backward(self):
        """Names of the arrays owned by nodes that a backward pass reads."""
        return [
            owned.name
            for number, node in enumerate(self.nodes)
            if any(self.needs_gradient[number]) and self.parts[number] is None
            for owned in node.owned
            if self.saved_by(number, node.op.rows(len(node.arguments))[owned.argument].name)
        ]

    def saved_by(self, number, name):
        saves = self.nodes[number].op.implementation.saves
        return saves is None or name in saves

    # ── Phase 3: lifetimes ──

    def lifetimes(self):
        """The step that writes each value, and all steps that read it."""
        self.written = [0] * self.inputs + [self.forward_step(i) for i in range(len(self.nodes))]
        for following, number in self.fused_into.items():
            self.written[self.inputs + following] = self.forward_step(number)
        self.reads = [[] for _ in self.shapes]
        for number, node in enumerate(self.nodes):
            rows = node.op.rows(len(node.arguments))
            backward = None
            if any(self.needs_gradient[number]) and self.parts[number] is None:
                backward = self.end if self.mode.repeatable else self.backward_step(number)
            for value, row in zip(node.arguments, rows, strict=True):
                if value is not None:
                    self.reads[value].append(self.forward_step(number))
                    if backward is not None and self.saved_by(number, row.name):
                        self.reads[value].append(backward)
            if backward is not None and self.saved_by(number, "y"):
                self.reads[self.inputs + number].append(backward)
        for value in self.results:
            self.reads[value].append(self.results_step)

    # ── Phase 4: buffers ──

    def buffers(self):
        """A place for every value and gradient, and one arena that holds all buffers."""
        self.all_buffers = []
        self.place_values()
        self.place_gradients()
        self.arena_bytes = lay_out(self.all_buffers)

    def new_place(self, shape, dtype=None):
        buffer = Buffer(shape, self.dtype if dtype is None else dtype)
        self.all_buffers.append(buffer)
        return Place(buffer)

    def place_values(self):
        """Last values first, so that the location of a concatenation is known before those of its branches."""
        self.places = [None] * len(self.shapes)
        last = {number: following for following, number in self.fused_into.items()}  # in running order
        absent = {self.inputs + n for pair in self.fused_into.items() for n in pair}.difference(
            self.inputs + following for following in last.values()
        )
        for value in reversed(range(len(self.shapes))):
            if value in absent or not self.real[value]:
                continue
            dtype = BYTES if value in self.as_bytes else self.dtype
            place = self.offered_place(value) or self.new_place(self.shapes[value], dtype)
            for step in (self.written[value], *self.reads[value]):
                place.buffer.use(step)
            self.places[value] = place

    def offered_place(self, value):
        """A part of a concatenation's location, or the location of the output of an operator that works in place; None
        if neither is possible.

        The rule: a value may be stored where something else is written at step t if all steps that read the value are
        before t.
        """
        reads = self.reads[value]
        for number, argument in self.consumers[value]:
            parts = self.parts[number]
            if parts is not None:
                place = self.places[self.inputs + number].part(parts[argument])
                if all(step < place.overwritten for step in reads):
                    return place
        for number, argument in self.consumers[value]:
            node, step = self.nodes[number], self.forward_step(number)
            if (
                node.op.implementation.in_place
                and self.parts[number] is None
                and argument == 0
                and node.arguments.count(value) == 1
                and self.calls[number].output == self.shapes[value]
                and (value in self.as_bytes) == (self.inputs + number in self.as_bytes)
                and all(read < step for read in reads if read != step)
            ):
                place = self.places[self.inputs + number]
                return Place(place.buffer, place.index, step)
        return None

    def place_gradients(self):
        """Gradients in reverse topological order.

        This is the only place where gradients are summed: the first contribution to a value's gradient is written,
        further ones are added. All contributions are complete when the value's producer runs, because its consumers ran
        before it.
        """
        self.gradient_places = [None] * len(self.shapes)
        self.backward_steps = []
        if not self.mode.backward:
            return
        for value in self.structure.outputs:
            if self.needed[value]:
                place = self.gradient_places[value] = self.new_place(self.shapes[value])
                place.buffer.use(self.results_step + 1)
        for number in reversed(range(len(self.nodes))):
            dy = self.gradient_places[self.inputs + number]
            if dy is None or not any(self.needs_gradient[number]):
                continue
            dy.buffer.use(self.backward_step(number))
            self.backward_steps.append(self.gradient_step(number, dy))
        self.sum_owned()
        for value in range(self.inputs):
            if self.gradient_places[value] is not None:
                self.gradient_places[value].buffer.use(self.end)

    def sum_owned(self):
        """Say which contributions to the gradients of shared arrays are the first and the last."""
        uses = Counter(name for step in self.backward_steps for _, name in step.owned)
        met = Counter()
        for place, step in enumerate(self.backward_steps):
            made = []
            for argument, name in step.owned:
                met[name] += 1
                made.append(OwnedGradient(argument, name, met[name] == 1, met[name] == uses[name]))
            self.backward_steps[place] = step._replace(owned=tuple(made))

    def accumulates(self, number):
        """Whether a node's operator accumulates a gradient itself, which saves a temporary array and two passes over
        memory.
        """
        return self.parts[number] is None and self.nodes[number].op.implementation.accumulates(self.calls[number])

    def gradient_step(self, number, dy):
        """The backward step of a node, with locations for the gradients of its values."""
        node, needs_gradient, parts = self.nodes[number], self.needs_gradient[number], self.parts[number]
        step = self.backward_step(number)
        lone = sum(needs_gradient) == 1
        written, added, named, accumulates = [], [], [], False
        for owned in node.owned:
            if needs_gradient[owned.argument]:
                named.append((owned.argument, owned.name))
        for argument, value in enumerate(node.arguments):
            if value is None or not needs_gradient[argument]:
                continue
            place = self.gradient_places[value]
            if place is not None and argument == 0 and place.buffer is not dy.buffer and self.accumulates(number):
                accumulates = True
                written.append((argument, place))
            elif place is not None:
                addend = dy.part(parts[argument]) if parts is not None else self.new_place(self.shapes[value])
                added.append((argument, addend, place))
                addend.buffer.use(step)
            elif parts is not None:
                place = dy.part(parts[argument])  # nothing to do: the part of dy is the gradient
            else:
                over = (
                    node.op.implementation.in_place
                    and lone
                    and argument == 0
                    and self.shapes[value] == self.calls[number].output
                )
                place = dy if over else self.new_place(self.shapes[value])
                written.append((argument, place))
            place.buffer.use(step)
            self.gradient_places[value] = place
        return PlannedBackward(
            number, dy, needs_gradient, tuple(written), tuple(added), tuple(named), accumulates, parts is not None
        )

    # ── Phase 5: steps ──

    def steps(self):
        """The forward steps; the backward steps were created with their locations."""
        last = {number: following for following, number in self.fused_into.items()}
        self.forward_steps = []
        for number, node in enumerate(self.nodes):
            if number in self.fused_into:
                continue
            activation = self.epilogues.get(number)
            out = self.places[self.inputs + last.get(number, number)]
            arguments = tuple(None if value is None else self.places[value] for value in node.arguments)
            copies = ()
            call = self.calls[number]
            if self.parts[number] is not None:
                call = None
                indices = self.parts[number]  # none for omitted optional arrays
                parts = [(place, out.part(i)) for place, i in zip(arguments, indices, strict=False) if place]
                copies = tuple((part, place) for place, part in parts if not lies_in(place, part))
                if not copies:
                    continue
            self.forward_steps.append(
                PlannedForward(
                    node=number,
                    call=call,
                    arguments=arguments,
                    owned=tuple((owned.argument, owned.name) for owned in node.owned),
                    out=out,
                    epilogue=None if activation is None else self.calls[activation],
                    affine=tuple(self.affine.get(number, ())),
                    indices=node.indices,
                    copies=copies,
                    redrawn=self.mode.training and "seed" in node.op.settings and "seed" not in node.settings,
                )
            )
        reached = {owned.name for step in self.backward_steps for owned in step.owned}
        unreached = {
            owned.name: owned
            for node, needs_gradient in zip(self.nodes, self.needs_gradient, strict=True)
            for owned in node.owned
            if needs_gradient[owned.argument] and owned.name not in reached
        }
        self.unreached = list(unreached.values())

    # ── Large batches ──

    def split_batch(self):
        """The number of pieces into which inference divides the batch: as large as values that stay in the cache allow.

        Sixteen images in eight pieces take a seventh less time than at once, and an eighth of the memory.
        """
        images = {shape[0] if shape else None for shape in self.shapes}
        if self.mode.backward or self.mode.training or len(images) > 1 or not images.isdisjoint((None, 0, 1)):
            return 1
        if not all(
            node.op.implementation.splits_batch(call) for node, call in zip(self.nodes, self.calls, strict=True)
        ):
            return 1
        (count,) = images
        at_once = max(1, CACHED_BYTES * count // max(1, self.arena_bytes))
        return -(-count // min(count, at_once))

    def cuts(self):
        """(first, last) image of every piece."""
        images = self.shapes[0][0] if self.pieces > 1 else None
        return [(images * i // self.pieces, images * (i + 1) // self.pieces) for i in range(self.pieces)]

    def empty_result(self, value):
        """A new array for one value of a net, which the caller may keep."""
        return np.empty(self.shapes[value], ROLE_DTYPES.get(self.structure.roles[value], self.dtype))

    # ── Workspaces ──

    def take(self):
        """A workspace for one call."""
        with self.lock:
            if self.spare:
                return self.spare.pop()
        return Workspace(self)

    def give(self, workspace):
        """Return a workspace at the end of a call, for the next one."""
        with self.lock:
            if len(self.spare) < MOST_SPARE_WORKSPACES:
                self.spare.append(workspace)

    # ── Running ──

    def run_forward(self, workspace, xs, owned_arrays, training_step, results=None, clock=iter, part=WHOLE_BATCH):
        """(results, tape, updates): new plain arrays, what backward needs per node, and the buffers after this training
        step.

        ``results``, where given, are arrays of the caller for the results. The workspace is fresh (:meth:`Workspace.refresh`).
        ``clock`` yields the steps one by one, so that a profiler sees when the next one is requested (profile.py).
        ``part`` says which part of a batch ``xs`` are.
        """
        # indices: arrays of integers and booleans, by the number of their value or of that with which they were
        # returned
        tape, updates, indices = {}, {}, {}
        keep = self.mode.backward
        for value, (row, view, x) in enumerate(zip(self.structure.inputs, workspace.inputs, xs, strict=True)):
            if row.role != "real":
                indices[value] = x
            else:
                copy_layout(x, view)
        for step in clock(workspace.forward):
            for to, source in step.copies:
                if to.dtype == BYTES:
                    to[...] = source
                else:
                    copy_layout(source, to)
            call = step.call
            if call is None:
                continue
            number, out = step.node, step.out
            arrays = list(step.arguments)
            for argument, name in step.owned:  # statistics that are shared go from node to node
                arrays[argument] = updates[name] if name in updates else owned_arrays[name]
            for argument, value in step.indices:
                arrays[argument] = indices[value]
            if step.folded is not None:
                arrays = step.folded.arrays(arrays, owned_arrays)
            if step.redrawn:
                call = described(self.structure, number, self.shapes, self.dtype, self.mode, self.seed, training_step)
            options = step.options if part is WHOLE_BATCH else step.options | self.options_of_part(call, part)
            try:
                y, extras, saved = step.implementation.forward(call, arrays, out, **options)
            except CnnError as error:
                node = self.nodes[number]
                raise with_node_path(error, node.op, node.path) from None
            if out is None:
                indices[self.inputs + number] = y
            elif y is not out:
                out[...] = y
            if self.inputs + number in self.indexed:
                indices[self.inputs + number] = extras[0]
            if keep:
                tape[number] = call, saved
            if extras and self.mode.training:
                for owned_array in self.nodes[number].owned:
                    if owned_array.update is not None:
                        updates[owned_array.name] = extras[owned_array.update]
        if results is None:
            results = [self.empty_result(value) for value in self.results]
        for place, (value, view, result) in enumerate(zip(self.results, workspace.results, results, strict=True)):
            if view is None and indices[value].shape != result.shape:
                results[place] = indices[value]  # with as many rows as there are
            elif view is None:
                result[...] = indices[value]
            else:
                copy_layout(view, result)
        if keep:
            for activation in self.epilogues.values():
                tape[activation] = self.calls[activation], (workspace.values[self.inputs + activation],)
        return results, tape, updates

    def options_of_part(self, call, part):
        """Arguments of a forward call on a part of a batch."""
        implementation, given = call.op.implementation, {}
        if part.first_image and implementation.draws_per_image and "seed" in call.op.settings:
            images = max(self.shapes[0][0], 1)
            rows_per_image = call.shapes[0][0] // images
            given["first_image"] = part.first_image * rows_per_image
        if part.synchronize is not None and implementation.normalizes_batch and call.settings["training"]:
            given["synchronize"] = part.synchronize
        return given

    def run_backward(self, workspace, tape, dys, gradients, clock=iter, on_gradient=None):
        """Gradients of the inputs that need one, as new plain arrays; those of parameters are put into ``gradients`` by
        name.

        Arrays that ``gradients`` already contains are overwritten, so that they can be reused from step to step.
        ``on_gradient`` is called with name and array of each as soon as it is final.
        """
        for view, dy in zip(workspace.dys, dys, strict=True):
            if view is not None and dy is None:
                view[...] = 0
            elif view is not None:
                copy_layout(dy, view)
        for step in clock(workspace.backward):
            if not step.join:
                call, saved = tape[step.node]
                out = [None] * len(step.needs_gradient)
                for argument, view in step.written:
                    out[argument] = view
                for argument, view, _ in step.added:
                    out[argument] = view
                for argument, name, first, _ in step.owned:
                    if not first:
                        out[argument] = np.empty(call.shapes[argument], self.dtype)
                        continue
                    array = gradients.get(name)
                    if array is None:
                        array = gradients[name] = np.empty(call.shapes[argument], self.dtype)
                    out[argument] = array
                found = step.implementation.backward(call, saved, step.dy, step.needs_gradient, out, **step.options)
                for argument, array in enumerate(out):
                    if array is not None and found[argument] is not array:
                        array[...] = found[argument]
                for argument, name, first, last in step.owned:
                    if not first:
                        gradients[name] += out[argument]
                    if last and on_gradient is not None:
                        on_gradient(name, gradients[name])
            for _, view, total in step.added:
                accumulate(view, total)
        for owned in self.unreached:
            gradients.setdefault(owned.name, np.empty(owned.shape, self.dtype))[...] = 0
            if on_gradient is not None:
                on_gradient(owned.name, gradients[owned.name])
        return [
            plain_copy(view) if view is not None else np.zeros(self.shapes[value], self.dtype)
            for value, view in enumerate(workspace.dxs)
            if self.needed[value]
        ]


def infer(structure, shapes, dtype, mode=INFERENCE, seed=0):
    """(calls, shapes of all values) of a graph on inputs of ``shapes``; errors carry the node's path."""
    shapes, calls = list(shapes), []
    for number in range(len(structure.nodes)):
        calls.append(described(structure, number, shapes, dtype, mode, seed, 0))
        shapes.append(calls[-1].output)
    return calls, shapes


def described(structure, number, shapes, dtype, mode, seed, step):
    """The call of a node: training, algorithm and seed are those of the net unless the graph fixes them."""
    node, training = structure.nodes[number], mode.training
    settings = {**node.op.layer.training, **node.settings} if training else dict(node.settings)
    if "training" in node.op.settings:
        settings.setdefault("training", training)
    left_open = "algorithm" in node.op.settings and "algorithm" not in settings
    if left_open:
        settings["algorithm"] = "direct" if mode.exact else "auto"
    if "seed" in node.op.settings:
        settings.setdefault("seed", drawn_seed(seed, node.path, step, bits=SEED_BITS))
    if settings.get("training", training):
        settings.update(node.op.layer.training)
    arrays = [None if value is None else shapes[value] for value in node.arguments]
    for owned in node.owned:
        arrays[owned.argument] = owned.shape
    for argument, value in node.indices:  # indices of a node have the shape of its value
        arrays[argument] = shapes[value]
    try:
        call = node.op.infer(tuple(arrays), dtype, settings)
        if left_open and mode.tuned and not mode.exact:
            call = node.op.infer(call.shapes, dtype, {**settings, "algorithm": mode.tuned.algorithm(call, mode)})
        return call
    except CnnError as error:
        names = [(structure.names[v], shapes[v]) for v in node.arguments if v is not None]
        raise with_node_path(error, node.op, node.path, names) from None


def plain_copy(view):
    """A fresh array in C order."""
    made = np.empty(view.shape, view.dtype)
    copy_layout(view, made)
    return made


def lies_in(place, other):
    """Whether two places are the same memory."""
    return place.buffer is other.buffer and place.index == other.index


def lay_out(buffers):
    """Assign offsets to all buffers, largest first, each as low as those alive at the same time allow; return the size."""
    total = 0
    placed = []
    for buffer in sorted(buffers, key=lambda b: (-b.bytes, b.first, b.last)):
        offset = 0
        for other in placed:  # in order of offsets
            if other.first > buffer.last or buffer.first > other.last:
                continue
            if other.offset - offset >= buffer.bytes:
                break
            offset = max(offset, other.offset + other.bytes)
        buffer.offset = offset
        total = max(total, offset + buffer.bytes)
        bisect.insort(placed, buffer, key=lambda b: b.offset)
    return total


class Folded:
    """The arrays of a node with the affine maps after it, y → scale · y + shift, folded into them.

    Once the node has packed them, the arrays that are as large as the weights are released.
    """

    def __init__(self, plan, step, packed):
        self.implementation, self.call, self.packed = plan.nodes[step.node].op.implementation, step.call, packed
        self.affine = []
        for number in step.affine:
            node = plan.nodes[number]
            owned = {owned.argument: owned.name for owned in node.owned}
            self.affine.append(
                (node.op.implementation, plan.calls[number], [owned.get(i) for i in range(len(node.arguments))])
            )
        self.names = [name for _, _, names in self.affine for name in names if name is not None]
        self.made = None  # argument → array

    def refresh(self):
        """Forget them: an array from which they are computed has changed."""
        self.made = None
        if self.packed is not None:
            self.packed.refresh()

    def arrays(self, arrays, owned_arrays):
        """``arrays`` of the node with the affine maps folded in; ``owned_arrays`` has those of the maps."""
        if self.made is None:
            folded = arrays
            for implementation, call, names in self.affine:
                scale, shift = implementation.affine(
                    call, [None if name is None else owned_arrays[name] for name in names]
                )
                folded = self.implementation.fold_affine(self.call, folded, scale, shift)
            # None of the net's own arrays is kept: a further reference would mean that it may change
            # (parameters.Arrays.versions).
            self.made = {i: f for i, (a, f) in enumerate(zip(arrays, folded, strict=True)) if f is not a}
        elif getattr(self.packed, "filled", False):
            self.made = {i: f for i, f in self.made.items() if f.ndim == 1}
        return [self.made.get(i, a) for i, a in enumerate(arrays)]


@dataclass(slots=True)
class ForwardStep:
    """A :class:`PlannedForward` in a workspace: with arrays instead of locations."""

    node: int
    implementation: object
    call: object
    arguments: list
    owned: tuple
    indices: tuple
    out: object
    options: dict  # further arguments of the implementation's forward, which only plans pass
    folded: object  # the :class:`Folded` arrays of the node, or None
    copies: list
    redrawn: bool


@dataclass(slots=True)
class BackwardStep:
    """A :class:`PlannedBackward` in a workspace: with arrays instead of locations."""

    node: int
    implementation: object
    dy: object
    needs_gradient: tuple
    written: list
    added: list
    owned: tuple
    options: dict  # further arguments of the implementation's backward, which only plans pass
    join: bool


class Arena:
    """One block of memory, and arrays at locations in it."""

    def __init__(self, size):
        self.memory = np.empty(size + ALIGNMENT, np.uint8)
        self.start = -self.memory.ctypes.data % ALIGNMENT
        self.arrays = {}  # by buffer

    def view(self, place):
        """The array at location ``place``; None for None."""
        if place is None:
            return None
        buffer = place.buffer
        array = self.arrays.get(buffer)
        if array is None:
            array = channels_last(self.memory, self.start + buffer.offset, buffer.shape, buffer.dtype)
            self.arrays[buffer] = array
        for index in place.index:
            array = array[index]
        return array


class Workspace:
    """A plan's arena: its memory and the arrays in it, ready for the steps."""

    def __init__(self, plan):
        arena, packed_weights = Arena(plan.arena_bytes), PackedWeights()
        self.packed = []  # (what is kept, names of the arrays it is made from), and the versions it was made from
        self.packed_versions = []
        self.fresh = None  # all versions at the last refresh
        self.values = [arena.view(place) for place in plan.places]
        self.inputs = self.values[: plan.inputs]
        self.results = [self.values[value] for value in plan.results]
        self.forward = [self.forward_step(plan, step, arena, packed_weights) for step in plan.forward_steps]
        self.dys = [arena.view(plan.gradient_places[value]) for value in plan.structure.outputs]
        self.dxs = [arena.view(plan.gradient_places[value]) for value in range(plan.inputs)]
        self.backward = [self.backward_step(plan, step, arena) for step in plan.backward_steps]

    def forward_step(self, plan, step, arena, packed_weights):
        """A planned step with its arrays."""
        options, folded = self.options(plan, step, packed_weights)
        return ForwardStep(
            node=step.node,
            implementation=plan.nodes[step.node].op.implementation,
            call=step.call,
            arguments=[arena.view(place) for place in step.arguments],
            owned=step.owned,
            indices=step.indices,
            out=arena.view(step.out),
            options=options,
            folded=folded,
            copies=[(arena.view(to), arena.view(source)) for to, source in step.copies],
            redrawn=step.redrawn,
        )

    def options(self, plan, step, packed_weights):
        """The arguments of forward that only plans pass, and the affine maps after it folded into its arrays."""
        given = {} if step.epilogue is None else {"epilogue": step.epilogue}
        names = tuple(name for _, name in step.owned)
        kept = folded = None
        if step.owned and step.call is not None:
            kept = plan.nodes[step.node].op.implementation.packing(step.call, packed_weights)
        if kept is not None:
            given["packed"] = kept
        if step.affine:
            kept = folded = Folded(plan, step, kept)
            names += tuple(folded.names)
        if kept is not None:
            self.packed.append((kept, names))
            self.packed_versions.append(None)
        return given, folded

    @staticmethod
    def backward_step(plan, step, arena):
        """A planned step with its arrays."""
        return BackwardStep(
            node=step.node,
            implementation=plan.nodes[step.node].op.implementation,
            dy=arena.view(step.dy),
            needs_gradient=step.needs_gradient,
            written=[(argument, arena.view(place)) for argument, place in step.written],
            added=[(argument, arena.view(addend), arena.view(place)) for argument, addend, place in step.added],
            owned=step.owned,
            options={"accumulate": True} if step.accumulates else {},
            join=step.join,
        )

    def refresh(self, versions):
        """Pack again what was packed from arrays that may have changed since.

        ``versions``: for each owned array by name, a number that is unchanged only if the array is; None if unknown.
        """
        if versions == self.fresh and None not in versions.values():
            return
        self.fresh = versions
        for i, (kept, names) in enumerate(self.packed):
            found = tuple(versions[name] for name in names)
            if found != self.packed_versions[i] or None in found:
                kept.refresh()
                self.packed_versions[i] = found


def channels_last(memory, offset, shape, dtype):
    """An array of logical ``shape`` (N, C, *spatial) in ``memory`` whose channels are innermost."""
    physical = (shape[0], *shape[2:], shape[1]) if len(shape) > 2 else shape
    array = np.ndarray(physical, dtype, memory, offset)
    return np.moveaxis(array, -1, 1) if len(shape) > 2 else array
