"""What 0.1.0 offered is there still: every public name, its parameters in their order, and the example of its docstring."""

import contextlib
import doctest
import inspect
import io
import json

import pytest
from support.processes import TESTS

import cnncore

BEFORE = json.loads((TESTS / "support" / "public_names.json").read_text(encoding="utf-8"))
# Names of parameters that have an alias now, and the new name.
# Examples whose words have changed with a name: the target "definition" is called "reference" now.
REWORDED = {"cpu.targets"}
RENAMED = {"Net.with_backward": {"wanted": "needs_gradient"}}


def found(path):
    first, *rest = path.split(".")
    thing = type(cnncore.models.lenet(seed=None)) if first == "Net" else getattr(cnncore, first)
    for name in rest:
        thing = getattr(thing, name)
    return thing


@pytest.mark.parametrize("path", BEFORE)
def test_the_name_is_there_with_its_parameters(path):
    before = BEFORE[path]["parameters"]
    thing = found(path)
    if before is None:
        return
    now = [
        f"{'*' if p.kind == p.VAR_POSITIONAL else '**' if p.kind == p.VAR_KEYWORD else ''}{name}"
        for name, p in inspect.signature(thing).parameters.items()
    ]
    renamed = RENAMED.get(path, {})
    before = [renamed.get(name, name) for name in before]
    kept = [name for name in now if name in before]
    assert kept == before, f"{path}{inspect.signature(thing)}"


@pytest.mark.parametrize("path", [path for path, row in BEFORE.items() if row["examples"] and path not in REWORDED])
def test_the_example_gives_what_it_gave(path, tmp_path, monkeypatch):
    if path == "cpu.peak" and cnncore.cpu.target() == "reference":
        pytest.skip("reference implementations have no peak")
    monkeypatch.chdir(tmp_path)
    known = {**vars(inspect.getmodule(found(path)) or cnncore), "cnncore": cnncore}
    test = doctest.DocTestParser().get_doctest(BEFORE[path]["examples"], known, path, None, 0)
    assert test.examples
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        failures, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.write)
    assert not failures, report.getvalue()
