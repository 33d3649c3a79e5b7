"""cnncore as a contestant."""

import itertools
import time

import numpy as np

import cnncore
from cnncore.runtime.dispatch import PackedWeights
from cnncore.train import SGD, Trainer

from . import network, operators
from .worker import Job, timed


def start(threads):
    """Facts about the framework, after its threads are set."""
    cnncore.set_num_threads(threads)
    return {"version": cnncore.__version__, "target": cnncore.cpu.target()}


def open_job(job, threads):
    """The job described by ``job``, ready to be timed."""
    return JOBS[job["kind"]](**{name: value for name, value in job.items() if name != "kind"})


def as_tuple(gradients):
    return gradients if isinstance(gradients, tuple) else (gradients,)


# ── Networks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def inference(folder, shape, variant="", dtype="float32"):
    net = cnncore.load(f"{folder}/net.safetensors").astype(dtype)
    net.exact = variant == "exact"
    x = network.images(shape, dtype=dtype)
    return Job(timed(lambda: net(x)), lambda: {"y": net(x)})


def file(own_file, file, shape):
    """A network in a file, written here or elsewhere; of several outputs the first."""
    net = cnncore.io.load_onnx(own_file) if own_file.endswith(".onnx") else cnncore.load(own_file)
    x = network.images(shape)

    def outputs():
        y = net(x)
        return {"y": y[0] if isinstance(y, tuple) else y}

    return Job(timed(lambda: net(x)), outputs)


def training(folder, shape, classes, variant=""):
    net = cnncore.load(f"{folder}/net.safetensors")
    x, target = network.images(shape), network.labels(shape[0], classes)
    trainer = Trainer(net, SGD(0.01, momentum=0.9))

    def outputs():
        fresh = cnncore.load(f"{folder}/net.safetensors")
        y, backward = fresh.with_backward(x, training=False)
        _, loss_backward = cnncore.softmax_cross_entropy.with_backward(y, target)
        backward(as_tuple(loss_backward(np.ones((), y.dtype)))[0])
        return dict(backward.gradients)

    return Job(timed(lambda: trainer.step(x, target)), outputs)


# ── Operators ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def operator(name, shape, dtype):
    """Forward with what backward needs, and backward."""
    op = cnncore.OPS[name]
    arrays, settings = operators.sample(op, shape, dtype)
    y, backward = op.with_backward(*arrays, **settings)
    y = operators.first(y)
    dy = operators.output_gradient(y)
    differentiable = any(op.needs_gradient(op.bind(arrays, dict(settings))[0]))

    def once():
        start = time.perf_counter()
        made, backward = op.with_backward(*arrays, **settings)
        middle = time.perf_counter()
        gradients = backward(dy) if differentiable else None
        end = time.perf_counter()
        del made, gradients
        return (middle - start, end - middle) if differentiable else (middle - start,)

    def outputs():
        found = {"y": y}
        if differentiable:
            found |= {f"gradient {i}": g for i, g in enumerate(as_tuple(backward(dy)))}
        return found

    made = Job(once, outputs)
    made.stages = ("forward", "backward") if differentiable else ("forward",)
    return made


def small(name, shape, dtype, calls):
    """The call, and the call with its backward, each ``calls`` times in a row."""
    op = cnncore.OPS[name]
    arrays, settings = operators.sample(op, shape, dtype)
    dy = operators.output_gradient(operators.first(op(*arrays, **settings)))
    differentiable = any(op.needs_gradient(op.bind(arrays, dict(settings))[0]))

    def once():
        start = time.perf_counter()
        for _ in itertools.repeat(None, calls):
            op(*arrays, **settings)
        middle = time.perf_counter()
        if not differentiable:
            return ((middle - start) / calls,)
        for _ in itertools.repeat(None, calls):
            _, backward = op.with_backward(*arrays, **settings)
            backward(dy)
        return (middle - start) / calls, (time.perf_counter() - middle) / calls

    made = Job(once, lambda: {})
    made.stages = ("call", "call and backward") if differentiable else ("call",)
    return made


def layer(x, w, variant, dtype, **settings):
    """One convolution: a lone call, or ("plan") channels last into arrays that exist, as a net's plan calls it.

    Variants: "", the call as it is, direct; "auto"; "plan", which is auto, too; "plan direct".
    """
    arrays = operators.layer_arrays(x, w, dtype)
    settings = {name: hashable(value) for name, value in settings.items()}
    settings["algorithm"] = "auto" if variant in ("auto", "plan") else "direct"
    op = cnncore.conv
    if variant.startswith("plan"):
        arrays = (operators.channels_last(arrays[0]), *arrays[1:])
        bound, call = op.bind(arrays, settings)
        out = operators.channels_last(np.empty(call.output, dtype))
        dy = operators.channels_last(operators.output_gradient(out))
        gradients = [operators.channels_last(np.empty(x, dtype)), *(np.empty_like(a) for a in bound[1:])]

        kept = op.implementation.packing(call, PackedWeights())
        packed = {} if kept is None else {"packed": kept}
        if kept is not None:
            kept.refresh()  # weights stay as they are, as at inference

        def forward():
            y, _, saved = op.implementation.forward(call, bound, out, **packed)
            return y, saved

        def backward(saved):
            return op.implementation.backward(call, saved, dy, (True,) * 3, gradients)

    else:
        dy = operators.output_gradient(op(*arrays, **settings))

        def forward():
            return op.with_backward(*arrays, **settings)

        def backward(made):
            return made(dy)

    def once():
        start = time.perf_counter()
        y, saved = forward()
        middle = time.perf_counter()
        made = backward(saved)
        end = time.perf_counter()
        del y, made
        return middle - start, end - middle

    def outputs():
        y, saved = forward()
        return {"y": y} | {f"gradient {i}": g for i, g in enumerate(backward(saved))}

    made = Job(once, outputs)
    made.stages = ("forward", "backward")
    return made


def hashable(value):
    """Lists from JSON as the tuples that settings are."""
    return tuple(map(hashable, value)) if isinstance(value, list) else value


JOBS = {
    "inference": inference,
    "file": file,
    "training": training,
    "operator": operator,
    "small": small,
    "layer": layer,
}
