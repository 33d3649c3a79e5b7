"""ONNX files that are written: ONNX Runtime computes from them what the net computes, for every operator and network."""

import itertools
import json
import os
import re
import sys

import numpy as np
import pytest
from support.cases import inference, mostly_long, operators
from support.networks import SMALLER
from support.onnx_models import onnx
from support.onnx_runtime import assert_written, run, session
from support.oracles import compared_with

import cnncore
from cnncore.errors import CnnError, DataError, ModelFileError, SettingError, ShapeError
from cnncore.io.onnx_export.arrays import NODES, REDUCTIONS
from cnncore.io.onnx_export.comparison import BOOLEAN_NODES
from cnncore.io.onnx_export.export import alone, written
from cnncore.io.onnx_export.indexing import PLACES
from cnncore.io.onnx_export.nodes import EXPORTERS, PLAIN, REFUSED
from cnncore.io.onnx_export.pooling import STRATEGIES
from cnncore.models import NETWORKS
from cnncore.operators.peers import PEERS

ORACLE = "ONNX Runtime, of files written"


# ── Every operator ─────────────────────────────────────────────────────────────────────────────────────────────────────


# What asks for an extent that the cases of open sizes leave open.
KNOWN_EXTENTS = {"linear", "gather_nd", "scatter_nd"}


def compared(op, opset=None):
    """How many cases of an operator are the same in ONNX Runtime, and the reasons for those refused."""
    count, refused, options = 0, [], {} if opset is None else {"opset": opset}
    for case in op.cases:
        for rank, size in itertools.product(case.ranks, ("known", None)):
            arrays, settings, xs = inference(op, case, rank)
            net = alone(op, arrays, settings, size)
            if net is None:
                continue
            try:
                content = cnncore.io.save_onnx(net, **options)
            except SettingError as error:
                refused.append(str(error))
                allowed = ("compat='torch'", "regions", "mode='avg'", "another channel")
                assert opset or size is None or any(word in str(error) for word in allowed), error
                continue
            except ShapeError:
                assert op.name in KNOWN_EXTENTS and size is None  # it cannot stand in such a graph
                continue
            assert_written(net, xs, content)
            count += 1
    return count, refused


# Whose cases are no nets of one node: test_unpooling; and what ONNX has no words for.
NOT_COMPARED = {"position_sensitive_roi_pool"}


@pytest.mark.parametrize("op", operators())
def test_operators(op):
    """Every case of every row, with sizes known and open; what is refused says why and what to do."""
    count, refused = compared(op)
    for reason in refused:
        assert re.search(r"cannot be written to ONNX: .*; (give|leave|use) ", reason), reason
    if op.name in NOT_COMPARED:
        assert count == 0
        return
    assert count > 0
    compared_with(ORACLE, op)


@pytest.mark.long
@pytest.mark.parametrize("op", operators(lambda op: op.name not in NOT_COMPARED))
def test_operators_in_the_oldest_version(op):
    """In version 13 of ONNX's operators, what has no node is a composition, or refused by naming the version that has it."""
    count, refused = compared(op, opset=13)
    late = [reason for reason in refused if "opset=" in reason]
    assert count > 0 or len(late) == len(refused) > 0


def test_every_operator_has_a_form_or_a_reason():
    grid = {op.name for op in cnncore.pool.pairs.values()}
    assert set(cnncore.pool.strategies) == set(STRATEGIES), (
        "say in cnncore/io/onnx_export/pooling.py how a strategy is written"
    )
    for name in cnncore.OPS:
        assert (name in EXPORTERS or name in grid) != (name in REFUSED), name
    assert not set(EXPORTERS) & set(REFUSED)
    assert set(REFUSED) <= NOT_COMPARED


def test_an_operator_that_is_one_node_has_it_as_its_counterpart():
    tables = {**NODES, **REDUCTIONS, **BOOLEAN_NODES, **PLACES}
    assert {*tables, *PLAIN} <= set(PEERS)
    for name, op_type in tables.items():
        assert f"ONNX {op_type}" in PEERS[name]
    for name, write in PLAIN.items():  # which says "Relu of x."
        assert f"ONNX {write.__doc__.split()[0]}" in PEERS[name]


PAIRS = [pytest.param(op, id=op.name) for (_, windows), op in cnncore.pool.pairs.items() if op.name not in cnncore.OPS]


