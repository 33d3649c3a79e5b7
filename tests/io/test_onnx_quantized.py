"""Quantized ONNX files against ONNX Runtime: at most one step of the output's scale apart."""

import numpy as np
import pytest
from support.onnx_models import FLOAT, helper, node, numpy_helper, onnx, weight
from support.onnx_runtime import session

import cnncore
from cnncore import ModelFileError

INT8, UINT8, INT32 = onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT32
RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 3, 6, 6)).astype("f")


def quantized(nodes, arrays, shape, outputs=(("y", FLOAT),), opset=21, domains=(), kind=FLOAT):
    """The bytes of a file, for outputs of other types and operators of ONNX Runtime."""
    used = {name for made in nodes for name in made.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, k, None) for name, k in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items() if name in used],
    )
    versions = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=versions, ir_version=10).SerializeToString()


def assert_within(content, x, step, share=0.02):
    """At most ``step`` apart everywhere, and nearly everywhere the same; returns the net."""
    net = cnncore.io.load_onnx(content)
    right = session(content).run(None, {"x": x})
    found = net(x)
    for y, r in zip(found if isinstance(found, tuple) else (found,), right, strict=True):
        assert y.shape == r.shape
        apart = np.abs(y.astype(np.float64) - r.astype(np.float64))
        assert apart.max() <= step * 1.001 + 1e-6
        assert (apart > 0.5 * step).mean() <= share
    return net


GRIDS = {"s": np.float32(0.05), "z": np.uint8(120), "si": np.float32(0.04), "zi": np.int8(-3)}
# Of 7 bits: without the instructions for it ONNX Runtime adds two products of 8 bits in 16, which does not hold them.
W = RNG.integers(-64, 64, (4, 3, 3, 3)).astype(np.int8)
WEIGHTS = {
    "w": W,
    "ws": RNG.uniform(0.004, 0.01, 4).astype("f"),
    "wz": np.zeros(4, np.int8),
    "b": RNG.integers(-900, 900, 4).astype(np.int32),
}
WEIGHTS |= {"w1s": np.float32(0.006), "w1z": np.int8(2), "bs": np.float32(0.0003)}


# ── QuantizeLinear and DequantizeLinear ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("grid", ["s z", "si zi", "s ", "s16 z16", "s16 zi16"])
def test_to_a_grid_and_back(grid):
    arrays = GRIDS | {"s16": np.float32(0.001), "z16": np.uint16(30000), "zi16": np.int16(-5)}
    names = grid.split(" ")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *filter(None, names)], ["q"]),
        helper.make_node("DequantizeLinear", ["q", *filter(None, names)], ["y"]),
    ]
    net = assert_within(quantized(nodes, arrays, ["N", 3, 6, 6]), X, 0, share=0)
    assert [n.op.name for n in net.graph.nodes if n.op.name != "constant"] == ["fake_quantize", "identity"]


def test_the_integers_themselves():
    """As an output, and for operators that know no grid."""
    content = quantized([node("QuantizeLinear", "x s z", "y")], GRIDS, ["N", 3, 6, 6], [("y", UINT8)])
    net = cnncore.io.load_onnx(content)
    y = net(3 * X)
    assert y.dtype == np.int64 and np.array_equal(y, session(content).run(None, {"x": 3 * X})[0])
    nodes = [node("QuantizeLinear", "x si zi", "q"), node("Cast", "q", "f", to=FLOAT), node("Mul", "f s", "y")]
    assert_within(quantized(nodes, GRIDS, ["N", 3, 6, 6]), X, 0, share=0)


def test_halves_are_rounded_to_even():
    x = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1e9, -1e9]], "f")
    nodes = [node("QuantizeLinear", "x one z", "q"), node("DequantizeLinear", "q one z", "y")]
    net = assert_within(quantized(nodes, {"one": np.float32(1), "z": np.int8(0)}, ["N", 8]), x, 0, share=0)
    assert net(x).tolist() == [[-2, -2, 0, 0, 2, 2, 127, -128]]


