"""Cases of every operator, algorithm of convolution and some networks, both passes, both dtypes: recorded natively, compared in
Pyodide.

``python check.py FILE`` records what the reference implementations compute; in Pyodide, ``check(FILE)`` compares the kernels,
and the reference implementations, of the wheel for browsers with the record.
"""

import itertools
import sys
import time
from functools import partial

import numpy as np

import cnncore
from cnncore.operators.convolution.reference import ALGORITHMS
from cnncore.testing import named_cases

LIMITS = {"float32": 1e-4, "float64": 1e-10}
KERNELS = (3, 5)  # sizes for which Winograd's algorithms have forms
NETWORKS = {"lenet": 32, "small_inception": 28}  # their grey images have this extent


def operator_results(op, case, dtype):
    """y and all gradients of a case, for a dy that depends on y's shape alone."""
    arrays = case.sample(min(case.ranks), np.dtype(dtype).type)
    y, backward = op.with_backward(*arrays, **case.settings)
    y = y[0] if isinstance(y, tuple) else y
    gradients = backward(gradient_of(y))
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    return [np.asarray(array) for array in (y, *gradients) if array is not None]


def algorithm_results(algorithm, size, dtype):
    """y and all gradients of a convolution with ``size`` × ``size`` kernels by a named algorithm; cases leave it the default."""
    draw = np.random.default_rng(0).standard_normal
    arrays = [draw(shape).astype(dtype) for shape in ((2, 5, 13, 11), (9, 5, size, size), 9)]
    y, backward = cnncore.OPS["conv"].with_backward(*arrays, padding=size // 2, algorithm=algorithm)
    return [y, *backward(gradient_of(y))]


def network_results(name, size, dtype):
    """y and the gradients of the parameters of a network with initial weights; it chooses algorithms as calls do not."""
    net = getattr(cnncore.models, name)(seed=0, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((2, 1, size, size)).astype(dtype)
    y, backward = net.with_backward(x)
    gradients = {parameter: np.zeros_like(array) for parameter, array in net.parameters.items()}
    dx = backward(gradient_of(y), gradients=gradients)
    return [y, dx, *gradients.values()]


def gradient_of(y):
    """A dy of the shape and dtype of y."""
    return np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)


def cases():
    """(operator, algorithm or network, key, function that computes arrays, dtype) of everything that is compared."""
    for dtype in LIMITS:
        for op in cnncore.OPS.values():
            for number, (case, _) in enumerate(named_cases(op)):
                yield op.name, f"{op.name} {number} {dtype}", partial(operator_results, op, case, dtype), dtype
        for algorithm, size in itertools.product(ALGORITHMS, KERNELS):
            key = f"{algorithm} {size} {dtype}"
            yield f"conv by {algorithm}", key, partial(algorithm_results, algorithm, size, dtype), dtype
        for name, size in NETWORKS.items():
            yield name, f"{name} {dtype}", partial(network_results, name, size, dtype), dtype


def record(file):
    """Write what the native reference implementations compute."""
    with cnncore.cpu.target("reference"):
        found = {f"{key} {i}": array for _, key, compute, _ in cases() for i, array in enumerate(compute())}
    np.savez_compressed(file, **found)


def largest_difference(found, expected):
    """The largest difference, relative to the largest expected number."""
    assert found.shape == expected.shape and found.dtype == expected.dtype, "another shape or dtype"
    a, b = found.astype(float), expected.astype(float)
    finite = np.isfinite(b)
    assert np.array_equal(a[~finite], b[~finite], equal_nan=True), "other numbers are infinite or NaN"
    return np.abs(a[finite] - b[finite]).max(initial=0) / (np.abs(b[finite]).max(initial=0) or 1)


def difference(key, compute, dtype, expected):
    """What differs from the native results of a case, in words; "" if nothing does."""
    try:
        for i, array in enumerate(compute()):
            error = largest_difference(array, expected[f"{key} {i}"])
            if not error <= LIMITS[dtype]:
                return f"result {i} differs by {error:.1e}"
    except ImportError:
        raise
    except Exception as error:  # whatever it is, the others are still compared
        return f"{type(error).__name__}: {error}"
    return ""


def check(file):
    """Print how many operators agree, and what does not; True if all agree that can be computed without scipy."""
    start, expected = time.perf_counter(), np.load(file)
    wrong, needs, count = {}, {}, 0
    for target in ("reference", cnncore.cpu.targets()[-1]):
        with cnncore.cpu.target(target):
            for name, key, compute, dtype in cases():
                try:
                    found = difference(key, compute, dtype, expected)
                except ImportError as error:
                    needs[name] = str(error)
                    continue
                count += 1
                if found:
                    wrong.setdefault(name, f"{target}, {key}: {found}")
    total = len(cnncore.OPS) + len(ALGORITHMS) + len(NETWORKS)
    print(f"{total - len(wrong) - len(needs)} of {total} operators, algorithms and networks agree with the native results: "
          f"{count} runs of cases, targets {', '.join(cnncore.cpu.targets())}, {time.perf_counter() - start:.1f} s")  # fmt: skip
    for name, reason in needs.items():
        print(f"not computed: {name}: {reason}")
    for name, reason in wrong.items():
        print(f"differs: {name}: {reason}")
    return not wrong


if __name__ == "__main__":
    record(sys.argv[1])
