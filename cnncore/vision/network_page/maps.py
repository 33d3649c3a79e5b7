"""Maps as pictures: the channels of one value side by side in one grey PNG, whose levels the page colours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import images

__all__ = ["SPREAD", "level_range", "rounded", "sprite"]

SPREAD = 99.8  # percent of the numbers that a scale covers; the others get the colour of its end
LEVELS = 255


def rounded(number: float, digits: int = 4) -> float:
    """``number`` with ``digits`` significant digits; what is no number becomes 0, for JSON has none.

    >>> rounded(0.123456), rounded(123456.0), rounded(float("nan"))
    (0.1235, 123500.0, 0.0)
    """
    return float(f"{float(number):.{digits}g}") if math.isfinite(number) else 0.0


def level_range(values: NDArray[Any]) -> tuple[float, float]:
    """The ends of the scale of ``values``: from 0, or as far below 0 as above.

    >>> level_range(np.full(9, 2.0)), level_range(np.full(9, -3.0))
    ((0.0, 2.0), (-3.0, 3.0))
    """
    finite = np.abs(values[np.isfinite(values)])
    if not finite.size or not finite.any():
        return 0.0, 1.0
    high = float(np.percentile(finite, SPREAD)) or float(finite.max())
    return (-high if float(np.nanmin(values)) < 0 else 0.0), high


def sprite(planes: NDArray[Any]) -> dict[str, Any]:
    """Planes (count, h, w) as one picture for the page, all on one scale.

    ``columns`` planes lie in a row; the levels 0 to 255 of the picture are the numbers from ``low`` to ``high``.
    """
    count, height, width = planes.shape
    low, high = level_range(planes)
    levels = np.clip((np.nan_to_num(planes.astype(np.float64)) - low) / (high - low), 0, 1)
    columns = min(count, max(1, math.isqrt(count * height // max(width, 1)) or 1))
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width), np.uint8)
    sheet[:count] = np.rint(LEVELS * levels)
    sheet = sheet.reshape(rows, columns, height, width).transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    return {
        "src": images.png_data_uri(sheet),
        "columns": columns,
        "count": count,
        "height": height,
        "width": width,
        "low": rounded(low),
        "high": rounded(high),
    }
