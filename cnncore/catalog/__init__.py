"""The catalogue: one row per operator, the only place where an operator is registered.

Tests, gradient checks, documentation, benchmarks, type stubs and the command line are derived from these rows.
"""

from types import MappingProxyType

from . import (
    activation,
    blocks,
    columns,
    convolution,
    layers,
    pooling,
    sampling,
    statistics,
    transforms,
    upsampling,
    weighting,
)

__all__ = ["OPS"]

FAMILIES = {
    "convolution": (*convolution.ROWS, *columns.ROWS, *blocks.ROWS),
    "pooling": (*pooling.ROWS, *sampling.ROWS, *statistics.ROWS, *transforms.ROWS, *weighting.ROWS),
    "activation": activation.ROWS,
    "layers": (*layers.ROWS, *upsampling.ROWS),
}

OPS = MappingProxyType({row.name: row for rows in FAMILIES.values() for row in rows})
