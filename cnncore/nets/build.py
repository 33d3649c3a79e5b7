"""Building nets from graphs, and loading them from files: the only module that imports both graphs and nets."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from ..errors import CnnError, ModelFileError
from ..typing import FilePath, Seed
from . import graph, model_file
from .description import structure_of
from .net import Net
from .tuning import Tuning

__all__ = ["Graph", "load"]


class Graph(graph.Graph):
    """A network being built: ``input``, the operators of ``cnncore.OPS`` as methods, ``scope``, ``output``, ``build``.

    ``g.<operator>(*values, *settings, name=None, activation=None)`` applies an operator and returns its value.
    Operators with weights take the settings that determine their shapes (``g.conv(x, 64, kernel_size=3)``);
    help(g.conv) shows how each is called. ``activation`` names an operator that is applied to the result.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph()
    >>> x = g.input(channels=3, size=(None, None), name="image")
    >>> with g.scope("stem"):
    ...     h = g.apply(cnncore.OPS["conv"], x, 8, kernel_size=3, name="conv")
    >>> g.output(g.global_avg_pool(h))
    >>> [node.path for node in g.structure().nodes]
    ['stem/conv', 'global_avg_pool']
    >>> g.build(seed=0)(np.zeros((2, 3, 9, 7), np.float32)).shape
    (2, 8)
    >>> again = cnncore.Graph.from_description(g.structure().description())
    >>> again.structure().description() == g.structure().description()
    True
    """

    def build(self, seed: Seed | None = 0, dtype: DTypeLike = "float32", tune: bool = False) -> Net:
        """The net: parameters initialised from ``seed``, each by its own name, in float32 or float64.

        Parameters
        ----------
        seed : int, numpy.random.Generator or None, default 0
            None: random parameters are left at 0, for a net whose weights are loaded afterwards or that is only
            inspected.
        dtype : dtype, default "float32"
            "float32" or "float64".
        tune : bool, default False
            True: the net's first call on inputs of a new shape measures which algorithm computes each convolution
            fastest. This takes a few passes and changes results by rounding; the choices are saved with the net.

        Returns
        -------
        Net
            A net with its own arrays; the graph can be built again.

        Raises
        ------
        GraphError
            The graph has no input or no output, or a branch reaches no output.
        DtypeError
            ``dtype`` is neither float32 nor float64.
        """
        net = Net(self.structure(), seed=seed, dtype=dtype)
        net.auto_tune = bool(tune)
        return net


def load(path: FilePath, tune: bool = False) -> Net:
    """The net in a model file written by ``net.save``; a file that is damaged or malicious is a ModelFileError.

    Nothing in the file is executed: the graph is rebuilt from operators of cnncore.OPS by name, with the same checks as
    any graph, and the arrays must be exactly those that it needs.

    Parameters
    ----------
    path : str or path
        The file.
    tune : bool, default False
        As in :meth:`Graph.build`: calls without a choice in the file are measured.

    Returns
    -------
    Net
        The net, with its parameters, buffers, metadata and choices of algorithms.

    Raises
    ------
    ModelFileError
        The file is not a model file of cnncore, or its contents are inconsistent.
    FileReadError
        The file cannot be opened; it is a MissingFileError, and a FileNotFoundError, where there is none.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.models.lenet().save("lenet.safetensors")
    >>> cnncore.load("lenet.safetensors")
    <net input (N, 1, 32, 32) → output: 12 nodes, 61,706 parameters, float32>
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
            if array.shape != owned[name].shape or array.dtype not in (dtype, owned[name].in_files or dtype):
                raise ModelFileError(
                    f"array {name!r} is {array.dtype} {array.shape}; the graph has {dtype} {owned[name].shape}"
                )
        arrays = {name: array.astype(dtype, copy=False) for name, array in arrays.items()}
        net = Net(structure, model["seed"], dtype, arrays)
        tuned = Tuning.from_data(model["tuned"]) if "tuned" in model else ()
        if "output_kind" in model:
            net.output_kind = model["output_kind"]
    except CnnError as error:
        raise ModelFileError(f"{path}: {error}") from None
    net.steps, net.metadata, net.tuned, net.auto_tune = model["steps"], model["metadata"], tuned, bool(tune)
    return net
