"""Traces: the values and gradients of all nodes are those of the net, and receptive boxes are where gradients reach."""

import numpy as np
import pytest

import cnncore
from cnncore import GraphError, ShapeError
from cnncore.nets.trace import Trace

NETWORKS = {"small_inception": (1, 28), "lenet": (1, 32)}


@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_gradients_are_those_of_the_net(name):
    channels, size = NETWORKS[name]
    net = getattr(cnncore.models, name)(classes=10, seed=3, dtype="float64")
    x = np.random.default_rng(0).normal(size=(2, channels, size, size))
    trace = Trace(net, x)
    last = net.graph.names[net.graph.outputs[0]]
    y, backward = net.with_backward(x, training=False)
    np.testing.assert_allclose(trace.value(last), y, rtol=1e-9, atol=1e-12)
    kept = net.values(x, names=net.graph.names[1:], training=False)
    for path, value in kept.items():
        np.testing.assert_allclose(trace.value(path), value, rtol=1e-9, atol=1e-12, err_msg=path)
    dy = np.random.default_rng(1).normal(size=y.shape)
    dx = backward(dy)
    np.testing.assert_allclose(trace.gradients({last: dy})[0], dx, rtol=1e-9, atol=1e-9 * np.abs(dx).max())


def test_gradient_of_a_node_within():
    """The gradient at a node is that of the net that begins there."""
    net = cnncore.models.lenet(seed=0, dtype="float64")
    x = np.random.default_rng(0).normal(size=(1, 1, 32, 32))
    trace = Trace(net, x)
    gradients = trace.gradients({net.graph.names[-1]: np.ones_like(trace.values[-1])})
    step, node = 1e-6, next(n for n, node in enumerate(net.graph.nodes) if node.op.name == "linear")
    value = net.graph.nodes[node].arguments[0]
    moved = trace.values[value].copy()
    moved.flat[5] += step
    following = moved
    for later in range(node, len(net.graph.nodes)):
        trace.values[value] = following
        call, arrays = trace.calls[later], trace.arguments(later)
        following = net.graph.nodes[later].op.implementation.forward(call, arrays)[0]
        value = trace.inputs + later
    change = (following.sum() - Trace(net, x).values[-1].sum()) / step
    assert gradients[net.graph.nodes[node].arguments[0]].flat[5] == pytest.approx(change, rel=1e-5)


def windows_net():
    """Windows of every kind that says where it begins: strides, dilation, uneven padding, poolings, slices, branches."""
    g = cnncore.Graph()
    x = g.input(channels=1)
    h = g.pad(x, padding=((1, 0), (1, 2)))
    a = g.conv(h, 1, kernel_size=3, stride=2, padding="same_upper", name="a")
    b = g.avg_pool(h, kernel_size=(2, 3), stride=2, padding=((0, 1), (1, 1)), name="b")
    c = g.conv(a, 1, kernel_size=3, dilation=2, padding=2, name="c")
    joined = g.concat(c, a, name="joined")
    d = g.blur_pool(joined, stride=2, filter_size=3, name="d")
    e = g.slice(d, axis=3, start=1, stop=None, name="e")
    g.output(g.conv_transpose(e, 1, kernel_size=3, stride=2, padding=1, name="f"), b)
    return g.build(seed=0, dtype="float64")


def test_receptive_boxes_are_where_gradients_reach():
    net = windows_net()
    net.parameters.update({name: np.abs(a) + 0.1 for name, a in net.parameters.items()})
    x = np.random.default_rng(0).normal(size=(1, 1, 21, 24))
    trace = Trace(net, x)
    for path in ("a", "b", "c", "joined", "d", "e"):
        value = trace.value(path)
        for place in ((0, 0), (1, 2), (value.shape[2] - 1, value.shape[3] - 1)):
            seed = np.zeros_like(value)
            seed[(0, 0, *place)] = 1
            reached = np.argwhere(trace.gradients({path: seed})[0][0, 0])
            box = trace.receptive_box(path, place)
            if len(reached):
                seen = tuple(zip(reached.min(0).tolist(), reached.max(0).tolist(), strict=True))
                inside = all(a <= c and d <= b for (a, b), (c, d) in zip(box, seen, strict=True))
                assert inside if path not in ("a", "b") else box == seen, (
                    path,
                    place,
                )  # dilation leaves gaps at the edge
            else:  # all of it is padding
                assert any(low > high for low, high in box), (path, place)
    value = trace.value("f")
    for place in np.ndindex(value.shape[2:]):  # between its inputs some windows are smaller
        seed = np.zeros_like(value)
        seed[(0, 0, *place)] = 1
        reached = np.argwhere(trace.gradients({"f": seed})[0][0, 0])
        (top, bottom), (left, right) = trace.receptive_box("f", place)
        assert top <= reached[:, 0].min() and reached[:, 0].max() <= bottom
        assert left <= reached[:, 1].min() and reached[:, 1].max() <= right


def test_what_has_no_place():
    net = cnncore.models.lenet(seed=0)
    trace = Trace(net, np.zeros((1, 1, 32, 32), np.float32))
    last = net.graph.names[net.graph.outputs[0]]
    with pytest.raises(GraphError, match="has no place"):
        trace.receptive_box(last, (0, 0))
    with pytest.raises(ShapeError, match=r"seed of .* expected \(1, 10\)"):
        trace.gradients({last: np.ones((1, 3), np.float32)})
    with pytest.raises(GraphError, match="nowhere"):
        trace.value("nowhere")
