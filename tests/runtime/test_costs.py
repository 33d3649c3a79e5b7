"""Costs of the machine: what is in force, and what becomes of the file that keeps them. Nothing here looks at a clock."""

import dataclasses
import json
import os
import signal
import threading
import warnings

import numpy as np
import pytest
from support.cases import both_passes, cases

import cnncore
from cnncore import EnvironmentWarning, SettingError
from cnncore.cli.main import main
from cnncore.runtime import costs, dispatch

PLANTED = {"product": 1.5, "transform": 9.0, "reading": 11.0, "operation_ns": 0.5, "direct_gflops": 128.0}
NAMES = [field.name for field in dataclasses.fields(costs.Costs)]


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A user with an empty cache folder, in a process that has not asked for costs yet; what is measured is planted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CNNCORE_COSTS")
    monkeypatch.setattr(costs, "measurements", {"planted": lambda: dict(PLANTED)})
    monkeypatch.setattr(costs, "thread_nanoseconds", lambda: 2000.0)
    new_process()
    yield tmp_path / "cnncore"
    monkeypatch.setenv("CNNCORE_COSTS", "off")
    new_process()
    assert cnncore.cpu.costs() == costs.BUILT_IN


def new_process():
    """Forget what this process knows, as if it began."""
    costs._given, costs._asked = None, False
    costs._found.clear()


def expected():
    return costs.Costs(product=1.5, transform=9.0, reading=11.0, thread=32_000.0)


# ── In force ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tests_run_with_the_built_in_costs():
    assert os.environ["CNNCORE_COSTS"] == "off"
    assert cnncore.cpu.costs() == costs.BUILT_IN == cnncore.cpu.Costs()


def test_given_costs_are_in_force_until_the_block_ends():
    with cnncore.cpu.costs({"reading": 3}) as _:
        assert cnncore.cpu.costs() == costs.Costs(reading=3)
        with cnncore.cpu.costs("off"):
            assert cnncore.cpu.costs() == costs.BUILT_IN
        with pytest.raises(ZeroDivisionError), cnncore.cpu.costs(costs.Costs(transform=2)):
            assert cnncore.cpu.costs().transform == 2
            raise ZeroDivisionError
        assert cnncore.cpu.costs().reading == 3 and costs.origin() == "given"
    assert cnncore.cpu.costs() == costs.BUILT_IN


@pytest.mark.parametrize("value", [0, -1, 1e-7, 1e10, 10**400, float("nan"), float("inf"), "8", None, True, [8]])
@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_checked(name, value):
    with pytest.raises(SettingError, match=f"{name} must be a number between 1e-06 and 1(e\\+09)?,"):
        cnncore.cpu.costs({name: value})
    assert cnncore.cpu.costs() == costs.BUILT_IN


def test_other_sources_are_refused(tmp_path):
    with pytest.raises(SettingError, match=r"unknown cost 'raeding'.*reading"):
        cnncore.cpu.costs({"raeding": 2})
    with pytest.raises(SettingError, match="no file of costs"):
        cnncore.cpu.costs(tmp_path / "none.json")
    with pytest.raises(SettingError, match="got int"):
        cnncore.cpu.costs(3)
    with pytest.raises(SettingError, match="mapping"):
        costs.Costs.from_data([1])
    with cnncore.cpu.target("reference"), pytest.raises(SettingError, match="has no algorithms to choose from"):
        cnncore.cpu.measure()


def test_the_runtime_and_what_remembers_calls_are_told(rng):
    """The work that is worth a thread is the dispatcher's; nets and operators decide anew."""
    x, w = (
        rng.standard_normal((1, 16, 24, 24)).astype(np.float32),
        rng.standard_normal((16, 16, 3, 3)).astype(np.float32),
    )

    def chosen():
        _, call = cnncore.conv.bind((x, w), {"padding": 1, "algorithm": "auto"})
        return cnncore.conv.implementation.algorithm(call)

    g = cnncore.Graph()
    g.output(g.conv(g.input(channels=16), 16, kernel_size=3, padding=1))
    net = g.build(seed=0)
    usual, y, bits = chosen(), net(x), cnncore.conv(x, w, padding=1, algorithm="auto").tobytes()
    assert usual.startswith("winograd")
    before = dispatch.set_worth_a_thread(1.0)
    dispatch.set_worth_a_thread(before)
    with cnncore.cpu.costs({"product": 50, "thread": 77_000}):
        assert chosen() == "direct"
        assert (
            cnncore.conv(x, w, padding=1, algorithm="auto").tobytes() == cnncore.conv(x, w, padding=1).tobytes() != bits
        )
        assert dispatch.set_worth_a_thread(77_000) == 77_000
        direct = net(x)
        assert direct.tobytes() != y.tobytes()
        net.exact = True
        assert net(x).tobytes() == direct.tobytes()
        net.exact = False
    assert chosen() == usual and dispatch.set_worth_a_thread(before) == before
    assert net(x).tobytes() == y.tobytes()
    assert cnncore.conv(x, w, padding=1, algorithm="auto").tobytes() == bits


