"""A net's arrays by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_unmasked
from ..errors import ShapeError, unknown_name


class Arrays(MutableMapping[str, NDArray[Any]]):
    """Arrays by name: the names, shapes and dtypes are fixed.

    ``arrays[name] = numbers`` copies the numbers into a new array; editing ``arrays[name]`` in place works as well: an
    array that was accessed may be modified for as long as there is a reference to it (see :meth:`versions`).
    """

    def __init__(self, what: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._what = what
        self._arrays = {name: a if a.base is None else a.copy() for name, a in arrays.items()}
        self._taken = dict.fromkeys(arrays, 0)  # how often each was handed out or replaced

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(
            state
        )  # arrays that another process hands over may lie in its memory, or in a file, read-only
        kept = {name: a if a.base is None and a.flags.writeable else a.copy() for name, a in self._arrays.items()}
        self._arrays = kept

    def versions(self) -> dict[str, int | None]:
        """Name → a number that is unchanged only if the array is; None while there are other references to the array."""
        taken = self._taken
        return {
            name: taken[name] if count == REFERENCES_OF_ONE_DICT else None
            for name, count in references(self._arrays).items()
        }

    def may_have_changed(self, name: str, version: int | None) -> bool:
        """Whether an array may have changed since :meth:`versions` returned ``version`` for it."""
        return version is None or self._taken[name] != version

    def __getitem__(self, name: str) -> NDArray[Any]:
        try:
            array = self._arrays[name]
            self._taken[name] += 1
            return array
        except KeyError:
            raise KeyError(unknown_name(self._what, "name", name, self._arrays)) from None

    def __setitem__(self, name: str, numbers: ArrayLike) -> None:
        before = self[name]
        check_unmasked(self._what, repr(name), numbers)
        array = np.array(numbers, dtype=before.dtype, order="C")
        if array.shape != before.shape:
            raise ShapeError(f"{self._what}[{name!r}]: expected shape {before.shape}, got {array.shape}")
        self._arrays[name] = array
        self._taken[name] += 1

    def __delitem__(self, name: str) -> NoReturn:
        raise TypeError(f"{self._what}: {name!r} belongs to the graph and cannot be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {a.dtype} {a.shape}" for name, a in self._arrays.items()) + "}"


def references(arrays: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """The number of references to each array of a dict, including those of this function."""
    return {name: sys.getrefcount(array) for name, array in arrays.items()}


REFERENCES_OF_ONE_DICT = references({"x": np.empty(1)})["x"]  # nobody else holds a reference
