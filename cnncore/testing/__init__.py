"""Checks that a backward pass is the derivative of its forward pass: for cnncore's operators and nets, and for yours.

    cnncore.testing.check_gradient(cnncore.max_pool, x, kernel_size=3)        an operator
    cnncore.testing.check_gradient(net, x)                                    a net: inputs and parameters
    cnncore.testing.check_net(net, x)                                         a large net, in seconds
    cnncore.testing.check_gradient(f, x, w)                                   any f(x, w) → (y, backward)

All return the largest error found, and raise GradientError at the first wrong element. The oracle is scipy.differentiate
with its error estimates. ``python -m cnncore check`` runs :func:`check_operators` over all operators.
"""

from ..errors import GradientError, KinkError, KinkWarning
from .gradients import check_gradient
from .nets import check_net
from .operators import (
    Report,
    Row,
    check_adjoint,
    check_operator,
    check_operators,
    format_table,
    named_cases,
)

__all__ = [
    "GradientError",
    "KinkError",
    "KinkWarning",
    "Report",
    "Row",
    "check_adjoint",
    "check_gradient",
    "check_net",
    "check_operator",
    "check_operators",
    "format_table",
    "named_cases",
]
