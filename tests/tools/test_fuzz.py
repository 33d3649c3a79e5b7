"""The fuzzer: it catches what it looks for, its plans say everything, and what it once found stays mended."""

import json
import sys

import numpy as np
import pytest
from support.processes import ROOT

import cnncore
from cnncore.runtime import dispatch

pytest.importorskip("resource", reason="memory can only be limited on POSIX")
sys.path.insert(0, str(ROOT / "tools"))

from fuzz import arrays, calls, children, files, guided, kills, memory, nets, threads
from fuzz.parts import PARTS
from fuzz.values import decode, encode
from fuzz.wrong import Wrong

# A part whose second plan crashes, whose third is wrong, whose fourth never ends.
PLANTED = """
import os, signal, sys, time, types
sys.path.insert(0, {tools!r})
from fuzz.child import main
from fuzz.wrong import Wrong

class Planted:
    def plan(seed):
        return seed

    def run(seed):
        if seed == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        if seed == 3:
            raise Wrong("two and two are five")
        if seed == 4:
            time.sleep(1000)
        if seed == 5:
            1 / 0
        return 1, 0

sys.modules["fuzz.parts"] = types.SimpleNamespace(PARTS={{"planted": Planted}})
main(*sys.argv[1:])
"""


def test_a_crash_a_hang_and_a_wrong_answer_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr(children, "CHILD", PLANTED)
    monkeypatch.setattr(children, "SLOWEST", 1.5)
    monkeypatch.setitem(PARTS, "planted", type("Planted", (), {"plan": staticmethod(lambda seed: {"number": seed})}))
    said = []
    count = children.run_seeds("planted", 1, 60, said.append, tmp_path, most=6)
    assert count.crashes == 2 and count.wrong == 2 and count.calls == 2
    for text in (
        "seed 2: killed by SIGSEGV",
        "seed 3: two and two",
        "seed 4: no answer in 2 s",
        "seed 5: ZeroDivision",
    ):
        assert any(text in line for line in said), text
    assert {json.loads(path.read_text())["number"] for path in tmp_path.glob("*.json")} == {2, 3, 4, 5}


@pytest.mark.parametrize("seed", range(40))
def test_a_plan_is_json_that_says_everything(seed):
    plan = calls.plan(seed)
    assert json.loads(json.dumps(plan)) == plan == calls.plan(seed)


def test_settings_survive_json():
    for op in cnncore.OPS.values():
        for case in op.cases:
            for value in case.settings.values():
                again = decode(json.loads(json.dumps(encode(value))))
                assert type(again) is type(value) and repr(again) == repr(value)


def test_a_wrong_number_is_seen(monkeypatch):
    """A layout that does not mean the same stands for a kernel that reads the wrong place."""
    call = {"case": 0, "size": {}, "rank": 2, "dtype": "float32", "seed": 0, "settings": {}, "edits": [], "layouts": {}}
    call |= {"positional": False, "dy": None, "out": None}
    plan = {"part": "calls", "op": "relu", "threads": 2, "target": cnncore.cpu.targets()[-1], "calls": [call]}
    assert calls.run(plan) == [1, 0]
    call["layouts"]["0"] = "backwards"
    assert calls.run(plan) == [1, 0]
    monkeypatch.setitem(arrays.LAYOUTS, "backwards", lambda a: a[..., ::-1])
    with pytest.raises(Wrong, match="call 0 of relu: result 0: the reference"):
        calls.run(plan)


def test_what_was_found_stays_mended():
    said = []
    count = children.replay(children.CORPUS.glob("*.json"), said.append)
    assert not said and count.plans == len(list(children.CORPUS.glob("*.json")))


@pytest.mark.parametrize("part", ["files", "nets"])
def test_plans_of_other_parts_are_json(part):
    for seed in range(12):
        plan = PARTS[part].plan(seed)
        assert json.loads(json.dumps(plan)) == plan == PARTS[part].plan(seed)
        computed, refused = PARTS[part].run(plan)
        assert computed >= 0 and refused >= 0


NET = {"part": "nets", "nodes": [["conv", [0], {"channels": 8, "kernel_size": 3, "padding": 1}], ["tanh", [1], {}]]}
NET |= {"channels": 4, "shapes": [[2, 8, 5]], "dtype": "float32", "layout": "plain", "threads": 2, "seed": 1}


