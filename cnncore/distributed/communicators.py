"""Communicators: one process, threads of one process, and MPI.

Each has the methods of :class:`cnncore.train.communication.Communicator`.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError
from ..runtime import threads as native_threads

__all__ = ["MPICommunicator", "SerialCommunicator", "ThreadCommunicator", "run_in_threads"]

Result = TypeVar("Result")

POLL_SECONDS = 20e-6  # between two looks at a message that has not come; the processor computes meanwhile
LONGEST_POLL_SECONDS = 500e-6
THREAD_TIMEOUT = 60.0
DELAY_PER_RANK, LONGEST_DELAY = (
    0.2,
    2.0,
)  # before a rank reports an error: of several that fail alike, the first one does
ABORT_CODE = 2


class SerialCommunicator:
    """The communicator of a single process: what several ranks do, on one.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> one = cnncore.distributed.SerialCommunicator()
    >>> one.rank, one.size, one.allgather(np.arange(2)), one.broadcast("settings")
    (0, 1, [array([0, 1])], 'settings')
    >>> sums, received = np.arange(2), np.empty(2)
    >>> one.allreduce(sums); one.barrier(); one.exchange(sums, 0, received, 0); received
    array([0., 1.])
    >>> one.abort(ValueError("no other rank has to end"))
    """

    rank, size = 0, 1

    def allreduce(self, array: NDArray[Any]) -> None:
        """The sum over one rank is its array.

        Parameters
        ----------
        array : array
        """

    def allgather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """The array.

        Parameters
        ----------
        array : array

        Returns
        -------
        list of array
        """
        return [array]

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """The value.

        Parameters
        ----------
        value : object
        root : int, optional

        Returns
        -------
        object
        """
        return value

    def barrier(self) -> None:
        """Return at once."""

    def exchange(self, array: NDArray[Any], to: int, out: NDArray[Any], source: int) -> None:
        """Copy ``array`` to ``out``.

        Parameters
        ----------
        array : array
        to : int
        out : array
        source : int
        """
        out[...] = array

    def abort(self, error: BaseException) -> None:
        """There are no others whose work has to end.

        Parameters
        ----------
        error : exception
        """


# ── Threads of one process ─────────────────────────────────────────────────────────────────────────────────────────────


class ThreadGroup:
    """What the ranks of :func:`run_in_threads` share."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=THREAD_TIMEOUT)
        self.table: list[Any] = [None] * size
        self.failure: tuple[int, BaseException] | None = None


