"""What this machine costs: the numbers by which algorithms are chosen and calls are divided among threads.

The built-in numbers were fitted on one processor. :func:`measure` finds those of the machine at hand, in a few tenths of
a second, and keeps them in a file of the user's cache folder, one per version of the library, CPU model and CPU target.
They are measured only when asked for; from then on every process of the user finds them there.

A choice of algorithms changes the last bits of results. Where these have to be the same on several machines, all of them
need the same numbers: CNNCORE_COSTS=off, or one file for all.

Whoever can write to the user's cache folder decides, by these numbers, how fast nets are and how they round, and no more: a
file is read up to a bounded length, has to be an ordinary one, and its numbers have to lie between bounds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import re
import stat
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from .._version import __version__
from ..errors import EnvironmentWarning, SettingError, unknown_name
from . import dispatch
from .recent import forget_calls

__all__ = [
    "Costs",
    "cache_file",
    "cpu_model",
    "in_force",
    "measure",
    "measurements",
    "origin",
    "restore",
    "target_changed",
    "use",
]

FORMAT = 1
VARIABLE = "CNNCORE_COSTS"
CPU_FACTS = Path("/proc/cpuinfo")
MOST_BYTES = 1 << 16  # of a file of costs
# Of a number: far beyond any machine, and such that products with the largest amounts of work are finite.
LEAST, MOST = 1e-6, 1e9
MOST_OF = {"overlap": 1.0}  # a share
# What tells CPUs apart, of the first paragraph of CPU_FACTS: virtual machines often give many of them one name.
CPU_LINES = (
    *("vendor_id", "cpu family", "model", "model name", "stepping", "cache size"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
)

# A thread has to save several times what it costs to call it. What is measured is taken between these limits: a machine
# that is busy meanwhile shall not do everything on one thread.
WORTH_OF_CALLS = 8.0
TURNS, CALLS = 8, 50
STEPS = 1 << 14  # of each of two tasks: a few hundredths of a millisecond
NOT_SHARED = 0.9  # of the time of one thread: the second one had no processor
LEAST_WORTH, MOST_WORTH = 5_000.0, 100_000.0


@dataclasses.dataclass(frozen=True)
class Costs:
    """What operations cost on a machine; the unit is a multiply-add of direct convolution, unless another is named.

    Parameters
    ----------
    product : float, default 1.0
        A multiply-add of Winograd's products.
    transform : float, default 6.0
        Winograd's transforms, per point of a tile and channel.
    reading : float, default 8.0
        Reading a packed weight from memory.
    overlap : float, default 1.0
        The share of that time in which the processor multiplies, too: all of it where it fetches weights far enough ahead.
    parities : float, default 1.35
        By what factor Winograd's products and transforms of windows with stride 2 take longer: each is a sum of up to four
        short ones.
    thread : float, default 30000.0
        The work that is worth another thread, in elementary operations (of 32 multiply-adds each).

    Raises
    ------
    SettingError
        A number is not between 1e-6 and 1e9, or ``overlap`` is more than 1.

    Examples
    --------
    >>> import cnncore
    >>> cnncore.cpu.Costs(transform=5).transform
    5.0
    """

    product: float = 1.0
    transform: float = 6.0
    reading: float = 8.0
    overlap: float = 1.0
    parities: float = 1.35
    thread: float = 30_000.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            usable = isinstance(value, (int, float)) and not isinstance(value, bool)
            most = MOST_OF.get(field.name, MOST)
            if not usable or not LEAST <= value <= most:
                raise SettingError(
                    f"costs: {field.name} must be a number between {LEAST:g} and {most:g}, got {value!r:.80}"
                )
            object.__setattr__(self, field.name, float(value))

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """Costs from a mapping of names to numbers; those that are not named are the built-in ones.

        Parameters
        ----------
        data : mapping of str to float
            Numbers by name.

        Returns
        -------
        Costs
            The numbers.

        Raises
        ------
        SettingError
            A name is unknown, or a number is none.

        Examples
        --------
        >>> import cnncore
        >>> cnncore.cpu.Costs.from_data({"reading": 12}).reading
        12.0
        """
        if not isinstance(data, Mapping):
            raise SettingError(f"costs: expected a mapping of names to numbers, got {type(data).__name__}")
        names = [field.name for field in dataclasses.fields(cls)]
        for name in data:
            if name not in names:
                raise SettingError(unknown_name("costs", "cost", f"{name!s:.80}", names, "There are"))
        return cls(**data)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in dataclasses.asdict(self).items())


BUILT_IN = Costs()

# name of a family → what it measures of the current target, on one thread: facts by name, of which those that are names of
# Costs become costs. Families add theirs; "operation_ns" is what one of them has to tell: an elementary operation's time.
measurements: dict[str, Callable[[], dict[str, float]]] = {}

_lock = threading.RLock()
_given: tuple[Costs, str] | None = None  # by the user, for every target, and where from
_asked = False  # whether the environment was looked at
_found: dict[str, tuple[Costs, str]] = {}  # by target: measured ones, or those built in
_applied: Costs | None = None  # those that the thread pool knows


def _new_lock() -> None:
    """In a forked child: the thread that held the lock does not exist there."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