@pytest.mark.parametrize("axis", [1, -1])
def test_a_grid_per_channel(axis):
    arrays = {"s": np.array([0.02, 0.05, 0.1, 0.03, 0.04, 0.06], "f")[: 3 if axis == 1 else 6]}
    arrays["z"] = np.array([0, 5, -7, 3, 2, 1], np.int8)[: len(arrays["s"])]
    nodes = [node("QuantizeLinear", "x s z", "q", axis=axis), node("DequantizeLinear", "q s z", "y", axis=axis)]
    assert_within(quantized(nodes, arrays, ["N", 3, 6, 6]), X, 0, share=0)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32])
def test_weights_become_real_numbers(kind):
    w = RNG.integers(0, 100, (4, 3, 3, 3)).astype(kind)
    zero = [] if kind == np.int32 else ["wz"]
    arrays = WEIGHTS | {"w": w, "wz": np.array([1, 2, 3, 4], kind)}
    nodes = [helper.make_node("DequantizeLinear", ["w", "ws", *zero], ["wf"], axis=0), node("Conv", "x wf", "y")]
    net = assert_within(quantized(nodes, arrays, ["N", 3, 6, 6]), X, 2e-5)
    assert [n.op.name for n in net.graph.nodes] == ["conv"]


def test_weights_in_blocks_and_of_4_bits():
    w = RNG.integers(-8, 8, (6, 4)).astype(np.int8)
    four = helper.make_tensor("w", onnx.TensorProto.INT4, [6, 4], w.ravel().tolist())
    nodes = [node("DequantizeLinear", "w s", "wf", axis=0, block_size=3), node("MatMul", "x wf", "y")]
    scales = np.abs(weight(2, 4)) + 0.01
    made = onnx.load_from_string(quantized(nodes, {"s": scales}, ["N", 6]))
    made.graph.initializer.append(four)
    x = weight(2, 6)
    y = cnncore.io.load_onnx(made.SerializeToString())(x)
    assert np.abs(y - x @ (w * np.repeat(scales, 3, 0))).max() < 1e-5


def test_values_that_are_moved_stay_on_their_grid():
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("MaxPool", "q", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", "p", "t", perm=[0, 2, 3, 1]),
        node("Reshape", "t flat", "f"),
        node("DequantizeLinear", "f s z", "y"),
    ]
    net = assert_within(quantized(nodes, GRIDS | {"flat": np.array([0, -1])}, ["N", 3, 6, 6]), X, 0, share=0)
    assert "quantize" not in [n.op.name for n in net.graph.nodes]


# ── Operators on integers ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bias", ["b", ""])
def test_qlinear_conv(per_channel, bias):
    grid = ["ws", "wz"] if per_channel else ["w1s", "w1z"]
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        helper.make_node(
            "QLinearConv",
            ["q", "s", "z", "w", *grid, "ys", "yz", *filter(None, [bias])],
            ["c"],
            pads=[1, 1, 1, 1],
            strides=[2, 1],
        ),
        node("DequantizeLinear", "c ys yz", "y"),
    ]
    arrays = GRIDS | WEIGHTS | {"ys": np.float32(0.1), "yz": np.uint8(100)}
    assert_within(quantized(nodes, arrays, ["N", 3, 6, 6]), X, 0.1)


def test_qlinear_matmul():
    a = RNG.standard_normal((2, 4, 6)).astype("f")
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("QLinearMatMul", "q s z m ms mz ys yz", "c"),
        node("DequantizeLinear", "c ys yz", "y"),
    ]
    arrays = GRIDS | {
        "m": RNG.integers(0, 255, (6, 5)).astype(np.uint8),
        "ms": np.float32(0.01),
        "mz": np.uint8(128),
        "ys": np.float32(0.05),
        "yz": np.uint8(128),
    }
    assert_within(quantized(nodes, arrays, ["N", 4, 6]), a, 0.05)


