"""The parts of the fuzzer that draw plans from seeds: name → module with ``plan(seed)`` and ``run(plan)``."""

from . import calls

PARTS = {"calls": calls}
