"""Backward passes compared with numerical derivatives: the full Jacobian if it is small, otherwise random projections."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import seed_number
from ..errors import DtypeError, GradientError, KinkError, KinkWarning, SettingError
from ..operators.operator import Op
from ..operators.pooling.implementation import Grid
from ..typing import Seed
from .numerical import STEPS, Curve, Derivatives, differentiate, one_sided

__all__ = ["GradientError", "KinkError", "KinkWarning", "check_gradient"]

# The full Jacobian of an argument is computed up to this many inputs, outputs, and entries; above, random projections.
WHOLE_SIDE = 1024
WHOLE_ENTRIES = 2**16
PROJECTIONS = 3
# A numerical derivative is trusted if scipy's error estimate is at most this fraction of the tolerance.
TRUST = 0.1
# A kink between the nodes can mislead that estimate: before a gradient is reported as wrong, a second derivative with
# steps that are shorter by this factor has to agree with the first, to a small fraction of the gradient's error.
SECOND_LOOK = 0.4
AGREEMENT = 0.1
# If kinks are too close to the point, it is moved by these multiples of the reach, to where steps of these lengths fit
# between them (a net of some thousand ReLUs has one about every 1e-4 of the way).
BESIDE = tuple(sign * 5e-5 * k for k in range(1, 17) for sign in (1, -1))
STEPS_BESIDE = (1e-4, 3e-5, 1e-5, 3e-6)


def check_gradient(
    function: Any,
    *arrays: ArrayLike | None,
    step: float | None = None,
    tolerance: float = 1e-8,
    seed: Seed = 0,
    method: str = "auto",
    **settings: Any,
) -> float:
    """Check a backward pass against numerical derivatives; return the largest relative error found.

    Parameters
    ----------
    function : Op, net, or callable
        An operator of the registry; a net (its parameters are checked too); or any ``function(*arrays, **settings)`` that
        returns ``(y, backward)``, where ``backward(dy)`` returns one gradient per float array, a single one bare. Of several
        outputs the first is differentiated.
    *arrays : float64 arrays
        Where to check. Integer arrays and None are passed on and not differentiated.
    step : float, optional
        Half width of the difference formula relative to the values; by default it is found by the error estimates.
    tolerance : float, default 1e-8
        Largest error allowed, relative to the largest element of the argument's Jacobian. It is never widened: a numerical
        derivative counts only if its own error estimate is at most a tenth of the tolerance.
    seed : int or numpy.random.Generator, default 0
        Seed of the random directions. A ``function`` with a setting of this name receives it too.
    method : "auto", "jacobian" or "projection"
        "jacobian": every ∂y[i]/∂x[j], and one random dy for the sum over outputs. "projection": with random dy and v,
        ⟨dy, J v⟩ = ⟨Jᵀdy, v⟩, three times for each argument; a wrong backward passes with probability 0. "auto": the
        Jacobian of arguments where it has at most 1024 rows, 1024 columns and 65536 entries, projection of larger ones.
    **settings
        Passed to ``function``.

    Returns
    -------
    float
        The largest error, relative to the largest element of the argument's Jacobian.

    Warns
    -----
    KinkWarning
        Elements are not at a kink, but closer to one than differences can resolve, as happens in nets with many ReLUs
        and max poolings. The warning names them; they were checked at a nearby point, moved by less than 1e-3 of the
        array's typical size.

    Raises
    ------
    GradientError
        Backward is wrong (names the first wrong element: both values, their ratio, and what it looks like), returns
        gradients of the wrong number, shape or dtype, changes its arguments, or gives something else when called again;
        or the function is random, or too noisy to differentiate.
    KinkError
        The derivative does not exist: an element is at a kink, a tie or a jump.
    DtypeError
        An array is not float64: differences of float32 values are too coarse.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> x = np.array([[[1., 5., 2., 7.]]])
    >>> cnncore.testing.check_gradient(cnncore.max_pool, x, kernel_size=2) < 1e-8
    True
    >>> def square(x):
    ...     return x**2, lambda dy: x * dy          # forgets the 2
    >>> cnncore.testing.check_gradient(square, x)   # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    GradientError: square: gradient of x is wrong at x[0, 0, 0] …
    """
    seed = seed_number("check_gradient", "seed", seed)
    if method not in ("auto", "jacobian", "projection"):
        raise SettingError(f"check_gradient: method must be 'auto', 'jacobian' or 'projection', got {method!r}")
    if not 0 < tolerance < 1:
        raise SettingError(f"check_gradient: tolerance must lie between 0 and 1, got {tolerance!r}")
    subject = _subject(function, arrays, settings, seed)
    # Running statistics of a net, which training passes replace.
    state = dict(getattr(function, "buffers", {})) if subject.parameters else {}
    try:
        return _check(subject, STEPS if step is None else (float(step),), tolerance, seed, method)
    finally:
        for name, array in state.items():
            function.state[name] = array


# ── What is checked: an operator, a net, or a callable, in one form ───────────────────────────────────────────────────


class _Subject:
    """A function of the arrays in ``arrays`` (its own copies, which may be modified), with names for messages."""

    def __init__(
        self,
        place: str,
        call: Callable[..., Any],
        names: list[str],
        arrays: list[Any],
        differentiable: list[int],
        value: Callable[..., Any] | None = None,
        parameters: tuple[str, ...] = (),
    ) -> None:
        self.place = place
        self.call = call  # *arrays → (outputs, backward)
        self.names = names
        self.arrays = arrays
        self.differentiable = differentiable  # numbers of the arrays that have a gradient
        self.inputs = len(arrays) - len(parameters)
        self.parameters = parameters  # names; their arrays, last in ``arrays``, are changed in place
        self.plain = value

    def with_backward(self) -> tuple[NDArray[Any], Callable[[NDArray[Any]], list[NDArray[Any]]]]:
        """y, and the function that takes dy to the gradients of the differentiable arrays."""
        returned = self.call(*self.arrays[: self.inputs])
        if not (isinstance(returned, tuple) and len(returned) == 2 and callable(returned[1])):
            raise SettingError(
                f"check_gradient: {self.place} must return the pair (y, backward), got {type(returned).__name__}"
            )
        y, backward = returned
        return _first(y), lambda dy: self._gradients(backward, dy)

    def value(self) -> NDArray[Any]:
        """y alone."""
        inputs = self.arrays[: self.inputs]
        return _first(self.plain(*inputs) if self.plain is not None else self.call(*inputs)[0])

    def _gradients(self, backward: Any, dy: NDArray[Any]) -> list[NDArray[Any]]:
        returned = backward(dy)
        gradients = list(returned) if isinstance(returned, (tuple, list)) else [returned]
        floats = [i for i in self.differentiable if i < self.inputs]
        if len(gradients) == self.inputs != len(floats):
            gradients = [gradients[i] for i in floats]
        if len(gradients) != len(floats):
            raise GradientError(
                f"{self.place}: backward returned {len(gradients)} gradients for {len(floats)} differentiable arrays "
                f"({', '.join(self.names[i] for i in floats)})"
            )
        gradients += [backward.gradients[name] for name in self.parameters]
        for i, g in zip(self.differentiable, gradients, strict=True):
            name, array = self.names[i], self.arrays[i]
            if g is None:
                raise GradientError(f"{self.place}: backward returned None as the gradient of {name}")
            if np.shape(g) != array.shape:
                raise GradientError(
                    f"{self.place}: the gradient of {name} has shape {np.shape(g)}; {name} is {array.shape}"
                )
            if np.asarray(g).dtype != array.dtype:
                raise GradientError(
                    f"{self.place}: the gradient of {name} is {np.asarray(g).dtype}; {name} is {array.dtype}"
                )
        return [np.array(g) for g in gradients]


def _first(y: Any) -> NDArray[Any]:
    # A copy: y may be x itself, or a view of it, and x moves.
    return np.array(y[0] if isinstance(y, tuple) else y)


def _own_arrays(place: str, names: Sequence[str], arrays: Any) -> list[Any]:
    owned: list[Any] = []
    for name, array in zip(names, arrays, strict=True):
        if array is None:
            owned.append(None)
            continue
        array = np.array(array, order="C")
        if array.dtype.kind == "f" and array.dtype != np.float64:
            raise DtypeError(
                f"check_gradient({place}): {name} is {array.dtype}; numerical derivatives need float64: "
                f"use {name}.astype('float64')"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise SettingError(f"check_gradient({place}): {name} holds values that are not finite")
        owned.append(array)
    return owned


def _subject(function: Any, arrays: Sequence[Any], settings: dict[str, Any], seed: int) -> _Subject:
    if isinstance(function, Grid):
        chosen = {choice: settings.pop(choice) for choice in function.choices if choice in settings}
        function = function.operator(**chosen)
    if isinstance(function, Op):
        return _operator_subject(function, arrays, settings, seed)
    if hasattr(function, "with_backward") and isinstance(getattr(function, "parameters", None), Mapping):
        return _net_subject(function, arrays, settings)
    if not callable(function):
        raise SettingError(
            f"check_gradient: expected an operator, a net, or a callable that returns (y, backward), got {function!r}"
        )
    place = getattr(function, "__name__", type(function).__name__)
    try:
        known = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        known = {}
    names = [p.name for p in known.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][: len(arrays)]
    names += [f"array {i}" for i in range(len(names), len(arrays))]
    if "seed" in known and "seed" not in names:
        settings = {"seed": seed, **settings}
    owned = _own_arrays(place, names, arrays)
    floats = [i for i, a in enumerate(owned) if a is not None and a.dtype.kind == "f"]
    return _Subject(place, lambda *given: function(*given, **settings), names, owned, floats)


def _operator_subject(op: Op, arrays: Any, settings: Mapping[str, Any], seed: int) -> _Subject:
    if "seed" in op.settings:
        settings = {"seed": seed, **settings}
    bound, call = op.bind(arrays, dict(settings))  # settings may follow the arrays by position, arrays come by name
    rows = op.rows(len(bound))
    names = [row.name for row in rows]
    if op.variadic:
        first = len(op.arrays) - 1
        names[first:] = [f"{rows[first].name}[{i}]" for i in range(len(bound) - first)]
    owned = _own_arrays(op.name, names, bound)
    return _Subject(
        op.name,
        lambda *given: op.with_backward(*given, **call.settings),
        names,
        owned,
        [i for i, needs_gradient in enumerate(op.needs_gradient(owned)) if needs_gradient],
        value=lambda *given: op(*given, **call.settings),
    )


def _net_subject(net: Any, arrays: Any, settings: Mapping[str, Any]) -> _Subject:
    names = ["x"] if len(arrays) == 1 else [f"input {i}" for i in range(len(arrays))]
    owned = _own_arrays("net", names, arrays)
    frozen = getattr(net, "frozen", ())
    parameters = tuple(name for name in net.parameters if name not in frozen)
    for name in parameters:
        if net.parameters[name].dtype != np.float64:
            raise DtypeError(
                f"check_gradient(net): parameter {name} is {net.parameters[name].dtype}; numerical derivatives need float64: "
                "use net.astype('float64'), or build with dtype='float64'"
            )
    if "step" in inspect.signature(net.with_backward).parameters:
        settings = {"step": 0, **settings}  # the same random numbers in every pass

    def call(*given: Any) -> tuple[Any, Callable[..., Any]]:
        # All outputs as one vector, so that each of them is checked.
        y, backward = net.with_backward(*given, **settings)
        outputs = y if isinstance(y, tuple) else (y,)
        ends = np.cumsum([output.size for output in outputs])[:-1]

        def backward_of_all(dy: NDArray[Any]) -> Any:
            parts = np.split(dy, ends) if isinstance(y, tuple) else [dy]
            dxs = backward(*(part.reshape(output.shape) for part, output in zip(parts, outputs, strict=True)))
            backward_of_all.gradients = backward.gradients  # type: ignore[attr-defined]  # as of a net's backward
            return dxs

        return np.concatenate([output.ravel() for output in outputs]) if isinstance(y, tuple) else y, backward_of_all

    return _Subject(
        "net",
        call,
        names + [f"parameter {name}" for name in parameters],
        owned + [net.parameters[name] for name in parameters],
        [i for i, a in enumerate(owned) if a.dtype.kind == "f"] + [len(owned) + i for i in range(len(parameters))],
        parameters=parameters,
    )


# ── The check ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _check(subject: _Subject, steps: Sequence[float], tolerance: float, seed: int, method: str) -> float:
    rng = np.random.default_rng(seed)
    y, backward = subject.with_backward()
    if y.dtype != np.float64:
        raise GradientError(f"{subject.place}: y is {y.dtype} for float64 arrays")
    if not np.isfinite(y).all():
        raise SettingError(f"check_gradient({subject.place}): y holds values that are not finite")
    if not np.array_equal(y, subject.value()):
        raise GradientError(
            f"{subject.place}: the same arrays gave two different y, so there is nothing to differentiate. Is it random? "
            "Fix its seed or state"
        )
    dy = rng.standard_normal(y.shape)
    if (dy > 0).all():  # backward is linear in dy, and a single number shows that only where it is negative
        dy = -dy
    gradients = _conduct(subject, backward, dy)
    largest = 0.0
    for i, gradient in zip(subject.differentiable, gradients, strict=True):
        x = subject.arrays[i]
        if not x.size or not y.size:
            if np.any(gradient):
                raise GradientError(f"{subject.place}: y is empty, but the gradient of {subject.names[i]} is not 0")
            continue
        whole = method == "jacobian" or (method == "auto" and _small(x, y))
        compare = _compare_jacobian if whole else _compare_projections
        largest = max(largest, compare(subject, i, y, backward, dy, gradient, steps, tolerance, rng))
    return largest


def _small(x: NDArray[Any], y: NDArray[Any]) -> bool:
    """Whether the Jacobian of y in x is small enough to be computed whole."""
    return max(x.size, y.size) <= WHOLE_SIDE and x.size * y.size <= WHOLE_ENTRIES


def _conduct(subject: _Subject, backward: Any, dy: NDArray[Any]) -> list[NDArray[Any]]:
    """Gradients for dy, after checking that backward modifies nothing and is repeatable."""
    before = [None if a is None else a.copy() for a in subject.arrays]
    given = dy.copy()
    gradients = backward(given)
    if not np.array_equal(given, dy):
        raise GradientError(f"{subject.place}: backward changed dy")
    for name, array, old in zip(subject.names, subject.arrays, before, strict=True):
        if old is not None and not np.array_equal(array, old):
            raise GradientError(f"{subject.place}: forward or backward changed {name}")
    for i, first, second in zip(subject.differentiable, gradients, backward(dy.copy()), strict=True):
        if not np.isfinite(first).all():
            at = _first_index(~np.isfinite(first))
            raise GradientError(
                f"{subject.place}: the gradient of {subject.names[i]} is {first[at]} at {_element(subject.names[i], at)}"
            )
        if not np.array_equal(first, second):
            raise GradientError(
                f"{subject.place}: backward called twice with the same dy gave two different gradients of {subject.names[i]}"
            )
    return gradients


def _reach(x: NDArray[Any]) -> NDArray[Any]:
    """The length to which steps along each element are relative: its size, but at least that of a typical element of
    its array.
    """
    typical = float(np.sqrt(np.mean(np.square(x)))) or 1.0
    return np.maximum(np.abs(x.ravel()), typical)


def _along(
    subject: _Subject, i: int, outcome: Callable[[NDArray[Any]], Any], directions: NDArray[Any] | None = None
) -> Curve:
    """The curve t ↦ outcome(y) as array i moves by t along element j, or along directions[j]."""
    x = subject.arrays[i]
    start = x.copy()

    def curve(j: int, t: float) -> Any:
        try:
            if directions is None:
                x.flat[j] = start.flat[j] + t
            else:
                x[...] = start + t * directions[j].reshape(x.shape)
            return outcome(subject.value())
        finally:
            if directions is None:
                x.flat[j] = start.flat[j]
            else:
                x[...] = start

    return curve


def _compare_jacobian(
    subject: _Subject,
    i: int,
    y: NDArray[Any],
    backward: Any,
    dy: NDArray[Any],
    gradient: NDArray[Any],
    steps: Sequence[float],
    tolerance: float,
    rng: np.random.Generator,
) -> float:
    """Every entry of the argument's Jacobian, then the gradient for a dense dy."""
    jacobian = _Jacobian(subject, i, y, backward, steps, tolerance)
    jacobian.check_settled()
    moved, largest = jacobian.check_beside()
    _warn_of_kinks(subject, moved, jacobian.x.size)
    jacobian.check_sum(dy, gradient)
    return max(largest, _largest(jacobian.given, jacobian.found))


