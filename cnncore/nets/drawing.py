"""Drawings of graphs as SVG, and tables as HTML, without other packages.

The layout is the classic one of layered graphs (Sugiyama, Tagawa & Toda 1981): boxes are assigned to layers so that all
edges point down, long edges get a bend per layer they cross, the order within a layer follows the barycentres of the
neighbours, and positions are as close to the neighbours as order and distances allow (isotonic regression). A scope is
laid out by itself and placed in the scope around it as one large box, which values enter and leave at ports.

Operators that keep the shape of their only input, such as activations and normalisations, are drawn as strips below the
box of the operator they follow.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

__all__ = ["Table", "page", "svg"]

# Sizes in pixels.
TEXT, SMALL = 13, 11
LINE = 17  # height of a line of text
STRIP = 18  # height of a strip under a box
PAD = 9
GAP_X, GAP_Y = 26, 34
CLUSTER_TOP, CLUSTER_PAD = 30, 16
MARGIN = 20
ROUND = 7
SWEEPS = 12

INK, MUTED, EDGE, PAPER = "#1f2933", "#5f6c7b", "#8593a3", "#ffffff"
SCOPE, SCOPE_EDGE = "#f4f6f9", "#d5dce4"
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
COLORS = {  # by group: fill, edge
    "convolution": ("#dbe9fb", "#6f9fd8"),
    "pooling": ("#dcf3e3", "#6dba88"),
    "activation": ("#fdebd2", "#e0a458"),
    "layers": ("#ece4f8", "#a88bd0"),
    "end": ("#e6eaef", "#8593a3"),
}
OTHER = ("#f3ead9", "#bfa777")


# ── What is drawn ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Box:
    """Something with a position: a node, a scope, a port on a scope's edge, or a bend of an edge. x, y: left and top."""

    def __init__(self, key, width=0.0, height=0.0, kind="node"):
        self.key, self.width, self.height, self.kind = key, width, height, kind
        self.x = self.y = 0.0
        self.layer = 0
        self.entries, self.exits = {}, {}  # of a scope: value -> x from its left edge
        self.depths = {}  # of a scope: port -> y from its top
        self.inside = None  # of a scope: its own Layout
        self.lines, self.strips, self.group, self.title = (), (), "end", ""
        self.values = (key,)  # the values whose nodes are drawn here: that of the box, those of its strips

    def entry(self, value):
        """x at which ``value`` enters, from the left edge."""
        return self.entries.get(value, self.width / 2)

    def exit(self, value):
        """x at which ``value`` leaves, from the left edge."""
        return self.exits.get(value, self.width / 2)


class Edge:
    """An edge of one layout: ``value`` goes from one box to another, through bends."""

    def __init__(self, source, target, value):
        self.source, self.target, self.value = source, target, value
        self.bends = []


def text_width(text, size):
    """About the width of ``text`` in a sans-serif font."""
    narrow = sum(text.count(c) for c in "iljtf.,:;|!()[]' /")
    return size * (0.58 * (len(text) - narrow) + 0.33 * narrow)


def settings_text(node):
    """Kernel size and stride of a node in the usual notation: 3×3, stride 2."""
    words = []
    for name in ("kernel_size", "output_size", "size"):
        value = node.given.get(name)
        if value is not None:
            words.append("×".join(map(str, value)) if isinstance(value, (tuple, list)) else _square(name, value))
    for name, usual in (("stride", 1), ("dilation", 1), ("groups", 1)):
        value = node.given.get(name)
        if value not in (None, usual):
            words.append(f"{name} {value}")
    return ", ".join(words)


def _square(name, value):
    return str(value) if name == "size" else f"{value}×{value}"


def shape_words(shape):
    """Channels and extents: 64 × 28 × 28; open extents are omitted."""
    if shape is None or len(shape) < 2 or shape[1] is None:
        return ""
    if None in shape[2:]:
        return f"{shape[1]} channel{'s' * (shape[1] != 1)}"
    return " × ".join(map(str, shape[1:])) + (" values" if len(shape) == 2 else "")