# ── What is in force ──


def in_force() -> Costs:
    """The costs of the current target: those given, else those measured earlier, else those built in."""
    return _current()[0]


def origin() -> str:
    """Where the costs in force come from, in words."""
    return _current()[1]


def _current() -> tuple[Costs, str]:
    global _given, _asked
    found = _given or _found.get(dispatch.current_target())
    if found is None:
        with _lock:
            if not _asked:
                _asked, _given = True, _from_environment()
            target = dispatch.current_target()
            if _given is None and target not in _found:
                _found[target] = _cached()
            found = _given or _found[target]
    _apply(found[0])
    return found


def _apply(costs: Costs) -> None:
    """Tell the runtime, where these are others than before, and forget what was decided by them."""
    global _applied
    if costs is _applied:
        return
    with _lock:
        before = _applied or BUILT_IN
        if costs.thread != before.thread:
            dispatch.set_worth_a_thread(costs.thread)
        dispatch.set_cost_of_reading(costs.reading)
        _applied = costs
        if costs != before:
            forget_calls()


def target_changed() -> None:
    """Another target has other costs; where none have been asked for so far, nothing is read."""
    if _applied is not None:
        _current()


def use(source: str | os.PathLike[str] | Mapping[str, float] | Costs | None) -> tuple[Costs, str] | None:
    """Put costs in force, None those measured for each target; return what was given before, for :func:`restore`."""
    _current()
    given = None if source is None else _from_source(source)
    before = _given
    restore(given)
    return before


def restore(given: tuple[Costs, str] | None) -> None:
    """Put in force what :func:`use` returned."""
    global _given
    _given = given
    _current()


def _from_source(source: str | os.PathLike[str] | Mapping[str, float] | Costs) -> tuple[Costs, str]:
    if isinstance(source, Costs):
        return source, "given"
    if isinstance(source, Mapping):
        return Costs.from_data(source), "given"
    if source == "off":
        return BUILT_IN, "built in"
    if not isinstance(source, (str, os.PathLike)):
        raise SettingError(f"costs: expected 'off', numbers by name, or a file, got {type(source).__name__}")
    try:
        return _read(Path(source)), os.fspath(source)
    except (OSError, ValueError, RecursionError) as error:
        raise SettingError(f"costs: {os.fspath(source)} is no file of costs ({error})") from error


def _from_environment() -> tuple[Costs, str] | None:
    """What CNNCORE_COSTS says: "off", a file, or name=number, …; one warning for anything else, or None without it."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    try:
        if re.fullmatch(r"\s*\w+\s*=[^=]*(,\s*\w+\s*=[^=]*)*", text):
            pairs = (part.partition("=") for part in text.split(","))
            return Costs.from_data({name.strip(): float(number) for name, _, number in pairs}), VARIABLE
        costs, where = _from_source(text)
    except (SettingError, ValueError) as error:
        _warn(f"{VARIABLE}={text:.200}: {error}; the built-in costs are used")
        return BUILT_IN, "built in"
    return costs, where if where == "built in" else f"{VARIABLE}: {where}"


def _warn(message: str) -> None:
    warnings.warn(message, EnvironmentWarning, stacklevel=2)


# ── The file ──


def cache_folder() -> Path | None:
    """The library's folder among the user's caches, by the conventions of the system; None for a user without a home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        return Path(given) / "cnncore"
    local = os.environ.get("LOCALAPPDATA", "")
    if sys.platform == "win32" and local:
        return Path(local) / "cnncore" / "Cache"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if not home.is_absolute():  # a folder that depends on where a program is started is nobody's
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "cnncore"


def cpu_model() -> str:
    """The name that the CPU gives itself, as far as the operating system tells."""
    try:
        with open(CPU_FACTS, encoding="utf-8", errors="replace") as lines:  # one paragraph per core: read the first
            found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            name = next(found, "")
    except OSError:
        name = ""
    return name or platform.processor() or platform.machine()


def cpu_facts() -> str:
    """What tells this CPU from others, in one line: where the system has no such facts, its name."""
    facts: list[str] = []
    try:
        with open(CPU_FACTS, encoding="utf-8", errors="replace") as lines:
            for line in iter(lines.readline, ""):
                name, _, value = map(str.strip, line.partition(":"))
                if not name and facts:
                    break
                if name in CPU_LINES:
                    facts.append(f"{name} {value}")
    except OSError:
        pass
    return "; ".join(facts) or cpu_model()


