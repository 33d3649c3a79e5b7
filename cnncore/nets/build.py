"""Building nets from graphs and loading them from files: the only module that imports both."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from ..errors import CnnError, ModelFileError
from ..typing import FilePath
from . import model_file
from .description import structure_of
from .graph import Graph
from .net import Net
from .tuning import Tuning

__all__ = ["Graph", "load"]


def build(self: Graph, seed: int | None = 0, dtype: DTypeLike = "float32", tune: bool = False) -> Net:
    """The net: parameters initialised from ``seed``, each by its own name, in float32 or float64.

    ``seed=None``: random parameters stay 0, for nets whose weights are loaded or that are only inspected.
    ``tune=True``: its first call on inputs of a new shape measures the fastest algorithm of each convolution, which
    takes some passes and changes results by rounding; the choices are saved with the net.
    """
    net = Net(self.structure(), seed=seed, dtype=dtype)
    net.auto_tune = bool(tune)
    return net


Graph.build = build  # type: ignore[assignment,method-assign]  # a graph knows no net


def load(path: FilePath, tune: bool = False) -> Net:
    """The net in a model file written by ``net.save``; a damaged or malicious file raises a ModelFileError.

    ``tune`` as in :meth:`Graph.build`; only calls without a choice in the file are measured.

    Nothing in the file is executed: the graph is built again from operators of cnncore.OPS by name, with the checks of any
    graph, and the arrays must be those that it asks for.
    """
    model, arrays = model_file.read(path)
    try:
        structure = structure_of(model)
        owned = structure.owned
        if arrays.keys() != owned.keys():
            odd = min(arrays.keys() ^ owned.keys())
            raise ModelFileError(f"array {odd!r} is {'missing' if odd in owned else 'not an array of the graph'}")
        dtype = np.dtype(model["dtype"])
        for name, array in arrays.items():
            if array.shape != owned[name].shape or array.dtype != dtype:
                raise ModelFileError(
                    f"array {name!r} is {array.dtype} {array.shape}; the graph has {dtype} {owned[name].shape}"
                )
        net = Net(structure, model["seed"], dtype, arrays)
        tuned = Tuning.from_data(model["tuned"]) if "tuned" in model else ()
        if "output_kind" in model:
            net.output_kind = model["output_kind"]
    except CnnError as error:
        raise ModelFileError(f"{path}: {error}") from None
    net.steps, net.metadata, net.tuned, net.auto_tune = model["steps"], model["metadata"], tuned, bool(tune)
    return net