def content_of(structure, shapes):
    """(boxes by value number, edges (value, from, to)) to be drawn: strips are folded, outputs have their own boxes."""
    inputs = len(structure.inputs)
    readers = {}
    for number, node in enumerate(structure.nodes):
        for value in node.arguments:
            if value is not None:
                readers.setdefault(value, []).append(inputs + number)
    shown = dict(enumerate(shapes)) if shapes is not None else {}

    host = {}  # value -> value whose box it is drawn in
    for number, node in enumerate(structure.nodes):
        value, sources = inputs + number, [v for v in node.arguments if v is not None]
        folds = (
            len(sources) == 1
            and sources[0] >= inputs
            and "→ the same" in node.op.shape
            and readers[sources[0]] == [value]
            and not node.indices
            and sources[0] not in structure.outputs
        )
        host[value] = host[sources[0]] if folds else value
    last = {h: value for value, h in host.items()}

    boxes = {}
    for number, row in enumerate(structure.inputs):
        boxes[number] = labelled(
            number, [row.name, ""], shape_words(row.given(shown.get(number, row.shape))), "end", row.name
        )
        host[number] = last[number] = number
    for number, node in enumerate(structure.nodes):
        value = inputs + number
        if host[value] == value:
            name = node.path.rpartition("/")[2]
            operator = " ".join(filter(None, [node.op.name, settings_text(node)]))
            lines = [name, operator if operator != name else ""]
            shape = shown.get(last[value])
            boxes[value] = labelled(value, lines, shape_words(shape), node.op.group, described(node, shape))
        else:
            box = boxes[host[value]]
            box.strips = (*box.strips, (node.op.name, node.op.group))
            box.values = (*box.values, value)
            box.width = max(box.width, text_width(node.op.name, SMALL) + 2 * PAD)
            box.height += STRIP
            box.title += f"\n{described(node, None)}"
    edges = []
    for number, node in enumerate(structure.nodes):
        sources = [*(v for v in node.arguments if v is not None), *(v for _, v in node.indices)]
        for value in dict.fromkeys(sources):
            if host[value] != host[inputs + number]:
                edges.append((host[value], host[inputs + number]))
    for place, value in enumerate(structure.outputs):
        key = ("output", place)
        name = "output" if len(structure.outputs) == 1 else f"output {place + 1}"
        boxes[key] = labelled(key, [name], "", "end", f"{name}: {structure.names[value]}")
        edges.append((host[value], key))
    return boxes, edges, host


def labelled(key, lines, shape, group, title):
    """A box around lines of text: its name, its operator, and its output shape."""
    lines = [line for line in lines if line]
    styles = [(lines[0], TEXT, INK, "600"), *((line, SMALL, INK, "400") for line in lines[1:])]
    if shape:
        styles.append((shape, SMALL, MUTED, "400"))
    width = max(text_width(line, size) * (1.06 if weight == "600" else 1) for line, size, _, weight in styles)
    box = Box(key, max(width, 44) + 2 * PAD, LINE * len(styles) + PAD)
    box.lines, box.group, box.title = styles, group, title
    return box


def described(node, shape):
    """The tooltip: path, operator, settings, shape."""
    given = ", ".join(f"{name}={value}" for name, value in node.given.items())
    return f"{node.path}: {node.op.name}({given})" + (f" → {shape}" if shape is not None else "")


# ── Scopes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def scopes_of(structure, boxes):
    """The scope of every box, as a tuple of names; the name of a node is not a scope (conv/relu belongs to conv's)."""
    paths = {node.path for node in structure.nodes}
    scopes = {}
    for key in boxes:
        parts = ()
        if not isinstance(key, tuple) and key >= len(structure.inputs):
            parts = tuple(structure.names[key].split("/")[:-1])
            for length in range(1, len(parts) + 1):
                if "/".join(parts[:length]) in paths:
                    parts = parts[: length - 1]
                    break
        scopes[key] = parts
    return scopes


