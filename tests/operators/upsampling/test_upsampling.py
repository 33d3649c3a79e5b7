"""Upsampling: extents and positions by scale, pixels that are repeated, and settings that do not fit."""

import numpy as np
import pytest

import cnncore
from cnncore import SettingError, ShapeError


@pytest.mark.parametrize("scale", [1, 2, 3, 7])
def test_upsampling_back_and_forth(rng, scale):
    x = rng.standard_normal((2, 3, 4, 5))
    y = cnncore.nearest_upsample(x, scale=scale)
    np.testing.assert_array_equal(y, x.repeat(scale, 2).repeat(scale, 3))
    np.testing.assert_array_equal(cnncore.nearest_upsample(y, size=(4, 5)), x)
    if scale == 1:
        np.testing.assert_array_equal(cnncore.linear_upsample(x, scale=1), x)
    corners = cnncore.linear_upsample(x, size=(3 * scale + 1, 4 * scale + 1), coordinates="align_corners")
    np.testing.assert_array_equal(corners[:, :, ::scale, ::scale], x)


@pytest.mark.parametrize("name", ["nearest_upsample", "linear_upsample"])
def test_upsampling_needs_a_size_or_a_scale(rng, name):
    op, x = cnncore.OPS[name], rng.standard_normal((1, 2, 3, 4))
    for settings in ({}, {"size": 3, "scale": 2}):
        with pytest.raises(SettingError, match="either size or scale"):
            op(x, **settings)
    with pytest.raises(SettingError, match="positive number"):
        op(x, scale=-1)
    with pytest.raises(ShapeError, match="use a larger scale"):
        op(x, scale=0.1)
    with pytest.raises(SettingError, match="2 spatial axes"):
        op(x, scale=(1, 2, 3))


def test_an_infinite_pixel_spoils_only_what_it_has_a_part_in():
    x = np.array([[[1.0, np.inf, 3.0]]])
    np.testing.assert_array_equal(
        cnncore.linear_upsample(x, size=5, coordinates="align_corners"), [[[1, np.inf, np.inf, np.inf, 3]]]
    )


def test_extents_by_scale_are_those_of_the_number_that_was_written():
    """⌊scale · H⌋ in whole numbers, for every decimal with one place and every quotient of two extents; in graphs too."""
    for op in (cnncore.nearest_upsample, cnncore.linear_upsample, cnncore.resize):
        for H in (1, 3, 5, 7, 10, 28, 49, 59, 224):
            for above, below in [(t, 10) for t in (1, 3, 6, 7, 9, 11, 12, 17, 23, 33)] + [
                (n, H) for n in (1, 2, 3, 29)
            ]:
                right = H * above // below
                for scale in (above / below, np.float64(above) / below):
                    if right:
                        made = op(np.zeros((1, 1, H, 2), np.float32), scale=(scale, 1.0)).shape
                        assert made == (1, 1, right, 2), (op.name, H, above, below)


def test_positions_by_scale_are_those_of_the_number_that_was_written():
    """Every pixel of 0.6 is that of 3/5: cells whose middles meet are not decided by the last bit of 0.6."""
    x = np.arange(20.0).reshape(1, 1, 20)
    for coordinates in ("half_pixel", "asymmetric"):
        y = cnncore.resize(x, scale=0.6, mode="linear", coordinates=coordinates)[0, 0]
        places = [(o + 1 / 2) * 5 / 3 - 1 / 2 if coordinates == "half_pixel" else o * 5 / 3 for o in range(12)]
        np.testing.assert_allclose(y, places, rtol=1e-14)
    np.testing.assert_array_equal(
        cnncore.nearest_upsample(x, scale=0.4, coordinates="asymmetric", rounding="ceil")[0, 0],
        [-(-o * 5 // 2) for o in range(8)],
    )
