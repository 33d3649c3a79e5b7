"""The sections of the benchmark: what is timed against whom. Each is a function of a Run that yields finished rows."""

import contextlib
import importlib.metadata
import importlib.util
import itertools
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import cnncore

from . import network, operators
from .foreign import FOREIGN
from .machine import Limits
from .operator_peers import COMPOSED, PEERS
from .turns import Contestant, Failure, Row, Timing, interleave, threads_text

__all__ = ["SECTIONS", "Run", "contestants", "operator_lines"]

# Largest difference from the reference, relative to its largest number, with which a contestant is timed.
TOLERANCE = {"float32": 2e-3, "float64": 1e-9}
# Of gradients of a whole network, in the Euclidean norm: where two cells of a window are nearly equal, rounding decides which
# one max pooling takes, and single numbers differ by more than any tolerance.
GRADIENT_TOLERANCE = 2e-2
FIRST_CALLS = 32  # of a small operator, to learn how long one takes


@dataclass(frozen=True)
class Peer:
    """A contestant by name: the module that runs it, the package it needs, the variant, environment variables."""

    name: str
    framework: str
    package: str
    variant: str = ""
    environment: dict = field(default_factory=dict)


INFERENCE = (
    Peer("PyTorch", "torch", "torch"),
    Peer("PyTorch channels last", "torch", "torch", "channels last"),
    Peer("PyTorch compiled, frozen", "torch", "torch", "compiled"),
    Peer("ONNX Runtime", "onnxruntime", "onnxruntime"),
    Peer("OpenVINO", "openvino", "openvino"),
    Peer("ncnn", "ncnn", "ncnn"),
    Peer("MNN", "mnn", "MNN"),
    Peer("TensorFlow", "tensorflow", "tensorflow"),
)
TRAINING = (
    Peer("PyTorch", "torch", "torch"),
    Peer("PyTorch channels last", "torch", "torch", "channels last"),
    Peer("PyTorch compiled", "torch", "torch", "compiled"),
    Peer("TensorFlow", "tensorflow", "tensorflow"),
)
ENGINES = (Peer("ONNX Runtime", "onnxruntime", "onnxruntime"), Peer("OpenVINO", "openvino", "openvino"))
LAYERS = (Peer("PyTorch", "torch", "torch"), Peer("PyTorch channels last", "torch", "torch", "channels last"))
OPERATORS = (Peer("PyTorch", "torch", "torch"),)
VARIED = ("inference", "training", "layer")  # kinds of jobs that a contestant does in its own variant
NEEDS_ONNX = ("onnxruntime", "openvino", "mnn")
IMPORTED = ("numpy", "scipy", "cnncore", "torch", "tensorflow", "jax", "onnxruntime", "openvino", "ncnn", "MNN")


