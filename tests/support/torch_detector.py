"""A detector in the manner of YOLOv8, small: cross-stage blocks, pyramid pooling, a head whose grid of anchors is computed."""

import torch
from torch import nn
from torch.nn import functional as F

BINS = 8  # of the distance from an anchor to each side of a box
STRIDES = (8, 16)


class ConvBNSiLU(nn.Module):
    def __init__(self, inputs, outputs, kernel=1, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def forward(self, x):
        return F.silu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, channels, around):
        super().__init__()
        self.cv1, self.cv2 = ConvBNSiLU(channels, channels, 3), ConvBNSiLU(channels, channels, 3)
        self.around = around

    def forward(self, x):
        return x + self.cv2(self.cv1(x)) if self.around else self.cv2(self.cv1(x))


class C2f(nn.Module):
    """Half of the channels goes through bottlenecks, whose results are all joined."""

    def __init__(self, inputs, outputs, count=1, around=False):
        super().__init__()
        self.width = outputs // 2
        self.cv1, self.cv2 = ConvBNSiLU(inputs, 2 * self.width), ConvBNSiLU((2 + count) * self.width, outputs)
        self.m = nn.ModuleList(Bottleneck(self.width, around) for _ in range(count))

    def forward(self, x):
        parts = list(self.cv1(x).split((self.width, self.width), 1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class SPPF(nn.Module):
    """Maxima of windows of 5, 9 and 13 pixels, one made from the other."""

    def __init__(self, channels):
        super().__init__()
        self.cv1, self.cv2 = ConvBNSiLU(channels, channels // 2), ConvBNSiLU(2 * channels, channels)

    def forward(self, x):
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        return self.cv2(torch.cat(parts, 1))


class Head(nn.Module):
    """For each cell of each level a box, as the mean of a distribution over distances (Li et al. 2020), and scores of classes."""

    def __init__(self, channels, classes):
        super().__init__()
        self.classes = classes
        self.boxes = nn.ModuleList(nn.Sequential(ConvBNSiLU(c, 16, 3), nn.Conv2d(16, 4 * BINS, 1)) for c in channels)
        self.scores = nn.ModuleList(nn.Sequential(ConvBNSiLU(c, 16, 3), nn.Conv2d(16, classes, 1)) for c in channels)
        self.dfl = nn.Conv2d(BINS, 1, 1, bias=False)
        self.dfl.weight.data[:] = torch.arange(BINS, dtype=torch.float).view(1, BINS, 1, 1)

    def anchors(self, levels):
        points, strides = [], []
        for x, stride in zip(levels, STRIDES, strict=True):
            height, width = x.shape[2:]
            columns = torch.arange(end=width, dtype=x.dtype) + 0.5
            rows = torch.arange(end=height, dtype=x.dtype) + 0.5
            rows, columns = torch.meshgrid(rows, columns, indexing="ij")
            points.append(torch.stack((columns, rows), -1).view(-1, 2))
            strides.append(torch.full((height * width, 1), stride, dtype=x.dtype))
        return torch.cat(points).transpose(0, 1).unsqueeze(0), torch.cat(strides).transpose(0, 1)

    def forward(self, levels):
        made = [torch.cat((b(x), s(x)), 1) for x, b, s in zip(levels, self.boxes, self.scores, strict=True)]
        points, strides = self.anchors(made)
        whole = torch.cat([x.view(x.shape[0], 4 * BINS + self.classes, -1) for x in made], 2)
        boxes, scores = whole.split((4 * BINS, self.classes), 1)
        count = boxes.shape[2]
        bins = boxes.view(boxes.shape[0], 4, BINS, count).transpose(2, 1).softmax(1)
        before, after = self.dfl(bins).view(boxes.shape[0], 4, count).chunk(2, 1)
        low, high = points - before, points + after
        return torch.cat((torch.cat(((low + high) / 2, high - low), 1) * strides, scores.sigmoid()), 1)


class Detector(nn.Module):
    """(N, 3, H, W) → (N, 4 + classes, cells): middle, width and height in pixels, and a score for each class."""

    def __init__(self, classes=3):
        super().__init__()
        self.stem = nn.Sequential(ConvBNSiLU(3, 8, 3, 2), ConvBNSiLU(8, 16, 3, 2), C2f(16, 16, 1, True))
        self.fine = nn.Sequential(ConvBNSiLU(16, 24, 3, 2), C2f(24, 24, 2, True))
        self.coarse = nn.Sequential(ConvBNSiLU(24, 32, 3, 2), C2f(32, 32, 1, True), SPPF(32))
        self.join, self.down, self.again = C2f(56, 24), ConvBNSiLU(24, 24, 3, 2), C2f(56, 32)
        self.head = Head((24, 32), classes)

    def forward(self, x):
        fine = self.fine(self.stem(x))
        coarse = self.coarse(fine)
        joined = self.join(torch.cat((F.interpolate(coarse, scale_factor=2.0, mode="nearest"), fine), 1))
        return self.head((joined, self.again(torch.cat((self.down(joined), coarse), 1))))


def detector(seed=0):
    """A detector with random numbers everywhere, ready to be exported."""
    torch.manual_seed(seed)
    made = Detector()
    for name, array in made.named_buffers():
        if name.endswith("running_var"):
            array.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            array.normal_(0, 0.2)
    for branch in made.head.scores:  # scores that differ from cell to cell
        branch[1].weight.data *= 30
    return made.eval()
