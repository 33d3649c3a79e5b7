"""Scripts of the explorers fit together: in pages, where they import each other, and in widgets, where they are one module."""

import re
import sys

import pytest
from support.processes import ROOT

from cnncore.explorers import convolution, widgets

SCRIPTS = ROOT / "cnncore" / "explorers" / "scripts"
EXPLORERS = sorted(path.stem for path in SCRIPTS.glob("*.mjs") if path.stem != "parts")


def defined(script):
    """Names that a script defines at its top level."""
    return re.findall(r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", script, flags=re.MULTILINE)


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_and_its_parts_are_one_module(name):
    script = widgets.script(name)
    names = defined(script)
    assert len(names) == len(set(names)) and "explore" in names
    assert "import " not in script and re.findall(r"^export (\w+)", script, flags=re.MULTILINE) == ["default"]
    assert script.count("{") == script.count("}")


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_imports_what_there_is(name):
    (imported,) = re.findall(
        r'^import \{(.*)\} from "\./parts\.mjs";$', widgets.text(f"{name}.mjs"), flags=re.MULTILINE
    )
    parts = re.findall(r"^export (?:function|const) (\w+)", widgets.text("parts.mjs"), flags=re.MULTILINE)
    used = {part.strip() for part in imported.split(",")}
    assert used <= set(parts)
    assert all(re.search(rf"\b{part}\b", widgets.text(f"{name}.mjs").split("\n", 1)[1]) for part in used)


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="needs the source tree beside the tests")
def test_pages_show_every_explorer_and_no_other():
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")]
    assert {name for page in pages for name in re.findall(r'data-explorer="(\w+)"', page)} == set(EXPLORERS)


def test_without_anywidget_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ModuleNotFoundError, match=r"cnncore\[notebook\]"):
        convolution()


def test_a_widget_answers_its_page():
    pytest.importorskip("anywidget")
    sent = []
    widget = convolution()
    widget.send = sent.append
    request = {"x": [[1, 2], [3, 4]], "w": [[1]], "transposed": False, "settings": {}, "at": [1, 1]}
    widget._handle_custom_msg({"number": 7, "question": "convolution", "request": request}, [])
    assert sent[0]["number"] == 7 and sent[0]["answer"]["y"] == [[1.0, 2.0], [3.0, 4.0]]