@dataclass
class Run:
    """One run of the benchmark: its options, the machine's limits, the folder for networks, what was not timed."""

    threads: tuple = (1, 2)
    batches: tuple = (1, 16)
    rounds: int | None = None  # None: each section's own number
    seconds: float = 0.1
    only: tuple = ()
    peers: tuple = ()
    targets: tuple = ()
    size: int = 224
    network: str = "googlenet"
    standard: tuple = operators.STANDARD
    progress: object = None  # called with a line of text
    limits: Limits = field(default_factory=Limits)
    versions: dict = field(default_factory=dict)
    missing: dict = field(default_factory=dict)  # section → {name → reason it is not timed}

    def __post_init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="cnncore-bench-")
        self._net = None

    @property
    def net(self):
        """The network that the sections run."""
        if self._net is None:
            self._net = getattr(cnncore.models, self.network)()
        return self._net

    def written(self, batch, size):
        """The folder with the network written for a batch of images."""
        folder = Path(self.folder.name) / f"{batch}x{size}"
        if not folder.exists():
            network.write(self.net, (batch, 3, size, size), folder)
        return str(folder)

    def chosen(self, name):
        """Whether a case is asked for."""
        return not self.only or contains(self.only, name)

    def say(self, text):
        if self.progress:
            self.progress(text)

    def counted(self, title):
        """A progress function for rounds."""
        return lambda done, total: self.say(f"{title}: round {done} of {total}")

    def not_timed(self, section, name, reason):
        self.missing.setdefault(section, {})[name] = reason

    @contextlib.contextmanager
    def started(self, section, peers, threads, suffix=""):
        """A process for each of ``peers``, by name; who is not installed or cannot start is named. All end with the block."""
        with contextlib.ExitStack() as stack:
            started = {}
            for peer in peers:
                if self.peers and peer.framework != "cnncore" and not contains(self.peers, peer.name):
                    continue
                reason = absent(peer)
                if reason is None:
                    try:
                        contestant = Contestant(peer.name, peer.framework, threads, peer.environment)
                    except Failure as failure:
                        reason = str(failure)
                if reason is not None:
                    self.not_timed(section, peer.name, reason)
                    continue
                stack.callback(contestant.end)
                contestant.variant = peer.variant
                started[peer.name + suffix] = contestant
                self.versions[peer.name] = contestant.facts
            yield started


def contains(parts, name):
    """Whether one of ``parts`` stands in ``name``, whatever the case."""
    return any(part.lower() in name.lower() for part in parts)


EXACT = Peer("cnncore exact", "cnncore", "cnncore", "exact")  # without Winograd


def own(targets):
    """cnncore itself, and with the CPU targets that are forced."""
    forced = [Peer(f"cnncore {t}", "cnncore", "cnncore", environment={"CNNCORE_TARGET": t}) for t in targets]
    return (Peer("cnncore", "cnncore", "cnncore"), *forced)


def absent(peer):
    """Why a peer cannot take part, or None."""
    for package in (peer.package, *(("onnx",) if peer.framework in NEEDS_ONNX else ())):
        if importlib.util.find_spec(package) is None:
            return f"package {package} is not installed"
    return None


def contestants(section):
    """Peers of a section, for the list that is printed without timing anything."""
    table = {"operators": OPERATORS, "small": OPERATORS, "layers": LAYERS, "inference": INFERENCE, "training": TRAINING}
    table["networks"] = ENGINES
    return [(peer.name, absent(peer)) for peer in table.get(section, ())]


def difference(found, expected, order=np.inf):
    """The largest difference of arrays by name, each relative to its expected norm of ``order``; ∞ where shapes differ."""
    largest = 0.0
    for name, e in expected.items():
        f = found.get(name)
        if f is None or f.size != e.size:
            return math.inf
        e = e.astype(np.float64).ravel()
        scale = np.linalg.norm(e, order) if e.size else 0.0
        apart = np.linalg.norm(f.ravel() - e, order) if e.size else 0.0
        largest = max(largest, float(apart / scale) if scale else float(apart), key=nan_first)
    return math.inf if math.isnan(largest) else largest


def nan_first(number):
    """A key that makes NaN the largest number, whatever Python's max sees first."""
    return math.inf if math.isnan(number) else number


def compared(row, started, reference, tolerance, order=np.inf):
    """Compare outputs with those of ``reference`` (arrays by name); who differs is not timed. Returns who remains."""
    agreeing = {}
    for name, contestant in started.items():
        try:
            row.errors[name] = difference(contestant.outputs(), reference, order)
        except Failure as failure:
            row.failures[name] = str(failure)
            continue
        if row.errors[name] <= tolerance:
            agreeing[name] = contestant
        else:
            row.failures[name] = f"its result differs by {row.errors[name]:.1e} from the reference"
    return agreeing


def opened(row, started, job, run=None):
    """Open the same job in every process (with its own variant); returns who could."""
    able = {}
    for name, contestant in started.items():
        if run:
            run.say(f"{row.section} {row.case}: {name} prepares")
        try:
            contestant.open({**job, "variant": contestant.variant} if job["kind"] in VARIED else job)
            able[name] = contestant
        except Failure as failure:
            row.failures[name] = str(failure)
    return able


