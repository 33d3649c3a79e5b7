"""Processes, threads, signals, memory: what can happen around a call, and that its result stays the same."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.cases import both_passes, mostly_long, operators
from support.processes import SANITIZED, run_python

import cnncore
from cnncore import SettingError
from cnncore.runtime import dispatch

posix = pytest.mark.skipif(os.name != "posix", reason="fork and signals are POSIX's")

# What a child process needs to compute something on several threads and compare it.
PRELUDE = """
import os, sys, threading, time
import numpy as np, cnncore
from cnncore.runtime import dispatch
dispatch.set_worth_a_thread(0)
rng = np.random.default_rng(0)
x, w = rng.standard_normal((2, 8, 20, 20)), rng.standard_normal((8, 8, 3, 3))
def work():
    y, backward = cnncore.conv.with_backward(cnncore.max_pool(x, 3, stride=1, padding=1), w, padding=1)
    return [y, *backward(np.ones_like(y))]
def same(a, b):
    return all(p.tobytes() == q.tobytes() for p, q in zip(a, b, strict=True))
"""


@pytest.fixture
def every_call_is_shared_out():
    before = dispatch.set_worth_a_thread(0)
    yield
    dispatch.set_worth_a_thread(before)


# ── Processes ──────────────────────────────────────────────────────────────────────────────────────────────────────────

FORK = """
cnncore.set_num_threads(4)
expected = work()
child = os.fork()
if child == 0:
    ok = same(work(), expected)
    cnncore.set_num_threads(2)
    ok = ok and same(work(), expected)
    os._exit(0 if ok else 3)
deadline = time.monotonic() + 20
while True:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    if time.monotonic() > deadline:
        os.kill(child, 9)
        sys.exit("the child hangs")
    same(work(), expected) or sys.exit("the parent computes something else")
sys.exit(os.waitstatus_to_exitcode(status))
"""


@posix
def test_a_forked_child_computes():
    run_python(PRELUDE + FORK, timeout=60)


@posix
def test_fork_from_a_thread_while_others_compute():
    source = (
        PRELUDE
        + """
stop = threading.Event()
def busy():
    while not stop.is_set():
        work()
others = [threading.Thread(target=busy) for _ in range(2)]
for t in others: t.start()
result = []
def forking():
    for _ in range(5):
        child = os.fork()
        if child == 0:
            os._exit(0 if same(work(), expected) else 3)
        deadline = time.monotonic() + 20
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done or time.monotonic() > deadline:
                break
            time.sleep(0.002)
        if not done:
            os.kill(child, 9)
            os.waitpid(child, 0)
        result.append(os.waitstatus_to_exitcode(status) if done else "hangs")
