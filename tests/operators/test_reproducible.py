"""The same bits whatever BLAS library NumPy has, and however many threads that library takes."""

import ast
import re

import numpy as np
import pytest
from support.processes import ROOT, run_python

import cnncore
from cnncore.operators.arrays.products import product

FAMILIES = ROOT / "cnncore" / "operators"
# What NumPy hands to its BLAS library; `a @ b` and methods of arrays too.
BLAS = {"matmul", "dot", "vdot", "inner", "tensordot", "einsum", "linalg"}


def uses_of_blas(source):
    """Lines on which a module has NumPy multiply matrices."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult))
        or (isinstance(node, ast.Attribute) and node.attr in BLAS)
    ]


@pytest.mark.skipif(not FAMILIES.exists(), reason="needs the source tree beside the tests")
def test_no_operator_multiplies_by_blas():
    found = {path.name: lines for path in FAMILIES.rglob("*.py") if (lines := uses_of_blas(path.read_text("utf-8")))}
    assert not found, f"{found}: use operators/arrays/products.pyx, whose sums have one order"
    for path in FAMILIES.rglob("*.pyx"):
        assert not re.search(rf"\bnp\.({'|'.join(sorted(BLAS))})[.(]", path.read_text("utf-8")), path


def test_the_search_sees_products():
    source = "a @ b\na @= b\nnp.dot(a, b)\nx.dot(y)\nnp.linalg.norm(x)\n@f\ndef g(): pass"
    assert sorted(uses_of_blas(source)) == [1, 2, 3, 4, 5]


# Both passes of every operator's cases; then, because BLAS libraries leave small products to one thread, large ones.
DIGESTS = """
import hashlib
import numpy as np
import cnncore
from cnncore.testing import named_cases

cnncore.set_num_threads(1)

def digest(op, *arrays, **settings):
    y, backward = op.with_backward(*arrays, **settings)
    y = y[0] if isinstance(y, tuple) else y
    gradients = backward(np.cos(np.arange(y.size, dtype=float)).reshape(y.shape).astype(y.dtype))
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    bits = b"".join(np.ascontiguousarray(a).tobytes() for a in (y, *gradients) if a is not None)
    return hashlib.sha256(bits).hexdigest()[:16]

for op in cnncore.OPS.values():
    for case, name in named_cases(op):
        print(op.name, name, digest(op, *case.sample(case.ranks[-1], np.float32), **case.settings))

def normal(*shape, seed=np.random.default_rng(0)):
    return seed.standard_normal(shape).astype("f")

x = normal(2, 96, 40, 40)
for name, arrays, settings in [
    ("matmul", (normal(3, 257, 700), normal(3, 700, 300)), {}),
    ("matmul", (normal(1, 3000), normal(3000, 700)), {}),
    ("linear", (normal(200, 1000), normal(300, 1000), normal(300)), {}),
    ("conv", (x, normal(128, 96, 3, 3), normal(128)), {}),
    ("attention_pool", (x, normal(64, 96), normal(64), normal(64, 96)), {}),
    ("strip_pool", (normal(2, 128, 60, 60), normal(128, 128, 3), normal(128, 128, 3)), {}),
    ("covariance_pool", (x,), {"iterations": 3}),
    ("bilinear_pool", (x, normal(2, 80, 40, 40)), {}),
    ("net_vlad", (x, normal(32, 96), normal(32, 96), normal(32)), {}),
    ("spectral_pool", (x,), {"output_size": 20}),
    ("hartley_pool", (x,), {"output_size": 20}),
]:
    print(name, "large", digest(cnncore.OPS[name], *arrays, **settings))
"""


def test_bits_do_not_depend_on_the_threads_of_blas():
    counts = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS")
    one, two = (run_python(DIGESTS, timeout=250, **dict.fromkeys(counts, n)).stdout.splitlines() for n in "12")
    assert len(one) > len(cnncore.OPS)
    assert one == two, [line for line, other in zip(one, two, strict=True) if line != other]


# ── The products themselves ─────────────────────────────────────────────────────────────────────────────────────────────

ROWS_TERMS_COLUMNS = [
    (1, 1, 1),
    (3, 5, 7),
    (1, 400, 330),
    (330, 400, 1),
    (6, 17000, 16),
    (200, 321, 265),
    (2, 0, 3),
    (0, 3, 2),
]


def laid_out(matrix, layout):
    """The same numbers in rows, in columns, or apart from one another."""
    if layout == "columns":
        return np.asfortranarray(matrix)
    if layout == "apart":
        return np.repeat(matrix, 2, axis=1)[:, ::2]
    return matrix


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", ROWS_TERMS_COLUMNS, ids=str)
def test_products(shape, dtype, rng):
    """Near those in long double, in every layout, and the same bits for any number of threads, on every CPU target."""
    rows, terms, columns = shape
    x, z = (rng.standard_normal(s).astype(dtype) for s in ((rows, terms), (terms, columns)))
    exact = np.einsum("ik,kj->ij", x.astype(np.longdouble), z.astype(np.longdouble))
    bound = 64 * np.finfo(dtype).eps * np.einsum("ik,kj->ij", abs(x), abs(z))
    layouts = ("rows", "columns", "apart")
    for target in cnncore.cpu.targets()[1:] if x.size * columns > 1e6 else cnncore.cpu.targets():
        for left, right, of_y in np.array(np.meshgrid(layouts, layouts, layouts)).reshape(3, -1).T:
            bits = []
            for threads in (1, 3):
                y = laid_out(np.full((rows, columns), np.nan, dtype), of_y)
                with cnncore.cpu.target(target), cnncore.threads(threads):
                    assert product(laid_out(x, left), laid_out(z, right), y) is y
                assert np.all(abs(y - exact) <= bound), (target, left, right, of_y)
                bits.append(y.tobytes())
            assert bits[0] == bits[1], (target, left, right, of_y)


def test_products_are_broadcast(rng):
    x, z = rng.standard_normal((2, 1, 3, 5, 4)), rng.standard_normal((7, 1, 4, 6))
    np.testing.assert_allclose(product(x, z), x @ z, rtol=1e-12)
    np.testing.assert_allclose(product(x[0, 0, 0], z), x[0, 0, 0] @ z, rtol=1e-12)
    assert product(x[0, 0, 0].astype("f"), z[0, 0]).dtype == np.float64
