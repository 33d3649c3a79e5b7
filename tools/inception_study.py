"""What an Inception network does with its four branches, an ablation: ``python tools/inception_study.py`` (about two minutes).

Trains cnncore.models.small_inception on the embedded digits from three seeds, then examines every branch of every module: the
norm of the weights that read it, its activity, and the accuracy lost when it is ablated. Then trains four networks that lack
a branch from the start. Writes docs/inception_study.md and docs/inception_study.svg.
"""

import argparse
import dataclasses
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from paragraphs import wrapped

from cnncore import models
from cnncore.nets.drawing import COLORS, FONT, INK, MUTED
from cnncore.train import Adam, Trainer
from cnncore.train.data import digits_split
from cnncore.train.job import DISTORTIONS

DOCS = Path(__file__).resolve().parent.parent / "docs"
MODULES = ("inception_1", "inception_2", "inception_3", "inception_4")
BRANCHES = {"1×1": "conv1x1", "3×3": "conv3x3", "5×5": "conv5x5", "pool": "pool_project"}
BRANCH_COLORS = dict(
    zip(BRANCHES, (COLORS[name] for name in ("convolution", "activation", "layers", "pooling")), strict=True)
)
SEEDS = (0, 1, 2)
EPOCHS = 8
RATE = 0.007


def data():
    """(training data set, held-out images as the net takes them, their labels)."""
    train, held_out = digits_split()
    x, labels = next(iter(held_out.batches(len(held_out))))
    return train, x, labels


def trained(train, seed, epochs=EPOCHS, without=()):
    """A trained net; the branches in ``without`` are set to zero before training and stay so."""
    net = models.small_inception(seed=seed)
    for module, branch in without:
        silence(net, module, branch)
        net.frozen |= set(last_arrays(net, module, branch))
    Trainer(net, Adam(RATE, weight_decay=1e-4)).fit(
        train, epochs=epochs, batch_size=64, schedule="one_cycle", augment=dataclasses.replace(DISTORTIONS), seed=seed
    )
    return net


def last_arrays(net, module, branch):
    """Names of a branch's last parameters: scale and shift of its normalisation, or weights and biases."""
    stem = f"{module}/{BRANCHES[branch]}"
    stem += "_norm" if f"{stem}_norm.w" in net.parameters else ""
    return f"{stem}.w", f"{stem}.b"


def silence(net, module, branch, level=0.0):
    """Make a branch constant: ``level`` in each of its channels, for every image. Returns the parameters it had."""
    before = {name: net.parameters[name].copy() for name in last_arrays(net, module, branch)}
    scale, shift = before
    net.parameters[scale] = np.zeros_like(before[scale])
    net.parameters[shift] = np.broadcast_to(level, before[shift].shape)
    return before


def accuracy(net, x, labels):
    """The fraction of images that are classified correctly."""
    return float(np.mean(net(x).argmax(axis=1) == labels))


def slices(net, module):
    """Branch → its channels in the module's output."""
    widths = {branch: len(net.parameters[last_arrays(net, module, branch)[1]]) for branch in BRANCHES}
    ends = np.cumsum(list(widths.values()))
    return {branch: slice(end - width, end) for (branch, width), end in zip(widths.items(), ends, strict=True)}


def readers(net, module):
    """The weights of the layers that read a module's output."""
    following = MODULES[MODULES.index(module) + 1 :]
    if not following:
        return ["classifier.w"]
    names = ("conv1x1", "conv3x3_reduce", "conv5x5_reduce", "pool_project")
    return [f"{following[0]}/{name}.w" for name in names]


def study(net, x, labels):
    """(module, branch) → figures of one net; and the net's accuracy."""
    whole = accuracy(net, x, labels)
    joined = net.values(x, names=[f"{module}/concat" for module in MODULES])
    figures = {}
    for module in MODULES:
        values = joined[f"{module}/concat"]
        means = {branch: values[:, part].mean(axis=(0, 2, 3)) for branch, part in slices(net, module).items()}
        for branch, part in slices(net, module).items():
            weights = [net.parameters[name][:, part] for name in readers(net, module)]
            written = net.parameters[last_arrays(net, module, branch)[0]]
            kept = silence(net, module, branch, means[branch])
            held = accuracy(net, x, labels)
            restore(net, kept)
            kept = silence(net, module, branch)
            without = accuracy(net, x, labels)
            restore(net, kept)
            others = {}
            for other in BRANCHES:
                if other != branch:
                    others |= silence(net, module, other, means[other])
            alone = accuracy(net, x, labels)
            restore(net, others)
            figures[module, branch] = {
                "channels": part.stop - part.start,
                "written": float(np.sqrt(np.mean(written**2))),
                "read": float(np.sqrt(sum((w**2).sum() for w in weights) / (part.stop - part.start))),
                "activity": float(np.sqrt(np.mean(values[:, part] ** 2))),
                "lost, held at its mean": whole - held,
                "lost, silent": whole - without,
                "lost, alone": whole - alone,
            }
    return figures, whole


