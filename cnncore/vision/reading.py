"""Reading ahead: what is needed next is made on other threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..runtime.threads import get_num_threads

__all__ = ["MOST_THREADS", "read_ahead"]

MOST_THREADS = 8
Source = TypeVar("Source")
Made = TypeVar("Made")


def read_ahead(read: Callable[[Source], Made], sources: Iterable[Source], ahead: int) -> Generator[Made, None, None]:
    """Yield ``read(source)`` of each source in order, while up to ``ahead`` later ones are being read on other threads.

    Parameters
    ----------
    read : callable
    sources : iterable
    ahead : int

    Yields
    ------
    object
        What ``read`` returns; its exception is raised where its turn comes.

    Examples
    --------
    >>> list(read_ahead(str.upper, ["a", "b", "c"], ahead=2))
    ['A', 'B', 'C']
    """
    pool = ThreadPoolExecutor(min(MOST_THREADS, get_num_threads()), "cnncore-images")
    waiting: deque[Future[Made]] = deque()
    try:
        for source in sources:
            waiting.append(pool.submit(read, source))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