class ThreadCommunicator:
    """A rank that is a thread: for tests, and to try a program before it runs on several machines.

    Parameters
    ----------
    group : object
        What the ranks share; :func:`run_in_threads` makes it.
    rank : int

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.distributed import run_in_threads
    >>> def program(ranks):
    ...     total, received = np.array([ranks.rank + 1]), np.empty(1, int)
    ...     ranks.allreduce(total)
    ...     ranks.barrier()
    ...     ranks.exchange(np.array([ranks.rank]), 1 - ranks.rank, received, 1 - ranks.rank)
    ...     return int(total[0]), int(received[0]), ranks.broadcast(ranks.rank), len(ranks.allgather(total))
    >>> run_in_threads(2, program)
    [(3, 1, 0, 2), (3, 0, 0, 2)]
    >>> run_in_threads(2, lambda ranks: ranks.abort(ValueError("no images")) if ranks.rank else ranks.barrier())
    Traceback (most recent call last):
      ...
    ValueError: no images
    """

    def __init__(self, group: ThreadGroup, rank: int) -> None:
        self.group, self.rank, self.size = group, rank, group.size

    def _shared(self, value: Any) -> list[Any]:
        """The values of all ranks."""
        try:
            self.group.table[self.rank] = value
            self.group.barrier.wait()
            values = list(self.group.table)
            self.group.barrier.wait()
        except threading.BrokenBarrierError:
            rank, error = self.group.failure or (self.rank, None)
            raise SettingError(f"rank {rank} has failed: {error or 'it did not answer'}") from error
        return values

    def allreduce(self, array: NDArray[Any]) -> None:
        """Replace ``array`` by its sum over all ranks.

        Parameters
        ----------
        array : array

        Raises
        ------
        SettingError
            Another rank has failed, or did not answer.
        """
        first, *others = self._shared(array.copy())
        array[...] = sum(others, start=first)

    def allgather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """The arrays of all ranks.

        Parameters
        ----------
        array : array

        Returns
        -------
        list of array

        Raises
        ------
        SettingError
            Another rank has failed, or did not answer.
        """
        return self._shared(array.copy())

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """The value of rank ``root``.

        Parameters
        ----------
        value : object
        root : int, optional

        Returns
        -------
        object

        Raises
        ------
        SettingError
            Another rank has failed, or did not answer.
        """
        return self._shared(value)[root]

    def barrier(self) -> None:
        """Return when all ranks have come here.

        Raises
        ------
        SettingError
            Another rank has failed, or did not answer.
        """
        self._shared(None)

    def exchange(self, array: NDArray[Any], to: int, out: NDArray[Any], source: int) -> None:
        """Send ``array`` to rank ``to``, and receive into ``out`` what rank ``source`` sends here.

        Parameters
        ----------
        array : array
        to : int
        out : array
        source : int

        Raises
        ------
        SettingError
            Another rank has failed, or did not answer.
        """
        receiver, sent = self._shared((to, array.copy()))[source]
        assert receiver == self.rank
        out[...] = sent

    def abort(self, error: BaseException) -> None:
        """Make the other ranks fail where they wait.

        Parameters
        ----------
        error : exception
        """
        if self.group.failure is None:
            self.group.failure = self.rank, error
        self.group.barrier.abort()


def run_in_threads(size: int, function: Callable[[ThreadCommunicator], Result]) -> list[Result]:
    """Call ``function(communicator)`` in as many threads, each a rank; return the results in the order of the ranks.

    Parameters
    ----------
    size : int
        The number of ranks.
    function : callable

    Returns
    -------
    list

    Raises
    ------
    Exception
        What the first failing rank raised.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.distributed import run_in_threads
    >>> run_in_threads(3, lambda ranks: int(sum(ranks.allgather(np.array([ranks.rank])))[0]))
    [3, 3, 3]
    """
    group = ThreadGroup(size)
    results: list[Any] = [None] * size

    def work(rank: int) -> None:
        communicator = ThreadCommunicator(group, rank)
        try:
            results[rank] = function(communicator)
        except BaseException as error:
            communicator.abort(error)

    started = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(size)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if group.failure is not None:
        raise group.failure[1]
    return results