@pytest.mark.parametrize("op", PAIRS)
def test_the_grid_of_pooling(op):
    """Every strategy on every scheme of windows; regions of interest by their maximum only."""
    count, refused = compared(op)
    if op.implementation.scheme.name == "roi":
        assert count == 0 and all("regions of interest" in reason for reason in refused)
    else:
        assert count > 0 and all("input_shape=" in reason for reason in refused)


# ── Windows, exhaustively ──────────────────────────────────────────────────────────────────────────────────────────────

SMALL = [
    (k, s, p, d, ceil)
    for k, s, p, d, ceil in itertools.product(
        (1, 2, 3), (1, 2, 3), ((0, 0), (1, 0), (0, 1), (1, 1)), (1, 2), (False, True)
    )
    if max(p) <= (d * (k - 1) + 1) // 2
]


@pytest.mark.parametrize("H", mostly_long([3, 4, 5, 6], 4))
@pytest.mark.parametrize("size", ["known", "open"])
def test_all_small_windows(H, size, rng):
    """Maximum, and average with and without padding, for all small windows in one net: where they begin, what counts."""
    g = cnncore.Graph()
    x = g.input(2, size=(H if size == "known" else None,))
    made, left = [], 0
    for k, s, p, d, ceil in SMALL:
        settings = {"kernel_size": k, "stride": s, "padding": (p,), "dilation": d, "ceil_mode": ceil}
        for name, more in (
            ("max_pool", {}),
            ("avg_pool", {}),
            ("avg_pool", {"count_include_pad": False}),
            ("sum_pool", {}),
        ):
            op = cnncore.OPS[name]
            try:
                op(np.zeros((1, 2, H)), **settings, **more)
                alone_ = alone(
                    op,
                    (np.zeros((1, 2, H), np.float32),),
                    {**settings, **more},
                    size="known" if size == "known" else None,
                )
                written(alone_)
            except CnnError as error:
                left += "cannot be written" in str(error)
                continue
            made.append(getattr(g, name)(x, **settings, **more))
    assert len(made) > 200 and (left == 0 if size == "known" else left > 0)
    g.output(*made)
    net = g.build()
    assert_written(net, (rng.standard_normal((2, 2, H)).astype(np.float32),), cnncore.io.save_onnx(net))


@pytest.mark.parametrize("size", [None, 7])
def test_all_small_convolutions(size, rng):
    """Convolutions and transposed ones of all small windows in one net: padding, steps, rows that are added."""
    g = cnncore.Graph()
    x = g.input(2, size=(size,))
    made, left = [], 0
    for k, s, d, padding, more in itertools.product(
        (1, 2, 3), (1, 2, 3), (1, 2), (0, 5, ((2, 1),), "same_upper", "same_lower", "same_torch"), (None, 0, 1, 2)
    ):
        name = "conv" if more is None else "conv_transpose"
        settings = {"kernel_size": k, "stride": s, "dilation": d, "padding": padding}
        settings |= {} if more is None else {"output_padding": more}
        try:
            trial = cnncore.Graph()
            trial.output(getattr(trial, name)(trial.input(2, size=(size,)), 2, **settings))
            net = trial.build()
            net.summary((1, 2, 7))
            written(net)
        except CnnError as error:
            left += "cannot be written" in str(error)
            continue
        made.append(getattr(g, name)(x, 2, **settings))
    assert len(made) > 200 and (left > 0) == (size is None)
    g.output(*made)
    net = g.build()
    for name in net.parameters:
        net.parameters[name] = rng.standard_normal(net.parameters[name].shape)
    assert_written(net, (rng.standard_normal((2, 2, 7)).astype(np.float32),), cnncore.io.save_onnx(net))


@pytest.mark.parametrize("size", [None, 7])
def test_all_small_resizings(size, rng):
    """Every pixel is the right one where the size is known; where it is open, scales that float32 holds and whole multiples."""
    g = cnncore.Graph()
    x = g.input(2, size=(size,))
    targets = [{"size": n} for n in (1, 2, 3, 5, 7, 10, 14, 20)] if size else [{"size": n} for n in (7, 14, 21)]
    targets += [{"scale": s} for s in ((0.5, 2, 3, 1.5, 13 / 7, 1.1, 1.7, 0.3) if size else (0.5, 2, 3, 1.5))]
    made = []
    for coordinates, target in itertools.product(("half_pixel", "align_corners", "asymmetric"), targets):
        made.append(g.linear_upsample(x, coordinates=coordinates, **target))
        for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
            made.append(g.nearest_upsample(x, coordinates=coordinates, rounding=rounding, **target))
    g.output(*made)
    net = g.build()
    assert_written(net, (rng.standard_normal((1, 2, 7)).astype(np.float32),), cnncore.io.save_onnx(net))


