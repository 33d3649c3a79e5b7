"""ONNX's own tests of its operators: every case whose operators are imported, against the results stored with it.

A case that does not run has a reason, which docs/onnx_cases.md lists; the counts are printed at the end of the run.
"""

import functools
import importlib.util
import re
import warnings

import numpy as np
import pytest
from support.oracles import note
from support.processes import ROOT

import cnncore
from cnncore import ModelFileError

onnx = pytest.importorskip("onnx")

from cnncore.io.onnx_import.load import OPERATORS  # noqa: E402
from cnncore.io.onnx_import.shapes import ON_NUMBERS  # noqa: E402

# Which inputs of a node are images; the others are numbers that a file holds. What is not named: the first alone.
EVERY = tuple(range(20))
IMAGES = dict.fromkeys(
    ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Concat", "MatMul", "Mod"), EVERY
)
IMAGES |= dict.fromkeys(
    ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Where"), EVERY
)
IMAGES |= dict.fromkeys(("GatherElements", "GatherND", "ScatterElements", "Scatter", "ScatterND", "Einsum"), EVERY)
IMAGES |= dict.fromkeys(("Attention", "RotaryEmbedding"), EVERY)
IMAGES |= {"DeformConv": (0, 2, 4), "RoiAlign": (0, 1, 2), "MaxUnpool": (0, 1), "GridSample": (0, 1)}
# Their results are stored to four digits.
ROUNDED = {
    "test_averagepool_2d_ceil_last_window_starts_on_pad",
    "test_roialign_aligned_false",
    "test_roialign_aligned_true",
    "test_roialign_mode_max",
}
LIMIT = {"float32": 1e-5, "float64": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}


