"""The thread pool under ThreadSanitizer: threads.c, compiled with the pool's own source, without Python."""

import functools
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

from .wrong import Wrong

HERE = Path(__file__).resolve().parent
RUNTIME = HERE.parent.parent / "cnncore" / "runtime"
ROUNDS = 500  # calls of each caller


def missing():
    """Why this part cannot be run here; None where it can."""
    if not (RUNTIME / "threads.c").exists():
        return "needs the source tree"
    if shutil.which(compiler()) is None:
        return f"needs a C compiler ({compiler()})"
    try:
        harness()
    except subprocess.CalledProcessError as error:
        return f"the compiler has no ThreadSanitizer ({error.stderr.decode(errors='replace').strip()[:200]})"
    return None


def compiler():
    return os.environ.get("CC", "gcc").split()[-1]


@functools.cache
def harness(*flags):
    """The compiled harness; its folder lives as long as the process."""
    folder = tempfile.TemporaryDirectory()
    program = os.path.join(folder.name, "threads")
    command = [compiler(), "-std=gnu11", "-O1", "-g", "-fsanitize=thread", *flags, f"-I{RUNTIME}", "-o", program]
    sources = [HERE / "threads.c", RUNTIME / "threads.c", RUNTIME / "memory.c"]
    subprocess.run([*command, *map(str, sources), "-lpthread", "-lm"], capture_output=True, check=True)
    return program, folder


def plan(seed):
    return {"part": "threads", "seed": seed % 2**31, "rounds": ROUNDS}


def unlimited():
    """The sanitizer reserves far more addresses than it uses."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def report(plan, *flags):
    """(exit code, what the sanitizer said) of one run."""
    program, _ = harness(*flags)
    command = [program, str(plan["rounds"]), str(plan["seed"])]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=unlimited)
    return done.returncode, done.stdout + done.stderr


def run(plan):
    code, said = report(plan)
    if code or "WARNING" in said:
        raise Wrong(f"exit code {code}: {said[:2000]}")
    return 4 * plan["rounds"], 0
