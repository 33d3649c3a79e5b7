"""Metrics by name: against scikit-learn, or by hand; of classes, maps, labels and numbers."""

import numpy as np
import pytest

import cnncore
from cnncore import SettingError
from cnncore.train import METRICS, EarlyStopping, Trainer

metrics = pytest.importorskip("sklearn.metrics")

OF = {kind: [name for name, metric in METRICS.items() if metric.of == kind] for kind in ("counts", "scores", "values")}


def net_that_returns(channels, rank=0, kind=None):
    """A net that returns its input, so that predictions can be chosen."""
    g = cnncore.Graph()
    g.output(g.identity(g.input(channels=channels, rank=rank)))
    net = g.build(dtype="float64")
    if kind is not None:
        net.output_kind = kind
    return net


def found(net, y, target, names, **settings):
    return Trainer(net, metrics=names, **settings).evaluate(y, target).metrics


def of_classes(right, given):
    """The metrics of counts by scikit-learn."""
    score = {"average": "macro", "zero_division": 0}
    return {
        "accuracy": metrics.accuracy_score(right, given),
        "balanced_accuracy": metrics.recall_score(right, given, labels=np.unique(right), **score),
        "macro_precision": metrics.precision_score(right, given, **score),
        "macro_recall": metrics.recall_score(right, given, **score),
        "macro_f1": metrics.f1_score(right, given, **score),
        "micro_f1": metrics.f1_score(right, given, average="micro"),
        "iou": metrics.jaccard_score(right, given, **score),
    }


def test_classes_are_scored_as_by_scikit_learn(rng):
    y, right = rng.standard_normal((200, 8)), rng.integers(0, 6, 200)  # classes 6 and 7 never occur, but are predicted
    y[:, 7] -= 9  # and class 7 is not even that
    expected = of_classes(right, y.argmax(axis=1))
    assert found(net_that_returns(8), y, right, OF["counts"]) == pytest.approx(expected, rel=1e-12)
    one_hot = np.eye(8)[right]
    assert found(net_that_returns(8), y, one_hot, OF["counts"]) == pytest.approx(expected, rel=1e-12)
    for k in (3, 5):
        top = metrics.top_k_accuracy_score(right, y, k=k, labels=range(8))
        assert found(net_that_returns(8), y, right, [f"top{k}"])[f"top{k}"] == pytest.approx(top)


def test_of_equal_scores_the_lower_class_comes_first():
    y, right = np.zeros((6, 6)), np.arange(6)
    assert found(net_that_returns(6), y, right, ["top3", "top5"]) == pytest.approx({"top3": 0.5, "top5": 5 / 6})


def test_every_position_of_a_map_counts_unless_it_is_ignored(rng):
    y, right = rng.standard_normal((3, 4, 5, 6)), rng.integers(0, 4, (3, 5, 6))
    right[rng.random(right.shape) < 0.2] = -100
    kept = right >= 0
    expected = of_classes(right[kept], y.argmax(axis=1)[kept])
    assert found(net_that_returns(4, 2), y, right, OF["counts"]) == pytest.approx(expected, rel=1e-12)
    top = metrics.top_k_accuracy_score(right[kept], np.moveaxis(y, 1, -1)[kept], k=3)
    assert found(net_that_returns(4, 2), y, right, ["top3"])["top3"] == pytest.approx(top)


def test_labels_that_are_independent(rng):
    y, right = rng.standard_normal((100, 5)), (rng.random((100, 5)) < 0.4).astype(np.float64)
    expected = of_classes(right, (y > 0).astype(float))
    expected["accuracy"] = float(
        (right == (y > 0)).mean()
    )  # every label counts, not only rows that are right throughout
    result = found(net_that_returns(5), y, right, OF["counts"], loss="binary_cross_entropy")
    expected["balanced_accuracy"] = expected["macro_recall"]
    assert result == pytest.approx(expected, rel=1e-12)
    mask = (rng.random((3, 1, 4, 4)) < 0.5).astype(np.float64)
    y = rng.standard_normal(mask.shape)
    iou = ((y > 0) & (mask > 0)).sum() / ((y > 0) | (mask > 0)).sum()
    assert found(net_that_returns(1, 2), y, mask, "iou", loss="binary_cross_entropy") == {"iou": pytest.approx(iou)}


@pytest.mark.parametrize("shape", [(50, 3), (50, 1), (50,)])
def test_numbers_are_scored_as_by_scikit_learn(rng, shape):
    y = rng.standard_normal((50, shape[1] if len(shape) > 1 else 1))
    target = y.reshape(shape) + 0.3 * rng.standard_normal(shape)
    expected = {
        "mean_absolute_error": metrics.mean_absolute_error(target, y),
        "mean_squared_error": metrics.mean_squared_error(target, y),
        "root_mean_squared_error": metrics.mean_squared_error(target, y) ** 0.5,
        "r2": metrics.r2_score(target, y),
    }
    trainer = Trainer(net_that_returns(y.shape[1], kind="values"), loss="mean_squared_error", metrics=OF["values"])
    criterion = trainer.criteria[0]
    result = cnncore.train.metrics.measured(trainer.metrics, criterion, y, target)
    assert result == pytest.approx(expected, rel=1e-12)


def test_functions_are_metrics(rng):
    y, right = rng.standard_normal((20, 3)), rng.integers(0, 3, 20)

    def surprise(probabilities, target):
        return -np.log(probabilities[np.arange(len(target)), target]).mean()

    checked = Trainer(net_that_returns(3), metrics=[surprise, "accuracy"]).evaluate(y, right)
    assert checked.metrics == {"surprise": pytest.approx(checked.loss), "accuracy": checked.accuracy}
    named = Trainer(net_that_returns(3), metrics={"bits": lambda p, t: surprise(p, t) / np.log(2)}).evaluate(y, right)
    assert named.metrics == {"bits": pytest.approx(checked.loss / np.log(2))}


def test_a_metric_that_is_not_defined_says_what_it_needs(rng):
    y = rng.standard_normal((9, 2))
    text = r"the metric 'macro_f1' needs targets that are classes.*values \(9, 2\).*float64 \(9, 2\).*r2"
    with pytest.raises(SettingError, match=text):
        found(net_that_returns(2, kind="values"), y, y + 1, "macro_f1", loss="mean_squared_error")
    with pytest.raises(SettingError, match="the metric 'r2' needs numbers"):
        found(net_that_returns(2), y, np.zeros(9, int), "r2")


def test_training_stops_by_a_metric(rng, tmp_path):
    g = cnncore.Graph()
    g.output(g.linear(g.input(channels=4, rank=0), 3))
    x, y = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    trainer = Trainer(g.build(seed=0, dtype="float64"), metrics=["macro_f1"])
    stopping = EarlyStopping(2, "macro_f1")
    trainer.fit(x, y, epochs=12, validation=(x, y), callbacks=[stopping])
    values = [epoch.validation_metrics["macro_f1"] for epoch in trainer.history]
    assert stopping.best == max(values) and trainer.evaluate(x, y).metrics["macro_f1"] == max(values)
    cnncore.train.write_history(tmp_path / "history", trainer.history)
    assert (tmp_path / "history.csv").read_text().startswith("epoch,") and "validation_macro_f1" in (
        tmp_path / "history.csv"
    ).read_text()
    with pytest.raises(SettingError, match="give Trainer"):
        Trainer(trainer.net).fit(x, y, epochs=1, validation=(x, y), callbacks=[EarlyStopping(2, "iou")])