class Layout:
    """The layout of one scope: the positions of its boxes, the bends of its edges, its width and height."""

    def __init__(self, scope, boxes, edges, scopes):
        self.scope = scope
        self.boxes, self.edges = [], []
        inside = {key for key, path in scopes.items() if path[: len(scope)] == scope}
        children = {key: scopes[key][: len(scope) + 1] for key in inside}  # a deeper path, or the scope itself
        while not self._collect(scope, boxes, edges, scopes, inside, children):
            # Two scopes that depend on each other cannot both be boxes: their contents are shown one level up.
            children = dict.fromkeys(inside, scope)
        self._bend()
        self._order()
        self._place()

    def _collect(self, scope, boxes, edges, scopes, inside, children):
        """The boxes and edges of this level; False if the scopes inside depend on each other in a cycle."""
        items = {}
        for key in sorted(inside, key=_rank):
            item = children[key]
            if item == scope:
                items[key] = boxes[key]
            elif item not in items:
                items[item] = item
        inner = {}
        for source, target in edges:
            a = None if source not in inside else source if children[source] == scope else children[source]
            b = None if target not in inside else target if children[target] == scope else children[target]
            if a == b:
                continue
            if a is None:
                a = ("in", source)
            if b is None:
                b = ("out", source)
            inner[a, b, source] = None
        order = running_order([*items, *{k: 0 for e in inner for k in e[:2]}], [(a, b) for a, b, _ in inner])
        if order is None:
            return False
        made = {}
        for item in order:
            if item in items and isinstance(items[item], tuple):
                made[item] = cluster(Layout(item, boxes, edges, scopes))
            else:
                made[item] = items[item] if item in items else Box(item, kind="port")
        self.boxes = list(made.values())
        self.edges = [Edge(made[a], made[b], value) for a, b, value in inner]
        self._layers([made[item] for item in order])
        return True

    def _layers(self, ordered):
        """Each box as low as its consumers allow, ports at the edges: branches then end on the same level before they
        join.
        """
        below = {}
        for edge in self.edges:
            below.setdefault(edge.source, []).append(edge.target)
        depth = {}
        for box in reversed(ordered):
            depth[box] = max((depth[b] + 1 for b in below.get(box, ())), default=0)
        most = max(depth.values(), default=0)
        exits = any(box.kind == "port" and box.key[0] == "out" for box in ordered)
        for box in ordered:
            box.layer = most - depth[box]
            if box.kind == "port":
                box.layer = 0 if box.key[0] == "in" else most
            elif exits and depth[box] == 0:
                box.layer = max(most - 1, 0)
        above = {}
        for edge in self.edges:
            above.setdefault(edge.target, []).append(edge.source)
        for box in ordered:  # nothing above its producers
            box.layer = max([box.layer, *(a.layer + 1 for a in above.get(box, ()))])
        self.count = max((box.layer for box in ordered), default=0) + 1

    def _bend(self):
        """A bend in every layer that an edge crosses; edges of one value share their bends until they diverge."""
        self.layers = [[] for _ in range(self.count)]
        for box in self.boxes:
            self.layers[box.layer].append(box)
        for edge in self.edges:
            for layer in range(edge.source.layer + 1, edge.target.layer):
                bend = Box((edge.value, edge.target.key, layer), 10, 0, "bend")
                bend.layer = layer
                self.layers[layer].append(bend)
                edge.bends.append(bend)
        self.links = []  # (upper box, x in it, lower box, x in it) between neighbouring layers
        for edge in self.edges:
            chain = [edge.source, *edge.bends, edge.target]
            for upper, lower in pairwise(chain):
                out = upper.exit(edge.value) if upper is edge.source else upper.width / 2
                into = lower.entry(edge.value) if lower is edge.target else lower.width / 2
                self.links.append((upper, out, lower, into))

    def _order(self):
        """The order within layers by barycentres, in alternating downward and upward sweeps; the best order is kept."""
        up, down = {}, {}
        for upper, _, lower, _ in self.links:
            up.setdefault(lower, []).append(upper)
            down.setdefault(upper, []).append(lower)
        best, fewest = None, None
        for sweep in range(SWEEPS):
            place = {box: Fraction(2 * i + 1, 2 * len(layer)) for layer in self.layers for i, box in enumerate(layer)}
            near = up if sweep % 2 else down
            for layer in self.layers if sweep % 2 else reversed(self.layers):
                means = {
                    box: sum(place[n] for n in near[box]) / len(near[box]) if near.get(box) else place[box]
                    for box in layer
                }
                layer.sort(key=means.get)
                place |= {box: Fraction(2 * i + 1, 2 * len(layer)) for i, box in enumerate(layer)}
            crossings = self._crossings()
            if fewest is None or crossings < fewest:
                best, fewest = [list(layer) for layer in self.layers], crossings
            if not crossings:
                break
        self.layers = best

    def _crossings(self):
        index = {box: i for layer in self.layers for i, box in enumerate(layer)}
        total = 0
        for layer in range(self.count - 1):
            ends = [(index[u] + o / 1e4, index[v] + i / 1e4) for u, o, v, i in self.links if u.layer == layer]
            total += sum((a - c) * (b - d) < 0 for k, (a, b) in enumerate(ends) for c, d in ends[:k])
        return total

    def _place(self):
        """x as close to the neighbours' as order and distances allow; y by layers."""
        for layer in self.layers:
            x = 0.0
            for box in layer:
                box.x = x
                x += box.width + GAP_X
        up, down = {}, {}
        for upper, out, lower, into in self.links:
            up.setdefault(lower, []).append((into, upper, out))
            down.setdefault(upper, []).append((out, lower, into))
        for sweep in range(4 * SWEEPS):
            downwards = sweep % 2 == 0
            last = sweep >= 4 * SWEEPS - 2
            for layer in self.layers if downwards else reversed(self.layers):
                wanted = []
                for box in layer:
                    near = [*up.get(box, ()), *down.get(box, ())] if last else (up if downwards else down).get(box, ())
                    wanted.append(sum(n.x + at - own for own, n, at in near) / len(near) if near else box.x)
                spread(layer, wanted)
        left = min(box.x for layer in self.layers for box in layer)
        y = gap = 0.0
        for layer in self.layers:
            y += gap if any(box.kind != "port" for box in layer) else gap / 2
            height = max((box.height for box in layer), default=0)
            for box in layer:
                box.x -= left
                if box.kind == "bend":
                    box.height = height  # straight through the layer, so that no edge runs behind a box
                box.y = y + (height - box.height) / 2
            y += height
            gap = GAP_Y
        self.width = max(box.x + box.width for layer in self.layers for box in layer)
        self.height = y


