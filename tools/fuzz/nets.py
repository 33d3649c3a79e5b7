"""Random nets: with kernels as with reference implementations, on any threads, after saving and loading, in any layout.

A plan is the description of a graph as a list of nodes; what a graph refuses is left out of it.
"""

import copy
import os
import random
import tempfile
import warnings

import numpy as np

import cnncore
from cnncore import CnnError
from cnncore.runtime import dispatch

from . import arrays as hostile
from .values import decode, encode
from .wrong import Wrong

# (operator, values for its first settings in a layer): what a random node is drawn from.
NODES = [
    ("conv", {"channels": (1, 3, 8, 17), "kernel_size": (1, 2, 3, 5), "stride": (1, 2), "padding": (0, 1, 2)}),
    (
        "conv",
        {"channels": (4, 8), "kernel_size": (3,), "padding": (1,), "algorithm": ("auto", "winograd"), "groups": (1, 2)},
    ),
    ("depthwise_conv", {"kernel_size": (3, 5), "padding": (1, 2), "dilation": (1, 2)}),
    ("conv_transpose", {"channels": (2, 5), "kernel_size": (2, 3), "stride": (1, 2)}),
    ("max_pool", {"kernel_size": (2, 3), "stride": (1, 2), "ceil_mode": (False, True)}),
    ("avg_pool", {"kernel_size": (2, 3), "stride": (1, 2), "count_include_pad": (False, True)}),
    ("lp_pool", {"kernel_size": (2,)}),
    ("adaptive_avg_pool", {"output_size": (1, 2, 5)}),
    ("batch_norm", {}),
    ("group_norm", {"groups": (1, 2)}),
    ("local_response_norm", {"size": (3, 5)}),
    ("softmax", {}),
    ("dropout", {}),
    ("nearest_upsample", {"scale": (2,)}),
    *((name, {}) for name in ("relu", "silu", "gelu", "tanh", "elu", "prelu", "sigmoid", "hard_swish")),
]


def plan(seed):
    """Nodes of a graph, each on one or two values before it, and how the net is called."""
    choice = random.Random(seed)
    nodes = []
    for number in range(choice.choice((1, 2, 4, 7, 12))):
        if number and choice.random() < 0.25:
            nodes.append([choice.choice(("add", "concat")), [choice.randrange(number + 1) for _ in range(2)], {}])
            continue
        name, settings = choice.choice(NODES)
        drawn = {
            key: encode(choice.choice(values))
            for key, values in settings.items()
            if choice.random() < 0.8 or key in ("channels", "kernel_size", "output_size")
        }
        nodes.append([name, [choice.choice((number, choice.randrange(number + 1)))], drawn])
    rank = choice.choice((1, 2, 2, 3))
    return {
        "part": "nets",
        "nodes": nodes,
        "channels": choice.choice((1, 2, 4, 16)),
        "shapes": [
            [choice.choice((0, 1, 2, 3)), *(choice.choice((1, 2, 5, 8, 13)) for _ in range(rank))] for _ in range(2)
        ],
        "dtype": choice.choice(("float32", "float64")),
        "layout": choice.choice(list(hostile.LAYOUTS)),
        "threads": choice.choice((1, 2, 3)),
        "seed": choice.randrange(1000),
    }


def built(plan):
    """The net of a plan: nodes that the graph refuses are left out, and values that nothing uses are outputs."""
    g = cnncore.Graph()
    values, used = [g.input(plan["channels"], size=(None,) * (len(plan["shapes"][0]) - 1))], set()
    for name, places, settings in plan["nodes"]:
        places = [place % len(values) for place in places]
        try:
            made = getattr(g, name)(*(values[p] for p in places), **{k: decode(v) for k, v in settings.items()})
        except CnnError:
            continue
        used.update(places)
        values.append(made)
    left = [value for place, value in enumerate(values) if place not in used and place]
    if not left:
        return None
    g.output(*left)
    return g.build(seed=plan["seed"], dtype=plan["dtype"])


def run(plan):
    """Build, call and compare; returns how many calls were (computed, refused)."""
    counts = [0, 0]
    before = cnncore.get_num_threads(), cnncore.cpu.target(), dispatch.set_worth_a_thread(0.0)
    with warnings.catch_warnings(), np.errstate(all="ignore"), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        try:
            net = built(plan)
            if net is None:
                return counts
            path = os.path.join(folder, "net")
            net.save(path)
            again = cnncore.load(path)
            for shape in plan["shapes"]:
                counts[check(net, again, plan, shape)] += 1
        finally:
            cnncore.set_num_threads(before[0])
            cnncore.cpu.target(before[1])
            dispatch.set_worth_a_thread(before[2])
    return counts


def check(net, again, plan, shape):
    """One shape in every way; returns whether it was refused."""
    rng = np.random.default_rng(plan["seed"])
    x = rng.uniform(0.1, 1, (shape[0], plan["channels"], *shape[1:])).astype(plan["dtype"])
    best = cnncore.cpu.targets()[-1]
    cnncore.set_num_threads(plan["threads"])
    cnncore.cpu.target(best)
    found = outcome(net, hostile.laid_out(x, plan["layout"]))
    cnncore.set_num_threads(1)
    same(
        outcome(again, x) if plan["layout"] == "plain" else outcome(net, hostile.laid_out(x, plan["layout"])),
        found,
        0.0,
        "again, on one thread",
    )
    cnncore.cpu.target("reference")
    same(
        outcome(again, x),
        found,
        {"float32": 2e-3, "float64": 1e-9}[plan["dtype"]],
        "loaded, with reference implementations",
    )
    return isinstance(found, Exception)


def outcome(net, x):
    """Outputs and gradients by name, or the error; of a copy, as training changes running statistics."""
    net = copy.deepcopy(net)
    try:
        y, backward = net.with_backward(x, training=True, step=0)
        ys = y if isinstance(y, tuple) else (y,)
        dx = backward(*(np.cos(np.arange(a.size, dtype=a.dtype)).reshape(a.shape) for a in ys))
        inference = net(x)
        inference = inference if isinstance(inference, tuple) else (inference,)
    except (CnnError, MemoryError) as error:
        return error
    results = {f"output {i}": a for i, a in enumerate(ys)} | {f"inference {i}": a for i, a in enumerate(inference)}
    return results | {"dx": dx} | {f"gradient of {name}": a for name, a in backward.gradients.items()}


def same(expected, found, limit, whose):
    """Raise unless two outcomes agree to ``limit``, relative to the largest number; or are the same error."""
    if isinstance(expected, Exception) or isinstance(found, Exception):
        if type(expected) is not type(found):
            raise Wrong(f"{whose}: {expected!r:.500}; found: {found!r:.500}")
        return
    largest = max((np.abs(a[np.isfinite(a)]).max(initial=0) for a in expected.values()), default=0)
    for name, a in expected.items():
        b = found[name]
        scale = max(np.abs(a[np.isfinite(a)]).max(initial=0), 1e-2 * largest)
        if a.shape != b.shape or a.dtype != b.dtype:
            raise Wrong(f"{name}: {whose}: {a.dtype}{a.shape}; found {b.dtype}{b.shape}")
        if not np.allclose(a, b, rtol=0, atol=limit * scale, equal_nan=True):
            worst = np.abs(a.astype(float) - b).max()
            raise Wrong(f"{name}: {whose}: differs by {worst:.3g} of {scale:.3g}")
