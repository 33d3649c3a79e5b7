"""Rows of the activations."""

from ..families.elementwise import Elementwise
from ..operator import Case, Op
from ..ops import activation

__all__ = ["ROWS"]

ROWS = (
    Op(
        "relu",
        Elementwise(activation.RELU),
        family="activation",
        catalogue=("A10",),
        summary="Keeps what is positive.",
        formula="y = max(0, x)",
        gradient="∂y/∂x = 1 for x > 0, else 0",
        shape="any shape → the same",
        edges=("x = 0: the subgradient 0 is taken", "NaN: comes through"),
        smooth=False,
        paper="Nair & Hinton 2010, ICML",
        cases=(Case(),),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.relu(np.array([-1., 0., 2.]))
            array([0., 0., 2.])
        """,
    ),
)
