"""How exactly each convolution algorithm computes, layer by layer: ``python tools/accuracy.py [--docs]``.

Every distinct convolution of GoogLeNet is computed forward and for both gradients by each algorithm that fits it, in float32 and
float64, on what its layer really meets: x is the layer's input in a forward pass of the network on noise, w its weights, dy is
noise. A sample of the elements of each result is compared with exact sums: every product is split into two numbers without
error, and all of them are added with one rounding (math.fsum). PyTorch's convolution computes the same where it is installed.

The error of a layer is the root mean square of the differences in that of the results. ``--docs`` writes the table into
docs/performance.md.
"""

import argparse
import importlib.util
import math
import statistics
import sys
from pathlib import Path

import numpy as np
from benchmarks.report import into_page, table

import cnncore
from cnncore import cpu
from cnncore.operators.convolution.implementation import MEASURED_ALGORITHMS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
RESULTS = ("y", "dx", "dw")
PEER = "PyTorch"


# ── Exact sums ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def exact_dot(a, b):
    """Σ a b of two float arrays, rounded once (Dekker 1971, doi:10.1007/BF01397083; Shewchuk 1997 in math.fsum).

    >>> exact_dot(np.array([1e16, 1.0, -1e16]), np.array([1.0, 1.0, 1.0]))
    1.0
    """
    a, b = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
    high = [c - (c - v) for v, c in ((v, (2**27 + 1.0) * v) for v in (a, b))]
    low = [v - h for v, h in zip((a, b), high, strict=True)]
    product = a * b
    rest = ((high[0] * high[1] - product) + high[0] * low[1] + low[0] * high[1]) + low[0] * low[1]
    return math.fsum(np.concatenate([product, rest]).tolist())


class Reference:
    """Single elements of y, dx and dw of one convolution of a plane, exactly."""

    def __init__(self, x, w, dy, stride, padding):
        self.w, self.dy, self.stride, self.taps = w, dy, stride, w.shape[2]
        edge = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
        self.x = np.pad(x, edge)
        # dy on the pixels of the padded input where its windows begin, with room for the taps around it
        spread = np.zeros((*dy.shape[:2], *(e + self.taps - 1 for e in self.x.shape[2:])), dy.dtype)
        begin = self.taps - 1
        ends = [begin + (e - 1) * stride + 1 for e in dy.shape[2:]]
        spread[:, :, begin : ends[0] : stride, begin : ends[1] : stride] = dy
        self.spread, self.padding = spread, padding

    def y(self, n, k, i, j):
        """One element of y."""
        i, j = i * self.stride, j * self.stride
        return exact_dot(self.x[n, :, i : i + self.taps, j : j + self.taps], self.w[k])

    def dx(self, n, c, i, j):
        """One element of dx: the taps in reverse over dy."""
        i, j = i + self.padding, j + self.padding
        return exact_dot(self.spread[n, :, i : i + self.taps, j : j + self.taps], self.w[:, c, ::-1, ::-1])

    def dw(self, k, c, i, j):
        """One element of dw."""
        height, width = ((e - 1) * self.stride + 1 for e in self.dy.shape[2:])
        x = self.x[:, c, i : i + height : self.stride, j : j + width : self.stride]
        return exact_dot(x, self.dy[:, k])


# ── Layers and algorithms ──────────────────────────────────────────────────────────────────────────────────────────────


def layers(net, x):
    """(path, input, weights, stride, padding, outputs) of every distinct convolution of ``net``, with what it meets."""
    seen, found = set(), []
    calls, _ = cnncore.nets.plan.infer(net.graph, [x.shape], net.dtype)
    for node, call in zip(net.graph.nodes, calls, strict=True):
        if node.op is not cnncore.conv:
            continue
        stride, padding = node.settings.get("stride", 1), node.settings.get("padding", 0)
        key = call.shapes[:2], stride, padding
        if key not in seen:
            seen.add(key)
            found.append((node, net.graph.names[node.arguments[0]], stride, padding, call))
    inner = [name for _, name, *_ in found if name not in {row.name for row in net.graph.inputs}]
    values = {**net.values(x, names=inner), **dict.fromkeys((row.name for row in net.graph.inputs), x)}
    for node, name, stride, padding, call in found:
        yield node.path, values[name], net.parameters[f"{node.path}.w"], stride, padding, call


