"""Draw the pictures of the documentation: docs/architecture.svg, docs/inception.svg and docs/kernels.svg.

python tools/draw.py
"""

import re
from pathlib import Path
from xml.sax.saxutils import escape

import cnncore

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

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
            f'<text x="36" y="{y + 27}" font-weight="600">{escape(name)}</text>'
            f'<text x="190" y="{y + 27}" font-size="13">{escape(what)}</text>'
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
        f'<text x="{x + side / 2}" y="{total / 2 - 40 + 30 * i}" text-anchor="middle">{escape(name)}</text>'
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


# ── How to read a kernel ───────────────────────────────────────────────────────────────────────────────────────────────

INK, LINE, SHADE, ACCENT, PALE = "#1d2b38", "#5b7690", "hsl(210 45% 84%)", "#e0a458", "#fdf3e1"


def constants(path, name):
    """The numbers that the C source gives to ``name``, one per #if, so that the picture cannot say others."""
    text = (ROOT / "cnncore" / path).read_text(encoding="utf-8")
    return [int(number) for number in re.findall(rf"(?:#define {name}|\b{name} =) (\d+)", text)]


def label(x, y, words, size=13, anchor="start", weight=400):
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
    )


def box(x, y, width, height, fill="none", stroke=LINE, thick=1):
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" stroke="{stroke}" stroke-width="{thick}"/>'


def grid(x, y, columns, rows, cell, fill="#fff"):
    """Cells of ``cell`` pixels: one rectangle and the lines inside it."""
    lines = [f"M{x + i * cell} {y}v{rows * cell}" for i in range(1, columns)]
    lines += [f"M{x} {y + i * cell}h{columns * cell}" for i in range(1, rows)]
    return (
        box(x, y, columns * cell, rows * cell, fill) + f'<path d="{"".join(lines)}" stroke="{LINE}" stroke-width=".5"/>'
    )


def arrow(x, y, length):
    return f'<path d="M{x} {y}h{length}m-6 -5l6 5l-6 5" fill="none" stroke="{LINE}" stroke-width="1.5"/>'


def names_and_vectors(top):
    """K(name), REAL and LANES: what one source becomes; and what a vector holds."""
    targets = ("baseline", "avx2", "avx512", "neon")
    parts = [
        label(20, top + 16, "1  One source, compiled once per CPU target and precision", 15, weight=600),
        label(20, top + 46, "K(max_pool_forward)", weight=600),
        label(20, top + 68, "a name for each, and how", 12),
        label(20, top + 84, "many LANES it has", 12),
        arrow(176, top + 42, 26),
        label(322, top + 46, "f32: REAL is float", anchor="middle", weight=600),
        label(554, top + 46, "f64: REAL is double", anchor="middle", weight=600),
    ]
    for number, target in enumerate(targets):
        y = top + 66 + 22 * number
        (size,) = constants(f"kernels/target_{target}.c", "VECTOR_BYTES")
        for column, (precision, real) in enumerate((("f32", 4), ("f64", 8))):
            words = f"max_pool_forward_{target}_{precision}: {size // real}"
            parts.append(label(322 + 232 * column, y, words, 12, "middle"))
    lanes = constants("kernels/target_avx2.c", "VECTOR_BYTES")[0] // 4
    x, y, cell = 690, top + 62, 11
    parts += [
        label(x, top + 46, "channels innermost: the C values of a pixel", 12),
        grid(x, y, 2 * lanes + 4, 3, cell),
        box(x, y, lanes * cell, cell, ACCENT),
        label(x, y + 54, f"a vector: LANES channels of one pixel ({lanes} here);", 12),
        label(x, y + 70, "the last channels, too few for one, are its tail", 12),
    ]
    return parts


def max_pooling(top):
    """A task, a strip, a window and its columns, and the vectors that are taken together."""
    x, y, cell = 20, top + 42, 15
    (vectors,) = constants("kernels/calls.h", "CNN_POOL_VECTORS")
    parts = [
        label(20, top + 16, "2  Max pooling: a vector holds the same cell of LANES channels", 15, weight=600),
        grid(x, y, 13, 9, cell),
        box(x, y + 2 * cell, 13 * cell, 5 * cell, SHADE),
        grid(x, y + 2 * cell, 13, 5, cell, "none"),
        box(x + 4 * cell, y + 2 * cell, 3 * cell, 3 * cell, PALE, ACCENT, 2),
        box(x + 6 * cell, y + 2 * cell, cell, 3 * cell, ACCENT, ACCENT, 2),
        label(x, y + 9 * cell + 18, "x: the rows that a strip of windows covers", 12),
        arrow(230, y + 66, 34),
        grid(280, y + 22, 6, 4, cell),
        box(280, y + 22 + cell, 6 * cell, 2 * cell, SHADE),
        grid(280, y + 22 + cell, 6, 2, cell, "none"),
        box(280 + 2 * cell, y + 22 + cell, cell, cell, ACCENT),
        label(280, y + 104, "y: a strip is rows", 12),
        label(280, y + 120, "of windows", 12),
    ]
    for number in range(vectors):
        parts.append(box(410 + 12 * number, y + 28 + 10 * number, 70, 40, PALE if number else ACCENT))
    parts += [
        label(410, y + 118, f"{vectors} vectors of", 12),
        label(410, y + 134, "channels together", 12),
        label(600, y + 14, "task", weight=600),
        label(690, y + 14, "an image × a strip × the vectors of a pixel", 12),
        label(600, y + 42, "window", weight=600),
        label(690, y + 42, "first cell and number of cells, by axis (cnn_axis)", 12),
        label(600, y + 70, "column", weight=600),
        label(690, y + 70, "its maximum serves all windows that share it", 12),
        label(600, y + 98, "band", weight=600),
        label(690, y + 98, "what a strip is where channels are not innermost:", 12),
        label(690, y + 114, "LANES planes are packed into vectors first", 12),
    ]
    return parts


