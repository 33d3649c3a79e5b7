"""A small picture per operator, as SVG, made by the operator itself: what it does, and where the gradient flows.

An activation of single values is drawn as the curves of y and of its slope. Everything else is run on a small image: its arrays,
y, and the gradient of x where dy is 1 at a single place, which is framed in y. Blue is positive, orange is negative.

``python tools/pictures.py NAME …`` prints the size of each picture; ``tools/generate.py`` writes them into docs/operators/.
"""

import sys

import numpy as np

import cnncore
from cnncore.families.activation import RandomSlopes
from cnncore.families.elementwise import Elementwise, Parametric
from cnncore.operator import REQUIRED

LARGEST = 6000  # bytes
LEVELS = 6
CELL = 11
EXTENT = 8
INK, PAPER, LINE = "#1d2b38", "#fff", "#c9d2da"
COLOURS = {"y": "#1668b3", "slope": "#d2691e"}


def picture(op):
    """The SVG of an operator."""
    with cnncore.cpu.target("definition"):
        kind = getattr(op.kind, "kind", op.kind)
        svg = curves(op) if isinstance(kind, (Elementwise, Parametric, RandomSlopes)) else panels(op)
    if len(svg.encode()) > LARGEST:
        raise ValueError(f"the picture of {op.name} has {len(svg.encode())} bytes, more than {LARGEST}")
    return svg


def document(width, height, body):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="{INK}"><rect width="100%" height="100%" fill="{PAPER}"/>'
        f"{body}</svg>\n"
    )


# ── Curves ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

WIDTH, HEIGHT, REACH = 240, 150, 4.0


def needed(op):
    """Settings that have no default, from the first case."""
    return {name: value for name, value in op.cases[0].settings.items() if op.settings[name] is REQUIRED}


def curves(op):
    """y over −4 … 4 and its slope, dashed."""
    x = np.linspace(-REACH, REACH, 161)
    learned = (np.array([0.25]),) if op.name == "prelu" else ()
    with np.errstate(all="ignore"):
        x = x[np.isfinite(op(x[None], *learned, **needed(op)))[0]]  # where it is defined
    y, backward = op.with_backward(x[None], *learned, **needed(op))
    slope = backward(np.ones_like(y))
    slope = slope[0] if isinstance(slope, tuple) else slope
    slope = np.clip(slope, -100, 100)
    low, high = max(min(-1.2, y.min() - 0.2), -2.2), min(max(1.4, y.max() + 0.2), 3.4)

    def place(u, v):
        return (u + REACH) / (2 * REACH) * WIDTH, (high - v) / (high - low) * HEIGHT

    def curve(values, colour, dash=""):
        path, drawing = [], False
        previous = None
        for u, v in zip(x, values, strict=True):
            jump = previous is not None and abs(v - previous) > 0.4
            previous = v
            if not low <= v <= high:
                drawing = False
                continue
            a, b = place(u, v)
            path.append(f"{'L' if drawing and not jump else 'M'}{a:.4g} {b:.4g}")
            drawing = True
        return f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'

    (zero, one), (left, bottom) = place(0, 1), place(-1, 0)
    _, axis = place(0, 0)
    axes = (
        f'<path d="M0 {axis:.4g}H{WIDTH}M{zero:.4g} 0V{HEIGHT}M{zero - 3:.4g} {one:.4g}h6M{left:.4g} {axis - 3:.4g}v6'
        f'M{2 * zero - left:.4g} {bottom - 3:.4g}v6" stroke="{LINE}" fill="none"/>'
        f'<text x="{zero + 5:.4g}" y="{one + 4:.4g}">1</text><text x="{2 * zero - left - 3:.4g}" y="{axis + 13:.4g}">1</text>'
    )
    legend = (
        f'<text x="6" y="14" fill="{COLOURS["y"]}" font-weight="600">y</text>'
        f'<text x="20" y="14" fill="{COLOURS["slope"]}">∂y/∂x</text>'
    )
    dashed = ' stroke-dasharray="5 3"'
    return document(
        WIDTH,
        HEIGHT,
        f"<title>{op.name}: y and its slope over x from −4 to 4</title>{axes}"
        f"{curve(slope[0], COLOURS['slope'], dashed)}{curve(y[0], COLOURS['y'])}{legend}",
    )


# ── Images ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def image(shape):
    """A stroke and a spot, no two pixels alike; other channels have it turned around."""
    rows, columns = np.indices(shape[2:4]) if len(shape) > 3 else np.indices((1, shape[-1]))
    x = np.empty((*shape[:2], *rows.shape))
    for c in range(shape[1]):
        i, j = (rows, columns) if c % 2 == 0 else (rows[::-1], columns)
        stroke = np.exp(-(((i - j) * 0.7) ** 2) / 2)
        spot = np.exp(-((i - 1.5) ** 2 + (j - rows.shape[1] + 2.5) ** 2) / 2.5)
        x[:, c] = 0.08 + 0.75 * np.maximum(stroke, spot) + 0.013 * ((3 * i + 5 * j + c) % 7)
    return x.reshape(shape)


