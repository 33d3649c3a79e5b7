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
COMPILED = Path(cnncore.runtime.dispatch.__file__).parent
SOURCE = ROOT / "cnncore" / "ops" / "pool.pyx"
LOOP_BANNER = "# ── The loop over windows"

pytestmark = [
    pytest.mark.skipif(not SOURCE.exists(), reason="needs the source tree beside the tests"),
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
    (row,) = re.findall(r"```python\n(    pooling_row\(.*?)```", text, flags=re.DOTALL)
    return section, row


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    """A copy of the source in which the recipe was followed and the pooling module built in place.

    The recipe touches no other module: the rest is the package under test as it was compiled (it takes minutes).
    """
    folder = tmp_path_factory.mktemp("recipe")
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "_cyutility.c")
    shutil.copytree(ROOT / "cnncore", folder / "cnncore", ignore=ignored)
    for source in (folder / "cnncore" / "ops").glob("*.pyx"):
        if source.stem != "pool":
            source.unlink()
            (compiled,) = (p for p in COMPILED.glob(f"{source.stem}.*") if p.suffix in (".so", ".pyd"))
            shutil.copy2(compiled, source.parent)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder / name)
    section, row = recipe()

    source = folder / "cnncore" / "ops" / "pool.pyx"
    text = source.read_text(encoding="utf-8")
    if not re.search(r"from libc.math cimport .*\bsqrt\b", text):
        text = text.replace("from libc.math cimport ", "from libc.math cimport sqrt, ", 1)
    assert text.count(LOOP_BANNER) == 1
    source.write_text(text.replace(LOOP_BANNER, section + "\n\n" + LOOP_BANNER), encoding="utf-8")

    catalog = folder / "cnncore" / "catalog" / "pooling.py"
    text = catalog.read_text(encoding="utf-8")
    assert text.endswith("\n)\n")
    catalog.write_text(text[: -len(")\n")] + row + ")\n", encoding="utf-8")

    build = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace", "-j2"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert build.returncode == 0, build.stderr[-3000:]
    return folder


def run(kitchen, *command, environment=()):
    return subprocess.run(
        [sys.executable, *command],
        cwd=kitchen,
        env={**os.environ, "PYTHONPATH": str(kitchen), **dict(environment)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_check_passes(kitchen):
    done = run(kitchen, "-m", "cnncore", "check", "rms_pool")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rms_pool") >= 6  # two cases in three ranks


def test_it_is_documented_and_its_example_runs(kitchen):
    shown = run(kitchen, "-m", "cnncore", "ops", "rms_pool")
    assert shown.returncode == 0 and "√(1/n Σ xᵢ²)" in shown.stdout
    program = (
        "import doctest, cnncore;"
        "t = doctest.DocTestParser().get_doctest(cnncore.rms_pool.__doc__, {}, 'rms_pool', None, 0);"
        "r = doctest.DocTestRunner(); r.run(t); assert t.examples and not r.failures"
    )
    done = run(kitchen, "-c", program)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_stands_in_a_graph(kitchen):
    program = (
        "import numpy as np, cnncore;"
        "g = cnncore.Graph(); x = g.input(channels=2);"
        "g.output(g.rms_pool(g.conv(x, 3, kernel_size=3, padding=1), kernel_size=2));"
        "net = g.build(seed=0, dtype='float64');"
        "cnncore.testing.check_gradient(net, np.random.default_rng(0).standard_normal((1, 2, 6, 4)))"
    )
    done = run(kitchen, "-c", program)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_gradient_would_be_caught(kitchen):
    """The recipe's proof is worth something: with the factor 1/n forgotten, the check fails."""
    wrong = kitchen.parent / "wrong"
    shutil.copytree(kitchen, wrong)
    source = wrong / "cnncore" / "ops" / "pool.pyx"
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