@pytest.mark.parametrize("size", [None, 9])
def test_padding_as_wide_as_the_kernel(size, rng):
    """Dilation allows it; pooling nodes do not take it."""
    g = cnncore.Graph()
    x = g.input(2, size=(size,))
    settings = {"kernel_size": 2, "stride": 1, "padding": 2, "dilation": 3}
    strategies = ("max", "avg", "lp", "sum", "soft", "median")
    made = [g.pool(x, strategy=strategy, **settings) for strategy in strategies]
    made.append(g.avg_pool(x, count_include_pad=False, ceil_mode=True, **settings))
    g.output(*made)
    net = g.build()
    assert_written(net, (rng.standard_normal((1, 2, 9)).astype(np.float32),), cnncore.io.save_onnx(net))


def test_rounding_up_with_padding_that_counts_is_never_left_to_a_node():
    """Runtimes do not agree what it means: the image is padded before."""
    g = cnncore.Graph()
    x = g.input(1)
    g.output(g.avg_pool(x, 3, stride=2, padding=1, ceil_mode=True))
    nodes = written(g.build()).nodes
    (pool,) = [node for node in nodes if node.op_type == "AveragePool"]
    assert not (pool.attributes.get("ceil_mode") and pool.attributes.get("count_include_pad"))
    assert "Pad" in [node.op_type for node in nodes]
    with pytest.raises(SettingError, match=r"avg_pool: .*ceil_mode.*input_shape="):
        g = cnncore.Graph()
        g.output(g.avg_pool(g.input(1), 2, stride=3, ceil_mode=True))
        written(g.build())


def test_large_values_in_windows(rng):
    """Powers and exponentials are taken of what is left after the largest: nothing overflows in float32."""
    x = (rng.uniform(1, 2, (2, 3, 6, 6)) * 3e4).astype(np.float32)
    g = cnncore.Graph()
    v = g.input(3)
    nodes = [
        g.soft_pool(v, 2),
        g.log_sum_exp_pool(v, 2, learned=False),
        g.gem_pool(v, 2, p=9.0, learned=False),
        g.gem_pool(v, 3, stride=2, padding=1, p=-9.0, learned=False),
        g.gem_pool(v, 2, p=0.0, learned=False),
        g.global_gem_pool(v, p=12.0, learned=False),
        g.lp_pool(v, 2, p=8.5),
        g.auto_pool(v, 2, alpha=-3.0, learned=False),
    ]
    g.output(*nodes)
    net = g.build()
    assert_written(net, (x,), cnncore.io.save_onnx(net))


def test_learned_exponents_of_both_signs(rng):
    """(C,) exponents below, at and above 0 in one node."""
    g = cnncore.Graph()
    g.output(g.gem_pool(g.input(3), 2, num_parameters="channels"))
    net = g.build()
    net.parameters["gem_pool.ps"] = [-2.0, 0.0, 3.0]
    assert_written(net, (rng.uniform(0.1, 2, (1, 3, 4, 4)).astype(np.float32),), cnncore.io.save_onnx(net))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_of_probabilities(reduction, rng):
    g = cnncore.Graph()
    x, target = g.input(4, rank=1), g.input(4, rank=1, name="target")
    g.output(
        g.softmax_cross_entropy(x, target, reduction=reduction, label_smoothing=0.1),
        g.binary_cross_entropy(x, target, reduction=reduction),
        g.mean_squared_error(x, target, reduction=reduction),
    )
    net = g.build()
    xs = rng.standard_normal((3, 4, 5)).astype(np.float32), rng.dirichlet(np.ones(4), (3, 5)).transpose(0, 2, 1)
    assert_written(net, (xs[0], xs[1].astype(np.float32)), cnncore.io.save_onnx(net))


