"""The n-th allocation fails, for every n: of Python's objects, and of the kernels' memory.

Whatever is called raises a MemoryError, or gives what it gives otherwise; the next call gives that too; and where the kernels'
memory fails nothing is kept: the number of objects after all failures is that after the first round of them. One plan is one
operator with its first case, forward and backward, or a task of ``TASKS``.
"""

import copy
import gc
import os
import random
import sys
import tempfile
import warnings

import numpy as np

import cnncore
from cnncore.runtime import dispatch

from .files import small_net
from .wrong import Wrong

try:
    from _testcapi import remove_mem_hooks, set_nomemory
except ImportError:  # a Python without its test modules: the kernels' memory alone
    remove_mem_hooks = set_nomemory = None

# Where NumPy itself ends the process when its ufuncs or iterators get no memory for their objects (2.x: they raise the
# MemoryError without holding the GIL; so does `numpy.multiply(y, s, out=y)` alone, with s broadcast; assigning to an array of
# indices reads a buffer that was not allocated): there only the kernels' memory fails.
NUMPY_CRASHES = {"partial_conv", "covariance_pool", "net_vlad", "top_k"}
# Of the processes that run these plans: Python checks the borders of its objects, and overwrites those that are freed.
ENVIRONMENT = {"PYTHONMALLOC": "debug"}
CLEAN = 40  # so many numbers in a row without an effect: there are no more allocations
MOST_KEPT = 60  # objects; caches of Python's own grow by a few


def task_save(folder):
    small_net().save(os.path.join(folder, "saved"))
    with open(os.path.join(folder, "saved"), "rb") as file:
        return [np.frombuffer(file.read(), np.uint8)]


def task_load(folder):
    path = os.path.join(folder, "net")
    if not os.path.exists(path):
        small_net().save(path)
    net = cnncore.load(path)
    return [net(np.ones((1, 2, 8, 8), np.float32))]


def task_weights(folder):
    path = os.path.join(folder, "weights.npz")
    if not os.path.exists(path):
        net = small_net()
        np.savez(path, **{name: arrays[name] for arrays in (net.parameters, net.buffers) for name in arrays})
    net = copy.deepcopy(small_net())
    cnncore.io.load_weights(net, path)
    return [net(np.ones((1, 2, 8, 8), np.float32))]


def task_fit(folder):
    net = copy.deepcopy(small_net())
    x = np.random.default_rng(0).standard_normal((6, 2, 8, 8)).astype(np.float32)
    cnncore.train.Trainer(net, optimizer=cnncore.train.SGD(0.1)).fit(x, np.arange(6) % 3, epochs=1, batch_size=3)
    return [net.parameters[name] for name in net.parameters]


TASKS = {"save": task_save, "load": task_load, "weights": task_weights, "fit": task_fit}
SUBJECTS = [*cnncore.OPS, *TASKS]


def plan(seed):
    """One subject after the other; of the long tasks numbers drawn from the seed."""
    choice = random.Random(seed)
    what = SUBJECTS[seed % len(SUBJECTS)]
    drawn = [1 + int(10 ** choice.uniform(0, 4.5)) for _ in range(60)] if what in TASKS else None
    return {"part": "memory", "what": what, "numbers": drawn}


def run(plan):
    """All failures of a plan; returns how many calls (gave something, raised a MemoryError)."""
    what = plan["what"]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        call = (lambda: TASKS[what](folder)) if what in TASKS else operator_call(cnncore.OPS[what])
        expected = [np.array(a) for a in call()]
        counts = [0, 0]
        for hook in (python_fails, kernels_fail):
            if hook is python_fails and (set_nomemory is None or what in NUMPY_CRASHES):
                continue
            sweep(call, expected, hook, plan["numbers"], counts)
            before = objects()
            sweep(call, expected, hook, plan["numbers"], counts)
            kept = objects() - before
            if (
                kept > MOST_KEPT and hook is kernels_fail and what not in TASKS
            ):  # CPython 3.11 itself loses the cells of a closure it cannot make
                raise Wrong(f"{what}: {kept} objects more after the same failures again ({hook.__name__})")
        return counts


def operator_call(op):
    """Both passes of an operator's first case."""
    case = op.cases[0]
    arrays = case.sample(case.ranks[-1], np.float32)

    def call():
        y, backward = op.with_backward(*arrays, **case.settings)
        results = list(y) if isinstance(y, tuple) else [y]
        if op.yields == "real":
            gradients = backward(np.ones_like(results[0]))
            results += gradients if isinstance(gradients, tuple) else [gradients]
        return [np.asarray(a) for a in results]

    return call


def python_fails(number):
    set_nomemory(number, number + 1) if number else remove_mem_hooks()


def kernels_fail(number):
    dispatch.fail_allocation(number)


def objects():
    gc.collect()
    return sys.getallocatedblocks()


def sweep(call, expected, fail, numbers, counts):
    """Call with the first, second, third … allocation failing, until none of them is reached; or with those numbers."""
    clean, number, left = 0, 0, list(numbers or ())
    while clean < CLEAN if numbers is None else left:
        number = number + 1 + number // 60 if numbers is None else left.pop()  # of very many a part
        refused = failing(call, expected, fail, number)
        counts[refused] += 1
        clean = 0 if refused else clean + 1
        if refused and not right(call(), expected):
            raise Wrong(f"{fail.__name__}({number}): the call after the one that failed gives something else")


def failing(call, expected, fail, number):
    """Whether the call raised a MemoryError."""
    found = other = None
    fail(number)
    try:
        found = call()
    except MemoryError:
        return True
    except BaseException as error:
        other = error
    finally:
        fail(0)
    if isinstance(other, SystemError) and "without" in str(other):
        return True  # some of NumPy's functions set no exception then, and Python tells
    if isinstance(other, RuntimeError) and "can't allocate" in str(other):
        return True  # Python's own files, of their locks
    if other is not None:
        raise Wrong(f"{fail.__name__}({number}): {type(other).__name__}: {other}") from other
    if not right(found, expected):
        raise Wrong(f"{fail.__name__}({number}) was not noticed, and changed the result")
    return False


def right(found, expected):
    return len(found) == len(expected) and all(
        np.array_equal(a, b, equal_nan=b.dtype.kind == "f") for a, b in zip(found, expected, strict=True)
    )