def closed(contestants_):
    """Let all forget their jobs."""
    for contestant in contestants_.values():
        with contextlib.suppress(Failure):
            contestant.close()


# ── Whole networks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def multiply_adds(run, batch, size):
    """Multiply-adds of one forward pass."""
    return sum(
        node.op.implementation.multiply_adds(call) for node, call in network.described(run.net, (batch, 3, size, size))
    )


def inference(run):
    """GoogLeNet's forward pass."""
    for threads in run.threads:
        for batch in run.batches:
            yield network_row(run, "inference", (EXACT, *INFERENCE), threads, batch, run.size, rounds=15)


def network_row(run, section, peers, threads, batch, size, rounds, job=None):
    """One comparison of whole networks: outputs first, then rounds."""
    case = f"{threads_text(threads)}, batch {batch}, {size}×{size}"
    row = Row(section, case, {"threads": threads, "batch": batch, "size": size})
    row.facts["multiply_adds"] = multiply_adds(run, batch, size) * (3 if section == "training" else 1)
    shape = (batch, 3, size, size)
    job = {"kind": "inference", "folder": run.written(batch, size), "shape": shape} | (job or {})
    run.limits.measure(threads)
    with run.started(section, (*own(run.targets), *peers), threads) as started:
        able = opened(row, started, job, run)
        run.say(f"{section} {case}: results are compared")
        if section == "training":
            agreeing = compared(row, able, reference(run, section, shape), GRADIENT_TOLERANCE, order=2)
        else:
            agreeing = compared(row, able, reference(run, section, shape), TOLERANCE["float32"])
        interleave(row, agreeing, run.rounds or rounds, run.seconds, run.counted(f"{section} {case}"))
    run.limits.measure(threads)
    return row


def reference(run, section, shape):
    """What all contestants should compute, by cnncore in float64."""
    net = run.net.astype("float64")
    x = network.images(shape, dtype="float64")
    if section == "inference":
        return {"y": np.concatenate([net(image[None]) for image in x])}
    y, backward = net.with_backward(x, training=False, needs_gradient=False)
    _, loss_backward = cnncore.softmax_cross_entropy.with_backward(y, network.labels(len(x), y.shape[1]))
    dy = loss_backward(np.ones(()))
    backward(dy[0] if isinstance(dy, tuple) else dy)
    return dict(backward.gradients)


def training(run):
    """GoogLeNet's training step: forward, backward, SGD with momentum; then the memory it takes, in fresh processes."""
    for threads, batch in itertools.product(run.threads, run.batches):
        classes = run.net(network.images((1, 3, run.size, run.size))).shape[1]
        job = {"kind": "training", "classes": classes}
        row = network_row(run, "training", TRAINING, threads, batch, run.size, rounds=9, job=job)
        job |= {"folder": run.written(batch, run.size), "shape": (batch, 3, run.size, run.size)}
        for peer in (*own(run.targets), *TRAINING):
            if peer.name in row.timings:
                run.say(f"training {row.case}: memory of {peer.name}")
                with contextlib.suppress(Failure):
                    row.memory[peer.name] = memory_of(peer, threads, job)
        yield row


def memory_of(peer, threads, job):
    """What a job takes in a fresh process, and what importing the framework takes."""
    with Contestant(peer.name, peer.framework, threads, peer.environment) as contestant:
        contestant.open({**job, "variant": peer.variant})
        return contestant.memory() | {"imported": contestant.imported}


