"""PyTorch as a contestant: plain, channels last, compiled."""

import itertools
import time

import torch
import torch.nn.functional as F

from . import network, operators
from .operator_peers import PEERS
from .worker import Job, timed


def start(threads):
    """Facts about the framework, after its threads are set."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    return {"version": torch.__version__}


def open_job(job, threads):
    """The job described by ``job``, ready to be timed."""
    return JOBS[job["kind"]](**{name: value for name, value in job.items() if name != "kind"})


# ── Networks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Network(torch.nn.Module):
    """The network of a folder, node by node."""

    def __init__(self, described):
        super().__init__()
        self.described = described
        self.weights = torch.nn.ParameterList(
            [torch.nn.Parameter(torch.from_numpy(a)) for a in described.arrays.values()]
        )
        self.places = {name: i for i, name in enumerate(described.arrays)}

    def forward(self, x):
        values = [x]
        for node in self.described.nodes:
            arrays = {name: self.weights[self.places[array]] for name, array in node.arrays.items()}
            values.append(self.apply_node(node, [values[v] for v in node.inputs], arrays))
        return values[self.described.output]

    def apply_node(self, node, xs, arrays):
        x, s = xs[0], node.settings
        match node.operator:
            case "conv":
                padding, x = self.padding(x, s["padding"])
                return F.conv2d(x, arrays["w"], arrays.get("b"), s["stride"], padding, s["dilation"], s["groups"])
            case "linear":
                return F.linear(x, arrays["w"], arrays.get("b"))
            case "relu":
                return F.relu(x)
            case "max_pool":
                padding, x = self.padding(x, s["padding"], float("-inf"))
                return F.max_pool2d(x, s["kernel"], s["stride"], padding, s["dilation"], s["ceil_mode"])
            case "avg_pool":
                padding, x = self.padding(x, s["padding"])
                return F.avg_pool2d(x, s["kernel"], s["stride"], padding, s["ceil_mode"], s["count_include_pad"])
            case "global_avg_pool":
                return x.mean((2, 3), keepdim=s["keepdims"])
            case "local_response_norm":
                return F.local_response_norm(x, s["size"], s["alpha"], s["beta"], s["k"])
            case "concat":
                return torch.cat(xs, s["axis"])
            case "add":
                return sum(xs[1:], x)
            case "flatten":
                return torch.flatten(x, s["start_dim"])
            case "dropout":
                return F.dropout(x, s["p"], self.training)
            case "softmax":
                return torch.softmax(x, s["axis"])
        raise ValueError(f"{node.name}: operator {node.operator} is not known here")

    @staticmethod
    def padding(x, pairs, value=0.0):
        """Padding as PyTorch takes it; what it does not take is added to x."""
        if all(low == high for low, high in pairs):
            return [low for low, _ in pairs], x
        flat = [number for pair in reversed(pairs) for number in pair]
        return [0] * len(pairs), F.pad(x, flat, value=value)


def build(folder, variant, dtype="float32"):
    """The network and what to do with its images, by variant: "", "channels last", "compiled"."""
    model = Network(network.read(folder)).to(getattr(torch, dtype))
    layout = torch.contiguous_format if variant == "" else torch.channels_last
    return model.to(memory_format=layout), layout


def inference(folder, shape, variant="", dtype="float32"):
    model, layout = build(folder, variant, dtype)
    model.eval()
    x = torch.from_numpy(network.images(shape, dtype=dtype)).to(memory_format=layout)
    if variant == "compiled":
        torch._inductor.config.freezing = True  # weights become constants, packed for the kernels that run
        model = torch.compile(model)

    def run():
        with torch.no_grad():
            return model(x)

    run()
    return Job(timed(run), lambda: {"y": run().numpy()})


def training(folder, shape, classes, variant=""):
    model, layout = build(folder, variant)
    x = torch.from_numpy(network.images(shape)).to(memory_format=layout)
    target = torch.from_numpy(network.labels(shape[0], classes))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=variant == "compiled")

    def loss(x, target):
        return F.cross_entropy(model(x), target)

    lossed = torch.compile(loss) if variant == "compiled" else loss

    def step():
        optimizer.zero_grad()
        value = lossed(x, target)
        value.backward()
        optimizer.step()
        return value.item()

    def outputs():
        fresh, _ = build(folder, variant)
        fresh.eval()
        F.cross_entropy(fresh(x), target).backward()
        return {name: w.grad.numpy() for name, w in zip(fresh.places, fresh.weights, strict=True)}

    return Job(timed(step), outputs)


# ── Operators ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def tensors(op, arrays, settings):
    """The arrays as tensors, and those of them that have a gradient."""
    wanted = op.needs_gradient(op.bind(arrays, dict(settings))[0])
    made = [None if a is None else torch.from_numpy(a).requires_grad_(w) for a, w in zip(arrays, wanted, strict=False)]
    return made, [t for t in made if t is not None and t.requires_grad]


def operator(name, shape, dtype):
    """Forward with what backward needs, and backward."""
    import cnncore

    op, peer = cnncore.OPS[name], PEERS[name]
    arrays, settings = operators.sample(op, shape, dtype)
    given, leaves = tensors(op, arrays, settings)
    y = peer(*given, **settings)
    dy = torch.from_numpy(operators.output_gradient(y.detach().numpy()))

    def once():
        start = time.perf_counter()
        made = peer(*given, **settings)
        middle = time.perf_counter()
        gradients = torch.autograd.grad(made, leaves, dy) if leaves else None
        end = time.perf_counter()
        del made, gradients
        return (middle - start, end - middle) if leaves else (middle - start,)

    def outputs():
        made = peer(*given, **settings)
        found = {"y": made.detach().numpy()}
        if leaves:
            found |= {f"gradient {i}": g.numpy() for i, g in enumerate(torch.autograd.grad(made, leaves, dy))}
        return found

    del y
    made = Job(once, outputs)
    made.stages = ("forward", "backward") if leaves else ("forward",)
    return made


def small(name, shape, dtype, calls):
    """The call, and the call with its backward, each ``calls`` times in a row."""
    import cnncore

    op, peer = cnncore.OPS[name], PEERS[name]
    arrays, settings = operators.sample(op, shape, dtype)
    given, leaves = tensors(op, arrays, settings)
    plain = [None if t is None else t.detach() for t in given]
    dy = torch.from_numpy(operators.output_gradient(peer(*plain, **settings).numpy()))

    def once():
        start = time.perf_counter()
        with torch.no_grad():
            for _ in itertools.repeat(None, calls):
                peer(*plain, **settings)
        middle = time.perf_counter()
        if not leaves:
            return ((middle - start) / calls,)
        for _ in itertools.repeat(None, calls):
            torch.autograd.grad(peer(*given, **settings), leaves, dy)
        return (middle - start) / calls, (time.perf_counter() - middle) / calls

    made = Job(once, lambda: {})
    made.stages = ("call", "call and backward") if leaves else ("call",)
    return made


def layer(x, w, variant, dtype, stride, padding, dilation, groups):
    """One convolution, plain or channels last."""
    given = [torch.from_numpy(a) for a in operators.layer_arrays(x, w, dtype)]
    if variant == "channels last":
        given[:2] = [t.to(memory_format=torch.channels_last) for t in given[:2]]
    given = [t.requires_grad_() for t in given]
    lows, image = Network.padding(given[0], padding)
    if image is not given[0]:
        raise ValueError(f"PyTorch's convolution takes no padding {padding}")

    def forward():
        return F.conv2d(*given, stride, lows, dilation, groups)

    y = forward()
    dy = torch.from_numpy(operators.output_gradient(y.detach().numpy()))
    if variant == "channels last":
        dy = dy.to(memory_format=torch.channels_last)
    del y

    def once():
        start = time.perf_counter()
        y = forward()
        middle = time.perf_counter()
        gradients = torch.autograd.grad(y, given, dy)
        end = time.perf_counter()
        del y, gradients
        return middle - start, end - middle

    def outputs():
        y = forward()
        return {"y": y.detach().numpy()} | {
            f"gradient {i}": g.numpy() for i, g in enumerate(torch.autograd.grad(y, given, dy))
        }

    made = Job(once, outputs)
    made.stages = ("forward", "backward")
    return made


JOBS = {"inference": inference, "training": training, "operator": operator, "small": small, "layer": layer}