@pytest.mark.parametrize("size", [None, 7])
@pytest.mark.parametrize(
    ("pooling", "unpooling"),
    [
        ({"kernel_size": 2, "ceil_mode": True}, {"kernel_size": 2, "output_size": 7}),
        ({"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 3, "stride": 2, "padding": 1}),
        ({"kernel_size": 3, "stride": 2}, {"kernel_size": 3, "stride": 2, "duplicates": "add"}),
    ],
)
def test_unpooling(pooling, unpooling, size, rng):
    """Indices within a plane, between two nodes of a graph."""
    g = cnncore.Graph()
    y, places = g.max_pool(g.input(3, size=size), return_indices=True, **pooling)
    g.output(g.max_unpool(g.relu(y), places, **unpooling))
    net = g.build()
    assert_written(net, (rng.standard_normal((2, 3, 7, 7)).astype(np.float32),), cnncore.io.save_onnx(net))
    compared_with(ORACLE, cnncore.max_unpool)


def test_indices_that_onnx_lacks():
    g = cnncore.Graph()
    y, places = g.adaptive_max_pool(g.input(1, size=5), 2, return_indices=True)
    g.output(g.max_unpool(y, places, 3, stride=2))
    with pytest.raises(
        SettingError, match=r"^adaptive_max_pool: .* its indices have no form in ONNX; leave return_indices"
    ):
        cnncore.io.save_onnx(g.build())


# ── Networks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", mostly_long(NETWORKS, 3))
def test_networks(name, rng):
    """Every network of cnncore.models, batch and size open where they are, at two sizes."""
    net = NETWORKS[name](**SMALLER.get(name, {}), seed=None)
    for array in net.parameters.values():
        array[...] = rng.uniform(-1, 1, array.shape) / np.sqrt(np.prod(array.shape[1:]) / 3)
    (row,) = net.graph.inputs
    if name == "spp_net":  # its pyramid's windows depend on the size
        with pytest.raises(SettingError, match="input_shape="):
            cnncore.io.save_onnx(net)
        content = cnncore.io.save_onnx(net, input_shape=(None, 3, 120, 107))
        extents = {(120, 107)}
    else:
        content = cnncore.io.save_onnx(net)
        extents = {row.size} if None not in row.size else {(64, 64), (75, 96)}
    for batch, size in enumerate(sorted(extents), 1):
        x = rng.standard_normal((batch, row.channels, *size)).astype(np.float32)
        assert_written(net, (x,), content)
    made = session(content)
    assert made.get_inputs()[0].name == row.name and made.get_inputs()[0].shape[0] == "N"
    assert [o.name for o in made.get_outputs()] == [net.graph.names[v] for v in net.graph.outputs]


def test_googlenet_with_auxiliary_classifiers(rng):
    net = cnncore.models.googlenet(classes=7, aux=True)
    x = rng.standard_normal((1, 3, 224, 224)).astype(np.float32)
    assert_written(net, (x,), cnncore.io.save_onnx(net))


# ── What goes along ────────────────────────────────────────────────────────────────────────────────────────────────────


def small_net(dtype="float32", training=None):
    g = cnncore.Graph()
    x = g.input(3)
    h = g.relu(g.batch_norm(g.conv(x, 4, 3, bias=False, name="first"), name="norm"))
    h = g.batch_norm(
        g.depthwise_conv(h, 3, padding=1, padding_mode="reflect", name="second"), affine=False, name="norm_2"
    )
    h = g.batch_norm(g.dropout(h, 0.3), name="kept")  # after something else than a convolution
    g.output(g.linear(g.global_avg_pool(h), 5, name="scores"))
    net = g.build(seed=3, dtype=dtype)
    rng = np.random.default_rng(5)
    for name, array in net.buffers.items():
        net.buffers[name] = rng.uniform(0.5, 2, array.shape) if "var" in name else rng.standard_normal(array.shape)
    for name in net.parameters:
        if name.startswith(("norm", "kept")):
            net.parameters[name] = rng.uniform(0.5, 2, net.parameters[name].shape)
    return net


def test_folding(rng):
    """Batch normalisations go into the only convolution before them, where there is one."""
    net = small_net()
    x = rng.standard_normal((2, 3, 8, 9)).astype(np.float32)
    plain, folded = (cnncore.io.save_onnx(net, fold=fold) for fold in (False, True))
    assert_written(net, (x,), plain)
    assert_written(net, (x,), folded)
    types = [[node.op_type for node in onnx.load_from_string(c).graph.node] for c in (plain, folded)]
    assert types[0].count("BatchNormalization") == 3 and types[1].count("BatchNormalization") == 1
    assert "Dropout" not in types[0] and types[0].count("Conv") == 2


def test_names_numbers_and_metadata(rng):
    net = small_net()
    net.metadata = {"classes": ["a", "b", "ç", "d", "e"], "mean": [0.5, 0.25, 0.1], "resize": 256}
    model = onnx.load_from_string(cnncore.io.save_onnx(net))
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    for name, array in {**net.parameters, **net.buffers}.items():
        np.testing.assert_array_equal(weights[name], array)
    outputs = {name for node in model.graph.node for name in node.output}
    assert {"first", "norm", "relu", "second", "norm_2", "kept", "global_avg_pool", "scores"} <= outputs
    assert {p.key: json.loads(p.value) for p in model.metadata_props} == net.metadata
    assert model.producer_name == "cnncore" and model.producer_version == cnncore.__version__
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 21)]


