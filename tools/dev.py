"""One command for everything a contributor does: ``python tools/dev.py COMMAND``.

build       install the package here, editable, with the test and lint extras
test        run the tests; further arguments go to pytest (``test -k lp_pool`` runs all about one operator)
            --target NAME   force a CPU target: definition, baseline, avx2, avx512, neon, or "all" for one after the other
            --debug         in a build of its own with bounds checks on (kept in build/debug)
            --sanitize      in a build of its own under address and undefined-behaviour sanitizers (kept in build/sanitize)
            --clean         in a fresh virtual environment, from outside the source tree, as continuous integration does
bench       time operators and networks; arguments go to tools/bench.py
docs        make the generated documentation and run every example in README and docs/
lint        ruff, cython-lint, generated files current
generate    write the generated files (type stubs, docs of all operators, their pictures); --check only compares
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable


def run(*command, cwd=ROOT, **environment):
    """Run a command, showing it; a failure ends this program with its exit code."""
    print("$", " ".join(map(str, command)), flush=True)
    code = subprocess.run([str(c) for c in command], cwd=cwd, env={**os.environ, **environment}).returncode
    if code:
        sys.exit(code)


def environment_python(folder, fresh):
    """Python of the virtual environment in ``folder``, made when it is not there (or always, with ``fresh``)."""
    if fresh and folder.exists():
        shutil.rmtree(folder)
    if not (folder / "pyvenv.cfg").exists():
        venv.create(folder, with_pip=True)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def library(name):
    """Path of a compiler's run-time library, for LD_PRELOAD."""
    compiler = os.environ.get("CC", "gcc").split()[-1]
    return subprocess.run(
        [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()


def build(_, rest):
    run(PYTHON, "-m", "pip", "install", "-e", ".[test,lint]", *rest)


def test(options, rest):
    if options.debug or options.sanitize or options.clean:
        return test_in_own_build(options, rest)
    if options.target == "all":
        names = subprocess.run(
            [PYTHON, "-c", "import cnncore; print(*cnncore.cpu.targets())"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for name in names:
            run(PYTHON, "-m", "pytest", *rest, CNNCORE_TARGET=name)
    else:
        run(PYTHON, "-m", "pytest", *rest, **({"CNNCORE_TARGET": options.target} if options.target else {}))


def test_in_own_build(options, rest):
    kind = "sanitize" if options.sanitize else "debug" if options.debug else "clean"
    python = environment_python(ROOT / "build" / kind, fresh=options.clean)
    switches = {"sanitize": {"CNNCORE_SANITIZE": "1"}, "debug": {"CNNCORE_DEBUG": "1"}, "clean": {}}[kind]
    if options.target:
        switches["CNNCORE_TARGET"] = options.target
    # A build folder of its own, so that objects with other flags are never mixed.
    source = Path(tempfile.mkdtemp(prefix="cnncore-"))
    try:
        tracked = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for name in tracked:
            if (ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, source / name)
        run(python, "-m", "pip", "install", "--quiet", f"{source}[test]", **switches)
        if options.sanitize:
            preload = " ".join((library("libasan.so"), library("libubsan.so")))
            switches |= {
                "LD_PRELOAD": preload,
                # CPython itself keeps memory until exit; leaks of the kernels are impossible, they do not allocate.
                "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:verify_asan_link_order=0",
                "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
            }
        with tempfile.TemporaryDirectory() as elsewhere:
            # A failed bounds check inside a kernel cannot be raised: Python reports it as unraisable, and that has to fail.
            strict = ["-W", "error::pytest.PytestUnraisableExceptionWarning"] if options.debug else []
            command = [python, "-m", "pytest", "-c", ROOT / "pyproject.toml", ROOT / "tests", *strict, *rest]
            run(*command, cwd=elsewhere, **switches)
    finally:
        shutil.rmtree(source)


def bench(_, rest):
    run(PYTHON, "tools/bench.py", *rest)


def docs(_, rest):
    run(PYTHON, "tools/generate.py")
    run(PYTHON, "-m", "pytest", "tests/test_docs.py", *rest)


def lint(_, rest):
    run(PYTHON, "-m", "ruff", "check", ".", *rest)
    run(PYTHON, "-m", "ruff", "format", "--check", ".")
    run(PYTHON, "-m", "cython_lint", "cnncore/ops")
    run(PYTHON, "tools/generate.py", "--check")


def generate(_, rest):
    run(PYTHON, "tools/generate.py", *rest)


def main():
    parser = argparse.ArgumentParser(
        prog="dev.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for function in (build, test, bench, docs, lint, generate):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        if function is test:
            command.add_argument("--target", help="CPU target to force, or all")
            command.add_argument("--debug", action="store_true", help="bounds checks on")
            command.add_argument("--sanitize", action="store_true", help="address and undefined-behaviour sanitizers")
            command.add_argument("--clean", action="store_true", help="fresh environment, outside the source tree")
    options, rest = parser.parse_known_args()
    options.function(options, rest)


if __name__ == "__main__":
    main()
