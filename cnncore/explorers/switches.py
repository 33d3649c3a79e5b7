"""A net whose branches can be switched off and on."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, GraphError, unknown_name
from ..nets.net import Net
from ..operators.registry import GROUPS
from ..train import Adam, Trainer

__all__ = ["Switches"]

KINDS = {r"conv(\d+x\d+)": lambda found: found[1].replace("x", "×"), r"pool_project|pool": lambda found: "pool"}


class Switches:
    """A classifier whose branches, those of its concatenations, can be switched off and on again.

    A branch is off when the last weights before the concatenation are zero, biases included: it then contributes zeros,
    for every image. Training leaves it off.

    Parameters
    ----------
    net : Net
        A net that was trained; its parameters are replaced while branches are off.
    images : array_like
        Images as the net takes them, (N, C, H, W).
    labels : array_like
        Their classes, as numbers.
    classes : sequence of str, optional
        Names of the classes; default: their numbers.
    pixels : array_like, optional
        The images as they are shown, (N, H, W), bright where the number is large; default: the mean over channels.
    training : pair of array_like, optional
        Other images and their labels, on which :meth:`step` continues training.
    rate : float, default 0.001
        The learning rate of Adam there.

    Raises
    ------
    GraphError
        The net has no concatenation of branches that end in layers with weights.

    Examples
    --------
    >>> import cnncore, numpy as np
    >>> net = cnncore.models.small_inception(seed=0)
    >>> switches = Switches(net, np.ones((2, 1, 28, 28), np.float32), [3, 5])
    >>> [module["name"] for module in switches.modules()]
    ['inception_1', 'inception_2', 'inception_3', 'inception_4']
    >>> [branch["name"] for branch in switches.modules()[0]["branches"]]
    ['1×1', '3×3', '5×5', 'pool']
    >>> switches.switch([("inception_1", "3×3")])
    >>> bool(net.values(switches.images, names=["inception_1/concat"])["inception_1/concat"][:, 16:48].any())
    False
    >>> switches.probabilities(switches.images).shape
    (2, 10)
    """

    def __init__(
        self,
        net: Net,
        images: ArrayLike,
        labels: ArrayLike,
        classes: Sequence[str] | None = None,
        pixels: ArrayLike | None = None,
        training: tuple[ArrayLike, ArrayLike] | None = None,
        rate: float = 0.001,
    ) -> None:
        self.net = net
        self.images: NDArray[Any] = np.asarray(images, net.dtype)
        self.labels: NDArray[Any] = np.asarray(labels)
        self.pixels: NDArray[Any] = self.images.mean(axis=1) if pixels is None else np.asarray(pixels)
        self.classes = tuple(classes) if classes is not None else tuple(map(str, range(int(self.labels.max()) + 1)))
        self.training = None if training is None else (np.asarray(training[0], net.dtype), np.asarray(training[1]))
        self.rate = rate
        self.branches = branches_of(net)
        if not self.branches:
            raise GraphError("Switches: the net has no concatenation of branches that end in layers with weights")
        self.off: set[tuple[str, str]] = set()
        self.first = {name: net.parameters[name].copy() for name in net.parameters}
        self.kept: dict[str, NDArray[Any]] = {}
        self.steps = 0
        self.trainer: Trainer | None = None

    def modules(self) -> list[dict[str, Any]]:
        """Name, and of every branch: name, whether it is on, channels, and the root mean square of the weights that read it.

        Returns
        -------
        list of dict
            For each module "name" and "branches", and for each of these "name", "on", "channels" and "read", the norm of the
            weights that read it, per channel.
        """
        return [
            {
                "name": module,
                "branches": [
                    {
                        "name": name,
                        "on": (module, name) not in self.off,
                        "channels": branch["channels"].stop - branch["channels"].start,
                        "read": read_strength(self.net, branch),
                    }
                    for name, branch in branches.items()
                ],
            }
            for module, branches in self.branches.items()
        ]

    def switch(self, off: Iterable[tuple[str, str]]) -> None:
        """Switch these branches off, (module, branch), and all others on.

        Parameters
        ----------
        off : iterable of (str, str)
            Module and branch of each that is off.

        Raises
        ------
        GraphError
            There is no such branch.
        """
        off = set(off)
        for module, branch in off:
            names = self.branches.get(module)
            if names is None or branch not in names:
                known = [f"{m}, {b}" for m, bs in self.branches.items() for b in bs]
                raise GraphError(unknown_name("Switches", "branch", f"{module}, {branch}", known, "Branches are"))
        parameters = self.net.parameters
        for module, branch in self.off - off:
            for name in self.branches[module][branch]["arrays"]:
                parameters[name] = self.kept.pop(name)
                self.net.frozen.discard(name)
        for module, branch in off - self.off:
            for name in self.branches[module][branch]["arrays"]:
                self.kept[name] = parameters[name].copy()
                parameters[name] = np.zeros_like(self.kept[name])
                self.net.frozen.add(name)
        if off != self.off:
            self.trainer = None  # its averages belong to other parameters
        self.off = off

    def probabilities(self, x: NDArray[Any]) -> NDArray[Any]:
        """The softmax of the net's scores, in float64.

        Parameters
        ----------
        x : array (N, C, H, W)
            Images as the net takes them.

        Returns
        -------
        float64 array (N, classes)
        """
        scores = np.asarray(self.net(x), float)
        if self.net.output_kind == "probabilities":
            return scores
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def step(self, batch: int = 32) -> float:
        """One step of training on the next images, without the branches that are off.

        Parameters
        ----------
        batch : int, default 32
            Number of images.

        Returns
        -------
        float
            The loss before the step.

        Raises
        ------
        DataError
            There are no images to train on.

        Examples
        --------
        >>> import cnncore, numpy as np
        >>> images, labels = np.eye(28, dtype="f")[None, None].repeat(4, 0), np.array([3, 3, 3, 3])
        >>> switches = Switches(cnncore.models.small_inception(seed=0), images, labels, training=(images, labels))
        >>> before = switches.step()
        >>> bool(switches.step() < before), switches.steps
        (True, 2)
        """
        if self.training is None:
            raise DataError("Switches: no images to train on; give training=(images, labels)")
        if self.trainer is None:
            self.trainer = Trainer(self.net, Adam(self.rate), loss="softmax_cross_entropy")
        images, labels = self.training
        chosen = np.arange(self.steps * batch, (self.steps + 1) * batch) % len(images)
        loss = self.trainer.step(images[chosen], labels[chosen])
        self.steps += 1
        return float(loss)

    def restart(self) -> None:
        """Put the first weights back; what is off stays off.

        Examples
        --------
        >>> import cnncore, numpy as np
        >>> images, labels = np.eye(28, dtype="f")[None, None].repeat(4, 0), np.array([3, 3, 3, 3])
        >>> switches = Switches(cnncore.models.small_inception(seed=0), images, labels, training=(images, labels))
        >>> before = switches.step()
        >>> switches.restart()
        >>> bool(switches.step() == before)
        True
        """
        off, self.steps, self.trainer = self.off, 0, None
        self.switch(())
        for name, array in self.first.items():
            self.net.parameters[name] = array.copy()
        self.switch(off)


def branches_of(net: Net) -> dict[str, dict[str, dict[str, Any]]]:
    """Module → branch → its last arrays, its channels in the concatenation, and the weights that read these."""
    graph, found = net.graph, {}
    for number, node in enumerate(graph.nodes):
        if node.op.name != "concat" or len(node.arguments) < 2:
            continue
        owners = [last for value in node.arguments if value is not None and (last := owner(graph, value)) is not None]
        if len(owners) < len(node.arguments):
            continue
        module = node.path.rsplit("/", 1)[0]
        arrays = [[a.name for a in owned.owned if a.name in net.parameters] for owned in owners]
        widths = [len(net.parameters[names[-1]]) for names in arrays]
        ends = np.cumsum(widths)
        reading = readers(graph, number + len(graph.inputs))
        found[module] = {
            label(owned.path, module): {
                "arrays": names,
                "channels": slice(int(end) - width, int(end)),
                "readers": reading,
            }
            for owned, names, width, end in zip(owners, arrays, widths, ends, strict=True)
        }
    return found


def owner(graph: Any, value: int) -> Any:
    """The node whose weights a value ends in, past activations that leave 0 at 0; None where there is no such node."""
    while value >= len(graph.inputs):
        node = graph.nodes[value - len(graph.inputs)]
        if node.owned:
            scales = node.op.name in ("conv", "linear") or node.op.group == "layers"
            return node if scales and node.owned[-1].name.endswith((".w", ".b")) else None
        if node.op not in GROUPS["activation"] or np.any(node.op(np.zeros((1, 1, 1)), **node.settings)):
            return None
        value = node.arguments[0]
    return None


def readers(graph: Any, value: int) -> list[str]:
    """Names of the weights of the convolutions that read a value, directly or past poolings and activations."""
    names = []
    for number, node in enumerate(graph.nodes, start=len(graph.inputs)):
        if value not in node.arguments:
            continue
        if node.op.name == "conv":
            names += [array.name for array in node.owned if array.name.endswith(".w")]
        elif not node.owned and node.op.group in ("activation", "pooling"):
            names += readers(graph, number)
    return names


def read_strength(net: Net, branch: dict[str, Any]) -> float:
    """The norm of the weights that read a branch, per channel."""
    weights = [net.parameters[name][:, branch["channels"]] for name in branch["readers"]]
    channels = branch["channels"].stop - branch["channels"].start
    return round(float(np.sqrt(sum((w**2).sum() for w in weights) / channels)), 4)


def label(path: str, module: str) -> str:
    """A short name of a branch: "3×3" for inception_1/conv3x3_norm."""
    name = path.removeprefix(module).strip("/")
    for pattern, text in KINDS.items():
        if matched := re.match(pattern, name):
            return text(matched)
    return name
