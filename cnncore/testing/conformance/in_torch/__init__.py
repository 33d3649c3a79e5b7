"""PyTorch as a framework to compare with: its operators, and compositions of them, with its automatic derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .operators import OPERATORS, STRATEGIES

__all__ = ["COMPOSITIONS", "NAME", "OPERATORS", "run"]

NAME = f"PyTorch {torch.__version__}"
# Composed of PyTorch's operators; in float32 these would lose more digits than an operator may.
COMPOSITIONS = frozenset(STRATEGIES)


def run(
    function: Callable[..., Any],
    settings: Mapping[str, Any],
    arrays: Sequence[Any],
    differentiable: Sequence[bool],
    dy: NDArray[Any] | None,
) -> tuple[NDArray[Any], list[NDArray[Any]] | None]:
    """y of a function of tensors, and with dy the gradients of the differentiable arrays.

    Parameters
    ----------
    function : callable
        One of ``OPERATORS``.
    settings : mapping
        The operator's settings.
    arrays : sequence of array or None
        Its arrays.
    differentiable : sequence of bool
        Which of them have a gradient.
    dy : array or None
        The gradient with respect to y; None: no gradients.

    Returns
    -------
    tuple of array and (list of array or None)
        y and the gradients.
    """
    tensors = [
        None if a is None else torch.from_numpy(np.array(a)).requires_grad_(bool(wanted))
        for a, wanted in zip(arrays, differentiable, strict=False)
    ]
    y = function(settings, *tensors)
    if dy is None or not any(differentiable):
        return y.detach().numpy(), None
    y.backward(torch.from_numpy(np.array(dy)).to(y.dtype))
    wanted = [t for t, w in zip(tensors, differentiable, strict=False) if w and t is not None]
    return y.detach().numpy(), [np.zeros(tuple(t.shape)) if t.grad is None else t.grad.numpy() for t in wanted]
