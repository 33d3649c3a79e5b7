"""Weights by name: safetensors and npz files, mappings of arrays, PyTorch state dicts, Keras' order of axes.

    report = cnncore.io.load_weights(cnncore.models.resnet50(seed=None), "resnet50.safetensors")

The name of a weight in another program is derived from its name here: by a table for the networks of torchvision (next to
each network in cnncore.models), otherwise from the path with other separators. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..checks import choice, path_name
from ..errors import DataError, DtypeError, FileReadError, ModelFileError, SettingError, unknown_name
from ..models.googlenet import TORCH_NAMES as googlenet_names
from ..models.mobilenet import torch_names as mobilenet_names
from ..models.resnet import torch_names as resnet_names
from ..models.vgg import CONFIGURATIONS
from ..models.vgg import torch_names as vgg_names
from ..nets import model_file
from ..nets.net import Net
from ..nets.plan import infer
from ..nets.structure import Node
from ..typing import FilePath
from .npz import npz_arrays

__all__ = ["WeightsReport", "load_safetensors", "load_weights", "save_safetensors"]

# What the source calls the arrays: a convention, our names → theirs, or a function of ours.
Names: TypeAlias = str | Mapping[str, str] | Callable[[str], str | None]

LAYOUTS = ("OIHW", "HWIO")
MOST_ARRAYS = 100_000
SHOWN = 8  # names of each kind in a report
# PyTorch counts the batches that a normalisation has seen; no result depends on it.
COUNTERS = ("num_batches_tracked",)
WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name

TORCH_TABLES = {
    "resnet": resnet_names(34) | resnet_names(152),
    **{f"vgg {configuration}": vgg_names(configuration) for configuration in CONFIGURATIONS},
    "mobilenet_v2": mobilenet_names(),
    "googlenet": googlenet_names,
}
TORCH_ENDINGS = {"w": "weight", "b": "bias"}
KERAS_ENDINGS = {"w": "kernel", "b": "bias"}
KERAS_NORM_ENDINGS = {"w": "gamma", "b": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


# ── Names ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def torch_name(path: str, argument: str, table: Mapping[str, str]) -> str:
    """The name of an array in PyTorch: its module's path and weight, bias, running_mean …"""
    return f"{table.get(path, path.replace('/', '.'))}.{TORCH_ENDINGS.get(argument, argument)}"


def keras_name(node: Node, argument: str) -> str:
    """The name of an array in Keras: its layer's path and kernel, bias, gamma …"""
    normalises = "running_mean" in node.owned_by_argument or node.op.name.endswith("_norm")
    depthwise = argument == "w" and (node.op.name == "depthwise_conv" or node.owned[0].shape[1:2] == (1,))
    endings = KERAS_NORM_ENDINGS if normalises else KERAS_ENDINGS
    return f"{node.path}/{'depthwise_kernel' if depthwise and not normalises else endings.get(argument, argument)}"


def name_candidates(net: Net, names: Names) -> list[list[tuple[str, Any]]]:
    """Candidate tables of names, each (our name, theirs); the one that finds most arrays is used.

    An array that several nodes share has as many names in other frameworks.
    """
    own = owned_by_nodes(net)
    if isinstance(names, Mapping):
        paths = {node.path for _, node, _ in own}
        odd = [name for name in names if name not in paths and name not in net.graph.owned]
        if odd:
            raise SettingError(unknown_name("load_weights", "name in names", odd[0], [*net.graph.owned, *paths]))
        table = {path: theirs for path, theirs in names.items() if path in paths}
        return [[(name, names.get(name, torch_name(node.path, argument, table))) for name, node, argument in own]]
    if callable(names):
        return [[(name, names(name)) for name in net.graph.owned]]
    choice("torch", "keras", "cnncore")("load_weights", "names", names)
    if names == "cnncore":
        return [[(name, name) for name in net.graph.owned]]
    if names == "keras":
        return [[(name, keras_name(node, argument)) for name, node, argument in own]]
    return [
        [(name, torch_name(node.path, argument, table)) for name, node, argument in own]
        for table in ({}, *TORCH_TABLES.values())
    ]


def torch_names_of(net: Net) -> dict[str, str]:
    """Our name → PyTorch's, from the table that covers most of the net's nodes and the fewest others."""
    paths = {node.path for node in net.graph.nodes if node.owned}
    table = max(TORCH_TABLES.values(), key=lambda table: (len(paths & table.keys()), -len(table)))
    made: dict[str, str] = {}
    for name, node, argument in owned_by_nodes(net):
        made.setdefault(name, torch_name(node.path, argument, table))
    return made