class _Jacobian:
    """The Jacobian of array i: ``given`` by backward, a row for each element of y, and ``found`` numerically."""

    def __init__(
        self, subject: _Subject, i: int, y: NDArray[Any], backward: Any, steps: Sequence[float], tolerance: float
    ) -> None:
        self.subject, self.i, self.y, self.steps, self.tolerance = subject, i, y, steps, tolerance
        self.x, self.name = subject.arrays[i], subject.names[i]
        self.curve, self.reach, self.magnitude = _along(subject, i, np.ravel), _reach(self.x), np.abs(y).max()
        position = subject.differentiable.index(i)
        self.given = np.empty((y.size, self.x.size))
        one = np.zeros(y.shape)
        for k in range(y.size):
            one.flat[k] = 1
            self.given[k] = backward(one.copy())[position].ravel()
            one.flat[k] = 0
        scale = np.abs(self.given).max(initial=0)
        self.found = differentiate(self.curve, self.x.size, self.reach, self.magnitude, TRUST * tolerance, scale, steps)

    def line(self, j: int, steps: Sequence[float]) -> _Line:
        """The curve along element j of x."""
        return _Line(lambda t: self.curve(j, t), self.reach[j], self.magnitude, self.found.scale, self.tolerance, steps)

    def element(self, j: int) -> str:
        return _element(self.name, _unravel(j, self.x))

    def output(self, k: int) -> str:
        return _element("y", _unravel(k, self.y))

    def check_settled(self) -> None:
        """Compare where there is a numerical derivative; one that a second does not confirm is too close to a kink."""
        given, found = self.given, self.found
        wrong = found.settled & _differs(given, found.value, found, self.tolerance)
        for j in np.flatnonzero(wrong.any(axis=0)).tolist():
            confirmed = wrong[:, j] & self.line(j, self.steps).confirms(given[:, j], found.value[:, j])
            if confirmed.any():
                self.report(wrong, j, int(np.flatnonzero(confirmed)[0]))
            found.settled[wrong[:, j], j] = False
            wrong[:, j] = False

    def report(self, wrong: NDArray[Any], j: int, k: int) -> NoReturn:
        """Raise an error about element j of x and k of y, with hints from all wrong elements."""
        given, found, x = self.given, self.found, self.x
        where = wrong.any(axis=0).reshape(x.shape)
        raise GradientError(
            f"{self.subject.place}: gradient of {self.name} is wrong at {self.element(j)}: backward gives "
            f"∂{self.output(k)}/∂{self.name} = {given[k, j]:.9g}, the numerical derivative is "
            f"{found.value[k, j]:.9g} ± {found.error[k, j]:.1g}"
            + _hint(given, np.where(found.settled, found.value, np.nan), where, wrong, x.shape)
            + f". {np.count_nonzero(where)} of {x.size} elements are wrong"
        )

    def check_beside(self) -> tuple[list[str], float]:
        """Compare the remaining elements next to their kinks: (names of these elements, largest error)."""
        given, found = self.given, self.found
        moved, largest = [], 0.0
        for j in np.flatnonzero(~found.settled.all(axis=0)).tolist():
            _raise_kink(self.subject, self.i, self.curve, self.reach, found.settled, self.y, j)
            line = self.line(j, STEPS_BESIDE)
            t, value, column = line.beside(partial(_column, self.subject, self.i, j))
            if value is None:
                k = int(np.flatnonzero(~found.settled[:, j])[0])
                doubt = found.error[k, j] + found.bend[k, j]
                raise GradientError(
                    _unsettled(self.subject, self.output(k), self.element(j), found.value[k, j], doubt, given[k, j])
                )
            off = ~line.equal(column, value)
            if off.any():
                k = int(np.flatnonzero(off)[0])
                raise GradientError(
                    f"{self.subject.place}: gradient of {self.name} is wrong at {self.element(j)}, moved by {t:.1g} off a "
                    f"kink: backward gives ∂{self.output(k)}/∂{self.name} = {column[k]:.9g}, the numerical derivative is "
                    f"{value[k]:.9g}" + _ratio(column[k], value[k])
                )
            moved.append(self.element(j))
            largest = max(largest, line.error(column, value))
            # The point itself has no numerical derivative; in the sum over outputs the value from backward is used.
            found.value[:, j] = given[:, j]
        return moved, largest

    def check_sum(self, dy: NDArray[Any], gradient: NDArray[Any]) -> None:
        """Compare the gradient for a dense dy: the sum over all outputs."""
        found = self.found
        expected = (np.ravel(dy) @ found.value).reshape(self.x.shape)
        # Each of y.size terms may have an error of the tolerance; with random dy their sum grows like a random walk.
        allowed = self.tolerance * found.scale * np.sqrt(self.y.size) + float(found.floor.max()) * np.abs(dy).sum()
        off = np.abs(gradient - expected) > allowed
        if off.any():
            at = _first_index(off)
            raise GradientError(
                f"{self.subject.place}: gradient of {self.name} is wrong at {_element(self.name, at)} for a dense dy: "
                f"backward gives {gradient[at]:.9g}, the sum over all outputs is "
                f"{expected[at]:.9g}{_ratio(gradient[at], expected[at])}; for a dy with a single non-zero element it is right, "
                "so gradients of several outputs (overlapping windows) are not added up"
            )


