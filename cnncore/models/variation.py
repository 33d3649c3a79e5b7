"""Networks with one thing changed: another pooling, another activation, strides for poolings, another head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from ..errors import SettingError, unknown_name
from ..nets.build import Graph
from ..nets.value import Value
from ..operators.operator import Op
from ..operators.registry import GRIDS, OPS, find

__all__ = ["DOWNSAMPLING", "HEADS", "VariedGraph", "Variation", "varied"]

DOWNSAMPLING = ("pool", "stride")
HEADS = ("pooled", "dense")
# What stands for "the pooling" and "the activation" in the networks of the literature.
POOLINGS = frozenset({"max_pool", "avg_pool"})
ACTIVATIONS = frozenset({"relu", "relu6"})


@dataclass(frozen=True)
class Variation:
    """What is changed in a network; None leaves what its paper has.

    Attributes
    ----------
    pooling : str or None
        A strategy of ``cnncore.pool`` for all of its max and average poolings; global poolings stay.
    activation : str or None
        The name of an operator for all of its ReLUs.
    downsampling : {"pool", "stride"} or None
        "stride": a strided convolution with the same windows, and an activation, for each pooling that makes images
        smaller (All-CNN: Springenberg et al. 2015, arXiv:1412.6806, section 2).
    head : {"pooled", "dense"} or None
        "pooled": the average over the image where the network flattens it; "dense": a fully connected layer where it
        averages, which fixes ``size``.
    size : int, tuple of int or None
        The image size of networks that leave it open.
    """

    pooling: str | None = None
    activation: str | None = None
    downsampling: str | None = None
    head: str | None = None
    size: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        strategies = GRIDS["pool"].strategies
        if self.pooling is not None and self.pooling not in strategies:
            raise SettingError(unknown_name("models", "pooling strategy", self.pooling, strategies))
        if self.activation is not None and (found := find(self.activation)) is None:
            names = [name for name, op in OPS.items() if op.group == "activation"]
            raise SettingError(unknown_name("models", "activation", self.activation, names))
        elif self.activation is not None and found is not None and found.group not in ("activation", "custom"):
            raise SettingError(f"models: activation {self.activation!r} is a {found.group} operator; try 'leaky_relu'")
        for name, value, known in (
            ("downsampling", self.downsampling, DOWNSAMPLING),
            ("head", self.head, HEADS),
        ):
            if value is not None and value not in known:
                raise SettingError(unknown_name("models", name, value, known))


_VARIATION: ContextVar[Variation | None] = ContextVar("variation", default=None)


@contextmanager
def varied(variation: Variation) -> Iterator[None]:
    """Networks that are built inside have this variation.

    Parameters
    ----------
    variation : Variation
        What is changed.

    Yields
    ------
    None

    Examples
    --------
    >>> import cnncore
    >>> from cnncore.models.variation import Variation, varied
    >>> with varied(Variation(downsampling="stride")):
    ...     cnncore.models.lenet().summary().parameters
    62896
    """
    token = _VARIATION.set(variation)
    try:
        yield
    finally:
        _VARIATION.reset(token)


class VariedGraph(Graph):
    """A graph that makes the changes of a variation while a network's function builds it.

    Parameters
    ----------
    pooling, activation : str or None
        As of :class:`Variation`; None: those of the variation around, if any.
    """

    def __init__(self, pooling: str | None = None, activation: str | None = None) -> None:
        super().__init__()
        around = _VARIATION.get() or Variation()
        self._variation = replace(
            around,
            pooling=around.pooling if pooling is None else pooling,
            activation=around.activation if activation is None else activation,
        )

    def input(self, channels: int | None, size: Any = None, name: str | None = None, **settings: Any) -> Value:
        """An input, of the variation's size where the network leaves it open."""
        return super().input(channels, self._variation.size if size is None else size, name, **settings)

    def apply(
        self, op: Op, *arguments: Any, name: str | None = None, activation: str | None = None, **settings: Any
    ) -> Any:
        """Apply an operator, or what stands for it."""
        v = self._variation
        x = arguments[0] if arguments else None
        if activation in ACTIVATIONS and v.activation is not None:
            activation = v.activation
        if op.name in ACTIVATIONS and v.activation is not None:
            op = find(v.activation) or op
        if op.name in POOLINGS and isinstance(x, Value):
            given = dict(zip(op.settings, arguments[1:], strict=False)) | settings
            stride = given["kernel_size"] if given.get("stride") is None else given["stride"]
            if v.downsampling == "stride" and stride != 1:
                return self._strided(x, given, stride, name, activation)
            if v.pooling is not None and op.name != f"{v.pooling}_pool":
                op, arguments, settings = GRIDS["pool"].operator(v.pooling), (x,), given
        if op.name == "flatten" and v.head == "pooled" and isinstance(x, Value) and len(x.shape) > 2:
            op, arguments, settings = OPS["global_avg_pool"], (x,), {}
        if op.name == "global_avg_pool" and v.head == "dense" and isinstance(x, Value) and len(x.shape) > 2:
            return self._dense(x, name, activation)
        return super().apply(op, *arguments, name=name, activation=activation, **settings)

    def _strided(self, x: Value, given: dict[str, Any], stride: Any, name: str | None, activation: str | None) -> Any:
        """A convolution with the windows of a pooling, as many channels, and an activation."""
        padding = "same_upper" if given.get("ceil_mode") else given.get("padding", 0)
        return super().apply(
            OPS["conv"],
            x,
            x.shape[1],
            kernel_size=given["kernel_size"],
            stride=stride,
            padding=padding,
            name=name,
            activation=activation or self._variation.activation or "relu",
        )

    def _dense(self, x: Value, name: str | None, activation: str | None) -> Any:
        """A fully connected layer of as many outputs as x has channels, on the whole image."""
        path = name or "dense"
        flat = super().apply(OPS["flatten"], x, name=f"{path}_flat")
        return super().apply(OPS["linear"], flat, x.shape[1], initial="glorot", name=path, activation=activation)