@pytest.mark.parametrize("op_type", ["ConvInteger", "MatMulInteger"])
def test_sums_of_products_of_integers(op_type):
    arrays = GRIDS | {
        "w": RNG.integers(0, 255, (4, 3, 3, 3)).astype(np.uint8),
        "wz": np.uint8(7),
        "m": RNG.integers(0, 255, (6, 5)).astype(np.uint8),
    }
    product = (
        node("ConvInteger", "q w z wz", "c") if op_type == "ConvInteger" else node("MatMulInteger", "q m z wz", "c")
    )
    nodes = [node("QuantizeLinear", "x s z", "q"), product, node("Cast", "c", "y", to=FLOAT)]
    assert_within(quantized(nodes, arrays, ["N", 3, 6, 6]), X, 0, share=0)


def test_dynamic_quantization():
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"),
        node("MatMulInteger", "q m z mz", "i"),
        node("Cast", "i", "f", to=FLOAT),
        node("Mul", "s ms", "f_scale"),
        node("Mul", "f f_scale", "p"),
        node("Add", "p bias", "y"),
    ]
    arrays = {
        "m": RNG.integers(-64, 64, (6, 5)).astype(np.int8),
        "mz": np.int8(0),
        "ms": np.float32(0.01),
        "bias": weight(5),
    }
    assert_within(quantized(nodes, arrays, ["N", 3, 6, 6]), X, 2e-5)
    nodes = [node("DynamicQuantizeLinear", "x", "q s z"), node("DequantizeLinear", "q s z", "y")]
    for x in (X, X - 9, X + 9, 0 * X):
        assert_within(quantized(nodes, {}, ["N", 3, 6, 6]), x, 1e-5)


MICROSOFT = {
    "QLinearAdd": ("q s z q s z ys yz", {}),
    "QLinearMul": ("q s z q s z ys yz", {}),
    "QLinearSigmoid": ("q s z ps pz", {}),
    "QLinearLeakyRelu": ("q s z ys yz", {"alpha": 0.2}),
    "QLinearGlobalAveragePool": ("q s z ys yz", {"channels_last": 0}),
    "QLinearAveragePool": ("q s z ys yz", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "QLinearSoftmax": ("q s z ps pz", {"axis": 1, "opset": 13}),
    "QLinearConcat": ("ys yz q s z q s z", {"axis": 1}),
}


@pytest.mark.parametrize("op_type", MICROSOFT)
def test_operators_of_onnx_runtime(op_type):
    inputs, attributes = MICROSOFT[op_type]
    arrays = GRIDS | {"ys": np.float32(0.08), "yz": np.uint8(90), "ps": np.float32(1 / 256), "pz": np.uint8(0)}
    scale = "ps" if "ps" in inputs else "ys"
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node(op_type, inputs, "c", domain="com.microsoft", **attributes),
        node("DequantizeLinear", f"c {scale} {scale[0]}z", "y"),
    ]
    content = quantized(nodes, arrays, ["N", 3, 6, 6], domains=("com.microsoft",), opset=17)
    assert_within(content, X, float(arrays[scale]), share=0.1)


@pytest.mark.parametrize("form", ["QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"])
def test_matrices_of_onnx_runtime(form):
    x = RNG.standard_normal((4, 6)).astype("f")
    arrays = GRIDS | {
        "m": RNG.integers(-64, 64, (6, 5)).astype(np.int8),
        "ms": np.float32(0.01),
        "mz": np.int8(0),
        "ys": np.float32(0.08),
        "yz": np.uint8(90),
    }
    arrays |= {"b": RNG.integers(-900, 900, 5).astype(np.int32), "bf": weight(5)}
    step = 2e-5
    if form == "QGemm":
        nodes = [
            node("QuantizeLinear", "x s z", "q"),
            node("QGemm", "q s z m ms mz b ys yz", "c", domain="com.microsoft"),
            node("DequantizeLinear", "c ys yz", "y"),
        ]
        step = 0.08
    elif form == "MatMulIntegerToFloat":
        nodes = [
            node("QuantizeLinear", "x s z", "q"),
            node("MatMulIntegerToFloat", "q m s ms z mz bf", "y", domain="com.microsoft"),
        ]
    else:
        nodes = [node("DynamicQuantizeMatMul", "x m ms mz bf", "y", domain="com.microsoft")]
    assert_within(quantized(nodes, arrays, ["N", 6], domains=("com.microsoft",), opset=17), x, step, share=0.1)


