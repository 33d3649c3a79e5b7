"""The report of a training: one self-contained HTML file, without scripts or network access; a link leads to the page of
``cnncore explain`` beside it.

Every section is a function of a :class:`Findings` that returns HTML; ``write_report`` puts them together. The text is also
well-formed XML. Pictures are PNG data, curves are SVG; light or dark follows the reader's system.
"""

import importlib.metadata
import importlib.resources
import math
import platform
import shlex
from dataclasses import dataclass
from html import escape as escape_markup

import numpy as np

from .. import __version__, get_num_threads
from ..errors import GraphError, printable
from ..io.files import write_atomically
from ..operators.registry import OPS
from ..runtime import cpu
from ..train.job import RECALL
from ..vision import explain, images
from ..vision.network_page import write_page
from ..vision.preprocessing import Preprocessing

__all__ = ["report", "write_report"]

MOST_FILTERS = 64
MOST_MAPS = 16  # of a layer
MOST_LAYERS = 40
MOST_MISTAKES = 24
MOST_LOOKS = 10
MOST_CLASSES = 26  # of a confusion matrix that is shown as a table


def escape(text):
    """Text as HTML and XML have it: markup, and characters that documents may not contain, are escaped."""
    return escape_markup(printable(text, "\n\t"))


def write_report(job, tested, seconds, by_size=(), explained=None):
    """Write the report of ``job`` to its folder; ``tested`` is the final Evaluation, ``seconds`` the duration.

    ``by_size`` comes from :func:`cnncore.vision.classify.accuracy_by_size`, ``explained`` from :func:`write_explained`.
    """
    write_atomically(job.report, report(job, tested, seconds, by_size, explained).encode(errors="backslashreplace"))


def write_explained(job, tested):
    """Write the page that explains the net on one held-out image, beside the report; return its path."""
    found = Findings(job, tested, 0.0)
    chosen = sample_with_detail(found)
    pixels = job.held_out.images[chosen]
    title = f"{job.options.network}, a held-out image of {found.classes[int(tested.labels[chosen])]}"
    write_page(job.explained, job.net, found.input(pixels), pixels, None, found.classes, title)
    return job.explained


@dataclass(frozen=True)
class Findings:
    """The data of all sections."""

    job: object
    tested: object
    seconds: float
    by_size: tuple = ()
    explained: object = None  # path of the page that explains the net on one image

    @property
    def classes(self):
        return self.job.held_out.class_names

    def input(self, pixels):
        """An image as the net takes it."""
        held_out = self.job.held_out
        prepare = Preprocessing(
            held_out.channels, np.array(held_out.mean), np.array(held_out.std), held_out.channel_order
        )
        found = prepare.numbers(pixels).astype(self.job.net.dtype, copy=False)
        return self.job.net.graph.inputs[0].arranged(found)

    def first_of_each_class(self):
        """Index of the first correctly classified image of each class, else of its first image."""
        right = self.tested.probabilities.argmax(axis=1) == self.tested.labels
        for label in range(len(self.classes)):
            of_class = np.flatnonzero(self.tested.labels == label)
            if len(of_class):
                yield next((i for i in of_class if right[i]), of_class[0])

    def activation_map(self, pixels, class_index):
        """The class activation map over the image, or None if the network has no maps."""
        try:
            heat = explain.class_activation_map(self.job.net, self.input(pixels), int(class_index))[0]
        except GraphError:
            return None
        return explain.map_over_image(pixels, heat, least=84)


def report(job, tested, seconds, by_size=(), explained=None):
    """The text of the report."""
    found = Findings(job, tested, seconds, tuple(by_size), explained)
    sections = (
        headline,
        curves,
        class_curves,
        sizes,
        filters,
        layers,
        strengths,
        explanation,
        looks,
        sensitivities,
        mistakes,
        confusion,
        network_drawing,
        making,
    )
    name = job.train.name.removesuffix(", training part")
    title = f"{name}, {job.options.network}: {tested.accuracy:.2%}"
    return document(title, [section(found) for section in sections])


