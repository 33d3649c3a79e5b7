"""What the library says about itself: versions, its log, the classes of its warnings."""

import ast
import inspect
import io
import logging
import re
import tomllib

import numpy as np
import pytest
from support.processes import ROOT

import cnncore
from cnncore.cli.main import main
from cnncore.runtime import costs, versions

DEVELOPMENT = {"docs", "test", "lint", "fuzz", "develop"}


def test_versions_name_every_package_of_an_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"]]
    for extra, packages in project["optional-dependencies"].items():
        wanted += [] if extra in DEVELOPMENT else packages
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in wanted}
    found = versions.versions()["packages"]
    assert names <= found.keys()
    assert found["numpy"] == np.__version__
    assert versions.installed_version("a-package-that-nobody-has") == "none"


def test_show_versions_prints_what_is_found(capsys, monkeypatch):
    monkeypatch.setenv("CNNCORE_NUM_THREADS", "3")
    cnncore.show_versions()
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line)
    expected = {name: text for group in versions.versions().values() for name, text in group.items()}
    assert printed == expected
    assert printed["cnncore"] == cnncore.__version__ and printed["CNNCORE_NUM_THREADS"] == "3"
    assert printed["target"] == cnncore.cpu.target()


def test_machines_without_facts_have_a_name(monkeypatch, tmp_path):
    monkeypatch.setattr(costs, "CPU_FACTS", tmp_path / "none")
    monkeypatch.setattr(costs.platform, "processor", lambda: "")
    assert versions.cpu_model() == costs.platform.machine() == costs.cpu_facts()


def test_the_library_logs_and_shows_nothing_unless_asked(capsys):
    log = logging.getLogger("cnncore")
    assert any(isinstance(handler, logging.NullHandler) for handler in log.handlers)
    net, x = cnncore.models.lenet(seed=0), np.zeros((4, 1, 32, 32), np.float32)
    trainer = cnncore.train.Trainer(net)
    trainer.fit(x, np.zeros(4, int), epochs=1)
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        trainer.fit(x, np.zeros(4, int), epochs=2, first_epoch=1)
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    assert text.getvalue() == f"INFO cnncore.train.loop {trainer.history[-1]} of 2 epochs\n"


def test_a_command_shows_the_log(caplog, capsys, tmp_path):
    path = tmp_path / "net.npz"
    log = logging.getLogger("cnncore")
    try:
        assert main(["export", "lenet", str(path), "--log", "debug"]) == 0
    finally:
        log.setLevel(logging.NOTSET)
    assert ("cnncore.nets.model_file", logging.DEBUG, f"{path}: written") in caplog.record_tuples


def raised_warnings():
    """(file, name of the category) of every call of warnings.warn in the package."""
    for path in sorted((ROOT / "cnncore").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                given = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "category")]
                yield path.name, ast.unparse(given[0]) if given else None


@pytest.mark.parametrize("file, category", sorted(set(raised_warnings())))
def test_warnings_have_categories_that_can_be_told_apart(file, category):
    if category == "DeprecationWarning":
        return
    found = getattr(cnncore, category)
    assert issubclass(found, cnncore.CnnWarning) and issubclass(found, UserWarning)
    assert category in (ROOT / "docs" / "diagnostics.md").read_text(encoding="utf-8")


def test_the_page_lists_every_class_of_warnings():
    page = (ROOT / "docs" / "diagnostics.md").read_text(encoding="utf-8")
    classes = [thing for _, thing in inspect.getmembers(cnncore.errors, inspect.isclass) if issubclass(thing, Warning)]
    assert len(classes) >= 5
    assert all(f"`cnncore.{thing.__name__}`" in page for thing in classes)