def scaling(run):
    """How time grows with batch, image size and threads: cnncore and PyTorch, every number of threads in the same rounds."""
    batches = [(batch, run.size) for batch in (1, 2, 4, 8, 16, 32, 64)]
    sizes = [(1, size) for size in (32, 64, 128, 256, 512, 1024)]
    peers = (*own(run.targets), Peer("PyTorch channels last", "torch", "torch", "channels last"))
    for threads in run.threads:
        run.limits.measure(threads)
    with contextlib.ExitStack() as stack:
        started = {}
        for threads in run.threads:
            started |= stack.enter_context(run.started("scaling", peers, threads, suffix=f", {threads_text(threads)}"))
        for batch, size in dict.fromkeys(batches + sizes):
            case = f"batch {batch}, {size}×{size}"
            if not run.chosen(case):
                continue
            row = Row("scaling", case, {"batch": batch, "size": size})
            try:
                row.facts["multiply_adds"] = multiply_adds(run, batch, size)
            except cnncore.ShapeError as error:  # the network needs larger images
                run.not_timed("scaling", case, str(error))
                continue
            job = {"kind": "inference", "folder": run.written(batch, size), "shape": (batch, 3, size, size)}
            able = opened(row, started, job, run)
            interleave(row, able, run.rounds or 5, run.seconds, run.counted(f"scaling {case}"))
            closed(able)
            yield row


# ── Every network ──────────────────────────────────────────────────────────────────────────────────────────────────────


SIZES = {"lenet": 32, "network_in_network": 32, "all_convolutional": 32, "small_inception": 28}


def networks(run):
    """One image through every network of cnncore.models, and through networks from elsewhere, as ONNX files."""
    folder = Path(run.folder.name)
    for name, make in cnncore.models.NETWORKS.items():
        if run.chosen(name):
            net = make()
            size = SIZES.get(name, run.size)
            shape = (1, net.graph.inputs[0].channels, size, size)
            own_file, file = folder / f"{name}.safetensors", folder / f"{name}.onnx"
            net.save(own_file)
            cnncore.io.save_onnx(net, file, shape, opset=network.OPSET)
            yield from one_network(run, name, net, shape, own_file, file)
            own_file.unlink()
            file.unlink()
    for foreign in FOREIGN:
        if run.chosen(foreign.name) and foreign.path is None:
            run.not_timed("networks", foreign.name, f"package {foreign.package} is not installed")
        elif run.chosen(foreign.name):
            net = cnncore.io.load_onnx(foreign.path)
            yield from one_network(run, foreign.name, net, foreign.shape, foreign.path, foreign.path)


def one_network(run, name, net, shape, own_file, file):
    """A row per number of threads."""
    summary = net.summary(shape)
    exact = net.astype("float64")
    exact.exact = True
    expected = exact(network.images(shape, dtype="float64"))
    expected = {"y": expected[0] if isinstance(expected, tuple) else expected}
    for threads in run.threads:
        row = Row("networks", name, {"threads": threads, "shape": list(shape)})
        row.facts |= {"parameters": summary.parameters, "multiply_adds": summary.multiply_adds}
        job = {"kind": "file", "own_file": str(own_file), "file": str(file), "shape": shape}
        run.limits.measure(threads)
        with run.started("networks", (*own(run.targets), *ENGINES), threads) as started:
            able = compared(row, opened(row, started, job, run), expected, TOLERANCE["float32"])
            title = f"networks {name}, {threads_text(threads)}"
            interleave(row, able, run.rounds or 9, run.seconds, run.counted(title))
        yield row


# ── Convolution layers ─────────────────────────────────────────────────────────────────────────────────────────────────


# A lone call is direct unless asked; a net's plan asks for the cheaper algorithm, channels last, into arrays that exist.
OWN_LAYERS = (
    Peer("cnncore", "cnncore", "cnncore"),
    Peer("cnncore auto", "cnncore", "cnncore", "auto"),
    Peer("cnncore in a plan", "cnncore", "cnncore", "plan"),
    Peer("cnncore direct in a plan", "cnncore", "cnncore", "plan direct"),
)
FLOAT64_LAYERS = 8  # of the largest, in multiply-adds times how often they occur


