"""What an operator says of itself: its settings, arrays, parameters, layer and cases."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# The dtype of values that are no real numbers; those have the dtype of the call.
ROLE_DTYPES = {"index": np.dtype(np.int64), "mask": np.dtype(np.bool_)}
# The roles of the values that an argument of some role takes.
ACCEPTED_ROLES = {role: (role,) for role in ("real", "index", "mask")} | {
    "either": ("real", "index"),
    "any": ("real", "index", "mask"),
}


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()


@dataclass(frozen=True)
class Setting:
    """A setting of an operator: its name, default, what it means, and optionally how a value is checked.

    ``check(place, name, value)`` returns the canonical value or raises SettingError; window settings are checked by
    geometry.py instead, where they meet the input's extents. ``alias`` is another framework's spelling, ``renamed``
    maps earlier names of values to those of today.
    """

    name: str
    default: Any
    meaning: str
    check: Callable[[str, str, Any], Any] | None = None
    alias: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Array:
    """An array argument. ``role``: "real" (float32 or float64, all the same), "index" (integers, taken as int64), "mask"
    (booleans), "either" (class numbers or probabilities, as losses take them; only the latter have a gradient), or "any"
    (each of the first three).
    ``variadic``, for the last array only: any number of them, one or more, as a join takes its branches, one after the other
    or as one list; settings are then given by name.
    """

    name: str
    meaning: str
    optional: bool = False
    differentiable: bool = True
    role: str = "real"
    variadic: bool = False


@dataclass(frozen=True)
class Parameter:
    """An array argument that a layer owns: its shape, and how it starts.

    ``name`` is the argument's name in the row's ``arrays``. ``shape(shapes, settings)`` gets the shapes of the arrays that
    come from the graph, in the row's order with None for open extents, and all settings of the layer and of the operator,
    checked and with defaults; it returns integers, or None for an extent that follows from an open one (the graph then says
    what to fix). ``initial`` is a name in layers.INITIALISERS, a number, or the name of a layer setting that holds either.
    ``fans(shape)`` gives (fan in, fan out) where they are not those of (outputs, inputs, \\*kernel). ``when`` names the layer
    setting (True or False) that decides whether the array exists: its row is optional, and None is passed when it does not.
    ``update`` is the number of the extra output that takes its place after a forward pass in training (running statistics):
    such an array is state, no gradient is asked for it.
    """

    name: str
    shape: Callable[[Any, Any], Any]
    initial: str | float = "zeros"
    when: str | None = None
    update: int | None = None
    decay: bool = True  # whether weight decay applies
    fans: Callable[[Any], Any] | None = None
    trained: bool | str = True  # or the name of the layer setting that says; what is not trained is state
    in_files: str = ""  # dtype of whole numbers in model files, where not that of the net: "int8"


@dataclass(frozen=True)
class Layer:
    """How the operator stands in a graph: the arrays it owns there, and what is asked to make them.

    ``g.conv(x, 64, kernel_size=3, stride=2, bias=False)``: first the values for the arrays that are not ``parameters``, then
    the ``settings`` of the layer that are REQUIRED, the operator's own settings, and the layer's other settings. A layer
    setting goes to the parameters' shapes and initialisers and never to the operator. ``training`` holds settings that a
    training step adds, so that the operator returns what takes the place of parameters with ``update``. ::

        layer=Layer(
            parameters=(
                Parameter("w", lambda shapes, settings: (settings["channels"], shapes[0][1]), "initial"),
                Parameter("b", lambda shapes, settings: (settings["channels"],), "zeros", when="bias", decay=False),
            ),
            settings=(
                Setting("channels", REQUIRED, "output channels", whole(1)),
                Setting("bias", True, "whether b exists", flag),
                Setting("initial", "he", "how w starts"),
            ),
        )

    Two settings of operators belong to the graph unless they are given there: ``training`` follows the net's mode, and
    ``seed`` is drawn afresh for every training step from the net's seed, the node's path and the number of the step.
    """

    parameters: tuple[Parameter, ...] = ()
    settings: tuple[Setting, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)


ALONE = Layer()  # of an operator that owns no arrays


class Case:
    """One way to exercise an operator: settings, and what the arrays look like beyond the default sample.

    Tests, gradient checks, benchmarks and the documentation walk the cases; ``spatial`` extents are given for one axis and
    grow with it, ``channels`` is the number of input channels, ``arrays(rng, x)`` makes the arguments after x.
    """

    def __init__(
        self,
        *,
        spatial: int = 6,
        channels: int = 3,
        batch: int = 2,
        ranks: Sequence[int] = (1, 2, 3),
        arrays: Callable[..., Any] | None = None,
        domain: str = "any",
        **settings: Any,
    ) -> None:
        self.spatial = spatial
        self.channels = channels
        self.batch = batch
        self.ranks = ranks
        self.arrays = arrays
        self.domain = domain  # "any", "positive", "distinct", "unit", "beyond one"
        self.settings = settings

    def __str__(self) -> str:
        return "-".join(f"{k}={v}".replace(" ", "") for k, v in self.settings.items()) or "default"

    def __repr__(self) -> str:
        return f"Case({', '.join(f'{k}={v!r}' for k, v in self.settings.items())})"

    def but(self, **changes: Any) -> Case:
        """This case with another ``batch``, ``channels``, ``spatial`` or ``arrays``."""
        other = copy.copy(self)
        other.__dict__.update(changes)
        return other

    def shape(self, rank: int) -> tuple[int, ...]:
        """Shape of x for this case: extents differ from axis to axis, so that mixed-up axes are seen."""
        return (self.batch, self.channels, *(self.spatial + axis for axis in range(rank)))

    def sample(self, rank: int, dtype: DTypeLike = np.float64, seed: int = 0) -> tuple[Any, ...]:
        """The arrays of this case: x, and what ``arrays`` adds."""
        rng = np.random.default_rng(seed)
        x = sample_values(rng, self.shape(rank), self.domain).astype(dtype)
        rest = () if self.arrays is None else self.arrays(rng, x)
        return (x, *(a.astype(dtype) if a is not None and a.dtype.kind == "f" else a for a in rest))


def sample_values(rng: np.random.Generator, shape: tuple[int, ...], domain: str) -> NDArray[Any]:
    """Values for a check, in random order: neighbours differ by more than 2 / size and none is nearer to 0 than 2e-3.

    So no step of a numerical derivative meets a tie or a kink, and a value tells where it came from.
    """
    size = int(np.prod(shape))
    spacing = 4 / max(size, 1)
    grid = (np.arange(size) + 0.5 + rng.uniform(-0.2, 0.2, size)) * spacing - 2
    grid += np.where(grid < 0, -2e-3, 2e-3)
    x = rng.permutation(grid).reshape(shape)
    if domain == "positive":
        return (x + 2.1) / 2
    if domain == "unit":
        return (x + 2.2) / 4.4
    if domain == "beyond one":
        return x + 3.1
    return x


ANY_SHAPE = "any shape of 1 to 5 dimensions → the same"


X = Array("x", "input")


def per_channel(shapes: Sequence[Any], settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """Shape of an array with one number per channel of the first input."""
    return (shapes[0][1],)
