"""Draw the pictures of the documentation: docs/architecture.svg and docs/inception.svg.

python tools/draw.py
"""

from pathlib import Path

import cnncore

DOCS = Path(__file__).resolve().parent.parent / "docs"

# From the ground up: what a layer is called, and what one finds there.
LAYERS = [
    ("kernels", "C11, SIMD by vector extensions; one table per CPU target and precision"),
    ("runtime", "tensors, dispatch to the CPU target, threads, memory, random numbers"),
    ("operators", "what an operator is: schema, call, documentation; geometry of windows"),
    ("operators/<family>", "reference implementation, shape inference, schemas, C kernels of a family"),
    ("registry", "all operators by name"),
    ("nets", "structure ← graph ← surgery ← net ← build; plans, buffers by lifetime"),
    ("models, testing", "networks of the literature; gradient checks"),
    ("io", "ONNX, safetensors, npz"),
    ("vision", "images, preprocessing, classification, explanation"),
    ("train", "data, augmentation, loop, optimizers, checkpoints"),
    ("cli", "the command line and its report"),
]
SIDE = ["errors", "checks"]


def architecture():
    """The layers as a stack of boxes, the highest at the top, and beside it what every layer may use."""
    width, height, gap, side = 720, 44, 14, 150
    rows = []
    for number, (name, what) in enumerate(reversed(LAYERS)):
        y = 20 + number * (height + gap)
        shade = 96 - 4 * (len(LAYERS) - number)
        rows.append(
            f'<rect x="20" y="{y}" width="{width}" height="{height}" rx="7" fill="hsl(210 45% {shade}%)" stroke="#5b7690"/>'
            f'<text x="36" y="{y + 27}" font-weight="600">{name}</text><text x="190" y="{y + 27}" font-size="13">{what}</text>'
        )
        if number < len(LAYERS) - 1:
            x, top = 90, y + height
            rows.append(
                f'<path d="M{x} {top}v{gap - 4}m-4 -5l4 5l4 -5" fill="none" stroke="#5b7690" stroke-width="1.5"/>'
            )
    total = 20 + len(LAYERS) * (height + gap)
    x = 40 + width
    rows.append(
        f'<rect x="{x}" y="20" width="{side}" height="{total - 20 - gap}" rx="7" fill="#f4efe3" stroke="#a08c5b"/>'
    )
    rows += [
        f'<text x="{x + side / 2}" y="{total / 2 - 40 + 30 * i}" text-anchor="middle">{name}</text>'
        for i, name in enumerate(SIDE)
    ]
    rows.append(f'<text x="{x + side / 2}" y="{total - 28}" text-anchor="middle" font-size="12">for every layer</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x + side + 20} {total + 6}" font-family="system-ui, sans-serif" '
        f'font-size="15" fill="#1d2b38"><rect width="100%" height="100%" fill="#fff"/>{"".join(rows)}</svg>\n'
    )


def inception():
    """A net with one Inception module, as small as shows the idea."""
    g = cnncore.Graph()
    h = g.max_pool(g.conv(g.input(channels=3), 16, kernel_size=3, padding=1, activation="relu", name="stem"), 2)
    h = cnncore.models.inception_module(g, h, 8, 8, 16, 4, 8, 8, name="inception")
    g.output(g.global_avg_pool(g.conv(h, 10, kernel_size=1, name="classifier")))
    return g.build(seed=0)


def main():
    (DOCS / "architecture.svg").write_text(architecture(), encoding="utf-8")
    inception().draw(DOCS / "inception.svg")


if __name__ == "__main__":
    main()