def owned_by_nodes(net: Net) -> list[tuple[str, Node, str]]:
    """(name, node, argument) of every use of an array of the net."""
    return [(row.name, node, argument) for node in net.graph.nodes for argument, row in node.owned_by_argument.items()]


# ── Reading ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def load_safetensors(path: FilePath) -> dict[str, NDArray[Any]]:
    """Name → array of a safetensors file. float16 and bfloat16 are converted to float32, other types are kept.

    Nothing in the file is executed.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict

    Raises
    ------
    ModelFileError
        The file is damaged or malicious: arrays that overlap, names that stand twice, a header larger than the file …

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "w.safetensors")
    ...     save_safetensors({"w": np.array([1.0, 2.0], np.float16)}, path)
    ...     load_safetensors(path)
    {'w': array([1., 2.], dtype=float32)}
    """
    return model_file.read_safetensors(path)


def save_safetensors(source: Net | Mapping[str, Any], path: FilePath, names: str = "cnncore") -> None:
    """Write the parameters and running statistics of a net, or a mapping name → array, to a safetensors file,
    atomically.

    Arrays keep shape and dtype. (``net.save`` writes the graph with them, for ``cnncore.load``.)

    Parameters
    ----------
    source : Net or mapping
    path : path
    names : {"cnncore", "torch"}, optional
        "torch" writes a net's arrays under the names that torchvision gives them; ``load_weights`` reads them back, and
        so does PyTorch.

    Raises
    ------
    SettingError
        A name is no string, or ``names="torch"`` comes with a mapping.
    DtypeError
        An array is no array of real numbers.
    DataError
        The file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import cnncore
    >>> net = cnncore.models.lenet(seed=None)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "lenet.safetensors")
    ...     save_safetensors(net, path, names="torch")
    ...     sorted(load_safetensors(path))[:4]
    ['c1.bias', 'c1.weight', 'c3.bias', 'c3.weight']
    """
    choice("cnncore", "torch")("save_safetensors", "names", names)
    arrays = {**source.parameters, **source.state} if isinstance(source, Net) else dict(source)
    if names == "torch":
        if not isinstance(source, Net):
            raise SettingError("save_safetensors: names='torch' requires a net; a mapping already has names")
        table = torch_names_of(source)
        arrays = {table[name]: array for name, array in arrays.items()}
    arrays = {name: as_array(f"save_safetensors: {name}", array) for name, array in arrays.items()}
    odd = next((name for name in arrays if not isinstance(name, str) or name == "__metadata__"), None)
    if odd is not None:
        raise SettingError(f"save_safetensors: {odd!r} cannot be the name of an array")
    model_file.write_safetensors(path, {"format": "pt" if names == "torch" else "np"}, arrays)


def as_array(place: str, value: Any) -> NDArray[Any]:
    """A NumPy array of numbers from an array or a PyTorch tensor."""
    if hasattr(value, "detach"):  # a tensor; NumPy has no bfloat16
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    value = np.asarray(value)
    if value.dtype.newbyteorder("=") not in model_file.CODES:
        raise DtypeError(f"{place} is {value.dtype}; expected an array of real numbers")
    return value.astype(value.dtype.newbyteorder("="), copy=False)


