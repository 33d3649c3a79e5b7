"""Operators written in Python: the quickest way to try an idea, checked when they are defined, slow when they run.

    @cnncore.pooling_strategy
    class range_pool:
        def forward(x): ...                     # the cells of one window → a number
        def backward(x, y, dy): ...             # → the gradient of every cell

    softclip = cnncore.operator(forward, backward)      # any function of arrays

Both are operators like those of the registry, in graphs, files and training, known by their names in this process.
docs/own_operators.md says what they can do and how a strategy becomes Cython.
"""

from __future__ import annotations

import inspect
import keyword
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .checks import flag, number, whole
from .errors import SettingError
from .operators.custom import FunctionImplementation, GivenCase, custom_class
from .operators.operator import Op
from .operators.pooling.implementation import Learned, pooling_schema
from .operators.pooling.python import PythonStrategy, WindowFunctions
from .operators.pooling.windows import KERNEL, SCHEMES
from .operators.registry import check_free, find, register
from .operators.schema import REQUIRED, Array, Layer, Parameter, Setting, sample_values
from .testing.gradients import check_gradient

__all__ = ["operator", "pooling_strategy"]

SLOW = "as its Python functions compute it, in NumPy and without a kernel"


def pooling_strategy(
    forward: Any = None,
    backward: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    vectorized: bool = False,
    learned: Mapping[str, float] | None = None,
    domain: str = "any",
    onnx: Callable[..., Any] | None = None,
    check: bool = True,
) -> Any:
    """A pooling strategy from two functions of a window: ``forward(x) → y`` and ``backward(x, y, dy) → dx``.

    The strategy is usable on all window schemes, in one, two and three dimensions, in graphs, model files, copies and
    pickles, under its name. Its gradient is checked when it is defined. It runs as fast as Python does, some
    50 µs a window; ``vectorized`` functions are about twenty times as fast.

    Parameters
    ----------
    forward : class or callable
        A class with the functions ``forward`` and ``backward`` (as a decorator), or forward itself: x, the cells of one
        window inside the image in row-major order, shape (n,), to one number. Keyword-only parameters with defaults are
        settings of the operator.
    backward : callable, optional
        ``backward(x, y, dy)``: dy · ∂y/∂x for every cell, shape (n,). With ``learned`` numbers a: ``backward(x, a, y, dy)``
        returns (dx, da).
    name : str, optional
        The operator's name, by default that of the class or of forward; "_pool" is added where it is missing.
    vectorized : bool, default False
        Whether the functions take many windows at once: x of shape (windows, n), y, dy and learned numbers (windows, 1).
    learned : mapping of str to float, optional
        Names of numbers that are learned, shared or one for each channel, and how a layer starts them. They follow x in
        both functions.
    domain : {"any", "positive", "unit"}, default "any"
        The values of x for which the strategy is defined, where its gradient is checked.
    onnx : callable, optional
        ``onnx(w, n, windows, x)``: its composition of ONNX's operators, for ``cnncore.io.save_onnx``. ``windows`` has
        ``max(x)``, ``mean(x)``, ``sum(x)`` and ``cells(x)``.
    check : bool, default True
        Whether the gradient is checked now. Without a check it is as right as you are.

    Returns
    -------
    Op
        The operator on the windows of a kernel. ``cnncore.pool(x, strategy=…, windows=…)`` has the others. Used with
        keywords alone, a decorator.

    Raises
    ------
    GradientError
        backward is not the derivative of forward; the text names the element and both values.
    ShapeError, DtypeError
        A function returned something else than it should.
    SettingError
        The name is taken, or a function has unsuitable parameters.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> @cnncore.pooling_strategy
    ... class spread:
    ...     "Largest minus smallest cell."
    ...     def forward(x):
    ...         return x.max() - x.min()
    ...     def backward(x, y, dy):
    ...         dx = np.zeros_like(x)
    ...         dx[x.argmax()] += dy
    ...         dx[x.argmin()] -= dy
    ...         return dx
    >>> x = np.array([[[1., 5., 2., 7.]]])
    >>> spread(x, kernel_size=2)
    array([[[4., 5.]]])
    >>> y, backward = cnncore.global_spread_pool.with_backward(x)
    >>> y, backward(np.ones_like(y))
    (array([[6.]]), array([[[-1.,  0.,  0.,  1.]]]))
    """
    origin = _caller()
    options = (name, vectorized, dict(learned or {}), domain, onnx, check, origin)
    if forward is None:  # @pooling_strategy(…) above a class, or above forward
        return lambda definition: _strategy(definition, backward, *options)
    return _strategy(forward, backward, *options)


