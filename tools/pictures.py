"""A picture per operator, as SVG, made by the operator itself: what it does, and where its gradient flows.

An activation of single values is drawn as the curves of y and of its derivative. Every other operator is run on a small
image, and its arrays, y and the gradient of x are drawn as panels of numbers: dy is 1 at one place of y, which is framed, and
0 elsewhere; framed in x and in its gradient are the cells that this place of y depends on. Operators with windows are drawn
with stride and dilation too, and operators made of other operators with the graph of their steps.

``python tools/pictures.py NAME …`` prints the size of each picture; ``tools/generate.py`` writes them to docs/operators/.
"""

import itertools
import math
import sys
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
from picture_examples import (
    COLUMNS,
    MOST_COLUMNS,
    MOST_ROWS,
    ROWS,
    example,
    first,
    is_composition,
    stages_of,
    variants,
)

import cnncore
from cnncore.operators.activation.elementwise import Elementwise, Parametric
from cnncore.operators.activation.implementation import RandomSlopes
from cnncore.operators.schema import REQUIRED

LARGEST = 16_000  # bytes
MARGIN = 8

LEVELS = 8  # shades

# Cells are thick lines. Opacities over the colour of an empty cell give shades that fit a light and a dark page.
LIGHT = {
    "text": "fill:#1f2933", ".paper": "fill:#fff", ".e": "stroke:#eef1f4", ".p": "stroke:#1668b3", ".n": "stroke:#c2571a",
    ".f": "stroke:#1f2933", ".l": "stroke:#b6c0c9", ".w": "fill:#fff",
}  # fmt: skip
DARK = {
    "text": "fill:#dce3ea", ".paper": "fill:#0d1117", ".e": "stroke:#262d36", ".p": "stroke:#3b8eea", ".n": "stroke:#e0762f",
    ".f": "stroke:#f0f4f8", ".l": "stroke:#56616d", ".w": "fill:#fff",
}  # fmt: skip


def rules(colours):
    return "".join(f"{selector}{{{declaration}}}" for selector, declaration in colours.items())


STYLE = (
    "<style>text{font:11px system-ui,sans-serif}.m{font-family:ui-monospace,monospace}.c{text-anchor:middle;font-size:8.5px}"
    "path{fill:none}" + "".join(f".o{i}{{opacity:{i / LEVELS:.3g}}}" for i in range(1, LEVELS))
    + f"{rules(LIGHT)}@media(prefers-color-scheme:dark){{{rules(DARK)}}}</style>"
)  # fmt: skip


def picture(op):
    """The SVG of an operator."""
    with cnncore.cpu.target("reference"):
        svg = curves(op) if is_curve(op) else panels(op)
    if len(svg.encode()) > LARGEST:
        raise ValueError(f"the picture of {op.name} has {len(svg.encode())} bytes, more than {LARGEST}")
    return svg


def is_curve(op):
    """Whether y is a function of a single value of x."""
    return isinstance(getattr(op.implementation, "kind", op.implementation), (Elementwise, Parametric, RandomSlopes))


def document(width, height, title, body):
    width, height = math.ceil(width), math.ceil(height)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f'<title>{escape(title)}</title>{STYLE}<rect class="paper" width="100%" height="100%"/>{body}</svg>\n'
    )


def text(x, y, words, classes=""):
    return f'<text x="{x:g}" y="{y:g}"{f" class={chr(34)}{classes}{chr(34)}" if classes else ""}>{escape(words)}</text>'


