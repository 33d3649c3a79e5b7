"""The wheel for browsers: what it is compiled with; and, where it was built, the wheel and the pages that use it."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from support.processes import ROOT

TOOLS = ROOT / "tools" / "browser"
BUILT = ROOT / "build" / "browser"

pytestmark = pytest.mark.skipif(not TOOLS.exists(), reason="needs the source tree beside the tests")


def tool(name):
    """A program of tools/browser as a module."""
    spec = importlib.util.spec_from_file_location(f"browser_{name}", TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pyconfig_has_the_values_of_the_other_python(tmp_path):
    values = {
        "SIZEOF_LONG": 4,
        "HAVE_FORK": 0,
        "HAVE_DECL_RTLD_NOW": 0,
        "SOABI": "cpython-312-wasm32",
        "HAVE_EPOLL": "",
    }
    with zipfile.ZipFile(tmp_path / "library.zip", "w") as archive:
        name = "_sysconfigdata__emscripten_wasm32-emscripten.py"
        archive.writestr(name, f"build_time_vars = {values!r}")
    host = "#define SIZEOF_LONG 8\n#define HAVE_FORK 1\n/* #undef HAVE_DECL_RTLD_NOW */\n#define SOABI 1\n#define HAVE_EPOLL 1\n"
    lines = tool("pyconfig").pyconfig(tmp_path / "library.zip", host).splitlines()
    assert {"#define SIZEOF_LONG 4", "#define HAVE_DECL_RTLD_NOW 0", '#define SOABI "cpython-312-wasm32"'} <= set(lines)
    assert not any("HAVE_FORK" in line or "HAVE_EPOLL" in line for line in lines)


def test_a_module_exports_its_init_function_alone(monkeypatch):
    compiler = tool("compiler")
    command = compiler.link(
        ["-shared", "a.o", "b.o", "-lm", "-Wl,-s", "-o", "build/cnncore/update.cpython-312-wasm32-emscripten.so"]
    )
    assert command[-4:-2] == ["a.o", "b.o"] and "--export-if-defined=PyInit_update" in command and "-lm" not in command
    monkeypatch.setenv("PYTHON_INCLUDE", "include/python")
    monkeypatch.setenv("EMSCRIPTEN_INCLUDE", "include/c")
    command = compiler.translate(["-O3", "-c", "a.c"])
    assert command[-3:] == ["-O3", "-c", "a.c"] and {"-Iinclude/python", "include/c", "-msimd128"} <= set(command)


def test_the_comparison_finds_differences():
    difference = tool("check").largest_difference
    y = np.array([1.0, -2.0, np.inf, np.nan])
    assert difference(y, y) == 0 and difference(y + 0.02, y) == pytest.approx(0.01)
    for other in (y.astype(np.float32), y[:2], np.array([1.0, -2.0, np.inf, 0.0])):
        with pytest.raises(AssertionError):
            difference(other, y)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_operators_agree_in_pyodide():
    wheels = [file.name for pattern in ("numpy-*.whl", "cnncore-*.whl") for file in BUILT.glob(pattern)]
    if len(wheels) < 2 or not shutil.which("node"):
        pytest.skip("no wheel for browsers, or no Node: python tools/dev.py browser")
    subprocess.run([sys.executable, TOOLS / "check.py", BUILT / "native.npz"], check=True)
    ran = subprocess.run(["node", TOOLS / "check.mjs", BUILT, *wheels], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_pages_compute_in_chromium():
    site = ROOT / "build" / "site" / "_static" / "engine"
    if not site.exists() or not all(map(shutil.which, ("chromium", "node", "npm"))):
        pytest.skip("no site with the engine, no Chromium or no Node: python tools/dev.py browser, then docs")
    command = [sys.executable, ROOT / "tools" / "dev.py", "pages", "--live"]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert ran.returncode == 0, ran.stdout + ran.stderr
