"""What is printed of an operator: no markup in a terminal, and every letter of its shape formula explained."""

import re

import pytest
from support.cases import operators

import cnncore
from cnncore.operators.documentation import SYMBOL, docstring, plain_text, symbols
from cnncore.operators.registry import GRIDS

# The English of shape formulas; every other word in one is a symbol, or the name of an array.
WORDS = set(
    re.findall(
        r"\w+",
        """
        a along an and any as at axes axis before broadcast by channel cluster conv dimensions each except extent extents
        False for half has in is it its last level longer major many most multiple new no none number of on one or order per
        row same shape shapes so do than that the them those three times to triangle True twice two upper usually where
        with within without Caffe Chainer arrays indices mask window
        """,
    )
)
MARKUP = {
    "double backticks": r"``",
    "a role": r":\w+:`",
    "an escaped character": r"\\[*_|`]",
    "a literal block": r"::\s*$",
    "an underlined title": r"^-{3,}$|^={3,}$",
    "Markdown code": r"(?<!`)`[^`\n]+`",
    "emphasis": r"\*\*[A-Za-z][^*\n]*\*\*",
}
PAIRS = [pytest.param(op, id=op.name) for op in GRIDS["pool"].pairs.values()]


@pytest.mark.parametrize("op", [*operators(), *PAIRS])
def test_every_letter_of_the_shape_is_explained(op):
    explained = symbols(op)
    arrays = {array.name for array in op.arrays}
    left = set(re.findall(SYMBOL, op.shape)) - set(explained) - arrays - WORDS
    assert not left, f"{op.name}: {left} in {op.shape!r}; add to the schema's symbols, or to documentation.SYMBOLS"
    assert set(op.symbols) <= set(explained), "a symbol that the shape does not have"
    printed = plain_text(op)
    for name, meaning in explained.items():
        assert meaning.strip()
        assert f"    - {name}: {meaning.split()[0]}" in printed
        assert f"\n* {name}: {meaning.split()[0]}" in docstring(op)


@pytest.mark.parametrize("op", [*operators(), *PAIRS])
def test_printed_text_has_no_markup(op):
    text = plain_text(op)
    found = [what for what, pattern in MARKUP.items() if re.search(pattern, text, flags=re.MULTILINE)]
    assert not found, f"{op.name}: {found}"
    for part in (op.summary, op.formula, op.gradient, op.paper, op.shape):
        assert re.sub(r"\s+", "", part) in re.sub(r"\s+", "", text)


def test_schemas_hold_plain_text():
    """Markup belongs to the docstring and to the pages, which make it."""
    for op in cnncore.OPS.values():
        meanings = [a.meaning for a in op.arrays] + [s.meaning for s in op.settings_list] + list(op.symbols.values())
        for text in (
            op.summary,
            op.formula,
            op.gradient,
            op.paper,
            op.shape,
            op.accumulates,
            op.returns,
            *op.edges,
            *meanings,
        ):
            assert "`" not in text and "\\" not in text, f"{op.name}: {text}"


def test_docstrings_escape_what_reads_as_emphasis():
    assert "\\*kernel" in cnncore.conv.__doc__ and "(N, C, \\*spatial)" in cnncore.conv.__doc__
    assert "(N, C, *spatial)" in plain_text(cnncore.conv)
