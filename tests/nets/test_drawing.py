"""Drawings and tables: well formed, nothing overlaps, every edge points down, everything is there."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import cnncore
from cnncore import models
from cnncore.nets import drawing

SVG = "{http://www.w3.org/2000/svg}"


def residual():
    g = cnncore.Graph()
    x, z = g.input(3, name="left"), g.input(3, name="right")
    a = g.conv(x, 8, 3, padding=1, activation="relu")
    for i in range(2):
        with g.scope(f"block_{i}"), g.scope("inner"):
            b = g.conv(g.conv(a, 8, 3, padding=1, activation="relu"), 8, 3, padding=1)
            a = g.relu(g.add(a, b))
    d = g.concat(a, g.conv(z, 4, 1))
    g.output(g.global_avg_pool(d), g.softmax(g.conv(d, 2, 1)), a)
    return g.build()


def entangled():
    """Two scopes that need each other: neither can be one box."""
    g = cnncore.Graph()
    h = g.input(2)
    for i in range(4):
        with g.scope("ab"[i % 2]):
            h = g.conv(h, 2, 1, name=f"c{i}")
    g.output(h)
    return g.build()


def random_net(seed):
    draw = np.random.default_rng(seed)
    g = cnncore.Graph()
    values = [g.input(2)]
    for _ in range(25):
        chosen = [values[i] for i in draw.integers(max(0, len(values) - 6), len(values), draw.integers(1, 4))]
        with g.scope(f"s{len(values) // 5}"):
            values.append(g.conv(g.concat(*chosen), 2, 1, activation="relu" if draw.random() < 0.5 else None))
    used = {a for node in g._nodes for a in node.arguments}
    g.output(*(v for v in values if v.number not in used))
    return g.build()


NETS = {
    "residual": residual,
    "entangled": entangled,
    "lenet": models.lenet,
    "small_inception": models.small_inception,
    **{f"random {seed}": lambda seed=seed: random_net(seed) for seed in range(6)},
}


def layouts(layout):
    """A layout and all layouts within."""
    yield layout
    for box in layout.boxes:
        if box.inside is not None:
            yield from layouts(box.inside)


@pytest.mark.parametrize("name", NETS)
def test_a_drawing_is_sound(name, tmp_path):
    net = NETS[name]()
    text = net.draw(tmp_path / "net.svg")
    assert (tmp_path / "net.svg").read_text(encoding="utf-8") == text
    root = ElementTree.fromstring(text)
    titles = "\n".join(title.text for title in root.iter(f"{SVG}title"))
    assert all(f"{node.path}: {node.op.name}(" in titles for node in net.graph.nodes)
    width, height = float(root.get("width")), float(root.get("height"))
    for element in root.iter():
        if element.tag in (f"{SVG}rect", f"{SVG}text") and element.get("x"):
            assert 0 <= float(element.get("x")) <= width and 0 <= float(element.get("y")) <= height
            assert element.tag != f"{SVG}text" or float(element.get("font-size")) >= 11

    boxes, edges, _ = drawing.content_of(net.graph, None)
    top = drawing.Layout((), boxes, edges, drawing.scopes_of(net.graph, boxes))
    for layout in layouts(top):
        solid = [box for box in layout.boxes if box.kind != "port"]
        for i, a in enumerate(solid):
            assert a.x >= -0.01 and a.x + a.width <= layout.width + 0.01 and a.y + a.height <= layout.height + 0.01
            for b in solid[:i]:
                apart = a.x + a.width < b.x or b.x + b.width < a.x or a.y + a.height < b.y or b.y + b.height < a.y
                assert apart, f"{a.title} and {b.title} overlap"
        for edge in layout.edges:
            assert edge.source.layer < edge.target.layer
        bends = [box for layer in layout.layers for box in layer if box.kind == "bend"]
        for bend in bends:
            x = bend.x + bend.width / 2
            assert not any(b.x <= x <= b.x + b.width and b.layer == bend.layer for b in solid), "an edge behind a box"


def test_branches_lie_side_by_side():
    net = models.small_inception()
    boxes, edges, _ = drawing.content_of(net.graph, None)
    drawing.Layout((), boxes, edges, drawing.scopes_of(net.graph, boxes))
    branches = [boxes[net.graph.number(f"inception_2/{n}")] for n in ("conv1x1", "conv3x3", "conv5x5", "pool_project")]
    assert len({box.y + box.height for box in branches}) == 1
    assert [box.x for box in branches] == sorted(box.x for box in branches)  # in the order of the join


def test_shapes_and_settings_are_said():
    text = models.small_inception().draw(input_shape=(1, 1, 28, 28))
    for words in (
        "1 × 28 × 28",
        "80 × 14 × 14",
        "128 × 7 × 7",
        "conv 5×5",
        "max_pool 2×2",
        "10 values",
        ">inception_2<",
    ):
        assert words in text
    assert "80 × 14 × 14" not in models.small_inception().draw()
    assert ">stem<" in text and ">group_norm<" in text
    assert "6 × 28 × 28" in models.lenet().draw()  # its size is fixed


def test_any_name_is_drawn():
    g = cnncore.Graph()
    x = g.input(1, name="ein Bild ✓")
    g.output(g.conv(x, 1, 1, name="a-b (c) ü"))
    text = g.build().draw()
    ElementTree.fromstring(text)
    assert "a-b (c) ü" in text


def test_notebooks_show_nets_and_summaries():
    net = models.small_inception()
    for shown in (net._repr_html_(), net.summary((1, 1, 28, 28))._repr_html_()):
        ElementTree.fromstring(shown)
        assert "<script" not in shown
    assert "86,506" in net._repr_html_() and "inception_4/concat" in net.summary((1, 1, 28, 28))._repr_html_()


def test_places_nearest_to_the_wishes():
    boxes = [drawing.Box(i, 10, 10) for i in range(4)]
    drawing.spread(boxes, [0.0, 100.0, 100.0, 300.0])
    assert [box.x for box in boxes] == [0, 82, 118, 300]  # the middle two share the shortfall of their distance of 36
    drawing.spread(boxes[:2], [50.0, 0.0])
    assert [box.x for box in boxes[:2]] == [7, 43]
