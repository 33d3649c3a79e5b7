"""Tests: as they are, in builds that look for errors, under coverage, and under every Python of the machine."""

import os
import tempfile
import time
from pathlib import Path

from tasks.packaging import newest_wheel, wheel
from tasks.process import PYTHON, ROOT, copy_source, environment, interpreters, output, run

# Which files are whose in the report.
COVERED = {"Python": "*.py", "Cython": "*.pyx,*.pxd"}
MEASURED = """
from coverage import CoverageData
data = CoverageData()
data.read()
print(*sorted(data.measured_files(), key=lambda name: (name.endswith(".pxd"), name)), sep="\\n")
"""

# Builds of their own, and what setup.py calls them.
SWITCHES = {"debug": "CNNCORE_DEBUG", "sanitize": "CNNCORE_SANITIZE", "emulate": "CNNCORE_EMULATE"}

# A failed bounds check inside a kernel cannot be raised: Python reports it as unraisable, and that has to fail.
STRICT = ("-W", "error::pytest.PytestUnraisableExceptionWarning")


def test(options, rest):
    """Run the tests against what `build` installed; arguments that are not below go to pytest.

    Every test of an operator begins with its name, so `test -k lp_pool` runs all about one operator, and
    `test -n auto` uses every processor. `--sample 8` runs one test in eight, always the same ones.

    A build of its own (--debug, --sanitize, --emulate) lives in build/NAME and compiles only what has changed since the
    last time.
    """
    for kind in SWITCHES:
        if getattr(options, kind):
            return test_own_build(kind, options.target, rest)
    targets = (options.target,) if options.target else ()
    if options.target == "all":
        targets = output(PYTHON, "-c", "import cnncore; print(*cnncore.cpu.targets())").split()
    for target in targets:
        run(PYTHON, "-m", "pytest", *rest, CNNCORE_TARGET=target)
    if not targets:
        run(PYTHON, "-m", "pytest", *rest)


