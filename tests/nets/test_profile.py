"""Time per node, the choice of algorithms and why, measured choices that are kept with the net, and the machine's peak."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

import cnncore
import cnncore.nets.net as net_module
from cnncore import cpu
from cnncore.nets.plan import Mode, infer
from cnncore.nets.profile import Clock
from cnncore.nets.tuning import Tuning, description, tune
from cnncore.operators.convolution.implementation import MEASURED_ALGORITHMS
from cnncore.operators.convolution.reference import ALGORITHMS
from cnncore.runtime import dispatch

KERNEL_TARGETS = cpu.targets()[1:]


@pytest.fixture
def _kernels():
    """A target with kernels: reference implementations have no peak, and compute the same whatever the algorithm."""
    if cpu.target() == "reference":
        cpu.target(KERNEL_TARGETS[0])


def branching(seed=0, **settings):
    """A net with a fused activation, one that is not, a join and a linear layer."""
    g = cnncore.Graph()
    x = g.input(channels=16)
    h = g.conv(x, 32, 3, padding=1, activation="relu", name="first", **settings)
    a = g.conv(h, 32, 3, padding=1, activation="tanh", name="left")
    b = g.conv(h, 24, 1, stride=2, name="right")
    h = g.concat(g.max_pool(a, 2, name="pool"), b, name="join")
    g.output(g.linear(g.global_avg_pool(h, name="average"), 5, name="classifier"))
    return g.build(seed=seed)


# ── The peak ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", KERNEL_TARGETS)
@pytest.mark.parametrize("precision", [dispatch.FLOAT32, dispatch.FLOAT64])
def test_the_peak_is_that_of_multiply_adds_that_took_place(target, precision):
    """s = s / 2 + 1 ends at 2 in every lane of every sum, wherever it began."""
    with cpu.target(target):
        count, total = dispatch.multiply_adds(precision, 100, 3)
        assert count % 300 == 0 and total == 2 * count / 100
        again, other = dispatch.multiply_adds(precision, 1, 1)
        sums = int(again)  # one multiply-add each, from 0, 1, 2, …, the same in all lanes
        begun = dispatch.multiply_adds(precision, 0, 1)[1]
        assert other == begun / 2 + sums  # Σ (k / 2 + 1)


def test_peak_is_faster_with_wider_vectors_and_refuses_what_has_none():
    found = {}
    for target in KERNEL_TARGETS:
        with cpu.target(target):
            found[target] = {dtype: cpu.peak(dtype, threads=1) for dtype in ("float32", np.float64)}
        assert found[target]["float32"] > 1.3 * found[target][np.float64] > 0
    if "avx2" in found:
        assert found["avx2"]["float32"] > 1.3 * found["baseline"]["float32"]
    with cpu.target("reference"), pytest.raises(cnncore.SettingError, match="reference"):
        cpu.peak()
    with pytest.raises(cnncore.DtypeError, match="int8"):
        cpu.peak("int8")
    before = cnncore.get_num_threads()
    with pytest.raises(cnncore.SettingError, match="threads"):
        cpu.peak(threads=0)
    assert cnncore.get_num_threads() == before


# ── Profiles ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clock_hands_out_the_steps_as_they_are():
    clock, steps = Clock(), [SimpleNamespace(node=3), SimpleNamespace(node=5)]
    assert all(found is step for found, step in zip(clock(steps), steps, strict=True))
    assert clock.seconds.keys() == {3, 5} and min(clock.seconds.values()) >= 0


def test_an_inference_profile_names_what_runs():
    net = branching()
    found = net.profile((2, 16, 20, 20), rounds=3)
    rows = {row.path: row for row in found.rows}
    assert list(rows) == [
        "first",
        "left",
        "left/tanh",
        "right",
        "pool",
        "average",
        "classifier",
    ]  # the join is in place
    assert rows["first"].operator == "conv + relu" and rows["left"].operator == "conv"
    assert rows["first"].algorithm.startswith("winograd") and rows["right"].algorithm == "direct"
    assert rows["pool"].algorithm is None
    first = rows["first"].forward
    assert first.multiply_adds == 2 * 20 * 20 * 32 * 16 * 9
    assert first.bytes == 4 * (2 * 16 * 400 + 2 * 32 * 400 + 32 * 16 * 9 + 32)
    assert all(row.forward.seconds > 0 and row.backward is None for row in found.rows)
    assert found.total("forward").multiply_adds == net.summary((2, 16, 20, 20)).multiply_adds
    assert found.total("forward").seconds > 0 and found.left("forward") >= 0
    assert found.operators[0] == max(found.operators, key=lambda name: found.total("forward", name).seconds)


@pytest.mark.usefixtures("_kernels")
def test_the_table_and_the_data_say_the_same():
    found = branching().profile((1, 16, 20, 20), rounds=3)
    text, data = str(found), json.loads(json.dumps(found.data()))
    lines = text.splitlines()
    assert "(1, 16, 20, 20)" in lines[0] and "medians of 3 rounds" in lines[0] and "peak" in lines[0]
    assert lines[1].split()[:4] == ["node", "operator", "algorithm", "multiply-adds"]
    for node in data["nodes"]:
        (line,) = [line for line in lines if line.startswith(node["node"] + " ")]
        assert f"{node['forward']['ms']:.3f}" in line
        assert (node["algorithm"] or "") in line
        if node["forward"]["gflops"] is not None:
            assert np.isclose(
                node["forward"]["gflops"], 2e-6 * node["forward"]["multiply_adds"] / node["forward"]["ms"]
            )
            assert np.isclose(node["forward"]["share_of_peak"], node["forward"]["gflops"] / data["peak_gflops"])
    shares = [
        float(share) for line in lines[3 : 3 + len(data["nodes"])] for share in re.findall(r"([\d.]+)%", line)[:1]
    ]
    assert 0 < sum(shares) <= 101
    assert lines[-1].startswith("total") and f"{1e3 * found.whole('forward'):.3f}" in lines[-1]
    assert np.isclose(
        1e3 * found.whole("forward"), sum(n["forward"]["ms"] for n in data["nodes"]) + data["left_ms"]["forward"]
    )
    assert f"whole passes {data['forward_ms']:.3f}" in lines[0]
    assert any(line.startswith("conversions at the edges, Python") for line in lines)
    assert found._repr_html_().count("<tr") == len(lines) - 1 - sum(line.startswith("─") for line in lines)
    for line in lines:
        assert line == line.rstrip()


def test_a_training_profile_has_backward_steps_and_changes_nothing():
    g = cnncore.Graph()
    h = g.conv(g.input(channels=3), 8, 3, padding=1, name="conv", activation="relu")
    h = g.dropout(g.batch_norm(h, name="norm"), 0.5, name="dropout")
    g.output(g.linear(g.global_avg_pool(h), 2, name="classifier"))
    net = g.build(seed=1)
    arrays = {name: array.copy() for name, array in {**net.parameters, **net.buffers}.items()}
    net.frozen = {"classifier.b"}
    found = net.profile((2, 3, 9, 9), rounds=2, training=True)
    rows = {row.path: row for row in found.rows}
    assert rows["conv"].backward.multiply_adds == rows["conv"].forward.multiply_adds  # dw alone: nobody asks for dx
    assert rows["classifier"].backward.multiply_adds == 2 * rows["classifier"].forward.multiply_adds  # dx and dw
    x, w = 4 * 2 * 3 * 81, 4 * 8 * 3 * 9
    assert rows["conv"].backward.bytes == 4 * 2 * 8 * 81 + x + w + w + 4 * 8  # reads dy, x, w; writes dw, db
    assert rows["conv/relu"].forward is None and rows["conv/relu"].backward.seconds > 0
    assert found.stages == ("forward", "backward") and found.whole("backward") > 0
    assert "backward" in str(found).splitlines()[1]
    for name, array in {**net.parameters, **net.buffers}.items():
        assert np.array_equal(array, arrays[name]), name
    assert net.steps == 0


def test_a_profile_of_definitions_has_no_peak():
    g = cnncore.Graph()
    g.output(g.relu(g.conv(g.input(channels=2), 2, 1, name="conv"), name="relu"))
    with cpu.target("reference"):
        found = g.build().profile((1, 2, 3, 3), rounds=1)
    assert found.facts["peak_gflops"] is None and "peak " not in str(found).splitlines()[0]
    assert found.data()["nodes"][0]["forward"]["share_of_peak"] is None


def test_shapes_are_checked():
    net = branching()
    with pytest.raises(cnncore.ShapeError, match=r"profile: .*leaves the size open"):
        net.profile()
    with pytest.raises(cnncore.ShapeError, match="expected"):
        net.tune((1, 3, 20, 20))
    with pytest.raises(cnncore.SettingError, match="rounds"):
        net.profile((1, 16, 20, 20), rounds=0)


def test_large_batches_are_profiled_and_tuned_in_the_pieces_they_are_taken_in():
    net, shape = branching(), (12, 16, 96, 96)
    found = net.profile(shape, rounds=1)
    pieces = found.facts["pieces"]
    assert pieces == net._plan((shape,), Mode(target=cpu.target(), tuned=net.tuned)).pieces > 1
    assert f"in {pieces} pieces" in str(found).splitlines()[0]
    assert found.total("forward").multiply_adds == net.summary(shape).multiply_adds
    net.tune(shape, rounds=1)
    counts = {int(call.split("(")[1].split(",")[0]) for call in net.tuned}
    assert counts == {12 * (i + 1) // pieces - 12 * i // pieces for i in range(pieces)}
    assert printed_choices(net, shape)["first"][1] == "measured"


# ── The choice ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def printed_choices(net, *shapes, **options):
    """node → (chosen, why) from the printed table."""
    lines = str(net.algorithms(*shapes, **options)).splitlines()
    names = re.split(r"  +", lines[1])
    assert names[:4] == ["node", "call", "chosen", "why"]
    cells = [re.split(r"  +", line) for line in lines[3:]]
    return {line[0]: (line[2], line[3]) for line in cells}


def test_choices_for_googlenet():
    net = cnncore.models.googlenet()
    found = printed_choices(net, (1, 3, 224, 224))
    assert len(found) == 57
    assert found["conv_1"] == ("direct", "no other fits")  # 7×7, stride 2
    assert found["conv_2_reduce"] == ("direct", "no other fits")  # 1×1
    assert found["conv_2"] == ("winograd_4x4", "cheapest")  # 3×3 on 56×56
    for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        assert found[f"inception_{module}/conv1x1"][0] == "direct"
        # On 7×7 there are four tiles of 4×4, which do not pay for reading 36 matrices of weights; 24 they do.
        tiles = "winograd_4x2" if module[0] == "5" else "winograd_4x4"
        assert found[f"inception_{module}/conv3x3"][0] == found[f"inception_{module}/conv5x5"][0] == tiles, module
    net.exact = True
    assert set(printed_choices(net, (1, 3, 224, 224)).values()) == {("direct", "net.exact")}


def test_costs_are_those_of_the_cost_model():
    (row, *_) = branching().algorithms((1, 16, 20, 20)).rows
    assert row.path == "first" and row.costs["direct"] == 400 * 32 * 16 * 9
    assert row.costs["winograd_4x4"] == 36 * (25 * 16 * 32 + 6 * 25 * (16 + 32))
    assert row.chosen == min(row.costs, key=row.costs.get)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("algorithm", [*MEASURED_ALGORITHMS, "winograd", "reference"])
def test_the_graph_can_settle_the_algorithm_of_a_node(algorithm):
    net = branching(algorithm=algorithm)
    x = np.random.default_rng(3).standard_normal((1, 16, 20, 20)).astype(np.float32)
    found = printed_choices(net, x.shape)
    chosen = "winograd_4x4" if algorithm == "winograd" else algorithm
    assert found["first"] == (chosen, f"algorithm='{algorithm}' in the graph")
    w, b = net.parameters["first.w"], net.parameters["first.b"]
    y = net.values(x, names=["first"])["first"]
    assert np.array_equal(y, cnncore.conv(x, w, b, padding=1, algorithm=algorithm))
    # Those of no family sum in the same order.
    families = {name: row.family for name, row in ALGORITHMS.items()}
    others = [a for a in MEASURED_ALGORITHMS if a != chosen and (families[a] or families[chosen])]
    assert others and all(not np.array_equal(y, cnncore.conv(x, w, b, padding=1, algorithm=a)) for a in others)


# ── Measured choices ───────────────────────────────────────────────────────────────────────────────────────────────────


def call_of(net, shape, path, training=False):
    """The key of a node's call in ``net.tuned``."""
    calls, _ = infer(net.graph, [shape], net.dtype, Mode())
    (number,) = [i for i, node in enumerate(net.graph.nodes) if node.path == path]
    return description(calls[number], cpu.target(), training)


