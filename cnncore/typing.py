"""Types that signatures of several modules name."""

import os
from typing import TypeAlias

__all__ = ["FilePath"]

FilePath: TypeAlias = str | os.PathLike[str]
