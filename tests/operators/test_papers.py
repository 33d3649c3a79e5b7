"""The papers as oracles: naive transcriptions of the formulas in tests/support/papers_*.py.

They are plain loops that know nothing of our code.

Each of those modules has ``ORACLES``: the operator's name → a function of its settings (all, with defaults) and its float64
arrays that returns y.
"""

import numpy as np
import pytest
from support.cases import cases, first
from support.oracles import compared_with
from support.papers import ORACLES

import cnncore

# Of the largest value of y.
LIMIT = {np.float64: 1e-12, np.float32: 2e-5}


@pytest.mark.parametrize(("op", "case", "rank"), cases(ranks=True, where=lambda op: op.name in ORACLES))
@pytest.mark.parametrize("dtype", LIMIT, ids=lambda dtype: dtype.__name__)
def test_as_the_paper_says(op, case, rank, dtype):
    arrays = case.sample(rank, dtype, seed=7)
    found = np.asarray(first(op(*arrays, **case.settings)))
    exact = [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in arrays]
    expected = np.asarray(ORACLES[op.name]({**op.settings, **case.settings}, *exact))
    compared_with("formulas of papers, transcribed", op)
    assert found.dtype == dtype and found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0) <= LIMIT[dtype] * np.abs(expected).max(initial=0)


def test_every_transcription_is_of_an_operator():
    assert set(ORACLES) <= set(cnncore.OPS), set(ORACLES) - set(cnncore.OPS)
