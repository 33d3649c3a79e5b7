"""Test vectors: every operator × case × dtype with its settings, arrays, outputs and gradients, as objects and as files."""

from __future__ import annotations

import io
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._version import __version__
from ...checks import path_name, read_file
from ...errors import DataError, FileReadError, SettingError, unknown_name
from ...io.files import write_atomically
from ...operators.operator import Op
from ...operators.registry import OPS
from ...operators.schema import Case
from ...typing import FilePath
from ..operators import named_cases

__all__ = ["DTYPES", "SCHEMA", "VERSION", "Vector", "read_vectors", "vectors", "write_vectors"]

FORMAT, VERSION = "cnncore-vectors", 1
DTYPES = ("float32", "float64")
SPATIAL = ("convolution", "pooling", "layers")  # families that see where an element lies, also in three dimensions
STATES = ("state", "window_state")  # arrays that hold what a random operator drew, to be used instead of drawing

_KEY = {"type": ["string", "null"], "description": "name of an array in the operator's npz file; null: left out"}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Test vectors of cnncore",
    "type": "object",
    "required": ["format", "version", "cnncore", "vectors"],
    "properties": {
        "format": {"const": FORMAT},
        "version": {"const": VERSION},
        "cnncore": {"type": "string"},
        "vectors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": [
                    "operator", "case", "rank", "dtype", "file", "settings", "arrays", "outputs", "dy", "gradients"
                ],
                "additionalProperties": False,
                "properties": {
                    "operator": {"type": "string"},
                    "case": {"type": "string"},
                    "rank": {"type": "integer", "description": "spatial axes of the first array"},
                    "dtype": {"enum": list(DTYPES), "description": "of all real arrays"},
                    "file": {"type": "string", "description": "npz file with the arrays"},
                    "settings": {
                        "type": "object",
                        "description": "all settings, with defaults; infinity and NaN as {\"float\": \"inf\"}",
                    },
                    "arrays": {
                        "type": "array",
                        "description": "the array arguments in order; real ones are stored as float32, exact in both dtypes",
                        "items": {
                            "type": "object",
                            "required": ["name", "key", "differentiable"],
                            "properties": {
                                "name": {"type": "string"}, "key": _KEY, "differentiable": {"type": "boolean"}
                            },
                        },
                    },
                    "outputs": {"type": "array", "items": _KEY, "description": "y, then further outputs"},
                    "dy": _KEY,
                    "gradients": {
                        "type": "array",
                        "items": _KEY,
                        "description": "of the differentiable arrays, in order, for dy; empty where y is not real",
                    },
                },
            },
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Vector:
    """One call of an operator, and what it should give.

    Attributes
    ----------
    operator, case : str
        Their names.
    rank : int
        Number of spatial axes.
    dtype : str
        "float32" or "float64", of all real arrays.
    settings : mapping
        All settings, with defaults.
    names : tuple of str
        Names of the array arguments.
    arrays : tuple of array or None
        The array arguments.
    differentiable : tuple of bool
        Which of them have a gradient.
    outputs : tuple of array
        y, then further outputs.
    dy : array or None
        A gradient with respect to y; None where y is not real or no array has a gradient.
    gradients : tuple of array
        Gradients of the differentiable arrays for dy.

    Examples
    --------
    >>> from cnncore.testing import conformance
    >>> vector = next(conformance.vectors(["lp_pool"]))
    >>> print(vector)
    lp_pool kernel_size=2, 1-d, float32
    >>> vector.names, vector.differentiable, vector.dy.shape == vector.outputs[0].shape
    (('x',), (True,), True)
    """

    operator: str
    case: str
    rank: int
    dtype: str
    settings: Mapping[str, Any]
    names: tuple[str, ...]
    arrays: tuple[Any, ...]
    differentiable: tuple[bool, ...]
    outputs: tuple[NDArray[Any], ...]
    dy: NDArray[Any] | None = None
    gradients: tuple[NDArray[Any], ...] = field(default=())

    def __str__(self) -> str:
        return f"{self.operator} {self.case}, {self.rank}-d, {self.dtype}"