# ── MPI ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class MPICommunicator:
    """The processes that ``mpiexec`` started, by mpi4py (``pip install 'cnncore[mpi]'``).

    Start programs by ``mpiexec -n 4 python -m mpi4py PROGRAM``: an exception that nobody catches then ends all ranks.
    Where several ranks run on one machine, each is bound to its share of the processors that the launcher left it, and uses
    as many threads.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        By default a duplicate of ``MPI.COMM_WORLD``.
    bind : bool, optional
        Whether processors and threads are divided among the ranks of a machine; never where ``CNNCORE_NUM_THREADS`` is set.

    Attributes
    ----------
    rank, size : int

    Raises
    ------
    SettingError
        mpi4py is missing, or it was initialised without support of threads.
    """

    def __init__(self, comm: Any = None, bind: bool = True) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise SettingError(
                f"MPICommunicator: needs mpi4py and an MPI library ({error}): pip install 'cnncore[mpi]', and for example "
                "apt-get install mpich"
            ) from None
        if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
            raise SettingError(
                "MPICommunicator: MPI was initialised for a single thread; gradients are sent by another one. Import mpi4py "
                "before anything else initialises MPI, with mpi4py.rc.thread_level = 'serialized' or more"
            )
        self._mpi: Any = MPI
        self.comm = MPI.COMM_WORLD.Dup() if comm is None else comm
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()
        self.processors = None
        if bind and self.size > 1 and "CNNCORE_NUM_THREADS" not in os.environ:
            self.processors = self._bind()

    def _bind(self) -> list[int] | None:
        """Bind this rank to its share of the processors; returns them."""
        host = self.comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        here, ranks = host.Get_rank(), host.Get_size()
        if not hasattr(os, "sched_getaffinity"):
            host.Free()
            return None
        allowed = sorted(os.sched_getaffinity(0))
        own = allowed
        if ranks > 1 and all(other == allowed for other in host.allgather(allowed)):  # the launcher has bound nobody
            count = len(allowed)
            own = allowed[count * here // ranks : count * (here + 1) // ranks] or [allowed[here % count]]
            os.sched_setaffinity(0, own)
        host.Free()
        native_threads.set_num_threads(len(own))
        return own

    def _finished(self, request: Any) -> None:
        """Wait for a nonblocking call without keeping the processor from computing."""
        pause = POLL_SECONDS
        while not request.Test():
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL_SECONDS)

    def allreduce(self, array: NDArray[Any]) -> None:
        """Replace ``array`` by its sum over all ranks, in the order that MPI chooses.

        Parameters
        ----------
        array : array
        """
        self._finished(self.comm.Iallreduce(self._mpi.IN_PLACE, array))

    def allgather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """The arrays of all ranks, in their order.

        Parameters
        ----------
        array : array
            With one dtype and number of axes on all ranks; the first extents may differ.

        Returns
        -------
        list of array
        """
        array = np.ascontiguousarray(array)
        shapes = np.empty((self.size, array.ndim), np.int64)
        self._finished(self.comm.Iallgather(np.array(array.shape, np.int64), shapes))
        counts = np.prod(shapes, axis=1) * array.itemsize
        starts = np.concatenate([[0], np.cumsum(counts)])
        received = np.empty(int(starts[-1]), np.uint8)
        sent = array.reshape(-1).view(np.uint8)
        kind = self._mpi.BYTE
        self._finished(self.comm.Iallgatherv([sent, kind], [received, counts.tolist(), starts[:-1].tolist(), kind]))
        pieces = (received[a:b] for a, b in itertools.pairwise(starts))
        return [piece.view(array.dtype).reshape(tuple(s)) for piece, s in zip(pieces, shapes.tolist(), strict=True)]

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """The value of rank ``root``.

        Parameters
        ----------
        value : object
        root : int, optional

        Returns
        -------
        object
        """
        return self.comm.bcast(value, root)

    def barrier(self) -> None:
        """Return when all ranks have come here."""
        self._finished(self.comm.Ibarrier())

    def exchange(self, array: NDArray[Any], to: int, out: NDArray[Any], source: int) -> None:
        """Send ``array`` to rank ``to``, and receive into ``out`` what rank ``source`` sends here.

        Parameters
        ----------
        array : array
        to : int
        out : array
        source : int
        """
        kind = self._mpi.BYTE
        sent = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        received = self.comm.Irecv([out.reshape(-1).view(np.uint8), kind], source)
        sending = self.comm.Isend([sent, kind], to)
        self._finished(received)
        self._finished(sending)

    def abort(self, error: BaseException) -> NoReturn:
        """Print which rank failed and why, and end all ranks.

        Where several ranks fail alike, one prints.

        Parameters
        ----------
        error : exception
        """
        time.sleep(min(self.rank * DELAY_PER_RANK, LONGEST_DELAY))
        name = type(error).__name__
        text = " ".join(str(error).split()) or name
        host = self._mpi.Get_processor_name()
        sys.stdout.flush()
        print(f"cnncore: error: rank {self.rank} of {self.size} ({host}): {name}: {text}", file=sys.stderr, flush=True)
        try:
            self._mpi.COMM_WORLD.Abort(ABORT_CODE)
        finally:
            os._exit(ABORT_CODE)
