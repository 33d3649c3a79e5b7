# Written by tools/generate.py from cnncore.runtime.cpu.

from .runtime.cpu import Costs as Costs
from .runtime.cpu import costs as costs
from .runtime.cpu import kernels as kernels
from .runtime.cpu import kernels_taken as kernels_taken
from .runtime.cpu import measure as measure
from .runtime.cpu import peak as peak
from .runtime.cpu import target as target
from .runtime.cpu import targets as targets

__all__ = ["Costs", "costs", "kernels", "kernels_taken", "measure", "peak", "target", "targets"]
