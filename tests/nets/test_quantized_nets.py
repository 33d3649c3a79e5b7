"""Nets of 8-bit numbers: what is quantized, how near it is to float32, files, errors."""

import numpy as np
import pytest

import cnncore
from cnncore import DataError, GraphError, SettingError, ShapeError, cpu
from cnncore.nets.plan import Mode
from cnncore.nets.quantization import BINS, Range, grid_between, rounded
from cnncore.train.data import digits_split

RNG = np.random.default_rng(0)


def images(count, channels=3, size=12):
    return RNG.standard_normal((count, channels, size, size)).astype(np.float32)


def block():
    """Everything that is folded, absorbed, joined or left alone."""
    g = cnncore.Graph()
    x = g.input(channels=3, size=12, name="x")
    h = g.relu(g.batch_norm(g.conv(x, 12, kernel_size=3, padding=1, name="first"), name="norm"), name="active")
    h = g.depthwise_conv(h, kernel_size=3, padding=1, activation="relu6", name="depthwise")
    left = g.conv(h, 5, kernel_size=1, activation="relu", name="left")
    right = g.conv(
        g.max_pool(h, 3, stride=1, padding=1, name="pooled"), 7, kernel_size=1, activation="relu", name="right"
    )
    h = g.conv(g.concat(left, right, name="joined"), 12, kernel_size=3, padding=1, groups=2, name="grouped")
    h = g.sigmoid(g.add(h, g.concat(left, right)), name="curved")
    g.output(g.linear(g.global_avg_pool(h), 4, name="scores"))
    net = g.build()
    net.buffers["norm.running_mean"] = RNG.standard_normal(12)
    net.buffers["norm.running_var"] = RNG.uniform(0.5, 2, 12)
    return net


def plan_of(net, shape):
    return net._plan((shape,), Mode(target=cpu.target()))


def test_layers_become_integer_ones_and_the_rest_stays():
    net, x = block(), images(32)
    small = net.quantize(x)
    operators = {node.path: node.op.name for node in small.graph.nodes}
    assert {name for name, op in operators.items() if op.startswith("quantized")} == {
        *("first", "depthwise", "left", "right", "grouped", "scores")
    }
    assert {"norm", "active"}.isdisjoint(operators) and operators["curved"] == "sigmoid"
    assert not small.parameters and not small.training
    y, exact = small(x), net(x)
    assert np.abs(y - exact).max() < 0.05 * np.abs(exact).max()
    assert np.abs(y - exact).max() > 0
    text = str(small.summary((1, 3, 12, 12)))
    assert "quantized_conv" in text and "quantized_linear" in text
    assert "quantized_conv" in str(small.profile((1, 3, 12, 12), rounds=1))


def test_values_between_layers_of_8_bits_are_bytes():
    small = block().quantize(images(8), skip=["grouped"])
    plan = plan_of(small, (1, 3, 12, 12))
    kept = {plan.structure.names[value] for value in plan.as_bytes}
    assert "first" in kept and "grouped" not in kept and "x" not in kept
    g = cnncore.Graph()
    h = g.conv(g.input(channels=3, size=8), 8, kernel_size=1, activation="relu", name="a")
    branches = [g.conv(h, 4, kernel_size=1, activation="relu", name=name) for name in ("b", "c")]
    g.output(g.conv(g.concat(*branches, name="d"), 2, kernel_size=1, name="e"))
    plan = plan_of(g.build().quantize(images(4, size=8)), (1, 3, 8, 8))
    assert {plan.structure.names[value] for value in plan.as_bytes} == {"a", "b", "c", "d"}
    assert plan.places[plan.structure.number("b")].buffer is plan.places[plan.structure.number("d")].buffer


def test_bytes_between_layers_are_the_numbers_that_they_stand_for():
    """A plan that hands every value out computes in real numbers; the results are the same bits."""
    small, x = block().quantize(images(8)), images(3)
    names = [node.path for node in small.graph.nodes]
    values = small.values(x, names=names)
    assert np.array_equal(values["scores"], small(x))


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_are_equal_on_every_target(threads):
    small, x = block().quantize(images(8)).with_outputs("grouped"), images(2)
    found = []
    for target in cpu.targets():
        with cpu.target(target), cnncore.threads(threads):
            found.append(small(x))
    assert len({y.tobytes() for y in found}) == 1