cnncore.set_num_threads(3)
expected = work()
t = threading.Thread(target=forking)
t.start(); t.join()
stop.set()
for t in others: t.join()
sys.exit(0 if result == [0] * 5 else str(result))
"""
    )
    run_python(source, timeout=150)


@posix
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method, tmp_path):
    script = tmp_path / "pool.py"
    script.write_text(
        "import multiprocessing, numpy as np, cnncore\n"
        "def f(seed):\n"
        "    x = np.random.default_rng(seed).standard_normal((2, 3, 9, 9))\n"
        "    return cnncore.max_pool(x, 3).sum()\n"
        "if __name__ == '__main__':\n"
        "    cnncore.set_num_threads(4)\n"
        "    expected = [f(s) for s in range(6)]\n"
        f"    with multiprocessing.get_context('{method}').Pool(2) as pool:\n"
        "        assert pool.map(f, range(6)) == expected\n"
    )
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", str(script)], check=True, timeout=100)


# ── Threads ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("op", operators())
def test_eight_python_threads_at_once(op, every_call_is_shared_out):
    """The same operator, the same arrays, eight callers: each gets what one alone gets."""
    case = op.cases[0]
    arrays = case.sample(case.ranks[-1], np.float32)
    cnncore.set_num_threads(3)
    expected = [np.asarray(r).tobytes() for r in both_passes(op, arrays, case.settings)]
    start, wrong = threading.Barrier(8), []

    def caller():
        try:
            start.wait(20)
            for _ in range(3):
                found = [np.asarray(r).tobytes() for r in both_passes(op, arrays, case.settings)]
                if found != expected:
                    wrong.append("another result")
        except Exception as error:
            wrong.append(error)

    callers = [threading.Thread(target=caller) for _ in range(8)]
    for t in callers:
        t.start()
    for t in callers:
        t.join(60)
        assert not t.is_alive()
    assert not wrong


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_calls_large_enough_for_threads_give_the_same_bits(dtype, rng):
    """Without forcing: sizes at which calls really run on several threads."""
    x, w = rng.standard_normal((4, 16, 33, 35)).astype(dtype), rng.standard_normal((24, 16, 3, 3)).astype(dtype)
    calls = [
        (cnncore.conv, (x, w), {"padding": 1}),
        (cnncore.max_pool, (x,), {"kernel_size": 3, "stride": 2}),
        (cnncore.relu, (x,), {}),
    ]
    for op, arrays, settings in calls:
        results = []
        for threads in (1, 2, 3, 7):
            with cnncore.threads(threads):
                results.append([r.tobytes() for r in both_passes(op, arrays, settings)])
        assert all(r == results[0] for r in results), op.name


def threads_of_this_process():
    """Their numbers. A thread has one from its creation on, and a name only when it has begun to run."""
    return {task.name for task in Path("/proc/self/task").iterdir()}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_no_more_threads_run_than_there_are_processors(rng):
    """However many are asked for; processors are those of the caller's affinity mask, within the container's quota."""
    x, w = (
        rng.standard_normal((4, 16, 33, 35)).astype(np.float32),
        rng.standard_normal((24, 16, 3, 3)).astype(np.float32),
    )
    mask, quota = os.sched_getaffinity(0), dispatch.processors()
    allowed = sorted(mask)[:4]  # the call is worth fourteen threads

    def extra(threads):
        time.sleep(0.03)  # a mask is looked up every 20 ms
        dispatch.shutdown_threads()
        before = threads_of_this_process()
        with cnncore.threads(threads):
            found.append(cnncore.conv(x, w).tobytes())
        return len(threads_of_this_process() - before)

    found = []
    try:
        os.sched_setaffinity(0, allowed)
        dispatch.set_processors_limit(256)
        assert extra(len(allowed) + 6) == len(allowed) - 1
        assert extra(1) == 0
        os.sched_setaffinity(0, {min(allowed)})
        assert extra(8) == 0
        os.sched_setaffinity(0, allowed)
        dispatch.set_processors_limit(1)
        assert extra(8) == 0 and dispatch.processors() == 1
    finally:
        os.sched_setaffinity(0, mask)
        dispatch.set_processors_limit(quota)
    before = dispatch.set_worth_a_thread(0)  # tests of the pool itself: every thread that was asked for
    try:
        assert extra(len(allowed) + 6) == len(allowed) + 5
    finally:
        dispatch.set_worth_a_thread(before)
        dispatch.shutdown_threads()
    assert len(set(found)) == 1 and dispatch.processors() == quota


@pytest.mark.parametrize("n", [0, -1, 257, 2**31, 2**63, 1.0, "2", None, True, [1]])
def test_number_of_threads_is_checked(n):
    before = cnncore.get_num_threads()
    with pytest.raises(SettingError, match="integer from 1 to 256"):
        cnncore.set_num_threads(n)
    with pytest.raises(SettingError), cnncore.threads(n):
        pass
    assert cnncore.get_num_threads() == before


def test_threads_end_and_start_again(every_call_is_shared_out, rng):
    x = rng.standard_normal((2, 8, 9, 9))
    cnncore.set_num_threads(4)
    expected = cnncore.max_pool(x, 3)
    for _ in range(3):
        dispatch.shutdown_threads()
        assert np.array_equal(cnncore.max_pool(x, 3), expected)
    with cnncore.threads(1):
        assert np.array_equal(cnncore.max_pool(x, 3), expected)
    assert cnncore.get_num_threads() == 4


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CNNCORE_NUM_THREADS": "3"}, "3"),
        ({"CNNCORE_NUM_THREADS": "100000"}, "256"),
        ({"CNNCORE_NUM_THREADS": "", "OMP_NUM_THREADS": "5,2"}, "5"),
        ({"CNNCORE_NUM_THREADS": "2", "OMP_NUM_THREADS": "5"}, "2"),
    ],
)
def test_threads_from_the_environment(environment, expected):
    source = "import cnncore; print(cnncore.get_num_threads())"
    assert run_python(source, **environment).stdout.strip() == expected


@pytest.mark.parametrize("odd", ["0", "-3", "many", "1e9", "²", "9" * 5000])
def test_odd_threads_in_the_environment_are_ignored(odd):
    source = "import cnncore; assert 1 <= cnncore.get_num_threads() <= 256"
    run_python(source, CNNCORE_NUM_THREADS=odd, OMP_NUM_THREADS="")


# ── CPU targets ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", cnncore.cpu.targets())
def test_target_from_the_environment(target):
    assert run_python("import cnncore; print(cnncore.cpu.target())", CNNCORE_TARGET=target).stdout.strip() == target


def test_unknown_target_in_the_environment_warns():
    source = "import cnncore; print(cnncore.cpu.target() == cnncore.cpu.targets()[-1])"
    result = run_python(source, CNNCORE_TARGET="quantum")
    assert result.stdout.strip() == "True" and "CNNCORE_TARGET=quantum" in result.stderr


def test_forcing_a_target():
    before = cnncore.cpu.target()
    with cnncore.cpu.target("reference"):
        assert cnncore.cpu.target() == "reference"
        with pytest.raises(SettingError, match=r"unknown target .*This machine has reference"):
            cnncore.cpu.target("quantum")
        with pytest.raises(ZeroDivisionError), cnncore.cpu.target("baseline"):
            assert cnncore.cpu.target() == "baseline"
            raise ZeroDivisionError
        assert cnncore.cpu.target() == "reference"
    assert cnncore.cpu.target() == before


# ── Signals ────────────────────────────────────────────────────────────────────────────────────────────────────────────

# Calls of several seconds each; a callable makes the arrays in the child.
LONG = {
    "conv, definition": "cnncore.cpu.target('reference'); x = np.ones((4, 64, 96, 96), 'f'); w = np.ones((64, 64, 5, 5), 'f')"
    "\nrun = lambda: cnncore.conv(x, w, padding=2)",
    "conv, many short calls": "x = np.ones((1, 8, 16, 16)); w = np.ones((8, 8, 3, 3))\n"
    "def run():\n    end = time.monotonic() + 20\n    while time.monotonic() < end: cnncore.conv(x, w)",
    "lp_pool": "x = np.ones((8, 64, 224, 224), 'f')\nrun = lambda: cnncore.lp_pool(x, 7, stride=1, p=2.5)",
    "max_pool backward": "x = np.ones((8, 64, 224, 224), 'f')\ny, backward = cnncore.max_pool.with_backward(x, 2)\n"
    "def run():\n    while True: backward(y)",
}

INTERRUPTED = """
import time
import numpy as np, cnncore
cnncore.set_num_threads({threads})
{setup}
small = np.arange(8.0).reshape(1, 2, 4)
expected = cnncore.max_pool(small, 2)
try:
    print("running", flush=True)
    run()
    print("finished too early", flush=True)