# ── From the environment ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "found"),
    [("off", {}), ("transform=5, reading=9.5", {"transform": 5, "reading": 9.5}), (" thread=1e4 ", {"thread": 1e4})],
)
def test_the_environment_gives_costs(fresh, monkeypatch, text, found):
    cnncore.cpu.measure()
    monkeypatch.setenv("CNNCORE_COSTS", text)
    new_process()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cnncore.cpu.costs() == costs.Costs(**found)


@pytest.mark.parametrize("text", ["on", "transform", "transform=x", "transform=-1", "speed=3", "reading=nan", "="])
def test_an_environment_that_says_nothing_is_one_warning(fresh, monkeypatch, text):
    monkeypatch.setenv("CNNCORE_COSTS", text)
    new_process()
    with pytest.warns(EnvironmentWarning, match="CNNCORE_COSTS") as seen:
        assert [cnncore.cpu.costs() for _ in range(3)] == [costs.BUILT_IN] * 3
    assert len(seen) == 1


def test_a_file_pins_the_costs_of_another_machine(fresh, monkeypatch, tmp_path):
    cnncore.cpu.measure()
    (kept,) = fresh.iterdir()
    elsewhere = tmp_path / "of another machine.json"
    elsewhere.write_text(json.dumps({**json.loads(kept.read_text()), "cpu": "another", "library": "9", "target": "x"}))
    kept.unlink()
    monkeypatch.setenv("CNNCORE_COSTS", str(elsewhere))
    new_process()
    assert cnncore.cpu.costs() == expected() and str(elsewhere) in costs.origin()
    with cnncore.cpu.costs("off"), cnncore.cpu.costs(elsewhere):
        assert cnncore.cpu.costs() == expected()


# ── The file ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_measured_or_written_unless_asked_for(fresh):
    net = cnncore.models.lenet(seed=0)
    net(np.zeros((1, 1, 32, 32), np.float32))
    assert cnncore.cpu.costs() == costs.BUILT_IN and costs.origin() == "built in"
    assert not fresh.exists()


def test_what_was_measured_is_found_by_the_next_process(fresh, capsys):
    assert cnncore.cpu.costs() == costs.BUILT_IN
    assert cnncore.cpu.measure() == expected() == cnncore.cpu.costs()
    (kept,) = fresh.iterdir()
    data = json.loads(kept.read_text())
    assert data["format"] == costs.FORMAT and data["library"] == cnncore.__version__
    assert data["cpu"] == costs.cpu_facts() and data["target"] == cnncore.cpu.target()
    assert data["costs"] == dataclasses.asdict(expected()) and data["measured"]["direct_gflops"] == 128
    new_process()
    assert cnncore.cpu.costs() == expected() and costs.origin() == f"measured: {kept}"
    cnncore.show_versions()
    assert f"{expected()} (measured: {kept})" in capsys.readouterr().out
    with cnncore.cpu.costs("off"):
        assert cnncore.cpu.costs() == costs.BUILT_IN
        with cnncore.cpu.costs("measured"):
            assert cnncore.cpu.costs() == expected()
        assert cnncore.cpu.measure() == expected() and cnncore.cpu.costs() == costs.BUILT_IN, "given costs stay"


def test_every_target_has_its_own(fresh):
    targets = cnncore.cpu.targets()[1:]
    for number, target in enumerate(targets):
        costs.measurements["planted"] = lambda number=number: {"reading": 2.0 + number}
        with cnncore.cpu.target(target):
            cnncore.cpu.measure()
    assert len(list(fresh.iterdir())) == len(targets)
    new_process()
    for number, target in enumerate(targets):
        with cnncore.cpu.target(target):
            assert cnncore.cpu.costs().reading == 2.0 + number
    with cnncore.cpu.target("reference"):
        assert cnncore.cpu.costs() == costs.BUILT_IN


def test_the_command_measures_and_says_so(fresh, capsys):
    assert main(["tune"]) == 0
    assert f"{expected()} (measured: {next(fresh.iterdir())})" in capsys.readouterr().out


