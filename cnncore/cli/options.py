"""Types of command-line options."""

import argparse


def size(text):
    """HxW or a single number as (H, W)."""
    try:
        numbers = tuple(int(part) for part in text.lower().replace("×", "x").split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write 28 or 28x40") from None
    return numbers * 2 if len(numbers) == 1 else numbers


def numbers(text):
    """Comma-separated numbers, as a list."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers; write 0.485,0.456,0.406") from None


def fraction(text):
    """A number, or a fraction of two."""
    above, over, below = text.partition("/")
    try:
        return float(above) / float(below) if over else float(above)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; write 1/255 or 0.0039") from None


def rate(text):
    """A learning rate, or the word that finds one."""
    if text == "find":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a learning rate; write 0.01, or find") from None


def positive_integer(text):
    """An integer from 1 to 1,000,000."""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1 to 1,000,000")
    return int(text)


def number_of_threads(text):
    """A number of threads."""
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads; give 1 to 256")
    return int(text)
