"""Bulk work and sweeps: the same bits in one process and several, what was interrupted goes on, failures are named."""

import csv
import hashlib
import os
import pathlib
import signal
import sys

import numpy as np
import pytest
from support.processes import SANITIZED

import cnncore
from cnncore.cli.main import main
from cnncore.distributed import extract, sweep, tasks
from cnncore.errors import DataError, SettingError
from cnncore.vision.classify import Classifier
from cnncore.vision.images import write_png


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, and images of two sizes, one of them damaged and one too small for it."""
    place = tmp_path_factory.mktemp("bulk")
    net = cnncore.models.small_inception(seed=0)
    net.metadata = {"classes": [str(k) for k in range(10)]}
    net.save(place / "model.safetensors")
    (place / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(9):
        write_png(place / "images" / f"{number}.png", rng.integers(0, 256, (28, 28 + number % 2), dtype=np.uint8))
    (place / "images" / "5.png").write_bytes(b"no picture")
    write_png(place / "images" / "7.png", np.zeros((1, 1), np.uint8))
    return place


def files_of(place):
    return sorted((place / "images").iterdir())


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def run(place, folder, **settings):
    return extract(place / "model.safetensors", files_of(place), folder, shard_size=4, **settings)


def test_predictions_are_those_of_the_classifier(place, tmp_path):
    done = run(place, tmp_path)
    assert (len(done.shards), done.computed, done.images) == (3, 3, 9)
    assert [(pathlib.Path(name).name, bool(error)) for name, error in done.failed] == [("5.png", True), ("7.png", True)]
    assert [row[0] for row in csv.reader((tmp_path / "failed.csv").open())][1:] == [name for name, _ in done.failed]
    classifier = Classifier.from_file(place / "model.safetensors")
    for path in done.shards:
        shard = np.load(path)
        for name, probabilities in zip(shard["files"].tolist(), shard["probabilities"], strict=True):
            np.testing.assert_array_equal(probabilities, classifier.classify(name).probabilities)


@pytest.mark.parametrize(
    "settings", [{"what": "features", "node": "average"}, {"what": "maps"}], ids=lambda s: s["what"]
)
def test_features_and_maps(place, tmp_path, settings):
    classifier = Classifier.from_file(place / "model.safetensors")
    if "node" in settings:
        settings["node"] = next(n.path for n in classifier.net.graph.nodes if n.op.name == "global_avg_pool")
    done = run(place, tmp_path, **settings)
    shard = np.load(done.shards[0])
    names = shard["files"].tolist()
    assert len(names) == 4
    for number, name in enumerate(names):
        value = shard["values"][number] if "values" in shard else shard[f"value_{number}"]
        prediction = classifier.classify(name)
        if settings["what"] == "maps":
            np.testing.assert_array_equal(value, classifier.activation_map(prediction))
        else:
            x = classifier.prepared(prediction.pixels)
            node = settings["node"]
            np.testing.assert_allclose(value, classifier.net.values(x, names=[node])[node][0], rtol=1e-4, atol=1e-5)


def test_what_is_there_is_not_computed_again(place, tmp_path):
    first = run(place, tmp_path)
    before = digests(tmp_path)
    first.shards[1].unlink()
    again = run(place, tmp_path)
    assert again.computed == 1 and again.failed == first.failed and digests(tmp_path) == before
    with pytest.raises(SettingError, match="holds an extraction with other what"):
        run(place, tmp_path, what="maps")
    first.shards[0].write_bytes(b"half")
    with pytest.raises(DataError, match="not a shard"):
        run(place, tmp_path)


@pytest.mark.parametrize("settings", [{}, {"what": "features", "node": "average"}, {"what": "maps"}], ids=str)
def test_tables_hold_what_arrays_hold(place, tmp_path, settings):
    table_of = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install pyarrow").read_table
    if "node" in settings:
        net = cnncore.load(place / "model.safetensors")
        settings = {**settings, "node": next(n.path for n in net.graph.nodes if n.op.name == "global_avg_pool")}
    arrays = run(place, tmp_path / "npz", **settings)
    tables = run(place, tmp_path / "parquet", format="parquet", **settings)
    assert tables.failed == arrays.failed and digests(tmp_path / "parquet") != digests(tmp_path / "npz")
    for npz, path in zip(arrays.shards, tables.shards, strict=True):
        expected, table = np.load(npz), table_of(path)
        rows = table.to_pylist()
        good = [row for row in rows if row["error"] is None]
        assert [row["file"] for row in good] == expected["files"].tolist()
        assert [(row["file"], row["error"]) for row in rows[len(good) :]] == list(
            zip(expected["failed"].tolist(), expected["errors"].tolist(), strict=True)
        )
        stacked = next((expected[key] for key in ("probabilities", "values") if key in expected), None)
        for number, row in enumerate(good):
            value = expected[f"value_{number}"] if stacked is None else stacked[number]
            np.testing.assert_array_equal(np.array(row["values"], value.dtype).reshape(row["shape"]), value)
            if "classes" in expected and "what" not in settings:
                assert row["class"] == expected["classes"][value.argmax()]
    again = run(place, tmp_path / "parquet", format="parquet", **settings)
    assert again.computed == 0 and again.failed == tables.failed
    with pytest.raises(SettingError, match="holds an extraction with other format"):
        run(place, tmp_path / "parquet", **settings)


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes")
def test_tables_hold_names_of_any_bytes(place, tmp_path):
    table_of = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install pyarrow").read_table
    names = [os.fsdecode(os.fsencode(str(tmp_path)) + name) for name in (b"/caf\xe9.png", b"/bad\xe9.png")]
    write_png(names[0], np.zeros((28, 28), np.uint8))
    pathlib.Path(names[1]).write_bytes(b"no picture")
    done = extract(place / "model.safetensors", names, tmp_path / "out", format="parquet")
    good, bad = table_of(done.shards[0]).to_pylist()
    assert good["file"].endswith(r"caf\xe9.png") and good["error"] is None
    assert bad["file"].endswith(r"bad\xe9.png") and bad["error"] and done.failed == ((bad["file"], bad["error"]),)


@pytest.mark.skipif(SANITIZED, reason="starts processes")
def test_workers_give_the_same_files(place, tmp_path):
    run(place, tmp_path / "one")
    run(place, tmp_path / "two", workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_dask_gives_the_same_files(place, tmp_path):
    distributed = pytest.importorskip("dask.distributed", reason="needs Dask: pip install distributed")
    run(place, tmp_path / "one")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        run(place, tmp_path / "dask", scheduler=cluster.scheduler_address)
    assert digests(tmp_path / "one") == digests(tmp_path / "dask")


def test_the_command(place, tmp_path, capsys):
    assert (
        main(["extract", str(place / "model.safetensors"), str(place / "images"), "--output", str(tmp_path / "o")]) == 0
    )
    assert "predictions of 9 images, 2 of them failed" in capsys.readouterr().out
    assert (
        main(["extract", str(place / "model.safetensors"), "nowhere", "--output", str(tmp_path / "p"), "--node", "x"])
        == 2
    )
    assert "x" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"what": "labels"}, "what is 'labels'"),
        ({"what": "features"}, "features are those of a node"),
        ({"node": "conv"}, "features are those of a node"),
        ({"what": "features", "node": "nothing"}, "unknown node"),
        ({"workers": 0}, "workers"),
        ({"format": "csv"}, "format is 'csv'"),
    ],
)
def test_impossible_extractions(place, tmp_path, settings, message):
    with pytest.raises(cnncore.CnnError, match=message):
        run(place, tmp_path, **settings)


# ── Sweeps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def counted(a, b, log):
    """A figure; every call leaves a mark."""
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"{a}{b}\n")
    if (a, b) == (2, "x"):
        raise ValueError("no such thing")
    return {"sum": a + len(b)}


def test_failures_are_results_and_nothing_is_computed_twice(tmp_path):
    log = tmp_path / "log"
    grid = {"a": [1, 2], "b": ["x", "yy"], "log": [str(log)]}
    table = sweep(counted, grid, tmp_path / "sweep")
    assert [row.get("sum") for row in table] == [2, 3, None, 4]
    assert "ValueError: no such thing" in table[2]["error"] and table[0]["error"] is None
    assert sweep(counted, grid, tmp_path / "sweep") == table
    assert len(log.read_text().split()) == 4
    more = sweep(counted, grid | {"a": [1, 2, 3]}, tmp_path / "sweep")
    assert [row.get("sum") for row in more] == [2, 3, None, 4, 4, 5] and len(log.read_text().split()) == 6
    rows = list(csv.DictReader((tmp_path / "sweep" / "table.csv").open()))
    assert [row["sum"] for row in rows] == ["2", "3", "", "4", "4", "5"]


def fatal(number):
    """Number 1 kills its process."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.skipif(SANITIZED or not hasattr(signal, "SIGKILL"), reason="kills processes")
def test_killed_processes_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "MOST_ATTEMPTS", 2)
    table = sweep(fatal, {"number": [0, 1]}, tmp_path / "sweep", workers=2)
    assert [row.get("result") for row in table] == [0, None]
    assert "died 2 times" in table[1]["error"]


def test_impossible_sweeps(tmp_path):
    with pytest.raises(SettingError, match="must be plain"):
        sweep(counted, {"a": [object()]}, tmp_path)
    with pytest.raises(SettingError, match="twice"):
        sweep(counted, {"a": [1, 1]}, tmp_path)