def _column(subject: _Subject, i: int, j: int, t: float) -> NDArray[Any]:
    """Column j of array i's Jacobian by backward, with element j moved by t."""
    x = subject.arrays[i]
    start = x.flat[j]
    try:
        x.flat[j] = start + t
        y, backward = subject.with_backward()
        one = np.zeros(y.shape)
        column = np.empty(y.size)
        position = subject.differentiable.index(i)
        for k in range(y.size):
            one.flat[k] = 1
            column[k] = backward(one.copy())[position].flat[j]
            one.flat[k] = 0
        return column
    finally:
        x.flat[j] = start


class _Line:
    """A curve through a point with kinks nearby: a second derivative, and points next to the kinks."""

    def __init__(
        self,
        curve: Callable[[float], Any],
        reach: float,
        magnitude: float,
        scale: float,
        tolerance: float,
        steps: Sequence[float],
    ) -> None:
        self.curve, self.reach, self.magnitude = curve, float(reach), magnitude
        self.scale, self.tolerance, self.steps = scale, tolerance, steps

    def derivatives(self, at: float, steps: Sequence[float]) -> Derivatives:
        return differentiate(
            lambda _, t: self.curve(at + t),
            1,
            np.array([self.reach]),
            self.magnitude,
            TRUST * self.tolerance,
            self.scale,
            steps,
        )

    def confirms(self, given: Any, value: Any, at: float = 0.0) -> NDArray[Any]:
        """Where a second numerical derivative agrees with ``value``, which differs from ``given``."""
        second = self.derivatives(at, [SECOND_LOOK * step for step in self.steps])
        with np.errstate(invalid="ignore"):
            off = np.abs(second.value[:, 0] - value) + second.error[:, 0] + second.bend[:, 0]
            return off <= 2 * AGREEMENT * np.abs(given - value)

    def equal(self, given: Any, value: Any) -> NDArray[Any]:
        small = (np.abs(given) <= self.floor) & (np.abs(value) <= self.floor)
        return (np.abs(given - value) <= self.tolerance * self.scale) | small

    def error(self, given: Any, value: Any) -> float:
        """The largest, relative to the Jacobian's largest element; 0 where rounding alone makes values."""
        floor = self.floor
        small = (np.abs(given) <= floor) & (np.abs(value) <= floor)
        return float(np.where(small, 0, np.abs(given - value)).max() / self.scale) if self.scale else 0.0

    def beside(self, given: Callable[[float], NDArray[Any]]) -> tuple[float, Any, Any]:
        """(t, numerical derivative, ``given(t)``) at the first t without a kink nearby; otherwise derivative None."""
        for multiple in BESIDE:
            t = multiple * self.reach
            found = self.derivatives(t, self.steps)
            if found.settled.all():
                self.floor = found.floor[0]
                value, there = found.value[:, 0], given(t)
                off = ~self.equal(there, value)
                if (~off | self.confirms(there, value, t)).all():
                    return t, value, there
        return 0.0, None, None


