"""cnncore as an oracle for other frameworks: test vectors of all operators, and frameworks compared with them.

    from cnncore.testing import conformance

    conformance.write_vectors("vectors")            # files that any language can read
    print(conformance.conform("torch"))             # where a framework differs, and by what
    conformance.conform("my_framework.py")          # one of your own: a file with a table of functions

``cnncore vectors`` and ``cnncore conform`` do the same on the command line; docs/conformance.md has the format of the files,
the protocol of an adapter, and the results for PyTorch and ONNX Runtime.
"""

from .adapter import Adapter, NotExpressible, adapter
from .comparison import LIMITS, Conformance, Result, conform
from .vectors import DTYPES, VERSION, Vector, read_vectors, vectors, write_vectors

__all__ = [
    "DTYPES",
    "LIMITS",
    "VERSION",
    "Adapter",
    "Conformance",
    "NotExpressible",
    "Result",
    "Vector",
    "adapter",
    "conform",
    "read_vectors",
    "vectors",
    "write_vectors",
]
