"""The net that a training starts from: a network by name, or a trained one, whose preprocessing is kept."""

from __future__ import annotations

import inspect
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import models
from ..checks import integer
from ..errors import ModelFileError, SettingError, unknown_name
from ..io import load_weights
from ..nets.model_file import NOT_A_MODEL
from ..nets.net import Net
from ..typing import FilePath, Seed
from ..vision.classify import read_model
from ..vision.preprocessing import Preprocessing, preset

__all__ = ["Start", "blocks", "first_net", "freeze_blocks", "network", "share_of_classes", "with_settings"]


@dataclass(frozen=True)
class Start:
    """The net that a training starts from, and the preprocessing of its images.

    Parameters
    ----------
    net : Net
    mean, std : list of float, optional
        Mean and standard deviation of pixels / 255, in the net's order of channels; None: those of the training images.
    order : {"rgb", "bgr"}, optional
        Order of the channels.
    size : (int, int), optional
        Height and width of the centre crop, or of the images that the net was trained on, if known.
    resize : int, optional
        Length of the shorter side before the crop, in pixels.
    """

    net: Net
    mean: list[float] | None = None
    std: list[float] | None = None
    order: str = "rgb"
    size: tuple[int, int] | None = None
    resize: int | None = None


def network(name: str, classes: int | None = None, channels: int | None = None, seed: Seed = 0) -> Net:
    """The network of that name in cnncore.models.NETWORKS, with these classes and channels where they can be chosen and
    are not None.

    Parameters
    ----------
    name : str
    classes, channels : int, optional
    seed : int or numpy.random.Generator, optional
        Seed of the initial weights.

    Returns
    -------
    Net

    Raises
    ------
    SettingError
        ``name`` is unknown.
    """
    if name not in models.NETWORKS:
        raise SettingError(unknown_name("train", "network", name, models.NETWORKS))
    return with_settings(models.NETWORKS[name], classes=classes, channels=channels, seed=seed)


def with_settings(function: Callable[..., Net], **settings: Any) -> Net:
    """The net that a function returns for those of ``settings`` that it takes and that are not None.

    Parameters
    ----------
    function : callable
    **settings
        Such as classes, channels, seed.

    Returns
    -------
    Net
    """
    takes = inspect.signature(function).parameters
    return function(**{name: value for name, value in settings.items() if name in takes and value is not None})


def first_net(
    init: FilePath | None,
    name: str,
    class_names: Sequence[str],
    channels: int,
    seed: Seed = 0,
    freeze: int = 0,
    preprocessing: str | None = None,
) -> Start:
    """The net that a training starts from, with the preprocessing of its images.

    Parameters
    ----------
    init : path, optional
        A model file, an ONNX file, the folder of a training, or weights by PyTorch's names for the network ``name``.
    name : str
        A network of cnncore.models: that of the weights, or without ``init`` that which is trained.
    class_names : sequence of str
        The classifier of ``init`` is replaced, unless the model names the same classes.
    channels : int
        Channels of the images; used by networks whose number of channels can be chosen.
    seed : int or numpy.random.Generator, optional
        Seed of new weights.
    freeze : int, optional
        The number of blocks (:func:`blocks`), from the input on, whose weights are not trained.
    preprocessing : str, optional
        A name in :data:`cnncore.vision.preprocessing.PRESETS`, which replaces the preprocessing in the file.

    Returns
    -------
    Start

    Raises
    ------
    ModelFileError
        The file cannot be read, or its net does not take one image.
    SettingError
        A name is unknown, or ``freeze`` is not below the number of blocks.
    """
    if init is None:
        return Start(freeze_blocks(network(name, len(class_names), channels, seed), freeze))
    net = _net_of(init, name)
    if len(net.graph.inputs) != 1 or len(net.graph.inputs[0].size) != 2:
        raise ModelFileError(f"{init}: the net must take one image, to be trained on images")
    if len(net.graph.outputs) > 1:
        net = net.with_outputs(net.graph.names[net.graph.outputs[0]])
    known = dict(net.metadata)
    if known.get("classes") != list(class_names):
        net = net.with_classes(len(class_names), seed)
    if preprocessing is not None:
        known |= preset(preprocessing)
        known = {entry: value for entry, value in known.items() if value is not None}
    takes = net.graph.inputs[0].channels or channels
    found = Preprocessing.from_metadata(str(init), known, takes)
    measured = known.keys() & {"mean", "std", "scale"}
    size = found.crop or (tuple(known["size"]) if _is_size(known.get("size")) else None)
    return Start(
        freeze_blocks(net, freeze),
        [float(m) for m in found.mean] if measured else None,
        [float(s) for s in found.std] if measured else None,
        found.order,
        size,
        found.resize,
    )


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(extent) is int and extent > 0 for extent in value)