def restore(net, arrays):
    """Put back what :func:`silence` replaced."""
    for name, array in arrays.items():
        net.parameters[name] = array


# ── The page ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def percent(value):
    return f"{100 * value:.1f} %"


def points(value):
    """A difference of accuracies, in percentage points."""
    return f"{100 * value:.1f}".replace("-", "−")


def mean_over(all_figures, what):
    """(module, branch) → mean of a figure over the seeds."""
    return {key: float(np.mean([figures[key][what] for figures in all_figures])) for key in all_figures[0]}


def page(all_figures, accuracies, lacking):
    """The text of docs/inception_study.md."""
    lost = {what: mean_over(all_figures, f"lost, {what}") for what in ("held at its mean", "silent", "alone")}
    read, written, activity = (mean_over(all_figures, what) for what in ("read", "written", "activity"))
    lines = [
        "# What an Inception network does with its branches",
        "",
        "An Inception module concatenates the outputs of 1×1, 3×3 and 5×5 convolutions and of a pooling branch (Szegedy et al. "
        "2015), so that training can choose among them. Does it? `cnncore.models.small_inception` was trained on 4,000 of the "
        f"embedded digits for {EPOCHS} epochs, once from each of the seeds {', '.join(map(str, SEEDS))}, and evaluated on the "
        f"other 1,000, of which it classifies {', '.join(map(percent, accuracies))} correctly. All figures below are means over "
        "these three networks. With 1,000 images the standard error of one accuracy is about 0.4 points, that of a mean of "
        "three about 0.3; smaller differences are not significant. On another CPU or with another version roundings differ, and "
        "training yields different networks. Written by `python tools/inception_study.py`.",
        "",
        "![Accuracy lost without a branch, and the norm of the weights that read it](inception_study.svg)",
        "",
        "| module | branch | channels | scale | weight norm | activity | lost: held at its mean | lost: zeroed | "
        "lost: others held |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for module, branch in all_figures[0]:
        key = (module, branch)
        lines.append(
            f"| {module} | {branch} | {all_figures[0][key]['channels']} | {written[key]:.2f} | {read[key]:.2f} | "
            f"{activity[key]:.2f} | {points(lost['held at its mean'][key])} | {points(lost['silent'][key])} | "
            f"{points(lost['alone'][key])} |"
        )
    lines += [
        "",
        "* **scale**: root mean square of the scales of the branch's normalisation; in inception_4, which has none, of the "
        "weights of its last convolution.",
        "* **weight norm**: Euclidean norm, per channel of the branch, of the weights with which the following layers read it. "
        "The norms of the branch's own convolutions have no effect, because the normalisation after them divides by them.",
        "* **activity**: root mean square of the branch's output.",
        "* **lost**: percentage points of accuracy lost when the branch's output is replaced by its mean over the images, when "
        "it is set to zero, and when the other three branches are replaced by their means.",
        "",
        "## Trained without a branch",
        "",
        "The same network, trained from seed 0 with one branch of all four modules set to zero from the first step on:",
        "",
        "| without | accuracy | points lost |",
        "|---|---:|---:|",
        f"| none | {percent(accuracies[0])} | |",
    ]
    lines += [f"| {branch} | {percent(a)} | {points(accuracies[0] - a)} |" for branch, a in lacking.items()]
    lines += ["", "## What it says", "", *findings(all_figures, lost, read, lacking, accuracies)]
    return "\n".join(wrapped(lines)) + "\n"


def by_rows(figures):
    """A figure of the branches, module by module."""
    return [np.array([figures[module, branch] for branch in BRANCHES]) for module in MODULES]


def findings(all_figures, lost, read, lacking, accuracies):
    """Sentences that follow from the figures."""
    held, silent, alone = lost["held at its mean"], lost["silent"], lost["alone"]
    worst = max(held, key=held.get)
    least = min(held, key=held.get)
    by_branch = {branch: float(np.mean([held[module, branch] for module in MODULES])) for branch in BRANCHES}
    by_module = {module: float(np.mean([held[module, branch] for branch in BRANCHES])) for module in MODULES}
    order = sorted(by_branch, key=by_branch.get, reverse=True)
    modules = sorted(by_module, key=by_module.get, reverse=True)
    single = float(np.mean(list(alone.values())))

    def within_modules(figures):
        """Each branch's figure in units of its module's mean."""
        return np.concatenate([values / values.mean() for values in by_rows(figures)])

    correlation = float(np.corrcoef(within_modules(read), within_modules(held))[0, 1])
    widest = all_figures[0][worst]["channels"] / sum(
        all_figures[0][worst[0], branch]["channels"] for branch in BRANCHES
    )
    variation = float(np.mean([np.ptp(values) / values.mean() for values in by_rows(read)]))
    each = [figures[worst]["lost, held at its mean"] for figures in all_figures]
    most_lacked = max(accuracies[0] - a for a in lacking.values())
    ratio = float(np.mean(list(silent.values())) / max(np.mean(list(held.values())), 1e-4))
    return [
        f"* **The branches are not equal.** Ablating {worst[1]} of {worst[0]} costs most ({points(held[worst])} points), "
        f"ablating {least[1]} of {least[0]} least ({points(held[least])}). Averaged over the modules the order is "
        + ", ".join(f"{branch} ({points(by_branch[branch])})" for branch in order)
        + f". Of the channels of {worst[0]}, {percent(widest)} are those of {worst[1]}.",
        f"* **Seeds differ**: the three networks are equally accurate, but lose {', '.join(map(points, each))} points without "
        f"{worst[1]} of {worst[0]}.",
        f"* **Modules differ**: {', '.join(f'{m} ({points(by_module[m])})' for m in modules)}, averaged over the branches.",
        f"* **Zero costs more than the mean**: {ratio:.1f} times as much. The following layers rely on the branch's mean, so "
        "part of the loss measured by zeroing a branch is due to the shifted mean alone.",
        f"* **No branch is enough**: with the other three replaced by their means {points(single)} points are lost on average.",
        "* **The weight norm hardly predicts the loss**: the norms differ by "
        f"{percent(variation)} within a module, the losses by factors; their correlation within modules is {correlation:+.2f}.",
        "* **Other branches take over when a branch is missing from the start**: a network trained without one loses at most "
        f"{points(most_lacked)} points, whereas ablating one after training costs up to {points(held[worst])} points in a single "
        "module. Training shares the work among the branches it has; none of them has a task of its own.",
    ]


WIDTH, HEIGHT = 800, 330  # of the plot, in pixels
PLOT = {"left": 64, "right": 736, "top": 62, "bottom": 272}
BAR, BETWEEN, MODULES_APART = 26, 8, 38
TICKS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2)

