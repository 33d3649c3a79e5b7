"""Pages that tools write: long paragraphs in lines of at most 100 columns, everything else as it is."""

import sys

from support.processes import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from paragraphs import wrapped


def test_paragraphs_and_items_are_wrapped_and_nothing_else():
    words = "word " * 30
    paragraph, item = "".join(wrapped([words])), "".join(wrapped(["* " + words]))
    assert max(map(len, [*paragraph.split("\n"), *item.split("\n")])) <= 100
    assert paragraph.split() == words.split() and item.split("\n")[1].startswith("  word")
    kept = ["| " + words + "|", "![" + words + "](x.svg)", words + "  ", "```text", "x" * 120, words, "```"]
    assert list(wrapped(kept)) == kept


def test_no_line_begins_as_a_list_by_accident():
    for marker in ("+", "-", "*", "=", "1.", "#", ">"):
        for before in range(90, 104):
            (text,) = wrapped(["x" * before + f" {marker} y " + "z" * 20])
            assert not any(line.startswith(marker) for line in text.split("\n"))