def test_model_files_hold_weights_in_one_byte(tmp_path):
    g = cnncore.Graph()
    h = g.conv(g.input(channels=16, size=8), 64, kernel_size=3, activation="relu")
    g.output(g.conv(h, 64, kernel_size=3))
    net, x = g.build(), images(4, 16, 8)
    small = net.quantize(x)
    net.save(tmp_path / "float32")
    small.save(tmp_path / "bytes")
    again = cnncore.load(tmp_path / "bytes")
    assert np.array_equal(again(x), small(x))
    assert (tmp_path / "bytes").stat().st_size < 0.3 * (tmp_path / "float32").stat().st_size
    small.buffers["conv.w"] = small.buffers["conv.w"] + 0.25  # what is no integer is kept as it is
    small.save(tmp_path / "odd")
    assert np.array_equal(cnncore.load(tmp_path / "odd").buffers["conv.w"], small.buffers["conv.w"])


def test_changed_weights_are_packed_again():
    small, x = block().quantize(images(8)), images(2)
    before = small(x)
    small.buffers["scores.w"] = -small.buffers["scores.w"]
    small.buffers["scores.b"] = np.zeros(4)
    after = small(x)
    small.buffers["scores.w"] = -small.buffers["scores.w"]
    assert not np.array_equal(before, after) and np.array_equal(small(x), -after)


def test_what_images_may_be():
    net, x = block(), images(10)
    expected = net.quantize(x, batch_size=4)(x)
    assert np.array_equal(net.quantize([x[:4], x[4:8], x[8:]])(x), expected)
    assert np.array_equal(net.quantize((part, None) for part in (x[:4], x[4:8], x[8:]))(x), expected)
    train, _ = digits_split()
    lenet = cnncore.models.small_inception(classes=10)
    few = train.subset(range(16))
    assert np.isfinite(lenet.quantize(few)(next(iter(few.batches(4)))[0])).all()
    g = cnncore.Graph()
    a, b = g.input(channels=3, size=4, name="a"), g.input(channels=3, size=4, name="b")
    g.output(g.conv(g.add(a, b), 2, kernel_size=1))
    two, x = g.build(), images(4, size=4)
    assert np.abs(two.quantize(x, x)(x, x) - two(x, x)).max() < 0.1


def test_hostile_input():
    net, x = block(), images(4)
    with pytest.raises(DataError, match="there are no images"):
        net.quantize(x[:0])
    with pytest.raises(DataError, match="there are no images"):
        net.quantize([])
    broken = x.copy()
    broken[2, 1, 3, 3] = np.nan
    with pytest.raises(DataError, match="the images hold numbers that are not finite"):
        net.quantize(broken)
    with pytest.raises(ShapeError, match=r"x: input has shape \(4, 3, 11, 12\)"):
        net.quantize(x[:, :, 1:])
    with pytest.raises(ShapeError, match="the net has 1 input, each needs an array"):
        net.quantize(x, x)
    with pytest.raises(SettingError, match="ranges must be one of"):
        net.quantize(x, ranges="largest")
    with pytest.raises(GraphError, match="unknown node 'fisrt'; did you mean 'first'"):
        net.quantize(x, skip=["fisrt"])
    with pytest.raises(GraphError, match="no convolution"):
        net.quantize(x, skip=["first", "depthwise", "left", "right", "grouped", "scores"])
    with pytest.raises(GraphError, match=r"call net\.eval\(\)"):
        net.train().quantize(x)
    net.eval().parameters["left.w"] = np.full((5, 12, 1, 1), np.inf)
    with pytest.raises(DataError, match="not finite"):
        net.quantize(x)


def test_training_it_names_the_way_out():
    small = block().quantize(images(4))
    with pytest.raises(GraphError, match=r"first: quantized_conv computes with integers.*call its quantize again"):
        small.with_backward(images(1))


def test_a_grid_has_0_and_least_error():
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0), (-1e-40, 1e-40)):
        grid = grid_between(low, high)
        ends = (0 - grid.zero) * grid.scale, (255 - grid.zero) * grid.scale
        assert grid.scale > 0 and 0 <= grid.zero <= 255 and ends[0] <= min(low, 0) + grid.scale
        assert ends[1] >= max(high, 0) - grid.scale
    seen, x = Range(), np.concatenate([RNG.standard_normal(4000), [60.0]])
    for part in np.array_split(x, 7):
        seen.add(part)
    errors = [np.mean((x - rounded(x, seen.grid(ranges))) ** 2) for ranges in ("mean_squared_error", "min_max")]
    assert seen.counts.sum() == len(x) and len(seen.counts) == BINS and errors[0] <= errors[1]
