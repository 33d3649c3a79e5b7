"""What an operator brings beside its schema: one message per operator says what is missing, and where it goes.

docs/recipes/ has a page for each kind of addition.
"""

import re
import runpy

import pytest
from support.cases import operators
from support.papers import ORACLES as PAPERS
from support.papers_pooling import VALUES
from support.processes import ROOT

from cnncore.io.onnx_export.nodes import EXPORTERS, REFUSED
from cnncore.io.onnx_export.pooling import STRATEGIES
from cnncore.operators.activation.elementwise import Elementwise
from cnncore.operators.blocks.implementation import Composition
from cnncore.operators.peers import PEERS

pytestmark = pytest.mark.skipif(not (ROOT / "tools").exists(), reason="needs the source tree beside the tests")

# Oracles that PyTorch computes; read as text, since it need not be installed.
IN_PYTORCH = (
    "cnncore/testing/conformance/in_torch/operators.py",
    "cnncore/testing/conformance/in_torch/arrays.py",
    "cnncore/testing/conformance/in_torch/poolings.py",
    "tests/support/torch_oracles.py",
    "tests/operators/test_oracles.py",
)


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def strategy_of(op):
    """The name of the strategy of a pooling that is a point of the grid; None of other operators."""
    strategy = getattr(op.implementation, "strategy", None)
    return getattr(strategy, "name", None)


def missing_oracle(op):
    name = strategy_of(op)
    if name is not None:
        return (
            name not in VALUES,
            "tests/support/papers_pooling.py",
            f"at the end of VALUES: {name!r}: lambda s, v, t, p, drawn: …",
        )
    path = f"tests/support/papers_{op.group}.py"
    path = path if (ROOT / path).exists() else "tests/support/papers_sampling.py"
    there = op.name in PAPERS or any(f'"{op.name}"' in text(p) for p in IN_PYTORCH)
    return (
        not there,
        path,
        f"at the end of ORACLES: {op.name!r}: the formula once more (or PyTorch's, in {IN_PYTORCH[0]}; or in NO_ORACLE why none)",
    )


def missing_form(op):
    name = strategy_of(op)
    if name is not None:
        return (
            name not in STRATEGIES,
            "cnncore/io/onnx_export/pooling.py",
            f"at the end of the file: @strategy({name!r})",
        )
    path = "cnncore/io/onnx_export/compositions.py"
    way = f"exports({op.name!r})(composed)" if isinstance(op.implementation, Composition) else f"@formula({op.name!r})"
    there = op.name in EXPORTERS or op.name in REFUSED
    return not there, path, f"at the end of the file: {way}, or in REFUSED why ONNX has no words for it"


def missing_entry(op):
    entries = runpy.run_path(str(ROOT / "tools" / "literature.py"))["ENTRIES"]
    unknown = [entry for entry in op.literature if entry not in entries]
    there = not unknown and (op.literature or op.group == "arrays")
    asked = ", ".join(unknown) or "literature=(…) of the schema"
    return not there, "tools/literature.py", f"in ENTRIES: {asked}: the operator's name in the literature"


def missing_knees(op):
    path = "tests/operators/activation/test_activations.py"
    needed = op.group == "activation" and isinstance(op.implementation, Elementwise) and op.name != "selu"
    there = re.search(rf'^    \("{op.name}",', text(path), flags=re.MULTILINE)
    return (
        needed and not there,
        path,
        f'at the end of KNEES: ("{op.name}",): [(x, y, slope), …] at ±∞, the bends and NaN',
    )


def missing_layer(op):
    path = "tests/operators/blocks/test_blocks.py"
    needed = isinstance(op.implementation, Composition) and op.layer.parameters
    return (
        needed and f"g.{op.name}(" not in text(path),
        path,
        f'at the end of LAYERS: "{op.name}": lambda g, x: g.{op.name}(x, …)',
    )


def missing_documentation(op):
    page, picture = f"docs/operators/{op.name}.md", f"docs/operators/pictures/{op.name}.svg"
    listed = f"[{op.name}](operators/{op.name}.md)" in text("docs/operators.md")
    there = listed and (ROOT / page).exists() and (ROOT / picture).exists()
    return not there, page, "run python tools/dev.py generate"


def missing_counterparts(op):
    return (
        op.name not in PEERS,
        "cnncore/operators/peers.py",
        f"at the end of PEERS: {op.name!r}: its names in PyTorch, TensorFlow, Keras and ONNX, or () where none has it",
    )


ASKED = (
    missing_oracle,
    missing_form,
    missing_entry,
    missing_counterparts,
    missing_knees,
    missing_layer,
    missing_documentation,
)


@pytest.mark.parametrize("op", operators())
def test_an_operator_brings_all_that_is_asked_for(op):
    found = [ask(op) for ask in ASKED]
    missing = [f"{path}: {what}" for lacks, path, what in found if lacks]
    assert not missing, f"{op.name} still needs (docs/recipes/ shows each):\n" + "\n".join(missing)