def cache_file() -> Path | None:
    """The file of this version of the library, CPU and current target; None for a user without a home."""
    folder = cache_folder()
    if folder is None:
        return None
    digest = zlib.crc32(cpu_facts().encode())
    return folder / f"costs-{__version__}-{dispatch.current_target()}-{digest:08x}.json"


def _cached() -> tuple[Costs, str]:
    """Costs measured earlier, or those built in. A file that cannot be used is one warning."""
    folder = cache_folder()
    try:
        present = folder is not None and any(name.startswith("costs-") for name in os.listdir(folder))
    except OSError:  # there is no folder, or it is another user's: this one has measured nothing
        present = False
    path = cache_file() if present else None  # without a file the CPU is not asked for its name
    if path is None:
        return BUILT_IN, "built in"
    try:
        return _read(path, cpu_facts(), dispatch.current_target()), f"measured: {path}"
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RecursionError) as error:
        _warn(f"{path}: costs measured earlier cannot be read ({error}); run `cnncore tune` to measure again")
    return BUILT_IN, "built in"


def _read(path: Path, cpu: str | None = None, target: str | None = None) -> Costs:
    """The costs of a file, if it is one of this format (and of this version, CPU and target, where these are given)."""
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no ordinary file")
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError("it is too long")
    data = json.loads(content)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"it is not of format {FORMAT}")
    if cpu is not None and (data.get("library"), data.get("cpu"), data.get("target")) != (__version__, cpu, target):
        raise ValueError("it belongs to another version, CPU or target")
    try:
        return Costs.from_data(data.get("costs"))
    except SettingError as error:
        raise ValueError(str(error)) from None


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe, too, without waiting for somebody who writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _write(path: Path | None, costs: Costs, facts: Mapping[str, float]) -> str:
    """Keep costs for later processes, atomically; returns where they are. A failure is one warning."""
    data = {
        "format": FORMAT,
        "library": __version__,
        "cpu": cpu_facts(),
        "target": dispatch.current_target(),
        "costs": dataclasses.asdict(costs),
        "measured": dict(facts),
    }
    import tempfile  # not needed by those who measure nothing

    try:
        if path is None:
            raise FileNotFoundError("the user has no home folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            try:
                file.write(json.dumps(data, indent=1).encode())
                file.close()
                os.replace(file.name, path)
            except BaseException:
                file.close()
                with contextlib.suppress(OSError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        _warn(
            f"measured costs are in force in this process only: {path or 'a cache folder'} cannot be written ({error})"
        )
        return "measured by this process"
    return f"measured: {path}"


# ── Measuring ──


def measure() -> tuple[Costs, dict[str, float]]:
    """Measure the current target, put the result in force for it and keep it; what the user has given stays in force."""
    with _lock:  # one at a time: the second would time the first one's threads, and take its settings for the user's
        return _measured()


def _measured() -> tuple[Costs, dict[str, float]]:
    facts: dict[str, float] = {}
    for found in measurements.values():
        facts |= found()
    facts["thread_ns"] = thread_nanoseconds()
    named = {field.name: facts[field.name] for field in dataclasses.fields(Costs) if field.name in facts}
    if facts["thread_ns"] > 0 and facts.get("operation_ns", 0) > 0:
        worth = WORTH_OF_CALLS * facts["thread_ns"] / facts["operation_ns"]
        named["thread"] = min(max(worth, LEAST_WORTH), MOST_WORTH)
    costs = Costs(**{name: float(f"{value:.4g}") for name, value in named.items()})
    where = _write(cache_file(), costs, facts)
    _found[dispatch.current_target()] = costs, where
    _current()
    return costs, facts


def thread_nanoseconds() -> float:
    """By how much two threads take longer for a call than half the time of one; 0 where no second processor is free.

    The calls follow one another, as in a net: the second thread is awake. Of many the fastest counts: in the others one of
    the threads may have waited for other programs.
    """
    if min(dispatch.get_threads(), dispatch.processors()) < 2:
        return 0.0
    times: dict[int, list[float]] = {1: [], 2: []}
    threads, worth = dispatch.get_threads(), dispatch.set_worth_a_thread(1.0)  # these short calls are shared out, too
    try:
        for number, found in [*times.items()] * TURNS:
            dispatch.set_threads(number)
            for _ in range(CALLS):
                began = time.perf_counter()
                if dispatch.multiply_adds(dispatch.FLOAT32, STEPS, 2) is None:
                    return 0.0  # a target without kernels
                found.append(time.perf_counter() - began)
    finally:
        dispatch.set_threads(threads)
        dispatch.set_worth_a_thread(worth)
    one, two = (min(found) for found in times.values())
    return 1e9 * max(two - one / 2, 0.0) if two < NOT_SHARED * one else 0.0
