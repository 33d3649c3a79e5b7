"""Blocks that are compositions of operators, and the other layers of this family, as nodes of a net."""

import numpy as np
import pytest

import cnncore
from cnncore import SettingError, ShapeError
from cnncore.testing import check_gradient


def one_layer(build, dtype="float64", channels=4, size=(9, 8)):
    g = cnncore.Graph()
    x = g.input(channels=channels, size=size)
    g.output(build(g, x))
    return g.build(seed=1, dtype=dtype)


LAYERS = {
    "conv, padding mode": lambda g, x: g.conv(x, 3, kernel_size=3, padding=1, padding_mode="reflect"),
    "depthwise_conv": lambda g, x: g.depthwise_conv(x, kernel_size=3, multiplier=2, padding=1),
    "flipped_conv": lambda g, x: g.flipped_conv(x, 3, kernel_size=3, stride=2),
    "linear_as_conv": lambda g, x: g.linear_as_conv(x, 5, image_size=4, order="channels_last"),
    "separable_conv": lambda g, x: g.separable_conv(x, 5, kernel_size=3, padding=1),
    "mlpconv": lambda g, x: g.mlpconv(x, 5, kernel_size=3, hidden=(3, 4), nonlinearity="tanh"),
    "inception": lambda g, x: g.inception(x, (2, 3, 4, 1, 2, 3)),
    "naive inception": lambda g, x: g.inception(x, (2, 4, 2), reduction=False),
    "locally_connected_conv": lambda g, x: g.locally_connected_conv(x, 4, kernel_size=3, stride=2, groups=2),
    "deformable_conv": lambda g, x: g.deformable_conv(
        x,
        g.conv(x, 18, kernel_size=3, padding=1),
        g.conv(x, 9, kernel_size=3, padding=1, activation="sigmoid"),
        channels=3,
        kernel_size=3,
        padding=1,
    ),
    "partial_conv": lambda g, x: g.partial_conv(x, g.max_pool(x, 1), 3, kernel_size=3),
    "unfold and fold": lambda g, x: g.fold(g.unfold(x, kernel_size=3), output_size=(9, 8), kernel_size=3),
    "upsample": lambda g, x: g.add(g.linear_upsample(x, scale=2), g.nearest_upsample(x, size=(18, 16))),
    "response norm": lambda g, x: g.response_norm_within_channel(x, size=3, alpha=2.0),
    "scale": lambda g, x: g.scale(x),
    "split and slice": lambda g, x: g.concat(g.split(x, part=1), g.slice(x, 1, 3)),
    "pixel_unshuffle": lambda g, x: g.pixel_unshuffle(x, factor=(3, 2)),
    "pixel_shuffle": lambda g, x: g.pixel_shuffle(x, factor=2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradient_of_a_layer(name, rng):
    net = one_layer(LAYERS[name])
    check_gradient(net, rng.standard_normal((2, 4, 9, 8)))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_saved_and_loaded(name, rng, tmp_path):
    net = one_layer(LAYERS[name], "float32")
    x = rng.standard_normal((3, 4, 9, 8)).astype("f")
    net.save(tmp_path / "net.npz")
    again = cnncore.load(tmp_path / "net.npz")
    np.testing.assert_array_equal(net(x), again(x))


@pytest.mark.parametrize("name", LAYERS)
def test_training_changes_what_inference_computes(name, rng):
    """What a plan packed is packed anew when parameters have changed."""
    net = one_layer(LAYERS[name])
    if not net.parameters:
        return
    x = rng.standard_normal((2, 4, 9, 8))
    before = net(x)
    for array in net.parameters.values():
        array *= 2
        array += 0.01
    assert not np.allclose(net(x), before)
    target = cnncore.cpu.target()
    with cnncore.cpu.target("reference"):
        expected = net(x)
    with cnncore.cpu.target(target):
        np.testing.assert_allclose(net(x), expected, rtol=1e-10, atol=1e-10)


def explicit_inception(g, x):
    """The module's nodes one by one, under the names of the block's parameters."""

    def f(h, channels, size, name):
        return g.conv(h, channels, kernel_size=size, padding=size // 2, activation="relu", name=name)

    return g.concat(
        f(x, 2, 1, "1"),
        f(f(x, 3, 1, "r3"), 4, 3, "3"),
        f(f(x, 1, 1, "r5"), 2, 5, "5"),
        f(g.max_pool(x, 3, stride=1, padding=1), 3, 1, "p"),
    )


def test_the_block_is_the_module_of_its_operators(rng):
    block = one_layer(LAYERS["inception"])
    nodes = one_layer(explicit_inception)
    for name, array in nodes.parameters.items():
        node, _, letter = name.rpartition(".")
        array[...] = rng.standard_normal(array.shape)
        block.parameters[f"inception.{letter}{node}"][...] = array
    x = rng.standard_normal((2, 4, 9, 8))
    y, backward = block.with_backward(x)
    expected, expected_backward = nodes.with_backward(x)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    dy = rng.standard_normal(y.shape)
    np.testing.assert_allclose(backward(dy), expected_backward(dy), rtol=1e-10, atol=1e-12)
    for name, gradient in expected_backward.gradients.items():
        node, _, letter = name.rpartition(".")
        np.testing.assert_allclose(
            backward.gradients[f"inception.{letter}{node}"], gradient, rtol=1e-10, atol=1e-10, err_msg=name
        )


def test_multiply_adds_and_reach_of_a_block():
    x, w1, b1 = (2, 4, 9, 8), (5, 4, 3, 3), (5,)
    call = cnncore.mlpconv.infer((x, w1, b1, (6, 5, 1, 1), None, (7, 6, 1, 1), None), np.dtype("f"), {"stride": 2})
    pixels = 2 * 4 * 3
    assert call.op.implementation.multiply_adds(call) == pixels * (5 * 4 * 9 + 6 * 5 + 7 * 6)
    assert call.op.implementation.receptive_window(call) == ((3, 2), (3, 2))
    shapes = (x, (1, 4, 1, 1), None, (1, 4, 3, 3), None, (1, 4, 5, 5), None, *[None] * 6)
    call = cnncore.inception.infer(shapes, np.dtype("f"), {"reduction": False})
    assert call.op.implementation.receptive_window(call) == ((5, 1), (5, 1))


SEES_ALL = ("deformable_conv", "unfold and fold")


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in SEES_ALL])
def test_what_a_pixel_sees(name, rng):
    """The receptive field of the summary is the box of pixels that the gradient of one pixel in the middle reaches."""
    net = one_layer(LAYERS[name])
    for array in net.parameters.values():
        array[...] = rng.uniform(0.5, 1, array.shape)  # no rectifier is closed
    x = rng.uniform(1, 2, (1, 4, 9, 8))
    y, backward = net.with_backward(x)
    dy = np.zeros_like(y)
    middle = tuple(H // 2 for H in y.shape[2:])
    dy[(0, slice(None), *middle)] = rng.uniform(1, 2, y.shape[1])
    seen = np.abs(backward(dy)).sum(axis=(0, 1))
    box = tuple(int(np.ptp(places)) + 1 for places in np.nonzero(seen))
    (*_, last) = net.summary((1, 4, 9, 8)).rows
    if name == "upsample":  # two branches; the summary takes the wider one
        assert all(b <= f for b, f in zip(box, last.receptive_field, strict=True))
    else:
        assert box == last.receptive_field


@pytest.mark.parametrize("name", SEES_ALL)
def test_what_a_deformed_pixel_sees(name):
    (*_, last) = one_layer(LAYERS[name]).summary((1, 4, 9, 8)).rows
    assert last.receptive_field is None


def test_only_what_is_wanted_is_computed(rng):
    """Gradients of some arrays alone are the same as those of all."""
    x, w1, w3, w5 = (rng.standard_normal(s) for s in ((2, 3, 4, 5), (2, 3, 1, 1), (1, 3, 3, 3), (2, 3, 5, 5)))
    op = cnncore.inception
    arrays, call = op.bind((x,), {"w1": w1, "w3": w3, "w5": w5, "reduction": False})
    y, _, saved = op.implementation.forward(call, arrays)
    dy = rng.standard_normal(y.shape)
    everything = op.implementation.backward(call, saved, dy, op.needs_gradient(arrays))
    for i, expected in enumerate(everything):
        if expected is None:
            continue
        needs_gradient = tuple(j == i for j in range(len(arrays)))
        given = [None] * len(arrays)
        given[i] = np.full_like(expected, np.nan)
        found = op.implementation.backward(call, saved, dy, needs_gradient, given)
        np.testing.assert_array_equal(found[i], expected)
        assert found[i] is given[i]
        assert all(g is None for j, g in enumerate(found) if j != i)


def test_errors_name_the_step(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    with pytest.raises(ShapeError, match=r"separable_conv: .*\(step y: conv of channels_alone, pointwise\)"):
        cnncore.separable_conv(x, np.ones((3, 1, 2, 2)), np.ones((4, 5, 1, 1)))
    with pytest.raises(ShapeError, match=r"w2 has shape .* 1×1"):
        cnncore.mlpconv(x, w1=np.ones((2, 3, 1, 1)), w2=np.ones((2, 2, 2, 2)), w3=np.ones((2, 2, 1, 1)))
    one = np.ones((1, 3, 1, 1))
    with pytest.raises(SettingError, match="wr3 is missing, but reduction=True"):
        cnncore.inception(x, w1=one, w3=np.ones((1, 3, 3, 3)), w5=np.ones((1, 3, 5, 5)))
    with pytest.raises(ShapeError, match=r"w5 has shape \(1, 3, 3, 3\); expected \(K, C, 5, 5\)"):
        cnncore.inception(x, w1=one, w3=np.ones((1, 3, 3, 3)), w5=np.ones((1, 3, 3, 3)), reduction=False)
    with pytest.raises(SettingError, match="needs 3: #1, #3, #5"):
        one_layer(lambda g, x: g.inception(x, (1, 2, 3, 4, 5, 6), reduction=False))


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


def test_blocks_of_large_images_use_every_algorithm(rng):
    x = rng.standard_normal((1, 16, 20, 20)).astype("f")
    arrays = [rng.standard_normal(s).astype("f") / 10 for s in ((8, 16, 1, 1), (8, 16, 3, 3), (8, 16, 5, 5))]
    named = dict(zip(("w1", "w3", "w5"), arrays, strict=True))
    exact = cnncore.inception(x, **named, reduction=False, algorithm="definition")
    for algorithm in ("direct", "auto"):
        y = cnncore.inception(x, **named, reduction=False, algorithm=algorithm)
        np.testing.assert_allclose(y, exact, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("padding", "dilation"), [(0, 1), (((2, 0), (0, 3)), 1), (2, 2), ("same_upper", 1)], ids=str)
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (4, 1)], ids=str)
def test_locally_connected_with_the_same_weights_everywhere_is_a_convolution(
    rng, kernel, padding, dilation, stride, groups
):
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x, w, b = rng.standard_normal((2, 4, 7, 6)), rng.standard_normal((6, 4 // groups, *kernel)), rng.standard_normal(6)
    expected, expected_backward = cnncore.conv.with_backward(x, w, b, **settings, algorithm="definition")
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


@pytest.mark.parametrize("algorithm", ["direct", "definition"])
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


@pytest.mark.parametrize("size", [1, 2, 5])
def test_response_norm_of_values_whose_squares_overflow(size):
    """y is what it is for smaller values, as far as k does not matter."""
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 5))
    settings = {"size": size, "alpha": 1.0, "beta": 0.5, "k": 1e-300}
    y, backward = cnncore.response_norm_within_channel.with_backward(x, **settings)
    dx = backward(x)
    for factor in (1e-100, 1e200):
        large, large_backward = cnncore.response_norm_within_channel.with_backward(factor * x, **settings)
        np.testing.assert_allclose(large, y, rtol=1e-10)
        np.testing.assert_allclose(factor * large_backward(x), dx, rtol=1e-9, atol=1e-9)
    single, _ = cnncore.response_norm_within_channel.with_backward((1e30 * x).astype("f"), **{**settings, "k": 1e-30})
    np.testing.assert_allclose(single, y, rtol=1e-5)


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


def test_binary_cross_entropy_of_sure_answers():
    x = np.array([np.inf, -np.inf, 1e4, -1e4, np.inf, 0.0, np.nan])
    t = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.5, 1.0])
    for dtype in ("f", "d"):
        for target in cnncore.cpu.targets():
            with cnncore.cpu.target(target), np.errstate(all="ignore"):
                y, backward = cnncore.binary_cross_entropy.with_backward(
                    x.astype(dtype), t.astype(dtype), reduction="none"
                )
                np.testing.assert_allclose(y, [0, 0, 0, 0, np.inf, np.log(2), np.nan], rtol=1e-6)
                np.testing.assert_allclose(backward(np.ones_like(y))[0], [0, 0, 0, 0, 1, 0, np.nan], rtol=1e-6)


