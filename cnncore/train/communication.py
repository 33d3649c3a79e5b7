"""What the processes of one training say to each other: the protocol, sums in a fixed order, a thread that talks meanwhile.

A sum of floating-point numbers depends on the order of its additions. Here the order is that of a fixed binary tree over the
shards of a batch, whoever holds which: neighbours are added first, then pairs of neighbours, and so on. The sum has the same
bits for every number of ranks.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Channel", "Communication", "Communicator", "TreeSum", "reduce_along_tree"]

Value = TypeVar("Value")
Span = tuple[int, int]  # shards, from the first to one beyond the last


class Communicator(Protocol):
    """A number of processes, the ranks, that run the same program. Each method is called by all of them, in the same order.

    Attributes
    ----------
    rank : int
        The number of this process, from 0.
    size : int
        The number of all.
    """

    rank: int
    size: int

    def allreduce(self, array: NDArray[Any]) -> None:
        """Replace ``array`` by its sum over all ranks, added in whatever order is fastest.

        Parameters
        ----------
        array : array
            Contiguous, of one shape and dtype on all ranks.
        """

    def allgather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """The arrays of all ranks, in their order; their first extents may differ.

        Parameters
        ----------
        array : array

        Returns
        -------
        list of array
        """

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """The value that rank ``root`` gives.

        Parameters
        ----------
        value : object
            Used on that rank only; anything that pickle takes.
        root : int, optional

        Returns
        -------
        object
        """

    def barrier(self) -> None:
        """Return when all ranks have come here."""

    def exchange(self, array: NDArray[Any], to: int, out: NDArray[Any], source: int) -> None:
        """Send ``array`` to rank ``to``, and receive into ``out`` what rank ``source`` sends here.

        Parameters
        ----------
        array : array
            Contiguous.
        to : int
        out : array
            Contiguous, of the shape and dtype of what comes.
        source : int
        """

    def abort(self, error: BaseException) -> None:
        """End the work of all ranks because of an error of this one; says which rank and why.

        Parameters
        ----------
        error : exception
        """


# ── Sums in a fixed order ──────────────────────────────────────────────────────────────────────────────────────────────


def halves(span: Span) -> tuple[Span, Span]:
    """The two children of a node of the tree: the first is the largest power of two of shards."""
    first, last = span
    middle = first + (1 << (last - first - 1).bit_length() - 1)
    return (first, middle), (middle, last)


class TreeSum(Generic[Value]):
    """Combines what shards contribute along the fixed tree, in whatever order it arrives.

    Parameters
    ----------
    shards : int
        How many there are: the leaves.
    combine : callable
        (left, right) → the value of both; it may be left, changed.

    Attributes
    ----------
    partial : dict
        (first shard, last + 1) → value: what is not combined yet.

    Examples
    --------
    >>> tree = TreeSum(3, lambda left, right: f"({left} + {right})")
    >>> for shard, value in enumerate("abc"):
    ...     tree.add((shard, shard + 1), value)
    >>> tree.partial
    {(0, 3): '((a + b) + c)'}
    """

    def __init__(self, shards: int, combine: Callable[[Value, Value], Value]) -> None:
        self.combine = combine
        self.partial: dict[Span, Value] = {}
        self.parents: dict[Span, Span] = {}
        left_to_do = [(0, shards)]
        while left_to_do:
            span = left_to_do.pop()
            if span[1] - span[0] > 1:
                for child in halves(span):
                    self.parents[child] = span
                    left_to_do.append(child)

    def add(self, span: Span, value: Value) -> None:
        """Add what the shards of a node of the tree contribute.

        Parameters
        ----------
        span : (int, int)
            First shard, and one beyond the last.
        value : object
        """
        self.partial[span] = value
        while span in self.parents:
            parent = self.parents[span]
            left, right = halves(parent)
            if left not in self.partial or right not in self.partial:
                return
            self.partial[parent] = self.combine(self.partial.pop(left), self.partial.pop(right))
            span = parent


def spans_of(shards: range, count: int) -> list[Span]:
    """The nodes of the tree over ``count`` leaves into which the neighbouring leaves ``shards`` combine."""
    tree: TreeSum[None] = TreeSum(count, lambda left, right: None)
    for shard in shards:
        tree.add((shard, shard + 1), None)
    return list(tree.partial)


def shards_of_rank(rank: int, ranks: int, shards: int) -> range:
    """The neighbouring shards that a rank computes.

    Parameters
    ----------
    rank, ranks, shards : int

    Returns
    -------
    range
    """
    return range(shards * rank // ranks, shards * (rank + 1) // ranks)


def reduce_along_tree(communicator: Communicator, shards: int, partials: list[NDArray[Any]]) -> None:
    """Write the sum over all ranks, along the tree over ``shards``, into the first of ``partials``.

    Each rank sends and receives about 2 (p − 1)/p times the array, where it has one partial sum: for powers of two in
    2 log₂ p messages (recursive halving and doubling: Rabenseifner 2004, doi:10.1007/978-3-540-24685-5_1, whose pairs of
    neighbours are those of the tree), otherwise in 2 (p − 1).

    Parameters
    ----------
    communicator : Communicator
    shards : int
    partials : list of array
        Flat, contiguous: the partial sums of this rank, as :class:`TreeSum` leaves them.
    """
    ranks = communicator.size
    if ranks & (ranks - 1) == 0 and shards & (shards - 1) == 0:
        reduce_by_halving(communicator, partials[0])
    else:
        reduce_by_slices(communicator, shards, partials)


def reduce_by_halving(communicator: Communicator, array: NDArray[Any]) -> None:
    """Powers of two: pairs of ranks at distance 1, 2, 4 … exchange halves of what they hold, and add; then the way back."""
    rank, first, last = communicator.rank, 0, len(array)
    received = np.empty(-(-len(array) // 2), array.dtype)
    spans = []
    distance = 1
    while distance < communicator.size:
        middle, partner = (first + last) // 2, rank ^ distance
        mine, theirs = ((middle, last), (first, middle)) if rank & distance else ((first, middle), (middle, last))
        part = received[: mine[1] - mine[0]]
        communicator.exchange(array[slice(*theirs)], partner, part, partner)
        array[slice(*mine)] += part  # a + b = b + a, so both orders of a pair are the tree's
        spans.append((mine, theirs))
        (first, last), distance = mine, 2 * distance
    for mine, theirs in reversed(spans):
        distance //= 2
        partner = rank ^ distance
        communicator.exchange(array[slice(*mine)], partner, array[slice(*theirs)], partner)


def reduce_by_slices(communicator: Communicator, shards: int, partials: list[NDArray[Any]]) -> None:
    """Any numbers: each rank receives all partial sums of one slice, adds them along the tree, and sends the sum to all."""
    rank, ranks, length = communicator.rank, communicator.size, len(partials[0])
    cuts = [length * r // ranks for r in range(ranks + 1)]
    own = slice(cuts[rank], cuts[rank + 1])
    spans = [spans_of(shards_of_rank(r, ranks, shards), shards) for r in range(ranks)]
    tree: TreeSum[NDArray[Any]] = TreeSum(shards, np.add)
    arrived = [np.stack([partial[own] for partial in partials])]
    for step in range(1, ranks):
        to, source = (rank + step) % ranks, (rank - step) % ranks
        sent = np.stack([partial[cuts[to] : cuts[to + 1]] for partial in partials])
        arrived.append(np.empty((len(spans[source]), own.stop - own.start), sent.dtype))
        communicator.exchange(sent, to, arrived[-1], source)
    for step, rows in enumerate(arrived):
        for span, row in zip(spans[(rank - step) % ranks], rows, strict=True):
            tree.add(span, row)
    total = partials[0]
    total[own] = tree.partial[0, shards]
    for step in range(1, ranks):
        to, source = (rank + step) % ranks, (rank - step) % ranks
        communicator.exchange(total[own], to, total[cuts[source] : cuts[source + 1]], source)


def gather_along_tree(
    communicator: Communicator,
    shards: int,
    partial: dict[Span, NDArray[Any]],
    combine: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]],
) -> NDArray[Any]:
    """The value of all shards from the partial ones of all ranks; for small arrays, and any ``combine``."""
    tree: TreeSum[NDArray[Any]] = TreeSum(shards, combine)
    if communicator.size == 1:
        tree.partial = dict(partial)
        return tree.partial[0, shards]
    rows = communicator.allgather(np.stack(list(partial.values())))
    for rank, arrays in enumerate(rows):
        for span, array in zip(spans_of(shards_of_rank(rank, communicator.size, shards), shards), arrays, strict=True):
            tree.add(span, array)
    return tree.partial[0, shards]


def merged_moments(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Count, mean and sum of squares around it of two sets together (Chan, Golub & LeVeque 1983, doi:10.2307/2683386)."""
    count = left[0] + right[0]
    share = right[0] / np.maximum(count, 1)
    distance = right[1] - left[1]
    return np.stack([count, left[1] + distance * share, left[2] + right[2] + distance * distance * left[0] * share])


