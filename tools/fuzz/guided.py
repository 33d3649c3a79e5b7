"""The three file readers, guided by coverage: libFuzzer (the atheris package) keeps what reaches new lines of them.

Plans of the part ``files`` know the formats; this part knows nothing, and finds what nobody thought of. A plan is a reader, a
seed and a number of seconds; each runs in a process of its own, which starts from a few valid files.
"""

import base64
import importlib
import inspect
import os
import pkgutil
import random
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from cnncore import CnnError

from . import files
from .wrong import Wrong

SECONDS = 20  # of a plan
LONGEST = 1 << 16  # bytes of an input
MODULES = {  # reader → what is instrumented; the rest would only slow it down
    "onnx": ["cnncore.io.onnx_import"],
    "model": ["cnncore.nets.model_file", "cnncore.nets.description", "cnncore.nets.structure"],
    "npz": ["cnncore.io.npz", "cnncore.io.weights", "cnncore.io.files"],
}
CHILD = "import sys; sys.path.insert(0, {tools!r}); from fuzz.guided import main; main(*sys.argv[1:])"


def missing():
    """Why this part cannot be run here; None where it can."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        return "needs atheris (the extra cnncore[fuzz])"
    return None


def plan(seed):
    choice = random.Random(seed)
    kind = list(MODULES)[seed % len(MODULES)]
    return {"part": "guided", "kind": kind, "seed": choice.randrange(1, 2**31), "seconds": SECONDS}


def run(plan):
    """Feed the reader for some seconds; returns (inputs that it was given, 0)."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = os.path.join(folder, "corpus")
        os.mkdir(corpus)
        for variant in range(8):
            data = files.made(plan["kind"], variant)
            if len(data) <= LONGEST:
                Path(corpus, f"valid_{variant}").write_bytes(data)
        code = CHILD.format(tools=str(Path(__file__).resolve().parent.parent))
        options = [
            f"-seed={plan['seed']}",
            f"-max_total_time={plan['seconds']}",
            f"-max_len={LONGEST}",
            "-rss_limit_mb=3000",
        ]
        options += ["-timeout=20", "-print_final_stats=1", f"-artifact_prefix={folder}/", corpus]
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, plan["kind"], *options],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=plan["seconds"] + 300,  # libFuzzer itself tells of an input that takes long
        )
        count = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
        if done.returncode or not count:
            found = [base64.b64encode(path.read_bytes()).decode() for path in Path(folder).glob("*-*")]
            raise Wrong(f"{plan['kind']}: {done.stdout[-1500:]}\n{done.stderr[-1000:]}\ninput: {found}")
    return int(count[1]), 0


def functions_of(module):
    """The functions and methods that a module defines."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    for value in own:
        for each in vars(value).values() if inspect.isclass(value) else [value]:
            if inspect.isfunction(each):
                yield each


def main(kind, *options):
    """What the process of a plan does: libFuzzer ends it."""
    import atheris

    for name in MODULES[kind]:
        package = importlib.import_module(name)
        inner = pkgutil.iter_modules(getattr(package, "__path__", []))
        for module in (package, *(importlib.import_module(f"{name}.{each.name}") for each in inner)):
            for function in functions_of(module):
                atheris.instrument_func(function)
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "file")
    warnings.simplefilter("ignore")

    def reads(data):
        Path(path).write_bytes(data)
        try:
            files.read(kind, path, in_place=kind == "npz")
        except CnnError:
            return

    atheris.Setup(["guided", *options], reads)
    atheris.Fuzz()