def document(title, sections):
    """A whole HTML document; empty sections are left out."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8" />\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
        f'<meta name="color-scheme" content="light dark" />\n'
        f"<title>{escape(title)}</title>\n<style>{style()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, sections))
        + "\n</main>\n</body>\n</html>\n"
    )


def style():
    """The style sheet, report.css beside this file."""
    return (importlib.resources.files(__package__) / "report.css").read_text(encoding="utf-8")


# ── Parts ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def section(title, text, *content):
    """A titled section with an introduction."""
    return f"<section>\n<h2>{escape(title)}</h2>\n<p class='intro'>{text}</p>\n{''.join(content)}\n</section>"


def picture(pixels, width, label, style=""):
    """An image, ``width`` CSS pixels wide, whose pixels remain squares."""
    return f'<img src="{images.png_data_uri(pixels)}" width="{width}" alt="{escape(label)}" title="{escape(label)}"{style} />'


def bar_of(share):
    """A bar from 0 to ``share`` of a track whose end is 1."""
    return f"<span class='track'><i style='width:{100 * float(share):.1f}%'></i></span>"


def grouped(number):
    return f"{number:,}" if number else ""


def percent(fraction, digits=1):
    return f"{100 * fraction:.{digits}f} %"


def diverging(values, limit):
    """Blue below 0, white at 0, red above, for signed numbers."""
    t = np.clip(values / limit, -1, 1)[..., None]
    blue, red = np.array([33, 102, 172]), np.array([178, 24, 43])
    end = np.where(t < 0, blue, red)
    return np.rint(250 + (end - 250) * np.abs(t) ** 0.8).astype(np.uint8)


# ── Headline ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def headline(found):
    """What was trained, and how accurate it is."""
    job, tested = found.job, found.tested
    count = len(tested.labels)
    wrong = int(np.count_nonzero(tested.probabilities.argmax(axis=1) != tested.labels))
    low, high = wilson_interval(count - wrong, count)
    table = job.net.summary((1, job.train.channels, *job.train.size))
    speed = np.mean([epoch.images_per_second for epoch in job.trainer.history]) if job.trainer.history else 0
    height, width = job.train.size
    cards = [
        (percent(tested.accuracy, 2), f"final test: accuracy on {count:,} held-out images"),
        (f"{wrong:,}", f"misclassified; 95 % confidence interval of the accuracy {percent(low)} to {percent(high)}"),
        (f"{found.seconds:.0f} s", f"for {len(job.trainer.history)} epochs, {speed:,.0f} images per second"),
        (f"{table.parameters:,}", f"parameters; {table.multiply_adds / 1e6:.1f} million multiply-adds per image"),
    ]
    body = "".join(f"<div class='card'><b>{escape(big)}</b><span>{escape(small)}</span></div>" for big, small in cards)
    name = job.train.name.removesuffix(", training part")
    colour = "greyscale" if job.train.channels == 1 else "RGB"
    validating = "" if job.validation is None else f"{len(job.validation):,} for validation, "
    return (
        f"<header>\n<p class='kicker'>cnncore training report</p>\n<h1>{escape(name)} "
        f"<span>{escape(job.options.network)}</span></h1>\n"
        f"<p class='intro'>{len(job.train):,} training images, {validating}{count:,} held out for the final test; "
        f"{height}×{width} {colour}, "
        f"{len(found.classes)} classes.</p>\n<div class='cards'>{body}</div>\n</header>"
    )


def wilson_interval(right, count, z=1.96):
    """The 95 % confidence interval of the accuracy (Wilson 1927).

    >>> [round(bound, 3) for bound in wilson_interval(99, 100)]
    [0.946, 0.998]
    """
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - reach), min(1.0, middle + reach)


# ── Curves ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def curves(found):
    """Loss, accuracy and learning rate by epoch."""
    history = found.job.trainer.history
    if not history:
        return ""
    distorted = " Training images are augmented at random, and therefore harder than the others."
    checked = [
        [None if v is None else 100 * (1 - v) for v in (epoch.validation_accuracy for epoch in history)],
        [epoch.validation_loss for epoch in history],
    ]
    validation = [[("validation", "b", line)] if found.job.validation is not None else [] for line in checked]
    loss = chart(
        "Loss",
        [("training", "a", [e.loss for e in history]), *validation[1]],
        logarithmic=True,
        text=lambda v: f"{v:g}",
    )
    accuracy = chart(
        "Error rate, %",
        [
            ("training", "a", [100 * (1 - e.accuracy) for e in history]),
            *validation[0],
        ],
        logarithmic=True,
        text=lambda v: f"{v:g}",
        floor=100 / len(found.tested.labels if found.job.validation is None else found.job.validation),
    )
    rate = chart(
        "Learning rate",
        [("rate", "a", [e.learning_rate for e in history])],
        text=lambda v: f"{v:g}",
        legend=False,
    )
    return section(
        "Learning",
        f"One point per epoch; loss and error rate on logarithmic scales. {validated(found)}"
        + (distorted if found.job.options.augment else ""),
        f"<div class='charts'>{loss}{accuracy}{rate}</div>",
    )


def validated(found):
    """Which images validate, what was chosen by them, and which ones test."""
    job = found.job
    count = len(found.tested.labels)
    apart = f"The {count:,} held-out images of the final test have no part in these curves"
    if job.validation is None:
        return f"No images were kept for validation, and nothing was chosen. {apart}; they were evaluated once, at the end."
    chosen = (
        "Nothing was chosen by them here: the weights are those of the last epoch"
        if job.options.patience is None
        else f"<b>Epoch {job.chosen_epoch()} was chosen by them</b> (patience {job.options.patience})"
    )
    return (
        f"Validation is {len(job.validation):,} images that were not trained on, evaluated after every epoch. {chosen}. "
        f"{apart}, nor in any choice; they were evaluated once, at the end, and give the accuracy above."
    )


def class_curves(found):
    """The recall of every class, by epoch: small curves that share one scale."""
    history = found.job.trainer.history
    named = [(name, f"{RECALL}{name}") for name in found.classes]
    lines = {
        name: [100 * epoch.validation_metrics[key] for epoch in history]
        for name, key in named
        if history and all(key in epoch.validation_metrics for epoch in history)
    }
    if not lines or len(history) < 2:
        return ""
    low = 10.0 * math.floor(min(map(min, lines.values())) / 10)
    low = min(low, 90.0)
    width, height = 130, 56
    figures = []
    for name, line in lines.items():
        points = " ".join(
            f"{4 + (width - 8) * i / (len(line) - 1):.1f},{4 + (height - 8) * (100 - v) / (100 - low):.1f}"
            for i, v in enumerate(line)
        )
        label = escape(f"recall of {name} by epoch, at the end {line[-1]:.1f} %")
        figures.append(
            f"<figure><svg viewBox='0 0 {width} {height}' class='chart small' role='img' aria-label='{label}'>"
            f"<line x1='4' x2='{width - 4}' y1='4' y2='4' class='grid' />"
            f"<line x1='4' x2='{width - 4}' y1='{height - 4}' y2='{height - 4}' class='grid' />"
            f"<polyline points='{points}' class='line b' /></svg>"
            f"<figcaption><b>{escape(name)}</b> {line[-1]:.1f} %</figcaption></figure>"
        )
    return section(
        "Classes, by epoch",
        f"The recall of each class in validation, after every epoch; the lower line is {low:g} %, the upper one 100 %, for all "
        "classes. The number is that of the last epoch.",
        f"<div class='tiles'>{''.join(figures)}</div>",
    )


def chart(title, series, text, logarithmic=False, floor=None, legend=True):
    """An SVG line chart; ``series`` are (name, colour class, values). Zeros on a logarithmic scale lie at ``floor``."""
    width, height, left, right, top, bottom = 340, 230, 46, 14, 34, 28
    values = [v for _, _, line in series for v in line if v is not None and v > (0 if logarithmic else -math.inf)]
    least = min(values, default=1.0) if floor is None else floor
    low, high = min([*values, least]) if logarithmic else 0.0, max([*values, least])
    marks = ticks(low, high, logarithmic)
    low, high = min(low, marks[0]), max(high, marks[-1])
    if high <= low:
        high = low + 1.0
    count = max(len(line) for _, _, line in series)

    def across(i):
        return left + (width - left - right) * (i / (count - 1) if count > 1 else 0.5)

    def up(v):
        if logarithmic:
            share = math.log(max(v, low) / low) / math.log(high / low)
        else:
            share = (v - low) / (high - low)
        return top + (height - top - bottom) * (1 - share)

    parts = [f"<text x='{left - 38}' y='16' class='title'>{escape(title)}</text>"]
    for mark in marks:
        y = up(mark)
        parts.append(f"<line x1='{left}' x2='{width - right}' y1='{y:.1f}' y2='{y:.1f}' class='grid' />")
        parts.append(f"<text x='{left - 6}' y='{y + 3.5:.1f}' text-anchor='end'>{escape(text(mark))}</text>")
    step = max(1, math.ceil(count / 8))
    for i in range(0, count, step):
        parts.append(f"<text x='{across(i):.1f}' y='{height - 10}' text-anchor='middle'>{i + 1}</text>")
    for number, (name, colour, line) in enumerate(series):
        points = [(across(i), up(v), v) for i, v in enumerate(line) if v is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        parts.append(f"<polyline points='{path}' class='line {colour}' />")
        for i, (x, y, v) in enumerate(points):
            tip = f"epoch {i + 1}, {name}: {v:.4g}"
            parts.append(
                f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.6' class='dot {colour}'><title>{escape(tip)}</title></circle>"
            )
        if legend:
            x = width - right - 66 * (len(series) - number) + 8
            parts.append(f"<rect x='{x}' y='8' width='9' height='9' rx='2' class='dot {colour}' />")
            parts.append(f"<text x='{x + 13}' y='16'>{escape(name)}</text>")
    label = escape(f"{title} by epoch")
    return f"<svg viewBox='0 0 {width} {height}' class='chart' role='img' aria-label='{label}'>{''.join(parts)}</svg>"


def ticks(low, high, logarithmic):
    """Round numbers that span low to high: powers of ten and their 2 and 5 fold, or even steps from 0.

    >>> ticks(0.03, 2.2, True)
    [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
    >>> ticks(0, 0.0049, False)
    [0.0, 0.001, 0.002, 0.003, 0.004, 0.005]
    """
    if logarithmic:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = [float(f"{m}e{d}") for d in decades for m in (1, 2, 5)]
        inside = [m for m in marks if low <= m <= high]
        below, above = [m for m in marks if m < low][-1:], [m for m in marks if m > high][:1]
        marks = (
            (below if not inside or inside[0] > low else [])
            + inside
            + (above if not inside or inside[-1] < high else [])
        )
        return marks if len(marks) <= 8 else [m for m in marks if f"{m:e}"[0] == "1"] or marks[:: len(marks) // 6]
    step = 10 ** math.floor(math.log10(high or 1.0))
    step = next(s for s in (step / 5, step / 2, step) if high / s <= 6 or s == step)
    return [round(i * step, 12) for i in range(math.ceil(high / step - 1e-9) + 1)]


# ── Sizes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def sizes(found):
    """Accuracy on the held-out images at their own size and at others."""
    if len(found.by_size) < 2:
        return ""
    largest = "×".join(map(str, found.job.net.metadata["largest_size"]))
    smallest = "×".join(map(str, found.job.train.size))
    rows = []
    for size, read_at, share in found.by_size:
        name, reading = "×".join(map(str, size)), "×".join(map(str, read_at))
        how = "at its own size" if size == read_at else f"classified at {reading}"
        rows.append(
            f"<tr><th scope='row'>{name}</th><td>{how}</td>"
            f"<td class='share'>{bar_of(share)}</td><td class='n'>{percent(share)}</td></tr>"
        )
    trained = smallest if smallest == largest else f"{smallest} to {largest}"
    return section(
        "Accuracy by size",
        f"The held-out images, resized before they are classified. The network was trained at sizes from {trained}; images "
        "outside that range are resized to the nearest size within it, here and by <code>cnncore predict</code>."
        if smallest != largest
        else f"The held-out images, resized before they are classified. The network was trained at {trained}; images of other "
        "sizes are resized to it, here and by <code>cnncore predict</code>.",
        "<p class='intro'>The bars go from 0 to 100 %.</p>",
        f"<div class='scroll'><table class='sizes'><tbody>{''.join(rows)}</tbody></table></div>",
    )


# ── The network ────────────────────────────────────────────────────────────────────────────────────────────────────────


def network_drawing(found):
    """The graph, and the table of its nodes."""
    net, size = found.job.net, found.job.train.size
    shape = (1, found.job.train.channels, *size)
    table, drawing = net.summary(shape), net.draw(input_shape=shape)
    rows = "".join(
        f"<tr><td>{escape(row.path)}</td><td>{escape(row.operator)}</td><td>{'×'.join(map(str, row.output[1:]))}</td>"
        f"<td class='n'>{grouped(row.parameters)}</td><td class='n'>{grouped(row.multiply_adds)}</td></tr>"
        for row in table.rows
    )
    return section(
        "The network",
        f"{len(table.rows)} nodes; branches are concatenated along their channels.",
        f"<div class='drawing' tabindex='0' role='group' aria-label='the graph'>{drawing}</div>",
        f"<details><summary>All nodes: shapes, parameters, multiply-adds</summary><div class='scroll'><table class='nodes'>"
        f"<thead><tr><th>node</th><th>operator</th><th>output</th><th>parameters</th><th>multiply-adds</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></details>",
    )


def filters(found):
    """Kernels of the first convolution."""
    net = found.job.net
    first = next((node for node in net.graph.nodes if node.op.name == "conv" and node.owned), None)
    if first is None:
        return ""
    w = net.parameters[first.owned_by_argument["w"].name]
    if w.ndim != 4 or max(w.shape[2:]) == 1:
        return ""
    limit = float(np.abs(w).max()) or 1.0
    size = 56 if len(w) <= 32 else 40
    tiles = []
    for k, kernel in enumerate(w[:MOST_FILTERS]):
        if len(kernel) == 3:
            pixels = np.rint(127.5 + 127.5 * np.moveaxis(kernel, 0, -1) / limit).clip(0, 255).astype(np.uint8)
        else:
            pixels = diverging(
                kernel.mean(axis=0), limit if len(kernel) == 1 else float(np.abs(kernel.mean(axis=0)).max())
            )
        tiles.append(picture(pixels, size, f"filter {k}"))
    how = "red weights are positive, blue ones negative" if len(w[0]) != 3 else "weights as colours, grey is 0"
    return section(
        "Filters of the first layer",
        f"The {len(w)} learned {w.shape[2]}×{w.shape[3]} filters of <code>{escape(first.path)}</code>; {how}.",
        f"<div class='tiles'>{''.join(tiles)}</div>",
    )


def layers(found):
    """Maps of all layers for one image: the branches of every join side by side, and the other layers with weights."""
    net = found.job.net
    chosen = sample_with_detail(found)
    pixels = found.job.held_out.images[chosen]
    groups = layer_groups(net)
    maps = explain.feature_maps(net, found.input(pixels), [name for _, names in groups for name in names])
    parts = []
    for title, names in groups:
        if any(maps[name].ndim != 4 for name in names):
            continue
        rows = "".join(map_row(net, name, maps[name][0]) for name in names)
        shown = " open='open'" if len(names) > 1 and "<details open" not in "".join(parts) else ""
        height, width = maps[names[0]].shape[2:]
        parts.append(
            f"<details{shown}><summary>{escape(title)}: {height}×{width}</summary><div class='branches'>{rows}</div></details>"
        )
    if not parts:
        return ""
    answer = found.classes[int(found.tested.probabilities[chosen].argmax())]
    return section(
        "All layers",
        f"What every layer with weights makes of one held-out image (classified as <b>{escape(answer)}</b>), the branches of an "
        f"Inception module side by side; up to {MOST_MAPS} maps of each. Brighter means a stronger response.",
        f"<div class='inside'><div>{picture(pixels, 124, 'the image')}</div><div class='layers'>{''.join(parts)}</div></div>",
    )


def layer_groups(net):
    """(title, names of values) in the order of execution: the branches of a join, or one layer with weights outside of them."""
    graph, groups = net.graph, []
    joined = [node for node in graph.nodes if node.op.name == "concat" and len(node.arguments) > 1]
    modules = tuple(node.path.rsplit("/", 1)[0] + "/" for node in joined if "/" in node.path)
    for number, node in enumerate(graph.nodes, start=len(graph.inputs)):
        if node in joined:
            title = node.path.rsplit("/", 1)[0] if "/" in node.path else node.path
            groups.append((f"Inside {title}", [graph.names[value] for value in node.arguments]))
        elif node.op.name in ("conv", "depthwise_conv", "separable_conv") and not node.path.startswith(
            modules or ("\0",)
        ):
            groups.append((node.path, [graph.names[number]]))
    return groups[:MOST_LAYERS]


def map_row(net, name, planes):
    """The maps of one value."""
    high = float(np.percentile(planes, 99.7)) or 1.0
    tiles = [
        picture(images.colormap(plane, min(0.0, float(planes.min())), high), 46, f"{name}, channel {c}")
        for c, plane in enumerate(planes[:MOST_MAPS])
    ]
    more = f", {MOST_MAPS} of them shown" if len(planes) > MOST_MAPS else ""
    return (
        f"<div class='branch'><h3>{escape(branch_text(net, name))} <small>{len(planes)} maps{more}</small></h3>"
        f"<div class='tiles'>{''.join(tiles)}</div></div>"
    )


def strengths(found):
    """Weights and their gradients, layer by layer: root mean squares, as bars from 0."""
    net, chosen = found.job.net, list(found.first_of_each_class())[:MOST_CLASSES]
    x = np.concatenate([found.input(found.job.held_out.images[i]) for i in chosen])
    labels = found.tested.labels[chosen]
    scores, backward = net.with_backward(x)
    value, gradient_of_loss = OPS["softmax_cross_entropy"].with_backward(scores, labels)
    backward(gradient_of_loss(np.ones_like(value)))
    rows = [
        (name, root_mean_square(net.parameters[name]), root_mean_square(backward.gradients[name]))
        for name in net.parameters
        if name in backward.gradients and net.parameters[name].ndim > 1
    ]
    largest = [max((row[column] for row in rows), default=0.0) or 1.0 for column in (1, 2)]
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>"
        + "".join(
            f"<td class='share'>{bar_of(v / most)}</td><td class='n'>{v:.2g}</td>"
            for v, most in ((weight, largest[0]), (gradient, largest[1]))
        )
        + "</tr>"
        for name, weight, gradient in rows
    )
    return section(
        "Weights and gradients of all layers",
        f"Root mean squares of each layer's weights, and of the gradient of the loss in them, for {len(chosen)} held-out images, "
        "one per class. Each column's bars start at 0 and end at its largest value.",
        "<details><summary>All layers with weights</summary><div class='scroll'><table class='sizes strengths'><thead><tr>"
        "<th>layer</th><th colspan='2'>weights</th><th colspan='2'>gradients</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div></details>",
    )


def root_mean_square(array):
    """√ mean x², in float64.

    >>> root_mean_square(np.array([3.0, -4.0, 0.0, 0.0]))
    2.5
    """
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


def explanation(found):
    """The link to the page with all layers and their gradients."""
    if found.explained is None:
        return ""
    return section(
        "Every layer, forward and backward",
        "Maps, gradients, weights, receptive fields and the arithmetic of every node for one held-out image, and the gradient of "
        f"the score in the image: <a href='{escape(found.explained.name)}'>{escape(found.explained.name)}</a>. For any other "
        "image: <code>cnncore explain</code>.",
    )


def sample_with_detail(found):
    """Index of a correctly classified image with many edges, which shows what filters do."""
    candidates = list(found.first_of_each_class())
    detail = [
        np.abs(np.diff(np.asarray(found.job.held_out.images[i], np.int16), axis=0)).sum()
        + np.abs(np.diff(np.asarray(found.job.held_out.images[i], np.int16), axis=1)).sum()
        for i in candidates
    ]
    return candidates[int(np.argmax(detail))]


def branch_text(net, name):
    """What a branch does, from its convolutions and poolings back to the fork: "1×1 → 3×3"."""
    structure = net.graph
    value, steps = structure.number(name), []
    while value >= len(structure.inputs):
        node = structure.nodes[value - len(structure.inputs)]
        if node.op.name == "concat" or (steps and consumers(structure, value) > 1):
            break
        kernel = next(
            (r.shape[2:] for a, r in node.owned_by_argument.items() if node.op.name == "conv" and a == "w"),
            None,
        )
        if kernel:
            steps.append("×".join(map(str, kernel)))
        elif "kernel_size" in node.settings:
            extent = node.settings["kernel_size"]
            steps.append(
                f"{node.op.name.replace('_', ' ')} {extent}×{extent}" if isinstance(extent, int) else node.op.name
            )
        value = next(v for v in node.arguments if v is not None)
    return " → ".join(reversed(steps)) or name


def consumers(structure, value):
    """How many nodes read a value."""
    return sum(value in node.arguments for node in structure.nodes)


# ── Results ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def looks(found):
    """Class activation maps of one image per class."""
    tiles = []
    for i in list(found.first_of_each_class())[:MOST_LOOKS]:
        pixels = found.job.held_out.images[i]
        answer = int(found.tested.probabilities[i].argmax())
        over = found.activation_map(pixels, answer)
        if over is None:
            return ""
        label = f"{found.classes[answer]}, {percent(found.tested.probabilities[i, answer])}"
        tiles.append(
            f"<figure>{picture(over, 92, f'evidence for {found.classes[answer]}')}"
            f"<figcaption>{escape(label)}</figcaption></figure>"
        )
    return section(
        "Class activation maps",
        "The evidence for the predicted class at each position. The network ends in global average pooling, so that the "
        "map's mean <em>is</em> the score, and the network takes images of any size.",
        f"<div class='tiles'>{''.join(tiles)}</div>",
    )


def sensitivities(found):
    """The gradient of the predicted class's score in the image, of one image per class."""
    tiles = []
    for i in list(found.first_of_each_class())[:MOST_LOOKS]:
        pixels = found.job.held_out.images[i]
        answer = int(found.tested.probabilities[i].argmax())
        strength = explain.saliency(found.job.net, found.input(pixels), answer)[0]
        label = f"gradient of the score of {found.classes[answer]}"
        tiles.append(
            f"<figure>{picture(pixels, 92, f'a {found.classes[int(found.tested.labels[i])]}')}"
            f"{picture(images.colormap(strength, 0.0, float(strength.max()) or 1.0), 92, label)}"
            f"<figcaption>{escape(found.classes[answer])}</figcaption></figure>"
        )
    return section(
        "Gradients in the image",
        "Where a small change of a pixel changes the score of the predicted class most: |∂score/∂x|, for RGB images the largest "
        "of the three channels. Each picture has a scale of its own, from 0 to its maximum.",
        f"<div class='tiles'>{''.join(tiles)}</div>",
    )


def confusion(found):
    """Which classes are confused with which."""
    return confusions(found.tested.confusion, found.classes)


def confusions(table, classes):
    """The confusion matrix, or of many classes the most frequent confusions."""
    if len(classes) > MOST_CLASSES:
        off = table - np.diag(np.diag(table))
        pairs = sorted(zip(*np.nonzero(off), strict=True), key=lambda place: -off[place])[:30]
        body = "".join(
            f"<li><b>{off[t, a]}</b> × {escape(classes[t])} classified as {escape(classes[a])}</li>" for t, a in pairs
        )
        return section("Confusions", "The most frequent confusions.", f"<ol>{body}</ol>")
    largest = max(1, int((table - np.diag(np.diag(table))).max()))
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in classes)
    rows = []
    for t, name in enumerate(classes):
        total = max(1, int(table[t].sum()))
        cells = []
        for a, count in enumerate(table[t].tolist()):
            kind, share = ("right", count / total) if t == a else ("wrong", (count / largest) ** 0.5 if count else 0)
            tip = f"{count} of {total} × {name} classified as {classes[a]}"
            cells.append(f"<td class='{kind}' style='--v:{100 * share:.0f}%' title='{escape(tip)}'>{count or '·'}</td>")
        rows.append(
            f"<tr><th scope='row'>{escape(name)}</th>{''.join(cells)}<td class='recall'>{percent(table[t, t] / total)}</td></tr>"
        )
    return section(
        "Confusion matrix",
        "Rows are true classes, columns predicted classes; the last column is the recall of the class.",
        f"<div class='scroll'><table class='confusion'><thead><tr><td></td>{head}<td></td></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>",
    )