def test_tuning_measures_every_distinct_call_and_is_used():
    net, shape, seen = branching(), (1, 16, 20, 20), []
    table = net.tune(shape, rounds=2, progress=lambda *now: seen.append(now))
    assert set(net.tuned) == {call_of(net, shape, "first"), call_of(net, shape, "left")}  # 1×1 leaves no choice
    assert set(net.tuned.values()) <= set(MEASURED_ALGORITHMS)
    total = 2 * len(MEASURED_ALGORITHMS)
    assert (
        len(seen) == total and seen[0][:2] == (0, total) and {name for _, _, name in seen} == set(MEASURED_ALGORITHMS)
    )
    assert str(table).count("\n") == 3 and call_of(net, shape, "first") in str(table)
    assert call_of(net, shape, "first") in str(net.tuned)
    assert printed_choices(net, shape)["first"][1] == "measured"
    assert printed_choices(net, (1, 16, 24, 20))["first"][1] == "cheapest"
    assert printed_choices(net, shape, training=True)["first"][1] == "cheapest"
    net.tune(shape, training=True, rounds=1)
    assert call_of(net, shape, "first", training=True) in net.tuned and len(net.tuned) == 4  # the others are kept
    net.tuned = {}
    assert printed_choices(net, shape)["first"][1] == "cheapest"


