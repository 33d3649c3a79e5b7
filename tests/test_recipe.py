"""docs/contributing.md promises that a pooling strategy is one section and one row. Here the recipe is followed to the letter."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import ROOT

import cnncore

PAGE = ROOT / "docs" / "contributing.md"
COMPILED = Path(cnncore.__file__).parent
POOLING = Path("cnncore", "operators", "pooling")
LOOP_BANNER = "# ── The loop over windows"

pytestmark = [
    pytest.mark.skipif(
        not (ROOT / POOLING / "reference.pyx").exists(), reason="needs the source tree beside the tests"
    ),
    pytest.mark.skipif(importlib.util.find_spec("Cython") is None, reason="needs Cython to compile the strategy"),
    pytest.mark.skipif(
        importlib.util.find_spec("setuptools") is None, reason="needs setuptools to compile the strategy"
    ),
    pytest.mark.timeout(600),
]


def recipe():
    """The two blocks of the page: the section (Cython) and the row (Python)."""
    text = PAGE.read_text(encoding="utf-8")
    (section,) = re.findall(r"```cython\n(.*?)```", text, flags=re.DOTALL)
    (row,) = re.findall(r"```python\n(    pooling_schema\(.*?)```", text, flags=re.DOTALL)
    return section, row


@pytest.fixture(scope="module")
def source_copy(tmp_path_factory):
    """A copy of the source in which the recipe was followed and the pooling module built in place.

    The recipe touches no other module: the rest is the package under test as it was compiled (it takes minutes).
    """
    folder = tmp_path_factory.mktemp("recipe")
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "_cyutility.c")
    shutil.copytree(ROOT / "cnncore", folder / "cnncore", ignore=ignored)
    for source in (folder / "cnncore").rglob("*.pyx"):
        if source.parent != folder / POOLING:
            source.unlink()
            here = COMPILED / source.parent.relative_to(folder / "cnncore")
            (compiled,) = (p for p in here.glob(f"{source.stem}.*") if p.suffix in (".so", ".pyd"))
            shutil.copy2(compiled, source.parent)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder / name)
    section, row = recipe()

    source = folder / POOLING / "reference.pyx"
    text = source.read_text(encoding="utf-8")
    if not re.search(r"from libc.math cimport .*\bsqrt\b", text):
        text = text.replace("from libc.math cimport ", "from libc.math cimport sqrt, ", 1)
    assert text.count(LOOP_BANNER) == 1
    source.write_text(text.replace(LOOP_BANNER, section + "\n\n" + LOOP_BANNER), encoding="utf-8")

    schemas = folder / POOLING / "schemas.py"
    text = schemas.read_text(encoding="utf-8")
    assert text.endswith("\n)\n")
    schemas.write_text(text[: -len(")\n")] + row + ")\n", encoding="utf-8")

    build = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace", "-j2"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert build.returncode == 0, build.stderr[-3000:]
    return folder


def run(source_copy, *command, environment=()):
    return subprocess.run(
        [sys.executable, *command],
        cwd=source_copy,
        env={**os.environ, "PYTHONPATH": str(source_copy), **dict(environment)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_check_passes(source_copy):
    done = run(source_copy, "-m", "cnncore", "check", "rms_pool")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rms_pool") >= 6  # two cases in three ranks


def test_it_is_documented_and_its_example_runs(source_copy):
    shown = run(source_copy, "-m", "cnncore", "ops", "rms_pool")
    assert shown.returncode == 0 and "√(1/n Σ xᵢ²)" in shown.stdout
    program = (
        "import doctest, cnncore;"
        "t = doctest.DocTestParser().get_doctest(cnncore.rms_pool.__doc__, {}, 'rms_pool', None, 0);"
        "r = doctest.DocTestRunner(); r.run(t); assert t.examples and not r.failures"
    )
    done = run(source_copy, "-c", program)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_stands_in_a_graph(source_copy):
    program = (
        "import numpy as np, cnncore;"
        "g = cnncore.Graph(); x = g.input(channels=2);"
        "g.output(g.rms_pool(g.conv(x, 3, kernel_size=3, padding=1), kernel_size=2));"
        "net = g.build(seed=0, dtype='float64');"
        "cnncore.testing.check_gradient(net, np.random.default_rng(0).standard_normal((1, 2, 6, 4)))"
    )
    done = run(source_copy, "-c", program)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_gradient_would_be_caught(source_copy):
    """The recipe's proof is worth something: with the factor 1/n forgotten, the check fails."""
    wrong = source_copy.parent / "wrong"
    shutil.copytree(source_copy, wrong)
    source = wrong / POOLING / "reference.pyx"
    text = source.read_text(encoding="utf-8")
    assert text.count("dy * x[i] / (window.n * y)") == 1
    source.write_text(text.replace("dy * x[i] / (window.n * y)", "dy * x[i] / y"), encoding="utf-8")
    build = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"], cwd=wrong, capture_output=True, text=True, timeout=500
    )
    assert build.returncode == 0, build.stderr[-3000:]
    done = run(wrong, "-m", "cnncore", "check", "rms_pool")
    assert done.returncode == 1, done.stdout + done.stderr


def test_size_of_the_recipe():
    """The promise is 'about 20 lines'; counted without the banner and blank lines."""
    section, row = recipe()
    assert sum(1 for line in section.splitlines() if line.strip() and not line.startswith("#")) <= 20
    assert sum(1 for line in row.splitlines() if line.strip()) <= 25
