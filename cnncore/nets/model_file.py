"""Model files: one file, no pickle, checked before anything is allocated, written atomically.

A model file is a safetensors file, so that every tool that reads those can read the weights by name:

    8 bytes         length of the header, little-endian
    header          JSON: {"__metadata__": {...}, "conv.w": {"dtype": "F32", "shape": [...], "data_offsets": [begin, end]}, ...}
    arrays          little-endian, C order, one after the other without gaps

``__metadata__`` holds strings: "format" and "version", "model" (JSON: the graph, its seed and dtype, and the user's
metadata), and "sha256", the digest of the whole file with these 64 digits replaced by zeros. A file in which any bit
has changed is refused: the digest is computed over the very bytes that become the arrays, not in a separate read. The
contents of a file with a valid digest are still treated as untrusted input.

Other safetensors files, which contain only arrays by name, are read and written here too.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import secrets
import sys

import numpy as np

from ..checks import opened_file
from ..errors import FileWriteError, ModelFileError

__all__ = ["read", "read_safetensors", "write", "write_safetensors"]

FORMAT, VERSION = "cnncore", "1"
NOT_A_MODEL = "not a model file of cnncore"
MOST_HEADER_BYTES = 1 << 26
MOST_ARRAY_BYTES = 1 << 36
MOST_AXES = 8
DTYPES: dict[str, np.dtype] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I8": np.dtype("<i1")}
# Further dtypes of other programs' files; bfloat16, which NumPy lacks, is the upper half of a float32.
OTHER_DTYPES: dict[str, np.dtype] = {
    **DTYPES,
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "BOOL": np.dtype("?"),
    **{f"I{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
}
logger = logging.getLogger(__name__)

CODES = {dtype.newbyteorder("="): code for code, dtype in OTHER_DTYPES.items() if code != "BF16"}
NO_DIGEST = "0" * 64


def write(path, model, arrays):
    """Write ``model`` (plain data) and ``arrays`` (name → array) to ``path``, atomically."""
    model = json.dumps(model, allow_nan=False)
    write_safetensors(path, {"format": FORMAT, "version": VERSION, "model": model, "sha256": NO_DIGEST}, arrays)


def write_safetensors(path, metadata, arrays):
    """Write ``arrays`` by name with ``metadata`` (strings), atomically. A "sha256" of zeros there becomes the file's digest."""
    offset = 0
    rows = {}
    for name, array in arrays.items():
        end = offset + array.nbytes
        rows[name] = {"dtype": CODES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps({"__metadata__": metadata, **rows}, ensure_ascii=True).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MOST_HEADER_BYTES:
        raise ModelFileError(
            f"{path}: the description takes {len(header)} bytes; at most {MOST_HEADER_BYTES} are allowed"
        )
    parts = [len(header).to_bytes(8, "little"), header]
    if metadata.get("sha256") == NO_DIGEST:
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        for array in arrays.values():
            digest.update(little_endian(array))
        parts[1] = header.replace(digest_field(NO_DIGEST), digest_field(digest.hexdigest()), 1)

    write_whole(os.fspath(path), [*parts, *map(little_endian, arrays.values())])


def write_whole(path, parts):
    """Write ``parts`` atomically: the file at ``path`` is the complete old or new one; errors are FileWriteErrors."""
    folder = os.path.dirname(os.path.abspath(path))
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}.part")  # not longer than the final name may be
    try:
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(path):
            os.chmod(temporary, os.stat(path).st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError, ValueError):
            os.unlink(temporary)
        if isinstance(error, (OSError, ValueError)):  # ValueError: a path with NUL
            reason = getattr(error, "strerror", None) or error
            raise FileWriteError(
                f"{path}: cannot be written ({reason}); does the folder exist, and is it writable?"
            ) from error
        raise
    sync_folder(folder)
    logger.debug("%s: written", path)