# Bars and lines keep their colours on a dark page; text and axes change theirs.
STYLE = (
    f"<style>text,.dot{{fill:{INK}}}.muted{{fill:{MUTED}}}.paper{{fill:#fff}}.grid{{stroke:#e6eaef}}.axis{{stroke:{MUTED}}}"
    "@media(prefers-color-scheme:dark){text,.dot{fill:#dce3ea}.muted{fill:#9aa7b4}.paper{fill:#0d1117}.grid{stroke:#2a313a}"
    ".axis{stroke:#9aa7b4}}</style>"
)


def picture(all_figures):
    """The plot: bars (left axis) are points of accuracy lost, dots (right axis) the weights that read a branch."""
    lost, read = mean_over(all_figures, "lost, held at its mean"), mean_over(all_figures, "read")
    lost_scale = Scale(max(figures[key]["lost, held at its mean"] for figures in all_figures for key in figures))
    read_scale = Scale(max(read.values()), steps=lost_scale.steps)
    parts = [*grid(lost_scale, read_scale)]
    x = PLOT["left"] + 14
    for module in MODULES:
        start = x
        for branch, color in BRANCH_COLORS.items():
            key = (module, branch)
            each = [figures[key]["lost, held at its mean"] for figures in all_figures]
            parts += bar(x, lost[key], each, lost_scale, color, f"{module} {branch}: {points(lost[key])} points")
            parts.append(f'<circle class="dot" cx="{x + BAR / 2}" cy="{read_scale.y(read[key]):.1f}" r="3.2"/>')
            parts.append(label(x + BAR / 2, PLOT["bottom"] + 15, branch, size=11))
            x += BAR + BETWEEN
        parts.append(label((start + x - BETWEEN) / 2, PLOT["bottom"] + 34, module, weight=600))
        x += MODULES_APART
    parts += legend()
    title = "Accuracy lost without a branch, and the norm of the weights that read it"
    font = escape(FONT, {'"': "'"})
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{font}" '
        f'font-size="13" role="img"><title>{title}</title>{STYLE}<rect class="paper" width="100%" height="100%"/>'
        f"{''.join(parts)}</svg>\n"
    )