def test_own_build(kind, target, rest):
    """The tests against a build with bounds checks (debug), sanitizers (sanitize), or all CPU targets (emulate)."""
    folder = ROOT / "build" / kind
    python = environment(folder / "environment")
    switches = {SWITCHES[kind]: "1"}
    source = copy_source(folder / "source")
    run(python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", source, **switches)
    run(python, "-m", "pip", "install", "--quiet", f"{source}[test]", **switches)
    if kind == "emulate":
        target = target or "avx512"
    if target:
        switches["CNNCORE_TARGET"] = target
    if kind == "sanitize":
        switches |= {
            "LD_PRELOAD": " ".join((runtime_library("libasan.so"), runtime_library("libubsan.so"))),
            # CPython itself keeps memory until exit; leaks of the kernels are impossible, they do not allocate.
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:verify_asan_link_order=0",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        }
    pytest_outside(python, *(STRICT if kind == "debug" else ()), *rest, **switches)


def runtime_library(name):
    """Path of a run-time library of the compiler."""
    compiler = os.environ.get("CC", "gcc").split()[-1]
    return output(compiler, f"-print-file-name={name}").strip()


def pytest_outside(python, *arguments, **switches):
    """pytest on the tests of the source tree, from elsewhere, so that the installed package is what is tested."""
    with tempfile.TemporaryDirectory() as elsewhere:
        run(
            python, "-m", "pytest", "-c", ROOT / "pyproject.toml", ROOT / "tests", *arguments, cwd=elsewhere, **switches
        )


def coverage(options, rest):
    """Measure which lines of Python and Cython the tests run.

    Cython is compiled with line tracing, in build/coverage; the reference implementations run, because kernels, being C, have
    no lines to trace. Arguments that are not below go to pytest. build/coverage/html/index.html shows every line.

    The last line is the total; if it is below ``fail_under`` in pyproject.toml, or a test failed, the command fails. A part
    of the tests covers a part of the lines: `coverage tests/nets --fail-under 0`.
    """
    folder = copy_source(ROOT / "build" / "coverage")
    run(PYTHON, "setup.py", "-q", "build_ext", "--inplace", cwd=folder, CNNCORE_COVERAGE="1", CNNCORE_NO_ABI3="1")
    measure = (PYTHON, "-m", "coverage")
    run(*measure, "erase", cwd=folder)
    failed = 0  # a failing test does not hide the figures
    try:
        run(*measure, "run", "-m", "pytest", *rest, cwd=folder, PYTHONPATH=str(folder))
    except SystemExit as end:
        failed = end.code
    run(*measure, "combine", "--quiet", cwd=folder)
    # Cython's plugin finds the lines of a .pxd in the C of a module that was reported before.
    files = output(PYTHON, "-c", MEASURED, cwd=folder).splitlines()
    run(*measure, "html", "--quiet", "--fail-under=0", "--directory", "html", *files, cwd=folder)
    for language, pattern in COVERED.items():
        print(f"\n{language}")
        run(*measure, "report", "--skip-covered", "--fail-under=0", f"--include={pattern}", *files, cwd=folder)
    floor = () if options.fail_under is None else (f"--fail-under={options.fail_under}",)
    total = output(*measure, "report", "--format=total", "--precision=1", "--fail-under=0", *files, cwd=folder)
    print(f"\ntotal: {total.strip()} % of the lines of Python and Cython", flush=True)
    run(*measure, "report", "--format=total", *floor, *files, cwd=folder)
    raise SystemExit(failed)


def matrix(options, rest):
    """Run the tests of one wheel under every Python of this machine (on PATH, or installed by pyenv).

    The wheel is the newest in dist/, or is built. Arguments that are not below go to pytest; a sample is enough, as the
    compiled code is the same under all of them: `matrix --sample 8`.
    """
    archive = options.wheel or newest_wheel() or wheel(options, ())
    found = {version: python for version, python in interpreters().items() if version in (options.python or [version])}
    missing = set(options.python or ()) - set(found)
    if missing:
        raise SystemExit(f"not on this machine: Python {', '.join(sorted(missing))}")
    outcome = {}
    for version, python in found.items():
        with tempfile.TemporaryDirectory() as folder:
            inside = environment(Path(folder) / "environment", python)
            run(inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{archive}[test]")
            try:
                pytest_outside(inside, *rest)
            except SystemExit as end:
                outcome[version] = f"failed (exit code {end.code})"
            else:
                outcome[version] = "passed"
    print("\n".join(f"Python {version}: {result}" for version, result in outcome.items()))
    if set(outcome.values()) != {"passed"}:
        raise SystemExit(1)


def bench(options, rest):
    """Time operators and networks, beside every other framework that is installed; arguments go to tools/bench.py."""
    run(PYTHON, "tools/bench.py", *rest)


def instructions(options, rest):
    """Count, with valgrind, the instructions of ten representative calls of what is installed, on one thread.

    Fails if one takes more than is recorded in tools/benchmarks/instructions.json. Counts depend on compiler, Python and
    NumPy: with others than the recorded ones they are shown and not compared.
    """
    update = ("--update",) if options.update else ()
    run(PYTHON, "-m", "benchmarks.instructions", *update, *rest, cwd=ROOT / "tools")


def fuzz(options, rest):
    """Fuzz what is installed; arguments go to tools/fuzz, whose parts `fuzz -- --help` lists.

    Every plan is run by a child process, so that a crash or a hang is caught and told with its seed; finds are kept in
    tools/fuzz/corpus. `fuzz --seconds 60` is a slice, `fuzz --depth hour` or `night` the whole.
    """
    run(PYTHON, "tools/fuzz", *[argument for argument in rest if argument != "--"])


def docs(options, rest):
    """Write the generated documentation, run every example of it, and build the site into build/site.

    The examples are those of README, docs/ and the docstrings. The site opens from disk, at build/site/index.html;
    a warning of Sphinx, such as a link that leads nowhere, is an error. Links to other sites are not followed: no network
    is needed.
    """
    run(PYTHON, "tools/generate.py")
    run(PYTHON, "-m", "pytest", "tests/test_docs.py", *rest)
    start = time.perf_counter()
    run(PYTHON, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html", "docs", "build/site")
    pages = list((ROOT / "build" / "site").rglob("*.html"))
    size = sum(file.stat().st_size for file in (ROOT / "build" / "site").rglob("*") if file.is_file())
    print(
        f"build/site/index.html: {len(pages)} pages, {size / 2**20:.0f} MB, {time.perf_counter() - start:.0f} s, no warnings"
    )
