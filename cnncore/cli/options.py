"""Types of command-line options."""

import argparse


def size(text):
    """HxW or a single number as (H, W)."""
    try:
        numbers = tuple(int(part) for part in text.lower().replace("×", "x").split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 28 or 28x40") from None
    return numbers * 2 if len(numbers) == 1 else numbers


def numbers(text):
    """Numbers with commas between them, as a list."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers; write 0.485,0.456,0.406") from None


def fraction(text):
    """A number, or one over another."""
    above, over, below = text.partition("/")
    try:
        return float(above) / float(below) if over else float(above)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write 1/255 or 0.0039") from None


def several(text):
    """A number from 1 up."""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no such number; give 1 or more")
    return int(text)


def count(text):
    """A number of threads."""
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads; give 1 to 256")
    return int(text)