class Scale:
    """An axis from 0 to at least ``top``, with ticks at round numbers; ``steps`` of them where another axis has as many."""

    def __init__(self, top, steps=None):
        self.tick = next(tick for tick in TICKS if top <= (steps or 5) * tick)
        self.steps = steps or int(np.ceil(top / self.tick - 1e-9))

    def y(self, value):
        """The height at which a value stands."""
        share = max(value, 0) / (self.tick * self.steps)
        return PLOT["bottom"] - share * (PLOT["bottom"] - PLOT["top"])


def grid(lost_scale, read_scale):
    """Grid lines, and the numbers and titles of both axes."""
    left, right = PLOT["left"], PLOT["right"]
    for step in range(lost_scale.steps + 1):
        lost, read = step * lost_scale.tick, step * read_scale.tick
        y = lost_scale.y(lost)
        yield f'<path class="{"grid" if step else "axis"}" d="M{left} {y:.1f}H{right}"/>'
        yield label(left - 8, y + 4, f"{100 * lost:.0f}", size=11, anchor="end", style="muted")
        yield label(right + 8, y + 4, f"{read:.2g}", size=11, anchor="start", style="muted")
    middle = (PLOT["top"] + PLOT["bottom"]) / 2
    for x, turn, title in ((20, -90, "accuracy lost, points"), (WIDTH - 20, 90, "norm of the weights per channel")):
        yield f'<g transform="translate({x} {middle:g}) rotate({turn})">{label(0, 4, title, size=12)}</g>'


def bar(x, mean, each, scale, color, title):
    """A bar of the mean over the seeds, with a line for each seed."""
    fill, edge = color
    top = scale.y(mean)
    yield (
        f'<rect x="{x}" y="{top:.1f}" width="{BAR}" height="{PLOT["bottom"] - top:.1f}" fill="{fill}" stroke="{edge}">'
        f"<title>{escape(title)}</title></rect>"
    )
    for value in each:
        yield f'<path d="M{x + 5} {scale.y(value):.1f}h{BAR - 10}" stroke="{edge}" stroke-width="2"/>'


def legend():
    """What bars, lines and dots are, above the plot."""
    fill, edge = BRANCH_COLORS["1×1"]
    x, y = PLOT["left"], 28
    yield f'<rect x="{x}" y="{y - 10}" width="14" height="11" fill="{fill}" stroke="{edge}"/>'
    yield label(
        x + 20, y, "left axis: accuracy lost with the branch held at its mean; lines: each seed", anchor="start"
    )
    yield f'<circle class="dot" cx="{x + 7}" cy="{y + 14}" r="3.2"/>'
    yield label(x + 20, y + 19, "right axis: norm of the weights that read the branch", anchor="start")


def label(x, y, words, size=13, anchor="middle", weight=400, style=""):
    """Text at a place."""
    bold = f' font-weight="{weight}"' if weight != 400 else ""
    named = f' class="{style}"' if style else ""
    return f'<text x="{x:g}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{bold}{named}>{escape(words)}</text>'


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    train, x, labels = data()
    nets = [trained(train, seed) for seed in SEEDS]
    all_figures, accuracies = zip(*(study(net, x, labels) for net in nets), strict=True)
    lacking = {
        branch: accuracy(trained(train, SEEDS[0], without=[(module, branch) for module in MODULES]), x, labels)
        for branch in BRANCHES
    }
    text = page(all_figures, accuracies, lacking)
    (DOCS / "inception_study.md").write_text(text, encoding="utf-8")
    (DOCS / "inception_study.svg").write_text(picture(all_figures), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