def _warn_of_kinks(subject: _Subject, elements: Sequence[str], of: int) -> None:
    if elements:
        named = ", ".join(elements[:3]) + (" …" if len(elements) > 3 else "")
        what = f"{len(elements)} of {of} elements lie" if len(elements) > 1 else f"1 of {of} elements lies"
        warnings.warn(
            f"{subject.place}: {what} so close to a kink that differences cannot tell on which side ({named}): checked "
            "beside it",
            KinkWarning,
            stacklevel=5,
        )


def _differs(given: Any, value: Any, found: Derivatives, tolerance: float) -> NDArray[Any]:
    """Where the given and the numerical derivative disagree: values below the rounding error count as 0."""
    small = (np.abs(given) <= found.floor) & (np.abs(value) <= found.floor)
    return (np.abs(given - value) > tolerance * found.scale) & ~small


def _largest(given: Any, found: Derivatives) -> float:
    if found.scale == 0:
        return 0.0
    error = np.where(found.settled, np.abs(given - found.value), 0)
    small = (np.abs(given) <= found.floor) & (np.abs(found.value) <= found.floor)
    return float(np.where(small, 0, error).max() / found.scale)


def _compare_projections(
    subject: _Subject,
    i: int,
    y: NDArray[Any],
    backward: Any,
    dy: NDArray[Any],
    gradient: NDArray[Any],
    steps: Sequence[float],
    tolerance: float,
    rng: np.random.Generator,
) -> float:
    """⟨dy, J v⟩ = ⟨Jᵀdy, v⟩ with random dy and v; on a mismatch, the first element of x that causes it."""
    x = subject.arrays[i]
    position = subject.differentiable.index(i)
    largest = 0.0
    for trial in range(PROJECTIONS):
        if trial:
            dy = rng.standard_normal(y.shape)
            gradient = backward(dy.copy())[position]
        v = rng.standard_normal((1, x.size))
        v[v == 0] = 1
        projection = _Projection(subject, i, y, dy, gradient.ravel(), v, steps, tolerance)
        found, given = projection.compare()
        if found.settled.all() and _differs(given, found.value, found, tolerance).any():
            if projection.line(found, steps).confirms(given[0], found.value[0]).all():
                projection.report()
            found.settled[...] = False
        if not found.settled.all():
            projection.raise_kink()
            largest = max(largest, projection.check_beside(found, given))
        else:
            largest = max(largest, _largest(given, found))
    return largest


