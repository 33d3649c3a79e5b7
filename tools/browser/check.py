"""Every operator's cases, both passes, in both dtypes: recorded by the native reference implementations, compared in Pyodide.

``python check.py FILE`` records; in Pyodide, ``check(FILE)`` compares the kernels, and the reference implementations, of the
wheel for browsers with the record.
"""

import sys
import time

import numpy as np

import cnncore
from cnncore.testing import named_cases

LIMITS = {"float32": 1e-4, "float64": 1e-10}


def results(op, case, dtype):
    """y and all gradients of a case, for a dy that depends on y's shape alone."""
    arrays = case.sample(min(case.ranks), np.dtype(dtype).type)
    y, backward = op.with_backward(*arrays, **case.settings)
    y = y[0] if isinstance(y, tuple) else y
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
    gradients = backward(dy)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    return [np.asarray(array) for array in (y, *gradients) if array is not None]


def cases():
    """(operator, key, case, dtype) of everything that is compared."""
    for op in cnncore.OPS.values():
        for number, (case, _) in enumerate(named_cases(op)):
            for dtype in LIMITS:
                yield op, f"{op.name} {number} {dtype}", case, dtype


def record(file):
    """Write what the native reference implementations compute."""
    with cnncore.cpu.target("reference"):
        found = {
            f"{key} {i}": array for op, key, case, dtype in cases() for i, array in enumerate(results(op, case, dtype))
        }
    np.savez_compressed(file, **found)


def largest_difference(found, expected):
    """The largest difference, relative to the largest expected number."""
    assert found.shape == expected.shape and found.dtype == expected.dtype, "another shape or dtype"
    a, b = found.astype(float), expected.astype(float)
    finite = np.isfinite(b)
    assert np.array_equal(a[~finite], b[~finite], equal_nan=True), "other numbers are infinite or NaN"
    return np.abs(a[finite] - b[finite]).max(initial=0) / (np.abs(b[finite]).max(initial=0) or 1)


def difference(op, key, case, dtype, expected):
    """What differs from the native results of a case, in words; "" if nothing does."""
    try:
        for i, array in enumerate(results(op, case, dtype)):
            error = largest_difference(array, expected[f"{key} {i}"])
            if not error <= LIMITS[dtype]:
                return f"result {i} differs by {error:.1e}"
    except ImportError:
        raise
    except Exception as error:  # whatever it is, the other operators are still compared
        return f"{type(error).__name__}: {error}"
    return ""


def check(file):
    """Print how many operators agree, and what does not; True if all agree that can be computed without scipy."""
    start, expected = time.perf_counter(), np.load(file)
    wrong, needs, count = {}, {}, 0
    for target in ("reference", cnncore.cpu.targets()[-1]):
        with cnncore.cpu.target(target):
            for op, key, case, dtype in cases():
                try:
                    found = difference(op, key, case, dtype, expected)
                except ImportError as error:
                    needs[op.name] = str(error)
                    continue
                count += 1
                if found:
                    wrong.setdefault(op.name, f"{target}, {key}: {found}")
    agree = len(cnncore.OPS) - len(wrong) - len(needs)
    print(f"{agree} of {len(cnncore.OPS)} operators agree with the native results: {count} runs of cases, "
          f"targets {', '.join(cnncore.cpu.targets())}, {time.perf_counter() - start:.1f} s")  # fmt: skip
    for name, reason in needs.items():
        print(f"not computed: {name}: {reason}")
    for name, reason in wrong.items():
        print(f"differs: {name}: {reason}")
    return not wrong


if __name__ == "__main__":
    record(sys.argv[1])