FOREIGN = {"cpu": "another", "library": "0.0.1", "target": "sse9", "format": 99}
BROKEN = {
    "empty": b"",
    "half": b'{"format": 1, "costs": {"rea',
    "no JSON": b"\xff\x00\xfe",
    "a list": b"[]",
    "deep": b"[" * 60_000,
    "long": b" " * (costs.MOST_BYTES + 1),
    "long integer": b'{"format": ' + b"9" * 5000 + b"}",
}
OUT_OF_BOUNDS = {"reading": 10**400, "thread": float("inf"), "product": float("nan")}
OUT_OF_BOUNDS |= {"transform": 0, "parities": -1, "overlap": 1.01}


@pytest.mark.parametrize("content", [*BROKEN, *FOREIGN, *NAMES, "no costs", "unknown cost"])
def test_a_file_that_cannot_be_used_is_one_warning(fresh, content):
    cnncore.cpu.measure()
    (kept,) = fresh.iterdir()
    data = json.loads(kept.read_text())
    if content in NAMES:
        data["costs"][content] = OUT_OF_BOUNDS[content]
    elif content == "unknown cost":
        data["costs"]["speed"] = 1
    data |= {content: FOREIGN[content]} if content in FOREIGN else {"costs": None} if content == "no costs" else {}
    kept.write_bytes(BROKEN.get(content) or (b"" if content == "empty" else json.dumps(data).encode()))
    new_process()
    with pytest.warns(EnvironmentWarning, match="cnncore tune") as seen:
        assert [cnncore.cpu.costs() for _ in range(3)] == [costs.BUILT_IN] * 3
    assert len(seen) == 1
    assert cnncore.cpu.measure() == expected(), "measuring again replaces it"
    new_process()
    assert cnncore.cpu.costs() == expected()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
@pytest.mark.parametrize("kind", ["pipe", "folder", "link to itself", "endless device"])
def test_what_is_no_ordinary_file_is_one_warning_at_once(fresh, kind):
    cnncore.cpu.measure()
    (kept,) = fresh.iterdir()
    kept.unlink()
    make = {"pipe": os.mkfifo, "folder": os.mkdir, "link to itself": lambda path: path.symlink_to(path)}
    make.get(kind, lambda path: path.symlink_to("/dev/zero"))(kept)
    new_process()
    with pytest.warns(EnvironmentWarning, match="cnncore tune") as seen:
        assert [cnncore.cpu.costs() for _ in range(3)] == [costs.BUILT_IN] * 3
    assert len(seen) == 1


