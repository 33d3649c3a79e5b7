"""Types that signatures of several modules name."""

import os
from typing import TypeAlias

import numpy as np

__all__ = ["FilePath", "Seed"]

FilePath: TypeAlias = str | os.PathLike[str]
Seed: TypeAlias = int | np.random.Generator