except KeyboardInterrupt:
    print(time.monotonic(), np.array_equal(cnncore.max_pool(small, 2), expected), flush=True)
"""


@posix
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("what", LONG)
def test_ctrl_c_within_a_fifth_of_a_second(what, threads):
    """The best of several tries counts: a busy machine may be late by itself. Sanitizers may take three times as long."""
    allowed = 0.6 if SANITIZED else 0.2
    source = INTERRUPTED.format(setup=LONG[what], threads=threads)
    latencies = []
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline().strip() == "running"
            time.sleep(0.3)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            answer = process.stdout.readline().split()
        assert len(answer) == 2, f"not interrupted: {answer}"
        assert answer[1] == "True", "the next call computes something else"
        latencies.append(float(answer[0]) - sent)
        if latencies[-1] <= allowed:
            return
    pytest.fail(f"Ctrl-C took {min(latencies):.2f} s at best")


# ── Floating point ─────────────────────────────────────────────────────────────────────────────────────────────────────

SUBNORMAL = """
import numpy as np
def subnormals_live():
    return all(np.finfo(t).smallest_subnormal * t(1) > 0 and np.finfo(t).tiny * t(0.5) > 0 for t in (np.float32, np.float64))
assert subnormals_live()
import cnncore
assert subnormals_live()
"""


def test_subnormal_numbers_are_kept():
    """Neither import nor any call switches the process to flush-to-zero."""
    source = (
        SUBNORMAL
        + """