def computed(x, w, dy, stride, padding, algorithm):
    """y, dx and dw by one algorithm of cnncore, or by PyTorch."""
    if algorithm == PEER:
        import torch

        tensors = [torch.tensor(a, requires_grad=True) for a in (x, w)]
        y = torch.nn.functional.conv2d(*tensors, stride=stride, padding=padding)
        y.backward(torch.tensor(dy))
        return y.detach().numpy(), *(t.grad.numpy() for t in tensors)
    y, backward = cnncore.conv.with_backward(x, w, stride=stride, padding=padding, algorithm=algorithm)
    return (y, *backward(dy)[:2])


def measured(net, x, samples, algorithms, seed=0, progress=None):
    """(algorithm, dtype, result) → {layer: (root mean square error, largest error)}, both relative."""
    rng = np.random.default_rng(seed)
    found = {}
    for number, (path, activations, weights, stride, padding, call) in enumerate(layers(net, x)):
        if progress is not None:
            progress(number, path)
        dy = rng.standard_normal(call.output).astype(np.float32)
        fits = [a for a in algorithms if a == PEER or a in call.op.implementation.algorithms(call)]
        for dtype in ("float32", "float64"):
            arrays = [a.astype(dtype) for a in (activations, weights, dy)]
            if dtype == "float64":  # numbers that fill their 53 bits
                arrays = [a * (1 + 1e-8 * rng.standard_normal(a.shape)) for a in arrays]
            reference = Reference(*arrays, stride, padding)
            results = {a: dict(zip(RESULTS, computed(*arrays, stride, padding, a), strict=True)) for a in fits}
            for what in RESULTS:
                shape = results["direct"][what].shape
                places = [tuple(rng.integers(0, shape)) for _ in range(samples)]
                exact = np.array([getattr(reference, what)(*place) for place in places])
                size, largest = math.sqrt(np.mean(exact**2)), np.abs(exact).max()
                for a in fits:
                    error = np.array([float(results[a][what][place]) for place in places]) - exact
                    entry = math.sqrt(np.mean(error**2)) / size, np.abs(error).max() / largest
                    found.setdefault((a, dtype, what), {})[path] = entry
    return found


def table_of(found):
    """The table: per algorithm and dtype the middle and the worst layer, forward and for both gradients."""
    head = [
        "algorithm",
        "layers",
        "dtype",
        *(f"{what}: median" for what in RESULTS),
        *(f"{what}: worst" for what in RESULTS),
    ]
    lines = []
    for algorithm, dtype, what in found:
        if what != RESULTS[0]:
            continue
        by = [[rms for rms, _ in found[algorithm, dtype, w].values()] for w in RESULTS]
        name = f"`{algorithm}`" if algorithm != PEER else PEER
        lines.append(
            [name, len(by[0]), dtype, *(f"{statistics.median(e):.1e}" for e in by), *(f"{max(e):.1e}" for e in by)]
        )
    order = {name: number for number, name in enumerate(("direct", PEER, *MEASURED_ALGORITHMS[1:]))}
    lines.sort(key=lambda line: (line[2], order[line[0].strip("`")]))
    return table(head, lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    parser.add_argument(
        "--samples", type=int, default=400, metavar="N", help="elements per layer and result (default: 400)"
    )
    parser.add_argument("--size", type=int, default=224, help="image size (default: 224)")
    options = parser.parse_args()
    algorithms = list(MEASURED_ALGORITHMS)
    if importlib.util.find_spec("torch"):
        algorithms.append(PEER)
    net = cnncore.models.googlenet()
    x = np.random.default_rng(0).standard_normal((1, 3, options.size, options.size)).astype(np.float32)

    def progress(number, path):
        if sys.stderr.isatty():
            print(f"\r\033[K{number} {path}", end="", file=sys.stderr, flush=True)

    found = measured(net, x, options.samples, algorithms, progress=progress)
    text = (
        f"{table_of(found)}\n\nTarget {cpu.target()}, {options.samples} elements of each result of each layer, "
        f"{options.size}×{options.size} image."
    )
    print(text)
    if options.docs:
        into_page(PAGE, "accuracy", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
