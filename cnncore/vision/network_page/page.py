"""The page: what is known of a network and an image as data, in one HTML file with its style and script.

The file needs no network and no other file. The graph and the evidence stand in the HTML; what a node shows when it is
clicked is drawn by ``page.js`` from the data, JSON in the same file.
"""

from __future__ import annotations

import importlib.resources
import inspect
import json
import pathlib
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import GraphError, ShapeError
from ...io.files import write_atomically
from ...nets import drawing
from ...nets.net import Net
from ...typing import FilePath
from .. import attribution, explain, images
from .arithmetic import cell
from .maps import rounded, sprite

__all__ = ["page", "write_page"]

MOST_MAPS = 24  # of a node
MOST_PIXELS = 16_000_000  # of all maps together; half of a page of 20 MB
LEAST_MAPS = 4
MOST_KERNELS = 12  # output channels whose weights are shown, and input channels of each
MOST_LONE_KERNELS = 64  # output channels, where there is one input channel
MOST_VALUES = 1000  # of an output without maps
MOST_ANSWERS = 5
CELL_WORK = 150_000_000  # multiply-adds that the arithmetic of a node's outputs may cost
MOST_CELLS, LEAST_CELLS = 600, 3  # outputs whose arithmetic is shown: of the page, and of a node
COLOR_STOPS = 33
PICTURE = 224  # CSS pixels


def write_page(
    path: FilePath,
    net: Net,
    x: NDArray[Any],
    pixels: NDArray[Any],
    target: int | None = None,
    classes: Sequence[str] | None = None,
    title: str = "network",
) -> None:
    """Write :func:`page` to a file.

    Parameters
    ----------
    path : path
        The HTML file.
    net : Net
    x : array (1, C, H, W)
    pixels : uint8 array (H, W) or (H, W, 3)
    target : int, optional
    classes : sequence of str, optional
    title : str, optional
        All as for :func:`page`.

    Raises
    ------
    GraphError, SettingError, ShapeError
        As :func:`page`.
    DataError
        The file cannot be written.
    """
    write_atomically(pathlib.Path(path), page(net, x, pixels, target, classes, title).encode())


def page(
    net: Net,
    x: NDArray[Any],
    pixels: NDArray[Any],
    target: int | None = None,
    classes: Sequence[str] | None = None,
    title: str = "network",
) -> str:
    """A page that explains what ``net`` makes of one image: every node forward and backward, and where the evidence is.

    Parameters
    ----------
    net : Net
        With one input. Its first output has class scores, or maps of them.
    x : array (1, C, H, W)
        The image as the net takes it.
    pixels : uint8 array (H, W) or (H, W, 3)
        The image as it is shown.
    target : int, optional
        The class (channel of the output) whose score is traced back; by default the largest.
    classes : sequence of str, optional
        Names of the classes.
    title : str, optional
        What the page calls the net and the image.

    Returns
    -------
    str
        An HTML document.

    Raises
    ------
    GraphError
        The net does not take one image, or its output has no gradient.
    ShapeError
        ``x`` is not one image.
    SettingError
        There is no class ``target``.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> net = cnncore.models.lenet(seed=0)
    >>> image = np.zeros((32, 32), np.uint8)
    >>> text = page(net, np.zeros((1, 1, 32, 32), np.float32), image)
    >>> text.startswith("<!DOCTYPE html>"), "http" in text.replace("http://www.w3.org/2000/svg", "")
    (True, False)
    """
    explained = Explained(net, x, pixels, target, classes, title)
    data = json.dumps(explained.data(), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    here = importlib.resources.files(__package__)
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{explained.body()}\n"
        f'<script type="application/json" id="data">{data}</script>\n<script>\n{script}</script>\n</body>\n</html>\n'
    )


