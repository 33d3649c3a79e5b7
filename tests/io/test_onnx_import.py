"""ONNX import against ONNX Runtime: small graphs as exporters write them, real networks, the graphs that ONNX ships."""

import numpy as np
import pytest
from support.onnx_models import FLOAT, helper, integers, model, node, onnx, page, seeded, weight
from support.onnx_runtime import assert_same, session
from support.processes import package_folder

import cnncore
from cnncore import ModelFileError

# ── Sizes that stay open ───────────────────────────────────────────────────────────────────────────────────────────────


def test_flattening_by_the_shape_of_the_batch():
    """view(x.size(0), -1), as PyTorch writes it; and by a constant with the batch of the example."""
    shape_of = [
        node("Conv", "x w", "h", pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", "h", "p"),
        node("Shape", "p", "s"),
        node("Gather", "s zero", "n", axis=0),
        node("Unsqueeze", "n axis", "m"),
        node("Concat", "m rest", "t", axis=0),
        node("Reshape", "p t", "f"),
        node("Gemm", "f v b", "y", transB=1),
    ]
    arrays = {"w": weight(4, 3, 3, 3), "zero": np.int64(0), "axis": integers(0), "rest": integers(-1)}
    arrays |= {"v": weight(5, 4), "b": weight(5)}
    net = assert_same(model(shape_of, {"x": ["N", 3, "H", "W"]}, ["y"], arrays), (2, 3, 8, 9), (1, 3, 5, 20))
    assert [n.op.name for n in net.graph.nodes] == ["conv", "global_avg_pool", "flatten", "linear"]
    fixed = [shape_of[0], shape_of[1], node("Reshape", "p t", "f"), shape_of[-1]]
    arrays["t"] = integers(1, 4)
    content = model(fixed, {"x": [1, 3, 8, 8]}, ["y"], arrays)
    net = assert_same(content, (1, 3, 8, 8))
    assert net(np.zeros((7, 3, 8, 8), "f")).shape == (7, 5)  # the batch is open here


def test_channels_shuffled_at_any_size():
    """Reshape to five axes with sizes of the image, transpose, and back."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s i0", "n", axis=0),
        node("Gather", "s i2", "h", axis=0),
        node("Gather", "s i3", "w", axis=0),
        *(node("Unsqueeze", f"{a} zero", f"{a}1") for a in "nhw"),
        node("Concat", "n1 g c h1 w1", "five", axis=0),
        node("Concat", "n1 all h1 w1", "four", axis=0),
        node("Reshape", "x five", "a"),
        node("Transpose", "a", "b", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "b four", "y"),
    ]
    arrays = {"i0": np.int64(0), "i2": np.int64(2), "i3": np.int64(3), "zero": integers(0)}
    arrays |= {"g": integers(2), "c": integers(3), "all": integers(6)}
    net = assert_same(model(nodes, {"x": ["N", 6, "H", "W"]}, ["y"], arrays), (2, 6, 4, 5), (1, 6, 7, 3))
    assert net.graph.nodes[0].settings["shape"] == (0, 2, 3, ("axis", 2), ("axis", 3))


@pytest.mark.parametrize("factor", [2.0, 1.5])
def test_upsampling_by_computed_sizes(factor):
    """interpolate(scale_factor=…) of older exports: floor(float(size) · factor), joined to the batch and channels."""
    nodes = [
        node("Shape", "x", "s"),
        node("Slice", "s two four", "hw"),
        node("Cast", "hw", "f", to=1),
        node("Mul", "f factor", "g"),
        node("Floor", "g", "k"),
        node("Cast", "k", "sizes", to=7),
        node("Slice", "s zero two", "nc"),
        node("Concat", "nc sizes", "target", axis=0),
        node(
            "Resize",
            "x   target",
            "y",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
    ]
    nodes[-1].input[:] = ["x", "", "", "target"]
    arrays = {"two": integers(2), "four": integers(4), "zero": integers(0), "factor": np.float32(factor)}
    content = model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], arrays)
    if factor == 2:
        net = assert_same(content, (1, 3, 4, 6), (2, 3, 5, 7))
        assert net.graph.nodes[0].settings["scale"] == 2
    else:  # ⌊1.5 H⌋ is no multiple of H: a value of that size is made
        assert_same(content, (1, 3, 4, 6), (2, 3, 5, 7))
        net = cnncore.io.load_onnx(content, input_shape=(None, 3, 5, 7))
        assert_same(content, (2, 3, 5, 7), net=net)


def test_resizing_to_the_size_of_another_value():
    """As feature pyramids do it: the small map grows to the extents of the large one, whatever they are."""
    nodes = [
        node("MaxPool", "x", "p", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Shape", "x", "s"),
        node("Resize", "p", "u", mode="linear"),
        node("Add", "u x", "y"),
    ]
    nodes[2].input[:] = ["p", "", "", "s"]
    net = assert_same(model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"]), (1, 3, 7, 8), (2, 3, 12, 5))
    assert net.graph.nodes[1].op.name == "resize"


def test_slices_from_the_end_at_any_size():
    """x[:, :, 1:H − 1]: a bound that is computed from the size is so many from the end."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s two", "h", axis=0),
        node("Sub", "h one", "end"),
        node("Slice", "x one end two", "y"),
    ]
    arrays = {"two": integers(2), "one": integers(1)}
    net = assert_same(model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], arrays), (1, 3, 7, 8), (2, 3, 4, 5))
    assert net.graph.nodes[0].settings["stop"] == -1


