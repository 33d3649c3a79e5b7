"""Detectors as PyTorch exports them, at fixed and open sizes, with and without the selection of boxes, against ONNX Runtime."""

import contextlib
import io
import logging
import warnings

import numpy as np
import pytest
from support.onnx_models import helper, integers, numpy_helper, onnx
from support.onnx_runtime import assert_same, session

import cnncore
from cnncore import GraphError, ModelFileError

torch = pytest.importorskip("torch")

from support.torch_detector import detector  # noqa: E402


def exported(is_open, dynamo):
    """The bytes of the detector's file."""
    module, x, file = detector(), torch.randn(1, 3, 64, 96), io.BytesIO()
    quiet = (contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()))
    with warnings.catch_warnings(), quiet[0], quiet[1]:
        warnings.simplefilter("ignore")
        if dynamo:
            pytest.importorskip("onnxscript")
            logging.getLogger("torch").setLevel(logging.ERROR)
            axes = torch.export.Dim
            shapes = ({0: axes("n"), 2: 32 * axes("h", min=2, max=9), 3: 32 * axes("w", min=2, max=9)},)
            made = torch.onnx.export(
                module, (x,), dynamo=True, dynamic_shapes=shapes if is_open else None, verbose=False
            )
            return made.model_proto.SerializeToString()
        axes = {"x": {0: "n", 2: "h", 3: "w"}} if is_open else None
        torch.onnx.export(module, (x,), file, input_names=["x"], dynamic_axes=axes, dynamo=False, opset_version=17)
    return file.getvalue()


@pytest.mark.parametrize("is_open", [False, True], ids=["fixed", "open"])
@pytest.mark.parametrize(
    "dynamo", [False, pytest.param(True, marks=pytest.mark.long)], ids=["torchscript", "torch.export"]
)
def test_detectors_of_pytorch(is_open, dynamo):
    content = exported(is_open, dynamo)
    shapes = [(1, 3, 64, 96)] + [(2, 3, 96, 64), (1, 3, 128, 128)] * is_open
    net = assert_same(content, *shapes, limit=2e-5)
    if is_open:
        assert net.graph.inputs[0].size == (None, None)
        again = cnncore.io.save_onnx(net)  # what was read with open sizes is written with them
        assert_same(again, *shapes, limit=2e-5)


def with_selection(content, most=50, overlap=0.3, score=0.55):
    """The file with a selection of boxes behind its result: as exporters write it, on boxes (N, S, 4) and scores (N, C, S)."""
    made = onnx.load_from_string(content)
    graph, result = made.graph, made.graph.output[0].name
    numbers = {
        "parts": integers(4, 3),
        "most": integers(most),
        "overlap": np.float32([overlap]),
        "score": np.float32([score]),
    }
    graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in numbers.items())
    graph.node.extend(
        [
            helper.make_node("Split", [result, "parts"], ["corners", "scores"], axis=1),
            helper.make_node("Transpose", ["corners"], ["boxes"], perm=[0, 2, 1]),
            helper.make_node(
                "NonMaxSuppression", ["boxes", "scores", "most", "overlap", "score"], ["selected"], center_point_box=1
            ),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("selected", onnx.TensorProto.INT64, [None, 3]))
    return made


def test_the_selection_of_boxes(rng):
    """How many are selected depends on the image; net, ONNX Runtime, and what we write agree."""
    content = with_selection(exported(True, False)).SerializeToString()
    net, made = cnncore.io.load_onnx(content), session(content)
    written = session(cnncore.io.save_onnx(net))
    counts = set()
    for size in ((64, 96), (96, 96), (128, 64)):
        x = 4 * rng.standard_normal((2, 3, *size)).astype("f")
        right = made.run(None, {"x": x})
        for found in (net(x), written.run(None, {"x": x})):
            assert np.abs(found[0] - right[0]).max() <= 2e-5 * np.abs(right[0]).max()
            # Scores that differ by less than rounding may change places.
            np.testing.assert_array_equal(np.sort(found[1].view("i8,i8,i8"), 0), np.sort(right[1].view("i8,i8,i8"), 0))
            assert (found[1][:, :2] == right[1][:, :2]).all()
        counts.add(len(right[1]))
    assert len(counts) > 1


def test_a_file_is_read_up_to_any_of_its_values(rng):
    """What comes after a selection has as many rows as were selected: the file is read without it."""
    made = with_selection(exported(True, False))
    made.graph.node.append(helper.make_node("Gather", ["selected", "column"], ["numbers"], axis=1))
    made.graph.initializer.append(numpy_helper.from_array(integers(2), "column"))
    made.graph.output[1].name = "numbers"
    content = made.SerializeToString()
    with pytest.raises(ModelFileError, match=r"how many rows .* can only be an output.*outputs="):
        cnncore.io.load_onnx(content)
    net = cnncore.io.load_onnx(content, outputs=["boxes", "scores", "selected"])
    x = rng.standard_normal((1, 3, 64, 64)).astype("f")
    boxes, scores, selected = net(x)
    found = cnncore.non_max_suppression(
        boxes, scores, max_output_boxes=50, iou_threshold=0.3, score_threshold=0.55, box_format="center"
    )
    np.testing.assert_array_equal(found, selected)
    with pytest.raises(ModelFileError, match="outputs: unknown value 'boxxes'; did you mean 'boxes'"):
        cnncore.io.load_onnx(content, outputs=["boxxes"])
    with pytest.raises(ModelFileError, match="none twice"):
        cnncore.io.load_onnx(content, outputs=["boxes", "boxes"])


def test_rows_that_vary_are_outputs_only():
    g = cnncore.Graph()
    boxes, scores = g.input(5, size=(4,), name="boxes"), g.input(2, size=(5,), name="scores")
    selected = g.non_max_suppression(boxes, scores, max_output_boxes=3)
    with pytest.raises(GraphError, match="can only be an output"):
        g.as_real(selected)
