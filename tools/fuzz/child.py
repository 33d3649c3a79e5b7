"""What a child process does: plans one after the other, each announced before it is begun."""

import json
import os
import resource
import sys
import traceback

from .wrong import Wrong

MEMORY = 3 << 30  # bytes of address space beyond those that the process has to begin with


def limit_memory(extra=MEMORY):
    """What asks for more gets a MemoryError, instead of bringing the machine down."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def tell(stream, **message):
    stream.write((json.dumps(message) + "\n").encode())
    stream.flush()


def outcome(run, plan):
    """What came of a plan, as a message."""
    try:
        computed, refused = run(plan)
    except Wrong as wrong:
        return {"wrong": str(wrong)}
    except Exception as error:  # none of the house's: that is what is looked for
        place = "".join(traceback.format_tb(error.__traceback__)[-4:])
        return {"wrong": f"{type(error).__name__}: {error}\n{place}"}
    return {"computed": computed, "refused": refused}


def main(part, kind, *arguments):
    """Run plans by seed from ``arguments[0]`` on until killed, or those of the files ``arguments``."""
    from .parts import PARTS

    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a plan prints does not disturb the messages
    sys.stdout = sys.stderr
    limit_memory()
    if kind == "files":
        for path in arguments:
            tell(stream, start=path)
            with open(path, encoding="utf-8") as file:
                plan = json.load(file)
            tell(stream, **outcome(PARTS[plan["part"]].run, plan))
        return
    seed = int(arguments[0])
    while True:
        tell(stream, start=seed)
        tell(stream, seed=seed, **outcome(PARTS[part].run, PARTS[part].plan(seed)))
        seed += 1