def operator(
    forward: Callable[..., Any] | None = None,
    backward: Callable[..., Any] | None = None,
    *,
    infer: Callable[..., Any] | None = None,
    name: str | None = None,
    parameters: Mapping[str, tuple[Any, Any]] | None = None,
    constants: Sequence[str] = (),
    indices: Sequence[str] = (),
    sample: Callable[[np.random.Generator], Sequence[Any]] | None = None,
    onnx: Callable[..., Any] | None = None,
    check: bool = True,
) -> Any:
    """An operator from two functions of arrays: ``forward(x, w) → y`` and ``backward(x, w, y, dy) → (dx, dw)``.

    It is called, differentiated, put into graphs, saved, copied and pickled like the operators of ``cnncore.OPS``, under its
    name. Its gradient is checked when it is defined, and it runs as fast as Python does.

    Parameters
    ----------
    forward : callable
        The positional parameters are arrays, keyword-only ones with defaults are settings. It returns y, and must not
        change its arrays, which are read-only views. y depends on the arguments alone.
    backward : callable
        ``backward(*arrays, y, dy)`` returns one gradient for each array but constants and indices, a lone one bare.
    infer : callable, optional
        ``infer(*shapes)``: the shape of y from those of the arrays. Extents that are open in a graph are None. By default
        y has the shape of the first array.
    name : str, optional
        By default that of forward.
    parameters : mapping of str to (shape, initial), optional
        Arrays that a layer of a graph owns and training changes. shape: integers and "channels", or a function
        ``shape(shapes, settings)``; initial: a number, or the name of an initialiser such as "he".
    constants : sequence of str, optional
        Arrays of real numbers that have no gradient.
    indices : sequence of str, optional
        Arrays of integers, which have none either.
    sample : callable, optional
        ``sample(rng)``: arrays on which the gradient is checked. By default each has shape (2, 3, 4, 5), and parameters
        their own.
    onnx : callable, optional
        ``onnx(w, n)``: its composition of ONNX's operators, for ``cnncore.io.save_onnx``: ``w("Tanh", n.x)``.
    check : bool, default True
        Whether the gradient is checked now.

    Returns
    -------
    Op
        The operator. Used with keywords alone, a decorator of forward.

    Raises
    ------
    GradientError
        backward is not the derivative of forward; the text names the element and both values.
    ShapeError, DtypeError
        A function returned something else than it should.
    SettingError
        The name is taken, or a function has unsuitable parameters.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> def cube(x, *, scale=1.0):
    ...     return scale * x**3
    >>> def cube_backward(x, y, dy, *, scale):
    ...     return 3 * scale * x**2 * dy
    >>> cube = cnncore.operator(cube, cube_backward)
    >>> cube(np.array([1., 2.]), scale=2.0)
    array([ 2., 16.])
    >>> def wrong(x, y, dy, *, scale):
    ...     return x**2 * dy
    >>> cnncore.operator(cube.forward, wrong, name="wrong_cube")    # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    GradientError: wrong_cube: gradient of x is wrong at x[0, 0, 0, 0] …
    """
    origin = _caller()
    options = (infer, name, dict(parameters or {}), tuple(constants), tuple(indices), sample, onnx, check, origin)
    if forward is None:
        return lambda function: _operator(function, backward, *options)
    return _operator(forward, backward, *options)


