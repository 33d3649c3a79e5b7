"""TensorFlow as a contestant: one graph function, channels last, with oneDNN as the package has it."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf

from . import network
from .worker import Job, timed


def start(threads):
    """Facts about the framework, after its threads are set."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return {"version": tf.__version__}


def open_job(job, threads):
    """The job described by ``job``, ready to be timed."""
    return JOBS[job["kind"]](**{name: value for name, value in job.items() if name != "kind"})


def here(name, array):
    """An array of the network as TensorFlow lays it out."""
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
    return np.ascontiguousarray(array.T) if array.ndim == 2 else array


def back(array):
    """The inverse of ``here``."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T if array.ndim == 2 else array


def padding(node):
    """(low, high) per axis with which the windows end where node's result ends: ceil mode is padding at the high end."""
    s = node.settings
    pairs = []
    for H, O, k, step, d, (low, high) in zip(
        node.input_shape[2:], node.shape[2:], s["kernel"], s["stride"], s["dilation"], s["padding"], strict=True
    ):
        reach = (O - 1) * step + d * (k - 1) + 1
        pairs.append((low, max(high, reach - H - low)))
    return pairs


def named_padding(node, pairs):
    """ "VALID" or "SAME" where that is what ``pairs`` are, else None."""
    if all(pair == (0, 0) for pair in pairs):
        return "VALID"
    s = node.settings
    for H, O, k, step, d, (low, high) in zip(
        node.input_shape[2:], node.shape[2:], s["kernel"], s["stride"], s["dilation"], pairs, strict=True
    ):
        total = max((-(-H // step) - 1) * step + d * (k - 1) + 1 - H, 0)
        if -(-H // step) != O or (low, high) != (total // 2, total - total // 2):
            return None
    return "SAME"


def pooled(pool, x, node, fill):
    pairs = padding(node)
    named = named_padding(node, pairs)
    if named is None:
        x, named = tf.pad(x, [(0, 0), *pairs, (0, 0)], constant_values=fill), "VALID"
    return pool(x, node.settings["kernel"], node.settings["stride"], named)


def apply_node(node, xs, arrays, training):
    x, s = xs[0], node.settings
    match node.operator:
        case "conv":
            pairs = padding(node)
            y = tf.nn.conv2d(
                x,
                arrays["w"],
                s["stride"],
                named_padding(node, pairs) or [(0, 0), *pairs, (0, 0)],
                dilations=s["dilation"],
            )
            return tf.nn.bias_add(y, arrays["b"]) if "b" in arrays else y
        case "linear":
            y = tf.matmul(x, arrays["w"])
            return tf.nn.bias_add(y, arrays["b"]) if "b" in arrays else y
        case "relu":
            return tf.nn.relu(x)
        case "max_pool":
            return pooled(tf.nn.max_pool2d, x, node, float("-inf"))
        case "avg_pool" if all(pair == (0, 0) for pair in padding(node)):
            return pooled(tf.nn.avg_pool2d, x, node, 0.0)
        case "global_avg_pool":
            return tf.reduce_mean(x, (1, 2), keepdims=s["keepdims"])
        case "local_response_norm" if s["size"] % 2:
            return tf.nn.lrn(x, s["size"] // 2, s["k"], s["alpha"] / s["size"], s["beta"])
        case "concat" if s["axis"] == 1:
            return tf.concat(xs, -1)
        case "add":
            return tf.add_n(xs)
        case "dropout":
            return tf.nn.dropout(x, s["p"]) if training else x
        case "softmax":
            return tf.nn.softmax(x)
        case "flatten" if node.input_shape[2:] in ((), (1, 1)):
            return tf.reshape(x, (x.shape[0], -1))
    raise ValueError(f"{node.name}: operator {node.operator} with {s} is not known here")


def build(folder):
    """The variables by name, and the function from images to the network's output."""
    described = network.read(folder)
    variables = {name: tf.Variable(here(name, a)) for name, a in described.arrays.items()}

    def model(x, training):
        values = [x]
        for node in described.nodes:
            arrays = {name: variables[array] for name, array in node.arrays.items()}
            values.append(apply_node(node, [values[v] for v in node.inputs], arrays, training))
        return values[described.output]

    return variables, model


def images(shape):
    return tf.constant(np.ascontiguousarray(network.images(shape).transpose(0, 2, 3, 1)))


def inference(folder, shape, variant=""):
    _, model = build(folder)
    x = images(shape)
    run = tf.function(lambda x: model(x, training=False), autograph=False)
    return Job(timed(lambda: run(x).numpy()), lambda: {"y": run(x).numpy()})


def training(folder, shape, classes, variant=""):
    variables, model = build(folder)
    momenta = {name: tf.Variable(tf.zeros_like(v)) for name, v in variables.items()}
    x, target = images(shape), tf.constant(network.labels(shape[0], classes))

    def gradients(x, target, training):
        with tf.GradientTape() as tape:
            scores = model(x, training)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(target, scores))
        return loss, tape.gradient(loss, list(variables.values()))

    @tf.function(autograph=False)
    def step(x, target):
        loss, found = gradients(x, target, training=True)
        for variable, momentum, gradient in zip(variables.values(), momenta.values(), found, strict=True):
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.handle, accum=momentum.handle, lr=0.01, grad=gradient, momentum=0.9
            )
        return loss

    def outputs():
        _, found = tf.function(lambda x, t: gradients(x, t, training=False), autograph=False)(x, target)
        return {name: back(g.numpy()) for name, g in zip(variables, found, strict=True)}

    return Job(timed(lambda: float(step(x, target))), outputs)


JOBS = {"inference": inference, "training": training}