def test_a_net_that_tunes_itself_measures_new_shapes_once(tmp_path, monkeypatch):
    shape, measured = (1, 16, 20, 20), []
    net = branching()
    monkeypatch.setattr(net_module, "tune", lambda *a: measured.append(a[1]) or tune(*a))
    assert not net.auto_tune
    x = np.zeros(shape, np.float32)
    net(x)
    assert not measured and not net.tuned
    net.auto_tune = True
    net(x)
    net(x)
    assert measured == [(shape,)] and call_of(net, shape, "first") in net.tuned
    net.with_backward(x)
    assert measured == [(shape,)] * 2 and call_of(net, shape, "first", training=True) in net.tuned
    net.save(tmp_path / "net.safetensors")
    again = cnncore.load(tmp_path / "net.safetensors", tune=True)
    again(x)
    assert len(measured) == 2  # the file says it
    again(np.zeros((1, 16, 24, 20), np.float32))
    assert measured[2:] == [((1, 16, 24, 20),)]
    again.exact = True
    again(np.zeros((1, 16, 28, 20), np.float32))
    assert len(measured) == 3


@pytest.mark.parametrize("algorithm", MEASURED_ALGORITHMS)
def test_plans_follow_the_tuning_unless_the_net_is_exact(algorithm):
    net, shape = branching(), (1, 16, 20, 20)
    x = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    w, b = net.parameters["first.w"], net.parameters["first.b"]
    before = net(x)
    net.tuned = {call_of(net, shape, "first"): algorithm}
    y = net.values(x, names=["first"])["first"]
    assert np.array_equal(y, cnncore.conv(x, w, b, padding=1, algorithm=algorithm))
    assert np.allclose(net(x), before, rtol=1e-4, atol=1e-5)
    bits = set()
    for threads in (1, 2, 3):
        with cnncore.threads(threads):
            bits.add(net(x).tobytes())
    assert len(bits) == 1
    net.exact = True
    with pytest.raises(cnncore.SettingError, match="exact"):
        net.tune(shape)
    y = net.values(x, names=["first"])["first"]
    assert np.array_equal(y, cnncore.conv(x, w, b, padding=1, algorithm="direct"))


