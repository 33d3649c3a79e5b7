"""What an Inception network does with its four branches: ``python tools/inception_study.py`` (about two minutes).

Trains cnncore.models.small_inception on the embedded digits, three times from different seeds, then looks at every branch of
every module: how strongly the following layers read it, how active it is, and how much accuracy is lost without it. Then
trains four networks that lack a branch from the start. Writes docs/inception_study.md and docs/inception_study.svg.
"""

import argparse
import dataclasses
import time
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from cnncore import models
from cnncore.drawing import COLORS, FONT, INK, MUTED
from cnncore.train import Adam, Trainer
from cnncore.train.data import digits_split
from cnncore.train.job import DISTORTIONS

DOCS = Path(__file__).resolve().parent.parent / "docs"
MODULES = ("inception_1", "inception_2", "inception_3", "inception_4")
BRANCHES = {"1×1": "conv1x1", "3×3": "conv3x3", "5×5": "conv5x5", "pool": "pool_project"}
SEEDS = (0, 1, 2)
EPOCHS = 8
RATE = 0.007


def data():
    """(training data set, held-out images as the net takes them, their labels)."""
    train, held_out = digits_split()
    x, labels = next(iter(held_out.batches(len(held_out))))
    return train, x, labels


def trained(train, seed, epochs=EPOCHS, without=()):
    """A net trained for some epochs; the branches in ``without`` are silent from the start and stay so."""
    net = models.small_inception(seed=seed)
    for module, branch in without:
        silence(net, module, branch)
        net.frozen |= set(last_arrays(net, module, branch))
    Trainer(net, Adam(RATE, weight_decay=1e-4)).fit(
        train, epochs=epochs, batch_size=64, schedule="one_cycle", augment=dataclasses.replace(DISTORTIONS), seed=seed
    )
    return net


def last_arrays(net, module, branch):
    """Names of the arrays that make a branch's last values: scale and shift of its normalisation, or weights and biases."""
    stem = f"{module}/{BRANCHES[branch]}"
    stem += "_norm" if f"{stem}_norm.w" in net.parameters else ""
    return f"{stem}.w", f"{stem}.b"


def silence(net, module, branch, level=0.0):
    """Let a branch say the same everywhere: ``level`` in each of its channels, whatever the image. Returns what was there."""
    before = {name: net.parameters[name].copy() for name in last_arrays(net, module, branch)}
    scale, shift = before
    net.parameters[scale] = np.zeros_like(before[scale])
    net.parameters[shift] = np.broadcast_to(level, before[shift].shape)
    return before


def accuracy(net, x, labels):
    """Share of right answers."""
    return float(np.mean(net(x).argmax(axis=1) == labels))


def slices(net, module):
    """Branch → its channels in the joined image."""
    widths = {branch: len(net.parameters[last_arrays(net, module, branch)[1]]) for branch in BRANCHES}
    ends = np.cumsum(list(widths.values()))
    return {branch: slice(end - width, end) for (branch, width), end in zip(widths.items(), ends, strict=True)}


def readers(net, module):
    """The convolutions that read a module's joined image."""
    following = MODULES[MODULES.index(module) + 1 :]
    if not following:
        return ["classifier.w"]
    names = ("conv1x1", "conv3x3_reduce", "conv5x5_reduce", "pool_project")
    return [f"{following[0]}/{name}.w" for name in names]


def study(net, x, labels):
    """(module, branch) → figures of one net; its accuracy."""
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
    """Bring back what :func:`silence` replaced."""
    for name, array in arrays.items():
        net.parameters[name] = array


# ── The page ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def percent(value):
    return f"{100 * value:.1f} %"


def points(value):
    """A difference of accuracies, in hundredths."""
    return f"{100 * value:.1f}".replace("-", "−")


def mean_over(all_figures, what):
    """(module, branch) → mean of a figure over the seeds."""
    return {key: float(np.mean([figures[key][what] for figures in all_figures])) for key in all_figures[0]}


