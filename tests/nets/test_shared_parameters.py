"""Parameters that several nodes use: gradients, files, training, surgery, and what is refused."""

import copy
import pickle

import numpy as np
import pytest

import cnncore
from cnncore.errors import GraphError, ModelFileError, ShapeError
from cnncore.nets.model_file import read

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)


def network(shared):
    """Two convolutions, two normalisations, an encoder and its decoder: sharing, or each with arrays of its own."""
    g = cnncore.Graph()
    x = g.input(channels=3)
    tied = {"w": g.parameter("tied", (4, 3, 3, 3))} if shared else None
    code = g.conv(x, 4, kernel_size=3, padding=1, activation="tanh", name="encoder", share=tied)
    h = g.conv_transpose(code, 3, kernel_size=3, padding=1, name="decoder", share=tied)
    h = g.conv(h, 4, kernel_size=3, padding=1, name="again", share=code if shared else None)
    h = g.batch_norm(h, name="norm")
    h = g.batch_norm(g.tanh(h), name="norm_again", share="norm" if shared else None)
    g.output(h)
    return g.build(seed=5, dtype="float64")


NAMES = {  # of the net that shares → of the net that does not
    "tied": ["encoder.w", "decoder.w", "again.w"],
    "encoder.b": ["encoder.b", "again.b"],
    "decoder.b": ["decoder.b"],
    "norm.w": ["norm.w", "norm_again.w"],
    "norm.b": ["norm.b", "norm_again.b"],
}


@pytest.fixture
def pair():
    shared, apart = network(True), network(False)
    for name, names in NAMES.items():
        shared.parameters[name] = RNG.normal(1, 0.2, size=shared.parameters[name].shape)
        for other in names:
            apart.parameters[other] = shared.parameters[name]
    return shared, apart


def test_gradients_are_the_sums_of_those_of_separate_parameters(pair):
    results = []
    for net in pair:
        y, backward = net.with_backward(X.astype(float), training=True)
        final = []
        dx = backward(np.cos(y), on_gradient=lambda name, array, final=final: final.append((name, array.copy())))
        assert [name for name, _ in final] == list(net.gradient_order)
        assert all(np.array_equal(array, backward.gradients[name]) for name, array in final)
        results.append((y, dx, backward.gradients))
    (y, dx, found), (y_apart, dx_apart, apart) = results
    assert np.array_equal(y, y_apart) and np.array_equal(dx, dx_apart)
    assert found.keys() == NAMES.keys()
    for name, names in NAMES.items():
        np.testing.assert_allclose(found[name], sum(apart[other] for other in names), rtol=1e-12, atol=1e-12)


def test_gradients_of_a_net_that_shares_are_the_derivatives(pair):
    cnncore.testing.check_gradient(pair[0], X[:1, :, :4, :4].astype(float))


def test_gradients_are_written_into_given_arrays(pair):
    y, backward = pair[0].with_backward(X.astype(float))
    backward(np.ones_like(y))
    expected = {name: array.copy() for name, array in backward.gradients.items()}
    given = {name: np.full(array.shape, np.nan) for name, array in expected.items()}
    kept = dict(given)
    backward(np.ones_like(y), gradients=given)
    assert all(given[name] is kept[name] and np.array_equal(given[name], expected[name]) for name in expected)


def test_one_node_may_use_a_parameter_twice():
    g = cnncore.Graph()
    x = g.input(channels=2)
    p = g.parameter("p", (2,), initial=0.5)
    g.output(g.scale(x, share={"w": p, "b": p}))
    net = g.build(dtype="float64")
    y, backward = net.with_backward(X[:, :2].astype(float))
    backward(np.ones_like(y))
    np.testing.assert_allclose(backward.gradients["p"], (X[:, :2] + 1.0).sum((0, 2, 3)), rtol=1e-6)


def test_shared_running_statistics_are_updated_by_one_layer_after_the_other(pair):
    shared, apart = pair
    for net in pair:
        net(X.astype(float), training=True)
    first, second = apart.buffers["norm.running_mean"], apart.buffers["norm_again.running_mean"]
    np.testing.assert_allclose(shared.buffers["norm.running_mean"], 0.9 * first + second, rtol=1e-12)


def test_statistics_of_averaged_weights_are_those_of_all_uses(pair):
    shared, apart = pair
    for net in pair:
        cnncore.train.averaging.with_batch_statistics(net, [(X.astype(float),)])
    expected = (apart.buffers["norm.running_var"] + apart.buffers["norm_again.running_var"]) / 2
    np.testing.assert_allclose(shared.buffers["norm.running_var"], expected, rtol=1e-12)