# ── Strategies ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _strategy(
    definition: Any,
    backward: Any,
    name: str | None,
    vectorized: bool,
    learned: dict[str, float],
    domain: str,
    onnx: Any,
    check: bool,
    origin: str,
) -> Op:
    given = name if name is not None else getattr(definition, "__name__", "")
    short = _checked_name("pooling_strategy", given.removesuffix("_pool"))
    check_free(short, strategy=True)
    forward, document = definition, definition
    if inspect.isclass(definition):
        forward, backward = _functions_of(short, definition)
        document = definition if definition.__doc__ else forward
    _check_callable(short, forward, backward)
    first, forward_settings = _parameters(short, "forward", forward)
    second, backward_settings = _parameters(short, "backward", backward)
    _check_parameters(short, first, second, ["x", *learned], exact=bool(learned))
    values = forward_settings | {n: v for n, v in backward_settings.items() if n not in forward_settings}
    taken = {setting.name for scheme in SCHEMES.values() for setting in scheme.settings} | {"x", "rois", "state"}
    for setting in [*values, *learned]:
        if setting in taken:
            raise SettingError(f"{short}: {setting!r} is a setting of windows; call it something else")
    functions = WindowFunctions(
        short, forward, backward, bool(vectorized), tuple(learned), (tuple(forward_settings), tuple(backward_settings))
    )
    strategy = PythonStrategy(
        short,
        functions,
        summary=_summary(document, f"Pooling by {short}, a strategy written in Python."),
        formula=f"y = forward(x) of the window's n cells inside the image, {SLOW}",
        gradient="∂y/∂xᵢ: backward(x, y, dy)",
        paper=f"defined in {origin}",
        padding="takes no part",
        settings=tuple(_setting(short, n, value) for n, value in values.items()),
        learned=tuple(
            Learned(n, "a number that is learned: (1,), or (C,) for one per channel", initial=float(start))
            for n, start in learned.items()
        ),
        accumulates="a window as its functions do, gradients of overlapping windows in dx's dtype, in the order of the windows",
        domain=domain,
        onnx=onnx,
        schema=custom_class(origin),
    )
    if check:
        _check_strategy(strategy)
    register(strategy)
    made = find(f"{short}_pool")
    assert made is not None
    return made


def _check_strategy(strategy: PythonStrategy) -> None:
    """Raise unless backward is right, on overlapping windows of different sizes."""
    op = pooling_schema(f"{strategy.name}_pool", strategy, KERNEL, example="")
    case = op.cases[0].but(spatial=3, batch=1, channels=1)
    for settings in ({"kernel_size": 2, "stride": 1, "padding": 1}, {"kernel_size": (3, 2), "stride": 2}):
        arrays = case.sample(2)
        if not strategy.learned:
            check_gradient(op, *arrays[:1], **settings)
        else:
            check_gradient(op, *arrays, **settings)


def _functions_of(short: str, definition: type) -> tuple[Any, Any]:
    """forward and backward of a class."""
    found = []
    for name in ("forward", "backward"):
        function = inspect.getattr_static(definition, name, None)
        function = getattr(function, "__func__", function)
        if function is None:
            raise SettingError(
                f"{short}: the class has no function {name!r}; it needs forward(x) and backward(x, y, dy)"
            )
        found.append(function)
    return found[0], found[1]


# ── Operators ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _operator(
    forward: Any,
    backward: Any,
    infer: Any,
    name: str | None,
    parameters: dict[str, tuple[Any, Any]],
    constants: tuple[str, ...],
    indices: tuple[str, ...],
    sample: Any,
    onnx: Any,
    check: bool,
    origin: str,
) -> Op:
    name = _checked_name("operator", name if name is not None else getattr(forward, "__name__", ""))
    check_free(name, strategy=False)
    _check_callable(name, forward, backward)
    arrays, forward_settings = _parameters(name, "forward", forward)
    second, backward_settings = _parameters(name, "backward", backward)
    _check_parameters(name, arrays, second, arrays)
    for known in (*parameters, *constants, *indices):
        if known not in arrays:
            raise SettingError(f"{name}: there is no array {known!r}; forward takes {', '.join(arrays)}")
    inference_settings = {} if infer is None else _parameters(name, "infer", infer)[1]
    values = forward_settings | {n: v for n, v in backward_settings.items() if n not in forward_settings}
    values |= {n: v for n, v in inference_settings.items() if n not in values}
    rows = tuple(
        Array(
            array,
            "input" if not i else "array",
            differentiable=array not in (*constants, *indices),
            role="index" if array in indices else "real",
        )
        for i, array in enumerate(arrays)
    )
    takes = (tuple(forward_settings), tuple(backward_settings), tuple(inference_settings))
    op = custom_class(origin)(
        name,
        FunctionImplementation(forward, backward, infer, takes),
        summary=_summary(forward, f"{name}, an operator written in Python."),
        formula=f"y = forward({', '.join(arrays)}), {SLOW}",
        gradient=f"backward({', '.join(arrays)}, y, dy)",
        paper=f"defined in {origin}",
        group="custom",
        cases=(GivenCase(sample or _usual_sample(rows, parameters, values)),),
        example="",
        settings_list=tuple(_setting(name, n, value) for n, value in values.items()),
        arrays=rows,
        shape="x → y, as infer says" if infer else "that of the first array → the same",
        accumulates="as its functions do",
        layer=Layer(tuple(_parameter(name, n, *row) for n, row in parameters.items())),
        onnx=onnx,
    )
    object.__setattr__(op, "forward", forward)
    object.__setattr__(op, "backward", backward)
    if check:
        for case in op.cases:
            check_gradient(op, *case.sample(2))
    register(op)
    return op


