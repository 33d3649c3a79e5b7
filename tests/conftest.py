"""What the tests derived from the catalogue share: one parameter per operator and case, named after them.

``pytest -k lp_pool`` runs everything about one operator, because every test id begins with the operator's name.
"""

import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import zlib
from collections import Counter

import numpy as np
import pytest

import cnncore
from cnncore.testing import named_cases

try:
    from hypothesis import settings
except ImportError:
    pass
else:
    settings.register_profile("cnncore", deadline=None, derandomize=True, print_blob=True)
    settings.load_profile("cnncore")

# The address sanitizer keeps freed memory for a while and needs much address space: what measures those is skipped.
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
# Builds that look for errors take ten times as long.
SLOW = SANITIZED or os.environ.get("CNNCORE_DEBUG", "0") not in ("", "0")
# Definitions would train for an hour what kernels train in a minute: where they are forced, they read what kernels trained.
TRAINING_TARGET = cnncore.cpu.targets()[-1] if cnncore.cpu.target() == "definition" else cnncore.cpu.target()

# A shell's background job ignores Ctrl-C, and so would every process that a test starts: the tests of interrupts need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def cases(*, ranks=False, where=lambda op: True):
    """Parameters (op, case), or (op, case, rank), for every row of the catalogue that ``where`` accepts."""
    named = [(op, *c) for op in filter(where, cnncore.OPS.values()) for c in named_cases(op)]
    if not ranks:
        return [pytest.param(op, case, id=f"{op.name}-{name}") for op, case, name in named]
    return [
        pytest.param(op, case, rank, id=f"{op.name}-{name}-rank{rank}")
        for op, case, name in named
        for rank in case.ranks
    ]


def operators(where=lambda op: True):
    """One parameter per row of the catalogue."""
    return [pytest.param(op, id=op.name) for op in filter(where, cnncore.OPS.values())]


def first(y):
    """The differentiated output of an operator's result."""
    return y[0] if isinstance(y, tuple) else y


def as_list(gradients):
    """What backward returned, as a list."""
    return list(gradients) if isinstance(gradients, tuple) else [gradients]


def both_passes(op, arrays, settings, dy=None):
    """y and all gradients, as one list; dy is drawn from y's shape alone when it is not given."""
    y, backward = op.with_backward(*arrays, **settings)
    y = first(y)
    if dy is None:
        dy = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
    return [y, *as_list(backward(dy))]


def pytest_addoption(parser):
    parser.addoption("--sample", type=int, default=1, metavar="N", help="run one test in N, always the same ones")


def pytest_collection_modifyitems(config, items):
    """``--sample N`` keeps the tests whose names have a hash divisible by N: some of every file, whatever the machine."""
    count = config.getoption("sample")
    left_out = [item for item in items if zlib.crc32(item.nodeid.encode()) % count]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if zlib.crc32(item.nodeid.encode()) % count == 0]


COMPARED = Counter()
NOTES = []


def note(line):
    """A line for the end of the run."""
    NOTES.append(line)


def compared_with(oracle, op):
    """Count a comparison of an operator's y, and gradients where there are any, with an independent judge."""
    COMPARED[oracle, op.name] += 1


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # one of several processes: pytest-xdist
        session.config.workeroutput["compared"] = [[*key, count] for key, count in COMPARED.items()]
        session.config.workeroutput["notes"] = NOTES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    for oracle, name, count in getattr(node, "workeroutput", {}).get("compared", ()):
        COMPARED[oracle, name] += count
    NOTES.extend(getattr(node, "workeroutput", {}).get("notes", ()))


def pytest_terminal_summary(terminalreporter):
    """How many comparisons were made with which judge."""
    for line in NOTES:
        terminalreporter.write_line(line)
    for oracle in dict.fromkeys(oracle for oracle, _ in COMPARED):
        counts = {name: count for (judge, name), count in COMPARED.items() if judge == oracle}
        terminalreporter.write_line(f"{oracle}: {sum(counts.values())} comparisons of {len(counts)} operators")
    if COMPARED:
        terminalreporter.write_line(f"{len({name for _, name in COMPARED})} of {len(cnncore.OPS)} operators compared")


def package_folder(name):
    """The folder of an installed package, found without importing it; without the package the test is skipped."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"needs the package {name}: pip install --no-deps {name.replace('_', '-')}")
    return pathlib.Path(found.submodule_search_locations[0])


def run_python(source, *arguments, timeout=60, check=True, **environment):
    """Run Python source in a process of its own, with this process's cnncore; return the finished process."""
    result = subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
    )
    if check:
        assert result.returncode == 0, f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(autouse=True, scope="session")
def _outside_the_source_tree(tmp_path_factory):
    """Processes that tests start import what was installed, not an uncompiled source tree in which pytest was called."""
    here = pathlib.Path.cwd()
    if pathlib.Path(cnncore.__file__).parent.parent != here:
        os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(here)


@pytest.fixture(autouse=True)
def _settings_restored():
    """Number of threads and CPU target are as before after every test, whatever it did."""
    threads, target = cnncore.get_num_threads(), cnncore.cpu.target()
    yield
    cnncore.set_num_threads(threads)
    cnncore.cpu.target(target)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
