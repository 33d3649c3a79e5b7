"""Test vectors and frameworks compared with them: the files are what they say, and planted faults are found."""

import hashlib
import json

import numpy as np
import pytest

import cnncore
from cnncore.cli.main import main
from cnncore.errors import DataError, MissingFileError, SettingError
from cnncore.testing import conformance

SOME = ["max_pool", "prelu", "dropout", "concat", "lp_pool", "arg_max", "random_mixed_pool"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors")
    assert main(["vectors", *SOME, "--output", str(path), "--quiet"]) == 0
    return path


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_files_hold_the_vectors_and_follow_their_schema(folder):
    written, computed = list(conformance.read_vectors(folder)), list(conformance.vectors(SOME))
    assert len(written) == len(computed) > 60 and {v.dtype for v in written} == {"float32", "float64"}
    for a, b in zip(written, computed, strict=True):
        assert str(a) == str(b) and a.names == b.names and a.differentiable == b.differentiable
        assert dict(a.settings) == {k: list(v) if isinstance(v, list) else v for k, v in b.settings.items()}
        for x, y in zip(
            (*a.arrays, *a.outputs, a.dy, *a.gradients), (*b.arrays, *b.outputs, b.dy, *b.gradients), strict=True
        ):
            assert (x is None) == (y is None)
            if x is not None:
                assert x.dtype == y.dtype
                np.testing.assert_array_equal(x, y)
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(*(json.loads((folder / name).read_text()) for name in ("vectors.json", "schema.json")))


def test_the_same_bytes_again(folder, tmp_path):
    conformance.write_vectors(tmp_path, SOME)
    assert digests(tmp_path) == digests(folder)


def test_every_vector_repeats_what_was_drawn():
    """An operator that draws gets the numbers as an array, so that another framework can do the same with them."""
    drawn = 0
    for name in ("dropout", "random_mixed_pool", "rank_stochastic_pool", "stochastic_pool", "rrelu"):
        for vector in conformance.vectors([name], ["float64"]):
            if vector.settings["training"]:
                assert dict(zip(vector.names, vector.arrays, strict=True))["state"] is not None, vector
                drawn += 1
    assert drawn >= 5


ADAPTER = """
import numpy as np

NAME = "planted"

def relu(s, x):
    y = np.maximum(x, 0)
    return y, lambda dy: dy * (x >= FROM)

def max_pool(s, x):
    raise NotImplementedError("not this one")

def prelu(s, x, a):
    raise RuntimeError("a fault")

FROM = 0
OPERATORS = {"relu": relu, "max_pool": max_pool, "prelu": prelu, "tanh": lambda s, x: SHIFT + np.tanh(x)}
"""


def test_a_file_is_a_framework_and_its_faults_are_named(tmp_path, capsys):
    path, results = tmp_path / "planted.py", tmp_path / "results.json"
    path.write_text(ADAPTER.replace("SHIFT", "0").replace("FROM = 0", "FROM = -9"))
    names = ["relu", "max_pool", "prelu", "tanh", "conv"]
    assert main(["conform", str(path), *names, "--json", str(results), "--dtype", "float64"]) == 1
    said = capsys.readouterr().out
    assert "dx[" in said and "elements differ)" in said and "RuntimeError: a fault" in said
    counts = {}
    for row in json.loads(results.read_text())["results"]:
        counts.setdefault(row["operator"], set()).add(row["verdict"])
    assert counts == {
        "relu": {"differs"},
        "max_pool": {"not expressible"},
        "prelu": {"fails"},
        "tanh": {"same"},
        "conv": {"not expressible"},
    }
    path.write_text(ADAPTER.replace("SHIFT", "1e-9"))
    assert main(["conform", str(path), "tanh", "--quiet"]) == 1  # in float64 that is no rounding
    assert main(["conform", str(path), "tanh", "--quiet", "--dtype", "float32"]) == 0
    assert main(["conform", str(path), "relu", "--quiet"]) == 0


def test_vectors_of_files_are_compared_as_those_computed(folder, tmp_path):
    own = conformance.Adapter(
        "cnncore",
        {name: (lambda op: lambda s, *arrays: op.with_backward(*arrays, **s))(cnncore.OPS[name]) for name in SOME},
    )
    found = conformance.conform(own, folder, operators=["max_pool", "prelu"])
    assert {r.verdict for r in found.results} == {"same"} and all(r.error == 0 and r.gradients for r in found.results)
    assert "2 of 2 operators" in str(found)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda f: conformance.conform("pytorch"), SettingError, "unknown framework 'pytorch'; did you mean 'torch'"),
        (
            lambda f: conformance.conform("none.py"),
            MissingFileError,
            "none.py: no such file; expected an adapter in Python",
        ),
        (lambda f: next(conformance.vectors(["max_poll"])), SettingError, "did you mean 'max_pool'"),
        (lambda f: next(conformance.vectors(["relu"], ["float16"])), SettingError, "unknown dtype 'float16'"),
        (lambda f: next(conformance.read_vectors(f / "nothing")), DataError, "`cnncore vectors` writes it"),
    ],
)
def test_what_cannot_be_compared_is_said(call, error, text, folder):
    with pytest.raises(error, match=text):
        call(folder)


@pytest.mark.parametrize("framework", ["jax", "keras"])
def test_adapters_of_frameworks_that_are_not_tested_elsewhere(framework):
    pytest.importorskip(framework)
    found = conformance.conform(framework, operators=["conv", "max_pool", "softmax", "gelu"], dtypes=["float32"])
    assert not found.differing and sum(r.verdict == "same" for r in found.results) > 20