def test_inputs_and_outputs_keep_the_names_of_the_file_they_came_from(rng):
    net = small_net()
    net.metadata = {"onnx": {"inputs": {"input": "data:0", "lost": "x"}, "outputs": ["probs/scores.1"]}, "resize": 8}
    content = cnncore.io.save_onnx(net)
    made = session(content)
    assert [i.name for i in made.get_inputs()] == ["data:0"] and [o.name for o in made.get_outputs()] == [
        "probs/scores.1"
    ]
    assert_written(net, (rng.standard_normal((2, 3, 8, 9)).astype(np.float32),), content)
    assert [p.key for p in onnx.load_from_string(content).metadata_props] == ["resize"]
    for hostile in (None, {}, {"inputs": ["a"], "outputs": "scores"}, {"inputs": {"input": 7}, "outputs": ["norm"]}):
        net.metadata = {"onnx": hostile}
        assert [o.name for o in session(cnncore.io.save_onnx(net)).get_outputs()] == ["scores"]


def test_writing_is_repeatable_and_leaves_the_net_alone(rng):
    net = small_net()
    before = {name: a.copy() for name, a in {**net.parameters, **net.buffers}.items()}
    assert cnncore.io.save_onnx(net, fold=True) == cnncore.io.save_onnx(net, fold=True)
    for name, array in {**net.parameters, **net.buffers}.items():
        np.testing.assert_array_equal(array, before[name])


def test_double_precision_is_rounded(rng):
    net = small_net("float64")
    x = rng.standard_normal((1, 3, 8, 9))
    (got,) = run(cnncore.io.save_onnx(net), x.astype(np.float32))
    np.testing.assert_allclose(got, net(x), rtol=1e-4, atol=1e-5)
    net.parameters["first.w"] = net.parameters["first.w"] * 1e40
    with pytest.raises(ModelFileError, match=r"first\.w: .*float32"):
        cnncore.io.save_onnx(net)


def test_sizes_that_are_fixed(rng):
    """input_shape fixes what it says and leaves None open."""
    g = cnncore.Graph()
    g.output(g.adaptive_avg_pool(g.input(2), 3))
    net = g.build()
    with pytest.raises(SettingError, match=r"^adaptive_avg_pool: .*input_shape="):
        cnncore.io.save_onnx(net)
    for shape, batch in (((None, 2, 7, 9), 3), ((2, 2, 7, 9), 2)):
        content = cnncore.io.save_onnx(net, input_shape=shape)
        assert_written(net, (rng.standard_normal((batch, 2, 7, 9)).astype(np.float32),), content)
        assert session(content).get_inputs()[0].shape == ["N" if shape[0] is None else 2, 2, 7, 9]
    for wrong in ((1, 3, 7, 9), (2, 7, 9), (1, 2, 0, 9), (1, 2, 7.0, 9), [(1, 2, 7, 9), (1, 2, 7, 9)]):
        with pytest.raises(ShapeError, match="input_shape"):
            cnncore.io.save_onnx(net, input_shape=wrong)


