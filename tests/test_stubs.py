"""The type hints are consistent, the stubs say what is imported, and a program that uses them is checked as it should be."""

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.cases import operators
from support.processes import ROOT

import cnncore
from cnncore.operators.registry import GRIDS

PACKAGE = Path(cnncore.__file__).parent
ALLOWED = ROOT / "tools" / "stubtest_allowlist.txt"
needs_mypy = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import mypy"], capture_output=True).returncode != 0,
    reason="mypy is not installed: pip install 'cnncore[lint]'",
)
needs_source = pytest.mark.skipif(not ALLOWED.exists(), reason="needs the source tree beside the tests")


def tool():
    """tools/stubs.py, which writes the stubs."""
    return runpy.run_path(str(ROOT / "tools" / "stubs.py"))


def checked(tmp_path, module, *arguments):
    """What mypy or stubtest prints about the package that the tests run on."""
    installed = "site-packages" in PACKAGE.parts
    known = {} if installed else {"MYPYPATH": str(PACKAGE.parent)}
    result = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "NO_COLOR": "1", **known},
        capture_output=True,
        text=True,
    )
    return result.returncode, result.stdout + result.stderr


@needs_mypy
@needs_source
@pytest.mark.long
def test_stubs_say_what_is_imported(tmp_path):
    """stubtest reads all modules as mypy does, so that wrong hints are found too."""
    operators_file = tmp_path / "operators.txt"
    operators_file.write_text("\n".join(tool()["differing"]()), encoding="utf-8")
    code, report = checked(
        tmp_path,
        "mypy.stubtest",
        "cnncore",
        "--concise",
        *("--mypy-config-file", ROOT / "pyproject.toml"),
        *("--allowlist", ALLOWED, "--allowlist", operators_file),
    )
    assert code == 0, report[-4000:]


PROGRAM = """
import numpy as np

import cnncore
from cnncore.classify import Classifier

g = cnncore.Graph()
x = g.input(channels=3)
h = g.conv(x, 16, kernel_size=3, padding_mode="reflect", activation="relu")
h = g.stochastic_pool(h, 2, training=True)
g.output(g.linear(g.global_avg_pool(h), 10))
g.cnov(x, 16)  # error: there is no such operator
g.conv(x, 16, kernal_size=3)  # error: nor such a setting
g.conv(x, 16, 3, padding_mode="mirror")  # error: nor such a mode
g.conv(np.zeros(3), 16, 3)  # error: an array is no value of a graph
net = g.build(seed=0)
net.training = True
net.fit(1)  # error: a net has no such method
images: np.ndarray = cnncore.avg_pool(np.zeros((1, 3, 8, 8)), kernel_size=2)
y, backward = cnncore.conv.with_backward(images, np.zeros((4, 3, 3, 3)))
cnncore.relu(images, slope=0.1)  # error: relu has no settings
with cnncore.cpu.target("baseline"), cnncore.threads(1):
    peak: float = cnncore.cpu.peak("float32")
trainer = cnncore.train.Trainer(net, cnncore.train.SGD(0.1), loss="softmax_cross_entropy")
trainer = cnncore.train.Trainer(net, 0.1)  # error: a learning rate is no optimizer
accuracy: float | None = trainer.fit(images, np.zeros(1, int), epochs=1)[-1].accuracy
cnncore.io.save_onnx(net, "net.onnx")
loaded: cnncore.Graph = cnncore.io.load_onnx("net.onnx")  # error: it is a net
answer: str = Classifier(net).classify("photo.png").answer
report: str = cnncore.io.load_weights(net, {"linear.w": images})  # error: it is a report
error: float = cnncore.testing.check_gradient(net, images)
cnncore.models.resnet50(clases=3)  # error: the setting is called classes
"""


@needs_mypy
def test_a_program_is_checked_as_it_should_be(tmp_path):
    """Each line that says so is an error, and no other is."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    _, report = checked(tmp_path, "mypy", "--strict", "--no-error-summary", program)
    found = {int(line.split(":")[1]) for line in report.splitlines() if ": error:" in line}
    assert found == {n for n, line in enumerate(PROGRAM.splitlines(), 1) if "# error" in line}, report


# ── What the stubs are written from ────────────────────────────────────────────────────────────────────────────────────


def names_in(stub):
    """Names that a stub defines or exports."""
    found = set()
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname for alias in node.names}
        elif isinstance(node, ast.AnnAssign):
            found.add(node.target.id)
    return found


def test_every_public_name_is_in_the_stub():
    assert set(cnncore.__all__) <= names_in(PACKAGE / "__init__.pyi")
    assert len(cnncore.__all__) == len(set(cnncore.__all__))


def test_every_operator_is_a_method_of_graphs_in_the_stub():
    (cls,) = (
        node
        for node in ast.parse((PACKAGE / "nets" / "operator_methods.pyi").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    )
    assert {method.name for method in cls.body} == {*cnncore.OPS, *GRIDS, "__dir__"}


@needs_source
@pytest.mark.parametrize("op", operators())
def test_the_operator_returns_what_its_stub_says(op):
    if tool_says_one_array(op):
        case = op.cases[0]
        y = op(*case.sample(case.ranks[0]), **case.settings)
        assert isinstance(y, np.ndarray)


def tool_says_one_array(op):
    if not hasattr(tool_says_one_array, "rule"):
        tool_says_one_array.rule = tool()["returns_one_array"]
    return tool_says_one_array.rule(op)
