"""What README says of the source: an activation, and what a pooling does with a window, fit on one screen each."""

import re

import pytest
from support.processes import ROOT

import cnncore
from cnncore.operators.pooling import reference

FOLDER = ROOT / "cnncore" / "operators"
SCREEN = 60  # lines
# The last line of such a section: the pair of functions gets its name.
NAMED = {"activation": r"^[A-Z]\w* = (?:with_parameter\()?activation\(", "pooling": r"^[A-Z]\w* = reference\("}

pytestmark = pytest.mark.skipif(not (FOLDER / "pooling" / "reference.pyx").exists(), reason="needs the source tree")


def sections(family):
    """(name, lines) of each: from its banner, or from the one before it in the same section, to its name; formula included."""
    found, begins, formula = [], 0, []
    for number, line in enumerate((FOLDER / family / "reference.pyx").read_text(encoding="utf-8").splitlines()):
        if line.startswith("# ── "):
            begins, formula = number, []
        elif line.startswith("#"):
            formula.append(line)
        elif re.match(NAMED[family], line):
            found.append((line.split()[0], number + 2 - begins, "\n".join(formula)))
            begins = number + 2
    return found


@pytest.mark.parametrize("family", NAMED)
def test_a_section_stands_on_one_screen(family):
    found = sections(family)
    assert len(found) >= 24
    assert not {name: lines for name, lines, _ in found if lines > SCREEN}
    lacking = [name for name, _, formula in found if not re.search(r"\by\b.*=", formula) or "∂y/∂x" not in formula]
    assert not lacking, f"formula and gradient stand above the functions: {lacking}"


def test_every_strategy_on_windows_has_its_section():
    """Its own, or that of the strategy whose definition it shares."""
    named = {id(getattr(reference, name)) for name, *_ in sections("pooling")}
    built_in = [strategy for strategy in cnncore.pool.strategies.values() if not strategy.schema.origin]
    assert len(built_in) >= 24
    assert not [strategy.name for strategy in built_in if id(strategy.reference) not in named]


def test_readme_says_no_more():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "Every activation, and every pooling strategy on windows, fits on one screen" in text
