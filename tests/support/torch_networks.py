"""PyTorch modules of published networks, with the names that torchvision gives their weights; written from the papers' tables."""

import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Both kinds of block of ResNet: 3×3 and 3×3, or 1×1, 3×3 with the stride and 1×1."""

    def __init__(self, inputs, width, stride, deep):
        super().__init__()
        kernels = (
            ((1, 1, width), (3, stride, width), (1, 1, 4 * width)) if deep else ((3, stride, width), (3, 1, width))
        )
        channels = inputs
        for number, (kernel, step, outputs) in enumerate(kernels, 1):
            setattr(self, f"conv{number}", nn.Conv2d(channels, outputs, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(outputs))
            channels = outputs
        self.count = len(kernels)
        self.downsample = None
        if stride > 1 or inputs != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        h = x
        for number in range(1, self.count + 1):
            h = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(h))
            h = h if number == self.count else F.relu(h)
        return F.relu(h + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, counts, deep, classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inputs = 64
        for stage, count in enumerate(counts):
            width = 64 << stage
            blocks = []
            for place in range(count):
                blocks.append(Residual(inputs, width, 2 if stage and not place else 1, deep))
                inputs = width * (4 if deep else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        h = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        return self.fc(h.mean((2, 3)))


class VGG(nn.Module):
    """``stages``: channels of the 3×3 convolutions before each pooling."""

    def __init__(self, stages, classes, features):
        super().__init__()
        layers, inputs = [], 3
        for stage in stages:
            for outputs in stage:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        layers, inputs = [], features
        for _ in range(2):
            layers += [nn.Linear(inputs, 4096), nn.ReLU(), nn.Dropout()]
            inputs = 4096
        self.classifier = nn.Sequential(*layers, nn.Linear(inputs, classes))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def conv_bn_relu6(inputs, outputs, kernel, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6()
    )  # fmt: skip


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        layers = [conv_bn_relu6(inputs, wide, 1)] if expansion > 1 else []
        layers += [conv_bn_relu6(wide, wide, 3, stride, wide), nn.Conv2d(wide, outputs, 1, bias=False)]
        self.conv = nn.Sequential(*layers, nn.BatchNorm2d(outputs))
        self.around = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.around else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, classes=1000):
        super().__init__()
        table = [
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ]
        layers, inputs = [conv_bn_relu6(3, 32, 3, 2)], 32
        for t, c, n, s in table:
            for place in range(n):
                layers.append(InvertedResidual(inputs, c, s if place == 0 else 1, t))
                inputs = c
        self.features = nn.Sequential(*layers, conv_bn_relu6(inputs, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class ConvBN(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, inputs, c1, r3, c3, r5, c5, cp):
        super().__init__()
        self.branch1 = ConvBN(inputs, c1, 1)
        self.branch2 = nn.Sequential(ConvBN(inputs, r3, 1), ConvBN(r3, c3, 3))
        self.branch3 = nn.Sequential(ConvBN(inputs, r5, 1), ConvBN(r5, c5, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvBN(inputs, cp, 1))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class AuxiliaryHead(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.conv, self.fc1, self.fc2 = ConvBN(inputs, 128, 1), nn.Linear(2048, 1024), nn.Linear(1024, classes)

    def forward(self, x):
        h = self.conv(F.avg_pool2d(x, 5, 3)).flatten(1)  # the paper's; torchvision pools adaptively to 4×4
        return self.fc2(F.relu(self.fc1(h)))


MODULES = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


class GoogLeNet(nn.Module):
    """torchvision's port: batch normalisation, third branches of 3×3."""

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = ConvBN(3, 64, 7, 2), ConvBN(64, 64, 1), ConvBN(64, 192, 3)
        for name, numbers in MODULES.items():
            setattr(self, f"inception{name}", Inception(*numbers))
        self.aux1, self.aux2 = AuxiliaryHead(512, classes), AuxiliaryHead(528, classes)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x):
        def pool(h):
            return F.max_pool2d(h, 3, 2, ceil_mode=True)

        h = pool(self.conv3(self.conv2(pool(self.conv1(x)))))
        heads = []
        for name in MODULES:
            h = getattr(self, f"inception{name}")(h)
            heads += [self.aux1(h)] if name == "4a" else [self.aux2(h)] if name == "4d" else []
            h = pool(h) if name in ("3b", "4e") else h
        return self.fc(h.mean((2, 3))), *heads
