"""Where the tests run: the tree, the build, other packages, and processes of their own."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

import cnncore

TESTS = pathlib.Path(__file__).resolve().parent.parent
ROOT = TESTS.parent

# The address sanitizer keeps freed memory for a while and needs much address space: what measures those is skipped.
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
# Builds that look for errors take ten times as long.
SLOW = SANITIZED or os.environ.get("CNNCORE_DEBUG", "0") not in ("", "0")
# References would train for an hour what kernels train in a minute: where they are forced, they read what kernels trained.
TRAINING_TARGET = cnncore.cpu.targets()[-1] if cnncore.cpu.target() == "reference" else cnncore.cpu.target()


def package_folder(name):
    """The folder of an installed package, found without importing it; without the package the test is skipped."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"needs the package {name}: pip install --no-deps {name.replace('_', '-')}")
    return pathlib.Path(found.submodule_search_locations[0])


def run_python(source, *arguments, timeout=60, check=True, **environment):
    """Run Python source in a process of its own, with this process's cnncore; return the finished process."""
    result = subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
    )
    if check:
        assert result.returncode == 0, f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result
