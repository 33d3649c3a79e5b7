"""Child processes that run plans, so that a crash, a hang or a wrong result is caught and reported with its seed.

A child prints the seed before it starts on it, and what came of it afterwards; the parent kills it when one takes too long, and
starts another one at the seed that follows.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
CORPUS = Path(__file__).resolve().parent / "corpus"
CHILD = "import sys; sys.path.insert(0, {tools!r}); from fuzz.child import main; main(*sys.argv[1:])"
SLOWEST = 60.0  # seconds that one plan may take
SLOWEST_START = 60.0  # and importing


@dataclass
class Count:
    """What came of the plans of one part."""

    part: str
    plans: int = 0
    calls: int = 0
    refused: int = 0
    crashes: int = 0
    wrong: int = 0
    seconds: float = 0.0
    finds: list = field(default_factory=list)

    def __str__(self):
        return (
            f"{self.part}: {self.plans} plans, {self.calls} calls, {self.crashes} crashes, {self.wrong} wrong, "
            f"{self.refused} refused, {self.seconds:.0f} seconds"
        )


class Child:
    """One process that runs plans of a part, by seeds from ``first`` on in steps, or one file of the corpus."""

    def __init__(self, part, *arguments):
        from .parts import PARTS

        own = getattr(PARTS.get(part), "ENVIRONMENT", {})
        code = CHILD.format(tools=str(TOOLS))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-X", "faulthandler", "-c", code, part, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **own},
        )
        self.buffer = b""

    def lines(self, until):
        """Messages of the child; None when ``until`` has come, "hang" when the child has been silent for too long."""
        silent, patience = time.monotonic(), max(SLOWEST, SLOWEST_START)
        while True:
            while b"\n" in self.buffer:
                line, _, self.buffer = self.buffer.partition(b"\n")
                silent, patience = time.monotonic(), SLOWEST
                yield json.loads(line)
            now = time.monotonic()
            if now > until:
                yield None
                return
            if now - silent > patience:
                yield "hang"
                return
            ready, _, _ = select.select([self.process.stdout], [], [], min(1.0, max(until - now, 0.01)))
            if ready:
                data = os.read(self.process.stdout.fileno(), 1 << 16)
                if not data:
                    yield "end"
                    return
                self.buffer += data

    def stop(self, grace=5.0):
        """End the process; returns (exit code, the last it wrote to stderr)."""
        try:
            _, text = self.process.communicate(timeout=grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, text = self.process.communicate()
        return self.process.returncode, text.decode(errors="replace")[-3000:]


def end_of(code):
    """How a process ended, in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def run_seeds(part, first, seconds, report, corpus=CORPUS, most=None):
    """Run plans of a part from seed ``first`` on for so many seconds, or ``most`` plans; ``report`` is told of finds, which are
    kept in the corpus.
    """
    count, seed, begun = Count(part), first, time.monotonic()
    while time.monotonic() < begun + seconds and count.plans != most:
        child, started = Child(part, "seeds", seed), None
        for message in child.lines(begun + seconds):
            if message in (None, "hang", "end"):
                break
            if "start" in message:
                started = message["start"]
                seed = started + 1
                continue
            started = None
            tally(count, message, report, corpus)
            if count.plans == most:
                message = None
                break
        if message is not None:
            if message == "hang":
                child.process.send_signal(signal.SIGABRT)  # faulthandler then says where it is
                time.sleep(1)
            code, text = child.stop()
            what = f"no answer in {SLOWEST:.0f} s" if message == "hang" else end_of(code)
            if started is None:
                raise SystemExit(f"the child process of {part} ended between plans: {what}\n{text}")
            count.plans += 1
            count.crashes += 1
            keep(count, {"seed": started, "crash": f"{what}\n{text}"}, report, corpus)
        else:
            child.stop(grace=0)
    count.seconds = time.monotonic() - begun
    return count


def tally(count, message, report, corpus):
    """Add what came of one plan."""
    count.plans += 1
    count.calls += message.get("computed", 0) + message.get("refused", 0)
    count.refused += message.get("refused", 0)
    if "wrong" in message:
        count.wrong += 1
        keep(count, message, report, corpus)


def keep(count, find, report, corpus):
    """Tell a find, and write its plan into the corpus."""
    from .parts import PARTS

    report(f"{count.part}, seed {find['seed']}: {find.get('wrong') or find.get('crash')}")
    count.finds.append(find)
    plan = PARTS[count.part].plan(find["seed"])
    if corpus is not None and plan is not None:
        path = Path(corpus) / f"{count.part}-{find['seed']}.json"
        text = (find.get("wrong") or find.get("crash")).splitlines()[0][:200]
        path.write_text(json.dumps({"found": text, **plan}, indent=1) + "\n", encoding="utf-8")


def replay(paths, report):
    """Run the plans of files, those that crash in a process of their own; returns their Count."""
    count, left, begun = Count("corpus"), sorted(map(str, paths)), time.monotonic()
    while left:
        child, started = Child("corpus", "files", *left), None
        for message in child.lines(begun + 3600):
            if message in (None, "hang", "end"):
                break
            if "start" in message:
                started = message["start"]
                continue
            left.remove(started)
            count.plans += 1
            count.calls += message.get("computed", 0) + message.get("refused", 0)
            count.refused += message.get("refused", 0)
            if "wrong" in message:
                count.wrong += 1
                report(f"{started}: {message['wrong']}")
        code, text = child.stop()
        if left:
            count.crashes += 1
            report(f"{started}: {end_of(code)}\n{text}")
            left.remove(started or left[0])
    count.seconds = time.monotonic() - begun
    return count
