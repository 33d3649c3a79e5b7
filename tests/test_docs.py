"""Every Python example in README and docs/ runs and prints what it says."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
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


def test_pages_with_examples_exist():
    assert sum(page.read_text(encoding="utf-8").count(">>> ") for page in PAGES) > 20
