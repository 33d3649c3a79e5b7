"""Pooling strategies written in Python: two functions of a window's cells, applied to all windows of a layout by NumPy.

The compiled strategies' loop over windows (reference.pyx) has its counterpart here, so that whatever lays out windows
serves both. Nothing but the two functions is known of a strategy; what they return is checked where they return it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import DtypeError, ShapeError
from .implementation import Pooling, Strategy, rows_of_planes

__all__ = ["PythonPooling", "PythonStrategy", "WindowFunctions"]


@dataclass(frozen=True, eq=False)
class WindowFunctions:
    """What stands for the reference implementation of a strategy written in Python.

    ``forward(x, *learned, **settings)`` and ``backward(x, *learned, y, dy, **settings)`` take one window, x of shape (n,)
    and numbers, or with ``vectorized`` as many windows as have n cells: x of shape (windows, n), the others (windows, 1).
    ``takes`` has the names of the settings of forward and of backward.
    """

    name: str
    forward: Any
    backward: Any
    vectorized: bool
    learned: tuple
    takes: tuple

    saves = ("x", "y")
    requires = ""

    def values(self, x, learned, settings):
        """y of windows x (windows, n): one number each."""
        chosen = {name: settings[name] for name in self.takes[0]}
        if self.vectorized:
            found = self.forward(x, *(row[:, None] for row in learned), **chosen)
            return self._numbers("forward", "", found, (len(x),), x)
        y = np.empty(len(x), x.dtype)
        for i, cells in enumerate(x):
            found = self.forward(cells, *[row[i] for row in learned], **chosen)
            y[i] = found if isinstance(found, (float, np.floating)) else self._numbers("forward", "", found, (), cells)
        return y

    def gradients(self, x, learned, y, dy, settings):
        """[dx (windows, n), one array (windows,) for each learned number]."""
        chosen = {name: settings[name] for name in self.takes[1]}
        made = [np.empty(x.shape, x.dtype), *(np.empty(len(x), x.dtype) for _ in learned)]
        if self.vectorized:
            found = self.backward(x, *(row[:, None] for row in learned), y[:, None], dy[:, None], **chosen)
            for gradient, part in zip(made, self._parts(found, made, x), strict=True):
                gradient[...] = part
            return made
        for i, cells in enumerate(x):
            found = self.backward(cells, *[row[i] for row in learned], y[i], dy[i], **chosen)
            if not learned and isinstance(found, np.ndarray) and found.shape == cells.shape and found.dtype == x.dtype:
                made[0][i] = found  # as it should be: of every window, more looks would cost as much as it does
                continue
            for gradient, part in zip(made, self._parts(found, [m[i] for m in made], cells), strict=True):
                gradient[i] = part
        return made

    def _parts(self, found, expected, x):
        """What backward returned, part by part, in the shapes expected."""
        if not self.learned:
            found = (found,)
        names = ["x", *self.learned]
        if not isinstance(found, (tuple, list)) or len(found) != len(names):
            raise ShapeError(
                f"{self.name}: backward must return one gradient for each of {', '.join(names)}, as a tuple; it returned "
                f"{_described(found)}"
            )
        return [
            self._numbers("backward", f" for {name}", part, want.shape, x)
            for name, part, want in zip(names, found, expected, strict=True)
        ]

    def _numbers(self, function, what, found, shape, x):
        """``found`` as numbers of ``shape``; one number per window may have a last axis of 1."""
        array = np.asarray(found)
        if array.dtype.kind not in "fiub":
            raise DtypeError(
                f"{self.name}: {function} returned {_described(found)}{what}; expected an array of real numbers"
            )
        if array.shape != shape and array.shape != (*shape, 1):
            windows = "windows of shape (windows, n) =" if self.vectorized else "a window of shape"
            hint = "" if self.vectorized else "; functions of many windows at once need vectorized=True"
            raise ShapeError(
                f"{self.name}: {function} returned an array of shape {array.shape}{what} for {windows} {x.shape}; expected "
                f"{shape if shape else 'one number'}{hint}"
            )
        return array.reshape(shape)


def _described(found):
    return f"an array of {found.dtype}" if isinstance(found, np.ndarray) else f"{type(found).__name__} {found!r:.60}"


@dataclass(frozen=True, eq=False)
class PythonStrategy(Strategy):
    """A strategy whose reference is a :class:`WindowFunctions`; ``schema`` is the class of its operators."""

    schema: Any = Strategy.schema

    def on(self, scheme):
        return PythonPooling(self, scheme)


@dataclass(frozen=True)
class PythonPooling(Pooling):
    """A strategy written in Python on the windows of a scheme."""

    def infer(self, op, shapes, dtype, settings):
        output, described = super().infer(op, shapes, dtype, settings)
        return output, described._replace(plain=None)  # that is the way of compiled strategies alone

    def _run_parts(self, call, parts, x, values, positions, learned, state, first_image):
        functions, channels = self.strategy.reference, x.shape[1]
        ran = []
        for part in parts:
            y, planes = part.of_y(values, channels), _planes(part.of_x(x))
            numbers = _learned_rows(learned, part, len(planes), x.dtype)
            found = np.zeros((len(planes), y[0, 0].size), x.dtype)
            for places, cells in part.windows.groups:
                if cells.shape[1]:
                    rows = planes[:, cells].reshape(-1, cells.shape[1])
                    of_rows = [np.repeat(row, len(places)) for row in numbers]
                    found[:, places] = functions.values(rows, of_rows, call.settings).reshape(len(planes), -1)
            y[...] = found.reshape(y.shape)
            ran.append((part, numbers))
        return tuple(ran)

    def _backward_part(self, call, windows, numbers, x, y, dy, dx, gradient, add, learns):
        functions = self.strategy.reference
        planes, of_y, of_dy = _planes(x), y.reshape(-1, y[0, 0].size), dy.reshape(-1, dy[0, 0].size)
        found = np.zeros(planes.shape, dx.dtype)
        if gradient is not None:
            gradient[...] = 0
        for places, cells in windows.groups:
            n = cells.shape[1]
            if not n:
                continue
            rows = planes[:, cells].reshape(-1, n)
            of_rows = [np.repeat(row, len(places)) for row in numbers]
            given = (of_y[:, places].reshape(-1), of_dy[:, places].reshape(-1))
            made = functions.gradients(rows, of_rows, *given, call.settings)
            np.add.at(found, (slice(None), cells), made[0].reshape(len(planes), len(places), n))
            for column, part in enumerate(made[1:]):
                gradient[:, column] += part.reshape(len(planes), -1).sum(1, dtype=np.float64)
        if add:
            dx += found.reshape(dx.shape)
        else:
            dx[...] = found.reshape(dx.shape)


def _planes(x):
    """Images and channels as rows of cells."""
    return x.reshape(x.shape[0] * x.shape[1], -1)


def _learned_rows(learned, part, planes, dtype):
    """For each learned number, its value in every plane of a part."""
    if learned is None:
        return []
    return [np.tile(column, planes // len(column)) for column in rows_of_planes(learned, part).astype(dtype).T]
