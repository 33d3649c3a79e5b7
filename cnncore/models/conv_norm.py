"""A convolution with normalisation and activation, without bias if a normalisation follows."""

from __future__ import annotations

from typing import Any

from ..errors import SettingError
from ..nets.graph import Graph
from ..nets.value import Value

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
    """A convolution with "same" padding, then ``norm``, then ``activation``; the node of the normalisation is called
    "<name>_norm".

    Parameters
    ----------
    g : Graph
        The graph to which the nodes are added.
    x : Value
        The input of the convolution.
    channels : int
        Its output channels.
    size : int
        Size of its kernel.
    name : str or None
        Name of its node.
    norm : str, optional
        "batch"; or "group", with groups of 8 channels if their number is a multiple of 8, otherwise one group. Without
        it the convolution has a bias.
    activation : str or None, default "relu"
        The name of an operator.
    stride : int, default 1
        Stride of the convolution.
    groups : int, default 1
        Groups of the convolution.
    eps : float, default 1e-5
        The ε of the normalisation.

    Returns
    -------
    Value
        The output of the last of them.

    Raises
    ------
    SettingError
        ``norm`` is unknown.
    """
    if norm not in NORMS:
        raise SettingError(f"{name}: norm must be one of {', '.join(map(repr, NORMS))}, got {norm!r}")
    padded: dict[str, Any] = {"stride": stride, "padding": size // 2, "groups": groups}
    if norm is None:
        return g.conv(x, channels, size, **padded, activation=activation, name=name)
    # The normalisation subtracts the mean, so that a bias before it would have almost no effect.
    h = g.conv(x, channels, size, **padded, bias=False, name=name)
    if norm == "batch":
        return g.batch_norm(h, eps=eps, activation=activation, name=f"{name}_norm")
    in_groups = 1 if channels % CHANNELS_PER_GROUP else channels // CHANNELS_PER_GROUP
    return g.group_norm(h, in_groups, eps=eps, activation=activation, name=f"{name}_norm")