def layers(run):
    """Every distinct convolution of GoogLeNet, forward and backward, and the largest in float64."""
    for threads in run.threads:
        run.limits.measure(threads)
        with run.started("layers", (*OWN_LAYERS, *own(run.targets)[1:], *LAYERS), threads) as started:
            for batch in run.batches:
                yield from layer_rows(run, started, threads, batch)
        run.limits.measure(threads)


def layer_rows(run, started, threads, batch):
    """All layers at one batch, float32, then the largest in float64."""
    found = network.convolutions(run.net, (batch, 3, run.size, run.size))
    heaviest = sorted(found, key=lambda layer: -layer["multiply_adds"] * layer["times"])[:FLOAT64_LAYERS]
    for dtype, chosen in (("float32", found), ("float64", heaviest)):
        for layer in chosen:
            (_, C, H, W), (K, _, kh, kw) = layer["x"], layer["w"]
            case = f"{layer['name']} {kh}×{kw} {C}→{K}, {H}×{W}" + (
                f" /{layer['stride'][0]}" if max(layer["stride"]) > 1 else ""
            )
            if not run.chosen(f"{case} {dtype}"):
                continue
            row = Row("layers", case, {"threads": threads, "batch": batch, "dtype": dtype})
            row.facts |= {"multiply_adds": layer["multiply_adds"], "times": layer["times"], "kernel": f"{kh}×{kw}"}
            job = {"kind": "layer", "dtype": dtype, "x": layer["x"], "w": layer["w"]}
            job |= {name: layer[name] for name in ("stride", "padding", "dilation", "groups")}
            able = opened(row, started, job)
            able = compared(row, able, layer_reference(job), TOLERANCE[dtype])
            title = f"layers {threads_text(threads)}, batch {batch}, {dtype}, {case}"
            interleave(row, able, run.rounds or 7, run.seconds / 2, run.counted(title))
            closed(able)
            yield row


def layer_reference(job):
    """y and gradients in float64."""
    x, w, b = operators.layer_arrays(job["x"], job["w"], job["dtype"])
    arrays = [a.astype(np.float64) for a in (x, w, b)]
    settings = {name: tuple(job[name]) for name in ("stride", "padding", "dilation")} | {"groups": job["groups"]}
    y, backward = cnncore.conv.with_backward(*arrays, **settings)
    dy = operators.output_gradient(y.astype(job["dtype"])).astype(np.float64)
    return {"y": y} | {f"gradient {i}": g for i, g in enumerate(backward(dy))}


# ── Operators ──────────────────────────────────────────────────────────────────────────────────────────────────────────


COMPARED = (2, 8, 14, 14)


def operator_lines():
    """(name, shape and settings, peer) of every operator of the registry, or why it is not timed."""
    lines = []
    for name, op in cnncore.OPS.items():
        if name in operators.NOT_TIMED:
            lines.append((name, "not timed", operators.NOT_TIMED[name]))
            continue
        peer = "no peer" if name not in PEERS else "composed of PyTorch's operators" if name in COMPOSED else "PyTorch"
        try:
            arrays, settings = operators.sample(op, COMPARED, np.float32)
        except Exception as error:
            lines.append((name, "not timed", f"{type(error).__name__}: {error}"))
            continue
        text = ", ".join(f"{key}={value}" for key, value in settings.items()) or "default settings"
        lines.append((name, f"{text}; {len(arrays)} array{'s' * (len(arrays) > 1)}", peer))
    return lines


