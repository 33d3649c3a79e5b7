"""Random distortions of training images: shift, rotation, scale, shear, mirror images, random crops, and colour.

What happens to an image depends on the seed, the epoch and the image's number in the data set alone: not on the batch
it is in, the order of batches, or the number of threads. (Mixup is the exception: it takes a second image from the
batch.) For that, draws come from the counter-based generator Philox
(Salmon et al. 2011, doi:10.1145/2063384.2063405), keyed by (seed, epoch) and read at the image's own position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import integer, number, per_axis
from ..errors import DtypeError, SettingError, ShapeError

__all__ = ["Augment", "batch_plan", "part_of_batch", "uniform", "warp"]

LARGEST_SEED = 2**63 - 1
# What a stream of random numbers is for: none is used twice.
ORDER_OF_BATCHES, DISTORTION, SPLIT, PHOTO, MIXUP = 0, 1, 2, 3, 4
DRAWS_PER_IMAGE = (
    10  # rotation, scale, shear, shift, flip, enlargement and place on the canvas; all but 3 along y and x
)
DRAWS_PER_PHOTO = 8  # more, where there are crops or colours: area, proportions, place along y and x, three of colour
IMAGES_PER_CHUNK = 64  # of 28×28: the work arrays of a chunk stay in the L2 cache


def uniform(seed: int, epoch: int, purpose: int, count: int) -> NDArray[Any]:
    """Return ``count`` numbers in [0, 1), each of which depends only on (seed, epoch, purpose) and its position.

    Parameters
    ----------
    seed, epoch : int
        0 to 2⁶³ − 1, the key of the generator.
    purpose : int
        Separates the streams of one key: ORDER_OF_BATCHES, DISTORTION, SPLIT, PHOTO or MIXUP.
    count : int

    Returns
    -------
    float64 array (count,)

    Raises
    ------
    SettingError
        ``seed`` or ``epoch`` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> np.array_equal(uniform(seed=0, epoch=3, purpose=1, count=2), uniform(seed=0, epoch=3, purpose=1, count=9)[:2])
    True
    """
    seed = integer("uniform", "seed", seed, 0, LARGEST_SEED)
    epoch = integer("uniform", "epoch", epoch, 0, LARGEST_SEED)
    key = np.array([seed, epoch], np.uint64)
    # The raw stream: NumPy guarantees it across releases, unlike that of Generator.random.
    raw = np.random.Philox(key=key, counter=np.array([0, 0, 0, purpose], np.uint64)).random_raw(count)
    return (raw >> np.uint64(11)) * 2.0**-53


@dataclass(frozen=True)
class Augment:
    """How far training images may be distorted. Calling it augments a batch.

    Each draw is uniform within ± its limit. The defaults suit handwritten digits, which remain legible.

    Parameters
    ----------
    shift : float, optional
        Fraction of height and width.
    rotation : float, optional
        Degrees.
    scale : float, optional
        0.1 means factors from 1/1.1 to 1.1, evenly in the logarithm.
    shear : float, optional
        Degrees by which upright lines lean.
    flip : bool, optional
        Mirror left and right with probability ½. Not for digits or letters.
    fill : float or "edge", optional
        What replaces pixels outside the image: a pixel value from 0 to 255, or the nearest pixel of the border.
    canvases : sequence of (float, float), optional
        Multiples of height and width, 1 or more, so that a network that takes images of any size is trained at several.
        The batches of an epoch use them in turn (:func:`batch_plan`). Height and width of every image are enlarged
        independently, by factors drawn uniformly on a logarithmic scale, to at most those of the canvas; then the image
        is placed at random within it.
    least, smallest : float, optional
        Lower bounds of the enlarged height and width: ``least`` as a fraction of the canvas's, ``smallest`` as a
        fraction of the image's own.
    crop : float, optional
        The smallest area of a random crop, as a fraction of the image's; the crop is enlarged to the size of the image
        (Szegedy et al. 2015, arXiv:1409.4842). 0.08 to 0.5 are usual for photographs; 1: no crops.
    aspect : float, optional
        The largest factor, either way, by which crops change the proportions.
    brightness, contrast, saturation : float, optional
        0.4 means factors from 0.6 to 1.4: of the pixel values, of their distance from the image's mean, and of the
        distance of colours from grey. For pixel values from 0 to 255.
    mixup : float, optional
        α: every image is mixed with another one of its batch, in proportions λ and 1 − λ with λ from Beta(α, α), and so
        are their labels, which become probabilities of the classes (Zhang et al. 2018, arXiv:1710.09412). 0.2 to 0.4 are
        usual; 0: none.

    Raises
    ------
    SettingError
        A limit is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((4, 28, 28), np.uint8)
    >>> images[:, 10:18, 10:18] = 200
    >>> distorted = Augment()(images, seed=0, epoch=1)
    >>> distorted.shape, distorted.dtype
    ((4, 28, 28), dtype('float32'))
    >>> alone = Augment()(images[2:3], seed=0, epoch=1, indices=[2])     # image 2 is distorted alike in any company
    >>> np.array_equal(alone[0], distorted[2])
    True
    >>> augment = Augment.for_photos()
    >>> draws = augment.draws(seed=0, epoch=1, count=4)
    >>> draws.shape, augment.distort(images, draws).shape, augment.matrices(draws, 28, 28).shape
    ((4, 18), (4, 28, 28), (4, 2, 3))
    >>> augment.shares(seed=0, epoch=1, count=4).shape
    (4,)
    """

    shift: float = 0.08
    rotation: float = 12.0
    scale: float = 0.12
    shear: float = 8.0
    flip: bool = False
    fill: float | str = 0.0
    canvases: Sequence[Sequence[float]] = ((1.0, 1.0),)
    least: float = 0.75
    smallest: float = 1.0
    crop: float = 1.0
    aspect: float = 4 / 3
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        limits = {"shift": 1.0, "rotation": 180.0, "scale": 10.0, "shear": 80.0}
        for name, limit in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value <= limit:
                raise SettingError(f"Augment: {name} must be a number from 0 to {limit:g}, got {value!r}")
        if not isinstance(self.flip, (bool, np.bool_)):
            raise SettingError(f"Augment: flip must be True or False, got {self.flip!r}")
        _check_fill("Augment", self.fill)
        try:
            canvases = tuple((float(height), float(width)) for height, width in self.canvases)
        except (TypeError, ValueError):
            canvases = ()
        if not canvases or not all(1 <= multiple <= 16 for canvas in canvases for multiple in canvas):
            raise SettingError(
                f"Augment: canvases must be pairs of numbers from 1 to 16, at least one pair, got {self.canvases!r}"
            )
        object.__setattr__(self, "canvases", canvases)
        for name in ("least", "smallest", "crop"):
            number(above=0, maximum=1)("Augment", name, getattr(self, name))
        for name in ("brightness", "contrast", "saturation"):
            number(minimum=0, maximum=1)("Augment", name, getattr(self, name))
        number(minimum=1, maximum=10)("Augment", "aspect", self.aspect)
        number(minimum=0, maximum=100)("Augment", "mixup", self.mixup)

    @classmethod
    def for_photos(cls) -> Self:
        """Augmentation that suits photographs: random crops, mirror images, brightness, contrast and saturation.

        Returns
        -------
        Augment
        """
        return cls(
            shift=0,
            rotation=0,
            scale=0,
            shear=0,
            flip=True,
            fill="edge",
            crop=0.35,
            brightness=0.3,
            contrast=0.3,
            saturation=0.3,
        )

    @property
    def changes_colour(self) -> bool:
        """Whether brightness, contrast or saturation is varied."""
        return bool(self.brightness or self.contrast or self.saturation)

    def mixed(
        self, x: NDArray[Any], labels: NDArray[Any], shares: NDArray[Any], classes: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Mixup of a batch: λ times each image plus 1 − λ times the next one, and the same of the labels.

        Parameters
        ----------
        x : array (n, …)
            A batch in random order.
        labels : int array (n,)
        shares : array (n,)
            Random numbers in [0, 1), as from :meth:`shares`; λ is the quantile of Beta(α, α) at each.
        classes : int
            The number of classes.

        Returns
        -------
        x : array (n, …)
            Distorted images, in the dtype of ``x``.
        probabilities : array (n, classes)
            Likewise.

        Examples
        --------
        >>> x, labels = np.array([[0.0], [8.0]]), np.array([0, 1])
        >>> mixed, probabilities = Augment(mixup=1.0).mixed(x, labels, np.array([0.25, 0.75]), classes=3)
        >>> mixed.tolist(), probabilities.tolist()
        ([[6.0], [6.0]], [[0.25, 0.75, 0.0], [0.25, 0.75, 0.0]])
        """
        from scipy.special import betaincinv  # imported late, as scipy takes as long as all else

        share = betaincinv(self.mixup, self.mixup, shares).astype(x.dtype)
        one_hot = np.zeros((len(labels), classes), x.dtype)
        one_hot[np.arange(len(labels)), labels] = 1
        wide = share.reshape(-1, *(1,) * (x.ndim - 1))
        both = wide * x + (1 - wide) * np.roll(x, -1, axis=0)
        return both, share[:, None] * one_hot + (1 - share[:, None]) * np.roll(one_hot, -1, axis=0)

    def shares(self, seed: int, epoch: int, count: int) -> NDArray[Any]:
        """Random numbers for the mixup of images 0 … count − 1 of an epoch.

        Parameters
        ----------
        seed, epoch, count : int

        Returns
        -------
        float64 array (count,)

        Raises
        ------
        SettingError
            A number is out of range.
        """
        return uniform(seed, epoch, MIXUP, count)

    def __call__(
        self,
        images: ArrayLike,
        seed: int,
        epoch: int,
        indices: ArrayLike | None = None,
        canvas: Sequence[float] = (1.0, 1.0),
    ) -> NDArray[Any]:
        """Distort ``images`` (n, H, W) or (n, H, W, 3), numbers ``indices`` (default 0 … n − 1) of a data set.

        Parameters
        ----------
        images : uint8 or float32 array (n, H, W) or (n, H, W, 3)
        seed, epoch : int
            With the number of an image, what decides its distortion.
        indices : int array (n,), optional
        canvas : (float, float), optional
            Multiples of height and width.

        Returns
        -------
        float32 array
            The shape of ``images``, with H and W times the multiples of ``canvas``, on the same scale of pixel values.

        Raises
        ------
        ShapeError
            ``images`` has another rank, or ``indices`` not one number for each of them.
        DtypeError
            ``images`` is neither uint8 nor float32.
        """
        images = np.asarray(images)
        if images.ndim not in (3, 4):
            raise ShapeError(f"Augment: images are {images.shape}; expected (n, H, W) or (n, H, W, C)")
        indices = np.arange(len(images)) if indices is None else np.asarray(indices, np.int64)
        if indices.shape != (len(images),) or (indices.size and indices.min() < 0):
            raise ShapeError(f"Augment: indices must be {len(images)} numbers from 0 up, one for each image")
        return self.distort(images, self.draws(seed, epoch, int(indices.max(initial=-1)) + 1)[indices], canvas)

    def distort(self, images: NDArray[Any], draws: NDArray[Any], canvas: Sequence[float] = (1.0, 1.0)) -> NDArray[Any]:
        """Distort each image as its row of ``draws`` says.

        Parameters
        ----------
        images : uint8 or float32 array (n, H, W) or (n, H, W, 3)
        draws : array (n, 10 or 18)
            As from :meth:`draws`.
        canvas : (float, float), optional
            Multiples of height and width.

        Returns
        -------
        float32 array
            The shape of ``images``, with H and W times the multiples of ``canvas``.

        Raises
        ------
        SettingError, ShapeError, DtypeError
            An argument is not as above.
        """
        height, width = images.shape[1:3]
        size = on_canvas((height, width), canvas)
        distorted = warp(images, self.matrices(draws, height, width, size), self.fill, size)
        if self.changes_colour:
            self._recolour(distorted, 2.0 * draws[:, DRAWS_PER_IMAGE + 4 : DRAWS_PER_IMAGE + 7] - 1.0)
        return distorted

    def _recolour(self, images: NDArray[Any], centred: NDArray[Any]) -> None:
        """Change brightness, contrast and saturation in place."""
        limits = np.array([self.brightness, self.contrast, self.saturation])
        factors = (1 + limits * centred).astype(np.float32).T.reshape(3, -1, *(1,) * (images.ndim - 1))
        brightness, contrast, saturation = factors
        images *= brightness
        mean = images.mean(axis=tuple(range(1, images.ndim)), keepdims=True)
        images -= mean
        images *= contrast
        images += mean
        if images.ndim == 4 and images.shape[3] == 3:
            grey = images @ LUMA
            images -= grey[..., None]
            images *= saturation
            images += grey[..., None]
        np.clip(images, 0, 255, out=images)

    def draws(self, seed: int, epoch: int, count: int) -> NDArray[Any]:
        """Random numbers for images 0 … count − 1 of an epoch, a row for each; rows do not depend on ``count``.

        Parameters
        ----------
        seed, epoch, count : int

        Returns
        -------
        float64 array (count, 10), or (count, 18) where there are crops or colours

        Raises
        ------
        SettingError
            A number is out of range.
        """
        draws = uniform(seed, epoch, DISTORTION, count * DRAWS_PER_IMAGE).reshape(count, DRAWS_PER_IMAGE)
        if self.crop == 1 and not self.changes_colour:
            return draws
        more = uniform(seed, epoch, PHOTO, count * DRAWS_PER_PHOTO).reshape(count, DRAWS_PER_PHOTO)
        return np.concatenate([draws, more], axis=1)

    def matrices(
        self, draws: NDArray[Any], height: int, width: int, canvas: Sequence[int] | None = None
    ) -> NDArray[Any]:
        """Return (n, 2, 3): input position (y, x) = M (y, x, 1) of output pixel (y, x), in pixels.

        M = T(centre + shift) · R(angle) · [[1, 0], [tan shear, 1]] · diag(1, ±1) / factor · T(−centre); rows are y, x.
        On a canvas, M is multiplied from the right by diag(1 / enlarged) · T(−corner), in positions measured from the
        image's edges: corner is the position of the enlarged image on the canvas. A random crop multiplies in turn.

        Parameters
        ----------
        draws : array (n, 10 or 18)
            As from :meth:`draws`.
        height, width : int
            Extents of the images.
        canvas : (int, int), optional
            Height and width of the canvas in pixels.

        Returns
        -------
        float64 array (n, 2, 3)
        """
        centred = 2.0 * draws - 1.0
        angle = np.deg2rad(self.rotation * centred[:, 0])
        factor = np.exp(math.log1p(self.scale) * centred[:, 1])
        lean = np.tan(np.deg2rad(self.shear * centred[:, 2]))
        shift = self.shift * centred[:, 3:5] * [height, width]
        mirror = np.where(draws[:, 5] < 0.5, -1.0, 1.0) if self.flip else 1.0
        cos, sin = np.cos(angle), np.sin(angle)
        linear = np.empty((len(draws), 2, 2))
        linear[:, 0, 0] = (cos - sin * lean) / factor
        linear[:, 0, 1] = -sin * mirror / factor
        linear[:, 1, 0] = (sin + cos * lean) / factor
        linear[:, 1, 1] = cos * mirror / factor
        centre = np.array([(height - 1) / 2, (width - 1) / 2])
        offset = centre + shift - linear @ centre
        if canvas is not None:
            most = np.array(canvas) / [height, width]
            enlarged = most * np.maximum(self.smallest / most, self.least) ** draws[:, 6:8]
            corner = (canvas - enlarged * [height, width]) * draws[:, 8:10]
            offset += np.einsum("nij,nj->ni", linear, (0.5 - corner) / enlarged - 0.5)  # a pixel's centre is at + ½
            linear /= enlarged[:, None, :]
        if self.crop < 1:
            sides = np.array([height, width] if canvas is None else canvas)
            area, proportions, *place = draws[:, DRAWS_PER_IMAGE : DRAWS_PER_IMAGE + 4].T
            ratio = self.aspect ** (2 * proportions - 1)
            share = np.sqrt((self.crop + (1 - self.crop) * area)[:, None] * np.stack([1 / ratio, ratio], axis=1))
            share = np.minimum(share, 1.0)
            corner = (1 - share) * sides * np.stack(place, axis=1)
            offset += np.einsum("nij,nj->ni", linear, corner + share / 2 - 0.5)
            linear *= share[:, None, :]
        return np.concatenate([linear, offset[:, :, None]], axis=2)


