"""Networks in 8 bits beside float32, and beside ONNX Runtime in both: milliseconds, and what quantization costs in accuracy.

    python tools/measure_quantized.py speed --networks mobilenet_v2 resnet50 --threads 1 2
    python tools/measure_quantized.py accuracy --epochs 3

All contestants run in this process and take turns, one call each, and the median of each is shown: load on the machine meets
all alike. ONNX Runtime's threads do not spin between calls, which would disturb who comes next. Its 8-bit files are made by
onnxruntime.quantization with weights per channel, in the form QDQ, from the same random images; pip install onnx onnxruntime.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import cnncore
from cnncore.train import SGD, Trainer
from cnncore.train.data import digits_split

CALIBRATION = 8  # random images: speed does not depend on what they show


def parser():
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)
    speed = commands.add_parser("speed", help="milliseconds per image")
    speed.add_argument("--networks", nargs="+", default=["googlenet", "resnet50", "mobilenet_v2"], metavar="NAME")
    speed.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    speed.add_argument("--size", type=int, default=224, help="of the images (default: 224)")
    speed.add_argument("--rounds", type=int, default=15, help="turns of each contestant (default: 15)")
    accuracy = commands.add_parser("accuracy", help="digits held out, before and after")
    accuracy.add_argument("--epochs", type=int, default=3, help="of training (default: 3)")
    accuracy.add_argument("--images", type=int, default=200, help="for calibration (default: 200)")
    return top


# ── Speed ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def session(path, threads):
    """A function of images that runs an ONNX file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = made.get_inputs()[0].name
    return lambda x: made.run(None, {name: x})[0]


def quantize_file(path, target, images):
    """Write the 8-bit form of an ONNX file, by onnxruntime.quantization."""
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self, name):
            self.rows = iter([{name: image[None]} for image in images])

        def get_next(self):
            return next(self.rows, None)

    name = onnx.load(path).graph.input[0].name
    quantization.quantize_static(path, target, Reader(name), quantization.QuantFormat.QDQ, per_channel=True)


def contestants(name, size, folder):
    """Contestant → function of the number of threads that gives a function of images."""
    net = getattr(cnncore.models, name)(seed=0).eval()
    images = np.random.default_rng(0).standard_normal((CALIBRATION, 3, size, size)).astype(np.float32)
    small = net.quantize(images)
    plain, integers = Path(folder, f"{name}.onnx"), Path(folder, f"{name}_8_bits.onnx")
    cnncore.io.save_onnx(net, plain, (1, 3, size, size), fold=True)
    quantize_file(plain, integers, images)
    return {
        "cnncore float32": lambda threads: net,
        "cnncore 8 bits": lambda threads: small,
        "ONNX Runtime float32": lambda threads: session(plain, threads),
        "ONNX Runtime 8 bits": lambda threads: session(integers, threads),
    }


def medians(calls, x, rounds):
    """Median milliseconds of each contestant, who take turns; a first call of each is not timed."""
    seconds = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call(x)
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: 1000 * statistics.median(found) for name, found in seconds.items()}


def speed(options):
    """Print the table of networks and threads."""
    print(f"CPU target {cnncore.cpu.target()}, {options.size}×{options.size}, medians of {options.rounds} turns, ms")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            made = contestants(name, options.size, folder)
            x = np.random.default_rng(1).standard_normal((1, 3, options.size, options.size)).astype(np.float32)
            for threads in options.threads:
                with cnncore.threads(threads):
                    found = medians({who: make(threads) for who, make in made.items()}, x, options.rounds)
                row = ", ".join(f"{who} {ms:.1f}" for who, ms in found.items())
                print(f"{name}, {threads} threads: {row}", flush=True)


# ── Accuracy ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def accuracy(options):
    """Train on the embedded digits, quantize, and compare the answers on those held out."""
    train, held_out = digits_split()
    for name in ("small_inception", "lenet"):
        net = getattr(cnncore.models, name)(classes=10, seed=0)
        size = net.graph.inputs[0].size
        pad = 0 if None in size else (size[0] - 28) // 2
        x, test = (padded(part, pad) for part in (train, held_out))
        Trainer(net, SGD(0.05, momentum=0.9)).fit(x, train.labels, epochs=options.epochs)
        net.eval()
        exact = net(test).argmax(1)
        small = net.quantize(x[:: len(x) // options.images])
        found = small(test).argmax(1)
        right = [float((answers == held_out.labels).mean()) for answers in (exact, found)]
        print(
            f"{name}: float32 {right[0]:.1%}, 8 bits {right[1]:.1%} of {len(test):,} held-out digits right; the same "
            f"answer for {(exact == found).mean():.1%}",
            flush=True,
        )


def padded(dataset, pad):
    """The digits from 0 to 1, with a black margin."""
    pixels = np.stack([np.asarray(image).reshape(28, 28) for image in dataset.images])[:, None]
    return np.pad(pixels.astype(np.float32) / 255, ((0, 0), (0, 0), (pad, pad), (pad, pad)))


def main(arguments=None):
    """Measure what is asked for."""
    options = parser().parse_args(arguments)
    {"speed": speed, "accuracy": accuracy}[options.command](options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
