"""Blocks that are compositions of operators; layers of all families as nodes of a net."""

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


def test_blocks_of_large_images_use_every_algorithm(rng):
    x = rng.standard_normal((1, 16, 20, 20)).astype("f")
    arrays = [rng.standard_normal(s).astype("f") / 10 for s in ((8, 16, 1, 1), (8, 16, 3, 3), (8, 16, 5, 5))]
    named = dict(zip(("w1", "w3", "w5"), arrays, strict=True))
    exact = cnncore.inception(x, **named, reduction=False, algorithm="reference")
    for algorithm in ("direct", "auto"):
        y = cnncore.inception(x, **named, reduction=False, algorithm=algorithm)
        np.testing.assert_allclose(y, exact, atol=1e-4)
