"""What PyTorch's exporter writes, in three versions of ONNX's operators, with batch and image size open."""

import io
import warnings

import numpy as np
import pytest

import cnncore

pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
F = torch.nn.functional


class Module(torch.nn.Module):
    """A few layers, and what is made of them."""

    def __init__(self, forward):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.up = torch.nn.ConvTranspose2d(8, 4, 2, 2)
        self.batch, self.group, self.layer = torch.nn.BatchNorm2d(8), torch.nn.GroupNorm(2, 8), torch.nn.LayerNorm(5)
        self.linear, self.prelu = torch.nn.Linear(8, 5), torch.nn.PReLU(8)
        self.made = forward

    def forward(self, x):
        return self.made(self, x)


def squeeze_and_excite(m, x):
    x = m.depthwise(F.hardswish(m.batch(m.conv(x))))
    x = m.prelu(m.group(F.relu6(x)))
    x = x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1))
    return m.linear(x.mean((2, 3)))


def padded_and_resized(m, x):
    x = F.silu(F.pad(m.conv(x), (1, 2, 0, 1), mode="reflect"))
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return F.max_pool2d(x, 3, 2, 1, ceil_mode=True)


def shuffled(m, x):
    x = m.conv(x)
    n, c, h, w = x.shape
    x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
    return F.pixel_shuffle(F.gelu(x), 2)


def pyramid(m, x):
    x = m.conv(x)
    coarse = F.interpolate(F.max_pool2d(x, 2), size=x.shape[2:], mode="nearest")
    return torch.cat([x, coarse, m.up(F.avg_pool2d(x, 2))], 1).flatten(1).mean(1, keepdim=True)


def expanded(m, x):
    x = m.conv(x)
    mean = x.mean((2, 3), keepdim=True).expand(-1, -1, x.shape[2], x.shape[3])
    return (x - mean).clamp(-1, 1)[:, :, 1:-1, ::2].pow(2).chunk(2, 1)[1]


def attention(m, x):
    x = m.linear(m.conv(x).flatten(2).transpose(1, 2))
    return m.layer(torch.softmax(x @ x.transpose(1, 2) / 3, -1) @ x)


MODULES = (squeeze_and_excite, padded_and_resized, shuffled, pyramid, expanded, attention)


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("forward", MODULES, ids=lambda f: f.__name__)
def test_exported_by_pytorch(forward, opset):
    module, file = Module(forward).eval(), io.BytesIO()
    axes = {"x": {0: "N", 2: "H", 3: "W"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.randn(2, 3, 12, 16),),
            file,
            input_names=["x"],
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )
    net = cnncore.io.load_onnx(file.getvalue())
    for shape in ((2, 3, 12, 16), (1, 3, 16, 20), (3, 3, 10, 8)):
        x = torch.randn(*shape)
        expected = module(x).detach().numpy()
        y = net(x.numpy())
        assert y.shape == expected.shape
        assert np.abs(y - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1)