PICKLE = (
    "a pickle, as PyTorch writes .pt and .pth, which can run any program when it is opened, so it is not read (say "
    "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'weights.safetensors') once on a machine with PyTorch)"
)
# The first bytes of files that are mistaken for one of these.
OTHER_KINDS = {
    b"PK\x03\x04": f"a zip archive, perhaps {PICKLE}",
    b"\x80\x02": PICKLE,
    b"\x80\x04": PICKLE,
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"\x89HDF": "an HDF5 file, as Keras writes it",
    b"\x93NUMPY": "a numpy array file",
    b"\x08": "perhaps an ONNX file, whose name ends in .onnx",
}


def read(path):
    """(model, arrays) of a model file; anything wrong with it is a ModelFileError."""
    with opened_file(path, "a model file, as net.save(path) writes it") as file:
        size = os.fstat(file.fileno()).st_size
        length, header = read_header(path, file, size, "a model file")
        rows = parsed(path, header)
        metadata = rows.pop("__metadata__", None)
        check_metadata(path, metadata)
        model = parsed(path, metadata["model"])
        check_size(path, size, len(header), check_rows(path, rows))
        return model, read_arrays(path, file, rows, DTYPES, Digest(path, length, header, metadata["sha256"]))


def read_safetensors(path):
    """Name → array of any safetensors file, float16 and bfloat16 as float32; anything wrong with it is a ModelFileError."""
    with opened_file(path, "a safetensors file") as file:
        size = os.fstat(file.fileno()).st_size
        length, header = read_header(path, file, size, "a safetensors file")
        rows = parsed(path, header)
        metadata = rows.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ModelFileError(f"{path}: its metadata are not strings by name")
        ordered = in_file_order(rows)
        check_size(path, size, len(header), check_rows(path, ordered, OTHER_DTYPES, least=0))
        digest = Digest(path, length, header, metadata.get("sha256")) if metadata.get("format") == FORMAT else None
        arrays = read_arrays(path, file, ordered, OTHER_DTYPES, digest)
    for name, row in rows.items():
        if row["dtype"] == "BF16":
            arrays[name] = (arrays[name].astype(np.uint32) << 16).view(np.float32)
        elif row["dtype"] == "F16":
            arrays[name] = arrays[name].astype(np.float32)
    return {name: arrays[name] for name in rows}


def read_header(path, file, size, what):
    """(length, header): the first bytes of a file of ``size`` bytes."""
    length = file.read(8)
    header_bytes = int.from_bytes(length, "little")
    if len(length) < 8 or header_bytes < 2 or header_bytes > min(MOST_HEADER_BYTES, size - 8):
        for start, kind in OTHER_KINDS.items():
            if length.startswith(start):
                raise ModelFileError(f"{path}: {kind}, not {what}")
        raise ModelFileError(f"{path}: not {what}, or truncated: {size} bytes cannot contain its header")
    return length, file.read(header_bytes)


def read_arrays(path, file, rows, dtypes, digest=None):
    """Name → array, read in order from the current position of ``file``; ``digest``, if given, must match these bytes."""
    arrays = {}
    for name, row in rows.items():
        dtype = dtypes[row["dtype"]]
        array = np.empty(row["shape"], dtype)
        content = memoryview(array.reshape(-1).view(np.uint8))
        if file.readinto(content) != array.nbytes:
            raise ModelFileError(f"{path}: the file changed while it was being read")
        if digest is not None:
            digest.update(content)
        arrays[name] = array.astype(dtype.newbyteorder("="), copy=False)
    if digest is not None:
        digest.check()
    return arrays


def in_file_order(rows):
    """The entries ordered by offset; check_rows reports those without one."""

    def place(item):
        offsets = item[1].get("data_offsets") if isinstance(item[1], dict) else None
        proper = isinstance(offsets, list) and len(offsets) == 2 and all(natural(n) for n in offsets)
        return tuple(offsets) if proper else (-1, -1)

    return dict(sorted(rows.items(), key=place))