# ── What nodes mean ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("op_type", ["Conv", "MaxPool", "AveragePool"])
def test_padding(op_type, auto_pad):
    pads = {"pads": [0, 1, 1, 0]} if auto_pad == "NOTSET" else {"auto_pad": auto_pad}
    for ceil_mode, count in [(0, 0), (1, 0), (0, 1)]:
        attributes = {"kernel_shape": [3, 2], "strides": [2, 3], **pads}
        if op_type != "Conv":
            attributes["ceil_mode"] = ceil_mode
        if op_type == "AveragePool":
            attributes["count_include_pad"] = count
        inputs = "x w" if op_type == "Conv" else "x"
        arrays = {"w": weight(4, 3, 3, 2)} if op_type == "Conv" else {}
        content = model([node(op_type, inputs, "y", **attributes)], {"x": ["N", 3, "H", "W"]}, ["y"], arrays)
        assert_same(content, (2, 3, 7, 8), (1, 3, 9, 11), (1, 3, 4, 4))


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_padding_of_transposed_convolutions(auto_pad, kernel):
    """Every stride, dilation and output_padding against the formula of the specification, in float64."""
    rng = np.random.default_rng(0)
    H = 4
    for s, d, m in [(1, 1, 0), (1, 2, 1), (2, 1, 0), (2, 1, 1), (2, 2, 1), (3, 1, 0), (3, 1, 1), (3, 1, 2), (3, 2, 2)]:
        w, x = rng.standard_normal((2, kernel)).astype("f"), rng.standard_normal((1, 1, H)).astype("f")
        reach = d * (kernel - 1) + 1
        total = s * (H - 1) + m + reach - s * H if auto_pad.startswith("SAME") else 0
        low = total - total // 2 if auto_pad == "SAME_LOWER" else total // 2
        if total < 0:
            low = 0  # cells that no window reaches lie at the high end
        extent = s * H if auto_pad.startswith("SAME") else s * (H - 1) + m + reach
        right = np.zeros((2, s * (H - 1) + reach + extent))
        for place in range(H):
            for tap in range(kernel):
                right[:, s * place + d * tap] += float(x[0, 0, place]) * w[:, tap]
        made = node("ConvTranspose", "x w", "y", auto_pad=auto_pad, strides=[s], dilations=[d], output_padding=[m])
        for given in ([1, 1, H], ["N", 1, "L"]):
            net = cnncore.io.load_onnx(model([made], {"x": given}, ["y"], {"w": w[None]}, 11))
            y = net(x)
            assert y.shape == (1, 2, extent), (s, d, m)
            np.testing.assert_allclose(y[0], right[:, low : low + extent], atol=1e-6, err_msg=f"{s} {d} {m}")


