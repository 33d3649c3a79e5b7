"""Images in and out: reading files, resizing, writing PNG, colouring heat maps.

An image is a uint8 array, (H, W) when grey and (H, W, 3) when RGB. PNG and PGM/PPM are read with numpy and zlib
alone; with Pillow (``pip install 'cnncore[data]'``) JPEG, BMP, GIF, WebP, TIFF and interlaced PNG too, and PNG faster.
Pillow resizes as well, faster and with the same pixels to within one level.
Files are untrusted input: sizes are checked before anything is allocated, and every invalid file raises a
DataError.

Three rules convert the contents of files to greyscale or RGB, with and without Pillow alike:

* transparent images are composited over white;
* 16-bit samples keep their upper 8 bits; if a TIFF file declares its largest sample, that is white. Samples of
32 bits are taken as 8 bits if they fit, otherwise as 16, with a warning;
* RGB becomes grey by luma, (299 R + 587 G + 114 B) / 1000 (ITU-R BT.601), grey becomes RGB by repetition.
"""

from __future__ import annotations

import base64
import io
import pathlib
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_unmasked, opened_file, path_name, per_axis
from ..errors import DataError, DataWarning, DtypeError, SettingError, ShapeError, printable
from ..io.files import write_atomically
from ..typing import FilePath

__all__ = [
    "colormap",
    "from_pillow",
    "has_pillow",
    "image_shape",
    "overlay",
    "png_data_uri",
    "read_image",
    "resize",
    "to_channels",
    "write_png",
]

LARGEST_IMAGE_PIXELS = 2**26  # 67 megapixels; below the point where Pillow itself warns of a decompression bomb
LARGEST_IMAGE_FILE = 2**28
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")  # a fixed list: some of Pillow's formats start programs
INSTALL_PILLOW = "install Pillow: pip install 'cnncore[data]'"


# ── Reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_image(source: FilePath | bytes, channels: int | None = None) -> NDArray[Any]:
    """Read one image file.

    Parameters
    ----------
    source : path or bytes
        The file, or its content.
    channels : {None, 1, 3}, optional
        1 returns grey, 3 returns RGB; None returns what the file holds (a palette counts as RGB).

    Returns
    -------
    numpy.ndarray
        uint8, (H, W) or (H, W, 3).

    Raises
    ------
    DataError
        The file is missing, damaged, larger than 67 megapixels, or in a format that needs Pillow, which is not
        installed.
    SettingError
        ``channels`` is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> read_image(write_png(None, np.array([[0, 128, 255]], np.uint8)))
    array([[  0, 128, 255]], dtype=uint8)
    >>> read_image(b"P2 3 1 15 0 5 15")
    array([[  0,  85, 255]], dtype=uint8)
    """
    if channels not in (None, 1, 3):
        raise SettingError(f"read_image: channels must be None, 1 (grey) or 3 (RGB), got {channels!r}")
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, content = "image", bytes(source)
    else:
        name = path_name(source, "an image file")
        content = _file_content(name)
    if content.startswith(PNG_SIGNATURE):
        # Checked before either reader, since Pillow accepts some damaged files silently.
        header = _png_header(name, content)
        chunks = _png_chunks(name, content)
        if header.colour == PNG_PALETTE and not chunks[b"PLTE"]:
            raise DataError(f"{name}: damaged PNG (no palette); replace or remove the file")
        pixels = _decode_with_pillow(name, content) if _pillow() else _decode_png(name, header, chunks)
    elif content[:1] == b"P" and content[1:2] in b"2356" and len(content) > 2:
        pixels = _decode_pnm(name, content)
    elif _pillow():
        pixels = _decode_with_pillow(name, content)
    elif not content:
        raise DataError(f"{name}: the file is empty; expected an image")
    else:
        raise DataError(f"{name}: neither PNG nor PGM/PPM, the formats read without Pillow; {INSTALL_PILLOW}")
    pixels = _over_white(pixels)
    return pixels if channels is None else to_channels(pixels, channels)