class _Projection:
    """One random projection of array i's Jacobian, and what is needed to locate an error."""

    def __init__(
        self,
        subject: _Subject,
        i: int,
        y: NDArray[Any],
        dy: NDArray[Any],
        gradient: NDArray[Any],
        v: NDArray[Any],
        steps: Sequence[float],
        tolerance: float,
    ) -> None:
        self.subject, self.i, self.y, self.dy, self.gradient = subject, i, y, dy, gradient
        self.v, self.steps, self.tolerance = v, steps, tolerance
        self.x, self.name = subject.arrays[i], subject.names[i]
        self.reach = float(np.sqrt(np.mean(np.square(self.x)))) or 1.0

    def compare(self, elements: slice = slice(None)) -> tuple[Derivatives, NDArray[Any]]:
        """Numerical and given derivative along v restricted to ``elements``."""
        v = np.zeros_like(self.v)
        v[:, elements] = self.v[:, elements]
        curve = _along(self.subject, self.i, lambda y: [np.vdot(self.dy, y)], v)
        terms = self.gradient * v[0]
        found = differentiate(
            curve,
            1,
            np.array([self.reach]),
            float(np.linalg.norm(self.dy * self.y)),
            TRUST * self.tolerance,
            float(np.linalg.norm(terms)),
            self.steps,
        )
        return found, np.array([[terms.sum()]])

    def narrow(self, guilty: Callable[[slice], bool]) -> int:
        """The first element of x for which guilty(elements) is true, by bisection: it is true for all of them together."""
        low, high = 0, self.x.size
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if guilty(slice(low, middle)) else (middle, high)
        return low

    def wrong(self, elements: slice) -> bool:
        """Whether the derivatives differ by more than the error of the numerical one."""
        found, given = self.compare(elements)
        doubt = 0 if found.settled.all() else 2 * (found.error + found.bend)
        differs = np.abs(given - found.value) > doubt + self.tolerance * found.scale
        return bool((differs & _differs(given, found.value, found, self.tolerance)).any())

    def line(self, found: Derivatives, steps: Sequence[float]) -> _Line:
        """The whole direction as a curve."""
        curve = _along(self.subject, self.i, lambda y: [np.vdot(self.dy, y)], self.v)
        magnitude = float(np.linalg.norm(self.dy * self.y))
        return _Line(lambda t: curve(0, t), self.reach, magnitude, found.scale, self.tolerance, steps)

    def given_at(self, t: float) -> NDArray[Any]:
        """The derivative along v by backward, with x moved by t·v."""
        start = self.x.copy()
        try:
            self.x += t * self.v.reshape(self.x.shape)
            _, backward = self.subject.with_backward()
            gradient = backward(self.dy.copy())[self.subject.differentiable.index(self.i)]
            return np.array([np.vdot(gradient, self.v)])
        finally:
            self.x[...] = start

    def check_beside(self, found: Derivatives, given: Any) -> float:
        """Compare at a point moved along v, without a kink nearby; return the error there."""
        line = self.line(found, STEPS_BESIDE)
        t, value, there = line.beside(self.given_at)
        if value is None:
            where = f"{self.name} along a random direction"
            doubt = (found.error + found.bend)[0, 0]
            raise GradientError(
                _unsettled(self.subject, "⟨dy, y⟩", where, found.value[0, 0], doubt, given[0, 0]),
            )
        if not line.equal(there, value).all():
            raise GradientError(
                f"{self.subject.place}: gradient of {self.name} is wrong: with random dy and v, {self.name} moved by "
                f"{t:.1g} v off a kink, backward gives ⟨dx, v⟩ = {there[0]:.9g}, the numerical derivative is "
                f"{value[0]:.9g}{_ratio(there[0], value[0])}"
            )
        return line.error(there, value)

    def report(self) -> NoReturn:
        j = self.narrow(self.wrong)
        # The neighbourhood of the wrong element and a sample of the others indicate the kind of error.
        sample = np.unique(np.r_[j, np.linspace(0, self.x.size - 1, min(self.x.size, 128)).astype(int)])
        curve = _along(self.subject, self.i, lambda y: [np.vdot(self.dy, y)])
        found = differentiate(
            lambda k, t: curve(sample[k], t),
            len(sample),
            _reach(self.x)[sample],
            float(np.linalg.norm(self.dy * self.y)),
            TRUST * self.tolerance,
            float(np.abs(self.gradient).max()),
            self.steps,
        )
        given = self.gradient[None, sample]
        wrong = found.settled & _differs(given, found.value, found, self.tolerance)
        where = np.zeros(self.x.size, bool)
        where[sample] = wrong[0]
        place = int(np.searchsorted(sample, j))
        raise GradientError(
            f"{self.subject.place}: gradient of {self.name} is wrong at {_element(self.name, _unravel(j, self.x))}: with "
            f"random dy, backward gives {self.gradient[j]:.9g}, the numerical derivative is {found.value[0, place]:.9g} "
            f"± {found.error[0, place]:.1g}"
            + _hint(given, np.where(found.settled, found.value, np.nan), where.reshape(self.x.shape), wrong, None)
            + f". Of {len(sample)} elements looked at {np.count_nonzero(wrong)} are wrong"
        )

    def raise_kink(self) -> None:
        """Raise KinkError if an element of x is itself at a kink."""
        along = _along(self.subject, self.i, lambda y: [np.vdot(self.dy, y)], self.v)
        below, above, sided = one_sided(along, 0, self.reach)
        bend, size = abs(below[0] - above[0]), float(np.linalg.norm(self.dy * self.y))
        slight = bend <= 1e-5 * max(abs(below[0]), abs(above[0]))
        if sided[0] and (slight or not _bends_at_once(lambda t: along(0, t)[0], bend, size, self.reach)):
            return  # a kink of any element would be one along v too
        j = self.narrow(lambda elements: not self.compare(elements)[0].settled.all())
        curve = _along(self.subject, self.i, np.ravel)
        reach = _reach(self.x)
        found = differentiate(
            lambda _, t: curve(j, t), 1, reach[j : j + 1], np.abs(self.y).max(), TRUST * self.tolerance, 0.0, self.steps
        )
        settled = np.ones((self.y.size, self.x.size), bool)
        settled[:, j] = found.settled[:, 0]
        if not found.settled.all():
            _raise_kink(self.subject, self.i, curve, reach, settled, self.y, j)