@pytest.mark.usefixtures("_kernels")
def test_backward_passes_follow_their_own_choice():
    net, shape = branching(), (1, 16, 20, 20)
    x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    gradients = {}
    for algorithm in MEASURED_ALGORITHMS:
        net.tuned = {call_of(net, shape, "first", training=True): algorithm}
        y, backward = net.with_backward(x)
        backward(np.ones_like(y))
        gradients[algorithm] = backward.gradients["first.w"]
    direct = gradients["direct"]
    for algorithm in MEASURED_ALGORITHMS[1:]:
        assert not np.array_equal(gradients[algorithm], direct)
        assert np.abs(gradients[algorithm] - direct).max() < 1e-4 * np.abs(direct).max()


def test_a_choice_that_does_not_fit_is_left_to_the_cost_model():
    g = cnncore.Graph()
    g.output(g.conv(g.input(channels=128), 128, 3, padding=1, stride=2, name="strided"))
    net, shape = g.build(), (1, 128, 56, 56)
    before = printed_choices(net, shape)["strided"]
    net.tuned = {call_of(net, shape, "strided"): "winograd_2x2"}  # offered for stride 1 only
    assert printed_choices(net, shape)["strided"] == before == ("winograd_4x4", "cheapest")
    net(np.zeros(shape, np.float32))


