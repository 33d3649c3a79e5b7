"""The registry: every operator by name. A schema in its family's ``schemas.py`` is an operator's only registration.

Tests, gradient checks, documentation, benchmarks, type stubs and the command line are derived from these rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..errors import SettingError
from .activation import schemas as activation
from .arrays import schemas as arrays
from .blocks import schemas as blocks
from .columns import schemas as columns
from .comparison import schemas as comparison
from .convolution import schemas as convolution
from .dropout import schemas as dropout
from .indexing import schemas as indexing
from .joining import schemas as joining
from .losses import schemas as losses
from .normalization import schemas as normalization
from .operator import Op
from .pooling import schemas as pooling
from .pooling.implementation import SCHEMES, Grid, Pooling, Strategy
from .quantization import schemas as quantization
from .sampling import schemas as sampling
from .shape import schemas as shape
from .statistics import schemas as statistics
from .transforms import schemas as transforms
from .upsampling import schemas as upsampling
from .weighting import schemas as weighting

__all__ = ["CUSTOM", "GRIDS", "OPS", "check_free", "find", "forget", "register"]

GROUPS: dict[str, tuple[Op, ...]] = {
    "convolution": (*convolution.SCHEMAS, *columns.SCHEMAS, *blocks.SCHEMAS),
    "pooling": (*pooling.SCHEMAS, *sampling.SCHEMAS, *statistics.SCHEMAS, *transforms.SCHEMAS, *weighting.SCHEMAS),
    "activation": activation.SCHEMAS,
    "layers": (
        *normalization.SCHEMAS,
        *dropout.SCHEMAS,
        *joining.SCHEMAS,
        *shape.SCHEMAS,
        *losses.SCHEMAS,
        *upsampling.SCHEMAS,
    ),
    "arrays": (
        *arrays.SCHEMAS,
        *comparison.SCHEMAS,
        *indexing.SCHEMAS,
        *quantization.SCHEMAS,
        *upsampling.SAMPLING,
    ),
}

OPS: Mapping[str, Op] = MappingProxyType({row.name: row for rows in GROUPS.values() for row in rows})

# Operators made on demand from two independent halves, by the name that stands for all of them.
GRIDS: Mapping[str, Grid] = MappingProxyType(
    {"pool": Grid([row for row in pooling.SCHEMAS if type(row.implementation) is Pooling], SCHEMES)}
)

# Operators that users wrote in Python, by name: those that are no pooling (GRIDS has the strategies).
CUSTOM: dict[str, Op] = {}


def check_free(name: str, strategy: bool) -> None:
    """Raise unless an operator, or a pooling ``strategy``, of this name can be registered: it replaces only its like."""
    for each in GRIDS["pool"].names_of(name) if strategy else [name]:
        taken = find(each)
        if taken is not None:
            its = getattr(taken.implementation, "strategy", None)
            if not taken.origin or (its is None) == strategy or (its is not None and its.name != name):
                raise SettingError(f"{name}: there is an operator called {each!r} already; choose another name")


def register(definition: Op | Strategy) -> None:
    """Make an operator or a pooling strategy written in Python known by its name, in place of one of the same name."""
    check_free(definition.name, isinstance(definition, Strategy))
    if isinstance(definition, Strategy):
        if definition.name in GRIDS["pool"].strategies:
            GRIDS["pool"].remove(definition.name)
        GRIDS["pool"].add(definition)
    else:
        CUSTOM[definition.name] = definition


def forget(name: str) -> None:
    """Forget an operator written in Python; of a pooling, the strategy with all its operators."""
    op = find(name)
    if op is not None and op.origin and CUSTOM.pop(name, None) is None:
        GRIDS["pool"].remove(op.implementation.strategy.name)  # type: ignore[attr-defined]  # it is a Pooling


def find(name: str) -> Op | None:
    """The operator called ``name``: a row, one written in Python, or a point of a grid; None where there is none."""
    if name in OPS:
        return OPS[name]
    if name in CUSTOM:
        return CUSTOM[name]
    return next((op for grid in GRIDS.values() if (op := grid.find(name)) is not None), None)
