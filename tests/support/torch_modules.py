"""Modules of torch.nn that networks on images are made of, with the shapes of what they take; and blocks of today's networks."""

import torch
from torch import nn
from torch.nn import functional as F

# Implementation of input → shape, and the axes that may stay open beside the batch.
SHAPES = {"image": (2, 4, 12, 10), "line": (2, 4, 12), "volume": (2, 4, 6, 8, 6), "vector": (2, 6), "tokens": (2, 5, 8)}
OPEN = {"image": (2, 3), "line": (2,), "volume": (2, 3, 4), "vector": (), "tokens": (1,)}


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def modules():
    """Name → (kind of input, module), by the tables of torch.nn's documentation; recurrent ones aside."""
    image = {
        "Conv2d": nn.Conv2d(4, 6, 3, stride=2, padding=1),
        "Conv2d same": nn.Conv2d(4, 6, (3, 2), padding="same", dilation=2),
        "Conv2d reflect": nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        "Conv2d circular": nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
        "ConvTranspose2d": nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        "Unfold": nn.Unfold(3, padding=1),
        "MaxPool2d": nn.MaxPool2d(3, 2, 1),
        "MaxPool2d ceil": nn.MaxPool2d(3, 2, ceil_mode=True),
        "AvgPool2d": nn.AvgPool2d(3, 2, 1),
        "AvgPool2d ceil": nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        "LPPool2d": nn.LPPool2d(2, 3, 2),
        "AdaptiveAvgPool2d 1": nn.AdaptiveAvgPool2d(1),
        "AdaptiveMaxPool2d 1": nn.AdaptiveMaxPool2d(1),
        "ReflectionPad2d": nn.ReflectionPad2d((1, 2, 0, 1)),
        "ReplicationPad2d": nn.ReplicationPad2d(2),
        "ZeroPad2d": nn.ZeroPad2d((1, -1, 2, 0)),
        "ConstantPad2d": nn.ConstantPad2d(1, 3.5),
        "CircularPad2d": nn.CircularPad2d(1),
        "BatchNorm2d": nn.BatchNorm2d(4),
        "InstanceNorm2d": nn.InstanceNorm2d(4, affine=True),
        "GroupNorm": nn.GroupNorm(2, 4),
        "LocalResponseNorm": nn.LocalResponseNorm(3),
        "Softmax2d": nn.Softmax2d(),
        "Dropout2d": nn.Dropout2d(),
        "PixelShuffle": nn.PixelShuffle(2),
        "ChannelShuffle": nn.ChannelShuffle(2),
        "Upsample nearest": nn.Upsample(scale_factor=2),
        "Upsample bilinear": nn.Upsample(scale_factor=1.5, mode="bilinear", align_corners=True),
        "Upsample bicubic": nn.Upsample(scale_factor=2, mode="bicubic"),
        "Flatten": nn.Flatten(),
        "Unflatten": nn.Unflatten(1, (2, 2)),
        "Identity": nn.Sequential(nn.Identity(), nn.ReLU()),
        "PReLU": nn.PReLU(4),
        "Softmax": nn.Softmax(dim=1),
        "LogSoftmax": nn.LogSoftmax(dim=1),
    }
    image |= {
        kind.__name__: kind()
        for kind in (
            *(nn.ELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardtanh, nn.Hardswish, nn.LeakyReLU, nn.LogSigmoid, nn.ReLU),
            *(nn.ReLU6, nn.RReLU, nn.SELU, nn.CELU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.Mish, nn.Softplus, nn.Softshrink),
            *(nn.Softsign, nn.Tanh, nn.Tanhshrink),
        )
    }
    image |= {"Threshold": nn.Threshold(0.1, -2.0), "GLU": nn.GLU(dim=1), "GELU tanh": nn.GELU(approximate="tanh")}
    line = {
        "Conv1d": nn.Conv1d(4, 6, 3, stride=2),
        "ConvTranspose1d": nn.ConvTranspose1d(4, 6, 3, stride=2),
        "MaxPool1d": nn.MaxPool1d(2),
        "AvgPool1d": nn.AvgPool1d(3, 2, 1),
        "AdaptiveAvgPool1d 1": nn.AdaptiveAvgPool1d(1),
        "BatchNorm1d": nn.BatchNorm1d(4),
        "InstanceNorm1d": nn.InstanceNorm1d(4),
        "Upsample linear": nn.Upsample(scale_factor=2, mode="linear"),
    }
    volume = {
        "Conv3d": nn.Conv3d(4, 6, 3, padding=1),
        "MaxPool3d": nn.MaxPool3d(2),
        "AvgPool3d": nn.AvgPool3d(2),
        "BatchNorm3d": nn.BatchNorm3d(4),
        "AdaptiveAvgPool3d 1": nn.AdaptiveAvgPool3d(1),
        "ConvTranspose3d": nn.ConvTranspose3d(4, 6, 2, stride=2),
    }
    vector = {
        "Linear": nn.Linear(6, 3),
        "BatchNorm1d of vectors": nn.BatchNorm1d(6),
        "Linear without bias": nn.Linear(6, 3, bias=False),
    }
    tokens = {
        "LayerNorm": nn.LayerNorm(8),
        "RMSNorm": nn.RMSNorm(8),
        "Linear of tokens": nn.Linear(8, 3),
        "MultiheadAttention": Attention(),
        "TransformerEncoderLayer": nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0),
        "scaled_dot_product_attention": Function(lambda x: F.scaled_dot_product_attention(x, 2 * x, x + 1)),
    }
    blocks = {
        "squeeze and excite": SqueezeExcite(),
        "vision transformer": VisionTransformer(),
        "shuffle": Function(lambda x: x.view(x.shape[0], 2, 2, x.shape[2], x.shape[3]).transpose(1, 2).flatten(1, 2)),
        "focus": Function(
            lambda x: torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        ),
        "pyramid": Function(lambda x: x + F.interpolate(F.max_pool2d(x, 2), size=x.shape[2:], mode="nearest")),
        "coordinates": Function(coordinates),
        "normalized": Function(lambda x: F.normalize(x, dim=1)),
        "statistics": Function(
            lambda x: torch.cat([x.mean((2, 3)), x.std((2, 3)), x.amax((2, 3)), x.var((2, 3), unbiased=False)], 1)
        ),
        "windows": Function(windows),
        "einsum": Function(lambda x: torch.einsum("nchw,ndhw->ncd", x, x)),
        "clamped": Function(lambda x: x.clamp(min=-0.5).clamp(max=0.5).abs().sqrt().exp().log1p()),
        "where": Function(lambda x: torch.where(x > 0, x, x * 0.1).masked_fill(x > 1, 1.0)),
        "chosen": Function(lambda x: torch.gather(x, 1, x.argmax(1, keepdim=True))),
        "best": Function(lambda x: x.flatten(1).topk(3).values),
        "cropped": Function(lambda x: x[:, :, : F.max_pool2d(x, 2).shape[2], 1:-1]),
        "chunked": Function(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
        "rounded size": Function(lambda x: F.interpolate(x, scale_factor=1.4, recompute_scale_factor=True)),
    }
    kinds = {"image": image | blocks, "line": line, "volume": volume, "vector": vector, "tokens": tokens}
    return {name: (kind, module) for kind, rows in kinds.items() for name, module in rows.items()}


class Attention(nn.Module):
    """nn.MultiheadAttention of tokens with themselves."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class SqueezeExcite(nn.Module):
    """Hu et al. 2018."""

    def __init__(self):
        super().__init__()
        self.less, self.more = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.more(F.relu(self.less(F.adaptive_avg_pool2d(x, 1)))))


class VisionTransformer(nn.Module):
    """Patches, a class token, position embeddings (of any size), one block, the class token's scores: Dosovitskiy et al. 2021."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(4, 8, 2, stride=2)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 8, 6, 5))
        self.before, self.after = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.patches(x)
        x = x + F.interpolate(self.positions, size=x.shape[2:], mode="bilinear")
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], 1)
        n, count, width = x.shape
        q, k, v = self.qkv(self.before(x)).reshape(n, count, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(q @ k.transpose(-2, -1) / 2, -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, count, width))
        x = x + self.mlp(self.after(x))
        return self.head(x[:, 0])


def coordinates(x):
    """Two more channels: where each pixel is, between −1 and 1 (Liu et al. 2018)."""
    n, _, h, w = x.shape
    ys = torch.arange(h, dtype=x.dtype) * 2 / (h - 1) - 1
    xs = torch.arange(w, dtype=x.dtype) * 2 / (w - 1) - 1
    grid = torch.stack(torch.meshgrid(ys, xs, indexing="ij")).unsqueeze(0).expand(n, -1, -1, -1)
    return torch.cat([x, grid], 1)


def windows(x):
    """Windows of 2 by 2, as shifted window attention cuts them (Liu et al. 2021), and back."""
    n, c, h, w = x.shape
    x = torch.roll(x, (1, 1), (2, 3)).view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
    x = torch.softmax(x @ x.transpose(1, 2), -1) @ x
    return x.reshape(n, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