def mistakes(found):
    """Misclassified images, the most confident first."""
    images, tested = found.job.held_out.images, found.tested
    return gallery(tested.probabilities, tested.labels, found.classes, lambda i: images[i], found.activation_map)


def gallery(all_probabilities, labels, classes, pixels_of, map_of):
    """Misclassified images; ``pixels_of`` gives the image of a number, ``map_of`` the map of an image and a class, or None."""
    answers = all_probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != labels)
    if not len(wrong):
        return section("Misclassified images", "None: every image is classified correctly.")
    wrong = wrong[np.argsort(-all_probabilities[wrong, answers[wrong]], kind="stable")]
    cards = []
    for i in wrong[:MOST_MISTAKES]:
        probabilities = all_probabilities[i]
        true = int(labels[i])
        shown = list(np.argsort(-probabilities, kind="stable")[:3])
        if true not in shown:
            shown[-1] = true
        bars = "".join(
            f"<div class='bar{' true' if k == true else ''}'><span>{escape(classes[k])}</span>"
            f"{bar_of(probabilities[k])}<b>{percent(float(probabilities[k]))}</b></div>"
            for k in shown
        )
        pixels = pixels_of(i)
        over = map_of(pixels, answers[i])
        second = "" if over is None else picture(over, 84, f"evidence for {classes[answers[i]]}")
        cards.append(
            f"<figure class='mistake'><div>{picture(pixels, 84, f'a {classes[true]}')}{second}</div>"
            f"<figcaption>{escape(classes[true])} <em>classified as</em> {escape(classes[answers[i]])}</figcaption>"
            f"{bars}</figure>"
        )
    shown = "all" if len(wrong) <= MOST_MISTAKES else f"the {MOST_MISTAKES} most confident of"
    return section(
        "Misclassified images",
        f"{shown[0].upper()}{shown[1:]} {len(wrong)} misclassified images, each with the class activation map of the predicted "
        "class; the true class is marked.",
        f"<div class='mistakes'>{''.join(cards)}</div>",
    )


