"""The parts of the fuzzer that draw plans from seeds: name → module with ``plan(seed)`` and ``run(plan)``."""

from . import calls, files, guided, kills, memory, nets, threads

PARTS = {
    "calls": calls,
    "files": files,
    "guided": guided,
    "nets": nets,
    "memory": memory,
    "kills": kills,
    "threads": threads,
}
