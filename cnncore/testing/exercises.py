"""Exercises of the lecture with automatic marking: a file of the student's functions in, what is right and wrong out.

An exercise is a function with a known name. Its cases are chosen so that each common mistake fails a case of its own, whose
message says what went wrong and shows the window where.
"""

from __future__ import annotations

import ast
import json
import pathlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import read_file
from ..errors import CnnError, DataError, GradientError, SettingError
from ..operators.registry import OPS
from ..typing import FilePath
from .gradients import check_gradient

__all__ = ["EXERCISES", "Mark", "mark_file"]

KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)  # of a notebook
CLOSE = 1e-8  # relative and absolute: solutions compute in float64


class Mark(NamedTuple):
    """The mark of one exercise."""

    exercise: str
    passed: bool
    message: str  # what is wrong, or what was checked


class WrongError(Exception):
    """A case fails; the text is for the student."""


def mark_file(path: FilePath) -> list[Mark]:
    """Mark every exercise for which a file has a function.

    Parameters
    ----------
    path : path
        A Python file, or a notebook (.ipynb), of which the cells with functions and imports count. It is executed: mark only
        files that you would run.

    Returns
    -------
    list of Mark
        One per exercise found, in the order of ``EXERCISES``.

    Raises
    ------
    DataError
        The file cannot be read or executed.
    SettingError
        It has no function of an exercise.
    """
    content = read_file(path, "a Python file, or a notebook, with solutions")
    path = pathlib.Path(path)
    try:
        source = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as text ({error}); save it as UTF-8") from None
    if path.suffix == ".ipynb":
        source = notebook_source(path, source)
    functions: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(source, str(path), "exec"), functions)
    except Exception as error:
        raise DataError(f"{path}: {located(error, path)}") from None
    marks = []
    for name, (needed, cases) in EXERCISES.items():
        if name not in functions:
            continue
        missing = [other for other in needed if not callable(functions.get(other))]
        if missing:
            marks.append(Mark(name, False, f"the function {missing[0]} is missing"))
            continue
        marks.append(marked(name, cases, functions, path))
    if not marks:
        raise SettingError(f"{path}: has no function of an exercise; these are {', '.join(EXERCISES)}")
    return marks


def notebook_source(path: pathlib.Path, text: str) -> str:
    """The imports and definitions in the code cells of a notebook; what else they do is for the screen."""
    try:
        cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: is no notebook (a JSON file with a list of cells)") from None
    kept = []
    for i, cell in enumerate(cells, 1):
        lines = [line for line in cell.splitlines() if not line.lstrip().startswith(("%", "!"))]
        try:
            tree = ast.parse("\n".join(lines))
        except SyntaxError as error:
            raise DataError(f"{path}: code cell {i}, line {error.lineno}: SyntaxError: {error.msg}") from None
        kept += [ast.unparse(node) for node in tree.body if isinstance(node, KEPT)]
    return "\n\n".join(kept)


def marked(name: str, cases: Callable[..., Iterator[str]], functions: Mapping[str, Any], path: pathlib.Path) -> Mark:
    """The mark of one exercise: its cases until one fails."""
    checked = []
    try:
        for case in cases(functions):
            checked.append(case)
    except WrongError as error:
        return Mark(name, False, str(error))
    except Exception as error:  # in the student's function
        return Mark(name, False, located(error, path))
    return Mark(name, True, f"{len(checked)} cases: {', '.join(checked)}")