def test_a_folder_that_cannot_be_read_is_silent(fresh, monkeypatch):
    """As of a service whose home is another user's: it has measured nothing."""
    cnncore.cpu.measure()
    new_process()

    def refused(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(costs.os, "listdir", refused)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cnncore.cpu.costs() == costs.BUILT_IN


def test_machines_of_one_name_are_told_apart(fresh, monkeypatch, tmp_path):
    facts = tmp_path / "cpuinfo"
    monkeypatch.setattr(costs, "CPU_FACTS", facts)
    paragraph = "processor\t: {}\nmodel\t\t: {}\nmodel name\t: Virtual CPU\nflags\t: a b\n\n"
    names = set()
    for model in (85, 207):
        facts.write_text(paragraph.format(0, model) + paragraph.format(1, 1))
        assert costs.cpu_model() == "Virtual CPU" and costs.cpu_facts() == f"model {model}; model name Virtual CPU"
        names.add(costs.cache_file())
    facts.write_text("")
    monkeypatch.setattr(costs, "cpu_model", lambda: "named by the system")
    assert costs.cpu_facts() == "named by the system"
    assert len({*names, costs.cache_file()}) == 3


def test_a_folder_that_cannot_be_written_is_one_warning(fresh, monkeypatch):
    fresh.write_bytes(b"a file in the place of the folder")
    with pytest.warns(EnvironmentWarning, match="in this process only") as seen:
        assert cnncore.cpu.measure() == expected()
    assert len(seen) == 1 and cnncore.cpu.costs() == expected() and costs.origin() == "measured by this process"
    new_process()
    assert cnncore.cpu.costs() == costs.BUILT_IN


@pytest.mark.parametrize("home", [None, "relative"])
def test_a_user_without_a_home(fresh, monkeypatch, home):
    def found():
        if home is None:
            raise RuntimeError("Could not determine home directory.")
        return costs.Path(home)

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(costs.Path, "home", found)
    assert cnncore.cpu.costs() == costs.BUILT_IN
    with pytest.warns(EnvironmentWarning, match="no home folder"):
        assert cnncore.cpu.measure() == expected()


@pytest.mark.parametrize(
    ("platform", "variables", "below"),
    [
        ("linux", {}, "home/.cache/cnncore"),
        ("darwin", {}, "home/Library/Caches/cnncore"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/cnncore/Cache"),
        ("linux", {"XDG_CACHE_HOME": "given"}, "given/cnncore"),
    ],
)
def test_the_folder_is_the_systems(tmp_path, monkeypatch, platform, variables, below):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setattr(costs.sys, "platform", platform)
    monkeypatch.setattr(costs.Path, "home", lambda: tmp_path / "home")
    assert costs.cache_folder() == tmp_path / below
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the convention says to ignore
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert costs.cache_folder().is_relative_to(tmp_path / "home")


def test_many_write_at_once_and_readers_see_whole_files(fresh):
    """Threads stand for processes: what they share is the folder."""
    cnncore.cpu.measure()
    path, wrong = costs.cache_file(), []

    def write(number):
        for turn in range(20):
            costs._write(path, costs.Costs(reading=1.0 + number), {"turn": turn})

    def read():
        for _ in range(100):
            try:
                costs._read(path, costs.cpu_facts(), cnncore.cpu.target())
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)] + [threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and [file.name for file in fresh.iterdir()] == [path.name]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_asks_for_costs_while_another_thread_of_its_parent_does(fresh):
    """The lock that is held at that moment is never released in the child."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with costs._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(60)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of any fork beside threads
            child = os.fork()
        if not child:
            signal.alarm(30)
            os._exit(0 if cnncore.cpu.costs() == costs.BUILT_IN else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        done.set()
        thread.join()


# ── Bits ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

EXTREME = [dict.fromkeys(NAMES, costs.LEAST), {name: costs.MOST_OF.get(name, costs.MOST) for name in NAMES}]
EXTREME += [{**EXTREME[1], "thread": costs.LEAST}, {"reading": 1.0, "thread": 5_000.0}]


def bits_with_every_cost(compute):
    """The different results, as bytes, with costs as different as can be, and those built in."""
    found = set()
    for given in ({}, *EXTREME):
        with cnncore.cpu.costs(given):
            found.add(tuple(np.asarray(array).tobytes() for array in compute()))
    return found


@pytest.mark.parametrize("op, case", cases(where=lambda op: op.family == "convolution"))
def test_lone_calls_have_the_same_bits_whatever_was_measured(op, case):
    """Costs divide them into tasks, and among threads; no algorithm is chosen by them unless asked for."""
    arrays = case.sample(case.ranks[0], np.float32)
    assert len(bits_with_every_cost(lambda: both_passes(op, arrays, case.settings))) == 1


@pytest.mark.parametrize("size, channels, stride", [(33, 40, 1), (7, 160, 1), (28, 24, 2), (1, 300, 1)])
@pytest.mark.parametrize("algorithm", ["direct", "winograd_4x4"])
def test_algorithms_that_are_named_have_the_same_bits_whatever_was_measured(size, channels, stride, algorithm, rng):
    x = rng.standard_normal((2, channels, size, size)).astype(np.float32)
    w = rng.standard_normal((channels, channels, 3, 3)).astype(np.float32)
    settings = {"padding": 1, "stride": stride, "algorithm": algorithm}
    assert len(bits_with_every_cost(lambda: both_passes(cnncore.conv, (x, w), settings))) == 1


def test_exact_nets_have_the_same_bits_whatever_was_measured(rng):
    net = cnncore.models.small_inception(seed=0)
    x = rng.standard_normal((2, 1, 28, 28)).astype(np.float32)
    assert len(bits_with_every_cost(lambda: [net(x)])) > 1, "costs choose among algorithms"
    net.exact = True

    def both():
        y, backward = net.with_backward(x)
        backward(np.ones_like(y))
        return [y, *backward.gradients.values()]

    assert len(bits_with_every_cost(both)) == 1


# ── Threads ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("nanoseconds, thread", [(0.0, 30_000.0), (1.0, 5_000.0), (2000.0, 32_000.0), (1e9, 100_000.0)])
def test_what_a_thread_costs_decides_what_is_worth_one(fresh, monkeypatch, nanoseconds, thread):
    monkeypatch.setattr(costs, "thread_nanoseconds", lambda: nanoseconds)
    assert cnncore.cpu.measure().thread == thread


def test_calling_a_thread_is_timed_without_lasting_effect():
    before, worth = cnncore.get_num_threads(), dispatch.set_worth_a_thread(12_345.0)
    try:
        assert costs.thread_nanoseconds() >= 0
        assert cnncore.get_num_threads() == before
        assert dispatch.set_worth_a_thread(12_345.0) == 12_345.0
        with cnncore.threads(1):
            assert costs.thread_nanoseconds() == 0
    finally:
        dispatch.set_worth_a_thread(worth)
