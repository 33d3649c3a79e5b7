"""The CPU target whose kernels run, and how to force another.

    cnncore.cpu.targets()                      targets of this machine, the most basic first
    cnncore.cpu.peak("float32", threads=2)     peak performance in GFLOP/s
    cnncore.cpu.target()                       the current target
    with cnncore.cpu.target("baseline"): …     force one; "reference" uses no kernels

    cnncore.cpu.measure()                      measure what algorithms cost on this machine, for all later processes
    cnncore.cpu.costs()                        the costs by which algorithms are chosen

The environment variable CNNCORE_TARGET sets the target at import, CNNCORE_COSTS the costs.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from ..errors import DtypeError, EnvironmentWarning, SettingError, unknown_name
from ..typing import FilePath
from . import costs as machine
from . import dispatch
from . import threads as native
from .costs import Costs

__all__ = ["Costs", "costs", "kernels", "kernels_taken", "measure", "peak", "target", "targets"]

PRECISIONS = {"float32": dispatch.FLOAT32, "float64": dispatch.FLOAT64}
PEAK_ROUNDS = 20  # the best of them is the one without interruptions
PEAK_STEPS = 1 << 15  # about half a millisecond
PEAK_TASKS = 4  # per thread: the others take over tasks of one that wakes late


def targets() -> list[str]:
    """Names of the CPU targets that this machine can run, the most basic first.

    Returns
    -------
    list of str
        "reference" and "baseline", then those with more instruction sets.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.cpu.targets()[:2]
    ['reference', 'baseline']
    """
    return dispatch.targets()


def target(name: str | None = None) -> Any:
    """Name of the current target; with ``name``, force that one, either permanently or until a ``with`` block ends.

    Parameters
    ----------
    name : str, optional
        One of :func:`targets`; "reference" runs no kernels.

    Returns
    -------
    str or context manager
        The name of the target; with ``name``, a context manager that restores the previous target.

    Raises
    ------
    SettingError
        The machine has no target of that name.

    Examples
    --------
    >>> import cnncore
    >>> with cnncore.cpu.target("baseline"):
    ...     cnncore.cpu.target()
    'baseline'
    """
    if name is None:
        return dispatch.current_target()
    name = _current_name(name, stacklevel=3)
    if name not in targets():
        raise SettingError(unknown_name("cpu.target", "target", name, targets(), "This machine has"))
    return _Forced(name)


def _current_name(name: str, stacklevel: int) -> str:
    """``name``, or the current name of a target that was renamed."""
    if name != "definition":
        return name
    warnings.warn(
        "the target 'definition' is now called 'reference'; the old name will be removed in the next version",
        DeprecationWarning,
        stacklevel=stacklevel,
    )
    return "reference"


class _Forced:
    """The target is forced on creation; leaving the ``with`` block restores the previous one."""

    def __init__(self, name: str) -> None:
        self.before = dispatch.current_target()
        self.select(name)

    @staticmethod
    def select(name: str) -> None:
        dispatch.select_target(name)
        machine.target_changed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.select(self.before)


def kernels() -> list[str]:
    """Names of the compiled kernels; operators without one run their reference implementation.

    Returns
    -------
    list of str
        The names.

    Examples
    --------
    >>> import cnncore
    >>> "conv" in " ".join(cnncore.cpu.kernels())
    True
    """
    return dispatch.kernel_names()


def kernels_taken() -> list[str]:
    """Names of the kernels used, by any thread, since the last call of this function.

    Returns
    -------
    list of str
        The names; the record is cleared.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> _ = cnncore.cpu.kernels_taken()
    >>> with cnncore.cpu.target("reference"):
    ...     _ = cnncore.max_pool(np.ones((1, 1, 4, 4), np.float32), kernel_size=2)
    >>> cnncore.cpu.kernels_taken()
    []
    """
    return dispatch.kernels_taken()


def peak(dtype: DTypeLike = "float32", threads: int | None = None) -> float:
    """The peak performance of this machine with the current target, in GFLOP/s: a multiply-add counts as two
    operations.

    Measured at each call, in a few hundredths of a second, by independent multiply-adds on registers; no convolution of
    the same target with as many multiplications as its reference can be faster.

    Parameters
    ----------
    dtype : dtype, default "float32"
        "float32" or "float64".
    threads : int, optional
        The number of threads; by default as many as calls may use.

    Returns
    -------
    float
        GFLOP/s, the best of several rounds.

    Raises
    ------
    DtypeError
        ``dtype`` is neither float32 nor float64.
    SettingError
        The target is "reference", which has no peak, or ``threads`` is not an integer from 1 to 256.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.cpu.peak("float32", threads=1) > 0
    True
    """
    try:
        precision = PRECISIONS[np.dtype(dtype).name]
    except (TypeError, KeyError):
        raise DtypeError(f"cpu.peak: dtype {dtype!r}; expected 'float32' or 'float64'") from None
    count = native.get_num_threads() if threads is None else threads
    best = float("inf")
    with native.threads(count):
        for _ in range(PEAK_ROUNDS):
            began = time.perf_counter()
            found = dispatch.multiply_adds(precision, PEAK_STEPS, PEAK_TASKS * count)
            took = time.perf_counter() - began
            if found is None:
                raise SettingError(
                    f"cpu.peak: the target {target()!r} runs reference implementations, which have no peak; choose "
                    "another cpu.target"
                )
            best = min(best, took / found[0])
    return 2e-9 / best


def costs(source: str | FilePath | Mapping[str, float] | Costs | None = None) -> Any:
    """The costs by which algorithms are chosen; with ``source``, put others in force, either permanently or until a
    ``with`` block ends.

    They depend on the CPU target. In the beginning those are in force that the environment variable CNNCORE_COSTS gives
    ("off", a file, or numbers: "transform=5,reading=9"), else those that :func:`measure` has kept for this machine, else
    those built in. A choice of algorithms changes results by rounding: costs that are given pin it.

    Parameters
    ----------
    source : str, path, mapping or Costs, optional
        "off": the built-in costs. "measured": those measured earlier, if there are any. Another string or a path: a file
        that :func:`measure` has written, on whatever machine. A mapping: numbers by name, of :class:`Costs`.

    Returns
    -------
    Costs or context manager
        The costs; with ``source``, a context manager that restores the previous ones.

    Raises
    ------
    SettingError
        ``source`` is none of these, or a number is not between 1e-6 and 1e9.

    Examples
    --------
    >>> import cnncore
    >>> with cnncore.cpu.costs({"transform": 4.5}):
    ...     cnncore.cpu.costs().transform
    4.5
    """
    return machine.in_force() if source is None else _Given(source)


class _Given:
    """The costs are in force from creation on; leaving the ``with`` block restores what was given before."""

    def __init__(self, source: Any) -> None:
        self.before = machine.use(None if isinstance(source, str) and source == "measured" else source)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        machine.restore(self.before)


def measure() -> Costs:
    """Measure what algorithms and threads cost on this machine with the current target, and keep it for later processes.

    Takes a few tenths of a second, in which nothing else should run. The file is in the user's cache folder
    (``$XDG_CACHE_HOME/cnncore``, or what the system provides); later processes with the same version, CPU model and target
    find it there. From then on choices of algorithms, and with them the last bits of results, may differ from those with
    the built-in costs. Nothing is measured unless this function, or ``cnncore tune`` without a model, is called.

    Returns
    -------
    Costs
        What was measured; in force, unless other costs are given by :func:`costs` or CNNCORE_COSTS.

    Raises
    ------
    SettingError
        The target is "reference", which has no algorithms to choose from.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.cpu.measure().reading > 0  # doctest: +SKIP
    True
    """
    if target() == "reference":
        raise SettingError(
            "cpu.measure: the target 'reference' has no algorithms to choose from; choose another cpu.target"
        )
    return machine.measure()[0]


def _choose() -> None:
    wanted = _current_name(os.environ.get("CNNCORE_TARGET", ""), stacklevel=2)
    if wanted and wanted not in targets():
        warnings.warn(
            f"CNNCORE_TARGET={wanted} is not among the targets of this machine ({', '.join(targets())}); {targets()[-1]} runs",
            EnvironmentWarning,
            stacklevel=2,
        )
        wanted = ""
    dispatch.select_target(wanted or targets()[-1])


_choose()
