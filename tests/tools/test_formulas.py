"""Formulas of the schemas as TeX: of every operator, complete, and with the same meaning."""

import inspect
import re
import sys

import pytest
from support.cases import operators
from support.processes import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from formulas import BETWEEN, LARGE, markdown, runs, tex

COMMANDS = re.compile(r"\\(?:[A-Za-z]+|[{}%_|])")


def lines(op):
    """The lines of the formulas of an operator."""
    return [line for text in (op.formula, op.gradient) for line in inspect.cleandoc(text).splitlines()]


@pytest.mark.parametrize("op", operators())
def test_every_formula_is_tex(op):
    """What mathematics has beyond ASCII is written in TeX, brackets and braces are in pairs, and no sign is lost."""
    for line in lines(op):
        for mathematics, found in runs(line):
            if not mathematics:  # an equation that was taken for words would show its signs
                assert not any(token.text in {*BETWEEN, *LARGE, "√", "∂"} - {":"} for token in found), line
                continue
            made = " ".join(tex(found))
            assert made.isascii() and "^" not in COMMANDS.sub("", made).replace("^{", ""), made
            bare = COMMANDS.sub("", made)
            assert bare.count("{") == bare.count("}"), made
            assert len(re.findall(r"\\left(?!arrow)", made)) == made.count(r"\right"), made
            for sign in ("=", "≤", "Σ", "Π", "√", "σ"):
                written = {**BETWEEN, **LARGE, "√": r"\sqrt", "σ": r"\sigma"}[sign]
                expected = sum(token.text == sign for token in found)
                inside = sum("=" in token.text and token.text != "=" for token in found) if sign == "=" else 0
                assert made.count(written) == expected + inside, (sign, made)


def test_formulas_mean_what_they_meant():
    """Fractions and scripts take what the notation says, and no more."""
    for plain, made in {
        "y = 1/q Σ xᵢ over the window": r"$y = \frac{1}{q} \sum x_{i}$ over the window",
        "∂y/∂xᵢ = (2 xᵢ − y) / Σ xⱼ": r"$\frac{\partial y}{\partial x_{i}} = \frac{2 x_{i} - y}{\sum x_{j}}$",
        "y = (1/q Σ |xᵢ|ᵖ)^(1/p)": r"$y = \left( \frac{1}{q} \sum \left| x_{i} \right|^{p} \right)^{1 / p}$",
        # Each term of the sum is divided by a number of its own:
        "dx_c = β Σ dy_j y_j / s_j": r"$dx_{c} = \beta \sum \frac{dy_{j} y_{j}}{s_{j}}$",
        "x̂ = (x − μ) / √(σ² + ε)": r"$\hat{x} = \frac{x - \mu}{\sqrt{\sigma^{2} + \varepsilon}}$",
        "a window of a plane": "a window of a plane",
        "y = a max xᵢ, as running_mean": r"$y = a \max x_{i}$, as `running_mean`",
        "with mean=True, else 1": "with `mean=True`, else $1$",
        "fₖ = f₂ₖ₊₁     (training)": "$f_{k} = f_{2k+1}$&emsp;(training)",
    }.items():
        assert markdown(plain) == made


def test_a_sign_that_the_notation_lacks_is_named():
    with pytest.raises(ValueError, match=r"no '☃'.*tools/formulas.py"):
        markdown("y = ☃")
