"""Whether an image is like those that a net was trained on: in its background, brightness, contrast and colour.

The ranges that these have in the training images are recorded in the model file, under "pixels". A net classifies an
image far outside them all the same, and confidently: dark ink on white paper, after training on light strokes on black.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .images import to_channels

__all__ = ["measures", "pixel_record", "unusual"]

MOST_MEASURED = 256  # images, evenly over the data set
FAR = 0.2  # of the range from black to white: the distance from the recorded range at which an image is reported
FAINT = 0.5  # of the lowest recorded contrast
COLOURED = 8  # levels between the channels of a pixel
KINDS = ("background", "brightness", "contrast")


def measures(pixels: NDArray[Any]) -> dict[str, float]:
    """Background (the mean of the outermost pixels), brightness (the mean) and contrast (the standard deviation).

    Parameters
    ----------
    pixels : uint8 array (H, W) or (H, W, 3)

    Returns
    -------
    dict of str to float
        On a scale from 0, black, to 1, white.

    Examples
    --------
    >>> measures(np.array([[0, 0, 0], [0, 255, 0], [0, 0, 0]], np.uint8))
    {'background': 0.0, 'brightness': 0.1111, 'contrast': 0.3143}
    """
    grey = to_channels(pixels, 1) / 255
    edge = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    found = {"background": edge.mean(), "brightness": grey.mean(), "contrast": grey.std()}
    return {name: round(float(value), 4) for name, value in found.items()}


def is_grey(pixels: NDArray[Any]) -> bool:
    """Whether an image has no colours, also if it is stored as RGB."""
    return pixels.ndim == 2 or int(np.ptp(pixels, axis=2).max()) <= COLOURED


def pixel_record(dataset: Any) -> dict[str, Any]:
    """The ranges of :func:`measures` in a data set, from the 1st to the 99th percentile, and the share of coloured images.

    Parameters
    ----------
    dataset : cnncore.train.data.Dataset
        At most 256 of its images are measured.

    Returns
    -------
    dict
        Plain values, for a model's metadata.
    """
    count = min(len(dataset), MOST_MEASURED)
    images = dataset.images[np.arange(count) * len(dataset) // count]
    rows = [measures(image) for image in images]
    found: dict[str, Any] = {
        name: [round(float(v), 4) for v in np.percentile([row[name] for row in rows], (1, 99))] for name in KINDS
    }
    return {**found, "coloured": round(1 - float(np.mean([is_grey(image) for image in images])), 4)}


def unusual(pixels: NDArray[Any], record: Any, inverted: bool = False) -> str | None:
    """How an image differs from those of the training, and what to do; None if it does not.

    Parameters
    ----------
    pixels : uint8 array (H, W) or (H, W, 3)
        As the net is given it.
    record : mapping or None
        As from :func:`pixel_record`. Anything else, as a file may contain it, is ignored.
    inverted : bool, optional
        Whether the image has been inverted already.

    Returns
    -------
    str or None

    Examples
    --------
    >>> record = {"background": [0.0, 0.1], "brightness": [0.05, 0.3], "contrast": [0.2, 0.4], "coloured": 0.0}
    >>> ink = np.full((8, 8), 250, np.uint8); ink[3:5, 2:6] = 20
    >>> unusual(ink, record)
    'its background is light, that of the training images dark; invert it: --invert'
    >>> unusual(255 - ink, record) is None
    True
    """
    ranges = {name: _range(record, name) for name in KINDS}
    found = measures(pixels)
    for name in ("background", "brightness"):
        low, high = ranges[name]
        value = found[name]
        if low - FAR <= value <= high + FAR:
            continue
        if name == "background" and low - FAR <= 1 - value <= high + FAR:
            here, there = ("light", "dark") if value > high else ("dark", "light")
            way = "omit --invert" if inverted else "invert it: --invert"
            return f"its background is {here}, that of the training images {there}; {way}"
        than = "lighter" if value > high else "darker"
        return (
            f"its {name}, {value:.2f} from black to white, is {than} than in the training images, {low:.2f} to {high:.2f}; "
            "correct its exposure, or train with such images"
        )
    low, _ = ranges["contrast"]
    if found["contrast"] < FAINT * low:
        return (
            f"its contrast, a standard deviation of {found['contrast']:.2f}, is below that of the training images, "
            f"{low:.2f} or more; increase it, or crop the image to the object"
        )
    coloured = record.get("coloured") if isinstance(record, Mapping) else None
    if pixels.ndim == 3 and coloured == 1 and is_grey(pixels):
        return "it is greyscale, the training images are coloured; classify colour images, or train with grey ones, too"
    return None


def _range(record: Any, name: str) -> tuple[float, float]:
    """(lowest, highest) in a record; no limits if it does not say."""
    found = record.get(name) if isinstance(record, Mapping) else None
    if isinstance(found, list) and len(found) == 2 and all(type(value) in (int, float) for value in found):
        return float(found[0]), float(found[1])
    return -np.inf, np.inf