def check_size(path, size, header_bytes, array_bytes):
    """Raise unless a file of ``size`` bytes contains exactly its header and its arrays."""
    if size != 8 + header_bytes + array_bytes:
        raise ModelFileError(
            f"{path}: {size} bytes long, expected {8 + header_bytes + array_bytes}: the file is truncated or has trailing bytes"
        )


def little_endian(array):
    """The bytes of an array as stored in a file."""
    array = np.ascontiguousarray(array)
    if sys.byteorder == "big":
        array = array.byteswap()
    return memoryview(array.reshape(-1).view(np.uint8))


def digest_field(digest):
    return f'"sha256": "{digest}"'.encode()


def sync_folder(folder):
    """Flush the folder, so that the new name survives a power failure, where folders can be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


# ── Checks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def parsed(path, text):
    """Parse JSON and refuse repeated keys, NaN, huge numbers and unbounded nesting."""

    def unique(pairs):
        names = dict(pairs)
        if len(names) < len(pairs):
            raise ValueError("a key occurs twice")
        return names

    def no_constant(word):
        raise ValueError(f"{word} is not a JSON number")

    try:
        found = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: the header cannot be read: {error or 'nested too deeply'}") from None
    if not isinstance(found, dict):
        raise ModelFileError(f"{path}: the header is not a JSON object")
    return found


def check_metadata(path, metadata):
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ModelFileError(f"{path}: {NOT_A_MODEL} (no {FORMAT!r} in its metadata)")
    if metadata.get("version") != VERSION:
        raise ModelFileError(f"{path}: version {metadata.get('version')!r}; this cnncore reads version {VERSION}")
    if not isinstance(metadata.get("model"), str) or not isinstance(metadata.get("sha256"), str):
        raise ModelFileError(f"{path}: its metadata lacks the model or the sha256")


def check_rows(path, rows, dtypes=DTYPES, least=1):
    """Bytes of all arrays, after checking that they follow each other without gap, overlap or overflow.

    ``least`` is the smallest extent that a shape may have.
    """
    offset = 0
    for name, row in rows.items():
        place = f"{path}: array {name!r}"
        if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
            raise ModelFileError(f"{place}: expected dtype, shape and data_offsets")
        if not isinstance(row["dtype"], str) or row["dtype"] not in dtypes:
            raise ModelFileError(f"{place}: dtype {row['dtype']!r}; expected one of {', '.join(dtypes)}")
        shape, offsets = row["shape"], row["data_offsets"]
        if not isinstance(shape, list) or len(shape) > MOST_AXES or not all(natural(n) and n >= least for n in shape):
            raise ModelFileError(
                f"{place}: shape {shape!r}; expected at most {MOST_AXES} integers, each at least {least}"
            )
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(natural(n) for n in offsets):
            raise ModelFileError(f"{place}: data_offsets {offsets!r}; expected two integers")
        end = offset + math.prod(shape) * dtypes[row["dtype"]].itemsize
        if offsets != [offset, end]:
            raise ModelFileError(f"{place}: data_offsets {offsets}; with shape {shape} they must be {[offset, end]}")
        offset = end
        if offset > MOST_ARRAY_BYTES:
            raise ModelFileError(f"{path}: the arrays take more than {MOST_ARRAY_BYTES} bytes")
    return offset


def natural(number):
    return type(number) is int and 0 <= number < 1 << 48


class Digest:
    """The sha256 of a file, updated as its bytes are read and compared with that in its header."""

    def __init__(self, path, length, header, said):
        if not isinstance(said, str) or not re.fullmatch("[0-9a-f]{64}", said) or header.count(digest_field(said)) != 1:
            raise ModelFileError(f"{path}: its sha256 is not a valid digest")
        self.path, self.said = path, said
        self.found = hashlib.sha256(length)
        self.found.update(header.replace(digest_field(said), digest_field(NO_DIGEST)))

    def update(self, content):
        """Count further bytes."""
        self.found.update(content)

    def check(self):
        """Raise unless the digest matches."""
        if self.found.hexdigest() != self.said:
            raise ModelFileError(f"{self.path}: the file is damaged (its sha256 is not {self.said[:12]}…)")
