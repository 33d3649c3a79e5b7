"""What is compared with whom: counted, and told at the end of a run."""

from collections import Counter

COMPARED = Counter()
NOTES = []


def note(line):
    """A line for the end of the run."""
    NOTES.append(line)


def compared_with(oracle, op):
    """Count a comparison of an operator's y, and gradients where there are any, with an oracle."""
    COMPARED[oracle, op.name] += 1
