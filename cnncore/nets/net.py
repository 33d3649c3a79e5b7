"""Nets: a finished graph with its parameters, applied to inputs of any size.

y = net(x)                                   # inference
y, backward = net.with_backward(x, training=True)
dx = backward(dy)                            # parameter gradients are then in backward.gradients
"""

from __future__ import annotations

import copy
import json
import logging
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..checks import (
    FLOATS,
    check_apart,
    check_destination,
    check_unmasked,
    has_length,
    index_array,
    integer,
    mask_array,
    ordinary_array,
    seed_number,
)
from ..errors import (
    ArrayChangedError,
    CnnError,
    DtypeError,
    GraphError,
    SettingError,
    ShapeError,
    shape_text,
    unknown_name,
)
from ..runtime import cpu
from ..runtime.costs import in_force
from ..runtime.fingerprint import Fingerprints
from ..runtime.recent import generation
from ..runtime.threads import MOST_THREADS
from ..typing import FilePath, Seed
from . import drawing, model_file, surgery
from .description import structure_of
from .drawing import Table
from .graph import Graph
from .initialisers import initialised
from .output_kind import Output, checked_kind, outputs_of
from .parameters import Arrays
from .plan import WHOLE_BATCH, BatchPart, Mode, Plan
from .profile import Choices, Profile, algorithms, profile
from .quantization import quantized
from .scaling import Scaling, scaling
from .structure import ROLE_NAMES, Input, Structure
from .summary import Summary, summarised
from .surgery import Operation
from .tuning import Tuning, is_tuned, tune

__all__ = ["Arrays", "Backward", "Net", "Structure"]

logger = logging.getLogger(__name__)

MOST_PLANS = 32
# Merges ("moments" or "sums", statistics of a part of a batch) with those of the other parts.
Synchronize: TypeAlias = Callable[[str, NDArray[Any]], NDArray[Any]]
UNSAVED = ("_plans", "_lock", "_met")  # attributes that copies of a net create for themselves
TUNING_ROUNDS = 3  # of a net with auto_tune
WATCHED_BYTES = 1 << 16  # parameters up to this size are compared completely, to detect changes
MOST_PLAN_BYTES = 1 << 30  # of the arenas of all plans except the newest


