"""Preprocessing of images: resizing, centre crop, channel order, mean and standard deviation.

A net stores it in ``net.metadata``, as plain values that are saved in all formats:

    mean, std       of pixels × scale, one number or one per channel          0 and 1 where they are missing
    scale           factor applied to pixels of 0 to 255                       1/255
    channel_order   "rgb", or "bgr" for nets that were trained in Caffe or OpenCV
    resize          length of the shorter side; the aspect ratio is kept
    crop            [height, width] of the centre crop after resizing
    classes         names of the classes, in the order of the scores

    x = (scale · pixel − mean) / std
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import opened_file
from ..errors import DataError, DtypeError, ModelFileError, SettingError, ShapeError, unknown_name
from ..typing import FilePath
from . import images

__all__ = ["PRESETS", "Preprocessing", "read_classes"]

MOST_PIXELS_ALONG = 1 << 14
MOST_CLASS_BYTES = 1 << 24

ENTRIES = ("mean", "std", "scale", "channel_order", "resize", "crop")

# The preprocessing that networks of these origins were trained with.
PRESETS = {
    # torchvision's ImageNet networks, and most others trained in PyTorch
    "imagenet": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "resize": 256, "crop": [224, 224]},
    # Caffe's: means of blue, green and red, no scale
    "caffe": {"mean": [104.0, 117.0, 123.0], "scale": 1.0, "channel_order": "bgr", "resize": 256, "crop": [224, 224]},
    # TensorFlow's Inception and MobileNet networks: from −1 to 1
    "inception": {"mean": [0.5], "std": [0.5], "resize": 256, "crop": [224, 224]},
}


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing for a net of ``channels`` channels, from the net's metadata, which is validated.

    Parameters
    ----------
    channels : int
    mean, std : array (channels,)
        Mean and standard deviation of pixels / 255.
    order : {"rgb", "bgr"}, optional
        Order of the channels.
    resize : int, optional
        Extent of the shorter side.
    crop : (int, int), optional
        Height and width of the centre crop after that.

    Examples
    --------
    >>> import numpy as np
    >>> prepare = Preprocessing.from_metadata("a net", {"mean": [1.0], "scale": 1.0, "resize": 2, "crop": [2, 2]}, channels=1)
    >>> pixels = prepare.framed(np.array([[1, 1, 3, 3, 5, 5, 7, 7]] * 4, np.uint8))        # 2×4, of which the middle stays
    >>> pixels
    array([[3, 5],
           [3, 5]], dtype=uint8)
    >>> prepare.numbers(pixels)
    array([[[[2., 4.],
             [2., 4.]]]], dtype=float32)
    """

    channels: int
    mean: np.ndarray  # of pixels / 255
    std: np.ndarray
    order: str = "rgb"
    resize: int | None = None
    crop: tuple[int, int] | None = None

    @classmethod
    def from_metadata(cls, name: str, metadata: Mapping[str, Any], channels: int) -> Self:
        """The preprocessing in ``metadata``; ``name`` is that of the net in errors.

        Parameters
        ----------
        name : str
        metadata : mapping
            With the optional entries mean, std, scale, channel_order, resize and crop.
        channels : int
            The number of channels that the net takes.

        Returns
        -------
        Preprocessing

        Raises
        ------
        ModelFileError
            An entry has another form, or is out of range.
        """
        mean = channel_numbers(name, "mean", metadata.get("mean", [0.0]), channels)
        std = channel_numbers(name, "std", metadata.get("std", [1.0]), channels)
        if not (std > 0).all():
            raise ModelFileError(f"{name}: std in its metadata is {std.tolist()}; expected numbers above 0")
        scale = channel_numbers(name, "scale", metadata.get("scale", 1 / 255), 1)[0]
        if not scale > 0:
            raise ModelFileError(f"{name}: scale in its metadata is {scale}; expected a number above 0, such as 1/255")
        if "scale" in metadata:
            mean, std = mean / (255 * scale), std / (255 * scale)
        order = metadata.get("channel_order", "rgb")
        if order not in ("rgb", "bgr"):
            raise ModelFileError(f"{name}: channel_order in its metadata is {order!r}; expected 'rgb' or 'bgr'")
        resize, crop = metadata.get("resize"), metadata.get("crop")
        if resize is not None and not extent(resize):
            raise ModelFileError(f"{name}: resize in its metadata is {resize!r}; expected a number of pixels")
        if crop is not None and not (isinstance(crop, (list, tuple)) and len(crop) == 2 and all(map(extent, crop))):
            raise ModelFileError(f"{name}: crop in its metadata is {crop!r}; expected [height, width]")
        if crop is not None and crop[0] * crop[1] > images.LARGEST_IMAGE_PIXELS:
            raise ModelFileError(
                f"{name}: crop in its metadata is {crop!r}; expected at most {images.LARGEST_IMAGE_PIXELS:,} pixels"
            )
        return cls(channels, mean, std, order, resize, None if crop is None else (crop[0], crop[1]))

    @property
    def frames(self) -> bool:
        """Whether images are resized or cropped."""
        return self.resize is not None or self.crop is not None

    def framed(self, pixels: NDArray[Any], crop: Sequence[int] | None = None) -> NDArray[Any]:
        """The image with ``resize`` pixels along its shorter side, then its centre crop of size ``crop`` (by default
        that of this preprocessing).

        If the crop is larger than the image, the image is enlarged to the crop along that side.

        Parameters
        ----------
        pixels : uint8 array (H, W) or (H, W, 3)
        crop : (int, int), optional
            Height and width.

        Returns
        -------
        uint8 array
        """
        return framed(pixels, self.resize, self.crop if crop is None else crop)

    def numbers(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The image (H, W) or (H, W, 3) as the net takes it: float32 (1, C, H, W).

        Parameters
        ----------
        pixels : uint8 array (H, W) or (H, W, 3)

        Returns
        -------
        float32 array (1, C, H, W)

        Raises
        ------
        DtypeError, ShapeError
            ``pixels`` is not as above.
        SettingError
            ``mean`` or ``std`` is not finite, or ``std`` not above 0.
        """
        if self.order == "bgr" and pixels.ndim == 3:
            pixels = pixels[:, :, ::-1]
        return normalise(pixels[None], self.mean, self.std)


def framed(pixels: NDArray[Any], resize: int | None, crop: Sequence[int] | None) -> NDArray[Any]:
    """The image with ``resize`` pixels along its shorter side, then ``crop`` from its middle.

    Where the cut is larger than the image, the image is made as large as the cut along that side.

    Parameters
    ----------
    pixels : uint8 array (H, W) or (H, W, 3)
    resize : int, optional
    crop : (int, int), optional

    Returns
    -------
    uint8 array

    Examples
    --------
    >>> framed(np.zeros((30, 60), np.uint8), 20, (16, 16)).shape, framed(np.zeros((8, 8), np.uint8), None, (10, 4)).shape
    ((16, 16), (10, 4))
    """
    sides = pixels.shape[:2]
    factor = 1.0 if resize is None else resize / min(sides)
    if crop is not None:
        factor = max(factor, *(want / have for want, have in zip(crop, sides, strict=True)))
    if factor != 1.0:
        least = (1, 1) if crop is None else crop
        pixels = images.resize(pixels, [max(round(factor * side), low) for side, low in zip(sides, least, strict=True)])
    return pixels if crop is None else centre(pixels, crop)


def centre(pixels: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """The centre crop of ``size``; if the margins differ, the bottom and the right one are one pixel larger."""
    first = [(have - want) // 2 for have, want in zip(pixels.shape[:2], size, strict=True)]
    return pixels[first[0] : first[0] + size[0], first[1] : first[1] + size[1]]


def extent(value: Any) -> bool:
    """Whether a value from a file is a valid number of pixels."""
    return type(value) is int and 0 < value <= MOST_PIXELS_ALONG


def channel_numbers(name: str, what: str, numbers: Any, channels: int) -> NDArray[Any]:
    """``numbers`` of the metadata, one per channel, as an array."""
    try:
        array = np.array(numbers, np.float64)
    except (TypeError, ValueError):
        array = np.array([np.nan])
    if array.shape in ((), (1,)):
        array = np.repeat(array, channels)
    if array.shape != (channels,) or not np.isfinite(array).all():
        raise ModelFileError(f"{name}: {what} in its metadata is {numbers!r}; expected {channels} finite numbers")
    return array


def read_classes(path: FilePath) -> list[str]:
    """Names of classes from a file: one per line, or JSON, either a list or a mapping from class numbers as in Keras.

    Parameters
    ----------
    path : path

    Returns
    -------
    list of str

    Raises
    ------
    DataError
        The file contains no names of classes, or is not in UTF-8 or UTF-16.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "classes.txt"
    ...     _ = file.write_text("tench\\ngoldfish\\n")
    ...     read_classes(file)
    ['tench', 'goldfish']
    """
    with opened_file(path, "the names of the classes, one per line, or JSON") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_CLASS_BYTES:
            raise DataError(
                f"{path}: {size} bytes is too large for a list of class names; expected one name per line, or JSON"
            )
        text = decoded(path, file.read())
    if text.lstrip()[:1] not in ("[", "{"):
        names = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        try:
            found = json.loads(text)
            if isinstance(found, dict):  # {"0": "tench", …} or {"0": ["n01440764", "tench"], …}
                found = [found[str(number)] for number in range(len(found))]
                found = [name[-1] if isinstance(name, list) and name else name for name in found]
            names = found
        except (ValueError, KeyError, RecursionError):
            names = None
    if not names or not all(isinstance(name, str) for name in names):
        raise DataError(f'{path}: no names of classes; one per line, a JSON list, or JSON {{"0": name, …}}')
    return names


def decoded(path: FilePath, content: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {content[error.start]:#04x} at place {error.start} is no {encoding.removesuffix('-sig').upper()}; "
            "save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise DataError(f"{path}: it contains NUL and is not text; save the file as UTF-8")
    return text


def preset(name: str) -> dict[str, Any]:
    """The entries of a preset, by name; None for those that keep their defaults.

    Parameters
    ----------
    name : str
        One of :data:`PRESETS`.

    Returns
    -------
    dict

    Raises
    ------
    SettingError
        ``name`` is unknown.
    """
    if name not in PRESETS:
        raise SettingError(unknown_name("preprocessing", "collection", name, PRESETS))
    return dict.fromkeys(ENTRIES) | PRESETS[name]


def normalise(images: ArrayLike, mean: ArrayLike, std: ArrayLike) -> NDArray[Any]:
    """Normalise pixels for a network: (pixel / 255 − mean) / std, float32, channels first.

    Parameters
    ----------
    images : uint8 or float32 array (n, H, W) or (n, H, W, C)
        Pixel values from 0 to 255. A single image? Use ``image[None]``.
    mean, std : sequence of float
        One per channel, of pixels / 255, as `Dataset` records them.

    Returns
    -------
    numpy.ndarray
        float32 (n, C, H, W), contiguous.

    Raises
    ------
    ShapeError, DtypeError
        ``images`` is not as described, or ``mean`` or ``std`` is not one number per channel.
    SettingError
        ``mean`` or ``std`` is not finite, or ``std`` not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> normalise(np.array([[[0, 255]]], np.uint8), mean=[0.5], std=[0.25])
    array([[[[-2.,  2.]]]], dtype=float32)
    """
    images = np.asarray(images)
    if images.dtype not in (np.uint8, np.float32):
        raise DtypeError(f"normalise: images are {images.dtype}; expected uint8 or float32 from 0 to 255")
    if images.ndim == 3:
        images = images[:, :, :, None]
    mean, std = np.atleast_1d(mean).astype(np.float64), np.atleast_1d(std).astype(np.float64)
    if images.ndim != 4 or not mean.shape == std.shape == images.shape[3:]:
        raise ShapeError(
            f"normalise: images are {images.shape}, mean {mean.shape}, std {std.shape}; "
            "expected (n, H, W, C), (C,), (C,)"
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise SettingError(f"normalise: mean {mean} and std {std} must be finite, std above 0")
    x = np.empty((images.shape[0], images.shape[3], *images.shape[1:3]), np.float32)
    np.multiply(images.transpose(0, 3, 1, 2), (1 / (255 * std)).astype(np.float32)[:, None, None], out=x)
    x -= (mean / std).astype(np.float32)[:, None, None]
    return x