@functools.cache
def all_cases():
    """Name → case, of one version of ONNX's operators: the newest."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None)}


def own_cases(operator):
    """Name → case, of those that are one node of ``operator``. Each module of the package makes the cases of one operator."""
    package = "onnx.backend.test.case.node"
    if "." in operator:  # of another domain: ONNX has no cases of ONNX Runtime's own operators
        return {}
    if importlib.util.find_spec(f"{package}.{operator.lower()}") is None:
        found = all_cases()
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(f"{package}.{operator.lower()}")
            found = {case.name: case for case in importlib.import_module(package)._NodeTestCases}
    return {
        name: case
        for name, case in found.items()
        if [(node.domain, node.op_type) for node in case.model.graph.node] == [("", operator)]
    }


class NotForNets(Exception):
    """The case asks for something that is no network."""


def prepared(case):
    """(model, values of its inputs, results, float type) with what is no image as numbers of the file."""
    given, expected = case.data_sets[0]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    given, expected = (
        [np.asarray(a) if isinstance(a, np.generic) else a for a in arrays] for arrays in (given, expected)
    )
    if any(not isinstance(a, np.ndarray) for a in (*given, *expected)):
        raise NotForNets("takes or makes sequences, optional values or numbers of types that numpy lacks")
    first = graph.node[0]
    places = IMAGES.get(first.op_type, (0,)) if len(graph.node) == 1 else None
    feeds, front, dtype = [], [], "float32"
    rows = list(graph.input)
    for row, array in zip(rows, given, strict=True):
        place = next((i for i, name in enumerate(first.input) if name == row.name), None)
        is_real = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
        image = is_real if places is None else place in places
        if not image:
            graph.input.remove(row)
            graph.initializer.append(onnx.numpy_helper.from_array(array, row.name))
            continue
        if not is_real and array.dtype.kind not in "iub":
            raise NotForNets(f"takes {array.dtype} as an image; nets take numbers and booleans")
        if is_real:
            dtype = array.dtype.name
            array = array.astype(np.float64 if dtype == "float64" else np.float32)
        if not array.size:
            raise NotForNets("takes an image without values")
        if array.ndim < 2 and (is_real or not array.ndim):  # (N, C, …): the axes go in the first node
            shape = list(array.shape)
            array = array.reshape(1, -1)
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape, np.int64), f"{row.name}_shape"))
            front.append(onnx.helper.make_node("Reshape", [f"{row.name}_flat", f"{row.name}_shape"], [row.name]))
            row.name += "_flat"
            kind = row.type.tensor_type.elem_type
            row.CopyFrom(onnx.helper.make_tensor_value_info(row.name, kind, array.shape))
        feeds.append(array)
    nodes = [*front, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    if not feeds:
        raise NotForNets("depends on no image")
    return model.SerializeToString(), feeds, expected, dtype


DISPUTED = {
    name: "the reference counts 2.4 pixels where the result has 2; ONNX Runtime does not either"
    for name in (
        "test_resize_downsample_scales_linear_align_corners",
        "test_resize_downsample_scales_cubic_align_corners",
    )
}


def skipped(case):
    """Run a case: the reason why it cannot be, or None where the results are those stored with it."""
    odd = [node for node in case.model.graph.node if node.domain not in ("", "ai.onnx")]
    if odd:
        return f"an operator of the domain {odd[0].domain}"
    unknown = sorted({node.op_type for node in case.model.graph.node} - set(OPERATORS) - set(ON_NUMBERS))
    if unknown:
        return f"the operator {unknown[0]} is not imported"
    if case.name in DISPUTED:
        return DISPUTED[case.name]
    try:
        content, feeds, expected, dtype = prepared(case)
        net = cnncore.io.load_onnx(content)
    except NotForNets as reason:
        return str(reason)
    except ModelFileError as error:
        return re.sub(r"^ONNX bytes: |'[^']*' ", "", str(error))
    found = net(*feeds)
    found = found if isinstance(found, tuple) else (found,)
    limit = 1e-4 if case.name in ROUNDED else LIMIT[dtype]
    for y, right in zip(found, expected, strict=True):
        assert y.shape == right.shape, case.name
        assert (y.dtype.kind in "iub") == (right.dtype.kind in "iub"), case.name
        if y.dtype.kind in "iub":
            assert np.array_equal(y, right), case.name
            continue
        right = right.astype(y.dtype)
        finite = np.isfinite(right)
        assert np.array_equal(np.where(finite, 0, right), np.where(finite, 0, y), equal_nan=True), case.name
        largest = max(np.abs(right[finite]).max(initial=0), 1e-3 if limit < 1e-4 else 1)
        assert np.abs(y[finite] - right[finite]).max(initial=0) <= limit * largest, case.name
    return None


# Imported operators none of whose own cases can be a net, and where they are tested.
NO_OWN_CASES = {
    "Cast": "from or to types that numpy lacks; test_onnx_quantized.py",
    "CastLike": "as Cast",
    "Constant": "depends on no image; a part of most files",
    "ConstantOfShape": "of a shape that is an image; test_onnx_sizes.py",
    "Range": "of bounds that are images; test_onnx_sizes.py",
}


PAGE = (ROOT / "docs" / "onnx_cases.md").read_text(encoding="utf-8")


def outcomes(cases):
    """Run cases: name → the reason why it is skipped, None where it is not. All that are wrong are named together."""
    reasons, wrong = {}, []
    for name, case in cases.items():
        try:
            reasons[name] = skipped(case)
        except (AssertionError, cnncore.CnnError) as error:
            wrong.append(f"{name}: {str(error)[:200]}")
    assert not wrong, "\n".join(wrong)
    if f"onnx {onnx.__version__}" in " ".join(PAGE.split()):
        lost = [name for name, reason in reasons.items() if reason and f"`{name}`" not in PAGE]
        assert not lost, f"skipped, but not in docs/onnx_cases.md (tools/onnx_cases.py writes it): {lost}"
        gained = [name for name, reason in reasons.items() if not reason and f"`{name}`" in PAGE]
        assert not gained, f"they run, but docs/onnx_cases.md says otherwise (tools/onnx_cases.py writes it): {gained}"
    return reasons


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_an_operator_s_own_cases(operator):
    """Of those that are one node at least one runs: what else is an image beside the first input, IMAGES says."""
    reasons = outcomes(own_cases(operator))
    if operator in NO_OWN_CASES or not reasons:
        assert None not in reasons.values(), "it has cases that run now: take it out of NO_OWN_CASES"
        return
    assert None in reasons.values(), (
        "none of ONNX's own cases runs. If more inputs than the first are images, add them in tests/io/test_onnx_nodes.py: "
        f"IMAGES |= {{{operator!r}: EVERY}}; otherwise name it in NO_OWN_CASES. {reasons}"
    )


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_an_operator_is_on_the_page(operator):
    listed = PAGE.partition("Operators that are imported")[2].split("\n\n")[0]
    assert re.search(rf"[\s,]{re.escape(operator)}[,.]", listed), f"run python tools/onnx_cases.py {operator}"


def of_one_operator(case):
    """Whether a case is one node of an operator that is imported: test_an_operator_s_own_cases runs it."""
    nodes = case.model.graph.node
    return len(nodes) == 1 and nodes[0].domain == "" and nodes[0].op_type in OPERATORS


def test_all_other_cases():
    """Those of several nodes run or are listed; and so many of all cases run."""
    cases = all_cases()
    outcomes({name: case for name, case in cases.items() if not of_one_operator(case)})
    skips = len(re.findall(r"`test_\w+`", PAGE.partition("| cases |")[2]))
    note(f"ONNX's own cases of operators: {len(cases) - skips} passed, {skips} skipped, 0 wrong")
    words = " ".join(PAGE.split())  # whichever way its lines are broken
    assert f"of the {len(cases)} cases" in words or f"onnx {onnx.__version__}" not in words
    assert len(cases) - skips >= 1250
