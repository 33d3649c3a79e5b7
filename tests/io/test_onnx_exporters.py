"""What both of PyTorch's exporters write of the modules of torch.nn, at fixed and open sizes, against PyTorch."""

import contextlib
import io
import logging
import warnings

import numpy as np
import pytest
from support.cases import mostly_long

import cnncore

pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from support.torch_modules import OPEN, SHAPES, modules  # noqa: E402

torch.manual_seed(0)
MODULES = modules()
# What the exporter through TorchScript does not write, or writes with a size of the example in it.
NOT_WRITTEN = {"ChannelShuffle", "Threshold", "RMSNorm", "TransformerEncoderLayer", "MultiheadAttention"}
NEW_EXPORTER = (
    "Conv2d",
    "vision transformer",
    "TransformerEncoderLayer",
    "Upsample bilinear",
    "squeeze and excite",
    "LayerNorm",
)


def exported(module, x, kind, is_open, dynamo):
    """The bytes that an exporter writes."""
    file = io.BytesIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        if dynamo:
            dynamic = torch.export.Dim.DYNAMIC
            shapes = (dict.fromkeys((0, *OPEN[kind]), dynamic),) if is_open else None
            made = torch.onnx.export(module, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False)
            return made.model_proto.SerializeToString()
        axes = {"x": {axis: f"axis_{axis}" for axis in (0, *OPEN[kind])}} if is_open else None
        torch.onnx.export(module, (x,), file, input_names=["x"], dynamic_axes=axes, dynamo=False, opset_version=17)
    return file.getvalue()


def assert_as_pytorch(module, kind, is_open, dynamo):
    module.eval()
    shapes = [SHAPES[kind]]
    if is_open:
        larger = list(SHAPES[kind])
        for axis in OPEN[kind]:
            larger[axis] += 4
        shapes.append((3, *larger[1:]))
    net = cnncore.io.load_onnx(exported(module, torch.randn(*SHAPES[kind]), kind, is_open, dynamo))
    for shape in shapes:
        x = torch.randn(*shape)
        right, y = module(x).detach().numpy(), net(x.numpy())
        assert y.shape == right.shape
        assert np.abs(y - right).max() <= 2e-5 * max(np.abs(right).max(), 1)


@pytest.mark.parametrize("is_open", [False, True], ids=["fixed", "open"])
@pytest.mark.parametrize("name", [name for name in MODULES if name not in NOT_WRITTEN])
def test_through_torchscript(name, is_open):
    kind, module = MODULES[name]
    assert_as_pytorch(module, kind, is_open, dynamo=False)


@pytest.mark.parametrize("name", mostly_long(NEW_EXPORTER, 4))
def test_through_torch_export(name):
    through_torch_export(name, name != "vision transformer")


@pytest.mark.long
@pytest.mark.parametrize("is_open", [False, True], ids=["fixed", "open"])
@pytest.mark.parametrize("name", MODULES)
def test_every_module_through_torch_export(name, is_open):
    through_torch_export(name, is_open)


def through_torch_export(name, is_open):
    pytest.importorskip("onnxscript")
    logging.getLogger("torch").setLevel(logging.ERROR)
    kind, module = MODULES[name]
    assert_as_pytorch(module, kind, is_open, dynamo=True)