def vectors(operators: Iterable[str] | None = None, dtypes: Iterable[str] = DTYPES) -> Iterator[Vector]:
    """Compute test vectors: the cases of operators, in one and two dimensions; of convolution, pooling and other layers the
    first case in three dimensions as well.

    Both dtypes get the same numbers, so that they choose the same maxima and ties. What a random operator draws is among
    the arrays wherever the operator takes it, so that it can be repeated elsewhere.

    Parameters
    ----------
    operators : iterable of str, optional
        Names of operators, by default all.
    dtypes : iterable of str, default both
        "float32", "float64".

    Yields
    ------
    Vector
        In the order of the registry.

    Raises
    ------
    SettingError
        There is no such operator or dtype.

    Examples
    --------
    >>> from cnncore.testing import conformance
    >>> first = next(conformance.vectors(["max_pool"]))
    >>> str(first), first.arrays[0].shape, [y.shape for y in first.outputs]
    ('max_pool kernel_size=2, 1-d, float32', (2, 3, 6), [(2, 3, 3)])
    """
    dtypes = tuple(dtypes)
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise SettingError(unknown_name("vectors", "dtype", dtype, DTYPES))
    for name in OPS if operators is None else tuple(operators):
        if name not in OPS:
            raise SettingError(unknown_name("vectors", "operator", name, OPS, "`cnncore ops` lists all."))
        for case_name, rank, arrays, settings in _calls(OPS[name]):
            for dtype in dtypes:
                yield _computed(OPS[name], case_name, rank, dtype, arrays, settings)


def _calls(op: Op) -> Iterator[tuple[str, int, list[Any], dict[str, Any]]]:
    """(case, rank, arrays, settings) of the calls of an operator: batches where they are small, single images elsewhere."""
    for number, (case, name) in enumerate(named_cases(op)):
        for rank in case.ranks:
            if rank <= 2 or min(case.ranks) > 2 or (number == 0 and op.group in SPATIAL):
                alone = rank == 3 or (rank == 2 and number > 0)  # keeps the files small
                yield name, rank, *_repeatable(op, case.but(batch=1) if alone else case, rank)


def _repeatable(op: Op, case: Case, rank: int) -> tuple[list[Any], dict[str, Any]]:
    """Arrays and settings of a case, with what would be drawn among the arrays."""
    arrays, settings = list(case.sample(rank, np.float32)), dict(case.settings)
    states = [i for i, row in enumerate(op.arrays) if row.name in STATES]
    if "return_state" in op.settings and states and all(i >= len(arrays) or arrays[i] is None for i in states):
        asked = {k: v for k, v in settings.items() if not k.startswith("return_")}
        try:
            drawn = op(*arrays, **asked, return_state=True)
        except SettingError:  # outside training nothing is drawn
            return arrays, settings
        if isinstance(drawn, tuple) and len(drawn) == 1 + len(states):
            arrays += [None] * (states[-1] + 1 - len(arrays))
            for place, state in zip(states, drawn[1:], strict=True):
                arrays[place] = state
    return arrays, settings


def _computed(op: Op, case: str, rank: int, dtype: str, arrays: list[Any], settings: dict[str, Any]) -> Vector:
    given = [a.astype(dtype) if a is not None and a.dtype.kind == "f" else a for a in arrays]
    found, backward = op.with_backward(*given, **settings)
    outputs = found if isinstance(found, tuple) else (found,)
    bound, call = op.bind(tuple(given), dict(settings))
    needs = op.needs_gradient(bound)
    dy: NDArray[Any] | None = None
    gradients: tuple[Any, ...] = ()
    if op.yields == "real" and any(needs):
        dy = np.random.default_rng(5).standard_normal(outputs[0].shape).astype(np.float32).astype(dtype)
        gradient = backward(dy)
        gradients = gradient if isinstance(gradient, tuple) else (gradient,)
    rows = op.rows(len(bound))
    names = [row.name if not row.variadic else f"{row.name}[{i - len(op.arrays) + 1}]" for i, row in enumerate(rows)]
    return Vector(
        op.name, case, rank, dtype, dict(call.settings), tuple(names), tuple(bound), tuple(needs),
        tuple(np.asarray(y) for y in outputs), dy, tuple(np.asarray(g) for g in gradients),
    )  # fmt: skip


# ── Files ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_vectors(
    output: FilePath,
    operators: Iterable[str] | None = None,
    dtypes: Iterable[str] = DTYPES,
    progress: Callable[[int, Vector], object] | None = None,
) -> dict[str, Any]:
    """Write test vectors to a folder: ``vectors.json``, its ``schema.json``, and one npz file for each operator.

    The same cnncore writes the same bytes.

    Parameters
    ----------
    output : path
        The folder; it is made where it is missing.
    operators, dtypes : iterable of str, optional
        As in :func:`vectors`.
    progress : callable, optional
        ``progress(number, vector)``, called for each.

    Returns
    -------
    dict
        "vectors": how many, "operators": of how many, "bytes": of all files.

    Raises
    ------
    FileWriteError
        A file cannot be written.

    Examples
    --------
    >>> from cnncore.testing import conformance
    >>> written = conformance.write_vectors("vectors", ["relu"])
    >>> written["vectors"], sorted(path.name for path in __import__("pathlib").Path("vectors").iterdir())
    (4, ['relu.npz', 'schema.json', 'vectors.json'])
    """
    folder = pathlib.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    files: dict[str, dict[str, NDArray[Any]]] = {}
    for number, vector in enumerate(vectors(operators, dtypes), 1):
        rows.append(_row(vector, files.setdefault(f"{vector.operator}.npz", {})))
        if progress is not None:
            progress(number, vector)
    total = 0
    for name, arrays in files.items():
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]  # names are arrays' names, never "file"
        total += _write(folder / name, content.getvalue())
    index = {"format": FORMAT, "version": VERSION, "cnncore": __version__, "vectors": rows}
    total += _write(folder / "vectors.json", _json(index))
    total += _write(folder / "schema.json", _json(SCHEMA))
    return {"vectors": len(rows), "operators": len(files), "bytes": total}


