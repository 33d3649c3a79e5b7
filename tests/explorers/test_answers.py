"""What explorers show is what the operators compute."""

import json

import numpy as np
import pytest

import cnncore
from cnncore.explorers import Answers
from cnncore.explorers.answers import GRID, SCHEMES

ANSWERS = Answers()
X = (np.arange(36) * 7 % 11 + 1).reshape(6, 6).tolist()
SETTINGS = {
    "kernel": {"kernel_size": 3, "stride": 2, "padding": 1},
    "adaptive": {"output_size": 2},
    "global": {},
    "pyramid": {},
    "fractional": {"output_size": 3, "kernel_size": 2},
    "s3": {"kernel_size": 2, "stride": 2},
}


def ask(question, **request):
    """An answer as a page gets it: through JSON."""
    return json.loads(json.dumps(ANSWERS.answer(question, **request), allow_nan=False))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pooling_of_every_strategy(scheme):
    """y is the operator's, the gradient stays inside the window, and a place outside y is moved inside."""
    strategies = [s for s, windows in ask("choices")["strategies"].items() if scheme in windows]
    assert {"max", "avg", "stochastic"} <= set(strategies)
    for strategy in strategies:
        answer = ask("pooling", x=X, strategy=strategy, scheme=scheme, settings=SETTINGS[scheme], at=[9, 1])
        op, shown = GRID.pairs[strategy, scheme], np.array(answer["y"])
        if not any(array.name != "x" and not array.optional for array in op.arrays):
            y = op(np.array(X, float)[None, None], **SETTINGS[scheme])
            np.testing.assert_allclose(shown.ravel(), y.ravel(), atol=1e-4)
        dx, window = np.array(answer["dx"]), np.array(answer["window"])
        assert window.any() and not dx[~window].any(), strategy
        assert answer["at"] == [len(shown) - 1, min(1, shown.shape[1] - 1)]
        assert answer["call"].startswith(f"cnncore.{op.name}(x")


def test_learned_strategies_begin_with_their_initial_values():
    mixed, largest, mean = (
        np.array(ask("pooling", x=X, strategy=s, scheme="kernel", settings=SETTINGS["kernel"], at=[0, 0])["y"])
        for s in ("mixed", "max", "avg")
    )
    inner = (slice(1, None), slice(1, None))  # padding counts in the mean, not in the mixture
    np.testing.assert_allclose(mixed[inner], (largest[inner] + mean[inner]) / 2, atol=1e-4)


@pytest.mark.parametrize("transposed", [False, True])
def test_convolution_has_both_gradients_and_its_sum(transposed):
    w, settings = [[1.0, 0, -1], [2, 0, -2], [1, 0, -1]], {"stride": 2, "padding": 1, "dilation": 1}
    answer = ask("convolution", x=X, w=w, transposed=transposed, settings=settings, at=[1, 1])
    op = cnncore.conv_transpose if transposed else cnncore.conv
    y, backward = op.with_backward(np.array(X, float)[None, None], np.array(w)[None, None], **settings)
    dy = np.zeros_like(y)
    dy[0, 0, 1, 1] = 1
    for found, expected in zip((answer["y"], answer["dx"], answer["dw"]), (y, *backward(dy)[:2]), strict=True):
        np.testing.assert_allclose(found, expected[0, 0], atol=1e-4)
    assert sum(a * b for a, b in answer["sum"]) == pytest.approx(y[0, 0, 1, 1], abs=1e-3)


def test_slopes_are_those_of_the_curves():
    names = ask("choices")["activations"].keys()
    assert {"sigmoid", "tanh", "relu", "leaky_relu", "elu"} <= names
    for name in names - {"sign_straight_through"}:  # whose slope is another one on purpose
        answer = ask("activation", name=name, at=0.5)
        numeric = np.gradient(np.array(answer["y"], float), answer["x"])
        assert np.sum(np.abs(numeric - np.array(answer["slope"], float)) > 0.1) <= 8, name  # beside kinks and jumps


@pytest.mark.parametrize(
    ("question", "request_", "words"),
    [
        ("pooling", {"x": X, "strategy": "max", "scheme": "kernel", "settings": {"kernel_size": 9}, "at": [0, 0]}, "9"),
        ("pooling", {"x": X, "strategy": "gated", "scheme": "global", "settings": {}, "at": [0, 0]}, "gated"),
        ("activation", {"name": "rellu", "at": 0}, "relu"),
        ("branches", {}, "net"),
        ("pool", {}, "pooling"),
    ],
)
def test_an_error_is_an_answer(question, request_, words):
    assert words in ask(question, **request_)["error"]


def test_numbers_that_json_lacks_are_text():
    x = [[1e308, 1e308], [1e308, 1e308]]
    answer = ask("pooling", x=x, strategy="sum", scheme="global", settings={}, at=[0, 0])
    assert answer["y"] == [["∞"]]