# ── Diagnosis ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _raise_kink(
    subject: _Subject, i: int, curve: Curve, reach: NDArray[Any], settled: NDArray[Any], y: NDArray[Any], j: int
) -> None:
    """Raise the error that says why column j has no derivative, if it is at a kink, a jump, or the edge of a domain."""
    x, name = subject.arrays[i], subject.names[i]
    k = int(np.flatnonzero(~settled[:, j])[0])
    at = _unravel(j, x)
    element, output = _element(name, at), _element("y", _unravel(k, y))
    below, above, sided = one_sided(curve, j, reach[j])
    ties = _ties(curve, x, j, k, 1e-6 * reach[j])
    reason = f"; its value is {x.flat[j]:.9g}"
    if ties:
        named = ", ".join(_element(name, _unravel(s, x)) for s in ties[:3])
        reason = f"; it ties with {named}{' …' if len(ties) > 3 else ''} (= {x.flat[j]:.9g})"
    advice = (
        f"A numerical derivative says nothing there. Move it away: distinct values, none at a kink, such as {name} + "
        f"1e-3 * rng.standard_normal({name}.shape)"
    )
    size = max(np.abs(y).max(), 1e-300)
    bend = abs(below[k] - above[k])
    if (
        sided[k]
        and bend > 1e-3 * max(abs(below[k]), abs(above[k]))
        and _bends_at_once(lambda t: curve(j, t)[k], bend, size, reach[j])
    ):
        digits = 6 - int(np.floor(np.log10(max(abs(below[k]), abs(above[k])))))
        before, after = (round(float(side[k]), digits) + 0.0 for side in (below, above))
        raise KinkError(
            f"{subject.place}: {element} lies on a kink: the one-sided derivatives of {output} are {before:.6g} from below "
            f"and {after:.6g} from above{reason}. {advice}"
        )
    step = 1e-9 * reach[j]
    with np.errstate(all="ignore"):
        near = np.array([curve(j, s)[k] for s in (-step, 0.0, step)])
    if not np.isfinite(near).all():
        raise KinkError(f"{subject.place}: {output} is not finite next to {element} = {x.flat[j]:.9g}. {advice}")
    if max(abs(near[2] - near[1]), abs(near[1] - near[0])) > 1e-6 * size:
        raise KinkError(
            f"{subject.place}: {output} jumps at {element}, from {near[0]:.6g} to {near[2]:.6g}{reason}. {advice}"
        )