def call_text(op, arrays, settings):
    """The call that is drawn, as one would write it."""
    rows = op.rows(len(arrays))
    names = [row.name for row, array in zip(rows, arrays, strict=False) if array is not None]
    names = [f"{name}{names[: i + 1].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)]
    return f"{op.name}({', '.join([*names, *(f'{name}={value!r}' for name, value in settings.items())])})"


# ── Curves ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

WIDTH, HEIGHT, REACH = 320, 200, 4.0


def curves(op):
    """y over −4 … 4, and its derivative, dashed."""
    settings = {name: value for name, value in op.cases[0].settings.items() if op.settings[name] is REQUIRED}
    x = np.linspace(-REACH, REACH, 161)
    learned = tuple(np.array([0.25]) for row in op.arrays[1:] if not row.optional)
    with np.errstate(all="ignore"):
        x = x[np.isfinite(op(x[None], *learned, **settings))[0]]  # where it is defined
    y, backward = op.with_backward(x[None], *learned, **settings)
    derivative = np.clip(first(backward(np.ones_like(y))), -100, 100)
    low, high = max(min(-1.2, y.min() - 0.2), -2.2), min(max(1.4, y.max() + 0.2), 3.4)
    top = 40

    def place(u, v):
        return MARGIN + (u + REACH) / (2 * REACH) * (WIDTH - 2 * MARGIN), top + (high - v) / (high - low) * HEIGHT

    def curve(values, look):
        """A path in whole tenths of a pixel, from place to place; broken where the values jump."""
        path, before, jumps = [], None, jumps_of(values)
        for i, (u, v) in enumerate(zip(x, values, strict=True)):
            a, b = (round(10 * c) for c in place(u, v))
            if not low <= v <= high:
                before = None
                continue
            if before is None or jumps[i - 1]:
                path.append(f"M{a} {b}")
            else:
                path.append(f"l{a - before[0]} {b - before[1]}".replace(" -", "-"))
            before = a, b
        return f'<path {look} stroke-width="20" transform="scale(.1)" d="{"".join(path)}"/>'

    (left, axis), (right, _), (zero, _) = place(-REACH, 0), place(REACH, 0), place(0, 0)
    lines, labels = [f"M{left:g} {axis:.4g}H{right:g}M{zero:g} {top}v{HEIGHT}"], []
    for u in (-4, -3, -2, -1, 1, 2, 3, 4):
        a, _ = place(u, 0)
        lines.append(f"M{a:.4g} {axis - 3:.4g}v6")
        if u % 2 == 0:
            anchor = min(max(a, left + 6), right - 6)
            labels.append(text(round(anchor, 1), round(axis + 14, 1), str(u).replace("-", "−"), "c"))
    for v in range(math.ceil(low), math.floor(high) + 1):
        if v:
            _, b = place(0, v)
            lines.append(f"M{zero - 3:.4g} {b:.4g}h6")
            labels.append(text(round(zero - 10, 1), round(b + 3, 1), str(v).replace("-", "−"), "c"))
    call = call_text(op, (x, *learned), settings)
    legend = (
        f'{text(MARGIN, 14, call, "m")}<path class="p" stroke-width="2" d="M{MARGIN} 28h18"/>{text(MARGIN + 22, 32, "y")}'
        f'<path class="n" stroke-width="2" stroke-dasharray="5 3" d="M{MARGIN + 42} 28h18"/>{text(MARGIN + 64, 32, "dy/dx")}'
    )
    derived = curve(derivative[0], 'class="n" stroke-dasharray="50 30"')
    body = "".join((f'<path class="l" d="{"".join(lines)}"/>', *labels, derived, curve(y[0], 'class="p"'), legend))
    return document(WIDTH, top + HEIGHT + MARGIN, f"{op.name}: y and its derivative for x from −4 to 4", body)


def jumps_of(values):
    """Between which neighbours a function jumps: where it moves far more than before and after. One value may lie in between."""
    steps = np.abs(np.diff(values))
    padded = np.pad(steps, 2)
    return (steps > 0.1) & (steps > 4 * np.maximum(padded[:-4], padded[4:]))


# ── Panels ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

CELL, SMALL = 28, 11  # with and without numbers
MONOSPACE, SANS = 6.7, 5.6  # pixels of a letter, on average


@dataclass
class Panel:
    """A plane of numbers with its title, and which cells are framed. NaN outside of what is ``there``: no cell at all."""

    title: str
    grid: np.ndarray
    framed: np.ndarray
    there: np.ndarray
    role: str = ""
    shaded: bool = True

    @property
    def shape(self):
        return self.grid.shape


def panel(name, array, leading=(), framed=None, role="", most_rows=ROWS, most_columns=COLUMNS):
    """The panel of one plane of an array: ``leading`` is its index, ``framed`` a mask of the plane."""
    array = np.asarray(array, float)
    leading = (*leading, *(0,) * array.ndim)[: max(array.ndim - 2, 0)]
    grid = np.atleast_2d(array[leading])
    framed = np.zeros(grid.shape, bool) if framed is None else np.atleast_2d(framed)
    index = [str(i) for i in leading] if any(extent > 1 for extent in array.shape[:-2]) else []
    there = np.ones(grid.shape, bool)
    if grid.shape[0] == 1 and grid.shape[1] > most_columns:
        grid, framed, there = (wrapped(a, most_columns) for a in (grid, framed, there))
    elif grid.shape[0] > most_rows or grid.shape[1] > most_columns:
        limits = (most_rows, most_columns)
        cut = tuple(part(*axis) for axis in zip(grid.shape, limits, middle(framed), strict=True))
        index = [*(index or [str(i) for i in leading]), *(f"{c.start}:{c.stop}" for c in cut)]
        grid, framed, there = grid[cut], framed[cut], there[cut]
    return Panel(f"{name}[{', '.join(index)}]" if index else name, grid, framed, there, role)


def middle(framed):
    """Where the framed cells lie, on average."""
    cells = np.argwhere(framed)
    return cells.mean(axis=0) if len(cells) else (0, 0)


def part(extent, most, where):
    """``most`` of the indices of an axis, around ``where``."""
    start = max(0, min(round(where - most / 2), extent - most))
    return slice(start, min(extent, start + most))


def wrapped(row, most):
    """A long row as several of at most ``most`` cells."""
    count = -(-row.shape[1] // most)
    full = np.zeros(count * -(-row.shape[1] // count), row.dtype)
    full[: row.shape[1]] = row[0]
    return full.reshape(count, -1)


def panels_of(drawn, numbers=True):
    """The panels of an example: x, the second array (with ``numbers`` only), y, and the gradient of x."""
    op, arrays = drawn.op, drawn.arrays
    rows = op.rows(len(arrays))
    x, second = (
        f"{row.name}{i if op.variadic else ''}" for i, row in enumerate((rows[0], rows[min(1, len(rows) - 1)]), 1)
    )
    limits = {} if numbers else {"most_rows": MOST_ROWS, "most_columns": MOST_COLUMNS}
    shown = [panel(x, arrays[0], drawn.leading, drawn.window, "x", **limits)]
    if numbers and len(arrays) > 1 and arrays[1] is not None:
        other = panel(second, arrays[1])
        other.shaded = rows[1].differentiable and rows[1].role == "real"  # coordinates and indices are not on the scale
        if other.grid.size > 1 or not is_composition(op):  # of an Inception module's 1×1 weights one says nothing
            shown.append(other)
    one = np.zeros(drawn.y.shape, bool)
    one[drawn.place] = True
    leading = drawn.place[: max(drawn.y.ndim - 2, 0)]
    shown.append(panel("y", drawn.y, leading, one[leading], "y", **limits))
    if op.yields == "real":
        shown.append(panel(f"d{x}", drawn.dx, drawn.leading, drawn.window, "dx", **limits))
    return shown


def number(value):
    """At most five characters that say what a cell holds."""
    if not np.isfinite(value):
        return "–" if np.isnan(value) else "∞" if value > 0 else "−∞"
    value = float(f"{value:.9g}")  # a difference in the last place must not change the picture
    size = abs(value)
    if size >= 9.95:
        digits = f"{size:.0f}"
    elif size >= 0.995:
        digits = f"{size:.1f}".removesuffix(".0")
    elif size >= 0.0995 or size == 0:
        digits = f"{size:.2f}".rstrip("0").strip("0").removesuffix(".") or "0"
    elif size >= 0.00095:
        digits = f"{size:.3f}".rstrip("0").lstrip("0")
    else:
        digits = f"{size:.0e}".replace("e-0", "e-")
    return digits if value >= 0 else f"−{digits}"


def level(values, largest):
    """Shades −LEVELS … LEVELS: the square root of the share of the largest value; only what is 0 has none."""
    finite = np.where(np.isfinite(values), values, 0)
    share = np.sqrt(np.abs(finite) / largest) * LEVELS
    # Halves lie between two shades: a difference in the last place must not change the picture.
    shade = np.where(np.abs(finite) > 1e-9 * largest, np.clip(np.rint(share + 1e-6), 1, LEVELS), 0)
    return (np.sign(finite) * shade).astype(int)


def heat(shown, largest, cell, numbers):
    """The cells of a panel, its frame, and its numbers."""
    shades = np.where(shown.there, level(shown.grid, largest) * shown.shaded, OUTSIDE)
    parts = [*cells(shades, whole=shown.there.all())]
    if shown.framed.any():
        parts.append(f'<path class="f" stroke-width="{2 / cell:.2g}" d="{outline(shown.framed)}"/>')
    parts = [f'<g stroke-width="1" transform="scale({cell})">{"".join(parts)}</g>']
    if numbers:
        parts += numbers_of(shown, shades, cell)
    return "".join(parts)


OUTSIDE = LEVELS + 1  # where a panel has no cell


def cells(shades, whole):
    """A path for each shade; of a whole panel the empty cells are one rectangle below the others."""
    rows, columns = shades.shape
    if whole:
        yield f'<path class="e" stroke-width="{rows}" d="M0 {rows / 2:g}h{columns}"/>'
    for shade in np.unique(shades):
        if shade == OUTSIDE or (shade == 0 and whole):
            continue
        lines = [
            f"M{start} {row}.5h{length}" for row in range(rows) for start, length in stretches(shades[row] == shade)
        ]
        look = "e" if shade == 0 else "p" if shade > 0 else "n"
        look += f" o{abs(shade)}" if 0 < abs(shade) < LEVELS else ""
        yield f'<path class="{look}" d="{"".join(lines)}"/>'


def numbers_of(shown, shades, cell):
    """The numbers of a panel, row by row; a gradient's zeros only within the frame."""
    named = shown.there & ((shades != 0) | shown.framed | (shown.role != "dx"))
    for row in range(shades.shape[0]):
        spans = []
        for column in np.flatnonzero(named[row]):
            shade = shades[row, column]
            value = shown.grid[row, column] if shade or not shown.shaded else 0
            white = ' class="w"' if abs(shade) > 0.8 * LEVELS else ""
            spans.append(f'<tspan x="{cell * column + cell // 2}"{white}>{number(value)}</tspan>')
        if spans:
            yield f'<text class="c" y="{cell * row + cell // 2 + 3}">{"".join(spans)}</text>'


def outline(mask):
    """The borders between cells that are framed and cells that are not."""
    padded = np.pad(mask, 1)
    path = []
    for row in range(mask.shape[0] + 1):
        border = padded[row, 1:-1] != padded[row + 1, 1:-1]
        path += [f"M{start} {row}h{length}" for start, length in stretches(border)]
    for column in range(mask.shape[1] + 1):
        border = padded[1:-1, column] != padded[1:-1, column + 1]
        path += [f"M{column} {start}v{length}" for start, length in stretches(border)]
    return "".join(path)


def stretches(flags):
    """(start, length) of every run of True."""
    start = 0
    for flag, group in itertools.groupby(flags):
        length = len(list(group))
        if flag:
            yield start, length
        start += length


def panels(op):
    """The picture of an operator on a small image."""
    drawn = example(op)
    others = variants(drawn)
    rows = [panels_of(drawn), *(panels_of(other, numbers=False) for *_, other in others)]
    stages = stages_of(drawn) if is_composition(op) else {}
    scaled = [p.grid[np.isfinite(p.grid)] for row in rows for p in row if p.shaded]
    scaled += [stage.value for stage in stages.values()]
    largest = max(np.abs(values).max(initial=0) for values in scaled) or 1
    negative = any((values < 0).any() for values in scaled)
    body = [text(MARGIN, 16, call_text(op, drawn.arrays, drawn.settings), "m")]
    width = MARGIN + MONOSPACE * len(call_text(op, drawn.arrays, drawn.settings))
    right, bottom = strip(rows[0], MARGIN, 26, CELL, largest, body)
    width = max(width, right)
    x, top = MARGIN, bottom + 18
    for (_, what, _), row in zip(others, rows[1:], strict=True):
        body.append(text(x, top, what, "m"))
        right, bottom = strip(row, x, top + 6, SMALL, largest, body)
        right = max(right, x + MONOSPACE * len(what))
        width, x = max(width, right), right + 24
    if stages:
        right, bottom = graph(stages, bottom + 24, largest, body)
        width = max(width, right)
    caption = captions(drawn)
    for line in caption:
        bottom += 15
        body.append(text(MARGIN, bottom + 4, line))
    width = max(width, MARGIN + SANS * max(map(len, caption)))
    right, bottom = scale(MARGIN + 6, bottom + 14, largest, negative, body)
    width = max(width, right)
    return document(width + MARGIN, bottom + MARGIN, f"{op.name}: what it does to a small image", "".join(body))


def strip(shown, x, y, cell, largest, body):
    """Panels beside each other, each under its title; returns where they end."""
    bottom = y
    for p in shown:
        title = text(0, -5, p.title)
        role = f' class="{p.role}-panel"' if p.role else ""
        body.append(
            f'<g{role} transform="translate({x:g} {y + 16:g})">{title}{heat(p, largest, cell, cell == CELL)}</g>'
        )
        x += max(p.shape[1] * cell, 6.5 * len(p.title)) + 18
        bottom = max(bottom, y + 16 + p.shape[0] * cell)
    return x - 18, bottom


def captions(drawn):
    """What the frames say."""
    x = drawn.op.arrays[0].name
    if drawn.op.yields != "real":
        return [f"Framed in {x}: the cells on which the framed place of y depends. y has no gradient."]
    if not drawn.dx.any():
        return [f"The gradient of {x} is 0 everywhere."]
    return [
        f"d{x}: the gradient of {x} when dy is 1 at the framed place of y and 0 elsewhere.",
        f"Framed in {x} and d{x}: the cells on which this value of y depends{'' if drawn.is_local else ', here all'}.",
    ]


def scale(x, y, largest, negative, body):
    """The shades and what they stand for; returns where they end."""
    shades = range(-LEVELS if negative else 0, LEVELS + 1)
    grid = np.array([[math.copysign((shade / LEVELS) ** 2, shade) * largest for shade in shades]])
    shown = Panel("", grid, np.zeros(grid.shape, bool), np.ones(grid.shape, bool))
    body.append(f'<g transform="translate({x} {y:g})">{heat(shown, largest, SMALL, False)}')
    for column, shade in enumerate(shades):
        if shade % (LEVELS // 2) == 0:
            body.append(text(SMALL * column + SMALL / 2, SMALL + 10, number(grid[0, column]), "c"))
    meaning, left = "one scale for all panels; the shade grows with √|value|", SMALL * grid.size + 14
    body.append(text(left, SMALL - 1, meaning) + "</g>")
    return x + left + SANS * len(meaning), y + SMALL + 12


# ── Steps of a composition ─────────────────────────────────────────────────────────────────────────────────────────────

MINI, STEP_X, GAP_Y = 7, 150, 30


def graph(stages, top, largest, body):
    """The graph of a composition's steps, from left to right; returns where it ends."""
    lanes = assign_lanes(stages)
    tallest = max(stage.value.shape[-2] for stage in stages.values())
    height = tallest * MINI + GAP_Y + 14

    def corner(stage):
        lower = (tallest - stage.value.shape[-2]) * MINI / 2  # all of a lane at one height
        return MARGIN + stage.depth * STEP_X, top + stage.lane * height + 14 + lower

    edges = [edge(stages[name], stage, corner) for stage in stages.values() for name in stage.inputs]
    body.append(f'<path class="l" stroke-width="1.5" d="{"".join(edges)}"/>')
    for stage in stages.values():
        x, y = corner(stage)
        spread = stage.value[0].std(axis=(-2, -1))
        shown = panel("", stage.value, (0, int(spread.argmax())))  # the channel in which there is most to see
        below = shown.shape[0] * MINI + 12
        notes = [text(0, below + 14 * i, line) for i, line in enumerate(notes_of(stage, stages))]
        body.append(
            f'<g transform="translate({x:g} {y:g})">{text(0, -5, stage.label)}{heat(shown, largest, MINI, False)}'
            f"{''.join(notes)}</g>"
        )
    return MARGIN + max(stage.depth for stage in stages.values()) * STEP_X + 160, top + lanes * height


def assign_lanes(stages):
    """Put each step into the lane of what it takes, or into one of its own where another step has it; returns how many."""
    source, *inner, last = stages.values()
    used = set()
    for stage in inner:
        before = stages[stage.inputs[0]]
        taken = {lane for _, lane in used}
        keeps = before is not source and (stage.depth, before.lane) not in used
        stage.lane = before.lane if keeps else next(lane for lane in itertools.count() if lane not in taken)
        used.add((stage.depth, stage.lane))
    lanes = 1 + max((stage.lane for stage in inner), default=0)
    source.lane = last.lane = (lanes - 1) / 2
    return lanes


def edge(source, target, corner):
    """The path from one step to another: straight on, past other steps, and to the target's lane just before it."""
    (x, y), (end, lane) = corner(source), corner(target)
    x, y = x + source.value.shape[-1] * MINI + 3, y + source.value.shape[-2] * MINI / 2
    end, lane = end - 4, lane + target.value.shape[-2] * MINI / 2
    turn = end + 4 - STEP_X / 2
    return f"M{x:g} {y:g}H{turn:g}C{end - 26:g} {y:g} {turn + 5:g} {lane:g} {end:g} {lane:g}"


def notes_of(stage, stages):
    """What stands under a step: how many channels it makes; of a join, where those of each input lie."""
    count = stage.value.shape[1]
    lines = [f"{count} channel{'s' * (count > 1)}"]
    if len(stage.inputs) > 1:
        stop = 0
        for name in stage.inputs:
            start, stop = stop, stop + stages[name].value.shape[1]
            lines.append(f"y[:, {start}:{stop}] {stages[name].label}")
    return lines


def main():
    for name in sys.argv[1:] or cnncore.OPS:
        print(f"{name:<28} {len(picture(cnncore.OPS[name]).encode()):>5} bytes")


if __name__ == "__main__":
    main()
