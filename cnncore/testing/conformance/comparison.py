"""A framework compared with the test vectors: where it differs, and by what."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CnnError
from ...typing import FilePath
from .adapter import Adapter, adapter
from .vectors import DTYPES, Vector, read_vectors, vectors

__all__ = ["LIMITS", "Conformance", "Result", "conform"]

# The largest difference that rounding explains, relative to the largest element of the array.
LIMITS = {"float32": 3e-5, "float64": 1e-11}
VERDICTS = ("same", "differs", "fails", "not expressible")


@dataclass(frozen=True)
class Result:
    """What a framework made of one test vector.

    Attributes
    ----------
    operator, case, rank, dtype
        Those of the vector.
    verdict : str
        "same", "differs", "fails" (it raised an error), or "not expressible".
    error : float or None
        The largest difference found, relative to the largest element; None where nothing was compared.
    gradients : bool
        Whether gradients were compared.
    text : str
        Where it differs and by what, or why it fails or cannot express it.

    Examples
    --------
    >>> from cnncore.testing import conformance
    >>> mine = conformance.Adapter("mine", {"relu": lambda settings, x: abs(x)})
    >>> result = conformance.conform(mine, operators=["relu"], dtypes=["float64"]).results[0]
    >>> result.operator, result.rank, result.verdict, result.gradients
    ('relu', 1, 'differs', False)
    """

    operator: str
    case: str
    rank: int
    dtype: str
    verdict: str
    error: float | None = None
    gradients: bool = False
    text: str = ""


@dataclass(frozen=True)
class Conformance:
    """The results of a framework.

    Attributes
    ----------
    framework : str
        Its name and version.
    results : tuple of Result
        One for each test vector.

    Examples
    --------
    >>> import json
    >>> from cnncore.testing import conformance
    >>> mine = conformance.Adapter("mine", {"relu": lambda settings, x: x.clip(0)})
    >>> found = conformance.conform(mine, operators=["relu", "exp"], dtypes=["float64"])
    >>> found.by_operator()["relu"], found.by_operator()["exp"]
    (Counter({'same': 2}), Counter({'not expressible': 2}))
    >>> len(json.loads(found.to_json())["results"]), found.differing
    (4, ())
    """

    framework: str
    results: tuple[Result, ...]

    @property
    def differing(self) -> tuple[Result, ...]:
        """The results that differ or fail."""
        return tuple(result for result in self.results if result.verdict in ("differs", "fails"))

    def by_operator(self) -> dict[str, Counter[str]]:
        """How often each verdict was given, operator by operator.

        Returns
        -------
        dict of str to Counter
            In the order of the vectors.
        """
        counts: dict[str, Counter[str]] = {}
        for result in self.results:
            counts.setdefault(result.operator, Counter())[result.verdict] += 1
        return counts

    def to_json(self) -> str:
        """All results as JSON.

        Returns
        -------
        str
            An object with "framework" and "results".
        """
        rows = [asdict(result) for result in self.results]
        for row in rows:
            if row["error"] is not None and not np.isfinite(row["error"]):
                row["error"] = None
        return json.dumps({"framework": self.framework, "results": rows}, indent=1, ensure_ascii=False, allow_nan=False)

    def __str__(self) -> str:
        lines = []
        for operator, counts in self.by_operator().items():
            if counts.keys() != {"not expressible"}:
                said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
                mine = [r for r in self.results if r.operator == operator and r.error is not None]
                worst = max((r.error for r in mine if r.error is not None), default=None)
                gradients = "" if any(r.gradients for r in mine) else ", no gradients"
                lines.append(
                    f"{operator:28} {said}{'' if worst is None else f'; largest error {worst:.1e}'}{gradients}"
                )
        if self.differing:
            lines += ["", "Differences"]
            lines += [f"  {r.operator} {r.case}, {r.rank}-d, {r.dtype}: {r.text}" for r in self.differing]
        without = [name for name, counts in self.by_operator().items() if counts.keys() == {"not expressible"}]
        total = Counter(result.verdict for result in self.results)
        lines += [
            "",
            f"{self.framework}: " + ", ".join(f"{total[verdict]} {verdict}" for verdict in VERDICTS if total[verdict])
            + f"; {len(self.by_operator()) - len(without)} of {len(self.by_operator())} operators",
        ]  # fmt: skip
        return "\n".join(lines)


def conform(
    framework: str | Adapter,
    folder: FilePath | None = None,
    *,
    operators: Iterable[str] | None = None,
    dtypes: Iterable[str] = DTYPES,
    progress: Callable[[int, Result], object] | None = None,
) -> Conformance:
    """Run a framework on the test vectors, and compare what it computes.

    Parameters
    ----------
    framework : str or Adapter
        "torch", "onnxruntime", "jax", "keras", or the path of a Python file (:func:`adapter`).
    folder : path, optional
        The test vectors of a folder instead of those of this cnncore.
    operators : iterable of str, optional
        Only these operators.
    dtypes : iterable of str, default both
        Only these dtypes.
    progress : callable, optional
        ``progress(number, result)``, called for each vector.

    Returns
    -------
    Conformance
        All results; printed, it is a table and a list of differences.

    Raises
    ------
    SettingError
        There is no such framework, operator or dtype.
    ImportError
        The framework is not installed.

    Examples
    --------
    >>> from cnncore.testing import conformance
    >>> def mean(settings, x):                      # forgets the padding
    ...     y = x.mean(axis=tuple(range(2, x.ndim)), keepdims=settings["keepdims"])
    ...     return y, lambda dy: dy.reshape(*y.shape[:2], *[1] * (x.ndim - 2)) / y.size * np.ones_like(x)
    >>> found = conformance.conform(conformance.Adapter("mine", {"global_avg_pool": mean}), operators=["global_avg_pool"])
    >>> print(found.differing[0].text)              # doctest: +ELLIPSIS
    dx[...] is ... instead of ... elements differ)
    """
    framework, dtypes = adapter(framework), tuple(dtypes)
    given = vectors(operators, dtypes) if folder is None else read_vectors(folder, operators)
    results = []
    for vector in given:
        if vector.dtype in dtypes:
            results.append(_result(framework, vector))
            if progress is not None:
                progress(len(results), results[-1])
    return Conformance(framework.name, tuple(results))


def _result(framework: Adapter, vector: Vector) -> Result:
    place = (vector.operator, vector.case, vector.rank, vector.dtype)
    dy = None if framework.forward_only else vector.dy
    try:
        y, gradients = framework.compute(vector.operator, vector.settings, vector.arrays, vector.differentiable, dy)
    except NotImplementedError as reason:
        return Result(*place, "not expressible", text=str(reason))
    except CnnError:
        raise
    except Exception as raised:  # whatever a framework raises
        return Result(*place, "fails", text=f"{type(raised).__name__}: {' '.join(str(raised).split())[:200]}")
    pairs = [("y", y, vector.outputs[0])]
    if gradients is not None:
        names = [name for name, wanted in zip(vector.names, vector.differentiable, strict=True) if wanted]
        pairs += [
            (f"d{name}", found, expected)
            for name, found, expected in zip(names, gradients, vector.gradients, strict=False)
            if found is not None
        ]
    limit, worst = LIMITS[vector.dtype], 0.0
    for name, found, expected in pairs:
        error, text = _difference(name, np.asarray(found), expected, limit)
        if text:
            return Result(*place, "differs", error, gradients is not None, text)
        worst = max(worst, error)
    return Result(*place, "same", worst, gradients is not None)


def _difference(name: str, found: NDArray[Any], expected: NDArray[Any], limit: float) -> tuple[float, str]:
    """The largest difference relative to the largest element, and where it is if it is above the limit."""
    if found.shape != expected.shape:
        return np.inf, f"{name} has shape {found.shape} instead of {expected.shape}"
    if not expected.size:
        return 0.0, ""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    apart[np.isnan(apart)] = np.inf
    largest = np.abs(b[np.isfinite(b)]).max(initial=0.0)
    error = float(apart.max() / max(largest, 1e-3))
    if expected.dtype.kind == "f" and error <= limit:
        return error, ""
    if expected.dtype.kind != "f" and not apart.any():
        return 0.0, ""
    wrong = apart > (limit * max(largest, 1e-3) if expected.dtype.kind == "f" else 0)
    place = np.unravel_index(int(apart.argmax()), apart.shape)
    index, digits = ", ".join(map(str, place)), 16 if expected.dtype == np.float64 else 8
    return error, (
        f"{name}[{index}] is {a[place]:.{digits}g} instead of {b[place]:.{digits}g} (relative difference {error:.2g}; "
        f"{int(wrong.sum())} of {wrong.size} elements differ)"
    )