def _bends_at_once(curve: Callable[[float], Any], bend: float, size: float, reach: float) -> bool:
    """Whether the kink is at t = 0, not near it: second differences show it at the smallest step that rounding allows."""
    step = max(64 * np.finfo(float).eps * size / bend, 64 * np.finfo(float).eps * reach)
    return abs(curve(step) - 2 * curve(0.0) + curve(-step)) > 0.5 * bend * step


def _unsettled(subject: _Subject, output: str, where: str, value: Any, error: float, given: Any) -> str:
    return (
        f"{subject.place}: the numerical derivative of {output} at {where} does not settle for any step: it is "
        f"{value:.6g} ± {error:.1g} at best, backward gives {given:.6g}. The function is noisy (does it compute in "
        "float32?), has kinks closer together than the steps, or hardly depends on it; a larger tolerance lets more of this pass"
    )


def _ties(curve: Curve, x: NDArray[Any], j: int, k: int, step: float) -> list[int]:
    """Elements equal to element j that also cause a kink of y[k] (of the first hundred)."""
    same = np.flatnonzero((x.ravel() == x.flat[j]) & (np.arange(x.size) != j))[:100]
    with np.errstate(all="ignore"):
        middle = curve(j, 0.0)[k]
        return [int(s) for s in same if abs(curve(s, step)[k] - 2 * middle + curve(s, -step)[k]) > 1e-3 * step]