def _parameter(place: str, name: str, shape: Any, initial: Any) -> Parameter:
    if callable(shape):
        return Parameter(name, shape, initial)
    extents = tuple(shape)
    if not all(e == "channels" or isinstance(e, (int, np.integer)) for e in extents):
        raise SettingError(
            f"{place}: the shape of {name} must be integers and 'channels', or a function of shapes and settings, got {shape!r}"
        )
    return Parameter(name, lambda shapes, _: tuple(shapes[0][1] if e == "channels" else e for e in extents), initial)


def _usual_sample(rows: tuple[Array, ...], parameters: dict[str, tuple[Any, Any]], settings: dict[str, Any]) -> Any:
    """Arrays of (2, 3, 4, 5), parameters in their own shapes: what suits elementwise operators and most others."""
    usual = (2, 3, 4, 5)

    def made(rng: np.random.Generator) -> list[Any]:
        arrays: list[Any] = []
        for row in rows:
            if row.role == "index":
                arrays.append(rng.integers(0, 2, usual))
                continue
            shape = usual
            if row.name in parameters:
                shape = tuple(_parameter("", row.name, *parameters[row.name]).shape((usual,), settings))
            arrays.append(sample_values(rng, shape, "any"))
        return arrays

    return made


# ── What both share ────────────────────────────────────────────────────────────────────────────────────────────────────


def _caller() -> str:
    """The module from which one of the two functions was called."""
    return str(sys._getframe(2).f_globals.get("__name__", "__main__"))


def _checked_name(place: str, name: str) -> str:
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        raise SettingError(f"{place}: {name!r} cannot be the name of an operator; give name=, letters, digits and _")
    package = sys.modules[__package__]
    if name in dir(package) and find(name) is None:
        raise SettingError(f"{place}: cnncore.{name} is something else already; give another name=")
    return name


def _check_callable(place: str, forward: Any, backward: Any) -> None:
    for name, function in (("forward", forward), ("backward", backward)):
        if not callable(function):
            raise SettingError(
                f"{place}: {name} must be a function, got {function!r}; an operator needs both forward and backward"
            )


def _parameters(place: str, what: str, function: Any) -> tuple[list[str], dict[str, Any]]:
    """Names of a function's positional parameters, and the keyword-only ones with their defaults."""
    arrays, settings = [], {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            settings[parameter.name] = REQUIRED if parameter.default is parameter.empty else parameter.default
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise SettingError(f"{place}: {what} has *{parameter.name}; name every array, and every setting after a *")
        elif parameter.default is not parameter.empty:
            raise SettingError(
                f"{place}: {what} has a default for {parameter.name}; settings stand after a *, as in "
                f"forward(x, *, {parameter.name}={parameter.default!r})"
            )
        else:
            arrays.append(parameter.name)
    if not arrays and what != "infer":
        raise SettingError(
            f"{place}: {what} takes no array; expected {what}(x{', y, dy' if what == 'backward' else ''})"
        )
    return arrays, settings


def _check_parameters(
    place: str, forward: list[str], backward: list[str], arrays: list[str], exact: bool = False
) -> None:
    """Raise unless forward takes the arrays, and backward the same, then y and dy."""
    if len(forward) != len(arrays) or (exact and forward[1:] != arrays[1:]):
        hint = "; the class's functions take no self" if forward[:1] == ["self"] else ""
        raise SettingError(f"{place}: forward takes ({', '.join(forward)}); expected ({', '.join(arrays)}){hint}")
    if len(backward) != len(forward) + 2:
        raise SettingError(
            f"{place}: backward takes ({', '.join(backward)}); expected ({', '.join([*forward, 'y', 'dy'])})"
        )


def _setting(place: str, name: str, value: Any) -> Setting:
    """A setting with a default of this kind, checked accordingly."""
    check: Any = None
    if isinstance(value, (bool, np.bool_)):
        check = flag
    elif isinstance(value, (int, np.integer)):
        check = whole()
    elif isinstance(value, (float, np.floating)):
        check = number()
    return Setting(name, value, "a setting of its functions", check)


def _summary(documented: Any, otherwise: str) -> str:
    text = inspect.getdoc(documented) if documented.__doc__ else None
    return " ".join(text.partition("\n\n")[0].split()) if text else otherwise
