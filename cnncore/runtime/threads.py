"""The number of threads that a call may use.

Results never depend on it: no sum is divided differently for another number of threads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import SettingError
from . import dispatch

__all__ = ["get_num_threads", "set_num_threads", "threads"]

MOST_THREADS = 256


def set_num_threads(n: int) -> None:
    """Let every call use up to ``n`` native threads (1 to 256), of which no more run than there are processors.

    Parameters
    ----------
    n : int
        The number of threads.

    Raises
    ------
    SettingError
        ``n`` is not an integer from 1 to 256.

    Examples
    --------
    >>> import cnncore
    >>> before = cnncore.get_num_threads()
    >>> cnncore.set_num_threads(1); cnncore.get_num_threads()
    1
    >>> cnncore.set_num_threads(before)
    """
    if isinstance(n, bool) or not hasattr(n, "__index__") or not 1 <= n.__index__() <= MOST_THREADS:
        raise SettingError(
            f"set_num_threads: the number of threads must be an integer from 1 to {MOST_THREADS}, got {n!r}"
        )
    dispatch.set_threads(n.__index__())


def get_num_threads() -> int:
    """The number of native threads a call may use.

    Returns
    -------
    int
        Initially CNNCORE_NUM_THREADS, else OMP_NUM_THREADS, else the number of processors that the process may use.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.get_num_threads() >= 1
    True
    """
    return dispatch.get_threads()


@contextmanager
def threads(n: int) -> Iterator[None]:
    """``with cnncore.threads(1): …`` uses ``n`` threads inside the block.

    Parameters
    ----------
    n : int
        The number of threads, 1 to 256.

    Yields
    ------
    None
        The previous number is restored when the block ends.

    Raises
    ------
    SettingError
        ``n`` is not an integer from 1 to 256.

    Examples
    --------
    >>> import cnncore
    >>> with cnncore.threads(2):
    ...     cnncore.get_num_threads()
    2
    """
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


def default_threads() -> int:
    """CNNCORE_NUM_THREADS, else OMP_NUM_THREADS, else the processors of this process (affinity and cgroup quota)."""
    for variable in ("CNNCORE_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(variable, "").split(",")[0].strip()
        if text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0:
            return min(int(text), MOST_THREADS)
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        processors = os.cpu_count() or 1
    return int(max(1, min(processors, _cgroup_processors(), MOST_THREADS)))


def _cgroup_processors() -> float:
    """Number of processors within a container's quota; infinite if there is none."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return math.inf if quota == "max" else max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        return math.inf


dispatch.set_threads(default_threads())
if _cgroup_processors() < MOST_THREADS:
    dispatch.set_processors_limit(int(_cgroup_processors()))
