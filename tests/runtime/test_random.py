"""Random numbers depend on seed and position alone; the generator has its published values."""

import numpy as np
import pytest

from cnncore.runtime import random


@pytest.mark.parametrize(
    ("counter", "key", "block"),
    [  # known answers published with the Random123 library
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter, key, block):
    def words(text):
        return tuple(int(word, 16) for word in text.split())

    assert random.philox_block(words(counter), words(key)) == words(block)


def test_uniform_depends_on_seed_and_position_alone():
    whole, part = np.empty(1000), np.empty(300)
    random.fill_uniform(7, 0, whole)
    random.fill_uniform(7, 451, part)
    np.testing.assert_array_equal(part, whole[451:751])
    random.fill_uniform(8, 0, part)
    assert not np.any(part == whole[:300])
    random.fill_uniform(2**63 + 7, 2**34, part)  # neither high word is dropped
    assert not np.any(part == whole[:300])


def test_uniform_is_uniform():
    u = np.empty(200_000)
    random.fill_uniform(0, 0, u)
    assert u.min() >= 0 and u.max() < 1
    counts = np.histogram(u, bins=100, range=(0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 148.2  # χ², 99 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.01
