"""Branches that are off contribute nothing, stay off in training, and come back as they were."""

import numpy as np
import pytest

import cnncore
from cnncore.errors import DataError, GraphError
from cnncore.explorers import Answers, Switches

X = np.random.default_rng(0).normal(size=(12, 1, 16, 16)).astype(np.float32)
LABELS = np.arange(12) % 10


@pytest.fixture
def switches():
    return Switches(cnncore.models.small_inception(seed=0), X, LABELS, training=(X, LABELS))


def channels(switches, module):
    """Branch → whether any of its channels in the concatenation differs from 0."""
    name = f"{module}/concat"
    joined = switches.net.values(X, names=[name])[name]
    return {branch: bool(joined[:, found["channels"]].any()) for branch, found in switches.branches[module].items()}


@pytest.mark.parametrize("module", ["inception_1", "inception_4"])  # with and without normalisation
def test_only_the_branch_is_silent(switches, module):
    for branch in switches.branches[module]:
        switches.switch([(module, branch)])
        assert channels(switches, module) == {name: name != branch for name in switches.branches[module]}


def test_switching_on_restores_every_bit(switches):
    before = switches.probabilities(X)
    switches.switch([("inception_2", "5×5"), ("inception_3", "pool")])
    assert not np.array_equal(switches.probabilities(X), before)
    switches.switch([])
    np.testing.assert_array_equal(switches.probabilities(X), before)
    assert not switches.net.frozen


def test_training_leaves_off_what_is_off(switches):
    first = switches.probabilities(X)
    switches.switch([("inception_1", "3×3")])
    losses = [switches.step(batch=12) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert channels(switches, "inception_1") == {"1×1": True, "3×3": False, "5×5": True, "pool": True}
    switches.restart()
    switches.switch([])
    np.testing.assert_array_equal(switches.probabilities(X), first)


def test_how_strongly_a_branch_is_read(switches):
    """Without the weights that read a branch its strength is 0; that of the others is the same."""
    strength = {b["name"]: b["read"] for b in switches.modules()[3]["branches"]}
    part = switches.branches["inception_4"]["3×3"]["channels"]
    w = switches.net.parameters["classifier.w"].copy()
    w[:, part] = 0
    switches.net.parameters["classifier.w"] = w
    assert {b["name"]: b["read"] for b in switches.modules()[3]["branches"]} == {**strength, "3×3": 0.0}


def test_errors_name_what_there_is(switches):
    with pytest.raises(GraphError, match="inception_1, 3×3"):
        switches.switch([("inception_1", "7×7")])
    with pytest.raises(GraphError, match="no concatenation"):
        Switches(cnncore.models.lenet(seed=0), X, LABELS)
    with pytest.raises(DataError, match="training="):
        Switches(cnncore.models.small_inception(seed=0), X, LABELS).step()


def test_answers_about_a_net(switches):
    answers = Answers(switches)
    whole = answers.answer("branches", image=99)
    assert whole["image"] == len(X) - 1 and sum(whole["probabilities"]) == pytest.approx(1, abs=1e-3)
    off = answers.answer("branches", off=[["inception_1", "1×1"]], image=99)
    assert [b["on"] for b in off["modules"][0]["branches"]] == [False, True, True, True]
    assert off["probabilities"] != whole["probabilities"]
    right = answers.answer("accuracy", off=[], count=5)
    assert right == {"right": int((switches.net(X[:5]).argmax(1) == LABELS[:5]).sum()), "count": 5}
    assert answers.answer("train")["steps"] == 1
    assert answers.answer("train", restart=True) == {"steps": 0, "loss": None}
