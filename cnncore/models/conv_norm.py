"""A convolution with normalisation and activation, without bias if a normalisation follows."""

from __future__ import annotations

from typing import Any

from ..errors import SettingError
from ..nets.graph import Graph, Value

__all__ = ["conv_norm"]

CHANNELS_PER_GROUP = 8
NORMS = (None, "batch", "group")


def conv_norm(
    g: Graph,
    x: Value,
    channels: int,
    size: int,
    name: str | None,
    norm: str | None = None,
    activation: str | None = "relu",
    stride: int = 1,
    groups: int = 1,
    eps: float = 1e-5,
) -> Value:
    """A convolution padded by half its kernel, then ``norm``, then ``activation``; the normalisation's node is "<name>_norm".

    ``norm``: None; "batch"; or "group", in groups of 8 channels where their number is a multiple of 8, else in one.
    """
    if norm not in NORMS:
        raise SettingError(f"{name}: norm must be one of {', '.join(map(repr, NORMS))}, got {norm!r}")
    padded: dict[str, Any] = {"stride": stride, "padding": size // 2, "groups": groups}
    if norm is None:
        return g.conv(x, channels, size, **padded, activation=activation, name=name)
    # The normalisation subtracts the mean: a bias before it would have next to no effect.
    h = g.conv(x, channels, size, **padded, bias=False, name=name)
    if norm == "batch":
        return g.batch_norm(h, eps=eps, activation=activation, name=f"{name}_norm")
    in_groups = 1 if channels % CHANNELS_PER_GROUP else channels // CHANNELS_PER_GROUP
    return g.group_norm(h, in_groups, eps=eps, activation=activation, name=f"{name}_norm")