def test_copies_and_files_keep_what_is_shared(pair, tmp_path):
    net = pair[0]
    net.save(tmp_path / "net.safetensors")
    _, arrays = read(tmp_path / "net.safetensors")
    assert arrays.keys() == net.parameters.keys() | net.buffers.keys()
    for other in (
        cnncore.load(tmp_path / "net.safetensors"),
        copy.deepcopy(net),
        pickle.loads(pickle.dumps(net)),
        net.astype("float64"),
        net.with_outputs("norm_again"),
    ):
        assert list(other.parameters) == list(net.parameters)
        assert other.graph.description() == net.graph.description()
        other.parameters["tied"][0, 0, 0, 0] += 1
        net_too = copy.deepcopy(net)
        net_too.parameters["tied"] = other.parameters["tied"]
        assert np.array_equal(other(X.astype(float)), net_too(X.astype(float)))


def test_a_layer_keeps_shared_parameters_when_the_one_that_made_them_is_left_out():
    g = cnncore.Graph()
    x = g.input(channels=3)
    first = g.conv(x, 4, kernel_size=1, name="first")
    second = g.conv(x, 4, kernel_size=1, name="second", share=first)
    g.output(first, second)
    net = g.build()
    alone = net.with_outputs("second")
    assert list(alone.parameters) == ["first.w", "first.b"] and alone.graph.owned["first.w"].fans == (3, 4)
    assert np.array_equal(alone(X), net(X)[1])


def test_summary_counts_a_parameter_once(pair):
    shared, _ = pair
    found = shared.summary((1, 3, 8, 8))
    assert found.parameters == sum(a.size for a in shared.parameters.values())
    assert found.state == sum(a.size for a in shared.buffers.values())
    assert [row.path for row in found.rows if row.shared] == ["decoder", "again", "norm_again"]
    assert "3 + shared" in str(found)


def test_a_step_changes_a_shared_parameter_once(pair):
    """By the sum of its gradients, and weight decay counts once."""
    net, twin = pair[0], copy.deepcopy(pair[0])
    optimizer = cnncore.train.SGD(0.1, weight_decay=0.01)
    trainer = cnncore.train.Trainer(net, optimizer=optimizer, loss="mean_squared_error")
    y, backward = twin.with_backward(X.astype(float), training=True)
    trainer.step(X.astype(float), np.zeros_like(y))
    _, of_loss = cnncore.mean_squared_error.with_backward(y, np.zeros_like(y))
    dy = of_loss(np.ones(()))
    backward(dy[0] if isinstance(dy, tuple) else dy)
    for name, w in twin.parameters.items():
        decay = 0.01 if twin.decays(name) else 0.0
        expected = w - 0.1 * (backward.gradients[name] + decay * w)
        np.testing.assert_allclose(net.parameters[name], expected, rtol=1e-10, atol=1e-13)


def test_blocks_list_a_shared_parameter_once(pair):
    names = [name for inside in cnncore.train.transfer.blocks(pair[0]).values() for name in inside]
    assert sorted(names) == sorted(NAMES)


def test_frozen_parameters_have_no_gradient_anywhere(pair):
    net = pair[0].with_frozen(["tied"])
    y, backward = net.with_backward(X.astype(float))
    backward(np.ones_like(y))
    assert "tied" not in backward.gradients and "tied" not in net.gradient_order


# ── ONNX ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_onnx_files_hold_a_shared_array_once(pair, tmp_path):
    onnx = pytest.importorskip("onnx")
    net = pair[0].astype("float32")
    cnncore.io.save_onnx(net, tmp_path / "net.onnx")
    held = [row.name for row in onnx.load(tmp_path / "net.onnx").graph.initializer]
    assert sorted(held) == sorted([*net.parameters, *net.buffers])
    again = cnncore.io.load_onnx(tmp_path / "net.onnx")
    assert again.graph.users["encoder.w"] == ("encoder", "decoder", "again")
    np.testing.assert_allclose(again(X), net(X), rtol=1e-5, atol=1e-5)


def test_folding_a_normalisation_into_shared_weights_separates_them(tmp_path):
    pytest.importorskip("onnx")
    g = cnncore.Graph()
    x = g.input(channels=3)
    first = g.conv(x, 3, kernel_size=1)
    g.output(g.conv(g.batch_norm(first, name="norm"), 3, kernel_size=1, share=first))
    net = g.build()
    net.buffers["norm.running_mean"], net.buffers["norm.running_var"] = [1, 2, 3], [4, 5, 6]
    cnncore.io.save_onnx(net, tmp_path / "net.onnx", fold=True)
    np.testing.assert_allclose(cnncore.io.load_onnx(tmp_path / "net.onnx")(X), net(X), rtol=1e-5, atol=1e-5)


