"""What the explorers compute: questions and answers are plain data, so that a page or a notebook can ask.

A page asks the engine in the browser, a notebook its kernel. Numbers that JSON lacks are text: "∞", "−∞", "NaN".
"""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import CnnError, SettingError, unknown_name
from ..nets.build import Graph
from ..nets.net import Net
from ..operators.registry import GRIDS, GROUPS, OPS
from .switches import Switches

__all__ = ["Answers"]

GRID = GRIDS["pool"]
SCHEMES = ("kernel", "adaptive", "global", "pyramid", "fractional", "s3")
SHOWN = 16  # images whose classification is shown one by one


class Answers:
    """Answers to what explorers ask.

    Parameters
    ----------
    switches : Switches, optional
        The net of the explorer of branches; the other explorers need none.

    Examples
    --------
    >>> import cnncore, numpy as np
    >>> from cnncore.explorers import Answers, Switches
    >>> images = np.eye(28, dtype="f")[None, None].repeat(2, 0)
    >>> answers = Answers(Switches(cnncore.models.small_inception(seed=0), images, [3, 3], training=(images, [3, 3])))
    >>> shown = answers.branches(off=[("inception_1", "pool")], image=1)
    >>> shown["image"], shown["label"], shown["modules"][0]["branches"][3]["on"], len(shown["probabilities"])
    (1, 3, False, 10)
    >>> answers.accuracy()["count"], answers.train()["steps"], answers.train(restart=True)
    (2, 1, {'steps': 0, 'loss': None})
    >>> answers.net().steps
    0
    >>> Answers().answer("poling")["error"]
    "explorers: unknown question 'poling'; did you mean 'pooling'? ..."
    """

    def __init__(self, switches: Switches | None = None) -> None:
        self.switches = switches
        self.questions: dict[str, Callable[..., dict[str, Any]]] = {
            "choices": choices,
            "pooling": pooling,
            "convolution": convolution,
            "activation": activation,
            "branches": self.branches,
            "accuracy": self.accuracy,
            "train": self.train,
        }

    def answer(self, question: str, **request: Any) -> dict[str, Any]:
        """The answer to a question; an error of cnncore is an answer, too: {"error": its text}.

        Parameters
        ----------
        question : str
            "choices", "pooling", "convolution", "activation", "branches", "accuracy" or "train".
        **request
            What the question needs.

        Returns
        -------
        dict
            Plain data.

        Raises
        ------
        TypeError
            The request lacks something that the question needs, or has more.
        """
        try:
            if question not in self.questions:
                raise SettingError(unknown_name("explorers", "question", question, self.questions, "Questions are"))
            return self.questions[question](**request)
        except CnnError as error:
            return {"error": str(error)}

    def net(self) -> Switches:
        """The net of the explorer of branches.

        Returns
        -------
        Switches

        Raises
        ------
        SettingError
            No net was given.
        """
        if self.switches is None:
            raise SettingError("explorers: the explorer of branches needs a trained net; none was given")
        return self.switches

    def branches(self, off: Sequence[Sequence[str]] = (), image: int = 0) -> dict[str, Any]:
        """The net's modules and branches, and what it makes of one image while some branches are off.

        Parameters
        ----------
        off : sequence of (str, str), optional
            Module and branch of each that is off.
        image : int, default 0
            Number of the image.

        Returns
        -------
        dict
            "modules" as :meth:`Switches.modules` gives them, "probabilities", "classes", "label", "pixels" and so on.

        Raises
        ------
        SettingError
            No net was given.
        GraphError
            There is no such branch.
        """
        net = self.net()
        image = min(max(int(image), 0), len(net.images) - 1)
        net.switch([(str(module), str(branch)) for module, branch in off])
        return {
            "modules": net.modules(),
            "probabilities": plain(net.probabilities(net.images[image : image + 1])[0]),
            "classes": list(net.classes),
            "label": int(net.labels[image]),
            "image": image,
            "images": min(len(net.images), SHOWN),
            "trains": net.training is not None,
            "pixels": plain(net.pixels[image]),
        }

    def accuracy(self, off: Sequence[Sequence[str]] = (), count: int = 100) -> dict[str, Any]:
        """The share of the first ``count`` images that are classified correctly while some branches are off.

        Parameters
        ----------
        off : sequence of (str, str), optional
            Module and branch of each that is off.
        count : int, default 100
            Number of images.

        Returns
        -------
        dict
            "right", how many are classified correctly, and "count".

        Raises
        ------
        SettingError
            No net was given.
        GraphError
            There is no such branch.
        """
        net = self.net()
        net.switch([(str(module), str(branch)) for module, branch in off])
        x, labels = net.images[:count], net.labels[:count]
        right = int(np.count_nonzero(net.probabilities(x).argmax(axis=1) == labels))
        return {"right": right, "count": len(labels)}

    def train(self, off: Sequence[Sequence[str]] = (), restart: bool = False) -> dict[str, Any]:
        """One step of training without the branches that are off.

        Parameters
        ----------
        off : sequence of (str, str), optional
            Module and branch of each that is off.
        restart : bool, default False
            Put the first weights back instead.

        Returns
        -------
        dict
            "steps" and "loss".

        Raises
        ------
        SettingError
            No net was given.
        GraphError
            There is no such branch.
        DataError
            There are no images to train on.
        """
        net = self.net()
        net.switch([(str(module), str(branch)) for module, branch in off])
        if restart:
            net.restart()
            return {"steps": 0, "loss": None}
        return {"steps": net.steps + 1, "loss": net.step()}