def _rank(key):
    """Values in their order, outputs after them."""
    return (1, key[1]) if isinstance(key, tuple) else (0, key)


def running_order(items, edges):
    """``items`` in an order in which every edge points forward, or None if there is a cycle."""
    items = list(dict.fromkeys(items))
    waiting = dict.fromkeys(items, 0)
    below = {}
    for a, b in edges:
        below.setdefault(a, []).append(b)
        waiting[b] += 1
    ready, order = [item for item in items if not waiting[item]], []
    while ready:
        item = ready.pop(0)
        order.append(item)
        for lower in below.get(item, ()):
            waiting[lower] -= 1
            if not waiting[lower]:
                ready.append(lower)
    return order if len(order) == len(items) else None


def cluster(layout):
    """The box of a scope in the scope around it."""
    width = max(layout.width, text_width(layout.scope[-1], TEXT) + PAD) + 2 * CLUSTER_PAD
    box = Box(layout.scope, width, layout.height + CLUSTER_TOP, "scope")
    shift = (width - layout.width) / 2
    for inner in layout.boxes:
        if inner.kind == "port":
            side = box.entries if inner.key[0] == "in" else box.exits
            side[inner.key[1]] = inner.x + shift + inner.width / 2
            box.depths[inner.key] = inner.y + CLUSTER_TOP / 2
    box.inside, box.shift = layout, shift
    return box


