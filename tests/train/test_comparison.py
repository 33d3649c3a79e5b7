"""cnncore.compare: fair trainings, intervals that are those of statistics, tables and plots that say what was found."""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from scipy import stats

import cnncore
from cnncore.cli.main import main
from cnncore.errors import SettingError
from cnncore.models.variation import VariedGraph
from cnncore.train.comparison import Comparison, compare, confidence_interval
from cnncore.train.data import Dataset


def tiny(classes, channels, seed):
    g = VariedGraph()
    h = g.conv(g.input(channels), 4, 3, activation="relu", name="conv")
    h = g.max_pool(h, 2, name="pool")
    g.output(g.global_avg_pool(g.conv(h, classes, 1, name="classifier"), name="scores"))
    return g.build(seed)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pixels = (rng.random((60, 8, 8)) * 90 + 80 * labels[:, None, None]).astype(np.uint8)
    whole = Dataset(pixels, labels, ("dark", "grey", "light"), "shades")
    return whole.subset(np.arange(40)), whole.subset(np.arange(40, 60))


@pytest.fixture(scope="module")
def found(data):
    return compare(tiny, data, pooling=["max", "avg", "gem"], seeds=2, epochs=2, batch_size=16, augment=False)


def test_rows_are_what_the_networks_are(found):
    assert [row.name for row in found.rows] == ["max", "avg", "gem"] and found.seeds == (0, 1)
    assert [row.parameters for row in found.rows] == [55, 55, 56]  # gem learns its exponent
    assert all(len(row.accuracies) == 2 and row.images == 20 and row.seconds > 0 for row in found.rows)


def test_the_same_again_and_as_a_training_by_hand(found, data):
    again = compare(tiny, data, pooling=["max", "avg", "gem"], seeds=2, epochs=2, batch_size=16, augment=False)
    assert [row.accuracies for row in again.rows] == [row.accuracies for row in found.rows]
    trainer = cnncore.train.Trainer(tiny(3, 1, 1), cnncore.train.Adam(0.007, weight_decay=1e-4))
    trainer.fit(data[0], epochs=2, batch_size=16, schedule="one_cycle", seed=1)
    assert trainer.evaluate(data[1]).accuracy == found.rows[0].accuracies[1]


def test_tables_and_plot_say_the_same(found):
    text, rows = str(found), list(csv.DictReader(io.StringIO(found.to_csv())))
    read = json.loads(found.to_json())
    for row, line, entry in zip(found.rows, rows, read["rows"], strict=True):
        assert f"{row.accuracy:.2%}" in text and float(line["accuracy"]) == row.accuracy == entry["accuracy"]
        assert (float(line["low"]), float(line["high"])) == row.interval == tuple(entry["interval"])
    root = ElementTree.fromstring(found.to_svg())
    words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"max", "avg", "gem"} <= set(words) and len(root.findall(".//{*}circle")) == 6


def test_intervals_are_those_of_statistics():
    values = [0.91, 0.94, 0.93, 0.95]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    np.testing.assert_allclose(confidence_interval(values, 500), expected)
    low, high = confidence_interval([0.5], 100)
    assert low == pytest.approx(0.4038, abs=1e-3) and high == pytest.approx(0.5962, abs=1e-3)


def test_a_plot_of_equal_accuracies(found):
    row = found.rows[0]
    same = Comparison("pooling", (type(row)("max", 1, 1, 1.0, 1.0, (1.0, 1.0), 20),), "net", "data", 1, 1, (0, 1))
    ElementTree.fromstring(same.to_svg())


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "several of none"),
        ({"pooling": ["max", "avg"], "head": ["pooled", "dense"]}, "several of pooling and head"),
        ({"pooling": ["max", "maxx"]}, "did you mean 'max'"),
        ({"pooling": ["max", "avg"], "seeds": 0}, "seeds must be at least 1"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_trained(settings, text, data):
    with pytest.raises(SettingError, match=text):
        compare(tiny, data, **settings)


def test_on_the_command_line_with_a_strategy_of_a_file(tmp_path, capsys):
    (tmp_path / "least.py").write_text(
        "import cnncore\n\n@cnncore.pooling_strategy(vectorized=True)\nclass smallest_twin:\n"
        "    def forward(x): return x.min(-1)\n    def backward(x, y, dy): return dy * (x == y)\n"
    )
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "few.npz", images=rng.integers(0, 255, (40, 32, 32), np.uint8), labels=np.arange(40) % 4)
    call = [
        "compare",
        "--data",
        str(tmp_path / "few.npz"),
        "--pooling",
        "min,smallest_twin",
        "--import",
        str(tmp_path / "least.py"),
        "--network",
        "lenet",
    ]
    settings = ["--epochs", "1", "--seeds", "1", "--images", "24", "--output", str(tmp_path / "out"), "--quiet"]
    assert main([*call, *settings]) == 0
    said = capsys.readouterr().out
    assert "smallest_twin" in said and "24 images to train on" in said
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"]
    assert rows[0]["accuracies"] == rows[1]["accuracies"]  # the same strategy, in C and in Python
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"comparison.{e}" for e in ("txt", "csv", "json", "svg")}
