"""Files that hold images channels last, as Keras and tf2onnx write them, against ONNX Runtime; and transposes that go."""

import numpy as np
import pytest
from support.onnx_models import FLOAT, helper, integers, model, node, onnx, weight
from support.onnx_runtime import assert_same, session

import cnncore
from cnncore import ModelFileError, ShapeError
from cnncore.vision.images import write_png

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
RNG = np.random.default_rng(3)


def keras_classifier(start=(), first="x"):
    """A small MobileNetV2 as tf2onnx writes it at first: each convolution between two transposes, Pad channels last."""
    nodes, arrays, made = list(start), {}, [first]

    def add(op_type, *inputs, **attributes):
        name = f"v{len(nodes)}"
        nodes.append(helper.make_node(op_type, [made[-1], *inputs], [name], **attributes))
        made.append(name)

    def array(value):
        name = f"a{len(arrays)}"
        arrays[name] = value
        return name

    def conv(inputs, outputs, kernel, stride=1, groups=1, same=True):
        add("Transpose", perm=TO_FIRST)
        shape = (outputs, inputs // groups, kernel, kernel)
        w = array((RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype("f"))
        add("Conv", w, strides=[stride] * 2, group=groups, auto_pad="SAME_UPPER" if same else "VALID")
        add("Transpose", perm=TO_LAST)
        # Batch normalisation, folded into numbers per channel along the last axis.
        add("Mul", array(RNG.uniform(0.8, 1.2, outputs).astype("f")))
        add("Add", array((0.1 * RNG.standard_normal(outputs)).astype("f")))

    def relu6():
        add("Clip", array(np.float32(0)), array(np.float32(6)))

    add("Pad", array(integers(0, 0, 0, 0, 0, 1, 1, 0)))
    conv(3, 8, 3, stride=2, same=False)
    relu6()
    before = made[-1]
    conv(8, 16, 1)
    relu6()
    conv(16, 16, 3, groups=16)
    relu6()
    conv(16, 8, 1)
    add("Add", before)
    add("Concat", before, axis=3)
    conv(16, 16, 3, stride=2)
    add("Sigmoid")
    add("ReduceMean", axes=[1, 2], keepdims=0)
    add("MatMul", array(weight(16, 5)))
    add("Add", array(weight(5)))
    nodes.append(helper.make_node("Softmax", [made[-1]], ["y"]))
    return nodes, arrays


NODES, ARRAYS = keras_classifier()


def operators(net):
    return [n.op.name for n in net.graph.nodes]


@pytest.mark.parametrize("shape", [["N", 32, 24, 3], ["N", "H", "W", 3], [None, None, None, 3], [1, 32, 24, 3]])
def test_classifier_of_keras(shape):
    """No transpose is left; the net takes what the file takes."""
    content = model(NODES, {"x": shape}, ["y"], ARRAYS)
    open_ = shape[1] != 32
    net = assert_same(content, (1, 32, 24, 3), *(((1, 40, 28, 3),) if open_ else ()), limit=2e-5)
    assert net.layout == {"x": "NHWC"}
    assert "transpose" not in operators(net)
    assert operators(net).count("scale") + operators(net).count("conv") >= 8


def test_everything_honours_the_layout(tmp_path):
    """Calls, gradients, summaries, drawings, files of both kinds, predictions of photos, and what errors say."""
    content = model(NODES, {"x": ["N", "H", "W", 3]}, ["y"], ARRAYS)
    net = cnncore.io.load_onnx(content)
    x = RNG.standard_normal((2, 32, 24, 3)).astype("f")
    y, backward = net.with_backward(x)
    dx = backward(np.ones_like(y))
    assert dx.shape == x.shape
    plain = net.with_layout("channels_first")
    assert plain.layout == {"x": "NCHW"} and net.layout == {"x": "NHWC"}
    first = np.moveaxis(x, -1, 1)
    assert np.abs(plain(first) - y).max() < 1e-6
    dx_first = plain.with_backward(first)[1](np.ones_like(y))
    assert np.abs(np.moveaxis(dx_first, 1, -1) - dx).max() < 1e-6
    assert str(net.summary((1, 32, 24, 3))).startswith("x (1, 32, 24, 3)")
    assert net.draw(input_shape=(1, 32, 24, 3)).count("32")
    assert "(N, ?, ?, 3)" in repr(net)
    with pytest.raises(ShapeError, match=r"Channels first\? The net takes NHWC: use numpy.moveaxis\(x, 1, -1\)"):
        net(first)
    with pytest.raises(ShapeError, match=r"net.summary\(\(1, …, 3\)\)"):
        net.summary()
    net.save(tmp_path / "net")
    again = cnncore.load(tmp_path / "net")
    assert again.layout == net.layout and np.abs(again(x) - y).max() < 1e-6
    written = cnncore.io.save_onnx(net)
    assert list(session(written).get_inputs()[0].shape[1:]) == ["H", "W", 3]
    read = cnncore.io.load_onnx(written)
    assert read.layout == net.layout and np.abs(read(x) - y).max() < 1e-6
    smaller = net.with_outputs(net.graph.nodes[3].path)
    assert smaller.layout == net.layout
    pixels = RNG.integers(0, 256, (32, 24, 3)).astype(np.uint8)
    write_png(tmp_path / "photo.png", pixels)
    found = cnncore.Classifier(net).classify(tmp_path / "photo.png") if hasattr(cnncore, "Classifier") else None
    if found is None:
        from cnncore.vision.classify import Classifier

        found = Classifier(net).classify(tmp_path / "photo.png")
    right = session(content).run(None, {"x": pixels[None].astype("f") / 255})[0]
    assert np.abs(np.sort(found.probabilities) - np.sort(right[0])).max() < 1e-5


def test_input_shape_is_that_of_the_file():
    content = model(NODES, {"x": ["N", "H", "W", 3]}, ["y"], ARRAYS)
    net = cnncore.io.load_onnx(content, input_shape=(None, 32, 24, 3))
    assert net.graph.inputs[0].size == (32, 24)
    for wrong in ((None, 3, None, None), (None, 3, 32, 24)):
        with pytest.raises(ModelFileError, match=r"is channels first; input 'x' .* give \(None, …, 3\)"):
            cnncore.io.load_onnx(content, input_shape=wrong)


@pytest.mark.parametrize(
    ("shape", "nodes", "layout"),
    [
        (
            ["N", 4, 4, 3],
            [node("Sub", "x m", "a"), node("Mul", "a s", "b"), node("Transpose", "b", "c", perm=TO_FIRST)],
            "NHWC",
        ),
        (["N", 4, 4, 3], [node("Cast", "x", "b", to=FLOAT), node("Transpose", "b", "c", perm=TO_FIRST)], "NHWC"),
        (["N", 4, 4, 3], [node("Pad", "x p", "b"), node("Transpose", "b", "c", perm=TO_FIRST)], "NHWC"),
        (["N", 4, 4, 3], [node("Pad", "x p", "c")], "NHWC"),
        (["N", "H", "W", 3], [node("Relu", "x", "c")], "NHWC"),
        (["N", 3, 4, 4], [node("Conv", "x w", "c")], "NCHW"),
        (["N", 3, 4, 4], [node("Sub", "x o", "a"), node("Conv", "a w", "c")], "NCHW"),
        (["N", 3, 4, 4], [node("Pad", "x p_first", "a"), node("Conv", "a w", "c")], "NCHW"),
        (["N", 3, 4, 4], [node("Conv", "x w", "a"), node("Transpose", "a", "c", perm=TO_LAST)], "NCHW"),
        (["N", 3, 4, 4], [node("Relu", "x", "c")], "NCHW"),
        (["N", 3, 4, 3], [node("Relu", "x", "c")], "NCHW"),
        (["N", "L", 8], [node("MatMul", "x l", "c")], "NLC"),
        (["N", 3, 4, 4], [node("Pad", "x p", "a"), node("Conv", "a w4", "c")], "NCHW"),
    ],
)
def test_the_layout_is_worked_out(shape, nodes, layout):
    arrays = {
        "m": weight(3),
        "s": weight(3),
        "o": weight(1),
        "p": integers(0, 1, 1, 0, 0, 1, 1, 0),
        "w": weight(2, 3, 3, 3),
    }
    arrays |= {"p_first": integers(0, 0, 1, 1, 0, 0, 1, 1), "w4": weight(2, 5, 3, 3), "l": weight(8, 2)}
    used = {name for made in nodes for name in made.input}
    content = model(
        [*nodes, node("Abs", "c", "y")], {"x": shape}, ["y"], {k: v for k, v in arrays.items() if k in used}
    )
    known = [n if isinstance(n, int) else 5 for n in shape[1:]]
    net = assert_same(content, (2, *known))
    assert net.layout == {"x": layout}


def test_in_one_and_three_dimensions():
    for rank in (1, 3):
        axes = list(range(rank + 2))
        first, last = [0, rank + 1, *axes[1:-1]], [0, *axes[2:], 1]
        nodes = [
            node("Transpose", "x", "a", perm=first),
            node("Conv", "a w", "b"),
            node("Transpose", "b", "y", perm=last),
        ]
        net = assert_same(
            model(nodes, {"x": ["N", *[5] * rank, 3]}, ["y"], {"w": weight(4, 3, *[2] * rank)}), (2, *[5] * rank, 3)
        )
        assert net.layout == {"x": {1: "NLC", 3: "NDHWC"}[rank]} and operators(net) == ["conv", "transpose"]


BETWEEN = {
    "Relu": [node("Relu", "t", "u")],
    "Clip": [node("Clip", "t low high", "u")],
    "PRelu": [node("PRelu", "t c", "u")],
    "Mul, Add": [node("Mul", "t c", "a"), node("Add", "a c", "u")],
    "Add of an array": [node("Add", "t whole", "u")],
    "Div by itself": [node("Abs", "t", "a"), node("Add", "a high", "b"), node("Div", "t b", "u")],
    "Where": [node("Greater", "t c", "m"), node("Where", "m t c", "u")],
    "Max": [node("Max", "t c low", "u")],
    "Sum of three": [node("Sum", "t t c", "u")],
    "hard swish": [
        node("Add", "t three", "a"),
        node("Clip", "a low six", "b"),
        node("Mul", "t b", "d"),
        node("Div", "d six", "u"),
    ],
    "Concat": [node("Relu", "t", "a"), node("Concat", "t a", "u", axis=-1)],
    "Concat with numbers": [node("Concat", "t whole", "u", axis=1)],
    "Softmax": [node("Softmax", "t", "u", axis=-1)],
    "Pad": [node("Pad", "t pads", "u")],
    "Slice": [node("Slice", "t one three_i two_i", "u")],
    "Split": [node("Split", "t", "a b", axis=1), node("Concat", "b a", "u", axis=2)],
    "Resize": [helper.make_node("Resize", ["t", "", "scales"], ["u"])],
    "ReduceMean": [node("ReduceMean", "t", "a", axes=[1, 2]), node("Mul", "t a", "u")],
    "ReduceMax of channels": [node("ReduceMax", "t", "a", axes=[-1]), node("Sub", "t a", "u")],
    "ReduceSum": [node("ReduceSum", "t two_i", "a"), node("Add", "t a", "u")],
    "Squeeze": [
        node("ReduceSum", "t one", "a"),
        node("Squeeze", "a one", "b"),
        node("Unsqueeze", "b one", "d"),
        node("Add", "t d", "u"),
    ],
    "Dropout, Identity, Cast": [
        node("Dropout", "t", "a"),
        node("Identity", "a", "b"),
        node("Cast", "b", "u", to=FLOAT),
    ],
    "QuantizeLinear": [node("QuantizeLinear", "t high zero", "q"), node("DequantizeLinear", "q high zero", "u")],
}
NUMBERS = {
    "low": np.float32(0),
    "high": np.float32(0.5),
    "c": weight(3),
    "whole": weight(1, 4, 4, 3),
    "three": np.float32(3),
    "six": np.float32(6),
}
NUMBERS |= {"pads": integers(0, 1, 0, 0, 0, 0, 2, 0), "one": integers(1), "three_i": integers(3), "two_i": integers(2)}
NUMBERS |= {"scales": np.array([1, 2, 2, 1], "f"), "zero": np.uint8(7)}


@pytest.mark.parametrize("what", BETWEEN)
def test_between_two_transposes(what):
    """Operators that do not mind the order of axes, or name them: both transposes go, and the numbers are those of the file."""
    nodes = [
        node("Transpose", "x", "t", perm=TO_LAST),
        *BETWEEN[what],
        node("Transpose", "u", "v", perm=TO_FIRST),
        node("Conv", "v w", "y"),
    ]
    channels = 6 if what == "Concat" else 3
    used = {name for made in nodes for name in made.input}
    every = NUMBERS | {"w": weight(2, channels, 1, 1)}
    content = model(nodes, {"x": ["N", 3, 4, 4]}, ["y"], {k: v for k, v in every.items() if k in used})
    net = assert_same(content, (1, 3, 4, 4), limit=1e-5)
    allowed = {"Squeeze": 3}.get(what, 0)  # its result has other axes than what it is added to
    assert operators(net).count("transpose") <= allowed


@pytest.mark.parametrize(
    ("before", "after"),
    [(TO_LAST, TO_LAST), (TO_FIRST, TO_FIRST), (TO_LAST, [0, 1, 3, 2]), ([1, 0, 2, 3], [1, 0, 2, 3])],
)
def test_transposes_that_do_not_cancel(before, after):
    nodes = [node("Transpose", "x", "a", perm=before), node("Relu", "a", "b"), node("Transpose", "b", "y", perm=after)]
    net = assert_same(model(nodes, {"x": [2, 3, 4, 5]}, ["y"]), (2, 3, 4, 5))
    assert operators(net).count("transpose") == (before != after or before[0] == 0)


def test_channels_are_padded():
    """As residual networks do where their channels double (option A of He et al. 2016)."""
    for pads in (integers(0, 1, 0, 0, 0, 2, 0, 0), integers(0, 1, 1, 1, 0, 2, 1, 1)):
        assert_same(model([node("Pad", "x p", "y")], {"x": ["N", 3, 4, 5]}, ["y"], {"p": pads}), (2, 3, 4, 5))
    assert_same(model([node("Pad", "x p", "y")], {"x": ["N", 3]}, ["y"], {"p": integers(0, 1, 0, 2)}), (2, 3))
    with pytest.raises(ModelFileError, match="along the batch"):
        cnncore.io.load_onnx(model([node("Pad", "x p", "y")], {"x": ["N", 3]}, ["y"], {"p": integers(1, 0, 0, 0)}))


def test_images_of_8_bits():
    """A file that casts its input to float takes integers, channels first and last."""
    start = [node("Cast", "x", "f", to=FLOAT), node("Mul", "f s", "g")]
    nodes, arrays = keras_classifier(start, "g")
    made = onnx.load_from_string(model(nodes, {"x": ["N", 16, 16, 3]}, ["y"], arrays | {"s": np.float32(1 / 255)}))
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    content = made.SerializeToString()
    pixels = RNG.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    net = cnncore.io.load_onnx(content)
    right = np.concatenate([session(content).run(None, {"x": image[None]})[0] for image in pixels])
    assert np.abs(net(pixels) - right).max() < 1e-5
    assert np.array_equal(net(pixels.astype("f")), net(pixels))
    assert net.layout == {"x": "NHWC"}