def check_mixup(augment: Augment | None, ranks: int) -> None:
    """Raise if images of a part of a batch are to be mixed: the others, which they are mixed with, are missing."""
    if augment is not None and augment.mixup and ranks > 1:
        raise SettingError(
            "batches: mixup mixes images of the whole batch; omit it, or train without shards and communicator"
        )


LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def on_canvas(size: Sequence[int], canvas: Sequence[float]) -> tuple[int, ...]:
    """Height and width of ``size`` times the multiples of ``canvas``, in whole pixels."""
    return tuple(round(multiple * extent) for multiple, extent in zip(canvas, size, strict=True))


def batch_plan(count: int, batch_size: int, augment: Augment | None = None) -> list[tuple[int, int, Sequence[float]]]:
    """The batches of an epoch of ``count`` images: (first, last + 1, canvas) of each.

    The canvases of ``augment`` are used in turn. On a canvas of h × w times the image's size a batch has 1 / √(h w) as
    many images, so that large canvases take neither most of the time nor most of the memory.

    Parameters
    ----------
    count : int
    batch_size : int
        Images of a batch at their own size.
    augment : Augment, optional

    Returns
    -------
    list of (int, int, (float, float))

    Examples
    --------
    >>> batch_plan(10, 4)
    [(0, 4, (1.0, 1.0)), (4, 8, (1.0, 1.0)), (8, 10, (1.0, 1.0))]
    >>> batch_plan(10, 4, Augment(canvases=[(1, 1), (2, 2)]))
    [(0, 4, (1.0, 1.0)), (4, 6, (2.0, 2.0)), (6, 10, (1.0, 1.0))]
    """
    canvases = ((1.0, 1.0),) if augment is None else augment.canvases
    batches: list[tuple[int, int, Sequence[float]]] = []
    first = 0
    while first < count:
        canvas = canvases[len(batches) % len(canvases)]
        last = min(count, first + max(1, round(batch_size / math.sqrt(canvas[0] * canvas[1]))))
        batches.append((first, last, canvas))
        first = last
    return batches