def operator_rows(run, section, shape, rounds, seconds, job_of):
    """One row per operator of the registry, cnncore against PyTorch."""
    for threads in run.threads:
        run.limits.measure(threads)
        with run.started(section, (*own(run.targets), *OPERATORS), threads) as started:
            for name, op in cnncore.OPS.items():
                if not run.chosen(name):
                    continue
                if name in operators.NOT_TIMED:
                    run.not_timed(section, name, operators.NOT_TIMED[name])
                    continue
                row = Row(section, name, {"threads": threads, "family": op.group, "shape": list(shape)})
                row.facts["peer"] = "composed" if name in COMPOSED else "named" if name in PEERS else None
                taking_part = {who: c for who, c in started.items() if c.framework == "cnncore" or name in PEERS}
                taking_part = same_results(row, op, taking_part)
                able = opened(row, taking_part, job_of(row, name, taking_part))
                interleave(
                    row, able, run.rounds or rounds, seconds, run.counted(f"{section} {threads_text(threads)}, {name}")
                )
                closed(able)
                if not row.timings:
                    run.not_timed(section, name, "; ".join(map(str, row.failures.values())))
                yield row


def same_results(row, op, started):
    """Compare y and gradients on small arrays; random operators, which draw differently everywhere, are not compared."""
    _, settings = operators.sample(op, COMPARED, "float32")
    if "seed" in op.settings and {**op.settings, **settings}.get("training", True):
        return started
    able = opened(row, started, {"kind": "operator", "name": op.name, "shape": COMPARED, "dtype": "float32"})
    if "cnncore" not in able or len(able) < 2:
        return able
    return compared(row, able, able["cnncore"].outputs(), TOLERANCE["float32"])


def operator_section(run):
    """Every operator of the registry at the standard size, forward and backward."""

    def job(row, name, _):
        return {"kind": "operator", "name": name, "shape": run.standard, "dtype": "float32"}

    yield from operator_rows(run, "operators", run.standard, 7, run.seconds / 2, job)


def small(run):
    """One call on a small array: what calling costs."""

    def job(row, name, started):
        request = {"kind": "small", "name": name, "shape": operators.SMALL, "dtype": "float32", "calls": FIRST_CALLS}
        slowest = 1e-6
        for contestant in started.values():
            with contextlib.suppress(Failure):
                contestant.open(request)
                slowest = max(slowest, *contestant.turn(0.0).values())
        return {**request, "calls": max(4, min(2000, int(run.seconds / 20 / slowest)))}

    yield from operator_rows(run, "small", operators.SMALL, 15, run.seconds / 4, job)


# ── Import ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def imports(run):
    """Time to import each package in a fresh interpreter, and its size on disk."""
    row = Row("import", "import in a fresh interpreter", {"threads": 1})
    sizes = row.facts["bytes"] = {}
    names = []
    for name in IMPORTED:
        if importlib.util.find_spec(name) is None:
            run.not_timed("import", name, f"package {name} is not installed")
        else:
            names.append(name)
            sizes[name] = installed_bytes(name)
    rounds = run.rounds or 9
    for number in range(-1, rounds):  # the first fills the page cache
        for name in list(names):
            done = subprocess.run([sys.executable, "-P", "-c", IMPORT.format(name)], capture_output=True, text=True)
            if done.returncode:
                row.failures[name] = (done.stderr.strip().splitlines() or ["failed"])[-1][:200]
                names.remove(name)
            elif number >= 0:
                stage = row.timings.setdefault(name, {}).setdefault("import", Timing([]))
                stage.rounds.append(float(done.stdout.strip().splitlines()[-1]))
        run.say(f"import: round {max(number + 1, 0)} of {rounds}")
    yield row


def installed_bytes(name):
    """Bytes of the files of the distributions that make a package; of its folder when it was not installed by pip."""
    found = importlib.metadata.packages_distributions().get(name)
    total = 0
    for distribution in set(found or ()):
        files = importlib.metadata.files(distribution) or ()
        total += sum(
            os.path.getsize(f.locate()) for f in files if "__pycache__" not in f.parts and f.locate().is_file()
        )
    if total:
        return total
    spec = importlib.util.find_spec(name)
    folder = Path(spec.origin).parent
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts)


SECTIONS = {
    "operators": operator_section,
    "small": small,
    "layers": layers,
    "inference": inference,
    "training": training,
    "scaling": scaling,
    "networks": networks,
    "import": imports,
}