def test_nll_of_nothing():
    x = np.log(np.full((2, 3), 1 / 3))
    for reduction in ("mean", "sum"):
        y, backward = cnncore.nll_loss.with_backward(x, np.array([-100, -100]), reduction=reduction)
        assert y == 0 and not backward(1.0).any()
    with pytest.raises(SettingError, match="target holds class 3; 3 classes have indices 0 to 2"):
        cnncore.nll_loss(x, np.array([0, 3]))
    x[0, 1] = -np.inf
    assert cnncore.nll_loss(x, np.array([1, 0])) == np.inf
    assert np.isfinite(cnncore.nll_loss(x, np.array([1, 0]), weight=np.array([1.0, 0.0, 1.0])))


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


@pytest.mark.parametrize("channels", [1, 3, 15, 17, 40])
@pytest.mark.parametrize("beta", [0.75, 0.6])
def test_response_norm_kernels_of_any_number_of_channels(rng, channels, beta):
    """Blocks of channels side by side, the last one with fewer; a value that overflows sends its block to the reference."""
    x = rng.standard_normal((2, channels, 5, 6)).astype("f")
    large = x.copy()
    large[1, channels - 1, 2, 3] = 1e30
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    for given in (x, last, large):

        def everything(given=given):
            settings = {"size": 4, "alpha": 2.0, "beta": beta}
            y, backward = cnncore.response_norm_within_channel.with_backward(given, **settings)
            return y, backward(given / np.abs(given).max())

        with cnncore.cpu.target("reference"):
            expected = everything()
        for target in cnncore.cpu.targets()[1:]:
            with cnncore.cpu.target(target):
                for found, right in zip(everything(), expected, strict=True):
                    np.testing.assert_allclose(found, right, rtol=2e-5, atol=1e-5 * np.abs(right).max())