def plain(array: Any) -> Any:
    """An array as lists of numbers with four digits; numbers that JSON lacks are text."""
    numbers = np.asarray(array, float)
    rounded = np.round(numbers, 4).astype(object)
    for text, where in (("NaN", np.isnan(numbers)), ("∞", numbers == np.inf), ("−∞", numbers == -np.inf)):
        rounded[where] = text
    return rounded.tolist()


def choices() -> dict[str, Any]:
    """What the menus offer: strategies and the windows that each combines with, and activations with their formula."""
    windows = {s: [w for w in SCHEMES if (s, w) in GRID.pairs] for s in GRID.strategies}
    activations = [op for op in GROUPS["activation"] if lone(op) and one_to_one(op)]
    return {
        "strategies": windows,
        "activations": {op.name: inspect.cleandoc(op.formula) for op in activations},
    }


def lone(op: Any) -> bool:
    """Whether an operator needs no array but x."""
    return sum(not array.optional for array in op.arrays) == 1


@functools.cache
def one_to_one(op: Any) -> bool:
    """Whether an activation maps each number by itself, with its default settings."""
    x = np.linspace(-1, 2, 6).reshape(1, 2, 3)
    try:
        return bool(np.array_equal(op(x)[:, :1, :1], op(x[:, :1, :1])) and op(x).shape == x.shape)
    except CnnError:
        return False


def one_hot(y: Any, at: Sequence[int]) -> tuple[Any, tuple[int, ...]]:
    """dy = 1 at a place of y, moved inside where y has no such place, and 0 elsewhere; and that place."""
    place = tuple(min(max(int(i), 0), extent - 1) for i, extent in zip(at, y.shape[2:], strict=True))
    dy = np.zeros_like(y)
    dy[(0, 0, *place)] = 1
    return dy, place