def test_arrays_of_one_value_that_a_file_stores_once_are_not_shared(tmp_path):
    pytest.importorskip("onnx")
    g = cnncore.Graph()
    x = g.input(channels=3)
    first = g.conv(x, 3, kernel_size=1, name="first")
    g.output(g.conv(first, 3, kernel_size=1, name="second", share=first))
    cnncore.io.save_onnx(g.build(), tmp_path / "net.onnx")
    net = cnncore.io.load_onnx(tmp_path / "net.onnx")
    assert list(net.parameters) == ["first.w", "first.b", "second.b"]


# ── Weights of other frameworks ────────────────────────────────────────────────────────────────────────────────────────


def test_weights_by_two_names_are_equal_or_refused():
    g = cnncore.Graph()
    x = g.input(channels=3, rank=0)
    first = g.linear(x, 3, name="a")
    g.output(g.linear(first, 3, name="b", share=first))
    net = g.build()
    arrays = {"a.weight": np.ones((3, 3)), "a.bias": np.ones(3)}
    twice = {**arrays, "b.weight": np.ones((3, 3)), "b.bias": np.ones(3)}
    assert cnncore.io.load_weights(net, arrays, strict=True).complete
    assert cnncore.io.load_weights(net, twice, strict=True).complete
    with pytest.raises(ModelFileError, match=r"b\.bias and a\.bias hold different numbers"):
        cnncore.io.load_weights(net, twice | {"b.bias": np.zeros(3)})


# ── Refusals ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda g, x, h: g.conv(h, 4, kernel_size=3, share=h), ShapeError, r"w has shape .*first\.w"),
        (lambda g, x, h: g.conv(x, 4, kernel_size=1, share=x), GraphError, "input has no parameters"),
        (lambda g, x, h: g.conv(x, 4, kernel_size=1, share="frist"), GraphError, "did you mean 'first'"),
        (lambda g, x, h: g.conv(x, 4, kernel_size=1, share=1), GraphError, "share is int"),
        (lambda g, x, h: g.conv(x, 4, kernel_size=1, share={"v": "first.w"}), GraphError, "'v'"),
        (lambda g, x, h: g.conv(x, 4, kernel_size=1, share={"w": "first.v"}), GraphError, r"first\.v"),
        (lambda g, x, h: g.conv(x, 4, kernel_size=1, bias=False, share=h), GraphError, "there is no b"),
        (lambda g, x, h: g.relu(x, share=h), GraphError, "relu has no parameters"),
        (lambda g, x, h: g.batch_norm(h, share={"running_mean": "first.b"}), GraphError, "running statistics"),
        (lambda g, x, h: g.parameter("first", (1,)), GraphError, "exists already"),
        (lambda g, x, h: g.add(h, cnncore.Graph().parameter("p", (4,))), GraphError, "another graph"),
    ],
)
def test_what_cannot_be_shared_is_refused(make, error, words):
    g = cnncore.Graph()
    x = g.input(channels=3, size=8)
    h = g.conv(x, 4, kernel_size=1, name="first")
    with pytest.raises(error, match=words):
        make(g, x, h)


def test_a_parameter_that_no_node_uses_is_refused():
    g = cnncore.Graph()
    x = g.input(channels=3)
    g.parameter("spare", (2, 2))
    g.output(g.relu(x))
    with pytest.raises(GraphError, match="parameter spare is used by no node"):
        g.build()


def test_surgery_refuses_to_reshape_what_others_share():
    g = cnncore.Graph()
    x = g.input(channels=1, size=2)
    h = g.linear(g.flatten(x), 4, name="hidden")
    g.output(g.linear(h, 4, name="scores", share=h))
    net = g.build()
    with pytest.raises(GraphError, match=r"with_classes: the shape of hidden\.w would change, and scores shares it"):
        net.with_classes(3)
    with pytest.raises(GraphError, match=r"to_fully_convolutional: the shape of hidden\.w would change"):
        net.to_fully_convolutional()


def test_a_shared_parameter_is_a_value_too():
    """A table of embeddings that the classifier multiplies by, as language models tie them."""
    g = cnncore.Graph()
    x = g.input(channels=3, rank=0)
    table = g.parameter("table", (5, 3), initial=0.5)
    scores = g.linear(x, 5, bias=False, share={"w": table})
    g.output(g.matmul(scores, table))
    net = g.build(dtype="float64")
    w = net.parameters["table"] = RNG.normal(size=(5, 3))
    x = RNG.normal(size=(2, 3))
    np.testing.assert_allclose(net(x), x @ w.T @ w)
    cnncore.testing.check_gradient(net, x)
    assert list(net.parameters) == ["table"]
