"""Damaged files: what reads them raises one DataError in one line, or takes them for valid ones."""

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cnncore.errors import DataError

fuzz = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pixels(*shape, seed=0):
    """An image of random pixels."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def one_line(excinfo):
    """The text of an error, which has no line break."""
    message = str(excinfo.value)
    assert "\n" not in message
    return message


def flip_bits(data, content):
    """Draw up to 4 bits of ``content`` and flip them; sometimes cut it too."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.integers(0, 3)) == 0:
        del content[data.draw(st.integers(0, len(content))) :]
    return bytes(content)


def only_data_error(function, *arguments):
    """A damaged file may still be a valid one; otherwise it gives DataError in one line, and nothing else."""
    try:
        return function(*arguments)
    except DataError as error:
        assert "\n" not in str(error)
        return None
