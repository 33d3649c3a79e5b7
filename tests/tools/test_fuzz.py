"""The fuzzer: it catches what it looks for, its plans say everything, and what it once found stays mended."""

import json
import sys

import pytest
from support.processes import ROOT

import cnncore

pytest.importorskip("resource", reason="memory can only be limited on POSIX")
sys.path.insert(0, str(ROOT / "tools"))

from fuzz import arrays, calls, children
from fuzz.child import Wrong
from fuzz.parts import PARTS
from fuzz.values import decode, encode

# A part whose second plan crashes, whose third is wrong, whose fourth never ends.
PLANTED = """
import os, signal, sys, time, types
sys.path.insert(0, {tools!r})
from fuzz.child import Wrong, main

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
