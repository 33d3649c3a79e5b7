"""Many independent tasks: in this process, in several, or on the workers of a Dask scheduler.

Results come as they are finished. What a task raises is its result; a worker that dies costs only what it was doing, which is
done again elsewhere. What has to outlive this process, tasks write to files themselves.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ..checks import integer
from ..errors import DataError, SettingError
from ..runtime.threads import set_num_threads

__all__ = ["finished"]

MOST_ATTEMPTS = 3  # of a task whose worker dies
MOST_WORKERS = 1024

Outcome = tuple[int, Any, Exception | None]  # number of the task, its result, what it raised instead


def finished(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    workers: int = 1,
    scheduler: str | None = None,
) -> Iterator[Outcome]:
    """Call ``function(*task)`` for every task; yield the outcomes as they come.

    Parameters
    ----------
    function : callable
        Importable by name where it runs in other processes.
    tasks : sequence of tuple
    workers : int, optional
        Processes of this machine; 1: this process.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers run the tasks instead (extra ``dask``).

    Yields
    ------
    (int, object, Exception or None)
        The number of a task, what the call returned, and what it raised.
    """
    workers = integer("workers", "workers", workers, 1, MOST_WORKERS)
    if scheduler is not None:
        yield from on_dask(function, tasks, scheduler)
    elif workers == 1:
        for number, task in enumerate(tasks):
            yield attempted(number, function, task)
    else:
        yield from in_processes(function, tasks, min(workers, max(len(tasks), 1)))


def attempted(number: int, function: Callable[..., Any], task: tuple[Any, ...]) -> Outcome:
    """The outcome of a call; errors of every kind are one."""
    try:
        return number, function(*task), None
    except Exception as error:
        return number, None, error


def in_processes(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], workers: int) -> Iterator[Outcome]:
    """The outcomes from processes of this machine; each gets its share of the threads."""
    waiting, share = deque(range(len(tasks))), max(1, (os.cpu_count() or 1) // workers)
    while waiting:
        suspects = yield from until_one_dies(function, tasks, waiting, workers, share)
        for number in suspects:  # by itself, so that a task that kills its process takes no other with it
            yield alone(function, tasks, number, share)


def processes_of(workers: int, share: int) -> concurrent.futures.ProcessPoolExecutor:
    """Fresh processes with this many threads each."""
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, context, set_num_threads, (share,))


def until_one_dies(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], waiting: deque[int], workers: int, share: int
) -> Generator[Outcome, None, list[int]]:
    """Take tasks from ``waiting`` until none is left, or a process dies: then return what was being done."""
    running: dict[Any, int] = {}
    with processes_of(workers, share) as processes:
        while waiting or running:
            try:
                while waiting and len(running) <= workers:
                    future = processes.submit(attempted, waiting[0], function, tasks[waiting[0]])
                    running[future] = waiting.popleft()
                done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                outcomes = [(future, future.result()) for future in done if future.exception() is None]
            except BrokenProcessPool:
                return sorted(running.values())
            for future, outcome in outcomes:
                del running[future]
                yield outcome
            if len(outcomes) < len(done):
                return suspects_of(running, done)
    return []


def suspects_of(running: dict[Any, int], done: set[Any]) -> list[int]:
    """The tasks whose process has died; any other error of a call is raised."""
    for future in done & running.keys():
        error = future.exception()
        if not isinstance(error, BrokenProcessPool):
            raise error
    return sorted(running.values())


def alone(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], number: int, share: int) -> Outcome:
    """The outcome of a task in a process of its own; it gets several, one after the other, if they die."""
    for _ in range(MOST_ATTEMPTS - 1):
        with contextlib.suppress(BrokenProcessPool), processes_of(1, share) as process:
            return process.submit(attempted, number, function, tasks[number]).result()
    return number, None, DataError(f"a process died {MOST_ATTEMPTS} times over this task")


def on_dask(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], scheduler: str) -> Iterator[Outcome]:
    """The outcomes from the workers of a Dask scheduler."""
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise SettingError(f"scheduler: needs Dask ({error}): pip install 'cnncore[dask]'") from None
    try:
        client = Client(scheduler, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SettingError(f"scheduler {scheduler}: no answer ({error}); start one by `dask scheduler`") from None
    with client:
        futures = {
            client.submit(attempted, number, function, task, pure=False, retries=MOST_ATTEMPTS - 1): number
            for number, task in enumerate(tasks)
        }
        for future in as_completed(list(futures), loop=client.loop):
            number = futures[future]
            try:
                yield future.result()
            except Exception as error:  # its workers died again and again
                yield number, None, DataError(f"workers were lost over this task ({type(error).__name__}: {error})")
            future.release()
