"""Windows as columns: locally connected, partial and deformable convolutions against the plain one."""

import numpy as np
import pytest

import cnncore


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("padding", "dilation"), [(0, 1), (((2, 0), (0, 3)), 1), (2, 2), ("same_upper", 1)], ids=str)
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (4, 1)], ids=str)
def test_locally_connected_with_the_same_weights_everywhere_is_a_convolution(
    rng, kernel, padding, dilation, stride, groups
):
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x, w, b = rng.standard_normal((2, 4, 7, 6)), rng.standard_normal((6, 4 // groups, *kernel)), rng.standard_normal(6)
    expected, expected_backward = cnncore.conv.with_backward(x, w, b, **settings, algorithm="reference")
    output = expected.shape[2:]
    copies = np.broadcast_to(w.reshape(6, -1, 1, 1), (6, w[0].size, *output))
    y, backward = cnncore.locally_connected_conv.with_backward(x, copies, b, kernel_size=kernel, **settings)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    dy = rng.standard_normal(y.shape)
    (dx, dw, db), right = backward(dy), expected_backward(dy)
    np.testing.assert_allclose(dx, right[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dw.sum(axis=(2, 3)).reshape(w.shape), right[1], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(db, right[2], rtol=1e-10)
    columns = cnncore.unfold(x, kernel_size=kernel, **{k: v for k, v in settings.items() if k != "groups"})
    if groups == 1:  # a convolution is a product with the columns
        np.testing.assert_allclose(
            (w.reshape(6, -1) @ columns).reshape(y.shape) + b[:, None, None], expected, atol=1e-12
        )


@pytest.mark.parametrize("algorithm", ["direct", "reference"])
def test_partial_convolution_of_a_whole_image_is_a_convolution(rng, algorithm):
    x, w, b = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3, 3, 2)), rng.standard_normal(4)
    y, mask = cnncore.partial_conv(x, np.ones_like(x), w, b, return_mask=True, algorithm=algorithm)
    np.testing.assert_allclose(y, cnncore.conv(x, w, b), rtol=1e-12, atol=1e-12)
    assert mask.shape == (2, 1, 4, 4) and (mask == 1).all()


def test_partial_convolution_of_holes(rng):
    """Windows without a pixel give 0 and no gradient, whatever stands in the holes; the mask grows as max_pool of it does."""
    x, w, b = rng.standard_normal((2, 3, 9, 9)), rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)
    mask = np.zeros((2, 1, 9, 9))
    mask[:, :, 6:, 5:] = 1
    holes = np.where(mask, x, np.nan)
    y, backward = cnncore.partial_conv.with_backward(holes, mask, w, b, padding=1, return_mask=True)
    (y, known) = y
    np.testing.assert_array_equal(known, cnncore.max_pool(mask, 3, stride=1, padding=1))
    assert (y[np.broadcast_to(known, y.shape) == 0] == 0).all()
    dx, dw, db = backward(np.ones_like(y))
    assert np.isfinite(dx).all() and np.isfinite(dw).all() and (dx[np.broadcast_to(mask, dx.shape) == 0] == 0).all()
    assert np.allclose(db, known.sum())
    for empty in (np.zeros_like(mask), np.zeros_like(x)):
        y, backward = cnncore.partial_conv.with_backward(x, empty, w, b)
        assert not y.any() and not any(g.any() for g in backward(np.ones_like(y)))


def test_deformable_without_offsets_is_a_convolution(rng):
    x, w, b = rng.standard_normal((2, 4, 7, 8)), rng.standard_normal((6, 2, 3, 2)), rng.standard_normal(6)
    settings = {"stride": (2, 1), "padding": ((1, 2), (0, 1)), "dilation": (1, 2), "groups": 2}
    expected = cnncore.conv(x, w, b, **settings)
    offset = np.zeros((2, 2 * 2 * 6, *expected.shape[2:]))
    np.testing.assert_allclose(
        cnncore.deformable_conv(x, offset, w, b, offset_groups=2, **settings), expected, atol=1e-12
    )
    half = np.full((2, 2 * 6, *expected.shape[2:]), 0.5)
    y = cnncore.deformable_conv(x, offset, w, b, half, offset_groups=2, **settings)
    np.testing.assert_allclose(y - b[:, None, None], (expected - b[:, None, None]) / 2, atol=1e-12)


def test_deformable_at_whole_positions_takes_the_slope_to_the_right():
    """The derivative by an offset of 0 is that of the cell [p, p + 1); outside the image there is none."""
    x = np.array([[[[1.0, 4.0, 9.0], [2.0, 7.0, 3.0]]]])
    w = np.ones((1, 1, 1, 1))
    _, backward = cnncore.deformable_conv.with_backward(x, np.zeros((1, 2, 2, 3)), w)
    _, doffset, _ = backward(np.ones((1, 1, 2, 3)))
    np.testing.assert_array_equal(doffset[0, 0], [[1, 3, -6], [-2, -7, -3]])  # rows: to the pixel below, 0 outside
    np.testing.assert_array_equal(doffset[0, 1], [[3, 5, -9], [5, -4, -3]])
    for far in (-1.0, -2.5, 2.0, 40.0, 1e30, -1e30, np.inf, np.nan):
        offset = np.zeros((1, 2, 1, 1))
        offset[0, 0] = far
        y, backward = cnncore.deformable_conv.with_backward(x[:, :, :1, :1], offset, w)
        assert y == 0 and not any(g.any() for g in backward(np.ones_like(y)))


@pytest.mark.parametrize("layout", ["planes", "channels last"])
@pytest.mark.parametrize(("groups", "shared"), [(1, 1), (1, 4), (2, 5), (4, 2), (40, 1)])
def test_deformable_kernels_with_groups_of_any_size(rng, groups, shared, layout):
    """Runs of channels end where a group of the convolution ends and where offsets change."""
    x, w = rng.standard_normal((2, 40, 6, 7)), rng.standard_normal((40, 40 // groups, 2, 3))
    offset, mask = 3 * rng.standard_normal((2, 2 * 6 * shared, 5, 5)), rng.random((2, 6 * shared, 5, 5))
    if layout == "channels last":
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)

    def everything():
        y, backward = cnncore.deformable_conv.with_backward(
            x, offset, w, None, mask, groups=groups, offset_groups=shared
        )
        return (y, *backward(np.cos(np.arange(y.size)).reshape(y.shape)))

    with cnncore.cpu.target("reference"):
        expected = everything()
    for target in cnncore.cpu.targets()[1:]:
        with cnncore.cpu.target(target):
            for found, right in zip(everything(), expected, strict=True):
                np.testing.assert_allclose(found, right, rtol=1e-11, atol=1e-11)