def test_grids_that_make_no_sense():
    for arrays, message in (
        (GRIDS | {"s": np.ones(4, "f")}, "its scale has 4 numbers for axis 1 of 3 values"),
        (GRIDS | {"s": np.ones((2, 2), "f")}, "expected one number, one per place of axis 1, or blocks"),
        (GRIDS | {"z": np.float32(0)}, "."),
    ):
        with pytest.raises(ModelFileError, match=message):
            cnncore.io.load_onnx(
                quantized([node("QuantizeLinear", "x s z", "y")], arrays, ["N", 3, 6, 6], [("y", UINT8)])
            )


# ── Whole networks ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """A MobileNetV2 for small images, written by us."""
    folder = tmp_path_factory.mktemp("quantized")
    net = cnncore.models.mobilenet_v2(classes=10, seed=3)
    path = folder / "float.onnx"
    cnncore.io.save_onnx(net, path)
    return path


def images(count):
    return np.random.default_rng(2).standard_normal((count, 3, 64, 64)).astype("f")


class Calibration:
    def __init__(self, name):
        self.rows = iter([{name: image[None]} for image in images(6)])

    def get_next(self):
        return next(self.rows, None)


@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic"])
def test_quantized_mobilenet(mobilenet, form):
    """As onnxruntime.quantization writes it; scores within a few steps, after 50 layers that each may be a step apart."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    path = mobilenet.with_name(f"{form}.onnx")
    if form == "dynamic":
        quantization.quantize_dynamic(mobilenet, path, reduce_range=True)
    else:
        name = onnx.load(mobilenet).graph.input[0].name
        quantization.quantize_static(
            mobilenet, path, Calibration(name), quantization.QuantFormat[form], per_channel=True, reduce_range=True
        )
    net = cnncore.io.load_onnx(path)
    runtime = session(path.read_bytes())
    x = images(8)[6:]
    right = np.concatenate([runtime.run(None, {runtime.get_inputs()[0].name: image[None]})[0] for image in x])
    plain = session(mobilenet.read_bytes())
    exact = np.concatenate([plain.run(None, {plain.get_inputs()[0].name: image[None]})[0] for image in x])
    y = np.concatenate([net(image[None]) for image in x])
    lost = np.abs(right - exact).max()
    assert np.abs(y - right).max() <= 0.5 * lost  # what quantization itself costs
    assert (y.argmax(1) == right.argmax(1)).all()


# ── Nets of 8-bit numbers in files ─────────────────────────────────────────────────────────────────────────────────────


def test_a_quantized_net_in_a_file_has_the_numbers_of_the_net():
    """QLinearConv where y is on a grid, integer sums elsewhere, and bytes passed on between layers."""
    g = cnncore.Graph()
    x = g.input(channels=3, size=8)
    h = g.conv(x, 6, kernel_size=3, stride=2, padding=1, activation="relu")
    h = g.depthwise_conv(h, kernel_size=3, padding=1, activation="relu6")
    h = g.conv(g.max_pool(h, 2), 4, kernel_size=1, groups=2)
    g.output(g.linear(g.flatten(h), 5))
    net, images = g.build(), RNG.standard_normal((16, 3, 8, 8)).astype("f")
    small = net.quantize(images)
    for name in small.buffers:
        if name.endswith(".w"):  # of 7 bits, as above
            small.buffers[name] = np.rint(small.buffers[name] / 2)
    content = cnncore.io.save_onnx(small)
    found = [made.op_type for made in onnx.load_from_string(content).graph.node]
    assert found[:3] == ["QuantizeLinear", "QLinearConv", "QLinearConv"] and "MatMulInteger" in found
    step = max(node.settings.get("y_scale") or 0 for node in small.graph.nodes)
    y = session(content).run(None, {"input": images})[0]
    assert np.abs(y - small(images)).max() <= step
    assert np.abs(cnncore.io.load_onnx(content)(images) - small(images)).max() <= step