# ── A thread that talks while others compute ───────────────────────────────────────────────────────────────────────────


@dataclass
class Communication:
    """What communication has cost.

    Parameters
    ----------
    seconds : float
        That it took.
    waited : float
        That the computation waited for it.
    bytes : int
        Bytes of the arrays that were summed over the ranks.
    """

    seconds: float = 0.0
    waited: float = 0.0
    bytes: int = 0

    @property
    def hidden(self) -> float:
        """The share of its time that ran beside the computation: 0 to 1."""
        return max(0.0, 1 - self.waited / self.seconds) if self.seconds > 0 else 1.0


class Channel:
    """Runs calls of a communicator in sequence in a separate thread; with one rank, immediately.

    Nonblocking calls of MPI hardly make progress until they are waited for; hence a thread that waits.

    Parameters
    ----------
    communicator : Communicator
    """

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator
        self.cost = Communication()
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        weakref.finalize(self, self._calls.put, None)  # ends the thread

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Have ``call`` run after those that were submitted before.

        Parameters
        ----------
        call : callable

        Returns
        -------
        Future
        """
        future: Future[Any] = Future()
        if self.communicator.size == 1:
            future.set_result(call())
            return future
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=run_calls, args=(self._calls, self.cost), daemon=True)
            self._thread.start()
        self._calls.put((future, call))
        return future

    def wait(self, futures: Iterable[Future[Any]]) -> list[Any]:
        """The results of what was submitted.

        Parameters
        ----------
        futures : iterable of Future

        Returns
        -------
        list
        """
        began = time.perf_counter()
        results = [future.result() for future in futures]
        self.cost.waited += time.perf_counter() - began
        return results

    def now(self, call: Callable[[], Any]) -> Any:
        """The result of ``call``, after what was submitted before.

        Parameters
        ----------
        call : callable

        Returns
        -------
        object
        """
        return self.wait([self.submit(call)])[0]


def run_calls(calls: queue.SimpleQueue[Any], cost: Communication) -> None:
    """What the thread of a channel does until it takes a None."""
    while (taken := calls.get()) is not None:
        future, call = taken
        began = time.perf_counter()
        try:
            result = call()
        except BaseException as error:  # the thread that waits for it raises it
            cost.seconds += time.perf_counter() - began
            future.set_exception(error)
        else:
            cost.seconds += time.perf_counter() - began
            future.set_result(result)
        del taken, future, call  # what they hold on to is not kept while nothing is to be done