def image_shape(path: FilePath) -> tuple[int, ...]:
    """The shape that :func:`read_image` gives an image file, from the file's header where Pillow is installed.

    Parameters
    ----------
    path : path

    Returns
    -------
    tuple of int
        (H, W) of a greyscale image, (H, W, 3) of any other.

    Raises
    ------
    DataError
        The file is missing, or no image that is read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "grey.png"
    ...     _ = write_png(file, np.zeros((2, 5), np.uint8))
    ...     image_shape(file)
    (2, 5)
    """
    name = path_name(path, "an image file")
    if _pillow() is None or pathlib.Path(name).suffix.lower() in (".pgm", ".ppm", ".pnm"):
        return read_image(name).shape
    try:
        with _pillow().open(name, formats=PILLOW_FORMATS) as image:
            _check_extent(name, image.height, image.width)
            height, width = image.height, image.width
            # Of a PNG file that does not begin with EXIF data, Pillow would read all pixels first.
            known = image.format != "PNG" or "exif" in image.info
            if known and image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8):  # stored on its side
                height, width = width, height
            grey = image.mode.startswith("I") or _pillow_mode(image) in ("L", "LA")
            return (height, width) if grey else (height, width, 3)
    except Exception:  # read_image says what is wrong with a file, whatever Pillow trips over
        return read_image(name).shape


def from_pillow(image: Any, channels: int | None = None) -> NDArray[Any]:
    """The pixels of an image of Pillow, by the rules of this module.

    Parameters
    ----------
    image : PIL.Image.Image
    channels : {None, 1, 3}, optional
        As in :func:`read_image`.

    Returns
    -------
    uint8 array (H, W) or (H, W, 3)

    Raises
    ------
    DataError
        It is larger than 67 megapixels, or cannot be decoded.

    Examples
    --------
    >>> from PIL import Image
    >>> from_pillow(Image.new("RGB", (2, 1), (0, 128, 255)))
    array([[[  0, 128, 255],
            [  0, 128, 255]]], dtype=uint8)
    """
    name = getattr(image, "filename", "") or "image"
    _check_extent(name, image.height, image.width)
    try:
        pixels = _over_white(_pillow_samples(name, image))
    except OSError as error:  # of a file that Pillow decodes only now
        raise DataError(f"{name}: not a readable image ({error}); replace or remove the file") from None
    return pixels if channels is None else to_channels(pixels, channels)


def to_channels(image: NDArray[Any], channels: int | None) -> NDArray[Any]:
    """Return a uint8 image as grey (``channels=1``) or RGB (``channels=3``), by the rules of this module.

    Parameters
    ----------
    image : uint8 array (H, W) or (H, W, 3)
    channels : {1, 3}

    Returns
    -------
    uint8 array
        The image itself if it has these channels already.

    Raises
    ------
    DtypeError, ShapeError
        ``image`` is not as described.
    SettingError
        ``channels`` is neither 1 nor 3.

    Examples
    --------
    >>> import numpy as np
    >>> to_channels(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8), 1)
    array([[ 76, 150,  29]], dtype=uint8)
    >>> to_channels(np.array([[7]], np.uint8), 3)
    array([[[7, 7, 7]]], dtype=uint8)
    """
    _check_image("to_channels", image)
    if channels == 1 and image.ndim == 3:
        luma = image.astype(np.uint32) @ np.array([299, 587, 114], np.uint32)
        return ((luma + 500) // 1000).astype(np.uint8)
    if channels == 3 and image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    if channels not in (1, 3):
        raise SettingError(f"to_channels: channels must be 1 (grey) or 3 (RGB), got {channels!r}")
    return image


def _file_content(name: str) -> bytes:
    with opened_file(name, "an image file") as file:
        content = file.read(LARGEST_IMAGE_FILE + 1)
    if len(content) > LARGEST_IMAGE_FILE:
        raise DataError(f"{name}: larger than {LARGEST_IMAGE_FILE >> 20} MiB; expected an image file")
    return content


def _check_extent(name: str, height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise DataError(f"{name}: the header declares {height}×{width} pixels; expected at least 1×1")
    if height * width > LARGEST_IMAGE_PIXELS:
        raise DataError(
            f"{name}: the header declares {height}×{width} pixels, more than {LARGEST_IMAGE_PIXELS}; "
            "scale the image down"
        )


def _over_white(pixels: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 1 to 4) samples (grey, grey + alpha, RGB, RGB + alpha) → (H, W) or (H, W, 3)."""
    colours = pixels.shape[2] - (pixels.shape[2] + 1) % 2
    if colours != pixels.shape[2]:
        alpha = pixels[:, :, colours:].astype(np.uint32)
        mixed = (pixels[:, :, :colours] * alpha + 255 * (255 - alpha) + 127) // 255
        pixels = mixed.astype(np.uint8)
    return np.ascontiguousarray(pixels[:, :, 0] if colours == 1 else pixels)


# ── Reading with Pillow ───────────────────────────────────────────────────────────────────────────────────────────────


NEEDS_PILLOW = (".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def has_pillow() -> bool:
    """Whether Pillow is installed.

    Returns
    -------
    bool

    Examples
    --------
    >>> import importlib.util
    >>> has_pillow() == (importlib.util.find_spec("PIL") is not None)
    True
    """
    return _pillow() is not None


def _pillow() -> Any:
    """Pillow's Image module, or None when Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError:
        return None
    return Image


def _decode_with_pillow(name: str, content: bytes) -> NDArray[Any]:
    try:
        with _pillow().open(io.BytesIO(content), formats=PILLOW_FORMATS) as image:
            _check_extent(name, image.height, image.width)
            return _pillow_samples(name, image)
    except (DataError, MemoryError):
        raise
    # For malicious files, decoders raise many exceptions (OSError, SyntaxError, ValueError, struct.error,
    # zlib.error, DecompressionBombError …), and the set grows with each Pillow release.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = (
            "in a format that Pillow does not read" if "BytesIO" in reason else reason
        )  # it names the object, not the file
        raise DataError(f"{name}: not a readable image ({reason}); replace or remove the file") from None


def _pillow_samples(name: str, image: Any) -> NDArray[Any]:
    from PIL import ImageOps

    tags = getattr(image, "tag_v2", None)  # of a TIFF file
    if image.getexif().get(EXIF_ORIENTATION, 1) != 1:  # a photo taken with the camera turned
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return _deep_samples(name, np.asarray(image), tags)
    if image.mode == "F":
        raise DataError(f"{name}: floating-point samples; expected 8 or 16 bits. Convert the image to 8 bits")
    samples = np.asarray(image.convert(_pillow_mode(image)))
    return samples.reshape(*samples.shape[:2], -1)


def _pillow_mode(image: Any) -> str:
    """The mode to which an image of 8-bit samples is converted: with or without colour, with or without transparency."""
    if "transparency" in image.info and image.mode in ("1", "L", "P", "RGB"):
        return "LA" if image.mode in ("1", "L") else "RGBA"
    modes = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "PA": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}
    return modes.get(image.mode, "RGB")