def convolution(top):
    """A task, a tile and units of y; then the product in registers, its panel and its stretches."""
    most_rows, rows = constants("kernels/gemm.h", "ROWS")
    (chain,) = constants("kernels/gemm.h", "CHAIN")
    y, cell = top + 42, 9
    parts = [
        label(20, top + 16, "3  Convolution: tiles of y, panels of weights, sums in registers", 15, weight=600),
        grid(20, y, 18, 18, cell),
        box(20, y, 6 * cell, 6 * cell, SHADE),
        *(box(20 + 6 * cell * (i % 3), y + 6 * cell * (i // 3), 6 * cell, 6 * cell) for i in range(9)),
        box(20, y, rows * cell, cell, ACCENT, ACCENT),
        label(20, y + 182, "y: a tile is some rows × columns", 12),
        label(20, y + 198, "of pixels (and images, if small)", 12),
        *(box(206 + 18 * i, y, 18, 54, SHADE if i < 2 else "#fff") for i in range(5)),
        label(206, y + 72, "units: the output", 12),
        label(206, y + 88, "channels of y, cut", 12),
        label(206, y + 104, "into 2 LANES each", 12),
        label(206, y + 132, "task", weight=600),
        label(206, y + 148, "a tile × some units", 12),
        arrow(306, y + 27, 34),
    ]
    x, wide, high, lane = 360, 210, 126, 6
    lanes = constants("kernels/target_avx2.c", "VECTOR_BYTES")[0] // 4
    panel = x + wide + 16
    bottom = y + high + 10
    parts += [
        *(box(panel, y + i * high / 3, 2 * lanes * lane, high / 3, SHADE, LINE, 1.5) for i in range(3)),
        box(panel, y + 20, 2 * lanes * lane, 6, ACCENT, ACCENT),
        *(box(x + i * wide / 3, bottom, wide / 3, rows * cell, SHADE, LINE, 1.5) for i in range(3)),
        box(x + 34, bottom, 6, rows * cell, ACCENT, ACCENT),
        *(box(panel + i * lanes * lane, bottom, lanes * lane, rows * cell, PALE, ACCENT, 1.5) for i in range(2)),
        *(f'<path d="M{panel} {bottom + i * cell}h{2 * lanes * lane}" stroke="{ACCENT}"/>' for i in range(1, rows)),
        label(x, bottom - 24, f"{rows} pixels of x, all taps and channels:", 12),
        label(x, bottom - 8, "their terms, read where they are", 12),
        label(x + 8, y + 14, "stretch", weight=600),
        label(x + 8, y + 32, f"{chain} terms: the longest chain of", 12),
        label(x + 8, y + 48, "additions; then a new sum begins", 12),
    ]
    right = panel + 2 * lanes * lane + 20
    parts += [
        label(right, y + 14, "panel", weight=600),
        label(right + 56, y + 14, "packed weights of a unit: for each", 12),
        label(right + 56, y + 30, "term 2 vectors of output channels", 12),
        label(right, y + 62, "term", weight=600),
        label(right + 56, y + 62, "a tap × an input channel", 12),
        label(right, bottom + 14, "sums", weight=600),
        label(right + 56, bottom + 14, f"ROWS × 2 vectors ({rows} × 2 with 16", 12),
        label(right + 56, bottom + 30, f"registers, {most_rows} × 2 with 32); bias and", 12),
        label(right + 56, bottom + 46, "activation on their way to memory", 12),
    ]
    return parts


def kernels():
    """The words of docs/kernels.md on one picture."""
    parts = [*names_and_vectors(10), *max_pooling(180), *convolution(410)]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 670" font-family="system-ui, sans-serif" '
        f'fill="{INK}"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


PICTURES = {
    "architecture.svg": architecture,
    "inception.svg": lambda: inception().draw(),
    "kernels.svg": kernels,
}


def main():
    for name, draw in PICTURES.items():
        (DOCS / name).write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