def located(error: BaseException, path: pathlib.Path) -> str:
    """An error with the line of the student's file in which it occurred."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    place = f"line {lines[-1]}: " if lines else ""
    return f"{place}{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def array_of(name: str, result: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """The result as an array of ``shape``, or what is wrong with it."""
    if result is None:
        raise WrongError(f"{name} returns None; is the return statement missing?")
    try:
        made = np.asarray(result, np.float64)
    except (TypeError, ValueError):
        raise WrongError(f"{name} returns {type(result).__name__}, which is no array of numbers") from None
    if made.shape != shape:
        raise WrongError(f"{name} returns an array of shape {made.shape}; expected {shape}")
    return made


# ── Max pooling's backward pass ──


POOLING_CASES = (
    (
        "windows side by side",
        [[1, 3, 2, 0], [4, 1, 1, 5], [0, 2, 7, 1], [3, 1, 2, 6]],
        (2, 2),
        "each dy belongs to the largest cell of its window, and to no other",
    ),
    (
        "numbers below 0",
        [[-4, -3, -9, -8], [-2, -7, -6, -5], [-1, -3, -2, -4], [-8, -6, -7, -9]],
        (2, 2),
        "the largest of negative numbers is the one nearest to 0; does a comparison begin at 0?",
    ),
    (
        "overlapping windows",
        [[1, 3, 2, 0], [4, 1, 1, 5], [0, 2, 7, 1], [3, 1, 2, 6]],
        (3, 1),
        "a cell that wins several windows gets the sum of their dy; is it assigned instead of added?",
    ),
    (
        "windows with gaps",
        [[9, 3, 2, 8, 1], [4, 1, 5, 6, 2], [7, 2, 7, 1, 3], [3, 1, 2, 6, 4], [1, 9, 5, 2, 8]],
        (1, 2),
        "window o begins at cell o · stride, not at o · kernel_size; cells between the windows get 0",
    ),
    (
        "ties",
        [[5, 5, 1, 2], [5, 5, 2, 2], [0, 0, 7, 3], [0, 0, 3, 7]],
        (2, 2),
        "of equal cells the first one in the order of the rows wins, alone",
    ),
    (
        "rows and columns left over",
        [[1, 3, 2, 0, 9], [4, 1, 1, 5, 9], [0, 2, 7, 1, 9], [3, 1, 2, 6, 9], [9, 9, 9, 9, 9]],
        (2, 2),
        "cells of no window get 0",
    ),
)


def max_pool_backward_cases(functions: Mapping[str, Any]) -> Iterator[str]:
    """Cases of ``max_pool_backward(x, dy, kernel_size, stride) → dx`` on one map (H, W)."""
    op = OPS["max_pool"]
    rng = np.random.default_rng(0)
    for case, rows, (kernel, stride), hint in POOLING_CASES:
        x = np.array(rows, np.float64)
        y, backward = op.with_backward(x[None, None], kernel_size=kernel, stride=stride)
        dy = rng.integers(1, 9, y.shape[2:]).astype(np.float64)
        expected = backward(dy[None, None])[0, 0]
        given = x.copy(), dy.copy()
        found = array_of("max_pool_backward", functions["max_pool_backward"](*given, kernel, stride), x.shape)
        if not (np.array_equal(given[0], x) and np.array_equal(given[1], dy)):
            raise WrongError(f"{case}: max_pool_backward changes x or dy; work on an array of your own")
        wrong = np.argwhere(~np.isclose(found, expected, rtol=CLOSE, atol=CLOSE))
        if len(wrong):
            raise WrongError(f"{case}: {hint}\n{window_text(x, dy, found, expected, tuple(wrong[0]), kernel, stride)}")
        yield case


def window_text(
    x: NDArray[Any],
    dy: NDArray[Any],
    found: NDArray[Any],
    expected: NDArray[Any],
    cell: tuple[int, ...],
    kernel: int,
    stride: int,
) -> str:
    """The first wrong cell, and the windows that contain it."""
    lines = [
        f"dx[{cell[0]}, {cell[1]}] is {found[cell]:g}, expected {expected[cell]:g} (kernel_size={kernel}, stride={stride})"
    ]
    for o in np.ndindex(dy.shape):
        top, left = o[0] * stride, o[1] * stride
        if top <= cell[0] < top + kernel and left <= cell[1] < left + kernel:
            window = x[top : top + kernel, left : left + kernel]
            numbers = "; ".join(" ".join(f"{v:g}" for v in row) for row in window)
            lines.append(f"  window of y[{o[0]}, {o[1]}], from x[{top}, {left}]: {numbers}   dy = {dy[o]:g}")
    return "\n".join(lines)


# ── A classifier as a convolutional network ──


def to_convolutional_cases(functions: Mapping[str, Any]) -> Iterator[str]:
    """Cases of ``to_convolutional(w1, w2, shape) → k1, k2``: kernels for two linear layers after maps of ``shape``."""
    conv, relu, linear = OPS["conv"], OPS["relu"], OPS["linear"]
    for channels, height, width in ((3, 4, 4), (2, 3, 5)):
        rng = np.random.default_rng(channels)
        w1, w2 = rng.normal(size=(6, channels * height * width)), rng.normal(size=(4, 6))
        made = functions["to_convolutional"](w1.copy(), w2.copy(), (channels, height, width))
        if not isinstance(made, tuple) or len(made) != 2:
            raise WrongError("to_convolutional must return two arrays, the kernels of both convolutions: return k1, k2")
        k1 = array_of("to_convolutional's first kernel", made[0], (6, channels, height, width))
        k2 = array_of("to_convolutional's second kernel", made[1], (4, 6, 1, 1))
        image = rng.normal(size=(1, channels, height + 2, width + 1))
        maps = conv(relu(conv(image, k1)), k2)
        for i, j in np.ndindex(maps.shape[2:]):
            window = image[:, :, i : i + height, j : j + width]
            scores = linear(relu(linear(window.reshape(1, -1), w1)), w2)[0]
            if not np.allclose(maps[0, :, i, j], scores, rtol=CLOSE, atol=CLOSE):
                raise WrongError(
                    f"maps of {channels}×{height}×{width}: the window from x[{i}, {j}] has the scores "
                    f"{np.round(scores, 3).tolist()}, yours are {np.round(maps[0, :, i, j], 3).tolist()}; flatten counts "
                    "columns fastest, then rows, then channels: reshape each row of w1 in this order"
                )
        yield f"{channels}×{height}×{width}"


# ── A strategy of one's own ──


def strategy_cases(functions: Mapping[str, Any]) -> Iterator[str]:
    """Cases of ``strategy(window) → number`` and ``strategy_gradient(window, dy)``, for windows (n,)."""
    strategy, gradient = functions["strategy"], functions["strategy_gradient"]

    def with_backward(x: NDArray[Any]) -> Any:
        y = array_of("strategy", strategy(x), ())
        return y, lambda dy: array_of("strategy_gradient", gradient(x, float(dy)), x.shape)

    rng = np.random.default_rng(0)
    drawn = [rng.uniform(0.2, 2.0, n) for n in (4, 1, 9)]
    for x in (*drawn, np.full(4, 2.0), np.zeros(4), np.array([1e3, 0.0, -1e3, 5.0])):
        y = array_of("strategy", strategy(x.copy()), ())
        if not np.isfinite(y):
            raise WrongError(f"strategy gives {y} for the window {x.tolist()}; it must be finite for every window")
    yield "finite"
    for name, known in (
        ("the maximum", np.max),
        ("the average", np.mean),
        ("the minimum", np.min),
        ("the sum", np.sum),
    ):
        if all(np.isclose(strategy(x.copy()), known(x)) for x in (*drawn, -drawn[0])):
            raise WrongError(f"strategy is {name}, which exists already; invent one of your own")
    yield "new"
    for x in drawn:
        try:
            check_gradient(with_backward, x)
        except GradientError as error:
            raise WrongError(
                f"strategy_gradient is not the derivative of strategy for the window {np.round(x, 3).tolist()}: "
                f"{str(error).splitlines()[0]}"
            ) from None
        except CnnError as error:
            raise WrongError(
                f"strategy has no derivative at {np.round(x, 3).tolist()}: {str(error).splitlines()[0]}"
            ) from None
        yield f"gradient of {len(x)} cell{'s' * (len(x) > 1)}"


# Name of the function that a solution must have → (all functions that belong to it, its cases).
EXERCISES: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Iterator[str]]]] = {
    "max_pool_backward": (("max_pool_backward",), max_pool_backward_cases),
    "to_convolutional": (("to_convolutional",), to_convolutional_cases),
    "strategy": (("strategy", "strategy_gradient"), strategy_cases),
}
