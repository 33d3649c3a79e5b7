"""Round trips: a net written as ONNX and read back is that net; a file read and written again is that file to ONNX Runtime."""

import numpy as np
import pytest
from support.cases import first, inference, operators
from support.networks import SMALLER
from support.onnx_models import page, seeded
from support.onnx_runtime import assert_written, session
from support.processes import package_folder

import cnncore
from cnncore.errors import CnnError, ModelFileError
from cnncore.io.onnx_export.export import alone
from cnncore.io.onnx_export.nodes import REFUSED
from cnncore.models import NETWORKS
from cnncore.nets.layers import graph_arrays


def relative_error(got, want):
    """The largest error, relative to the largest value."""
    assert got.shape == want.shape and got.dtype == want.dtype
    got, want = got.astype(np.float64), want.astype(np.float64)
    return float(np.abs(got - want).max(initial=0.0)) / max(float(np.abs(want).max(initial=0.0)), 1e-6)


# ── Written, then read ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_come_back(name, rng):
    """The same parameters by name, the same outputs, and the same again after another trip."""
    net = NETWORKS[name](**SMALLER.get(name, {}), seed=None)
    for array in net.parameters.values():
        array[...] = rng.uniform(-1, 1, array.shape) / np.sqrt(np.prod(array.shape[1:]) / 3)
    for array in net.buffers.values():
        array[...] = rng.uniform(0.5, 1.5, array.shape)
    net.metadata = {"classes": ["a", "b"], "mean": [0.5]}
    (row,) = net.graph.inputs
    size = (64, 75) if None in row.size else row.size
    shape = (None, row.channels, *size) if name == "spp_net" else None
    content = cnncore.io.save_onnx(net, input_shape=shape)
    back = cnncore.io.load_onnx(content)
    x = rng.standard_normal((2, row.channels, *size)).astype(np.float32)
    assert relative_error(back(x), net(x)) < 1e-5
    ours, theirs = {**net.parameters, **net.buffers}, {**back.parameters, **back.buffers}
    assert set(ours) <= set(theirs)
    for array in ours:
        np.testing.assert_array_equal(theirs[array], ours[array])
    assert {k: back.metadata[k] for k in net.metadata} == net.metadata
    assert [i.name for i in back.graph.inputs] == [row.name]
    if sum(array.size for array in ours.values()) < 5e6:
        again = cnncore.io.load_onnx(cnncore.io.save_onnx(back))
        assert relative_error(again(x), net(x)) < 1e-5


def test_arrays_of_any_number_of_axes_are_inputs(rng, tmp_path):
    """What takes six axes takes them in a net too, in its model file, and in the ONNX file, read back."""
    x = rng.uniform(1.1, 1.9, (2, 3, 2, 2, 1, 2)).astype(np.float32)
    tried = 0
    for op in cnncore.OPS.values():
        # constant's array is a parameter of the net, no value of the graph.
        if (
            op.arrays
            and op.arrays[0].role == "real"
            and all(row.optional for row in op.arrays[1:])
            and graph_arrays(op)
        ):
            try:
                y = first(op(x))
            except CnnError:
                continue
            g = cnncore.Graph()
            g.output(getattr(g, op.name)(g.input(3, size=x.shape[2:])))
            net = g.build(seed=0)
            assert net.layout == {"input": "NCA1A2A3A4"}
            net.save(tmp_path / "net")
            nets = (net, cnncore.load(tmp_path / "net"), cnncore.io.load_onnx(cnncore.io.save_onnx(net)))
            for made in nets:
                np.testing.assert_allclose(first(made(x)), y, rtol=1e-5, atol=1e-6, err_msg=op.name)
            tried += 1
    assert tried > 60
    with pytest.raises(CnnError, match="at most 6"):
        cnncore.Graph().input(3, size=(1,) * 7)


def test_values_of_as_many_axes_as_there_may_be(rng):
    """What takes eight axes is written, wherever its axis is, and what is written is read back."""
    x = rng.uniform(1.1, 1.9, (2, 3, 2, 2, 1, 2)).astype(np.float32)
    tried = 0
    for op in cnncore.OPS.values():
        if not op.arrays or op.arrays[0].role != "real" or not all(row.optional for row in op.arrays[1:]):
            continue
        for axis in (0, 1, 4, 7) if "axis" in op.settings else (None,):
            settings = {} if axis is None else {"axis": axis}
            try:
                y = first(op(x.reshape(*x.shape, 1, 1), **settings))
                g = cnncore.Graph()
                g.output(getattr(g, op.name)(g.unsqueeze(g.input(3, size=x.shape[2:]), axes=(6, 7)), **settings))
            except (CnnError, AttributeError):
                continue
            back = cnncore.io.load_onnx(cnncore.io.save_onnx(g.build(seed=0)))
            np.testing.assert_allclose(first(back(x)), y, rtol=1e-5, atol=1e-6, err_msg=f"{op.name}, axis {axis}")
            tried += 1
    assert tried > 60


@pytest.mark.parametrize("op", operators(lambda op: op.name not in ("linear", "constant")))  # constant: without inputs
def test_operators_come_back(op):
    """The first cases of every row in its lowest and highest rank, sizes known and open: what is written is read, and equal."""
    written = 0
    for case in op.cases[:2]:
        for rank in {min(case.ranks), max(case.ranks)}:
            for size in ("known", None):
                arrays, settings, xs = inference(op, case, rank)
                net = alone(op, arrays, settings, size)
                try:
                    content = None if net is None else cnncore.io.save_onnx(net)
                except CnnError:  # the reason is tested where files are written
                    continue
                if content is None:
                    continue
                written += 1
                try:
                    back = cnncore.io.load_onnx(content)
                except ModelFileError as error:
                    assert "no output depends on an input" in str(error), (case, rank, size)
                    continue
                assert relative_error(back(*xs), net(*xs)) < 1e-5
    assert written or op.name in REFUSED


# ── Read, then written ─────────────────────────────────────────────────────────────────────────────────────────────────


def same_to_onnx_runtime(content, x):
    """Read, write, and run both files."""
    net = cnncore.io.load_onnx(content)
    written = cnncore.io.save_onnx(net)
    first, second = session(content), session(written)
    assert [i.name for i in second.get_inputs()] == [i.name for i in first.get_inputs()]
    assert [o.name for o in second.get_outputs()] == [o.name for o in first.get_outputs()]
    name = first.get_inputs()[0].name
    for got, want in zip(second.run(None, {name: x}), first.run(None, {name: x}), strict=True):
        assert np.abs(want).max() > 1e-3
        assert relative_error(got, want) < 1e-4
    assert_written(net, (x,), written, 1e-4)


@pytest.mark.parametrize(
    ("file", "size"),
    [("ch_PP-OCRv4_det_infer.onnx", (96, 160)), ("ch_ppocr_mobile_v2.0_cls_infer.onnx", (48, 192))],
)
def test_networks_of_others(file, size, rng):
    """Networks that were trained and written elsewhere."""
    content = (package_folder("rapidocr_onnxruntime") / "models" / file).read_bytes()
    same_to_onnx_runtime(content, page(rng, *size))


@pytest.mark.parametrize("name", ["inception_v1", "squeezenet", "shufflenet"])
def test_graphs_of_others(name, rng):
    """The true graphs of known networks: GoogLeNet is among them."""
    path = package_folder("onnx") / "backend/test/data/light" / f"light_{name}.onnx"
    same_to_onnx_runtime(seeded(path), rng.standard_normal((1, 3, 224, 224)).astype(np.float32))
