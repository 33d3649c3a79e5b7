"""Marks: right solutions are right, and every planted mistake gets the message that is about it."""

import json
import re

import pytest
from support.command_line import fails, run_here
from support.processes import ROOT

from cnncore import DataError, SettingError
from cnncore.testing.exercises import EXERCISES, mark_file

RIGHT = """
import numpy as np

def max_pool_backward(x, dy, kernel_size, stride):
    dx = np.zeros_like(x)
    for i, j in np.ndindex(dy.shape):
        window = x[i * stride:i * stride + kernel_size, j * stride:j * stride + kernel_size]
        a, b = np.unravel_index(window.argmax(), window.shape)
        dx[i * stride + a, j * stride + b] += dy[i, j]
    return dx

def to_convolutional(w1, w2, shape):
    return w1.reshape(len(w1), *shape), w2[:, :, None, None]

def strategy(window):
    return np.sqrt(np.mean(window ** 2) + 1)

def strategy_gradient(window, dy):
    return dy * window / (len(window) * strategy(window))
"""
# (exercise, what is replaced, by what, what the message says)
POOL, CONVOLUTIONS = "max_pool_backward", "to_convolutional"
BEGIN_AT_0 = r"numbers below 0: .*\n.*\n  window of y\[0, 0\].*-4 -3; -2 -7"
CHANNELS_LAST = "reshape(len(w1), *shape[1:], shape[0]).transpose(0, 3, 1, 2)"
MISTAKES = [
    (POOL, "+= dy[i, j]", "= dy[i, j]", r"overlapping windows: .*assigned instead of added\?\ndx\[2, 2\] is"),
    (POOL, "window.argmax()", "np.maximum(window, 0).argmax()", BEGIN_AT_0),
    (POOL, "window.argmax()", "window.size - 1 - window[::-1, ::-1].argmax()", "ties: of equal cells the first"),
    (POOL, "a, b = np.unravel", "b, a = np.unravel", "windows side by side: each dy"),
    (POOL, "stride:i * stride", "kernel_size:i * kernel_size", "(overlapping windows|windows with gaps): "),
    (POOL, "return dx", "dx", r"returns None; is the return statement missing\?"),
    (POOL, "return dx", "return dx[None]", r"shape \(1, 4, 4\); expected \(4, 4\)"),
    (POOL, "return dx", "x[...] = 0; return dx", "changes x or dy"),
    (POOL, "window.shape)", "window.shpe)", "line 8: AttributeError: .*shpe"),
    (CONVOLUTIONS, "reshape(len(w1), *shape)", CHANNELS_LAST, "flatten counts columns fastest"),
    (CONVOLUTIONS, "[:, :, None, None]", "", r"second kernel .* shape \(4, 6\); expected \(4, 6, 1, 1\)"),
    ("strategy", "dy * window / (len(window)", "dy * window / (2", "not the derivative of strategy"),
    ("strategy", "np.sqrt(np.mean(window ** 2) + 1)", "window.max()", "strategy is the maximum, which exists already"),
    ("strategy", "np.mean(window ** 2) + 1", "np.mean(window ** 2) - 1", "must be finite for every window"),
    ("strategy", "def strategy_gradient", "def gradient", "the function strategy_gradient is missing"),
]


def marks_of(text, folder):
    path = folder / "solution.py"
    path.write_text(text, encoding="utf-8")
    return {mark.exercise: mark for mark in mark_file(path)}


def test_right_solutions(tmp_path):
    marks = marks_of(RIGHT, tmp_path)
    assert list(marks) == list(EXERCISES) and all(mark.passed for mark in marks.values()), marks


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize(("exercise", "old", "new", "message"), MISTAKES)
def test_planted_mistakes(exercise, old, new, message, tmp_path):
    assert old in RIGHT
    marks = marks_of(RIGHT.replace(old, new), tmp_path)
    assert not marks[exercise].passed, marks[exercise]
    assert re.search(message, marks[exercise].message), marks[exercise].message
    assert all(mark.passed for name, mark in marks.items() if name != exercise)


def test_files_that_cannot_be_marked(tmp_path):
    with pytest.raises(SettingError, match="has no function of an exercise; these are max_pool_backward"):
        marks_of("x = 1\n", tmp_path)
    with pytest.raises(DataError, match="line 2: SyntaxError"):
        marks_of("x = 1\ndef f(:\n", tmp_path)
    with pytest.raises(DataError, match="line 1: ZeroDivisionError"):
        marks_of("1 / 0\n", tmp_path)
    with pytest.raises(DataError, match="no such file; expected a Python file, or a notebook"):
        mark_file(tmp_path / "none.py")


def test_command(tmp_path):
    (tmp_path / "solution.py").write_text(RIGHT.replace("+= dy[i, j]", "= dy[i, j]"), encoding="utf-8")
    code, out, error = run_here(["grade", "solution.py"], tmp_path)
    assert (code, error) == (1, "")
    assert out.startswith("wrong  max_pool_backward: overlapping windows") and "right  to_convolutional: 2 cases" in out
    fails("grade", "none.py", cwd=tmp_path, match="none.py: no such file; expected a Python file, or a notebook")


# ── Notebooks ──


@pytest.mark.parametrize("name", EXERCISES)
def test_the_notebook_of_an_exercise_is_marked(name, tmp_path):
    """As handed out it is wrong; with the right functions in place of the empty ones it is right."""
    text = (ROOT / "docs" / "exercises" / f"{name}.ipynb").read_text(encoding="utf-8")
    path = tmp_path / f"{name}.ipynb"
    path.write_text(text, encoding="utf-8")
    (mark,) = mark_file(path)
    assert mark.exercise == name and not mark.passed
    written = json.loads(text)
    (cell,) = (c for c in written["cells"] if c["cell_type"] == "code" and f"def {name}(" in "".join(c["source"]))
    cell["source"] = ["%matplotlib inline\n", RIGHT]
    path.write_text(json.dumps(written), encoding="utf-8")
    marks = {mark.exercise: mark for mark in mark_file(path)}
    assert marks[name].passed, marks[name].message


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    path = tmp_path / "mine.ipynb"
    for text, message in (
        ("[1]", "is no notebook"),
        ('{"cells": [{"cell_type": "code", "source": "def"}]}', "code cell 1, line 1"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=f"mine.ipynb: {message}"):
            mark_file(path)