def spread(layer, wanted):
    """Give the boxes of a layer the x nearest to ``wanted`` (least squares) that keeps their order and distances.

    After subtracting the distances, this is isotonic regression: neighbours out of order are pooled at their mean.
    """
    offsets, total = [], 0.0
    for box in layer:
        offsets.append(total)
        total += box.width + (GAP_X if box.kind != "bend" else GAP_X / 2)
    blocks = []  # [mean, size]
    for want, offset in zip(wanted, offsets, strict=True):
        blocks.append([want - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, size = blocks.pop()
            before = blocks[-1]
            before[0] = (before[0] * before[1] + mean * size) / (before[1] + size)
            before[1] += size
    flat = [mean for mean, size in blocks for _ in range(size)]
    for box, offset, mean in zip(layer, offsets, flat, strict=True):
        box.x = mean + offset


# ── SVG ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def svg(structure, shapes=None, marked=False):
    """The drawing of a graph as an SVG document. ``shapes``: of all values, for the labels.

    ``marked`` says in attributes which value belongs to what, for scripts: ``data-value`` of boxes, strips and edges.
    """
    boxes, edges, _ = content_of(structure, shapes)
    layout = Layout((), boxes, edges, scopes_of(structure, boxes))
    width, height = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{html.escape(FONT)}" role="{"group" if marked else "img"}" '
        f'aria-label="Network of {len(structure.nodes)} nodes">',
        f'<rect width="100%" height="100%" rx="10" fill="{PAPER}"/>',
    ]
    draw_layout(layout, MARGIN, MARGIN, parts, marked)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def draw_layout(layout, left, top, parts, marked=False):
    """Scopes first, then edges, then boxes, so that no line crosses text."""
    for box in layout.boxes:
        if box.kind == "scope":
            x, y = left + box.x, top + box.y
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{ROUND + 3}" '
                f'fill="{SCOPE}" stroke="{SCOPE_EDGE}"/>'
            )
            parts.append(text(x + 12, y + 19, box.key[-1], SMALL + 1, MUTED, "start", "600"))
            draw_layout(box.inside, x + box.shift, y + CLUSTER_TOP / 2, parts, marked)
    for edge in layout.edges:
        drawn = drawn_edge(edge, left, top)
        parts.append(f'<g class="edge" data-value="{edge.value}">{drawn}</g>' if marked else drawn)
    for box in layout.boxes:
        if box.kind == "node":
            parts.append(drawn_box(box, left + box.x, top + box.y, marked))


