"""A batch in parts gives what the whole batch gives: random operators, normalisation, gradients in their order; nets in other
processes train."""

import concurrent.futures
import pickle
import threading

import numpy as np
import pytest
from support.processes import run_python

import cnncore
from cnncore.errors import SettingError
from cnncore.train import SGD, Trainer

PARTS = ((0, 5), (5, 6), (6, 12))
RANDOM = [name for name, op in cnncore.OPS.items() if "seed" in op.settings]


def net_of(name, **settings):
    graph = cnncore.Graph()
    x = graph.input(channels=4)
    graph.output(getattr(graph, name)(x, **settings))
    return graph.build(seed=0)


@pytest.mark.parametrize("name", RANDOM)
def test_random_operators_draw_for_the_place_in_the_whole_batch(name, rng):
    op = cnncore.OPS[name]
    settings = {key: value for key, value in op.cases[0].settings.items() if key not in ("training", "seed")}
    net = net_of(name, **settings)
    x = rng.random((12, 4, 9, 8), np.float32)
    y, backward = net.with_backward(x, training=True, step=3)
    dy = rng.random(y.shape, np.float32)
    dx = backward(dy)
    for first, last in PARTS:
        part, part_backward = net.with_backward(x[first:last], training=True, step=3, first_image=first)
        np.testing.assert_array_equal(part, y[first:last])
        np.testing.assert_array_equal(part_backward(dy[first:last]), dx[first:last])
    if "dropout" in name or "stochastic" in name:  # the draws do differ from place to place
        other, _ = net.with_backward(x[5:], training=True, step=3)
        assert not np.array_equal(other, y[5:])


def test_what_follows_the_size_of_the_batch_is_refused_in_parts(rng):
    net = net_of("fractional_max_pool", kernel_size=2, output_size=3, compat="torch")
    with pytest.raises(SettingError, match="a batch cannot be divided"):
        net.with_backward(rng.random((2, 4, 8, 8), np.float32), training=True, first_image=2)


class Meeting:
    """Merges what the threads bring, in the order of the threads."""

    def __init__(self, count):
        self.brought, self.barrier = [None] * count, threading.Barrier(count, timeout=30)

    def merge(self, number, kind, array):
        self.brought[number] = array
        self.barrier.wait()
        brought = list(self.brought)
        self.barrier.wait()
        if kind == "sums":
            return sum(brought)
        count = sum(part[0] for part in brought)
        mean = sum(part[0] * part[1] for part in brought) / count
        return np.stack([count, mean, sum(part[2] + part[0] * (part[1] - mean) ** 2 for part in brought)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_normalisation_over_all_parts(dtype, rng):
    graph = cnncore.Graph()
    x = graph.input(channels=4)
    graph.output(graph.conv(graph.batch_norm(x, activation="relu"), 3, kernel_size=3))
    net = graph.build(seed=1, dtype=dtype)
    net.parameters["batch_norm.w"], net.parameters["batch_norm.b"] = rng.random(4) + 0.5, rng.random(4)
    x = (100 + rng.standard_normal((12, 4, 6, 5))).astype(dtype)
    running = {}
    y, backward = net.with_backward(x, training=True, buffers=running)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = backward(dy)
    meeting = Meeting(len(PARTS))

    def run(number):
        first, last = PARTS[number]
        own = {}
        y, backward = net.with_backward(
            x[first:last], training=True, synchronize=lambda *what: meeting.merge(number, *what), buffers=own
        )
        return y, backward(dy[first:last]), backward.gradients, own

    with concurrent.futures.ThreadPoolExecutor(len(PARTS)) as threads:
        ran = list(threads.map(run, range(len(PARTS))))
    close = {"rtol": 3e-5, "atol": 3e-5} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(np.concatenate([part[0] for part in ran]), y, **close)
    np.testing.assert_allclose(np.concatenate([part[1] for part in ran]), dx, **close)
    for name, gradient in backward.gradients.items():
        np.testing.assert_allclose(sum(part[2][name] for part in ran), gradient, **close, err_msg=name)
    for name, array in running.items():
        for part in ran:
            np.testing.assert_allclose(part[3][name], array, **close, err_msg=name)
    assert net.buffers["batch_norm.running_mean"].tolist() == [0] * 4  # the caller's dict received the others


def test_gradients_are_handed_out_once_in_their_order(rng):
    net = cnncore.models.small_inception(seed=0)
    net.frozen = {net.gradient_order[3]}
    y, backward = net.with_backward(rng.random((2, 1, 28, 28), np.float32), training=True)
    seen = {}

    def hook(name, array):
        assert name not in seen
        seen[name] = array.copy()

    backward(np.ones_like(y), on_gradient=hook)
    assert tuple(seen) == net.gradient_order and net.frozen.isdisjoint(seen)
    for name, array in backward.gradients.items():
        np.testing.assert_array_equal(seen[name], array, err_msg=name)


def trained(net, x, labels):
    """A few steps; also run in another process."""
    trainer = Trainer(net, SGD(0.1, momentum=0.9))
    return [trainer.step(x, labels) for _ in range(3)], dict(net.parameters)


@pytest.fixture
def small():
    graph = cnncore.Graph()
    x = graph.input(channels=1)
    graph.output(graph.global_avg_pool(graph.conv(graph.batch_norm(x), 2, kernel_size=3)))
    return graph.build(seed=0)


def test_nets_are_writable_however_they_were_unpickled(small, rng):
    x, labels = rng.random((4, 1, 6, 6), np.float32), np.array([0, 1, 0, 1])
    buffers = []
    pickled = pickle.dumps(small, protocol=5, buffer_callback=buffers.append)
    read_only = [memoryview(bytes(buffer.raw())) for buffer in buffers]  # as from a file, or another process's memory
    copy = pickle.loads(pickled, buffers=read_only)
    losses, parameters = trained(copy, x, labels)
    expected, expected_parameters = trained(small, x, labels)
    assert buffers and losses == expected
    for name, array in parameters.items():
        np.testing.assert_array_equal(array, expected_parameters[name])


ELSEWHERE = """
import pickle, sys
from cnncore.train import SGD, Trainer
with open(sys.argv[1], "rb") as file:
    net, x, labels = pickle.load(file)
trainer = Trainer(net, SGD(0.1, momentum=0.9))
print([trainer.step(x, labels) for _ in range(3)])
"""


def test_a_net_trains_in_another_process(small, rng, tmp_path):
    x, labels = rng.random((4, 1, 6, 6), np.float32), np.array([0, 1, 0, 1])
    file = tmp_path / "net.pickle"
    file.write_bytes(pickle.dumps((small, x, labels)))
    assert run_python(ELSEWHERE, file).stdout.strip() == str(trained(small, x, labels)[0])
