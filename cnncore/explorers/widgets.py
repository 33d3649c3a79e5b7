"""The explorers as widgets of a notebook, by anywidget."""

import importlib.resources
import re
from typing import Any

from .answers import Answers
from .switches import Switches

__all__ = ["activation", "branches", "convolution", "pooling"]

# A widget's script: what it asks goes to the kernel as a message, and what it shows comes back as one.
MESSAGES = """
export default {
  async render({ model, el }) {
    const waiting = new Map();
    model.on("msg:custom", ({ number, answer }) => {
      waiting.get(number)?.(answer);
      waiting.delete(number);
    });
    let last = 0;
    const ask = (question, request = {}) => new Promise((resolve) => {
      waiting.set(++last, resolve);
      model.send({ number: last, question, request });
    });
    el.classList.add("explore");
    await explore(el, ask);
  },
};
"""


def pooling() -> Any:
    """Any pooling strategy on any windows: x, y, and the gradient of x for the y that is chosen.

    Returns
    -------
    anywidget.AnyWidget
        Shown by a notebook when it is the value of a cell.

    Raises
    ------
    ModuleNotFoundError
        When anywidget is not installed (extra: ``notebook``).

    Examples
    --------
    >>> import cnncore
    >>> cnncore.explorers.pooling()                      # doctest: +SKIP
    """
    return widget("pooling", Answers())


def convolution() -> Any:
    """A convolution, also a transposed one: x, w, y, and both gradients for the y that is chosen.

    Returns
    -------
    anywidget.AnyWidget
        Shown by a notebook when it is the value of a cell.

    Raises
    ------
    ModuleNotFoundError
        When anywidget is not installed (extra: ``notebook``).

    Examples
    --------
    >>> import cnncore
    >>> cnncore.explorers.convolution()                  # doctest: +SKIP
    """
    return widget("convolution", Answers())


def activation() -> Any:
    """The curve of an activation and its slope, at an x that is dragged.

    Returns
    -------
    anywidget.AnyWidget
        Shown by a notebook when it is the value of a cell.

    Raises
    ------
    ModuleNotFoundError
        When anywidget is not installed (extra: ``notebook``).

    Examples
    --------
    >>> import cnncore
    >>> cnncore.explorers.activation()                   # doctest: +SKIP
    """
    return widget("activation", Answers())


def branches(switches: Switches) -> Any:
    """The branches of a trained net, which are switched off and on: its answers, its accuracy, and training without them.

    Parameters
    ----------
    switches : Switches
        The net, with images to classify and, if it is to be trained, others.

    Returns
    -------
    anywidget.AnyWidget
        Shown by a notebook when it is the value of a cell.

    Raises
    ------
    ModuleNotFoundError
        When anywidget is not installed (extra: ``notebook``).

    Examples
    --------
    >>> import cnncore
    >>> from cnncore.train.data import digits_split
    >>> train, held_out = digits_split()
    >>> x, labels = next(iter(held_out.batches(200)))
    >>> net = cnncore.load("digits.cnncore")                                                    # doctest: +SKIP
    >>> cnncore.explorers.branches(cnncore.explorers.Switches(net, x, labels))                # doctest: +SKIP
    """
    return widget("branches", Answers(switches))


def widget(name: str, answers: Answers) -> Any:
    """An explorer, whose questions ``answers`` answers."""
    try:
        import anywidget
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "explorers in notebooks need anywidget, which is not installed: pip install 'cnncore[notebook]'"
        ) from error
    made = type("Explorer", (anywidget.AnyWidget,), {"_esm": script(name), "_css": text("explorers.css")})()

    def reply(widget: Any, content: dict[str, Any], buffers: Any) -> None:
        answer = answers.answer(content["question"], **content["request"])
        widget.send({"number": content["number"], "answer": answer})

    made.on_msg(reply)
    return made


def script(name: str) -> str:
    """An explorer and what it imports as one module, which is what a widget takes."""
    parts, explorer = (text(f"{module}.mjs") for module in ("parts", name))
    joined = parts + re.sub(r'^import [^;]*from "\./parts\.mjs";$', "", explorer, flags=re.MULTILINE)
    return re.sub(r"^export ", "", joined, flags=re.MULTILINE) + MESSAGES


def text(name: str) -> str:
    """A file of the folder scripts."""
    return importlib.resources.files(__package__).joinpath("scripts", name).read_text(encoding="utf-8")