def page(all_figures, accuracies, lacking, seconds):
    """The text of docs/inception_study.md."""
    lost = {what: mean_over(all_figures, f"lost, {what}") for what in ("held at its mean", "silent", "alone")}
    read, written, activity = (mean_over(all_figures, what) for what in ("read", "written", "activity"))
    lines = [
        "# What an Inception network does with its branches",
        "",
        "Szegedy et al. put 1×1, 3×3 and 5×5 convolutions and a pooling side by side so that training may choose. Does it? "
        f"`cnncore.models.small_inception` was trained on 4,000 of the embedded digits, {EPOCHS} epochs from each of the seeds "
        f"{', '.join(map(str, SEEDS))}, and looked at on the 1,000 others, where it reads {', '.join(map(percent, accuracies))}. "
        "All figures below are means over these three networks. With 1,000 images one accuracy is uncertain by about 0.4 "
        "points, a mean of three by about 0.3; smaller differences say nothing, and where additions round otherwise (another CPU "
        f"or version) the networks are others. Written by `python tools/inception_study.py` ({seconds:.0f} s on two cores).",
        "",
        "![Accuracy lost without a branch, and how strongly it is read](inception_study.svg)",
        "",
        "| module | branch | channels | scale written | weights read | activity | lost: held at its mean | lost: silent | "
        "lost: all others held |",
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
        "* **scale written**: root mean square of the branch's last scales: those of its normalisation; in inception_4, which "
        "has none, of the weights of its last convolution.",
        "* **weights read**: root of the summed squares of the weights that the following layers apply to the branch, per "
        "channel. The norms of convolutions before a normalisation are left out: they have no effect, it divides by them.",
        "* **activity**: root mean square of the branch's values.",
        "* **lost**: points of accuracy, when the branch says the same whatever the image, its mean over the images or nothing; "
        "and when the three others say their means.",
        "",
        "## Trained without a branch",
        "",
        "The same network, seed 0, with one kind of branch silent in all four modules from the first step on:",
        "",
        "| silent | accuracy | points less than with all |",
        "|---|---:|---:|",
        f"| none | {percent(accuracies[0])} | |",
    ]
    lines += [f"| {branch} | {percent(a)} | {points(accuracies[0] - a)} |" for branch, a in lacking.items()]
    lines += ["", "## What it says", "", *findings(all_figures, lost, read, lacking, accuracies)]
    return "\n".join(lines) + "\n"


def by_rows(figures):
    """A figure of the branches, module by module."""
    return [np.array([figures[module, branch] for branch in BRANCHES]) for module in MODULES]


def findings(all_figures, lost, read, lacking, accuracies):
    """Sentences whose words follow from the figures."""
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
    spread = float(np.mean([np.ptp(values) / values.mean() for values in by_rows(read)]))
    each = [figures[worst]["lost, held at its mean"] for figures in all_figures]
    most_lacked = max(accuracies[0] - a for a in lacking.values())
    ratio = float(np.mean(list(silent.values())) / max(np.mean(list(held.values())), 1e-4))
    return [
        f"* **The branches are not equal.** The most is lost without {worst[1]} of {worst[0]} ({points(held[worst])} points), "
        f"the least without {least[1]} of {least[0]} ({points(held[least])}). Over the modules the order is "
        + ", ".join(f"{branch} ({points(by_branch[branch])})" for branch in order)
        + f". The 3×3 convolution also has the most channels, {percent(widest)} of them, as the paper has it.",
        f"* **Seeds choose differently**: the three networks, equally good, lose {', '.join(map(points, each))} without "
        f"{worst[1]} of {worst[0]}.",
        f"* **Where it matters most**: {', '.join(f'{m} ({points(by_module[m])})' for m in modules)}, means over the branches.",
        f"* **Silence is worse than a constant**: {ratio:.1f} times the loss. The following layers count on the branch's mean; "
        "part of what zeroing a branch seems to show is only that its level is missed.",
        f"* **No branch is enough**: with the other three held at their means {points(single)} points are lost on average.",
        "* **How strongly a branch is read hardly tells what it is worth**: the norms differ by "
        f"{percent(spread)} within a module, the losses by factors; their correlation within modules is {correlation:+.2f}.",
        "* **What one branch did, others learn to do**: trained without a kind of branch from the start, the network loses "
        f"{points(most_lacked)} points at the most, where taking one away after training cost up to {points(held[worst])} in a "
        "single module. The branches are a choice that training makes, not parts that each have their duty.",
    ]


