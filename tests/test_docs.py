"""Every Python example in README and docs/ runs and prints what it says; generated pages have what they should."""

import doctest
import importlib
import pkgutil
import re
import runpy
import xml.etree.ElementTree as ElementTree

import pytest
from support.cases import operators
from support.processes import ROOT

import cnncore
from cnncore.operators.peers import PEERS

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # examples may write files
    # Blocks that begin with a prompt are examples; others show code to be written elsewhere.
    blocks = re.findall(r"^```python\n(>>> .*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = "\n".join(blocks)
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    output = []
    runner.run(examples, out=output.append)
    assert runner.failures == 0, "".join(output)


@pytest.mark.parametrize("page", PAGES + sorted(ROOT.glob("[!R]*.md")), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_prose_has_100_columns(page):
    """So have running text and lists; tables, code, headings and lines with a break at their end are as long as they are."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = [
        line
        for line in text.splitlines()
        if not line.startswith(("|", "#", "!", "<", "    ")) and not line.endswith("  ")
    ]
    assert not [line for line in lines if len(line) > 100 and not line.startswith("(")]


def test_pages_with_examples_exist():
    assert sum(page.read_text(encoding="utf-8").count(">>> ") for page in PAGES) > 20


def test_examples_of_all_docstrings_run(tmp_path, monkeypatch):
    """Those of every module; an operator's, which its row holds, run in test_registry.py."""
    monkeypatch.chdir(tmp_path)
    attempted = 0
    for found in pkgutil.walk_packages(cnncore.__path__, "cnncore."):
        if not found.name.startswith(("cnncore.__main__", "cnncore._cyutility")):
            try:
                module = importlib.import_module(found.name)
            except ModuleNotFoundError as error:  # adapters of other frameworks import them
                assert found.name.startswith("cnncore.testing.conformance.in_") and not error.name.startswith("cnncore")
                continue
            outcome = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
            assert not outcome.failed, found.name
            attempted += outcome.attempted
    assert attempted > 200


# ── What is generated ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("op", operators())
def test_operator_has_a_page_and_a_small_picture(op):
    page = (ROOT / "docs" / "operators" / f"{op.name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {op.name}\n") and f"(pictures/{op.name}.svg)" in page
    picture = ROOT / "docs" / "operators" / "pictures" / f"{op.name}.svg"
    assert picture.stat().st_size <= 16_000
    root = ElementTree.parse(picture).getroot()
    assert root.tag.endswith("svg") and op.name in root.find("{*}title").text
    index = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    assert f"| [{op.name}](operators/{op.name}.md) |" in index


def test_coverage_page_knows_every_id():
    """Every id of tools/literature.py, with the operators whose schemas name it; a schema's id is one of them."""
    page = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    rows = {m[1]: m[2] for m in re.finditer(r"^\| ([CPAL]\d\d) \| .* \| (.*) \|$", page, flags=re.MULTILINE)}
    entries = runpy.run_path(str(ROOT / "tools" / "literature.py"))["ENTRIES"]
    assert list(rows) == list(entries) and len(entries) >= 142
    assert "missing" not in rows.values()
    for op in cnncore.OPS.values():
        for entry in op.literature:
            assert f"[{op.name}](" in rows[entry], f"{op.name}: {entry}"


def test_every_operator_has_its_counterparts():
    """A row for every operator, and none for what is not one; none of a framework that the page does not name."""
    assert PEERS.keys() == cnncore.OPS.keys()
    named = {name for peers in PEERS.values() for name in peers}
    assert {name.replace(".", " ").split()[0] for name in named} == {"torch", "tensorflow", "keras", "ONNX"}


def test_peers_have_what_is_said(capsys):
    """Every name of a peer exists there, as far as it is installed."""
    tool = runpy.run_path(str(ROOT / "tools" / "verify_peers.py"))
    names = {name for peers in PEERS.values() for name in peers if not name.startswith(("tensorflow", "keras"))}
    result, absent = tool["verify"](names)
    if not result:
        pytest.skip(f"not installed: {', '.join(sorted(absent))}")
    assert not [name for _, missing in result.values() for name in missing]
    assert sum(found for found, _ in result.values()) > 50