def part_of_batch(first: int, last: int, rank: int | range = 0, ranks: int = 1) -> tuple[int, int]:
    """The images of a batch that belong to part ``rank`` of ``ranks``, or to several parts next to one another.

    Parameters
    ----------
    first, last : int
        The batch's first image, and one beyond its last.
    rank : int or range, optional
        From 0 to ``ranks`` − 1.
    ranks : int, optional
        How many parts the batch has. Their sizes differ by one at most; a batch of fewer images has empty parts.

    Returns
    -------
    (int, int)
        The first image of the part, and one beyond its last.

    Raises
    ------
    SettingError
        ``rank`` is out of range, or a range with steps.

    Examples
    --------
    >>> [part_of_batch(100, 110, rank, 4) for rank in range(4)], part_of_batch(100, 110, range(1, 3), 4)
    ([(100, 102), (102, 105), (105, 107), (107, 110)], (102, 107))
    """
    ranks = integer("batches", "ranks", ranks, 1)
    parts = rank if isinstance(rank, range) else range(integer("batches", "rank", rank, 0), rank + 1)
    if not 0 <= parts.start < parts.stop <= ranks or parts.step != 1:
        raise SettingError(
            f"batches: rank is {rank!r}; expected a number from 0 to ranks - 1 = {ranks - 1}, or a range"
        )
    count = last - first
    return first + count * parts.start // ranks, first + count * parts.stop // ranks


