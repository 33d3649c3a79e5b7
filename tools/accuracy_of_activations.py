"""Accuracy of the activations: ``python tools/accuracy_of_activations.py [--docs]`` (needs mpmath).

Compares y and the derivative of every activation that computes more than a selection, on every target and at some hundred
points, with results of 60 digits (tests/support/exact_activations.py; the tests enforce limits). ``--docs`` writes the
table to docs/accuracy.md.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from paragraphs import wrapped

import cnncore

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.exact_activations import EXACT, Reference, sweep  # noqa: E402

PAGE = ROOT / "docs" / "accuracy.md"
PLACES = 200
COLUMNS = [(dtype, definition) for dtype in (np.float64, np.float32) for definition in (True, False)]


def worst(name, dtype, definition):
    """The largest errors of y and of the derivative: of the reference implementation, or of all kernels."""
    reference = Reference(name, sweep(dtype, np.random.default_rng(0), PLACES))
    targets = cnncore.cpu.targets()[:1] if definition else cnncore.cpu.targets()[1:]
    largest = np.zeros(2)
    for target in targets:
        with cnncore.cpu.target(target):
            largest = np.maximum(largest, [far.max() for far in reference.distances()])
    return largest


def page():
    """The table, line by line."""
    count = len(sweep(np.float64, np.random.default_rng(0), PLACES))
    yield "# Accuracy of the activations"
    yield ""
    yield from wrapped(
        [
            f"Largest error at {count} points, in units in the last place (ULP), of y / its derivative. The points are random "
            "and round numbers; |x| ranges from the smallest subnormal number to 1e4. If the derivative is a sum whose terms "
            "cancel (SiLU and similar functions), the unit is that of the larger term. Kernels: the largest error over the CPU "
            f"targets {', '.join(cnncore.cpu.targets()[1:])}. Correct rounding has an error of at most 0.5. Written by `python "
            "tools/accuracy_of_activations.py --docs`; `tests/operators/activation/test_activations.py` enforces limits close to "
            "these values on every target."
        ]
    )
    yield ""
    yield "| activation | reference, float64 | kernels, float64 | reference, float32 | kernels, float32 |"
    yield "|---|---|---|---|---|"
    for name, (op, settings, *_) in EXACT.items():
        cells = ("{:.2f} / {:.2f}".format(*worst(name, dtype, definition)) for dtype, definition in COLUMNS)
        given = "" if op == name else f" ({', '.join(f'{k}={v!r}' for k, v in settings.items())})" if settings else ""
        yield f"| {op}{given} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="write docs/accuracy.md")
    options = parser.parse_args()
    lines = []
    for line in page():
        print(line, flush=True)
        lines.append(line)
    if options.docs:
        PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