# ── Nets ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Net:
    """A graph with its parameters. Made by ``Graph.build`` and ``cnncore.load``.

    Several Python threads may use one net at the same time.

    Parameters
    ----------
    structure : Structure
        Inputs, nodes and outputs.
    seed : int, numpy.random.Generator or None, default 0
        Seed of the initial parameters and of random operators; None leaves random parameters at 0.
    dtype : dtype, default "float32"
        "float32" or "float64".
    arrays : mapping of str to array, optional
        Parameters and buffers by name, in place of newly initialised ones.

    Attributes
    ----------
    graph : Structure
        Inputs, nodes, outputs.
    parameters : Arrays
        Name → array; assign or edit in place.
    buffers : Arrays
        Name → array: running statistics, which forward passes in training mode update; also called ``state``.
    training : bool
        Whether calls run in training mode unless ``training=…`` is given; initially False.
    exact : bool
        True: convolutions use the direct algorithm; False (the initial value): each uses the cheapest one, Winograd
        included.
    frozen : set of str
        Names of parameters for which no gradients are computed.
    tuned : Tuning
        The fastest algorithm of each call, as measured by :meth:`tune`; ignored if ``exact``.
    auto_tune : bool
        True: the first call on inputs of a new shape measures calls that ``tuned`` does not contain; initially False.
    metadata : dict
        Plain values (JSON) that are saved with the net: class names, normalisation …
    steps : int
        The number of training passes that have drawn random numbers; it selects those of the next pass.

    Raises
    ------
    SettingError, DtypeError
        ``seed`` or ``dtype`` is not as above.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1)
    >>> h = g.conv(x, 2, kernel_size=3, padding=1, activation="relu", name="features")
    >>> g.output(g.linear(g.global_avg_pool(h), 3, name="classifier"))
    >>> net = g.build(seed=0)
    >>> x = np.ones((2, 1, 4, 5), np.float32)
    >>> y, backward = net.with_backward(x)
    >>> y.shape, backward(np.ones_like(y)).shape, sorted(backward.gradients)
    ((2, 3), (2, 1, 4, 5), ['classifier.b', 'classifier.w', 'features.b', 'features.w'])
    >>> net.values(x, names=["features"])["features"].shape, net.summary((1, 1, 4, 5)).parameters
    ((2, 2, 4, 5), 29)
    >>> net.decays("features.w"), net.decays("features.b"), net.train().training, net.eval().training
    (True, False, True, False)
    >>> net.structural_kinds(), net.described_outputs()[0].kind, net.astype("float64").dtype
    (['logits'], 'logits', dtype('float64'))
    >>> net.check_shape(net.graph.inputs[0], (2, 1, 4, 5)); net.check_shape(net.graph.inputs[0], (2, 3, 4, 5))
    Traceback (most recent call last):
      ...
    cnncore.errors.ShapeError: ...
    >>> part = net.sharing_arrays([net.graph.number("features", "example")]); part.take_settings(net)
    >>> part(x).shape, part.parameters["features.w"] is net.parameters["features.w"]
    ((2, 2, 4, 5), True)

    Which algorithms compute it, and how long they take:

    >>> [choice.path for choice in net.algorithms((1, 1, 4, 5)).rows]
    ['features']
    >>> len(net.profile((1, 1, 4, 5), rounds=1).rows), len(net.scaling((1, 1, 4, 5), threads=(4,), rounds=1).rows)
    (3, 3)
    >>> _ = net.tune((1, 1, 4, 5), rounds=1)

    A file, and a drawing:

    >>> net.save("net.safetensors")
    >>> bool((cnncore.load("net.safetensors")(x) == net(x)).all()), net.draw()[:4]
    (True, '<svg')
    """

    def __init__(
        self,
        structure: Structure,
        seed: Seed | None = 0,
        dtype: DTypeLike = "float32",
        arrays: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self.graph = structure
        self.dtype = checked_dtype(dtype)
        self.seed = 0 if seed is None else seed_number("build", "seed", seed)
        owned = structure.owned
        if arrays is None:
            drawn_from = None if seed is None else self.seed
            arrays = {name: initialised(row, drawn_from, self.dtype) for name, row in owned.items()}
        self.parameters = Arrays("parameters", {name: arrays[name] for name, row in owned.items() if row.trained})
        self.buffers = Arrays("buffers", {name: arrays[name] for name, row in owned.items() if not row.trained})
        self.training = False
        self.exact = False
        self.tuned = ()
        self.auto_tune = False
        self.frozen: set[str] = set()
        self.metadata: dict[str, Any] = {}
        self.steps = 0
        self.stated_kinds: tuple[str, ...] | None = (
            None  # kinds of outputs that were set by the user, where they differ from those of the structure
        )
        self._start()

    def _start(self) -> None:
        self._structural_outputs: tuple[Output, ...] | None = None  # computed on demand
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._met: set[Any] = set()  # shapes and modes that auto_tune has dealt with
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in UNSAVED}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def __repr__(self) -> str:
        inputs = ", ".join(f"{i.name} {shape_text(i.given(i.shape))}" for i in self.graph.inputs)
        outputs = ", ".join(self.graph.names[v] for v in self.graph.outputs)
        count = sum(a.size for a in self.parameters.values())
        return f"<net {inputs} → {outputs}: {len(self.graph.nodes)} nodes, {count:,} parameters, {self.dtype}>"

    @property
    def output_kind(self) -> Any:
        """The kind of the output: "logits", "probabilities", "log_probabilities", "independent_probabilities", "maps",
        "values", "integers" or "booleans" (:mod:`cnncore.nets.output_kind`); one for each of several outputs.

        It follows from the structure: a net that ends in softmax returns probabilities. Losses, evaluation, prediction
        and :class:`cnncore.classify.Classifier` use it. Where the structure is ambiguous, set it: a net that returns
        three real numbers is taken for a classifier of three classes until ``net.output_kind = "values"``. It is saved
        in model files.

        >>> import cnncore
        >>> cnncore.models.lenet(seed=None).output_kind
        'logits'
        """
        kinds = tuple(output.kind for output in self.described_outputs())
        return kinds[0] if len(kinds) == 1 else kinds

    @output_kind.setter
    def output_kind(self, kinds: str | Iterable[str]) -> None:
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        if len(kinds) != len(self.graph.outputs):
            raise SettingError(
                f"output_kind: {len(kinds)} kinds {kinds}; the net has {len(self.graph.outputs)} outputs"
            )
        for name, kind in zip((self.graph.names[v] for v in self.graph.outputs), kinds, strict=True):
            checked_kind(f"output_kind of {name}", kind)
        self.stated_kinds = None
        if kinds != tuple(output.kind for output in self.described_outputs()):
            self.stated_kinds = kinds

    def described_outputs(self) -> tuple[Output, ...]:
        """An :class:`output_kind.Output` for each output.

        Returns
        -------
        tuple of Output
            The kind of each output, and the value from which a loss can be computed; in the order of the outputs.
        """
        if self._structural_outputs is None:
            self._structural_outputs = outputs_of(self.graph, self.dtype)
        if self.stated_kinds is None:
            return self._structural_outputs
        pairs = zip(self.stated_kinds, self._structural_outputs, strict=True)
        return tuple(output if output.kind == kind else Output(kind) for kind, output in pairs)

    def structural_kinds(self) -> list[str]:
        """The kinds of the outputs that follow from the structure, whatever :attr:`output_kind` was set to.

        Returns
        -------
        list of str
            One of the values of :attr:`output_kind` for each output.
        """
        if self._structural_outputs is None:
            self._structural_outputs = outputs_of(self.graph, self.dtype)
        return [output.kind for output in self._structural_outputs]

    def sharing_arrays(self, outputs: Iterable[int]) -> Net:
        """A net that shares these parameters and buffers and returns the values with the numbers ``outputs``.

        Parameters
        ----------
        outputs : iterable of int
            Numbers of values of the structure.

        Returns
        -------
        Net
            A net that shares the arrays of this one.
        """
        made = copy.copy(self)
        made.graph = Structure(self.graph.inputs, self.graph.nodes, outputs)
        made._start()
        made.stated_kinds = None
        return made

    def take_settings(self, other: Net) -> None:
        """Take over the settings of ``other``, from which :meth:`sharing_arrays` made this net: frozen parameters,
        algorithms, number of passes.

        Parameters
        ----------
        other : Net
            The net whose settings are copied.
        """
        for name in ("training", "exact", "tuned", "auto_tune", "frozen", "steps", "seed"):
            setattr(self, name, getattr(other, name))

    def decays(self, name: str) -> bool:
        """Whether weight decay applies to a parameter: to weights, but not to biases and the scales of normalisations.

        Parameters
        ----------
        name : str
            The name of the parameter.

        Returns
        -------
        bool
            Whether weight decay applies to it.
        """
        return self.graph.owned[name].decay

    @property
    def gradient_order(self) -> tuple[str, ...]:
        """Names of the parameters that are not frozen, in the order in which a backward pass finishes their gradients.

        >>> import cnncore
        >>> cnncore.models.lenet(seed=None).gradient_order[:3]
        ('output.w', 'output.b', 'f6.w')
        """
        names: dict[str, None] = {}
        for node in reversed(self.graph.nodes):
            for row in node.owned:
                if row.trained and row.name not in self.frozen:
                    names.pop(row.name, None)  # a gradient is final when the last of the nodes that share it is done
                    names[row.name] = None
        return tuple(names)

    @property
    def layout(self) -> dict[str, str]:
        """Name of each input → the order of its axes: "NCHW", or "NHWC" for images channels last.

        Nets are built for channels first; those that :func:`cnncore.io.load_onnx` reads have the layout of their file.
        Inside a net all values are (N, C, *spatial), whatever the layout of its inputs.
        """
        return {row.name: row.layout for row in self.graph.inputs}

    def with_layout(self, layout: str) -> Net:
        """The same net, sharing its weights, for images in another layout: "channels_first" or "channels_last".

        Parameters
        ----------
        layout : str
            The layout of all images that the new net takes.

        Returns
        -------
        Net
            A net that shares the arrays of this one.

        Raises
        ------
        SettingError
            ``layout`` is neither of these.

        Examples
        --------
        >>> import numpy as np, cnncore
        >>> net = cnncore.models.lenet(seed=None).with_layout("channels_last")
        >>> net.layout, net(np.zeros((2, 32, 32, 1), np.float32)).shape
        ({'input': 'NHWC'}, (2, 10))
        """
        if layout not in ("channels_first", "channels_last"):
            raise SettingError(f"with_layout: layout is {layout!r}; expected 'channels_first' or 'channels_last'")
        last = layout == "channels_last"
        made = copy.copy(self)
        inputs = (row._replace(channels_last=last and bool(row.size)) for row in self.graph.inputs)
        made.graph = Structure(inputs, self.graph.nodes, self.graph.outputs)
        made._start()
        return made

    # ── Earlier names ──

    @property
    def state(self) -> Arrays:
        """The earlier name of ``buffers``."""
        return self.buffers

    @property
    def tunes(self) -> bool:
        """The earlier name of ``auto_tune``."""
        return self.auto_tune

    @tunes.setter
    def tunes(self, value: bool) -> None:
        self.auto_tune = value

    # ── Modes ──

    def train(self) -> Self:
        """Switch to training mode: random operators draw, batch statistics are used and recorded.

        Returns
        -------
        Net
            This net.
        """
        self.training = True
        return self

    def eval(self) -> Self:
        """Switch to inference mode.

        Returns
        -------
        Net
            This net.
        """
        self.training = False
        return self

    def astype(self, dtype: DTypeLike) -> Net:
        """A new net with the same graph and the same numbers in another precision.

        Parameters
        ----------
        dtype : dtype
            "float32" or "float64".

        Returns
        -------
        Net
            A net with its own arrays, and the mode, choices of algorithms and metadata of this one.

        Raises
        ------
        DtypeError
            ``dtype`` is neither float32 nor float64.
        """
        arrays = {**self.parameters, **self.buffers}
        made = Net(self.graph, self.seed, dtype, {name: np.array(a, dtype=dtype) for name, a in arrays.items()})
        return self._with_settings_in(made)

    # ── Running ──

    def __call__(self, *xs: ArrayLike, training: bool | None = None) -> Any:
        """The outputs for ``xs``, one array per input: an array, or a tuple of arrays if the net has several outputs.

        Parameters
        ----------
        *xs : array (N, C, *spatial)
            In the net's dtype; integers or booleans for inputs of these roles.
        training : bool, optional
            The mode of this call; by default that of the net.

        Returns
        -------
        array or tuple of arrays
            The outputs.

        Raises
        ------
        ShapeError
            The number of arrays, or a shape, does not match the inputs.
        DtypeError
            An array is not of the net's dtype.
        """
        results, _, _ = self._run(xs, training, Mode())
        return results[0] if len(results) == 1 else tuple(results)

    def values(self, *xs: ArrayLike, names: Iterable[str], training: bool | None = None) -> dict[str, NDArray[Any]]:
        """The values of the nodes called ``names`` for ``xs``: name → array, for feature maps and class maps.

        Parameters
        ----------
        *xs : array (N, C, *spatial)
            One per input, as for a call.
        names : iterable of str
            Names of nodes or inputs.
        training : bool, optional
            The mode of this call; by default that of the net.

        Returns
        -------
        dict of str to array
            In the order of ``names``.

        Raises
        ------
        GraphError
            There is no node with one of the names.
        """
        numbers = tuple(self.graph.number(name, "values") for name in dict.fromkeys(names))
        results, _, _ = self._run(xs, training, Mode(kept=numbers))
        return dict(zip(dict.fromkeys(names), results[len(self.graph.outputs) :], strict=True))

    def with_backward(
        self,
        *xs: ArrayLike,
        training: bool | None = None,
        needs_gradient: bool | Sequence[bool] = True,
        repeatable: bool = True,
        step: int | None = None,
        wanted: bool | Sequence[bool] | None = None,
        first_image: int = 0,
        synchronize: Synchronize | None = None,
        buffers: MutableMapping[str, NDArray[Any]] | None = None,
    ) -> tuple[Any, Backward]:
        """``y, backward``: the outputs, and the function that maps their gradients to those of inputs and parameters.

        ``backward(dy)`` (``backward(dy1, dy2)`` for two outputs; None stands for zeros) returns one gradient per input,
        as a tuple unless there is one input; those of the parameters are then in ``backward.gradients``, name → array.

        A backward holds the memory of its pass until it is deleted: delete it before the next pass when memory is
        short.

        Parameters
        ----------
        *xs : array (N, C, *spatial)
            One per input, as for a call.
        training : bool, optional
            The mode of this pass; by default that of the net.
        needs_gradient : bool or sequence of bool, default True
            Whether input gradients are computed, for all or one per input.
        repeatable : bool, default True
            False allows backward to run only once, and takes less memory.
        step : int, optional
            Selects the random numbers of a training pass; by default those of the next step.
        wanted : bool or sequence of bool, optional
            Deprecated: the earlier name of ``needs_gradient``.
        first_image : int, default 0
            The place of the first image where ``xs`` are part of a larger batch: random operators draw what they would draw
            for these images of the whole batch.
        synchronize : callable, optional
            Merges the statistics of batch normalisation in training with those of the other parts of the batch:
            ``synchronize("moments", array (3, C))`` is given count, mean and sum of squares around it per channel, and
            ``synchronize("sums", array (2, C))``, in backward, Σ dy and Σ dy x̂; it returns those of the whole batch.
        buffers : dict, optional
            Receives the new running statistics of a training pass, by name, which otherwise replace those of the net.

        Returns
        -------
        y : array or tuple of arrays
            The outputs.
        backward : Backward
            The backward pass.

        Raises
        ------
        SettingError
            ``needs_gradient`` does not have one entry per input, or ``frozen`` names a parameter that does not exist.
        ShapeError, DtypeError
            An array does not fit its input.
        """
        if wanted is not None:
            warnings.warn("with_backward: wanted= is called needs_gradient= now", DeprecationWarning, stacklevel=2)
            needs_gradient = wanted
        inputs = len(self.graph.inputs)
        wants = (needs_gradient,) * inputs if not has_length(needs_gradient) else tuple(needs_gradient)
        if len(wants) != inputs:
            raise SettingError(f"with_backward: needs_gradient has {len(wants)} entries for {inputs} inputs")
        lost = self.frozen - self.parameters.keys()
        if lost:
            raise SettingError(unknown_name("frozen", "parameter", min(lost), self.parameters))
        mode = Mode(
            backward=True,
            needs_gradient=tuple(map(bool, wants)),
            repeatable=bool(repeatable),
            frozen=frozenset(self.frozen),
        )
        first_image = integer("with_backward", "first_image", first_image, 0)
        part = BatchPart(first_image, synchronize) if first_image or synchronize is not None else WHOLE_BATCH
        results, backward, _ = self._run(xs, training, mode, step, part, buffers)
        return (results[0] if len(results) == 1 else tuple(results)), backward

    def _run(
        self,
        xs: Sequence[ArrayLike],
        training: bool | None,
        mode: Mode,
        step: int | None = None,
        part: BatchPart = WHOLE_BATCH,
        buffers: MutableMapping[str, NDArray[Any]] | None = None,
    ) -> tuple[Any, Any, Any]:
        training = self.training if training is None else bool(training)
        xs = self._checked_inputs(xs)
        if self.auto_tune and not self.exact:
            self._tune_once(tuple(x.shape for x in xs), mode.backward)
        mode = mode._replace(training=training, target=cpu.target(), exact=bool(self.exact), tuned=self.tuned)
        plan = self._plan(tuple(x.shape for x in xs), mode)
        if training and step is None:
            with self._lock:
                step = self.steps
                self.steps += 1
        versions = {**self.parameters.versions(), **self.buffers.versions()}
        arrays = {**self.parameters._arrays, **self.buffers._arrays}
        if plan.pieces > 1:
            return self._run_in_pieces(plan, xs, mode, arrays, versions), None, plan
        workspace = plan.take()
        backward = None
        try:
            workspace.refresh(versions)
            results, tape, updates = plan.run_forward(workspace, xs, arrays, step or 0, part=part)
            if buffers is not None:
                buffers.update(updates)
            elif updates:
                with self._lock:  # the running statistics of a pass are updated all together or not at all
                    for name, array in updates.items():
                        self.buffers[name] = array
            if mode.backward:
                backward = Backward(plan, workspace, tape, self, Watched(plan, self, xs, arrays, versions))
        finally:
            if backward is None:
                plan.give(workspace)
        return results, backward, plan

    def _run_in_pieces(
        self,
        whole: Any,
        xs: Sequence[NDArray[Any]],
        mode: Mode,
        arrays: Mapping[str, NDArray[Any]],
        versions: Mapping[str, Any],
    ) -> list[NDArray[Any]]:
        """The results of a large batch, computed a few images at a time."""
        results = [whole.empty_result(value) for value in whole.results]
        taken = {}  # pieces have at most two sizes
        try:
            for first, last in whole.cuts():
                piece = [x[first:last] for x in xs]
                if last - first not in taken:
                    plan = self._plan(tuple(x.shape for x in piece), mode)
                    taken[last - first] = plan, plan.take()
                    taken[last - first][1].refresh(versions)
                plan, workspace = taken[last - first]
                plan.run_forward(workspace, piece, arrays, 0, [result[first:last] for result in results])
        finally:
            for plan, workspace in taken.values():
                plan.give(workspace)
        return results

    def _checked_inputs(self, xs: Sequence[ArrayLike]) -> list[NDArray[Any]]:
        rows = self.graph.inputs
        if len(xs) != len(rows):
            names = ", ".join(f"{row.name} {shape_text(row.given(row.shape))}" for row in rows)
            raise ShapeError(f"net: takes {len(rows)} array{'s' * (len(rows) != 1)} ({names}), got {len(xs)}")
        return [self._checked_input(row, x) for row, x in zip(rows, xs, strict=True)]

    def _checked_input(self, row: Input, x: Any) -> NDArray[Any]:
        if row.role != "real":
            x = (index_array if row.role == "index" else mask_array)(row.name, row.name, x)
            self.check_shape(row, x.shape)
            return x
        taken = "iu" * row.takes_integers + "f" * row.takes_other_floats
        if isinstance(x, np.ndarray) and x.dtype.kind in taken and x.dtype != self.dtype:
            check_unmasked(row.name, "x", x)
            x = np.asarray(x).astype(self.dtype)
        x = ordinary_array(row.name, "x", x)
        if x.dtype != self.dtype:
            raise DtypeError(
                f"{row.name}: got {x.dtype}; the net computes in {self.dtype}: use x.astype('{self.dtype}') or "
                f"net.astype('{x.dtype}')"
            )
        self.check_shape(row, x.shape)
        return row.channels_first(x)

    @staticmethod
    def check_shape(row: Input, shape: tuple[int, ...]) -> None:
        """Raise unless an array of ``shape`` fits the input ``row``.

        Parameters
        ----------
        row : Input
            An input of the structure.
        shape : tuple of int
            The shape of the array, in the layout of the input.

        Raises
        ------
        ShapeError
            It does not fit, or an extent other than the number of images is 0.
        """
        expected = row.given(row.shape)
        fits = len(shape) == len(expected) and all(
            want is None or have == want for have, want in zip(shape, expected, strict=True)
        )
        if not fits:
            hint = " A single image? Use x[None]." if len(shape) + 1 == len(expected) else ""
            if len(shape) == len(expected) > 2 and shape[-1] == row.channels and shape[1] != row.channels:
                hint = " Channels last? Use numpy.moveaxis(x, -1, 1)."
            if row.channels_last and len(shape) == len(expected) and shape[1] == row.channels != shape[-1]:
                hint = f" Channels first? The net takes {row.layout}: use numpy.moveaxis(x, 1, -1)."
            raise ShapeError(f"{row.name}: input has shape {tuple(shape)}; expected {shape_text(expected)}.{hint}")
        if 0 in shape[1:]:
            raise ShapeError(f"{row.name}: input {tuple(shape)} is empty; only the number of images N may be 0")

    # ── Plans ──

    def _plan(self, shapes: tuple[tuple[int, ...], ...], mode: Mode) -> Any:
        """The plan for inputs of ``shapes``, created if there is none; the oldest are dropped when there are too many
        or they are too large.
        """
        key = (shapes, mode, generation())
        with self._lock:
            plan = self._plans.get(key)
            if plan is not None:
                self._plans.move_to_end(key)
                return plan
        in_force()  # those of the machine, which may be read from a file now: another generation
        key = (shapes, mode, generation())
        began = time.perf_counter()
        made = Plan(self.graph, shapes, self.dtype, mode, self.seed)
        logger.debug("plan for %s made in %.1f ms", shapes, 1e3 * (time.perf_counter() - began))
        with self._lock:
            plan = self._plans.setdefault(key, made)
            self._plans.move_to_end(key)
            total = sum(p.arena_bytes for p in self._plans.values())
            while len(self._plans) > 1 and (len(self._plans) > MOST_PLANS or total > MOST_PLAN_BYTES):
                _, oldest = self._plans.popitem(last=False)
                total -= oldest.arena_bytes
        return plan

    # ── New nets from it ──

    def with_outputs(self, *names: str) -> Net:
        """A new net with these weights that returns the values of the nodes called ``names``; nodes that these do not
        need are left out.

        A feature extractor (``net.with_outputs("average")``), or a net without its auxiliary classifiers.

        Parameters
        ----------
        *names : str
            Names of nodes, in the order of the new outputs.

        Returns
        -------
        Net
            A net with its own arrays.

        Raises
        ------
        GraphError
            No name is given, or no node has it; the error suggests the nearest one.

        Examples
        --------
        >>> import numpy as np, cnncore
        >>> net = cnncore.models.lenet(seed=None).with_outputs("s4", "output")
        >>> [y.shape for y in net(np.zeros((1, 1, 32, 32), np.float32))]
        [(1, 16, 5, 5), (1, 10)]
        """
        return self._rebuilt(surgery.with_outputs(self.graph, *names))

    def with_classes(self, classes: int, seed: Seed = 0, freeze: bool = False) -> Net:
        """A new net with these weights and newly initialised classifiers for ``classes`` classes, for fine-tuning.

        The classifier is the last ``linear`` or ``conv`` before an output, followed only by operators that keep the
        number of channels (activations, poolings, softmax, dropout). Each output gets a new one.

        Parameters
        ----------
        classes : int
            The number of classes.
        seed : int or numpy.random.Generator, default 0
            Seed of the new weights.
        freeze : bool, default False
            True: only the classifiers are trained. All other parameters are in ``frozen``, and batch normalisation and
            dropout before them run in inference mode.

        Returns
        -------
        Net
            A net with its own arrays; "classes" is removed from its metadata.

        Raises
        ------
        GraphError
            No classifier leads to an output.

        Examples
        --------
        >>> import numpy as np, cnncore
        >>> net = cnncore.models.lenet(seed=None).with_classes(3, freeze=True)
        >>> net(np.zeros((2, 1, 32, 32), np.float32)).shape, sorted(net.parameters.keys() - net.frozen)
        ((2, 3), ['output.b', 'output.w'])
        """
        seed = seed_number("with_classes", "seed", seed)
        operation = surgery.with_classes(self.graph, classes, freeze)
        made = self._rebuilt(operation, seed)
        made.metadata.pop("classes", None)
        if freeze:
            trained = {owned.name for node in made.graph.nodes if node.path in operation.fresh for owned in node.owned}
            made.frozen = made.parameters.keys() - trained
        return made

    def with_frozen(self, names: Iterable[str]) -> Net:
        """A new net with these weights in which training leaves some of the parameters as they are, for fine-tuning.

        Batch normalisation with such parameters uses its running statistics, in training too, and leaves them unchanged.

        Parameters
        ----------
        names : iterable of str
            Names of parameters, added to those that are ``frozen`` already.

        Returns
        -------
        Net
            With its own arrays.

        Raises
        ------
        GraphError
            There is no such parameter.

        Examples
        --------
        >>> import cnncore
        >>> net = cnncore.models.lenet(seed=None)
        >>> sorted(net.with_frozen(name for name in net.parameters if name < "f").frozen)
        ['c1.b', 'c1.w', 'c3.b', 'c3.w', 'c5.b', 'c5.w']
        """
        names = set(names)
        made = self._rebuilt(surgery.with_frozen(self.graph, names))
        made.frozen |= names & made.parameters.keys()
        return made

    def to_fully_convolutional(self, size: int | Sequence[int] | None = None, average: bool = False) -> Net:
        """A new net whose linear layers are convolutions: on larger images it returns a map of scores per class.

        The first ``linear`` after ``flatten`` becomes a convolution whose kernel covers the flattened image, the
        following ones 1×1 convolutions; activations, dropout and similar operators may lie between them. At the
        training size the scores are the same, with shape (N, classes, 1, 1); on larger images they are those of every
        window of that size.

        Global average pooling followed only by linear layers is exchanged with them: the mean of the map is the score,
        at any size. If activations follow, it becomes average pooling with a window as large as the features at
        ``size``. (Long, Shelhamer & Darrell 2015, arXiv:1411.4038, section 3.1; Lin, Chen & Yan 2014, arXiv:1312.4400,
        section 3.2.)

        Parameters
        ----------
        size : int or sequence of int, optional
            The training size, for nets that leave it open.
        average : bool, default False
            True: the new net returns the mean of the map, (N, classes), for images of any size.

        Returns
        -------
        Net
            A net with its own arrays, for images of any size.

        Raises
        ------
        GraphError
            An operator after the flattened image does not act on each position of a map by itself, an output is the
            flattened image, or the training size is open and not given.

        Examples
        --------
        >>> import numpy as np, cnncore
        >>> g = cnncore.Graph(); x = g.input(channels=1, size=2)
        >>> g.output(g.linear(g.flatten(x), 1, bias=False))
        >>> net = g.build(); net.parameters["linear.w"] = [[1.0, 10.0, 100.0, 1000.0]]
        >>> converted = net.to_fully_convolutional()
        >>> converted(np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]], np.float32))
        array([[[[5421., 6532.]]]], dtype=float32)
        """
        return self._rebuilt(surgery.to_fully_convolutional(self.graph, self.parameters, size, average))

    def to_fully_connected(self, size: int | Sequence[int] | None = None) -> Net:
        """A new net whose last convolutions are linear layers, for images of one ``size`` (the net's own if it is
        fixed).

        A convolution whose kernel covers its whole input at that size, without padding, becomes ``linear`` after
        ``flatten``, and the 1×1 convolutions after it become linear; the output's axes of extent 1 are removed. 1×1
        convolutions whose map is averaged are exchanged with the average and become linear, at any size. The reverse of
        :meth:`to_fully_convolutional`.

        Parameters
        ----------
        size : int or sequence of int, optional
            The extents of the images, for nets that leave them open.

        Returns
        -------
        Net
            A net with its own arrays.

        Raises
        ------
        GraphError
            The size is open and not given, or no convolution can become linear at it.

        Examples
        --------
        >>> import numpy as np, cnncore
        >>> g = cnncore.Graph(); x = g.input(channels=1)
        >>> g.output(g.conv(g.conv(x, 4, kernel_size=2, activation="relu"), 3, kernel_size=1))
        >>> net = g.build().to_fully_connected(size=2)
        >>> net(np.ones((1, 1, 2, 2), np.float32)).shape, net.parameters["conv.w"].shape
        ((1, 3), (4, 4))
        """
        return self._rebuilt(surgery.to_fully_connected(self.graph, self.parameters, size))

    def quantize(
        self,
        *images: Any,
        ranges: str = "mean_squared_error",
        skip: Iterable[str] = (),
        batch_size: int = 16,
        progress: Callable[[int, str], object] | None = None,
    ) -> Net:
        """A new net for inference whose convolutions and linear layers compute with 8-bit numbers.

        Values are rounded to grids of 256 steps, chosen so that they suit ``images``; weights to 255 steps of one scale per
        output channel. Sums of integers are exact, so results are the same bits on every CPU target and for every number of
        threads. Batch normalisations are folded in; what has no 8-bit form stays as it is. (Jacob et al. 2018,
        arXiv:1712.05877, section 2; ranges by least squared error: Sung, Shin & Hwang 2015, arXiv:1511.06488.)

        Parameters
        ----------
        *images : array (N, C, *spatial), data set, or iterable of batches
            Some tens or hundreds of images like those that the net will see, prepared as for a call; one array for each
            input. A data set is one of :mod:`cnncore.train`; batches are arrays, or tuples that begin with them.
        ranges : str, default "mean_squared_error"
            How the ends of a grid follow from the values: those with the least mean squared error of rounding and clipping, or
            "min_max", the smallest and the largest value.
        skip : iterable of str, optional
            Names of nodes that stay in float32.
        batch_size : int, default 16
            Images that are run at a time.
        progress : callable, optional
            ``progress(images, what)``, called before each batch.

        Returns
        -------
        Net
            A net without parameters to train; its weights are integers, among its ``buffers``.

        Raises
        ------
        DataError
            There are no images, or a value is not finite for them.
        GraphError
            The net is in training mode, has nothing to quantize, or no node of a name in ``skip``.
        ShapeError, DtypeError
            The images do not fit the net.

        Examples
        --------
        >>> import numpy as np, cnncore
        >>> net = cnncore.models.lenet()
        >>> images = np.random.default_rng(0).standard_normal((8, 1, 32, 32)).astype(np.float32)
        >>> small = net.quantize(images)
        >>> [node.op.name for node in small.graph.nodes if "quantized" in node.op.name][:1], len(small.parameters)
        (['quantized_conv'], 0)
        >>> bool(np.abs(small(images) - net(images)).max() < 0.1 * np.abs(net(images)).max())
        True
        """
        batch_size = integer("quantize", "batch_size", batch_size, 1)
        return self._rebuilt(quantized(self, images, ranges, skip, batch_size, progress))

    def _rebuilt(self, operation: Operation, seed: int | None = None) -> Net:
        """The net after ``operation``: arrays that it does not replace are those of this net, new ones are initialised."""
        structure = Graph.from_description(operation.description).structure()
        known = {**self.parameters, **self.buffers, **operation.arrays}
        drawn = {owned.name for node in structure.nodes if node.path in operation.fresh for owned in node.owned}
        arrays = {
            name: initialised(owned, self.seed if seed is None else seed, self.dtype)
            if name in drawn
            else np.array(known[name], self.dtype)
            for name, owned in structure.owned.items()
        }
        return self._with_settings_in(Net(structure, self.seed, self.dtype, arrays))

    def _with_settings_in(self, made: Net) -> Net:
        """``made``, with the mode, choices, steps and metadata of this net."""
        made.training, made.exact, made.tuned, made.auto_tune = self.training, self.exact, self.tuned, self.auto_tune
        made.steps, made.frozen = self.steps, set(self.frozen) & made.parameters.keys()
        made.metadata = json.loads(json.dumps(self.metadata))
        if self.stated_kinds is not None and made.structural_kinds() == self.structural_kinds():
            made.output_kind = self.stated_kinds
        return made

    # ── Inspection ──

    def summary(self, *input_shapes: Any) -> Summary:
        """A table of the nodes for inputs of these shapes: output shapes, parameters, multiply-adds, receptive fields.

        Parameters
        ----------
        *input_shapes : tuple of int
            One shape per input, such as ``net.summary((1, 3, 224, 224))``; none where the graph fixes the image size.

        Returns
        -------
        Summary
            The table; its ``rows`` and totals are for programs.

        Raises
        ------
        ShapeError
            A shape does not fit its input, or leaves the size open.
        """
        kinds = [output.kind for output in self.described_outputs()]
        return summarised(self.graph, self._shapes("summary", input_shapes), self.dtype, kinds)

    def profile(
        self,
        *input_shapes: Any,
        rounds: int = 15,
        training: bool = False,
        progress: Callable[[int, int, str], object] | None = None,
    ) -> Profile:
        """Where the time is spent: a :class:`profile.Profile` with milliseconds, GFLOP/s, fraction of the peak and
        bytes per node.

        Parameters and buffers are unchanged.

        Parameters
        ----------
        *input_shapes : tuple of int
            As for :meth:`summary`.
        rounds : int, default 15
            The number of passes; times are their medians.
        training : bool, default False
            True: forward and backward passes in training mode; otherwise forward passes.
        progress : callable, optional
            ``progress(done, total, what)``, called before each pass.

        Returns
        -------
        Profile
            The table; its ``rows`` and ``data()`` are for programs.

        Raises
        ------
        ShapeError
            A shape does not fit its input, or leaves the size open.
        """
        shapes = self._shapes("profile", input_shapes)
        return profile(self, shapes, integer("profile", "rounds", rounds, 1), bool(training), progress)

    def scaling(
        self,
        *input_shapes: Any,
        threads: Sequence[int] = (4, 8, 16, 64),
        rounds: int = 5,
        training: bool = False,
        progress: Callable[[int, int, str], object] | None = None,
    ) -> Scaling:
        """How the time would divide over more threads than this machine has: a :class:`scaling.Scaling`, simulated from
        the measured times of the tasks into which every node is divided.

        Memory bandwidth is taken to be without limit, so times are lower bounds; the idle part of threads that have too
        few tasks, or tasks of unlike length, is real. Parameters and buffers are unchanged.

        Parameters
        ----------
        *input_shapes : tuple of int
            As for :meth:`summary`.
        threads : sequence of int, default (4, 8, 16, 64)
            The numbers of threads to simulate, each 1 to 256; one thread is always among them.
        rounds : int, default 5
            The number of passes for each number of threads; times of tasks are their medians.
        training : bool, default False
            True: forward and backward passes in training mode; otherwise forward passes.
        progress : callable, optional
            ``progress(done, total, what)``, called before each pass.

        Returns
        -------
        Scaling
            The table; its ``rows`` and ``data()`` are for programs.

        Raises
        ------
        ShapeError
            A shape does not fit its input, or leaves the size open.
        SettingError
            A number of threads is not an integer from 1 to 256.
        """
        shapes = self._shapes("scaling", input_shapes)
        numbers = [integer("scaling", "threads", n, 1, MOST_THREADS) for n in threads]
        return scaling(self, shapes, numbers, integer("scaling", "rounds", rounds, 1), bool(training), progress)

    def algorithms(self, *input_shapes: Any, training: bool = False) -> Choices:
        """Which algorithm computes each node, where there is a choice, and why: a :class:`profile.Choices` with the
        cost of each.

        Parameters
        ----------
        *input_shapes : tuple of int
            As for :meth:`summary`.
        training : bool, default False
            Whether for forward and backward passes together; otherwise for forward passes.

        Returns
        -------
        Choices
            The table; its ``rows`` are for programs.

        Raises
        ------
        ShapeError
            A shape does not fit its input, or leaves the size open.
        """
        return algorithms(self, self._shapes("algorithms", input_shapes), bool(training))

    def tune(
        self,
        *input_shapes: Any,
        training: bool = False,
        rounds: int = 7,
        progress: Callable[[int, int, str], object] | None = None,
    ) -> Table:
        """Measure the algorithms on inputs of these shapes and store the fastest in ``net.tuned``; return a table of
        times.

        Choices for other shapes are kept. Results of a tuned net differ from those of an untuned one by rounding, as
        those of different algorithms do.

        Parameters
        ----------
        *input_shapes : tuple of int
            As for :meth:`summary`.
        training : bool, default False
            Whether for forward and backward passes together; otherwise for forward passes.
        rounds : int, default 7
            The number of passes with each algorithm.
        progress : callable, optional
            ``progress(done, total, name)``, called before each pass.

        Returns
        -------
        Table
            The times of each algorithm.

        Raises
        ------
        ShapeError
            A shape does not fit its input, or leaves the size open.
        SettingError
            The net is ``exact`` and therefore has no choice.
        """
        shapes = self._shapes("tune", input_shapes)
        rounds = integer("tune", "rounds", rounds, 1)
        found, table = tune(self, shapes, bool(training), rounds, progress)
        self.tuned = Tuning({**self.tuned, **found})
        logger.info("tuned for %s: %s", shapes, found)
        return table

    def _tune_once(self, shapes: tuple[tuple[int, ...], ...], training: bool) -> None:
        """Measure the calls that ``tuned`` does not contain, at the first call on ``shapes``."""
        met = (shapes, training, cpu.target())
        with self._lock:
            new = met not in self._met
            self._met.add(met)
        if new and not is_tuned(self, shapes, training):
            self.tune(*shapes, training=training, rounds=TUNING_ROUNDS)

    @property
    def tuned(self) -> Tuning:
        """Call → algorithm, as :meth:`tune` found it."""
        return self._tuned

    @tuned.setter
    def tuned(self, choices: Tuning | Mapping[str, str] | tuple[()]) -> None:
        self._tuned = choices if isinstance(choices, Tuning) else Tuning(choices)

    def _shapes(self, place: str, input_shapes: Any) -> tuple[tuple[int, ...], ...]:
        """Shapes for all inputs, checked, from the arguments: (1, 3, 224, 224), one per input, or none."""
        rows = self.graph.inputs
        if len(input_shapes) == 1 and len(rows) > 1 and input_shapes[0] and hasattr(input_shapes[0][0], "__len__"):
            input_shapes = tuple(input_shapes[0])
        if not input_shapes:
            input_shapes = tuple(row.given((1, *row.shape[1:])) for row in rows)
        if len(input_shapes) != len(rows):
            raise ShapeError(f"{place}: the net has {len(rows)} inputs, got {len(input_shapes)} shapes")
        shapes = []
        for row, shape in zip(rows, input_shapes, strict=True):
            shape = (1, *shape[1:]) if len(shape) and shape[0] is None else tuple(shape)
            if None in shape:
                raise ShapeError(
                    f"{place}: {row.name} {shape_text(shape)} leaves the size open; call net.{place}("
                    f"{'(1, …, ' + str(row.channels) + ')' if row.channels_last else f'(1, {row.channels}, …)'})"
                )
            self.check_shape(row, shape)
            shapes.append((shape[0], shape[-1], *shape[1:-1]) if row.channels_last else shape)
        return tuple(shapes)

    def draw(self, path: FilePath | None = None, input_shape: Sequence[Any] | None = None) -> str:
        """An SVG drawing of the graph, returned as text and written to ``path`` if given.

        Parameters
        ----------
        path : str or path, optional
            The file to write.
        input_shape : tuple of int, or sequence of these, optional
            If given, every box shows its output shape; by default that for one image, if the graph fixes the size.

        Returns
        -------
        str
            The SVG.

        Raises
        ------
        ShapeError
            ``input_shape`` does not fit the inputs.
        """
        if input_shape is None and not any(None in row.shape[1:] for row in self.graph.inputs):
            input_shape = tuple(row.given((1, *row.shape[1:])) for row in self.graph.inputs)
        shapes = None
        if input_shape is not None:
            several = hasattr(input_shape[0], "__len__")
            shapes = self.summary(*(input_shape if several else (input_shape,))).shapes
        text = drawing.svg(self.graph, shapes)
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return text

    def _repr_html_(self) -> str:
        return drawing.page(self.graph, repr(self))

    # ── Saving ──

    def save(self, path: FilePath) -> None:
        """Write graph, parameters, buffers and metadata to one file, atomically; ``cnncore.load`` reads it.

        The file is a safetensors file: other tools can read the arrays by name.

        Parameters
        ----------
        path : str or path
            The file; an existing one is replaced.

        Raises
        ------
        SettingError
            The metadata contain other than plain values (JSON), or the net exceeds the limits of a model file.
        FileWriteError
            The file cannot be written.
        """
        try:
            metadata = json.loads(json.dumps(self.metadata, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise SettingError(f"save: net.metadata must hold plain values (JSON): {error}") from None
        model = {
            "graph": self.graph.description(),
            "dtype": self.dtype.name,
            "seed": self.seed,
            "steps": self.steps,
            "metadata": metadata,
            "output_kind": [output.kind for output in self.described_outputs()],
        }
        origins = {node.op.name: node.op.origin for node in self.graph.nodes if node.op.origin}
        if origins:
            model["python_operators"] = origins
        if self.tuned:
            model["tuned"] = self.tuned.as_data()
        try:
            structure_of(json.loads(json.dumps(model)))
        except CnnError as error:
            raise SettingError(f"save: a model file cannot hold this net, load would refuse it: {error}") from None
        arrays = {**self.parameters, **self.buffers}
        model_file.write(path, model, {name: in_file(self.graph.owned[name], a) for name, a in arrays.items()})


def in_file(spec: Any, array: NDArray[Any]) -> NDArray[Any]:
    """An array as model files hold it: whole numbers in fewer bytes, where its layer says so and they fit."""
    if not spec.in_files:
        return array
    with np.errstate(invalid="ignore"):  # what does not fit stays as it is
        few = array.astype(spec.in_files)
    return few if np.array_equal(few, array) else array


def checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float64 as a NumPy dtype."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found not in FLOATS:  # np.dtype("float64") equals None
        raise DtypeError(f"build: dtype {dtype!r}; a net computes in 'float32' or 'float64'")
    return found


class Watched:
    """Arrays that a backward pass reads and that others may change: parameters, buffers, integer and boolean inputs.

    Most parameters are known to be unchanged because they have not been accessed; the others are fingerprinted.
    """

    def __init__(
        self,
        plan: Any,
        net: Net,
        xs: Sequence[NDArray[Any]],
        arrays: Mapping[str, NDArray[Any]],
        versions: Mapping[str, Any],
    ) -> None:
        self._sources = (net.parameters, net.buffers)
        self._versions = versions
        self._arrays = {name: arrays[name] for name in plan.owned_by_backward()}
        rows = zip(net.graph.inputs, xs, strict=True)
        self._arrays |= {f"input {row.name}": x for row, x in rows if row.role != "real"}
        self._prints = Fingerprints(self._arrays.values(), WATCHED_BYTES)

    def check(self) -> None:
        """Raise an error that names the array if one of them was modified in place."""
        for number, name in enumerate(self._arrays):
            if self._may_have_changed(name) and self._prints.changed(number):
                raise ArrayChangedError(
                    f"backward: {name} was changed in place between forward and backward, which reads it: call backward "
                    "before the optimizer's step, or run with_backward again"
                )

    def _may_have_changed(self, name: str) -> bool:
        for source in self._sources:
            if name in source:
                return source.may_have_changed(name, self._versions[name])
        return True


class Backward:
    """The backward pass of one forward pass: ``dx = backward(dy)``, then ``backward.gradients`` by parameter name.

    Created by :meth:`Net.with_backward`.

    Parameters
    ----------
    plan : Plan
        The plan of the forward pass.
    workspace : Workspace
        The memory in which the forward pass ran.
    tape : object
        What the nodes of the forward pass saved.
    net : Net
        The net.
    watched : Watched
        Arrays that must not change before backward reads them.

    Attributes
    ----------
    gradients : dict of str to array
        Gradients of the parameters, after a call.
    """

    def __init__(self, plan: Any, workspace: Any, tape: Any, net: Net, watched: Watched) -> None:
        self._plan, self._workspace, self._tape, self._watched = plan, workspace, tape, watched
        self._owned = net.graph.owned
        self._read = {**net.parameters._arrays, **net.buffers._arrays}
        self._names = [net.graph.names[v] for v in net.graph.outputs]
        self._shapes = [plan.shapes[v] for v in net.graph.outputs]
        self._inputs = net.graph.inputs
        self._roles = [net.graph.roles[v] for v in net.graph.outputs]
        self.gradients: MutableMapping[str, NDArray[Any]] = {}

    def __call__(
        self,
        *dys: ArrayLike | None,
        gradients: MutableMapping[str, NDArray[Any]] | None = None,
        on_gradient: Callable[[str, NDArray[Any]], object] | None = None,
    ) -> Any:
        """Gradients of the inputs that need one, as a tuple unless there is one input; None where ``needs_gradient`` is
        False.

        Parameters
        ----------
        *dys : array or None
            The gradient of each output, of its shape and in the net's dtype; None stands for zeros.
        gradients : dict of str to array, optional
            Receives the gradients of the parameters: written into the arrays that it contains, new arrays for the
            others.
        on_gradient : callable, optional
            ``on_gradient(name, array)``, called once for each of the net's ``gradient_order`` as soon as its gradient is
            final, while backward runs on: it can be sent to other machines meanwhile.

        Returns
        -------
        array, tuple of arrays, or None
            The gradients of the inputs.

        Raises
        ------
        GraphError
            It has already run, and the pass was made with ``repeatable=False``.
        ShapeError, DtypeError
            The number, a shape or a dtype of ``dys`` or ``gradients`` is wrong.
        SettingError
            ``gradients`` is not a dict.
        ArrayChangedError
            An array that backward reads was changed in place since the forward pass.
        """
        plan, workspace = self._plan, self._workspace
        if workspace is None:
            raise GraphError(
                "backward: it has already run; its memory was released because the pass was made with repeatable=False"
            )
        if len(dys) != len(self._names):
            raise ShapeError(
                f"backward: the net has {len(self._names)} outputs ({', '.join(self._names)}), got {len(dys)} gradients"
            )
        checked = [self._checked(*each) for each in zip(self._names, self._shapes, self._roles, dys, strict=True)]
        self._watched.check()
        if gradients is not None:
            self._check_destinations(gradients)
        self.gradients = {} if gradients is None else gradients
        once = not plan.mode.repeatable
        if once:  # even if an error follows, the pass is over
            self._workspace = None
        try:
            dxs = plan.run_backward(workspace, self._tape, checked, self.gradients, on_gradient=on_gradient)
        finally:
            if once:
                self._tape = None
                plan.give(workspace)
        if not dxs:
            return None
        rows = [row for row, needed in zip(self._inputs, plan.needed, strict=False) if needed]
        dxs = [row.arranged(dx) if dx is not None else None for row, dx in zip(rows, dxs, strict=True)]
        return dxs[0] if len(dxs) == 1 else tuple(dxs)

    def _check_destinations(self, gradients: MutableMapping[str, NDArray[Any]]) -> None:
        """Raise unless the parameters' gradients can be written into the arrays in ``gradients``."""
        if not isinstance(gradients, MutableMapping):
            raise SettingError(
                f"backward: gradients is {type(gradients).__name__}; expected a dict, parameter name → array"
            )
        written = {}
        for name, array in gradients.items():
            if (
                name in self._owned
                and self._owned[name].trained
                and name not in self._plan.mode.frozen
                and array is not None
            ):
                place = f"gradients[{name!r}]"
                check_destination("backward", place, array, self._owned[name].shape, self._plan.dtype)
                written[place] = array
        if written:
            check_apart("backward", written, self._read)

    def _checked(self, name: str, shape: tuple[int, ...], role: str, dy: Any) -> NDArray[Any] | None:
        if dy is None:
            return None
        if role != "real":
            raise DtypeError(f"{name}: it is {ROLE_NAMES[role]}, which have no gradient; give None in place of its dy")
        dy = ordinary_array(name, "dy", dy)
        if dy.shape != shape:
            raise ShapeError(f"{name}: backward got dy of shape {dy.shape}; the net returned {shape}")
        if dy.dtype != self._plan.dtype:
            raise DtypeError(f"{name}: backward got dy of {dy.dtype}; the net computes in {self._plan.dtype}")
        return dy

    def __del__(self) -> None:
        if getattr(self, "_workspace", None) is not None:
            self._plan.give(self._workspace)