def arrays_from(source: Any) -> dict[str, NDArray[Any]]:
    """Name → array from a mapping, a state dict, or a file, by its format."""
    if isinstance(source, Mapping):
        nested = source.get("state_dict")
        if isinstance(nested, Mapping):
            source = nested
        return {str(name): as_array(f"load_weights: {name}", value) for name, value in source.items()}
    path = pathlib.Path(path_name(source, "a file of weights (.safetensors, .npz)"))
    kind = path.suffix.lower()
    if kind == ".safetensors":
        return load_safetensors(path)
    if kind == ".npz":
        try:
            return npz_arrays(path, MOST_ARRAYS, "weights of one network take less")
        except FileReadError:
            raise
        except DataError as error:
            raise ModelFileError(str(error)) from None
    if kind in (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"):
        raise ModelFileError(
            f"{path}: a pickle, which can run any program when it is opened, so it is not read; convert it once where PyTorch "
            f"is: python -c \"import numpy, torch; numpy.savez('{path.stem}.npz', **{{n: t.float().numpy() for n, t in "
            f"torch.load('{path.name}', weights_only=True).items()}})\""
        )
    if kind == ".onnx":
        raise ModelFileError(
            f"{path}: an ONNX file contains a graph with its weights; load it with cnncore.io.load_onnx"
        )
    raise ModelFileError(
        f"{path}: kind {kind!r} is unknown; expected .safetensors or .npz, or give a mapping name → array"
    )


def load_weights(
    net: Net, source: FilePath | Mapping[str, Any], names: Names = "torch", layout: str = "OIHW", strict: bool = False
) -> WeightsReport:
    """Load weights of another framework into ``net``, by name; return a :class:`WeightsReport`.

    Parameters
    ----------
    net : Net
        Its parameters and running statistics are replaced: all that were found with the right shape, or on an error
        none.
    source : path or mapping
        A .safetensors or .npz file, or a mapping name → array, such as the ``state_dict()`` of a PyTorch module.
    names : "torch", "keras", "cnncore", mapping or callable, optional
        What the source calls the arrays. "torch": torchvision's names for resnet, vgg, googlenet and mobilenet_v2, for
        other nets the paths with "." and weight, bias, running_mean. "keras": paths and kernel, bias, gamma. "cnncore":
        as here. A mapping from our array names, or from nodes to modules of PyTorch; or a function our name → theirs
        (None: none).
    layout : {"OIHW", "HWIO"}, optional
        Order of a kernel's axes. "HWIO" is TensorFlow's and Keras': linear weights are (inputs, outputs) there, images
        are flattened channels last, and depthwise kernels are (H, W, C, multiplier).
    strict : bool, optional
        Whether anything missing, misfitting or left over is an error, with the report as its text.

    Returns
    -------
    WeightsReport

    Raises
    ------
    ModelFileError
        The file is damaged, malicious or a pickle; nothing matches; or ``strict`` and the report is not complete.
    DtypeError, SettingError
        An array does not contain numbers; unknown ``names`` or ``layout``.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> g = cnncore.Graph(); x = g.input(channels=1, rank=0)
    >>> g.output(g.linear(x, 2, name="fc"))
    >>> net = g.build(seed=None)
    >>> cnncore.io.load_weights(net, {"fc.weight": np.ones((2, 1)), "fc.scale": np.ones(2)})
    <1 of 2 arrays loaded; missing: fc.b (fc.bias); left over: fc.scale>
    >>> net.parameters["fc.w"].tolist()
    [[1.0], [1.0]]
    """
    place = "load_weights"
    choice(*LAYOUTS)(place, "layout", layout)
    arrays = arrays_from(source)
    plain = {tidied(name): name for name in arrays}
    if len(plain) < len(arrays):
        plain = {name: name for name in arrays}
    table = max(name_candidates(net, names), key=lambda table: sum(theirs in plain for _, theirs in table))
    found: dict[str, tuple[str, NDArray[Any]]] = {}
    misfits, missing, again = [], [], set()
    kernels = reordering(net) if layout == "HWIO" else {}
    for ours, theirs in table:
        if theirs not in plain:
            missing.append((ours, theirs))
            continue
        array, shape = arrays[plain[theirs]], net.graph.owned[ours].shape
        turned = kernels[ours](array) if ours in kernels else array
        if turned is None or turned.shape != shape:
            misfits.append((ours, plain[theirs], shape, array.shape))
        elif ours in found:
            if not np.array_equal(turned, found[ours][1]):
                raise ModelFileError(
                    f"{place}: {plain[theirs]} and {found[ours][0]} hold different numbers; the net, which is unchanged, "
                    f"shares one array between these layers, {ours}"
                )
            again.add(plain[theirs])
        else:
            found[ours] = (plain[theirs], turned)
    missing = [row for row in dict(reversed(missing)).items() if row[0] not in found][::-1]
    taken = {theirs for theirs, _ in found.values()} | {theirs for _, theirs, _, _ in misfits} | again
    unused = tuple(name for name in arrays if name not in taken and not name.endswith(COUNTERS))
    loaded = {ours: theirs for ours, (theirs, _) in found.items()}
    report = WeightsReport(loaded, tuple(missing), tuple(misfits), unused)
    if not found or (strict and not report.complete):
        what = source if isinstance(source, (str, os.PathLike)) else "the mapping"
        raise ModelFileError(f"{place}: {what} does not fit the net, which is unchanged: {report.text()}")
    with np.errstate(over="ignore"):  # looked for in the next line
        converted = {ours: np.array(array, net.dtype, order="C") for ours, (_, array) in found.items()}
    for ours, array in converted.items():
        if not np.isfinite(array).all():
            raise ModelFileError(f"{place}: {loaded[ours]} contains NaN, or values outside the range of {net.dtype}")
    for ours, array in converted.items():
        (net.parameters if ours in net.parameters else net.buffers)[ours] = array
    return report


def tidied(name: str) -> str:
    """A name without the prefixes of wrappers and the suffixes of TensorFlow."""
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name.removesuffix(":0")


# ── Order of axes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def reordering(net: Net) -> dict[str, Callable[[NDArray[Any]], NDArray[Any] | None]]:
    """Our name → the function that converts an array of TensorFlow to our order of axes (None: the rank differs)."""
    _, shapes = infer(net.graph, [row.shape for row in net.graph.inputs], net.dtype)
    first = len(net.graph.inputs)
    flattened = {}  # value → (C, *spatial) of the image whose numbers it holds in a row
    made = {}
    for number, node in enumerate(net.graph.nodes, first):
        values = [value for value in node.arguments if value is not None]
        before = shapes[values[0]] if values else ()
        if node.op.name == "flatten" and len(before) > 2:
            flattened[number] = before[1:]
        elif len(values) == 1 and values[0] in flattened and shapes[number] == before and not node.owned:
            flattened[number] = flattened[values[0]]
        for owned in node.owned:
            if len(owned.shape) == 2 and node.op.name == "linear":
                made[owned.name] = linear_from_io(flattened.get(values[0]))
            elif len(owned.shape) > 2:
                made[owned.name] = conv_from_hwio(owned.shape)
    return made


def conv_from_hwio(shape: tuple[int, ...]) -> Callable[[NDArray[Any]], NDArray[Any] | None]:
    """(\\*kernel, I, O) → (O, I, \\*kernel); depthwise (\\*kernel, C, multiplier) → (C · multiplier, 1, \\*kernel)."""

    def turned(array: NDArray[Any]) -> NDArray[Any] | None:
        if array.ndim != len(shape):
            return None
        if shape[1] == 1 and array.shape[-2:] != (1, shape[0]):
            array = array.reshape(*array.shape[:-2], 1, -1)
        return np.moveaxis(array, (-1, -2), (0, 1))

    return turned


def linear_from_io(image: tuple[Any, ...] | None) -> Callable[[NDArray[Any]], NDArray[Any] | None]:
    """(inputs, outputs) → (outputs, inputs), the inputs of an ``image`` (C, \\*spatial) from channels last to channels first."""

    def turned(array: NDArray[Any]) -> NDArray[Any] | None:
        if array.ndim != 2:
            return None
        if image is None or len(image) == 1:
            return array.T
        if None in image or array.shape[0] != np.prod(image):
            return None
        return np.moveaxis(array.T.reshape(-1, *image[1:], image[0]), -1, 1).reshape(array.shape[1], -1)

    return turned


# ── The report ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class WeightsReport:
    """What :func:`load_weights` found.

    Parameters
    ----------
    loaded : mapping
        Our name → theirs.
    missing : tuple of (str, str)
        Our name, and theirs that was looked for.
    misfits : sequence of (str, str, tuple, tuple)
        Our name, theirs, our shape, theirs.
    unused : tuple of str
        Their names that nothing asked for.

    Examples
    --------
    >>> from cnncore.io import WeightsReport
    >>> report = WeightsReport({"conv.w": "features.0.weight"}, (("conv.b", "features.0.bias"),), [], ("classifier.weight",))
    >>> report.complete
    False
    >>> print(report.text())
    1 of 2 arrays loaded; missing: conv.b (features.0.bias); left over: classifier.weight
    """

    def __init__(
        self,
        loaded: Mapping[str, str],
        missing: tuple[tuple[str, Any], ...],
        misfits: Sequence[tuple[str, str, tuple[int, ...], tuple[int, ...]]],
        unused: tuple[str, ...],
    ) -> None:
        self.loaded, self.missing, self.misfits, self.unused = loaded, missing, misfits, unused

    @property
    def complete(self) -> bool:
        """Whether everything matched and nothing is unused."""
        return not (self.missing or self.misfits or self.unused)

    def text(self, most: int = SHOWN) -> str:
        """One sentence, with at most ``most`` names of each kind.

        Parameters
        ----------
        most : int, optional

        Returns
        -------
        str
        """
        count = len(self.loaded) + len(self.missing) + len(self.misfits)
        parts = [f"{len(self.loaded)} of {count} arrays loaded"]
        for what, entries in (
            ("missing", [f"{ours} ({theirs})" if theirs != ours else ours for ours, theirs in self.missing]),
            ("of another shape", [f"{ours} {want} ({theirs} {got})" for ours, theirs, want, got in self.misfits]),
            ("left over", list(self.unused)),
        ):
            if entries:
                more = f" and {len(entries) - most} more" if len(entries) > most else ""
                parts.append(f"{what}: {', '.join(entries[:most])}{more}")
        return "; ".join(parts)

    def __str__(self) -> str:
        return self.text(most=10**9)

    def __repr__(self) -> str:
        return f"<{self.text()}>"