def drawn_edge(edge, left, top):
    """A smooth line from box to box, with a head where it ends at a node."""
    source, target = edge.source, edge.target
    points = [(source.x + source.exit(edge.value), source.y + source.depths.get(("out", edge.value), source.height))]
    for bend in edge.bends:
        x = bend.x + bend.width / 2
        points += [(x, bend.y), (x, bend.y + bend.height)]
    points.append((target.x + target.entry(edge.value), target.y + target.depths.get(("in", edge.value), 0.0)))
    head = target.kind == "node"
    points = [(left + x, top + y) for x, y in points]
    if head:
        points[-1] = (points[-1][0], points[-1][1] - 6)
    path = [f"M{points[0][0]:.1f},{points[0][1]:.1f}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        if abs(x1 - x0) < 0.5:
            path.append(f"L{x1:.1f},{y1:.1f}")
        else:
            half = max((y1 - y0) / 2, 8)
            path.append(f"C{x0:.1f},{y0 + half:.1f} {x1:.1f},{y1 - half:.1f} {x1:.1f},{y1:.1f}")
    drawn = f'<path d="{" ".join(path)}" fill="none" stroke="{EDGE}" stroke-width="1.5"/>'
    if head:
        x, y = points[-1]
        drawn += f'<path d="M{x - 4:.1f},{y - 1:.1f} h8 l-4,7 z" fill="{EDGE}"/>'
    return drawn


def drawn_box(box, x, y, marked=False):
    """A rounded box with its lines, and the strips under it."""
    fill, edge = COLORS.get(box.group, OTHER)
    mark = f' class="node" data-value="{box.key}"' if marked and isinstance(box.key, int) else ""
    clip = [f"<g{mark}><title>{html.escape(box.title)}</title>"]
    body = box.height - STRIP * len(box.strips)
    clip.append(
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{ROUND}" fill="{fill}"/>'
    )
    for i, (_, group) in enumerate(box.strips):
        drawn = strip(x, y + body + i * STRIP, box.width, group, i == len(box.strips) - 1)
        clip.append(f'<g class="strip" data-value="{box.values[i + 1]}">{drawn}</g>' if marked else drawn)
    clip.append(
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{ROUND}" fill="none" '
        f'stroke="{edge}" stroke-width="1.2"/>'
    )
    middle = x + box.width / 2
    for i, (line, size, color, weight) in enumerate(box.lines):
        clip.append(text(middle, y + PAD / 2 + LINE * i + 13, line, size, color, "middle", weight))
    for i, (name, _) in enumerate(box.strips):
        drawn = text(middle, y + body + i * STRIP + 13, name, SMALL, INK, "middle", "400")
        clip.append(f'<g class="label" data-value="{box.values[i + 1]}">{drawn}</g>' if marked else drawn)
    clip.append("</g>")
    return "".join(clip)


def strip(x, y, width, group, last):
    """A strip across a box; the last one has the box's round corners."""
    fill, _ = COLORS.get(group, OTHER)
    r = ROUND if last else 0
    return (
        f'<path d="M{x:.1f},{y:.1f} h{width:.1f} v{STRIP - r} q0,{r} {-r},{r} h{2 * r - width:.1f} q{-r},0 {-r},{-r} z" '
        f'fill="{fill}"/><path d="M{x:.1f},{y:.1f} h{width:.1f}" stroke="{PAPER}" stroke-width="1.5"/>'
    )


def text(x, y, words, size, color, anchor, weight):
    """A line of text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{html.escape(words)}</text>"
    )


# ── HTML ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def page(structure, title, shapes=None):
    """A graph for a notebook: its one-line description, and the drawing behind it."""
    return (
        f'<details open="open" style="font-family:{html.escape(FONT)}"><summary><code>{html.escape(title)}</code></summary>'
        f'<div style="overflow:auto;max-height:720px">{svg(structure, shapes)}</div></details>'
    )


class Table:
    """Rows of strings under a header, in groups with a rule between them; the first ``words`` columns are text, the
    others numbers. ``str`` is for terminals, notebooks show HTML.

    >>> print(Table("two nets", ["net", "ms"], [[["a", "1.5"], ["b", "12.0"]], [["both", "13.5"]]], words=1))
    two nets
    net     ms
    ──────────
    a      1.5
    b     12.0
    ──────────
    both  13.5
    """

    def __init__(self, title: str, header: list[str], groups: Sequence[list[list[str]]], words: int = 3) -> None:
        self.title, self.header, self.groups, self.words = title, header, groups, words

    def __str__(self) -> str:
        everything = [self.header, *(line for group in self.groups for line in group)]
        widths = [max(len(line[i]) for line in everything) for i in range(len(self.header))]

        def text(line: list[str]) -> str:
            cells = (
                c.ljust(w) if i < self.words else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
            )
            return "  ".join(cells).rstrip()

        rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
        lines = [self.title] if self.title else []
        lines.append(text(self.header))
        for group in self.groups:
            lines += [rule, *map(text, group)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def row(cells: list[str], tag: str, style: str = "") -> str:
            made = ""
            for i, cell in enumerate(cells):
                side = "left" if i < self.words else "right"
                made += (
                    f'<{tag} style="text-align:{side};padding:2px 10px;white-space:nowrap">{html.escape(cell)}</{tag}>'
                )
            return f'<tr style="{style}">{made}</tr>'

        rule = "border-top:1px solid #8593a3;font-weight:600"
        body = ""
        for number, group in enumerate(self.groups):
            for line in group:
                body += row(line, "td", rule if number and line is group[0] else "")
        return (
            f'<table style="border-collapse:collapse;font-family:{html.escape(FONT)};font-size:13px">'
            f"<thead>{row(self.header, 'th')}</thead><tbody>{body}</tbody></table>"
        )
