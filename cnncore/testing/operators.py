"""Every case of an operator checked: gradients, adjoint, float32, kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import seed_number
from ..errors import CnnError, GradientError, SettingError, ShapeError, unknown_name
from ..operators.operator import Op
from ..operators.schema import Case
from ..runtime import cpu
from ..typing import Seed
from .gradients import _first, _operator_subject, _small, check_gradient

# Largest errors allowed, relative to the largest value of the result compared.
ADJOINT_LIMIT = 1e-12
FLOAT32_LIMIT = 2e-5
KERNEL_LIMITS: dict[np.dtype[Any], float] = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}


@dataclass
class Row:
    """The result of :func:`check_operator` for one case in one rank; errors are relative, None where not applicable.

    Attributes
    ----------
    operator, case : str
        Their names.
    rank : int
        The number of spatial axes.
    checked : str
        "jacobian", "projection", or why no numerical derivative is taken.
    gradient : float or None
        Backward against the numerical derivative.
    adjoint : float or None
        ⟨A u, g⟩ against ⟨u, Aᵀ g⟩, for arguments in which y is linear.
    float32 : float or None
        float32 against float64, y and gradients.
    kernels : float or None
        Every CPU target against the reference implementation, in units of the dtype's eps.
    verdict : str
        "ok", or the message of the error.

    Examples
    --------
    >>> import cnncore
    >>> row = cnncore.testing.check_operators(["relu"]).rows[0]
    >>> row.operator, row.rank, row.checked, row.verdict, row.failed
    ('relu', 1, 'jacobian', 'ok', False)
    """

    operator: str
    case: str
    rank: int
    checked: str = ""  # "jacobian", "projection", or why no numerical derivative is taken
    gradient: float | None = None  # backward against the numerical derivative
    adjoint: float | None = None  # ⟨A u, g⟩ against ⟨u, Aᵀ g⟩, for arguments in which y is linear
    float32: float | None = None  # float32 against float64, y and gradients
    kernels: float | None = None  # every CPU target against the reference implementation, in units of the dtype's eps
    verdict: str = "ok"

    @property
    def failed(self) -> bool:
        return self.verdict != "ok"


@dataclass
class Report:
    """All rows of a run of :func:`check_operators`.

    Attributes
    ----------
    rows : list of Row
        One for each case in each rank.

    Examples
    --------
    >>> import cnncore
    >>> report = cnncore.testing.check_operators(["relu", "softmax"])
    >>> report.failed, report.largest < 1e-6, str(report).splitlines()[-1][:29]
    ([], True, '2 operators, 12 cases: all ok')
    """

    rows: list[Row]

    @property
    def failed(self) -> list[Row]:
        """The rows that failed."""
        return [row for row in self.rows if row.failed]

    @property
    def largest(self) -> float:
        """The largest gradient error."""
        return max((row.gradient for row in self.rows if row.gradient is not None), default=0.0)

    def __str__(self) -> str:
        return format_table(self.rows)


def check_adjoint(
    op: Op, *arrays: ArrayLike | None, seed: Seed = 0, limit: float = ADJOINT_LIMIT, **settings: Any
) -> float:
    """Check an operator's backward by the adjoint identity, in every array argument in which y is linear.

    With A the linear part of y as a function of that argument, any u and g satisfy ⟨A u, g⟩ = ⟨u, Aᵀg⟩, to rounding and
    without any differences.

    Parameters
    ----------
    op : Op
        An operator of the registry.
    *arrays : float64 arrays
        Its arrays; integer arrays and None are passed on.
    seed : int or numpy.random.Generator, default 0
        Seed of u and g. An operator with a setting of this name receives it too.
    limit : float, default 1e-12
        The largest error allowed.
    **settings
        Passed to the operator.

    Returns
    -------
    float
        The largest error relative to ‖A u‖ ‖g‖.

    Raises
    ------
    GradientError
        An error is above ``limit``.
    DtypeError
        An array is not float64.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> x, w = np.ones((1, 1, 5)), np.array([[[1., 2.]]])
    >>> cnncore.testing.check_adjoint(cnncore.conv, x, w) < 1e-12
    True
    """
    seed = seed_number("check_adjoint", "seed", seed)
    subject = _operator_subject(op, arrays, settings, seed)
    rng = np.random.default_rng(seed)
    y, backward = subject.with_backward()
    g = rng.standard_normal(y.shape)
    gradients = dict(zip(subject.differentiable, backward(g), strict=True))
    rows = op.rows(len(subject.arrays))
    largest = 0.0
    for i, gradient in gradients.items():
        if rows[i].name not in op.linear or not y.size:
            continue
        x = subject.arrays[i]
        u = rng.standard_normal(x.shape)
        start = x.copy()
        x += u
        moved = subject.value() - y
        x[...] = start
        size = float(np.linalg.norm(moved) * np.linalg.norm(g)) or 1.0
        error = abs(float(np.vdot(moved, g) - np.vdot(u, gradient))) / size
        if not error <= limit:
            raise GradientError(
                f"{op.name}: backward is not the adjoint of forward in {subject.names[i]}: ⟨A u, g⟩ = "
                f"{np.vdot(moved, g):.9g}, ⟨u, Aᵀg⟩ = {np.vdot(u, gradient):.9g} (error {error:.1g}, allowed {limit:.0g})"
            )
        largest = max(largest, error)
    return largest


def check_operator(operator: str | Op, seed: Seed = 0) -> list[Row]:
    """Check every case of an operator in every rank; return one :class:`Row` for each.

    Gradient against the numerical derivative; adjoint identity where y is linear; float32 against float64, forward and
    backward; the kernels of every CPU target of this machine against the reference implementation.

    Parameters
    ----------
    operator : str or Op
        The operator or its name.
    seed : int or numpy.random.Generator, default 0
        Seed of the arrays and directions.

    Returns
    -------
    list of Row
        A failure is stated in ``verdict``; it is not raised.

    Raises
    ------
    SettingError
        There is no operator of that name.

    Examples
    --------
    >>> import cnncore
    >>> {row.verdict for row in cnncore.testing.check_operator("relu")}
    {'ok'}
    """
    op, seed = _operator(operator), seed_number("check_operator", "seed", seed)
    return [_check_case(op, case, name, rank, seed) for case, name in named_cases(op) for rank in case.ranks]


def check_operators(
    names: Iterable[str | Op] | None = None,
    *,
    progress: Callable[[int, int, Row], object] | None = None,
    stream: TextIO | None = None,
    seed: Seed = 0,
) -> Report:
    """Run :func:`check_operator` over ``names`` (operators or their names; default all); return a :class:`Report`.

    Parameters
    ----------
    names : iterable of str or Op, optional
        The name of a grid, such as "pool", stands for all of its operators.
    progress : callable, optional
        ``progress(done, total, row)``, called after every row.
    stream : text file, optional
        Receives the table line by line.
    seed : int or numpy.random.Generator, default 0
        Seed of the arrays and directions.

    Returns
    -------
    Report
        All rows, and which of them failed.

    Raises
    ------
    SettingError
        One of the names is not that of an operator.

    Examples
    --------
    >>> import cnncore
    >>> print(cnncore.testing.check_operators(["relu"]))
    operator ...
    relu     ... ok
    relu     ... ok
    relu     ... ok
    1 operators, 3 cases: all ok, largest gradient error ...
    """
    from ..operators.registry import GRIDS, OPS

    seed = seed_number("check_operators", "seed", seed)
    operators = list(OPS.values())
    if names is not None:
        operators = []
        for name in names:
            grid = GRIDS.get(name) if isinstance(name, str) else None
            operators += [_operator(name)] if grid is None else grid.pairs.values()
    work = [(op, case, name, rank) for op in operators for case, name in named_cases(op) for rank in case.ranks]
    rows: list[Row] = []
    if stream is not None:
        print(_HEADER, file=stream, flush=True)
    for op, case, name, rank in work:
        rows.append(_check_case(op, case, name, rank, seed))
        if stream is not None:
            print(_line(rows[-1]), file=stream, flush=True)
        if progress is not None:
            progress(len(rows), len(work), rows[-1])
    return Report(rows)


def _operator(operator: str | Op) -> Op:
    from ..operators.registry import OPS, find

    if isinstance(operator, Op):
        return operator
    op = find(operator)
    if op is None:
        raise SettingError(unknown_name("check", "operator", operator, OPS, "`cnncore ops` lists all."))
    return op


def named_cases(op: Op) -> list[tuple[Case, str]]:
    """Pairs (case, name): cases that differ in their arrays alone are numbered.

    Parameters
    ----------
    op : Op
        The operator.

    Returns
    -------
    list of tuple of Case and str
        In the order of the operator's schema.

    Examples
    --------
    >>> import cnncore
    >>> [name for _, name in cnncore.testing.named_cases(cnncore.OPS["lp_pool"])][:2]
    ['kernel_size=2', 'kernel_size=3-stride=2-padding=1-p=3.0']
    """
    seen: dict[str, int] = {}
    named = []
    for case in op.cases:
        seen[str(case)] = seen.get(str(case), 0) + 1
        named.append((case, str(case) + (f" ({seen[str(case)]})" if seen[str(case)] > 1 else "")))
    return named


def _check_case(op: Op, case: Case, name: str, rank: int, seed: int) -> Row:
    row = Row(op.name, name, rank)
    try:
        arrays = case.sample(rank, seed=seed)
        if op.proof == "gradient":
            row.checked = "jacobian" if _whole(op, arrays, case.settings) else "projection"
            row.gradient = check_gradient(op, *arrays, seed=seed, **case.settings)
        else:
            row.checked = op.proof
        if op.linear:
            row.adjoint = check_adjoint(op, *arrays, seed=seed, **case.settings)
        single = case.sample(rank, np.float32, seed)
        row.float32 = _float32_error(op, single, case.settings)
        row.kernels = _kernel_error(op, single, case.settings)
    except CnnError as error:
        row.verdict = str(error)
    return row


def _whole(op: Op, arrays: Any, settings: Any) -> bool:
    y = _first(op(*arrays, **settings))
    return all(_small(a, y) for a in arrays if a is not None and a.dtype.kind == "f")


def _both_passes(op: Op, arrays: Any, settings: Any) -> list[NDArray[Any]]:
    """y and the gradients for a dy that depends on y's shape alone."""
    y, backward = op.with_backward(*arrays, **settings)
    y = _first(y)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32).astype(y.dtype)
    gradients = backward(dy)
    return [y, *(gradients if isinstance(gradients, tuple) else [gradients])]


