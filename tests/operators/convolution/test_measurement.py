"""The fit of convolution's cost model to times, and what planted costs choose. Nothing here looks at a clock."""

import math

import pytest

from cnncore.operators.convolution import measurement
from cnncore.operators.convolution.implementation import algorithm_costs, cheapest_algorithm
from cnncore.operators.geometry import window
from cnncore.runtime.costs import BUILT_IN, LEAST, Costs

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

UNIT = 2e-11  # seconds per multiply-add of a machine that does not exist
CALLING = 3e-6


def times(**given):
    """What the cases take on a machine with these costs."""
    costs = {name: value for name, value in given.items() if name not in ("reading", "overlap")}
    seconds = {name: case.cost(reading=LEAST, **costs) * UNIT + CALLING for name, case in measurement.CASES.items()}
    read = given["reading"] * measurement.READ_CHANNELS**2 * UNIT
    waited = measurement.CASES["overlap"].cost(reading=given["reading"], overlap=given["overlap"]) * UNIT
    return seconds | {"reading": read + CALLING, "overlap": waited + CALLING, "calling": CALLING}


numbers = {
    "product": st.floats(0.5, 2.0),
    "transform": st.floats(2.0, 20.0),
    "reading": st.floats(3.0, 30.0),
    "overlap": st.floats(0.1, 1.0),
    "parities": st.floats(1.0, 3.0),
}


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.fixed_dictionaries(numbers))
def test_the_fit_finds_the_costs_that_made_the_times(costs):
    found = measurement.fitted(times(**costs))
    for name, value in costs.items():
        assert math.isclose(found[name], value, rel_tol=0.01), name
    assert math.isclose(found["direct_gflops"], 2e-9 / UNIT, rel_tol=1e-6)
    assert math.isclose(found["operation_ns"], 32e9 * UNIT, rel_tol=1e-6)


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.lists(st.floats(1e-7, 10.0), min_size=len(measurement.CASES), max_size=len(measurement.CASES)))
def test_no_times_whatever_lead_beyond_what_machines_can_be(seconds):
    found = measurement.fitted(dict(zip(measurement.CASES, seconds, strict=True)))
    costs = Costs(**{name: found[name] for name in numbers})
    most = measurement.MOST_RATIO
    for name in numbers.keys() - {"overlap"}:
        assert 1 / most <= getattr(costs, name) / getattr(BUILT_IN, name) <= most
    assert 0 < costs.overlap <= 1


def test_every_case_runs_as_it_is_described():
    found = measurement.measured()
    assert numbers.keys() <= found.keys()
    assert all(0 < value < math.inf for value in found.values())


# ── What costs choose ──────────────────────────────────────────────────────────────────────────────────────────────────


def layer(size, inputs, outputs, kernel=3, stride=1, costs=BUILT_IN):
    windows = window("conv", (size, size), (kernel, kernel), stride=stride, padding=kernel // 2)
    return algorithm_costs(windows, 1, inputs, outputs, costs=costs)


layers = st.tuples(
    st.integers(1, 64), st.integers(1, 300), st.integers(1, 300), st.sampled_from([3, 5]), st.sampled_from([1, 2])
)


@hypothesis.settings(max_examples=40)
@hypothesis.given(layers, st.sampled_from(sorted(numbers.keys() - {"overlap"})), st.floats(1.0, 4.0))
def test_whatever_costs_more_makes_no_algorithm_cheaper(of, name, factor):
    dearer = Costs(**{name: factor * getattr(BUILT_IN, name)})
    before, after = layer(*of), layer(*of, costs=dearer)
    assert before["direct"] == after["direct"] and before.keys() == after.keys()
    assert all(after[algorithm] >= before[algorithm] for algorithm in before)
    if cheapest_algorithm(before) == "direct":
        assert cheapest_algorithm(after) == "direct"


@hypothesis.settings(max_examples=40)
@hypothesis.given(layers, st.floats(0.1, 1.0), st.floats(0.0, 1.0))
def test_reading_that_is_waited_for_makes_no_algorithm_cheaper(of, overlap, part):
    before, after = (
        layer(*of, costs=Costs(overlap=overlap)),
        layer(*of, costs=Costs(overlap=max(LEAST, overlap * part))),
    )
    assert all(after[algorithm] >= before[algorithm] for algorithm in before)


@hypothesis.settings(max_examples=40)
@hypothesis.given(layers, st.fixed_dictionaries(numbers))
def test_the_choice_saves_a_tenth_or_is_direct(of, costs):
    found = layer(*of, costs=Costs(**costs))
    chosen = cheapest_algorithm(found)
    assert chosen == "direct" or found[chosen] < 0.9 * found["direct"]


@pytest.mark.parametrize(
    ("of", "costs", "usual", "other"),
    [
        ((56, 64, 192), {"product": 4.0}, "winograd_4x4", "direct"),
        ((56, 16, 16), {"transform": 24.0}, "winograd_4x4", "direct"),  # few channels: mostly transforms
        ((56, 192, 192), {"transform": 24.0}, "winograd_4x4", "winograd_4x4"),  # many channels: mostly products
        ((7, 384, 384), {"reading": 32.0}, "winograd_4x2", "direct"),  # few pixels: mostly reading
        ((14, 256, 256), {"overlap": 0.01, "reading": 16.0}, "winograd_4x4", "winograd_4x2"),  # fewer matrices are read
        ((56, 256, 256, 3, 2), {"parities": 4.0}, "winograd_4x4", "direct"),
    ],
)
def test_planted_costs_change_the_choice_that_depends_on_them(of, costs, usual, other):
    assert cheapest_algorithm(layer(*of)) == usual
    assert cheapest_algorithm(layer(*of, costs=Costs(**costs))) == other
