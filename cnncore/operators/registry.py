"""The registry: one row per operator, the only place where an operator is registered.

Tests, gradient checks, documentation, benchmarks, type stubs and the command line are derived from these rows.
"""

from types import MappingProxyType

from .activation import schemas as activation
from .arrays import schemas as arrays
from .blocks import schemas as blocks
from .columns import schemas as columns
from .comparison import schemas as comparison
from .convolution import schemas as convolution
from .indexing import schemas as indexing
from .normalization import schemas as layers
from .pooling import schemas as pooling
from .pooling.implementation import SCHEMES, Grid, Pooling
from .quantization import schemas as quantization
from .sampling import schemas as sampling
from .statistics import schemas as statistics
from .transforms import schemas as transforms
from .upsampling import schemas as upsampling
from .weighting import schemas as weighting

__all__ = ["GRIDS", "OPS", "find"]

FAMILIES = {
    "convolution": (*convolution.SCHEMAS, *columns.SCHEMAS, *blocks.SCHEMAS),
    "pooling": (*pooling.SCHEMAS, *sampling.SCHEMAS, *statistics.SCHEMAS, *transforms.SCHEMAS, *weighting.SCHEMAS),
    "activation": activation.SCHEMAS,
    "layers": (*layers.SCHEMAS, *upsampling.SCHEMAS),
    "arrays": (*arrays.SCHEMAS, *comparison.SCHEMAS, *indexing.SCHEMAS, *quantization.SCHEMAS),
}

OPS = MappingProxyType({row.name: row for rows in FAMILIES.values() for row in rows})

# Operators made on demand from two independent halves, by the name that stands for all of them.
GRIDS = MappingProxyType(
    {"pool": Grid([row for row in pooling.SCHEMAS if type(row.implementation) is Pooling], SCHEMES)}
)


def find(name):
    """The operator called ``name``, a row or a point of a grid; None where there is none."""
    if name in OPS:
        return OPS[name]
    return next((op for grid in GRIDS.values() if (op := grid.find(name)) is not None), None)