from cnncore.runtime import dispatch
dispatch.set_worth_a_thread(0)
cnncore.set_num_threads(3)
for target in cnncore.cpu.targets():
    with cnncore.cpu.target(target):
        for op in cnncore.OPS.values():
            case = op.cases[0]
            arrays = case.sample(case.ranks[-1], np.float32)
            op(*arrays, **case.settings)
            assert subnormals_live(), op.name
        for dtype in (np.float32, np.float64):
            x = np.full((1, 5, 4, 9), np.finfo(dtype).tiny / 8, dtype)
            for y in (cnncore.relu(x), cnncore.max_pool(x, 2), cnncore.avg_pool(x, 2)):
                assert (y == x.flat[0]).all(), (target, dtype)
            assert (cnncore.conv(x, np.ones((3, 5, 1, 1), dtype)) > 0).all(), (target, dtype)
"""
    )
    run_python(source)


# ── Memory ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps freed memory for a while")
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
@pytest.mark.parametrize("op", operators())
def test_memory_stays_flat(op):
    case = op.cases[-1]
    arrays = case.sample(case.ranks[0], np.float32)

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    for _ in range(50):
        both_passes(op, arrays, case.settings)
    before = resident()
    for _ in range(400):
        both_passes(op, arrays, case.settings)
    # A leak of one 1 kB array per call would show.
    assert resident() - before < 400_000


@posix
@pytest.mark.skipif(SANITIZED, reason="the sanitizer needs address space of its own")
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_out_of_memory_is_an_exception():
    """With ever more address space, from nearly none: every call raises MemoryError or gives the right result."""
    source = """
import resource
import numpy as np, cnncore
cnncore.set_num_threads(1)
rng = np.random.default_rng(0)
x, w = rng.standard_normal((2, 16, 128, 128)), rng.standard_normal((16, 16, 3, 3))
def results():
    y, backward = cnncore.conv.with_backward(x, w, padding=1)
    z, pooled = cnncore.max_pool.with_backward(y, 3, stride=1, padding=1)
    return [z, *backward(pooled(np.ones_like(z)))]