def pooling(
    x: Sequence[Sequence[float]], strategy: str, scheme: str, settings: dict[str, Any], at: Sequence[int]
) -> dict[str, Any]:
    """y of a pooling, the window of one of its numbers, and the gradient of x for dy = 1 there.

    What a strategy learns (a gate, an exponent) has its initial value.
    """
    if (strategy, scheme) not in GRID.pairs:
        raise SettingError(f"pooling: {strategy} has no {scheme} windows; choose other windows or another strategy")
    op, image = GRID.pairs[strategy, scheme], np.array(x, float)[None, None]
    y, backward = pooling_net(strategy, scheme, image.shape[2:], **settings_of(op, settings)).with_backward(image)
    shown = y.reshape((1, 1, *(y.shape[2:] if y.ndim == 4 else (1, y.shape[1]))))
    dy, place = one_hot(shown, at)
    dy = dy.reshape(y.shape)
    mean = GRID.pairs["avg", scheme]
    window = mean.with_backward(image, **settings_of(mean, settings))[1](dy) != 0
    return {
        "y": plain(shown[0, 0]),
        "dx": plain(backward(dy)[0, 0]),
        "window": window[0, 0].tolist(),
        "at": place,
        "formula": inspect.cleandoc(op.formula),
        "call": call(op, settings),
    }


@functools.lru_cache(maxsize=64)
def pooling_net(strategy: str, scheme: str, extents: tuple[int, ...], **settings: Any) -> Net:
    """A net of one pooling, which owns what the strategy learns."""
    g = Graph()
    g.output(g.pool(g.input(channels=1, size=extents), strategy=strategy, windows=scheme, **settings))
    return g.build(seed=0, dtype="float64")


def settings_of(op: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that an operator has."""
    return {name: value for name, value in settings.items() if name in op.settings}


def call(op: Any, settings: dict[str, Any]) -> str:
    """The call that computes the same in Python."""
    names = [array.name for array in op.arrays if not array.optional]
    return f"cnncore.{op.name}({', '.join([*names, *(f'{k}={v!r}' for k, v in settings_of(op, settings).items())])})"


def convolution(
    x: Sequence[Sequence[float]],
    w: Sequence[Sequence[float]],
    transposed: bool,
    settings: dict[str, Any],
    at: Sequence[int],
) -> dict[str, Any]:
    """y of a convolution, and for dy = 1 at one of its numbers both gradients: that of x, and that of the kernel."""
    op = OPS["conv_transpose" if transposed else "conv"]
    image, kernel = (np.array(a, float)[None, None] for a in (x, w))
    used = settings_of(op, settings)
    y, backward = op.with_backward(image, kernel, **used)
    dy, place = one_hot(y, at)
    dx, dw = backward(dy)[:2]
    # On which x it depends, whatever the weights: the gradient with a kernel of ones.
    window = op.with_backward(image, np.ones_like(kernel), **used)[1](dy)[0] != 0
    # y is linear in w, so that its gradient dw holds the number of x that each weight is multiplied by.
    factors = [(float(a), float(b)) for a, b in zip(kernel.ravel(), dw.ravel(), strict=True)]
    return {
        "y": plain(y[0, 0]),
        "dx": plain(dx[0, 0]),
        "dw": plain(dw[0, 0]),
        "window": window[0, 0].tolist(),
        "at": place,
        "formula": inspect.cleandoc(op.formula),
        "sum": [plain(pair) for pair in factors if all(pair)],
        "call": call(op, settings),
    }


def activation(name: str, at: float, low: float = -4.0, high: float = 4.0) -> dict[str, Any]:
    """The curve of an activation and of its slope, and both at one x."""
    if name not in OPS:
        raise SettingError(unknown_name("activation", "operator", name, choices()["activations"], "Operators are"))
    op, xs = OPS[name], np.linspace(low, high, 161)
    y, backward = op.with_backward(np.append(xs, float(at))[None, None])
    slope = backward(np.ones_like(y))
    return {
        "x": plain(xs),
        "y": plain(y[0, 0, :-1]),
        "slope": plain(slope[0, 0, :-1]),
        "at": plain([at, y[0, 0, -1], slope[0, 0, -1]]),
        "formula": re.sub(r"\s*\n\s*", "; ", inspect.cleandoc(op.formula).strip()),
    }
