"""ncnn as a contestant. It knows no batch: several images are computed one after the other, as its users do."""

import struct
from pathlib import Path

import ncnn
import numpy as np

from . import network
from .worker import Job, timed


def start(threads):
    """Facts about the framework."""
    return {"version": ncnn.__version__}


def window(settings):
    """Parameters of a window, which convolution and pooling number alike but for the padding."""
    (kh, kw), (sh, sw) = settings["kernel"], settings["stride"]
    return kh, kw, sh, sw


def layer(node, described, fused):
    """(type, parameters, arrays) of a node in ncnn's terms; None for one that does nothing at inference."""
    s = node.settings
    w, b = (described.arrays.get(node.arrays.get(name)) for name in ("w", "b"))
    match node.operator:
        case "conv" if s["groups"] == 1:
            kh, kw, sh, sw = window(s)
            (top, bottom), (left, right) = s["padding"]
            p = {0: w.shape[0], 1: kw, 11: kh, 2: s["dilation"][1], 12: s["dilation"][0], 3: sw, 13: sh}
            p |= {4: left, 15: right, 14: top, 16: bottom, 5: int(b is not None), 6: w.size, 9: int(fused)}
            return "Convolution", p, (w, b)
        case "linear":
            return "InnerProduct", {0: w.shape[0], 1: int(b is not None), 2: w.size, 9: int(fused)}, (w, b)
        case "relu":
            return "ReLU", {}, ()
        case "max_pool" | "avg_pool":
            kh, kw, sh, sw = window(s)
            (top, bottom), (left, right) = s["padding"]
            p = {
                0: int(node.operator == "avg_pool"),
                1: kw,
                11: kh,
                2: sw,
                12: sh,
                3: left,
                14: right,
                13: top,
                15: bottom,
            }
            p |= {5: 0 if s["ceil_mode"] else 1, 6: int(s.get("count_include_pad", False))}
            return "Pooling", p, ()
        case "global_avg_pool":
            return "Pooling", {0: 1, 4: 1}, ()
        case "local_response_norm":
            return "LRN", {0: 0, 1: s["size"], 2: s["alpha"], 3: s["beta"], 4: float(s["k"])}, ()
        case "concat" if s["axis"] == 1:
            return "Concat", {0: 0}, ()
        case "add":
            return "Eltwise", {0: 1}, ()
        case "flatten":
            return "Flatten", {}, ()
        case "softmax":
            return "Softmax", {0: 0, 1: 1}, ()
        case "dropout":
            return None
    raise ValueError(f"{node.name}: operator {node.operator} with {s} is not known here")


def fused_relus(described):
    """relu node → the convolution or linear node that applies it: ncnn's own tools fuse them, too."""
    made = {i + 1: node for i, node in enumerate(described.nodes)}
    return {
        i + 1: node.inputs[0]
        for i, node in enumerate(described.nodes)
        if node.operator == "relu"
        and node.inputs[0] in made
        and made[node.inputs[0]].operator in ("conv", "linear")
        and described.consumers[node.inputs[0]] == 1
    }


def write(folder):
    """Write network.param and network.bin; returns their paths and the name of the output."""
    described = network.read(folder)
    fused = fused_relus(described)
    skipped = {i + 1 for i, n in enumerate(described.nodes) if n.operator == "dropout"} | set(fused)
    origin = list(range(len(described.nodes) + 1))  # the value that stands for each, where nodes are left out
    for value, node in enumerate(described.nodes, 1):
        if value in skipped:
            origin[value] = origin[node.inputs[0]]
    kept = [(value, node) for value, node in enumerate(described.nodes, 1) if value not in skipped]
    readers = {}
    for _, node in kept:
        for v in node.inputs:
            readers[origin[v]] = readers.get(origin[v], 0) + 1
    lines, blobs, parts, copies = [], 0, [], {}

    def put(kind, name, xs, ys, parameters=None):
        nonlocal blobs
        blobs += len(ys)
        settings = " ".join(
            f"{k}={v:.8g}" if isinstance(v, float) else f"{k}={v}" for k, v in (parameters or {}).items()
        )
        lines.append(f"{kind} {name} {len(xs)} {len(ys)} {' '.join(xs + ys)} {settings}".rstrip())

    def spread(value):
        """ncnn wants one blob per reader."""
        if readers.get(value, 0) > 1:
            copies[value] = [f"v{value}_{i}" for i in range(readers[value])]
            put("Split", f"split_{value}", [f"v{value}"], list(copies[value]))

    put("Input", "input", [], ["v0"])
    spread(0)
    for value, node in kept:
        kind, parameters, arrays = layer(node, described, value in fused.values())
        xs = [copies[origin[v]].pop(0) if origin[v] in copies else f"v{origin[v]}" for v in node.inputs]
        put(kind, f"n{value}", xs, [f"v{value}"], parameters)
        for i, array in enumerate(a for a in arrays if a is not None):
            if i == 0:
                parts.append(struct.pack("<i", 0))  # what follows is float32
            parts.append(np.ascontiguousarray(array, np.float32).tobytes())
        spread(value)
    text = f"7767517\n{len(lines)} {blobs}\n" + "\n".join(lines) + "\n"
    paths = Path(folder) / "network.param", Path(folder) / "network.bin"
    paths[0].write_text(text)
    paths[1].write_bytes(b"".join(parts))
    return *paths, f"v{origin[described.output]}"


def open_job(job, threads):
    """Inference, the only thing it is asked for."""
    parameters, weights, output = write(job["folder"])
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(parameters)) or net.load_model(str(weights)):
        raise RuntimeError("ncnn did not take the network")
    xs = [ncnn.Mat(image).clone() for image in network.images(job["shape"])]

    def run():
        ys = []
        for x in xs:
            extractor = net.create_extractor()
            extractor.input("v0", x)
            code, y = extractor.extract(output)
            if code:
                raise RuntimeError(f"ncnn's extract answered {code}")
            ys.append(y)
        return ys

    return Job(timed(run), lambda: {"y": np.stack([np.array(y).reshape(-1) for y in run()])})
