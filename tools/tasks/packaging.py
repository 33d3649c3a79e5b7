"""Building and inspecting what users install."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tasks.process import PYTHON, ROOT, copy_source, output, run

DIST = ROOT / "dist"
# What no import would miss at once.
NEEDED = ("cnncore/py.typed", "cnncore/__init__.pyi", "cnncore/cli/report.css", "cnncore/train/digits/digits.bin")
LARGEST_WHEEL = 4 * 2**20  # bytes, the embedded data set included


def build(options, rest):
    """Install the package here, editable, with everything the other commands need.

    Only what changed is compiled. Arguments go to pip. The environment variables that change a build (CNNCORE_DEBUG and
    others) are explained at the top of setup.py.
    """
    run(PYTHON, "-m", "pip", "install", "-e", ".[develop]", *rest)


def generate(options, rest):
    """Write what is derived from the operators' schemas: type stubs, docs of all operators, their pictures.

    --check only compares, and names the files that are not current. Names of operators: pictures of these only.
    """
    run(PYTHON, "tools/generate.py", *rest)


def wheel(options, rest):
    """Build dist/*.tar.gz, and from it dist/*.whl, and inspect the wheel.

    The wheel is built from the unpacked source archive, so a file that the archive lacks is found. One wheel serves every CPython
    from 3.11 on: abi3audit reads from its symbols whether that is true. auditwheel names the oldest Linux it
    runs on and gives it that tag; nothing may have to be bundled. With --every-platform cibuildwheel does all
    this for each platform and Python of pyproject.toml that the machine (and Docker) can serve.

    The same sources give the same bytes: times are those of SOURCE_DATE_EPOCH, by default of the last commit. With --twice the
    wheel is built again, in other folders, and compared.
    """
    os.environ.setdefault("SOURCE_DATE_EPOCH", time_of_sources())
    if getattr(options, "every_platform", False):
        return run(PYTHON, "-m", "cibuildwheel", "--output-dir", DIST, *rest)
    with tempfile.TemporaryDirectory() as folder:
        made, archive = built(Path(folder) / "first", rest)
        if getattr(options, "twice", False):
            _, again = built(Path(folder) / "second", rest)
            check_same(archive, again)
        DIST.mkdir(exist_ok=True)
        for file in (*made.glob("*.tar.gz"), archive):
            shutil.copy2(file, DIST)
            print(f"{DIST / file.name}: {file.stat().st_size:,} bytes")
        return DIST / archive.name


def time_of_sources():
    """The time of the last commit in seconds, for archives; of the oldest wheel's format where there is no repository."""
    try:
        return output("git", "log", "-1", "--format=%ct").strip()
    except (OSError, subprocess.CalledProcessError):
        return "315532800"  # 1 January 1980, the first that a zip file can hold


def built(folder, rest):
    """(folder of the archives, wheel): source archive and wheel made from a copy of the sources, and inspected."""
    source, made = copy_source(folder / "source"), folder / "made"
    run(PYTHON, "-m", "build", "--outdir", made, source, *rest)
    (archive,) = made.glob("*.whl")
    return made, inspected(archive)


def check_same(first, second):
    """Exit unless two wheels have the same bytes; say which of their files differ."""
    digests = [hashlib.sha256(archive.read_bytes()).hexdigest() for archive in (first, second)]
    if first.name == second.name and digests[0] == digests[1]:
        print(f"{first.name}: two builds, the same bytes, sha256 {digests[0]}")
        return
    odd = differences(first, second)
    raise SystemExit(f"{first.name} and {second.name} differ: {', '.join(odd) or 'in their order or times'}")


def differences(first, second):
    """The names of the files that differ between two wheels, or that one of them lacks."""
    contents = []
    for archive in (first, second):
        with zipfile.ZipFile(archive) as content:
            contents.append({name: content.read(name) for name in content.namelist()})
    return sorted(
        name for name in contents[0].keys() | contents[1].keys() if contents[0].get(name) != contents[1].get(name)
    )


def inspected(archive):
    """The wheel with the platform tag that it deserves, after every promise about it was checked."""
    if "-abi3-" in archive.name:
        run(PYTHON, "-m", "abi3audit", "--strict", "--report", "--summary", archive)
    if sys.platform == "linux":
        run(PYTHON, "-m", "auditwheel", "show", archive)
        run(PYTHON, "-m", "auditwheel", "repair", "--wheel-dir", archive.parent / "repaired", archive)
        (archive,) = (archive.parent / "repaired").glob("*.whl")
    with zipfile.ZipFile(archive) as content:
        names = content.namelist()
        paths = [os.fsencode(place) for place in (str(ROOT), os.path.join(tempfile.gettempdir(), "build-"))]
        telling = [name for name in names if any(path in content.read(name) for path in paths)]
    if telling:
        raise SystemExit(f"{archive.name} holds paths of the machine that built it: {', '.join(telling)}")
    strange = [n for n in names if n.endswith((".c", ".o", ".h", ".pyx")) or ".libs/" in n or n.startswith("tests/")]
    if strange:
        raise SystemExit(f"{archive.name} holds what does not belong into it: {', '.join(strange)}")
    missing = [n for n in NEEDED if n not in names]
    if missing:
        raise SystemExit(f"{archive.name} lacks {', '.join(missing)}")
    if archive.stat().st_size > LARGEST_WHEEL:
        raise SystemExit(f"{archive.name} has {archive.stat().st_size:,} bytes, more than {LARGEST_WHEEL:,}")
    return archive


def newest_wheel():
    """The wheel in dist/ that was made last, if there is one."""
    return max(DIST.glob("*.whl"), key=lambda file: file.stat().st_mtime, default=None)