def _net_of(init: FilePath, name: str) -> Net:
    """The net in a model file; for a file of weights alone, the network ``name`` with these."""
    if pathlib.Path(init).suffix.lower() != ".npz":
        try:
            return read_model(init)[0]
        except ModelFileError as error:
            if NOT_A_MODEL not in str(error):
                raise
    net = network(name)
    try:
        load_weights(net, init, names="torch", strict=True)
    except ModelFileError as error:
        raise ModelFileError(
            f"{init}: weights that are not those of {name}, or not by PyTorch's names; name their network, as in --network "
            f"resnet18 ({error})"
        ) from None
    return net


# ── Blocks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def blocks(net: Net) -> dict[str, list[str]]:
    """The blocks of a net that have parameters, from the input on: name → names of the parameters.

    The nodes of a block have the first part of their path in common: "inception_3a" of "inception_3a/conv". A block that
    contains more than half of all such nodes, "features" of "features/0/conv", counts as the blocks in it. Normalisation
    belongs to the block before it.

    Parameters
    ----------
    net : Net

    Returns
    -------
    dict of str to list of str

    Examples
    --------
    >>> import cnncore
    >>> list(blocks(cnncore.models.small_inception(seed=None)))
    ['stem', 'inception_1', 'inception_2', 'inception_3', 'inception_4', 'classifier']
    """
    rows, met = [], set()  # a shared parameter belongs to the first block that uses it
    for node in net.graph.nodes:
        names = [row.name for row in node.owned if row.trained and row.name not in met]
        met.update(names)
        rows += [(node.path.split("/"), names)] * bool(names)
    return _blocks(rows, 0, len(rows))


def _blocks(rows: Sequence[tuple[list[str], list[str]]], depth: int, total: int) -> dict[str, list[str]]:
    """The blocks of nodes, each (path, names of parameters), which share their path up to ``depth``."""
    groups: dict[str, list[tuple[list[str], list[str]]]] = {}
    for path, names in rows:
        block = "/".join(path[: depth + 1])
        before = block.removesuffix("_norm")
        groups.setdefault(before if before in groups else block, []).append((path, names))
    found: dict[str, list[str]] = {}
    for block, inside in groups.items():
        parts = _blocks(inside, depth + 1, total) if any(len(path) > depth + 1 for path, _ in inside) else {}
        if 2 * len(inside) > total and (len(parts) > 2 or (len(parts) == 2 and len(groups) == 1)):
            found |= parts
        else:
            found[block] = [name for _, names in inside for name in names]
    return found


def freeze_blocks(net: Net, count: int) -> Net:
    """A net whose first ``count`` blocks are not trained, by :meth:`cnncore.nets.net.Net.with_frozen`.

    Parameters
    ----------
    net : Net
    count : int

    Returns
    -------
    Net
        ``net`` itself where ``count`` is 0.

    Raises
    ------
    SettingError
        ``count`` is not below the number of blocks.
    """
    count = integer("train", "freeze", count, 0)
    if not count:
        return net
    found = blocks(net)
    if count >= len(found):
        raise SettingError(
            f"train: freeze must be below the number of blocks, {len(found)} ({', '.join(found)}), got {count}"
        )
    names = [name for block in list(found)[:count] for name in found[block]]
    return net.with_frozen(names)


def share_of_classes(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Weights of classes by the inverse of their number of images; their mean over the images is 1.

    Parameters
    ----------
    counts : int array (classes,)

    Returns
    -------
    float64 array (classes,)

    Examples
    --------
    >>> share_of_classes([30, 10]).round(3)
    array([0.667, 2.   ])
    """
    counts = np.maximum(np.asarray(counts, np.float64), 1)
    return counts.sum() / (len(counts) * counts)
