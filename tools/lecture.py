"""Run the experiments of the lecture and write its pages of results.

python tools/lecture.py                 all, in full: about a minute on one free core
python tools/lecture.py --quick         one seed, few images: to see that everything runs; writes nothing
"""

import argparse
import json
import math
import platform
from pathlib import Path

import numpy as np
from scipy import stats

import cnncore
from cnncore import train
from cnncore.train.data import digits_split

PAGES = Path(__file__).resolve().parent.parent / "docs" / "lecture"
SEEDS = 6
EPOCHS = 4
IMAGES = 1000
BATCH = 50
RATE = 0.01

# ── Does max beat average? ─────────────────────────────────────────────────────────────────────────────────────────────

POOLINGS = {
    "max": lambda g, h: g.max_pool(h, kernel_size=2),
    "average": lambda g, h: g.avg_pool(h, kernel_size=2),
    "root mean square (lp_pool, p = 2)": lambda g, h: g.lp_pool(h, kernel_size=2, p=2.0, mean=True),
}


def pooled_net(pooling, seed):
    """Two convolutions, each followed by the pooling that is studied, and a linear layer."""
    g = cnncore.Graph()
    h = g.input(channels=1, size=28)
    for channels in (8, 16):
        h = pooling(g, g.conv(h, channels, kernel_size=3, padding=1, activation="relu"))
    g.output(g.linear(g.flatten(h), 10))
    return g.build(seed=seed)


def strided_net(seed):
    """The same with stride 2 in the convolutions and no pooling."""
    g = cnncore.Graph()
    h = g.input(channels=1, size=28)
    for channels in (8, 16):
        h = g.conv(h, channels, kernel_size=3, stride=2, padding=1, activation="relu")
    g.output(g.linear(g.flatten(h), 10))
    return g.build(seed=seed)


def trained(net, seed, dataset, count, epochs):
    """``net`` after training on the first ``count`` images."""
    x, labels = prepared(dataset.images[:count]), dataset.labels[:count]
    trainer = train.Trainer(net, optimizer=train.SGD(RATE, momentum=0.9))
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        trainer.optimizer.learning_rate = RATE * (1 - epoch / epochs)
        order = rng.permutation(len(x))
        for first in range(0, len(x), BATCH):
            chosen = order[first : first + BATCH]
            trainer.step(x[chosen], labels[chosen])
    return net


def accuracy(net, images, labels):
    """Percent of the images that ``net`` classifies correctly."""
    scores = net(prepared(images), training=False)
    return 100 * float((scores.argmax(axis=1) == labels).mean())


def prepared(images):
    """Pixels as numbers with mean about 0."""
    return (images[:, None].astype(np.float32) - 33) / 79


def comparison(seeds, images, epochs):
    """Name → accuracies by seed, of all poolings and of strided convolution."""
    makers = {name: lambda seed, p=pooling: pooled_net(p, seed) for name, pooling in POOLINGS.items()}
    makers["strided convolution"] = strided_net
    known, test = digits_split()
    found = {}
    for name, make in makers.items():
        nets = [trained(make(seed), seed, known, images, epochs) for seed in range(seeds)]
        found[name] = [accuracy(net, test.images, test.labels) for net in nets]
        print(f"{name:45} {' '.join(f'{a:.1f}' for a in found[name])}", flush=True)
    return found


def interval(numbers):
    """Mean and half the width of its 95 % confidence interval (Student 1908)."""
    numbers = np.asarray(numbers, float)
    half = stats.t.ppf(0.975, len(numbers) - 1) * numbers.std(ddof=1) / math.sqrt(len(numbers))
    return float(numbers.mean()), float(half)


def results_table(found):
    """The accuracies as lines of a Markdown table, with the differences from max pooling seed by seed."""
    lines = ["| reduction | parameters | accuracy, % | difference from max |", "|---|---:|---:|---:|"]
    for name, accuracies in found.items():
        net = strided_net(0) if name == "strided convolution" else pooled_net(POOLINGS[name], 0)
        mean, half = interval(accuracies)
        apart = "" if name == "max" else "{:+.2f} ± {:.2f}".format(*interval(np.subtract(accuracies, found["max"])))
        count = sum(array.size for array in net.parameters.values())
        lines.append(f"| {name} | {count:,} | {mean:.2f} ± {half:.2f} | {apart} |")
    return "\n".join(lines)