EXIF_ORIENTATION = 0x0112
TIFF_BITS, TIFF_LARGEST = 258, 281  # tags BitsPerSample and MaxSampleValue (TIFF 6.0, section 8)


def _deep_samples(name: str, samples: NDArray[Any], tags: Any) -> NDArray[Any]:
    """8-bit from 16-bit or 32-bit samples. White is the maximum declared in the file; otherwise it is assumed, with a
    warning.
    """
    if samples.min() < 0 or samples.max() > 0xFFFF:
        raise DataError(
            f"{name}: samples from {samples.min()} to {samples.max()}; expected 8 or 16 bits. Convert the image to 8 bits"
        )
    white = 0 if tags is None else int(max(np.atleast_1d(tags.get(TIFF_LARGEST, 0))))
    if not samples.max() <= white <= 0xFFFF:
        white, done = 0xFFFF, None
        if (
            tags is not None and max(np.atleast_1d(tags.get(TIFF_BITS, 16))) > 16
        ):  # an array of integers as it was saved
            white = 0xFF if samples.max() <= 0xFF else 0xFFFF
            done = f"32-bit samples up to {samples.max()}: {white} is taken for white"
        elif tags is not None and 0 < samples.max() < 0x1000:
            done = f"16-bit samples up to {samples.max()} only: 65535 is taken for white, and the image is dark"
        if done:
            warnings.warn(f"{name}: {done}; if it is not, convert it to 8 bits", DataWarning, stacklevel=5)
    if white == 0xFFFF:
        return (samples >> 8).astype(np.uint8)[:, :, None]
    return (samples.astype(np.int64) * 255 // max(white, 1)).astype(np.uint8)[:, :, None]


# ── Reading PNG ── W3C Recommendation "Portable Network Graphics (PNG) Specification", third edition, 2025 ────────────

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type → samples a pixel (table 8)
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PNG_PALETTE = 3
ROWS_PER_BAND = 256


class _PngHeader(NamedTuple):
    height: int
    width: int
    depth: int  # bits a sample
    colour: int
    interlaced: bool


def _png_header(name: str, content: bytes) -> _PngHeader:
    if len(content) < 33 or content[8:16] != b"\x00\x00\x00\rIHDR":
        raise DataError(f"{name}: damaged PNG (no header); replace or remove the file")
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", content[16:29])
    if depth not in PNG_DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise DataError(f"{name}: damaged PNG (impossible header); replace or remove the file")
    _check_extent(name, height, width)
    return _PngHeader(height, width, depth, colour, bool(interlace))


def _png_chunks(name: str, content: bytes) -> dict[bytes, bytes]:
    """The chunks that make up the image, by type, with verified checksums; several of one type are concatenated."""
    chunks: dict[bytes, list[bytes]] = {b"PLTE": [], b"tRNS": [], b"IDAT": []}
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            break
        if zlib.crc32(content[position + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            raise DataError(f"{name}: damaged PNG (wrong checksum at byte {position}); replace or remove the file")
        if kind == b"IEND":
            return {kind: b"".join(parts) for kind, parts in chunks.items()}
        if kind in chunks:
            chunks[kind].append(content[position + 8 : end])
        position = end + 4
    raise DataError(f"{name}: truncated PNG; replace or remove the file")


def _decode_png(name: str, header: _PngHeader, chunks: Mapping[bytes, bytes]) -> NDArray[Any]:
    height, width, depth, colour, interlaced = header
    if interlaced:
        raise DataError(f"{name}: interlaced PNG, which is read through Pillow; {INSTALL_PILLOW}")
    transparency = chunks[b"tRNS"]
    sample_count = PNG_SAMPLES[colour]
    row_bytes = (width * sample_count * depth + 7) // 8
    rows = _inflate(name, chunks[b"IDAT"], height * (1 + row_bytes)).reshape(height, 1 + row_bytes)
    if rows[:, 0].max() > 4:
        raise DataError(f"{name}: damaged PNG (unknown row filter); replace or remove the file")
    samples = _png_samples(_unfilter(rows, max(1, sample_count * depth // 8)), width, sample_count, depth)
    if colour == PNG_PALETTE:
        return _png_palette(name, samples[:, :, 0], chunks[b"PLTE"], transparency)
    if transparency and colour in (0, 2):  # one grey or RGB value that stands for "transparent"
        if len(transparency) != 2 * sample_count:
            raise DataError(f"{name}: damaged PNG (transparency); replace or remove the file")
        key = np.frombuffer(transparency, ">u2")
        alpha = np.where((samples == key).all(axis=2, keepdims=True), 0, 255)
        return np.concatenate([_to_8_bits(samples, depth), alpha.astype(np.uint8)], axis=2)
    return _to_8_bits(samples, depth)


def _inflate(name: str, compressed: bytes, expected: int) -> NDArray[Any]:
    """The ``expected`` bytes of a zlib stream, neither more nor fewer, as an array."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(compressed, expected + 1)  # at most; memory grows with the actual data
    except zlib.error as error:
        raise DataError(f"{name}: damaged PNG ({error}); replace or remove the file") from None
    if len(content) != expected:
        raise DataError(f"{name}: damaged PNG (pixel data of another length than declared); replace or remove the file")
    return np.frombuffer(content, np.uint8)


def _png_samples(rows: NDArray[Any], width: int, sample_count: int, depth: int) -> NDArray[Any]:
    """Unpack rows of bytes to (H, W, samples) of uint8, or uint16 where the depth is 16."""
    height = len(rows)
    if depth == 16:
        return rows.view(">u2").reshape(height, width, sample_count)
    if depth < 8:
        bits = np.unpackbits(rows, axis=1)[:, : width * depth].reshape(height, width, depth)
        rows = (bits << np.arange(depth - 1, -1, -1, dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
    return rows.reshape(height, width, sample_count)


def _to_8_bits(samples: NDArray[Any], depth: int) -> NDArray[Any]:
    if depth == 16:
        return (samples >> 8).astype(np.uint8)
    return samples * np.uint8(255 // (2**depth - 1))


def _png_palette(name: str, index: NDArray[Any], palette: bytes, transparency: bytes) -> NDArray[Any]:
    colours = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
    if index.max() >= len(colours):
        raise DataError(f"{name}: damaged PNG (colour outside the palette); replace or remove the file")
    if not transparency:
        return colours[index]
    alpha = np.full(len(colours), 255, np.uint8)
    given = np.frombuffer(transparency[: len(colours)], np.uint8)
    alpha[: len(given)] = given
    return np.concatenate([colours, alpha[:, None]], axis=1)[index]


def _unfilter(rows: NDArray[Any], step: int) -> NDArray[Any]:
    """Undo PNG's row filters (section 9): each byte was stored minus a prediction from its decoded neighbours

        c b        0 None: 0    1 Sub: a    2 Up: b    3 Average: ⌊(a + b) / 2⌋
        a x        4 Paeth: whichever of a, b, c is nearest to a + b − c, the first in this order winning ties

    where a lies one pixel (``step`` bytes) to the left. Sub and Up are running sums. Average and Paeth cannot be
    written as sums, but all pixels of one antidiagonal depend only on the two before it: W + H vector steps.
    """
    kinds = rows[:, 0]
    height, row_bytes = len(rows), rows.shape[1] - 1
    filtered = rows[:, 1:].reshape(height, -1, step)
    decoded = np.empty_like(filtered)
    above = np.zeros((row_bytes // step, step), np.uint8)
    for first in range(0, height, ROWS_PER_BAND):
        band = slice(first, min(first + ROWS_PER_BAND, height))
        if kinds[band].max() > 2:
            decoded[band] = _unfilter_band(kinds[band], filtered[band], above)
            above = decoded[band.stop - 1]
            continue
        for row in range(band.start, band.stop):
            if kinds[row] == 0:
                decoded[row] = filtered[row]
            elif kinds[row] == 1:
                np.add.accumulate(filtered[row], axis=0, dtype=np.uint8, out=decoded[row])
            else:
                np.add(filtered[row], above, out=decoded[row])
            above = decoded[row]
    return decoded.reshape(height, row_bytes)


def _unfilter_band(kinds: NDArray[Any], filtered: NDArray[Any], above: NDArray[Any]) -> NDArray[Any]:
    """`_unfilter` for a band of rows, along antidiagonals.

    ``diagonals[t, r]`` holds pixel t − r − 1 of row r − 1, row −1 being ``above``; what lies left of the image stays
    zero. Then x, a, b, c of row r are at [t, r + 1], [t − 1, r + 1], [t − 1, r] and [t − 2, r].
    """
    height, width, step = filtered.shape
    diagonals = np.zeros((width + height + 1, height + 1, step), np.uint8)
    sub, up, average, paeth = ((kinds == kind)[:, None] for kind in (1, 2, 3, 4))
    skewed = np.zeros((height, width + height, step), np.uint8)
    skewed[:, :width] = filtered
    # The same memory with rows one pixel shorter: row r is moved right by r pixels.
    skewed = skewed.reshape(-1, step)[: height * (width + height - 1)].reshape(height, width + height - 1, step)
    skewed = np.ascontiguousarray(skewed.transpose(1, 0, 2))
    diagonals[1 : width + 1, 0] = above
    for t in range(2, width + height + 1):
        low, high = max(0, t - 1 - width), min(height, t - 1)
        rows = slice(low, high)
        a = diagonals[t - 1, low + 1 : high + 1].astype(np.int16)
        b = diagonals[t - 1, rows].astype(np.int16)
        c = diagonals[t - 2, rows].astype(np.int16)
        to_a, to_b = b - c, a - c
        to_c = np.abs(to_a + to_b)
        to_a, to_b = np.abs(to_a), np.abs(to_b)
        nearest = np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))
        prediction = sub[rows] * a + up[rows] * b + average[rows] * ((a + b) >> 1) + paeth[rows] * nearest
        diagonals[t, low + 1 : high + 1] = skewed[t - 2, rows] + prediction.astype(np.uint8)
    row, column = np.arange(height)[:, None], np.arange(width)
    return diagonals[row + column + 2, row + 1]


# ── Reading PGM and PPM ───────────────────────────────────────────────────────────────────────────────────────────────


def _decode_pnm(name: str, content: bytes) -> NDArray[Any]:
    """Netpbm's PGM (P2, P5) and PPM (P3, P6): a header of three numbers, with # comments, then samples."""
    numbers: list[int] = []
    position = 2
    while len(numbers) < 3:
        token, position = _pnm_token(content, position)
        if not token.isdigit() or len(token) > 9:
            raise DataError(f"{name}: damaged PGM/PPM header; expected width, height and largest value")
        numbers.append(int(token))
    width, height, largest = numbers
    _check_extent(name, height, width)
    if not 0 < largest < 65536:
        raise DataError(f"{name}: damaged PGM/PPM header: largest value {largest}; expected 1 to 65535")
    sample_count = 3 if content[1:2] in b"36" else 1
    expected = height * width * sample_count
    if content[1:2] in b"56":
        dtype = np.dtype(np.uint8 if largest < 256 else ">u2")
        position += 1  # a single white space ends the header
        if len(content) - position < expected * dtype.itemsize:
            raise DataError(f"{name}: truncated PGM/PPM: expected {height}×{width} pixels; replace or remove the file")
        samples = np.frombuffer(content, dtype, expected, position)
    else:
        text = content[position:]
        if len(text) < 2 * expected:  # a digit and a space each
            raise DataError(f"{name}: truncated PGM/PPM: expected {height}×{width} pixels; replace or remove the file")
        tokens = b" ".join(line.split(b"#")[0] for line in text.split(b"\n")).split()
        if len(tokens) < expected or not all(token.isdigit() and len(token) < 6 for token in tokens[:expected]):
            raise DataError(f"{name}: damaged PGM/PPM: expected {expected} numbers; replace or remove the file")
        samples = np.array(tokens[:expected], np.int64)
    if samples.max() > largest:
        raise DataError(f"{name}: damaged PGM/PPM: a sample exceeds {largest}, the declared largest value")
    scaled = (samples.astype(np.uint32) * 255 + largest // 2) // largest
    return scaled.astype(np.uint8).reshape(height, width, sample_count)


def _pnm_token(content: bytes, position: int) -> tuple[bytes, int]:
    """The next word of the header from ``position``, and where it ends."""
    while True:
        while content[position : position + 1].isspace():
            position += 1
        if content[position : position + 1] != b"#":
            break
        line_end = content.find(b"\n", position)
        position = len(content) if line_end < 0 else line_end
    start = position
    while position < len(content) and position - start < 16 and not content[position : position + 1].isspace():
        position += 1
    return content[start:position], position


# ── Resizing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def resize(image: ArrayLike, size: int | Sequence[int]) -> NDArray[Any]:
    """Resize by linear interpolation; when shrinking, average over the area that a new pixel covers.

    y[i] = Σⱼ h((j + ½) / s − (i + ½)) x[j] / Σⱼ h(·) along each axis, with s = input / output extent (at least 1),
    h(t) = max(0, 1 − |t|): for s = 1 linear interpolation between pixel centres, for s > 1 its antialiased form.

    Where Pillow is installed it resizes uint8 images, by the same formula, in a fraction of the time. It rounds after
    each axis, so that its pixels may differ by one level from those computed without it.

    Parameters
    ----------
    image : array (H, W) or (H, W, C)
        uint8, or float32 / float64.
    size : int or (int, int)
        New height and width.

    Returns
    -------
    numpy.ndarray
        Image of the same dtype; uint8 is rounded.

    Raises
    ------
    DtypeError, ShapeError
        ``image`` is not as described, or has no pixel.
    SettingError
        ``size`` is out of range, or more than 67 megapixels.

    Examples
    --------
    >>> import numpy as np
    >>> resize(np.array([[0.0, 4.0]]), (1, 4))
    array([[0., 1., 3., 4.]])
    >>> resize(np.array([[0, 0, 100, 200]], np.uint8), (1, 2))
    array([[ 14, 129]], dtype=uint8)
    """
    height, width = per_axis("resize", "size", size, rank=2, minimum=1)
    check_unmasked("resize", "image", image)
    image = np.asarray(image)
    if image.dtype not in (np.uint8, np.float32, np.float64):
        raise DtypeError(f"resize: image is {image.dtype}; expected uint8, float32 or float64")
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ShapeError(f"resize: image is {image.shape}; expected (H, W) or (H, W, C) with at least one pixel")
    if height * width > LARGEST_IMAGE_PIXELS:
        raise SettingError(f"resize: size {height}×{width} is more than {LARGEST_IMAGE_PIXELS} pixels")
    if image.shape[:2] == (height, width):
        return image.copy()
    if image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2] == 3) and (pillow := _pillow()):
        resized = pillow.fromarray(np.ascontiguousarray(image)).resize((width, height), pillow.Resampling.BILINEAR)
        return np.array(resized)
    work = image.astype(np.float32 if image.dtype == np.uint8 else image.dtype).reshape(*image.shape[:2], -1)
    work = _resize_axis(_resize_axis(work, 0, height), 1, width)
    if image.dtype == np.uint8:
        work = np.clip(np.rint(work), 0, 255).astype(np.uint8)
    return work.reshape(height, width, *image.shape[2:])


def _resize_axis(x: NDArray[Any], axis: int, extent: int) -> NDArray[Any]:
    if x.shape[axis] == extent:
        return x
    scale = x.shape[axis] / extent
    reach = max(scale, 1.0)
    centre = (np.arange(extent) + 0.5) * scale - 0.5
    first = np.ceil(centre - reach).astype(np.int64)
    taps = int(np.ceil(2 * reach)) + 1
    position = first[:, None] + np.arange(taps)
    weight = np.maximum(0.0, 1.0 - np.abs(position - centre[:, None]) / reach)
    weight[(position < 0) | (position >= x.shape[axis])] = 0.0
    position = np.clip(position, 0, x.shape[axis] - 1)
    weight = (weight / weight.sum(axis=1, keepdims=True)).astype(x.dtype)
    y = np.zeros((*x.shape[:axis], extent, *x.shape[axis + 1 :]), x.dtype)
    along = (slice(None),) + (None,) * (x.ndim - 1 - axis)
    for tap in range(taps):  # tap by tap instead of a matrix product: the same bits whatever BLAS and its threads do
        y += weight[:, tap][along] * np.take(x, position[:, tap], axis=axis)
    return y


# ── Writing PNG ───────────────────────────────────────────────────────────────────────────────────────────────────────


def write_png(path: FilePath | None, image: NDArray[Any]) -> bytes:
    """Write a PNG file; with ``path=None`` only return its bytes.

    Parameters
    ----------
    path : path or None
        The file, which is written atomically.
    image : uint8 array (H, W) or (H, W, 3)
        Grey or RGB.

    Returns
    -------
    bytes
        The content of the file.

    Raises
    ------
    DtypeError, ShapeError
        ``image`` is not as described.
    DataError
        The file cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> write_png(None, np.zeros((2, 3), np.uint8))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    check_unmasked("write_png", "image", image)
    image = np.asarray(image)
    _check_image("write_png", image)
    height, width = image.shape[:2]
    rows = np.ascontiguousarray(image).reshape(height, -1)
    plain = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)
    # Filtering shrinks smooth images but not drawings with few colours: keep the smaller.
    filtered = _filter(rows, step=1 if image.ndim == 2 else 3)
    deflated = min((zlib.compress(choice.tobytes(), 9) for choice in (plain, filtered)), key=len)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if image.ndim == 2 else 2, 0, 0, 0)
    content = PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", deflated), (b"IEND", b""))
    )
    if path is not None:
        write_atomically(pathlib.Path(path), content)
    return content


def png_data_uri(image: NDArray[Any]) -> str:
    """Return the image as a ``data:`` URI for the ``src`` of an HTML ``img``.

    Parameters
    ----------
    image : uint8 array (H, W) or (H, W, 3)

    Returns
    -------
    str

    Raises
    ------
    DtypeError, ShapeError
        ``image`` is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> png_data_uri(np.zeros((1, 1), np.uint8))[:34]
    'data:image/png;base64,iVBORw0KGgoA'
    """
    return "data:image/png;base64," + base64.b64encode(write_png(None, image)).decode("ascii")


def _check_image(place: str, image: object) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        what = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise DtypeError(f"{place}: image is {what}; expected a uint8 array. Floats in 0..1? (255 * x).astype('uint8')")
    if 0 in image.shape or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ShapeError(f"{place}: image is {image.shape}; expected (H, W) or (H, W, 3) with at least one pixel")


def _filter(rows: NDArray[Any], step: int) -> NDArray[Any]:
    """Filter each row by the filter with the smallest sum of magnitudes (PNG specification, section 12.7)."""
    b = np.concatenate([np.zeros_like(rows[:1]), rows[:-1]]).astype(np.int16)
    a = np.zeros_like(b)
    c = np.zeros_like(b)
    a[:, step:] = rows[:, :-step]
    c[:, step:] = b[:, :-step]
    to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest = np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))
    predictions = (np.zeros_like(a), a, b, (a + b) >> 1, nearest)
    filtered = np.stack([rows - prediction.astype(np.uint8) for prediction in predictions])
    magnitude = np.abs(filtered.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = magnitude.argmin(axis=0)
    return np.concatenate([best[:, None].astype(np.uint8), filtered[best, np.arange(len(rows))]], axis=1)


# ── Heat maps ── Green 2011, "A colour scheme for the display of astronomical intensity images", arXiv:1108.5083 ──────


def _cubehelix(start: float = 0.3, rotations: float = 0.45, hue: float = 2.0, brightest: float = 0.88) -> NDArray[Any]:
    """Green's equations 1 and 2 at 256 levels: perceived brightness increases uniformly while the hue rotates around
    grey.

    These settings go from purple through red and orange to yellow, the colours of increasing heat, and end before
    white. With such a saturation some colours are outside the RGB cube and are clipped; brightness still increases.
    """
    level = np.linspace(0.0, brightest, 256)[:, None]
    angle = 2 * np.pi * (start / 3 + 1 + rotations * level)
    amplitude = hue * level * (1 - level) / 2
    cosine = np.array([-0.14861, -0.29227, 1.97294])  # equation 2, a plane of equal brightness
    sine = np.array([1.78277, -0.90649, 0.0])
    rgb = level + amplitude * (np.cos(angle) * cosine + np.sin(angle) * sine)
    return np.rint(255 * np.clip(rgb, 0, 1)).astype(np.uint8)


COLORS = _cubehelix()
COLOR_OF_NAN = np.array([128, 128, 128], np.uint8)


def colormap(values: ArrayLike, low: float | None = None, high: float | None = None) -> NDArray[Any]:
    """Map numbers to colours of increasing brightness (cubehelix): ``low`` black, then purple, red, orange, ``high``
    pale yellow.

    Parameters
    ----------
    values : array
        Any shape. NaN becomes mid-grey.
    low, high : float, optional
        The ends of the scale; by default the smallest and largest finite value. Values beyond an end are clipped.

    Returns
    -------
    numpy.ndarray
        uint8, the shape of ``values`` with 3 appended.

    Raises
    ------
    SettingError
        ``low`` exceeds ``high``.

    References
    ----------
    Green 2011, Bulletin of the Astronomical Society of India 39, 289, arXiv:1108.5083, equations 1 and 2.

    Examples
    --------
    >>> colormap([0.0, 1.0]).tolist()
    [[0, 0, 0], [230, 232, 171]]
    """
    level = _level("colormap", values, low, high)
    colors = COLORS[np.rint(255 * np.nan_to_num(level)).astype(np.intp)]
    colors[np.isnan(level)] = COLOR_OF_NAN
    return colors


def overlay(
    image: NDArray[Any], heat: ArrayLike, strength: float = 0.6, low: float | None = None, high: float | None = None
) -> NDArray[Any]:
    """Overlay a heat map on an image; opacity increases with heat.

    Parameters
    ----------
    image : uint8 array (H, W) or (H, W, 3)
    heat : array (h, w)
        Resized to (H, W).
    strength : float, optional
        Opacity at the maximum, 0 to 1.
    low, high : float, optional
        The ends of the scale as in `colormap`.

    Returns
    -------
    numpy.ndarray
        uint8 (H, W, 3).

    Raises
    ------
    DtypeError, ShapeError
        ``image`` or ``heat`` is not as described.
    SettingError
        ``strength`` is out of range, or ``low`` exceeds ``high``.

    Examples
    --------
    >>> import numpy as np
    >>> overlay(np.array([[10, 10]], np.uint8), [[0.0, 1.0]], strength=1.0).tolist()
    [[[10, 10, 10], [230, 232, 171]]]
    """
    check_unmasked("overlay", "image", image)
    check_unmasked("overlay", "heat", heat)
    image = np.asarray(image)
    _check_image("overlay", image)
    if not (isinstance(strength, (int, float)) and 0 <= strength <= 1):
        raise SettingError(f"overlay: strength must be between 0 and 1, got {strength!r}")
    heat = np.asarray(heat, np.float64)
    if heat.ndim != 2 or 0 in heat.shape:
        raise ShapeError(f"overlay: heat is {heat.shape}; expected (h, w)")
    level = resize(np.nan_to_num(_level("overlay", heat, low, high)), image.shape[:2])
    opacity = strength * level[:, :, None]
    mixed = (1 - opacity) * to_channels(image, 3) + opacity * colormap(level, 0.0, 1.0)
    return np.rint(mixed).astype(np.uint8)


def _level(place: str, values: ArrayLike, low: float | None, high: float | None) -> NDArray[Any]:
    """``values`` on a scale from 0 to 1; NaN stays NaN. If ``low`` equals ``high``, 0 up to ``low`` and 1 above it."""
    check_unmasked(place, "values", values)
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    low = float(finite.min() if low is None and finite.size else low or 0.0)
    high = float(finite.max() if high is None and finite.size else low if high is None else high)
    if not low <= high:
        raise SettingError(f"{place}: low {low} must not exceed high {high}")
    if low == high:
        return np.where(np.isnan(values), np.nan, (values > low).astype(np.float64))
    return np.clip((values - low) / (high - low), 0.0, 1.0)


IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".pgm", ".ppm", ".pnm"),
    *(".bmp", ".gif", ".webp", ".tif", ".tiff"),
)
UNREAD_SUFFIXES = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".tga", ".pbm", ".pam", ".exr", ".hdr", ".ico"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".dcm"),
)  # other image formats; the remaining files in a folder are not images


def counted_kinds(files: Sequence[pathlib.Path]) -> str:
    """The number of files of each format."""
    counts = Counter(entry.suffix.lower() or "no suffix" for entry in files)
    return ", ".join(f"{count} of {printable(kind)}" for kind, count in counts.most_common(3))


def warn_of_unread(folder: pathlib.Path, unread: Sequence[pathlib.Path]) -> None:
    """Warn that images are skipped."""
    warnings.warn(
        f"{printable(str(folder))}: {counted_kinds(unread)} are skipped (unsupported formats); convert them to .png or .jpg",
        DataWarning,
        stacklevel=4,
    )
