"""ONNX Runtime as a second oracle, forward: every row and case that one ONNX node expresses."""

import numpy as np
import pytest
from support.cases import cases, first
from support.oracles import compared_with

import cnncore
from cnncore.testing.conformance import NotExpressible

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from cnncore.testing.conformance.in_onnxruntime import OPERATORS as NODES

CASES = cases(where=lambda op: op.name in NODES)
compared, ran = set(), []


@pytest.mark.parametrize(("op", "case"), CASES)
def test_as_onnx_runtime(op, case):
    ran.append(case)
    reasons = []
    for rank in case.ranks:
        arrays = case.sample(rank, np.float32)
        y = np.asarray(first(op(*arrays, **case.settings)))
        try:
            expected = NODES[op.name]({**op.settings, **case.settings}, *arrays)
        except NotExpressible as reason:
            reasons.append(f"rank {rank}: {reason}")
            continue
        compared.add(op.name)
        compared_with("ONNX Runtime", op)
        assert expected.shape == y.shape
        difference = np.abs(y - expected).max(initial=0)
        assert difference <= 2e-5 * max(np.abs(expected).max(initial=0), 1e-3), f"rank {rank}: {difference:.3g}"
    if len(reasons) == len(case.ranks):
        pytest.skip("; ".join(reasons))


def test_every_node_was_compared():
    if len(ran) < len(CASES):
        pytest.skip("not all comparisons ran in this process")
    assert compared == set(NODES) & set(cnncore.OPS), f"never compared: {set(NODES) - compared}"