@pytest.mark.parametrize("kind", ["wrong shape", "wrong dtype", *arrays.LAYOUTS])
def test_gradients_that_are_handed_in(kind, monkeypatch):
    """What can be written receives the gradients, the rest is refused; the fuzzer sees it when it is not."""
    plan = {**NET, "gradients": kind}
    assert nets.run(plan) == [1, 0]
    if kind == "plain":
        monkeypatch.setattr(nets, "NO_DESTINATION", ("plain",))
        with pytest.raises(Wrong, match=r"gradients \(plain\) were taken"):
            nets.run(plan)


def test_nets_may_differ_by_rounding_only(monkeypatch):
    monkeypatch.setattr(nets, "ROUNDINGS", 0.01)
    with pytest.raises(Wrong, match="rounding"):
        nets.run({**NET, "gradients": "plain"})


def test_a_file_that_changes_while_it_is_read(monkeypatch):
    data = files.encoded(files.made("model", 0))
    plan = {"part": "files", "kind": "model", "bytes": data, "other": files.encoded(b"no model at all")}
    assert sum(files.run(plan)) == files.READS
    monkeypatch.setattr(files, "undisturbed", lambda path, data: None)
    with pytest.raises(Wrong, match="neither of the two"):
        files.run({**plan, "other": data})


@pytest.mark.long
@pytest.mark.skipif(guided.missing() is not None, reason=str(guided.missing()))
def test_readers_guided_by_coverage(monkeypatch):
    plan = {"part": "guided", "kind": "npz", "seed": 1, "seconds": 5}
    assert guided.run(plan)[0] > 50
    broken = "import fuzz.files\nfuzz.files.read = lambda *_, **__: 1 / 0\nmain("
    monkeypatch.setattr(guided, "CHILD", guided.CHILD.replace("main(", broken))
    with pytest.raises(Wrong, match="ZeroDivisionError"):
        guided.run(plan)


def test_an_exception_of_a_reader_is_a_find(monkeypatch):
    """A reader that raises anything but a CnnError stands for one that did not expect what a file says."""
    plan = next(plan for plan in map(files.plan, range(100)) if plan["kind"] == "png" and "other" not in plan)
    for error, said in ((KeyError("x"), KeyError), (MemoryError(), Wrong)):

        def read(path, error=error):
            raise error

        monkeypatch.setattr(files.images, "read_image", read)
        with pytest.raises(said):
            files.run(plan)


@pytest.mark.long
def test_an_allocation_that_fails_and_is_not_noticed_is_a_find():
    """What fails raises a MemoryError and leaves the next call right; a call that swallows it, or changes the next, is wrong."""
    pytest.importorskip("_testcapi", reason="Python's own test module makes allocations fail")
    for name in ("max_pool", "conv", "relu"):
        computed, refused = memory.run({"part": "memory", "what": name, "numbers": None})
        assert computed > 40 and refused > 40

    def careless():
        try:
            return [np.ones(3)]
        except MemoryError:
            return [np.zeros(3)]

    with pytest.raises(Wrong, match="was not noticed"):
        memory.sweep(careless, [np.ones(3)], memory.python_fails, None, [0, 0])

    given = np.ones(3)

    def damaged():
        given[0] += 1
        return [np.array(list(given))]

    with pytest.raises(Wrong, match=r"gives something else|not noticed"):
        memory.sweep(damaged, [np.ones(3)], memory.python_fails, None, [0, 0])


def test_memory_of_kernels_that_fails():
    dispatch.fail_allocation(1)
    x, w = np.ones((1, 8, 12, 12), np.float32), np.ones((16, 8, 3, 3), np.float32)
    with cnncore.cpu.target(cnncore.cpu.targets()[-1]), pytest.raises(MemoryError):
        cnncore.conv(x, w)
    assert cnncore.conv(x, w)[0, 0, 0, 0] == 72


def test_a_training_that_is_killed_goes_on_where_it_was():
    """Two ways; the tool does more of them, at every moment, with a full disk and a folder that cannot be written."""
    for way in ("SIGKILL", "size limit"):
        plan = {"part": "kills", "way": way, "moment": 0.7, "bytes": 60_000}
        assert kills.run(plan)[0] == 1


@pytest.mark.skipif(threads.missing() is not None, reason=str(threads.missing()))
def test_the_thread_pool_under_the_sanitizer():
    plan = {"part": "threads", "seed": 1, "rounds": 100}
    assert threads.run(plan) == (400, 0)
    seen = ("data race" in threads.report({**plan, "rounds": 300, "seed": i}, "-DPLANT_A_RACE")[1] for i in range(20))
    assert any(seen), "the sanitizer sees races"
