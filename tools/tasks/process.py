"""Running programs, and places to run them in: virtual environments and copies of the source tree."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = sys.executable


def run(*command, cwd=ROOT, **environment):
    """Run a command, showing it; a failure ends this program with its exit code."""
    settings = [f"{name}={value}" for name, value in environment.items()]
    print("$", *settings, *command, flush=True)
    code = subprocess.run([str(c) for c in command], cwd=cwd, env={**os.environ, **environment}).returncode
    if code:
        sys.exit(code)


def output(*command, cwd=ROOT):
    """What a command prints."""
    return subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, check=True).stdout


def tracked(*patterns):
    """Files of the source tree, those not committed yet included, as paths below ROOT; patterns are git's."""
    names = output("git", "ls-files", "-co", "--exclude-standard", "--", *patterns).splitlines()
    return [name for name in names if (ROOT / name).is_file()]


def copy_source(folder):
    """Make ``folder`` hold the files of the source tree and those built there before.

    Unchanged files keep their times, so that what was compiled in the copy is compiled again only where it has to be; files
    that the tree no longer has are removed.
    """
    names, record = tracked(), folder / ".copied"
    for name in record.read_text().splitlines() if record.exists() else ():
        if name not in names:
            (folder / name).unlink(missing_ok=True)
    for name in names:
        source, copy = ROOT / name, folder / name
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            shutil.copymode(source, copy)
    record.write_text("\n".join(names))
    return folder


def environment(folder, python=PYTHON):
    """The interpreter of the virtual environment in ``folder``, which is made when it is not there."""
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not interpreter.exists():
        if python == PYTHON:
            venv.create(folder, with_pip=True)
        else:
            run(python, "-m", "venv", folder)
    return interpreter


def interpreters(oldest=(3, 11)):
    """Every CPython on this machine from ``oldest`` on, one per version: {"3.12": path}. PATH comes before pyenv."""
    found = {}
    folders = [Path(f) for f in os.environ.get("PATH", "").split(os.pathsep)]
    folders += sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin"))
    question = "import sys, sysconfig; print(*sys.version_info[:2], 't' if sysconfig.get_config_var('Py_GIL_DISABLED') else '')"
    for candidate in (c for f in folders for c in [*f.glob("python3.[0-9][0-9]"), *f.glob("python3.[0-9][0-9]t")]):
        try:
            major, minor, *threaded = output(candidate, "-c", question, cwd=candidate.parent).split()
        except (OSError, subprocess.CalledProcessError):
            continue  # a shim of a version that is not installed
        if (int(major), int(minor)) >= oldest:
            found.setdefault(f"{major}.{minor}{''.join(threaded)}", candidate)
    return dict(sorted(found.items(), key=lambda item: int(item[0].strip("t").split(".")[1])))
