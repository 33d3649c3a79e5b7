"""Convolutions whose weights or padding do not fit."""

import numpy as np
import pytest

import cnncore
from cnncore import ShapeError


def test_depthwise_weights_that_do_not_fit(rng):
    x = rng.standard_normal((1, 3, 5, 5))
    for w in ((3, 2, 3, 3), (4, 1, 3, 3)):
        with pytest.raises(ShapeError, match="M kernels for each channel"):
            cnncore.depthwise_conv(x, np.ones(w))


def test_reflecting_more_than_there_is(rng):
    x, w = rng.standard_normal((1, 1, 3, 9)), np.ones((1, 1, 7, 7))
    with pytest.raises(ShapeError, match="reflecting 3 pixels needs an extent above 3"):
        cnncore.conv(x, w, padding=3, padding_mode="reflect")
    assert cnncore.conv(x, w, padding=3, padding_mode="circular").shape == (1, 1, 3, 9)
