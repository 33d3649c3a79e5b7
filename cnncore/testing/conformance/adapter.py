"""Frameworks as tables of functions: what an adapter is, those that cnncore has, and those in files of users."""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...checks import opened_file, path_name
from ...errors import SettingError, unknown_name

__all__ = ["Adapter", "NotExpressible", "adapter"]

# Framework → the package that it needs.
FRAMEWORKS = {"torch": "torch", "onnxruntime": "onnxruntime", "jax": "jax", "keras": "keras"}


class NotExpressible(NotImplementedError):
    """The framework has no such operator, or not with these settings: the text says what is missing."""


@dataclass(frozen=True)
class Adapter:
    """A framework.

    Attributes
    ----------
    name : str
        Its name and version.
    operators : mapping of str to callable
        Name of an operator of cnncore → ``function(settings, *arrays)``, which returns y, or ``(y, backward)`` where
        ``backward(dy)`` gives the gradients of the differentiable arrays in order, None for those that it has not.
        :class:`NotExpressible` says that it cannot.
    run : callable, optional
        ``run(function, settings, arrays, differentiable, dy)`` → (y, gradients or None), for frameworks with arrays and
        derivatives of their own; by default the functions get NumPy's arrays.
    compositions : set of str
        Operators that the framework has not by themselves, and that are composed of its others in double precision.
    forward_only : bool
        Whether it has no gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.testing import conformance
    >>> def relu(settings, x):
    ...     return np.maximum(x, 0), lambda dy: dy * (x > 0)
    >>> mine = conformance.Adapter("mine", {"relu": relu})
    >>> mine.compute("relu", {}, [np.array([-1.0, 2.0])], [True], np.ones(2))
    (array([0., 2.]), [array([0., 1.])])
    >>> mine.compute("elu", {}, [np.array([-1.0, 2.0])], [True], np.ones(2))
    Traceback (most recent call last):
      ...
    cnncore.testing.conformance.adapter.NotExpressible: no such operator
    """

    name: str
    operators: Mapping[str, Callable[..., Any]]
    run: Callable[..., Any] | None = None
    compositions: frozenset[str] = field(default=frozenset())
    forward_only: bool = False

    def compute(
        self, operator: str, settings: Mapping[str, Any], arrays: Sequence[Any], differentiable: Sequence[bool], dy: Any
    ) -> tuple[NDArray[Any], list[Any] | None]:
        """y and the gradients of the differentiable arrays, or None where there are none.

        Parameters
        ----------
        operator : str
            The operator's name.
        settings : mapping
            All of its settings.
        arrays : sequence of array or None
            Its arrays.
        differentiable : sequence of bool
            Which of them have a gradient.
        dy : array or None
            The gradient with respect to y; None: no gradients are asked for.

        Returns
        -------
        tuple of array and (list of array or None)
            y, and one gradient for each differentiable array.

        Raises
        ------
        NotExpressible
            The framework has nothing of the kind.
        """
        if operator not in self.operators:
            raise NotExpressible("no such operator")
        function = self.operators[operator]
        if operator in self.compositions:
            arrays = [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in arrays]
            dy = None if dy is None else dy.astype(np.float64)
        if self.run is not None:
            y, gradients = self.run(function, settings, arrays, differentiable, dy)
            return y, gradients
        found = function(settings, *arrays)
        y, backward = found if isinstance(found, tuple) else (found, None)
        if backward is None or dy is None:
            return np.asarray(y), None
        made = backward(dy)
        return np.asarray(y), list(made) if isinstance(made, (tuple, list)) else [made]


def adapter(framework: str | Adapter) -> Adapter:
    """The adapter of a framework: one of those that cnncore has, or a Python file.

    A file defines ``OPERATORS``, and optionally ``NAME``, ``run``, ``COMPOSITIONS`` and ``FORWARD_ONLY``: the attributes of
    :class:`Adapter`. It is a program, and runs.

    Parameters
    ----------
    framework : str or Adapter
        "torch", "onnxruntime", "jax", "keras", or the path of a file that ends in .py.

    Returns
    -------
    Adapter
        The adapter.

    Raises
    ------
    SettingError
        There is no such framework, or the file has no ``OPERATORS``.
    ImportError
        The framework is not installed.
    FileReadError
        The file cannot be read.

    Examples
    --------
    >>> import pathlib
    >>> from cnncore.testing import conformance
    >>> _ = pathlib.Path("my_framework.py").write_text("OPERATORS = {'relu': lambda settings, x: x.clip(0)}")
    >>> mine = conformance.adapter("my_framework.py")
    >>> mine.name, list(mine.operators)
    ('my_framework', ['relu'])
    """
    if isinstance(framework, Adapter):
        return framework
    framework = path_name(framework, "an adapter, or the name of a framework")
    if framework.endswith(".py"):
        return _from_file(pathlib.Path(framework))
    if framework not in FRAMEWORKS:
        raise SettingError(
            unknown_name("conform", "framework", framework, FRAMEWORKS, "There are")
            + " Or give the path of a file: FILE.py."
        )
    if importlib.util.find_spec(FRAMEWORKS[framework]) is None:
        raise ImportError(f"conform needs {framework}, which is not installed: pip install {framework}")
    module = importlib.import_module(f"{__package__}.in_{framework}")
    return _of_module(module, framework)


def _from_file(path: pathlib.Path) -> Adapter:
    opened_file(path, "an adapter in Python").close()
    name = f"cnncore_adapter_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return _of_module(module, path.stem)


def _of_module(module: Any, name: str) -> Adapter:
    operators = getattr(module, "OPERATORS", None)
    if not isinstance(operators, Mapping) or not all(map(callable, operators.values())):
        raise SettingError(
            f"conform: {name}: OPERATORS must map names of operators to functions of settings and arrays"
        )
    return Adapter(
        str(getattr(module, "NAME", name)),
        operators,
        getattr(module, "run", None),
        frozenset(getattr(module, "COMPOSITIONS", ())),
        bool(getattr(module, "FORWARD_ONLY", False)),
    )