expected = results()
limit = resource.getrlimit(resource.RLIMIT_AS)
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
failed = right = 0
for extra in range(0, 64, 2):
    resource.setrlimit(resource.RLIMIT_AS, (pages + extra * 2**20, limit[1]))
    try:
        found = results()
    except MemoryError:
        failed += 1
    else:
        right += all(np.array_equal(a, b) for a, b in zip(found, expected))
        del found
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
assert failed >= 2 and failed + right == 32, (failed, right)
assert all(np.array_equal(a, b) for a, b in zip(results(), expected))
"""
    run_python(source, timeout=120)


GUARDED = """
import ctypes, mmap, sys
import numpy as np, cnncore
from cnncore.testing import named_cases
libc = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE
kept = []
def guarded(a, at_end):
    '''A copy of a whose memory ends (or begins) exactly at a page that must not be touched.'''
    pages = -(-max(a.nbytes, 1) // PAGE)
    memory = mmap.mmap(-1, (pages + 1) * PAGE)
    kept.append(memory)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    forbidden = address + pages * PAGE if at_end else address
    assert libc.mprotect(ctypes.c_void_p(forbidden), ctypes.c_size_t(PAGE), 0) == 0
    begin = pages * PAGE - a.nbytes if at_end else PAGE
    view = np.frombuffer(memory, a.dtype, a.size, begin).reshape(a.shape)
    view[...] = a
    return view
def channels_last(a, at_end):
    if a.ndim < 3:
        return guarded(a, at_end)
    return np.moveaxis(guarded(np.ascontiguousarray(np.moveaxis(a, 1, -1)), at_end), -1, 1)
names = sys.argv[1:]
for name in names:
    op = cnncore.OPS[name]
    for case, text in named_cases(op):
        for rank in case.ranks:
            for dtype in (np.float32, np.float64):
                arrays = case.sample(rank, dtype)
                y = op(*arrays, **case.settings)
                y = np.asarray(y[0] if isinstance(y, tuple) else y)
                for target in cnncore.cpu.targets():
                    for layout in (guarded, channels_last):
                        for at_end in (True, False):
                            print(name, text, rank, dtype.__name__, target, layout.__name__, at_end, flush=True)
                            given = [a if a is None or not a.size else layout(a, at_end) for a in arrays]
                            with cnncore.cpu.target(target):
                                out = layout(y, at_end) if y.ndim else None
                                z, backward = op.with_backward(*given, out=out, **case.settings)
                                backward(layout(np.ones_like(y), at_end))
                            given = out = z = backward = None
                            kept.clear()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect by ctypes")
@pytest.mark.parametrize("group", mostly_long(sorted({op.group for op in cnncore.OPS.values()}), 3))
def test_nothing_is_read_or_written_beside_the_arrays(group):
    """Every array begins or ends at a forbidden page: one element beside it and the process dies."""
    names = [op.name for op in cnncore.OPS.values() if op.group == group]
    result = run_python(GUARDED, *names, timeout=280, check=False)
    last = result.stdout.splitlines()[-1] if result.stdout else ""
    assert result.returncode == 0, f"exit code {result.returncode} after: {last}\n{result.stderr[-2000:]}"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect by ctypes")
@pytest.mark.parametrize("beside", ["a[-1:]", "a[:1]"])
def test_the_forbidden_page_is_forbidden(beside):
    """The test above can fail: one element beside such an array kills the process."""
    step = 1 if beside == "a[-1:]" else -1
    source = (
        GUARDED
        + f"""
a = guarded(np.arange(4.0), {beside == "a[-1:]"})
view = {beside}
ctypes.c_double.from_address(view.__array_interface__["data"][0] + {8 * step}).value
"""
    )
    result = run_python(source, check=False)
    assert result.returncode == -signal.SIGSEGV or (SANITIZED and "SEGV" in result.stderr)


# ── The interpreter ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "options", [["-W", "error"], ["-O"], ["-OO"], ["-X", "dev"], ["-X", "utf8=0"], ["-s", "-E"]], ids="".join
)
def test_interpreter_options(options):
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "LC_ALL", "LANG")}
    environment["LC_ALL"] = "C"
    source = "import numpy as np, cnncore; assert cnncore.relu(np.array([-1.0, 2.0])).tolist() == [0, 2]"
    if "-E" in options:
        source = f"import sys; sys.path[:0] = {sys.path!r}\n" + source
    subprocess.run([sys.executable, *options, "-c", source], check=True, env=environment, timeout=60)


def test_import_twice():
    source = "import importlib, cnncore; old = cnncore.relu; importlib.reload(cnncore); assert cnncore.relu is old"
    run_python(source)