REDUCED_ALONG_NOTHING = {
    "ReduceL1": np.abs,
    "ReduceL2": np.abs,
    "ReduceSumSquare": np.square,
    "ReduceLogSum": np.log,
    **dict.fromkeys(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSumExp"], np.array),
}


@pytest.mark.parametrize("op_type", REDUCED_ALONG_NOTHING)
def test_reductions_along_no_axis_still_take_the_function(op_type):
    """Read from a file, of numbers of the file too, and written again from an operator along no axes."""
    x = np.random.default_rng(0).uniform(0.5, 2, (2, 3, 4)).astype("f")
    right = REDUCED_ALONG_NOTHING[op_type](x)
    content = model([node(op_type, "x", "y", noop_with_empty_axes=1)], {"x": ["N", 3, "L"]}, ["y"], opset=18)
    np.testing.assert_allclose(cnncore.io.load_onnx(content)(x), right, rtol=1e-6)
    from cnncore.io.onnx_export.arrays import REDUCTIONS

    (name,) = [name for name, written in REDUCTIONS.items() if written == op_type]
    np.testing.assert_allclose(cnncore.OPS[name](x, axes=()), right, rtol=1e-6)
    g = cnncore.Graph()
    g.output(getattr(g, name)(g.input(channels=3, size=(4,)), axes=()))
    for opset in (13, 18, 21):
        content = cnncore.io.save_onnx(g.build(), opset=opset)
        (y,) = session(content).run(None, {session(content).get_inputs()[0].name: x})
        np.testing.assert_allclose(y, right, rtol=1e-6)
        np.testing.assert_allclose(cnncore.io.load_onnx(content)(x), right, rtol=1e-6)
    if op_type in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"):
        nodes = [node(op_type, "numbers", "c", noop_with_empty_axes=1), node("Mul", "x c", "y")]
        content = model(nodes, {"x": ["N", 3, "L"]}, ["y"], {"numbers": x[:1]}, 18)
        np.testing.assert_allclose(cnncore.io.load_onnx(content)(x), x * x[:1], rtol=1e-6)


def test_weights_and_names():
    """Weights become parameters under the node's name, a bias added behind is the layer's; constants are not trained."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], "/features/0/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["h", "b"], ["c"], "add"),
        helper.make_node("Mul", ["c", "k"], ["m"], "scaled.by"),
        helper.make_node("Conv", ["m", "w2"], ["y"], "features/0/Conv"),
    ]
    arrays = {"w": weight(3, 3, 3, 3), "b": weight(1, 3, 1, 1), "k": np.float32(0.5), "w2": weight(3, 3, 1, 1)}
    metadata = {"classes": '["cat", "dog"]', "author": "nobody", "bad": "{"}
    net = assert_same(model(nodes, {"x": ["N", 3, 8, 8]}, ["y"], arrays, metadata=metadata), (2, 3, 8, 8))
    assert list(net.parameters) == ["features/0/Conv.w", "features/0/Conv.b", "features/0/Conv_2.w"]
    assert np.array_equal(net.parameters["features/0/Conv.w"], arrays["w"])
    assert list(net.buffers) == ["k.value"]
    assert net.metadata["classes"] == ["cat", "dog"] and net.metadata["author"] == "nobody"
    assert net.metadata["onnx"]["inputs"] == {"x": "x"} and net.metadata["onnx"]["outputs"] == ["y"]


def test_scale_and_shift():
    """A Mul and an Add by numbers of each channel are a layer that training knows; numbers alone stay as they are."""
    nodes = [
        node("Mul", "x k", "m"),
        node("Add", "m b", "a"),
        node("Mul", "half a", "h"),
        node("Add", "h b", "s"),
        node("Mul", "s k", "t"),
        node("Add", "t t", "y"),
    ]
    arrays = {"k": weight(3, 1, 1), "b": weight(1, 3, 1, 1), "half": np.float32(0.5)}
    net = assert_same(model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], arrays), (2, 3, 4, 5))
    assert [n.op.name for n in net.graph.nodes] == ["scale", "scale", "constant", "multiply", "add"]


HARD_SWISH = {
    "x first, over 6": ("x c", "m six", "Div"),
    "c first, over 6": ("c x", "m six", "Div"),
    "times a sixth": ("x c", "sixth m", "Mul"),
    "over 6 first": ("x d", "c six", "Div"),
}


@pytest.mark.parametrize("form", HARD_SWISH)
def test_hard_swish_as_files_have_it_that_are_older_than_it(form):
    product, over, by = HARD_SWISH[form]
    nodes = [node("Add", "x three", "a"), node("Clip", "a zero six", "c")]
    last = [node("Mul", product, "m"), node(by, over, "y")]
    if "first" in form and over.startswith("c"):
        last = [node(by, over, "d"), node("Mul", product, "y")]
    arrays = {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6), "sixth": np.float32(1 / 6)}
    net = assert_same(model(nodes + last, {"x": ["N", 3, "W"]}, ["y"], arrays), (2, 3, 50))
    assert [n.op.name for n in net.graph.nodes] == ["hard_swish"]
    # What is nearly that stays as it is: another number, a value that somebody else sees.
    near = {**arrays, "three": np.float32(2.5)}
    net = assert_same(model(nodes + last, {"x": ["N", 3, "W"]}, ["y"], near), (2, 3, 50))
    assert len(net.graph.nodes) > 1
    net = assert_same(model(nodes + last, {"x": ["N", 3, "W"]}, ["y", "c"], arrays), (2, 3, 50))
    assert "hard_swish" not in [n.op.name for n in net.graph.nodes]


def test_an_imported_net_is_trained_saved_and_exported(tmp_path, rng):
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "a g b m v", "n", epsilon=1e-3),
        node("Relu", "n", "r"),
        node("Mul", "r k", "s"),
        node("Dropout", "s", "d"),
        node("Flatten", "d", "f"),
        node("MatMul", "f u", "o"),
        node("Add", "o c", "y"),
    ]
    arrays = {"w": weight(4, 1, 3, 3), "g": np.ones(4, "f"), "b": np.zeros(4, "f"), "m": np.zeros(4, "f")}
    arrays |= {"v": np.ones(4, "f"), "k": weight(4, 1, 1), "u": weight(64, 2), "c": weight(2)}
    content = model(nodes, {"x": [1, 1, 4, 4]}, ["y"], arrays)
    net = assert_same(content, (1, 1, 4, 4))
    assert [n.op.name for n in net.graph.nodes][-1] == "linear"
    net.save(tmp_path / "net")
    x = rng.standard_normal((8, 1, 4, 4)).astype("f")
    assert np.array_equal(cnncore.load(tmp_path / "net")(x), net(x))
    assert np.abs(session(cnncore.io.save_onnx(net)).run(None, {"x": x})[0] - net(x)).max() < 1e-5
    trainer = cnncore.train.Trainer(net, optimizer=cnncore.train.SGD(0.1), loss="softmax_cross_entropy")
    constants = {name: net.buffers[name].copy() for name in net.buffers if name.endswith(".value")}
    labels = (x.mean((1, 2, 3)) > 0).astype(np.int64)
    losses = [trainer.step(x, labels) for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert constants and all(np.array_equal(net.buffers[name], a) for name, a in constants.items())


def test_gradients_of_an_imported_net(rng):
    """Broadcasts, reductions and a resize among them."""
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("ReduceMean", "a", "m", axes=[2, 3]),
        node("HardSigmoid", "m", "g"),
        node("Mul", "a g", "s"),
        node("Resize", "s", "u", mode="linear"),
        node("Sub", "u k", "d"),
        node("Pow", "d two", "p"),
        node("ReduceSum", "p axes", "y", keepdims=0),
    ]
    nodes[4].input[:] = ["s", "", "scales"]
    arrays = {"w": weight(3, 2, 3, 3).astype("d"), "k": weight(3, 1, 1).astype("d"), "two": np.float64(2)}
    arrays |= {"scales": np.array([1, 1, 2, 2], "f"), "axes": integers(2, 3)}
    content = onnx.load_from_string(model(nodes, {"x": ["N", 2, 4, 5]}, ["y"], arrays))
    content.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    net = cnncore.io.load_onnx(content.SerializeToString())
    assert net.dtype == np.float64
    cnncore.testing.check_gradient(net.with_backward, rng.standard_normal((2, 2, 4, 5)))


def test_values_of_which_only_the_size_is_used():
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("Shape", "a", "s"),
        node("Reshape", "x s", "y"),
    ]
    net = assert_same(model(nodes, {"x": ["N", 3, 4, 4]}, ["y"], {"w": weight(3, 3, 3, 3)}), (2, 3, 4, 4))
    assert [n.op.name for n in net.graph.nodes] == ["reshape"]


def test_inputs_given_again():
    """input_shape takes the place of what the file says; outputs that are inputs, and twice the same."""
    nodes = [node("Relu", "x", "y"), node("Identity", "y", "z")]
    content = model(nodes, {"x": [1, "C", "H", "W"]}, ["y", "z"])
    with pytest.raises(ModelFileError, match=r"channels of an input cannot stay open.*input_shape="):
        cnncore.io.load_onnx(content)
    net = cnncore.io.load_onnx(content, input_shape=(None, 2, None, 4))
    x = np.array([[[[-1.0, 2, 3, 4]], [[1, -2, 3, 4]]]], "f")
    y, z = net(x)
    assert np.array_equal(y, np.maximum(x, 0)) and np.array_equal(y, z)
    with pytest.raises(ModelFileError, match="input_shape"):
        cnncore.io.load_onnx(content, input_shape=(1, 2, 3))


@pytest.mark.parametrize(
    ("nodes", "arrays", "message"),
    [
        ([node("NonZero", "x", "y")], {}, r"\(NonZero\): NonZero of opset 17 is not supported: which values"),
        ([node("Det", "x", "y")], {}, r"\(Det\): Det of opset 17 is not supported: no operator of cnncore"),
        ([node("Conv", "x x", "y")], {}, r"\(Conv\): its weight is computed from an input"),
        ([node("Conv", "x w", "y")], {"w": weight(2, 5, 3, 3)}, r"node 'y' \(Conv\), opset 17: "),
        ([node("Cast", "x", "y", to=14)], {}, r"\(Cast\), opset 17: type number 14 is not read"),
        ([node("BatchNormalization", "x a a a a", "y", training_mode=1)], {"a": weight(3)}, "written for training"),
    ],
)
def test_what_is_not_supported_is_named(nodes, arrays, message):
    with pytest.raises(ModelFileError, match=message):
        cnncore.io.load_onnx(model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], arrays))


# ── Networks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("ch_PP-OCRv4_det_infer.onnx", ((32, 32), (64, 192), (64, 96), (96, 160), (160, 128))),
        ("ch_ppocr_mobile_v2.0_cls_infer.onnx", ((48, 192), (48, 96), (64, 100), (80, 81), (96, 160))),
    ],
)
def test_optical_character_recognition(name, sizes, rng):
    """Trained networks of fully dynamic size: detection of text, and which way up it is."""
    content = (package_folder("rapidocr_onnxruntime") / "models" / name).read_bytes()
    pages = [(page(rng, *size),) for size in sizes]
    net = assert_same(content, xs=pages, limit=1e-4)
    assert max(net(*x).max() for x in pages) > 0.9  # something was found


LIGHT = ("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet")
LIGHT += ("vgg19", "zfnet512")


@pytest.mark.parametrize("name", LIGHT)
def test_graphs_of_well_known_networks(name):
    path = package_folder("onnx") / "backend/test/data/light" / f"light_{name}.onnx"
    net = assert_same(seeded(path), (1, 3, 224, 224), limit=3e-5)
    assert net(np.zeros((2, 3, 224, 224), "f")).shape[:2] == (2, 1000)  # the batch of 1 in the file is open here


# ── Padding, masks, precisions ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [("AveragePool", {}), ("AveragePool", {"count_include_pad": 1}), ("MaxPool", {}), ("LpPool", {})],
)
def test_padding_of_more_than_half_a_window(op_type, attributes):
    """Every padding that leaves an element of the image in each window, at open sizes and each rank."""
    for rank in (1, 2, 3):
        for low, high, stride in ((2, 2, 1), (0, 2, 2), (2, 1, 3)):
            pads = [low] * rank + [high] * rank
            nodes = [node(op_type, "x", "y", kernel_shape=[3] * rank, pads=pads, strides=[stride] * rank, **attributes)]
            content = model(nodes, {"x": ["N", 2, *"DHW"[:rank]]}, ["y"])
            assert_same(content, (2, 2, *range(4, 4 + rank)), (1, 2, *(3,) * rank))
    nodes = [node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[3] * 4)]
    with pytest.raises(ModelFileError, match="a window of nothing but padding"):
        cnncore.io.load_onnx(model(nodes, {"x": ["N", 2, "H", "W"]}, ["y"]))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_zeros_around_images_are_padding_of_the_convolution(rank):
    """A Pad before convolutions leaves no node, whatever they pad themselves; one that does not pad with zeros stays."""
    space, zeros = "DHW"[:rank], [0] * rank
    padded = node("Pad", "x pads value", "p")
    arrays = {"pads": integers(0, 0, *range(1, rank + 1), 0, 0, *range(rank, 0, -1)), "value": np.float32(0)}
    arrays |= {"w": weight(4, 2, *(3,) * rank), "v": weight(4, 2, *(1,) * rank)}
    convs = [
        node("Conv", "p w", "y", pads=[1, *zeros[1:], *zeros[1:], 2], strides=[2] * rank),
        node("Conv", "p v", "z"),
    ]
    inputs, shape = {"x": ["N", 2, *space]}, (2, 2, *range(6, 6 + rank))
    net = assert_same(model([padded, *convs], inputs, ["y", "z"], arrays), shape)
    assert [n.op.name for n in net.graph.nodes] == ["conv", "conv"]
    net = assert_same(model([padded, convs[0]], inputs, ["y", "p"], arrays), shape)  # padded values are asked for too
    assert sorted(n.op.name for n in net.graph.nodes) == ["conv", "pad"]
    net = assert_same(model([padded, convs[0]], inputs, ["y"], arrays | {"value": np.float32(1)}), shape)
    assert [n.op.name for n in net.graph.nodes] == ["pad", "conv"]


@pytest.mark.parametrize("opset", [7, 10, 12, 17])
def test_the_mask_of_dropout(opset, rng):
    """In inference everything is kept: true, or 1 in versions in which the mask held numbers."""
    content = model([node("Dropout", "x", "y mask")], {"x": ["N", 3, "H"]}, ["y", "mask"], opset=opset)
    x = rng.standard_normal((2, 3, 5)).astype("f")
    x[0, 0, 0] = np.nan
    y, mask = cnncore.io.load_onnx(content)(x)
    np.testing.assert_array_equal(y, x)
    assert mask.all() and mask.shape == x.shape
    assert mask.dtype == (np.bool_ if opset >= 10 else np.float32)


def test_the_maximum_of_regions(rng):
    """MaxRoiPool, with boxes that are an input."""
    nodes = [node("MaxRoiPool", "x rois", "y", pooled_shape=[2, 3], spatial_scale=0.5)]
    content = model(nodes, {"x": ["N", 3, "H", "W"], "rois": ["R", 5]}, ["y"])
    rois = np.array([[0, 0, 0, 9, 7], [1, 2, 4, 11, 12], [0, 6, 6, 6, 6]], "f")
    assert_same(content, xs=[(rng.standard_normal((2, 3, 8, 9)).astype("f"), rois)])


@pytest.mark.parametrize("given", ["float32", "float64"])
@pytest.mark.parametrize("target", ["float32", "float64"])
@pytest.mark.parametrize("late", [False, True])
def test_casts_between_precisions(given, target, late, rng):
    """An input that is cast at once is computed with in that precision; a later cast is warned of, as a net has one."""
    kinds = {"float32": FLOAT, "float64": onnx.TensorProto.DOUBLE}
    nodes = [node("Cast", "x", "c", to=kinds[target]), node("Mul", "c third", "y")]
    if late:
        nodes = [node("Mul", "x third", "c"), node("Cast", "c", "y", to=kinds[target])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kinds[given], ["N", 3])],
        [helper.make_tensor_value_info("y", kinds[target], None)],
        [onnx.numpy_helper.from_array(np.array(1 / 3, given if late else target), "third")],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    x = rng.standard_normal((2, 3)).astype(given)
    if late and given != target:
        with pytest.warns(UserWarning, match=f"casts to {target}; the net computes in {given} throughout"):
            net = cnncore.io.load_onnx(content)
        assert net(x).dtype == given
        return
    y, right = cnncore.io.load_onnx(content)(x), session(content).run(None, {"x": x})[0]
    assert y.dtype == right.dtype
    np.testing.assert_allclose(y, right, rtol=1e-15 if target == "float64" else 1e-7)
