"""``cnncore vectors`` and ``conform``: cnncore as an oracle for other frameworks."""

import pathlib
import sys
import time

from ..io.files import write_atomically
from .progress import ProgressLine, clock

__all__ = ["add_conform", "add_vectors"]


def vectors(options):
    """Write test vectors: every operator, case and dtype with its settings, arrays, outputs and gradients.

    The folder gets vectors.json, its JSON schema, and an npz file for each operator. The same cnncore writes the same bytes.
    """
    from ..testing import conformance

    started = time.perf_counter()
    with ProgressLine(sys.stderr, False if options.quiet else None) as line:
        written = conformance.write_vectors(
            options.output,
            options.name or None,
            options.dtype or conformance.DTYPES,
            lambda number, vector: line.show(f"{number} vectors, {vector.operator}"),
        )
    print(
        f"{options.output}: {written['vectors']} vectors of {written['operators']} operators, "
        f"{written['bytes'] / 1e6:.1f} MB, {time.perf_counter() - started:.0f} s"
    )
    return 0


def add_vectors(commands):
    """``cnncore vectors`` and its options."""
    sub = commands.add(
        vectors, "write test vectors for other frameworks", "example: cnncore vectors --output vectors max_pool conv"
    )
    sub.add_argument("name", nargs="*", metavar="OPERATOR", help="operators (default: all)")
    sub.add_argument("--output", required=True, metavar="DIR", help="folder for the files")
    sub.add_argument("--dtype", action="append", choices=("float32", "float64"), help="only this one (default: both)")
    sub.add_argument("--quiet", action="store_true", help="no progress")


def conform(options):
    """Run a framework on the test vectors; print where it differs and by what. Exit code 1 says that it does."""
    from ..testing import conformance

    started = time.perf_counter()
    framework = conformance.adapter(options.framework)
    with ProgressLine(sys.stderr, False if options.quiet else None) as line:

        def progress(number, result):
            line.show(lambda: f"{number} compared, {result.operator}  {clock(time.perf_counter() - started)}")

        found = conformance.conform(
            framework,
            options.vectors,
            operators=options.name or None,
            dtypes=options.dtype or conformance.DTYPES,
            progress=progress,
        )
    print(str(found).splitlines()[-1] if options.quiet else found)
    if options.json:
        write_atomically(pathlib.Path(options.json), (found.to_json() + "\n").encode())
        print(f"{len(found.results)} results in {options.json}")
    return 1 if found.differing else 0


def add_conform(commands):
    """``cnncore conform`` and its options."""
    sub = commands.add(
        conform,
        "compare another framework with cnncore",
        "examples:\n  cnncore conform torch max_pool avg_pool\n  cnncore conform my_framework.py --json results.json",
    )
    sub.add_argument(
        "framework",
        metavar="FRAMEWORK",
        help="torch, onnxruntime, jax, keras, or an adapter of your own: FILE.py",
    )
    sub.add_argument("name", nargs="*", metavar="OPERATOR", help="operators to compare (default: all)")
    sub.add_argument("--vectors", metavar="DIR", help="test vectors in files, instead of those computed now")
    sub.add_argument("--dtype", action="append", choices=("float32", "float64"), help="only this one (default: both)")
    sub.add_argument("--json", metavar="FILE", help="also write all results to a file")
    sub.add_argument("--quiet", action="store_true", help="print the last line only")
