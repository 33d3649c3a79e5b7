"""The benchmark: every operator of the registry is covered, turns are interleaved, peers compute the same as cnncore."""

import importlib.util
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from support.cases import operators
from support.processes import ROOT

import cnncore

sys.path.insert(0, str(ROOT / "tools"))

from benchmarks import instructions, network, report, responsiveness, sections, turns
from benchmarks import operators as standard
from benchmarks.operator_peers import PEERS
from benchmarks.turns import Contestant, Failure, Row, interleave


def bench(*arguments):
    command = [sys.executable, ROOT / "tools" / "bench.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=True).stdout


# ── The registry is covered ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("op", operators())
def test_a_row_can_be_timed_or_is_named_as_not_timed(op):
    if op.name in standard.NOT_TIMED:
        assert standard.NOT_TIMED[op.name], "a reason is given"
        return
    arrays, settings = standard.sample(op, sections.COMPARED, np.float32)
    y, backward = op.with_backward(*arrays, **settings)
    y = standard.first(y)
    assert np.isfinite(y).all()
    if any(op.needs_gradient(op.bind(arrays, dict(settings))[0])):
        backward(standard.output_gradient(y))


def test_what_is_not_timed_or_timed_otherwise_is_in_the_catalogue():
    assert standard.NOT_TIMED.keys() | standard.SAMPLES.keys() <= cnncore.OPS.keys()


def test_the_list_names_every_section_and_operator():
    text = bench("--list")
    for name in (*sections.SECTIONS, *cnncore.OPS):
        assert name in text.replace(":", " ").split()


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
@pytest.mark.parametrize("op", operators(lambda op: op.name in PEERS and "seed" not in op.settings))
def test_the_peer_computes_the_same(op):
    from benchmarks import with_cnncore, with_torch

    expected = with_cnncore.operator(op.name, sections.COMPARED, "float64").outputs()
    found = with_torch.operator(op.name, sections.COMPARED, "float64").outputs()
    assert len(expected) == len(found)
    assert sections.difference(found, expected) < 1e-7  # PyTorch rounds 1/6 in its hard sigmoid to float32


# ── Turns ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Scripted:
    """A contestant that answers from a list and records when it was asked."""

    def __init__(self, name, seconds, asked):
        self.name, self.seconds, self.asked = name, iter(seconds), asked

    def turn(self, _):
        self.asked.append(self.name)
        value = next(self.seconds, None)
        if value is None:
            raise Failure("broken")
        return {"forward": value, "backward": 2 * value}


def test_contestants_take_turns_and_ratios_are_taken_within_a_round():
    asked, row = [], Row("inference", "case", {"threads": 1, "batch": 1})
    # The machine is twice as slow in the second round: the ratio of medians would be 1/3, within rounds it is always 1/2.
    contestants = {"cnncore": Scripted("cnncore", [1, 2, 1], asked), "peer": Scripted("peer", [2, 4, 2], asked)}
    interleave(row, contestants, rounds=3, seconds=0)
    assert asked == ["cnncore", "peer"] * 3
    assert turns.ratio(row, "cnncore", "peer").rounds == [0.5, 0.5, 0.5]
    assert turns.timing(row, "peer").rounds == [6, 12, 6]
    assert turns.timing(row, "peer", "forward").median == 2
    assert turns.best(row, ["cnncore", "peer"]) == "cnncore"


def test_who_fails_drops_out_and_is_named():
    asked, row = [], Row("inference", "case", {"threads": 1, "batch": 1})
    contestants = {"cnncore": Scripted("cnncore", [1, 1, 1], asked), "peer": Scripted("peer", [1], asked)}
    interleave(row, contestants, rounds=3, seconds=0)
    assert row.failures == {"peer": "broken"} and list(row.timings) == ["cnncore"]
    assert len(row.timings["cnncore"]["forward"].rounds) == 3


def test_a_framework_that_cannot_start_says_why():
    with pytest.raises(Failure, match="with_nothing_of_this_name"):
        Contestant("nothing", "nothing_of_this_name", 1)


def test_wrong_results_are_seen():
    expected = {"y": np.array([1.0, -4.0])}
    assert sections.difference({"y": np.array([1.0, -4.0])}, expected) == 0
    assert sections.difference({"y": np.array([1.0, -3.0])}, expected) == 0.25
    assert sections.difference({"y": np.array([1.0, math.nan])}, expected) == math.inf
    assert sections.difference({"y": np.ones(3)}, expected) == math.inf
    assert sections.difference({}, expected) == math.inf


# ── Networks and layers ────────────────────────────────────────────────────────────────────────────────────────────────


SHAPE = (2, 3, 16, 16)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a small network with every kind of node that the builders know from GoogLeNet."""
    g = cnncore.Graph()
    h = g.conv(g.input(channels=3), 8, 3, stride=2, padding=1, activation="relu")
    h = g.local_response_norm(g.max_pool(h, 3, stride=2, ceil_mode=True))
    a, b = g.conv(h, 4, 1, activation="relu"), g.conv(h, 6, 3, padding=1, activation="relu")
    c = g.conv(g.max_pool(h, 3, stride=1, padding=1), 5, 1, activation="relu")
    h = g.dropout(g.global_avg_pool(g.concat(a, b, c)), 0.4)
    g.output(g.linear(h, 10))
    return network.write(g.build(seed=3), SHAPE, tmp_path_factory.mktemp("network"))


@pytest.mark.parametrize("framework", ["torch", "onnxruntime", "tensorflow", "ncnn", "cnncore"])
def test_every_framework_builds_the_same_network(framework, written):
    if importlib.util.find_spec(framework) is None or (
        framework == "onnxruntime" and not importlib.util.find_spec("onnx")
    ):
        pytest.skip(f"needs {framework}")
    expected = cnncore.load(written / "net.safetensors").astype("float64")(network.images(SHAPE, dtype="float64"))
    with Contestant(framework, framework, 1) as contestant:
        contestant.open({"kind": "inference", "folder": str(written), "shape": SHAPE})
        assert sections.difference(contestant.outputs(), {"y": expected}) < 1e-5
        assert contestant.turn(0.0)["call"] > 0


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "cnncore"])
def test_every_framework_has_the_same_gradients(framework, written):
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"needs {framework}")
    net = cnncore.load(written / "net.safetensors").astype("float64")
    y, backward = net.with_backward(network.images(SHAPE, dtype="float64"), training=False)
    _, loss_backward = cnncore.softmax_cross_entropy.with_backward(y, network.labels(2, 10))
    backward(loss_backward(np.ones(())))
    with Contestant(framework, framework, 1) as contestant:
        contestant.open({"kind": "training", "folder": str(written), "shape": SHAPE, "classes": 10})
        found = contestant.outputs()
        assert found.keys() == backward.gradients.keys()
        assert sections.difference(found, backward.gradients, order=2) < 1e-4
        memory = contestant.memory(steps=1)
        assert memory["peak"] > 1e7


@pytest.mark.parametrize("variant", ["", "auto", "plan", "plan direct"])
def test_a_layer_computes_the_same_in_every_variant(variant, written):
    from benchmarks import with_cnncore

    layers = network.convolutions(cnncore.load(written / "net.safetensors"), SHAPE)
    assert len(layers) == 4 and all(layer["times"] == 1 for layer in layers)
    for layer in layers:
        job = {name: layer[name] for name in ("x", "w", "stride", "padding", "dilation", "groups")} | {
            "dtype": "float32"
        }
        found = with_cnncore.layer(variant=variant, **job)
        assert sections.difference(found.outputs(), sections.layer_reference(job)) < 1e-4
        assert len(found.once()) == len(found.stages) == 2


# ── End to end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_row_from_the_command_line_to_the_files(tmp_path):
    bench("small", "--only", "relu6", "--threads", 1, "--rounds", 2, "--seconds", 0.01, "--output", tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    (row,) = found["sections"]["small"]
    assert row["case"] == "relu6" and row["threads"] == 1
    own = row["seconds"]["cnncore"]
    assert {stage: len(rounds) for stage, rounds in own.items()} == {"call": 2, "call and backward": 2}
    assert 0 < min(own["call"]) < 1e-2
    assert {limit["what"] for limit in found["limits"]} == {"float32", "float64", "memory"}
    assert all(min(limit["measured"]) > 0 for limit in found["limits"])
    assert "PyTorch" in row["seconds"] or "PyTorch" in found["not_timed"]["small"]
    page = (tmp_path / "results.md").read_text()
    assert "| relu6 |" in page and "FMA peak" in page


def test_targets_are_judged_by_the_ratio_within_rounds():
    row = Row("inference", "2 threads, batch 1", {"threads": 2, "batch": 1, "multiply_adds": 1})
    asked = []
    names = {"cnncore": Scripted("cnncore", [1, 2], asked), "peer": Scripted("peer", [2, 4], asked)}
    interleave(row, names, rounds=2, seconds=0)
    ((what, target, measured, met),) = report.targets({"inference": [row]}, None)
    assert what == "GoogLeNet inference, 2 threads, batch 1" and target.startswith("≤ 0.65")
    assert measured.startswith("0.50") and met == "yes"


# ── Ctrl-C and memory ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_latency_and_memory_are_measured(tmp_path):
    """Run twice, the second time with nothing left to measure; then the page that is made of it."""
    arguments = ("latency", "memory", "--only", "max_blur_pool", "--values", 2**20, "--shapes", "image")
    text = bench(*arguments, "--output", tmp_path)
    assert "0 of 2 passes keep Ctrl-C waiting for more than 200 ms." in text
    results = json.loads((tmp_path / "limits.json").read_text())
    assert bench(*arguments, "--output", tmp_path) == text
    lines = list(responsiveness.page(results))
    (row,) = [line for line in lines if line.startswith("| max_blur_pool |")]
    waits_and_ratios = list(map(float, row.split("|")[2:-1]))
    assert (
        len(waits_and_ratios) == 4
        and max(waits_and_ratios[:2]) <= 200
        and max(waits_and_ratios[2:]) <= responsiveness.BOUND
    )
    assert sum("x of 1,048,576 values" in line for line in lines) == 2
    results["latency"]["image"]["relu"] = "more than 900 s"
    assert "* relu, image: more than 900 s" in responsiveness.page(results)


def test_the_page_of_limits_has_every_operator():
    """Beyond a bound numbers are bold; what is missing says so."""
    text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    rows = {line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")}
    assert set(cnncore.OPS) <= rows
    said = {"values": 8, "inputs": 2**28, "outputs": 2**28, "forward": 2**31}
    results = {
        "latency": {"image": {"relu": {"values": 8, "forward": [0.3, 1.0]}}},
        "memory": {"image": {"relu": said}},
    }
    assert "| relu | **300** | – | **4.00** | – |" in responsiveness.page(results)


def test_what_does_not_fit_into_memory_is_measured_with_fewer_values(monkeypatch):
    tried = []

    def in_process(function, name, values, shape, gigabytes):
        tried.append(values)
        if values > 2**22:
            return "numpy._core._exceptions._ArrayMemoryError: Unable to allocate"
        return {"values": values, "forward": [0.5, 1.0]}

    monkeypatch.setattr(responsiveness, "in_process", in_process)
    found = {}
    list(responsiveness.measured("latency", ["relu"], 2**24, ["image"], found, lambda line: None, gigabytes=1.5))
    assert tried == [2**24, 2**23, 2**22] and found["image"]["relu"]["values"] == 2**22
    lines = list(responsiveness.latency(found))
    assert "| relu | forward | image | 4,194,304 † | **500** | 1.00 |" in lines
    assert "† With twice as many values the passes do not fit into 1.5 GB." in lines


def test_a_gap_between_signals_is_seen():
    assert responsiveness.longest(0.0, [0.1, 0.2, 0.9], 1.0) == (pytest.approx(0.7), 1.0)


# ── Instructions ───────────────────────────────────────────────────────────────────────────────────────────────────────


HERE = {"compiler": "gcc 1", "python": "3", "numpy": "2"}


@pytest.mark.parametrize(
    "count, recorded, longer",
    [
        (1000, {"a": 1000}, []),
        (1029, {"a": 1000}, []),
        (1031, {"a": 1000}, ["a"]),
        (10, {"a": 1000}, []),
        (1000, {"a": 1000, "b": 1}, ["b"]),
        (1000, {"b": 1}, ["a", "b"]),
    ],
)
def test_a_call_that_takes_more_instructions_is_told(count, recorded, longer):
    lines, found = instructions.compared({"a": count}, {"with": HERE, "calls": recorded}, HERE)
    assert found == longer and ("MORE" in lines[0]) == (count > 1030)


def test_counts_with_another_compiler_are_not_compared():
    record = {"with": HERE, "calls": {"a": 1}}
    lines, longer = instructions.compared({"a": 1000}, record, {**HERE, "compiler": "gcc 2"})
    assert not longer and "nothing is compared" in lines[-1]


def test_counted_calls_run_and_are_recorded():
    for make in instructions.CALLS.values():
        make()()
    record = json.loads(instructions.RECORD.read_text(encoding="utf-8"))
    assert set(record["calls"]) == set(instructions.CALLS) and set(record["with"]) == set(HERE)
