"""The pictures of the operators' pages: what they show is what the operator computes, and they can be read."""

import itertools
import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from support.cases import mostly_long, operators
from support.processes import ROOT

import cnncore

SVG = "{http://www.w3.org/2000/svg}"
sys.path.insert(0, str(ROOT / "tools"))

import pictures  # noqa: E402
from picture_examples import example, first, stages_of, variants  # noqa: E402

PANELS = [row for row in operators() if not pictures.is_curve(row.values[0])]


def panels(svg, role):
    """The panels of a picture that show x, y or dx: those of the example, then those of its variants."""
    return [group for group in ElementTree.fromstring(svg).iter(f"{SVG}g") if group.get("class") == f"{role}-panel"]


def shaded(panel):
    """Whether any cell of a panel is not empty."""
    return any(path.get("class").split()[0] in ("p", "n") and path.get("d") for path in panel.iter(f"{SVG}path"))


def framed(panel):
    """Whether cells of a panel are framed."""
    return any(path.get("class") == "f" and path.get("d") for path in panel.iter(f"{SVG}path"))


@pytest.mark.parametrize("op", mostly_long(operators(), 4))
def test_a_gradient_that_is_not_zero_is_seen(op):
    """Of every operator, in the picture as drawn now and in the one of the page."""
    page = (ROOT / "docs" / "operators" / "pictures" / f"{op.name}.svg").read_text(encoding="utf-8")
    for svg in (pictures.picture(op), page):
        root = ElementTree.fromstring(svg)
        assert op.name in root.find(f"{SVG}title").text and len(svg.encode()) <= pictures.LARGEST
        if pictures.is_curve(op):
            assert {path.get("class") for path in root.iter(f"{SVG}path")} >= {"p", "n"}
            continue
        drawn = example(op)
        examples = [drawn, *(other for *_, other in variants(drawn))]
        gradients = panels(svg, "dx")
        if op.yields != "real":  # integers and booleans have no gradient, and no panel that pretends one
            assert not gradients and not any(shown.dx.any() for shown in examples)
            continue
        assert len(gradients) == len(examples)
        for shown, panel in zip(examples, gradients, strict=True):
            assert shaded(panel) == bool(shown.dx.any())
            assert shown.dx[shown.leading].any() or not shown.dx.any()


# arange_like sees no value of x; which boxes are suppressed changes with none of those alone that are kept.
UNFRAMED = ("arange_like", "non_max_suppression")


@pytest.mark.parametrize("op", [row for row in PANELS if row.values[0].name not in UNFRAMED])
def test_what_y_sees_is_framed(op):
    """The framed cells of x are all that the framed y depends on, and the gradient lies within them."""
    svg = pictures.picture(op)
    for role in ("x", "y", "dx"):
        for panel in panels(svg, role):
            assert framed(panel), f"{op.name}: no cell of {role} is framed"
    drawn = example(op)
    for shown in (drawn, *(other for *_, other in variants(drawn))):
        assert shown.window.any() or not shown.dx.any()
        assert not (shown.dx[shown.leading].astype(bool) & ~shown.window).any()
        # Nothing outside the frame matters.
        x = shown.arrays[0].copy()
        x[shown.leading] = np.where(shown.window, x[shown.leading], 0.55)
        with cnncore.cpu.target("reference"):
            y = first(op(x, *shown.arrays[1:], **shown.settings))
        np.testing.assert_allclose(y[shown.place], shown.y[shown.place], rtol=1e-12)


def placed_texts(element, x=0.0, y=0.0):
    """(left, right, baseline, words) of every text of a picture that is not a row of numbers."""
    moved = re.match(r"translate\(([-\d.]+) ([-\d.]+)\)", element.get("transform", ""))
    if moved:
        x, y = x + float(moved[1]), y + float(moved[2])
    if element.tag == f"{SVG}text" and element.text:
        classes = element.get("class", "").split()
        width = len(element.text) * (6.6 if "m" in classes else 4.6 if "c" in classes else 5.4)
        left = x + float(element.get("x")) - (width / 2 if "c" in classes else 0)
        yield left, left + width, y + float(element.get("y")), element.text
    for child in element:
        yield from placed_texts(child, x, y)


def test_no_text_is_cut_or_meets_another():
    """Of every picture of the pages: calls, titles, captions and labels lie within it and beside each other."""
    found = []
    for path in sorted((ROOT / "docs" / "operators" / "pictures").glob("*.svg")):
        root = ElementTree.parse(path).getroot()
        width, height = map(float, root.get("viewBox").split()[2:])
        texts = list(placed_texts(root))
        found += [(path.stem, words) for left, right, y, words in texts if left < 0 or right > width or y > height]
        for (left, right, y, words), (left2, right2, y2, words2) in itertools.combinations(texts, 2):
            if abs(y - y2) < 8 and left < right2 and left2 < right:
                found.append((path.stem, words, words2))
    assert not found


@pytest.mark.parametrize("op", mostly_long(PANELS, 4))
def test_windows_are_drawn_with_stride_and_dilation(op):
    assert {name for name, *_ in variants(example(op))} == {"stride", "dilation"} & set(op.settings)


def test_numbers_fit_their_cells():
    number = pictures.number
    assert [number(v) for v in (0, 0.5, -0.25, 1, 1.25, -3.0, 12.34, 0.0625, 0.004, 1e-5, np.nan, -np.inf)] == [
        "0", ".5", "−.25", "1", "1.2", "−3", "12", ".062", ".004", "1e-5", "–", "−∞",
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    values = rng.standard_normal(2000) * 10.0 ** rng.integers(-6, 3, 2000)
    assert max(len(number(v)) for v in values) <= 5


def test_one_scale_for_all_panels():
    """A value has one shade, whichever panel it is in; only 0 has none; a difference in the last place changes nothing."""
    level = pictures.level
    values = np.array([0.0, 1e-6, -1e-6, 0.25, 0.25 + 1e-16, -1.0, 1.0])
    assert level(values, 1.0).tolist() == [0, 1, -1, 4, 4, -8, 8]


def test_a_dark_page_has_colours_of_its_own():
    for name in ("conv", "relu"):
        style = ElementTree.fromstring(pictures.picture(cnncore.OPS[name])).find(f"{SVG}style").text
        light, dark = style.split("@media(prefers-color-scheme:dark)")
        for part in (light, dark):
            assert "text{fill:#" in part and ".paper{fill:#" in part


@pytest.mark.parametrize("name", ["inception", "mlpconv", "separable_conv"])
def test_a_composition_shows_its_steps(name):
    """Each step once, with what it makes; the last one makes y, whoever asked for the example before."""
    example.cache_clear()
    example(cnncore.OPS[name])
    with cnncore.cpu.target("reference"):
        drawn = example(cnncore.OPS[name])
        stages = stages_of(drawn)
    np.testing.assert_array_equal(list(stages.values())[-1].value, drawn.y)
    words = [t.text for t in ElementTree.fromstring(pictures.picture(cnncore.OPS[name])).iter(f"{SVG}text")]
    for stage in stages.values():
        assert stage.label in words