class Explained:
    """One image traced through one net: what the page shows of it. The parameters are those of :func:`page`."""

    def __init__(
        self,
        net: Net,
        x: NDArray[Any],
        pixels: NDArray[Any],
        target: int | None,
        classes: Sequence[str] | None,
        title: str,
    ) -> None:
        if len(net.graph.inputs) != 1 or len(net.graph.inputs[0].size) != 2:
            raise GraphError(f"page: the net must take one image (N, C, H, W); it takes {len(net.graph.inputs)} inputs")
        if np.ndim(x) != 4 or len(x) != 1:
            raise ShapeError(f"page: x has shape {np.shape(x)}; expected one image, (1, C, H, W)")
        self.net, self.pixels, self.title = net, pixels, title
        self.traced = attribution.Scores(net, x, target=target, place="page")
        self.trace, self.structure, self.score_value = self.traced.trace, net.graph, self.traced.value
        self.target, self.scores = int(self.traced.targets[0]), self.traced.scores[0]
        named = classes is not None and len(classes) == len(self.scores)
        self.classes = [str(name) for name in classes or ()] if named else [str(k) for k in range(len(self.scores))]
        self.gradients = self.traced.gradients()

    # ── Data ──

    def data(self) -> dict[str, Any]:
        """What the script draws from."""
        height, width = self.pixels.shape[:2]
        stops = np.linspace(0, 255, COLOR_STOPS).round().astype(int)
        return {
            "image": {"src": images.png_data_uri(self.pixels), "width": width, "height": height},
            "input": list(self.trace.values[0].shape),
            "score": {"name": self.score_name(), "value": rounded(self.scores[self.target])},
            "score_node": self.score_value,
            "classes": self.classes,
            "colors": images.COLORS[stops].tolist(),
            "nodes": [self.node_data(value) for value in range(len(self.trace.values))],
        }

    def score_name(self) -> str:
        """The score that gradients are of, in words."""
        kind = (
            "score" if self.score_value != self.structure.outputs[0] or self.net.output_kind == "logits" else "output"
        )
        return f"{kind} of class {self.classes[self.target]}"

    def node_data(self, value: int) -> dict[str, Any]:
        """What is known of one value: its node, its maps, its gradient, the arithmetic of some outputs."""
        y, gradient = self.trace.values[value], self.gradients[value]
        number = value - self.trace.inputs
        found: dict[str, Any] = {"id": value, "path": self.structure.names[value], "shape": list(y.shape[1:])}
        if number >= 0:
            node = self.structure.nodes[number]
            found |= {
                "operator": node.op.name,
                "settings": {name: plain(v) for name, v in node.given.items()},
                "summary": node.op.summary,
                "formula": unwrapped(node.op.formula),
                "backward": unwrapped(node.op.gradient),
                "inputs": [v for v in node.arguments if v is not None],
                "parameters": sum(int(np.prod(row.shape)) for row in node.owned if row.trained),
            }
            weights = self.weights(number)
            if weights:
                found["weights"] = weights
        if self.structure.roles[value] != "real" or not np.isfinite(y).all():
            return found
        if y.ndim == 4:
            found |= self.maps(value, y, gradient)
        elif y.ndim == 2:
            found |= self.numbers(value, y, gradient)
        return found

    def maps(self, value: int, y: NDArray[Any], gradient: NDArray[Any] | None) -> dict[str, Any]:
        """Maps, gradient maps, the map of their product, and one output of each map."""
        channels = self.chosen_channels(y[0], gradient)
        weight = np.abs(y[0]) if gradient is None else np.abs(y[0] * gradient[0])
        found: dict[str, Any] = {"channels": channels, "maps": sprite(y[0, channels])}
        if gradient is not None:
            found["gradients"] = sprite(gradient[0, channels])
            cam = attribution.weighted_by_gradients(y, gradient)
            found["cam"] = sprite(cam) if cam.any() else None
        number = value - self.trace.inputs
        places = [np.unravel_index(int(weight[c].argmax()), weight[c].shape) for c in channels]
        cells = [(c, int(i), int(j)) for c, (i, j) in zip(channels, places, strict=True)]
        if number >= 0:
            call = self.trace.calls[number]
            work = max(self.structure.nodes[number].op.implementation.multiply_adds(call), y.size)
            most = max(LEAST_CELLS, MOST_CELLS // len(self.trace.values))
            strongest = sorted(cells, key=lambda at: -float(weight[at]))[: max(1, min(most, CELL_WORK // work))]
            found["cells"] = [self.cell_data(number, at, gradient) for at in sorted(strongest)]
        return found

    def cell_data(self, number: int, at: tuple[int, int, int], gradient: NDArray[Any] | None) -> dict[str, Any]:
        """The arithmetic of one output, and its receptive field in the image: [top, left, bottom, right]."""
        found = cell(self.trace, number, at, gradient)
        box = self.trace.receptive_box(self.structure.nodes[number].path, at[1:])
        if box is not None:
            found["box"] = [box[0][0], box[1][0], box[0][1], box[1][1]]
        return found

    def chosen_channels(self, y: NDArray[Any], gradient: NDArray[Any] | None) -> list[int]:
        """The channels that matter most for the score: largest Σ |y ∂score/∂y|; as many as the page has room for."""
        room = MOST_PIXELS // (2 * len(self.trace.values))
        count = min(len(y), MOST_MAPS, max(LEAST_MAPS, room // (y.shape[1] * y.shape[2])))
        weight = np.abs(y) if gradient is None else np.abs(y * gradient[0])
        totals = weight.reshape(len(y), -1).sum(axis=1, dtype=np.float64)
        return sorted(int(c) for c in np.argsort(-totals, kind="stable")[:count])

    def numbers(self, value: int, y: NDArray[Any], gradient: NDArray[Any] | None) -> dict[str, Any]:
        """An output without maps: its numbers, their gradients, the arithmetic of one of them."""
        weight = np.abs(y[0]) if gradient is None else np.abs(y[0] * gradient[0])
        scores = value == self.score_value or value in self.structure.outputs
        at = self.target if scores and self.target < y.shape[1] else int(weight.argmax())
        found: dict[str, Any] = {"values": [rounded(v) for v in y[0, :MOST_VALUES]]}
        if gradient is not None:
            found["value_gradients"] = [rounded(v) for v in gradient[0, :MOST_VALUES]]
        if value >= self.trace.inputs:
            found["cells"] = [cell(self.trace, value - self.trace.inputs, (at,), gradient)]
        if scores and y.shape[1] == len(self.classes):
            found["named"] = True
        return found

    def weights(self, number: int) -> dict[str, Any] | None:
        """The kernels of a node: input channels side by side for each output channel; None for a node without any."""
        node = self.structure.nodes[number]
        row = node.owned_by_argument.get("w")
        if row is None:
            return None
        w = self.net.parameters[row.name]
        shape = list(w.shape)
        if w.ndim == 2:
            w = w[:, :, None, None]
        if w.ndim != 4:
            return None
        inputs = min(w.shape[1], MOST_KERNELS)
        outputs = min(len(w), MOST_KERNELS if inputs > 1 else MOST_LONE_KERNELS)
        height, width = w.shape[2:]
        sheet = w[:outputs, :inputs].transpose(0, 2, 1, 3).reshape(1, outputs * height, inputs * width)
        return {**sprite(sheet), "outputs": outputs, "inputs": inputs, "shape": shape}

    # ── HTML ──

    def body(self) -> str:
        """The document's body: what is said without the script, and the places that the script fills."""
        shapes = [value.shape for value in self.trace.values]
        graph = drawing.svg(self.structure, shapes, marked=True)
        size = "×".join(map(str, self.trace.values[0].shape[1:]))
        return f"""<a class="skip" href="#panel">Skip to the selected node</a>
<main>
<header>
<p class="kicker">cnncore explain</p>
<h1>{escape(self.title)}</h1>
<p class="intro">{len(self.structure.nodes)} nodes, {self.net_parameters():,} parameters, one image of {size}.
Gradients are those of the <b>{escape(self.score_name())}</b>, {self.scores[self.target]:.4g}.</p>
{self.answers()}
</header>
<section aria-labelledby="evidence-title">
<h2 id="evidence-title">Where the evidence is</h2>
<div class="figures">{self.evidence()}</div>
</section>
<section aria-labelledby="graph-title" class="wide">
<h2 id="graph-title">The network, node by node</h2>
<noscript><p>The numbers of the nodes need JavaScript, which is switched off.</p></noscript>
<div class="controls" role="group" aria-label="Steps through the network">
<button type="button" id="back" aria-label="One step back">◀</button>
<button type="button" id="forward">▶ Forward</button>
<button type="button" id="backward">◀ Backward</button>
<button type="button" id="next" aria-label="One step on">▶</button>
<label>Node <select id="nodes"></select></label>
<input type="range" id="step" min="0" value="0" aria-label="Step">
</div>
<p id="status" role="status" class="status"></p>
<div class="panes">
<div class="graph" tabindex="0" role="region" aria-label="Graph of the network">{graph}</div>
<div id="panel" class="panel" tabindex="-1"></div>
</div>
</section>
</main>"""

    def net_parameters(self) -> int:
        """Number of trained parameters."""
        return sum(int(np.prod(row.shape)) for row in self.structure.owned.values() if row.trained)

    def answers(self) -> str:
        """The largest outputs, as bars."""
        last = self.trace.values[self.structure.outputs[0]]
        if last.ndim < 2 or last[0].size != len(self.classes):
            return ""
        shown, kind = last[0].ravel().astype(np.float64), self.net.output_kind
        if kind == "logits":
            shown = np.exp(shown - shown.max())
            shown /= shown.sum()
        elif kind == "log_probabilities":
            shown = np.exp(shown)
        elif kind not in ("probabilities", "independent_probabilities"):
            return ""
        rows = "".join(
            f"<li><span>{escape(self.classes[k])}</span><i style='--share:{100 * float(shown[k]):.1f}%'></i>"
            f"<b>{100 * float(shown[k]):.2f} %</b></li>"
            for k in np.argsort(-shown, kind="stable")[:MOST_ANSWERS]
        )
        return f"<ol class='answers' aria-label='Most probable classes'>{rows}</ol>"

    def evidence(self) -> str:
        """The image, and the maps over it, each with its scale."""
        found = [figure(large(self.pixels), "The image", "as the network is given it")]
        gradient = self.gradients[0]
        if gradient is not None:
            (strength,) = attribution.strength(gradient)
            found.append(
                figure(
                    large(images.colormap(strength, 0.0, float(strength.max()) or 1.0)),
                    "Saliency",
                    "|∂score/∂x|, the largest of the channels: where a small change of a pixel moves the score most",
                    (0.0, float(strength.max())),
                )
            )
            product = (gradient[0] * self.trace.values[0][0]).sum(axis=0)
            found.append(
                figure(
                    large(diverging(product)),
                    "Gradient × input",
                    "red pixels raise the score, blue ones lower it, to first order",
                    (-float(np.abs(product).max()), float(np.abs(product).max())),
                    "diverging",
                )
            )
        cam = self.last_cam()
        if cam is not None:
            path, heat = cam
            found.append(
                figure(
                    images.overlay(large(self.pixels), heat, low=0.0, high=float(heat.max()) or 1.0),
                    "Grad-CAM",
                    f"maps of {path}, weighted by their mean gradients",
                    (0.0, float(heat.max())),
                )
            )
        return "".join(found + self.class_maps())

    def last_cam(self) -> tuple[str, NDArray[Any]] | None:
        """(name, map) of Grad-CAM at the last node that makes maps on the way to the score."""
        value = attribution.last_maps(self.traced, self.gradients)
        gradient = None if value is None else self.gradients[value]
        if value is None or gradient is None:
            return None
        return self.structure.names[value], attribution.weighted_by_gradients(self.trace.values[value], gradient)[0]

    def class_maps(self) -> list[str]:
        """Class activation maps of the likeliest classes, all on one scale, where the net has them."""
        order = [self.target, *(int(k) for k in np.argsort(-self.scores, kind="stable") if k != self.target)][:3]
        try:
            x = self.structure.inputs[0].arranged(self.trace.values[0])
            heats = [explain.class_activation_map(self.net, x, k)[0] for k in order]
        except GraphError:
            return []
        high = max(float(np.abs(heat).max()) for heat in heats) or 1.0
        return [
            figure(
                large(diverging(heat, high), blocks=True),
                f"Class map: {self.classes[k]}",
                f"its mean is the score of the class, {self.scores[k]:.4g}".replace("-", "−"),
                (-high, high),
                "diverging",
            )
            for k, heat in zip(order, heats, strict=True)
        ]


# ── Pictures ──


def large(picture: NDArray[Any], blocks: bool = False) -> NDArray[Any]:
    """A picture enlarged by a whole number towards PICTURE pixels; ``blocks``: to that whatever it takes."""
    factor = max(1, PICTURE // max(picture.shape[:2]))
    made = picture if factor == 1 and not blocks else picture.repeat(factor, axis=0).repeat(factor, axis=1)
    return images.to_channels(made, 3)


def diverging(values: NDArray[Any], limit: float | None = None) -> NDArray[Any]:
    """Blue below 0, white at 0, red above: as ``page.js`` colours signed maps."""
    limit = limit or float(np.abs(values).max()) or 1.0
    t = np.clip(values.astype(np.float64) / limit, -1, 1)[..., None]
    end = np.where(t < 0, np.array([33, 102, 172]), np.array([178, 24, 43]))
    return np.rint(250 + (end - 250) * np.abs(t) ** 0.8).astype(np.uint8)


def figure(
    picture: NDArray[Any], name: str, text: str, scale: tuple[float, float] | None = None, kind: str = "sequential"
) -> str:
    """A picture with its name, its scale and a sentence."""
    bar = ""
    if scale is not None:
        low, high = (f"{end:.3g}".replace("-", "−") for end in scale)
        bar = f"<div class='scale {kind}'><span>{low}</span><i></i><span>{high}</span></div>"
    return (
        f"<figure><img src='{images.png_data_uri(picture)}' width='{PICTURE}' alt='{escape(name, quote=True)}'>{bar}"
        f"<figcaption><b>{escape(name)}</b> {escape(text)}</figcaption></figure>"
    )


def unwrapped(formula: str) -> str:
    """A formula whose words run on where they were broken into lines, so that the panel breaks them at its own width.

    >>> print(unwrapped("y = a x\\n    where a is one number for all\\n    channels of the image\\n    b = 0"))
    y = a x
    where a is one number for all channels of the image
    b = 0
    """
    lines: list[str] = []
    for line in inspect.cleandoc(formula).splitlines():
        if lines and line[:1].isalpha() and "=" not in line and "=" not in lines[-1]:
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return "\n".join(lines)


def plain(value: Any) -> Any:
    """A setting as JSON has it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return str(value)
