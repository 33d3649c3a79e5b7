"""A small data set and a short training on it, which the tests of all commands share."""

import pytest
from support.command_line import run, write_classes


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A small data set as a folder."""
    return write_classes(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="session")
def trained(tmp_path_factory, shapes):
    """(folder of a short training on the small data set, what it printed)."""
    place = tmp_path_factory.mktemp("trained")
    done = run("train", "--data", shapes, "--epochs", 3, "--batch-size", 8, "--output", "run", cwd=place)
    return place / "run", done