def warp(
    images: ArrayLike, matrices: ArrayLike, fill: float | str = 0.0, size: int | Sequence[int] | None = None
) -> NDArray[Any]:
    """Sample the input at one position per output pixel, by bilinear interpolation.

    Parameters
    ----------
    images : uint8 or float32 array (n, H, W) or (n, H, W, C)
    matrices : array (n, 2, 3)
        Input position (y, x) = M (y, x, 1) of the output pixel (y, x), one matrix for each image.
    fill : float or "edge", optional
        The value outside the image, or the nearest pixel of the border.
    size : int or (int, int), optional
        Height and width of the result; those of the images when left out.

    Returns
    -------
    numpy.ndarray
        float32, the shape of ``images`` but for ``size``.

    Raises
    ------
    ShapeError, DtypeError
        ``images`` or ``matrices`` is not as described.
    SettingError
        ``fill`` or ``size`` is out of range, or ``matrices`` holds infinity or NaN.

    Examples
    --------
    >>> import numpy as np
    >>> half_a_pixel_left = [[[1, 0, 0], [0, 1, 0.5]]]
    >>> warp(np.array([[[0, 10, 20, 40]]], np.uint8), half_a_pixel_left)
    array([[[ 5., 15., 30., 20.]]], dtype=float32)
    """
    images = np.asarray(images)
    matrices = np.asarray(matrices, np.float32)
    _check_fill("warp", fill)
    if images.dtype not in (np.uint8, np.float32):
        raise DtypeError(f"warp: images are {images.dtype}; expected uint8 or float32")
    if images.ndim not in (3, 4) or 0 in images.shape[1:]:
        raise ShapeError(f"warp: images are {images.shape}; expected (n, H, W) or (n, H, W, C)")
    if matrices.shape != (len(images), 2, 3):
        raise ShapeError(f"warp: matrices are {matrices.shape}; expected {(len(images), 2, 3)}, one for each image")
    if not np.isfinite(matrices).all():
        raise SettingError("warp: matrices hold infinity or NaN; expected finite numbers")
    size = images.shape[1:3] if size is None else per_axis("warp", "size", size, rank=2, minimum=1)
    output = np.empty((len(images), *size, *images.shape[3:]), np.float32)
    chunk = max(1, IMAGES_PER_CHUNK * 28 * 28 // max(math.prod(images.shape[1:]), math.prod(output.shape[1:])))
    for first in range(0, len(images), chunk):
        part = slice(first, first + chunk)
        _warp_chunk(images[part], matrices[part], fill, output[part])
    return output


def _warp_chunk(images: NDArray[Any], matrices: NDArray[Any], fill: float | str, output: NDArray[Any]) -> None:
    n, H, W = images.shape[:3]
    # A border of one pixel on each side holds the fill value. Positions are clamped to it, so that no pixel needs a
    # bounds check.
    padded = np.empty((n, H + 2, W + 2, *images.shape[3:]), np.float32)
    padded[:, 1:-1, 1:-1] = images
    edge = isinstance(fill, str)
    padded[:, 0] = padded[:, 1] if edge else fill
    padded[:, -1] = padded[:, -2] if edge else fill
    padded[:, :, 0] = padded[:, :, 1] if edge else fill
    padded[:, :, -1] = padded[:, :, -2] if edge else fill
    pixels = padded.reshape(n * (H + 2) * (W + 2), *images.shape[3:])

    rows = np.arange(output.shape[1], dtype=np.float32)[:, None]
    columns = np.arange(output.shape[2], dtype=np.float32)
    m = matrices[:, :, :, None, None]
    y = m[:, 0, 0] * rows + (m[:, 0, 1] * columns + (m[:, 0, 2] + np.float32(1)))  # + 1: the border
    x = m[:, 1, 0] * rows + (m[:, 1, 1] * columns + (m[:, 1, 2] + np.float32(1)))
    np.clip(y, 0, np.nextafter(np.float32(H + 1), np.float32(0)), out=y)
    np.clip(x, 0, np.nextafter(np.float32(W + 1), np.float32(0)), out=x)
    i, j = y.astype(np.int32), x.astype(np.int32)  # truncation is ⌊·⌋, positions being positive
    y -= i
    x -= j
    if images.ndim == 4:
        x, y = x[..., None], y[..., None]
    first = (np.arange(n) * ((H + 2) * (W + 2)))[:, None, None]
    place = first + (i * (W + 2) + j)
    top = _between(pixels.take(place, 0, mode="clip"), pixels.take(place + 1, 0, mode="clip"), x)
    place += W + 2
    bottom = _between(pixels.take(place, 0, mode="clip"), pixels.take(place + 1, 0, mode="clip"), x)
    output[...] = _between(top, bottom, y)


def _between(start: NDArray[Any], end: NDArray[Any], t: NDArray[Any]) -> NDArray[Any]:
    """start + t (end − start), written into ``end``."""
    end -= start
    end *= t
    end += start
    return end


def _check_fill(place: str, fill: float | str) -> None:
    if isinstance(fill, str) and fill == "edge":
        return
    if isinstance(fill, (bool, str)) or not isinstance(fill, (int, float, np.number)) or not 0 <= fill <= 255:
        raise SettingError(f"{place}: fill must be a pixel value from 0 to 255 or 'edge', got {fill!r}")
