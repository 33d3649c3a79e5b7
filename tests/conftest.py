"""What the tests derived from the registry share: one parameter per operator and case, named after them.

``pytest -k lp_pool`` runs everything about one operator, because every test id begins with the operator's name.
"""

import os
import pathlib
import signal
import sys
import zlib

# Peers on one thread each: several test processes whose threads wait actively for each other take ten times as long.
for library in ("OPENBLAS", "MKL"):  # PyTorch asks the second
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# What somebody measured on this machine must not decide what tests see: the built-in costs are in force everywhere.
os.environ["CNNCORE_COSTS"] = "off"

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import cnncore  # noqa: E402
from cnncore.operators.registry import CUSTOM, forget  # noqa: E402

pytest.register_assert_rewrite("support")

from support.oracles import COMPARED, NOTES  # noqa: E402

try:
    from hypothesis import settings
except ImportError:
    pass
else:
    settings.register_profile("cnncore", deadline=None, derandomize=True, print_blob=True)
    settings.load_profile("cnncore")

# A shell's background job ignores Ctrl-C, and so would every process that a test starts: the tests of interrupts need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--sample", type=int, default=1, metavar="N", help="run one test in N, always the same ones")


def pytest_collection_modifyitems(config, items):
    """``--sample N`` keeps the tests whose names have a hash divisible by N: some of every file, whatever the machine."""
    count = config.getoption("sample")
    left_out = [item for item in items if zlib.crc32(item.nodeid.encode()) % count]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if zlib.crc32(item.nodeid.encode()) % count == 0]


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
    """How many comparisons were made with which oracle."""
    for line in NOTES:
        terminalreporter.write_line(line)
    for oracle in dict.fromkeys(oracle for oracle, _ in COMPARED):
        counts = {name: count for (judged_by, name), count in COMPARED.items() if judged_by == oracle}
        terminalreporter.write_line(f"{oracle}: {sum(counts.values())} comparisons of {len(counts)} operators")
    if COMPARED:
        terminalreporter.write_line(f"{len({name for _, name in COMPARED})} of {len(cnncore.OPS)} operators compared")


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


def written_in_python():
    """Names of the operators that were registered, one for each pooling strategy."""
    strategies = cnncore.pool.strategies.values()
    return {*CUSTOM, *(f"{s.name}_pool" for s in strategies if s.schema.origin)}


@pytest.fixture(autouse=True)
def _operators_forgotten():
    """Operators that a test, or an example of a page, wrote in Python are none of the next one's."""
    before = written_in_python()
    yield
    for name in written_in_python() - before:
        forget(name)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def no_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)  # what an absent package looks like to the import statement


@pytest.fixture(params=["with Pillow", "without Pillow"])
def either_reader(request, monkeypatch):
    if request.param == "with Pillow":
        pytest.importorskip("PIL")
    else:
        monkeypatch.setitem(sys.modules, "PIL", None)