def picture(all_figures):
    """Bars: accuracy lost with the branch held at its mean (thin line: of each seed); dots: weights read."""
    held, read = mean_over(all_figures, "lost, held at its mean"), mean_over(all_figures, "read")
    top = max(max(f["lost, held at its mean"] for f in figures.values()) for figures in all_figures)
    most_read = max(read.values())
    left, height, bar, gap, space, base = 62, 210, 26, 8, 34, 262
    colors = dict(
        zip(BRANCHES, (COLORS[name] for name in ("convolution", "activation", "layers", "pooling")), strict=True)
    )
    parts, x = [], left
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.25) if top <= 5 * step)
    top = step * int(np.ceil(top / step - 1e-9))
    for tick in range(round(top / step) + 1):
        value = step * tick
        y = base - height * value / top
        parts.append(f'<path d="M{left - 6} {y:.1f}H760" stroke="#e6eaef"/>')
        parts.append(
            f'<text x="{left - 10}" y="{y + 4:.1f}" text-anchor="end" font-size="11" fill="{MUTED}">{100 * value:.0f}</text>'
        )
    for module in MODULES:
        start = x
        for branch, (fill, edge) in colors.items():
            key = (module, branch)
            tall = height * max(held[key], 0) / top
            parts.append(
                f'<rect x="{x}" y="{base - tall:.1f}" width="{bar}" height="{tall:.1f}" fill="{fill}" stroke="{edge}">'
                f"<title>{escape(module)} {branch}: {points(held[key])} points</title></rect>"
            )
            for figures in all_figures:
                y = base - height * max(figures[key]["lost, held at its mean"], 0) / top
                parts.append(f'<path d="M{x + 6} {y:.1f}h{bar - 12}" stroke="{edge}" stroke-width="1.5"/>')
            y = base - height * read[key] / most_read
            parts.append(f'<circle cx="{x + bar / 2}" cy="{y:.1f}" r="3.2" fill="{INK}"/>')
            parts.append(f'<text x="{x + bar / 2}" y="{base + 15}" text-anchor="middle" font-size="11">{branch}</text>')
            x += bar + gap
        parts.append(
            f'<text x="{(start + x - gap) / 2}" y="{base + 34}" text-anchor="middle" font-weight="600">{module}</text>'
        )
        x += space
    title = "Points of accuracy lost when a branch always says its mean (bars; lines: each seed), and weights that read it (dots)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 {base + 50}" font-family="{escape(FONT, {chr(34): chr(39)})}" '
        f'font-size="13" fill="{INK}" role="img"><title>{title}</title><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="20" y="24">{title}</text>{"".join(parts)}</svg>\n'
    )


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    began = time.perf_counter()
    train, x, labels = data()
    nets = [trained(train, seed) for seed in SEEDS]
    all_figures, accuracies = zip(*(study(net, x, labels) for net in nets), strict=True)
    lacking = {
        branch: accuracy(trained(train, SEEDS[0], without=[(module, branch) for module in MODULES]), x, labels)
        for branch in BRANCHES
    }
    text = page(all_figures, accuracies, lacking, time.perf_counter() - began)
    (DOCS / "inception_study.md").write_text(text, encoding="utf-8")
    (DOCS / "inception_study.svg").write_text(picture(all_figures), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
