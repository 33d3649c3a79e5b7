"""Wheels with the same bytes: what `tools/dev.py wheel --twice` compares."""

import sys
import zipfile

import pytest
from support.processes import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from tasks import packaging


def wheel(path, hour=0, **files):
    """A zip file of these files, each with the time of day ``hour``."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, hour, 0, 0)), content)
    return path


def test_equal_wheels_pass_and_others_are_named(tmp_path, capsys):
    (tmp_path / "again").mkdir()
    first = wheel(tmp_path / "p.whl", a="1", b="2", c="3")
    packaging.check_same(first, wheel(tmp_path / "again" / "p.whl", a="1", b="2", c="3"))
    assert "the same bytes, sha256" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"p\.whl and p\.whl differ: b, d"):
        packaging.check_same(first, wheel(tmp_path / "again" / "p.whl", a="1", b="!", c="3", d=""))
    with pytest.raises(SystemExit, match="differ: in their order or times"):
        packaging.check_same(first, wheel(tmp_path / "again" / "p.whl", hour=1, a="1", b="2", c="3"))


def test_times_are_those_of_the_sources(monkeypatch):
    assert packaging.time_of_sources().isdigit()

    def no_git(*_):
        raise FileNotFoundError("git")

    monkeypatch.setattr(packaging, "output", no_git)
    assert packaging.time_of_sources() == "315532800"
