"""How exactly each convolution algorithm computes: the tool that writes the table of docs/performance.md, and bounds."""

import importlib.util
import json
import sys
from datetime import UTC, datetime
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from support.processes import ROOT

import cnncore
from cnncore import cpu
from cnncore.operators.convolution.implementation import MEASURED_ALGORITHMS

TOOLS = ROOT / "tools"
sys.path.insert(0, str(TOOLS))
import accuracy  # noqa: E402
from benchmarks import report, turns  # noqa: E402

# Root mean square of the error in that of the result; of y, dx and dw, on GoogLeNet-like layers.
BOUNDS = {
    ("direct", "float32"): 4e-7,
    ("winograd_2x2", "float32"): 1.5e-6,
    ("winograd_4x2", "float32"): 3e-6,
    ("winograd_4x4", "float32"): 6e-6,  # of 5×5 windows
    ("direct", "float64"): 8e-16,
    ("winograd_2x2", "float64"): 3e-15,
    ("winograd_4x2", "float64"): 6e-15,
    ("winograd_4x4", "float64"): 1.2e-14,
}


def layered():
    """A net with windows like those of GoogLeNet."""
    g = cnncore.Graph()
    h = g.conv(g.input(channels=3), 32, 7, stride=2, padding=3, activation="relu", name="seven")
    h = g.conv(h, 64, 1, activation="relu", name="one")
    h = g.conv(h, 96, 3, padding=1, activation="relu", name="three")
    g.output(g.conv(h, 48, 5, padding=2, name="five"))
    return g.build(seed=0)


def test_exact_sums_are_exact():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(50) * 1e8, rng.standard_normal(50)
    exact = sum(Fraction(p) * Fraction(q) for p, q in zip(a.tolist(), b.tolist(), strict=True))
    assert accuracy.exact_dot(a, b) == float(exact)


@pytest.mark.parametrize(("stride", "padding", "size"), [(1, 1, 3), (2, 3, 7), (1, 0, 1), (3, 0, 2)])
def test_the_reference_is_the_definition(stride, padding, size):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, 3, 11, 9)), rng.standard_normal((4, 3, size, size))
    settings = dict(stride=stride, padding=padding, algorithm="reference")
    y, backward = cnncore.conv.with_backward(x, w, **settings)
    dy = rng.standard_normal(y.shape)
    dx, dw = backward(dy)[:2]
    reference = accuracy.Reference(x, w, dy, stride, padding)
    for what, result in (("y", y), ("dx", dx), ("dw", dw)):
        for place in [tuple(rng.integers(0, result.shape)) for _ in range(30)]:
            assert abs(getattr(reference, what)(*place) - result[place]) <= 1e-13 * np.abs(result).max(), (what, place)


@pytest.mark.parametrize("target", cpu.targets()[1:])
def test_errors_stay_in_their_bounds(target):
    """All algorithms, forward and both gradients, both precisions; and none is more exact than it can be."""
    x = np.random.default_rng(2).standard_normal((1, 3, 64, 64)).astype(np.float32)
    with cpu.target(target):
        found = accuracy.measured(layered(), x, 60, MEASURED_ALGORITHMS)
    assert found.keys() == {(a, d, w) for a, d in BOUNDS for w in accuracy.RESULTS}
    for (algorithm, dtype, what), layers in found.items():
        assert len(layers) == (4 if algorithm == "direct" else 2)
        for path, (rms, largest) in layers.items():
            assert rms <= BOUNDS[algorithm, dtype], (algorithm, dtype, what, path)
            assert 0 < rms < 3 * largest + BOUNDS[algorithm, dtype]
    for dtype in ("float32", "float64"):
        for what in accuracy.RESULTS:
            assert found["winograd_4x4", dtype, what]["three"][0] > found["direct", dtype, what]["three"][0]


def test_direct_is_in_float32_no_less_exact_than_pytorch():
    if not importlib.util.find_spec("torch"):
        pytest.skip("needs torch")
    x = np.random.default_rng(3).standard_normal((1, 3, 64, 64)).astype(np.float32)
    found = accuracy.measured(layered(), x, 200, ["direct", accuracy.PEER])
    for what in accuracy.RESULTS:
        own, peer = ([rms for rms, _ in found[a, "float32", what].values()] for a in ("direct", accuracy.PEER))
        # The geometric mean over the layers; a tenth of it is the chance of which elements are sampled.
        assert np.exp(np.mean(np.log(own))) <= 1.1 * np.exp(np.mean(np.log(peer))), what
    assert accuracy.PEER in accuracy.table_of(found)


def test_tables_go_between_their_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin a (by b) -->\nold\n<!-- end a -->\nafter\n")
    report.into_page(page, "a", "| new \\1 |\n")
    report.into_page(page, "a", "| new \\1 |\n")
    assert page.read_text() == "before\n<!-- begin a (by b) -->\n\n| new \\1 |\n\n<!-- end a -->\nafter\n"
    with pytest.raises(SystemExit, match="marks"):
        report.into_page(page, "b", "text")
    for name in ("benchmark", "accuracy"):
        text = (TOOLS.parent / "docs" / "performance.md").read_text(encoding="utf-8")
        assert text.count(f"<!-- begin {name} ") == text.count(f"<!-- end {name} -->") == 1


def test_a_results_file_makes_the_same_page_again(tmp_path):
    """What bench.py --docs writes is what the run wrote; nothing but the file is asked."""
    timing = {"forward": turns.Timing([0.001, 0.002]), "backward": turns.Timing([0.003, 0.004])}
    facts = dict(family="pooling", peer="named", threads=1)
    row = turns.Row("operators", "max_pool", facts, {"cnncore": timing, "PyTorch": timing}, {"PyTorch": 0.0})
    limits = report.RecordedLimits([dict(what="float32", threads=1, unit="GFLOP/s", measured=[1.0, 2.0])], "a kernel")
    run = SimpleNamespace(
        limits=limits, versions={"PyTorch": {"version": "2"}}, missing={"operators": {"MNN": "absent"}}
    )
    moment = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    sections = {"operators": [row]}
    data = json.loads(json.dumps(report.as_data(sections, run, moment, moment)))
    expected = report.page(sections, run, moment, moment)
    assert report.page(*report.from_data(data)) == expected
    page, results = tmp_path / "page.md", tmp_path / "results.json"
    page.write_text("<!-- begin benchmark -->\n<!-- end benchmark -->\n")
    results.write_text(json.dumps(data))
    report.write_docs(results, page)
    text = page.read_text()
    assert "### Limits of the machine" in text and "max_pool" in text and "# Benchmark" not in text