# ── Reproducibility ────────────────────────────────────────────────────────────────────────────────────────────────────


def making(found):
    """Options, versions, and the commands that reproduce the training."""
    job, options = found.job, found.job.options
    command = ["cnncore", "train"]
    for name, value in vars(options).items():
        if value in (None, False, True) or value == type(options).__dataclass_fields__[name].default:
            continue
        text = "x".join(map(str, value)) if name == "size" else f"{value:g}" if isinstance(value, float) else str(value)
        command += [f"--{name.replace('_', '-')}", text]
    command += ["--no-augment"] * (not options.augment) + ["--balance"] * options.balance
    rows = {
        "optimizer": repr(job.trainer.optimizer),
        "schedule": "one cycle: increasing over the first 30 % of the steps, then decreasing, both along half cosines",
        "augmentation": repr(job.distortions()) if options.augment else "none",
        "loss": "softmax cross-entropy",
        "machine": f"{get_num_threads()} threads, {cpu.target()}, {platform.machine()} {platform.system()}",
        "versions": ", ".join(
            [f"cnncore {__version__}", f"Python {platform.python_version()}"]
            + [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "scipy")]
        ),
        "command": f"<code>{escape(shlex.join(command))}</code>",
        "classify": f"<code>{escape(shlex.join(['cnncore', 'predict', str(job.model), 'image.png']))}</code>",
    }
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{value if value.startswith('<code>') else escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    return section(
        "Reproducibility",
        "On the same kind of machine the same options give bit-identical weights, for any number of threads.",
        f"<div class='scroll'><table class='made'><tbody>{body}</tbody></table></div>",
    )