def test_several_inputs_and_outputs(rng):
    """An input that is a result, a node that is two results' part, and inputs of different batches."""
    g = cnncore.Graph()
    x, rois = g.input(2, name="x"), g.input(5, rank=0, name="rois")
    h = g.conv(x, 3, 1)
    g.output(x, h, g.roi_max_pool(h, rois, 2), g.dropout(h))
    net = g.build()
    boxes = np.array([[0, 0, 0, 3, 4], [1, 1, 1, 2, 2], [1, 0, 0, 5, 5]], np.float32)
    xs = rng.standard_normal((2, 2, 6, 6)).astype(np.float32), boxes
    content = cnncore.io.save_onnx(net)
    for got, want in zip(run(content, *xs), net(*xs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    for shapes in ([(2, 2, 6, 6), (3, 5)], [(2, 2, 6, 6), (None, 5)]):
        assert_written(net, xs, cnncore.io.save_onnx(net, input_shape=shapes))


def test_values_with_many_readers(rng):
    """Nodes that write nothing themselves (dropout) between others, as results, and several times in one join."""
    g = cnncore.Graph()
    x = g.input(3, name="x")
    a = g.dropout(g.dropout(g.conv(x, 4, 1)))
    b = g.relu(a)
    c = g.dropout(x)
    g.output(g.dropout(b, name="again"), g.concat(a, b, a), c, g.add(c, x), a)
    net = g.build()
    content = cnncore.io.save_onnx(net)
    assert_written(net, (rng.standard_normal((2, 3, 4, 5)).astype(np.float32),), content)
    assert len({o.name for o in session(content).get_outputs()}) == 5


def test_nets_in_training_mode_and_slid_classifiers(rng):
    """Inference is written, whatever the net's mode; a linear classifier that is applied to every window is a convolution."""
    net = small_net().train()
    x = rng.standard_normal((2, 3, 8, 9)).astype(np.float32)
    (got,) = run(cnncore.io.save_onnx(net), x)
    np.testing.assert_allclose(got, net.eval()(x), rtol=1e-4, atol=1e-5)
    slid = cnncore.models.lenet().to_fully_convolutional()
    for size in (32, 45):
        x = rng.standard_normal((1, 1, size, size)).astype(np.float32)
        assert_written(slid, (x,), cnncore.io.save_onnx(slid))


# ── Files and refusals ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_are_whole_or_not_there(tmp_path, monkeypatch):
    net = small_net()
    path = tmp_path / "net.onnx"
    assert cnncore.io.save_onnx(net, path) is None
    before = path.read_bytes()
    assert before == cnncore.io.save_onnx(net)
    with open(tmp_path / "other.onnx", "wb") as file:
        cnncore.io.save_onnx(net, file)
    assert (tmp_path / "other.onnx").read_bytes() == before

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=r"net\.onnx: cannot be written \(No space"):
        cnncore.io.save_onnx(net, path, opset=13)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "other.onnx"]


def test_more_weights_than_a_file_holds(monkeypatch):
    monkeypatch.setattr("cnncore.io.onnx_export.writer.MOST_BYTES", 100)
    with pytest.raises(ModelFileError, match=r"the weights take \d+ bytes; an ONNX file holds at most 100:"):
        cnncore.io.save_onnx(small_net())


def test_refusals_name_the_node_and_the_way_out():
    g = cnncore.Graph()
    x = g.input(2)
    with g.scope("head"):
        g.output(g.dropout(g.conv(x, 2, 1), training=True, name="noise"))
    with pytest.raises(
        SettingError, match=r"^head/noise: dropout cannot be written to ONNX: training=True .*leave training out"
    ):
        cnncore.io.save_onnx(g.build())
    net = small_net()
    for opset in (12, 22, 21.0, "21", True):
        with pytest.raises(SettingError, match="opset must be an integer from 13 to 21"):
            cnncore.io.save_onnx(net, opset=opset)
    net.metadata = {"mean": float("nan")}
    with pytest.raises(SettingError, match="JSON"):
        cnncore.io.save_onnx(net)


def test_an_operator_of_ones_own_is_refused_by_name():
    mine = cnncore.operators.operator.Op(
        "mine", cnncore.OPS["relu"].implementation, "", "", "", "", "activation", (), ""
    )
    g = cnncore.Graph()
    g.output(g.apply(mine, g.input(1)))
    with pytest.raises(SettingError, match=r"^mine: it cannot be written to ONNX: .*leave it out"):
        written(g.build())


def test_without_the_onnx_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'cnncore\[onnx\]'"):
        cnncore.io.save_onnx(small_net())
