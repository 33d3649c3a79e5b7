"""What 0.1.0 offered is there still: every public name, its parameters in their order, and the example of its docstring."""

import contextlib
import doctest
import inspect
import io
import json

import numpy as np
import pytest
from support.processes import TESTS

import cnncore

BEFORE = json.loads((TESTS / "support" / "public_names.json").read_text(encoding="utf-8"))
# Names of parameters that have an alias now, and the new name.
# Examples whose words have changed with a name: the target "definition" is called "reference" now.
REWORDED = {"cpu.targets"}
RENAMED = {"Net.with_backward": {"wanted": "needs_gradient"}}


def found(path):
    first, *rest = path.split(".")
    thing = type(cnncore.models.lenet(seed=None)) if first == "Net" else getattr(cnncore, first)
    for name in rest:
        thing = getattr(thing, name)
    return thing


@pytest.mark.parametrize("path", BEFORE)
def test_the_name_is_there_with_its_parameters(path):
    before = BEFORE[path]["parameters"]
    thing = found(path)
    if before is None:
        return
    now = [
        f"{'*' if p.kind == p.VAR_POSITIONAL else '**' if p.kind == p.VAR_KEYWORD else ''}{name}"
        for name, p in inspect.signature(thing).parameters.items()
    ]
    renamed = RENAMED.get(path, {})
    before = [renamed.get(name, name) for name in before]
    kept = [name for name in now if name in before]
    assert kept == before, f"{path}{inspect.signature(thing)}"


@pytest.mark.parametrize("path", [path for path, row in BEFORE.items() if row["examples"] and path not in REWORDED])
def test_the_example_gives_what_it_gave(path, tmp_path, monkeypatch):
    if path == "cpu.peak" and cnncore.cpu.target() == "reference":
        pytest.skip("reference implementations have no peak")
    monkeypatch.chdir(tmp_path)
    known = {**vars(inspect.getmodule(found(path)) or cnncore), "cnncore": cnncore}
    test = doctest.DocTestParser().get_doctest(BEFORE[path]["examples"], known, path, None, 0)
    assert test.examples
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        failures, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.write)
    assert not failures, report.getvalue()


# ── Earlier names ──────────────────────────────────────────────────────────────────────────────────────────────────────


def small_net(**settings):
    g = cnncore.Graph()
    g.output(g.conv(g.input(2), 3, kernel_size=3, name="conv", **settings))
    return g.build()


def test_the_earlier_name_of_an_algorithm(tmp_path, rng):
    """It warns where the program calls, and gives what the present name gives: of every operator with a choice, and in nets."""
    operators = [op for op in cnncore.OPS.values() if "algorithm" in op.settings]
    assert len(operators) >= 9
    for op in operators:
        case = next(case for case in op.cases if "algorithm" not in case.settings)
        arrays = case.sample(case.ranks[0])
        expected = op(*arrays, **case.settings, algorithm="reference")
        with pytest.warns(DeprecationWarning, match=r"algorithm='definition' is now called 'reference'") as caught:
            found = op(*arrays, **case.settings, algorithm="definition")
        assert caught[0].filename == __file__
        np.testing.assert_array_equal(found, expected)
    with pytest.warns(DeprecationWarning, match="conv: algorithm='definition' is now called 'reference'"):
        net = small_net(algorithm="definition")
    assert "definition" not in str(net.graph.nodes[0].given)
    x = rng.standard_normal((1, 2, 5, 5)).astype("float32")
    np.testing.assert_array_equal(net(x), small_net(algorithm="reference")(x))
    net.save(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(cnncore.load(tmp_path / "net.safetensors")(x), net(x))


def test_the_earlier_name_of_the_target():
    with (
        pytest.warns(DeprecationWarning, match="target 'definition' is now called 'reference'"),
        cnncore.cpu.target("definition"),
    ):
        assert cnncore.cpu.target() == "reference"


def test_earlier_names_of_attributes_and_parameters(rng):
    net = small_net()
    assert all(op.family == op.group for op in cnncore.OPS.values())
    assert net.state == net.buffers and net.tunes == net.auto_tune
    x = rng.standard_normal((1, 2, 5, 5)).astype("float32")
    with pytest.warns(DeprecationWarning, match="wanted= is called needs_gradient= now"):
        y, backward = net.with_backward(x, wanted=[False])
    assert backward(np.ones_like(y)) is None and backward.gradients.keys() == net.parameters.keys()
