"""Random nets: with kernels as with reference implementations, on any threads, after saving and loading, in any layout.

A plan is the description of a graph as a list of nodes; what a graph refuses is left out of it. Gradients are also written into
arrays that are handed in, of any layout: into those that can be written, the same bits; into the others, nothing.

How far kernels may be from the reference implementation is worked out, not chosen: both are compared with float64, and may be
away by what changes of the last digit in x and the parameters, and of the largest number, amount to there, times ``ROUNDINGS``.
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

# As many roundings in a row, of a sum or of Winograd's transforms, as one change of the last digit stands for.
ROUNDINGS = 256
LAST_DIGIT = 2.0**-24  # of float32, relative
# Layouts of arrays that cannot be written to element by element.
NO_DESTINATION = ("misaligned", "read-only", "in a record", "byte-swapped")

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
        "gradients": choice.choice(("wrong shape", "wrong dtype", *hostile.LAYOUTS)),
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
        {},
        "again, on one thread",
    )
    if not isinstance(found, Exception):
        check_gradients(net, x, plan.get("gradients", "plain"), found)
    bounds = rounding(again, x)
    cnncore.cpu.target("reference")
    same(outcome(again, x), found, bounds, "loaded, with reference implementations")
    return isinstance(found, Exception)


def rounding(net, x):
    """By name, how far results may be apart: what changes of the last digit amount to in float64."""
    wide = net.astype("float64")
    exact = outcome(wide, x.astype("float64"))
    if isinstance(exact, Exception):
        return {}
    digits = LAST_DIGIT * np.finfo(x.dtype).eps / np.finfo(np.float32).eps
    # Of all results: a sum whose terms cancel, as behind a normalisation, is no larger than their rounding.
    largest = max((np.abs(a[np.isfinite(a)]).max(initial=0) for a in exact.values()), default=0)
    bounds = dict.fromkeys(exact, digits * largest)
    for seed in range(3):
        rng, moved = np.random.default_rng(seed), copy.deepcopy(wide)
        for name in moved.parameters:
            array = moved.parameters[name]
            moved.parameters[name] = array * (1 + LAST_DIGIT * rng.choice((-1, 1), array.shape))
        found = outcome(moved, x * (1 + LAST_DIGIT * rng.choice((-1, 1), x.shape)))
        for name, a in exact.items():
            away = np.abs(found[name] - a)
            bounds[name] = max(bounds[name], digits / LAST_DIGIT * away[np.isfinite(away)].max(initial=0))
    return {name: ROUNDINGS * bound for name, bound in bounds.items()}


def check_gradients(net, x, kind, found):
    """``gradients=``: the bits of a pass without it are written, or nothing is."""
    net = copy.deepcopy(net)
    y, backward = net.with_backward(x, training=True, step=0)
    dys = output_gradients(y if isinstance(y, tuple) else (y,))
    given, before = {}, {}
    for name in net.parameters:
        ones = np.ones_like(net.parameters[name])
        if kind == "wrong shape":
            ones = ones[..., None]
        elif kind == "wrong dtype":
            ones = ones.astype("f4" if ones.dtype == np.float64 else "f8")
        given[name] = hostile.laid_out(ones, kind) if kind in hostile.LAYOUTS else ones
        before[name] = given[name].copy()
    shared = kind == "repeated" and any(a.size > 1 for a in given.values())
    refusal = given and (kind in ("wrong shape", "wrong dtype", *NO_DESTINATION) or shared)
    try:
        backward(*dys, gradients=given)
    except CnnError as error:
        if not refusal:
            raise Wrong(f"gradients ({kind}) were refused: {error}") from None
        changed = [name for name, a in given.items() if not np.array_equal(a, before[name])]
        if changed:
            raise Wrong(f"gradients ({kind}) were refused, and written: {changed}") from None
        return
    if refusal:
        raise Wrong(f"gradients ({kind}) were taken")
    for name, array in given.items():
        right = found.get(f"gradient of {name}")
        if right is not None and not np.array_equal(array, right, equal_nan=True):
            raise Wrong(f"gradients ({kind}): {name} differs from the gradient of a pass without them")


def outcome(net, x):
    """Outputs and gradients by name, or the error; of a copy, as training changes running statistics."""
    net = copy.deepcopy(net)
    try:
        y, backward = net.with_backward(x, training=True, step=0)
        ys = y if isinstance(y, tuple) else (y,)
        dx = backward(*output_gradients(ys))
        inference = net(x)
        inference = inference if isinstance(inference, tuple) else (inference,)
    except (CnnError, MemoryError) as error:
        return error
    results = {f"output {i}": a for i, a in enumerate(ys)} | {f"inference {i}": a for i, a in enumerate(inference)}
    return results | {"dx": dx} | {f"gradient of {name}": a for name, a in backward.gradients.items()}


def output_gradients(ys):
    """dy of every output: numbers of both signs."""
    return [np.cos(np.arange(a.size, dtype=a.dtype)).reshape(a.shape) for a in ys]


def same(expected, found, bounds, whose):
    """Raise unless two outcomes agree to their bounds (by name; without one, to the bit), or are the same error."""
    if isinstance(expected, Exception) or isinstance(found, Exception):
        if type(expected) is not type(found):
            raise Wrong(f"{whose}: {expected!r:.500}; found: {found!r:.500}")
        return
    for name, a in expected.items():
        b = found[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            raise Wrong(f"{name}: {whose}: {a.dtype}{a.shape}; found {b.dtype}{b.shape}")
        bound = bounds.get(name, 0.0)
        if not np.allclose(a, b, rtol=0, atol=bound, equal_nan=True):
            worst, largest = np.abs(a.astype(float) - b).max(), np.abs(a[np.isfinite(a)]).max(initial=0)
            raise Wrong(f"{name}: {whose}: differs by {worst:.3g} of {largest:.3g}; rounding: {bound:.3g}")