def _write(path: pathlib.Path, content: bytes) -> int:
    write_atomically(path, content)
    return len(content)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _row(vector: Vector, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """The entry of a vector, whose arrays are added to those of its operator's file."""
    place = f"{vector.case}/{vector.rank}d"

    def kept(name: str, array: Any) -> str | None:
        if array is not None:
            arrays[name] = np.ascontiguousarray(array).reshape(np.shape(array))
        return None if array is None else name

    inputs = [
        {
            "name": name,
            "key": kept(f"{place}/{name}", a.astype(np.float32) if a is not None and a.dtype.kind == "f" else a),
            "differentiable": differentiable,
        }
        for name, a, differentiable in zip(vector.names, vector.arrays, vector.differentiable, strict=True)
    ]
    return {
        "operator": vector.operator,
        "case": vector.case,
        "rank": vector.rank,
        "dtype": vector.dtype,
        "file": f"{vector.operator}.npz",
        "settings": {name: _plain(value) for name, value in vector.settings.items()},
        "arrays": inputs,
        "outputs": [kept(f"{place}/{vector.dtype}/output {i}", y) for i, y in enumerate(vector.outputs)],
        "dy": kept(f"{place}/dy", None if vector.dy is None else vector.dy.astype(np.float32)),
        "gradients": [kept(f"{place}/{vector.dtype}/gradient {i}", g) for i, g in enumerate(vector.gradients)],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return {"float": str(value)} if isinstance(value, float) and not math.isfinite(value) else value


def _setting(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_setting(item) for item in value)
    return float(value["float"]) if isinstance(value, dict) else value


def read_vectors(folder: FilePath, operators: Iterable[str] | None = None) -> Iterator[Vector]:
    """Read the test vectors of a folder that :func:`write_vectors` wrote.

    Parameters
    ----------
    folder : path
        The folder.
    operators : iterable of str, optional
        Only those of these operators.

    Yields
    ------
    Vector
        In the order of the file.

    Raises
    ------
    DataError
        The files are none of these, of another version, or incomplete.

    Examples
    --------
    >>> from cnncore.testing import conformance
    >>> _ = conformance.write_vectors("more_vectors", ["relu", "exp"])
    >>> [str(vector) for vector in conformance.read_vectors("more_vectors", ["exp"])][:1]
    ['exp default, 1-d, float32']
    """
    path = pathlib.Path(path_name(folder, "a folder of test vectors")) / "vectors.json"
    wanted = None if operators is None else set(operators)
    try:
        index = json.loads(read_file(path, "an index of test vectors, as `cnncore vectors` writes it"))
    except FileReadError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as test vectors ({error}); `cnncore vectors` writes them") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT or index.get("version") != VERSION:
        raise DataError(f"{path}: no test vectors of version {VERSION}; `cnncore vectors` writes them")
    name, arrays = "", {}
    for row in index["vectors"]:
        if wanted is not None and row["operator"] not in wanted:
            continue
        try:
            if row["file"] != name:
                name = row["file"]
                with np.load(path.parent / pathlib.PurePath(name).name, allow_pickle=False) as file:
                    arrays = dict(file)
            yield _vector(row, arrays)
        except (KeyError, OSError, ValueError) as error:
            raise DataError(f"{path}: {row.get('operator')}: {error}; write the vectors again") from None


def _vector(row: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Vector:
    def found(key: str | None) -> Any:
        array = None if key is None else arrays[key]
        return array.astype(row["dtype"]) if array is not None and array.dtype.kind == "f" else array

    return Vector(
        row["operator"], row["case"], row["rank"], row["dtype"],
        {name: _setting(value) for name, value in row["settings"].items()},
        tuple(a["name"] for a in row["arrays"]), tuple(found(a["key"]) for a in row["arrays"]),
        tuple(a["differentiable"] for a in row["arrays"]), tuple(found(key) for key in row["outputs"]), found(row["dy"]),
        tuple(found(key) for key in row["gradients"]),
    )  # fmt: skip