def _relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest difference relative to the largest value; infinite where one is NaN and the other is not."""
    if found.shape != expected.shape:
        raise ShapeError(f"results differ in shape: {found.shape} and {expected.shape}")
    if not found.size:
        return 0.0
    if not np.array_equal(np.isfinite(found), np.isfinite(expected)):
        return np.inf
    finite = np.isfinite(expected)
    difference = np.abs(found[finite].astype(float) - expected[finite]).max(initial=0)
    return float(difference / (np.abs(expected[finite]).max(initial=0) or 1))


def _float32_error(op: Op, single: Sequence[Any], settings: Any) -> float:
    double = [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in single]
    what = ["y", *(f"gradient {i}" for i in range(len(single)))]
    largest = 0.0
    passes = zip(what, _both_passes(op, single, settings), _both_passes(op, double, settings), strict=False)
    for name, found, expected in passes:
        error = _relative(found, expected)
        if not error <= FLOAT32_LIMIT:
            raise GradientError(
                f"{op.name}: {name} in float32 is {error:.2g} off float64 (allowed {FLOAT32_LIMIT:.0g})"
            )
        largest = max(largest, error)
    return largest


def _kernel_error(op: Op, single: Sequence[Any], settings: Any) -> float:
    largest = 0.0
    for dtype, limit in KERNEL_LIMITS.items():
        arrays = [a.astype(dtype) if a is not None and a.dtype.kind == "f" else a for a in single]
        with cpu.target("reference"):
            expected = _both_passes(op, arrays, settings)
        for target in cpu.targets()[1:]:
            with cpu.target(target):
                found = _both_passes(op, arrays, settings)
            for name, a, b in zip(["y", *(f"gradient {i}" for i in range(len(arrays)))], found, expected, strict=False):
                error = _relative(a, b)
                if not error <= limit:
                    raise GradientError(
                        f"{op.name}: {name} of target {target} in {dtype} is {error:.2g} off the reference implementation "
                        f"(allowed {limit:.0g})"
                    )
                largest = max(largest, error / np.finfo(dtype).eps)
    return largest


_HEADER = (
    f"{'operator':24} {'case':44} {'rank':>4}  {'checked':10} {'gradient':>9} {'adjoint':>9} {'float32':>9} "
    f"{'kernels':>9}  verdict"
)


def _line(row: Row) -> str:
    def number(value: float | None, unit: str = "") -> str:
        return f"{'–':>9}" if value is None else f"{f'{value:.1e}' if not unit else f'{value:.1f} {unit}':>9}"

    case = row.case if len(row.case) <= 44 else row.case[:43] + "…"
    return (
        f"{row.operator:24} {case:44} {row.rank:>4}  {row.checked[:10]:10} {number(row.gradient)} {number(row.adjoint)} "
        f"{number(row.float32)} {number(row.kernels, 'eps')}  {row.verdict}"
    )


def format_table(rows: Iterable[Row]) -> str:
    """The rows of a report as text, with a closing line.

    Parameters
    ----------
    rows : iterable of Row
        The rows.

    Returns
    -------
    str
        A header, a line for each row, and how many failed.

    Examples
    --------
    >>> import cnncore
    >>> print(cnncore.testing.format_table([cnncore.testing.Row("relu", "default", 1, "jacobian", 1e-10)]))
    operator ...
    relu     default     1  jacobian     1.0e-10         –         –         –  ok
    1 operators, 1 cases: all ok, largest gradient error 1.0e-10
    """
    rows = list(rows)
    failed = sum(row.failed for row in rows)
    operators = len({row.operator for row in rows})
    closing = (
        f"{operators} operators, {len(rows)} cases: {f'{failed} FAILED' if failed else 'all ok'}, "
        f"largest gradient error {Report(rows).largest:.1e}"
    )
    return "\n".join([_HEADER, *map(_line, rows), closing])