def dot_plot(found):
    """One line per reduction: the accuracy of every seed, and the interval of the mean, as SVG."""
    left, width, row, top = 270, 620, 34, 30
    everything = [a for accuracies in found.values() for a in accuracies]
    low, high = math.floor(min(everything)), math.ceil(max(everything))
    height = top + row * len(found) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img"><title>Accuracy by reduction and seed</title>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
    ]

    def across(value):
        return left + (width - left - 20) * (value - low) / max(high - low, 1)

    for mark in range(low, high + 1):
        x = across(mark)
        parts.append(f'<path d="M{x:.1f},{top - 8} V{height - 30}" stroke="#d9dfe6"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 14}" text-anchor="middle" fill="#566271">{mark} %</text>')
    for number, (name, accuracies) in enumerate(found.items()):
        y = top + row * number + row / 2
        mean, half = interval(accuracies)
        parts.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end" fill="#1c2530">{name.split(" (")[0]}</text>')
        parts.append(
            f'<path d="M{across(mean - half):.1f},{y} H{across(mean + half):.1f}" stroke="#1f5fae" stroke-width="3"/>'
        )
        parts += [
            f'<circle cx="{across(a):.1f}" cy="{y}" r="3.2" fill="#e0a458" stroke="#1c2530"/>' for a in accuracies
        ]
        parts.append(f'<path d="M{across(mean):.1f},{y - 8} v16" stroke="#1f5fae" stroke-width="3"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


# ── Zero-centering ─────────────────────────────────────────────────────────────────────────────────────────────────────


def same_sign_share(activation, seeds, width=16):
    """How often all gradients of one unit's weights have the same sign, over units, images and seeds.

    The unit reads what ``activation`` makes of Gaussian numbers: its gradient is dy · x for every weight.
    """
    op, shares = cnncore.OPS[activation], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x = op(rng.normal(size=(500, width)))
        w = rng.normal(size=(1, width)) / math.sqrt(width)
        for image in x:
            _, backward = cnncore.linear.with_backward(image[None], w)
            _, dw = backward(rng.normal(size=(1, 1)))
            shares.append(bool((dw >= 0).all() or (dw <= 0).all()))
    return float(np.mean(shares))


def descent_path(shift, steps=40, rate=0.45):
    """The weights of y = w · x + 0 on the way from (0, 0) to the target (1, −1), for inputs with mean ``shift``."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(200, 2)) + shift
    w, path, target = np.zeros((1, 2)), [], np.array([[1.0, -1.0]])
    for step in range(steps):
        path.append(w[0].tolist())
        one = x[step % len(x)][None]
        y, backward = cnncore.linear.with_backward(one, w)
        dy = y - cnncore.linear(one, target)
        _, dw = backward(dy)
        w = w - rate * dw / max(1.0, float((one**2).sum()))
    return np.array(path)


def path_plot(paths):
    """The paths as SVG, beside each other."""
    side, gap = 260, 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {len(paths) * (side + gap)} {side + 30}" '
        f'width="{len(paths) * (side + gap)}" height="{side + 30}" font-family="system-ui, sans-serif" font-size="12" role="img">'
        f'<title>Paths of two weights</title><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for number, (name, path) in enumerate(paths.items()):
        left = number * (side + gap) + 10
        points = " ".join(f"{left + side * (x + 0.5) / 2:.1f},{20 + side * (0.5 - y) / 2:.1f}" for x, y in path)
        goal = (left + side * 1.5 / 2, 20 + side * 1.5 / 2)
        parts.append(f'<rect x="{left}" y="20" width="{side}" height="{side}" fill="#f6f7f9" stroke="#d9dfe6"/>')
        parts.append(f'<text x="{left}" y="14" fill="#1c2530">{name}</text>')
        parts.append(f'<polyline points="{points}" fill="none" stroke="#1f5fae" stroke-width="1.5"/>')
        parts += [
            f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="2" fill="#1f5fae"/>' for p in points.split()
        ]
        parts.append(f'<circle cx="{goal[0]}" cy="{goal[1]}" r="5" fill="none" stroke="#b2182b" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="few images and seeds; writes nothing")
    quick = options.parse_args().quick
    found = comparison(2, 200, 1) if quick else comparison(SEEDS, IMAGES, EPOCHS)
    table, plot = results_table(found), dot_plot(found)
    shares = {
        name: same_sign_share(name, 1 if quick else 5) for name in ("sigmoid", "relu", "leaky_relu", "elu", "tanh")
    }
    paths = {"inputs with mean 0": descent_path(0.0), "inputs with mean 2 (all positive)": descent_path(2.0)}
    print(table, shares, sep="\n")
    if quick:
        return
    said = f"cnncore {cnncore.__version__}, {platform.machine()}, {cnncore.cpu.target()}"
    (PAGES / "results.json").write_text(
        json.dumps({"made_by": said, "accuracy": found, "same_sign": shares}, indent=1) + "\n", encoding="utf-8"
    )
    (PAGES / "results.md").write_text(results_page(table, shares, said), encoding="utf-8")
    (PAGES / "pooling.svg").write_text(plot, encoding="utf-8")
    (PAGES / "zigzag.svg").write_text(path_plot(paths), encoding="utf-8")


def results_page(table, shares, said):
    """docs/lecture/results.md."""
    lines = "\n".join(f"| {name} | {100 * share:.1f} % |" for name, share in shares.items())
    return f"""# Results of the lecture's experiments

Written by `python tools/lecture.py` with {said}. On another CPU roundings
differ, and training yields other networks.

## Reductions

A network of two 3×3 convolutions (8 and 16 channels, ReLU), each followed by the reduction, and a
linear layer; {IMAGES:,} of the embedded digits, {EPOCHS} epochs of momentum SGD, {SEEDS} seeds; accuracy on 1,000
others. All have the same learning rate, {RATE}, which may suit one better than another. The intervals
are 95 % intervals of Student's t; differences are taken seed by seed.

{table}

![Accuracy of every seed, and the interval of the mean](pooling.svg)

## Gradients of one sign

A unit with 16 weights reads what an activation makes of Gaussian numbers. How often do all 16
weights have a gradient of the same sign, so that they can only grow or shrink together?

| activation before the unit | all gradients of one sign |
|---|---:|
{lines}

![Two weights on the way to their target, for inputs with and without mean](zigzag.svg)
"""


if __name__ == "__main__":
    main()
