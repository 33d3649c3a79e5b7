"""Arrays divided into pieces, between which Ctrl-C gets through."""

import math

import numpy as np
import pytest

from cnncore.operators import geometry

SHAPES = [(), (0,), (3, 0, 2), (7,), (5, 6), (2, 3, 5, 7), (1, 1, 40, 50), (40, 1, 1, 3), (2, 500), (500, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("most", [1, 6, 64, 10**6])
def test_pieces_cover_an_array_once(shape, most, monkeypatch):
    monkeypatch.setattr(geometry, "PIECE", most)
    for axis in (None, *range(len(shape))):
        times, line = np.zeros(shape, int), 1 if axis is None else shape[axis]
        for place in geometry.pieces(shape, axis):
            times[place] += 1
            assert times[place].size <= max(most, line)
            assert axis is None or times[place].shape[axis] == line
        assert (times == 1).all()
        # Not in many more pieces than needed.
        rest = math.prod(shape) // max(line, 1)
        assert (
            len(list(geometry.pieces(shape, axis))) <= max(4 * math.prod(shape) // most, rest if line > most else 0) + 1
        )


@pytest.mark.parametrize("most", [1, 6, 10**6])
def test_sums_in_pieces(most, monkeypatch):
    monkeypatch.setattr(geometry, "PIECE", most)
    a = np.random.default_rng(0).random((3, 4, 1, 5), np.float32)
    for axes in [(), (0,), (3,), (1, 2), (0, 3), (0, 1, 2, 3)]:
        total = geometry.summed(a, axes)
        assert total.dtype == np.float64 and total.shape == a.sum(axes).shape
        assert np.allclose(total, a.sum(axes, np.float64), rtol=1e-15)
    assert geometry.summed(a[:0], (0,)).tolist() == np.zeros((4, 1, 5)).tolist()


@pytest.mark.parametrize("most", [1, 6, 10**6])
def test_assign_and_contiguous(most, monkeypatch):
    monkeypatch.setattr(geometry, "PIECE", most)
    a = np.arange(60).reshape(3, 4, 5)
    copy = geometry.contiguous(a.T)
    assert copy.flags.c_contiguous and np.array_equal(copy, a.T) and geometry.contiguous(a) is a
    y = np.zeros((3, 4, 5), np.float32)
    geometry.assign(y[:, ::2], a[0, 0])
    assert (y[:, ::2] == a[0, 0]).all() and not y[:, 1::2].any()
    scalar = np.zeros(())
    geometry.assign(scalar, 3)
    assert scalar == 3


def test_fill_zero(monkeypatch):
    monkeypatch.setattr(geometry, "PIECE", 10)
    a = np.ones((3, 4, 5), np.float32)
    geometry.fill_zero(a[:, ::2])
    assert not a[:, ::2].any() and a[:, 1::2].all()
