"""The command line, in a process of its own and in this one, and small data sets for it."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import cnncore
from cnncore import cli
from cnncore.vision.images import write_png

COMMAND = [sys.executable, "-m", "cnncore"]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(cnncore.__file__).parent.parent)}  # this process's cnncore anywhere


def run(*arguments, cwd, timeout=120, code=0, **environment):
    """Run the command line in ``cwd``; the exit code must be ``code``."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**ENVIRONMENT, **environment},
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def run_here(arguments, cwd):
    """(exit code, stdout, stderr) of the command line in this process, which is quicker."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), error.getvalue()


def fails(*arguments, cwd, match):
    """The command ends with exit code 2 and one line on stderr that matches; nothing else is printed, save what it began."""
    code, out, error = run_here(arguments, cwd)
    out = re.sub(r"^(measuring images of \S+|searching for a learning rate)\n", "", out)
    lines = error.splitlines()
    assert (code, out, len(lines)) == (2, "", 1) and lines[0].startswith("cnncore: error: "), (code, out, error)
    assert re.search(match, lines[0]), lines[0]


def write_classes(folder, count=12, size=16, colour=False):
    """A folder of two classes: discs and crosses."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    shapes = {"disc": np.hypot(y, x) < size / 3, "cross": np.minimum(abs(y), abs(x)) < size / 8}
    for name, shape in shapes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image = (shape * 180 + rng.integers(0, 60, shape.shape)).astype(np.uint8)
            write_png(folder / name / f"{i}.png", np.stack([image] * 3, -1) if colour else image)
    return folder
