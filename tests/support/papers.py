"""The papers as oracles: all that tests/support/papers_*.py transcribe, by the operator's name."""

import importlib

from support.processes import TESTS

MODULES = sorted(f"support.{path.stem}" for path in (TESTS / "support").glob("papers_*.py"))
ORACLES = {name: oracle for module in MODULES for name, oracle in importlib.import_module(module).ORACLES.items()}