def example(op):
    """Arrays and settings to draw: of a case with two spatial axes where there is one; of an activation along channels these."""
    if op.family == "activation":
        return (np.array([[0.4, 2.0, -1.0, 1.3, -0.3, 1.6, 0.1, -1.8]]),), {}
    case = next((case for case in op.cases if 2 in case.ranks), op.cases[0])
    rank = 2 if 2 in case.ranks else case.ranks[0]
    for spatial in (EXTENT, case.spatial):
        chosen = case.but(spatial=spatial, batch=1)
        try:
            x, *rest = chosen.sample(rank)
            if x.ndim >= 3:
                x = image(x.shape)
            arrays = (x, *rest)
            op(*arrays, **case.settings)
        except cnncore.CnnError:
            continue
        return arrays, case.settings
    return case.sample(rank), case.settings


def plane(a):
    """What is shown of an array: its first plane, or its numbers in rows; None where that would be too much."""
    a = np.asarray(a, dtype=float)
    while a.ndim > 2:
        a = a[0]
    a = np.atleast_2d(a)
    return a if a.size <= 160 else a[: max(1, 160 // a.shape[1]), :16]


def panels(op):
    """The arrays, y, and the gradient of x for one dy."""
    arrays, settings = example(op)
    y, backward = op.with_backward(*arrays, **settings)
    y = np.asarray(y[0] if isinstance(y, tuple) else y)
    dy = np.zeros_like(y)
    place = tuple(0 if axis < y.ndim - 2 or y.ndim < 2 else extent // 2 for axis, extent in enumerate(y.shape))
    if y.ndim == 2:
        place = (0, y.shape[1] // 2)
    dy[place] = 1
    gradients = backward(dy)
    dx = gradients[0] if isinstance(gradients, tuple) else gradients
    shown = [(op.arrays[0].name, arrays[0], None)]
    if len(arrays) > 1 and arrays[1] is not None and arrays[1].dtype.kind == "f" and arrays[1].size > 1:
        shown.append((op.rows(len(arrays))[1].name + ("₂" if op.several else ""), arrays[1], None))
    frame = place[-2:] if y.ndim > 1 else (0, 0)
    shown += [("y", y, frame), ("dx of the framed dy", dx, None)]
    x, parts, height = 8, [], 0
    for title, values, framed in shown:
        grid = plane(values)
        parts.append(f'<text x="{x}" y="14">{title}</text><g transform="translate({x} 22) scale({CELL})">{heat(grid)}')
        if framed is not None and framed[0] < grid.shape[0] and framed[1] < grid.shape[1]:
            parts.append(
                f'<rect x="{framed[1]}" y="{framed[0]}" width="1" height="1" fill="none" stroke="{INK}" stroke-width=".2"/>'
            )
        parts.append("</g>")
        height = max(height, grid.shape[0])
        x += max(grid.shape[1] * CELL, 7 * len(title)) + 20
    return document(
        x - 10, 30 + height * CELL, f"<title>{op.name}: what it does to a small image</title>{''.join(parts)}"
    )


def heat(grid):
    """Cells of a grid, one path for each of a few shades."""
    finite = np.where(np.isfinite(grid), grid, 0)
    largest = np.abs(finite).max(initial=0) or 1
    # Halves lie between two shades: a difference in the last place must not change the picture.
    level = np.rint(finite / largest * LEVELS + 1e-6).astype(int)
    level = np.where((level == 0) & (np.abs(finite) > 1e-9 * largest), np.sign(finite).astype(int), level)
    paths = []
    for shade in np.unique(level):
        strokes = []
        for row in range(grid.shape[0]):
            start = None
            for column in range(grid.shape[1] + 1):
                inside = column < grid.shape[1] and level[row, column] == shade
                if inside and start is None:
                    start = column
                elif not inside and start is not None:
                    strokes.append(f"M{start} {row}h{column - start}v1h{start - column}z")
                    start = None
        light = 94 - 58 * abs(shade) / LEVELS
        colour = "#eef1f4" if shade == 0 else f"hsl({210 if shade > 0 else 25} 70% {light:.0f}%)"
        paths.append(f'<path fill="{colour}" d="{"".join(strokes)}"/>')
    lines = f'<path d="M0 0h{grid.shape[1]}v{grid.shape[0]}h-{grid.shape[1]}z" fill="none" stroke="{LINE}" stroke-width=".1"/>'
    return "".join(paths) + lines


def main():
    for name in sys.argv[1:] or cnncore.OPS:
        print(f"{name:<28} {len(picture(cnncore.OPS[name]).encode()):>5} bytes")


if __name__ == "__main__":
    main()