def test_tuning_is_saved_with_the_net(tmp_path):
    net, shape = branching(), (1, 16, 20, 20)
    net.tuned = {call_of(net, shape, "first"): "winograd_2x2"}
    net.save(tmp_path / "net.safetensors")
    again = cnncore.load(tmp_path / "net.safetensors")
    assert again.tuned == net.tuned and printed_choices(again, shape)["first"] == ("winograd_2x2", "measured")
    x = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    assert np.array_equal(net(x), again(x))
    assert net.astype("float64").tuned == net.tuned
    net.tuned = {}
    net.save(tmp_path / "net.safetensors")
    assert not cnncore.load(tmp_path / "net.safetensors").tuned


@pytest.mark.parametrize(
    "choices",
    [
        {"a": "fastest"},
        {"a": "auto"},
        {"a": 3},
        {"": "direct"},
        {"a\nb": "direct"},
        {"a" * 500: "direct"},
        {3: "direct"},
        [1],
        7,
    ],
    ids=repr,
)
def test_what_is_no_tuning_is_refused(choices):
    net = branching()
    with pytest.raises(cnncore.SettingError, match="tuned"):
        net.tuned = choices
    assert not net.tuned


def test_tunings_are_equal_by_content():
    one, two = Tuning({"a": "direct", "b": "winograd_2x2"}), Tuning({"b": "winograd_2x2", "a": "direct"})
    assert one == two and hash(one) == hash(two) and one != Tuning({"a": "direct"}) and not Tuning()
    assert Tuning.from_data(json.loads(json.dumps(one.as_data()))) == one


# ── The command line ───────────────────────────────────────────────────────────────────────────────────────────────────


def check_trace(trace, data):
    """Steps lie in their stage, one after the other, in the order of execution; each says what the profile says of it."""
    assert trace["otherData"]["inputs"] == data["inputs"] and trace["otherData"]["training"]
    nodes = {row["node"]: row for row in data["nodes"]}
    names = [event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"]
    assert names == ["forward", "backward"]
    for line, stage in enumerate(names, 1):
        events = [event for event in trace["traceEvents"] if event["ph"] == "X" and event["tid"] == line]
        whole, *steps = events
        assert whole["name"] == stage and whole["cat"] == "pass" and steps
        order = [step["name"] for step in steps]
        expected = [name for name, row in nodes.items() if row[stage] is not None]
        assert order == (expected if stage == "forward" else expected[::-1])
        ends = [whole["ts"], *(step["ts"] + step["dur"] for step in steps)]
        for step, end in zip(steps, ends, strict=False):
            assert end <= step["ts"] + 1e-3 and step["dur"] > 0
            row = nodes[step["name"]]
            assert step["args"]["operator"] == row["operator"] and step["args"]["output"] == row["output"]
        assert ends[-1] <= whole["ts"] + whole["dur"] + 1e-3


def test_commands(tmp_path, capsys):
    from cnncore.cli.main import main

    path = tmp_path / "net.safetensors"
    branching().save(path)
    assert main(["profile", str(path), "--size", "20", "--rounds", "2"]) == 0
    assert "conv + relu" in capsys.readouterr().out
    assert main(["profile", str(path), "--size", "20x24", "--batch", "2", "--rounds", "1", "--training", "--json"]) == 0
    trace = tmp_path / "trace.json"
    command = ["profile", str(path), "--size", "20x24", "--batch", "2", "--rounds", "2", "--training", "--json"]
    data = json.loads(capsys.readouterr().out)
    assert main([*command, "--trace", str(trace)]) == 0
    check_trace(json.loads(trace.read_text()), json.loads(capsys.readouterr().out))
    assert data["inputs"] == {"input": [2, 16, 20, 24]} and data["training"] and data["nodes"][0]["backward"]["ms"] > 0
    assert main(["tune", str(path), "--size", "20", "--rounds", "1"]) == 0
    out = capsys.readouterr().out
    assert "fastest" in out and "saved with 2 choices" in out
    assert len(cnncore.load(path).tuned) == 2
    assert main(["profile", str(path), "--size", "20", "--plan"]) == 0
    assert "measured" in capsys.readouterr().out
    assert main(["tune", "lenet", "--rounds", "1"]) == 0
    assert "saved" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["profile", str(path), "--batch", "0"])
    assert "0" in capsys.readouterr().err