def _hint(given: Any, value: Any, where: NDArray[Any], wrong: NDArray[Any], shape: tuple[int, ...] | None) -> str:
    """What the error looks like: sign, factor, all zeros, a shift, a transposition, only the border."""
    pairs = wrong & np.isfinite(value)
    g, v = given[pairs], value[pairs]
    if not len(g):
        return ""
    with np.errstate(all="ignore"):
        ratios = g / v
    ratio = float(ratios[0])
    hints = []
    if not np.any(given):
        hints.append("backward gives 0 everywhere")
    elif np.isfinite(ratios).all() and np.abs(ratios - 1).max() < 5e-4:
        hints.append("nearly right: is something computed in float32, or a small term left out?")
    elif np.isfinite(ratios).all() and np.allclose(ratios, ratio, rtol=1e-4):
        if abs(ratio + 1) < 1e-4:
            hints.append("the sign is wrong")
        elif np.all(wrong | (np.abs(value) < 1e-6 * np.nanmax(np.abs(value)))):
            hints.append(f"everywhere: a factor {ratio:.6g}")
        else:
            hints.append(f"ratio {ratio:.6g} wherever it is wrong")
    elif np.isfinite(ratio):
        hints.append(f"ratio {ratio:.6g}")
    if where.ndim > 2 and min(where.shape[2:]) > 2 and len(g) > 1:
        inner = where[(slice(None), slice(None), *[slice(1, -1)] * (where.ndim - 2))]
        if not inner.any():
            hints.append("wrong only at the border: padding, or the first and last window")
    if shape is not None and not np.isnan(value).any():
        hints += _moved(given.reshape(-1, *shape), value.reshape(-1, *shape))
    return f" ({'; '.join(hints)})" if hints else ""


def _moved(given: Any, value: Any) -> list[str]:
    """Whether the gradient is correct except for a shift by one or a transposition."""
    close = 1e-6 * np.abs(value).max()
    for axis in range(1, value.ndim):
        for shift in (1, -1):
            # The first or last row has been shifted in: ignore it.
            kept = slice(1, None) if shift > 0 else slice(None, -1)
            moved = np.take(np.roll(value, shift, axis), range(value.shape[axis])[kept], axis)
            if (
                value.shape[axis] > 2
                and np.abs(np.take(given, range(value.shape[axis])[kept], axis) - moved).max() < close
            ):
                return [f"shifted by {shift:+d} along axis {axis - 1}"]
    for a in range(1, value.ndim):
        for b in range(a + 1, value.ndim):
            if value.shape[a] == value.shape[b] > 1 and np.abs(given - value.swapaxes(a, b)).max() < close:
                return [f"axes {a - 1} and {b - 1} are swapped"]
    return []


def _ratio(given: Any, value: Any) -> str:
    return f" (ratio {given / value:.6g})" if value else ""


def _unravel(flat: Any, array: NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(flat, array.shape))


def _first_index(mask: NDArray[Any]) -> tuple[int, ...]:
    return _unravel(int(np.flatnonzero(mask)[0]), mask)


def _element(name: str, index: Sequence[int]) -> str:
    return f"{name}[{', '.join(map(str, index))}]" if index else name
