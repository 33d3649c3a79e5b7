"""The tool behind docs/inception_study.md, on a net that knows nothing."""

import runpy
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from support.processes import ROOT

from cnncore import models

sys.path.insert(0, str(ROOT / "tools"))


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(ROOT / "tools" / "inception_study.py"))


def test_silent_branches_say_what_they_are_told(tool, rng):
    net = models.small_inception()
    before = {name: array.copy() for name, array in net.parameters.items()}
    x = rng.standard_normal((2, 1, 28, 28), np.float32)
    whole = net(x)
    for module in tool["MODULES"]:
        parts = tool["slices"](net, module)
        assert (
            sum(part.stop - part.start for part in parts.values())
            == net.values(x, names=[f"{module}/concat"])[f"{module}/concat"].shape[1]
        )
        for branch, part in parts.items():
            for level in (0.0, 0.75):
                kept = tool["silence"](net, module, branch, level)
                values = net.values(x, names=[f"{module}/concat"])[f"{module}/concat"]
                assert (values[:, part] == np.float32(level)).all() and (np.ptp(values, axis=(0, 2, 3)) > 0).any()
                assert not np.array_equal(net(x), whole)
                tool["restore"](net, kept)
    assert all(np.array_equal(array, before[name]) for name, array in net.parameters.items())
    np.testing.assert_array_equal(net(x), whole)


def test_page_and_picture(tool, rng):
    net = models.small_inception()
    x, labels = rng.standard_normal((12, 1, 14, 14), np.float32), np.arange(12) % 10
    labels[:6] = net(x[:6]).argmax(axis=1)  # something that can be lost
    figures, whole = tool["study"](net, x, labels)
    assert len(figures) == 16 and whole >= 0.5
    text = tool["page"]([figures, figures], [whole, whole], dict.fromkeys(tool["BRANCHES"], whole))
    assert "nan" not in text and text.count("\n| inception_") == 16
    assert max(len(line) for line in text.splitlines() if not line.startswith(("|", "!"))) <= 100
    picture = ElementTree.fromstring(tool["picture"]([figures, figures]))
    words = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"accuracy lost, points", "norm of the weights per channel"} <= set(words)  # an axis for each


def test_an_axis_reaches_its_largest_value_in_round_steps(tool):
    for top in (0.003, 0.31, 1.54, 0.1):
        scale = tool["Scale"](top)
        other = tool["Scale"](2.7 * top, steps=scale.steps)
        assert scale.steps * scale.tick >= top and other.steps == scale.steps
        assert other.steps * other.tick >= 2.7 * top
        assert scale.y(0) == tool["PLOT"]["bottom"] and scale.y(scale.steps * scale.tick) == tool["PLOT"]["top"]


def test_the_page_is_what_the_tool_writes():
    """The sections are there, and the picture beside it."""
    page = (ROOT / "docs" / "inception_study.md").read_text(encoding="utf-8")
    assert "## What it says" in page and (ROOT / "docs" / "inception_study.svg").exists()
